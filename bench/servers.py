"""The servers that are measured: how each is started at its best settings, and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import string
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import machine

BUILD = Path("build/bench")
PYTHON = BUILD / "venv/bin/python"
NODE_MODULES = BUILD / "node/node_modules"
PEERS = Path("bench/peers")
PREFIX = "/api/v1/sse"
START_S = 20
USERS, USERS_APART = 1000, 19000


@dataclass(frozen=True)
class Kind:
    """A server that can be measured. In argv {port}, {dir}, {tokens} and {journal} are filled in."""

    title: str
    argv: tuple[str, ...]
    events: str = "/events/?token=%s"
    publish: str = "http://127.0.0.1:{port}/publish/"
    raw_body: bool = False
    ready: str = "event"
    workers: bool = False  # the process that is started starts those that serve


SSE = (str(BUILD / "sse"), "--token-file", "{tokens}", "--listen", "127.0.0.1:{port}", "--socket", "{dir}/events.sock",
       "--log-file", "{dir}/sse.log")
JOURNAL = ("--journal", "{journal}", "--journal-sync")
ANSWER = BUILD / "answer"  # what floor-file sends: a replay of sse, kept by build/replay
FLOOR = ("build/floor", "--listen", "{port}", "--socket", "{dir}/events.sock", "--mode")
DATAGRAMS = "unix:{dir}/events.sock"
UVICORN = ("-m", "uvicorn", "--app-dir", str(PEERS), "--port", "{port}", "--backlog", "4096", "--loop", "uvloop",
           "--http", "httptools", "--no-access-log", "--log-level", "warning")
GUNICORN = ("-m", "gunicorn", "--chdir", str(PEERS), "--bind", "127.0.0.1:{port}", "--backlog", "2048", "--workers", "1",
            "--worker-class", "gthread", "--threads", "1008", "--worker-connections", "4096", "--timeout", "600",
            "--graceful-timeout", "1", "--log-level", "warning")

KINDS = {
    "sse": Kind("sse", SSE, PREFIX + "/events/?token=%s", DATAGRAMS),
    "sse-apart": Kind("sse", SSE, PREFIX + "/events/?token=%s", DATAGRAMS),
    "sse-roles": Kind("sse", SSE, PREFIX + "/events/?token=%s", DATAGRAMS),
    **{f"sse-{sync}": Kind(f"sse --journal, {sync}", (*SSE, *JOURNAL, sync), PREFIX + "/events/?token=%s", DATAGRAMS)
       for sync in ("none", "batch", "always")},
    "floor-each": Kind("floor, a send an event", (*FLOOR, "each"), publish=DATAGRAMS, raw_body=True),
    "floor-batch": Kind("floor, batched", (*FLOOR, "batch"), publish=DATAGRAMS, raw_body=True),
    "floor-one": Kind("floor, one recv and one send", (*FLOOR, "one"), publish=DATAGRAMS, raw_body=True),
    "floor-file": Kind("plain socket", (*FLOOR, "file", "--file", str(ANSWER)), PREFIX + "/events/?token=%s", DATAGRAMS),
    "nchan": Kind("Nchan", ("nginx", "-p", "{dir}", "-c", "{dir}/nginx.conf"), raw_body=True, ready="head",
                  workers=True),
    "django": Kind("Django, a thread a stream (gunicorn)", (str(PYTHON), *GUNICORN, "django_threads:application"), workers=True),
    "channels": Kind("Daphne, channels", (str(PYTHON), "-m", "daphne", "-b", "127.0.0.1", "-p", "{port}", "-v", "0",
                                          "--http-timeout", "3600", "channels_app:application")),
    "starlette": Kind("uvicorn, sse-starlette", (str(PYTHON), *UVICORN, "starlette_app:app")),
    "tornado": Kind("Tornado", (str(PYTHON), str(PEERS / "tornado_app.py"), "{port}")),
    "better-sse": Kind("Node, better-sse", ("node", str(PEERS / "better_sse.mjs"), "{port}")),
}


@dataclass
class Server:
    """One that runs."""

    kind: Kind
    port: int
    dir: Path
    tokens: Path
    process: subprocess.Popen[str]
    pids: list[int] = field(default_factory=list)

    def text(self, template: str) -> str:
        return template.format(port=self.port, dir=self.dir, tokens=self.tokens)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


def sse_copy() -> None:
    """What is measured stays the same when somebody builds sse meanwhile."""
    shutil.copy2("sse", BUILD / "sse")


def tokens_text(users: range, role: str = "manager") -> str:
    return "".join(f"bench-token-of-user-{i:05}-0123456789abcdef {i} {role}\n" for i in users)


def token_files() -> None:
    """Few users with many streams each; many with one; one or two of them; and those of two roles, apart and together."""
    live, back = tokens_text(range(USERS), "live"), tokens_text(range(USERS, 2 * USERS), "back")
    texts = {"tokens": tokens_text(range(USERS)), "tokens-apart": tokens_text(range(USERS_APART)),
             "tokens-1": tokens_text(range(1)), "tokens-2": tokens_text(range(2)),
             "tokens-live": live, "tokens-back": back, "tokens-roles": live + back}
    for name, text in texts.items():
        (BUILD / name).write_text(text)


def tokens_of(name: str) -> Path:
    return BUILD / {"sse-apart": "tokens-apart", "floor-one": "tokens-apart", "sse-roles": "tokens-roles"}.get(name, "tokens")


def first_token() -> str:
    return tokens_of("sse").read_text().split(None, 1)[0]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def accepts(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def wait_until_up(kind: Kind, process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + START_S
    while not accepts(port) or (kind.workers and not machine.children_of(process.pid)):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} does not start (status {process.returncode})")
        time.sleep(0.02)


def nginx_text(body: str) -> str:
    """A string of nginx's configuration language, without its quotes."""
    return body.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")


def nginx_configure(directory: Path, port: int, bodies: dict[str, str]) -> None:
    template = string.Template((PEERS / "nginx.conf").read_text())
    filled = {name: nginx_text(bodies.get(name, "")) for name in ("stats", "missing", "denied")}
    (directory / "nginx.conf").write_text(template.substitute(filled, port=port, dir=directory))


def stop(process: subprocess.Popen[str]) -> None:
    """Ends a server and everything it has started, by their ids."""
    below = [(pid, machine.started(pid)) for pid in machine.children_of(process.pid)]
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(3)
    if process.poll() is None:
        process.kill()
    for pid, began in below:
        if began and machine.started(pid) == began:
            os.kill(pid, signal.SIGKILL)
    process.wait(5)


@contextlib.contextmanager
def running(name: str, *, wrapper: tuple[str, ...] = (), bodies: dict[str, str] | None = None) -> Iterator[Server]:
    """A server for the time of a with statement."""
    kind, port = KINDS[name], free_port()
    directory, journal = Path(tempfile.mkdtemp(prefix="bench-")), Path(tempfile.mkdtemp(prefix="journal-", dir=BUILD))
    nginx_configure(directory, port, bodies or {})
    filled = {"port": port, "dir": directory, "tokens": tokens_of(name), "journal": journal}
    argv = [*wrapper, *(part.format(**filled) for part in kind.argv)]
    environment = {**os.environ, "PYTHONPATH": str(PEERS.resolve()), "PYTHONDONTWRITEBYTECODE": "1"}
    with (directory / "output").open("w") as output:
        process = machine.spawn(argv, machine.SERVER_CORE, stdout=output, stderr=output, env=environment)
    try:
        wait_until_up(kind, process, port)
        yield Server(kind, port, directory, tokens_of(name), process, [process.pid, *machine.children_of(process.pid)])
    except RuntimeError as e:
        raise RuntimeError(f"{e}: {(directory / 'output').read_text()[-2000:]}") from None
    finally:
        stop(process)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(journal, ignore_errors=True)


def file_system(path: Path) -> str:
    """What a directory is on, as the system names it."""
    mounts = [line.split()[:3] for line in Path("/proc/mounts").read_text().splitlines()]
    device, point, kind = max((m for m in mounts if path.resolve().is_relative_to(m[1])), key=lambda m: len(m[1]))
    return f"{kind} on {device}, mounted at {point}"


def answer(server: Server, path: str, token: str | None = None) -> str:
    """The body that a server answers with, whatever the status."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://{server.address}{path}", headers=headers)) as r:
            return str(r.read().decode())
    except urllib.error.HTTPError as e:
        return e.read().decode()
