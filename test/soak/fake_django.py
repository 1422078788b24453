"""Django, as sse sees it: an address that is asked who a token belongs to. Not always in its best form."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

from aiohttp import web

from stage import Failures, Person, Stage, people

MOST_AT_ONCE = 16  # --auth-connections: it is never asked more questions at a time

# How it is, and for how much of the time.
MODES = {"well": 10, "slow": 3, "error": 2, "garbage": 2, "down": 1}
GARBAGE = (
    b"\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"user":"root',
    b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 100000,
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /login/\r\nContent-Length: 0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    b"",
)
NONSENSE = ("", "[]", "null", "{}", '{"user":', '{"user":{}}', '{"user":"x","is_admin":true}', "[" * 10000, "\x00")


class FakeDjango:
    def __init__(self, stage: Stage, port: int, failures: Failures) -> None:
        self.stage, self.port, self.failures = stage, port, failures
        self.random = random.Random(stage.seed + 1)
        self.people: dict[str, Person] = {one.token: one for one in people(stage) if one.authority == "django"}
        self.mode = "well"
        self.counts: Counter[str] = Counter()
        self.at_once = 0
        self.handler: web.Server | None = None
        self.server: asyncio.Server | None = None
        self.outage: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.handler = web.Server(self.answer, access_log=None)
        self.server = await asyncio.get_running_loop().create_server(self.handler, "127.0.0.1", self.port, backlog=100)

    async def stop(self) -> None:
        assert self.server is not None
        assert self.handler is not None
        self.server.close()
        await self.handler.shutdown(0.1)
        await self.server.wait_closed()

    async def moods(self, seconds: float) -> None:
        """From one form into the next, each for so long. Cancel it, then recover."""
        while True:
            self.mode = self.random.choices(list(MODES), list(MODES.values()))[0]
            if self.mode == "down":
                self.outage = asyncio.create_task(self.down(min(1.0, seconds)))
                await asyncio.shield(self.outage)
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * seconds)

    async def down(self, seconds: float) -> None:
        self.counts["down"] += 1
        await self.stop()
        await asyncio.sleep(seconds)
        await self.start()
        self.mode = "well"

    async def recover(self) -> None:
        if self.outage is not None:
            await self.outage
        self.mode = "well"

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.at_once += 1
        try:
            if self.at_once > MOST_AT_ONCE:
                self.failures.add("Django was asked too much at once", str(self.at_once))
            return await self.think(request)
        finally:
            self.at_once -= 1

    async def think(self, request: web.BaseRequest) -> web.StreamResponse:
        self.counts["questions"] += 1
        self.counts[self.mode] += 1
        token = request.headers.get("Authorization", "").removeprefix("Token ")
        if request.headers.get("X-SSE-Key") != f"key-{self.stage.canary}":
            self.failures.add("Django was asked without the key")
        if token and token in request.headers.get("X-Original-URI", ""):
            self.failures.add("a token in X-Original-URI")
        if self.mode == "slow":
            await asyncio.sleep(self.random.uniform(0, 1.5))
        if self.mode == "error":
            return web.Response(status=self.random.choice([400, 404, 500, 502, 503, 429]), text="Oh no " * 100)
        if self.mode == "garbage":
            return await self.nonsense(request)
        one = self.people.get(token)
        if one is None:
            return web.json_response({"detail": "Invalid token."}, status=self.random.choice([401, 403]))
        age = self.random.choice([{}, {"Cache-Control": "no-store"}, {"Cache-Control": "max-age=1"}, {"Age": "7"}])
        return web.json_response({"user": one.name, "roles": list(one.roles), "sid": one.sid}, headers=age)

    async def nonsense(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.random.random() < 0.5:
            return web.Response(text=self.random.choice([*NONSENSE, json.dumps("x" * 20000)]))
        if request.transport is not None:
            request.transport.write(self.random.choice(GARBAGE))
            request.transport.close()
        return web.Response()  # nobody hears it
