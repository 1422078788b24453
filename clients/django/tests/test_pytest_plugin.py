"""The fixture for the tests of a site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings as site

import sse_django
from estimates.models import Order
from sse_django import Event, Operation, SSEError, SSEManager, To

if TYPE_CHECKING:
    from pytest_django import DjangoCaptureOnCommitCallbacks

    from conftest import Make

pytestmark = pytest.mark.django_db
sse = SSEManager()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("again", [False, True])
def test_the_outbox_is_empty_when_a_test_begins(sse_outbox: list[Any], again: bool) -> None:
    assert sse_outbox == []
    sse.broadcast("left.behind", again)
    assert len(sse_outbox) == 1


@pytest.mark.django_db(transaction=True)
def test_it_holds_what_was_sent_in_order_as_a_browser_would_get_it(sse_outbox: list[Any]) -> None:
    assert sse_outbox is sse_django.outbox
    sse.send_to_user(7, "one", {"n": (1, 2)})
    sse.revoke(8)
    assert sse_outbox == [Event("one", {"n": [1, 2]}, To(users=("7",))), Operation("revoke", user="8")]


def test_events_wait_for_the_commit(
    sse_outbox: list[Any], django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks, person: Make
) -> None:
    foreman = person()
    with django_capture_on_commit_callbacks(execute=True):
        Order.objects.create(buyer=foreman)
        assert sse_outbox == []
    assert [(event.name, event.to.users) for event in sse_outbox] == [("order.created", (str(foreman.pk),))]


@pytest.mark.django_db(transaction=True)
def test_what_could_not_be_sent_raises(sse_outbox: list[Any]) -> None:
    with pytest.raises(SSEError):
        sse.broadcast("e", {1, 2})
    with pytest.raises(SSEError):
        sse.broadcast("two words")
    assert sse_outbox == []


@pytest.mark.django_db(transaction=True)
def test_confirm_and_ping_are_answered(sse_outbox: list[Any]) -> None:
    acks = [sse.broadcast("e", confirm=True), sse.ping()]
    assert [event if isinstance(event, Operation) else event.name for event in sse_outbox] == ["e", Operation("ping")]
    assert None not in acks


class TestSettings:
    """They are the site's again when the test is over, whatever the order of these two."""

    def test_they_are_changed(self, sse_outbox: list[Any]) -> None:
        now: Any = site.SSE
        assert now["BACKEND"] == "sse_django.backends.MemoryBackend"
        assert now["RAISE"] is True
        assert now["AUTH_KEY"]
        assert sse_outbox == []

    def test_only_for_the_test(self) -> None:
        assert "BACKEND" not in site.SSE


def test_a_site_without_settings_has_an_outbox_too(settings: Any, request: pytest.FixtureRequest) -> None:
    del settings.SSE
    outbox = request.getfixturevalue("sse_outbox")
    sse.ping()
    assert outbox == [Operation("ping")]
