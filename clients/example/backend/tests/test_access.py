"""Who may do what, and what the answers look like."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from rest_framework.authtoken.models import Token

from api.models import Estimate, Project, Role, User

from .conftest import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client
    from rest_framework.test import APIClient

    Browser = Callable[[User], APIClient]

pytestmark = pytest.mark.django_db


def test_logging_in_gives_a_token_and_the_user(client: Client, foreman: User) -> None:
    answer = client.post("/api/v1/login/", {"username": "foreman1", "password": PASSWORD}, "application/json")
    assert answer.status_code == 200
    user = {"id": foreman.pk, "username": "foreman1", "name": "Иван Петров", "role": "foreman", "role_name": "Прораб"}
    assert answer.json()["user"] == user
    me = client.get("/api/v1/me/", headers={"Authorization": f"Token {answer.json()['token']}"})
    assert me.json() == user


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ({"username": "foreman1", "password": "wrong"}, {"detail": "Неверное имя или пароль"}),
        ({"username": "who", "password": PASSWORD}, {"detail": "Неверное имя или пароль"}),
        ({"username": "nobody", "password": PASSWORD}, {"detail": "У вас нет роли на этом сайте"}),
        ({"username": "foreman1"}, {"password": ["Обязательное поле."]}),
    ],
)
def test_a_login_is_refused_with_the_reason(
    client: Client, foreman: User, nobody: User, given: dict[str, str], answer: dict[str, Any]
) -> None:
    refused = client.post("/api/v1/login/", given, "application/json", headers={"Authorization": "Token stale"})
    assert (refused.status_code, refused.json()) == (400, answer)


def test_a_deactivated_user_cannot_log_in(client: Client, foreman: User) -> None:
    User.objects.filter(pk=foreman.pk).update(is_active=False)
    given = {"username": "foreman1", "password": PASSWORD}
    assert client.post("/api/v1/login/", given, "application/json").status_code == 400


@pytest.mark.parametrize("path", ["me", "users", "projects", "estimates", "estimates/1"])
def test_who_is_not_logged_in_sees_nothing(client: Client, path: str) -> None:
    answer = client.get(f"/api/v1/{path}/")
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Token")
    assert answer.json() == {"detail": "Учетные данные не были предоставлены."}


@pytest.mark.parametrize("path", ["me", "users", "projects", "estimates"])
def test_who_has_no_role_sees_nothing(browser: Browser, nobody: User, path: str) -> None:
    answer = browser(nobody).get(f"/api/v1/{path}/")
    assert (answer.status_code, answer.json()) == (403, {"detail": "У вас нет роли на этом сайте."})


def test_who_has_no_role_hears_nothing(
    client: Client, settings: Any, browser: Browser, nobody: User, foreman: User
) -> None:
    settings.SSE = {**settings.SSE, "AUTH_KEY": "key of sse"}
    for user, status in ((nobody, 401), (foreman, 200)):
        token = Token.objects.create(user=user).key
        head = {"Authorization": f"Token {token}", "X-SSE-Key": "key of sse"}
        assert client.get("/api/v1/sse/auth/", headers=head).status_code == status
        assert client.post("/api/v1/sse/ticket/", headers=head).status_code == status


def test_a_manager_sees_all_estimates_and_a_foreman_his_own(
    browser: Browser, manager: User, another: User, estimate: Estimate
) -> None:
    Estimate.objects.create(number="8", project=estimate.project, creator=manager, foreman=another)
    Estimate.objects.create(number="9", project=estimate.project, creator=manager)
    assert [one["number"] for one in browser(manager).get("/api/v1/estimates/").json()] == ["9", "8", "7"]
    assert [one["number"] for one in browser(another).get("/api/v1/estimates/").json()] == ["8"]
    assert browser(manager).get("/api/v1/projects/").json()[0]["estimates_count"] == 3
    assert browser(another).get("/api/v1/projects/").json()[0]["estimates_count"] == 1


def test_an_estimate_has_the_fields_of_the_contract(browser: Browser, estimate: Estimate) -> None:
    assert estimate.foreman is not None
    shown = browser(estimate.foreman).get(f"/api/v1/estimates/{estimate.pk}/").json()
    assert {name: shown[name] for name in shown if not name.endswith("_at")} == {
        "id": estimate.pk,
        "number": "7",
        "project": estimate.project_id,
        "project_name": "Школа",
        "foreman": estimate.foreman_id,
        "foreman_name": "Иван Петров",
        "creator": estimate.creator_id,
        "creator_name": "Анна Соколова",
        "status": "Черновик",
        "amount": "100.00",
        "comment": "",
    }


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_another_foremans_estimate_is_not_found(
    browser: Browser, another: User, estimate: Estimate, method: str
) -> None:
    answer = getattr(browser(another), method)(f"/api/v1/estimates/{estimate.pk}/")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Страница не найдена."})


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"status": "Черновик"}, ["7"]),
        ({"status": "Отклонена"}, ["8"]),
        ({"project": "", "status": ""}, ["8", "7"]),
        ({"project": 0}, []),
    ],
)
def test_the_list_is_filtered(
    browser: Browser, manager: User, estimate: Estimate, query: dict[str, Any], numbers: list[str]
) -> None:
    Estimate.objects.create(number="8", project=estimate.project, creator=manager, status="Отклонена")
    assert [one["number"] for one in browser(manager).get("/api/v1/estimates/", query).json()] == numbers


@pytest.mark.parametrize(
    "query", [{"status": "Новая"}, {"project": "x"}, {"project": "9" * 20}, {"project": "-" + "9" * 20}]
)
def test_a_filter_that_makes_no_sense_is_an_error(browser: Browser, manager: User, query: dict[str, str]) -> None:
    answer = browser(manager).get("/api/v1/estimates/", query)
    assert (answer.status_code, list(answer.json())) == (400, list(query))


def test_an_id_that_no_database_has_is_not_found(browser: Browser, manager: User, project: Project) -> None:
    client, huge = browser(manager), 10**20
    assert client.get(f"/api/v1/estimates/{huge}/").status_code == 404
    for wrong in ("project", "foreman"):
        answer = client.post("/api/v1/estimates/", {"project": project.pk, wrong: huge})
        assert (answer.status_code, list(answer.json())) == (400, [wrong])


def test_a_foremans_estimate_is_his_whatever_he_sends(
    browser: Browser, foreman: User, another: User, project: Project
) -> None:
    for sent in (another.pk, 999_999, None):
        made = browser(foreman).post("/api/v1/estimates/", {"project": project.pk, "foreman": sent}).json()
        assert (made["foreman"], made["creator"]) == (foreman.pk, foreman.pk)


def test_an_estimate_without_a_number_is_named_after_day_and_project(
    browser: Browser, foreman: User, project: Project
) -> None:
    made = browser(foreman).post("/api/v1/estimates/", {"project": project.pk, "number": ""}).json()
    assert re.fullmatch(r"Смета_\d{4}-\d\d-\d\d_Школа", made["number"])


def test_a_manager_assigns_foremen_and_nobody_else(
    browser: Browser, manager: User, foreman: User, another: User, project: Project
) -> None:
    client = browser(manager)
    made = client.post("/api/v1/estimates/", {"project": project.pk, "foreman": foreman.pk})
    assert (made.status_code, made.json()["foreman_name"]) == (201, "Иван Петров")
    User.objects.filter(pk=another.pk).update(is_active=False)
    for wrong in (manager.pk, another.pk):
        answer = client.post("/api/v1/estimates/", {"project": project.pk, "foreman": wrong})
        assert (answer.status_code, list(answer.json())) == (400, ["foreman"])


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"number": "7a", "amount": "12500.50", "comment": "!"}, []),
        ({"status": "На согласовании"}, []),
        ({"status": "Согласована"}, ["status"]),
        ({"status": "Отклонена"}, ["status"]),
        ({"foreman": None, "comment": "!"}, ["foreman"]),
        ({"amount": "-1"}, ["amount"]),
        ({"amount": "1.005"}, ["amount"]),
    ],
)
def test_what_a_foreman_may_change(
    browser: Browser, foreman: User, estimate: Estimate, change: dict[str, Any], refused: list[str]
) -> None:
    answer = browser(foreman).patch(f"/api/v1/estimates/{estimate.pk}/", change)
    if refused:
        assert (answer.status_code, list(answer.json())) == (400, refused)
    else:
        assert answer.status_code == 200
        assert {name: answer.json()[name] for name in change} == change


def test_a_foreman_cannot_move_his_estimate_to_another_project(
    browser: Browser, foreman: User, estimate: Estimate
) -> None:
    other = Project.objects.create(name="Склад")
    answer = browser(foreman).patch(f"/api/v1/estimates/{estimate.pk}/", {"project": other.pk})
    assert (answer.status_code, list(answer.json())) == (400, ["project"])


def test_a_form_that_sends_back_what_it_got_changes_nothing(
    browser: Browser, foreman: User, estimate: Estimate
) -> None:
    client = browser(foreman)
    shown = client.get(f"/api/v1/estimates/{estimate.pk}/").json()
    answer = client.patch(f"/api/v1/estimates/{estimate.pk}/", {**shown, "comment": "мелочь"})
    assert (answer.status_code, answer.json()["foreman"], answer.json()["comment"]) == (200, foreman.pk, "мелочь")


@pytest.mark.parametrize("status", ["Согласована", "Отклонена"])
@pytest.mark.parametrize("change", [{"amount": "1.00"}, {"comment": "!"}, {"status": "Черновик"}, {}])
def test_a_foreman_cannot_change_what_was_decided(
    browser: Browser, manager: User, foreman: User, estimate: Estimate, status: str, change: dict[str, str]
) -> None:
    Estimate.objects.filter(pk=estimate.pk).update(status=status)
    path = f"/api/v1/estimates/{estimate.pk}/"
    refused = browser(foreman).patch(path, change)
    said = {"detail": "Смета согласована или отклонена: изменить её может только менеджер."}
    assert (refused.status_code, refused.json()) == (403, said)
    assert browser(foreman).get(path).json()["status"] == status
    assert browser(manager).patch(path, change).status_code == 200


def test_a_foreman_cannot_begin_with_an_approved_estimate(browser: Browser, foreman: User, project: Project) -> None:
    answer = browser(foreman).post("/api/v1/estimates/", {"project": project.pk, "status": "Согласована"})
    assert (answer.status_code, list(answer.json())) == (400, ["status"])


@pytest.mark.parametrize(
    ("who", "status", "code"),
    [
        (Role.FOREMAN, "Черновик", 204),
        (Role.FOREMAN, "На согласовании", 403),
        (Role.FOREMAN, "Согласована", 403),
        (Role.MANAGER, "Согласована", 204),
    ],
)
def test_who_may_delete_what(
    browser: Browser, manager: User, foreman: User, estimate: Estimate, who: Role, status: str, code: int
) -> None:
    Estimate.objects.filter(pk=estimate.pk).update(status=status)
    client = browser(manager if who is Role.MANAGER else foreman)
    answer = client.delete(f"/api/v1/estimates/{estimate.pk}/")
    assert answer.status_code == code
    assert Estimate.objects.exists() is (code == 403)
    if code == 403:
        assert answer.json() == {"detail": "Прораб может удалить только свой черновик."}


def test_only_managers_make_and_change_projects(
    browser: Browser, manager: User, foreman: User, project: Project
) -> None:
    for user, codes in ((manager, (201, 200)), (foreman, (403, 403))):
        made = browser(user).post("/api/v1/projects/", {"name": "Склад", "address": "Тула"})
        changed = browser(user).patch(f"/api/v1/projects/{project.pk}/", {"address": "Омск"})
        assert (made.status_code, changed.status_code) == codes
    assert browser(manager).delete(f"/api/v1/projects/{project.pk}/").status_code == 405


def test_the_users_of_a_role_are_those_who_still_work(
    browser: Browser, manager: User, foreman: User, another: User, nobody: User
) -> None:
    User.objects.filter(pk=another.pk).update(is_active=False)
    client = browser(foreman)
    assert [one["id"] for one in client.get("/api/v1/users/", {"role": "foreman"}).json()] == [foreman.pk]
    assert [one["id"] for one in client.get("/api/v1/users/").json()] == [foreman.pk, manager.pk]


def test_a_list_takes_as_many_queries_however_long_it_is(
    browser: Browser, manager: User, foreman: User, project: Project, django_assert_num_queries: Any
) -> None:
    Estimate.objects.bulk_create(
        Estimate(number=str(n), project=project, creator=manager, foreman=foreman) for n in range(20)
    )
    client = browser(manager)
    with django_assert_num_queries(3):  # the token, the groups, the estimates
        assert len(client.get("/api/v1/estimates/").json()) == 20
