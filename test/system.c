/*
 * system.c - the whole server, from outside: a sanitized binary (SSE_BIN), real sockets, real
 * signals. Each test starts one of its own; server_stop sees it end with 0, without a leak or a
 * word from a sanitizer, and every line of its log marked SSE. A test, or a row of a table, whose name begins with
 * H24 or D6 is about that row of FAULTS.md (see test/faults.md); the others are rows of DESIGN.md.
 */
#include "system.h"
#include <linux/filter.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#define SIZED(literal) literal, sizeof literal - 1

/* The leaks that count are the server's: a test that fails here leaves its clients behind. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return 1;
}

/* ============================================================================================
 * HTTP
 * ============================================================================================ */

Test(http, H48_R30_events_answers_with_exactly_this_head)
{
	struct server s = server_start(NULL);
	struct client c = client_open(&s);
	char expected[2048];

	client_send(&c, GET_EVENTS(ANNA));
	client_head(&c);
	snprintf(expected, sizeof expected, "HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: text/event-stream\r\n"
		"Cache-Control: no-cache, no-transform\r\nConnection: keep-alive\r\nX-Accel-Buffering: no\r\n"
		"Transfer-Encoding: chunked\r\n\r\n", client_header(&c, "Date"));
	cr_assert_str_eq(c.head.p, expected);
	client_close(&c);
	server_stop(&s);
}

Test(http, R30_date_is_the_date)
{
	struct server s = server_start(NULL);
	struct client c = ask(&s, GET_STATS);
	struct tm t = {0};
	const char *end = strptime(client_header(&c, "Date"), "%a, %d %b %Y %H:%M:%S GMT", &t);

	cr_assert(end != NULL && *end == '\0', "%s", client_header(&c, "Date"));
	cr_assert(llabs((long long)timegm(&t) - (long long)time(NULL)) < 60);
	client_close(&c);
	server_stop(&s);
}

Test(http, a_stream_may_be_asked_for_in_these_ways)
{
#define HEAD_END " HTTP/1.1\r\nHost: h\r\n"
	static const struct {
		const char *name, *request, *user;
	} rows[] = {
		{"query token", GET_EVENTS(ANNA), "7"},
		{"no slash at the end", "GET /api/v1/sse/events?token=" ANNA HEAD_END "\r\n", "7"},
		{"Bearer", "GET " EVENTS HEAD_END "Authorization: Bearer " BORIS "\r\n\r\n", "8"},
		{"Token", "GET " EVENTS HEAD_END "Authorization: Token " BORIS "\r\n\r\n", "8"},
		{"scheme in any case", "GET " EVENTS HEAD_END "authorization: bEARER " BORIS "\r\n\r\n", "8"},
		{"header wins over the query", "GET " EVENTS "?token=" ANNA HEAD_END "Authorization: Bearer " BORIS "\r\n\r\n", "8"},
		{"another scheme leaves the query", "GET " EVENTS "?token=" ANNA HEAD_END "Authorization: Basic eDp5\r\n\r\n", "7"},
		{"token among other parameters", "GET " EVENTS "?a=1&token=" CLARA "&token2=x" HEAD_END "\r\n", "clara"},
		{"token with escapes", "GET " EVENTS "?%74oken=%64ave-5e5e" HEAD_END "\r\n", "9"},
		{"path with escapes", "GET /api/v1/sse/%65vents/?token=" DAVE HEAD_END "\r\n", "9"},
		{"H13 8-bit header value", "GET " EVENTS "?token=" ANNA HEAD_END "User-Agent: \xe9 \xc3\xa9 \x85\xa0\r\n\r\n", "7"},
		{"H28 absolute form", "GET http://other:80" EVENTS "?token=" ANNA HEAD_END "\r\n", "7"},
		{"H40 another Accept", "GET " EVENTS "?token=" ANNA HEAD_END "Accept: application/json\r\n\r\n", "7"},
		{"H40 Accept with q=0", "GET " EVENTS "?token=" ANNA HEAD_END "Accept: text/event-stream;q=0\r\n\r\n", "7"},
		{"H41 100-continue without a body", "GET " EVENTS "?token=" ANNA HEAD_END "Expect: 100-continue\r\n\r\n", "7"},
		{"H42 Upgrade", "GET " EVENTS "?token=" ANNA HEAD_END "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "7"},
		{"H42 Upgrade to h2c", "GET " EVENTS "?token=" ANNA HEAD_END "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
			"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "7"},
		{"H43 Early-Data, and a token that serves again", "GET " EVENTS "?token=" ANNA HEAD_END "Early-Data: 1\r\n\r\n", "7"},
		{"H44 any X-Forwarded-For", "GET " EVENTS "?token=" ANNA HEAD_END "X-Forwarded-For: no, ip, ,\r\n\r\n", "7"},
		{"an empty line before it", "\r\n" GET_EVENTS(ANNA), "7"},
		{"Content-Length 0", "GET " EVENTS "?token=" ANNA HEAD_END "Content-Length: 0\r\n\r\n", "7"},
		{"an empty Host", "GET " EVENTS "?token=" ANNA " HTTP/1.1\r\nHost:\r\n\r\n", "7"},
	};
	struct server s = server_start(NULL);
	char expected[128];

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct stream st = stream_begin(client_open(&s), rows[i].request);

		snprintf(expected, sizeof expected, "{\"total_users\":1,\"total_connections\":1,\"users\":{\"%s\":1}}\n", rows[i].user);
		cr_expect_str_eq(stats(&s), expected, "%s", rows[i].name);
		cr_expect(st.chunked, "%s", rows[i].name);
		stream_close(&st);
		stats_wait(&s, STATS_EMPTY);
	}
	server_stop(&s);
}

Test(http, H31_http10_gets_a_raw_stream_until_close)
{
	struct server s = server_start(NULL);
	struct stream st = stream_begin(client_open(&s), "GET " EVENTS "?token=" ANNA " HTTP/1.0\r\n\r\n");

	cr_assert(!st.chunked && client_header(&st.c, "Content-Length") == NULL);
	cr_assert_str_eq(client_header(&st.c, "Connection"), "close");
	published(&s, EVENT("a", "1", ALL), 1);
	published(&s, EVENT("b", "{\"x\":[2]}", ALL), 1);
	stream_expect(&st, "a", "1");
	stream_expect(&st, "b", "{\"x\":[2]}");
	kill(s.pid, SIGTERM);
	stream_expect_end(&st, "retry: ");
	stream_close(&st);
	server_ended(&s);
}

Test(http, H31_http10_is_answered_and_closed)
{
	struct server s = server_start(NULL);
	struct client c = ask(&s, "GET " STATS " HTTP/1.0\r\nAuthorization: Bearer " ANNA "\r\nConnection: keep-alive\r\n\r\n");

	cr_assert(c.status == 200);
	cr_assert_str_eq(c.body.p, STATS_EMPTY);
	cr_assert_str_eq(client_header(&c, "Connection"), "close");
	client_expect_end(&c);
	client_close(&c);
	server_stop(&s);
}

Test(http, stats_has_the_shape_of_the_seed)
{
	struct server s = server_start(NULL);
	struct stream st[] = {stream_open(&s, ANNA), stream_open(&s, ANNA2), stream_open(&s, CLARA)};
	struct client c = ask(&s, "GET /api/v1/sse/stats HTTP/1.1\r\nHost: h\r\nAuthorization: Token " DAVE "\r\n\r\n");
	static const char begin[] = "{\"total_users\":2,\"total_connections\":3,\"users\":";
	const char *users;

	cr_assert(c.status == 200);
	cr_assert_str_eq(client_header(&c, "Content-Type"), "application/json");
	users = strstr(c.body.p, "\"users\":");
	cr_assert(users != NULL && strncmp(c.body.p, begin, strlen(begin)) == 0, "%s", c.body.p);
	cr_assert(strcmp(users, "\"users\":{\"7\":2,\"clara\":1}}\n") == 0 || strcmp(users, "\"users\":{\"clara\":1,\"7\":2}}\n") == 0,
		"%s", c.body.p);
	client_close(&c);
	for (int i = 0; i < 3; i++)
		stream_close(&st[i]);
	stats_wait(&s, STATS_EMPTY);
	server_stop(&s);
}

/* ---- OPTIONS, HEAD ------------------------------------------------------------------------------ */

#define PREFLIGHT(origin) "OPTIONS " EVENTS "?token=x HTTP/1.1\r\nHost: h\r\nOrigin: " origin "\r\n" \
	"Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization,last-event-id,cache-control\r\n\r\n"

static void expect_header(struct client *c, const char *name, const char *value, const char *row)
{
	const char *got = client_header(c, name);

	cr_expect((got == NULL) == (value == NULL) && (value == NULL || strcmp(got, value) == 0), "%s: %s: %s", row, name, got);
}

Test(http, H34_preflight_is_for_allowed_origins)
{
	static const struct {
		const char *name, *request, *allowed;
		int status;
	} rows[] = {
		{"allowed", PREFLIGHT("https://a.example"), "https://a.example", 204},
		{"the other allowed one", PREFLIGHT("https://b.example:8443"), "https://b.example:8443", 204},
		{"not allowed", PREFLIGHT("https://evil.example"), NULL, 403},
		{"a prefix of one", PREFLIGHT("https://a.exampl"), NULL, 403},
		{"one with more behind", PREFLIGHT("https://a.example.evil"), NULL, 403},
		{"H49 response splitting", PREFLIGHT("https://a.example%0d%0aX: y"), NULL, 403},
	};
	struct server s = server_start("--cors-origin", "https://a.example", "--cors-origin", "https://b.example:8443", NULL);

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct client c = ask(&s, rows[i].request);

		cr_expect(c.status == rows[i].status, "%s: %d", rows[i].name, c.status);
		expect_header(&c, "Access-Control-Allow-Origin", rows[i].allowed, rows[i].name);
		expect_header(&c, "Access-Control-Allow-Credentials", rows[i].allowed != NULL ? "true" : NULL, rows[i].name);
		expect_header(&c, "Vary", "Origin", rows[i].name);
		if (rows[i].status == 204) {
			expect_header(&c, "Access-Control-Allow-Methods", "GET, HEAD, OPTIONS", rows[i].name);
			expect_header(&c, "Access-Control-Allow-Headers", "Authorization, Last-Event-ID, Cache-Control", rows[i].name);
			cr_expect(client_header(&c, "Access-Control-Max-Age") != NULL, "%s", rows[i].name);
		}
		client_close(&c);
	}
	server_stop(&s);
}

Test(http, H34_a_star_allows_every_origin_without_credentials)
{
	struct server s = server_start("--cors-origin", "*", NULL);
	struct client c = ask(&s, PREFLIGHT("https://any.example"));

	cr_assert(c.status == 204);
	expect_header(&c, "Access-Control-Allow-Origin", "*", "preflight");
	expect_header(&c, "Access-Control-Allow-Credentials", NULL, "preflight");
	client_close(&c);
	server_stop(&s);
}

Test(http, H34_the_stream_and_its_errors_carry_cors_too)
{
	struct server s = server_start("--cors-origin", "https://a.example", NULL);
	struct stream st = stream_begin(client_open(&s), "GET " EVENTS "?token=" ANNA
		" HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\n\r\n");
	struct client c = ask(&s, "GET " EVENTS " HTTP/1.1\r\nHost: h\r\nOrigin: https://a.example\r\n\r\n");

	expect_header(&st.c, "Access-Control-Allow-Origin", "https://a.example", "stream");
	cr_assert(c.status == 401);
	expect_header(&c, "Access-Control-Allow-Origin", "https://a.example", "401");
	client_close(&c);
	stream_close(&st);
	server_stop(&s);
}

Test(http, H34_without_cors_origin_no_origin_is_allowed)
{
	struct server s = server_start(NULL);
	struct client c = ask(&s, PREFLIGHT("https://a.example"));

	cr_assert(c.status == 403);
	expect_header(&c, "Access-Control-Allow-Origin", NULL, "preflight");
	client_close(&c);
	server_stop(&s);
}

Test(http, H29_options_star_and_plain_options_are_204)
{
	static const char *const requests[] = {"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
		"OPTIONS " EVENTS " HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS " STATS " HTTP/1.1\r\nHost: h\r\n\r\n"};
	struct server s = server_start(NULL);

	for (int i = 0; i < 3; i++) {
		struct client c = ask(&s, requests[i]);

		cr_expect(c.status == 204, "%s: %d", requests[i], c.status);
		expect_header(&c, "Allow", "GET, HEAD, OPTIONS", requests[i]);
		client_close(&c);
	}
	server_stop(&s);
}

/* The head of an answer without its Date. */
static struct text dateless(const struct client *c)
{
	struct text t = {NULL, 0, 0};
	const char *date = strstr(c->head.p, "Date: "), *behind = strstr(date, "\r\n");

	text_add(&t, c->head.p, (size_t)(date - c->head.p));
	text_say(&t, behind);
	return t;
}

static void head_is_as_get(const struct server *s, const char *rest)
{
	struct client get = client_open(s), head = client_open(s);
	struct text a, b;
	char request[256];

	snprintf(request, sizeof request, "GET %s", rest);
	client_send(&get, request);
	client_head(&get);
	snprintf(request, sizeof request, "HEAD %s", rest);
	client_send(&head, request);
	client_send(&head, "OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
	client_head(&head);
	a = dateless(&get);
	b = dateless(&head);
	cr_expect_str_eq(a.p, b.p);
	client_answer(&head); /* no body: what follows is the next answer, on the same connection */
	cr_expect(head.status == 204);
	client_expect_end(&head);
	text_free(&a);
	text_free(&b);
	client_close(&get);
	client_close(&head);
}

Test(http, H33_head_is_get_without_body_and_without_stream)
{
	struct server s = server_start(NULL);

	head_is_as_get(&s, EVENTS "?token=" ANNA " HTTP/1.1\r\nHost: h\r\n\r\n");
	log_wait(&s, "msg=disconnect"); /* of the GET */
	head_is_as_get(&s, STATS " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " ANNA "\r\n\r\n");
	head_is_as_get(&s, EVENTS " HTTP/1.1\r\nHost: h\r\n\r\n");
	stats_wait(&s, STATS_EMPTY);
	cr_assert(log_count(&s, "msg=connect ") == 1, "only the GET made a stream");
	server_stop(&s);
}

/* ---- refusals --------------------------------------------------------------------------------------- */

#define WITH(line) "GET " EVENTS "?token=" ANNA " HTTP/1.1\r\nHost: h\r\n" line "\r\n\r\n"
#define TARGET(target) "GET " target " HTTP/1.1\r\nHost: h\r\n\r\n"
#define LINE(line) line "\r\nHost: h\r\n\r\n"

static const struct refusal_row {
	const char *name, *request;
	size_t n;
	int status;
	const char *reason; /* which rule must have fired */
} refusal_rows[] = {
	{"H5 no Host", SIZED("GET " EVENTS "?token=" ANNA " HTTP/1.1\r\n\r\n"), 400, "no_host"},
	{"H6 two Hosts", SIZED(WITH("Host: h")), 400, "two_hosts"},
	{"H7 Host with a space", SIZED("GET / HTTP/1.1\r\nHost: bad host\r\n\r\n"), 400, "bad_host"},
	{"H7 Host with a comma", SIZED("GET / HTTP/1.1\r\nHost: a,b@c\r\n\r\n"), 400, "bad_host"},
	{"H7 Host with @", SIZED("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"), 400, "bad_host"},
	{"H7 Host with NUL", SIZED("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n"), 400, "bad_byte"},
	{"H7 8-bit Host", SIZED("GET / HTTP/1.1\r\nHost: h\xe9\r\n\r\n"), 400, "bad_host"},
	{"H8 space before the colon", SIZED("GET / HTTP/1.1\r\nHost : h\r\n\r\n"), 400, "bad_header"},
	{"H9 folded line", SIZED(WITH("X: a\r\n b")), 400, "folded_header"},
	{"H9 folded with a tab", SIZED(WITH("X: a\r\n\tb")), 400, "folded_header"},
	{"H9 folded first line", SIZED("GET / HTTP/1.1\r\n Host: h\r\n\r\n"), 400, "folded_header"},
	{"H10 bare LF everywhere", SIZED("GET / HTTP/1.1\nHost: h\n\n"), 400, "bad_line_end"},
	{"H10 bare LF once", SIZED("GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n"), 400, "bad_line_end"},
	{"H10 bare LF first", SIZED("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), 400, "bad_line_end"},
	{"H11 bare CR", SIZED(WITH("X: a\rb")), 400, "bad_line_end"},
	{"H11 CR X at the end", SIZED("GET / HTTP/1.1\r\nHost: h\r\n\rX"), 400, "bad_line_end"},
	{"H11 CR CR", SIZED(WITH("X: a\r")), 400, "bad_line_end"},
	{"H12 control 0x07", SIZED(WITH("X: te\x07st")), 400, "bad_byte"},
	{"H12 control 0x01", SIZED(WITH("X: \x01")), 400, "bad_byte"},
	{"H12 NUL", SIZED(WITH("X: a\0b")), 400, "bad_byte"},
	{"H12 DEL", SIZED(WITH("X: a\x7f")), 400, "bad_byte"},
	{"H14 [] in a name", SIZED(WITH("X-Invalid[]: t")), 400, "bad_header"},
	{"H14 quote in a name", SIZED(WITH("X\"Y: t")), 400, "bad_header"},
	{"H14 space in a name", SIZED(WITH("X Y: t")), 400, "bad_header"},
	{"H14 8-bit name", SIZED(WITH("X\xc3\xa9: t")), 400, "bad_header"},
	{"H14 empty name", SIZED(WITH(": v")), 400, "bad_header"},
	{"H14 no colon", SIZED(WITH("abc")), 400, "bad_header"},
	{"H15 length and encoding", SIZED(WITH("Content-Length: 5\r\nTransfer-Encoding: chunked")), 400, "length_and_encoding"},
	{"H15 encoding and length", SIZED(WITH("tRANSFER-eNCODING: chunked\r\ncONTENT-lENGTH: 0")), 400, "length_and_encoding"},
	{"H16 two lengths", SIZED(WITH("Content-Length: 5\r\nContent-Length: 6")), 400, "bad_length"},
	{"H16 two equal lengths", SIZED(WITH("Content-Length: 5\r\nContent-Length: 5")), 400, "bad_length"},
	{"H16 a list of lengths", SIZED(WITH("Content-Length: 5, 5")), 400, "bad_length"},
	{"H17 length empty", SIZED(WITH("Content-Length:")), 400, "bad_length"},
	{"H17 length +5", SIZED(WITH("Content-Length: +5")), 400, "bad_length"},
	{"H17 length -1", SIZED(WITH("Content-Length: -1")), 400, "bad_length"},
	{"H17 length 0x5", SIZED(WITH("Content-Length: 0x5")), 400, "bad_length"},
	{"H17 length 5 5", SIZED(WITH("Content-Length: 5 5")), 400, "bad_length"},
	{"H17 length 1_0", SIZED(WITH("Content-Length: 1_0")), 400, "bad_length"},
	{"H17 length 5;", SIZED(WITH("Content-Length: 5;")), 400, "bad_length"},
	{"H17 length 2^63", SIZED(WITH("Content-Length: 9223372036854775808")), 400, "bad_length"},
	{"H17 length 2^64+5", SIZED(WITH("Content-Length: 18446744073709551621")), 400, "bad_length"},
	{"H18 gzip", SIZED(WITH("Transfer-Encoding: gzip")), 501, "unknown_encoding"},
	{"H18 chunked, gzip", SIZED(WITH("Transfer-Encoding: chunked, gzip")), 501, "unknown_encoding"},
	{"H18 ,chunked", SIZED(WITH("Transfer-Encoding: ,chunked")), 501, "unknown_encoding"},
	{"H18 xchunked", SIZED(WITH("Transfer-Encoding: xchunked")), 501, "unknown_encoding"},
	{"H18 chunked VT", SIZED(WITH("Transfer-Encoding: chunked\x0b")), 400, "bad_byte"},
	{"H18 two encodings", SIZED(WITH("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")), 501, "unknown_encoding"},
	{"H18 chunked", SIZED(WITH("Transfer-Encoding: chunked") "5\r\nhello\r\n0\r\n\r\n"), 413, "body_not_allowed"},
	{"H19 encoding in HTTP/1.0", SIZED("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400, "encoding_in_http10"},
	{"H23 a body", SIZED(WITH("Content-Length: 5") "GET /"), 413, "body_not_allowed"},
	{"H23 a body that is a request", SIZED(WITH("Content-Length: 200")), 413, "body_not_allowed"},
	{"H29 CONNECT", SIZED(LINE("CONNECT a:443 HTTP/1.1")), 501, "unknown_method"},
	{"H29 GET *", SIZED(TARGET("*")), 400, "bad_target"},
	{"H29 GET foo", SIZED(TARGET("foo")), 400, "bad_target"},
	{"fragment", SIZED(TARGET(EVENTS "?token=" ANNA "#x")), 400, "bad_target"},
	{"ftp", SIZED(TARGET("ftp://h/")), 400, "bad_target"},
	{"absolute form without a host", SIZED(TARGET("http:///x")), 400, "bad_target"},
	{"H30 unknown method", SIZED(LINE("FROB / HTTP/1.1")), 501, "unknown_method"},
	{"H30 lower case", SIZED(LINE("get / HTTP/1.1")), 501, "unknown_method"},
	{"H30 HTTP/2 preface", SIZED("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 505, "bad_version"},
	{"H30 TLS", SIZED("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400, "bad_byte"},
	{"H30 SSH", SIZED("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), 400, "bad_request_line"},
	{"H30 random bytes", SIZED("\xf3\x8a\x11\xd0\x00\x9c\x77\xe1\x0d\x5b\xaa\x42\x19\xfe\x3c\x80"), 400, "bad_request_line"},
	{"H32 HTTP/2.0", SIZED(LINE("GET / HTTP/2.0")), 505, "bad_version"},
	{"H32 HTTP/9.9", SIZED(LINE("GET / HTTP/9.9")), 505, "bad_version"},
	{"H32 HTTP/1.2", SIZED(LINE("GET / HTTP/1.2")), 505, "bad_version"},
	{"H32 HTTP/1.32", SIZED(LINE("GET / HTTP/1.32")), 400, "bad_request_line"},
	{"H32 HTTP/1.1x", SIZED(LINE("GET / HTTP/1.1x")), 400, "bad_request_line"},
	{"H32 http/1.1", SIZED(LINE("GET / http/1.1")), 400, "bad_request_line"},
	{"H32 no version", SIZED("GET /\r\n\r\n"), 400, "bad_request_line"},
	{"two spaces", SIZED(LINE("GET  / HTTP/1.1")), 400, "bad_request_line"},
	{"space at the end", SIZED(LINE("GET / HTTP/1.1 ")), 400, "bad_request_line"},
	{"tab", SIZED(LINE("GET\t/\tHTTP/1.1")), 400, "bad_request_line"},
	{"H36 %zz", SIZED(TARGET(EVENTS "?token=%zz")), 400, "bad_escape"},
	{"H36 %", SIZED(TARGET(EVENTS "?token=%")), 400, "bad_escape"},
	{"H36 %4", SIZED(TARGET(EVENTS "?token=%4")), 400, "bad_escape"},
	{"H36 %00", SIZED(TARGET(EVENTS "?token=" ANNA "%00")), 400, "bad_escape"},
	{"H36 %0d%0a", SIZED(TARGET(EVENTS "?token=a%0d%0ab")), 400, "bad_escape"},
	{"H36 in another parameter", SIZED(TARGET(EVENTS "?token=" ANNA "&x=%g0")), 400, "bad_escape"},
	{"H36 in the path", SIZED(TARGET("/api/%v1/sse/events/")), 400, "bad_escape"},
	{"H38 two tokens", SIZED(TARGET(EVENTS "?token=" ANNA "&token=" ANNA)), 400, "two_tokens"},
	{"H38 two tokens, one escaped", SIZED(TARGET(EVENTS "?token=" ANNA "&%74oken=" ANNA)), 400, "two_tokens"},
	{"two Authorizations", SIZED(WITH("Authorization: Bearer a\r\nAuthorization: Bearer b")), 400, "repeated_header"},
	{"H49 two Origins", SIZED(WITH("Origin: a\r\nOrigin: a")), 400, "repeated_header"},
	{"H41 Expect: foo", SIZED(WITH("Expect: foo")), 417, "unknown_expectation"},
	{"H44 PROXY v1", SIZED("PROXY TCP4 10.0.0.1 10.0.0.2 5000 80\r\n" GET_STATS), 400, "bad_request_line"},
	{"H44 PROXY v2", SIZED("\r\n\r\n\0\r\nQUIT\n"), 400, "bad_byte"},
	/* after these the connection lives on */
	{"no token", SIZED(TARGET(EVENTS)), 401, "no_token"},
	{"an empty token", SIZED(TARGET(EVENTS "?token=")), 401, "no_token"},
	{"no token in the header", SIZED("GET " EVENTS " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer\r\n\r\n"), 401, "no_token"},
	{"A25 H38 a token in a cookie", SIZED("GET " EVENTS " HTTP/1.1\r\nHost: h\r\nCookie: token=" ANNA "\r\n"
		"Origin: http://evil\r\n\r\n"), 401, "no_token"},
	{"Basic", SIZED("GET " EVENTS " HTTP/1.1\r\nHost: h\r\nAuthorization: Basic eDp5\r\n\r\n"), 401, "no_token"},
	{"unknown token", SIZED(TARGET(EVENTS "?token=" ANNA "x")), 401, "unknown_token"},
	{"H36 decoded once", SIZED(TARGET(EVENTS "?token=%2561nna-4f1c")), 401, "unknown_token"},
	{"unknown header token", SIZED(WITH("Authorization: Bearer nobody")), 401, "unknown_token"},
	{"stats without a token", SIZED(TARGET(STATS)), 401, "no_token"},
	{"stats with a query token", SIZED(TARGET(STATS "?token=" ANNA)), 401, "no_token"},
	{"no such path", SIZED(TARGET("/")), 404, "no_such_path"},
	{"H37 dots", SIZED(TARGET(EVENTS "../stats/")), 404, "no_such_path"},
	{"H37 an escaped slash", SIZED(TARGET("/api/v1/sse/events%2f..?token=" ANNA)), 404, "no_such_path"},
	{"H37 H36 escaped twice", SIZED(TARGET("/api/v1/sse/%2565vents/?token=" ANNA)), 404, "no_such_path"},
	{"H37 two slashes", SIZED(TARGET("/api/v1/sse//events/?token=" ANNA)), 404, "no_such_path"},
	{"H37 two slashes at the end", SIZED(TARGET(EVENTS "/?token=" ANNA)), 404, "no_such_path"},
	{"H37 semicolon", SIZED(TARGET("/api/v1/sse/events;x?token=" ANNA)), 404, "no_such_path"},
	{"H37 upper case", SIZED(TARGET("/api/v1/sse/EVENTS/?token=" ANNA)), 404, "no_such_path"},
	{"H37 8-bit path", SIZED(TARGET("/api/v1/sse/\xc3\xa9vents/")), 404, "no_such_path"},
	{"H37 without the prefix", SIZED(TARGET("/events/?token=" ANNA)), 404, "no_such_path"},
	{"POST", SIZED(LINE("POST " EVENTS " HTTP/1.1")), 405, "method_not_allowed"},
	{"PUT", SIZED(LINE("PUT " EVENTS " HTTP/1.1")), 405, "method_not_allowed"},
	{"DELETE", SIZED(LINE("DELETE " STATS " HTTP/1.1")), 405, "method_not_allowed"},
	{"PATCH", SIZED(LINE("PATCH " STATS " HTTP/1.1")), 405, "method_not_allowed"},
	{"TRACE", SIZED(LINE("TRACE " STATS " HTTP/1.1")), 405, "method_not_allowed"},
};

/* An answer that says no: its status, a JSON body, and that the right rule fired. */
static void expect_refusal(const struct server *s, struct client *c, const struct refusal_row *row, int times)
{
	char logged[64];

	cr_expect(c->status == row->status, "%s: %d", row->name, c->status);
	expect_header(c, "Content-Type", "application/json", row->name);
	cr_expect(strncmp(c->body.p, "{\"error\":\"", 10) == 0 && c->body.n > 14
		&& strcmp(c->body.p + c->body.n - 3, "\"}\n") == 0, "%s: %s", row->name, c->body.p);
	expect_header(c, "Allow", row->status == 405 ? "GET, HEAD, OPTIONS" : NULL, row->name);
	if (row->status == 401)
		expect_header(c, "WWW-Authenticate", "Bearer", row->name);
	snprintf(logged, sizeof logged, "status=%d reason=%s ", row->status, row->reason);
	log_wait_times(s, logged, times);
}

static bool refusal_keeps_open(int status)
{
	return status == 401 || status == 404 || status == 405;
}

Test(http, every_refusal_is_a_json_answer_and_nothing_behind_it_is_read)
{
	struct server s = server_start(NULL);
	char logged[64];

	for (size_t i = 0; i < sizeof refusal_rows / sizeof refusal_rows[0]; i++) {
		const struct refusal_row *row = &refusal_rows[i];
		struct client c = client_open(&s);
		int before;

		snprintf(logged, sizeof logged, "reason=%s ", row->reason);
		before = log_count(&s, logged);
		cr_assert(client_try(&c, row->request, row->n) && client_try(&c, GET_STATS, strlen(GET_STATS)), "%s", row->name);
		client_answer(&c);
		expect_refusal(&s, &c, row, before + 1);
		expect_header(&c, "Connection", refusal_keeps_open(row->status) ? NULL : "close", row->name);
		if (refusal_keeps_open(row->status)) {
			client_answer(&c);
			cr_expect(c.status == 200, "%s: the next request", row->name);
		} else {
			client_expect_end(&c);
		}
		client_close(&c);
	}
	server_stop(&s);
}

/* A request that begins with these words, then n times filler, then this end. */
static struct text long_request(const char *begin, size_t n, const char *end)
{
	struct text t = {NULL, 0, 0};

	text_say(&t, begin);
	text_fill(&t, 'x', n);
	text_say(&t, end);
	return t;
}

static void expect_long(const struct server *s, struct text t, int status, const char *reason)
{
	struct refusal_row row = {.name = reason, .status = status, .reason = reason};
	struct client c = client_open(s);

	client_try(&c, t.p, t.n);
	client_answer(&c);
	if (status == 200)
		cr_expect(c.status == 200, "%zu bytes: %d", t.n, c.status);
	else
		expect_refusal(s, &c, &row, 1);
	client_close(&c);
	text_free(&t);
}

#define STATS_END " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " ANNA "\r\n\r\n"
#define STATS_BEGIN "GET " STATS " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " ANNA "\r\n"

Test(http, H26_targets_and_heads_have_limits)
{
	struct server s = server_start(NULL);
	struct text t = {NULL, 0, 0};

	expect_long(&s, long_request("GET " STATS "?", 8192 - strlen(STATS "?"), STATS_END), 200, NULL);
	expect_long(&s, long_request("GET " STATS "?", 8193 - strlen(STATS "?"), STATS_END), 414, "target_too_long");
	expect_long(&s, long_request(STATS_BEGIN "X: ", 16384 - strlen(STATS_BEGIN "X: \r\n\r\n"), "\r\n\r\n"), 200, NULL);
	expect_long(&s, long_request(STATS_BEGIN "X: ", 16385 - strlen(STATS_BEGIN "X: \r\n\r\n"), "\r\n\r\n"), 431, "head_too_large");
	text_say(&t, STATS_BEGIN);
	for (int i = 2; i < 100; i++)
		text_say(&t, "X: y\r\n");
	text_say(&t, "\r\n");
	expect_long(&s, t, 200, NULL);
	t = (struct text){NULL, 0, 0};
	text_say(&t, STATS_BEGIN);
	for (int i = 2; i < 101; i++)
		text_say(&t, "X: y\r\n");
	text_say(&t, "\r\n");
	expect_long(&s, t, 431, "too_many_headers");
	server_stop(&s);
}

Test(http, H26_what_never_ends_is_refused_while_it_comes)
{
	struct server s = server_start(NULL);

	expect_long(&s, long_request("GET /", 100000, ""), 414, "target_too_long");
	expect_long(&s, long_request("GET / HTTP/1.1\r\nX: ", 100000, ""), 431, "head_too_large");
	expect_long(&s, long_request("", 10000, " / HTTP/1.1\r\nHost: h\r\n\r\n"), 501, "unknown_method");
	server_stop(&s);
}

Test(http, H27_the_error_reaches_a_client_that_is_still_sending)
{
	static const char *const begins[] = {WITH("Content-Length: 1000000"), "GET / HTTP/1.1\nHost: h\n\n", "GET /"};
	static const int statuses[] = {413, 400, 414};
	struct server s = server_start(NULL);

	for (int i = 0; i < 3; i++) {
		struct client c = client_open(&s);
		struct text t = long_request(begins[i], 1000000, "");

		client_try(&c, t.p, t.n);
		client_answer(&c);
		cr_expect(c.status == statuses[i], "%d", c.status);
		client_close(&c);
		text_free(&t);
	}
	server_wait_descriptors(&s, server_descriptors(&s));
	stats_wait(&s, STATS_EMPTY);
	server_stop(&s);
}

Test(http, H27_what_comes_after_the_answer_does_not_reset_it)
{
	struct server s = server_start(NULL);
	struct client c = ask(&s, "GET / HTTP/1.1\n\n");
	int error = -1;
	socklen_t bytes = sizeof error;

	cr_assert(c.status == 400);
	client_send(&c, "more, sent before the end was seen");
	server_turns(&s);
	cr_assert(getsockopt(c.fd, SOL_SOCKET, SO_ERROR, &error, &bytes) == 0 && error == 0, "%s", strerror(error));
	client_expect_end(&c);
	cr_assert(!c.reset);
	client_close(&c);
	server_stop(&s);
}

Test(http, H27_an_answered_connection_does_not_wait_for_ever)
{
	struct server s = server_start(NULL);
	int before = server_descriptors(&s);
	struct client c = ask(&s, "GET / HTTP/1.1\n\n");

	cr_assert(c.status == 400);
	client_expect_end(&c);
	server_wait_descriptors(&s, before); /* though this side has not closed */
	client_close(&c);
	server_stop(&s);
}

/* ---- time ------------------------------------------------------------------------------------------- */

Test(http, H3_H4_a_head_that_is_not_whole_in_time_is_408)
{
	static const char *const sent[] = {"", "G", "GET / HTTP/1.1\r\nHost: h\r\n", "\r\n"};
	struct server s = server_start("--head-timeout", "300ms", NULL);

	for (int i = 0; i < 4; i++) {
		struct refusal_row row = {.name = sent[i], .status = 408, .reason = "head_timeout"};
		int64_t begin = now_ms();
		struct client c = client_open(&s);

		client_send(&c, sent[i]);
		client_answer(&c);
		expect_refusal(&s, &c, &row, i + 1);
		cr_expect(now_ms() - begin >= 290, "after %d ms", (int)(now_ms() - begin));
		client_expect_end(&c);
		client_close(&c);
	}
	server_stop(&s);
}

Test(http, H3_slow_heads_run_out_of_time_and_hinder_nobody)
{
	static struct client c[50];
	struct server s = server_start("--head-timeout", "400ms", NULL);
	int64_t begin = now_ms();
	int left = 50;

	for (int i = 0; i < 50; i++) {
		c[i] = client_open(&s);
		client_send(&c[i], "GET / HTTP/1.1\r\nX: ");
	}
	while (left > 0) {
		server_turns(&s); /* a client with manners is served all the while */
		cr_assert(now_ms() - begin < LIMIT_MS, "each byte may not buy more time");
		for (int i = 0; i < 50; i++) {
			struct pollfd ready = {.fd = c[i].fd, .events = POLLIN};

			if (c[i].fd < 0)
				continue;
			client_try(&c[i], "x", 1);
			if (poll(&ready, 1, 0) == 0)
				continue;
			client_answer(&c[i]);
			cr_expect(c[i].status == 408, "%d", c[i].status);
			client_close(&c[i]);
			left--;
		}
	}
	server_stop(&s);
}

Test(http, H3_a_second_request_has_the_same_time_for_its_head)
{
	struct server s = server_start("--head-timeout", "300ms", "--idle-timeout", "10s", NULL);
	struct client c = ask(&s, GET_STATS);

	client_send(&c, "GET /");
	client_answer(&c);
	cr_assert(c.status == 408);
	client_expect_end(&c);
	client_close(&c);
	server_stop(&s);
}

Test(http, a_kept_alive_connection_that_asks_nothing_is_closed)
{
	struct server s = server_start("--idle-timeout", "200ms", NULL);
	struct client c = ask(&s, GET_STATS);
	int64_t begin = now_ms();

	client_expect_end(&c);
	cr_assert(!c.reset && now_ms() - begin >= 150);
	client_close(&c);
	server_stop(&s);
}

/* ---- keep-alive, pipelining ------------------------------------------------------------------------ */

Test(http, a_connection_takes_one_request_after_another)
{
	struct server s = server_start(NULL);
	struct client c = client_open(&s);

	for (int i = 0; i < 5; i++) {
		client_send(&c, i % 2 == 0 ? GET_STATS : TARGET("/"));
		client_answer(&c);
		cr_assert(c.status == (i % 2 == 0 ? 200 : 404));
		cr_assert(client_header(&c, "Connection") == NULL);
	}
	client_send(&c, GET_EVENTS(ANNA)); /* and becomes a stream in the end */
	client_head(&c);
	cr_assert_str_eq(client_header(&c, "Content-Type"), "text/event-stream");
	client_close(&c);
	server_stop(&s);
}

Test(http, connection_close_closes)
{
	struct server s = server_start(NULL);
	struct client c = ask(&s, STATS_BEGIN "Connection: x, Close\r\n\r\n" GET_STATS);

	cr_assert(c.status == 200);
	cr_assert_str_eq(client_header(&c, "Connection"), "close");
	client_expect_end(&c);
	client_close(&c);
	server_stop(&s);
}

Test(http, H24_two_pipelined_requests_are_answered_in_order)
{
	struct server s = server_start(NULL);
	struct client c = ask(&s, GET_STATS TARGET("/") "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n" GET_EVENTS(ANNA) GET_STATS);
	struct stream st;

	cr_assert(c.status == 200);
	client_answer(&c);
	cr_assert(c.status == 404);
	client_answer(&c);
	cr_assert(c.status == 204);
	st = stream_begin(c, ""); /* what stands behind it is no request any more */
	published(&s, EVENT("after", "1", ALL), 1);
	stream_expect(&st, "after", "1");
	stream_close(&st);
	server_stop(&s);
}

/* Sends as much as the kernel takes; returns how far it came. */
static size_t send_some(struct client *c, const struct text *t, size_t at)
{
	ssize_t n = 0;

	while (at < t->n && (n = send(c->fd, t->p + at, t->n - at, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
		at += (size_t)n;
	return at;
}

Test(http, H24_many_pipelined_requests_are_answered_to_a_client_that_reads_late)
{
	enum { REQUESTS = 4000 };
	struct server s = server_start("--send-buffer", "4096", NULL);
	struct client c = client_tcp(s.port, false, 2048);
	struct text all = {NULL, 0, 0};
	size_t sent = 0;

	for (int i = 0; i < REQUESTS; i++)
		text_say(&all, i % 3 == 0 ? TARGET("/") : GET_STATS);
	sent = send_some(&c, &all, sent);
	server_turns(&s); /* it answered until nothing more fitted, and serves others */
	sent = send_some(&c, &all, sent);
	server_turns(&s);
	for (int i = 0; i < REQUESTS; i++) {
		sent = send_some(&c, &all, sent);
		client_answer(&c);
		cr_assert(c.status == (i % 3 == 0 ? 404 : 200), "answer %d: %d", i, c.status);
	}
	client_close(&c);
	text_free(&all);
	server_stop(&s);
}

Test(http, H1_where_a_request_is_cut_makes_no_difference)
{
	static const char both[] = GET_STATS "GET /api/v1/sse/events HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer nobody\r\n\r\n";
	struct server s = server_start(NULL);

	for (size_t cut = 1; cut < sizeof both - 1; cut++) {
		struct client c = client_open(&s);

		client_try(&c, both, cut);
		server_turns(&s);
		client_try(&c, both + cut, sizeof both - 1 - cut);
		client_answer(&c);
		cr_assert(c.status == 200, "cut at %zu: %d", cut, c.status);
		cr_assert_str_eq(c.body.p, STATS_EMPTY);
		client_answer(&c);
		cr_assert(c.status == 401, "cut at %zu: %d", cut, c.status);
		client_close(&c);
	}
	server_stop(&s);
}

Test(http, H2_a_request_may_come_byte_by_byte)
{
	static const char both[] = GET_STATS GET_EVENTS(ANNA);
	struct server s = server_start(NULL);
	struct client c = client_open(&s);

	for (size_t i = 0; i < sizeof both - 1; i++) {
		client_try(&c, both + i, 1);
		if (i % 8 == 0)
			server_turns(&s);
	}
	client_answer(&c);
	cr_assert(c.status == 200);
	client_head(&c);
	cr_assert_str_eq(client_header(&c, "Content-Type"), "text/event-stream");
	client_close(&c);
	server_stop(&s);
}

/* ---- what a client may do on a stream ------------------------------------------------------------------ */

Test(http, H25_what_comes_in_on_a_stream_is_dropped)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	int64_t cpu;

	client_send(&st.c, GET_STATS);
	client_send(&st.c, "rubbish\r\n\r\n");
	server_turns(&s);
	published(&s, EVENT("still", "1", ALL), 1);
	stream_expect(&st, "still", "1");
	cpu = server_cpu_ms(&s);
	poll(NULL, 0, 300); /* a measurement, not a wait: bytes that nobody reads must not keep the loop awake */
	cr_assert(server_cpu_ms(&s) - cpu < 150);
	stream_close(&st);
	server_stop(&s);
}

Test(http, H25_too_much_on_a_stream_ends_it)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	struct text t = {NULL, 0, 0};

	text_fill(&t, 'x', 60000);
	client_try(&st.c, t.p, t.n);
	server_turns(&s);
	published(&s, EVENT("still", "1", ALL), 1);
	stream_expect(&st, "still", "1");
	client_try(&st.c, t.p, t.n);
	log_wait(&s, "msg=disconnect conn=1 user=7 reason=chatter");
	client_read_all(&st.c);
	stats_wait(&s, STATS_EMPTY);
	text_free(&t);
	stream_close(&st);
	server_stop(&s);
}

Test(http, H45_a_request_before_a_half_close_is_answered)
{
	static const char *const requests[] = {GET_STATS, TARGET("/"), GET_STATS GET_STATS, "HEAD" " " STATS STATS_END};
	struct server s = server_start(NULL);

	for (int i = 0; i < 4; i++) {
		struct client c = client_open(&s);

		client_send(&c, requests[i]);
		shutdown(c.fd, SHUT_WR);
		client_head(&c);
		cr_expect(c.status == (i == 1 ? 404 : 200));
		client_read_all(&c);
		cr_expect(!c.reset && count_of(&c.in, "HTTP/1.1 ") == (i == 2 ? 2 : 1), "%s", c.in.p);
		client_close(&c);
	}
	server_stop(&s);
}

Test(http, H45_a_half_close_ends_a_stream)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	struct client c = client_open(&s);

	shutdown(st.c.fd, SHUT_WR);
	log_wait(&s, "msg=disconnect conn=1 user=7 reason=gone");
	client_send(&c, GET_EVENTS(ANNA));
	shutdown(c.fd, SHUT_WR);
	client_head(&c);
	cr_assert(c.status == 200);
	client_read_all(&c);
	log_wait_times(&s, "reason=gone", 2);
	stream_close(&st);
	client_close(&c);
	stats_wait(&s, STATS_EMPTY);
	server_stop(&s);
}

Test(http, H46_a_reset_at_any_moment_hurts_nobody)
{
	static const char *const sent[] = {"", "GET /", GET_STATS, GET_EVENTS(ANNA), GET_STATS GET_STATS "GET", "GET /\n\n"};
	struct server s = server_start("--streams-per-user", "1000", NULL);
	struct stream other = stream_open(&s, BORIS);
	int before = server_descriptors(&s);

	for (int i = 0; i < 300; i++) {
		struct client c = client_open(&s);

		client_try(&c, sent[i % 6], strlen(sent[i % 6]));
		if (i % 4 == 0)
			server_turns(&s);
		if (i % 10 == 0)
			publish(&s, EVENT("e", "\"to streams that are being reset\"", ALL));
		client_reset(&c);
	}
	for (int i = 0; i < 30; i++)
		stream_expect(&other, "e", "\"to streams that are being reset\"");
	stats_wait(&s, "{\"total_users\":1,\"total_connections\":1,\"users\":{\"8\":1}}\n");
	server_wait_descriptors(&s, before);
	stream_close(&other);
	server_stop(&s);
}

/* Opens a stream with this in its query, and these header lines. It is told to reload, for this reason
 * (NULL: it is not). */
static struct stream stream_open_resync(const struct server *s, const char *query, const char *header,
	const char *reason)
{
	struct stream st;
	const char *frame;
	char text[16384];

	snprintf(text, sizeof text, "GET " EVENTS "?token=" ANNA "%s HTTP/1.1\r\nHost: h\r\n%s\r\n", query, header);
	st = stream_begin(client_open(s), text);
	if (reason == NULL)
		return st;
	frame = stream_frame(&st);
	snprintf(text, sizeof text, "\ndata: {\"event\":\"system.resync\",\"data\":{\"reason\":\"%s\"},", reason);
	cr_assert(frame != NULL && strstr(frame, text) != NULL, "%s %.80s, %s: %s", query, header, reason, frame);
	return st;
}

/* ... and then it goes on. */
static void expect_resync(const struct server *s, const char *query, const char *header, const char *reason)
{
	struct stream st = stream_open_resync(s, query, header, reason);

	published(s, EVENT("next", "1", "{\"users\":[7]}"), 1);
	stream_expect(&st, "next", "1");
	stream_close(&st);
	stats_wait(s, STATS_EMPTY);
}

Test(http, H39_an_id_that_cannot_be_resumed_from_is_told_to_reload_and_is_no_error)
{
	static const struct {
		const char *id, *reason;
	} rows[] = {
		{"", "unknown"},
		{"abc", "unknown"},
		{"-1", "unknown"},
		{"1-", "unknown"},
		{"1-1-1", "unknown"},
		{" 01-1", "unknown"},
		{"18446744073709551616-0", "unknown"},
		{"\xff\xfe", "unknown"},
		{"0-0", "too_old"},
		{"1-1", "too_old"},
		{"9999999999999-0", "newer"},
	};
	struct server s = server_start(NULL);
	struct text huge = {NULL, 0, 0};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char header[128];

		snprintf(header, sizeof header, "Last-Event-ID: %s\r\n", rows[i].id);
		expect_resync(&s, "", header, rows[i].reason);
	}
	text_say(&huge, "Last-Event-ID: ");
	text_fill(&huge, '9', 10000);
	text_say(&huge, "\r\n");
	expect_resync(&s, "", huge.p, "unknown");
	expect_resync(&s, "", "Last-Event-ID: 1-1\r\nLast-Event-ID: 1-1\r\n", "unknown");
	expect_resync(&s, "&lastEventId=123", "", "unknown");
	expect_resync(&s, "&lastEventId=", "", "unknown");
	expect_resync(&s, "&lastEventId=1-1", "", "too_old");
	expect_resync(&s, "&lastEventId=1-1", "Last-Event-ID: x\r\n", "unknown"); /* the header wins */
	expect_resync(&s, "", "", NULL);
	text_free(&huge);
	server_stop(&s);
}

static void stream_id(const struct stream *st, char id[64])
{
	snprintf(id, 64, "%lld-%lld", st->ms, st->n);
}

Test(http, H39_an_id_of_ours_brings_what_came_after_it_and_no_resync)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	char a[64], b[64], now[64], request[512], data[16];
	const struct {
		const char *name, *query, *header;
		const char *id; /* that it gives, as "connected" says it again: it has everything up to there */
		int from;       /* the first event that it gets */
	} rows[] = {
		{"a header", "", a, a, 1},
		{"the query", a, "", a, 1},
		{"the newest then", "", b, b, 2},
		{"the header wins", a, b, b, 2},
		{"the header wins, also to get more", b, a, a, 1},
		{"no id: it has missed nothing", "", "", now, 7},
	};

	for (int e = 0; e < 2; e++) {
		snprintf(data, sizeof data, "%d", e);
		snprintf(request, sizeof request, "{\"event\":\"a\",\"data\":%d,\"to\":{\"users\":[7]}}", e);
		published(&s, request, 1);
		stream_expect(&st, "a", data);
		stream_id(&st, e == 0 ? a : b);
	}
	published(&s, EVENT("a", "\"for another user\"", "{\"users\":[8]}"), 0);
	for (int i = 0; i < 6; i++) { /* each publishes one event more */
		struct stream other;
		bool query, header;

		query = rows[i].query[0] != '\0';
		header = rows[i].header[0] != '\0';
		snprintf(request, sizeof request, "GET " EVENTS "?token=" ANNA "%s%s HTTP/1.1\r\nHost: h\r\n%s%s%s\r\n",
			query ? "&lastEventId=" : "", rows[i].query, header ? "Last-Event-ID: " : "", rows[i].header,
			header ? "\r\n" : "");
		other = stream_begin(client_open(&s), request);
		stream_id(&other, request);
		stream_id(&st, now);
		cr_expect_str_eq(request, rows[i].id, "%s", rows[i].name);
		snprintf(request, sizeof request, "{\"event\":\"a\",\"data\":%d,\"to\":{\"users\":[7]}}", 2 + i);
		published(&s, request, 2);
		for (int e = rows[i].from; e <= 2 + i; e++) {
			snprintf(data, sizeof data, "%d", e);
			stream_expect(&other, "a", data);
		}
		stream_expect(&st, "a", data);
		stream_close(&other);
		stats_wait(&s, "{\"total_users\":1,\"total_connections\":1,\"users\":{\"7\":1}}\n");
	}
	stream_close(&st);
	server_stop(&s);
}

/* ---- listeners ------------------------------------------------------------------------------------------ */

Test(http, a_unix_stream_socket_is_a_listener_too)
{
	struct server s = server_new();
	char address[80];
	struct stream st;

	snprintf(address, sizeof address, "unix:%s", s.http);
	server_launch(&s, "--listen", address, NULL);
	server_ready(&s, 1);
	st = stream_begin(client_unix(s.http), GET_EVENTS(ANNA));
	published(&s, EVENT("a", "1", ALL), 1);
	stream_expect(&st, "a", "1");
	log_wait(&s, "msg=connect conn=1 user=7 streams=1 auth=file from=unix\n");
	log_wait(&s, address);
	kill(s.pid, SIGTERM);
	stream_expect_end(&st, "retry: ");
	stream_close(&st);
	server_ended(&s);
}

static bool ipv6_is_here(void)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool here = probe >= 0 && bind(probe, (struct sockaddr *)&a, sizeof a) == 0;

	if (probe >= 0)
		close(probe);
	return here;
}

Test(http, ipv6_is_a_listener_too)
{
	struct server s = server_new();
	struct stream st;
	const char *address;

	if (!ipv6_is_here()) {
		server_remove(&s);
		cr_skip_test("no IPv6 here");
	}
	server_launch(&s, "--listen", "[::1]:0", NULL);
	server_ready(&s, 1);
	address = strstr(file_text(s.log)->p, "address=[::1]:");
	cr_assert(address != NULL);
	st = stream_begin(client_tcp(atoi(address + strlen("address=[::1]:")), true, 0), GET_EVENTS(ANNA));
	log_wait(&s, "user=7 streams=1 auth=file from=[::1]:");
	stream_close(&st);
	server_stop(&s);
}

Test(http, the_prefix_is_an_option)
{
	struct server s = server_start("--prefix", "/live", NULL), bare = server_start("--prefix", "", NULL);
	struct stream st = stream_begin(client_open(&s), TARGET("/live/events?token=" ANNA));
	struct stream st2 = stream_begin(client_open(&bare), TARGET("/events/?token=" ANNA));
	struct client c = ask(&s, GET_EVENTS(ANNA));

	cr_assert(c.status == 404);
	client_close(&c);
	stream_close(&st);
	stream_close(&st2);
	server_stop(&s);
	server_stop(&bare);
}

/* ---- overload -------------------------------------------------------------------------------------------- */

/* 200, a jittered retry, a close: what an EventSource comes back after. */
static void expect_put_off(struct client *c)
{
	long ms;
	int bytes = 0;

	client_answer(c);
	cr_assert(c->status == 200, "%s", c->head.p);
	cr_assert_str_eq(client_header(c, "Content-Type"), "text/event-stream");
	cr_assert_str_eq(client_header(c, "Connection"), "close");
	cr_assert(sscanf(c->body.p, "retry: %ld\n\n%n", &ms, &bytes) == 1 && bytes == (int)c->body.n, "%s", c->body.p);
	cr_assert(ms >= 3000 && ms <= 4000 && strcmp(c->body.p + c->body.n - 2, "\n\n") == 0);
	client_expect_end(c);
	cr_assert(!c->reset);
	client_close(c);
}

Test(http, R19_one_stream_too_many_of_a_user_is_put_off)
{
	struct server s = server_start("--streams-per-user", "2", NULL);
	struct stream a = stream_open(&s, ANNA), b = stream_open(&s, ANNA2), other = stream_open(&s, BORIS);
	struct client c = client_open(&s);

	client_send(&c, GET_EVENTS(ANNA));
	expect_put_off(&c);
	log_wait(&s, "status=200 reason=too_many_streams ");
	published(&s, EVENT("a", "1", "{\"users\":[7]}"), 2);
	stream_close(&a);
	log_wait(&s, "msg=disconnect");
	a = stream_open(&s, ANNA);
	stream_close(&a);
	stream_close(&b);
	stream_close(&other);
	server_stop(&s);
}

Test(http, R19_one_connection_too_many_is_put_off)
{
	struct server s = server_start("--max-connections", "3", NULL);
	int before = server_descriptors(&s);
	struct stream st[] = {stream_open(&s, ANNA), stream_open(&s, BORIS), stream_open(&s, CLARA)};
	struct client c = client_open(&s);

	client_send(&c, GET_EVENTS(DAVE));
	expect_put_off(&c);
	log_wait(&s, "status=200 reason=too_many_connections ");
	c = ask(&s, GET_STATS); /* who looks what is wrong may look */
	cr_assert(c.status == 200);
	cr_assert_str_eq(client_header(&c, "Connection"), "close");
	client_close(&c);
	stream_close(&st[0]);
	server_wait_descriptors(&s, before + 2);
	st[0] = stream_open(&s, DAVE);
	published(&s, EVENT("a", "1", ALL), 3);
	for (int i = 0; i < 3; i++) {
		stream_expect(&st[i], "a", "1");
		stream_close(&st[i]);
	}
	server_stop(&s);
}

/* ============================================================================================
 * datagrams
 * ============================================================================================ */

#define OK_EVENT "\"event\":\"a\",\"data\":1,\"to\":\"all\""
#define X16 "xxxxxxxxxxxxxxxx"
#define X64 X16 X16 X16 X16

/* A ^ stands before the byte that the ack must point at; without one that is 0. */
static const struct bad_row {
	const char *name, *datagram;
	size_t n;
	const char *error;
} bad_rows[] = {
	{"D3 empty", SIZED(""), "the datagram is empty"},
	{"D4 not JSON", SIZED("^nonsense"), "expected an object"},
	{"D4 an array", SIZED("^[]"), "expected an object"},
	{"D4 a string", SIZED("^\"x\""), "expected an object"},
	{"D4 BOM", SIZED("^\xef\xbb\xbf{" OK_EVENT "}"), "expected an object"},
	{"D4 UTF-16", SIZED("{^\0\"\0e\0"), "expected a string"},
	{"D4 cut off", SIZED("{" OK_EVENT "^"), "expected , or }"},
	{"D4 cut off in a string", SIZED("{\"event\":\"a^"), "event: expected a closing quote"},
	{"D4 something behind", SIZED("{" OK_EVENT "} ^x"), "expected the end of the line"},
	{"D4 two objects", SIZED("{" OK_EVENT "}^{" OK_EVENT "}"), "expected the end of the line"},
	{"D4 NUL behind", SIZED("{" OK_EVENT "}^\0"), "expected the end of the line"},
	{"D4 comma at the end", SIZED("{" OK_EVENT ",^}"), "expected a string"},
	{"D4 no colon", SIZED("{\"event\" ^}"), "expected :"},
	{"D4 single quotes", SIZED("{^'event':1}"), "expected a string"},
	{"D6 event twice", SIZED("{" OK_EVENT ",^\"event\":\"b\"}"), "this key is given twice"},
	{"D6 the same key with an escape", SIZED("{" OK_EVENT ",^\"\\u0065vent\":\"b\"}"), "this key is given twice"},
	{"D6 users twice", SIZED("{\"event\":\"a\",\"data\":1,\"to\":{\"users\":[1],^\"users\":[2]}}"), "to: this key is given twice"},
	{"D7 NaN", SIZED("{\"data\":^NaN,\"event\":\"a\",\"to\":\"all\"}"), "data: expected a value"},
	{"D7 Infinity", SIZED("{\"data\":^Infinity,\"event\":\"a\",\"to\":\"all\"}"), "data: expected a value"},
	{"D7 -Infinity", SIZED("{\"data\":-^Infinity,\"event\":\"a\",\"to\":\"all\"}"), "data: expected a digit"},
	{"D7 01", SIZED("{\"data\":0^1,\"event\":\"a\",\"to\":\"all\"}"), "expected , or }"},
	{"D7 1.", SIZED("{\"data\":1.^,\"event\":\"a\",\"to\":\"all\"}"), "data: expected a digit"},
	{"D7 .5", SIZED("{\"data\":^.5,\"event\":\"a\",\"to\":\"all\"}"), "data: expected a value"},
	{"D7 1e", SIZED("{\"data\":1e^,\"event\":\"a\",\"to\":\"all\"}"), "data: expected a digit"},
	{"D8 nothing", SIZED("{}"), "event: missing"},
	{"D8 no event", SIZED("{\"data\":1,\"to\":\"all\"}"), "event: missing"},
	{"D8 no data", SIZED("{\"event\":\"a\",\"to\":\"all\"}"), "data: missing"},
	{"D8 no to", SIZED("{\"event\":\"a\",\"data\":1}"), "to: missing; for everybody say \\\"all\\\""},
	{"D8 unknown key", SIZED("{" OK_EVENT ",^\"extra\":1}"), "unknown key: there are event, data, to, except, timestamp; op, user, sid"},
	{"D8 a very long key", SIZED("{" OK_EVENT ",^\"" X64 "event\":1}"), "unknown key: there are event, data, to, except, timestamp; op, user, sid"},
	{"D8 the end of a long key is none", SIZED("{\"data\":1,\"to\":\"all\",^\"" X64 "\\u0065vent\":\"a\"}"),
		"unknown key: there are event, data, to, except, timestamp; op, user, sid"},
	{"D8 event is a number", SIZED("{\"event\":^1}"), "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -"},
	{"D8 event is null", SIZED("{\"event\":^null}"), "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -"},
	{"D9 event is empty", SIZED("{\"event\":^\"\"}"), "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -"},
	{"D9 event of 65 bytes", SIZED("{\"event\":^\"" X64 "x\"}"), "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -"},
	{"D9 event with a space", SIZED("{\"event\":^\"a b\"}"), "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -"},
	{"S2 event with a newline", SIZED("{\"event\":^\"a\\nb\"}"), "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -"},
	{"S2 event with CR", SIZED("{\"event\":^\"a\\rb\"}"), "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -"},
	{"S2 event with NUL", SIZED("{\"event\":^\"a\\u0000b\"}"), "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -"},
	{"D9 event with 8 bits", SIZED("{\"event\":^\"\xc3\xa9\"}"), "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -"},
	{"D9 event is a wildcard", SIZED("{\"event\":^\"*\"}"), "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -"},
	{"D8 to is a number", SIZED("{\"to\":^5}"), "to: expected an object or \\\"all\\\""},
	{"D8 to is another word", SIZED("{\"to\":^\"any\"}"), "to: expected an object or \\\"all\\\""},
	{"D8 to is longer than all", SIZED("{\"to\":^\"alls\"}"), "to: expected an object or \\\"all\\\""},
	{"D8 to is an array", SIZED("{\"to\":^[7]}"), "to: expected an object or \\\"all\\\""},
	{"D8 to is null", SIZED("{\"to\":^null}"), "to: expected an object or \\\"all\\\""},
	{"D8 to names nobody", SIZED("{\"to\":^{}}"), "to: names nobody; for everybody say \\\"all\\\""},
	{"D8 to has empty lists", SIZED("{\"to\":^{\"users\":[],\"roles\":[]}}"), "to: names nobody; for everybody say \\\"all\\\""},
	{"D8 to has an unknown key", SIZED("{\"to\":{^\"groups\":[1]}}"), "to: unknown key: there are users and roles"},
	{"D8 to has a long key that ends in users", SIZED("{\"to\":{^\"" X64 "x\\u0075sers\":[1]}}"),
		"to: unknown key: there are users and roles"},
	{"D8 users is a number", SIZED("{\"to\":{\"users\":^7}}"), "to: expected an array"},
	{"D8 a user is 1.5", SIZED("{\"to\":{\"users\":[^1.5]}}"), "to: a user must be an integer or a string"},
	{"D8 a user is 1e3", SIZED("{\"to\":{\"users\":[^1e3]}}"), "to: a user must be an integer or a string"},
	{"D8 a user is null", SIZED("{\"to\":{\"users\":[^null]}}"), "to: a user must be an integer or a string"},
	{"D8 a user is true", SIZED("{\"to\":{\"users\":[7,^true]}}"), "to: a user must be an integer or a string"},
	{"D8 a user is an object", SIZED("{\"to\":{\"users\":[^{}]}}"), "to: a user must be an integer or a string"},
	{"D9 a user is empty", SIZED("{\"to\":{\"users\":[^\"\"]}}"), "to: a user or role must not be empty"},
	{"D9 a user of 65 bytes", SIZED("{\"to\":{\"users\":[^\"" X64 "x\"]}}"), "to: a user or role is longer than 64 bytes"},
	{"D9 a user of 65 digits", SIZED("{\"to\":{\"users\":[^1" "0000000000000000" "0000000000000000" "0000000000000000" "0000000000000000" "]}}"),
		"to: a user or role is longer than 64 bytes"},
	{"D9 a user with a newline", SIZED("{\"to\":{\"users\":[^\"a\\nb\"]}}"), "to: a user or role has a control character"},
	{"D9 a user with NUL", SIZED("{\"to\":{\"users\":[^\"a\\u0000\"]}}"), "to: a user or role has a control character"},
	{"S8 a user with half a surrogate pair", SIZED("{\"to\":{\"users\":[\"^\\ud800\"]}}"), "to: half of a surrogate pair"},
	{"D8 a role is a number", SIZED("{\"to\":{\"roles\":[^1]}}"), "to: a role must be a string"},
	{"D9 a role is empty", SIZED("{\"to\":{\"roles\":[^\"\"]}}"), "to: a user or role must not be empty"},
	{"D9 a role of 65 bytes", SIZED("{\"to\":{\"roles\":[^\"" X64 "x\"]}}"), "to: a user or role is longer than 64 bytes"},
	{"D8 except is all", SIZED("{\"except\":^\"all\"}"), "except: expected an object"},
	{"D8 except has roles", SIZED("{\"except\":{^\"roles\":[\"x\"]}}"), "except: unknown key: there is users"},
	{"D8 timestamp is a string", SIZED("{\"timestamp\":^\"1\"}"), "timestamp: expected a whole number"},
	{"D8 timestamp is negative", SIZED("{\"timestamp\":^-1}"), "timestamp: expected a whole number, 0 to 2^53"},
	{"D8 timestamp is 1.5", SIZED("{\"timestamp\":^1.5}"), "timestamp: expected a whole number, 0 to 2^53"},
	{"D8 timestamp is 2^64", SIZED("{\"timestamp\":^18446744073709551616}"), "timestamp: expected a whole number, 0 to 2^53"},
	{"D8 op is a number", SIZED("{\"op\":^7}"), "op: expected revoke, refresh, status or ping"},
	{"D8 op is unknown", SIZED("{\"op\":\"restart\"}"), "op: expected revoke, refresh, status or ping"},
	{"D8 the end of a long op is none", SIZED("{\"op\":^\"" X64 "x\\u0070ing\"}"), "op: expected revoke, refresh, status or ping"},
	{"D8 op and event", SIZED("{\"op\":\"ping\"," OK_EVENT "}"), "an op is not an event: it has only user or sid"},
	{"D8 ping with a user", SIZED("{\"op\":\"ping\",\"user\":7}"), "op: ping has no user and no sid"},
	{"D8 revoke of nobody", SIZED("{\"op\":\"revoke\"}"), "op: revoke needs a user or a sid"},
	{"D8 revoke of both", SIZED("{\"op\":\"revoke\",\"user\":7,\"sid\":\"x\"}"), "op: revoke needs a user or a sid"},
	{"D8 revoke of null", SIZED("{\"op\":\"revoke\",\"user\":^null}"), "user: a user must be an integer or a string"},
	{"D8 an empty sid", SIZED("{\"op\":\"revoke\",\"sid\":^\"\"}"), "sid: expected a string of 1 to 64 bytes"},
	{"D8 refresh without a user", SIZED("{\"op\":\"refresh\"}"), "op: refresh needs a user"},
	{"refresh has nobody to ask", SIZED("{\"op\":\"refresh\",\"user\":7}"),
		"op: refresh asks Django again, and there is no --auth-url"},
	{"D8 a user without an op", SIZED("{" OK_EVENT ",\"user\":7}"), "user and sid belong to an op; who an event is for stands in to"},
	{"S7 not UTF-8", SIZED("{\"data\":\"^\xff\"}"), "data: not UTF-8"},
	{"S7 overlong", SIZED("{\"data\":\"^\xc0\x80\"}"), "data: not UTF-8"},
	{"S7 surrogate in UTF-8", SIZED("{\"data\":\"^\xed\xa0\x80\"}"), "data: not UTF-8"},
	{"S7 cut off", SIZED("{\"data\":\"^\xe2\x82\"}"), "data: not UTF-8"},
	{"a raw tab", SIZED("{\"data\":\"a^\tb\"}"), "data: a control character in a string must be escaped"},
	{"a bad escape", SIZED("{\"data\":\"\\^x\"}"), "data: expected one of \\\"\\\\/bfnrtu after a backslash"},
	{"a bad \\u", SIZED("{\"data\":\"\\u12^g4\"}"), "data: expected four hex digits after \\\\u"},
};

static void expect_bad(const struct server *s, const struct bad_row *row)
{
	const char *mark = memchr(row->datagram, '^', row->n), *ack;
	size_t at = mark != NULL ? (size_t)(mark - row->datagram) : 0;
	struct text t = {NULL, 0, 0}, expected = {NULL, 0, 0};
	char number[32];

	text_add(&t, row->datagram, at);
	text_add(&t, row->datagram + at + (mark != NULL), row->n - at - (mark != NULL));
	text_say(&expected, "{\"ok\":false,\"error\":\"");
	text_say(&expected, row->error);
	snprintf(number, sizeof number, "\",\"at\":%zu}", at);
	text_say(&expected, number);
	ack = publish_bytes(s, t.p, t.n);
	cr_expect(strcmp(ack, expected.p) == 0, "%s: expected %s, got %s", row->name, expected.p, ack);
	text_free(&t);
	text_free(&expected);
}

Test(datagrams, D2_to_D9_every_mistake_is_named_and_changes_nothing)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);

	for (size_t i = 0; i < sizeof bad_rows / sizeof bad_rows[0]; i++)
		expect_bad(&s, &bad_rows[i]);
	published(&s, EVENT("after", "1", ALL), 1);
	stream_expect(&st, "after", "1");
	log_wait(&s, "msg=event name=after ");
	cr_assert(log_count(&s, "msg=event ") == 1);
	cr_assert(log_count(&s, "msg=bad_datagram error=") > 50);
	stream_close(&st);
	server_stop(&s);
}

/* An event whose data is n times `open`, then `shut`. */
static const char *publish_nested(const struct server *s, const char *open, const char *middle, const char *shut, int n)
{
	struct text t = {NULL, 0, 0};
	const char *ack;

	text_say(&t, "{\"event\":\"a\",\"data\":");
	for (int i = 0; i < n; i++)
		text_say(&t, open);
	text_say(&t, middle);
	for (int i = 0; i < n && shut != NULL; i++)
		text_say(&t, shut);
	text_say(&t, ",\"to\":\"all\"}");
	ack = publish_bytes(s, t.p, t.n);
	text_free(&t);
	return ack;
}

Test(datagrams, D5_nesting_has_a_limit)
{
	struct server s = server_start(NULL);

	cr_expect(strstr(publish_nested(&s, "[", "", "]", 31), "\"ok\":true") != NULL, "31 and the object around");
	cr_expect(strstr(publish_nested(&s, "[", "", "]", 32), "data: nested too deep") != NULL);
	cr_expect(strstr(publish_nested(&s, "[", "", "]", 100000), "data: nested too deep") != NULL);
	cr_expect(strstr(publish_nested(&s, "[", "", NULL, 64000), "data: nested too deep") != NULL);
	cr_expect(strstr(publish_nested(&s, "[{\"\":", "1", NULL, 40000), "data: nested too deep") != NULL);
	server_stop(&s);
}

Test(datagrams, D2_a_datagram_that_is_too_long_is_refused_whole)
{
	struct server s = server_start("--datagram", "1000", NULL);
	struct text t = {NULL, 0, 0};

	text_say(&t, "{" OK_EVENT "}");
	text_fill(&t, ' ', 1000 - t.n);
	cr_assert(strstr(publish(&s, t.p), "\"ok\":true") != NULL);
	text_say(&t, " ");
	cr_assert_str_eq(publish(&s, t.p), "{\"ok\":false,\"error\":\"the datagram is longer than --datagram\",\"at\":0}");
	log_wait(&s, "msg=bad_datagram error=\"the datagram is longer than --datagram\"");
	cr_assert(log_count(&s, "msg=event ") == 1);
	text_free(&t);
	server_stop(&s);
}

Test(datagrams, D1_the_largest_datagram_arrives)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	struct text t = {NULL, 0, 0}, data = {NULL, 0, 0};

	text_say(&data, "\"");
	text_fill(&data, 'x', 204800 - strlen(EVENT("big", "", ALL)) - 2);
	text_say(&data, "\"");
	text_say(&t, "{\"event\":\"big\",\"data\":");
	text_say(&t, data.p);
	text_say(&t, ",\"to\":\"all\"}");
	cr_assert(t.n == 204800);
	published(&s, t.p, 1);
	stream_expect(&st, "big", data.p);
	text_free(&t);
	text_free(&data);
	stream_close(&st);
	server_stop(&s);
}

Test(datagrams, several_lines_get_their_acks_in_one_datagram)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	const char *ack = publish(&s, "{" OK_EVENT "}\n{\"op\":\"nothing\"}\n\n  \r\n{\"op\":\"ping\"}\r\n" EVENT("b", "2", ALL) "\n");
	static const char bad[] = "{\"ok\":false,\"error\":\"op: expected revoke, refresh, status or ping\",\"at\":0}";
	long long ms[3], n[3];
	int matched[3], bytes = 0;

	cr_assert(sscanf(ack, "{\"ok\":true,\"id\":\"%lld-%lld\",\"matched\":%d}\n%n", &ms[0], &n[0], &matched[0], &bytes) == 3, "%s", ack);
	cr_assert(strncmp(ack + bytes, bad, strlen(bad)) == 0, "%s", ack);
	ack += (size_t)bytes + strlen(bad);
	cr_assert(sscanf(ack, "\n{\"ok\":true,\"id\":\"%lld-%lld\",\"matched\":%d}\n{\"ok\":true,\"id\":\"%lld-%lld\",\"matched\":%d}%n",
		&ms[1], &n[1], &matched[1], &ms[2], &n[2], &matched[2], &bytes) == 6 && bytes == (int)strlen(ack), "%s", ack);
	cr_assert(ms[0] == ms[1] && n[0] == n[1], "ping tells the newest id");
	cr_assert(ms[2] > ms[0] || n[2] > n[0]);
	cr_assert(matched[0] == 1 && matched[1] == 1 && matched[2] == 1);
	stream_expect(&st, "a", "1");
	stream_expect(&st, "b", "2");
	stream_close(&st);
	server_stop(&s);
}

Test(datagrams, the_id_of_the_ack_is_the_id_of_the_frame)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	char expected[128], ack[256];

	snprintf(ack, sizeof ack, "%s", publish(&s, EVENT("a", "1", ALL)));
	stream_expect(&st, "a", "1");
	snprintf(expected, sizeof expected, "{\"ok\":true,\"id\":\"%lld-%lld\",\"matched\":1}", st.ms, st.n);
	cr_assert_str_eq(ack, expected);
	snprintf(expected, sizeof expected, "msg=event name=a id=%lld-%lld matched=1\n", st.ms, st.n);
	log_wait(&s, expected);
	stream_close(&st);
	server_stop(&s);
}

Test(datagrams, a_sender_without_an_address_gets_nothing_but_is_logged)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);

	publish_unbound(&s, EVENT("a", "1", ALL));
	stream_expect(&st, "a", "1");
	publish_unbound(&s, "{\"event\":5}");
	log_wait(&s, "msg=bad_datagram error=\"event: expected 1 to 64 of A-Z a-z 0-9 _ . : -\" at=9");
	publish_unbound(&s, "");
	log_wait(&s, "msg=bad_datagram error=\"the datagram is empty\"");
	cr_assert(log_count(&s, "ack_lost") == 0);
	stream_close(&st);
	server_stop(&s);
}

Test(datagrams, a_sender_with_a_path_gets_acks_and_may_be_gone)
{
	struct server s = server_start(NULL);
	char path[80];
	struct sockaddr_un mine;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(path, sizeof path, "%s/django.sock", s.dir);
	mine = unix_address(path);
	cr_assert(bind(fd, (struct sockaddr *)&mine, sizeof mine) == 0);
	cr_assert(datagram_send(&s, fd, "{\"op\":\"ping\"}", 13));
	cr_assert(strstr(datagram_receive(fd), "{\"ok\":true,\"id\":\"") != NULL);
	kill(s.pid, SIGSTOP);
	cr_assert(datagram_send(&s, fd, "{\"op\":\"ping\"}", 13));
	close(fd);
	kill(s.pid, SIGCONT);
	log_wait(&s, "msg=ack_lost");
	published(&s, EVENT("a", "1", ALL), 0);
	server_stop(&s);
}

/* Acks that the sender does not read are lost, and hold nobody up. */
Test(datagrams, D10_a_sender_that_reads_no_acks_costs_others_nothing)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	const struct sockaddr_un nobody = {.sun_family = AF_UNIX};
	int deaf = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	bind(deaf, (const struct sockaddr *)&nobody, sizeof(sa_family_t));
	for (int i = 0; i < 1000; i++)
		cr_assert(datagram_send(&s, deaf, EVENT("a", "1", ALL), strlen(EVENT("a", "1", ALL))));
	published(&s, EVENT("b", "2", ALL), 1);
	for (int i = 0; i < 1000; i++)
		stream_expect(&st, "a", "1");
	stream_expect(&st, "b", "2");
	log_wait(&s, "msg=ack_lost");
	close(deaf);
	stream_close(&st);
	server_stop(&s);
}

Test(datagrams, an_event_reaches_whom_it_is_for_and_each_once)
{
	/* a and A are two tokens of user 7; b is 8, c is clara, d is 9. */
	static const char *const tokens[] = {ANNA, ANNA2, BORIS, CLARA, DAVE};
	static const char letters[] = "aAbcd";
	static const struct {
		const char *to, *except, *reaches;
	} rows[] = {
		{"\"all\"", NULL, "aAbcd"},
		{"{\"users\":[7]}", NULL, "aA"},
		{"{\"users\":[\"7\"]}", NULL, "aA"},
		{"{\"users\":[7,\"7\",7]}", NULL, "aA"},
		{"{\"users\":[7,8]}", NULL, "aAb"},
		{"{\"users\":[\"clara\"]}", NULL, "c"},
		{"{\"users\":[404,\"nobody\"]}", NULL, ""},
		{"{\"roles\":[\"manager\"]}", NULL, "aAc"},
		{"{\"roles\":[\"foreman\"]}", NULL, "bc"},
		{"{\"roles\":[\"manager\",\"foreman\"]}", NULL, "aAbc"},
		{"{\"roles\":[\"owner\"]}", NULL, ""},
		{"{\"users\":[\"clara\",7],\"roles\":[\"manager\",\"foreman\"]}", NULL, "aAbc"},
		{"{\"roles\":[\"foreman\"],\"users\":[9]}", NULL, "bcd"},
		{"{\"users\":[9],\"roles\":[]}", NULL, "d"},
		{"\"all\"", "{\"users\":[7]}", "bcd"},
		{"\"all\"", "{\"users\":[\"7\",8,\"clara\",9]}", ""},
		{"\"all\"", "{\"users\":[404]}", "aAbcd"},
		{"\"all\"", "{\"users\":[]}", "aAbcd"},
		{"\"all\"", "{}", "aAbcd"},
		{"{\"roles\":[\"manager\"]}", "{\"users\":[\"clara\"]}", "aA"},
		{"{\"users\":[7]}", "{\"users\":[7]}", ""},
		{"{\"users\":[7,8],\"roles\":[\"foreman\"]}", "{\"users\":[8]}", "aAc"},
		{"\"\\u0061ll\"", NULL, "aAbcd"},
	};
	struct server s = server_start(NULL);
	struct stream st[5];
	char datagram[256];

	for (int i = 0; i < 5; i++)
		st[i] = stream_open(&s, tokens[i]);
	for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
		snprintf(datagram, sizeof datagram, "{\"event\":\"row.%zu\",\"data\":%zu,\"to\":%s%s%s}", row, row, rows[row].to,
			rows[row].except != NULL ? ",\"except\":" : "", rows[row].except != NULL ? rows[row].except : "");
		published(&s, datagram, (int)strlen(rows[row].reaches));
	}
	published(&s, EVENT("end", "0", ALL), 5);
	for (int i = 0; i < 5; i++) {
		for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
			char name[32], data[32];

			snprintf(name, sizeof name, "row.%zu", row);
			snprintf(data, sizeof data, "%zu", row);
			if (strchr(rows[row].reaches, letters[i]) != NULL)
				stream_expect(&st[i], name, data);
		}
		stream_expect(&st[i], "end", "0");
		stream_close(&st[i]);
	}
	server_stop(&s);
}

/* The kernel counts what they have not read as the server's: net.unix.max_dgram_qlen of each. */
Test(datagrams, senders_that_read_no_answer_take_nobody_elses)
{
	struct server s = server_start(NULL);
	const struct sockaddr nobody = {.sa_family = AF_UNIX};
	int deaf[40];

	for (size_t i = 0; i < sizeof deaf / sizeof deaf[0]; i++) {
		deaf[i] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		cr_assert(bind(deaf[i], &nobody, sizeof(sa_family_t)) == 0);
		for (int k = 0; k < 12; k++)
			cr_assert(datagram_send(&s, deaf[i], "{\"op\":\"ping\"}", 13));
	}
	for (int k = 0; k < 20; k++)
		published(&s, "{\"op\":\"ping\"}", 0);
	for (size_t i = 0; i < sizeof deaf / sizeof deaf[0]; i++)
		close(deaf[i]);
	server_stop(&s);
}

/* It takes datagrams from nobody else, so answers have to come from there. */
Test(datagrams, a_sender_that_is_connected_gets_its_answer)
{
	struct server s = server_start(NULL);
	struct sockaddr_un to = unix_address(s.socket);
	const struct sockaddr nobody = {.sa_family = AF_UNIX};
	int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char text[256] = "";

	cr_assert(connect(sender, (struct sockaddr *)&to, sizeof to) == 0);
	cr_assert(bind(sender, &nobody, sizeof(sa_family_t)) == 0);
	cr_assert(send(sender, "{\"op\":\"ping\"}", 13, 0) == 13);
	cr_assert(recv(sender, text, sizeof text - 1, 0) > 0);
	cr_expect(strncmp(text, "{\"ok\":true", 10) == 0, "%s", text);
	close(sender);
	server_stop(&s);
}

Test(datagrams, ping_counts_the_streams)
{
	struct server s = server_start(NULL);
	struct stream a, b;

	published(&s, "{\"op\":\"ping\"}", 0);
	a = stream_open(&s, ANNA);
	b = stream_open(&s, BORIS);
	published(&s, "{\"op\":\"ping\"}", 2);
	published(&s, EVENT("a", "1", ALL), 2);
	stream_expect(&a, "a", "1"); /* ping itself is no event */
	stream_close(&a);
	stream_close(&b);
	server_stop(&s);
}

Test(datagrams, A17_revoke_ends_the_streams_of_a_user_and_no_others)
{
	static const char *const users[] = {"7", "\"7\""};
	struct server s = server_start(NULL);
	struct stream b = stream_open(&s, BORIS);
	char datagram[64];

	published(&s, "{\"op\":\"revoke\",\"user\":404}", 0);
	published(&s, "{\"op\":\"revoke\",\"sid\":\"none\"}", 0);
	for (int i = 0; i < 2; i++) {
		struct stream a = stream_open(&s, ANNA), a2 = stream_open(&s, ANNA2);

		snprintf(datagram, sizeof datagram, "{\"op\":\"revoke\",\"user\":%s}", users[i]);
		published(&s, datagram, 2);
		stream_expect_end(&a, "data: {\"event\":\"auth.revoked\"}");
		stream_expect_end(&a2, "data: {\"event\":\"auth.revoked\"}");
		log_wait_times(&s, "user=7 reason=revoked", 2 * i + 2);
		stream_close(&a);
		stream_close(&a2);
	}
	published(&s, EVENT("a", "1", ALL), 1);
	stream_expect(&b, "a", "1");
	stream_close(&b);
	server_stop(&s);
}

Test(datagrams, D7_S5_S10_data_is_sent_on_untouched)
{
	static const char *const rows[] = {"1e999", "-0", "-0.0", "9007199254740993", "1.0", "1E+2", "0.1e-7", "null", "true", "false",
		"{}", "[]", "\"\"", "\" x\"", "\": x\"", "\"data: y\"", "\"a\\nevent: x\"", "\"\\r\\n\\r\\n\"", "\"\\u0000\"", "\"\\/\\b\\f\\t\"",
		"\"\\ud800\"", "\"\\uD83D\\ude00\"", "\"\xf0\x9f\x98\x80 \xc3\xa9 \xd0\xb6\"", "\"\xe2\x80\xa8\xe2\x80\xa9\xc2\x85\xef\xbb\xbf\"",
		"{\"a\":{\"b\":[1,{\"\":null}]},\"a\":2}", "\"\x7f\"", "[[[[]]]]", "123456789012345678901234567890.5"};
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	struct text digits = {NULL, 0, 0}, t = {NULL, 0, 0};

	text_fill(&digits, '7', 10000);
	for (size_t i = 0; i <= sizeof rows / sizeof rows[0]; i++) {
		const char *data = i < sizeof rows / sizeof rows[0] ? rows[i] : digits.p;

		text_clear(&t);
		text_say(&t, "{\"to\":\"all\",\"data\":");
		text_say(&t, data);
		text_say(&t, ",\"event\":\"A-z_0.9:x\"}");
		published(&s, t.p, 1);
		stream_expect(&st, "A-z_0.9:x", data);
	}
	text_free(&t);
	text_free(&digits);
	stream_close(&st);
	server_stop(&s);
}

Test(datagrams, white_space_in_data_is_left_out)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);

	published(&s, " { \"event\" : \"a\" ,\t\"data\" : { \"k\" : [ 1 , \" 2 \" ,\t{ } ] , \"l\" : [ ] } , \"to\" : \"all\" } \r", 1);
	stream_expect(&st, "a", "{\"k\":[1,\" 2 \",{}],\"l\":[]}");
	stream_close(&st);
	server_stop(&s);
}

Test(datagrams, a_timestamp_is_given_or_now)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);

	published(&s, "{" OK_EVENT ",\"timestamp\":1704110400}", 1);
	stream_expect_at(&st, "a", "1", 1704110400);
	published(&s, "{" OK_EVENT ",\"timestamp\":9007199254740992}", 1);
	stream_expect_at(&st, "a", "1", 9007199254740992);
	published(&s, "{" OK_EVENT "}", 1);
	stream_expect(&st, "a", "1");
	stream_close(&st);
	server_stop(&s);
}

Test(datagrams, D17_descriptors_in_a_datagram_do_not_stay)
{
	struct server s = server_start(NULL);
	int before = server_descriptors(&s), fds[8];
	struct sockaddr_un to = unix_address(s.socket);
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof fds)];
	} control;
	char ping[] = "{\"op\":\"ping\"}";
	struct iovec iov = {ping, strlen(ping)};
	struct msghdr m = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.bytes, .msg_controllen = sizeof control.bytes};

	for (int i = 0; i < 8; i++)
		fds[i] = STDERR_FILENO;
	memset(&control, 0, sizeof control);
	CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
	CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
	CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof fds);
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, sizeof fds);
	for (int i = 0; i < 100; i++) {
		cr_assert(sendmsg(s.django, &m, 0) > 0);
		cr_assert(strstr(datagram_receive(s.django), "\"ok\":true") != NULL);
	}
	cr_assert(server_descriptors(&s) == before);
	server_stop(&s);
}

/* As many as a datagram can carry, again and again, to a server that has room for few. */
Test(datagrams, D18_a_flood_of_descriptors_leaves_none)
{
	enum { FDS = 253 };
	static int fds[FDS];
	static union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof fds)];
	} control;
	struct server s = server_new();
	struct sockaddr_un to = unix_address(s.socket);
	char event[] = EVENT("a", "1", ALL);
	struct iovec iov = {event, strlen(event)};
	struct msghdr m = {.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
	struct stream st;
	int before, sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	s.nofile = 100;
	server_launch(&s, NULL);
	server_ready(&s, 1);
	st = stream_open(&s, ANNA);
	before = server_descriptors(&s);
	for (int i = 0; i < FDS; i++)
		fds[i] = STDERR_FILENO;
	CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
	CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
	CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(sizeof fds);
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, sizeof fds);
	for (int i = 0; i < 200; i++) {
		cr_assert(sendmsg(sender, &m, 0) > 0, "%s", strerror(errno));
		stream_expect(&st, "a", "1");
		cr_assert(server_descriptors(&s) == before);
	}
	cr_assert(log_count(&s, "accept_failed") == 0);
	close(sender);
	stream_close(&st);
	server_stop(&s);
}

/* ============================================================================================
 * streams
 * ============================================================================================ */

Test(streams, every_event_reaches_every_stream_in_order_and_once)
{
	enum { STREAMS = 40, COUNT = 100 };
	static struct stream st[STREAMS];
	struct server s = server_start("--streams-per-user", "100", NULL);
	char datagram[128], data[32];

	for (int i = 0; i < STREAMS; i++)
		st[i] = stream_open(&s, i % 2 == 0 ? ANNA : BORIS);
	for (int e = 0; e < COUNT; e++) {
		snprintf(datagram, sizeof datagram, "{\"event\":\"n\",\"data\":%d,\"to\":\"all\"}", e);
		published(&s, datagram, STREAMS);
	}
	for (int i = 0; i < STREAMS; i++) {
		for (int e = 0; e < COUNT; e++) {
			snprintf(data, sizeof data, "%d", e);
			stream_expect(&st[i], "n", data);
		}
		stream_close(&st[i]);
	}
	server_stop(&s);
}

/* Sends so many numbered events from a process of its own: as fast as the kernel lets it. */
static pid_t publisher(const struct server *s, int count)
{
	pid_t pid = fork();
	char datagram[128];
	int fd;

	if (pid != 0)
		return pid;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	for (int e = 0; e < count; e++) {
		snprintf(datagram, sizeof datagram, "{\"event\":\"n\",\"data\":%d,\"to\":\"all\"}", e);
		if (!datagram_send(s, fd, datagram, strlen(datagram)))
			_exit(1);
	}
	_exit(0);
}

static void expect_numbers(struct stream *st, int count)
{
	char data[32];

	for (int e = 0; e < count; e++) {
		snprintf(data, sizeof data, "%d", e);
		stream_expect(st, "n", data);
	}
}

Test(streams, D10_publishers_are_held_back_and_readers_miss_nothing)
{
	static struct stream st[50];
	struct server s = server_start("--queue", "10", "--streams-per-user", "100", NULL);
	pid_t pid;
	int status;

	for (int i = 0; i < 50; i++)
		st[i] = stream_open(&s, ANNA);
	pid = publisher(&s, 500);
	for (int i = 0; i < 50; i++) {
		expect_numbers(&st[i], 500);
		stream_close(&st[i]);
	}
	cr_assert(waitpid(pid, &status, 0) == pid && status == 0);
	cr_assert(log_count(&s, "reason=slow") == 0);
	server_stop(&s);
}

Test(streams, a_datagram_of_more_lines_than_a_queue_is_no_reason_to_be_slow)
{
	static struct stream st[50];
	struct server s = server_start("--queue", "10", "--streams-per-user", "100", NULL);
	struct text t = {NULL, 0, 0};
	char line[128];

	for (int i = 0; i < 50; i++)
		st[i] = stream_open(&s, ANNA);
	for (int e = 0; e < 500; e++) {
		snprintf(line, sizeof line, "{\"event\":\"n\",\"data\":%d,\"to\":\"all\"}\n", e);
		text_say(&t, line);
	}
	publish_unbound(&s, t.p);
	for (int i = 0; i < 50; i++) {
		expect_numbers(&st[i], 500);
		stream_close(&st[i]);
	}
	cr_assert(log_count(&s, "reason=slow") == 0);
	text_free(&t);
	server_stop(&s);
}

Test(streams, D11_datagrams_of_a_time_the_server_stood_still_all_arrive)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	pid_t pid;
	int status;

	kill(s.pid, SIGSTOP);
	pid = publisher(&s, 300);
	poll(NULL, 0, 50); /* not needed, but the publisher is held back a while */
	cr_assert(waitpid(pid, &status, WNOHANG) == 0, "the publisher waits in sendto");
	kill(s.pid, SIGCONT);
	expect_numbers(&st, 300);
	cr_assert(waitpid(pid, &status, 0) == pid && status == 0);
	stream_close(&st);
	server_stop(&s);
}

Test(streams, S16_a_silent_stream_gets_keepalives)
{
	struct server s = server_start("--keepalive", "200ms", NULL);
	struct stream chunked = stream_open(&s, ANNA);
	struct stream raw = stream_begin(client_open(&s), "GET " EVENTS "?token=" ANNA " HTTP/1.0\r\n\r\n");
	struct stream *st[] = {&chunked, &raw};

	for (int i = 0; i < 6; i++) {
		const char *frame = stream_frame(st[i % 2]);
		long long at;
		int bytes = 0;

		cr_assert(frame != NULL && sscanf(frame, "data: {\"event\":\"keepalive\",\"timestamp\":%lld}%n", &at, &bytes) == 1, "%s", frame);
		cr_assert(bytes == (int)strlen(frame) && llabs(at - (long long)time(NULL)) < 60, "%s", frame);
	}
	published(&s, EVENT("a", "1", ALL), 2);
	for (int i = 0; i < 2; i++) {
		const char *frame;

		while ((frame = stream_frame(st[i])) != NULL && strncmp(frame, "id: ", 4) != 0)
			cr_assert(strncmp(frame, "data: {\"event\":\"keepalive\",", 27) == 0, "%s", frame);
		stream_close(st[i]);
	}
	server_stop(&s);
}

/* An event larger than what the kernel takes for a lazy client. */
static struct text big_event(size_t bytes)
{
	struct text t = {NULL, 0, 0};

	text_say(&t, "{\"event\":\"big\",\"data\":\"");
	text_fill(&t, 'x', bytes);
	text_say(&t, "\",\"to\":\"all\"}");
	return t;
}

Test(streams, S13_a_keepalive_never_stands_inside_a_frame)
{
	struct server s = server_start("--keepalive", "50ms", "--send-buffer", "4096", NULL);
	struct stream lazy = stream_open_lazy(&s, ANNA), other = stream_open(&s, BORIS);
	struct text t = big_event(190000);
	const char *frame;

	publish(&s, t.p);
	for (int keepalives = 0; keepalives < 4; ) {
		frame = stream_frame(&other);
		cr_assert(frame != NULL);
		keepalives += strncmp(frame, "data: {\"event\":\"keepalive\",", 27) == 0;
	}
	publish(&s, EVENT("after", "1", ALL));
	while ((frame = stream_frame(&lazy)) != NULL && strncmp(frame, "data: {\"event\":\"keepalive\",", 27) == 0)
		;
	cr_assert(frame != NULL && strstr(frame, "{\"event\":\"big\",\"data\":\"xxx") != NULL, "%.100s", frame);
	cr_assert(strspn(strstr(frame, "xxx"), "x") == 190000, "nothing stands in it");
	frame = stream_frame(&lazy); /* nor was any kept for a stream that events wait for */
	cr_assert(frame != NULL && strstr(frame, "{\"event\":\"after\",\"data\":1,") != NULL, "%.100s", frame);
	text_free(&t);
	stream_close(&lazy);
	stream_close(&other);
	server_stop(&s);
}

Test(streams, R5_who_does_not_read_is_closed_as_slow_and_nobody_else_misses_anything)
{
	struct server s = server_start("--send-buffer", "4096", "--queue", "5", NULL);
	struct stream lazy = stream_open_lazy(&s, ANNA), other = stream_open(&s, BORIS);
	struct text t = big_event(10000);
	int events = 0, bytes;

	while (log_count(&s, "reason=slow") == 0) {
		const char *got;

		cr_assert(++events < 100, "a megabyte for a client that reads nothing");
		publish(&s, t.p);
		got = stream_event(&other);
		cr_assert(strncmp(got, "{\"event\":\"big\",\"data\":\"xxx", 26) == 0);
	}
	log_wait(&s, "msg=disconnect conn=1 user=7 reason=slow seconds=");
	published(&s, EVENT("after", "1", ALL), 1);
	stream_expect(&other, "after", "1");
	client_read_all(&lazy.c);
	bytes = (int)lazy.c.in.n;
	cr_assert(lazy.c.reset || bytes < events * 10000, "what it had not taken is dropped");
	text_free(&t);
	stream_close(&lazy);
	stream_close(&other);
	server_stop(&s);
}

Test(streams, R6_who_takes_nothing_for_a_while_is_closed_as_stalled)
{
	struct server s = server_start("--send-buffer", "4096", "--write-stall", "500ms", NULL);
	struct stream lazy = stream_open_lazy(&s, ANNA), other = stream_open(&s, BORIS);
	struct text t = big_event(190000);
	int64_t begin = now_ms();

	publish(&s, t.p);
	stream_event(&other);
	log_wait(&s, "msg=disconnect conn=1 user=7 reason=stalled seconds=");
	cr_assert(now_ms() - begin >= 450);
	published(&s, EVENT("after", "1", ALL), 1);
	stream_expect(&other, "after", "1");
	text_free(&t);
	stream_close(&lazy);
	stream_close(&other);
	server_stop(&s);
}

Test(streams, R6_who_reads_slowly_but_reads_is_not_stalled)
{
	struct server s = server_start("--send-buffer", "4096", "--write-stall", "400ms", NULL);
	struct stream lazy = stream_open_lazy(&s, ANNA);
	struct text t = big_event(100000);
	char part[4096];
	int64_t begin = now_ms();
	size_t got = 0;

	publish(&s, t.p);
	while (got < 60000) { /* for more than a second, never silent for long */
		ssize_t n = recv(lazy.c.fd, part, sizeof part, 0);

		cr_assert(n > 0, "%s", n < 0 ? strerror(errno) : "closed");
		got += (size_t)n;
		poll(NULL, 0, 60);
	}
	cr_assert(now_ms() - begin > 800 && log_count(&s, "msg=disconnect") == 0);
	text_free(&t);
	stream_close(&lazy);
	server_stop(&s);
}

Test(streams, S13_a_lazy_client_that_reads_in_time_gets_every_byte)
{
	struct server s = server_start("--send-buffer", "4096", "--queue", "50", NULL);
	struct stream lazy = stream_open_lazy(&s, ANNA);
	struct stream raw = stream_begin(client_tcp(s.port, false, 2048), "GET " EVENTS "?token=" BORIS " HTTP/1.0\r\n\r\n");
	struct text t = {NULL, 0, 0};
	char begin[64];

	for (int i = 0; i < 30; i++) {
		text_clear(&t);
		snprintf(begin, sizeof begin, "{\"event\":\"n\",\"to\":\"all\",\"data\":[%d,\"", i);
		text_say(&t, begin);
		text_fill(&t, 'y', (size_t)(i * 997 % 7001));
		text_say(&t, "\"]}");
		published(&s, t.p, 2);
	}
	for (int i = 0; i < 60; i++) {
		const char *got = stream_event(i % 2 == 0 ? &lazy : &raw);
		int number = -1, at = 0;

		cr_assert(sscanf(got, "{\"event\":\"n\",\"data\":[%d,\"%n", &number, &at) == 1 && number == i / 2, "%.80s", got);
		cr_assert(strspn(got + at, "y") == (size_t)(i / 2 * 997 % 7001));
	}
	text_free(&t);
	stream_close(&lazy);
	stream_close(&raw);
	server_stop(&s);
}

Test(streams, R5_send_buffer_is_that_of_unix_clients_too)
{
	struct server s = server_new();
	struct stream lazy;
	struct text t = big_event(1000);
	char address[80];
	int events = 0;

	snprintf(address, sizeof address, "unix:%s", s.http);
	server_launch(&s, "--listen", address, "--send-buffer", "4096", "--queue", "5", NULL);
	server_ready(&s, 1);
	lazy = stream_begin(client_unix(s.http), GET_EVENTS(ANNA));
	while (strstr(publish(&s, t.p), "\"matched\":1}") != NULL)
		cr_assert(++events < 40, "a client that reads nothing is given %d kB of the kernel's memory", events);
	log_wait(&s, "reason=slow");
	text_free(&t);
	stream_close(&lazy);
	server_stop(&s);
}

/* ============================================================================================
 * coming back: numbered events, and pages that see each of theirs once, in order
 * ============================================================================================ */

enum { NUMBERS = 100000 };

struct id {
	long long ms, n; /* ms is 0 where there is none */
};

static bool id_same(struct id a, struct id b)
{
	return a.ms == b.ms && a.n == b.n;
}

static bool id_before(struct id a, struct id b)
{
	return a.ms < b.ms || (a.ms == b.ms && a.n < b.n);
}

/* Who the numbered events are for, in turn, and whose pages get them; a page of ANNA's gets them all. */
static const struct {
	const char *to, *pages;
} audiences[] = {
	{ALL, "abd"},
	{"{\"users\":[7,8]}", "ab"},
	{"{\"roles\":[\"manager\"]}", "a"},
	{ALL, "abd"},
	{ALL ",\"except\":{\"users\":[8]}", "ad"},
	{"{\"users\":[7],\"roles\":[\"foreman\"]}", "ab"},
};

static size_t audience(uint32_t number)
{
	return number / 3 % (sizeof audiences / sizeof audiences[0]); /* neighbours have the same */
}

static bool sees(const char *token, uint32_t number)
{
	return strchr(audiences[audience(number)].pages, token[0]) != NULL;
}

static uint32_t padding(uint32_t number)
{
	return number * 37 % 151;
}

/* Appends the line that publishes a number. */
static void number_say(struct text *t, uint32_t number)
{
	char line[256];

	snprintf(line, sizeof line, "{\"event\":\"n\",\"data\":[%u,\"%.*s\"],\"to\":%s}\n", number, (int)padding(number),
		X64 X64 X64, audiences[audience(number)].to);
	text_say(t, line);
}

/* The first number from here on that is for everybody. */
static uint32_t number_for_all(uint32_t number)
{
	while (audience(number) != 0)
		number++;
	return number;
}

/* Publishes the numbers from..to-1, some at a time; all are stored where there is a journal. */
static void publish_numbers(const struct server *s, uint32_t from, uint32_t to)
{
	struct text t = {NULL, 0, 0}, acks = {NULL, 0, 0};

	while (from < to) {
		int lines = 0;

		text_clear(&t);
		text_clear(&acks);
		for (; from < to && lines < 50; lines++)
			number_say(&t, from++);
		text_say(&acks, publish_bytes(s, t.p, t.n));
		cr_assert(count_of(&acks, "{\"ok\":true,") == lines && !text_has(&acks, "stored"), "%s", acks.p);
	}
	text_free(&t);
	text_free(&acks);
}

/* Publishes numbers from here on up to one that is for everybody; returns the next. */
static uint32_t publish_for_all(const struct server *s, uint32_t from)
{
	uint32_t next = number_for_all(from) + 1;

	publish_numbers(s, from, next);
	return next;
}

/* ---- pages ---- */

/* Somebody who listens, and comes back with the last id that was seen. */
struct page {
	struct stream st;
	const char *token;
	bool http10, in_query; /* how it asks */
	int rcvbuf;
	bool lossy;     /* numbers may be missing: what it got is looked at later */
	uint32_t next;  /* no number before this one comes */
	struct id last;
	struct id *got; /* by number, if that is wanted */
};

/* The first n bytes are done with. */
static void text_drop(struct text *t, size_t n)
{
	if (n > 0) {
		memmove(t->p, t->p + n, t->n - n + 1);
		t->n -= n;
	}
}

static void page_event(struct page *p, const char *frame)
{
	struct id id;
	unsigned number;
	int bytes = 0;

	cr_assert(sscanf(frame, "id: %lld-%lld\ndata: {\"event\":\"n\",\"data\":[%u,\"%n", &id.ms, &id.n, &number,
		&bytes) == 3 && bytes > 0, "%s expects %u, gets %.200s", p->token, p->next, frame);
	frame += bytes;
	cr_assert(strspn(frame, "x") == padding(number) && frame[padding(number)] == '"', "%u: %.200s", number, frame);
	cr_assert(id_before(p->last, id), "ids must rise: %lld-%lld, %lld-%lld", p->last.ms, p->last.n, id.ms, id.n);
	cr_assert(number >= p->next && number < NUMBERS, "%s gets %u once more, or late; expects %u", p->token, number,
		p->next);
	cr_assert(sees(p->token, number), "%u is not for %s", number, p->token);
	for (; !p->lossy && p->next < number; p->next++)
		cr_assert(!sees(p->token, p->next), "%s misses %u, gets %u", p->token, p->next, number);
	p->next = number + 1;
	p->last = id;
	if (p->got != NULL)
		p->got[number] = id;
}

/* Looks at what has come in. */
static void page_look(struct page *p)
{
	struct stream *st = &p->st;
	char *end;

	while (st->chunked && stream_chunk(st))
		;
	if (!st->chunked) {
		text_add(&st->body, st->c.in.p + st->c.at, st->c.in.n - st->c.at);
		st->c.at = st->c.in.n;
	}
	text_drop(&st->c.in, st->c.at);
	st->c.at = 0;
	while (st->body.n > st->at && (end = memmem(st->body.p + st->at, st->body.n - st->at, "\n\n", 2)) != NULL) {
		*end = '\0';
		if (strncmp(st->body.p + st->at, "retry: ", 7) != 0)
			page_event(p, st->body.p + st->at);
		st->at = (size_t)(end + 2 - st->body.p);
	}
	text_drop(&st->body, st->at);
	st->at = 0;
}

/* Takes in what there is; at the end of the stream it closes, too. */
static void page_read(struct page *p)
{
	struct client *c = &p->st.c;

	if (client_read(c)) {
		page_look(p);
		return;
	}
	if (!p->st.chunked)
		p->st.ended = !c->reset;
	close(c->fd);
	c->fd = -1;
}

/* Opens its stream: the first one, or one that goes on behind the last id. */
static void page_open(struct page *p, const struct server *s)
{
	char request[512], id[64] = "";
	struct id given;

	if (p->last.ms != 0)
		snprintf(id, sizeof id, "%s%lld-%lld%s", p->in_query ? "&lastEventId=" : "Last-Event-ID: ", p->last.ms,
			p->last.n, p->in_query ? "" : "\r\n");
	snprintf(request, sizeof request, "GET " EVENTS "?token=%s%s HTTP/1.%d\r\nHost: h\r\n%s\r\n", p->token,
		p->in_query ? id : "", p->http10 ? 0 : 1, p->in_query ? "" : id);
	p->st = stream_begin(client_tcp(s->port, false, p->rcvbuf), request);
	given = (struct id){p->st.ms, p->st.n};
	cr_assert(p->last.ms == 0 || id_same(given, p->last), "the page has seen everything up to %s, not %lld-%lld", id,
		given.ms, given.n);
	p->last = given;
	page_look(p);
}

/* It goes away; what it has seen it knows. */
static void page_close(struct page *p)
{
	stream_close(&p->st);
}

/*
 * Takes in what has come for pages that have not got number `until` yet, nor come to their end; waits so long if
 * nothing has. Returns how many there were.
 */
static int pages_turn(struct page *pages, int count, uint32_t until, int wait_ms)
{
	static struct pollfd ready[64];
	int waiting = 0, come;

	for (int i = 0; i < count; i++) {
		ready[i] = (struct pollfd){.fd = pages[i].st.c.fd, .events = POLLIN};
		if (pages[i].next > until || pages[i].st.c.eof)
			ready[i].fd = -1;
		waiting += ready[i].fd >= 0;
	}
	come = waiting > 0 ? poll(ready, (nfds_t)count, wait_ms) : 0;
	cr_assert(waiting == 0 || come > 0 || wait_ms < LIMIT_MS, "nothing comes any more\n%s", server_words());
	for (int i = 0; come > 0 && i < count; i++)
		if (ready[i].fd >= 0 && ready[i].revents != 0)
			page_read(&pages[i]);
	return waiting;
}

/* ... until all of them have it, or are at their end. */
static void pages_read(struct page *pages, int count, uint32_t until)
{
	while (pages_turn(pages, count, until, LIMIT_MS) > 0)
		;
}

/* A page that does not keep up is closed as slow, and comes back at once. */
static void pages_return(struct page *pages, int count, const struct server *s)
{
	for (int i = 0; i < count; i++)
		if (pages[i].st.c.eof) {
			page_close(&pages[i]);
			page_open(&pages[i], s);
		}
}

/* A log of many lines takes long to look through. */
static void log_clear(const struct server *s)
{
	cr_assert(truncate(s->log, 0) == 0);
}

/* ---- a publisher ---- */

/* What a publisher, a process of its own, and the test both know. */
struct ledger {
	volatile bool enough;     /* it may end */
	volatile uint32_t sent;   /* no number from here on was sent */
	struct id acked[NUMBERS]; /* what the acks said, as they came */
	char error[256];          /* what it found wrong */
};

static struct ledger *ledger_new(void)
{
	struct ledger *l = mmap(NULL, sizeof *l, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert(l != MAP_FAILED);
	return l;
}

/* Sends numbers as fast as the kernel lets it, until it is enough. */
static pid_t stream_of_numbers(const struct server *s, struct ledger *l)
{
	pid_t pid = fork();
	struct text t = {NULL, 0, 0};
	int fd;

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	for (uint32_t last = NUMBERS; l->sent <= last;) {
		text_clear(&t);
		number_say(&t, l->sent);
		if (!datagram_send(s, fd, t.p, t.n))
			_exit(1);
		l->sent++;
		if (last == NUMBERS && (l->enough || l->sent > NUMBERS - 100))
			last = number_for_all(l->sent);
	}
	_exit(0);
}

Test(replay, S18_pages_that_come_while_events_stream_in_get_each_once_and_then_live_ones)
{
	enum { PAGES = 50, BEFORE = 3000 };
	static struct page pages[PAGES];
	static const char *const tokens[] = {ANNA, BORIS, DAVE};
	static struct id ids[NUMBERS];
	struct server s = server_start("--streams-per-user", "100", NULL);
	struct page first = {.token = ANNA, .got = ids};
	struct ledger *l = ledger_new();
	uint32_t opened_at, next;
	int status = -1;
	pid_t pid;

	page_open(&first, &s);
	for (; l->sent < BEFORE; l->sent += 100) { /* as fast as it reads */
		publish_numbers(&s, l->sent, l->sent + 100);
		pages_read(&first, 1, l->sent + 99);
	}
	page_close(&first);
	pid = stream_of_numbers(&s, l);
	for (int i = 0; i < PAGES; i++) {
		uint32_t from = (uint32_t)(i * BEFORE / PAGES);

		pages[i] = (struct page){.token = tokens[i % 3], .http10 = i % 2 != 0, .in_query = i % 5 == 0, .next = from + 1,
			.last = ids[from]};
		page_open(&pages[i], &s);
		pages_turn(pages, i + 1, NUMBERS, 0);
		pages_return(pages, i + 1, &s);
	}
	for (opened_at = l->sent; waitpid(pid, &status, WNOHANG) == 0; l->enough = l->sent > opened_at + 5000) {
		pages_turn(pages, PAGES, NUMBERS, 10);
		pages_return(pages, PAGES, &s);
	}
	cr_assert(status == 0);
	next = publish_for_all(&s, l->sent);
	while (pages_turn(pages, PAGES, next - 1, LIMIT_MS) > 0)
		pages_return(pages, PAGES, &s);
	for (int i = 0; i < PAGES; i++) {
		cr_assert(pages[i].next == next);
		page_close(&pages[i]);
	}
	log_clear(&s);
	server_stop(&s);
}

Test(replay, S14_who_was_closed_as_slow_comes_back_and_gets_what_it_missed)
{
	struct server s = server_start("--send-buffer", "4096", "--queue", "5", NULL);
	struct page pages[] = {{.token = BORIS}, {.token = ANNA, .rcvbuf = 2048},
		{.token = DAVE, .rcvbuf = 2048, .http10 = true}};
	uint32_t next;

	for (int i = 0; i < 3; i++)
		page_open(&pages[i], &s);
	next = publish_for_all(&s, 0);
	for (int times = 1; times <= 3; times++) {
		pages_read(pages, 3, next - 1); /* from here on two of them read nothing */
		for (uint32_t most = next + 2000; log_count(&s, "reason=slow") < 2 * times; pages_turn(pages, 1, NUMBERS, 0)) {
			cr_assert(next < most, "the server keeps on for clients that read nothing");
			next = publish_for_all(&s, next);
		}
		for (int i = 1; i < 3; i++) { /* what had left for it before, it may take: that tells where it goes on */
			pages_read(&pages[i], 1, NUMBERS);
			cr_assert(pages[i].next < next, "it has missed nothing");
			page_close(&pages[i]);
			page_open(&pages[i], &s);
		}
	}
	next = publish_for_all(&s, next);
	pages_read(pages, 3, next - 1);
	for (int i = 0; i < 3; i++) {
		cr_assert(pages[i].next == next);
		page_close(&pages[i]);
	}
	cr_assert(log_count(&s, " resume=replay ") == 6);
	server_stop(&s);
}

Test(replay, S19_a_slow_reader_gets_ten_thousand_events_while_others_get_theirs_at_once)
{
	enum { BEFORE = 10000 };
	static struct id ids[NUMBERS];
	struct server s = server_start("--send-buffer", "8192", NULL);
	struct page live = {.token = ANNA, .got = ids}, slow = {.token = ANNA, .rcvbuf = 8192, .next = 1};
	uint32_t number = 0;
	int steps = 0;

	page_open(&live, &s);
	for (; number < BEFORE; number += 100) {
		publish_numbers(&s, number, number + 100);
		pages_read(&live, 1, number + 99);
	}
	slow.last = ids[0];
	page_open(&slow, &s);
	for (; slow.next < BEFORE; steps++) {
		pages_turn(&slow, 1, NUMBERS, LIMIT_MS); /* one piece */
		publish_numbers(&s, number, number + 3);
		number += 3;
		pages_read(&live, 1, number - 1); /* which does not wait for the other */
	}
	cr_assert(steps >= 50, "it came in %d pieces", steps);
	pages_read(&slow, 1, number - 1);
	cr_assert(slow.next == number && live.next == number);
	page_close(&slow);
	page_close(&live);
	server_stop(&s);
}

/* ============================================================================================
 * the journal
 * ============================================================================================ */

/* A directory for --journal. It outlives its servers. */
struct folder {
	char path[40];
};

static struct folder folder_new(void)
{
	struct folder f = {"/tmp/sse-journal.XXXXXX"};

	cr_assert(mkdtemp(f.path) != NULL);
	return f;
}

static void folder_remove(struct folder *f)
{
	DIR *dir = opendir(f->path);
	struct dirent *file;

	while (dir != NULL && (file = readdir(dir)) != NULL)
		if (strcmp(file->d_name, ".") != 0 && strcmp(file->d_name, "..") != 0 && unlinkat(dirfd(dir), file->d_name, 0) < 0)
			unlinkat(dirfd(dir), file->d_name, AT_REMOVEDIR);
	if (dir != NULL)
		closedir(dir);
	cr_assert(rmdir(f->path) == 0, "%s: %s", f->path, strerror(errno));
}

/* What all of its files are, names and bytes. The caller frees it. */
static struct text folder_text(const struct folder *f)
{
	struct text all = {NULL, 0, 0};
	struct dirent **files;
	int count = scandir(f->path, &files, NULL, alphasort);
	char path[400];

	cr_assert(count >= 0);
	for (int i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/%s", f->path, files[i]->d_name);
		text_say(&all, files[i]->d_name);
		if (files[i]->d_name[0] != '.')
			text_add(&all, file_text(path)->p, file_text(path)->n);
		free(files[i]);
	}
	free(files);
	return all;
}

/* ---- what ends at any moment ---- */

static const char *const sync_modes[] = {"none", "batch", "always"};

/* The same random numbers in each run. When the kernel lets whom run is another matter. */
static uint32_t random_below(uint32_t n)
{
	static uint64_t state = 0x9e3779b97f4a7c15;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 32) % n;
}

/* How a publisher ends the server: not at all if datagrams is 0. */
struct plan {
	uint32_t datagrams; /* this one is the last, ... */
	bool acked;         /* ... when its ack has come, else when it has just been sent ... */
	uint32_t spin;      /* ... and a moment later */
};

/* Takes the acks to a datagram, for the numbers from `first` on. Returns the number behind them. Those that are not stored,
 * because the disk took over a second (msg=journal_slow), promise nothing. */
static uint32_t acks_take(struct ledger *l, uint32_t first, const char *acks)
{
	struct id id;
	int bytes = 0;

	for (; *acks != '\0'; first++, acks += bytes) {
		bytes = 0;
		if (sscanf(acks, "{\"ok\":true,\"id\":\"%lld-%lld\",\"matched\":%*d,\"stored\":false}%n", &id.ms, &id.n, &bytes) == 2
			&& bytes > 0)
			id = (struct id){0, 0};
		else if (sscanf(acks, "{\"ok\":true,\"id\":\"%lld-%lld\",\"matched\":%*d}%n", &id.ms, &id.n, &bytes) != 2 || bytes == 0)
			snprintf(l->error, sizeof l->error, "ack to %u: %.200s", first, acks);
		if (l->error[0] != '\0')
			return first;
		l->acked[first] = id;
		bytes += acks[bytes] == '\n';
	}
	return first;
}

/*
 * Publishes numbers, some a datagram, some datagrams ahead of their acks, as fast as these come, until the
 * server is gone. Then it waits for a datagram "end": when that has come, so have all acks.
 */
static _Noreturn void publish_until_the_end(const struct server *s, struct ledger *l, int fd, struct plan plan)
{
	struct text t = {NULL, 0, 0};
	uint32_t answered = l->sent, acks = 0, sent = 0;
	bool gone = false;
	char ack[8192];

	for (;;) {
		bool now = false;
		ssize_t n;

		while (!gone && !now && sent - acks < 4 && l->sent < NUMBERS - 100) {
			text_clear(&t);
			for (uint32_t lines = 1 + random_below(8); lines > 0; lines--)
				number_say(&t, l->sent++);
			gone = !datagram_send(s, fd, t.p, t.n);
			now = ++sent == plan.datagrams && !plan.acked;
		}
		if (!now) {
			n = recv(fd, ack, sizeof ack - 1, 0);
			ack[n > 0 ? n : 0] = '\0';
			if (n <= 0 || strcmp(ack, "end") == 0)
				_exit(n <= 0);
			answered = acks_take(l, answered, ack);
			now = ++acks == plan.datagrams && plan.acked;
		}
		for (volatile uint32_t i = 0; now && i < plan.spin; i++)
			;
		if (now)
			kill(s->pid, SIGKILL);
	}
}

enum { READERS = 5 };

/* A server that ends again and again, and what is known of its events. */
static struct saga {
	struct server s;
	struct folder journal;
	struct ledger *l;
	int sender;                /* of the publisher */
	struct page readers[READERS];
	uint32_t checked[READERS]; /* numbers before this one were looked at */
	struct id got[READERS][NUMBERS];
	struct page witness;       /* what it gets from the history, there is */
	struct id seen[NUMBERS];
	struct id there[NUMBERS];  /* what there is, ... */
	uint32_t settled;          /* ... up to this number */
} saga;

static void saga_begin(void)
{
	static const char *const tokens[READERS] = {ANNA, BORIS, DAVE, ANNA2, BORIS};
	const struct sockaddr_un nobody = {.sun_family = AF_UNIX};

	saga.s = server_new();
	saga.journal = folder_new();
	saga.l = ledger_new();
	saga.sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	cr_assert(bind(saga.sender, (const struct sockaddr *)&nobody, sizeof(sa_family_t)) == 0);
	for (int i = 0; i < READERS; i++)
		saga.readers[i] = (struct page){.token = tokens[i], .http10 = i % 2 != 0, .in_query = i == 2, .lossy = true,
			.got = saga.got[i]};
}

/* Starts it; a segment is 64 kB, the history some thousand events. */
static void saga_launch(const char *sync)
{
	unlink(saga.s.log);
	server_launch(&saga.s, "--journal", saga.journal.path, "--journal-sync", sync, "--history-bytes", "1M",
		"--queue", "180", "--datagram", "4K", "--drain", "1s", NULL);
}

static void saga_ready(const char *sync)
{
	saga_launch(sync);
	server_ready(&saga.s, 1);
}

/* Publishes numbers up to one for everybody, and sees them acknowledged. Returns that one. */
static uint32_t saga_mark(void)
{
	struct text t = {NULL, 0, 0};
	uint32_t from;

	do {
		from = saga.l->sent++;
		text_clear(&t);
		number_say(&t, from);
		acks_take(saga.l, from, publish(&saga.s, t.p));
		cr_assert(saga.l->acked[from].ms != 0 && saga.l->error[0] == '\0', "%s", saga.l->error);
	} while (audience(from) != 0);
	text_free(&t);
	return from;
}

/* One of the last numbers that there are, from before the last `most` at the earliest. */
static uint32_t saga_past(uint32_t most)
{
	uint32_t number = saga.settled - random_below(saga.settled < most ? saga.settled + 1 : most);

	while (saga.there[number].ms == 0)
		number--;
	return number;
}

/* Reads the history from a number on, up to and with `to`, into saga.seen. */
static void saga_witness(const char *token, bool http10, uint32_t from, uint32_t to)
{
	struct page *w = &saga.witness;

	memset(saga.seen, 0, sizeof saga.seen);
	*w = (struct page){.token = token, .http10 = http10, .lossy = true, .next = from + 1, .last = saga.there[from],
		.got = saga.seen};
	page_open(w, &saga.s);
	pages_read(w, 1, to);
	cr_assert(w->next == to + 1, "the stream ends with %u", w->next);
	page_close(w);
}

/* What a page got is what there is for it: nothing is missing, and nothing was told that is not there. */
static void saga_agrees(const char *token, const struct id *got, uint32_t from, uint32_t to)
{
	for (; from < to; from++) {
		struct id there = saga.there[from];

		if (there.ms == 0 || !sees(token, from))
			there = (struct id){0, 0};
		cr_assert(id_same(got[from], there), "%s, number %u: got %lld-%lld, there is %lld-%lld", token, from,
			got[from].ms, got[from].n, there.ms, there.n);
	}
}

/* After a start: every event that was acknowledged is there, and what was once there, or not there, stays so. */
static void saga_settle(void)
{
	uint32_t mark = saga_mark(), from;

	if (mark == 0) { /* the very first */
		saga.there[0] = saga.l->acked[0];
		return;
	}
	from = saga_past(500);
	saga_witness(ANNA, false, from, mark);
	for (uint32_t i = from + 1; i <= mark; i++) {
		struct id acked = saga.l->acked[i], seen = saga.seen[i];

		cr_assert(acked.ms == 0 || id_same(acked, seen), "%u was acknowledged as %lld-%lld, and is %lld-%lld", i,
			acked.ms, acked.n, seen.ms, seen.n);
		cr_assert(i > saga.settled || id_same(seen, saga.there[i]), "%u is not what it was", i);
		saga.there[i] = seen;
	}
	saga.settled = mark;
	for (int i = 0; i < READERS; i++) {
		saga_agrees(saga.readers[i].token, saga.got[i], saga.checked[i], saga.readers[i].next);
		saga.checked[i] = saga.readers[i].next;
	}
	from = saga_past(2500);
	saga_witness(mark % 2 == 0 ? BORIS : DAVE, true, from, mark);
	saga_agrees(saga.witness.token, saga.seen, from + 1, mark + 1);
}

static void saga_readers_open(void)
{
	for (int i = 0; i < READERS; i++) {
		if (saga.readers[i].last.ms == 0) /* what was before its first visit, it does not get */
			saga.checked[i] = saga.readers[i].next = saga.l->sent;
		page_open(&saga.readers[i], &saga.s);
	}
}

static void saga_readers_close(void)
{
	for (int i = 0; i < READERS; i++)
		page_close(&saga.readers[i]);
}

static pid_t saga_publisher(struct plan plan)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (int i = 0; i < READERS; i++)
			close(saga.readers[i].st.c.fd); /* else they would not be closed when the test does that */
		publish_until_the_end(&saga.s, saga.l, saga.sender, plan);
	}
	return pid;
}

/* The server is gone: the publisher takes the last acks, and ends. */
static void saga_publisher_ends(pid_t pid)
{
	struct sockaddr_un name;
	socklen_t bytes = sizeof name;
	int status;

	cr_assert(getsockname(saga.sender, (struct sockaddr *)&name, &bytes) == 0);
	cr_assert(sendto(saga.s.django, "end", 3, 0, (struct sockaddr *)&name, bytes) == 3, "%s", strerror(errno));
	cr_assert(waitpid(pid, &status, 0) == pid && status == 0);
	cr_assert(saga.l->error[0] == '\0', "%s", saga.l->error);
}

/* Nothing that happened here is a damage, or a fault of the disk. */
static void saga_log_is_silent(void)
{
	cr_assert(log_count(&saga.s, "level=error") == 0, "%s", file_text(saga.s.log)->p);
	cr_assert(log_count(&saga.s, "level=warning") == log_count(&saga.s, "msg=journal_slow"), "%s", file_text(saga.s.log)->p);
	cr_assert(file_text(saga.s.errors)->n == 0, "%s", file_text(saga.s.errors)->p);
}

/* All readers get all there is. */
static void saga_end(void)
{
	saga_settle();
	saga_readers_open();
	pages_read(saga.readers, READERS, saga.settled);
	for (int i = 0; i < READERS; i++) {
		cr_assert(saga.readers[i].next == saga.settled + 1);
		saga_agrees(saga.readers[i].token, saga.got[i], saga.checked[i], saga.settled + 1);
	}
	saga_readers_close();
	stats_wait(&saga.s, STATS_EMPTY);
	saga_log_is_silent();
}

static void saga_stop(void)
{
	log_clear(&saga.s);
	server_stop(&saga.s);
	folder_remove(&saga.journal);
	close(saga.sender);
}

Test(journal, R17_kill_9_a_hundred_times_loses_nothing_that_was_acknowledged)
{
	char first[128];

	saga_begin();
	saga_ready("none");
	for (int round = 0; round < 100; round++) {
		const char *sync = sync_modes[random_below(3)];
		pid_t pid;

		if (round % 2 == 0)
			saga_readers_open(); /* they are there before the last events are known to be */
		saga_settle();
		if (round % 2 != 0)
			saga_readers_open();
		pid = saga_publisher((struct plan){1 + random_below(250), random_below(2) == 0, random_below(20000)});
		pages_read(saga.readers, READERS, NUMBERS);
		cr_assert(server_wait(&saga.s) == -SIGKILL, "%s", file_text(saga.s.errors)->p);
		saga_publisher_ends(pid);
		saga_readers_close();
		saga_log_is_silent();
		if (random_below(4) == 0) { /* it is killed while it starts, too */
			saga_launch(sync);
			poll(NULL, 0, (int)random_below(60));
			kill(saga.s.pid, SIGKILL);
			cr_assert(server_wait(&saga.s) == -SIGKILL, "%s", file_text(saga.s.errors)->p);
		}
		saga_ready(sync);
	}
	saga_end();
	snprintf(first, sizeof first, "Last-Event-ID: %lld-%lld\r\n", saga.there[0].ms, saga.there[0].n);
	expect_resync(&saga.s, "", first, "too_old");
	saga_stop();
}

/* The last number for this token that was acknowledged. */
static uint32_t saga_answered(const char *token)
{
	uint32_t number = saga.l->sent - 1;

	while (saga.l->acked[number].ms == 0 || !sees(token, number))
		number--;
	return number;
}

Test(journal, R15_TERM_while_events_stream_in_loses_nothing_and_the_next_start_is_silent)
{
	saga_begin();
	for (int round = 0; round < 10; round++) {
		uint32_t until;
		int cut = 0;
		pid_t pid;

		saga_ready(round % 3 == 0 ? "batch" : "always");
		saga_settle();
		saga_log_is_silent();
		saga_readers_open();
		pid = saga_publisher((struct plan){0});
		until = saga.l->sent + random_below(1000);
		while (saga.readers[0].next < until && pages_turn(saga.readers, READERS, NUMBERS, LIMIT_MS) > 0)
			;
		kill(saga.s.pid, SIGTERM);
		pages_read(saga.readers, READERS, NUMBERS);
		cr_assert(server_wait(&saga.s) == 0, "%s", file_text(saga.s.errors)->p);
		saga_publisher_ends(pid);
		for (int i = 0; i < READERS; i++) {
			bool ended = saga.readers[i].st.ended;

			cr_assert(!ended || saga.readers[i].next > saga_answered(saga.readers[i].token),
				"it got what was acknowledged before the end");
			cut += !ended;
		}
		cr_assert(cut == log_count(&saga.s, "reason=slow"), "%d streams were cut off", cut);
		saga_readers_close();
	}
	saga_ready("none");
	saga_end();
	saga_stop();
}

/* ---- another boot, a full disk: what takes a mount ---- */

/* A file system tree of its own for this test and its servers; false where that is not permitted. */
static bool own_mounts(void)
{
	return unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* The machine seems to have been started anew. */
static void another_boot(const struct server *s, int times)
{
	char path[80], id[40];

	snprintf(path, sizeof path, "%s/boot_id", s->dir);
	snprintf(id, sizeof id, "%08d-0000-4000-8000-000000000000\n", times);
	file_write(path, id);
	if (times == 1)
		cr_assert(mount(path, "/proc/sys/kernel/random/boot_id", NULL, MS_BIND, NULL) == 0, "%s", strerror(errno));
}

Test(journal, after_a_failure_of_power_pages_reload_unless_it_had_ended_or_every_event_was_synced)
{
	static const struct {
		const char *sync;
		int signal;
		bool cut;
	} rows[] = {
		{"none", SIGKILL, true},
		{"batch", SIGKILL, true},
		{"always", SIGKILL, false},
		{"none", SIGTERM, false},
		{"batch", SIGTERM, false},
		{"always", SIGTERM, false},
	};
	struct server s;
	int boots = 0;

	if (!own_mounts())
		cr_skip_test("no mount is permitted here");
	s = server_new();
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct folder f = folder_new();
		struct page page = {.token = ANNA};
		char header[128];

		another_boot(&s, ++boots);
		unlink(s.log);
		server_launch(&s, "--journal", f.path, "--journal-sync", rows[i].sync, NULL);
		server_ready(&s, 1);
		page_open(&page, &s);
		publish_numbers(&s, 0, 10);
		pages_read(&page, 1, 2);
		page_close(&page);
		kill(s.pid, rows[i].signal);
		server_wait(&s);
		another_boot(&s, ++boots);
		unlink(s.log);
		server_launch(&s, "--journal", f.path, "--journal-sync", rows[i].sync, NULL);
		server_ready(&s, 1);
		cr_expect(log_count(&s, "msg=journal_cut ") == rows[i].cut, "%s, %d", rows[i].sync, rows[i].signal);
		snprintf(header, sizeof header, "Last-Event-ID: %lld-%lld\r\n", page.last.ms, page.last.n);
		if (rows[i].cut) {
			expect_resync(&s, "", header, "too_old");
		} else {
			page_open(&page, &s);
			pages_read(&page, 1, 9);
			page_close(&page);
		}
		kill(s.pid, SIGTERM);
		server_wait(&s);
		folder_remove(&f);
	}
	server_remove(&s);
}

/* Publishes the next number; is it stored? */
static bool publish_stored(const struct server *s, uint32_t number)
{
	struct text t = {NULL, 0, 0};
	const char *ack;

	number_say(&t, number);
	ack = publish_bytes(s, t.p, t.n);
	text_free(&t);
	cr_assert(strncmp(ack, "{\"ok\":true,\"id\":\"", 17) == 0 && strstr(ack, "\"matched\":") != NULL, "%s", ack);
	return strstr(ack, ",\"stored\":false}") == NULL;
}

/*
 * Publishes until the disk takes no more, and then some: a page gets all of it. *stored is the first number that
 * is not stored. Returns the next one.
 */
static uint32_t publish_until_full(const struct server *s, struct page *live, uint32_t number, uint32_t *stored)
{
	for (uint32_t most = number + 10000; publish_stored(s, number); number++) {
		cr_assert(number < most, "the disk is never full");
		pages_read(live, 1, number);
	}
	*stored = number++;
	for (int i = 0; i < 300; i++, number++)
		cr_assert(!publish_stored(s, number));
	pages_read(live, 1, number - 1);
	cr_assert(log_count(s, "level=error") == 1 && log_count(s, "level=error msg=journal_failed what=") == 1, "%s",
		file_text(s->log)->p);
	return number;
}

/* There is room again. What was not stored is, once the server has found that out; a page that comes back gets
 * it all. */
static void disk_heals(struct server *s, struct page *live, const struct folder *f, const char *sync, uint32_t number,
	struct id first)
{
	struct page back = {.token = ANNA, .last = first, .next = 1};

	log_wait(s, "level=warning msg=journal_mended ");
	cr_assert(publish_stored(s, number));
	pages_read(live, 1, number);
	page_close(live);
	kill(s->pid, SIGKILL);
	cr_assert(server_wait(s) == -SIGKILL);
	server_launch(s, "--journal", f->path, "--journal-sync", sync, NULL);
	server_ready(s, 2);
	page_open(&back, s);
	pages_read(&back, 1, number);
	page_close(&back);
	cr_assert(log_count(s, "msg=journal_failed") == 1 && log_count(s, "msg=journal_damaged") == 0
		&& log_count(s, "msg=journal_cut") == 0, "%s", file_text(s->log)->p);
}

/* No file of the server's may grow beyond this. */
static void limit_files(const struct server *s, rlim_t bytes)
{
	struct rlimit r;

	cr_assert(prlimit(s->pid, RLIMIT_FSIZE, NULL, &r) == 0);
	r.rlim_cur = bytes;
	cr_assert(prlimit(s->pid, RLIMIT_FSIZE, &r, NULL) == 0, "%s", strerror(errno));
}

Test(journal, what_the_disk_does_not_take_flows_live_and_is_stored_when_it_heals)
{
	for (int i = 0; i < 3; i++) {
		static struct id ids[NUMBERS];
		struct server s = server_new();
		struct folder f = folder_new();
		struct page live = {.token = ANNA, .got = ids};
		uint32_t number, stored;

		server_launch(&s, "--journal", f.path, "--journal-sync", sync_modes[i], NULL);
		server_ready(&s, 1);
		page_open(&live, &s);
		number = i == 1 ? 0 : 600; /* a write ends at the limit, or begins behind it */
		publish_numbers(&s, 0, number);
		limit_files(&s, 100000);
		number = publish_until_full(&s, &live, number, &stored);
		cr_assert(i == 1 ? stored > 300 : stored == 600, "%u were stored", stored);
		limit_files(&s, RLIM_INFINITY);
		disk_heals(&s, &live, &f, sync_modes[i], number, ids[0]);
		server_stop(&s);
		folder_remove(&f);
	}
}

Test(journal, what_is_not_stored_yet_is_at_the_end)
{
	static struct id ids[NUMBERS];
	struct server s = server_new();
	struct folder f = folder_new();
	struct page live = {.token = ANNA, .got = ids}, back = {.token = ANNA, .next = 1};
	uint32_t stored, next;

	server_launch(&s, "--journal", f.path, NULL);
	server_ready(&s, 1);
	limit_files(&s, 100000);
	page_open(&live, &s);
	next = publish_until_full(&s, &live, 0, &stored);
	page_close(&live);
	limit_files(&s, RLIM_INFINITY);
	kill(s.pid, SIGTERM); /* sooner than it would try again */
	cr_assert(server_wait(&s) == 0, "%s", file_text(s.errors)->p);
	server_launch(&s, "--journal", f.path, NULL);
	server_ready(&s, 2);
	back.last = ids[0];
	page_open(&back, &s);
	next = publish_for_all(&s, next);
	pages_read(&back, 1, next - 1);
	page_close(&back);
	server_stop(&s);
	folder_remove(&f);
}

Test(journal, who_saw_what_was_never_stored_is_told_to_reload)
{
	static struct id ids[NUMBERS], again[NUMBERS];
	struct server s = server_new();
	struct folder f = folder_new();
	struct page live = {.token = ANNA, .got = ids}, back = {.token = ANNA, .next = 1, .got = again};
	uint32_t stored;
	char header[128];

	server_launch(&s, "--journal", f.path, NULL);
	server_ready(&s, 1);
	limit_files(&s, 150000);
	page_open(&live, &s);
	publish_until_full(&s, &live, 0, &stored);
	page_close(&live);
	kill(s.pid, SIGKILL);
	cr_assert(server_wait(&s) == -SIGKILL);
	server_launch(&s, "--journal", f.path, NULL);
	server_ready(&s, 2);
	snprintf(header, sizeof header, "Last-Event-ID: %lld-%lld\r\n", live.last.ms, live.last.n);
	expect_resync(&s, "", header, "too_old");
	/* who has not seen any of them can't know that there were some */
	snprintf(header, sizeof header, "Last-Event-ID: %lld-%lld\r\n", ids[stored - 1].ms, ids[stored - 1].n);
	expect_resync(&s, "", header, "too_old");
	page_open(&back, &s);
	cr_assert(id_before(live.last, back.last), "ids rise over those that are lost, too");
	page_close(&back);
	server_stop(&s);
	folder_remove(&f);
}

Test(journal, R11_a_full_disk_is_found_to_have_room_again)
{
	static struct id ids[NUMBERS];
	struct server s;
	struct folder f;
	struct page live = {.token = ANNA, .got = ids};
	char filler[80];
	static const char zeros[4096];
	uint32_t number, stored;
	int fd, pages;

	if (!own_mounts())
		cr_skip_test("no mount is permitted here");
	s = server_new();
	f = folder_new();
	cr_assert(mount("none", f.path, "tmpfs", 0, "size=1m") == 0, "%s", strerror(errno));
	server_launch(&s, "--journal", f.path, "--journal-sync", "always", NULL);
	server_ready(&s, 1);
	page_open(&live, &s);
	snprintf(filler, sizeof filler, "%s/filler", f.path);
	fd = open(filler, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	for (pages = 0; pages < 200; pages++)
		cr_assert(write(fd, zeros, sizeof zeros) == sizeof zeros);
	number = publish_until_full(&s, &live, 0, &stored);
	cr_assert(close(fd) == 0 && unlink(filler) == 0);
	disk_heals(&s, &live, &f, "always", number, ids[0]);
	server_stop(&s);
	cr_assert(umount2(f.path, MNT_DETACH) == 0);
	folder_remove(&f);
}

/* More at a time than is written in a turn of the loop. That is no failure, and the acks wait for it. */
Test(journal, a_burst_of_large_events_is_stored_before_its_acks)
{
	enum { BURST = 11, BYTES = 425000 }; /* as many, and as large, as a socket queues by default */
	const struct sockaddr_un nobody = {.sun_family = AF_UNIX};
	struct server s = server_new();
	struct folder f = folder_new();
	struct text t = big_event(BYTES - 64);
	int from[BURST], room = 212992; /* net.core.wmem_max, as it is by default; Linux takes twice that */

	server_launch(&s, "--journal", f.path, "--datagram", "420K", "--queue", "20", NULL);
	server_ready(&s, 1);
	kill(s.pid, SIGSTOP);
	for (int i = 0; i < BURST; i++) {
		from[i] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		cr_assert(bind(from[i], (const struct sockaddr *)&nobody, sizeof(sa_family_t)) == 0);
		setsockopt(from[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
		cr_assert(datagram_send(&s, from[i], t.p, t.n), "%d: %s", i, strerror(errno));
	}
	kill(s.pid, SIGCONT);
	for (int i = 0; i < BURST; i++) {
		const char *ack = datagram_receive(from[i]);

		cr_assert(strncmp(ack, "{\"ok\":true,", 11) == 0 && strstr(ack, "stored") == NULL, "%d: %s", i, ack);
		close(from[i]);
	}
	text_free(&t);
	server_stop(&s);
	folder_remove(&f);
}

/* ---- whose it is, and what is in it ---- */

Test(journal, two_servers_do_not_share_one)
{
	struct server first = server_new(), second = server_new();
	struct folder f = folder_new();
	struct page page = {.token = ANNA};

	server_launch(&first, "--journal", f.path, NULL);
	server_ready(&first, 1);
	page_open(&page, &first);
	publish_numbers(&first, 0, 20);
	for (int i = 0; i < 3; i++) {
		server_launch(&second, "--journal", f.path, NULL);
		server_fails(&second, 1, "another sse is using it");
		unlink(second.errors);
	}
	publish_numbers(&first, 20, 40);
	pages_read(&page, 1, 39);
	page_close(&page);
	kill(first.pid, SIGKILL);
	cr_assert(server_wait(&first) == -SIGKILL);
	server_launch(&second, "--journal", f.path, NULL);
	server_ready(&second, 1);
	publish_numbers(&second, 40, 50);
	page_open(&page, &second);
	pages_read(&page, 1, 49);
	page_close(&page);
	server_launch(&first, "--journal", f.path, NULL); /* and the other way round */
	server_fails(&first, 1, "another sse is using it");
	server_remove(&first);
	server_stop(&second);
	folder_remove(&f);
}

/* The head of a segment as version 2 would write it. Its check is right: SipHash-1-3 over the rest. */
static const char newer_head[40] = "SSE\r\n\x1a\n\0" "\2\0\0\0" "\0\0\0\0" "\0\0\0\0\0\0\0\0" "\0\0\0\0\0\0\0\0"
	"\x83\x12\x66\x1e\x19\x00\x0b\x86";

enum trouble { IS_MISSING, IS_A_FILE, HAS_A_NEWER, HAS_A_FOLDER, HAS_AN_UNREADABLE };

/* A directory where a segment is, and another one that this is the trouble with. */
static void make_trouble(enum trouble trouble, struct folder *f)
{
	char path[80];

	snprintf(path, sizeof path, "%s/000000000002.sse", f->path);
	switch (trouble) {
	case IS_MISSING:
		cr_assert(rmdir(f->path) == 0);
		break;
	case IS_A_FILE:
		cr_assert(rmdir(f->path) == 0);
		file_write(f->path, "precious");
		break;
	case HAS_A_NEWER: {
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		cr_assert(write(fd, newer_head, sizeof newer_head) == sizeof newer_head && write(fd, "and more", 8) == 8);
		close(fd);
		break;
	}
	case HAS_A_FOLDER:
		cr_assert(mkdir(path, 0700) == 0);
		break;
	case HAS_AN_UNREADABLE:
		file_write(path, "");
		cr_assert(chmod(path, 0) == 0);
		break;
	}
}

Test(journal, R26_what_cannot_start_with_it_says_why_in_one_line_and_leaves_it_as_it_is)
{
	static const struct {
		enum trouble trouble;
		bool check;
		int status;
		const char *error;
	} rows[] = {
		{IS_MISSING, false, 1, ": make the directory first: No such file or directory"},
		{IS_MISSING, true, 2, ": make the directory first: No such file or directory"},
		{IS_A_FILE, false, 1, ": cannot use it: Not a directory"},
		{IS_A_FILE, true, 2, ": cannot use it: Not a directory"},
		{HAS_A_NEWER, false, 1, "/000000000002.sse: written by a newer version of sse: start that one, or name another"
			" directory"},
		{HAS_A_FOLDER, false, 1, "/000000000002.sse: cannot read: Is a directory"},
		{HAS_AN_UNREADABLE, false, 1, "/000000000002.sse: cannot read: Permission denied"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct server s = server_new();
		struct folder f = folder_new();
		struct text before = {NULL, 0, 0}, after = {NULL, 0, 0};
		char error[200];

		if (rows[i].trouble == HAS_AN_UNREADABLE && geteuid() == 0) { /* who may read everything */
			folder_remove(&f);
			server_remove(&s);
			continue;
		}
		make_trouble(rows[i].trouble, &f);
		if (rows[i].trouble >= HAS_A_NEWER)
			before = folder_text(&f);
		server_launch(&s, "--journal", f.path, rows[i].check ? "--check-config" : NULL, NULL);
		snprintf(error, sizeof error, "--journal %s%s", f.path, rows[i].error);
		server_fails(&s, rows[i].status, error);
		cr_expect(access(s.socket, F_OK) < 0, "%s: it leaves its socket behind", error);
		if (rows[i].trouble >= HAS_A_NEWER) {
			after = folder_text(&f);
			cr_expect(before.n == after.n && memcmp(before.p, after.p, before.n) == 0, "%s: it has touched it", error);
			folder_remove(&f);
		} else if (rows[i].trouble == IS_A_FILE) {
			cr_expect_str_eq(file_text(f.path)->p, "precious");
			unlink(f.path);
		} else {
			cr_expect(access(f.path, F_OK) < 0);
		}
		text_free(&before);
		text_free(&after);
		server_remove(&s);
	}
}

Test(journal, check_config_may_be_asked_while_it_is_in_use)
{
	struct server s = server_new(), check = server_new();
	struct folder f = folder_new();

	server_launch(&s, "--journal", f.path, NULL);
	server_ready(&s, 1);
	publish_numbers(&s, 0, 10);
	server_launch(&check, "--journal", f.path, "--check-config", NULL);
	cr_assert(server_wait(&check) == 0);
	cr_assert_str_eq(file_text(check.errors)->p, "sse: the configuration is good\n");
	publish_numbers(&s, 10, 20);
	server_remove(&check);
	server_stop(&s);
	folder_remove(&f);
}

Test(journal, a_flipped_bit_costs_one_event_and_the_file_stays_as_it_is)
{
	static struct id ids[NUMBERS];
	struct server s = server_new();
	struct folder f = folder_new();
	struct page page = {.token = ANNA, .got = ids};
	struct text before = {NULL, 0, 0};
	char path[80], header[128];
	int fd;

	server_launch(&s, "--journal", f.path, NULL);
	server_ready(&s, 1);
	page_open(&page, &s);
	publish_numbers(&s, 0, 100);
	pages_read(&page, 1, 99);
	page_close(&page);
	kill(s.pid, SIGKILL);
	cr_assert(server_wait(&s) == -SIGKILL);
	snprintf(path, sizeof path, "%s/000000000001.sse", f.path);
	text_add(&before, file_text(path)->p, file_text(path)->n);
	before.p[before.n / 2] ^= 0x10;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	cr_assert(pwrite(fd, before.p, before.n, 0) == (ssize_t)before.n && close(fd) == 0);
	server_launch(&s, "--journal", f.path, NULL);
	server_ready(&s, 2);
	log_wait(&s, "level=warning msg=journal_damaged segment=1 at=");
	cr_assert(log_count(&s, "msg=journal_damaged") == 1);
	log_wait(&s, " events=99 newest=");
	publish_numbers(&s, 100, 120);
	page = (struct page){.token = ANNA, .last = ids[80], .next = 81}; /* from behind the damage all is there */
	page_open(&page, &s);
	pages_read(&page, 1, 119);
	page_close(&page);
	stats_wait(&s, STATS_EMPTY);
	snprintf(header, sizeof header, "Last-Event-ID: %lld-%lld\r\n", ids[20].ms, ids[20].n);
	expect_resync(&s, "", header, "too_old");
	cr_assert(file_text(path)->n >= before.n && memcmp(file_text(path)->p, before.p, before.n) == 0);
	text_free(&before);
	server_stop(&s);
	folder_remove(&f);
}

/* ---- what it costs ---- */

static int server_threads(const struct server *s)
{
	char path[64];
	struct dirent **tasks;
	int count;

	snprintf(path, sizeof path, "/proc/%d/task", (int)s->pid);
	count = scandir(path, &tasks, NULL, NULL);
	cr_assert(count > 2);
	for (int i = 0; i < count; i++)
		free(tasks[i]);
	free(tasks);
	return count - 2;
}

/* The thread that waits for the disk. */
static pid_t server_syncer(const struct server *s)
{
	char path[64];
	struct dirent **tasks;
	int count;
	pid_t found = 0;

	snprintf(path, sizeof path, "/proc/%d/task", (int)s->pid);
	count = scandir(path, &tasks, NULL, NULL);
	for (int i = 0; i < count; i++) {
		pid_t task = (pid_t)atoi(tasks[i]->d_name);

		found = task > 0 && task != s->pid ? task : found;
		free(tasks[i]);
	}
	free(tasks);
	return found;
}

/* A debugger holds the thread, so the disk never answers. */
Test(journal, a_disk_that_hangs_does_not_keep_the_program_when_it_is_to_end)
{
	struct server s = server_new();
	struct folder f = folder_new();
	struct client c;
	pid_t syncer;

	setenv("ASAN_OPTIONS", "detect_leaks=0:abort_on_error=1", 1); /* that, too, wants to hold all threads */
	server_launch(&s, "--journal", f.path, "--journal-sync", "always", NULL);
	server_ready(&s, 1);
	syncer = server_syncer(&s);
	if (ptrace(PTRACE_SEIZE, syncer, NULL, NULL) < 0) {
		server_stop(&s);
		folder_remove(&f);
		cr_skip_test("no thread may be held here: %s", strerror(errno));
	}
	cr_assert(ptrace(PTRACE_INTERRUPT, syncer, NULL, NULL) == 0);
	cr_assert(waitpid(syncer, NULL, __WALL) == syncer);
	publish_unbound(&s, EVENT("a", "1", ALL));
	c = ask(&s, GET_STATS); /* the loop goes on; and in the turn that answers this, if not before, the disk is asked */
	cr_assert(c.status == 200);
	client_close(&c);
	kill(s.pid, SIGTERM);
	log_wait(&s, "level=error msg=journal_hung then=\"the disk does not answer: it ends without it\"");
	if (ptrace(PTRACE_DETACH, syncer, NULL, NULL) < 0)
		waitpid(syncer, NULL, __WALL);
	server_ended(&s);
	s = server_new();
	server_launch(&s, "--journal", f.path, NULL);
	server_ready(&s, 1);
	log_wait(&s, " events=1 newest=");
	server_stop(&s);
	folder_remove(&f);
}

/* stdin, stdout, stderr; the log; epoll, signals; both sockets, and one for answers; one to spare. */
enum { DESCRIPTORS = 10 };

Test(journal, a_thread_and_descriptors_are_there_only_for_who_needs_them)
{
	static const struct {
		const char *sync;
		int threads, descriptors;
	} rows[] = {
		{NULL, 1, 0},
		{"none", 1, 2},   /* the directory and a segment */
		{"batch", 2, 4},  /* and a pair of sockets, between the loop and who waits for the disk */
		{"always", 2, 4},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct server s = server_new();
		struct folder f = folder_new();

		if (rows[i].sync == NULL)
			server_launch(&s, NULL);
		else
			server_launch(&s, "--journal", f.path, "--journal-sync", rows[i].sync, NULL);
		server_ready(&s, 1);
		publish_numbers(&s, 0, 100);
		cr_expect(server_threads(&s) == rows[i].threads, "%s: %d threads", rows[i].sync, server_threads(&s));
		cr_expect(server_descriptors(&s) == DESCRIPTORS + rows[i].descriptors, "%s: %d descriptors", rows[i].sync,
			server_descriptors(&s));
		server_stop(&s);
		folder_remove(&f);
	}
}

/* ============================================================================================
 * the log
 * ============================================================================================ */

Test(logs, every_thing_that_happens_is_a_line)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	struct client c = ask(&s, TARGET(EVENTS "?token=nobody"));

	client_close(&c);
	published(&s, EVENT("a.b", "1", ALL), 1);
	stream_expect(&st, "a.b", "1");
	publish(&s, "{");
	stream_close(&st);
	log_wait(&s, " app=SSE level=info msg=listening address=127.0.0.1:");
	log_wait(&s, " app=SSE level=info msg=listening socket=");
	log_wait(&s, " app=SSE level=info msg=ready max_connections=");
	log_wait(&s, " app=SSE level=info msg=connect conn=1 user=7 streams=1 auth=file from=127.0.0.1:");
	log_wait(&s, " app=SSE level=info msg=refused conn=2 status=401 reason=unknown_token from=127.0.0.1:");
	log_wait(&s, " app=SSE level=info msg=event name=a.b id=");
	log_wait(&s, " matched=1\n");
	log_wait(&s, " app=SSE level=warning msg=bad_datagram error=\"expected a string\" at=1\n");
	log_wait(&s, " app=SSE level=info msg=disconnect conn=1 user=7 reason=gone seconds=0.");
	server_stop(&s);
}

Test(logs, the_level_leaves_lines_out)
{
	struct server s = server_new();
	struct text *log;

	server_launch(&s, "--log-level", "warning", NULL);
	server_answers(&s);
	publish(&s, EVENT("a", "1", ALL));
	publish(&s, "{");
	log_wait(&s, "msg=bad_datagram");
	log = file_text(s.log);
	cr_assert(!text_has(log, "msg=event") && !text_has(log, "msg=ready"));
	server_stop(&s);
}

/* Its line is whole, or not there. */
Test(logs, R27_max_connections_beyond_the_file_limit_is_lowered_and_said)
{
	static const char *const levels[] = {"info", "error"};

	for (int i = 0; i < 2; i++) {
		struct server s = server_new();

		s.nofile = 200;
		server_launch(&s, "--max-connections", "5000", "--log-level", levels[i], NULL);
		server_answers(&s);
		if (i == 0)
			log_wait(&s, "level=warning msg=max_connections_lowered");
		server_stop(&s);
	}
}

Test(logs, R27_a_soft_file_limit_is_raised_to_the_hard_one)
{
	struct rlimit old, low;
	struct server s;
	char path[64];

	cr_assert(getrlimit(RLIMIT_NOFILE, &old) == 0);
	low = (struct rlimit){.rlim_cur = 100, .rlim_max = 400};
	cr_assert(setrlimit(RLIMIT_NOFILE, &low) == 0, "%s", strerror(errno));
	s = server_start("--max-connections", "200", NULL);
	snprintf(path, sizeof path, "/proc/%d/limits", (int)s.pid);
	cr_assert(strstr(file_text(path)->p, "Max open files            264 ") != NULL
		|| strstr(file_text(path)->p, "Max open files            400 ") != NULL, "%s", file_text(path)->p);
	log_wait(&s, "msg=ready max_connections=200");
	cr_assert(log_count(&s, "max_connections_lowered") == 0);
	server_stop(&s);
}

#define CANARY "CANARY7f3a9"
#define CANARY_TOKEN CANARY "-token"

static const char *const canary_requests[] = {
	GET_EVENTS(CANARY_TOKEN),
	TARGET(EVENTS "?token=" CANARY "-unknown"),
	TARGET(EVENTS "?token=" CANARY_TOKEN "&token=" CANARY_TOKEN),
	TARGET(EVENTS "?token=" CANARY_TOKEN "%zz"),
	TARGET(EVENTS "?token=" CANARY_TOKEN "&lastEventId=" CANARY),
	TARGET("/" CANARY_TOKEN "?" CANARY "=" CANARY),
	TARGET("/%43ANARY7f3a9/" CANARY),
	"GET " EVENTS " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " CANARY_TOKEN "\r\n\r\n",
	"GET " EVENTS " HTTP/1.1\r\nHost: h\r\nAuthorization: " CANARY " " CANARY_TOKEN "\r\n\r\n",
	"GET " STATS " HTTP/1.1\r\nHost: h\r\nAuthorization: Token " CANARY_TOKEN "\r\n\r\n",
	"GET " STATS "?token=" CANARY_TOKEN " HTTP/1.1\r\nHost: " CANARY "\r\nAuthorization: Token " CANARY "\r\n\r\n",
	"HEAD " EVENTS "?token=" CANARY_TOKEN " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
	WITH("Referer: http://" CANARY "/?token=" CANARY_TOKEN "\r\nUser-Agent: " CANARY "\r\nCookie: a=" CANARY "\r\nX-Request-ID: " CANARY
		"\r\nX-Forwarded-For: " CANARY "\r\nOrigin: http://" CANARY "\r\nLast-Event-ID: " CANARY),
	"GET " EVENTS "?token=" CANARY_TOKEN " HTTP/1.1\r\nHost: " CANARY "\r\nOrigin: https://" CANARY "\r\n"
		"Access-Control-Request-Method: " CANARY "\r\nAccess-Control-Request-Headers: " CANARY "\r\n\r\n",
	"OPTIONS " EVENTS "?token=" CANARY_TOKEN " HTTP/1.1\r\nHost: h\r\nOrigin: https://" CANARY "\r\n"
		"Access-Control-Request-Method: " CANARY "\r\n\r\n",
	"GET http://" CANARY "/" CANARY " HTTP/1.1\r\nHost: " CANARY "\r\n\r\n",
	"GET " EVENTS "?token=" CANARY_TOKEN " HTTP/" CANARY "\r\n\r\n",
	CANARY " " EVENTS "?token=" CANARY_TOKEN " HTTP/1.1\r\nHost: h\r\n\r\n",
	"GET " CANARY_TOKEN "\r\n\r\n",
	"GET " EVENTS "?token=" CANARY_TOKEN "\n\n",
	WITH(CANARY),
	WITH(CANARY " : " CANARY),
	WITH(" " CANARY),
	WITH("Host: " CANARY "/"),
	WITH("Content-Length: " CANARY),
	WITH("Content-Length: 5\r\nX: " CANARY),
	WITH("Transfer-Encoding: " CANARY),
	WITH("Expect: " CANARY),
	WITH("Connection: " CANARY "\r\nUpgrade: " CANARY),
	"POST " EVENTS "?token=" CANARY_TOKEN " HTTP/1.1\r\nHost: h\r\nContent-Length: 17\r\n\r\n" CANARY_TOKEN,
	"\x16\x03" CANARY_TOKEN,
};

Test(logs, A18_no_word_of_a_client_is_ever_echoed_or_logged)
{
	struct server s = server_new();

	file_write(s.tokens, TOKENS CANARY_TOKEN " 77 manager\n");
	server_launch(&s, "--cors-origin", "https://a.example", NULL);
	server_ready(&s, 1);
	for (size_t i = 0; i < sizeof canary_requests / sizeof canary_requests[0]; i++) {
		struct client c = client_open(&s);

		client_send(&c, canary_requests[i]);
		client_head(&c);
		shutdown(c.fd, SHUT_WR);
		client_read_all(&c);
		cr_expect(!text_has(&c.in, "CANARY"), "%s", canary_requests[i]);
		client_close(&c);
	}
	file_write(s.tokens, TOKENS CANARY_TOKEN " 77 manager\n" CANARY_TOKEN " 78\n");
	kill(s.pid, SIGHUP);
	log_wait(&s, "msg=tokens_not_read");
	file_write(s.tokens, TOKENS CANARY_TOKEN "\n");
	kill(s.pid, SIGHUP);
	log_wait_times(&s, "msg=tokens_not_read", 2);
	file_write(s.tokens, TOKENS);
	kill(s.pid, SIGHUP);
	log_wait(&s, "msg=tokens_read");
	cr_assert(!text_has(file_text(s.log), "CANARY"));
	cr_assert(!text_has(file_text(s.log), ANNA) && !text_has(file_text(s.log), "nobody"));
	server_stop(&s);
}

Test(logs, R14_a_line_of_the_log_is_one_line)
{
	struct server s = server_new();
	struct stream st;

	file_write(s.tokens, "t1 a\"b=\\\xc3\xa9 manager\n");
	server_launch(&s, NULL);
	server_ready(&s, 1);
	st = stream_open(&s, "t1");
	published(&s, EVENT("a", "1", "{\"users\":[\"a\\\"b=\\\\\\u00e9\"]}"), 1);
	stream_expect(&st, "a", "1");
	published(&s, "{\"op\":\"revoke\",\"user\":\"x\\\" msg=event name=forged\"}", 0);
	log_wait(&s, "user=\"a\\\"b=\\\\\xc3\xa9\" streams=1");
	log_wait(&s, "msg=revoke user=\"x\\\" msg=event name=forged\" matched=0\n");
	stream_close(&st);
	server_stop(&s);
}

Test(logs, R13_USR1_opens_the_file_anew)
{
	struct server s = server_start(NULL);
	char old[80];
	struct stream st;

	snprintf(old, sizeof old, "%s.1", s.log);
	cr_assert(rename(s.log, old) == 0);
	publish(&s, EVENT("before", "1", ALL));
	while (count_of(file_text(old), "name=before") == 0)
		glance();
	kill(s.pid, SIGUSR1);
	log_wait(&s, "msg=log_file_reopened");
	st = stream_open(&s, ANNA);
	log_wait(&s, "msg=connect");
	cr_assert(count_of(file_text(old), "msg=connect") == 0);
	stream_close(&st);
	server_stop(&s);
}

Test(logs, R13_a_log_that_is_rotated_again_and_again_misses_no_line)
{
	enum { TIMES = 20, EVENTS_EACH = 50 };
	struct server s = server_start(NULL);
	struct text all = {NULL, 0, 0};
	char old[96], datagram[128];

	for (int i = 0; i < TIMES * EVENTS_EACH; i++) {
		snprintf(datagram, sizeof datagram, "{\"event\":\"e%d.\",\"data\":1,\"to\":\"all\"}", i);
		publish(&s, datagram);
		if (i % EVENTS_EACH == EVENTS_EACH / 2) {
			snprintf(old, sizeof old, "%s.%02d", s.log, i / EVENTS_EACH);
			cr_assert(rename(s.log, old) == 0);
			kill(s.pid, SIGUSR1); /* lines are being written all the while */
			log_wait(&s, "msg=log_file_reopened");
		}
	}
	snprintf(datagram, sizeof datagram, "name=e%d. ", TIMES * EVENTS_EACH - 1);
	log_wait(&s, datagram);
	for (int i = 0; i <= TIMES; i++) {
		snprintf(old, sizeof old, "%s.%02d", s.log, i);
		text_add(&all, file_text(i < TIMES ? old : s.log)->p, file_text(i < TIMES ? old : s.log)->n);
	}
	for (int i = 0; i < TIMES * EVENTS_EACH; i++) {
		snprintf(datagram, sizeof datagram, " app=SSE level=info msg=event name=e%d. ", i);
		cr_assert(count_of(&all, datagram) == 1, "%s", datagram);
	}
	cr_assert(count_of(&all, "\n") == count_of(&all, " app=SSE level="), "no line is torn");
	text_free(&all);
	server_stop(&s);
}

Test(logs, R13_a_file_that_cannot_be_opened_keeps_the_old_one)
{
	struct server s = server_start(NULL);
	char old[80];

	s.complains = true;
	snprintf(old, sizeof old, "%s.1", s.log);
	cr_assert(rename(s.log, old) == 0 && mkdir(s.log, 0700) == 0);
	kill(s.pid, SIGUSR1);
	while (count_of(file_text(old), "level=error msg=log_file_not_reopened") == 0)
		glance();
	cr_assert_str_eq(file_text(s.errors)->p,
		"SSE: the log file cannot be opened again (Is a directory); its lines go on where they went\n");
	cr_assert(rmdir(s.log) == 0 && rename(old, s.log) == 0);
	publish(&s, EVENT("after", "1", ALL));
	log_wait(&s, "name=after");
	server_stop(&s);
}

/* As logrotate's copytruncate does it: whoever did not append would leave a hole in the file. */
Test(logs, R13_a_file_that_is_cut_in_place_goes_on_at_its_beginning)
{
	struct server s = server_start(NULL);
	struct text *log;

	for (int i = 0; i < 100; i++)
		publish(&s, EVENT("before", "1", ALL));
	log_wait_times(&s, "name=before", 100);
	cr_assert(truncate(s.log, 0) == 0);
	publish(&s, EVENT("after", "1", ALL));
	log_wait(&s, "name=after");
	log = file_text(s.log);
	cr_assert(strncmp(log->p, "time=", 5) == 0 && strlen(log->p) == log->n, "no hole");
	server_stop(&s);
}

static void serves_one_event(struct server *s)
{
	struct stream st = stream_begin(client_unix(s->http), GET_EVENTS(ANNA));

	published(s, EVENT("a", "1", ALL), 1);
	stream_expect(&st, "a", "1");
	stream_close(&st);
}

Test(logs, R11_a_full_disk_stops_only_the_log)
{
	struct server s = server_new();
	char address[80];

	snprintf(address, sizeof address, "unix:%s", s.http);
	s.complains = true;
	server_launch(&s, "--listen", address, "--log-file", "/dev/full", NULL);
	server_answers(&s);
	for (int i = 0; i < 20; i++)
		serves_one_event(&s);
	cr_assert(count_of(file_text(s.errors), "SSE: the log file takes nothing (No space left on device)") == 1, "%s",
		file_text(s.errors)->p);
	server_stop(&s);
}

Test(logs, R11_lines_that_were_dropped_are_counted_when_there_is_room_again)
{
	struct server s = server_new();
	char address[80], log[80];

	snprintf(address, sizeof address, "unix:%s", s.http);
	snprintf(log, sizeof log, "%s/link", s.dir);
	cr_assert(symlink("/dev/full", log) == 0);
	s.complains = true;
	server_launch(&s, "--listen", address, "--log-file", log, NULL);
	server_answers(&s);
	serves_one_event(&s);
	cr_assert(unlink(log) == 0 && symlink(s.log, log) == 0);
	kill(s.pid, SIGUSR1);
	log_wait(&s, "msg=log_file_reopened");
	serves_one_event(&s);
	log_wait(&s, "msg=log_lines_dropped lines=");
	log_wait(&s, "msg=connect");
	server_stop(&s);
}

/* A write to it would raise SIGPIPE. */
Test(logs, R9_a_log_that_is_a_broken_pipe_stops_only_the_log)
{
	struct server s = server_new();
	char address[80], fifo[80];
	int reader;

	snprintf(address, sizeof address, "unix:%s", s.http);
	snprintf(fifo, sizeof fifo, "%s/fifo", s.dir);
	cr_assert(mkfifo(fifo, 0600) == 0);
	reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	s.complains = true;
	server_launch(&s, "--listen", address, "--log-file", fifo, NULL);
	server_answers(&s);
	serves_one_event(&s);
	close(reader);
	for (int i = 0; i < 20; i++)
		serves_one_event(&s);
	cr_assert(count_of(file_text(s.errors), "SSE: the log file takes nothing (Broken pipe)") == 1, "%s",
		file_text(s.errors)->p);
	server_stop(&s);
}

Test(logs, R12_a_terminal_that_nobody_reads_holds_nobody_up)
{
	struct server s = server_new();
	char address[80];
	int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	cr_assert(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
	cr_assert(symlink(ptsname(terminal), s.errors) == 0); /* its stderr, and so its log */
	s.complains = true;
	snprintf(address, sizeof address, "unix:%s", s.http);
	server_launch(&s, "--listen", address, "--log-file", "", NULL);
	server_answers(&s);
	for (int i = 0; i < 3000; i++)
		published(&s, EVENT("a-name-that-makes-the-line-a-little-longer-than-it-would-be", "1", ALL), 0);
	serves_one_event(&s);
	server_stop(&s);
	close(terminal);
}

Test(logs, R12_who_does_not_read_the_log_holds_nobody_up)
{
	struct server s = server_new();
	char address[80], fifo[80];
	int reader;
	struct text got = {NULL, 0, 0};
	char part[4096];
	ssize_t n;

	snprintf(address, sizeof address, "unix:%s", s.http);
	snprintf(fifo, sizeof fifo, "%s/fifo", s.dir);
	cr_assert(mkfifo(fifo, 0600) == 0);
	reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	server_launch(&s, "--listen", address, "--log-file", fifo, NULL);
	server_answers(&s);
	for (int i = 0; i < 3000; i++) /* more than the pipe and the buffer hold */
		published(&s, EVENT("a-name-that-makes-the-line-a-little-longer-than-it-would-be", "1", ALL), 0);
	serves_one_event(&s);
	for (int64_t until = now_ms() + LIMIT_MS; !text_has(&got, "msg=log_lines_dropped lines="); ) {
		cr_assert(now_ms() < until, "the log goes on when it is read again");
		while ((n = read(reader, part, sizeof part)) > 0)
			text_add(&got, part, (size_t)n);
		published(&s, EVENT("b", "1", ALL), 0);
	}
	cr_assert(count_of(&got, "\n") <= count_of(&got, " app=SSE level="), "no line is torn");
	text_free(&got);
	server_stop(&s);
	close(reader);
}

/* ============================================================================================
 * signals
 * ============================================================================================ */

static void reload(struct server *s, const char *tokens)
{
	int before = log_count(s, "msg=tokens_read");

	file_write(s->tokens, tokens);
	kill(s->pid, SIGHUP);
	log_wait_times(s, "msg=tokens_read", before + 1);
}

Test(signals, A17_HUP_a_new_token_works_and_one_that_is_gone_ends_its_streams)
{
	struct server s = server_start(NULL);
	struct stream a = stream_open(&s, ANNA), a2 = stream_open(&s, ANNA2), b = stream_open(&s, BORIS), n;
	struct client c;

	reload(&s, "# a remark\n\n" ANNA " 7 manager\r\n\t" BORIS "\t8  foreman\nnew-one 10 manager");
	stream_expect_end(&a2, "data: {\"event\":\"auth.revoked\"}");
	n = stream_open(&s, "new-one");
	c = ask(&s, GET_EVENTS(ANNA2));
	cr_assert(c.status == 401);
	client_close(&c);
	published(&s, EVENT("x", "1", "{\"users\":[7,10]}"), 2);
	published(&s, EVENT("y", "2", "{\"roles\":[\"manager\"]}"), 2);
	published(&s, EVENT("z", "3", ALL), 3);
	stream_expect(&a, "x", "1");
	stream_expect(&n, "x", "1");
	stream_expect(&a, "y", "2");
	stream_expect(&n, "y", "2");
	stream_expect(&b, "z", "3");
	log_wait(&s, "user=7 reason=revoked");
	stream_close(&a);
	stream_close(&a2);
	stream_close(&b);
	stream_close(&n);
	server_stop(&s);
}

Test(signals, HUP_new_roles_take_effect_on_open_streams)
{
	struct server s = server_start(NULL);
	struct stream a = stream_open(&s, ANNA), b = stream_open(&s, BORIS);

	reload(&s, ANNA " 7 foreman\n" BORIS " 8 owner,manager\n");
	published(&s, EVENT("m", "1", "{\"roles\":[\"manager\"]}"), 1);
	published(&s, EVENT("f", "2", "{\"roles\":[\"foreman\"]}"), 1);
	published(&s, EVENT("o", "3", "{\"roles\":[\"owner\"]}"), 1);
	reload(&s, ANNA " 7\n" BORIS " 8 foreman\n");
	published(&s, EVENT("m", "4", "{\"roles\":[\"manager\",\"owner\"]}"), 0);
	published(&s, EVENT("f", "5", "{\"roles\":[\"foreman\"]}"), 1);
	published(&s, EVENT("end", "6", ALL), 2);
	stream_expect(&a, "f", "2");
	stream_expect(&a, "end", "6");
	stream_expect(&b, "m", "1");
	stream_expect(&b, "o", "3");
	stream_expect(&b, "f", "5");
	stream_expect(&b, "end", "6");
	stream_close(&a);
	stream_close(&b);
	server_stop(&s);
}

Test(signals, HUP_a_token_that_became_another_users_ends_its_streams)
{
	struct server s = server_start(NULL);
	struct stream a = stream_open(&s, ANNA);

	reload(&s, ANNA " 70 manager\n");
	stream_expect_end(&a, "data: {\"event\":\"auth.revoked\"}");
	stream_close(&a);
	a = stream_open(&s, ANNA);
	published(&s, EVENT("x", "1", "{\"users\":[7]}"), 0);
	published(&s, EVENT("y", "1", "{\"users\":[70]}"), 1);
	stream_close(&a);
	server_stop(&s);
}

Test(signals, HUP_a_broken_file_changes_nothing_and_names_its_line)
{
	static const struct {
		const char *tokens, *error;
	} rows[] = {
		{"good 1 a\n\nonlytoken\n", "/tokens:3: expected TOKEN USER [ROLE,...]"},
		{"good 1 a, b\n", "/tokens:1: a fourth word: roles are parted by commas, without spaces"},
		{"good 1 a\ngood 2 b\n", "/tokens:2: this token stands in an earlier line too"},
		{"good 1 a\nt2 2 a,,b\n", "/tokens:2: a role must be 1 to 64 bytes"},
		{"good 1 a,\n", "/tokens:1: a role must be 1 to 64 bytes"},
		{"t1 " X64 "x a\n", "/tokens:1: a user id must be 1 to 64 bytes"},
	};
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		file_write(s.tokens, rows[i].tokens);
		kill(s.pid, SIGHUP);
		log_wait_times(&s, "level=error msg=tokens_not_read error=", (int)i + 1);
		cr_expect(log_count(&s, rows[i].error) == 1, "%s", rows[i].error);
	}
	cr_assert(unlink(s.tokens) == 0);
	kill(s.pid, SIGHUP);
	log_wait(&s, "/tokens: No such file or directory");
	published(&s, EVENT("still", "1", "{\"roles\":[\"manager\"]}"), 1);
	stream_expect(&st, "still", "1");
	stream_close(&st);
	st = stream_open(&s, BORIS);
	stream_close(&st);
	server_stop(&s);
}

Test(signals, R24_HUP_again_and_again_leaks_nothing)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	int before = server_descriptors(&s);

	for (int i = 0; i < 50; i++)
		reload(&s, i % 2 == 0 ? ANNA " 7 a,b\nx1 a-user-with-an-id-longer-than-24-bytes b\n" : ANNA " 7 c\nx2 y\n");
	published(&s, EVENT("c", "1", "{\"roles\":[\"c\"]}"), 1);
	stream_expect(&st, "c", "1");
	cr_assert(server_descriptors(&s) == before);
	stream_close(&st);
	server_stop(&s);
}

static void drains(int sig)
{
	static struct stream st[20];
	struct server s = server_start("--streams-per-user", "100", "--queue", "20", NULL);
	struct client idle = ask(&s, GET_STATS);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char datagram[128];

	for (int i = 0; i < 20; i++)
		st[i] = stream_open(&s, ANNA);
	for (int e = 0; e < 200; e++) {
		snprintf(datagram, sizeof datagram, "{\"event\":\"n\",\"data\":%d,\"to\":\"all\"}", e);
		cr_assert(datagram_send(&s, fd, datagram, strlen(datagram)));
	}
	kill(s.pid, sig);
	close(fd);
	for (int i = 0; i < 20; i++) {
		expect_numbers(&st[i], 200);
		stream_expect_end(&st[i], "retry: ");
		stream_close(&st[i]);
	}
	client_expect_end(&idle); /* nothing keeps a connection that waits for a request */
	client_close(&idle);
	log_wait(&s, "msg=draining streams=20\n");
	cr_assert(server_wait(&s) == 0);
	cr_assert(log_count(&s, "reason=shutdown") == 20);
	cr_assert(log_count(&s, "msg=stopped events=200\n") == 1);
	cr_assert(access(s.socket, F_OK) < 0, "its path is removed");
	server_remove(&s);
}

Test(signals, R15_TERM_delivers_what_was_accepted_and_ends_every_stream_cleanly)
{
	drains(SIGTERM);
}

Test(signals, R15_INT_does_the_same)
{
	drains(SIGINT);
}

Test(signals, R15_TERM_waits_for_a_reader_and_gives_up_at_the_deadline)
{
	struct server s = server_start("--send-buffer", "4096", "--drain", "500ms", NULL);
	struct stream lazy = stream_open_lazy(&s, ANNA);
	struct text t = big_event(190000);
	int64_t begin;

	publish(&s, t.p);
	begin = now_ms();
	kill(s.pid, SIGTERM);
	cr_assert(server_wait(&s) == 0);
	cr_assert(now_ms() - begin >= 450);
	server_remove(&s);
	text_free(&t);
	stream_close(&lazy);
}

Test(signals, R15_a_reader_that_is_late_still_gets_everything)
{
	struct server s = server_start("--send-buffer", "4096", "--drain", "60s", NULL);
	struct stream lazy = stream_open_lazy(&s, ANNA);
	struct text t = big_event(190000);

	publish(&s, t.p);
	publish(&s, EVENT("last", "1", ALL));
	kill(s.pid, SIGTERM);
	log_wait(&s, "msg=draining");
	cr_assert(strstr(stream_event(&lazy), "{\"event\":\"big\",\"data\":\"xxx") != NULL);
	stream_expect(&lazy, "last", "1");
	stream_expect_end(&lazy, "retry: ");
	text_free(&t);
	stream_close(&lazy);
	server_ended(&s);
}

Test(signals, R16_a_second_TERM_ends_it_at_once)
{
	struct server s = server_start("--send-buffer", "4096", "--drain", "1h", NULL);
	struct stream lazy = stream_open_lazy(&s, ANNA);
	struct text t = big_event(190000);

	publish(&s, t.p);
	kill(s.pid, SIGTERM);
	log_wait(&s, "msg=draining");
	kill(s.pid, SIGHUP);
	kill(s.pid, SIGUSR1);
	log_wait(&s, "msg=log_file_reopened");
	kill(s.pid, SIGTERM);
	cr_assert(server_wait(&s) == 0);
	cr_assert(access(s.socket, F_OK) < 0);
	server_remove(&s);
	text_free(&t);
	stream_close(&lazy);
}

Test(signals, R16_INT_while_it_drains_ends_it_at_once)
{
	static const int signals[] = {SIGTERM, SIGINT};

	for (int i = 0; i < 2; i++) {
		struct server s = server_start("--send-buffer", "4096", "--drain", "1h", NULL);
		struct stream lazy = stream_open_lazy(&s, ANNA);
		struct text t = big_event(190000);

		publish(&s, t.p);
		kill(s.pid, signals[i]);
		log_wait(&s, "msg=draining");
		kill(s.pid, signals[1 - i]);
		cr_assert(server_wait(&s) == 0);
		server_remove(&s);
		text_free(&t);
		stream_close(&lazy);
	}
}

/* Who connects now is to reach the next server, not this one. */
Test(signals, R15_the_listeners_are_closed_first)
{
	struct server s = server_new();
	struct stream lazy;
	struct text t = big_event(190000);
	struct sockaddr_un path;
	struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	char address[80];
	int fd;

	snprintf(address, sizeof address, "unix:%s", s.http);
	server_launch(&s, "--listen", address, "--send-buffer", "4096", "--drain", "1h", NULL);
	server_ready(&s, 1);
	path = unix_address(s.http);
	tcp.sin_port = htons((uint16_t)s.port);
	lazy = stream_open_lazy(&s, ANNA);
	publish(&s, t.p);
	kill(s.pid, SIGTERM);
	log_wait(&s, "msg=draining");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert(connect(fd, (struct sockaddr *)&tcp, sizeof tcp) < 0 && errno == ECONNREFUSED);
	close(fd);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert(connect(fd, (struct sockaddr *)&path, sizeof path) < 0 && errno == ENOENT);
	close(fd);
	cr_assert(strstr(stream_event(&lazy), "{\"event\":\"big\",\"data\":\"xxx") != NULL);
	stream_expect_end(&lazy, "retry: ");
	text_free(&t);
	stream_close(&lazy);
	server_ended(&s);
}

/* An answer larger than the buffers waits for its client when TERM comes; when it is read, nothing is left to wait for. */
Test(signals, R15_an_answer_that_waits_is_delivered_and_then_the_server_ends)
{
	enum { USERS = 300 };
	static struct stream st[USERS];
	struct server s = server_new();
	struct text tokens = {NULL, 0, 0};
	struct client c;
	char line[128];

	for (int i = 0; i < USERS; i++) {
		snprintf(line, sizeof line, "t%03d user-with-a-rather-long-id-so-that-the-statistics-are-long-%03d\n", i, i);
		text_say(&tokens, line);
	}
	file_write(s.tokens, tokens.p);
	server_launch(&s, "--send-buffer", "4096", "--drain", "1h", NULL);
	server_ready(&s, 1);
	for (int i = 0; i < USERS; i++) {
		snprintf(line, sizeof line, "t%03d", i);
		st[i] = stream_open(&s, line);
	}
	c = client_tcp(s.port, false, 2048);
	client_send(&c, "GET " STATS " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t000\r\n\r\n");
	client_head(&c);
	kill(s.pid, SIGTERM);
	log_wait(&s, "msg=draining");
	for (int i = 0; i < USERS; i++) {
		stream_expect_end(&st[i], "retry: ");
		stream_close(&st[i]);
	}
	log_wait_times(&s, "reason=shutdown", USERS);
	client_read_all(&c);
	cr_assert(c.in.n > 20000 && strcmp(c.in.p + c.in.n - 3, "}}\n") == 0 && !c.reset);
	client_close(&c);
	text_free(&tokens);
	server_ended(&s);
}

Test(signals, R4_signals_in_a_storm_lose_nothing)
{
	struct server s = server_start("--queue", "20", NULL);
	struct stream st = stream_open(&s, ANNA);
	pid_t pid = publisher(&s, 2000);
	int status;

	for (int i = 0; i < 200; i++)
		kill(s.pid, i % 2 == 0 ? SIGUSR1 : SIGHUP);
	expect_numbers(&st, 2000);
	cr_assert(waitpid(pid, &status, 0) == pid && status == 0);
	stream_close(&st);
	server_stop(&s);
}

/* What it waits in is interrupted each time it is stopped. */
Test(signals, R4_stops_in_a_storm_lose_nothing)
{
	struct server s = server_start("--queue", "20", NULL);
	struct stream st = stream_open(&s, ANNA);
	pid_t pid = publisher(&s, 2000);
	char data[32];
	int status;

	for (int e = 0; e < 2000; e++) {
		if (e % 10 == 0) {
			kill(s.pid, SIGSTOP);
			kill(s.pid, SIGCONT);
		}
		snprintf(data, sizeof data, "%d", e);
		stream_expect(&st, "n", data);
	}
	cr_assert(waitpid(pid, &status, 0) == pid && status == 0);
	stream_close(&st);
	server_stop(&s);
}

/* ============================================================================================
 * the system
 * ============================================================================================ */

Test(sys, D14_R17_a_stale_path_is_replaced_after_kill_9)
{
	struct server s = server_new();
	char address[80];
	struct stream st;

	snprintf(address, sizeof address, "unix:%s", s.http);
	for (int times = 1; times <= 2; times++) {
		server_launch(&s, "--listen", address, NULL);
		server_ready(&s, times);
		st = stream_begin(client_unix(s.http), GET_EVENTS(ANNA));
		published(&s, EVENT("a", "1", ALL), 1);
		stream_expect(&st, "a", "1");
		stream_close(&st);
		if (times == 1) {
			kill(s.pid, SIGKILL);
			cr_assert(server_wait(&s) == -SIGKILL);
			cr_assert(access(s.socket, F_OK) == 0);
		}
	}
	server_stop(&s);
}

Test(sys, D14_two_servers_do_not_take_each_others_path)
{
	struct server first = server_start(NULL), second = server_new();
	struct stream st = stream_open(&first, ANNA);

	server_launch(&second, "--socket", first.socket, NULL);
	server_fails(&second, 1, "another program is listening there");
	published(&first, EVENT("a", "1", ALL), 1);
	stream_expect(&st, "a", "1");
	stream_close(&st);
	server_remove(&second);
	server_stop(&first);
}

static int stream_listener(const char *path)
{
	struct sockaddr_un a = unix_address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert(bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 5) == 0);
	return fd;
}

Test(sys, D14_a_live_socket_of_another_kind_is_not_taken)
{
	struct server s = server_new();
	int other = stream_listener(s.socket);
	struct client c;

	server_launch(&s, NULL);
	server_fails(&s, 1, s.socket);
	c = client_unix(s.socket); /* the other program still has its clients */
	client_close(&c);
	close(other);
	server_remove(&s);
}

Test(sys, D14_one_path_for_both_sockets_is_an_error)
{
	struct server s = server_new();
	char address[80];

	snprintf(address, sizeof address, "unix:%s", s.socket);
	server_launch(&s, "--listen", address, NULL);
	server_fails(&s, 1, s.socket);
	server_remove(&s);
}

Test(sys, D14_a_file_at_the_path_is_not_removed)
{
	struct server s = server_new();

	file_write(s.socket, "precious");
	server_launch(&s, NULL);
	server_fails(&s, 1, "the path exists and is not a socket");
	cr_assert_str_eq(file_text(s.socket)->p, "precious");
	server_remove(&s);
}

Test(sys, R26_what_cannot_start_says_why_in_one_line)
{
	struct server s = server_start(NULL);
	char taken[40], dir[80], text[128];
	const struct {
		const char *flag, *value, *error;
		int status;
	} rows[] = {
		{"--socket", "/tmp/sse-no-such-directory/x.sock", "cannot bind (is the directory there?): No such file or directory", 1},
		{"--listen", taken, "another program is listening there", 1},
		{"--listen", "192.0.2.1:80", "cannot bind", 1},
		{"--listen", "nonsense", "--listen: got \"nonsense\", takes", 2},
		{"--listen", "127.0.0.1:65536", "--listen: got \"127.0.0.1:65536\", takes", 2},
		{"--queue", "1", "--queue: got \"1\", takes a whole number from 2 to 10000", 2},
		{"--keepalive", "soon", "--keepalive: got \"soon\", takes a time", 2},
		{"--retry", "1e3", "--retry: got \"1e3\", takes a time", 2}, /* S15 */
		{"--no-such", "1", "--no-such: no such option", 2},
		{"--token-file", "/no/such/file", "--token-file: /no/such/file: No such file or directory", 2},
		{"--token-file", "", "nobody may listen: give --auth-url, --ticket-key-file or --token-file", 2},
		{"--log-file", "/no/such/dir/log", "--log-file /no/such/dir/log: cannot open: No such file or directory", 2},
		{"--config", "/no/such/config", "--config: cannot read /no/such/config: No such file or directory", 2},
	};

	snprintf(taken, sizeof taken, "127.0.0.1:%d", s.port);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct server bad = server_new();

		server_launch(&bad, rows[i].flag, rows[i].value, NULL);
		snprintf(text, sizeof text, "%s", rows[i].error);
		server_fails(&bad, rows[i].status, text);
		cr_expect(access(bad.socket, F_OK) < 0, "%s %s leaves its socket behind", rows[i].flag, rows[i].value);
		snprintf(dir, sizeof dir, "%s", bad.dir);
		server_remove(&bad);
		cr_expect(access(dir, F_OK) < 0, "%s %s leaves a file behind", rows[i].flag, rows[i].value);
	}
	server_stop(&s);
}

Test(sys, R26_a_configuration_that_is_wrong_says_why_in_one_line)
{
	static const struct {
		const char *text, *error;
	} rows[] = {
		{"no-such-key = 1\n", "config:1: no-such-key: no such option"},
		{"queue = 100\nqueue = 1e3\n", "config:2: queue: got \"1e3\", takes a whole number"},
		{"# a remark\n\nqueue\n", "config:3: "},
		{"listen = 127.0.0.1:99999\n", "config:1: listen: got \"127.0.0.1:99999\""},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct server s = server_new();
		char config[80];

		snprintf(config, sizeof config, "%s/config", s.dir);
		file_write(config, rows[i].text);
		server_launch(&s, "--config", config, NULL);
		server_fails(&s, 2, rows[i].error);
		cr_expect(access(s.socket, F_OK) < 0, "%s", rows[i].text);
		server_remove(&s);
	}
}

Test(sys, R26_a_port_that_is_for_root_alone)
{
	struct server s = server_new();

	if (geteuid() != 0 || atoi(file_text("/proc/sys/net/ipv4/ip_unprivileged_port_start")->p) < 2) {
		server_remove(&s);
		cr_skip_test("needs root, and a kernel that keeps low ports for it");
	}
	cr_assert_eq(chown(s.dir, 65534, 65534), 0);
	server_launch(&s, "--user", "nobody", "--listen", "127.0.0.1:1", NULL);
	server_fails(&s, 1, "--listen 127.0.0.1:1: cannot bind: Permission denied");
	server_remove(&s);
}

Test(sys, D15_sockets_have_the_mode_that_was_asked_for)
{
	static const char *const modes[] = {"0660", "0600", "666"};

	for (int i = 0; i < 3; i++) {
		struct server s = server_new();
		char address[80];
		struct stat st;

		snprintf(address, sizeof address, "unix:%s", s.http);
		if (i == 0)
			server_launch(&s, "--listen", address, NULL); /* the default */
		else
			server_launch(&s, "--listen", address, "--socket-mode", modes[i], NULL);
		server_ready(&s, 1);
		cr_expect(stat(s.socket, &st) == 0 && (st.st_mode & 07777) == strtoul(modes[i], NULL, 8), "%s: %o", modes[i], st.st_mode);
		cr_expect(stat(s.http, &st) == 0 && (st.st_mode & 07777) == strtoul(modes[i], NULL, 8), "%s: %o", modes[i], st.st_mode);
		kill(s.pid, SIGTERM);
		cr_assert(server_wait(&s) == 0);
		cr_expect(access(s.socket, F_OK) < 0 && access(s.http, F_OK) < 0, "paths are removed at exit");
		server_remove(&s);
	}
}

/* Who may not write to the socket, says nothing: its mode and its group are the list of those who may. */
Test(sys, D15_D16_another_user_cannot_publish)
{
	struct server s;
	int status;
	pid_t pid;

	if (geteuid() != 0)
		cr_skip_test("only root can become another user");
	s = server_start(NULL);
	cr_assert(chmod(s.dir, 0755) == 0);
	pid = fork();
	if (pid == 0) {
		int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(2);
		_exit(!datagram_send(&s, fd, EVENT("a", "1", ALL), strlen(EVENT("a", "1", ALL))) && errno == EACCES ? 0 : 1);
	}
	cr_assert(waitpid(pid, &status, 0) == pid && status == 0, "%d", status);
	published(&s, EVENT("b", "1", ALL), 0);
	cr_assert(log_count(&s, "name=a ") == 0);
	server_stop(&s);
}

Test(sys, D14_a_path_that_another_has_taken_over_is_not_removed)
{
	struct server s = server_start(NULL);
	int other;

	cr_assert(unlink(s.socket) == 0);
	other = stream_listener(s.socket);
	kill(s.pid, SIGTERM);
	cr_assert(server_wait(&s) == 0);
	cr_assert(access(s.socket, F_OK) == 0);
	close(other);
	server_remove(&s);
}

Test(sys, R17_the_port_is_free_for_the_next_one_at_once)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	char address[40];

	snprintf(address, sizeof address, "127.0.0.1:%d", s.port);
	kill(s.pid, SIGKILL);
	server_wait(&s);
	server_launch(&s, "--listen", address, NULL);
	server_ready(&s, 2);
	stream_close(&st);
	server_stop(&s);
}

static void limit_descriptors(const struct server *s, int limit)
{
	struct rlimit r;

	cr_assert(prlimit(s->pid, RLIMIT_NOFILE, NULL, &r) == 0);
	r.rlim_cur = (rlim_t)limit;
	cr_assert(prlimit(s->pid, RLIMIT_NOFILE, &r, NULL) == 0, "%s", strerror(errno));
}

/* A client that is told to come back, and when, before it said anything. */
static bool was_put_off(const struct client *c)
{
	return strncmp(c->in.p, "HTTP/1.1 200 OK\r\n", 17) == 0 && text_has(&c->in, "\r\n\r\nretry: ");
}

/* How many of these have an answer by now: all of them that they are to come back. Closes all. */
static int clients_told(struct client *c, int count)
{
	int told = 0;

	for (int i = 0; i < count; i++) {
		struct pollfd ready = {.fd = c[i].fd, .events = POLLIN};

		if (poll(&ready, 1, 0) > 0) {
			client_read_all(&c[i]);
			told++;
			cr_expect(was_put_off(&c[i]), "client %d is told to come back", i);
		}
		client_close(&c[i]);
	}
	return told;
}

/* Beyond --max-connections some are let in, to hear why not; who does not ask must not fill the house for ever. */
Test(sys, R19_many_too_many_are_told_at_once)
{
	static const struct {
		rlim_t nofile;
		const char *most; /* --max-connections; 0: as many as the limit on files allows, which are 60 */
		int let_in;       /* beyond 60: a quarter of what else there is, and 16 where there is plenty */
	} rows[] = {{80, "0", 5}, {400, "60", 16}};

	for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
		static struct client c[100];
		struct server s = server_new();
		int told;

		s.nofile = rows[k].nofile;
		server_launch(&s, "--head-timeout", "60s", "--max-connections", rows[k].most, NULL);
		server_ready(&s, 1);
		for (int i = 0; i < 100; i++)
			c[i] = client_open(&s);
		client_read_all(&c[99]);
		told = clients_told(c, 100);
		cr_assert(told == 100 - 60 - rows[k].let_in, "%d of 100", told);
		log_wait_times(&s, "level=info msg=refused status=200 reason=too_many_connections", told);
		server_stop(&s);
	}
}

Test(sys, R1_without_descriptors_clients_are_told_and_the_loop_does_not_spin)
{
	static struct client c[100];
	struct server s = server_new();
	int before, told;
	int64_t cpu;
	struct stream st;

	server_launch(&s, "--head-timeout", "60s", NULL);
	server_ready(&s, 1);
	before = server_descriptors(&s);
	limit_descriptors(&s, before + 70);
	for (int i = 0; i < 100; i++)
		c[i] = client_open(&s);
	log_wait(&s, "level=error msg=accept_failed error=\""); /* glibc and musl have other words for it */
	client_read_all(&c[99]);
	cpu = server_cpu_ms(&s);
	poll(NULL, 0, 400); /* a measurement */
	cr_assert(server_cpu_ms(&s) - cpu < 150, "it spins: %d ms", (int)(server_cpu_ms(&s) - cpu));
	cr_assert(log_count(&s, "msg=accept_failed") == 1, "logged once");
	told = clients_told(c, 100);
	cr_assert(told == 30, "%d of 100", told);
	server_wait_descriptors(&s, before);
	st = stream_open(&s, ANNA);
	published(&s, EVENT("a", "1", ALL), 1);
	stream_expect(&st, "a", "1");
	stream_close(&st);
	server_stop(&s);
}

/* Not even the spare descriptor helps, and no connection is there whose end would wake the loop. */
Test(sys, R1_a_listener_that_rests_wakes_up_again)
{
	struct server s = server_start(NULL);
	struct client c;

	limit_descriptors(&s, server_descriptors(&s) - 1);
	c = client_open(&s);
	client_send(&c, GET_STATS);
	log_wait(&s, "msg=accept_failed");
	limit_descriptors(&s, 100);
	client_answer(&c);
	cr_assert(c.status == 200);
	client_close(&c);
	server_stop(&s);
}

Test(sys, R1_a_spare_descriptor_that_was_lost_comes_back)
{
	static struct client c[10];
	struct server s = server_start("--head-timeout", "60s", NULL);
	int before = server_descriptors(&s);

	limit_descriptors(&s, before - 1);
	c[0] = client_open(&s);
	client_send(&c[0], GET_STATS);
	log_wait(&s, "msg=accept_failed");
	limit_descriptors(&s, 100);
	publish(&s, "{\"op\":\"ping\"}"); /* wakes it, if it sleeps */
	client_answer(&c[0]);
	limit_descriptors(&s, before + 4); /* its own, the spare, and some clients */
	for (int i = 1; i < 10; i++)
		c[i] = client_open(&s);
	client_read_all(&c[9]);
	cr_assert(text_has(&c[9].in, "\r\n\r\nretry: "), "the last one is told to come back, not left waiting");
	for (int i = 0; i < 10; i++)
		client_close(&c[i]);
	limit_descriptors(&s, 100);
	server_stop(&s);
}

/* ---- peers that vanish without a word ---- */

/* From now on the kernel drops all that comes in for this client: nothing is read, nothing acknowledged. */
static void client_vanishes(struct client *c)
{
	struct sock_filter drop = {BPF_RET | BPF_K, 0, 0, 0};
	struct sock_fprog all = {1, &drop};

	cr_assert(setsockopt(c->fd, SOL_SOCKET, SO_ATTACH_FILTER, &all, sizeof all) == 0, "%s", strerror(errno));
}

Test(sys, R7_a_peer_that_vanishes_with_an_event_on_its_way_is_found_out)
{
	struct server s = server_start("--tcp-user-timeout", "1s", "--write-stall", "1h", "--keepalive", "1h", NULL);
	struct stream gone = stream_open(&s, ANNA), other = stream_open(&s, BORIS);

	client_vanishes(&gone.c);
	published(&s, EVENT("a", "1", ALL), 2);
	stream_expect(&other, "a", "1");
	log_wait(&s, "msg=disconnect conn=1 user=7 reason=reset");
	published(&s, EVENT("a", "2", ALL), 1);
	stream_expect(&other, "a", "2");
	stream_close(&gone);
	stream_close(&other);
	server_stop(&s);
}

Test(sys, R8_a_peer_that_vanishes_while_nothing_happens_is_found_out)
{
	struct server s = server_start("--tcp-user-timeout", "1s", "--write-stall", "1h", "--keepalive", "1s", NULL);
	struct stream gone = stream_open(&s, ANNA);

	client_vanishes(&gone.c);
	log_wait(&s, "msg=disconnect conn=1 user=7 reason=reset");
	stream_close(&gone);
	stats_wait(&s, STATS_EMPTY);
	server_stop(&s);
}

/* The kernel's own keepalive, for a connection on which this program writes nothing, takes two minutes: it is on. */
Test(sys, R8_the_sockets_of_clients_are_tuned)
{
	static const struct {
		const char *name;
		int level, option, least, most;
	} rows[] = {
		{"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1, 1},
		{"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, 1, 60},
		{"TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, 1, 10},
		{"TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, 1, 6},
		{"R7 TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, 60000, 60000},
		{"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, 1, 1},
		{"R5 SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, 131072, 2 * 131072}, /* the kernel doubles it */
	};
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	int process = (int)syscall(SYS_pidfd_open, s.pid, 0), seen = 0;

	cr_assert(process >= 0, "%s", strerror(errno));
	for (int fd = 3; fd < 64; fd++) {
		struct sockaddr_in a;
		socklen_t bytes = sizeof a;
		int copy = (int)syscall(SYS_pidfd_getfd, process, fd, 0);

		if (copy < 0 && errno != EBADF) { /* as in a container without CAP_SYS_PTRACE */
			stream_close(&st);
			server_stop(&s);
			cr_skip_test("this test may not look at the sockets of another process: %s", strerror(errno));
		}
		if (copy < 0)
			continue;
		if (getpeername(copy, (struct sockaddr *)&a, &bytes) == 0 && a.sin_family == AF_INET) {
			seen++;
			for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
				int value = -1;

				bytes = sizeof value;
				getsockopt(copy, rows[i].level, rows[i].option, &value, &bytes);
				cr_expect(value >= rows[i].least && value <= rows[i].most, "%s is %d", rows[i].name, value);
			}
		}
		close(copy);
	}
	cr_assert(seen == 1, "%d connections: %s", seen, strerror(errno));
	close(process);
	stream_close(&st);
	server_stop(&s);
}

/* ---- a storm, a flood ---- */

/* All come back at the same moment, before the server has accepted the first of them. */
Test(sys, R18_a_thousand_clients_that_come_at_once_are_all_served)
{
	enum { CLIENTS = 1000 };
	static struct client c[CLIENTS];
	struct server s = server_start("--streams-per-user", "1000", NULL);
	int somaxconn = atoi(file_text("/proc/sys/net/core/somaxconn")->p), count = somaxconn < CLIENTS ? somaxconn : CLIENTS;

	kill(s.pid, SIGSTOP);
	for (int i = 0; i < count; i++) {
		c[i] = client_open(&s);
		client_send(&c[i], GET_EVENTS(ANNA));
	}
	kill(s.pid, SIGCONT);
	for (int i = 0; i < count; i++) {
		struct stream st = stream_begin(c[i], "");

		c[i] = st.c;
		text_free(&st.body);
	}
	published(&s, EVENT("a", "1", ALL), count);
	for (int i = 0; i < count; i++) {
		while (!text_has(&c[i].in, "{\"event\":\"a\",\"data\":1,"))
			cr_assert(client_read(&c[i]), "client %d", i);
		client_close(&c[i]);
	}
	stats_wait(&s, STATS_EMPTY);
	log_clear(&s);
	server_stop(&s);
}

Test(sys, R10_closed_standard_files_are_no_sockets_later)
{
	struct server s = server_new();
	struct stream st;
	char path[64], to[64] = "";

	s.no_standard_files = true;
	server_launch(&s, NULL);
	server_ready(&s, 1);
	st = stream_open(&s, ANNA);
	published(&s, EVENT("a", "1", ALL), 1);
	stream_expect(&st, "a", "1");
	for (int fd = 0; fd < 3; fd++) {
		ssize_t n;

		snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)s.pid, fd);
		n = readlink(path, to, sizeof to - 1);
		to[n > 0 ? n : 0] = '\0';
		cr_expect_str_eq(to, "/dev/null");
	}
	stream_close(&st);
	server_stop(&s);
}

Test(sys, R24_a_thousand_connections_of_every_kind_leave_no_descriptor)
{
	static const char *const sent[] = {"", "GET /", GET_STATS, GET_EVENTS(ANNA), TARGET("/"), "GET /\n", GET_EVENTS("nobody"),
		"HEAD" " " EVENTS "?token=" ANNA " HTTP/1.1\r\nHost: h\r\n\r\n", WITH("Content-Length: 9"), GET_STATS GET_STATS "GET /"};
	struct server s = server_start("--max-connections", "50", "--streams-per-user", "5", NULL);
	int before = server_descriptors(&s);

	for (int i = 0; i < 1000; i++) {
		struct client c = client_open(&s);

		client_try(&c, sent[i % 10], strlen(sent[i % 10]));
		if (i % 3 == 0 && i % 10 > 1)
			client_head(&c);
		if (i % 7 == 0)
			publish(&s, EVENT("a", "1", ALL));
		if (i % 5 == 0)
			client_reset(&c);
		else
			client_close(&c);
	}
	server_wait_descriptors(&s, before);
	stats_wait(&s, STATS_EMPTY);
	server_stop(&s);
}

Test(sys, R1_an_idle_server_sleeps)
{
	struct server s = server_start(NULL);
	struct stream st = stream_open(&s, ANNA);
	int64_t cpu;

	server_turns(&s);
	cpu = server_cpu_ms(&s);
	poll(NULL, 0, 500); /* a measurement */
	cr_assert(server_cpu_ms(&s) - cpu < 150, "%d ms", (int)(server_cpu_ms(&s) - cpu));
	stream_close(&st);
	server_stop(&s);
}

/* A line of /proc/PID/status. */
static bool server_status(const struct server *s, const char *line)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/status", (int)s->pid);
	return text_has(file_text(path), line);
}

Test(sys, it_becomes_another_user_before_it_opens_anything)
{
	struct server s = server_new();
	struct stream st;
	struct stat file;

	if (geteuid() != 0)
		cr_skip_test("only root can become another user");
	cr_assert_eq(chown(s.dir, 65534, 65534), 0);
	server_launch(&s, "--user", "nobody", "--journal", s.dir, NULL);
	server_ready(&s, 1);
	cr_assert(server_status(&s, "\nUid:\t65534\t65534\t65534\t65534\n") && server_status(&s, "\nGid:\t65534\t65534\t65534\t65534\n"));
	cr_assert(server_status(&s, "\nGroups:\t65534 \n") && server_status(&s, "\nNoNewPrivs:\t1\n"));
	for (int i = 0; i < 2; i++)
		cr_assert(stat(i == 0 ? s.socket : s.log, &file) == 0 && file.st_uid == 65534, "%d", i);
	st = stream_open(&s, ANNA);
	published(&s, EVENT("a", "1", ALL), 1);
	stream_expect(&st, "a", "1");
	kill(s.pid, SIGHUP); /* the token file is root's alone */
	log_wait(&s, "msg=tokens_not_read");
	cr_assert_eq(chown(s.tokens, 65534, 65534), 0);
	kill(s.pid, SIGHUP);
	log_wait(&s, "msg=tokens_read");
	published(&s, EVENT("a", "2", ALL), 1);
	stream_expect(&st, "a", "2");
	stream_close(&st);
	server_stop(&s);
}

Test(sys, R28_an_address_that_has_its_connections_gets_no_more)
{
	struct server s = server_start("--connections-per-address", "2", NULL);
	struct stream st = stream_open(&s, ANNA);
	struct client other = client_open(&s), third;

	log_wait(&s, " msg=no_trusted_proxy "); /* behind a proxy everybody would be one address */
	client_send(&other, GET_STATS);
	client_answer(&other);
	third = client_open(&s);
	cr_assert_eq(client_read(&third), false, "it is reset, and not kept waiting");
	log_wait(&s, " reason=too_many_from_address from=127.0.0.1:");
	client_close(&third);
	client_close(&other);
	stream_close(&st);
	server_stop(&s);
}

#define FORWARDED(client) "GET " EVENTS "?token=" ANNA " HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: " client "\r\n\r\n"

/* The address of a TCP peer is one of those that --trusted-proxy has, or it is not. */
Test(sys, H44_R28_a_proxy_is_trusted_by_its_address)
{
	static const struct {
		const char *proxies, *listen, *peer;
		bool trusted;
	} rows[] = {
		{"127.0.0.1", "127.0.0.1:0", "127.0.0.1", true}, {"127.0.0.0/8", "127.0.0.1:0", "127.0.0.1", true},
		{"127.0.0.2", "127.0.0.1:0", "127.0.0.1", false}, {"0.0.127.0/24", "127.0.0.1:0", "127.0.0.1", false},
		{"::1", "127.0.0.1:0", "127.0.0.1", false}, {"::1", "[::1]:0", "[::1]", true}, {"::2", "[::1]:0", "[::1]", false},
		{"127.0.0.1", "[::1]:0", "[::1]", false},
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		bool six = rows[i].listen[0] == '[';
		struct server s;
		struct stream st, other;
		struct client again;
		const char *last = NULL;
		char text[96];

		if (six && !ipv6_is_here())
			continue;
		s = server_start("--connections-per-address", "1", "--trusted-proxy", rows[i].proxies, "--listen", rows[i].listen, NULL);
		snprintf(text, sizeof text, "address=%s:", rows[i].peer);
		for (const char *p = file_text(s.log)->p; (p = strstr(p, text)) != NULL; p++)
			last = p;
		cr_assert_not_null(last);
		s.port = atoi(last + strlen(text));
		st = stream_begin(client_tcp(s.port, six, 0), FORWARDED("203.0.113.7"));
		again = client_tcp(s.port, six, 0);
		if (!rows[i].trusted) {
			cr_assert_eq(client_read(&again), false, "%s: all are one address", rows[i].proxies);
			snprintf(text, sizeof text, " reason=too_many_from_address from=%s:", rows[i].peer);
			log_wait(&s, text);
		} else {
			client_send(&again, FORWARDED("203.0.113.7"));
			expect_put_off(&again);
			log_wait(&s, " reason=too_many_from_address from=203.0.113.7\n");
			other = stream_begin(client_tcp(s.port, six, 0), FORWARDED("203.0.113.8"));
			stream_close(&other);
		}
		client_close(&again);
		stream_close(&st);
		server_stop(&s);
	}
}

Test(sys, R26_a_user_that_it_cannot_become)
{
	struct server s = server_new();

	server_launch(&s, "--user", "no-such-user", NULL);
	server_fails(&s, 2, "--user no-such-user: there is no such user in /etc/passwd");
	server_remove(&s);
}

Test(sys, options_come_from_flags_then_variables_then_the_file)
{
	struct server s = server_new();
	char config[80], text[256];
	struct client c;

	snprintf(config, sizeof config, "%s/config", s.dir);
	snprintf(text, sizeof text, "# a remark\nprefix = /from-file\n streams-per-user = 1\nsocket-mode = 0600\n");
	file_write(config, text);
	setenv("SSE_PREFIX", "/from-env", 1);
	setenv("SSE_SOCKET_MODE", "0644", 1);
	server_launch(&s, "--config", config, "--socket-mode", "0640", NULL);
	server_ready(&s, 1);
	c = ask(&s, "GET /from-env/stats/ HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " ANNA "\r\n\r\n");
	cr_assert(c.status == 200);
	client_close(&c);
	{
		struct stat st;

		cr_assert(stat(s.socket, &st) == 0 && (st.st_mode & 0777) == 0640);
	}
	{
		struct stream st = stream_begin(client_open(&s), TARGET("/from-env/events/?token=" ANNA));

		c = client_open(&s);
		client_send(&c, TARGET("/from-env/events/?token=" ANNA));
		expect_put_off(&c);
		stream_close(&st);
	}
	server_stop(&s);
}
