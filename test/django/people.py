"""People of the site, made by Django's own models in its database. Needs the set-up of conftest."""

import itertools
from dataclasses import dataclass

from django.contrib.auth.models import Group, User
from rest_framework.authtoken.models import Token

from browsers import Crowd
from harness import Sse, secret
from listeners.views import session_id

_numbers = itertools.count(1)


@dataclass
class Person:
    """Somebody with a token of Django REST framework; the groups are the roles."""

    user: User
    token: str

    @property
    def id(self) -> str:
        return str(self.user.pk)

    @property
    def sid(self) -> str:
        return session_id(self.token)

    def join_group(self, role: str) -> None:
        self.user.groups.add(Group.objects.get_or_create(name=role)[0])

    def leave_group(self, role: str) -> None:
        self.user.groups.remove(Group.objects.get(name=role))

    def deactivate(self) -> None:
        self.user.is_active = False
        self.user.save()

    def delete_token(self) -> None:
        Token.objects.filter(key=self.token).delete()


def person(*roles: str) -> Person:
    """Somebody new."""
    user = User.objects.create(username=f"person{next(_numbers)}")
    made = Person(user, secret(Token.objects.create(user=user).key))
    for role in roles:
        made.join_group(role)
    return made


def crowd_of(n: int) -> list[Person]:
    """Many new people, all made at once."""
    users = User.objects.bulk_create([User(username=f"person{next(_numbers)}") for _ in range(n)])
    tokens = Token.objects.bulk_create([Token(user=user, key=Token.generate_key()) for user in users])
    return [Person(token.user, secret(token.key)) for token in tokens]


def tokens_of(people: list[Person]) -> list[str]:
    return [one.token for one in people]


def each_is_himself(sse: Sse, crowd: Crowd, people: list[Person]) -> None:
    """The browser of each of these people hears what is for him, and nobody else does."""
    browsers = {browser.token: browser for browser in crowd.browsers}
    for one in people:
        sse.publish(f"for.{one.id}", users=[one.id])

    def names(one: Person) -> list[str]:
        return [message["event"] for message in browsers[one.token].messages if message["event"].startswith("for.")]

    crowd.run(lambda: all(f"for.{one.id}" in names(one) for one in people))
    for one in people:
        assert set(names(one)) == {f"for.{one.id}"}
