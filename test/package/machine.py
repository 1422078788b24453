"""A machine with the package on it, as its operator, a Django and a browser use it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOCKET = "/run/sse/sse.sock"
END = -1
"""The number behind which a page need not wait for another."""


def sh(command: str, status: int | None = 0) -> str:
    """Run a line in a shell, and return what it prints; with any exit status if None is expected."""
    done = subprocess.run(
        command,
        shell=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        executable="/bin/bash",
    )
    assert status in {None, done.returncode}, f"{command}: exit status {done.returncode}\n{done.stdout}"
    return done.stdout


def show(unit: str, name: str) -> str:
    """Return a property of a unit."""
    return sh(f"systemctl show --value --property={name} {unit}").strip()


def log(unit: str = "sse.service") -> str:
    """Return all that the journal has of a unit, from systemd and from sse."""
    sh("journalctl --sync")
    return sh(f"journalctl --no-pager --output=cat --unit={unit}")


def wait(condition: Callable[[], object], why: str) -> None:
    """Wait until it is so. What never comes ends with the time of the whole machine: see boot."""
    while not condition():
        time.sleep(0.02)
        assert why


def sign(key: str, user: int, *roles: str) -> str:
    """Return a ticket, as Django makes it."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    now = time.time()
    claims = {"sub": str(user), "roles": roles, "aud": "sse", "iat": now, "exp": int(now) + 600}
    signed = f"{part(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(hmac.digest(key.encode(), signed.encode(), hashlib.sha256))}"


def ticket(key_file: str = "/etc/sse/ticket.key") -> str:
    """Return a ticket of a manager, signed with a key of the machine."""
    return sign(Path(key_file).read_text().split()[0], 7, "manager")


def send(number: int, path: str = SOCKET) -> None:
    """Say what happened, to all; wait while the socket is full."""
    event = {"event": "counted", "data": number, "to": "all"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as django:
        django.sendto(json.dumps(event).encode(), path)


class Django:
    """Sends numbers, from 0 up, 200 a second, until it is stopped."""

    def __init__(self) -> None:
        self.count = 0
        self.stopped = False
        self.error: OSError | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            while not self.stopped:
                send(self.count)
                self.count += 1
                time.sleep(0.005)
        except OSError as error:
            self.error = error

    def stop(self) -> int:
        """Return how many it has sent."""
        self.stopped = True
        self.thread.join()
        assert self.error is None, f"number {self.count} could not be sent: {self.error}"
        return self.count


def get(path: str, port: int, token: str = "") -> tuple[int, str]:
    """Ask the server on a port of loopback."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


class Page:
    """A browser's stream, which is opened again when it ends, from where it was."""

    def __init__(self, port: int = 8090, key_file: str = "/etc/sse/ticket.key", path: str = SOCKET) -> None:
        self.port = port
        self.path = path
        self.key_file = key_file
        self.last = ""
        self.came_back = 0
        self.events = self._events()
        assert next(self.events)["event"] == "connected"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.events.close()

    def _stream(self) -> Iterator[str]:
        """Yield the lines of one stream, until it ends."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            target = f"/api/v1/sse/events/?token={ticket(self.key_file)}"
            connection.request("GET", target + (f"&lastEventId={self.last}" if self.last else ""))
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            while line := answer.readline():
                yield line.decode().rstrip("\n")
        except (ConnectionError, http.client.HTTPException):
            pass
        finally:
            connection.close()

    def _events(self) -> Any:
        while True:
            data = None
            newest = self.last
            for line in self._stream():
                if line.startswith("id: "):
                    newest = line[4:]
                elif line.startswith("data: "):
                    data = json.loads(line[6:])
                elif not line and data is not None:
                    self.last = newest
                    yield data
                    data = None
            self.came_back += 1
            time.sleep(0.05)

    def numbers(self) -> list[int]:
        """Return the numbers that were sent since the last time. To be told to reload would be a loss."""
        send(END, self.path)
        got: list[int] = []
        while True:
            event = next(self.events)
            assert event["event"] != "system.resync", event
            if event["event"] == "counted" and event["data"] == END:
                return got
            if event["event"] == "counted":
                got.append(event["data"])
