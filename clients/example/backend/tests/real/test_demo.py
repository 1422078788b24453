"""The demo: people who see each other's changes, and how it starts, goes on and stops."""

from __future__ import annotations

import os
import signal
import socket
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from .conftest import LAUNCHER, Running, free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType


def test_a_foremans_estimate_reaches_every_manager_and_no_other_foreman(demo: Running) -> None:
    tokens = {name: demo.token(name) for name in ("manager1", "manager2", "foreman1", "foreman2")}
    with (
        demo.stream(tokens["manager1"]) as one,
        demo.stream(tokens["manager2"]) as two,
        demo.stream(tokens["foreman1"]) as mine,
        demo.stream(tokens["foreman2"]) as others,
    ):
        for stream in (one, two, mine, others):
            assert next(stream)["event"] == "connected"
        made = demo.api("POST", "estimates/", tokens["foreman1"], project=1, amount="10.00").json()
        for stream in (one, two, mine):
            event = next(stream)
            assert (event["event"], event["data"]["estimate_id"]) == ("estimate.created", made["id"])
        his = demo.api("POST", "estimates/", tokens["foreman2"], project=1).json()
        assert next(others)["data"]["estimate_id"] == his["id"]  # the first that he hears


def test_logging_out_ends_the_stream(demo: Running) -> None:
    token = demo.token("foreman2")
    with demo.stream(token) as events:
        assert next(events)["event"] == "connected"
        assert demo.api("POST", "logout/", token).status_code == 204
        assert [event["event"] for event in events] == ["auth.revoked"]
    assert demo.http.get("/api/v1/sse/events/", params={"token": token}).status_code == 401


def test_who_loses_his_role_hears_nothing_more(demo: Running) -> None:
    token = demo.token("foreman2")
    roles = "from api.models import User; from django.contrib.auth.models import Group\n"
    with demo.stream(token) as events:
        assert next(events)["event"] == "connected"
        demo.shell(f"{roles}User.objects.get(username='foreman2').groups.clear()")
        assert [event["event"] for event in events] == ["auth.revoked"]
    assert demo.http.get("/api/v1/sse/events/", params={"token": token}).status_code == 401
    demo.shell(f"{roles}User.objects.get(username='foreman2').groups.add(Group.objects.get(name='foreman'))")
    demo.api("POST", "logout/", token)  # sse refuses this token a while longer


@pytest.mark.parametrize("how", ["kill -9", "HUP"])
def test_after_a_restart_of_sse_a_page_gets_what_it_missed(demo: Running, how: str) -> None:
    token = demo.token("manager1")
    with demo.stream(token) as events:
        seen = next(events)["id"]
    made = demo.api("POST", "estimates/", token, project=2).json()
    if how == "HUP":
        demo.process.send_signal(signal.SIGHUP)
    else:
        os.kill(demo.info["sse_pid"], signal.SIGKILL)
    demo.restarted()
    with demo.stream(token, lastEventId=seen) as events:
        assert next(events)["event"] == "connected"
        missed = next(events)
        assert (missed["event"], missed["data"]["estimate_id"]) == ("estimate.created", made["id"])


def test_what_django_says_while_sse_is_away_makes_pages_load_anew(demo: Running) -> None:
    token = demo.token("manager1")
    with demo.stream(token) as events:
        seen = next(events)["id"]
    os.kill(demo.info["sse_pid"], signal.SIGKILL)
    demo.api("POST", "estimates/", token, project=2)
    demo.restarted()
    with demo.stream(token, lastEventId=seen) as events:
        assert next(events)["event"] == "connected"
        assert (event := next(events))["event"] == "system.resync", event
        assert event["data"] == {"reason": "lost"}


def test_a_burst_reaches_every_stream_whole(demo: Running) -> None:
    token = demo.token("manager2")
    with demo.stream(token) as one, demo.stream(token) as two:
        assert [next(one)["event"], next(two)["event"]] == ["connected", "connected"]
        made = [demo.api("POST", "estimates/", token, project=3).json()["id"] for _ in range(100)]
        for stream in (one, two):
            assert [next(stream)["data"]["estimate_id"] for _ in made] == made


def test_the_audit_log_has_django_and_sse_in_it(demo: Running) -> None:
    token = demo.token("foreman1")
    pk = demo.api("POST", "estimates/", token, project=1, number="audited").json()["id"]
    line = f"app=audit level=info msg=created user=foreman1 object=estimate:{pk} name=audited"
    log = demo.state / "audit.log"
    wait_for(lambda: line in log.read_text(), line)
    wait_for(lambda: "app=SSE level=info msg=event name=estimate.created" in log.read_text(), "the event of sse")
    assert "app=audit level=info msg=login user=foreman1 from=127.0.0.1" in log.read_text()


def test_the_log_says_whose_browser_a_stream_is_whatever_its_head_says(demo: Running) -> None:
    log, token = demo.state / "audit.log", demo.token("foreman2")
    before = len(log.read_text())
    with demo.http.stream(
        "GET", "/api/v1/sse/events/", params={"token": token}, headers={"X-Forwarded-For": "203.0.113.7"}
    ) as response:
        assert response.status_code == 200
        lines = wait_for(
            lambda: [line for line in log.read_text()[before:].splitlines() if "msg=connect " in line], "connect"
        )
    assert lines[0].endswith(" from=127.0.0.1")


def test_who_tries_passwords_is_slowed_down(tmp_path: Path) -> None:
    running = Running(tmp_path, "--logins", "20")

    def attempts(path: str) -> Iterator[int]:
        while (status := running.http.post(path, json={"username": "manager1"}).status_code) != 429:
            yield status

    try:
        assert list(islice(attempts("/api/v1/login/"), 100))[:20] == [400] * 20
        assert len(list(islice(attempts("/admin/login/"), 100))) < 20  # they count together
        assert running.http.get("/admin/login/").status_code == 200
        assert running.http.get("/api/v1/me/").status_code == 401
    finally:
        assert running.stop() == 0


@pytest.fixture
def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The demo's program as a module, with a project of its own, and an npm that says what NODE_ENV was."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("launcher", str(LAUNCHER))
    module = module_from_spec(spec_from_loader("launcher", loader) or pytest.fail("no spec"))
    loader.exec_module(module)
    folders = {"REACT": tmp_path / "react", "FRONTEND": tmp_path / "frontend"}
    for name, place in {"TOP": tmp_path, "BUILD": tmp_path / "build", **folders}.items():
        monkeypatch.setattr(module, name, place)
    for folder in folders.values():
        folder.mkdir()
        for name in ("package.json", "package-lock.json"):
            (folder / name).write_text("{}")
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(
        "#!/bin/sh\ncase $1 in ci) made=node_modules ;; *) made=dist ;; esac\nmkdir $made 2>/dev/null\n"
        f'echo "$1 in ${{PWD##*/}}: ${{NODE_ENV-none}}" >>{tmp_path}/calls\n'
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{npm.parent}:{os.environ['PATH']}")
    return module


def test_the_page_is_built_for_a_site_whatever_environment_the_demo_has(
    launcher: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mode in ("test", "production"):  # a second time, everything is there
        monkeypatch.setenv("NODE_ENV", mode)
        launcher.prepare_page(lambda _: None)
    assert (tmp_path / "calls").read_text().splitlines() == [
        "ci in react: none",
        "run in react: production",
        "ci in frontend: none",
        "run in frontend: production",
    ]


def test_a_second_demo_takes_a_port_of_its_own_and_keeps_what_was_there(tmp_path: Path, demo: Running) -> None:
    deep = tmp_path / ("a path that is too long for a socket, with spaces " * 2)
    deep.mkdir()
    second = Running(deep)
    assert second.info["url"] != demo.info["url"]
    pk = second.api("POST", "estimates/", second.token("manager1"), project=1, number="kept").json()["id"]
    assert second.stop(signal.SIGINT) == 0
    assert "The demo has stopped." in second.log.read_text()
    for child in second.info["pids"].values():
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
    for name in ("dist/index.html", "dist/assets/index-4f2a.js", "ready.json"):
        (deep / name).unlink(missing_ok=True)
    (deep / "dist" / "assets").rmdir()
    (deep / "dist").rmdir()
    third = Running(deep)
    assert third.api("GET", f"estimates/{pk}/", third.token("manager1")).json()["number"] == "kept"
    assert third.stop() == 0


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AssertionError, match=f"port {port} of 127.0.0.1 can't be had"):
            Running(tmp_path, "--port", str(port))


@pytest.mark.parametrize("name", ["django", "nginx"])
def test_a_program_that_dies_ends_the_demo_with_its_last_words(tmp_path: Path, name: str) -> None:
    running = Running(tmp_path, "--port", str(free_port()))
    os.kill(running.info["pids"][name], signal.SIGKILL)
    assert running.process.wait(60) == 1
    assert f"{name} ended (SIGKILL)" in running.log.read_text()
    for child in running.info["pids"].values():
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
