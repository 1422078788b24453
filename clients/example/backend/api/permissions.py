"""Who may see and do what: all of it stands here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework.permissions import SAFE_METHODS, BasePermission, IsAuthenticated

from .models import Estimate, Role, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.models import QuerySet
    from rest_framework.request import Request
    from rest_framework.views import APIView

    from .models import User

FOREMAN_EDITS = frozenset(("number", "amount", "comment", "status"))
FOREMAN_STATUSES = frozenset((Status.DRAFT, Status.REVIEW))


class HasRole(IsAuthenticated):
    """Managers and foremen; the default of every view."""

    message = "У вас нет роли на этом сайте."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return super().has_permission(request, view) and user_of(request).role is not None


class ManagersWrite(BasePermission):
    message = "Это могут только менеджеры."

    def has_permission(self, request: Request, view: APIView) -> bool:  # noqa: ARG002
        return request.method in SAFE_METHODS or is_manager(user_of(request))


class ForemenChangeUndecided(BasePermission):
    """What was approved or rejected stays as it is. Of what a foreman sees, which is his own: ``visible_estimates``."""

    message = "Смета согласована или отклонена: изменить её может только менеджер."

    def has_object_permission(self, request: Request, view: APIView, obj: Estimate) -> bool:  # noqa: ARG002
        return request.method != "PATCH" or is_manager(user_of(request)) or obj.status in FOREMAN_STATUSES


class ForemenDeleteDrafts(BasePermission):
    """Of what a foreman sees, too."""

    message = "Прораб может удалить только свой черновик."

    def has_object_permission(self, request: Request, view: APIView, obj: Estimate) -> bool:  # noqa: ARG002
        return request.method != "DELETE" or is_manager(user_of(request)) or obj.status == Status.DRAFT


def user_of(request: Request) -> User:
    """Return who a request is from, once a permission has seen to it that it is from somebody."""
    user: Any = request.user
    return user  # type: ignore[no-any-return]


def is_manager(user: User) -> bool:
    return user.role == Role.MANAGER


def visible_estimates(user: User) -> QuerySet[Estimate]:
    """Return a manager's estimates, which are all, or a foreman's, which are those assigned to him."""
    return Estimate.objects.all() if is_manager(user) else Estimate.objects.filter(foreman=user)


def refused_changes(user: User, values: Mapping[str, Any], estimate: Estimate | None) -> dict[str, str]:
    """Return errors by field for what a user may not write into an estimate; None: into a new one.

    A field that is sent as it was is no change: forms send all they have.
    """
    if is_manager(user):
        return {}
    changed = {name for name, value in values.items() if estimate is None or getattr(estimate, name) != value}
    allowed = FOREMAN_EDITS if estimate else FOREMAN_EDITS | {"project", "foreman"}
    refused = dict.fromkeys(sorted(changed - allowed), "Прораб не может изменить это поле.")
    if "status" in changed and values["status"] not in FOREMAN_STATUSES:
        refused["status"] = "Такой статус может поставить только менеджер."
    return refused
