"""`sse --status` and `--watch`: what an operator sees of a running server, and what he is told if there is none."""

import contextlib
import json
import os
import pty
import re
import resource
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import LIMIT, Sender, wait_for
from stage import ANNA, BORIS, NOBODY, Backend, MakeServer, Server, binary, datagram_socket, status, unix_listener


def ask(*options: str, env: Mapping[str, str] | None = None, **how: Any) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SSE_")}
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [binary(), "--status", *options],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env={**clean, **(env or {})},
        **how,
    )
    return done


def asked(server: Server, *options: str) -> str:
    done = ask("--socket", str(server.socket), *options)
    assert (done.returncode, done.stderr) == (0, "")
    return str(done.stdout)


def shows(text: str, what: str) -> str:
    """What stands behind a name at the beginning of a line."""
    found = re.findall(rf"(?m)^  {what} +(.*)$", text)
    assert len(found) == 1, (what, text)
    return str(found[0])


def numbers(text: str) -> list[float]:
    return [float(n) for n in re.findall(r"\d+(?:\.\d+)?", text.replace(",", ""))]


def test_it_says_how_things_are(make_server: MakeServer) -> None:
    server = make_server("--max-connections", "77")
    version = subprocess.check_output([binary(), "--version"], text=True).split()[1]
    with server.join(ANNA) as one, server.join(ANNA) as two, server.join(BORIS) as three:
        for i in range(7):
            server.publish(f"e{i}")
            for stream in (one, two, three):
                stream.hears(f"e{i}")
        text = asked(server)
        assert int(numbers(shows(text, "load"))[2]) == server.descriptors()
    assert re.fullmatch(rf"sse {version}, running for \d+ s, pid {server.pid}", text.splitlines()[0])
    assert shows(text, "streams").startswith("3 of 2 users; 3 of 77 connections")
    assert shows(text, "events") == "0.0 a second; 7 since the start"
    assert shows(text, "deliveries") == "0.0 a second; 21"
    assert shows(text, "datagrams") == "9 taken in, 0 lines refused", "two of them ask for this"
    assert shows(text, "journal").startswith("off")
    assert shows(text, "Django").startswith("off")
    assert re.match(r"7 events, the last \d+ s$", shows(text, "history"))
    assert re.search(r"^  lost", text, re.MULTILINE) is None


def test_it_counts_what_happens_meanwhile(make_server: MakeServer) -> None:
    """Rates are of the second in which it looks twice."""
    server = make_server()
    with (
        server.join(ANNA),
        subprocess.Popen(
            [binary(), "--status", "--socket", str(server.socket)], stdout=subprocess.PIPE, text=True
        ) as looks,
    ):
        sent = 0
        while looks.poll() is None:
            server.publish("e")
            sent += 1
            time.sleep(0.01)
        assert looks.stdout is not None
        text = looks.stdout.read()
    rate = numbers(shows(text, "events"))[0]
    assert 5 < rate <= 110, text
    assert numbers(shows(text, "deliveries"))[0] == pytest.approx(rate, abs=5)  # some are on their way
    assert numbers(shows(text, "bytes sent"))[0] > 50 * rate


def test_trouble_is_seen(make_server: MakeServer, backend: Backend) -> None:
    """Django fails, a stream was closed as slow, lines were wrong: that is what one looks for at night."""
    server = make_server("--auth-url", backend.url, "--queue", "2", "--send-buffer", "4096")
    assert shows(asked(server), "Django") == "not asked yet"
    backend.answers["asked"] = status(500)
    server.puts_off("asked")
    server.send({"event": "wrong"})
    deaf = server.deaf()
    while not server.logged("reason=slow"):
        server.publish("big", "x" * 60000)
    deaf.close()
    text = asked(server)
    assert shows(text, "Django") == "FAILING (log: auth_failed): 1 questions, 1 failed, 0 wait"
    assert shows(text, "closed") == "1 slow, 0 stalled, 0 revoked; 1 requests refused or put off"
    assert shows(text, "datagrams").endswith(" 1 lines refused")
    assert server.logged("msg=auth_failed"), "the log has the word that is named"


def test_who_came_back_is_seen(make_server: MakeServer) -> None:
    server = make_server()
    (answer,) = server.send({"op": "ping"})
    for last_id in (answer["id"], answer["id"], "what"):
        with server.open(ANNA, query=f"lastEventId={last_id}") as stream:
            stream.next()
    assert shows(asked(server), "came back") == "2 without a gap, 1 told to reload"


def test_the_journal_is_seen(make_server: MakeServer, directory: Path) -> None:
    """Its health in one word, and what to look for in the log."""
    journal = directory / "journal"
    journal.mkdir()
    server = make_server("--journal", str(journal))
    server.publish("e")
    assert shows(asked(server), "journal") == "ok: 1 files, 0 errors since the start"
    server.limit(resource.RLIMIT_FSIZE, 32768)  # the log needs less
    for _ in range(10):
        server.publish("e", "x" * 8000)
    not_stored = server.samples()["sse_journal_not_stored_total"]
    said = shows(asked(server), "journal")
    assert said.startswith("FAILING (log: journal_failed): ")
    assert said.endswith(f" {not_stored:.0f} events not stored")
    server.limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
    server.wait_log("msg=journal_mended")
    assert shows(asked(server), "journal").startswith("ok: ")


def test_lines_that_the_log_lost_are_seen(make_server: MakeServer) -> None:
    server = make_server(start=False)
    (server.directory / "full").symlink_to("/dev/full")
    server.log = server.directory / "full"
    server.spawn_it()
    wait_for(server.socket.is_socket, "it is there")
    server.send({"event": "e", "data": 1, "to": "all"})
    assert numbers(shows(asked(server), "lost"))[0] == server.samples()["sse_log_lines_dropped_total"] > 0
    assert server.end() == 0


def test_it_fits_a_terminal_and_a_file(make_server: MakeServer) -> None:
    """80 columns, plain text, no spaces at the ends of lines, ends with a newline."""
    text = asked(make_server())
    assert max(len(line) for line in text.splitlines()) <= 80
    assert [c for c in text if ord(c) < 32 and c != "\n"] == []
    assert text.isascii()
    assert text.endswith("\n")
    assert [line for line in text.splitlines() if line != line.rstrip()] == []


def test_large_numbers_fit_too(make_server: MakeServer) -> None:
    server = make_server("--history-bytes", "200M")
    with server.join(ANNA):
        for _ in range(30):
            server.publish("e" * 64, "x" * 60000)
        assert max(len(line) for line in asked(server).splitlines()) <= 80


def test_no_names_are_in_it(make_server: MakeServer) -> None:
    server = make_server()
    with server.join(ANNA):
        server.publish("canary-event", "canary-data", users=["canary-user-7"])
        assert "canary" not in asked(server)


def test_it_asks_where_the_server_is_configured_to_be(make_server: MakeServer, directory: Path) -> None:
    """The same file, the same variable: `sse --status --config /etc/sse.conf` is all one needs to know."""
    server = make_server()
    config = directory / "sse.conf"
    config.write_text(f"socket = {server.socket}\nlisten = 127.0.0.1:1\n")
    for done in (
        ask("--config", str(config)),
        ask(env={"SSE_CONFIG": str(config)}),
        ask(env={"SSE_SOCKET": str(server.socket)}),
        ask("--socket", str(server.socket), env={"SSE_SOCKET": "/nowhere"}),
        ask(f"--socket={server.socket}"),
    ):
        assert (done.returncode, done.stderr) == (0, ""), done
        assert str(server.pid) in done.stdout


def test_it_needs_none_of_the_servers_secrets(make_server: MakeServer, directory: Path) -> None:
    """The configuration names files that only the server may read: who asks for the status does not open them."""
    server = make_server()
    config = directory / "sse.conf"
    config.write_text(f"socket = {server.socket}\ntoken-file = /nowhere/tokens\nticket-key-file = /nowhere/keys\n")
    done = ask("--config", str(config))
    assert (done.returncode, done.stderr) == (0, "")


def test_it_leaves_nothing_behind(make_server: MakeServer) -> None:
    server = make_server()
    descriptors = server.descriptors()
    for _ in range(3):
        asked(server)
    assert sorted(p.name for p in server.directory.glob("*.sock")) == ["admin.sock", "sse.sock"]
    assert server.descriptors() == descriptors
    assert not server.logged("level=warning")


# ---- nobody answers ----


def must_say(done: subprocess.CompletedProcess[str], *words: str, code: int = 1) -> None:
    assert done.returncode == code, done
    assert done.stdout == ""
    assert done.stderr.startswith("sse: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr.lower(), done.stderr


def test_there_is_no_socket(directory: Path) -> None:
    path = directory / "nowhere.sock"
    must_say(ask("--socket", str(path)), str(path).lower(), "there is no such socket")


def test_nobody_listens_any_more(directory: Path) -> None:
    path = directory / "dead.sock"
    datagram_socket(path).close()
    must_say(ask("--socket", str(path)), str(path).lower(), "no sse is listening there")
    assert path.is_socket(), "it is not the one to remove it"


def test_nobody_answers(directory: Path) -> None:
    """Something listens, and says nothing: 5 seconds."""
    path = directory / "mute.sock"
    with datagram_socket(path):
        must_say(ask("--socket", str(path)), "no answer within 5 s", "journalctl -u sse")


@pytest.mark.parametrize(
    "answer", [b"", b"hello", b"what?\x1b[2J\n", b'{"ok":false,"error":"op: expected ping or revoke","at":6}']
)
def test_somebody_else_answers(answer: bytes, directory: Path) -> None:
    """Another program, or an sse of before there was a status."""
    path = directory / "other.sock"
    with datagram_socket(path) as s:

        def other() -> None:
            s.sendto(answer, s.recvfrom(4096)[1])

        thread = threading.Thread(target=other)
        thread.start()
        done = ask("--socket", str(path))
        must_say(done, 'what answers there is no sse that knows {"op":"status"}')
        assert "\x1b" not in done.stderr
        thread.join()


def test_a_server_that_hangs_is_full_at_last(make_server: MakeServer) -> None:
    """It stands still, and its queue is full of datagrams."""
    server = make_server()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    s.sendto(b"{}", str(server.socket))
        must_say(ask("--socket", str(server.socket)), str(server.socket).lower(), "its queue is full")
    finally:
        os.kill(server.pid, signal.SIGCONT)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not")
def test_it_may_not_be_asked(make_server: MakeServer) -> None:
    server = make_server()
    server.directory.parent.chmod(0o755)
    done = ask("--socket", str(server.socket), user=NOBODY, group=NOBODY, extra_groups=[])
    must_say(done, "not allowed", "group", str(server.socket).lower())


def test_it_is_another_kind_of_socket(directory: Path) -> None:
    path = directory / "web.sock"
    with unix_listener(path):
        must_say(ask("--socket", str(path)), str(path).lower(), "it is a stream socket: name the one of --socket")
    (directory / "file").write_text("x")
    must_say(ask("--socket", str(directory / "file")), str(directory / "file").lower())


@pytest.mark.parametrize("options", [["--status", "--nonsense"], ["--status=yes"], ["--status", "more"]])
def test_wrong_options(options: list[str]) -> None:
    done = subprocess.run([binary(), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("sse: ")


def test_an_old_answer_is_not_taken_for_the_second(make_server: MakeServer) -> None:
    """A server with a heavy load answers late: what is shown is still what is."""
    server = make_server()
    os.kill(server.pid, signal.SIGSTOP)
    with subprocess.Popen(
        [binary(), "--status", "--socket", str(server.socket)], stdout=subprocess.PIPE, text=True
    ) as looks:
        time.sleep(1.5)
        os.kill(server.pid, signal.SIGCONT)
        out, _ = looks.communicate(timeout=LIMIT)
        assert looks.returncode == 0
        assert str(server.pid) in out


# ---- --watch ----


class Watch:
    """`sse --status --watch`, on a terminal or not; it ends with the block."""

    def __init__(self, server: Server, terminal: bool = False) -> None:
        self.text = ""
        if terminal:
            self.end, other = pty.openpty()
        else:
            self.end, other = os.pipe()
        self.popen = subprocess.Popen(
            [binary(), "--status", "--watch", "--socket", str(server.socket)],
            stdin=subprocess.DEVNULL,
            stdout=other,
            stderr=subprocess.STDOUT,
        )
        os.close(other)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        os.close(self.end)

    def read(self) -> bool:
        if not select.select([self.end], [], [], 0.05)[0]:
            return True
        try:
            part = os.read(self.end, 65536)
        except OSError:  # a terminal whose other side is closed
            part = b""
        self.text += part.decode().replace("\r\n", "\n")
        return bool(part)

    def until(self, pattern: str) -> str:
        """Reads until this is there, and forgets all up to its end."""

        def found() -> re.Match[str] | None:
            self.read()
            return re.search(pattern, self.text)

        match = wait_for(found, f"{pattern!r} in {self.text[-300:]!r}")
        assert match is not None
        before, self.text = self.text[: match.end()], self.text[match.end() :]
        return before


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    return make_server()


def test_the_watch_goes_on(server: Server) -> None:
    with Watch(server) as watch:
        seen = watch.until(r"streams +0 of 0 users")
        with server.join(ANNA):
            seen += watch.until(r"streams +1 of 1 users")
        seen += watch.until(r"streams +0 of 0 users")
        assert [c for c in seen if ord(c) < 32 and c != "\n"] == [], "no control codes: it is no terminal"
        assert max(len(line) for line in seen.splitlines()) <= 80
        watch.popen.send_signal(signal.SIGINT)
        assert watch.popen.wait(LIMIT) in (0, 130, -signal.SIGINT)


def test_the_watch_stays_on_the_screen(server: Server) -> None:
    """On a terminal it writes over what it wrote before."""
    with Watch(server, terminal=True) as watch:
        seen = watch.until(r"(?i)streams") + watch.until(r"(?i)streams") + watch.until(r"(?i)streams")
        assert "\x1b[" in seen


def test_the_watch_survives_a_restart(server: Server) -> None:
    """A server that goes away is said and waited for; the next one has another pid."""
    first = server.pid
    with Watch(server) as watch:
        watch.until(str(first))
        assert server.end() == 0
        watch.until(r"(?m)^sse: .*there is no such socket.*$")
        server.start()
        assert server.pid != first
        watch.until(str(server.pid))
        assert watch.popen.poll() is None


def test_the_watch_ends_when_nobody_reads_it(server: Server) -> None:
    """sse --status --watch | head -1"""
    done = subprocess.run(
        ["bash", "-c", '"$@" | head -n 1', "bash", binary(), "--status", "--watch", "--socket", str(server.socket)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1


def test_the_watch_waits_for_a_server_that_is_not_there_yet(make_server: MakeServer) -> None:
    server = make_server(start=False)
    with Watch(server) as watch:
        watch.until(r"(?i)\bsse")
        assert watch.popen.poll() is None
        server.start()
        watch.until(str(server.pid))


# ---- the datagram ----


def test_the_answer_is_one_line_of_numbers(server: Server) -> None:
    sender = Sender(server.socket)
    sender.socket.sendto(b'{"op":"status"}', str(server.socket))
    answer = sender.socket.recv(1 << 20)
    sender.close()
    assert answer.count(b"\n") <= 1
    read = json.loads(answer)
    assert list(read) == ["ok", "status"]
    about = read["status"]
    assert about["pid"] == server.pid
    assert isinstance(about["version"], str)
    assert [k for k, v in about.items() if isinstance(v, dict | list)] == []
    assert len(answer) < 8192


@pytest.mark.parametrize(
    "line", ['{"op":"status","user":1}', '{"op":"status","event":"e"}', '{"op":"Status"}', '{"op":"status","sid":"s"}']
)
def test_a_status_is_asked_for_by_itself(server: Server, line: str) -> None:
    sender = Sender(server.socket)
    sender.socket.sendto(line.encode(), str(server.socket))
    assert b'"ok":false' in sender.socket.recv(65536)
    sender.close()


def test_it_counts_as_no_event(server: Server) -> None:
    before = server.samples()
    (first,) = server.send({"op": "status"})
    after = server.samples()
    assert after["sse_events_total"] == before["sse_events_total"]
    assert after["sse_lines_total"] == before["sse_lines_total"] + 1
    assert first["ok"]


def test_it_agrees_with_the_metrics(server: Server) -> None:
    """The same numbers, wherever one looks."""
    with server.join(ANNA), server.join(BORIS):
        for _ in range(3):
            server.publish("e")
        (answer,) = server.send({"op": "status"})
        samples = server.samples()
        for name, sample in (
            ("streams", "sse_streams"),
            ("users", "sse_users"),
            ("events", "sse_events_total"),
            ("deliveries", "sse_deliveries_total"),
        ):
            assert answer["status"][name] == samples[sample], name


def test_many_questions_in_one_datagram_are_all_answered(server: Server) -> None:
    """The answers take more room than a datagram has."""
    sender = Sender(server.socket)
    sender.socket.sendto(b'{"op":"status"}\n' * 200, str(server.socket))
    answers = 0
    while answers < 200:
        lines = sender.socket.recv(1 << 20).splitlines()
        assert all(json.loads(line)["ok"] for line in lines)
        answers += len(lines)
    assert answers == 200
    sender.close()
