"""The report of a soak: figures and tables in markdown, a picture, and all of it as JSON."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot

mpl.use("svg")

JUDGED = ("Rss", "Private_Dirty")


def machine() -> str:
    model = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), ":")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 30
    return f"{os.cpu_count()} cores ({model.split(':')[1].strip()}), {pages} GB, Linux {platform.release()}"


def table(rows: list[tuple[Any, ...]], head: tuple[str, ...]) -> str:
    lines = [head, tuple("---" if i == 0 else "---:" for i in range(len(head))), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in lines) + "\n"


def over_time(samples: list[dict[str, Any]], rows: int = 32) -> str:
    step = max(1, len(samples) // rows)
    head = (
        "at, s", "RSS, kB", "PSS", "private dirty", "descriptors", "threads", "CPU, %", "streams", "events heard",
        "abuses", "log, MB", "journal, MB", "p50, ms", "p99", "longest", "the load was late, ms", "CPU of the load, %",
    )  # fmt: skip
    found = []
    for i in range(0, len(samples), step):
        now, before = samples[i], samples[max(0, i - 1)]
        passed = now["at"] - before["at"]
        load = f"{100 * (now['load_cpu_s'] - before['load_cpu_s']) / passed:.0f}" if passed else ""
        cpu = f"{100 * (now['cpu_s'] - before['cpu_s']) / passed:.0f}" if passed else ""
        found.append(
            (
                round(now["at"]), now["Rss"], now["Pss"], now["Private_Dirty"], now["descriptors"], now["threads"], cpu,
                now["streams"], now["heard"], now["abuse"], round(now["log_bytes"] / 1e6),
                round(now["journal_bytes"] / 1e6),
                now["latency_p50_ms"], now["latency_p99_ms"], now["latency_max_ms"], now["load_late_ms"], load,
            )
        )  # fmt: skip
    return table(found, head)


def counts(title: str, found: dict[str, int]) -> str:
    return f"\n## {title}\n\n" + table(sorted(found.items()), ("", "times"))


def picture(folder: Path, samples: list[dict[str, Any]]) -> None:
    at = [now["at"] / 60 for now in samples]
    figure, axes = pyplot.subplots(3, 1, sharex=True, figsize=(9, 7), layout="constrained")
    for name, label in (("Rss", "RSS"), ("Pss", "PSS"), ("Private_Dirty", "private dirty")):
        axes[0].plot(at, [now[name] / 1024 for now in samples], label=label)
    axes[0].set(ylabel="MB", ylim=(0, None))
    axes[1].plot(at, [now["descriptors"] for now in samples], label="descriptors")
    axes[1].plot(at, [now["streams"] for now in samples], label="streams")
    axes[1].set(ylim=(0, None))
    for name, label in (("latency_p50_ms", "median"), ("latency_p99_ms", "p99")):
        axes[2].plot(at, [now[name] for now in samples], label=f"from the send to a stream, {label}")
    axes[2].set(ylabel="ms", xlabel="minutes", ylim=(0, None))
    for axis in axes:
        for third in (1, 2):
            axis.axvline(at[-1] * third / 3, color="0.85", zorder=0)
        axis.legend(loc="lower right")
    figure.savefig(folder / "soak.svg", metadata={"Date": None})


def write(folder: Path, facts: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    (folder / "soak.json").write_text(json.dumps({"facts": facts, "samples": samples}, indent=1))
    crowd, ends = facts["crowd"], facts["failures"]
    thirds = [(name, *facts[f"{name} by thirds"]) for name in JUDGED if f"{name} by thirds" in facts]
    text = [
        f"# A soak of {facts['seconds'] / 60:g} minutes: " + ("failed" if ends else "good") + "\n",
        f"{facts['began']}, {machine()}{', with sanitizers' if facts['sanitized'] else ''}\n",
        f"    {facts['command']}\n",
        f"The well-behaved: {crowd.get('published', 0)} events published, {crowd.get('heard', 0)} heard, "
        f"{crowd.get('connects', 0)} connects, {crowd.get('resumed', 0)} of them resumed; "
        f"{crowd.get('revoked', 0)} times sent away, {crowd.get('resyncs', 0)} resyncs.\n",
    ]
    if ends:
        text.append(counts("Failures", ends))
        text += [f"- {kind}: `{one}`" for kind, some in facts["examples"].items() for one in some]
    text.append("\nMemory, medians of the thirds of the time, kB:\n")
    text.append(table(thirds, ("", "first", "middle", "last")))
    if samples:
        picture(folder, samples)
        text += ["\n![](soak.svg)\n", over_time(samples)]
    if "quiet" in facts:
        text.append(f"\nWith only the well-behaved left: RSS {facts['quiet']['Rss']} kB.\n")
    if "idle" in facts:
        before, after = (sum(kinds.values()) for kinds in facts["descriptors"].values())
        text.append(
            f"With nobody left: {after} descriptors, {before} at the beginning; {abs(facts['idle'])} s of CPU in 2 s.\n"
        )
    text += [
        counts("The abusers", facts["abuse"]),
        counts("How streams ended, in the log", facts["ends"]),
        counts("Refusals in the log (at most 200 a second)", facts["refused"]),
        counts("The well-behaved", crowd),
        counts("Django", facts["django"]),
        counts("The log", facts["log"]["messages"]),
    ]
    (folder / "report.md").write_text("\n".join(text))
