/*
 * test_ring.c - ids that never go back, packed audiences, and the ring against a model: for each byte
 * of its memory the model knows which event is the newest that needs it.
 */
#include "vectors.h"

#include <stdio.h>

/* ---- ids ---- */

static int id_order(struct event_id a, struct event_id b)
{
	if (a.ms != b.ms)
		return a.ms < b.ms ? -1 : 1;
	return a.n < b.n ? -1 : a.n > b.n;
}

Test(ring, ids_are_ordered_by_ms_and_then_by_n)
{
	static const struct event_id rising[] = {{-1, 0}, {0, 0}, {0, 1}, {0, UINT32_MAX}, {1, 0}, {1, 9}, {1, 10}, {10, 2},
		{INT64_C(1) << 33, 0}, {INT64_C(1) << 53, UINT32_MAX}};

	for (size_t i = 0; i < COUNT_OF(rising); i++)
		for (size_t k = 0; k < COUNT_OF(rising); k++) {
			int order = sse_id_order(rising[i], rising[k]);

			cr_expect_eq((order > 0) - (order < 0), (i > k) - (i < k), "%zu and %zu: %d", i, k, order);
		}
}

Test(ring, H35_an_id_is_read_as_it_was_written)
{
	static const struct event_id rows[] = {{0, 0}, {0, 1}, {1, 0}, {9, 10}, {1704110400123, 7},
		{1704110400123, UINT32_MAX}, {INT64_C(1) << 53, UINT32_MAX}};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct event_id id = {-1, 77};
		struct buf b = buf_growable();
		struct span text;

		sse_id(&b, rows[i]);
		text = exact(buf_view(&b));
		cr_expect(sse_id_read(text, &id) && id_order(id, rows[i]) == 0, "%.*s", (int)text.n, text.p);
		exact_free(text);
		buf_free(&b);
	}
}

Test(ring, H39_any_other_text_is_no_id)
{
	static const struct span rows[] = {BYTES(""), BYTES("-"), BYTES("1"), BYTES("1704110400123"), BYTES("1-"),
		BYTES("-1"), BYTES("--"), BYTES("1--1"), BYTES("-1-1"), BYTES("1-1-"), BYTES("1-1-1"), BYTES("+1-1"),
		BYTES("1-+1"), BYTES("1--0"), BYTES(" 1-1"), BYTES("1-1 "), BYTES("1 -1"), BYTES("1- 1"), BYTES("1-1\n"),
		BYTES("1-1\0"), BYTES("\0001-1"), BYTES("1\0-1"), BYTES("01-1"), BYTES("1-01"), BYTES("00-0"), BYTES("0-00"),
		BYTES("1-1a"), BYTES("a-1"), BYTES("0x1-1"), BYTES("1-0x1"), BYTES("1.0-1"), BYTES("1e3-1"), BYTES("1_000-1"),
		BYTES("1-1,2-1"), BYTES("1:1"), BYTES("1/1"), BYTES("\xef\xbc\x91-1"),
		/* one too many for 2^53, for 32 bits, for 64 bits, and with so many digits that it comes around */
		BYTES("9007199254740993-0"), BYTES("1-4294967296"), BYTES("9223372036854775808-0"),
		BYTES("18446744073709551617-0"), BYTES("1-18446744073709551617"), BYTES("1-4294967297"),
		BYTES("10000000000000000-0"), BYTES("00000000000000000-0"), BYTES("99999999999999999999999999999999999999-0"),
		BYTES("1-99999999999999999999999999999999999999"), BYTES("340282366920938463463374607431768211457-0"),
		BYTES("\xff-\xff"), BYTES("1-\xff"), BYTES("null"), BYTES("0-0-0")};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct span text = exact(rows[i]);
		struct event_id id;

		cr_expect_not(sse_id_read(text, &id), "row %zu: %.*s", i, (int)text.n, text.p);
		exact_free(text);
	}
}

Test(ring, what_is_read_as_an_id_is_written_the_same)
{
	static const char bytes[] = "0123456789-+.";
	uint64_t seed = 3;
	int good = 0;

	for (int i = 0; i < 200000; i++) {
		char text[24];
		struct span in = {text, random_below(&seed, i % 4 == 0 ? 24 : 6)};
		struct event_id id;
		struct buf b = buf_growable();

		for (size_t k = 0; k < in.n; k++)
			text[k] = bytes[random_below(&seed, sizeof bytes - 1)];
		if (in.n > 2 && i % 2 == 0)
			text[in.n / 2] = '-';
		in = exact(in);
		if (sse_id_read(in, &id)) {
			sse_id(&b, id);
			cr_assert(span_same(in, buf_view(&b)), "%.*s", (int)in.n, in.p);
			good++;
		}
		exact_free(in);
		buf_free(&b);
	}
	cr_assert_gt(good, 10000);
}

Test(ring, the_next_id_is_the_clock_or_one_more)
{
	static const struct {
		const char *name;
		struct event_id newest;
		int64_t wall_ms;
		struct event_id next;
	} rows[] = {
		{"the clock went on", {1000, 5}, 1001, {1001, 0}},
		{"the clock went on far", {1000, 5}, 1704110400123, {1704110400123, 0}},
		{"the same ms", {1000, 5}, 1000, {1000, 6}},
		{"the clock went back by 1 ms", {1000, 0}, 999, {1000, 1}},
		{"the clock went back to 1970", {1704110400123, 7}, 0, {1704110400123, 8}},
		{"the clock is before 1970", {1000, 0}, -5, {1000, 1}},
		{"the first one", {0, 0}, 1704110400123, {1704110400123, 0}},
		{"the first one, and a clock of 0: 0-0 is none", {0, 0}, 0, {0, 1}},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct ring r = {.newest = rows[i].newest};
		struct event_id id = ring_next_id(&r, rows[i].wall_ms);

		cr_expect_eq(id_order(id, rows[i].next), 0, "%s: %lld-%u", rows[i].name, (long long)id.ms, (unsigned)id.n);
		cr_expect_eq(id_order(r.newest, rows[i].newest), 0, "%s: the newest one changed", rows[i].name);
	}
}

Test(ring, R21_ids_rise_whatever_the_clock_does)
{
	struct ring r = {.newest = {1000000, 0}};
	uint64_t seed = 11;

	for (int i = 0; i < 100000; i++) {
		struct event_id id = ring_next_id(&r, 1000000 + i / 10 - (int64_t)random_below(&seed, 3) * 500);

		if (id_order(id, r.newest) <= 0)
			cr_assert_fail("event %d: %lld-%u", i, (long long)id.ms, (unsigned)id.n);
		r.newest = id;
	}
}

Test(ring, ids_rise_where_the_counter_is_at_its_end)
{
	struct ring r = {.newest = {1000, UINT32_MAX}};
	struct event_id id = ring_next_id(&r, 1000);

	cr_expect_gt(id_order(id, r.newest), 0, "%lld-%u", (long long)id.ms, (unsigned)id.n);
}

/* ---- packed audiences ---- */

#define ALL "\xf8"
#define USERS "\xf9"
#define ROLES "\xfa"
#define EXCEPT "\xfb"

/* What a walk comes by: "u:7 r:manager x:9 all ". */
static const char *walked(struct span who)
{
	static struct buf out = {.growable = true};
	struct who_walk w = {.rest = who};

	buf_clear(&out);
	while (who_next(&w)) {
		cr_assert(w.name.n == 0 || (w.name.p > who.p && w.name.p + w.name.n <= who.p + who.n), "a name from outside");
		buf_text(&out, w.mark == WHO_ALL ? "all" : w.mark == WHO_USERS ? "u:" : w.mark == WHO_ROLES ? "r:"
			: w.mark == WHO_EXCEPT ? "x:" : "?:");
		buf_span(&out, w.name);
		buf_byte(&out, ' ');
	}
	buf_byte(&out, '\0');
	return out.data;
}

#define NAME_16 "ABCDEFGHIJKLMNOP"
#define NAME_64 NAME_16 NAME_16 NAME_16 NAME_16

Test(ring, a_walk_finds_every_name_of_an_audience)
{
	static const struct {
		struct span who;
		const char *names;
	} rows[] = {
		{BYTES(""), ""},
		{BYTES(ALL), "all "},
		{BYTES(USERS "\0017"), "u:7 "},
		{BYTES(USERS "\0017\003ann\0018"), "u:7 u:ann u:8 "},
		{BYTES(ROLES "\007manager"), "r:manager "},
		{BYTES(USERS "\0017" ROLES "\007manager\007foreman"), "u:7 r:manager r:foreman "},
		{BYTES(ROLES "\007manager" USERS "\0017\0018"), "r:manager u:7 u:8 "},
		{BYTES(ALL EXCEPT "\0017\0019"), "all x:7 x:9 "},
		{BYTES(EXCEPT "\0017" ALL), "x:7 all "},
		{BYTES(EXCEPT "\0017" USERS "\0017" ROLES "\001a"), "x:7 u:7 r:a "},
		{BYTES(USERS "\x40" NAME_64 "\001a"), "u:" NAME_64 " u:a "},
		{BYTES(USERS "\006\xd0\x98\xd0\xb2\xd0\xb0"), "u:\xd0\x98\xd0\xb2\xd0\xb0 "},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct span who = exact(rows[i].who);

		cr_expect_str_eq(walked(who), rows[i].names, "row %zu: %s", i, walked(who));
		exact_free(who);
	}
}

Test(ring, a_walk_over_a_cut_audience_ends_there)
{
	static const struct span who = BYTES(EXCEPT "\0017" USERS "\003ann\0018" ROLES "\007manager" ALL);
	struct span whole = exact(who);
	char names[64];

	cr_assert_str_eq(strcpy(names, walked(whole)), "x:7 u:ann u:8 r:manager all ");
	for (size_t n = 0; n < who.n; n++) {
		struct span cut = exact((struct span){who.p, n});
		const char *found = walked(cut);

		cr_expect(strncmp(found, names, strlen(found)) == 0, "at byte %zu: %s", n, found);
		exact_free(cut);
	}
	exact_free(whole);
}

Test(ring, a_walk_over_garbage_ends_and_stays_inside)
{
	static const uint8_t likely[] = {WHO_ALL, WHO_USERS, WHO_ROLES, WHO_EXCEPT, 0xfc, 0xff, 0, 1, 2, 64, 65, 0xf7};
	uint64_t seed = 17;

	for (int i = 0; i < 100000; i++) {
		char bytes[40];
		struct span who = {bytes, random_below(&seed, sizeof bytes)};
		struct who_walk w;

		for (size_t k = 0; k < who.n; k++)
			bytes[k] = (char)(random_below(&seed, 3) == 0 ? random_below(&seed, 256)
				: likely[random_below(&seed, COUNT_OF(likely))]);
		who = exact(who);
		walked(who);
		w = (struct who_walk){.rest = who};
		for (size_t left = who.n + 1; who_next(&w); left = w.rest.n)
			cr_assert(w.rest.n < left, "it goes on without going on");
		exact_free(who);
	}
}

/* ---- a ring and its model ---- */

enum {
	SPARE = 16, /* bytes beside an audience and a frame that must fit the ring, see ring_append */
	RECENT = 4096
};

/* Who an event is for: `size` bytes that only this kind has in this order. */
struct audience {
	uint32_t kind, size;
};
static const struct audience nobody = {0, 0};

struct model {
	struct ring ring;
	uint32_t *owner;   /* a byte of the ring: the newest event whose frame or audience has it; 0: none */
	uint32_t appended; /* events so far; the first is 1 */
	uint32_t first;    /* the first event's number */
	uint32_t oldest;   /* event that is still there, in order */
	uint32_t wraps, shared;
	struct event_id floor;
	struct event_id ids[RECENT]; /* of event i, at i % RECENT */
	uint32_t sizes[RECENT];
	struct audience audiences[RECENT];
};

static struct model *model_of(uint64_t size, uint32_t events, uint32_t first)
{
	struct model *m = calloc(1, sizeof *m);

	cr_assert_not_null(m);
	m->ring = (struct ring){.bytes = malloc(size), .size = size, .mask = events - 1, .oldest = first, .next = first,
		.list = calloc(events, sizeof *m->ring.list)};
	m->owner = calloc(size, sizeof *m->owner);
	m->ring.floor = m->ring.newest = m->floor = (struct event_id){900, 0};
	m->first = first;
	m->oldest = 1;
	return m;
}

static void model_free(struct model *m)
{
	free(m->ring.bytes);
	free(m->ring.list);
	free(m->owner);
	free(m);
}

/* Event i is `size` letters that only it has in this order. */
static void frame_fill(char *frame, size_t size, uint32_t i)
{
	uint64_t seed = i * UINT64_C(2654435761) + 1;

	for (size_t k = 0; k < size; k++)
		frame[k] = (char)('a' + random_below(&seed, 26));
}

static struct span audience_bytes(struct audience who)
{
	static struct buf bytes = {.growable = true};
	uint64_t seed = who.kind * UINT64_C(0x9e3779b97f4a7c15) + who.size + 1;

	buf_clear(&bytes);
	for (uint32_t k = 0; k < who.size; k++)
		buf_byte(&bytes, (char)random_below(&seed, 256));
	return buf_view(&bytes);
}

static uint32_t number_of(const struct model *m, uint32_t i)
{
	return m->first + i - 1;
}

/* The newest event that has a byte in [from, to), 0: none. */
static uint32_t newest_owner(const struct model *m, uint64_t from, uint64_t to)
{
	uint32_t newest = 0;

	for (uint64_t at = from; at < to && at < m->ring.size; at++)
		newest = m->owner[at] > newest ? m->owner[at] : newest;
	return newest;
}

/*
 * Where the event stands: its audience and then its frame behind its neighbour, or at 0 because they would
 * not fit there; or the frame alone, and the audience is its neighbour's. Returns where its own bytes begin.
 */
static uint64_t check_place(struct model *m, const struct event *e, const struct event *last, uint64_t end_before)
{
	struct span who = ring_who(&m->ring, e);
	uint64_t lap = end_before % m->ring.size, own = e->who > 0 && e->who == e->who_bytes ? e->who_bytes : 0;
	uint64_t from = e->offset - own;

	cr_assert_eq(e->offset, e->at % m->ring.size);
	cr_assert(e->offset + e->bytes <= m->ring.size, "event %u reaches over the end", (unsigned)m->appended);
	cr_assert_eq(m->ring.end, e->at + e->bytes);
	cr_assert_eq(e->who_bytes, m->audiences[m->appended % RECENT].size);
	cr_assert(who.p >= m->ring.bytes && who.p + who.n <= m->ring.bytes + e->offset, "its audience is not before it");
	if (own == 0 && e->who_bytes > 0) {
		cr_assert(last != NULL && ring_who(&m->ring, last).p == who.p, "the audience is another one's");
		cr_assert(ring_bytes(&m->ring, last, true).p + last->bytes == ring_bytes(&m->ring, e, true).p,
			"frames that share an audience are no neighbours");
		m->shared++;
	}
	if (from == lap)
		return from;
	cr_assert_eq(from, 0, "event %u is not behind its neighbour", (unsigned)m->appended);
	cr_assert(lap + own + e->bytes + SPARE > m->ring.size, "event %u had room behind its neighbour",
		(unsigned)m->appended);
	m->wraps++;
	return from;
}

/* What had to go: what needs a byte where the new one stands. What may go: what stood within SPARE of it. */
static void check_overwritten(struct model *m, const struct event *e, uint64_t from)
{
	uint64_t end = e->offset + e->bytes;
	uint32_t oldest = m->ring.oldest - m->first + 1, must = newest_owner(m, from, end) + 1,
		may = newest_owner(m, from, end + SPARE) + 1;

	if (m->appended - m->oldest > m->ring.mask) { /* the list was full */
		must = must > m->oldest + 1 ? must : m->oldest + 1;
		may = may > must ? may : must;
	}
	must = must > m->oldest ? must : m->oldest;
	may = may > m->oldest ? may : m->oldest;
	cr_assert(oldest >= must, "event %u is there, and was overwritten by %u", (unsigned)oldest, (unsigned)m->appended);
	cr_assert(oldest <= may, "event %u was dropped without need by %u", (unsigned)oldest - 1, (unsigned)m->appended);
	if (oldest > m->oldest)
		m->floor = m->ids[(oldest - 1) % RECENT];
	m->oldest = oldest;
	for (uint64_t at = from; at < end; at++)
		m->owner[at] = m->appended;
	for (uint64_t at = e->offset - e->who; at < e->offset - e->who + e->who_bytes; at++)
		m->owner[at] = m->appended;
}

static void append_for(struct model *m, struct audience who, uint32_t size)
{
	char *frame = malloc(size + 1u);
	const struct event *event, *last = m->appended == 0 ? NULL : ring_event(&m->ring, m->ring.next - 1);
	struct event before = last != NULL ? *last : (struct event){0};
	uint64_t end_before = m->ring.end;
	uint32_t i = ++m->appended, number;
	struct event_id id = {1000 + i / 3, i % 3};

	frame_fill(frame, size, i);
	m->ids[i % RECENT] = id;
	m->sizes[i % RECENT] = size;
	m->audiences[i % RECENT] = who;
	number = ring_append(&m->ring, id, audience_bytes(who), (struct span){frame, size});
	free(frame);
	cr_assert_eq(number, number_of(m, i));
	cr_assert_eq(m->ring.next, number + 1);
	cr_assert_eq(id_order(m->ring.newest, id), 0);
	event = ring_event(&m->ring, number);
	cr_assert_not_null(event);
	check_overwritten(m, event, check_place(m, event, last != NULL ? &before : NULL, end_before));
}

static void append(struct model *m, uint32_t size)
{
	append_for(m, nobody, size);
}

/* An event that is there: its id, who it is for, and its bytes for both kinds of streams. */
static bool event_agrees(const struct model *m, uint32_t i)
{
	const struct event *e = ring_event(&m->ring, number_of(m, i));
	uint32_t size = m->sizes[i % RECENT];
	char *frame = malloc(size + 1u);
	struct buf chunk = buf_growable();
	char head[16];
	bool good = e != NULL;

	frame_fill(frame, size, i);
	snprintf(head, sizeof head, "%x\r\n", (unsigned)size);
	buf_text(&chunk, head);
	buf_bytes(&chunk, frame, size);
	buf_text(&chunk, "\r\n");
	good = good && id_order(e->id, m->ids[i % RECENT]) == 0
		&& span_same(ring_who(&m->ring, e), audience_bytes(m->audiences[i % RECENT]))
		&& span_same(ring_bytes(&m->ring, e, true), buf_view(&chunk))
		&& span_same(ring_bytes(&m->ring, e, false), (struct span){frame, size});
	free(frame);
	buf_free(&chunk);
	return good;
}

/* How a page that has everything up to this id goes on: with event i. */
static void check_resume(const struct model *m, struct event_id id, enum resume how, uint32_t i)
{
	uint32_t number = 77;
	enum resume got = ring_resume(&m->ring, id, &number);

	if (got != how || number != number_of(m, i))
		cr_assert_fail("%lld-%u, after %u: %d instead of %d, with %u instead of %u", (long long)id.ms, (unsigned)id.n,
			(unsigned)m->appended, (int)got, (int)how, (unsigned)(number - m->first + 1), (unsigned)i);
}

/* Every id that was given to one of the last events, and the ids between them that were not. */
static void check_resumes(const struct model *m)
{
	uint32_t end = m->appended + 1, from = m->oldest > 10 ? m->oldest - 10 : 1;

	cr_assert_eq(id_order(m->ring.floor, m->floor), 0, "the floor, after %u", (unsigned)m->appended);
	for (uint32_t i = from; i <= m->appended; i++) {
		struct event_id id = m->ids[i % RECENT], between = {id.ms, 3};

		if (id_order(id, m->floor) < 0)
			check_resume(m, id, RESUME_too_old, end);
		else
			check_resume(m, id, RESUME_replay, i + 1);
		check_resume(m, between, id_order(between, m->floor) < 0 ? RESUME_too_old
			: id_order(between, m->ring.newest) < 0 ? RESUME_unknown : RESUME_newer, end);
	}
	check_resume(m, m->floor, RESUME_replay, m->oldest);
	check_resume(m, (struct event_id){899, 0}, RESUME_too_old, end);
	check_resume(m, (struct event_id){m->ring.newest.ms, m->ring.newest.n + 1}, RESUME_newer, end);
	check_resume(m, (struct event_id){m->ring.newest.ms + 1, 0}, RESUME_newer, end);
}

/* All that are there, and none besides. */
static void check_all(const struct model *m)
{
	const struct ring *r = &m->ring;

	for (uint32_t i = m->oldest; i <= m->appended; i++)
		if (!event_agrees(m, i))
			cr_assert_fail("event %u, after %u", (unsigned)i, (unsigned)m->appended);
	for (uint32_t far = 1; far < UINT32_MAX / 2; far = far * 3 + 1)
		if (ring_event(r, r->oldest - far) != NULL || ring_event(r, r->next + far - 1) != NULL)
			cr_assert_fail("an event that is not there, %u off, after %u", (unsigned)far, (unsigned)m->appended);
	check_resumes(m);
}

static void random_appends(uint64_t size, uint32_t events, uint32_t largest, int times, uint32_t wraps)
{
	struct model *m = model_of(size, events, UINT32_MAX - 50);
	uint64_t seed = size + largest;

	for (int i = 0; i < times; i++) {
		append(m, 1 + random_below(&seed, random_below(&seed, 4) == 0 ? largest : 1 + largest / 8));
		check_all(m);
	}
	cr_expect_geq(m->wraps, wraps, "%u wraps only", (unsigned)m->wraps);
	model_free(m);
}

Test(ring, an_empty_ring_has_no_event)
{
	struct model *m = model_of(4096, 64, UINT32_MAX - 50);

	check_all(m);
	model_free(m);
}

Test(ring, the_oldest_are_overwritten_when_their_bytes_are_needed)
{
	random_appends(4096, 1024, 500, 10000, 200);
}

Test(ring, a_size_that_is_no_power_of_two_does_as_well)
{
	random_appends(1009, 1024, 300, 6000, 300);
}

Test(ring, frames_may_be_nearly_as_large_as_the_ring)
{
	random_appends(300, 64, 300 - 20, 6000, 1000);
}

Test(ring, the_oldest_are_overwritten_when_the_list_is_full)
{
	random_appends(4096, 8, 500, 10000, 200);
	random_appends(4096, 1, 500, 10000, 200);
}

Test(ring, frames_of_equal_size_fill_it_to_the_last_byte_that_may_be_used)
{
	for (uint32_t size = 1; size <= 60; size++) {
		struct model *m = model_of(512, 1024, UINT32_MAX - 50);

		for (int i = 0; i < 300; i++)
			append(m, size);
		check_all(m);
		model_free(m);
	}
}

Test(ring, neighbours_are_adjacent_unless_wrapped)
{
	struct model *m = model_of(4096, 1024, UINT32_MAX - 50);
	uint64_t seed = 5;

	for (int i = 0; i < 3000; i++) {
		const struct event *a, *b;

		append(m, 1 + random_below(&seed, 200));
		b = ring_event(&m->ring, m->ring.next - 1);
		a = ring_event(&m->ring, m->ring.next - 2);
		if (a != NULL && b->at % m->ring.size != 0) {
			struct span first = ring_bytes(&m->ring, a, true), second = ring_bytes(&m->ring, b, true);

			cr_assert(first.p + first.n == second.p, "event %d", i);
		}
	}
	model_free(m);
}

/* ---- audiences in the ring ---- */

/* Frames for some few audiences, each so often as not the one before. */
static struct model *audience_appends(uint64_t size, uint32_t events, uint32_t largest, uint32_t who, int times)
{
	struct model *m = model_of(size, events, UINT32_MAX - 50);
	uint64_t seed = size + who;
	struct audience to = nobody;

	for (int i = 0; i < times; i++) {
		if (random_below(&seed, 3) == 0) {
			to.kind = random_below(&seed, 4);
			to.size = random_below(&seed, 4) == 0 ? random_below(&seed, who + 1) : who / 8 + to.kind % 2;
		}
		append_for(m, to, 1 + random_below(&seed, random_below(&seed, 4) == 0 ? largest : 1 + largest / 8));
		if ((uint64_t)i % (1 + size / 1024) == 0)
			check_all(m);
	}
	check_all(m);
	return m;
}

Test(ring, an_event_goes_when_its_audience_is_overwritten)
{
	static const struct {
		uint64_t size;
		uint32_t events, frame, who;
		int times;
		uint32_t wraps, shared;
	} rows[] = {
		{16384, 1024, 60, 40, 4000, 4, 1500},
		{16384, 1024, 8, 200, 4000, 2, 1500}, /* many share one, and go with it */
		{4096, 1024, 40, 24, 6000, 20, 500},
		{1009, 1024, 300, 200, 4000, 200, 0},
		{300, 64, 140, 140, 4000, 500, 0},
		{300, 64, 4, 276, 4000, 500, 0},      /* nearly as large as the ring */
		{8192, 8, 30, 30, 4000, 4, 1000},     /* the list is full first */
		{8192, 1, 30, 30, 4000, 4, 1000},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct model *m = audience_appends(rows[i].size, rows[i].events, rows[i].frame, rows[i].who, rows[i].times);

		cr_expect_geq(m->wraps, rows[i].wraps, "row %zu: %u wraps", i, (unsigned)m->wraps);
		cr_expect_geq(m->shared, rows[i].shared, "row %zu: %u shared", i, (unsigned)m->shared);
		model_free(m);
	}
}

Test(ring, neighbours_with_the_same_audience_share_one_copy_and_are_one_piece)
{
	struct model *m = model_of(1 << 16, 4096, 0);
	const struct audience first = {1, 10}, second = {2, 10};
	uint64_t end;

	append_for(m, first, 30);
	end = m->ring.end;
	append_for(m, first, 30);
	cr_expect_eq(m->ring.end - end, 30 + 6, "the audience is there once more");
	append_for(m, second, 30);
	append_for(m, first, 30);
	append_for(m, first, 30);
	append_for(m, nobody, 30);
	append_for(m, first, 30);
	cr_expect_eq(m->shared, 2);
	check_all(m);
	model_free(m);
}

Test(ring, a_longer_or_shorter_audience_is_another_one)
{
	static const char who[] = USERS "\0017\0018";
	struct model *m = model_of(1 << 16, 64, 0);
	struct ring *r = &m->ring;

	for (size_t n = 0; n < sizeof who; n++) {
		uint32_t number = ring_append(r, (struct event_id){1000, (uint32_t)n}, (struct span){who, n}, span_of("frame"));

		cr_expect(span_same(ring_who(r, ring_event(r, number)), (struct span){who, n}), "%zu bytes", n);
	}
	model_free(m);
}

/* Else all that share it would go at once, and history would come in few large pieces. */
Test(ring, an_audience_is_shared_over_a_small_part_of_the_ring_only)
{
	struct model *m = model_of(1 << 16, 4096, 0);
	const struct audience one = {1, 10};
	uint32_t most = 0;

	for (int i = 0; i < 4000; i++) {
		uint32_t oldest = m->oldest;

		append_for(m, one, 60);
		most = m->oldest - oldest > most ? m->oldest - oldest : most;
	}
	check_all(m);
	cr_expect_gt(m->shared, 3000);
	cr_expect(most > 1 && most < 40, "%u went at once", (unsigned)most);
	cr_expect_gt(m->appended - m->oldest, 800, "the ring is not full");
	model_free(m);
}

Test(ring, an_audience_is_not_shared_with_an_event_that_was_forgotten)
{
	struct model *m = model_of(1 << 16, 64, UINT32_MAX);
	const struct audience one = {1, 10};

	append_for(m, one, 30);
	append_for(m, one, 30);
	ring_forget(&m->ring, INT64_MAX);
	m->oldest = m->appended + 1;
	m->floor = m->ring.newest;
	check_all(m);
	append_for(m, one, 30);
	cr_expect_eq(m->shared, 1);
	check_all(m);
	model_free(m);
}

/* ---- resuming, forgetting ---- */

/* The ring of these tests has events 1 to 5, and the number of the first may be any. */
static const struct event_id given[] = {{10, 0}, {10, 1}, {12, 0}, {15, 7}, {15, 9}};

static struct model *ring_given(uint32_t first, struct event_id floor, uint32_t events)
{
	struct model *m = model_of(4096, 8, first);

	m->ring.newest = m->ring.floor = floor;
	for (uint32_t i = 0; i < events; i++)
		ring_append(&m->ring, given[i], (struct span){NULL, 0}, span_of("frame"));
	return m;
}

struct resume_row {
	struct event_id id;
	enum resume how;
	uint32_t event; /* it goes on with, 0: none */
};

static void expect_resumes(const char *name, const struct model *m, const struct resume_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t number = 77, wanted = rows[i].event == 0 ? m->ring.next : number_of(m, rows[i].event);
		enum resume how = ring_resume(&m->ring, rows[i].id, &number);

		cr_expect(how == rows[i].how && number == wanted, "%s, first number %u: %lld-%u is %d, %u", name,
			(unsigned)m->first,
			(long long)rows[i].id.ms, (unsigned)rows[i].id.n, (int)how, (unsigned)(number - m->first + 1));
	}
}

static const uint32_t firsts[] = {0, 1, INT32_MAX - 2, UINT32_MAX - 5, UINT32_MAX - 4, UINT32_MAX - 2, UINT32_MAX};

Test(ring, a_page_goes_on_behind_the_event_it_saw_last)
{
	static const struct resume_row rows[] = {
		{{-1, 0}, RESUME_too_old, 0}, {{0, 0}, RESUME_too_old, 0}, {{8, UINT32_MAX}, RESUME_too_old, 0},
		{{9, 2}, RESUME_too_old, 0}, {{9, 3}, RESUME_replay, 1}, {{9, 4}, RESUME_unknown, 0},
		{{10, 0}, RESUME_replay, 2}, {{10, 1}, RESUME_replay, 3}, {{10, 2}, RESUME_unknown, 0},
		{{11, 0}, RESUME_unknown, 0}, {{12, 0}, RESUME_replay, 4}, {{12, 1}, RESUME_unknown, 0},
		{{15, 0}, RESUME_unknown, 0}, {{15, 6}, RESUME_unknown, 0}, {{15, 7}, RESUME_replay, 5},
		{{15, 8}, RESUME_unknown, 0}, {{15, 9}, RESUME_replay, 0}, {{15, 10}, RESUME_newer, 0},
		{{16, 0}, RESUME_newer, 0}, {{INT64_MAX, UINT32_MAX}, RESUME_newer, 0},
	};

	for (size_t i = 0; i < COUNT_OF(firsts); i++) {
		struct model *m = ring_given(firsts[i], (struct event_id){9, 3}, 5);

		expect_resumes("five events", m, rows, COUNT_OF(rows));
		model_free(m);
	}
}

Test(ring, a_page_that_saw_no_event_yet_goes_on_in_an_empty_ring)
{
	static const struct resume_row rows[] = {
		{{9, 2}, RESUME_too_old, 0}, {{9, 3}, RESUME_replay, 0}, {{9, 4}, RESUME_newer, 0},
	};

	for (size_t i = 0; i < COUNT_OF(firsts); i++) {
		struct model *m = ring_given(firsts[i], (struct event_id){9, 3}, 0);

		expect_resumes("no events", m, rows, COUNT_OF(rows));
		model_free(m);
	}
}

/* After damage: what came before event 3 may not be all there. */
Test(ring, only_a_page_that_saw_the_event_at_the_floor_goes_on)
{
	static const struct resume_row rows[] = {
		{{9, 3}, RESUME_too_old, 0}, {{10, 0}, RESUME_too_old, 0}, {{10, 1}, RESUME_too_old, 0},
		{{11, 0}, RESUME_too_old, 0}, {{12, 0}, RESUME_replay, 4}, {{12, 1}, RESUME_unknown, 0},
		{{15, 7}, RESUME_replay, 5}, {{15, 9}, RESUME_replay, 0}, {{15, 10}, RESUME_newer, 0},
	};

	for (size_t i = 0; i < COUNT_OF(firsts); i++) {
		struct model *m = ring_given(firsts[i], (struct event_id){9, 3}, 5);

		m->ring.floor = given[2];
		expect_resumes("a floor in the middle", m, rows, COUNT_OF(rows));
		ring_forget(&m->ring, 12); /* older than the floor: it stays where it is */
		cr_expect_eq(m->ring.oldest, number_of(m, 3));
		expect_resumes("a floor at the beginning", m, rows, COUNT_OF(rows));
		model_free(m);
	}
}

/* After a failure of power: nobody knows what came between the newest event and the floor. */
Test(ring, a_floor_behind_all_events_lets_nobody_go_on)
{
	static const struct resume_row rows[] = {
		{{9, 3}, RESUME_too_old, 0}, {{12, 0}, RESUME_too_old, 0}, {{15, 9}, RESUME_too_old, 0},
		{{19, 9}, RESUME_too_old, 0}, {{20, 0}, RESUME_replay, 0}, {{20, 1}, RESUME_newer, 0},
	};

	for (size_t i = 0; i < COUNT_OF(firsts); i++) {
		struct model *m = ring_given(firsts[i], (struct event_id){9, 3}, 5);

		m->ring.floor = m->ring.newest = (struct event_id){20, 0};
		expect_resumes("a floor behind all", m, rows, COUNT_OF(rows));
		model_free(m);
	}
}

Test(ring, events_older_than_an_age_are_forgotten)
{
	static const struct {
		int64_t before_ms;
		uint32_t oldest; /* event */
		struct event_id floor;
	} rows[] = {
		{INT64_MIN, 1, {9, 3}}, {0, 1, {9, 3}}, {10, 1, {9, 3}}, {11, 3, {10, 1}}, {12, 3, {10, 1}}, {13, 4, {12, 0}},
		{15, 4, {12, 0}}, {16, 6, {15, 9}}, {INT64_MAX, 6, {15, 9}},
	};

	for (size_t i = 0; i < COUNT_OF(firsts); i++)
		for (size_t k = 0; k < COUNT_OF(rows); k++) {
			struct model *m = ring_given(firsts[i], (struct event_id){9, 3}, 5);
			uint32_t number = 77;

			for (int twice = 0; twice < 2; twice++) {
				ring_forget(&m->ring, rows[k].before_ms);
				cr_expect_eq(m->ring.oldest, number_of(m, rows[k].oldest), "before %lld", (long long)rows[k].before_ms);
				cr_expect_eq(id_order(m->ring.floor, rows[k].floor), 0, "before %lld", (long long)rows[k].before_ms);
				cr_expect_eq(id_order(m->ring.newest, given[4]), 0);
				cr_expect_eq(m->ring.next, number_of(m, 6));
			}
			for (uint32_t e = 1; e <= 5; e++)
				cr_expect_eq(ring_event(&m->ring, number_of(m, e)) != NULL, e >= rows[k].oldest);
			cr_expect_eq(ring_resume(&m->ring, rows[k].floor, &number), RESUME_replay);
			cr_expect_eq(number, number_of(m, rows[k].oldest));
			cr_expect_eq(ring_resume(&m->ring, given[4], &number), RESUME_replay, "who has the newest goes on");
			cr_expect_eq(number, m->ring.next);
			model_free(m);
		}
}

Test(ring, numbers_wrap_around)
{
	struct model *m = model_of(4096, 64, UINT32_MAX - 50);

	for (int i = 0; i < 51; i++)
		append(m, 10);
	cr_assert_eq(m->ring.next, 0);
	check_all(m);
	append(m, 10);
	cr_assert_eq(m->ring.next, 1);
	check_all(m);
	cr_assert_not_null(ring_event(&m->ring, UINT32_MAX), "the last number before");
	cr_assert_not_null(ring_event(&m->ring, 0));
	cr_assert_null(ring_event(&m->ring, 1));
	model_free(m);
}

/* The contract of ring_append: the frame and 16 bytes more must fit. */
Test(ring, a_frame_that_leaves_16_bytes_of_the_ring_fits)
{
	struct model *m = model_of(256, 64, 7);

	append(m, 10);
	append(m, 256 - SPARE);
	check_all(m);
	cr_assert_eq(m->oldest, 2);
	append(m, 256 - SPARE);
	check_all(m);
	cr_assert_eq(m->oldest, 3);
	model_free(m);
}
