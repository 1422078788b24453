"""The abusers: all that is done to a server on the open network, all the time, each kind in turn more than the others.

Each of them knows how it must end, and says so if it does not: what never ends, what is let in that must not be, and
an answer that repeats what was asked are failures. Whatever they say has the canary in it.

Run as `abuse.py STAGE CORPUS`, by soak.py; commands come in by stdin, what happened goes out by stdout.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import contextvars
import json
import os
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import stage as st
from stage import Failures, Person, Stage

RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: close by reset
TCP_CLOSE, TCP_CLOSE_WAIT = 7, 8  # of TCP_INFO
CONNECTIONS_MOST = 2500  # at a time; the well-behaved have 300 more
STREAM = b"text/event-stream"

doing: contextvars.ContextVar[str] = contextvars.ContextVar("doing", default="fill")  # the kind of this abuser

ports: contextvars.ContextVar[list[int]] = contextvars.ContextVar("ports")  # of its connections, this time

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Abuse:
    def __init__(self, stage: Stage, corpus: Path) -> None:
        self.stage = stage
        self.random = random.Random(stage.seed + 2)
        self.failures = Failures()
        self.counts: Counter[str] = Counter()
        self.strangers = st.strangers(stage)
        self.requests = [file.read_bytes() for name in ("http", "server") for file in sorted((corpus / name).iterdir())]
        self.lines = [file.read_bytes() for name in ("datagram", "json") for file in sorted((corpus / name).iterdir())]
        self.tickets = [file.read_bytes() for file in sorted((corpus / "ticket").iterdir())]
        self.heavy = ""
        self.late_ms: list[int] = []

    # ---- what they have in common

    def address(self) -> str:
        return f"10.8.{self.random.randint(0, 255)}.{self.random.randint(0, 255)}"

    def head(self, path: str, token: str = "", address: str = "", more: str = "", method: str = "GET") -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: sse", f"User-Agent: {self.stage.canary}"]
        lines.append(f"X-Forwarded-For: {self.stage.canary}, {address or self.address()}")
        if token:
            lines.append(f"Authorization: Token {token}")
        return ("\r\n".join(lines) + "\r\n" + more + "\r\n").encode()

    def events(self, one: Person, address: str = "") -> bytes:
        return self.head(st.EVENTS, one.token, address or one.address)

    def stats(self, one: Person, more: str = "") -> bytes:
        return self.head(st.STATS, one.token, more=more)

    def connect(self, first: bytes, source: str = "", room: int = 0) -> socket.socket:
        """Connects, and says this much before anything else is done here: else a late loop would be a slow head."""
        s = socket.socket()
        s.settimeout(st.NEVER_S)
        if room:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        s.bind((source, 0))
        s.connect(("127.0.0.1", self.stage.port))
        s.sendall(first)
        s.setblocking(False)
        ports.get().append(s.getsockname()[1])
        return s

    @contextlib.asynccontextmanager
    async def connection(self, first: bytes = b"", source: str = "") -> AsyncIterator[Stream]:
        """Is closed in order, or by a reset."""
        reader, writer = await asyncio.open_connection(sock=self.connect(first, source))
        try:
            yield reader, writer
        finally:
            with contextlib.suppress(OSError):
                if self.random.random() < 0.3:
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort() if self.random.random() < 0.5 else writer.close()

    def unread(self, first: bytes) -> socket.socket:
        """With hardly any room for what comes in; nothing is read but by who asks."""
        return self.connect(first, room=4096)

    def held(self, mine: list[int]) -> bool:
        """
        Has the server one of these connections still? The other end does not always learn that it has not: a reset is
        sent only once, and may be lost on the way to one whose buffer is full.
        """
        for row in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = row.split()
            here, there = (int(address.split(":")[1], 16) for address in words[1:3])
            if here == self.stage.port and there in mine and words[9] != "0":  # the inode: none, if nobody has it open
                return True
        return False

    async def rest(self, reader: asyncio.StreamReader) -> bytes:
        """All that comes, until the server ends it: it always must."""
        answer = bytearray()
        while data := await reader.read(65536):
            answer += data
        return self.harmless(bytes(answer))

    def harmless(self, answer: bytes) -> bytes:
        if self.stage.canary.encode() in answer:
            self.failures.add("an answer repeats what was asked", repr(answer[:200]))
        if answer and not answer.startswith(b"HTTP/1.1 "):
            self.failures.add("an answer that is none", repr(answer[:80]))
        return answer

    async def ask(self, first: bytes, *pieces: bytes, eof: bool = False) -> bytes:
        """The answer, to the end of the connection."""
        async with self.connection(first) as (reader, writer):
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0)
            if eof:
                writer.write_eof()
            return await self.rest(reader)

    def must(self, answer: bytes, *statuses: int) -> str:
        status = answer[9:12].decode(errors="replace")
        if status not in map(str, statuses):
            self.failures.add(f"{doing.get()}: another answer than {statuses}", repr(answer[:80]))
        return status

    async def joins(self, reader: asyncio.StreamReader) -> bool:
        """A stream that was asked for: is it there? Else it is put off: 200, and the end."""
        answer = bytearray()
        while b'"connected"' not in answer and (data := await reader.read(4096)):
            answer += data
        self.harmless(bytes(answer))
        self.must(bytes(answer), 200)
        return b'"connected"' in answer

    async def until_closed(self, s: socket.socket, read: bool = False) -> str:
        """What came before it is never read, so only the state of the socket tells."""
        loop = asyncio.get_running_loop()
        looked = 0
        while (state := s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]) not in (TCP_CLOSE, TCP_CLOSE_WAIT):
            await asyncio.sleep(0.25)
            looked += 1
            if read and looked % 4 == 0:
                await loop.sock_recv(s, 1)
        return "reset by the server" if state == TCP_CLOSE else "ended by the server"

    async def crowded(self, streams: list[bytes], most: int, source: str = "") -> str:
        """All of these at once; no more than `most` may be let in."""
        async with contextlib.AsyncExitStack() as stack:

            async def one(request: bytes) -> bool:
                mine: list[int] = []
                ports.set(mine)
                reader, _ = await stack.enter_async_context(self.connection(request, source))
                try:
                    async with asyncio.timeout(st.NEVER_S / 2):
                        return await self.joins(reader)
                except TimeoutError:
                    if self.held(mine):
                        raise
                    return False

            found = await asyncio.gather(*map(one, streams), return_exceptions=True)
            joined = sum(one is True for one in found)
            if joined > most:
                self.failures.add(f"{doing.get()}: more were let in than may be", f"{joined} of {len(streams)}")
            await asyncio.sleep(self.random.uniform(0, 1))
        for error in found:
            if isinstance(error, BaseException) and not isinstance(error, OSError):
                raise error
        self.counts[f"{doing.get()}: streams let in"] += joined
        self.counts[f"{doing.get()}: streams put off or reset"] += len(streams) - joined
        return "all closed"

    # ---- what they do; each returns how it ended

    async def slow_head(self, _: int) -> str:
        """A byte a second."""
        async with self.connection() as (reader, writer):
            answer = asyncio.create_task(self.rest(reader))
            for byte in self.stats(self.strangers["plain"][0]):
                writer.write(bytes([byte]))
                if (await asyncio.wait([answer], timeout=1))[0]:
                    break
            return self.must(await answer, 408)

    async def says_nothing(self, _: int) -> str:
        return (
            self.must(await self.ask(b""), 408)
            if self.random.random() < 0.5
            else self.must(await self.ask(b"\r\n"), 408)
        )

    async def asks_nothing_more(self, i: int) -> str:
        """Keeps its connection after an answer."""
        one = self.strangers["plain"][i % 64]
        return self.must(await self.ask(self.stats(one)), 200)

    async def deaf(self, i: int) -> str:
        """A stream that is never read, of few large events."""
        with self.unread(self.events(self.strangers["deaf"][i])) as s:
            return await self.until_closed(s)

    async def busy(self, i: int) -> str:
        """The same, of many small ones as well."""
        with self.unread(self.events(self.strangers["busy"][i])) as s:
            return await self.until_closed(s)

    async def trickle(self, i: int) -> str:
        """A stream that is read a byte a second."""
        with self.unread(self.events(self.strangers["trickle"][i])) as s:
            return await self.until_closed(s, read=True)

    async def hoards(self, i: int) -> str:
        """Asks again and again, and reads no answer."""
        with self.unread(b"".join(self.stats(self.strangers["plain"][i % 64]) for _ in range(100))) as s:
            return await self.until_closed(s)

    async def resets(self, i: int) -> str:
        """At any moment."""
        one, rnd = self.strangers["plain"][i % 64], self.random
        request = rnd.choice([self.events(one), self.stats(one), self.head(st.EVENTS, f"{self.stage.canary}-{i}")])
        with self.unread(request[: rnd.choice([0, rnd.randint(1, len(request)), len(request)])]) as s:
            await asyncio.sleep(rnd.choice([0, 0, rnd.uniform(0, 0.02), rnd.uniform(0, 2)]))
            if rnd.random() < 0.3:
                s.shutdown(socket.SHUT_WR)
                await asyncio.sleep(rnd.uniform(0, 0.02))
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        return "reset"

    async def half_closes(self, i: int) -> str:
        """Says that it sends no more. A whole request is answered; a stream without a client ends."""
        one, rnd = self.strangers["plain"][i % 64], self.random
        what = rnd.random()
        if what < 0.4:
            return self.must(await self.ask(self.stats(one), eof=True), 200)
        if what < 0.7:
            await self.ask(self.events(one), eof=True)
            return "the stream ended"
        request = self.stats(one)
        await self.ask(request[: rnd.randint(0, len(request) - 1)], eof=True)
        return "half a head"

    async def garbage(self, i: int) -> str:
        """What fuzzing found, alone or behind a good request; or with a good one behind it."""
        rnd, one = self.random, self.strangers["plain"][i % 64]
        pieces = [rnd.choice(self.requests)]
        if rnd.random() < 0.5:
            pieces.insert(0, self.stats(one) * rnd.randint(1, 3))
        if rnd.random() < 0.3:
            pieces.append(rnd.randbytes(rnd.randint(1, 5000)))
        if rnd.random() < 0.3:
            pieces.append(self.stats(one))
        return f"{(await self.ask(*pieces, eof=rnd.random() < 0.7))[9:12].decode(errors='replace') or 'no'} answer"

    async def wrong_tokens(self, i: int) -> str:
        """Twenty on one connection, from one address or from many."""
        address = f"198.51.100.{i}" if self.random.random() < 0.5 else ""
        tokens = [f"{self.stage.canary}-{self.random.getrandbits(64)}" for _ in range(20)]
        return await self.guess([self.head(st.STATS, token, address) for token in tokens])

    async def guess(self, requests: list[bytes]) -> str:
        """One after the other on a connection, each with a token that nobody has."""
        async with self.connection(requests[0]) as (reader, writer):
            for i, request in enumerate(requests):
                writer.write(request if i > 0 else b"")
                head = self.harmless(await reader.readuntil(b"\r\n\r\n"))
                self.counts[f"{doing.get()}: answered {self.must(head, 401, 429, 503)}"] += 1
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                if b"Connection: close" in head:
                    return "closed after a refusal"
        return "all refused"

    async def bad_tickets(self, i: int) -> str:
        rnd, user = self.random, f"abuse-ticket-{i}"
        good = st.ticket(self.stage, user)
        head, _, signature = good.split(".")
        claims = base64.urlsafe_b64encode(rnd.choice(self.tickets)).rstrip(b"=").decode()
        now = time.time()
        ticket = rnd.choice(
            [
                f"{head}.{claims}.{signature}",
                f"{good[:-4]}AAAA",
                "..",
                "a" * 5000 + "..",
                st.ticket(self.stage, user, exp=now - 1),
                st.ticket(self.stage, user, nbf=now + 1000),
                st.ticket(self.stage, user, aud="other"),
                st.ticket(self.stage, "u" * 65),
            ]
        )
        path = f"{st.EVENTS}?token={ticket}"
        return self.must(await self.ask(self.head(path, more="Connection: close\r\n")), 401)

    async def flood_by_proxy(self, _: int) -> str:
        return await self.crowded([self.events(self.strangers["flood"][0], "203.0.113.9")] * 60, st.PER_ADDRESS)

    async def flood(self, i: int) -> str:
        """From an address that is no proxy; what it says of X-Forwarded-For counts for nothing."""
        one = self.strangers["flood"][0]
        return await self.crowded([self.events(one, self.address())] * 60, st.PER_ADDRESS, f"127.0.0.{66 + i}")

    async def greedy(self, _: int) -> str:
        one = self.strangers["greedy"][0]
        return await self.crowded([self.events(one, self.address()) for _ in range(50)], st.PER_USER)

    async def many_roles(self, _: int) -> str:
        """More than there may be."""
        tickets = [
            st.ticket(
                self.stage, f"abuse-role-{n}", (f"role{self.random.getrandbits(64)}",), sid=f"{self.stage.canary}{n}"
            )
            for n in range(80)
        ]
        return await self.crowded([self.head(st.EVENTS, ticket) for ticket in tickets], 64)

    async def body(self, i: int) -> str:
        """A gigabyte is announced. The answer reaches who is still sending."""
        more = "Content-Length: 1000000000\r\n"
        if self.random.random() < 0.5:
            head = self.stats(self.strangers["plain"][i], more)
        else:
            head = self.head(st.EVENTS, f"{self.stage.canary}", more=more, method="POST")
        return self.must(await self.ask(head, b"x" * 20000, b"GET / HTTP/1.1\r\n\r\n"), 413, 405)

    async def chatter(self, i: int) -> str:
        """A stream whose client never stops to talk."""
        async with self.connection(self.events(self.strangers["plain"][i], self.address())) as (reader, writer):
            if not await self.joins(reader):
                return "put off"
            writer.write(self.stage.canary.encode() * 10000)
            while await reader.read(4096):
                pass
            return "ended by the server"

    async def bad_datagrams(self, _: int) -> str:
        """Anything; from a sender that hears what was wrong with it, or not."""
        rnd, loop = self.random, asyncio.get_running_loop()
        event = json.dumps({"event": "bad", "data": "x" * 500, "to": {"users": ["nobody"]}}).encode()
        with self.sender(bound=rnd.random() < 0.5) as s:
            for _ in range(30):
                what = rnd.randint(0, 7)
                if what == 0:
                    await loop.sock_sendall(s, b"")
                elif what == 1:
                    await loop.sock_sendall(s, b" " * rnd.randint(st.DATAGRAM + 1, 212900))
                elif what == 2:
                    await loop.sock_sendall(s, rnd.randbytes(rnd.randint(1, 2000)))
                elif what == 3:
                    await loop.sock_sendall(s, event[: rnd.randint(1, len(event) - 1)])
                elif what == 4:
                    with contextlib.suppress(BlockingIOError):
                        socket.send_fds(s, [event], [0, 1, 2])
                elif what == 5:
                    await loop.sock_sendall(s, b"[" * rnd.randint(1, 100000))
                else:
                    await loop.sock_sendall(s, rnd.choice(self.lines) or b"\n")
                await asyncio.sleep(0.02)
        return "sent"

    async def reads_no_answer(self, _: int) -> str:
        """A sender that is bound, and never looks whether something came back."""
        loop = asyncio.get_running_loop()
        with self.sender(bound=True) as s:
            for _ in range(30):
                await loop.sock_sendall(s, b'{"op":"ping"}\n' * 10)
        return "sent"

    async def operates(self, _: int) -> str:
        """Revokes and refreshes users, and sids, that nobody has heard of; as many as are remembered, and more."""
        with self.sender(bound=False) as s:
            names = [f"nobody-{self.random.getrandbits(32)}" for _ in range(40)]
            ops = [{"op": op, key: name} for name in names for op, key in OPERATIONS]
            await asyncio.get_running_loop().sock_sendall(s, "\n".join(map(json.dumps, ops)).encode())
        return "sent"

    def sender(self, bound: bool) -> socket.socket:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        s.setblocking(False)
        if bound:
            s.bind("")
        s.connect(self.stage.socket)
        return s

    # ---- before it begins

    async def fill(self) -> None:
        """Whatever the server keeps for a while, as much of it as it may keep, so that nothing grows later but what
        should not."""
        ports.set([])
        loop = asyncio.get_running_loop()
        nobody = [
            b'{"op":"%s","%s":"nobody-%d"}' % (op.encode(), key.encode(), n)
            for n in range(st.RECENT + 100)
            for op, key in OPERATIONS
        ]
        # No event takes less than 64 bytes of the history.
        events = [b'{"event":"fill","data":0,"to":{"users":["nobody"]}}'] * (st.HISTORY // 64 + 100)
        with self.sender(bound=False) as s:
            for lines in (nobody, events):
                for n in range(0, len(lines), 3000):
                    await loop.sock_sendall(s, b"\n".join(lines[n : n + 3000]))
            wrong = [self.head(st.STATS, f"{self.stage.canary}-{n}") for n in range(st.RECENT + 100)]
            await asyncio.gather(*(self.guess(wrong[n::32]) for n in range(32)))
        self.counts.clear()

    # ---- in turn

    async def end(self, what: Awaitable[str]) -> str:
        """How it ended."""
        try:
            return await what
        except TimeoutError:
            return "never ended"
        except BlockingIOError:
            return "no room"
        except (OSError, asyncio.IncompleteReadError):
            return "reset by the server"

    async def worker(self, name: str, i: int) -> None:
        kind = KINDS[name]
        what: Callable[[int], Awaitable[str]] = getattr(self, name)
        doing.set(name)
        await asyncio.sleep(self.random.uniform(0, 1))
        while True:
            if i < kind[0] or name == self.heavy:
                mine: list[int] = []
                ports.set(mine)
                task = asyncio.create_task(self.end(what(i)))
                await asyncio.wait([task], timeout=st.NEVER_S)
                if task.done():
                    how = task.result()
                else:
                    how = "never ended" if self.held(mine) else "gone, its reset was lost"
                    task.cancel()
                    await asyncio.wait([task])
                if how == "never ended":
                    self.failures.add(f"{name}: never ended")
                self.counts[f"{name}: {how}"] += 1
            await asyncio.sleep(self.random.uniform(0, 2) * kind[2])

    async def turns(self, seconds: float) -> None:
        while True:
            for self.heavy in KINDS:
                await asyncio.sleep(seconds)

    async def tell(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.report()

    def report(self) -> None:
        st.say(
            kind="now",
            counts=self.counts,
            failures=self.failures.counts,
            examples=self.failures.examples,
            heavy=self.heavy,
            late_ms=max(self.late_ms, default=0),
        )
        del self.late_ms[:]

    async def run(self) -> None:
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        tasks: list[asyncio.Task[None]] = []
        while command := (await commands.readline()).decode().strip():
            if command == "fill":
                await self.fill()
                st.say(kind="filled")
            elif command == "start":
                turn_s = min(5.0, self.stage.seconds / 3 / 2 / len(KINDS))
                tasks = [
                    asyncio.create_task(self.worker(name, i)) for name, kind in KINDS.items() for i in range(kind[1])
                ]
                tasks += [asyncio.create_task(self.turns(turn_s)), asyncio.create_task(self.tell())]
                tasks.append(asyncio.create_task(st.lateness(self.late_ms)))
                for task in tasks:
                    task.add_done_callback(self.broken)
            elif command == "stop":
                break
        for task in tasks:
            task.remove_done_callback(self.broken)
            task.cancel()
        self.report()
        st.stop_now()

    def broken(self, task: asyncio.Task[None]) -> None:
        """A mistake in this file."""
        task.print_stack()
        self.failures.add("an abuser is broken", repr(task))


OPERATIONS = (("revoke", "user"), ("revoke", "sid"), ("refresh", "user"))

# How many of each there are, and how many when it is their turn; how long each rests, on average.
KINDS = {
    "slow_head": (150, 600, 0.5),
    "says_nothing": (200, 800, 0.5),
    "asks_nothing_more": (50, 300, 0.5),
    "deaf": (15, 40, 0.5),
    "busy": (15, 40, 0.5),
    "trickle": (20, 60, 0.5),
    "hoards": (5, 30, 0.5),
    "resets": (15, 60, 0.2),
    "half_closes": (5, 30, 0.2),
    "garbage": (15, 60, 0.3),
    "wrong_tokens": (3, 10, 0.5),
    "bad_tickets": (2, 20, 0.2),
    "flood_by_proxy": (1, 2, 1.0),
    "flood": (1, 2, 1.0),
    "greedy": (1, 1, 2.0),
    "many_roles": (1, 1, 2.0),
    "body": (2, 30, 0.3),
    "chatter": (2, 10, 0.5),
    "bad_datagrams": (1, 3, 0.2),
    "reads_no_answer": (1, 2, 1.0),
    "operates": (1, 2, 1.0),
}
AT_ONCE = {"flood_by_proxy": 60, "flood": 60, "greedy": 50, "many_roles": 80}  # connections of one
assert sum(
    kind[0] * AT_ONCE.get(name, 1) for name, kind in KINDS.items()
) + max(kind[1] for kind in KINDS.values()) < CONNECTIONS_MOST  # fmt: skip

if __name__ == "__main__":
    os.nice(2)  # the well-behaved come first
    asyncio.run(Abuse(Stage.load(sys.argv[1]), Path(sys.argv[2])).run())
