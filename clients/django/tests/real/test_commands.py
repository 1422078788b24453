"""The management commands, with sse and without."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from .harness import TICKET_KEY, Place, Sse

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import MakeSse


def says(place: Place, *args: str, status: int = 0, **env: str) -> str:
    """What a command says: on stdout if it worked, else one line on stderr."""
    done = place.manage(*args, **env)
    assert done.returncode == status, (done.stdout, done.stderr)
    said, nothing = (done.stdout, done.stderr) if status == 0 else (done.stderr, done.stdout)
    assert nothing == ""
    if status:
        assert len(said.splitlines()) == 1, said
    return said.strip()


@pytest.mark.parametrize(
    ("args", "heard"),
    [
        (("--role", "manager"), ["manager"]),
        (("--user", "1", "--user", "2", "--user", "3"), ["manager", "other"]),
        (("--all", "--except", "1"), ["other"]),
        (("--role", "nobody"), []),
    ],
    ids=["role", "users", "all but one", "nobody"],
)
def test_sse_send(sse: Sse, place: Place, args: tuple[str, ...], heard: list[str]) -> None:
    with sse.join("manager-token") as manager, sse.join("other-token") as other:
        said = says(place, "sse_send", "news", '{"text": "Обед"}', *args)
        assert re.fullmatch(rf"\d+-\d+: {len(heard)} streams", said)
        sse.publish("that.was.all")
        for name, stream in {"manager": manager, "other": other}.items():
            if name in heard:
                assert stream.hears("news")["data"] == {"text": "Обед"}
            stream.hears("that.was.all")


def test_sse_send_passes_on_what_sse_refuses(sse: Sse, place: Place) -> None:
    deep = "[" * 40 + "]" * 40
    assert re.search(r"sse refused it: data: .*nest", says(place, "sse_send", "news", deep, "--all", status=1))
    assert sse.logged("msg=bad_datagram")


def test_sse_ping(sse: Sse, place: Place) -> None:
    with sse.join("manager-token"):
        assert re.fullmatch(r"sse is there: 1 streams, newest event \d+-\d+, \d+\.\d ms", says(place, "sse_ping"))


def test_sse_stats_with_a_token(sse: Sse, place: Place) -> None:
    with sse.join("manager-token"), sse.join("manager-token"), sse.join("other-token"):
        said = says(place, "sse_stats", "--token", "manager-token", SITE_SSE_URL=sse.url)
        assert [line.split() for line in said.splitlines()] == [["2", "users,", "3", "streams"], ["2", "1"], ["1", "2"]]
        said = says(place, "sse_stats", "--token", "manager-token", "--json", SITE_SSE_URL=sse.url)
        assert json.loads(said) == {"total_users": 2, "total_connections": 3, "users": {"1": 2, "2": 1}}
    assert "401" in says(place, "sse_stats", "--token", "wrong", status=1, SITE_SSE_URL=sse.url)


def test_sse_stats_with_tickets_needs_no_token(make_sse: MakeSse, place: Place, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(TICKET_KEY + "\n")
    sse = make_sse(None, "--ticket-key-file", str(keys))
    said = says(place, "sse_stats", SITE_SSE_URL=sse.url, SITE_TICKET_KEY=TICKET_KEY)
    assert said == "0 users, 0 streams"


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (("sse_send", "news", "1", "--all"), "there is no socket at"),
        (("sse_ping",), "there is no socket at"),
        (("sse_stats", "--token", "any"), "refused"),
    ],
    ids=["sse_send", "sse_ping", "sse_stats"],
)
def test_without_sse_they_fail_and_say_why(place: Place, args: tuple[str, ...], what: str) -> None:
    assert what in says(place, *args, status=1)
