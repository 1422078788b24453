"""Tickets: a page that has only a session cookie gets in by one, and out with its session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .harness import TICKET_KEY, TICKETS, secret, wait_for
from .site import acts

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from .conftest import MakeSse
    from .harness import Sse, Stream, Web


@pytest.fixture
def web(ticket_web: Web) -> Web:
    return ticket_web


@pytest.fixture
def anna(web: Web) -> acts.Person:
    """She is there before sse is: what changes about her in a second makes the tickets of that second void."""
    return web.do(acts.person, "manager")


@pytest.fixture
def sse(make_sse: MakeSse, web: Web, anna: acts.Person, tmp_path: Path) -> Sse:
    assert anna["id"] > 0, "she comes first"
    keys = tmp_path / "ticket-keys"
    keys.write_text(TICKET_KEY + "\n")
    return make_sse(web, "--ticket-key-file", str(keys))


class Page:
    """A page of the site in a browser: cookies, a CSRF token, and nothing else."""

    def __init__(self, web: Web, sse: Sse, user: int) -> None:
        self.sse = sse
        self.http = web.client()
        self.csrf = self.http.post("/enter/", json={"user": user}).json()["csrf"]

    def post(self, path: str) -> httpx.Response:
        return self.http.post(path, headers={"X-CSRFToken": self.csrf})

    def ticket(self) -> str:
        answer = self.post(TICKETS)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["expires_in"] == 60
        return secret(answer.json()["ticket"])

    def join(self) -> Stream:
        return self.sse.join(self.ticket())

    def join_when_let_in(self) -> Stream:
        """After a revocation tickets of the same second do not count: the page fetches others."""

        def join() -> Stream | None:
            stream = self.sse.open(self.ticket())
            if stream.status == 200:
                stream.must_be_in()
                return stream
            stream.close()
            return None

        stream = wait_for(join, "a new ticket lets in")
        assert stream is not None
        return stream

    def leave(self) -> None:
        assert self.post("/leave/").status_code == 204


@pytest.fixture
def page(web: Web, sse: Sse, anna: acts.Person) -> Page:
    return Page(web, sse, anna["id"])


def test_a_ticket_opens_a_stream_with_the_roles_of_the_user(sse: Sse, page: Page, anna: acts.Person) -> None:
    with page.join() as stream:
        assert sse.publish("for.role", roles=["manager"]) == 1
        assert sse.publish("for.her", users=[anna["id"]]) == 1
        stream.hears("for.role")
        stream.hears("for.her")


def test_a_ticket_is_for_who_is_logged_in_and_means_it(page: Page, web: Web) -> None:
    assert page.http.post(TICKETS).status_code == 403, "without a CSRF token"
    with web.client() as stranger:
        assert stranger.post(TICKETS).status_code in (401, 403)
    page.leave()
    assert page.post(TICKETS).status_code in (401, 403)


def test_logging_out_ends_the_streams_of_the_session(sse: Sse, page: Page, web: Web, anna: acts.Person) -> None:
    elsewhere = Page(web, sse, anna["id"])
    unused = page.ticket()
    with page.join() as one, page.join() as two, elsewhere.join() as stays:
        page.leave()
        one.must_be_revoked()
        two.must_be_revoked()
        sse.refuses(unused)
        sse.publish("news")
        stays.hears("news")


def test_logging_out_ends_them_also_after_the_password_was_changed(page: Page) -> None:
    """Django gives the session another key then."""
    with page.join() as stream:
        assert page.post("/new-password/").status_code == 204
        page.csrf = page.http.cookies["csrftoken"]
        page.leave()
        stream.must_be_revoked()


def test_a_change_of_groups_ends_a_stream_and_a_new_ticket_has_the_new_roles(
    sse: Sse, page: Page, web: Web, anna: acts.Person
) -> None:
    with page.join() as stream:
        web.do(acts.join_group, anna["id"], "foreman")
        stream.must_be_revoked()
    with page.join_when_let_in() as stream:
        assert sse.publish("for.foremen", roles=["foreman"]) == 1
        stream.hears("for.foremen")
        web.do(acts.leave_group, anna["id"], "foreman")
        stream.must_be_revoked()
    with page.join_when_let_in():
        assert sse.publish("for.foremen", roles=["foreman"]) == 0


def test_where_there_are_tickets_a_token_comes_back_by_itself_with_the_new_roles(
    sse: Sse, web: Web, anna: acts.Person
) -> None:
    """Its stream ends too; Django is asked again."""
    with sse.join(anna["drf"]) as stream:
        web.do(acts.join_group, anna["id"], "foreman")
        stream.must_be_revoked()
    with sse.join(anna["drf"]):
        assert sse.publish("for.foremen", roles=["foreman"]) == 1


def test_a_deactivated_user_loses_the_stream_and_gets_no_ticket(page: Page, web: Web, anna: acts.Person) -> None:
    with page.join() as stream:
        web.do(acts.deactivate, anna["id"])
        stream.must_be_revoked()
    assert page.post(TICKETS).status_code in (401, 403)


def test_a_ticket_got_with_a_token_ends_with_the_token(sse: Sse, web: Web, anna: acts.Person) -> None:
    answer = web.http.post(TICKETS, headers={"Authorization": f"Token {anna['drf']}"})
    with sse.join(secret(answer.json()["ticket"])) as stream:
        web.do(acts.delete_drf_token, anna["drf"])
        stream.must_be_revoked()
