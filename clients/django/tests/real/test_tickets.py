"""Tickets: a page that has only a session cookie gets in by one, and out with its session."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from .harness import TICKET_KEY, TICKETS, secret
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
    """She is there before sse is, which hears nothing of her groups then."""
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

    def change_password(self) -> None:
        """Django gives the session another key then."""
        assert self.post("/new-password/").status_code == 204
        self.csrf = self.http.cookies["csrftoken"]

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


def test_two_tabs_that_ask_at_the_same_time_are_ended_by_the_same_logout(page: Page) -> None:
    with ThreadPoolExecutor(8) as pool:
        tickets = [asked.result() for asked in [pool.submit(page.ticket) for _ in range(8)]]
    streams = [page.sse.join(ticket) for ticket in tickets]
    page.leave()
    for stream in streams:
        with stream:
            stream.must_be_revoked()


def test_a_new_password_ends_the_streams_of_all_sessions(page: Page, web: Web, anna: acts.Person) -> None:
    """Those of other sessions come back no more; this one does, with the next ticket."""
    elsewhere = Page(web, page.sse, anna["id"])
    with page.join() as here, elsewhere.join() as there:
        page.change_password()
        here.must_be_revoked()
        there.must_be_revoked()
    assert elsewhere.post(TICKETS).status_code in (401, 403)
    with page.join() as again:
        page.leave()
        again.must_be_revoked()


@pytest.mark.parametrize("times", [1, 20])
def test_a_page_whose_streams_were_revoked_is_let_in_with_the_next_ticket(
    sse: Sse, page: Page, anna: acts.Person, times: int
) -> None:
    """At once, however soon after it; and with no ticket that was made before."""
    for _ in range(times):
        old = page.ticket()
        with page.join() as stream:
            assert sse.op("revoke", user=str(anna["id"])) == 1
            stream.must_be_revoked()
        sse.refuses(old)
        with page.join() as stream:
            assert sse.publish("news") == 1
            stream.hears("news")


def test_a_change_of_groups_ends_a_stream_and_a_new_ticket_has_the_new_roles(
    sse: Sse, page: Page, web: Web, anna: acts.Person
) -> None:
    with page.join() as stream:
        web.do(acts.join_group, anna["id"], "foreman")
        stream.must_be_revoked()
    with page.join() as stream:
        assert sse.publish("for.foremen", roles=["foreman"]) == 1
        stream.hears("for.foremen")
        web.do(acts.leave_group, anna["id"], "foreman")
        stream.must_be_revoked()
    with page.join():
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
