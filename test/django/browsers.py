"""A crowd of browsers in one epoll loop: each does what an EventSource does, and nothing else.

An EventSource connects, takes events, and when the stream ends or cannot be had (refused, reset, 200
that ends) it comes back after the time that the last `retry:` named. Any answer but a 200 that is a
stream ends it for good. Ten thousand of them fit into one process, beside the server, on two cores.
"""

import heapq
import json
import random
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

RETRY = 3.0  # seconds, of a browser that was never told otherwise
LIMIT = 30.0  # seconds, after which a wait is given up


class Browser:
    """One EventSource. `token` goes into the query, as a page has no other way."""

    __slots__ = (
        "body",
        "chunked",
        "connected",
        "dead",
        "fd",
        "left",
        "messages",
        "raw",
        "retry",
        "sent",
        "sock",
        "status",
        "token",
    )

    def __init__(self, token: str) -> None:
        self.token = token
        self.retry = RETRY
        self.sock: socket.socket | None = None
        self.fd = -1
        self.messages: list[dict[str, Any]] = []  # of all its streams
        self.dead = False  # it never comes back
        self._fresh()

    def _fresh(self) -> None:
        self.connected = False  # the stream has said so
        self.sent = False
        self.chunked = False
        self.status = 0
        self.raw = b""  # of the head, then of what is not yet a whole chunk
        self.body = b""  # what is not yet a whole frame
        self.left = 0  # bytes that the chunk still has, with its CRLF; 0: a size comes next

    def close(self) -> None:
        """Leaves. Its number is free from now on."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None
            self.fd = -1
        self._fresh()

    def feed(self, data: bytes) -> tuple[bool, list[bytes]]:
        """Takes bytes of an answer. Says whether the body ended, and gives the whole frames."""
        self.raw += data
        if self.status == 0:
            head, end, rest = self.raw.partition(b"\r\n\r\n")
            if not end:
                return False, []
            lines = head.lower().split(b"\r\n")
            self.status = int(lines[0].split()[1])
            self.raw = rest
            if self.status == 200:
                assert b"content-type: text/event-stream" in lines, head
                self.chunked = b"transfer-encoding: chunked" in lines
        if self.status != 200:
            return False, []
        ended = self._unchunk() if self.chunked else self._all()
        *frames, self.body = self.body.split(b"\n\n")
        return ended, frames

    def _all(self) -> bool:
        """A body that ends when the connection does."""
        self.body, self.raw = self.body + self.raw, b""
        return False

    def _unchunk(self) -> bool:
        while self.raw:
            if self.left == 0:
                size, end, rest = self.raw.partition(b"\r\n")
                if not end:
                    return False
                n = int(size, 16)
                if n == 0:
                    return True
                self.left, self.raw = n + 2, rest
            part = self.raw[: self.left]
            self.raw = self.raw[self.left :]
            self.body += part[: max(0, self.left - 2)]
            self.left -= len(part)
        return False


class Crowd:
    """Browsers that share a server at 127.0.0.1:port."""

    def __init__(self, port: int, stay: Callable[[], float] | None = None, keep: bool = True) -> None:
        self.port = port
        self.stay = stay  # for how many seconds a page stays before it is loaded anew; None: for ever
        self.keep = keep  # what was heard, in Browser.messages
        self.browsers: list[Browser] = []
        self.connected = 0  # streams that are open and said so
        self.connects = 0  # since the beginning:
        self.joined = 0  # streams that said connected
        self.put_off = 0  # 200 that ended before it said so
        self.unreachable = 0  # refused, reset, or gone without an answer
        self.lost = 0  # streams that ended, after they were connected
        self.statuses: Counter[int] = Counter()
        self._epoll = select.epoll()
        self._of: dict[int, Browser] = {}
        self._timers: list[tuple[float, int, Browser]] = []
        self._n = 0

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        for browser in self.browsers:
            browser.close()
        self._epoll.close()

    def add(self, tokens: Iterable[str]) -> list[Browser]:
        """One more browser for each token; they connect as soon as the crowd runs."""
        new = [Browser(token) for token in tokens]
        self.browsers += new
        for browser in new:
            self._at(0.0, browser)
        return new

    def run(self, until: Callable[[], bool], limit: float = LIMIT) -> None:
        """Lets them live until something is so."""
        give_up = time.monotonic() + limit
        while not until():
            now = time.monotonic()
            if now > give_up:
                raise TimeoutError(f"not within {limit} s: {self.summary()}")
            while self._timers and self._timers[0][0] <= now:
                self._due(heapq.heappop(self._timers)[2])
            wait = min(0.01, self._timers[0][0] - now) if self._timers else 0.01
            for fd, events in self._epoll.poll(max(0.0, wait), 1024):
                browser = self._of.get(fd)
                if browser is not None and browser.fd == fd:
                    self._ready(browser, events)

    def run_until_all_connected(self, limit: float = LIMIT) -> None:
        """And nobody is about to load the page anew, if Crowd.stay is None."""
        self.run(lambda: self.connected == len(self.browsers) and not (self.stay is None and self.coming), limit)

    @property
    def coming(self) -> bool:
        """Somebody is about to come back, or to load the page anew."""
        return bool(self._timers)

    def summary(self) -> str:
        return (
            f"{self.connected} of {len(self.browsers)} connected; {self.connects} connects, {self.joined} joined, "
            f"{self.put_off} put off, {self.unreachable} unreachable, {self.lost} lost; statuses {dict(self.statuses)}"
        )

    def _at(self, when: float, browser: Browser) -> None:
        self._n += 1
        heapq.heappush(self._timers, (when, self._n, browser))

    def _due(self, browser: Browser) -> None:
        """Its time has come: to connect, or to load the page anew."""
        if browser.sock is not None:
            self._leave(browser)
        self._connect(browser)

    def _connect(self, browser: Browser) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        browser.sock, browser.fd = sock, sock.fileno()
        self.connects += 1
        self._of[browser.fd] = browser
        self._epoll.register(browser.fd, select.EPOLLIN | select.EPOLLOUT)
        if sock.connect_ex(("127.0.0.1", self.port)) not in (0, 115):  # EINPROGRESS
            self._ended(browser)

    def _ready(self, browser: Browser, events: int) -> None:
        assert browser.sock is not None
        try:
            if not browser.sent and events & select.EPOLLOUT and not events & select.EPOLLERR:
                browser.sock.send(
                    b"GET /api/v1/sse/events/?token=%s HTTP/1.1\r\nHost: sse\r\nAccept: text/event-stream\r\n"
                    b"Cache-Control: no-cache\r\n\r\n" % browser.token.encode()
                )
                browser.sent = True
                self._epoll.modify(browser.fd, select.EPOLLIN)
            if events & ~select.EPOLLOUT:
                self._receive(browser, browser.sock.recv(65536))
        except BlockingIOError:
            pass
        except OSError:
            self._ended(browser)

    def _receive(self, browser: Browser, data: bytes) -> None:
        before = browser.status
        ended, frames = browser.feed(data)
        if browser.status != before:
            self.statuses[browser.status] += 1
            if browser.status != 200:
                browser.dead = True
                self._leave(browser)
                return
        for frame in frames:
            self._hear(browser, frame)
        if ended or not data:
            self._ended(browser)

    def _hear(self, browser: Browser, frame: bytes) -> None:
        for line in frame.split(b"\n"):
            if line.startswith(b"retry:"):
                browser.retry = int(line[6:]) / 1000
            elif line.startswith(b"data:"):
                if self.keep:
                    browser.messages.append(json.loads(line[5:]))
                if not browser.connected and b'"event":"connected"' in line:
                    self._joined(browser)

    def _joined(self, browser: Browser) -> None:
        browser.connected = True
        self.connected += 1
        self.joined += 1
        if self.stay is not None:
            self._at(time.monotonic() + self.stay(), browser)

    def _leave(self, browser: Browser) -> None:
        self.connected -= browser.connected
        self._of.pop(browser.fd, None)
        browser.close()

    def _ended(self, browser: Browser) -> None:
        """The server ended it, or was not there. It comes back."""
        if browser.connected:
            self.lost += 1
            if self.stay is not None:  # the timer that is running serves for this
                self._leave(browser)
                return
        elif browser.status == 200:
            self.put_off += 1
        else:
            self.unreachable += 1
        self._leave(browser)
        self._at(time.monotonic() + browser.retry, browser)


def between(low: float, high: float) -> Callable[[], float]:
    """A time at random, for Crowd.stay."""
    return lambda: random.uniform(low, high)
