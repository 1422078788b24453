"""A small site: estimates and projects, as the document of the project has them.

What differs from run to run comes from the environment, because the site also runs in processes of its own:
under gunicorn and uvicorn, in a Celery worker, as management commands.
"""

import os
from pathlib import Path

BASE = Path(os.environ.get("SITE_DIR", "/nonexistent"))
SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "site_urls"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "rest_framework",
    "rest_framework.authtoken",
    "knox",
    "estimates",
    "sse_django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SITE_DB", ":memory:"),
        "OPTIONS": {"timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.TokenAuthentication",
        "knox.auth.TokenAuthentication",
        "rest_framework_simplejwt.authentication.JWTAuthentication",
    ],
}
SIMPLE_JWT = {"SIGNING_KEY": "only for tests, and long enough for HS256"}
SSE = {
    "SOCKET": os.environ.get("SITE_SOCKET", "/nonexistent/sse.sock"),
    "AUTH_KEY": "the-key-that-sse-and-django-share",
    "RESYNC": False,  # a thread that tells the socket of another test
    "TICKET_KEY": os.environ.get("SITE_TICKET_KEY", ""),
    "URL": os.environ.get("SITE_SSE_URL", "http://127.0.0.1:1/api/v1/sse"),
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"sse_django": {"handlers": ["console"], "level": "INFO", "propagate": True}},
}
CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "data_folder_in": str(BASE / "queue"),
    "data_folder_out": str(BASE / "queue"),
    "control_folder": str(BASE / "control"),
}
