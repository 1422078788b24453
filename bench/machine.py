"""The machine under the bench: a network of its own, two cores, silence, and what it is."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SERVER_CORE, CLIENT_CORE = 0, 1
PRIORITY = -20  # of the bench and all that it starts: others on this machine shall disturb it little
DATAGRAM_QUEUE = Path("/proc/sys/net/unix/max_dgram_qlen")
AUTOGROUP = Path("/proc/self/autogroup")
SETTINGS = {DATAGRAM_QUEUE: "512", Path("/proc/sys/net/ipv4/ip_local_port_range"): "1024 65535"}
SILENT_CORES = 0.08
PR_SET_PDEATHSIG = 1
TICKS_S = os.sysconf("SC_CLK_TCK")
libc = ctypes.CDLL(None, use_errno=True)


def enter_namespace() -> None:
    """Starts this program again in a network namespace of its own, where that is allowed."""
    inside = os.environ.get("BENCH_NAMESPACE")
    if inside is None:
        allowed = os.geteuid() == 0 and subprocess.run(["unshare", "-n", "true"], check=False).returncode == 0
        os.environ["BENCH_NAMESPACE"] = "1" if allowed else "0"
        command = [sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]]
        os.execvp("unshare" if allowed else command[0], ["unshare", "-n", *command] if allowed else command)
    go_first()
    if inside == "1":
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for path, value in SETTINGS.items():
            with contextlib.suppress(OSError):
                path.write_text(value)


def go_first() -> None:
    """Raises the priority of this session, where that is allowed; it is taken back at the end."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
        AUTOGROUP.write_text(str(PRIORITY))  # niceness counts only within the session, if there are groups of them
        atexit.register(AUTOGROUP.write_text, "0")


def child_setup(core: int) -> None:
    """Runs in a child before its exec: it keeps to one core, may open many files, and ends with its parent."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def spawn(argv: list[str], core: int, **options: object) -> subprocess.Popen[str]:
    setup = functools.partial(child_setup, core)  # there are no threads here, so that preexec_fn is safe
    return subprocess.Popen(argv, preexec_fn=setup, text=True, **options)  # type: ignore  # noqa: PLW1509


def children_of(pid: int) -> list[int]:
    """All processes below pid, nearest first."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                found += [int(child), *children_of(int(child))]
    return found


def started(pid: int) -> str:
    """When a process began, in ticks: with its pid, that names it for good. Empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    return ""


def busy_s() -> float:
    """CPU seconds that all cores have spent on anything."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / TICKS_S


def cpu_s(pids: list[int]) -> float:
    """CPU seconds that these processes have spent."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))
    return total / TICKS_S


@dataclass
class Patience:
    """How long the bench is willing to wait for others on this machine, each time and in all."""

    each_s: float
    left_s: float

    def wait_for_silence(self) -> bool:
        """Waits until the machine does next to nothing for half a second. False if it did not become silent."""
        deadline = time.monotonic() + min(self.each_s, self.left_s)
        while True:
            before, began = busy_s(), time.monotonic()
            time.sleep(0.5)
            elapsed = time.monotonic() - began
            if (busy_s() - before) / elapsed < SILENT_CORES:
                return True
            self.left_s = max(0.0, self.left_s - elapsed)
            if time.monotonic() > deadline:
                return False


def first_line(*argv: str) -> str:
    """The first line that a command prints, or '-' where there is none."""
    if shutil.which(argv[0]) is None:
        return "-"
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else "-"


def package(name: str) -> str:
    return first_line("dpkg-query", "-W", "-f", "${Version}", name)


def value_of(path: str, pattern: str) -> str:
    found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    return found.group(1).strip() if found else "-"


def setting(path: str) -> str:
    with contextlib.suppress(OSError):
        return " ".join(Path(path).read_text().split())
    return "-"


def facts() -> dict[str, str]:
    """What the figures depend on."""
    memory = int(value_of("/proc/meminfo", r"^MemTotal:\s*(\d+)")) / 2**20
    own = os.environ.get("BENCH_NAMESPACE") == "1"
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": first_line("git", "describe", "--always", "--dirty", "--abbrev=12"),
        "processor": f"{value_of('/proc/cpuinfo', r'^model name.*: (.*)')}, {os.cpu_count()} cores, {memory:.0f} GiB",
        "system": f"{value_of('/etc/os-release', r'^PRETTY_NAME=.(.*).$')}, Linux {platform.release()}",
        "network": "loopback in a network namespace of its own" if own else "loopback of the machine",
        "net.unix.max_dgram_qlen": setting(str(DATAGRAM_QUEUE)),
        "net.ipv4.tcp_congestion_control": setting("/proc/sys/net/ipv4/tcp_congestion_control"),
        "descriptors a process": str(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        "cores": f"servers on core {SERVER_CORE}, load and wrk on core {CLIENT_CORE}, "
                 f"all at nice {os.getpriority(os.PRIO_PROCESS, 0)}",
    }


def versions(python: Path, node_modules: Path) -> dict[str, str]:
    """Everything that is measured, or measures."""
    found = {
        "sse": first_line("./sse", "--version").removeprefix("sse "),
        "gcc": first_line("gcc", "-dumpfullversion"),
        "nginx": first_line("nginx", "-v").rsplit("/", 1)[-1],
        "Nchan": package("libnginx-mod-nchan"),
        "wrk": package("wrk"),
        "valgrind": package("valgrind"),
        "gnuplot": package("gnuplot-nox"),
        "node": first_line("node", "--version"),
        "better-sse": value_of(str(node_modules / "better-sse/package.json"), r'"version": "([^"]*)"'),
        "Python": first_line(str(python), "--version").removeprefix("Python "),
    }
    freeze = subprocess.run([str(python), "-m", "pip", "freeze"], capture_output=True, text=True, check=False).stdout
    wanted = {line.split("==")[0].lower() for line in Path("bench/requirements.txt").read_text().splitlines() if "==" in line}
    for line in freeze.splitlines():
        name, _, version = line.partition("==")
        if name.lower() in wanted:
            found[name] = version
    return found
