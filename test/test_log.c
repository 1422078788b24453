/* test_log.c - the log: its lines, what never stands in it, a log that fails; and how the server ends. */
#include "world.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const char *const tokens = "boss 1 manager\nfore 789 foreman\nspace \xd0\xb8van=\"7\" r\n";

#define NOW "time=2024-01-01T12:00:00.000Z app=SSE level="
#define EVENT "{\"event\":\"a\",\"data\":1,\"to\":\"all\"}"
#define GOODBYE "d\r\nretry: 3000\n\n\r\n0\r\n\r\n"

Test(log, a_stream_is_two_lines)
{
	int fd;

	world_start(tokens, NULL);
	fd = stream_open("fore");
	cr_assert_str_eq(log_hears(), NOW "info msg=connect conn=1 user=789 streams=1 auth=file from=unix\n");
	world_pass(83400);
	client_ends(fd);
	cr_assert_str_eq(log_hears(), "time=2024-01-01T12:01:23.400Z app=SSE level=info msg=disconnect conn=1 user=789 "
		"reason=gone seconds=83.4 pending=0\n");
	world_stop();
}

Test(log, an_event_is_a_line)
{
	world_start(tokens, NULL);
	stream_open("boss");
	log_hears();
	django_says("{\"event\":\"estimate.created\",\"data\":{\"secret\":1},\"to\":\"all\"}");
	cr_assert_str_eq(log_hears(), NOW "info msg=event name=estimate.created id=1704110400000-1 matched=1\n");
	world_stop();
}

Test(log, R14_values_that_need_it_are_quoted)
{
	world_start(tokens, NULL);
	stream_open("space");
	cr_assert_str_eq(log_hears(), NOW "info msg=connect conn=1 user=\"\xd0\xb8van=\\\"7\\\"\" streams=1 auth=file from=unix\n");
	django_says("{\"op\":\"revoke\",\"user\":\"with space\"}");
	cr_assert_str_eq(log_hears(), NOW "info msg=revoke user=\"with space\" matched=0\n");
	world_stop();
}

Test(log, A18_R14_nothing_a_client_sends_appears)
{
	static const char *const requests[] = {
		"GET /api/v1/sse/events/?token=CANARY HTTP/1.1\r\nHost: CANARY\r\nUser-Agent: CANARY\r\n\r\n",
		"GET /CANARY HTTP/1.1\r\nHost: CANARY\r\nOrigin: CANARY\r\n\r\n",
		"CANARY / HTTP/1.1\r\n\r\n", "GET /api/v1/sse/events/?token=boss&x=CANARY HTTP/1.1\r\nHost: a\r\nLast-Event-ID: CANARY\r\n\r\n",
		"GET /api/v1/sse/stats/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer CANARY\r\n\r\n",
		"GET /%CANARY HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/CANARY\r\n\r\n", "\x1b[31mCANARY\r\n\r\n",
		"POST /api/v1/sse/events/ HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nCANARY",
	};

	world_start(tokens, NULL);
	for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
		int fd = client_open();

		client_says(fd, requests[i]);
		cr_assert_null(strstr(client_hears(fd), "CANARY"), "request %zu", i);
		client_resets(fd);
	}
	cr_assert_null(strstr(log_hears(), "CANARY"));
	cr_assert_null(memmem(world.server->input, sizeof world.server->input, "CANARY", 6), "not even in memory");
	world_stop();
}

Test(log, a_level_leaves_lines_out)
{
	world_start(tokens, "--log-level", "warning", NULL);
	stream_open("boss");
	django_says(EVENT);
	cr_assert_str_eq(log_hears(), "");
	django_says("x");
	cr_assert_str_eq(log_hears(), NOW "warning msg=bad_datagram error=\"expected an object\" at=0\n");
	world_stop();
}

/* ---- a log that fails ---- */

Test(log, R11_a_full_disk_drops_lines_and_says_how_many)
{
	world_start(tokens, NULL);
	stream_open("boss");
	log_hears();
	world.log_errno = ENOSPC;
	for (int i = 0; i < 5; i++)
		cr_assert_not_null(strstr(django_says(EVENT), "\"ok\":true"));
	cr_assert_eq(world.server->log.dropped, 5);
	world.log_errno = 0;
	django_says(EVENT);
	django_says(EVENT);
	cr_assert_str_eq(log_hears(), NOW "info msg=event name=a id=1704110400000-6 matched=1\n"
		NOW "info msg=event name=a id=1704110400000-7 matched=1\n" NOW "error msg=log_lines_dropped lines=5\n");
	django_says(EVENT);
	cr_assert_null(strstr(log_hears(), "dropped"), "once");
	world_stop();
}

Test(log, R11_a_line_that_was_cut_is_ended_before_the_next)
{
	static const char whole[] = NOW "info msg=event name=a id=1704110400000-1 matched=0\n";

	world_start(tokens, NULL);
	world.log_errno = ENOSPC;
	world.log_room = 20;
	django_says(EVENT);
	cr_assert_eq(world.log.len, 20);
	world.log_errno = 0;
	world.log_room = SIZE_MAX;
	django_says(EVENT);
	{
		const char *text = log_hears();

		cr_assert(strncmp(text, whole, 20) == 0 && strncmp(text + 20, "\n" NOW, 1 + strlen(NOW)) == 0, "%s", text);
	}
	cr_assert_eq(world.server->log.dropped, 1);
	world_stop();
}

Test(log, R12_short_writes_lose_nothing)
{
	world_start(tokens, NULL);
	world.log_errno = EAGAIN;
	for (int i = 0; i < 40; i++) {
		world.log_room = (size_t)i;
		django_says(EVENT);
	}
	world.log_room = SIZE_MAX;
	world.log_errno = 0;
	world_settle();
	{
		const char *text = log_hears();
		char wanted[128];

		for (int i = 1; i <= 40; i++) {
			snprintf(wanted, sizeof wanted, NOW "info msg=event name=a id=1704110400000-%d matched=0\n", i);
			cr_assert(strncmp(text, wanted, strlen(wanted)) == 0, "line %d: %.120s", i, text);
			text += strlen(wanted);
		}
		cr_assert_str_eq(text, "");
	}
	world_stop();
}

Test(log, R12_a_reader_that_sleeps_costs_lines_and_not_time)
{
	world_start(tokens, NULL);
	world.log_errno = EAGAIN;
	for (int i = 0; i < 2000; i++)
		django_says(EVENT);
	cr_assert_eq(world.server->count.events, 2000);
	cr_assert_gt(world.server->log.dropped, 0);
	world.log_errno = 0;
	world_settle();
	django_says(EVENT);
	{
		char *said = strstr(log_hears(), "msg=log_lines_dropped lines=");
		unsigned lines, kept = 0;

		cr_assert_not_null(said);
		cr_assert_eq(sscanf(said, "msg=log_lines_dropped lines=%u", &lines), 1);
		for (const char *p = world.log.data; (p = strstr(p, "msg=event")) != NULL; p++)
			kept++;
		cr_assert_eq(lines + kept, 2001);
	}
	world_stop();
}

Test(log, R11_a_loss_is_told_also_when_the_telling_was_lost)
{
	const char *text;
	unsigned lines = 0, more;

	world_start(tokens, NULL);
	world.log_errno = ENOSPC;
	for (int i = 0; i < 10; i++)
		django_says(EVENT);
	world.log_errno = 0;
	django_says(EVENT);
	django_queues(EVENT);
	world.log_errno = ENOSPC; /* the line and the one that tells of the ten are both dropped */
	world_settle();
	world.log_errno = 0;
	for (int i = 0; i < 3; i++)
		django_says(EVENT);
	text = log_hears();
	while ((text = strstr(text, "msg=log_lines_dropped lines=")) != NULL && sscanf(text++, "msg=log_lines_dropped lines=%u", &more) == 1)
		lines += more;
	cr_assert_geq(lines, 11);
	world_stop();
}

/* ---- the end ---- */

Test(drain, R15_streams_get_what_is_theirs_and_a_time_to_come_back)
{
	int boss, fore, old;

	world_start(tokens, "--retry-jitter", "0s", NULL);
	boss = stream_open("boss");
	fore = stream_open("fore");
	old = client_open();
	client_says(old, "GET /api/v1/sse/events/?token=boss HTTP/1.0\r\n\r\n");
	client_hears(old);
	client_room(fore, 30);
	django_says("{\"event\":\"a\",\"data\":1,\"timestamp\":7,\"to\":\"all\"}");
	client_hears(boss);
	client_hears(old);
	log_hears();
	django_queues("{\"event\":\"b\",\"data\":2,\"timestamp\":7,\"to\":\"all\"}"); /* in the socket: accepted */
	world_raises(SIGTERM);
	cr_assert_str_eq(client_hears(boss), "40\r\nid: 1704110400000-2\ndata: {\"event\":\"b\",\"data\":2,\"timestamp\":7}\n\n\r\n" GOODBYE);
	cr_assert_str_eq(client_hears(old), "id: 1704110400000-2\ndata: {\"event\":\"b\",\"data\":2,\"timestamp\":7}\n\nretry: 3000\n\n");
	cr_assert(world.fds[boss].shut && world.fds[old].shut && !world.fds[fore].shut);
	cr_assert_not_null(strstr(log_hears(), "msg=draining streams=3\n"));
	cr_assert(!world.server->stop);
	client_room(fore, SIZE_MAX);
	cr_assert_str_eq(client_hears(fore), "40\r\nid: 1704110400000-1\ndata: {\"event\":\"a\",\"data\":1,\"timestamp\":7}\n\n\r\n"
		"40\r\nid: 1704110400000-2\ndata: {\"event\":\"b\",\"data\":2,\"timestamp\":7}\n\n\r\n" GOODBYE);
	cr_assert_eq(world.server->count.closed[CLOSE_shutdown], 3);
	client_ends(boss);
	client_ends(fore);
	client_ends(old);
	world_settle();
	cr_assert(world.server->stop);
	world_stop();
}

Test(drain, R15_all_that_was_in_the_socket_is_delivered_first)
{
	int boss, events = 0;

	world_start(tokens, "--queue", "10", NULL);
	boss = stream_open("boss");
	for (int i = 0; i < 200; i++)
		django_queues(EVENT);
	world_raises(SIGTERM);
	for (const char *p = client_hears(boss); (p = strstr(p, "\"event\":\"a\"")) != NULL; p++)
		events++;
	cr_assert_eq(events, 200);
	cr_assert(world.fds[boss].shut);
	world_stop();
}

Test(drain, R15_peers_that_never_close_are_waited_for_a_second)
{
	int fd;

	world_start(tokens, NULL);
	fd = stream_open("boss");
	world_raises(SIGINT);
	cr_assert(world.fds[fd].shut && world.fds[fd].open);
	world_pass(1500);
	cr_assert(!world.fds[fd].open);
	cr_assert(world.server->stop);
	world_stop();
}

Test(drain, R15_who_does_not_read_is_waited_for_no_longer_than_the_deadline)
{
	int fd;

	world_start(tokens, "--drain", "3s", NULL);
	fd = stream_open("boss");
	client_room(fd, 5);
	django_says(EVENT);
	world_raises(SIGTERM);
	world_pass(2500);
	cr_assert(world.fds[fd].open && !world.server->stop);
	world_pass(600);
	cr_assert(world.server->stop);
	world_stop();
}

Test(drain, R16_a_second_signal_stops_at_once)
{
	int fd;

	world_start(tokens, NULL);
	fd = stream_open("boss");
	client_room(fd, 5);
	django_says(EVENT);
	world_raises(SIGTERM);
	cr_assert(!world.server->stop);
	world_raises(SIGINT);
	cr_assert(world.server->stop);
	world_stop();
}

Test(drain, R15_with_nobody_there_it_is_over_at_once)
{
	world_start(tokens, NULL);
	world_raises(SIGTERM);
	cr_assert(world.server->stop);
	world_stop();
}

Test(drain, R15_R19_a_connection_that_waits_is_closed_and_one_that_asks_is_put_off)
{
	int idle, kept, half;

	world_start(tokens, "--retry-jitter", "0s", NULL);
	idle = client_open();
	kept = client_open();
	half = client_open();
	stream_open("boss");
	client_says(kept, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
	client_says(half, "GET /api/v1/sse/events/?token=bo");
	world_raises(SIGTERM);
	cr_assert(!world.fds[idle].open && !world.fds[kept].open && world.fds[half].open);
	client_says(half, "ss HTTP/1.1\r\nHost: a\r\n\r\n");
	cr_assert_str_eq(strstr(client_hears(half), "\r\n\r\n"), "\r\n\r\nretry: 3000\n\n");
	cr_assert(world.fds[half].shut);
	cr_assert_eq(world.server->count.refused[REFUSE_draining], 1);
	world_stop();
}

Test(drain, R15_a_kept_connection_whose_answer_waited_is_not_waited_for)
{
	int fd;

	world_start(tokens, "--drain", "1h", NULL);
	fd = client_open();
	world.fds[fd].room = 5;
	client_says(fd, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
	world_raises(SIGTERM);
	cr_assert(world.fds[fd].open);
	client_room(fd, SIZE_MAX);
	cr_assert_not_null(strstr(client_hears(fd), "Allow: GET"));
	world_pass(3000);
	cr_assert(!world.fds[fd].open, "its answer left: nothing more is promised to it");
	cr_assert(world.server->stop);
	world_stop();
}

Test(drain, R16_the_token_file_may_be_read_meanwhile)
{
	int fd;

	world_start(tokens, NULL);
	fd = stream_open("boss");
	client_room(fd, 5);
	django_says(EVENT);
	world_raises(SIGTERM);
	world_tokens("");
	world_raises(SIGHUP);
	cr_assert(!world.server->stop);
	client_room(fd, SIZE_MAX);
	cr_assert_not_null(strstr(client_hears(fd), "auth.revoked"));
	client_ends(fd);
	world_settle();
	cr_assert(world.server->stop);
	world_stop();
}

Test(drain, R15_publishers_that_never_pause_get_half_of_the_time)
{
	int boss;

	world_start(tokens, "--drain", "2s", "--log-level", "error", NULL);
	boss = stream_open("boss");
	for (int i = 0; i < 2 * INTAKE_BATCH; i++)
		django_queues(EVENT);
	world.signals[world.signal_count++] = SIGTERM;
	for (int ms = 0; ms < 1900 && !world.server->stop; ms += 50) {
		world.datagram_first = 0; /* there are always more than one receive takes */
		world.now_ms += 50;
		server_turn(world.server, 0);
	}
	cr_assert_not_null(strstr(client_hears(boss), "retry: 3"), "it had its goodbye");
	cr_assert(world.fds[boss].shut);
	world_stop();
}
