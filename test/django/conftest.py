"""Fixtures: one database for all, a Django for each address, an sse for each test."""

import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "site"))
BASE = Path(tempfile.mkdtemp(prefix="sse-django."))
os.environ.update(
    SITE_DB=str(BASE / "db.sqlite3"), DJANGO_SETTINGS_MODULE="project.settings", ASAN_OPTIONS="detect_leaks=1"
)
django.setup()

from django.core.management import call_command  # noqa: E402

from harness import SSE_KEY, Django, Sse  # noqa: E402

MakeDjango = Callable[..., Django]
MakeSse = Callable[..., Sse]
_numbers = itertools.count(1)


def pytest_sessionstart() -> None:
    if not os.access(os.environ.get("SSE_BIN", ""), os.X_OK):
        pytest.exit("SSE_BIN must name the sse to test", 2)
    call_command("migrate", verbosity=0)


def pytest_sessionfinish() -> None:
    shutil.rmtree(BASE)


@pytest.fixture(scope="session")
def _both() -> Iterator[dict[str, Django]]:
    """Started at the same time: most of that is waiting for Python to import Django."""
    both = {"tcp": Django(BASE / "tcp").start(), "unix": Django(BASE / "unix", unix=True).start()}
    for site in both.values():
        site.ready()
    yield both
    for site in both.values():
        site.close()


def _as_new(site: Django) -> Django:
    site.knobs()
    site.count_anew()
    return site


@pytest.fixture
def site(_both: dict[str, Django]) -> Django:
    """The Django that is asked over TCP. It is shared: who stops one, makes his own."""
    return _as_new(_both["tcp"])


@pytest.fixture(params=["tcp", "unix"])
def any_site(_both: dict[str, Django], request: pytest.FixtureRequest) -> Django:
    """Both addresses, one after the other."""
    return _as_new(_both[request.param])


@pytest.fixture
def make_site() -> Iterator[MakeDjango]:
    """Makes a Django of one's own: make_site(keepalive=1)."""
    made: list[Django] = []

    def make(start: bool = True, **how: Any) -> Django:
        made.append(Django(BASE / f"django-{next(_numbers)}", **how))
        return made[-1].start().ready() if start else made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def make_sse() -> Iterator[MakeSse]:
    """Makes an sse that asks a Django: make_sse(site, "--auth-refresh", "1s"). Without one: make_sse(None, ...)."""
    made: list[Sse] = []

    def make(site: Django | None, *options: str, start: bool = True) -> Sse:
        directory = BASE / f"sse-{next(_numbers)}"
        directory.mkdir()
        if site is not None:
            key = directory / "key"
            key.write_text(SSE_KEY + "\n")
            options = ("--auth-url", site.auth_url, "--auth-key-file", str(key), *options)
        if "--auth-timeout" not in options:
            options = ("--auth-timeout", "5s", *options)  # a busy machine is no fault of sse
        one = Sse(directory, "--retry", "100ms", "--retry-jitter", "100ms", "--drain", "1s", *options)
        if start:
            made.append(one.start())
        return one

    yield make
    try:
        for one in made:
            one.close()
    finally:
        for one in made:
            one.kill()
