"""The settings. What a test wants otherwise comes in by SITE_* variables."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

SITE = Path(__file__).resolve().parent.parent

DEBUG = False
SECRET_KEY = os.environ.get("SITE_SECRET_KEY", "for-tests-only-and-otherwise-useless")
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "estimates.example"]  # the last one is for --auth-host
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
USE_TZ = True

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "rest_framework",
    "rest_framework.authtoken",
]
MIDDLEWARE = [
    "listeners.meter.Meter",  # the first: it counts all that a question takes
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SITE_DB", str(SITE.parents[2] / "build" / "test-django.sqlite3")),
        "CONN_MAX_AGE": None,
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
}
SIMPLE_JWT = {
    "ALGORITHM": "HS256",
    "SIGNING_KEY": os.environ.get("SITE_TICKET_KEY", "a-key-of-32-bytes-or-more-for-tests-only"),
    "AUDIENCE": "sse",
    "USER_ID_CLAIM": "sub",
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=1),
}

# sse must send this as X-SSE-Key.
SSE_KEY = os.environ.get("SITE_SSE_KEY", "the-key-that-sse-and-django-share")
# For how long sse may keep an answer, in seconds: Cache-Control: max-age. Empty: no such header.
SSE_MAX_AGE = os.environ.get("SITE_SSE_MAX_AGE", "")
