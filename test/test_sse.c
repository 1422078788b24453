/*
 * test_sse.c - the frames of a stream, byte by byte, and as a browser understands them: the test
 * has an interpreter of its own, after WHATWG HTML section 9.2.6.
 */
#include "vectors.h"

#include <stdio.h>

/* ---- a browser ---- */

/* What one `message` event would have. */
struct heard {
	struct buf type, data, id;
};

struct browser {
	struct buf type, data, id; /* the buffers of the event that is being read */
	struct buf retry;          /* of the last good retry: line */
	struct heard heard[16];
	size_t count;
};

static void browser_open(struct browser *b)
{
	*b = (struct browser){.type = buf_growable(), .data = buf_growable(), .id = buf_growable(), .retry = buf_growable()};
}

static void browser_close(struct browser *b)
{
	for (size_t i = 0; i < b->count; i++) {
		buf_free(&b->heard[i].type);
		buf_free(&b->heard[i].data);
		buf_free(&b->heard[i].id);
	}
	buf_free(&b->type);
	buf_free(&b->data);
	buf_free(&b->id);
	buf_free(&b->retry);
}

static struct buf copy_of(struct span s)
{
	struct buf b = buf_growable();

	buf_span(&b, s);
	return b;
}

static void browser_dispatch(struct browser *b)
{
	if (b->data.len > 0) {
		cr_assert_lt(b->count, COUNT_OF(b->heard));
		b->data.len--; /* the last newline */
		b->heard[b->count++] = (struct heard){copy_of(buf_view(&b->type)), copy_of(buf_view(&b->data)),
			copy_of(buf_view(&b->id))};
	}
	buf_clear(&b->type);
	buf_clear(&b->data); /* the id stays */
}

static bool all_digits(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return true;
}

static void browser_field(struct browser *b, struct span name, struct span value)
{
	if (span_is(name, "event")) {
		buf_clear(&b->type);
		buf_span(&b->type, value);
	} else if (span_is(name, "data")) {
		buf_span(&b->data, value);
		buf_byte(&b->data, '\n');
	} else if (span_is(name, "id") && (value.n == 0 || memchr(value.p, '\0', value.n) == NULL)) {
		buf_clear(&b->id);
		buf_span(&b->id, value);
	} else if (span_is(name, "retry") && all_digits(value)) {
		buf_clear(&b->retry);
		buf_span(&b->retry, value);
	}
}

static void browser_line(struct browser *b, struct span line)
{
	const char *colon = line.n > 0 ? memchr(line.p, ':', line.n) : NULL;
	struct span name = line, value = {line.p + line.n, 0};

	if (line.n == 0) {
		browser_dispatch(b);
		return;
	}
	if (colon != NULL) {
		name.n = (size_t)(colon - line.p);
		value = (struct span){colon + 1, line.n - name.n - 1};
		if (value.n > 0 && value.p[0] == ' ')
			value = (struct span){value.p + 1, value.n - 1};
	}
	if (name.n > 0) /* else a comment */
		browser_field(b, name, value);
}

/* A whole stream. Its last line counts only if it has an end. */
static void browser_reads(struct browser *b, struct span stream)
{
	size_t from = stream.n >= 3 && memcmp(stream.p, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;

	for (size_t at = from; at < stream.n; at++) {
		if (stream.p[at] != '\n' && stream.p[at] != '\r')
			continue;
		browser_line(b, (struct span){stream.p + from, at - from});
		if (stream.p[at] == '\r' && at + 1 < stream.n && stream.p[at + 1] == '\n')
			at++;
		from = at + 1;
	}
}

/* The interpreter itself, on the examples of the standard and the traps beside them. */
Test(sse, the_interpreter_reads_as_the_standard_says)
{
	static const struct {
		const char *name;
		struct span stream;
		size_t count;
		const char *type, *data, *id; /* of the last event */
	} rows[] = {
		{"data twice", BYTES("data: YHOO\ndata: +2\ndata: 10\n\n"), 1, "", "YHOO\n+2\n10", ""},
		{"comment, id, id taken back", BYTES(": test\n\ndata: one\nid: 1\n\ndata:two\nid\n\ndata:  three"), 2, "", "two", ""},
		{"empty data, and a last one without end", BYTES("data\n\ndata\ndata\n\ndata:"), 2, "", "\n", ""},
		{"one space is taken off", BYTES("data:test\n\ndata:  test\n\n"), 2, "", " test", ""},
		{"all line ends", BYTES("data: a\rdata: b\r\ndata: c\n\r\n"), 1, "", "a\nb\nc", ""},
		{"type alone is no event", BYTES("event: x\n\ndata: y\n\n"), 1, "", "y", ""},
		{"type", BYTES("event: x\ndata: y\n\n"), 1, "x", "y", ""},
		{"id stays", BYTES("id: 7\ndata: a\n\ndata: b\n\n"), 2, "", "b", "7"},
		{"id with NUL", BYTES("id: 7\nid: 8\0\ndata: a\n\n"), 1, "", "a", "7"},
		{"BOM", BYTES("\xef\xbb\xbf" "data: a\n\n"), 1, "", "a", ""},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct browser b;

		browser_open(&b);
		browser_reads(&b, rows[i].stream);
		cr_assert_eq(b.count, rows[i].count, "%s: %zu events", rows[i].name, b.count);
		cr_expect(span_is(buf_view(&b.heard[b.count - 1].type), rows[i].type), "%s", rows[i].name);
		cr_expect(span_is(buf_view(&b.heard[b.count - 1].data), rows[i].data), "%s", rows[i].name);
		cr_expect(span_is(buf_view(&b.heard[b.count - 1].id), rows[i].id), "%s", rows[i].name);
		browser_close(&b);
	}
}

/* ---- exact bytes ---- */

static void expect_bytes(struct buf *b, const char *expected)
{
	cr_expect(!b->failed && span_is(buf_view(b), expected), "is %.*s", (int)b->len, b->data);
	buf_free(b);
}

static const struct event_id some_id = {1704110400123, 0};

Test(sse, H35_S3_S4_an_id_is_milliseconds_and_a_counter)
{
	static const struct {
		struct event_id id;
		const char *text;
	} rows[] = {
		{{1704110400123, 0}, "1704110400123-0"},
		{{0, 0}, "0-0"},
		{{0, 1}, "0-1"},
		{{1, UINT32_MAX}, "1-4294967295"},
		{{INT64_MAX, 10}, "9223372036854775807-10"},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct buf b = buf_growable();

		sse_id(&b, rows[i].id);
		expect_bytes(&b, rows[i].text);
	}
}

Test(sse, a_frame_is_an_id_and_one_line_of_data)
{
	struct buf b = buf_growable();

	sse_frame(&b, &(struct sse_event){some_id, span_of("estimate.created"), span_of("{\"estimate_id\":123}"), 1704110400});
	expect_bytes(&b, "id: 1704110400123-0\n"
		"data: {\"event\":\"estimate.created\",\"data\":{\"estimate_id\":123},\"timestamp\":1704110400}\n\n");
}

Test(sse, a_keepalive_is_data_without_an_id)
{
	struct buf b = buf_growable();

	sse_keepalive(&b, 1704110430);
	expect_bytes(&b, "data: {\"event\":\"keepalive\",\"timestamp\":1704110430}\n\n");
}

Test(sse, S15_retry_is_a_block_of_its_own)
{
	struct buf b = buf_growable();

	sse_retry(&b, 3417);
	expect_bytes(&b, "retry: 3417\n\n");
}

Test(sse, connected_bears_the_newest_id)
{
	struct buf b = buf_growable();

	sse_connected(&b, &(struct event_id){1704110400120, 0});
	expect_bytes(&b, "id: 1704110400120-0\n"
		"data: {\"event\":\"connected\",\"message\":\"SSE connection established\"}\n\n");
}

Test(sse, a_frame_is_appended_behind_what_is_there)
{
	struct buf b = buf_growable();

	sse_retry(&b, 1);
	sse_keepalive(&b, 0);
	sse_retry(&b, 2);
	expect_bytes(&b, "retry: 1\n\ndata: {\"event\":\"keepalive\",\"timestamp\":0}\n\nretry: 2\n\n");
}

Test(sse, a_frame_that_does_not_fit_says_so)
{
	struct sse_event e = {some_id, span_of("a.b"), span_of("[1,2]"), 5};
	struct buf whole = buf_growable();

	sse_frame(&whole, &e);
	for (size_t room = 0; room <= whole.len; room++) {
		char *block = malloc(room + 1);
		struct buf b = buf_fixed(block, room);

		sse_frame(&b, &e);
		cr_expect_eq(b.failed, room < whole.len, "%zu bytes", room);
		free(block);
	}
	buf_free(&whole);
}

/* ---- as a browser hears it ---- */

Test(sse, a_stream_is_heard_as_it_was_meant)
{
	static const char *const data[] = {
		"{\"event\":\"connected\",\"message\":\"SSE connection established\"}",
		"{\"event\":\"a\",\"data\":{},\"timestamp\":1704110400}",
		"{\"event\":\"keepalive\",\"timestamp\":1704110430}",
		"{\"event\":\"b\",\"data\":null,\"timestamp\":1704110400}",
	};
	static const char *const ids[] = {"1704110400120-7", "1704110400123-0", "1704110400123-0", "1704110400123-1"};
	struct buf stream = buf_growable();
	struct browser b;

	sse_retry(&stream, 3417);
	sse_connected(&stream, &(struct event_id){1704110400120, 7});
	sse_frame(&stream, &(struct sse_event){some_id, span_of("a"), span_of("{}"), 1704110400});
	sse_keepalive(&stream, 1704110430);
	sse_frame(&stream, &(struct sse_event){{some_id.ms, 1}, span_of("b"), span_of("null"), 1704110400});
	browser_open(&b);
	browser_reads(&b, buf_view(&stream));
	cr_assert_eq(b.count, 4);
	for (size_t i = 0; i < 4; i++) {
		cr_expect(span_is(buf_view(&b.heard[i].data), data[i]), "%s", data[i]);
		cr_expect(span_is(buf_view(&b.heard[i].id), ids[i]), "%s: the page would resume from %.*s", data[i],
			(int)b.heard[i].id.len, b.heard[i].id.data);
		cr_expect_eq(b.heard[i].type.len, 0, "%s: not heard by onmessage", data[i]);
	}
	cr_expect(span_is(buf_view(&b.retry), "3417"));
	browser_close(&b);
	buf_free(&stream);
}

/* Data as Django sends it: the frame's end must not be found in it. */
static const struct {
	const char *name;
	struct span json;
} hostile[] = {
	{"null", BYTES("null")},
	{"S11 an empty string", BYTES("\"\"")},
	{"an empty object", BYTES("{}")},
	{"a number, as written", BYTES("-0.0E+00")},
	{"S9 space inside", BYTES("\"  two spaces, and one \"")},
	{"space around", BYTES("  \"x\"  ")},
	{"S1 newlines between", BYTES("\r\n{\n\"a\"\r:\n\n[1\n,\r\n2]\n}\n\n")},
	{"S1 empty lines between", BYTES("[\n\n1\r\r,\r\n\r\n2]\n\n")},
	{"S1 newlines escaped", BYTES("\"a\\nb\\r\\nc\\rd\\n\\n\"")},
	{"S1 newlines escaped by number", BYTES("\"\\u000a\\u000D\\u000A\\u0085\\u2028\"")},
	{"S1 a frame, escaped", BYTES("\"\\n\\nid: 1-1\\nevent: revoked\\ndata: {}\\n\\n\"")},
	{"S10 data: in it", BYTES("\"data: {} data:\"")},
	{"id: in it", BYTES("[\"id: 7\",\"retry: 1\",\"event: x\"]")},
	{"S10 a colon first", BYTES("{\":\":\":\"}")},
	{"S10 colons", BYTES("\": : :::\"")},
	{"S6 NUL escaped", BYTES("\"a\\u0000b\"")},
	{"S5 U+2028 and U+2029", BYTES("\"a\xe2\x80\xa8" "b\xe2\x80\xa9" "c\"")},
	{"S5 U+0085", BYTES("\"a\xc2\x85" "b\"")},
	{"S5 U+FEFF first", BYTES("\"\xef\xbb\xbf" "a\"")},
	{"DEL and U+009F", BYTES("\"\x7f\xc2\x9f\"")},
	{"U+10FFFF", BYTES("\"\xf4\x8f\xbf\xbf\"")},
	{"S8 a lone surrogate escaped", BYTES("\"\\ud800\"")},
	{"quotes and braces", BYTES("\"\\\"}\\n\\n{\\\"\"")},
	{"what looks like the end of the object", BYTES("\"},\\\"timestamp\\\":0}\"")},
	{"HTML", BYTES("\"</script><!--\"")},
};

/* The frame of this data, and what the page is to hear. */
static void frame_of(struct span json, struct buf *frame, struct buf *expected)
{
	struct buf compact = buf_growable();
	struct json j = json_begin(json);

	cr_assert(json_value(&j, &compact) && json_end(&j), "%s", j.error);
	sse_frame(frame, &(struct sse_event){some_id, span_of("a.b"), buf_view(&compact), 1704110400});
	buf_text(expected, "{\"event\":\"a.b\",\"data\":");
	buf_span(expected, buf_view(&compact));
	buf_text(expected, ",\"timestamp\":1704110400}");
	buf_free(&compact);
}

/* One event is heard, and it is this one. */
static void expect_one_event(const char *name, struct span stream, struct span data)
{
	struct span copy = exact(stream);
	struct browser b;

	browser_open(&b);
	browser_reads(&b, copy);
	cr_assert_eq(b.count, 1, "%s: %zu events", name, b.count);
	cr_expect(span_same(buf_view(&b.heard[0].data), data), "%s: %.*s", name, (int)data.n, b.heard[0].data.data);
	cr_expect(span_is(buf_view(&b.heard[0].id), "1704110400123-0"), "%s", name);
	cr_expect_eq(b.heard[0].type.len, 0, "%s", name);
	cr_expect_eq(b.retry.len, 0, "%s", name);
	browser_close(&b);
	exact_free(copy);
}

static void expect_heard(const char *name, struct span json)
{
	struct buf frame = buf_growable(), expected = buf_growable();
	struct json j;

	frame_of(json, &frame, &expected);
	expect_one_event(name, buf_view(&frame), buf_view(&expected));
	j = json_begin(buf_view(&expected));
	cr_expect(json_value(&j, NULL) && json_end(&j), "%s: what the page parses: %s", name, j.error);
	buf_free(&frame);
	buf_free(&expected);
}

Test(sse, hostile_data_is_one_event_with_just_that_data)
{
	for (size_t i = 0; i < COUNT_OF(hostile); i++)
		expect_heard(hostile[i].name, hostile[i].json);
}

Test(sse, S12_data_of_64_kb_is_one_event)
{
	struct buf json = buf_growable();

	buf_byte(&json, '[');
	for (int i = 0; json.len < 65536; i++) {
		buf_text(&json, i == 0 ? "\"" : " ,\n\"");
		for (int k = 0; k < 1000; k++)
			buf_text(&json, k % 10 == 0 ? "\\n" : k % 10 == 5 ? "\xe2\x80\xa8" : ": ");
		buf_byte(&json, '"');
	}
	buf_byte(&json, ']');
	expect_heard("64 KB", buf_view(&json));
	buf_free(&json);
}

Test(sse, S1_a_frame_has_no_line_end_but_its_three)
{
	for (size_t i = 0; i < COUNT_OF(hostile); i++) {
		struct buf frame = buf_growable(), expected = buf_growable();
		size_t ends = 0;

		frame_of(hostile[i].json, &frame, &expected);
		for (size_t at = 0; at < frame.len; at++) {
			ends += frame.data[at] == '\n';
			cr_expect(frame.data[at] != '\r' && frame.data[at] != '\0', "%s: at %zu", hostile[i].name, at);
		}
		cr_expect_eq(ends, 3, "%s: %zu line ends", hostile[i].name, ends);
		buf_free(&frame);
		buf_free(&expected);
	}
}

Test(sse, S17_a_truncated_frame_is_no_event)
{
	struct buf frame = buf_growable(), expected = buf_growable();

	frame_of((struct span)BYTES("{\"a\":\"b\\n\\n\"}"), &frame, &expected);
	for (size_t n = 0; n < frame.len; n++) {
		struct browser b;

		browser_open(&b);
		browser_reads(&b, (struct span){frame.data, n});
		cr_expect_eq(b.count, 0, "%zu bytes of it", n);
		browser_close(&b);
	}
	buf_free(&frame);
	buf_free(&expected);
}

/* ---- chunks ---- */

static struct buf letters(size_t n)
{
	struct buf b = buf_growable();

	for (size_t i = 0; i < n; i++)
		buf_byte(&b, (char)('a' + i % 26));
	return b;
}

Test(sse, a_chunk_is_its_size_in_hex_and_its_bytes)
{
	static const size_t sizes[] = {1, 9, 10, 15, 16, 17, 159, 160, 255, 256, 4095, 4096, 65535, 65536, 204800, 1 << 20};
	char head[32];

	for (size_t i = 0; i < COUNT_OF(sizes); i++) {
		struct buf body = letters(sizes[i]), b = buf_growable(), expected = buf_growable();
		size_t before = sse_chunk(&b, buf_view(&body));

		snprintf(head, sizeof head, "%zx\r\n", sizes[i]);
		buf_text(&expected, head);
		buf_span(&expected, buf_view(&body));
		buf_text(&expected, "\r\n");
		cr_expect(span_same(buf_view(&b), buf_view(&expected)), "%zu bytes", sizes[i]);
		cr_expect_eq(before, strlen(head), "%zu bytes: %zu before them", sizes[i], before);
		buf_free(&body);
		buf_free(&b);
		buf_free(&expected);
	}
}

Test(sse, what_is_before_a_chunk_does_not_count)
{
	struct buf b = buf_growable();

	buf_text(&b, "HTTP/1.1 200 OK\r\n\r\n");
	cr_expect_eq(sse_chunk(&b, span_of("retry: 1\n\n")), 3);
	cr_expect_eq(sse_chunk(&b, span_of("0123456789abcdef")), 4);
	expect_bytes(&b, "HTTP/1.1 200 OK\r\n\r\na\r\nretry: 1\n\n\r\n10\r\n0123456789abcdef\r\n");
}

/* RFC 9112 section 7.1: a chunk of no bytes ends the body, so that is what asking for one means. */
Test(sse, a_chunk_of_nothing_is_the_last_chunk)
{
	struct buf b = buf_growable();

	sse_chunk(&b, (struct span){NULL, 0});
	expect_bytes(&b, "0\r\n\r\n");
}

Test(sse, a_chunk_that_does_not_fit_says_so)
{
	for (size_t room = 0; room <= 17; room++) {
		char *block = malloc(room + 1);
		struct buf b = buf_fixed(block, room);

		sse_chunk(&b, span_of("0123456789ab"));
		cr_expect_eq(b.failed, room < 1 + 2 + 12 + 2, "%zu bytes", room);
		free(block);
	}
}

/* Takes chunks off as a proxy would: strictly. */
static struct buf unchunked(struct span chunks)
{
	struct buf body = buf_growable();

	while (chunks.n > 0) {
		char *end;
		size_t size = strtoul(chunks.p, &end, 16), head = (size_t)(end - chunks.p) + 2;

		cr_assert(end > chunks.p && head + size + 2 <= chunks.n && memcmp(end, "\r\n", 2) == 0);
		buf_bytes(&body, chunks.p + head, size);
		cr_assert_eq(memcmp(chunks.p + head + size, "\r\n", 2), 0);
		chunks = (struct span){chunks.p + head + size + 2, chunks.n - head - size - 2};
	}
	return body;
}

Test(sse, frames_are_the_same_out_of_their_chunks)
{
	for (size_t i = 0; i < COUNT_OF(hostile); i++) {
		struct buf frame = buf_growable(), expected = buf_growable(), chunk = buf_growable(), out;

		frame_of(hostile[i].json, &frame, &expected);
		sse_chunk(&chunk, buf_view(&frame));
		out = unchunked(buf_view(&chunk));
		expect_one_event(hostile[i].name, buf_view(&out), buf_view(&expected));
		buf_free(&frame);
		buf_free(&expected);
		buf_free(&chunk);
		buf_free(&out);
	}
}
