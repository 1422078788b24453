"""``manage.py sse_ping``."""

from __future__ import annotations

import time
from typing import Any

from sse_django.events import Operation
from sse_django.management.base import SSECommand


class Command(SSECommand):
    """Says whether sse is there."""

    help = "Asks sse whether it is there; exit status 1 if not."

    def handle(self, **_: Any) -> None:
        since = time.monotonic()
        ack = self.ask(Operation("ping"))
        took_ms = (time.monotonic() - since) * 1000
        self.stdout.write(f"sse is there: {ack.matched} streams, newest event {ack.id}, {took_ms:.1f} ms")
