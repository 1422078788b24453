"""The tables and pictures of a run: results.md and *.svg."""

from __future__ import annotations

import statistics
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers import KINDS

NOTEWORTHY_CORES = 0.1
MISSED = "**no**"
Key = tuple[str, str]  # scenario, server


class Results:
    """The samples of a run, looked up by scenario and server."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self.samples: list[dict[str, Any]] = raw["samples"]

    def values(self, scenario: str, server: str, figure: str, streams: int | None = None) -> list[float]:
        return [s["figures"][figure] for s in self.samples
                if s["scenario"] == scenario and s["server"] == server and figure in s["figures"]
                and streams in (None, s["streams"])]

    def median(self, scenario: str, server: str, figure: str) -> float | None:
        values = self.values(scenario, server, figure)
        return statistics.median(values) if values else None

    def most(self, scenario: str, server: str, figure: str) -> float | None:
        return max(self.values(scenario, server, figure), default=None)

    def servers(self, scenario: str) -> list[str]:
        return list(dict.fromkeys(s["server"] for s in self.samples if s["scenario"] == scenario))

    def streams(self, scenario: str) -> list[int]:
        return sorted({s["streams"] for s in self.samples if s["scenario"] == scenario})


# ---- numbers --------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three digits that matter, thousands apart."""
    if abs(value) >= 1000:
        return f"{round(value, 2 - len(str(int(abs(value)))) + 1):,.0f}"
    if abs(value) >= 100 or value == 0:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def spread(values: list[float]) -> str:
    """The median, and what it varied between."""
    if not values:
        return "-"
    if len(values) == 1 or min(values) == max(values):
        return number(values[0])
    return f"{number(statistics.median(values))} ({number(min(values))}..{number(max(values))})"


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1),
            *("| " + " | ".join(row) + " |" for row in rows), ""]


# ---- targets --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A figure of an issue: of sse alone, or as a ratio to another's."""

    what: str
    figure: str
    of: Key
    limit: float
    than: Key | None = None
    at_least: bool = False
    unit: str = ""
    scale: float = 1
    than_name: str = ""
    why: str = ""  # what is known where it is not reached


TARGETS = (
    Target("paced broadcast, 10,000 streams, 4 events/s: CPU a delivery", "server_cpu_us_per_delivery",
           ("paced", "sse"), 1.08, ("paced", "floor-each"), unit="us"),
    Target("the same", "server_cpu_us_per_delivery", ("paced", "sse"), 0.75, ("paced", "nchan"), unit="us"),
    Target("the same: p99 latency", "p99_us", ("paced", "sse"), 1.10, ("paced", "floor-each"), unit="ms", scale=1e-3),
    Target("the same", "p99_us", ("paced", "sse"), 0.8, ("paced", "nchan"), unit="ms", scale=1e-3),
    Target("burst of 100 events to 10,000 streams: deliveries/s", "deliveries_per_s",
           ("burst", "sse"), 0.8, ("burst", "floor-batch"), at_least=True, unit="M", scale=1e-6),
    Target("the same", "deliveries_per_s", ("burst", "sse"), 40, ("burst", "nchan"), at_least=True, unit="M", scale=1e-6),
    Target("the same; the view holds 1,000 streams", "deliveries_per_s", ("burst", "sse"), 500, ("peers-burst", "django"),
           at_least=True, unit="M", scale=1e-6, why="The view is measured with as many streams as it can hold; it gets slower "
           "with each thread, so that 10,000 would be worse for it than this table shows."),
    Target("overload, 10,000 streams: deliveries/s", "deliveries_per_s",
           ("overload", "sse"), 0.8, ("overload", "floor-batch"), at_least=True, unit="M", scale=1e-6,
           why="The price is that of a write: sse takes in no more than a queue (100 events) before each stream has had "
           "one. The rest is the list of events that each stream keeps (route_stream, deliver_slice)."),
    Target("the same, each event looked at: missing", "missing", ("overload-checked", "sse"), 0),
    Target("the same: streams closed", "closed_readers", ("overload-checked", "sse"), 0),
    Target("200 events/s to 10,000 streams: p99 latency, to that of 4 events/s", "p99_us",
           ("fast", "sse"), 1.2, ("paced", "sse"), unit="ms", scale=1e-3, than_name="sse, 4 events/s",
           why="At 4 events/s the p99 is one pass over 10,000 streams, a send of one event each. At 200 events/s the server "
           "passes over them without a pause (its core is busy: see the table below), each send carries a dozen events, and "
           "an event that comes just behind the cursor waits for a whole pass: the ratio is that of a longer send to a short "
           "one. The profile is the kernel's TCP, as at 4 events/s. The batched floor, which must finish a pass before it "
           "takes in the next events, needs the longer time of its row below. Tried: not adding up again what a whole "
           "write took (63.4 ms became 58.7 ms, `--only fast`, after the run of 2026-11-22)."),
    Target("one user each among 19,000 streams: events/s", "events_per_s",
           ("one", "sse-apart"), 0.8, ("one", "floor-one"), at_least=True),
    Target("connecting, token checked: CPU a stream", "server_cpu_us_per_stream",
           ("connect", "sse"), 1.25, ("connect", "floor-each"), unit="us"),
    Target("resident memory an idle stream", "rss_bytes_per_stream", ("connect", "sse"), 128, unit="B"),
    Target("`/stats/` with wrk, keep-alive: requests/s", "requests_per_s",
           ("wrk-stats", "sse"), 1.3, ("wrk-stats", "nchan"), at_least=True, than_name="nginx",
           why="Four fifths of the CPU of a request are the kernel's (recv, sendmsg, epoll_wait: the profile below), which "
           "both servers pay. Were sse's own part nothing at all, it would just reach 1.3. Tried: SHA-256 with rotating "
           "variables, eight bytes of a head at a time, users who are online as a set: 11,200 user instructions a request "
           "became 9,300, a third of them the SHA-256 of the token, which nginx does not check."),
    Target("19,000 idle streams, keepalives of 30 s: CPU", "hold_cpu_percent", ("idle", "sse"), 1, unit="% of a core"),
    Target("a revoked user's streams have ended, 10,000 others being written to: the slowest of 100", "revoke_most_ms",
           ("revoke", "sse"), 10, unit="ms"),
    Target("replay of 10,000 events to one stream: at most 2 x sending those bytes over a plain socket", "replay_ms",
           ("replay", "sse"), 2, ("replay", "floor-file"), unit="ms"),
    Target("the same, every second event being for somebody else", "replay_ms",
           ("replay-half", "sse"), 2, ("replay-half", "floor-file"), unit="ms",
           why="Its 10,000 frames do not lie side by side, so each is a piece of its own to sendmsg, which the kernel copies "
           "one by one (_copy_from_iter in the profile below), and the audiences of 20,000 events are looked at (who_next, "
           "memcmp). Tried: gathering small frames in a buffer and remembering the last two audiences, a prototype, 1.75 to "
           "1.9; left out, because a page that was away has missed dozens of events, not 10,000."),
    Target("the same as the first, with a journal", "replay_ms",
           ("replay-journal", "sse-batch"), 2, ("replay-journal", "floor-file"), unit="ms"),
    Target("1,000 replays of 10,000 events at once: missing", "missing", ("replays", "sse-roles"), 0),
    Target("start to first accepted connection", "start_ms", ("start", "sse"), 5, unit="ms",
           why="It includes the spawn, fork and exec and the loading of libc, which the floor shows too."),
)


def target_row(results: Results, target: Target) -> list[str]:
    sign = "at least" if target.at_least else "at most"
    than = (target.than_name or KINDS[target.than[1]].title) if target.than else ""
    wanted = f"{sign} {number(target.limit)}" + (f" x {than}" if than else f" {target.unit}")
    worst = target.figure in ("missing", "closed_readers")
    own = (results.most if worst else results.median)(*target.of, target.figure)
    other = results.median(*target.than, target.figure) if target.than else None
    if own is None or (target.than and not other):
        return [target.what, wanted, "-", "-", "-", "not measured"]
    reached = own / other if other else own
    good = reached >= target.limit if target.at_least else reached <= target.limit
    return [target.what, wanted, f"{number(own * target.scale)} {target.unit}".strip(),
            f"{number(other * target.scale)} {target.unit}".strip() if other else "", number(reached) if other else "",
            "yes" if good else MISSED]


def reasons(results: Results) -> list[str]:
    """What is known about the targets that are not reached."""
    missed = [t for t in TARGETS if target_row(results, t)[-1] == MISSED and t.why]
    if not missed:
        return []
    return ["What is not reached, and why:", "", *(f"- *{t.what}*, {target_row(results, t)[1]}: {t.why}" for t in missed), ""]


def disturbance(results: Results) -> list[str]:
    """How idle the machine was."""
    others = [s["figures"]["others_cores"] for s in results.samples if "others_cores" in s["figures"]]
    if not others or statistics.median(others) < NOTEWORTHY_CORES:
        return []
    return [(f"**The machine was not idle.** Others used {number(statistics.median(others))} of its cores (median of all runs). "
            "The bench had priority, but caches were shared: all servers look slower than they are, differences smaller, "
            "and ratios within 10 % of a target decide nothing."), ""]


# ---- a table a scenario ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    title: str
    figure: str
    scale: float = 1


RATE = Column("deliveries/s", "deliveries_per_s")
EVENTS = Column("events/s", "events_per_s")
CPU = Column("CPU us a delivery", "server_cpu_us_per_delivery")
P50, P99 = Column("p50 ms", "p50_us", 1e-3), Column("p99 ms", "p99_us", 1e-3)
MISSING, CLOSED = Column("missing", "missing"), Column("closed", "closed_readers")
BUSY = Column("server busy, cores", "server_busy")
CLIENT = Column("client busy, cores", "client_busy")
CPU_STREAM = Column("CPU us a stream", "server_cpu_us_per_stream")
RSS = Column("RSS B a stream", "rss_bytes_per_stream")
REQUESTS = Column("requests/s", "requests_per_s")
CPU_REQUEST = Column("CPU us a request", "server_cpu_us_per_request")

REPLAY = (Column("ms", "replay_ms"), Column("90 % below, ms", "replay_p90_ms"), Column("server's CPU ms", "replay_cpu_ms"),
          Column("MB", "replay_bytes", 1e-6), Column("MB/s", "bytes_per_s", 1e-6), Column("pairs a run", "pairs"))
ACKED = (Column("events/s", "acked_per_s"), Column("CPU us an event", "server_cpu_us_per_event"),
         Column("answer p50 us", "ack_p50_us"), Column("p99 us", "ack_p99_us"), Column("most us", "ack_max_us"),
         Column("not stored", "not_stored"), Column("events", "acked"), Column("RSS MB", "rss_bytes_after", 1e-6),
         Column("fdatasync by itself, us", "fdatasync_us"))

SCENARIOS: tuple[tuple[str, str, tuple[Column, ...]], ...] = (
    ("connect", "Connecting: sse checks a token of 1,000 users", (Column("streams/s", "connect_rate"), CPU_STREAM, RSS)),
    ("paced", "Paced broadcast: 4 events/s of 300 B", (CPU, P50, P99, MISSING, CLOSED)),
    ("burst", "A burst of 100 events of 300 B", (RATE, CPU, P99, MISSING, CLOSED, CLIENT)),
    ("fast", "200 events/s of 300 B", (CPU, P50, P99, MISSING, CLOSED, BUSY)),
    ("overload", ("Overload: events of 300 B as fast as they are taken. Of 255 in 256 streams only the bytes are counted, "
     "so that the client is not the limit"), (RATE, EVENTS, CPU, P99, MISSING, CLOSED, BUSY, CLIENT)),
    ("overload-checked", "The same, each event of each stream looked at (the client may be the limit)",
     (RATE, EVENTS, CPU, P99, MISSING, CLOSED, CLIENT)),
    ("one", "Events to one user each, in turn", (EVENTS, CPU, P99, MISSING, CLOSED, BUSY, CLIENT)),
    ("idle", "Idle streams with a keepalive every 30 s", (Column("CPU % of a core", "hold_cpu_percent"), RSS, CLOSED)),
    ("peers-paced", "What users pick instead: 4 events/s of 300 B to fewer streams", (CPU, P50, P99, RSS, MISSING, CLOSED)),
    ("peers-burst", "The same: a burst of 100 events of 300 B", (RATE, CPU, P99, MISSING, CLOSED)),
    ("wrk-stats", "wrk, 64 connections: `/stats/`, keep-alive; nginx answers the same body with `return 200`",
     (REQUESTS, CPU_REQUEST, P99)),
    ("wrk-404", "wrk: a path that is not there (404)", (REQUESTS, CPU_REQUEST, P99)),
    ("wrk-401", "wrk: `/stats/` without a token (401)", (REQUESTS, CPU_REQUEST, P99)),
    ("wrk-churn", "wrk: `/stats/` with `Connection: close`", (REQUESTS, CPU_REQUEST, P99)),
    ("wrk-streams", "wrk holds 1,000 streams, events flow as fast as they are taken",
     (Column("MB/s", "bytes_per_s", 1e-6),)),
    ("replay", "Replay of 10,000 events (150 B of data) to one stream, request to last byte", REPLAY),
    ("replay-half", "The same; as many more that it must not see are among them, every second one", REPLAY),
    ("replay-journal", "The first, of a server with a journal", REPLAY),
    ("replays", "Streams come back at once to 10,000 events each; five times (in the quick mode two) in a run",
     (Column("s", "seconds"), Column("half are done, s", "done_p50_ms", 1e-3), RATE, CPU, MISSING, Column("repeated", "repeated"),
      Column("out of order", "disordered"), CLOSED)),
    ("replays", "Meanwhile 1,000 others get 20 events/s: latencies before, and during the replays",
     (Column("p50 ms before", "alone_p50_ms"), Column("p99", "alone_p99_ms"), Column("most", "alone_max_ms"),
      Column("p50 ms during", "during_p50_ms"), Column("p99", "during_p99_ms"), Column("most", "during_max_ms"),
      Column("missing", "live_missing"), Column("closed", "live_closed_readers"))),
    ("replays", "Memory: of the server before, during and after; the kernel's for all sockets, both sides, at most",
     (Column("RSS MB before", "rss_before", 1e-6), Column("during", "rss_during", 1e-6), Column("after", "rss_later", 1e-6),
      Column("kernel's MB", "tcp_during", 1e-6))),
    ("journal-1", "One publisher that waits for each answer; events of 300 B, nobody listens", ACKED),
    ("journal-50", "The same; 50 may be unanswered", ACKED),
    ("start", "Start: spawn to the first accepted connection, spawning included", (Column("ms", "start_ms"),)),
    ("callgrind", "Instructions in user mode, each event sent by itself (callgrind, 200 streams, 100 events)",
     (Column("instructions a delivery", "instructions"),)),
)


def title_of(scenario: str, server: str) -> str:
    return "nginx" if scenario.startswith("wrk") and server == "nchan" else KINDS[server].title


def scenario_section(results: Results, scenario: str, title: str, columns: tuple[Column, ...]) -> list[str]:
    names = results.servers(scenario)
    if not names:
        return [f"### {title}", "", "Not measured.", ""]
    rows = []
    for name in names:
        values = [[v * c.scale for v in results.values(scenario, name, c.figure)] for c in columns]
        streams = next(s["streams"] for s in results.samples if s["scenario"] == scenario and s["server"] == name)
        rows.append([title_of(scenario, name), f"{streams:,}", str(max(map(len, values))), *map(spread, values)])
    return [f"### {title}", "", *table(["server", "streams", "runs", *(c.title for c in columns)], rows)]


# ---- pictures -------------------------------------------------------------------------------------------------

TERMINAL = 'set terminal svg size 720,400 font "sans-serif,13" background "white"\n'
COLOURS = {"sse": "#d6336c", "floor-each": "#868e96", "nchan": "#1c7ed6"}
FRAME = "set border 3\nset tics nomirror\nset grid y lc '#dee2e6'\nset key outside top left horizontal\n"


def gnuplot(path: Path, script: str) -> None:
    subprocess.run(["gnuplot"], input=f"{TERMINAL}set output '{path}'\n{FRAME}{script}", text=True, check=True)


def picture_of_growth(results: Results, path: Path, title: str, column: Column, log: bool) -> None:
    """One line a server: a figure over the number of streams."""
    blocks, plots = [], []
    for i, name in enumerate(results.servers("growth")):
        points = []
        for streams in results.streams("growth"):
            values = results.values("growth", name, column.figure, streams)
            if values:
                points.append(f"{streams} {statistics.median(values) * column.scale}")
        blocks.append("\n".join(points))
        colour = COLOURS.get(name, "#40c057")
        plots.append(f"$data index {i} using 1:2 with linespoints lw 2 pt 7 ps 0.7 lc rgb '{colour}' title '{KINDS[name].title}'")
    if not blocks:
        return
    axis = "set logscale y\n" if log else "set yrange [0:]\n"
    gnuplot(path, "$data << END\n" + "\n\n\n".join(blocks) + f"\nEND\nset xlabel 'streams'\nset title '{title}'\n"
            f"set xrange [0:20000]\nset format x \"%'.0f\"\n{axis}plot " + ", ".join(plots) + "\n")


def picture_of_bars(results: Results, path: Path, scenario: str, title: str, column: Column) -> None:
    """One bar a server, on a logarithmic axis."""
    rows = []
    for i, name in enumerate(results.servers(scenario)):
        value = results.median(scenario, name, column.figure)
        if value:
            colour = "0xd6336c" if name == "sse" else "0x74c0fc"
            label = KINDS[name].title.replace(", ", "\\n").replace(" (", "\\n(")
            rows.append(f'{i} {value * column.scale} "{label}" {colour} "{number(value * column.scale)}"')
    if not rows:
        return
    gnuplot(path, "$data << END\n" + "\n".join(rows) + f"\nEND\nset title '{title}'\nset logscale y\n"
            "unset key\nset bmargin 5\nset boxwidth 0.6\nset style fill solid\n"
            "set format y '%.0s%c'\nset xtics font ',11'\nset offsets 0.5, 0.5, 0, 0\n"
            "plot $data using 1:2:4:xtic(3) with boxes lc rgb variable, '' using 1:2:5 with labels offset 0,0.6\n")


PICTURES: tuple[tuple[str, str, Callable[[Results, Path], None]], ...] = (
    ("growth-cpu.svg", "CPU a delivery", lambda r, p: picture_of_growth(
        r, p, "CPU a delivery, us (4 events/s)", Column("", "server_cpu_us_per_delivery"), False)),
    ("growth-p99.svg", "p99 latency", lambda r, p: picture_of_growth(
        r, p, "p99 latency, ms (4 events/s)", Column("", "p99_us", 1e-3), False)),
    ("growth-rss.svg", "resident bytes a stream", lambda r, p: picture_of_growth(
        r, p, "resident bytes a stream", Column("", "rss_bytes_per_stream"), True)),
    ("peers-burst.svg", "a burst: deliveries a second", lambda r, p: picture_of_bars(
        r, p, "peers-burst", "deliveries a second, a burst of 100 events", RATE)),
    ("peers-cpu.svg", "CPU a delivery of each", lambda r, p: picture_of_bars(
        r, p, "peers-paced", "CPU a delivery, us (4 events/s)", CPU)),
)


# ---- the page -------------------------------------------------------------------------------------------------


def facts_section(results: Results) -> list[str]:
    facts, versions = results.raw["facts"], results.raw["versions"]
    return ["## The machine", "", *table(["", ""], [[k, v] for k, v in facts.items()]),
            "Versions: " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".", ""]


def profile_section(results: Results) -> list[str]:
    lines = ["## Where the time goes", "",
             ("`perf record -e cpu-clock` of the server during the run that is named (share of its samples), and callgrind "
             "(instructions of the whole run, start and connecting included)."), ""]
    for name, rows in results.raw["profiles"].items():
        lines += [f"<details><summary>{name}</summary>", "", "```", *rows, "```", "</details>", ""]
    return lines


def commands_section(results: Results) -> list[str]:
    lines = ["## Commands", "", "`make bench` ran these; ports and directories are those of one run.", "", "```"]
    for kind in dict.fromkeys(KINDS[s["server"]] for s in results.samples):
        lines.append(" ".join(kind.argv))
    lines += ["```", "", "```"]
    seen: set[tuple[str, str, int]] = set()
    for s in results.samples:
        key = (s["scenario"], s["server"], s["streams"])
        if s["command"] and key not in seen:
            seen.add(key)
            lines.append(f"# {s['scenario']}, {s['server']}\n{s['command']}")
    return [*lines, "```", ""]


HEAD = """# How fast sse is

Written by `make bench`; every figure of one table is from one run of it, in which the servers took turns (A B C A B C ...).
Figures are medians, with the least and the most in brackets; ratios are ratios of medians. The *floor* (`bench/floor.c`) is
the least that an epoll server with one thread can do: no tokens, no routing, no queue. `bench/load.c` says how latencies and
CPU are measured. CPU includes the kernel's work for the server, both directions of the loopback among it.
"""


def write(raw: dict[str, Any], folder: Path) -> None:
    results = Results(raw)
    lines = [HEAD]
    if raw["quick"]:
        lines += ["**This was the quick mode: single short runs, to see that the bench works.**", ""]
    targets = [target_row(results, t) for t in TARGETS]
    lines += ["## Targets", "", *table(["what", "target", "sse", "the other", "ratio", "reached"], targets)]
    lines += [*reasons(results), *disturbance(results), "## Growth", ""]
    for file, title, draw in PICTURES:
        draw(results, folder / file)
        if (folder / file).exists():
            lines += [f"![{title}]({file})"]
    lines += ["", "## Scenarios", ""]
    for scenario, title, columns in SCENARIOS:
        lines += scenario_section(results, scenario, title, columns)
    lines += profile_section(results) + facts_section(results) + commands_section(results)
    (folder / "results.md").write_text("\n".join(lines))
