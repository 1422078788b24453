/*
 * model.c - see model.h. The model is a list of all events ever published, and of each page what it knows. It shares no
 * code with sse.c.
 */
#include "model.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT_OF(array) (sizeof (array) / sizeof (array)[0])

enum {
	USERS = 5,      /* the last one is never here */
	ROLES = 5,      /* nobody has the last one */
	TOKENS = 9,
	PAGES = 14,
	STRANGERS = 4,
	STORIES = 30    /* of the last steps, told after a failure */
};

/* ---- the model ---- */

static const char *const user_names[USERS] = {"1", "22", "ann", "a-user-whose-id-takes-more-than-24-bytes", "999"};
static const char *const role_names[ROLES] = {"manager", "foreman", "driver", "\xd1\x81\xd0\xba\xd0\xbb\xd0\xb0\xd0\xb4", "nobody"};
static const char *const event_names[] = {"e", "estimate.created",
	"a.name.of.64.bytes----------------------------------------------"};

/* One that was published, or at least put in the socket; its index is the first element of its data. */
struct event_told {
	struct event_id id;    /* .ms is 0 until an ack or a page says it */
	uint8_t users, roles, except; /* one bit each */
	bool all;
	bool safe;             /* kill -9 must not lose it */
	bool told;             /* somebody knows of it: a sender by an ack, or a page */
	bool gone;             /* a kill may have lost it; so it was, unless a page gets it after all */
	uint32_t filler;       /* bytes of its data */
	int64_t timestamp;     /* -1: none given */
	int64_t wall_ms;       /* when it was put in the socket ... */
	uint64_t step;
	uint64_t before;       /* room in the ring that all events before it take at the most */
	uint32_t least, most;  /* streams it was for, from then until now */
};

/* What a page's last id says that it has seen. Not every event's id is known to the model. */
struct position {
	struct event_id id;
	uint32_t next; /* the events before this one were before the id ... */
	uint32_t sure; /* ... and those from this one on are behind it */
	uint32_t epoch;
};

struct roles_since {
	uint64_t step;
	uint8_t roles;
};

static struct token {
	uint8_t user, roles;
	bool listed; /* stands in the token file */
	struct roles_since *changes;
	uint32_t change_count;
} model_tokens[TOKENS];

enum stage { AT_HEAD, AT_SIZE, AT_BODY, AT_CHUNK_END, AT_LAST, AT_END, AT_BARE };

#define BIT(reason) (1u << RESUME_##reason)

/* A browser tab. */
struct page {
	struct token *token;
	struct position at; /* its last id, as a browser keeps it; .id.ms is 0 if it has none */
	uint32_t told;      /* the events before this one are accounted for in its life: seen, or not its, or resynced */

	int fd;             /* -1: not connected; what follows belongs to a connection */
	uint8_t user;       /* of its token, when it connected, ... */
	uint64_t step;      /* ... at this step ... */
	uint32_t began_at;  /* ... when the server certainly had so many events ... */
	struct event_id newest; /* ... and this was the newest id known */
	bool asked;         /* said an id */
	bool must_replay, must_resync, denied;
	unsigned reasons;   /* for a resync in the greeting: BIT of each that is right */
	struct position from; /* what this connection goes on from */
	uint32_t checked;   /* so does `told`, in this connection */
	struct event_id last; /* on this connection */
	int greeting;       /* frames of it that came */
	bool await_resync, revoked, sent_off, vanished;
	enum stage stage;
	size_t left;        /* of a chunk */
	struct buf text;    /* of a head, of a chunk's size, of a frame: the part that came */
	bool begun;         /* a frame has begun to arrive ... */
	uint8_t roles;      /* ... when its token had these roles */
	bool was_full;      /* the kernel's buffer was full since it had everything */
	int room_sends;     /* sendmsg calls when it got room */
	int64_t heard_ms;
};

/* An answer that a bound sender must get. */
struct answer_due {
	enum answer_of { OF_EVENT, OF_OPERATION, OF_MISTAKE } of;
	uint32_t number; /* of the event; or the streams that an operation is about ... */
	uint32_t fewer;  /* ... of which so many were closed before the answer came */
};

/* What is certainly on the disk of a file. */
struct disk_file {
	ino_t inode;
	off_t bytes;
	bool listed; /* and so is its name in the directory */
};

static struct {
	const struct setup *setup;
	uint64_t step;
	char stories[STORIES][160];
	struct buf story; /* of this step */
	struct event_told *events;
	uint32_t count, cap;
	uint32_t taken;   /* the events before this one were taken from the socket */
	uint32_t lost;    /* those before this one went with the memory of a server without a journal */
	uint32_t epoch, epoch_from; /* how often everybody had to be told to resync, and what was there the last time */
	uint32_t cut;     /* the same, or those which a disk at fault may have lost: nobody knows */
	uint32_t unsafe;  /* those before this one are safe, or it is known what became of them */
	struct answer_due *due;
	uint32_t due_first, due_count, due_cap;
	struct page pages[PAGES];
	int strangers[STRANGERS]; /* descriptors, -1: not connected */
	int64_t id_most_ms;   /* of the ids that somebody knows */
	int64_t wall_most_ms; /* that there ever was ... */
	int64_t wall_least_ms; /* ... and that may be again, so that no id is given twice: see server_gone */
	bool sick;            /* the disk is at fault, or was so lately that the journal may not have recovered */
	bool dead;            /* nothing at all can be stored ... */
	uint64_t dead_step, well_step; /* ... since; and since when it isn't sick any more */
	int64_t mended_ms;    /* when the disk was mended */
	uint64_t held_step;   /* fdatasync took its time until then ... */
	uint64_t held_before; /* ... from the time when there was so much in the history */
	bool unsynced;        /* fdatasync failed, since the journal was begun, or a write for another reason than want of room */
	uint32_t synced;      /* --journal-sync always: the disk has the events before this one */
	bool frail;           /* a kill left events in the journal that were never synced: a failure of power may take them yet */
	struct disk_file disk[64], asked; /* those known; what fdatasync is at */
	uint32_t disk_count;
	int syncs;            /* when the turn began ... */
	bool was_asked;       /* ... and one was asked for already */
	bool draining;
	bool largest;         /* events are as large as they may be */
} m;

/* ---- chance, and what is told after a failure ---- */

static bool chance(uint32_t percent)
{
	return upto(99) < percent;
}

/* Bytes of any kind, few of them. */
static void bytes_any(struct buf *b, uint32_t most)
{
	for (uint32_t n = upto(most); n > 0; n--)
		buf_byte(b, (char)upto(255));
}

__attribute__((format(printf, 1, 2))) static void story(const char *format, ...)
{
	char text[160];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	buf_text(&m.story, text);
}

static void story_begin(const char *name)
{
	m.story = buf_fixed(m.stories[m.step % STORIES], sizeof m.stories[0] - 1);
	memset(m.story.data, 0, sizeof m.stories[0]);
	story("%llu %s", (unsigned long long)m.step, name);
}

void model_tell(void)
{
	const struct setup *s = m.setup;

	model_chance_tell();
	fprintf(stderr, "step %llu, --queue %d --history-bytes %d --history-age %lldms --datagram %d --journal-sync %s\n",
		(unsigned long long)m.step, s->queue, s->history_bytes, (long long)s->age_ms, s->datagram,
		s->sync != NULL ? s->sync : "(no journal)");
	for (uint64_t i = m.step < STORIES ? 0 : m.step - STORIES + 1; i <= m.step; i++)
		fprintf(stderr, "  %s\n", m.stories[i % STORIES]);
}

__attribute__((format(printf, 2, 3))) static _Noreturn void fails(int line, const char *format, ...)
{
	char text[512];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof text, format, list);
	va_end(list);
	model_tell();
	cr_assert(false, "line %d: %s", line, text);
	abort();
}
#define check(good, ...) do { if (!(good)) fails(__LINE__, __VA_ARGS__); } while (0)

static int page_number(const struct page *p)
{
	return (int)(p - m.pages);
}

/* ---- ids, and who may see what ---- */

static int id_order(struct event_id a, struct event_id b)
{
	if (a.ms != b.ms)
		return a.ms < b.ms ? -1 : 1;
	return a.n < b.n ? -1 : a.n > b.n;
}

static bool id_known(uint32_t i)
{
	return m.events[i].id.ms != 0;
}

/* The newest id that the server must know. */
static struct event_id id_newest(void)
{
	uint32_t i = m.count;

	while (i > m.cut && (!id_known(i - 1) || m.events[i - 1].gone))
		i--;
	return i > m.cut ? m.events[i - 1].id : (struct event_id){0, 0};
}

/*
 * An ack or a page says an event's id: ids rise with the events, over every restart. Where events may have been lost
 * with their ids, they need not, but none is given twice.
 */
static void id_learned(uint32_t i, struct event_id id)
{
	struct event_told *e = &m.events[i];
	uint32_t before = i, behind = i + 1;

	if (id_known(i)) {
		check(id_order(e->id, id) == 0, "event %u has two ids: %lld-%u and %lld-%u", i, (long long)e->id.ms, e->id.n,
			(long long)id.ms, id.n);
		return;
	}
	for (; before > 0 && (!id_known(before - 1) || m.events[before - 1].gone); before--)
		check(!id_known(before - 1) || id_order(m.events[before - 1].id, id) != 0, "the id of event %u was that of %u, which is lost",
			i, before - 1);
	while (behind < m.count && (!id_known(behind) || m.events[behind].gone || i < m.cut))
		behind++;
	check(before <= m.cut || id_order(m.events[before - 1].id, id) < 0, "the id of event %u, %lld-%u, is not behind that of %u, %lld-%u",
		i, (long long)id.ms, id.n, before - 1, (long long)m.events[before - 1].id.ms, m.events[before - 1].id.n);
	check(behind == m.count || id_order(m.events[behind].id, id) > 0, "the id of event %u is not before that of %u", i, behind);
	e->id = id;
	if (id.ms > m.id_most_ms)
		m.id_most_ms = id.ms;
}

/* Where an id stands among the events of this server. */
static struct position position_of(struct event_id id)
{
	struct position at = {id, m.count, m.count, m.epoch};

	for (; at.next > m.cut; at.next--) {
		if (!id_known(at.next - 1))
			continue;
		if (id_order(m.events[at.next - 1].id, id) <= 0)
			break;
		at.sure = at.next - 1;
	}
	return at;
}

static bool sees(uint8_t user, uint8_t roles, const struct event_told *e)
{
	return (e->except >> user & 1) == 0 && (e->all || (e->users >> user & 1) != 0 || (e->roles & roles) != 0);
}

/* Was an event for this stream with every set of roles that it had since both were there (or, any: with one of them)? */
static bool saw(const struct page *p, const struct event_told *e, bool any)
{
	const struct token *t = p->token;
	uint64_t since = e->step > p->step ? e->step : p->step;

	for (uint32_t i = t->change_count; i-- > 0;) {
		if (sees(p->user, t->changes[i].roles, e) == any)
			return any;
		if (t->changes[i].step <= since)
			break;
	}
	return !any;
}

/* Does an event stand behind what this connection began with? If nobody knows, `unknown`. */
static bool is_behind(const struct page *p, uint32_t i, bool unknown)
{
	if (i >= p->from.sure)
		return true;
	return id_known(i) ? id_order(m.events[i].id, p->from.id) > 0 : unknown;
}

/* Must this connection have got the event before any later one? */
static bool is_due(const struct page *p, uint32_t i)
{
	const struct event_told *e = &m.events[i];

	return (!e->gone || e->told) && is_behind(p, i, false) && saw(p, e, false);
}

/*
 * Must the ring still have this event, and all that came after it? Its promise: --history-bytes, less a 64th, in which
 * nobody else's audience may stand, and what does not fit at its end; and no older than --history-age,
 * by the clock as it was at its latest.
 */
static bool is_retained(uint32_t i)
{
	const struct event_told *e = &m.events[i];
	uint64_t slack = (uint64_t)m.setup->history_bytes / 64 + (uint64_t)m.setup->datagram + 128;

	if (i >= m.count)
		return true;
	return m.events[m.count].before - e->before + slack <= (uint64_t)m.setup->history_bytes
		&& (id_known(i) ? e->id.ms : e->wall_ms) >= m.wall_most_ms - m.setup->age_ms;
}

/* The events before this one were taken from the socket. If the disk was well all the time, they are on it. */
static void events_taken(uint32_t end)
{
	for (; m.taken < end; m.taken++)
		m.events[m.taken].safe = m.setup->sync != NULL && !m.sick && m.events[m.taken].step >= m.well_step;
}

static bool is_stream(const struct page *p)
{
	return p->fd >= 0 && client_conn(p->fd)->state == CONN_STREAM;
}

static uint32_t streams_of(uint8_t user)
{
	uint32_t n = 0;

	for (int i = 0; i < PAGES; i++)
		n += is_stream(&m.pages[i]) && (user == USERS || m.pages[i].token->user == user);
	return n;
}

/* Notes for every event that waits for its answer how many streams it is for now. */
static void matches_noted(void)
{
	for (uint32_t k = m.due_first; k < m.due_count; k++) {
		struct event_told *e;
		uint32_t n = 0;

		if (m.due[k].of != OF_EVENT)
			continue;
		e = &m.events[m.due[k].number];
		for (int i = 0; i < PAGES; i++)
			n += is_stream(&m.pages[i]) && sees(m.pages[i].token->user, m.pages[i].token->roles, e);
		e->least = n < e->least ? n : e->least;
		e->most = n > e->most ? n : e->most;
	}
}

/* ---- what a page hears ---- */

/* Takes the text at *at if it stands there. */
static bool skips(const char **at, const char *text)
{
	size_t n = strlen(text);

	if (strncmp(*at, text, n) != 0)
		return false;
	*at += n;
	return true;
}

static bool skips_number(const char **at, int64_t *n)
{
	const char *from = *at;

	for (*n = 0; **at >= '0' && **at <= '9' && *at - from < 18; ++*at)
		*n = *n * 10 + (**at - '0');
	return *at > from && (*from != '0' || *at == from + 1);
}

static bool skips_id(const char **at, struct event_id *id)
{
	int64_t n;

	if (!skips_number(at, &id->ms) || !skips(at, "-") || !skips_number(at, &n))
		return false;
	id->n = (uint32_t)n;
	return n <= UINT32_MAX;
}

/* The page's last id is this one now. */
static void page_has(struct page *p, struct position at)
{
	p->at = at;
	p->last = at.id;
}

/* The page has seen everything up to this position, or was told that it has not. */
static void page_begins(struct page *p, struct position from)
{
	p->from = from;
	p->checked = p->told = from.next;
}

/*
 * `connected` bears the newest id; in a replay that which the page gave; and none (NULL) if a resync follows: a page
 * that is cut off between the two must not come back as one that has seen all.
 */
static void page_connected(struct page *p, const struct event_id *id)
{
	check(p->greeting == 1, "`connected` stands where it must not");
	if (id == NULL) {
		check(p->asked && !p->must_replay, "page %d said %lld-%u, and is not replayed", page_number(p),
			(long long)p->from.id.ms, p->from.id.n);
		p->await_resync = true;
		return;
	}
	if (p->asked)
		check(!p->must_resync && id_order(*id, p->from.id) == 0, "`connected` has the id %lld-%u, the page said %lld-%u",
			(long long)id->ms, id->n, (long long)p->from.id.ms, p->from.id.n);
	else
		check(id_order(*id, p->newest) >= 0, "`connected` has an id that is not the newest");
	page_begins(p, p->asked ? p->from : position_of(*id));
	page_has(p, p->from);
}

static enum resume reason_read(const char **at)
{
	static const char *const reasons[RESUME_COUNT] = {[RESUME_too_old] = "too_old", [RESUME_unknown] = "unknown",
		[RESUME_newer] = "newer"};

	for (int i = 0; i < RESUME_COUNT; i++)
		if (reasons[i] != NULL && skips(at, reasons[i]))
			return (enum resume)i;
	return RESUME_replay;
}

/* In the greeting it is right if the id deserved it; later, if the stream was overtaken by what it was to be caught up with. */
static void page_resynced(struct page *p, struct event_id id, enum resume reason)
{
	check(p->greeting >= 2, "a resync stands where it must not");
	check(p->await_resync ? (p->reasons >> reason & 1) != 0 : reason == RESUME_too_old && !is_retained(p->checked),
		"a resync (%d) that is not right: the page had seen all before event %u of %u, and said %lld-%u", reason, p->checked,
		m.count, (long long)p->from.id.ms, p->from.id.n);
	check(id_order(id, p->last) >= 0, "the id of a resync is older than what was seen");
	p->await_resync = false;
	page_begins(p, position_of(id));
	page_has(p, p->from);
}

/* Is this what was published as event i? at is behind "data: ". */
static bool is_text_of(uint32_t i, const char *at)
{
	const struct event_told *e = &m.events[i];
	char text[160];
	int64_t timestamp;

	snprintf(text, sizeof text, "{\"event\":\"%s\",\"data\":[%u,\"", event_names[i % COUNT_OF(event_names)], i);
	if (!skips(&at, text))
		return false;
	for (uint32_t k = 0; k < e->filler; k++)
		if (*at++ != (char)('a' + i % 26))
			return false;
	return skips(&at, "\"],\"timestamp\":") && skips_number(&at, &timestamp) && skips(&at, "}\n\n") && *at == '\0'
		&& (e->timestamp < 0 || e->timestamp == timestamp);
}

static void page_event(struct page *p, struct event_id id, const char *data)
{
	const char *number = strstr(data, "\",\"data\":[");
	uint32_t i = number == NULL ? m.count : (uint32_t)strtoul(number + 10, NULL, 10);

	check(i < m.count && is_text_of(i, data), "never published: %.200s", data);
	story(" p%d<%u", page_number(p), i);
	check(p->greeting >= 2 && !p->await_resync && !p->revoked && !p->sent_off, "event %u stands where it must not", i);
	check(sees(p->user, p->roles, &m.events[i]), "page %d gets event %u, which it must not see", page_number(p), i);
	check(i >= m.lost, "event %u came back from the dead", i);
	check(id_order(id, p->last) > 0 && i >= p->checked, "page %d gets event %u late or a second time", page_number(p), i);
	id_learned(i, id);
	for (; p->checked < i; p->checked++)
		check(!is_due(p, p->checked), "page %d gets event %u, and never got %u", page_number(p), i, p->checked);
	p->checked = p->told = i + 1;
	page_has(p, (struct position){id, i + 1, i + 1, m.epoch});
	events_taken(i + 1);
	m.events[i].told = true;
	if (m.events[i].gone) { /* the kill left it in the journal */
		m.events[i].gone = false;
		m.events[i].safe = true;
	}
}

/* A frame is whole; text ends with its empty line. */
static void page_frame(struct page *p, const char *text)
{
	struct event_id id;
	int64_t n;

	if (skips(&text, "retry: ")) {
		check(skips_number(&text, &n) && n >= 3000 && n <= 4000 && strcmp(text, "\n\n") == 0, "not a retry line: %s", text);
		check(p->greeting == 0 || (m.draining && !p->sent_off), "a retry line stands where it must not");
		p->sent_off = p->greeting > 0;
	} else if (skips(&text, "id: ")) {
		check(skips_id(&text, &id) && skips(&text, "\ndata: "), "not a frame: %.200s", text);
		if (strcmp(text, "{\"event\":\"connected\",\"message\":\"SSE connection established\"}\n\n") == 0) {
			page_connected(p, &id);
		} else if (skips(&text, "{\"event\":\"system.resync\",\"data\":{\"reason\":\"")) {
			enum resume reason = reason_read(&text);

			check(reason != RESUME_replay && skips(&text, "\"},\"timestamp\":") && skips_number(&text, &n)
				&& strcmp(text, "}\n\n") == 0, "not a resync: %s", text);
			story(" p%d<resync(%d)", page_number(p), reason);
			page_resynced(p, id, reason);
		} else {
			page_event(p, id, text);
		}
	} else if (strcmp(text, "data: {\"event\":\"connected\",\"message\":\"SSE connection established\"}\n\n") == 0) {
		page_connected(p, NULL);
	} else if (strcmp(text, "data: {\"event\":\"auth.revoked\"}\n\n") == 0) {
		check(p->greeting > 0 && !p->revoked && !p->sent_off, "auth.revoked stands where it must not");
		p->revoked = true;
	} else {
		check(skips(&text, "data: {\"event\":\"keepalive\",\"timestamp\":") && skips_number(&text, &n)
			&& strcmp(text, "}\n\n") == 0 && p->greeting >= 2 && !p->await_resync && !p->revoked && !p->sent_off,
			"not a frame: %.200s", text);
	}
	p->greeting++;
}

/* Bytes of the stream, the chunks taken away. */
static void page_takes(struct page *p, const char *bytes, size_t n)
{
	size_t looked = p->text.len > 0 ? p->text.len - 1 : 0, from = 0;
	char *end;

	buf_bytes(&p->text, bytes, n);
	buf_byte(&p->text, '\0');
	p->text.len--;
	while ((end = memmem(p->text.data + looked, p->text.len - looked, "\n\n", 2)) != NULL) {
		char next = end[2];

		end[2] = '\0';
		page_frame(p, p->text.data + from);
		end[2] = next;
		looked = from = (size_t)(end + 2 - p->text.data);
		p->begun = from < p->text.len;
		p->roles = p->token->roles;
	}
	memmove(p->text.data, p->text.data + from, p->text.len - from);
	p->text.len -= from;
}

static void page_head(struct page *p, const char *head)
{
	const char *length = p->denied ? "HTTP/1.1 401 " : "HTTP/1.1 200 ";

	check(strncmp(head, length, strlen(length)) == 0, "page %d is answered %.40s", page_number(p), head);
	if (p->denied) {
		p->stage = AT_BARE;
		return;
	}
	check(strstr(head, "\r\nContent-Type: text/event-stream\r\n") != NULL, "not a stream: %s", head);
	check((strstr(head, "\r\nTransfer-Encoding: chunked\r\n") != NULL) == (p->stage == AT_HEAD && p->left == 1),
		"chunked, or not, as it must not be: %s", head);
	p->stage = p->left == 1 ? AT_SIZE : AT_BARE;
}

/* One byte of what is not a chunk's body. */
static void page_byte(struct page *p, char c)
{
	struct buf *b = &p->text;

	buf_byte(b, c);
	buf_byte(b, '\0');
	b->len--;
	if (p->stage == AT_HEAD && b->len >= 4 && memcmp(b->data + b->len - 4, "\r\n\r\n", 4) == 0) {
		page_head(p, b->data);
		buf_clear(b);
	} else if (p->stage == AT_SIZE && c == '\n') {
		char again[24];

		p->left = strtoul(b->data, NULL, 16);
		snprintf(again, sizeof again, "%zx\r\n", p->left);
		check(strcmp(b->data, again) == 0, "not a chunk's size: %s", b->data);
		p->stage = p->left > 0 ? AT_BODY : AT_LAST;
		buf_clear(b);
	} else if (p->stage == AT_CHUNK_END || p->stage == AT_LAST) {
		check(c == "\r\n"[b->len - 1], "a chunk does not end in CR LF");
		if (b->len == 2) {
			p->stage = p->stage == AT_LAST ? AT_END : AT_SIZE;
			buf_clear(b);
		}
	}
	check(p->stage != AT_SIZE || b->len < 10, "not a chunk's size: %s", b->data);
	check(p->stage != AT_END || b->len == 0, "bytes behind the last chunk");
}

/* All that the kernel took for it. A frame counts as written when its first byte was. */
static void page_hears(struct page *p)
{
	struct fake_fd *f = &world.fds[p->fd];

	if (f->out.len > 0)
		p->heard_ms = world.now_ms;
	for (size_t at = 0; at < f->out.len;) {
		size_t n = f->out.len - at;

		if (!p->begun && p->stage != AT_CHUNK_END) {
			p->begun = true;
			p->roles = p->token->roles;
		}
		if (p->denied && p->stage == AT_BARE) {
			at = f->out.len;
		} else if (p->stage == AT_BODY) {
			n = n < p->left ? n : p->left;
			page_takes(p, f->out.data + at, n);
			at += n;
			p->left -= n;
			if (p->left == 0) {
				check(p->text.len == 0, "a chunk ends within a frame");
				p->stage = AT_CHUNK_END;
			}
		} else if (p->stage == AT_BARE) {
			page_takes(p, f->out.data + at, n);
			at += n;
		} else {
			page_byte(p, f->out.data[at++]);
		}
	}
	f->out.len = f->heard = 0;
	p->was_full |= f->full;
}

/* ---- how connections end ---- */

static void page_left(struct page *p)
{
	p->fd = -1;
	buf_clear(&p->text);
}

/* The page closes, in one of the ways there are. */
static void page_closes(struct page *p, bool reset)
{
	struct fake_fd *f = &world.fds[p->fd];

	page_hears(p);
	if (reset)
		f->fails = ECONNRESET;
	else
		f->eof = true;
	conn_event(world.server, client_conn(p->fd), reset ? EPOLLIN | EPOLLERR | EPOLLHUP : EPOLLIN | EPOLLRDHUP);
	page_left(p);
}

/*
 * The server reset it. It may do so to a page that took nothing for the time of --write-stall; to one for which more
 * than a queue of events waits, and had no room for any since the last attempt; and to one that did not take an event
 * until it was overwritten. Who is still behind (what is missing was published before it came) waits for no queue.
 */
static void page_was_reset(struct page *p)
{
	const struct fake_fd *f = &world.fds[p->fd];
	bool unfinished = p->stage == AT_CHUNK_END; /* the end of the last frame is not out yet */
	uint32_t waiting = unfinished, first = unfinished && p->checked > 0 ? p->checked - 1 : m.count;
	bool behind = false, resumed = p->must_replay || (p->greeting >= 2 && !p->await_resync);

	for (uint32_t i = p->checked; i < m.count; i++)
		if (is_behind(p, i, true) && saw(p, &m.events[i], true)) {
			waiting++;
			first = first < i ? first : i;
			behind |= resumed && i < p->began_at && is_due(p, i);
		}
	story(" p%d<reset", page_number(p));
	check(world.now_ms - p->heard_ms >= world.server->opt.write_stall || (p->was_full && !is_retained(first))
		|| (f->full && f->sends > p->room_sends && !behind && (int)waiting > m.setup->queue),
		"page %d was closed, and is not slow: %u events wait (full %d, had room %d, behind %d)", page_number(p), waiting,
		f->full, f->sends <= p->room_sends, behind);
	for (uint32_t i = m.due_first; i < m.due_count; i++)
		m.due[i].fewer++;
	page_left(p);
}

/* The server closed it in order. */
static void page_was_ended(struct page *p)
{
	check(p->revoked || p->sent_off, "the stream of page %d ended without a reason", page_number(p));
	check(p->stage == AT_END || (p->stage == AT_BARE && p->text.len == 0), "the stream of page %d ended within a frame",
		page_number(p));
	story(" p%d<end", page_number(p));
	if (world.fds[p->fd].open)
		page_closes(p, false);
	else
		page_left(p);
}

static void pages_hear(void)
{
	for (struct page *p = m.pages; p < m.pages + PAGES; p++) {
		if (p->fd < 0)
			continue;
		page_hears(p);
		if (!world.fds[p->fd].open && p->vanished)
			page_left(p);
		else if (!world.fds[p->fd].open && world.fds[p->fd].reset)
			page_was_reset(p);
		else if (!world.fds[p->fd].open || world.fds[p->fd].shut)
			page_was_ended(p);
	}
}

/* ---- strangers: who say anything at all, and are told what is wrong with it ---- */

/* One that guesses a token is a page that the model knows nothing of: it leaves at once. */
static void stranger_leaves(int i, bool reset)
{
	struct fake_fd *f = &world.fds[m.strangers[i]];

	if (reset)
		f->fails = ECONNRESET;
	else
		f->eof = true;
	conn_event(world.server, client_conn(m.strangers[i]), reset ? EPOLLIN | EPOLLERR | EPOLLHUP : EPOLLIN | EPOLLRDHUP);
	m.strangers[i] = -1;
}

static void strangers_hear(void)
{
	for (int i = 0; i < STRANGERS; i++) {
		struct fake_fd *f = &world.fds[m.strangers[i] < 0 ? 0 : m.strangers[i]];

		if (m.strangers[i] < 0)
			continue;
		if (f->out.len > 0)
			check(f->out.len > 12 && memcmp(f->out.data, "HTTP/1.1 ", 9) == 0 && f->out.data[12] == ' ',
				"a stranger is answered %.*s", (int)(f->out.len < 40 ? f->out.len : 40), f->out.data);
		f->out.len = f->heard = 0;
		if (!f->open)
			m.strangers[i] = -1;
		else if (client_conn(m.strangers[i])->state == CONN_STREAM)
			stranger_leaves(i, true);
	}
}

/* ---- what senders hear ---- */

static void ack_event(uint32_t i, const char *at)
{
	struct event_told *e = &m.events[i];
	struct event_id id;
	int64_t matched;
	bool stored = true;

	check(skips(&at, "{\"ok\":true,\"id\":\"") && skips_id(&at, &id) && skips(&at, "\",\"matched\":") && skips_number(&at, &matched),
		"not the answer to event %u: %s", i, at);
	if (skips(&at, ",\"stored\":false"))
		stored = false;
	check(strcmp(at, "}") == 0, "not the answer to event %u: %s", i, at);
	check(matched >= e->least && matched <= e->most, "event %u matched %lld streams, not %u to %u", i, (long long)matched, e->least,
		e->most);
	check(stored || m.sick || world.sync_held || e->step <= m.held_step, "event %u is not stored, and the disk is well", i);
	check(!stored || !m.dead || e->step <= m.dead_step, "event %u is said to be stored: there is no disk", i);
	id_learned(i, id);
	events_taken(i + 1);
	e->safe |= stored && m.setup->sync != NULL;
	e->told = true;
	if (stored && i >= m.synced)
		m.synced = i + 1;
}

static void ack_other(struct answer_due due, const char *at)
{
	struct event_id id, newest = id_newest();
	int64_t n;

	if (due.of == OF_MISTAKE) {
		check(skips(&at, "{\"ok\":false,\"error\":\"") && strstr(at, "\",\"at\":") != NULL, "a mistake is answered %s", at);
		return;
	}
	check(skips(&at, "{\"ok\":true,\"id\":\"") && skips_id(&at, &id) && skips(&at, "\",\"matched\":") && skips_number(&at, &n)
		&& strcmp(at, "}") == 0, "not the answer to an operation: %s", at);
	check(id_order(id, newest) >= 0, "an operation is answered with an old id");
	check(n <= due.number && n + due.fewer >= due.number, "an operation is about %lld streams, not %u", (long long)n, due.number);
}

static void senders_hear(void)
{
	char *at = world.acks.data, *end;

	if (world.acks.len == 0)
		return;
	for (; (end = memchr(at, '\n', world.acks.len - (size_t)(at - world.acks.data))) != NULL; at = end + 1) {
		struct answer_due due;

		*end = '\0';
		check(m.due_first < m.due_count, "an answer to nothing: %s", at);
		due = m.due[m.due_first++];
		if (due.of == OF_EVENT)
			ack_event(due.number, at);
		else
			ack_other(due, at);
		if (end + 1 == world.acks.data + world.acks.len)
			break;
	}
	buf_clear(&world.acks);
}

/* ---- what the disk has been told to hold on to ---- */

static struct disk_file *disk_file(const struct stat *st)
{
	uint32_t i = 0;

	while (i < m.disk_count && m.disk[i].inode != st->st_ino)
		i++;
	if (i == m.disk_count) {
		if (m.disk_count == COUNT_OF(m.disk))
			memmove(m.disk, m.disk + 1, --m.disk_count * sizeof m.disk[0]);
		i = m.disk_count++;
		m.disk[i] = (struct disk_file){.inode = st->st_ino};
	}
	return &m.disk[i];
}

/* fdatasync has begun: what is written later is not in it. */
static void disk_asked(void)
{
	struct stat st;

	check(fstat(world.sync.file, &st) == 0, "the syncer has no file");
	m.asked = *disk_file(&st);
	m.asked.bytes = st.st_size;
	m.asked.listed |= world.sync.directory >= 0;
}

/* Looks what became of that in a turn. */
static void disk_synced(void)
{
	bool ended = world.syncs > m.syncs;

	for (uint32_t i = 0; i < m.disk_count; i++)
		if (ended && world.sync_errno == 0 && m.disk[i].inode == m.asked.inode)
			m.disk[i] = m.asked;
	if (world.sync_asked && (ended || !m.was_asked))
		disk_asked();
}

/* ---- turns of the loop ---- */

static void turn(void)
{
	if (world.datagram_first < world.datagram_count)
		world.server->intake.readable = true;
	/* A segment that the syncer is at does not grow for ever. */
	m.sick |= world.sync_held && m.count > 0 && m.events[m.count].before - m.held_before > 2 * 65536;
	m.syncs = world.syncs;
	m.was_asked = world.sync_asked;
	matches_noted();
	server_turn(world.server, 0);
	disk_synced();
	if (world.wall_ms > m.wall_most_ms)
		m.wall_most_ms = world.wall_ms;
	matches_noted();
	pages_hear();
	strangers_hear();
	senders_hear();
	buf_clear(&world.log);
	world.log_heard = 0;
}

static bool is_waiting_for_disk(void)
{
	return world.server->intake.waiting && world.sync_held;
}

static bool is_quiet(void)
{
	const struct server *s = world.server;

	if (s->dirty.count > 0 || s->catching.count > 0 || s->unread.count > 0 || world.signal_count > 0
		|| (world.sync_asked && !world.sync_held))
		return false;
	return is_waiting_for_disk() || (!s->intake.waiting && s->intake.next == s->intake.have
		&& (s->datagrams.fd < 0 || world.datagram_first == world.datagram_count));
}

/* What must be true when there is nothing left to do. */
static void settled_check(void)
{
	struct server *s = world.server;
	uint32_t free_blocks = 0, streams = 0;

	if (!is_waiting_for_disk()) {
		events_taken(m.count);
		check(m.due_first == m.due_count, "%u answers never came", m.due_count - m.due_first);
		m.due_first = m.due_count = 0;
		if (!m.sick && !world.sync_held)
			m.synced = m.count;
	}
	for (struct page *p = m.pages; p < m.pages + PAGES; p++) {
		if (!is_stream(p))
			continue;
		streams++;
		if (world.fds[p->fd].full)
			continue;
		check(p->greeting >= 2 && !p->await_resync, "page %d was not greeted, or not told to resync", page_number(p));
		for (; p->checked < m.taken; p->checked++)
			check(!is_due(p, p->checked), "page %d reads, and never gets event %u", page_number(p), p->checked);
		p->told = p->checked;
		p->was_full = false;
	}
	check(s->streams.count == streams, "the server has %u streams, not %u", s->streams.count, streams);
	if (streams > 0)
		return;
	for (uint32_t i = s->lists.free; i != 0; i = s->lists.numbers[(size_t)i * s->lists.width])
		free_blocks++;
	check(free_blocks == s->lists.top - 1, "%u blocks of %u are lost", s->lists.top - 1 - free_blocks, s->lists.top - 1);
	check(s->behind.count == 0 && s->catching.count == 0 && s->crowded.count == 0 && s->dirty.count == 0,
		"sets have members without streams");
}

static void settle(void)
{
	for (int i = 0; i < 20000; i++) {
		turn();
		if (is_quiet()) {
			settled_check();
			return;
		}
		if (world.server->dirty.count == 0 && world.server->unread.count == 0 && world.server->crowded.count > 0) {
			world.now_ms += 10; /* as epoll_wait would, while a blocked stream has its chance */
			world.wall_ms += 10;
		}
	}
	check(false, "the server never comes to rest");
}

static void time_passes(int64_t ms)
{
	world.now_ms += ms;
	world.wall_ms += ms;
	turn();
}

/* ---- steps: publishing ---- */

static void due_add(enum answer_of of, uint32_t number)
{
	if (m.due_count == m.due_cap) {
		m.due_cap = m.due_cap == 0 ? 1024 : 2 * m.due_cap;
		m.due = realloc(m.due, m.due_cap * sizeof *m.due);
	}
	m.due[m.due_count++] = (struct answer_due){of, number, 0};
}

/* One more event than m.count says, so that events[count].before is the room of all. */
static struct event_told *event_new(void)
{
	if (m.count + 2 > m.cap) {
		m.cap = m.cap == 0 ? 4096 : 2 * m.cap;
		m.events = realloc(m.events, m.cap * sizeof *m.events);
	}
	if (m.count == 0)
		m.events[0].before = 0;
	m.events[m.count] = (struct event_told){.before = m.events[m.count].before, .step = m.step, .wall_ms = world.wall_ms,
		.timestamp = chance(50) ? -1 : (int64_t)upto(2000000000), .least = UINT32_MAX};
	return &m.events[m.count++];
}

/* Writes some names as a JSON array; returns the bytes they take when they are packed, at the most. */
static uint32_t names_write(struct buf *b, const char *const *names, int count, uint8_t set)
{
	uint32_t room = 1;
	bool first = true;

	buf_byte(b, '[');
	for (int i = 0; i < count; i++)
		for (int twice = (set >> i & 1) == 0 ? 0 : chance(5) ? 2 : 1; twice > 0; twice--) {
			bool bare = names[i][0] >= '0' && names[i][0] <= '9' && chance(50);

			buf_text(b, first ? "" : ",");
			buf_text(b, bare ? "" : "\"");
			buf_text(b, names[i]);
			buf_text(b, bare ? "" : "\"");
			first = false;
			room += (uint32_t)strlen(names[i]) + 1;
		}
	buf_byte(b, ']');
	return room;
}

/* A random audience: "to":..., sometimes with "except". Returns its room. */
static uint32_t audience_write(struct buf *b, struct event_told *e)
{
	uint32_t room = 1, kind = upto(9);

	e->all = kind == 0;
	if (kind > 5 || kind == 1 || kind == 2)
		e->users = (uint8_t)(1u << upto(USERS - 1) | (chance(30) ? upto(31) : 0));
	if (kind > 2)
		e->roles = (uint8_t)(1u << upto(ROLES - 1) | (chance(30) ? upto(31) : 0));
	e->except = chance(15) ? (uint8_t)upto(31) : 0;
	buf_text(b, "\"to\":");
	if (e->all) {
		buf_text(b, "\"all\"");
	} else {
		buf_byte(b, '{');
		if (e->users != 0 || chance(20)) {
			buf_text(b, "\"users\":");
			room += names_write(b, user_names, USERS, e->users);
			buf_text(b, e->roles != 0 ? "," : "");
		}
		if (e->roles != 0) {
			buf_text(b, "\"roles\":");
			room += names_write(b, role_names, ROLES, e->roles);
		}
		buf_byte(b, '}');
	}
	if (e->except != 0 || chance(3)) {
		buf_text(b, ",\"except\":{\"users\":");
		room += names_write(b, user_names, USERS, e->except);
		buf_byte(b, '}');
	}
	return room;
}

static uint32_t filler_bytes(uint32_t most)
{
	uint32_t kind = m.largest ? 99 : upto(99), n = kind < 75 ? upto(60) : kind < 95 ? upto(600) : kind < 98 ? upto(most / 2) : most;

	return n < most ? n : most;
}

/* A line of JSON that publishes an event, at most so many bytes long. */
static void event_line(struct buf *b, uint32_t most)
{
	uint32_t i = m.count, room, from = (uint32_t)b->len;
	struct event_told *e = event_new();
	const char *name = event_names[i % COUNT_OF(event_names)];
	char text[160];

	buf_byte(b, '{');
	room = audience_write(b, e);
	snprintf(text, sizeof text, ",\"event\":\"%s\",\"data\":[%s%u,%s\"", name, chance(10) ? " " : "", i, chance(10) ? "\t" : "");
	buf_text(b, text);
	e->filler = filler_bytes(most - (uint32_t)b->len + from - 40);
	for (uint32_t k = 0; k < e->filler; k++)
		buf_byte(b, (char)('a' + i % 26));
	buf_text(b, "\"]");
	if (e->timestamp >= 0) {
		snprintf(text, sizeof text, ",\"timestamp\":%lld", (long long)e->timestamp);
		buf_text(b, text);
	}
	buf_byte(b, '}');
	/* With the size of a chunk (16), an id, digits of number and timestamp. */
	e[1].before = e->before + room + e->filler + strlen(name) + 16 + 26 + 20
		+ strlen("id: \ndata: {\"event\":\"\",\"data\":[,\"\"],\"timestamp\":}\n\n");
}

/* A line with a mistake: it changes nothing. */
static void mistake_line(struct buf *b)
{
	static const char *const lines[] = {"{", "hello", "{}", "{\"event\":\"e\",\"data\":[0,\"\"]}", "{\"event\":\"e\",\"to\":\"all\"}",
		"{\"event\":\"e\",\"data\":[0,\"\"],\"to\":{\"users\":[]}}", "{\"event\":\"e\",\"data\":[0,\"\"],\"to\":\"everybody\"}",
		"{\"event\":\"e\",\"data\":[0,\"\"],\"to\":\"all\",\"except\":{\"roles\":[\"manager\"]}}",
		"{\"event\":\"e\",\"data\":[0,\"\"],\"to\":\"all\"}}", "{\"event\":\"e\",\"data\":[0,\"\"],\"to\":\"all\",\"id\":1}",
		"{\"event\":\"e\",\"data\":[0,\"\xff\"],\"to\":\"all\"}", "{\"op\":\"revoke\"}", "{\"op\":\"refresh\",\"user\":1}",
		"{\"op\":\"revoke\",\"user\":1,\"to\":\"all\"}", "{\"event\":\"e\",\"data\":[0,\"\"],\"to\":{\"users\":[1],\"roles\":[2]}}"};

	uint32_t kind = upto(COUNT_OF(lines)), from = (uint32_t)b->len;

	if (kind < COUNT_OF(lines)) {
		buf_text(b, lines[kind]);
		return;
	}
	bytes_any(b, 80);
	for (uint32_t i = from; i < b->len; i++)
		if (b->data[i] == '\n')
			b->data[i] = ' ';
	buf_byte(b, 'x'); /* whatever it was, now it is none */
}

/* One datagram of so many lines. */
static void datagram_put(int lines, bool bound)
{
	static struct buf b = {.growable = true};
	uint32_t most = (uint32_t)m.setup->datagram, room = 512;

	buf_clear(&b);
	for (int i = 0; i < lines && (i == 0 || b.len + room < most); i++) {
		bool mistake = chance(5);

		if (i > 0)
			buf_byte(&b, '\n');
		if (bound)
			due_add(mistake ? OF_MISTAKE : OF_EVENT, m.count);
		if (mistake)
			mistake_line(&b);
		else
			event_line(&b, most - (uint32_t)b.len);
	}
	if (chance(2))
		buf_text(&b, "\n \n");
	check(b.len <= most + 3, "the test made a datagram that is too long");
	if (b.len > most)
		b.len = most;
	django_queues_bytes(b.data, b.len, bound);
}

static bool socket_has_room(int datagrams)
{
	return world.datagram_count + datagrams < (int)COUNT_OF(world.datagrams);
}

static void publish(void)
{
	int datagrams = chance(85) ? 1 : 1 + (int)upto(5);
	uint32_t from = m.count;

	if (!socket_has_room(datagrams))
		return;
	while (datagrams-- > 0)
		datagram_put(chance(80) ? 1 : 1 + (int)upto(8), chance(70));
	story(" %u..%u", from, m.count);
}

static void publish_burst(void)
{
	uint32_t from = m.count;

	if (!socket_has_room(40))
		return;
	m.largest = chance(20);
	for (int i = 0; i < 40; i++)
		datagram_put(1 + (int)upto(m.setup->queue < 50 ? 3 : 12), chance(70));
	m.largest = false;
	story(" %u..%u", from, m.count);
}

static void publish_too_long(void)
{
	static struct buf b = {.growable = true};

	if (!socket_has_room(1))
		return;
	buf_clear(&b);
	buf_text(&b, "{\"event\":\"e\",\"to\":\"all\",\"data\":[0,\"");
	while (b.len <= (size_t)m.setup->datagram)
		buf_byte(&b, 'x');
	buf_text(&b, "\"]}");
	due_add(OF_MISTAKE, 0);
	django_queues_bytes(b.data, b.len, true);
}

/* ---- steps: pages ---- */

static struct page *page_any(bool connected)
{
	uint32_t from = upto(PAGES - 1);

	for (uint32_t i = 0; i < PAGES; i++)
		if ((m.pages[(from + i) % PAGES].fd >= 0) == connected)
			return &m.pages[(from + i) % PAGES];
	return NULL;
}

/* What is right for a page that says this position, which it once had. */
static void expect_position(struct page *p, struct position at)
{
	bool gone = false;

	for (uint32_t i = at.next > 0 ? at.next - 1 : 0; i < at.sure && i < m.count; i++)
		gone |= m.events[i].gone;
	p->from = at;
	p->must_resync = at.epoch != m.epoch;
	p->must_replay = !p->must_resync && !gone && at.next > m.cut && is_retained(at.next);
	p->reasons = p->must_replay ? 0 : BIT(too_old);
	if (gone || (at.next <= m.cut && m.setup->sync != NULL))
		p->reasons |= BIT(unknown) | BIT(newer);
}

/* An id that was never given, or no id at all. Writes it; it must be answered with a resync. */
static void expect_lie(struct page *p, char *id, size_t size)
{
	static const char *const garbage[] = {"0", "abc", "1704110400000", "1704110400000-", "-1", "1-0-0", "01704110400000-0", "null",
		"1704110400000-00", "99999999999999999999-0"};
	struct event_id newest = id_newest();
	uint32_t i, kind = upto(3);

	p->must_resync = true;
	i = m.cut + (m.count > m.cut ? upto(m.count - m.cut - 1) : 0);
	if (m.count - m.cut > 200 && chance(70))
		i = m.count - 1 - upto(100);
	if (kind == 0 || (kind == 3 && (i == m.count || !id_known(i)))) {
		snprintf(id, size, "%s", garbage[upto(COUNT_OF(garbage) - 1)]);
		p->reasons = BIT(unknown);
	} else if (kind == 1) {
		snprintf(id, size, "%u-%u", upto(1000), upto(1000));
		p->reasons = BIT(too_old);
	} else if (kind == 2) {
		snprintf(id, size, "%lld-%u", (long long)m.wall_most_ms + INT64_C(100000000000) + upto(100000000), upto(9));
		p->reasons = BIT(newer);
	} else { /* in the same ms as an event, not the last one */
		snprintf(id, size, "%lld-%u", (long long)m.events[i].id.ms, 1000000 + upto(100));
		p->reasons = BIT(too_old) | BIT(unknown);
		if (m.events[i].id.ms >= newest.ms)
			p->reasons |= BIT(newer);
		else if (is_retained(i) && id_known(i) && !m.events[i].gone)
			p->reasons = BIT(unknown);
	}
}

/* Goes back to what an event's id says: a page that lost some of its past. */
static bool page_rewinds(struct page *p)
{
	uint32_t i = m.count, kind = upto(9);

	if (m.count == 0)
		return false;
	if (kind < 4) /* somewhere near the end of what the ring has */
		for (uint32_t step = m.count / 2 + 1; step > 0; step /= 2)
			i -= i >= step && is_retained(i - step) ? step : 0;
	if (kind < 4)
		i = i > 40 ? i - upto(40) : 0;
	else
		i = kind < 9 && m.count > 300 ? m.count - 1 - upto(299) : upto(m.count - 1);
	if (i >= m.count || !id_known(i))
		return false;
	p->at = (struct position){m.events[i].id, i + 1, i + 1, i < m.epoch_from ? m.epoch - 1 : m.epoch};
	p->told = i + 1;
	return true;
}

/* Decides what the page says of its past; writes the id, "" for none. */
static void page_decides(struct page *p, char *id, size_t size)
{
	uint32_t kind = upto(99);

	*id = '\0';
	p->asked = p->must_replay = p->must_resync = false;
	p->reasons = 0;
	p->from = position_of(p->newest);
	if (kind < 8)
		p->at.id.ms = 0;
	if (kind >= 8 && kind < 14) {
		expect_lie(p, id, size);
		p->asked = true;
	} else if ((kind >= 14 && kind < 22 && page_rewinds(p)) || p->at.id.ms != 0) {
		check(p->at.next <= p->told, "page %d says that it has seen all before event %u, and was never told of %u", page_number(p),
			p->at.next, p->told);
		snprintf(id, size, "%lld-%u", (long long)p->at.id.ms, p->at.id.n);
		expect_position(p, p->at);
		p->asked = true;
	}
	p->checked = p->from.next;
}

static void page_asks(struct page *p, const char *id, bool http10)
{
	uint32_t way = id[0] == '\0' ? 0 : 1 + upto(2), n;
	char request[512];

	n = (uint32_t)snprintf(request, sizeof request, "GET /api/v1/sse/events/?token=t%d%s%s HTTP/1.%d\r\nHost: a\r\n%s%s%s\r\n",
		(int)(p->token - model_tokens), way == 1 ? "&lastEventId=" : way == 3 ? "&lastEventId=0" : "", way == 1 ? id : "", !http10,
		way > 1 ? "Last-Event-ID: " : "", way > 1 ? id : "", way > 1 ? "\r\n" : "");
	buf_bytes(&world.fds[p->fd].in, request, n);
}

static void page_connects(struct page *p)
{
	uint32_t kind = upto(99);
	char id[48];
	struct token *token = &model_tokens[upto(TOKENS - 1)];

	p->newest = id_newest();
	page_decides(p, id, sizeof id);
	*p = (struct page){.token = token, .user = token->user, .at = p->at, .told = p->told, .fd = client_open(), .step = m.step,
		.began_at = m.taken, .newest = p->newest, .asked = p->asked, .must_replay = p->must_replay, .must_resync = p->must_resync,
		.reasons = p->reasons, .from = p->from, .checked = p->checked, .text = p->text, .room_sends = 0, .heard_ms = world.now_ms};
	p->denied = !p->token->listed;
	p->left = chance(70); /* chunked */
	world.fds[p->fd].room = kind < 65 || p->denied ? SIZE_MAX : kind < 90 ? upto(900) : 0;
	page_asks(p, id, p->left == 0);
	story(" p%d t%d%s %s", page_number(p), (int)(p->token - model_tokens), p->left == 0 ? " HTTP/1.0" : "", id);
	conn_event(world.server, client_conn(p->fd), EPOLLIN | EPOLLOUT);
	page_hears(p);
	if (p->denied) {
		check(p->stage == AT_BARE, "page %d is let in, and its token is not listed", page_number(p));
		page_closes(p, false);
	} else {
		check(is_stream(p), "page %d is not let in", page_number(p));
	}
}

static void connect_one(void)
{
	struct page *p = page_any(false);

	if (p != NULL)
		page_connects(p);
}

static void connect_all(void)
{
	for (struct page *p = m.pages; p < m.pages + PAGES; p++)
		if (p->fd < 0 && chance(80))
			page_connects(p);
}

static void close_one(void)
{
	struct page *p = page_any(true);

	if (p == NULL)
		return;
	story(" p%d", page_number(p));
	page_closes(p, chance(50));
}

static void close_all(void)
{
	for (struct page *p = m.pages; p < m.pages + PAGES; p++)
		if (p->fd >= 0)
			page_closes(p, chance(50));
	settle();
}

/* The kernel has room for so many bytes more. */
static void page_reads(struct page *p, size_t bytes)
{
	struct fake_fd *f = &world.fds[p->fd];

	f->room = bytes == SIZE_MAX || f->room == SIZE_MAX ? SIZE_MAX : f->room + bytes;
	if (bytes == 0)
		return;
	p->room_sends = f->sends;
	conn_event(world.server, client_conn(p->fd), EPOLLOUT);
}

static void read_some(void)
{
	struct page *p = page_any(true);
	uint32_t kind = upto(99);

	if (p == NULL)
		return;
	for (int i = 0; i < PAGES && world.fds[p->fd].room == SIZE_MAX; i++) /* rather one that needs it */
		p = page_any(true);
	page_reads(p, kind < 50 ? 1 + upto(60) : kind < 85 ? 1 + upto(2000) : SIZE_MAX);
	story(" p%d room %zu", page_number(p), world.fds[p->fd].room);
}

static void read_all(void)
{
	for (struct page *p = m.pages; p < m.pages + PAGES; p++)
		if (p->fd >= 0)
			page_reads(p, SIZE_MAX);
	settle();
}

/* A page stops reading: so much goes into the kernel's buffer yet. */
static void stop_reading(void)
{
	struct page *p = page_any(true);

	if (p == NULL)
		return;
	world.fds[p->fd].room = chance(30) ? 0 : upto(3000);
	story(" p%d room %zu", page_number(p), world.fds[p->fd].room);
}

/* A computer is switched off: nobody knows before something is written to it. */
static void vanish(void)
{
	struct page *p = page_any(true);

	if (p == NULL)
		return;
	p->vanished = true;
	world.fds[p->fd].fails = EPIPE;
}

static void kernel_lacks_memory(void)
{
	struct page *p = page_any(true);

	if (p != NULL && !p->vanished)
		world.fds[p->fd].fails = ENOBUFS;
}

/* ---- steps: strangers ---- */

static void stranger_says(void)
{
	static const char *const texts[] = {"GET ", "/api/v1/sse/events/", "?token=", " HTTP/1.1\r\n", "Host: a\r\n", "\r\n",
		"GET /api/v1/sse/stats/ HTTP/1.1\r\nHost: a\r\nAuthorization: Token ", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET /api/v1/sse/events/?token=x HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 1-1\r\n\r\n",
		"HEAD /api/v1/sse/events/?token=x HTTP/1.0\r\n\r\n", "Content-Length: 5\r\n\r\nhello", "X: y\r\n"};
	int i = (int)upto(STRANGERS - 1);
	uint32_t kind = upto(2 * COUNT_OF(texts));
	struct buf *in;

	if (m.strangers[i] < 0)
		m.strangers[i] = client_open();
	in = &world.fds[m.strangers[i]].in;
	story(" s%d", i);
	if (kind == 0) {
		stranger_leaves(i, chance(50));
		return;
	}
	if (kind <= COUNT_OF(texts))
		buf_text(in, texts[kind - 1]);
	else
		bytes_any(in, 60);
	conn_event(world.server, client_conn(m.strangers[i]), EPOLLIN);
	strangers_hear();
}

/* ---- steps: tokens ---- */

static void token_changed(struct token *t)
{
	t->changes = realloc(t->changes, (t->change_count + 1) * sizeof *t->changes);
	t->changes[t->change_count++] = (struct roles_since){m.step, t->roles};
}

static const char *tokens_text(void)
{
	static struct buf b = {.growable = true};

	buf_clear(&b);
	for (int i = 0; i < TOKENS; i++) {
		const struct token *t = &model_tokens[i];
		bool first = true;
		char name[16];

		if (!t->listed)
			continue;
		snprintf(name, sizeof name, "t%d ", i);
		buf_text(&b, name);
		buf_text(&b, user_names[t->user]);
		for (int k = 0; k < ROLES; k++)
			if ((t->roles >> k & 1) != 0) {
				buf_text(&b, first ? " " : ",");
				buf_text(&b, role_names[k]);
				first = false;
			}
		buf_byte(&b, '\n');
	}
	buf_byte(&b, '\0');
	return b.data;
}

/* The token file changes in one line. It counts from the turn on in which the signal comes. */
static void change_token(void)
{
	struct token *t = &model_tokens[upto(TOKENS - 1)];
	uint32_t kind = upto(9);

	for (int i = 0; i < 100 && world.sync_asked && !world.sync_held; i++)
		turn(); /* the world tells one thing a turn */
	if (kind == 0)
		t->user = (uint8_t)upto(USERS - 2);
	t->listed = kind != 1 && (kind < 3 || t->listed);
	if (kind > 1)
		t->roles = (uint8_t)upto(15);
	token_changed(t);
	story(" t%d user %d roles %x%s", (int)(t - model_tokens), t->user, t->roles, t->listed ? "" : " unlisted");
	world_tokens(tokens_text());
	world.signals[world.signal_count++] = SIGHUP;
	turn();
}

static void operate(bool revoke)
{
	uint8_t user = (uint8_t)upto(USERS - 1);
	char line[160];

	settle();
	if (is_waiting_for_disk())
		return;
	due_add(OF_OPERATION, streams_of(revoke ? user : USERS));
	snprintf(line, sizeof line, "{\"op\":\"%s\"%s%s%s}", revoke ? "revoke" : "ping", revoke ? ",\"user\":\"" : "",
		revoke ? user_names[user] : "", revoke ? "\"" : "");
	django_queues(line);
	story(" %s", line);
	settle();
}

static void revoke_user(void)
{
	operate(true);
}

static void ping(void)
{
	operate(false);
}

/* ---- steps: time, the disk, kills ---- */

static void pass_time(void)
{
	uint32_t kind = upto(99);
	int64_t ms = 1 + (kind < 60 ? upto(49) : kind < 92 ? upto(1999) : kind < 98 ? upto(40000) : upto(5 * 3600000));

	story(" %lld ms", (long long)ms);
	time_passes(ms);
}

static void set_clock(void)
{
	int64_t ms = (int64_t)upto(chance(90) ? 60000 : 3 * 3600000) - (chance(30) ? 0 : 3600000);

	world.wall_ms = world.wall_ms + ms > m.wall_least_ms ? world.wall_ms + ms : m.wall_least_ms;
	story(" by %lld ms", (long long)ms);
	turn();
}

/* The last segment's path; its number of bytes. All segments' bytes in *all. */
static size_t segment_last(char *path, size_t size, uint64_t *all)
{
	char dir[96], last[sizeof ((struct dirent *)0)->d_name] = "";
	DIR *d;
	struct dirent *entry;
	struct stat st;
	size_t bytes = 0;

	snprintf(dir, sizeof dir, "%s/journal", world.dir);
	d = opendir(dir);
	*all = 0;
	while (d != NULL && (entry = readdir(d)) != NULL) {
		if (entry->d_name[0] == '.' || fstatat(dirfd(d), entry->d_name, &st, 0) < 0)
			continue;
		*all += (uint64_t)st.st_size;
		if (strcmp(entry->d_name, last) > 0) {
			strcpy(last, entry->d_name);
			bytes = (size_t)st.st_size;
		}
	}
	if (d != NULL)
		closedir(d);
	snprintf(path, size, "%s/%s", dir, last);
	return bytes;
}

/*
 * What is left on disk is bounded by --history-bytes: records are larger than events in the ring, and the last segments are
 * not removed before the ring has nothing of them. What a sync failed of is written once more, which may be there
 * a few times when kills come between.
 */
static void journal_is_bounded(void)
{
	char path[512];
	uint64_t all, history = (uint64_t)m.setup->history_bytes;

	segment_last(path, sizeof path, &all);
	check(all <= (m.unsynced ? 6 * history + 8 * 65536 : 2 * history + 4 * 65536), "the journal takes %llu bytes",
		(unsigned long long)all);
}

static void disk_fails(void)
{
	bool dead;

	if (m.setup->sync == NULL)
		return;
	if (chance(70)) {
		world.disk_errno = chance(50) ? ENOSPC : EIO;
		world.disk_room = chance(60) ? 0 : upto(4000);
		world.disk_creates = chance(50);
	} else {
		world.sync_errno = EIO;
	}
	m.sick = true;
	m.unsynced |= world.sync_errno != 0 || world.disk_errno == EIO;
	dead = (world.disk_errno != 0 && world.disk_room == 0) || (world.sync_errno != 0 && strcmp(m.setup->sync, "always") == 0);
	if (dead && !m.dead)
		m.dead_step = m.step;
	m.dead = dead;
	story(" %s room %zu", world.sync_errno != 0 ? "sync" : "write", world.disk_room);
	for (int i = chance(20) ? 40 : 0; i > 0; i--) /* for a while */
		time_passes(1050);
	journal_is_bounded();
}

static void disk_is_mended(void)
{
	if (!m.sick)
		return;
	world.disk_errno = world.sync_errno = 0;
	world.disk_room = 0;
	m.dead = false;
	m.mended_ms = world.now_ms;
}

/* The journal tries again a second after a failure. When it had its chance, it has what the ring has. */
static void journal_recovers(void)
{
	if (!m.sick || world.disk_errno != 0 || world.sync_errno != 0 || world.sync_held || world.now_ms - m.mended_ms < 1100)
		return;
	settle();
	for (int i = 0; i < 4; i++)
		turn();
	settle();
	m.sick = false;
	m.well_step = m.step + 1;
	for (; m.unsafe < m.count; m.unsafe++)
		m.events[m.unsafe].safe |= is_retained(m.unsafe);
}

static void hold_sync(void)
{
	if (!world.sync_held && m.count > 0)
		m.held_before = m.events[m.count].before;
	world.sync_held = m.setup->sync != NULL && strcmp(m.setup->sync, "none") != 0;
}

static void release_sync(void)
{
	if (world.sync_held)
		m.held_step = m.step;
	if (world.sync_held && m.sick)
		m.mended_ms = world.now_ms;
	world.sync_held = false;
}

/* The server is gone. What was neither acknowledged nor seen may be gone too, and, without a journal, all. */
static void server_gone(bool power_failed)
{
	bool always = m.setup->sync != NULL && strcmp(m.setup->sync, "always") == 0;
	bool all_safe = m.setup->sync != NULL && !power_failed; /* pages may have seen what the disk had not: the clock must not go back then */

	for (struct page *p = m.pages; p < m.pages + PAGES; p++)
		if (p->fd >= 0)
			page_left(p);
	for (int i = 0; i < STRANGERS; i++)
		m.strangers[i] = -1;
	for (uint32_t i = power_failed && always ? m.synced : m.unsafe; i < m.count; i++)
		if (!m.events[i].safe || i >= m.taken || power_failed) {
			m.events[i].gone = true;
			m.events[i].told &= !power_failed; /* pages do not wait for the disk: see README.md */
			all_safe = false;
		}
	m.unsafe = m.taken = m.count;
	if (m.setup->sync == NULL)
		m.lost = m.count;
	if (m.sick || m.setup->sync == NULL || (power_failed && (!always || m.frail)))
		m.cut = m.count;
	m.frail = !power_failed && (m.frail || m.synced < m.count);
	m.synced = m.count;
	if (m.setup->sync == NULL || (power_failed && !always)) {
		m.epoch++;
		m.epoch_from = m.count;
	}
	m.due_first = m.due_count = 0;
	world.datagram_first = world.datagram_count = 0;
	/* The clock may have been set back: ids go on after the newest in the journal. Nobody can tell the ids of what was never
	 * stored, so the test does not go back before those. */
	if (!all_safe) {
		int64_t ahead_ms = m.id_most_ms - m.wall_most_ms; /* up to a minute, for a while, if it was restarted at once */

		m.wall_least_ms = world.wall_ms = m.wall_most_ms + (ahead_ms > 0 && ahead_ms < 62000 ? ahead_ms : 0) + 1 + upto(5000);
	}
	if (all_safe && chance(30))
		world.wall_ms -= upto(7200000);
	if (world.wall_ms < m.wall_least_ms)
		world.wall_ms = m.wall_least_ms;
	m.wall_most_ms = world.wall_ms > m.wall_most_ms ? world.wall_ms : m.wall_most_ms;
	world.now_ms += 1 + upto(5000);
}

/* ---- what a disk has when the power fails ---- */

/* At its start the server itself syncs what it reads, at its end the last file. */
static void disk_has_all(void)
{
	char path[96];
	struct dirent *entry;
	struct stat st;
	DIR *dir;

	if (m.setup->sync == NULL)
		return;
	snprintf(path, sizeof path, "%s/journal", world.dir);
	dir = opendir(path);
	check(dir != NULL, "the test can't read its directory");
	while ((entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.' && fstatat(dirfd(dir), entry->d_name, &st, 0) == 0)
			*disk_file(&st) = (struct disk_file){st.st_ino, st.st_size, true};
	closedir(dir);
}

/* Of a file only the bytes are left that were synced, and some behind them; and it is of another boot now. */
static void file_forgets(int dir, const char *name)
{
	int file = openat(dir, name, O_RDWR);
	struct journal_head head;
	struct disk_file *d;
	struct stat st;

	check(file >= 0 && fstat(file, &st) == 0, "the test can't open %s", name);
	d = disk_file(&st);
	if (!d->listed && chance(50))
		unlinkat(dir, name, 0);
	d->bytes += (off_t)upto((uint32_t)(st.st_size - d->bytes));
	d->listed = true;
	check(ftruncate(file, d->bytes) == 0, "the test can't cut %s", name);
	if (pread(file, &head, sizeof head, 0) == (ssize_t)sizeof head && head.boot != 0) {
		head = journal_head((struct event_id){head.after_ms, head.after_n}, 2); /* a real one is odd */
		check(pwrite(file, &head, sizeof head, 0) == (ssize_t)sizeof head, "the test can't write");
	}
	close(file);
}

static void disk_forgets(void)
{
	char path[96];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof path, "%s/journal", world.dir);
	dir = opendir(path);
	check(dir != NULL, "the test can't read its directory");
	while ((entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			file_forgets(dirfd(dir), entry->d_name);
	closedir(dir);
}

/* ---- a kill within a turn: at one of the calls that others can tell the server by ---- */

static jmp_buf killed;
static const struct sys *calls; /* as the world has them */
static uint32_t calls_left;     /* until the kill */

static void call_counts(void)
{
	if (--calls_left == 0)
		longjmp(killed, 1);
}

/* The kill comes before the call, or behind it. */
static ssize_t killing_sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t n;

	call_counts();
	n = calls->sendmsg(fd, message, flags);
	call_counts();
	return n;
}

static ssize_t killing_sendto(int fd, const void *bytes, size_t n, int flags, const struct sockaddr *to, socklen_t to_bytes)
{
	ssize_t sent;

	call_counts();
	sent = calls->sendto(fd, bytes, n, flags, to, to_bytes);
	call_counts();
	return sent;
}

static int killing_open(const char *path, int flags)
{
	int file = calls->open(path, flags);

	if (calls_left == 1 && file >= WORLD_FDS) /* who would have closed it is gone */
		close(file);
	call_counts();
	return file;
}

/* Who has just made a file, and writes its head, is the only one who knows it. */
static void kill_closes(int file, off_t at)
{
	if (calls_left == 1 && at == 0)
		close(file);
}

/* ... or within it: some of the bytes are written. The head of a segment is, or is not: the kernel does not cut so little. */
static ssize_t killing_pwritev(int fd, const struct iovec *iov, int pieces, off_t at)
{
	ssize_t n;

	if (calls_left == 1 && world.disk_errno == 0 && at > 0) {
		world.disk_errno = EIO;
		world.disk_room = upto(3000);
		n = calls->pwritev(fd, iov, pieces, at);
		world.disk_errno = 0;
		world.disk_room = 0;
		story(" torn %zd", n);
	}
	kill_closes(fd, at);
	call_counts();
	n = calls->pwritev(fd, iov, pieces, at);
	kill_closes(fd, at);
	call_counts();
	return n;
}

/* True if it came. */
static bool kill_comes_within(void)
{
	static struct sys sys;

	calls = world.server->sys;
	sys = *calls;
	sys.sendmsg = killing_sendmsg;
	sys.sendto = killing_sendto;
	sys.open = killing_open;
	sys.pwritev = killing_pwritev;
	world.server->sys = &sys;
	calls_left = 1 + upto(30);
	if (setjmp(killed) != 0) {
		disk_synced();
		matches_noted();
		pages_hear();
		senders_hear();
		return true;
	}
	for (int i = 0; i < 3; i++) {
		publish();
		turn();
		turn();
	}
	world.server->sys = calls;
	return false;
}

static void kill_server(void)
{
	story(chance(60) && kill_comes_within() ? " within" : "");
	server_gone(false);
	journal_is_bounded();
	world_restart(false);
	disk_has_all();
}

static void power_fails(void)
{
	if (m.setup->sync == NULL)
		return;
	server_gone(true);
	disk_forgets();
	world_restart(false);
	disk_has_all();
}

/* TERM: everybody gets what is theirs, if they read; then the same on the same files. */
static void restart_server(void)
{
	release_sync();
	settle();
	m.draining = true;
	world.signals[world.signal_count++] = SIGTERM;
	for (int i = 0; i < 1000 && !world.server->stop; i++)
		time_passes(20);
	check(world.server->stop, "the server does not end");
	for (struct page *p = m.pages; p < m.pages + PAGES; p++)
		check(p->fd < 0 || world.fds[p->fd].full || p->sent_off, "page %d was not sent off", page_number(p));
	m.draining = false;
	events_taken(m.count);
	if (m.setup->sync != NULL && !m.sick)
		for (; m.unsafe < m.count; m.unsafe++)
			check(m.events[m.unsafe].safe || !is_retained(m.unsafe), "event %u was not stored", m.unsafe);
	server_gone(false);
	journal_is_bounded();
	world_restart(true);
	disk_has_all();
}

/* ---- the run ---- */

static const struct {
	uint32_t weight;
	const char *name;
	void (*take)(void);
} steps[] = {
	{360, "publish", publish}, {8, "publish a burst", publish_burst}, {4, "publish what is too long", publish_too_long},
	{150, "connect", connect_one}, {5, "connect all", connect_all}, {45, "close", close_one}, {2, "close all", close_all},
	{200, "read", read_some}, {12, "read all", read_all}, {50, "stop reading", stop_reading}, {4, "no buffers", kernel_lacks_memory},
	{4, "vanish", vanish}, {12, "a stranger", stranger_says},
	{90, "time passes", pass_time}, {8, "set the clock", set_clock}, {12, "change a token", change_token},
	{6, "revoke", revoke_user}, {6, "ping", ping}, {6, "disk fails", disk_fails}, {18, "disk mended", disk_is_mended},
	{6, "hold fdatasync", hold_sync}, {20, "release fdatasync", release_sync}, {4, "kill -9", kill_server},
	{1, "power fails", power_fails}, {2, "restart", restart_server},
};

void model_step(void)
{
	uint32_t all = 0, at, i = 0;

	for (i = 0; i < COUNT_OF(steps); i++)
		all += steps[i].weight;
	at = upto(all - 1);
	for (i = 0; at >= steps[i].weight; i++)
		at -= steps[i].weight;
	story_begin(steps[i].name);
	steps[i].take();
	if (chance(60))
		settle();
	else
		for (uint32_t turns = upto(2); turns > 0; turns--)
			turn();
	journal_recovers();
	m.step++;
}

void model_begin(const struct setup *s)
{
	static const struct token first[TOKENS] = {{.user = 0, .roles = 1}, {.user = 0, .roles = 2}, {.user = 0, .roles = 0},
		{.user = 1, .roles = 3}, {.user = 1, .roles = 4}, {.user = 2, .roles = 6}, {.user = 2, .roles = 8}, {.user = 3, .roles = 0},
		{.user = 3, .roles = 15}};
	static char texts[4][32], *dir;
	uint64_t step = m.step;

	memset(&m, 0, sizeof m);
	m.setup = s;
	m.step = step;
	m.well_step = m.held_step = step;
	for (int i = 0; i < TOKENS; i++) {
		model_tokens[i] = first[i];
		model_tokens[i].listed = true;
		token_changed(&model_tokens[i]);
	}
	for (int i = 0; i < PAGES; i++)
		m.pages[i] = (struct page){.fd = -1, .text = buf_growable()};
	for (int i = 0; i < STRANGERS; i++)
		m.strangers[i] = -1;
	memset(&world, 0, sizeof world);
	strcpy(world.dir, "/dev/shm/sse-model-XXXXXX"); /* where there is one: it is a matter of speed only */
	if (mkdtemp(world.dir) == NULL)
		world.dir[0] = '\0';
	snprintf(texts[0], sizeof texts[0], "%d", s->queue);
	snprintf(texts[1], sizeof texts[1], "%d", s->history_bytes);
	snprintf(texts[2], sizeof texts[2], "%lldms", (long long)s->age_ms);
	snprintf(texts[3], sizeof texts[3], "%d", s->datagram);
	dir = (char *)(uintptr_t)world_journal();
	world_start(tokens_text(), "--log-level", "error", "--drain", "1s", "--queue", texts[0], "--history-bytes", texts[1],
		"--history-age", texts[2], "--datagram", texts[3], s->sync != NULL ? "--journal" : NULL, dir, "--journal-sync", s->sync, NULL);
	m.wall_most_ms = world.wall_ms;
	disk_has_all();
}

void model_end(void)
{
	story_begin("the end");
	release_sync();
	disk_is_mended();
	time_passes(1200);
	settle();
	journal_recovers();
	read_all();
	close_all();
	world_stop();
	for (int i = 0; i < PAGES; i++)
		buf_free(&m.pages[i].text);
	for (int i = 0; i < TOKENS; i++)
		free(model_tokens[i].changes);
	free(m.events);
	free(m.due);
	m.events = NULL;
	m.due = NULL;
	m.cap = m.due_cap = 0;
}

uint64_t model_steps(void)
{
	return m.step;
}
