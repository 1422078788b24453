"""JSON of users, projects and estimates, and what may be written into them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import BigIntegerField
from rest_framework import serializers

from .models import Estimate, Project, Role, Status, User
from .permissions import is_manager, refused_changes, user_of


class LoginSerializer(serializers.Serializer[Any]):
    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=4096, trim_whitespace=False)


class UserSerializer(serializers.ModelSerializer[User]):
    name = serializers.CharField(source="get_full_name")
    role_name = serializers.CharField(source="role.label", default=None)

    class Meta:
        model = User
        fields = ("id", "username", "name", "role", "role_name")
        read_only_fields = fields


class ProjectSerializer(serializers.ModelSerializer[Project]):
    estimates_count = serializers.IntegerField(read_only=True, default=0)

    class Meta:
        model = Project
        fields = ("id", "name", "address", "estimates_count", "created_at", "updated_at")
        read_only_fields = ("created_at", "updated_at")


class EstimateSerializer(serializers.ModelSerializer[Estimate]):
    project_name = serializers.CharField(source="project.name", read_only=True)
    foreman = serializers.PrimaryKeyRelatedField(
        queryset=User.objects.filter(groups__name=Role.FOREMAN), allow_null=True, required=False
    )
    foreman_name = serializers.CharField(source="foreman.get_full_name", read_only=True, default=None)
    creator_name = serializers.CharField(source="creator.get_full_name", read_only=True)

    class Meta:
        model = Estimate
        fields = (
            "id",
            "number",
            "project",
            "project_name",
            "foreman",
            "foreman_name",
            "creator",
            "creator_name",
            "status",
            "amount",
            "comment",
            "created_at",
            "updated_at",
        )
        read_only_fields = ("creator", "created_at", "updated_at")

    def to_internal_value(self, data: Any) -> Any:
        user = user_of(self.context["request"])
        if self.instance is None and isinstance(data, Mapping) and not is_manager(user):
            data = {**data, "foreman": user.pk}  # whatever he sends, it is his
        return super().to_internal_value(data)

    def validate_foreman(self, foreman: User | None) -> User | None:
        unchanged = self.instance is not None and self.instance.foreman == foreman
        if foreman is not None and not foreman.is_active and not unchanged:
            raise serializers.ValidationError("Этот прораб больше не работает.")
        return foreman

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        refused = refused_changes(user_of(self.context["request"]), attrs, self.instance)
        if refused:
            raise serializers.ValidationError(refused)
        return attrs


class EstimateFilter(serializers.Serializer[Any]):
    """The query of the list: ``?project=1&status=Черновик``; what is empty filters nothing."""

    project = serializers.IntegerField(required=False, min_value=0, max_value=BigIntegerField.MAX_BIGINT)
    status = serializers.ChoiceField(Status.choices, required=False)

    def to_internal_value(self, data: Any) -> Any:
        return super().to_internal_value({name: value for name, value in data.items() if value})


class UserFilter(serializers.Serializer[Any]):
    role = serializers.ChoiceField(Role.choices, required=False)
