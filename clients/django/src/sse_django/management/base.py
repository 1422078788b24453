"""What the commands have in common."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from sse_django.backends import SocketBackend
from sse_django.conf import config
from sse_django.events import Ack, Event, Operation, SSEError


class SSECommand(BaseCommand):
    """A command that talks to sse itself, whatever ``SSE["BACKEND"]`` says, and fails loudly."""

    requires_system_checks: Any = ()

    def ask(self, item: Event | Operation) -> Ack:
        """Send, wait for the answer, and turn what goes wrong into an exit status of 1."""
        try:
            return SocketBackend().confirm(item)
        except SSEError as error:
            path = config().SOCKET
            raise CommandError(str(error) if path in str(error) else f"{path}: {error}", returncode=1) from error
