"""The demo itself, with the real sse, gunicorn and nginx, and a page of two files."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from httpx_sse import EventSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAUNCHER = Path(__file__).resolve().parents[3] / "demo"
LIMIT = 60.0
"""A safety net, which no test that passes ever reaches."""


def wait_for(what: Callable[[], Any], why: str) -> Any:
    """Look until what() is true, and return it."""
    until = time.monotonic() + LIMIT
    while not (found := what()):
        assert time.monotonic() < until, f"never: {why}"
        time.sleep(0.02)
    return found


class Running:
    """A demo that answers."""

    def __init__(self, place: Path, *options: str) -> None:
        self.state, self.ready_file, self.log = place / "state", place / "ready.json", place / "demo.log"
        dist = place / "dist"
        (dist / "assets").mkdir(parents=True)
        (dist / "index.html").write_text("<!doctype html><title>page</title>")
        (dist / "assets" / "index-4f2a.js").write_text("console.log(1);" * 200)
        command: list[str | Path] = [
            sys.executable,
            LAUNCHER,
            "--dir",
            self.state,
            "--dist",
            dist,
            "--ready-file",
            self.ready_file,
        ]
        env = {
            name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DJANGO_SETTINGS_MODULE")
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*command, *options], env=env, stdout=log, stderr=log)
        try:
            self.info = wait_for(self._told, "the demo is ready")
        except BaseException:
            self.process.terminate()
            self.process.wait(LIMIT)
            raise
        self.http = httpx.Client(base_url=self.info["url"], timeout=LIMIT)

    def _told(self) -> Any:
        assert self.process.poll() is None, self.log.read_text()
        return self.ready_file.exists() and json.loads(self.ready_file.read_text())

    def restarted(self) -> None:
        """Wait until there is another sse, and it answers."""
        before = self.info["sse_pid"]
        wait_for(lambda: self._told()["sse_pid"] != before, "sse is started again")
        self.info = self._told()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.http.close()
        self.process.send_signal(number)
        return self.process.wait(LIMIT)

    def token(self, username: str) -> str:
        given = {"username": username, "password": self.info["password"]}
        answer = self.http.post("/api/v1/login/", json=given)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    def shell(self, text: str) -> None:
        """Run Python beside the site, as somebody does who keeps it."""
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "SITE_STATE": self.info["dir"],
            "SITE_AUDIT_LOG": self.info["audit_log"],
            "SSE_SOCKET": self.info["sse_socket"],
        }
        command = [sys.executable, "manage.py", "shell", "--no-imports", "--command", text]
        subprocess.run(command, cwd=LAUNCHER.parent / "backend", env=env, check=True)

    def api(self, method: str, path: str, token: str, **body: Any) -> httpx.Response:
        return self.http.request(
            method, f"/api/v1/{path}", json=body or None, headers={"Authorization": f"Token {token}"}
        )

    @contextmanager
    def stream(self, token: str, **query: str) -> Iterator[Iterator[dict[str, Any]]]:
        """Open a stream as a page does; gives its events, with their ids."""
        params = {"token": token, **query}
        with self.http.stream("GET", "/api/v1/sse/events/", params=params) as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            yield self._events(response)

    @staticmethod
    def _events(response: httpx.Response) -> Iterator[dict[str, Any]]:
        for message in EventSource(response).iter_sse():
            if not message.data:
                continue  # a retry alone
            event = json.loads(message.data)
            assert event["event"] != "keepalive", "nothing came, and something should"
            yield {**event, "id": message.id}


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("demo"), "--port", str(free_port()))
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0, running.log.read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
