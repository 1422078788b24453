"""Events say who did it. These tests commit within the request, as the site does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.urls import reverse

from api.models import Estimate, Project, User

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client
    from rest_framework.test import APIClient

    Browser = Callable[[User], APIClient]

pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)


def said(outbox: list[Any]) -> list[tuple[str, int | None, str | None]]:
    return [(event.name, event.data["actor_id"], event.data["actor_name"]) for event in outbox]


@pytest.fixture(params=[False, True], ids=["", "atomic_requests"], autouse=True)
def _atomic_requests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)


def test_events_say_who_created_changed_and_deleted(
    browser: Browser, sse_outbox: list[Any], manager: User, foreman: User, project: Project
) -> None:
    browser(foreman).post("/api/v1/estimates/", {"project": project.pk, "number": "7"})
    pk = Estimate.objects.get().pk
    sse_outbox.clear()
    browser(manager).patch(f"/api/v1/estimates/{pk}/", {"amount": "5.00"})
    browser(manager).patch(f"/api/v1/projects/{project.pk}/", {"name": "Школа № 2"})
    browser(foreman).delete(f"/api/v1/estimates/{pk}/")
    by_manager, by_foreman = (manager.pk, "Анна Соколова"), (foreman.pk, "Иван Петров")
    assert said(sse_outbox) == [
        ("estimate.updated", *by_manager),
        ("project.updated", *by_manager),
        ("estimate.deleted", *by_foreman),
    ]


def test_what_is_done_in_the_admin_is_said_to_be_done_by_that_user(
    client: Client, sse_outbox: list[Any], manager: User, estimate: Estimate
) -> None:
    manager.is_staff = manager.is_superuser = True
    manager.save()
    client.force_login(manager)
    sse_outbox.clear()
    change, delete = (reverse(f"admin:api_estimate_{what}", args=[estimate.pk]) for what in ("change", "delete"))
    fields = {"number": "8", "project": estimate.project_id, "status": "Черновик", "amount": "5.00", "comment": ""}
    assert client.post(change, fields).status_code == 302
    assert client.post(delete, {"post": "yes"}).status_code == 302
    by_manager = (manager.pk, "Анна Соколова")
    assert said(sse_outbox) == [("estimate.updated", *by_manager), ("estimate.deleted", *by_manager)]


def test_what_no_user_did_has_no_actor(
    browser: Browser, sse_outbox: list[Any], manager: User, project: Project
) -> None:
    browser(manager).patch(f"/api/v1/projects/{project.pk}/", {"name": "Школа № 2"})
    sse_outbox.clear()
    project.save()  # as a command would, after somebody's request
    assert said(sse_outbox) == [("project.updated", None, None)]
