"""The app."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "api"
    verbose_name = "Сметы"

    def ready(self) -> None:
        from . import audit  # noqa: F401
