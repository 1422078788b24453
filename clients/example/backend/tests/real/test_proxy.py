"""deploy/nginx/sse.conf, as it runs in the demo."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from .conftest import Running

EVENTS = "/api/v1/sse/events/"


@pytest.mark.parametrize(
    ("path", "status", "kind", "caching"),
    [
        ("/", 200, "text/html", "no-cache"),
        ("/login", 200, "text/html", "no-cache"),
        ("/estimates/7", 200, "text/html", "no-cache"),
        ("/assets/index-4f2a.js", 200, "application/javascript", "max-age=31536000"),
        ("/assets/index-0000.js", 404, "text/html", None),
        ("/static/admin/css/base.css", 200, "text/css", "max-age=86400"),
        ("/admin/login/", 200, "text/html; charset=utf-8", "max-age=0, no-cache, no-store, must-revalidate, private"),
        ("/api/v1/me/", 401, "application/json", None),
        ("/api/v1/sse/stats/", 401, "application/json", "no-store"),
        ("/api/v1/sse/ticket/", 401, "application/json", None),
        ("/api/v1/sse/events/", 401, "application/json", "no-store"),
        ("/api/v1/sse/events", 401, "application/json", "no-store"),
    ],
)
def test_everything_is_on_one_origin(demo: Running, path: str, status: int, kind: str, caching: str | None) -> None:
    answer = demo.http.get(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, kind)
    assert answer.headers.get("Cache-Control") == caching
    for name in ("X-Content-Type-Options", "Referrer-Policy", "Content-Security-Policy"):
        assert len(answer.headers.get_list(name)) == 1, name
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/sse/auth/",
        "/api/v1/sse/auth",
        "/api/v1/sse/auth/?x",
        "/api//v1/sse//auth/",
        "/api/v1/sse/./auth/",
        "/api/v1/sse/x/../auth/",
        "/api/v1/sse/%61uth/",
        "/api/v1/sse%2Fauth/",
        "/%61pi/v1/sse/auth/",
        "/api/x/api/v1/sse/auth/",
    ],
)
def test_nobody_outside_can_ask_what_sse_asks(demo: Running, path: str) -> None:
    key = (demo.state / "auth.key").read_text().strip()
    token = demo.token("manager1")
    url = httpx.URL(demo.info["url"])
    with socket.create_connection((url.host, url.port)) as raw:  # httpx would tidy up the path
        head = f"GET {path} HTTP/1.0\r\nHost: localhost\r\nX-SSE-Key: {key}\r\nAuthorization: Token {token}\r\n"
        head += "SCRIPT_NAME: /api/x\r\n\r\n" if path.startswith("/api/x") else "\r\n"  # gunicorn believes it
        raw.sendall(head.encode())
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 404 "), answer


def test_a_stream_is_neither_buffered_nor_compressed(demo: Running) -> None:
    query = {"token": demo.token("manager1")}
    with demo.http.stream("GET", EVENTS, params=query, headers={"Accept-Encoding": "gzip"}) as stream:
        assert "Content-Encoding" not in stream.headers
        assert next(stream.iter_lines()).startswith("retry:")  # though the stream goes on
    page = demo.http.get("/assets/index-4f2a.js", headers={"Accept-Encoding": "gzip"})
    assert page.headers["Content-Encoding"] == "gzip"


def test_while_sse_is_away_a_stream_is_told_to_come_back(demo: Running) -> None:
    token = demo.token("manager1")
    os.kill(demo.info["sse_pid"], signal.SIGKILL)
    answer = demo.http.get(EVENTS, params={"token": token})
    stats = demo.http.get("/api/v1/sse/stats/")
    demo.restarted()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")
    assert answer.text == "retry: 3000\n\n"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert stats.status_code == 502


def test_no_log_has_a_token_or_a_key(demo: Running) -> None:
    secrets = [demo.token("manager1"), demo.info["password"]]
    secrets += [file.read_text().strip() for file in demo.state.glob("*.key")]
    assert len(secrets) == 5
    with demo.stream(secrets[0]) as events:
        assert next(events)["event"] == "connected"
        os.kill(demo.info["sse_pid"], signal.SIGKILL)
        with pytest.raises(httpx.RemoteProtocolError):
            list(events)
    demo.http.get(EVENTS, params={"token": secrets[0]})  # nobody there, which nginx takes for an error
    demo.restarted()
    logs = [demo.state / "audit.log", *(demo.state / "log").iterdir()]
    assert {"audit.log", "nginx.log", "nginx-access.log", "django.log", "sse.log"} <= {log.name for log in logs}
    for log in logs:
        assert not [secret for secret in secrets if secret in log.read_text()], log
    access = (demo.state / "log" / "nginx-access.log").read_text()
    assert f'"GET {EVENTS} HTTP/1.1" 200 13 upstream=502' in access
