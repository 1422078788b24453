"""Everything that Django answers. ``sse/events/`` and ``sse/stats/`` are sse's own: the proxy sends them there."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("api/v1/", include("api.urls")),
    path("api/v1/sse/", include("sse_django.urls")),
    path("admin/", admin.site.urls),
]
