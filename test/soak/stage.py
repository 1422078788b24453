"""What all parts of the soak agree on: where the server is, who is there, and by which tokens."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

import jwt

PREFIX = "/api/v1/sse"
EVENTS, STATS = f"{PREFIX}/events/", f"{PREFIX}/stats/"

STAYERS, CHURNERS = 200, 100  # well-behaved streams: that never leave, and that come and go
ROLES = tuple(f"r{i}" for i in range(8))
BIG = "big"  # a role of a few well-behaved, who get the largest events
DEAF, BUSY = "deaf", "busy"  # roles of abusers who do not read: few large events, and many small ones as well

# Of the server. The times are short, so that each of them passes many times in a minute.
QUEUE = 64
DATAGRAM = 200 << 10
HISTORY = 16 << 20  # the least that --queue and --datagram allow: it is full before anything is measured
PER_ADDRESS = 20  # connections, and requests a second
PER_USER = 32  # streams: the default
RECENT = 16384  # records that the server keeps of what was denied, revoked and asked lately

NEVER_S = 60.0  # what takes so long will never come; nothing that is right ever waits for this


@dataclasses.dataclass(frozen=True)
class Stage:
    """A run; every process reads it from the same file."""

    directory: str
    port: int
    canary: str  # a part of every secret, and of all that abusers say: no log may have it
    seconds: float
    seed: int

    @staticmethod
    def load(path: str) -> Stage:
        return Stage(**json.loads(Path(path).read_text()))

    def save(self) -> Path:
        path = self.path("stage.json")
        path.write_text(json.dumps(dataclasses.asdict(self)))
        return path

    def path(self, name: str) -> Path:
        return Path(self.directory) / name

    @property
    def socket(self) -> str:
        return str(self.path("sse.sock"))

    @property
    def http_socket(self) -> str:
        return str(self.path("http.sock"))


@dataclasses.dataclass(frozen=True)
class Person:
    """A user, well-behaved or not, and how they are let in."""

    name: str
    roles: tuple[str, ...]
    authority: str  # "file", "ticket" or "django"
    token: str  # of a ticket: nothing, it is made anew each time
    address: str
    sid: str  # a secret, too: it may be the key of Django's session
    stays: bool = False
    revocable: bool = False  # is sent away now and then, and may come back at once
    unix: bool = False  # comes by the Unix socket


def people(stage: Stage) -> list[Person]:
    """The well-behaved."""
    found = []
    for i in range(STAYERS + CHURNERS):
        authority = ("file", "file", "file", "file", "file", "ticket", "ticket", "ticket", "django", "django")[i % 10]
        name = f"good-{i}" + ("-" + "é" * 20 if i % 50 == 7 else "")
        found.append(
            Person(
                name,
                (ROLES[i % 8], ROLES[(i // 8) % 8]) + ((BIG,) if i % 25 == 0 else ()),
                authority,
                "" if authority == "ticket" else f"{authority}-{stage.canary}-{i}",
                f"10.0.{i // 200}.{i % 200 + 1}",
                f"sid-{stage.canary}-{i}",
                stays=i < STAYERS,
                revocable=i >= STAYERS and i % 3 == 0,
                unix=i % 5 == 1,
            )
        )
    return found


def strangers(stage: Stage) -> dict[str, list[Person]]:
    """Abusers with a good token, by what they do. All of their tokens stand in the token file."""
    kinds = {"deaf": (40, (DEAF,)), "busy": (40, (DEAF, BUSY)), "trickle": (60, (DEAF, BUSY)), "plain": (64, ())}
    kinds |= {"flood": (1, ()), "greedy": (1, ()), "operator": (1, ())}
    return {
        kind: [
            Person(f"abuse-{kind}-{i}", roles, "file", f"file-{stage.canary}-{kind}-{i}", f"10.9.{n}.{i + 1}", "")
            for i in range(count)
        ]
        for n, (kind, (count, roles)) in enumerate(kinds.items())
    }


def token_lines(stage: Stage) -> str:
    """The token file."""
    all_of_them = people(stage) + [one for some in strangers(stage).values() for one in some]
    return "".join(
        f"{one.token} {one.name} {','.join(one.roles)}".strip() + "\n" for one in all_of_them if one.authority == "file"
    )


def ticket(stage: Stage, user: str, roles: tuple[str, ...] = (), sid: str = "", **claims: Any) -> str:
    """Signed with the second of three keys: it was there before the last HUP, and is after the next."""
    key = stage.path("ticket-keys").read_text().split()[1]
    now = time.time()
    said = {"sub": user, "roles": list(roles), "aud": "sse", "iat": now, "exp": now + 60} | claims
    if sid:
        said["sid"] = sid
    return jwt.encode(said, key, "HS256")


class Failures:
    """What must not happen, and did: by kind, with the first few of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, kind: str, example: str = "") -> None:
        self.counts[kind] += 1
        if len(examples := self.examples.setdefault(kind, [])) < 5:
            examples.append(example)
            print(f"FAILURE {kind}: {example}", file=sys.stderr, flush=True)


def say(**facts: Any) -> None:
    """A line to who started this process."""
    print(json.dumps(facts), flush=True)


async def lateness(late_ms: list[int]) -> None:
    """How late this process does what it wants to do, at the worst since late_ms was cleared."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.05)
        late_ms.append(max(late_ms.pop() if late_ms else 0, round((time.monotonic() - before) * 1000 - 50)))


def stop_now() -> NoReturn:
    """Ends a process that holds a thousand sockets: the kernel closes them."""
    sys.stdout.flush()
    os._exit(0)
