"""Fixtures: where events go, who they are about, and what was said in the log."""

from __future__ import annotations

import contextlib
import copy
import itertools
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from django.conf import settings as site
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from estimates.wire import Wire
from sse_django import manager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from django.contrib.auth.models import User
    from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

    from sse_django import Event, Operation

site.DATABASES["other"] = copy.deepcopy(site.DATABASES["default"])
_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Forks with threads are what some tests are about, and those of pytest-xdist are always there."""
    config.addinivalue_line("filterwarnings", "ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture(scope="session")
def django_db_use_migrations() -> bool:
    """The tables are made at once, which is faster."""
    return False


@pytest.fixture(autouse=True)
def _as_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent or logged before."""
    monkeypatch.setattr(manager, "report", manager.Report())
    monkeypatch.setattr("sse_django.views._complained", {})


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, that others may look into too."""
    with tempfile.TemporaryDirectory(prefix="sse.") as name:
        Path(name).chmod(0o755)
        yield Path(name)


class Configure(Protocol):
    def __call__(self, **keys: Any) -> None: ...


@pytest.fixture
def configure(settings: Settings) -> Configure:
    """Change keys of ``SSE``: configure(RAISE=True)."""

    def change(**keys: Any) -> None:
        settings.SSE = {**settings.SSE, **keys}

    return change


@pytest.fixture
def wire(place: Path, configure: Configure) -> Iterator[Wire]:
    """The other end of the socket that the settings name."""
    wire = Wire(place / "sse.sock")
    configure(SOCKET=str(wire.path))
    yield wire
    wire.close()


class Make(Protocol):
    def __call__(self, **fields: Any) -> User: ...


@pytest.fixture
def person() -> Make:
    """Make a user: person(is_active=False)."""
    return lambda **fields: get_user_model().objects.create(**{"username": f"person{next(_numbers)}", **fields})


@pytest.fixture
def group() -> Callable[[str], Group]:
    """Make a group, or return the one of this name."""
    return lambda name: Group.objects.get_or_create(name=name)[0]


class Commit(Protocol):
    def __call__(self) -> AbstractContextManager[None]: ...


@pytest.fixture
def committed(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks, sse_outbox: list[Event | Operation]
) -> Commit:
    """Do what a commit does at the end of the block; what was sent before it is forgotten."""

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        sse_outbox.clear()
        with django_capture_on_commit_callbacks(execute=True):
            yield
            assert sse_outbox == []

    return block


class Said:
    """What the package has logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def __call__(self, level: int = logging.WARNING) -> list[str]:
        return [
            record.getMessage()
            for record in self._caplog.records
            if record.name == "sse_django" and record.levelno >= level
        ]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    caplog.set_level(logging.DEBUG, "sse_django")
    return Said(caplog)
