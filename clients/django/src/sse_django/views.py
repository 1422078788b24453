"""The view that sse asks who a token belongs to, and the one that gives tickets."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from django.utils.crypto import constant_time_compare
from django.utils.module_loading import import_string
from rest_framework.exceptions import APIException, AuthenticationFailed, NotAuthenticated
from rest_framework.permissions import BasePermission, IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from .conf import config
from .events import user_id
from .manager import QUIET_S
from .roles import roles_of
from .users import session_sid, token_sid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rest_framework.authentication import BaseAuthentication
    from rest_framework.request import Request

logger = logging.getLogger("sse_django")
SCHEMES = ("Token", "Bearer")
"""What DRF's and Knox's tokens, and what simplejwt's stand behind: tried beside the scheme that sse sent."""


class NoTickets(APIException):
    """The site asks for what its settings do not provide."""

    status_code = 503
    default_code = "unconfigured"


class NotSSE(APIException):
    """Whoever asks has not the key that sse has, or there is none.

    Not 401 or 403, which would tell browsers to give up: sse takes it for a fault, and asks again. Not 5xx: anybody may
    ask, and the site's admins would get a mail each time.
    """

    status_code = 412
    default_code = "not_sse"


def authenticators() -> list[BaseAuthentication]:
    """Return those of ``SSE["AUTHENTICATION_CLASSES"]``, else of the site."""
    names = config().AUTHENTICATION_CLASSES
    classes: Iterable[Any] = map(import_string, names) if names else api_settings.DEFAULT_AUTHENTICATION_CLASSES
    return [cls() for cls in classes]


def authenticate(request: Request) -> tuple[Any, Any]:
    """Return the user and the token (what DRF calls ``request.auth``) that the site knows for an Authorization."""
    scheme, _, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    refusal: APIException = NotAuthenticated()
    for authenticator in authenticators():
        for word in dict.fromkeys((scheme, *SCHEMES)):
            request.META["HTTP_AUTHORIZATION"] = f"{word} {token}"
            vars(request._request).pop("headers", None)  # Django caches them
            try:
                found = authenticator.authenticate(request)
            except AuthenticationFailed as error:
                refusal = error
                continue
            except UnicodeError:  # Knox
                refusal = AuthenticationFailed()
                continue
            if found is not None and found[0] is not None and found[0].is_authenticated:
                if getattr(found[0], "is_active", True):
                    return found
                refusal = AuthenticationFailed("User inactive or deleted.")
    raise refusal


_complained: dict[str, float] = {}


def _complain(text: str) -> None:
    """Log it, but not as often as somebody asks."""
    now = time.monotonic()
    if now - _complained.get(text, -QUIET_S) >= QUIET_S:
        _complained[text] = now
        logger.error(text)


class AuthView(APIView):
    """``GET sse/auth/``: what sse asks (``--auth-url``)."""

    authentication_classes: Sequence[type[BaseAuthentication]] = ()
    permission_classes: Sequence[type[BasePermission]] = ()
    throttle_classes = ()
    versioning_class = None
    renderer_classes = (JSONRenderer,)

    def get(self, request: Request) -> Response:
        if not config().AUTH_KEY:
            _complain("sse asks who a token belongs to, and SSE['AUTH_KEY'] is not set")
            raise NotSSE("SSE['AUTH_KEY'] is not set")
        if not constant_time_compare(request.META.get("HTTP_X_SSE_KEY", ""), config().AUTH_KEY):
            _complain("X-SSE-Key is missing or wrong: is SSE['AUTH_KEY'] the line of sse's --auth-key-file?")
            raise NotSSE("X-SSE-Key is missing or wrong")
        try:
            user, token = authenticate(request)
        except (AuthenticationFailed, NotAuthenticated) as refusal:
            return Response({"detail": str(refusal.detail)}, status=401, headers={"Cache-Control": "no-store"})
        answer: dict[str, Any] = {"user": user_id(user), "roles": roles_of(user)}
        sid = token_sid(token)
        if sid:
            answer["sid"] = sid
        return Response(answer, headers={"Cache-Control": f"max-age={config().AUTH_MAX_AGE}"})


class TicketView(APIView):
    """``POST sse/ticket/``: a short-lived token for ``EventSource``, for whom the site knows, by cookie say."""

    permission_classes = (IsAuthenticated,)
    versioning_class = None
    renderer_classes = (JSONRenderer,)

    def get_authenticators(self) -> list[BaseAuthentication]:
        return authenticators()

    def post(self, request: Request) -> Response:
        if not config().TICKET_KEY:
            raise NoTickets("SSE['TICKET_KEY'] is not set")
        if not getattr(request.user, "is_active", True):
            raise AuthenticationFailed("User inactive or deleted.")
        ticket = make_ticket(request.user, sid=self._sid(request))
        answer = {"ticket": ticket, "expires_in": config().TICKET_SECONDS}
        return Response(answer, headers={"Cache-Control": "no-store"})

    def _sid(self, request: Request) -> str:
        session = getattr(request, "session", None)
        return (token_sid(request.auth) if request.auth else "") or session_sid(session)


def make_ticket(user: Any, *, sid: str = "") -> str:
    """Return a ticket for a user: a JWT that sse checks by itself."""
    return sign_ticket(user_id(user), roles_of(user), sid=sid)


def sign_ticket(subject: str, roles: list[str], *, sid: str = "") -> str:
    import jwt

    now = time.time()
    claims: dict[str, Any] = {
        "sub": subject,
        "roles": roles,
        "aud": "sse",
        "iat": int(now * 1000) / 1000,  # to the millisecond: a ticket made just after a revocation is good
        "exp": int(now) + config().TICKET_SECONDS,
    }
    if sid:
        claims["sid"] = sid
    if config().STREAM_SECONDS:
        claims["expire_at"] = int(now) + config().STREAM_SECONDS
    return jwt.encode(claims, config().TICKET_KEY, algorithm="HS256")
