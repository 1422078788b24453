"""What is done about events that were lost because sse was away, or did not keep up."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from .conf import config
from .events import Event, Operation, SSEError, To

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

logger = logging.getLogger("sse_django")
OUTAGES = frozenset(("missing", "forbidden", "full", "socket"))
"""What ends by itself when sse is there again; what else goes wrong are mistakes."""
PAUSE_S = 1.0
"""Between two attempts."""
OPERATIONS_MAX = 10_000
"""Revocations that are kept; the oldest go first."""


class Recovery:
    """Sees to it that no page goes on showing what is old, and that no revocation is lost.

    An event that was not sent is in no journal: sse can't replay it. So, as soon as sse takes datagrams again, all
    pages are told to reload, by a ``system.resync`` with the reason ``lost``, and revocations are sent again. A thread
    does that, which ends when it is done; a process that ends before takes its losses along.
    """

    def __init__(self, send: Callable[[Sequence[Event | Operation]], None]) -> None:
        self._send = send
        self.forget()

    def forget(self) -> None:
        """Begin anew, as after a fork: the losses are those of the parent, which has the thread."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._events = False
        self._operations: deque[Operation] = deque(maxlen=OPERATIONS_MAX)

    def lost(self, items: Iterable[Event | Operation]) -> None:
        """Take note of what was not sent."""
        if not config().RESYNC:
            return
        with self._lock:
            for item in items:
                if isinstance(item, Operation):
                    self._operations.append(item)
                else:
                    self._events = True
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, name="sse_django.recovery", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending, or there are too many threads
                return
            self._thread = thread

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is lost any more; False if that took longer than ``timeout`` seconds."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def _run(self) -> None:
        while True:
            time.sleep(PAUSE_S)
            with self._lock:
                items: list[Event | Operation] = list(self._operations)
                if self._events:
                    items.append(Event("system.resync", {"reason": "lost"}, To(everybody=True)))
                self._operations.clear()
                self._events = False
            try:
                self._send(items)
            except SSEError as error:
                self._again(items if error.reason in OUTAGES else ())
            except Exception:
                logger.exception("pages could not be told that they missed something")
            with self._lock:
                if not self._operations and not self._events:
                    self._thread = None
                    return

    def _again(self, items: Iterable[Event | Operation]) -> None:
        with self._lock:
            self._operations.extendleft(reversed([item for item in items if isinstance(item, Operation)]))
            self._events = self._events or any(isinstance(item, Event) for item in items)


def _send(items: Sequence[Event | Operation]) -> None:
    from .manager import report, send_now

    send_now(items)
    report.sent(len(items))


recovery = Recovery(_send)


def _forget() -> None:
    recovery.forget()


os.register_at_fork(after_in_child=_forget)
