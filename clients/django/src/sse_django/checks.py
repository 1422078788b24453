"""System checks: what is wrong with the settings, found before the first event is lost."""

from __future__ import annotations

import math
import os
import re
import stat
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.db import DatabaseError
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from .conf import KEY_MIN, NAMES, ROLES_MAX, SOCKET_MAX, Config, config
from .roles import groups_field

if TYPE_CHECKING:
    from collections.abc import Sequence

_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "bool": (bool,), "int": (int,), "float": (int, float)}
_MOST = {"AUTH_MAX_AGE": 300}
_AUTH_KEY = re.compile(r"[!-~]{1,256}\Z")
_LEAST = {"TICKET_SECONDS": 1, "MAX_BYTES": 256, "CONFIRM_TIMEOUT": 0.001}


@register("sse_django")
def check_settings(**_: Any) -> list[CheckMessage]:
    """E001 to E010: settings that can't work. W001, W002: a socket that is not there, or may not be written to.

    W004, W005: nobody can be let in.
    """
    given = getattr(settings, "SSE", {})
    if not isinstance(given, dict):
        return [Error("SSE must be a dict.", id="sse_django.E001")]
    found: list[CheckMessage] = [
        Error(
            f"SSE has a key {key!r}, which does not exist.",
            hint="There are " + ", ".join(sorted(NAMES)) + ".",
            id="sse_django.E002",
        )
        for key in given
        if key not in NAMES
    ]
    wrong = [message for name, value in given.items() if name in NAMES for message in _check_type(name, value)]
    if wrong:
        return found + wrong
    return found + _check_values() + _check_socket() + _check_listeners()


def _check_type(name: str, value: Any) -> list[CheckMessage]:
    declared = next(str(f.type) for f in fields(Config) if f.name == name)
    if name == "SOCKET" and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if declared not in _TYPES:
        good = isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
        takes = "a list of texts"
    else:
        good = isinstance(value, _TYPES[declared]) and (declared == "bool" or not isinstance(value, bool))
        takes = {"str": "a text", "bool": "True or False", "int": "a whole number", "float": "a number"}[declared]
    if not good:
        shown = type(value).__name__ if name.endswith("_KEY") else repr(value)
        return [Error(f"SSE[{name!r}] must be {takes}, not {shown}.", id="sse_django.E003")]
    if declared in ("int", "float") and not (
        math.isfinite(value) and _LEAST.get(name, 0) <= value <= _MOST.get(name, value)
    ):
        limit = f"from {_LEAST.get(name, 0)}" + (f" to {_MOST[name]}" if name in _MOST else "")
        return [Error(f"SSE[{name!r}] must be {limit}, not {value!r}.", id="sse_django.E004")]
    return []


def _check_values() -> list[CheckMessage]:
    found: list[CheckMessage] = []
    now = config()
    for name in ("BACKEND", "ROLES"):
        try:
            if not callable(import_string(getattr(now, name))):
                found.append(Error(f"SSE[{name!r}]: {getattr(now, name)} can't be called.", id="sse_django.E005"))
        except ImportError as error:
            found.append(Error(f"SSE[{name!r}]: {error}", id="sse_django.E005"))
    for path in now.AUTHENTICATION_CLASSES:
        try:
            import_string(path)
        except ImportError as error:
            found.append(Error(f"SSE['AUTHENTICATION_CLASSES']: {error}", id="sse_django.E005"))
    for label in now.TOKEN_MODELS:
        try:
            apps.get_model(label)
        except (LookupError, ValueError) as error:
            if label.count(".") != 1 or label.split(".")[0] in apps.app_configs:
                found.append(Error(f"SSE['TOKEN_MODELS']: {error}", id="sse_django.E005"))
    if not now.SOCKET.startswith("/") or "\0" in now.SOCKET or len(now.SOCKET.encode()) > SOCKET_MAX:
        found.append(
            Error(
                f"SSE['SOCKET'] must be an absolute path of at most {SOCKET_MAX} bytes.",
                id="sse_django.E006",
            )
        )
    if now.TICKET_KEY and len(now.TICKET_KEY.encode()) < KEY_MIN:
        found.append(
            Error(
                f"SSE['TICKET_KEY'] must have at least {KEY_MIN} bytes (RFC 7518 section 3.2).",
                hint="python -c 'import secrets; print(secrets.token_urlsafe(32))'",
                id="sse_django.E007",
            )
        )
    if now.TICKET_KEY and find_spec("jwt") is None:
        found.append(
            Error(
                "SSE['TICKET_KEY'] is set, and PyJWT is not installed.",
                hint="pip install 'sse-django[tickets]'",
                id="sse_django.E008",
            )
        )
    if now.AUTH_KEY and not _AUTH_KEY.match(now.AUTH_KEY):
        found.append(
            Error(
                "SSE['AUTH_KEY'] must be 1 to 256 visible ASCII characters without spaces: sse takes no other.",
                id="sse_django.E009",
            )
        )
    if now.TICKET_KEY.strip() != now.TICKET_KEY or len(now.TICKET_KEY.splitlines()) > 1:
        found.append(Error("SSE['TICKET_KEY'] must be one line, without spaces around it.", id="sse_django.E009"))
    return found


def _check_listeners() -> list[CheckMessage]:
    """Find out whether anybody can be let in."""
    if not config().AUTH_KEY and not config().TICKET_KEY:
        return [
            checks.Warning(
                "Neither SSE['AUTH_KEY'] nor SSE['TICKET_KEY'] is set: sse can ask nobody who may listen.",
                hint="SSE['AUTH_KEY'] is the line of sse's --auth-key-file.",
                id="sse_django.W004",
            )
        ]
    try:
        found = hasattr(settings, "ROOT_URLCONF") and reverse("sse_django:auth")
    except NoReverseMatch:
        found = ""
    if not found:
        return [
            checks.Warning(
                "The URLs of sse_django are not there: sse can't ask who may listen, and there are no tickets.",
                hint="path('api/v1/sse/', include('sse_django.urls')) in the project's urls.py.",
                id="sse_django.W005",
            )
        ]
    return []


@register("sse_django", checks.Tags.database)
def check_roles(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """W003: more groups than sse knows roles. Only ``check --database`` and ``migrate`` may ask the database."""
    field, now = groups_field(get_user_model()), config()
    if not databases or field is None or now.ROLES != Config.ROLES or now.ROLE_NAMES:
        return []
    try:
        count = field.related_model._default_manager.using(databases[0]).count()
    except DatabaseError:
        return []  # there are no tables yet
    if count <= ROLES_MAX:
        return []
    return [
        checks.Warning(
            f"There are {count} groups, and sse knows {ROLES_MAX} roles at a time: who brings one more is not let in.",
            hint="List those that events are sent to in SSE['ROLE_NAMES'], or give a function in SSE['ROLES'].",
            id="sse_django.W003",
        )
    ]


def _check_socket() -> list[CheckMessage]:
    now = config()
    if now.BACKEND != Config.BACKEND or not now.SOCKET.startswith("/") or "\0" in now.SOCKET:
        return []
    try:
        mode = Path(now.SOCKET).stat().st_mode
    except OSError as error:
        return [
            checks.Warning(
                f"There is no socket at {now.SOCKET} ({error.strerror}): events are lost until sse runs.",
                hint="Start sse with --socket of the same path, or set SSE['SOCKET'].",
                id="sse_django.W001",
            )
        ]
    if not stat.S_ISSOCK(mode):
        return [Error(f"SSE['SOCKET'] {now.SOCKET} is not a socket.", id="sse_django.E010")]
    if not os.access(now.SOCKET, os.W_OK):
        return [
            checks.Warning(
                f"This user may not write to {now.SOCKET}.",
                hint="Put it in the group of sse, or see --socket-mode.",
                id="sse_django.W002",
            )
        ]
    return []
