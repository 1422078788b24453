/* fuzz_response.c - the first byte says whether Django closes behind it; the rest is its answer, and a body to
 * be read. */
#include "fuzz.h"

struct result {
	int64_t got;
	int status;
	bool keep_alive;
	int64_t max_age_s;
	struct buf body;
};

static void result_take(struct result *result, int64_t got, const struct http_response *r)
{
	*result = (struct result){got, r->status, r->keep_alive, r->max_age_s, buf_growable()};
	if (got > 0)
		buf_span(&result->body, r->body);
}

/* What is told when so many bytes are there: all at once, or after every piece before them. */
static void read_whole(struct span text, bool ended, struct result *result)
{
	struct span copy = exact(text);
	struct http_response r;
	int64_t got = http_response((char *)(uintptr_t)copy.p, copy.n, ended, &r);

	check(got >= -1 && got <= (int64_t)copy.n, "takes %lld bytes of %zu", (long long)got, copy.n);
	if (got > 0) {
		check(r.status >= 200 && r.status <= 999, "status %d", r.status);
		check(r.body.n == 0 || is_within(r.body, copy), "a body that is not in the answer");
		check(r.max_age_s >= -1, "a max-age below 0");
	}
	result_take(result, got, &r);
	exact_free(copy);
}

static void read_pieces(struct span text, bool ended, uint64_t random, struct result *result)
{
	struct span copy = exact(text);
	struct http_response r = {0};
	int64_t got = 0;
	size_t n = 0;

	do {
		n += copy.n > n ? 1 + random_below(&random, (uint32_t)(copy.n - n)) : 0;
		begin_only(copy, n);
		got = http_response((char *)(uintptr_t)copy.p, n, ended && n == copy.n, &r);
	} while (got == 0 && n < copy.n);
	result_take(result, got, &r);
	begin_only(copy, copy.n);
	exact_free(copy);
}

static void check_same(const struct result *a, const struct result *b)
{
	check(a->got == b->got, "whole %lld, in pieces %lld", (long long)a->got, (long long)b->got);
	if (a->got > 0)
		check(a->status == b->status && a->keep_alive == b->keep_alive && a->max_age_s == b->max_age_s
			&& span_same(buf_view(&a->body), buf_view(&b->body)), "in pieces it is another answer");
}

static bool name_good(struct span name)
{
	bool good = name.n > 0 && name.n <= MAX_NAME && is_utf8(name);

	for (size_t i = 0; i < name.n; i++)
		good &= (unsigned char)name.p[i] >= ' ' && name.p[i] != 0x7f;
	return good;
}

static void check_answer(struct span body)
{
	struct span text = exact(body);
	struct identity who;
	size_t at = SIZE_MAX;
	const char *error = answer_read(text, &who, &at);
	struct span bytes = {who.bytes, sizeof who.bytes};

	check(at <= text.n, "a mistake outside of the text");
	if (error == NULL) {
		check(is_json(text, MAX_DEPTH), "not JSON, and taken");
		check(name_good(who.user) && is_within(who.user, bytes), "a user id that is none");
		check(who.sid.n <= MAX_NAME && is_within(who.sid, bytes) && is_utf8(who.sid), "a sid that is none");
		check(who.role_count >= 0 && who.role_count <= MAX_ROLES && !who.text.failed, "%d roles", who.role_count);
		for (int i = 0; i < who.role_count; i++)
			check(name_good(who.roles[i]) && is_within(who.roles[i], bytes), "a role that is none");
		check(who.expire_at >= 0 && who.expire_at <= INT64_C(1) << 53, "an end that is none");
	}
	exact_free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span input = {(const char *)bytes, n}, text;
	bool ended = take_upto(&input, 1) == 1;
	struct result whole, pieces, cut;
	uint64_t random;

	text = exact(input);
	random = seed_of(text);
	read_whole(text, ended, &whole);
	read_pieces(text, ended, random, &pieces);
	check_same(&whole, &pieces);
	buf_free(&pieces.body);
	/* What stands behind it changes nothing, and what is missing is missed. */
	if (whole.got > 0 && (whole.keep_alive || !ended)) {
		read_whole((struct span){text.p, (size_t)whole.got}, false, &cut);
		check_same(&whole, &cut);
		buf_free(&cut.body);
		read_whole((struct span){text.p, random_below(&random, (uint32_t)whole.got)}, false, &cut);
		check(cut.got == 0, "part of an answer is one");
		buf_free(&cut.body);
	}
	if (whole.got > 0)
		check_answer(buf_view(&whole.body));
	check_answer(text);
	buf_free(&whole.body);
	exact_free(text);
	return 0;
}
