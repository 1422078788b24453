"""What is lost while sse is away is not lost in silence: see sse_django.recovery."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from estimates.wire import Wire
from sse_django import SSEManager, recovery
from sse_django.recovery import recovery as kept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Configure

sse = SSEManager()
RESYNC = {"event": "system.resync", "data": {"reason": "lost"}, "to": "all"}


@pytest.fixture
def away(place: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Wire]]:
    """Nobody is at the socket, until this is called."""
    path = place / "sse.sock"
    configure(SOCKET=str(path), RESYNC=True, TIMEOUT=0)
    monkeypatch.setattr(recovery, "PAUSE_S", 0.001)
    wires: list[Wire] = []

    def back() -> Wire:
        wires.append(Wire(path))
        assert kept.wait(30)
        return wires[0]

    yield back
    if not wires:
        back()
    wires[0].close()


def test_pages_are_told_to_reload_when_sse_is_there_again(away: Callable[[], Wire]) -> None:
    for n in range(3):
        sse.broadcast("e", n)
    assert away().lines() == [RESYNC]
    assert sse.counts() == {"missing": 3, "sent": 1}


def test_revocations_are_sent_again_in_order(away: Callable[[], Wire]) -> None:
    sse.revoke(7)
    sse.broadcast("e")
    sse.revoke(sid="s1")
    sse.refresh(8)
    assert away().lines() == [
        {"op": "revoke", "user": "7"},
        {"op": "revoke", "sid": "s1"},
        {"op": "refresh", "user": "8"},
        RESYNC,
    ]


def test_who_lost_only_a_revocation_tells_nobody_to_reload(away: Callable[[], Wire]) -> None:
    sse.revoke(7)
    assert away().lines() == [{"op": "revoke", "user": "7"}]


def test_a_second_outage_is_told_too(away: Callable[[], Wire]) -> None:
    sse.broadcast("e")
    wire = away()
    assert wire.lines() == [RESYNC]
    wire.fill()
    sse.broadcast("e")
    told = wire.datagrams()
    assert kept.wait(30)
    told += wire.datagrams()
    assert [json.loads(one) for one in told if one != b"x"] == [RESYNC]


@pytest.mark.parametrize("data", [object(), "x" * 300_000])
def test_a_mistake_is_no_outage(away: Callable[[], Wire], data: object) -> None:
    sse.broadcast("e", data)
    assert away().lines() == []


def test_it_can_be_switched_off(away: Callable[[], Wire], configure: Configure) -> None:
    configure(RESYNC=False)
    sse.broadcast("e")
    assert away().lines() == []


def test_a_forked_process_has_no_losses_of_its_parents(away: Callable[[], Wire]) -> None:
    sse.broadcast("e")
    child = os.fork()
    if child == 0:
        os._exit(0 if kept.wait(0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert away().lines() == [RESYNC]
