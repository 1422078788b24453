"""Who does what happens now: events say so."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from .models import User

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

_request: ContextVar[HttpRequest | None] = ContextVar("request", default=None)


def actor() -> User | None:
    """Return the user of the request that is being answered; None outside of one, and if nobody is logged in.

    DRF writes whom it has found into Django's request, so this is the same in the API and in the admin.
    """
    user = getattr(_request.get(), "user", None)
    return user if isinstance(user, User) and user.is_authenticated else None


def actor_middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Remember the request until it is answered: payloads are made at the commit, which may come after the view."""

    def middleware(request: HttpRequest) -> HttpResponse:
        before = _request.set(request)
        try:
            return get_response(request)
        finally:
            _request.reset(before)

    return middleware
