"""The stage: a place with a site in processes of its own, the sse of SSE_BIN, and browsers.

The processes, the server and its log, and single streams come from test/django/harness.py. Nothing sleeps here either:
every wait is for the thing itself, and LIMIT is a safety net that no test that passes ever reaches.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import httpx
from harness import LIMIT, Process, Stream, secret, wait_for
from harness import Sse as Server
from httpx_sse import EventSource

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType
    from typing import Self

__all__ = ["LIMIT", "Actor", "Browser", "Place", "Process", "Sse", "Stream", "Web", "secret", "wait_for"]

TESTS = Path(__file__).resolve().parents[1]
PACKAGE = TESTS.parent
KEY = "the-key-that-sse-and-django-share"
TICKET_KEY = "a-key-of-32-bytes-or-more-for-tests-only"
QUESTIONS = "/api/v1/sse/auth/"
TICKETS = "/api/v1/sse/ticket/"

P = ParamSpec("P")
R = TypeVar("R")


def asked(act: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    return {"act": act.__name__, "args": args, "kwargs": kwargs}


class Place:
    """A directory with a database and the socket, of a site and of the sse beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "sse.sock"
        self.database = directory / "db.sqlite3"
        for name in ("queue", "control"):
            (directory / name).mkdir()

    def environment(self, **more: str) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": f"{PACKAGE / 'src'}:{TESTS}",
            "DJANGO_SETTINGS_MODULE": "real.site.settings",
            "SITE_DIR": str(self.directory),
            "SITE_DB": str(self.database),
            "SITE_SOCKET": str(self.socket),
            **more,
        }

    def manage(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        """``manage.py``, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "django", *args],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=LIMIT,
            check=False,
            env=self.environment(**env),
        )

    def act(self, act: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """By a management command, which ends then."""
        done = self.manage("act", json.dumps(asked(act, *args, **kwargs)))
        assert done.returncode == 0, done.stderr


class Sse(Server):
    """The server, at the place's socket."""

    def __init__(self, place: Place, directory: Path, *options: str) -> None:
        super().__init__(directory, *options)
        self.socket = place.socket

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1/sse"


class Web(Process):
    """The site as a web server, at a Unix socket."""

    def __init__(self, place: Place, name: str, argv: list[str], **env: str) -> None:
        super().__init__(place.directory / f"{name}.log")
        self.path = place.directory / f"{name}.sock"
        self.auth_url = f"unix:{self.path}:{QUESTIONS}"
        self.argv = [sys.executable, "-m", *argv]
        self.env = place.environment(**env)
        self.http = self.client()

    def start(self) -> Web:
        self.spawn([one.format(path=self.path) for one in self.argv], self.env)
        return self

    def ready(self) -> Web:
        wait_for(self._answers, "the site answers")
        return self

    def _answers(self) -> bool:
        self.must_run()
        try:
            return self.http.get(QUESTIONS).status_code == 412  # who has no key is told nothing
        except httpx.TransportError:
            return False

    def client(self) -> httpx.Client:
        """One with cookies of its own."""
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.path)), base_url="http://localhost", timeout=LIMIT
        )

    def do(self, act: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """By a view."""
        result: R = self._post("/do/", asked(act, *args, **kwargs))
        return result

    def do_async(self, act: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """By an async view."""
        result: R = self._post("/async/do/", asked(act, *args, **kwargs))
        return result

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 200, self.words.read_text()
        return answer.json()["result"]

    def close(self) -> None:
        self.http.close()
        if self.popen is not None:
            self.popen.terminate()
            self.wait()


def gunicorn(place: Place, name: str, *options: str, **env: str) -> Web:
    return Web(
        place,
        name,
        [
            *("gunicorn", "real.site.wsgi", "--preload", "--workers=2", "--log-level=warning", "--no-control-socket"),
            *("--graceful-timeout=1", "--bind=unix:{path}", *options),
        ],
        **env,
    )


def uvicorn(place: Place, name: str, **env: str) -> Web:
    return Web(place, name, ["uvicorn", "real.site.asgi:application", "--uds={path}", "--log-level=warning"], **env)


class Actor:
    """One long-lived process of the site that does what it is told: where it counts that it is the same process."""

    def __init__(self, place: Place, words: Path, **env: str) -> None:
        self.words = words
        with words.open("ab") as stderr:
            self.popen = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "--"),
                    *(sys.executable, "-m", "django", "act"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=place.environment(**env),
            )

    def begin(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Tell it what to do, and do not wait."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(asked(act, *args, **kwargs)) + "\n")
        self.popen.stdin.flush()

    def end(self) -> Any:
        """Wait for what was begun."""
        assert self.popen.stdout is not None
        assert select.select([self.popen.stdout], [], [], LIMIT)[0], f"it hangs: {self.words.read_text()}"
        line = self.popen.stdout.readline()
        assert line, self.words.read_text()
        return json.loads(line)["result"]

    def do(self, act: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        self.begin(act, *args, **kwargs)
        result: R = self.end()
        return result

    def logged(self) -> list[str]:
        return self.words.read_text().splitlines()

    def close(self) -> None:
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        self.popen.stdin.close()
        try:
            self.popen.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise
        finally:
            self.popen.stdout.close()


class Browser:
    """An EventSource in a thread: it reads, and when the stream ends it comes back with the id it had last."""

    def __init__(self, sse: Sse, token: str) -> None:
        self.sse = sse
        self.token = secret(token)
        self.events: list[dict[str, Any]] = []
        self.last_id = ""
        self.status = 0
        self._news = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        retry_ms = 100
        with httpx.Client(timeout=LIMIT) as client:
            while not self._closed.is_set():
                headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
                url = f"{self.sse.url}/events/?token={self.token}"
                try:
                    with client.stream("GET", url, headers=headers) as response:
                        retry_ms = self._read(response, retry_ms)
                except (httpx.TransportError, httpx.StreamError):
                    pass
                self._closed.wait(retry_ms / 1000)

    def _read(self, response: httpx.Response, retry_ms: int) -> int:
        self.status = response.status_code
        if self.status != 200:
            self._closed.set()  # an EventSource gives up for good
            return retry_ms
        for message in EventSource(response).iter_sse():
            if self._closed.is_set():
                break
            retry_ms = retry_ms if message.retry is None else message.retry
            if message.id:
                self.last_id = message.id
            if message.data:
                with self._news:
                    self.events.append(json.loads(message.data))
                    self._news.notify_all()
        return retry_ms

    def data_of(self, name: str) -> list[Any]:
        """The data of all events of this name so far."""
        return [event["data"] for event in list(self.events) if event["event"] == name]

    def until(self, heard: Callable[[], bool], why: str) -> None:
        with self._news:
            assert self._news.wait_for(heard, LIMIT), f"never: {why}"

    def until_named(self, name: str, times: int = 1) -> None:
        self.until(lambda: len([1 for event in self.events if event["event"] == name]) >= times, f"{name} {times}")

    def until_connected(self, times: int = 1) -> Self:
        self.until_named("connected", times)
        return self

    def close(self) -> None:
        """Leave at the next event, or when the server goes; the thread ends with the program at the latest."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self.until_connected()

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def counted(browser: Browser) -> dict[str, list[int]]:
    """What was heard of those that count off: their numbers, in order."""
    found: dict[str, list[int]] = {}
    for one in browser.data_of("count"):
        found.setdefault(one["from"], []).append(one["n"])
    return found
