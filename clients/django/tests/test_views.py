"""The view that sse asks who a token belongs to, and the one that gives tickets."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import jwt
import pytest
from django.apps import apps
from django.contrib.auth.models import AnonymousUser
from django.db import OperationalError
from django.test import Client, RequestFactory
from rest_framework.authtoken.models import Token
from rest_framework.throttling import BaseThrottle
from rest_framework.versioning import NamespaceVersioning
from rest_framework.views import APIView
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from estimates.hooks import Lenient
from sse_django import Operation, role_name
from sse_django.roles import group_names, roles_of
from sse_django.users import token_sid
from sse_django.views import AuthView, make_ticket

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import Group, User

    from conftest import Commit, Configure, Make, Said

pytestmark = pytest.mark.django_db
AuthToken: Any = apps.get_model("knox", "AuthToken")
AUTH, TICKET = "/api/v1/sse/auth/", "/api/v1/sse/ticket/"
KEY = "the-key-that-sse-and-django-share"
TICKET_KEY = "a key for tickets, that is long enough"


class Ask(Protocol):
    def __call__(self, token: str, scheme: str = ..., **headers: str) -> Any: ...


@pytest.fixture
def ask() -> Ask:
    """Ask as sse does: ask(token)."""

    def question(token: str, scheme: str = "Token", **headers: str) -> Any:
        given = {"HTTP_X_SSE_KEY": KEY, "HTTP_X_SSE_PHASE": "connect", "HTTP_X_ORIGINAL_URI": "/api/v1/sse/events/"}
        given |= {"HTTP_AUTHORIZATION": f"{scheme} {token}", "HTTP_ACCEPT": "application/json", **headers}
        client: Any = Client(raise_request_exception=False)
        return client.get(AUTH, **given)

    return question


class At:
    """A clock that stands still."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    monotonic = time


def _drf(user: User) -> str:
    return str(Token.objects.get_or_create(user=user)[0].key)


def _knox(user: User) -> str:
    return str(AuthToken.objects.create(user)[1])


def _jwt(user: User) -> str:
    return str(AccessToken.for_user(user))


KINDS = pytest.mark.parametrize("make", [_drf, _knox, _jwt])


# ---- who a token belongs to ----


@KINDS
@pytest.mark.parametrize("scheme", ["Token", "Bearer", "bearer", "TOKEN", "Api-Key", "x"])
def test_every_token_of_the_site_behind_any_word(
    ask: Ask, person: Make, group: Callable[[str], Group], make: Callable[[User], str], scheme: str
) -> None:
    user = person()
    user.groups.add(group("manager"), group("Прорабы"))
    answer = ask(make(user), scheme)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    told = answer.json()
    assert set(told) == {"user", "roles", "sid"}
    assert told["user"] == str(user.pk)
    assert sorted(told["roles"]) == ["manager", "Прорабы"]
    assert 1 <= len(told["sid"]) <= 64


@KINDS
def test_the_sid_is_that_of_the_token(ask: Ask, person: Make, make: Callable[[User], str]) -> None:
    token, other = make(person()), make(person())
    sids = [ask(*words).json()["sid"] for words in ((token, "Token"), (token, "Bearer"), (other, "Token"))]
    assert sids[0] == sids[1] != sids[2]
    assert token not in sids[0]


@pytest.mark.parametrize("make", [_drf, _knox])
def test_deleting_the_token_ends_what_was_opened_with_it(
    ask: Ask, committed: Commit, sse_outbox: list[Operation], person: Make, make: Callable[[User], str]
) -> None:
    user = person()
    token = make(user)
    sid = ask(token).json()["sid"]
    with committed():
        Token.objects.all().delete()
        AuthToken.objects.all().delete()
    assert sse_outbox == [Operation("revoke", sid=sid)]
    assert ask(token).status_code == 401


def test_a_jwt_without_an_id_has_no_sid(ask: Ask, person: Make) -> None:
    token = AccessToken.for_user(person())
    del token.payload["jti"]
    answer = ask(str(token))
    assert answer.status_code in (200, 401)  # simplejwt may want one
    assert "sid" not in answer.json()


@pytest.mark.parametrize(
    ("roles", "told"),
    [
        ([], []),
        (["manager"], ["manager"]),
        (["Ж" * 40], [role_name("Ж" * 40)]),
        (["tab\t"], [role_name("tab\t")]),
    ],
    ids=["none", "one", "long", "control"],
)
def test_roles_are_as_events_name_them(
    ask: Ask, person: Make, group: Callable[[str], Group], roles: list[str], told: list[str]
) -> None:
    user = person()
    user.groups.add(*map(group, roles))
    answer = ask(_drf(user)).json()
    assert answer["roles"] == told
    assert all(len(role.encode()) <= 64 for role in answer["roles"])


def test_roles_from_a_function_of_the_site(ask: Ask, person: Make, configure: Configure) -> None:
    configure(ROLES="estimates.hooks.staff")
    assert ask(_drf(person(is_staff=True))).json()["roles"] == ["staff"]
    assert ask(_drf(person())).json()["roles"] == []


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, ["chat", "manager", role_name("Ж" * 40)]),
        ({"ROLE_NAMES": ["manager"]}, ["manager"]),
        ({"ROLE_NAMES": ("manager", "Ж" * 40, "foreman")}, ["manager", role_name("Ж" * 40)]),
        ({"ROLE_NAMES": ["foreman"]}, []),
        ({"ROLE_NAMES": []}, ["chat", "manager", role_name("Ж" * 40)]),
        ({"ROLE_NAMES": ["staff"], "ROLES": "estimates.hooks.staff"}, ["staff"]),
        ({"ROLE_NAMES": ["manager"], "ROLES": "estimates.hooks.staff"}, []),
    ],
)
def test_only_the_roles_that_the_settings_name(
    ask: Ask,
    person: Make,
    group: Callable[[str], Group],
    configure: Configure,
    keys: dict[str, Any],
    told: list[str],
) -> None:
    configure(TICKET_KEY=TICKET_KEY, **keys)
    somebody = person(is_staff=True)
    somebody.groups.add(*map(group, ("manager", "chat", "Ж" * 40)))
    assert sorted(ask(_drf(somebody)).json()["roles"]) == told
    assert sorted(claims(make_ticket(somebody))["roles"]) == told


@pytest.mark.parametrize("key", ["7", "прораб@example.com"])
def test_a_user_of_no_model_is_let_in(ask: Ask, configure: Configure, key: str) -> None:
    """With simplejwt's stateless tokens of another site, who listens is in no table here."""
    configure(
        TICKET_KEY=TICKET_KEY,
        AUTHENTICATION_CLASSES=["rest_framework_simplejwt.authentication.JWTStatelessUserAuthentication"],
    )
    token = AccessToken()
    token["user_id"] = key
    answer = ask(str(token), "Bearer")
    assert answer.status_code == 200
    assert (answer.json()["user"], answer.json()["roles"]) == (key, [])
    ticket = Client().post(TICKET, headers={"Authorization": f"Bearer {token}"}).json()["ticket"]
    assert (claims(ticket)["sub"], claims(ticket)["sid"]) == (key, answer.json()["sid"])


def test_a_user_that_knows_no_groups_has_no_roles() -> None:
    assert list(group_names(SimpleNamespace(pk=7))) == []
    assert list(group_names(AnonymousUser())) == []
    assert roles_of(SimpleNamespace(pk=7)) == []


def test_roles_that_cannot_be_found_are_no_denial(ask: Ask, person: Make, configure: Configure) -> None:
    """A mistake in the function is a fault of the site, which sse asks again after: no denial."""
    configure(ROLES="estimates.hooks.no_roles")
    assert ask(_drf(person())).status_code == 500


def test_the_classes_that_the_settings_name(ask: Ask, person: Make, configure: Configure) -> None:
    token = _drf(person())
    configure(AUTHENTICATION_CLASSES=["estimates.hooks.KeyAuthentication"])
    assert ask(token, "Api-Key").status_code == 200
    assert ask(token, "Bearer").status_code == 401
    assert ask(_knox(person()), "Api-Key").status_code == 401


@pytest.mark.parametrize(("seconds", "header"), [(30, "max-age=30"), (0, "max-age=0"), (300, "max-age=300")])
def test_how_long_an_answer_may_be_kept(
    ask: Ask, person: Make, configure: Configure, seconds: int, header: str
) -> None:
    configure(AUTH_MAX_AGE=seconds)
    assert ask(_drf(person()))["Cache-Control"] == header


# ---- who is let in nowhere ----


def _expired_knox(user: User) -> str:
    return str(AuthToken.objects.create(user, expiry=timedelta(seconds=-1))[1])


def _expired_jwt(user: User) -> str:
    token = AccessToken.for_user(user)
    token.set_exp(lifetime=timedelta(seconds=-60))
    return str(token)


def _deleted_drf(user: User) -> str:
    token = _drf(user)
    Token.objects.all().delete()
    return token


def _deleted_knox(user: User) -> str:
    token = _knox(user)
    AuthToken.objects.all().delete()
    return token


def _refresh_jwt(user: User) -> str:
    return str(RefreshToken.for_user(user))


def _foreign_jwt(user: User) -> str:
    claims = {"token_type": "access", "user_id": str(user.pk), "jti": "1", "exp": int(time.time()) + 60}
    return jwt.encode(claims, "somebody else's key, and long enough", algorithm="HS256")


def _unsigned_jwt(user: User) -> str:
    claims = {"token_type": "access", "user_id": str(user.pk), "jti": "1", "exp": int(time.time()) + 60}
    return jwt.encode(claims, "", algorithm="none")


@pytest.mark.parametrize(
    "make",
    [_expired_knox, _expired_jwt, _deleted_drf, _deleted_knox, _refresh_jwt, _foreign_jwt, _unsigned_jwt],
)
def test_a_token_that_is_not_good_any_more(ask: Ask, person: Make, make: Callable[[User], str]) -> None:
    answer = ask(make(person()))
    assert answer.status_code == 401
    assert answer["Cache-Control"] == "no-store"
    assert list(answer.json()) == ["detail"]


@KINDS
def test_a_user_who_is_not_active_any_more(ask: Ask, person: Make, make: Callable[[User], str]) -> None:
    user = person()
    token = make(user)
    assert ask(token).status_code == 200
    user.is_active = False
    user.save()
    assert ask(token).status_code == 401


@KINDS
def test_a_user_who_is_deleted(ask: Ask, person: Make, make: Callable[[User], str]) -> None:
    user = person()
    token = make(user)
    user.delete()
    assert ask(token).status_code == 401


def test_a_class_that_does_not_look_whether_a_user_is_active(ask: Ask, person: Make, configure: Configure) -> None:
    configure(AUTHENTICATION_CLASSES=["estimates.hooks.Lenient"])
    person(username="here"), person(username="gone", is_active=False)
    assert [ask(name).status_code for name in ("here", "gone", "nobody")] == [200, 401, 401]


ODD = {
    "empty": "",
    "space": " ",
    "two words": "a b",
    "tab": "a\tb",
    "latin-1": "\xff\xfe",
    "half a character": "\xd0",
    "cyrillic": "Ж".encode().decode("latin-1"),
    "nul": "a\x00b",
    "long": "x" * 4096,
    "long, not ASCII": "\xff" * 4096,
    "dots": "..",
    "parts": "a.b.c",
    "no JSON": "e30.e30.e30",
    "unpadded": "a.a.a",
    "array": jwt.utils.base64url_encode(b"[]").decode() + "." + jwt.utils.base64url_encode(b"[]").decode() + ".",
    "quotes": "'\"; DROP TABLE",
    "percent": "%00%ff",
    "another scheme": "Basic dXNlcjpwYXNz",
    "braces": "{}",
}


@pytest.mark.parametrize("token", ODD.values(), ids=ODD)
@pytest.mark.parametrize("scheme", ["Token", "Bearer", "Basic", "", "\xff"])
def test_whatever_the_token_is_the_answer_is_a_denial(ask: Ask, token: str, scheme: str) -> None:
    assert ask(token, scheme).status_code == 401


def test_no_authorization_at_all() -> None:
    for headers in ({}, {"Authorization": ""}, {"Authorization": "Token"}):
        assert Client().get(AUTH, headers={"X-SSE-Key": KEY, **headers}).status_code == 401


def test_a_database_that_is_away_is_no_denial(ask: Ask, configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("server closed the connection")

    configure(AUTHENTICATION_CLASSES=["estimates.hooks.Lenient"])
    monkeypatch.setattr(Lenient, "authenticate", away)
    assert ask("x").status_code == 500


# ---- who may ask ----


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-SSE-Key": ""}, {"X-SSE-Key": "wrong"}, {"X-SSE-Key": KEY + " "}, {"X-SSE-Key": KEY[:-1]}],
    ids=["missing", "empty", "wrong", "longer", "shorter"],
)
def test_who_does_not_have_the_key_is_told_nothing(person: Make, said: Said, headers: dict[str, str]) -> None:
    """Not 401: that would tell browsers to give up."""
    token = _drf(person())
    for text in (token, "unknown"):
        answer = Client().get(AUTH, headers={"Authorization": f"Token {text}", **headers})
        assert answer.status_code == 412
        assert set(answer.json()) == {"detail"}
    assert "X-SSE-Key is missing or wrong" in said()[0]
    assert not [text for text in (KEY, token) if text in "".join(said())]


def test_a_key_that_is_not_latin() -> None:
    assert Client().get(AUTH, HTTP_X_SSE_KEY="Ж", HTTP_AUTHORIZATION="Token x").status_code == 412


@pytest.mark.parametrize("sent", ["", KEY])
def test_without_a_key_in_the_settings_nobody_is_let_in(
    ask: Ask, person: Make, configure: Configure, said: Said, sent: str
) -> None:
    configure(AUTH_KEY="")
    assert ask(_drf(person()), HTTP_X_SSE_KEY=sent).status_code == 412
    assert "SSE['AUTH_KEY'] is not set" in said()[0]


def test_anybody_who_asks_is_complained_of_once_a_minute(
    ask: Ask, configure: Configure, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = At(0)
    monkeypatch.setattr("sse_django.views.time", clock)
    for clock.now in (0, 1, 59.9, 60, 119):
        ask("x", HTTP_X_SSE_KEY="wrong")
    assert len(said()) == 2
    configure(AUTH_KEY="")
    for clock.now in (119, 120):
        ask("x")
    assert ["is not set" in text for text in said()] == [False, False, True]


def test_who_asks_can_have_no_mail_sent_to_the_admins(
    ask: Ask, person: Make, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    """They get one for each error that Django logs of a request."""

    def errors() -> int:
        return len([one for one in caplog.records if one.name == "django.request" and one.levelname == "ERROR"])

    ask("x", HTTP_X_SSE_KEY="wrong")
    ask("x")
    assert errors() == 0
    configure(ROLES="estimates.hooks.no_roles")
    ask(_drf(person()))
    assert errors() == 1


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_it_is_only_asked(method: str) -> None:
    assert getattr(Client(), method)(AUTH, HTTP_X_SSE_KEY=KEY).status_code == 405


# ---- what a site may have set for all its views ----


def test_a_site_where_one_must_be_logged_in_everywhere(ask: Ask, person: Make, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    assert ask(_drf(person())).status_code == 200
    assert ask("unknown").status_code == 401


def test_a_site_that_limits_how_often_it_is_asked(ask: Ask, person: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(BaseThrottle):
        def allow_request(self, *_: Any) -> bool:
            return False

    monkeypatch.setattr(APIView, "throttle_classes", (Never,))
    assert ask(_drf(person())).status_code == 200


def test_a_site_with_versions(
    ask: Ask, person: Make, logged_in: Client, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(TICKET_KEY=TICKET_KEY)
    monkeypatch.setattr(NamespaceVersioning, "allowed_versions", ["v1"])
    monkeypatch.setattr(APIView, "versioning_class", NamespaceVersioning)
    assert ask(_drf(person())).status_code == 200
    assert logged_in.post(TICKET).status_code == 200


def test_a_view_that_is_called_without_a_site(person: Make) -> None:
    """As under ASGI, or behind a middleware that wraps the request."""
    request = RequestFactory().get(
        "/anywhere/", headers={"X-SSE-Key": KEY, "Authorization": f"Token {_drf(person())}", "Accept": "*/*"}
    )
    assert AuthView.as_view()(request).status_code == 200


# ---- tickets ----


@pytest.fixture
def user(person: Make, group: Callable[[str], Group]) -> User:
    made = person()
    made.groups.add(group("manager"), group("Ж" * 40))
    return made


@pytest.fixture
def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def claims(ticket: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(ticket, TICKET_KEY, algorithms=["HS256"], audience="sse")
    return found


def test_a_ticket_says_who_it_is_for_and_how_long(logged_in: Client, user: User, configure: Configure) -> None:
    configure(TICKET_KEY=TICKET_KEY)
    before = time.time()
    answer = logged_in.post(TICKET)
    after = time.time()
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    told = answer.json()
    assert set(told) == {"ticket", "expires_in"}
    assert told["expires_in"] == 60
    found = claims(told["ticket"])
    assert set(found) == {"sub", "roles", "aud", "iat", "exp", "expire_at", "sid"}
    assert (found["sub"], found["aud"]) == (str(user.pk), "sse")
    assert sorted(found["roles"]) == sorted(["manager", role_name("Ж" * 40)])
    assert round(before, 3) <= found["iat"] <= round(after, 3)
    assert (found["exp"], found["expire_at"]) == (int(found["iat"]) + 60, int(found["iat"]) + 3600)
    assert found["sid"].startswith("session:")
    assert jwt.get_unverified_header(told["ticket"]) == {"alg": "HS256", "typ": "JWT"}


@pytest.mark.parametrize(
    ("now", "iat", "whole"),
    [
        (1704110400.123456, 1704110400.123, 1704110400),
        (1704110400.0, 1704110400.0, 1704110400),
        (1704110400.9996, 1704110400.999, 1704110400),
    ],
)
def test_a_ticket_says_to_the_millisecond_when_it_was_made(
    user: User, configure: Configure, monkeypatch: pytest.MonkeyPatch, now: float, iat: float, whole: int
) -> None:
    """Those made before a revocation are void, and one made in the same second, but after it, is not.

    Never a later one: a ticket would be good that was made just before.
    """
    configure(TICKET_KEY=TICKET_KEY)
    monkeypatch.setattr("sse_django.views.time", At(now))
    ticket = make_ticket(user)
    found = jwt.decode(ticket, TICKET_KEY, algorithms=["HS256"], audience="sse", options={"verify_exp": False})
    assert (found["iat"], found["exp"], found["expire_at"]) == (iat, whole + 60, whole + 3600)
    assert isinstance(found["exp"], int)
    assert isinstance(found["expire_at"], int)


def test_how_long_a_ticket_and_its_stream_last(logged_in: Client, configure: Configure) -> None:
    configure(TICKET_KEY=TICKET_KEY, TICKET_SECONDS=5, STREAM_SECONDS=7200)
    told = logged_in.post(TICKET).json()
    found = claims(told["ticket"])
    assert told["expires_in"] == 5
    assert found["exp"] == int(found["iat"]) + 5
    assert found["expire_at"] == int(found["iat"]) + 7200
    configure(STREAM_SECONDS=0)
    assert "expire_at" not in claims(logged_in.post(TICKET).json()["ticket"])


def test_a_ticket_is_of_no_use_with_another_key(logged_in: Client, configure: Configure) -> None:
    configure(TICKET_KEY=TICKET_KEY + "!")
    with pytest.raises(jwt.InvalidSignatureError):
        claims(logged_in.post(TICKET).json()["ticket"])


def test_with_a_session_the_form_token_is_needed(user: User, configure: Configure) -> None:
    configure(TICKET_KEY=TICKET_KEY)
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    assert client.post(TICKET).status_code == 403
    client.cookies["csrftoken"] = "x" * 32
    assert client.post(TICKET, headers={"X-CSRFToken": "y" * 32}).status_code == 403
    assert client.post(TICKET, headers={"X-CSRFToken": "x" * 32}).status_code == 200


@pytest.mark.parametrize(
    ("make", "scheme", "by"),
    [
        (_drf, "Token", "rest_framework.authentication.TokenAuthentication"),
        (_knox, "Token", "knox.auth.TokenAuthentication"),
        (_jwt, "Bearer", "rest_framework_simplejwt.authentication.JWTAuthentication"),
    ],
)
def test_a_ticket_for_a_token_ends_with_it(
    ask: Ask, user: User, configure: Configure, make: Callable[[User], str], scheme: str, by: str
) -> None:
    configure(TICKET_KEY=TICKET_KEY, AUTHENTICATION_CLASSES=[by])
    token = make(user)
    answer = Client(enforce_csrf_checks=True).post(TICKET, headers={"Authorization": f"{scheme} {token}"})
    assert answer.status_code == 200
    found = claims(answer.json()["ticket"])
    assert found["sub"] == str(user.pk)
    assert found["sid"] == ask(token).json()["sid"]


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Token unknown"}, {"Authorization": "Bearer a.b.c"}, {"Cookie": "sessionid=x"}]
)
@pytest.mark.parametrize("ticket_key", [TICKET_KEY, ""])
def test_who_is_not_logged_in_gets_none(configure: Configure, headers: dict[str, str], ticket_key: str) -> None:
    configure(TICKET_KEY=ticket_key)
    assert Client().post(TICKET, headers=headers).status_code in (401, 403)


def test_who_is_not_active_any_more_gets_none(logged_in: Client, user: User, configure: Configure) -> None:
    configure(TICKET_KEY=TICKET_KEY)
    user.is_active = False
    user.save()
    assert logged_in.post(TICKET).status_code in (401, 403)


@pytest.mark.parametrize(("name", "status"), [("here", 200), ("gone", 401)])
def test_a_class_that_does_not_look_lets_nobody_get_one_who_is_not_active(
    person: Make, configure: Configure, name: str, status: int
) -> None:
    configure(TICKET_KEY=TICKET_KEY, AUTHENTICATION_CLASSES=["estimates.hooks.Lenient"])
    person(username="here"), person(username="gone", is_active=False)
    answer = Client().post(TICKET, headers={"Authorization": f"Token {name}"})
    assert answer.status_code in ((401, 403) if status == 401 else (200,))


def test_without_a_ticket_key_there_are_none(logged_in: Client) -> None:
    answer = logged_in.post(TICKET)
    assert answer.status_code == 503
    assert "SSE['TICKET_KEY']" in answer.json()["detail"]


@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_a_ticket_is_posted_for(logged_in: Client, configure: Configure, method: str) -> None:
    configure(TICKET_KEY=TICKET_KEY)
    assert getattr(logged_in, method)(TICKET).status_code == 405


def test_a_body_that_nobody_reads_does_not_matter(logged_in: Client, configure: Configure) -> None:
    configure(TICKET_KEY=TICKET_KEY)
    for body, kind in (("{", "application/json"), ("x", "text/plain"), ("a=b", "application/x-www-form-urlencoded")):
        assert logged_in.post(TICKET, body, content_type=kind).status_code == 200


def test_the_classes_that_the_settings_name_give_tickets(logged_in: Client, user: User, configure: Configure) -> None:
    configure(TICKET_KEY=TICKET_KEY, AUTHENTICATION_CLASSES=["estimates.hooks.KeyAuthentication"])
    assert logged_in.post(TICKET).status_code == 401
    assert Client().post(TICKET, headers={"Authorization": f"Api-Key {_drf(user)}"}).status_code == 200


def test_a_ticket_made_by_hand(user: User, configure: Configure) -> None:
    configure(TICKET_KEY=TICKET_KEY)
    assert set(claims(make_ticket(user))) == {"sub", "roles", "aud", "iat", "exp", "expire_at"}
    token = Token.objects.create(user=user)
    assert claims(make_ticket(user, sid=token_sid(token)))["sid"] == token_sid(token)
