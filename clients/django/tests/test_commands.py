"""``manage.py sse_send``, ``sse_ping`` and ``sse_stats``."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from django.core.management import CommandError, call_command

from estimates.wire import Answers, Wire, answered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Configure

OK = answered(ok=True, id="1704110400123-0", matched=3)
KEY = "a key for tickets, that is long enough"


def run(*words: str) -> str:
    """Return what a command writes."""
    said = io.StringIO()
    call_command(*words, stdout=said)
    return said.getvalue()


# ---- sse_send ----


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        (["e", "--all"], {"event": "e", "data": None, "to": "all"}),
        (["e", '{"text":"Обед"}', "--all"], {"event": "e", "data": {"text": "Обед"}, "to": "all"}),
        (["e", "[1, 2]", "--user", "7"], {"event": "e", "data": [1, 2], "to": {"users": ["7"]}}),
        (
            ["e", "1", "--user", "7", "--user", "8", "--role", "manager", "--role", "Прорабы"],
            {"event": "e", "data": 1, "to": {"users": ["7", "8"], "roles": ["manager", "Прорабы"]}},
        ),
        (
            ["e", "1", "--all", "--except", "7", "--except", "8"],
            {"event": "e", "data": 1, "to": "all", "except": {"users": ["7", "8"]}},
        ),
    ],
)
def test_sse_send(wire: Wire, words: list[str], sent: dict[str, Any]) -> None:
    with Answers(wire, OK) as answers:
        assert run("sse_send", *words) == "1704110400123-0: 3 streams\n"
    assert answers.asked == sent


def test_sse_send_says_if_it_is_not_in_the_journal(wire: Wire) -> None:
    with Answers(wire, answered(ok=True, id="1-0", matched=0, stored=False)):
        assert run("sse_send", "e", "--all") == "1-0: 0 streams; its journal does not have it, see sse's log\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["e"], "to whom?"),
        (["e", "--except", "7"], "to whom?"),
        (["e", "so", "--all"], "a text is written '\"so\"'"),
        (["e", "", "--all"], "data:"),
        (["e", "NaN", "--all"], "not JSON"),
        (["two words", "--all"], "an event's name"),
        (["e", "--user", "x" * 65], "not the id of a user"),
        (["e", "--user", ""], "not the id of a user"),
        (["e", "--user", "прораб@example.com"], "not the id of a user: 'прораб@example.com'"),
        (["e", "--role", ""], "not a role"),
        (["e", "--all", "--except", "x" * 65], "not the id of a user"),
        (["e", json.dumps("x" * 300_000), "--all"], "SSE['MAX_BYTES']"),
    ],
)
def test_sse_send_of_what_cannot_be_sent(wire: Wire, words: list[str], said: str) -> None:
    with pytest.raises(CommandError) as error:
        run("sse_send", *words)
    assert said in str(error.value)
    assert error.value.returncode == 1
    assert wire.lines() == []


@pytest.mark.parametrize("command", [["sse_ping"], ["sse_send", "e", "--all"]])
class TestWithoutAnAnswer:
    """Both fail, and say where they looked."""

    def test_nobody_there(self, configure: Configure, command: list[str]) -> None:
        configure(SOCKET="/nonexistent/sse.sock")
        with pytest.raises(CommandError, match=r"^there is no socket at /nonexistent/sse\.sock: is") as error:
            run(*command)
        assert error.value.returncode == 1

    @pytest.mark.usefixtures("wire")
    def test_no_answer(self, configure: Configure, command: list[str]) -> None:
        configure(CONFIRM_TIMEOUT=0.01)
        with pytest.raises(CommandError, match="did not answer"):
            run(*command)

    def test_a_refusal(self, wire: Wire, command: list[str]) -> None:
        with Answers(wire, answered(ok=False, error="too many", at=1)), pytest.raises(CommandError, match="too many"):
            run(*command)

    def test_an_answer_that_is_none(self, wire: Wire, command: list[str]) -> None:
        with Answers(wire, b"garbage"), pytest.raises(CommandError, match=str(wire.path)):
            run(*command)

    def test_raise_changes_nothing(self, configure: Configure, command: list[str]) -> None:
        configure(SOCKET="/nonexistent/sse.sock", RAISE=True, BACKEND="sse_django.backends.MemoryBackend")
        with pytest.raises(CommandError, match="there is no socket"):
            run(*command)


# ---- sse_ping ----


def test_sse_ping(wire: Wire) -> None:
    with Answers(wire, OK) as answers:
        said = run("sse_ping")
    assert answers.asked == {"op": "ping"}
    assert said.startswith("sse is there: 3 streams, newest event 1704110400123-0, ")
    assert said.endswith(" ms\n")


# ---- sse_stats ----


class Stats:
    """An HTTP server that gives one answer, and remembers what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body = json.dumps(
            {"total_users": 2, "total_connections": 5, "users": {"7": 1, "прораб": 4}}, ensure_ascii=False
        ).encode()
        self.raw = b""
        self.asked: list[tuple[str, str]] = []
        stats = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stats.asked.append((self.path, self.headers["Authorization"]))
                if stats.raw:
                    self.wfile.write(stats.raw)
                    return
                self.send_response(stats.status)
                self.send_header("Content-Length", str(len(stats.body)))
                self.end_headers()
                self.wfile.write(stats.body)

            def log_message(self, *_: Any) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/v1/sse"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def stats(configure: Configure) -> Iterator[Stats]:
    stats = Stats()
    stats.thread.start()
    configure(URL=stats.url)
    yield stats
    stats.close()


@pytest.mark.parametrize("slash", ["", "/"])
def test_sse_stats(stats: Stats, configure: Configure, slash: str) -> None:
    configure(URL=stats.url + slash)
    assert run("sse_stats", "--token", "secret") == "2 users, 5 streams\n     4 прораб\n     1 7\n"
    assert stats.asked == [("/api/v1/sse/stats/", "Bearer secret")]


def test_sse_stats_as_they_came(stats: Stats) -> None:
    assert json.loads(run("sse_stats", "--token", "secret", "--json")) == json.loads(stats.body)


def test_sse_stats_makes_its_own_ticket(stats: Stats, configure: Configure) -> None:
    configure(TICKET_KEY=KEY)
    run("sse_stats")
    ((_, authorization),) = stats.asked
    claims = jwt.decode(authorization.removeprefix("Bearer "), KEY, algorithms=["HS256"], audience="sse")
    assert (claims["sub"], claims["roles"]) == ("manage.py", [])


def test_sse_stats_without_a_token(stats: Stats) -> None:
    with pytest.raises(CommandError, match=r"give --token, or set SSE\['TICKET_KEY'\]"):
        run("sse_stats")
    assert stats.asked == []


def test_sse_stats_do_not_go_through_a_proxy(stats: Stats, monkeypatch: pytest.MonkeyPatch) -> None:
    """sse is on this machine, and the token is for it alone."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    run("sse_stats", "--token", "secret")
    assert len(stats.asked) == 1


def test_sse_stats_that_are_refused(stats: Stats) -> None:
    stats.status, stats.body = 401, b'{"error":"the token is not valid"}'
    with pytest.raises(CommandError, match=r"401 .*the token is not valid") as error:
        run("sse_stats", "--token", "secret")
    assert error.value.returncode == 1
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b"{}", b"\xff", b'{"total_users":1}', b"null"], ids=repr)
def test_sse_stats_of_something_else(stats: Stats, body: bytes) -> None:
    stats.body = body
    with pytest.raises(CommandError, match=stats.url):
        run("sse_stats", "--token", "secret")


@pytest.mark.parametrize("raw", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 50\r\n\r\n{"], ids=repr)
def test_sse_stats_of_something_that_speaks_no_http(stats: Stats, raw: bytes) -> None:
    stats.raw = raw
    with pytest.raises(CommandError, match=stats.url):
        run("sse_stats", "--token", "secret")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "", "nothing", "ftp://127.0.0.1:1", "http://127.0.0.1:x"])
def test_sse_stats_where_nobody_is(configure: Configure, url: str) -> None:
    configure(URL=url)
    with pytest.raises(CommandError):
        run("sse_stats", "--token", "secret")


# ---- as they are typed ----


def _manage(wire: Wire, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "django", *words, "--settings=site_settings"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "SITE_SOCKET": str(wire.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_process_of_its_own(wire: Wire) -> None:
    with Answers(wire, OK) as answers:
        ran = _manage(wire, "sse_send", "estimate.created", '{"n":1}', "--user", "7")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "1704110400123-0: 3 streams\n", "")
    assert answers.asked == {"event": "estimate.created", "data": {"n": 1}, "to": {"users": ["7"]}}


def test_its_exit_status_if_nobody_is_there(wire: Wire) -> None:
    wire.close()
    ran = _manage(wire, "sse_ping")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith(f"CommandError: nobody listens at {wire.path}: ")
    assert "Traceback" not in ran.stderr
