"""``path("api/v1/sse/", include("sse_django.urls"))``; ``events/`` and ``stats/`` beside them are sse's own."""

from django.urls import path

from .views import AuthView, TicketView

app_name = "sse_django"
urlpatterns = [
    path("auth/", AuthView.as_view(), name="auth"),
    path("ticket/", TicketView.as_view(), name="ticket"),
]
