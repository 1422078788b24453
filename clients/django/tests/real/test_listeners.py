"""Who listens, and what they are told: a site under gunicorn, asked by sse who a token belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest

from .harness import Stream, Web, asked, wait_for
from .site import acts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import MakeSse
    from .harness import Sse

Kind = Literal["drf", "knox", "jwt"]


@pytest.fixture(params=["sync", "gthread"])
def web(request: pytest.FixtureRequest) -> Web:
    """Under gunicorn, with both kinds of workers."""
    found: Web = request.getfixturevalue(f"{request.param}_web")
    return found


@pytest.fixture
def sse(make_sse: MakeSse, web: Web) -> Sse:
    return make_sse(web)


@pytest.mark.parametrize("kind", ["drf", "knox", "jwt"])
def test_a_token_that_the_site_knows_lets_in_with_its_roles(sse: Sse, web: Web, kind: Kind) -> None:
    anna = web.do(acts.person, "manager", "Прораб участка № 5")
    with sse.join(anna[kind]) as stream:
        assert sse.publish("for.role", roles=["manager"]) == 1
        assert sse.publish("for.other.role", roles=["foreman"]) == 0
        assert sse.publish("for.long.role", roles=["Прораб участка № 5"]) == 1
        assert sse.publish("for.her", users=[anna["id"]]) == 1
        for name in ("for.role", "for.long.role", "for.her"):
            stream.hears(name)


@pytest.mark.parametrize("kind", ["drf", "knox", "jwt"])
def test_a_token_that_the_site_does_not_know_is_refused(sse: Sse, web: Web, kind: Kind) -> None:
    token = web.do(acts.person)[kind]
    sse.refuses(token[:-4] + ("aaaa" if token[-4:] != "aaaa" else "bbbb"))
    assert not sse.logged("auth_failed")


@pytest.mark.parametrize("kind", ["drf", "knox", "jwt"])
def test_a_deactivated_user_is_refused(sse: Sse, web: Web, kind: Kind) -> None:
    anna = web.do(acts.person)
    web.do(acts.deactivate, anna["id"])
    sse.refuses(anna[kind])
    assert not sse.logged("auth_failed")


def test_without_the_key_nobody_learns_anything_from_the_view(web: Web) -> None:
    anna = web.do(acts.person)
    headers = {"Authorization": f"Token {anna['drf']}"}
    for key in ({}, {"X-SSE-Key": "another"}):
        answer = web.http.get("/api/v1/sse/auth/", headers={**headers, **key})
        assert answer.status_code == 412
        assert "user" not in answer.json()


def test_a_wrong_key_puts_browsers_off_and_does_not_refuse_them(make_sse: MakeSse, web: Web) -> None:
    sse = make_sse(web, key="another")
    sse.puts_off(web.do(acts.person)["drf"])
    (line,) = sse.wait_log("msg=auth_failed reason=status status=412")
    assert "--auth-key-file" in line, "it says what to look at"


class Crew:
    """A manager, two foremen and a visitor, who all listen."""

    def __init__(self, sse: Sse, web: Web) -> None:
        self.ids: dict[str, int] = {}
        self.streams: dict[str, Stream] = {}
        for name, roles in {"manager": ["manager"], "one": ["foreman"], "two": ["foreman"], "visitor": []}.items():
            made = web.do(acts.person, *roles)
            self.ids[name] = made["id"]
            self.streams[name] = sse.join(made["drf"])
        self.web = web

    def heard(self) -> dict[str, list[tuple[str, Any]]]:
        """What each of them was told up to now: the events' names and numbers; who heard nothing is not there."""
        self.web.do(acts.say, "that.was.all")
        found = {}
        for name, stream in self.streams.items():
            events = []
            while (event := stream.next())["event"] != "that.was.all":
                events.append((event["event"], event["data"]["estimate_number"]))
            if events:
                found[name] = events
        return found


@pytest.fixture
def crew(sse: Sse, web: Web) -> Iterator[Crew]:
    crew = Crew(sse, web)
    yield crew
    for stream in crew.streams.values():
        stream.close()


def test_an_estimate_is_told_to_managers_and_to_its_foreman(crew: Crew, web: Web) -> None:
    pk = web.do(acts.file_estimate, "№ 17", foreman=crew.ids["one"])
    told = [("estimate.created", "№ 17")]
    assert crew.heard() == {"manager": told, "one": told}
    web.do(acts.delete_estimate, pk)
    told = [("estimate.deleted", "№ 17")]
    assert crew.heard() == {"manager": told, "one": told}


def test_an_event_has_what_the_document_says(crew: Crew, web: Web) -> None:
    pk = web.do(acts.file_estimate, "№ 17", foreman=crew.ids["one"], project="ЖК «Север»", creator=crew.ids["manager"])
    stream = crew.streams["one"]
    event = stream.hears("estimate.created")
    created_at = event["data"].pop("created_at")
    assert created_at.endswith("Z")
    assert event["data"] == {
        "estimate_id": pk,
        "estimate_number": "№ 17",
        "project_id": event["data"]["project_id"],
        "project_name": "ЖК «Север»",
        "foreman_id": crew.ids["one"],
        "foreman_name": "Анна Седова",
        "creator_id": crew.ids["manager"],
        "creator_name": "Анна Седова",
        "status": "Черновик",
    }
    assert isinstance(event["timestamp"], int)


def test_what_is_rolled_back_is_not_told(crew: Crew, web: Web) -> None:
    web.do(acts.file_estimate_and_fail, "18", foreman=crew.ids["one"])
    assert crew.heard() == {}


def test_of_a_reassigned_estimate_both_foremen_are_told(crew: Crew, web: Web) -> None:
    pk = web.do(acts.file_estimate, "19", foreman=crew.ids["one"])
    crew.heard()
    web.do(acts.assign, pk, crew.ids["two"])
    told = [("estimate.updated", "19")]
    assert crew.heard() == {"manager": told, "one": told, "two": told}
    web.do(acts.assign, pk, crew.ids["two"])
    assert crew.heard() == {"manager": told, "two": told}
    web.do(acts.assign, pk, None)
    assert crew.heard() == {"manager": told, "two": told}


def test_bulk_helpers_tell(crew: Crew, web: Web) -> None:
    one, two = crew.ids["one"], crew.ids["two"]
    numbers = [f"20/{i}" for i in range(30)]

    def told(event: str) -> list[tuple[str, str]]:
        return [(f"estimate.{event}", number) for number in numbers]

    made = web.do(acts.create_in_bulk, numbers, one)
    assert crew.heard() == {"manager": told("created"), "one": told("created")}
    web.do(acts.assign_in_bulk, made, two)
    assert crew.heard() == dict.fromkeys(("manager", "one", "two"), told("updated"))
    web.do(acts.assign_by_update, made, one)
    assert crew.heard() == dict.fromkeys(("manager", "one", "two"), told("updated"))
    web.do(acts.delete_and_notify, made)
    assert crew.heard() == {"manager": told("deleted"), "one": told("deleted")}


def test_both_workers_tell(sse: Sse, web: Web) -> None:
    """The backend had its socket before they were forked."""
    anna = web.do(acts.person)
    with sse.join(anna["drf"]) as stream:
        told = set()

        def another() -> bool:
            with web.client() as http:  # one connection stays with one worker
                told.add(http.post("/do/", json=asked(acts.say_who)).json()["result"])
            return len(told) == 2

        wait_for(another, "both workers were asked")
        heard: set[int] = set()
        while heard != told:
            heard.add(stream.hears("who")["data"])
