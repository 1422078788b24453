"""The operator's listener: /livez, /readyz and /metrics, whatever state the server is in, and nothing else."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness import EVENTS, LIMIT, STATS, free_port, wait_for
from stage import ANNA, BORIS, Backend, MakeServer, Server, read_all, status, stream_request, tcp_listener

PATHS = ["/livez", "/readyz", "/metrics"]
BIG = "x" * 60000


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    return make_server()


@pytest.fixture
def admin(server: Server) -> Iterator[httpx.Client]:
    with server.admin() as client:
        yield client


def test_a_server_that_runs_is_alive_and_ready(admin: httpx.Client) -> None:
    live, ready = admin.get("/livez"), admin.get("/readyz")
    assert (live.status_code, live.text) == (200, "ok\n")
    assert (ready.status_code, ready.text) == (200, "ready\njournal off\ndjango off\n")
    assert live.headers["content-type"].startswith("text/plain")
    assert ready.headers["content-type"].startswith("text/plain")


def test_nothing_of_it_is_kept_in_a_cache(admin: httpx.Client) -> None:
    for path in PATHS:
        assert "no-store" in admin.get(path).headers["cache-control"]


@pytest.mark.parametrize(
    "path", ["/", "/metrics/x", "/nothing", EVENTS, STATS, "/api/v1/sse/metrics", "/events/", "/stats/"]
)
def test_nothing_else_is_there(admin: httpx.Client, path: str) -> None:
    answer = admin.get(path, headers={"Authorization": f"Bearer {ANNA}"}, params={"token": ANNA})
    assert answer.status_code == 404
    assert list(answer.json()) == ["error"]


@pytest.mark.parametrize("path", [*PATHS, "/api/v1/sse/metrics", "/api/v1/sse/livez", "/api/v1/sse/readyz"])
def test_browsers_find_nothing_of_it(server: Server, path: str) -> None:
    url = f"http://127.0.0.1:{server.port}{path}"
    for headers in ({}, {"Authorization": f"Bearer {ANNA}"}):
        assert httpx.get(url, headers=headers, timeout=LIMIT).status_code == 404


def test_head_has_no_body(admin: httpx.Client) -> None:
    for path in PATHS:
        answer = admin.head(path)
        assert answer.status_code == 200
        assert answer.content == b""
        assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_it_is_only_for_reading(admin: httpx.Client, method: str) -> None:
    for path in PATHS:
        answer = admin.request(method, path)
        assert answer.status_code == 405
        assert "GET" in answer.headers["allow"]
        assert "HEAD" in answer.headers["allow"]


def test_one_connection_serves_many_questions(server: Server) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(server.admin_path))
        for _ in range(3):
            s.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            got = b""
            while not got.endswith(b"ok\n"):
                part = s.recv(4096)
                assert part, got
                got += part
        s.sendall(
            b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * 2
            + b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        assert read_all(s).count(b"ok\n") == 3


def test_old_clients_and_probes_of_proxies(server: Server) -> None:
    """HTTP/1.0 without a Host, as some checkers ask."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(server.admin_path))
        s.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        answer = read_all(s)
        assert b" 200 " in answer.split(b"\r\n")[0]
        assert answer.endswith(b"\r\n\r\nok\n")


def test_a_request_with_a_body_or_a_mistake_ends_the_connection(server: Server) -> None:
    for request, expected in (
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", b" 413 "),
        (b"GET /livez HTTP/1.1\nHost: a\n\n", b" 400 "),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b" 414 "),
    ):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(server.admin_path))
            s.sendall(request)
            answer = read_all(s)
            assert expected in answer.split(b"\r\n")[0] + b" ", answer
            assert answer.count(b"HTTP/1.1 ") == 1


def test_it_may_be_at_ports_and_paths_at_once(make_server: MakeServer) -> None:
    ports = [free_port(), free_port()]
    server = make_server("--admin", f"127.0.0.1:{ports[0]}", "--admin", f"127.0.0.1:{ports[1]}")
    for port in ports:
        assert httpx.get(f"http://127.0.0.1:{port}/livez", timeout=LIMIT).text == "ok\n"
    with server.admin() as client:
        assert client.get("/livez").text == "ok\n"


def test_its_path_is_gone_when_the_server_is(make_server: MakeServer) -> None:
    server = make_server()
    assert server.admin_path.is_socket()
    assert server.admin_path.stat().st_mode & 0o777 == 0o660
    assert server.end() == 0
    assert not server.admin_path.exists()


def test_by_default_there_is_none(make_server: MakeServer) -> None:
    server = make_server(start=False)
    server.own_listen = False
    server.options = (*server.options, "--listen", "127.0.0.1:0", "--socket", str(server.socket))
    server.start()
    assert len(server.logged("msg=listening")) == 2
    assert httpx.get(f"http://127.0.0.1:{server.port}/metrics", timeout=LIMIT).status_code == 404


def test_a_full_house_is_still_looked_after(make_server: MakeServer) -> None:
    """--max-connections is reached, by streams and by many more who are put off: the operator gets in."""
    server = make_server("--max-connections", "10")
    streams = [server.join(ANNA) for _ in range(10)]
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(10)]
    assert server.puts_off(BORIS)
    for _ in range(3):  # each on a connection of its own
        with server.admin() as client:
            assert client.get("/livez").text == "ok\n"
            assert client.get("/readyz").status_code == 200
            assert client.get("/metrics").status_code == 200
            assert client.get("/livez").headers.get("connection", "keep-alive") == "keep-alive"
    for s in idle:
        s.close()
    for stream in streams:
        stream.close()


def test_the_operator_takes_no_place_of_a_browser(make_server: MakeServer) -> None:
    """Ten who look on do not make the house full."""
    server = make_server("--max-connections", "4")
    clients = [server.admin() for _ in range(10)]
    for client in clients:
        assert client.get("/livez").status_code == 200
    streams = [server.join(ANNA) for _ in range(4)]
    for client in clients:
        client.close()
    for stream in streams:
        stream.close()


def test_limits_of_addresses_are_not_the_operators(make_server: MakeServer) -> None:
    port = free_port()
    server = make_server(
        "--admin", f"127.0.0.1:{port}", "--requests-per-address", "1", "--connections-per-address", "1"
    )
    with server.join(ANNA):
        for _ in range(5):
            assert httpx.get(f"http://127.0.0.1:{port}/livez", timeout=LIMIT).status_code == 200


def drained(server: Server) -> socket.socket:
    """TERM was sent, and there is a stream that does not read, so that it takes all of --drain."""
    deaf = server.deaf()
    for _ in range(10):
        server.publish("big", BIG)
    server.signal(signal.SIGTERM)
    server.wait_log("msg=draining")
    return deaf


def test_while_it_drains_it_is_alive_and_not_ready(make_server: MakeServer) -> None:
    server = make_server("--drain", "30s")
    with server.admin() as kept:
        assert kept.get("/readyz").status_code == 200
        deaf = drained(server)
        for client in (server.admin(), server.admin()):
            with client:
                ready = client.get("/readyz")
                assert ready.status_code == 503
                assert ready.text.splitlines()[0] == "not ready: draining"
                assert client.get("/livez").text == "ok\n"
                assert client.get("/metrics").status_code == 200
        assert kept.get("/readyz").status_code == 503
    assert server.samples()["sse_draining"] == 1
    deaf.close()
    assert server.wait() == 0


def test_who_only_looks_on_does_not_hold_up_the_end(make_server: MakeServer) -> None:
    """A kept-alive connection of the operator's is no stream to wait for."""
    server = make_server("--drain", "600s")
    with server.admin() as client:
        assert client.get("/livez").status_code == 200
        assert server.end() == 0


def test_the_journal_and_django_are_named(make_server: MakeServer, backend: Backend, directory: Path) -> None:
    (directory / "journal").mkdir()
    server = make_server("--journal", str(directory / "journal"), "--auth-url", backend.url)
    with server.admin() as client:
        assert client.get("/readyz").text == "ready\njournal ok\ndjango not asked yet\n"
        backend.answers["asked"] = status(500)
        server.puts_off("asked")
        ready = client.get("/readyz")
        assert (ready.status_code, ready.text) == (200, "ready\njournal ok\ndjango failing\n")
        backend.lets_in("right", "1")
        server.join("right").close()
        assert client.get("/readyz").text == "ready\njournal ok\ndjango ok\n"


def test_two_servers_do_not_share_its_address(make_server: MakeServer) -> None:
    first = make_server()
    second = make_server(start=False)
    second.admin_path = first.admin_path
    words = second.fails()
    assert second.popen is not None
    assert second.popen.returncode == 1
    assert words.count("\n") == 1
    assert "--admin" in words
    assert "another program is listening there" in words
    with first.admin() as client:
        assert client.get("/livez").status_code == 200


def test_a_port_that_is_taken_is_named(make_server: MakeServer) -> None:
    with tcp_listener() as taken:
        server = make_server("--admin", f"127.0.0.1:{taken.getsockname()[1]}", start=False)
        words = server.fails()
        assert server.popen is not None
        assert server.popen.returncode == 1
        assert words.count("\n") == 1
        assert "--admin" in words


@pytest.mark.parametrize(
    "value",
    ["nowhere", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x", "unix:", "unix:relative", "unix:/" + "x" * 200],
)
def test_wrong_addresses(make_server: MakeServer, value: str) -> None:
    server = make_server("--admin", value, start=False)
    words = server.fails()
    assert server.popen is not None
    assert server.popen.returncode == 2
    assert words.startswith("sse: --admin")
    assert words.count("\n") == 1


def test_a_client_that_asks_slowly_hinders_nobody(server: Server) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(server.admin_path))
        s.sendall(b"GET /livez HT")
        with server.admin() as client:
            assert client.get("/livez").status_code == 200
        with server.join(ANNA) as stream:
            server.publish("news")
            stream.hears("news")
        s.sendall(b"TP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_all(s).endswith(b"ok\n")


def test_a_client_that_reads_nothing_hinders_nobody(server: Server) -> None:
    """It asks for a page again and again, and the answers fill all there is."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(server.admin_path))
        s.setblocking(False)
        sent = 0
        try:
            while sent < 1 << 22:
                sent += s.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        except BlockingIOError:
            pass
        with server.join(ANNA) as stream:
            server.publish("news")
            stream.hears("news")
        assert server.samples()["sse_streams"] >= 0


def test_a_stream_is_not_let_in_by_the_operators_door(server: Server) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(server.admin_path))
        s.sendall(stream_request(ANNA, more="Connection: close\r\n"))
        assert b" 404 " in read_all(s)
    wait_for(lambda: server.samples()["sse_streams"] == 0, "no stream")
