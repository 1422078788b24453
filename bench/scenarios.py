"""What is measured: each scenario runs servers in turn (A B C A B C ...) and yields samples."""

from __future__ import annotations

import contextlib
import json
import random
import re
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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


def run_json(argv: list[str]) -> tuple[Figures, str]:
    """Runs a client that prints a line of JSON. What it wrote to stderr comes second."""
    with machine.spawn(argv, machine.CLIENT_CORE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        try:
            out, err = client.communicate(timeout=LIMIT_S + 30)
        except BaseException:
            client.terminate()
            raise
    line = next((line for line in out.splitlines() if line.startswith("{")), None)
    if line is None:
        raise RuntimeError(f"{' '.join(argv)}: {err.strip() or out.strip()}")
    return {k: float(v) for k, v in json.loads(line).items() if isinstance(v, int | float)}, err


def load_once(name: str, load: Load) -> Sample:
    with servers.running(name) as server:
        argv = load_argv(server, load)
        busy, ours, began = machine.busy_s(), clients_cpu_s() + machine.cpu_s(server.pids), time.monotonic()
        figures, _ = run_json(argv)
        elapsed = time.monotonic() - began
        spent = clients_cpu_s() + machine.cpu_s(server.pids) - ours
        figures["others_cores"] = max(0.0, (machine.busy_s() - busy - spent) / elapsed)
        if figures.get("seconds"):
            figures["server_busy"] = figures["server_cpu_s"] / figures["seconds"]
            figures["client_busy"] = (figures["client_cpu_s"] + figures["publisher_cpu_s"]) / figures["seconds"]
            figures["events_per_s"] = figures["published"] / figures["seconds"]
    return Sample(load.key, name, load.streams, figures, " ".join(argv))


def clients_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def load_run(load: Load, plan: Plan) -> Iterator[Sample]:
    """All servers in turn, again and again. A run that others disturbed is done once more; the quieter one counts."""
    for _ in range(load.repeats):
        for name in load.names:
            plan.patience.wait_for_silence()
            sample = load_once(name, load)
            if sample.figures["others_cores"] > DISTURBED and plan.patience.wait_for_silence():
                sample = min(sample, load_once(name, load), key=lambda s: s.figures["others_cores"])
            yield sample


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


def perf_run(plan: Plan) -> None:
    seconds = plan.s(5, 2)
    overload = ("--seconds", str(seconds), "--size", "300", "--check", "count")
    one = ("--to", "users", "--seconds", str(seconds), "--size", "300")
    perf_load("sse", "paced", 10000, paced(seconds))
    perf_load("sse", "overload", 10000, overload)
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
