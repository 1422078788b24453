"""A thousand pages in one asyncio loop: each remembers its last id, and comes back with it after its `retry:`."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import LIMIT
from stage import stream_request


class Page(asyncio.Protocol):
    """An EventSource. It counts what it is told, and checks nothing."""

    def __init__(self, crowd: Pages, token: str) -> None:
        self.crowd = crowd
        self.token = token
        self.last_id = ""
        self.retry = 3.0
        self.heard: list[int] = []  # numbers of events, as they came
        self.events: Counter[str] = Counter()
        self.bad: list[str] = []
        self.connected = False
        self.gone = False
        self.buffer = b""
        self.left_at = 0.0
        self.away: list[tuple[float, float]] = []  # seconds it was away, and the retry it had been told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""
        assert isinstance(transport, asyncio.Transport)
        transport.write(stream_request(self.token, self.last_id))

    def data_received(self, data: bytes) -> None:
        # A frame is one chunk, and has no CR: what stands between them is a size, and the end of a chunk.
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                self._hear(json.loads(line[6:]))
            elif line.startswith(b"id: "):
                self._new_id = line[4:].decode()
            elif line.startswith(b"retry: "):
                self.retry = int(line[7:]) / 1000
            elif line.startswith(b"HTTP/1.1 ") and not line.startswith(b"HTTP/1.1 200 "):
                self.bad.append(line.decode())

    _new_id = ""

    def _hear(self, event: dict[str, Any]) -> None:
        name = event["event"]
        self.events[name] += 1
        if name != "keepalive":
            self.last_id = self._new_id or self.last_id
        if name == "connected":
            self.connected = True
            self.crowd.joined += 1
            if self.left_at:
                self.away.append((time.monotonic() - self.left_at, self.retry))
        elif name == "n":
            self.heard.append(event["data"])

    def connection_lost(self, _: Exception | None) -> None:
        if self.gone:
            return
        if self.connected:
            self.left_at = time.monotonic()
            self.crowd.joined -= 1
        self.connected = False
        asyncio.get_running_loop().call_later(self.retry, self.connect)

    def connect(self) -> None:
        self.crowd.tasks.add(task := asyncio.ensure_future(self._connect()))
        task.add_done_callback(self.crowd.tasks.discard)

    async def _connect(self) -> None:
        if self.gone:
            return
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self.crowd.port)
        except OSError:
            self.crowd.unreachable += 1
            asyncio.get_running_loop().call_later(self.retry, self.connect)


class Pages:
    def __init__(self, port: int, tokens: list[str]) -> None:
        self.port = port
        self.joined = 0
        self.unreachable = 0
        self.tasks: set[asyncio.Future[None]] = set()
        self.all = [Page(self, token) for token in tokens]

    def open(self) -> None:
        for page in self.all:
            page.connect()

    async def all_in(self) -> None:
        await until(lambda: self.joined == len(self.all), lambda: f"{self.joined} of {len(self.all)} are in")

    async def close(self) -> None:
        for page in self.all:
            page.gone = True
            if hasattr(page, "transport"):
                page.transport.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def until(right: Callable[[], bool], why: Callable[[], str], limit: float = LIMIT) -> None:
    give_up = time.monotonic() + limit
    while not right():
        assert time.monotonic() < give_up, why()
        await asyncio.sleep(0.01)


class Publisher:
    """Sends numbers, one after the other, and takes the answers; it never stops because nobody is there."""

    def __init__(self, to: Path, first: int, step: int, audience: Callable[[int], Any]) -> None:
        self.to = str(to)
        self.number = first
        self.step = step
        self.audience = audience
        self.sent: list[int] = []
        self.answers: list[dict[str, Any]] = []  # of the first that were sent
        self.stopped = False
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("")
        self.socket.setblocking(False)

    async def run(self, pause: float) -> None:
        loop = asyncio.get_running_loop()
        while not self.stopped:
            line = {"event": "n", "data": self.number, "to": self.audience(self.number)}
            await self._send(json.dumps(line).encode())
            self.sent.append(self.number)
            self.number += self.step
            answer = await asyncio.wait_for(loop.sock_recv(self.socket, 65536), LIMIT)
            self.answers.append(json.loads(answer))
            await asyncio.sleep(pause)

    async def _send(self, datagram: bytes) -> None:
        give_up = time.monotonic() + LIMIT
        while True:
            try:
                self.socket.sendto(datagram, self.to)
            except BlockingIOError:  # the socket's queue is full: nobody takes them now
                assert time.monotonic() < give_up
                await asyncio.sleep(0.01)
            else:
                return
