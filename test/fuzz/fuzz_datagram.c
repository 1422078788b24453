/*
 * fuzz_datagram.c - the input is a datagram: lines of JSON, or not. It comes from a sender that is bound, and is then
 * given to datagram_line line by line; each time its streams must hear what their users may, and nobody else.
 */
#include "worlds.h"

enum { STREAMS = 4, DATAGRAM = 4096 };

static const char *const tokens = "t1 1 manager\nt2 2 foreman\nt3 ann manager,foreman\nt4 999\n";
static int streams[STREAMS];

static void streams_begin(void)
{
	static const char *const names[STREAMS] = {"t1", "t2", "t3", "t4"};

	for (int i = 0; i < STREAMS; i++)
		streams[i] = stream_open(names[i]);
}

static void start(void)
{
	world_start(tokens, "--log-level", "error", "--queue", "4", "--history-bytes", "65536", "--datagram", "4096", NULL);
	streams_begin();
}

/* Those that were revoked come back. Of the others everything is heard. */
static void streams_again(void)
{
	bool revoked = false;

	for (int i = 0; i < STREAMS; i++)
		revoked |= !world.fds[streams[i]].open || client_conn(streams[i])->state != CONN_STREAM;
	for (int i = 0; revoked && i < STREAMS; i++)
		if (world.fds[streams[i]].open)
			client_resets(streams[i]);
	if (revoked)
		streams_begin();
	for (int i = 0; i < STREAMS; i++)
		world.fds[streams[i]].out.len = world.fds[streams[i]].heard = 0;
}

/* What every stream was sent since the last call: at most one frame. Returns how many heard it; *frame is it. */
static uint32_t streams_hear(char **frame)
{
	uint32_t heard = 0;

	*frame = NULL;
	for (int i = 0; i < STREAMS; i++) {
		const char *text = client_hears_frames(streams[i]);

		world.fds[streams[i]].out.len = world.fds[streams[i]].heard = 0; /* the text stays until more is written */
		if (text[0] == '\0')
			continue;
		heard++;
		if (*frame == NULL)
			*frame = strdup(text);
		check(strcmp(text, *frame) == 0, "two streams, two frames: %s and %s", text, *frame);
	}
	return heard;
}

static uint32_t ack_number(struct span ack, const char *name)
{
	const char *found = memmem(ack.p, ack.n, name, strlen(name));

	check(found != NULL, "no %s in %.*s", name, (int)ack.n, ack.p);
	return (uint32_t)strtoul(found + strlen(name), NULL, 10);
}

static bool begins(struct span text, const char *with)
{
	return text.n >= strlen(with) && memcmp(text.p, with, strlen(with)) == 0;
}

/* It was taken: is the event it became well-formed, and its own? */
static void check_event(struct span line, struct span ack, struct event_id before)
{
	struct server *s = world.server;
	const struct event *e = ring_event(&s->ring, s->ring.next - 1);
	struct span frame = ring_bytes(&s->ring, e, false), data, who = ring_who(&s->ring, e);
	struct who_walk walk = {who, 0, {NULL, 0}};
	struct event_id id;
	char *heard, shown[64];
	size_t names = 0;

	check(is_event_frame(frame, &id, &data), "not a frame: %.*s", (int)frame.n, frame.p);
	check(begins(data, "{\"event\":\"") && is_compact(data), "not what a page reads: %.*s", (int)data.n, data.p);
	check(sse_id_order(before, id) < 0 && sse_id_order(id, s->ring.newest) == 0 && sse_id_order(id, e->id) == 0,
		"another id");
	snprintf(shown, sizeof shown, "{\"ok\":true,\"id\":\"%lld-%u\",", (long long)id.ms, id.n);
	check(begins(ack, shown), "%.*s, not %s", (int)ack.n, ack.p, shown);
	while (who_next(&walk)) {
		check(walk.mark == WHO_ALL || (walk.name.n > 0 && walk.name.n <= MAX_NAME && is_utf8(walk.name)),
			"an audience that is none");
		names++;
	}
	check(names > 0 && walk.rest.n == 0, "an audience of nobody");
	check(is_json(line, MAX_DEPTH + 1), "not JSON, and taken: %.*s", (int)line.n, line.p);
	world_settle();
	check(streams_hear(&heard) == ack_number(ack, "\"matched\":"), "not heard by as many as matched");
	check(heard == NULL || span_same(span_of(heard), frame), "heard %s", heard);
	free(heard);
}

/* The same once more is for the same, and says the same: nothing of a line is left for the next. */
static void check_again(struct span line)
{
	struct server *s = world.server;
	const struct event *e = ring_event(&s->ring, s->ring.next - 1);
	struct span who = exact(ring_who(&s->ring, e)), frame = exact(ring_bytes(&s->ring, e, false)), second;
	struct buf ack = buf_growable();
	size_t id = strcspn(frame.p, "\n");

	datagram_line(s, line, &ack);
	e = ring_event(&s->ring, s->ring.next - 1);
	second = ring_bytes(&s->ring, e, false);
	check(begins(buf_view(&ack), "{\"ok\":true"), "refused the second time");
	check(span_same(ring_who(&s->ring, e), who), "for others, the second time");
	check(second.n >= frame.n - id && memcmp(second.p + second.n - (frame.n - id), frame.p + id, frame.n - id) == 0,
		"another event, the second time");
	world_settle();
	for (int i = 0; i < STREAMS; i++)
		world.fds[streams[i]].out.len = world.fds[streams[i]].heard = 0;
	buf_free(&ack);
	exact_free(who);
	exact_free(frame);
}

static void check_line(struct span text)
{
	struct server *s = world.server;
	struct span line = exact(text), ack;
	struct event_id newest = s->ring.newest;
	uint32_t next = s->ring.next, open = s->streams.count;
	struct counters count = s->count;
	struct buf out = buf_growable();

	datagram_line(s, line, &out);
	ack = buf_view(&out);
	check(is_compact(ack) && is_utf8(ack) && memchr(ack.p, '\n', ack.n) == NULL, "not an answer: %.*s", (int)ack.n, ack.p);
	if (begins(ack, "{\"ok\":false,\"error\":\"")) {
		check(ack_number(ack, "\"at\":") <= line.n, "a mistake outside of the line");
		check(s->count.bad_lines == count.bad_lines + 1, "not counted");
		count.bad_lines++;
		check(next == s->ring.next && sse_id_order(newest, s->ring.newest) == 0 && open == s->streams.count,
			"refused, and it changed something");
		count.lines++;
		check(memcmp(&count, &s->count, sizeof count) == 0 && s->dirty.count == 0, "refused, and something happened");
	} else if (s->ring.next != next) {
		check(s->ring.next == next + 1 && s->count.events == count.events + 1, "more than one event");
		check_event(line, ack, newest);
		check_again(line);
	} else {
		uint32_t matched = ack_number(ack, "\"matched\":");

		check(begins(ack, "{\"ok\":true,\"id\":\"") && is_json(line, MAX_DEPTH + 1), "not an answer: %.*s", (int)ack.n,
			ack.p);
		check(sse_id_order(newest, s->ring.newest) == 0 && s->count.events == count.events, "an operation that is an event");
		world_settle();
		check(matched == (s->count.revocations > count.revocations ? open - s->streams.count : open), "%u matched", matched);
	}
	buf_free(&out);
	exact_free(line);
}

static bool is_blank(struct span line)
{
	for (size_t i = 0; i < line.n; i++)
		if (line.p[i] != ' ' && line.p[i] != '\t' && line.p[i] != '\r')
			return false;
	return true;
}

/* All of it in one datagram: an answer to each line, and no more events than those say. */
static void check_datagram(struct span text)
{
	struct server *s = world.server;
	struct span rest = text, acks;
	uint32_t lines = 0, answers = 0, events = 0, next = s->ring.next;

	while (rest.n > 0)
		lines += !is_blank(take_line(&rest, '\n'));
	buf_clear(&world.acks);
	django_queues_bytes(text.n > 0 ? text.p : "", text.n, true);
	world_settle();
	acks = buf_view(&world.acks);
	while (acks.n > 0) {
		struct span ack = take_line(&acks, '\n');

		check(is_compact(ack), "not an answer: %.*s", (int)ack.n, ack.p);
		events += begins(ack, "{\"ok\":true");
		answers++;
	}
	check(answers == (lines > 0 ? lines : 1), "%u answers to %u lines", answers, lines);
	check(s->ring.next - next <= events, "%u events of %u answers", s->ring.next - next, events);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span input = {(const char *)bytes, n < DATAGRAM ? n : DATAGRAM}, rest = input;

	lasting_begin(start);
	for (int i = 0; rest.n > 0 && i < 8; i++) {
		check_line(take_line(&rest, '\n'));
		streams_again();
	}
	check_datagram(input);
	streams_again();
	lasting_end();
	return 0;
}
