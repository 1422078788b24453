"""The audit log: who did what, one line each, in the form of sse's own log."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import transaction
from django.dispatch import receiver

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.db.models import Model
    from django.http import HttpRequest

logger = logging.getLogger("audit")
PLAIN = re.compile(r"[^\s\"=\\\x00-\x1f\x7f]+\Z")
"""What stands in logfmt without quotes; in them a line break is ``\\n``, so that nobody can forge a line."""


class LogfmtFormatter(logging.Formatter):
    """``time=... app=audit level=info msg=created user=manager1 ...``; what sse_django says is ``app=SSE``."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        pairs = {
            "time": moment.replace("+00:00", "Z"),
            "app": "SSE" if record.name == "sse_django" else record.name,
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            **getattr(record, "pairs", {}),
        }
        line = " ".join(f"{key}={_quoted(value)}" for key, value in pairs.items())
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _quoted(value: Any) -> str:
    text = str(value)
    return text if PLAIN.match(text) else json.dumps(text, ensure_ascii=False)


def audit(action: str, user: AbstractBaseUser, instance: Model) -> None:
    """Log what a user did to an instance, once it is committed. Call it while the instance has its pk."""
    pairs = {
        "user": user.get_username(),
        "object": f"{instance._meta.model_name}:{instance.pk}",
        "name": str(instance),
    }
    transaction.on_commit(lambda: logger.info(action, extra={"pairs": pairs}))


@receiver(user_logged_in)
def _logged_in(request: HttpRequest, user: AbstractBaseUser, **_: Any) -> None:
    logger.info("login", extra={"pairs": {"user": user.get_username(), "from": _address(request)}})


@receiver(user_logged_out)
def _logged_out(request: HttpRequest, user: AbstractBaseUser | None, **_: Any) -> None:
    if user is not None:
        logger.info("logout", extra={"pairs": {"user": user.get_username(), "from": _address(request)}})


@receiver(user_login_failed)
def _login_failed(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    tried = str(credentials.get("username", ""))[:150]
    logger.warning("login_failed", extra={"pairs": {"user": tried, "from": _address(request)}})


def _address(request: HttpRequest | None) -> str:
    """Return who asked, as the proxy says; without a proxy, who is connected."""
    meta = request.META if request is not None else {}
    return str(meta.get("HTTP_X_REAL_IP") or meta.get("REMOTE_ADDR") or "-")
