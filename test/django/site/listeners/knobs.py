"""Knobs of the tests: how slowly a question is answered, and what is answered instead of the truth.

They live in the memory of the process: a site that has several keeps to those of its environment.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt


@dataclass
class Knobs:
    delay: float = 0.0  # seconds between the answer being known and being sent
    max_age: str = field(default_factory=lambda: str(settings.SSE_MAX_AGE))  # empty: no Cache-Control
    expire_in: float | None = None  # the stream shall end so many seconds after the question
    status: int = 0  # answered instead of the truth, if not 0, with:
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    chunked: bool = False  # the body comes byte by byte, and its length is not said
    endless: bool = False  # the body goes on and on


knobs = Knobs()


@csrf_exempt
def turn(request: HttpRequest) -> HttpResponse:
    """Puts all knobs to what the body says, the others back to where they were at first."""
    global knobs  # noqa: PLW0603
    knobs = Knobs(**json.loads(request.body))
    return JsonResponse({})


def instead() -> HttpResponseBase | None:
    """The wrong answer that was asked for."""
    if knobs.status == 0:
        return None
    if knobs.endless:
        return StreamingHttpResponse(_for_ever(knobs.body), status=knobs.status, headers=knobs.headers)
    if knobs.chunked:
        return StreamingHttpResponse(iter(knobs.body), status=knobs.status, headers=knobs.headers)
    return HttpResponse(knobs.body, status=knobs.status, headers=knobs.headers)


def _for_ever(part: str) -> Iterator[str]:
    until = time.monotonic() + 30  # nobody who gives up on it waits so long
    while time.monotonic() < until:
        yield part
