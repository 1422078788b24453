/* test_operator.c - what the operator sees: --admin, {"op":"status"}, sse --status, and what systemd is told. */
#include "world.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const tokens = "boss 1 manager\nfore 789 foreman\n";

/* Asks --admin; returns the whole answer. */
static const char *asks(const char *path)
{
	char request[256];
	int fd;

	world.admin = true;
	fd = client_open();
	world.admin = false;
	snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", path);
	client_says(fd, request);
	world_settle();
	return client_hears(fd);
}

/* A sample of /metrics; -1: there is none of this name. */
static double sample(const char *name)
{
	const char *page = asks("/metrics");
	size_t n = strlen(name);

	for (const char *line = page; (line = strchr(line, '\n')) != NULL;)
		if (strncmp(++line, name, n) == 0 && line[n] == ' ')
			return strtod(line + n + 1, NULL);
	return -1;
}

static void expect_sample(const char *name, double wanted)
{
	double got = sample(name);

	cr_expect(got == wanted, "%s is %f, not %f", name, got, wanted);
}

/* ---- the listener ---- */

Test(operator, its_paths_are_on_its_listener_only)
{
	static const char *const paths[] = {"/metrics", "/livez", "/readyz", "/api/v1/sse/metrics", "/api/v1/sse/events",
		"/api/v1/sse/stats"};
	static const char *const rows[] = {"/metrics", "/livez", "/readyz", "/readyz/"};

	world_start(tokens, NULL);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		cr_expect(strncmp(asks(rows[i]), "HTTP/1.1 200 ", 13) == 0, "%s", rows[i]);
	cr_expect_str_eq(strstr(asks("/livez"), "\r\n\r\n"), "\r\n\r\nok\n");
	for (size_t i = 3; i < sizeof paths / sizeof paths[0]; i++)
		cr_expect(strncmp(asks(paths[i]), "HTTP/1.1 404 ", 13) == 0, "%s", paths[i]);
	for (size_t i = 0; i < 4; i++) {
		int fd = client_open();
		char request[128];

		snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", paths[i]);
		client_says(fd, request);
		world_settle();
		cr_expect(strncmp(client_hears(fd), "HTTP/1.1 404 ", 13) == 0, "a browser may not see %s", paths[i]);
	}
	world_stop();
}

/* FAULTS R29 */
Test(operator, is_answered_in_a_full_house_and_counts_against_no_limit)
{
	world_start(tokens, "--max-connections", "2", "--requests-per-address", "1", "--connections-per-address", "1", NULL);
	for (int i = 0; i < 3; i++)
		client_open();
	for (int i = 0; i < 10; i++)
		cr_expect(strncmp(asks("/livez"), "HTTP/1.1 200 ", 13) == 0);
	expect_sample("sse_connections_max", 2);
	expect_sample("sse_refused_total{reason=\"too_many_requests\"}", 0);
	world_stop();
}

/* ---- readiness ---- */

/* FAULTS R15 */
Test(operator, is_not_ready_while_draining)
{
	int fd;

	world_start(tokens, NULL);
	fd = stream_open("boss");
	client_room(fd, 0);
	django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
	cr_expect_str_eq(strstr(asks("/readyz"), "\r\n\r\n"), "\r\n\r\nready\njournal off\ndjango off\n");
	world_raises(SIGTERM);
	cr_expect(strncmp(asks("/readyz"), "HTTP/1.1 503 ", 13) == 0);
	cr_expect_str_eq(strstr(asks("/readyz"), "\r\n\r\n"), "\r\n\r\nnot ready: draining\njournal off\ndjango off\n");
	cr_expect(strncmp(asks("/livez"), "HTTP/1.1 200 ", 13) == 0);
	expect_sample("sse_draining", 1);
	world.admin = true;
	client_open();
	client_room(fd, SIZE_MAX);
	client_ends(fd);
	world_settle();
	cr_expect(world.server->stop, "an idle connection of the operator's holds nothing up");
	world_stop();
}

Test(operator, is_not_ready_while_datagrams_wait)
{
	int fd;

	world_start(tokens, NULL);
	world_pass(60000);
	cr_expect(strncmp(asks("/readyz"), "HTTP/1.1 200 ", 13) == 0, "no datagram for a minute is no fault");
	django_queues("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
	world.server->intake.readable = true; /* as epoll would have it */
	world.server->intake.moved_ms = world.now_ms;
	for (int i = 0; i < 140; i++) {
		world.receive_errno = ENOMEM;
		server_turn(world.server, 0);
		world.now_ms += 50;
	}
	world.admin = true;
	fd = client_open();
	world.admin = false;
	client_says(fd, "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
	for (int i = 0; i < 3; i++) {
		world.receive_errno = ENOMEM;
		server_turn(world.server, 0);
	}
	cr_expect(strstr(client_hears(fd), "not ready: datagrams have waited for 6 s\n") != NULL);
	cr_expect(strncmp(asks("/readyz"), "HTTP/1.1 200 ", 13) == 0, "they were taken in meanwhile");
	world_stop();
}

/* Django answers with an error, and the disk is full. */
static void django_and_disk_fail(void)
{
	int fd = client_open();

	client_says(fd, "GET /api/v1/sse/events/?token=t HTTP/1.1\r\nHost: a\r\n\r\n");
	world_settle();
	django_answers(django_asked("t"), "500 Oh", "", "{}");
	world.disk_errno = ENOSPC;
	django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
}

Test(operator, readyz_tells_what_else_is_wrong)
{
	world_start(NULL, "--auth-url", "http://127.0.0.1:8000/auth", "--journal", world_journal(), NULL);
	cr_expect_str_eq(strstr(asks("/readyz"), "\r\n\r\n"), "\r\n\r\nready\njournal ok\ndjango not asked yet\n");
	django_and_disk_fail();
	cr_expect_str_eq(strstr(asks("/readyz"), "\r\n\r\n"), "\r\n\r\nready\njournal failing\ndjango failing\n");
	expect_sample("sse_auth_failing", 1);
	expect_sample("sse_auth_failures_total{reason=\"status\"}", 1);
	expect_sample("sse_journal_failing", 1);
	expect_sample("sse_journal_not_stored_total", 1);
	world.disk_errno = 0;
	world_pass(2000);
	expect_sample("sse_journal_failing", 0);
	world_stop();
}

/* ---- metrics ---- */

Test(metrics, count_what_happened)
{
	int boss, bad;

	world_start(tokens, NULL);
	boss = stream_open("boss");
	bad = client_open();
	client_says(bad, "GET /api/v1/sse/events/?token=wrong HTTP/1.1\r\nHost: a\r\n\r\n");
	django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}\n{\"event\":\"a\"}");
	expect_sample("sse_streams", 1);
	expect_sample("sse_users", 1);
	expect_sample("sse_events_total", 1);
	expect_sample("sse_deliveries_total", 1);
	expect_sample("sse_lines_total", 2);
	expect_sample("sse_bad_lines_total", 1);
	expect_sample("sse_refused_total{reason=\"unknown_token\"}", 1);
	expect_sample("sse_refused_total{reason=\"denied_token\"}", 0);
	client_ends(boss);
	world_settle();
	expect_sample("sse_closed_total{reason=\"gone\"}", 1);
	expect_sample("sse_streams", 0);
	expect_sample("sse_streams_opened_total", 1);
	cr_expect(sample("process_resident_memory_bytes") > 0);
	cr_expect(sample("process_open_fds") > 2);
	world_stop();
}

/* Two lines of a datagram wait until a full stream has had its time: that counts, for these two. */
Test(metrics, latency_is_from_the_datagram_to_the_last_write)
{
	int slow;

	world_start(tokens, "--queue", "4", NULL);
	slow = stream_open("boss");
	stream_open("fore");
	client_room(slow, 0);
	django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
	django_says("{\"event\":\"b\",\"data\":1,\"to\":\"all\"}\n{\"event\":\"c\",\"data\":1,\"to\":\"all\"}\n"
		"{\"event\":\"d\",\"data\":1,\"to\":\"all\"}");
	expect_sample("sse_event_write_seconds_bucket{le=\"0.0005\"}", 2);
	expect_sample("sse_event_write_seconds_bucket{le=\"0.05\"}", 2);
	expect_sample("sse_event_write_seconds_bucket{le=\"0.25\"}", 4);
	expect_sample("sse_event_write_seconds_bucket{le=\"+Inf\"}", 4);
	expect_sample("sse_event_write_seconds_count", 4);
	world_stop();
}

/* What was read from the journal is nothing that was taken in. */
Test(metrics, latency_does_not_count_what_was_there_before)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}\n{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
	expect_sample("sse_event_write_seconds_count", 2);
	world_restart(true);
	expect_sample("sse_event_write_seconds_count", 0);
	expect_sample("sse_history_events", 2);
	django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
	expect_sample("sse_event_write_seconds_count", 1);
	world_stop();
}

/* ---- status ---- */

static struct status asked_status(void)
{
	struct status status;
	const char *ack = django_says("{\"op\":\"status\"}");

	cr_assert(status_read(span_of(ack), &status), "%s", ack);
	return status;
}

Test(status, tells_how_it_is)
{
	struct status before, now;
	struct buf text = buf_growable();
	int fd;

	world_start(tokens, NULL);
	stream_open("boss");
	before = asked_status();
	world_pass(1000);
	fd = client_open();
	client_says(fd, "GET /api/v1/sse/events/?token=fore&lastEventId=no HTTP/1.1\r\nHost: a\r\n\r\n");
	django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}\n{\"event\":\"b\",\"data\":1,\"to\":\"all\"}");
	now = asked_status();
	cr_expect_str_eq(now.version, SSE_VERSION);
	cr_expect_eq(now.uptime_ms - before.uptime_ms, 1000);
	cr_expect_eq(now.streams, 2);
	cr_expect_eq(now.users, 2);
	cr_expect_eq(now.events, 2);
	cr_expect_eq(now.deliveries, 4);
	cr_expect_eq(now.resynced, 1);
	cr_expect_eq(now.history_events, 2);
	cr_expect_eq(now.journal, 0);
	status_show(&before, &now, &text);
	buf_byte(&text, '\0');
	cr_expect(strstr(text.data, "  streams     2 of 2 users; 2 of 188 connections\n") != NULL, "%s", text.data);
	cr_expect(strstr(text.data, "  events      2.0 a second; 2 since the start\n") != NULL, "%s", text.data);
	cr_expect(strstr(text.data, "  deliveries  4.0 a second; 4\n") != NULL, "%s", text.data);
	cr_expect(strstr(text.data, "0 without a gap, 1 told to reload\n") != NULL, "%s", text.data);
	for (const char *line = text.data, *end; (end = strchr(line, '\n')) != NULL; line = end + 1)
		cr_expect(end - line <= 80, "%.*s", (int)(end - line), line);
	buf_free(&text);
	world_stop();
}

Test(status, says_what_is_wrong_in_capitals)
{
	struct status before = {.version = "1.0"}, now = {.version = "1.0", .uptime_ms = 15180000, .held = 1, .answered_ms = 1500,
		.auth = 2, .auth_questions = 7, .auth_failures = 3, .auth_waiting = 2, .journal = 2, .journal_segments = 4, .journal_errors = 5,
		.not_stored = 6, .log_lines_dropped = 8, .acks_lost = 9, .log_failing = 1, .dirty = 3, .blocked = 2, .behind = 1,
		.history_events = 2, .newest_ms = 100000000, .history_oldest_ms = 1};
	static const char *const lines[] = {"sse 1.0, running for 4 h 13 min, pid 0\n",
		"\n              HELD BACK: streams had to be written before more were taken in\n",
		"\n              WAITING: this question took 1500 ms to be answered\n",
		"  Django      FAILING (log: auth_failed): 7 questions, 3 failed, 2 wait\n",
		"  journal     FAILING (log: journal_failed): 4 files, 5 errors, 6 events not stored\n",
		"  history     2 events, the last 1 d 3 h\n", "  lost        8 lines of the log, 9 answers to datagrams\n",
		"  to write    3 streams; 2 do not read; 1 are being given what they missed\n",
		"  log         FAILING: the disk is full, or the file is gone (stderr says which)\n"};
	struct buf text = buf_growable();

	status_show(&before, &now, &text);
	buf_byte(&text, '\0');
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
		cr_expect(strstr(text.data, lines[i]) != NULL, "no \"%s\" in %s", lines[i], text.data);
	buf_free(&text);
}

Test(status, of_another_version_is_read_as_far_as_it_goes)
{
	struct status status;

	cr_expect(status_read(span_of("{\"ok\":true,\"status\":{\"version\":\"9.9\",\"new\":{\"a\":[1]},\"streams\":7,\"users\":\"x\"}}"), &status));
	cr_expect_str_eq(status.version, "9.9");
	cr_expect_eq(status.streams, 7);
	cr_expect_eq(status.users, 0);
	cr_expect(status_read(span_of("{\"status\":{\"streams\":-3,\"version\":7}}"), &status));
	cr_expect_eq(status.streams, 0);
}

Test(status, of_something_else_is_none)
{
	static const char *const rows[] = {"", "{", "[]", "{}", "{\"ok\":false,\"error\":\"op: expected revoke\",\"at\":0}",
		"{\"status\":7}", "{\"status\":{}", "{\"status\":{7}}", "{\"status\":{}}x", "{\"status\":{\"streams\":}}",
		"{\"status\":{\"version\":\"0123456789012345678901234567890123456789\",\"streams\":1}} x"};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct status status;

		cr_expect_not(status_read(span_of(rows[i]), &status), "%s", rows[i]);
	}
}

/* ---- the service manager ---- */

static void manager_listens(bool watchdog, int64_t period_ms)
{
	world.server->manager = (struct manager){.fd = WORLD_MANAGER, .watchdog = watchdog, .period_ms = period_ms,
		.told_ms = world.now_ms, .due_ms = world.now_ms + period_ms};
}

static void managed(bool watchdog, int64_t period_ms)
{
	world_start(tokens, NULL);
	manager_listens(watchdog, period_ms);
}

Test(manager, hears_that_the_loop_runs_also_when_nothing_happens)
{
	managed(true, 5000);
	server_turn(world.server, -1);
	cr_expect_eq(world.wait_ms, 5000, "it wakes up for that alone");
	world.now_ms += 5000;
	server_turn(world.server, -1);
	cr_expect_str_eq(world.told, "WATCHDOG=1\nSTATUS=0 streams of 0 users, 0 events a second\n");
	stream_open("boss");
	for (int i = 0; i < 10; i++)
		django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
	world_pass(5000);
	cr_expect_str_eq(world.told, "WATCHDOG=1\nSTATUS=1 streams of 1 users, 2 events a second\n");
	cr_expect_eq(world.tells, 2);
	world_stop();
}

Test(manager, without_a_watchdog_hears_only_how_it_is)
{
	managed(false, 10000);
	world_pass(10000);
	cr_expect_str_eq(world.told, "STATUS=0 streams of 0 users, 0 events a second\n");
	world_stop();
}

Test(manager, hears_what_is_wrong)
{
	world_start(NULL, "--auth-url", "http://127.0.0.1:8000/auth", "--journal", world_journal(), NULL);
	manager_listens(false, 500);
	django_and_disk_fail();
	world_pass(500);
	cr_expect_str_eq(world.told, "STATUS=0 streams of 0 users, 2 events a second; the journal cannot be written; Django does not answer\n");
	world.disk_errno = 0;
	world_stop();
}

Test(manager, hears_of_a_reload_and_of_the_end)
{
	managed(false, 10000);
	world_raises(SIGHUP);
	cr_expect_eq(world.tells, 2);
	cr_expect_str_eq(world.told, "READY=1\nSTATUS=0 streams of 0 users, 0 events a second\n");
	world_raises(SIGTERM);
	cr_expect_str_eq(world.told, "STOPPING=1\nSTATUS=draining, 0 streams of 0 users, 0 events a second\n"
		"EXTEND_TIMEOUT_USEC=10000000\n");
	world_stop();
}

Test(manager, that_is_gone_is_said_once)
{
	managed(true, 1000);
	world.manager_errno = ECONNREFUSED;
	world_pass(5000);
	cr_expect(strstr(log_hears(), "msg=notify_failed error=\"Connection refused\"") != NULL);
	world_pass(5000);
	cr_expect_str_eq(log_hears(), "");
	world.manager_errno = 0;
	world_pass(1000);
	cr_expect_eq(world.tells, 1);
	world_stop();
}

Test(manager, that_is_busy_is_told_again)
{
	managed(true, 5000);
	world.manager_errno = EAGAIN;
	world_raises(SIGTERM);
	cr_expect_eq(world.tells, 0);
	cr_expect(strstr(log_hears(), "notify_failed") == NULL, "that is no fault");
	server_turn(world.server, -1);
	cr_expect(world.wait_ms >= 0 && world.wait_ms <= 100, "it is tried again soon: %d", world.wait_ms);
	world.manager_errno = 0;
	world_pass(100);
	cr_expect(strncmp(world.told, "STOPPING=1\nWATCHDOG=1\nSTATUS=draining, ", 39) == 0, "%s", world.told);
	world_stop();
}

/* ---- the end ---- */

/* What was received is taken in, however little time there is: nobody else has it. */
Test(drain, takes_in_what_was_received)
{
	char lines[64 * 48] = "";
	int slow;

	world_start(tokens, "--queue", "4", "--drain", "0s", NULL);
	slow = stream_open("boss");
	client_room(slow, 0);
	for (int i = 0; i < 40; i++)
		strcat(lines, "{\"event\":\"a\",\"data\":1,\"to\":\"all\"}\n");
	django_queues(lines);
	django_queues(lines);
	django_queues(lines);
	server_turn(world.server, 0);
	server_turn(world.server, 0);
	cr_assert_lt(world.server->count.events, 100, "publishers are held back for the slow one");
	world_raises(SIGTERM);
	cr_expect(world.server->stop);
	cr_expect_eq(world.server->count.events, 120);
	cr_expect_eq(world.acks_sent, 3, "and every line is answered");
	world_stop();
}
