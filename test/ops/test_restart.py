"""Restarts under load, with sockets that a service manager keeps: nothing that was accepted is lost."""

import asyncio
import contextlib
import json
import os
import resource
import select
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import LIMIT, wait_for
from pages import Page, Pages, Publisher, until
from stage import ANNA, MakeServer, Passed, Server, datagram_socket, sanitized, tcp_listener

PAGES = 1000
ROLES = ("manager", "foreman", "worker")
RESTARTS = 3


def order(event_id: str) -> tuple[int, int]:
    ms, _, n = event_id.partition("-")
    return int(ms), int(n)


class Site:
    """The sockets, a thousand who may listen, and the server at them."""

    def __init__(self, make_server: MakeServer, directory: Path, *options: str) -> None:
        self.events = directory / "events.sock"
        self.datagrams = datagram_socket(self.events)
        self.web = tcp_listener()
        self.server: Server = make_server(
            "--retry", "300ms", "--retry-jitter", "300ms", *options, start=False, tokens=False
        )
        self.server.passed = (Passed(self.datagrams), Passed(self.web))
        self.tokens = [f"token-{i}" for i in range(PAGES)]
        lines = "".join(f"{token} {i} {ROLES[i % len(ROLES)]}\n" for i, token in enumerate(self.tokens))
        self.server.tokens.write_text(lines)
        self.server.options += ("--token-file", str(self.server.tokens))

    @property
    def port(self) -> int:
        port: int = self.web.getsockname()[1]
        return port

    async def start(self) -> None:
        starts = len(self.server.logged("msg=ready"))
        self.server.spawn_it()  # by this thread: with the one that does it, the server ends
        await asyncio.to_thread(self.server.wait_log, "msg=ready", starts + 1)

    async def stop(self) -> None:
        self.server.signal(signal.SIGTERM)
        assert await asyncio.to_thread(self.server.wait) == 0

    def close(self) -> None:
        self.datagrams.close()
        self.web.close()


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def audience(number: int) -> Any:
    """All, a role, one user: in turn."""
    if number % 3 == 0:
        return "all"
    if number % 3 == 1:
        return {"roles": [ROLES[number // 3 % len(ROLES)]]}
    return {"users": [number % PAGES, (number * 7) % PAGES]}


def is_for(page: int, number: int) -> bool:
    to = audience(number)
    return to == "all" or ROLES[page % len(ROLES)] in to.get("roles", ()) or page in to.get("users", ())


def missing(page: Page, i: int, accepted: list[int]) -> str:
    """What is wrong with what a page has heard; nothing, if nothing is."""
    expected = [number for number in accepted if is_for(i, number)]
    if page.heard == expected:
        return ""
    lost = [n for n in expected if n not in page.heard]
    return f"page {i} misses {lost[:5]} of {len(expected)}, heard {len(page.heard)}"


def answers(publishers: Sequence[Publisher]) -> int:
    return sum(len(p.answers) for p in publishers)


async def under_load(site: Site, publishers: list[Publisher]) -> Pages:
    pages = Pages(site.port, site.tokens)
    await site.start()
    pages.open()
    await pages.all_in()
    running = [asyncio.create_task(p.run(0.02)) for p in publishers]
    for i in range(RESTARTS):
        await until(lambda i=i: answers(publishers) > (i + 1) * 30, lambda: "they go on")  # type: ignore[misc]
        await site.stop()
        await site.start()
        await pages.all_in()
    for p in publishers:
        p.stopped = True
    await asyncio.gather(*running)
    return pages


@pytest.mark.usefixtures("many_files")
def test_a_thousand_streams_miss_nothing(make_server: MakeServer, directory: Path) -> None:
    """Every datagram is answered; every event that was acknowledged reaches each who may see it, once, in order; nobody
    is told to reload, and everybody is back."""
    (directory / "journal").mkdir()
    site = Site(make_server, directory, "--journal", str(directory / "journal"))

    async def scenario() -> None:
        publishers = [Publisher(site.events, i, 4, audience) for i in range(4)]
        pages = await under_load(site, publishers)
        for p in publishers:
            assert len(p.answers) == len(p.sent), "a datagram was not answered"
            assert [a for a in p.answers if not a["ok"] or a.get("stored") is False] == []
        accepted = sorted(
            ((order(a["id"]), n) for p in publishers for a, n in zip(p.answers, p.sent, strict=True)),
            key=lambda x: x[0],
        )
        numbers = [n for _, n in accepted]
        assert len(set(numbers)) == len(numbers)
        wrong: list[str] = []

        def all_heard() -> bool:
            wrong[:] = [w for i, page in enumerate(pages.all) if (w := missing(page, i, numbers))]
            return not wrong

        await until(all_heard, lambda: f"{len(wrong)} pages: {wrong[:3]}", 10)
        assert [page.bad for page in pages.all if page.bad] == []
        assert sum(page.events["system.resync"] for page in pages.all) == 0
        assert [len(page.away) for page in pages.all if len(page.away) != RESTARTS] == [], "once after each restart"
        assert pages.unreachable == 0
        await pages.close()

    asyncio.run(scenario())
    assert not site.server.logged("level=error")
    site.close()


@pytest.mark.usefixtures("many_files")
def test_without_a_journal_datagrams_are_not_lost(make_server: MakeServer, directory: Path) -> None:
    """What was sent while nobody was there is answered; the pages are told to reload, and live from then on."""
    site = Site(make_server, directory)

    async def scenario() -> None:
        publishers = [Publisher(site.events, 3 * i, 12, audience) for i in range(4)]
        pages = await under_load(site, publishers)
        for p in publishers:
            assert len(p.answers) == len(p.sent)
            assert [a for a in p.answers if not a["ok"]] == []
        for page in pages.all:
            assert page.heard == sorted(set(page.heard), key=page.heard.index), "one came twice"
            assert page.events["system.resync"] <= RESTARTS
        assert all(page.events["system.resync"] >= 1 for page in pages.all)
        heard = [len(page.heard) for page in pages.all]
        last = Publisher(site.events, 3_000_000, 3, audience)
        task = asyncio.create_task(last.run(0))
        await until(lambda: all(len(page.heard) > n for page, n in zip(pages.all, heard, strict=True)), lambda: "live")
        last.stopped = True
        await task
        await pages.close()

    asyncio.run(scenario())
    site.close()


def test_what_was_sent_while_it_was_away_reaches_who_comes_back(make_server: MakeServer, directory: Path) -> None:
    """With the journal: a page that was there before gets what was published between the two servers."""
    (directory / "journal").mkdir()
    site = Site(make_server, directory, "--journal", str(directory / "journal"))

    async def scenario() -> None:
        pages = Pages(site.port, site.tokens[:10])
        await site.start()
        pages.open()
        await pages.all_in()
        await site.stop()
        publisher = Publisher(site.events, 0, 3, audience)
        task = asyncio.create_task(publisher.run(0))
        await until(lambda: len(publisher.sent) == 1, lambda: "it is sent")
        assert publisher.answers == []
        await site.start()
        await pages.all_in()
        await until(lambda: all(0 in page.heard for page in pages.all), lambda: "they heard it")
        publisher.stopped = True
        await task
        assert sum(page.events["system.resync"] for page in pages.all) == 0
        await pages.close()

    asyncio.run(scenario())
    site.close()


class Flood:
    """A sender that has several datagrams on their way all the time, in a thread of its own."""

    OUTSTANDING = 5  # the answers must fit into its queue (net.unix.max_dgram_qlen)

    def __init__(self, to: Path) -> None:
        self.to = str(to)
        self.sent = 0
        self.answered: list[bool] = []
        self.stopped = threading.Event()
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                s.bind("")
                s.settimeout(LIMIT)
                line = json.dumps({"event": "e", "data": "x" * 2000, "to": "all"}).encode()
                while not self.stopped.is_set() or len(self.answered) < self.sent:
                    if not self.stopped.is_set() and self.sent - len(self.answered) < self.OUTSTANDING:
                        s.sendto(line, self.to)
                        self.sent += 1
                    else:
                        self.answered.append(json.loads(s.recv(65536))["ok"])
        except (OSError, ValueError) as e:
            self.error = e


def test_publishers_that_never_pause_get_every_answer(make_server: MakeServer, directory: Path) -> None:
    """They still send when half of --drain is over: what was taken in is answered, the rest stays queued."""
    events = directory / "events.sock"
    with datagram_socket(events) as datagrams, tcp_listener() as web:
        server = make_server("--drain", "500ms", start=False)
        server.passed = (Passed(datagrams), Passed(web))
        server.start()
        reads = [threading.Thread(target=drink, args=(server.deaf(),)) for _ in range(4)]
        for one in reads:
            one.start()
        floods = [Flood(events) for _ in range(12)]
        for _ in range(3):
            before = sum(len(f.answered) for f in floods)
            wait_for(lambda before=before: sum(len(f.answered) for f in floods) > before + 200, "answers")  # type: ignore[misc]
            assert server.end() == 0
            server.start()
        for flood in floods:
            flood.stopped.set()
        for flood in floods:
            flood.thread.join()
        assert [f.error for f in floods if f.error] == []
        for flood in floods:
            assert len(flood.answered) == flood.sent
            assert all(flood.answered)
        assert server.samples()["sse_acks_lost_total"] == 0
        server.close()
        for one in reads:
            one.join()


def test_a_drain_that_is_too_short_loses_no_datagram(make_server: MakeServer, directory: Path) -> None:
    """It ends while it holds publishers back, because a stream does not read: what it had taken from the socket by then
    is answered all the same, because nobody else will."""
    events = directory / "events.sock"
    lines = 50
    datagram = "\n".join([json.dumps({"event": "e", "data": "x" * 1000, "to": "all"})] * lines).encode()
    with datagram_socket(events) as datagrams, tcp_listener() as web, contextlib.ExitStack() as stack:
        server = make_server("--drain", "40ms", "--queue", "20", "--send-buffer", "4096", start=False)
        server.passed = (Passed(datagrams), Passed(web))
        server.start()
        stack.enter_context(server.deaf())
        os.kill(server.pid, signal.SIGSTOP)
        senders = [stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) for _ in range(10)]
        for sender in senders:
            sender.bind("")
            sender.sendto(datagram, str(events))
        server.signal(signal.SIGTERM)
        os.kill(server.pid, signal.SIGCONT)
        assert server.wait() == 0
        server.start()
        answered = dict.fromkeys(senders, 0)
        while min(answered.values()) < lines and (ready := select.select(senders, [], [], 10)[0]):
            for sender in ready:
                answered[sender] += len(sender.recv(1 << 20).splitlines())
        assert list(answered.values()) == [lines] * len(senders)


def drink(s: socket.socket) -> None:
    with contextlib.suppress(OSError), s:
        while s.recv(65536):
            pass


def test_who_connects_while_it_is_away_is_served_when_it_is_back(make_server: MakeServer) -> None:
    with tcp_listener() as web:
        server = make_server(start=False)
        server.passed = (Passed(web),)
        server.start()
        assert server.end() == 0
        early = [threading.Thread(target=lambda: server.join(ANNA).close()) for _ in range(10)]
        for one in early:
            one.start()
        server.start()
        for one in early:
            one.join(LIMIT)
            assert not one.is_alive()
        wait_for(lambda: len(server.logged("msg=connect ")) == 10, "all were let in")
        assert sanitized() or server.runs
