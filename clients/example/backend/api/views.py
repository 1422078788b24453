"""The API: see the table in ../README.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib.auth import authenticate
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import transaction
from django.db.models import Count, Model, Q
from django.http import Http404
from rest_framework import mixins, status
from rest_framework.authtoken.models import Token
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet, ModelViewSet

from .audit import audit
from .models import Estimate, Project, Role, User
from .permissions import (
    ForemenChangeUndecided,
    ForemenDeleteDrafts,
    HasRole,
    ManagersWrite,
    is_manager,
    user_of,
    visible_estimates,
)
from .serializers import (
    EstimateFilter,
    EstimateSerializer,
    LoginSerializer,
    ProjectSerializer,
    UserFilter,
    UserSerializer,
)

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from rest_framework.request import Request
    from rest_framework.serializers import BaseSerializer

M = TypeVar("M", bound=Model)


class LoginView(APIView):
    """``POST login/``: a token and the user. DRF has one token a user: all his browsers share it."""

    authentication_classes = ()  # an old token in the head must not keep him out
    permission_classes = (AllowAny,)

    def post(self, request: Request) -> Response:
        given = LoginSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        user = authenticate(request._request, **given.validated_data)
        if not isinstance(user, User):
            raise ValidationError({"detail": "Неверное имя или пароль"})
        if user.role is None:
            raise ValidationError({"detail": "У вас нет роли на этом сайте"})
        token, _ = Token.objects.get_or_create(user=user)
        user_logged_in.send(sender=User, request=request._request, user=user)
        return Response({"token": token.key, "user": UserSerializer(user).data})


class LogoutView(APIView):
    """``POST logout/``: deletes the token, and sse_django has its streams ended at once."""

    permission_classes = (IsAuthenticated,)

    def post(self, request: Request) -> Response:
        request.auth.delete()
        user_logged_out.send(sender=User, request=request._request, user=request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)


class MeView(APIView):
    def get(self, request: Request) -> Response:
        return Response(UserSerializer(user_of(request)).data)


class UserViewSet(mixins.ListModelMixin, GenericViewSet[User]):
    """Who works here, for choosing a foreman."""

    serializer_class = UserSerializer

    def get_queryset(self) -> QuerySet[User]:
        given = UserFilter(data=self.request.query_params)
        given.is_valid(raise_exception=True)
        roles = [given.validated_data["role"]] if "role" in given.validated_data else list(Role)
        users = User.objects.filter(is_active=True, groups__name__in=roles).distinct()
        return users.prefetch_related("groups").order_by("last_name", "first_name", "pk")


class Audited(ModelViewSet[M]):
    """Each write is one transaction, with one line in the audit log if it is committed."""

    def get_object(self) -> M:
        try:
            return super().get_object()
        except Http404:
            raise NotFound from None  # Django's own text is English, and names the model

    @transaction.atomic
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().create(request, *args, **kwargs)

    @transaction.atomic
    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().update(request, *args, **kwargs)

    @transaction.atomic
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().destroy(request, *args, **kwargs)

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        audit("created", user_of(self.request), serializer.save())

    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        audit("updated", user_of(self.request), serializer.save())

    def perform_destroy(self, instance: Any) -> None:
        audit("deleted", user_of(self.request), instance)
        instance.delete()


class ProjectViewSet(Audited[Project]):
    """Projects, each with the number of its estimates that the user may see."""

    serializer_class = ProjectSerializer
    permission_classes = (HasRole, ManagersWrite)
    http_method_names = ("get", "post", "patch", "head", "options")

    def get_queryset(self) -> QuerySet[Project]:
        user = user_of(self.request)
        mine = None if is_manager(user) else Q(estimates__foreman=user)
        return Project.objects.annotate(estimates_count=Count("estimates", filter=mine))


class EstimateViewSet(Audited[Estimate]):
    serializer_class = EstimateSerializer
    permission_classes = (HasRole, ForemenChangeUndecided, ForemenDeleteDrafts)
    http_method_names = ("get", "post", "patch", "delete", "head", "options")

    def get_queryset(self) -> QuerySet[Estimate]:
        return visible_estimates(user_of(self.request)).select_related("project", "foreman", "creator")

    def filter_queryset(self, queryset: QuerySet[Estimate]) -> QuerySet[Estimate]:
        if self.action != "list":
            return queryset
        given = EstimateFilter(data=self.request.query_params)
        given.is_valid(raise_exception=True)
        return queryset.filter(**given.validated_data)

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        user = user_of(self.request)
        audit("created", user, serializer.save(creator=user))
