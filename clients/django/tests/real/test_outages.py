"""sse is restarted, stopped, missing, not ours, or does not want it: the site goes on, and what was lost is known."""

from __future__ import annotations

import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from .harness import Browser, counted, wait_for
from .site import acts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import MakeActor, MakeSse
    from .harness import Actor, Place, Sse, Web

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
ENDS = {"TERM": signal.SIGTERM, "kill -9": signal.SIGKILL}


@pytest.fixture(params=[False, True], ids=["without journal", "with journal"])
def journaled(request: pytest.FixtureRequest, make_sse: MakeSse, tokens: Path, tmp_path: Path) -> Sse:
    """An sse without, and one with a journal."""
    options = ["--token-file", str(tokens)]
    if request.param:
        journal = tmp_path / "journal"
        journal.mkdir()
        options += ["--journal", str(journal)]
    return make_sse(None, *options)


@pytest.fixture
def actor(make_actor: MakeActor) -> Actor:
    return make_actor()


def end(sse: Sse, number: signal.Signals) -> None:
    sse.signal(number)
    sse.wait()


@pytest.mark.parametrize("how", ENDS)
def test_a_sender_goes_on_when_sse_was_restarted(journaled: Sse, actor: Actor, how: str) -> None:
    with Browser(journaled, "manager-token") as browser:
        actor.do(acts.count_off, "it", 5)
        browser.until_named("count", 5)
        end(journaled, ENDS[how])
        actor.do(acts.count_off, "it", 15, since=5)
        assert actor.do(acts.counts) == {"sent": 5, "missing": 10}
        journaled.start()
        browser.until_connected(2)
        actor.do(acts.count_off, "it", 20, since=15)
        browser.until_named("count", 10)
        assert counted(browser) == {"it": [*range(5), *range(15, 20)]}
    assert actor.do(acts.counts) == {"sent": 10, "missing": 10}
    lost, again = actor.logged()
    assert "an event was not sent" in lost
    assert str(journaled.socket) in lost
    assert "10 were not" in again


@pytest.mark.parametrize("how", ENDS)
def test_sse_is_restarted_amid_a_flow(journaled: Sse, actor: Actor, tmp_path: Path, how: str) -> None:
    with Browser(journaled, "manager-token") as browser:
        actor.begin(acts.count_off_until, "it", str(tmp_path / "enough"))
        browser.until_named("count", 20)
        end(journaled, ENDS[how])
        before = len(browser.data_of("count"))
        journaled.start()
        browser.until_named("count", before + 20)
        (tmp_path / "enough").touch()
        total = actor.end()
        actor.do(acts.say, "that.was.all")
        browser.until_named("that.was.all")
        heard = counted(browser)["it"]
    counts = actor.do(acts.counts)
    assert heard == sorted(set(heard)), "in order, none twice"
    assert counts["sent"] + counts.get("missing", 0) == total + 1
    assert heard[-1] == total - 1
    if how == "TERM" and "--journal" in journaled.options:
        assert len(heard) + 1 == counts["sent"], "what was sent is taken in, and replayed"


def test_without_sse_the_site_works_and_the_log_says_once_what_is_wrong(place: Place, actor: Actor, web: Web) -> None:
    assert not place.socket.exists()
    assert web.do(acts.file_estimate, "23") > 0
    actor.do(acts.count_off, "it", 100)
    assert actor.do(acts.counts) == {"missing": 100}
    (said,) = actor.logged()
    assert f"there is no socket at {place.socket}" in said
    assert "sse_django.W001" in place.manage("check").stderr


@root_only
def test_a_socket_of_another_owner(sse: Sse, place: Place, actor: Actor) -> None:
    actor.do(acts.become_nobody)
    with sse.join("manager-token") as stream:
        actor.do(acts.count_off, "it", 100)
        assert actor.do(acts.say_confirmed, "news") is None
        assert actor.do(acts.counts) == {"forbidden": 101}
        (said,) = actor.logged()
        assert f"this process may not write to {place.socket}" in said
        place.socket.chmod(0o666)
        actor.do(acts.say, "news")
        stream.hears("news")


@pytest.fixture
def stopped(sse: Sse) -> Iterator[Sse]:
    sse.signal(signal.SIGSTOP)
    yield sse
    sse.signal(signal.SIGCONT)


@pytest.mark.usefixtures("stopped")
def test_a_request_that_sends_much_ends_while_sse_is_stopped(web: Web) -> None:
    """If each of the 500 waited for its share, that would be 50 seconds."""
    web.do(acts.count_off, "it", 500)
    assert web.do(acts.file_estimate, "24") > 0


def test_when_sse_goes_on_so_do_its_senders(sse: Sse, actor: Actor) -> None:
    """At once, and no less patient than before."""
    with Browser(sse, "manager-token") as browser:
        sse.signal(signal.SIGSTOP)
        actor.do(acts.count_off, "it", 500)
        counts = actor.do(acts.counts)
        assert counts["sent"] + counts["full"] == 500
        sse.signal(signal.SIGCONT)
        browser.until_named("count", counts["sent"])
        actor.do(acts.count_off, "it", 2000, since=500)
        browser.until(lambda: browser.data_of("count")[-1]["n"] == 1999, "the last one arrives")
        assert counted(browser) == {"it": [*range(counts["sent"]), *range(500, 2000)]}
    lost, again = actor.logged()
    assert "is full" in lost
    assert f"{counts['full']} were not" in again


def test_a_fault_that_comes_and_goes_is_logged_once(sse: Sse, actor: Actor) -> None:
    sse.signal(signal.SIGSTOP)
    for _ in range(3):
        actor.do(acts.count_off, "it", 50)
        sse.signal(signal.SIGCONT)
        wait_for(lambda: actor.do(acts.say_confirmed, "news"), "sse answers")
        sse.signal(signal.SIGSTOP)
    sse.signal(signal.SIGCONT)
    lost, again = actor.logged()
    assert "is full" in lost
    assert "were not" in again


def test_a_stopped_sse_answers_nobody(sse: Sse, actor: Actor) -> None:
    with sse.join("manager-token") as stream:
        sse.signal(signal.SIGSTOP)
        assert actor.do(acts.say_confirmed, "news") is None
        sse.signal(signal.SIGCONT)
        assert actor.do(acts.counts) == {"timeout": 1}
        stream.hears("news")


def test_an_event_too_large_for_sse_is_refused_in_its_words(make_sse: MakeSse, tokens: Path, actor: Actor) -> None:
    sse = make_sse(None, "--token-file", str(tokens), "--datagram", "4K")
    with sse.join("manager-token") as stream:
        assert not actor.do(acts.say_large, "large", 5000, confirm=True)
        assert actor.do(acts.counts) == {"refused": 1}
        (said,) = actor.logged()
        assert "the datagram is longer than --datagram" in said
        actor.do(acts.say_large, "large", 5000)
        sse.wait_log("msg=bad_datagram", 2)
        actor.do(acts.say, "news")
        stream.hears("news")


def test_an_event_too_large_for_the_settings_takes_no_other_with_it(sse: Sse, actor: Actor) -> None:
    with sse.join("manager-token") as stream:
        actor.do(acts.create_in_bulk, ["1", "2" * 210_000, "3"], None)
        numbers = [stream.hears("estimate.created")["data"]["estimate_number"] for _ in range(2)]
        assert numbers == ["1", "3"]
    assert actor.do(acts.counts) == {"sent": 2, "too_large": 1}


def test_of_a_bulk_that_was_sent_in_part_that_part_is_counted(sse: Sse, actor: Actor) -> None:
    """sse is stopped: some datagrams fit into its socket, the others are lost."""
    with Browser(sse, "manager-token") as browser:
        sse.signal(signal.SIGSTOP)
        actor.do(acts.create_in_bulk, [f"{i} {'x' * 100_000}" for i in range(30)], None)
        counts = actor.do(acts.counts)
        sse.signal(signal.SIGCONT)
        browser.until_named("estimate.created", 1)
        actor.do(acts.say, "that.was.all")
        browser.until_named("that.was.all")
        heard = len(browser.data_of("estimate.created"))
    assert counts == {"sent": heard, "full": 30 - heard}


@pytest.mark.usefixtures("stopped")
def test_confirm_waits_without_working(actor: Actor) -> None:
    """While the socket is full, too."""
    actor.do(acts.count_off, "it", 100)
    asleep, busy = actor.do(acts.time_of_a_confirm)
    assert busy < asleep / 5


def test_a_stopped_sse_that_is_killed_and_started_anew(sse: Sse, actor: Actor) -> None:
    sse.signal(signal.SIGSTOP)
    actor.do(acts.count_off, "it", 100)
    end(sse, signal.SIGKILL)
    sse.start()
    with Browser(sse, "manager-token") as browser:
        actor.do(acts.count_off, "it", 200, since=100)
        browser.until_named("count", 100)
        assert counted(browser) == {"it": list(range(100, 200))}


def test_another_program_at_the_socket_is_named(place: Place, actor: Actor) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(place.socket))
        other.listen()
        try:
            actor.do(acts.say, "news")
        finally:
            place.socket.unlink()
    (said,) = actor.logged()
    assert f"{place.socket} is a socket of another kind" in said
