"""What sse asks, and under test/ what only the tests ask."""

from django.urls import path

from listeners import knobs, meter, views

urlpatterns = [
    path("api/v1/sse/auth/", views.AuthView.as_view()),
    path("test/counts/", meter.counts),
    path("test/questions/", meter.questions),
    path("test/knobs/", knobs.turn),
]
