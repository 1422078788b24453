"""Who is told what: a manager of everything, a foreman of what is assigned to him."""

from typing import ClassVar

from estimates.models import Delivery, Estimate, Masonry, Order, Parcel, Permit, Project, Shift, Work
from sse_django import ModelEvents, To, audience, register


@register(Estimate)
class EstimateEvents(ModelEvents):
    roles: ClassVar = ["manager"]
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
class ProjectEvents(ModelEvents):
    events: ClassVar = ["created", "updated"]
    roles: ClassVar = ["manager"]
    users: ClassVar = ["foreman", "members"]
    fields: ClassVar = {"project_id": "pk", "project_name": "name"}


@register(Order)
class OrderEvents(ModelEvents):
    users: ClassVar = ["buyer"]
    fields: ClassVar = {"order": "pk", "parts": "parts", "amount": "amount"}


@register(Parcel)
class ParcelEvents(ModelEvents):
    users: ClassVar = ["recipient"]


@register(Shift)
class ShiftEvents(ModelEvents):
    name = "work-shift"
    users: ClassVar = ["project.foreman"]


@register(Delivery)
class DeliveryEvents(ModelEvents):
    audience_fields: ClassVar = ["region"]

    def audience(self, instance: Delivery) -> To:
        return audience(roles=[f"region-{instance.region}"])


@register(Work)
class WorkEvents(ModelEvents):
    users: ClassVar = ["worker"]
    fields: ClassVar = {"work": "pk", "title": "title"}


@register(Masonry)
class MasonryEvents(ModelEvents):
    roles: ClassVar = ["mason"]
    fields: ClassVar = {"masonry": "pk", "bricks": "bricks"}


@register(Permit)
class PermitEvents(ModelEvents):
    users: ClassVar = ["holder"]
