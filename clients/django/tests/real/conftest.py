"""Fixtures: one place for a process of tests, its sites started when they are first asked for, an sse for each test."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from .harness import KEY, TICKET_KEY, Actor, Place, Sse, Web, gunicorn, uvicorn

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).resolve().parents[4]
_numbers = itertools.count(1)


class MakeSse(Protocol):
    def __call__(self, web: Web | None, *options: str, key: str = KEY) -> Sse: ...


class MakeActor(Protocol):
    def __call__(self, **env: str) -> Actor: ...


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty one; all processes of tests share it, and take copies."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    database = shared / "empty.sqlite3"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not database.exists():
            with tempfile.TemporaryDirectory() as scratch:
                first = Place(Path(scratch))
                made = first.manage("migrate", "--run-syncdb", "--verbosity=0")
                assert made.returncode == 0, made.stderr
                first.database.rename(database)
    return database


@pytest.fixture(scope="session")
def place(database: Path) -> Iterator[Place]:
    """It is shared: what a test wants to be alone with, it makes itself (people, groups, actors)."""
    os.environ.setdefault("SSE_BIN", str(TOP / "sse"))
    if not os.access(os.environ["SSE_BIN"], os.X_OK):
        pytest.fail("SSE_BIN must name the sse to test")
    place = Place(Path(tempfile.mkdtemp(prefix="sse-real.")))  # the path of a socket is short
    place.directory.chmod(0o755)  # for who is somebody else
    shutil.copy(database, place.database)
    yield place
    shutil.rmtree(place.directory)


def _running(web: Web) -> Iterator[Web]:
    yield web.start().ready()
    web.close()


@pytest.fixture(scope="session")
def sync_web(place: Place) -> Iterator[Web]:
    yield from _running(gunicorn(place, "sync", "--worker-class=sync"))


@pytest.fixture(scope="session")
def gthread_web(place: Place) -> Iterator[Web]:
    yield from _running(gunicorn(place, "gthread", "--worker-class=gthread", "--threads=4"))


@pytest.fixture
def web(gthread_web: Web) -> Web:
    """The site, where it does not matter what runs it."""
    return gthread_web


@pytest.fixture(scope="session")
def ticket_web(place: Place) -> Iterator[Web]:
    """The site with tickets."""
    yield from _running(gunicorn(place, "tickets", "--worker-class=gthread", "--threads=4", SITE_TICKET_KEY=TICKET_KEY))


@pytest.fixture(scope="session")
def async_web(place: Place) -> Iterator[Web]:
    yield from _running(uvicorn(place, "uvicorn"))


@pytest.fixture
def make_sse(place: Place) -> Iterator[MakeSse]:
    """Makes the sse of the place, one at a time: make_sse(web, "--journal", ...)."""
    made: list[Sse] = []

    def make(web: Web | None, *options: str, key: str = KEY) -> Sse:
        directory = place.directory / f"sse-{next(_numbers)}"
        directory.mkdir()
        if web is not None:
            (directory / "key").write_text(key + "\n")
            options = ("--auth-url", web.auth_url, "--auth-key-file", str(directory / "key"), *options)
        one = Sse(
            place,
            directory,
            *("--auth-timeout", "5s"),  # a busy machine is no fault of sse
            *("--retry", "100ms", "--retry-jitter", "0", "--drain", "1s", *options),
        )
        made.append(one.start())
        return one

    yield make
    try:
        for one in made:
            one.close()
    finally:
        for one in made:
            one.kill()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A token file, for the tests in which it does not matter who listens."""
    path = tmp_path / "tokens"
    path.write_text("manager-token 1 manager\nother-token 2 other\n")
    return path


@pytest.fixture
def sse(make_sse: MakeSse, tokens: Path) -> Sse:
    """An sse that asks nobody: ``manager-token`` and ``other-token`` are let in."""
    return make_sse(None, "--token-file", str(tokens))


@pytest.fixture
def make_actor(place: Place, tmp_path: Path) -> Iterator[MakeActor]:
    made: list[Actor] = []

    def make(**env: str) -> Actor:
        made.append(Actor(place, tmp_path / f"actor-{len(made)}", **env))
        return made[-1]

    yield make
    for one in made:
        one.close()
