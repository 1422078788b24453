"""Counts the questions that are in flight at the same moment.

The numbers stand in memory that is shared by the threads and the processes of gunicorn (it loads the
site before it forks), so they are exact for the whole site: a question is in flight from before Django
does anything with it to after its answer is made.
"""

import hashlib
import multiprocessing
import re
from collections import deque
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.csrf import csrf_exempt

QUESTIONS = "/api/v1/sse/auth/"
NUMBERS = ("now", "most", "total", "decided", "connect", "refresh", "no_phase", "200", "401", "403", "other_status")
AT = {name: i for i, name in enumerate(NUMBERS)}

_numbers = multiprocessing.Array("q", len(NUMBERS))
_questions: deque[dict[str, Any]] = deque(maxlen=20000)  # of this process


class Meter:
    """The middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path != QUESTIONS:
            return self.get_response(request)
        phase = request.headers.get("X-SSE-Phase", "")
        with _numbers.get_lock():
            _numbers[AT["now"]] += 1
            _numbers[AT["most"]] = max(_numbers[AT["most"]], _numbers[AT["now"]])
            _numbers[AT["total"]] += 1
            _numbers[AT[phase if phase in ("connect", "refresh") else "no_phase"]] += 1
        status = "other_status"
        try:
            response = self.get_response(request)
            status = str(response.status_code)
        finally:
            with _numbers.get_lock():
                _numbers[AT["now"]] -= 1
                _numbers[AT[status if status in AT else "other_status"]] += 1
        _questions.append(_question(request, phase, status))
        return response


def decided() -> None:
    """The answer is known, though it is not sent yet."""
    with _numbers.get_lock():
        _numbers[AT["decided"]] += 1


def _question(request: HttpRequest, phase: str, status: str) -> dict[str, Any]:
    """What a test wants to know of a question. The token is named by its hash, as in sse."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return {
        "phase": phase,
        "status": status,
        "method": request.method,
        "uri": request.headers.get("X-Original-URI"),
        "host": request.headers.get("Host"),
        "key": constant_time_compare(request.headers.get("X-SSE-Key", ""), settings.SSE_KEY),
        "scheme": scheme,
        "token": hashlib.sha256(token.encode()).hexdigest(),
        "headers": sorted(re.sub("^HTTP_", "", name) for name in request.META if name.startswith("HTTP_")),
    }


@csrf_exempt
def counts(request: HttpRequest) -> JsonResponse:
    """The numbers. DELETE puts them back to 0, but not those that are in flight now."""
    with _numbers.get_lock():
        if request.method == "DELETE":
            now = _numbers[AT["now"]]
            _numbers[:] = [now, now, *[0] * (len(NUMBERS) - 2)]
            _questions.clear()
        return JsonResponse(dict(zip(NUMBERS, _numbers[:], strict=True)))


def questions(_request: HttpRequest) -> JsonResponse:
    """What was asked, in the order of the answers. Only where gunicorn has one process."""
    return JsonResponse({"questions": list(_questions)})
