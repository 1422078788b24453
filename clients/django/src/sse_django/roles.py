"""Which roles a user has: what ``SSE["ROLES"]`` names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.module_loading import import_string

from .conf import config
from .events import role_name

if TYPE_CHECKING:
    from collections.abc import Iterable


def group_names(user: Any) -> Iterable[str]:
    """Return the names of a user's groups, if the user model has any: the default."""
    groups = getattr(user, "groups", None)
    names: Iterable[str] = () if groups is None else groups.values_list("name", flat=True)
    return names


def roles_of(user: Any) -> list[str]:
    """Return the roles as sse is told them: by the function that the settings name, each at most 64 bytes."""
    return [role_name(name) for name in import_string(config().ROLES)(user)]
