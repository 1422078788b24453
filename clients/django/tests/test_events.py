"""Events as sse takes them: one line of JSON, and names of at most 64 bytes."""

from __future__ import annotations

import datetime as dt
import enum
import json
import uuid
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Group
from django.db import models
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy, override
from rest_framework_simplejwt.models import TokenUser

from estimates.models import Person, Project
from estimates.models import PersonalAccessTokenOfAPartnerCompany as Badge
from sse_django import Event, Operation, SSEError, To, audience, role_name
from sse_django.events import user_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Make

ALL = To(everybody=True)
MOSCOW = dt.timezone(dt.timedelta(hours=3))


class Status(models.TextChoices):
    DRAFT = "draft", "Черновик"


class Level(enum.IntEnum):
    HIGH = 3


def line(data: Any) -> bytes:
    return Event("e", data, ALL).line


def nested(depth: int) -> Any:
    data: Any = []
    for _ in range(depth):
        data = [data]
    return data


def circle() -> list[Any]:
    data: list[Any] = []
    data.append(data)
    return data


# ---- the data ----


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        (None, None),
        ({}, {}),
        ([1, 2.5, True, "x"], [1, 2.5, True, "x"]),
        (2**70, 2**70),
        (dt.datetime(2025, 1, 1, 12, tzinfo=dt.timezone.utc), "2025-01-01T12:00:00Z"),
        (dt.datetime(2025, 1, 1, 12, 0, 0, 123456, MOSCOW), "2025-01-01T12:00:00.123+03:00"),
        (dt.date(2025, 1, 1), "2025-01-01"),
        (dt.time(9, 30), "09:30:00"),
        (dt.timedelta(hours=1), "P0DT01H00M00S"),
        (Decimal("10.50"), "10.50"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (Status.DRAFT, "draft"),
        (Level.HIGH, 3),
        ({Status.DRAFT: 1, 2: 3}, {"draft": 1, "2": 3}),
        ("ЖК «Север» 🏗", "ЖК «Север» 🏗"),
        ("\ud83d", "\ud83d"),
        ({"\udcff": ["Ж\udcff"]}, {"\udcff": ["Ж\udcff"]}),
        ("two\nlines\r\n\u2028\x00\x85", "two\nlines\r\n\u2028\x00\x85"),
        ({"two\nlines": 1}, {"two\nlines": 1}),
    ],
)
def test_data_goes_as_one_line_of_json(data: Any, sent: Any) -> None:
    made = line(data)
    made.decode()
    assert b"\n" not in made
    assert b"\r" not in made
    assert json.loads(made) == {"event": "e", "data": sent, "to": "all"}


def test_a_translation_is_in_the_language_of_the_moment() -> None:
    with override("ru"):
        assert json.loads(line([gettext_lazy("Yes")]))["data"] == ["Да"]


def test_no_byte_more_than_needed() -> None:
    assert line({"a": ["Ж", 1]}) == '{"event":"e","data":{"a":["Ж",1]},"to":"all"}'.encode()


@pytest.mark.parametrize(
    "data",
    [
        float("nan"),
        [float("inf")],
        {1, 2},
        b"bytes",
        object(),
        {(1, 2): 3},
        {gettext_lazy("Yes"): 1},
        dt.time(9, tzinfo=MOSCOW),
        circle(),
        nested(100_000),
    ],
    ids=["nan", "inf", "set", "bytes", "object", "key", "lazy-key", "time", "circle", "too-deep"],
)
def test_what_is_not_json_is_refused(data: Any) -> None:
    with pytest.raises(SSEError) as refused:
        _ = line(data)
    assert refused.value.reason == "data"


# ---- names of events ----


@pytest.mark.parametrize("name", ["e", "estimate.created", "a_b-c:d.1", "x" * 64])
def test_names_that_sse_takes(name: str) -> None:
    assert json.loads(Event(name, None, ALL).line)["event"] == name


@pytest.mark.parametrize("name", ["", "x" * 65, "two words", "line\n", "смета", "a/b", '"', "\ud83d", None, 5])
def test_names_that_it_does_not(name: Any) -> None:
    with pytest.raises(SSEError) as refused:
        _ = Event(name, None, ALL).line
    assert refused.value.reason == "name"


# ---- users ----


@pytest.mark.django_db
def test_users_are_known_by_their_key(person: Make) -> None:
    somebody = person()
    assert user_id(somebody) == str(somebody.pk) == user_id(SimpleLazyObject(lambda: somebody))


class Keys:
    """What the key of the users is."""

    NUMBER = get_user_model()
    UUID = Person
    TEXT = Badge


SEVEN = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("model", "user", "known_as"),
    [
        (Keys.NUMBER, 7, "7"),
        (Keys.NUMBER, -7, "-7"),
        (Keys.NUMBER, "7", "7"),
        (Keys.NUMBER, " 7", "7"),
        (Keys.NUMBER, "007", "7"),
        (Keys.NUMBER, Level.HIGH, "3"),
        (Keys.NUMBER, 2**63, "9223372036854775808"),
        (Keys.UUID, SEVEN, "00000000-0000-0000-0000-000000000007"),
        (Keys.UUID, str(SEVEN), "00000000-0000-0000-0000-000000000007"),
        (Keys.UUID, SEVEN.hex.upper(), "00000000-0000-0000-0000-000000000007"),
        (Keys.TEXT, "прораб@example.com", "прораб@example.com"),
        (Keys.TEXT, "x" * 64, "x" * 64),
        (Keys.TEXT, "Ж" * 32, "Ж" * 32),
        (Keys.TEXT, " ", " "),
        (Keys.TEXT, 7, "7"),
        (Keys.TEXT, "007", "007"),
    ],
)
def test_ids_as_the_user_model_has_them(
    monkeypatch: pytest.MonkeyPatch, model: type[models.Model], user: Any, known_as: str
) -> None:
    monkeypatch.setattr("sse_django.events.get_user_model", lambda: model)
    assert user_id(user) == known_as


NO_ID: list[Any] = [None, "", True, 7.0, Decimal(7), {"pk": 7}, (7,), [7], b"7", AnonymousUser()]
OF_ANOTHER_MODEL: list[Any] = [Project(pk=7, name="p"), Group(pk=7, name="g"), Badge(code="7")]


@pytest.mark.parametrize(
    ("model", "user"),
    [
        *((model, user) for model in (Keys.NUMBER, Keys.UUID, Keys.TEXT) for user in NO_ID),
        *((model, user) for model in (Keys.NUMBER, Keys.UUID) for user in OF_ANOTHER_MODEL),
        *((Keys.NUMBER, user) for user in ("прораб@example.com", "7.0", "7,8", "9" * 65, "\ud83d", SEVEN)),
        *((Keys.UUID, user) for user in ("7", "прораб@example.com", -7)),
        *((Keys.TEXT, user) for user in ("x" * 65, "Ж" * 33, "two\nlines", "tab\t", "\x00", "\x7f", "\ud83d")),
    ],
)
def test_what_is_the_id_of_no_user(monkeypatch: pytest.MonkeyPatch, model: type[models.Model], user: Any) -> None:
    monkeypatch.setattr("sse_django.events.get_user_model", lambda: model)
    with pytest.raises(SSEError) as refused:
        user_id(user)
    assert refused.value.reason == "audience"


def test_an_instance_of_another_model_is_called_what_it_is() -> None:
    with pytest.raises(SSEError, match=r"not a user: <Project: ЖК «Север»> is a estimates\.Project$"):
        user_id(Project(pk=7, name="ЖК «Север»"))


@pytest.mark.parametrize("key", ["7", "прораб@example.com"])
def test_a_user_of_no_model_is_known_by_the_key_it_has(key: str) -> None:
    """As those of simplejwt that another site has signed."""
    assert user_id(TokenUser({"user_id": key})) == key  # type: ignore[arg-type]


def test_a_user_who_was_never_saved_is_none() -> None:
    with pytest.raises(SSEError):
        user_id(get_user_model()(username="new"))


# ---- roles ----


@pytest.mark.parametrize("name", ["manager", "Менеджеры", "two words", "x" * 64, "Ж" * 32, "☃" * 21])
def test_a_role_is_the_name_of_its_group(name: str) -> None:
    assert role_name(name) == name


LONG = ["x" * 65, "Ж" * 33, "☃" * 22, "🏗" * 17, "я" * 150, "x" + "Ж" * 40, "xx" + "☃" * 40]


@pytest.mark.parametrize("name", LONG)
def test_a_long_name_is_cut_between_characters(name: str) -> None:
    role = role_name(name)
    assert role == role_name(name)
    assert len(role.encode()) <= 64
    start, mark, _ = role.rpartition("~")
    assert mark
    assert start
    assert name.startswith(start)


def test_long_names_that_begin_alike_are_told_apart() -> None:
    names = [prefix + end for prefix in ("Ж" * 40, "x" * 64) for end in ("", "1", "2", " ", "Ж")]
    long = [name for name in names if len(name.encode()) > 64]
    assert len({role_name(name) for name in long}) == len(long) == 9


def test_the_name_of_a_long_role_never_changes() -> None:
    """It stands in tokens, tickets and in who an event is for: a newer version must give the same."""
    assert role_name("Ж" * 33) == "Ж" * 23 + "~40a85479b2ff20b6"


@pytest.mark.parametrize("name", ["two\nlines", "tab\t", "\x00", "\x7f"])
def test_a_group_may_be_called_what_sse_would_refuse(name: str) -> None:
    """One such name in an answer, and sse refuses all of it: nobody in that group could listen."""
    role = role_name(name)
    assert role
    assert role.isprintable()
    assert role != role_name(name + "x")


# ---- audiences ----


@pytest.mark.django_db
def test_an_audience_of_what_a_site_has_at_hand(person: Make) -> None:
    one, two = person(), person()
    users = get_user_model().objects.filter(pk__in=[one.pk, two.pk])
    project = Project.objects.create(name="p")
    project.members.set([one, two])

    def given() -> dict[str, Any]:
        return {
            "a list": [one, two, one],
            "a set": {one, two},
            "a generator": (user for user in (one, two)),
            "a queryset": users,
            "keys": users.values_list("pk", flat=True),
            "a relation": project.members.all(),
            "its manager": project.members,
            "one and nobody": [one, None],
            "one": one,
            "one's key": one.pk,
            "request.user": SimpleLazyObject(lambda: one),
            "a number": 56,
            "a text": "56",
            "nobody": None,
            "none": (),
        }

    both, first = {str(one.pk), str(two.pk)}, {str(one.pk)}
    told: dict[str, set[str]] = {
        **dict.fromkeys(("a list", "a set", "a generator", "a queryset", "keys", "a relation", "its manager"), both),
        **dict.fromkeys(("one and nobody", "one", "one's key", "request.user"), first),
        "a number": {"56"},
        "a text": {"56"},
        "nobody": set(),
        "none": set(),
    }
    assert {kind: set(audience(users=users).users) for kind, users in given().items()} == told
    assert {kind: set(audience(excepted=users).excepted) for kind, users in given().items()} == told
    assert all(len(audience(users=users).users) == len(told[kind]) for kind, users in given().items())


@pytest.mark.parametrize(
    ("roles", "told"),
    [
        ("manager", ("manager",)),
        (["manager", "foreman", "manager"], ("manager", "foreman")),
        ((name for name in ("manager", None)), ("manager",)),
        ({"manager": 1}, ("manager",)),
        (Group(name="manager"), ("manager",)),
        ([Group(name="manager"), "foreman", Group(name="foreman")], ("manager", "foreman")),
        (None, ()),
        ([], ()),
        (["Ж" * 33], (role_name("Ж" * 33),)),
        (Group(name="Ж" * 33), (role_name("Ж" * 33),)),
    ],
    ids=["text", "list", "generator", "dict", "group", "groups", "none", "empty", "long", "long-group"],
)
def test_roles_of_an_audience(roles: Any, told: tuple[str, ...]) -> None:
    assert audience(roles=roles).roles == told


@pytest.mark.django_db
def test_the_groups_of_somebody_are_an_audience(person: Make, group: Callable[[str], Group]) -> None:
    somebody = person()
    somebody.groups.add(group("manager"), group("foreman"))
    for groups in (somebody.groups, somebody.groups.all(), somebody.groups.values_list("name", flat=True)):
        assert sorted(audience(roles=groups).roles) == ["foreman", "manager"]


@pytest.mark.parametrize("role", ["", 5, True, b"manager", ["manager", ""], [5], Group(), Project(name="")])
def test_what_is_no_role(role: Any) -> None:
    with pytest.raises(SSEError, match="not a role") as refused:
        audience(roles=role)
    assert refused.value.reason == "audience"


@pytest.mark.parametrize(
    ("to", "written"),
    [
        (To(users=("1",)), {"to": {"users": ["1"]}}),
        (To(roles=("r",)), {"to": {"roles": ["r"]}}),
        (To(users=("1",), roles=("r",)), {"to": {"users": ["1"], "roles": ["r"]}}),
        (To(everybody=True), {"to": "all"}),
        (To(everybody=True, users=("1",)), {"to": "all"}),
        (To(roles=("r",), excepted=("2",)), {"to": {"roles": ["r"]}, "except": {"users": ["2"]}}),
    ],
)
def test_how_an_audience_is_written(to: To, written: dict[str, Any]) -> None:
    assert json.loads(Event("e", 1, to).line) == {"event": "e", "data": 1, **written}


ONE, TWO = To(users=("1",)), To(users=("2",))
MANAGERS = To(roles=("manager",))
ALL_BUT_ONE, ALL_BUT_TWO = To(everybody=True, excepted=("1",)), To(everybody=True, excepted=("2",))


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        (ONE, TWO, To(users=("1", "2"))),
        (ONE, ONE, ONE),
        (ONE, MANAGERS, To(users=("1",), roles=("manager",))),
        (ONE, ALL, To(users=("1",), everybody=True)),
        (To(), ONE, ONE),
        (To(), ALL_BUT_ONE, ALL_BUT_ONE),
        (ALL_BUT_ONE, ALL_BUT_ONE, ALL_BUT_ONE),
        (ALL_BUT_ONE, ALL_BUT_TWO, ALL),
        (ALL_BUT_ONE, ONE, To(users=("1",), everybody=True)),
        (ALL_BUT_ONE, TWO, To(users=("2",), everybody=True, excepted=("1",))),
        (ALL_BUT_ONE, MANAGERS, To(roles=("manager",), everybody=True)),
    ],
)
def test_who_is_in_either_audience_is_in_both_together(left: To, right: To, both: To) -> None:
    assert left | right == both
    turned = right | left
    assert {*turned.users} == {*both.users}
    assert (turned.roles, turned.everybody, turned.excepted) == (both.roles, both.everybody, both.excepted)


@pytest.mark.parametrize(
    ("to", "anybody"), [(To(), False), (To(excepted=("1",)), False), (ONE, True), (MANAGERS, True), (ALL, True)]
)
def test_an_audience_is_true_if_anybody_may_be_in_it(to: To, anybody: bool) -> None:
    assert bool(to) is anybody


# ---- operations ----


@pytest.mark.parametrize(
    ("operation", "written"),
    [
        (Operation("ping"), b'{"op":"ping"}'),
        (Operation("refresh", user="7"), b'{"op":"refresh","user":"7"}'),
        (Operation("revoke", user="Ж"), '{"op":"revoke","user":"Ж"}'.encode()),
        (Operation("revoke", sid="s"), b'{"op":"revoke","sid":"s"}'),
    ],
)
def test_how_an_operation_is_written(operation: Operation, written: bytes) -> None:
    assert operation.line == written
