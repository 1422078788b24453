"""The stage: an sse with an operator's listener, started as a service manager would, and what asks it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from harness import EVENTS, LIMIT, Sse, secret, wait_for

if TYPE_CHECKING:
    from typing import Self

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
PROMTOOL = TOP / "build" / "promtool"

# Who may listen: token, user, roles. The names are canaries: they must not stand in any metric.
ANNA, BORIS, CLARA = "canary-token-anna", "canary-token-boris", "canary-token-clara"
USERS = {ANNA: "canary-user-7", BORIS: "canary-user-8", CLARA: "canary-user-9"}
ROLE = "canary-role"
TICKET_KEY = "the-key-that-tickets-are-signed-with"
JOURNAL_ROOM = 64 << 10
NOBODY = 65534  # the ids of the user and the group

Samples = dict[str, float]
MakeServer = Callable[..., "Server"]


def binary() -> str:
    return os.environ["SSE_BIN"]


def sanitized() -> bool:
    """The sanitizers keep memory of their own, and there is no sandbox."""
    return b"__asan_init" in Path(binary()).read_bytes()


class Server(Sse):
    """An sse with --admin at a Unix socket; its sockets may be passed to it, and its variables set."""

    def __init__(
        self, directory: Path, *options: str, tokens: bool = True, env: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(directory, *options)
        self.admin_path = directory / "admin.sock"
        self.tokens = directory / "tokens"
        self.env = dict(env or {})
        self.passed: Sequence[Passed] = ()
        self.own_log = True  # --log-file; else what it says on stderr is read
        self.own_listen = True
        self.prlimits: dict[int, tuple[int, int]] = {}
        self.wrap: Sequence[str] = ()
        self.pipe: Pipe | None = None
        if tokens:
            self.tokens.write_text("".join(f"{secret(t)} {u} {ROLE}\n" for t, u in USERS.items()))
            self.options = ("--token-file", str(self.tokens), *self.options)

    @property
    def arguments(self) -> list[str]:
        mine = ["--admin", f"unix:{self.admin_path}"] if self.own_listen else []
        if self.own_log:
            mine += ["--log-file", str(self.log)]
        return [binary(), *mine, *self.options]

    def spawn_it(self, listen: str = "127.0.0.1:0") -> None:
        argv = self.arguments
        if self.own_listen:
            argv[1:1] = ["--listen", listen, "--socket", str(self.socket)]
        self.spawn_passing([*self.wrap, *argv], self.passed)

    def spawn_passing(self, argv: list[str], passed: Sequence[Passed]) -> None:
        """As a service manager does it: descriptors from 3 on, and LISTEN_PID of who has them."""
        env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1", **self.env}
        moves = ""
        high: list[int] = []
        for i, one in enumerate(passed):  # from above all that they may become
            high.append(fcntl.fcntl(one.fd, fcntl.F_DUPFD, 100))
            moves += f"exec {3 + i}<&{high[-1]} {high[-1]}<&-; "
        limits = "".join(
            f"ulimit -{'n' if which == resource.RLIMIT_NOFILE else 'f'} {soft}; "
            for which, (soft, _) in self.prlimits.items()
        )
        if passed:
            env |= {"LISTEN_FDS": str(len(passed)), "LISTEN_FDNAMES": ":".join(one.name for one in passed)}
            moves += "export LISTEN_PID=$$; "
        env |= {k: v for k, v in self.env.items() if k.startswith("LISTEN_")}
        if "LISTEN_PID" in self.env:
            moves = moves.replace("export LISTEN_PID=$$; ", "")
        if self.env.get("WATCHDOG_PID") == "$$":
            moves += "export WATCHDOG_PID=$$; "
        with self.words.open("ab") as words:
            self.popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", "bash", "-c", f'{limits}{moves}exec "$@"', "bash", *argv],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words if self.pipe is None else self.pipe.write_end,
                env=env,
                pass_fds=high,
            )
        for fd in high:
            os.close(fd)

    def start(self, listen: str = "127.0.0.1:0") -> Self:
        starts = self.logged("msg=ready")
        self.spawn_it(listen)
        self.wait_log("msg=ready", len(starts) + 1)
        ports = re.findall(r"msg=listening address=(?:127\.0\.0\.1|\[::1\]):(\d+)", "\n".join(self.logged()))
        self.port = int(ports[-1]) if ports else 0
        return self

    def start_on_pipe(self) -> Pipe:
        """Its log goes to a pipe, which is read when the test does so."""
        self.own_log = False
        self.pipe = pipe = Pipe()
        self.spawn_it()
        os.close(pipe.write_end)
        wait_for(lambda: "msg=ready" in pipe.read(), "it is ready")
        self.port = int(re.findall(r"address=127\.0\.0\.1:(\d+)", pipe.text)[0])
        return pipe

    def kill(self) -> None:
        super().kill()
        if self.pipe is not None:
            self.pipe.close()

    def logged(self, *words: str) -> list[str]:
        where = self.log if self.own_log else self.words
        lines = where.read_text(errors="replace").splitlines() if where.exists() else []
        return [line for line in lines if all(word in line for word in words)]

    def admin(self) -> httpx.Client:
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.admin_path), verify=False),  # there is no TLS, and that is slow
            base_url="http://admin",
            timeout=LIMIT,
        )

    def scraper(self) -> Scraper:
        return Scraper(self.admin())

    def samples(self) -> Samples:
        """Asked once, on a connection of its own."""
        with self.scraper() as scraper:
            return scraper.samples()

    def fails(self) -> str:
        """It must end by itself. Returns what it said on stderr."""
        self.spawn_it()
        wait_for(lambda: not self.runs or self.logged("msg=ready"), "it ends, or is ready")
        assert self.popen is not None
        assert not self.logged("msg=ready"), "it has started"
        return self.words.read_text()

    def end(self) -> int:
        self.signal(signal.SIGTERM)
        return self.wait()

    def raw(self, request: bytes) -> bytes:
        """Sends bytes as they are, and reads to the end."""
        with socket.create_connection(("127.0.0.1", self.port), LIMIT) as s:
            s.sendall(request)
            return read_all(s)

    def deaf(self, token: str = ANNA, receive: int = 4096) -> socket.socket:
        """A stream that has begun, and of which nothing more is read; little fits into its buffer."""
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        s.settimeout(LIMIT)
        s.connect(("127.0.0.1", self.port))
        s.sendall(stream_request(token))
        got = b""
        while b'"connected"' not in got:
            got += s.recv(4096)
        return s

    def loses_its_log(self) -> str:
        """Its file can't be opened again, for a directory in its place. Returns what it says on stderr; it goes on."""
        kept = self.log.rename(self.log.with_suffix(".1"))
        self.log.mkdir()
        self.signal(signal.SIGUSR1)
        wait_for(lambda: self.words.read_text().endswith("\n"), "it says so")
        said = self.words.read_text()
        self.words.write_text("")
        self.log.rmdir()
        kept.rename(self.log)
        return said

    def limit(self, which: int, soft: int) -> None:
        """Changes a limit of the running program; the hard one stays."""
        resource.prlimit(self.pid, which, (soft, resource.prlimit(self.pid, which)[1]))

    def close(self) -> None:
        """As Sse.close. What stderr has is the log, if it has no file."""
        if self.own_log:
            super().close()
            return
        if self.sender is not None:
            self.sender.close()
        if self.runs:
            self.signal(signal.SIGTERM)
        assert self.wait() == 0
        lines = self.logged()
        assert lines == self.logged(" app=SSE level=")


class Pipe:
    """The log's reader, which may stop to read: journald that hangs, a tool that is suspended."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.text = ""
        os.set_blocking(self.read_end, False)

    def read(self) -> str:
        """All that came, up to now."""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self.read_end, 1 << 20):
                self.text += part.decode()
        return self.text

    def close(self) -> None:
        if self.read_end >= 0:
            os.close(self.read_end)
        self.read_end = -1


class Passed:
    """A socket that a service manager opened, and its FileDescriptorName."""

    def __init__(self, what: socket.socket | int, name: str = "sse.socket") -> None:
        self.what = what
        self.name = name

    @property
    def fd(self) -> int:
        return self.what if isinstance(self.what, int) else self.what.fileno()


def datagram_socket(path: Path) -> socket.socket:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(str(path))
    return s


def unix_listener(path: Path) -> socket.socket:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind(str(path))
    s.listen(4096)
    return s


def tcp_listener(family: int = socket.AF_INET, host: str = "127.0.0.1") -> socket.socket:
    s = socket.socket(family, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, 0))
    s.listen(4096)
    return s


def stream_request(token: str, last_id: str = "", more: str = "") -> bytes:
    lines = f"GET {EVENTS}?token={token} HTTP/1.1\r\nHost: sse\r\n"
    if last_id:
        lines += f"Last-Event-ID: {last_id}\r\n"
    return f"{lines}{more}\r\n".encode()


def read_all(s: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := s.recv(65536):
            got += part
    return got


def reset(s: socket.socket) -> None:
    """Closes it so that the other side gets a reset."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


class Scraper:
    """Asks for /metrics again and again on one connection, so that asking moves nothing about connections."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def text(self) -> str:
        answer = self.client.get("/metrics")
        assert answer.status_code == 200, answer.text
        return answer.text

    def samples(self) -> Samples:
        return samples_of(self.text())


def sample_name(name: str, labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{k}="{v}"' for k, v in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name


def samples_of(text: str) -> Samples:
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample_name(sample.name, sample.labels)
            assert name not in samples, f"{name} is there twice"
            samples[name] = sample.value
    return samples


def family_of(sample: str) -> str:
    return sample.partition("{")[0]


# ---- Django ----


class Backend:
    """Answers sse's questions in Django's place, as each token wants it: bytes, or a function that makes them.

    None closes the connection without an answer; HANG leaves it open for ever.
    """

    HANG = b"hang"

    def __init__(self) -> None:
        self.answers: dict[str, bytes | Callable[[], bytes] | None] = {}
        self.asked: list[tuple[str, str]] = []  # token, phase
        self.socket = tcp_listener()
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/auth/"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def lets_in(self, token: str, user: str, **more: Any) -> str:
        self.answers[secret(token)] = allowed(user, **more)
        return token

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                s, _ = self.socket.accept()
                self._open.append(s)
                threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s: socket.socket) -> None:
        with contextlib.suppress(OSError), s:
            rest = b""
            while True:
                while b"\r\n\r\n" not in rest:
                    part = s.recv(65536)
                    if not part:
                        return
                    rest += part
                head, _, rest = rest.partition(b"\r\n\r\n")
                token = re.findall(rb"(?i)authorization: Token (\S+)", head)[0].decode()
                phase = re.findall(rb"(?i)x-sse-phase: (\S+)", head)[0].decode()
                self.asked.append((token, phase))
                answer = self.answers.get(token, status(401))
                if callable(answer):
                    answer = answer()
                if answer is None:
                    return
                if answer == self.HANG:
                    s.recv(1)
                    return
                s.sendall(answer)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for s in self._open:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)


def status(number: int, body: str = "{}", more: str = "") -> bytes:
    return f"HTTP/1.1 {number} -\r\n{more}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def allowed(user: str, roles: Sequence[str] = (), max_age: int = 0, **more: Any) -> bytes:
    body = json.dumps({"user": user, "roles": list(roles), **more})
    return status(200, body, f"Cache-Control: max-age={max_age}\r\n")


# ---- systemd ----


class Notified:
    """NOTIFY_SOCKET: what a service says to its manager, each datagram with the time it came at."""

    def __init__(self, address: str) -> None:
        self.address = address  # a path, or @name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(LIMIT)
        self.said: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def next(self) -> str:
        """The next datagram."""
        text = self.socket.recv(65536).decode()
        self.said.append(text)
        return text

    def until(self, word: str) -> str:
        """Waits for a datagram with this line (or what begins so), and returns the line."""
        give_up = time.monotonic() + LIMIT
        while time.monotonic() < give_up:
            for line in self.next().split("\n"):
                if line.startswith(word):
                    return line
        raise AssertionError(f"never: {word}")

    def pending(self) -> list[str]:
        """What has come by now."""
        got: list[str] = []
        self.socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                got.append(self.next())
        self.socket.settimeout(LIMIT)
        return got


def lines_of(said: Sequence[str]) -> Iterator[str]:
    for text in said:
        yield from text.split("\n")


def values(samples: Samples, family: str) -> Samples:
    """The samples of a family."""
    return {name: value for name, value in samples.items() if family_of(name) == family}


def wait_samples(scraper: Scraper, right: Callable[[Samples], bool], why: str) -> Samples:
    """Asks until it is so."""

    def look() -> Samples | None:
        samples = scraper.samples()
        return samples if right(samples) else None

    found = wait_for(look, why)
    assert found is not None
    return found
