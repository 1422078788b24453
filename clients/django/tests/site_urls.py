from django.urls import include, path

urlpatterns = [path("api/v1/sse/", include("sse_django.urls"))]
