"""What is sent: an event, who it is for, and what went wrong if it was not."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import CharField, UUIDField
from django.db.models.manager import BaseManager

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME_MAX = 64
"""Bytes of an event's name, a user id, a role."""
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z")
_REFUSED = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
"""What sse takes in no user id and no role: control characters, and what UTF-8 can't say."""


class SSEError(Exception):
    """An event could not be sent, or was refused. ``reason`` is the word it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.unsent = 0
        """Of several events, how many were not sent; 0: none was."""


@dataclass(frozen=True)
class Ack:
    """What sse answered.

    ``id`` is the event's, ``matched`` the number of streams it is written to. ``stored`` is False if sse has a
    journal and the event is not in it, because its disk is full, say.
    """

    id: str
    matched: int
    stored: bool = True


@dataclass(frozen=True)
class To:
    """Who an event is for: these users, whoever has one of these roles, or all; but not those excepted."""

    users: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    everybody: bool = False
    excepted: tuple[str, ...] = ()

    def __or__(self, other: To) -> To:
        return To(
            tuple(dict.fromkeys(self.users + other.users)),
            tuple(dict.fromkeys(self.roles + other.roles)),
            self.everybody or other.everybody,
            tuple(
                name
                for name in dict.fromkeys(self.excepted + other.excepted)
                if self._leaves_out(name) and other._leaves_out(name)
            ),
        )

    def _leaves_out(self, user: str) -> bool:
        return user in self.excepted or not (self.everybody or self.roles or user in self.users)

    def __bool__(self) -> bool:
        return self.everybody or bool(self.users) or bool(self.roles)


def user_id(user: Any) -> str:
    """Return the id by which sse knows a user, who is given as an instance or by the id.

    An instance of another model is an error: its id would be that of some user. Ids are taken as the user model has
    them: ``"7"`` is 7, and a UUID may be written in any way.
    """
    model: Any = get_user_model()
    meta = getattr(user, "_meta", None)  # simplejwt's TokenUser has None
    if meta is not None and not isinstance(user, model):
        raise SSEError("audience", f"not a user: {user!r} is a {meta.label}")
    key = getattr(user, "pk", user) if meta is None else getattr(user, model._meta.pk.attname)
    if isinstance(key, bool) or not isinstance(key, (int, str, UUID)):
        raise SSEError("audience", f"not a user, and no id of one: {user!r}")
    if isinstance(key, UUID) and not isinstance(model._meta.pk, (UUIDField, CharField)):
        raise SSEError("audience", f"not the id of a user: {user!r}")  # int(UUID) is some number
    if meta is not None or not hasattr(user, "pk"):  # else it is of no model, as the users of simplejwt
        try:
            key = model._meta.pk.to_python(key)
        except ValidationError as error:
            raise SSEError("audience", f"not the id of a user: {user!r}") from error
    text = str(key)
    if _REFUSED.search(text) or not 1 <= len(text.encode()) <= NAME_MAX:
        raise SSEError("audience", f"not a user: {user!r}")
    return text


def role_name(role: Any) -> str:
    """Return the role by which sse knows a group or its name: if sse would not take that, most of it and a hash."""
    name = getattr(role, "name", role)
    if not isinstance(name, str) or not name:
        raise SSEError("audience", f"not a role: {role!r}")
    plain = _REFUSED.sub("?", name)
    if plain == name and len(name.encode()) <= NAME_MAX:
        return name
    mark = "~" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
    return plain.encode()[: NAME_MAX - len(mark)].decode(errors="ignore") + mark


def each(value: Any) -> Iterable[Any]:
    """Return one thing or several, as an iterable of things."""
    if isinstance(value, BaseManager):
        return value.all()
    one = isinstance(value, (str, bytes)) or hasattr(value, "pk") or not hasattr(value, "__iter__")
    return (value,) if one else value


def audience(users: Any = (), roles: Any = (), *, everybody: bool = False, excepted: Any = ()) -> To:
    """Return an audience: users (instances or ids), roles (groups or names), users left out. ``None`` is nobody."""
    return To(
        tuple(dict.fromkeys(user_id(user) for user in each(users) if user is not None)),
        tuple(dict.fromkeys(role_name(role) for role in each(roles) if role is not None)),
        everybody,
        tuple(dict.fromkeys(user_id(user) for user in each(excepted) if user is not None)),
    )


@dataclass(frozen=True)
class Event:
    """An event, ready to be sent."""

    name: str
    data: Any
    to: To

    @property
    def line(self) -> bytes:
        """The line of JSON that sse takes.

        It is kept, because the data may be changed before it is sent. Before Python 3.12 cached_property has a lock,
        which a forked child would find held for ever if another thread had it.
        """
        made: bytes | None = vars(self).get("_line")
        if made is None:
            made = vars(self)["_line"] = self._what() + self._whom()
        return made

    def split(self, most: int) -> list[Event]:
        """Return events of at most so many bytes, for a part of the users each.

        One that is for roles too stays as it is: who has a role and is a user of another part would get it twice.
        """
        users = self.to.users
        if len(self.line) <= most or self.to.everybody or self.to.roles or len(users) < 2 or len(self._what()) > most:
            return [self]
        parts: list[Event] = []
        for some in (users[: len(users) // 2], users[len(users) // 2 :]):
            part = Event(self.name, self.data, replace(self.to, users=some))
            vars(part)["_said"] = self._what()
            parts += part.split(most)
        return parts

    def _what(self) -> bytes:
        said: bytes | None = vars(self).get("_said")
        if said is None:
            if not isinstance(self.name, str) or not _NAME.match(self.name):
                raise SSEError("name", f"an event's name is 1 to 64 of A-Z a-z 0-9 _ . : -, not {self.name!r}")
            said = vars(self)["_said"] = dumps({"event": self.name, "data": self.data})[:-1]
        return said

    def _whom(self) -> bytes:
        to: Any = "all"
        if not self.to.everybody:
            to = {key: list(names) for key, names in (("users", self.to.users), ("roles", self.to.roles)) if names}
        whom: dict[str, Any] = {"to": to}
        if self.to.excepted:
            whom["except"] = {"users": list(self.to.excepted)}
        return b"," + dumps(whom)[1:]


@dataclass(frozen=True)
class Operation:
    """What is asked of sse itself: ``revoke``, ``refresh`` or ``ping``."""

    op: str
    user: str = ""
    sid: str = ""

    @property
    def line(self) -> bytes:
        """The line of JSON that sse takes."""
        pairs = (("op", self.op), ("user", self.user), ("sid", self.sid))
        return dumps({key: value for key, value in pairs if value})


def dumps(value: Any) -> bytes:
    """Return JSON in one line, with Django's forms of dates, decimals and UUIDs."""
    try:
        text = json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON can write it, UTF-8 can't
        return json.dumps(value, cls=DjangoJSONEncoder, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise SSEError("data", f"the data is not JSON: {error}") from error
