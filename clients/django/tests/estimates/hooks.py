"""What a site may name in ``SSE``: some of it does not work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework.authentication import BaseAuthentication, TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sse_django import Ack, Event, Operation


class Broken:
    """A backend with a mistake in it."""

    def send(self, items: Sequence[Event | Operation]) -> None:
        raise ZeroDivisionError(len(items))

    def confirm(self, item: Event | Operation) -> Ack:
        raise ZeroDivisionError(item)


class Unmade:
    """A backend that can't even be made."""

    def __init__(self) -> None:
        raise ZeroDivisionError


def staff(user: Any) -> list[str]:
    return ["staff"] if user.is_staff else []


def groups(user: Any) -> list[str]:
    """What a user model may have by that name."""
    return list(user.groups)


def no_roles(user: Any) -> list[str]:
    raise ZeroDivisionError(user)


class KeyAuthentication(TokenAuthentication):
    """A token behind a word of the site's own."""

    keyword = "Api-Key"


class Lenient(BaseAuthentication):
    """Takes anybody's name for a proof, also of who is not active any more."""

    def authenticate(self, request: Any) -> tuple[Any, None]:
        from django.contrib.auth import get_user_model

        name = request.META["HTTP_AUTHORIZATION"].split()[-1]
        user = get_user_model().objects.filter(username=name).first()
        if user is None:
            raise AuthenticationFailed({"detail": "nobody", "code": "nobody"})
        return user, None


class ReadsElsewhere:
    """A router as for a replica."""

    def db_for_read(self, *_: Any, **__: Any) -> str:
        return "other"

    def db_for_write(self, *_: Any, **__: Any) -> str:
        return "default"

    def allow_relation(self, *_: Any, **__: Any) -> bool:
        return True
