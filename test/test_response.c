/*
 * Answers of Django, and the token of a request: http_response, http_token, http_target_without.
 * A20, A24, H10 .. H38 are rows of FAULTS.md. Each answer is read whole, at every beginning of it and byte
 * by byte, with and without an end of the connection there, always from a heap block of exactly its size.
 */
#include "vectors.h"

#include <stdio.h>

#define STATUS(line) BYTES(line "\r\nContent-Length: 0\r\n\r\n")
/* A head with these lines, and what stands behind it. */
#define ANSWER(lines, rest) BYTES("HTTP/1.1 200 OK\r\n" lines "\r\n" rest)
#define ANSWER10(lines, rest) BYTES("HTTP/1.0 200 OK\r\n" lines "\r\n" rest)
#define EMPTY(lines) ANSWER("Content-Length: 0\r\n" lines, "")
#define EMPTY10(lines) ANSWER10("Content-Length: 0\r\n" lines, "")
#define CHUNKS(body) ANSWER("Transfer-Encoding: chunked\r\n", body)
#define LENGTH(value) ANSWER("Content-Length:" value "\r\n", "hello")
#define CODING(value) ANSWER("Transfer-Encoding:" value "\r\n", "5\r\nhello\r\n0\r\n\r\n")

/* ---- reading, in every way ------------------------------------------------------------------- */

struct seen {
	int64_t got;
	struct http_response r; /* its body lies in the block */
	struct span block;
};

/* Reads a copy of the first n bytes. Until an answer is whole, its bytes must be left alone. */
static struct seen see(const char *name, struct span in, size_t n, bool ended)
{
	struct seen s = {.block = exact((struct span){in.p, n})};
	size_t untouched;

	memset(&s.r, 0xa5, sizeof s.r); /* it may not count on what was there */
	s.got = http_response((char *)(uintptr_t)s.block.p, n, ended, &s.r);
	cr_assert(s.got >= -1 && s.got <= (int64_t)n, "%s: %lld of %zu bytes", name, (long long)s.got, n);
	untouched = s.got > 0 ? (size_t)s.got : 0;
	cr_assert(memcmp(s.block.p + untouched, in.p + untouched, n - untouched) == 0, "%s: bytes changed at %zu",
		name, n);
	if (s.got > 0)
		cr_assert(s.r.body.p >= s.block.p && s.r.body.p + s.r.body.n <= s.block.p + s.got,
			"%s: the body lies elsewhere", name);
	return s;
}

/* The same for a prefix of which no answer is taken. */
static int64_t said(const char *name, struct span in, size_t n, bool ended, int *status)
{
	struct seen s = see(name, in, n, ended);

	*status = s.r.status;
	exact_free(s.block);
	return s.got;
}

/* One block that grows by a byte each time, as a connection's buffer does; *used: how many it took. */
static struct seen see_bytewise(struct span in, bool ended, size_t *used)
{
	struct seen s = {0};
	char *bytes = NULL;

	for (*used = 0; s.got == 0 && *used < in.n;) {
		bytes = realloc(bytes, *used + 1);
		cr_assert_not_null(bytes);
		bytes[*used] = in.p[*used];
		++*used;
		s.got = http_response(bytes, *used, ended && *used == in.n, &s.r);
	}
	s.block = (struct span){bytes, *used};
	return s;
}

/* The next beginning to be tried: of a long input not every one. */
static size_t step(size_t k, size_t n)
{
	if (n <= 3000 || k <= 400 || k + 64 >= n)
		return k + 1;
	return k + k / 8 < n - 64 ? k + k / 8 : n - 64;
}

/* The end of the head that counts: that of the first answer that is not 1xx. */
static size_t head_end(struct span in)
{
	size_t at = 0, next = 0;

	do {
		const char *end = memmem(in.p + next, in.n - next, "\r\n\r\n", 4);

		cr_assert_not_null(end);
		at = next;
		next = (size_t)(end - in.p) + 4;
	} while (in.p[at + 9] == '1');
	return next;
}

/* before, n times fill, after; on the heap. */
static struct span filled(const char *before, const char *fill, size_t n, const char *after)
{
	struct buf b = buf_growable();

	buf_text(&b, before);
	for (size_t i = 0; i < n; i++)
		buf_text(&b, fill);
	buf_text(&b, after);
	cr_assert(!b.failed);
	return buf_view(&b);
}

static void filled_free(struct span s)
{
	free((void *)(uintptr_t)s.p);
}

/* ---- answers that are right -------------------------------------------------------------------- */

struct good {
	const char *name;
	struct span in; /* nothing behind the answer */
	int status;
	struct span body;
	bool until_close;
};

static void expect_seen(const struct good *row, const char *how, const struct seen *s)
{
	cr_expect(s->got == (int64_t)row->in.n, "%s, %s: %lld of %zu bytes", row->name, how, (long long)s->got,
		row->in.n);
	cr_expect_eq(s->r.status, row->status, "%s, %s: status %d", row->name, how, s->r.status);
	if (s->got > 0)
		cr_expect(span_same(s->r.body, row->body), "%s, %s: body of %zu bytes, \"%.*s\"", row->name, how,
			s->r.body.n, (int)s->r.body.n, s->r.body.p);
}

/* No beginning of it is an answer, unless the connection's end is the body's. */
static void expect_beginnings_wait(const struct good *row)
{
	size_t head = head_end(row->in);

	for (size_t k = 0; k < row->in.n; k = step(k, row->in.n)) {
		int open_status, ended_status, status = k < head ? 0 : row->status;
		int64_t open = said(row->name, row->in, k, false, &open_status);
		int64_t ended = said(row->name, row->in, k, true, &ended_status);
		bool good = open == 0 && ended == (row->until_close && k >= head ? (int64_t)k : 0)
			&& open_status == status && ended_status == status;

		cr_expect(good, "%s: after %zu bytes %lld, status %d, and ended there %lld, status %d", row->name, k,
			(long long)open, open_status, (long long)ended, ended_status);
		if (!good)
			return;
	}
}

/* What comes behind it on the connection is neither taken nor looked at. */
static void expect_rest_untouched(const struct good *row)
{
	static const char *const rests[] = {"\r\n", "x", "0\r\n\r\n", "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"};

	for (size_t i = 0; i < COUNT_OF(rests); i++) {
		char name[160];
		struct buf b = buf_growable();
		struct seen s;

		snprintf(name, sizeof name, "more behind it (%zu)", i);
		buf_span(&b, row->in);
		buf_text(&b, rests[i]);
		s = see(row->name, buf_view(&b), b.len, i % 2 == 0);
		expect_seen(row, name, &s);
		exact_free(s.block);
		buf_free(&b);
	}
}

static void expect_good(const struct good *row)
{
	struct seen s = see(row->name, row->in, row->in.n, true);
	size_t used;
	int status;

	expect_seen(row, "ended", &s);
	exact_free(s.block);
	if (row->until_close) {
		cr_expect_eq(said(row->name, row->in, row->in.n, false, &status), 0, "%s: before its end", row->name);
	} else {
		s = see(row->name, row->in, row->in.n, false);
		expect_seen(row, "whole", &s);
		exact_free(s.block);
		expect_rest_untouched(row);
	}
	s = see_bytewise(row->in, row->until_close, &used);
	expect_seen(row, "bytewise", &s);
	filled_free(s.block);
	expect_beginnings_wait(row);
}

static void expect_all_good(const struct good *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		expect_good(&rows[i]);
}

#define EXPECT_GOOD(rows) expect_all_good(rows, COUNT_OF(rows))

/* ---- answers that are wrong -------------------------------------------------------------------- */

struct bad {
	const char *name;
	struct span in;
	int status; /* still known: the mistake is in the body. Of a wrong head nothing is believed */
};

/* No beginning is taken for an answer, and none that was found wrong becomes right again. */
static void expect_bad(const struct bad *row)
{
	bool told = false;

	for (size_t k = 0; k <= row->in.n; k = step(k, row->in.n)) {
		int open_status, ended_status;
		int64_t open = said(row->name, row->in, k, false, &open_status);
		int64_t ended = said(row->name, row->in, k, true, &ended_status);
		bool good = open == ended && open <= (told ? -1 : 0) && open_status == ended_status
			&& (open == 0 || open_status == row->status);

		told |= open < 0;
		cr_expect(good, "%s: after %zu of %zu bytes %lld, status %d, and ended there %lld, status %d", row->name,
			k, row->in.n, (long long)open, open_status, (long long)ended, ended_status);
		if (!good)
			return;
	}
	cr_expect(told, "%s: not refused", row->name);
}

static void expect_all_bad(const struct bad *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		expect_bad(&rows[i]);
}

#define EXPECT_BAD(rows) expect_all_bad(rows, COUNT_OF(rows))

/* Reads one whole answer; false, with a failure, if it is none. */
static bool read_answer(const char *name, struct span in, struct http_response *r)
{
	struct seen s = see(name, in, in.n, false);

	*r = s.r;
	exact_free(s.block);
	cr_expect(s.got == (int64_t)in.n, "%s: %lld of %zu bytes", name, (long long)s.got, in.n);
	return s.got > 0;
}

/* ---- the status line -------------------------------------------------------------------------------- */

static const struct good status_lines[] = {
	{"A20 200", STATUS("HTTP/1.1 200 OK"), 200, BYTES(""), false},
	{"A20 204", STATUS("HTTP/1.1 204 No Content"), 204, BYTES(""), false},
	{"A20 302", STATUS("HTTP/1.1 302 Found\r\nLocation: http://a/"), 302, BYTES(""), false},
	{"304", STATUS("HTTP/1.1 304 Not Modified"), 304, BYTES(""), false},
	{"401", STATUS("HTTP/1.1 401 Unauthorized"), 401, BYTES(""), false},
	{"403", STATUS("HTTP/1.1 403 Forbidden"), 403, BYTES(""), false},
	{"A20 500", STATUS("HTTP/1.1 500 Internal Server Error"), 500, BYTES(""), false},
	{"599", STATUS("HTTP/1.1 599 x"), 599, BYTES(""), false},
	{"without a reason", STATUS("HTTP/1.1 200"), 200, BYTES(""), false},
	{"empty reason", STATUS("HTTP/1.1 200 "), 200, BYTES(""), false},
	{"other reason", STATUS("HTTP/1.1 200 Not found, 404!"), 200, BYTES(""), false},
	{"8-bit reason", STATUS("HTTP/1.1 403 Zugang verwehrt f\xc3\xbcr"), 403, BYTES(""), false},
	{"HTTP/1.0", STATUS("HTTP/1.0 200 OK"), 200, BYTES(""), false},
	{"later 1.x (RFC 9110 2.5)", STATUS("HTTP/1.9 200 OK"), 200, BYTES(""), false},
};

static const struct bad bad_status_lines[] = {
	{"status 099", STATUS("HTTP/1.1 099 x"), 0},
	{"status 000", STATUS("HTTP/1.1 000 x"), 0},
	{"status 1000", STATUS("HTTP/1.1 1000 x"), 0},
	{"status 2000", STATUS("HTTP/1.1 2000 x"), 0},
	{"status 20x", STATUS("HTTP/1.1 20x OK"), 0},
	{"status 2x0", STATUS("HTTP/1.1 2x0 OK"), 0},
	{"status x00", STATUS("HTTP/1.1 x00 OK"), 0},
	{"status 20", STATUS("HTTP/1.1 20 OK"), 0},
	{"status 20, no reason", STATUS("HTTP/1.1 20"), 0},
	{"status -20", STATUS("HTTP/1.1 -20 OK"), 0},
	{"status +20", STATUS("HTTP/1.1 +20 OK"), 0},
	{"status above 9", STATUS("HTTP/1.1 :00 OK"), 0},
	{"status below 0", STATUS("HTTP/1.1 2/0 OK"), 0},
	{"no status", STATUS("HTTP/1.1"), 0},
	{"no status, a space", STATUS("HTTP/1.1 "), 0},
	{"reason only", STATUS("HTTP/1.1 OK"), 0},
	{"200OK", STATUS("HTTP/1.1 200OK"), 0},
	{"tab behind the status", STATUS("HTTP/1.1 200\tOK"), 0},
	{"tab behind the version", STATUS("HTTP/1.1\t200 OK"), 0},
	{"letter behind the version", STATUS("HTTP/1.1x200 OK"), 0},
	{"two spaces behind the version", STATUS("HTTP/1.1  200 OK"), 0},
	{"no space behind the version", STATUS("HTTP/1.1200 OK"), 0},
	{"HTTP/1.10", STATUS("HTTP/1.10 200 OK"), 0},
	{"HTTP/1.x", STATUS("HTTP/1.x 200 OK"), 0},
	{"HTTP/1.", STATUS("HTTP/1. 200 OK"), 0},
	{"HTTP/1./", STATUS("HTTP/1./ 200 OK"), 0},
	{"HTTP/1.:", STATUS("HTTP/1.: 200 OK"), 0},
	{"HTTP/1", STATUS("HTTP/1 200 OK"), 0},
	{"HTTP/2", STATUS("HTTP/2 200"), 0},
	{"HTTP/2.0", STATUS("HTTP/2.0 200 OK"), 0},
	{"HTTP/0.9", STATUS("HTTP/0.9 200 OK"), 0},
	{"HTTP/1,1", STATUS("HTTP/1,1 200 OK"), 0},
	{"http/1.1", STATUS("http/1.1 200 OK"), 0},
	{"HTTPS/1.1", STATUS("HTTPS/1.1 200 OK"), 0},
	{"ICY", STATUS("ICY 200 OK"), 0},
	{"space first", STATUS(" HTTP/1.1 200 OK"), 0},
	{"empty line first", STATUS("\r\nHTTP/1.1 200 OK"), 0},
	{"LF first", BYTES("\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 0},
	{"LF first, no line", BYTES("\n\r\n\r\n"), 0},
	{"a header first", BYTES("Content-Length: 0\r\n\r\n"), 0},
	{"empty lines", BYTES("\r\n\r\n"), 0},
	{"a request", BYTES("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 0},
};

Test(response, a_status_line_says_http_1_and_three_digits)
{
	EXPECT_GOOD(status_lines);
	EXPECT_BAD(bad_status_lines);
}

/* A20: something else listens there. It must be said at once, not when the time is up. */
Test(response, A20_what_is_not_http_1_is_refused_with_the_byte_that_shows_it)
{
	static const struct {
		const char *name;
		struct span in;
		size_t used; /* bytes that must be enough */
	} rows[] = {
		{"TLS alert", BYTES("\x15\x03\x01\x00\x02\x02\x46"), 1},
		{"SSH banner", BYTES("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), 1},
		{"HTML without a head", BYTES("<html><h1>Bad Request</h1></html>\r\n\r\n"), 1},
		{"JSON without a head", BYTES("{\"user\":\"56\"}\r\n\r\n"), 1},
		{"HTTP/2 settings", BYTES("\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80"), 1},
		{"NUL", BYTES("\0"), 1},
		{"http/1.1", BYTES("http/1.1 200 OK\r\n\r\n"), 1},
		{"empty line first", BYTES("\r\nHTTP/1.1 200 OK\r\n\r\n"), 1},
		{"redis", BYTES("-ERR wrong number of arguments\r\n"), 1},
		{"a host's name", BYTES("HTTPD ready\r\n"), 5},
		{"HTTP/2", BYTES("HTTP/2 200\r\n\r\n"), 6},
		{"HTTP/11", BYTES("HTTP/11 200\r\n\r\n"), 7},
		{"behind a 100", BYTES("HTTP/1.1 100 Continue\r\n\r\n<html>"), 26},
		{"behind two", BYTES("HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 \r\n\r\nHTTP/2"), 40},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct bad row = {rows[i].name, rows[i].in, 0};
		size_t used;
		struct seen s = see_bytewise(rows[i].in, false, &used);

		filled_free(s.block);
		cr_expect_eq(s.got, -1, "%s: %lld", rows[i].name, (long long)s.got);
		cr_expect_eq(used, rows[i].used, "%s: after %zu bytes", rows[i].name, used);
		expect_bad(&row);
	}
}

/* ---- what is not whole --------------------------------------------------------------------------------- */

static void expect_waits(const char *name, struct span in, int status)
{
	for (int ended = 0; ended < 2; ended++) {
		int got_status;
		int64_t got = said(name, in, in.n, ended != 0, &got_status);

		cr_expect_eq(got, 0, "%s, ended %d: %lld", name, ended, (long long)got);
		cr_expect_eq(got_status, status, "%s, ended %d: status %d", name, ended, got_status);
	}
}

Test(response, A20_an_answer_cut_off_is_none)
{
	static const struct {
		const char *name;
		struct span in;
		int status;
	} rows[] = {
		{"A20 nothing", BYTES(""), 0},
		{"half a status line", BYTES("HTTP/1.1 20"), 0},
		{"status line, CR", BYTES("HTTP/1.1 200 OK\r"), 0},
		{"status line alone", BYTES("HTTP/1.1 200 OK\r\n"), 0},
		{"status line, CR LF CR", BYTES("HTTP/1.1 200 OK\r\n\r"), 0},
		{"half a head", BYTES("HTTP/1.1 401 No\r\nContent-Le"), 0},
		{"A20 length too great", ANSWER("Content-Length: 6\r\n", "hello"), 200},
		{"A20 length without a body", ANSWER("Content-Length: 1\r\n", ""), 200},
		{"length of 18 digits", ANSWER("Content-Length: 999999999999999999\r\n", "hello"), 200},
		{"a denial cut off", BYTES("HTTP/1.1 401 No\r\nContent-Length: 6\r\n\r\nhello"), 401},
		{"chunks, nothing", CHUNKS(""), 200},
		{"chunks, half a size", CHUNKS("5"), 200},
		{"chunks, size and CR", CHUNKS("5\r"), 200},
		{"chunks, size alone", CHUNKS("5\r\n"), 200},
		{"chunks, half a chunk", CHUNKS("5\r\nhel"), 200},
		{"chunks, no line end behind data", CHUNKS("5\r\nhello"), 200},
		{"chunks, CR behind data", CHUNKS("5\r\nhello\r"), 200},
		{"chunks, no last one", CHUNKS("5\r\nhello\r\n"), 200},
		{"chunks, the last without its end", CHUNKS("5\r\nhello\r\n0\r\n"), 200},
		{"chunks, the last with half its end", CHUNKS("5\r\nhello\r\n0\r\n\r"), 200},
		{"chunks, half a trailer", CHUNKS("0\r\nA: b"), 200},
		{"chunks, a trailer without the end", CHUNKS("0\r\nA: b\r\n"), 200},
		{"chunk of 16384 bytes to come", CHUNKS("4000\r\n"), 200},
		{"1xx alone", BYTES("HTTP/1.1 100 Continue\r\n\r\n"), 0},
		{"1xx, half a head", BYTES("HTTP/1.1 103 \r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nConten"), 0},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++)
		expect_waits(rows[i].name, rows[i].in, rows[i].status);
}

/* ---- answers before the final one ------------------------------------------------------------------------- */

static const struct good interim[] = {
	{"100", BYTES("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), 200, BYTES("{}"), false},
	{"103 and 100", BYTES("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 100 \r\n\r\n"
		"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\n{}"), 403, BYTES("{}"), false},
	{"102 without a reason, 199", BYTES("HTTP/1.1 102\r\n\r\nHTTP/1.1 199 x\r\n\r\nHTTP/1.1 401 \r\nContent-Length: 0\r\n\r\n"),
		401, BYTES(""), false},
	{"1xx has no body (RFC 9112 6.3)", BYTES("HTTP/1.1 103 x\r\nContent-Length: 5\r\n\r\n"
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), 200, BYTES("{}"), false},
	{"1xx has no chunks", BYTES("HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n"
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), 200, BYTES("{}"), false},
	{"100, then chunks", BYTES("HTTP/1.1 100 \r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
		"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"), 200, BYTES("{}"), false},
	{"100, then until close", BYTES("HTTP/1.1 100 \r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}"), 200, BYTES("{}"), true},
};

static const struct bad bad_interim[] = {
	{"100 with a bad header", BYTES("HTTP/1.1 100 \r\nA\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 0},
	{"a bad status behind 100", BYTES("HTTP/1.1 100 \r\n\r\nHTTP/1.1 099 x\r\nContent-Length: 0\r\n\r\n"), 0},
	{"a bad header behind 100", BYTES("HTTP/1.1 100 \r\n\r\nHTTP/1.1 200 x\r\nA\r\n\r\n"), 0},
	{"a bad body behind 100", BYTES("HTTP/1.1 100 \r\n\r\nHTTP/1.1 403 x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"), 403},
};

Test(response, answers_before_the_final_one_are_passed_over)
{
	EXPECT_GOOD(interim);
	EXPECT_BAD(bad_interim);
}

/* What such an answer says of itself is not said of the final one. */
Test(response, nothing_of_an_interim_answer_counts)
{
	struct http_response r;

	if (read_answer("close", (struct span)BYTES("HTTP/1.1 103 x\r\nConnection: close\r\nCache-Control: max-age=7\r\n\r\n"
			"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), &r)) {
		cr_expect(r.keep_alive);
		cr_expect_eq(r.max_age_s, -1);
	}
	if (read_answer("1.0", (struct span)BYTES("HTTP/1.1 103 x\r\nConnection: keep-alive\r\nCache-Control: no-store\r\n\r\n"
			"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nCache-Control: max-age=7\r\n\r\n"), &r)) {
		cr_expect(!r.keep_alive);
		cr_expect_eq(r.max_age_s, 7);
	}
}

Test(response, A20_endless_answers_before_the_final_one_are_none)
{
	struct span in = filled("", "HTTP/1.1 100 Continue\r\n\r\n", MAX_ANSWER / 25, "");

	expect_waits("endless 100", in, 0);
	filled_free(in);
}

/* ---- bodies with a length ------------------------------------------------------------------------------------ */

static const struct good lengths[] = {
	{"0", ANSWER("Content-Length: 0\r\n", ""), 200, BYTES(""), false},
	{"1", ANSWER("Content-Length: 1\r\n", "x"), 200, BYTES("x"), false},
	{"10", ANSWER("Content-Length: 10\r\n", "0123456789"), 200, BYTES("0123456789"), false},
	{"zeros in front", ANSWER("Content-Length: 000005\r\n", "hello"), 200, BYTES("hello"), false},
	{"no blank", LENGTH("5"), 200, BYTES("hello"), false},
	{"blanks around", LENGTH(" \t5 \t"), 200, BYTES("hello"), false},
	{"any case", ANSWER("content-LENGTH: 5\r\n", "hello"), 200, BYTES("hello"), false},
	{"among others", ANSWER("Content-Type: a/b\r\nContent-Length: 5\r\nX-Content-Length: 6\r\n", "hello"), 200,
		BYTES("hello"), false},
	{"line ends and NUL in it", ANSWER("Content-Length: 8\r\n", "\r\n\r\n\0\r\r\n"), 200, BYTES("\r\n\r\n\0\r\r\n"), false},
	{"an answer in it", ANSWER("Content-Length: 19\r\n", "HTTP/1.1 500 x\r\n\r\n!"), 200, BYTES("HTTP/1.1 500 x\r\n\r\n!"),
		false},
	{"A20 500 with a body", BYTES("HTTP/1.1 500 x\r\nContent-Length: 5\r\n\r\nhello"), 500, BYTES("hello"), false},
	{"A20 302 with a body", BYTES("HTTP/1.1 302 x\r\nContent-Length: 5\r\n\r\nhello"), 302, BYTES("hello"), false},
	{"401 with a body", BYTES("HTTP/1.1 401 x\r\nContent-Length: 5\r\n\r\nhello"), 401, BYTES("hello"), false},
	{"205 with a body", BYTES("HTTP/1.1 205 x\r\nContent-Length: 5\r\n\r\nhello"), 205, BYTES("hello"), false},
	{"HTTP/1.0", ANSWER10("Content-Length: 5\r\n", "hello"), 200, BYTES("hello"), false},
};

/* A20. RFC 9112 6.3: what has no body by its status has none, whatever its headers say. */
static const struct good bodiless[] = {
	{"204", BYTES("HTTP/1.1 204 x\r\n\r\n"), 204, BYTES(""), false},
	{"304", BYTES("HTTP/1.1 304 x\r\n\r\n"), 304, BYTES(""), false},
	{"204 with a length", BYTES("HTTP/1.1 204 x\r\nContent-Length: 5\r\n\r\n"), 204, BYTES(""), false},
	{"304 with a length", BYTES("HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n"), 304, BYTES(""), false},
	{"204 with chunks", BYTES("HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n"), 204, BYTES(""), false},
	{"304 with chunks", BYTES("HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\n"), 304, BYTES(""), false},
	{"204 of HTTP/1.0", BYTES("HTTP/1.0 204 x\r\n\r\n"), 204, BYTES(""), false},
};

static const struct bad bad_lengths[] = {
	{"H16 two, different", ANSWER("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), 0},
	{"H16 two, equal", ANSWER("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 0},
	{"H16 two of 0", ANSWER("Content-Length: 0\r\nContent-Length: 0\r\n", ""), 0},
	{"H16 two, other case", ANSWER("Content-Length: 5\r\nX: y\r\ncontent-length: 6\r\n", "hello"), 0},
	{"H16 two, the first bad", ANSWER("Content-Length: x\r\nContent-Length: 5\r\n", "hello"), 0},
	{"H16 two, the second empty", ANSWER("Content-Length: 5\r\nContent-Length:\r\n", "hello"), 0},
	{"H16 list of equal ones", LENGTH(" 5, 5"), 0},
	{"H16 list", LENGTH(" 5,6"), 0},
	{"H17 empty", LENGTH(""), 0},
	{"H17 blanks", LENGTH("  \t"), 0},
	{"H17 +5", LENGTH(" +5"), 0},
	{"H17 -1", LENGTH(" -1"), 0},
	{"H17 -0", LENGTH(" -0"), 0},
	{"H17 0x5", LENGTH(" 0x5"), 0},
	{"H17 5 5", LENGTH(" 5 5"), 0},
	{"H17 1_0", LENGTH(" 1_0"), 0},
	{"H17 5;", LENGTH(" 5;"), 0},
	{"H17 5.0", LENGTH(" 5.0"), 0},
	{"H17 1e3", LENGTH(" 1e3"), 0},
	{"H17 below 0", LENGTH(" /"), 0},
	{"H17 above 9", LENGTH(" :"), 0},
	{"H17 8-bit", LENGTH(" 5\xa0"), 0},
	{"H17 quoted", LENGTH(" \"5\""), 0},
	{"H17 2^63", LENGTH(" 9223372036854775808"), 0},
	{"H17 2^64", LENGTH(" 18446744073709551616"), 0},
	{"H17 2^64+5", LENGTH(" 18446744073709551621"), 0},
	{"H17 2^128+5", LENGTH(" 340282366920938463463374607431768211461"), 0},
	{"H17 in a denial", BYTES("HTTP/1.1 401 x\r\nContent-Length: x\r\n\r\n"), 0},
	{"H15 length, then encoding", ANSWER("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 0},
	{"H15 encoding, then length", ANSWER("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), 0},
	{"H15 length 0 and encoding", ANSWER("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 0},
	{"H15 any case", ANSWER("transfer-ENCODING: CHUNKED\r\ncontent-LENGTH: 5\r\n", "0\r\n\r\n"), 0},
	{"H15 in a denial", BYTES("HTTP/1.1 403 x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 0},
	{"H15 length and unknown encoding", ANSWER("Content-Length: 5\r\nTransfer-Encoding: gzip\r\n", "hello"), 0},
};

static const struct bad bad_codings[] = {
	{"H18 gzip", CODING(" gzip"), 0},
	{"H18 identity", CODING(" identity"), 0},
	{"H18 chunked, gzip", CODING(" chunked, gzip"), 0},
	{"H18 gzip, chunked", CODING(" gzip, chunked"), 0},
	{"H18 chunked, chunked", CODING(" chunked, chunked"), 0},
	{"H18 ,chunked", CODING(" ,chunked"), 0},
	{"H18 chunked,", CODING(" chunked,"), 0},
	{"H18 xchunked", CODING(" xchunked"), 0},
	{"H18 chunkedx", CODING(" chunkedx"), 0},
	{"H18 chunke", CODING(" chunke"), 0},
	{"H18 \"chunked\"", CODING(" \"chunked\""), 0},
	{"H18 chunked;a=b", CODING(" chunked;a=b"), 0},
	{"H18 chunked\\x0b", CODING(" chunked\x0b"), 0},
	{"H18 8-bit blank", CODING(" chunked\xa0"), 0},
	{"H18 empty", CODING(""), 0},
	{"H18 two lines of chunked", CODING(" chunked\r\nTransfer-Encoding: chunked"), 0},
	{"H18 identity, then chunked", CODING(" identity\r\nTransfer-Encoding: chunked"), 0},
	{"H18 chunked, then gzip", CODING(" chunked\r\nTransfer-Encoding: gzip"), 0},
	{"H18 chunked, then empty", CODING(" chunked\r\nTransfer-Encoding:"), 0},
	{"H18 in a denial", BYTES("HTTP/1.1 401 x\r\nTransfer-Encoding: gzip\r\n\r\n"), 0},
};

/* H19. RFC 9112 6.1: the framing of a message of HTTP/1.0 with an encoding MUST be taken as faulty. */
static const struct bad codings_in_http10[] = {
	{"H19 chunked", ANSWER10("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), 0},
	{"H19 chunked, keep-alive", ANSWER10("Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 0},
};

Test(response, a_body_is_as_long_as_its_length)
{
	EXPECT_GOOD(lengths);
}

Test(response, what_can_have_no_body_has_none)
{
	EXPECT_GOOD(bodiless);
}

Test(response, A20_a_length_that_can_be_read_in_two_ways_is_refused)
{
	EXPECT_BAD(bad_lengths);
}

Test(response, A20_no_encoding_but_chunked_is_known)
{
	EXPECT_BAD(bad_codings);
}

Test(response, A20_there_is_no_encoding_in_http_1_0)
{
	EXPECT_BAD(codings_in_http10);
}

/* ---- bodies until close --------------------------------------------------------------------------------------- */

static const struct good until_close[] = {
	{"HTTP/1.1", ANSWER("", "hello"), 200, BYTES("hello"), true},
	{"HTTP/1.0", ANSWER10("Content-Type: a/b\r\n", "hello"), 200, BYTES("hello"), true},
	{"empty", ANSWER("Connection: close\r\n", ""), 200, BYTES(""), true},
	{"a denial", BYTES("HTTP/1.1 401 x\r\n\r\nhello"), 401, BYTES("hello"), true},
	{"chunks that are none", ANSWER("", "5\r\nhello\r\n0\r\n\r\n"), 200, BYTES("5\r\nhello\r\n0\r\n\r\n"), true},
	{"an answer in it", ANSWER("", "HTTP/1.1 500 x\r\n\r\n"), 200, BYTES("HTTP/1.1 500 x\r\n\r\n"), true},
	{"NUL in it", ANSWER("", "\0\0"), 200, BYTES("\0\0"), true},
};

Test(response, a_body_without_a_length_ends_with_the_connection)
{
	EXPECT_GOOD(until_close);
}

Test(response, a_connection_that_ended_is_not_used_again)
{
	static const struct span rows[] = {
		ANSWER("", "hello"), ANSWER("Connection: keep-alive\r\n", "hello"),
		ANSWER10("Connection: keep-alive\r\n", "hello"), ANSWER("Connection: keep-alive\r\n", ""),
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct seen s = see("until close", rows[i], rows[i].n, true);

		cr_expect_eq(s.got, (int64_t)rows[i].n, "row %zu", i);
		cr_expect(!s.r.keep_alive, "row %zu", i);
		exact_free(s.block);
	}
}

/* ---- bodies in chunks ----------------------------------------------------------------------------------------- */

static const struct good chunks[] = {
	{"one", CHUNKS("5\r\nhello\r\n0\r\n\r\n"), 200, BYTES("hello"), false},
	{"none", CHUNKS("0\r\n\r\n"), 200, BYTES(""), false},
	{"several", CHUNKS("1\r\nh\r\n3\r\nell\r\n1\r\no\r\n0\r\n\r\n"), 200, BYTES("hello"), false},
	{"many, growing", CHUNKS("1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n4\r\nghij\r\n5\r\nklmno\r\n6\r\npqrstu\r\n0\r\n\r\n"), 200,
		BYTES("abcdefghijklmnopqrstu"), false},
	{"the second longer than what was cut out", CHUNKS("1\r\n<\r\n1f\r\n0123456789012345678901234567890\r\n0\r\n\r\n"), 200,
		BYTES("<0123456789012345678901234567890"), false},
	{"lower case", CHUNKS("a\r\n0123456789\r\n0\r\n\r\n"), 200, BYTES("0123456789"), false},
	{"upper case", CHUNKS("A\r\n0123456789\r\n0\r\n\r\n"), 200, BYTES("0123456789"), false},
	{"f and F", CHUNKS("f\r\n0123456789abcde\r\nF\r\n0123456789ABCDE\r\n0\r\n\r\n"), 200,
		BYTES("0123456789abcde0123456789ABCDE"), false},
	{"two digits", CHUNKS("1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n"), 200, BYTES("abcdefghijklmnopqrstuvwxyz"), false},
	{"zeros in front", CHUNKS("0005\r\nhello\r\n0\r\n\r\n"), 200, BYTES("hello"), false},
	{"H20 17 digits, all but one zeros", CHUNKS("00000000000000005\r\nhello\r\n0\r\n\r\n"), 200, BYTES("hello"), false},
	{"zeros as the last", CHUNKS("5\r\nhello\r\n000\r\n\r\n"), 200, BYTES("hello"), false},
	{"extension", CHUNKS("5;a\r\nhello\r\n0\r\n\r\n"), 200, BYTES("hello"), false},
	{"extension with a value", CHUNKS("5;a=b;c=d\r\nhello\r\n0\r\n\r\n"), 200, BYTES("hello"), false},
	{"extension with a string", CHUNKS("5;a=\"b c;d\"\r\nhello\r\n0\r\n\r\n"), 200, BYTES("hello"), false},
	{"extension of the last", CHUNKS("5\r\nhello\r\n0;a=b\r\n\r\n"), 200, BYTES("hello"), false},
	{"extension of digits", CHUNKS("5;6\r\nhello\r\n0\r\n\r\n"), 200, BYTES("hello"), false},
	{"space before the extension", CHUNKS("5 ; a = b\r\nhello\r\n0\r\n\r\n"), 200, BYTES("hello"), false},
	{"trailer", CHUNKS("5\r\nhello\r\n0\r\nA: b\r\n\r\n"), 200, BYTES("hello"), false},
	{"two trailers", CHUNKS("5\r\nhello\r\n0\r\nA: b\r\nC:\r\n\r\n"), 200, BYTES("hello"), false},
	{"trailers, no chunk", CHUNKS("0\r\nA: b\r\nC: d\r\n\r\n"), 200, BYTES(""), false},
	{"line ends in it", CHUNKS("6\r\n\r\n\r\n\r\n\r\n0\r\n\r\n"), 200, BYTES("\r\n\r\n\r\n"), false},
	{"a last chunk in it", CHUNKS("5\r\n0\r\n\r\n\r\n0\r\n\r\n"), 200, BYTES("0\r\n\r\n"), false},
	{"bare line ends and NUL in it", CHUNKS("3\r\n\n\r\0\r\n0\r\n\r\n"), 200, BYTES("\n\r\0"), false},
	{"any case", ANSWER("TRANSFER-encoding: CHUNKed\r\n", "5\r\nhello\r\n0\r\n\r\n"), 200, BYTES("hello"), false},
	{"blanks around", CODING("\t chunked \t"), 200, BYTES("hello"), false},
	{"no blank", CODING("chunked"), 200, BYTES("hello"), false},
	{"a denial", BYTES("HTTP/1.1 403 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), 403, BYTES("hello"),
		false},
};

/* RFC 9112 7.1.1 and RFC 9110 5.6.3: BWS, a space or a tab, MUST be parsed and removed. */
static const struct good chunk_blanks[] = {
	{"tab before the extension", CHUNKS("5\t;a\r\nhello\r\n0\r\n\r\n"), 200, BYTES("hello"), false},
	{"blanks before the extension", CHUNKS("5 \t ;a\r\nhello\r\n0\r\n\r\n"), 200, BYTES("hello"), false},
};

/* The status stays known: a denial counts though its body is broken. */
static const struct bad bad_chunks[] = {
	{"H20 size empty", CHUNKS("\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 size empty, then the end", CHUNKS("\r\n\r\n"), 200},
	{"H20 size empty behind a chunk", CHUNKS("5\r\nhello\r\n\r\n\r\n"), 200},
	{"H20 size missing, then the end", CHUNKS(";a\r\n\r\n"), 200},
	{"H20 size missing before an extension", CHUNKS(";a\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 0x5", CHUNKS("0x5\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 -1", CHUNKS("-1\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 +5", CHUNKS("+5\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 space first", CHUNKS(" 5\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 5h", CHUNKS("5h\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 g", CHUNKS("g\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 5,5", CHUNKS("5,5\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 8-bit", CHUNKS("5\xa0\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 NUL behind it", CHUNKS("5\0\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 16385", CHUNKS("4001\r\n"), 200},
	{"H20 more than 16384, digits to come", CHUNKS("5\r\nhello\r\n40000\r\n"), 200},
	{"H20 2^31", CHUNKS("80000000\r\n"), 200},
	{"H20 2^32+5", CHUNKS("100000005\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 2^64-1", CHUNKS("ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 2^64-2, its end before it", CHUNKS("fffffffffffffffe\r\n\r\n0\r\n\r\n"), 200},
	{"H20 17 digits, 2^64", CHUNKS("10000000000000000\r\n\r\n"), 200},
	{"H20 17 digits, 2^64+5", CHUNKS("10000000000000005\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 17 digits, f", CHUNKS("fffffffffffffffff\r\nhello\r\n0\r\n\r\n"), 200},
	{"H21 no line end behind data", CHUNKS("5\r\nhello0\r\n\r\n"), 200},
	{"H21 more data than said", CHUNKS("5\r\nhello!\r\n0\r\n\r\n"), 200},
	{"H21 less data than said", CHUNKS("6\r\nhello\r\n0\r\n\r\n"), 200},
	{"H21 LF behind data", CHUNKS("5\r\nhello\n0\r\n\r\n"), 200},
	{"H21 CR behind data", CHUNKS("5\r\nhello\r0\r\n\r\n"), 200},
	{"H21 LF CR behind data", CHUNKS("5\r\nhello\n\r0\r\n\r\n"), 200},
	{"H21 CR and a letter behind data", CHUNKS("5\r\nhello\rX0\r\n\r\n"), 200},
	{"H21 a letter and LF behind data", CHUNKS("5\r\nhelloX\n0\r\n\r\n"), 200},
	{"H21 two line ends behind data", CHUNKS("5\r\nhello\r\n\r\n0\r\n\r\n"), 200},
	{"H21 bare LF behind the size", CHUNKS("5\nhello\r\n0\r\n\r\n"), 200},
	{"H21 bare LF first", CHUNKS("\n5\r\nhello\r\n0\r\n\r\n"), 200},
	{"H21 bare LF in an extension", CHUNKS("5;a\nb\r\nhello\r\n0\r\n\r\n"), 200},
	{"H21 bare CR in an extension", CHUNKS("5;a\rb\r\nhello\r\n0\r\n\r\n"), 200},
	{"H21 bare CR behind the size", CHUNKS("5\rhello\r\n0\r\n\r\n"), 200},
	{"H21 CR CR LF", CHUNKS("5\r\r\nhello\r\n0\r\n\r\n"), 200},
	{"H21 bare LF behind the last", CHUNKS("5\r\nhello\r\n0\n\r\n"), 200},
	{"H21 bare LF at the end", CHUNKS("5\r\nhello\r\n0\r\n\n"), 200},
	{"H21 bare LF behind a trailer", CHUNKS("0\r\nA: b\n\r\n"), 200},
	{"H21 bare LF behind trailers", CHUNKS("0\r\nA: b\r\n\n"), 200},
	{"H21 bare CR in a trailer", CHUNKS("0\r\nA: b\rc\r\n\r\n"), 200},
	{"the second chunk wrong", CHUNKS("5\r\nhello\r\nx\r\n\r\n0\r\n\r\n"), 200},
	{"a body that is not in chunks", CHUNKS("{\"user\":\"56\"}\r\n"), 200},
	{"401", BYTES("HTTP/1.1 401 x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n"), 401},
	{"403", BYTES("HTTP/1.1 403 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!!"), 403},
	{"A20 500", BYTES("HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n\n"), 500},
};

static const struct bad bad_chunk_sizes[] = {
	{"H20 5 and a space", CHUNKS("5 \r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 5 5", CHUNKS("5 5\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 5 and a word", CHUNKS("5 a=b\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 5 and a tab", CHUNKS("5\t\r\nhello\r\n0\r\n\r\n"), 200},
	{"H20 0 and a space", CHUNKS("0 \r\n\r\n"), 200},
};

/*
 * H21, A24: what is no trailer ends the body wrongly. If the empty line is missing, the next answer on this
 * connection would be taken for trailers.
 */
static const struct bad bad_trailers[] = {
	{"H21 XX", CHUNKS("5\r\nhello\r\n0\r\nXX\r\n\r\n"), 200},
	{"H21 more data", CHUNKS("5\r\nhello\r\n0\r\nhello\r\n0\r\n\r\n"), 200},
	{"A24 the next answer", CHUNKS("0\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 200},
	{"second line no trailer", CHUNKS("0\r\nA: b\r\nXX\r\n\r\n"), 200},
};

Test(response, chunks_are_put_together)
{
	EXPECT_GOOD(chunks);
}

Test(response, blanks_before_an_extension_are_passed_over)
{
	EXPECT_GOOD(chunk_blanks);
}

Test(response, A20_chunks_that_can_be_read_in_two_ways_are_refused)
{
	EXPECT_BAD(bad_chunks);
}

Test(response, behind_a_chunk_s_size_stands_nothing_but_extensions)
{
	EXPECT_BAD(bad_chunk_sizes);
}

Test(response, behind_the_last_chunk_stand_headers)
{
	EXPECT_BAD(bad_trailers);
}

/* RFC 9110 6.5.1: a trailer is not a header. */
Test(response, H22_trailers_say_nothing)
{
	struct http_response r;

	if (read_answer("trailers", (struct span)CHUNKS("0\r\nConnection: close\r\nCache-Control: max-age=7\r\nContent-Length: 9\r\n"
			"Transfer-Encoding: gzip\r\n\r\n"), &r)) {
		cr_expect(r.keep_alive);
		cr_expect_eq(r.max_age_s, -1);
		cr_expect_eq(r.body.n, 0);
	}
}

static void expect_chunk_line(const char *name, const char *before, size_t n, const char *after, int64_t got)
{
	struct span in = filled(before, "x", n, after);

	if (got < 0) {
		struct bad row = {name, in, 200};

		expect_bad(&row);
	} else {
		struct good row = {name, in, 200, BYTES("hello"), false};

		expect_good(&row);
	}
	filled_free(in);
}

#define CHUNKED_HEAD "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

/* H21: the size's line has at most 256 bytes. */
Test(response, H21_a_chunk_s_line_has_an_end)
{
	expect_chunk_line("254 bytes and a line end", CHUNKED_HEAD "5;", 252, "\r\nhello\r\n0\r\n\r\n", 1);
	expect_chunk_line("a last one of 254", CHUNKED_HEAD "5\r\nhello\r\n0;", 252, "\r\n\r\n", 1);
	expect_chunk_line("300 bytes without an end", CHUNKED_HEAD "5;", 298, "", -1);
	expect_chunk_line("1 MB without an end", CHUNKED_HEAD "5;", 1 << 20, "", -1);
	expect_chunk_line("300 bytes of zeros and more", CHUNKED_HEAD "0", 300, "", -1);
}

/* The answer does not depend on how the packets were cut: a long line is refused, too, when it comes at once. */
Test(response, H21_a_chunk_s_line_too_long_is_that_however_it_comes)
{
	expect_chunk_line("300 bytes", CHUNKED_HEAD "5;", 298, "\r\nhello\r\n0\r\n\r\n", -1);
	expect_chunk_line("1 MB", CHUNKED_HEAD "5;", 1 << 20, "\r\nhello\r\n0\r\n\r\n", -1);
	expect_chunk_line("a last one of 300", CHUNKED_HEAD "5\r\nhello\r\n0;", 298, "\r\n\r\n", -1);
	for (size_t n = 245; n < 270; n++) {
		struct span in = filled(CHUNKED_HEAD "5;", "x", n, "\r\nhello\r\n0\r\n\r\n");
		size_t used;
		struct seen bytewise = see_bytewise(in, false, &used);
		int status;
		int64_t whole = said("chunk line", in, in.n, false, &status);

		cr_expect_eq(whole, bytewise.got, "line of %zu bytes: %lld whole, %lld bytewise", n + 2, (long long)whole,
			(long long)bytewise.got);
		filled_free(bytewise.block);
		filled_free(in);
	}
}

/* The greatest chunk there may be, and one byte more. */
Test(response, H20_A20_a_chunk_is_no_longer_than_an_answer)
{
	struct span body = filled("", "y", MAX_ANSWER, ""), in = filled(CHUNKED_HEAD "4000\r\n", "y", MAX_ANSWER, "\r\n0\r\n\r\n");
	struct span longer = filled(CHUNKED_HEAD "4001\r\n", "y", MAX_ANSWER + 1, "\r\n0\r\n\r\n");
	struct good good = {"16384", in, 200, body, false};
	struct bad bad = {"16385", longer, 200};

	expect_good(&good);
	expect_bad(&bad);
	filled_free(longer);
	filled_free(in);
	filled_free(body);
}

Test(response, a_body_of_many_chunks_is_put_together)
{
	struct span body = filled("", "abc", 400, ""), in = filled(CHUNKED_HEAD, "1\r\na\r\n2;x=y\r\nbc\r\n", 400, "0\r\nT: u\r\n\r\n");
	struct good good = {"800 chunks", in, 200, body, false};

	expect_good(&good);
	filled_free(in);
	filled_free(body);
}

/* H22 */
Test(response, H22_endless_trailers_are_no_answer)
{
	struct span in = filled(CHUNKED_HEAD "0\r\n", "A: b\r\n", 10000, "");

	expect_waits("10000 trailers", in, 200);
	filled_free(in);
}

/* ---- headers --------------------------------------------------------------------------------------------------- */

static const struct good headers[] = {
	{"none but the length", EMPTY(""), 200, BYTES(""), false},
	{"empty value", EMPTY("A:\r\nB: \r\nC: \t \r\n"), 200, BYTES(""), false},
	{"colons in a value", EMPTY("Date: 08:49:37\r\nA::\r\n"), 200, BYTES(""), false},
	{"H13 8-bit value", EMPTY("A: \xc3\xa9\xa0\x85\r\n"), 200, BYTES(""), false},
	{"blanks in a value", EMPTY("A:\ta \t b\r\n"), 200, BYTES(""), false},
	{"every byte of a name", EMPTY("!#$%&'*+-.^_`|~09azAZ: b\r\n"), 200, BYTES(""), false},
	{"the same twice", EMPTY("Set-Cookie: a\r\nSet-Cookie: b\r\n"), 200, BYTES(""), false},
	{"names that are longer", EMPTY("Content-Length2: 5\r\nTransfer-Encodings: gzip\r\nX: chunked\r\n"), 200, BYTES(""), false},
	{"names that are shorter", EMPTY("Content-Lengt: 5\r\nTransfer-Encodin: gzip\r\n"), 200, BYTES(""), false},
};

static const struct bad bad_headers[] = {
	{"H14 no colon", EMPTY("abc\r\n"), 0},
	{"H14 no colon, first", ANSWER("abc\r\nContent-Length: 0\r\n", ""), 0},
	{"H14 empty name", EMPTY(": v\r\n"), 0},
	{"H14 a colon alone", EMPTY(":\r\n"), 0},
	{"H8 space before the colon", EMPTY("A : b\r\n"), 0},
	{"H8 tab before the colon", EMPTY("A\t: b\r\n"), 0},
	{"H8 of the length", ANSWER("Content-Length : 0\r\n", ""), 0},
	{"H8 of the encoding", ANSWER("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 0},
	{"H9 folded line", EMPTY("A: b\r\n c\r\n"), 0},
	{"H9 folded by tab", EMPTY("A: b\r\n\tc\r\n"), 0},
	{"H9 folded, with a colon", EMPTY("A: b\r\n C: d\r\n"), 0},
	{"H9 folded length", ANSWER("Content-Length:\r\n 0\r\n", ""), 0},
	{"H9 first header folded", ANSWER(" A: b\r\nContent-Length: 0\r\n", ""), 0},
	{"H9 line of blanks", EMPTY("A: b\r\n \t\r\n"), 0},
	{"H14 [ in a name", EMPTY("A[]: b\r\n"), 0},
	{"H14 ( in a name", EMPTY("A(: b\r\n"), 0},
	{"H14 space in a name", EMPTY("A B: c\r\n"), 0},
	{"H14 8-bit name", EMPTY("A\x80: b\r\n"), 0},
	{"H14 NUL in a name", EMPTY("A\0B: c\r\n"), 0},
	{"H11 bare CR in a value", EMPTY("A: b\rc\r\n"), 0},
	{"H11 bare CR in a name", EMPTY("A\rB: c\r\n"), 0},
	{"H11 bare CR in the status line", STATUS("HTTP/1.1 200 O\rK"), 0},
	{"H11 CR CR LF", EMPTY("A: b\r\r\n"), 0},
	{"H11 CR CR LF behind the status line", STATUS("HTTP/1.1 200 OK\r"), 0},
	{"H10 bare LF behind the status line", BYTES("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n"), 0},
	{"H10 bare LF behind a header", EMPTY("A: b\nC: d\r\n"), 0},
	{"H10 bare LF behind the length", ANSWER("Content-Length: 0\nA: b\r\n", ""), 0},
	{"H10 bare LF, an empty line behind", BYTES("HTTP/1.1 200 OK\nContent-Length: 2\n\n\r\n\r\n"), 0},
	{"H10 empty line of LF, then one of CR LF", BYTES("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\n\r\n\r\n"), 0},
};

/* RFC 9110 5.5: a NUL in a value MUST be refused or replaced. */
static const struct bad header_nuls[] = {
	{"H12 NUL in a value", EMPTY("A: b\0c\r\n"), 0},
	{"H12 NUL at a value's end", EMPTY("A: b\0\r\n"), 0},
	{"H12 NUL as the value", EMPTY("A: \0\r\n"), 0},
	{"H12 NUL behind close", EMPTY("Connection: close\0\r\n"), 0},
	{"H12 NUL behind no-store", EMPTY("Cache-Control: no-store\0\r\n"), 0},
	{"H12 NUL behind a length", ANSWER("Content-Length: 0\0\r\n", ""), 0},
	{"H12 NUL behind an encoding", CODING(" chunked\0"), 0},
};

/* There is no CR LF CR LF in them to wait for. */
static const struct bad bare_line_ends[] = {
	{"H10 bare LF everywhere", BYTES("HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"), 0},
	{"H10 bare LF at the end", BYTES("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\n{}"), 0},
	{"H10 bare LF behind a header", BYTES("HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\n{}"), 0},
	{"H10 bare LF behind the status line", BYTES("HTTP/1.1 401 No\n"), 0},
};

Test(response, headers_that_say_nothing_of_the_answer_are_passed_over)
{
	EXPECT_GOOD(headers);
}

Test(response, malformed_headers_are_refused)
{
	EXPECT_BAD(bad_headers);
}

Test(response, a_nul_in_a_header_is_refused)
{
	EXPECT_BAD(header_nuls);
}

Test(response, a_head_with_bare_line_ends_is_not_waited_for)
{
	EXPECT_BAD(bare_line_ends);
}

/* ---- may the connection be used again? --------------------------------------------------------------------------- */

/* RFC 9112 9.3: close, wherever it stands; else 1.1; else keep-alive. */
Test(response, a_connection_is_used_again_unless_it_closes)
{
	static const struct {
		const char *name;
		struct span in;
		bool keep_alive;
	} rows[] = {
		{"HTTP/1.1", EMPTY(""), true},
		{"HTTP/1.9", STATUS("HTTP/1.9 200 OK"), true},
		{"HTTP/1.0", EMPTY10(""), false},
		{"close", EMPTY("Connection: close\r\n"), false},
		{"CLOSE", EMPTY("CONNECTION: CLOSE\r\n"), false},
		{"no blank", EMPTY("Connection:close\r\n"), false},
		{"keep-alive", EMPTY("Connection: keep-alive\r\n"), true},
		{"empty", EMPTY("Connection:\r\n"), true},
		{"something else", EMPTY("Connection: X-Close, closed, not-close, clos\r\n"), true},
		{"close first", EMPTY("Connection: close, X\r\n"), false},
		{"close last", EMPTY("Connection: X, close\r\n"), false},
		{"close in the middle", EMPTY("Connection: X\t,\tClose\t,Y\r\n"), false},
		{"empty elements", EMPTY("Connection: ,,close,\r\n"), false},
		{"a quote is no string in a list of words", EMPTY("Connection: \"X, close\r\n"), false},
		{"close and keep-alive", EMPTY("Connection: close, keep-alive\r\n"), false},
		{"keep-alive and close", EMPTY("Connection: keep-alive, close\r\n"), false},
		{"two lines, close last", EMPTY("Connection: keep-alive\r\nConnection: close\r\n"), false},
		{"two lines, close first", EMPTY("Connection: close\r\nConnection: X\r\n"), false},
		{"two lines, nothing", EMPTY("Connection: X\r\nConnection: Y\r\n"), true},
		{"1.0, keep-alive", EMPTY10("Connection: keep-alive\r\n"), true},
		{"1.0, any case", EMPTY10("connection: Keep-ALIVE\r\n"), true},
		{"1.0, in a list", EMPTY10("Connection: X ,keep-alive\t, Y\r\n"), true},
		{"1.0, second line", EMPTY10("Connection: X\r\nConnection: keep-alive\r\n"), true},
		{"1.0, empty", EMPTY10("Connection:\r\n"), false},
		{"1.0, something else", EMPTY10("Connection: keep, alive, keep-alives\r\n"), false},
		{"1.0, Keep-Alive", EMPTY10("Keep-Alive: timeout=5\r\n"), false},
		{"1.0, close", EMPTY10("Connection: close\r\n"), false},
		{"1.0, keep-alive and close", EMPTY10("Connection: keep-alive, close\r\n"), false},
		{"1.0, close and keep-alive", EMPTY10("Connection: close, keep-alive\r\n"), false},
		{"1.0, two lines, close last", EMPTY10("Connection: keep-alive\r\nConnection: close\r\n"), false},
		{"other headers", EMPTY("Proxy-Connection: close\r\nX-Connection: close\r\nConnectio: close\r\n"), true},
		{"chunks", CHUNKS("0\r\n\r\n"), true},
		{"chunks, close", ANSWER("Transfer-Encoding: chunked\r\nConnection: close\r\n", "0\r\n\r\n"), false},
		{"204", BYTES("HTTP/1.1 204 x\r\n\r\n"), true},
		{"401, close", BYTES("HTTP/1.1 401 x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), false},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct http_response r;

		if (read_answer(rows[i].name, rows[i].in, &r))
			cr_expect_eq(r.keep_alive, rows[i].keep_alive, "%s: %d", rows[i].name, r.keep_alive);
	}
}

/* RFC 9110 5.3: two lines are one list. */
Test(response, a_close_is_not_taken_back_by_another_line)
{
	static const struct span rows[] = {
		EMPTY("Connection: close\r\nConnection: keep-alive\r\n"),
		EMPTY10("Connection: close\r\nConnection: keep-alive\r\n"),
		EMPTY("Connection: X, close\r\nConnection: keep-alive, Y\r\n"),
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct http_response r;

		if (read_answer("close, keep-alive", rows[i], &r))
			cr_expect(!r.keep_alive, "row %zu", i);
	}
}

/* ---- Cache-Control ----------------------------------------------------------------------------------------------- */

#define CACHE(value) EMPTY("Cache-Control:" value "\r\n")

struct age {
	const char *name;
	struct span in;
	int64_t age, or; /* either */
};

static void expect_ages(const struct age *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct http_response r;

		if (read_answer(rows[i].name, rows[i].in, &r))
			cr_expect(r.max_age_s == rows[i].age || r.max_age_s == rows[i].or, "%s: %lld, expected %lld",
				rows[i].name, (long long)r.max_age_s, (long long)rows[i].age);
	}
}

#define EXPECT_AGES(rows) expect_ages(rows, COUNT_OF(rows))

Test(response, an_answer_says_how_long_it_is_good)
{
	static const struct age rows[] = {
		{"no header", EMPTY(""), -1, -1},
		{"empty", CACHE(""), -1, -1},
		{"0", CACHE(" max-age=0"), 0, 0},
		{"1", CACHE(" max-age=1"), 1, 1},
		{"60", CACHE(" max-age=60"), 60, 60},
		{"no blank, blanks behind", CACHE("max-age=60 \t"), 60, 60},
		{"zeros in front", CACHE(" max-age=00000000000000000060"), 60, 60},
		{"all digits", CACHE(" max-age=918273"), 918273, 918273},
		{"300", CACHE(" max-age=300"), 300, 300},
		{"301", CACHE(" max-age=301"), 301, 301},
		{"a day", CACHE(" max-age=86400"), 86400, 86400},
		{"upper case", EMPTY("CACHE-CONTROL: MAX-AGE=60\r\n"), 60, 60},
		{"no-store", CACHE(" no-store"), 0, 0},
		{"no-cache", CACHE(" no-cache"), 0, 0},
		{"NO-STORE", CACHE(" NO-Store"), 0, 0},
		{"NO-CACHE", CACHE(" NO-Cache"), 0, 0},
		{"private", CACHE(" private"), -1, -1},
		{"private, 60", CACHE(" private, max-age=60"), 60, 60},
		{"60, private", CACHE(" max-age=60, private"), 60, 60},
		{"must-revalidate alone", CACHE(" must-revalidate"), -1, -1},
		{"60, must-revalidate", CACHE(" max-age=60,must-revalidate"), 60, 60},
		{"among others", CACHE(" public,\tmax-age=60 ,no-transform"), 60, 60},
		{"empty elements", CACHE(" ,, max-age=60,,"), 60, 60},
		{"60, no-store", CACHE(" max-age=60, no-store"), 0, 0},
		{"no-store, 60", CACHE(" no-store, max-age=60"), 0, 0},
		{"60, no-cache", CACHE(" max-age=60, no-cache"), 0, 0},
		{"no-cache, 60", CACHE(" no-cache, max-age=60"), 0, 0},
		{"0, no-store", CACHE(" max-age=0, no-store"), 0, 0},
		{"Django's never_cache", CACHE(" max-age=0, no-cache, no-store, must-revalidate, private"), 0, 0},
		{"two lines, no-store last", CACHE(" max-age=60\r\nCache-Control: no-store"), 0, 0},
		{"two lines, no-store first", CACHE(" no-store\r\nCache-Control: max-age=60"), 0, 0},
		{"two lines, nothing more", CACHE(" max-age=60\r\nCache-Control: private"), 60, 60},
		{"two lines, nothing first", CACHE(" private\r\nCache-Control: max-age=60"), 60, 60},
		{"two lines, an empty one", CACHE(" max-age=60\r\nCache-Control:"), 60, 60},
		{"s-maxage", CACHE(" s-maxage=60"), -1, -1},
		{"s-max-age", CACHE(" s-max-age=60"), -1, -1},
		{"s-maxage, 60", CACHE(" s-maxage=5, max-age=60"), 60, 60},
		{"60, s-maxage", CACHE(" max-age=60, s-maxage=5"), 60, 60},
		{"s-maxage=0, 60", CACHE(" s-maxage=0, max-age=60"), 60, 60},
		{"other names", CACHE(" max-ages=5, max-ag=6, xmax-age=7, x=max-age=8, no-stores, xno-cache"), -1, -1},
		{"stale-while-revalidate", CACHE(" max-age=60, stale-while-revalidate=600"), 60, 60},
		{"other headers", EMPTY("X-Cache-Control: max-age=5\r\nPragma: no-cache\r\nExpires: 0\r\nAge: 7\r\n"), -1, -1},
		{"a denial", BYTES("HTTP/1.1 401 x\r\nContent-Length: 0\r\nCache-Control: max-age=60\r\n\r\n"), 60, 60},
		{"chunks", ANSWER("Transfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n", "0\r\n\r\n"), 60, 60},
	};

	EXPECT_AGES(rows);
}

/* RFC 9111 4.2.1: what has an age that is none is stale. */
Test(response, an_age_that_is_none_is_0)
{
	static const struct age rows[] = {
		{"no =", CACHE(" max-age"), 0, 0},
		{"no value", CACHE(" max-age="), 0, 0},
		{"no value, others", CACHE(" max-age=, private"), 0, 0},
		{"-1", CACHE(" max-age=-1"), 0, 0},
		{"-60", CACHE(" max-age=-60"), 0, 0},
		{"+60", CACHE(" max-age=+60"), 0, 0},
		{"a word", CACHE(" max-age=never"), 0, 0},
		{"0x60", CACHE(" max-age=0x60"), 0, 0},
		{"=", CACHE(" max-age==60"), 0, 0},
		{"single quotes", CACHE(" max-age='60'"), 0, 0},
		{"a letter and many digits", CACHE(" max-age=x600000000000000000000000000000"), 0, 0},
		{"above 9", CACHE(" max-age=:"), 0, 0},
		{"below 0", CACHE(" max-age=/"), 0, 0},
	};

	EXPECT_AGES(rows);
}

Test(response, digits_and_more_are_no_age)
{
	static const struct age rows[] = {
		{"60s", CACHE(" max-age=60s"), 0, 0},
		{"60 s", CACHE(" max-age=60 s"), 0, 0},
		{"1.5", CACHE(" max-age=1.5"), 0, 0},
		{"60;", CACHE(" max-age=60;private"), 0, 0},
		{"1e3", CACHE(" max-age=1e3"), 0, 0},
		{"8-bit", CACHE(" max-age=60\xa0"), 0, 0},
		{"a quote behind", CACHE(" max-age=60\""), 0, 0},
		{"huge, then a letter", CACHE(" max-age=99999999999999999999x"), 0, 0},
	};

	EXPECT_AGES(rows);
}

/* RFC 9111 1.2.2: it is at least the greatest number known; the cache cuts it. */
Test(response, a_huge_age_is_great)
{
	static const struct span rows[] = {
		CACHE(" max-age=31536000"), CACHE(" max-age=2147483647"), CACHE(" max-age=2147483648"),
		CACHE(" max-age=4294967296"), CACHE(" max-age=4294967356"), CACHE(" max-age=9223372036854775807"),
		CACHE(" max-age=9223372036854775808"), CACHE(" max-age=18446744073709551616"),
		CACHE(" max-age=18446744073709551676"), CACHE(" max-age=1000000000000000000000000000000000000000000000000000000"),
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct http_response r;

		if (read_answer("huge", rows[i], &r))
			cr_expect(r.max_age_s >= 1000000, "row %zu: %lld", i, (long long)r.max_age_s);
	}
}

/* RFC 9111 4.2.1: of several either the first counts, or the answer is stale. */
Test(response, of_two_ages_the_first_counts_or_none)
{
	static const struct age rows[] = {
		{"60, 30", CACHE(" max-age=60, max-age=30"), 60, 0},
		{"30, 60", CACHE(" max-age=30, max-age=60"), 30, 0},
		{"60, 0", CACHE(" max-age=60, max-age=0"), 60, 0},
		{"0, 60", CACHE(" max-age=0, max-age=60"), 0, 0},
		{"two lines", CACHE(" max-age=30\r\nCache-Control: max-age=60"), 30, 0},
		{"wrong, 60", CACHE(" max-age=x, max-age=60"), 0, 0},
	};

	EXPECT_AGES(rows);
}

/* RFC 9111 5.2: both forms, a token and a quoted string (RFC 9110 5.6.4), ought to be understood. */
Test(response, an_age_may_be_quoted)
{
	static const struct age rows[] = {
		{"60", CACHE(" max-age=\"60\""), 60, 60},
		{"0", CACHE(" max-age=\"0\""), 0, 0},
		{"60, others around", CACHE(" private, max-age=\"60\" , public"), 60, 60},
		{"60, no-store", CACHE(" max-age=\"60\", no-store"), 0, 0},
		{"empty", CACHE(" max-age=\"\""), 0, 0},
		{"not closed", CACHE(" max-age=\"60"), 0, 0},
		{"a quote alone", CACHE(" max-age=\""), 0, 0},
		{"a word", CACHE(" max-age=\"x\""), 0, 0},
		{"more behind", CACHE(" max-age=\"60\"x"), 0, 0},
		{"more in it", CACHE(" max-age=\"60, 70\""), 0, 0},
	};

	EXPECT_AGES(rows);
}

/* What is in a string is no directive. */
Test(response, a_quoted_comma_parts_nothing)
{
	static const struct age rows[] = {
		{"max-age in a string", CACHE(" ext=\"a, max-age=60, b\""), -1, -1},
		{"max-age at a string's end", CACHE(" ext=\"a, max-age=60\""), -1, -1},
		{"behind an escaped quote", CACHE(" ext=\"a\\\", max-age=60, b\""), -1, -1},
		{"behind an escaped backslash", CACHE(" ext=\"a\\\\\", max-age=60"), 60, 60},
		{"a backslash outside a string", CACHE(" x\\, max-age=60"), 60, 60},
		{"a field's name", CACHE(" private=\"A, max-age=60\", max-age=5"), 5, 5},
		{"no-cache for some fields", CACHE(" no-cache=\"Set-Cookie, max-age=60\""), 0, -1},
		{"no-store in a string", CACHE(" ext=\"a, no-store, b\", max-age=60"), 60, 60},
	};

	EXPECT_AGES(rows);
}

/* ---- mutations --------------------------------------------------------------------------------------------------- */

static const struct span mutants[] = {
	ANSWER("Content-Length: 5\r\nConnection: keep-alive\r\n", "hello"),
	CHUNKS("5;a=b\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nA: b\r\n\r\n"),
	CACHE(" max-age=60, private=\"a, b\"\r\nConnection: X, close"),
	BYTES("HTTP/1.1 103 x\r\nLink: </a>\r\n\r\nHTTP/1.0 401 No\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx"),
	BYTES("HTTP/1.1 100 \r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"),
	ANSWER("", "until close"),
	BYTES("HTTP/1.1 204 No Content\r\n\r\n"),
};

/* Changes, cuts out or doubles a byte or two. */
static struct span mutated(struct span in, char *out, size_t cap, uint64_t *state)
{
	static const char bytes[] = "\r\n \t:;,=\"\\\0\x7f\x80" "0159afAFx";
	struct span made = {out, in.n < cap / 2 ? in.n : cap / 2};

	memcpy(out, in.p, made.n);
	for (uint32_t n = random_below(state, 3) + 1; n > 0 && made.n > 1; n--) {
		size_t at = random_below(state, (uint32_t)made.n);

		switch (random_below(state, 3)) {
		case 0:
			out[at] = bytes[random_below(state, sizeof bytes)];
			break;
		case 1:
			memmove(out + at, out + at + 1, --made.n - at);
			break;
		default:
			memmove(out + at + 1, out + at, made.n++ - at);
		}
	}
	return made;
}

Test(response, mutated_answers_are_read_the_same_whole_and_bytewise)
{
	uint64_t state = 20240102;

	for (int i = 0; i < 20000; i++) {
		char bytes[512], name[32];
		struct span in = mutated(mutants[(size_t)i % COUNT_OF(mutants)], bytes, sizeof bytes, &state);
		bool ended = i % 2 == 0, same;
		size_t used;
		struct seen whole, bytewise;

		snprintf(name, sizeof name, "mutation %d", i);
		whole = see(name, in, in.n, ended);
		bytewise = see_bytewise(in, ended, &used);
		same = whole.got == bytewise.got && whole.r.status == bytewise.r.status;
		if (whole.got > 0)
			same = same && whole.r.max_age_s == bytewise.r.max_age_s && whole.r.keep_alive == bytewise.r.keep_alive
				&& span_same(whole.r.body, bytewise.r.body);
		same = same && (whole.got <= 0 || (size_t)whole.got == used);
		exact_free(whole.block);
		filled_free(bytewise.block);
		cr_assert(same, "%s: %lld, status %d whole; %lld, status %d bytewise, with %zu bytes: %.*s", name,
			(long long)whole.got, whole.r.status, (long long)bytewise.got, bytewise.r.status, used, (int)in.n, in.p);
	}
}

/* ---- the token of a request -------------------------------------------------------------------------------------- */

struct ask {
	const char *name;
	const char *authorization; /* NULL: none */
	struct span query;
	enum refusal why;
	const char *token;          /* "": none. By header or query */
	const char *without_query;  /* the same if only the header counts */
};

static const struct ask asks[] = {
	{"nothing", NULL, BYTES(""), REFUSE_NONE, "", ""},
	{"query", NULL, BYTES("token=T"), REFUSE_NONE, "T", ""},
	{"query among others", NULL, BYTES("a=b&token=T&c"), REFUSE_NONE, "T", ""},
	{"query without it", NULL, BYTES("a=b&tokens=T&Token=U"), REFUSE_NONE, "", ""},
	{"query, empty", NULL, BYTES("token="), REFUSE_NONE, "", ""},
	{"query, no =", NULL, BYTES("token"), REFUSE_NONE, "", ""},
	{"query, = in it", NULL, BYTES("token=a=b=="), REFUSE_NONE, "a=b==", ""},
	{"H36 escapes", NULL, BYTES("token=a%2eb%26%3D%25"), REFUSE_NONE, "a.b&=%", ""},
	{"H36 escaped name", NULL, BYTES("%74oken=T"), REFUSE_NONE, "T", ""},
	{"H36 once only", NULL, BYTES("token=%2541"), REFUSE_NONE, "%41", ""},
	{"H36 + stays", NULL, BYTES("token=a+b"), REFUSE_NONE, "a+b", ""},
	{"8-bit", NULL, BYTES("token=\xc3\xa9%c3%a9"), REFUSE_NONE, "\xc3\xa9\xc3\xa9", ""},
	{"Bearer", "Bearer H", BYTES(""), REFUSE_NONE, "H", "H"},
	{"Token", "Token H", BYTES(""), REFUSE_NONE, "H", "H"},
	{"any case", "bEARER H", BYTES(""), REFUSE_NONE, "H", "H"},
	{"a header is not unescaped", "Bearer %48", BYTES(""), REFUSE_NONE, "%48", "%48"},
	{"H38 header before query", "Bearer H", BYTES("token=T"), REFUSE_NONE, "H", "H"},
	{"H38 Token before query", "Token H", BYTES("a=b&token=T"), REFUSE_NONE, "H", "H"},
	{"H38 header, query empty", "Bearer H", BYTES("token="), REFUSE_NONE, "H", "H"},
	{"header, other query", "Bearer H", BYTES("a=b"), REFUSE_NONE, "H", "H"},
	{"Basic", "Basic H", BYTES(""), REFUSE_NONE, "", ""},
	{"Basic, query", "Basic H", BYTES("token=T"), REFUSE_NONE, "T", ""},
	{"Bearers", "Bearers H", BYTES("token=T"), REFUSE_NONE, "T", ""},
	{"scheme alone", "Bearer", BYTES("token=T"), REFUSE_NONE, "T", ""},
	{"scheme and a space", "Bearer ", BYTES("token=T"), REFUSE_NONE, "T", ""},
	{"two words", "Bearer a b", BYTES("token=T"), REFUSE_NONE, "T", ""},
	{"empty header", "", BYTES("token=T"), REFUSE_NONE, "T", ""},
	{"empty header, no query", "", BYTES(""), REFUSE_NONE, "", ""},
	{"H38 twice", NULL, BYTES("token=T&token=U"), REFUSE_two_tokens, NULL, NULL},
	{"H38 twice, the same", NULL, BYTES("token=T&a&token=T"), REFUSE_two_tokens, NULL, NULL},
	{"H38 twice, one escaped", NULL, BYTES("token=T&tok%65n=T"), REFUSE_two_tokens, NULL, NULL},
	{"H38 twice, both empty", NULL, BYTES("token&token="), REFUSE_two_tokens, NULL, NULL},
	{"H38 three times", NULL, BYTES("token=T&token=U&token=V"), REFUSE_two_tokens, NULL, NULL},
	{"H38 twice, and a header", "Bearer H", BYTES("token=T&token=U"), REFUSE_two_tokens, NULL, NULL},
	{"H36 %zz", NULL, BYTES("token=%zz"), REFUSE_bad_escape, NULL, NULL},
	{"H36 % at the end", NULL, BYTES("token=T%"), REFUSE_bad_escape, NULL, NULL},
	{"H36 %4 at the end", NULL, BYTES("token=T%4"), REFUSE_bad_escape, NULL, NULL},
	{"H36 %00", NULL, BYTES("token=%00"), REFUSE_bad_escape, NULL, NULL},
	{"H36 line end", NULL, BYTES("token=T%0d%0aX-A:%20b"), REFUSE_bad_escape, NULL, NULL},
	{"H36 in another parameter", NULL, BYTES("token=T&a=%zz"), REFUSE_bad_escape, NULL, NULL},
	{"H36 in another's name", NULL, BYTES("%zz=a&token=T"), REFUSE_bad_escape, NULL, NULL},
	{"H36 and a header", "Bearer H", BYTES("token=%zz"), REFUSE_bad_escape, NULL, NULL},
	{"H36 twice and bad", NULL, BYTES("token=T&token=U&token=%"), REFUSE_bad_escape, NULL, NULL},
};

static void expect_token(const struct ask *row, bool query_too)
{
	struct span query = exact(row->query);
	struct span header = row->authorization == NULL ? (struct span){NULL, 0} : exact(span_of(row->authorization)), token;
	struct http_request r = {.query = query, .authorization = header};
	struct buf unescaped = buf_growable();
	enum refusal why = http_token(&r, query_too, &unescaped, &token);
	const char *expected = query_too ? row->token : row->without_query;

	cr_expect_eq(why, row->why, "%s, query_too %d: %s", row->name, query_too,
		why == REFUSE_NONE ? "no refusal" : refusal_name(why));
	if (why == REFUSE_NONE && expected != NULL)
		cr_expect(span_is(token, expected), "%s, query_too %d: \"%.*s\", expected \"%s\"", row->name, query_too,
			(int)token.n, token.n > 0 ? token.p : "", expected);
	buf_free(&unescaped);
	if (header.p != NULL)
		exact_free(header);
	exact_free(query);
}

Test(token, H38_it_is_that_of_the_header_else_of_the_query)
{
	for (size_t i = 0; i < COUNT_OF(asks); i++)
		expect_token(&asks[i], true);
}

Test(token, it_is_that_of_the_header_only)
{
	for (size_t i = 0; i < COUNT_OF(asks); i++)
		expect_token(&asks[i], false);
}

/* As http_parse leaves a request without either. */
Test(token, there_is_none_in_no_query_and_no_header)
{
	struct http_request r = {0};
	struct buf unescaped = buf_growable();
	struct span token = BYTES("old");

	cr_expect_eq(http_token(&r, true, &unescaped, &token), REFUSE_NONE);
	cr_expect_eq(token.n, 0);
	buf_free(&unescaped);
}

/* Nor is it what a request before this one left there. */
Test(token, what_is_in_the_buffer_is_none)
{
	struct http_request r = {.query = BYTES("a=b")};
	struct buf unescaped = buf_growable();
	struct span token;

	buf_text(&unescaped, "old");
	cr_expect_eq(http_token(&r, true, &unescaped, &token), REFUSE_NONE);
	cr_expect_eq(token.n, 0);
	buf_free(&unescaped);
}

/* No beginning of a query is read past its end, and a cut escape is always found. */
Test(token, every_beginning_of_a_query_is_read_or_refused)
{
	static const struct span whole = BYTES("a=%41&%74oken=T%2eU");

	for (size_t k = 0; k <= whole.n; k++) {
		struct span query = exact((struct span){whole.p, k}), token;
		struct http_request r = {.query = query};
		struct buf unescaped = buf_growable();
		bool cut = (k >= 1 && whole.p[k - 1] == '%') || (k >= 2 && whole.p[k - 2] == '%');

		cr_expect_eq(http_token(&r, true, &unescaped, &token), cut ? REFUSE_bad_escape : REFUSE_NONE, "%zu bytes", k);
		buf_free(&unescaped);
		exact_free(query);
	}
}

Test(token, without_room_for_it_nobody_is_let_in)
{
	char bytes[4];

	for (size_t cap = 0; cap <= sizeof bytes; cap++) {
		struct http_request r = {.query = BYTES("token=abc")};
		struct buf unescaped = buf_fixed(bytes, cap);
		struct span token;
		enum refusal why = http_token(&r, true, &unescaped, &token);

		cr_expect_eq(why, cap < 3 ? REFUSE_no_memory : REFUSE_NONE, "%zu bytes", cap);
		if (why == REFUSE_NONE)
			cr_expect(span_is(token, "abc"));
	}
}

/* ---- the target without it ----------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	struct span path, query;
	const char *out;
} targets[] = {
	{"no query", BYTES("/e/"), BYTES(""), "/e/"},
	{"only", BYTES("/e/"), BYTES("token=T"), "/e/"},
	{"first", BYTES("/e/"), BYTES("token=T&a=b"), "/e/?a=b"},
	{"in the middle", BYTES("/e/"), BYTES("a=b&token=T&c=d"), "/e/?a=b&c=d"},
	{"last", BYTES("/e/"), BYTES("a=b&c&token=T"), "/e/?a=b&c"},
	{"not there", BYTES("/e/"), BYTES("a=b&c=d"), "/e/?a=b&c=d"},
	{"twice", BYTES("/e/"), BYTES("token=T&token=U"), "/e/"},
	{"twice, apart", BYTES("/e/"), BYTES("token=T&a=b&token=U"), "/e/?a=b"},
	{"twice around", BYTES("/e/"), BYTES("a&token=T&b&token=U&c"), "/e/?a&b&c"},
	{"empty", BYTES("/e/"), BYTES("token="), "/e/"},
	{"no =", BYTES("/e/"), BYTES("token"), "/e/"},
	{"no =, others", BYTES("/e/"), BYTES("a&token&b"), "/e/?a&b"},
	{"= in it", BYTES("/e/"), BYTES("token=a=b==&c"), "/e/?c"},
	{"? in it", BYTES("/e/"), BYTES("token=a?token=b&c?d"), "/e/?c?d"},
	{"H36 escaped name", BYTES("/e/"), BYTES("%74oken=T&a"), "/e/?a"},
	{"H36 escaped wholly", BYTES("/e/"), BYTES("a&%74%6f%6B%65%6E=T"), "/e/?a"},
	{"H36 escaped twice", BYTES("/e/"), BYTES("%2574oken=T"), "/e/?%2574oken=T"},
	{"H36 bad escape in it", BYTES("/e/"), BYTES("token=%zz&a"), "/e/?a"},
	{"H36 bad escape behind the name", BYTES("/e/"), BYTES("token%zz=T&token%=U"), "/e/?token%zz=T&token%=U"},
	{"H36 bad escape in another's name", BYTES("/e/"), BYTES("%zz=a&token=T"), "/e/?%zz=a"},
	{"others as they were sent", BYTES("/e%2f/"), BYTES("%41=%42+c&token=T&\xc3\xa9"), "/e%2f/?%41=%42+c&\xc3\xa9"},
	{"tokens", BYTES("/e/"), BYTES("tokens=T"), "/e/?tokens=T"},
	{"shorter names", BYTES("/e/"), BYTES("toke=T&t=U&=V"), "/e/?toke=T&t=U&=V"},
	{"xtoken", BYTES("/e/"), BYTES("xtoken=T&token=U"), "/e/?xtoken=T"},
	{"Token", BYTES("/e/"), BYTES("Token=T"), "/e/?Token=T"},
	{"token[]", BYTES("/e/"), BYTES("token[]=T"), "/e/?token[]=T"},
	{"as a value", BYTES("/e/"), BYTES("a=token=T&b=token"), "/e/?a=token=T&b=token"},
	{"a name of 40 bytes", BYTES("/e/"), BYTES("tokentokentokentokentokentokentokentoken=T&token=U"),
		"/e/?tokentokentokentokentokentokentokentoken=T"},
	{"a token of 40 bytes", BYTES("/e/"), BYTES("a&token=tokentokentokentokentokentokentokentoken&b"), "/e/?a&b"},
	{"empty ones between", BYTES("/e/"), BYTES("a&&b"), "/e/?a&&b"},
	{"in the path", BYTES("/token=T"), BYTES("a"), "/token=T?a"},
	{"root", BYTES("/"), BYTES("token=T&a"), "/?a"},
};

Test(target, A18_the_parameter_is_left_out_and_nothing_else)
{
	for (size_t i = 0; i < COUNT_OF(targets); i++) {
		struct span path = exact(targets[i].path), query = exact(targets[i].query);
		struct http_request r = {.path = path, .query = query};
		struct buf out = buf_growable();

		http_target_without(&r, "token", &out);
		cr_expect(!out.failed && span_is(buf_view(&out), targets[i].out), "%s: \"%.*s\", expected \"%s\"",
			targets[i].name, (int)out.len, out.data, targets[i].out);
		buf_free(&out);
		exact_free(query);
		exact_free(path);
	}
}

/* As http_parse takes them apart. */
Test(target, a_question_mark_alone_is_no_query)
{
	static const struct {
		struct span head;
		const char *out;
	} rows[] = {
		{BYTES("GET /e/? HTTP/1.1\r\nHost: a\r\n\r\n"), "/e/"},
		{BYTES("GET /e/ HTTP/1.1\r\nHost: a\r\n\r\n"), "/e/"},
		{BYTES("GET /e/?token=T HTTP/1.1\r\nHost: a\r\n\r\n"), "/e/"},
		{BYTES("GET http://a/e/?b&token=T HTTP/1.1\r\nHost: a\r\n\r\n"), "/e/?b"},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct span head = exact(rows[i].head);
		struct http_request r;
		struct buf out = buf_growable();

		cr_expect_eq(http_parse(head, &r), REFUSE_NONE, "row %zu", i);
		http_target_without(&r, "token", &out);
		cr_expect(span_is(buf_view(&out), rows[i].out), "row %zu: \"%.*s\"", i, (int)out.len, out.data);
		buf_free(&out);
		exact_free(head);
	}
}

Test(target, it_is_appended_and_other_names_do_as_well)
{
	struct http_request r = {.path = BYTES("/e"), .query = BYTES("token=T&lastEventId=1-0&a")};
	struct buf out = buf_growable();

	buf_text(&out, "X: ");
	http_target_without(&r, "lastEventId", &out);
	cr_expect(span_is(buf_view(&out), "X: /e?token=T&a"), "\"%.*s\"", (int)out.len, out.data);
	buf_free(&out);
}

Test(target, without_room_it_is_marked_as_failed)
{
	char bytes[8];

	for (size_t cap = 0; cap <= sizeof bytes; cap++) {
		struct http_request r = {.path = BYTES("/e"), .query = BYTES("a&token=T&b")};
		struct buf out = buf_fixed(bytes, cap);

		http_target_without(&r, "token", &out);
		cr_expect_eq(out.failed, cap < 6, "%zu bytes", cap);
	}
}

/* No token gets through, however it is written; and nothing else is lost. */
Test(target, A18_of_random_queries_no_token_is_left)
{
	static const char *const pieces[] = {"token", "%74oken", "t", "oken", "=", "&", "a", "%41", "%", "%zz", "", "==", "&&"};
	uint64_t state = 20240103;

	for (int i = 0; i < 20000; i++) {
		struct buf query = buf_growable(), out = buf_growable(), value = buf_growable(), kept = buf_growable();
		struct http_request r = {0};
		struct span rest;
		int before, after;

		for (uint32_t n = random_below(&state, 12) + 1; n > 0; n--)
			buf_text(&query, pieces[random_below(&state, COUNT_OF(pieces))]);
		r.query = exact(buf_view(&query));
		http_target_without(&r, "token", &out);
		rest = out.len > 0 ? (struct span){out.data + 1, out.len - 1} : (struct span){NULL, 0};
		after = http_parameter(rest, "token", &value);
		cr_assert(after <= 0, "\"%.*s\" became \"%.*s\"", (int)query.len, query.data, (int)out.len, out.data);
		buf_clear(&value);
		before = http_parameter(r.query, "a", &value);
		if (before >= 0)
			cr_assert(http_parameter(rest, "a", &kept) == before && span_same(buf_view(&kept), buf_view(&value)),
				"\"%.*s\" became \"%.*s\"", (int)query.len, query.data, (int)out.len, out.len > 0 ? out.data : "");
		exact_free(r.query);
		buf_free(&query);
		buf_free(&out);
		buf_free(&value);
		buf_free(&kept);
	}
}
