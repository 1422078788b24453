"""The package on a machine that systemd has booted: installed, used, broken and mended, upgraded, removed.

test/package/run has made the packages and booted the machine; the tests go on from each other, in this order.
"""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from machine import SOCKET, Django, Page, get, log, send, sh, show, sign, ticket, wait

PACKAGES = Path(__file__).parents[2] / "build" / "package"
CONF = Path("/etc/sse/sse.conf")
UNITS = ["sse.service", "sse.socket", "sse-http.socket", "sse-admin.socket"]
EVENTS = "/api/v1/sse/events/?token="


def pid() -> int:
    """Return the process of the server."""
    return int(show("sse.service", "MainPID"))


def mode(path: str) -> str:
    """Return owner, group and permissions."""
    return sh(f"stat -c '%U %G %a' {path}").strip()


def drop_in(unit: str, text: str) -> None:
    """Do what systemctl edit does."""
    place = Path(f"/etc/systemd/system/{unit}.d/override.conf")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    sh("systemctl daemon-reload")


def no_drop_in(unit: str) -> None:
    """Do what systemctl revert does."""
    sh(f"rm -r /etc/systemd/system/{unit}.d && systemctl daemon-reload")


# ---- a fresh package ----


def test_it_is_installed_and_runs() -> None:
    sh("rm -f /var/lib/man-db/auto-update")  # else each package makes the index of all man pages anew, for 10 seconds
    said = sh(f"dpkg -i {PACKAGES}/sse_0.1.0-1_*.deb")
    assert "usermod -aG sse" in said
    assert "TICKET_KEY" in said
    for unit in UNITS:
        assert sh(f"systemctl is-active {unit}; systemctl is-enabled {unit}") == "active\nenabled\n"
    assert get("/readyz", 8091) == (200, "ready\njournal ok\ndjango off\n")
    assert get("/livez", 8091) == (200, "ok\n")
    assert "sse_build_info" in get("/metrics", 8091)[1]
    assert sh("sse --status").startswith("sse 0.1.0")


def test_files_are_whose_they_should_be() -> None:
    assert mode(SOCKET) == "root sse 660"
    assert mode("/run/sse") == "root root 755"
    assert mode("/etc/sse/ticket.key") == "root sse 640"
    assert mode("/etc/sse/sse.conf") == "root root 644"
    assert mode("/var/lib/sse") == "sse sse 700"
    assert mode("/var/log/sse") == "sse sse 750"
    assert re.fullmatch(r"[0-9a-f]{64}\n", Path("/etc/sse/ticket.key").read_text())
    assert sh("getent passwd sse").strip().endswith(":Live events server:/nonexistent:/usr/sbin/nologin")
    assert sh("id -nG sse").strip() == "sse"
    assert str(CONF) in sh("dpkg-query -W -f='${Conffiles}' sse")


def test_the_units_are_without_a_mistake() -> None:
    for unit in [*UNITS, "sse@shop.service", "sse@shop.socket"]:
        assert sh(f"systemd-analyze verify {unit} 2>&1 | grep sse", status=None) == ""


def test_the_man_page_is_found() -> None:
    assert "pushes a Django site's events" in sh("man sse")
    assert "sse (1)" in sh("mandb -q -f /usr/share/man/man1/sse.1.gz; apropos 'Django site'")


def test_it_gives_up_what_it_does_not_need() -> None:
    status = Path(f"/proc/{pid()}/status").read_text()
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status
    assert f"Uid:\t{sh('id -u sse').strip()}" in status
    assert "msg=no_sandbox" not in log()  # its own filter, behind systemd's
    assert "msg=boot_unknown" not in log()
    assert "level=warning" not in log()
    exposure = sh("systemd-analyze security --no-pager sse.service | tail -n 1")
    assert float(re.findall(r"\d+\.\d+", exposure)[0]) <= 1.5, exposure


def test_nobody_listens_without_the_key() -> None:
    assert get(EVENTS + "guessed", 8090)[0] == 401
    assert get(EVENTS + sign("k" * 64, 7, "manager"), 8090)[0] == 401
    with Page() as page:
        send(1)
        assert page.numbers() == [1]


def test_who_is_in_the_group_may_send_and_sign() -> None:
    sh("useradd --system estimates")
    send_one = 'echo \'{"event":"a","data":1,"to":"all"}\' | runuser -u estimates -- /usr/bin/python3 -c \'' + (
        "import socket, sys; "
        f'socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(sys.stdin.buffer.read(), "{SOCKET}"); '
        'open("/etc/sse/ticket.key").read()\''
    )
    assert "PermissionError" in sh(send_one, status=1)
    assert "not allowed" in sh("runuser -u estimates -- sse --status", status=1)
    sh("usermod -aG sse estimates")
    sh(send_one)
    sh("runuser -u estimates -- sse --status")


# ---- what happens at night ----


def test_nothing_is_lost_in_restarts() -> None:
    with Page() as page:
        django = Django()
        for _ in range(3):
            old = pid()
            sh("systemctl restart sse")
            assert pid() != old
        count = django.stop()
        assert page.numbers() == list(range(count))
        assert page.came_back > 0


def test_nothing_is_lost_when_it_is_killed() -> None:
    with Page() as page:
        old = pid()
        os.kill(old, signal.SIGKILL)
        for i in range(50):
            send(i)
        assert page.numbers() == list(range(50))
        assert pid() != old


def test_a_loop_that_hangs_is_started_anew() -> None:
    assert show("sse.service", "WatchdogUSec") == "30s"
    drop_in("sse.service", "[Service]\nWatchdogSec=1s\n")
    sh("systemctl restart sse")
    os.kill(pid(), signal.SIGSTOP)
    restarts = int(show("sse.service", "NRestarts"))
    send(1)
    wait(lambda: int(show("sse.service", "NRestarts")) > restarts, "the watchdog")
    wait(lambda: show("sse.service", "ActiveState") == "active", "the start")
    assert "Watchdog timeout" in log()
    no_drop_in("sse.service")
    sh("systemctl restart sse")


def test_systemctl_status_says_how_it_is() -> None:
    with Page():
        sh("systemctl restart sse")
        wait(lambda: "streams" in show("sse.service", "StatusText"), "the first STATUS=")
    assert "streams" in sh("systemctl status --no-pager sse")


def test_a_wrong_configuration_is_said_and_loses_nothing() -> None:
    good = CONF.read_text()
    with Page() as page:
        CONF.write_text(good + "keepalive = soon\n")
        assert "sse.conf" in sh("sse --check-config --config /etc/sse/sse.conf", status=2)
        assert "failed" in sh("systemctl restart sse", status=1)
        line = len(good.splitlines()) + 1
        wait(lambda: f'/etc/sse/sse.conf:{line}: keepalive: got "soon"' in log(), "the line")
        restarts = int(show("sse.service", "NRestarts"))
        for i in range(50):
            send(i)
        while int(show("sse.service", "NRestarts")) < restarts + 2:
            assert show("sse.socket", "ActiveState") == "active"  # and with it what waits in it
        CONF.write_text(good)
        assert page.numbers() == list(range(50))  # without another command
        assert show("sse.service", "ActiveState") == "active"


def test_a_reload_takes_another_key_and_refuses_a_bad_one() -> None:
    key = Path("/etc/sse/ticket.key")
    old, before = key.read_text(), ticket()
    key.write_text("short\n")
    assert "failed" in sh("systemctl reload sse", status=1)
    grave = sh("journalctl --sync; journalctl --no-pager --output=cat --unit=sse.service --priority=warning")
    for line in ("/etc/sse/ticket.key: line 1: a key must be at least 32 bytes", 'keepalive: got "soon"'):
        assert line in log()
        assert line in grave
    assert "level=info" not in grave
    assert "<" not in grave
    key.write_text("n" * 64 + "\n" + old)
    sh("systemctl reload sse")
    wait(lambda: "msg=ticket_keys_read keys=2" in log(), "the keys")
    assert show("sse.service", "ActiveState") == "active"
    for good in (before, ticket()):
        assert get("/api/v1/sse/stats/", 8090, token=good)[0] == 200
    key.write_text(old)
    sh("systemctl reload sse")


def test_another_address_is_one_edit_and_one_restart() -> None:
    for listen, port in [("127.0.0.1:8099", 8099), ("[::1]:8090\nListenStream=127.0.0.1:8097", 8097)]:
        drop_in("sse-http.socket", f"[Socket]\nListenStream=\nListenStream={listen}\n")
        sh("systemctl restart sse-http.socket")
        wait(lambda: show("sse.service", "ActiveState") == "active", "the service, which the socket starts anew")
        with Page(port=port) as page:
            send(port)
            assert page.numbers() == [port]
    no_drop_in("sse-http.socket")
    sh("systemctl restart sse-http.socket")
    with Page() as page:
        send(6)
        assert page.numbers() == [6]


def test_a_port_that_is_taken_is_named_and_tried_again() -> None:
    good = CONF.read_text()
    CONF.write_text(good + "listen = 127.0.0.1:8098\n")  # which counts without sse-http.socket
    sh("systemd-run --quiet --unit=thief /usr/bin/python3 -m http.server --bind 127.0.0.1 8098")
    wait(lambda: sh("curl -s -o /dev/null 127.0.0.1:8098 && echo there", status=None), "the port")
    sh("systemctl mask --now sse-http.socket; systemctl restart sse", status=None)
    wait(lambda: "--listen 127.0.0.1:8098: " in log(), "the line")
    sh("systemctl stop thief")
    wait(lambda: show("sse.service", "ActiveState") == "active", "the port to be free")
    with Page(port=8098):
        CONF.write_text(good)
        sh("systemctl unmask sse-http.socket && systemctl restart sse")
    with Page():
        pass


def test_the_log_can_go_into_a_file_that_is_rotated() -> None:
    good = CONF.read_text()
    CONF.write_text(good.replace("#log-file", "log-file"))
    sh("systemctl restart sse")
    file = Path("/var/log/sse/sse.log")
    wait(lambda: "msg=ready" in file.read_text(), "the first lines")
    assert mode(str(file)) == "sse sse 600"
    sh("logrotate --force /etc/logrotate.d/sse")
    assert "msg=ready" in Path("/var/log/sse/sse.log.1").read_text()
    wait(lambda: file.exists() and "msg=log_file_reopened" in file.read_text(), "the new file")
    sh("logrotate --force /etc/logrotate.d/sse")
    assert Path("/var/log/sse/sse.log.2.gz").exists()
    CONF.write_text(good)
    sh("systemctl restart sse")


def test_the_operators_listener_can_be_done_without() -> None:
    sh("systemctl mask --now sse-admin.socket && systemctl restart sse")
    assert sh("curl -s 127.0.0.1:8091/livez", status=7) == ""
    assert get(EVENTS, 8090)[0] == 401
    sh("systemctl unmask sse-admin.socket && systemctl restart sse")
    assert get("/livez", 8091)[0] == 200


def test_the_sysctl_advice_is_taken() -> None:
    sh("zcat -f /usr/share/doc/sse/examples/sysctl.d/90-sse.conf* > /etc/sysctl.d/90-sse.conf")
    sh("sysctl --load /etc/sysctl.d/90-sse.conf")
    assert Path("/proc/sys/net/unix/max_dgram_qlen").read_text() == "4096\n"
    sh("systemctl restart sse.socket")
    with Page() as page:
        sh("systemctl kill --signal=STOP sse.service")
        for i in range(1000):  # more than the 512 of systemd: else this would wait
            send(i)
        sh("systemctl kill --signal=CONT sse.service")
        assert page.numbers() == list(range(1000))


def test_behind_nginx_a_restart_is_not_noticed_and_health_is_seen() -> None:
    sh("zcat -f /usr/share/doc/sse/examples/nginx/sse.conf* > /etc/nginx/conf.d/sse.conf")
    sh("rm -f /etc/nginx/sites-enabled/default && nginx -t && systemctl restart nginx")
    assert get("/api/v1/sse/health", 80) == (200, "ready\njournal ok\ndjango off\n")
    assert "sse_build_info" not in get("/metrics", 80)[1]
    with Page(port=80) as page:
        send(0)
        sh("systemctl restart sse")
        send(1)
        assert page.numbers() == [0, 1]
        sh("systemctl stop sse.socket sse-http.socket sse-admin.socket")  # and the service with them
        assert show("sse.service", "ActiveState") == "inactive"
        assert get("/api/v1/sse/health", 80)[0] == 502
        assert get(EVENTS, 80) == (200, "retry: 3000\n\n")
        sh("systemctl start sse")  # and the sockets with it
        send(2)
        assert page.numbers() == [2]
    assert "from=127.0.0.1" in log()
    sh("systemctl stop nginx && rm /etc/nginx/conf.d/sse.conf")


# ---- a second site ----


def test_a_second_site_has_a_server_of_its_own() -> None:
    sh("zcat -f /usr/share/doc/sse/examples/site.conf* > /etc/sse/shop.conf")
    commands = re.findall(r"^#   (.*)$", Path("/etc/sse/shop.conf").read_text(), re.MULTILINE)
    assert len(commands) == 3
    for command in commands:  # as they stand there
        sh(command)
    assert mode("/run/sse/shop.sock") == "root sse 660"
    assert mode("/etc/sse/shop.key") == "root sse 640"
    with Page() as ours, Page(8092, "/etc/sse/shop.key", "/run/sse/shop.sock") as theirs:
        send(1)
        send(2, "/run/sse/shop.sock")
        assert (ours.numbers(), theirs.numbers()) == ([1], [2])
    assert get(EVENTS + ticket(), 8092)[0] == 401
    assert get("/readyz", 8093)[0] == 200
    with Page(8092, "/etc/sse/shop.key", "/run/sse/shop.sock") as page:
        sh("systemctl restart sse@shop & sleep 0.01", status=None)
        for i in range(50):
            send(i, "/run/sse/shop.sock")
        assert page.numbers() == list(range(50))


# ---- another version ----


def test_an_upgrade_loses_nothing_and_keeps_the_configuration() -> None:
    CONF.write_text(CONF.read_text() + "keepalive = 20s\n")
    key = Path("/etc/sse/ticket.key").read_text()
    socket_before, old, old_shop = sh(f"stat -c %i {SOCKET}"), pid(), show("sse@shop.service", "MainPID")
    with Page() as page:
        django = Django()
        sh(f"dpkg -i {PACKAGES}/sse_0.1.0-2_*.deb")
        count = django.stop()
        assert page.numbers() == list(range(count))
        assert page.came_back > 0
    assert "0.1.0-2" in sh("dpkg-query -W sse")
    assert CONF.read_text().endswith("keepalive = 20s\n")
    assert Path("/etc/sse/ticket.key").read_text() == key
    assert sh(f"stat -c %i {SOCKET}") == socket_before
    assert old != pid() != 0
    assert old_shop != show("sse@shop.service", "MainPID") != "0"
    for unit in [*UNITS, "sse@shop.service", "sse@shop.socket"]:
        assert show(unit, "ActiveState") == "active"


# ---- gone ----


def test_it_is_removed_and_what_is_the_operators_stays() -> None:
    sh("dpkg --remove sse")
    for unit in [*UNITS, "sse@shop.service", "sse@shop.socket"]:
        assert show(unit, "ActiveState") == "inactive", unit
        assert sh(f"pgrep -x sse; ls /lib/systemd/system/{unit} /usr/bin/sse 2>/dev/null", status=None) == ""
    assert not Path("/run/sse").exists()
    assert CONF.exists()
    assert Path("/var/lib/sse").exists()
    sh(f"dpkg -i {PACKAGES}/sse_0.1.0-2_*.deb")  # and back
    with Page() as page:
        send(1)
        assert page.numbers() == [1]


def test_it_is_purged_and_nothing_is_left() -> None:
    sh("systemctl disable --now sse@shop.service sse@shop.socket")  # the second site is its operator's
    sh("rm /etc/sse/shop.conf /etc/sse/shop.key && rm -r /var/lib/sse-shop /var/log/sse-shop")
    sh("dpkg --purge sse")
    assert "no packages found" in sh("dpkg-query -W sse", status=1)
    places = "/etc /usr/bin /usr/lib /usr/share /lib/systemd /var/lib /var/log /run"
    left = sh(
        f"find {places} -xdev \\( -name 'sse' -o -name 'sse.*' -o -name 'sse-*' -o -name 'sse@*' \\) | sort",
        status=None,
    )
    assert left == ""
    units = sh(
        "systemctl list-units --all --no-legend 'sse*'; systemctl list-unit-files --no-legend 'sse*'", status=None
    )
    assert units == ""


# ---- without a package ----


def test_make_install_runs_as_the_guide_says() -> None:
    guide = (Path(__file__).parents[2] / "deploy" / "README.md").read_text()
    commands = re.findall(r"```sh\n(.*?)```", guide, re.DOTALL)
    sh(f"set -e; cd /src; {commands[0]}")
    assert show("sse.service", "ActiveState") == "active"
    assert Path(f"/proc/{pid()}/exe").readlink() == Path("/usr/local/bin/sse")
    assert show("sse.service", "FragmentPath") == "/usr/local/lib/systemd/system/sse.service"
    with Page() as page:
        send(1)
        assert page.numbers() == [1]
    assert "pushes a Django site's events" in sh("man sse")
