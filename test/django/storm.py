#!/usr/bin/env python3
"""The storm: 10,000 browsers with 10,000 tokens connect at once, sse is restarted, and all come back.

Run by hand, and stops by itself after 180 s at the latest:

    make sse && test/django/deps
    build/test-venv/bin/python test/django/storm.py                # kill -9, then all come back
    build/test-venv/bin/python test/django/storm.py --signal TERM  # sse drains first

Django runs under gunicorn, 10,000 users and tokens in SQLite; it counts the questions that it has at
the same moment, over all its processes and threads. The browsers do what an EventSource does: they obey
`retry:`, come back after a refused connection, and give up for good on any answer but 200.
"""

import argparse
import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "site"))
BASE = Path(tempfile.mkdtemp(prefix="sse-storm."))
os.environ |= {"SITE_DB": str(BASE / "db.sqlite3"), "DJANGO_SETTINGS_MODULE": "project.settings"}

import django  # noqa: E402

django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from rest_framework.authtoken.models import Token  # noqa: E402

from browsers import Crowd  # noqa: E402
from harness import SSE_KEY, Django, Sse  # noqa: E402

LIMIT = 180


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How long until 10,000 browsers are back.")
    parser.add_argument("--sse", default=str(HERE.parent.parent / "sse"), help="the binary (./sse)")
    parser.add_argument("--streams", type=int, default=10000)
    parser.add_argument("--signal", choices=["KILL", "TERM"], default="KILL", help="what ends sse (KILL)")
    parser.add_argument("--workers", type=int, default=2, help="processes of gunicorn (2)")
    parser.add_argument("--threads", type=int, default=16, help="threads of each, so that more than 16 could be seen")
    parser.add_argument("--unix", action="store_true", help="Django at a Unix socket")
    parser.add_argument("option", nargs="*", help="more options of sse, after --")
    return parser.parse_args()


def people(n: int) -> list[str]:
    """The tokens of n users, each a manager or a foreman."""
    call_command("migrate", verbosity=0)
    groups = Group.objects.bulk_create([Group(name="manager"), Group(name="foreman")])
    users = User.objects.bulk_create([User(username=f"user{i}") for i in range(n)])
    tokens = Token.objects.bulk_create([Token(user=user, key=Token.generate_key()) for user in users])
    through = User.groups.through
    through.objects.bulk_create([through(user=user, group=groups[i % 2]) for i, user in enumerate(users)])
    connection.close()
    return [token.key for token in tokens]


class Round:
    """What happens until all are in, and what it took."""

    def __init__(self, name: str, site: Django, crowd: Crowd) -> None:
        self.name, self.site, self.crowd = name, site, crowd
        self.put_off, self.unreachable, self.connects = crowd.put_off, crowd.unreachable, crowd.connects
        self.joined = crowd.joined
        site.count_anew()
        self.start = time.monotonic()

    def run(self) -> None:
        crowd = self.crowd
        n = len(crowd.browsers)
        times: list[float] = []
        first = 0.0

        def all_in() -> bool:
            nonlocal first
            now = time.monotonic() - self.start
            if not first and crowd.connects > self.connects:
                first = now
            while len(times) < 10 and crowd.connected >= n * (len(times) + 1) / 10:
                times.append(now)
            return crowd.connected == n

        crowd.run(all_in, LIMIT)
        counts = self.site.counts()
        print(f"\n{self.name}: all {n} are in")
        print(
            f"  after                             {times[-1]:8.2f} s, {times[-1] - first:.2f} s since the first connect"
        )
        print(f"  half of them, nine of ten after   {times[4]:8.2f} s, {times[8]:.2f} s")
        print(f"  most questions in flight          {counts['most']:8d}")
        print(f"  questions                         {counts['total']:8d}  ({counts['200']} answered with 200)")
        print(f"  overload answers                  {crowd.put_off - self.put_off:8d}")
        print(f"  refused, reset, lost before       {crowd.unreachable - self.unreachable:8d}")
        print(f"  connects                          {crowd.connects - self.connects:8d}")
        print(f"  answers so far                    {dict(crowd.statuses)}", flush=True)


def restart(sse: Sse, number: signal.Signals) -> None:
    """As a service manager does: it waits for the end, and starts it at the same address."""
    sse.signal(number)
    sse.wait()
    sse.start(f"127.0.0.1:{sse.port}")


def storm(o: argparse.Namespace) -> None:
    os.environ["SSE_BIN"] = str(Path(o.sse).resolve())
    soft = min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    tokens = people(o.streams)
    key = BASE / "key"
    key.write_text(SSE_KEY + "\n")
    site = Django(BASE / "django", unix=o.unix, workers=o.workers, threads=o.threads).start().ready()
    sse = Sse(BASE / "sse", "--auth-url", site.auth_url, "--auth-key-file", str(key), *o.option).start()
    print(f"{o.streams} tokens; gunicorn with {o.workers} x {o.threads} threads; {' '.join(['sse', *sse.options[4:]])}")
    gc.freeze()
    try:
        with Crowd(sse.port, keep=False) as crowd:
            first = Round("the first time", site, crowd)
            crowd.add(tokens)
            first.run()
            assert sse.publish("news") == o.streams
            back = Round(f"after a restart by {o.signal}", site, crowd)
            if o.signal == "KILL":
                restart(sse, signal.SIGKILL)
            else:  # the browsers must live while it drains
                sse.signal(signal.SIGTERM)
                crowd.run(lambda: not sse.runs)
                sse.start(f"127.0.0.1:{sse.port}")
            print(f"\nsse is up again after {time.monotonic() - back.start:.2f} s")
            crowd.run(lambda: crowd.lost >= o.streams)
            back.run()
            assert sse.publish("news") == o.streams
            assert set(crowd.statuses) == {200}
    finally:
        sse.kill()
        site.kill()


def give_up(*_: object) -> None:
    raise TimeoutError(f"not within {LIMIT} s")


def main() -> None:
    o = options()
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(LIMIT)
    try:
        storm(o)
    finally:
        shutil.rmtree(BASE)


if __name__ == "__main__":
    main()
