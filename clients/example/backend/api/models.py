"""Users and their roles, projects, estimates."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone


class Role(models.TextChoices):
    """The names of the groups that the site knows. A user's role is the first of these whose group he is in."""

    MANAGER = "manager", "Менеджер"
    FOREMAN = "foreman", "Прораб"


class User(AbstractUser):
    @property
    def role(self) -> Role | None:
        """The role, or None; the groups are asked for once an instance, or prefetched."""
        models.prefetch_related_objects([self], "groups")
        names = {group.name for group in self.groups.all()}
        return next((role for role in Role if role.value in names), None)

    def get_full_name(self) -> str:
        return super().get_full_name() or self.username


class Project(models.Model):
    name = models.CharField("название", max_length=120)
    address = models.CharField("адрес", max_length=200, blank=True)
    created_at = models.DateTimeField("создан", default=timezone.now, editable=False)
    updated_at = models.DateTimeField("изменён", auto_now=True)

    class Meta:
        ordering = ("name", "pk")
        verbose_name = "проект"
        verbose_name_plural = "проекты"

    def __str__(self) -> str:
        return self.name


class Status(models.TextChoices):
    DRAFT = "Черновик", "Черновик"
    REVIEW = "На согласовании", "На согласовании"
    APPROVED = "Согласована", "Согласована"
    REJECTED = "Отклонена", "Отклонена"


class Estimate(models.Model):
    number = models.CharField("номер", max_length=200, blank=True, help_text="Если не указан: Смета_дата_проект")
    project = models.ForeignKey(Project, models.PROTECT, related_name="estimates", verbose_name="проект")
    foreman = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        related_name="estimates",
        verbose_name="прораб",
        null=True,
        blank=True,
        limit_choices_to={"groups__name": Role.FOREMAN},
    )
    creator = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", verbose_name="создал", editable=False
    )
    status = models.CharField("статус", max_length=20, choices=Status.choices, default=Status.DRAFT)
    amount = models.DecimalField(
        "сумма", max_digits=14, decimal_places=2, default=Decimal("0.00"), validators=[MinValueValidator(0)]
    )
    comment = models.TextField("комментарий", max_length=4000, blank=True)
    created_at = models.DateTimeField("создана", default=timezone.now, editable=False)
    updated_at = models.DateTimeField("изменена", auto_now=True)

    class Meta:
        ordering = ("-created_at", "-pk")
        verbose_name = "смета"
        verbose_name_plural = "сметы"

    def __str__(self) -> str:
        return self.number

    def save(self, **options: Any) -> None:
        if not self.number:
            self.number = f"Смета_{timezone.localdate(self.created_at)}_{self.project.name}"
        super().save(**options)
