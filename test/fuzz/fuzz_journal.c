/*
 * fuzz_journal.c - the first byte says what the rest is: a segment of a journal as it lies on the disk; or how
 * segments are made, of good records, damage, and ends. A server is started on what came out of that, and must go
 * on with ids that rise, over restarts too, or refuse with a line that says why.
 */
#include "worlds.h"

#include <unistd.h>

enum { SEGMENTS = 4, BASE_EVENTS = 8 };
#define WALL_MS INT64_C(1704110400000) /* of the world at its start */

static struct {
	struct buf segments[SEGMENTS];
	int count;
	struct event_id ids[BASE_EVENTS]; /* of some good records */
	uint32_t id_count;
	int64_t last_ms;
	bool frames_good; /* what a stream is sent is made of frames */
} made;

/* ---- a segment is read ---- */

static void check_segment(struct span bytes)
{
	struct span segment = exact(bytes);
	struct journal_head head;
	struct journal_event e;
	size_t at = 0, skipped = SIZE_MAX, before = 0, all = 0;

	if (journal_head_read(segment, &head) != JOURNAL_DAMAGED)
		check(segment.n >= sizeof head && memcmp(segment.p, &head, sizeof head) == 0, "a good head that is not there");
	while (journal_next(segment, &at, &skipped, &e)) {
		struct journal_record record = journal_record(e.id, e.who, e.frame);
		size_t parts = sizeof record + e.who.n + e.frame.n;

		check(at > before && at <= segment.n && skipped == at - before - parts, "a record at no place");
		check(is_within(e.who, segment) && is_within(e.frame, segment), "parts that are not of the segment");
		check(memcmp(segment.p + before + skipped, &record, sizeof record) == 0, "a record that does not verify");
		before = at;
		all += parts;
		check(all <= segment.n, "more records than bytes");
	}
	check(at == before, "moved on, and found nothing");
	if (at < segment.n) {
		struct span rest = exact((struct span){segment.p + at, segment.n - at});

		journal_torn(rest);
		exact_free(rest);
	}
	exact_free(segment);
}

/* ---- segments are made ---- */

static struct event_id id_take(struct span *rest)
{
	static const int64_t odd_ms[] = {0, -1, 1, INT64_C(1) << 53, (INT64_C(1) << 53) + 1, INT64_MAX, INT64_MIN,
		WALL_MS + INT64_C(100000000000)};
	uint32_t kind = take_upto(rest, 255);

	if (kind < 8)
		return (struct event_id){odd_ms[kind], take_upto(rest, UINT32_MAX)};
	if (kind < 16)
		made.last_ms = WALL_MS - 100000 + (int64_t)take_upto(rest, 200000);
	else if (made.last_ms < WALL_MS - 100000 || made.last_ms > WALL_MS + 100000)
		made.last_ms = WALL_MS - 50000;
	made.last_ms += kind % 4;
	return (struct event_id){made.last_ms, kind % 4 == 0 ? take_upto(rest, 255) : 0};
}

static void bytes_take(struct span *rest, struct buf *b, uint32_t most)
{
	size_t n = take_upto(rest, most);

	n = n < rest->n ? n : rest->n;
	buf_bytes(b, rest->p, n);
	*rest = (struct span){rest->p + n, rest->n - n};
}

static void record_add(struct buf *segment, struct event_id id, struct span who, struct span frame)
{
	struct journal_record record = journal_record(id, who, frame);

	buf_bytes(segment, &record, sizeof record);
	buf_span(segment, who);
	buf_span(segment, frame);
}

static void good_record(struct span *rest, struct buf *segment)
{
	static const char *const audiences[] = {"\xf8", "\xf9\x01" "1", "\xfa\x07manager", "\xf9\x01" "2\xfb\x01" "1",
		"\xf9\x03" "ann"};
	struct event_id id = id_take(rest);
	uint32_t kind = take_upto(rest, COUNT_OF(audiences));
	struct buf who = buf_growable(), frame = buf_growable();

	if (kind < COUNT_OF(audiences))
		buf_text(&who, audiences[kind]);
	else
		bytes_take(rest, &who, 80);
	if (take_upto(rest, 7) > 0) {
		sse_frame(&frame, &(struct sse_event){id, span_of("e"), span_of("[0]"), 1});
	} else {
		bytes_take(rest, &frame, 120);
		made.frames_good = false;
	}
	record_add(segment, id, buf_view(&who), buf_view(&frame));
	made.ids[made.id_count++ % BASE_EVENTS] = id;
	buf_free(&who);
	buf_free(&frame);
}

static struct buf *segment_begin(struct span *rest)
{
	static const uint64_t boots[] = {0, 1, 7};
	struct buf *segment = &made.segments[made.count++];
	struct event_id after = id_take(rest);
	struct journal_head head = journal_head(after, boots[take_upto(rest, 2)]);
	uint32_t kind = take_upto(rest, 31);

	*segment = buf_growable();
	if (kind == 1) {
		char bytes[sizeof head];

		memcpy(bytes, &head, sizeof head);
		bytes[take_upto(rest, sizeof head - 1)] ^= (char)(1 << take_upto(rest, 7));
		buf_bytes(segment, bytes, sizeof bytes);
	} else if (kind > 2) {
		buf_bytes(segment, &head, sizeof head);
	}
	return segment;
}

static void segments_make(struct span *rest)
{
	struct buf *segment;

	made.count = 0;
	made.id_count = 0;
	made.last_ms = 0;
	made.frames_good = true;
	segment = segment_begin(rest);
	for (int i = 0; i < 200 && rest->n > 0; i++) {
		uint32_t kind = take_upto(rest, 15);

		if (kind == 1 && made.count < SEGMENTS)
			segment = segment_begin(rest);
		else if (kind == 2)
			bytes_take(rest, segment, 100);
		else if (kind == 3 && segment->len > 0)
			segment->data[segment->len - 1 - take_upto(rest, (uint32_t)segment->len - 1)] ^= (char)(1 << take_upto(rest, 7));
		else if (kind == 4)
			segment->len -= take_upto(rest, (uint32_t)(segment->len < 60 ? segment->len : 60));
		else if (kind == 5)
			record_add(segment, id_take(rest), (struct span){NULL, 0}, (struct span){NULL, 0}); /* the program ended */
		else
			good_record(rest, segment);
	}
}

static void segments_write(bool complete)
{
	char dir[96], path[160];

	snprintf(dir, sizeof dir, "%s", world_journal());
	for (int i = 0; i < made.count; i++) {
		FILE *f;

		snprintf(path, sizeof path, "%s/%012d.sse", dir, i + 1);
		f = fopen(path, "w");
		check(f != NULL && fwrite(made.segments[i].len > 0 ? made.segments[i].data : "", 1, made.segments[i].len, f)
			== made.segments[i].len && fclose(f) == 0, "cannot write %s", path);
	}
	snprintf(path, sizeof path, "%s/.complete", dir);
	if (complete)
		fclose(fopen(path, "w"));
}

/* ---- a server begins with them ---- */

/* One of a newer version makes it refuse. */
static bool is_newer(void)
{
	struct journal_head head;

	for (int i = 0; i < made.count; i++) {
		struct span segment = exact(buf_view(&made.segments[i]));
		bool newer = journal_head_read(segment, &head) == JOURNAL_NEWER;

		exact_free(segment);
		if (newer)
			return true;
	}
	return false;
}

static void check_ring(void)
{
	const struct ring *r = &world.server->ring;

	for (uint32_t i = r->oldest; i != r->next; i++) {
		const struct event *e = ring_event(r, i);

		check(e != NULL && (i == r->oldest || sse_id_order(ring_event(r, i - 1)->id, e->id) < 0), "ids that do not rise");
		check(sse_id_order(e->id, r->newest) <= 0, "an event newer than the newest");
		ring_who(r, e);
	}
}

/* A new event's id is behind all there were, and one that a page can say again. */
static void check_publish(void)
{
	struct event_id newest = world.server->ring.newest, again;
	const char *ack = django_says("{\"event\":\"e\",\"data\":[1],\"to\":\"all\"}"),
		*id = ack + strlen("{\"ok\":true,\"id\":\"");

	check(strncmp(ack, "{\"ok\":true,\"id\":\"", 17) == 0, "%s", ack);
	check(sse_id_read((struct span){id, strcspn(id, "\"")}, &again), "an id that nobody can say again: %s", ack);
	check(sse_id_order(newest, again) < 0, "not behind the newest, %lld-%u: %s", (long long)newest.ms, newest.n, ack);
}

/* A page comes back: it gets frames, with ids that rise from its own, or is told to reload. */
static void check_page(struct event_id said)
{
	struct buf request = buf_growable();
	int fd = client_open();
	const char *text;
	struct event_id last = said, id;
	struct span rest, data;

	buf_text(&request, "GET /api/v1/sse/events/?token=t1 HTTP/1.1\r\nHost: a\r\nLast-Event-ID: ");
	sse_id(&request, said);
	buf_text(&request, "\r\n\r\n");
	client_says_bytes(fd, request.data, request.len);
	check(client_conn(fd)->state == CONN_STREAM, "not let in");
	/* There may be NULs in what is no frame. */
	text = made.frames_good ? client_hears_frames(fd) : "retry: 1\n\ndata: \"connected\"\n\n";
	check(strncmp(text, "retry: ", 7) == 0 && strstr(text, "\"connected\"") != NULL, "no greeting: %s", text);
	text = strstr(strstr(text, "\"connected\""), "\n\n") + 2;
	if (made.frames_good)
		for (rest = span_of(text); rest.n > 0;) {
			const char *end = memmem(rest.p, rest.n, "\n\n", 2);
			struct span frame = {rest.p, end == NULL ? rest.n : (size_t)(end + 2 - rest.p)};

			rest = (struct span){rest.p + frame.n, rest.n - frame.n};
			check(end != NULL && is_event_frame(frame, &id, &data), "not a frame: %.*s", (int)frame.n, frame.p);
			if (memmem(data.p, data.n, "system.resync", 13) == NULL)
				check(sse_id_order(last, id) < 0, "ids that do not rise: %.*s", (int)frame.n, frame.p);
			last = id;
		}
	client_resets(fd);
	world_settle();
	buf_free(&request);
}

static void check_server(const char *sync)
{
	struct event_id newest;

	world_start("t1 1 manager\n", "--log-level", "error", "--history-bytes", "65536", "--datagram", "256", "--queue",
		"2", "--journal",
		world_journal(), "--journal-sync", sync, NULL);
	check_ring();
	for (uint32_t i = 0; i < made.id_count && i < BASE_EVENTS; i++)
		check_page(made.ids[i]);
	check_publish();
	for (int i = 0; i < 2; i++) {
		newest = world.server->ring.newest;
		world_restart(i == 0);
		check_ring();
		check(sse_id_order(newest, world.server->ring.newest) <= 0, "the newest id went back");
		check_publish();
	}
	world_stop();
}

/* The real system: nothing is open but the directory. */
static void check_refusal(void)
{
	static struct server server;
	char program[] = "sse", flag[] = "--token-file", file[96], other[] = "--journal", dir[96], *env[] = {NULL};
	char *argv[] = {program, flag, file, other, dir, NULL};
	struct buf error = buf_growable();
	struct options o;

	snprintf(dir, sizeof dir, "%s", world_journal());
	snprintf(file, sizeof file, "%s", world_file("tokens", "t1 1\n"));
	check(options_read(&o, 5, argv, env, &error) && server_init(&server, &o, &sys_linux, 16, &error), "%.*s",
		(int)error.len, error.data);
	check(!journal_open(&server, &error), "started on a newer journal");
	check(is_one_line(&error), "refused without a word");
	server_free(&server);
	buf_free(&error);
	/* The directory goes with a world that has none of it. */
	for (int i = 0; i < made.count; i++) {
		snprintf(file, sizeof file, "%s/%012d.sse", world_journal(), i + 1);
		unlink(file);
	}
	world_start("t1 1\n", NULL);
	world_stop();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static const char *const syncs[] = {"none", "batch", "always"};
	struct span rest = {(const char *)bytes, n};
	uint32_t kind = take_upto(&rest, 255);

	if (kind % 4 == 0) {
		check_segment(rest);
		made.count = 1;
		made.id_count = 0;
		made.frames_good = false;
		made.segments[0] = buf_growable();
		buf_span(&made.segments[0], rest);
	} else {
		segments_make(&rest);
		for (int i = 0; i < made.count; i++)
			check_segment(buf_view(&made.segments[i]));
	}
	if (kind % 4 != 0 || kind / 4 % 8 == 0) {
		world_clear();
		segments_write((kind & 64) != 0);
		if (is_newer())
			check_refusal();
		else
			check_server(syncs[kind / 4 % 3]);
	}
	for (int i = 0; i < made.count; i++)
		buf_free(&made.segments[i]);
	return 0;
}
