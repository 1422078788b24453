"""``manage.py seed_demo``: people to log in as, and something to look at."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import Group
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction
from django.utils import timezone

from api.models import Estimate, Project, Role, Status, User

PASSWORD = "demo-smeta"
PEOPLE = (
    ("manager1", "Анна", "Соколова", Role.MANAGER),
    ("manager2", "Павел", "Орлов", Role.MANAGER),
    ("foreman1", "Иван", "Петров", Role.FOREMAN),
    ("foreman2", "Сергей", "Кузнецов", Role.FOREMAN),
)
PROJECTS = (
    ("ЖК «Северный парк»", "Санкт-Петербург, пр. Энгельса, 154"),
    ("Школа № 12", "Тверь, ул. Советская, 31"),
    ("Склад «Логистик-Юг»", "Краснодар, ул. Уральская, 97"),
)
# project, days ago, creator, foreman, status, amount, comment
ESTIMATES = (
    (0, 24, "foreman1", "foreman1", Status.APPROVED, "1284500.00", "Фундамент, секция 1"),
    (0, 17, "foreman1", "foreman1", Status.APPROVED, "2310000.00", "Монолит, этажи 1-3"),
    (0, 9, "manager1", "foreman2", Status.REVIEW, "486200.50", "Окна, секция 1"),
    (0, 3, "foreman1", "foreman1", Status.DRAFT, "97300.00", "Временное электроснабжение"),
    (0, 1, "manager2", None, Status.DRAFT, "0.00", "Благоустройство: назначить прораба"),
    (1, 20, "foreman2", "foreman2", Status.APPROVED, "742000.00", "Кровля"),
    (1, 12, "foreman2", "foreman2", Status.REJECTED, "318900.00", "Спортзал: пересчитать полы"),
    (1, 6, "foreman2", "foreman2", Status.REVIEW, "295400.00", "Спортзал, новая редакция"),
    (1, 2, "foreman2", "foreman2", Status.DRAFT, "64150.00", ""),
    (2, 15, "manager1", "foreman1", Status.APPROVED, "1905000.00", "Металлоконструкции"),
    (2, 8, "foreman1", "foreman1", Status.REVIEW, "530750.00", "Полы с топпингом"),
    (2, 0, "foreman1", "foreman1", Status.DRAFT, "12500.00", "Доставка"),
)


class Command(BaseCommand):
    help = (
        "Makes the demo's users, and, in an empty site, its projects and estimates. Run again, it puts the users right."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--password", default=PASSWORD, help=f"of all users ({PASSWORD})")

    @transaction.atomic
    def handle(self, *, password: str, **_: Any) -> None:
        users = {person[0]: self._user(password, *person) for person in PEOPLE}
        if not Project.objects.exists():
            self._site(users)
        for username, first_name, last_name, role in PEOPLE:
            self.stdout.write(f"{username:10} {first_name} {last_name}, {role.label}")

    def _user(self, password: str, username: str, first_name: str, last_name: str, role: Role) -> User:
        user, _ = User.objects.get_or_create(username=username)
        user.first_name, user.last_name, user.is_active = first_name, last_name, True
        if not user.check_password(password):
            user.set_password(password)
        user.save()
        if user.role != role:
            user.groups.set([Group.objects.get(name=role)])
        return user

    def _site(self, users: dict[str, User]) -> None:
        """Make everything without a signal: nobody needs to be told."""
        projects = Project.objects.bulk_create(Project(name=name, address=address) for name, address in PROJECTS)
        now = timezone.now()
        Estimate.objects.bulk_create(
            Estimate(
                number=f"Смета_{timezone.localdate(now - timedelta(days=days))}_{projects[project].name}",
                project=projects[project],
                creator=users[creator],
                foreman=users[foreman] if foreman else None,
                status=status,
                amount=Decimal(amount),
                comment=comment,
                created_at=now - timedelta(days=days),
            )
            for project, days, creator, foreman, status, amount, comment in ESTIMATES
        )
