"""Who is told what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.models import Estimate, Project, User

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from rest_framework.test import APIClient

    Told = Callable[[Callable[[], Any]], list[tuple[str, set[str], set[str]]]]
    Browser = Callable[[User], APIClient]

MANAGERS = {"manager"}
ALL = {"manager", "foreman"}


def test_a_foremans_new_estimate_is_told_to_managers_and_to_him(
    told: Told, browser: Browser, foreman: User, project: Project
) -> None:
    client = browser(foreman)
    events = told(lambda: client.post("/api/v1/estimates/", {"project": project.pk}))
    assert events == [("estimate.created", {str(foreman.pk)}, MANAGERS)]


def test_the_payload_is_that_of_the_document(
    told: Told, browser: Browser, sse_outbox: list[Any], manager: User, foreman: User, project: Project
) -> None:
    client = browser(manager)
    told(lambda: client.post("/api/v1/estimates/", {"number": "7", "project": project.pk, "foreman": foreman.pk}))
    estimate = Estimate.objects.get()
    assert sse_outbox[0].data == {
        "estimate_id": estimate.pk,
        "estimate_number": "7",
        "project_id": project.pk,
        "project_name": "Школа",
        "foreman_id": foreman.pk,
        "foreman_name": "Иван Петров",
        "creator_id": manager.pk,
        "creator_name": "Анна Соколова",
        "status": "Черновик",
        "created_at": estimate.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "actor_id": None,  # the tests commit after the request; see test_actor.py
        "actor_name": None,
    }


def test_a_managers_edit_is_told_to_the_foreman(
    told: Told, browser: Browser, manager: User, estimate: Estimate
) -> None:
    client = browser(manager)
    events = told(lambda: client.patch(f"/api/v1/estimates/{estimate.pk}/", {"status": "Согласована"}))
    assert events == [("estimate.updated", {str(estimate.foreman_id)}, MANAGERS)]


def test_an_estimate_given_to_another_foreman_is_told_to_both(
    told: Told, browser: Browser, manager: User, another: User, estimate: Estimate
) -> None:
    client = browser(manager)
    events = told(lambda: client.patch(f"/api/v1/estimates/{estimate.pk}/", {"foreman": another.pk}))
    assert events == [("estimate.updated", {str(another.pk), str(estimate.foreman_id)}, MANAGERS)]


def test_an_estimate_taken_from_its_foreman_is_told_to_him(
    told: Told, browser: Browser, manager: User, estimate: Estimate
) -> None:
    client = browser(manager)
    events = told(lambda: client.patch(f"/api/v1/estimates/{estimate.pk}/", {"foreman": None}))
    assert events == [("estimate.updated", {str(estimate.foreman_id)}, MANAGERS)]


def test_a_deleted_estimate_is_told_to_its_foreman(
    told: Told, browser: Browser, manager: User, estimate: Estimate
) -> None:
    client = browser(manager)
    events = told(lambda: client.delete(f"/api/v1/estimates/{estimate.pk}/"))
    assert events == [("estimate.deleted", {str(estimate.foreman_id)}, MANAGERS)]


def test_an_edit_that_is_refused_is_told_to_nobody(
    committed: Callable[[], AbstractContextManager[None]],
    sse_outbox: list[Any],
    browser: Browser,
    foreman: User,
    estimate: Estimate,
) -> None:
    client = browser(foreman)
    with committed():
        assert client.patch(f"/api/v1/estimates/{estimate.pk}/", {"status": "Согласована"}).status_code == 400
    assert sse_outbox == []


def test_a_project_is_told_to_all_managers_and_foremen_who_may_choose_it(
    told: Told, browser: Browser, sse_outbox: list[Any], manager: User
) -> None:
    client = browser(manager)
    assert told(lambda: client.post("/api/v1/projects/", {"name": "Склад"})) == [("project.created", set(), ALL)]
    pk = Project.objects.get().pk
    events = told(lambda: client.patch(f"/api/v1/projects/{pk}/", {"name": "Склад № 2"}))
    assert events == [("project.updated", set(), ALL)]
    assert {"project_id": pk, "project_name": "Склад № 2"}.items() <= sse_outbox[0].data.items()


def test_logging_out_ends_the_streams_of_that_token(
    committed: Callable[[], AbstractContextManager[None]], sse_outbox: list[Any], browser: Browser, foreman: User
) -> None:
    client = browser(foreman)
    with committed():
        assert client.post("/api/v1/logout/").status_code == 204
    assert [(one.op, one.sid.partition(":")[0]) for one in sse_outbox] == [("revoke", "authtoken.token")]
    assert client.get("/api/v1/me/").status_code == 401
