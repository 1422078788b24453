"""Sockets that a service manager opened and passes: LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from harness import LIMIT, Sender, free_port, wait_for
from stage import (
    ANNA,
    MakeServer,
    Passed,
    Server,
    binary,
    datagram_socket,
    read_all,
    sanitized,
    stream_request,
    tcp_listener,
    unix_listener,
)


def activated(make_server: MakeServer, *passed: Passed, start: bool = True, options: tuple[str, ...] = ()) -> Server:
    """Started with these sockets; it opens none of its own but the operator's, if none is passed."""
    server = make_server(*options, start=False)
    server.passed = passed
    if any(one.name == "admin" for one in passed):
        server.own_listen = False
    return server.start() if start else server


def hears(server: Server, family: int, address: object) -> bytes:
    """What a stream at this address gets of one event."""
    with socket.socket(family) as s:
        s.settimeout(LIMIT)
        s.connect(address)  # type: ignore[arg-type]
        s.sendall(stream_request(ANNA))
        got = b""
        while b'"connected"' not in got:
            got += s.recv(65536)
        server.publish("news", 1)
        while b'"news"' not in got:
            got += s.recv(65536)
        return got


def test_all_of_them_serve(make_server: MakeServer, directory: Path) -> None:
    """A datagram socket, two TCP ones (IPv4, IPv6), a Unix one, and the operator's; none is opened beside them."""
    events, web = directory / "events.sock", directory / "web.sock"
    four, six = tcp_listener(), tcp_listener(socket.AF_INET6, "::1")
    operators = directory / "operator.sock"
    sockets = [datagram_socket(events), four, six, unix_listener(web), unix_listener(operators)]
    names = ["sse.socket", "web", "web", "web", "admin"]
    server = activated(make_server, *(Passed(s, name) for s, name in zip(sockets, names, strict=True)))
    server.sender = Sender(events)
    for family, address in (
        (socket.AF_INET, four.getsockname()),
        (socket.AF_INET6, six.getsockname()[:2]),
        (socket.AF_UNIX, str(web)),
    ):
        assert b'"news"' in hears(server, family, address)
    server.admin_path = operators
    with server.admin() as client:
        assert client.get("/readyz").text.startswith("ready\n")
    assert not server.socket.exists(), "--socket is not opened beside"
    listening = server.logged("msg=listening")
    assert len(listening) == 5
    assert all("by=systemd" in line for line in listening)
    assert server.logged("msg=listening", f"socket={events}", "by=systemd")
    assert server.logged("msg=listening", f"address=127.0.0.1:{four.getsockname()[1]}", "by=systemd")
    assert server.logged("msg=listening", f"address=[::1]:{six.getsockname()[1]}", "by=systemd")
    assert server.logged("msg=listening", f"address=unix:{web}", "by=systemd")
    assert server.end() == 0
    for path in (events, web, operators):
        assert path.is_socket(), "the manager's path stays"
    for s in sockets:
        s.close()


def test_what_is_not_passed_is_opened(make_server: MakeServer, directory: Path) -> None:
    """Only the datagram socket is passed: --listen and --admin are as always."""
    events = directory / "events.sock"
    with datagram_socket(events) as s:
        server = activated(make_server, Passed(s))
        server.sender = Sender(events)
        with server.join(ANNA) as stream:
            server.publish("news")
            stream.hears("news")
        assert not server.socket.exists()
        assert len(server.logged("msg=listening", "by=systemd")) == 1
        assert len(server.logged("msg=listening")) == 3
        server.close()
        assert events.is_socket()


def test_only_the_listener_is_passed(make_server: MakeServer) -> None:
    with tcp_listener() as s:
        server = activated(make_server, Passed(s))
        assert server.socket.is_socket(), "--socket is its own"
        assert b'"news"' in hears(server, socket.AF_INET, s.getsockname())
        server.close()
        assert not server.socket.exists()


def test_a_socket_without_a_path(make_server: MakeServer) -> None:
    """ListenDatagram=@sse"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind("")
        activated(make_server, Passed(s))
        sender = Sender(Path("unused"))
        sender.to = s.getsockname()
        sender.socket.sendto(b'{"op":"ping"}', s.getsockname())
        assert b'"ok":true' in sender.socket.recv(4096)
        sender.close()


def test_what_was_queued_before_the_start_is_taken(make_server: MakeServer, directory: Path) -> None:
    """Datagrams that were sent while it was away, and are in the order they came in."""
    events = directory / "events.sock"
    with datagram_socket(events) as s:
        sender = Sender(events)
        for i in range(5):
            sender.socket.sendto(b'{"event":"e%d","data":1,"to":"all"}' % i, str(events))
        server = activated(make_server, Passed(s))
        answers = b"".join(sender.socket.recv(4096) + b"\n" for _ in range(5))
        assert answers.count(b'"ok":true') == 5
        assert [re.findall(r"name=(\S+)", line)[0] for line in server.logged("msg=event")] == [
            f"e{i}" for i in range(5)
        ]
        sender.close()


def test_connections_that_were_queued_before_the_start_are_taken(make_server: MakeServer) -> None:
    with tcp_listener() as s, socket.create_connection(s.getsockname()) as early:
        early.sendall(stream_request(ANNA))
        server = activated(make_server, Passed(s))
        got = b""
        while b'"connected"' not in got:
            got += early.recv(4096)
        assert server.port == s.getsockname()[1]


def test_connections_have_what_ours_have(make_server: MakeServer) -> None:
    """TCP_NODELAY, keepalive and the send buffer come from the listener, whoever opened it: small frames come at once,
    and who does not read is closed as slow, not buffered for megabytes."""
    with tcp_listener() as s:
        server = activated(make_server, Passed(s), options=("--queue", "2", "--send-buffer", "4096"))
        deaf = server.deaf()
        sent = 0
        while not server.logged("reason=slow"):
            server.publish("big", "x" * 20000)
            sent += 1
        assert sent < 20, "the kernel took a buffer of its own size"
        deaf.close()


@pytest.mark.parametrize("blocking", [True, False])
def test_a_blocking_socket_does_not_block_the_loop(make_server: MakeServer, directory: Path, blocking: bool) -> None:
    """Others share the descriptor's flags; systemd passes blocking ones, unless NonBlocking= says otherwise."""
    events = directory / "events.sock"
    with datagram_socket(events) as d, tcp_listener() as s:
        d.setblocking(blocking)
        s.setblocking(blocking)
        server = activated(make_server, Passed(d), Passed(s))
        server.sender = Sender(events)
        with server.join(ANNA) as one, server.join(ANNA) as two:
            for name in ("a", "b"):
                server.publish(name)
                one.hears(name)
                two.hears(name)


def test_it_keeps_none_it_does_not_use(make_server: MakeServer) -> None:
    """Nothing is passed on, nothing is left over: descriptors are what they are without."""
    plain = make_server()
    with tcp_listener() as s:
        server = activated(make_server, Passed(s))
        assert server.descriptors() == plain.descriptors()


# ---- what is not for us ----


@pytest.mark.parametrize(
    "env",
    [
        {"LISTEN_PID": "1"},
        {"LISTEN_PID": "abc"},
        {"LISTEN_PID": ""},
        {"LISTEN_PID": "-1"},
        {"LISTEN_PID": "99999999999999999999"},
    ],
    ids=lambda env: env["LISTEN_PID"] or "empty",
)
def test_sockets_of_another_process_are_ignored(make_server: MakeServer, directory: Path, env: dict[str, str]) -> None:
    """LISTEN_PID is somebody else: a shell between us and the manager has passed the variables on."""
    with datagram_socket(directory / "events.sock") as s:
        server = make_server(start=False, env=env)
        server.passed = (Passed(s),)
        server.start()
        assert server.socket.is_socket()
        assert not server.logged("by=systemd")
        with server.join(ANNA) as stream:
            server.publish("news")
            stream.hears("news")


@pytest.mark.parametrize("count", ["", "abc", "-1", "1000000000", "3x", "99999999999999999999", " 1"])
def test_a_wrong_number_is_one_clear_line(make_server: MakeServer, directory: Path, count: str) -> None:
    path = directory / "events.sock"
    with datagram_socket(path) as s:
        server = make_server(start=False)
        server.passed = (Passed(s),)
        server.env["LISTEN_FDS"] = count
        words = server.fails()
        assert server.popen is not None
        assert server.popen.returncode == 2
        assert words.startswith("sse: ")
        assert words.count("\n") == 1
        assert "LISTEN_FDS" in words
        assert path.is_socket()


def test_none_passed_is_none(make_server: MakeServer) -> None:
    with tcp_listener() as s:
        server = make_server(start=False)
        server.passed = (Passed(s),)
        server.env["LISTEN_FDS"] = "0"
        server.start()
        assert not server.logged("by=systemd")


# ---- wrong kinds ----


def bound(family: int, kind: int, address: object) -> socket.socket:
    s = socket.socket(family, kind)
    s.bind(address)  # type: ignore[arg-type]
    return s


def wrong(kind: str, directory: Path) -> list[Passed]:
    """The last of them is the wrong one, and is called so."""
    path = str(directory / "wrong.sock")
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    makes: dict[str, Callable[[], socket.socket | int]] = {
        "second datagram": lambda: datagram_socket(Path(path)),
        "UDP": lambda: bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        "UDP of IPv6": lambda: bound(socket.AF_INET6, socket.SOCK_DGRAM, ("::1", 0)),
        "not listening": lambda: bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        "Unix, not listening": lambda: bound(socket.AF_UNIX, socket.SOCK_STREAM, path),
        "SEQPACKET": lambda: bound(socket.AF_UNIX, socket.SOCK_SEQPACKET, path),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "connected": lambda: pair[0],
        "file": lambda: os.open(directory / "file", os.O_RDWR | os.O_CREAT),
        "pipe": lambda: os.pipe()[0],
        "directory": lambda: os.open(directory, os.O_RDONLY),
    }
    first = [Passed(datagram_socket(directory / "events.sock"), "events")] if kind == "second datagram" else []
    first += [Passed(tcp_listener(), "web")]
    return [*first, Passed(makes[kind](), "the-wrong-one")]


KINDS = [
    "second datagram",
    "UDP",
    "UDP of IPv6",
    "not listening",
    "Unix, not listening",
    "SEQPACKET",
    "netlink",
    "connected",
    "file",
    "pipe",
    "directory",
]


def must_name(server: Server, descriptor: int, name: str) -> None:
    words = server.fails()
    assert server.popen is not None
    assert server.popen.returncode == 2, words
    assert words.startswith("sse: ")
    assert words.count("\n") == 1
    assert re.search(rf"\b{descriptor}\b", words), words
    assert name in words
    assert not server.socket.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_kind_is_named(make_server: MakeServer, directory: Path, kind: str) -> None:
    """One line, with descriptor and FileDescriptorName; exit 2, so that systemd does not try again."""
    passed = wrong(kind, directory)
    before = sorted(directory.rglob("*.sock"))
    must_name(activated(make_server, *passed, start=False), 2 + len(passed), "the-wrong-one")
    assert sorted(directory.rglob("*.sock")) == before


def test_a_descriptor_that_is_not_there(make_server: MakeServer) -> None:
    """LISTEN_FDS says two, and there is one."""
    with tcp_listener() as s:
        server = activated(make_server, Passed(s, "the-first"), start=False)
        server.env["LISTEN_FDS"] = "2"
        words = server.fails()
        assert server.popen is not None
        assert server.popen.returncode == 2
        assert words.count("\n") == 1
        assert re.search(r"\b4\b", words), words


def test_names_may_be_missing(make_server: MakeServer) -> None:
    """An older manager sends no LISTEN_FDNAMES, or fewer than there are sockets."""
    for names in ("", "one", "one:two:three:four", ":::"):
        with tcp_listener() as s, tcp_listener() as t:
            server = make_server(start=False)
            server.passed = (Passed(s), Passed(t))
            server.env["LISTEN_FDNAMES"] = names
            server.start()
            assert len(server.logged("by=systemd")) == 2
            assert b'"news"' in hears(server, socket.AF_INET, t.getsockname())
            server.close()


@pytest.mark.parametrize("count", [16, 17, 32, 33, 100])
def test_more_than_there_is_room_for(make_server: MakeServer, count: int) -> None:
    """With so many, and an operator's listener beside: all of them serve, or one line says that there are too many."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(tcp_listener()) for _ in range(count)]
        server = activated(make_server, *(Passed(s, f"web{i}") for i, s in enumerate(sockets)), start=False)
        server.spawn_it()
        wait_for(lambda: not server.runs or server.logged("msg=ready"), "it has decided")
        if server.runs:
            for s in sockets:
                server.port = s.getsockname()[1]
                assert b" 404 " in server.raw(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            with server.admin() as client:
                assert client.get("/livez").status_code == 200
        else:
            words = server.words.read_text()
            assert server.wait() == 2, words
            assert words.startswith("sse: ")
            assert words.count("\n") == 1
            assert count > 16, "as many as --listen takes"


def test_a_socket_that_it_has_let_go_wakes_nobody(make_server: MakeServer, directory: Path) -> None:
    """While it drains the manager has them open, clients and datagrams queue up there, and the loop sleeps."""
    events = directory / "events.sock"
    with datagram_socket(events) as d, tcp_listener() as s:
        server = activated(make_server, Passed(d), Passed(s), options=("--drain", "30s"))
        server.sender = Sender(events)
        deaf = server.deaf()
        for _ in range(10):
            server.publish("big", "x" * 60000)
        server.signal(signal.SIGTERM)
        server.wait_log("msg=draining")
        with socket.create_connection(s.getsockname()):
            server.sender.socket.sendto(b'{"op":"ping"}', str(events))
            process = psutil.Process(server.pid)
            before = sum(process.cpu_times()[:2])
            time.sleep(1)  # nothing happens: that is what is looked at
            assert sum(process.cpu_times()[:2]) - before < 0.05
        deaf.close()
        assert server.wait() == 0


# ---- the real thing ----


def test_systemds_own_program(make_server: MakeServer) -> None:
    """systemd-socket-activate opens the sockets, and starts the server at the first connection."""
    port = free_port()
    server = make_server(start=False)
    server.wrap = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", "--fdname=web"]
    if sanitized():
        server.wrap = [*server.wrap, "-E", "ASAN_OPTIONS"]
    server.spawn_it()

    def connects() -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", port), LIMIT) as s:
                s.sendall(b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                return read_all(s)
        except ConnectionRefusedError:
            return b""

    assert b" 404 " in wait_for(connects, "it answers")
    words = server.words.read_text()
    assert server.logged("msg=listening", f"address=127.0.0.1:{port}", "by=systemd"), words
    assert server.end() == 0


def test_systemds_own_program_with_datagrams(make_server: MakeServer, directory: Path) -> None:
    path = directory / "events.sock"
    server = make_server(start=False)
    server.wrap = ["systemd-socket-activate", "--datagram", "-l", str(path), "-E", "ASAN_OPTIONS"]
    server.spawn_it()
    wait_for(path.exists, "the socket is there")
    sender = Sender(path)
    (answer,) = sender.send({"event": "first", "data": 1, "to": "all"})
    assert answer["ok"]
    sender.close()
    server.wait_log("msg=event name=first")
    assert server.end() == 0
    assert path.is_socket()


def test_variables_are_not_for_children_nor_left_in_the_way(make_server: MakeServer) -> None:
    """A second start in the same shell, with variables left over, is not confused by them: see LISTEN_PID."""
    env = {"LISTEN_FDS": "3", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "a:b:c"}
    done = subprocess.run([binary(), "--version"], env={**os.environ, **env}, capture_output=True, check=False)
    assert done.returncode == 0
    server = make_server(env=env)
    assert httpx.get(f"http://127.0.0.1:{server.port}/nothing", timeout=LIMIT).status_code == 404


def test_what_stands_for_nothing_is_said(make_server: MakeServer, directory: Path) -> None:
    """Options whose sockets systemd passes: a warning each, and what was passed is what serves."""
    events = directory / "passed.sock"
    with tcp_listener() as web, datagram_socket(events) as datagrams, unix_listener(directory / "operator") as own:
        passed = (Passed(web), Passed(datagrams), Passed(own, "admin"))
        elsewhere = ("--listen", f"127.0.0.1:{free_port()}", "--admin", f"127.0.0.1:{free_port()}")
        server = activated(make_server, *passed, options=(*elsewhere, "--socket", str(directory / "own.sock")))
        for option in ("--listen", "--admin"):
            (line,) = server.logged("msg=option_unused", f"option={option} ")
            assert line.endswith('why="systemd passes a socket instead"')
        (line,) = server.logged("msg=option_unused", "option=--socket ")
        assert line.endswith('why="systemd passes another: name that one, so that sse --status finds it"')
        assert not (directory / "own.sock").exists()
        assert server.logged(f"msg=listening socket={events} by=systemd")
