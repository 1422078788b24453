"""Acts by a Celery worker."""

from typing import Any

from celery import Celery

app = Celery("site")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task  # type: ignore[untyped-decorator]
def act(name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
    from .acts import ACTS

    ACTS[name](*args, **kwargs)
