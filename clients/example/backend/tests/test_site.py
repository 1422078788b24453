"""The audit log, the admin, the demo's data, the settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command

from api.models import Estimate, Project, Role, User

from .conftest import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from django.test import Client
    from rest_framework.test import APIClient

    Committed = Callable[[], AbstractContextManager[None]]
    Log = Callable[[], list[str]]

BACKEND = Path(__file__).resolve().parent.parent


@pytest.mark.django_db
def test_whoever_writes_leaves_a_line(
    committed: Committed, browser: Callable[[User], APIClient], audit_log: Log, manager: User, project: Project
) -> None:
    client = browser(manager)
    with committed():
        pk = client.post("/api/v1/estimates/", {"project": project.pk, "number": "7"}).json()["id"]
        client.patch(f"/api/v1/estimates/{pk}/", {"number": "7\nтак"})
        client.patch(f"/api/v1/estimates/{pk}/", {"amount": "much"})  # refused: no line
        client.delete(f"/api/v1/estimates/{pk}/")
    assert audit_log() == [
        f"app=audit level=info msg=created user=manager1 object=estimate:{pk} name=7",
        f'app=audit level=info msg=updated user=manager1 object=estimate:{pk} name="7\\nтак"',
        f'app=audit level=info msg=deleted user=manager1 object=estimate:{pk} name="7\\nтак"',
    ]


def test_logins_and_logouts_leave_a_line_without_password_or_token(
    client: Client, audit_log: Log, manager: User
) -> None:
    by = {"X-Real-IP": "10.0.0.7"}
    client.post("/api/v1/login/", {"username": "manager1", "password": "wrong"}, "application/json", headers=by)
    given = {"username": "manager1", "password": PASSWORD}
    token = client.post("/api/v1/login/", given, "application/json", headers=by).json()["token"]
    client.post("/api/v1/logout/", headers={**by, "Authorization": f"Token {token}"})
    assert audit_log() == [
        "app=audit level=warning msg=login_failed user=manager1 from=10.0.0.7",
        "app=audit level=info msg=login user=manager1 from=10.0.0.7",
        "app=audit level=info msg=logout user=manager1 from=10.0.0.7",
    ]


def test_what_is_done_in_the_admin_is_audited_and_told(
    admin_client: Client,
    committed: Committed,
    audit_log: Log,
    sse_outbox: list[Any],
    project: Project,
    foreman: User,
) -> None:
    form = {"number": "7", "project": project.pk, "foreman": foreman.pk, "status": "Черновик", "amount": "1"}
    audit_log()
    with committed():
        assert admin_client.post("/admin/api/estimate/add/", form).status_code == 302
    pk = Estimate.objects.get().pk
    assert [(event.name, event.to.users) for event in sse_outbox] == [("estimate.created", (str(foreman.pk),))]
    with committed():
        change = f"/admin/api/estimate/{pk}/change/"
        assert admin_client.post(change, {**form, "status": "Согласована"}).status_code == 302
    with committed():
        chosen = {"action": "delete_selected", "_selected_action": pk, "post": "yes"}
        assert admin_client.post("/admin/api/estimate/", chosen).status_code == 302
    assert [event.name for event in sse_outbox] == ["estimate.deleted"]
    assert [line for line in audit_log() if "estimate:" in line] == [
        f"app=audit level=info msg={what} user=admin object=estimate:{pk} name=7"
        for what in ("created", "updated", "deleted")
    ]


@pytest.mark.django_db
def test_the_demo_is_seeded_once_and_its_users_are_put_right(sse_outbox: list[Any]) -> None:
    call_command("seed_demo")
    user = User.objects.get(username="foreman1")
    assert (user.get_full_name(), user.role, user.check_password("demo-smeta")) == ("Иван Петров", Role.FOREMAN, True)
    assert (Project.objects.count(), Estimate.objects.count(), User.objects.count()) == (3, 12, 4)
    Estimate.objects.all().delete()
    user.set_password("forgotten")
    user.save()
    call_command("seed_demo", password="another")
    assert (Project.objects.count(), Estimate.objects.count(), User.objects.count()) == (3, 0, 4)
    assert User.objects.get(username="foreman1").check_password("another")
    assert [one for one in sse_outbox if hasattr(one, "name")] == []


@pytest.mark.django_db
def test_the_migrations_are_those_of_the_models() -> None:
    call_command("makemigrations", check=True, dry_run=True)


def test_the_settings_are_fit_for_a_site_with_tls(tmp_path: Path) -> None:
    for name in ("django", "auth", "ticket"):
        (tmp_path / f"{name}.key").write_text("a-key-of-63-bytes-that-is-long-enough-for-the-deployment-checks\n")
    env = {**os.environ, "SITE_STATE": str(tmp_path), "SITE_HTTPS": "1", "DJANGO_SETTINGS_MODULE": "config.settings"}
    check = [sys.executable, "manage.py", "check", "--deploy", "--fail-level=WARNING", "--tag=security"]
    done = subprocess.run(check, cwd=BACKEND, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
