"""Many at once: none is lost while sse runs, whatever net.unix.max_dgram_qlen is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .harness import Browser, counted
from .site import acts

if TYPE_CHECKING:
    from .conftest import MakeActor
    from .harness import Sse

BURST = 5000


def test_one_process_sends_one_by_one(sse: Sse, make_actor: MakeActor) -> None:
    actor = make_actor()
    with Browser(sse, "manager-token") as browser:
        actor.do(acts.count_off, "it", BURST)
        browser.until_named("count", BURST)
        assert counted(browser) == {"it": list(range(BURST))}
    assert actor.do(acts.counts) == {"sent": BURST}


def test_fifty_threads_send_one_by_one(sse: Sse, make_actor: MakeActor) -> None:
    actor = make_actor()
    with Browser(sse, "manager-token") as browser:
        actor.do(acts.count_off_in_threads, 50, BURST // 10)
        assert actor.do(acts.counts) == {"sent": BURST * 5}
        browser.until_named("count", BURST * 5)
        assert counted(browser) == {f"thread {i}": list(range(BURST // 10)) for i in range(50)}


def test_a_bulk_helper_sends_in_few_datagrams(sse: Sse, make_actor: MakeActor) -> None:
    actor = make_actor()
    numbers = [str(i) for i in range(BURST)]
    with Browser(sse, "manager-token") as browser:
        actor.do(acts.create_in_bulk, numbers, None)
        browser.until_named("estimate.created", BURST)
        assert [data["estimate_number"] for data in browser.data_of("estimate.created")] == numbers
    assert actor.do(acts.counts) == {"sent": BURST}
