"""What is measured: each scenario runs servers in turn (A B C A B C ...) and yields samples."""

from __future__ import annotations

import array
import contextlib
import json
import os
import random
import re
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
import servers
from servers import Server

LIMIT_S = 90        # no run takes longer
DISTURBED = 0.15    # cores that others may use during a run, before it is done once again
Figures = dict[str, float]


@dataclass
class Sample:
    """The figures of one run."""

    scenario: str
    server: str
    streams: int
    figures: Figures
    command: str = ""


@dataclass(frozen=True)
class Plan:
    """How thorough it is to be."""

    quick: bool
    repeats: int
    patience: machine.Patience

    def s(self, full: float, quick: float) -> float:
        return quick if self.quick else full

    def n(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Load:
    """A scenario that the load client runs."""

    key: str
    names: tuple[str, ...]
    streams: int
    repeats: int
    options: tuple[str, ...] = ()
    publish: bool = True


FAST = ("sse", "floor-each", "nchan")
SLOW = ("starlette", "tornado", "better-sse", "channels", "django")


def paced(seconds: float, rate: int = 4) -> tuple[str, ...]:
    return ("--rate", str(rate), "--seconds", str(seconds), "--size", "300")


BURST = ("--events", "100", "--burst", "100", "--size", "300")


def loads(plan: Plan) -> list[Load]:
    """Every scenario of the load client, in the order they are run in."""
    n = plan.repeats
    slow_streams, growth = plan.n(1000, 200), (1000, 10000) if plan.quick else (1000, 5000, 10000, 15000, 19000)
    overload = ("--seconds", str(plan.s(10, 2)), "--size", "300", "--check")
    all_in_time = ("--quiet", "10")
    return [
        Load("connect", FAST, 10000, n, publish=False),
        Load("paced", FAST, 10000, n, paced(plan.s(6, 2))),
        Load("burst", ("sse", "floor-batch", "nchan"), 10000, n, BURST + all_in_time),
        Load("fast", ("sse", "floor-batch"), 10000, n, paced(plan.s(6, 2), 200)),
        Load("overload", ("sse", "floor-batch"), 10000, n, (*overload, "count")),
        Load("overload-checked", ("sse",), 10000, 1, (*overload, "full")),
        Load("one", ("sse-apart", "floor-one"), 19000, n, ("--to", "users", "--seconds", str(plan.s(4, 2)), "--size", "300")),
        Load("idle", ("sse",), 19000, 1, ("--hold", str(plan.s(65, 6))), publish=False),
        *(Load("growth", FAST, streams, 1, paced(plan.s(4, 2))) for streams in growth),
        Load("peers-paced", ("sse", "nchan", *SLOW), slow_streams, plan.n(1, 0), paced(plan.s(5, 2))),
        Load("peers-burst", ("sse", "nchan", *SLOW), slow_streams, plan.n(3, 1), BURST + all_in_time),
    ]


def load_argv(server: Server, load: Load) -> list[str]:
    kind = server.kind
    argv = ["build/load", "--connect", server.address, "--path", kind.events, "--tokens", str(server.tokens),
            "--streams", str(load.streams), "--ready", kind.ready, "--pid", ",".join(map(str, server.pids)),
            "--limit", str(LIMIT_S), *load.options]
    if load.publish:
        argv += ["--publish", server.text(kind.publish)]
    return [*argv, "--raw-body"] if kind.raw_body else argv


def run_text(argv: list[str]) -> tuple[str, str]:
    """Runs a client. What it wrote to stdout, and to stderr."""
    with machine.spawn(argv, machine.CLIENT_CORE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        try:
            return client.communicate(timeout=LIMIT_S + 30)
        except BaseException:
            client.terminate()
            raise


def object_in(argv: list[str], out: str, err: str) -> dict[str, Any]:
    """The line of JSON that a client has printed."""
    line = next((line for line in out.splitlines() if line.startswith("{")), None)
    if line is None:
        raise RuntimeError(f"{' '.join(argv)}: {err.strip() or out.strip()}")
    return dict(json.loads(line))


def figures_in(argv: list[str], out: str, err: str) -> Figures:
    return {k: float(v) for k, v in object_in(argv, out, err).items() if isinstance(v, int | float)}


def run_json(argv: list[str]) -> tuple[Figures, str]:
    """Runs a client that prints a line of JSON. What it wrote to stderr comes second."""
    out, err = run_text(argv)
    return figures_in(argv, out, err), err


@contextlib.contextmanager
def others_watched(pids: list[int]) -> Iterator[Figures]:
    """Says how many cores anybody else used during a with statement, once it is over."""
    figures: Figures = {}
    busy, ours, began = machine.busy_s(), clients_cpu_s() + machine.cpu_s(pids), time.monotonic()
    yield figures
    spent = clients_cpu_s() + machine.cpu_s(pids) - ours
    figures["others_cores"] = max(0.0, (machine.busy_s() - busy - spent) / (time.monotonic() - began))


def load_once(name: str, load: Load) -> list[Sample]:
    with servers.running(name) as server:
        argv = load_argv(server, load)
        with others_watched(server.pids) as others:
            figures, _ = run_json(argv)
        figures |= others
        if figures.get("seconds"):
            figures["server_busy"] = figures["server_cpu_s"] / figures["seconds"]
            figures["client_busy"] = (figures["client_cpu_s"] + figures["publisher_cpu_s"]) / figures["seconds"]
            figures["events_per_s"] = figures["published"] / figures["seconds"]
    return [Sample(load.key, name, load.streams, figures, " ".join(argv))]


def clients_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def quieter(plan: Plan, once: Callable[..., Sequence[Sample]], *args: object) -> Sequence[Sample]:
    """What a run yields. One that others disturbed is done once more; the quieter one counts."""
    plan.patience.wait_for_silence()
    samples = once(*args)
    if samples[0].figures["others_cores"] > DISTURBED and plan.patience.wait_for_silence():
        samples = min(samples, once(*args), key=lambda s: s[0].figures["others_cores"])
    return samples


def load_run(load: Load, plan: Plan) -> Iterator[Sample]:
    """All servers in turn, again and again."""
    for _ in range(load.repeats):
        for name in load.names:
            yield from quieter(plan, load_once, name, load)


# ---- wrk ------------------------------------------------------------------------------------------------------


WRK_STREAMS = 1000


@dataclass(frozen=True)
class Asked:
    """What wrk asks both servers for."""

    key: str
    sse_path: str
    nginx_path: str
    token: bool = False
    close: bool = False


ASKED = (
    Asked("wrk-stats", "/stats/", "/stats/", token=True),
    Asked("wrk-404", "/missing/", "/missing/"),
    Asked("wrk-401", "/stats/", "/denied/"),
    Asked("wrk-churn", "/stats/", "/stats/", token=True, close=True),
)


def wrk_argv(url: str, connections: int, seconds: float, headers: list[str]) -> list[str]:
    named = [part for header in headers for part in ("-H", header)]
    return ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds:.0f}s", "-s", "bench/peers/wrk.lua", *named, url]


def wrk_once(server: Server, name: str, asked: Asked, seconds: float) -> Sample:
    headers = [f"Authorization: Bearer {servers.first_token()}"] if asked.token else []
    headers += ["Connection: close"] if asked.close else []
    path = servers.PREFIX + asked.sse_path if name == "sse" else asked.nginx_path
    argv = wrk_argv(f"http://{server.address}{path}", 64, seconds, headers)
    before = machine.cpu_s(server.pids)
    figures, _ = run_json(argv)
    figures["requests_per_s"] = figures["requests"] / figures["seconds"]
    figures["server_cpu_us_per_request"] = (machine.cpu_s(server.pids) - before) * 1e6 / figures["requests"]
    return Sample(asked.key, name, 64, figures, " ".join(argv))


def wrk_run(plan: Plan) -> Iterator[Sample]:
    """Requests a second of sse, and of nginx that answers the same bodies from its configuration."""
    with servers.running("sse") as sse:
        bodies = {
            "stats": servers.answer(sse, servers.PREFIX + "/stats/", servers.first_token()),
            "missing": servers.answer(sse, servers.PREFIX + "/missing/"),
            "denied": servers.answer(sse, servers.PREFIX + "/stats/"),
        }
        with servers.running("nchan", bodies=bodies) as nginx:
            for asked in ASKED:
                for _ in range(plan.repeats):
                    for name, server in (("sse", sse), ("nchan", nginx)):
                        plan.patience.wait_for_silence()
                        yield wrk_once(server, name, asked, plan.s(3, 1))


def wrk_streams_once(name: str, seconds: float) -> Sample:
    """wrk holds streams, one stream of the load client lets events flow as fast as the server takes them."""
    with servers.running(name) as server:
        load = Load("", (name,), 1, 1, ("--seconds", str(seconds + 2), "--size", "300", "--quiet", "1"))
        publisher = machine.spawn(load_argv(server, load), machine.CLIENT_CORE,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            argv = wrk_argv(f"http://{server.address}/", WRK_STREAMS, seconds, [])
            argv += ["--", str(server.tokens), server.kind.events]
            figures, _ = run_json(argv)
        finally:
            publisher.terminate()
            publisher.wait()
    figures["bytes_per_s"] = figures["bytes"] / figures["seconds"]
    return Sample("wrk-streams", name, WRK_STREAMS, figures, " ".join(argv))


def wrk_streams_run(plan: Plan) -> Iterator[Sample]:
    for _ in range(plan.n(3, 1)):
        for name in ("sse", "floor-batch"):
            plan.patience.wait_for_silence()
            yield wrk_streams_once(name, plan.s(5, 2))


# ---- start ----------------------------------------------------------------------------------------------------


def start_once(name: str) -> Sample:
    """From the spawn to the first connection that is accepted, tried without a pause."""
    port, directory = servers.free_port(), servers.BUILD / "start"
    directory.mkdir(parents=True, exist_ok=True)
    servers.nginx_configure(directory.resolve(), port, {})
    argv = [part.format(port=port, dir=directory.resolve(), tokens=servers.tokens_of(name)) for part in servers.KINDS[name].argv]
    began = time.monotonic()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)  # no fork of Python
    try:
        while process.poll() is None and time.monotonic() - began < servers.START_S:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
        figures = {"start_ms": (time.monotonic() - began) * 1000}
    finally:
        servers.stop(process)
        shutil.rmtree(directory, ignore_errors=True)
    return Sample("start", name, 0, figures, " ".join(argv))


def start_run(plan: Plan) -> Iterator[Sample]:
    for _ in range(plan.n(21, 5)):
        for name in ("sse", "floor-each", "nchan"):
            yield start_once(name)


# ---- revocation -----------------------------------------------------------------------------------------------

REVOKED_STREAMS, REVOKE_RATE = 5, 50


def open_streams(server: Server, token: str) -> list[socket.socket]:
    """Streams of one user; returned when all of them have had an event: so others are being written to."""
    request = f"GET {servers.PREFIX}/events/?token={token} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    streams = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(REVOKED_STREAMS)]
    for stream in streams:
        stream.settimeout(20)
        stream.sendall(request)
    for stream in streams:
        seen = b""
        while b"bench.tick" not in seen:
            seen += stream.recv(65536)
    return streams


def read_to_end(stream: socket.socket) -> bytes:
    tail = b""
    while data := stream.recv(65536):
        tail = (tail + data)[-200:]
    return tail


def revoke_once(server: Server, datagrams: socket.socket, line: str) -> float:
    """Seconds from the revoke datagram until a user's streams have all ended, as the user's machine sees it."""
    token, user, *_ = line.split()
    streams = open_streams(server, token)
    time.sleep(random.random() / REVOKE_RATE)  # anywhere in the pass over the others
    began = time.perf_counter()
    datagrams.sendto(json.dumps({"op": "revoke", "user": user}).encode(), server.text("{dir}/events.sock"))
    tails = [read_to_end(stream) for stream in streams]
    took = time.perf_counter() - began
    for stream in streams:
        stream.close()
    if not all(b"auth.revoked" in tail for tail in tails):
        raise RuntimeError(f"a revoked stream ended with {tails!r}")
    return took


def revoke_run(plan: Plan) -> Iterator[Sample]:
    """One user after another is revoked while 10,000 streams of others are written to, REVOKE_RATE events a second."""
    seconds, times = plan.n(15, 6), plan.n(100, 20)
    with servers.running("sse-apart") as server, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        load = Load("revoke", ("sse",), 10000, 1, ("--rate", str(REVOKE_RATE), "--seconds", str(seconds), "--size", "300"))
        argv = load_argv(server, load)
        free = server.tokens.read_text().splitlines()[load.streams:]
        readers = machine.spawn(argv, machine.CLIENT_CORE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            while stream_count(server, free[0]) < load.streams:
                time.sleep(0.1)
            took = sorted(revoke_once(server, datagrams, line) for line in free[1:times + 1])
            out, _ = readers.communicate(timeout=LIMIT_S)
        except BaseException:
            readers.terminate()
            raise
        figures = {k: float(v) for k, v in json.loads(out).items() if isinstance(v, int | float)}
        figures |= {"revoke_median_ms": took[len(took) // 2] * 1e3, "revoke_most_ms": took[-1] * 1e3, "revocations": len(took)}
        yield Sample(load.key, "sse", load.streams, figures, " ".join(argv))


def stream_count(server: Server, line: str) -> int:
    return int(json.loads(servers.answer(server, servers.PREFIX + "/stats/", line.split()[0]))["total_connections"])


# ---- replay ---------------------------------------------------------------------------------------------------

REPLAYED, REPLAYED_SIZE = 10_000, 150
WARM_UP = 10
REPLAYS = (("replay", "sse", 1), ("replay-half", "sse", 2), ("replay-journal", "sse-batch", 1))


def newest_id(server: Server, token: str) -> str:
    """The id that a new stream's "connected" bears."""
    with socket.create_connection(("127.0.0.1", server.port)) as stream:
        stream.settimeout(20)
        stream.sendall(f"GET {servers.PREFIX}/events/?token={token} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        seen = b""
        while b'"connected"' not in seen:
            if not (data := stream.recv(65536)):
                raise RuntimeError(f"a stream ended with {seen!r}")
            seen += data
    return seen.split(b"\nid: ", 1)[1].split(b"\n", 1)[0].decode()


def publish_argv(server: Server, tokens: Path, to: str, *options: str) -> list[str]:
    """Publishes while nobody listens; every event is answered."""
    return ["build/load", "--connect", server.address, "--tokens", str(tokens), "--streams", "0", "--settle", "0",
            "--publish", server.text(server.kind.publish), "--to", to, "--pid", ",".join(map(str, server.pids)),
            "--limit", str(LIMIT_S), *options]


def publish_before(server: Server, tokens: Path, to: str, events: int) -> str:
    """Publishes events, and returns the id after which they come."""
    before = newest_id(server, servers.first_token())
    figures, _ = run_json(publish_argv(server, tokens, to, "--events", str(events), "--size", str(REPLAYED_SIZE),
                                       "--in-flight", "8"))  # a queue of the kernel's default length takes so many
    if figures["acked"] != events or figures["not_stored"]:
        raise RuntimeError(f"{figures['acked']:.0f} of {events} events were acknowledged")
    return before


def replay_figures(told: dict[str, Any], side: str) -> Figures:
    """What build/replay says of one of both sides: medians, and what nine in ten are below."""
    us, cpu_us = sorted(told[f"{side}us"]), sorted(told[f"{side}cpu_us"])
    return {"replay_ms": us[len(us) // 2] / 1e3, "replay_p90_ms": us[len(us) * 9 // 10] / 1e3, "replay_bytes": told["bytes"],
            "replay_cpu_ms": cpu_us[len(cpu_us) // 2] / 1e3, "bytes_per_s": told["bytes"] / us[len(us) // 2] * 1e6,
            "pairs": len(us)}


def replay_prepare(server: Server, users: int) -> list[str]:
    """Publishes to so many users in turn, and keeps what the first is replayed. Returns how to ask for that again."""
    after = publish_before(server, servers.BUILD / f"tokens-{users}", "users", REPLAYED * users)
    argv = ["build/replay", "--connect", server.address, "--path", server.kind.events % servers.first_token(),
            "--last-event-id", after, "--events", str(REPLAYED), "--save", str(servers.ANSWER)]
    object_in(argv, *run_text(argv))
    return argv


def replay_pairs(scenario: str, name: str, users: int, pairs: int) -> list[Sample]:
    """The events of one of so many users are replayed, in turn with a plain socket that sends the same bytes."""
    with servers.running(name) as server:
        argv = replay_prepare(server, users)
        with servers.running("floor-file") as floor:
            argv += ["--beside", floor.address, "--pairs", str(pairs), "--warm-up", str(WARM_UP),
                     "--pid", str(server.pids[0]), "--beside-pid", str(floor.pids[0])]
            with others_watched([*server.pids, *floor.pids]) as others:
                told = object_in(argv, *run_text(argv))
    return [Sample(scenario, of, 1, replay_figures(told, side) | others, " ".join(argv))
            for side, of in (("", name), ("beside_", "floor-file"))]


def replay_run(plan: Plan) -> Iterator[Sample]:
    """10,000 events to one stream that was away: all were for it, or every second one; and with a journal."""
    for _ in range(plan.n(5, 1)):
        for scenario, name, users in REPLAYS:
            yield from quieter(plan, replay_pairs, scenario, name, users, plan.n(101, 21))


# ---- replays --------------------------------------------------------------------------------------------------

LIVE_STREAMS, LIVE_RATE = 1000, 20
ALONE_S, WAVES_S = 3, 10  # what the live streams are given: before the waves, and for all of them
TRACE = servers.BUILD / "trace"


@dataclass
class Watched:
    """The most that was seen of a server's memory, and of the kernel's for all sockets, in bytes."""

    rss: float = 0
    tcp: float = 0

    def look(self, pid: int) -> None:
        rss = re.search(r"^VmRSS:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        tcp = re.search(r"^TCP:.* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
        self.rss = max(self.rss, int(rss[1]) * 1024 if rss else 0)
        self.tcp = max(self.tcp, int(tcp[1]) * resource.getpagesize() if tcp else 0)


def latencies_ms(spans_ns: list[tuple[float, float]]) -> list[float]:
    """Of the live events that were sent in these times, sorted."""
    numbers = array.array("Q", TRACE.read_bytes())
    return sorted(late / 1e6 for begin, end in spans_ns
                  for sent, late in zip(numbers[::2], numbers[1::2], strict=True) if begin <= sent < end)


def quantiles(prefix: str, values: list[float]) -> Figures:
    return {f"{prefix}_p50_ms": values[len(values) // 2], f"{prefix}_p99_ms": values[len(values) * 99 // 100],
            f"{prefix}_max_ms": values[-1], f"{prefix}_samples": len(values)}


def replays_argv(server: Server, after: str, streams: int) -> list[str]:
    """The clients that come back yield to the live ones, so that the latter's latency is that of the server."""
    options = ("--last-event-id", after, "--expect", str(REPLAYED), "--check", "full", "--connect-window", str(streams),
               "--settle", "0", "--quiet", "10")
    argv = load_argv(server, Load("", ("sse-roles",), streams, 1, options, publish=False))
    argv[argv.index("--tokens") + 1] = str(servers.BUILD / "tokens-back")
    return ["nice", "-n", "19", *argv]


def live_argv(server: Server, streams: int, seconds: float) -> list[str]:
    options = ("--rate", str(LIVE_RATE), "--seconds", str(seconds), "--size", str(REPLAYED_SIZE), "--to", "role:live",
               "--check", "full", "--trace", str(TRACE))
    argv = load_argv(server, Load("", ("sse-roles",), streams, 1, options))
    argv[argv.index("--tokens") + 1] = str(servers.BUILD / "tokens-live")
    return argv


def replays_wave(server: Server, argv: list[str], seen: Watched) -> Figures:
    """Runs the clients that come back, and looks at memory meanwhile."""
    with machine.spawn(argv, machine.CLIENT_CORE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as back:
        try:
            while back.poll() is None:
                seen.look(server.pids[0])
                time.sleep(0.05)
            out, err = back.communicate(timeout=10)
        except BaseException:
            back.terminate()
            raise
    return figures_in(argv, out, err)


def replays_figures(waves: list[Figures], live: Figures) -> Figures:
    """Of all waves together: medians, what went wrong in any of them, and how late live events were meanwhile."""
    spans = [(wave["replay_first_ns"], wave["replay_last_ns"]) for wave in waves]
    if live["publish_last_ns"] < spans[-1][1]:
        raise RuntimeError("the live events ended before the replays did")
    figures = {name: statistics.median(wave[name] for wave in waves)
               for name in ("seconds", "done_p50_ms", "deliveries_per_s", "server_cpu_us_per_delivery")}
    figures |= {name: sum(wave[name] for wave in waves)
                for name in ("deliveries", "complete", "failed", "missing", "repeated", "disordered", "closed_readers")}
    figures |= {f"live_{name}": live[name] for name in ("published", "missing", "repeated", "disordered", "closed_readers")}
    return figures | quantiles("alone", latencies_ms([(0, spans[0][0])])) | quantiles("during", latencies_ms(spans))


def replays_once(streams: int, waves: int, seconds: float) -> list[Sample]:
    """Live streams get events for so long; in the midst of it others come back, all at once, to 10,000 events each."""
    before, during, later = Watched(), Watched(), Watched()
    with servers.running("sse-roles") as server:
        after = publish_before(server, servers.BUILD / "tokens-back", "role:back", REPLAYED)
        argv, live_command = replays_argv(server, after, streams), live_argv(server, LIVE_STREAMS, seconds)
        live = machine.spawn(live_command, machine.CLIENT_CORE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            while stream_count(server, servers.first_token()) < LIVE_STREAMS:
                time.sleep(0.1)
            time.sleep(1 + ALONE_S)  # the load client settles for a second
            before.look(server.pids[0])
            with others_watched([*server.pids, live.pid, *machine.children_of(live.pid)]) as others:
                told = [replays_wave(server, argv, during) for _ in range(waves)]
            later.look(server.pids[0])
            out, err = live.communicate(timeout=LIMIT_S)
        except BaseException:
            live.terminate()
            raise
    figures = replays_figures(told, figures_in(live_command, out, err)) | others
    figures |= {"rss_before": before.rss, "rss_during": during.rss, "rss_later": later.rss, "tcp_during": during.tcp}
    TRACE.unlink()
    return [Sample("replays", "sse-roles", streams, figures, "\n".join([" ".join(live_command), " ".join(argv)]))]


def replays_run(plan: Plan) -> Iterator[Sample]:
    """1,000 streams come back at once to 10,000 events each, again and again, while 1,000 others are live."""
    for _ in range(plan.n(3, 1)):
        yield from quieter(plan, replays_once, plan.n(1000, 200), plan.n(5, 2), ALONE_S + plan.s(WAVES_S, 4))


# ---- journal --------------------------------------------------------------------------------------------------


def fdatasync_us(times: int) -> float:
    """What the disk needs for some bytes more at the end of a file, measured without any server: the median."""
    took = []
    with tempfile.NamedTemporaryFile(dir=servers.BUILD) as file:
        for i in range(times):
            os.pwrite(file.fileno(), b"x" * 400, i * 400)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1e6)
    return statistics.median(took)


def journal_once(name: str, in_flight: int, seconds: float) -> list[Sample]:
    disk_us = fdatasync_us(100)
    with servers.running(name) as server:
        argv = publish_argv(server, servers.tokens_of(name), "all", "--seconds", str(seconds), "--size", "300",
                            "--in-flight", str(in_flight))
        with others_watched(server.pids) as others:
            figures, _ = run_json(argv)
    return [Sample(f"journal-{in_flight}", name, 0, figures | others | {"fdatasync_us": disk_us}, " ".join(argv))]


def journal_run(plan: Plan) -> Iterator[Sample]:
    """What publishing costs with a journal: one publisher that waits for each answer, and one that does not."""
    for _ in range(plan.n(3, 1)):
        for in_flight in (1, 50):
            for name in ("sse", "sse-none", "sse-batch", "sse-always"):
                yield from quieter(plan, journal_once, name, in_flight, plan.s(4, 1))


# ---- profiles -------------------------------------------------------------------------------------------------

CALLGRIND_STREAMS, CALLGRIND_EVENTS = 200, 100


def callgrind_once(name: str, events: int, rate: int) -> tuple[float, list[str]]:
    """The instructions of a whole run, and the lines that say where they went."""
    out = (servers.BUILD / f"callgrind.{name}").resolve()
    wrapper = ("valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}")
    load = Load("", (name,), CALLGRIND_STREAMS, 1,
                ("--rate", str(rate), "--events", str(events), "--size", "300", "--quiet", "5"))
    with servers.running(name, wrapper=wrapper) as server:
        run_json(load_argv(server, load))
    text = subprocess.run(["callgrind_annotate", "--threshold=95", str(out)], capture_output=True, text=True, check=True).stdout
    total = re.search(r"^([\d,]+) .*PROGRAM TOTALS", text, re.MULTILINE)
    if not total:
        raise RuntimeError("callgrind_annotate: no totals")
    return float(total[1].replace(",", "")), re.findall(r"^ *([\d,]+ \([ \d.]+%\)  \S+)", text, re.MULTILINE)


def callgrind_run(plan: Plan) -> Iterator[Sample]:
    """Instructions a delivery, in user mode: what more events cost, so that start and connecting are left out."""
    for _ in range(plan.n(2, 1)):
        for name in ("sse", "floor-each"):
            few, _ = callgrind_once(name, 1, 50)
            many, lines = callgrind_once(name, 1 + CALLGRIND_EVENTS, 50)
            deliveries = CALLGRIND_STREAMS * CALLGRIND_EVENTS
            (servers.BUILD / f"callgrind-{name}.txt").write_text("\n".join(lines[1:]) + "\n")
            yield Sample("callgrind", name, CALLGRIND_STREAMS, {"instructions": (many - few) / deliveries, "total": many})


PERF_ROWS = 14


@contextlib.contextmanager
def profiled(server: Server, text: Path) -> Iterator[None]:
    """Writes where a server's time goes during a with statement."""
    data = servers.BUILD / "perf.data"
    argv = ["perf", "record", "--quiet", "--event", "cpu-clock", "--freq", "997", "--output", str(data)]
    recorder = machine.spawn([*argv, "--pid", str(server.pids[-1])], machine.CLIENT_CORE,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        recorder.terminate()
        recorder.wait()
    report = subprocess.run(["perf", "report", "--input", str(data), "--stdio", "--no-children", "--sort", "symbol"],
                            capture_output=True, text=True, check=False).stdout
    rows = [(float(share), where == "k", symbol)
            for share, where, symbol in re.findall(r"^ +([\d.]+)%  \[(.)\] (\S+)", report, re.MULTILINE)]
    lines = [f"{sum(row[0] for row in rows if row[1]):6.2f}% kernel, {sum(row[0] for row in rows if not row[1]):.2f}% user"]
    lines += [f"{share:6.2f}% {'kernel' if kernel else 'user':6} {symbol}" for share, kernel, symbol in rows]
    text.write_text("\n".join(lines) + "\n")
    data.unlink(missing_ok=True)


def perf_load(name: str, key: str, streams: int, options: tuple[str, ...]) -> None:
    with servers.running(name) as server, profiled(server, servers.BUILD / f"perf-{key}-{name}.txt"):
        run_json(load_argv(server, Load("", (name,), streams, 1, options)))


def perf_wrk(name: str, seconds: float) -> None:
    with servers.running(name, bodies={"stats": '{"total_users":0,"total_connections":0,"users":{}}\n'}) as server, \
            profiled(server, servers.BUILD / f"perf-wrk-{name}.txt"):
        wrk_once(server, name, ASKED[0], seconds)


def perf_replay(key: str, users: int, pairs: int) -> None:
    with servers.running("sse") as server:
        argv = replay_prepare(server, users)
        with profiled(server, servers.BUILD / f"perf-{key}-sse.txt"):
            object_in(argv, *run_text([*argv, "--beside", server.address, "--pairs", str(pairs)]))


def perf_run(plan: Plan) -> None:
    seconds = plan.s(5, 2)
    overload = ("--seconds", str(seconds), "--size", "300", "--check", "count")
    one = ("--to", "users", "--seconds", str(seconds), "--size", "300")
    perf_load("sse", "paced", 10000, paced(seconds))
    perf_load("sse", "overload", 10000, overload)
    perf_replay("replay", 1, plan.n(500, 100))
    perf_replay("replay-half", 2, plan.n(500, 100))
    if not plan.quick:
        perf_load("floor-each", "paced", 10000, paced(seconds))
        perf_load("floor-batch", "overload", 10000, overload)
        perf_load("sse-apart", "one", 19000, one)
        perf_load("floor-one", "one", 19000, one)
        perf_wrk("sse", seconds)
        perf_wrk("nchan", seconds)


def texts() -> dict[str, list[str]]:
    """The profiles that were written, their names first."""
    found = sorted([*servers.BUILD.glob("perf-*.txt"), *servers.BUILD.glob("callgrind-*.txt")])
    return {path.stem: path.read_text().splitlines()[:PERF_ROWS + 1] for path in found}


def forget_texts() -> None:
    for path in (*servers.BUILD.glob("perf-*.txt"), *servers.BUILD.glob("callgrind*"), Path(servers.BUILD / "perf.data")):
        path.unlink(missing_ok=True)
