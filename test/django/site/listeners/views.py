"""The question of sse: whose token is this, and which roles has its user?"""

import time
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpResponseBase
from django.utils.crypto import constant_time_compare, salted_hmac
from rest_framework.authentication import TokenAuthentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.authentication import JWTAuthentication

from listeners import knobs, meter


class AuthView(APIView):
    """Django is the authority; sse keeps what it says for a while. 401 and 403 mean: he may not listen."""

    authentication_classes = (TokenAuthentication, JWTAuthentication)
    permission_classes = (IsAuthenticated,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if not constant_time_compare(request.headers.get("X-SSE-Key", ""), settings.SSE_KEY):
            raise PermissionDenied
        super().initial(request, *args, **kwargs)

    def finalize_response(self, *args: Any, **kwargs: Any) -> Response:
        meter.decided()
        time.sleep(knobs.knobs.delay)  # what was decided may be out of date by now
        return super().finalize_response(*args, **kwargs)

    def get(self, request: Request) -> HttpResponseBase:
        user = request.user
        assert isinstance(user, User)
        turned = knobs.knobs
        return knobs.instead() or Response(
            {
                "user": str(user.pk),
                "roles": list(user.groups.order_by("name").values_list("name", flat=True)),
                "sid": session_id(str(request.auth)),
                "expire_at": None if turned.expire_in is None else int(time.time() + turned.expire_in),
            },
            headers={"Cache-Control": f"max-age={turned.max_age}"} if turned.max_age else {},
        )


def session_id(token: str) -> str:
    """Names the session of a token without giving the token away."""
    return salted_hmac("listeners.session_id", token, algorithm="sha256").hexdigest()[:32]
