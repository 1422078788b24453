"""The settings: their defaults, and what the system checks say of them."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.core import checks
from django.core.management import CommandError, call_command
from django.test import override_settings

from estimates.wire import NOBODY, Wire, forked
from sse_django.conf import Config, config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

    from conftest import Configure

KEY = "a key for tickets, that is long enough"


def found() -> list[tuple[str | None, str]]:
    return [(message.id, message.msg) for message in checks.run_checks(tags=["sse_django"])]


def ids() -> list[str | None]:
    return [identifier for identifier, _ in found()]


@pytest.fixture(autouse=True)
def good(place: Path, settings: Settings) -> Iterator[Wire]:
    """Settings with which nothing is wrong."""
    wire = Wire(place / "sse.sock")
    settings.SSE = {"SOCKET": str(wire.path)}
    yield wire
    wire.close()


# ---- what they are ----


def test_without_any_settings_there_are_defaults(settings: Settings) -> None:
    del settings.SSE
    assert config() == Config()
    assert config().SOCKET == "/run/sse/sse.sock"
    assert (config().RAISE, config().EVENTS, config().WATCH) == (False, True, True)
    assert (config().AUTH_KEY, config().TICKET_KEY) == ("", "")
    assert (config().TIMEOUT, config().MAX_BYTES, config().AUTH_MAX_AGE, config().TICKET_SECONDS) == (
        0.1,
        204800,
        30,
        60,
    )


def test_what_is_given_stands_beside_the_defaults(settings: Settings) -> None:
    settings.SSE = {"TIMEOUT": 5, "NO_SUCH": 1}
    assert config() == Config(TIMEOUT=5)


def test_an_override_takes_effect_at_once_and_ends() -> None:
    before = config()
    with override_settings(SSE={"TIMEOUT": 5}):
        assert config().TIMEOUT == 5
    assert config() == before


def test_every_key_is_in_the_readme() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    settings = readme[readme.index("## Settings") :]
    assert [field.name for field in fields(Config) if f"`{field.name}`" not in settings] == []


# ---- what is said of them ----


def test_nothing_is_said_of_good_settings(settings: Settings) -> None:
    assert found() == []
    settings.SSE = {
        **settings.SSE,
        "AUTH_KEY": "x",
        "TICKET_KEY": "x" * 32,
        "TIMEOUT": 0,
        "CONFIRM_TIMEOUT": 2,
        "AUTH_MAX_AGE": 0,
        "STREAM_SECONDS": 3600,
        "MAX_BYTES": 256,
        "AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"],
        "TOKEN_MODELS": (),
        "ROLES": "estimates.hooks.staff",
    }
    assert found() == []


@pytest.mark.parametrize("value", [[], None, "SOCKET", [("SOCKET", "/x")]])
def test_e001_no_dict(settings: Settings, value: Any) -> None:
    settings.SSE = value
    assert found() == [("sse_django.E001", "SSE must be a dict.")]


def test_e002_a_key_that_does_not_exist(configure: Configure) -> None:
    configure(SOKET="/run/x", TIMEOUTS=1)
    assert sorted(found()) == [
        ("sse_django.E002", "SSE has a key 'SOKET', which does not exist."),
        ("sse_django.E002", "SSE has a key 'TIMEOUTS', which does not exist."),
    ]


def test_e002_a_key_that_is_no_text(settings: Settings) -> None:
    settings.SSE = {**settings.SSE, 5: 1}
    assert ids() == ["sse_django.E002"]


TEXTS = ["SOCKET", "BACKEND", "ROLES", "AUTH_KEY", "TICKET_KEY", "URL"]
NUMBERS = ["TIMEOUT", "CONFIRM_TIMEOUT", "MAX_BYTES", "AUTH_MAX_AGE", "TICKET_SECONDS", "STREAM_SECONDS"]
SWITCHES = ["RAISE", "EVENTS", "WATCH"]
LISTS = ["AUTHENTICATION_CLASSES", "TOKEN_MODELS"]
NO_TEXT: list[Any] = [None, 5, True, b"x", Path("/x"), ["x"]]
NO_NUMBER: list[Any] = [None, "5", True, [5]]
NO_SWITCH: list[Any] = [None, 0, 1, "no", []]
NO_LIST: list[Any] = [None, 5, "a.B", [5], ["a.B", None], {"a.B": 1}]
WRONG: list[tuple[str, Any]] = [
    *((name, value) for name in TEXTS for value in NO_TEXT),
    *((name, value) for name in NUMBERS for value in NO_NUMBER),
    *((name, 0.5) for name in NUMBERS if "TIMEOUT" not in name),
    *((name, value) for name in SWITCHES for value in NO_SWITCH),
    *((name, value) for name in LISTS for value in NO_LIST),
]


def test_every_key_is_in_the_tables() -> None:
    assert sorted([*TEXTS, *NUMBERS, *SWITCHES, *LISTS]) == sorted(field.name for field in fields(Config))


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_e003_a_value_of_the_wrong_type(configure: Configure, name: str, value: Any) -> None:
    configure(**{name: value})
    ((identifier, message),) = found()
    assert identifier == "sse_django.E003"
    assert message.startswith(f"SSE['{name}'] must be ")
    assert message.endswith(f", not {value!r}.")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TIMEOUT", -0.1),
        ("TIMEOUT", float("nan")),
        ("TIMEOUT", float("inf")),
        ("CONFIRM_TIMEOUT", 0),
        ("CONFIRM_TIMEOUT", float("inf")),
        ("MAX_BYTES", 255),
        ("AUTH_MAX_AGE", -1),
        ("AUTH_MAX_AGE", 301),
        ("TICKET_SECONDS", 0),
        ("STREAM_SECONDS", -1),
    ],
)
def test_e004_a_number_out_of_range(configure: Configure, name: str, value: float) -> None:
    configure(**{name: value})
    ((identifier, message),) = found()
    assert identifier == "sse_django.E004"
    assert message.startswith(f"SSE['{name}'] must be from ")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BACKEND", "estimates.hooks.NoSuch"),
        ("BACKEND", "nodots"),
        ("BACKEND", ""),
        ("ROLES", "no.such.module"),
        ("ROLES", "estimates.hooks.no_such"),
        ("AUTHENTICATION_CLASSES", ["rest_framework.authentication.NoSuch"]),
        ("AUTHENTICATION_CLASSES", ["rest_framework.authentication.TokenAuthentication", "x"]),
        ("TOKEN_MODELS", ["authtoken.NoSuch"]),
        ("TOKEN_MODELS", ["nodots"]),
        ("TOKEN_MODELS", ["a.b.c"]),
    ],
)
def test_e005_what_does_not_exist(configure: Configure, name: str, value: Any) -> None:
    configure(**{name: value})
    ((identifier, message),) = found()
    assert identifier == "sse_django.E005"
    assert message.startswith(f"SSE['{name}']")


def test_a_token_model_of_an_app_that_is_not_installed_is_none(configure: Configure) -> None:
    """The default names Knox, which few have."""
    configure(TOKEN_MODELS=["oauth2_provider.AccessToken"])
    assert found() == []


@pytest.mark.parametrize("path", ["", "sse.sock", "./sse.sock", "/" + "x" * 98, "/" + "Ж" * 49, "\0abstract", "/a\0b"])
def test_e006_a_path_that_sse_does_not_take(configure: Configure, path: str) -> None:
    configure(SOCKET=path)
    assert "sse_django.E006" in ids()


def test_the_longest_path_that_sse_takes(configure: Configure) -> None:
    configure(SOCKET="/" + "x" * 97)
    assert ids() == ["sse_django.W001"]


@pytest.mark.parametrize("key", ["x", "x" * 31, "Ж" * 15])
def test_e007_a_key_that_is_too_short(configure: Configure, key: str) -> None:
    configure(TICKET_KEY=key)
    assert ids() == ["sse_django.E007"]


def test_e008_tickets_without_pyjwt(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sse_django.checks.find_spec", lambda name: None if name == "jwt" else object())
    configure(TICKET_KEY=KEY)
    assert ids() == ["sse_django.E008"]
    configure(TICKET_KEY="")
    assert ids() == []


@pytest.mark.parametrize("name", ["AUTH_KEY", "TICKET_KEY"])
@pytest.mark.parametrize("key", [f"{KEY} ", f" {KEY}", f"{KEY}\n", f"{KEY}\nanother", f"{KEY}\rx", "\t" + KEY])
def test_e009_a_key_that_is_not_one_line(configure: Configure, name: str, key: str) -> None:
    configure(**{name: key})
    assert ids() == ["sse_django.E009"]


def test_e010_something_else_at_the_path(configure: Configure, place: Path) -> None:
    (place / "file").touch()
    for path in (place / "file", place):
        configure(SOCKET=str(path))
        assert found() == [("sse_django.E010", f"SSE['SOCKET'] {path} is not a socket.")]


def test_w001_no_socket(configure: Configure, place: Path) -> None:
    configure(SOCKET=str(place / "missing"))
    ((identifier, message),) = found()
    assert identifier == "sse_django.W001"
    assert "No such file" in message


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give up its rights")
def test_w002_a_socket_that_may_not_be_written_to(good: Wire) -> None:
    good.path.chmod(0o600)
    assert ids() == []
    assert forked(ids, user=NOBODY) == ["sse_django.W002"]


def test_the_socket_does_not_matter_where_nothing_is_sent_to_it(configure: Configure) -> None:
    configure(SOCKET="/nonexistent", BACKEND="sse_django.backends.MemoryBackend")
    assert found() == []


def test_a_socket_of_a_stopped_sse_is_a_socket(configure: Configure, place: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stopped:
        stopped.bind(str(place / "stopped"))
    configure(SOCKET=str(place / "stopped"))
    assert found() == []


# ---- as the user sees it ----


BAD: dict[str, Any] = {
    "sse_django.E001": ["SOCKET"],
    "sse_django.E002": {"SOKET": "/x"},
    "sse_django.E003": {"TOKEN_MODELS": 5},
    "sse_django.E004": {"AUTH_MAX_AGE": 301},
    "sse_django.E005": {"TOKEN_MODELS": ["authtoken.NoSuch"]},
    "sse_django.E006": {"SOCKET": "sse.sock"},
    "sse_django.E007": {"TICKET_KEY": "short"},
    "sse_django.E009": {"AUTH_KEY": "two\nlines"},
    "sse_django.E010": {"SOCKET": "/dev/null"},
}


@pytest.mark.parametrize(("identifier", "value"), BAD.items(), ids=BAD)
def test_check_fails_and_says_what_is_wrong(settings: Settings, identifier: str, value: Any) -> None:
    settings.SSE = value
    with pytest.raises(CommandError, match=identifier):
        call_command("check", stdout=io.StringIO())


@pytest.mark.parametrize(("identifier", "value"), BAD.items(), ids=BAD)
def test_the_app_starts_with_bad_settings_so_that_the_checks_can_speak(
    settings: Settings, identifier: str, value: Any
) -> None:
    settings.SSE = value
    apps.get_app_config("sse_django").ready()
    assert identifier in ids()


def test_a_warning_does_not_fail_the_check(configure: Configure) -> None:
    configure(SOCKET="/nonexistent/sse.sock")
    said = io.StringIO()
    call_command("check", stderr=said)
    assert "sse_django.W001" in said.getvalue()


@pytest.mark.parametrize(
    ("value", "status", "said"),
    [
        ("['SOCKET']", 1, "(sse_django.E001) SSE must be a dict."),
        ("{'TOKEN_MODELS': 5}", 1, "(sse_django.E003) SSE['TOKEN_MODELS'] must be"),
        ("{'SOCKET': '/nonexistent/sse.sock'}", 0, "(sse_django.W001) There is no socket at /nonexistent/sse.sock"),
    ],
    ids=["E001", "E003", "W001"],
)
def test_manage_py_check(place: Path, value: str, status: int, said: str) -> None:
    """As it is typed: in a process of its own, where the app has to get ready with these settings first."""
    (place / "bad_settings.py").write_text(f"from site_settings import *\nSSE = {value}\n")
    ran = subprocess.run(
        [sys.executable, "-m", "django", "check", "--settings=bad_settings"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(place), *sys.path])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said in ran.stderr
    assert ran.returncode == status
    assert "Traceback" not in ran.stderr
