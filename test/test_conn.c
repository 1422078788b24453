/* test_conn.c - connections: their states, their ends, and answers under short writes. */
#include "vectors.h"
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVENTS "/api/v1/sse/events/"
#define STATS "/api/v1/sse/stats/"
#define ASK_STATS "GET " STATS " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer boss\r\n\r\n"
#define ASK_STREAM "GET " EVENTS "?token=boss HTTP/1.1\r\nHost: a\r\n\r\n"
#define JSON_HEADERS "Content-Type: application/json\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
#define DATE "Date: Mon, 01 Jan 2024 12:00:00 GMT\r\n"
#define EMPTY_STATS "{\"total_users\":0,\"total_connections\":0,\"users\":{}}\n"

static const char *const tokens = "boss 1 manager\nfore 789 foreman\n";

static int asked(const char *text)
{
	int fd = client_open();

	client_says(fd, text);
	return fd;
}

/* The answer ended the connection: it is shut, and closed as soon as the client closes. */
static void expect_closing(int fd)
{
	cr_assert(world.fds[fd].open && world.fds[fd].shut && !world.fds[fd].reset, "descriptor %d", fd);
	client_ends(fd);
	cr_assert(!world.fds[fd].open);
}

static void expect_status(int fd, int status)
{
	const char *text = client_hears(fd);
	char line[32];

	snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
	cr_assert(strncmp(text, line, strlen(line)) == 0, "expected %d: %s", status, text);
}

/* ---- answers ---- */

Test(conn, stats_are_answered_and_the_connection_is_kept)
{
	int fd;

	world_start(tokens, NULL);
	fd = asked(ASK_STATS);
	cr_assert_str_eq(client_hears(fd), "HTTP/1.1 200 OK\r\n" DATE JSON_HEADERS "Content-Length: 51\r\n\r\n" EMPTY_STATS);
	stream_open("boss");
	stream_open("boss");
	stream_open("fore");
	client_says(fd, ASK_STATS);
	cr_assert_not_null(strstr(client_hears(fd), "\r\n\r\n"
		"{\"total_users\":2,\"total_connections\":3,\"users\":{\"1\":2,\"789\":1}}\n"));
	world_stop();
}

Test(conn, stats_need_a_token_in_a_header)
{
	int fd;

	world_start(tokens, NULL);
	fd = asked("GET " STATS "?token=boss HTTP/1.1\r\nHost: a\r\n\r\n");
	cr_assert_str_eq(client_hears(fd), "HTTP/1.1 401 Unauthorized\r\n" DATE "WWW-Authenticate: Bearer\r\n" JSON_HEADERS
		"Content-Length: 30\r\n\r\n{\"error\":\"a token is needed\"}\n");
	client_says(fd, "GET " STATS " HTTP/1.1\r\nHost: a\r\nAuthorization: Token nobody\r\n\r\n");
	cr_assert_not_null(strstr(client_hears(fd), "{\"error\":\"the token is not valid\"}\n"));
	cr_assert_eq(world.server->count.refused[REFUSE_no_token], 1);
	cr_assert_eq(world.server->count.refused[REFUSE_unknown_token], 1);
	client_says(fd, "GET " STATS " HTTP/1.1\r\nHost: a\r\nAuthorization: Token boss\r\n\r\n");
	expect_status(fd, 200);
	world_stop();
}

Test(conn, H48_R30_a_stream_opens_with_its_head_a_retry_and_connected)
{
	int fd, retry;
	char rest[1024];
	const char *text;

	world_start(tokens, "--retry", "7s", "--retry-jitter", "0s", NULL);
	fd = asked(ASK_STREAM);
	text = client_hears(fd);
	cr_assert_str_eq(text, "HTTP/1.1 200 OK\r\n" DATE "Content-Type: text/event-stream\r\n"
		"Cache-Control: no-cache, no-transform\r\nConnection: keep-alive\r\nX-Accel-Buffering: no\r\n"
		"Transfer-Encoding: chunked\r\n\r\n"
		"65\r\nretry: 7000\n\nid: 1704110400000-0\n"
		"data: {\"event\":\"connected\",\"message\":\"SSE connection established\"}\n\n\r\n");
	fd = asked("GET /api/v1/sse/events?token=boss HTTP/1.0\r\n\r\n");
	cr_assert_eq(sscanf(client_hears(fd), "HTTP/1.1 200 OK\r\n" DATE "Content-Type: text/event-stream\r\n"
		"Cache-Control: no-cache, no-transform\r\nConnection: close\r\nX-Accel-Buffering: no\r\n\r\n"
		"retry: %d\n\nid: 1704110400000-0\n%1000[^\n]\n\n", &retry, rest), 2);
	cr_assert_eq(retry, 7000);
	world_stop();
}

Test(conn, connected_bears_the_newest_id)
{
	world_start(tokens, NULL);
	world_pass(1000);
	django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
	cr_assert_not_null(strstr(client_hears(asked(ASK_STREAM)), "id: 1704110401000-0\ndata: {\"event\":\"connected\""));
	world_stop();
}

Test(conn, H39_who_says_what_it_has_seen_is_told_whether_that_can_be_gone_on_from)
{
	static const struct {
		const char *query, *header;
		const char *reason; /* of a resync; NULL: there is none */
	} rows[] = {
		{"", "", NULL}, {"", "Last-Event-ID: 1704110400000-0\r\n", NULL},
		{"", "Last-Event-ID: 1704110399999-0\r\n", "too_old"}, {"", "Last-Event-ID: 0-0\r\n", "too_old"},
		{"", "Last-Event-ID: 1704110400000-1\r\n", "newer"}, {"", "Last-Event-ID: 9007199254740992-0\r\n", "newer"},
		{"", "Last-Event-ID:\r\n", "unknown"}, {"", "Last-Event-ID: x\r\n", "unknown"},
		{"", "Last-Event-ID: -1\r\n", "unknown"}, {"", "Last-Event-ID: 1704110400000\r\n", "unknown"},
		{"", "Last-Event-ID: 1704110400000-00\r\n", "unknown"}, {"", "Last-Event-ID: 01704110400000-0\r\n", "unknown"},
		{"", "Last-Event-ID: 18446744073709551616-0\r\n", "unknown"},
		{"", "Last-Event-ID: 1704110400000-4294967296\r\n", "unknown"},
		{"", "Last-Event-ID: 1704110400000-0\r\nLast-Event-ID: 1704110400000-0\r\n", "unknown"},
		{"&lastEventId=1704110400000-0", "", NULL}, {"&lastEventId=7", "", "unknown"}, {"&lastEventId=", "", "unknown"},
		{"&lastEventId=1704110400000-0", "Last-Event-ID: 7-7\r\n", "too_old"},
		{"&lastEventId=7-7", "Last-Event-ID: 1704110400000-0\r\n", NULL},
		{"&lastEventId=1704110400000-0&lastEventId=1704110400000-0", "", "unknown"},
	};

	world_start(tokens, NULL);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char text[512], resync[256] = "";
		const char *got;

		snprintf(text, sizeof text, "GET " EVENTS "?token=boss%s HTTP/1.1\r\nHost: a\r\n%s\r\n", rows[i].query, rows[i].header);
		if (rows[i].reason != NULL)
			snprintf(resync, sizeof resync, "id: 1704110400000-0\ndata: {\"event\":\"system.resync\","
				"\"data\":{\"reason\":\"%s\"},\"timestamp\":1704110400}\n\n", rows[i].reason);
		/* of a resync, connected must not bear its id: whoever loses the stream between the two would miss it */
		got = strstr(client_hears(asked(text)), rows[i].reason == NULL ? "\n\nid: 1704110400000-0\ndata: {\"event\":\"connected\""
			: "\n\ndata: {\"event\":\"connected\"");
		cr_assert_not_null(got, "row %zu", i);
		got += 2;
		got = strstr(got, "\n\n") + 2;
		cr_assert_eq(strncmp(got, resync, strlen(resync)), 0, "row %zu: %s", i, got);
		cr_assert_eq(strstr(got, "resync") == NULL, rows[i].reason == NULL, "row %zu: %s", i, got);
	}
	world_stop();
}

/* What a browser sends back needs no preflight: at most 128 bytes, none that Fetch calls unsafe. */
Test(conn, H35_ids_are_safe_to_send_across_origins)
{
	static const char safe[] = "0123456789-";
	int fd;

	world_start(tokens, NULL);
	fd = asked(ASK_STREAM);
	for (int i = 0; i < 3; i++) { /* of the greeting, of an event, of a resync */
		const char *id = strstr(client_hears(fd), "id: ");

		cr_assert_not_null(id);
		cr_assert(strcspn(id + 4, "\n") <= 128 && strspn(id + 4, safe) == strcspn(id + 4, "\n"), "%s", id);
		if (i == 0)
			django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
		else
			fd = asked("GET " EVENTS "?token=boss HTTP/1.1\r\nHost: a\r\nLast-Event-ID: <\"(:\r\n\r\n");
	}
	world_stop();
}

Test(conn, H33_a_head_request_gets_the_head_and_no_stream)
{
	int fd;

	world_start(tokens, NULL);
	fd = asked("HEAD " EVENTS "?token=boss HTTP/1.1\r\nHost: a\r\n\r\n");
	cr_assert_str_eq(client_hears(fd), "HTTP/1.1 200 OK\r\n" DATE "Content-Type: text/event-stream\r\n"
		"Cache-Control: no-cache, no-transform\r\nConnection: keep-alive\r\nX-Accel-Buffering: no\r\n"
		"Transfer-Encoding: chunked\r\n\r\n");
	cr_assert_eq(world.server->streams.count, 0);
	client_says(fd, "HEAD " STATS " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer boss\r\n\r\n");
	cr_assert_str_eq(client_hears(fd), "HTTP/1.1 200 OK\r\n" DATE JSON_HEADERS "Content-Length: 51\r\n\r\n");
	client_says(fd, "HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
	cr_assert_str_eq(client_hears(fd), "HTTP/1.1 404 Not Found\r\n" DATE JSON_HEADERS "Content-Length: 25\r\n\r\n");
	client_says(fd, "HEAD " EVENTS " HTTP/1.1\r\nHost: a\r\n\r\n");
	expect_status(fd, 401);
	fd = asked("HEAD " EVENTS "?token=boss HTTP/1.0\r\n\r\n");
	cr_assert_null(strstr(client_hears(fd), "chunked"));
	expect_closing(fd);
	world_stop();
}

Test(conn, H29_options_tells_the_methods)
{
	int fd;

	world_start(tokens, NULL);
	fd = asked("OPTIONS " EVENTS " HTTP/1.1\r\nHost: a\r\n\r\n");
	cr_assert_str_eq(client_hears(fd), "HTTP/1.1 204 No Content\r\n" DATE "Allow: GET, HEAD, OPTIONS\r\n\r\n");
	client_says(fd, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
	expect_status(fd, 204);
	client_says(fd, "OPTIONS /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
	expect_status(fd, 404);
	world_stop();
}

Test(conn, H34_a_preflight_is_for_allowed_origins_only)
{
	int fd;
	const char *text;

	world_start(tokens, "--cors-origin", "https://a.example", "--cors-origin", "https://b.example", NULL);
	fd = asked("OPTIONS " EVENTS " HTTP/1.1\r\nHost: a\r\nOrigin: https://b.example\r\nAccess-Control-Request-Method: GET\r\n"
		"Access-Control-Request-Headers: authorization,last-event-id\r\n\r\n");
	cr_assert_str_eq(client_hears(fd), "HTTP/1.1 204 No Content\r\n" DATE
		"Access-Control-Allow-Origin: https://b.example\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n"
		"Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n"
		"Access-Control-Allow-Headers: Authorization, Last-Event-ID, Cache-Control\r\n"
		"Access-Control-Max-Age: 86400\r\n\r\n");
	client_says(fd, "OPTIONS " EVENTS " HTTP/1.1\r\nHost: a\r\nOrigin: https://c.example\r\nAccess-Control-Request-Method: GET\r\n\r\n");
	text = client_hears(fd);
	cr_assert(strncmp(text, "HTTP/1.1 403 ", 13) == 0 && strstr(text, "Allow-Origin") == NULL && strstr(text, "Vary: Origin\r\n") != NULL);
	client_says(fd, "GET " EVENTS "?token=boss HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n\r\n");
	cr_assert_not_null(strstr(client_hears(fd), "Access-Control-Allow-Origin: https://a.example\r\n"));
	fd = asked("GET " EVENTS "?token=nobody HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n\r\n");
	cr_assert_not_null(strstr(client_hears(fd), "Access-Control-Allow-Origin: https://a.example\r\n"));
	world_stop();
}

Test(conn, H34_a_star_allows_every_origin_without_credentials)
{
	const char *text;

	world_start(tokens, "--cors-origin", "*", NULL);
	text = client_hears(asked("GET " EVENTS "?token=boss HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\n\r\n"));
	cr_assert_not_null(strstr(text, "\r\nAccess-Control-Allow-Origin: *\r\nVary: Origin\r\n"));
	cr_assert_null(strstr(text, "Credentials"));
	cr_assert_null(strstr(client_hears(asked(ASK_STREAM)), "Allow-Origin"));
	world_stop();
}

/* Every refusal that one request brings about: status, whether the connection lives on, counter. */
static const struct {
	const char *request;
	enum refusal why;
	bool kept;
} refusals[] = {
	{"GET / HTTP/1.1\nHost: a\r\n\r\n", REFUSE_bad_line_end, false},
	{"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", REFUSE_bad_byte, false},
	{"GET /\r\n\r\n", REFUSE_bad_request_line, false},
	{"\x16\x03\x01\x02", REFUSE_bad_byte, false},
	{"GET foo HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_bad_target, false},
	{"GET " EVENTS "?token=%zz HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_bad_escape, false},
	{"GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_bad_escape, false},
	{"GET " EVENTS "?token=%00 HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_bad_escape, false},
	{"GET / HTTP/1.1\r\nHost : a\r\n\r\n", REFUSE_bad_header, false},
	{"GET / HTTP/1.1\r\nHost: a\r\n X: b\r\n\r\n", REFUSE_folded_header, false},
	{"GET / HTTP/1.1\r\n\r\n", REFUSE_no_host, false},
	{"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", REFUSE_two_hosts, false},
	{"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", REFUSE_bad_host, false},
	{"GET / HTTP/1.1\r\nHost: a\r\nOrigin: a\r\nOrigin: b\r\n\r\n", REFUSE_repeated_header, false},
	{"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", REFUSE_bad_length, false},
	{"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", REFUSE_length_and_encoding, false},
	{"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", REFUSE_encoding_in_http10, false},
	{"GET " EVENTS "?token=a&token=b HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_two_tokens, false},
	{"GET " EVENTS " HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_no_token, true},
	{"GET " EVENTS "?token= HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_no_token, true},
	{"GET " EVENTS "?token=nobody HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_unknown_token, true},
	{"GET /api/v1/sse/events/x HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_no_such_path, true},
	{"GET /API/v1/sse/events/ HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_no_such_path, true},
	{"GET /api/v1/sse//events/ HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_no_such_path, true},
	{"GET /api/v1/sse/events/../stats/ HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_no_such_path, true},
	{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_no_such_path, true},
	{"POST " EVENTS " HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_method_not_allowed, true},
	{"POST " EVENTS " HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", REFUSE_method_not_allowed, false},
	{"GET " EVENTS " HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", REFUSE_body_not_allowed, false},
	{"GET " EVENTS " HTTP/1.1\r\nHost: a\r\nExpect: foo\r\n\r\n", REFUSE_unknown_expectation, false},
	{"BREW " EVENTS " HTTP/1.1\r\nHost: a\r\n\r\n", REFUSE_unknown_method, false},
	{"GET " EVENTS " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", REFUSE_unknown_encoding, false},
	{"GET / HTTP/2.0\r\n\r\n", REFUSE_bad_version, false},
};

Test(conn, each_refusal_has_its_status_and_its_counter)
{
	world_start(tokens, NULL);
	for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
		uint64_t before = world.server->count.refused[refusals[i].why];
		char line[64], body[160];
		const char *text;
		int fd = asked(refusals[i].request);

		text = client_hears(fd);
		snprintf(line, sizeof line, "HTTP/1.1 %d ", refusal_status(refusals[i].why));
		cr_assert(strncmp(text, line, strlen(line)) == 0, "row %zu: %s", i, text);
		cr_assert_eq(world.server->count.refused[refusals[i].why], before + 1, "row %zu: %s", i, text);
		cr_assert_neq(text[strlen(line)], '\r', "row %zu: what the status means", i);
		cr_assert_eq(sscanf(strstr(text, "\r\n\r\n"), "\r\n\r\n{\"error\":\"%150[^\n]\"}\n", body), 1);
		cr_assert_eq(strstr(text, "Connection: close\r\n") == NULL, refusals[i].kept, "row %zu", i);
		if (refusals[i].why == REFUSE_method_not_allowed)
			cr_assert_not_null(strstr(text, "\r\nAllow: GET, HEAD, OPTIONS\r\n"));
		snprintf(line, sizeof line, "status=%d reason=%s from=unix\n", refusal_status(refusals[i].why),
			refusal_name(refusals[i].why));
		cr_assert_not_null(strstr(log_hears(), line), "row %zu", i);
		if (!refusals[i].kept) {
			expect_closing(fd);
			continue;
		}
		client_says(fd, ASK_STATS);
		expect_status(fd, 200);
	}
	world_stop();
}

Test(conn, R24_R25_a_thousand_refusals_of_every_kind_leave_nothing)
{
	size_t after_two = 0;

	world_start(tokens, "--log-level", "error", NULL);
	for (int round = 0; round < 1000; round++) {
		for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
			int fd = asked(refusals[i].request);

			if (round % 2 == 0)
				client_ends(fd);
			else
				client_resets(fd);
			cr_assert(!world.fds[fd].open);
		}
		if (round == 1)
			after_two = heap_bytes();
	}
	cr_assert_eq(heap_bytes(), after_two, "%zu bytes, then %zu", after_two, heap_bytes());
	cr_assert_eq(world.server->open.count, 0);
	for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
		cr_assert_geq(world.server->count.refused[refusals[i].why], 1000, "row %zu", i);
	world_stop();
}

Test(conn, H23_nothing_behind_a_refused_head_is_read)
{
	int fd;

	world_start(tokens, NULL);
	fd = asked("GET " EVENTS " HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n" ASK_STATS ASK_STATS);
	expect_status(fd, 413);
	cr_assert_eq(world.server->count.sends, 1);
	client_says(fd, ASK_STATS);
	cr_assert_str_eq(client_hears(fd), "");
	expect_closing(fd);
	world_stop();
}

/* No route here takes a body, so that no chunk is ever looked at: whatever they are, the head is refused, once. */
Test(conn, H20_H21_H22_chunks_are_refused_unread)
{
	static char trailers[60000] = "0\r\n", extension[60000] = "5;a=";
	static const char *const chunks[] = {"\r\n", "0x5\r\nhello\r\n", "-1\r\n", "5 \r\nhello\r\n",
		"10000000000000005\r\nhello\r\n", "ffffffffffffffff\r\n", "5;a\nb\r\nhello\r\n", "5\r\nhello0\r\n\r\n", "0\r\nXX", "0\r\n\r\n", trailers, extension};

	for (size_t n = strlen(trailers); n < sizeof trailers - 8; n += 6)
		strcpy(trailers + n, "A: b\r\n");
	memset(extension + 4, 'b', sizeof extension - 5);
	world_start(tokens, NULL);
	for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
		int fd = asked("GET " EVENTS "?token=boss HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");

		client_says(fd, chunks[i]);
		client_says(fd, ASK_STATS);
		expect_status(fd, 413);
		cr_assert_eq(world.fds[fd].sends, 1, "row %zu: one answer", i);
		cr_assert_eq(world.fds[fd].in.len, 0, "row %zu: the rest is read, and dropped", i);
		cr_assert_eq(world.server->count.refused[REFUSE_body_not_allowed], i + 1);
		expect_closing(fd);
	}
	world_stop();
}

Test(conn, H38_a_header_wins_over_the_query)
{
	int fd;

	world_start(tokens, NULL);
	fd = asked("GET " EVENTS "?token=nobody HTTP/1.1\r\nHost: a\r\nAuthorization: Token fore\r\n\r\n");
	expect_status(fd, 200);
	fd = asked("GET " EVENTS "?token=fore HTTP/1.1\r\nHost: a\r\nAuthorization: Token nobody\r\n\r\n");
	expect_status(fd, 401);
	fd = asked("GET " EVENTS "?token=fore HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YTpi\r\n\r\n");
	expect_status(fd, 200);
	world_stop();
}

/* What is random in a server, a hash's key above all, shows in no answer. */
Test(conn, T5_the_same_requests_get_the_same_bytes)
{
	static const char *const requests[] = {
		ASK_STATS, ASK_STREAM, "GET " EVENTS "?token=fore HTTP/1.0\r\n\r\n",
		"HEAD " EVENTS "?token=boss HTTP/1.1\r\nHost: a\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "GET " EVENTS "?token=nobody HTTP/1.1\r\nHost: a\r\n\r\n" ASK_STATS,
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\nHost: a\n\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
		"GET " EVENTS "?token=u7 HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 1-1\r\n\r\n", "\x16\x03\x01", ASK_STATS,
	};
	struct buf runs[2] = {buf_growable(), buf_growable()};
	char many[4096] = "boss 1 manager\nfore 789 foreman\n";

	for (int i = 0; i < 100; i++)
		sprintf(many + strlen(many), "u%d user-%d r%d\n", i, i, i % 7);
	for (int run = 0; run < 2; run++) {
		int fds[112], count = 0;

		world_start(many, "--retry-jitter", "0s", NULL);
		for (int i = 0; i < 100; i++) {
			char token[16];

			snprintf(token, sizeof token, "u%d", i);
			fds[count++] = stream_open(token);
		}
		for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
			fds[count++] = asked(requests[i]);
		django_says("{\"event\":\"a\",\"data\":{\"b\":[1]},\"to\":{\"roles\":[\"r3\",\"manager\"],\"users\":[\"user-5\"]}}");
		world_pass(31000);
		for (int i = 0; i < count; i++)
			buf_text(&runs[run], client_hears(fds[i]));
		world_stop();
	}
	cr_assert(runs[0].len > 10000 && span_same(buf_view(&runs[0]), buf_view(&runs[1])));
	buf_free(&runs[0]);
	buf_free(&runs[1]);
}

/* ---- pipelining, short writes ---- */

Test(conn, H1_a_request_cut_anywhere_gets_the_same_answer)
{
	static const char request[] = ASK_STREAM;

	world_start(tokens, NULL);
	for (size_t k = 1; k < sizeof request - 1; k++) {
		int fd = client_open();

		client_says_bytes(fd, request, k);
		cr_assert_str_eq(client_hears(fd), "");
		client_says_bytes(fd, request + k, sizeof request - 1 - k);
		expect_status(fd, 200);
		cr_assert_eq(client_conn(fd)->state, CONN_STREAM);
		client_ends(fd);
	}
	world_stop();
}

Test(conn, H2_one_byte_at_a_time_is_a_request_too)
{
	static const char request[] = "\r\n" ASK_STATS ASK_STREAM;
	int fd;

	world_start(tokens, NULL);
	fd = client_open();
	for (size_t i = 0; i < sizeof request - 1; i++)
		client_says_bytes(fd, request + i, 1);
	expect_status(fd, 200);
	cr_assert_eq(client_conn(fd)->state, CONN_STREAM);
	world_stop();
}

Test(conn, H24_pipelined_requests_are_answered_in_order)
{
	int fd;

	world_start(tokens, NULL);
	fd = asked(ASK_STATS "GET /no HTTP/1.1\r\nHost: a\r\n\r\nOPTIONS " EVENTS " HTTP/1.1\r\nHost: a\r\n\r\n" ASK_STREAM);
	{
		const char *text = client_hears(fd), *stats = strstr(text, " 200 "), *no = strstr(text, " 404 "),
			*options = strstr(text, " 204 "), *stream = strstr(text, "\"connected\"");

		cr_assert(stats != NULL && no > stats && options > no && stream > options);
	}
	world_stop();
}

Test(conn, H24_who_pipelines_a_lot_takes_turns)
{
	static char all[60000];
	int fd, count = 0;

	world_start(tokens, NULL);
	for (int i = 0; i < 1000; i++)
		strcpy(all + i * 34, "OPTIONS * HTTP/1.1\r\nHost: abcd\r\n\r\n");
	fd = client_open();
	buf_bytes(&world.fds[fd].in, all, strlen(all));
	conn_event(world.server, client_conn(fd), EPOLLIN);
	cr_assert_lt(world.fds[fd].sends, 100, "a turn");
	world_settle();
	for (const char *p = client_hears(fd); (p = strstr(p, " 204 ")) != NULL; p++)
		count++;
	cr_assert_eq(count, 1000);
	world_stop();
}

Test(conn, H24_answers_wait_for_room_in_order_and_none_is_lost)
{
	char all[8192] = "", wanted[32768] = "";
	int fd;

	world_start(tokens, NULL);
	for (int i = 0; i < 60; i++)
		strcat(all, i % 3 == 0 ? ASK_STATS : i % 3 == 1 ? "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"
			: "GET /no HTTP/1.1\r\nHost: a\r\n\r\n");
	strcpy(wanted, client_hears(asked(all)));
	for (size_t room = 1; room < 2000; room = room * 3 / 2 + 1) {
		fd = client_open();
		world.fds[fd].room = room;
		client_says(fd, all);
		cr_assert_eq(world.fds[fd].out.len, room);
		cr_assert_leq(client_conn(fd)->out->len, 300, "requests wait, not their answers");
		client_says(fd, "OPTIONS * HTTP/1.0\r\n\r\n");
		for (int i = 0; world.fds[fd].out.len < strlen(wanted) && i < 20000; i++)
			client_room(fd, room);
		client_room(fd, SIZE_MAX);
		cr_assert(strncmp(world.fds[fd].out.data, wanted, strlen(wanted)) == 0, "room %zu", room);
		cr_assert_eq(world.fds[fd].out.len, strlen(wanted) + strlen("HTTP/1.1 204 No Content\r\n" DATE
			"Allow: GET, HEAD, OPTIONS\r\nConnection: close\r\n\r\n"));
		expect_closing(fd);
	}
	world_stop();
}

Test(conn, a_head_that_waited_behind_an_answer_may_come_in_parts)
{
	static const char last[] = ASK_STREAM;

	world_start(tokens, NULL);
	for (size_t k = 1; k < sizeof last - 1; k++) {
		char first[512];
		int fd = client_open();

		snprintf(first, sizeof first, "%s%.*s", ASK_STATS ASK_STATS, (int)k, last);
		world.fds[fd].room = 10;
		client_says(fd, first);
		client_room(fd, SIZE_MAX);
		expect_status(fd, 200);
		for (size_t i = k; i < sizeof last - 1; i++)
			client_says_bytes(fd, last + i, 1);
		cr_assert_eq(client_conn(fd)->state, CONN_STREAM, "cut at %zu: %s", k, client_hears(fd));
		client_ends(fd);
	}
	world_stop();
}

Test(conn, while_an_answer_waits_nothing_is_read)
{
	int fd;

	world_start(tokens, NULL);
	fd = client_open();
	world.fds[fd].room = 10;
	client_says(fd, ASK_STATS);
	client_says(fd, ASK_STATS);
	cr_assert_eq(world.fds[fd].in.len, strlen(ASK_STATS));
	client_room(fd, SIZE_MAX);
	cr_assert_eq(world.fds[fd].in.len, 0);
	world_stop();
}

Test(conn, H27_an_error_answer_arrives_whole_under_a_short_write_at_every_byte)
{
	char wanted[1024];

	world_start(tokens, NULL);
	strcpy(wanted, client_hears(asked("bad\r\n\r\n")));
	for (size_t k = 0; k < strlen(wanted); k++) {
		int fd = client_open();

		world.fds[fd].room = k;
		client_says(fd, "bad\r\n\r\n and what comes behind");
		cr_assert_eq(world.fds[fd].out.len, k);
		cr_assert(!world.fds[fd].shut);
		client_room(fd, SIZE_MAX);
		cr_assert_str_eq(client_hears(fd), wanted, "at byte %zu", k);
		expect_closing(fd);
	}
	world_stop();
}

Test(conn, S13_a_greeting_arrives_whole_under_a_short_write_at_every_byte)
{
	char wanted[1024];

	world_start(tokens, "--retry-jitter", "0s", NULL);
	strcpy(wanted, client_hears(asked(ASK_STREAM)));
	for (size_t k = 0; k < strlen(wanted); k++) {
		int fd = client_open();
		const char *text;

		world.fds[fd].room = k;
		client_says(fd, ASK_STREAM);
		django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
		cr_assert_eq(world.fds[fd].out.len, k);
		client_room(fd, SIZE_MAX);
		text = client_hears(fd);
		text = strstr(text, "\"connected\"");
		cr_assert_not_null(text, "at byte %zu", k);
		text = strstr(text, "\n\n\r\n");
		cr_assert_eq(strlen(text), 4 + 4 + strtoul(text + 4, NULL, 16) + 2, "at byte %zu: %s", k, text);
		client_ends(fd);
	}
	world_stop();
}

/* ---- time ---- */

Test(conn, H3_H4_a_head_that_is_not_whole_in_time_is_408)
{
	int silent, drip;

	world_start(tokens, NULL);
	silent = client_open();
	drip = client_open();
	for (int i = 0; i < 19; i++) {
		client_says_bytes(drip, &"GET / HTTP/1.1\r\nX: abcdefgh"[i], 1);
		world_pass(500);
	}
	cr_assert_str_eq(client_hears(drip), "", "9.5 s");
	world_pass(1000);
	expect_status(drip, 408);
	expect_status(silent, 408);
	cr_assert_eq(world.server->count.refused[REFUSE_head_timeout], 2);
	expect_closing(drip);
	expect_closing(silent);
	world_stop();
}

/* What is behind CR LF CR decides; until it comes the head has its time, and no more. */
Test(conn, H11_a_pause_behind_CR_LF_CR)
{
	static const char head[] = "GET " STATS " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer boss\r\n\r";
	int good, bad, late;

	world_start(tokens, NULL);
	good = asked(head);
	bad = asked(head);
	late = asked(head);
	world_pass(9000);
	cr_assert(client_hears(good)[0] == '\0' && client_hears(bad)[0] == '\0');
	client_says(good, "\n");
	expect_status(good, 200);
	client_says(bad, "X");
	expect_status(bad, 400);
	cr_assert_eq(world.server->count.refused[REFUSE_bad_line_end], 1);
	expect_closing(bad);
	world_pass(1500);
	expect_status(late, 408);
	expect_closing(late);
	world_stop();
}

Test(conn, H4_who_sends_nothing_costs_a_cache_line)
{
	int fds[100];

	world_start(tokens, NULL);
	for (int i = 0; i < 100; i++)
		fds[i] = client_open();
	world_pass(9000);
	for (int i = 0; i < 100; i++)
		cr_assert(client_conn(fds[i])->in == NULL && client_conn(fds[i])->out == NULL, "no buffer before the first byte");
	cr_assert_leq(sizeof(struct conn), 64);
	world_pass(13000 - 9000);
	cr_assert_eq(world.server->count.refused[REFUSE_head_timeout], 100);
	for (int i = 0; i < 100; i++)
		cr_assert(!world.fds[fds[i]].open);
	cr_assert_eq(world.server->open.count, 0);
	world_stop();
}

Test(conn, the_time_of_a_second_head_begins_with_its_first_byte)
{
	int fd;

	world_start(tokens, NULL);
	fd = asked(ASK_STATS);
	expect_status(fd, 200);
	world_pass(30000);
	client_says(fd, "G");
	world_pass(5000);
	client_says(fd, "E");
	world_pass(4500);
	cr_assert_str_eq(client_hears(fd), "");
	world_pass(1000);
	expect_status(fd, 408);
	expect_closing(fd);
	world_stop();
}

Test(conn, a_kept_connection_that_asks_nothing_is_closed)
{
	int fd;

	world_start(tokens, "--idle-timeout", "20s", NULL);
	fd = asked(ASK_STATS);
	world_pass(15000);
	client_says(fd, ASK_STATS);
	world_pass(19000);
	cr_assert(world.fds[fd].open);
	world_pass(3000);
	cr_assert(!world.fds[fd].open && !world.fds[fd].reset);
	world_stop();
}

Test(conn, H27_who_is_told_goodbye_has_a_second_to_hear_it)
{
	int fd;

	world_start(tokens, NULL);
	fd = asked("bad\r\n\r\n");
	world_pass(900);
	client_says(fd, "more");
	cr_assert(world.fds[fd].open && world.fds[fd].shut);
	world_pass(1500);
	cr_assert(!world.fds[fd].open);
	cr_assert_eq(world.fds[fd].closes, 1);
	cr_assert_eq(world.fds[fd].in.len, 0, "what it sent was read: closing sends no reset");
	world_stop();
}

Test(conn, R6_an_answer_nobody_takes_is_dropped_after_the_stall_time)
{
	int closing, kept;

	world_start(tokens, "--write-stall", "5s", NULL);
	closing = client_open();
	kept = client_open();
	world.fds[closing].room = world.fds[kept].room = 5;
	client_says(closing, "bad\r\n\r\n");
	client_says(kept, ASK_STATS);
	world_pass(4500);
	cr_assert(world.fds[closing].open && world.fds[kept].open);
	world_pass(2500);
	cr_assert(!world.fds[closing].open && !world.fds[kept].open);
	world_stop();
}

Test(conn, R3_an_answer_that_found_no_kernel_memory_is_written_later)
{
	int fd;

	world_start(tokens, NULL);
	fd = client_open();
	world.fds[fd].fails = ENOBUFS;
	client_says(fd, ASK_STATS);
	world_pass(1100);
	expect_status(fd, 200);
	cr_assert_eq(world.fds[fd].sends, 2);
	world_stop();
}

/* ---- the client's end ---- */

Test(conn, H46_a_reset_in_any_state_closes_once)
{
	int fd;

	world_start(tokens, NULL);
	for (int state = 0; state < 7; state++) {
		int sends;

		fd = state == 0 ? client_open() : state == 1 ? asked("GET / HT") : state == 2 ? asked(ASK_STATS)
			: state == 3 ? asked("bad\r\n\r\n") : state == 4 ? stream_open("boss") : client_open();
		if (state > 4) {
			world.fds[fd].room = 3;
			client_says(fd, state == 5 ? ASK_STATS : "bad\r\n\r\n");
		}
		if (state == 4) {
			client_room(fd, 3);
			django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
		}
		sends = world.fds[fd].sends;
		world.fds[fd].fails = ECONNRESET;
		conn_event(world.server, client_conn(fd), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLERR | EPOLLHUP);
		conn_event(world.server, client_conn(fd), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLERR | EPOLLHUP);
		world_settle();
		cr_assert(!world.fds[fd].open, "state %d", state);
		cr_assert_leq(world.fds[fd].sends, sends + (state == 5), "nothing is written to who is gone");
		cr_assert_eq(client_conn(fd)->state, CONN_FREE);
	}
	cr_assert_eq(world.server->open.count, 0);
	cr_assert_eq(world.server->dirty.count + world.server->unread.count, 0);
	world_stop();
}

Test(conn, H47_an_event_for_a_descriptor_that_is_free_is_nothing)
{
	int fd;

	world_start(tokens, NULL);
	fd = client_open();
	client_ends(fd);
	conn_event(world.server, client_conn(fd), EPOLLIN | EPOLLOUT | EPOLLHUP);
	world_settle();
	cr_assert_eq(world.fds[fd].closes, 1);
	world_stop();
}

/* A descriptor that is closed could be another client's before the batch of events is over: it is kept until then. */
Test(conn, H47_a_descriptor_is_not_free_before_the_end_of_the_batch)
{
	int gone, next;

	world_start(tokens, NULL);
	gone = stream_open("boss");
	world.fds[gone].fails = ECONNRESET;
	conn_event(world.server, client_conn(gone), EPOLLIN | EPOLLERR | EPOLLHUP);
	cr_assert(world.fds[gone].open, "whom accept gives a descriptor now, gets another one");
	next = client_open();
	cr_assert_neq(next, gone);
	buf_text(&world.fds[gone].in, ASK_STATS);
	conn_event(world.server, client_conn(gone), EPOLLIN | EPOLLOUT); /* stale */
	cr_assert(world.fds[gone].in.len > 0 && client_hears(gone)[0] == '\0', "nothing is read or written any more");
	world_settle();
	cr_assert(!world.fds[gone].open && world.fds[gone].closes == 1);
	cr_assert_eq(client_open(), gone, "now it is free");
	client_says(gone, ASK_STATS);
	expect_status(gone, 200);
	client_says(next, ASK_STATS);
	expect_status(next, 200);
	world_stop();
}

Test(conn, H45_a_request_before_a_half_close_is_answered)
{
	int fd;

	world_start(tokens, NULL);
	fd = client_open();
	buf_text(&world.fds[fd].in, ASK_STATS);
	client_ends(fd);
	expect_status(fd, 200);
	cr_assert(!world.fds[fd].open);
	fd = client_open();
	world.fds[fd].room = 20;
	buf_text(&world.fds[fd].in, ASK_STATS);
	client_ends(fd);
	cr_assert(world.fds[fd].open, "the answer is on its way");
	client_room(fd, SIZE_MAX);
	cr_assert_not_null(strstr(client_hears(fd), EMPTY_STATS));
	cr_assert(!world.fds[fd].open);
	world_stop();
}

Test(conn, H45_a_half_close_does_not_cut_the_last_answer)
{
	char wanted[1024];

	world_start(tokens, NULL);
	snprintf(wanted, sizeof wanted, "%s", client_hears(asked("bad\r\n\r\n")));
	for (size_t k = 0; k < strlen(wanted); k++) {
		int fd = client_open();

		world.fds[fd].room = k;
		client_says(fd, "bad\r\n\r\n");
		client_ends(fd);
		cr_assert(world.fds[fd].open);
		client_room(fd, SIZE_MAX);
		cr_assert_str_eq(client_hears(fd), wanted, "at byte %zu", k);
		cr_assert(!world.fds[fd].open);
	}
	world_stop();
}

Test(conn, H45_a_half_close_while_answers_wait_is_seen_when_they_are_written)
{
	int fd;

	world_start(tokens, NULL);
	fd = client_open();
	world.fds[fd].room = 20;
	client_says(fd, ASK_STATS);
	buf_text(&world.fds[fd].in, ASK_STATS);
	client_ends(fd); /* edge-triggered: nobody will tell again */
	cr_assert(world.fds[fd].open);
	client_room(fd, SIZE_MAX);
	cr_assert_eq(world.fds[fd].out.len, 2 * strlen("HTTP/1.1 200 OK\r\n" DATE JSON_HEADERS "Content-Length: 51\r\n\r\n" EMPTY_STATS));
	cr_assert(!world.fds[fd].open, "it has both answers, and asks no more");
	world_stop();
}

Test(conn, H45_a_stream_whose_client_half_closes_is_gone)
{
	int fd;

	world_start(tokens, NULL);
	fd = stream_open("boss");
	client_ends(fd);
	cr_assert(!world.fds[fd].open);
	cr_assert_eq(world.server->count.closed[CLOSE_gone], 1);
	cr_assert_eq(world.server->streams.count + world.server->online.count, 0);
	fd = client_open();
	buf_text(&world.fds[fd].in, ASK_STREAM);
	client_ends(fd);
	cr_assert(!world.fds[fd].open);
	cr_assert_eq(world.server->count.closed[CLOSE_gone], 2);
	world_stop();
}

Test(conn, H25_what_a_client_says_on_its_stream_is_dropped_to_a_limit)
{
	static char noise[65536];
	int fd;

	world_start(tokens, NULL);
	memset(noise, 'x', sizeof noise);
	fd = asked(ASK_STREAM ASK_STATS);
	client_hears(fd);
	for (int i = 0; i < 65; i++)
		client_says_bytes(fd, noise, 1000);
	cr_assert(world.fds[fd].open);
	cr_assert_str_eq(client_hears(fd), "");
	django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
	cr_assert_not_null(strstr(client_hears(fd), "\"a\""));
	client_says_bytes(fd, noise, 1000);
	cr_assert(!world.fds[fd].open);
	cr_assert_eq(world.server->count.closed[CLOSE_chatter], 1);
	world_stop();
}

Test(conn, H27_what_a_client_says_after_its_goodbye_is_dropped_to_a_limit)
{
	static char noise[65536];
	int fd;

	world_start(tokens, NULL);
	fd = asked("bad\r\n\r\n");
	client_says_bytes(fd, noise, sizeof noise);
	cr_assert(world.fds[fd].open);
	client_says_bytes(fd, noise, 1);
	cr_assert(!world.fds[fd].open);
	world_stop();
}

/* ---- limits ---- */

Test(conn, H26_a_head_or_target_that_is_too_large_is_refused)
{
	static char big[70000] = "GET /";
	int fd;

	world_start(tokens, NULL);
	memset(big + 5, 'a', sizeof big - 6);
	fd = client_open();
	client_says_bytes(fd, big, 9000);
	expect_status(fd, 414);
	expect_closing(fd);
	strcpy(big, "GET / HTTP/1.1\r\nHost: a\r\nX: ");
	memset(big + strlen(big), 'a', 1000);
	fd = client_open();
	client_says_bytes(fd, big, 16000);
	cr_assert_str_eq(client_hears(fd), "");
	client_says_bytes(fd, "aaaaaaaaaaaaaaaa", 16);
	client_says_bytes(fd, big + 100, 500);
	expect_status(fd, 431);
	expect_closing(fd);
	fd = client_open();
	client_says(fd, "GET / HTTP/1.1\r\nHost: a\r\n");
	for (int i = 0; i < 100; i++)
		client_says(fd, "X: y\r\n");
	expect_status(fd, 431);
	expect_closing(fd);
	world_stop();
}

Test(conn, R19_a_user_has_so_many_streams_and_others_are_put_off)
{
	int fds[3], fd;

	world_start(tokens, "--streams-per-user", "3", "--retry", "5s", "--retry-jitter", "0s", NULL);
	for (int i = 0; i < 3; i++)
		fds[i] = stream_open("boss");
	fd = asked(ASK_STREAM);
	cr_assert_str_eq(client_hears(fd), "HTTP/1.1 200 OK\r\n" DATE "Content-Type: text/event-stream\r\n"
		"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 13\r\nConnection: close\r\n\r\n"
		"retry: 5000\n\n");
	expect_closing(fd);
	cr_assert_eq(world.server->count.refused[REFUSE_too_many_streams], 1);
	stream_open("fore");
	client_ends(fds[1]);
	stream_open("boss");
	world_stop();
}

/* ---- limits of an address: the world's peers are Unix sockets, which --trusted-proxy unix takes for a proxy ---- */

#define FROM(address) "X-Forwarded-For: " address "\r\n"
#define STREAM_OF(address) "GET /api/v1/sse/events/?token=boss HTTP/1.1\r\nHost: h\r\n" FROM(address) "\r\n"
#define STATS_OF(address) \
	"GET /api/v1/sse/stats/ HTTP/1.1\r\nHost: h\r\nAuthorization: Token boss\r\n" FROM(address) "\r\n"

static bool streams(int fd)
{
	return strstr(client_hears(fd), "\"connected\"") != NULL;
}

static bool put_off(int fd)
{
	const char *heard = client_hears(fd);

	return strstr(heard, "HTTP/1.1 200 ") != NULL && strstr(heard, "Connection: close\r\n\r\nretry: ") != NULL;
}

Test(conn, R28_an_address_has_as_many_streams_as_it_may)
{
	int first, fd;

	world_start(tokens, "--connections-per-address", "2", "--trusted-proxy", "unix", NULL);
	first = asked(STREAM_OF("203.0.113.7"));
	cr_assert(streams(first));
	cr_assert(streams(asked(STREAM_OF("6.6.6.6, 203.0.113.7"))));
	cr_assert(put_off(asked(STREAM_OF("203.0.113.7:99"))));
	cr_assert_not_null(strstr(log_hears(), " status=200 reason=too_many_from_address from=203.0.113.7\n"));
	cr_assert_eq(world.server->count.refused[REFUSE_too_many_from_address], 1);
	cr_assert(streams(asked(STREAM_OF("203.0.113.8"))), "another address");
	for (int i = 0; i < 3; i++)
		cr_assert(streams(asked(STREAM_OF("unknown"))), "nobody knows who that is");
	for (int i = 0; i < 3; i++) /* a proxy's connections are its own until there is a stream on them */
		cr_assert_not_null(strstr(client_hears(asked(STATS_OF("203.0.113.7"))), "{\"total_users\""));
	client_ends(first);
	fd = asked(STREAM_OF("203.0.113.7"));
	cr_assert(streams(fd), "there is room again");
	cr_assert(put_off(asked(STREAM_OF("203.0.113.7"))));
	world_stop();
}

Test(conn, R28_an_ipv6_address_is_its_64)
{
	world_start(tokens, "--connections-per-address", "1", "--trusted-proxy", "unix", NULL);
	cr_assert(streams(asked(STREAM_OF("2001:db8:1:2::7"))));
	cr_assert(put_off(asked(STREAM_OF("[2001:db8:1:2:ffff::8]:99"))));
	cr_assert(streams(asked(STREAM_OF("2001:db8:1:3::7"))));
	cr_assert(streams(asked(STREAM_OF("::ffff:192.0.2.1"))));
	cr_assert(put_off(asked(STREAM_OF("192.0.2.1"))));
	cr_assert(streams(asked(STREAM_OF("192.0.2.2"))), "IPv4 addresses are not all in one /64");
	world_stop();
}

Test(conn, R28_sources_that_are_gone_leave_nothing)
{
	world_start(tokens, "--connections-per-address", "1", "--trusted-proxy", "unix", NULL);
	for (int round = 0; round < 3; round++) {
		int fds[100];

		for (int i = 0; i < 100; i++) {
			char text[256];

			snprintf(text, sizeof text, STREAM_OF("%s%d"), "198.51.100.", i);
			fds[i] = asked(text);
			cr_assert(i >= 32 || streams(fds[i]));
		}
		for (int i = 0; i < 32; i++)
			client_ends(fds[i]);
		cr_assert_eq(world.server->sources_by_address.count, 0);
		cr_assert_leq(world.server->sources_top, 34);
	}
	world_stop();
}

Test(conn, H44_who_is_no_trusted_proxy_is_not_believed)
{
	world_start(tokens, "--connections-per-address", "1", "--requests-per-address", "1", "--trusted-proxy", "192.0.2.1", NULL);
	for (int i = 0; i < 3; i++)
		cr_assert(streams(asked(STREAM_OF("203.0.113.7"))));
	cr_assert_not_null(strstr(log_hears(), " from=unix\n"));
	cr_assert_eq(world.server->sources_by_address.count + world.server->paces_by_address.table.count, 0);
	world_stop();
}

Test(conn, A26_an_address_that_asks_too_often_is_told_to_wait)
{
	const char *heard;
	int fd;

	world_start(tokens, "--requests-per-address", "3", "--trusted-proxy", "unix", NULL);
	for (int i = 0; i < 3; i++)
		cr_assert_not_null(strstr(client_hears(asked(STATS_OF("203.0.113.7"))), "HTTP/1.1 200 "));
	fd = asked(STATS_OF("203.0.113.7") STATS_OF("203.0.113.7"));
	heard = client_hears(fd);
	cr_expect_eq(strncmp(heard, "HTTP/1.1 429 Too Many Requests\r\n", 32), 0, "%s", heard);
	cr_assert_str_eq(strstr(heard, "\r\n\r\n"), "\r\n\r\n{\"error\":\"too many requests from this address: wait a second\"}\n");
	expect_closing(fd);
	cr_assert_not_null(strstr(log_hears(), " status=429 reason=too_many_requests from=203.0.113.7\n"));
	cr_assert(put_off(asked(STREAM_OF("203.0.113.7"))), "an EventSource would give up at a 429");
	cr_assert(streams(asked(STREAM_OF("203.0.113.8"))), "another address");
	cr_assert_eq(world.server->count.refused[REFUSE_too_many_requests], 2);
	world_pass(300);
	cr_assert(put_off(asked(STREAM_OF("203.0.113.7"))));
	world_pass(50);
	cr_assert(streams(asked(STREAM_OF("203.0.113.7"))), "a third of a second is one request");
	cr_assert(put_off(asked(STREAM_OF("203.0.113.7"))));
	world_pass(60000);
	for (int i = 0; i < 3; i++)
		cr_assert(streams(asked(STREAM_OF("203.0.113.7"))), "a second's worth, and not a minute's, is there again");
	cr_assert(put_off(asked(STREAM_OF("203.0.113.7"))));
	world_stop();
}

Test(conn, the_requests_of_more_addresses_than_are_remembered_are_let_through)
{
	char text[256];

	world_start(tokens, "--requests-per-address", "1", "--trusted-proxy", "unix", "--idle-timeout", "24h", NULL);
	for (int i = 0; i < 20000; i++) {
		int fd;

		snprintf(text, sizeof text, STATS_OF("10.%d.%d.1"), i / 256, i % 256);
		fd = asked(text);
		cr_assert_not_null(strstr(client_hears(fd), "HTTP/1.1 200 "), "%d", i);
		client_ends(fd);
	}
	cr_assert_eq(world.server->paces_by_address.table.count, MAX_PACES);
	cr_assert_not_null(strstr(client_hears(asked(text)), "HTTP/1.1 429 "), "the last one is remembered");
	world_stop();
}

Test(conn, R19_one_connection_too_many_is_put_off_and_told_so)
{
	int first, fd;

	world_start(tokens, "--max-connections", "2", "--retry", "5s", "--retry-jitter", "0s", NULL);
	first = stream_open("boss");
	stream_open("boss");
	fd = asked(ASK_STREAM);
	cr_assert_not_null(strstr(client_hears(fd), "Content-Length: 13\r\nConnection: close\r\n\r\nretry: 5000\n\n"));
	cr_assert_eq(world.server->count.refused[REFUSE_too_many_connections], 1);
	expect_closing(fd);
	fd = asked(ASK_STATS ASK_STATS);
	cr_assert_not_null(strstr(client_hears(fd), "Connection: close\r\n\r\n{\"total_users\":1"));
	expect_closing(fd);
	client_ends(first);
	stream_open("fore");
	world_stop();
}

Test(conn, a_user_leaves_the_stats_with_the_last_stream)
{
	int a, b, fd;

	world_start(tokens, NULL);
	a = stream_open("boss");
	b = stream_open("boss");
	stream_open("fore");
	fd = asked(ASK_STATS);
	client_ends(a);
	client_hears(fd);
	client_says(fd, ASK_STATS);
	cr_assert_not_null(strstr(client_hears(fd), "{\"total_users\":2,\"total_connections\":2,\"users\":{\"1\":1,\"789\":1}}"));
	client_resets(b);
	client_says(fd, ASK_STATS);
	cr_assert_not_null(strstr(client_hears(fd), "{\"total_users\":1,\"total_connections\":1,\"users\":{\"789\":1}}"));
	world_stop();
}

Test(conn, any_of_a_users_streams_may_leave_first)
{
	world_start(tokens, NULL);
	for (int gone = 0; gone < 4; gone++) {
		int fds[4];

		for (int i = 0; i < 4; i++)
			fds[i] = stream_open("boss");
		client_ends(fds[gone]);
		cr_assert_not_null(strstr(django_says("{\"event\":\"a\",\"data\":1,\"to\":{\"users\":[1]}}"), "\"matched\":3}"));
		for (int i = 0; i < 4; i++)
			if (i != gone) {
				cr_assert_neq(client_hears(fds[i])[0], '\0');
				client_ends(fds[i]);
			}
		cr_assert_not_null(strstr(django_says("{\"event\":\"a\",\"data\":1,\"to\":{\"users\":[1]}}"), "\"matched\":0}"));
	}
	world_stop();
}

Test(conn, a_stream_that_waits_on_nothing_costs_a_cache_line)
{
	int fd;

	world_start(tokens, NULL);
	fd = stream_open("boss");
	cr_assert_leq(sizeof(struct conn), 64);
	cr_assert_null(client_conn(fd)->in);
	cr_assert_null(client_conn(fd)->out);
	world_stop();
}

/* ---- accepting ---- */

Test(conn, R1_a_listener_that_found_no_descriptors_is_asked_again)
{
	struct server *s;

	world_start(tokens, NULL);
	s = world.server;
	s->listeners[s->listener_count++] = (struct listener){.fd = WORLD_LISTENER, .resting = true};
	server_turn(s, -1);
	cr_assert(world.wait_ms >= 0 && world.wait_ms <= 50, "with nobody connected, only a tick wakes it up");
	world_pass(100);
	cr_assert(!s->listeners[0].resting);
	server_turn(s, -1);
	cr_assert_eq(world.wait_ms, -1, "nothing is due");
	world_stop();
}
