"""The admin: users, projects and estimates. What is done there is audited, and told to open browsers, as in the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from .audit import audit
from .models import Estimate, Project, User

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

admin.site.site_header = admin.site.site_title = "Сметы"


class Audited(admin.ModelAdmin):  # type: ignore[type-arg]
    """Writes the same lines as the API, where the admin keeps its own history."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        audit("created", request.user, obj)  # type: ignore[arg-type]
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        audit("updated", request.user, obj)  # type: ignore[arg-type]
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        for obj in queryset:
            audit("deleted", request.user, obj)  # type: ignore[arg-type]
        return super().log_deletions(request, queryset)


@admin.register(User)
class SiteUserAdmin(Audited, UserAdmin):  # type: ignore[type-arg]
    list_display = ("username", "get_full_name", "is_active", "is_staff")


@admin.register(Project)
class ProjectAdmin(Audited):
    list_display = ("name", "address", "updated_at")
    search_fields = ("name", "address")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        return False  # there is no event project.deleted: open pages would go on showing it


@admin.register(Estimate)
class EstimateAdmin(Audited):
    list_display = ("number", "project", "foreman", "status", "amount", "updated_at")
    list_filter = ("status", "project", "foreman")
    list_select_related = ("project", "foreman")
    search_fields = ("number", "comment")
    readonly_fields = ("creator", "created_at", "updated_at")

    def save_model(self, request: HttpRequest, obj: Estimate, form: Any, change: bool) -> None:
        if not change:
            obj.creator = request.user  # type: ignore[assignment]
        super().save_model(request, obj, form, change)
