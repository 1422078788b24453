"""Tornado: each stream is a handler that is written to. Usage: tornado_app.py PORT"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from tornado.iostream import StreamClosedError
from tornado.web import Application, RequestHandler

streams: set[Events] = set()


class Events(RequestHandler):
    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        self.gone = asyncio.Event()
        self.write('data: {"event":"connected","message":"SSE connection established"}\n\n')
        await self.flush()
        streams.add(self)
        await self.gone.wait()

    def push(self, frame: bytes) -> None:
        try:
            self.write(frame)
            self.flush()
        except StreamClosedError:
            self.on_connection_close()

    def on_connection_close(self) -> None:
        streams.discard(self)
        self.gone.set()


class Publish(RequestHandler):
    def post(self) -> None:
        message = json.loads(self.request.body)
        fields = {"event": message["event"], "data": message["data"], "timestamp": int(time.time())}
        frame = f"data: {json.dumps(fields, separators=(',', ':'))}\n\n".encode()
        for each in tuple(streams):
            each.push(frame)
        self.write({})


async def main() -> None:
    app = Application([("/events/", Events), ("/publish/", Publish)], log_function=lambda handler: None)
    app.listen(int(sys.argv[1]), "127.0.0.1", backlog=4096)
    await asyncio.Event().wait()


asyncio.run(main())
