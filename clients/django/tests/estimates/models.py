"""Estimates and projects, with what the events of the document need; and models as other sites have them."""

import uuid

from django.conf import settings
from django.contrib.auth.models import AbstractUser, User
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

    def __str__(self) -> str:
        return self.title


class Digging(Work):
    """Speaks as a work does."""

    depth = models.IntegerField(default=1)


class Masonry(Work):
    """Speaks for itself."""

    bricks = models.IntegerField(default=1)


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


if settings.AUTH_USER_MODEL == "auth.User":

    class Foreman(User):
        """The same users, by another class."""

        class Meta:
            proxy = True

    class Employee(User):
        """A user with a table of its own beside the user's."""

        badge = models.CharField(max_length=20)
