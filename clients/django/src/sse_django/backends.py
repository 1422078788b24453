"""Where events go: to the socket of sse, or, in the tests of a site, into a list."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING, Protocol

from .conf import config
from .events import Ack, Event, Operation, SSEError

if TYPE_CHECKING:
    from collections.abc import Sequence

SEND_BUFFER = 4 << 20
"""Asked of the kernel, which gives what ``net.core.wmem_max`` allows: the default is full after some 167 datagrams."""
LOOP_TIMEOUT_S = 0.05
"""The longest wait in an event loop, which it holds up for all."""
PATIENCE_S = 1.0
"""After a send found the socket full for ``TIMEOUT``, the next ones do not wait for so long."""
PAUSE_S = 0.0002
"""Between two attempts at a full socket; each pause is twice the one before, up to"""
PAUSE_MAX_S = 0.005

REASONS = {
    errno.ENOENT: ("missing", "there is no socket at {path}: is sse running, and is SSE['SOCKET'] its --socket?"),
    errno.ECONNREFUSED: ("missing", "nobody listens at {path}: sse was stopped or killed"),
    errno.EACCES: ("forbidden", "this process may not write to {path}: is it in the group of sse? (--socket-mode)"),
    errno.EPERM: ("forbidden", "this process may not write to {path}"),
    errno.EAGAIN: ("full", "the socket {path} is full: sse does not keep up, or is stopped"),
    errno.ENOBUFS: ("full", "the kernel has no room for the event"),
    errno.EMSGSIZE: ("too_large", "the event is larger than the kernel lets a datagram be (net.core.wmem_max)"),
    errno.EPROTOTYPE: ("missing", "{path} is a socket of another kind: SSE['SOCKET'] must be sse's --socket"),
}


class Backend(Protocol):
    """What ``SSE["BACKEND"]`` names: a class whose methods may be called from any thread."""

    def send(self, items: Sequence[Event | Operation]) -> None:
        """Hand these over, in order; raise ``SSEError`` at the first that is not taken."""

    def confirm(self, item: Event | Operation) -> Ack:
        """Hand it over and wait for the answer; raise ``SSEError`` if there is none, or if it is a refusal."""


def _failure(error: OSError) -> SSEError:
    path = config().SOCKET
    reason, text = REASONS.get(error.errno or 0, ("socket", "cannot send to {path}"))
    return SSEError(reason, f"{text.format(path=path)} ({error.strerror or error})")


def line_of(item: Event | Operation) -> bytes:
    """Return the line that sse takes; raise ``SSEError`` if it would not."""
    line, most = item.line, config().MAX_BYTES
    if len(line) > most:
        name = item.name if isinstance(item, Event) else item.op
        raise SSEError("too_large", f"{name} has {len(line)} bytes, and sse takes {most} (SSE['MAX_BYTES'])")
    return line


def _packed(items: Sequence[Event | Operation]) -> list[tuple[bytes, int]]:
    """Return as few datagrams as these fit into, with the number of lines in each."""
    most = config().MAX_BYTES
    packed: list[tuple[bytes, int]] = []
    for line in map(line_of, items):
        datagram, count = packed[-1] if packed else (b"", 0)
        if count and len(datagram) + 1 + len(line) <= most:
            packed[-1] = (datagram + b"\n" + line, count + 1)
        else:
            packed.append((line, 1))
    return packed


def _patience() -> float:
    """Return how many seconds a send may wait here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return config().TIMEOUT
    return min(config().TIMEOUT, LOOP_TIMEOUT_S)


def _send_to(sender: socket.socket, datagram: bytes, timeout: float) -> None:
    """Send, and wait while the socket is full; Python's own timeout would try again without a pause."""
    until = time.monotonic() + timeout
    pause = PAUSE_S
    while True:
        try:
            sender.sendto(datagram, config().SOCKET)
        except OSError as error:
            left = until - time.monotonic()
            if error.errno != errno.EAGAIN or left <= 0:
                raise _failure(error) from error
            time.sleep(min(pause, left))
            pause = min(2 * pause, PAUSE_MAX_S)
        else:
            return


_made: weakref.WeakSet[SocketBackend] = weakref.WeakSet()


def _forget_all() -> None:
    for backend in _made:
        backend.forget()


os.register_at_fork(after_in_child=_forget_all)


class SocketBackend:
    """The socket of sse.

    One socket a process, never connected: a connected one does not survive a restart of sse. A send waits for
    ``SSE["TIMEOUT"]`` at most while sse's socket is full, and not at all for a second after that was in vain. It
    waits by ``time.sleep``, so that gevent and eventlet, where they have patched it, let others go on.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._impatient_until = 0.0
        _made.add(self)

    def forget(self) -> None:
        """Let a forked process have a socket, and room in the kernel, of its own."""
        self._lock = threading.Lock()
        self._socket = None

    def _open(self) -> socket.socket:
        with self._lock:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            return self._socket

    def send(self, items: Sequence[Event | Operation]) -> None:
        failure: SSEError | None = None
        for datagram, count in _packed(items):
            try:
                self._send(datagram)
            except SSEError as error:
                failure = failure or error
                failure.unsent += count
        if failure is not None:
            raise failure

    def _send(self, datagram: bytes) -> None:
        patient = time.monotonic() >= self._impatient_until
        try:
            _send_to(self._open(), datagram, _patience() if patient else 0)
        except SSEError as error:
            if patient and error.reason == "full":
                self._impatient_until = time.monotonic() + PATIENCE_S
            raise
        self._impatient_until = 0.0  # sse takes again

    def confirm(self, item: Event | Operation) -> Ack:
        ((datagram, _),) = _packed([item])
        until = time.monotonic() + config().CONFIRM_TIMEOUT
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asker:
            asker.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            asker.setblocking(False)
            try:
                asker.bind("")  # the kernel gives it a name, so that sse can answer
                _send_to(asker, datagram, config().CONFIRM_TIMEOUT)
                asker.settimeout(max(until - time.monotonic(), 0.001))
                answer = asker.recv(65536)
            except TimeoutError as error:
                raise SSEError(
                    "timeout", f"it was sent, and sse did not answer in {config().CONFIRM_TIMEOUT} s"
                ) from error
            except OSError as error:
                raise _failure(error) from error
        return _ack(answer)


def _ack(answer: bytes) -> Ack:
    try:
        told = json.loads(answer.split(b"\n", 1)[0])
        if told["ok"]:
            return Ack(told["id"], told["matched"], told.get("stored", True))
        refusal = told["error"]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise SSEError("answer", f"what answered is not sse: {answer[:100]!r}") from error
    raise SSEError("refused", f"sse refused it: {refusal}")


outbox: list[Event | Operation] = []
"""What the memory backend was given, in order, with the data as a browser would get it."""


class MemoryBackend:
    """Keeps everything in ``sse_django.outbox``; for the tests of a site."""

    def send(self, items: Sequence[Event | Operation]) -> None:
        _packed(items)  # what sse would not take is an error here too
        outbox.extend(
            Event(item.name, json.loads(item.line)["data"], item.to) if isinstance(item, Event) else item
            for item in items
        )

    def confirm(self, item: Event | Operation) -> Ack:
        self.send([item])
        return Ack(f"{len(outbox)}-0", 0)
