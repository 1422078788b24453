"""SSEManager, and the socket it sends to: when events go, and what happens if they can't."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import stat
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connections, transaction
from django.http import HttpRequest, JsonResponse
from django.test import AsyncRequestFactory

from estimates.models import Project
from estimates.wire import NOBODY, Answers, Reader, Wire, answered, forked, rolled_back, threads
from sse_django import Ack, SSEError, SSEManager, To, audience, backends, manager, roles_changed
from sse_django.backends import SocketBackend
from sse_django.events import Event, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Configure, Make, Said

sse = SSEManager()
ALL = To(everybody=True)
NOTHING: Any = None
FIVE: Any = 5
WMEM_MAX = int(Path("/proc/sys/net/core/wmem_max").read_text())
autocommit = pytest.mark.django_db(transaction=True)
both_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])


# ---- what each method sends ----


class _User:
    """What is asked of a user: its key."""

    pk = 56


@pytest.mark.parametrize(
    ("send", "sent"),
    [
        (lambda: sse.send_to_user(_User(), "e", 1), {"event": "e", "data": 1, "to": {"users": ["56"]}}),
        (lambda: sse.send_to_user(56, "e"), {"event": "e", "data": None, "to": {"users": ["56"]}}),
        (
            lambda: sse.send_to_users([_User(), 57, "57"], "e"),
            {"event": "e", "data": None, "to": {"users": ["56", "57"]}},
        ),
        (lambda: sse.send_to_users((i for i in "12"), "e"), {"event": "e", "data": None, "to": {"users": ["1", "2"]}}),
        (lambda: sse.send_to_role("r", "e", {}), {"event": "e", "data": {}, "to": {"roles": ["r"]}}),
        (lambda: sse.send_to_role(Group(name="r"), "e"), {"event": "e", "data": None, "to": {"roles": ["r"]}}),
        (
            lambda: sse.send_to_role("r", "e", exclude=[_User(), 57]),
            {"event": "e", "data": None, "to": {"roles": ["r"]}, "except": {"users": ["56", "57"]}},
        ),
        (lambda: sse.broadcast("e", 1), {"event": "e", "data": 1, "to": "all"}),
        (
            lambda: sse.broadcast("e", exclude=_User()),
            {"event": "e", "data": None, "to": "all", "except": {"users": ["56"]}},
        ),
        (
            lambda: sse.send("e", None, audience(users=[1], roles=["r"], excepted=["2"])),
            {"event": "e", "data": None, "to": {"users": ["1"], "roles": ["r"]}, "except": {"users": ["2"]}},
        ),
        (lambda: sse.revoke(_User()), {"op": "revoke", "user": "56"}),
        (lambda: sse.revoke(sid="s"), {"op": "revoke", "sid": "s"}),
        (lambda: sse.refresh(_User()), {"op": "refresh", "user": "56"}),
    ],
)
def test_what_each_method_sends(wire: Wire, send: Callable[[], Ack | None], sent: dict[str, Any]) -> None:
    assert send() is None
    assert wire.lines() == [sent]
    assert sse.counts() == {"sent": 1}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "send",
    [
        lambda **how: sse.send("e", None, To(), **how),
        lambda **how: sse.send("e", None, to=To(excepted=("1",)), **how),
        lambda **how: sse.send_to_users([], "e", **how),
        lambda **how: sse.send_to_users([None], "e", **how),
        lambda **how: sse.send_to_users(NOTHING, "e", **how),
        lambda **how: sse.send_to_user(None, "e", **how),
        lambda **how: sse.send_to_role(None, "e", **how),
        lambda **how: sse.send_to_users(get_user_model().objects.none(), "e", **how),
    ],
    ids=["to", "except", "list", "none-of-a-list", "none", "no-user", "no-role", "queryset"],
)
@pytest.mark.parametrize("how", [{}, {"confirm": True}])
def test_an_event_for_nobody_is_no_mistake(
    wire: Wire, said: Said, send: Callable[..., Ack | None], how: dict[str, Any]
) -> None:
    assert send(**how) is None
    assert (wire.lines(), said(), sse.counts()) == ([], [], {})


@pytest.mark.parametrize("about", [{}, {"user": 7, "sid": "s"}])
def test_revoke_takes_a_user_or_a_sid(about: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        sse.revoke(**about)


@pytest.mark.parametrize("given", [("e",), ("e", 1)])
def test_send_takes_all_three(given: tuple[Any, ...]) -> None:
    """Data in place of the audience, and an event for nobody, would be no mistake otherwise."""
    send: Any = sse.send
    with pytest.raises(TypeError, match="'to'"):
        send(*given)


# ---- when: after the commit, and not after a rollback ----


@autocommit
def test_an_event_goes_when_its_transaction_is_committed(wire: Wire) -> None:
    with transaction.atomic():
        sse.broadcast("inner")
        with transaction.atomic():
            sse.broadcast("nested")
        assert wire.names() == []
    assert wire.names() == ["inner", "nested"]


@autocommit
def test_an_event_of_what_was_rolled_back_does_not_go(wire: Wire) -> None:
    with rolled_back():
        sse.broadcast("e")
    assert wire.names() == []


@autocommit
def test_a_savepoint_that_is_rolled_back_takes_its_events_along(wire: Wire) -> None:
    with transaction.atomic():
        sse.broadcast("before")
        with rolled_back():
            sse.broadcast("lost")
            with transaction.atomic():
                sse.refresh(7)
        sse.broadcast("after")
    assert wire.names() == ["before", "after"]


IN_A_DATABASE: list[Callable[[str | None], object]] = [
    lambda using: sse.send("said", None, ALL, using=using),
    lambda using: sse.send_to_user(7, "said", using=using),
    lambda using: sse.send_to_users([7], "said", using=using),
    lambda using: sse.send_to_role("r", "said", using=using),
    lambda using: sse.broadcast("said", using=using),
    lambda using: sse.revoke(7, using=using),
    lambda using: sse.revoke(sid="s", using=using),
    lambda using: sse.refresh(7, using=using),
    lambda using: roles_changed([7], using),
    lambda using: roles_changed([7], using=using),
]


@both_databases
@pytest.mark.parametrize("say", IN_A_DATABASE)
def test_an_event_waits_for_the_database_that_is_named(wire: Wire, say: Callable[[str | None], object]) -> None:
    with transaction.atomic(using="other"):
        say(None)
        say("default")
        assert len(wire.names()) == 2
        say("other")
        assert wire.names() == []
    assert len(wire.names()) == 1
    with rolled_back("other"):
        say("other")
    assert wire.names() == []


@autocommit
def test_events_keep_their_place_among_what_else_waits_for_the_commit(wire: Wire) -> None:
    seen: list[list[str]] = []
    with transaction.atomic():
        sse.broadcast("first")
        transaction.on_commit(lambda: seen.append(wire.names()))
        sse.send_to_user(7, "second")
        sse.revoke(7)
        transaction.on_commit(lambda: sse.broadcast("of-a-callback") and None)
        sse.broadcast("last")
    assert seen == [["first"]]
    assert wire.names() == ["second", "revoke", "of-a-callback", "last"]


@autocommit
def test_what_is_changed_after_the_call_is_not_sent(wire: Wire) -> None:
    data, users, excluded = {"rows": [1]}, [7], [8]
    with transaction.atomic():
        sse.send_to_users(users, "e", data)
        sse.send_to_role("r", "e", data, exclude=excluded)
        data["rows"].append(2)
        users.append(9)
        excluded.clear()
    assert wire.lines() == [
        {"event": "e", "data": {"rows": [1]}, "to": {"users": ["7"]}},
        {"event": "e", "data": {"rows": [1]}, "to": {"roles": ["r"]}, "except": {"users": ["8"]}},
    ]


@pytest.mark.django_db
@pytest.mark.usefixtures("wire")
def test_nothing_is_asked_of_the_database(django_assert_num_queries: Callable[[int], Any]) -> None:
    with django_assert_num_queries(0):
        sse.send_to_user(7, "e")
        sse.send("e", None, ALL, using="default")


# ---- what goes wrong: it is said and counted, and does not break the request ----


def _missing(path: Path) -> None: ...


def _dead(path: Path) -> None:
    Wire(path).close()


def _file(path: Path) -> None:
    path.touch()


def _directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_missing, "is sse running"),
        (_dead, "nobody listens"),
        (_file, "nobody listens"),
        (_directory, "nobody listens"),
    ],
)
@pytest.mark.parametrize("how", [{}, {"confirm": True}])
def test_where_nobody_listens(
    place: Path, configure: Configure, said: Said, make: Callable[[Path], None], words: str, how: dict[str, Any]
) -> None:
    path = place / "sse.sock"
    configure(SOCKET=str(path))
    make(path)
    assert sse.broadcast("e", **how) is None
    assert sse.counts() == {"missing": 1}
    (message,) = said()
    assert words in message
    assert str(path) in message


@pytest.mark.parametrize("how", [{}, {"confirm": True}])
def test_a_socket_of_another_kind(place: Path, configure: Configure, said: Said, how: dict[str, Any]) -> None:
    configure(SOCKET=str(place / "sse.sock"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(place / "sse.sock"))
        listener.listen()
        assert sse.broadcast("e", **how) is None
    assert sse.counts() == {"missing": 1}
    assert "another kind" in said()[0]


@pytest.mark.parametrize("path", ["/dev/null/sse.sock", "/" + "x" * 200, ""])
def test_where_no_socket_can_be(configure: Configure, said: Said, path: str) -> None:
    configure(SOCKET=path)
    assert sse.broadcast("e") is None
    assert sse.broadcast("e", confirm=True) is None
    assert sum(sse.counts().values()) == 2
    assert "sent" not in sse.counts()
    assert said()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give up its rights")
@pytest.mark.parametrize("how", [{}, {"confirm": True}])
def test_a_socket_of_another_owner(wire: Wire, said: Said, how: dict[str, Any]) -> None:
    wire.path.chmod(stat.S_IRUSR | stat.S_IWUSR)

    def attempt() -> Any:
        if how:
            sse.broadcast("e", **how)
        else:
            manager.deliver([Event("e", None, ALL)])  # there is no database in this process
        return [sse.counts(), said()]

    counts, messages = forked(attempt, user=NOBODY)
    assert counts == {"forbidden": 1}
    assert "may not write" in messages[0]
    assert wire.names() == []


class Clock:
    """Time that only passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.meanwhile()

    def waited(self) -> float:
        """Return how long it was slept since the last look."""
        total = sum(self.slept)
        self.slept.clear()
        return total


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(backends, "time", clock)
    monkeypatch.setattr(manager, "time", clock)
    return clock


@pytest.mark.parametrize("timeout", [0.1, 0.15, 1.0])
def test_a_full_socket_is_waited_for_once_and_then_not_for_a_second(
    wire: Wire, configure: Configure, said: Said, clock: Clock, timeout: float
) -> None:
    configure(TIMEOUT=timeout)
    wire.fill()
    sse.broadcast("e")
    assert clock.waited() == pytest.approx(timeout)
    for _ in range(100):
        sse.broadcast("e")
    assert clock.waited() == 0
    clock.now += 0.99
    sse.broadcast("e")
    assert clock.waited() == 0
    clock.now += 0.02
    sse.broadcast("e")
    assert clock.waited() == pytest.approx(timeout)
    assert sse.counts() == {"full": 103}
    (message,) = said()
    assert "full" in message


def test_an_event_goes_as_soon_as_there_is_room(wire: Wire, configure: Configure, clock: Clock) -> None:
    configure(TIMEOUT=10)
    wire.fill()

    def read() -> None:
        if sum(clock.slept) > 1:
            wire.datagrams()

    clock.meanwhile = read
    sse.broadcast("e")
    assert wire.names() == ["e"]
    assert clock.waited() < 1.1
    assert sse.counts() == {"sent": 1}


def test_an_event_loop_is_held_up_for_a_moment_only(wire: Wire, configure: Configure, clock: Clock) -> None:
    configure(TIMEOUT=10)
    wire.fill()

    async def view() -> None:
        sse.broadcast("e")

    asyncio.run(view())
    assert clock.waited() == pytest.approx(0.05)


def test_a_timeout_of_none_does_not_wait(wire: Wire, configure: Configure, clock: Clock) -> None:
    configure(TIMEOUT=0)
    wire.fill()
    sse.broadcast("e")
    assert (clock.waited(), sse.counts()) == (0, {"full": 1})


def test_confirm_waits_for_a_full_socket_no_longer_than_for_an_answer(wire: Wire, configure: Configure) -> None:
    configure(CONFIRM_TIMEOUT=0.01)
    wire.fill()
    assert sse.broadcast("e", confirm=True) is None
    assert sum(sse.counts().values()) == 1


@pytest.mark.parametrize("how", [{}, {"confirm": True}])
def test_an_event_too_large_for_sse(wire: Wire, configure: Configure, said: Said, how: dict[str, Any]) -> None:
    configure(MAX_BYTES=1000, CONFIRM_TIMEOUT=0.01)
    whole = len(Event("e", "", ALL).line)
    assert sse.broadcast("e", "x" * (1001 - whole), **how) is None
    assert wire.lines() == []
    assert sse.counts() == {"too_large": 1}
    (message,) = said()
    why = "e has 1001 bytes, and sse takes 1000 (SSE['MAX_BYTES'])"
    assert message == f"an event was not sent: {why} [too_large, 1 so far]"
    sse.broadcast("e", "x" * (1000 - whole))
    assert wire.names() == ["e"]


@pytest.mark.parametrize("how", [{}, {"confirm": True}])
def test_an_event_too_large_for_the_kernel(wire: Wire, configure: Configure, said: Said, how: dict[str, Any]) -> None:
    configure(MAX_BYTES=1 << 30)
    assert sse.broadcast("e", "x" * (3 * WMEM_MAX), **how) is None
    assert wire.lines() == []
    assert sse.counts() == {"too_large": 1}
    assert "wmem_max" in said()[0]


@pytest.mark.skipif(WMEM_MAX < 2 << 20, reason="net.core.wmem_max is what the kernel gives by default")
def test_an_event_larger_than_the_kernel_takes_by_default(wire: Wire, configure: Configure) -> None:
    configure(MAX_BYTES=1 << 20)
    sse.broadcast("e", "x" * 1_000_000)
    assert wire.names() == ["e"]
    with Answers(wire, answered(ok=True, id="1-0", matched=0)):
        assert sse.broadcast("e", "x" * 1_000_000, confirm=True) == Ack("1-0", 0)


CANNOT_BE_SENT: dict[str, tuple[str, Callable[..., Ack | None]]] = {
    "a set": ("data", lambda **how: sse.broadcast("e", {1, 2}, **how)),
    "nan": ("data", lambda **how: sse.broadcast("e", float("nan"), **how)),
    "two words": ("name", lambda **how: sse.broadcast("two words", **how)),
    "no name": ("name", lambda **how: sse.broadcast(NOTHING, **how)),
    "empty": ("audience", lambda **how: sse.send_to_user("", "e", **how)),
    "long": ("audience", lambda **how: sse.send_to_user("x" * 65, "e", **how)),
    "surrogate": ("audience", lambda **how: sse.send_to_user("\ud83d", "e", **how)),
    "not saved": ("audience", lambda **how: sse.send_to_user(get_user_model()(), "e", **how)),
    "one of two": ("audience", lambda **how: sse.send_to_users([7, ""], "e", **how)),
    "no id": ("audience", lambda **how: sse.send_to_user("прораб@example.com", "e", **how)),
    "a project": ("audience", lambda **how: sse.send_to_user(Project(pk=7, name="p"), "e", **how)),
    "projects": ("audience", lambda **how: sse.send_to_users([7, Project(pk=7, name="p")], "e", **how)),
    "role": ("audience", lambda **how: sse.send_to_role("", "e", **how)),
    "no role": ("audience", lambda **how: sse.send_to_role(7, "e", **how)),
    "excluded from role": ("audience", lambda **how: sse.send_to_role("r", "e", exclude=[""], **how)),
    "excluded": ("audience", lambda **how: sse.broadcast("e", exclude="x" * 65, **how)),
    "refresh": ("audience", lambda **how: sse.refresh("", **how)),
    "revoke": ("audience", lambda **how: sse.revoke("x" * 65, **how)),
    "revoke a project": ("audience", lambda **how: sse.revoke(Project(pk=7, name="p"), **how)),
}


@pytest.mark.parametrize(("reason", "send"), CANNOT_BE_SENT.values(), ids=CANNOT_BE_SENT)
@pytest.mark.parametrize("how", [{}, {"confirm": True}])
def test_what_cannot_be_sent_breaks_nothing(
    wire: Wire,
    said: Said,
    configure: Configure,
    reason: str,
    send: Callable[..., Ack | None],
    how: dict[str, Any],
) -> None:
    assert send(**how) is None
    assert sse.counts() == {reason: 1}
    assert len(said()) == 1
    configure(RAISE=True)
    with pytest.raises(SSEError) as raised:
        send(**how)
    assert raised.value.reason == reason
    assert wire.lines() == []


def test_who_is_no_user_is_called_what_he_is(said: Said) -> None:
    """His id would be that of a user: somebody else would be told."""
    sse.send_to_user(Project(pk=7, name="Школа"), "e")
    (message,) = said()
    assert message == (
        "an event was not sent: not a user: <Project: Школа> is a estimates.Project [audience, 1 so far]"
    )


class Unwritable:
    """Has a mistake of its own."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    def __iter__(self) -> Iterator[Any]:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "send",
    [
        lambda **how: sse.send_to_user(Unwritable(), "e", **how),
        lambda **how: sse.send_to_users(Unwritable(), "e", **how),
        lambda **how: sse.send_to_role("r", "e", exclude=Unwritable(), **how),
        lambda **how: sse.send_to_role(FIVE, "e", **how),
        lambda **how: sse.broadcast("e", exclude=Unwritable(), **how),
        lambda **how: sse.refresh(Unwritable(), **how),
    ],
    ids=["user", "users", "exclude-of-role", "role", "exclude", "refresh"],
)
@pytest.mark.parametrize("how", [{}, {"confirm": True}])
def test_a_mistake_in_what_was_given_breaks_nothing(
    said: Said, configure: Configure, send: Callable[..., Ack | None], how: dict[str, Any]
) -> None:
    configure(CONFIRM_TIMEOUT=0.01)
    assert send(**how) is None
    assert sum(sse.counts().values()) == 1
    assert said()


@pytest.mark.parametrize("backend", ["estimates.hooks.Broken", "estimates.hooks.Unmade", "estimates.hooks.NoSuch"])
@pytest.mark.parametrize("how", [{}, {"confirm": True}])
def test_a_backend_of_the_sites_own_may_raise_anything(
    configure: Configure, said: Said, backend: str, how: dict[str, Any]
) -> None:
    configure(BACKEND=backend)
    assert sse.broadcast("e", **how) is None
    assert sse.counts() == {"error": 1}
    assert said()
    configure(BACKEND=backend, RAISE=True)
    with pytest.raises((ZeroDivisionError, ImportError)):
        sse.broadcast("e", **how)


@autocommit
def test_raise_raises_at_the_commit_which_has_taken_place(configure: Configure, person: Make) -> None:
    configure(RAISE=True)

    @transaction.atomic
    def join() -> None:
        sse.send_to_user(person(username="new"), "e")

    with pytest.raises(SSEError) as raised:
        join()
    assert raised.value.reason == "missing"
    assert get_user_model().objects.filter(username="new").exists()


@autocommit
def test_without_it_the_other_callbacks_of_the_commit_run(configure: Configure) -> None:
    configure(BACKEND="estimates.hooks.Broken")
    ran: list[int] = []
    with transaction.atomic():
        sse.broadcast("e")
        transaction.on_commit(lambda: ran.append(1))
    assert ran == [1]


# ---- what is said of it ----


def test_a_thousand_failures_are_said_once(said: Said) -> None:
    for _ in range(1000):
        sse.broadcast("e")
    assert sse.counts() == {"missing": 1000}
    (message,) = said()
    assert message.endswith("[missing, 1 so far]")


def test_a_failure_that_lasts_is_said_once_a_minute_with_a_count(said: Said, clock: Clock) -> None:
    for _ in range(121):
        sse.broadcast("e")
        clock.now += 1
    assert [message.rsplit("[", 1)[1] for message in said()] == [
        "missing, 1 so far]",
        "missing, 61 so far]",
        "missing, 121 so far]",
    ]


def test_failures_of_different_kinds_are_each_said(said: Said) -> None:
    for _ in range(10):
        sse.broadcast("e")
        sse.broadcast("e", float("nan"))
        sse.broadcast("")
    assert sse.counts() == {"missing": 10, "data": 10, "name": 10}
    assert len(said()) == 3


def test_that_events_go_again_is_said_once_with_how_many_did_not(wire: Wire, configure: Configure, said: Said) -> None:
    configure(SOCKET=f"{wire.path}.missing")
    for _ in range(5):
        sse.broadcast("e")
    configure(SOCKET=str(wire.path))
    for _ in range(5):
        sse.broadcast("e")
    assert len(said()) == 2
    assert "sent again; 5 were not" in said()[1]
    assert sse.counts() == {"missing": 5, "sent": 5}


def test_a_mistake_made_over_and_over_is_said_once_though_others_go(wire: Wire, said: Said) -> None:
    """It is no outage that has ended, and the log of a busy site would be full of it."""
    for _ in range(5):
        sse.broadcast("bad", float("nan"))
        sse.broadcast("good")
        wire.datagrams()
    assert sse.counts() == {"data": 5, "sent": 5}
    assert len(said()) == 1


def test_an_outage_that_comes_and_goes_is_said_once_a_minute(
    wire: Wire, configure: Configure, said: Said, clock: Clock
) -> None:
    def come_and_go() -> None:
        for _ in range(10):
            configure(SOCKET=f"{wire.path}.missing")
            sse.broadcast("e")
            configure(SOCKET=str(wire.path))
            sse.broadcast("e")
            wire.datagrams()

    come_and_go()
    assert len(said()) == 2
    clock.now += 60
    come_and_go()
    assert len(said()) == 4
    assert sse.counts() == {"missing": 20, "sent": 20}


def test_a_backend_that_is_broken_is_said_once_with_where(
    configure: Configure, said: Said, caplog: pytest.LogCaptureFixture
) -> None:
    configure(BACKEND="estimates.hooks.Broken")
    for _ in range(1000):
        sse.broadcast("e")
    assert sse.counts() == {"error": 1000}
    assert len(said()) == 1
    assert "hooks.py" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_counts_are_a_copy() -> None:
    sse.counts()["sent"] = 5
    assert sse.counts() == {}


# ---- confirm=True ----


@pytest.mark.parametrize(
    ("answer", "ack"),
    [
        (answered(ok=True, id="1704110400123-0", matched=12), Ack("1704110400123-0", 12)),
        (answered(ok=True, id="1-0", matched=0, stored=False), Ack("1-0", 0, stored=False)),
        (answered(ok=True, id="1-0", matched=0, stored=True), Ack("1-0", 0)),
        (answered(ok=True, id="1-0", matched=0, later="more"), Ack("1-0", 0)),
        (answered(ok=True, id="1-0", matched=1) + b"\n", Ack("1-0", 1)),
        (b'{"ok":true,"id":"1-0","matched":1}\n{"ok":true,"id":"2-0","matched":2}', Ack("1-0", 1)),
    ],
    ids=["ok", "not-stored", "stored", "newer", "line", "lines"],
)
def test_confirm_gives_the_answer(wire: Wire, said: Said, answer: bytes, ack: Ack) -> None:
    with Answers(wire, answer) as answers:
        assert sse.send_to_user(7, "e", "x", confirm=True) == ack
    assert answers.asked == {"event": "e", "data": "x", "to": {"users": ["7"]}}
    assert sse.counts() == {"sent": 1}
    assert said() == []


@pytest.mark.parametrize(
    ("send", "asked"),
    [
        (lambda: sse.send("e", None, ALL, confirm=True), "e"),
        (lambda: sse.send_to_users([7], "e", confirm=True), "e"),
        (lambda: sse.send_to_role("r", "e", confirm=True), "e"),
        (lambda: sse.broadcast("e", confirm=True), "e"),
        (lambda: sse.revoke(7, confirm=True), "revoke"),
        (lambda: sse.revoke(sid="s", confirm=True), "revoke"),
        (lambda: sse.refresh(7, confirm=True), "refresh"),
        (sse.ping, "ping"),
    ],
)
def test_every_method_can_be_confirmed(wire: Wire, send: Callable[[], Ack | None], asked: str) -> None:
    with Answers(wire, answered(ok=True, id="1-0", matched=3)) as answers:
        assert send() == Ack("1-0", 3)
    assert asked in answers.asked.values()


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"garbage", b"\xff\xfe", b"[]", b"null", b"{}", b'{"ok":true}', b'{"ok":false}', b'{"ok":1'),
        pytest.param(b"[" * 5000, id="deep"),
    ],
)
def test_an_answer_that_is_none_is_a_failure_as_others(
    wire: Wire, said: Said, configure: Configure, answer: bytes
) -> None:
    with Answers(wire, answer):
        assert sse.ping() is None
    assert "sent" not in sse.counts()
    assert sum(sse.counts().values()) == 1
    assert said()
    configure(RAISE=True)
    with Answers(wire, answer), pytest.raises(SSEError):
        sse.ping()


def test_a_refusal_is_said_in_the_words_of_sse(wire: Wire, said: Said, configure: Configure) -> None:
    refusal = answered(ok=False, error="data: nested too deep", at=17)
    with Answers(wire, refusal):
        assert sse.broadcast("e", confirm=True) is None
    assert sse.counts() == {"refused": 1}
    assert "data: nested too deep" in said()[0]
    configure(RAISE=True)
    with Answers(wire, refusal), pytest.raises(SSEError) as raised:
        sse.broadcast("e", confirm=True)
    assert (raised.value.reason, str(raised.value)) == ("refused", "sse refused it: data: nested too deep")


def test_no_answer_in_time(wire: Wire, configure: Configure, said: Said) -> None:
    configure(CONFIRM_TIMEOUT=0.01)
    assert sse.ping() is None
    assert wire.names() == ["ping"]
    assert sse.counts() == {"timeout": 1}
    assert "did not answer in 0.01 s" in said()[0]


@autocommit
def test_confirm_does_not_wait_for_the_commit(wire: Wire) -> None:
    with transaction.atomic():
        sse.broadcast("later")
        with Answers(wire, answered(ok=True, id="1-0", matched=3)) as answers:
            assert sse.broadcast("at-once", confirm=True) == Ack("1-0", 3)
        assert answers.asked["event"] == "at-once"
        assert wire.names() == []
        transaction.set_rollback(True)
    assert wire.names() == []


def test_an_answer_is_never_taken_for_that_of_another_question(wire: Wire) -> None:
    def serve() -> None:
        asked = [wire.socket.recvfrom(65536) for _ in range(20)]
        for datagram, sender in reversed(asked):
            wire.socket.sendto(answered(ok=True, id="1-0", matched=json.loads(datagram)["data"]), sender)

    wire.socket.settimeout(60)
    server = threading.Thread(target=serve)
    server.start()
    acks: dict[int, Ack | None] = {}
    threads(20, lambda number: acks.update({number: SSEManager().broadcast("e", number, confirm=True)}))
    server.join()
    assert acks == {number: Ack("1-0", number) for number in range(20)}


# ---- many at a time ----


def test_many_events_go_in_few_datagrams(wire: Wire, configure: Configure) -> None:
    configure(MAX_BYTES=10_000)
    events = [Event("e", {"n": number, "text": "Ж" * 40}, ALL) for number in range(500)]
    with Reader(wire, 500) as reader:
        manager.deliver(events)
    assert [line["data"]["n"] for line in reader.lines] == list(range(500))
    whole = sum(len(event.line) + 1 for event in events)
    assert all(size <= 10_000 for size in reader.sizes)
    assert len(reader.sizes) <= whole // (10_000 - len(events[0].line)) + 1
    assert sse.counts() == {"sent": 500}


@pytest.mark.parametrize(
    ("sizes", "packed"),
    [
        ([1000], [1000]),
        ([499, 500], [1000]),
        ([500, 500], [500, 500]),
        ([499, 499, 1000, 300, 300, 300], [999, 1000, 902]),
        ([], []),
    ],
)
def test_a_datagram_is_filled_to_the_last_byte(
    wire: Wire, configure: Configure, sizes: list[int], packed: list[int]
) -> None:
    configure(MAX_BYTES=1000)
    empty = len(Event("e", "", ALL).line)
    SocketBackend().send([Event("e", "x" * (size - empty), ALL) for size in sizes])
    assert [len(datagram) for datagram in wire.datagrams()] == packed


def test_one_that_is_too_large_does_not_take_the_others_along(wire: Wire, configure: Configure, said: Said) -> None:
    configure(MAX_BYTES=1000)
    manager.deliver([Event("one", 1, ALL), Event("large", "x" * 1000, ALL), Event("two", 2, ALL)])
    assert wire.names() == ["one", "two"]
    assert sse.counts() == {"sent": 2, "too_large": 1}
    assert "large has" in said()[0]


CROWD = range(100_000, 125_000)


@autocommit
def test_a_crowd_is_told_in_several_datagrams(wire: Wire, configure: Configure) -> None:
    """Ids of 25,000 users are no fit for one; what is in the event is said to each, as it was when it was sent."""
    configure(MAX_BYTES=50_000)
    data = {"text": "Ж" * 1000, "rows": [1]}
    with transaction.atomic():
        sse.send_to_users(CROWD, "e", data)
        data["rows"] = []
    datagrams = wire.datagrams()
    lines = [json.loads(datagram) for datagram in datagrams]
    assert len(datagrams) > 1
    assert all(len(datagram) <= 50_000 for datagram in datagrams)
    assert [int(user) for line in lines for user in line["to"]["users"]] == list(CROWD)
    assert all(line["event"] == "e" for line in lines)
    assert all(line["data"] == {"text": "Ж" * 1000, "rows": [1]} for line in lines)
    assert sse.counts() == {"sent": len(lines)}


def test_what_is_too_large_for_each_of_a_crowd_is_not_made_for_each() -> None:
    """A gigabyte of memory, of which nothing could be sent."""
    event = Event("e", "x" * 50_000, audience(users=CROWD))
    assert len(event.split(50_000)) == 1


def test_who_is_excepted_is_so_in_each_part(wire: Wire, configure: Configure) -> None:
    configure(MAX_BYTES=50_000)
    sse.send("e", 1, audience(users=CROWD, excepted=CROWD[0]))
    assert {str(line["except"]) for line in wire.lines()} == {str({"users": [str(CROWD[0])]})}


@pytest.mark.parametrize(
    "send",
    [
        lambda: sse.send("e", 1, audience(users=CROWD, roles=["r"])),
        lambda: sse.broadcast("e", 1, exclude=CROWD),
        lambda: sse.send_to_users(CROWD, "e", "x" * 50_000),
    ],
    ids=["roles-too", "all-but-these", "data"],
)
def test_a_crowd_that_cannot_be_told_apart_is_too_large(
    wire: Wire, configure: Configure, said: Said, send: Callable[[], Ack | None]
) -> None:
    """Who has a role and is a user of another part would be told twice."""
    configure(MAX_BYTES=50_000)
    assert send() is None
    assert wire.lines() == []
    assert sse.counts() == {"too_large": 1}
    assert "SSE['MAX_BYTES']" in said()[0]


def test_a_user_who_cannot_be_told_does_not_take_the_others_along(wire: Wire, said: Said) -> None:
    roles_changed([7, "x" * 65, 8])
    assert [line["user"] for line in wire.lines()] == ["7", "8"]
    assert sse.counts() == {"sent": 2, "audience": 1}
    assert said()


# ---- threads, forks, coroutines ----


def test_fifty_threads_send_at_a_time(wire: Wire, configure: Configure) -> None:
    configure(TIMEOUT=60)
    with Reader(wire, 50 * 20) as reader:

        def send(number: int) -> None:
            for n in range(20):
                SSEManager().send_to_user(number, "e", n)

        threads(50, send)
    for number in range(50):
        assert [line["data"] for line in reader.lines if line["to"] == {"users": [str(number)]}] == list(range(20))
    assert sse.counts() == {"sent": 1000}


def test_threads_that_fail_are_all_counted(said: Said) -> None:
    threads(50, lambda _: [sse.broadcast("e") for _ in range(20)])
    assert sse.counts() == {"missing": 1000}
    assert len(said()) == 1


def _counts_after(name: str) -> dict[str, int]:
    manager.deliver([Event(name, None, ALL)])
    return sse.counts()


def test_after_a_fork_both_send(wire: Wire) -> None:
    assert _counts_after("before") == {"sent": 1}
    assert forked(lambda: _counts_after("of-the-child")) == {"sent": 2}
    assert _counts_after("of-the-parent") == {"sent": 2}
    assert wire.names() == ["before", "of-the-child", "of-the-parent"]


def test_a_fork_while_other_threads_are_in_the_middle_of_it(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that another thread held is held for ever in the child, where that thread is not."""
    opening, go_on = threading.Event(), threading.Event()

    def slow(*how: Any) -> socket.socket:
        if threading.current_thread() is not threading.main_thread():
            opening.set()
            go_on.wait()
        return socket.socket(*how)

    fake = SimpleNamespace(**{name: getattr(socket, name) for name in dir(socket) if name.isupper()})
    fake.socket = slow
    monkeypatch.setattr(backends, "socket", fake)
    thread = threading.Thread(target=_counts_after, args=("of-a-thread",))
    thread.start()
    opening.wait()
    with manager.report._lock:
        assert forked(lambda: _counts_after("of-the-child")) == {"sent": 1}
    go_on.set()
    thread.join()
    assert wire.names() == ["of-the-child", "of-a-thread"]


@pytest.mark.usefixtures("wire")
def test_a_child_has_room_of_its_own() -> None:
    """The kernel charges the socket that sends, so parent and child must not have the same."""

    def inode() -> int:
        made = manager._backend()
        assert isinstance(made, SocketBackend)
        return os.fstat(made._open().fileno()).st_ino

    before = inode()
    assert forked(inode) != before
    assert inode() == before


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_changed_settings_leave_no_socket_open(wire: Wire, configure: Configure) -> None:
    _counts_after("e")
    before = _descriptors()
    for n in range(20):
        configure(CONFIRM_TIMEOUT=1.0 + n)
        _counts_after("e")
        wire.datagrams()
    gc.collect()
    assert _descriptors() <= before


def test_a_backend_that_nobody_has_is_gone() -> None:
    backend = SocketBackend()
    gone = weakref.ref(backend)
    del backend
    gc.collect()
    assert gone() is None


def test_a_default_timeout_for_sockets_changes_nothing(
    wire: Wire, configure: Configure, clock: Clock, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(lambda: socket.setdefaulttimeout(None))
    for default in (0.0, 1000.0):
        socket.setdefaulttimeout(default)
        configure(TIMEOUT=0.1)  # a new backend
        assert _counts_after("e")["sent"]
        assert wire.names() == ["e"]
        with Answers(wire, answered(ok=True, id="1-0", matched=3)):
            assert sse.ping() == Ack("1-0", 3)
        wire.fill()
        _counts_after("e")
        assert clock.waited() == pytest.approx(0.1)
        wire.datagrams()


@autocommit
@pytest.mark.parametrize("database_in_use", [False, True])
def test_a_coroutine_sends_at_once(wire: Wire, person: Make, database_in_use: bool) -> None:
    if database_in_use:
        person()

    async def tell() -> list[str]:
        sse.send_to_user(7, "one")
        await asyncio.gather(*(asyncio.to_thread(sse.broadcast, "two") for _ in range(3)))
        sse.revoke(7)
        roles_changed([7])
        return wire.names()

    assert asyncio.run(tell()) == ["one", "two", "two", "two", "revoke", "refresh"]


@autocommit
def test_an_async_view_that_writes(wire: Wire) -> None:
    def rename(name: str) -> str:
        with transaction.atomic():
            get_user_model().objects.create(username=name)
            sse.broadcast("of-a-transaction", name)
            assert wire.names() == ["of-the-view"]
        return name

    async def view(request: HttpRequest) -> JsonResponse:
        sse.broadcast("of-the-view", request.path)
        name = await sync_to_async(rename)("new")
        await get_user_model().objects.acreate(username="another")
        sse.broadcast("of-the-view", name)
        await sync_to_async(connections.close_all)()
        return JsonResponse({})

    async def ask() -> int:
        response = await view(AsyncRequestFactory().get("/x/"))
        return response.status_code

    assert asyncio.run(ask()) == 200
    assert wire.names() == ["of-a-transaction", "of-the-view"]


# ---- settings ----


def test_settings_take_effect_at_once(place: Path, configure: Configure, sse_outbox: list[Any]) -> None:
    sse.broadcast("to-memory")
    one, two = Wire(place / "one"), Wire(place / "two")
    for wire in (one, two, one):
        configure(SOCKET=str(wire.path), BACKEND="sse_django.backends.SocketBackend")
        sse.broadcast(f"to-{wire.path.name}")
    assert [event.name for event in sse_outbox] == ["to-memory"]
    assert (one.names(), two.names()) == (["to-one", "to-one"], ["to-two"])
    one.close()
    two.close()


def test_the_memory_backend_takes_what_sse_would(configure: Configure, sse_outbox: list[Any]) -> None:
    configure(MAX_BYTES=300)
    hows: list[dict[str, Any]] = [{}, {"confirm": True}]
    for how in hows:
        with pytest.raises(SSEError) as raised:
            sse.broadcast("e", "x" * 300, **how)
        assert raised.value.reason == "too_large"
    assert sse_outbox == []
    assert sse.ping() == Ack("1-0", 0)
    assert sse_outbox == [Operation("ping")]


def test_confirm_leaves_no_file_behind(wire: Wire) -> None:
    with Answers(wire, answered(ok=True, id="1-0", matched=0)):
        sse.ping()
    assert [entry.name for entry in wire.path.parent.iterdir()] == ["sse.sock"]
