"""Who may listen to events."""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

from .models import User
from .permissions import HasRole


class RoleTokenAuthentication(TokenAuthentication):
    """For sse: who has no role sees nothing in the API (403, ``HasRole``), and hears of nothing either."""

    def authenticate_credentials(self, key: str) -> tuple[Any, Any]:
        user, token = super().authenticate_credentials(key)
        if not isinstance(user, User) or user.role is None:
            raise AuthenticationFailed(HasRole.message)
        return user, token
