"""Daphne with channels: a consumer for each stream, all in one group of the in-memory layer."""

from __future__ import annotations

import json
import time
from typing import Any

from channels.generic.http import AsyncHttpConsumer
from channels.routing import URLRouter
from django.conf import settings
from django.urls import path

LAYER = {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 10000, "group_expiry": 86400}}
settings.configure(CHANNEL_LAYERS={"default": LAYER}, SECRET_KEY="bench")

GROUP = "bench"


class Events(AsyncHttpConsumer):
    async def http_request(self, message: dict[str, Any]) -> None:
        """Unlike the inherited one, it does not end the consumer: the group's messages are still to come."""
        await self.send_headers(headers=[(b"Content-Type", b"text/event-stream"), (b"Cache-Control", b"no-cache")])
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.send_body(b'data: {"event":"connected"}\n\n', more_body=True)

    async def bench_event(self, message: dict[str, Any]) -> None:
        await self.send_body(message["frame"], more_body=True)

    async def disconnect(self) -> None:
        await self.channel_layer.group_discard(GROUP, self.channel_name)


class Publish(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        message = json.loads(body)
        fields = {"event": message["event"], "data": message["data"], "timestamp": int(time.time())}
        frame = f"data: {json.dumps(fields, separators=(',', ':'))}\n\n".encode()
        await self.channel_layer.group_send(GROUP, {"type": "bench.event", "frame": frame})
        await self.send_response(200, b"{}", headers=[(b"Content-Type", b"application/json"), (b"Content-Length", b"2")])


application = URLRouter([path("events/", Events.as_asgi()), path("publish/", Publish.as_asgi())])
