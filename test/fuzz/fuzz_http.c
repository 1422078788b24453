/* fuzz_http.c - the input is what came in on a connection: the head of a request, or not. */
#include "fuzz.h"

static const struct http_limits all_limits[] = {{16384, 8192}, {256, 64}, {1024, 1024}};

/* The result of http_scan at every length up to that of whole at which bytes may have come in. */
static int scan_in_pieces(struct span whole, uint64_t random, const struct http_limits *limits)
{
	bool bytewise = random_below(&random, 4) == 0;
	struct http_scan scan = {0};
	int got = 0;

	for (size_t n = 0; n < whole.n && got == 0;) {
		n += bytewise ? 1 : 1 + random_below(&random, (uint32_t)(whole.n - n));
		begin_only(whole, n);
		got = http_scan(&scan, whole.p, n, limits);
		check(got <= (int)n, "a head longer than what is there");
	}
	begin_only(whole, whole.n);
	return got;
}

static bool has_line_end(struct span s)
{
	return s.n > 0 && (memchr(s.p, '\r', s.n) != NULL || memchr(s.p, '\n', s.n) != NULL || memchr(s.p, '\0', s.n) != NULL);
}

static void check_span(struct span s, struct span head)
{
	check(s.n == 0 || span_is(s, "/") || is_within(s, head), "bytes that are not of the head");
	check(!has_line_end(s), "a line end, or NUL, in a part of the head");
}

/* Escapes are undone as they were made; what was undone has no control characters. */
static void check_escapes(struct span s)
{
	char *bytes = malloc(s.n + 1);
	struct buf plain = buf_fixed(bytes, s.n), all = buf_growable(), again;
	bool good = http_unescape(s, &plain);

	check(good == http_unescape(s, NULL), "one verdict with a buffer, and one without");
	check(!good || !plain.failed, "longer without its escapes");
	for (size_t i = 0; good && i < plain.len; i++) {
		char text[4];
		unsigned char c = (unsigned char)plain.data[i];

		check((c >= ' ' && c != 0x7f) || memchr(s.p, (char)c, s.n) != NULL, "a control character from an escape");
		snprintf(text, sizeof text, "%%%02x", c);
		buf_text(&all, text);
		if (c < ' ' || c == 0x7f)
			good = false; /* as it was: no escape may bring it back */
	}
	again = buf_growable();
	if (good) {
		check(http_unescape(buf_view(&all), &again), "escapes that were just made are bad");
		check(span_same(buf_view(&again), buf_view(&plain)), "escapes do not give the same again");
	}
	buf_free(&again);
	buf_free(&all);
	free(bytes);
}

/* Without its token the request is the same, and has none. */
static void check_target(const struct http_request *r)
{
	char ids[2][256];
	struct buf out = buf_growable(), first = buf_fixed(ids[0], sizeof ids[0]), second = buf_fixed(ids[1], sizeof ids[1]);
	struct span query;
	int before = http_parameter(r->query, "lastEventId", &first), after;

	http_target_without(r, "token", &out);
	check(out.len <= r->path.n + r->query.n + 1 && out.len >= r->path.n && memcmp(out.data, r->path.p, r->path.n) == 0,
		"another path");
	query = (struct span){out.data + r->path.n, out.len - r->path.n};
	if (query.n > 0) {
		check(query.p[0] == '?', "no ? before the query");
		query = (struct span){query.p + 1, query.n - 1};
	}
	after = http_parameter(query, "lastEventId", &second);
	if (before >= 0) {
		check(http_parameter(query, "token", NULL) == 0, "the token is still there");
		check(before == after && first.failed == second.failed && (first.failed || span_same(buf_view(&first),
			buf_view(&second))),
			"another parameter has changed");
	}
	buf_free(&out);
}

static void check_token(const struct http_request *r)
{
	char bytes[256];
	struct buf unescaped = buf_fixed(bytes, sizeof bytes), counted = buf_growable();
	struct span token, bearer = http_bearer(r->authorization);
	enum refusal why = http_token(r, true, &unescaped, &token);
	int found = http_parameter(r->query, "token", &counted);

	check((why == REFUSE_bad_escape) == (found < 0) && (why == REFUSE_two_tokens) == (found > 1),
		"another number of tokens");
	if (why == REFUSE_NONE && token.n > 0)
		check(bearer.p != NULL ? span_same(token, bearer) : span_same(token, buf_view(&counted)), "another token");
	if (bearer.p != NULL)
		check(bearer.n > 0 && memchr(bearer.p, ' ', bearer.n) == NULL && memchr(bearer.p, '\t', bearer.n) == NULL,
			"a token with white space");
	buf_free(&counted);
}

/* Names of headers have no case: the same head with each letter of a name turned around means the same. */
static void check_case(struct span head, enum refusal why, const struct http_request *r)
{
	struct span other = exact(head);
	char *p = (char *)(uintptr_t)other.p;
	struct http_request again;
	size_t lines = 0, at = 0;
	bool name = false;

	while (at + 1 < head.n && p[at] == '\r')
		at += 2; /* empty lines before the request */
	for (; at < head.n; at++) {
		if (p[at] == '\n') {
			lines++;
			name = true;
		} else if (p[at] == ':') {
			name = false;
		} else if (name && ((p[at] >= 'a' && p[at] <= 'z') || (p[at] >= 'A' && p[at] <= 'Z'))) {
			p[at] = (char)(p[at] ^ 0x20);
		}
	}
	check(lines > 0, "a head without lines");
	check(http_parse(other, &again) == why, "another verdict for names in another case");
	if (why == REFUSE_NONE)
		check(again.method == r->method && again.http10 == r->http10 && again.keep_alive == r->keep_alive
			&& again.has_body == r->has_body && again.preflight == r->preflight && span_same(again.path, r->path)
			&& span_same(again.query, r->query) && span_same(again.host, r->host) && span_same(again.origin, r->origin)
			&& span_same(again.authorization, r->authorization) && span_same(again.last_event_id, r->last_event_id)
			&& span_same(again.forwarded, r->forwarded), "another request for names in another case");
	exact_free(other);
}

static void check_head(struct span head)
{
	struct http_request r, again;
	enum refusal why = http_parse(head, &r);

	check(http_parse(head, &again) == why, "two verdicts");
	check(why != REFUSE_bad_request_line && why != REFUSE_unknown_method && why != REFUSE_bad_version
		&& why != REFUSE_bad_target,
		"http_scan let the request line pass, http_parse does not");
	check(why == REFUSE_NONE || refusal_status(why) >= 400, "not a refusal");
	check(r.path.n > 0, "no path");
	check_span(r.path, head);
	check_span(r.query, head);
	check_span(r.host, head);
	check_span(r.origin, head);
	check_span(r.authorization, head);
	check_span(r.last_event_id, head);
	check_span(r.forwarded, head);
	check_case(head, why, &r);
	if (why != REFUSE_NONE)
		return;
	check(r.http10 || r.host.p != NULL, "no host");
	check_escapes(r.path);
	check_escapes(r.query);
	check_target(&r);
	check_token(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span whole = exact((struct span){(const char *)bytes, n});
	uint64_t random = seed_of(whole);

	for (size_t i = 0; i < COUNT_OF(all_limits); i++) {
		struct http_scan scan = {0};
		int got = http_scan(&scan, whole.p, whole.n, &all_limits[i]), pieces = scan_in_pieces(whole, random + i,
			&all_limits[i]);

		check(got <= (int)whole.n && got > -REFUSE_COUNT, "neither a head nor a refusal");
		check(got == pieces, "whole %d (%s), in pieces %d (%s)", got, got < 0 ? refusal_name((enum refusal)-got) : "", pieces,
			pieces < 0 ? refusal_name((enum refusal)-pieces) : "");
		if (got > 0) {
			struct span head = exact((struct span){whole.p, (size_t)got});

			check(got >= 4 && memcmp(head.p + got - 4, "\r\n\r\n", 4) == 0, "a head without its empty line");
			check((size_t)got <= all_limits[i].head_bytes, "a head that is too large");
			check_head(head);
			exact_free(head);
		}
	}
	exact_free(whole);
	return 0;
}
