"""Events that models send by themselves, and helpers for what Django saves without a signal."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import models, transaction
from django.db.models.signals import post_delete, post_save, pre_delete, pre_save

from .conf import config
from .events import Event, Operation, To, audience, each
from .manager import deliver_after_commit, fail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from django.db.models import Manager, Model, QuerySet

_BEFORE = "_sse_django_before"
_DELETED = "_sse_django_deleted"
_EVENTS = ("created", "updated", "deleted")
_BATCH = 500
"""Rows asked for at a time by the helpers: databases limit the parameters of a query."""


def follow(instance: Any, path: str) -> Any:
    """Return what a dotted path leads to: attributes, called if they can be; None behind a None."""
    for name in path.split("."):
        if instance is None:
            return None
        instance = getattr(instance, name)
        if callable(instance) and not isinstance(instance, models.Manager):
            instance = instance()
    return instance


class ModelEvents:
    """What a model says of itself. Register a subclass in ``sse_events.py`` of an app::

        @register(Estimate)
        class EstimateEvents(ModelEvents):
            fields = {"estimate_id": "pk", "number": "number", "project_name": "project.name"}
            roles = ["manager"]
            users = ["foreman"]

    gives ``estimate.created``, ``estimate.updated`` and ``estimate.deleted`` to all managers and to the foreman,
    and, when the foreman is another one, to him who was it before.
    """

    name: ClassVar[str] = ""
    """What stands before the dot; if empty, the model's name."""
    events: ClassVar[Sequence[str]] = _EVENTS
    fields: ClassVar[Mapping[str, str]] = {}
    """The payload: names, and the dotted path from the instance to each value. If empty: ``{"estimate_id": pk}``."""
    roles: ClassVar[Sequence[str]] = ()
    """The roles that get every event."""
    users: ClassVar[Sequence[str]] = ()
    """Dotted paths from the instance to a user, an id, or a manager of users (``members``)."""
    audience_fields: ClassVar[Sequence[str]] = ()
    """Fields on which ``audience`` depends, beside ``users``. If one changes, who was told before is told too."""

    inherited = False
    """It was registered for an abstract parent of the model."""

    def __init__(self, model: type[Model]) -> None:
        self.model = model
        self._check()
        self.label = self.name or model._meta.model_name or ""
        first_names = [path.split(".")[0] for path in self.users]
        self.depends = tuple(self._attnames([*first_names, *self.audience_fields]))
        self.paths = tuple(self._checked(path) for path in self.users)
        followed = [*self.paths, *(path.rpartition(".")[0] for path in self.fields.values())]
        self.related = tuple(dict.fromkeys(filter(None, map(self._related, followed))))

    def payload(self, instance: Any) -> Any:
        """Return the event's data: any JSON, with dates, decimals and UUIDs."""
        if not self.fields:
            return {f"{self.model._meta.model_name}_id": instance.pk}
        return {name: follow(instance, path) for name, path in self.fields.items()}

    def audience(self, instance: Any) -> To:
        """Return who may know of it."""
        found: list[Any] = []
        for path in self.paths:
            value = follow(instance, path)
            found.extend(value.all() if isinstance(value, models.Manager) else [value])
        return audience(users=found, roles=self.roles)

    def _check(self) -> None:
        """Find what would only show when the first event is lost."""
        for name in ("events", "roles", "users", "audience_fields"):
            if isinstance(getattr(self, name), str):
                self._wrong(f"{name} must be a list, not {getattr(self, name)!r}")
        for event in self.events:
            if event not in _EVENTS:
                self._wrong(f"events has {event!r}, and there are {', '.join(_EVENTS)}")
        for path in (*self.users, *self.fields.values(), *self.audience_fields):
            first = path.split(".")[0]
            if not hasattr(self.model, first):
                self._wrong(f"{self.model._meta.label} has no {first!r}")

    def _wrong(self, what: str) -> None:
        raise ImproperlyConfigured(f"{type(self).__name__}: {what}")

    def _column(self, name: str) -> Any:
        """Return the field of this name if it is a column of the model, else None."""
        try:
            field = self.model._meta.get_field(name)
        except FieldDoesNotExist:
            return None
        return field if field.concrete and not field.many_to_many else None

    def _attnames(self, names: Iterable[str]) -> Iterable[str]:
        columns = (self._column(name) for name in names)
        return dict.fromkeys(column.attname for column in columns if column is not None)

    def _checked(self, path: str) -> str:
        """Return ``foreman_id`` for ``foreman``: the id is all that is needed, and it is there."""
        column = self._column(path)
        if column is None or not column.is_relation:
            return path
        if not issubclass(column.related_model, get_user_model()):
            label = column.related_model._meta.label
            self._wrong(f"users has {path!r}, which leads to {label}: that is no user; perhaps '{path}.user'?")
        return str(column.attname) if column.target_field.primary_key else path

    def _related(self, path: str) -> str:
        """Return as much of a path as leads to rows of other tables, for ``prefetch_related``."""
        names: list[str] = []
        model: Any = self.model
        for name in path.split("."):
            field = model._meta.get_field(name) if name in {f.name for f in model._meta.get_fields()} else None
            if field is None or not field.concrete or not field.is_relation:
                break
            names.append(name)
            model = field.related_model
        return "__".join(names)

    def make(self, instance: Any, event: str, before: Any = None) -> Event | None:
        """Return the event; None if it is for nobody."""
        to = self.audience(instance)
        if before is not None:
            to |= self.audience(before)
        return Event(f"{self.label}.{event}", self.payload(instance), to) if to else None


registry: dict[type[Model], ModelEvents] = {}
_E = TypeVar("_E", bound=type[ModelEvents])
_M = TypeVar("_M", bound="Model")


def register(*registered: type[Model]) -> Callable[[_E], _E]:
    """Register a ``ModelEvents`` for these models and what is derived from them."""

    def wrap(cls: _E) -> _E:
        for model in registered:
            family = [one for one in apps.get_models() if issubclass(one, model)]
            if not model._meta.abstract:
                registry[model] = cls(model)
            for heir in family if model._meta.abstract else ():
                if heir._meta.concrete_model is heir and not _is_named(heir):
                    registry[heir] = cls(heir)
                    registry[heir].inherited = True
            for derived in family:
                _connect(derived)
        return cls

    return wrap


def _is_named(model: type[Model]) -> bool:
    """Whether it was registered itself: what an abstract parent is registered for is not asked then."""
    return model in registry and not registry[model].inherited


def _connect(derived: type[Model]) -> None:
    """Connect by class: a handler for all models would cost every other model its fast deletes."""
    key = "sse_django.models"  # once, also where both a model and its parent are registered
    if events_of(derived).depends:
        pre_save.connect(_pre_save, sender=derived, dispatch_uid=key)
    post_save.connect(_post_save, sender=derived, dispatch_uid=key)
    if derived._meta.concrete_model in registry:  # else its parent's row says so
        pre_delete.connect(_pre_delete, sender=derived, dispatch_uid=key)
        post_delete.connect(_post_delete, sender=derived, dispatch_uid=key)


def _speaks_for_itself(instance: Any, using: str) -> bool:
    """Whether the row is a part of one of a derived model that is registered, too."""
    model = type(instance)._meta.concrete_model
    return any(
        heir._meta.concrete_model is not model
        and issubclass(heir, model)
        and heir._base_manager.using(using).filter(pk=instance.pk).exists()
        for heir in registry
    )


def events_of(model: type[Model]) -> ModelEvents:
    """Return what is registered for a model or for what it is derived from."""
    for parent in model.__mro__:
        if parent in registry:
            return registry[parent]
    raise LookupError(f"no ModelEvents are registered for {model._meta.label}")


def _guarded(what: Callable[[], Any]) -> Any:
    """Return what() gives; a mistake in a site's payload or audience must not break its request."""
    try:
        return what()
    except Exception as error:
        fail(error)
        return None


def _snapshot(instance: Any) -> Any:
    """Return the instance as it was saved: it may be used for something else until the commit."""
    made = copy.copy(instance)
    mine = vars(made)
    mine.pop("_prefetched_objects_cache", None)
    for name in [field.attname for field in made._meta.concrete_fields]:
        if isinstance(mine.get(name), (dict, list)):
            mine[name] = copy.deepcopy(mine[name])
        elif hasattr(mine.get(name), "resolve_expression"):
            del mine[name]  # as if deferred: it is read when it is asked for
    return made


def _copied(instance: Any) -> Any:
    """Return a snapshot, or None if the instance holds what can't be copied."""
    return _guarded(lambda: _snapshot(instance))


def _as_stored(instances: Sequence[Any], update_fields: Any, using: str | None) -> None:
    """Undo what was changed in instances of one model and not saved, and fill in what the database computed."""
    model = type(instances[0])
    fields = [field for field in model._meta.concrete_fields if not field.primary_key]
    saved = {field.attname for field in fields if {field.name, field.attname} & {*update_fields}}
    computed = {name for name in saved if any(name not in vars(one) for one in instances)}  # by an expression
    names = [field.attname for field in fields if field.attname not in saved - computed]
    stored = _values(model, names, [one.pk for one in instances], using) if names else {}
    for one in instances:
        for name, value in zip(names, stored.get(_key(one), ()), strict=False):
            if name in vars(one) or name in computed:
                setattr(one, name, value)


def _earlier(events: ModelEvents, instance: Any, values: Sequence[Any]) -> Any:
    """Return the instance as it was for its audience, or None if that was the same."""
    if all(getattr(instance, name) == value for name, value in zip(events.depends, values, strict=True)):
        return None
    before = _snapshot(instance)
    for name, value in zip(events.depends, values, strict=True):
        setattr(before, name, value)  # a foreign key forgets the object it had cached
    return before


def _pre_save(sender: type[Model], instance: Any, *, raw: bool, using: str, update_fields: Any, **_: Any) -> None:
    vars(instance).pop(_BEFORE, None)
    _guarded(lambda: _remember(sender, instance, raw, using, update_fields))


def _remember(sender: type[Model], instance: Any, raw: bool, using: str, update_fields: Any) -> None:
    """Find out who was told of it before."""
    events = events_of(sender)
    if raw or not config().EVENTS or not events.depends or "updated" not in events.events:
        return
    key: Any = sender._meta.pk
    if instance.pk is None or (instance._state.adding and (key.has_default() or key.has_db_default())):
        return  # it can't be there yet
    if update_fields is not None and not any(
        sender._meta.get_field(name).attname in events.depends  # type: ignore[union-attr]
        for name in update_fields
    ):
        return
    rows = sender._base_manager.using(using).filter(pk=instance.pk)
    values = rows.values_list(*events.depends).first()
    if values is not None:
        vars(instance)[_BEFORE] = _earlier(events, instance, values)


def _post_save(
    sender: type[Model], instance: Any, *, created: bool, raw: bool, using: str, update_fields: Any, **_: Any
) -> None:
    before = vars(instance).pop(_BEFORE, None)
    event = "created" if created else "updated"
    if not raw:
        _guarded(lambda: _send(events_of(sender), event, [(instance, before)], using, update_fields))


def _pre_delete(sender: type[Model], instance: Any, *, using: str, **_: Any) -> None:
    """Make the event while what belongs to the instance is still there."""
    events = events_of(sender)

    def make() -> Event | None:
        return None if _speaks_for_itself(instance, using) else events.make(_snapshot(instance), "deleted")

    if config().EVENTS and "deleted" in events.events:
        vars(instance)[_DELETED] = _guarded(make)


def _post_delete(instance: Any, *, using: str, **_: Any) -> None:
    event = vars(instance).pop(_DELETED, None)
    if event is not None:
        deliver_after_commit(lambda: [event], using)


def _send(
    events: ModelEvents, event: str, pairs: Iterable[tuple[Any, Any]], using: str | None, update_fields: Any = None
) -> None:
    """Send after the commit: what a form saves into related tables belongs to the audience too.

    The instances are copied now, because they may be used for something else until then.
    """
    if event not in events.events or not config().EVENTS:
        return
    taken = ((_copied(instance), before) for instance, before in pairs)
    copies = [pair for pair in taken if pair[0] is not None]
    if not copies:
        return

    def make() -> list[Event | Operation]:
        if update_fields is not None:
            _as_stored([one for one, _ in copies], update_fields, using)
        if len(copies) > 1:
            models.prefetch_related_objects(
                [one for pair in copies for one in pair if one is not None], *events.related
            )
        made = (_guarded(lambda pair=pair: events.make(pair[0], event, pair[1])) for pair in copies)  # type: ignore[misc]
        return [one for one in made if one is not None]

    deliver_after_commit(make, using)


# ---- what Django saves without a signal ----


def notify(event: str, instances: Any, *, using: str | None = None) -> None:
    """Say of an instance, or of several of one model, that it was ``created``, ``updated`` or ``deleted``.

    It is said after the commit of the database that they come from, or of the one named by ``using``.
    """
    if event not in _EVENTS:
        raise ValueError(f"notify() takes one of {', '.join(_EVENTS)}, not {event!r}")
    changed = [instance for instance in each(instances) if instance.pk is not None]
    if changed:
        _send(events_of(type(changed[0])), event, [(one, None) for one in changed], using or changed[0]._state.db)


def bulk_create(
    objects: Manager[_M] | QuerySet[_M], instances: Iterable[_M], batch_size: int | None = None, **options: Any
) -> list[_M]:
    """``objects.bulk_create(instances, **options)``, and say so.

    Where the database does not tell the new ids (``ignore_conflicts``), nothing is said. Which rows
    ``update_conflicts`` has created and which it has changed, Django does not know: then call ``notify``.
    """
    if options.get("update_conflicts"):
        raise ValueError("with update_conflicts nobody knows what was created: call objects.bulk_create, and notify")
    events_of(objects.model)
    using = _written(objects)
    made = objects.bulk_create(instances, batch_size, **options)
    if not options.get("ignore_conflicts"):
        notify("created", made, using=using)
    return made


def bulk_update(
    objects: Manager[_M] | QuerySet[_M],
    instances: Iterable[_M],
    fields: Sequence[str],
    batch_size: int | None = None,
) -> int:
    """``objects.bulk_update(instances, fields)``, and say so, also to who was told of them before."""
    changed = list(instances)
    if not changed:
        return 0
    events, using = events_of(objects.model), _written(objects)
    with transaction.atomic(using=using):
        before = _values(objects.model, events.depends, [one.pk for one in changed], using)
        count = objects.bulk_update(changed, fields, batch_size)
        taken = (_copied(one) for one in changed if _key(one) in before)
        now = [one for one in taken if one is not None]
        if now:
            _as_stored(now, fields, using)
        _send(events, "updated", [(one, _earlier(events, one, before[_key(one)])) for one in now], using)
    return count


def update(rows: QuerySet[_M], **values: Any) -> int:
    """``rows.update(**values)``, and say so of each row, also to who was told of it before."""
    events, using = events_of(rows.model), _written(rows)
    with transaction.atomic(using=using):
        keys = list(rows.using(using).values_list("pk", flat=True))
        before = _values(rows.model, events.depends, keys, using)
        count = rows.update(**values) if keys else 0
        for some in _batches(keys if count > 0 else ()):
            now = rows.model._base_manager.using(using).filter(pk__in=some)
            _send(events, "updated", [(one, _earlier(events, one, before[one.pk])) for one in now], using)
    return count


def _written(objects: Any) -> str:
    """Return the database that these rows are written to; with a replica they are read from another."""
    rows = objects.all()
    rows._for_write = True
    return str(rows.db)


def _batches(keys: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (keys[i : i + _BATCH] for i in range(0, len(keys), _BATCH))


def _key(instance: Any) -> Any:
    """Return the pk as the database gives it, which may have been assigned as a text."""
    return instance._meta.pk.to_python(instance.pk)


def _values(model: Any, names: Sequence[str], keys: Sequence[Any], using: str | None) -> dict[Any, Sequence[Any]]:
    """Return these fields by pk, as they are in the database now."""
    rows = model._base_manager.using(using)
    return {row[0]: row[1:] for some in _batches(keys) for row in rows.filter(pk__in=some).values_list("pk", *names)}
