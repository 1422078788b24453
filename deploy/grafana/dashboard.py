"""Prints grafana/sse.json, the dashboard of sse's metrics.

In an environment with requirements.txt:  python deploy/grafana/dashboard.py > deploy/grafana/sse.json
"""

from __future__ import annotations

from typing import NamedTuple

from grafana_foundation_sdk.builders import common, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.builders import prometheus as query
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models

DATA = models.DataSourceRef(type_val="prometheus", uid="${data}")
SERVERS = 'job=~"$job", instance=~"$instance"'


class Line(NamedTuple):
    """A query, and how what it gives is called."""

    expr: str
    name: str


def now(metric: str) -> str:
    """Return the sum of it over the chosen servers."""
    return f"sum({metric}{{{SERVERS}}})"


def rate(metric: str, by: str = "", only: str = "") -> str:
    """Return how much of it there is a second, summed up, or by a label."""
    chosen = f"{SERVERS}, {only}" if only else SERVERS
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{{{chosen}}}[$__rate_interval]))"


def quantile(part: float) -> str:
    """Return a quantile of the time that an event takes."""
    return f"histogram_quantile({part}, {rate('sse_event_write_seconds_bucket', by='le')})"


def some(expr: str) -> str:
    """Return only those of it that are not zero: there are many reasons, and most of them never come."""
    return f"{expr} > 0"


def graph(title: str, description: str, unit: str, *lines: Line, width: int = 12) -> timeseries.Panel:
    """Return a panel of lines over time."""
    panel = timeseries.Panel().title(title).description(description).unit(unit).datasource(DATA).min(0)
    for i, line in enumerate(lines):
        panel.with_target(query.Dataquery().expr(line.expr).legend_format(line.name).ref_id(chr(ord("A") + i)))
    legend = common.VizLegendOptions().display_mode(kinds.LegendDisplayMode.TABLE).show_legend(show_legend=True)
    panel.legend(legend.placement(kinds.LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"]))
    panel.tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING))
    return panel.line_width(1).fill_opacity(10).height(8).span(width)


def number(title: str, description: str, unit: str, expr: str, bad: float | None = None) -> stat.Panel:
    """Return a panel with one number, which is red from where it is bad."""
    panel = stat.Panel().title(title).description(description).unit(unit).datasource(DATA)
    panel.with_target(query.Dataquery().expr(expr).instant().ref_id("A")).height(4).span(4)
    steps = [models.Threshold(value=None, color="text" if bad is None else "green")]
    if bad is not None:
        steps.append(models.Threshold(value=bad, color="red"))
    return panel.thresholds(board.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))


def chooser(name: str, label: str, values: str) -> board.QueryVariable:
    """Return a variable with the values of a label."""
    variable = board.QueryVariable(name).label(label).datasource(DATA).query(values)
    return (
        variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).include_all(include_all=True).multi(multi=True)
    )


def dashboard() -> board.Dashboard:
    """Return the dashboard: what an operator asks at night comes first."""
    page = board.Dashboard("sse").uid("sse").tags(["sse"]).refresh("30s").time("now-3h", "now")
    page.description("The live events server; its metrics are described where it shows them, at --admin, /metrics")
    page.tooltip(models.DashboardCursorSync.CROSSHAIR)
    page.with_variable(board.DatasourceVariable("data").label("Prometheus").type("prometheus"))
    page.with_variable(chooser("job", "Job", "label_values(sse_build_info, job)"))
    page.with_variable(chooser("instance", "Server", 'label_values(sse_build_info{job=~"$job"}, instance)'))

    page.with_row(board.Row("Is anything wrong?"))
    down = f"count(up{{{SERVERS}}} == 0) or vector(0)"
    page.with_panel(number("Down", "Servers that do not answer: systemctl status sse", "short", down, 1))
    up = f"time() - max(process_start_time_seconds{{{SERVERS}}})"
    page.with_panel(number("Running for", "Since the newest server was started", "s", up))
    django = f"max(sse_auth_failing{{{SERVERS}}})"
    page.with_panel(number("Django failing", "1: nobody new can listen; log: msg=auth_failed", "short", django, 1))
    journal = f"max(sse_journal_failing{{{SERVERS}}})"
    page.with_panel(number("Journal failing", "1: not on disk; log: msg=journal_failed", "short", journal, 1))
    full = f"max(sse_connections{{{SERVERS}}} / sse_connections_max{{{SERVERS}}})"
    page.with_panel(number("Full", "Connections, of those there may be (LimitNOFILE)", "percentunit", full, 0.9))
    slow = f"max(rate(sse_loop_busy_seconds_total{{{SERVERS}}}[5m]))"
    page.with_panel(number("Loop busy", "At 100 % events begin to wait", "percentunit", slow, 0.9))

    page.with_row(board.Row("Streams"))
    page.with_panel(
        graph(
            "Streams and users",
            "Pages that listen, and the people behind them",
            "short",
            Line(now("sse_streams"), "streams"),
            Line(now("sse_users"), "users"),
            Line(now("sse_streams_behind"), "streams that are given what they missed"),
            Line(now("sse_streams_blocked"), "streams whose client does not read"),
            Line(now("sse_connections"), "connections"),
        )
    )
    page.with_panel(
        graph(
            "Closed, by reason",
            "gone and reset: the client left. slow and stalled: it did not read. The others stand in README.md",
            "cps",
            Line(some(rate("sse_closed_total", by="reason")), "{{reason}}"),
        )
    )
    page.with_panel(
        graph(
            "Refused or put off, by reason",
            "What was answered with no stream, a second",
            "reqps",
            Line(some(rate("sse_refused_total", by="reason")), "{{reason}}"),
            Line(some(rate("sse_accept_errors_total")), "not even accepted"),
        )
    )
    page.with_panel(
        graph(
            "Streams begun and come back",
            "replay: got all it had missed. too_old, unknown, newer: was told to reload",
            "cps",
            Line(rate("sse_streams_opened_total"), "begun"),
            Line(some(rate("sse_resumes_total", by="result")), "came back: {{result}}"),
        )
    )

    page.with_row(board.Row("Events"))
    page.with_panel(
        graph(
            "Events in, a second",
            "What Django sends; refused lines reached nobody (log: msg=bad_datagram)",
            "cps",
            Line(rate("sse_events_total"), "events"),
            Line(rate("sse_datagrams_total"), "datagrams"),
            Line(some(rate("sse_bad_lines_total")), "refused lines"),
            Line(some(rate("sse_revocations_total")), "revocations"),
        )
    )
    page.with_panel(
        graph(
            "Deliveries, a second",
            "An event to one stream; a write carries all that waits for that stream",
            "cps",
            Line(rate("sse_deliveries_total"), "deliveries"),
            Line(rate("sse_writes_total"), "writes"),
        )
    )
    page.with_panel(
        graph(
            "From the datagram to the last write",
            "Of an event, to all its streams that take anything",
            "s",
            Line(quantile(0.5), "p50"),
            Line(quantile(0.99), "p99"),
        )
    )
    page.with_panel(
        graph(
            "Held back",
            "Publishers made to wait because streams had to be written first; answers to them that found no room",
            "cps",
            Line(rate("sse_intake_held_total"), "turns that held publishers back"),
            Line(rate("sse_acks_lost_total"), "answers lost"),
        )
    )

    page.with_row(board.Row("Django and the journal"))
    page.with_panel(
        graph(
            "Questions to Django",
            "connect: a page comes. refresh: is an open stream still allowed?",
            "reqps",
            Line(rate("sse_auth_questions_total", by="phase"), "asked: {{phase}}"),
            Line(rate("sse_auth_answers_total", by="result"), "answer: {{result}}"),
            Line(some(rate("sse_auth_failures_total", by="reason")), "no answer: {{reason}}"),
        )
    )
    page.with_panel(
        graph(
            "Waiting for Django",
            "Questions not answered yet; --auth-queue of them at the most",
            "short",
            Line(now("sse_auth_waiting"), "questions"),
        )
    )
    page.with_panel(
        graph(
            "Journal",
            "not stored: acknowledged, and not on disk",
            "cps",
            Line(rate("sse_journal_errors_total"), "failed attempts to write"),
            Line(rate("sse_journal_not_stored_total"), "events not stored"),
        )
    )
    oldest = Line(f"time() - min(sse_history_oldest_timestamp_seconds{{{SERVERS}}})", "oldest event")
    page.with_panel(graph("How far back a page can come", "Who was away for longer is told to reload", "s", oldest))

    page.with_row(board.Row("The process"))
    cpu = Line(rate("process_cpu_seconds_total"), "CPU")
    busy = Line(rate("sse_loop_busy_seconds_total"), "loop busy")
    page.with_panel(graph("CPU", "1 is a core; the loop has one", "percentunit", cpu, busy, width=6))
    memory = Line(now("process_resident_memory_bytes"), "resident")
    page.with_panel(
        graph("Memory", "Grows with streams, and with events up to --history-bytes", "bytes", memory, width=6)
    )
    sent = Line(rate("sse_sent_bytes_total"), "sent")
    page.with_panel(graph("Network", "What the kernel took for the clients", "Bps", sent, width=6))
    page.with_panel(
        graph(
            "Files and the log",
            "A stream is a file; log lines are dropped rather than waited for",
            "short",
            Line(now("process_open_fds"), "files"),
            Line(now("process_max_fds"), "files there may be"),
            Line(some(rate("sse_log_lines_dropped_total")), "log lines dropped, a second"),
            Line(now("sse_log_failing"), "1: the log fails"),
            width=6,
        )
    )
    return page


if __name__ == "__main__":
    print(JSONEncoder(sort_keys=True, indent=2).encode(dashboard().build()))
