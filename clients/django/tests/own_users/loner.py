"""A user model that has no groups, but something else by that name.

test_users.py runs this in a process with loner_settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group
from django.core import checks

from own_users import answer
from sse_django import Operation, roles_changed
from sse_django.roles import group_names

if TYPE_CHECKING:
    from conftest import Commit, Configure, Make

pytestmark = pytest.mark.django_db


def test_what_has_no_groups_starts_and_has_no_roles(person: Make) -> None:
    somebody = person()
    assert list(group_names(somebody)) == []
    assert answer(somebody)["roles"] == []


def test_the_roles_of_a_function_may_be_of_what_is_called_groups(person: Make, configure: Configure) -> None:
    configure(ROLES="estimates.hooks.groups")
    assert answer(person())["roles"] == ["manager"]


def test_the_checks_have_nothing_to_say_of_it() -> None:
    Group.objects.bulk_create([Group(name=f"group {n}") for n in range(65)])
    found = checks.run_checks(tags=["sse_django", "database"], databases=["default"])
    assert [message.id for message in found if str(message.id).startswith("sse_django.")] == ["sse_django.W001"]


def test_all_that_is_not_about_groups_is_told(committed: Commit, sse_outbox: list[Any], person: Make) -> None:
    somebody: Any = person()
    key = str(somebody.pk)
    with committed():
        group = Group.objects.create(name="g")
        group.name = "other"
        group.save()
        group.delete()
        somebody.save()
    assert sse_outbox == []
    with committed():
        somebody.is_active = False
        somebody.save()
        roles_changed([somebody])
        somebody.delete()
    assert sse_outbox == [Operation("revoke", user=key), Operation("refresh", user=key), Operation("revoke", user=key)]
