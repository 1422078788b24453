"""The app."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class SSEConfig(AppConfig):
    """Finds ``sse_events.py`` in every app, and watches users, tokens and groups."""

    name = "sse_django"
    verbose_name = "sse"

    def ready(self) -> None:
        from . import checks, users  # noqa: F401

        autodiscover_modules("sse_events")
        users.connect()
