/*
 * test_ring.c - ids that never go back, and the ring against a model: for each byte of its memory
 * the model knows which event was written there last.
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

Test(ring, ids_rise_whatever_the_clock_does)
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

/* ---- a ring and its model ---- */

enum {
	SPARE = 16, /* bytes beside a frame that must fit the ring, see ring_append */
	RECENT = 4096
};

struct model {
	struct ring ring;
	uint32_t *owner;   /* a byte of the ring: which event was written there last; 0: none */
	uint32_t appended; /* events so far; the first is 1 */
	uint32_t first;    /* the first event's number */
	uint32_t oldest;   /* event that is still there, in order */
	uint32_t wraps;
	struct event_id ids[RECENT]; /* of event i, at i % RECENT */
	uint32_t sizes[RECENT];
};

static struct model *model_of(uint64_t size, uint32_t events, uint32_t first)
{
	struct model *m = calloc(1, sizeof *m);

	cr_assert_not_null(m);
	m->ring = (struct ring){.bytes = malloc(size), .size = size, .mask = events - 1, .oldest = first, .next = first,
		.list = calloc(events, sizeof *m->ring.list)};
	m->owner = calloc(size, sizeof *m->owner);
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

/* Where the event stands: behind its neighbour, or at 0 because it would not fit there. */
static void check_place(struct model *m, const struct event *e, uint64_t end_before)
{
	uint64_t from = e->at % m->ring.size, lap = end_before % m->ring.size;

	cr_assert(from + e->bytes <= m->ring.size, "event %u reaches over the end", (unsigned)m->appended);
	cr_assert_eq(m->ring.end, e->at + e->bytes);
	if (from == lap)
		return;
	cr_assert_eq(from, 0, "event %u is not behind its neighbour", (unsigned)m->appended);
	cr_assert(lap + e->bytes + SPARE > m->ring.size, "event %u had room behind its neighbour", (unsigned)m->appended);
	m->wraps++;
}

/* What had to go: what stood where the new one stands. What may go: what stood within SPARE of it. */
static void check_overwritten(struct model *m, const struct event *e)
{
	uint64_t from = e->at % m->ring.size;
	uint32_t oldest = m->ring.oldest - m->first + 1, must = newest_owner(m, from, from + e->bytes) + 1,
		may = newest_owner(m, from, from + e->bytes + SPARE) + 1;

	if (m->appended - m->oldest > m->ring.mask) { /* the list was full */
		must = must > m->oldest + 1 ? must : m->oldest + 1;
		may = may > must ? may : must;
	}
	must = must > m->oldest ? must : m->oldest;
	may = may > m->oldest ? may : m->oldest;
	cr_assert(oldest >= must, "event %u is there, and was overwritten by %u", (unsigned)oldest, (unsigned)m->appended);
	cr_assert(oldest <= may, "event %u was dropped without need by %u", (unsigned)oldest - 1, (unsigned)m->appended);
	m->oldest = oldest;
	for (uint64_t at = from; at < from + e->bytes; at++)
		m->owner[at] = m->appended;
}

static void append(struct model *m, uint32_t size)
{
	char *frame = malloc(size + 1u);
	uint64_t end_before = m->ring.end;
	uint32_t i = ++m->appended, number;
	struct event_id id = {1000 + i / 3, i % 3};

	frame_fill(frame, size, i);
	number = ring_append(&m->ring, id, (struct span){frame, size});
	free(frame);
	cr_assert_eq(number, number_of(m, i));
	cr_assert_eq(m->ring.next, number + 1);
	cr_assert_eq(id_order(m->ring.newest, id), 0);
	m->ids[i % RECENT] = id;
	m->sizes[i % RECENT] = size;
	cr_assert_not_null(ring_event(&m->ring, number));
	check_place(m, ring_event(&m->ring, number), end_before);
	check_overwritten(m, ring_event(&m->ring, number));
}

/* An event that is there: its id, and its bytes for both kinds of streams. */
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
		&& span_same(ring_bytes(&m->ring, e, true), buf_view(&chunk))
		&& span_same(ring_bytes(&m->ring, e, false), (struct span){frame, size});
	free(frame);
	buf_free(&chunk);
	return good;
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
