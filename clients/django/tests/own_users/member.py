"""A user model whose groups are teams, which know their people as the crew.

test_users.py runs this in a process with member_settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import Group
from django.core import checks
from django.db import transaction

from estimates.models import Member, Team
from own_users import answer
from sse_django import Operation, audience

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pytest_django import DjangoAssertNumQueries

    from conftest import Commit

pytestmark = pytest.mark.django_db


class Crew:
    """Anna and Boris build; Vera is in no team."""

    def __init__(self) -> None:
        self.anna, self.boris, self.vera = (Member.objects.create(username=name) for name in ("anna", "boris", "vera"))
        self.builders, self.diggers = Team.objects.create(name="builders"), Team.objects.create(name="diggers")
        self.anna.groups.add(self.builders)
        self.boris.groups.add(self.builders)


@pytest.fixture
def crew() -> Crew:
    return Crew()


def _crew(team: Team) -> Any:
    found: Any = team
    return found.crew


def _set(team: Team, **fields: str) -> Team:
    for name, value in fields.items():
        setattr(team, name, value)
    return team


ACTS: dict[str, tuple[Callable[[Crew], object], set[str]]] = {
    "added": (lambda c: c.vera.groups.add(c.builders), {"vera"}),
    "removed": (lambda c: c.anna.groups.remove(c.builders), {"anna"}),
    "cleared": (lambda c: c.anna.groups.clear(), {"anna"}),
    "added by the team": (lambda c: _crew(c.diggers).add(c.anna, c.vera), {"anna", "vera"}),
    "removed by the team": (lambda c: _crew(c.builders).remove(c.boris), {"boris"}),
    "cleared by the team": (lambda c: _crew(c.builders).clear(), {"anna", "boris"}),
    "renamed": (lambda c: _set(c.builders, name="new").save(), {"anna", "boris"}),
    "renamed alone": (lambda c: _set(c.builders, name="new").save(update_fields=["name"]), {"anna", "boris"}),
    "painted": (lambda c: _set(c.builders, colour="red").save(), set()),
    "painted alone, and the new name not saved": (
        lambda c: _set(c.builders, colour="red", name="new").save(update_fields=["colour"]),
        set(),
    ),
    "deleted": (lambda c: c.builders.delete(), {"anna", "boris"}),
    "deleted by queryset": (lambda _: Team.objects.all().delete(), {"anna", "boris"}),
    "a team that is empty": (lambda c: _set(c.diggers, name="new").save(), set()),
    "a group of Django's": (lambda _: Group.objects.create(name="new").delete(), set()),
}


@pytest.mark.parametrize(("act", "told"), ACTS.values(), ids=ACTS)
def test_what_happens_to_a_team_is_told_to_its_crew(
    committed: Commit, sse_outbox: list[Operation], crew: Crew, act: Callable[[Crew], object], told: set[str]
) -> None:
    with committed():
        act(crew)
    keys = {str(one.pk): one.username for one in (crew.anna, crew.boris, crew.vera)}
    assert {(operation.op, keys[operation.user]) for operation in sse_outbox} == {("refresh", name) for name in told}


@pytest.mark.django_db(transaction=True)
def test_a_rename_that_is_rolled_back_is_not_told(sse_outbox: list[Operation], crew: Crew) -> None:
    sse_outbox.clear()
    with transaction.atomic():
        _set(crew.builders, name="new").save()
        transaction.set_rollback(True)
    assert sse_outbox == []


def test_a_team_that_only_changes_its_colour_costs_no_query_of_its_crew(
    crew: Crew, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(2):  # the name it had
        _set(crew.builders, colour="red").save()


def test_the_roles_are_the_teams(crew: Crew) -> None:
    assert (answer(crew.anna)["roles"], answer(crew.vera)["roles"]) == (["builders"], [])
    assert audience(roles=crew.anna.groups).roles == ("builders",)


def test_more_teams_than_sse_knows_roles() -> None:
    def warned() -> bool:
        found = checks.run_checks(tags=["database"], databases=["default"])
        return "sse_django.W003" in [message.id for message in found]

    Group.objects.bulk_create([Group(name=f"group {n}") for n in range(65)])
    assert not warned()
    Team.objects.bulk_create([Team(name=f"team {n}") for n in range(65)])
    assert warned()
