"""What changes about a user, a token or a group takes effect on streams that are open."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from .site import acts

if TYPE_CHECKING:
    from .conftest import MakeSse
    from .harness import Sse, Stream, Web

_numbers = itertools.count(1)


@pytest.fixture
def sse(make_sse: MakeSse, web: Web) -> Sse:
    return make_sse(web, "--auth-refresh", "1h")


@pytest.fixture
def role() -> str:
    """A group of one's own."""
    return f"бригада-{next(_numbers)}"


def test_a_deleted_token_ends_its_stream_and_no_other(sse: Sse, web: Web) -> None:
    anna = web.do(acts.person)
    with sse.join(anna["drf"]) as gone, sse.join(anna["knox"]) as stays:
        web.do(acts.delete_drf_token, anna["drf"])
        gone.must_be_revoked()
        sse.refuses(anna["drf"])
        sse.publish("news")
        stays.hears("news")


def test_a_knox_logout_ends_its_stream_and_no_other(sse: Sse, web: Web) -> None:
    anna = web.do(acts.person)
    second = web.do(acts.second_knox_token, anna["id"])
    with sse.join(anna["knox"]) as gone, sse.join(second) as stays:
        web.do(acts.delete_knox_token, anna["knox"])
        gone.must_be_revoked()
        sse.refuses(anna["knox"])
        sse.publish("news")
        stays.hears("news")


@pytest.mark.parametrize("what", [acts.deactivate, acts.delete_user], ids=["deactivated", "deleted"])
def test_who_may_no_longer_come_in_loses_all_streams(sse: Sse, web: Web, what: acts.OfUser) -> None:
    anna, boris = web.do(acts.person), web.do(acts.person)
    with sse.join(boris["drf"]) as other:
        streams = [sse.join(anna["drf"]), sse.join(anna["knox"]), sse.join(anna["jwt"])]
        web.do(what, anna["id"])
        for stream in streams:
            with stream:
                stream.must_be_revoked()
        for token in (anna["drf"], anna["knox"], anna["jwt"]):
            sse.refuses(token)
        sse.publish("news")
        other.hears("news")


def gets(sse: Sse, stream: Stream, changes: int, *roles: str, not_: str = "") -> None:
    """After so many changes the stream has these roles, and is still the same one."""
    sse.wait_log("msg=roles_changed", changes)
    for role in roles:
        sse.publish(f"for.{role.replace('бригада', 'crew')}", roles=[role])
        stream.hears(f"for.{role.replace('бригада', 'crew')}")
    if not_:
        assert sse.publish("for.nobody", roles=[not_]) == 0


def test_a_user_joins_and_leaves_groups(sse: Sse, web: Web, role: str) -> None:
    anna = web.do(acts.person)
    with sse.join(anna["drf"]) as stream:
        web.do(acts.join_group, anna["id"], role)
        gets(sse, stream, 1, role)
        web.do(acts.join_group, anna["id"], role + "-2")
        gets(sse, stream, 2, role, role + "-2")
        web.do(acts.leave_group, anna["id"], role)
        gets(sse, stream, 3, role + "-2", not_=role)
        web.do(acts.leave_all_groups, anna["id"])
        gets(sse, stream, 4, not_=role + "-2")
    assert not sse.logged("msg=revoke")


def test_a_group_takes_in_and_throws_out(sse: Sse, web: Web, role: str) -> None:
    anna, boris = web.do(acts.person, role), web.do(acts.person)
    web.do(acts.throw_out, role, anna["id"])
    with sse.join(anna["drf"]) as first, sse.join(boris["drf"]) as second:
        web.do(acts.take_in, role, anna["id"], boris["id"])
        gets(sse, first, 2, role)
        second.hears(f"for.{role.replace('бригада', 'crew')}")
        web.do(acts.throw_out, role, anna["id"])
        gets(sse, second, 3, role)
        web.do(acts.empty_group, role)
        gets(sse, second, 4, not_=role)
        sse.publish("news")
        first.hears("news")


def test_a_group_is_renamed(sse: Sse, web: Web, role: str) -> None:
    anna = web.do(acts.person, role)
    with sse.join(anna["drf"]) as stream:
        web.do(acts.rename_group, role, role + "-new")
        gets(sse, stream, 1, role + "-new", not_=role)


def test_a_group_is_deleted(sse: Sse, web: Web, role: str) -> None:
    anna = web.do(acts.person, role)
    with sse.join(anna["drf"]) as stream:
        web.do(acts.delete_group, role)
        gets(sse, stream, 1, not_=role)
        sse.publish("news")
        stream.hears("news")
