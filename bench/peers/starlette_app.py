"""uvicorn with sse-starlette: an asyncio.Queue for each stream."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

queues: set[asyncio.Queue[str]] = set()


async def frames() -> AsyncIterator[ServerSentEvent]:
    mine: asyncio.Queue[str] = asyncio.Queue()
    queues.add(mine)
    try:
        yield ServerSentEvent(data='{"event":"connected","message":"SSE connection established"}')
        while True:
            yield ServerSentEvent(data=await mine.get())
    finally:
        queues.discard(mine)


async def events(request: Request) -> Response:
    return EventSourceResponse(frames(), ping=30)


async def publish(request: Request) -> Response:
    message = await request.json()
    fields = {"event": message["event"], "data": message["data"], "timestamp": int(time.time())}
    text = json.dumps(fields, separators=(",", ":"))
    for each in queues:
        each.put_nowait(text)
    return JSONResponse({})


app = Starlette(routes=[Route("/events/", events), Route("/publish/", publish, methods=["POST"])])
