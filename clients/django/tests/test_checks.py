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
from django.contrib.auth.models import Group
from django.core import checks
from django.core.management import CommandError, call_command
from django.test import override_settings

from estimates.wire import NOBODY, Wire, forked
from sse_django import SSEManager
from sse_django.conf import Config, config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

    from conftest import Configure

KEY = "a key for tickets, that is long enough"
checks_databases = pytest.mark.django_db(databases=["default", "other"])
"""From Django 6.1 on ``check`` asks each database whether it knows JSON."""


def found() -> list[tuple[str | None, str]]:
    return [(message.id, message.msg) for message in checks.run_checks(tags=["sse_django"], databases=[])]


def ids() -> list[str | None]:
    return [identifier for identifier, _ in found()]


@pytest.fixture(autouse=True)
def good(place: Path, settings: Settings) -> Iterator[Wire]:
    """Settings with which nothing is wrong."""
    wire = Wire(place / "sse.sock")
    settings.SSE = {"SOCKET": str(wire.path), "AUTH_KEY": "x"}
    yield wire
    wire.close()


# ---- what they are ----


def test_without_any_settings_there_are_defaults(settings: Settings) -> None:
    del settings.SSE
    assert config() == Config()
    assert config().SOCKET == "/run/sse/sse.sock"
    assert (config().RAISE, config().EVENTS, config().WATCH) == (False, True, True)
    assert (config().AUTH_KEY, config().TICKET_KEY) == ("", "")
    assert (config().TIMEOUT, config().MAX_BYTES, config().AUTH_MAX_AGE) == (0.5, 204800, 30)
    assert (config().TICKET_SECONDS, config().STREAM_SECONDS) == (60, 3600)


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
        "ROLE_NAMES": ["manager", "Прорабы"],
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
SWITCHES = ["RAISE", "EVENTS", "WATCH", "RESYNC"]
LISTS = ["AUTHENTICATION_CLASSES", "TOKEN_MODELS", "ROLE_NAMES"]
NO_TEXT: list[Any] = [None, 5, True, b"x", ["x"]]
NO_NUMBER: list[Any] = [None, "5", True, [5]]
NO_SWITCH: list[Any] = [None, 0, 1, "no", []]
NO_LIST: list[Any] = [None, 5, "a.B", [5], ["a.B", None], {"a.B": 1}]
WRONG: list[tuple[str, Any]] = [
    *((name, value) for name in TEXTS for value in NO_TEXT),
    *((name, Path("/x")) for name in TEXTS if name != "SOCKET"),
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
    shown = type(value).__name__ if name in ("AUTH_KEY", "TICKET_KEY") else repr(value)
    assert message.endswith(f", not {shown}.")


@pytest.mark.parametrize("name", ["AUTH_KEY", "TICKET_KEY"])
@pytest.mark.parametrize("value", [b"the secret itself", ["the secret itself"], {"the secret itself": 1}], ids=type)
def test_a_key_is_not_shown_whatever_it_is(configure: Configure, name: str, value: Any) -> None:
    configure(**{name: value})
    (message,) = checks.run_checks(tags=["sse_django"], databases=[])
    assert message.id == "sse_django.E003"
    assert "secret" not in str(message)


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
        ("ROLES", "sse_django.conf.SOCKET_MAX"),
        ("BACKEND", "sse_django.conf.SOCKET_MAX"),
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
    ((identifier, message),) = found()
    assert identifier == "sse_django.E009"
    assert message.startswith(f"SSE['{name}'] must be ")
    assert KEY not in message


@pytest.mark.parametrize(
    ("key", "taken"),
    [
        ("x", True),
        ("!~", True),
        ("x" * 256, True),
        ("x" * 257, False),
        ("two words", False),
        ("tab\tinside", False),
        ("ключ", False),
        ("x\x7f", False),
        ("x\x00", False),
        ("x\xa0", False),
        ("x\n", False),
    ],
)
def test_e009_the_auth_key_is_what_a_header_can_bear(configure: Configure, key: str, taken: bool) -> None:
    configure(AUTH_KEY=key)
    assert ids() == ([] if taken else ["sse_django.E009"])


def test_a_ticket_key_may_have_any_characters(configure: Configure) -> None:
    """It goes nowhere."""
    configure(TICKET_KEY="двадцать букв и несколько слов")
    assert found() == []


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


def test_a_socket_may_be_a_path(configure: Configure, good: Wire) -> None:
    configure(SOCKET=good.path)
    assert found() == []
    SSEManager().broadcast("e")
    assert good.names() == ["e"]


@pytest.mark.parametrize(
    ("keys", "warns"),
    [({}, True), ({"AUTH_KEY": "x"}, False), ({"TICKET_KEY": KEY}, False), ({"AUTH_KEY": ""}, True)],
)
def test_w004_nobody_can_be_let_in(settings: Settings, good: Wire, keys: dict[str, Any], warns: bool) -> None:
    settings.SSE = {"SOCKET": str(good.path), **keys}
    assert ids() == ["sse_django.W004"] * warns


@pytest.mark.parametrize(("urls", "warns"), [("site_urls", False), ("rest_framework.urls", True)])
def test_w005_the_urls_are_not_there(settings: Settings, urls: str, warns: bool) -> None:
    settings.ROOT_URLCONF = urls
    assert ids() == ["sse_django.W005"] * warns


def test_the_socket_does_not_matter_where_nothing_is_sent_to_it(configure: Configure) -> None:
    configure(SOCKET="/nonexistent", BACKEND="sse_django.backends.MemoryBackend")
    assert found() == []


def test_a_socket_of_a_stopped_sse_is_a_socket(configure: Configure, place: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stopped:
        stopped.bind(str(place / "stopped"))
    configure(SOCKET=str(place / "stopped"))
    assert found() == []


# ---- what only the database knows ----


def warned(*databases: str) -> list[str]:
    messages = checks.run_checks(tags=["database"], databases=databases)
    return [message.msg for message in messages if message.id == "sse_django.W003"]


@checks_databases
@pytest.mark.parametrize(
    ("keys", "groups", "warns"),
    [
        ({}, 64, False),
        ({}, 65, True),
        ({"ROLE_NAMES": ["group 1"]}, 65, False),
        ({"ROLES": "estimates.hooks.staff"}, 65, False),
        ({"ROLES": Config.ROLES}, 65, True),
    ],
)
def test_w003_more_groups_than_sse_knows_roles(
    configure: Configure, keys: dict[str, Any], groups: int, warns: bool
) -> None:
    Group.objects.bulk_create([Group(name=f"group {n}") for n in range(groups)])
    configure(**keys)
    assert [f"There are {groups} groups" in message for message in warned("default")] == [True] * warns


def test_a_check_that_names_no_database_asks_none() -> None:
    """None may be asked here."""
    assert ids() == []


@checks_databases
def test_w003_is_about_the_database_that_is_named() -> None:
    Group.objects.using("other").bulk_create([Group(name=f"group {n}") for n in range(65)])
    assert warned("default") == []
    assert len(warned("other")) == 1


@checks_databases
def test_manage_py_check_database_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    Group.objects.bulk_create([Group(name=f"group {n}") for n in range(65)])
    call_command("check", databases=["default"])
    assert "sse_django.W003" in capsys.readouterr().err


def test_a_database_without_tables_is_not_complained_of(place: Path) -> None:
    """``migrate`` checks before it makes them."""
    ran = subprocess.run(
        [sys.executable, "-m", "django", "check", "--database=default", "--settings=site_settings"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "SITE_DB": str(place / "empty.sqlite3")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "W003" not in ran.stderr


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


@checks_databases
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


@checks_databases
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
