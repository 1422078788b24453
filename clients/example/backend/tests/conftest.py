"""The people of the demo, a client for each, and what a commit sends."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group
from rest_framework.authtoken.models import Token
from rest_framework.test import APIClient

from api.audit import LogfmtFormatter
from api.models import Estimate, Project, User

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from pytest_django import DjangoCaptureOnCommitCallbacks
    from sse_django import Event, Operation

PASSWORD = "a password of the tests"


def _person(username: str, first_name: str, last_name: str, role: str) -> User:
    user = User.objects.create_user(username, password=PASSWORD, first_name=first_name, last_name=last_name)
    if role:
        user.groups.add(Group.objects.get(name=role))
    return user


@pytest.fixture
def manager(db: None) -> User:
    return _person("manager1", "Анна", "Соколова", "manager")


@pytest.fixture
def foreman(db: None) -> User:
    return _person("foreman1", "Иван", "Петров", "foreman")


@pytest.fixture
def another(db: None) -> User:
    """Another foreman."""
    return _person("foreman2", "Сергей", "Кузнецов", "foreman")


@pytest.fixture
def nobody(db: None) -> User:
    """Somebody who has no role."""
    return _person("nobody", "", "", "")


@pytest.fixture
def project(db: None) -> Project:
    return Project.objects.create(name="Школа", address="Тверь")


@pytest.fixture
def estimate(project: Project, manager: User, foreman: User) -> Estimate:
    """A draft of the manager, assigned to the foreman."""
    return Estimate.objects.create(number="7", project=project, creator=manager, foreman=foreman, amount="100.00")


@pytest.fixture
def browser() -> Callable[[User], APIClient]:
    """Return a client with the user's token."""

    def make(user: User) -> APIClient:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Token {Token.objects.get_or_create(user=user)[0].key}")
        client.default_format = "json"
        return client

    return make


@pytest.fixture
def committed(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks, sse_outbox: list[Event | Operation]
) -> Callable[[], AbstractContextManager[None]]:
    """Do what a commit does at the end of the block; what was sent before it is forgotten."""

    @contextlib.contextmanager
    def block() -> Iterator[None]:
        sse_outbox.clear()
        with django_capture_on_commit_callbacks(execute=True):
            yield
            assert sse_outbox == []

    return block


@pytest.fixture
def told(
    committed: Callable[[], AbstractContextManager[None]], sse_outbox: list[Any]
) -> Callable[[Callable[[], Any]], list[tuple[str, set[str], set[str]]]]:
    """Do something, and return the events it sent: name, users, roles."""

    def act(what: Callable[[], Any]) -> list[tuple[str, set[str], set[str]]]:
        with committed():
            response = what()
            assert response.status_code in (200, 201, 204), response.content.decode()
        return [(event.name, set(event.to.users), set(event.to.roles)) for event in sse_outbox]

    return act


@pytest.fixture
def audit_log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what stands in the audit log, without the times."""
    caplog.set_level("INFO", "audit")
    caplog.handler.setFormatter(LogfmtFormatter())
    return lambda: [line.split(" ", 1)[1] for line in caplog.text.splitlines() if "app=audit" in line]
