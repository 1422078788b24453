"""``manage.py act '{"act": "say", "args": ["news"], "kwargs": {}}'``; without one it takes them from its input."""

import json
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from real.site.acts import ACTS


class Command(BaseCommand):
    requires_system_checks: Any = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("asked", nargs="?")

    def handle(self, *, asked: str | None, **_: Any) -> None:
        for line in sys.stdin if asked is None else [asked]:
            one = json.loads(line)
            self.stdout.write(json.dumps({"result": ACTS[one["act"]](*one["args"], **one["kwargs"])}))
            self.stdout.flush()
