"""The wheel, in an environment of its own, far from the tree: with Django and DRF, and nothing more."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from typing import TYPE_CHECKING

import pytest

from .harness import LIMIT, PACKAGE

if TYPE_CHECKING:
    from pathlib import Path

    from .harness import Sse

NETWORK_LIMIT = 300


def run(*argv: str | Path, cwd: Path, status: int = 0, limit: float = LIMIT) -> str:
    """Without anything that the tests know; returns what it says."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DJANGO", "SITE_"))}
    done = subprocess.run(
        [str(one) for one in argv],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=limit,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", out, PACKAGE, cwd=out, limit=NETWORK_LIMIT)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and what it says it needs."""
    where = tmp_path_factory.mktemp("environment")
    venv.create(where, symlinks=True)
    python = where / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--quiet", "--no-compile", wheel, cwd=where, limit=NETWORK_LIMIT)
    return python


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    source = PACKAGE / "src"
    files = {
        str(one.relative_to(source)) for one in source.rglob("*") if one.is_file() and "__pycache__" not in one.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == files
    assert "sse_django/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_it_brings_django_and_drf_only(python: Path, tmp_path: Path) -> None:
    code = "from importlib.metadata import distributions; print(*(one.name for one in distributions()))"
    names = {name.lower() for name in run(python, "-c", code, cwd=tmp_path).split()}
    assert names - {"typing_extensions"} == {"asgiref", "django", "djangorestframework", "sqlparse", "sse-django"}


def readme_settings(socket: Path) -> str:
    """The settings as the README has them, for this socket."""
    text = (PACKAGE / "README.md").read_text()
    begin = text.index("INSTALLED_APPS += [")
    settings = text[begin : text.index("```", begin)]
    assert "/tmp/sse.sock" in settings
    return settings.replace("/tmp/sse.sock", str(socket))


def test_a_new_project_by_the_readme_sends_an_event(python: Path, tmp_path: Path, sse: Sse) -> None:
    run(python, "-m", "django", "startproject", "shop", ".", cwd=tmp_path)
    settings = tmp_path / "shop" / "settings.py"
    settings.write_text(settings.read_text() + readme_settings(sse.socket))
    urls = tmp_path / "shop" / "urls.py"
    urls.write_text(
        urls.read_text()
        + "from django.urls import include\n"
        + 'urlpatterns += [path("api/v1/sse/", include("sse_django.urls"))]\n'
    )
    manage = (python, "manage.py")
    assert "no issues" in run(*manage, "check", "--fail-level=WARNING", cwd=tmp_path)
    run(*manage, "migrate", "--verbosity=0", cwd=tmp_path)
    with sse.join("manager-token") as stream:
        assert ": 1 streams" in run(*manage, "sse_send", "hello", '{"text": "it works"}', "--all", cwd=tmp_path)
        assert stream.hears("hello")["data"] == {"text": "it works"}


def test_mypy_knows_its_types(python: Path, tmp_path: Path) -> None:
    """Without django-stubs."""

    def mypy(code: str, status: int) -> str:
        (tmp_path / "module.py").write_text(code)
        return run(
            *(sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "module.py"),
            cwd=tmp_path,
            status=status,
        )

    good = 'from sse_django import SSEManager\n\nack = SSEManager().broadcast("news", {"text": "Обед"}, confirm=True)\n'
    assert "no issues" in mypy(good, 0)
    assert "attr-defined" in mypy(good + "print(ack.nothing if ack else 0)\n", 1)
