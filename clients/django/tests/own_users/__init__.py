"""User models that a site may have: what is in these files runs in processes with other settings."""

from typing import Any

from django.conf import settings
from django.test import Client
from rest_framework.authtoken.models import Token


def answer(user: Any) -> Any:
    """Return what sse is told of a token of this user's."""
    token = Token.objects.get_or_create(user=user)[0].key
    headers = {"X-SSE-Key": settings.SSE["AUTH_KEY"], "Authorization": f"Token {token}"}
    asked = Client().get("/api/v1/sse/auth/", headers=headers)
    assert asked.status_code == 200
    return asked.json()
