/* test_auth.c - who may listen, as transcripts: sse asks Django, and Django takes back what it said. */
#include "vectors.h"
#include "world.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URL "--auth-url", "http://127.0.0.1:8000/api/v1/sse/auth/"
#define MANAGER "{\"user\":7,\"roles\":[\"manager\"]}"

TestSuite(auth);

static void start(void)
{
	world_start(NULL, URL, NULL);
}

static int asks_for_stream(const char *token)
{
	int fd = client_open();
	char request[512];

	snprintf(request, sizeof request, "GET /api/v1/sse/events/?token=%s HTTP/1.1\r\nHost: a\r\n\r\n", token);
	client_says(fd, request);
	return fd;
}

/* A stream that Django lets in. */
static int stream_allowed(const char *token, const char *json)
{
	int fd = asks_for_stream(token);

	django_allows(django_asked(token), json);
	cr_assert_eq(client_conn(fd)->state, CONN_STREAM, "%s", client_hears(fd));
	client_hears(fd);
	return fd;
}

static void expect_begins(int fd, const char *text)
{
	const char *heard = client_hears(fd);

	cr_expect(strncmp(heard, text, strlen(text)) == 0, "expected %s..., got %s", text, heard);
}

static void expect_refused(int fd)
{
	expect_begins(fd, "HTTP/1.1 401 Unauthorized\r\n");
}

/* The overload answer: a browser comes back by itself. */
static void expect_put_off(int fd)
{
	const char *heard = client_hears(fd);

	cr_expect(strncmp(heard, "HTTP/1.1 200 OK\r\n", 17) == 0 && strstr(heard, "\r\n\r\nretry: ") != NULL
		&& strstr(heard, "Content-Length: ") != NULL, "expected to be put off, got %s", heard);
	cr_expect_neq(client_conn(fd)->state, CONN_STREAM);
}

static void expect_live(int fd)
{
	cr_expect_eq(client_conn(fd)->state, CONN_STREAM);
	django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
	cr_expect_not_null(strstr(client_hears(fd), "\"event\":\"a\""));
}

static void expect_revoked(int fd)
{
	cr_expect_str_eq(client_hears_frames(fd), "data: {\"event\":\"auth.revoked\"}\n\n[end]");
}

static bool gets_event_for(int fd, const char *role)
{
	char event[128];

	client_hears(fd);
	snprintf(event, sizeof event, "{\"event\":\"a\",\"data\":1,\"to\":{\"roles\":[\"%s\"]}}", role);
	django_says(event);
	return strstr(client_hears(fd), "\"event\":\"a\"") != NULL;
}

/* Five to ten minutes later the live streams are asked about again: passes until that is so. */
static void time_to_refresh(void)
{
	for (int passed = 0; world.server->asking == 0; passed += 50) {
		cr_assert_lt(passed, 601000, "nobody is asked about again");
		world_pass(50);
	}
}

/* ---- the question ---- */

Test(auth, A18_django_is_asked_who_the_token_is)
{
	int link = -1, fd;
	const struct sockaddr_in *to = (const struct sockaddr_in *)(const void *)&world.connected_to;

	start();
	fd = asks_for_stream("abc&x=1");
	cr_expect_str_eq(django_hears(&link),
		"GET /api/v1/sse/auth/ HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nAuthorization: Token abc\r\n"
		"X-Original-URI: /api/v1/sse/events/?x=1\r\nX-SSE-Phase: connect\r\n"
		"Accept: application/json\r\nUser-Agent: sse/" SSE_VERSION "\r\n\r\n");
	cr_expect(to->sin_family == AF_INET && to->sin_port == htons(8000));
	cr_expect_str_eq(client_hears(fd), "");
	django_allows(link, "{\"user\":\"7\",\"roles\":[\"manager\"],\"sid\":\"s1\",\"expire_at\":0}");
	expect_begins(fd, "HTTP/1.1 200 OK\r\n");
	cr_expect(gets_event_for(fd, "manager"));
	cr_expect_not(gets_event_for(fd, "foreman"));
	cr_expect_not_null(strstr(log_hears(), " msg=connect conn=1 user=7 streams=1 auth=django from=unix\n"));
	world_stop();
}

Test(auth, the_question_is_as_the_options_say)
{
	static char key[96];
	int link = -1;

	strcpy(key, world_file("auth-key", "s3cret\n"));
	world_start(NULL, "--auth-url", "unix:/run/django.sock:/sse/auth?a=b", "--auth-scheme", "Bearer", "--auth-host",
		"site.example", "--auth-key-file", key, "--prefix", "", NULL);
	client_says(client_open(), "GET /events HTTP/1.1\r\nHost: a\r\nAuthorization: Token abc\r\n\r\n");
	cr_expect_str_eq(django_hears(&link),
		"GET /sse/auth?a=b HTTP/1.1\r\nHost: site.example\r\nAuthorization: Bearer abc\r\n"
		"X-Original-URI: /events\r\nX-SSE-Phase: connect\r\nX-SSE-Key: s3cret\r\n"
		"Accept: application/json\r\nUser-Agent: sse/" SSE_VERSION "\r\n\r\n");
	cr_expect_str_eq(((const struct sockaddr_un *)(const void *)&world.connected_to)->sun_path, "/run/django.sock");
	world_file("auth-key", "another\n");
	world_raises(SIGHUP);
	client_says(client_open(), "GET /events?token=d%41f HTTP/1.1\r\nHost: a\r\n\r\n");
	cr_expect_not_null(strstr(django_hears(&link), "\r\nX-SSE-Key: another\r\n"));
	cr_expect_not_null(strstr(log_hears(), " msg=auth_key_read keys=1\n"));
	world_file("auth-key", "two words\n");
	world_raises(SIGHUP);
	cr_expect_not_null(strstr(log_hears(), "msg=auth_key_not_read error=\"--auth-key-file: "));
	cr_expect_str_eq(world.server->auth_key, "another");
	world_stop();
}

Test(auth, the_key_for_django_is_one_visible_word)
{
	static char most[258], more[259], path[96];
	const struct {
		const char *text, *key; /* NULL: refused, and the one before stays */
	} rows[] = {{"!\n", "!"}, {"~", "~"}, {"a\r\n", "a"}, {"a\n\r\n\n", "a"}, {most, most}, {"b\n", "b"},
		{"", NULL}, {"\n", NULL}, {"a b\n", NULL}, {" a\n", NULL}, {"a \n", NULL}, {"a\tb\n", NULL}, {"a\x1f\n", NULL},
		{"a\x7f\n", NULL}, {"a\xc3\xa9\n", NULL}, {"a\nb\n", NULL}, {"\na\n", NULL}, {more, NULL}};
	const char *now = "first";

	memset(most, 'k', 256);
	memset(more, 'k', 257);
	strcpy(path, world_file("auth-key", now));
	world_start(NULL, URL, "--auth-key-file", path, NULL);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		world_file("auth-key", rows[i].text);
		world_raises(SIGHUP);
		cr_expect_not_null(strstr(log_hears(), rows[i].key != NULL ? " msg=auth_key_read " : " msg=auth_key_not_read "),
			"row %zu", i);
		now = rows[i].key != NULL ? rows[i].key : now;
		cr_expect_str_eq(world.server->auth_key, now, "row %zu", i);
	}
	world_stop();
}

Test(auth, a_token_no_header_can_carry_is_refused_unasked)
{
	start();
	expect_refused(asks_for_stream("a%20b"));
	expect_refused(asks_for_stream("a%C3%A9"));
	django_not_asked();
	cr_expect_eq(world.server->count.refused[REFUSE_unknown_token], 2);
	world_stop();
}

Test(auth, stats_are_for_whom_django_lets_in)
{
	int fd, other;

	start();
	fd = client_open();
	client_says(fd, "GET /api/v1/sse/stats/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer abc\r\n\r\n");
	other = client_open();
	client_says(other, "GET /api/v1/sse/stats/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer bad\r\n\r\n");
	django_allows(django_asked("abc"), MANAGER);
	cr_expect_not_null(strstr(client_hears(fd), "{\"total_users\":0,\"total_connections\":0,\"users\":{}}"));
	django_answers(django_asked("bad"), "401 Unauthorized", "", "");
	expect_refused(other);
	client_says(fd, "GET /api/v1/sse/stats/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer down\r\n\r\n");
	django_answers(django_asked("down"), "500 Oops", "", "");
	expect_begins(fd, "HTTP/1.1 503 Service Unavailable\r\n");
	world_stop();
}

Test(auth, H45_who_half_closes_after_a_request_for_stats_is_answered)
{
	int fd;

	start();
	fd = client_open();
	client_says(fd, "GET /api/v1/sse/stats/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer abc\r\n\r\n");
	client_ends(fd);
	django_allows(django_asked("abc"), MANAGER);
	cr_expect_not_null(strstr(client_hears(fd), "\"total_users\":0"));
	cr_expect_not(world.fds[fd].open);
	world_stop();
}

Test(auth, a_head_request_waits_for_the_answer_too)
{
	int fd;

	start();
	fd = client_open();
	client_says(fd, "HEAD /api/v1/sse/events/?token=abc HTTP/1.1\r\nHost: a\r\n\r\n");
	django_allows(django_asked("abc"), MANAGER);
	expect_begins(fd, "HTTP/1.1 200 OK\r\n");
	cr_expect_eq(client_conn(fd)->state, CONN_HEAD);
	world_stop();
}

/* ---- the answer, and how long it is good for ---- */

Test(auth, an_answer_is_kept_for_its_max_age)
{
	static const struct {
		const char *headers;
		int good_ms;
	} rows[] = {
		{"", 30000}, {"Cache-Control: max-age=60\r\n", 60000}, {"Cache-Control: private, MAX-AGE=2\r\n", 2000},
		{"Cache-Control: max-age=86400\r\n", 300000}, {"Cache-Control: max-age=0\r\n", 0},
		{"Cache-Control: no-store\r\n", 0}, {"Cache-Control: max-age=60, no-cache\r\n", 0},
	};

	world_start(NULL, URL, "--auth-refresh", "20h", NULL);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char token[8] = {'t', (char)('0' + i), '\0'};
		int fd = asks_for_stream(token);

		django_answers(django_asked(token), "200 OK", rows[i].headers, MANAGER);
		cr_expect_eq(client_conn(fd)->state, CONN_STREAM, "%s", rows[i].headers);
		client_ends(fd);
		if (rows[i].good_ms > 0) {
			world_pass(rows[i].good_ms - 100);
			fd = stream_open(token);
			django_not_asked();
			client_ends(fd);
		}
		world_pass(200);
		asks_for_stream(token);
		django_allows(django_asked(token), MANAGER);
	}
	world_stop();
}

Test(auth, A21_a_denial_is_kept_for_five_seconds)
{
	static const char *const statuses[] = {"401 Unauthorized", "403 Forbidden"};

	start();
	for (int i = 0; i < 2; i++) {
		int fd = asks_for_stream("bad");

		django_answers(django_asked("bad"), statuses[i], "", "{\"detail\":\"Invalid token.\"}");
		expect_refused(fd);
		cr_expect_not_null(strstr(log_hears(), "status=401 reason=denied_token"));
		world_pass(4900);
		expect_refused(asks_for_stream("bad"));
		django_not_asked();
		world_pass(200);
	}
	cr_expect_eq(world.server->count.denied, 2);
	asks_for_stream("bad");
	django_asked("bad");
	world_stop();
}

Test(auth, A20_an_answer_may_come_byte_by_byte_and_in_chunks)
{
	static const char *const answers[] = {
		"HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n{\"user\":\"7\",\"roles\":[\"manager\",\"b\"]}",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{\"user\"\r\n4;x=y\r\n:\"7\"\r\n1\r\n}\r\n0\r\nA: b\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"user\":7}",
		"HTTP/1.0 200 OK\r\n\r\n{\"user\":7}", /* up to close */
	};

	start();
	for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
		char token[8] = {'t', (char)('0' + i), '\0'};
		int fd = asks_for_stream(token), link = django_asked(token);

		for (const char *p = answers[i]; *p != '\0'; p++) {
			cr_expect_eq(client_conn(fd)->state, CONN_WAIT, "row %zu: too early, at %s", i, p);
			django_answers_bytes(link, p, 1);
		}
		if (i == 3)
			client_ends(link);
		cr_expect_eq(client_conn(fd)->state, CONN_STREAM, "row %zu", i);
		cr_expect_eq(world.fds[link].open, i != 3);
	}
	cr_expect_eq(world.connects, 1, "the connection is kept alive");
	world_stop();
}

/* ---- Django fails ---- */

Test(auth, A20_what_is_no_answer_puts_new_streams_off_and_leaves_live_ones)
{
	static char users65[200], roles65[1200], big[17000];
	static const struct {
		const char *answer;
		enum auth_failure why;
		bool close;
		const char *log;
	} rows[] = {
		{"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", AUTH_status, false, "status=500"},
		{"HTTP/1.1 302 Found\r\nLocation: /login/\r\nContent-Length: 0\r\n\r\n", AUTH_status, false, "redirects are not followed"},
		{"HTTP/1.1 301 Moved\r\nLocation: /a/\r\nContent-Length: 0\r\n\r\n", AUTH_status, false, "need a slash"},
		{"HTTP/1.1 204 No Content\r\n\r\n", AUTH_status, false, "status=204"},
		{"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", AUTH_status, false, "have the right path"},
		{"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n", AUTH_status, false, "the one that Django has"},
		{"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", AUTH_status, false, "ALLOWED_HOSTS"},
		{"HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\n\r\n", AUTH_status, false, "status=429"},
		{"\x15\x03\x01 TLS", AUTH_not_http, false, "not HTTP"},
		{"SSH-2.0-x\r\n", AUTH_not_http, false, "not HTTP"},
		{"", AUTH_closed, true, "closed"},
		{"HTTP/1.1 200 OK\r\nContent-Le", AUTH_closed, true, "closed"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"user\":7}", AUTH_closed, true, "closed"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n12345", AUTH_not_http, false, "not HTTP"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", AUTH_answer, false, "at=0"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", AUTH_answer, false, "reason=answer"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", AUTH_answer, false, "user is missing"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"user\":\"\"}", AUTH_answer, false, "must not be empty"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"user\":null}", AUTH_answer, false, "a user must be"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"user\":7,\"roles\":\"a\"}", AUTH_answer, false, "roles must be an array"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"user\":7,\"role\":[]}", AUTH_answer, false, "unknown key"},
		{"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"user\":7}x", AUTH_answer, false, "reason=answer"},
		{users65, AUTH_answer, false, "longer than 64 bytes"},
		{roles65, AUTH_answer, false, "more than 64 roles"},
		{big, AUTH_too_large, false, "16384"},
	};
	int live;

	snprintf(users65, sizeof users65, "HTTP/1.1 200 OK\r\nContent-Length: 76\r\n\r\n{\"user\":\"%065d\"}", 7);
	strcpy(roles65, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n{\"user\":7,\"roles\":[\"a00\"");
	for (int i = 1; i < 65; i++)
		sprintf(roles65 + strlen(roles65), ",\"a%02d\"", i);
	for (size_t n = strlen(strstr(roles65, "{")); n < 0x200 - 2; n++)
		strcat(roles65, " ");
	strcat(roles65, "]}\r\n0\r\n\r\n");
	strcpy(big, "HTTP/1.1 200 OK\r\n\r\n");
	memset(big + strlen(big), ' ', 16500);

	world_start(NULL, URL, "--auth-refresh", "20h", NULL);
	live = stream_allowed("live", MANAGER);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char token[24] = "";
		uint64_t before = world.server->count.failed[rows[i].why];
		int fd, link;

		snprintf(token, sizeof token, "t%zu", i);
		world_pass(61000); /* so that the log may speak again */
		client_hears(live);
		log_hears();
		fd = asks_for_stream(token);
		link = django_asked(token);
		django_answers_text(link, rows[i].answer);
		if (rows[i].close)
			client_ends(link);
		expect_put_off(fd);
		expect_live(live);
		cr_expect_eq(world.server->count.failed[rows[i].why], before + 1, "row %zu: %s", i, rows[i].answer);
		cr_expect_not_null(strstr(log_hears(), rows[i].log), "row %zu: %s", i, rows[i].log);
	}
	world_stop();
}

Test(auth, A20_a_denial_counts_though_its_body_never_ends)
{
	int fd;

	start();
	fd = asks_for_stream("bad");
	django_answers_text(django_asked("bad"), "HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\nno");
	cr_expect_eq(client_conn(fd)->state, CONN_WAIT);
	world_pass(1100);
	expect_refused(fd);
	cr_expect_eq(django_links(), 0);
	world_stop();
}

Test(auth, A20_django_that_does_not_answer_has_a_second)
{
	int fd, live, link;

	start();
	live = stream_allowed("live", MANAGER);
	fd = asks_for_stream("slow");
	link = django_asked("slow");
	world_pass(900);
	cr_expect_eq(client_conn(fd)->state, CONN_WAIT);
	world_pass(200);
	expect_put_off(fd);
	expect_live(live);
	cr_expect_eq(world.server->count.failed[AUTH_timeout], 1);
	expect_put_off(asks_for_stream("slow"));
	world_pass(3000);
	expect_put_off(asks_for_stream("slow")); /* Django is still at it */
	django_not_asked();
	django_allows(link, "{\"user\":9}"); /* at last: good for who comes back */
	fd = stream_open("slow");
	cr_expect_not_null(strstr(log_hears(), "user=9 streams=1"));
	cr_expect_eq(world.server->asking, 0);
	world_stop();
}

Test(auth, A20_A24_a_question_that_took_too_long_fails_only_once)
{
	int fd, link;

	start();
	client_ends(stream_allowed("a", MANAGER));
	fd = asks_for_stream("slow");
	link = django_asked("slow"); /* on the link that is kept alive */
	world_pass(1100);
	expect_put_off(fd);
	client_ends(link);
	cr_expect_eq(world.server->count.failed[AUTH_timeout], 1);
	cr_expect_eq(world.server->count.failed[AUTH_closed], 0);
	cr_expect_eq(world.server->count.resent, 0);
	django_not_asked();
	world_stop();
}

Test(auth, A21_django_that_is_slow_is_not_asked_more_at_a_time)
{
	world_start(NULL, URL, "--auth-connections", "3", NULL);
	for (int i = 0; i < 50; i++) {
		char token[16];
		int link;

		snprintf(token, sizeof token, "t%d", i);
		asks_for_stream(token);
		world_pass(500);
		while (django_hears(&link) != NULL)
			;
		cr_expect_leq(django_links(), 3, "a question that timed out is still with Django");
	}
	cr_expect_eq(world.connects, 3);
	world_pass(10000); /* after half a minute they are given up */
	cr_expect_gt(world.connects, 3);
	cr_expect_leq(django_links(), 3);
	world_stop();
}

Test(auth, A24_an_answer_to_what_was_not_asked_yet_lets_nobody_in)
{
	int fd;

	world_start(NULL, URL, "--auth-connections", "1", NULL);
	world.link_room = 0; /* the request does not get out */
	fd = asks_for_stream("abc");
	django_allows(world.server->links[0].fd, MANAGER);
	expect_put_off(fd);
	cr_expect_eq(django_links(), 0);
	cr_expect_eq(world.server->count.failed[AUTH_closed], 1);
	world_stop();
}

Test(auth, a_connection_that_is_never_made_does_not_count_as_asked)
{
	int fd, connects;

	world_start(NULL, URL, "--auth-connections", "1", NULL);
	world.link_room = 0; /* the request never gets out */
	fd = asks_for_stream("abc");
	world_pass(1100);
	expect_put_off(fd);
	connects = world.connects;
	world.link_room = SIZE_MAX;
	fd = asks_for_stream("xyz");
	cr_expect_eq(world.connects, connects + 1);
	django_allows(django_asked("xyz"), MANAGER);
	cr_expect_eq(client_conn(fd)->state, CONN_STREAM);
	world_stop();
}

Test(auth, A13_a_token_of_more_than_4_kB_is_refused_unasked)
{
	static char request[9000];
	int fd;

	start();
	for (int n = 4096; n <= 4097; n++) {
		fd = client_open();
		snprintf(request, sizeof request, "GET /api/v1/sse/events/ HTTP/1.1\r\nHost: a\r\nAuthorization: Token %0*d\r\n\r\n", n, 7);
		client_says(fd, request);
		cr_expect_eq(client_conn(fd)->state == CONN_WAIT, n == 4096);
	}
	expect_refused(fd);
	world_stop();
}

Test(auth, a_refresh_that_fails_is_tried_again_at_once_if_somebody_asked_for_it)
{
	int fd;

	start();
	fd = stream_allowed("abc", MANAGER);
	django_says("{\"op\":\"refresh\",\"user\":7}");
	django_answers(django_asked("abc"), "500 Oops", "", "");
	world_pass(3100);
	django_allows(django_asked("abc"), "{\"user\":7,\"roles\":[\"foreman\"]}");
	cr_expect(gets_event_for(fd, "foreman"));
	world_pass(10000);
	django_not_asked();
	world_stop();
}

Test(auth, the_last_of_many_refreshes_counts)
{
	int fd, link, asked = 0;

	start();
	fd = stream_allowed("abc", MANAGER);
	django_says("{\"op\":\"refresh\",\"user\":7}");
	for (; asked < 20; asked++) {
		world_pass(asked == 0 ? 0 : 2500);
		link = django_asked("abc");
		django_says("{\"op\":\"refresh\",\"user\":7}");
		django_allows(link, MANAGER);
	}
	world_pass(2500);
	django_allows(django_asked("abc"), "{\"user\":7,\"roles\":[\"foreman\"]}");
	cr_expect(gets_event_for(fd, "foreman") && !gets_event_for(fd, "manager"));
	world_stop();
}

Test(auth, A20_django_that_sends_a_byte_a_tick_has_a_second_too)
{
	int fd, link;

	start();
	fd = asks_for_stream("slow");
	link = django_asked("slow");
	django_answers_text(link, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < 25 && world.fds[link].open; i++) {
		django_answers_text(link, i == 0 ? "A: " : "b");
		world_pass(50);
	}
	expect_put_off(fd);
	world_stop();
}

Test(auth, A20_django_that_is_down_is_asked_again_when_browsers_come_back)
{
	int fd, live;

	start();
	live = stream_allowed("live", MANAGER);
	client_ends(world.server->links[0].fd);
	world.connect_errno = ECONNREFUSED;
	fd = asks_for_stream("new");
	expect_put_off(fd);
	expect_live(live);
	cr_expect_not_null(strstr(log_hears(), " level=error msg=auth_failed reason=connect error=\"Connection refused\"\n"));
	for (int i = 0; i < 100; i++) {
		char token[16];

		snprintf(token, sizeof token, "n%d", i);
		fd = asks_for_stream(token);
		expect_put_off(fd);
		client_ends(fd);
	}
	cr_expect_null(strstr(log_hears(), "msg=auth_failed"), "said once, and not a hundred times");
	world.connect_errno = 0;
	world_pass(3000);
	fd = asks_for_stream("new");
	django_allows(django_asked("new"), MANAGER);
	expect_begins(fd, "HTTP/1.1 200 OK\r\n");
	cr_expect_eq(client_conn(fd)->state, CONN_STREAM);
	cr_expect_not_null(strstr(log_hears(), " level=info msg=auth_answers_again\n"));
	world_stop();
}

Test(auth, no_descriptor_for_a_question_puts_the_stream_off)
{
	start();
	world.socket_errno = EMFILE;
	expect_put_off(asks_for_stream("abc"));
	world.socket_errno = 0;
	world_pass(1100);
	asks_for_stream("abc");
	django_asked("abc");
	world_stop();
}

Test(auth, a_unix_socket_whose_backlog_is_full_is_tried_again)
{
	int fd;

	start();
	world.connect_errno = EAGAIN;
	fd = asks_for_stream("abc");
	cr_expect_eq(client_conn(fd)->state, CONN_WAIT);
	world_pass(500);
	cr_expect_eq(client_conn(fd)->state, CONN_WAIT);
	world.connect_errno = 0;
	world_pass(50);
	django_allows(django_asked("abc"), MANAGER);
	cr_expect_eq(client_conn(fd)->state, CONN_STREAM);
	world_stop();
}

Test(auth, the_connection_may_take_its_time_and_take_little)
{
	int fd, link;

	start();
	stream_allowed("a", MANAGER);
	link = world.server->links[0].fd;
	world.fds[link].room = 0; /* as while it is being made */
	fd = asks_for_stream("b");
	cr_expect_eq(world.fds[link].out.len, world.fds[link].heard);
	while (world.fds[link].room == 0 || world.fds[link].full)
		client_room(link, 7);
	django_allows(django_asked("b"), MANAGER);
	cr_expect_eq(client_conn(fd)->state, CONN_STREAM);
	world_stop();
}

/* ---- many who wait ---- */

Test(auth, A21_one_question_serves_all_who_wait_with_the_same_token)
{
	int fds[40], link;

	world_start(NULL, URL, "--streams-per-user", "30", NULL);
	for (int i = 0; i < 40; i++)
		fds[i] = asks_for_stream("same");
	link = django_asked("same");
	django_not_asked();
	django_allows(link, MANAGER);
	cr_expect_eq(world.server->streams.count, 30);
	for (int i = 0; i < 40; i++)
		cr_expect_eq(strncmp(client_hears(fds[i]), "HTTP/1.1 200 OK", 15), 0);
	cr_expect_eq(world.server->count.refused[REFUSE_too_many_streams], 10);
	cr_expect_eq(world.server->count.questions, 1);
	world_stop();
}

Test(auth, A21_django_is_never_asked_more_than_its_share_at_a_time)
{
	int link, answered = 0;
	const char *question;

	world_start(NULL, URL, "--auth-connections", "5", NULL);
	for (int i = 0; i < 100; i++) {
		char token[16];

		snprintf(token, sizeof token, "t%d", i);
		asks_for_stream(token);
		cr_expect_leq(django_links(), 5);
	}
	while ((question = django_hears(&link)) != NULL) {
		char user[64];

		snprintf(user, sizeof user, "{\"user\":%d}", answered++);
		cr_expect_leq(world.server->asking, 5);
		django_allows(link, user);
	}
	cr_expect_eq(answered, 100);
	cr_expect_eq(world.server->streams.count, 100);
	cr_expect_eq(world.connects, 5, "connections are kept alive");
	world_stop();
}

Test(auth, A21_R19_past_the_queue_comes_the_overload_answer)
{
	int first, last;

	world_start(NULL, URL, "--auth-connections", "1", "--auth-queue", "3", NULL);
	first = asks_for_stream("t0");
	asks_for_stream("t1");
	asks_for_stream("t2");
	last = asks_for_stream("t3");
	expect_put_off(last);
	cr_expect_eq(world.server->count.refused[REFUSE_auth_queue_full], 1);
	asks_for_stream("t2"); /* shares a question that is there */
	cr_expect_eq(world.server->count.refused[REFUSE_auth_queue_full], 1);
	django_allows(django_asked("t0"), "{\"user\":0}");
	cr_expect_eq(client_conn(first)->state, CONN_STREAM);
	django_allows(django_asked("t1"), "{\"user\":1}");
	django_allows(django_asked("t2"), "{\"user\":2}");
	cr_expect_eq(world.server->streams.count, 4);
	world_stop();
}

Test(auth, A21_who_waits_too_long_in_the_queue_is_put_off)
{
	int fd;

	world_start(NULL, URL, "--auth-connections", "1", NULL);
	for (int i = 0; i < 30; i++) {
		char token[16];

		snprintf(token, sizeof token, "t%d", i);
		fd = asks_for_stream(token);
	}
	world_pass(10500); /* Django is silent: ten questions have failed by then */
	expect_put_off(fd);
	cr_expect_gt(world.server->count.failed[AUTH_queue], 10);
	cr_expect_eq(world.server->count.refused[REFUSE_auth_failed], 30);
	cr_expect_eq(world.server->questions_open, 1, "the one that Django has");
	world_stop();
}

Test(auth, A22_who_leaves_while_waiting_is_forgotten)
{
	int fd, other, link;

	world_start(NULL, URL, "--auth-connections", "1", NULL);
	fd = asks_for_stream("t0");
	other = asks_for_stream("t1"); /* not asked yet */
	client_ends(fd);
	client_resets(other);
	cr_expect(!world.fds[fd].open && !world.fds[other].open);
	link = django_asked("t0");
	cr_expect_eq(asks_for_stream("t2"), fd < other ? fd : other, "the descriptor is used again");
	django_allows(link, "{\"user\":\"0\"}");
	cr_expect_eq(world.server->streams.count, 0, "the answer to t0 lets nobody else in");
	django_allows(django_asked("t2"), "{\"user\":\"2\"}"); /* t1 is not asked about: nobody waits */
	cr_expect_eq(world.server->streams.count, 1);
	cr_expect_not_null(strstr(log_hears(), "user=2 streams=1"));
	fd = stream_open("t0"); /* that answer is good though */
	world_stop();
}

/* Questions that Django has and has not answered: each is about a token "t7.n", of user 7. */
static struct {
	int link, who;
} with_django[8];
static int with_django_count;

static void django_takes_questions(void)
{
	const char *question;
	int link;

	while (with_django_count < 8 && (question = django_hears(&link)) != NULL) {
		question = strstr(question, "Token t");
		cr_assert_not_null(question);
		with_django[with_django_count].who = atoi(question + 7);
		with_django[with_django_count++].link = link;
	}
}

static void django_answers_one(uint64_t *state)
{
	uint32_t k = random_below(state, (uint32_t)with_django_count);
	int link = with_django[k].link;
	char user[32];

	snprintf(user, sizeof user, "{\"user\":%d}", with_django[k].who);
	with_django[k] = with_django[--with_django_count];
	django_answers(link, "200 OK", "Cache-Control: max-age=0\r\n", user);
}

/* Clients come and go while Django takes its time, in any order: descriptors, questions and links are used again. */
Test(auth, A23_whoever_comes_and_goes_the_answer_is_for_whom_it_was_asked)
{
	enum { PEOPLE = 12, SEATS = 40 };
	static struct {
		int fd, who; /* fd is 0: nobody */
	} here[SEATS];
	int heard = 0;
	uint64_t state = 23;

	world_start(NULL, URL, "--auth-connections", "4", "--streams-per-user", "100", "--auth-timeout", "1m", NULL);
	for (int step = 0; step < 6000; step++) {
		uint32_t i = random_below(&state, SEATS), dice = random_below(&state, 16);
		char text[64];

		if (here[i].fd == 0) {
			here[i].who = (int)random_below(&state, PEOPLE);
			snprintf(text, sizeof text, "t%d.%u", here[i].who, random_below(&state, 50)); /* one has several */
			here[i].fd = asks_for_stream(text);
		} else if (dice < 6) {
			(dice < 3 ? client_resets : client_ends)(here[i].fd);
			here[i].fd = 0;
		}
		django_takes_questions();
		if (with_django_count > 0 && dice >= 12) /* most of the time several wait */
			django_answers_one(&state);
		for (int who = 0; step % 50 == 0 && who < PEOPLE; who++) {
			snprintf(text, sizeof text, "{\"event\":\"a\",\"data\":1,\"to\":{\"users\":[%d]}}", who);
			django_says(text);
			for (int k = 0; k < SEATS; k++)
				if (here[k].fd != 0 && client_conn(here[k].fd)->state == CONN_STREAM) {
					bool hears = strstr(client_hears(here[k].fd), "\"event\":\"a\"") != NULL;

					cr_assert_eq(hears, here[k].who == who, "step %d: %d hears what is for %d", step, here[k].who, who);
					heard += hears;
				}
		}
	}
	cr_assert_gt(heard, 1000);
	for (django_takes_questions(); with_django_count > 0; django_takes_questions())
		django_answers_one(&state);
	for (int k = 0; k < SEATS; k++)
		cr_assert(here[k].fd == 0 || client_conn(here[k].fd)->state == CONN_STREAM, "nobody is left waiting");
	world_stop();
}

Test(auth, what_a_client_sends_while_it_waits_is_kept_for_later)
{
	int fd;

	start();
	fd = client_open();
	client_says(fd, "GET /api/v1/sse/stats/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer abc\r\n\r\nGET /no HTTP");
	client_says(fd, "/1.1\r\nHost: a\r\n\r\n");
	django_allows(django_asked("abc"), MANAGER);
	client_says(fd, "");
	cr_expect_not_null(strstr(world.fds[fd].out.data, "\"total_users\":0"));
	cr_expect_not_null(strstr(world.fds[fd].out.data, "404 Not Found"));
	world_stop();
}

Test(auth, who_floods_while_it_waits_is_closed)
{
	static char junk[70000];
	int fd;

	start();
	fd = asks_for_stream("abc");
	memset(junk, 'x', sizeof junk);
	for (int i = 0; i < 2; i++)
		client_says_bytes(fd, junk, i == 0 ? 40000 : 30000);
	cr_expect_not(world.fds[fd].open);
	cr_expect_eq(world.server->count.closed[CLOSE_chatter], 1);
	world_stop();
}

Test(auth, the_end_of_the_server_does_not_wait_for_django)
{
	int fd;

	start();
	fd = asks_for_stream("abc");
	world_raises(SIGTERM);
	expect_put_off(fd);
	cr_expect_eq(world.server->count.refused[REFUSE_draining], 1);
	world_stop();
}

/* ---- connections to Django ---- */

Test(auth, a_link_that_django_closed_while_idle_is_replaced_unseen)
{
	int fd, link;

	start();
	client_ends(stream_allowed("a", MANAGER));
	link = world.server->links[0].fd;
	world.fds[link].eof = true; /* nobody has told sse yet */
	fd = asks_for_stream("b");
	conn_event(world.server, client_conn(link), EPOLLIN | EPOLLRDHUP);
	django_allows(django_asked("b"), MANAGER);
	cr_expect_eq(client_conn(fd)->state, CONN_STREAM);
	cr_expect(world.server->count.resent == 1 && world.connects == 2);
	world_stop();
}

Test(auth, the_other_idle_links_go_with_one_that_django_closed)
{
	int fds[2], fd, link;

	start();
	for (int i = 0; i < 2; i++)
		fds[i] = asks_for_stream(i == 0 ? "a" : "b");
	for (int i = 0; i < 2; i++) {
		const char *question = django_hears(&link);

		cr_assert_not_null(question);
		django_allows(link, MANAGER);
	}
	cr_assert(client_conn(fds[0])->state == CONN_STREAM && client_conn(fds[1])->state == CONN_STREAM);
	cr_assert_eq(django_links(), 2);
	for (int i = 0; i < 2; i++) /* Django went down and came back: nobody has told sse yet */
		world.fds[world.server->links[i].fd].eof = true;
	link = world.server->links[0].fd;
	fd = asks_for_stream("c");
	conn_event(world.server, client_conn(link), EPOLLIN | EPOLLRDHUP);
	django_allows(django_asked("c"), MANAGER);
	cr_expect_eq(client_conn(fd)->state, CONN_STREAM, "one question is sent again once, whatever number of links was closed");
	cr_expect(django_links() == 1 && world.server->count.resent == 1);
	world_stop();
}

Test(auth, a_link_that_breaks_when_it_is_used_again_is_replaced_unseen)
{
	int fd, link;

	start();
	client_ends(stream_allowed("a", MANAGER));
	link = world.server->links[0].fd;
	world.fds[link].fails = EPIPE;
	fd = asks_for_stream("b");
	django_allows(django_asked("b"), MANAGER);
	cr_expect_eq(client_conn(fd)->state, CONN_STREAM);
	cr_expect_eq(world.connects, 2);
	world_stop();
}

Test(auth, a_question_goes_out_again_only_once)
{
	int fd, link;

	start();
	client_ends(stream_allowed("a", MANAGER));
	fd = asks_for_stream("b");
	client_ends(django_asked("b"));
	link = django_asked("b"); /* on a new link */
	client_ends(link);
	expect_put_off(fd);
	cr_expect_eq(world.server->count.failed[AUTH_closed], 1);
	world_stop();
}

Test(auth, a_link_is_closed_when_django_says_so_or_nobody_needs_it)
{
	int link;

	start();
	asks_for_stream("a");
	link = django_asked("a");
	django_answers(link, "200 OK", "Connection: close\r\n", MANAGER);
	cr_expect_eq(django_links(), 0);
	asks_for_stream("b");
	django_allows(django_asked("b"), MANAGER);
	cr_expect_eq(django_links(), 1);
	world_pass(5100);
	cr_expect_eq(django_links(), 0);
	asks_for_stream("c");
	link = django_asked("c");
	django_allows(link, MANAGER);
	client_ends(link);
	cr_expect_eq(django_links(), 0);
	world_stop();
}

Test(auth, A24_bytes_behind_an_answer_cost_the_link)
{
	int fd, other, link;

	world_start(NULL, URL, "--auth-connections", "1", NULL);
	fd = asks_for_stream("a");
	other = asks_for_stream("b");
	link = django_asked("a");
	django_answers_text(link, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"user\":1}"
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"user\":1}");
	cr_expect_eq(client_conn(fd)->state, CONN_STREAM);
	cr_expect_eq(client_conn(other)->state, CONN_WAIT, "the second answer is nobody's");
	cr_expect_eq(world.connects, 2);
	django_allows(django_asked("b"), "{\"user\":2}");
	cr_expect_not_null(strstr(log_hears(), "user=2"));
	world_stop();
}

Test(auth, A24_bytes_on_an_idle_link_cost_it)
{
	int link;

	start();
	stream_allowed("a", MANAGER);
	link = world.server->links[0].fd;
	django_answers(link, "200 OK", "", "{\"user\":\"evil\"}");
	cr_expect_eq(django_links(), 0);
	asks_for_stream("b");
	django_asked("b");
	world_stop();
}

/* ---- live streams are asked about again ---- */

Test(auth, live_streams_are_asked_about_every_five_to_ten_minutes)
{
	int fd, link = -1, seen = 0;
	const char *question;

	start();
	fd = stream_allowed("abc", MANAGER);
	world_pass(299000);
	django_not_asked();
	for (int i = 0; i < 302 && seen == 0; i++) {
		world_pass(1000);
		question = django_hears(&link);
		seen = question != NULL;
	}
	cr_assert(seen, "not asked within ten minutes");
	cr_expect_not_null(strstr(question, "\r\nAuthorization: Token abc\r\n"));
	cr_expect_not_null(strstr(question, "\r\nX-SSE-Phase: refresh\r\n"));
	cr_expect_not_null(strstr(question, "\r\nX-Original-URI: /api/v1/sse/events/\r\n"));
	cr_expect_eq(world.server->count.refreshes, 1);
	django_allows(link, MANAGER);
	client_hears(fd);
	expect_live(fd);
	world_pass(299000);
	django_not_asked();
	world_stop();
}

Test(auth, A17_a_token_that_is_no_longer_good_ends_its_streams)
{
	int fd, other, third;

	start();
	fd = stream_allowed("abc", MANAGER);
	other = stream_open("abc");
	third = stream_allowed("xyz", MANAGER);
	for (int i = 0, link; i < 2; i++) {
		bool gone;

		time_to_refresh();
		gone = strstr(django_hears(&link), "abc") != NULL;
		client_hears(fd), client_hears(other);
		django_answers(link, gone ? "401 Unauthorized" : "200 OK", "", gone ? "" : MANAGER);
		if (gone)
			break;
	}
	django_not_asked();
	expect_revoked(fd);
	expect_revoked(other);
	client_hears(third);
	expect_live(third);
	cr_expect_not_null(strstr(log_hears(), "reason=revoked"));
	expect_refused(asks_for_stream("abc"));
	world_stop();
}

Test(auth, a_denial_of_a_new_stream_ends_the_old_ones_too)
{
	int fd;

	start();
	fd = stream_allowed("abc", MANAGER);
	world_pass(31000);
	client_hears(fd);
	expect_begins(asks_for_stream("abc"), "");
	django_answers(django_asked("abc"), "403 Forbidden", "", "");
	expect_revoked(fd);
	world_stop();
}

Test(auth, changed_roles_count_on_the_open_stream)
{
	int fd, link;

	start();
	fd = stream_allowed("abc", "{\"user\":7,\"roles\":[\"manager\",\"stays\"]}");
	cr_expect(gets_event_for(fd, "manager") && gets_event_for(fd, "stays") && !gets_event_for(fd, "foreman"));
	time_to_refresh();
	link = django_asked("abc");
	django_allows(link, "{\"user\":7,\"roles\":[\"foreman\",\"stays\"]}");
	cr_expect(!gets_event_for(fd, "manager") && gets_event_for(fd, "stays") && gets_event_for(fd, "foreman"));
	cr_expect_not_null(strstr(log_hears(), " msg=roles_changed user=7 streams=1\n"));
	cr_expect_eq(client_conn(fd)->state, CONN_STREAM);
	world_stop();
}

Test(auth, a_token_that_became_another_users_loses_its_streams)
{
	int fd;

	start();
	fd = stream_allowed("abc", MANAGER);
	time_to_refresh();
	client_hears(fd);
	django_allows(django_asked("abc"), "{\"user\":8}");
	expect_revoked(fd);
	fd = stream_open("abc");
	cr_expect_not_null(strstr(log_hears(), "user=8 streams=1"));
	world_stop();
}

Test(auth, a_backend_error_leaves_a_live_stream_and_is_tried_again_soon)
{
	int fd, link;
	int64_t before;

	start();
	fd = stream_allowed("abc", MANAGER);
	time_to_refresh();
	django_answers(django_asked("abc"), "500 Oops", "", "");
	client_hears(fd);
	expect_live(fd);
	cr_expect(gets_event_for(fd, "manager"));
	world_pass(29000);
	django_not_asked();
	before = world.now_ms;
	time_to_refresh();
	cr_expect_leq(world.now_ms - before, 33000);
	link = django_asked("abc");
	django_answers(link, "401 Unauthorized", "", "");
	cr_expect_eq(client_conn(fd)->state != CONN_STREAM, true);
	world_stop();
}

Test(auth, live_streams_and_who_waits_get_their_turns)
{
	int refreshes = 0, link;

	world_start(NULL, URL, "--auth-connections", "1", NULL);
	for (int i = 0; i < 40; i++) {
		char token[16], user[32];

		snprintf(token, sizeof token, "t%d", i);
		snprintf(user, sizeof user, "{\"user\":%d}", i);
		stream_allowed(token, user);
	}
	asks_for_stream("busy");
	link = django_asked("busy");
	for (int i = 0; i < 40; i++) {
		char text[64];

		snprintf(text, sizeof text, "{\"op\":\"refresh\",\"user\":%d}", i);
		django_says(text);
		snprintf(text, sizeof text, "n%d", i);
		asks_for_stream(text);
	}
	django_allows(link, MANAGER);
	for (int i = 0; i < 40; i++) {
		refreshes += strstr(django_hears(&link), "Phase: refresh") != NULL;
		django_allows(link, "{\"user\":1}");
	}
	cr_expect_eq(refreshes, 10, "every fourth question");
	world_stop();
}

/* ---- taken back ---- */

Test(auth, A17_revoke_by_user_ends_streams_and_what_was_cached)
{
	int fd, other, mine;

	start();
	fd = stream_allowed("abc", MANAGER);
	mine = stream_allowed("def", MANAGER);
	other = stream_allowed("xyz", "{\"user\":8}");
	client_ends(stream_allowed("ghi", MANAGER)); /* cached */
	cr_expect_not_null(strstr(django_says("{\"op\":\"revoke\",\"user\":7}"), "\"matched\":2"));
	expect_revoked(fd);
	expect_revoked(mine);
	cr_expect_not_null(strstr(log_hears(), " msg=revoke user=7 matched=2\n"));
	client_hears(other);
	expect_live(other);
	fd = asks_for_stream("ghi");
	cr_expect_eq(client_conn(fd)->state, CONN_WAIT, "Django is asked anew");
	world_stop();
}

Test(auth, A17_revoke_by_sid_ends_that_session)
{
	int fd, other;
	const char *log;

	start();
	fd = stream_allowed("abc", "{\"user\":7,\"sid\":\"first\"}");
	other = stream_allowed("def", "{\"user\":7,\"sid\":\"second\"}");
	cr_expect_not_null(strstr(django_says("{\"op\":\"revoke\",\"sid\":\"first\"}"), "\"matched\":1"));
	expect_revoked(fd);
	expect_live(other);
	log = log_hears();
	cr_expect_not_null(strstr(log, " msg=revoke by=sid matched=1\n"));
	cr_expect_null(strstr(log, "first"), "a sid may be Django's session key");
	cr_expect_not_null(strstr(django_says("{\"op\":\"revoke\",\"sid\":\"first\"}"), "\"matched\":0"));
	world_stop();
}

Test(auth, a_revoked_stream_hears_it_at_once_though_others_wait_to_be_written)
{
	int fds[30], last;

	world_start(NULL, URL, NULL);
	for (int i = 0; i < 30; i++)
		fds[i] = i == 0 ? stream_allowed("abc", MANAGER) : stream_open("abc");
	last = stream_allowed("xyz", "{\"user\":8}");
	for (int i = 0; i < 30; i++)
		client_room(fds[i], 10);
	(void)fds;
	django_queues("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}\n{\"op\":\"revoke\",\"user\":8}");
	world.server->intake.readable = true;
	world.server->cursor = 0;
	server_turn(world.server, 0);
	cr_expect_not_null(strstr(world.fds[last].out.data, "auth.revoked"));
	cr_expect(world.fds[last].shut);
	for (int i = 0; i < 30; i++)
		world.fds[fds[i]].room = SIZE_MAX;
	world_stop();
}

Test(auth, an_answer_older_than_a_revocation_lets_nobody_in)
{
	static const struct {
		const char *op, *answer;
		bool overtaken;
	} rows[] = {
		{"{\"op\":\"revoke\",\"user\":7}", "{\"user\":\"7\"}", true},
		{"{\"op\":\"revoke\",\"sid\":\"s1\"}", "{\"user\":\"7\",\"sid\":\"s1\"}", true},
		{"{\"op\":\"refresh\",\"user\":\"7\"}", "{\"user\":7}", true},
		{"{\"op\":\"revoke\",\"user\":8}", "{\"user\":7}", false},
		{"{\"op\":\"revoke\",\"sid\":\"7\"}", "{\"user\":7}", false},
		{"{\"op\":\"revoke\",\"user\":\"s1\"}", "{\"user\":7,\"sid\":\"s1\"}", false},
	};

	start();
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char token[8] = {'t', (char)('0' + i), '\0'};
		int fd = asks_for_stream(token), link = django_asked(token);

		world_pass(50);
		django_says(rows[i].op);
		world_pass(50);
		django_allows(link, rows[i].answer);
		cr_expect_eq(client_conn(fd)->state, rows[i].overtaken ? CONN_WAIT : CONN_STREAM, "row %zu", i);
		if (rows[i].overtaken) {
			django_answers(django_asked(token), "401 Unauthorized", "", "");
			expect_refused(fd);
		}
		world_pass(1000);
	}
	cr_expect_eq(world.server->count.overtaken, 3);
	world_stop();
}

Test(auth, the_newest_revocation_is_the_last_to_be_forgotten)
{
	int fd, link;

	start();
	django_says("{\"op\":\"revoke\",\"user\":7}");
	for (int i = 1; i < MAX_TOMBSTONES; i++) {
		char text[64];

		snprintf(text, sizeof text, "{\"op\":\"revoke\",\"user\":\"x%d\"}", i);
		django_says(text);
	}
	fd = asks_for_stream("abc");
	link = django_asked("abc");
	django_says("{\"op\":\"revoke\",\"user\":7}");
	django_says("{\"op\":\"revoke\",\"user\":\"another\"}");
	django_allows(link, MANAGER);
	cr_expect_eq(client_conn(fd)->state, CONN_WAIT);
	cr_expect_eq(world.server->count.overtaken, 1);
	cr_expect_eq(world.server->tombstones[TOMB_USER].by_id.table.count, MAX_TOMBSTONES);
	django_asked("abc");
	world_stop();
}

Test(auth, a_denial_older_than_a_refresh_ends_no_stream)
{
	int fd, link;

	start();
	fd = stream_allowed("abc", MANAGER);
	time_to_refresh();
	link = django_asked("abc");
	django_says("{\"op\":\"refresh\",\"user\":7}"); /* activated again */
	django_answers(link, "401 Unauthorized", "", "");
	django_allows(django_asked("abc"), MANAGER);
	client_hears(fd);
	expect_live(fd);
	world_stop();
}

Test(auth, a_refresh_that_says_the_time_is_over_ends_the_stream_so)
{
	int fd;

	start();
	fd = stream_allowed("abc", MANAGER);
	time_to_refresh();
	client_hears(fd);
	django_allows(django_asked("abc"), "{\"user\":7,\"expire_at\":1}");
	world_pass(1100);
	cr_expect_eq(strncmp(client_hears_frames(fd), "retry: ", 7), 0);
	cr_expect_eq(world.server->count.closed[CLOSE_expired], 1);
	world_stop();
}

Test(auth, an_answer_that_is_always_overtaken_puts_off_in_the_end)
{
	int fd, asked = 0, link;

	start();
	fd = asks_for_stream("abc");
	while (django_hears(&link) != NULL && asked++ < 20) {
		django_says("{\"op\":\"revoke\",\"user\":7}");
		django_allows(link, MANAGER);
	}
	expect_put_off(fd);
	cr_expect_lt(asked, 10);
	cr_expect_eq(world.server->count.failed[AUTH_stale], 1);
	world_stop();
}

Test(auth, op_refresh_asks_about_a_user_at_once)
{
	int fd;

	start();
	fd = stream_allowed("abc", MANAGER);
	stream_allowed("xyz", "{\"user\":8}");
	cr_expect_not_null(strstr(django_says("{\"op\":\"refresh\",\"user\":7}"), "\"ok\":true"));
	django_allows(django_asked("abc"), "{\"user\":7,\"roles\":[\"foreman\"]}");
	django_not_asked();
	cr_expect(gets_event_for(fd, "foreman") && !gets_event_for(fd, "manager"));
	cr_expect_not_null(strstr(log_hears(), " msg=refresh user=7 matched=1\n"));
	cr_expect_not_null(strstr(django_says("{\"op\":\"refresh\",\"user\":\"nobody\"}"), "\"matched\":0"));
	client_ends(fd);
	django_says("{\"op\":\"refresh\",\"user\":7}");
	django_not_asked();
	fd = asks_for_stream("abc");
	cr_expect_eq(client_conn(fd)->state, CONN_WAIT, "what was cached is out of date");
	world_stop();
}

Test(auth, A17_expire_at_ends_a_stream_on_time)
{
	char answer[128];
	int fd, other;

	start();
	snprintf(answer, sizeof answer, "{\"user\":7,\"expire_at\":%lld}", (long long)world.wall_ms / 1000 + 10);
	fd = stream_allowed("abc", answer);
	other = stream_allowed("xyz", "{\"user\":8,\"expire_at\":0}");
	world_pass(9900);
	expect_live(fd);
	world_pass(1100);
	cr_expect_eq(strncmp(client_hears_frames(fd), "retry: ", 7), 0);
	cr_expect(!world.fds[fd].open || world.fds[fd].shut);
	cr_expect_not_null(strstr(log_hears(), "reason=expired"));
	fd = asks_for_stream("abc"); /* the cached answer is worth nothing now */
	django_allows(django_asked("abc"), answer);
	expect_refused(fd);
	cr_expect_eq(world.server->count.denied, 1);
	client_hears(other);
	expect_live(other);
	world_stop();
}

/* ---- bounds ---- */

Test(auth, A26_random_tokens_do_not_push_good_ones_out)
{
	int link, good, n = 0;

	start();
	client_ends(stream_allowed("good", MANAGER));
	for (int i = 0; i < 17000; i++) {
		char token[16];
		int fd;

		snprintf(token, sizeof token, "r%d", i);
		fd = asks_for_stream(token);
		while (django_hears(&link) != NULL) {
			n++;
			django_answers(link, "401 Unauthorized", "", "");
		}
		buf_clear(&world.fds[link].out);
		world.fds[link].heard = 0;
		client_ends(fd);
	}
	cr_expect_eq(n, 17000);
	good = stream_open("good");
	django_not_asked();
	expect_live(good);
	cr_expect_eq(world.server->verdicts_by_key.table.count, MAX_VERDICTS);
	world_stop();
}

Test(auth, A26_cached_answers_are_bounded_and_the_oldest_leaves_first)
{
	int fd;

	start();
	for (int i = 0; i <= MAX_CACHED; i++) {
		char token[16], user[48];

		snprintf(token, sizeof token, "t%d", i);
		snprintf(user, sizeof user, "{\"user\":%d,\"sid\":\"s%d\"}", i, i);
		client_ends(stream_allowed(token, user));
		buf_clear(&world.fds[world.server->links[0].fd].out);
		world.fds[world.server->links[0].fd].heard = 0;
	}
	cr_expect_eq(world.server->cached, MAX_CACHED);
	fd = asks_for_stream("t0");
	cr_expect_eq(client_conn(fd)->state, CONN_WAIT);
	fd = stream_open("t1");
	world_pass(31000);
	cr_expect_eq(world.server->cached, 0, "what is no longer good goes");
	cr_expect_eq(world.server->sessions_by_key.count, 1);
	cr_expect_eq(world.server->sessions_by_sid.count, 1);
	world_stop();
}

Test(auth, the_sixty_fifth_role_puts_off_until_one_is_free)
{
	char roles[1200] = "{\"user\":1,\"roles\":[\"r0\"";
	int first, fd;

	for (int i = 1; i < MAX_ROLES; i++)
		sprintf(roles + strlen(roles), ",\"r%d\"", i);
	strcat(roles, "]}");
	start();
	first = stream_allowed("all", roles);
	fd = asks_for_stream("more");
	django_allows(django_asked("more"), "{\"user\":2,\"roles\":[\"r5\",\"another\"]}");
	expect_put_off(fd);
	cr_expect_eq(world.server->count.failed[AUTH_roles], 1);
	cr_expect_not_null(strstr(log_hears(), "reason=roles error=\"more than 64 different roles at a time\""));
	cr_expect_eq(world.server->users_by_id.count, 1, "nothing of it is left behind");
	cr_expect(gets_event_for(first, "r63"));
	client_ends(first);
	world_pass(31000);
	fd = asks_for_stream("more");
	django_allows(django_asked("more"), "{\"user\":2,\"roles\":[\"r5\",\"another\"]}");
	cr_expect(gets_event_for(fd, "another"));
	world_stop();
}

Test(auth, a_role_that_was_taken_away_makes_room_for_the_new_one)
{
	char roles[1200] = "{\"user\":1,\"roles\":[\"r0\"";
	int fd;

	for (int i = 1; i < MAX_ROLES - 1; i++)
		sprintf(roles + strlen(roles), ",\"r%d\"", i);
	strcat(roles, "]}");
	start();
	stream_allowed("all", roles);
	fd = stream_allowed("abc", MANAGER);
	django_says("{\"op\":\"refresh\",\"user\":7}");
	django_allows(django_asked("abc"), "{\"user\":7,\"roles\":[\"guest\"]}");
	cr_expect(gets_event_for(fd, "guest") && !gets_event_for(fd, "manager"));
	django_says("{\"op\":\"refresh\",\"user\":7}");
	django_allows(django_asked("abc"), "{\"user\":7,\"roles\":[\"boss\",\"one too many\"]}");
	cr_expect_not(gets_event_for(fd, "guest"), "what Django took away is gone, whether the new one fits or not");
	cr_expect_eq(world.server->count.failed[AUTH_roles], 1);
	cr_expect_null(strstr(log_hears(), "auth_answers_again"));
	world_stop();
}

Test(auth, who_asks_with_a_good_token_and_gets_no_stream_leaves_no_token)
{
	int fd;

	start();
	client_ends(stream_allowed("abc", MANAGER));
	fd = client_open();
	client_says(fd, "HEAD /api/v1/sse/events/?token=abc HTTP/1.1\r\nHost: a\r\n\r\n");
	cr_assert_eq(world.server->cached, 1);
	cr_expect_null(world.server->sessions[world.server->cache_first].token);
	world_stop();
}

/* ---- beside the token file; secrets ---- */

Test(auth, the_token_file_comes_first_and_may_take_a_token_over)
{
	int file, asked;

	world_start("fixed 1 manager\n", URL, NULL);
	file = stream_open("fixed");
	django_not_asked();
	asked = stream_allowed("abc", "{\"user\":7,\"roles\":[\"foreman\"]}");
	world_tokens("fixed 1 boss\nabc 7 foreman\n");
	world_raises(SIGHUP);
	expect_revoked(asked);
	cr_expect(gets_event_for(file, "boss") && !gets_event_for(file, "manager"));
	asked = stream_open("abc");
	django_not_asked();
	cr_expect_not_null(strstr(log_hears(), "user=7 streams=1 auth=file"));
	world_tokens("fixed 1 boss\n");
	world_raises(SIGHUP);
	expect_revoked(asked);
	asked = stream_allowed("abc", "{\"user\":7,\"roles\":[\"foreman\"]}");
	world_raises(SIGHUP);
	cr_expect(gets_event_for(asked, "foreman"), "what Django said is not the file's to take");
	world_stop();
}

Test(auth, a_token_that_the_file_got_while_django_was_asked_is_the_files)
{
	int fd, link;

	world_start("", URL, NULL);
	fd = asks_for_stream("abc");
	link = django_asked("abc");
	world_tokens("abc 1 manager\n");
	world_raises(SIGHUP);
	django_allows(link, "{\"user\":7}");
	cr_expect_eq(client_conn(fd)->state, CONN_STREAM);
	cr_expect_not_null(strstr(log_hears(), "user=1 streams=1 auth=file"));
	cr_expect_eq(world.server->sessions[client_conn(fd)->u.stream.session].due_ms, 0, "Django is not asked about it again");
	world_stop();
}

Test(auth, A18_no_token_is_in_the_log_or_stays_in_memory)
{
	static const char token[] = "c4n4ry-t0ken-that-must-not-stay";
	const char *memory;
	int fd, link;
	struct session *x;

	start();
	fd = stream_allowed(token, "{\"user\":7,\"sid\":\"canary-sid\"}");
	x = &world.server->sessions[client_conn(fd)->u.stream.session];
	cr_assert_not_null(x->token);
	cr_expect_eq(x->token->len, strlen(token));
	cr_expect_null(memmem(x->token->bytes, x->token->len, "c4n4ry", 6), "sealed");
	memory = world.server->memory;
	cr_expect_null(memmem(memory, world.server->memory_bytes > (64u << 20) ? 64u << 20 : world.server->memory_bytes, token, strlen(token)));
	for (int i = 0; i < MAX_LINKS; i++)
		cr_expect_null(memmem(world.server->links[i].out.data, world.server->links[i].out.cap, "c4n4ry", 6));
	cr_expect_null(memmem(world.server->input, sizeof world.server->input, "c4n4ry", 6));
	cr_expect_null(memmem(world.server->token.data, world.server->token.cap, "c4n4ry", 6));
	time_to_refresh();
	link = django_asked(token);
	for (int i = 0; i < MAX_LINKS; i++)
		cr_expect(world.server->links[i].fd == link
			|| memmem(world.server->links[i].out.data, world.server->links[i].out.cap, "c4n4ry", 6) == NULL);
	django_answers(link, "401 Unauthorized", "", "");
	django_says("{\"op\":\"revoke\",\"sid\":\"canary-sid\"}");
	cr_expect_null(memmem(world.log.data, world.log.len, "c4n4ry", 6));
	cr_expect_null(memmem(world.log.data, world.log.len, "canary", 6));
	for (int i = 0; i < MAX_LINKS; i++)
		cr_expect_null(memmem(world.server->links[i].out.data, world.server->links[i].out.cap, "c4n4ry", 6));
	world_stop();
}

/* ---- tickets ---- */

static const char key[] = "0123456789abcdef0123456789abcdef", another_key[] = "fedcba9876543210fedcba9876543210";

static void base64url_append(char *to, const void *bytes, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	const unsigned char *p = bytes;

	to += strlen(to);
	for (size_t bit = 0; bit < 8 * n; bit += 6) {
		unsigned value = (unsigned)p[bit / 8] << 8 | (bit / 8 + 1 < n ? p[bit / 8 + 1] : 0);

		*to++ = digits[value >> (10 - bit % 8) & 63];
	}
	*to = '\0';
}

/* A ticket with these claims; lives until the call after the next. */
static const char *ticket_by(const char *secret, const char *claims)
{
	static char tickets[2][2048];
	static int which;
	static const char header[] = "{\"typ\":\"JWT\",\"alg\":\"HS256\"}";
	char *t = tickets[which ^= 1];
	struct hmac_key k;
	uint8_t mac[32];

	t[0] = '\0';
	base64url_append(t, header, strlen(header));
	strcat(t, ".");
	base64url_append(t, claims, strlen(claims));
	hmac_key(&k, span_of(secret));
	hmac_sha256(&k, span_of(t), mac);
	strcat(t, ".");
	base64url_append(t, mac, sizeof mac);
	return t;
}

/* For so many seconds from now on, made so many seconds ago (-1: it does not say). */
static const char *ticket(const char *more, int lasts_s, int age_s)
{
	char claims[1024], iat[64] = "";
	long long now = (long long)world.wall_ms / 1000;

	if (age_s >= 0)
		snprintf(iat, sizeof iat, ",\"iat\":%lld", now - age_s);
	snprintf(claims, sizeof claims, "{\"sub\":\"7\",\"aud\":\"sse\",\"exp\":%lld%s%s}", now + lasts_s, iat, more);
	return ticket_by(key, claims);
}

/* Made so many ms from now, which it says to the ms. */
static const char *ticket_of_ms(int from_now_ms)
{
	char claims[256];
	long long made_ms = (long long)world.wall_ms + from_now_ms;

	snprintf(claims, sizeof claims, "{\"sub\":\"7\",\"aud\":\"sse\",\"sid\":\"s1\",\"exp\":%lld,\"iat\":%lld.%03lld}",
		made_ms / 1000 + 60, made_ms / 1000, made_ms % 1000);
	return ticket_by(key, claims);
}

static void start_tickets(const char *url_flag, const char *url)
{
	static char path[96]; /* the options point into it */
	char text[128];

	snprintf(text, sizeof text, "%s\n", key);
	strcpy(path, world_file("ticket-keys", text));
	world_start(NULL, "--ticket-key-file", path, url_flag, url, NULL);
}

Test(auth, a_request_that_waits_for_django_is_counted_once)
{
	static const char ask[] = "GET /api/v1/sse/events/?token=%s HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
	char text[256];

	world_start(NULL, URL, "--requests-per-address", "2", "--trusted-proxy", "unix", NULL);
	for (int i = 0; i < 3; i++) {
		int fd = client_open();

		snprintf(text, sizeof text, ask, i == 0 ? "a" : i == 1 ? "b" : "c");
		client_says(fd, text);
		if (i < 2)
			django_allows(django_asked(i == 0 ? "a" : "b"), "{\"user\":7}");
		cr_expect_not_null(strstr(client_hears(fd), i < 2 ? "\"connected\"" : "close\r\n\r\nretry: "), "%d", i);
	}
	django_not_asked();
	world_stop();
}

Test(auth, A17_a_ticket_opens_a_stream_without_a_question)
{
	int fd, tab;

	start_tickets(URL);
	fd = stream_open(ticket(",\"roles\":[\"manager\"]", 60, 0));
	tab = stream_open(ticket(",\"roles\":[\"manager\"]", 60, 0));
	django_not_asked();
	cr_expect_not_null(strstr(log_hears(), " msg=connect conn=1 user=7 streams=1 auth=ticket from="));
	cr_expect(gets_event_for(fd, "manager") && gets_event_for(tab, "manager") && !gets_event_for(fd, "foreman"));
	cr_expect_eq(world.server->sessions_by_key.count, 1);
	client_ends(tab);
	world_pass(120000); /* exp is the end of the ticket, not of the stream */
	cr_expect(gets_event_for(fd, "manager"));
	django_not_asked();
	client_ends(fd);
	cr_expect_eq(world.server->sessions_by_key.count, 0);
	cr_expect_eq(world.server->users_by_id.count, 0);
	asks_for_stream("opaque");
	django_asked("opaque");
	world_stop();
}

Test(auth, A8_A9_A10_a_ticket_that_is_not_good_says_why_in_the_log_alone)
{
	static const struct {
		const char *claims;
		enum refusal why;
	} rows[] = {
		{"{\"sub\":\"7\",\"aud\":\"sse\"}", REFUSE_ticket_no_exp},
		{"{\"sub\":\"7\",\"aud\":\"sse\",\"exp\":1704110400}", REFUSE_ticket_expired},
		{"{\"sub\":\"7\",\"exp\":1704119999}", REFUSE_ticket_no_audience},
		{"{\"sub\":\"7\",\"aud\":\"api\",\"exp\":1704119999}", REFUSE_ticket_audience},
		{"{\"aud\":\"sse\",\"exp\":1704119999}", REFUSE_ticket_no_subject},
		{"{\"sub\":\"7\",\"aud\":\"sse\",\"exp\":1704119999,\"exp\":1704119999}", REFUSE_ticket_duplicate},
		{"{\"sub\":\"7\",\"aud\":\"sse\",\"exp\":1704119999,\"nbf\":1704110461}", REFUSE_ticket_early},
		{"{\"sub\":\"7\",\"aud\":\"sse\",\"exp\":1704119999,\"roles\":\"a\"}", REFUSE_ticket_claim},
		{"{\"sub\":\"7\",\"aud\":\"sse\",\"exp\":1704119999,\"expire_at\":1704110400}", REFUSE_ended_token},
		{"{\"sub\":\"7\",\"aud\":\"sse\",\"exp\":1704119999}}", REFUSE_ticket_trailing},
		{"{\"sub\":\"7\"", REFUSE_ticket_json},
	};

	start_tickets(NULL, NULL);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char reason[64];
		int fd = asks_for_stream(ticket_by(key, rows[i].claims));
		const char *heard = client_hears(fd);

		cr_expect_eq(world.server->count.refused[rows[i].why], 1, "%s", rows[i].claims);
		cr_expect_not_null(strstr(heard, "HTTP/1.1 401 Unauthorized\r\n"), "%s", heard);
		cr_expect_not_null(strstr(heard, "\r\n\r\n{\"error\":\"the token is not valid\"}\n"));
		snprintf(reason, sizeof reason, " status=401 reason=%s ", refusal_name(rows[i].why));
		cr_expect_not_null(strstr(log_hears(), reason), "%s", reason);
	}
	expect_refused(asks_for_stream(ticket_by(another_key, rows[0].claims)));
	cr_expect_eq(world.server->count.refused[REFUSE_ticket_signature], 1);
	expect_refused(asks_for_stream("opaque"));
	expect_refused(asks_for_stream("a.b.c.d"));
	cr_expect_eq(world.server->count.refused[REFUSE_unknown_token], 2);
	world_stop();
}

Test(auth, a_revocation_holds_against_tickets_that_are_older)
{
	static const char *const ops[] = {"{\"op\":\"revoke\",\"user\":7}", "{\"op\":\"revoke\",\"sid\":\"s1\"}"};

	start_tickets(NULL, NULL);
	for (int i = 0; i < 2; i++) {
		int fd = stream_open(ticket(",\"sid\":\"s1\"", 3600, 0));
		char old[2048], ageless[2048];

		strcpy(old, ticket(",\"sid\":\"s1\"", 3600, 0));
		strcpy(ageless, ticket(",\"sid\":\"s1\"", 3600, -1));
		world_pass(300);
		cr_expect_not_null(strstr(django_says(ops[i]), "\"matched\":1"));
		expect_revoked(fd);
		expect_refused(asks_for_stream(old));
		expect_refused(asks_for_stream(ageless));
		expect_refused(asks_for_stream(ticket(",\"sid\":\"s1\"", 3600, 0))); /* of the same second: older or not? */
		cr_expect_eq(world.server->count.refused[REFUSE_ticket_revoked], 3 + 6 * (uint64_t)i);
		expect_refused(asks_for_stream(ticket_of_ms(0)));
		world_pass(50);
		expect_refused(asks_for_stream(ticket_of_ms(-50)));
		client_ends(stream_open(ticket_of_ms(-49))); /* a page that comes back at once, with a ticket that says ms */
		world_pass(1000);
		fd = stream_open(ticket(",\"sid\":\"s1\"", 3600, 0));
		client_ends(fd);
		expect_refused(asks_for_stream(old));
		world_pass(10000);
	}
	stream_open(ticket(",\"sid\":\"s2\"", 3600, 0));
	world_stop();
}

/* A role is a word: it is the same as another if all of its bytes are. */
Test(auth, A14_roles_are_words_and_no_patterns)
{
	static const char *const mine[] = {"*", "a,b", "manage", "managers", "__proto__", "a b", "../x"},
		*const others[] = {"manager", "a", "b", "Manage", "x", "**", "a,b ", "constructor", "../x/"};
	int fd;

	start_tickets(NULL, NULL);
	fd = stream_open(ticket(",\"roles\":[\"*\",\"a,b\",\"manage\",\"managers\",\"__proto__\",\"a b\",\"../x\"]", 60, 0));
	for (size_t i = 0; i < sizeof mine / sizeof mine[0]; i++)
		cr_expect(gets_event_for(fd, mine[i]), "%s", mine[i]);
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		cr_expect_not(gets_event_for(fd, others[i]), "%s", others[i]);
	world_stop();
}

Test(auth, A17_expire_at_of_a_ticket_ends_its_stream)
{
	char more[64];
	int fd;

	start_tickets(NULL, NULL);
	snprintf(more, sizeof more, ",\"expire_at\":%lld.5", (long long)world.wall_ms / 1000 + 5);
	fd = stream_open(ticket(more, 60, 0));
	world_pass(4900);
	expect_live(fd);
	world_pass(1100);
	cr_expect_eq(strncmp(client_hears_frames(fd), "retry: ", 7), 0);
	cr_expect_eq(world.server->count.closed[CLOSE_expired], 1);
	cr_expect_eq(world.server->sessions_by_key.count, 0);
	world_stop();
}

Test(auth, ticket_keys_are_read_again_on_hangup)
{
	char text[256], old[2048];
	int fd;

	start_tickets(NULL, NULL);
	strcpy(old, ticket("", 3600, 0));
	fd = stream_open(old);
	snprintf(text, sizeof text, "%s\r\n%s\n", another_key, key);
	world_file("ticket-keys", text);
	world_raises(SIGHUP);
	cr_expect_not_null(strstr(log_hears(), " msg=ticket_keys_read keys=2\n"));
	stream_open(ticket_by(another_key, "{\"sub\":8,\"aud\":[\"x\",\"sse\"],\"exp\":1804110400}"));
	stream_open(old);
	world_file("ticket-keys", "too short\n");
	world_raises(SIGHUP);
	cr_expect_not_null(strstr(log_hears(), "level=error msg=ticket_keys_not_read error=\"--ticket-key-file: "));
	stream_open(old);
	snprintf(text, sizeof text, "%s\n", another_key);
	world_file("ticket-keys", text);
	world_raises(SIGHUP);
	expect_refused(asks_for_stream(old));
	client_hears(fd);
	expect_live(fd);
	cr_expect_null(memmem(world.log.data, world.log.len, key, strlen(key)));
	world_stop();
}

Test(auth, what_asks_with_a_ticket_and_gets_no_stream_leaves_nothing)
{
	char request[4096];
	int fd;

	start_tickets(NULL, NULL);
	fd = client_open();
	snprintf(request, sizeof request, "GET /api/v1/sse/stats/ HTTP/1.1\r\nHost: a\r\nAuthorization: Token %s\r\n\r\n"
		"HEAD /api/v1/sse/events/?token=%s HTTP/1.1\r\nHost: a\r\n\r\n", ticket("", 60, 0), ticket("", 60, 0));
	client_says(fd, request);
	cr_expect_not_null(strstr(client_hears(fd), "\"total_users\":0"));
	cr_expect_eq(world.server->sessions_by_key.count, 0);
	cr_expect_eq(world.server->users_by_id.count, 0);
	cr_expect_not_null(strstr(django_says("{\"op\":\"refresh\",\"user\":7}"), "there is no --auth-url"));
	world_stop();
}

Test(auth, a_jwt_without_ticket_keys_is_a_token_for_django)
{
	const char *jwt = ticket_by(key, "{\"sub\":1}");
	int fd;

	start();
	fd = asks_for_stream(jwt);
	django_allows(django_asked(jwt), MANAGER);
	cr_expect_eq(client_conn(fd)->state, CONN_STREAM);
	world_stop();
}

Test(auth, op_refresh_leaves_streams_of_tickets_alone)
{
	int fd;

	start_tickets(URL);
	fd = stream_open(ticket("", 60, 0));
	cr_expect_not_null(strstr(django_says("{\"op\":\"refresh\",\"user\":7}"), "\"matched\":0"));
	django_not_asked();
	expect_live(fd);
	world_stop();
}
