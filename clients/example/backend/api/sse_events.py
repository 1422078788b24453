"""Who is told what: a manager of everything, a foreman of all projects and of the estimates assigned to him."""

from __future__ import annotations

from typing import Any, ClassVar

from sse_django import ModelEvents, register

from .actor import actor
from .models import Estimate, Project, Role


class SiteEvents(ModelEvents):
    """Events that say who did it, beside the fields of the model; null if no user did, but a command, say."""

    def payload(self, instance: Any) -> dict[str, Any]:
        who = actor()
        by = {"actor_id": who and who.pk, "actor_name": who and who.get_full_name()}
        return {**super().payload(instance), **by}


@register(Estimate)
class EstimateEvents(SiteEvents):
    roles: ClassVar = [Role.MANAGER.value]
    users: ClassVar = ["foreman"]
    fields: ClassVar = {
        "estimate_id": "pk",
        "estimate_number": "number",
        "project_id": "project_id",
        "project_name": "project.name",
        "foreman_id": "foreman_id",
        "foreman_name": "foreman.get_full_name",
        "creator_id": "creator_id",
        "creator_name": "creator.get_full_name",
        "status": "status",
        "created_at": "created_at",
    }


@register(Project)
class ProjectEvents(SiteEvents):
    events: ClassVar = ["created", "updated"]
    roles: ClassVar = [role.value for role in Role]  # foremen choose among all projects too
    fields: ClassVar = {"project_id": "pk", "project_name": "name"}
