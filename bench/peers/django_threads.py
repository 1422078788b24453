"""The seed's view: a thread and a queue.Queue for each stream, in Django under gunicorn's gthread worker."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="bench", USE_TZ=True)

KEEPALIVE_S = 30


class SSEManager:
    """Knows the queues of all open streams."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: set[queue.Queue[str]] = set()

    def add(self) -> queue.Queue[str]:
        mine: queue.Queue[str] = queue.Queue()
        with self._lock:
            self._queues.add(mine)
        return mine

    def remove(self, mine: queue.Queue[str]) -> None:
        with self._lock:
            self._queues.discard(mine)

    def broadcast(self, frame: str) -> None:
        with self._lock:
            for each in self._queues:
                each.put_nowait(frame)


manager = SSEManager()


def frame_of(**fields: object) -> str:
    return f"data: {json.dumps(fields, separators=(',', ':'))}\n\n"


def frames() -> Iterator[str]:
    mine = manager.add()
    try:
        yield frame_of(event="connected", message="SSE connection established")
        while True:
            try:
                yield mine.get(timeout=KEEPALIVE_S)
            except queue.Empty:
                yield frame_of(event="keepalive", timestamp=int(time.time()))
    finally:
        manager.remove(mine)


def events(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(frames(), content_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def publish(request: HttpRequest) -> HttpResponse:
    message = json.loads(request.body)
    manager.broadcast(frame_of(event=message["event"], data=message["data"], timestamp=int(time.time())))
    return HttpResponse("{}", content_type="application/json")


urlpatterns = [path("events/", events), path("publish/", publish)]
application = get_wsgi_application()
