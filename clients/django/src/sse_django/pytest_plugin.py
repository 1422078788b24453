"""The fixture ``sse_outbox``: nothing is sent, and what would have been is in a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def sse_outbox(request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    """Return ``sse_django.outbox``, emptied. Events wait for a commit: see ``django_capture_on_commit_callbacks``."""
    if not request.config.pluginmanager.has_plugin("django"):
        pytest.fail("sse_outbox needs pytest-django: pip install pytest-django", pytrace=False)
    settings = request.getfixturevalue("settings")
    from sse_django import outbox

    settings.SSE = {**getattr(settings, "SSE", {}), "BACKEND": "sse_django.backends.MemoryBackend", "RAISE": True}
    outbox.clear()
    yield outbox
    outbox.clear()
