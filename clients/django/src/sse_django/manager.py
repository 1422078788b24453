"""SSEManager: what a site calls."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from django.core.signals import setting_changed
from django.db import transaction
from django.utils.module_loading import import_string

from .backends import line_of
from .conf import config
from .events import Ack, Event, Operation, SSEError, To, audience, user_id
from .recovery import OUTAGES, recovery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .backends import Backend

logger = logging.getLogger("sse_django")
QUIET_S = 60.0
"""A failure of one kind is logged at once, and then once in so many seconds, with a count."""


@cache
def _backend() -> Backend:
    made: Backend = import_string(config().BACKEND)()
    return made


def _changed(*, setting: str, **_: Any) -> None:
    if setting == "SSE":
        _backend.cache_clear()


setting_changed.connect(_changed, dispatch_uid="sse_django.manager")


class Report:
    """Counts what was sent and what was not, and logs failures, but not a thousand times."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self._spoke: dict[str, float] = {}
        self._count: Counter[str] = Counter()
        self._out: set[str] = set()

    def forget(self) -> None:
        """Let a forked process have a lock of its own: who held it may not be there."""
        self._lock = threading.Lock()

    def sent(self, items: int) -> None:
        with self._lock:
            self.counts["sent"] += items
            failed = sum(self._count.pop(reason) for reason in self._out)
            self._out.clear()
        if failed:
            logger.warning("events are sent again; %d were not", failed)

    def failed(self, error: Exception, items: int) -> None:
        reason, now = getattr(error, "reason", "error"), time.monotonic()
        with self._lock:
            self.counts[reason] += items
            self._count[reason] += items
            count, spoke = self._count[reason], self._spoke.get(reason)
            speaks = spoke is None or now - spoke >= QUIET_S
            if speaks:
                self._spoke[reason] = now
                self._out |= {reason} & (OUTAGES | {"timeout"})
        if speaks:
            known = isinstance(error, SSEError)
            text = str(error) if known else repr(error)
            logger.error(
                "an event was not sent: %s [%s, %d so far]", text, reason, count, exc_info=None if known else error
            )


report = Report()


def _forget() -> None:
    report.forget()


os.register_at_fork(after_in_child=_forget)


def fail(error: Exception, items: int = 1) -> None:
    """Log and count what went wrong, or raise it if ``SSE["RAISE"]``."""
    report.failed(error, items)
    if config().RAISE:
        raise error


def send_now(items: Sequence[Event | Operation]) -> None:
    """Hand these to the backend now; raise what it raises."""
    _backend().send(items)


def deliver(items: Sequence[Event | Operation]) -> None:
    """Hand these to the backend now. What fails is logged and counted; it raises only if ``SSE["RAISE"]``."""
    good = [part for item in items for part in _good(item)]
    if not good:
        return
    try:
        send_now(good)
    except Exception as error:
        unsent = getattr(error, "unsent", 0) or len(good)
        if unsent < len(good):
            report.sent(len(good) - unsent)
        if getattr(error, "reason", "") in OUTAGES:
            recovery.lost(good)
        fail(error, unsent)
    else:
        report.sent(len(good))


def _good(item: Event | Operation) -> Sequence[Event | Operation]:
    """Return it in parts that sse takes, or nothing: one that it would not must not keep the others from being sent."""
    try:
        parts = item.split(config().MAX_BYTES) if isinstance(item, Event) else [item]
        for part in parts:
            line_of(part)
    except Exception as error:
        fail(error)
        return []
    return parts


def deliver_after_commit(make: Callable[[], Sequence[Event | Operation]], using: str | None = None) -> None:
    """Call make() and deliver what it returns: after the transaction that is open, if one is.

    Nothing is asked of the database, so that it can be called in an async view too.
    """
    connection = transaction.get_connection(using)
    if connection.in_atomic_block:
        transaction.on_commit(partial(_deliver_made, make), using=using, robust=not config().RAISE)
    else:
        _deliver_made(make)


def _deliver_made(make: Callable[[], Sequence[Event | Operation]]) -> None:
    try:
        items = make()
    except Exception as error:
        fail(error)
        return
    if items:
        deliver(items)


class SSEManager:
    """Sends events to the browsers that are online.

    It holds nothing: any number of them may be made, in any process or thread. Events are sent when the transaction
    in which they happen is committed, and not at all if it is rolled back. None of the methods blocks or raises,
    unless ``SSE["RAISE"]`` says so: what is not sent is logged on ``sse_django`` and counted in ``counts()``.

    ``confirm=True`` sends at once, also within a transaction, waits for sse's answer, and returns it; or None, if
    there is none. ``using`` names the database whose transaction it is, if that is not the default one.
    """

    def send(
        self,
        event: str,
        data: Any,
        to: To,
        *,
        confirm: bool = False,
        using: str | None = None,
    ) -> Ack | None:
        """Send an event to an audience (see ``audience``). All the others come down to this one."""
        return self._pass(lambda: Event(event, data, to), confirm, using)

    def send_to_user(
        self, user: Any, event: str, data: Any = None, *, confirm: bool = False, using: str | None = None
    ) -> Ack | None:
        """Send to all streams of a user: an instance or its id."""
        return self._pass(lambda: Event(event, data, audience(users=(user,))), confirm, using)

    def send_to_users(
        self, users: Iterable[Any], event: str, data: Any = None, *, confirm: bool = False, using: str | None = None
    ) -> Ack | None:
        """Send to several users: instances, ids, a queryset."""
        return self._pass(lambda: Event(event, data, audience(users=users)), confirm, using)

    def send_to_role(
        self,
        role: Any,
        event: str,
        data: Any = None,
        *,
        exclude: Any = (),
        confirm: bool = False,
        using: str | None = None,
    ) -> Ack | None:
        """Send to everybody who has a role (a group, or a name), but not to the users in ``exclude``."""
        return self._pass(lambda: Event(event, data, audience(roles=role, excepted=exclude)), confirm, using)

    def broadcast(
        self, event: str, data: Any = None, *, exclude: Any = (), confirm: bool = False, using: str | None = None
    ) -> Ack | None:
        """Send to everybody who is online, but not to the users in ``exclude``."""
        return self._pass(lambda: Event(event, data, audience(everybody=True, excepted=exclude)), confirm, using)

    def revoke(self, user: Any = None, *, sid: str = "", confirm: bool = False, using: str | None = None) -> Ack | None:
        """End all streams of a user, or those of one session, and let nobody in on an older answer or ticket."""
        if (user is None) == (not sid):
            raise TypeError("revoke() takes a user or a sid")
        return self._pass(
            lambda: Operation("revoke", user="" if user is None else user_id(user), sid=sid), confirm, using
        )

    def refresh(self, user: Any, *, confirm: bool = False, using: str | None = None) -> Ack | None:
        """Have sse ask again who this user is and which roles it has, for the streams that were opened by tokens.

        Those opened by tickets stay as they are: ``roles_changed`` sees to both.
        """
        return self._pass(lambda: Operation("refresh", user=user_id(user)), confirm, using)

    def ping(self) -> Ack | None:
        """Ask sse whether it is there; the answer has the newest id and the number of streams."""
        return self._pass(lambda: Operation("ping"), confirm=True, using=None)

    def counts(self) -> dict[str, int]:
        """Return what this process has sent, and by reason what it has not."""
        return dict(report.counts)

    def _pass(self, make: Callable[[], Event | Operation], confirm: bool, using: str | None) -> Ack | None:
        try:
            item = make()
            _ = item.line
            if not isinstance(item, Operation) and not item.to:
                return None  # for nobody: send_to_users([]) is no mistake
            if confirm:
                ack = _backend().confirm(item)
                report.sent(1)
                return ack
        except Exception as error:
            fail(error)
            return None
        deliver_after_commit(lambda: [item], using)
        return None
