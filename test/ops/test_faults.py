"""An operator's evening: what breaks around the server, said once, and nothing else is lost."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import LIMIT, wait_for
from stage import ANNA, NOBODY, MakeServer, Server, binary, datagram_socket, sanitized, wait_samples


def works(server: Server) -> None:
    with server.join(ANNA) as stream:
        server.publish("news")
        stream.hears("news")


def must_fail(server: Server, code: int, *words: str) -> str:
    said = server.fails()
    assert server.popen is not None
    assert server.popen.returncode == code, said
    assert said.startswith("sse: ")
    assert said.count("\n") == 1
    for word in words:
        assert word in said, said
    return said


# ---- the log ----


def shown(server: Server) -> str:
    """What an operator sees."""
    done = subprocess.run(
        [binary(), "--status", "--socket", str(server.socket)], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_directory_of_the_log_is_gone(make_server: MakeServer, directory: Path) -> None:
    """USR1 after somebody removed it: the old file is written on, and it says so; nothing else changes."""
    logs = directory / "logs"
    logs.mkdir()
    server = make_server(start=False)
    server.log = logs / "sse.log"
    server.start()
    with server.log.open() as kept:
        shutil.rmtree(logs)
        server.signal(signal.SIGUSR1)

        def said() -> bool:
            kept.seek(0)
            return "msg=log_file_not_reopened" in kept.read()

        wait_for(said, "it says so in the file that it still has")
        works(server)
        kept.seek(0)
        assert "No such file or directory" in kept.read()
        words = server.words.read_text()
        assert re.fullmatch(r"SSE: the log file cannot be opened again \(No such file.*\); its lines go on .*\n", words)
        server.words.write_text("")
        assert server.samples()["sse_log_failing"] == 1
        assert "log         FAILING" in shown(server)
        logs.mkdir()
        server.signal(signal.SIGUSR1)
        server.wait_log("msg=log_file_reopened")
    works(server)
    assert server.samples()["sse_log_failing"] == 0
    assert "FAILING" not in shown(server)
    assert server.logged("msg=event")


def test_the_directory_of_the_log_was_never_there(make_server: MakeServer, directory: Path) -> None:
    server = make_server(start=False)
    server.log = directory / "nowhere" / "sse.log"
    must_fail(server, 2, "--log-file", "No such file or directory")
    assert not server.socket.exists()


def test_a_disk_that_is_full_of_log(make_server: MakeServer) -> None:
    """/dev/full: streams and metrics go on, and the lines are counted."""
    server = make_server(start=False)
    (server.directory / "full").symlink_to("/dev/full")
    log = server.log
    server.log = server.directory / "full"
    server.spawn_it()
    wait_for(server.admin_path.is_socket, "it is there")
    with server.admin() as client:
        wait_for(lambda: client.get("/readyz").status_code == 200, "it is ready")
    sent = 5
    for i in range(sent):
        assert server.send({"event": f"e{i}", "data": 1, "to": "all"})[0]["ok"]
    assert server.samples()["sse_log_lines_dropped_total"] >= sent
    (server.directory / "full").unlink()
    (server.directory / "full").symlink_to(log)
    server.signal(signal.SIGUSR1)
    server.log = log
    server.wait_log("msg=log_file_reopened")
    server.publish("after")
    (line,) = server.wait_log("msg=log_lines_dropped")
    assert int(re.findall(r"lines=(\d+)", line)[0]) == server.samples()["sse_log_lines_dropped_total"]
    words = server.words.read_text()
    assert words == "SSE: the log file takes nothing (No space left on device); lines are dropped until it does\n"
    server.words.write_text("")
    assert server.end() == 0


def test_a_log_that_nobody_reads(make_server: MakeServer) -> None:
    """A full pipe holds nobody up; the lines that found no room are counted, and the log says so when there is some."""
    server = make_server(start=False)
    pipe = server.start_on_pipe()
    with server.scraper() as scraper, server.join(ANNA) as stream:
        sent = 0
        while scraper.samples()["sse_log_lines_dropped_total"] == 0:
            for _ in range(100):
                server.publish("e" * 60)
                stream.hears("e" * 60)
                sent += 1
        dropped = scraper.samples()["sse_log_lines_dropped_total"]
        with server.admin() as client:
            assert client.get("/readyz").status_code == 200
        said = re.compile(r"dropped\D*(\d+)")
        pipe.read()

        def goes_on() -> bool:
            server.publish("after")  # the first may have found no room, either
            counts = [int(n) for n in said.findall(pipe.read())]
            return "name=after" in pipe.text and sum(counts) == scraper.samples()["sse_log_lines_dropped_total"]

        wait_for(goes_on, "it says so")
        total = scraper.samples()["sse_log_lines_dropped_total"]
        assert total >= dropped
        lines = [line for line in pipe.text.splitlines() if f"name={'e' * 60} " in line]
        assert len(lines) + total >= sent, "each line is there, or was counted"
        assert all(" app=SSE " in line for line in pipe.text.splitlines())
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_a_log_whose_reader_is_gone(make_server: MakeServer) -> None:
    """EPIPE is no reason to end."""
    server = make_server(start=False)
    pipe = server.start_on_pipe()
    pipe.close()
    works(server)
    assert server.samples()["sse_log_lines_dropped_total"] > 0
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


# ---- who it runs as ----


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not")
def test_a_user_that_it_may_not_become(directory: Path) -> None:
    """Started by somebody who is not root, or as root by a unit that leaves it no capability to change its user."""
    tokens = directory / "tokens"
    tokens.write_text("token 1\n")
    directory.chmod(0o755)
    command = [binary(), "--token-file", str(tokens), "--listen", "127.0.0.1:0", "--socket", str(directory / "sock")]
    without = ["setpriv", "--bounding-set=-setuid,-setgid"]
    for start, who, why in (
        ([*command, "--user", "daemon"], NOBODY, "only root can become another user"),
        ([*command, "--user", "daemon", "--check-config"], NOBODY, "only root can become another user"),
        ([*without, *command, "--user", "nobody"], 0, "cannot become this user: Operation not permitted"),
    ):
        done = subprocess.run(
            start, capture_output=True, text=True, check=False, timeout=LIMIT, user=who, group=who, extra_groups=[]
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"sse: --user {start[start.index('--user') + 1]}: {why}\n"
    assert sorted(path.name for path in directory.iterdir()) == ["tokens"]


# ---- the journal ----


@pytest.fixture
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of its own, a few hundred kilobytes large."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a small tmpfs")
    place = directory / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_disk_that_is_full_of_journal(make_server: MakeServer, small_disk: Path) -> None:
    """Events go on to the streams; acks, log, metrics and /readyz say that they are not stored, until there is room."""
    journal = small_disk / "journal"
    journal.mkdir()
    server = make_server("--journal", str(journal))
    (small_disk / "somebody-elses").write_bytes(b"x" * (150 << 10))
    with server.scraper() as scraper, server.join(ANNA) as stream, server.admin() as client:
        before = scraper.samples()
        answers = []
        for i in range(20):
            answers += server.send({"event": f"e{i}", "data": "x" * 8000, "to": "all"})
            stream.hears(f"e{i}")
        not_stored = [a for a in answers if a.get("stored") is False]
        assert not_stored
        now = scraper.samples()
        assert now["sse_journal_failing"] == 1
        assert now["sse_journal_errors_total"] > before["sse_journal_errors_total"]
        assert now["sse_journal_not_stored_total"] == len(not_stored)
        assert client.get("/readyz").text == "ready\njournal failing\ndjango off\n"
        (line,) = server.logged("msg=journal_failed")
        assert "No space left on device" in line
        (small_disk / "somebody-elses").unlink()
        server.wait_log("msg=journal_mended")
        wait_samples(scraper, lambda s: s["sse_journal_failing"] == 0, "it is mended")
        assert client.get("/readyz").text == "ready\njournal ok\ndjango off\n"
        (answer,) = server.send({"event": "after", "data": 1, "to": "all"})
        assert "stored" not in answer


def test_two_servers_on_one_journal(make_server: MakeServer, directory: Path) -> None:
    journal = directory / "journal"
    journal.mkdir()
    first = make_server("--journal", str(journal))
    first.publish("before")
    files = {p: p.read_bytes() for p in journal.iterdir()}
    second = make_server("--journal", str(journal), start=False)
    must_fail(second, 1, "--journal", str(journal))
    assert not second.socket.exists()
    assert not second.admin_path.exists()
    assert {p: p.read_bytes() for p in journal.iterdir()} == files
    works(first)


# ---- sockets ----


def test_two_servers_on_one_socket(make_server: MakeServer) -> None:
    first = make_server()
    second = make_server(start=False)
    second.socket = first.socket
    must_fail(second, 1, "--socket", "another program is listening there")
    assert not second.admin_path.exists()
    works(first)


def test_another_program_has_the_socket(make_server: MakeServer) -> None:
    server = make_server(start=False)
    with datagram_socket(server.socket):
        must_fail(server, 1, "--socket", "another program is listening there")
        assert server.socket.is_socket()


def test_the_directory_of_the_socket_is_gone(make_server: MakeServer, directory: Path) -> None:
    server = make_server(start=False)
    server.socket = directory / "nowhere" / "sse.sock"
    must_fail(server, 1, "--socket", "is the directory there?")


# ---- limits ----


def test_too_few_files_for_the_connections(make_server: MakeServer) -> None:
    """ulimit -n is too low for --max-connections: it says so, starts with fewer, and the metrics have how many."""
    server = make_server("--max-connections", "5000", start=False)
    server.prlimits = {resource.RLIMIT_NOFILE: (300, 300)}
    server.start()
    (line,) = server.logged("msg=max_connections_lowered")
    assert "ulimit -n" in line
    samples = server.samples()
    most = samples["sse_connections_max"]
    assert 100 < most < 300
    assert samples["process_max_fds"] == 300
    (ready,) = server.logged("msg=ready")
    assert f"max_connections={most:.0f}" in ready
    text = subprocess.check_output([binary(), "--status", "--socket", str(server.socket)], text=True)
    assert f"{most:.0f}" in text
    works(server)


@pytest.mark.parametrize("files", [4, 8, 16])
def test_far_too_few_files(make_server: MakeServer, files: int) -> None:
    """It says so in one line and ends with 1, or it serves."""
    if files == 4 and sanitized():
        pytest.skip("the sanitizers' libraries need more to be loaded")
    server = make_server(start=False, env={"ASAN_OPTIONS": "detect_leaks=0"})
    server.prlimits = {resource.RLIMIT_NOFILE: (files, files)}
    server.spawn_it()
    wait_for(lambda: not server.runs or server.logged("msg=ready"), "it has decided")
    if server.runs:
        assert server.end() == 0
    else:
        words = server.words.read_text()
        assert server.wait() == 1, words
        assert words.startswith("sse: ")
        assert words.count("\n") == 1


def test_a_unit_without_notify_or_watchdog(make_server: MakeServer) -> None:
    """Type=simple: it runs as from a shell, and says nothing about it."""
    server = make_server()
    works(server)
    assert not [line for line in server.logged() if "notify" in line.lower() or "watchdog" in line.lower()]
    assert server.end() == 0


def test_an_evening(make_server: MakeServer, directory: Path) -> None:
    """One after the other, on one server; the log has a line for each, and at the end all is well."""
    (directory / "journal").mkdir()
    server = make_server("--journal", str(directory / "journal"))
    works(server)
    server.tokens.rename(directory / "tokens.away")
    server.signal(signal.SIGHUP)
    server.wait_log("msg=tokens_not_read")
    works(server)
    (directory / "tokens.away").rename(server.tokens)
    server.signal(signal.SIGHUP)
    server.wait_log("msg=tokens_read")
    shutil.rmtree(directory / "journal")
    (directory / "journal").mkdir()
    wait_for(
        lambda: json.dumps(server.send({"event": "e", "data": 1, "to": "all"})).find("stored") < 0, "it is written anew"
    )
    server.signal(signal.SIGKILL)
    server.wait()
    server.start()
    works(server)
    with server.admin() as client:
        assert client.get("/readyz").text == "ready\njournal ok\ndjango off\n"


def test_a_storm_of_signals_and_questions(make_server: MakeServer) -> None:
    """HUP and USR1 again and again while metrics and status are asked for: every answer is there."""
    server = make_server()
    over = threading.Event()

    def storm() -> None:
        while not over.is_set():
            server.signal(signal.SIGHUP)
            server.signal(signal.SIGUSR1)
            over.wait(0.002)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        with server.join(ANNA) as stream:
            for i in range(50):
                server.publish(f"e{i}")
                stream.hears(f"e{i}")
                assert server.samples()["sse_streams"] == 1
                assert server.send({"op": "status"})[0]["ok"]
    finally:
        over.set()
        thread.join(LIMIT)
