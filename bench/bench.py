#!/usr/bin/env python3
"""
Measures sse beside its peers and beside the floor, and writes bench/results.md and bench/*.svg.

    make bench            everything, about 30 minutes, 35 at most
    make bench QUICK=1    fewer repeats and smaller, about 3 minutes; writes to build/bench instead
    bench/bench.py --report    writes the tables and pictures of the last run again

It needs what bench/deps installs. All load goes to loopback, in a network namespace of its own if it may make one.
Servers run on one core and their clients on the other, one server at a time; where two servers are compared, they
take turns. Every run has a limit, and every child ends with this program, also on Ctrl-C.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import machine
import report
import scenarios
import servers
from scenarios import Plan, Sample

RESULTS, TRIAL = servers.BUILD / "results.json", servers.BUILD / "trial.json"
FULL_LIMIT_S, QUICK_LIMIT_S = 35 * 60, 6 * 60


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(sample: Sample) -> None:
    wanted = ("deliveries_per_s", "events_per_s", "p99_us", "server_cpu_us_per_delivery", "server_cpu_us_per_stream",
              "rss_bytes_per_stream", "missing", "closed_readers", "server_busy", "client_busy", "hold_cpu_percent",
              "requests_per_s", "bytes_per_s", "revoke_median_ms", "revoke_most_ms", "start_ms", "instructions",
              "replay_ms", "replay_cpu_ms", "alone_p99_ms", "during_p99_ms", "during_max_ms", "acked_per_s",
              "server_cpu_us_per_event", "others_cores")
    shown = " ".join(f"{name}={sample.figures[name]:.6g}" for name in wanted if name in sample.figures)
    say(f"{sample.scenario:16} {sample.server:12} {sample.streams:6} {shown}")


def steps(plan: Plan) -> list[tuple[str, Callable[[], Iterable[Sample]]]]:
    """Everything there is to run, by name."""
    found: list[tuple[str, Callable[[], Iterable[Sample]]]] = []
    for load in scenarios.loads(plan):
        found.append((load.key, lambda load=load: scenarios.load_run(load, plan)))  # type: ignore[misc]
    found += [
        ("wrk", lambda: scenarios.wrk_run(plan)),
        ("wrk-streams", lambda: scenarios.wrk_streams_run(plan)),
        ("start", lambda: scenarios.start_run(plan)),
        ("revoke", lambda: scenarios.revoke_run(plan)),
        ("replay", lambda: scenarios.replay_run(plan)),
        ("replays", lambda: scenarios.replays_run(plan)),
        ("journal", lambda: scenarios.journal_run(plan)),
        ("callgrind", lambda: scenarios.callgrind_run(plan)),
    ]
    return found


def run_all(plan: Plan, only: list[str], samples: list[Sample]) -> None:
    began = time.monotonic()
    for key, step in steps(plan):
        if only and key not in only:
            continue
        say(f"-- {key} ({time.monotonic() - began:.0f} s)")
        try:
            for sample in step():
                samples.append(sample)
                show(sample)
        except (RuntimeError, OSError) as e:
            say(f"   {key}: {e}")
    if not only or "perf" in only:
        say(f"-- perf ({time.monotonic() - began:.0f} s)")
        scenarios.perf_run(plan)
    say(f"-- done ({time.monotonic() - began:.0f} s)")


def measure(plan: Plan, only: list[str], into: Path) -> None:
    machine.enter_namespace()
    signal.alarm(QUICK_LIMIT_S if plan.quick else FULL_LIMIT_S)
    servers.BUILD.mkdir(parents=True, exist_ok=True)
    servers.sse_copy()
    servers.token_files()
    scenarios.forget_texts()
    facts = machine.facts() | {"journals are on": servers.file_system(servers.BUILD)}
    about = {"quick": plan.quick, "facts": facts, "versions": machine.versions(servers.PYTHON, servers.NODE_MODULES)}
    samples: list[Sample] = []
    try:
        run_all(plan, only, samples)
    finally:
        everything = {**about, "samples": [dataclasses.asdict(s) for s in samples], "profiles": scenarios.texts()}
        into.write_text(json.dumps(everything, indent=1))


def write_report(results: Path, folder: Path) -> None:
    report.write(json.loads(results.read_text()), folder)
    say(f"written: {folder}/results.md")


def stop_at_signals() -> None:
    def stop(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, stop)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures sse beside its peers and the floor.")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, smaller; into build/bench")
    parser.add_argument("--report", action="store_true", help="only write the tables and pictures again")
    parser.add_argument("--only", action="append", default=[], help="only this scenario; may be repeated; into build/bench")
    args = parser.parse_args()
    os.chdir(Path(__file__).resolve().parent.parent)
    stop_at_signals()
    results, folder = (TRIAL, servers.BUILD) if args.quick or args.only else (RESULTS, Path("bench"))
    if not args.report:
        patience = machine.Patience(2, 5) if args.quick else machine.Patience(15, 120)
        measure(Plan(args.quick, 1 if args.quick else 5, patience), args.only, results)
    write_report(results, folder)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt as e:
        say(f"stopped: {e}")
        sys.exit(130)
