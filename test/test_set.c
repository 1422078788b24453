/* test_set.c - spans and buffers; sets and tables against models that are too simple to be wrong. */
#include "vectors.h"

#include <stdio.h>

/* ---- spans ---- */

Test(span, spans_are_compared_by_their_bytes)
{
	struct span manager = {"managers", 7};

	cr_expect(span_is(manager, "manager"));
	cr_expect_not(span_is(manager, "managers"));
	cr_expect_not(span_is(manager, "manage"));
	cr_expect_not(span_is((struct span)BYTES("a\0b"), "a"), "a NUL is a byte like others");
	cr_expect(span_same(manager, span_of("manager")));
	cr_expect_not(span_same(manager, span_of("Manager")));
	cr_expect(span_same((struct span){NULL, 0}, span_of("")));
	cr_expect(span_is((struct span){NULL, 0}, ""));
}

Test(span, case_is_that_of_a_to_z)
{
	static const struct {
		struct span a;
		const char *b;
		bool same;
	} rows[] = {
		{BYTES("Host"), "hOST", true}, {BYTES(""), "", true}, {BYTES("AZ-az_09"), "az-AZ_09", true},
		{BYTES("Host"), "Hos", false}, {BYTES("Hos"), "Host", false}, {BYTES("ab\0"), "ab", false},
		{BYTES("@["), "`{", false}, {BYTES("\xc3\x89"), "\xc3\xa9", false}, {BYTES(""), "a", false},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct span copy = exact(rows[i].a);

		cr_expect_eq(span_is_nocase(copy, rows[i].b), rows[i].same, "%s", rows[i].b);
		exact_free(copy);
	}
}

/* ---- buffers ---- */

Test(buf, what_does_not_fit_is_left_out_and_so_is_what_follows)
{
	char *bytes = malloc(4);
	struct buf b = buf_fixed(bytes, 4);

	buf_text(&b, "abc");
	cr_assert_not(b.failed);
	buf_text(&b, "de");
	cr_assert(b.failed);
	cr_assert(span_is(buf_view(&b), "abc"), "%.*s", (int)b.len, b.data);
	buf_byte(&b, 'd');
	cr_assert(b.failed && span_is(buf_view(&b), "abc"), "%.*s", (int)b.len, b.data);
	buf_clear(&b);
	cr_assert(b.len == 0 && !b.failed && b.cap == 4);
	buf_text(&b, "wxyz");
	cr_assert(span_is(buf_view(&b), "wxyz") && !b.failed, "it fits to the last byte");
	buf_free(&b); /* is not the owner */
	free(bytes);
}

Test(buf, nothing_fits_everywhere)
{
	struct buf fixed = buf_fixed(NULL, 0), growable = buf_growable();

	buf_bytes(&fixed, NULL, 0);
	buf_text(&fixed, "");
	buf_span(&growable, (struct span){NULL, 0});
	cr_assert(!fixed.failed && !growable.failed && growable.data == NULL);
	buf_byte(&fixed, 'a');
	cr_assert(fixed.failed && fixed.len == 0);
}

Test(buf, a_growable_one_takes_what_comes)
{
	struct buf b = buf_growable();
	char piece[97];

	for (size_t n = 0; n < 3000; n++) {
		memset(piece, 'a' + (int)(n % 26), sizeof piece);
		buf_bytes(&b, piece, n % sizeof piece);
		buf_byte(&b, '\0');
	}
	cr_assert_not(b.failed);
	for (size_t n = 0, at = 0; n < 3000; n++, at++) {
		for (size_t i = 0; i < n % sizeof piece; i++, at++)
			if (b.data[at] != (char)('a' + n % 26))
				cr_assert_fail("piece %zu at %zu", n, at);
		cr_assert(b.data[at] == '\0');
	}
	buf_free(&b);
	cr_assert(b.data == NULL && b.len == 0 && b.cap == 0);
	buf_text(&b, "again");
	cr_assert(span_is(buf_view(&b), "again"), "it can be used again");
	buf_free(&b);
}

Test(buf, a_piece_larger_than_twice_what_is_there_fits)
{
	struct buf b = buf_growable();
	char *piece = calloc(1, 1 << 20);

	cr_assert_not_null(piece);
	buf_byte(&b, 'a');
	buf_bytes(&b, piece, 1 << 20);
	cr_assert(!b.failed && b.len == (1 << 20) + 1 && b.data[0] == 'a');
	buf_free(&b);
	free(piece);
}

Test(buf, a_length_that_cannot_be_fails_and_keeps_the_rest)
{
	struct buf b = buf_growable();

	buf_text(&b, "abc");
	buf_bytes(&b, "x", SIZE_MAX);
	cr_assert(b.failed && span_is(buf_view(&b), "abc"));
	buf_bytes(&b, "x", SIZE_MAX / 2);
	cr_assert(b.failed && span_is(buf_view(&b), "abc"));
	buf_free(&b);
}

Test(buf, a_number_is_written_in_decimal)
{
	static const int64_t rows[] = {0, 1, -1, 9, 10, -10, 99, 100, 1704110400123, INT32_MIN, UINT32_MAX, INT64_MAX,
		INT64_MIN, INT64_MIN + 1};
	char expected[32];

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		char bytes[20];
		struct buf b = buf_fixed(bytes, sizeof bytes);

		buf_number(&b, rows[i]);
		snprintf(expected, sizeof expected, "%lld", (long long)rows[i]);
		cr_expect(!b.failed && span_is(buf_view(&b), expected), "%s: %.*s", expected, (int)b.len, b.data);
	}
}

/* ---- sets ---- */

/* A set in an exactly sized block, and its model: a bool a number. */
struct pair {
	struct set set;
	bool *model;
};

static struct pair pair_of(uint32_t max)
{
	struct pair p = {{.words = calloc((max + 63) / 64, sizeof(uint64_t)), .max = max}, calloc(max, sizeof(bool))};

	cr_assert(p.set.words != NULL && p.model != NULL);
	return p;
}

static void pair_free(struct pair *p)
{
	free(p->set.words);
	free(p->model);
}

static uint32_t model_next(const struct pair *p, uint32_t from)
{
	while (from < p->set.max && !p->model[from])
		from++;
	return from < p->set.max ? from : SET_END;
}

static bool pair_agrees(const struct pair *p)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < p->set.max; i++) {
		if (set_has(&p->set, i) != p->model[i] || set_next(&p->set, i) != model_next(p, i))
			return false;
		count += p->model[i];
	}
	return count == p->set.count && set_next(&p->set, p->set.max) == SET_END
		&& set_next(&p->set, p->set.max + 64) == SET_END && set_next(&p->set, SET_END) == SET_END;
}

Test(set, random_changes_leave_what_the_model_has)
{
	static const uint32_t sizes[] = {1, 2, 63, 64, 65, 127, 128, 129, 200, 1000};
	uint64_t seed = 42;

	for (size_t s = 0; s < COUNT_OF(sizes); s++) {
		struct pair p = pair_of(sizes[s]);

		cr_expect(pair_agrees(&p), "%u numbers, none in it", (unsigned)sizes[s]);
		for (int step = 0; step < 500; step++) {
			uint32_t i = random_below(&seed, sizes[s]);

			p.model[i] = random_below(&seed, 100) < (step % 200 < 100 ? 70 : 30);
			(p.model[i] ? set_add : set_remove)(&p.set, i);
			if (!pair_agrees(&p))
				cr_assert_fail("%u numbers, step %d", (unsigned)sizes[s], step);
		}
		pair_free(&p);
	}
}

Test(set, what_is_added_or_removed_twice_counts_once)
{
	struct pair p = pair_of(70);

	set_add(&p.set, 69);
	set_add(&p.set, 69);
	cr_assert_eq(p.set.count, 1);
	set_remove(&p.set, 69);
	set_remove(&p.set, 69);
	set_remove(&p.set, 0);
	cr_assert_eq(p.set.count, 0);
	pair_free(&p);
}

Test(set, next_crosses_the_borders_of_words)
{
	struct pair p = pair_of(260); /* the last word has four numbers */

	set_add(&p.set, 63);
	cr_expect_eq(set_next(&p.set, 0), 63);
	cr_expect_eq(set_next(&p.set, 63), 63);
	cr_expect_eq(set_next(&p.set, 64), SET_END, "behind the last member");
	set_add(&p.set, 64);
	set_add(&p.set, 259);
	cr_expect_eq(set_next(&p.set, 64), 64);
	cr_expect_eq(set_next(&p.set, 65), 259, "over two empty words");
	cr_expect_eq(set_next(&p.set, 259), 259);
	cr_expect_eq(set_next(&p.set, 260), SET_END);
	pair_free(&p);
}

Test(set, a_full_set_is_walked_from_end_to_end)
{
	struct pair p = pair_of(130);
	uint32_t expected = 0;

	for (uint32_t i = 0; i < 130; i++)
		set_add(&p.set, i);
	for (uint32_t i = set_next(&p.set, 0); i != SET_END; i = set_next(&p.set, i + 1))
		cr_assert_eq(i, expected++);
	cr_assert_eq(expected, 130);
	pair_free(&p);
}

Test(set, a_set_of_no_numbers_has_none)
{
	struct set none = {.words = NULL, .max = 0};

	cr_assert_eq(set_next(&none, 0), SET_END);
}

/* ---- tables ---- */

struct record {
	uint32_t hash;
	bool in; /* the model: it was added */
	uint16_t other;
};

/* A table with all its memory exactly sized: records 1 .. max. */
struct world_of_records {
	struct table table;
	struct record *records;
	uint32_t *slots; /* the block */
	uint32_t max;
};

static struct world_of_records records_of(uint32_t max)
{
	struct world_of_records w = {.records = calloc(max + 1, sizeof *w.records),
		.slots = calloc(table_slots(max), sizeof *w.slots), .max = max};

	cr_assert(w.records != NULL && w.slots != NULL);
	w.table = (struct table){.slots = w.slots, .records = (char *)w.records, .stride = sizeof *w.records};
	return w;
}

static void records_free(struct world_of_records *w)
{
	free(w->records);
	free(w->slots);
}

static void record_add(struct world_of_records *w, uint32_t i, uint32_t hash)
{
	w->records[i] = (struct record){.hash = hash, .in = true};
	table_add(&w->table, i);
}

static void record_remove(struct world_of_records *w, uint32_t i)
{
	table_remove(&w->table, i);
	w->records[i].in = false;
}

/* A walk gives each record that has this hash once, and no other. */
static bool walk_agrees(const struct world_of_records *w, uint32_t hash)
{
	uint32_t at = 0, record, expected = 0, found = 0;

	for (uint32_t i = 1; i <= w->max; i++)
		expected += w->records[i].in && w->records[i].hash == hash;
	while ((record = table_next(&w->table, hash, &at)) != 0) {
		if (record > w->max || !w->records[record].in || w->records[record].hash != hash || ++found > expected)
			return false;
	}
	return found == expected;
}

static bool records_agree(const struct world_of_records *w)
{
	uint32_t in = 0, filled = 0;

	for (uint32_t i = 1; i <= w->max; i++) {
		in += w->records[i].in;
		if (!walk_agrees(w, w->records[i].hash))
			return false;
	}
	for (uint32_t i = 0; w->table.mask > 0 && i <= w->table.mask; i++)
		filled += w->table.slots[i] != 0;
	return in == w->table.count && filled == in && in * UINT64_C(4) <= (w->table.mask + UINT64_C(1)) * 3;
}

Test(table, an_empty_table_has_nothing)
{
	struct world_of_records w = records_of(10);

	cr_assert(walk_agrees(&w, 0) && walk_agrees(&w, 7) && walk_agrees(&w, UINT32_MAX));
	record_add(&w, 1, 7);
	record_remove(&w, 1);
	cr_assert(walk_agrees(&w, 7) && records_agree(&w), "once it was in use, too");
	records_free(&w);
}

/* How the hash of a record is made: each kind crowds the table in another place. */
static uint32_t hash_random(uint64_t *seed) { return random_below(seed, UINT32_MAX); }
static uint32_t hash_few(uint64_t *seed) { return random_below(seed, 5); }
static uint32_t hash_at_the_end(uint64_t *seed) { return UINT32_MAX - 3 + random_below(seed, 8); }
static uint32_t hash_same_slot(uint64_t *seed) { return random_below(seed, 1000) << 20 | 62; }

static const struct {
	const char *name;
	uint32_t (*hash)(uint64_t *seed);
} kinds[] = {
	{"random", hash_random},
	{"few different", hash_few},
	{"about the last slot", hash_at_the_end},
	{"different, in one slot", hash_same_slot},
};

/* Random adds and removes: first it fills up, then it empties, and so on. */
static void random_changes(const char *name, uint32_t (*hash)(uint64_t *), uint32_t max, int steps, int look)
{
	struct world_of_records w = records_of(max);
	uint64_t seed = 7;

	for (int step = 0; step < steps; step++) {
		uint32_t i = 1 + random_below(&seed, max);
		bool fill = random_below(&seed, 100) < (step / (int)max % 4 < 2 ? 85 : 15);

		if (!w.records[i].in && fill)
			record_add(&w, i, hash(&seed));
		else if (w.records[i].in && !fill)
			record_remove(&w, i);
		if (step % look == 0 && !records_agree(&w))
			cr_assert_fail("%s: %u records, step %d", name, (unsigned)max, step);
	}
	cr_expect(records_agree(&w), "%s: %u records, at the end", name, (unsigned)max);
	records_free(&w);
}

Test(table, random_changes_within_64_slots_leave_what_the_model_has)
{
	for (size_t i = 0; i < COUNT_OF(kinds); i++)
		random_changes(kinds[i].name, kinds[i].hash, 46, 4000, 1);
}

Test(table, random_changes_while_it_grows_leave_what_the_model_has)
{
	for (size_t i = 0; i < COUNT_OF(kinds); i++)
		random_changes(kinds[i].name, kinds[i].hash, 500, 6000, 97);
}

Test(table, it_doubles_when_it_would_be_more_than_3_4_full)
{
	struct world_of_records w = records_of(3000);
	uint64_t seed = 3;
	uint32_t slots = 64;

	for (uint32_t i = 1; i <= 3000; i++) {
		record_add(&w, i, random_below(&seed, 1000));
		if (i * 4 > slots * 3)
			slots *= 2;
		if (w.table.mask != slots - 1)
			cr_assert_fail("%u records in %u slots", (unsigned)i, (unsigned)w.table.mask + 1);
		if ((i & (i - 1)) == 0 || i % 500 == 0)
			cr_assert(records_agree(&w), "%u records", (unsigned)i);
	}
	for (uint32_t i = 3000; i >= 1; i--)
		record_remove(&w, i);
	cr_expect(records_agree(&w) && w.table.count == 0);
	records_free(&w);
}

/* Every record of a run that wraps around the end is removed once, in every order of two. */
Test(table, removal_closes_the_gap_also_around_the_end)
{
	static const uint32_t hashes[] = {61, 62, 62, 63, 63, 61, 0, 1, 62, 3};

	for (uint32_t first = 1; first <= COUNT_OF(hashes); first++)
		for (uint32_t second = 1; second <= COUNT_OF(hashes); second++) {
			struct world_of_records w = records_of(COUNT_OF(hashes));

			for (uint32_t i = 1; i <= COUNT_OF(hashes); i++)
				record_add(&w, i, hashes[i - 1]);
			record_remove(&w, first);
			if (second != first)
				record_remove(&w, second);
			cr_expect(records_agree(&w), "records %u, %u", (unsigned)first, (unsigned)second);
			records_free(&w);
		}
}

/* The block is as large as table_slots says: the sanitizer would see a slot too many. */
Test(table, its_slots_are_enough_for_its_records)
{
	for (uint32_t max = 1; max < 1000; max++) {
		struct world_of_records w = records_of(max);

		for (uint32_t i = 1; i <= max; i++)
			record_add(&w, i, i * 2654435761u);
		cr_expect_eq(w.table.count, max);
		cr_expect(w.table.slots + w.table.mask + 1 <= w.slots + table_slots(max), "%u records", (unsigned)max);
		records_free(&w);
	}
}
