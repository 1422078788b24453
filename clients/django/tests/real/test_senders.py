"""Events come from everywhere: each arrives once, and in the order in which its sender sent it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from .harness import Browser, Process, counted
from .site import acts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import MakeActor, MakeSse
    from .harness import Place, Sse, Web

EACH = 50


@pytest.fixture
def browser(sse: Sse) -> Iterator[Browser]:
    with Browser(sse, "manager-token") as browser:
        yield browser


def must_arrive(browser: Browser, sse: Sse, *senders: str, each: int = EACH) -> None:
    """All of it, and nothing else after a last event."""
    browser.until(lambda: len(browser.data_of("count")) >= len(senders) * each, "all have arrived")
    sse.publish("that.was.all")
    browser.until_named("that.was.all")
    assert counted(browser) == {sender: list(range(each)) for sender in senders}


def test_a_view(sse: Sse, browser: Browser, web: Web) -> None:
    web.do(acts.count_off, "view", EACH)
    must_arrive(browser, sse, "view")


def test_an_async_view(sse: Sse, browser: Browser, async_web: Web) -> None:
    async_web.do_async(acts.count_off_async, "async view", EACH)
    async_web.do(acts.count_off, "view under ASGI", EACH)
    must_arrive(browser, sse, "async view", "view under ASGI")


def test_asave_in_an_async_view(browser: Browser, async_web: Web) -> None:
    anna, boris = async_web.do(acts.person)["id"], async_web.do(acts.person)["id"]
    pk = async_web.do_async(acts.file_estimate_async, "21", anna)
    async_web.do_async(acts.file_estimate_and_fail_async, "22", anna)
    async_web.do_async(acts.assign_async, pk, boris)
    browser.until_named("estimate.updated")
    told = [(e["event"], e["data"]["estimate_number"]) for e in browser.events if e["event"].startswith("estimate")]
    assert told == [("estimate.created", "21"), ("estimate.updated", "21")]


def test_the_shell(sse: Sse, browser: Browser, place: Place) -> None:
    code = f"from real.site.acts import count_off; count_off('shell', {EACH})"
    done = place.manage("shell", "-c", code)
    assert done.returncode == 0, done.stderr
    must_arrive(browser, sse, "shell")


def test_a_management_command(sse: Sse, browser: Browser, place: Place) -> None:
    place.act(acts.count_off, "command", EACH)
    must_arrive(browser, sse, "command")


@pytest.fixture
def celery(place: Place) -> Iterator[Process]:
    worker = Process(place.directory / "celery.log")
    worker.spawn(
        [
            *(sys.executable, "-m", "celery", "--app=real.site.tasks", "worker", "--pool=prefork", "--concurrency=2"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"),
        ],
        place.environment(),
    )
    yield worker
    worker.kill()  # its pool ends with it; asked politely, that takes five seconds


def test_a_celery_worker(sse: Sse, browser: Browser, place: Place, celery: Process) -> None:
    place.act(acts.enqueue, 4, EACH)
    must_arrive(browser, sse, *(f"task {i}" for i in range(4)))
    celery.must_run()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_after_a_first_event(sse: Sse, browser: Browser, make_actor: MakeActor, method: str) -> None:
    assert make_actor().do(acts.count_off_in_processes, method, 2, EACH) == [0, 0]
    must_arrive(browser, sse, "parent", "process 0", "process 1")
    assert len(browser.data_of("first")) == 1


def test_forks_after_a_first_event(sse: Sse, browser: Browser, make_actor: MakeActor) -> None:
    assert make_actor().do(acts.count_off_in_forks, 4, EACH) == [0] * 4
    must_arrive(browser, sse, "parent", *(f"fork {i}" for i in range(4)))
    assert len(browser.data_of("first")) == 1


def test_fifty_threads(sse: Sse, browser: Browser, make_actor: MakeActor) -> None:
    actor = make_actor()
    actor.do(acts.count_off_in_threads, 50, EACH)
    must_arrive(browser, sse, *(f"thread {i}" for i in range(50)))
    assert actor.do(acts.counts) == {"sent": 50 * EACH}


def test_a_fork_amid_the_sending_of_other_threads(browser: Browser, make_actor: MakeActor) -> None:
    """A lock that another thread held at the fork must not stop the child."""
    assert make_actor().do(acts.fork_amid_threads, 3, 100) == [0] * 100
    browser.until_named("fork", 100)
    assert browser.data_of("fork") == list(range(100))


ODD = [
    "Смета № 5 — «Север»",
    '\x00\x1f\x7f\u2028\u2029 \\ " </script>',
    "👷🏽‍♀️",
    {"": None, "deep": [[[[[{"a": []}]]]]], "numbers": [0, -0.0, 1e300, 2**70, -1], "yes": True},
    [],
    0,
    None,
]


@pytest.mark.parametrize("data", ODD, ids=[str(i) for i in range(len(ODD))])
def test_data_arrives_as_it_was(browser: Browser, web: Web, data: object) -> None:
    ack = web.do(acts.say_confirmed, "odd", data)
    assert ack is not None
    assert ack[1:] == [1, True]
    browser.until_named("odd")
    assert json.dumps(browser.data_of("odd")) == json.dumps([data])


def test_half_a_surrogate_pair_arrives(browser: Browser, make_actor: MakeActor) -> None:
    """UTF-8 can't write it, JSON can."""
    assert make_actor().do(acts.say_confirmed, "odd", "Щ\ud800") is not None
    browser.until_named("odd")
    assert browser.data_of("odd") == ["Щ\ud800"]


def test_operations_are_confirmed(web: Web, make_sse: MakeSse) -> None:
    sse = make_sse(web)
    anna = web.do(acts.person)
    with sse.join(anna["drf"]) as stream:
        assert web.do(acts.operate_confirmed, anna["id"]) == [True, True]
        stream.must_be_revoked()
