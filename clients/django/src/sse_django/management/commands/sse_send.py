"""``manage.py sse_send news '{"text":"Lunch"}' --all``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from sse_django.events import Event, SSEError, audience
from sse_django.management.base import SSECommand

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(SSECommand):
    """Sends one event and says how many streams got it."""

    help = "Sends an event to open browsers, waits for sse's answer, and says how many streams it went to."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("event", help="its name, as estimate.created")
        parser.add_argument("data", nargs="?", default="null", help="its data: JSON (null)")
        parser.add_argument("--user", action="append", default=[], metavar="ID", help="to this user; repeatable")
        parser.add_argument(
            "--role", action="append", default=[], metavar="NAME", help="to who has this role; repeatable"
        )
        parser.add_argument("--all", action="store_true", help="to everybody")
        parser.add_argument("--except", action="append", default=[], metavar="ID", dest="excepted")

    def handle(self, *, event: str, data: str, **options: Any) -> None:
        try:
            parsed = json.loads(data)
        except ValueError as error:
            raise CommandError(f"data: {error}; a text is written '\"so\"'") from error
        try:
            to = audience(options["user"], options["role"], everybody=options["all"], excepted=options["excepted"])
        except SSEError as error:
            raise CommandError(str(error)) from error
        if not to:
            raise CommandError("to whom? --user ID, --role NAME, or --all")
        ack = self.ask(Event(event, parsed, to))
        stored = "" if ack.stored else "; its journal does not have it, see sse's log"
        self.stdout.write(f"{ack.id}: {ack.matched} streams{stored}")
