"""Django is away, slow, or talks nonsense: nobody who is in notices, and who is not gets in later by himself."""

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from browsers import Crowd, between
from conftest import MakeDjango, MakeSse
from harness import Django, Sse, new_token, wait_for
from people import crowd_of, each_is_himself, person, tokens_of

OFTEN = ("--auth-refresh", "300ms")


def in_background(what: Callable[[], None]) -> Future[None]:
    with_one = ThreadPoolExecutor(1)
    future = with_one.submit(what)
    with_one.shutdown(wait=False)
    return future


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_django_is_stopped_and_comes_back(make_site: MakeDjango, make_sse: MakeSse, unix: bool) -> None:
    site = make_site(unix=unix)
    sse = make_sse(site, *OFTEN)
    anna, boris = person("manager"), person()
    with sse.join(anna.token) as stream, Crowd(sse.port) as crowd:
        site.stop(signal.SIGQUIT if unix else signal.SIGTERM)
        for _ in range(3):
            assert 50 <= sse.puts_off(boris.token) <= 1000
        assert sse.stats(new_token()).status_code == 503
        crowd.add(tokens_of(crowd_of(5)))
        crowd.run(lambda: crowd.put_off >= 15)
        assert sse.publish("estimate.created", roles=["manager"]) == 1
        stream.hears("estimate.created")

        anna.leave_group("manager")  # what changed meanwhile
        site.start().ready()
        crowd.run_until_all_connected()
        assert set(crowd.statuses) == {200}
        sse.join(boris.token).close()
        wait_for(lambda: sse.publish("estimate.created", roles=["manager"]) == 0, "the refresh goes on")
        assert sse.publish("news") >= 6
        wait_for(lambda: stream.next()["event"] == "news", "the open stream goes on")
    assert not sse.logged("reason=revoked")


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_sse_may_start_before_django(make_site: MakeDjango, make_sse: MakeSse, unix: bool) -> None:
    site = make_site(unix=unix, start=False)
    sse = make_sse(site)
    with Crowd(sse.port) as crowd:
        crowd.add(tokens_of(crowd_of(5)))
        crowd.run(lambda: crowd.put_off >= 10)
        site.start()
        crowd.run_until_all_connected()
        assert set(crowd.statuses) == {200}


def test_who_was_in_lately_gets_in_while_django_is_away(make_site: MakeDjango, make_sse: MakeSse) -> None:
    """A restart of Django is not noticed by those who load a page meanwhile."""
    site = make_site()
    sse = make_sse(site)
    anna = person("manager")
    sse.join(anna.token).close()
    site.stop(signal.SIGKILL)
    with sse.join(anna.token) as stream:
        assert sse.publish("estimate.created", roles=["manager"]) >= 1
        stream.hears("estimate.created")
    assert sse.stats(anna.token).status_code == 200


def test_a_token_deleted_while_django_is_away_counts_when_it_is_back(make_site: MakeDjango, make_sse: MakeSse) -> None:
    site = make_site()
    sse = make_sse(site, *OFTEN)
    anna = person()
    with sse.join(anna.token) as stream:
        site.stop(signal.SIGQUIT)
        anna.delete_token()
        sse.puts_off(new_token())
        site.start()
        stream.must_be_revoked()
    sse.refuses(anna.token)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_django_is_restarted_under_load(make_site: MakeDjango, make_sse: MakeSse, number: signal.Signals) -> None:
    """200 pages are loaded all the time, each asked about anew; 50 more just stay."""
    site = make_site(SITE_SSE_MAX_AGE="0")
    sse = make_sse(site, "--auth-refresh", "1s", "--auth-timeout", "1s")
    with Crowd(sse.port, stay=between(0.5, 1.5)) as pages, Crowd(sse.port) as stayers:
        stayers.add(tokens_of(crowd_of(50)))
        stayers.run_until_all_connected()
        people = crowd_of(200)
        pages.add(tokens_of(people))
        pages.run(lambda: pages.joined >= 300)

        stopped = in_background(lambda: site.stop(number))
        pages.run(stopped.done)
        stopped.result()
        site.start()
        pages.run(site.answers)
        joined = pages.joined
        pages.run(lambda: pages.joined >= joined + 200)

        pages.stay = None  # whoever is due loads once more, and stays
        pages.run_until_all_connected()
        for crowd in pages, stayers:
            assert set(crowd.statuses) == {200}, crowd.summary()
            assert crowd.lost == 0, crowd.summary()
            assert crowd.unreachable == 0, crowd.summary()
        assert stayers.connected == 50
        assert sse.publish("news") >= 250
        stayers.run(lambda: all(len(browser.messages) == 2 for browser in stayers.browsers))
        each_is_himself(sse, pages, people)


def test_a_slow_django_is_given_up_and_asked_again(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site, "--auth-timeout", "300ms", *OFTEN)
    anna, boris = person("manager"), person()
    with sse.join(anna.token) as stream:
        site.knobs(delay=1.0)
        sse.puts_off(boris.token)
        wait_for(lambda: site.counts()["refresh"] >= 2, "a refresh was too slow")
        assert sse.publish("estimate.created", roles=["manager"]) == 1
        stream.hears("estimate.created")
        site.knobs()
        with Crowd(sse.port) as crowd:
            crowd.add([boris.token])
            crowd.run_until_all_connected()
    assert not sse.logged("reason=revoked")


def answer(body: Any, status: int = 200, **headers: str) -> dict[str, Any]:
    text = body if isinstance(body, str) else json.dumps(body)
    return {"status": status, "body": text, "headers": {"Content-Type": "application/json", **headers}}


GOOD = {"user": "1000002", "roles": ["manager"], "sid": "s", "expire_at": None}
WRONG = {
    "500": answer("oops", 500),
    "503": answer("busy", 503, **{"Retry-After": "1"}),
    "404": answer("{}", 404),
    "400": answer("{}", 400),
    "204": answer("", 204),
    "201 with a good body": answer(GOOD, 201),
    "a redirect": answer("", 302, Location="/test/counts/"),
    "a lasting redirect with a good body": answer(GOOD, 308, Location="/test/counts/"),
    "nothing": answer(""),
    "no JSON": answer("<html>log in</html>"),
    "half of the JSON": answer('{"user":"1000002","roles":["man'),
    "more than the JSON": answer(json.dumps(GOOD) + "x"),
    "a list": answer([GOOD]),
    "null": answer("null"),
    "no user": answer({"roles": ["manager"]}),
    "user null": answer({**GOOD, "user": None}),
    "user empty": answer({**GOOD, "user": ""}),
    "user true": answer({**GOOD, "user": True}),
    "user a fraction": answer({**GOOD, "user": 1.5}),
    "user a list": answer({**GOOD, "user": ["1"]}),
    "user of 65 bytes": answer({**GOOD, "user": "u" * 65}),
    "user with a line feed": answer({**GOOD, "user": "1\n2"}),
    "roles a text": answer({**GOOD, "roles": "manager"}),
    "roles with a number": answer({**GOOD, "roles": [1]}),
    "roles with null": answer({**GOOD, "roles": ["manager", None]}),
    "65 roles": answer({**GOOD, "roles": [f"role{i}" for i in range(65)]}),
    "expire_at a text": answer({**GOOD, "expire_at": "soon"}),
    "expire_at a list": answer({**GOOD, "expire_at": [1]}),
    "expire_at beyond all": answer('{"user":"1000002","roles":[],"expire_at":1e400}'),
    "sid a number": answer({**GOOD, "sid": 1.5}),
    "over 16 KiB": answer(json.dumps(GOOD) + " " * 16385),
    "without end": {**answer(" " * 1000), "endless": True},
    "a deep nest": answer("[" * 1000),
    # the last: Django is ready with it before sse is
    "less than its Content-Length": answer(GOOD, 200, **{"Content-Length": "1000"}),
}


def test_a_wrong_answer_puts_off_and_leaves_who_is_in(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site, "--auth-timeout", "500ms")
    anna, boris = person("manager"), person("manager")
    wrong: list[str] = []
    with sse.join(anna.token) as stream:
        for name, knobs in WRONG.items():
            site.knobs(**knobs)
            site.count_anew()
            try:
                sse.puts_off(boris.token if name == "500" else person("manager").token)
                assert site.counts()["connect"] >= 1
                sse.op("refresh", user=anna.id)
                wait_for(lambda: site.counts()["refresh"] >= 1 and site.counts()["now"] == 0, "a refresh")
                assert sse.publish("estimate.created", roles=["manager"]) == 1
                stream.hears("estimate.created")
            except AssertionError as e:
                wrong.append(f"{name}: {e}")
                sse.must_run()
        assert not wrong, "\n".join(wrong)
        site.knobs()
        with Crowd(sse.port) as crowd:
            crowd.add([boris.token])
            crowd.run_until_all_connected()
    assert not sse.logged("reason=revoked")


def test_403_is_a_no_as_401_is(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site, *OFTEN)
    anna, boris = person(), person()
    with sse.join(anna.token) as stream:
        site.knobs(**answer("{}", 403))
        stream.must_be_revoked()
        sse.refuses(boris.token, statuses=(401, 403))


@pytest.mark.parametrize(
    "body",
    [
        {"user": "1000003"},
        {"user": "1000003", "roles": None, "sid": None, "expire_at": None},
        {"user": "1000003", "roles": []},
        {"user": "1000003", "expire_at": 0},
    ],
    ids=["user alone", "null", "no roles", "no end"],
)
def test_what_may_be_left_out(site: Django, make_sse: MakeSse, body: dict[str, Any]) -> None:
    site.knobs(**answer(body))
    sse = make_sse(site)
    with sse.join(person().token) as stream:
        assert sse.publish("for.him", users=[1000003]) == 1
        stream.hears("for.him")


def test_an_answer_may_come_in_chunks(site: Django, make_sse: MakeSse) -> None:
    site.knobs(**answer(GOOD), chunked=True)
    sse = make_sse(site)
    for _ in range(3):
        with sse.join(person().token) as stream:
            assert sse.publish("for.managers", roles=["manager"]) >= 1
            stream.hears("for.managers")
    assert connections(sse, site) == ["01"]  # and the connection is kept


def test_a_slow_django_never_has_more_than_16_questions(make_site: MakeDjango, make_sse: MakeSse) -> None:
    """What sse has given up, Django goes on with: it does not look whether anybody still listens."""
    site = make_site(threads=64)
    site.knobs(delay=1.5)
    sse = make_sse(site, "--auth-timeout", "300ms")
    with Crowd(sse.port) as crowd:
        crowd.add(tokens_of(crowd_of(100)))
        crowd.run(lambda: crowd.put_off >= 100)
        assert set(crowd.statuses) == {200}
    assert site.counts()["most"] <= 16


# ---- connections that are kept alive ---------------------------------------------------------------


def connections(sse: Sse, site: Django) -> list[str]:
    """The states (of /proc/net/tcp: 01 open, 08 closed by Django) of the connections that sse has to Django."""
    inodes = set()
    for fd in Path(f"/proc/{sse.pid}/fd").iterdir():
        try:
            inodes.add(str(fd.readlink()))
        except FileNotFoundError:
            continue
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [line[3] for line in lines if line[2].endswith(f":{site.port:04X}") and f"socket:[{line[9]}]" in inodes]


def test_connections_to_django_are_kept(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site)
    for _ in range(5):
        sse.join(person().token).close()
    assert connections(sse, site) == ["01"]
    site.knobs(delay=0.2)
    with Crowd(sse.port) as crowd:
        crowd.add(tokens_of(crowd_of(40)))
        crowd.run_until_all_connected()
    assert 1 <= len(connections(sse, site)) <= 16


@pytest.mark.parametrize("at_once", [1, 16, 40])
def test_a_question_on_closed_connections_is_asked_again_unseen(
    make_site: MakeDjango, make_sse: MakeSse, at_once: int
) -> None:
    """sse is held up while Django closes all 16, so that it learns of that and of a question in the same moment."""
    site = make_site(keepalive=1)
    site.knobs(delay=0.3)
    sse = make_sse(site)
    with Crowd(sse.port) as crowd:
        crowd.add(tokens_of(crowd_of(16)))
        crowd.run_until_all_connected()
        assert connections(sse, site).count("01") >= 1
        os.kill(sse.pid, signal.SIGSTOP)
        try:
            wait_for(lambda: set(connections(sse, site)) == {"08"}, "Django closes what is idle")
            site.knobs()
            people = crowd_of(at_once)
            late = crowd.add(tokens_of(people))
            crowd.run(lambda: all(browser.sent for browser in late))
        finally:
            os.kill(sse.pid, signal.SIGCONT)
        crowd.run_until_all_connected()
        assert crowd.statuses == {200: 16 + at_once}
        assert crowd.put_off == 0
        each_is_himself(sse, crowd, people)
    assert site.counts()["total"] == 16 + at_once


def test_django_closes_idle_connections_and_nobody_notices(make_site: MakeDjango, make_sse: MakeSse) -> None:
    """Questions come just when the idle time is over."""
    site = make_site(keepalive=1, SITE_SSE_MAX_AGE="0")
    sse = make_sse(site)
    with Crowd(sse.port, stay=between(0.98, 1.1)) as crowd:
        crowd.add(tokens_of(crowd_of(30)))
        crowd.run(lambda: crowd.joined >= 90)
        assert set(crowd.statuses) == {200}
        assert crowd.put_off == 0, crowd.summary()


def test_a_django_that_keeps_no_connection(make_site: MakeDjango, make_sse: MakeSse) -> None:
    sse = make_sse(make_site(keepalive=0))
    people = crowd_of(100)
    with Crowd(sse.port) as crowd:
        crowd.add(tokens_of(people))
        crowd.run_until_all_connected()
        assert crowd.statuses == {200: 100}
        assert crowd.put_off == 0
        each_is_himself(sse, crowd, people)


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_a_django_that_is_too_small(make_site: MakeDjango, make_sse: MakeSse, unix: bool) -> None:
    """One thread, and room for one connection that waits: 16 at a time are too many, and all get in."""
    site = make_site(unix=unix, threads=1, backlog=1)
    site.knobs(delay=0.02)
    sse = make_sse(site)
    people = crowd_of(60)
    with Crowd(sse.port) as crowd:
        crowd.add(tokens_of(people))
        crowd.run_until_all_connected()
        assert set(crowd.statuses) == {200}
        each_is_himself(sse, crowd, people)


def test_sse_ends_while_django_is_asked(site: Django, make_sse: MakeSse) -> None:
    """Who waits is told to come back."""
    site.knobs(delay=2.5)
    sse = make_sse(site, "--auth-timeout", "10s")
    with Crowd(sse.port) as crowd:
        crowd.add(tokens_of(crowd_of(30)))
        crowd.run(lambda: site.counts()["now"] == 16 and all(browser.sent for browser in crowd.browsers))
        sse.signal(signal.SIGTERM)
        crowd.run(lambda: not sse.runs)
        crowd.run(lambda: crowd.put_off == 30)
        assert crowd.statuses == {200: 30}
        assert crowd.joined == 0
    wait_for(lambda: site.counts()["now"] == 0, "Django has ended its questions")


def test_a_restart_of_django_between_two_questions_is_not_noticed(make_site: MakeDjango, make_sse: MakeSse) -> None:
    site = make_site()
    sse = make_sse(site)
    for number in signal.SIGTERM, signal.SIGKILL:
        sse.join(person().token).close()
        site.restart(number)
        sse.join(person().token).close()
