"""What may be done at the site: functions of JSON to JSON, called by name, from a view, a command, a task, a shell.

The tests name them by the function itself, as in ``web.do(acts.file_estimate, "17", foreman=3)``, so that mypy
sees both ends.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection, transaction
from knox.models import AuthToken
from rest_framework.authtoken.models import Token
from rest_framework_simplejwt.tokens import AccessToken

import sse_django
from estimates.models import Estimate, Project
from sse_django import SSEManager

from . import children

Act = TypeVar("Act", bound=Callable[..., Any])
AsyncAct = TypeVar("AsyncAct", bound=Callable[..., Coroutine[Any, Any, Any]])
ACTS: dict[str, Callable[..., Any]] = {}
ASYNC_ACTS: dict[str, Callable[..., Coroutine[Any, Any, Any]]] = {}
User = get_user_model()


def act(function: Act) -> Act:
    ACTS[function.__name__] = function
    return function


def async_act(function: AsyncAct) -> AsyncAct:
    ASYNC_ACTS[function.__name__] = function
    return function


OfUser = Callable[[int], None]


# ---- people ----


class Person(TypedDict):
    id: int
    drf: str
    knox: str
    jwt: str


@act
def person(*roles: str) -> Person:
    """Somebody new, with a token of each kind."""
    user = User.objects.create(username=f"person-{time.time_ns()}", first_name="Анна", last_name="Седова")
    user.groups.set([Group.objects.get_or_create(name=role)[0] for role in roles])
    return {
        "id": user.pk,
        "drf": Token.objects.create(user=user).key,
        "knox": AuthToken.objects.create(user)[1],
        "jwt": str(AccessToken.for_user(user)),
    }


@act
def second_knox_token(user: int) -> str:
    token: str = AuthToken.objects.create(User.objects.get(pk=user))[1]
    return token


@act
def delete_drf_token(key: str) -> None:
    Token.objects.get(key=key).delete()


@act
def delete_knox_token(key: str) -> None:
    """As Knox' own LogoutView does it."""
    AuthToken.objects.get(token_key=key[:15]).delete()


@act
def deactivate(user: int) -> None:
    one = User.objects.get(pk=user)
    one.is_active = False
    one.save()


@act
def delete_user(user: int) -> None:
    User.objects.get(pk=user).delete()


@act
def join_group(user: int, role: str) -> None:
    User.objects.get(pk=user).groups.add(Group.objects.get_or_create(name=role)[0])


@act
def leave_group(user: int, role: str) -> None:
    User.objects.get(pk=user).groups.remove(Group.objects.get(name=role))


@act
def leave_all_groups(user: int) -> None:
    User.objects.get(pk=user).groups.clear()


@act
def take_in(role: str, *users: int) -> None:
    """From the group's side."""
    Group.objects.get(name=role).user_set.add(*users)


@act
def throw_out(role: str, *users: int) -> None:
    Group.objects.get(name=role).user_set.remove(*users)


@act
def empty_group(role: str) -> None:
    Group.objects.get(name=role).user_set.clear()


@act
def rename_group(role: str, name: str) -> None:
    group = Group.objects.get(name=role)
    group.name = name
    group.save()


@act
def delete_group(role: str) -> None:
    Group.objects.get(name=role).delete()


# ---- estimates ----


@act
def file_estimate(number: str, foreman: int | None = None, project: str = "", creator: int | None = None) -> int:
    """In a transaction, as a view of a site with ATOMIC_REQUESTS does it."""
    with transaction.atomic():
        where = Project.objects.create(name=project) if project else None
        return Estimate.objects.create(number=number, foreman_id=foreman, project=where, creator_id=creator).pk


@act
def file_estimate_and_fail(number: str, foreman: int) -> None:
    """A transaction that is rolled back at its end, with one inside that was committed."""
    try:
        with transaction.atomic():
            with transaction.atomic():
                one = Estimate.objects.create(number=number, foreman_id=foreman)
            one.status = "Согласована"
            one.save()
            SSEManager().broadcast("estimate.hint", {"estimate_id": one.pk})
            raise LookupError
    except LookupError:
        pass


@act
def assign(estimate: int, foreman: int | None) -> None:
    one = Estimate.objects.get(pk=estimate)
    one.foreman_id = foreman
    one.save()


@act
def delete_estimate(estimate: int) -> None:
    Estimate.objects.get(pk=estimate).delete()


@act
def create_in_bulk(numbers: list[str], foreman: int | None) -> list[int]:
    made = sse_django.bulk_create(Estimate.objects, [Estimate(number=n, foreman_id=foreman) for n in numbers])
    return [one.pk for one in made]


@act
def assign_in_bulk(estimates: list[int], foreman: int) -> None:
    rows = list(Estimate.objects.filter(pk__in=estimates).order_by("pk"))
    for one in rows:
        one.foreman_id = foreman
    sse_django.bulk_update(Estimate.objects, rows, ["foreman"])


@act
def assign_by_update(estimates: list[int], foreman: int) -> None:
    sse_django.update(Estimate.objects.filter(pk__in=estimates).order_by("pk"), foreman=foreman)


@act
def delete_and_notify(estimates: list[int]) -> None:
    """By SQL of one's own."""
    rows = list(Estimate.objects.filter(pk__in=estimates).order_by("pk"))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany("DELETE FROM estimates_estimate WHERE id = %s", [[one.pk] for one in rows])
        sse_django.notify("deleted", rows)


# ---- events ----


@act
def say(name: str, data: Any = None) -> None:
    SSEManager().broadcast(name, data)


@act
def become_nobody() -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


@act
def say_who() -> int:
    say("who", os.getpid())
    return os.getpid()


@act
def say_confirmed(name: str, data: Any = None) -> list[Any] | None:
    ack = SSEManager().broadcast(name, data, confirm=True)
    return None if ack is None else [ack.id, ack.matched, ack.stored]


@act
def say_large(name: str, characters: int, *, confirm: bool = False) -> bool:
    return SSEManager().broadcast(name, "x" * characters, confirm=confirm) is not None


@act
def count_off(sender: str, to: int, since: int = 0) -> None:
    """Many events, one by one; who listens can see whether one is missing, came twice, or at the wrong time."""
    for i in range(since, to):
        SSEManager().broadcast("count", {"from": sender, "n": i})


@act
def count_off_until(sender: str, path: str) -> int:
    """A steady flow, until there is this file. Return how many there were."""
    n = 0
    while not Path(path).exists():
        count_off(sender, n + 1, since=n)
        time.sleep(0.001)  # a thousand a second
        n += 1
    return n


@act
def counts() -> dict[str, int]:
    return SSEManager().counts()


@act
def operate_confirmed(user: int) -> list[bool]:
    manager = SSEManager()
    return [manager.refresh(user, confirm=True) is not None, manager.revoke(user, confirm=True) is not None]


@act
def time_of_a_confirm() -> tuple[float, float]:
    """Return how long a confirm took that got no answer, and how long the processor worked for it."""
    since, worked = time.monotonic(), time.process_time()
    assert SSEManager().ping() is None
    return time.monotonic() - since, time.process_time() - worked


@act
def count_off_in_threads(threads: int, each: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(count_off, f"thread {i}", each) for i in range(threads)]:
            done.result()


@act
def count_off_in_processes(method: str, processes: int, each: int) -> list[int | None]:
    """After a first event of one's own. Return the exit statuses."""
    say("first")
    context = multiprocessing.get_context(method)
    started = [context.Process(target=children.count_off, args=(f"process {i}", each)) for i in range(processes)]  # type: ignore[attr-defined]
    for one in started:
        one.start()
    count_off("parent", each)
    for one in started:
        one.join()
    return [one.exitcode for one in started]


@act
def count_off_in_forks(forks: int, each: int) -> list[int]:
    """The same by os.fork itself. Return the exit statuses."""
    say("first")
    children = []
    for i in range(forks):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                count_off(f"fork {i}", each)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    count_off("parent", each)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@act
def fork_amid_threads(threads: int, forks: int) -> list[int]:
    """Fork while others send. Return the exit statuses of the children, each of which says one thing."""
    sys.setswitchinterval(1e-6)  # so that a fork comes at any moment of theirs
    done = threading.Event()

    def send() -> None:
        while not done.is_set():
            for _ in range(20):
                SSEManager().broadcast("flow", object())  # never sent, so that the socket is not what they wait for
            SSEManager().send_to_role("nobody", "flow")

    others = [threading.Thread(target=send) for _ in range(threads)]
    for one in others:
        one.start()
    statuses = []
    for i in range(forks):
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # the end of one that hangs
            say("fork", i)
            os._exit(0)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if statuses[-1] != 0:
            break
    done.set()
    for one in others:
        one.join()
    return statuses


@act
def enqueue(tasks: int, each: int) -> None:
    """Leave it to Celery."""
    from .tasks import act as task

    for i in range(tasks):
        task.delay("count_off", [f"task {i}", each], {})


# ---- of async views ----


@async_act
async def file_estimate_async(number: str, foreman: int) -> int:
    estimate = Estimate(number=number, foreman_id=foreman)
    await estimate.asave()
    return estimate.pk


@async_act
async def assign_async(estimate: int, foreman: int) -> None:
    one = await Estimate.objects.aget(pk=estimate)
    one.foreman_id = foreman
    await one.asave()


@async_act
async def count_off_async(sender: str, to: int) -> None:
    """In the event loop itself, in no thread."""
    count_off(sender, to)


@async_act
async def file_estimate_and_fail_async(number: str, foreman: int) -> None:
    await sync_to_async(file_estimate_and_fail)(number, foreman)
