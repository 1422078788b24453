/* test_deliver.c - events reach the streams they are for, in order, once, whatever the kernel takes. */
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const tokens = "boss 1 manager\nfore 789 foreman\nboth 5 manager,foreman\n";

/* An event with this number, and a filler of so many bytes, is put in the socket. */
static void event_queues(int number, int filler, const char *to)
{
	char text[8192];
	int n = snprintf(text, sizeof text, "{\"event\":\"e\",\"data\":[%d,\"%0*d\"],\"to\":%s}", number, filler, 0, to);

	cr_assert_lt(n, (int)sizeof text);
	django_queues(text);
}

/* The numbers of the events in these frames: "1 2 3 "; "k" is a keepalive, "r" a time to come back. */
static const char *numbers(const char *frames)
{
	static struct buf out = {.growable = true};
	const char *end;

	buf_clear(&out);
	for (; *frames != '\0' && strcmp(frames, "[end]") != 0; frames = end + 2) {
		const char *data = strstr(frames, "\"data\":["), *keepalive = strstr(frames, "\"keepalive\"");

		end = strstr(frames, "\n\n");
		cr_assert_not_null(end, "a frame is cut: %.100s", frames);
		if (data != NULL && data < end)
			buf_number(&out, atoi(data + 8));
		else
			buf_text(&out, keepalive != NULL && keepalive < end ? "k" : strncmp(frames, "retry", 5) == 0 ? "r" : "?");
		buf_byte(&out, ' ');
	}
	buf_text(&out, frames);
	buf_byte(&out, '\0');
	return out.data;
}

static const char *client_counts(int fd)
{
	return numbers(client_hears_frames(fd));
}

Test(deliver, a_burst_is_one_write_of_one_piece)
{
	int boss, sends;

	world_start(tokens, NULL);
	boss = stream_open("boss");
	sends = world.fds[boss].sends;
	for (int i = 0; i < 20; i++)
		event_queues(i, 1, "\"all\"");
	world_settle();
	cr_assert_str_eq(client_counts(boss), "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 ");
	cr_assert_eq(world.fds[boss].sends - sends, 1);
	cr_assert_eq(world.fds[boss].pieces, 1);
	world_stop();
}

Test(deliver, an_HTTP_10_stream_gets_the_same_frames_bare)
{
	int old;

	world_start(tokens, NULL);
	old = client_open();
	client_says(old, "GET /api/v1/sse/events/?token=boss HTTP/1.0\r\n\r\n");
	cr_assert_null(strstr(client_hears(old), "chunked"));
	django_says("{\"event\":\"a\",\"data\":1,\"timestamp\":7,\"to\":\"all\"}\n{\"event\":\"b\",\"data\":2,\"timestamp\":8,\"to\":\"all\"}");
	cr_assert_str_eq(client_hears(old), "id: 1704110400000-1\ndata: {\"event\":\"a\",\"data\":1,\"timestamp\":7}\n\n"
		"id: 1704110400000-2\ndata: {\"event\":\"b\",\"data\":2,\"timestamp\":8}\n\n");
	world_pass(31000);
	cr_assert_str_eq(client_hears(old), "data: {\"event\":\"keepalive\",\"timestamp\":1704110430}\n\n");
	world_stop();
}

Test(deliver, S13_a_short_write_at_every_byte_loses_nothing)
{
	size_t whole;
	int boss;

	world_start(tokens, NULL);
	boss = stream_open("both");
	event_queues(1, 1, "\"all\"");
	event_queues(2, 1, "{\"roles\":[\"manager\"]}");
	world_settle();
	whole = strlen(client_hears(boss));
	for (size_t k = 0; k <= whole; k++) {
		int sends = world.fds[boss].sends;

		client_room(boss, k);
		event_queues(1, 1, "\"all\"");
		event_queues(2, 1, "{\"roles\":[\"manager\"]}");
		world_settle();
		cr_assert_eq(world.fds[boss].out.len - world.fds[boss].heard, k);
		cr_assert(k == whole || world.fds[boss].sends == sends + 1, "who took less than all is not asked again");
		client_room(boss, SIZE_MAX);
		cr_assert_str_eq(client_counts(boss), "1 2 ", "at byte %zu", k);
	}
	world_stop();
}

Test(deliver, neighbours_wait_as_a_run_and_others_as_numbers)
{
	int boss, fore, both;

	world_start(tokens, NULL);
	boss = stream_open("boss");
	fore = stream_open("fore");
	both = stream_open("both");
	client_room(boss, 0);
	client_room(both, 0);
	for (int i = 0; i < 12; i++)
		event_queues(i, 1, i < 4 || i % 2 == 0 ? "{\"roles\":[\"manager\"]}" : "{\"roles\":[\"foreman\"]}");
	world_settle();
	cr_assert_eq(client_conn(boss)->u.stream.run, 5);
	cr_assert_eq(client_conn(boss)->u.stream.listed, 3);
	cr_assert_eq(client_conn(both)->u.stream.run, 12);
	client_room(boss, 300);
	event_queues(12, 1, "\"all\"");
	world_settle();
	client_room(boss, SIZE_MAX);
	client_room(both, SIZE_MAX);
	cr_assert_str_eq(client_counts(boss), "0 1 2 3 4 6 8 10 12 ");
	cr_assert_str_eq(client_counts(both), "0 1 2 3 4 5 6 7 8 9 10 11 12 ");
	cr_assert_str_eq(client_counts(fore), "5 7 9 11 12 ");
	cr_assert_eq(world.server->lists.free, 1, "the block is given back");
	world_stop();
}

Test(deliver, S14_R5_one_event_more_than_the_queue_closes_as_slow)
{
	int slow, quick;

	world_start(tokens, "--queue", "10", NULL);
	slow = stream_open("boss");
	quick = stream_open("boss");
	client_room(slow, 0);
	for (int i = 0; i < 10; i++)
		event_queues(i, 1, "\"all\"");
	world_settle();
	cr_assert(world.fds[slow].open);
	event_queues(10, 1, "\"all\"");
	world_settle();
	cr_assert(!world.fds[slow].open && world.fds[slow].reset);
	cr_assert_eq(world.server->count.closed[CLOSE_slow], 1);
	cr_assert_str_eq(client_counts(quick), "0 1 2 3 4 5 6 7 8 9 10 ");
	cr_assert_not_null(strstr(log_hears(), "msg=disconnect conn=1 user=1 reason=slow seconds=0.1 pending=10\n"));
	world_stop();
}

/* The frame that is half written is never dropped for another: either it is finished, or the stream ends. */
Test(deliver, S14_a_full_queue_cuts_nothing_out_of_a_stream)
{
	size_t whole;

	world_start(tokens, "--queue", "3", NULL);
	{
		int probe = stream_open("fore");

		event_queues(0, 1, "\"all\"");
		world_settle();
		whole = strlen(client_hears(probe));
		client_ends(probe);
	}
	for (size_t k = 1; k < whole; k++)
		for (int more = 2; more <= 3; more++) {
			int boss = stream_open("boss");
			const char *heard;

			client_room(boss, k);
			for (int i = 0; i <= more; i++)
				event_queues(i, 1, "\"all\"");
			world_settle();
			cr_assert_eq(world.fds[boss].open, more == 2, "at byte %zu", k);
			if (more == 2) {
				client_room(boss, SIZE_MAX);
				cr_assert_str_eq(client_counts(boss), "0 1 2 ", "at byte %zu", k);
				client_ends(boss);
				continue;
			}
			heard = client_hears(boss);
			cr_assert(world.fds[boss].reset && strlen(heard) == k, "what it had, and a reset");
		}
	cr_assert_eq(world.server->count.closed[CLOSE_slow], whole - 1);
	world_stop();
}

Test(deliver, a_queue_that_was_full_takes_events_again_once_it_is_written)
{
	int boss;

	world_start(tokens, "--queue", "2", NULL);
	boss = stream_open("boss");
	for (int i = 0; i < 100; i += 2) {
		client_room(boss, 0);
		event_queues(i, 1, "\"all\"");
		event_queues(i + 1, 1, "\"all\"");
		world_settle();
		client_room(boss, SIZE_MAX);
		cr_assert_eq(atoi(client_counts(boss)), i);
	}
	world_stop();
}

Test(deliver, S14_an_overwritten_event_closes_who_still_waits_for_it)
{
	int boss, fore;

	world_start(tokens, "--queue", "4", "--datagram", "1K", "--history-bytes", "64K", NULL);
	boss = stream_open("boss");
	fore = stream_open("fore");
	client_room(boss, 0);
	event_queues(0, 1, "\"all\"");
	world_settle();
	for (int i = 1; i <= 90; i++)
		event_queues(i, 700, "{\"roles\":[\"foreman\"]}");
	world_settle();
	cr_assert(world.fds[boss].open, "who waits for nothing new is not looked at yet");
	client_room(boss, SIZE_MAX);
	cr_assert(!world.fds[boss].open && world.fds[boss].reset);
	cr_assert_eq(world.server->count.closed[CLOSE_slow], 1);
	cr_assert_str_eq(client_hears(boss), "");
	cr_assert(world.fds[fore].open);
	cr_assert_eq(atoi(strrchr(client_counts(fore), '8')), 89);
	world_stop();
}

Test(deliver, an_overwritten_event_closes_at_the_next_one_too)
{
	int boss;

	world_start(tokens, "--queue", "4", "--datagram", "1K", "--history-bytes", "64K", NULL);
	boss = stream_open("boss");
	client_room(boss, 20);
	event_queues(0, 1, "\"all\"");
	for (int i = 1; i <= 90; i++)
		event_queues(i, 700, "{\"roles\":[\"foreman\"]}");
	event_queues(91, 1, "\"all\"");
	world_settle();
	cr_assert(!world.fds[boss].open && world.fds[boss].reset);
	cr_assert_eq(world.server->count.closed[CLOSE_slow], 1);
	world_stop();
}

Test(deliver, full_speed_closes_nobody_who_reads)
{
	int fds[60], got = 0;
	const char *frames;

	world_start(tokens, "--queue", "10", "--datagram", "1K", "--history-bytes", "64K", NULL);
	for (int i = 0; i < 60; i++)
		fds[i] = stream_open(i % 3 == 0 ? "boss" : i % 3 == 1 ? "fore" : "both");
	for (int i = 0; i < 400; i++)
		event_queues(i, 1 + i * 7 % 900, i % 5 == 0 ? "{\"roles\":[\"manager\"]}" : "\"all\"");
	world_settle();
	cr_assert_eq(world.server->streams.count, 60);
	cr_assert_eq(world.server->crowded.count, 0);
	cr_assert_gt(world.server->count.held, 0);
	for (int i = 0; i < 60; i++) {
		int next = 0;

		for (frames = client_counts(fds[i]), got = 0; *frames != '\0'; frames = strchr(frames, ' ') + 1, got++) {
			while (i % 3 == 1 && next % 5 == 0)
				next++;
			cr_assert_eq(atoi(frames), next++);
		}
		cr_assert_eq(got, i % 3 == 1 ? 320 : 400);
	}
	world_stop();
}

Test(deliver, D10_intake_waits_while_an_untried_stream_holds_a_queue)
{
	static char acks[1024];
	struct buf ack = buf_fixed(acks, sizeof acks);
	struct span line = span_of("{\"event\":\"e\",\"data\":[1],\"to\":{\"roles\":[\"manager\"]}}");

	world_start(tokens, "--queue", "10", NULL);
	for (int i = 0; i < 3; i++)
		stream_open(i < 2 ? "boss" : "fore");
	for (int i = 0; i < 9; i++)
		datagram_line(world.server, line, &ack);
	cr_assert(deliver_keeps_up(world.server));
	datagram_line(world.server, line, &ack);
	cr_assert(!deliver_keeps_up(world.server));
	cr_assert_eq(world.server->crowded.count, 2);
	deliver_slice(world.server);
	cr_assert(deliver_keeps_up(world.server));
	world_stop();
}

Test(deliver, a_blocked_stream_does_not_hold_the_intake_back)
{
	int slow;

	world_start(tokens, "--queue", "10", NULL);
	slow = stream_open("boss");
	client_room(slow, 0);
	for (int i = 0; i < 10; i++)
		event_queues(i, 1, "\"all\"");
	world_settle();
	world_pass(100);
	cr_assert_eq(client_conn(slow)->u.stream.run, 10);
	cr_assert(deliver_keeps_up(world.server));
	world.fds[slow].room = 0;
	conn_event(world.server, client_conn(slow), EPOLLOUT);
	cr_assert(!deliver_keeps_up(world.server), "it may have room now: it is tried first");
	world_settle();
	cr_assert(deliver_keeps_up(world.server));
	world_stop();
}

Test(deliver, publishers_wait_a_moment_for_a_stream_whose_kernel_is_full)
{
	int64_t from;
	int slow, quick;

	world_start(tokens, "--queue", "10", NULL);
	slow = stream_open("boss");
	quick = stream_open("fore");
	world_pass(10000);
	from = world.now_ms;
	client_room(slow, 0);
	for (int i = 0; i < 11; i++)
		event_queues(i, 1, "\"all\"");
	world.server->intake.readable = true;
	server_turn(world.server, -1);
	server_turn(world.server, -1);
	cr_assert_eq(client_conn(slow)->u.stream.run, 10);
	cr_assert(world.fds[slow].open, "one event more waits in the socket");
	cr_assert(world.wait_ms > 0 && world.wait_ms <= 50, "no descriptor tells when the moment is over");
	world_settle();
	cr_assert(world.now_ms - from >= 100 && world.now_ms - from <= 200, "%d ms", (int)(world.now_ms - from));
	cr_assert(!world.fds[slow].open);
	from = world.now_ms;
	event_queues(11, 1, "\"all\"");
	world_settle();
	cr_assert_eq(world.now_ms, from, "once");
	cr_assert_str_eq(client_counts(quick), "0 1 2 3 4 5 6 7 8 9 10 11 ");
	world_stop();
}

Test(deliver, a_stream_that_reads_within_that_moment_is_not_slow)
{
	int boss;

	world_start(tokens, "--queue", "10", NULL);
	boss = stream_open("boss");
	client_room(boss, 0);
	for (int i = 0; i < 300; i++)
		event_queues(i % 10, 1, "\"all\"");
	for (int i = 0; i < 1000 && world.datagram_first < world.datagram_count; i++) {
		world.server->intake.readable = true;
		server_turn(world.server, 0);
		if (i % 5 == 4) { /* it reads 1000 bytes every 50 ms */
			world.now_ms += 50;
			world.fds[boss].room = 1000;
			conn_event(world.server, client_conn(boss), EPOLLOUT);
		}
	}
	cr_assert(world.fds[boss].open);
	client_room(boss, SIZE_MAX);
	cr_assert_eq(strlen(client_counts(boss)), 600);
	world_stop();
}

Test(deliver, a_stream_that_leaves_while_crowded_is_not_waited_for)
{
	static char acks[4096];
	struct buf ack = buf_fixed(acks, sizeof acks);
	int boss;

	world_start(tokens, "--queue", "10", NULL);
	boss = stream_open("boss");
	stream_open("fore");
	for (int i = 0; i < 10; i++)
		datagram_line(world.server, span_of("{\"event\":\"e\",\"data\":1,\"to\":{\"users\":[1]}}"), &ack);
	cr_assert_eq(world.server->crowded.count, 1);
	client_resets(boss);
	cr_assert_eq(world.server->crowded.count, 0);
	cr_assert(deliver_keeps_up(world.server));
	cr_assert_eq(world.server->dirty.count, 0);
	world_stop();
}

Test(deliver, D10_intake_waits_after_a_quarter_of_the_ring)
{
	static char acks[65536], text[1000];
	struct buf ack = buf_fixed(acks, sizeof acks);
	int count = 0;

	world_start(tokens, "--queue", "100", "--datagram", "1K", "--history-bytes", "160K", NULL);
	stream_open("boss");
	snprintf(text, sizeof text, "{\"event\":\"e\",\"data\":\"%0930d\",\"to\":\"all\"}", 1);
	for (; deliver_keeps_up(world.server) && count < 100; count++)
		datagram_line(world.server, span_of(text), &ack);
	cr_assert(count >= 38 && count <= 43, "160K / 4 of 1 kB each: %d", count);
	cr_assert_eq(world.server->crowded.count, 0);
	deliver_slice(world.server);
	cr_assert(deliver_keeps_up(world.server));
	world_stop();
}

Test(deliver, R23_a_slice_goes_on_where_the_last_one_ended)
{
	int fds[150];

	world_start("a 1 r\nb 2 r\nc 3 r\nd 4 r\ne 5 r\n", NULL);
	for (int i = 0; i < 150; i++)
		fds[i] = stream_open(&"a\0b\0c\0d\0e"[i % 5 * 2]);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 9; i++)
			event_queues(i, 6000, "\"all\""); /* 150 x 9 x 6000 is more than a slice's 4 MB */
		world.server->intake.readable = true;
		server_turn(world.server, 0);
		cr_assert(world.server->dirty.count > 0 && world.server->dirty.count < 150);
		world_settle();
		for (int i = 0; i < 150; i++)
			cr_assert_str_eq(client_counts(fds[i]), "0 1 2 3 4 5 6 7 8 ");
	}
	world_stop();
}

Test(deliver, R23_who_was_written_last_is_not_written_first_again)
{
	int fds[150], sends, last = 0;

	world_start("a 1 r\nb 2 r\nc 3 r\nd 4 r\ne 5 r\n", NULL);
	for (int i = 0; i < 150; i++)
		fds[i] = stream_open(&"a\0b\0c\0d\0e"[i % 5 * 2]);
	sends = world.fds[fds[0]].sends;
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 9; i++)
			event_queues(i, 6000, "\"all\"");
		world.server->intake.readable = true;
		server_turn(world.server, 0);
		while (round == 0 && world.fds[fds[last + 1]].sends > sends)
			last++;
	}
	cr_assert(last > 50 && last < 100, "the first slice ended at %d", last);
	cr_assert_eq(world.fds[fds[0]].sends, sends + 1);
	cr_assert_eq(world.fds[fds[last + 1]].sends, sends + 1);
	world_stop();
}

Test(deliver, a_large_backlog_takes_several_writes)
{
	int boss, sends;

	world_start(tokens, "--queue", "200", NULL);
	boss = stream_open("boss");
	client_room(boss, 0);
	for (int i = 0; i < 190; i++)
		event_queues(i, 6000, "\"all\"");
	world_settle();
	sends = world.fds[boss].sends;
	client_room(boss, SIZE_MAX);
	cr_assert_eq(world.fds[boss].sends - sends, 3, "1.1 MB, half a MB each: %d", world.fds[boss].sends - sends);
	cr_assert_eq(strlen(client_counts(boss)), 10 * 2 + 90 * 3 + 90 * 4);
	world_stop();
}

Test(deliver, more_pieces_than_a_write_takes_go_in_the_next)
{
	int boss, sends;

	world_start(tokens, "--queue", "3000", "--datagram", "256", NULL);
	boss = stream_open("boss");
	client_room(boss, 0);
	for (int i = 0; i < 4800; i++) {
		event_queues(i / 2, 1, i % 2 == 0 ? "{\"roles\":[\"manager\"]}" : "{\"roles\":[\"foreman\"]}");
		if (i % 400 == 399)
			world_settle();
	}
	sends = world.fds[boss].sends;
	client_room(boss, SIZE_MAX);
	cr_assert_eq(world.fds[boss].sends - sends, 3);
	cr_assert_eq(strlen(client_counts(boss)), 10 * 2 + 90 * 3 + 900 * 4 + 1400 * 5);
	world_stop();
}

/* ---- keepalives, stalls, want of kernel memory ---- */

Test(deliver, S16_a_silent_stream_gets_a_keepalive)
{
	int boss;

	world_start(tokens, "--keepalive", "10s", NULL);
	boss = stream_open("boss");
	world_pass(9000);
	cr_assert_str_eq(client_counts(boss), "");
	world_pass(2000);
	cr_assert_str_eq(client_counts(boss), "k ");
	world_pass(5000);
	event_queues(1, 1, "\"all\"");
	world_pass(9000);
	cr_assert_str_eq(client_counts(boss), "1 ");
	world_pass(2000);
	cr_assert_str_eq(client_counts(boss), "k ");
	world_pass(100000);
	cr_assert_eq(strlen(client_counts(boss)) / 2, 10);
	world_stop();
}

/* Only the other clock counts for what is due; the wall clock is what dates and ids show. */
Test(deliver, R21_a_wall_clock_that_jumps_ends_nothing_and_delays_nothing)
{
	static const int64_t jumps[] = {86400000, -86400000, INT64_C(30) * 365 * 86400000, -3600000, 1};
	struct event_id last = {0, 0};
	int boss, idle;

	world_start(tokens, "--idle-timeout", "10m", NULL);
	boss = stream_open("boss");
	idle = client_open();
	client_says(idle, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
	for (size_t i = 0; i < sizeof jumps / sizeof jumps[0]; i++) {
		long long ms;
		unsigned n;

		event_queues(1, 1, "\"all\"");
		world_settle();
		cr_assert_eq(sscanf(client_hears_frames(boss), "id: %lld-%u\n", &ms, &n), 2);
		cr_assert(ms > last.ms || (ms == last.ms && n > last.n), "jump %zu: ids rise", i);
		last.ms = ms;
		last.n = n;
		world.wall_ms += jumps[i];
		world_pass(29000);
		cr_assert_str_eq(client_counts(boss), "", "jump %zu: not before its time", i);
		world_pass(2000);
		cr_assert_str_eq(client_counts(boss), "k ", "jump %zu: nor later", i);
	}
	cr_assert(world.fds[boss].open && world.fds[idle].open);
	world_stop();
}

/* An hour in which the server did not run: everything is due at once, and is done a part at a time. */
Test(deliver, R22_after_an_hour_of_standing_still_all_are_served_in_batches)
{
	enum { STREAMS = 150 };
	int fds[STREAMS], sends = 0;

	world_start("a 1 r\nb 2 r\nc 3 r\nd 4 r\ne 5 r\n", NULL);
	for (int i = 0; i < STREAMS; i++)
		fds[i] = stream_open(&"a\0b\0c\0d\0e"[i % 5 * 2]);
	world_pass(1000);
	for (int i = 0; i < STREAMS; i++)
		sends -= world.fds[fds[i]].sends;
	world.now_ms += 3600000;
	world.wall_ms += 3600000;
	server_turn(world.server, 0);
	for (int i = 0; i < STREAMS; i++)
		sends += world.fds[fds[i]].sends;
	cr_assert(sends > 0 && sends <= 64, "%d in one turn", sends);
	world_pass(1100);
	for (int i = 0; i < STREAMS; i++) {
		cr_assert(world.fds[fds[i]].open, "who reads is not closed");
		cr_assert_str_eq(client_counts(fds[i]), "k ", "one keepalive, and not one for each half minute");
	}
	world_stop();
}

Test(deliver, S13_S16_a_keepalive_never_lands_inside_a_frame)
{
	size_t whole;
	int boss;

	world_start(tokens, "--keepalive", "1s", "--write-stall", "1h", NULL);
	boss = stream_open("boss");
	event_queues(7, 1, "\"all\"");
	world_settle();
	whole = strlen(client_hears(boss));
	for (size_t k = 0; k < whole; k++) {
		client_room(boss, k);
		event_queues(7, 1, "\"all\"");
		world_pass(2500);
		cr_assert_eq(world.fds[boss].out.len - world.fds[boss].heard, k);
		client_room(boss, SIZE_MAX);
		cr_assert_str_eq(client_counts(boss), "7 ", "at byte %zu", k);
	}
	world_stop();
}

Test(deliver, S13_S16_a_keepalive_that_is_cut_is_finished_before_the_next_event)
{
	int boss;

	world_start(tokens, "--keepalive", "1s", "--write-stall", "1h", NULL);
	boss = stream_open("boss");
	for (size_t k = 0; k < 60; k++) {
		client_room(boss, k);
		world_pass(1500);
		event_queues(7, 1, "\"all\"");
		event_queues(8, 1, "\"all\"");
		world_pass(3000);
		client_room(boss, SIZE_MAX);
		cr_assert_str_eq(client_counts(boss), "k 7 8 ", "at byte %zu", k);
	}
	world_stop();
}

Test(deliver, R6_a_stream_that_takes_nothing_is_closed_as_stalled)
{
	int boss, fore;

	world_start(tokens, "--write-stall", "5s", NULL);
	boss = stream_open("boss");
	fore = stream_open("fore");
	client_room(boss, 10);
	event_queues(1, 1, "\"all\"");
	world_pass(4500);
	client_room(boss, 10);
	world_pass(4500);
	cr_assert(world.fds[boss].open, "it took ten bytes in between");
	world_pass(2000);
	cr_assert(!world.fds[boss].open && world.fds[boss].reset);
	cr_assert_eq(world.server->count.closed[CLOSE_stalled], 1);
	cr_assert(world.fds[fore].open);
	world_stop();
}

Test(deliver, R3_R4_a_write_that_found_no_kernel_memory_is_tried_again)
{
	static const int errors[] = {ENOBUFS, ENOMEM, EINTR};
	int boss;

	world_start(tokens, NULL);
	boss = stream_open("boss");
	for (int i = 0; i < 3; i++) {
		world.fds[boss].fails = errors[i];
		event_queues(1, 1, "\"all\"");
		event_queues(2, 1, "\"all\"");
		world_settle();
		cr_assert_str_eq(client_counts(boss), "");
		world_pass(1100);
		cr_assert_str_eq(client_counts(boss), "1 2 ", "errno %d", errors[i]);
	}
	world_stop();
}

Test(deliver, H47_a_stream_that_dies_while_starved_leaves_nothing_behind)
{
	int boss;

	world_start(tokens, NULL);
	boss = stream_open("boss");
	world.fds[boss].fails = ENOBUFS;
	event_queues(0, 1, "\"all\"");
	world_settle();
	cr_assert(client_conn(boss)->starved);
	world.fds[boss].fails = ECONNRESET;
	conn_event(world.server, client_conn(boss), EPOLLIN | EPOLLHUP);
	world.now_ms += 1000;
	world.server->sweep_word = 0; /* the tick of the very turn it dies in looks at it */
	server_turn(world.server, 0);
	cr_assert(!world.fds[boss].open);
	cr_assert(!set_has(&world.server->dirty, (uint32_t)boss), "who is closed has nothing to write");
	world_stop();
}

Test(deliver, H46_R7_a_connection_that_breaks_in_a_write_is_closed)
{
	static const int errors[] = {ECONNRESET, EPIPE, ETIMEDOUT, EHOSTUNREACH};
	int fds[4], fore;

	world_start(tokens, NULL);
	for (int i = 0; i < 4; i++)
		world.fds[fds[i] = stream_open("boss")].fails = errors[i];
	fore = stream_open("fore");
	event_queues(1, 1, "\"all\"");
	world_settle();
	for (int i = 0; i < 4; i++)
		cr_assert(!world.fds[fds[i]].open);
	cr_assert_eq(world.server->count.closed[CLOSE_reset], 4);
	cr_assert_str_eq(client_counts(fore), "1 ");
	world_stop();
}

Test(deliver, R5_who_never_reads_costs_others_nothing)
{
	int dead[30], quick;

	world_start(tokens, "--queue", "50", NULL);
	for (int i = 0; i < 30; i++)
		world.fds[dead[i] = stream_open("boss")].room = 0;
	quick = stream_open("fore");
	for (int i = 0; i < 50; i++) {
		event_queues(i, 1, "\"all\"");
		world_settle();
		cr_assert_eq(atoi(client_counts(quick)), i);
	}
	for (int i = 0; i < 30; i++)
		cr_assert_eq(world.fds[dead[i]].sends, 2, "the greeting, and one try");
	event_queues(50, 1, "\"all\"");
	world_settle();
	cr_assert_eq(world.server->streams.count, 1);
	cr_assert_eq(world.server->count.closed[CLOSE_slow], 30);
	cr_assert_str_eq(client_counts(quick), "50 ");
	world_stop();
}

/* ---- the model: random events to random streams with random room ---- */

enum { MODEL_STREAMS = 40, MODEL_TOKENS = 12, MODEL_ROLES = 4, MODEL_QUEUE = 4, MODEL_HISTORY = 65536 };

/* What a stream must get, and how far it got. */
struct model_stream {
	int fd, token;
	bool open, http10, head_seen, greeted, revoked, ended;
	int *due;
	int due_count, due_cap, got;
	struct buf chunks, frames; /* bytes of either that are not whole */
};

static struct {
	uint64_t random;
	struct model_stream streams[MODEL_STREAMS];
	int events;
	int opened, slow, revokes, gone; /* how often */
	size_t *ends;                    /* bytes that all events up to this one take, at least */
} model = {.random = 88172645463325252u};

static uint32_t roll(uint32_t sides)
{
	model.random ^= model.random << 13;
	model.random ^= model.random >> 7;
	model.random ^= model.random << 17;
	return (uint32_t)(model.random >> 20) % sides;
}

/* Token i is of user i / 2, and its roles are the bits of i. */
static bool model_has_role(int token, int role)
{
	return (token + 1) >> role & 1;
}

static void model_cut(struct buf *b, size_t n)
{
	memmove(b->data, b->data + n, b->len - n);
	b->len -= n;
}

static void model_frame(struct model_stream *m, const char *frame, size_t n)
{
	const char *number;

	cr_assert(!m->revoked, "a frame behind the last: %.*s", (int)n, frame);
	if (strstr(frame, "\"event\":\"keepalive\"") != NULL) {
		cr_assert(m->greeted && strncmp(frame, "data: {", 7) == 0 && n < 60, "%.*s", (int)n, frame);
	} else if (strncmp(frame, "retry: ", 7) == 0) {
		cr_assert(!m->greeted);
	} else if (strstr(frame, "\"event\":\"connected\"") != NULL) {
		cr_assert(!m->greeted);
		m->greeted = true;
	} else if (strstr(frame, "\"event\":\"auth.revoked\"") != NULL) {
		m->revoked = true;
	} else {
		number = strstr(frame, "\"data\":[");
		cr_assert(number != NULL && strncmp(frame, "id: ", 4) == 0, "%.*s", (int)n, frame);
		cr_assert_lt(m->got, m->due_count, "event %d was not for this stream", atoi(number + 8));
		cr_assert_eq(atoi(number + 8), m->due[m->got], "expected event %d, got %d", m->due[m->got], atoi(number + 8));
		m->got++;
	}
}

/* Takes apart what the stream got since the last time. */
static void model_hears(struct model_stream *m)
{
	struct fake_fd *f = &world.fds[m->fd];
	struct buf *b = m->http10 ? &m->frames : &m->chunks;
	char *end;

	buf_byte(&f->out, '\0');
	f->out.len--;
	if (!m->head_seen) {
		end = f->out.len > 0 ? strstr(f->out.data, "\r\n\r\n") : NULL;
		if (end == NULL)
			return;
		cr_assert(strncmp(f->out.data, "HTTP/1.1 200 OK\r\n", 17) == 0);
		m->head_seen = true;
		model_cut(&f->out, (size_t)(end + 4 - f->out.data));
	}
	buf_bytes(b, f->out.data, f->out.len);
	buf_clear(&f->out);
	while (!m->http10 && m->chunks.len > 0) {
		size_t n;

		buf_byte(&m->chunks, '\0');
		m->chunks.len--;
		cr_assert(!m->ended, "bytes behind the last chunk");
		n = strtoul(m->chunks.data, &end, 16);
		cr_assert(end == m->chunks.data + m->chunks.len || *end == '\r', "not a chunk: %.60s", m->chunks.data);
		if (m->chunks.len < (size_t)(end - m->chunks.data) + n + 4)
			break;
		cr_assert(end[1] == '\n' && memcmp(end + 2 + n, "\r\n", 2) == 0);
		buf_bytes(&m->frames, end + 2, n);
		m->ended = n == 0;
		model_cut(&m->chunks, (size_t)(end - m->chunks.data) + n + 4);
	}
	for (;;) {
		size_t n;

		buf_byte(&m->frames, '\0');
		m->frames.len--;
		if ((end = strstr(m->frames.data, "\n\n")) == NULL)
			break;
		n = (size_t)(end + 2 - m->frames.data);
		end[1] = '\0';
		model_frame(m, m->frames.data, n);
		model_cut(&m->frames, n);
	}
	cr_assert(m->http10 || m->frames.len == 0, "a chunk is not whole frames");
}

static void model_open(struct model_stream *m)
{
	char request[128];
	size_t room = roll(3) == 0 ? roll(600) : SIZE_MAX;

	m->fd = client_open();
	m->token = (int)roll(MODEL_TOKENS);
	m->open = true;
	m->http10 = roll(5) == 0;
	m->head_seen = m->greeted = m->revoked = m->ended = false;
	m->due_count = m->got = 0;
	buf_clear(&m->chunks);
	buf_clear(&m->frames);
	world.fds[m->fd].room = room;
	snprintf(request, sizeof request, "GET /api/v1/sse/events/ HTTP/1.%d\r\nHost: a\r\nAuthorization: Bearer t%d\r\n\r\n",
		!m->http10, m->token);
	client_says(m->fd, request);
	cr_assert_eq(client_conn(m->fd)->state, CONN_STREAM);
	model.opened++;
}

/* The server closed it: was it right to? */
static void model_closed(struct model_stream *m)
{
	const struct fake_fd *f = &world.fds[m->fd];
	int waits = m->due_count - m->got;

	model_hears(m);
	m->open = false;
	if (m->revoked) {
		cr_assert(!f->reset);
		return;
	}
	cr_assert(f->reset, "a stream was closed that did nothing wrong");
	cr_assert(f->full, "a stream was closed as slow whose kernel took all it was given");
	cr_assert(waits > MODEL_QUEUE || (waits > 0 && model.ends[model.events] - model.ends[m->due[m->got]] > MODEL_HISTORY / 2),
		"it held only %d events, and the oldest is still in the ring", waits);
	model.slow++;
}

static void model_look(void)
{
	for (int i = 0; i < MODEL_STREAMS; i++) {
		struct model_stream *m = &model.streams[i];

		if (!m->open)
			continue;
		if (!world.fds[m->fd].open) {
			model_closed(m);
			continue;
		}
		model_hears(m);
		cr_assert_geq(m->due_count, m->got);
		if (!world.fds[m->fd].full && !m->ended && client_conn(m->fd)->state == CONN_STREAM)
			cr_assert_eq(m->got, m->due_count, "the kernel took all it was given, and events wait");
	}
}

/* An event for a random audience is put in the socket. */
static void model_event(void)
{
	bool users[MODEL_TOKENS / 2] = {false}, roles[MODEL_ROLES] = {false}, except[MODEL_TOKENS / 2] = {false};
	bool all = roll(4) == 0, anyone = false, excepting = roll(3) == 0;
	char to[256] = "\"all\"", text[1400];
	int n = 0;

	if (!all) {
		n = snprintf(to, sizeof to, "{\"users\":[");
		for (int i = 0; i < MODEL_TOKENS / 2; i++)
			if ((users[i] = roll(4) == 0)) {
				n += snprintf(to + n, sizeof to - (size_t)n, roll(2) ? "%s%d" : "%s\"%d\"", anyone ? "," : "", i);
				anyone = true;
			}
		n += snprintf(to + n, sizeof to - (size_t)n, "%s999],\"roles\":[\"nobody\"", anyone ? "," : "");
		for (int i = 0; i < MODEL_ROLES; i++)
			if ((roles[i] = roll(4) == 0))
				n += snprintf(to + n, sizeof to - (size_t)n, ",\"r%d\"", i);
		snprintf(to + n, sizeof to - (size_t)n, "]}");
	}
	n = snprintf(text, sizeof text, "{\"event\":\"e\",\"data\":[%d,\"%0*d\"],\"to\":%s", model.events,
		(int)(roll(3) == 0 ? roll(600) : roll(30)), 0, to);
	if (excepting) {
		n += snprintf(text + n, sizeof text - (size_t)n, ",\"except\":{\"users\":[999");
		for (int i = 0; i < MODEL_TOKENS / 2; i++)
			if ((except[i] = roll(4) == 0))
				n += snprintf(text + n, sizeof text - (size_t)n, ",%d", i);
		n += snprintf(text + n, sizeof text - (size_t)n, "]}");
	}
	snprintf(text + n, sizeof text - (size_t)n, "}");
	django_queues(text);
	for (int i = 0; i < MODEL_STREAMS; i++) {
		struct model_stream *m = &model.streams[i];
		bool due = all;

		if (!m->open || !world.fds[m->fd].open || client_conn(m->fd)->state != CONN_STREAM)
			continue;
		due |= users[m->token / 2];
		for (int role = 0; role < MODEL_ROLES; role++)
			due |= roles[role] && model_has_role(m->token, role);
		if (!due || except[m->token / 2])
			continue;
		if (m->due_count == m->due_cap)
			m->due = realloc(m->due, (size_t)(m->due_cap = m->due_cap * 2 + 64) * sizeof *m->due);
		m->due[m->due_count++] = model.events;
	}
	model.ends[model.events + 1] = model.ends[model.events] + (size_t)n / 2;
	model.events++;
}

static void model_revoke(struct model_stream *m)
{
	char text[64];
	int user = m->token / 2;

	snprintf(text, sizeof text, "{\"op\":\"revoke\",\"user\":%d}", user);
	django_says(text);
	model.revokes++;
	for (int i = 0; i < MODEL_STREAMS; i++) {
		m = &model.streams[i];
		if (!m->open || m->token / 2 != user || !world.fds[m->fd].open)
			continue;
		cr_assert_neq(client_conn(m->fd)->state, CONN_STREAM);
		model_hears(m);
		while (!m->revoked || (!m->http10 && !m->ended)) {
			cr_assert(world.fds[m->fd].full, "the goodbye is missing");
			client_room(m->fd, 1 + roll(40));
			model_hears(m);
		}
		cr_assert(world.fds[m->fd].shut);
		client_ends(m->fd);
		cr_assert(!world.fds[m->fd].open);
		m->open = false;
	}
}

static void model_step(void)
{
	struct model_stream *m = &model.streams[roll(MODEL_STREAMS)];
	uint32_t what = roll(100);

	if (!m->open) {
		if (what < 60)
			model_open(m);
		return;
	}
	if (what < 50) {
		for (uint32_t n = roll(8) == 0 ? 40 : 1 + roll(4); n > 0; n--)
			model_event();
		world_settle();
	} else if (what < 70) {
		client_room(m->fd, roll(4) == 0 ? 0 : roll(500));
	} else if (what < 82) {
		world.fds[m->fd].fails = 0;
		client_room(m->fd, SIZE_MAX);
		if (world.fds[m->fd].open) {
			model_hears(m);
			cr_assert_eq(m->got, m->due_count, "there is room, and events wait");
		}
	} else if (what < 88) {
		world_pass(100 * (1 + roll(5)));
	} else if (what < 91) {
		world.fds[m->fd].fails = roll(2) ? EAGAIN : EINTR;
		world.fds[m->fd].room = 0;
		for (uint32_t n = roll(3); n > 0; n--)
			model_event();
		world_settle();
	} else if (what < 92) {
		model_revoke(m);
	} else if (what < 93) {
		if (roll(2))
			client_ends(m->fd);
		else
			client_resets(m->fd);
		cr_assert(!world.fds[m->fd].open);
		model_hears(m);
		m->open = false;
		model.gone++;
	}
}

Test(deliver, every_stream_gets_its_events_in_order_and_once)
{
	enum { STEPS = 40000 };
	char text[1024];
	int n = 0;

	model.ends = calloc(STEPS * 45, sizeof *model.ends);
	for (int i = 0; i < MODEL_TOKENS; i++) {
		n += snprintf(text + n, sizeof text - (size_t)n, "t%d %d ", i, i / 2);
		for (int role = 0, some = 0; role < MODEL_ROLES; role++)
			if (model_has_role(i, role))
				n += snprintf(text + n, sizeof text - (size_t)n, "%sr%d", some++ ? "," : "", role);
		n += snprintf(text + n, sizeof text - (size_t)n, "\n");
	}
	world_start(text, "--queue", "4", "--datagram", "1400", "--history-bytes", "64K", "--keepalive", "1s", "--write-stall",
		"1h", "--log-level", "error", NULL);
	for (int i = 0; i < MODEL_STREAMS; i++)
		model.streams[i].chunks = model.streams[i].frames = buf_growable();
	for (int step = 0; step < STEPS; step++) {
		model_step();
		model_look();
		if (step % 64 == 0)
			buf_clear(&world.acks);
	}
	for (int i = 0; i < MODEL_STREAMS; i++)
		if (model.streams[i].open && world.fds[model.streams[i].fd].open)
			client_room(model.streams[i].fd, SIZE_MAX);
	model_look();
	cr_assert_eq(world.server->crowded.count, 0);
	cr_assert(model.opened > 500 && model.slow > 100 && model.revokes > 100 && model.gone > 100,
		"%d opened, %d slow, %d revokes, %d gone", model.opened, model.slow, model.revokes, model.gone);
	cr_assert_gt(world.server->ring.end, 20 * MODEL_HISTORY);
	cr_assert_eq(world.server->count.bad_lines, 0);
	for (int i = 0; i < MODEL_STREAMS; i++) {
		free(model.streams[i].due);
		buf_free(&model.streams[i].chunks);
		buf_free(&model.streams[i].frames);
	}
	free(model.ends);
	world_stop();
}
