"""The other end of the socket, as sse would hold it, and processes without root's rights."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

from django.db import transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

LIMIT_S = 60
"""A safety net: what waits so long has failed."""
NOBODY = 65534


class Wire:
    """A Unix datagram socket bound where sse would bind its own. What was sent to it is there at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(LIMIT_S)

    def close(self) -> None:
        self.socket.close()

    def datagrams(self) -> list[bytes]:
        """Return what has come since the last look."""
        found: list[bytes] = []
        while select.select([self.socket], [], [], 0)[0]:
            found.append(self.socket.recv(8 << 20))
        return found

    def lines(self) -> list[Any]:
        return [json.loads(line) for datagram in self.datagrams() for line in datagram.split(b"\n")]

    def names(self) -> list[str]:
        """Return the names of the events, and the words of the operations."""
        return [line.get("event") or line["op"] for line in self.lines()]

    def fill(self) -> None:
        """Send to oneself until there is no more room, as when sse does not read."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            while True:
                try:
                    sender.sendto(b"x", str(self.path))
                except BlockingIOError:
                    return


class Reader:
    """Reads a wire in a thread, so that it is never full, until there are as many lines as expected."""

    def __init__(self, wire: Wire, expected: int) -> None:
        self.wire = wire
        self.expected = expected
        self.lines: list[Any] = []
        self.sizes: list[int] = []
        self.thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        while len(self.lines) < self.expected:
            datagram = self.wire.socket.recv(8 << 20)
            self.sizes.append(len(datagram))
            self.lines += map(json.loads, datagram.split(b"\n"))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join()


class Answers:
    """Answers one datagram, as sse answers a sender that is bound; ``asked`` is what was in it."""

    def __init__(self, wire: Wire, answer: bytes) -> None:
        self.wire = wire
        self.answer = answer
        self.asked: Any = None
        self.thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        datagram, sender = self.wire.socket.recvfrom(8 << 20)
        self.asked = json.loads(datagram)
        self.wire.socket.sendto(self.answer, sender)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thread.join()


def answered(**answer: Any) -> bytes:
    return json.dumps(answer).encode()


def forked(what: Callable[[], Any], *, user: int | None = None) -> Any:
    """Return what() gives in a forked process, which may be without root's rights. It must be JSON."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LIMIT_S)
            if user is not None:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            os.write(writes, json.dumps(what()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        given = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, "the forked process failed, or hung"
    return json.loads(given)


def threads(count: int, what: Callable[[int], object]) -> None:
    """Run what(0), what(1), ... at the same time, each in a thread; what one raises is raised here."""
    raised: list[BaseException] = []
    together = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            together.wait()
            what(number)
        except BaseException as error:
            raised.append(error)

    running = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if raised:
        raise raised[0]


@contextlib.contextmanager
def rolled_back(using: str | None = None) -> Iterator[None]:
    """A transaction in which something fails at the end."""
    with contextlib.suppress(ZeroDivisionError), transaction.atomic(using=using):
        yield
        raise ZeroDivisionError
