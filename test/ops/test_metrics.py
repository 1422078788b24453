"""/metrics: what Prometheus makes of it, and that each sample moves by what it names, and by nothing else.

A row of TABLE is a sample, what is done, and what it and others are then. No other label of the same family may move.
"""

import contextlib
import itertools
import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import psutil
import pytest
from prometheus_client.openmetrics import parser as openmetrics

from harness import EVENTS, STATS, Sender, wait_for
from stage import (
    ANNA,
    BORIS,
    CLARA,
    PROMTOOL,
    ROLE,
    TICKET_KEY,
    USERS,
    Backend,
    MakeServer,
    Samples,
    Scraper,
    Server,
    allowed,
    datagram_socket,
    family_of,
    read_all,
    reset,
    sample_name,
    samples_of,
    sanitized,
    status,
    stream_request,
    values,
    wait_samples,
)

LABELS = {
    "sse_refused_total": """bad_line_end bad_byte bad_request_line bad_target bad_escape bad_header folded_header
        no_host two_hosts bad_host repeated_header bad_length length_and_encoding encoding_in_http10 two_tokens no_token
        unknown_token denied_token ended_token ticket_form ticket_encoding ticket_json ticket_trailing
        ticket_duplicate ticket_algorithm ticket_critical ticket_signature ticket_claim ticket_no_subject
        ticket_no_exp ticket_expired ticket_early ticket_no_audience ticket_audience ticket_revoked
        origin_not_allowed no_such_path method_not_allowed head_timeout body_not_allowed target_too_long
        unknown_expectation head_too_large too_many_headers unknown_method unknown_encoding bad_version
        too_many_requests too_many_connections too_many_from_address too_many_streams no_descriptors no_memory
        auth_failed auth_queue_full too_many_roles draining""",
    "sse_closed_total": """done gone reset slow stalled revoked expired chatter idle too_many no_memory shutdown""",
    "sse_auth_failures_total": """connect closed timeout queue too_large not_http status answer stale roles memory""",
    "sse_resumes_total": "replay too_old unknown newer",
    "sse_auth_questions_total": "connect refresh",
    "sse_auth_answers_total": "allowed denied",
}
LABEL_OF = {
    "sse_resumes_total": "result",
    "sse_auth_questions_total": "phase",
    "sse_auth_answers_total": "result",
}  # else it is reason
COUNTERS = [
    "connections_opened",
    "streams_opened",
    "accept_errors",
    "datagrams",
    "lines",
    "bad_lines",
    "acks_lost",
    "intake_held",
    "events",
    "revocations",
    "deliveries",
    "writes",
    "sent_bytes",
    "journal_errors",
    "journal_not_stored",
    "log_lines_dropped",
    "loop_busy_seconds",
]
GAUGES = [
    "connections",
    "connections_max",
    "streams",
    "streams_behind",
    "streams_blocked",
    "users",
    "roles",
    "sessions",
    "auth_waiting",
    "auth_failing",
    "history_events",
    "history_size_bytes",
    "history_oldest_timestamp_seconds",
    "journal_failing",
    "journal_segments",
    "log_failing",
    "draining",
]
PROCESS = [
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
]

# What cannot be moved from outside, and why; the unit tests (test_sweep, test_auth) see to them.
NOT_HERE = {
    'sse_refused_total{reason="no_memory"}': "the kernel never refuses a program as small as this its memory",
    'sse_closed_total{reason="no_memory"}': "the same",
    'sse_auth_failures_total{reason="memory"}': "the same",
}


def labelled(family: str, label: str) -> str:
    return sample_name(family, {LABEL_OF.get(family, "reason"): label})


def refused(reason: str) -> str:
    return labelled("sse_refused_total", reason)


def closed(reason: str) -> str:
    return labelled("sse_closed_total", reason)


# ---- the page as such ----


def page(make_server: MakeServer) -> tuple[Server, str]:
    server = make_server()
    with server.scraper() as scraper, server.join(ANNA) as stream:
        server.publish("news")
        stream.hears("news")
        return server, scraper.text()


def test_promtool_has_no_complaint(make_server: MakeServer) -> None:
    _, text = page(make_server)
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_page_is_strictly_what_it_says(make_server: MakeServer) -> None:
    """The parser of OpenMetrics is stricter than that of the older format; only the names of counters differ."""
    server, text = page(make_server)
    names = re.sub(r"^(# (?:HELP|TYPE) \S+)_total ", r"\1 ", text, flags=re.MULTILINE)
    families = list(openmetrics.text_string_to_metric_families(names + "# EOF\n"))  # type: ignore[no-untyped-call]
    assert [f.name for f in families if not f.documentation] == []
    assert [f.name for f in families if f.type == "unknown"] == []
    assert len({f.name for f in families}) == len(families)
    with server.admin() as client:
        answer = client.get("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert text.endswith("\n")


def test_all_that_there_is(make_server: MakeServer) -> None:
    """Every family and every value of a label is there from the start; every counter is 0."""
    server = make_server()
    samples = server.samples()
    expected = {f"sse_{name}_total" for name in COUNTERS} | {f"sse_{name}" for name in GAUGES} | set(PROCESS)
    for family, words in LABELS.items():
        expected |= {labelled(family, word) for word in words.split()}
    version = subprocess.check_output([os.environ["SSE_BIN"], "--version"], text=True).split()[1]
    expected |= {sample_name("sse_build_info", {"version": version})}
    found = {name for name in samples if family_of(name).rpartition("_")[0] != "sse_event_write_seconds"}
    assert found == expected
    not_zero = {
        "sse_connections_opened_total",
        "sse_loop_busy_seconds_total",
        "sse_writes_total",
        "sse_sent_bytes_total",
    }
    for name, value in samples.items():
        if family_of(name).endswith("_total") and name.startswith("sse_") and name not in not_zero:
            assert value == 0, name
    assert samples[sample_name("sse_build_info", {"version": version})] == 1


def test_the_table_has_a_row_for_each() -> None:
    """Every sample is moved by a row or a test below, or it says why not."""
    moved = {name for row in TABLE for name in row.moves}
    for family, words in LABELS.items():
        for word in words.split():
            assert (labelled(family, word) in moved) != (labelled(family, word) in NOT_HERE), (family, word)
    for name in COUNTERS:
        assert f"sse_{name}_total" in moved, name
    for name in GAUGES:
        assert f"sse_{name}" in moved, name


# ---- what moves them ----


@dataclass
class Scene:
    """What a row has to act with."""

    server: Server
    backend: Backend
    scraper: Scraper
    keep: list[socket.socket] = field(default_factory=list)

    def hold(self, s: socket.socket) -> socket.socket:
        self.keep.append(s)
        return s

    def connect(self, request: bytes = b"") -> socket.socket:
        s = self.hold(socket.create_connection(("127.0.0.1", self.server.port), 30))
        s.sendall(request)
        return s

    def stream(self, token: str = ANNA, last_id: str = "", more: str = "") -> socket.socket:
        """A stream that has begun."""
        s = self.connect(stream_request(token, last_id, more))
        got = b""
        while b'"connected"' not in got:
            part = s.recv(65536)
            assert part, got
            got += part
        return s

    def refused(self, token: str, more: str = "") -> bytes:
        """Who asks for a stream and gets none. What there was instead."""
        s = self.connect(stream_request(token, more=f"{more}Connection: close\r\n"))
        got = b""
        while part := s.recv(65536):
            got += part
            assert b'"connected"' not in got
        return got

    def sample(self, name: str) -> float:
        return self.scraper.samples()[name]

    def wait(self, name: str, least: float) -> None:
        wait_samples(self.scraper, lambda samples: samples[name] >= least, f"{name} >= {least}")


@dataclass
class Row:
    what: str
    act: Callable[[Scene], object]
    moves: dict[str, float | tuple[float, float]]  # by so much, or from .. to; a gauge: it is so then
    options: tuple[str, ...] = ()
    may: tuple[str, ...] = ()  # of the same family, and no wonder
    django: bool = False


MANY = (1, float("inf"))
Act = Callable[[Scene], object]


def get(target: str, headers: str = "Host: sse\r\n", method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} {target} HTTP/{version}\r\n{headers}Connection: close\r\n\r\n".encode()


def sends(request: bytes, expected: int) -> Act:
    def act(scene: Scene) -> None:
        answer = scene.server.raw(request)
        assert answer.startswith(b"HTTP/1.1 %d " % expected), answer

    return act


def ticket(claims: dict[str, object], key: str = TICKET_KEY, **header: object) -> str:
    whole: dict[str, object] = {"sub": "7", "aud": "sse", "exp": int(time.time()) + 60} | claims
    return jwt.encode({k: v for k, v in whole.items() if v is not None}, key, headers=dict(header) if header else None)


def signed(header: str, claims: str) -> str:
    """A ticket of any text, signed well."""
    algorithm = jwt.get_algorithm_by_name("HS256")
    body = (
        f"{jwt.utils.base64url_encode(header.encode()).decode()}.{jwt.utils.base64url_encode(claims.encode()).decode()}"
    )
    mac = algorithm.sign(body.encode(), algorithm.prepare_key(TICKET_KEY))
    return f"{body}.{jwt.utils.base64url_encode(mac).decode()}"


GOOD_HEADER = '{"alg":"HS256","typ":"JWT"}'


def comes_with(make: Callable[[], str], expected: bytes = b" 401 ") -> Act:
    def act(scene: Scene) -> None:
        assert expected in scene.refused(make())

    return act


def revoked_ticket(scene: Scene) -> None:
    scene.server.op("revoke", user="7")
    assert b" 401 " in scene.refused(ticket({"iat": int(time.time()) - 10}))


def sse_django(answer: bytes | Callable[[], bytes] | None, expected: bytes) -> Act:
    """Django answers so; the one who came gets that."""

    def act(scene: Scene) -> None:
        scene.backend.answers["asked"] = answer
        got = scene.refused("asked")
        assert expected in got, got

    return act


PUT_OFF = b"text/event-stream"


def too_many_roles(scene: Scene) -> None:
    scene.backend.answers["many"] = allowed("1", [f"r{i}" for i in range(63)])  # the file has one
    scene.backend.answers["more"] = allowed("2", ["one-more"])
    scene.stream("many")
    scene.refused("more")


def queue_full(scene: Scene) -> None:
    """One is asked about; the second is too many."""
    scene.backend.answers["a"] = Backend.HANG
    scene.connect(stream_request("a"))
    scene.wait("sse_auth_waiting", 1)
    scene.refused("b")


def waits_too_long_in_the_queue(scene: Scene) -> None:
    for token in "ab":
        scene.backend.answers[token] = Backend.HANG
    scene.connect(stream_request("a"))
    wait_for(lambda: scene.backend.asked, "a is asked about")
    assert PUT_OFF in scene.refused("b")


def overtaken(scene: Scene) -> None:
    """Each answer is older than a revocation."""

    def late() -> bytes:
        scene.server.op("revoke", user="17")
        return allowed("17")

    scene.backend.answers["late"] = late
    scene.refused("late")


def half_a_head(scene: Scene) -> None:
    s = scene.connect(b"GET / HTTP/1.1\r\n")
    assert b" 408 " in read_all(s)


def one_too_many_of_the_user(scene: Scene) -> None:
    scene.stream()
    scene.refused(ANNA)


def one_connection_too_many(scene: Scene) -> None:
    """Until one is put off; what they got is all there is until then."""
    got = b'"connected"'
    while b'"connected"' in got:
        s, got = scene.connect(stream_request(ANNA)), b""
        while b'"connected"' not in got and (part := s.recv(65536)):
            got += part


def one_too_many_of_the_proxys_client(scene: Scene) -> None:
    scene.stream(more="X-Forwarded-For: 192.0.2.1\r\n")
    scene.refused(ANNA, "X-Forwarded-For: 192.0.2.1\r\n")


def one_too_many_of_the_address(scene: Scene) -> None:
    scene.stream()
    with contextlib.suppress(ConnectionResetError):
        read_all(scene.connect())


def two_requests_at_once(scene: Scene) -> None:
    scene.server.raw(get(STATS))
    assert b" 429 " in scene.server.raw(get(STATS))


def no_descriptors(scene: Scene) -> None:
    """The limit is lowered to what it has open."""
    pid = scene.server.pid
    scene.server.limit(resource.RLIMIT_NOFILE, max(int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir()) + 1)
    with scene.connect(stream_request(ANNA)) as s:
        assert b"retry:" in read_all(s)
    scene.server.limit(resource.RLIMIT_NOFILE, 1024)


def while_draining(scene: Scene) -> None:
    """Its request began before TERM, and is whole only after."""
    whole = stream_request(ANNA)
    s = scene.connect(whole[:-2])
    other = scene.connect(whole[:-2])  # so that it goes on after the first
    scene.server.join(ANNA).close()  # what was sent before has been read
    scene.server.signal(signal.SIGTERM)
    scene.server.wait_log("msg=draining")
    scene.hold(other)
    s.sendall(whole[-2:])
    assert b'"connected"' not in read_all(s)


TICKETS = ("--ticket-key-file", "KEYS")

WRONG_REQUESTS: dict[str, tuple[bytes, int]] = {
    "bad_line_end": (b"GET / HTTP/1.1\nHost: sse\r\n\r\n", 400),
    "bad_byte": (b"GET / HTTP/1.1\r\nHost: s\x01e\r\n\r\n", 400),
    "bad_request_line": (b"GET\r\n\r\n", 400),
    "bad_target": (b"GET events HTTP/1.1\r\nHost: sse\r\n\r\n", 400),
    "bad_escape": (get("/%zz"), 400),
    "bad_header": (get("/", "Host: sse\r\nName : value\r\n"), 400),
    "folded_header": (get("/", "Host: sse\r\n more\r\n"), 400),
    "no_host": (get("/", ""), 400),
    "two_hosts": (get("/", "Host: a\r\nHost: b\r\n"), 400),
    "bad_host": (get("/", "Host: a b\r\n"), 400),
    "repeated_header": (get(EVENTS, "Host: sse\r\nOrigin: http://a\r\nOrigin: http://b\r\n"), 400),
    "bad_length": (get("/", "Host: sse\r\nContent-Length: ten\r\n"), 400),
    "length_and_encoding": (get("/", "Host: sse\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400),
    "encoding_in_http10": (get("/", "Host: sse\r\nTransfer-Encoding: chunked\r\n", version="1.0"), 400),
    "two_tokens": (get(f"{EVENTS}?token=a&token=b"), 400),
    "no_token": (get(EVENTS), 401),
    "unknown_token": (get(f"{EVENTS}?token=nobodys"), 401),
    "origin_not_allowed": (
        get(EVENTS, "Host: sse\r\nOrigin: http://evil\r\nAccess-Control-Request-Method: GET\r\n", "OPTIONS"),
        403,
    ),
    "no_such_path": (get("/nothing"), 404),
    "method_not_allowed": (get(EVENTS, method="POST"), 405),
    "body_not_allowed": (get(EVENTS, "Host: sse\r\nContent-Length: 1\r\n"), 413),
    "target_too_long": (get("/" + "x" * 9000), 414),
    "unknown_expectation": (get(EVENTS, "Host: sse\r\nExpect: miracles\r\n"), 417),
    "head_too_large": (get("/", "Host: sse\r\nX: " + "x" * 17000 + "\r\n"), 431),
    "too_many_headers": (get("/", "Host: sse\r\n" + "X: y\r\n" * 101), 431),
    "unknown_method": (get(EVENTS, method="BREW"), 501),
    "unknown_encoding": (get(EVENTS, "Host: sse\r\nTransfer-Encoding: gzip\r\n"), 501),
    "bad_version": (b"GET / HTTP/3.0\r\nHost: sse\r\n\r\n", 505),
}

WRONG_TICKETS: dict[str, Callable[[], str]] = {
    "ticket_form": lambda: "a.b." + "c" * 4097,
    "ticket_encoding": lambda: "a!.b.c",
    "ticket_json": lambda: signed(GOOD_HEADER, "[]"),
    "ticket_trailing": lambda: signed(GOOD_HEADER, "{} {}"),
    "ticket_duplicate": lambda: signed(GOOD_HEADER, '{"sub":"7","sub":"7"}'),
    "ticket_algorithm": lambda: signed('{"alg":"none"}', "{}"),
    "ticket_critical": lambda: ticket({}, crit=["exp"]),
    "ticket_signature": lambda: ticket({}, "another-key-of-thirty-two-bytes-!"),
    "ticket_claim": lambda: ticket({"roles": "manager"}),
    "ticket_no_subject": lambda: ticket({"sub": None}),
    "ticket_no_exp": lambda: ticket({"exp": None}),
    "ticket_expired": lambda: ticket({"exp": int(time.time()) - 3600}),
    "ticket_early": lambda: ticket({"nbf": int(time.time()) + 3600}),
    "ticket_no_audience": lambda: ticket({"aud": None}),
    "ticket_audience": lambda: ticket({"aud": "other"}),
    "ended_token": lambda: ticket({"expire_at": int(time.time()) - 10}),
}


def one(reason: str, act: Act, *options: str, django: bool = False) -> Row:
    return Row(reason, act, {refused(reason): 1}, options, django=django)


REFUSALS = [
    *(one(reason, sends(request, expected)) for reason, (request, expected) in WRONG_REQUESTS.items()),
    *(one(reason, comes_with(make), *TICKETS) for reason, make in WRONG_TICKETS.items()),
    one("ticket_revoked", revoked_ticket, *TICKETS),
    one("head_timeout", half_a_head, "--head-timeout", "50ms"),
    Row(
        "too_many_requests",
        two_requests_at_once,
        {refused("too_many_requests"): 1, refused("no_token"): 1},
        ("--requests-per-address", "1"),
    ),
    one("too_many_connections", one_connection_too_many, "--max-connections", "4"),
    one(
        "too_many_from_address",
        one_too_many_of_the_proxys_client,
        "--connections-per-address",
        "1",
        "--trusted-proxy",
        "127.0.0.1",
    ),
    one("too_many_streams", one_too_many_of_the_user, "--streams-per-user", "1"),
    Row("no_descriptors", no_descriptors, {refused("no_descriptors"): 1, "sse_accept_errors_total": MANY}),
    one("draining", while_draining, "--drain", "10s"),
    # Django
    one("denied_token", sse_django(status(401), b" 401 "), django=True),
    one("auth_failed", sse_django(status(500), PUT_OFF), django=True),
    one("too_many_roles", too_many_roles, django=True),
    one("auth_queue_full", queue_full, "--auth-queue", "1", "--auth-connections", "1", django=True),
]


def failure(reason: str, act: Act, *options: str, why: str = "auth_failed") -> Row:
    moves: dict[str, float | tuple[float, float]] = {
        labelled("sse_auth_failures_total", reason): 1,
        refused(why): 1,
        "sse_auth_failing": 1,
    }
    return Row(f"auth_{reason}", act, moves, options, django=True)


def nobody_is_there(scene: Scene) -> None:
    scene.backend.close()
    assert PUT_OFF in scene.refused("asked")


FAILURES = [
    failure("connect", nobody_is_there),
    failure("closed", sse_django(None, PUT_OFF)),
    failure("timeout", sse_django(Backend.HANG, PUT_OFF), "--auth-timeout", "100ms"),
    Row(
        "auth_queue",
        waits_too_long_in_the_queue,
        {
            labelled("sse_auth_failures_total", "queue"): 1,
            labelled("sse_auth_failures_total", "timeout"): 1,
            refused("auth_failed"): 2,
        },
        ("--auth-timeout", "50ms", "--auth-connections", "1"),
        django=True,
    ),
    failure("too_large", sse_django(status(200, "x" * 20000), PUT_OFF)),
    failure("not_http", sse_django(b"SSH-2.0-OpenSSH\r\n", PUT_OFF)),
    failure("status", sse_django(status(302), PUT_OFF)),
    failure("answer", sse_django(status(200, "[]"), PUT_OFF)),
    failure("stale", overtaken),
    failure("roles", too_many_roles, why="too_many_roles"),
]


def question(scene: Scene) -> None:
    scene.backend.answers["asked"] = allowed("1")
    scene.stream("asked")


def asked_again(scene: Scene) -> None:
    question(scene)
    wait_for(lambda: ("asked", "refresh") in scene.backend.asked, "Django is asked again")
    scene.wait(labelled("sse_auth_answers_total", "allowed"), 2)


def fails_and_answers(scene: Scene) -> None:
    scene.backend.answers["first"] = status(500)
    scene.refused("first")
    scene.wait("sse_auth_failing", 1)
    question(scene)


def waits(scene: Scene) -> None:
    scene.backend.answers["asked"] = Backend.HANG
    scene.connect(stream_request("asked"))


ANSWER = "sse_auth_answers_total"
QUESTION = "sse_auth_questions_total"
ASKED = [
    Row("a question", question, {labelled(QUESTION, "connect"): 1, labelled(ANSWER, "allowed"): 1}, django=True),
    Row(
        "a denial",
        sse_django(status(403), b" 401 "),
        {labelled(QUESTION, "connect"): 1, labelled(ANSWER, "denied"): 1},
        django=True,
    ),
    Row(
        "a refresh",
        asked_again,
        {labelled(QUESTION, "refresh"): MANY, labelled(QUESTION, "connect"): 1, labelled(ANSWER, "allowed"): MANY},
        ("--auth-refresh", "100ms"),
        django=True,
    ),
    Row("a question that waits", waits, {"sse_auth_waiting": 1, labelled(QUESTION, "connect"): 1}, django=True),
    Row("Django answers again", fails_and_answers, {"sse_auth_failing": 0}, django=True),
]


# ---- how connections end ----


def leaves(scene: Scene) -> None:
    scene.stream().close()


def breaks(scene: Scene) -> None:
    reset(scene.stream())


def is_answered(scene: Scene) -> None:
    scene.server.raw(get(STATS))


BIG = "x" * 60000


def floods(scene: Scene) -> Iterator[None]:
    """Publishes to a stream that reads nothing, as long as it is asked for more."""
    scene.hold(scene.server.deaf())
    while True:
        scene.server.publish("big", BIG)
        yield


def is_slow(scene: Scene) -> None:
    for _ in floods(scene):
        if scene.server.logged("reason=slow"):
            return


def stalls(scene: Scene) -> None:
    flood = floods(scene)
    for _ in range(10):
        next(flood)
    scene.server.wait_log("reason=stalled")


def loses_its_token(scene: Scene) -> None:
    s = scene.stream()
    assert scene.server.op("revoke", user=USERS[ANNA]) == 1
    assert b"auth.revoked" in read_all(s)


def expires(scene: Scene) -> None:
    s = scene.stream(ticket({"expire_at": int(time.time()) + 2}))
    assert b"retry:" in read_all(s)


def chatters(scene: Scene) -> None:
    s = scene.stream()
    s.sendall(b"x" * 70000)
    read_all(s)


def asks_nothing_more(scene: Scene) -> None:
    s = scene.connect(b"GET /nothing HTTP/1.1\r\nHost: sse\r\n\r\n")
    assert b" 404 " in read_all(s)


def is_drained(scene: Scene) -> None:
    """One that does not read keeps the server there."""
    s = scene.stream(BORIS)
    flood = floods(scene)
    for _ in range(10):
        next(flood)
    scene.server.signal(signal.SIGTERM)
    assert b"retry:" in read_all(s)


CLOSED = [
    Row("gone", leaves, {closed("gone"): 1}),
    Row("reset", breaks, {closed("reset"): 1}),
    Row("done", is_answered, {closed("done"): 1}),
    Row("slow", is_slow, {closed("slow"): 1}, ("--queue", "2")),
    Row("stalled", stalls, {closed("stalled"): 1}, ("--write-stall", "100ms")),
    Row("revoked", loses_its_token, {closed("revoked"): 1, "sse_revocations_total": 1}),
    Row("expired", expires, {closed("expired"): 1}, TICKETS),
    Row("chatter", chatters, {closed("chatter"): 1}),
    Row("idle", asks_nothing_more, {closed("idle"): (1, 3)}, ("--idle-timeout", "1s")),  # who asks for this page, too
    Row(
        "too_many",
        one_too_many_of_the_address,
        {closed("too_many"): 1, refused("too_many_from_address"): 1},
        ("--connections-per-address", "1"),
    ),
    Row("shutdown", is_drained, {closed("shutdown"): (1, 2), "sse_draining": 1}, ("--drain", "10s"), (closed("done"),)),
]


# ---- where pages go on ----


def comes_back(scene: Scene) -> None:
    with scene.server.join(ANNA) as stream:
        scene.server.publish("one")
        stream.hears("one")
    (answer,) = scene.server.send({"op": "ping"})
    scene.stream(last_id=answer["id"])


def comes_back_with(last_id: str) -> Act:
    def act(scene: Scene) -> None:
        scene.stream(last_id=last_id)

    return act


def comes_back_too_late(scene: Scene) -> None:
    scene.server.publish("first", BIG)
    (answer,) = scene.server.send({"op": "ping"})
    for _ in range(10):
        scene.server.publish("more", BIG)
    scene.stream(last_id=answer["id"])


SMALL_HISTORY = ("--history-bytes", "262144", "--queue", "2", "--datagram", "70000")


def resumes(result: str) -> str:
    return labelled("sse_resumes_total", result)


RESUMED = [
    Row("replay", comes_back, {resumes("replay"): 1}),
    Row("too_old", comes_back_too_late, {resumes("too_old"): 1}, SMALL_HISTORY),
    Row("unknown", comes_back_with("what"), {resumes("unknown"): 1}),
    Row("newer", comes_back_with("99999999999999-0"), {resumes("newer"): 1}),
]


# ---- what is counted without a reason ----


def stays_behind(scene: Scene) -> None:
    """A page that comes back for much, and takes nothing of it."""
    with scene.server.join(ANNA) as stream:
        (answer,) = scene.server.send({"op": "ping"})
        for _ in range(60):
            scene.server.publish("big", BIG)
            stream.hears("big")
    s = scene.hold(socket.socket())
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", scene.server.port))
    s.sendall(stream_request(ANNA, answer["id"]))


def three_streams(scene: Scene) -> None:
    for token in (ANNA, ANNA, BORIS):
        scene.stream(token)


def datagrams(scene: Scene) -> None:
    """Three of four lines, of which one is wrong and one is for nobody who is there."""
    s = scene.stream()
    scene.stream(BORIS)
    sender = Sender(scene.server.socket)
    sender.send({"event": "a", "data": 1, "to": "all"}, {"event": "b", "data": 2, "to": {"users": ["nobody"]}})
    sender.send({"event": "wrong"})
    sender.send({"op": "ping"})
    sender.close()
    got = b""
    while b'"a"' not in got:
        got += s.recv(65536)


def reads_no_acks(scene: Scene) -> None:
    """A bound sender that is full of answers."""
    path = scene.server.directory / "deaf.sock"
    with datagram_socket(path) as s:
        for _ in range(2000):
            s.sendto(b'{"op":"ping"}', str(scene.server.socket))
            if scene.server.logged("msg=ack_lost"):
                return
    raise AssertionError("no answer was lost")


def holds_back(scene: Scene) -> None:
    """A datagram of more events than a stream's queue holds."""
    s = scene.stream()
    line = json.dumps({"event": "e", "data": 1, "to": "all"})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto("\n".join([line] * 300).encode(), str(scene.server.socket))
    got = b""
    while got.count(b'"e"') < 300:
        got += s.recv(65536)


def disk_is_full(scene: Scene) -> None:
    """The file may not grow: the journal gets EFBIG, as it would ENOSPC."""
    scene.server.publish("before")
    scene.server.limit(resource.RLIMIT_FSIZE, 32768)  # the log needs less
    answers = [scene.server.send({"event": "e", "data": "x" * 8000, "to": "all"})[0] for _ in range(10)]
    assert answers[-1].get("stored") is False


def disk_has_room_again(scene: Scene) -> None:
    disk_is_full(scene)
    scene.server.limit(resource.RLIMIT_FSIZE, -1)
    scene.server.wait_log("msg=journal_mended")


def history(scene: Scene) -> None:
    for i in range(5):
        scene.server.publish(f"e{i}", "x" * 1000)


def is_busy(scene: Scene) -> None:
    for _ in range(50):
        scene.server.publish("e", "x" * 1000)


def stderr_is_full(scene: Scene) -> None:
    """It is a pipe, and nobody reads it."""
    while scene.sample("sse_log_lines_dropped_total") == 0:
        for _ in range(100):
            scene.server.publish("e" * 64)


def log_is_lost(scene: Scene) -> None:
    assert "cannot be opened again (Is a directory)" in scene.server.loses_its_log()


def nothing(_: Scene) -> None:
    pass


OLDEST, NOW = "sse_history_oldest_timestamp_seconds", time.time()
PLAIN = [
    Row(
        "streams",
        three_streams,
        {
            "sse_streams": 3,
            "sse_streams_opened_total": 3,
            "sse_users": 2,
            "sse_connections_opened_total": 3,
            "sse_connections": (3, 4),
            "sse_sessions": 3,
            "sse_roles": 1,
        },
    ),
    Row(
        "behind",
        stays_behind,
        {"sse_streams_behind": 1, "sse_streams_blocked": 1, "sse_streams": 1, resumes("replay"): 1},
        ("--send-buffer", "4096"),
    ),
    Row(
        "datagrams",
        datagrams,
        {
            "sse_datagrams_total": 3,
            "sse_lines_total": 4,
            "sse_bad_lines_total": 1,
            "sse_events_total": 2,
            "sse_deliveries_total": 2,
            "sse_acks_lost_total": 0,
            "sse_writes_total": (4, 20),
            "sse_sent_bytes_total": (500, 100000),
        },
    ),
    Row("acks lost", reads_no_acks, {"sse_acks_lost_total": MANY}),
    Row("held back", holds_back, {"sse_intake_held_total": MANY, "sse_deliveries_total": 300}),
    Row(
        "journal",
        disk_is_full,
        {
            "sse_journal_errors_total": MANY,
            "sse_journal_failing": 1,
            "sse_journal_not_stored_total": MANY,
            "sse_journal_segments": MANY,
        },
        ("--journal", "JOURNAL"),
    ),
    Row(
        "journal mended",
        disk_has_room_again,
        {"sse_journal_failing": 0, "sse_journal_segments": MANY},
        ("--journal", "JOURNAL"),
    ),
    Row(
        "history",
        history,
        {"sse_history_events": 5, "sse_history_size_bytes": 64 << 20, OLDEST: (NOW - 60, NOW + 3600)},
    ),
    Row("busy", is_busy, {"sse_loop_busy_seconds_total": (0.0001, 60)}),
    Row("log lines", stderr_is_full, {"sse_log_lines_dropped_total": MANY}, ("LOG-PIPE",)),
    Row("log file", log_is_lost, {"sse_log_failing": 1}),
    Row("the house", nothing, {"sse_connections_max": 17}, ("--max-connections", "17")),
]

TABLE = [*REFUSALS, *FAILURES, *ASKED, *CLOSED, *RESUMED, *PLAIN]
IS_GAUGE = {f"sse_{name}" for name in GAUGES}


def moved(row: Row, before: Samples, now: Samples) -> list[str]:
    """What is not as the row has it."""
    wrong = []
    for name, wanted in row.moves.items():
        low, high = wanted if isinstance(wanted, tuple) else (wanted, wanted)
        by = now[name] - (0 if name in IS_GAUGE else before[name])
        if not low <= by <= high:
            wrong.append(f"{name} moved by {by}, not {wanted}")
    return wrong


def make_for(row: Row, make_server: MakeServer, backend: Backend, directory: Path) -> Server:
    options = [*row.options]
    if "KEYS" in options:
        keys = directory / "keys"
        keys.write_text(TICKET_KEY + "\n")
        options[options.index("KEYS")] = str(keys)
    if "JOURNAL" in options:
        (directory / "journal").mkdir()
        options[options.index("JOURNAL")] = str(directory / "journal")
    if row.django:
        options += ["--auth-url", backend.url]
    if "LOG-PIPE" in options:
        options.remove("LOG-PIPE")
        server = make_server(*options, start=False)
        server.start_on_pipe()
        return server
    return make_server(*options)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.what.replace(" ", "_"))
def test_what_moves_it(row: Row, make_server: MakeServer, backend: Backend, directory: Path) -> None:
    server = make_for(row, make_server, backend, directory)
    with server.scraper() as scraper:
        scene = Scene(server, backend, scraper)
        before = scraper.samples()
        row.act(scene)
        now = scraper.samples()

        def is_right() -> bool:
            nonlocal now
            now = scraper.samples()
            return not moved(row, before, now)

        try:
            wait_for(is_right, "the samples are right", limit=10)
        except AssertionError:
            pytest.fail("; ".join(moved(row, before, now)))
        families = {family_of(name) for name in row.moves if "{" in name}
        others = [
            f"{name} moved by {now[name] - before[name]}"
            for family in families
            for name in values(now, family)
            if now[name] != before[name] and name not in row.moves and name not in row.may
        ]
        assert others == []
        for name in now:
            if family_of(name).endswith("_total"):
                assert now[name] >= before[name], name
        for s in scene.keep:
            s.close()
    if server.logged("msg=draining"):
        server.signal(signal.SIGTERM)
        server.wait()


# ---- what is more than one number ----


def test_a_connection_is_closed_for_one_reason(make_server: MakeServer) -> None:
    """What was opened is open, or was closed: each once."""
    server = make_server()
    with server.scraper() as scraper:
        scene = Scene(server, Backend(), scraper)
        for act in (leaves, breaks, is_answered, loses_its_token, chatters):
            act(scene)
        for s in scene.keep:
            s.close()

        def balance(samples: Samples) -> bool:
            gone = sum(values(samples, "sse_closed_total").values())
            return (
                samples["sse_connections"] <= 1
                and gone == samples["sse_connections_opened_total"] - samples["sse_connections"]
            )

        try:
            wait_samples(scraper, balance, "they add up")
        except AssertionError:
            now = scraper.samples()
            pytest.fail(f"{values(now, 'sse_closed_total')}, {now['sse_connections_opened_total']} were opened")


HISTOGRAM = "sse_event_write_seconds"


def buckets(samples: Samples) -> list[tuple[float, float]]:
    found = [
        (float(name.partition('le="')[2].rstrip('"}')), value)
        for name, value in samples.items()
        if name.startswith(f"{HISTOGRAM}_bucket")
    ]
    return sorted(found)


def test_the_histogram_has_each_event_once(make_server: MakeServer) -> None:
    """Its buckets add up, it counts events that somebody got, and its sum is what was waited."""
    server = make_server()
    with server.scraper() as scraper, server.join(ANNA) as anna, server.join(BORIS) as boris:
        empty = scraper.samples()
        assert empty[f"{HISTOGRAM}_count"] == 0
        assert empty[f"{HISTOGRAM}_sum"] == 0
        begin = time.monotonic()
        for i in range(40):
            server.publish(f"e{i}")
            anna.hears(f"e{i}")
            boris.hears(f"e{i}")
        took = time.monotonic() - begin
        samples = wait_samples(scraper, lambda s: s[f"{HISTOGRAM}_count"] >= 40, "all are counted")
        assert samples[f"{HISTOGRAM}_count"] == 40
        assert 0 < samples[f"{HISTOGRAM}_sum"] < took
        counts = [value for _, value in buckets(samples)]
        assert counts == sorted(counts)
        assert buckets(samples)[-1] == (float("inf"), 40)
        assert len(counts) > 5
        assert [value for _, value in buckets(empty)] == [0] * len(counts)


def test_a_server_that_stood_still_shows_in_the_histogram(make_server: MakeServer) -> None:
    """What waited in the socket while it stood still is not its time; what it had taken in is."""
    server = make_server()
    with server.scraper() as scraper, server.join(ANNA) as anna:
        for _ in range(100):
            server.publish("e", "x" * 10000)
            anna.hears("e")
        samples = wait_samples(scraper, lambda s: s[f"{HISTOGRAM}_count"] >= 100, "all are counted")
        middle = next(edge for edge, value in buckets(samples) if value >= 50)
        assert middle < (1 if sanitized() else 0.1)


def test_who_does_not_read_is_not_waited_for(make_server: MakeServer) -> None:
    """An event whose only other stream has a full buffer is counted as soon as it can be."""
    server = make_server("--send-buffer", "4096", "--write-stall", "60s")
    with server.scraper() as scraper, server.join(ANNA) as anna, server.deaf(BORIS):
        for i in range(30):
            server.publish(f"e{i}", BIG)
            anna.hears(f"e{i}")
        samples = wait_samples(scraper, lambda s: s[f"{HISTOGRAM}_count"] == 30, "all are counted")
        assert samples[f"{HISTOGRAM}_sum"] < 30


def test_counters_never_go_back(make_server: MakeServer) -> None:
    server = make_server()
    with server.scraper() as scraper:
        before = scraper.samples()
        for _ in range(20):
            server.join(ANNA).close()
            server.publish("news")
            now = scraper.samples()
            back = [n for n in now if (family_of(n).endswith("_total") or HISTOGRAM in n) and now[n] < before[n]]
            assert back == []
            before = now


def test_what_the_kernel_says_of_the_process(make_server: MakeServer) -> None:
    server = make_server()
    process = psutil.Process(server.pid)
    with server.scraper() as scraper:
        one = scraper.samples()
        assert abs(one["process_start_time_seconds"] - process.create_time()) < 1.5
        cpu = process.cpu_times()
        assert abs(one["process_cpu_seconds_total"] - cpu.user - cpu.system) < 0.5
        memory = process.memory_info()
        assert memory.rss / 2 < one["process_resident_memory_bytes"] < memory.rss * 2
        assert memory.vms * 0.9 < one["process_virtual_memory_bytes"] < memory.vms * 1.1
        assert one["process_open_fds"] == process.num_fds()
        assert one["process_max_fds"] == process.rlimit(psutil.RLIMIT_NOFILE)[0]
        with server.join(ANNA):
            assert process.num_fds() == one["process_open_fds"] + 1
            wait_samples(scraper, lambda s: s["process_open_fds"] == process.num_fds(), "it has opened one")
        wait_samples(scraper, lambda s: s["process_open_fds"] == one["process_open_fds"], "it closed it")


def test_no_word_of_anybody_is_in_it(make_server: MakeServer, backend: Backend, directory: Path) -> None:
    """No token, no user, no role, no event, no address, no path, whatever went on."""
    keys = directory / "keys"
    keys.write_text(TICKET_KEY + "\n")
    server = make_server("--auth-url", backend.url, "--ticket-key-file", str(keys), "--trusted-proxy", "127.0.0.1")
    words = [*USERS, *USERS.values(), ROLE, TICKET_KEY, "canary", "127.0.0.1", "192.0.2.77", str(directory)]
    words += [str(server.port), str(backend.port)]
    backend.lets_in("canary-asked", "canary-django-user", roles=["canary-django-role"], sid="canary-sid")
    with server.scraper() as scraper:
        scene = Scene(server, backend, scraper)
        for token in (ANNA, BORIS, CLARA, "canary-asked", ticket({"sub": "canary-subject"})):
            scene.stream(token, more="X-Forwarded-For: 192.0.2.77\r\n")
        scene.refused("canary-unknown", "Last-Event-ID: canary-id\r\n")
        scene.server.raw(get("/canary-path", "Host: canary\r\nX-Canary: canary\r\n", "CANARY"))
        server.send({"event": "canary-event", "data": "canary-data", "to": {"users": ["canary-user-7"]}})
        server.send({"canary": "bad"})
        text = scraper.text()
        for s in scene.keep:
            s.close()
    text = re.sub(r"^([^#].*) \S+$", r"\1", text, flags=re.MULTILINE)  # a number may be that of a port
    assert [word for word in words if word in text] == []


def test_the_page_is_the_same_for_many_who_ask_at_once(make_server: MakeServer) -> None:
    server = make_server()
    pages: list[Samples] = []

    def ask() -> None:
        pages.extend(server.samples() for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pages) == 40
    assert all(set(a) == set(b) for a, b in itertools.pairwise(pages))


def test_the_parser_finds_what_is_twice() -> None:
    """So that the tests above mean something."""
    with pytest.raises(AssertionError, match="twice"):
        samples_of("# HELP a b\n# TYPE a gauge\na 1\na 2\n")
