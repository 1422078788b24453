"""``manage.py sse_stats``."""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from django.core.management.base import BaseCommand, CommandError

from sse_django.conf import config

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Says who is online."""

    help = "Says who is online, as /stats/ of sse does."
    requires_system_checks: Any = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--token", help="one that sse knows; without it a ticket is made (SSE['TICKET_KEY'])")
        parser.add_argument("--json", action="store_true", help="the answer as it came")

    def handle(self, *, token: str | None, **options: Any) -> None:
        url = config().URL.rstrip("/") + "/stats/"
        if token is None and not config().TICKET_KEY:
            raise CommandError("sse wants a token: give --token, or set SSE['TICKET_KEY']")
        headers = {"Authorization": f"Bearer {token or self._ticket()}"}
        try:
            # no proxy of the environment: sse is on this machine, and the token is for it alone
            with build_opener(ProxyHandler({})).open(Request(url, headers=headers), timeout=5) as answer:
                text = answer.read().decode()
            told = text.strip() if options["json"] else self._table(json.loads(text))
        except HTTPError as error:
            raise CommandError(f"{url}: {error.code} {error.read(500).decode(errors='replace')}") from error
        except OSError as error:
            raise CommandError(f"{url}: {getattr(error, 'reason', error)} (SSE['URL'])") from error
        except (HTTPException, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CommandError(f"{url}: this is not sse: {error!r} (SSE['URL'])") from error
        self.stdout.write(told)

    def _ticket(self) -> str:
        from sse_django.views import sign_ticket

        return sign_ticket("manage.py", [])

    def _table(self, stats: dict[str, Any]) -> str:
        lines = [f"{stats['total_users']} users, {stats['total_connections']} streams"]
        lines += [f"{count:6} {user}" for user, count in sorted(stats["users"].items(), key=lambda one: -one[1])]
        return "\n".join(lines)
