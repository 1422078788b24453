"""What models say of themselves, and the helpers for what Django saves without a signal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.serializers import serialize
from django.db import IntegrityError, connection, models, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.db.models.signals import pre_delete
from django.test.utils import CaptureQueriesContext

from estimates.models import (
    CranePermit,
    Delivery,
    Digging,
    Estimate,
    Masonry,
    NightPermit,
    NoisyNightPermit,
    Note,
    Order,
    Parcel,
    Permit,
    Project,
    Shift,
    Urgent,
    Work,
)
from estimates.wire import rolled_back
from sse_django import (
    Event,
    ModelEvents,
    SSEManager,
    audience,
    bulk_create,
    bulk_update,
    model_events,
    notify,
    register,
    update,
)
from sse_django.model_events import events_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_django import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks, Settings

    from conftest import Commit, Configure, Make, Said

autocommit = pytest.mark.django_db(transaction=True)
both_databases = pytest.mark.django_db(transaction=True, databases=["default", "other"])
pytestmark = pytest.mark.django_db


class Told(Protocol):
    def __call__(self) -> list[tuple[str, set[str]]]: ...


@pytest.fixture
def told(sse_outbox: list[Event]) -> Told:
    """Return the names of the events since the last look, and the users each was for."""

    def take() -> list[tuple[str, set[str]]]:
        taken = [(event.name, set(event.to.users)) for event in sse_outbox if isinstance(event, Event)]
        sse_outbox.clear()
        return taken

    return take


@pytest.fixture
def anna(person: Make) -> Any:
    return person(first_name="Анна", last_name="Петрова")


@pytest.fixture
def boris(person: Make) -> Any:
    return person()


@pytest.fixture
def estimate(anna: Any) -> Estimate:
    return Estimate.objects.create(number="Смета_2025-01-01", foreman=anna)


def ids(*people: Any) -> set[str]:
    return {str(one.pk) for one in people}


# ---- created, updated, deleted ----


def test_what_the_document_promises(committed: Commit, sse_outbox: list[Event], anna: Any, boris: Any) -> None:
    project = Project.objects.create(name="ЖК «Север»")
    with committed():
        made = Estimate.objects.create(number="Смета_1", project=project, foreman=anna, creator=boris)
    (event,) = sse_outbox
    assert event.name == "estimate.created"
    assert (event.to.roles, event.to.users, event.to.everybody) == (("manager",), (str(anna.pk),), False)
    assert event.data == {
        "estimate_id": made.pk,
        "estimate_number": "Смета_1",
        "project_id": project.pk,
        "project_name": "ЖК «Север»",
        "foreman_id": json.loads(json.dumps(anna.pk, default=str)),
        "foreman_name": "Анна Петрова",
        "creator_id": json.loads(json.dumps(boris.pk, default=str)),
        "creator_name": "",
        "status": "Черновик",
        "created_at": made.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def test_what_is_behind_nothing_is_null(committed: Commit, sse_outbox: list[Event]) -> None:
    with committed():
        Estimate.objects.create(number="1")
    (event,) = sse_outbox
    assert event.to.users == ()
    assert [key for key, value in event.data.items() if value is None] == [
        *("project_id", "project_name", "foreman_id", "foreman_name", "creator_id", "creator_name")
    ]


def test_without_fields_the_key_is_told(committed: Commit, sse_outbox: list[Event], anna: Any) -> None:
    with committed():
        parcel = Parcel.objects.create(recipient=anna)
    assert [(event.name, event.data) for event in sse_outbox] == [("parcel.created", {"parcel_id": parcel.pk})]


def test_a_name_of_ones_own(committed: Commit, told: Told, anna: Any) -> None:
    with committed():
        Shift.objects.create(project=Project.objects.create(name="p", foreman=anna))
    assert ("work-shift.created", ids(anna)) in told()


def test_a_key_that_is_no_number(committed: Commit, sse_outbox: list[Event], anna: Any) -> None:
    with committed():
        order = Order.objects.create(buyer=anna)
        key = str(order.pk)
        order.delete()
    assert [(event.name, event.data["order"]) for event in sse_outbox] == [
        ("order.created", key),
        ("order.deleted", key),
    ]


def test_events_that_are_left_out(committed: Commit, told: Told, anna: Any) -> None:
    with committed():
        project = Project.objects.create(name="p", foreman=anna)
        project.save()
        project.delete()
    assert [name for name, _ in told()] == ["project.created", "project.updated"]


def test_each_save_is_told_in_order(committed: Commit, told: Told, anna: Any) -> None:
    with committed():
        order = Order.objects.create(buyer=anna)
        order.save()
        SSEManager().send_to_user(anna, "between")
        order.delete()
    names = ["order.created", "order.updated", "between", "order.deleted"]
    assert told() == [(name, ids(anna)) for name in names]


@pytest.mark.parametrize("using", ["default", "other"])
@both_databases
def test_nothing_is_told_before_the_commit_or_after_a_rollback(told: Told, person: Make, using: str) -> None:
    worker = person()
    if using == "other":
        worker.save(using=using)

    def build() -> None:
        work = Work.objects.using(using).create(title="w", worker_id=worker.pk)
        work.save()
        update(Work.objects.using(using), title="x")
        bulk_create(Work.objects.using(using), [Work(worker_id=worker.pk)])
        bulk_update(Work.objects.using(using), [work], ["title"])
        notify("updated", [work], using=using)
        work.delete()

    with rolled_back(using):
        build()
        assert told() == []
    assert told() == []
    with transaction.atomic(using=using):
        build()
        assert told() == []
    assert [name for name, _ in told()] == [
        *(
            "work.created",
            "work.updated",
            "work.updated",
            "work.created",
            "work.updated",
            "work.updated",
            "work.deleted",
        )
    ]


@autocommit
def test_without_a_transaction_each_is_told_at_once(told: Told, anna: Any) -> None:
    order = Order.objects.create(buyer=anna)
    assert told() == [("order.created", ids(anna))]
    order.save()
    assert told() == [("order.updated", ids(anna))]
    order.delete()
    assert told() == [("order.deleted", ids(anna))]


@autocommit
def test_a_savepoint_that_is_rolled_back_takes_its_events_along(told: Told) -> None:
    with transaction.atomic():
        Estimate.objects.create(number="stays")
        with rolled_back():
            Estimate.objects.create(number="goes")
    assert [name for name, _ in told()] == ["estimate.created"]


def test_events_can_be_turned_off(
    committed: Commit,
    told: Told,
    configure: Configure,
    anna: Any,
    boris: Any,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    configure(EVENTS=False)
    with committed():
        work = Work.objects.create(worker=anna)
        work.worker = boris
        with django_assert_num_queries(1):
            work.save()
        update(Work.objects.all(), worker=anna)
        bulk_update(Work.objects, [work], ["worker"])
        bulk_create(Work.objects, [Work(worker=anna)])
        notify("updated", [work])
        work.delete()
    assert told() == []


# ---- who is told ----


@pytest.mark.parametrize("before", ["anna", "boris", None])
@pytest.mark.parametrize("after", ["anna", "boris", None])
@pytest.mark.parametrize("how", ["save", "foreman", "foreman_id", "bulk_update", "update", "update_or_create"])
def test_a_reassigned_estimate_tells_the_old_and_the_new_foreman(
    committed: Commit, told: Told, anna: Any, boris: Any, before: str | None, after: str | None, how: str
) -> None:
    people = {"anna": anna, "boris": boris, None: None}
    estimate = Estimate.objects.create(number="1", foreman=people[before])
    with committed():
        estimate.foreman = people[after]
        if how == "save":
            estimate.save()
        elif how == "bulk_update":
            assert bulk_update(Estimate.objects, [estimate], ["foreman"]) == 1
        elif how == "update":
            assert update(Estimate.objects.filter(pk=estimate.pk), foreman=people[after]) == 1
        elif how == "update_or_create":
            Estimate.objects.update_or_create({"foreman": people[after]}, pk=estimate.pk)
        else:
            estimate.save(update_fields=[how])
    assert told() == [("estimate.updated", ids(*(people[one] for one in (before, after) if one)))]


def test_another_field_alone_tells_its_foreman(committed: Commit, told: Told, estimate: Estimate, anna: Any) -> None:
    with committed():
        estimate.status = "Сдана"
        estimate.save(update_fields=["status"])
        estimate.save(update_fields=[])
    assert told() == [("estimate.updated", ids(anna))]


def test_what_is_not_saved_is_not_told(
    committed: Commit, told: Told, estimate: Estimate, anna: Any, boris: Any
) -> None:
    """In the database it is still Anna's."""
    with committed():
        estimate.foreman = boris
        estimate.save(update_fields=["status"])
    assert told() == [("estimate.updated", ids(anna))]


def test_somebody_who_is_named_twice_is_told_once(committed: Commit, sse_outbox: list[Event], anna: Any) -> None:
    with committed():
        project = Project.objects.create(name="p", foreman=anna)
        project.members.add(anna)
    assert [event.to.users for event in sse_outbox] == [(str(anna.pk),)]


@pytest.mark.parametrize("prefetched", [False, True])
@pytest.mark.parametrize("by_another", [False, True])
def test_members_set_after_the_save_of_the_same_transaction_are_told(
    committed: Commit, told: Told, anna: Any, boris: Any, prefetched: bool, by_another: bool
) -> None:
    made = Project.objects.create(name="p")
    made.members.set([anna])
    project = Project.objects.prefetch_related("members").get() if prefetched else Project.objects.get()
    with committed():
        project.save()
        (made if by_another else project).members.set([boris])
    assert told() == [("project.updated", ids(boris))]


def test_a_user_known_by_another_field_is_told_by_the_key(committed: Commit, told: Told, anna: Any, boris: Any) -> None:
    with committed():
        parcel = Parcel.objects.create(recipient=anna)
        parcel.recipient = boris
        parcel.save()
    assert told() == [("parcel.created", ids(anna)), ("parcel.updated", ids(anna, boris))]


@pytest.mark.parametrize("how", ["save", "bulk_update", "update"])
def test_a_user_of_a_related_row(committed: Commit, told: Told, anna: Any, boris: Any, how: str) -> None:
    one, two = (Project.objects.create(name="p", foreman=foreman) for foreman in (anna, boris))
    shift = Shift.objects.create(project=one)
    with committed():
        shift.project = two
        if how == "save":
            shift.save()
        elif how == "bulk_update":
            bulk_update(Shift.objects, [shift], ["project"])
        else:
            update(Shift.objects.all(), project=two)
    assert told() == [("work-shift.updated", ids(anna, boris))]


@pytest.mark.parametrize("how", ["save", "bulk_update", "update"])
def test_an_audience_of_ones_own_and_the_fields_it_depends_on(
    committed: Commit, sse_outbox: list[Event], how: str
) -> None:
    delivery = Delivery.objects.create(region=1)
    with committed():
        delivery.region = 2
        if how == "save":
            delivery.save()
        elif how == "bulk_update":
            bulk_update(Delivery.objects, [delivery], ["region"])
        else:
            update(Delivery.objects.all(), region=2)
    assert [set(event.to.roles) for event in sse_outbox] == [{"region-1", "region-2"}]


def test_what_is_for_nobody_is_not_sent(committed: Commit, told: Told) -> None:
    with committed():
        Order.objects.create().delete()
    assert told() == []


# ---- what an instance may be ----


def test_one_instance_saved_as_several_rows(committed: Commit, sse_outbox: list[Event], anna: Any, boris: Any) -> None:
    work = Work()
    with committed():
        for worker, title in ((anna, "one"), (boris, "two"), (anna, "three")):
            work.pk, work.worker, work.title = None, worker, title
            work.save()
        work.title = "changed after all"
    assert [(event.data["title"], event.to.users) for event in sse_outbox] == [
        *(("one", (str(anna.pk),)), ("two", (str(boris.pk),)), ("three", (str(anna.pk),)))
    ]
    assert len({event.data["work"] for event in sse_outbox}) == 3


def test_what_is_changed_in_place_after_the_save_is_not_told(
    committed: Commit, sse_outbox: list[Event], anna: Any
) -> None:
    order = Order(buyer=anna, parts={"bricks": [0]})
    with committed():
        order.save()
        order.parts["bricks"][0] = 1
        order.save()
        order.parts.clear()
    assert [event.data["parts"] for event in sse_outbox] == [{"bricks": [0]}, {"bricks": [1]}]


@pytest.mark.parametrize("how", ["save", "bulk_update", "update"])
def test_an_expression_is_told_by_its_value(committed: Commit, sse_outbox: list[Event], anna: Any, how: str) -> None:
    order = Order.objects.create(buyer=anna, amount=1)
    with committed():
        order.amount = F("amount") + 1
        if how == "save":
            order.save()
        elif how == "bulk_update":
            bulk_update(Order.objects, [order], ["amount"])
        else:
            update(Order.objects.all(), amount=F("amount") + 1)
    assert [(event.data["amount"], event.to.users) for event in sse_outbox] == [(2, (str(anna.pk),))]


def test_who_is_named_by_an_expression_is_told(committed: Commit, told: Told, anna: Any, boris: Any) -> None:
    estimate = Estimate.objects.create(number="1", creator=anna, foreman=boris)
    with committed():
        estimate.foreman_id = F("creator_id")
        estimate.save()
    assert told() == [("estimate.updated", ids(anna, boris))]


@pytest.mark.parametrize("known", ["number", "foreman"])
def test_an_instance_of_which_not_all_was_fetched(
    committed: Commit, sse_outbox: list[Event], estimate: Estimate, anna: Any, boris: Any, known: str
) -> None:
    partial = Estimate.objects.only(known).get(pk=estimate.pk)
    with committed():
        if known == "foreman":
            partial.foreman = boris
        partial.save()
    (event,) = sse_outbox
    assert set(event.to.users) == (ids(anna, boris) if known == "foreman" else ids(anna))
    assert (event.data["estimate_number"], event.data["status"]) == (estimate.number, estimate.status)
    with committed():
        Estimate.objects.only("pk").get(pk=estimate.pk).delete()
    (event,) = sse_outbox
    assert event.data["estimate_number"] == estimate.number


def test_an_instance_that_was_never_fetched(committed: Commit, told: Told, anna: Any, boris: Any) -> None:
    work = Work.objects.create(title="w", worker=anna)
    with committed():
        Work(pk=work.pk, title="w", worker=boris).save()
        Work(pk=work.pk + 1, title="w", worker=boris).save()
    assert told() == [("work.updated", ids(anna, boris)), ("work.created", ids(boris))]


def test_a_proxy_speaks_as_its_model(committed: Commit, told: Told, anna: Any, boris: Any) -> None:
    with committed():
        urgent = Urgent.objects.create(number="1", foreman=anna)
        urgent.foreman = boris
        urgent.save()
        update(Urgent.objects.all(), status="x")
        urgent.delete()
        bulk_create(Urgent.objects, [Urgent(number="2", foreman=anna)])
        Urgent.objects.all().delete()
    assert told() == [
        ("estimate.created", ids(anna)),
        ("estimate.updated", ids(anna, boris)),
        ("estimate.updated", ids(boris)),
        ("estimate.deleted", ids(boris)),
        ("estimate.created", ids(anna)),
        ("estimate.deleted", ids(anna)),
    ]


@pytest.mark.parametrize("by", ["instance", "parent", "queryset", "queryset of parents"])
def test_a_derived_model_speaks_as_its_parent(
    committed: Commit, sse_outbox: list[Event], anna: Any, boris: Any, by: str
) -> None:
    with committed():
        digging = Digging.objects.create(title="d", worker=anna)
        key = digging.pk
        digging.worker = boris
        digging.save()
        update(Digging.objects.all(), title="deeper", depth=2)
        digging.refresh_from_db()
    assert [(event.name, set(event.to.users), event.data["title"]) for event in sse_outbox] == [
        ("work.created", ids(anna), "d"),
        ("work.updated", ids(anna, boris), "d"),
        ("work.updated", ids(boris), "deeper"),
    ]
    with committed():
        if by == "instance":
            digging.delete()
        elif by == "parent":
            Work.objects.get().delete()
        else:
            (Digging if by == "queryset" else Work).objects.all().delete()
    assert [(event.name, event.data) for event in sse_outbox] == [("work.deleted", {"work": key, "title": "deeper"})]


def test_a_derived_row_deleted_alone_leaves_the_parent(committed: Commit, told: Told, anna: Any) -> None:
    digging = Digging.objects.create(title="d", worker=anna)
    with committed():
        digging.delete(keep_parents=True)
    assert told() == []
    assert Work.objects.exists()


def test_a_derived_model_may_speak_for_itself(committed: Commit, sse_outbox: list[Event], anna: Any) -> None:
    with committed():
        masonry = Masonry.objects.create(title="m", worker=anna)
        masonry.bricks = 2
        masonry.save()
        update(Masonry.objects.all(), bricks=3)
    assert [(event.name, event.to.roles, event.data["bricks"]) for event in sse_outbox] == [
        ("masonry.created", ("mason",), 1),
        ("masonry.updated", ("mason",), 2),
        ("masonry.updated", ("mason",), 3),
    ]


@pytest.mark.parametrize("using", ["default", "other"])
@pytest.mark.parametrize("by", ["instance", "parent", "queryset", "queryset of parents", "cascade"])
@both_databases
def test_a_row_that_speaks_for_itself_is_deleted_once(told: Told, person: Make, by: str, using: str) -> None:
    worker = person()
    worker.save(using=using)
    project = Project.objects.using(using).create(name="p")
    masonry = Masonry.objects.using(using).create(title="m", worker_id=worker.pk, project=project)
    told()
    if by == "instance":
        masonry.delete()
    elif by == "parent":
        Work.objects.using(using).get().delete()
    elif by == "cascade":
        project.delete()
    else:
        (Masonry if by == "queryset" else Work).objects.using(using).all().delete()
    assert [name for name, _ in told()] == ["masonry.deleted"]
    assert not Work.objects.using(using).exists()


@both_databases
def test_rows_of_the_same_key_in_two_databases_are_not_taken_for_each_other(told: Told, person: Make) -> None:
    worker = person()
    worker.save(using="other")
    Masonry.objects.create(pk=7, title="m", worker=worker)
    Work.objects.using("other").create(pk=7, title="w", worker_id=worker.pk)
    told()
    Work.objects.using("other").get().delete()
    assert told() == [("work.deleted", ids(worker))]


@pytest.mark.parametrize("by", ["queryset", "cascade", "one by one"])
def test_what_does_not_speak_for_itself_is_deleted_as_its_parent(
    committed: Commit, told: Told, anna: Any, by: str
) -> None:
    project = Project.objects.create(name="p")
    for model in (Work, Digging, Masonry):
        model.objects.create(title="t", worker=anna, project=project)
    with committed():
        if by == "queryset":
            Work.objects.all().delete()
        elif by == "cascade":
            project.delete()
        else:
            for work in Work.objects.all():
                work.delete()
    assert sorted(name for name, _ in told()) == ["masonry.deleted", "work.deleted", "work.deleted"]


@pytest.mark.parametrize("model", [CranePermit, NightPermit, NoisyNightPermit])
@pytest.mark.parametrize("by", ["instance", "queryset"])
def test_what_is_derived_from_an_abstract_model_is_registered_by_it(
    committed: Commit, told: Told, anna: Any, boris: Any, model: type[Permit], by: str
) -> None:
    permits: Any = model._default_manager
    with committed():
        permit = permits.create(holder=anna)
        permit.holder = boris
        permit.save()
        update(permits.all(), holder=anna)
        bulk_update(permits, [permit], ["holder"])
        notify("updated", [permit])
        permit.delete() if by == "instance" else permits.all().delete()
        bulk_create(permits, [model(holder=anna)])
    name = "cranepermit" if model is CranePermit else "nightpermit"
    assert told() == [
        (f"{name}.created", ids(anna)),
        (f"{name}.updated", ids(anna, boris)),
        (f"{name}.updated", ids(anna, boris)),
        (f"{name}.updated", ids(anna, boris)),
        (f"{name}.updated", ids(boris)),
        (f"{name}.deleted", ids(boris)),
        (f"{name}.created", ids(anna)),
    ]


# ---- registering ----


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[type[models.Model], ModelEvents]:
    """What is registered in the test is not, after it."""
    copied = {**model_events.registry}
    monkeypatch.setattr(model_events, "registry", copied)
    return copied


def events_class(**said: Any) -> type[ModelEvents]:
    return type("SomeEvents", (ModelEvents,), said)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({"users": ["project"]}, "users has 'project', which leads to estimates.Project.* perhaps 'project.user'"),
        ({"users": ["foreman", "project"]}, "'project'"),
        ({"users": "foreman"}, "users must be a list, not 'foreman'"),
        ({"roles": "manager"}, "roles must be a list, not 'manager'"),
        ({"events": "created"}, "events must be a list"),
        ({"events": ["create"]}, "events has 'create', and there are created, updated, deleted"),
        ({"audience_fields": "status"}, "audience_fields must be a list"),
        ({"users": ["formean"]}, "estimates.Estimate has no 'formean'"),
        ({"fields": {"number": "nubmer"}}, "estimates.Estimate has no 'nubmer'"),
        ({"fields": {"name": "prject.name"}}, "estimates.Estimate has no 'prject'"),
        ({"audience_fields": ["sttus"]}, "estimates.Estimate has no 'sttus'"),
    ],
)
@pytest.mark.usefixtures("registry")
def test_a_mistake_in_what_is_registered_is_said_at_the_start(said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"^SomeEvents: .*{complaint}"):
        register(Estimate)(events_class(**said))


@pytest.mark.parametrize(
    "said",
    [
        {"users": ["foreman", "creator", "project.foreman", "project.members", "foreman_id"]},
        {"fields": {"a": "pk", "b": "id", "c": "get_next_by_created_at", "d": "project_id", "e": "__str__"}},
        {"audience_fields": ["project", "project_id", "status"], "events": ("created",), "roles": {"a"}},
    ],
)
@pytest.mark.usefixtures("registry")
def test_what_may_be_registered(said: dict[str, Any]) -> None:
    register(Estimate)(events_class(**said))


def test_a_proxy_may_speak_for_itself(
    committed: Commit, told: Told, registry: dict[type[models.Model], ModelEvents], anna: Any
) -> None:
    register(Urgent)(events_class(users=["foreman"]))
    with committed():
        urgent = Urgent.objects.create(number="1", foreman=anna)
        urgent.save()
        urgent.delete()
        Estimate.objects.create(number="2", foreman=anna).delete()
    names = ["urgent.created", "urgent.updated", "urgent.deleted", "estimate.created", "estimate.deleted"]
    assert [name for name, _ in told()] == names
    assert Estimate in registry


@pytest.mark.parametrize("order", [1, -1], ids=["base first", "base last"])
def test_what_is_registered_itself_is_not_overruled_by_what_it_is_derived_from(
    registry: dict[type[models.Model], ModelEvents], order: int
) -> None:
    for permit, work in ((CranePermit, Masonry), (NightPermit, Digging)):
        registry.clear()
        for base, heir in ((Permit, permit), (Work, work)):
            both = [(base, "base"), (heir, "heir")][::order]
            for model, name in both:
                register(model)(events_class(name=name))
            assert events_of(heir).label == "heir"


# ---- deletes ----


@pytest.mark.parametrize("by", ["instance", "queryset", "relation", "cascade", "cascade of a queryset"])
def test_what_is_deleted_is_told_as_it_was(committed: Commit, sse_outbox: list[Event], anna: Any, by: str) -> None:
    project = Project.objects.create(name="ЖК «Север»")
    made = [Estimate.objects.create(number=str(n), project=project, foreman=anna) for n in range(3)]
    keys = [estimate.pk for estimate in made]
    with committed():
        if by == "instance":
            for estimate in made:
                estimate.delete()
        elif by == "queryset":
            Estimate.objects.filter(project=project).delete()
        elif by == "relation":
            project.estimate_set.all().delete()
        elif by == "cascade":
            project.delete()
        else:
            Project.objects.all().delete()
    assert [event.name for event in sse_outbox] == ["estimate.deleted"] * 3
    assert sorted(event.data["estimate_id"] for event in sse_outbox) == keys
    for event in sse_outbox:
        assert event.to.users == (str(anna.pk),)
        assert (event.data["project_name"], event.data["foreman_name"]) == ("ЖК «Север»", "Анна Петрова")


def test_a_user_who_is_deleted_with_his_parcels_is_told_of_them(committed: Commit, told: Told, anna: Any) -> None:
    Parcel.objects.create(recipient=anna)
    key = str(anna.pk)
    with committed():
        anna.delete()
    assert ("parcel.deleted", {key}) in told()


@pytest.mark.parametrize(
    ("model", "user", "text", "names"),
    [(Work, "worker", "title", ["work.deleted"]), (Project, "foreman", "name", [])],
    ids=["told of deletes", "not told of deletes"],
)
def test_a_save_that_failed_leaves_nothing_behind_for_a_delete(
    committed: Commit, told: Told, anna: Any, boris: Any, model: Any, user: str, text: str, names: list[str]
) -> None:
    made = model.objects.create(**{user: anna, text: "w"})
    with committed():
        setattr(made, user, boris)
        setattr(made, text, None)
        with pytest.raises(IntegrityError), transaction.atomic():
            made.save()
        made.delete()
    assert [name for name, _ in told()] == names
    assert SSEManager().counts().get("error", 0) == 0


def test_an_instance_that_was_deleted_can_be_saved_again(committed: Commit, told: Told, anna: Any) -> None:
    work = Work.objects.create(title="w", worker=anna)
    with committed():
        work.delete()
        work.save()
    assert [name for name, _ in told()] == ["work.deleted", "work.created"]


def test_a_delete_that_failed_is_not_told_and_leaves_nothing_behind(committed: Commit, told: Told) -> None:
    def refuse(**_: Any) -> None:
        raise ZeroDivisionError

    delivery = Delivery.objects.create(region=1)
    with committed():
        pre_delete.connect(refuse, sender=Delivery)
        try:
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                delivery.delete()
        finally:
            pre_delete.disconnect(refuse, sender=Delivery)
        notify("updated", [delivery])
        delivery.save()
    assert [name for name, _ in told()] == ["delivery.updated", "delivery.updated"]


def test_fixtures_are_silent(committed: Commit, told: Told, place: Path, anna: Any, boris: Any) -> None:
    estimate = Estimate.objects.create(number="1", foreman=anna)
    rows = [
        estimate,
        Urgent(pk=estimate.pk + 1, number="2", foreman=boris, created_at=estimate.created_at),
        Order(buyer=anna),
        Work(pk=100, worker=anna),
        Delivery(pk=1, region=1),
    ]
    (place / "rows.json").write_text(serialize("json", rows))
    with committed():
        Estimate.objects.filter(pk=estimate.pk).update(foreman=boris)
        call_command("loaddata", str(place / "rows.json"), verbosity=0)
    assert told() == []
    assert Work.objects.filter(pk=100).exists()


# ---- mistakes of the site, and what they must not break ----


def _mistake(*_: Any) -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize("method", ["payload", "audience"])
def test_a_mistake_in_a_payload_or_an_audience_breaks_nothing(
    committed: Commit,
    told: Told,
    said: Said,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    anna: Any,
    method: str,
) -> None:
    configure(RAISE=False)
    monkeypatch.setattr(events_of(Estimate), method, _mistake)
    with committed():
        estimate = Estimate.objects.create(number="1", foreman=anna)
        estimate.save()
        bulk_create(Estimate.objects, [Estimate(number="2")])
        bulk_update(Estimate.objects, [estimate], ["status"])
        update(Estimate.objects.all(), status="x")
        estimate.delete()
        Order.objects.create(buyer=anna)
    assert told() == [("order.created", ids(anna))]
    assert SSEManager().counts() == {"error": 7, "sent": 1}
    assert len(said()) == 1
    configure(RAISE=True)
    with pytest.raises(ZeroDivisionError), committed():
        Estimate.objects.create(number="1")


class Uncopyable(dict[str, Any]):
    """JSON that does not want to be copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Uncopyable:
        raise ZeroDivisionError


@pytest.mark.parametrize("how", ["save", "create", "bulk_create", "bulk_update", "notify", "delete"])
def test_an_instance_that_cannot_be_copied_is_saved_all_the_same(
    committed: Commit, told: Told, said: Said, configure: Configure, anna: Any, how: str
) -> None:
    configure(RAISE=False)
    order = Order.objects.create(buyer=anna)
    order.parts = Uncopyable(bricks=1)
    with committed():
        if how == "save":
            order.save()
        elif how == "create":
            Order.objects.create(buyer=anna, parts=order.parts)
        elif how == "bulk_create":
            bulk_create(Order.objects, [Order(buyer=anna, parts=order.parts)])
        elif how == "bulk_update":
            assert bulk_update(Order.objects, [order], ["parts"]) == 1
        elif how == "notify":
            Order.objects.bulk_update([order], ["parts"])
            notify("updated", [order])
        else:
            order.delete()
    assert Order.objects.filter(parts={"bricks": 1}).count() == (0 if how == "delete" else 1)
    assert told() == []
    assert SSEManager().counts()["error"] == 1
    assert len(said()) == 1


def test_a_row_that_cannot_be_told_does_not_take_the_others_along(
    committed: Commit,
    sse_outbox: list[Event],
    said: Said,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    anna: Any,
) -> None:
    odd: dict[str, Any] = {"raises": _mistake, "set": lambda: {1}, "large": lambda: "x" * 300_000}
    monkeypatch.setattr(events_of(Work), "payload", lambda work: odd.get(work.title, lambda: work.title)())
    configure(RAISE=False)
    with committed():
        bulk_create(Work.objects, [Work(title=title, worker=anna) for title in ("a", "raises", "set", "large", "b")])
    assert [event.data for event in sse_outbox] == ["a", "b"]
    assert SSEManager().counts() == {"error": 1, "data": 1, "too_large": 1, "sent": 2}
    assert len(said()) == 3


def test_a_user_whom_sse_would_not_take_is_said(
    committed: Commit, told: Told, said: Said, configure: Configure, monkeypatch: pytest.MonkeyPatch, anna: Any
) -> None:
    monkeypatch.setattr(events_of(Work), "audience", lambda *_: audience(users="x" * 65))
    configure(RAISE=False)
    with committed():
        Work.objects.create(worker=anna)
    assert told() == []
    assert SSEManager().counts() == {"audience": 1}
    assert len(said()) == 1


# ---- what it costs ----


def test_a_model_that_says_nothing_costs_nothing(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(1):
        note = Note.objects.create(text="a")
    with django_assert_num_queries(1):
        note.save()
    with django_assert_num_queries(1):
        note.delete()
    Note.objects.bulk_create([Note(text=str(n)) for n in range(10)])
    with django_assert_num_queries(1):
        Note.objects.all().delete()


def test_how_many_queries_a_save_is(
    django_assert_num_queries: DjangoAssertNumQueries,
    django_assert_max_num_queries: DjangoAssertNumQueries,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    sse_outbox: list[Event],
    anna: Any,
) -> None:
    project = Project.objects.create(name="p")

    def costs(do: Callable[[], object], at_once: int, at_the_commit: int) -> None:
        with django_capture_on_commit_callbacks() as callbacks, django_assert_num_queries(at_once):
            do()
        with django_assert_max_num_queries(at_the_commit):
            for callback in callbacks:
                callback()
        assert len(sse_outbox) == 1
        sse_outbox.clear()

    work = Work(worker=anna)
    costs(work.save, 1, 0)
    costs(work.save, 2, 0)  # who was told before
    costs(lambda: work.save(update_fields=["title"]), 1, 1)  # what was not saved
    costs(lambda: work.save(update_fields=["worker"]), 2, 1)
    costs(lambda: Work.objects.create(worker_id=anna.pk), 1, 0)
    costs(lambda: Order.objects.create(buyer=anna), 1, 0)
    estimate = Estimate(number="1", project=project, foreman=anna, creator=anna)
    costs(estimate.save, 1, 0)
    fetched = Estimate.objects.get(pk=estimate.pk)
    costs(fetched.save, 2, 3)  # the names of the project and of two people
    costs(lambda: bulk_create(Work.objects, [Work(worker=anna)]), 1, 0)
    costs(lambda: notify("updated", [work]), 0, 0)
    costs(lambda: Delivery.objects.create(region=1), 1, 0)


def test_many_rows_do_not_cost_a_query_each(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks, told: Told, person: Make
) -> None:
    foremen = [person() for _ in range(10)]
    projects = [Project.objects.create(name=str(n), foreman=foremen[n]) for n in range(10)]
    Estimate.objects.bulk_create(
        [Estimate(number="1", project=projects[n], foreman=foremen[n], creator=foremen[-n]) for n in range(10)]
    )
    Shift.objects.bulk_create([Shift(project=project) for project in projects])
    estimates = list(Estimate.objects.all())
    doings: list[Callable[[], object]] = [
        lambda: update(Estimate.objects.all(), status="x"),
        lambda: bulk_update(Estimate.objects, estimates, ["status"]),
        lambda: notify("updated", Estimate.objects.all()),
        lambda: notify("updated", Shift.objects.all()),
    ]
    for do in doings:
        with CaptureQueriesContext(connection) as queries, django_capture_on_commit_callbacks(execute=True):
            do()
        assert len(told()) == 10
        assert len(queries) < 10


# ---- the helpers ----


@pytest.mark.parametrize("of", ["manager", "queryset", "relation"])
def test_bulk_create(committed: Commit, sse_outbox: list[Event], anna: Any, of: str) -> None:
    project = Project.objects.create(name="p")
    objects: Any = {"manager": Estimate.objects, "queryset": Estimate.objects.all(), "relation": project.estimate_set}
    with committed():
        made = bulk_create(
            objects[of],
            (Estimate(number=str(n), project=project, foreman=anna) for n in range(5)),
            batch_size=2,
        )
    assert [estimate.number for estimate in made] == list("01234")
    assert [(event.name, event.data["estimate_id"]) for event in sse_outbox] == [
        ("estimate.created", estimate.pk) for estimate in made
    ]


def test_bulk_create_takes_the_batch_size_where_django_does(committed: Commit, told: Told, anna: Any) -> None:
    with committed(), CaptureQueriesContext(connection) as queries:
        bulk_create(Work.objects, [Work(worker=anna) for _ in range(5)], 2)
    assert len([one for one in queries if one["sql"].startswith("INSERT")]) == 3
    assert told() == [("work.created", ids(anna))] * 5


def test_bulk_create_that_updates_is_refused_before_anything_is_saved(committed: Commit, told: Told, anna: Any) -> None:
    """What was created, and what was there, nobody knows."""
    with committed(), pytest.raises(ValueError, match="notify"):
        bulk_create(
            Order.objects,
            [Order(buyer=anna)],
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=["amount"],
        )
    assert told() == []
    assert not Order.objects.exists()


def test_bulk_create_of_nothing(committed: Commit, told: Told) -> None:
    with committed():
        assert bulk_create(Estimate.objects, []) == []
    assert told() == []


def test_bulk_create_that_ignores_conflicts_is_silent(committed: Commit, told: Told, anna: Any) -> None:
    """Which rows were made, the database does not tell; also where the keys are known before."""
    order = Order.objects.create(buyer=anna)
    with committed():
        bulk_create(Order.objects, [Order(pk=order.pk, buyer=anna), Order(buyer=anna)], ignore_conflicts=True)
        bulk_create(Work.objects, [Work(worker=anna)], ignore_conflicts=True)
    assert told() == []
    assert Order.objects.count() == 2


def test_bulk_update(committed: Commit, sse_outbox: list[Event], anna: Any, boris: Any) -> None:
    works = [Work.objects.create(title=str(n), worker=anna) for n in range(3)]
    gone = Work.objects.create(worker=anna)
    Work.objects.filter(pk=gone.pk).delete()
    works[1].worker = boris
    for work in works:
        work.title += "!"
    with committed():
        assert bulk_update(Work.objects, (work for work in [*works, gone]), ["title", "worker"], batch_size=2) == 3
    assert [(event.name, set(event.to.users), event.data["title"]) for event in sse_outbox] == [
        ("work.updated", ids(anna), "0!"),
        ("work.updated", ids(anna, boris), "1!"),
        ("work.updated", ids(anna), "2!"),
    ]


def test_bulk_update_tells_what_is_stored_of_the_fields_that_are_not_named(
    committed: Commit, sse_outbox: list[Event], anna: Any, boris: Any
) -> None:
    works = [Work.objects.create(title=str(n), worker=anna) for n in range(3)]
    orders = [Order.objects.create(buyer=anna, amount=n) for n in range(2)]
    for work in works:
        work.title, work.worker = "not saved", boris
    for order in orders:
        order.amount, order.parts, order.buyer = 100, {"saved": True}, boris
    with committed():
        bulk_update(Work.objects, works[:2], ["worker"])
        bulk_update(Work.objects, works[2:], ["title"])
        bulk_update(Order.objects, orders, ["parts"])
    assert [(event.data.get("title", event.data.get("amount")), set(event.to.users)) for event in sse_outbox] == [
        ("0", ids(anna, boris)),
        ("1", ids(anna, boris)),
        ("not saved", ids(anna)),
        (0, ids(anna)),
        (1, ids(anna)),
    ]
    assert [event.data["parts"] for event in sse_outbox[3:]] == [{"saved": True}] * 2
    assert [work.worker for work in works] == [boris] * 3, "the caller's own are as they were"
    assert {work.title for work in works} == {"not saved"}


@pytest.mark.parametrize("fields", [["title"], ["title", "worker"]])
def test_bulk_update_finds_what_has_its_key_as_a_text(
    committed: Commit, sse_outbox: list[Event], anna: Any, boris: Any, fields: list[str]
) -> None:
    work = Work.objects.create(title="w", worker=anna)
    order = Order.objects.create(buyer=anna)
    with committed():
        texts: list[Any] = [str(work.pk), str(order.pk)]
        assert bulk_update(Work.objects, [Work(pk=texts[0], title="w!", worker=boris)], fields) == 1
        assert bulk_update(Order.objects, [Order(pk=texts[1], amount=7)], ["amount"]) == 1
    (of_work, of_order) = sse_outbox
    assert (of_work.data["title"], of_work.data["work"]) in {("w!", work.pk), ("w!", str(work.pk))}
    assert set(of_work.to.users) == (ids(anna, boris) if "worker" in fields else ids(anna))
    assert (of_order.data["amount"], set(of_order.to.users)) == (7, ids(anna))


@pytest.mark.parametrize("rows", [1, 20])
@pytest.mark.parametrize(
    ("fields", "queries"),
    [
        (["title"], 5),  # a savepoint, who was told, the update, what was not named, the end of the savepoint
        (["title", "worker", "project"], 4),
    ],
)
def test_bulk_update_asks_once_and_not_for_each_row(
    django_assert_num_queries: DjangoAssertNumQueries,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    told: Told,
    anna: Any,
    rows: int,
    fields: list[str],
    queries: int,
) -> None:
    works = [Work.objects.create(title=str(n), worker=anna) for n in range(rows)]
    told()
    with django_assert_num_queries(queries), django_capture_on_commit_callbacks(execute=True):
        bulk_update(Work.objects, works, fields)
    assert len(told()) == rows


def test_update_where_the_filter_does_not_match_afterwards(
    committed: Commit, sse_outbox: list[Event], anna: Any, boris: Any
) -> None:
    for n in range(3):
        Work.objects.create(title=str(n), worker=anna)
    with committed():
        assert update(Work.objects.filter(worker=anna).exclude(title="1"), worker=boris, title="x") == 2
    assert [(event.name, set(event.to.users), event.data["title"]) for event in sse_outbox] == [
        ("work.updated", ids(anna, boris), "x")
    ] * 2


def test_update_of_rows_in_many_batches(committed: Commit, sse_outbox: list[Event], anna: Any) -> None:
    Order.objects.bulk_create([Order(buyer=anna, amount=n) for n in range(2500)])
    with committed():
        assert update(Order.objects.filter(amount__gte=100), amount=F("amount") - 2500) == 2400
    assert sorted(event.data["amount"] for event in sse_outbox) == [n - 2500 for n in range(100, 2500)]
    assert len({event.data["order"] for event in sse_outbox}) == 2400


@pytest.mark.parametrize("nothing", [Work.objects.none, lambda: Work.objects.filter(title="x")], ids=["none", "empty"])
def test_update_of_nothing(committed: Commit, told: Told, nothing: Callable[[], models.QuerySet[Work]]) -> None:
    with committed():
        assert update(nothing(), title="y") == 0
        assert bulk_update(Work.objects, [], ["title"]) == 0
    assert told() == []


@pytest.mark.parametrize("kind", ["ordered", "annotated", "joined", "distinct"])
def test_update_takes_what_queryset_update_takes(
    committed: Commit, sse_outbox: list[Event], anna: Any, kind: str
) -> None:
    Work.objects.create(title="w", worker=anna)
    rows: dict[str, models.QuerySet[Any]] = {
        "ordered": Work.objects.order_by("-title"),
        "annotated": Work.objects.annotate(more=Concat("title", Value("!"))),
        "joined": Work.objects.filter(worker__username=anna.username),
        "distinct": Work.objects.filter(worker__isnull=False).distinct(),
    }
    with committed():
        assert update(rows[kind], title=F("more") if kind == "annotated" else "w!") == 1
    assert [event.data["title"] for event in sse_outbox] == ["w!"]


def test_update_leaves_alone_what_does_not_match_any_more(committed: Commit, told: Told, anna: Any, boris: Any) -> None:
    """Two who take a free work at the same moment: as with ``QuerySet.update``, only one gets it."""
    work = Work.objects.create(title="free")

    def meanwhile(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE") and Work.objects.filter(worker__isnull=True).exists():
            with connection.cursor() as cursor:
                cursor.execute("UPDATE estimates_work SET worker_id = %s", [str(boris.pk).replace("-", "")])
        return execute(sql, params, many, context)

    with committed(), connection.execute_wrapper(Once(meanwhile)):
        assert update(Work.objects.filter(worker__isnull=True), worker=anna) == 0
    work.refresh_from_db()
    assert work.worker == boris
    assert told() == []


@pytest.mark.parametrize(("gone", "told_of"), [(["a", "b"], []), (["a"], ["b"])])
def test_update_says_nothing_of_rows_that_are_gone_meanwhile(
    committed: Commit, sse_outbox: list[Event], anna: Any, gone: list[str], told_of: list[str]
) -> None:
    for title in "ab":
        Order.objects.create(buyer=anna, parts={"title": title})
    keys = [order.pk.hex for order in Order.objects.all() if order.parts["title"] in gone]

    def meanwhile(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("UPDATE"):
            with connection.cursor() as cursor:
                cursor.executemany("DELETE FROM estimates_order WHERE id = %s", [[key] for key in keys])
        return execute(sql, params, many, context)

    with committed(), connection.execute_wrapper(Once(meanwhile)):
        assert update(Order.objects.all(), amount=1) == len(told_of)
    assert [event.data["parts"]["title"] for event in sse_outbox] == told_of


class Once:
    """Not for the statements that it makes itself."""

    def __init__(self, wrapper: Callable[..., Any]) -> None:
        self.wrapper = wrapper
        self.inside = False

    def __call__(self, execute: Callable[..., Any], *rest: Any) -> Any:
        if self.inside:
            return execute(*rest)
        self.inside = True
        try:
            return self.wrapper(execute, *rest)
        finally:
            self.inside = False


def test_notify(committed: Commit, told: Told, anna: Any) -> None:
    works = [Work.objects.create(title=str(n), worker=anna) for n in range(2)]
    with committed():
        notify("created", works)
        notify("updated", iter(works[:1]))
        notify("updated", Work.objects.all())
        Work.objects.all()._raw_delete("default")
        notify("deleted", works)
        notify("updated", [])
        notify("updated", [Work(worker=anna)])
        notify("deleted", Project.objects.all())
    names = ["work.created"] * 2 + ["work.updated"] * 3 + ["work.deleted"] * 2
    assert told() == [(name, ids(anna)) for name in names]


def test_notify_of_one(committed: Commit, told: Told, anna: Any) -> None:
    work: Any = Work.objects.create(worker=anna)
    works: Any = Work.objects
    with committed():
        notify("updated", work)
        notify("updated", works)
    assert told() == [("work.updated", ids(anna))] * 2


@pytest.mark.parametrize("event", ["update", "", "work.updated", "UPDATED", None])
@pytest.mark.parametrize("rows", [0, 1])
def test_notify_of_what_there_is_not(committed: Commit, told: Told, anna: Any, event: Any, rows: int) -> None:
    works = [Work.objects.create(worker=anna) for _ in range(rows)]
    with committed(), pytest.raises(ValueError, match="created, updated, deleted"):
        notify(event, works)
    assert told() == []


@both_databases
def test_notify_waits_for_the_database_that_the_instances_come_from(told: Told, person: Make) -> None:
    worker = person()
    worker.save(using="other")
    here = Work.objects.create(title="w", worker=worker)
    there = Work.objects.using("other").create(title="w", worker_id=worker.pk)
    told()
    with transaction.atomic(using="other"):
        notify("updated", [here])
        assert len(told()) == 1
        notify("updated", [there])
        notify("updated", [there], using="default")
        assert len(told()) == 1
    assert len(told()) == 1
    with rolled_back("other"):
        notify("updated", [there])
    assert told() == []


def test_who_was_added_is_told_by_notify(committed: Commit, told: Told, anna: Any) -> None:
    project = Project.objects.create(name="p")
    with committed():
        notify("updated", [project])
        project.members.add(anna)
    assert told() == [("project.updated", ids(anna))]


def test_a_model_that_is_not_registered_is_a_mistake() -> None:
    note = Note.objects.create(text="a")
    for do in (
        lambda: notify("created", [note]),
        lambda: bulk_create(Note.objects, [Note(text="b")]),
        lambda: bulk_update(Note.objects, [note], ["text"]),
        lambda: update(Note.objects.all(), text="c"),
        lambda: notify("created", [Group(pk=1)]),
    ):
        with pytest.raises(LookupError, match="no ModelEvents are registered for"):
            do()
    assert list(Note.objects.values_list("text", flat=True)) == ["a"]


@both_databases
def test_with_a_replica_the_helpers_write_to_the_primary_and_wait_for_its_commit(
    told: Told, sse_outbox: list[Event], person: Make, settings: Settings
) -> None:
    worker = person()
    work = Work.objects.create(title="w", worker=worker)
    worker.save(using="other")
    work.save(using="other")  # as the replica would have it
    told()
    settings.DATABASE_ROUTERS = ["estimates.hooks.ReadsElsewhere"]
    work._state.db = "default"
    with transaction.atomic(using="default"):
        assert update(Work.objects.all(), title="x") == 1
        assert update(Work.objects.filter(title="x").using("default"), title="y") == 1
        work.title = "z"
        assert bulk_update(Work.objects, [work], ["title"]) == 1
        bulk_create(Work.objects, [Work(title="new", worker=worker)])
        notify("updated", [work])
        assert sse_outbox == []
    assert [(event.name, event.data["title"]) for event in sse_outbox] == [
        ("work.updated", "x"),
        ("work.updated", "y"),
        ("work.updated", "z"),
        ("work.created", "new"),
        ("work.updated", "z"),
    ]
    assert Work.objects.using("other").get().title == "w"
    assert sorted(Work.objects.using("default").values_list("title", flat=True)) == ["new", "z"]
