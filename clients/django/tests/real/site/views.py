"""Acts by request; and the door of a site with session cookies."""

import json

from django.contrib.auth import get_user_model, login, logout, update_session_auth_hash
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.views.decorators.csrf import csrf_exempt

from .acts import ACTS, ASYNC_ACTS


@csrf_exempt
def do(request: HttpRequest) -> JsonResponse:
    asked = json.loads(request.body)
    return JsonResponse({"result": ACTS[asked["act"]](*asked["args"], **asked["kwargs"])})


@csrf_exempt
async def do_async(request: HttpRequest) -> JsonResponse:
    asked = json.loads(request.body)
    return JsonResponse({"result": await ASYNC_ACTS[asked["act"]](*asked["args"], **asked["kwargs"])})


@csrf_exempt
def enter(request: HttpRequest) -> JsonResponse:
    """Log a user in, and give what the page needs to post anything."""
    login(request, get_user_model().objects.get(pk=json.loads(request.body)["user"]))
    return JsonResponse({"csrf": get_token(request)})


def new_password(request: HttpRequest) -> HttpResponse:
    """As PasswordChangeView does it."""
    user = request.user
    assert user.is_authenticated
    user.set_password("another")
    user.save()
    update_session_auth_hash(request, user)
    return HttpResponse(status=204)


def leave(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse(status=204)
