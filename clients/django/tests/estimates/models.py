"""Estimates and projects, with what the events of the document need; and models as other sites have them."""

import uuid
from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AbstractUser, BaseUserManager, User
from django.db import models


class Project(models.Model):
    name = models.CharField(max_length=200)
    foreman = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="+")

    def __str__(self) -> str:
        return self.name


class Estimate(models.Model):
    number = models.CharField(max_length=200)
    project = models.ForeignKey(Project, models.CASCADE, null=True)
    foreman = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="estimates")
    creator = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    status = models.CharField(max_length=50, default="Черновик")
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.number


class Urgent(Estimate):
    """The same rows, by another class."""

    class Meta:
        proxy = True


class Note(models.Model):
    """Of which nobody is told."""

    text = models.TextField()

    def __str__(self) -> str:
        return self.text


class Order(models.Model):
    """Has its key before it is saved, and holds what can be changed in place."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    buyer = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    parts = models.JSONField(default=dict)
    amount = models.IntegerField(default=0)

    def __str__(self) -> str:
        return str(self.id)


class Parcel(models.Model):
    """Knows its user by a field that is no primary key."""

    recipient = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, related_name="+", to_field="username"
    )

    def __str__(self) -> str:
        return str(self.pk)


class Shift(models.Model):
    """Of which the foreman of its project is told."""

    project = models.ForeignKey(Project, models.CASCADE)

    def __str__(self) -> str:
        return str(self.pk)


class Delivery(models.Model):
    """Of which a region is told."""

    region = models.IntegerField()

    def __str__(self) -> str:
        return str(self.pk)


class Work(models.Model):
    """Has tables derived from it."""

    title = models.CharField(max_length=200)
    worker = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    project = models.ForeignKey(Project, models.CASCADE, null=True)

    def __str__(self) -> str:
        return self.title


class Digging(Work):
    """Speaks as a work does."""

    depth = models.IntegerField(default=1)


class Masonry(Work):
    """Speaks for itself."""

    bricks = models.IntegerField(default=1)


class Permit(models.Model):
    """Is no table: what is derived from it is registered by it."""

    holder = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return str(self.pk)


class CranePermit(Permit):
    tons = models.IntegerField(default=1)


class NightPermit(Permit):
    hours = models.IntegerField(default=8)


class NoisyNightPermit(NightPermit):
    """The same rows, by another class."""

    class Meta:
        proxy = True


class PersonalAccessTokenOfAPartnerCompany(models.Model):
    """A token with a long name."""

    code = models.CharField(max_length=20, primary_key=True)

    def __str__(self) -> str:
        return self.code


class Person(AbstractUser):
    """The user of a site that has its own: see swapped_settings.py."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)

    class Meta:
        swappable = "AUTH_USER_MODEL"


class Team(models.Model):
    """What a site may have in place of Django's groups."""

    name = models.CharField(max_length=200)
    colour = models.CharField(max_length=50, default="")

    def __str__(self) -> str:
        return self.name


class Member(AbstractUser):
    """A user whose groups know him by another name: see member_settings.py."""

    groups = models.ManyToManyField(Team, related_name="crew")  # type: ignore[assignment]

    class Meta:
        swappable = "AUTH_USER_MODEL"


class Loner(AbstractBaseUser):
    """A user that has no groups, but something else by that name: see loner_settings.py."""

    username = models.CharField(max_length=200, unique=True)
    is_active = models.BooleanField(default=True)
    objects: ClassVar = BaseUserManager()
    USERNAME_FIELD = "username"

    class Meta:
        swappable = "AUTH_USER_MODEL"

    @property
    def groups(self) -> list[str]:
        return ["manager"]


if settings.AUTH_USER_MODEL == "auth.User":

    class Foreman(User):
        """The same users, by another class."""

        class Meta:
            proxy = True

    class Employee(User):
        """A user with a table of its own beside the user's."""

        badge = models.CharField(max_length=20)
