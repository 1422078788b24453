"""The well-behaved: those who publish, and those who listen and must get exactly what is theirs.

Every publisher numbers its events. When one is sent, its number is noted with each listener that may see it; what a
listener gets must be the next number noted there. So anything missing, doubled, out of order or meant for somebody
else is found at once, over reconnects too. Across publishers, the ids must go up.

Run as `crowd.py STAGE`, by soak.py; commands come in by stdin, what happened goes out by stdout, a line of JSON each.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import gc
import json
import math
import random
import re
import socket
import struct
import sys
import time
import zlib
from collections import Counter, deque
from typing import Any

import aiohttp

import stage as st
from stage import Failures, Person, Stage

# An id of the server's.
ID = re.compile(r"(\d{10,16})-(\d{1,10})")
RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: close by reset


class Left(Exception):  # noqa: N818
    """A page that is closed by its user."""


class Listener:
    """A page: one EventSource, and what it must hear."""

    def __init__(self, crowd: Crowd, person: Person) -> None:
        self.crowd, self.person = crowd, person
        self.expected: list[deque[int]] = [deque() for _ in range(PUBLISHERS)]
        self.last_id = ""
        self.last_order = (0, 0)
        self.connected = False
        self.adrift = False  # was told, rightly, that the history does not reach back
        self.asked_at = 0.0
        self.retry = 1.0

    @property
    def waits(self) -> int:
        return sum(len(numbers) for numbers in self.expected)

    def fail(self, kind: str, example: str = "") -> None:
        self.crowd.failures.add(kind, f"{self.person.name}: {example}")

    async def live(self) -> None:
        """Comes back as an EventSource does, until the end."""
        rnd = self.crowd.random
        while not self.crowd.closing:
            away = None
            try:
                await self.stream()
                if self.connected and not self.crowd.closing:
                    self.ended("by the server")
            except Left:
                self.crowd.counts["left"] += 1
                away = rnd.uniform(0, 2)
            except aiohttp.ClientError as e:
                if not self.crowd.closing:
                    self.ended(repr(e))
            self.connected = False
            await asyncio.sleep(self.retry if away is None else away)

    def ended(self, how: str) -> None:
        """Not by its own wish."""
        self.crowd.counts["ended"] += 1
        self.fail("a stream of the well-behaved ended" if self.connected else "the well-behaved could not connect", how)

    def request(self) -> dict[str, Any]:
        """What a page may say, in all the ways there are."""
        one, rnd = self.person, self.crowd.random
        self.asked_at = time.monotonic()
        token = one.token or st.ticket(self.crowd.stage, one.name, one.roles, one.sid)
        headers = {"X-Forwarded-For": one.address, "Accept": "text/event-stream"}
        params = {}
        if rnd.random() < 0.5:
            params["token"] = token
        else:
            headers["Authorization"] = f"{rnd.choice(('Bearer', 'Token'))} {token}"
        if self.last_id and rnd.random() < 0.5:
            params["lastEventId"] = self.last_id
        elif self.last_id:
            headers["Last-Event-ID"] = self.last_id
        return {"headers": headers, "params": params}

    async def stream(self) -> None:
        """One answer, to its end, or until the page is closed."""
        self.connected = False
        base = "http://localhost" if self.person.unix else f"http://127.0.0.1:{self.crowd.stage.port}"
        async with self.crowd.sessions[self.person.unix].get(base + st.EVENTS, **self.request()) as answer:
            if answer.status != 200 or answer.content_type != "text/event-stream":
                self.refused(answer.status)
                return
            limit = asyncio.timeout(None)
            user = None if self.person.stays else asyncio.create_task(self.user(limit))
            try:
                async with limit:
                    await self.read(answer)
            except TimeoutError:
                self.close(answer)
                raise Left from None
            finally:
                if user is not None:
                    user.cancel()
            if not self.connected:
                self.crowd.counts["put off, or revoked"] += 1

    async def user(self, limit: asyncio.Timeout) -> None:
        """Closes the page at some time, if events are published."""
        await asyncio.sleep(min(8.0, self.crowd.random.expovariate(1 / 3)))
        await self.crowd.published.wait()
        limit.reschedule(asyncio.get_running_loop().time())

    def refused(self, status: int) -> None:
        """Only with a ticket that was made before its user was sent away."""
        one = self.person
        if status == 401 and one.authority == "ticket" and self.crowd.revoked_at.get(one.name, 0) >= self.asked_at:
            self.crowd.counts["too late"] += 1
        else:
            self.fail("the well-behaved were refused", str(status))

    def close(self, answer: aiohttp.ClientResponse) -> None:
        """As pages are closed: in order, or as if the network had gone."""
        if self.crowd.random.random() < 0.5 and answer.connection is not None and answer.connection.transport:
            raw = answer.connection.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        answer.close()

    async def read(self, answer: aiohttp.ClientResponse) -> None:
        rest = bytearray()
        async for data in answer.content.iter_any():
            searched = max(0, len(rest) - 1)
            rest += data
            while (end := rest.find(b"\n\n", searched)) >= 0:
                frame = bytes(rest[:end])
                del rest[: end + 2]
                searched = 0
                self.frame(frame)

    def frame(self, frame: bytes) -> None:
        fields = {}
        for line in frame.split(b"\n"):
            name, colon, value = line.partition(b": ")
            if not colon or name not in (b"id", b"data", b"retry") or name in fields:
                self.fail("a frame that is none", repr(frame[:80]))
            fields[name] = value
        if b"retry" in fields:
            self.retry = int(fields[b"retry"]) / 1000
        if b"data" in fields:
            self.event(fields.get(b"id", b"").decode(), fields[b"data"])

    def event(self, number: str, data: bytes) -> None:
        event = json.loads(data)
        name = event["event"]
        if name == "connected":
            self.greeted(number)
        elif name == "system.resync":
            self.resync(event["data"]["reason"])
        elif name == "auth.revoked":
            if not self.person.revocable:
                self.fail("revoked, but nobody asked for it")
            self.crowd.counts["revoked"] += 1
            self.connected = False
        elif name != "keepalive":
            self.take(number, event, len(data))

    def greeted(self, number: str) -> None:
        if self.last_id and number not in ("", self.last_id):
            self.fail("connected has another id than the page", f"{number} for {self.last_id}")
        self.connected = True
        self.crowd.counts["connects"] += 1
        self.crowd.counts["resumed"] += bool(self.last_id)
        if number and not self.last_id:
            self.passed(number)

    def resync(self, reason: str) -> None:
        """Only if more has come since than the history holds. (In memory an event is longer than it is here.)"""
        behind = self.crowd.bytes_sent - self.crowd.bytes_before.get(self.last_id, 0)
        self.crowd.counts["resyncs"] += 1
        if reason != "too_old" or behind < st.HISTORY // 2:
            self.fail("resync", f"{reason}, {behind} bytes after {self.last_id}")
        self.adrift = True
        self.last_id = ""

    def passed(self, number: str) -> None:
        """An id: they go up."""
        found = ID.fullmatch(number)
        order = (int(found[1]), int(found[2])) if found else (0, 0)
        if order <= self.last_order:
            self.fail("ids do not go up", f"{number} after {self.last_id}")
        self.last_id, self.last_order = number, order

    def take(self, number: str, event: dict[str, Any], size: int) -> None:
        self.passed(number)
        if not event["event"].startswith("soak."):
            self.crowd.counts["alien"] += 1  # a bad datagram that was not that bad, for all
            return
        crowd, said = self.crowd, event["data"]
        publisher, n, sent = said["p"], said["n"], said["t"]
        numbers = self.expected[publisher]
        if numbers and numbers[0] == n:
            numbers.popleft()
        elif n in numbers:
            missing = list(iter(numbers.popleft, n))
            if not self.adrift:
                self.fail("missing", f"{missing[:5]} of publisher {publisher}, {len(missing)} in all, before {n}")
        else:
            self.fail("twice, or not for this user", f"{n} of publisher {publisher}")
        if int(said["c"], 16) != zlib.crc32(said["x"].encode()) or event["event"] != f"soak.p{publisher}":
            self.fail("damaged", f"{n} of publisher {publisher}")
        crowd.same_id(publisher, n, number)
        crowd.counts["heard"] += 1
        if size < 10000 and self.person.stays:
            crowd.latencies.append(time.monotonic() - sent)


class Publisher:
    """A process of Django's. A bound one reads the answers."""

    def __init__(self, crowd: Crowd, number: int, bound: bool) -> None:
        self.crowd, self.number, self.bound = crowd, number, bound
        self.n = 0
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        if bound:
            self.socket.bind("")
        self.socket.connect(crowd.stage.socket)

    def event(self, to: dict[str, Any], most: int) -> tuple[bytes, int]:
        """The next event for them, as a line, and how many streams must be among its matched ones."""
        now = time.monotonic()
        text = "".join(self.crowd.random.choices(TEXT, k=self.crowd.random.randint(0, 60)))
        if most > 0:
            text = "x" * (most - len(self.line(to, now, "")))
        line = self.line(to, now, text)
        matched = 0
        for listener in self.crowd.audience(to):
            listener.expected[self.number].append(self.n)
            matched += listener.person.stays
        self.n += 1
        self.crowd.bytes_sent += len(line)
        return line, matched

    def line(self, to: dict[str, Any], now: float, text: str) -> bytes:
        data = {"p": self.number, "n": self.n, "t": now, "c": f"{zlib.crc32(text.encode()):08x}", "x": text}
        event = {"event": f"soak.p{self.number}", "data": data} | to
        return json.dumps(event, ensure_ascii=self.n % 2 == 0, separators=(",", ":")).encode()

    async def publish(self, events: int = 1, most: int = 0, to: dict[str, Any] | None = None) -> None:
        """Some events in one datagram."""
        first = self.n
        lines = [self.event(to or self.crowd.route(), most) for _ in range(events)]
        answers = await self.send(b"\n".join(line for line, _ in lines), events)
        self.crowd.counts["published"] += events
        for i, (answer, (_, matched)) in enumerate(zip(answers, lines, strict=False)):
            if not answer.get("ok") or answer.get("stored") is False or answer["matched"] < matched:
                self.crowd.failures.add("an event was not taken as it should", f"{answer}, for at least {matched}")
            else:
                self.crowd.same_id(self.number, first + i, answer["id"])

    async def send(self, datagram: bytes, lines: int) -> list[dict[str, Any]]:
        """The answers; none if there is nobody to answer."""
        loop = asyncio.get_running_loop()
        answers: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(st.NEVER_S):
                await loop.sock_sendall(self.socket, datagram)
                while self.bound and len(answers) < lines:
                    answers += map(json.loads, (await loop.sock_recv(self.socket, 1 << 18)).splitlines())
        except TimeoutError:
            self.crowd.failures.add("no acknowledgement", f"{len(answers)} of {lines} lines")
        self.crowd.counts["acknowledged"] += len(answers)
        return answers


class Crowd:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.random = random.Random(stage.seed)
        self.failures = Failures()
        self.counts: Counter[str] = Counter()
        self.latencies = array.array("d")
        self.closing = False
        self.published = asyncio.Event()  # set while they are
        self.late_ms: list[int] = []
        self.bytes_sent = 0
        self.bytes_before: dict[str, int] = {}  # an id: bytes that were sent before it came
        self.ids: dict[tuple[int, int], str] = {}
        self.revoked_at: dict[str, float] = {}
        self.listeners = [Listener(self, one) for one in st.people(stage)]
        self.sessions: dict[bool, aiohttp.ClientSession] = {}
        self.by_user = {listener.person.name: listener for listener in self.listeners}
        self.by_role: dict[str, list[Listener]] = {}
        for listener in self.listeners:
            for role in set(listener.person.roles):
                self.by_role.setdefault(role, []).append(listener)

    # ---- who an event is for

    def route(self) -> dict[str, Any]:
        rnd = self.random
        users = [listener.person.name for listener in rnd.sample(self.listeners, rnd.randint(1, 3))]
        roles = rnd.sample(st.ROLES, rnd.randint(1, 2))
        to: dict[str, Any] = rnd.choices(
            [{"users": users}, {"roles": roles}, {"users": users, "roles": roles}], [6, 3, 2]
        )[0]
        route: dict[str, Any] = {"to": to if rnd.random() < 0.95 else "all"}
        if rnd.random() < 0.3:
            gone = [*rnd.sample(self.listeners, 5), self.by_user[users[0]]]
            route["except"] = {"users": [listener.person.name for listener in gone]}
        return route

    def audience(self, route: dict[str, Any]) -> list[Listener]:
        to, without = route["to"], set(route.get("except", {}).get("users", ()))
        if to == "all":
            found = {listener.person.name: listener for listener in self.listeners}
        else:
            found = {name: self.by_user[name] for name in to.get("users", ())}
            for role in to.get("roles", ()):
                found |= {listener.person.name: listener for listener in self.by_role.get(role, ())}
        return [listener for name, listener in found.items() if name not in without]

    # ---- what is the same for all

    def same_id(self, publisher: int, n: int, number: str) -> None:
        """The id of an event is the same in its acknowledgement and with everybody who gets it."""
        known = self.ids.setdefault((publisher, n), number)
        if known != number:
            self.failures.add("an event has two ids", f"{number} and {known}")
        self.bytes_before.setdefault(number, self.bytes_sent)
        forget(self.ids)
        forget(self.bytes_before)

    # ---- the publishers

    async def steady(self, publisher: Publisher, a_second: float, events: int = 1) -> None:
        while self.published.is_set():
            await publisher.publish(self.random.randint(1, events))
            await asyncio.sleep(self.random.expovariate(a_second))

    async def bursts(self, publisher: Publisher) -> None:
        """As fast as the socket takes them, also to those who do not read; then a rest."""
        while self.published.is_set():
            for _ in range(self.random.randint(20, 150)):
                roles = [self.random.choice(st.ROLES), st.BUSY]
                await publisher.publish(to={"to": {"roles": roles}} if self.random.random() < 0.5 else None)
            await asyncio.sleep(self.random.uniform(0.5, 3))

    async def large(self, publisher: Publisher) -> None:
        """Up to the last byte that a datagram may have."""
        while self.published.is_set():
            most = self.random.choice([st.DATAGRAM, self.random.randint(20000, st.DATAGRAM)])
            await publisher.publish(most=most, to={"to": {"roles": [st.BIG, st.DEAF]}})
            await asyncio.sleep(self.random.expovariate(2))

    async def operate(self, publisher: Publisher) -> None:
        """Sends people away who may come back at once, and has Django asked again."""
        revocable = [listener.person for listener in self.listeners if listener.person.revocable]
        asked = [listener.person for listener in self.listeners if listener.person.authority == "django"]
        while self.published.is_set():
            one = self.random.choice(revocable)
            ops: list[dict[str, Any]] = [{"op": "refresh", "user": self.random.choice(asked).name}]
            ops.append({"op": "revoke", "user": one.name} if self.random.random() < 0.5 else {"op": "ping"})
            if one.authority != "file" and self.random.random() < 0.5:
                ops.append({"op": "revoke", "sid": one.sid})
            self.revoked_at[one.name] = math.inf
            for answer in await publisher.send("\n".join(map(json.dumps, ops)).encode(), len(ops)):
                if not answer.get("ok"):
                    self.failures.add("an operation was not taken", str(answer))
            self.revoked_at[one.name] = time.monotonic()
            await asyncio.sleep(self.random.expovariate(2))

    async def begin(self) -> None:
        """All hear something, and so have an id that the history has."""
        self.first = Publisher(self, 0, True)
        await self.first.publish(to={"to": "all"})
        await self.until("all heard the first event", lambda: not any(listener.waits for listener in self.listeners))
        self.published.set()

    async def publish(self) -> None:
        await asyncio.gather(
            self.steady(self.first, 10),
            self.steady(Publisher(self, 1, True), 2, events=20),
            self.steady(Publisher(self, 2, False), 10),
            self.bursts(Publisher(self, 3, False)),
            self.large(Publisher(self, 4, True)),
            self.operate(Publisher(self, 5, True)),
        )

    # ---- what soak.py says and hears

    async def until(self, what: str, done: Any) -> None:
        """Waits for it; if it never comes, that is a failure."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(st.NEVER_S):
                while not done():
                    await asyncio.sleep(0.02)
        if not done():
            self.failures.add("never", what)

    async def tell(self) -> None:
        while not self.closing:
            await asyncio.sleep(1)
            self.report(last=False)

    def report(self, last: bool) -> None:
        st.say(
            kind="last" if last else "now",
            counts=dict(self.counts),
            connected=sum(listener.connected for listener in self.listeners),
            late_ms=max(self.late_ms, default=0),
            latencies=[round(latency * 1000, 1) for latency in self.latencies],
            failures=dict(self.failures.counts),
            examples=self.failures.examples,
        )
        del self.latencies[:], self.late_ms[:]

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        commands = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=st.NEVER_S, sock_read=st.NEVER_S)
        for unix in (False, True):
            connector = (
                aiohttp.UnixConnector(self.stage.http_socket, limit=0, force_close=True)
                if unix
                else aiohttp.TCPConnector(limit=0, force_close=True)
            )
            self.sessions[unix] = aiohttp.ClientSession(connector=connector, timeout=timeout)
        tasks = [asyncio.create_task(listener.live()) for listener in self.listeners]
        tasks += [asyncio.create_task(self.tell()), asyncio.create_task(st.lateness(self.late_ms))]
        publishing: asyncio.Task[None] | None = None
        gc.freeze()
        await self.until("all are connected", self.all_connected)
        st.say(kind="connected")
        while command := (await commands.readline()).decode().strip():
            if command == "publish":
                await self.begin()
                publishing = asyncio.create_task(self.publish())
            elif command == "finish":
                self.published.clear()
                if publishing is not None:
                    await publishing
                await self.until(
                    "all are connected and have what is theirs",
                    lambda: self.all_connected() and not any(listener.waits for listener in self.listeners),
                )
                for listener in self.listeners:
                    if listener.waits:
                        listener.fail("missing", f"{listener.waits} at the end")
                self.report(last=True)
                st.say(kind="finished")
            elif command == "close":
                break
        self.closing = True
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for session in self.sessions.values():
            await session.close()
        st.say(kind="closed")

    def all_connected(self) -> bool:
        return all(listener.connected for listener in self.listeners)


def forget(seen: dict[Any, Any], most: int = 100000) -> None:
    """The older half, once there are so many."""
    if len(seen) > most:
        for key in list(seen)[: most // 2]:
            del seen[key]


PUBLISHERS = 6
TEXT = "abc éÖ 日本 \u2028 \"\\ / \t\n <&> 👋 0123456789"  # fmt: skip

if __name__ == "__main__":
    asyncio.run(Crowd(Stage.load(sys.argv[1])).run())
