"""Everything at once, at random, against what must be true whatever happens.

SOAK_SEED=7 SOAK_SECONDS=600 test/django/run -k soak goes on for longer, by other ways.
"""

import os
import random
import time

from rest_framework.authtoken.models import Token

from browsers import Crowd, between
from conftest import MakeDjango, MakeSse
from harness import Django, Sse, wait_for
from people import Person, crowd_of

SEED = int(os.environ.get("SOAK_SEED", "1"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "10"))
ROLES = ("manager", "foreman", "store")


class World:
    """People whose pages are loaded all the time, and what Django knows about them."""

    def __init__(self, site: Django, sse: Sse, crowd: Crowd) -> None:
        self.site, self.sse, self.crowd = site, sse, crowd
        self.random = random.Random(SEED)
        self.people = crowd_of(40)
        self.roles: dict[str, set[str]] = {one.id: set() for one in self.people}
        self.gone: dict[str, Person] = {}
        for one in self.people:
            crowd.add([one.token] * self.random.randint(1, 3))

    def step(self) -> None:
        one = self.random.choice(self.people)
        what = self.random.random()
        if what < 0.10:
            self.take_token(one)
        elif what < 0.15:
            self.give_token(one)
        elif what < 0.50:
            self.change_role(one, self.random.choice(ROLES))
        elif what < 0.60:
            self.site.knobs(delay=self.random.choice([0, 0.01, 0.1]), max_age=self.random.choice(["", "0", "1", "300"]))
        elif what < 0.63:
            self.site.knobs(status=500)
        self.who_is_gone_hears_nothing()

    def take_token(self, one: Person) -> None:
        if one.id in self.gone:
            return
        one.delete_token()
        self.sse.op("revoke", **self.random.choice([{"user": one.id}, {"sid": one.sid}]))
        self.gone[one.id] = one

    def give_token(self, one: Person) -> None:
        if self.gone.pop(one.id, None) is not None:
            Token.objects.create(user=one.user, key=one.token)
            self.crowd.add([one.token])

    def change_role(self, one: Person, role: str) -> None:
        if role in self.roles[one.id]:
            one.leave_group(role)
        else:
            one.join_group(role)
        self.roles[one.id] ^= {role}
        self.sse.op("refresh", user=one.id)

    def who_is_gone_hears_nothing(self) -> None:
        """From the moment that the revocation is acknowledged."""
        for user in self.gone:
            assert self.sse.publish("not.for.you", users=[user]) == 0, user

    def streams(self, one: Person) -> int:
        return sum(browser.connected for browser in self.crowd.browsers if browser.token == one.token)

    def roles_are_as_in_django(self) -> bool:
        self.crowd.run(lambda: True)
        should = {role: sum(self.streams(one) for one in self.people if role in self.roles[one.id]) for role in ROLES}
        return should == {role: self.sse.publish("for.role", roles=[role]) for role in ROLES}


def test_soak(make_site: MakeDjango, make_sse: MakeSse) -> None:
    site = make_site()
    sse = make_sse(site, "--auth-refresh", "500ms")
    with Crowd(sse.port, stay=between(0.05, 1.5), keep=False) as crowd:
        world = World(site, sse, crowd)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            next_step = time.monotonic() + world.random.uniform(0, 0.03)
            crowd.run(lambda next_step=next_step: time.monotonic() > next_step)  # type: ignore[misc]
            world.step()
        site.knobs()
        crowd.stay = None
        crowd.run(lambda: all(b.connected or b.dead for b in crowd.browsers) and not crowd.coming, limit=60)
        wait_for(world.roles_are_as_in_django, "all have their roles")
        world.who_is_gone_hears_nothing()
        assert set(crowd.statuses) <= {200, 401}, crowd.summary()
        assert crowd.unreachable == 0, crowd.summary()
        assert site.counts()["most"] <= 16
