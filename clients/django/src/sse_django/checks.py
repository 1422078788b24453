"""System checks: what is wrong with the settings, found before the first event is lost."""

from __future__ import annotations

import math
import os
import stat
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.utils.module_loading import import_string

from .conf import KEY_MIN, NAMES, SOCKET_MAX, Config, config

_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "bool": (bool,), "int": (int,), "float": (int, float)}
_MOST = {"AUTH_MAX_AGE": 300}
_LEAST = {"TICKET_SECONDS": 1, "MAX_BYTES": 256, "CONFIRM_TIMEOUT": 0.001}


@register("sse_django")
def check_settings(**_: Any) -> list[CheckMessage]:
    """E001 to E009: settings that can't work. W001, W002: a socket that is not there, or may not be written to."""
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
    return found + _check_values() + _check_socket()


def _check_type(name: str, value: Any) -> list[CheckMessage]:
    declared = next(str(f.type) for f in fields(Config) if f.name == name)
    if declared not in _TYPES:
        good = isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value)
        takes = "a list of texts"
    else:
        good = isinstance(value, _TYPES[declared]) and (declared == "bool" or not isinstance(value, bool))
        takes = {"str": "a text", "bool": "True or False", "int": "a whole number", "float": "a number"}[declared]
    if not good:
        return [Error(f"SSE[{name!r}] must be {takes}, not {value!r}.", id="sse_django.E003")]
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
            import_string(getattr(now, name))
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
    if any(key != key.strip() or len(key.splitlines()) > 1 for key in (now.AUTH_KEY, now.TICKET_KEY)):
        found.append(Error("SSE: a key must be one line, without spaces around it.", id="sse_django.E009"))
    return found


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
