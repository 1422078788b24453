"""Fixtures: a directory for each test, servers that must end well, and a Django that answers what a test says."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from stage import Backend, MakeServer, Server


def pytest_sessionstart() -> None:
    if not os.access(os.environ.get("SSE_BIN", ""), os.X_OK):
        pytest.exit("SSE_BIN must name the sse to test", 2)
    # A shell lets what it starts with & ignore INT, and so would all that is started here.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short enough for the path of a Unix socket."""
    path = Path(tempfile.mkdtemp(prefix="sse-ops."))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def make_server(directory: Path) -> Iterator[MakeServer]:
    """make_server("--queue", "2") starts one; start=False only makes it."""
    made: list[Server] = []

    def make(*options: str, start: bool = True, tokens: bool = True, env: Mapping[str, str] | None = None) -> Server:
        one = Server(directory / f"sse-{len(made)}", *DEFAULTS, *options, tokens=tokens, env=env)
        made.append(one)
        return one.start() if start else one

    yield make
    try:
        for one in made:
            if one.runs:
                one.close()
    finally:
        for one in made:
            one.kill()


# A busy machine is no fault of sse; and nobody waits for browsers at the end.
DEFAULTS = ("--auth-timeout", "5s", "--drain", "500ms", "--retry", "100ms", "--retry-jitter", "100ms")


@pytest.fixture
def backend() -> Iterator[Backend]:
    one = Backend()
    yield one
    one.close()
