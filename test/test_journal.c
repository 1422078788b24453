/*
 * test_journal.c - the journal: its form, byte by byte; then a server with one that is restarted, killed,
 * and whose disk is damaged, full, or slow.
 */
#include "vectors.h"
#include "world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the form: heads, records ---- */

#define USERS "\xf9"
#define ROLES "\xfa"
#define ALL "\xf8"

static void put_head(struct buf *b, struct event_id after, uint64_t boot)
{
	struct journal_head head = journal_head(after, boot);

	buf_bytes(b, &head, sizeof head);
}

static void put_record(struct buf *b, struct event_id id, struct span who, struct span frame)
{
	struct journal_record record = journal_record(id, who, frame);

	buf_bytes(b, &record, sizeof record);
	buf_span(b, who);
	buf_span(b, frame);
}

/* What these tests write: four events and an end. */
static const struct {
	struct event_id id;
	struct span who, frame;
} sample[] = {
	{{1704110400123, 0}, BYTES(ALL), BYTES("id: 1704110400123-0\ndata: {\"event\":\"a\"}\n\n")},
	{{1704110400123, 1}, BYTES(USERS "\0017" ROLES "\007manager"), BYTES("f")},
	{{1704110400124, 0}, BYTES(""), BYTES("id: \xd0\x98\0\n")},
	{{1704110400124, UINT32_MAX}, BYTES(USERS "\003ann"), BYTES("data: the last\n\n")},
	{{1704110400124, UINT32_MAX}, BYTES(""), BYTES("")},
};

static struct buf sample_segment(void)
{
	struct buf b = buf_growable();

	put_head(&b, (struct event_id){1704110400100, 5}, 99);
	for (size_t i = 0; i < COUNT_OF(sample); i++)
		put_record(&b, sample[i].id, sample[i].who, sample[i].frame);
	return b;
}

static size_t record_bytes(size_t i)
{
	return sizeof(struct journal_record) + sample[i].who.n + sample[i].frame.n;
}

/* Where record i of the sample begins; COUNT_OF(sample): its end. */
static size_t record_at(size_t i)
{
	return i == 0 ? sizeof(struct journal_head) : record_at(i - 1) + record_bytes(i - 1);
}

/*
 * Walks a segment; every event found must be one of the sample's, unaltered. Returns a bit for each. The
 * bytes passed over are added up in *lost, those behind the last one too.
 */
static unsigned found(struct span segment, size_t at, size_t *lost)
{
	struct span text = exact(segment);
	struct journal_event e;
	size_t skipped, from = at;
	unsigned all = 0;

	*lost = 0;
	while (journal_next(text, &at, &skipped, &e)) {
		size_t i = 0;

		while (i < COUNT_OF(sample) && !(sse_id_order(e.id, sample[i].id) == 0 && span_same(e.who, sample[i].who)
				&& span_same(e.frame, sample[i].frame)))
			i++;
		cr_assert_lt(i, COUNT_OF(sample), "an event that was never written, at byte %zu", from);
		cr_assert_lt(all, 1u << i, "event %zu comes again, or late", i);
		cr_assert(e.frame.p == text.p + at - e.frame.n && e.who.p == e.frame.p - e.who.n, "it is not where it must be");
		cr_assert_eq(at - from - skipped, record_bytes(i));
		*lost += skipped;
		all |= 1u << i;
		from = at;
	}
	cr_assert_eq(at, from, "it went on without an event");
	*lost += text.n - at;
	exact_free(text);
	return all;
}

static const unsigned every = (1u << COUNT_OF(sample)) - 1;

Test(journal, records_are_read_as_they_were_written)
{
	struct buf b = sample_segment();
	size_t lost;

	cr_assert_eq(found(buf_view(&b), sizeof(struct journal_head), &lost), every);
	cr_assert_eq(lost, 0);
	cr_assert_eq(found(buf_view(&b), 0, &lost), every, "without knowing where the head ends");
	cr_assert_eq(lost, sizeof(struct journal_head));
	buf_free(&b);
}

Test(journal, records_of_any_size_are_read_as_they_were_written)
{
	struct buf b = buf_growable(), bytes = buf_growable();
	struct journal_event e;
	size_t at = 0, skipped;
	uint64_t seed = 5;
	struct span text;

	for (uint32_t i = 0; i < 100000; i++)
		buf_byte(&bytes, (char)random_below(&seed, 255)); /* every byte but the one of the mark */
	for (uint32_t i = 0; i < 300; i++)
		put_record(&b, (struct event_id){-5 + i * INT64_C(0x123456789), i * 0x1234567},
			(struct span){bytes.data + i, i % 7 * 40}, (struct span){bytes.data + i * 3, i % 50 == 0 ? 90000 : i});
	text = exact(buf_view(&b));
	for (uint32_t i = 0; i < 300; i++) {
		cr_assert(journal_next(text, &at, &skipped, &e), "record %u", (unsigned)i);
		cr_assert_eq(skipped, 0);
		cr_assert_eq(e.id.ms, -5 + i * INT64_C(0x123456789));
		cr_assert_eq(e.id.n, i * 0x1234567);
		cr_assert(span_same(e.who, (struct span){bytes.data + i, i % 7 * 40}));
		cr_assert(span_same(e.frame, (struct span){bytes.data + i * 3, i % 50 == 0 ? 90000 : i}));
	}
	cr_assert_eq(at, text.n);
	cr_assert_not(journal_next(text, &at, &skipped, &e));
	exact_free(text);
	buf_free(&b);
	buf_free(&bytes);
}

Test(journal, a_head_is_read_as_it_was_written)
{
	static const struct {
		struct event_id after;
		uint64_t boot;
	} rows[] = {{{0, 0}, 0}, {{1704110400123, 7}, 1}, {{INT64_MAX, UINT32_MAX}, UINT64_MAX}};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct journal_head head = journal_head(rows[i].after, rows[i].boot), read;
		struct span text = exact((struct span){(char *)&head, sizeof head});

		cr_assert_eq(journal_head_read(text, &read), JOURNAL_GOOD);
		cr_expect_eq(memcmp(&read, &head, sizeof head), 0);
		cr_expect_eq(read.version, JOURNAL_VERSION);
		cr_expect_eq(read.after_ms, rows[i].after.ms);
		cr_expect_eq(read.after_n, rows[i].after.n);
		cr_expect_eq(read.boot, rows[i].boot);
		exact_free(text);
	}
}

/* Of versions 1 and 2: {1704110400123, 7}, boot 0x1122334455667788. */
static const char head_1[] = "SSE\r\n\x1a\n\0\1\0\0\0\7\0\0\0\x7b\x22\xe5\xc4\x8c\1\0\0\x88\x77\x66\x55\x44\x33\x22\x11"
	"\x54\xc3\xe6\x42\xc0\x67\x2d\x26";
static const char head_2[] = "SSE\r\n\x1a\n\0\2\0\0\0\7\0\0\0\x7b\x22\xe5\xc4\x8c\1\0\0\x88\x77\x66\x55\x44\x33\x22\x11"
	"\xfd\xb1\xdc\3\x6a\xf7\x54\x67";

/* Else the next version of this program would not know what it finds. */
Test(journal, the_head_is_the_same_in_every_version)
{
	struct journal_head head = journal_head((struct event_id){1704110400123, 7}, 0x1122334455667788), read;

	cr_assert_eq(sizeof head, sizeof head_1 - 1);
	cr_assert_eq(memcmp(&head, head_1, sizeof head), 0);
	cr_assert_eq(journal_head_read((struct span)BYTES(head_1), &read), JOURNAL_GOOD);
	cr_assert_eq(journal_head_read((struct span)BYTES(head_2), &read), JOURNAL_NEWER);
}

Test(journal, a_head_that_is_cut_or_has_a_flipped_bit_is_damaged)
{
	static const char *const heads[] = {head_1, head_2};

	for (size_t i = 0; i < COUNT_OF(heads); i++)
		for (size_t n = 0; n < sizeof head_1 - 1; n++) {
			struct span cut = exact((struct span){heads[i], n});
			struct journal_head read;

			cr_assert_eq(journal_head_read(cut, &read), JOURNAL_DAMAGED, "cut at byte %zu", n);
			exact_free(cut);
			for (int bit = 0; bit < 8; bit++) {
				char flipped[sizeof head_1];

				memcpy(flipped, heads[i], sizeof flipped);
				flipped[n] ^= (char)(1 << bit);
				cr_assert_eq(journal_head_read((struct span){flipped, sizeof head_1 - 1}, &read), JOURNAL_DAMAGED,
					"byte %zu, bit %d", n, bit);
			}
		}
}

Test(journal, of_a_cut_segment_every_whole_record_is_found)
{
	struct buf b = sample_segment();

	for (size_t n = sizeof(struct journal_head); n <= b.len; n++) {
		unsigned whole = 0;
		size_t lost, i = 0;

		while (i < COUNT_OF(sample) && record_at(i + 1) <= n)
			whole |= 1u << i++;
		cr_assert_eq(found((struct span){b.data, n}, sizeof(struct journal_head), &lost), whole, "cut at byte %zu", n);
		cr_assert_eq(lost, n - record_at(i), "cut at byte %zu", n);
	}
	buf_free(&b);
}

Test(journal, a_flipped_bit_takes_its_record_and_no_other)
{
	struct buf b = sample_segment();

	for (size_t at = 0; at < b.len; at++)
		for (int bit = 0; bit < 8; bit++) {
			unsigned whole = every;
			size_t lost, wanted = sizeof(struct journal_head);

			for (size_t i = 0; i < COUNT_OF(sample); i++)
				if (at >= record_at(i) && at < record_at(i + 1)) {
					whole &= ~(1u << i);
					wanted += record_bytes(i);
				}
			b.data[at] ^= (char)(1 << bit);
			cr_assert_eq(found(buf_view(&b), 0, &lost), whole, "byte %zu, bit %d", at, bit);
			cr_assert_eq(lost, wanted, "byte %zu, bit %d: %zu bytes are lost", at, bit, lost);
			b.data[at] ^= (char)(1 << bit);
		}
	buf_free(&b);
}

Test(journal, records_are_found_behind_garbage)
{
	uint64_t seed = 23;

	for (int round = 0; round < 3000; round++) {
		static const uint8_t likely[] = {0xff, 'S', 'S', 'E', 0, 1, 40};
		struct buf b = buf_growable();
		size_t garbage = 0, lost;

		for (size_t i = 0; i <= COUNT_OF(sample); i++) {
			for (uint32_t n = random_below(&seed, 60); n > 0; n--, garbage++)
				buf_byte(&b, (char)(round % 2 == 0 ? random_below(&seed, 256)
					: likely[random_below(&seed, COUNT_OF(likely))]));
			if (i < COUNT_OF(sample))
				put_record(&b, sample[i].id, sample[i].who, sample[i].frame);
		}
		cr_assert_eq(found(buf_view(&b), 0, &lost), every, "round %d", round);
		cr_assert_eq(lost, garbage, "round %d", round);
		buf_free(&b);
	}
}

Test(journal, random_bytes_hold_no_record)
{
	static const uint8_t likely[] = {0xff, 'S', 'S', 'E', 0, 0, 0, 1, 7};
	uint64_t seed = 29;

	for (int round = 0; round < 20000; round++) {
		char bytes[200];
		size_t n = random_below(&seed, sizeof bytes), lost;

		for (size_t i = 0; i < n; i++)
			bytes[i] = (char)(round % 2 == 0 ? random_below(&seed, 256)
				: likely[random_below(&seed, COUNT_OF(likely))]);
		if (n >= 4 && round % 3 == 0)
			memcpy(bytes, &(uint32_t){JOURNAL_RECORD}, 4);
		cr_assert_eq(found((struct span){bytes, n}, 0, &lost), 0);
		cr_assert_eq(lost, n);
	}
}

Test(journal, lengths_that_lead_out_of_the_segment_lead_nowhere)
{
	static const uint32_t lengths[] = {0, 1, 7, 8, 9, 0x7fffffff, 0x80000000, UINT32_MAX - 40, UINT32_MAX};

	for (size_t i = 0; i < COUNT_OF(lengths); i++)
		for (size_t k = 0; k < COUNT_OF(lengths); k++) {
			struct journal_record record = journal_record((struct event_id){1, 1}, (struct span)BYTES(""),
				(struct span)BYTES(""));
			struct buf b = buf_growable();
			size_t lost;

			record.who_bytes = lengths[i];
			record.frame_bytes = lengths[k];
			buf_bytes(&b, &record, sizeof record);
			buf_text(&b, "8 bytes.");
			if (i > 0 || k > 0)
				cr_assert_eq(found(buf_view(&b), 0, &lost), 0, "lengths %u, %u", (unsigned)lengths[i],
					(unsigned)lengths[k]);
			put_record(&b, sample[0].id, sample[0].who, sample[0].frame);
			if (i > 0 || k > 0)
				cr_assert_eq(found(buf_view(&b), 0, &lost), 1, "lengths %u, %u", (unsigned)lengths[i],
					(unsigned)lengths[k]);
			buf_free(&b);
		}
}

Test(journal, a_frame_that_looks_like_a_record_is_a_frame)
{
	struct buf inner = buf_growable(), b = buf_growable();
	struct journal_event e;
	size_t at = 0, skipped, lost;

	put_record(&inner, (struct event_id){1, 1}, (struct span)BYTES(ALL), (struct span)BYTES("not an event"));
	put_record(&b, (struct event_id){5, 5}, (struct span)BYTES(ALL), buf_view(&inner));
	put_record(&b, (struct event_id){6, 6}, buf_view(&inner), buf_view(&inner));
	cr_assert(journal_next(buf_view(&b), &at, &skipped, &e) && skipped == 0);
	cr_assert(sse_id_order(e.id, (struct event_id){5, 5}) == 0 && span_same(e.frame, buf_view(&inner)));
	cr_assert(journal_next(buf_view(&b), &at, &skipped, &e) && skipped == 0);
	cr_assert(sse_id_order(e.id, (struct event_id){6, 6}) == 0 && span_same(e.who, buf_view(&inner)));
	cr_assert_not(journal_next(buf_view(&b), &at, &skipped, &e));
	buf_clear(&b);

	/* And where the record around it is damaged: in UTF-8 the mark's first byte does not occur. */
	buf_clear(&inner);
	put_record(&inner, sample[0].id, sample[0].who, sample[0].frame);
	buf_byte(&b, 'x');
	for (size_t i = 0; i < inner.len; i++)
		if ((uint8_t)inner.data[i] == 0xff)
			buf_text(&b, "\xc3\xbf");
		else
			buf_byte(&b, inner.data[i]);
	cr_assert_eq(found(buf_view(&b), 0, &lost), 0);
	buf_free(&inner);
	buf_free(&b);
}

Test(journal, a_torn_record_is_the_beginning_of_one_and_nothing_else_is)
{
	struct buf b = buf_growable();
	static const struct span others[] = {BYTES("\0"),
		BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
		BYTES("S"), BYTES("SSE"), BYTES("x\xff"), BYTES("\xff\xff"), BYTES("\xffSS\xff"), BYTES("\xfe"),
		BYTES("\xffsse"),
		BYTES("SSE\r\n\x1a\n")};

	put_record(&b, sample[0].id, sample[0].who, sample[0].frame);
	for (size_t n = 0; n <= b.len; n++) {
		struct span cut = exact((struct span){b.data, n});

		cr_expect_eq(journal_torn(cut), n < b.len, "cut at byte %zu", n);
		exact_free(cut);
	}
	for (size_t i = 0; i < COUNT_OF(others); i++) {
		struct span other = exact(others[i]);

		cr_expect_not(journal_torn(other), "row %zu", i);
		exact_free(other);
	}
	buf_free(&b);
}

/* What was written whole, and was acknowledged, must not be taken for what never was. */
Test(journal, a_whole_record_with_a_flipped_bit_is_not_torn)
{
	struct buf b = buf_growable();

	put_record(&b, sample[0].id, sample[0].who, sample[0].frame);
	for (size_t at = 0; at < b.len; at++)
		for (int bit = 0; bit < 8; bit++) {
			b.data[at] ^= (char)(1 << bit);
			cr_assert_not(journal_torn(buf_view(&b)), "byte %zu, bit %d", at, bit);
			b.data[at] ^= (char)(1 << bit);
		}
	buf_free(&b);
}

/* ---- a server with a journal ---- */

static const char *const tokens = "boss 1 manager\nfore 789 foreman\nboth 5 manager,foreman\n";

/* Options of a small history; a segment has 64 KB at least. */
#define SMALL "--queue", "4", "--datagram", "8K", "--history-bytes", "64K"

static char ids[2000][40]; /* of event number i, as its ack had it */

static char *event_text(int number, int filler, const char *to)
{
	static char text[16384];

	cr_assert_lt(snprintf(text, sizeof text, "{\"event\":\"e\",\"data\":[%d,\"%0*d\"],\"to\":%s}",
		number, filler, 0, to), (int)sizeof text);
	return text;
}

/* An event with this number; its id is kept. Returns what Django was told about it. */
static const char *publish_to(int number, int filler, const char *to)
{
	const char *ack = django_says(event_text(number, filler, to)), *id = strstr(ack, "\"id\":\"");

	cr_assert(strncmp(ack, "{\"ok\":true,", 11) == 0 && id != NULL, "%s", ack);
	cr_assert_lt(snprintf(ids[number], sizeof ids[number], "%.*s", (int)strcspn(id + 6, "\""), id + 6),
		(int)sizeof ids[number]);
	return ack;
}

static bool is_stored(const char *ack)
{
	return strstr(ack, "stored") == NULL;
}

static void publish_large(int number, int filler)
{
	const char *ack = publish_to(number, filler, "\"all\"");

	cr_assert(is_stored(ack), "%s", ack);
}

static void publish(int number)
{
	publish_large(number, 1);
}

static void publish_many(int from, int to, int filler)
{
	for (int i = from; i <= to; i++)
		publish_large(i, filler);
}

/* What stands in these frames: "c" connected, numbers of events, "resync(why)", "k" keepalive. */
static const char *heard_in(const char *frames)
{
	static struct buf out = {.growable = true};
	const char *end;

	buf_clear(&out);
	for (; *frames != '\0' && strcmp(frames, "[end]") != 0; frames = end + 2) {
		char frame[16384];
		const char *data, *why;

		end = strstr(frames, "\n\n");
		cr_assert_not_null(end, "a frame is cut: %.100s", frames);
		snprintf(frame, sizeof frame, "%.*s", (int)(end - frames), frames);
		data = strstr(frame, "\"data\":[");
		why = strstr(frame, "\"data\":{\"reason\":\"");
		if (strncmp(frame, "retry: ", 7) == 0)
			continue;
		if (data != NULL)
			buf_number(&out, atoi(data + 8));
		else if (strstr(frame, "\"connected\"") != NULL)
			buf_text(&out, "c");
		else if (strstr(frame, "\"event\":\"system.resync\"") != NULL && why != NULL) {
			buf_text(&out, "resync(");
			buf_bytes(&out, why + 18, strcspn(why + 18, "\""));
			buf_text(&out, ")");
		} else
			buf_text(&out, strstr(frame, "\"keepalive\"") != NULL ? "k" : "?");
		buf_byte(&out, ' ');
	}
	buf_byte(&out, '\0');
	return out.data;
}

static const char *heard(int fd)
{
	return heard_in(client_hears_frames(fd));
}

/* A page comes back that has seen everything up to this id. */
static int page_returns(const char *token, const char *id)
{
	int fd = client_open();
	char request[256];

	snprintf(request, sizeof request,
		"GET /api/v1/sse/events/?token=%s HTTP/1.1\r\nHost: a\r\nLast-Event-ID: %s\r\n\r\n", token, id);
	client_says(fd, request);
	return fd;
}

static const char *resumed_as(const char *token, const char *id)
{
	int fd = page_returns(token, id);
	const char *text = heard(fd);

	client_resets(fd);
	return text;
}

static const char *resumed(const char *id)
{
	return resumed_as("boss", id);
}

/* "c 3 4 5 " */
static const char *replay(int from, int to)
{
	static struct buf out = {.growable = true};

	buf_clear(&out);
	buf_text(&out, "c ");
	for (int i = from; i <= to; i++) {
		buf_number(&out, i);
		buf_byte(&out, ' ');
	}
	buf_byte(&out, '\0');
	return out.data;
}

/* The id in the greeting of a page that comes for the first time. */
static const char *connected_id(void)
{
	static char id[40];
	int fd = client_open();
	const char *at;

	client_says(fd, "GET /api/v1/sse/events/?token=boss HTTP/1.1\r\nHost: a\r\n\r\n");
	at = strstr(client_hears_frames(fd), "id: ");
	cr_assert_not_null(at);
	snprintf(id, sizeof id, "%.*s", (int)strcspn(at + 4, "\n"), at + 4);
	client_resets(fd);
	return id;
}

static void expect_rising(const char *before, const char *after)
{
	struct event_id a, b;

	cr_assert(sse_id_read(span_of(before), &a) && sse_id_read(span_of(after), &b));
	cr_assert_lt(sse_id_order(a, b), 0, "%s is not before %s", before, after);
}

/* What was logged since the last call. */
static const char *logged(void)
{
	world_settle();
	return log_hears();
}

static int times(const char *text, const char *what)
{
	int n = 0;

	while ((text = strstr(text, what)) != NULL) {
		text += strlen(what);
		n++;
	}
	return n;
}

static void option_set(const char *flag, const char *value)
{
	for (int i = 1; i < world.argc; i++)
		if (strcmp(world.argv[i], flag) == 0) {
			world.argv[i + 1] = (char *)(uintptr_t)value;
			return;
		}
	cr_assert_fail("%s is not given", flag);
}

/* ---- its files ---- */

static const char *file_path(const char *name)
{
	static char path[512];

	snprintf(path, sizeof path, "%s/journal/%s", world.dir, name);
	return path;
}

static const char *segment_name(int number)
{
	static char name[40];

	snprintf(name, sizeof name, "%012d.sse", number);
	return name;
}

/* To be freed with buf_free. */
static struct buf file_bytes(const char *name)
{
	FILE *f = fopen(file_path(name), "r");
	struct buf b = buf_growable();
	char part[4096];
	size_t n;

	cr_assert_not_null(f, "%s", name);
	while ((n = fread(part, 1, sizeof part, f)) > 0)
		buf_bytes(&b, part, n);
	fclose(f);
	return b;
}

static void file_put(const char *name, struct span bytes)
{
	FILE *f = fopen(file_path(name), "w");

	cr_assert_not_null(f, "%s", name);
	cr_assert_eq(fwrite(bytes.p, 1, bytes.n, f), bytes.n);
	fclose(f);
}

static bool file_is(const char *name, struct span bytes)
{
	struct buf b = file_bytes(name);
	bool same = span_same(buf_view(&b), bytes);

	buf_free(&b);
	return same;
}

static int names_order(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names of the files in a directory, in order: "000000000001.sse other ". */
static const char *files_in(const char *path)
{
	static struct buf out = {.growable = true};
	DIR *dir = opendir(path);
	struct dirent *entry;
	char *names[512];
	size_t count = 0;

	cr_assert_not_null(dir, "%s", path);
	while ((entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			names[count < COUNT_OF(names) ? count++ : 0] = strdup(entry->d_name);
	closedir(dir);
	qsort(names, count, sizeof *names, names_order);
	buf_clear(&out);
	for (size_t i = 0; i < count; i++) {
		buf_text(&out, names[i]);
		buf_byte(&out, ' ');
		free(names[i]);
	}
	buf_byte(&out, '\0');
	return out.data;
}

static const char *files(void)
{
	return files_in(file_path(""));
}

static uint64_t files_size(void)
{
	const char *names = files();
	uint64_t all = 0;

	while (*names != '\0') {
		char name[64];
		struct stat st;

		snprintf(name, sizeof name, "%.*s", (int)strcspn(names, " "), names);
		cr_assert_eq(stat(file_path(name), &st), 0);
		all += (uint64_t)st.st_size;
		names += strcspn(names, " ") + 1;
	}
	return all;
}

/* The numbers of the events in a segment: "1 2 3 end ". */
static const char *events_in(const char *name)
{
	static struct buf out = {.growable = true};
	struct buf b = file_bytes(name);
	struct journal_event e;
	size_t at = 0, skipped;

	buf_clear(&out);
	while (journal_next(buf_view(&b), &at, &skipped, &e)) {
		const char *data = e.frame.n == 0 ? NULL : memmem(e.frame.p, e.frame.n, "\"data\":[", 8);

		if (data != NULL)
			buf_number(&out, atoi(data + 8));
		else
			buf_text(&out, "end");
		buf_byte(&out, ' ');
	}
	buf_byte(&out, '\0');
	buf_free(&b);
	return out.data;
}

/* Where event `number` has its record in a segment's bytes, and how long it is. */
static size_t record_of(const struct buf *b, int number, size_t *bytes)
{
	struct journal_event e;
	size_t at = sizeof(struct journal_head), skipped, from = at;

	for (; journal_next(buf_view(b), &at, &skipped, &e); from = at) {
		const char *data = e.frame.n == 0 ? NULL : memmem(e.frame.p, e.frame.n, "\"data\":[", 8);

		if (data != NULL && atoi(data + 8) == number) {
			*bytes = at - from;
			return from;
		}
	}
	cr_assert_fail("event %d is not there", number);
	return 0;
}

/* The machine was started anew: what was written before was written in another boot. */
static void machine_restarts(void)
{
	for (int i = 1; i < 100; i++) {
		struct buf b = buf_growable();
		struct journal_head head;

		if (access(file_path(segment_name(i)), F_OK) < 0)
			continue;
		b = file_bytes(segment_name(i));
		if (journal_head_read(buf_view(&b), &head) == JOURNAL_GOOD && head.boot != 0) {
			head = journal_head((struct event_id){head.after_ms, head.after_n}, head.boot + 2);
			memcpy(b.data, &head, sizeof head);
			file_put(segment_name(i), buf_view(&b));
		}
		buf_free(&b);
	}
}

/* Descriptors of the journal's that are open. */
static int files_open(void)
{
	int n = 0;

	for (int fd = 300; fd < 400; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Is the syncer at this segment? */
static bool sync_is_at(const char *name)
{
	struct stat file, segment;

	return world.sync_asked && fstat(world.sync.file, &file) == 0 && stat(file_path(name), &segment) == 0
		&& file.st_ino == segment.st_ino && file.st_dev == segment.st_dev;
}

/* ---- restarts ---- */

Test(journal, R17_events_survive_an_end_in_order_and_kill_9)
{
	for (int orderly = 0; orderly < 2; orderly++) {
		const char *first;

		world_start(tokens, "--journal", world_journal(), NULL);
		first = connected_id();
		publish_many(1, 5, 10);
		world_restart(orderly);
		cr_expect_str_eq(resumed(first), "c 1 2 3 4 5 ");
		cr_expect_str_eq(resumed(ids[1]), "c 2 3 4 5 ");
		cr_expect_str_eq(resumed(ids[4]), "c 5 ");
		cr_expect_str_eq(resumed(ids[5]), "c ");
		publish_many(6, 7, 10);
		world_restart(orderly);
		cr_expect_str_eq(resumed(ids[4]), "c 5 6 7 ");
		cr_expect_str_eq(files(), "000000000001.sse ", "a file for each start");
		world_stop();
	}
}

Test(journal, a_page_that_saw_no_event_goes_on_after_a_restart_without_one)
{
	for (int orderly = 0; orderly < 2; orderly++) {
		char first[40], second[40];

		world_start(tokens, "--journal", world_journal(), NULL);
		strcpy(first, connected_id());
		world.wall_ms += 5000;
		world_restart(orderly);
		cr_expect_str_eq(resumed(first), "c ");
		strcpy(second, connected_id());
		world.wall_ms += 5000;
		world_restart(orderly);
		cr_expect_str_eq(resumed(first), "c ");
		cr_expect_str_eq(resumed(second), "c ");
		publish(1);
		world_restart(orderly);
		cr_expect_str_eq(resumed(first), "c 1 ");
		cr_expect_str_eq(resumed(second), "c 1 ");
		cr_expect_str_eq(resumed(ids[1]), "c ");
		world_stop();
	}
}

Test(journal, an_id_of_before_the_journal_is_told_to_reload)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	cr_expect_str_eq(resumed("1704110399999-0"), "c resync(too_old) ");
	publish(1);
	world_restart(false);
	cr_expect_str_eq(resumed("1704110399999-0"), "c resync(too_old) ");
	cr_expect_str_eq(resumed("1704110400000-77"), "c resync(unknown) ");
	publish(2);
	world.wall_ms += 1000;
	publish(3);
	cr_expect_str_eq(resumed("1704110400000-77"), "c resync(unknown) ");
	world_stop();
}

Test(journal, R21_ids_go_on_after_the_newest_also_when_the_clock_went_back)
{
	for (int orderly = 0; orderly < 2; orderly++) {
		world_start(tokens, "--journal", world_journal(), NULL);
		publish(1);
		world.wall_ms += 5000;
		publish(2);
		world.wall_ms -= 3600000;
		world_restart(orderly);
		publish(3);
		expect_rising(ids[2], ids[3]);
		world.wall_ms -= 3600000;
		world_restart(orderly);
		publish(4);
		expect_rising(ids[3], ids[4]);
		world.wall_ms += 4 * 3600000;
		world_restart(orderly);
		publish(5);
		expect_rising(ids[4], ids[5]);
		cr_expect_str_eq(resumed(ids[1]), "c 2 3 4 5 ");
		world_stop();
	}
}

Test(journal, what_is_replayed_is_what_one_may_see_now)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	publish(1);
	publish_to(2, 1, "{\"roles\":[\"manager\"]}");
	publish_to(3, 1, "{\"roles\":[\"foreman\"]}");
	publish_to(4, 1, "{\"users\":[1,5]}");
	publish_to(5, 1, "{\"roles\":[\"manager\",\"foreman\"]},\"except\":{\"users\":[1]}");
	publish_to(6, 1, "{\"users\":[\"zoe\"]}");
	publish_to(7, 1, "{\"roles\":[\"night shift\"]}");
	for (int orderly = 0; orderly < 2; orderly++) {
		world_tokens(tokens);
		world_restart(orderly);
		cr_expect_str_eq(resumed_as("boss", ids[1]), "c 2 4 ");
		cr_expect_str_eq(resumed_as("fore", ids[1]), "c 3 5 ");
		cr_expect_str_eq(resumed_as("both", ids[1]), "c 2 3 4 5 ");
		world_tokens("boss 1 foreman\nfore 789 manager\nzoe zoe night\n");
		world_restart(orderly);
		cr_expect_str_eq(resumed_as("boss", ids[1]), "c 3 4 ");
		cr_expect_str_eq(resumed_as("fore", ids[1]), "c 2 5 ");
		cr_expect_str_eq(resumed_as("zoe", ids[1]), "c 6 ");
	}
	world_stop();
}

Test(journal, restarts_make_neither_files_nor_gaps)
{
	int number = 0;

	world_start(tokens, "--journal", world_journal(), NULL);
	for (int i = 0; i < 20; i++) {
		publish(++number);
		world_restart(i % 3 == 0);
		if (i % 2 == 0)
			world_restart(i % 4 == 0);
	}
	cr_expect_str_eq(files(), "000000000001.sse ");
	cr_expect_str_eq(resumed(ids[1]), replay(2, number));
	cr_expect_eq(files_open(), 2, "its directory and the last segment");
	world_stop();
	cr_expect_eq(files_open(), 0);
}

Test(journal, a_full_segment_is_followed_by_the_next)
{
	for (int orderly = 0; orderly < 2; orderly++) {
		world_start(tokens, "--journal", world_journal(), "--journal-sync", orderly ? "none" : "batch", "--queue", "10",
			"--datagram", "8K", "--history-bytes", "1M", NULL);
		for (int i = 1; i <= 100; i += 10) {
			publish_many(i, i + 9, 4000);
			world_pass(2100);
		}
		cr_expect_str_eq(files(), "000000000001.sse 000000000002.sse 000000000003.sse 000000000004.sse "
			"000000000005.sse 000000000006.sse 000000000007.sse ");
		world_restart(orderly);
		cr_expect_str_eq(resumed(ids[1]), replay(2, 100));
		publish_many(101, 120, 4000);
		world_restart(orderly);
		cr_expect_str_eq(resumed(ids[50]), replay(51, 120));
		cr_expect_eq(files_open(), 2);
		world_stop();
	}
}

/* The ids of events that the history has no more are too_old, all others go on. Returns the first of these. */
static int expect_history(int last)
{
	int first = 1;

	while (first < last && strcmp(resumed(ids[first]), "c resync(too_old) ") == 0)
		first++;
	for (int i = first; i <= last; i += 1 + (last - first) / 5)
		cr_expect_str_eq(resumed(ids[i]), replay(i + 1, last), "from %d: %s", i, resumed(ids[i]));
	return first;
}

Test(journal, segments_of_which_the_ring_has_nothing_are_removed)
{
	int first;

	world_start(tokens, "--journal", world_journal(), SMALL, NULL);
	for (int i = 1; i <= 200; i += 20) {
		publish_many(i, i + 19, 2000);
		world_pass(1100);
		cr_assert_lt(files_size(), 3 * 65536 + 16384, "after %d: %s", i + 19, files());
	}
	cr_expect_null(strstr(files(), "000000000001.sse"));
	first = expect_history(200);
	cr_expect(first > 160 && first < 180, "%d", first);
	world_restart(false);
	cr_expect_eq(expect_history(200), first, "after a restart history begins elsewhere");
	publish_many(201, 300, 2000);
	world_restart(true);
	expect_history(300);
	world_pass(1100);
	cr_expect_lt(files_size(), 3 * 65536 + 16384, "%s", files());
	world_stop();
}

Test(journal, segments_that_are_too_old_are_removed)
{
	world_start(tokens, "--journal", world_journal(), "--history-age", "10s", "--queue", "10", "--datagram", "8K",
		"--history-bytes", "1M", NULL);
	publish_many(1, 20, 4000);
	world_pass(2100);
	publish_many(21, 40, 4000);
	cr_assert_str_eq(files(), "000000000001.sse 000000000002.sse 000000000003.sse ");
	world_pass(6000);
	publish_many(41, 42, 10);
	world_pass(6000);
	cr_expect_str_eq(files(), "000000000003.sse ");
	cr_expect_str_eq(resumed(ids[39]), "c resync(too_old) ");
	cr_expect_str_eq(resumed(ids[40]), "c 41 42 ");
	world_restart(false);
	cr_expect_str_eq(resumed(ids[39]), "c resync(too_old) ");
	cr_expect_str_eq(resumed(ids[40]), "c 41 42 ");
	world_pass(6000);
	cr_expect_str_eq(resumed(ids[41]), "c resync(too_old) ");
	cr_expect_str_eq(resumed(ids[42]), "c ");
	world_restart(true);
	cr_expect_str_eq(resumed(ids[41]), "c resync(too_old) ");
	cr_expect_str_eq(resumed(ids[42]), "c ");
	publish(43);
	world_restart(false);
	cr_expect_str_eq(resumed(ids[42]), "c 43 ");
	world_stop();
}

/* In the ring neighbours share one copy of their audience, on disk each has its own. */
Test(journal, large_audiences_do_not_make_it_larger_than_the_history)
{
	char to[4096];
	int n = snprintf(to, sizeof to, "{\"users\":[1");

	for (int i = 0; i < 300; i++)
		n += snprintf(to + n, sizeof to - (size_t)n, ",%d", 100000 + i);
	snprintf(to + n, sizeof to - (size_t)n, "]}");
	world_start(tokens, "--journal", world_journal(), "--queue", "10", "--datagram", "8K", "--history-bytes", "256K",
		NULL);
	for (int i = 1; i <= 1500; i++)
		cr_assert(is_stored(publish_to(i, 1, to)));
	world_pass(1100);
	cr_expect_lt(files_size(), 2 * (256 << 10), "%llu bytes", (unsigned long long)files_size());
	cr_expect_str_eq(resumed(ids[1499]), "c 1500 ");
	world_restart(false);
	expect_history(1500);
	world_stop();
}

Test(journal, files_of_other_names_are_left_alone)
{
	static const char *const names[] = {"77.sse", "00000000077.sse", "0000000000077.sse", "000000000077.sse.bak",
		"000000000077.SSE", "000000000077.", "000000000077", "000000000077sse", "000000000077.sse~", "00000000007x.sse",
		"-00000000077.sse", "+00000000077.sse", "000000000077.sse.", " 000000000077.sse", "notes", "lost+found"};
	static const struct span text = BYTES("mine");

	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 3, 10);
	for (size_t i = 0; i < COUNT_OF(names); i++) {
		file_put(names[i], text);
		world_restart(i % 2 == 0);
		log_hears();
		cr_expect_str_eq(resumed(ids[1]), "c 2 3 ", "%s", names[i]);
	}
	for (size_t i = 0; i < COUNT_OF(names); i++)
		cr_expect(file_is(names[i], text), "%s", names[i]);
	world_stop();
}

Test(journal, numbers_of_segments_may_have_more_than_12_digits)
{
	struct buf b;

	world_start(tokens, "--journal", world_journal(), SMALL, NULL);
	publish(1);
	world_restart(true);
	b = file_bytes("000000000001.sse");
	file_put("999999999999.sse", buf_view(&b));
	unlink(file_path("000000000001.sse"));
	world_restart(false);
	publish_many(2, 20, 4000);
	cr_expect_str_eq(files(), "1000000000000.sse 999999999999.sse ");
	world_restart(false);
	cr_expect_str_eq(resumed(ids[10]), replay(11, 20));
	publish_many(21, 80, 4000);
	world_pass(1100);
	cr_expect_null(strstr(files(), "999999999999.sse "), "%s", files());
	buf_free(&b);
	world_stop();
}

Test(journal, a_smaller_history_takes_the_newest)
{
	world_start(tokens, "--journal", world_journal(), "--journal-sync", "none", "--queue", "4", "--datagram", "8K",
		"--history-bytes", "1M", NULL);
	publish_many(1, 150, 2000);
	for (int orderly = 0; orderly < 2; orderly++) {
		int first;

		option_set("--history-bytes", "64K");
		world_restart(orderly);
		first = expect_history(150);
		cr_expect(first > 110 && first < 125, "%d", first);
		world_pass(1100);
		cr_expect_lt(files_size(), 3 * 65536);
		option_set("--history-bytes", "1M");
		world_restart(orderly);
		cr_expect_leq(expect_history(150), first);
	}
	world_stop();
}

/* An event that is larger than the whole ring is now cannot be replayed: who has not seen it is told so. */
Test(journal, an_event_that_no_longer_fits_is_a_gap)
{
	static const char *const larges[] = {"last", "middle"};

	for (size_t row = 0; row < COUNT_OF(larges); row++) {
		char *text = malloc(100001);
		const char *ack;
		bool middle = row == 1;

		world_start(tokens, "--journal", world_journal(), "--queue", "2", "--datagram", "100K", "--history-bytes",
			"1M", NULL);
		publish_many(1, 2, 10);
		snprintf(text, 100001, "{\"event\":\"e\",\"data\":[3,\"%090000d\"],\"to\":\"all\"}", 0);
		ack = django_says(text);
		cr_assert(is_stored(ack));
		ack = strstr(ack, "\"id\":\"") + 6;
		snprintf(ids[3], sizeof ids[3], "%.*s", (int)strcspn(ack, "\""), ack);
		if (middle)
			publish(4);
		option_set("--history-bytes", "64K");
		option_set("--datagram", "8K");
		world.wall_ms -= 60000;
		world_restart(false);
		cr_expect_str_eq(resumed(ids[2]), "c resync(too_old) ", "%s", larges[row]);
		if (middle)
			cr_expect_str_eq(resumed(ids[4]), "c ");
		publish(5);
		expect_rising(ids[middle ? 4 : 3], ids[5]);
		cr_expect_str_eq(resumed(ids[2]), "c resync(too_old) ", "%s", larges[row]);
		if (middle)
			cr_expect_str_eq(resumed(ids[4]), "c 5 ");
		world_stop();
		free(text);
	}
}

/* ---- damage ---- */

/* The one segment there is becomes this; kill -9, and a new start. */
static void restart_with(struct span segment)
{
	for (int i = 2; i < 10; i++)
		unlink(file_path(segment_name(i)));
	file_put(segment_name(1), segment);
	logged();
	world.wall_ms += 1000;
	world_restart(false);
}

/* Their checks are right: a program, or somebody's hand, wrote them so. */
Test(journal, a_time_that_no_clock_says_is_damage)
{
	static const int64_t times_ms[] = {-1, INT64_MIN, INT64_C(1) << 52, INT64_MAX};
	char before[40];

	world_start(tokens, "--journal", world_journal(), NULL);
	for (size_t i = 0; i < COUNT_OF(times_ms); i++)
		for (int of_head = 0; of_head < 2; of_head++) {
			struct buf text = buf_growable();

			publish(1);
			strcpy(before, ids[1]);
			put_head(&text, (struct event_id){of_head ? times_ms[i] : 1704110400000, 0}, world.server->journal.boot);
			put_record(&text, (struct event_id){of_head ? 1704110400001 : times_ms[i], 0},
				(struct span)BYTES("\xf8"), (struct span)BYTES("data: 1\n\n"));
			restart_with(buf_view(&text));
			cr_assert_not_null(strstr(logged(), "journal_damaged"), "%lld, %d", (long long)times_ms[i], of_head);
			cr_assert_not_null(strstr(resumed(before), "resync"), "%lld, %d: who has seen more is told to reload",
				(long long)times_ms[i], of_head);
			publish(1); /* with an id that pages can say */
			cr_assert(strlen(ids[1]) < 20 && ids[1][0] != '-', "%s", ids[1]);
			buf_free(&text);
		}
	world_stop();
}

Test(journal, a_torn_last_record_is_passed_over)
{
	struct buf whole;
	size_t bytes, at;

	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 3, 10);
	whole = file_bytes(segment_name(1));
	at = record_of(&whole, 3, &bytes);
	cr_assert_eq(at + bytes, whole.len);
	for (size_t n = at; n < whole.len; n++) {
		struct span cut = {whole.data, n};

		restart_with(cut);
		cr_assert_null(strstr(logged(), "journal_damaged"), "cut at byte %zu", n);
		cr_assert_str_eq(resumed(ids[1]), "c 2 ", "cut at byte %zu", n);
		cr_assert_str_eq(resumed(ids[2]), "c ", "cut at byte %zu", n);
		publish(4);
		cr_assert_str_eq(resumed(ids[2]), "c 4 ", "cut at byte %zu", n);
		if (n == at) {
			cr_assert_str_eq(files(), "000000000001.sse ");
		} else {
			cr_assert_str_eq(files(), "000000000001.sse 000000000002.sse ");
			cr_assert(file_is(segment_name(1), cut), "cut at byte %zu", n);
			cr_assert_str_eq(events_in(segment_name(2)), "4 ");
		}
		world_restart(n % 2 == 0);
		cr_assert_null(strstr(logged(), "journal_damaged"));
		cr_assert_str_eq(resumed(ids[1]), "c 2 4 ", "cut at byte %zu", n);
		cr_assert_str_eq(resumed(ids[2]), "c 4 ", "cut at byte %zu", n);
		cr_assert(n == at || file_is(segment_name(1), cut), "cut at byte %zu", n);
	}
	buf_free(&whole);
	world_stop();
}

Test(journal, a_segment_with_a_cut_head_is_left_as_it_is)
{
	struct buf whole;

	world_start(tokens, "--journal", world_journal(), NULL);
	publish(1);
	whole = file_bytes(segment_name(1));
	for (size_t n = 1; n < sizeof(struct journal_head); n++) {
		struct span cut = {whole.data, n};

		restart_with(cut);
		cr_assert_eq(times(logged(), "msg=journal_damaged segment=1 at=0 "), 1, "cut at byte %zu", n);
		cr_assert_str_eq(resumed(ids[1]), "c resync(too_old) ", "cut at byte %zu", n);
		publish(2);
		world_restart(n % 2 == 0);
		cr_assert_str_eq(resumed(ids[2]), "c ", "cut at byte %zu", n);
		cr_assert(file_is(segment_name(1), cut));
		cr_assert_str_eq(events_in(segment_name(2)), "2 ");
	}
	buf_free(&whole);
	world_stop();
}

/* Restarts with a bit of this byte flipped. The log must say so, and the file must stay as it is. */
static void restart_with_flipped(struct buf *whole, size_t at, int record_at_byte)
{
	char line[80];
	const char *log;

	whole->data[at] ^= (char)(1 << at % 8);
	restart_with(buf_view(whole));
	snprintf(line, sizeof line, "msg=journal_damaged segment=1 at=%d ", record_at_byte);
	log = logged();
	cr_assert_eq(times(log, line), 1, "byte %zu: %s", at, log);
	cr_assert_eq(times(log, "journal_damaged"), 1, "byte %zu: %s", at, log);
}

static void check_flipped(struct buf *whole, size_t at)
{
	cr_assert(file_is(segment_name(1), buf_view(whole)), "byte %zu: the damaged file is not what it was", at);
	whole->data[at] ^= (char)(1 << at % 8);
}

Test(journal, a_damaged_record_is_a_gap_for_who_has_not_seen_it)
{
	struct buf whole;
	size_t bytes, from;

	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 5, 10);
	whole = file_bytes(segment_name(1));
	from = record_of(&whole, 3, &bytes);
	for (size_t at = from; at < from + bytes; at++) {
		restart_with_flipped(&whole, at, (int)from);
		cr_assert_str_eq(resumed(ids[1]), "c resync(too_old) ", "byte %zu", at);
		cr_assert_str_eq(resumed(ids[2]), "c resync(too_old) ", "byte %zu", at);
		cr_assert_str_eq(resumed(ids[4]), "c 5 ", "byte %zu", at);
		cr_assert_str_eq(resumed(ids[5]), "c ", "byte %zu", at);
		publish(6);
		cr_assert_str_eq(resumed(ids[4]), "c 5 6 ", "byte %zu", at);
		cr_assert(file_is(segment_name(1), buf_view(&whole)), "byte %zu: the damaged file was written to", at);
		world_restart(at % 2 == 0);
		cr_assert_str_eq(resumed(ids[2]), "c resync(too_old) ", "byte %zu", at);
		cr_assert_str_eq(resumed(ids[4]), "c 5 6 ", "byte %zu", at);
		check_flipped(&whole, at);
	}
	buf_free(&whole);
	world_stop();
}

/* An event may have stood there, whatever the bytes are now. */
Test(journal, bytes_between_records_are_a_gap)
{
	struct buf whole, more = buf_growable();
	size_t bytes, at;

	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 5, 10);
	whole = file_bytes(segment_name(1));
	at = record_of(&whole, 3, &bytes);
	for (size_t n = 1; n <= 3; n++) {
		char line[80];

		buf_clear(&more);
		buf_bytes(&more, whole.data, at);
		buf_bytes(&more, "xyz", n);
		buf_bytes(&more, whole.data + at, whole.len - at);
		restart_with(buf_view(&more));
		snprintf(line, sizeof line, "msg=journal_damaged segment=1 at=%zu ", at);
		cr_assert_eq(times(logged(), line), 1, "%zu bytes", n);
		cr_assert_str_eq(resumed(ids[2]), "c resync(too_old) ", "%zu bytes", n);
		cr_assert_str_eq(resumed(ids[3]), "c 4 5 ", "%zu bytes", n);
		cr_assert(file_is(segment_name(1), buf_view(&more)), "%zu bytes", n);
	}
	buf_free(&whole);
	buf_free(&more);
	world_stop();
}

/* Nobody knows what the last one was, so nobody is known to have it. */
Test(journal, a_damaged_last_record_is_a_gap_for_all)
{
	struct buf whole;
	size_t bytes, from;

	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 3, 10);
	whole = file_bytes(segment_name(1));
	from = record_of(&whole, 3, &bytes);
	for (size_t at = from; at < from + bytes; at++) {
		restart_with_flipped(&whole, at, (int)from);
		for (int i = 1; i <= 3; i++)
			cr_assert_str_eq(resumed(ids[i]), "c resync(too_old) ", "byte %zu, %d", at, i);
		publish(4);
		expect_rising(ids[3], ids[4]);
		world_restart(at % 2 == 0);
		for (int i = 1; i <= 3; i++)
			cr_assert_str_eq(resumed(ids[i]), "c resync(too_old) ", "byte %zu, %d", at, i);
		cr_assert_str_eq(resumed(ids[4]), "c ", "byte %zu", at);
		check_flipped(&whole, at);
	}
	buf_free(&whole);
	world_stop();
}

Test(journal, who_connects_after_damage_goes_on)
{
	struct buf whole;
	size_t bytes, from;
	char id[40];

	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 3, 10);
	whole = file_bytes(segment_name(1));
	from = record_of(&whole, 3, &bytes);
	whole.data[from + bytes - 1] ^= 1;
	restart_with(buf_view(&whole));
	strcpy(id, connected_id());
	cr_expect_str_eq(resumed(id), "c ");
	world_restart(false);
	cr_expect_str_eq(resumed(id), "c ");
	publish(4);
	world_restart(false);
	cr_expect_str_eq(resumed(id), "c 4 ");
	buf_free(&whole);
	world_stop();
}

Test(journal, a_damaged_head_is_a_gap_and_its_records_are_used)
{
	struct buf first, second;

	world_start(tokens, "--journal", world_journal(), "--journal-sync", "none", SMALL, NULL);
	publish_many(1, 20, 4000);
	cr_assert_str_eq(files(), "000000000001.sse 000000000002.sse ");
	cr_assert_str_eq(events_in(segment_name(2)), "17 18 19 20 ");
	first = file_bytes(segment_name(1));
	second = file_bytes(segment_name(2));
	for (size_t at = 0; at < sizeof(struct journal_head); at++) {
		const char *log;

		/* of the segment in the middle: who has the first event in it goes on */
		for (int i = 1; i < 9; i++)
			unlink(file_path(segment_name(i)));
		file_put(segment_name(1), buf_view(&first));
		second.data[at] ^= (char)(1 << at % 8);
		file_put(segment_name(2), buf_view(&second));
		file_put(segment_name(3), (struct span)BYTES(""));
		logged();
		world_restart(false);
		log = logged();
		cr_assert_eq(times(log, "msg=journal_damaged segment=2 at=0 bytes=40 "), 1, "byte %zu: %s", at, log);
		publish_large(21, 10);
		world_restart(false);
		cr_assert_str_eq(resumed(ids[16]), "c resync(too_old) ", "byte %zu", at);
		cr_assert_str_eq(resumed(ids[20]), "c resync(too_old) ", "byte %zu", at);
		cr_assert_str_eq(resumed(ids[21]), "c ", "byte %zu", at);
		cr_assert(file_is(segment_name(2), buf_view(&second)));
		second.data[at] ^= (char)(1 << at % 8);

		/* of the first one, and the second follows: only what came before is not known */
		for (int i = 1; i < 9; i++)
			unlink(file_path(segment_name(i)));
		first.data[at] ^= (char)(1 << at % 8);
		file_put(segment_name(1), buf_view(&first));
		file_put(segment_name(2), buf_view(&second));
		world_restart(false);
		cr_assert_str_eq(resumed("1704110400000-0"), "c resync(too_old) ", "byte %zu", at);
		cr_assert_str_eq(resumed(ids[16]), replay(17, 20), "byte %zu", at);
		cr_assert_str_eq(resumed(ids[18]), replay(19, 20), "byte %zu", at);
		cr_assert(file_is(segment_name(1), buf_view(&first)));
		first.data[at] ^= (char)(1 << at % 8);
	}
	buf_free(&first);
	buf_free(&second);
	world_stop();
}

Test(journal, damage_at_the_end_of_a_segment_is_a_gap_though_another_follows)
{
	struct buf first;
	size_t bytes, at;

	world_start(tokens, "--journal", world_journal(), "--journal-sync", "none", "--queue", "4", "--datagram", "8K",
		"--history-bytes", "1M", NULL);
	publish_many(1, 20, 4000);
	cr_assert_str_eq(events_in(segment_name(2)), "17 18 19 20 ");
	first = file_bytes(segment_name(1));
	at = record_of(&first, 16, &bytes);
	for (int row = 0; row < 5; row++) {
		struct span left = {first.data, row == 0 ? at : row == 1 ? at + 100 : first.len};

		if (row == 2)
			memset(first.data + at, 0, bytes);
		if (row == 3)
			memset(first.data + sizeof(struct journal_head), 0, first.len - sizeof(struct journal_head));
		if (row == 4)
			memset(first.data, 0, first.len);
		file_put(segment_name(1), left);
		world_restart(false);
		cr_expect_str_eq(resumed(ids[10]), "c resync(too_old) ", "row %d", row);
		cr_expect_str_eq(resumed(ids[15]), "c resync(too_old) ", "row %d", row);
		cr_expect_str_eq(resumed(ids[16]), replay(17, 20), "row %d", row);
		cr_expect_str_eq(resumed(ids[18]), replay(19, 20), "row %d", row);
		world_pass(1100);
		cr_assert_str_eq(files(), "000000000001.sse 000000000002.sse ", "row %d", row);
		cr_expect(file_is(segment_name(1), left), "row %d", row);
	}
	buf_free(&first);
	world_stop();
}

Test(journal, a_segment_without_its_beginning_is_a_gap)
{
	struct buf second;
	size_t bytes, at;

	world_start(tokens, "--journal", world_journal(), "--journal-sync", "none", "--queue", "4", "--datagram", "8K",
		"--history-bytes", "1M", NULL);
	publish_many(1, 40, 4000);
	second = file_bytes(segment_name(2));
	at = record_of(&second, 18, &bytes);
	file_put(segment_name(2), (struct span){second.data + at, second.len - at}); /* neither head nor event 17 */
	world_restart(false);
	cr_expect_str_eq(resumed(ids[15]), "c resync(too_old) ");
	cr_expect_str_eq(resumed(ids[16]), "c resync(too_old) ");
	cr_expect_str_eq(resumed(ids[18]), replay(19, 40));
	buf_free(&second);
	world_stop();
}

Test(journal, a_segment_that_is_missing_is_a_gap)
{
	world_start(tokens, "--journal", world_journal(), "--journal-sync", "none", "--queue", "4", "--datagram", "8K",
		"--history-bytes", "1M", NULL);
	publish_many(1, 50, 4000);
	cr_assert_str_eq(events_in(segment_name(3)), "33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 ");
	unlink(file_path(segment_name(2)));
	world_restart(false);
	cr_expect_str_eq(resumed(ids[15]), "c resync(too_old) ");
	cr_expect_str_eq(resumed(ids[16]), "c resync(too_old) ");
	cr_expect_str_eq(resumed(ids[31]), "c resync(too_old) ");
	cr_expect_str_eq(resumed(ids[32]), replay(33, 50));
	cr_expect_str_eq(resumed(ids[40]), replay(41, 50));
	world_stop();
}

Test(journal, files_without_a_journal_in_them_are_left_as_they_are)
{
	static const char zeros[5000], text[] = "not a journal, though of that name\n";
	const struct span rows[] = {{zeros, sizeof zeros}, {zeros, 1}, {text, sizeof text}, {"SSE\r\n\x1a\n", 8},
		{"\xfe", 1}};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		const char *log;
		char id[40];

		world_start(tokens, "--journal", world_journal(), NULL);
		publish_many(1, 2, 10);
		file_put(segment_name(2), rows[i]);
		logged();
		world.wall_ms += 1000;
		world_restart(false);
		log = logged();
		cr_expect_eq(times(log, "msg=journal_damaged segment=2 at=0 "), 1, "row %zu: %s", i, log);
		cr_expect_str_eq(resumed(ids[1]), "c resync(too_old) ", "row %zu: nobody knows what was in it", i);
		strcpy(id, connected_id());
		publish(3);
		cr_expect_str_eq(files(), "000000000001.sse 000000000002.sse 000000000003.sse ");
		world_restart(true);
		cr_expect_str_eq(resumed(ids[2]), "c resync(too_old) ", "row %zu", i);
		cr_expect_str_eq(resumed(id), "c 3 ", "row %zu", i);
		cr_expect_str_eq(resumed(ids[3]), "c ", "row %zu", i);
		cr_expect(file_is(segment_name(2), rows[i]), "row %zu", i);
		world_stop();
	}
}

/* kill -9 between the two: the file is made, and its head is written. */
Test(journal, an_empty_segment_is_no_gap)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 2, 10);
	file_put(segment_name(2), (struct span)BYTES(""));
	logged();
	world_restart(false);
	cr_expect_null(strstr(logged(), "journal_damaged"));
	cr_expect_str_eq(resumed(ids[1]), "c 2 ");
	publish(3);
	cr_expect_str_eq(files(), "000000000001.sse 000000000002.sse 000000000003.sse ");
	world_restart(false);
	cr_expect_str_eq(resumed(ids[1]), "c 2 3 ");
	cr_expect(file_is(segment_name(2), (struct span)BYTES("")));
	world_stop();
}

Test(journal, an_empty_segment_alone_is_a_new_journal)
{
	char id[40];

	world_start(tokens, "--journal", world_journal(), NULL);
	restart_with((struct span)BYTES(""));
	strcpy(id, connected_id());
	publish(1);
	world_restart(false);
	cr_expect_str_eq(resumed(id), "c 1 ");
	world_stop();
}

/* ---- failures of power ---- */

Test(journal, after_a_failure_of_power_every_page_is_told_to_reload)
{
	static const char *const syncs[] = {"none", "batch"};

	for (size_t i = 0; i < COUNT_OF(syncs); i++) {
		char id[40];

		world_start(tokens, "--journal", world_journal(), "--journal-sync", syncs[i], NULL);
		publish_many(1, 3, 10);
		strcpy(id, connected_id());
		world_pass(3000);
		machine_restarts();
		logged();
		world_restart(false);
		cr_expect_eq(times(logged(), "msg=journal_cut "), 1);
		for (int k = 1; k <= 3; k++)
			cr_expect_str_eq(resumed(ids[k]), "c resync(too_old) ", "%s, %d", syncs[i], k);
		strcpy(id, connected_id());
		cr_expect_str_eq(resumed(id), "c ");
		cr_expect_str_eq(files(), "000000000001.sse 000000000002.sse ", "one begins anew in another boot");
		world_restart(false);
		cr_expect_str_eq(resumed(ids[3]), "c resync(too_old) ", "%s: once more", syncs[i]);
		cr_expect_str_eq(resumed(id), "c ", "%s: who came since", syncs[i]);
		publish(4);
		world_restart(true);
		cr_expect_null(strstr(logged(), "journal_cut"));
		cr_expect_str_eq(resumed(ids[3]), "c resync(too_old) ");
		cr_expect_str_eq(resumed(id), "c 4 ");
		world.between = machine_restarts;
		world_restart(true);
		cr_expect_str_eq(resumed(id), "c 4 ", "%s: it ended in order", syncs[i]);
		world_stop();
	}
}

/* Nobody knows which ids were given last. A clock that went back, too, must not give them once more. */
Test(journal, after_a_failure_of_power_no_id_is_given_twice)
{
	struct buf whole;
	size_t bytes, at;

	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 3, 10);
	whole = file_bytes(segment_name(1));
	publish(4);
	world_pass(500);
	publish_many(5, 6, 10);
	at = record_of(&whole, 3, &bytes);
	file_put(segment_name(1), (struct span){whole.data, at + bytes});
	machine_restarts();
	world.wall_ms -= 3600000;
	world_restart(false);
	for (int i = 3; i <= 6; i++)
		cr_expect_str_eq(resumed(ids[i]), "c resync(too_old) ", "who had event %d", i);
	publish(7);
	expect_rising(ids[6], ids[7]);
	buf_free(&whole);
	world_stop();
}

Test(journal, after_an_end_in_order_a_failure_of_power_takes_nothing)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 3, 10);
	world.between = machine_restarts;
	world_restart(true);
	cr_expect_str_eq(resumed(ids[1]), "c 2 3 ");
	cr_expect_null(strstr(logged(), "journal_cut"));
	publish(4);
	cr_expect_str_eq(events_in(segment_name(2)), "4 ", "%s", files());
	world.between = machine_restarts;
	world_restart(true);
	cr_expect_str_eq(resumed(ids[1]), "c 2 3 4 ");
	world_stop();
}

/* Events may have come since, and never have reached the disk. */
Test(journal, an_end_in_order_vouches_for_nothing_after_the_next_start)
{
	static const char *const syncs[] = {"none", "batch"};

	for (size_t i = 0; i < COUNT_OF(syncs); i++) {
		world_start(tokens, "--journal", world_journal(), "--journal-sync", syncs[i], NULL);
		publish_many(1, 3, 10);
		world_restart(true);
		cr_expect_str_eq(events_in(segment_name(1)), "1 2 3 ", "the mark of the end is taken back");
		machine_restarts();
		world_restart(false);
		cr_expect_str_eq(resumed(ids[1]), "c resync(too_old) ");
		cr_expect_eq(times(logged(), "msg=journal_cut "), 1);
		world_stop();
	}
}

static struct buf ended;

static void the_end_is_kept(void)
{
	machine_restarts();
	ended = file_bytes(segment_name(1));
}

Test(journal, a_torn_end_is_no_end)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	publish(1);
	world.between = the_end_is_kept;
	world_restart(true);
	for (size_t n = ended.len - sizeof(struct journal_record); n < ended.len; n++) {
		restart_with((struct span){ended.data, n});
		cr_assert_str_eq(resumed(ids[1]), "c resync(too_old) ", "cut at byte %zu", n);
	}
	restart_with(buf_view(&ended));
	cr_assert_str_eq(resumed(ids[1]), "c ");
	buf_free(&ended);
	world_stop();
}

/* What the mark of the end vouches for includes what was damaged before it. */
Test(journal, damage_before_the_end_is_a_gap)
{
	size_t bytes, at;

	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 3, 10);
	world.between = the_end_is_kept;
	world_restart(true);
	at = record_of(&ended, 3, &bytes);
	ended.data[at + bytes - 5] ^= 1;
	restart_with(buf_view(&ended));
	cr_expect_str_eq(resumed(ids[2]), "c resync(too_old) ");
	cr_expect_str_eq(resumed(ids[3]), "c ");
	buf_free(&ended);
	world_stop();
}

/* What a failing disk did not take is missing after a restart, and nobody knows who has seen it. */
Test(journal, what_was_never_stored_is_a_gap_after_any_restart)
{
	static const char *const syncs[] = {"none", "batch", "always"};

	for (int i = 0; i < 6; i++) {
		world_start(tokens, "--journal", world_journal(), "--journal-sync", syncs[i / 2], NULL);
		publish_many(1, 2, 10);
		world.disk_errno = ENOSPC;
		world.disk_room = 0;
		publish_to(3, 10, "\"all\"");
		world_restart(i % 2 == 0);
		world.disk_errno = 0;
		cr_expect_str_eq(resumed(ids[2]), "c resync(too_old) ", "%s", syncs[i / 2]);
		cr_expect_str_eq(resumed(ids[3]), "c resync(too_old) ", "%s", syncs[i / 2]);
		world_pass(1100);
		publish(4);
		publish(5);
		world_restart(false);
		cr_expect_str_eq(resumed(ids[4]), "c 5 ", "%s: it is well again", syncs[i / 2]);
		cr_expect_str_eq(resumed(ids[2]), "c resync(too_old) ", "%s: and yet 3 is missing", syncs[i / 2]);
		world_stop();
	}
}

/* The first segment of a boot may be there without its bytes: the machine ended before they were on the disk. */
Test(journal, an_empty_segment_in_another_boot_is_a_gap)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 2, 10);
	world_restart(true);
	machine_restarts();
	world_restart(false);
	publish(3);
	cr_assert_str_eq(events_in(segment_name(2)), "3 ");
	machine_restarts();
	file_put(segment_name(2), (struct span)BYTES(""));
	world_restart(false);
	cr_expect_str_eq(resumed(ids[2]), "c resync(too_old) ", "it missed 3");
	world_stop();
}

Test(journal, with_sync_always_a_failure_of_power_takes_nothing)
{
	struct buf whole;
	size_t bytes, at;

	world_start(tokens, "--journal", world_journal(), "--journal-sync", "always", NULL);
	publish_many(1, 3, 10);
	machine_restarts();
	whole = file_bytes(segment_name(1));
	world_restart(false);
	cr_expect(file_is(segment_name(1), buf_view(&whole)), "the segment names a boot");
	cr_expect_str_eq(resumed(ids[1]), "c 2 3 ");
	cr_expect_str_eq(files(), "000000000001.sse ");
	at = record_of(&whole, 3, &bytes);
	restart_with((struct span){whole.data, at + bytes / 2}); /* it was never acknowledged */
	cr_expect_str_eq(resumed(ids[1]), "c 2 ");
	cr_expect_null(strstr(logged(), "journal_cut"));
	buf_free(&whole);
	world_stop();
}

Test(journal, another_journal_sync_begins_another_segment)
{
	world_start(tokens, "--journal", world_journal(), "--journal-sync", "always", NULL);
	publish(1);
	option_set("--journal-sync", "batch");
	world_restart(false);
	publish(2);
	cr_expect_str_eq(resumed(ids[1]), "c 2 ");
	cr_expect_str_eq(events_in(segment_name(2)), "2 ");
	option_set("--journal-sync", "none");
	world_restart(false);
	publish(3);
	cr_expect_str_eq(resumed(ids[1]), "c 2 3 ");
	cr_expect_str_eq(events_in(segment_name(2)), "2 3 ");
	option_set("--journal-sync", "always");
	world_restart(false); /* in the same boot: what the kernel has is not lost */
	cr_expect_str_eq(resumed(ids[1]), "c 2 3 ");
	publish(4);
	cr_expect_str_eq(events_in(segment_name(3)), "4 ");
	world_restart(false);
	cr_expect_str_eq(resumed(ids[3]), "c 4 ");
	world_stop();
}

/* ---- what is refused ---- */

/* Another server that would start on this directory. Returns what it says, "" if it starts. */
static bool root_is_nobody; /* it has no rights there */

static const char *refused(const char *directory)
{
	bool started;
	static char text[1024];
	struct options options = world.server->opt;
	struct server *other = calloc(1, sizeof *other);
	struct buf error = buf_fixed(text, sizeof text - 1);

	options.journal = directory;
	cr_assert(server_init(other, &options, world.server->sys, 250, &error));
	if (root_is_nobody)
		cr_assert_eq(seteuid(65534), 0);
	started = journal_open(other, &error);
	if (root_is_nobody)
		cr_assert_eq(seteuid(0), 0);
	cr_assert_eq(error.len == 0, started);
	text[error.len] = '\0';
	server_free(other);
	free(other);
	return text;
}

static const char *other_directory(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", world.dir, name);
	return path;
}

Test(journal, a_directory_that_another_sse_uses_is_refused)
{
	const char *error;

	world_start(tokens, "--journal", world_journal(), NULL);
	publish(1);
	error = refused(file_path(""));
	cr_expect_not_null(strstr(error, "another sse is using it"), "%s", error);
	cr_expect_not_null(strstr(error, file_path("")), "%s", error);
	cr_expect_str_eq(files(), "000000000001.sse ");
	cr_expect_eq(files_open(), 2);
	publish(2);
	world_restart(false);
	cr_expect_str_eq(resumed(ids[1]), "c 2 ");
	world_stop();
}

Test(journal, what_is_no_directory_one_can_use_is_refused)
{
	const char *path, *error;
	bool root = geteuid() == 0;

	world_start(tokens, NULL);
	error = refused(path = other_directory("missing"));
	cr_expect(strstr(error, path) != NULL && strstr(error, "make the directory first") != NULL, "%s", error);
	cr_expect_lt(access(path, F_OK), 0, "it was made");
	error = refused(path = other_directory("tokens"));
	cr_expect(strstr(error, path) != NULL && strstr(error, "Not a directory") != NULL, "%s", error);
	path = other_directory("closed");
	cr_assert_eq(mkdir(path, root ? 0700 : 0), 0);
	root_is_nobody = root;
	error = refused(path);
	cr_expect(strstr(error, path) != NULL && strstr(error, "Permission denied") != NULL, "%s", error);
	cr_expect_eq(rmdir(path), 0);
	cr_expect_eq(files_open(), 0);
	world_stop();
}

static void put_in(const char *directory, const char *name, struct span bytes)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	cr_assert_eq(fwrite(bytes.p, 1, bytes.n, f), bytes.n);
	fclose(f);
}

Test(journal, a_newer_version_s_journal_is_refused_and_left_alone)
{
	struct buf old;

	for (int row = 0; row < 3; row++) { /* the newer one is the only, the last, the first */
		const char *newer = row == 1 ? "000000000002.sse" : "000000000001.sse", *path, *error;
		struct buf text = buf_growable(), now;
		char before[128];

		world_start(tokens, "--journal", world_journal(), NULL);
		publish_many(1, 3, 10);
		old = file_bytes(segment_name(1));
		path = other_directory("newer");
		cr_assert_eq(mkdir(path, 0700), 0);
		buf_bytes(&text, head_2, sizeof head_2 - 1);
		buf_text(&text, "\xff what only that version knows");
		if (row > 0)
			put_in(path, row == 1 ? "000000000001.sse" : "000000000002.sse", buf_view(&old));
		put_in(path, newer, buf_view(&text));
		strcpy(before, files_in(path));
		error = refused(path);
		cr_expect(strstr(error, path) != NULL && strstr(error, newer) != NULL && strstr(error, "newer version") != NULL,
			"row %d: %s", row, error);
		cr_expect_str_eq(files_in(path), before);
		for (int i = 1; i <= (row > 0 ? 2 : 1); i++) {
			char name[80];

			snprintf(name, sizeof name, "../newer/%s", segment_name(i));
			now = file_bytes(name);
			cr_expect(span_same(buf_view(&now), buf_view(strcmp(segment_name(i), newer) == 0 ? &text : &old)), "%s",
				name);
			buf_free(&now);
			unlink(file_path(name));
		}
		cr_expect_eq(rmdir(path), 0);
		buf_free(&text);
		buf_free(&old);
		cr_expect_eq(files_open(), 2);
		world_stop();
	}
}

Test(journal, a_segment_that_cannot_be_read_is_refused_by_name)
{
	const char *path, *error;
	char name[512];

	world_start(tokens, NULL);
	path = other_directory("odd");
	cr_assert_eq(mkdir(path, 0700), 0);
	snprintf(name, sizeof name, "%s/000000000001.sse", path);
	cr_assert_eq(mkdir(name, 0700), 0);
	error = refused(path);
	cr_expect(strstr(error, name) != NULL && strstr(error, "Is a directory") != NULL, "%s", error);
	cr_expect_eq(rmdir(name), 0);
	cr_expect_eq(rmdir(path), 0);
	world_stop();
}

/* ---- a disk that is full, or fails ---- */

/* What a disk may say when it is written to. */
static const int faults[] = {ENOSPC, EIO, EDQUOT, EFBIG};

/* What these acks say: "yes", "no" for an event that is not stored, "error". */
static const char *acks_in(const char *acks)
{
	static struct buf out = {.growable = true};

	buf_clear(&out);
	for (const char *end; *acks != '\0'; acks = *end == '\0' ? end : end + 1) {
		char ack[512], id[32], tail[32] = "";
		int matched;

		end = acks + strcspn(acks, "\n");
		snprintf(ack, sizeof ack, "%.*s", (int)(end - acks), acks);
		if (sscanf(ack, "{\"ok\":true,\"id\":\"%31[0-9-]\",\"matched\":%d%31s", id, &matched, tail) == 3)
			buf_text(&out, strcmp(tail, "}") == 0 ? "yes " : strcmp(tail, ",\"stored\":false}") == 0 ? "no " : ack);
		else
			buf_text(&out, strncmp(ack, "{\"ok\":false,", 12) == 0 && is_stored(ack) ? "error " : ack);
	}
	buf_byte(&out, '\0');
	return out.data;
}

/* What Django was told since the last call. */
static const char *answers(void)
{
	buf_byte(&world.acks, '\0');
	buf_clear(&world.acks);
	return acks_in(world.acks.data);
}

static void disk_fails(int error)
{
	world.disk_errno = error;
	world.disk_room = 0;
}

/* The disk is well again, and is tried. */
static void disk_heals(void)
{
	world.disk_errno = world.sync_errno = 0;
	world_pass(2200);
}

Test(journal, events_go_to_the_streams_though_the_disk_takes_only_a_part)
{
	size_t record = SIZE_MAX;
	int boss;

	world_start(tokens, "--journal", world_journal(), NULL);
	boss = stream_open("boss");
	for (size_t room = 0; room == 0 || room <= record + 1; room++) {
		const char *frame;
		bool stored;

		world.disk_errno = faults[room % COUNT_OF(faults)];
		world.disk_room = room;
		stored = is_stored(publish_to(1, 1, "\"all\""));
		frame = client_hears_frames(boss);
		cr_assert_str_eq(heard_in(frame), "1 ", "room for %zu", room);
		record = sizeof(struct journal_record) + strlen(ALL) + strlen(frame);
		cr_assert_eq(stored, room >= record, "room for %zu", room);
		disk_heals();
		cr_assert(is_stored(publish_to(2, 1, "\"all\"")), "room for %zu", room);
		cr_assert_str_eq(heard(boss), "2 ");
	}
	world_stop();
}

Test(journal, what_was_not_stored_is_stored_when_the_disk_is_well_again)
{
	for (size_t fault = 0; fault < COUNT_OF(faults); fault++)
		for (int orderly = 0; orderly < 2; orderly++) {
			int number = 1;

			world_start(tokens, "--journal", world_journal(), "--journal-sync", fault % 2 == 0 ? "none" : "batch",
				NULL);
			publish(1);
			for (size_t room = 0; room < 300; room += 7) {
				world.disk_errno = faults[fault];
				world.disk_room = room;
				for (int i = 0; i < 3; i++)
					publish_to(++number, 10, "\"all\"");
				cr_assert(!is_stored(publish_to(++number, 10, "\"all\"")), "room for %zu", room);
				disk_heals();
				publish(++number);
			}
			world_restart(orderly);
			cr_expect_str_eq(resumed(ids[1]), replay(2, number));
			if (faults[fault] == ENOSPC || faults[fault] == EDQUOT) { /* else that place is given up */
				cr_expect_str_eq(files(), "000000000001.sse ");
				cr_expect_eq(times(events_in(segment_name(1)), " "), number, "some are there twice");
			}
			world_stop();
		}
}

Test(journal, an_ack_says_which_events_are_not_stored_and_of_nothing_else)
{
	static const char lines[] = "{\"op\":\"ping\"}\n{\"event\":\"e\",\"data\":[1],\"to\":\"all\"}\n\n{\"event\":1}\n"
		"{\"op\":\"revoke\",\"user\":7}\n{\"event\":\"e\",\"data\":[2],\"to\":{\"users\":[77]}}\n"
		"{\"op\":\"revoke\",\"sid\":\"x\"}\n{\"event\":\"e\",\"data\":\"}\",\"to\":\"all\"}";

	world_start(tokens, "--journal", world_journal(), NULL);
	stream_open("boss");
	cr_expect_str_eq(acks_in(django_says(lines)), "yes yes error yes yes yes yes ");
	disk_fails(ENOSPC);
	cr_expect_str_eq(acks_in(django_says(lines)), "yes no error yes no yes no ");
	cr_expect_str_eq(acks_in(django_says(lines)), "yes no error yes no yes no ", "and not tried");
	cr_expect_str_eq(acks_in(django_says("{\"op\":\"ping\"}")), "yes ");
	cr_expect_str_eq(acks_in(django_says("{\"event\":\"e\",\"data\":[1],\"to\":\"all\"}")), "no ");
	cr_expect_eq(world.server->count.not_stored, 7);
	disk_heals();
	cr_expect_str_eq(acks_in(django_says(lines)), "yes yes error yes yes yes yes ");
	cr_expect_eq(world.server->count.not_stored, 7);
	world_stop();
}

Test(journal, every_datagram_of_a_turn_gets_its_own_answers)
{
	static const char event[] = "{\"event\":\"e\",\"data\":[1],\"to\":\"all\"}", ping[] = "{\"op\":\"ping\"}";

	world_start(tokens, "--journal", world_journal(), NULL);
	for (int fails = 0; fails < 2; fails++) {
		char two[256], wanted[512] = "";
		const char *stored = fails ? "no " : "yes ";

		if (fails)
			disk_fails(EIO);
		snprintf(two, sizeof two, "%s\n%s\n%s", event, ping, event);
		answers();
		world.acks_sent = 0;
		for (int i = 0; i < 8; i++) {
			django_queues(two);
			django_queues(ping);
			django_queues_bytes(event, sizeof event - 1, false); /* nobody to answer to */
			django_queues("{");
			django_queues(event);
			strcat(strcat(wanted, stored), "yes ");
			strcat(strcat(wanted, stored), "yes error ");
			strcat(wanted, stored);
		}
		world_settle();
		cr_expect_str_eq(answers(), wanted);
		cr_expect_eq(world.acks_sent, 8 * 4, "one answer a datagram");
	}
	world_stop();
}

/* So many that their answers are sent in several parts. */
Test(journal, the_answers_to_a_long_datagram_say_what_is_not_stored)
{
	for (int fails = 0; fails < 2; fails++) {
		struct buf text = buf_growable();
		const char *acks;

		world_start(tokens, "--journal", world_journal(), NULL);
		for (int i = 0; i < 2500; i++)
			buf_text(&text, i % 5 == 4 ? "{\"op\":\"ping\"}\n" : "{\"event\":\"e\",\"data\":[1],\"to\":\"all\"}\n");
		if (fails)
			disk_fails(EIO);
		django_queues_bytes(text.data, text.len, true);
		world_settle();
		acks = answers();
		cr_expect_eq(times(acks, "no "), fails ? 2000 : 0);
		cr_expect_eq(times(acks, "yes "), fails ? 500 : 2500);
		if (fails)
			cr_expect_eq(times(acks, "no no no no yes "), 500);
		cr_expect_eq(world.server->count.not_stored, fails ? 2000 : 0);
		buf_free(&text);
		world_stop();
	}
}

/* However much comes in a turn: the disk is well. */
Test(journal, a_turn_full_of_large_datagrams_is_stored)
{
	char *text = malloc(200000);
	int n = snprintf(text, 200000, "{\"event\":\"e\",\"data\":[1,\"%0190000d\"],\"to\":\"all\"}", 0);

	world_start(tokens, "--journal", world_journal(), NULL);
	for (int i = 0; i < 40; i++)
		django_queues_bytes(text, (size_t)n, true);
	world_settle();
	cr_expect_eq(times(answers(), "yes "), 40);
	cr_expect_eq(world.server->count.not_stored, 0);
	world_restart(false);
	cr_expect_eq(world.server->ring.next - world.server->ring.oldest, 40);
	free(text);
	world_stop();
}

static void fault_is_said_once(const char *sync)
{
	world_start(tokens, "--journal", world_journal(), "--journal-sync", sync, NULL);
	publish(1);
	logged();
	for (unsigned round = 1; round <= 2; round++) {
		const char *log;

		disk_fails(ENOSPC);
		for (int i = 0; i < 50; i++) {
			cr_assert(!is_stored(publish_to(2, 1, "\"all\"")));
			world_pass(200);
		}
		log = logged();
		cr_expect_eq(times(log, "journal_failed"), 1, "%s: %s", sync, log);
		cr_expect_eq(times(log, "level=error msg=journal_failed what=\"cannot write\" "
			"error=\"No space left on device\" "), 1, "%s: %s", sync, log);
		cr_expect_null(strstr(log, "journal_mended"));
		cr_expect_eq(world.server->count.not_stored, 50 * round);
		cr_expect_geq(world.server->count.journal_errors, 8 * round, "%s: it is tried again every second", sync);
		cr_expect_leq(world.server->count.journal_errors, 12 * round, "%s: and not more often", sync);
		disk_heals();
		publish(3);
		world_pass(5000);
		log = logged();
		cr_expect_eq(times(log, "journal_failed"), 0, "%s: %s", sync, log);
		cr_expect_eq(times(log, "level=warning msg=journal_mended "), 1, "%s: %s", sync, log);
	}
	world_stop();
}

Test(journal, R11_a_fault_is_said_once_however_many_events_it_takes)
{
	fault_is_said_once("none");
	fault_is_said_once("batch");
	fault_is_said_once("always");
}

/* Nobody publishes, and nobody listens: the loop must wake up by itself. */
Test(journal, it_heals_without_anything_happening)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	publish(1);
	world_pass(2000);
	disk_fails(ENOSPC);
	publish_to(2, 1, "\"all\"");
	world_pass(500);
	server_turn(world.server, -1);
	cr_expect(world.wait_ms > 0 && world.wait_ms <= 1000, "waits %d ms", world.wait_ms);
	disk_heals();
	server_turn(world.server, -1);
	cr_expect_eq(world.wait_ms, -1, "waits %d ms, and all is done", world.wait_ms);
	world_restart(false);
	cr_expect_str_eq(resumed(ids[1]), "c 2 ");
	world_stop();
}

Test(journal, a_disk_that_is_full_at_the_start_is_a_fault_like_any_other)
{
	for (int empty = 0; empty < 2; empty++)
		for (int creates = 0; creates < 2; creates++) {
			struct buf torn = buf_growable();
			char id[40];
			int boss;

			world_start(tokens, "--journal", world_journal(), NULL);
			publish_many(1, 2, 10);
			torn = file_bytes(segment_name(1));
			disk_fails(ENOSPC);
			world.disk_creates = creates;
			world.disk_room = creates ? 17 : 0;
			if (empty)
				unlink(file_path(segment_name(1)));
			else
				file_put(segment_name(1), (struct span){torn.data, torn.len - 1}); /* so that a new one is needed */
			logged();
			world_restart(false);
			cr_expect_eq(times(logged(), "msg=journal_failed what=\"cannot make a segment\""), 1);
			cr_expect_str_eq(files(), empty ? "" : "000000000001.sse ", "half a segment is left");
			strcpy(id, connected_id());
			boss = stream_open("boss");
			cr_expect(!is_stored(publish_to(3, 1, "\"all\"")));
			cr_expect_str_eq(heard(boss), "3 ");
			cr_expect_str_eq(resumed(id), "c 3 ");
			world_pass(3000);
			cr_expect_str_eq(files(), empty ? "" : "000000000001.sse ");
			disk_heals();
			publish(4);
			cr_expect_eq(times(logged(), "msg=journal_mended"), 1);
			world_restart(false);
			cr_expect_str_eq(resumed(id), "c 3 4 ");
			if (!empty)
				cr_expect_str_eq(resumed(ids[1]), "c 3 4 ");
			cr_expect_eq(files_open(), 2);
			buf_free(&torn);
			world_stop();
		}
}

Test(journal, what_the_ring_overwrote_before_the_disk_was_well_again_is_a_gap)
{
	int first;

	world_start(tokens, "--journal", world_journal(), SMALL, NULL);
	publish_many(1, 5, 10);
	disk_fails(ENOSPC);
	for (int i = 6; i <= 60; i++)
		cr_assert(!is_stored(publish_to(i, 4000, "\"all\"")));
	disk_heals();
	publish_many(61, 62, 10);
	world_restart(false);
	first = expect_history(62);
	cr_expect(first > 40 && first < 60, "%d", first);
	cr_expect_str_eq(resumed(ids[5]), "c resync(too_old) ", "who has all that was in the journal before");
	world_restart(false);
	cr_expect_eq(expect_history(62), first);
	world_stop();
}

Test(journal, a_segment_that_cannot_be_made_is_made_later)
{
	world_start(tokens, "--journal", world_journal(), "--journal-sync", "none", SMALL, NULL);
	publish_many(1, 16, 4000);
	world.disk_creates = true;
	for (int i = 17; i <= 19; i++) {
		disk_fails(EIO);
		world.disk_room = i == 17 ? 0 : 39; /* one byte less than a head */
		cr_expect(!is_stored(publish_to(i, 10, "\"all\"")));
		world_pass(3000);
		cr_expect_str_eq(files(), "000000000001.sse ", "half a segment is left");
	}
	disk_heals();
	cr_expect_eq(times(files(), ".sse"), 2, "%s", files());
	cr_expect_eq(files_open(), 2);
	world_restart(false);
	cr_expect_str_eq(resumed(ids[10]), replay(11, 19));
	world_stop();
}

/* A place that cannot be written now may never be: what the disk may not have is written elsewhere. */
Test(journal, after_an_error_of_the_disk_another_segment_is_begun)
{
	static const struct {
		const char *sync;
		int pass_ms;
		const char *events; /* in the second segment */
	} rows[] = {{"none", 2000, "3 "}, {"none", 0, "3 "}, {"batch", 2000, "3 "}, {"batch", 0, "2 3 "}, {"always", 0, "3 "}};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		world_start(tokens, "--journal", world_journal(), "--journal-sync", rows[i].sync, NULL);
		publish(1);
		world_pass(2000);
		publish(2);
		world_pass(rows[i].pass_ms);
		disk_fails(EIO);
		publish_to(3, 1, "\"all\"");
		world.disk_errno = 0;
		world_pass(1100);
		cr_expect_str_eq(events_in(segment_name(1)), "1 2 ");
		cr_expect_str_eq(events_in(segment_name(2)), rows[i].events, "row %zu", i);
		world_pass(2000);
		world_restart(false);
		cr_expect_str_eq(resumed(ids[1]), "c 2 3 ", "row %zu", i);
		world_stop();
	}
}

Test(journal, after_an_error_the_syncer_keeps_its_file)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	world_pass(2000);
	world.sync_held = true;
	publish(1);
	world_pass(1100);
	cr_assert(sync_is_at(segment_name(1)));
	disk_fails(EIO);
	publish_to(2, 1, "\"all\"");
	world_pass(1100);
	cr_assert(sync_is_at(segment_name(1)), "closed under the syncer");
	world.sync_held = false;
	disk_heals();
	world_restart(false);
	cr_expect_str_eq(resumed(ids[1]), "c 2 ");
	world_stop();
}

/* For want of descriptors, say. */
Test(journal, where_no_segment_can_be_made_the_last_one_takes_more)
{
	uint64_t number;

	world_start(tokens, "--journal", world_journal(), "--journal-sync", "none", SMALL, NULL);
	publish_many(1, 16, 4000);
	world.disk_errno = EMFILE;
	world.disk_room = 1 << 30;
	number = world.server->journal.number;
	publish_many(17, 40, 10);
	cr_expect_leq(world.server->journal.number, number + 1, "it is tried with each event");
	cr_expect_str_eq(files(), "000000000001.sse ");
	world.disk_errno = 0;
	world_pass(1100);
	publish(41);
	cr_expect_eq(times(files(), ".sse"), 2, "%s", files());
	world_restart(false);
	cr_expect_str_eq(resumed(ids[10]), replay(11, 41));
	world_stop();
}

static void files_may_be_opened(void)
{
	world.disk_errno = 0;
}

Test(journal, that_ends_while_no_segment_can_be_made_ended_in_order)
{
	world_start(tokens, "--journal", world_journal(), "--journal-sync", "none", SMALL, NULL);
	publish_many(1, 16, 4000);
	world.disk_errno = EMFILE;
	world.disk_room = 1 << 30;
	publish_many(17, 40, 10);
	world.between = files_may_be_opened;
	world_restart(true);
	cr_expect_null(strstr(logged(), "journal_cut"), "%s", logged());
	cr_expect_str_eq(resumed(ids[10]), replay(11, 40));
	world_stop();
}

/* As by a copy that was not finished. */
static void shorten(void)
{
	struct buf whole = file_bytes(segment_name(1));

	file_put(segment_name(1), (struct span){whole.data, whole.len / 2});
	buf_free(&whole);
}

Test(journal, one_that_ended_in_order_and_is_shorter_now_has_a_gap)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 20, 10);
	world.between = shorten;
	world_restart(true);
	cr_expect_eq(times(logged(), "msg=journal_cut "), 1);
	cr_expect_str_eq(resumed(ids[2]), "c resync(too_old) ");
	publish(21);
	cr_expect_str_eq(resumed(ids[20]), "c resync(too_old) ", "one that is lost");
	world_restart(true);
	cr_expect_eq(times(logged(), "msg=journal_cut "), 0, "that is over");
	world_stop();
}

/* Nor does the mark of an earlier end count, once the journal has gone on. */
Test(journal, one_that_went_on_after_an_end_in_order_is_whole)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 5, 10);
	world_restart(true);
	publish_many(6, 9, 10);
	world_restart(false);
	cr_expect_eq(times(logged(), "msg=journal_cut "), 0);
	cr_expect_str_eq(resumed(ids[2]), replay(3, 9));
	world_stop();
}

/* Somebody emptied the directory. */
Test(journal, what_was_removed_is_written_anew)
{
	static const char *const syncs[] = {"none", "batch", "always"};

	for (size_t i = 0; i < COUNT_OF(syncs); i++) {
		world_start(tokens, "--journal", world_journal(), "--journal-sync", syncs[i], NULL);
		publish_many(1, 3, 10);
		logged();
		unlink(file_path(segment_name(1)));
		unlink(file_path(".complete"));
		world_pass(2200);
		cr_expect_eq(times(logged(), "msg=journal_removed "), 1);
		cr_expect_str_eq(events_in(segment_name(2)), "1 2 3 ");
		publish(4);
		world_pass(2200);
		world_restart(false);
		cr_expect_str_eq(resumed(ids[1]), "c 2 3 4 ", "%s", syncs[i]);
		cr_expect_eq(times(logged(), "msg=journal_removed "), 0);
		world_stop();
	}
}

/* What was left of the last attempt could not be removed. */
Test(journal, a_segment_that_is_there_already_is_passed_over)
{
	world_start(tokens, "--journal", world_journal(), "--journal-sync", "none", SMALL, NULL);
	publish_many(1, 15, 4000);
	file_put(segment_name(2), (struct span)BYTES("SSE"));
	publish_to(16, 4000, "\"all\"");
	publish_to(17, 10, "\"all\"");
	world_pass(5000);
	publish(18);
	cr_expect(file_is(segment_name(2), (struct span)BYTES("SSE")));
	cr_expect_str_eq(events_in(segment_name(3)), "18 ");
	world.wall_ms += 1000;
	world_restart(false);
	cr_expect_str_eq(resumed(ids[16]), "c 17 18 ", "nothing is missing");
	world_stop();
}

/* ---- fdatasync ---- */

/* What the syncer is at comes to an end, and what it is asked next is held again. */
static void sync_ends(void)
{
	cr_assert(world.sync_asked);
	world.sync_held = false;
	server_turn(world.server, 0);
	world.sync_held = true;
	world_settle();
}

Test(journal, with_sync_none_the_disk_is_never_asked)
{
	world_start(tokens, "--journal", world_journal(), "--journal-sync", "none", NULL);
	world.sync_held = true;
	publish_many(1, 3, 10);
	world_pass(5000);
	cr_expect_not(world.sync_asked);
	cr_expect_eq(world.syncs, 0);
	world_restart(true);
	cr_expect_str_eq(resumed(ids[1]), "c 2 3 ");
	world_stop();
}

Test(journal, with_sync_batch_the_disk_is_asked_once_a_second_if_there_is_something_new)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	world_pass(5000);
	cr_expect_eq(world.syncs, 1, "the file itself is new");
	server_turn(world.server, -1);
	cr_expect_eq(world.wait_ms, -1, "waits %d ms, and all is done", world.wait_ms);
	publish(1);
	cr_expect_eq(world.syncs, 1, "the ack does not wait");
	server_turn(world.server, -1);
	cr_expect(world.wait_ms >= 0 && world.wait_ms <= 1000, "waits %d ms", world.wait_ms);
	world_pass(1000);
	cr_expect_eq(world.syncs, 2);
	world_pass(5000);
	cr_expect_eq(world.syncs, 2);
	django_says("{\"op\":\"ping\"}");
	world_pass(2000);
	cr_expect_eq(world.syncs, 2);
	for (int i = 0; i < 100; i++) {
		publish(2);
		world_pass(100);
	}
	cr_expect(world.syncs >= 11 && world.syncs <= 12, "%d in ten seconds", world.syncs - 2);
	world_stop();
}

Test(journal, with_sync_batch_nothing_waits_for_a_slow_disk)
{
	int boss;

	world_start(tokens, "--journal", world_journal(), NULL);
	boss = stream_open("boss");
	world_pass(2000);
	world.sync_held = true;
	publish(1);
	world_pass(1100);
	cr_assert(sync_is_at(segment_name(1)));
	cr_expect_eq(world.sync.directory, -1);
	for (int i = 2; i <= 20; i++) {
		publish(i);
		world_pass(500);
	}
	cr_expect_str_eq(heard(boss), "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 ");
	cr_expect_eq(world.syncs, 1, "it was asked once more meanwhile");
	sync_ends();
	world_pass(1100);
	cr_expect(sync_is_at(segment_name(1)), "what came meanwhile is not on the disk yet");
	sync_ends();
	world_pass(3000);
	cr_expect_not(world.sync_asked);
	world_restart(false);
	cr_expect_str_eq(resumed(ids[1]), replay(2, 20));
	world_stop();
}

Test(journal, with_sync_always_an_ack_waits_for_the_disk_and_streams_do_not)
{
	int boss;

	world_start(tokens, "--journal", world_journal(), "--journal-sync", "always", NULL);
	boss = stream_open("boss");
	world.sync_held = true;
	cr_expect_str_eq(django_says(event_text(1, 1, "\"all\"")), "");
	cr_assert(sync_is_at(segment_name(1)));
	cr_expect_str_eq(heard(boss), "1 ");
	world_pass(900);
	cr_expect_eq(world.acks_sent, 0);
	cr_expect_str_eq(django_says(event_text(2, 1, "\"all\"")), "", "nothing else is taken in");
	answers();
	cr_expect_str_eq(heard(boss), "");
	cr_expect_str_eq(heard(stream_open("fore")), "", "streams can begin");
	server_turn(world.server, -1);
	cr_expect_neq(world.wait_ms, 0, "the loop turns and turns");

	sync_ends(); /* the first event's; the second is taken in */
	cr_expect_eq(world.acks_sent, 1);
	cr_expect_str_eq(heard(boss), "2 ");
	cr_assert(world.sync_asked);
	sync_ends();
	cr_expect_eq(world.acks_sent, 2);
	cr_expect_not(world.sync_asked);
	cr_expect_str_eq(answers(), "yes yes ");
	cr_expect_eq(world.server->count.not_stored, 0);
	world_stop();
}

Test(journal, with_sync_always_the_new_file_is_in_its_directory_before_the_first_ack)
{
	struct stat given, directory;

	world_start(tokens, "--journal", world_journal(), "--journal-sync", "always", NULL);
	world.sync_held = true;
	django_says(event_text(1, 1, "\"all\""));
	cr_assert(sync_is_at(segment_name(1)));
	cr_assert(fstat(world.sync.directory, &given) == 0 && stat(file_path(""), &directory) == 0);
	cr_expect_eq(given.st_ino, directory.st_ino);
	sync_ends();
	django_says(event_text(2, 1, "\"all\""));
	cr_assert(sync_is_at(segment_name(1)));
	cr_expect_eq(world.sync.directory, -1, "it is there already");
	sync_ends();
	world_stop();
}

Test(journal, with_sync_always_what_comes_together_shares_one_wait)
{
	world_start(tokens, "--journal", world_journal(), "--journal-sync", "always", NULL);
	publish(1);
	cr_assert_eq(world.syncs, 1);
	world.acks_sent = 0;
	for (int i = 2; i <= 20; i++)
		django_queues(event_text(i, 1, "\"all\""));
	world_settle();
	cr_expect_eq(world.acks_sent, 19);
	cr_expect_eq(world.syncs, 2);
	django_says("{\"op\":\"ping\"}");
	django_says("{\"event\":1}");
	cr_expect_eq(world.syncs, 2, "there was nothing to wait for");
	world_restart(false);
	cr_expect_str_eq(resumed(ids[1]), replay(2, 20));
	world_stop();
}

Test(journal, with_sync_always_a_disk_that_fails_is_said_in_the_ack)
{
	int boss;

	world_start(tokens, "--journal", world_journal(), "--journal-sync", "always", NULL);
	boss = stream_open("boss");
	publish_many(1, 2, 10);
	logged();
	world.sync_errno = EIO;
	cr_expect_not(is_stored(publish_to(3, 10, "\"all\"")));
	cr_expect_not(is_stored(publish_to(4, 10, "\"all\"")));
	cr_expect_str_eq(acks_in(django_says("{\"op\":\"ping\"}")), "yes ");
	cr_expect_str_eq(heard(boss), "1 2 3 4 ");
	world_pass(5000);
	cr_expect_not(is_stored(publish_to(5, 10, "\"all\"")));
	cr_expect_eq(times(logged(), "msg=journal_failed what=\"cannot sync\" error=\"Input/output error\""), 1);
	cr_expect_eq(world.server->count.not_stored, 3);
	disk_heals();
	publish(6);
	cr_expect_eq(times(logged(), "msg=journal_mended"), 1);
	cr_expect_eq(files_open(), 2);
	world_restart(false);
	cr_expect_str_eq(resumed(ids[1]), replay(2, 6));
	cr_expect_str_eq(resumed(ids[4]), replay(5, 6));
	cr_expect_null(strstr(files(), "000000000009.sse"), "%s", files());
	world_stop();
}

/* After a sync that failed the kernel calls the pages clean, and the disk may not have them. */
Test(journal, after_a_sync_that_failed_events_are_written_to_another_segment)
{
	for (int always = 0; always < 2; always++) {
		world_start(tokens, "--journal", world_journal(), "--journal-sync", always ? "always" : "batch", NULL);
		publish_many(1, 2, 10);
		world_pass(2000);
		world.sync_errno = EIO;
		publish_to(3, 10, "\"all\"");
		while (world.server->count.journal_errors == 0)
			world_pass(50);
		world.sync_errno = 0;
		world_pass(3000);
		cr_expect(strncmp(events_in(segment_name(1)), "1 2 ", 4) == 0);
		cr_expect_str_eq(events_in(segment_name(2)), "3 ", "%s", files());
		publish(4);
		cr_expect_str_eq(events_in(segment_name(2)), "3 4 ");
		world_pass(2000);
		world_restart(false);
		cr_expect_str_eq(resumed(ids[1]), "c 2 3 4 ");

		unlink(file_path(segment_name(2))); /* and the other way round */
		world_restart(false);
		cr_expect_str_eq(resumed(ids[2]), "c 3 ");
		world_stop();
	}
}

/* Everything was written again, and so stands in two segments. */
Test(journal, S18_an_event_in_two_segments_is_replayed_once)
{
	struct buf b;

	world_start(tokens, "--journal", world_journal(), NULL);
	publish_many(1, 5, 10);
	b = file_bytes(segment_name(1));
	file_put(segment_name(2), buf_view(&b));
	world_restart(false);
	cr_expect_str_eq(resumed(ids[1]), "c 2 3 4 5 ");
	publish(6);
	world_restart(true);
	cr_expect_str_eq(resumed(ids[1]), "c 2 3 4 5 6 ");
	buf_free(&b);
	world_stop();
}

Test(journal, a_segment_grows_while_the_syncer_is_at_it_and_then_the_next_begins)
{
	world_start(tokens, "--journal", world_journal(), "--queue", "4", "--datagram", "8K", "--history-bytes", "1M",
		NULL);
	world_pass(2000);
	world.sync_held = true;
	publish(1);
	world_pass(1100);
	cr_assert(sync_is_at(segment_name(1)));
	publish_many(2, 40, 4000);
	cr_expect_str_eq(files(), "000000000001.sse ");
	sync_ends();
	publish_many(41, 42, 10);
	cr_expect_str_eq(files(), "000000000001.sse 000000000002.sse ");
	cr_expect_eq(files_open(), 3, "the first waits for the syncer");
	world_pass(1100);
	cr_assert(sync_is_at(segment_name(1)), "the first comes first");
	cr_expect_eq(world.sync.directory, -1);
	publish_many(43, 80, 4000);
	sync_ends();
	cr_expect_eq(files_open(), 2 + 1, "the first is closed, the third is there");
	for (int i = 2; i <= 3; i++) {
		world_pass(1100);
		cr_assert(sync_is_at(segment_name(i)), "segment %d: %s", i, files());
		if (i == 3)
			cr_expect_eq(world.sync.directory, world.server->journal.directory, "nobody saw to the directory");
		sync_ends();
	}
	world_pass(3000);
	cr_expect_not(world.sync_asked);
	cr_expect_eq(files_open(), 2);
	world_restart(false);
	cr_expect_str_eq(resumed(ids[1]), replay(2, 80));
	world_stop();
}

Test(journal, with_sync_always_segments_follow_each_other)
{
	world_start(tokens, "--journal", world_journal(), "--journal-sync", "always", "--queue", "4", "--datagram", "8K",
		"--history-bytes", "1M", NULL);
	publish_many(1, 100, 4000);
	cr_expect_str_eq(files(), "000000000001.sse 000000000002.sse 000000000003.sse 000000000004.sse "
		"000000000005.sse 000000000006.sse 000000000007.sse ");
	cr_expect_eq(files_open(), 2);
	machine_restarts();
	world_restart(false);
	cr_expect_str_eq(resumed(ids[1]), replay(2, 100));
	world_stop();
}

Test(journal, a_sync_of_the_segment_before_says_nothing_of_the_last)
{
	world_start(tokens, "--journal", world_journal(), SMALL, NULL);
	world_pass(2000);
	world.sync_held = true;
	publish_many(1, 18, 4000);
	cr_assert_str_eq(events_in(segment_name(2)), "17 18 ");
	world_pass(50);
	cr_assert(sync_is_at(segment_name(1)));
	sync_ends();
	world_pass(1100);
	cr_assert(sync_is_at(segment_name(2)));
	world.sync_errno = EIO;
	sync_ends();
	world.sync_errno = 0;
	world_pass(1100);
	cr_expect_str_eq(events_in(segment_name(3)), "17 18 ");
	world.sync_held = false;
	world_restart(false);
	cr_expect_str_eq(resumed(ids[16]), "c 17 18 ");
	world_stop();
}

/* Revocations wait behind the acks, so these do not wait for ever. */
Test(journal, with_sync_always_a_disk_that_takes_long_holds_nothing_up_for_more_than_a_second)
{
	char first[40];
	int boss;

	world_start(tokens, "--journal", world_journal(), "--journal-sync", "always", NULL);
	strcpy(first, connected_id());
	boss = stream_open("boss");
	world.sync_held = true;
	cr_expect_str_eq(django_says(event_text(1, 1, "\"all\"")), "");
	answers();
	django_queues("{\"op\":\"revoke\",\"user\":1}");
	world_pass(900);
	cr_expect_str_eq(answers(), "");
	world_pass(200);
	cr_expect_str_eq(answers(), "no yes ");
	cr_expect_not_null(strstr(client_hears(boss), "auth.revoked"));
	cr_expect_str_eq(acks_in(django_says(event_text(2, 1, "\"all\""))), "no ", "the next ones wait no longer");
	cr_expect_eq(times(logged(), "msg=journal_slow "), 1);
	world.sync_held = false;
	world_pass(1100);
	cr_expect_str_eq(acks_in(django_says(event_text(3, 1, "\"all\""))), "yes ");
	world_restart(false);
	cr_expect_str_eq(resumed(first), "c 1 2 3 ");
	world_stop();
}

/* The ring is overwritten faster than the syncer is asked. */
Test(journal, a_segment_may_be_removed_before_the_syncer_saw_to_it)
{
	world_start(tokens, "--journal", world_journal(), SMALL, NULL);
	publish(1);
	world_pass(1100);
	publish_many(2, 20, 4000);
	publish_many(21, 60, 4000);
	world_pass(100);
	cr_expect_null(strstr(files(), "000000000001.sse"), "%s", files());
	publish(61);
	world_pass(3000);
	cr_expect_eq(files_open(), 2);
	world_restart(false);
	expect_history(61);
	world_stop();
}

Test(journal, a_segment_may_be_removed_before_the_syncer_saw_to_it_while_the_disk_is_full)
{
	world_start(tokens, "--journal", world_journal(), SMALL, NULL);
	publish(1);
	world_pass(1100);
	publish_many(2, 33, 4000);
	disk_fails(ENOSPC);
	publish_to(34, 10, "\"all\"");
	world_pass(100);
	cr_expect_null(strstr(files(), "000000000001.sse"), "%s", files());
	disk_heals();
	publish(35);
	cr_expect_eq(files_open(), 2);
	world_restart(false);
	expect_history(35);
	world_stop();
}

Test(journal, a_segment_the_syncer_is_at_may_be_removed_too)
{
	world_start(tokens, "--journal", world_journal(), SMALL, NULL);
	world_pass(2000);
	publish_many(1, 20, 4000);
	world.sync_held = true;
	publish_many(21, 22, 4000);
	world_pass(1100);
	cr_assert(world.sync_asked);
	publish_many(23, 60, 4000);
	world_pass(1100);
	cr_expect_geq(fcntl(world.sync.file, F_GETFD), 0, "closed under the syncer");
	sync_ends();
	publish(61);
	world.sync_held = false;
	world_pass(3000);
	cr_expect_eq(files_open(), 2);
	world_restart(false);
	expect_history(61);
	world_stop();
}

/* What was not written in time is overwritten, while the syncer still has the file. */
Test(journal, a_file_is_not_closed_under_the_syncer)
{
	ino_t before;
	struct stat st;

	world_start(tokens, "--journal", world_journal(), SMALL, NULL);
	world_pass(2000);
	world.sync_held = true;
	publish(1);
	world_pass(1100);
	cr_assert(sync_is_at(segment_name(1)));
	cr_assert_eq(fstat(world.sync.file, &st), 0);
	before = st.st_ino;
	disk_fails(ENOSPC);
	for (int i = 2; i <= 60; i++)
		publish_to(i, 4000, "\"all\"");
	disk_heals();
	cr_assert_eq(fstat(world.sync.file, &st), 0, "closed under the syncer");
	cr_expect_eq(st.st_ino, before);
	world.sync_held = false;
	world_pass(3000);
	publish(61);
	world_restart(false);
	cr_expect_str_eq(resumed(ids[1]), "c resync(too_old) ");
	expect_history(61);
	world_stop();
}

/* The syncer is told to end, and its last answer is not waited for. */
Test(journal, an_end_in_order_does_not_wait_for_what_can_no_longer_be_written)
{
	world_start(tokens, "--journal", world_journal(), SMALL, NULL);
	world_pass(2000);
	world.sync_held = true;
	publish(1);
	world_pass(1100);
	cr_assert(sync_is_at(segment_name(1)));
	disk_fails(ENOSPC);
	for (int i = 2; i <= 60; i++)
		publish_to(i, 4000, "\"all\"");
	world_settle();
	world.disk_errno = 0;
	world_restart(true);
	world.sync_held = false;
	cr_expect_str_eq(resumed(ids[1]), "c resync(too_old) ");
	expect_history(60);
	world_stop();
}

/* ---- the end ---- */

Test(journal, a_drain_sends_the_acks_that_wait)
{
	int boss;

	world_start(tokens, "--journal", world_journal(), "--journal-sync", "always", NULL);
	boss = stream_open("boss");
	world.sync_held = true;
	django_says(event_text(1, 1, "\"all\""));
	answers();
	django_queues(event_text(2, 1, "\"all\"")); /* accepted by the kernel: it counts too */
	world_raises(SIGTERM);
	cr_expect_eq(world.acks_sent, 0);
	world_pass(500);
	cr_expect_not(world.server->stop);
	world.sync_held = false;
	world_settle();
	cr_expect_eq(world.acks_sent, 2);
	cr_expect_str_eq(answers(), "yes yes ");
	cr_expect_not_null(strstr(client_hears(boss), "retry: "));
	client_ends(boss);
	world_pass(100);
	cr_expect(world.server->stop);
	strcpy(ids[0], "1704110400000-0");
	world_restart(true);
	cr_expect_str_eq(resumed(ids[0]), "c 1 2 ");
	world_stop();
}

Test(journal, a_drain_while_the_disk_is_full_tells_so)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	publish(1);
	disk_fails(ENOSPC);
	answers();
	django_queues(event_text(2, 1, "\"all\""));
	world_raises(SIGTERM);
	cr_expect_str_eq(answers(), "no ");
	world.disk_errno = 0; /* just in time */
	world_restart(true);
	cr_expect_str_eq(resumed(ids[1]), "c 2 ");
	cr_expect_str_eq(events_in(segment_name(1)), "1 2 ");
	world_stop();
}

Test(journal, an_end_in_order_with_a_full_disk_is_no_end_in_order)
{
	world_start(tokens, "--journal", world_journal(), NULL);
	publish(1);
	disk_fails(ENOSPC);
	publish_to(2, 1, "\"all\"");
	world_restart(true);
	world.disk_errno = 0;
	cr_expect_str_eq(events_in(segment_name(1)), "1 ");
	machine_restarts();
	world_restart(false);
	cr_expect_str_eq(resumed(ids[1]), "c resync(too_old) ");
	world_stop();
}

static void disk_is_well_in_another_boot(void)
{
	world.disk_errno = 0;
	machine_restarts();
}

/* There is room for the mark, but not for the event. */
Test(journal, an_end_in_order_without_all_events_is_no_end_in_order)
{
	world_start(tokens, "--journal", world_journal(), "--journal-sync", "none", NULL);
	publish_many(1, 2, 10);
	world.disk_whole = world.disk_creates = true;
	world.disk_errno = ENOSPC;
	world.disk_room = sizeof(struct journal_record);
	cr_assert(!is_stored(publish_to(3, 10, "\"all\"")));
	world.between = disk_is_well_in_another_boot;
	world_restart(true);
	cr_expect_str_eq(resumed(ids[2]), "c resync(too_old) ");
	world_stop();
}

Test(journal, a_disk_that_is_well_just_before_the_end_has_all)
{
	static const char *const syncs[] = {"none", "batch", "always"};
	char *text = malloc(200000);
	int n = snprintf(text, 200000, "{\"event\":\"e\",\"data\":[1,\"%0190000d\"],\"to\":\"all\"}", 0);

	for (size_t i = 0; i < COUNT_OF(syncs); i++) {
		world_start(tokens, "--journal", world_journal(), "--journal-sync", syncs[i], NULL);
		publish(1);
		disk_fails(ENOSPC);
		publish_to(2, 1, "\"all\"");
		for (int k = 0; k < 50; k++) /* more than is written at a time */
			django_queues_bytes(text, (size_t)n, true);
		world_settle();
		publish_to(3, 1, "\"all\"");
		publish_to(4, 1, "\"all\"");
		world.disk_errno = 0;
		world.between = machine_restarts;
		world_restart(true);
		cr_expect_str_eq(resumed(ids[3]), "c 4 ", "%s", syncs[i]);
		cr_expect_eq(world.server->ring.next, 54, "%s", syncs[i]);
		world_stop();
	}
	free(text);
}
