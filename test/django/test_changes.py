"""What changes in Django while a stream is open: tokens, users, roles."""

from collections.abc import Callable

import pytest

from browsers import Crowd
from conftest import MakeSse
from harness import Django, Sse, Stream, wait_for
from people import Person, crowd_of, person, tokens_of

OFTEN = ("--auth-refresh", "300ms")
BY = pytest.mark.parametrize("by", ["user", "sid"])
TAKEN = pytest.mark.parametrize("taken", [Person.delete_token, Person.deactivate], ids=["token deleted", "deactivated"])


def about(one: Person, by: str) -> dict[str, str]:
    return {"user": one.id} if by == "user" else {"sid": one.sid}


def until_role_counts(sse: Sse, stream: Stream, role: str, matched: int) -> None:
    """Publishes for a role until it is for so many streams; one stream must hear exactly what was for it."""
    names: list[str] = []

    def published() -> bool:
        name = f"try.{len(names)}"
        if (now := sse.publish(name, roles=[role])) > 0:
            names.append(name)
        return now == matched

    wait_for(published, f"{role} means {matched} streams")
    for name in names:
        stream.hears(name)


@TAKEN
def test_who_may_no_longer_listen_is_let_go_by_the_refresh(
    site: Django, make_sse: MakeSse, taken: Callable[[Person], None]
) -> None:
    sse = make_sse(site, *OFTEN)
    anna, boris = person("manager"), person("manager")
    with sse.join(anna.token) as stream, sse.join(anna.token) as second, sse.join(boris.token) as other:
        taken(anna)
        stream.must_be_revoked()
        second.must_be_revoked()
        sse.refuses(anna.token)
        assert sse.publish("estimate.created", roles=["manager"]) == 1
        other.hears("estimate.created")
    sse.wait_log("msg=disconnect reason=revoked", 2)


@TAKEN
@BY
def test_who_may_no_longer_listen_is_let_go_at_once_by_a_datagram(
    any_site: Django, make_sse: MakeSse, by: str, taken: Callable[[Person], None]
) -> None:
    any_site.knobs(max_age="300")  # an answer is kept that would let him in
    sse = make_sse(any_site)
    anna, boris = person("manager"), person("manager")
    with sse.join(anna.token) as stream, sse.join(anna.token) as second, sse.join(boris.token) as other:
        taken(anna)
        assert sse.op("revoke", **about(anna, by)) == 2
        stream.must_be_revoked()
        second.must_be_revoked()
        sse.refuses(anna.token)
        assert sse.publish("estimate.created", roles=["manager"]) == 1
        other.hears("estimate.created")
    assert any_site.counts()["total"] == 3


@BY
def test_who_is_revoked_and_still_has_a_good_token_is_asked_about_again(
    site: Django, make_sse: MakeSse, by: str
) -> None:
    site.knobs(max_age="300")
    sse = make_sse(site)
    anna = person("manager")
    with sse.join(anna.token) as stream:
        assert sse.op("revoke", **about(anna, by)) == 1
        stream.must_be_revoked()
    with sse.join(anna.token) as stream:
        assert sse.publish("estimate.created", roles=["manager"]) == 1
        stream.hears("estimate.created")
    assert site.counts()["total"] == 2


@BY
def test_an_answer_on_its_way_lets_nobody_back_in(site: Django, make_sse: MakeSse, by: str) -> None:
    """Django had said yes; before sse hears it, the token is deleted and revoked."""
    site.knobs(delay=0.5, max_age="300")
    sse = make_sse(site, "--auth-timeout", "10s")
    anna, boris = person(), person()
    with Crowd(sse.port) as crowd:
        browser, other = crowd.add([anna.token, boris.token])
        crowd.run(lambda: site.counts()["decided"] == 2)
        anna.delete_token()
        sse.op("revoke", **about(anna, by))
        crowd.run(lambda: browser.dead and other.connected)
        assert crowd.joined == 1
        assert crowd.statuses[401] == 1
        assert not browser.messages
    sse.refuses(anna.token)


def test_a_refresh_on_its_way_brings_nobody_back(site: Django, make_sse: MakeSse) -> None:
    site.knobs(max_age="300")
    sse = make_sse(site, "--auth-timeout", "10s")
    anna = person()
    with sse.join(anna.token) as stream:
        site.knobs(delay=0.5, max_age="300")
        site.count_anew()
        sse.op("refresh", user=anna.id)
        wait_for(lambda: site.counts()["decided"] == 1, "the refresh is decided")
        anna.delete_token()
        assert sse.op("revoke", user=anna.id) == 1
        stream.must_be_revoked()
        wait_for(lambda: site.counts()["200"] == 1 and site.counts()["now"] == 0, "the refresh is answered")
    sse.refuses(anna.token)


@pytest.mark.parametrize("asked", [True, False], ids=["op refresh", "periodic"])
def test_roles_change_on_the_open_stream(site: Django, make_sse: MakeSse, asked: bool) -> None:
    sse = make_sse(site, *(() if asked else OFTEN))
    anna = person("foreman")

    def changed() -> None:
        if asked:
            sse.op("refresh", user=anna.id)

    with sse.join(anna.token) as stream:
        assert sse.publish("not.for.anna", roles=["manager"]) == 0
        anna.join_group("manager")
        changed()
        until_role_counts(sse, stream, "manager", 1)
        anna.leave_group("foreman")
        changed()
        until_role_counts(sse, stream, "foreman", 0)
        assert sse.publish("not.for.anna", roles=["foreman"]) == 0
        assert sse.publish("for.anna", roles=["foreman", "manager"]) == 1
        stream.hears("for.anna")
        anna.leave_group("manager")
        changed()
        until_role_counts(sse, stream, "manager", 0)
        assert sse.publish("still.here", users=[anna.id]) == 1
        stream.hears("still.here")
    assert {q["phase"] for q in site.questions(anna.token)[1:]} == {"refresh"}


def test_one_refresh_is_for_all_streams_of_a_token(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site)
    anna = person()
    with sse.join(anna.token) as stream, sse.join(anna.token), sse.join(anna.token):
        assert site.counts()["total"] == 1
        anna.join_group("manager")
        sse.op("refresh", user=anna.id)
        until_role_counts(sse, stream, "manager", 3)
        assert site.counts()["refresh"] == 1


def test_a_refresh_also_counts_for_streams_to_come(site: Django, make_sse: MakeSse) -> None:
    """The answer that was kept is the new one."""
    site.knobs(max_age="300")
    sse = make_sse(site)
    anna = person()
    with sse.join(anna.token) as stream:
        anna.join_group("manager")
        sse.op("refresh", user=anna.id)
        until_role_counts(sse, stream, "manager", 1)
        with sse.join(anna.token):
            assert sse.publish("estimate.created", roles=["manager"]) == 2


def test_a_refresh_of_a_user_who_is_away_drops_what_was_kept(site: Django, make_sse: MakeSse) -> None:
    site.knobs(max_age="300")
    sse = make_sse(site)
    anna = person()
    sse.join(anna.token).close()
    sse.wait_log("msg=disconnect")
    anna.join_group("manager")
    assert sse.op("refresh", user=anna.id) == 0
    with sse.join(anna.token) as stream:
        until_role_counts(sse, stream, "manager", 1)


def test_a_refresh_while_django_is_asked_makes_the_answer_new(site: Django, make_sse: MakeSse) -> None:
    """The answer on its way has the old roles."""
    site.knobs(delay=0.5, max_age="300")
    sse = make_sse(site, "--auth-timeout", "10s")
    anna = person()
    with Crowd(sse.port) as crowd:
        crowd.add([anna.token])
        crowd.run(lambda: site.counts()["decided"] == 1)
        anna.join_group("manager")
        sse.op("refresh", user=anna.id)
        site.knobs(max_age="300")
        crowd.run_until_all_connected()
        crowd.run(lambda: sse.publish("estimate.created", roles=["manager"]) == 1)


def test_the_last_of_many_refreshes_counts(site: Django, make_sse: MakeSse) -> None:
    """Each comes while Django is on the answer to the one before, as when many groups are saved in a row."""
    sse = make_sse(site)
    anna = person()
    with sse.join(anna.token):
        site.knobs(delay=0.1)
        site.count_anew()
        sse.op("refresh", user=anna.id)
        for n in range(1, 9):
            wait_for(lambda n=n: site.counts()["decided"] >= n, "the next answer is decided", limit=10)  # type: ignore[misc]
            anna.join_group(f"group{n}")
            sse.op("refresh", user=anna.id)
        wait_for(lambda: sse.publish("estimate.created", roles=["group8"]) == 1, "the last group counts", limit=10)


def test_refreshes_come_by_themselves_and_apart(site: Django, make_sse: MakeSse) -> None:
    """Each token is asked about again, after the time to twice the time, and not all at once."""
    sse = make_sse(site, "--auth-refresh", "500ms")
    people = [person() for _ in range(20)]
    with Crowd(sse.port) as crowd:
        crowd.add(one.token for one in people)
        crowd.run_until_all_connected()

        def each_twice() -> bool:
            phases = [(q["token"], q["phase"]) for q in site.questions()]
            return all(phases.count((token, "refresh")) >= 2 for token in {token for token, _ in phases})

        crowd.run(each_twice)
        assert crowd.lost == 0
    assert site.counts()["refresh"] < 20 * 6  # nobody was asked about all the time
    assert site.counts()["most"] <= 16


def test_a_token_nobody_uses_is_not_asked_about(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site, *OFTEN)
    anna, boris = person(), person()
    sse.join(anna.token).close()
    sse.wait_log("msg=disconnect")
    with sse.join(boris.token):
        wait_for(lambda: len(site.questions(boris.token)) >= 3, "refreshes of the other")
    assert len(site.questions(anna.token)) <= 2  # one may have been on its way


def test_a_token_that_comes_to_be_of_another_user_serves_the_old_one_no_more(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site)
    anna = person()
    with sse.join(anna.token):
        site.knobs(status=200, body='{"user":"1000004"}')
        sse.op("refresh", user=anna.id)
        wait_for(lambda: sse.publish("for.anna", users=[anna.id]) == 0, "the stream is not anna's")


def test_70_roles_at_a_time_harm_nobody(site: Django, make_sse: MakeSse) -> None:
    """There is room for 64 different ones."""
    site.knobs(max_age="0")
    sse = make_sse(site)
    people = crowd_of(70)
    for i, one in enumerate(people):
        one.join_group(f"role{i}")
    with Crowd(sse.port) as crowd:
        crowd.add(tokens_of(people))
        crowd.run(lambda: crowd.connected >= 64 and crowd.put_off + crowd.connected >= 70)
        assert set(crowd.statuses) == {200}
        assert sum(sse.publish("role", roles=[f"role{i}"]) for i in range(70)) >= 64


def test_refresh_and_revoke_of_somebody_unknown(site: Django, make_sse: MakeSse) -> None:
    sse = make_sse(site)
    assert sse.op("refresh", user="1000001") == 0
    assert sse.op("revoke", user="1000001") == 0
    assert sse.op("revoke", sid="nobody") == 0
    for wrong in ({}, {"sid": "s"}, {"user": "1", "sid": "s"}, {"user": None}, {"user": ["1"]}):
        (answer,) = sse.send({"op": "refresh", **wrong})
        assert not answer["ok"], answer
    assert site.counts()["total"] == 0
