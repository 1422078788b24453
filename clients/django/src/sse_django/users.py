"""What happens to users, tokens and groups takes effect on open streams at once."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from .conf import config
from .events import Operation, SSEError, each, user_id
from .manager import SSEManager, deliver_after_commit, fail
from .roles import groups_field

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import Model

_LEFT = "_sse_django_left"
_NAMED = "_sse_django_named"
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


def session_sid(session: Any) -> str:
    """Return the sid of the streams that tickets of a Django session opened.

    It is put into the session at the login, because the session's key may change. A session that is older than this
    app has none, and its key must do.
    """
    if session is None or not session.session_key:
        return ""
    return f"session:{session.get(_SID) or _digest(session.session_key)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def roles_changed(users: Any, using: str | None = None) -> None:
    """Have sse learn the roles of these users anew: instances or ids, one or many.

    Call it where ``SSE["ROLES"]`` looks at more than groups. A ticket can't be asked about again, so with tickets the
    streams end, and come back with new ones.
    """
    _operate("revoke" if config().TICKET_KEY else "refresh", users, using)


def connect() -> None:
    """Connect the signals; called once, when the apps are ready."""
    user_model = get_user_model()
    for model in _derived(user_model):
        post_save.connect(_user_saved, sender=model, dispatch_uid="sse_django.user_saved")
        if model._meta.concrete_model is user_model:
            post_delete.connect(_user_deleted, sender=model, dispatch_uid="sse_django.user_deleted")
    user_logged_in.connect(_logged_in, dispatch_uid="sse_django.logged_in")
    user_logged_out.connect(_logged_out, dispatch_uid="sse_django.logged_out")
    groups = groups_field(user_model)
    if groups is not None:
        m2m_changed.connect(_groups_changed, sender=groups.remote_field.through, dispatch_uid="sse_django.groups")
        group = groups.related_model
        pre_save.connect(_group_named, sender=group, dispatch_uid="sse_django.group_named")
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
    """End the streams of who was deactivated, or has a new password: that ends the sessions, too."""

    def saved(name: str) -> bool:
        return update_fields is None or name in update_fields

    deactivated = saved("is_active") and not instance.is_active
    new_password = saved("password") and getattr(instance, "_password", None) is not None  # Django keeps it for this
    if config().WATCH and not created and (deactivated or (new_password and config().TICKET_KEY)):
        _operate("revoke", [instance.pk], using)


def _user_deleted(instance: Any, *, using: str, **_: Any) -> None:
    if config().WATCH:
        _operate("revoke", [instance.pk], using)


def _token_deleted(instance: Model, *, using: str, **_: Any) -> None:
    if config().WATCH:
        operation = Operation("revoke", sid=token_sid(instance))
        deliver_after_commit(lambda: [operation], using)


def _logged_in(*, request: Any, **_: Any) -> None:
    session = getattr(request, "session", None)
    if config().TICKET_KEY and session is not None and _SID not in session:
        session[_SID] = secrets.token_hex(12)


def _logged_out(*, request: Any, **_: Any) -> None:
    sid = session_sid(getattr(request, "session", None))
    if config().WATCH and config().TICKET_KEY and sid:
        SSEManager().revoke(sid=sid)


def _operate(op: str, users: Iterable[Any], using: str | None) -> None:
    operations = []
    for user in each(users):
        try:
            operations.append(Operation(op, user=user_id(user)))
        except SSEError as error:
            fail(error)
    deliver_after_commit(lambda: operations, using)


def _groups_changed(instance: Any, *, action: str, reverse: bool, pk_set: Any, using: str, **_: Any) -> None:
    if not config().WATCH:
        return
    if action == "pre_clear" and reverse:
        vars(instance)[_LEFT] = list(_members(instance, using))
    elif action == "post_clear" and reverse:
        roles_changed(vars(instance).pop(_LEFT, []), using)
    elif action in ("post_add", "post_remove") and pk_set:
        roles_changed(pk_set if reverse else [instance], using)
    elif action == "post_clear":
        roles_changed([instance], using)


def _members(group: Any, using: str | None) -> Any:
    rows: Any = get_user_model()._base_manager
    return rows.using(using).filter(groups=group.pk).values_list("pk", flat=True)


def _group_named(sender: type[Model], instance: Any, *, using: str, **_: Any) -> None:
    """Remember its name: only another one is news to sse, and it may have many members."""
    rows = sender._base_manager.using(using).filter(pk=instance.pk)
    asks = config().WATCH and instance.pk is not None
    vars(instance)[_NAMED] = rows.values_list("name", flat=True).first() if asks else None


def _group_saved(instance: Any, *, using: str, update_fields: Any, **_: Any) -> None:
    before = vars(instance).pop(_NAMED, None)
    saved = update_fields is None or "name" in update_fields
    if before is not None and saved and before != instance.name:
        roles_changed(_members(instance, using), using)


def _group_leaves(instance: Any, *, using: str, **_: Any) -> None:
    if config().WATCH:
        vars(instance)[_LEFT] = list(_members(instance, using))


def _group_deleted(instance: Any, *, using: str, **_: Any) -> None:
    roles_changed(vars(instance).pop(_LEFT, []), using)
