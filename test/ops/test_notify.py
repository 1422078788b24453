"""What the server says to its service manager: that it is ready, reloads, stops, lives. The manager is a fake."""

import itertools
import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness import Sender, wait_for
from stage import ANNA, BORIS, MakeServer, Notified, Server, lines_of, read_all, stream_request, tcp_listener

BEAT = 1_000_000  # WATCHDOG_USEC


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, directory: Path) -> Notified:
    if request.param == "path":
        return Notified(str(directory / "notify"))
    return Notified(f"@sse-test-{os.getpid()}-{directory.name}")


@pytest.fixture
def notified(directory: Path) -> Notified:
    return Notified(str(directory / "notify"))


def test_ready_is_said_when_all_is_open(make_server: MakeServer, manager: Notified, directory: Path) -> None:
    """At the moment of READY=1 each socket answers, and nothing was said before."""
    with manager:
        server = make_server(
            "--listen", f"unix:{directory / 'web.sock'}", start=False, env={"NOTIFY_SOCKET": manager.address}
        )
        server.spawn_it()
        first = manager.next()
        assert "READY=1" in first.split("\n")
        assert any(line.startswith("STATUS=") and len(line) > len("STATUS=") for line in first.split("\n"))
        server.wait_log("msg=ready")
        with server.admin() as client:
            assert client.get("/readyz").status_code == 200
        sender = Sender(server.socket)
        assert sender.send({"op": "ping"})[0]["ok"]
        sender.close()
        assert (directory / "web.sock").is_socket()
        assert "READY=1" not in list(lines_of(manager.pending()))


def test_nothing_is_ready_that_cannot_listen(make_server: MakeServer, manager: Notified) -> None:
    with manager, tcp_listener() as taken:
        server = make_server(start=False, env={"NOTIFY_SOCKET": manager.address})
        server.spawn_it(f"127.0.0.1:{taken.getsockname()[1]}")
        assert server.wait() == 1
        assert manager.pending() == []


def test_a_reload_is_said_before_and_after(make_server: MakeServer, manager: Notified) -> None:
    """As Type=notify-reload wants it: with the time, so that systemd can tell an older READY=1 from this one."""
    with manager:
        server = make_server(env={"NOTIFY_SOCKET": manager.address})
        manager.until("READY=1")
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        server.signal(signal.SIGHUP)
        manager.until("RELOADING=1")
        stamp = [line for line in manager.said[-1].split("\n") if line.startswith("MONOTONIC_USEC=")]
        assert len(stamp) == 1
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert before <= int(stamp[0].partition("=")[2]) <= after
        manager.until("READY=1")
        server.wait_log("msg=tokens_read")


def test_a_reload_that_fails_is_ready_again_too(make_server: MakeServer, manager: Notified) -> None:
    with manager:
        server = make_server(env={"NOTIFY_SOCKET": manager.address})
        manager.until("READY=1")
        server.tokens.write_text("one-word\n")
        server.signal(signal.SIGHUP)
        manager.until("RELOADING=1")
        manager.until("READY=1")
        server.wait_log("msg=tokens_not_read")
        server.join(ANNA).close()


def test_the_end_is_said_with_the_time_it_may_take(make_server: MakeServer, manager: Notified) -> None:
    with manager:
        server = make_server("--drain", "20s", env={"NOTIFY_SOCKET": manager.address})
        manager.until("READY=1")
        deaf = server.deaf()
        for _ in range(10):
            server.publish("big", "x" * 60000)
        server.signal(signal.SIGTERM)
        manager.until("STOPPING=1")
        lines = manager.said[-1].split("\n")
        assert "EXTEND_TIMEOUT_USEC=25000000" in lines
        deaf.close()
        assert server.wait() == 0
        assert "READY=1" not in list(lines_of(manager.pending()))


def test_the_status_is_kept_up_to_date(make_server: MakeServer, notified: Notified) -> None:
    """Once in ten seconds: what systemctl status shows is not from this morning."""
    with notified:
        server = make_server(env={"NOTIFY_SOCKET": notified.address})
        notified.until("READY=1")
        with server.join(ANNA), server.join(ANNA), server.join(BORIS):

            def says() -> bool:
                words = notified.until("STATUS=").lower()
                return "3 streams" in words and "2 users" in words

            wait_for(says, "STATUS= has the streams and the users")


# ---- the watchdog ----


def beats(manager: Notified, count: int) -> list[float]:
    """The times at which so many came."""
    times = []
    for _ in range(count):
        manager.until("WATCHDOG=1")
        times.append(time.monotonic())
    return times


def must_be_often(times: Sequence[float]) -> None:
    """systemd ends the service when one is missing for WATCHDOG_USEC; half of that is what it asks for."""
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert max(gaps) < BEAT / 1e6, gaps
    assert sorted(gaps)[len(gaps) // 2] <= BEAT / 2e6 + 0.1, gaps


def watched(make_server: MakeServer, manager: Notified, **env: str) -> Server:
    return make_server(env={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": str(BEAT)} | env)


@pytest.mark.parametrize("pid", [None, "$$"], ids=["for_all", "by_pid"])
def test_an_idle_server_says_that_it_lives(make_server: MakeServer, notified: Notified, pid: str | None) -> None:
    with notified:
        watched(make_server, notified, **({"WATCHDOG_PID": pid} if pid else {}))
        must_be_often(beats(notified, 4))


def test_a_busy_server_says_that_it_lives(make_server: MakeServer, notified: Notified) -> None:
    with notified:
        server = watched(make_server, notified)
        sender = Sender(server.socket)
        lines = [{"event": "e", "data": "x" * 500, "to": "all"}] * 50
        times: list[float] = []
        with server.join(ANNA) as stream:
            while len(times) < 3:
                sender.send(*lines)
                for _ in lines:
                    stream.hears("e")
                times += [time.monotonic() for line in lines_of(notified.pending()) if line == "WATCHDOG=1"]
        must_be_often(times)
        sender.close()


def test_a_server_that_hangs_does_not(make_server: MakeServer, notified: Notified) -> None:
    with notified:
        server = watched(make_server, notified)
        beats(notified, 2)
        os.kill(server.pid, signal.SIGSTOP)
        wait_for(lambda: Path(f"/proc/{server.pid}/stat").read_text().split(") ")[1][0] == "T", "it stands still")
        notified.pending()
        begin = time.monotonic()
        while time.monotonic() < begin + 1.5 * BEAT / 1e6:
            time.sleep(0.05)
            assert notified.pending() == []
        os.kill(server.pid, signal.SIGCONT)
        beats(notified, 2)


def test_it_lives_while_it_drains(make_server: MakeServer, notified: Notified) -> None:
    """Else systemd would cut off the end."""
    with notified:
        server = make_server("--drain", "20s", env={"NOTIFY_SOCKET": notified.address, "WATCHDOG_USEC": str(BEAT)})
        deaf = server.deaf()
        for _ in range(10):
            server.publish("big", "x" * 60000)
        server.signal(signal.SIGTERM)
        notified.until("STOPPING=1")
        must_be_often(beats(notified, 4))
        deaf.close()
        assert server.wait() == 0


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "abc"},
        {"WATCHDOG_USEC": "-1"},
        {"WATCHDOG_USEC": "200000x"},
        {"WATCHDOG_USEC": "99999999999999999999999999"},
        {"WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "200000", "WATCHDOG_PID": "abc"},
    ],
    ids=lambda env: "_".join(f"{k.removeprefix('WATCHDOG_')}={v}" for k, v in env.items()) or "none",
)
def test_nobody_watches(make_server: MakeServer, notified: Notified, env: dict[str, str]) -> None:
    """Without a watchdog, with a wrong one, or with one for another process: it runs, and says no WATCHDOG=1."""
    with notified:
        server = make_server(env={"NOTIFY_SOCKET": notified.address, **env})
        notified.until("READY=1")
        begin = time.monotonic()
        while time.monotonic() < begin + 0.6:
            server.send({"op": "ping"})
        assert server.end() == 0
        assert "WATCHDOG=1" not in list(lines_of([*notified.said, *notified.pending()]))


@pytest.mark.parametrize(
    "address",
    ["/nowhere/notify", "@nobody-is-here", "relative", "@", "/" + "x" * 200, "vsock:2:1", ""],
    ids=lambda a: a[:12] or "empty",
)
def test_a_manager_that_cannot_be_told(make_server: MakeServer, address: str) -> None:
    """It runs all the same; the log has one line about it, however often it would have said something."""
    server = make_server(env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000"})
    with server.join(ANNA) as stream:
        server.publish("news")
        stream.hears("news")
    server.signal(signal.SIGHUP)
    server.wait_log("msg=tokens_read")
    begin = time.monotonic()
    while time.monotonic() < begin + 0.5:
        server.send({"op": "ping"})
    assert server.end() == 0
    said = [line for line in server.logged() if "notify" in line.lower()]
    assert len(said) == (1 if address else 0), said
    assert not [line for line in server.logged("level=error") if line not in said]


def test_a_manager_that_goes_away(make_server: MakeServer, directory: Path) -> None:
    path = directory / "notify"
    manager = Notified(str(path))
    server = make_server(env={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "100000"})
    manager.until("READY=1")
    manager.socket.close()
    path.unlink()
    wait_for(lambda: [line for line in server.logged() if "notify" in line.lower()], "it says so")
    for _ in range(3):
        server.signal(signal.SIGHUP)
        server.join(ANNA).close()
    with Notified(str(path)) as again:  # as after a restart of the manager
        again.until("WATCHDOG=1")
    assert server.end() == 0


def test_a_manager_that_does_not_read_hinders_nobody(make_server: MakeServer, notified: Notified) -> None:
    with notified:
        server = make_server(env={"NOTIFY_SOCKET": notified.address, "WATCHDOG_USEC": "2000"})
        notified.until("READY=1")
        begin = time.monotonic()
        while time.monotonic() < begin + 1:
            server.send({"op": "ping"})
        with server.join(ANNA) as stream:
            server.publish("news")
            stream.hears("news")


def test_who_only_checks_says_nothing(make_server: MakeServer, notified: Notified) -> None:
    """ExecStartPre=sse --check-config has the same variables."""
    with notified:
        server = make_server("--check-config", start=False, env={"NOTIFY_SOCKET": notified.address})
        server.fails()
        assert notified.pending() == []


def test_a_stream_is_put_off_before_it_is_said_that_it_stops(make_server: MakeServer, notified: Notified) -> None:
    """STOPPING=1 is said at once at TERM, not when all is over."""
    with notified:
        server = make_server("--drain", "20s", env={"NOTIFY_SOCKET": notified.address})
        half = socket.create_connection(("127.0.0.1", server.port))
        whole = stream_request(ANNA)
        half.sendall(whole[:-2])
        server.join(ANNA).close()
        server.signal(signal.SIGTERM)
        notified.until("STOPPING=1")
        assert server.runs
        half.sendall(whole[-2:])
        assert b"retry:" in read_all(half)
        assert server.wait() == 0


def test_the_manager_is_told_no_names(make_server: MakeServer, notified: Notified) -> None:
    with notified:
        server = make_server(env={"NOTIFY_SOCKET": notified.address})
        with server.join(ANNA):
            server.signal(signal.SIGHUP)
            notified.until("RELOADING=1")
            notified.until("READY=1")
        server.end()
        text = json.dumps([*notified.said, *notified.pending()])
        assert "canary" not in text


@pytest.mark.parametrize("is_journal", [True, False])
def test_the_journal_hears_how_grave_a_line_is(is_journal: bool, make_server: MakeServer) -> None:
    """For `journalctl -p warning`: a priority stands before each line, if stderr is what JOURNAL_STREAM names."""
    server = make_server(start=False)
    server.own_log = False
    server.words.touch()
    stat = server.words.stat()
    server.env["JOURNAL_STREAM"] = f"{stat.st_dev}:{stat.st_ino + (not is_journal)}"
    server.start()
    sender = Sender(server.socket)
    sender.send({"name": "no event"})
    sender.close()
    server.wait_log("msg=bad_datagram")
    info, warning = ("<6>", "<4>") if is_journal else ("", "")
    assert server.logged("msg=ready")[0].startswith(f"{info}time=")
    assert server.logged("msg=bad_datagram")[0].startswith(f"{warning}time=")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    server.options = (*server.options, "--queue", "none")
    server.spawn_it()
    assert server.wait() == 2
    assert server.logged("sse: --queue")[0].startswith("<3>sse: " if is_journal else "sse: ")


def test_the_journal_hears_that_the_log_file_is_lost(make_server: MakeServer) -> None:
    server = make_server(start=False)
    server.words.touch()
    stat = server.words.stat()
    server.env["JOURNAL_STREAM"] = f"{stat.st_dev}:{stat.st_ino}"
    server.start()
    assert server.logged("msg=ready")[0].startswith("time="), "a file has no priorities"
    assert server.loses_its_log().startswith("<3>SSE: the log file cannot be opened again")
