"""Which roles a user has: what ``SSE["ROLES"]`` names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.module_loading import import_string

from .conf import config
from .events import role_name

if TYPE_CHECKING:
    from collections.abc import Iterable


def groups_field(user_model: Any) -> Any:
    """Return the ``groups`` of a user model, or None if it has none, or something else by that name."""
    return next((one for one in user_model._meta.many_to_many if one.name == "groups"), None)


def group_names(user: Any) -> Iterable[str]:
    """Return the names of a user's groups, if the user model has any: the default."""
    if getattr(user, "_meta", None) is None or groups_field(user) is None:
        return ()
    names: Iterable[str] = user.groups.values_list("name", flat=True)
    return names


def roles_of(user: Any) -> list[str]:
    """Return the roles as sse is told them: by the function that the settings name, each at most 64 bytes."""
    names, known = import_string(config().ROLES)(user), config().ROLE_NAMES
    return [role_name(name) for name in names if not known or name in known]
