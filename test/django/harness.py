"""The stage: a Django under gunicorn, the sse of SSE_BIN, streams to it, and datagrams to it.

Nothing here sleeps to let things happen: every wait is for the thing itself, and LIMIT is a safety net
that no test that passes ever reaches.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

if TYPE_CHECKING:
    from typing import Self  # Python 3.10 has none

HERE = Path(__file__).resolve().parent
SITE = HERE / "site"
EVENTS = "/api/v1/sse/events/"
STATS = "/api/v1/sse/stats/"
QUESTIONS = "/api/v1/sse/auth/"
SSE_KEY = "the-key-that-sse-and-django-share"
LIMIT = 30.0

T = TypeVar("T")

# Whatever may let somebody in: every token, and every key. None of it may stand in a log.
SECRETS: set[str] = {SSE_KEY}


def secret(token: str) -> str:
    """Remembers a token, to look for it in the logs."""
    SECRETS.add(token)
    return token


def wait_for(what: Callable[[], T], why: str, limit: float = LIMIT) -> T:
    """Looks until what() is true, and returns it."""
    until = time.monotonic() + limit
    while not (found := what()):
        assert time.monotonic() < until, f"never: {why}"
        time.sleep(0.005)  # between two looks
    return found


def free_port() -> int:
    """A port below those that the kernel gives to clients, so that it is still free after a restart."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Process:
    """A program that ends with the thread that spawned it, its words in a file."""

    def __init__(self, words: Path) -> None:
        self.words = words
        self.popen: subprocess.Popen[bytes] | None = None

    def spawn(self, argv: list[str], env: dict[str, str] | None = None) -> None:
        with self.words.open("ab") as words:
            self.popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                env={**os.environ, **(env or {})},
            )

    @property
    def pid(self) -> int:
        assert self.popen is not None
        return self.popen.pid

    @property
    def runs(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def must_run(self) -> None:
        assert self.runs, f"it is gone: {self.words.read_text()}"

    def signal(self, number: signal.Signals) -> None:
        assert self.popen is not None
        self.popen.send_signal(number)

    def wait(self) -> int:
        """Its exit status."""
        assert self.popen is not None
        try:
            return self.popen.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise

    def kill(self) -> None:
        if self.popen is not None and self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()


class Django(Process):
    """The site, at a port or at a Unix socket. One process with 32 threads, so that it would answer more than 16."""

    def __init__(
        self,
        directory: Path,
        unix: bool = False,
        keepalive: int = 60,
        workers: int = 1,
        threads: int = 32,
        backlog: int = 2048,
        **env: str,
    ) -> None:
        directory.mkdir(exist_ok=True)
        super().__init__(directory / "gunicorn.log")
        self.access_log = directory / "access.log"
        self.env = env
        self.options = [f"--keep-alive={keepalive}", f"--workers={workers}", f"--threads={threads}"]
        self.options.append(f"--backlog={backlog}")
        if unix:
            path = directory / "django.sock"
            self.bind, self.auth_url = f"unix:{path}", f"unix:{path}:{QUESTIONS}"
            transport = httpx.HTTPTransport(uds=str(path))
            self.http = httpx.Client(transport=transport, base_url="http://localhost", timeout=LIMIT)
            self.port = 0
        else:
            self.port = free_port()
            self.bind, self.auth_url = f"127.0.0.1:{self.port}", f"http://127.0.0.1:{self.port}{QUESTIONS}"
            self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=LIMIT)

    def start(self) -> Self:
        self.spawn(
            [
                *(sys.executable, "-m", "gunicorn", "project.wsgi", "--chdir", str(SITE), "--preload"),
                *("--worker-class=gthread", "--graceful-timeout=5", "--log-level=warning"),
                *("--no-control-socket", "--bind", self.bind, "--access-logfile", str(self.access_log)),
                *("--access-logformat", '%(h)s %(t)s "%(r)s" %(s)s "%({x-original-uri}i)s" "%(f)s" "%(a)s"'),
                *self.options,
            ],
            {"PYTHONDONTWRITEBYTECODE": "1", "SITE_SSE_KEY": SSE_KEY, **self.env},
        )
        return self

    def ready(self) -> Self:
        wait_for(self.answers, "Django answers")
        return self

    def answers(self) -> bool:
        self.must_run()
        try:
            return self.http.get("/test/counts/").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ends it (SIGKILL: its workers too); nobody listens at its address when this returns."""
        workers = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        self.signal(number)
        self.wait()
        if number == signal.SIGKILL:
            for worker in workers:
                os.kill(int(worker), number)
        wait_for(lambda: not self._connects(), "the workers are gone")

    def _connects(self) -> bool:
        try:
            self.http.get("/test/counts/")
        except httpx.ConnectError:
            return False
        except httpx.TransportError:
            return True
        return True

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.stop(number)
        self.start().ready()

    def close(self) -> None:
        if self.runs:
            self.stop(signal.SIGQUIT)
        self.http.close()
        no_secret_in(self.words, self.access_log)

    def knobs(self, **knobs: Any) -> None:
        """Turns those of listeners.knobs; all others go back to where they were."""
        self.http.post("/test/knobs/", json=knobs).raise_for_status()

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = self.http.get("/test/counts/").raise_for_status().json()
        return counts

    def count_anew(self) -> None:
        self.http.delete("/test/counts/").raise_for_status()

    def questions(self, token: str | None = None) -> list[dict[str, Any]]:
        """What was asked; about one token, if it is named."""
        questions: list[dict[str, Any]] = self.http.get("/test/questions/").raise_for_status().json()["questions"]
        return [q for q in questions if token is None or q["token"] == sha256(token)]


class Sse(Process):
    """The server under test."""

    def __init__(self, directory: Path, *options: str) -> None:
        directory.mkdir(exist_ok=True)
        super().__init__(directory / "stderr")
        self.directory = directory
        self.socket = directory / "sse.sock"
        self.log = directory / "log"
        self.options = options
        self.port = 0
        self.sender: Sender | None = None

    def spawn_it(self, listen: str = "127.0.0.1:0") -> None:
        self.spawn(
            [
                *(os.environ["SSE_BIN"], "--listen", listen, "--socket", str(self.socket), "--log-file", str(self.log)),
                *self.options,
            ]
        )

    def start(self, listen: str = "127.0.0.1:0") -> Self:
        starts = self.logged("msg=ready")
        self.spawn_it(listen)
        self.wait_log("msg=ready", len(starts) + 1)
        self.port = int(re.findall(r"address=127\.0\.0\.1:(\d+)", self.log.read_text())[-1])
        return self

    def logged(self, *words: str) -> list[str]:
        """The lines of the log that have all of these words."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if all(word in line for word in words)]

    def wait_log(self, words: str, times: int = 1) -> list[str]:
        def found() -> list[str] | None:
            lines = self.logged(*words.split())
            if len(lines) < times:
                self.must_run()
            return lines if len(lines) >= times else None

        found_lines = wait_for(found, f"the log of sse says {words!r} {times} times")
        assert found_lines is not None
        return found_lines

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def send(self, *lines: dict[str, Any]) -> list[dict[str, Any]]:
        """Sends a datagram from a bound socket; returns the answers, one a line."""
        if self.sender is None:
            self.sender = Sender(self.socket)
        return self.sender.send(*lines)

    def publish(self, event: str, data: Any = None, **to: list[Any]) -> int:
        """An event for users or roles (nobody named: all). Returns how many streams it is for."""
        (answer,) = self.send({"event": event, "data": data, "to": to or "all"})
        assert answer["ok"], answer
        return int(answer["matched"])

    def op(self, op: str, **about: Any) -> int:
        """An operation. Returns what `matched` says."""
        (answer,) = self.send({"op": op, **about})
        assert answer["ok"], answer
        return int(answer.get("matched", 0))

    def open(self, token: str | None = None, **how: Any) -> Stream:
        return Stream(self.port, token, **how)

    def join(self, token: str | None = None, **how: Any) -> Stream:
        """A stream that must be let in."""
        stream = self.open(token, **how)
        stream.must_be_in()
        return stream

    def refuses(self, token: str | None = None, statuses: tuple[int, ...] = (401,), **how: Any) -> None:
        """The token must be refused, in words that do not say why."""
        with self.open(token, **how) as stream:
            body = stream.response.read()
            assert stream.status in statuses, (stream.status, body)
            assert list(json.loads(body)) == ["error"]
            assert stream.headers["content-type"] == "application/json"

    def puts_off(self, token: str | None = None, **how: Any) -> int:
        """A new stream must be put off as a browser understands it. Returns the retry, in ms."""
        with self.open(token, **how) as stream:
            assert stream.status == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
            (message,) = list(stream.messages())
            assert message.data == ""
            assert message.retry is not None
            return message.retry

    def stats(self, token: str, scheme: str = "Token") -> httpx.Response:
        secret(token)
        headers = {"Authorization": f"{scheme} {token}"}
        return httpx.get(f"http://127.0.0.1:{self.port}{STATS}", headers=headers, timeout=LIMIT, verify=False)

    def close(self) -> None:
        """It must end with 0, with no mistake of its own (sanitizers), and with a clean log."""
        if self.sender is not None:
            self.sender.close()
        if self.runs:
            self.signal(signal.SIGTERM)
        status = self.wait()
        words = self.words.read_text()
        assert words == "", words
        assert status == 0, status
        lines = self.logged()
        assert lines == self.logged(" app=SSE level=")
        no_secret_in(self.log)


class Sender:
    """Django's end of the datagram socket: bound, so that each line is answered."""

    def __init__(self, to: Path) -> None:
        self.to = str(to)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(LIMIT)
        self.socket.bind("")

    def send(self, *lines: dict[str, Any]) -> list[dict[str, Any]]:
        self.socket.sendto("\n".join(json.dumps(line) for line in lines).encode(), self.to)
        answers: list[dict[str, Any]] = []
        while len(answers) < len(lines):
            answers += [json.loads(line) for line in self.socket.recv(1 << 20).splitlines()]
        return answers

    def close(self) -> None:
        self.socket.close()


class Stream:
    """One stream, read by httpx-sse."""

    def __init__(self, port: int, token: str | None, scheme: str = "", query: str = "", path: str = EVENTS) -> None:
        headers = {}
        if token is not None:
            secret(token)
            if scheme:
                headers["Authorization"] = f"{scheme} {token}"
            else:
                query = f"token={token}&{query}".rstrip("&")
        self.client = httpx.Client(timeout=LIMIT, verify=False)  # there is no TLS here, and its set-up takes 20 ms
        url = f"http://127.0.0.1:{port}{path}" + (f"?{query}" if query else "")
        self.response = self.client.send(self.client.build_request("GET", url, headers=headers), stream=True)
        self.status = self.response.status_code
        self.headers = self.response.headers
        self._messages = EventSource(self.response).iter_sse()
        self.retries: list[int] = []

    def messages(self) -> Iterator[ServerSentEvent]:
        """What comes, as it comes, to the end."""
        for message in self._messages:
            if message.retry is not None:
                self.retries.append(message.retry)
            yield message

    def next(self) -> dict[str, Any]:
        """The next event."""
        for message in self.messages():
            if message.data:
                event: dict[str, Any] = json.loads(message.data)
                return event
        raise AssertionError("the stream ended")

    def must_be_in(self) -> None:
        assert self.status == 200, (self.status, self.response.read())
        event = self.next()
        assert event["event"] == "connected", event
        assert len(self.retries) == 1

    def hears(self, name: str) -> dict[str, Any]:
        """The next event must have this name: nothing else came before."""
        event = self.next()
        assert event["event"] == name, event
        return event

    def rest(self) -> list[str]:
        """The names of all events up to the end, which must come."""
        return [json.loads(message.data)["event"] for message in self.messages() if message.data]

    def must_be_revoked(self) -> None:
        """The very next thing is the end, by auth.revoked."""
        assert self.rest() == ["auth.revoked"]

    def close(self) -> None:
        self.response.close()
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def sha256(token: str) -> str:
    """A token's name where the token itself must not stand."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """A token nobody gave out."""
    return secret(secrets.token_hex(20))


def no_secret_in(*logs: Path) -> None:
    for log in logs:
        text = log.read_text(errors="replace") if log.exists() else ""
        found = [word for word in SECRETS if word in text]
        assert not found, f"{log} has the secrets {found}"
