"""The settings: one dict, ``SSE``, of which every key has a default."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

SOCKET_MAX = 98
"""The longest path of a Unix socket that sse takes."""
ROLES_MAX = 64
"""So many different roles does sse know at a time."""
KEY_MIN = 32
"""The shortest key for HS256 (RFC 7518 section 3.2)."""


@dataclass(frozen=True)
class Config:
    """What ``settings.SSE`` says, and the defaults for what it does not say."""

    SOCKET: str = "/run/sse/sse.sock"
    """Where sse takes events: its ``--socket``."""
    BACKEND: str = "sse_django.backends.SocketBackend"
    """What events are handed to; ``sse_django.backends.MemoryBackend`` keeps them in ``sse_django.outbox``."""
    RAISE: bool = False
    """Whether an event that could not be sent raises ``SSEError`` instead of being logged and counted."""
    RESYNC: bool = True
    """Whether pages are told to reload, once sse is there again, when events to it were lost."""
    TIMEOUT: float = 0.5
    """Seconds that a send may wait while sse's socket is full; 0: none. In an event loop it waits 0.05 at most."""
    CONFIRM_TIMEOUT: float = 1.0
    """Seconds that ``confirm=True`` waits for the answer."""
    MAX_BYTES: int = 204_800
    """The longest datagram: the ``--datagram`` of sse."""
    ROLES: str = "sse_django.roles.group_names"
    """A function of a user that gives the names of its roles."""
    ROLE_NAMES: tuple[str, ...] = ()
    """If given, sse is told of no other roles than these: it knows 64 different ones at a time."""
    EVENTS: bool = True
    """Whether models registered in ``sse_events.py`` send events by themselves."""
    WATCH: bool = True
    """Whether a deactivated user, a deleted token or changed groups take effect on open streams at once."""
    AUTH_KEY: str = ""
    """What sse must send as ``X-SSE-Key``: the line of its ``--auth-key-file``."""
    AUTHENTICATION_CLASSES: tuple[str, ...] = ()
    """Who may listen; empty: ``REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"]``."""
    AUTH_MAX_AGE: int = 30
    """Seconds that sse may keep an answer; 0 to 300."""
    TICKET_KEY: str = ""
    """A line of the ``--ticket-key-file``, with which tickets are signed; empty: there are no tickets."""
    TICKET_SECONDS: int = 60
    """How long a ticket opens a stream."""
    STREAM_SECONDS: int = 3600
    """How long a stream opened by a ticket lasts, until the page must get another ticket; 0: until it is revoked."""
    URL: str = "http://127.0.0.1:8090/api/v1/sse"
    """Where ``manage.py sse_stats`` asks: ``--listen`` and ``--prefix``."""
    TOKEN_MODELS: tuple[str, ...] = field(default=("authtoken.Token", "knox.AuthToken"))
    """Models whose rows are tokens: when one is deleted, the streams opened with it end."""


NAMES = frozenset(f.name for f in fields(Config))


@cache
def config() -> Config:
    """Return the settings as they are now; what is wrong with them is left to the system checks."""
    given = getattr(settings, "SSE", {})
    if not isinstance(given, dict):
        return Config()  # E001
    known = {name: value for name, value in given.items() if name in NAMES}
    if isinstance(known.get("SOCKET"), os.PathLike):
        known["SOCKET"] = os.fspath(known["SOCKET"])
    return Config(**known)


def _changed(*, setting: str, **_: Any) -> None:
    if setting == "SSE":
        config.cache_clear()


setting_changed.connect(_changed, dispatch_uid="sse_django.conf")
