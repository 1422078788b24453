"""Tells sse what happened in a Django site, so that every open browser shows it at once."""

from .backends import outbox
from .events import Ack, Event, Operation, SSEError, To, audience, role_name
from .manager import SSEManager
from .model_events import ModelEvents, bulk_create, bulk_update, notify, register, update
from .users import roles_changed

__all__ = [
    "Ack",
    "Event",
    "ModelEvents",
    "Operation",
    "SSEError",
    "SSEManager",
    "To",
    "audience",
    "bulk_create",
    "bulk_update",
    "notify",
    "outbox",
    "register",
    "role_name",
    "roles_changed",
    "update",
]
