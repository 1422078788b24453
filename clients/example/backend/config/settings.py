"""Settings. What differs from place to place comes from the environment; the defaults are those of the demo.

| variable | default | |
| --- | --- | --- |
| SITE_STATE | clients/example/.demo | a directory: db.sqlite3, the files of keys, static/ |
| SITE_AUDIT_LOG | backend/audit.log | |
| SITE_HOSTS | localhost,127.0.0.1,[::1] | ALLOWED_HOSTS |
| SITE_HTTPS | 0 | 1: the proxy speaks TLS, and cookies are for https alone |
| SITE_DEBUG | 0 | |
| SSE_SOCKET | SITE_STATE/run/sse.sock | where sse takes events |
| SSE_URL | http://127.0.0.1:8090/api/v1/sse | where ``manage.py sse_stats`` asks |
"""

import os
import secrets
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent
STATE = Path(os.environ.get("SITE_STATE", BASE_DIR.parent / ".demo"))
AUDIT_LOG = os.environ.get("SITE_AUDIT_LOG", BASE_DIR / "audit.log")


def _key(name: str) -> str:
    """Return the line of a file that the launcher has made; without it, a key that only this process knows."""
    try:
        return (STATE / name).read_text().strip()
    except FileNotFoundError:
        return secrets.token_urlsafe(48)


SECRET_KEY = _key("django.key")
DEBUG = os.environ.get("SITE_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("SITE_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = [
    "api",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "sse_django",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "api.actor.actor_middleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

DATABASES: dict[str, Any] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": STATE / "db.sqlite3",
        "OPTIONS": {
            "timeout": 20,
            # A transaction that reads first and writes later could not wait for another writer: it would fail at once.
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "api.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["api.permissions.HasRole"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
}
SSE = {
    "AUTHENTICATION_CLASSES": ["api.authentication.RoleTokenAuthentication"],
    "SOCKET": os.environ.get("SSE_SOCKET", str(STATE / "run" / "sse.sock")),
    "AUTH_KEY": _key("auth.key"),
    "TICKET_KEY": _key("ticket.key"),
    "URL": os.environ.get("SSE_URL", "http://127.0.0.1:8090/api/v1/sse"),
}

LANGUAGE_CODE = "ru"
TIME_ZONE = "Europe/Moscow"
STATIC_URL = "/static/"
STATIC_ROOT = STATE / "static"

# The proxy always sets X-Forwarded-Proto, and is the only one who can reach Django.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
HTTPS = os.environ.get("SITE_HTTPS") == "1"
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^api/v1/sse/auth/$"]  # sse asks from the same machine, without TLS
SECURE_HSTS_SECONDS = 30 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = False
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]  # whether other subdomains have TLS is not ours to say

# sse writes into the same file (its --log-file); all of them append whole lines.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"logfmt": {"()": "api.audit.LogfmtFormatter"}},
    "handlers": {
        "audit": {
            "class": "logging.handlers.WatchedFileHandler",  # logrotate may move the file away
            "filename": AUDIT_LOG,
            "encoding": "utf-8",
            "delay": True,
            "formatter": "logfmt",
        },
    },
    "loggers": {
        "audit": {"handlers": ["audit"], "level": "INFO"},
        "sse_django": {"handlers": ["audit"], "level": "INFO"},
        "django.request": {"handlers": ["audit"], "level": "ERROR"},
    },
}
