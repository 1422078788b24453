"""What happens to users, tokens and groups takes effect on open streams at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from django.apps import apps
from django.conf import settings as site
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.backends.db import SessionStore
from django.db import IntegrityError, transaction
from django.db.models.signals import post_delete
from django.http import HttpRequest
from django.test import Client
from django.utils.module_loading import import_string
from rest_framework.authtoken.models import Token, TokenProxy
from rest_framework.test import APIRequestFactory

from estimates.models import Note
from estimates.models import PersonalAccessTokenOfAPartnerCompany as Badge
from estimates.wire import rolled_back
from sse_django import Operation, roles_changed
from sse_django.users import session_sid, token_sid
from sse_django.views import TicketView

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import User
    from pytest_django import DjangoAssertNumQueries

    from conftest import Commit, Configure, Make

    Act = Callable[["People"], object]

pytestmark = pytest.mark.django_db
AuthToken: Any = apps.get_model("knox", "AuthToken")
KEY = "a key for tickets, that is long enough"
PBKDF2 = "django.contrib.auth.hashers.PBKDF2PasswordHasher"
own_user = pytest.mark.skipif(site.AUTH_USER_MODEL != "auth.User", reason="derived from Django's user")


class People:
    """Anna and Boris are foremen; Vera is in no group."""

    def __init__(self, person: Make, group: Callable[[str], Group]) -> None:
        self.anna, self.boris, self.vera = person(), person(), person()
        self.foremen, self.managers = group("foreman"), group("manager")
        self.foremen.user_set.add(self.anna, self.boris)

    def name(self, key: str) -> str:
        return next(name for name in ("anna", "boris", "vera") if str(self.keys[name]) == key)

    def remember(self) -> None:
        """Their keys, which who is deleted has not any more."""
        self.keys = {name: getattr(self, name).pk for name in ("anna", "boris", "vera")}


@pytest.fixture
def people(person: Make, group: Callable[[str], Group]) -> People:
    people = People(person, group)
    people.remember()
    return people


def _set(user: User, **fields: Any) -> User:
    for name, value in fields.items():
        setattr(user, name, value)
    return user


ACTS: dict[str, tuple[Act, set[tuple[str, str]]]] = {
    "deactivated": (lambda p: _set(p.anna, is_active=False).save(), {("revoke", "anna")}),
    "deactivated alone": (
        lambda p: _set(p.anna, is_active=False).save(update_fields=["is_active"]),
        {("revoke", "anna")},
    ),
    "renamed": (lambda p: _set(p.anna, last_name="Петрова").save(), set()),
    "only renamed": (lambda p: _set(p.anna, is_active=False).save(update_fields=["last_name"]), set()),
    "created": (lambda _: get_user_model().objects.create(username="new"), set()),
    "created inactive": (lambda _: get_user_model().objects.create(username="new", is_active=False), set()),
    "deleted": (lambda p: p.vera.delete(), {("revoke", "vera")}),
    "deleted by queryset": (
        lambda p: get_user_model().objects.filter(pk__in=[p.anna.pk, p.vera.pk]).delete(),
        {("revoke", "anna"), ("revoke", "vera")},
    ),
    "added to a group": (lambda p: p.vera.groups.add(p.managers), {("refresh", "vera")}),
    "added by the group": (
        lambda p: p.managers.user_set.add(p.anna, p.vera.pk),
        {("refresh", "anna"), ("refresh", "vera")},
    ),
    "added where she is": (lambda p: p.anna.groups.add(p.foremen), set()),
    "added by the group where she is": (lambda p: p.foremen.user_set.add(p.anna), set()),
    "removed from a group": (lambda p: p.anna.groups.remove(p.foremen), {("refresh", "anna")}),
    "removed by the group": (lambda p: p.foremen.user_set.remove(p.boris), {("refresh", "boris")}),
    "set": (lambda p: p.anna.groups.set([p.managers]), {("refresh", "anna")}),
    "set by the group": (
        lambda p: p.foremen.user_set.set([p.vera, p.anna]),
        {("refresh", "boris"), ("refresh", "vera")},
    ),
    "cleared": (lambda p: p.anna.groups.clear(), {("refresh", "anna")}),
    "cleared by the group": (lambda p: p.foremen.user_set.clear(), {("refresh", "anna"), ("refresh", "boris")}),
    "group renamed": (lambda p: _named(p.foremen).save(), {("refresh", "anna"), ("refresh", "boris")}),
    "group renamed alone": (
        lambda p: _named(p.foremen).save(update_fields=["name"]),
        {("refresh", "anna"), ("refresh", "boris")},
    ),
    "group renamed and not saved": (lambda p: _named(p.foremen).save(update_fields=[]), set()),
    "group saved as it is": (lambda p: p.foremen.save(), set()),
    "group fetched and saved": (lambda p: Group.objects.get(pk=p.foremen.pk).save(), set()),
    "group renamed by another instance": (
        lambda p: _named(Group(pk=p.foremen.pk)).save(),
        {("refresh", "anna"), ("refresh", "boris")},
    ),
    "group created": (lambda _: Group.objects.create(name="new"), set()),
    "group deleted": (lambda p: p.foremen.delete(), {("refresh", "anna"), ("refresh", "boris")}),
    "groups deleted by queryset": (
        lambda _: Group.objects.all().delete(),
        {("refresh", "anna"), ("refresh", "boris")},
    ),
    "permissions": (lambda p: p.anna.user_permissions.clear(), set()),
}


def _named(group: Group) -> Group:
    group.name = "renamed"
    return group


@pytest.mark.parametrize(("act", "expected"), ACTS.values(), ids=ACTS)
def test_what_happens_is_told_to_sse(
    committed: Commit, sse_outbox: list[Operation], people: People, act: Act, expected: set[tuple[str, str]]
) -> None:
    with committed():
        act(people)
    assert {(operation.op, people.name(operation.user)) for operation in sse_outbox} == expected


@pytest.mark.parametrize(("act", "expected"), ACTS.values(), ids=ACTS)
def test_with_tickets_streams_end_and_come_back_with_new_ones(
    committed: Commit,
    sse_outbox: list[Operation],
    people: People,
    configure: Configure,
    act: Act,
    expected: set[tuple[str, str]],
) -> None:
    configure(TICKET_KEY=KEY)
    with committed():
        act(people)
    assert {(operation.op, people.name(operation.user)) for operation in sse_outbox} == {
        ("revoke", name) for _, name in expected
    }


@pytest.mark.parametrize("act", [act for act, _ in ACTS.values()], ids=ACTS)
def test_watching_can_be_turned_off(
    committed: Commit, sse_outbox: list[Operation], people: People, configure: Configure, act: Act
) -> None:
    configure(WATCH=False)
    Token.objects.create(user=people.anna)
    with committed():
        act(people)
    assert sse_outbox == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("act", [act for act, expected in ACTS.values() if expected])
def test_nothing_is_sent_of_what_is_rolled_back(sse_outbox: list[Operation], people: People, act: Act) -> None:
    sse_outbox.clear()
    with rolled_back():
        act(people)
    assert sse_outbox == []


@pytest.mark.django_db(transaction=True)
def test_nothing_is_sent_before_the_commit(sse_outbox: list[Operation], people: People) -> None:
    sse_outbox.clear()
    with transaction.atomic():
        people.anna.groups.clear()
        assert sse_outbox == []
    assert [operation.op for operation in sse_outbox] == ["refresh"]


@own_user
@pytest.mark.parametrize("kind", ["Foreman", "Employee"])
def test_users_saved_by_a_class_derived_from_the_user_model(
    committed: Commit, sse_outbox: list[Operation], kind: str, group: Callable[[str], Group]
) -> None:
    model: Any = apps.get_model("estimates", kind)
    user = model.objects.create(username="somebody")
    key = str(user.pk)
    with committed():
        user.groups.add(group("manager"))
        user.is_active = False
        user.save()
    assert sse_outbox == [Operation("refresh", user=key), Operation("revoke", user=key)]
    with committed():
        user.delete()
    assert Operation("revoke", user=key) in sse_outbox


def test_what_watching_costs(people: People, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(1):
        people.anna.save()
    with django_assert_num_queries(2):
        people.foremen.save()  # and the name it had
    with django_assert_num_queries(3):
        _named(people.foremen).save()  # and its members
    with django_assert_num_queries(1):
        Group.objects.create(name="new")


def test_a_rename_that_failed_is_not_told_when_the_group_is_saved_again(
    committed: Commit, sse_outbox: list[Operation], people: People
) -> None:
    with committed():
        people.foremen.name = people.managers.name
        with pytest.raises(IntegrityError), transaction.atomic():
            people.foremen.save()
        people.foremen.name = "foreman"
        people.foremen.save()
    assert sse_outbox == []


@pytest.mark.django_db(databases=["default", "other"], transaction=True)
def test_a_group_of_another_database_tells_the_members_it_has_there(
    sse_outbox: list[Operation], person: Make, group: Callable[[str], Group]
) -> None:
    here, there = person(), person()
    foremen = group("foreman")
    for one in (there, foremen):
        one.save(using="other")
    here.groups.add(Group.objects.using("default").get())
    copied: Any = Group.objects.using("other").get()
    get_user_model().objects.using("other").get(pk=there.pk).groups.add(copied)
    Group.objects.using("default").update(name="renamed")  # as the other will be, but here it is news to nobody
    for act in (_named(copied).save, copied.user_set.clear):
        sse_outbox.clear()
        with transaction.atomic(using="other"):
            act()
            assert sse_outbox == []
        assert sse_outbox == [Operation("refresh", user=str(there.pk))]
    get_user_model().objects.using("other").get(pk=there.pk).groups.add(copied)
    sse_outbox.clear()
    copied.delete()
    assert sse_outbox == [Operation("refresh", user=str(there.pk))]


@pytest.mark.parametrize("kind", ["instances", "keys", "queryset", "generator"])
def test_roles_changed_by_hand(committed: Commit, sse_outbox: list[Operation], people: People, kind: str) -> None:
    users: Any = {
        "instances": [people.anna, people.boris],
        "keys": [people.anna.pk, str(people.boris.pk)],
        "queryset": get_user_model().objects.filter(groups=people.foremen),
        "generator": (user for user in (people.anna, people.boris)),
    }
    with committed():
        roles_changed(users[kind])
    assert {(operation.op, people.name(operation.user)) for operation in sse_outbox} == {
        ("refresh", "anna"),
        ("refresh", "boris"),
    }


@pytest.mark.parametrize("kind", ["instance", "key", "text"])
def test_roles_changed_of_one(committed: Commit, sse_outbox: list[Operation], people: People, kind: str) -> None:
    one: Any = {"instance": people.anna, "key": people.anna.pk, "text": str(people.anna.pk)}
    with committed():
        roles_changed(one[kind])
    assert sse_outbox == [Operation("refresh", user=str(people.anna.pk))]


@pytest.mark.django_db(databases=["default", "other"], transaction=True)
def test_roles_changed_in_another_database(sse_outbox: list[Operation], person: Make) -> None:
    key = person().pk
    with transaction.atomic(using="other"):
        roles_changed([key], using="other")
        assert sse_outbox == []
    assert sse_outbox == [Operation("refresh", user=str(key))]


# ---- tokens ----


def _drf(user: User) -> Any:
    return Token.objects.create(user=user)


def _knox(user: User) -> Any:
    token, _ = AuthToken.objects.create(user)
    return token


@pytest.mark.parametrize("make", [_drf, _knox])
@pytest.mark.parametrize("by", ["instance", "queryset", "relation"])
def test_a_deleted_token_ends_its_streams(
    committed: Commit, sse_outbox: list[Operation], people: People, make: Callable[[User], Any], by: str
) -> None:
    token, other = make(people.anna), make(people.boris)
    sid = token_sid(token)
    assert sid != token_sid(other)
    assert token.pk not in sid
    with committed():
        if by == "instance":
            token.delete()
        elif by == "queryset":
            type(token).objects.filter(user=people.anna).delete()
        elif make is _drf:
            get_user_model().objects.get(pk=people.anna.pk).auth_token.delete()
        else:
            anna: Any = people.anna
            anna.auth_token_set.all().delete()
    assert sse_outbox == [Operation("revoke", sid=sid)]


@pytest.mark.parametrize("by", ["instance", "queryset"])
def test_a_token_deleted_in_the_admin_ends_its_streams(
    committed: Commit, sse_outbox: list[Operation], people: People, by: str
) -> None:
    sid = token_sid(_drf(people.anna))
    proxies: Any = TokenProxy.objects
    with committed():
        if by == "instance":
            proxies.get(user=people.anna).delete()
        else:
            proxies.all().delete()
    assert sse_outbox == [Operation("revoke", sid=sid)]


def test_a_deleted_user_takes_all_along(committed: Commit, sse_outbox: list[Operation], people: People) -> None:
    sids = {token_sid(_drf(people.anna)), token_sid(_knox(people.anna)), token_sid(_knox(people.anna))}
    with committed():
        people.anna.delete()
    assert {operation.sid for operation in sse_outbox if operation.sid} == sids
    assert [people.name(operation.user) for operation in sse_outbox if operation.user] == ["anna"]


@pytest.mark.parametrize(("view", "ended"), [("LogoutView", 1), ("LogoutAllView", 2)])
def test_knox_logs_out(committed: Commit, sse_outbox: list[Operation], people: People, view: str, ended: int) -> None:
    here, text = AuthToken.objects.create(people.anna)
    elsewhere = _knox(people.anna)
    request = APIRequestFactory().post("/logout/", headers={"Authorization": f"Token {text}"})
    with committed():
        assert import_string(f"knox.views.{view}").as_view()(request).status_code == 204
    assert {operation.sid for operation in sse_outbox} == {token_sid(here), token_sid(elsewhere)} - (
        set() if ended == 2 else {token_sid(elsewhere)}
    )


def test_a_token_that_is_renewed_ends_nothing(committed: Commit, sse_outbox: list[Operation], people: People) -> None:
    with committed():
        token = _knox(people.anna)
        token.save(update_fields=["expiry"])
    assert sse_outbox == []


def test_a_token_model_of_the_sites_own(committed: Commit, sse_outbox: list[Operation], configure: Configure) -> None:
    configure(TOKEN_MODELS=["estimates.Note", "notinstalled.Token"])
    try:
        apps.get_app_config("sse_django").ready()
        note = Note.objects.create(text="a token")
        sid = token_sid(note)
        with committed():
            note.delete()
        assert sse_outbox == [Operation("revoke", sid=sid)]
    finally:
        post_delete.disconnect(sender=Note, dispatch_uid="sse_django.token")


# ---- sids ----


def test_a_sid_is_a_word_that_sse_takes_and_tells_nothing(people: People) -> None:
    long = Badge(code="secret"), Badge(code="secret too")
    sids = [*map(token_sid, long), token_sid(_drf(people.anna)), token_sid(_knox(people.anna))]
    assert len(set(sids)) == len(sids)
    assert all(1 <= len(sid.encode()) <= 64 for sid in sids)
    assert not [sid for sid in sids if "secret" in sid or "xxx" in sid]


@pytest.mark.parametrize("token", [None, "text", {}, {"sub": "7"}])
def test_what_has_no_key_has_no_sid(token: Any) -> None:
    assert token_sid(token) == ""
    assert session_sid(None) == session_sid(SessionStore()) == ""


# ---- sessions ----


@pytest.fixture
def logged_in(people: People) -> Client:
    client = Client()
    client.force_login(people.anna)
    return client


def change_password(user: User, *, fields: list[str] | None = None) -> None:
    user.set_password("another one")
    user.save(update_fields=fields)


def upgrade_hash(user: User) -> None:
    """Log in with a password whose hash is out of date: Django saves it anew."""
    user.password = make_password("secret", hasher="md5")
    user.save()
    user.check_password("secret")


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (change_password, ["anna"]),
        (lambda user: change_password(user, fields=["password"]), ["anna"]),
        (lambda user: change_password(user, fields=["email"]), []),
        (upgrade_hash, []),
        (lambda user: user.save(), []),
    ],
)
def test_a_new_password_ends_the_streams_of_all_sessions(
    people: People,
    committed: Commit,
    sse_outbox: list[Operation],
    configure: Configure,
    settings: Any,
    act: Callable[[User], None],
    told: list[str],
) -> None:
    configure(TICKET_KEY=KEY)
    settings.PASSWORD_HASHERS = [PBKDF2, "django.contrib.auth.hashers.MD5PasswordHasher"]
    with committed():
        act(people.anna)
    assert [(one.op, people.name(one.user)) for one in sse_outbox] == [("revoke", name) for name in told]


def test_a_new_password_leaves_tokens_as_they_are(
    people: People, committed: Commit, sse_outbox: list[Operation]
) -> None:
    with committed():
        change_password(people.anna)
    assert sse_outbox == []


def sid_of(answer: Any) -> str:
    """Return that of a ticket."""
    ticket = json.loads(answer.rendered_content)["ticket"]
    sid: str = jwt.decode(ticket, KEY, algorithms=["HS256"], audience="sse")["sid"]
    return sid


@pytest.fixture
def with_tickets(configure: Configure) -> None:
    configure(TICKET_KEY=KEY)


@pytest.fixture(params=["new", "older"])
def session(request: pytest.FixtureRequest, people: People, configure: Configure) -> Client:
    """Anna's, who logged in while there were tickets, or before there were any."""
    client = Client()
    if request.param == "new":
        configure(TICKET_KEY=KEY)
    client.force_login(people.anna)
    configure(TICKET_KEY=KEY)
    return client


def tab(client: Client, user: User) -> Any:
    """A request for a ticket, of a page of this session, that Django has begun to answer."""
    request: Any = APIRequestFactory().post("/api/v1/sse/ticket/")
    request.session = SessionStore(client.session.session_key)
    assert request.session["_auth_user_id"]  # it is fetched
    request.user, request._dont_enforce_csrf_checks = user, True
    return request


def test_two_tabs_at_once_have_the_same_sid_and_logging_out_ends_both(
    committed: Commit, sse_outbox: list[Operation], people: People, session: Client
) -> None:
    tabs = [tab(session, people.anna) for _ in range(2)]
    sids = []
    for one in tabs:
        sids.append(sid_of(TicketView.as_view()(one)))
        one.session.save()
    assert sids[0] == sids[1]
    assert str(session.session.session_key) not in sids[0]
    with committed():
        session.logout()
    assert sse_outbox == [Operation("revoke", sid=sids[0])]


def test_asking_for_a_ticket_writes_nothing_into_the_session(session: Client) -> None:
    """Two requests that write would each undo what the other wrote."""
    before = dict(session.session.items())
    assert session.post("/api/v1/sse/ticket/").status_code == 200
    assert dict(session.session.items()) == before


@pytest.mark.usefixtures("with_tickets")
def test_a_session_that_gets_another_key_keeps_its_sid(
    committed: Commit, sse_outbox: list[Operation], logged_in: Client
) -> None:
    """As it does when the password is changed."""
    sid = sid_of(logged_in.post("/api/v1/sse/ticket/"))
    changed: Any = logged_in.session
    changed.cycle_key()
    logged_in.cookies["sessionid"] = changed.session_key
    assert sid_of(logged_in.post("/api/v1/sse/ticket/")) == sid
    with committed():
        logged_in.logout()
    assert sse_outbox == [Operation("revoke", sid=sid)]


@pytest.mark.usefixtures("with_tickets")
def test_each_login_has_a_sid_of_its_own(people: People) -> None:
    sids = set()
    for user in (people.anna, people.anna, people.boris):
        client = Client()
        client.force_login(user)
        sids.add(sid_of(client.post("/api/v1/sse/ticket/")))
    assert len(sids) == 3


@pytest.mark.usefixtures("with_tickets")
def test_who_comes_after_another_in_the_same_browser_has_another_sid(people: People, logged_in: Client) -> None:
    first = sid_of(logged_in.post("/api/v1/sse/ticket/"))
    logged_in.logout()
    logged_in.force_login(people.boris)
    assert sid_of(logged_in.post("/api/v1/sse/ticket/")) != first


def test_logging_out_ends_the_streams_of_the_session(
    committed: Commit, sse_outbox: list[Operation], people: People, session: Client
) -> None:
    other = Client()
    other.force_login(people.anna)
    other.post("/api/v1/sse/ticket/")
    sid = sid_of(session.post("/api/v1/sse/ticket/"))
    with committed():
        other.logout()
    assert sse_outbox
    assert sid not in {operation.sid for operation in sse_outbox}
    with committed():
        session.logout()
    assert sse_outbox == [Operation("revoke", sid=sid)]


@pytest.mark.parametrize("keys", [{}, {"TICKET_KEY": KEY, "WATCH": False}], ids=["no-tickets", "not-watched"])
def test_logging_out_where_there_is_nothing_to_end(
    committed: Commit, sse_outbox: list[Operation], logged_in: Client, configure: Configure, keys: dict[str, Any]
) -> None:
    configure(**keys)
    with committed():
        logged_in.logout()
    assert sse_outbox == []


def test_logging_out_who_has_no_session(committed: Commit, sse_outbox: list[Operation], configure: Configure) -> None:
    configure(TICKET_KEY=KEY)
    with_none, without_key = HttpRequest(), HttpRequest()
    without_key.session = SessionStore()
    with committed():
        for request in (None, with_none, without_key):
            user_logged_out.send(sender=get_user_model(), request=request, user=None)
    assert sse_outbox == []


# ---- a site with a user model of its own ----


@own_user
@pytest.mark.parametrize(
    ("settings_of", "files"),
    [
        ("swapped", ["test_users.py", "test_views.py", "test_models.py"]),  # all of this: the key is a UUID
        ("member", ["own_users/member.py"]),
        ("loner", ["own_users/loner.py"]),
    ],
)
def test_with_a_user_model_of_the_sites_own(settings_of: str, files: list[str]) -> None:
    """In a process with other settings."""
    here = Path(__file__).parent
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "sse_django.pytest_plugin"),
            *(str(here / name) for name in files),
            *(f"--ds=estimates.{settings_of}_settings", "-p", "no:xdist"),
        ],
        cwd=here.parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout
