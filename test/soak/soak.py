#!/usr/bin/env python3
"""A soak of the real server: it is abused in all ways there are, all the time, and the well-behaved notice nothing.

Here is what starts and ends it all, what looks at the server from outside, and what says whether it is good. crowd.py
has the well-behaved, abuse.py the others, fake_django.py whom the server asks about tokens. See test/soak/run.

The load has one core, and nobody else's: the well-behaved before the abusers. Everything ends with this program.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import statistics
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil

import report
import stage as st
from fake_django import FakeDjango
from stage import Failures, Stage

HERE = Path(__file__).resolve().parent
CORPUS = HERE.parent / "fuzz" / "corpus"

LINE = re.compile(
    r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z app=SSE level=(error|warning|info) msg=(\w+)"
    r'((?: \w+=(?:[^ "=\\]+|"(?:[^"\\]|\\.)*"))*)'
)
WORD = re.compile(r' (\w+)=([^ "]+|"(?:[^"\\]|\\.)*")')

# What the server must have said of each kind of abuse.
MUST_SAY = {
    "refused": {
        "head_timeout", "unknown_token|denied_token", "ticket_signature", "ticket_expired", "ticket_audience",
        "too_many_requests", "too_many_from_address", "too_many_streams", "too_many_roles", "body_not_allowed",
        "bad_line_end", "bad_request_line", "auth_failed",
    },
    "disconnect": {"slow", "stalled", "chatter", "revoked", "gone", "reset"},
}  # fmt: skip
MUST_HAPPEN = {
    "auth_failed",
    "bad_datagram",
    "repeated",
    "tokens_read",
    "tokens_not_read",
    "ticket_keys_read",
    "log_file_reopened",
}

# Memory may grow from one third of the time to the next by so much: see memory_is_flat.
GROWTH_PART, GROWTH_KB = 0.02, 1024

IDLE_S = 2.0


class Child:
    """crowd.py or abuse.py."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: Process | None = None
        self.now: dict[str, Any] = {"counts": {}, "failures": {}, "examples": {}}
        self.latencies: list[float] = []
        self.heard: Counter[str] = Counter()
        self.changed = asyncio.Condition()
        self.reader: asyncio.Task[None] | None = None

    async def start(self, *arguments: str) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(HERE / self.name),
            *arguments,
            stdin=PIPE,
            stdout=PIPE,
            limit=1 << 24,
            preexec_fn=die_with_parent,
        )
        self.reader = asyncio.create_task(self.read())

    async def read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            said = json.loads(line)
            if said["kind"] in ("now", "last"):
                self.now = said
                self.latencies += said.get("latencies", ())
            async with self.changed:
                self.heard[said["kind"]] += 1
                self.changed.notify_all()
        async with self.changed:
            self.heard["end"] += 1
            self.changed.notify_all()

    async def tell(self, command: str, answer: str) -> None:
        """Waits until it is done."""
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n".encode())
        await self.says(answer)

    async def says(self, what: str) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.heard[what] > 0 or self.heard["end"] > 0)
        if self.heard[what] == 0:
            raise RuntimeError(f"{self.name} is gone before it said {what}")

    async def last_words(self) -> None:
        assert self.process is not None
        assert self.reader is not None
        await self.process.wait()
        await self.reader


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Log:
    """What the server says: read as it is written, moved away now and then, and gone after that."""

    def __init__(self, stage: Stage, failures: Failures) -> None:
        self.stage, self.failures = stage, failures
        self.path = stage.path("log")
        self.file = self.path.open("rb")
        self.torn = b""
        self.bytes = self.lines = 0
        self.messages: Counter[str] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.ends: Counter[str] = Counter()  # of streams, by who had them, and the reason
        self.stayers = {one.name for one in st.people(stage) if one.stays}
        self.closing = False
        # Whoever may read the log must not get in with it. A ticket begins with its header, which is always the same.
        self.secrets = [stage.canary.encode(), st.ticket(stage, "x").split(".")[0].encode()]

    def read(self) -> None:
        while data := self.file.read(1 << 20):
            self.bytes += len(data)
            *lines, rest = (self.torn + data).split(b"\n")
            if any(secret in self.torn + data for secret in self.secrets):
                self.failures.add("a secret in the log", repr(next(x for x in lines if self.secrets[0] in x)[:300]))
            self.torn = rest
            for line in lines:
                self.line(line.decode())

    def line(self, line: str) -> None:
        found = LINE.fullmatch(line)
        if found is None:
            self.failures.add("a line of the log that is none", line[:200])
            return
        level, message, rest = found.groups()
        self.lines += 1
        self.messages[message] += 1
        words = dict(WORD.findall(rest)) if message != "event" else {}
        if "reason" in words:
            self.reasons[message, words["reason"]] += 1
        if level == "error" and message not in ("tokens_not_read", "auth_failed"):
            self.failures.add("an error in the log", line[:200])
        if message == "disconnect":
            self.ended(words["user"].strip('"'), words["reason"])

    def ended(self, user: str, reason: str) -> None:
        who = user.split("-", 1)[0] if user.startswith("good") else "-".join(user.split("-")[:2])
        self.ends[f"{who}: {reason}"] += 1
        if user in self.stayers and not self.closing:
            self.failures.add("the server ended a stream of one who stays", f"{user} {reason}")
        if who == "good" and reason not in ("gone", "reset", "revoked"):
            self.failures.add("the server ended a stream of the well-behaved", f"{user} {reason}")
        if (
            who in ("abuse-deaf", "abuse-busy", "abuse-trickle")
            and reason not in ("slow", "stalled")
            and not self.closing
        ):
            self.failures.add("one who does not read ended in another way", f"{user} {reason}")

    async def wait(self, message: str, count: int, why: str) -> None:
        """Until the server said it so many times."""
        await until(lambda: self.seen(message) >= count, f"the log says {message}: {why}", self.failures)

    def seen(self, message: str) -> int:
        self.read()
        return self.messages[message]

    async def rotate(self, reopen: Callable[[], None]) -> None:
        count = self.messages["log_file_reopened"]
        moved = self.path.with_suffix(".1")
        self.path.rename(moved)
        reopen()
        await until(self.path.exists, "the log is opened anew", self.failures)
        self.read()  # it writes what it had into the old one first ...
        self.file.close()
        if self.torn:
            self.failures.add("a torn line in the log that was moved away", repr(self.torn[:200]))
        self.torn = b""
        moved.unlink()
        self.file = self.path.open("rb")
        await self.wait("log_file_reopened", count + 1, "after USR1")


async def until(done: Callable[[], bool], what: str, failures: Failures) -> bool:
    give_up = time.monotonic() + st.NEVER_S
    while not done():
        if time.monotonic() > give_up:
            failures.add("never", what)
            return False
        await asyncio.sleep(0.05)
    return True


class Soak:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.seconds = options.minutes * 60.0
        self.every = min(10.0, self.seconds / 30)
        self.directory = options.out / "run"
        shutil.rmtree(self.directory, ignore_errors=True)
        (self.directory / "journal").mkdir(parents=True)
        self.random = random.Random(options.seed)
        self.failures = Failures()
        self.samples: list[dict[str, Any]] = []
        self.crowd, self.abuse = Child("crowd.py"), Child("abuse.py")
        self.stage = Stage(str(self.directory), 0, f"canary{secrets.token_hex(8)}", self.seconds, options.seed)
        self.ticket_keys = [self.ticket_key() for _ in range(3)]
        self.began = time.monotonic()
        self.sanitized = b"__asan_init" in options.sse.read_bytes()
        self.facts: dict[str, Any] = {"began": time.strftime("%Y-%m-%d %H:%M:%S"), "sanitized": self.sanitized}

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    # ---- the server

    def ticket_key(self) -> str:
        return f"{self.stage.canary}{secrets.token_hex(16)}"

    def write(self, name: str, text: str) -> None:
        """At once, as far as others can see."""
        new = self.stage.path(f"{name}.new")
        new.write_text(text)
        new.rename(self.stage.path(name))

    def command(self, django_port: int) -> list[str]:
        path = self.stage.path
        return [
            str(self.options.sse), "--listen", "127.0.0.1:0", "--listen", f"unix:{self.stage.http_socket}",
            "--socket", self.stage.socket, "--log-file", str(path("log")),
            "--token-file", str(path("tokens")), "--ticket-key-file", str(path("ticket-keys")),
            "--auth-url", f"http://127.0.0.1:{django_port}/api/v1/sse/auth/", "--auth-key-file", str(path("auth-key")),
            "--auth-timeout", "500ms", "--auth-refresh", "5s",
            "--journal", str(path("journal")), "--history-bytes", str(st.HISTORY), "--queue", str(st.QUEUE),
            "--trusted-proxy", "127.0.0.1", "--trusted-proxy", "unix",
            "--connections-per-address", str(st.PER_ADDRESS), "--requests-per-address", str(st.PER_ADDRESS),
            "--head-timeout", "5s", "--idle-timeout", "5s", "--write-stall", "3s", "--keepalive", "3s",
            "--retry", "500ms", "--retry-jitter", "500ms",
        ]  # fmt: skip

    async def start(self) -> None:
        django_port = free_port()
        self.write("tokens", st.token_lines(self.stage))
        self.write("ticket-keys", "\n".join(self.ticket_keys) + "\n")
        self.write("auth-key", f"key-{self.stage.canary}\n")
        command = self.command(django_port)
        self.facts["command"] = (
            " ".join(command).replace(str(self.directory), "DIR").replace(str(self.options.sse), "sse")
        )
        self.stderr = self.stage.path("stderr").open("wb")
        self.sse = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stderr=self.stderr, preexec_fn=die_with_parent
        )
        # Only now: the load has one core, the server any.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        await until(lambda: self.stage.path("log").exists() or self.sse.returncode is not None, "a log", self.failures)
        self.log = Log(self.stage, self.failures)
        await until(lambda: self.log.seen("ready") > 0 or self.sse.returncode is not None, "ready", self.failures)
        if self.sse.returncode is not None:
            raise RuntimeError(f"sse did not start: {self.stage.path('stderr').read_text()}")
        self.process = psutil.Process(self.sse.pid)
        port = int(re.findall(r"address=127\.0\.0\.1:(\d+)", self.stage.path("log").read_text())[0])
        self.stage = Stage(self.stage.directory, port, self.stage.canary, self.seconds, self.stage.seed)
        self.django = FakeDjango(self.stage, django_port, self.failures)
        await self.django.start()

    def descriptors(self) -> Counter[str]:
        """By what they are."""
        found: Counter[str] = Counter()
        for fd in Path(f"/proc/{self.sse.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                name = str(fd.readlink())
                found[re.sub(r":\[\d+\]$", "", re.sub(r"/\d+\.sse$", "/segment", name))] += 1
        return found

    # ---- what is looked at

    async def sample(self) -> dict[str, Any]:
        smaps = Path(f"/proc/{self.sse.pid}/smaps_rollup").read_text()
        memory = {name: int(re.search(rf"^{name}: +(\d+) kB$", smaps, re.MULTILINE)[1]) for name in MEMORY}  # type: ignore[index]
        times = self.process.cpu_times()
        operator = st.strangers(self.stage)["operator"][0]
        headers = {"X-Forwarded-For": "10.7.7.7", "Authorization": f"Token {operator.token}"}
        async with self.http.get(f"http://127.0.0.1:{self.stage.port}{st.STATS}", headers=headers) as answer:
            stats = await answer.json()
        latencies = sorted(self.crowd.latencies)
        self.crowd.latencies.clear()
        return {
            "at": round(time.monotonic() - self.began, 1),
            **memory,
            "descriptors": len(list(Path(f"/proc/{self.sse.pid}/fd").iterdir())),
            "threads": self.process.num_threads(),
            "cpu_s": round(times.user + times.system, 2),
            "streams": stats["total_connections"],
            "users": stats["total_users"],
            "load_cpu_s": round(self.load_cpu(), 2),
            "load_late_ms": max(self.crowd.now.get("late_ms", 0), self.abuse.now.get("late_ms", 0)),
            "log_bytes": self.log.bytes,
            "journal_bytes": sum(file.stat().st_size for file in self.stage.path("journal").iterdir()),
            "heard": self.crowd.now["counts"].get("heard", 0),
            "published": self.crowd.now["counts"].get("published", 0),
            "abuse": sum(count for what, count in self.abuse.now["counts"].items() if ": answered " not in what),
            "latency_p50_ms": round(statistics.median(latencies), 1) if latencies else 0,
            "latency_p99_ms": latencies[len(latencies) * 99 // 100] if latencies else 0,
            "latency_max_ms": latencies[-1] if latencies else 0,
            "failures": self.failure_count(),
        }

    def load_cpu(self) -> float:
        """Of this process and its children, but not of the server."""
        found = 0.0
        for process in (psutil.Process(), *psutil.Process().children()):
            if process.pid != self.sse.pid:
                times = process.cpu_times()
                found += times.user + times.system
        return found

    async def sampling(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            now = await self.sample()
            self.samples.append(now)
            self.say(
                f"rss {now['Rss']:6} kB  private dirty {now['Private_Dirty']:6}  fds {now['descriptors']:4}  "
                f"threads {now['threads']}  cpu {now['cpu_s']:7.1f} s  streams {now['streams']:3}  "
                f"heard {now['heard']:8}  abuse {now['abuse']:7}  p99 {now['latency_p99_ms']:6.1f} ms  "
                f"load: late {now['load_late_ms']:4} ms, cpu {now['load_cpu_s']:7.1f} s  "
                f"failures {now['failures']}"
            )
            due += self.every
            await asyncio.sleep(max(0, due - loop.time()))

    def failure_count(self) -> int:
        parts = (self.failures.counts, self.crowd.now["failures"], self.abuse.now["failures"])
        return sum(sum(part.values()) for part in parts)

    async def reading(self) -> None:
        """The log, all the time."""
        while True:
            self.log.read()
            await asyncio.sleep(0.5)

    # ---- what the operator does

    async def operating(self) -> None:
        """HUP after a change of the files, one with a mistake too; and the log is moved away."""
        pause = min(7.0, self.seconds / 30)
        while True:
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * pause)
            what = self.random.randint(0, 3)
            if what == 0:
                await self.log.rotate(lambda: self.sse.send_signal(signal.SIGUSR1))
            elif what == 1:
                await self.hup("tokens", st.token_lines(self.stage) + "a-token-without-a-user\n", "tokens_not_read")
            elif what == 2:
                more = "".join(f"{self.stage.canary}-{self.random.getrandbits(64)} abuse-new-{n}\n" for n in range(500))
                await self.hup("tokens", st.token_lines(self.stage) + more, "tokens_read")
            else:
                self.ticket_keys = [self.ticket_key(), *self.ticket_keys[:2]]
                await self.hup("ticket-keys", "\n".join(self.ticket_keys) + "\n", "ticket_keys_read")

    async def hup(self, name: str, text: str, message: str) -> None:
        count = self.log.seen(message)
        self.write(name, text)
        self.sse.send_signal(signal.SIGHUP)
        await self.log.wait(message, count + 1, "after HUP")

    # ---- from the beginning to the end

    async def run(self) -> None:
        await self.start()
        base = self.descriptors()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as self.http:
            work = asyncio.create_task(self.acts(base))
            gone = asyncio.create_task(self.sse.wait())
            await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
            if work.done() and work.exception():  # perhaps because there is no server any more
                await asyncio.wait([gone], timeout=3)
            if gone.done():
                self.failures.add("sse is gone", f"exit status {self.sse.returncode}")
                work.cancel()
                await asyncio.wait([work])
            else:
                await work
        await self.end()

    async def acts(self, base: Counter[str]) -> None:
        stage = str(self.stage.save())
        reading = asyncio.create_task(self.reading())
        await self.crowd.start(stage)
        await self.abuse.start(stage, str(CORPUS))
        await self.crowd.says("connected")
        self.say(f"{st.STAYERS + st.CHURNERS} well-behaved streams are there")
        await self.abuse.tell("fill", "filled")
        await self.log.rotate(lambda: self.sse.send_signal(signal.SIGUSR1))
        self.say("what the server remembers for a while is full")
        self.began = time.monotonic()
        moods = asyncio.create_task(self.django.moods(min(4.0, self.seconds / 30)))
        operating = asyncio.create_task(self.operating())
        sampling = asyncio.create_task(self.sampling())
        await self.crowd.tell("publish", "now")
        await self.abuse.tell("start", "now")
        tasks = [moods, operating, sampling]
        try:
            done, _ = await asyncio.wait(tasks, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # a mistake in this file, or there is no server any more
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self.quiet(base)
        reading.cancel()

    async def quiet(self, base: Counter[str]) -> None:
        """The abusers go; the well-behaved get the rest; nobody else may be left."""
        self.log.closing = True
        if self.abuse.heard["end"]:
            self.failures.add("abuse.py was gone before the end")
        await self.abuse.tell("stop", "end")
        await self.django.recover()
        self.say("the abusers are gone")
        await self.crowd.tell("finish", "finished")
        self.say("the well-behaved have all that is theirs")
        await self.django.stop()
        await self.descriptors_are(base + Counter({"socket": st.STAYERS + st.CHURNERS}), "beside the well-behaved")
        self.facts["quiet"] = await self.sample()
        await self.crowd.tell("close", "closed")
        await self.descriptors_are(base, "when all are gone")
        await self.rests()
        self.facts["descriptors"] = {"at the beginning": dict(base), "at the end": dict(self.descriptors())}
        self.say("all are gone")

    async def descriptors_are(self, wanted: Counter[str], when: str) -> None:
        if not await until(lambda: self.descriptors() == wanted, f"only these descriptors {when}", self.failures):
            now = self.descriptors()
            self.failures.add(f"descriptors {when}", f"too many: {dict(now - wanted)}, missing: {dict(wanted - now)}")

    async def rests(self) -> None:
        """Without anybody there, it does nothing at all. A loop that spins would take all of the time."""
        before = self.process.cpu_times()
        await asyncio.sleep(IDLE_S)
        now = self.process.cpu_times()
        self.facts["idle"] = round(now.user + now.system - before.user - before.system, 2)
        if self.facts["idle"] > IDLE_S / 10:
            self.failures.add("it does not rest", f"{self.facts['idle']} s of CPU in {IDLE_S} s")

    async def end(self) -> None:
        if self.sse.returncode is None:
            self.sse.send_signal(signal.SIGTERM)
        if await self.sse.wait() != 0 and "sse is gone" not in self.failures.counts:
            self.failures.add("exit status of sse", str(self.sse.returncode))
        self.stderr.close()
        for child in (self.crowd, self.abuse):
            if child.process is not None and child.process.returncode is None:
                child.process.kill()
            if child.process is not None:
                await child.last_words()
        self.log.read()
        words = self.stage.path("stderr").read_text(errors="replace")
        if words:
            self.failures.add("sse said something on stderr", words[:4000])
        for file in [*self.stage.path("journal").iterdir(), self.stage.path("stderr")]:
            if self.stage.canary.encode() in file.read_bytes():
                self.failures.add("a secret in a file", str(file))
        self.judge()

    # ---- what it showed

    def judge(self) -> None:
        for message, reasons in MUST_SAY.items():
            for reason in reasons:
                if not any(self.log.reasons[message, one] for one in reason.split("|")):
                    self.failures.add("an abuse that the server never spoke of", f"{message} {reason}")
        for message in MUST_HAPPEN:
            if self.log.messages[message] == 0:
                self.failures.add("what the log never had", message)
        for name in report.JUDGED:
            self.memory_is_flat(name)
        if (most := max((now["journal_bytes"] for now in self.samples), default=0)) > 3 * st.HISTORY:
            self.failures.add("the journal takes more than twice the history", str(most))

    def memory_is_flat(self, name: str) -> None:
        """
        The median of the last third of the time against that of the middle third; the first is for warming up.

        Whatever the server keeps has a limit, and is full before the clock starts (Abuse.fill). What then still moves
        is how many connections there happen to be at once, and holds on the heap for what a socket did not take;
        both go up and down with the turns of the abusers, of which each third has two or more, and a median
        of a third does not see the peaks. What is left is steps of pages touched for the first time: a few hundred kB.
        A leak does not stop: there are 250 connections a second even on a busy machine, so in the 10 minutes of a third
        of half an hour 13 bytes of each are more than what is allowed here, and malloc gives none that is smaller.
        """
        third = len(self.samples) // 3
        if third == 0:
            return
        middle, last = (
            statistics.median(now[name] for now in part)
            for part in (self.samples[third : 2 * third], self.samples[2 * third :])
        )
        self.facts[f"{name} by thirds"] = [statistics.median(now[name] for now in self.samples[:third]), middle, last]
        if self.sanitized:
            return  # its allocator keeps what was freed for a while; what leaks it says at the end
        if last > middle * (1 + GROWTH_PART) + GROWTH_KB:
            self.failures.add("memory grows", f"{name}: {middle} kB in the middle third, {last} kB in the last")

    def all_failures(self) -> tuple[Counter[str], dict[str, list[str]]]:
        counts, examples = Counter(self.failures.counts), dict(self.failures.examples)
        for child in (self.crowd, self.abuse):
            counts.update(child.now["failures"])
            for kind, some in child.now["examples"].items():
                examples[kind] = examples.get(kind, []) + some
        return counts, examples


MEMORY = ("Rss", "Pss", "Private_Dirty")


def free_port() -> int:
    """Below those that the kernel gives to clients, so that Django finds it free again."""
    while True:
        port = random.randint(20000, 32000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


def main() -> None:
    parser = argparse.ArgumentParser(description="A soak of sse under abuse.")
    parser.add_argument("--sse", type=Path, required=True, help="the binary")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path, required=True, help="where the report goes")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.minutes < 1:
        parser.error("--minutes: in less than one not all of the abuses come about")
    options.sse, options.out = options.sse.resolve(), options.out.resolve()
    soak = Soak(options)
    asyncio.run(soak.run())
    counts, examples = soak.all_failures()
    soak.facts |= {
        "seconds": soak.seconds,
        "every": soak.every,
        "crowd": soak.crowd.now["counts"],
        "abuse": soak.abuse.now["counts"],
        "django": dict(soak.django.counts),
        "log": {"lines": soak.log.lines, "bytes": soak.log.bytes, "messages": dict(soak.log.messages)},
        "ends": dict(soak.log.ends),
        "refused": {reason: n for (message, reason), n in soak.log.reasons.items() if message == "refused"},
        "auth_failed": {reason: n for (message, reason), n in soak.log.reasons.items() if message == "auth_failed"},
        "failures": dict(counts),
        "examples": examples,
    }
    report.write(options.out, soak.facts, soak.samples)
    for kind, count in counts.items():
        print(f"FAILED: {kind}, {count} times: {'; '.join(examples.get(kind, [])[:2])[:1000]}", file=sys.stderr)
    print("the soak failed" if counts else "the well-behaved noticed nothing", f"({options.out}/report.md)", flush=True)
    sys.exit(1 if counts else 0)


if __name__ == "__main__":
    main()
