"""The question to Django when somebody connects: what it says, how often it is asked, who gets in."""

import re
import signal
import socket
import time

import pytest

from browsers import Crowd
from conftest import MakeSse
from harness import EVENTS, LIMIT, STATS, Django, Sse, new_token, no_secret_in, secret, wait_for
from people import crowd_of, each_is_himself, person, tokens_of

WAYS = pytest.mark.parametrize("scheme", ["", "Token", "Bearer"], ids=["query", "Token", "Bearer"])


@WAYS
def test_a_token_of_rest_framework_lets_in(any_site: Django, make_sse: MakeSse, scheme: str) -> None:
    sse = make_sse(any_site)
    anna = person("manager")
    with sse.join(anna.token, scheme=scheme) as stream:
        assert sse.publish("estimate.created", {"estimate_id": 123}, roles=["manager"]) == 1
        assert stream.hears("estimate.created")["data"] == {"estimate_id": 123}
        assert sse.publish("for.anna", users=[anna.user.pk]) == 1
        stream.hears("for.anna")
        assert sse.publish("for.others", users=["1000000"], roles=["foreman"]) == 0
        assert sse.publish("news") == 1
        stream.hears("news")
    (question,) = any_site.questions(anna.token)
    assert question["scheme"] == "Token"
    assert question["status"] == "200"


def test_a_user_without_roles_hears_what_is_for_him(any_site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(any_site)
    boris = person()
    with sse.join(boris.token) as stream:
        assert sse.publish("for.managers", roles=["manager"]) == 0
        assert sse.publish("for.boris", users=[boris.id]) == 1
        stream.hears("for.boris")


@WAYS
def test_a_wrong_token_is_refused(any_site: Django, make_sse: MakeSse, scheme: str) -> None:
    sse = make_sse(any_site)
    sse.refuses(new_token(), scheme=scheme)
    assert any_site.counts()["401"] == 1
    sse.wait_log("msg=refused status=401")


def test_without_a_token_nobody_is_asked(site: Django, make_sse: MakeSse) -> None:
    make_sse(site).refuses()
    assert site.counts()["total"] == 0


def test_a_wrong_token_is_asked_about_once_in_5_seconds(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site)
    token = new_token()
    start = time.monotonic()
    sse.refuses(token)
    refused = 1

    def asked_again() -> bool:
        nonlocal refused
        sse.refuses(token)
        refused += 1
        return site.counts()["total"] == 2

    wait_for(asked_again, "the token is asked about again", limit=10)
    assert time.monotonic() - start >= 4.9
    assert refused > 2


def test_a_denial_is_not_kept_for_longer_than_the_site_says_a_yes_is(site: Django, make_sse: MakeSse) -> None:
    """max-age is about the answer that has it: a 401 has none, and the yes that was kept ends by its own."""
    site.knobs(max_age="1")
    sse = make_sse(site)
    anna = person()
    sse.join(anna.token).close()
    anna.delete_token()

    def refused() -> bool:
        with sse.open(anna.token) as stream:
            return stream.status == 401

    wait_for(refused, "the kept answer ends", limit=10)


@pytest.mark.parametrize(("max_age", "questions"), [("", 1), ("300", 1), ("0", 3)], ids=["none", "300", "0"])
def test_an_answer_is_kept_as_long_as_it_says(site: Django, make_sse: MakeSse, max_age: str, questions: int) -> None:
    site.knobs(max_age=max_age)
    sse = make_sse(site)
    anna = person("manager")
    for _ in range(3):
        with sse.join(anna.token) as stream:
            assert sse.publish("estimate.created", roles=["manager"]) >= 1
            stream.hears("estimate.created")
    assert site.counts()["total"] == questions


def test_an_answer_is_asked_for_again_when_its_time_is_over(site: Django, make_sse: MakeSse) -> None:
    site.knobs(max_age="1")
    sse = make_sse(site)
    anna = person()
    start = time.monotonic()

    def asked_again() -> bool:
        sse.join(anna.token).close()
        return site.counts()["total"] == 2

    wait_for(asked_again, "the token is asked about again")
    assert time.monotonic() - start >= 0.9


def test_what_django_is_told(any_site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(any_site, "--auth-refresh", "300ms")
    anna = person()
    with sse.join(anna.token, query="lastEventId=5&page=%D1%8F"):
        wait_for(lambda: len(any_site.questions(anna.token)) >= 2, "a refresh")
    connect, refresh = any_site.questions(anna.token)[:2]
    assert connect["phase"] == "connect"
    assert connect["uri"] == f"{EVENTS}?lastEventId=5&page=%D1%8F"
    assert refresh["phase"] == "refresh"
    for question in connect, refresh:
        assert question["method"] == "GET"
        assert question["key"] is True
        assert question["scheme"] == "Token"
        assert question["status"] == "200"
        assert anna.token not in str(question)
        assert "COOKIE" not in question["headers"]


@pytest.mark.parametrize(
    "query", ["token={}", "a=1&token={}&b=2", "token={}&b=2", "a=1&token={}", "%74oken={}", "t%6Fken={}&a=1"]
)
def test_the_uri_that_django_is_told_has_no_token(site: Django, make_sse: MakeSse, query: str) -> None:
    sse = make_sse(site)
    anna = person()
    with sse.open(query=query.format(anna.token)) as stream:
        if query.startswith(("token", "a=")):
            assert stream.status == 200
    for question in site.questions():
        assert anna.token not in question["uri"]
        expected = "&".join(part for part in query.split("&") if "{}" not in part)
        assert question["uri"].rstrip("?") == f"{EVENTS}?{expected}".rstrip("?")


def test_a_token_in_the_header_wins_and_the_other_is_not_passed_on(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site)
    anna, other = person(), new_token()
    with sse.join(anna.token, scheme="Bearer", query=f"token={other}"):
        pass
    (question,) = site.questions()
    assert question["status"] == "200"
    assert other not in question["uri"]


def test_the_host_is_that_of_the_url_or_as_asked_for(site: Django, any_site: Django, make_sse: MakeSse) -> None:
    anna, boris = person(), person()
    make_sse(any_site).join(anna.token).close()
    (question,) = any_site.questions(anna.token)
    assert question["host"] == (f"127.0.0.1:{any_site.port}" if any_site.port else "localhost")

    make_sse(any_site, "--auth-host", "estimates.example").join(boris.token).close()
    (question,) = any_site.questions(boris.token)
    assert question["host"] == "estimates.example"

    make_sse(site, "--auth-host", "elsewhere.example").puts_off(person().token)  # Django answers 400


def test_a_site_with_simplejwt_is_asked_with_its_own_scheme(site: Django, make_sse: MakeSse) -> None:
    """Without a key for tickets, a token with two dots is a token like any other."""
    from rest_framework_simplejwt.tokens import AccessToken  # noqa: PLC0415

    sse = make_sse(site, "--auth-scheme", "Bearer")
    anna = person("manager")
    with sse.join(str(AccessToken.for_user(anna.user))) as stream:
        assert sse.publish("estimate.created", roles=["manager"]) == 1
        stream.hears("estimate.created")
    sse.refuses(anna.token)  # not a JWT


def test_the_wrong_key_lets_nobody_in(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site)
    wrong = sse.directory / "wrong"
    wrong.write_text("another-key\n")
    other = make_sse(None, "--auth-url", site.auth_url, "--auth-key-file", str(wrong))
    other.refuses(person().token, statuses=(401, 403))
    without = make_sse(None, "--auth-url", site.auth_url)
    without.refuses(person().token, statuses=(401, 403))
    assert site.counts()["403"] == 2


def test_a_new_key_is_taken_on_hup(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site)
    anna, boris = person(), person()
    sse.join(anna.token).close()
    key = sse.directory / "key"
    right = key.read_text()

    def lets_in() -> bool:
        with sse.open(person().token) as stream:
            return stream.status == 200

    key.write_text("another-key\n")
    sse.signal(signal.SIGHUP)
    wait_for(lambda: not lets_in(), "the wrong key is taken")
    key.write_text(right)
    sse.signal(signal.SIGHUP)
    wait_for(lets_in, "the right key is taken")
    sse.join(boris.token).close()


def test_stats_take_a_token_of_django(any_site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(any_site)
    anna, boris = person("manager"), person()
    with sse.join(anna.token), sse.join(anna.token), sse.join(boris.token):
        for scheme in "Token", "Bearer":
            answer = sse.stats(boris.token, scheme)
            assert answer.status_code == 200
            assert answer.json() == {"total_users": 2, "total_connections": 3, "users": {anna.id: 2, boris.id: 1}}
    new = person()
    assert sse.stats(new.token).status_code == 200  # who is asked about for the first time
    assert sse.stats(new_token()).status_code == 401


def test_fifty_streams_of_one_token_make_one_question(any_site: Django, make_sse: MakeSse) -> None:
    any_site.knobs(delay=0.6, max_age="0")
    sse = make_sse(any_site, "--streams-per-user", "100")
    anna = person("manager")
    with Crowd(sse.port) as crowd:
        crowd.add([anna.token] * 50)
        crowd.run_until_all_connected()
        assert any_site.counts()["total"] == 1
        assert crowd.put_off == 0
        assert sse.publish("estimate.created", roles=["manager"]) == 50
        crowd.run(lambda: all(len(browser.messages) == 2 for browser in crowd.browsers))


def test_a_thousand_streams_of_one_token_make_one_question(site: Django, make_sse: MakeSse) -> None:
    """All are let in by an answer that may not be kept."""
    site.knobs(delay=2, max_age="0")
    sse = make_sse(site, "--streams-per-user", "1000")
    anna = person()
    with Crowd(sse.port) as crowd:
        crowd.add([anna.token] * 1000)
        crowd.run_until_all_connected()
        assert crowd.put_off == 0
    assert site.counts()["total"] == 1


def test_fifty_streams_of_one_wrong_token_make_one_question(site: Django, make_sse: MakeSse) -> None:
    site.knobs(delay=0.3)
    sse = make_sse(site)
    with Crowd(sse.port) as crowd:
        crowd.add([new_token()] * 50)
        crowd.run(lambda: all(browser.dead for browser in crowd.browsers))
        assert crowd.statuses == {401: 50}
    assert site.counts()["total"] == 1


def test_who_leaves_while_django_is_asked_leaves_the_others_waiting(site: Django, make_sse: MakeSse) -> None:
    site.knobs(delay=0.5)
    sse = make_sse(site)
    anna, boris = person(), person()
    with Crowd(sse.port) as crowd, Crowd(sse.port) as leaving:
        leaving.add([anna.token, anna.token, boris.token])
        leaving.run(lambda: site.counts()["decided"] == 2)
        crowd.add([anna.token])
        crowd.run(lambda: all(browser.sent for browser in crowd.browsers))
        for browser in leaving.browsers:
            browser.close()
        crowd.run_until_all_connected()
        assert crowd.put_off == 0
    assert site.counts()["total"] == 2
    with sse.join(boris.token):
        assert sse.stats(anna.token).json()["users"] == {boris.id: 1}


def raw(sse: Sse, *requests: str) -> bytes:
    """All that comes for these requests, sent in one piece, until sse closes."""
    with socket.create_connection(("127.0.0.1", sse.port), LIMIT) as s:
        s.sendall("".join(requests).encode())
        return b"".join(iter(lambda: s.recv(65536), b""))


def test_requests_in_a_row_are_answered_in_order(site: Django, make_sse: MakeSse) -> None:
    """Though each waits for Django, who takes longer for the first."""
    sse = make_sse(site)
    anna, boris, wrong = person(), person(), new_token()

    def stats(token: str, more: str = "") -> str:
        return f"GET {STATS} HTTP/1.1\r\nHost: sse\r\nAuthorization: Token {token}\r\n{more}\r\n"

    site.knobs(delay=0.3)
    got = raw(sse, stats(anna.token), stats(wrong), stats(anna.token), stats(boris.token, "Connection: close\r\n"))
    assert re.findall(rb"HTTP/1\.1 (\d+)", got) == [b"200", b"401", b"200", b"200"]


@pytest.mark.parametrize(
    "odd",
    [
        "x%0d%0aX-Injected:%201",
        "x%0aX-Injected:%201",
        "x%0d%0a%0d%0aGET%20/api/v1/sse/auth/%20HTTP/1.1%0d%0aX-Injected:%201",
        "x%00y",
        "x%20y",
        "x%09y",
        "x,y",
        "%22x%22",
        "%D1%8F",
        "%ff%fe",
        "x%7f",
        "%20",
        "=",
    ],
)
def test_odd_bytes_in_a_token_change_no_request_to_django(site: Django, make_sse: MakeSse, odd: str) -> None:
    sse = make_sse(site)
    with sse.open(query=f"token={odd}") as stream:
        assert stream.status in (400, 401), stream.response.read()
    sse.join(person().token).close()  # the connection to Django is in step
    for question in site.questions():
        assert "X_INJECTED" not in question["headers"]
        assert question["phase"] == "connect"
        assert question["status"] in ("200", "401")
    assert site.counts()["total"] <= 2


def test_a_token_that_is_too_long_for_django_is_a_wrong_token(site: Django, make_sse: MakeSse) -> None:
    """gunicorn answers 400 to a long header; a browser must not come back with it for ever."""
    sse = make_sse(site)
    for n in 200, 1000, 4000, 8100:
        sse.refuses(secret("x" * n))
    for n in 200, 8100, 8200, 12000, 15000:
        sse.refuses(secret("y" * n), scheme="Token")


def test_the_longest_target_is_passed_on(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site)
    anna = person()
    start = f"{EVENTS}?token={anna.token}&page="
    page = "p" * (8192 - len(start))
    with sse.join(anna.token, query=f"page={page}"):
        (question,) = site.questions()
        assert question["uri"] == f"{EVENTS}?page={page}"


def at_most_16(site: Django) -> None:
    counts = site.counts()
    assert 1 < counts["most"] <= 16, counts


def test_300_tokens_at_once_are_asked_about_16_at_a_time(any_site: Django, make_sse: MakeSse) -> None:
    any_site.knobs(delay=0.02)
    sse = make_sse(any_site)
    before = sse.descriptors()
    people = crowd_of(300)
    with Crowd(sse.port) as crowd:
        crowd.add(tokens_of(people))
        crowd.run_until_all_connected()
        at_most_16(any_site)
        assert any_site.counts()["total"] == 300
        assert crowd.statuses == {200: 300}
        assert crowd.put_off == 0
        assert sse.publish("news") == 300
        crowd.run(lambda: all(len(browser.messages) == 2 for browser in crowd.browsers))
        each_is_himself(sse, crowd, people)
    wait_for(lambda: sse.descriptors() <= before + 16, "sse lets go of the connections")


def test_who_finds_no_place_in_the_queue_comes_back_by_himself(site: Django, make_sse: MakeSse) -> None:
    site.knobs(delay=0.05)
    sse = make_sse(site, "--auth-queue", "10", "--auth-connections", "4")
    with Crowd(sse.port) as crowd:
        crowd.add(tokens_of(crowd_of(60)))
        crowd.run_until_all_connected()
        assert crowd.put_off > 0
        assert set(crowd.statuses) == {200}
    assert 1 < site.counts()["most"] <= 4
    assert site.counts()["total"] == 60


def test_a_flood_of_wrong_tokens_keeps_nobody_out(site: Django, make_sse: MakeSse) -> None:
    """Those who are in stay, those who were in lately get in at once, the others in their turn."""
    sse = make_sse(site, "--auth-queue", "100")
    known = [person() for _ in range(20)]
    for one in known:
        sse.join(one.token).close()
    site.count_anew()
    site.knobs(delay=0.02)
    with Crowd(sse.port) as flood, Crowd(sse.port) as crowd:
        flood.add([new_token() for _ in range(400)])
        flood.run(lambda: site.counts()["total"] >= 16)
        for one in known:
            sse.join(one.token).close()
        assert not site.questions(known[0].token)
        crowd.add(tokens_of(crowd_of(20)))

        def all_in() -> bool:
            flood.run(lambda: True)
            return crowd.connected == 20

        crowd.run(all_in)
        flood.run(lambda: all(browser.dead for browser in flood.browsers))
        assert set(flood.statuses) == {200, 401}
    at_most_16(site)


def test_expire_at_ends_the_stream(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site)
    anna, boris = person(), person()
    with sse.join(boris.token) as other:
        site.knobs(expire_in=2, max_age="0")
        start = time.time()
        with sse.join(anna.token) as stream:
            expire_at = int(start + 2)
            assert stream.rest() == []
            assert time.time() >= expire_at
            assert time.time() < start + 10
            assert len(stream.retries) == 2  # it says when to come back
        site.knobs()
        sse.join(anna.token).close()  # a new answer, a new time
        assert sse.publish("news") >= 1
        other.hears("news")


def test_a_time_that_is_over_lets_nobody_in(site: Django, make_sse: MakeSse) -> None:
    site.knobs(expire_in=-5)
    sse = make_sse(site)
    with sse.open(person().token) as stream:
        body = stream.response.read()
        assert b"connected" not in body


def test_a_refresh_can_end_a_stream_earlier_or_later(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site)
    anna, boris = person(), person()
    with sse.join(anna.token) as stream:
        site.knobs(expire_in=1)
        sse.op("refresh", user=anna.id)
        assert stream.rest() == []
        assert len(stream.retries) == 2
    site.knobs(expire_in=2)
    with sse.join(boris.token) as stream:
        expire_at = time.time() + 2
        site.knobs()
        sse.op("refresh", user=boris.id)
        wait_for(lambda: time.time() > expire_at + 0.5, "its first time is over")
        assert sse.publish("for.boris", users=[boris.id]) == 1
        stream.hears("for.boris")


def test_no_token_is_in_any_log(make_sse: MakeSse, any_site: Django) -> None:
    """Every test looks for every token at its end; this one sends them by all ways, good and bad."""
    sse = make_sse(any_site, "--auth-refresh", "300ms")
    anna, boris, wrong = person("manager"), person(), new_token()
    sse.refuses(wrong)
    sse.refuses(wrong, scheme="Token")
    with sse.join(anna.token, scheme="Token") as stream, sse.join(boris.token, query="lastEventId=1"):
        wait_for(lambda: any_site.counts()["refresh"] >= 2, "refreshes")
        any_site.knobs(status=500)
        sse.puts_off(person().token)
        any_site.knobs()
        anna.delete_token()
        sse.op("revoke", user=anna.id)
        stream.must_be_revoked()
    sse.wait_log("msg=disconnect", 2)
    any_site.count_anew()  # what was asked before stands in the access log
    text = any_site.access_log.read_text()
    assert "GET /api/v1/sse/auth/" in text
    for token in anna.token, boris.token, wrong:
        assert token not in text
    no_secret_in(sse.log, sse.words, any_site.access_log, any_site.words)


def test_one_sse_serves_the_token_file_and_django(site: Django, make_sse: MakeSse) -> None:
    plain: Sse = make_sse(site)
    tokens = plain.directory / "tokens"
    file_token, anna = new_token(), person("manager")
    tokens.write_text(f"{file_token} 1000007 foreman\n")
    sse = make_sse(site, "--token-file", str(tokens))
    with sse.join(file_token) as one, sse.join(anna.token) as two:
        assert sse.publish("for.both", roles=["manager", "foreman"]) == 2
        one.hears("for.both")
        two.hears("for.both")
    assert site.counts()["total"] == 1
