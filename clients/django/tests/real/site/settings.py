"""The test site as it runs in processes of its own, with what makes it do things (acts.py) from everywhere."""

import site_settings
from site_settings import *  # noqa: F403

INSTALLED_APPS = [*site_settings.INSTALLED_APPS, "real.site"]
ROOT_URLCONF = "real.site.urls"
MIGRATION_MODULES = dict.fromkeys(("auth", "authtoken", "contenttypes", "knox", "sessions"))  # all at once, by syncdb
DATABASES = {
    "default": {
        **site_settings.DATABASES["default"],
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
        },
    }
}
# The machine may be busy: twice the default.
SSE = {**site_settings.SSE, "TIMEOUT": 1.0}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {name: {"handlers": ["console"], "level": "INFO"} for name in ("sse_django", "django.request")},
}
