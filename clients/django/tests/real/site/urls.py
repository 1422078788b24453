from django.urls import include, path

from .views import do, do_async, enter, leave, new_password

urlpatterns = [
    path("", include("site_urls")),
    path("do/", do),
    path("async/do/", do_async),
    path("enter/", enter),
    path("leave/", leave),
    path("new-password/", new_password),
]
