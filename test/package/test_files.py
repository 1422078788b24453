"""What is in deploy/, read by those who are going to use it: man, promtool, systemd, and the program itself."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(__file__).parents[2]
DEPLOY = TOP / "deploy"
PROMTOOL = TOP / "build" / "package" / "promtool"
SSE = TOP / "sse"


def run(*command: str | Path, **more: str) -> str:
    """Run a command at the top of the tree, and return what it prints; with what it says if it fails."""
    done = subprocess.run(
        command,
        cwd=TOP,
        env=os.environ | more,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, f"{command}: exit status {done.returncode}\n{done.stdout}"
    return done.stdout


# ---- the man page ----


def test_the_man_page_is_of_the_options_there_are(tmp_path: Path) -> None:
    page = tmp_path / "sse.1"
    run("make", "-s", "man", f"MAN={page}")
    assert page.read_text() == (DEPLOY / "man" / "sse.1").read_text(), "deploy/man/sse.1 is out of date: make man"


def test_the_man_page_shows_every_option_with_its_words() -> None:
    shown = run("man", "-l", DEPLOY / "man" / "sse.1", MANWIDTH="1000", MAN_KEEP_FORMATTING="", LC_ALL="C")
    shown = re.sub(r"\s+", " ", shown)
    options = re.findall(r"^  (--\S+(?: [^ \n]+)?) +(\S.*)$", run(SSE, "--help"), re.MULTILINE)
    assert len(options) > 40
    missing = [f"{option} {words}" for option, words in options if f"{option} {' '.join(words.split())}" not in shown]
    assert missing == []


def test_the_man_page_has_no_mistakes() -> None:
    assert run("mandoc", "-T", "lint", "-W", "warning", DEPLOY / "man" / "sse.1") == ""


# ---- the configuration ----


def configuration(name: str, home: Path) -> str:
    """Return a configuration of deploy/ with its files in a directory of the test, and make them."""
    text = (DEPLOY / name).read_text()
    text = re.sub(r"/(?:etc|var/lib|var/log)/(sse)", rf"{home}/\1", text)
    for key in re.findall(r"^[# ]*[a-z-]+-file = (\S+)$", text, re.MULTILINE):
        Path(key).parent.mkdir(parents=True, exist_ok=True)
        Path(key).write_text("secret-of-at-least-thirty-two-bytes 1 manager\n" if "tokens" in key else "k" * 64 + "\n")
    for journal in re.findall(r"^journal = (\S+)$", text, re.MULTILINE):
        Path(journal).mkdir(parents=True, exist_ok=True)
    return text


@pytest.mark.parametrize("name", ["sse.conf", "site.conf"])
def test_the_configuration_is_good(name: str, tmp_path: Path) -> None:
    file = tmp_path / "sse.conf"
    file.write_text(configuration(name, tmp_path))
    assert "good" in run(SSE, "--check-config", "--config", file)


def test_what_is_commented_out_is_good_too_and_says_the_defaults(tmp_path: Path) -> None:
    text = configuration("sse.conf", tmp_path)
    presets = dict(re.findall(r"^  --(\S+) \S+ .*\((\S+)\)$", run(SSE, "--help"), re.MULTILINE))
    lines = re.findall(r"^#([a-z-]+) = (.*)$", text, re.MULTILINE)
    assert len(lines) > 10
    file = tmp_path / "sse.conf"
    for key, value in lines:
        file.write_text(f"{text}\n{key} = {value}\n")
        run(SSE, "--check-config", "--config", file)
        assert value.startswith(("/", "http", "unix:", "estimates", str(tmp_path))) or value == presets[key], key


# ---- systemd ----

UNITS = sorted(file.name for file in (DEPLOY / "systemd").iterdir())


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.endswith(".service")])
def test_the_exposure_of_the_service_is_at_most_1_5(unit: str) -> None:
    run("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=15", DEPLOY / "systemd" / unit)


def test_the_service_of_a_site_is_the_service_but_for_its_name() -> None:
    def directives(unit: str) -> list[str]:
        lines = (DEPLOY / "systemd" / unit).read_text().splitlines()
        return [line for line in lines if line and not line.startswith("#")]

    ours = directives("sse.service")
    ours.remove("PartOf=sse-http.socket sse-admin.socket")
    for old, new in [
        ("Description=Live events server", "Description=Live events server of %i"),
        ("Requires=sse.socket", "Requires=sse@%i.socket"),
        ("After=sse.socket sse-http.socket sse-admin.socket", "After=sse@%i.socket"),
        ("Sockets=sse.socket sse-http.socket sse-admin.socket", "Sockets=sse@%i.socket"),
        ("StateDirectory=sse", "StateDirectory=sse-%i"),
        ("LogsDirectory=sse", "LogsDirectory=sse-%i"),
    ]:
        ours[ours.index(old)] = new
    ours = [re.sub(r"(?<=/etc/sse/)sse(?=\.conf)", "%i", line) for line in ours]
    assert ours == directives("sse@.service")
    ours = directives("sse.socket")
    ours[ours.index("Description=Events for the live events server")] += " of %i"
    assert [line.replace("/run/sse/sse.sock", "/run/sse/%i.sock") for line in ours] == directives("sse@.socket")


def test_make_install_puts_all_of_it_below_its_prefix(tmp_path: Path) -> None:
    installed = tmp_path / "opt" / "sse"
    conf = tmp_path / "etc" / "sse" / "sse.conf"
    for _ in range(2):
        run("make", "-s", "install", f"DESTDIR={tmp_path}", "PREFIX=/opt/sse")
        for unit in UNITS:
            text = (installed / "lib" / "systemd" / "system" / unit).read_text()
            assert "/usr/bin/sse" not in text
            if unit.endswith(".service"):
                assert "\nExecStart=/opt/sse/bin/sse --config /etc/sse/" in text
        assert (installed / "bin" / "sse").stat().st_mode & 0o777 == 0o755
        for file in ("share/man/man1/sse.1", "lib/sysusers.d/sse.conf", "share/doc/sse/examples/nginx/sse.conf"):
            assert (installed / file).stat().st_mode & 0o777 == 0o644
        assert (tmp_path / "etc" / "logrotate.d" / "sse").exists()
        conf.write_text(conf.read_text().replace("#keepalive", "keepalive") + "# mine\n")  # and is left alone
    assert conf.read_text().count("# mine") == 2


def test_the_kernel_knows_what_sysctl_advises() -> None:
    keys = re.findall(r"^#?(net\.\S+) = ", (DEPLOY / "sysctl.d" / "90-sse.conf").read_text(), re.MULTILINE)
    assert len(keys) == 5
    for key in keys:  # that of the connections tracked is there when the first rule is
        assert "conntrack" in key or Path("/proc/sys", *key.split(".")).exists(), key


# ---- Prometheus and Grafana ----


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What /metrics of the program says."""
    home = tmp_path_factory.mktemp("metrics")
    (home / "tokens").write_text("secret 1 manager\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        admin = f"127.0.0.1:{free.getsockname()[1]}"
    files = [f"--token-file={home}/tokens", f"--socket={home}/sse.sock", f"--listen=unix:{home}/http"]
    server = subprocess.Popen([SSE, *files, f"--admin={admin}"], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if "msg=ready" in line:
            break
    with urlopen(f"http://{admin}/metrics") as answer:
        yield answer.read().decode()
    server.terminate()
    server.wait()


def names_in(text: str) -> set[str]:
    """Return the names of sse's metrics in expressions."""
    return {re.sub(r"_bucket$", "", name) for name in re.findall(r"\b(?:sse|process)_[a-z_]+\b", text)}


def test_alerts_are_rules() -> None:
    run(PROMTOOL, "check", "rules", DEPLOY / "prometheus" / "alerts.yml")


def test_alerts_fire_when_they_should() -> None:
    run(PROMTOOL, "test", "rules", DEPLOY / "prometheus" / "alerts_test.yml")


def test_every_alert_says_what_to_do_and_is_tested() -> None:
    alerts = (DEPLOY / "prometheus" / "alerts.yml").read_text()
    tests = (DEPLOY / "prometheus" / "alerts_test.yml").read_text()
    names = re.findall(r"- alert: (\w+)", alerts)
    assert len(names) == alerts.count("action: >-") == alerts.count("summary:")
    for name in names:
        assert f"{{eval_time: 25m, alertname: {name}}}" in tests  # not when all is well
        assert f'alertname="{name}"' in tests


def test_alerts_are_about_metrics_there_are(metrics: str) -> None:
    expressions = re.findall(
        r"expr: (?:>-\n)?(.*?)\n +(?:for|labels):", (DEPLOY / "prometheus" / "alerts.yml").read_text(), re.DOTALL
    )
    assert len(expressions) == 9
    there = set(re.findall(r"^# TYPE (\S+)", metrics, re.MULTILINE))
    assert names_in(" ".join(expressions)) - there == set()


def test_the_dashboard_is_what_its_script_prints() -> None:
    assert run(sys.executable, DEPLOY / "grafana" / "dashboard.py") == (DEPLOY / "grafana" / "sse.json").read_text()


def test_the_dashboard_asks_for_metrics_there_are_and_shows_all_that_move(metrics: str, tmp_path: Path) -> None:
    page = json.loads((DEPLOY / "grafana" / "sse.json").read_text())
    panels = [panel for panel in page["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    assert all(panel["description"] for panel in panels)
    there = set(re.findall(r"^# TYPE (\S+)", metrics, re.MULTILINE))
    shown = names_in(" ".join(expressions))
    assert shown - there == set()
    unseen = {"sse_lines_total", "sse_connections_opened_total", "sse_roles", "sse_sessions", "sse_build_info"}
    unseen |= {"sse_history_events", "sse_history_size_bytes", "sse_journal_segments", "sse_draining"}
    assert there - shown == unseen | {"process_virtual_memory_bytes"}

    rules = [
        {"record": f"expression:{i}", "expr": expr.replace("$__rate_interval", "1m")}
        for i, expr in enumerate(expressions)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    run(PROMTOOL, "check", "rules", file)


def test_promtool_accepts_the_metrics(metrics: str) -> None:
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=metrics, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
