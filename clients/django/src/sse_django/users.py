"""What happens to users, tokens and groups takes effect on open streams at once."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete

from .conf import config
from .events import Operation, SSEError, user_id
from .manager import SSEManager, deliver_after_commit, fail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import Model

_LEFT = "_sse_django_left"
_SID = "_sse_django"


def token_sid(token: Any) -> str:
    """Return the sid of the streams that a token opened: by it they can be ended alone.

    A row of a token model is known by a hash of its key, which may be the token itself; a JWT by its ``jti``.
    """
    meta = getattr(token, "_meta", None)
    if meta is not None:
        meta = meta.concrete_model._meta  # DRF's TokenProxy calls something else its pk
        return f"{meta.label_lower[-39:]}:{_digest(str(getattr(token, meta.pk.attname)))}"  # sse takes 64 bytes
    jti = token.get("jti") if hasattr(token, "get") else None
    return f"jti:{_digest(str(jti))}" if jti else ""


def session_sid(session: Any, *, make: bool = False) -> str:
    """Return the sid of the streams that tickets of a Django session opened.

    It is kept in the session: the session's key changes with the password, and at a login.
    """
    if session is None or not session.session_key:
        return ""
    if make and _SID not in session:
        session[_SID] = secrets.token_hex(12)
    sid = session.get(_SID)
    return f"session:{sid}" if sid else ""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def roles_changed(users: Iterable[Any], using: str | None = None) -> None:
    """Have sse learn the roles of these users anew. Call it where ``SSE["ROLES"]`` looks at more than groups.

    A ticket can't be asked about again, so with tickets the streams end, and come back with new ones.
    """
    _operate("revoke" if config().TICKET_KEY else "refresh", users, using)


def connect() -> None:
    """Connect the signals; called once, when the apps are ready."""
    user_model = get_user_model()
    for model in _derived(user_model):
        post_save.connect(_user_saved, sender=model, dispatch_uid="sse_django.user_saved")
        if model._meta.concrete_model is user_model:
            post_delete.connect(_user_deleted, sender=model, dispatch_uid="sse_django.user_deleted")
    user_logged_out.connect(_logged_out, dispatch_uid="sse_django.logged_out")
    groups = getattr(user_model, "groups", None)
    if groups is not None:
        m2m_changed.connect(_groups_changed, sender=groups.through, dispatch_uid="sse_django.groups")
        group = groups.rel.model
        post_save.connect(_group_saved, sender=group, dispatch_uid="sse_django.group_saved")
        pre_delete.connect(_group_leaves, sender=group, dispatch_uid="sse_django.group_leaves")
        post_delete.connect(_group_deleted, sender=group, dispatch_uid="sse_django.group_deleted")
    labels = config().TOKEN_MODELS
    for label in labels if isinstance(labels, (list, tuple)) else ():
        try:
            model = apps.get_model(label)
        except (LookupError, ValueError, AttributeError):
            continue  # of an app that is not installed; else the system checks say so
        post_delete.connect(_token_deleted, sender=model, dispatch_uid="sse_django.token")


def _derived(model: Any) -> list[Any]:
    """Return a model and what is derived from it: a signal names the class that was used."""
    return [model, *(one for one in apps.get_models() if issubclass(one, model) and one is not model)]


def _user_saved(instance: Any, *, created: bool, using: str, update_fields: Any, **_: Any) -> None:
    looked_at = update_fields is None or "is_active" in update_fields
    if config().WATCH and not created and looked_at and not instance.is_active:
        _operate("revoke", [instance.pk], using)


def _user_deleted(instance: Any, *, using: str, **_: Any) -> None:
    if config().WATCH:
        _operate("revoke", [instance.pk], using)


def _token_deleted(instance: Model, *, using: str, **_: Any) -> None:
    if config().WATCH:
        operation = Operation("revoke", sid=token_sid(instance))
        deliver_after_commit(lambda: [operation], using)


def _logged_out(*, request: Any, **_: Any) -> None:
    sid = session_sid(getattr(request, "session", None))
    if config().WATCH and config().TICKET_KEY and sid:
        SSEManager().revoke(sid=sid)


def _operate(op: str, users: Iterable[Any], using: str | None) -> None:
    operations = []
    for user in users:
        try:
            operations.append(Operation(op, user=user_id(user)))
        except SSEError as error:
            fail(error)
    deliver_after_commit(lambda: operations, using)


def _groups_changed(instance: Any, *, action: str, reverse: bool, pk_set: Any, using: str, **_: Any) -> None:
    if not config().WATCH:
        return
    if action == "pre_clear" and reverse:
        _members(instance)
    elif action == "post_clear" and reverse:
        roles_changed(vars(instance).pop(_LEFT, []), using)
    elif action in ("post_add", "post_remove") and pk_set:
        roles_changed(pk_set if reverse else [instance], using)
    elif action == "post_clear":
        roles_changed([instance], using)


def _members(group: Any) -> None:
    """Remember who is in a group that is about to lose them."""
    vars(group)[_LEFT] = list(group.user_set.values_list("pk", flat=True))


def _group_saved(instance: Any, *, created: bool, using: str, **_: Any) -> None:
    if config().WATCH and not created:
        roles_changed(instance.user_set.values_list("pk", flat=True), using)


def _group_leaves(instance: Any, **_: Any) -> None:
    if config().WATCH:
        _members(instance)


def _group_deleted(instance: Any, *, using: str, **_: Any) -> None:
    roles_changed(vars(instance).pop(_LEFT, []), using)
