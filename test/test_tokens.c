/* test_tokens.c - the token file: who may listen, and what reading it again does. */
#include "world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REVOKED "20\r\ndata: {\"event\":\"auth.revoked\"}\n\n\r\n0\r\n\r\n"
#define TO_BOSSES "{\"event\":\"a\",\"data\":1,\"to\":{\"roles\":[\"manager\"]}}"

/* Reads the token file with this text; NULL if it was good, else the mistake, without the path. */
static const char *reads(const char *text)
{
	static char bytes[512];
	struct buf error = buf_fixed(bytes, sizeof bytes - 1);
	const char *what;

	world_tokens(text);
	if (tokens_load(world.server, &error)) {
		world_settle();
		return NULL;
	}
	cr_assert(!error.failed);
	bytes[error.len] = '\0';
	cr_assert(strncmp(bytes, "--token-file: /tmp/sse-world-", 29) == 0, "%s", bytes);
	what = strstr(bytes, "/tokens:");
	cr_assert_not_null(what);
	return what + 8;
}

/* The status this token gets for a stream. The connection is closed again. */
static int status_of(const char *token)
{
	int fd = client_open(), status;
	char request[512];

	snprintf(request, sizeof request, "GET /api/v1/sse/events/?token=%s HTTP/1.1\r\nHost: a\r\n\r\n", token);
	client_says(fd, request);
	status = atoi(client_hears(fd) + 9);
	client_ends(fd);
	return status;
}

static bool said(const char *ack, uint32_t matched)
{
	char text[32];

	snprintf(text, sizeof text, "\"matched\":%u}", matched);
	return strstr(ack, text) != NULL;
}

Test(tokens, a_new_token_may_listen)
{
	world_start("boss 1 manager\n", NULL);
	cr_assert_eq(status_of("new"), 401);
	cr_assert_null(reads("boss 1 manager\nnew 2 manager\n"));
	cr_assert_eq(status_of("new"), 200);
	cr_assert_eq(status_of("boss"), 200);
	world_stop();
}

Test(tokens, A17_a_token_that_is_gone_ends_its_streams)
{
	int gone, kept;

	world_start("boss 1 manager\ngone 1 manager\n", NULL);
	gone = stream_open("gone");
	kept = stream_open("boss");
	log_hears();
	cr_assert_null(reads("boss 1 manager\n"));
	cr_assert_str_eq(client_hears(gone), REVOKED);
	cr_assert(world.fds[gone].shut);
	cr_assert_str_eq(client_hears(kept), "");
	cr_assert_not_null(strstr(log_hears(), "msg=disconnect conn=1 user=1 reason=revoked"));
	cr_assert_eq(status_of("gone"), 401);
	cr_assert(said(django_says(TO_BOSSES), 1));
	client_ends(gone);
	cr_assert(!world.fds[gone].open);
	world_stop();
}

Test(tokens, a_raw_stream_ends_without_chunks)
{
	int fd;

	world_start("boss 1 manager\n", NULL);
	fd = client_open();
	client_says(fd, "GET /api/v1/sse/events/?token=boss HTTP/1.0\r\n\r\n");
	client_hears(fd);
	cr_assert_null(reads(""));
	cr_assert_str_eq(client_hears(fd), "data: {\"event\":\"auth.revoked\"}\n\n");
	cr_assert(world.fds[fd].shut);
	world_stop();
}

Test(tokens, S13_a_frame_is_finished_before_its_stream_is_revoked)
{
	const size_t whole = strlen("49\r\nid: 1704110400000-1\ndata: {\"event\":\"a\",\"data\":1,\"timestamp\":1704110400}\n\n\r\n");

	world_start("boss 1 manager\nother 2 x\n", NULL);
	for (size_t k = 0; k < 80; k++) {
		int fd = stream_open("boss");

		client_room(fd, k);
		django_says(TO_BOSSES);
		django_says(TO_BOSSES);
		cr_assert_null(reads("other 2 x\n"));
		cr_assert(!world.fds[fd].shut);
		cr_assert_eq(world.server->streams.count, 0);
		client_room(fd, SIZE_MAX);
		if (k == 0)
			cr_assert_str_eq(client_hears(fd), REVOKED);
		else if (k < whole)
			cr_assert_str_eq(strstr(client_hears(fd), "\n\n\r\n"), "\n\n\r\n" REVOKED, "at byte %zu", k);
		client_ends(fd);
		cr_assert_null(reads("boss 1 manager\nother 2 x\n"));
	}
	world_stop();
}

Test(tokens, the_goodbye_follows_a_greeting_that_waits)
{
	world_start("boss 1 manager\n", NULL);
	for (size_t k = 0; k < 300; k++) {
		int fd = client_open();
		const char *text;

		world.fds[fd].room = k;
		client_says(fd, "GET /api/v1/sse/events/?token=boss HTTP/1.1\r\nHost: a\r\n\r\n");
		django_says(TO_BOSSES);
		cr_assert_null(reads(""));
		client_room(fd, SIZE_MAX);
		text = client_hears(fd);
		cr_assert_not_null(strstr(text, "\"connected\""));
		cr_assert_not_null(strstr(text, "\n\n\r\n" REVOKED), "at byte %zu: %s", k, text);
		client_ends(fd);
		cr_assert_null(reads("boss 1 manager\n"));
	}
	world_stop();
}

Test(tokens, changed_roles_count_on_the_open_stream)
{
	int fd;

	world_start("a 1 manager\nb 2 foreman,manager\n", NULL);
	fd = stream_open("a");
	stream_open("b");
	cr_assert(said(django_says(TO_BOSSES), 2));
	cr_assert_null(reads("a 1 foreman\nb 2 manager,foreman\n"));
	cr_assert(said(django_says(TO_BOSSES), 1));
	cr_assert(said(django_says("{\"event\":\"a\",\"data\":1,\"to\":{\"roles\":[\"foreman\"]}}"), 2));
	cr_assert_null(reads("a 1\nb 2 new\n"));
	cr_assert(said(django_says("{\"event\":\"a\",\"data\":1,\"to\":{\"roles\":[\"foreman\",\"manager\"]}}"), 0));
	cr_assert(said(django_says("{\"event\":\"a\",\"data\":1,\"to\":{\"roles\":[\"new\"],\"users\":[1]}}"), 2));
	cr_assert(world.fds[fd].open);
	world_stop();
}

Test(tokens, a_token_that_becomes_another_users_ends_its_streams)
{
	int fd;

	world_start("a 1 manager\n", NULL);
	fd = stream_open("a");
	cr_assert_null(reads("a 2 manager\n"));
	cr_assert_str_eq(client_hears(fd), REVOKED);
	fd = stream_open("a");
	cr_assert(said(django_says("{\"event\":\"a\",\"data\":1,\"to\":{\"users\":[1]}}"), 0));
	cr_assert(said(django_says("{\"event\":\"a\",\"data\":1,\"to\":{\"users\":[2]}}"), 1));
	world_stop();
}

Test(tokens, each_mistake_is_told_with_its_line_and_without_the_token)
{
	static const struct {
		const char *text, *error;
	} rows[] = {
		{"SECRET\n", "1: expected TOKEN USER [ROLE,...]"},
		{"# x\n\r\nSECRET\t \n", "3: expected TOKEN USER [ROLE,...]"},
		{"a 1 r\nSECRET 1 a, b\n", "2: a fourth word: roles are parted by commas, without spaces"},
		{"SECRET 01234567890123456789012345678901234567890123456789012345678901234 r\n",
			"1: a user id must be 1 to 64 bytes of UTF-8, without control characters"},
		{"SECRET a\x01 r\n", "1: a user id must be 1 to 64 bytes of UTF-8, without control characters"},
		{"SECRET 1 a,\n", "1: a role must be 1 to 64 bytes of UTF-8, without control characters"},
		{"SECRET 1 ,a\n", "1: a role must be 1 to 64 bytes of UTF-8, without control characters"},
		{"SECRET 1 a,,b\n", "1: a role must be 1 to 64 bytes of UTF-8, without control characters"},
		{"SECRET 1 01234567890123456789012345678901234567890123456789012345678901234\n",
			"1: a role must be 1 to 64 bytes of UTF-8, without control characters"},
		{"SECRET 1 a\nb 1 a\nSECRET 1 a", "3: this token stands in an earlier line too"},
		{"SECRET 1 a\nb 1 a\nSECRET 2 b\nb 1 a\n", NULL},
		{"\xef\xbb\xbfSECRET 1 a\n", "1: begins with a byte order mark"},
	};
	int fd;

	world_start("boss 1 manager\n", NULL);
	fd = stream_open("boss");
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const char *error = reads(rows[i].text);

		cr_assert_not_null(error, "row %zu", i);
		if (rows[i].error != NULL)
			cr_assert_str_eq(error, rows[i].error);
		cr_assert_null(strstr(error, "SECRET"));
		cr_assert_eq(status_of("SECRET"), 401);
		cr_assert(said(django_says(TO_BOSSES), 1), "row %zu: what was there stays", i);
	}
	cr_assert(world.fds[fd].open);
	world_stop();
}

Test(tokens, a_file_that_is_not_there_changes_nothing)
{
	char bytes[256], path[96];
	struct buf error = buf_fixed(bytes, sizeof bytes - 1);

	world_start("boss 1 manager\n", NULL);
	snprintf(path, sizeof path, "%s/tokens", world.dir);
	remove(path);
	cr_assert(!tokens_load(world.server, &error));
	bytes[error.len] = '\0';
	cr_assert_str_eq(strstr(bytes, "/tokens"), "/tokens: No such file or directory");
	cr_assert_eq(status_of("boss"), 200);
	world_stop();
}

Test(tokens, comments_blank_lines_and_every_line_end_are_fine)
{
	world_start("# people\r\n\r\n  \t\n  a\t1   manager \r\n\tb 2\r\nc 3 x,y", NULL);
	cr_assert_eq(status_of("a") + status_of("b") + status_of("c"), 600);
	cr_assert_eq(status_of("%23"), 401);
	cr_assert_eq(world.server->sessions_by_key.count, 3);
	world_stop();
}

Test(tokens, there_are_64_roles_and_not_65)
{
	char text[2048] = "a 1 r0", line[64];

	for (int i = 1; i < 64; i++)
		snprintf(text + strlen(text), 16, i == 32 ? "\nb 2 r%d" : ",r%d", i);
	world_start(text, NULL);
	stream_open("a");
	stream_open("b");
	for (int i = 0; i < 64; i++) {
		snprintf(line, sizeof line, "{\"event\":\"a\",\"data\":1,\"to\":{\"roles\":[\"r%d\"]}}", i);
		cr_assert(said(django_says(line), 1));
	}
	strcat(text, ",one.more\n");
	cr_assert_str_eq(reads(text), "2: more than 64 different roles");
	text[0] = '\0';
	for (int i = 0; i < 64; i++)
		snprintf(text + strlen(text), 32, i == 0 ? "a 1 other%d" : ",other%d", i);
	cr_assert_null(reads(text), "none of the old ones is in the way");
	for (int i = 0; i < 64; i++) {
		snprintf(line, sizeof line, "{\"event\":\"a\",\"data\":1,\"to\":{\"roles\":[\"other%d\"]}}", i);
		cr_assert(said(django_says(line), 1));
	}
	world_stop();
}

Test(tokens, a_role_given_twice_in_a_line_is_one_role)
{
	char text[2048] = "a 1 r0";
	int fd;

	world_start("a 1 manager,manager\n", NULL);
	fd = stream_open("a");
	cr_assert(said(django_says(TO_BOSSES), 1));
	for (int i = 1; i < 64; i++)
		snprintf(text + strlen(text), 16, ",r%d", i);
	cr_assert_null(reads("a 1 x\n"));
	for (int i = 0; i < MAX_ROLES; i++)
		if (world.server->roles[i].sessions > 0)
			cr_assert_eq(world.server->roles[i].name[0], 'x', "the role nobody has is forgotten");
	cr_assert_null(reads(text));
	client_hears(fd);
	cr_assert(said(django_says("{\"event\":\"a\",\"data\":1,\"to\":{\"roles\":[\"r63\"]}}"), 1));
	world_stop();
}

Test(tokens, S7_a_name_that_is_not_UTF_8_is_refused)
{
	/* No datagram could name it, and the stats would not be JSON (RFC 8259 section 8.1). */
	world_start("boss 1 manager\n", NULL);
	cr_assert_not_null(reads("a \xff r\n"));
	cr_assert_not_null(reads("a 1 \xc3\n"));
	world_stop();
}

Test(tokens, an_empty_file_lets_nobody_listen)
{
	world_start("", NULL);
	cr_assert_eq(status_of("a"), 401);
	cr_assert_eq(status_of(""), 401);
	world_stop();
}

Test(tokens, R24_many_readings_leak_nothing)
{
	static char text[16384];
	uint32_t users = 0, sessions = 0;

	world_start("", "--log-level", "error", NULL);
	for (int round = 0; round < 300; round++) {
		text[0] = '\0';
		for (int i = 0; i < 100; i++)
			snprintf(text + strlen(text), 160, "t%d %s%d r%d,s%d\n", i * 3 + round % 7, i % 3 == 0
				? "a-user-whose-id-is-longer-than-24-bytes-" : "u", i + round % 5, i % 30, (i + round) % 30);
		cr_assert_null(reads(text));
		for (int i = 0; i < 3; i++) {
			char token[16];

			snprintf(token, sizeof token, "t%d", i * 3 + round % 7);
			if (world.server->streams.count < 60)
				stream_open(token);
		}
		if (round == 20) {
			users = world.server->users_top;
			sessions = world.server->sessions_top;
		}
		for (int fd = 0; fd < WORLD_FDS; fd++)
			if (world.fds[fd].open && world.fds[fd].shut)
				client_ends(fd);
	}
	cr_assert_leq(world.server->users_top, users + 10);
	cr_assert_leq(world.server->sessions_top, sessions + 10);
	cr_assert_eq(world.server->sessions_by_key.count, 100);
	cr_assert_eq(world.server->users_by_id.count, 100);
	cr_assert_null(reads(""));
	cr_assert_eq(world.server->users_by_id.count + world.server->sessions_by_key.count, 0);
	for (int i = 0; i < MAX_ROLES; i++)
		cr_assert(world.server->roles[i].sessions == 0 && world.server->roles[i].streams.count == 0);
	world_stop();
}

Test(tokens, a_long_user_id_works_everywhere)
{
	static const char *const ids[] = {
		"123456789012345678901234", "1234567890123456789012345", "1234567890123456789012345678901234567890",
		"\xd0\xb8\xd0\xb2\xd0\xb0\xd0\xbd.\"\\-8901234567890123456789012345678901234567890123456789"};
	char text[1024] = "", line[512], quoted[160];

	for (int i = 0; i < 4; i++)
		snprintf(text + strlen(text), 160, "t%d %s r\n", i, ids[i]);
	world_start(text, NULL);
	cr_assert_eq(strlen(ids[3]), 64, "%zu", strlen(ids[3]));
	for (int i = 0; i < 4; i++) {
		char token[8] = {'t', (char)('0' + i), '\0'};
		struct buf b = buf_fixed(quoted, sizeof quoted - 1);
		int fd = stream_open(token), stats = client_open();

		json_write_string(&b, span_of(ids[i]));
		quoted[b.len] = '\0';
		snprintf(line, sizeof line, " user=%s streams=1 ", i < 3 ? ids[i] : quoted);
		cr_assert_not_null(strstr(log_hears(), line), "%s", line);
		snprintf(line, sizeof line, "{\"event\":\"a\",\"data\":1,\"to\":{\"users\":[%s]}}", i < 3 && i % 2 ? ids[i] : quoted);
		cr_assert(said(django_says(line), 1), "%s", line);
		snprintf(line, sizeof line, "{\"event\":\"a\",\"data\":1,\"to\":\"all\",\"except\":{\"users\":[%s]}}", quoted);
		cr_assert(said(django_says(line), 0));
		client_says(stats, "GET /api/v1/sse/stats/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t0\r\n\r\n");
		snprintf(line, sizeof line, "\"users\":{%s:1}}\n", quoted);
		cr_assert_not_null(strstr(client_hears(stats), line));
		client_ends(stats);
		snprintf(line, sizeof line, "{\"op\":\"revoke\",\"user\":%s}", quoted);
		cr_assert(said(django_says(line), 1));
		snprintf(line, sizeof line, "msg=revoke user=%s matched=1\n", i < 3 ? ids[i] : quoted);
		cr_assert_not_null(strstr(log_hears(), line));
		client_ends(fd);
	}
	world_stop();
}

Test(tokens, a_hangup_signal_reads_the_file_again)
{
	world_start("boss 1 manager\n", NULL);
	world_tokens("boss 1 manager\nnew 2\n");
	world_raises(SIGHUP);
	cr_assert_str_eq(log_hears(), "time=2024-01-01T12:00:00.000Z app=SSE level=info msg=tokens_read tokens=2\n");
	cr_assert_eq(status_of("new"), 200);
	log_hears();
	world_tokens("boss\n");
	world_raises(SIGHUP);
	cr_assert_not_null(strstr(log_hears(), "level=error msg=tokens_not_read error=\"--token-file: /tmp/sse-world-"));
	cr_assert_eq(status_of("new"), 200);
	world_stop();
}
