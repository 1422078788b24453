/*
 * sse - keeps every open browser of a Django site up to date, by Server-Sent Events.
 *
 * Django sends one datagram that says what happened and who may know. This program holds the
 * browsers' streams, finds those the event is for, and writes it to them. One epoll loop, libc
 * only; the one other thread there may be does nothing but fdatasync. sse.h has the types and the
 * contracts; this file is read from top to bottom: a section uses only those above it.
 *
 * The life of an event
 *   1. intake_turn takes datagrams from the Unix socket (recvmmsg); each line is one JSON object.
 *   2. datagram_line checks it, gives it an id, and renders it once, as it will stand on the
 *      wire, into the ring, and its audience with it.
 *   3. route finds the streams: by user, by role, or all. Each gets the event's number into its
 *      pending list once, and joins the set of dirty connections.
 *      What a turn has taken in, journal_commit writes to disk from the ring, if there is a --journal,
 *      before it is acknowledged and before anything of it leaves.
 *   4. deliver_slice writes the dirty connections, some 256 a turn. One sendmsg carries all that
 *      is pending for a connection, and neighbours in the ring are one iovec. Then the loop takes
 *      in datagrams again: the busier it is, the more each write carries.
 *   5. deliver_keeps_up closes the intake while a connection that was not yet tried holds a whole
 *      queue. The socket's queue in the kernel then holds the publishers back. So only a client
 *      that does not read is ever closed as slow, never one this server has not got round to.
 *   6. A page that comes back with the id it saw last is behind: stream_catch_up fills its pending
 *      list from the ring, with what it may see now, until it has all that is there. Then it is live.
 *
 * The states of a connection
 *   HEAD     waits for a request. An answer leads back to HEAD (keep-alive) or to CLOSING.
 *   WAIT     its token is one that Django must be asked about. Back to HEAD when the answer is there:
 *            the request is then read once more from its beginning, and finds it.
 *   STREAM   gets events. Ends by stream_end (a last frame, then CLOSING) or conn_dead.
 *   CLOSING  its last bytes are written, then it is shut down for writing, and what the client
 *            still sends is dropped for a second: closing at once would reset the connection and
 *            destroy the answer (RFC 9112 section 9.6).
 *   DEAD     waits for conn_reap at the end of the turn, which alone closes descriptors: within a
 *            turn no descriptor can come to mean another connection.
 *   LINK     marks a descriptor that is a connection to Django, not to a client.
 *
 * Who may listen
 *   auth_check decides. A ticket is checked here; the token file and Django's answers are sessions,
 *   found by the token's SHA-256; a token that is in neither becomes a question, which waits for one
 *   of at most 16 links. A session lives as long as its authority or its streams want it.
 *
 * Who owns which memory
 *   The ring owns the bytes of events; a connection owns numbers of events. Nothing is counted by
 *   reference: what was overwritten is gone, and who still waits for it is closed as slow. The journal
 *   owns files, and no events: it writes the ring's bytes, and fills the ring at the start.
 *   All arrays are one reservation made at the start (server_reserve), whose pages the kernel
 *   gives when they are first touched. The heap has only what waits in a socket's way (struct
 *   hold), answers in the making, ids longer than 24 bytes, of a session its sid and its sealed
 *   token, and the token and key files while they are read.
 *
 * Why it can be put on the network
 *   Every byte of a request is looked at once, by http_scan, before anything acts on it; after a
 *   mistake nothing behind it is read. A request has no body here, so none can be mistaken for
 *   the next request. Nothing a client sends is ever echoed or logged; Django alone is told what was
 *   asked for, without the token. Answers and log lines are made of this program's words, and of what
 *   Django or the token file say. Tokens are looked up by their SHA-256, which tells a stranger with a
 *   clock nothing.
 *
 * Sections
 *   spans, buffers - sets, tables, pools - hashes - json - http - sse - addresses - options - log - ring - journal -
 *   users, roles, sessions - connections - routing - delivery - authorities - tickets - the token
 *   file - questions - metrics - status - the service manager - requests - datagrams - time - the system -
 *   sockets - server, loop, main
 */
#include "sse.h"

#include <arpa/inet.h>
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h> /* rename */
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	SLICE_CONNS = 256,           /* connections written between two looks at the datagrams ... */
	SLICE_BYTES = 4 << 20,       /* ... or so many bytes */
	WRITE_BYTES = 512 << 10,     /* a write carries no more frames once it has so many bytes */
	REQUESTS_A_TURN = 16,        /* of one connection, before the others get theirs */
	PATIENCE_MS = 100,           /* for a stream whose kernel buffer is full, until it is called slow */
	CATCH_WRITE = 96 << 10,      /* a write to a stream that is behind: more would only fill its buffer and wait */
	LIST_LEAST = 512,            /* single events that a write may carry to a stream that is behind, at least */
	CATCH_CONNS = 32,            /* streams that are behind, between two slices of the others ... */
	CATCH_BYTES = 512 << 10,     /* ... or so many bytes written, or looked at */
	TURN_BYTES = 4 << 20,        /* of events taken in ... */
	JOURNAL_TURN = 4 << 20,      /* ... or of those written to the journal that waited for it */
	JOURNAL_RETRY_MS = 1000,     /* after a failure */
	JOURNAL_LOST_MS = 3600000,   /* ids given to events that a failure of power took are not farther ahead */
	SHARED_MAX = 64,             /* bytes of an audience that neighbours share: on disk each has its own */
	SYNC_MS = 1000,              /* --journal-sync batch: how often */
	SYNC_END_MS = 2000,          /* the end waits so long for the disk */
	SYNC_PATIENCE_MS = 1000,     /* --journal-sync always: acks wait so long for the disk */
	TICK_MS = 50,
	HELD_MS = 10,                /* how often it is looked whether patience has come to its end */
	ACCEPTS_A_TURN = 256,
	RESERVE_DESCRIPTORS = 32,    /* beyond --max-connections: to tell a client that it is one too many */
	DROP_MAX = 65536,            /* bytes a client may send where nobody listens */
	MANAGER_MS = 10000,          /* how often the service manager is told how it is */
	MANAGER_RETRY_MS = 100,      /* when it had no time to listen */
	MANAGER_MARGIN_MS = 5000,    /* the end takes so long, beyond --drain */
	PASSED_FIRST = 3,            /* the first socket that it passes: SD_LISTEN_FDS_START */
	STATUS_PATIENCE_MS = 5000,   /* how long sse --status waits for its answer */
	INTAKE_STUCK_S = 5,          /* datagrams that wait so long are a fault that /readyz tells */
	CLOSING_MS = 1000,           /* how long it may take to hear our goodbye */
	MAX_CONNECTIONS = 1000000,
	MAX_TOKEN_FILE = 64 << 20,
	SEGMENT_MAX = INT_MAX - 4096, /* bytes of a segment that is read */
	BACKLOG = 4096               /* of listen(2); the kernel cuts it to net.core.somaxconn */
};

/* ============================================================================================
 * spans, buffers
 * ============================================================================================ */

struct span span_of(const char *text)
{
	return (struct span){text, strlen(text)};
}

bool span_same(struct span a, struct span b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool span_is(struct span a, const char *text)
{
	return span_same(a, span_of(text));
}

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool span_is_nocase(struct span a, const char *text)
{
	size_t i = 0;

	for (; i < a.n && text[i] != '\0'; i++)
		if (lower(a.p[i]) != lower(text[i]))
			return false;
	return i == a.n && text[i] == '\0';
}

/* Without its first `at` bytes. An absent one (.p is NULL) stays absent. */
static struct span span_from(struct span s, size_t at)
{
	return at == 0 ? s : (struct span){s.p + at, s.n - at};
}

/* Cuts s at the first c: returns what is before it, leaves in *s what is behind it. */
static struct span span_cut(struct span *s, char c)
{
	const char *found = s->n > 0 ? memchr(s->p, c, s->n) : NULL;
	struct span before = *s;

	if (found == NULL) {
		*s = span_from(*s, s->n);
		return before;
	}
	before.n = (size_t)(found - s->p);
	*s = span_from(*s, before.n + 1);
	return before;
}

/* Without spaces and tabs at both ends. */
static struct span span_trim(struct span s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = span_from(s, 1);
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

struct buf buf_fixed(char *data, size_t cap)
{
	return (struct buf){.data = data, .cap = cap};
}

struct buf buf_growable(void)
{
	return (struct buf){.growable = true};
}

void buf_free(struct buf *b)
{
	if (b->growable)
		free(b->data);
	*b = (struct buf){.growable = b->growable};
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
}

static bool buf_room(struct buf *b, size_t n)
{
	size_t cap = b->cap < 512 ? 512 : b->cap;
	char *data;

	if (n <= b->cap - b->len)
		return true;
	if (!b->growable || n > SIZE_MAX / 4 - b->len) {
		b->failed = true;
		return false;
	}
	while (cap - b->len < n)
		cap *= 2;
	data = realloc(b->data, cap);
	if (data == NULL) {
		b->failed = true;
		return false;
	}
	b->data = data;
	b->cap = cap;
	return true;
}

void buf_bytes(struct buf *b, const void *bytes, size_t n)
{
	if (n > 0 && !b->failed && buf_room(b, n)) {
		memcpy(b->data + b->len, bytes, n);
		b->len += n;
	}
}

void buf_span(struct buf *b, struct span s)
{
	buf_bytes(b, s.p, s.n);
}

void buf_text(struct buf *b, const char *text)
{
	buf_bytes(b, text, strlen(text));
}

void buf_byte(struct buf *b, char c)
{
	if (!b->failed && b->len < b->cap)
		b->data[b->len++] = c;
	else
		buf_bytes(b, &c, 1);
}

void buf_number(struct buf *b, int64_t n)
{
	char digits[20];
	size_t at = sizeof digits;
	uint64_t rest = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;

	do
		digits[--at] = (char)('0' + rest % 10);
	while ((rest /= 10) > 0);
	if (n < 0)
		digits[--at] = '-';
	buf_bytes(b, digits + at, sizeof digits - at);
}

/* n with zeros before it, `width` digits in all. */
static void buf_padded(struct buf *b, int64_t n, int width)
{
	int64_t limit = 10;

	for (int i = 1; i < width; i++, limit *= 10)
		if (n < limit) {
			for (; i < width; i++)
				buf_byte(b, '0');
			break;
		}
	buf_number(b, n);
}

struct span buf_view(const struct buf *b)
{
	return (struct span){b->data, b->len};
}

/* ============================================================================================
 * sets, tables, pools
 *
 * A set of connections is one bit a connection: who is there, who is dirty, who is in a role. A
 * walk over one goes by rising descriptor, that is through memory from front to back.
 * ============================================================================================ */

bool set_has(const struct set *set, uint32_t i)
{
	assert(i < set->max);
	return set->words[i / 64] >> i % 64 & 1;
}

void set_add(struct set *set, uint32_t i)
{
	if (!set_has(set, i)) {
		set->words[i / 64] |= UINT64_C(1) << i % 64;
		set->count++;
		if (i >= set->high)
			set->high = i + 1;
	}
}

void set_remove(struct set *set, uint32_t i)
{
	if (set_has(set, i)) {
		set->words[i / 64] &= ~(UINT64_C(1) << i % 64);
		set->count--;
	}
}

uint32_t set_next(const struct set *set, uint32_t from)
{
	uint32_t word = from / 64, words = (set->high + 63) / 64;
	uint64_t bits;

	if (from >= set->high || set->count == 0)
		return SET_END;
	bits = set->words[word] & ~UINT64_C(0) << from % 64;
	while (bits == 0) {
		if (++word == words)
			return SET_END;
		bits = set->words[word];
	}
	return word * 64 + (uint32_t)__builtin_ctzll(bits);
}

static uint32_t table_hash(const struct table *t, uint32_t record)
{
	uint32_t hash;

	memcpy(&hash, t->records + record * t->stride, sizeof hash);
	return hash;
}

uint32_t table_next(const struct table *t, uint32_t hash, uint32_t *at)
{
	while (t->mask > 0) {
		uint32_t record = t->slots[(hash + *at) & t->mask];

		++*at;
		if (record == 0)
			break;
		if (table_hash(t, record) == hash)
			return record;
	}
	return 0;
}

static void table_put(struct table *t, uint32_t record)
{
	uint32_t slot = table_hash(t, record) & t->mask;

	while (t->slots[slot] != 0)
		slot = (slot + 1) & t->mask;
	t->slots[slot] = record;
}

size_t table_slots(uint32_t records_max)
{
	size_t all = 0, slots = 64;

	for (; slots * 3 / 4 < (size_t)records_max + 1; slots *= 2)
		all += slots;
	return all + slots;
}

void table_add(struct table *t, uint32_t record)
{
	uint32_t *old = t->slots;
	uint32_t slots = t->mask + 1;

	if (t->mask == 0) {
		t->mask = 63;
	} else if (t->count + 1 > slots / 4 * 3) {
		t->slots += slots;
		t->mask = 2 * slots - 1;
		for (uint32_t i = 0; i < slots; i++)
			if (old[i] != 0)
				table_put(t, old[i]);
	}
	table_put(t, record);
	t->count++;
}

void table_remove(struct table *t, uint32_t record)
{
	uint32_t hole = table_hash(t, record) & t->mask, at;

	while (t->slots[hole] != record)
		hole = (hole + 1) & t->mask;
	/* What stands behind the hole moves into it, unless it would leave its own way there. */
	for (at = (hole + 1) & t->mask; t->slots[at] != 0; at = (at + 1) & t->mask) {
		uint32_t home = table_hash(t, t->slots[at]) & t->mask;

		if (((at - home) & t->mask) >= ((at - hole) & t->mask)) {
			t->slots[hole] = t->slots[at];
			hole = at;
		}
	}
	t->slots[hole] = 0;
	t->count--;
}

uint32_t recent_take(struct recent *r)
{
	uint32_t record = (uint32_t)(r->count % r->max) + 1;

	if (r->count++ >= r->max)
		table_remove(&r->table, record);
	return record;
}

static uint32_t *pool_block(const struct pool *p, uint32_t block)
{
	return p->numbers + (size_t)block * p->width;
}

/* There is a block for each connection, so one is always left. */
static uint32_t pool_take(struct pool *p)
{
	uint32_t block = p->free;

	if (block == 0)
		return p->top++;
	p->free = *pool_block(p, block);
	return block;
}

static void pool_give(struct pool *p, uint32_t block)
{
	*pool_block(p, block) = p->free;
	p->free = block;
}

/* ============================================================================================
 * hashes: SHA-256 (FIPS 180-4) for tokens, HMAC (RFC 2104) and base64url (RFC 4648) for tickets,
 * SipHash-1-3 for tables
 * ============================================================================================ */

static const uint32_t sha256_round[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate_right(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

/* One round. The eight variables trade places from round to round instead of moving. */
#define SHA256_ROUND(a, b, c, d, e, f, g, h, i) \
	do { \
		uint32_t t = (h) + (rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25)) \
			+ ((g) ^ ((e) & ((f) ^ (g)))) + sha256_round[i] + w[i]; \
		(d) += t; \
		(h) = t + (rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22)) \
			+ (((a) & (b)) | ((c) & ((a) | (b)))); \
	} while (0)

static void sha256_block(uint32_t state[8], const uint8_t block[64])
{
	uint32_t w[64], a = state[0], b = state[1], c = state[2], d = state[3];
	uint32_t e = state[4], f = state[5], g = state[6], h = state[7];

	for (size_t i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16
			| (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
	for (int i = 16; i < 64; i++) {
		uint32_t x = w[i - 15], y = w[i - 2];

		w[i] = w[i - 16] + (rotate_right(x, 7) ^ rotate_right(x, 18) ^ x >> 3)
			+ w[i - 7] + (rotate_right(y, 17) ^ rotate_right(y, 19) ^ y >> 10);
	}
	for (int i = 0; i < 64; i += 8) {
		SHA256_ROUND(a, b, c, d, e, f, g, h, i);
		SHA256_ROUND(h, a, b, c, d, e, f, g, i + 1);
		SHA256_ROUND(g, h, a, b, c, d, e, f, i + 2);
		SHA256_ROUND(f, g, h, a, b, c, d, e, i + 3);
		SHA256_ROUND(e, f, g, h, a, b, c, d, i + 4);
		SHA256_ROUND(d, e, f, g, h, a, b, c, i + 5);
		SHA256_ROUND(c, d, e, f, g, h, a, b, i + 6);
		SHA256_ROUND(b, c, d, e, f, g, h, a, i + 7);
	}
	explicit_bzero(w, sizeof w); /* it was a token */
	state[0] += a, state[1] += b, state[2] += c, state[3] += d;
	state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static const uint32_t sha256_start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
	0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* The hash of what comes after `before` bytes, whole blocks, which led to this state. */
static void sha256_after(const uint32_t start[8], uint64_t before, struct span in, uint8_t out[32])
{
	uint32_t state[8];
	uint64_t bits = (before + in.n) * 8;
	uint8_t last[128] = {0};
	size_t rest, padded;

	memcpy(state, start, sizeof state);
	for (; in.n >= 64; in = span_from(in, 64))
		sha256_block(state, (const uint8_t *)in.p);
	rest = in.n;
	padded = rest < 56 ? 64 : 128;
	if (rest > 0)
		memcpy(last, in.p, rest);
	last[rest] = 0x80;
	for (size_t i = 0; i < 8; i++)
		last[padded - 1 - i] = (uint8_t)(bits >> 8 * i);
	sha256_block(state, last);
	if (padded == 128)
		sha256_block(state, last + 64);
	for (int i = 0; i < 8; i++, out += 4) {
		out[0] = (uint8_t)(state[i] >> 24), out[1] = (uint8_t)(state[i] >> 16);
		out[2] = (uint8_t)(state[i] >> 8), out[3] = (uint8_t)state[i];
	}
	explicit_bzero(last, sizeof last);
}

void sha256(struct span in, uint8_t out[32])
{
	sha256_after(sha256_start, 0, in, out);
}

void hmac_key(struct hmac_key *key, struct span secret)
{
	uint8_t block[64] = {0};

	if (secret.n > sizeof block)
		sha256(secret, block);
	else if (secret.n > 0)
		memcpy(block, secret.p, secret.n);
	for (size_t i = 0; i < sizeof block; i++)
		block[i] ^= 0x36;
	memcpy(key->inner, sha256_start, sizeof key->inner);
	sha256_block(key->inner, block);
	for (size_t i = 0; i < sizeof block; i++)
		block[i] ^= 0x36 ^ 0x5c;
	memcpy(key->outer, sha256_start, sizeof key->outer);
	sha256_block(key->outer, block);
	explicit_bzero(block, sizeof block);
}

void hmac_sha256(const struct hmac_key *key, struct span in, uint8_t out[32])
{
	uint8_t inner[32];

	sha256_after(key->inner, 64, in, inner);
	sha256_after(key->outer, 64, (struct span){(char *)inner, sizeof inner}, out);
}

bool same_secret(const uint8_t a[32], const uint8_t b[32])
{
	volatile uint8_t differ = 0; /* volatile: no compiler may leave the loop early */

	for (int i = 0; i < 32; i++)
		differ = (uint8_t)(differ | (a[i] ^ b[i]));
	return differ == 0;
}

/* 0 to 63, or -1. */
static int base64url_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

bool base64url(struct span in, struct buf *out)
{
	uint32_t bits = 0;
	int have = 0;

	for (size_t i = 0; i < in.n; i++) {
		int digit = base64url_digit(in.p[i]);

		if (digit < 0)
			return false;
		bits = bits << 6 | (uint32_t)digit;
		have += 6;
		if (have >= 8) {
			have -= 8;
			buf_byte(out, (char)(bits >> have));
			bits &= (1u << have) - 1;
		}
	}
	return in.n % 4 != 1 && bits == 0 && !out->failed;
}

static uint64_t rotate_left(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1], v[1] = rotate_left(v[1], 13) ^ v[0], v[0] = rotate_left(v[0], 32);
	v[2] += v[3], v[3] = rotate_left(v[3], 16) ^ v[2];
	v[0] += v[3], v[3] = rotate_left(v[3], 21) ^ v[0];
	v[2] += v[1], v[1] = rotate_left(v[1], 17) ^ v[2], v[2] = rotate_left(v[2], 32);
}

/* SipHash-1-3 (Aumasson, Bernstein). */
static uint64_t hash_whole(const uint8_t key[16], struct span in)
{
	uint64_t k[2], word, v[4];
	size_t i = 0;

	memcpy(k, key, sizeof k);
	v[0] = k[0] ^ UINT64_C(0x736f6d6570736575), v[1] = k[1] ^ UINT64_C(0x646f72616e646f6d);
	v[2] = k[0] ^ UINT64_C(0x6c7967656e657261), v[3] = k[1] ^ UINT64_C(0x7465646279746573);
	for (; i + 8 <= in.n; i += 8) {
		memcpy(&word, in.p + i, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	word = (uint64_t)in.n << 56;
	for (size_t shift = 0; i < in.n; i++, shift += 8)
		word |= (uint64_t)(uint8_t)in.p[i] << shift;
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
	v[2] ^= 0xff;
	for (int n = 0; n < 3; n++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint32_t hash_span(const uint8_t key[16], struct span in)
{
	uint64_t whole = hash_whole(key, in);

	return (uint32_t)(whole ^ whole >> 32);
}

/* 0 to most. */
static int64_t random_upto(struct server *s, int64_t most)
{
	s->random ^= s->random << 13; /* xorshift64 (Marsaglia): spreads, keeps no secret */
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return (int64_t)(s->random % ((uint64_t)most + 1));
}

/* ============================================================================================
 * json: a strict reader and a tiny writer (RFC 8259)
 *
 * The reader never builds a tree: its callers walk the text and take what they know. An event's
 * data is checked and copied without white space in the same pass; numbers and escapes stay as
 * they were written.
 * ============================================================================================ */

struct json json_begin(struct span text)
{
	return (struct json){.text = text};
}

bool json_fail(struct json *j, size_t at, const char *error)
{
	if (j->error == NULL) {
		j->error = error;
		j->at = at;
	}
	return false;
}

/* The byte at j->at, or 0 at the end: a NUL is nowhere allowed, so the two need no telling apart. */
static char json_byte(const struct json *j)
{
	return j->at < j->text.n ? j->text.p[j->at] : '\0';
}

static void json_space(struct json *j)
{
	char c;

	while (j->error == NULL && ((c = json_byte(j)) == ' ' || c == '\t' || c == '\n' || c == '\r'))
		j->at++;
}

char json_peek(struct json *j)
{
	char c;

	json_space(j);
	c = json_byte(j);
	if (j->error != NULL)
		return 0;
	if (c == '-' || (c >= '0' && c <= '9'))
		return '0';
	return c == '{' || c == '[' || c == '"' || c == 't' || c == 'f' || c == 'n' ? c : 0;
}

/* The length of the UTF-8 sequence at p, 0 if it is not well-formed (Unicode table 3-7). */
static size_t utf8_length(const char *text, size_t n)
{
	const unsigned char *p = (const unsigned char *)text;
	unsigned char least = 0x80, most = 0xbf;
	size_t length = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

	if (length > n)
		return 0;
	if (p[0] == 0xe0)
		least = 0xa0;
	if (p[0] == 0xed)
		most = 0x9f;
	if (p[0] == 0xf0)
		least = 0x90;
	if (p[0] == 0xf4)
		most = 0x8f;
	for (size_t i = 1; i < length; i++, least = 0x80, most = 0xbf)
		if (p[i] < least || p[i] > most)
			return 0;
	return length;
}

static void utf8_write(struct buf *b, uint32_t code)
{
	if (code < 0x80) {
		buf_byte(b, (char)code);
		return;
	}
	if (code < 0x800) {
		buf_byte(b, (char)(0xc0 | code >> 6));
	} else {
		if (code < 0x10000) {
			buf_byte(b, (char)(0xe0 | code >> 12));
		} else {
			buf_byte(b, (char)(0xf0 | code >> 18));
			buf_byte(b, (char)(0x80 | (code >> 12 & 0x3f)));
		}
		buf_byte(b, (char)(0x80 | (code >> 6 & 0x3f)));
	}
	buf_byte(b, (char)(0x80 | (code & 0x3f)));
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = lower(c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits of \uXXXX at j->at. */
static bool json_hex(struct json *j, uint32_t *code)
{
	*code = 0;
	for (int i = 0; i < 4; i++, j->at++) {
		int digit = hex_digit(json_byte(j));

		if (digit < 0)
			return json_fail(j, j->at, "expected four hex digits after \\u");
		*code = *code << 4 | (uint32_t)digit;
	}
	return true;
}

/* Behind "\u": out is NULL if only the grammar counts. */
static bool json_unicode(struct json *j, struct buf *out)
{
	size_t from = j->at - 2;
	uint32_t code, low;

	if (!json_hex(j, &code))
		return false;
	if (out == NULL)
		return true;
	if (code >= 0xd800 && code < 0xdc00 && json_byte(j) == '\\' && j->at + 1 < j->text.n
		&& j->text.p[j->at + 1] == 'u') {
		j->at += 2;
		if (!json_hex(j, &low))
			return false;
		if (low < 0xdc00 || low > 0xdfff)
			return json_fail(j, from, "half of a surrogate pair");
		code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
	}
	if (code >= 0xd800 && code < 0xe000)
		return json_fail(j, from, "half of a surrogate pair");
	utf8_write(out, code);
	return true;
}

/* Behind a backslash. */
static bool json_escape(struct json *j, struct buf *out)
{
	static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
	char c = json_byte(j);
	const char *found = c == '\0' ? NULL : strchr(names, c);

	j->at++;
	if (c == 'u')
		return json_unicode(j, out);
	if (found == NULL)
		return json_fail(j, j->at - 1, "expected one of \"\\/bfnrtu after a backslash");
	if (out != NULL)
		buf_byte(out, bytes[found - names]);
	return true;
}

/* A string, quotes and all; its value goes to out, unless that is NULL. */
static bool json_string_read(struct json *j, struct buf *out)
{
	j->at++;
	for (;;) {
		size_t from = j->at, length;
		unsigned char c;

		while ((c = (unsigned char)json_byte(j)) >= ' ' && c < 0x80 && c != '"' && c != '\\')
			j->at++;
		while (c >= 0x80) {
			length = utf8_length(j->text.p + j->at, j->text.n - j->at);
			if (length == 0)
				return json_fail(j, j->at, "not UTF-8");
			j->at += length;
			c = (unsigned char)json_byte(j);
		}
		if (out != NULL)
			buf_bytes(out, j->text.p + from, j->at - from);
		if (j->at == j->text.n)
			return json_fail(j, j->at, "expected a closing quote");
		if (c < ' ')
			return json_fail(j, j->at, "a control character in a string must be escaped");
		if (c == '"')
			break;
		if (c == '\\') {
			j->at++;
			if (!json_escape(j, out))
				return false;
		}
	}
	j->at++;
	return true;
}

bool json_string(struct json *j, struct buf *out)
{
	if (json_peek(j) != '"')
		return json_fail(j, j->at, "expected a string");
	return json_string_read(j, out);
}

static bool json_digits(struct json *j)
{
	size_t from = j->at;

	while (json_byte(j) >= '0' && json_byte(j) <= '9')
		j->at++;
	return j->at > from || json_fail(j, j->at, "expected a digit");
}

static bool json_number(struct json *j)
{
	if (json_byte(j) == '-')
		j->at++;
	if (json_byte(j) == '0')
		j->at++;
	else if (!json_digits(j))
		return false;
	if (json_byte(j) == '.') {
		j->at++;
		if (!json_digits(j))
			return false;
	}
	if (lower(json_byte(j)) == 'e') {
		j->at++;
		if (json_byte(j) == '+' || json_byte(j) == '-')
			j->at++;
		return json_digits(j);
	}
	return true;
}

static bool json_word(struct json *j, const char *word)
{
	size_t n = strlen(word);

	if (j->text.n - j->at < n || memcmp(j->text.p + j->at, word, n) != 0)
		return json_fail(j, j->at, "expected a value");
	j->at += n;
	return true;
}

bool json_integer(struct json *j, int64_t *out)
{
	size_t from;

	*out = 0;
	if (json_peek(j) != '0')
		return json_fail(j, j->at, "expected a whole number");
	from = j->at;
	if (!json_number(j))
		return false;
	for (size_t i = from; i < j->at; i++) {
		char c = j->text.p[i];

		if (c < '0' || c > '9' || (*out = *out * 10 + (c - '0')) > INT64_C(1) << 53)
			return json_fail(j, from, "expected a whole number, 0 to 2^53");
	}
	return true;
}

bool json_date(struct json *j, int64_t *unix_s, int *ms)
{
	struct json whole;
	size_t from, end;
	int unit = 100, fraction = 0;

	*unix_s = 0;
	if (json_peek(j) != '0')
		return json_fail(j, j->at, "expected seconds since 1970");
	from = j->at;
	if (!json_number(j))
		return false;
	for (end = from; end < j->at && j->text.p[end] != '.';)
		end++;
	for (size_t i = end + 1; i < j->at; i++, unit /= 10) {
		if (j->text.p[i] < '0' || j->text.p[i] > '9')
			return json_fail(j, from, "expected seconds since 1970");
		fraction += unit * (j->text.p[i] - '0');
	}
	if (ms != NULL)
		*ms = fraction;
	whole = json_begin((struct span){j->text.p + from, end - from});
	return json_integer(&whole, unix_s) || json_fail(j, from, "expected seconds since 1970");
}

bool json_open(struct json *j, char bracket)
{
	if (json_peek(j) != bracket)
		return json_fail(j, j->at, bracket == '{' ? "expected an object" : "expected an array");
	if (j->depth == MAX_DEPTH)
		return json_fail(j, j->at, "nested too deep");
	j->depth++;
	j->at++;
	j->more = false;
	return true;
}

bool json_more(struct json *j, char bracket)
{
	json_space(j);
	if (j->error != NULL)
		return false;
	if (json_byte(j) == bracket) {
		j->at++;
		j->depth--;
		j->more = true;
		return false;
	}
	if (j->more) {
		if (json_byte(j) != ',')
			return json_fail(j, j->at, bracket == '}' ? "expected , or }" : "expected , or ]");
		j->at++;
	}
	j->more = true;
	return true;
}

/* The colon behind a member's name. */
static bool json_colon(struct json *j)
{
	json_space(j);
	if (json_byte(j) != ':')
		return json_fail(j, j->at, "expected :");
	j->at++;
	return true;
}

bool json_key(struct json *j, struct buf *out)
{
	return json_string(j, out) && json_colon(j);
}

/* The members of an object or the elements of an array, commas in between, as json_value has it. */
static bool json_inside(struct json *j, char open, char shut, struct buf *compact)
{
	bool first = true;

	if (!json_open(j, open))
		return false;
	buf_byte(compact, open);
	while (json_more(j, shut)) {
		if (!first)
			buf_byte(compact, ',');
		first = false;
		if (open == '{' && json_peek(j) != '"')
			return json_fail(j, j->at, "expected a string");
		if (!json_value(j, compact))
			return false;
		if (open == '[')
			continue;
		if (!json_colon(j))
			return false;
		buf_byte(compact, ':');
		if (!json_value(j, compact))
			return false;
	}
	buf_byte(compact, shut);
	return j->error == NULL;
}

bool json_value(struct json *j, struct buf *compact)
{
	char kind = json_peek(j);
	size_t from = j->at;
	struct buf nowhere = buf_fixed(NULL, 0);

	if (compact == NULL)
		compact = &nowhere;
	switch (kind) {
	case '{':
		return json_inside(j, '{', '}', compact);
	case '[':
		return json_inside(j, '[', ']', compact);
	case '"':
		json_string_read(j, NULL);
		break;
	case '0':
		json_number(j);
		break;
	case 't':
		json_word(j, "true");
		break;
	case 'f':
		json_word(j, "false");
		break;
	case 'n':
		json_word(j, "null");
		break;
	default:
		return json_fail(j, j->at, "expected a value");
	}
	if (j->error == NULL)
		buf_bytes(compact, j->text.p + from, j->at - from);
	return j->error == NULL;
}

bool json_end(struct json *j)
{
	json_space(j);
	if (j->at < j->text.n)
		return json_fail(j, j->at, "expected the end of the line");
	return j->error == NULL;
}

void json_write_string(struct buf *b, struct span s)
{
	static const char hex[] = "0123456789abcdef";

	buf_byte(b, '"');
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c == '"' || c == '\\') {
			buf_byte(b, '\\');
			buf_byte(b, (char)c);
		} else if (c < ' ') {
			buf_text(b, "\\u00");
			buf_byte(b, hex[c >> 4]);
			buf_byte(b, hex[c & 15]);
		} else {
			buf_byte(b, (char)c);
		}
	}
	buf_byte(b, '"');
}

/* ============================================================================================
 * http: heads of requests (RFC 9110, RFC 9112)
 *
 * http_scan looks at every byte of a head once, however it is cut into packets, and finds its
 * end; it refuses what can be refused early. http_parse takes the whole head apart. Where the
 * RFC lets a server be lenient (a bare LF, a folded line), this one is not: what two programs on
 * the way read differently is how requests are smuggled.
 * ============================================================================================ */

static const struct {
	const char *name;
	int status;
	const char *text;
} refusals[REFUSE_COUNT] = {
#define X(name, status, text) [REFUSE_##name] = {#name, status, text},
	REFUSALS(X)
#undef X
};

const char *refusal_name(enum refusal why)
{
	return refusals[why].name;
}

int refusal_status(enum refusal why)
{
	return refusals[why].status;
}

static const char *status_text(int status)
{
	static const struct {
		int status;
		const char *text;
	} texts[] = {
		{200, "OK"}, {204, "No Content"}, {400, "Bad Request"}, {401, "Unauthorized"},
		{403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
		{408, "Request Timeout"}, {413, "Content Too Large"}, {414, "URI Too Long"},
		{417, "Expectation Failed"}, {429, "Too Many Requests"}, {431, "Request Header Fields Too Large"},
		{501, "Not Implemented"}, {503, "Service Unavailable"}, {505, "HTTP Version Not Supported"},
	};

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		if (texts[i].status == status)
			return texts[i].text;
	return "";
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
	return is_digit(c) || (lower(c) >= 'a' && lower(c) <= 'z');
}

/* tchar of RFC 9110 section 5.6.2 */
static bool is_token(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!is_alnum(s.p[i]) && (s.p[i] == '\0' || strchr("!#$%&'*+-.^_`|~", s.p[i]) == NULL))
			return false;
	return s.n > 0;
}

static enum http_method http_method(struct span name)
{
	static const char *const known[] = {"POST", "PUT", "DELETE", "PATCH", "TRACE"};

	if (span_is(name, "GET"))
		return HTTP_GET;
	if (span_is(name, "HEAD"))
		return HTTP_HEAD;
	if (span_is(name, "OPTIONS"))
		return HTTP_OPTIONS;
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (span_is(name, known[i]))
			return HTTP_KNOWN;
	return HTTP_UNKNOWN;
}

/* reg-name of RFC 3986 section 3.2.2, but for the comma, which no host has; may be empty. */
static bool is_host_name(struct span name)
{
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];

		if (c == '%') {
			if (name.n - i < 3 || hex_digit(name.p[i + 1]) < 0 || hex_digit(name.p[i + 2]) < 0)
				return false;
			i += 2;
		} else if (!is_alnum(c) && (c == '\0' || strchr("-._~!$&'()*+;=", c) == NULL)) {
			return false;
		}
	}
	return true;
}

/* A host and port as in a Host header; may be empty (RFC 9112 section 3.2). */
static bool is_host(struct span host)
{
	struct span port = host, name;
	char six[INET6_ADDRSTRLEN];
	struct in6_addr ignored;

	if (host.n > 0 && host.p[0] == '[') {
		name = span_from(span_cut(&port, ']'), 1);
		if (name.n + 2 > host.n || name.n >= sizeof six || (port.n > 0 && port.p[0] != ':'))
			return false;
		memcpy(six, name.p, name.n);
		six[name.n] = '\0';
		if (inet_pton(AF_INET6, six, &ignored) != 1)
			return false;
		span_cut(&port, ':');
	} else if (!is_host_name(span_cut(&port, ':'))) {
		return false;
	}
	for (size_t i = 0; i < port.n; i++)
		if (!is_digit(port.p[i]))
			return false;
	return true;
}

/* The forms of a target that RFC 9112 section 3.2 has, but for that of CONNECT. */
static enum refusal http_target(struct span target, struct http_request *r)
{
	struct span rest = target;

	if (memchr(target.p, '#', target.n) != NULL)
		return REFUSE_bad_target;
	if (span_is(target, "*") && r->method == HTTP_OPTIONS) {
		r->path = target;
		return REFUSE_NONE;
	}
	if (target.p[0] != '/') {
		struct span scheme = span_cut(&rest, ':');
		size_t host = 0;

		if ((!span_is_nocase(scheme, "http") && !span_is_nocase(scheme, "https"))
			|| rest.n < 3 || rest.p[0] != '/' || rest.p[1] != '/')
			return REFUSE_bad_target;
		rest = span_from(rest, 2);
		while (host < rest.n && rest.p[host] != '/' && rest.p[host] != '?')
			host++;
		r->host = (struct span){rest.p, host};
		if (host == 0 || rest.p[0] == ':' || !is_host(r->host))
			return REFUSE_bad_target;
		rest = span_from(rest, host);
	}
	r->query = rest;
	r->path = span_cut(&r->query, '?');
	if (r->path.n == 0)
		r->path = span_of("/");
	return REFUSE_NONE;
}

static enum refusal http_request_line(struct span line, struct http_request *r)
{
	struct span rest = line, method = span_cut(&rest, ' '), target = span_cut(&rest, ' ');

	*r = (struct http_request){.method = http_method(method)};
	if (!is_token(method) || target.n == 0 || memchr(line.p, '\t', line.n) != NULL)
		return REFUSE_bad_request_line;
	if (rest.n != 8 || memcmp(rest.p, "HTTP/", 5) != 0 || !is_digit(rest.p[5]) || rest.p[6] != '.'
		|| !is_digit(rest.p[7]))
		return REFUSE_bad_request_line;
	if (rest.p[5] != '1' || rest.p[7] > '1')
		return REFUSE_bad_version;
	r->http10 = rest.p[7] == '0';
	r->keep_alive = !r->http10;
	if (r->method == HTTP_UNKNOWN)
		return REFUSE_unknown_method;
	return http_target(target, r);
}

/* Is this beginning of a request line, without an end so far, already too long? */
static enum refusal http_line_fits(struct span line, const struct http_limits *limits)
{
	size_t method = 0;

	while (method < line.n && method < 32 && line.p[method] != ' ')
		method++;
	if (method == 32)
		return is_token((struct span){line.p, method}) ? REFUSE_unknown_method : REFUSE_bad_request_line;
	return line.n > method + limits->target_bytes + sizeof " HTTP/1.1" ? REFUSE_target_too_long : REFUSE_NONE;
}

/* A line is whole, the one that ends before bytes[end]. True if it is the head's empty line. */
static bool http_scan_line(struct http_scan *scan, const char *bytes, uint32_t end, enum refusal *why)
{
	struct span line = {bytes + scan->line, end - scan->line};
	struct http_request ignored;

	scan->line = end + 2;
	if (line.n == 0)
		return scan->lines > 0; /* empty lines before a request are skipped: RFC 9112 section 2.2 */
	if (scan->lines++ == 0) {
		*why = http_request_line(line, &ignored);
	} else if (scan->lines > MAX_HEADERS + 1) {
		*why = REFUSE_too_many_headers;
	}
	return false;
}

/* A byte that ends nothing and is allowed anywhere in a head. */
static bool is_plain(char c)
{
	return ((unsigned char)c >= ' ' && c != 0x7f) || c == '\t';
}

/* How many bytes from `at` on are plain. Eight at a time: is one below 0x20, or 0x7f? */
static uint32_t plain_bytes(const char *bytes, uint32_t at, uint32_t end)
{
	static const uint64_t ones = UINT64_C(0x0101010101010101);
	uint32_t from = at;
	uint64_t x, low, del;

	for (; at + 8 <= end; at += 8) {
		memcpy(&x, bytes + at, 8);
		low = (x - ones * 0x20) & ~x;
		del = ((x ^ ones * 0x7f) - ones) & ~(x ^ ones * 0x7f);
		if (((low | del) & ones * 0x80) != 0)
			break;
	}
	while (at < end && is_plain(bytes[at]))
		at++;
	return at - from;
}

int http_scan(struct http_scan *scan, const char *bytes, size_t n, const struct http_limits *limits)
{
	uint32_t end = (uint32_t)(n < limits->head_bytes ? n : limits->head_bytes);
	enum refusal why = REFUSE_NONE;

	for (;;) {
		if (scan->lines == 0 && scan->line < end && is_plain(bytes[scan->line])
			&& !is_token((struct span){bytes + scan->line, 1}))
			return -REFUSE_bad_request_line;
		if (scan->at < end)
			scan->at += plain_bytes(bytes, scan->at, end);
		if (scan->lines == 0)
			why = http_line_fits((struct span){bytes + scan->line, scan->at - scan->line}, limits);
		if (why != REFUSE_NONE)
			return -(int)why;
		if (scan->at >= end)
			break;
		if (bytes[scan->at] != '\r')
			return bytes[scan->at] == '\n' ? -REFUSE_bad_line_end : -REFUSE_bad_byte;
		if (scan->at + 1 == n)
			break;
		if (bytes[scan->at + 1] != '\n')
			return -REFUSE_bad_line_end;
		scan->at += 2;
		if (http_scan_line(scan, bytes, scan->at - 2, &why))
			return scan->at <= limits->head_bytes ? (int)scan->at : -REFUSE_head_too_large;
		if (why != REFUSE_NONE)
			return -(int)why;
	}
	return n > limits->head_bytes ? -REFUSE_head_too_large : 0;
}

/* What http_parse must remember of the headers until it has seen them all. */
struct http_framing {
	int hosts, lengths, encodings;
	bool long_body, chunked, unknown_encoding, unknown_expectation;
};

/* Digits only; more of them than a length has, or a second header, is no length. */
static enum refusal http_length(struct span value, struct http_framing *f)
{
	if (f->lengths++ > 0 || value.n == 0 || value.n > 18)
		return REFUSE_bad_length;
	for (size_t i = 0; i < value.n; i++) {
		if (!is_digit(value.p[i]))
			return REFUSE_bad_length;
		f->long_body |= value.p[i] != '0';
	}
	return REFUSE_NONE;
}

static void http_connection(struct span value, struct http_request *r)
{
	while (value.n > 0)
		if (span_is_nocase(span_trim(span_cut(&value, ',')), "close"))
			r->keep_alive = false;
}

static enum refusal http_once(struct span *field, struct span value)
{
	if (field->p != NULL)
		return REFUSE_repeated_header;
	*field = value;
	return REFUSE_NONE;
}

static enum refusal http_header(struct span name, struct span value, struct http_request *r, struct http_framing *f)
{
	if (span_is_nocase(name, "Host")) {
		if (f->hosts++ > 0)
			return REFUSE_two_hosts;
		if (r->host.p == NULL)
			r->host = value;
		return is_host(value) ? REFUSE_NONE : REFUSE_bad_host;
	}
	if (span_is_nocase(name, "Content-Length"))
		return http_length(value, f);
	if (span_is_nocase(name, "Authorization"))
		return http_once(&r->authorization, value);
	if (span_is_nocase(name, "Origin"))
		return http_once(&r->origin, value);
	if (span_is_nocase(name, "Last-Event-ID")) {
		/* Given twice it is no id of ours, and not a reason to end an EventSource by a 400. */
		r->last_event_id = r->last_event_id.p == NULL ? value : (struct span){"", 0};
	} else if (span_is_nocase(name, "Transfer-Encoding")) {
		f->chunked = f->encodings++ == 0 && span_is_nocase(value, "chunked");
	} else if (span_is_nocase(name, "Connection")) {
		http_connection(value, r);
	} else if (span_is_nocase(name, "Expect")) {
		f->unknown_expectation |= !span_is_nocase(value, "100-continue");
	} else if (span_is_nocase(name, "X-Forwarded-For")) {
		r->forwarded = value; /* a proxy that adds a line adds the last one */
	} else if (span_is_nocase(name, "Access-Control-Request-Method")) {
		r->preflight = true;
	}
	return REFUSE_NONE;
}

/* What can only be said when all headers are known. */
static enum refusal http_framed(struct http_request *r, const struct http_framing *f)
{
	r->has_body = f->long_body || f->encodings > 0;
	if (f->hosts == 0 && !r->http10)
		return REFUSE_no_host;
	if (f->encodings > 0 && r->http10)
		return REFUSE_encoding_in_http10;
	if (f->encodings > 0 && f->lengths > 0)
		return REFUSE_length_and_encoding;
	if (f->encodings > 0 && !f->chunked)
		return REFUSE_unknown_encoding;
	return f->unknown_expectation && !r->http10 ? REFUSE_unknown_expectation : REFUSE_NONE;
}

enum refusal http_parse(struct span head, struct http_request *r)
{
	struct http_framing framing = {0};
	enum refusal why;
	struct span line;

	do {
		line = span_cut(&head, '\r');
		head = span_from(head, 1);
	} while (line.n == 0);
	why = http_request_line(line, r);
	while (why == REFUSE_NONE) {
		struct span value = span_cut(&head, '\r'), name;

		head = span_from(head, 1);
		if (value.n == 0)
			return http_framed(r, &framing);
		if (value.p[0] == ' ' || value.p[0] == '\t')
			return REFUSE_folded_header;
		if (memchr(value.p, ':', value.n) == NULL)
			return REFUSE_bad_header;
		name = span_cut(&value, ':');
		if (!is_token(name))
			return REFUSE_bad_header;
		why = http_header(name, span_trim(value), r, &framing);
	}
	return why;
}

bool http_unescape(struct span in, struct buf *out)
{
	if (in.n == 0 || memchr(in.p, '%', in.n) == NULL) {
		if (out != NULL)
			buf_span(out, in);
		return true;
	}
	for (size_t i = 0; i < in.n; i++) {
		int high, low;
		char c = in.p[i];

		if (c == '%') {
			if (in.n - i < 3 || (high = hex_digit(in.p[i + 1])) < 0 || (low = hex_digit(in.p[i + 2])) < 0)
				return false;
			c = (char)(high << 4 | low);
			if ((unsigned char)c < ' ' || c == 0x7f)
				return false;
			i += 2;
		}
		if (out != NULL)
			buf_byte(out, c);
	}
	return true;
}

int http_parameter(struct span query, const char *name, struct buf *out)
{
	char bytes[32];
	int found = 0;

	while (query.n > 0) {
		struct span value = span_cut(&query, '&'), key = span_cut(&value, '=');
		struct buf plain = buf_fixed(bytes, sizeof bytes);
		bool wanted;

		if (!http_unescape(key, &plain))
			return -1;
		wanted = !plain.failed && span_is(buf_view(&plain), name);
		found += wanted;
		if (!http_unescape(value, wanted ? out : NULL))
			return -1;
	}
	return found;
}

struct span http_bearer(struct span authorization)
{
	struct span none = {NULL, 0}, token = authorization, scheme = span_cut(&token, ' ');

	if (!span_is_nocase(scheme, "Bearer") && !span_is_nocase(scheme, "Token"))
		return none;
	token = span_trim(token);
	if (token.n == 0 || memchr(token.p, ' ', token.n) != NULL || memchr(token.p, '\t', token.n) != NULL)
		return none;
	return token;
}

enum refusal http_token(const struct http_request *r, bool query_too, struct buf *unescaped, struct span *token)
{
	int found = http_parameter(r->query, "token", unescaped);

	*token = http_bearer(r->authorization);
	if (token->p == NULL && query_too && found == 1)
		*token = buf_view(unescaped);
	if (found < 0)
		return REFUSE_bad_escape;
	if (found > 1)
		return REFUSE_two_tokens;
	return unescaped->failed ? REFUSE_no_memory : REFUSE_NONE;
}

void http_target_without(const struct http_request *r, const char *name, struct buf *out)
{
	struct span query = r->query;
	char between = '?';

	buf_span(out, r->path);
	while (query.n > 0) {
		struct span parameter = span_cut(&query, '&'), rest = parameter, key = span_cut(&rest, '=');
		char bytes[32];
		struct buf plain = buf_fixed(bytes, sizeof bytes);

		if (http_unescape(key, &plain) && !plain.failed && span_is(buf_view(&plain), name))
			continue;
		buf_byte(out, between);
		buf_span(out, parameter);
		between = '&';
	}
}

/* "08:49:37" */
static void buf_clock(struct buf *b, const struct tm *t)
{
	buf_padded(b, t->tm_hour, 2);
	buf_byte(b, ':');
	buf_padded(b, t->tm_min, 2);
	buf_byte(b, ':');
	buf_padded(b, t->tm_sec, 2);
}

void http_date(struct buf *b, int64_t unix_s)
{
	static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	time_t when = (time_t)unix_s;
	struct tm t;

	gmtime_r(&when, &t);
	buf_text(b, days[t.tm_wday]);
	buf_text(b, ", ");
	buf_padded(b, t.tm_mday, 2);
	buf_byte(b, ' ');
	buf_text(b, months[t.tm_mon]);
	buf_byte(b, ' ');
	buf_padded(b, t.tm_year + 1900, 4);
	buf_byte(b, ' ');
	buf_clock(b, &t);
	buf_text(b, " GMT");
}

/* ---- answers to requests of ours: what Django says ---- */

/* The next line without its CR LF; false if it is not whole, or has a CR, LF or NUL in it. */
static bool response_line(struct span *rest, struct span *line)
{
	const char *end = rest->n > 0 ? memchr(rest->p, '\n', rest->n) : NULL;

	if (end == NULL || end == rest->p || end[-1] != '\r')
		return false;
	*line = span_cut(rest, '\n');
	line->n--;
	return memchr(line->p, '\r', line->n) == NULL && memchr(line->p, '\0', line->n) == NULL;
}

/* The same, taken apart at its colon. */
static bool response_field(struct span *rest, struct span *name, struct span *value)
{
	if (!response_line(rest, value) || memchr(value->p, ':', value->n) == NULL)
		return false;
	*name = span_cut(value, ':');
	*value = span_trim(*value);
	return is_token(*name);
}

/* The next member of a list, up to a comma that is in no quoted string (RFC 9110 section 5.6.1). */
static struct span list_cut(struct span *list)
{
	struct span member = {list->p, 0};
	bool quoted = false;

	for (; member.n < list->n && (quoted || list->p[member.n] != ','); member.n++) {
		if (list->p[member.n] == '"')
			quoted = !quoted;
		else if (quoted && list->p[member.n] == '\\' && member.n + 1 < list->n)
			member.n++;
	}
	*list = span_from(*list, member.n < list->n ? member.n + 1 : member.n);
	return span_trim(member);
}

/* What the headers say about where the body ends, and about what comes after it. */
struct response_framing {
	struct http_framing lengths;
	int64_t length; /* -1: not given */
	bool bad, close, http10;
};

/* The first max-age counts; one that is no number is 0 (RFC 9111 section 4.2.1). */
static void response_max_age(struct span value, struct http_response *r)
{
	while (value.n > 0) {
		struct span number = list_cut(&value), name = span_cut(&number, '=');
		int64_t seconds = 0;

		if (span_is_nocase(name, "no-store") || span_is_nocase(name, "no-cache"))
			r->max_age_s = 0;
		if (!span_is_nocase(name, "max-age") || r->max_age_s >= 0)
			continue;
		if (number.n >= 2 && number.p[0] == '"' && number.p[number.n - 1] == '"')
			number = (struct span){number.p + 1, number.n - 2};
		for (size_t i = 0; i < number.n && seconds >= 0; i++)
			seconds = !is_digit(number.p[i]) ? -1 : seconds < 1000000 ? seconds * 10 + (number.p[i] - '0') : seconds;
		r->max_age_s = seconds < 0 ? 0 : seconds;
	}
}

static void response_header(struct span name, struct span value, struct http_response *r, struct response_framing *f)
{
	if (span_is_nocase(name, "Content-Length")) {
		f->bad |= http_length(value, &f->lengths) != REFUSE_NONE;
		f->length = 0;
		for (size_t i = 0; i < value.n && !f->bad; i++)
			f->length = f->length * 10 + (value.p[i] - '0');
	} else if (span_is_nocase(name, "Transfer-Encoding")) {
		f->bad |= f->lengths.encodings++ > 0 || !span_is_nocase(value, "chunked");
	} else if (span_is_nocase(name, "Connection")) {
		while (value.n > 0) {
			struct span option = span_trim(span_cut(&value, ','));

			r->keep_alive |= span_is_nocase(option, "keep-alive");
			f->close |= span_is_nocase(option, "close");
		}
	} else if (span_is_nocase(name, "Cache-Control")) {
		response_max_age(value, r);
	}
}

/* A whole head of an answer, without the empty line at its end. False if it is not HTTP/1.x. */
static bool response_head(struct span head, struct http_response *r, struct response_framing *f)
{
	struct span line, name;

	*f = (struct response_framing){.length = -1};
	*r = (struct http_response){.max_age_s = -1};
	if (!response_line(&head, &line) || line.n < 12 || memcmp(line.p, "HTTP/1.", 7) != 0
		|| !is_digit(line.p[7]) || line.p[8] != ' ' || (line.n > 12 && line.p[12] != ' '))
		return false;
	for (int i = 9; i < 12; i++) {
		if (!is_digit(line.p[i]))
			return false;
		r->status = r->status * 10 + (line.p[i] - '0');
	}
	r->keep_alive = line.p[7] != '0';
	f->http10 = line.p[7] == '0';
	while (head.n > 0) {
		if (!response_field(&head, &name, &line))
			return false;
		response_header(name, line, r, f);
	}
	r->keep_alive &= !f->close;
	return !f->bad && r->status >= 100 && (f->lengths.encodings == 0 || (f->lengths.lengths == 0 && !f->http10));
}

/* The size in the line before a chunk: hex digits, then nothing, or extensions. -1 for a mistake. */
static int64_t response_chunk_size(struct span line)
{
	int64_t size = 0;
	size_t digits = 0;

	for (; digits < line.n && hex_digit(line.p[digits]) >= 0; digits++)
		if ((size = size * 16 + hex_digit(line.p[digits])) > MAX_ANSWER)
			return -1;
	if (digits == 0)
		return -1;
	line = span_from(line, digits);
	return line.n == 0 || (span_trim(line).n > 0 && span_trim(line).p[0] == ';') ? size : -1;
}

enum { PART_CUT = -1, PART_BAD = -2, CHUNK_LINE = 256 };

/* A line of a chunked body. Returns its bytes with CR LF, PART_CUT or PART_BAD. */
static int64_t response_chunk_line(struct span rest, struct span *line)
{
	size_t before = rest.n;

	if (rest.n == 0 || memchr(rest.p, '\n', rest.n < CHUNK_LINE + 2 ? rest.n : CHUNK_LINE + 2) == NULL)
		return rest.n < CHUNK_LINE + 2 ? PART_CUT : PART_BAD;
	return response_line(&rest, line) ? (int64_t)(before - rest.n) : PART_BAD;
}

/*
 * Walks the chunks of a body (RFC 9112 section 7.1); puts them together at its beginning if `join`.
 * Returns the bytes they take up, PART_CUT or PART_BAD; *length is the body's.
 */
static int64_t response_chunks(char *bytes, size_t n, bool join, size_t *length)
{
	struct span line, name;
	size_t at = 0;
	int64_t size, got;

	*length = 0;
	do {
		got = response_chunk_line((struct span){bytes + at, n - at}, &line);
		size = got > 0 ? response_chunk_size(line) : 0;
		if (got < 0 || size < 0)
			return got < 0 ? got : PART_BAD;
		at += (size_t)got;
		if (size == 0)
			break;
		if (n - at < (size_t)size + 2)
			return PART_CUT;
		if (memcmp(bytes + at + size, "\r\n", 2) != 0)
			return PART_BAD;
		if (join)
			memmove(bytes + *length, bytes + at, (size_t)size);
		*length += (size_t)size;
		at += (size_t)size + 2;
	} while (true);
	for (;; at += (size_t)got) { /* trailers, and the empty line behind them */
		struct span rest = {bytes + at, n - at};

		got = response_chunk_line(rest, &line);
		if (got < 0)
			return got;
		if (line.n == 0)
			return (int64_t)at + got;
		if (!response_field(&rest, &name, &line))
			return PART_BAD;
	}
}

/* The body, once the head is known. Returns its bytes, framing and all, PART_CUT or PART_BAD. */
static int64_t response_body(char *bytes, size_t n, bool ended, const struct response_framing *f,
	struct http_response *r)
{
	size_t length = 0;
	int64_t got = 0;

	if (r->status == 204 || r->status == 304) {
		/* has none, whatever its head says: RFC 9112 section 6.3 */
	} else if (f->lengths.encodings > 0) {
		got = response_chunks(bytes, n, false, &length);
		if (got > 0)
			response_chunks(bytes, n, true, &length);
	} else if (f->length >= 0) {
		length = (size_t)f->length;
		got = n >= length ? f->length : PART_CUT;
	} else {
		r->keep_alive = false;
		length = n;
		got = ended ? (int64_t)n : PART_CUT;
	}
	r->body = (struct span){bytes, length};
	return got;
}

/* Can this still become a head of HTTP/1.x? */
static bool response_possible(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((i < 7 && s.p[i] != "HTTP/1."[i]) || (s.p[i] == '\n' && s.p[i - 1] != '\r'))
			return false;
	return true;
}

int64_t http_response(char *bytes, size_t n, bool ended, struct http_response *r)
{
	struct response_framing framing;
	size_t at = 0;
	int64_t got;

	do {
		const char *end = memmem(bytes + at, n - at, "\r\n\r\n", 4);
		size_t head = end == NULL ? 0 : (size_t)(end - bytes) + 2 - at;

		*r = (struct http_response){0};
		if (end == NULL)
			return response_possible((struct span){bytes + at, n - at}) ? 0 : -1;
		if (!response_head((struct span){bytes + at, head}, r, &framing)) {
			r->status = 0;
			return -1;
		}
		at += head + 2;
	} while (r->status < 200);
	got = response_body(bytes + at, n - at, ended, &framing, r);
	return got >= 0 ? (int64_t)at + got : got == PART_CUT ? 0 : -1;
}

/* ============================================================================================
 * sse: the frames of a stream (WHATWG HTML section 9.2)
 *
 * Every frame is one data line of JSON: json_value has made sure that it holds no CR and no LF,
 * which are the only line ends of the format, so no payload can end its frame early.
 * ============================================================================================ */

int sse_id_order(struct event_id a, struct event_id b)
{
	if (a.ms != b.ms)
		return a.ms < b.ms ? -1 : 1;
	return a.n < b.n ? -1 : a.n > b.n;
}

/* A number from 0 to most, as buf_number writes it: no sign, no zeros before it. */
static bool id_number(struct span text, int64_t most, int64_t *n)
{
	*n = 0;
	if (text.n == 0 || text.n > 16 || (text.n > 1 && text.p[0] == '0'))
		return false;
	for (size_t i = 0; i < text.n; i++) {
		if (!is_digit(text.p[i]))
			return false;
		*n = *n * 10 + (text.p[i] - '0');
	}
	return *n <= most;
}

bool sse_id_read(struct span text, struct event_id *id)
{
	struct span rest = text, ms = span_cut(&rest, '-');
	int64_t n;

	if (ms.n == text.n || !id_number(ms, INT64_C(1) << 53, &id->ms) || !id_number(rest, UINT32_MAX, &n))
		return false;
	id->n = (uint32_t)n;
	return true;
}

void sse_id(struct buf *b, struct event_id id)
{
	buf_number(b, id.ms);
	buf_byte(b, '-');
	buf_number(b, id.n);
}

void sse_frame(struct buf *b, const struct sse_event *e)
{
	buf_text(b, "id: ");
	sse_id(b, e->id);
	buf_text(b, "\ndata: {\"event\":");
	json_write_string(b, e->name);
	buf_text(b, ",\"data\":");
	buf_span(b, e->data);
	buf_text(b, ",\"timestamp\":");
	buf_number(b, e->timestamp);
	buf_text(b, "}\n\n");
}

void sse_keepalive(struct buf *b, int64_t unix_s)
{
	buf_text(b, "data: {\"event\":\"keepalive\",\"timestamp\":");
	buf_number(b, unix_s);
	buf_text(b, "}\n\n");
}

void sse_retry(struct buf *b, int64_t retry_ms)
{
	buf_text(b, "retry: ");
	buf_number(b, retry_ms);
	buf_text(b, "\n\n");
}

void sse_connected(struct buf *b, const struct event_id *id)
{
	if (id != NULL) {
		buf_text(b, "id: ");
		sse_id(b, *id);
		buf_byte(b, '\n');
	}
	buf_text(b, "data: {\"event\":\"connected\",\"message\":\"SSE connection established\"}\n\n");
}

size_t sse_chunk(struct buf *b, struct span body)
{
	size_t from = b->len, before;
	char digits[2 * sizeof body.n];
	size_t at = sizeof digits, rest = body.n;

	do
		digits[--at] = "0123456789abcdef"[rest & 15];
	while ((rest >>= 4) > 0);
	buf_bytes(b, digits + at, sizeof digits - at);
	buf_text(b, "\r\n");
	before = b->len - from;
	buf_span(b, body);
	buf_text(b, "\r\n");
	return before;
}

/* ============================================================================================
 * addresses: where a request comes from
 *
 * A proxy's word is taken only if the proxy is one of --trusted-proxy. It adds the address that it sees
 * behind what the client sent in X-Forwarded-For, so the list is read from its end.
 * ============================================================================================ */

/* Digits: how large it is matters to nobody. */
static bool is_port(struct span port)
{
	for (size_t i = 0; i < port.n; i++)
		if (!is_digit(port.p[i]))
			return false;
	return port.n > 0 && port.n <= 5;
}

bool address_parse(struct span text, struct address *a)
{
	const char *colon = text.n > 0 ? memchr(text.p, ':', text.n) : NULL;
	bool four = colon == NULL || memchr(colon + 1, ':', text.n - (size_t)(colon + 1 - text.p)) == NULL;
	char host[INET6_ADDRSTRLEN] = "";
	struct span port = text;

	if (text.n > 0 && text.p[0] == '[') {
		if (memchr(text.p, ']', text.n) == NULL)
			return false;
		port = span_from(text, 1);
		text = span_cut(&port, ']');
		if (port.n > 0 && (port.p[0] != ':' || !is_port(span_from(port, 1))))
			return false;
		four = false;
	} else if (four) {
		text = span_cut(&port, ':');
		if (colon != NULL && !is_port(port))
			return false;
	}
	if (text.n == 0 || text.n >= sizeof host || memchr(text.p, 0, text.n) != NULL)
		return false;
	memcpy(host, text.p, text.n);
	memcpy(a->bytes, (uint8_t[12]){[10] = 0xff, [11] = 0xff}, 12);
	return inet_pton(four ? AF_INET : AF_INET6, host, four ? a->bytes + 12 : a->bytes) == 1;
}

static bool address_is_four(const struct address *a)
{
	return memcmp(a->bytes, (uint8_t[12]){[10] = 0xff, [11] = 0xff}, 12) == 0;
}

void address_write(struct buf *b, const struct address *a)
{
	char text[INET6_ADDRSTRLEN];
	bool four = address_is_four(a);

	buf_text(b, inet_ntop(four ? AF_INET : AF_INET6, four ? a->bytes + 12 : a->bytes, text, sizeof text));
}

/* The address of a peer; false for one of a Unix socket. */
static bool address_of(const struct sockaddr_storage *peer, struct address *a)
{
	const struct sockaddr_in *four = (const struct sockaddr_in *)(const void *)peer;
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)(const void *)peer;

	memcpy(a->bytes, (uint8_t[12]){[10] = 0xff, [11] = 0xff}, 12);
	if (peer->ss_family == AF_INET)
		memcpy(a->bytes + 12, &four->sin_addr, 4);
	else if (peer->ss_family == AF_INET6)
		memcpy(a->bytes, &six->sin6_addr, 16);
	return peer->ss_family == AF_INET || peer->ss_family == AF_INET6;
}

bool network_parse(struct span text, struct network *n)
{
	struct span bits = text, host = span_cut(&bits, '/');
	int most;

	*n = (struct network){.bits = -1};
	if (span_is(text, "unix"))
		return true;
	if (!address_parse(host, &n->first) || (host.n < text.n && (bits.n == 0 || bits.n > 3)))
		return false;
	most = address_is_four(&n->first) ? 32 : 128;
	if (host.n == text.n)
		n->bits = most;
	for (size_t i = 0; i < bits.n && host.n < text.n; i++) {
		if (!is_digit(bits.p[i]))
			return false;
		n->bits = (i == 0 ? 0 : n->bits * 10) + (bits.p[i] - '0');
	}
	if (n->bits > most)
		return false;
	n->bits += 128 - most;
	return true;
}

bool network_has(const struct network *n, const struct address *a)
{
	int whole = n->bits / 8, rest = n->bits % 8;

	if (n->bits < 0 || memcmp(n->first.bytes, a->bytes, (size_t)whole) != 0)
		return false;
	return rest == 0 || ((n->first.bytes[whole] ^ a->bytes[whole]) >> (8 - rest)) == 0;
}

static bool networks_have(const struct network *networks, int count, const struct address *a)
{
	for (int i = 0; i < count; i++)
		if (a == NULL ? networks[i].bits < 0 : network_has(&networks[i], a))
			return true;
	return false;
}

bool forwarded_for(struct span list, const struct network *proxies, int count, struct address *a)
{
	bool found = false;

	while (list.n > 0) {
		const char *comma = memrchr(list.p, ',', list.n);
		struct span last = comma == NULL ? list : span_from(list, (size_t)(comma + 1 - list.p));
		struct address one;

		if (!address_parse(span_trim(last), &one))
			return false;
		*a = one;
		found = true;
		if (!networks_have(proxies, count, a))
			return true;
		list.n = comma == NULL ? 0 : (size_t)(comma - list.p);
	}
	return found; /* a proxy asks for itself */
}

/* ============================================================================================
 * options: one table (OPTIONS in sse.h) feeds flags, environment, file and --help
 * ============================================================================================ */

enum option_type {
	TYPE_ADDRESSES, TYPE_ORIGINS, TYPE_TEXT, TYPE_PREFIX, TYPE_URL, TYPE_WORD, TYPE_HOST, TYPE_MODE, TYPE_LEVEL,
	TYPE_SYNC, TYPE_SWITCH, TYPE_NETWORKS, TYPE_COUNT, TYPE_BYTES, TYPE_DURATION
};

/* Where a value came from; a higher one wins. */
enum option_source { SOURCE_PRESET, SOURCE_FILE, SOURCE_ENV, SOURCE_FLAG };

struct option {
	enum option_type type;
	size_t offset; /* of its field in struct options */
	const char *flag, *preset;
	int64_t least, most;
	const char *placeholder, *help;
};

static const struct option option_table[] = {
#define X(type, field, flag, preset, least, most, placeholder, help) \
	{TYPE_##type, offsetof(struct options, field), flag, preset, least, most, placeholder, help},
	OPTIONS(X)
#undef X
};
enum { OPTION_COUNT = sizeof option_table / sizeof option_table[0] };

static const struct {
	const char *name;
	int64_t factor;
} units_bytes[] = {{"", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}},
  units_time[] = {{"s", 1000}, {"", 1000}, {"ms", 1}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}},
  units_count[] = {{"", 1}};

/* A whole number and one of the units; false if it is neither, or too large. */
static bool option_number(enum option_type type, const char *text, int64_t *out)
{
	size_t units = type == TYPE_BYTES ? 4 : type == TYPE_DURATION ? 6 : 1;
	int64_t n = 0;
	const char *p = text;

	for (; is_digit(*p); p++)
		if ((n = n * 10 + (*p - '0')) > INT64_C(1) << 40)
			return false;
	for (size_t i = 0; p > text && i < units; i++) {
		const char *name = type == TYPE_BYTES ? units_bytes[i].name
			: type == TYPE_DURATION ? units_time[i].name : units_count[i].name;
		int64_t factor = type == TYPE_BYTES ? units_bytes[i].factor
			: type == TYPE_DURATION ? units_time[i].factor : 1;

		if (strcmp(p, name) == 0 && n <= INT64_MAX / factor) {
			*out = n * factor;
			return true;
		}
	}
	return false;
}

/* The number again as one would write it: 204800 as 200K, 30000 ms as 30s. */
static void option_show(struct buf *b, enum option_type type, int64_t n)
{
	const char *unit = type == TYPE_DURATION ? "ms" : "";

	for (int i = 1; type == TYPE_BYTES && i < 4 && n > 0 && n % 1024 == 0; i++) {
		n /= 1024;
		unit = units_bytes[i].name;
	}
	if (type == TYPE_DURATION && n % 1000 == 0) {
		n /= 1000;
		unit = "s";
	}
	buf_number(b, n);
	buf_text(b, unit);
}

static void option_takes(struct buf *b, const struct option *o)
{
	switch (o->type) {
	case TYPE_ADDRESSES:
		buf_text(b, "HOST:PORT (HOST a number or localhost), [IPV6]:PORT, :PORT (every address) or unix:/PATH");
		return;
	case TYPE_ORIGINS:
	case TYPE_NETWORKS:
		buf_text(b, o->help);
		return;
	case TYPE_PREFIX:
		buf_text(b, "nothing, or a path that begins with / and does not end with it");
		return;
	case TYPE_URL:
		buf_text(b, "http://HOST:PORT/PATH (HOST a number or localhost) or unix:/SOCKET:/PATH");
		return;
	case TYPE_WORD:
		buf_text(b, "a word of letters, digits and -._~+ of ");
		break;
	case TYPE_HOST:
		buf_text(b, "HOST or HOST:PORT");
		return;
	case TYPE_TEXT:
		buf_text(b, "a text of ");
		break;
	case TYPE_MODE:
		buf_text(b, "permissions in octal, as 0660");
		return;
	case TYPE_LEVEL:
		buf_text(b, "error, warning or info");
		return;
	case TYPE_SYNC:
		buf_text(b, "none, batch or always");
		return;
	case TYPE_SWITCH:
		buf_text(b, "on or off");
		return;
	case TYPE_COUNT:
		buf_text(b, "a whole number from ");
		break;
	case TYPE_BYTES:
		buf_text(b, "a number of bytes (K, M and G may follow) from ");
		break;
	case TYPE_DURATION:
		buf_text(b, "a time (ms, s, m, h or d may follow; seconds if none does) from ");
		break;
	}
	option_show(b, o->type, o->least);
	buf_text(b, " to ");
	option_show(b, o->type, o->most);
	if (o->type == TYPE_TEXT || o->type == TYPE_WORD)
		buf_text(b, " bytes");
}

static bool mode_read(const char *text, int64_t *mode)
{
	const char *p = text;

	for (*mode = 0; *p >= '0' && *p <= '7' && *mode <= 0777; p++)
		*mode = *mode * 8 + (*p - '0');
	return p > text && *p == '\0' && *mode <= 0777;
}

static const char *const level_names[] = {"error", "warning", "info", NULL};
static const char *const sync_names[] = {"none", "batch", "always", NULL};
static const char *const switch_names[] = {"off", "on", NULL};

/* One of a few words: its place among them. */
static bool word_read(const char *text, const char *const *names, int64_t *place)
{
	for (*place = 0; names[*place] != NULL; ++*place)
		if (strcmp(text, names[*place]) == 0)
			return true;
	return false;
}

/*
 * HOST:PORT, [IPV6]:PORT, :PORT or unix:/PATH. Hosts are numbers, or localhost: a server that
 * waits for DNS when it starts is one more thing that fails at night.
 */
static bool address_read(const char *text, struct sockaddr_storage *address, socklen_t *bytes)
{
	struct sockaddr_un *path = (struct sockaddr_un *)(void *)address;
	struct sockaddr_in *four = (struct sockaddr_in *)(void *)address;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)address;
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN + 2] = "";
	int64_t port;

	memset(address, 0, sizeof *address);
	if (strncmp(text, "unix:", 5) == 0) {
		*bytes = sizeof *path;
		path->sun_family = AF_UNIX;
		if (text[5] != '/' || strlen(text + 5) > 98)
			return false;
		memcpy(path->sun_path, text + 5, strlen(text + 5));
		return true;
	}
	if (colon == NULL || (size_t)(colon - text) >= sizeof host || colon[1] == '\0'
		|| !option_number(TYPE_COUNT, colon + 1, &port) || port > 65535)
		return false;
	memcpy(host, text, (size_t)(colon - text));
	*bytes = sizeof *six;
	six->sin6_family = AF_INET6;
	six->sin6_port = htons((uint16_t)port);
	if (host[0] == '\0')
		return true;
	if (host[0] == '[') {
		size_t end = strlen(host) - 1;

		if (host[end] != ']')
			return false;
		host[end] = '\0';
		return inet_pton(AF_INET6, host + 1, &six->sin6_addr) == 1;
	}
	*bytes = sizeof *four;
	memset(address, 0, sizeof *address);
	four->sin_family = AF_INET;
	four->sin_port = htons((uint16_t)port);
	return inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &four->sin_addr) == 1;
}

/* http://HOST[:PORT]/PATH or unix:/SOCKET:/PATH; host is what belongs into a Host header. */
static bool url_read(const char *text, struct sockaddr_storage *address, socklen_t *bytes, struct span *host,
	struct span *path)
{
	struct span rest = span_of(text);
	char place[256];
	struct buf b = buf_fixed(place, sizeof place - 1);

	if (rest.n > 5 && memcmp(text, "unix:", 5) == 0) {
		rest = span_from(rest, 5);
		*host = span_cut(&rest, ':');
		buf_text(&b, "unix:");
		buf_span(&b, *host);
		*host = span_of("localhost");
	} else if (rest.n > 7 && memcmp(text, "http://", 7) == 0) {
		rest = span_from(rest, 7);
		*host = (struct span){rest.p, strcspn(rest.p, "/")};
		rest = span_from(rest, host->n);
		buf_span(&b, *host);
		if (host->n > 0 && (memchr(host->p, ':', host->n) == NULL || host->p[host->n - 1] == ']'))
			buf_text(&b, ":80");
		if (host->n == 0 || host->p[0] == ':')
			return false;
	} else {
		return false;
	}
	place[b.len] = '\0';
	*path = rest;
	for (size_t i = 0; i < rest.n; i++)
		if (rest.p[i] <= ' ' || rest.p[i] >= 0x7f || rest.p[i] == '#')
			return false;
	return !b.failed && rest.n > 0 && rest.n <= 1024 && rest.p[0] == '/' && address_read(place, address, bytes);
}

/* "*", "null", or scheme://host[:port] as a browser writes it in Origin: no path, no slash. */
static bool origin_check(const char *text)
{
	struct span host = span_of(text), scheme = span_cut(&host, ':');

	if (strcmp(text, "*") == 0 || strcmp(text, "null") == 0)
		return true;
	for (const char *p = text; *p != '\0'; p++)
		if (*p != lower(*p))
			return false; /* a browser writes none of it in capitals */
	for (size_t i = 0; i < scheme.n; i++)
		if (!is_alnum(scheme.p[i]) && (i == 0 || strchr("+-.", scheme.p[i]) == NULL))
			return false;
	if (scheme.n == 0 || is_digit(scheme.p[0]) || host.n < 3 || host.p[0] != '/' || host.p[1] != '/' || host.p[2] == ':')
		return false;
	return is_host(span_from(host, 2));
}

static bool list_add(struct option_list *list, const char *value, int source)
{
	if (list->source != source)
		*list = (struct option_list){.source = source};
	if (value[0] == '\0')
		return true;
	if (list->count == MAX_LISTEN)
		return false;
	list->items[list->count++] = value;
	return true;
}

static bool option_set(struct options *o, const struct option *row, const char *value, int source)
{
	void *field = (char *)o + row->offset;
	int64_t *number = field;
	struct sockaddr_storage address;
	struct network network;
	struct span host, path;
	socklen_t bytes;

	switch (row->type) {
	case TYPE_ADDRESSES:
		return ((value[0] == '\0' && row->preset[0] == '\0') || address_read(value, &address, &bytes))
			&& list_add(field, value, source);
	case TYPE_ORIGINS:
		return (value[0] == '\0' || origin_check(value)) && list_add(field, value, source);
	case TYPE_NETWORKS:
		return (value[0] == '\0' || network_parse(span_of(value), &network)) && list_add(field, value, source);
	case TYPE_PREFIX:
		*(const char **)field = value;
		return value[0] == '\0' || (value[0] == '/' && value[strlen(value) - 1] != '/'
			&& strlen(value) <= (size_t)row->most);
	case TYPE_URL:
		*(const char **)field = value;
		return value[0] == '\0' || url_read(value, &address, &bytes, &host, &path);
	case TYPE_HOST:
		*(const char **)field = value;
		return strlen(value) <= (size_t)row->most && is_host(span_of(value));
	case TYPE_WORD:
		*(const char **)field = value;
		return is_token(span_of(value)) && (int64_t)strlen(value) <= row->most;
	case TYPE_TEXT:
		*(const char **)field = value;
		return (int64_t)strlen(value) >= row->least && (int64_t)strlen(value) <= row->most;
	case TYPE_MODE:
		return mode_read(value, number);
	case TYPE_LEVEL:
		return word_read(value, level_names, number);
	case TYPE_SYNC:
		return word_read(value, sync_names, number);
	case TYPE_SWITCH:
		return word_read(value, switch_names, number);
	default:
		return option_number(row->type, value, number) && *number >= row->least && *number <= row->most;
	}
}

static const struct option *option_find(struct span flag)
{
	for (int i = 0; i < OPTION_COUNT; i++)
		if (span_is(flag, option_table[i].flag))
			return &option_table[i];
	return NULL;
}

/* Appends what a user gave; an error stays one line, whatever that is. */
static void error_show(struct buf *error, const char *text)
{
	for (; *text != '\0'; text++)
		buf_byte(error, (unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text);
}

/* Sets an option, or says in error what is wrong: where is how the user named it. */
static bool option_take(struct options *o, const struct option *row, const char *where, const char *value,
	int source, struct buf *error)
{
	struct option_list *list = (struct option_list *)(void *)((char *)o + row->offset);

	if (option_set(o, row, value, source))
		return true;
	error_show(error, where);
	buf_text(error, ": got \"");
	error_show(error, value);
	buf_text(error, "\", takes ");
	if ((row->type == TYPE_ADDRESSES || row->type == TYPE_ORIGINS || row->type == TYPE_NETWORKS)
		&& list->count == MAX_LISTEN && list->source == source)
		buf_text(error, "no more than 16 of them");
	else
		option_takes(error, row);
	return false;
}

/* SSE_ and the flag in capitals, with _ for -. */
static void option_variable(const struct option *row, char name[64])
{
	struct buf b = buf_fixed(name, 63);

	buf_text(&b, "SSE_");
	for (const char *p = row->flag; *p != '\0'; p++)
		buf_byte(&b, (char)(*p == '-' ? '_' : *p - 'a' + 'A'));
	name[b.len] = '\0';
}

static bool options_env(struct options *o, char **env, struct buf *error)
{
	for (int i = 0; i < OPTION_COUNT; i++) {
		char name[64];
		size_t n;

		option_variable(&option_table[i], name);
		n = strlen(name);
		for (char **e = env; *e != NULL; e++)
			if (strncmp(*e, name, n) == 0 && (*e)[n] == '='
				&& !option_take(o, &option_table[i], name, *e + n + 1, SOURCE_ENV, error))
				return false;
	}
	return true;
}

/* Cuts blanks off both ends of a line, in place. */
static char *text_trim(char *text)
{
	size_t n;

	text += strspn(text, " \t\r");
	for (n = strlen(text); n > 0 && strchr(" \t\r", text[n - 1]) != NULL; n--)
		text[n - 1] = '\0';
	return text;
}

static bool options_file_line(struct options *o, const char *path, int number, char *line, struct buf *error)
{
	char where[4096 + 64];
	struct buf b = buf_fixed(where, sizeof where - 1);
	char *equals = strchr(line, '=');
	const struct option *row;

	line = text_trim(line);
	if (line[0] == '\0' || line[0] == '#')
		return true;
	if (equals != NULL)
		*equals = '\0';
	line = text_trim(line);
	row = option_find(span_of(line));
	buf_text(&b, path);
	buf_byte(&b, ':');
	buf_number(&b, number);
	buf_text(&b, ": ");
	buf_text(&b, line);
	where[b.len] = '\0';
	if (equals != NULL && row != NULL)
		return option_take(o, row, where, text_trim(equals + 1), SOURCE_FILE, error);
	error_show(error, where);
	buf_text(error, equals == NULL ? ": takes KEY = VALUE, or # and a remark"
		: ": no such option; the keys are the flags of sse --help without --");
	return false;
}

/* Under systemd a directory that is not named in the unit looks like a disk that is read-only. */
static const char *error_text(int error)
{
	return error == EROFS ? "Read-only file system (under systemd: name the directory in ReadWritePaths=)" : strerror(error);
}

/* "--listen 127.0.0.1:80: what: why"; why is an errno, or 0. */
static bool error_line(struct buf *error, const char *flag, const char *value, const char *what, int why)
{
	buf_text(error, flag);
	buf_byte(error, ' ');
	buf_text(error, value);
	buf_text(error, ": ");
	buf_text(error, what);
	if (why != 0) {
		buf_text(error, ": ");
		buf_text(error, error_text(why));
	}
	return false;
}

/* A whole file, with a NUL behind it; NULL with errno set. The caller frees it. */
static char *file_read(const char *path, size_t most, size_t *bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), saved;
	struct buf b = buf_growable();
	char part[4096];
	struct stat st;
	ssize_t n = -1;

	/* Room for all of it at once: realloc would leave copies behind, of what may be secret. */
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0 && (size_t)st.st_size <= most)
		buf_room(&b, (size_t)st.st_size + 1);
	while (fd >= 0 && !b.failed && b.len <= most && (n = read(fd, part, sizeof part)) > 0)
		buf_bytes(&b, part, (size_t)n);
	saved = n < 0 ? errno : b.failed ? ENOMEM : EFBIG;
	if (fd >= 0)
		close(fd);
	explicit_bzero(part, sizeof part);
	*bytes = b.len;
	buf_byte(&b, '\0');
	if (n == 0 && !b.failed)
		return b.data;
	buf_free(&b);
	*bytes = 0;
	errno = saved;
	return NULL;
}

/* The next number of a line. */
static int64_t number_next(struct span *rest)
{
	struct span digits = span_cut(rest, ' ');
	int64_t n = 0;

	for (size_t i = 0; i < digits.n && is_digit(digits.p[i]) && n < INT64_MAX / 16; i++)
		n = n * 10 + (digits.p[i] - '0');
	return n;
}

/* where is how the user named the file: --config or SSE_CONFIG. */
static bool options_file(struct options *o, const char *where, const char *path, struct buf *error)
{
	size_t bytes;
	char *line, *next;
	int number = 1;

	o->file_text = file_read(path, 1 << 20, &bytes);
	if (o->file_text == NULL || strlen(o->file_text) != bytes) {
		buf_text(error, where);
		buf_text(error, ": cannot read ");
		error_show(error, path);
		buf_text(error, ": ");
		buf_text(error, o->file_text == NULL ? strerror(errno) : "it has a NUL byte");
		return false;
	}
	for (line = o->file_text; line != NULL; line = next, number++) {
		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		if (!options_file_line(o, path, number, line, error))
			return false;
	}
	return true;
}

/* Takes one of the few without a value. */
static bool option_bare(struct options *o, struct span name)
{
	if (span_is(name, "--help") || span_is(name, "-h"))
		return o->help = true;
	if (span_is(name, "--version"))
		return o->version = true;
	if (span_is(name, "--check-config"))
		return o->check_config = true;
	if (span_is(name, "--status"))
		return o->status = true;
	if (span_is(name, "--watch"))
		return o->status = o->watch = true;
	return false;
}

/*
 * One flag of argv: "--flag value", "--flag=value", or one of the few without a value. The first
 * pass over argv (set is false) only finds --config, because the file comes before the flags.
 */
static bool options_flag(struct options *o, char **argv, int *i, const char **config, bool set, struct buf *error)
{
	struct span text = span_of(argv[*i]), name = span_cut(&text, '=');
	const struct option *row = NULL;
	char where[64];

	if (option_bare(o, name)) {
		if (name.p[name.n] != '=')
			return true;
		error_show(error, argv[*i]);
		buf_text(error, ": this option has no value");
		return false;
	}
	if (name.n > 2 && memcmp(name.p, "--", 2) == 0)
		row = option_find(span_from(name, 2));
	if (row == NULL && !span_is(name, "--config")) {
		error_show(error, argv[*i]);
		buf_text(error, ": no such option; see sse --help");
		return false;
	}
	if (name.p[name.n] != '=' && argv[*i + 1] == NULL) {
		buf_span(error, name);
		buf_text(error, ": a value must follow");
		return false;
	}
	if (name.p[name.n] != '=')
		text = span_of(argv[++*i]);
	if (row == NULL)
		*config = text.p;
	memcpy(where, name.p, name.n);
	where[name.n] = '\0';
	return row == NULL || !set || option_take(o, row, where, text.p, SOURCE_FLAG, error);
}

/* What the rows can't say: values that must fit each other. */
static bool options_agree(const struct options *o, struct buf *error)
{
	int64_t needed = o->queue * (o->datagram + 256) / 4 * 5;

	if (o->history_bytes < needed) {
		buf_text(error, "--history-bytes: got \"");
		option_show(error, TYPE_BYTES, o->history_bytes);
		buf_text(error, "\"; --queue ");
		buf_number(error, o->queue);
		buf_text(error, " and --datagram ");
		option_show(error, TYPE_BYTES, o->datagram);
		buf_text(error, " need at least ");
		option_show(error, TYPE_BYTES, (needed + 1023) / 1024 * 1024);
		return false;
	}
	if (o->target > o->head) {
		buf_text(error, "--target: must not be more than --head");
		return false;
	}
	return true;
}

bool options_read(struct options *o, int argc, char **argv, char **env, struct buf *error)
{
	const char *config = "", *variable = "";

	*o = (struct options){0};
	for (int i = 0; i < OPTION_COUNT; i++)
		option_set(o, &option_table[i], option_table[i].preset, SOURCE_PRESET);
	for (char **e = env; *e != NULL; e++)
		if (strncmp(*e, "SSE_CONFIG=", 11) == 0)
			config = variable = *e + 11;
	for (int i = 1; i < argc; i++)
		if (!options_flag(o, argv, &i, &config, false, error))
			return false;
	if (config[0] != '\0' && !options_file(o, config == variable ? "SSE_CONFIG" : "--config", config, error))
		return false;
	if (!options_env(o, env, error))
		return false;
	for (int i = 1; i < argc; i++)
		if (!options_flag(o, argv, &i, &config, true, error))
			return false;
	return options_agree(o, error);
}

void options_free(struct options *o)
{
	free(o->file_text);
	o->file_text = NULL;
}

void options_help(struct buf *b)
{
	buf_text(b,
		"sse " SSE_VERSION " - pushes a Django site's events to every open browser, live\n"
		"\n"
		"usage: sse --auth-url URL | --ticket-key-file FILE | --token-file FILE [--listen ADDR] ...\n"
		"\n"
		"Every option is also a variable (--log-file: SSE_LOG_FILE) and a line of the file that\n"
		"--config names (log-file = PATH). A flag wins over a variable, a variable over the file.\n"
		"Sizes take K, M, G; times ms, s, m, h, d (seconds if none).\n"
		"\n");
	for (int i = 0; i < OPTION_COUNT; i++) {
		const struct option *row = &option_table[i];
		size_t from = b->len;

		buf_text(b, "  --");
		buf_text(b, row->flag);
		buf_byte(b, ' ');
		buf_text(b, row->placeholder);
		do
			buf_byte(b, ' ');
		while (b->len - from < 28 && !b->failed);
		buf_text(b, row->help);
		if (row->preset[0] != '\0') {
			buf_text(b, " (");
			buf_text(b, row->preset);
			buf_byte(b, ')');
		}
		buf_byte(b, '\n');
	}
	buf_text(b,
		"  --config FILE             lines KEY = VALUE\n"
		"  --check-config            read all of it, token and key files too, and say what is wrong\n"
		"  --status                  ask the sse that runs, by its --socket, how it is\n"
		"  --watch                   the same every second, until it is interrupted\n"
		"  --help, --version\n"
		"\n"
		"Signals: TERM and INT drain and end, a second one ends at once; HUP reads token and key files\n"
		"again; USR1 opens the log file anew.\n");
}

/* ============================================================================================
 * log: one line an event, in logfmt; every line has app=SSE
 *
 * Lines are gathered in a buffer and written once a turn. The loop never waits for who reads
 * them: what does not fit is dropped and counted, and the count is told when there is room
 * again. Values come from this program, from Django or from the token file, never from a client.
 * ============================================================================================ */

static void log_stamp(struct server *s, struct buf *b)
{
	int64_t second = s->wall_ms / 1000;
	time_t when = (time_t)second;
	struct buf stamp;
	struct tm t;

	if (second != s->log.stamp_s) {
		s->log.stamp_s = second;
		gmtime_r(&when, &t);
		stamp = buf_fixed(s->log.stamp, sizeof s->log.stamp - 1);
		buf_padded(&stamp, t.tm_year + 1900, 4);
		buf_byte(&stamp, '-');
		buf_padded(&stamp, t.tm_mon + 1, 2);
		buf_byte(&stamp, '-');
		buf_padded(&stamp, t.tm_mday, 2);
		buf_byte(&stamp, 'T');
		buf_clock(&stamp, &t);
		s->log.stamp[stamp.len] = '\0';
	}
	buf_text(b, s->log.stamp);
	buf_byte(b, '.');
	buf_padded(b, s->wall_ms % 1000, 3);
	buf_byte(b, 'Z');
}

/* Of LOG_ERROR, ...: sd-daemon(3). */
static const char *const level_priorities[] = {"<3>", "<4>", "<6>"};

/* Begins a line. Add log_text and log_number to it, then log_end. */
static struct buf *log_begin(struct server *s, enum log_level level, const char *message)
{
	struct buf *b = (int64_t)level <= s->opt.log_level ? &s->log.line : &s->log.none;

	if (s->log.priorities)
		buf_text(b, level_priorities[level]);
	buf_text(b, "time=");
	log_stamp(s, b);
	buf_text(b, " app=SSE level=");
	buf_text(b, level_names[level]);
	buf_text(b, " msg=");
	buf_text(b, message);
	return b;
}

static void log_number(struct buf *b, const char *key, int64_t value)
{
	buf_byte(b, ' ');
	buf_text(b, key);
	buf_byte(b, '=');
	buf_number(b, value);
}

static void log_span(struct buf *b, const char *key, struct span value)
{
	bool plain = value.n > 0;

	buf_byte(b, ' ');
	buf_text(b, key);
	buf_byte(b, '=');
	for (size_t i = 0; i < value.n; i++) {
		unsigned char c = (unsigned char)value.p[i];

		plain &= c > ' ' && c != '"' && c != '\\' && c != '=' && c != 0x7f;
	}
	if (plain)
		buf_span(b, value);
	else
		json_write_string(b, value);
}

static void log_text(struct buf *b, const char *key, const char *value)
{
	log_span(b, key, span_of(value));
}

/* What is no part of the log: to who started the program. False if it can't be written. */
static bool print(int fd, struct span text)
{
	while (text.n > 0) {
		ssize_t n = write(fd, text.p, text.n);

		if (n < 0 && errno != EINTR)
			return false;
		text = span_from(text, n < 0 ? 0 : (size_t)n);
	}
	return true;
}

/* Is stderr systemd's journal? It takes a priority before each line: systemd.exec(5) on JOURNAL_STREAM, sd-daemon(3). */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char text[48];
	struct buf own = buf_fixed(text, sizeof text);
	struct stat st;

	if (stream == NULL || fstat(STDERR_FILENO, &st) < 0)
		return false;
	buf_number(&own, (int64_t)st.st_dev);
	buf_byte(&own, ':');
	buf_number(&own, (int64_t)st.st_ino);
	return span_is(buf_view(&own), stream);
}

/* What is wrong with the log file is said on stderr, if that makes nobody wait. */
static void log_complain(const char *what, int error, const char *then)
{
	struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
	char text[256];
	struct buf b = buf_fixed(text, sizeof text);

	if (stderr_is_journal())
		buf_text(&b, level_priorities[LOG_ERROR]);
	buf_text(&b, "SSE: the log file ");
	buf_text(&b, what);
	buf_text(&b, " (");
	buf_text(&b, error_text(error));
	buf_text(&b, "); ");
	buf_text(&b, then);
	buf_byte(&b, '\n');
	if (poll(&ready, 1, 0) == 1)
		print(STDERR_FILENO, buf_view(&b));
}

/* A log that takes nothing is said once. */
static void log_failed(struct server *s, int error)
{
	struct log *log = &s->log;

	for (size_t i = 0; i < log->whole; i++)
		log->dropped += log->line.data[i] == '\n';
	buf_clear(&log->line);
	log->whole = 0;
	log->dropped_said = log->dropped_told;
	if (!log->failing && s->opt.log_file[0] != '\0')
		log_complain("takes nothing", error, "lines are dropped until it does");
	log->failing = true;
}

/* May a write be made that makes nobody wait? A pipe or socket that is ready takes a page. */
static bool log_ready(struct server *s, size_t *bytes)
{
	struct pollfd ready = {.fd = s->log.fd, .events = POLLOUT};

	if (!s->log.shared)
		return true;
	*bytes = *bytes < 4096 ? *bytes : 4096;
	return s->sys->poll(&ready, 1, 0) == 1;
}

static void log_flush(struct server *s)
{
	struct log *log = &s->log;

	while (log->whole > 0) {
		bool mend = log->failing && log->torn; /* first ends the line that was cut */
		size_t bytes = mend ? 1 : log->whole;
		ssize_t n;

		if (!log_ready(s, &bytes))
			return;
		n = s->sys->write(log->fd, mend ? "\n" : log->line.data, bytes);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			return;
		if (n <= 0) {
			log_failed(s, errno);
			return;
		}
		log->failing = false;
		log->torn = !mend && log->line.data[n - 1] != '\n';
		if (mend)
			continue;
		log->line.len -= (size_t)n;
		log->whole -= (size_t)n;
		memmove(log->line.data, log->line.data + n, log->line.len);
	}
	log->dropped_told = log->dropped_said;
}

static void log_end(struct server *s)
{
	struct log *log = &s->log;

	if (log->line.len > log->whole || log->line.failed)
		buf_byte(&log->line, '\n');
	if (log->line.failed) {
		log->line.len = log->whole;
		log->line.failed = false;
		log->dropped++;
	}
	log->whole = log->line.len;
	if (log->whole > sizeof log->bytes / 2)
		log_flush(s);
	if (log->dropped > log->dropped_said && !log->failing && log->whole < sizeof log->bytes / 2) {
		uint64_t lines = log->dropped - log->dropped_said;

		log->dropped_said = log->dropped;
		log_number(log_begin(s, LOG_ERROR, "log_lines_dropped"), "lines", (int64_t)lines);
		log_end(s);
	}
}

static const struct {
	const char *name;
	uint32_t most;
	int64_t window_ms;
} flood_limits[FLOOD_COUNT] = {
#define X(name, most, window_ms) {#name, most, window_ms},
	FLOODS(X)
#undef X
};

/* As log_begin, for a line that a fault may bring a thousand times: those too many are counted. */
static struct buf *log_flood(struct server *s, enum log_level level, enum flood which, const char *message)
{
	if (s->log.floods[which].count == 0)
		s->log.floods[which].since_ms = s->now_ms;
	if (s->log.floods[which].count == flood_limits[which].most) {
		s->log.floods[which].more++;
		return &s->log.none;
	}
	s->log.floods[which].count++;
	return log_begin(s, level, message);
}

/* Is there something to say when a window is over? */
static bool log_floods(const struct server *s)
{
	bool any = false;

	for (int i = 0; i < FLOOD_COUNT; i++)
		any |= s->log.floods[i].more > 0;
	return any;
}

/* Says how many lines were left out of floods whose window is over. */
static void log_floods_end(struct server *s)
{
	for (int i = 0; i < FLOOD_COUNT; i++) {
		struct buf *b;

		if (s->log.floods[i].count == 0 || s->now_ms - s->log.floods[i].since_ms < flood_limits[i].window_ms)
			continue;
		if (s->log.floods[i].more > 0) {
			b = log_begin(s, LOG_WARNING, "repeated");
			log_text(b, "what", flood_limits[i].name);
			log_number(b, "more", s->log.floods[i].more);
			log_end(s);
		}
		s->log.floods[i].count = s->log.floods[i].more = 0;
	}
}

/* ============================================================================================
 * ring: the owner of events, and of who they are for
 *
 * An event is its audience and its frame. The audience is kept because a stream may ask for the
 * event later: what it may see is decided then, by the user and the roles that it has then.
 * Neighbours with the same audience share it, so that their frames are neighbours in memory
 * and leave as one piece.
 * ============================================================================================ */

bool who_next(struct who_walk *w)
{
	uint8_t n;

	w->name = (struct span){NULL, 0};
	if (w->rest.n == 0)
		return false;
	n = (uint8_t)w->rest.p[0];
	if (n >= WHO_ALL) {
		w->mark = n;
		w->rest = span_from(w->rest, 1);
		if (n == WHO_ALL)
			return true;
		n = w->rest.n > 0 ? (uint8_t)w->rest.p[0] : UINT8_MAX;
	}
	if (n >= w->rest.n)
		return false;
	w->name = (struct span){w->rest.p + 1, n};
	w->rest = span_from(w->rest, n + 1u);
	return true;
}

struct event_id ring_next_id(const struct ring *r, int64_t wall_ms)
{
	if (wall_ms < r->least_ms)
		wall_ms = r->least_ms;
	if (wall_ms > r->newest.ms)
		return (struct event_id){wall_ms, 0};
	if (r->newest.n == UINT32_MAX)
		return (struct event_id){r->newest.ms + 1, 0};
	return (struct event_id){r->newest.ms, r->newest.n + 1};
}

const struct event *ring_event(const struct ring *r, uint32_t number)
{
	return number - r->oldest < r->next - r->oldest ? &r->list[number & r->mask] : NULL;
}

struct span ring_bytes(const struct ring *r, const struct event *e, bool chunked)
{
	struct span all = {r->bytes + e->offset, e->bytes};

	return chunked ? all : (struct span){all.p + e->before, all.n - e->before - 2};
}

struct span ring_who(const struct ring *r, const struct event *e)
{
	return (struct span){r->bytes + e->offset - e->who, e->who_bytes};
}

static void ring_drop(struct ring *r)
{
	const struct event *e = &r->list[r->oldest++ & r->mask];

	if (sse_id_order(e->id, r->floor) > 0)
		r->floor = e->id;
}

void ring_forget(struct ring *r, int64_t before_ms)
{
	while (r->oldest != r->next && r->list[r->oldest & r->mask].id.ms < before_ms)
		ring_drop(r);
}

/*
 * May the next event, of so many bytes, use the audience of the last one? Then how far before the end that
 * begins, else 0. Events go when their audience does, so not too many of them may have the same.
 */
static uint32_t ring_shared(const struct ring *r, struct span who, uint64_t bytes)
{
	const struct event *last = ring_event(r, r->next - 1);
	uint64_t back = last == NULL ? 0 : r->end - last->at + last->who, lap = r->end % r->size;

	if (last == NULL || who.n == 0 || who.n > SHARED_MAX || !span_same(ring_who(r, last), who))
		return 0;
	if (back > r->size / 64 || back > lap || lap + bytes > r->size || back + bytes > r->size)
		return 0;
	return (uint32_t)back;
}

uint32_t ring_append(struct ring *r, struct event_id id, struct span who, struct span frame)
{
	struct event *e;
	uint32_t shared = ring_shared(r, who, frame.n + 16);
	uint64_t lap = r->end % r->size, own = shared > 0 ? 0 : who.n, bytes = own + frame.n + 16;
	struct buf b;

	assert(bytes <= r->size);
	if (lap + bytes > r->size) {
		r->end += r->size - lap;
		lap = 0;
	}
	for (; r->oldest != r->next; ring_drop(r)) {
		e = &r->list[r->oldest & r->mask];
		if (r->next - r->oldest <= r->mask && e->at - e->who + r->size >= r->end + bytes)
			break;
	}
	b = buf_fixed(r->bytes + lap, bytes);
	if (shared == 0)
		buf_span(&b, who);
	e = &r->list[r->next & r->mask];
	e->before = (uint32_t)sse_chunk(&b, frame);
	assert(!b.failed);
	e->at = r->end + own;
	e->offset = lap + own;
	e->bytes = (uint32_t)(b.len - own);
	e->who = shared > 0 ? shared : (uint32_t)own;
	e->who_bytes = (uint32_t)who.n;
	e->id = r->newest = id;
	r->end += b.len;
	return r->next++;
}

enum resume ring_resume(const struct ring *r, struct event_id id, uint32_t *number)
{
	uint32_t low = r->oldest, high = r->next;
	const struct event *last;

	*number = r->next;
	if (sse_id_order(id, r->newest) > 0)
		return RESUME_newer;
	if (sse_id_order(id, r->floor) < 0)
		return RESUME_too_old;
	while (low != high) { /* the first event after id: ids rise with the numbers */
		uint32_t middle = low + (high - low) / 2;

		if (sse_id_order(r->list[middle & r->mask].id, id) > 0)
			high = middle;
		else
			low = middle + 1;
	}
	last = ring_event(r, low - 1);
	if (sse_id_order(id, r->floor) != 0 && (last == NULL || sse_id_order(last->id, id) != 0))
		return RESUME_unknown;
	*number = low;
	return RESUME_replay;
}

static const char *const resume_names[RESUME_COUNT] = {
#define X(name) [RESUME_##name] = #name,
	RESUMES(X)
#undef X
};

/* ============================================================================================
 * journal: the ring on disk
 *
 * What the ring has and the journal has not is written once a turn, from the ring's own bytes, before
 * any of it is acknowledged or leaves for a stream. A write that fails is made again at the same place,
 * of the same bytes, until it succeeds: what the ring still has then is not lost to the journal.
 * fdatasync may take seconds, so it is called by a thread of its own (syncer_main), which knows nothing
 * but a descriptor; the loop goes on meanwhile.
 *
 * No file is written to that holds anything the program could not read: it begins a new one. Segments
 * are removed when the ring has nothing of them any more, so that --history-bytes and --history-age
 * decide about the disk too.
 *
 * What is missing in the journal is never passed over in silence: the ring's floor is put behind it, so
 * that who has not seen it is told to reload. That holds for damage, and for what a failure of power took.
 * ============================================================================================ */

static const char journal_magic[8] = "SSE\r\n\x1a\n";

/* The check of several parts is that of each, begun with the one before. */
static uint64_t journal_check(uint64_t before, struct span part)
{
	uint8_t key[16] = "--------journal";

	memcpy(key, &before, sizeof before);
	return hash_whole(key, part);
}

static uint32_t record_check(const struct journal_record *r)
{
	return (uint32_t)journal_check(0, (struct span){(const char *)r, offsetof(struct journal_record, check)});
}

struct journal_head journal_head(struct event_id after, uint64_t boot)
{
	struct journal_head h = {.version = JOURNAL_VERSION, .after_n = after.n, .after_ms = after.ms, .boot = boot};

	memcpy(h.magic, journal_magic, sizeof h.magic);
	h.check = journal_check(0, (struct span){(char *)&h, sizeof h});
	return h;
}

struct journal_record journal_record(struct event_id id, struct span who, struct span frame)
{
	struct journal_record r = {JOURNAL_RECORD, (uint32_t)who.n, (uint32_t)frame.n, id.n, id.ms, 0, 0};

	r.check = record_check(&r);
	r.parts_check = (uint32_t)journal_check(journal_check(r.check, who), frame);
	return r;
}

enum journal_kind journal_head_read(struct span segment, struct journal_head *head)
{
	uint64_t check;

	if (segment.n < sizeof *head || memcmp(segment.p, journal_magic, sizeof journal_magic) != 0)
		return JOURNAL_DAMAGED;
	memcpy(head, segment.p, sizeof *head);
	check = head->check;
	head->check = 0;
	if (journal_check(0, (struct span){(char *)head, sizeof *head}) != check)
		return JOURNAL_DAMAGED;
	head->check = check;
	return head->version > JOURNAL_VERSION ? JOURNAL_NEWER : JOURNAL_GOOD;
}

/* The bytes that a record at the beginning of text takes, 0 if none begins there. Its parts need not be whole. */
static uint64_t record_bytes(struct span text, struct journal_record *r)
{
	if (text.n < sizeof *r)
		return 0;
	memcpy(r, text.p, sizeof *r);
	if (r->mark != JOURNAL_RECORD || r->check != record_check(r))
		return 0;
	return sizeof *r + (uint64_t)r->who_bytes + r->frame_bytes;
}

bool journal_next(struct span segment, size_t *at, size_t *skipped, struct journal_event *e)
{
	for (size_t from = *at; from < segment.n; from++) {
		struct span rest = span_from(segment, from);
		const char *mark = memchr(rest.p, 0xff, rest.n);
		struct journal_record r;
		uint64_t bytes;

		if (mark == NULL)
			return false;
		from = (size_t)(mark - segment.p);
		rest = span_from(segment, from);
		bytes = record_bytes(rest, &r);
		if (bytes == 0 || bytes > rest.n)
			continue;
		e->id = (struct event_id){r.id_ms, r.id_n};
		e->who = (struct span){rest.p + sizeof r, r.who_bytes};
		e->frame = (struct span){e->who.p + e->who.n, r.frame_bytes};
		if (journal_record(e->id, e->who, e->frame).parts_check != r.parts_check)
			continue;
		*skipped = from - *at;
		*at = from + (size_t)bytes;
		return true;
	}
	return false;
}

bool journal_torn(struct span rest)
{
	struct journal_record r;
	size_t n = rest.n < sizeof r.mark ? rest.n : sizeof r.mark;

	return memcmp(rest.p, &(uint32_t){JOURNAL_RECORD}, n) == 0
		&& (rest.n < sizeof r || record_bytes(rest, &r) > rest.n);
}

/* ---- writing ---- */

/* "DIR/000000000001.sse". False if there is no memory. */
static bool journal_path(struct server *s, uint64_t number, struct buf *path)
{
	buf_clear(path);
	buf_text(path, s->opt.journal);
	buf_byte(path, '/');
	buf_padded(path, (int64_t)number, 12);
	buf_bytes(path, ".sse", 5);
	return !path->failed;
}

/* Bytes after which a new segment is begun. */
static uint64_t journal_segment_bytes(const struct server *s)
{
	uint64_t share = (uint64_t)s->opt.history_bytes / 16;

	return share < 64 << 10 ? 64 << 10 : share > 64 << 20 ? 64 << 20 : share;
}

/* The path of the mark that nothing is missing: see journal_complete. */
static bool journal_mark(struct server *s, struct buf *path)
{
	buf_clear(path);
	buf_text(path, s->opt.journal);
	buf_bytes(path, "/.complete", 11);
	return !path->failed;
}

/*
 * A file ".complete" in the directory says that nothing which a stream has seen is missing. It is removed at the
 * first failure, for which no room is needed, and made again when all is written. Returns whether that is so.
 * It is empty while the program runs; after an end in order it says where the last segment ends.
 */
static bool journal_complete(struct server *s, bool complete)
{
	struct buf *path = &s->scratch;
	int file;

	if (s->journal.complete == complete)
		return true;
	if (!journal_mark(s, path))
		return false;
	if (complete) {
		file = s->sys->open(path->data, O_WRONLY | O_CREAT | O_TRUNC);
		if (file < 0)
			return false;
		s->sys->close(file);
	} else if (unlink(path->data) < 0 && errno != ENOENT) {
		return false;
	}
	s->journal.complete = complete;
	s->journal.fresh = true; /* the directory is to be synced */
	return true;
}

static void journal_failed(struct server *s, const char *what, int error)
{
	struct journal *j = &s->journal;
	struct buf *b;

	s->count.journal_errors++;
	j->retry_ms = s->now_ms + JOURNAL_RETRY_MS;
	journal_complete(s, false);
	if (j->failing)
		return;
	j->failing = true;
	b = log_begin(s, LOG_ERROR, "journal_failed");
	log_text(b, "what", what);
	log_text(b, "error", error_text(error));
	log_text(b, "dir", s->opt.journal);
	log_text(b, "then", "events go to the streams, and are not stored until this is mended");
	log_end(s);
}

static void journal_mended(struct server *s)
{
	struct buf *b;

	if (!s->journal.failing)
		return;
	if (!journal_complete(s, true)) {
		s->journal.retry_ms = s->now_ms + JOURNAL_RETRY_MS;
		return;
	}
	s->journal.failing = false;
	b = log_begin(s, LOG_WARNING, "journal_mended");
	log_number(b, "not_stored", (int64_t)s->count.not_stored);
	log_text(b, "then", "events are stored again");
	log_end(s);
}

static bool segment_add(struct journal *j, uint64_t number)
{
	if (j->count == j->cap) {
		uint32_t cap = j->cap == 0 ? 32 : 2 * j->cap;
		struct journal_segment *grown = realloc(j->segments, cap * sizeof *grown);

		if (grown == NULL)
			return false;
		j->segments = grown;
		j->cap = cap;
	}
	j->segments[j->count++] = (struct journal_segment){.number = number, .begin = j->written, .end = j->written};
	return true;
}

/* A new file for the next segment, with its head; -1 with errno set. */
static int segment_create(struct server *s, const char *path, struct event_id after)
{
	struct journal_head head = journal_head(after, s->opt.journal_sync == SYNC_ALWAYS ? 0 : s->journal.boot);
	struct iovec iov = {&head, sizeof head};
	int file = s->sys->open(path, O_WRONLY | O_CREAT | O_EXCL), error;
	ssize_t n;

	if (file < 0)
		return -1;
	n = s->sys->pwritev(file, &iov, 1, 0);
	if (n == sizeof head)
		return file;
	error = n < 0 ? errno : ENOSPC;
	s->sys->close(file);
	unlink(path);
	errno = error;
	return -1;
}

/* The segment that is written to is this one from now on. */
static void segment_begin(struct server *s, int file, uint64_t bytes)
{
	struct journal *j = &s->journal;

	if (j->file >= 0 && s->opt.journal_sync != SYNC_NONE)
		j->retired = j->file;
	else if (j->file >= 0)
		s->sys->close(j->file);
	j->file = file;
	j->bytes = bytes;
	j->fresh = true;
}

/* Makes sure that there is a segment to write to. A full one is followed by the next, unless the syncer
 * has yet to see to the one before. */
static bool journal_roll(struct server *s)
{
	struct journal *j = &s->journal;
	const struct event *last = ring_event(&s->ring, j->written - 1);
	struct event_id after = s->ring.floor;
	int file;

	if (j->file >= 0 && (j->bytes < journal_segment_bytes(s) || j->syncing || j->retired >= 0 || s->now_ms < j->retry_ms))
		return true;
	if (last != NULL && sse_id_order(last->id, after) > 0)
		after = last->id;
	if (!journal_path(s, ++j->number, &s->scratch) || !segment_add(j, j->number)) {
		journal_failed(s, "cannot make a segment", ENOMEM);
		return false;
	}
	file = segment_create(s, s->scratch.data, after);
	if (file < 0)
		j->count--;
	if (file < 0 && j->file >= 0) { /* for want of descriptors, say: the last one takes more */
		j->retry_ms = s->now_ms + JOURNAL_RETRY_MS;
		return true;
	}
	if (file < 0) {
		journal_failed(s, "cannot make a segment", errno);
		return false;
	}
	if (j->count > 1 && (int32_t)(j->written - j->segments[j->count - 2].end) > 0)
		j->segments[j->count - 2].end = j->written;
	segment_begin(s, file, sizeof(struct journal_head));
	return true;
}

static void segment_remove(struct server *s, uint64_t number)
{
	if (journal_path(s, number, &s->scratch) && unlink(s->scratch.data) < 0 && errno != ENOENT) {
		log_text(log_flood(s, LOG_ERROR, FLOOD_journal, "journal_not_removed"), "file", s->scratch.data);
		log_end(s);
	}
}

/* Gives the last segment up; the next one goes on with this event. Those that begin with it or behind it are of
 * no use once they are written again: a disk that fails again and again must not be filled with attempts. */
static void journal_abandon(struct server *s, uint32_t number)
{
	struct journal *j = &s->journal;

	if (j->file >= 0)
		s->sys->close(j->file);
	if (j->retired >= 0)
		s->sys->close(j->retired);
	for (uint32_t i = j->count; i > 0 && (int32_t)(j->segments[i - 1].begin - number) >= 0; i--)
		j->segments[i - 1].stale = true;
	j->file = j->retired = -1;
	j->written = j->synced = number;
}

/* Everything is written: what was written before it failed goes. */
static void journal_tidy(struct server *s)
{
	struct journal *j = &s->journal;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < j->count; i++) {
		if (j->segments[i].stale)
			segment_remove(s, j->segments[i].number);
		else
			j->segments[kept++] = j->segments[i];
	}
	j->count = kept;
}

/* Lays out the records of the next events in s->iov. Returns the pieces, and in *bytes and *events what they are. */
static int journal_gather(struct server *s, uint64_t *bytes, uint32_t *events)
{
	struct journal *j = &s->journal;
	int pieces = 0;

	*bytes = 0;
	*events = 0;
	for (; *events < JOURNAL_BATCH && *bytes < JOURNAL_TURN && j->written + *events != s->ring.next; ++*events) {
		const struct event *e = ring_event(&s->ring, j->written + *events);
		struct journal_record *record = &j->records[*events];
		struct span parts[3] = {{(char *)record, sizeof *record}, ring_who(&s->ring, e), ring_bytes(&s->ring, e, false)};

		*record = journal_record(e->id, parts[1], parts[2]);
		for (int i = 0; i < 3; i++) {
			s->iov[pieces++] = (struct iovec){(char *)(uintptr_t)parts[i].p, parts[i].n};
			*bytes += parts[i].n;
		}
	}
	return pieces;
}

/* Writes the next events, as many as go at once. False if that failed. */
static bool journal_write(struct server *s)
{
	struct journal *j = &s->journal;
	uint64_t bytes;
	uint32_t events;
	int pieces = journal_gather(s, &bytes, &events);
	ssize_t n = s->sys->pwritev(j->file, s->iov, pieces, (off_t)j->bytes);

	if (n < 0 || (uint64_t)n != bytes) {
		int error = n < 0 ? errno : ENOSPC;

		/* When there is room again, the same place will do; a place that can't be written may never be mended. */
		if (error != ENOSPC && error != EDQUOT && !j->syncing)
			journal_abandon(s, s->opt.journal_sync == SYNC_NONE ? j->written : j->synced);
		journal_failed(s, "cannot write", error);
		return false;
	}
	j->bytes += bytes;
	j->written += events;
	return true;
}

/* Is there something that the syncer must see to? */
static bool journal_unsynced(const struct server *s)
{
	const struct journal *j = &s->journal;

	return s->opt.journal_sync != SYNC_NONE && j->file >= 0 && (j->synced != j->written || j->fresh);
}

/* May the journal be tried now? After a failure not at once. */
static bool journal_ready(const struct server *s)
{
	return s->journal.directory >= 0 && (!s->journal.failing || s->now_ms >= s->journal.retry_ms);
}

/* Asks the syncer to see to a segment: the one before the last, if it was left unsynced, else the last. */
static void journal_sync(struct server *s)
{
	struct journal *j = &s->journal;
	struct sync_job job = {.file = j->file, .directory = j->fresh ? j->directory : -1};

	if (j->syncer < 0 || j->syncing || !journal_unsynced(s) || !journal_ready(s))
		return;
	if (s->opt.journal_sync == SYNC_BATCH && j->retired < 0 && s->now_ms - j->asked_ms < SYNC_MS)
		return;
	j->asked_ms = s->now_ms;
	j->asked = j->retired >= 0 ? j->segments[j->count - 1].begin : j->written;
	if (j->retired >= 0)
		job = (struct sync_job){.file = j->retired, .directory = -1};
	if (s->sys->write(j->syncer, &job, sizeof job) == (ssize_t)sizeof job)
		j->syncing = true;
	else
		journal_failed(s, "cannot sync", errno);
}

/*
 * After a failure nobody knows which pages the disk has, and the kernel calls them clean: what may be
 * missing is written once more, to another file.
 */
void journal_synced(struct server *s)
{
	struct journal *j = &s->journal;
	struct sync_job job;

	if (s->sys->read(j->syncer, &job, sizeof job) != (ssize_t)sizeof job)
		return;
	j->syncing = false;
	if (job.error != 0) {
		journal_abandon(s, j->synced);
		journal_failed(s, "cannot sync", job.error);
		return;
	}
	j->synced = j->asked;
	if (j->retired >= 0 && job.file == j->retired) {
		s->sys->close(j->retired);
		j->retired = -1;
	} else {
		j->fresh = false;
	}
	if (j->synced == s->ring.next && journal_complete(s, true))
		journal_mended(s);
}

/* Writes what the ring has and the journal has not; what the ring has no more is a gap in it. */
static void journal_commit(struct server *s)
{
	struct journal *j = &s->journal;
	uint64_t bytes = 0;

	if (!journal_ready(s))
		return;
	if (j->written != s->ring.next && ring_event(&s->ring, j->written) == NULL) {
		if (j->syncing)
			return; /* the syncer has the file */
		journal_abandon(s, s->ring.oldest);
	}
	if (j->syncing && j->bytes > 4 * journal_segment_bytes(s)) { /* it can't be followed by another */
		journal_failed(s, "the disk does not sync", ETIMEDOUT);
		return;
	}
	if (!journal_roll(s))
		return;
	/* What was taken in this turn must be written in it; what waited for the disk to be mended, piece by piece. */
	for (uint64_t from = j->bytes; j->written != s->ring.next && (!j->failing || bytes < JOURNAL_TURN);
		bytes = j->bytes - from)
		if (!journal_write(s))
			return;
	if (j->written == s->ring.next && j->failing)
		journal_tidy(s);
	if (j->written == s->ring.next && s->opt.journal_sync != SYNC_ALWAYS)
		journal_complete(s, true);
	if (j->written == s->ring.next && s->opt.journal_sync == SYNC_NONE)
		journal_mended(s);
	if (s->opt.journal_sync == SYNC_ALWAYS || j->retired >= 0)
		journal_sync(s);
}

/* Is there something to be written at once? */
static bool journal_waits(const struct server *s)
{
	return s->journal.directory >= 0 && !s->journal.failing && s->journal.written != s->ring.next;
}

static enum journal_state journal_state(const struct server *s)
{
	const struct journal *j = &s->journal;

	if (j->directory < 0)
		return JOURNAL_STORED;
	if (j->written != s->ring.next || j->file < 0)
		return JOURNAL_NOT_STORED;
	if (s->opt.journal_sync != SYNC_ALWAYS || j->synced == s->ring.next)
		return JOURNAL_STORED;
	/* A disk that takes long holds the acks back, but nothing else for longer than this: revocations wait behind them. */
	return j->failing || s->now_ms - j->asked_ms > SYNC_PATIENCE_MS ? JOURNAL_NOT_STORED : JOURNAL_SYNCING;
}

/* Removes the segments of which the ring has nothing any more. */
static void journal_trim(struct server *s)
{
	struct journal *j = &s->journal;
	uint32_t gone = 0;

	for (; gone + 1 < j->count && (int32_t)(s->ring.oldest - j->segments[gone].end) >= 0; gone++)
		segment_remove(s, j->segments[gone].number);
	j->count -= gone;
	if (gone > 0)
		memmove(j->segments, j->segments + gone, j->count * sizeof *j->segments);
}

/* Is the file still there? Somebody may have emptied the directory: then the journal begins anew, with what the
 * ring has. */
static void journal_look(struct server *s)
{
	struct journal *j = &s->journal;
	struct stat st;

	j->look_ms = s->now_ms + SYNC_MS;
	if (j->file < 0 || j->syncing || fstat(j->file, &st) < 0 || st.st_nlink > 0)
		return;
	log_text(log_begin(s, LOG_ERROR, "journal_removed"), "then", "its file was removed; it is written anew, from memory");
	log_end(s);
	journal_abandon(s, s->ring.oldest);
	j->complete = false; /* that file is gone too */
}

/* Every tick: forgets what is too old, and sees to what is written. */
static void journal_tick(struct server *s)
{
	ring_forget(&s->ring, s->wall_ms - s->opt.history_age);
	if (s->journal.directory < 0)
		return;
	journal_sync(s);
	journal_trim(s);
	if (s->now_ms >= s->journal.look_ms)
		journal_look(s);
}

/* ---- reading, at the start ---- */

/* What was found out so far. */
struct journal_reading {
	uint64_t boot;   /* in the last head */
	uint64_t size;   /* of the last segment, ... */
	uint64_t bytes;  /* ... and of its events */
	bool ended;      /* behind them stands that the program ended */
	bool reusable;   /* it can be written on */
	bool complete;   /* nothing is missing behind the last event */
};

static void journal_damaged(struct server *s, uint64_t number, size_t at, size_t bytes)
{
	struct buf *b = log_flood(s, LOG_WARNING, FLOOD_journal, "journal_damaged");

	log_number(b, "segment", (int64_t)number);
	log_number(b, "at", (int64_t)at);
	log_number(b, "bytes", (int64_t)bytes);
	log_text(b, "then", "they are passed over; pages that may have missed something are told to reload");
	log_end(s);
}

/* Everything that came after this id is here; what came before it may not be. */
static void journal_floor(struct server *s, struct event_id id)
{
	s->ring.floor = id;
	if (sse_id_order(id, s->ring.newest) > 0)
		s->ring.newest = id;
}

/* Can it be the time of an id? Ids go on from it, and no clock is farther ahead; pages can say no more than 2^53. */
static bool reading_ms(int64_t ms)
{
	return ms >= 0 && ms < INT64_C(1) << 52;
}

/* An event goes into the ring; gap: something before it is missing. */
static void reading_event(struct server *s, const struct journal_event *e, bool gap)
{
	bool fits = e->who.n + e->frame.n + 16 <= s->ring.size;

	if (fits)
		ring_append(&s->ring, e->id, e->who, e->frame);
	if (gap || !fits) /* as with a smaller --history-bytes */
		journal_floor(s, e->id);
}

/*
 * The events of a segment go into the ring, from byte `at` on. gap: something before them is missing.
 * Returns where the last good record ends. *ended: it says that the program ended there; *damaged: something
 * before it was passed over.
 */
static size_t segment_events(struct server *s, uint64_t number, struct span text, size_t at, bool gap, bool *ended,
	bool *damaged)
{
	struct journal_event e;
	size_t skipped, from = at;

	*ended = *damaged = false;
	for (; journal_next(text, &at, &skipped, &e); from = at) {
		if (skipped > 0)
			journal_damaged(s, number, from, skipped);
		*damaged |= skipped > 0;
		gap |= skipped > 0;
		*ended = false;
		if (!reading_ms(e.id.ms)) {
			journal_damaged(s, number, from, at - from);
			gap = *damaged = true;
			continue;
		}
		*ended = e.frame.n == 0;
		if (*ended && (gap || sse_id_order(e.id, s->ring.newest) > 0))
			journal_floor(s, e.id);
		else if (!*ended && sse_id_order(e.id, s->ring.newest) > 0) /* else a second time, after a sync that failed */
			reading_event(s, &e, gap);
		else
			continue;
		gap = false;
	}
	return at;
}

/* Takes what is in a segment; head is NULL if it has no good one. */
static void segment_take(struct server *s, uint64_t number, struct span text, const struct journal_head *head,
	struct journal_reading *r)
{
	size_t at = head == NULL ? 0 : sizeof *head;
	bool ended, damaged, torn, synced = head != NULL && (head->boot == 0 || head->boot == s->journal.boot);
	struct span rest;

	if (head != NULL && sse_id_order((struct event_id){head->after_ms, head->after_n}, s->ring.newest) > 0)
		journal_floor(s, (struct event_id){head->after_ms, head->after_n});
	at = segment_events(s, number, text, at, head == NULL, &ended, &damaged);
	rest = span_from(text, at);
	torn = rest.n > 0 && journal_torn(rest);
	if (rest.n > 0 && !torn)
		journal_damaged(s, number, at, rest.n);
	r->boot = head == NULL ? 1 : head->boot;
	r->bytes = ended ? at - sizeof(struct journal_record) : at;
	r->ended = ended;
	r->reusable = head != NULL && rest.n == 0 && !damaged
		&& head->boot == (s->opt.journal_sync == SYNC_ALWAYS ? 0 : s->journal.boot);
	r->complete = head != NULL && (rest.n == 0 || torn) && (synced || (ended && !torn));
}

/* What is read is shown to pages, so it must be there for certain: whoever wrote it may not have synced it. */
static void segment_sync(struct server *s, const char *path)
{
	int file = s->sys->open(path, O_RDONLY);

	if (file < 0)
		return;
	if (fdatasync(file) < 0)
		journal_failed(s, "cannot sync", errno);
	s->sys->close(file);
}

/* Reads one segment, the next in order. */
static bool segment_read(struct server *s, uint64_t number, struct journal_reading *r, struct buf *error)
{
	bool path = journal_path(s, number, &s->scratch);
	struct journal_head head;
	size_t bytes = 0;
	char *text = path ? file_read(s->scratch.data, SEGMENT_MAX, &bytes) : NULL;
	enum journal_kind kind = JOURNAL_DAMAGED;

	if (text == NULL && (!path || errno != EIO))
		return error_line(error, "--journal", path ? s->scratch.data : s->opt.journal, "cannot read", path ? errno : ENOMEM);
	r->reusable = false;
	r->size = bytes;
	if (text != NULL)
		kind = journal_head_read((struct span){text, bytes}, &head);
	if (kind == JOURNAL_GOOD && !reading_ms(head.after_ms))
		kind = JOURNAL_DAMAGED;
	if (kind == JOURNAL_NEWER) {
		free(text);
		return error_line(error, "--journal", s->scratch.data,
			"written by a newer version of sse: start that one, or name another directory", 0);
	}
	if (text == NULL)
		journal_damaged(s, number, 0, 0);
	if (s->opt.journal_sync != SYNC_NONE)
		segment_sync(s, s->scratch.data);
	/* One without a byte was made by this boot and not yet written to, or its bytes never reached the disk. */
	r->complete &= text != NULL && (r->boot == 0 || r->boot == s->journal.boot);
	if (bytes > 0)
		segment_take(s, number, (struct span){text, bytes}, kind == JOURNAL_GOOD ? &head : NULL, r);
	free(text);
	return true;
}

static int segment_order(const void *a, const void *b)
{
	const struct journal_segment *left = a, *right = b;

	return left->number < right->number ? -1 : left->number > right->number;
}

/* Finds the segments. Files of other names are none of ours. */
static bool journal_list(struct server *s, struct buf *error)
{
	struct journal *j = &s->journal;
	DIR *directory = opendir(s->opt.journal);
	struct dirent *entry;
	bool good = directory != NULL;

	while (good && (errno = 0, entry = readdir(directory)) != NULL) {
		struct span rest = span_of(entry->d_name), digits = span_cut(&rest, '.');
		int64_t number = 0;

		for (size_t i = 0; i < digits.n && number < INT64_MAX / 16; i++)
			number = is_digit(digits.p[i]) ? number * 10 + (digits.p[i] - '0') : INT64_MAX / 2;
		if ((digits.n == 12 || (digits.n > 12 && digits.p[0] != '0')) && number < INT64_MAX / 16 && span_is(rest, "sse"))
			good = segment_add(j, (uint64_t)number);
	}
	good &= errno == 0;
	if (!good)
		error_line(error, "--journal", s->opt.journal, "cannot read the directory", errno);
	if (directory != NULL)
		closedir(directory);
	if (j->count > 0) {
		qsort(j->segments, j->count, sizeof *j->segments, segment_order);
		j->number = j->segments[j->count - 1].number;
	}
	return good;
}

/* Which boot of the machine this is: what was not synced in another one may be lost. */
static uint64_t boot_id(struct server *s)
{
	size_t bytes;
	char *text = file_read("/proc/sys/kernel/random/boot_id", 4096, &bytes);
	uint64_t id = text == NULL ? s->random : journal_check(0, (struct span){text, bytes});

	if (text == NULL) {
		log_text(log_begin(s, LOG_WARNING, "boot_unknown"), "then",
			"/proc/sys/kernel/random/boot_id cannot be read: a kill -9 is taken for a failure of power");
		log_end(s);
	}
	free(text);
	return id | 1;
}

/* Is it there (see journal_complete), and does the last segment end where it says? */
static bool journal_was_complete(struct server *s, uint64_t size)
{
	size_t bytes;
	char *text = journal_mark(s, &s->scratch) ? file_read(s->scratch.data, 64, &bytes) : NULL;
	struct span rest = {text, text == NULL ? 0 : bytes};
	uint64_t number = (uint64_t)number_next(&rest);
	uint64_t end = (uint64_t)number_next(&rest);
	bool good = text != NULL && (bytes == 0 || (number == s->journal.number && end == size));

	free(text);
	return good;
}

/* The mark says where the last segment ends, so that one can tell later whether all of it is still there: a restored
 * copy may be shorter. 0: it goes on. False with errno. */
static bool journal_seal(struct server *s, uint64_t bytes)
{
	char text[64];
	struct buf b = buf_fixed(text, sizeof text);
	int file = journal_mark(s, &s->scratch) ? s->sys->open(s->scratch.data, O_WRONLY | O_TRUNC) : -1;

	if (file < 0)
		return false;
	buf_number(&b, s->journal.count == 0 ? 0 : (int64_t)s->journal.segments[s->journal.count - 1].number);
	buf_byte(&b, ' ');
	buf_number(&b, (int64_t)bytes);
	if (bytes > 0)
		s->sys->pwritev(file, &(struct iovec){b.data, b.len}, 1, 0);
	s->sys->close(file);
	return true;
}

/* The journal goes on where what was read ends: in the last segment, or in a new one. */
static void journal_begin(struct server *s, const struct journal_reading *r)
{
	struct journal *j = &s->journal;
	int64_t latest_ms = s->ring.newest.ms > s->wall_ms ? s->ring.newest.ms : s->wall_ms;
	struct buf *b;
	int file = -1;

	if (s->ring.newest.ms == 0)
		s->ring.newest = s->ring.floor = (struct event_id){s->wall_ms, 0};
	if (!r->complete) { /* no id must be given twice: the clock may be wrong now, and who knows what was given before */
		journal_floor(s, (struct event_id){latest_ms + JOURNAL_LOST_MS + random_upto(s, JOURNAL_LOST_MS), 0});
		log_text(log_begin(s, LOG_WARNING, "journal_cut"), "then",
			"the last events may be lost, as after a failure of power; every page is told to reload");
		log_end(s);
	}
	/* If ids are ahead of the clock, the next ones may have been given already, to events which streams saw and
	 * the disk did not get. */
	s->ring.least_ms = s->ring.newest.ms + 1 + (s->wall_ms < s->ring.newest.ms ? random_upto(s, 60000) : 0);
	j->written = j->synced = s->ring.next;
	if (r->reusable && r->complete && journal_path(s, j->segments[j->count - 1].number, &s->scratch))
		file = s->sys->open(s->scratch.data, O_WRONLY);
	if (file >= 0)
		segment_begin(s, file, r->bytes);
	else
		journal_roll(s);
	j->complete = faccessat(j->directory, ".complete", F_OK, 0) == 0;
	/* That it ended in order must be taken back for certain before anything is added to it. */
	if (j->file < 0 || (r->ended && file >= 0 && ftruncate(file, (off_t)r->bytes) < 0) || fdatasync(j->file) < 0
		|| fsync(j->directory) < 0 || (j->complete && !journal_seal(s, 0)) || !journal_complete(s, true))
		journal_failed(s, "cannot begin", errno);
	b = log_begin(s, LOG_INFO, "journal_read");
	log_number(b, "segments", j->count);
	log_number(b, "events", s->ring.next);
	buf_text(b, " newest=");
	sse_id(b, s->ring.newest);
	log_end(s);
}

/* The directory is not one to keep a journal in. */
static bool journal_refused(const struct options *o, struct buf *error, int why)
{
	return error_line(error, "--journal", o->journal, why == ENOENT ? "make the directory first" : "cannot use it", why);
}

bool journal_open(struct server *s, struct buf *error)
{
	struct journal *j = &s->journal;
	struct journal_reading r = {.complete = true};
	uint32_t before;

	if (s->opt.journal[0] == '\0')
		return true;
	j->boot = boot_id(s);
	j->directory = s->sys->open(s->opt.journal, O_RDONLY | O_DIRECTORY);
	if (j->directory < 0)
		return journal_refused(&s->opt, error, errno);
	if (flock(j->directory, LOCK_EX | LOCK_NB) < 0)
		return error_line(error, "--journal", s->opt.journal,
			errno == EWOULDBLOCK ? "another sse is using it" : "cannot lock", errno == EWOULDBLOCK ? 0 : errno);
	if (access(s->opt.journal, R_OK | W_OK | X_OK) < 0 && errno == EACCES)
		return journal_refused(&s->opt, error, errno);
	if (!journal_list(s, error))
		return false;
	s->ring.newest = s->ring.floor = (struct event_id){0, 0};
	for (uint32_t i = 0; i < j->count; i++) {
		before = s->ring.next;
		if (!segment_read(s, j->segments[i].number, &r, error))
			return false;
		/* One of which nothing could be used stays until an event behind it is forgotten. */
		j->segments[i].end = s->ring.next + (s->ring.next == before);
		j->segments[i].begin = before - 1;
	}
	r.complete &= j->count == 0 || journal_was_complete(s, r.size);
	s->latency.counted = s->latency.pass = s->ring.next;
	journal_begin(s, &r);
	return true;
}

void journal_close(struct server *s)
{
	struct journal *j = &s->journal;
	struct journal_record record = journal_record(s->ring.newest, (struct span){NULL, 0}, (struct span){NULL, 0});
	struct iovec end = {&record, sizeof record};
	uint32_t before;

	j->retry_ms = s->now_ms;
	j->syncing = false; /* the syncer has ended */
	do {
		before = j->written;
		journal_commit(s);
	} while (j->written != before);
	if (j->directory < 0 || j->written != s->ring.next || j->file < 0 || (j->failing && !journal_complete(s, true)))
		return;
	/* Twice, because the mark must not be there without what it vouches for. */
	if (s->opt.journal_sync != SYNC_NONE && fdatasync(j->file) < 0) {
		journal_failed(s, "cannot sync", errno);
		return;
	}
	if (s->sys->pwritev(j->file, &end, 1, (off_t)j->bytes) != (ssize_t)sizeof record
		|| (s->opt.journal_sync != SYNC_NONE && fdatasync(j->file) < 0))
		journal_failed(s, "cannot end", errno);
	else
		journal_seal(s, j->bytes + sizeof record);
}

/* Closes its files, and leaves it as it is. */
static void journal_free(struct server *s)
{
	struct journal *j = &s->journal;

	for (const int *fd = (int[]){j->file, j->retired, j->directory, -2}; *fd != -2; fd++)
		if (*fd >= 0)
			s->sys->close(*fd);
	free(j->segments);
	*j = (struct journal){.directory = -1, .file = -1, .retired = -1, .syncer = -1};
}

/* ============================================================================================
 * users, roles, sessions
 *
 * A session is what an authority said about one token. It names a user, whose record lives as
 * long as a session does, and roles, which are bits in a word: which bit stands for which role
 * is decided when the role is first heard of, and forgotten with its last session.
 *
 * A session of the token file lives as long as its line. Any other lives as long as it has streams;
 * then, if Django's answer is still good, it is cached, and the oldest leaves when there are too many.
 * ============================================================================================ */

const char *name_error(struct span name)
{
	if (name.n == 0)
		return "must not be empty";
	if (name.n > MAX_NAME)
		return "is longer than 64 bytes";
	for (size_t i = 0, length; i < name.n; i += length) {
		if ((unsigned char)name.p[i] < ' ' || name.p[i] == 0x7f)
			return "has a control character";
		length = utf8_length(name.p + i, name.n - i);
		if (length == 0)
			return "is not UTF-8";
	}
	return NULL;
}

static struct span user_id(const struct user *u)
{
	return (struct span){u->id_bytes > sizeof u->id.here ? u->id.heap : u->id.here, u->id_bytes};
}

/* The record of this user, 0 if there is none. */
static uint32_t user_find(const struct server *s, struct span id)
{
	uint32_t hash = hash_span(s->hash_key, id), at = 0, user;

	while ((user = table_next(&s->users_by_id, hash, &at)) != 0)
		if (span_same(user_id(&s->users[user]), id))
			break;
	return user;
}

/* The same, made if there is none; 0 if there is no memory. */
static uint32_t user_get(struct server *s, struct span id)
{
	uint32_t user = user_find(s, id);
	struct user *u;
	char *heap = NULL;

	if (user != 0)
		return user;
	if (id.n > sizeof u->id.here && (heap = malloc(id.n)) == NULL)
		return 0;
	user = s->users_free != 0 ? s->users_free : s->users_top++;
	u = &s->users[user];
	if (user == s->users_free)
		s->users_free = u->id.next_free;
	*u = (struct user){.hash = hash_span(s->hash_key, id), .id_bytes = (uint8_t)id.n};
	memcpy(heap != NULL ? heap : u->id.here, id.p, id.n);
	if (heap != NULL)
		u->id.heap = heap;
	table_add(&s->users_by_id, user);
	return user;
}

/* One session less. Its streams are gone before it is. */
static void user_release(struct server *s, uint32_t user)
{
	struct user *u = &s->users[user];

	if (--u->sessions > 0)
		return;
	assert(u->streams == 0);
	table_remove(&s->users_by_id, user);
	if (u->id_bytes > sizeof u->id.here)
		free(u->id.heap);
	*u = (struct user){.id.next_free = s->users_free};
	s->users_free = user;
}

/* The bit of a role that some session has, or -1. */
static int role_find(const struct server *s, struct span name)
{
	for (int i = 0; i < MAX_ROLES; i++)
		if (s->roles[i].sessions > 0 && span_same((struct span){s->roles[i].name, s->roles[i].bytes}, name))
			return i;
	return -1;
}

/* The same for one session more; takes a free bit for a new role, -1 if there is none. */
static int role_take(struct server *s, struct span name)
{
	int bit = role_find(s, name);

	for (int i = 0; bit < 0 && i < MAX_ROLES; i++)
		if (s->roles[i].sessions == 0) {
			memcpy(s->roles[i].name, name.p, name.n);
			s->roles[i].bytes = (uint8_t)name.n;
			bit = i;
		}
	if (bit >= 0)
		s->roles[bit].sessions++;
	return bit;
}

/* One session less has these roles. */
static void roles_release(struct server *s, uint64_t roles)
{
	for (; roles != 0; roles &= roles - 1)
		s->roles[__builtin_ctzll(roles)].sessions--;
}

/* The role is among these bits from now on, for one session more if it was not. False: there are too many. */
static bool role_add(struct server *s, uint64_t *roles, struct span name)
{
	int role = role_find(s, name);

	if (role >= 0 && (*roles >> role & 1) != 0)
		return true;
	role = role_take(s, name);
	if (role >= 0)
		*roles |= UINT64_C(1) << role;
	return role >= 0;
}

/* The bits of these roles, for one session more. False if there are too many, and nothing changed. */
static bool roles_take(struct server *s, const struct span *names, int count, uint64_t *roles)
{
	*roles = 0;
	for (int i = 0; i < count; i++)
		if (!role_add(s, roles, names[i])) {
			roles_release(s, *roles);
			return false;
		}
	return true;
}

/* What a token is known by: its SHA-256, begun with a secret, so that no outsider can aim at a table. */
static void token_key(const struct server *s, struct span token, uint8_t key[32])
{
	sha256_after(s->seal.inner, 64, token, key);
}

/* The record of this key in a table of sessions, verdicts or questions, which begin with theirs; 0: none. */
static uint32_t key_find(const struct table *t, const uint8_t key[32])
{
	uint32_t hash, at = 0, record;

	memcpy(&hash, key, sizeof hash);
	while ((record = table_next(t, hash, &at)) != 0)
		if (memcmp(t->records + record * t->stride, key, 32) == 0)
			break;
	return record;
}

static uint32_t session_find(const struct server *s, const uint8_t key[32])
{
	return key_find(&s->sessions_by_key, key);
}

/* A session for this token. There is room for all: see reserve_all. */
static uint32_t session_new(struct server *s, const uint8_t key[32], uint32_t user)
{
	uint32_t session = s->sessions_free, next = s->users[user].first_session;

	if (session != 0)
		s->sessions_free = s->sessions[session].next;
	else
		session = s->sessions_top++;
	assert(session < s->records_max);
	s->sessions[session] = (struct session){.user = user, .next = next, .until_ms = -1};
	memcpy(s->sessions[session].key, key, 32);
	if (next != 0)
		s->sessions[next].prev = session;
	s->users[user].first_session = session;
	s->users[user].sessions++;
	table_add(&s->sessions_by_key, session);
	return session;
}

static void hold_free(struct hold **hold)
{
	if (*hold != NULL)
		explicit_bzero((*hold)->bytes, (*hold)->len);
	free(*hold);
	*hold = NULL;
}

/* Appends to *hold. It moves by hand, because realloc would leave a token behind. */
static bool hold_append(struct hold **hold, const char *bytes, size_t n)
{
	struct hold *old = *hold, *h = old;
	size_t waiting = old == NULL ? 0 : old->len - old->at, cap;

	if (old == NULL || old->cap - old->len < n) {
		cap = old == NULL ? n : 2 * (waiting + n);
		h = cap > UINT32_MAX / 2 ? NULL : malloc(sizeof *h + cap);
		if (h == NULL)
			return false;
		*h = (struct hold){.cap = (uint32_t)cap, .len = (uint32_t)waiting};
		if (old != NULL) {
			memcpy(h->bytes, old->bytes + old->at, waiting);
			hold_free(hold);
		}
		*hold = h;
	}
	if (n > 0)
		memcpy(h->bytes + h->len, bytes, n);
	h->len += (uint32_t)n;
	return true;
}

static struct span hold_view(const struct hold *h)
{
	return h == NULL ? (struct span){NULL, 0} : (struct span){h->bytes + h->at, h->len - h->at};
}

/* The session goes by this sid from now on; it owns it. NULL: by none. */
static void session_name(struct server *s, uint32_t session, struct hold *sid)
{
	struct session *x = &s->sessions[session];

	if (x->sid != NULL)
		table_remove(&s->sessions_by_sid, session);
	hold_free(&x->sid);
	x->sid = sid;
	if (sid == NULL)
		return;
	x->sid_hash = hash_span(s->hash_key, hold_view(sid));
	table_add(&s->sessions_by_sid, session);
}

/* A session that goes by this sid, 0 if there is none. */
static uint32_t session_named(const struct server *s, struct span sid)
{
	uint32_t hash = hash_span(s->hash_key, sid), at = 0, session;

	while ((session = table_next(&s->sessions_by_sid, hash, &at)) != 0)
		if (span_same(hold_view(s->sessions[session].sid), sid))
			break;
	return session;
}

/* Takes a session out of the list of those that are cached. */
static void session_uncache(struct server *s, uint32_t session)
{
	struct session *x = &s->sessions[session];

	if (!x->cached)
		return;
	*(x->older != 0 ? &s->sessions[x->older].newer : &s->cache_first) = x->newer;
	*(x->newer != 0 ? &s->sessions[x->newer].older : &s->cache_last) = x->older;
	x->older = x->newer = 0;
	x->cached = false;
	s->cached--;
}

static void session_drop(struct server *s, uint32_t session)
{
	struct session *gone = &s->sessions[session];

	assert(gone->streams == 0);
	session_uncache(s, session);
	session_name(s, session, NULL);
	hold_free(&gone->token);
	roles_release(s, gone->roles);
	table_remove(&s->sessions_by_key, session);
	*(gone->prev != 0 ? &s->sessions[gone->prev].next : &s->users[gone->user].first_session) = gone->next;
	if (gone->next != 0)
		s->sessions[gone->next].prev = gone->prev;
	user_release(s, gone->user);
	*gone = (struct session){.next = s->sessions_free};
	s->sessions_free = session;
}

/* A session that may have no streams: what becomes of it then. Call it with any, or with none (0). */
static void session_rest(struct server *s, uint32_t session)
{
	struct session *x = &s->sessions[session];

	if (x->user == 0 || x->streams > 0 || x->authority == BY_FILE)
		return;
	hold_free(&x->token);
	if (x->cached)
		return;
	if (x->until_ms < s->now_ms) {
		session_drop(s, session);
		return;
	}
	x->cached = true;
	x->older = s->cache_last;
	*(x->older != 0 ? &s->sessions[x->older].newer : &s->cache_first) = session;
	s->cache_last = session;
	if (++s->cached > MAX_CACHED)
		session_drop(s, s->cache_first);
}

/* Drops what is cached and good no longer; behind one that is good, some may stay a while. */
static void sessions_expire(struct server *s)
{
	while (s->cache_first != 0 && s->sessions[s->cache_first].until_ms < s->now_ms)
		session_drop(s, s->cache_first);
}

/* May this session let in now, or must its authority be asked again? */
static bool session_good(const struct server *s, uint32_t session)
{
	const struct session *x = &s->sessions[session];

	if (x->authority == BY_FILE)
		return true;
	return x->until_ms >= s->now_ms && (x->expire_at == 0 || x->expire_at * 1000 > s->wall_ms);
}

/*
 * A token that stays in memory for hours does so under a key made at the start: what looks for
 * tokens in a core file or in swap finds none. The same call undoes it.
 */
static void session_seal(struct server *s, const struct session *x, char *bytes, size_t n)
{
	uint8_t block[32 + 8], pad[32];

	memcpy(block, x->key, 32);
	for (size_t i = 0; i < n; i++) {
		if (i % sizeof pad == 0) {
			memcpy(block + 32, &(uint64_t){i}, 8);
			hmac_sha256(&s->seal, (struct span){(char *)block, sizeof block}, pad);
		}
		bytes[i] = (char)(bytes[i] ^ (char)pad[i % sizeof pad]);
	}
	explicit_bzero(pad, sizeof pad);
}

/* Keeps the token of a session that Django will be asked about again. False: no memory. */
static bool session_keep_token(struct server *s, uint32_t session, struct span token)
{
	struct session *x = &s->sessions[session];

	if (x->authority != BY_DJANGO || x->token != NULL)
		return true;
	if (!hold_append(&x->token, token.p, token.n))
		return false;
	session_seal(s, x, x->token->bytes, x->token->len);
	return true;
}

/* ============================================================================================
 * connections: what waits in them, and how they end
 * ============================================================================================ */

static uint32_t conn_number(const struct server *s, const struct conn *c)
{
	return (uint32_t)(c - s->conns);
}

/* Milliseconds since its last progress. */
static uint32_t conn_silent_ms(const struct server *s, const struct conn *c)
{
	return (uint32_t)s->now_ms - c->since_ms;
}

static struct session *conn_session(const struct server *s, const struct conn *c)
{
	return &s->sessions[c->u.stream.session];
}

/* Is it a stream that does not have all of its events in its pending list yet? */
static bool conn_behind(const struct server *s, const struct conn *c)
{
	return set_has(&s->behind, conn_number(s, c));
}

/* Events that wait for a stream: a run of neighbours, then single numbers. */
static uint32_t pending_count(const struct conn *c)
{
	return (uint32_t)c->u.stream.run + c->u.stream.listed;
}

static uint32_t pending_number(const struct server *s, const struct conn *c, uint32_t i)
{
	if (i < c->u.stream.run)
		return c->u.stream.run_first + i;
	return pool_block(&s->lists, c->u.stream.list)[i - c->u.stream.run];
}

/* Was an event overwritten that the stream has not got? */
static bool pending_lost(const struct server *s, const struct conn *c)
{
	return pending_count(c) > 0 && ring_event(&s->ring, pending_number(s, c, 0)) == NULL;
}

/* Would this number only make the run longer? That takes no room. */
static bool pending_runs(const struct conn *c, uint32_t number)
{
	return c->u.stream.listed == 0 && (c->u.stream.run == 0 || c->u.stream.run_first + c->u.stream.run == number);
}

static void pending_add(struct server *s, struct conn *c, uint32_t number)
{
	if (pending_runs(c, number)) {
		if (c->u.stream.run++ == 0)
			c->u.stream.run_first = number;
		return;
	}
	if (c->u.stream.list == 0)
		c->u.stream.list = pool_take(&s->lists);
	pool_block(&s->lists, c->u.stream.list)[c->u.stream.listed++] = number;
}

/* The first n are written. Behind the last one, run_first is the number that follows it. */
static void pending_drop(struct server *s, struct conn *c, uint32_t n)
{
	uint32_t *list = pool_block(&s->lists, c->u.stream.list);

	if (n < c->u.stream.run) {
		c->u.stream.run_first += n;
		c->u.stream.run = (uint16_t)(c->u.stream.run - n);
		return;
	}
	if (n > 0)
		c->u.stream.run_first = pending_number(s, c, n - 1) + 1;
	n -= c->u.stream.run;
	c->u.stream.run = 0;
	c->u.stream.listed = (uint16_t)(c->u.stream.listed - n);
	memmove(list, list + n, c->u.stream.listed * sizeof *list);
	if (c->u.stream.listed == 0 && c->u.stream.list != 0) {
		pool_give(&s->lists, c->u.stream.list);
		c->u.stream.list = 0;
	}
}

/* Takes back what waits for a stream that is behind, but for an event whose first bytes are written. */
static void pending_undo(struct server *s, struct conn *c)
{
	uint32_t first, kept = c->u.stream.sent > 0;

	if (pending_count(c) <= kept)
		return;
	first = pending_number(s, c, 0);
	pending_drop(s, c, pending_count(c));
	c->u.stream.run_first = first;
	c->u.stream.run = (uint16_t)kept;
}

/*
 * Is this a stream that the publishers should be held back for? A whole queue waits for it, and it
 * was not tried since. Or half a queue waits, but its kernel buffer filled up less than PATIENCE_MS
 * ago: a client that reads gets to it within that time. One that does not costs the others
 * nothing, unless half a queue comes in that short time, and then only once. Nobody is held back
 * for a stream that is behind: what it has not got yet waits in the ring.
 */
static void conn_crowd(struct server *s, struct conn *c)
{
	uint32_t count = c->state == CONN_STREAM && !conn_behind(s, c) ? pending_count(c) : 0;

	if (c->blocked ? count >= s->crowd_blocked && conn_silent_ms(s, c) < PATIENCE_MS : count >= s->crowd_untried)
		set_add(&s->crowded, conn_number(s, c));
	else
		set_remove(&s->crowded, conn_number(s, c));
}

/* There is something to write, and the kernel may take it. */
static void conn_dirty(struct server *s, struct conn *c)
{
	set_add(conn_behind(s, c) ? &s->catching : &s->dirty, conn_number(s, c));
	conn_crowd(s, c);
}

static void conn_logged(struct server *s, struct conn *c, struct buf *b)
{
	log_number(b, "conn", c->serial);
	if (c->state == CONN_STREAM)
		log_span(b, "user", user_id(&s->users[conn_session(s, c)->user]));
}

static const char *const close_names[CLOSE_COUNT] = {
#define X(name) [CLOSE_##name] = #name,
	CLOSE_REASONS(X)
#undef X
};

/* A stream's roles count no more. */
static void stream_unrole(struct server *s, struct conn *c)
{
	for (uint64_t rest = conn_session(s, c)->roles; rest != 0; rest &= rest - 1)
		set_remove(&s->roles[__builtin_ctzll(rest)].streams, conn_number(s, c));
}

/* Takes a stream out of everything that leads to it. The connection stays. */
static void stream_leave(struct server *s, struct conn *c, enum close_reason why)
{
	uint32_t number = conn_number(s, c), next = c->u.stream.next, prev = c->u.stream.prev;
	struct session *session = conn_session(s, c);
	struct user *u = &s->users[session->user];
	struct buf *b = log_begin(s, LOG_INFO, "disconnect");
	uint32_t age_ds = (uint32_t)(s->now_ms / 100) - c->opened_ds;

	conn_logged(s, c, b);
	log_text(b, "reason", close_names[why]);
	log_number(b, "seconds", age_ds / 10);
	buf_byte(b, '.');
	buf_number(b, age_ds % 10);
	log_number(b, "pending", pending_count(c));
	log_end(s);
	s->count.closed[why]++;
	c->counted = true;
	pending_drop(s, c, pending_count(c));
	set_remove(&s->streams, number);
	set_remove(&s->dirty, number);
	set_remove(&s->behind, number);
	set_remove(&s->catching, number);
	stream_unrole(s, c);
	if (next != 0)
		s->conns[next].u.stream.prev = prev;
	if (prev != 0)
		s->conns[prev].u.stream.next = next;
	else
		u->first = next;
	if (--u->streams == 0)
		set_remove(&s->online, session->user);
	session->streams--;
	session_rest(s, c->u.stream.session);
	memset(&c->u, 0, sizeof c->u);
	c->state = CONN_CLOSING;
	conn_crowd(s, c);
}

/* Takes a connection out of those that wait for an answer. */
static void wait_leave(struct server *s, struct conn *c)
{
	uint32_t next = c->u.wait.next, prev = c->u.wait.prev;

	*(prev != 0 ? &s->conns[prev].u.wait.next : &s->questions[c->u.wait.question].first) = next;
	if (next != 0)
		s->conns[next].u.wait.prev = prev;
	memset(&c->u, 0, sizeof c->u);
	c->state = CONN_HEAD;
}

/* Ends a connection at once; conn_reap closes it. */
static void conn_dead(struct server *s, struct conn *c, enum close_reason why)
{
	if (c->state == CONN_DEAD)
		return;
	if (c->state == CONN_WAIT)
		wait_leave(s, c);
	if (c->state == CONN_STREAM)
		stream_leave(s, c, why);
	else if (!c->counted)
		s->count.closed[why]++;
	c->abort = why == CLOSE_slow || why == CLOSE_stalled || why == CLOSE_too_many;
	c->state = CONN_DEAD;
	set_remove(&s->dirty, conn_number(s, c));
	set_remove(&s->unread, conn_number(s, c));
	set_remove(&s->crowded, conn_number(s, c));
	set_add(&s->dead, conn_number(s, c));
}

/* ---- where they come from ---- */

/* What counts as one: whoever has an IPv6 address has all of its /64. */
static struct address source_address(const struct address *a)
{
	struct address all = *a;

	if (!address_is_four(a))
		memset(all.bytes + 8, 0, 8);
	return all;
}

static uint32_t address_hash(const struct server *s, const struct address *a)
{
	return hash_span(s->hash_key, (struct span){(const char *)a->bytes, sizeof a->bytes});
}

/* The record of an address, in a table of sources or of paces: behind the hash they have it; 0 if there is none. */
static uint32_t address_find(const struct table *t, uint32_t hash, const struct address *a)
{
	uint32_t at = 0, record;

	while ((record = table_next(t, hash, &at)) != 0)
		if (memcmp(t->records + record * t->stride + sizeof hash, a, sizeof *a) == 0)
			break;
	return record;
}

/* The connection counts for this address now. False if that has as many as it may. */
static bool source_take(struct server *s, struct conn *c, const struct address *from)
{
	struct address address = source_address(from);
	uint32_t hash = address_hash(s, &address), i = address_find(&s->sources_by_address, hash, &address);

	if (i != 0 && s->sources[i].connections >= s->opt.connections_per_address)
		return false;
	if (i == 0) {
		i = s->sources_free != 0 ? s->sources_free : s->sources_top++;
		if (s->sources_free != 0)
			s->sources_free = s->sources[i].next_free;
		s->sources[i] = (struct source){.hash = hash, .address = address};
		table_add(&s->sources_by_address, i);
	}
	s->sources[i].connections++;
	s->sources_of[conn_number(s, c)] = i;
	return true;
}

static void source_leave(struct server *s, uint32_t number)
{
	uint32_t i = s->sources_of[number];

	s->sources_of[number] = 0;
	if (i == 0 || --s->sources[i].connections > 0)
		return;
	table_remove(&s->sources_by_address, i);
	s->sources[i].next_free = s->sources_free;
	s->sources_free = i;
}

/* May this address ask now? Then it has. */
static bool pace_take(struct server *s, const struct address *from)
{
	struct address address = source_address(from);
	int64_t share_us = 1000000 / s->opt.requests_per_address, now_us = s->now_ms * 1000;
	uint32_t hash = address_hash(s, &address), i = address_find(&s->paces_by_address.table, hash, &address);
	struct pace *p;

	if (i == 0) {
		i = recent_take(&s->paces_by_address);
		s->paces[i] = (struct pace){.hash = hash, .address = address};
		table_add(&s->paces_by_address.table, i);
	}
	p = &s->paces[i];
	if (p->until_us < now_us)
		p->until_us = now_us;
	if (p->until_us + share_us > now_us + 1000000)
		return false;
	p->until_us += share_us;
	return true;
}

/* The peer of a connection; false for a Unix socket's, or if there is none any more. */
static bool conn_peer(struct server *s, struct conn *c, struct address *a)
{
	struct sockaddr_storage peer = {0};
	socklen_t bytes = sizeof peer;

	return s->sys->getpeername((int)conn_number(s, c), (struct sockaddr *)&peer, &bytes) == 0 && address_of(&peer, a);
}

/* Does it matter where connections come from? */
static bool sources_matter(const struct server *s)
{
	return s->proxy_count > 0 || s->opt.connections_per_address > 0 || s->opt.requests_per_address > 0;
}

void conn_reap(struct server *s)
{
	struct linger reset = {.l_onoff = 1};
	uint32_t i = 0;

	while ((i = set_next(&s->dead, i)) != SET_END) {
		struct conn *c = &s->conns[i];

		if (c->abort)
			s->sys->setsockopt((int)i, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
		s->sys->close((int)i);
		hold_free(&c->in);
		hold_free(&c->out);
		source_leave(s, i);
		s->admins -= c->admin;
		set_remove(&s->open, i);
		set_remove(&s->dead, i);
		*c = (struct conn){0};
	}
}

struct conn *conn_open(struct server *s, int fd, bool admin)
{
	struct conn *c = &s->conns[fd];
	struct address peer;
	bool known;

	assert(c->state == CONN_FREE);
	*c = (struct conn){.state = CONN_HEAD, .serial = ++s->serial, .since_ms = (uint32_t)s->now_ms};
	set_add(&s->open, (uint32_t)fd);
	c->admin = admin;
	c->shed = !admin && s->open.count - s->admins > s->conns_soft;
	s->admins += admin;
	s->count.connections++;
	if (sources_matter(s) && !admin) {
		known = conn_peer(s, c, &peer);
		c->proxied = networks_have(s->proxies, s->proxy_count, known ? &peer : NULL);
		if (known && !c->proxied && s->opt.connections_per_address > 0 && !source_take(s, c, &peer))
			conn_dead(s, c, CLOSE_too_many);
	}
	return c;
}

/* All is written. Says so to the peer, and waits for it to hear it. */
static void conn_finish(struct server *s, struct conn *c)
{
	if (c->finished)
		return;
	c->finished = true;
	c->since_ms = (uint32_t)s->now_ms;
	if (c->ended || s->sys->shutdown((int)conn_number(s, c), SHUT_WR) < 0)
		conn_dead(s, c, CLOSE_done);
}

/*
 * sendmsg, and what its result means for the connection. Returns the bytes taken. A write that
 * was short, or none, sets blocked: EPOLLOUT tells (edge-triggered) when there is room again.
 */
static size_t conn_send(struct server *s, struct conn *c, struct iovec *iov, uint16_t pieces, size_t bytes)
{
	struct msghdr message = {.msg_iov = iov, .msg_iovlen = pieces};
	ssize_t n = s->sys->sendmsg((int)conn_number(s, c), &message, MSG_NOSIGNAL | MSG_DONTWAIT);

	s->count.sends++;
	if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS && errno != ENOMEM) {
		conn_dead(s, c, CLOSE_reset);
		return 0;
	}
	if (n > 0)
		s->count.sent_bytes += (uint64_t)n;
	c->blocked = n < 0 || (size_t)n < bytes;
	c->starved = n < 0 && errno != EAGAIN;
	if (n > 0 || !c->tried)
		c->since_ms = (uint32_t)s->now_ms;
	c->tried = c->blocked;
	return n < 0 ? 0 : (size_t)n;
}

/* Writes bytes that no ring holds; what the kernel does not take now, the connection keeps. */
static void conn_write(struct server *s, struct conn *c, struct span bytes)
{
	struct iovec iov = {(char *)(uintptr_t)bytes.p, bytes.n};
	bool waits = c->out != NULL || c->blocked || (c->state == CONN_STREAM && c->u.stream.sent > 0);
	size_t taken = waits ? 0 : conn_send(s, c, &iov, 1, bytes.n);

	if (c->state == CONN_DEAD || taken == bytes.n)
		return;
	if (!hold_append(&c->out, bytes.p + taken, bytes.n - taken))
		conn_dead(s, c, CLOSE_no_memory);
	else if (!c->blocked)
		conn_dirty(s, c);
}

/* Frames as this stream takes them. */
static void stream_put(struct buf *b, const struct conn *c, struct span frames)
{
	if (c->chunked && frames.n > 0) /* a chunk of nothing would be the last one */
		sse_chunk(b, frames);
	else
		buf_span(b, frames);
}

/* Writes what a connection that is closing keeps: now, and not behind the streams that are dirty. */
static void conn_goodbye(struct server *s, struct conn *c)
{
	struct span rest = hold_view(c->out);
	struct iovec iov = {(char *)(uintptr_t)rest.p, rest.n};
	size_t taken = conn_send(s, c, &iov, 1, rest.n);

	if (c->state == CONN_DEAD)
		return;
	c->out->at += (uint32_t)taken;
	if (taken == rest.n) {
		hold_free(&c->out);
		conn_finish(s, c);
	}
}

/* Gives a stream a last frame, behind the one it is in the middle of, and closes it. */
static void stream_end(struct server *s, struct conn *c, enum close_reason why, struct span frame)
{
	const struct event *e = c->u.stream.sent > 0 ? ring_event(&s->ring, pending_number(s, c, 0)) : NULL;
	struct hold *out = c->out;
	bool kept = true;

	if (c->u.stream.sent > 0 && e == NULL) {
		conn_dead(s, c, CLOSE_slow);
		return;
	}
	c->out = NULL;
	if (e != NULL) {
		struct span rest = span_from(ring_bytes(&s->ring, e, c->chunked), c->u.stream.sent);

		kept = hold_append(&c->out, rest.p, rest.n);
	}
	if (out != NULL)
		kept &= hold_append(&c->out, out->bytes + out->at, out->len - out->at);
	free(out);
	buf_clear(&s->scratch);
	stream_put(&s->scratch, c, frame);
	if (c->chunked)
		buf_text(&s->scratch, "0\r\n\r\n"); /* the last chunk: RFC 9112 section 7.1 */
	kept &= !s->scratch.failed && hold_append(&c->out, s->scratch.data, s->scratch.len);
	stream_leave(s, c, why);
	if (!kept)
		conn_dead(s, c, CLOSE_no_memory);
	else if (!c->blocked)
		conn_goodbye(s, c);
}

static int64_t retry_ms(struct server *s)
{
	return s->opt.retry + random_upto(s, s->opt.retry_jitter);
}

/* Ends a stream with a time to come back after. */
static void stream_send_off(struct server *s, struct conn *c, enum close_reason why)
{
	buf_clear(&s->body);
	sse_retry(&s->body, retry_ms(s));
	stream_end(s, c, why, buf_view(&s->body));
}

/* ============================================================================================
 * routing: from an event to the streams it is for
 * ============================================================================================ */

/* ---- an audience, read from JSON and packed: see enum who_mark ---- */

/* A name as name_error has it, or json_fail at the byte `from`. */
static bool audience_name(struct json *j, size_t from, const struct buf *name)
{
	const char *error = name_error(buf_view(name));

	if (j->error != NULL)
		return false;
	if (name->failed)
		return json_fail(j, from, "a user or role is longer than 64 bytes");
	if (error != NULL)
		return json_fail(j, from, name->len == 0 ? "a user or role must not be empty"
			: "a user or role has a control character");
	return true;
}

/* A user id: a string, or an integer, which is the same as its digits in a string. */
static bool audience_user(struct json *j, struct buf *id)
{
	char kind = json_peek(j);
	size_t from = j->at;

	if (kind == '"')
		json_string(j, id);
	else if (kind != '0')
		return json_fail(j, from, "a user must be an integer or a string");
	else
		json_value(j, id);
	for (size_t i = kind == '0' && id->len > 0 && id->data[0] == '-' ? 1 : 0; kind == '0' && i < id->len; i++)
		if (!is_digit(id->data[i]))
			return json_fail(j, from, "a user must be an integer or a string");
	return audience_name(j, from, id);
}

static bool audience_role(struct json *j, struct buf *name)
{
	char kind = json_peek(j);
	size_t from = j->at;

	if (kind != '"')
		return json_fail(j, from, "a role must be a string");
	json_string(j, name);
	return audience_name(j, from, name);
}

/* Appends a name to a packed audience, before the first of a list its mark. */
static void who_add(struct buf *who, enum who_mark mark, bool first, struct span name)
{
	if (first)
		buf_byte(who, (char)mark);
	buf_byte(who, (char)name.n);
	buf_span(who, name);
}

/* {"users":[...],"roles":[...]}, each at most once, or users alone of an except; appended to who. */
static bool audience_read(struct json *j, bool except, struct buf *who)
{
	bool seen[2] = {false, false};

	if (!json_open(j, '{'))
		return false;
	while (json_more(j, '}')) {
		char bytes[MAX_NAME];
		struct buf name = buf_fixed(bytes, sizeof bytes);
		size_t from;
		bool is_role;

		json_peek(j);
		from = j->at;
		if (!json_key(j, &name))
			return false;
		is_role = !except && span_is(buf_view(&name), "roles");
		if (name.failed || (!is_role && !span_is(buf_view(&name), "users")))
			return json_fail(j, from, except ? "unknown key: there is users" : "unknown key: there are users and roles");
		if (seen[is_role])
			return json_fail(j, from, "this key is given twice");
		seen[is_role] = true;
		if (!json_open(j, '['))
			return false;
		for (bool first = true; json_more(j, ']'); first = false) {
			buf_clear(&name);
			if (is_role ? !audience_role(j, &name) : !audience_user(j, &name))
				return false;
			who_add(who, except ? WHO_EXCEPT : is_role ? WHO_ROLES : WHO_USERS, first, buf_view(&name));
		}
	}
	return j->error == NULL;
}

/* ---- and found among those who are here ---- */

/*
 * Puts an event into a stream's pending list; one that is behind finds it in the ring. False if it
 * is there already, or must not be.
 */
static bool route_stream(struct server *s, struct conn *c, uint32_t number, bool excepted)
{
	uint32_t count = pending_count(c);

	if (c->state != CONN_STREAM)
		return false;
	if (excepted && s->users[conn_session(s, c)->user].excluded)
		return false;
	if (conn_behind(s, c)) {
		bool counted = s->counted[conn_number(s, c)] == number;

		s->counted[conn_number(s, c)] = number;
		return !counted;
	}
	if (count > 0 && pending_number(s, c, count - 1) == number)
		return false;
	if (count == s->opt.queue || pending_lost(s, c)) {
		conn_dead(s, c, CLOSE_slow);
		return false;
	}
	pending_add(s, c, number);
	if (c->blocked)
		conn_crowd(s, c);
	else
		conn_dirty(s, c);
	return true;
}

static uint32_t route_set(struct server *s, const struct set *set, uint32_t number, bool excepted)
{
	uint32_t matched = 0;

	for (uint32_t i = set_next(set, 0); i != SET_END; i = set_next(set, i + 1))
		matched += route_stream(s, &s->conns[i], number, excepted);
	return matched;
}

static uint32_t route_user(struct server *s, struct span id, uint32_t number, bool excepted)
{
	uint32_t matched = 0, next;

	for (uint32_t i = s->users[user_find(s, id)].first; i != 0; i = next) {
		next = s->conns[i].u.stream.next;
		matched += route_stream(s, &s->conns[i], number, excepted);
	}
	return matched;
}

/* Marks the users that an event excepts, or takes the marks away again. Returns whether there are any. */
static bool route_except(struct server *s, struct span who, bool excluded)
{
	struct who_walk w = {.rest = who};
	bool any = false;

	while (who_next(&w))
		if (w.mark == WHO_EXCEPT) {
			s->users[user_find(s, w.name)].excluded = excluded;
			any = true;
		}
	return any;
}

/* Gives an event to every stream of its audience, once. Returns how many. */
static uint32_t route(struct server *s, struct span who, uint32_t number)
{
	bool excepted = route_except(s, who, true);
	struct who_walk w = {.rest = who};
	uint32_t matched = 0;
	int role;

	while (who_next(&w)) {
		if (w.mark == WHO_ALL)
			matched += route_set(s, &s->streams, number, excepted);
		else if (w.mark == WHO_USERS)
			matched += route_user(s, w.name, number, excepted);
		else if (w.mark == WHO_ROLES && (role = role_find(s, w.name)) >= 0)
			matched += route_set(s, &s->roles[role].streams, number, excepted);
	}
	if (excepted)
		route_except(s, who, false);
	return matched;
}

/* ============================================================================================
 * delivery: dirty connections are written in slices
 * ============================================================================================ */

bool deliver_keeps_up(const struct server *s)
{
	/* The second part: a connection is tried in this pass over the dirty ones or in the next, so
	 * nothing it waits for is overwritten before. */
	return s->crowded.count == 0 && (s->dirty.count == 0 || s->ring.end - s->pass_from < s->ring.size / 4);
}

static uint16_t iov_add(struct iovec *iov, uint16_t pieces, struct span bytes)
{
	char *p = (char *)(uintptr_t)bytes.p;

	if (pieces > 0 && (char *)iov[pieces - 1].iov_base + iov[pieces - 1].iov_len == p) {
		iov[pieces - 1].iov_len += bytes.n;
		return pieces;
	}
	iov[pieces] = (struct iovec){p, bytes.n};
	return (uint16_t)(pieces + 1);
}

/*
 * All that waits for a connection, as much as one write may carry: the rest of the frame it is
 * in the middle of, what conn_write kept, the other events. Returns the pieces in s->iov; *taken
 * is the number of events in them.
 */
static uint16_t deliver_gather(struct server *s, const struct conn *c, size_t *bytes, uint32_t *taken)
{
	uint32_t events = c->state == CONN_STREAM ? pending_count(c) : 0, i = 0;
	uint16_t pieces = 0, most = sizeof s->iov / sizeof s->iov[0] - 2;

	*bytes = 0;
	if (c->state == CONN_STREAM && c->u.stream.sent > 0) {
		const struct event *e = ring_event(&s->ring, pending_number(s, c, i++));
		struct span rest = span_from(ring_bytes(&s->ring, e, c->chunked), c->u.stream.sent);

		pieces = iov_add(s->iov, pieces, rest);
		*bytes += rest.n;
	}
	if (c->out != NULL) {
		struct span rest = {c->out->bytes + c->out->at, c->out->len - c->out->at};

		pieces = iov_add(s->iov, pieces, rest);
		*bytes += rest.n;
	}
	for (; i < events && pieces < most && *bytes < WRITE_BYTES; i++) {
		struct span frame = ring_bytes(&s->ring, ring_event(&s->ring, pending_number(s, c, i)), c->chunked);

		pieces = iov_add(s->iov, pieces, frame);
		*bytes += frame.n;
	}
	*taken = i;
	return pieces;
}

/* The kernel took all that deliver_gather laid out, so many events among it. */
static void deliver_took_all(struct server *s, struct conn *c, uint32_t events)
{
	hold_free(&c->out);
	if (c->state == CONN_STREAM) {
		c->u.stream.sent = 0;
		pending_drop(s, c, events);
		s->count.deliveries += events;
	}
}

/* The kernel took only n bytes of it. */
static void deliver_took(struct server *s, struct conn *c, size_t n)
{
	uint32_t events = c->state == CONN_STREAM ? pending_count(c) : 0, done = 0;
	size_t sent = c->state == CONN_STREAM ? c->u.stream.sent : 0;
	bool out_first = sent == 0;

	while (n > 0) {
		size_t left;

		if (c->out != NULL && (out_first || done > 0)) {
			left = c->out->len - c->out->at;
			c->out->at += (uint32_t)(n < left ? n : left);
			if (n < left)
				break;
			hold_free(&c->out);
		} else {
			assert(done < events);
			left = ring_bytes(&s->ring, ring_event(&s->ring, pending_number(s, c, done)), c->chunked).n - sent;
			sent = n < left ? sent + n : 0;
			if (n < left)
				break;
			done++;
		}
		n -= left;
	}
	if (c->state == CONN_STREAM) {
		c->u.stream.sent = (uint32_t)sent;
		pending_drop(s, c, done);
		s->count.deliveries += done;
	}
}

/* Everything a connection had is written. */
static void deliver_idle(struct server *s, struct conn *c)
{
	if (c->state == CONN_CLOSING) {
		conn_finish(s, c);
	} else if (c->state == CONN_HEAD && s->draining && c->in == NULL) {
		c->state = CONN_CLOSING;
		conn_finish(s, c);
	} else if (c->state == CONN_HEAD) {
		set_add(&s->unread, conn_number(s, c)); /* requests that waited for the answer to leave */
	} else if (s->draining && s->datagrams.fd < 0) {
		stream_send_off(s, c, CLOSE_shutdown);
	}
}

static bool session_has_role(const struct server *s, const struct session *x, struct span name)
{
	for (uint64_t rest = x->roles; rest != 0; rest &= rest - 1) {
		const struct role *role = &s->roles[__builtin_ctzll(rest)];

		if (span_same((struct span){role->name, role->bytes}, name))
			return true;
	}
	return false;
}

/* May a session see an event for these, as things stand now? */
static bool session_may_see(const struct server *s, const struct session *x, struct span who)
{
	struct span user = user_id(&s->users[x->user]);
	struct who_walk w = {.rest = who};
	bool may = false;

	while (who_next(&w)) {
		if (w.mark == WHO_EXCEPT && span_same(w.name, user))
			return false;
		may |= w.mark == WHO_ALL || (w.mark == WHO_USERS && span_same(w.name, user))
			|| (w.mark == WHO_ROLES && session_has_role(s, x, w.name));
	}
	return may;
}

/* Tells the page to load its data anew: there is no way to tell it what it missed. */
static void stream_resync(struct server *s, struct buf *b, enum resume why)
{
	char data[64];
	struct buf reason = buf_fixed(data, sizeof data);

	buf_text(&reason, "{\"reason\":\"");
	buf_text(&reason, resume_names[why]);
	buf_text(&reason, "\"}");
	sse_frame(b, &(struct sse_event){s->ring.newest, span_of("system.resync"), buf_view(&reason), s->wall_ms / 1000});
}

/* What a stream was to be caught up with was overwritten before its turn came. */
static void stream_overtaken(struct server *s, struct conn *c)
{
	s->count.resumed[RESUME_too_old]++;
	pending_drop(s, c, pending_count(c));
	c->u.stream.run_first = s->ring.next;
	buf_clear(&s->body);
	buf_clear(&s->scratch);
	stream_resync(s, &s->body, RESUME_too_old);
	stream_put(&s->scratch, c, buf_view(&s->body));
	if (s->body.failed || s->scratch.failed)
		conn_dead(s, c, CLOSE_no_memory);
	else
		conn_write(s, c, buf_view(&s->scratch));
}

/*
 * Gives a stream that is behind, and has nothing pending, the next events that it may see now, as many as
 * one write carries. It is behind until it has got them all: so what is published meanwhile waits in the ring,
 * and there is neither a gap nor a repeat where the stream goes live.
 */
static void stream_catch_up(struct server *s, struct conn *c)
{
	const struct session *x = conn_session(s, c);
	uint32_t at = c->u.stream.run_first;
	uint64_t who = UINT64_MAX; /* where the audience of the last event begins */
	const struct event *e;
	size_t bytes = 0;
	bool may = false;

	if (at != s->ring.next && ring_event(&s->ring, at) == NULL) {
		stream_overtaken(s, c);
		return;
	}
	for (; (e = ring_event(&s->ring, at)) != NULL && bytes < CATCH_WRITE && s->looked < CATCH_BYTES; at++) {
		s->looked += sizeof *e;
		if (e->at - e->who != who) {
			who = e->at - e->who;
			may = session_may_see(s, x, ring_who(&s->ring, e));
			s->looked += e->who_bytes;
		}
		if (!may)
			continue;
		if (!pending_runs(c, at) && c->u.stream.listed == s->lists.width)
			break;
		pending_add(s, c, at);
		bytes += e->bytes;
	}
	if (pending_count(c) == 0)
		c->u.stream.run_first = at;
}

/* Returns the bytes written. */
static size_t deliver_one(struct server *s, struct conn *c)
{
	size_t bytes, taken = 0;
	uint32_t events;
	uint16_t pieces;

	set_remove(&s->dirty, conn_number(s, c));
	set_remove(&s->catching, conn_number(s, c));
	if (conn_behind(s, c) && pending_count(c) == 0)
		stream_catch_up(s, c);
	else if (conn_behind(s, c) && c->u.stream.sent == 0 && pending_lost(s, c))
		stream_overtaken(s, c);
	if (c->state == CONN_STREAM && pending_lost(s, c))
		conn_dead(s, c, CLOSE_slow);
	if (c->state == CONN_DEAD)
		return 0;
	pieces = deliver_gather(s, c, &bytes, &events);
	if (bytes > 0) {
		taken = conn_send(s, c, s->iov, pieces, bytes);
		if (c->state == CONN_DEAD)
			return 0;
		if (taken == bytes)
			deliver_took_all(s, c, events);
		else
			deliver_took(s, c, taken);
	}
	conn_crowd(s, c);
	if (c->blocked)
		return taken;
	if (c->out != NULL || (c->state == CONN_STREAM && pending_count(c) > 0)
		|| (conn_behind(s, c) && c->u.stream.run_first != s->ring.next)) {
		conn_dirty(s, c);
		return taken;
	}
	set_remove(&s->behind, conn_number(s, c));
	deliver_idle(s, c);
	return taken;
}

/* Writes some of what streams have missed: a small share of a turn, so that the others need not wait for it. */
static void deliver_catch_up(struct server *s)
{
	size_t bytes = 0;

	s->looked = 0;
	for (int i = 0; i < CATCH_CONNS && bytes < CATCH_BYTES && s->looked < CATCH_BYTES && s->catching.count > 0; i++) {
		uint32_t number = set_next(&s->catching, s->catch_cursor);

		if (number == SET_END)
			number = set_next(&s->catching, 0);
		s->catch_cursor = number + 1;
		bytes += deliver_one(s, &s->conns[number]);
	}
}

/* A clock in microseconds; `before` if it can't be read. */
static int64_t clock_us(const struct server *s, clockid_t clock, int64_t before)
{
	struct timespec t;

	return s->sys->clock_gettime(clock, &t) == 0 ? (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000 : before;
}

static const struct {
	int64_t most_us;
	const char *text;
} latency_bounds[LATENCY_BUCKETS] = {
#define X(bound, text) {bound, text},
	LATENCY_BOUNDS(X)
#undef X
};

/* The events up to here were taken in at this time. */
static void latency_mark(struct server *s, int64_t taken_us)
{
	struct latency *l = &s->latency;
	uint32_t before = l->mark_count > 0 ? l->marks[l->mark_count - 1].end : l->counted;

	if (before == s->ring.next)
		return;
	if (l->mark_count < LATENCY_MARKS)
		l->marks[l->mark_count++].taken_us = taken_us;
	l->marks[l->mark_count - 1].end = s->ring.next;
}

/* The events before this number were written to all who could take them. */
static void latency_count(struct server *s, uint32_t end)
{
	struct latency *l = &s->latency;
	uint32_t done = 0;

	if (l->counted == end)
		return;
	s->now_us = clock_us(s, CLOCK_MONOTONIC, s->now_us);
	for (uint32_t i = 0; i < l->mark_count && l->counted != end; i++) {
		bool whole = (int32_t)(end - l->marks[i].end) >= 0;
		uint32_t to = whole ? l->marks[i].end : end, bucket = 0;
		int64_t took_us = s->now_us - l->marks[i].taken_us;

		while (took_us > latency_bounds[bucket].most_us)
			bucket++;
		l->buckets[bucket] += to - l->counted;
		l->sum_us += (uint64_t)took_us * (to - l->counted);
		l->counted = to;
		done += whole;
	}
	l->mark_count -= done;
	memmove(l->marks, l->marks + done, l->mark_count * sizeof *l->marks);
}

/* A pass over the dirty connections is over, the next one begins. */
static void deliver_passed(struct server *s, uint32_t end)
{
	latency_count(s, end);
	s->latency.pass = s->ring.next;
	s->pass_from = s->ring.end;
}

void deliver_slice(struct server *s)
{
	size_t bytes = 0;

	for (int i = 0; i < SLICE_CONNS && bytes < SLICE_BYTES && s->dirty.count > 0; i++) {
		uint32_t number = set_next(&s->dirty, s->cursor);

		if (number == SET_END) {
			s->cursor = 0;
			deliver_passed(s, s->latency.pass);
			continue;
		}
		s->cursor = number + 1;
		bytes += deliver_one(s, &s->conns[number]);
	}
	if (s->dirty.count == 0)
		deliver_passed(s, s->ring.next);
	deliver_catch_up(s);
}

/* ============================================================================================
 * authorities: what they say about a token, how it takes effect, how it is taken back
 *
 * There are three: the token file, a ticket that the program checks itself, and Django, who is
 * asked. Each of them leads to a session, by session_apply or, for the file, by token_apply.
 * ============================================================================================ */

/* What waits for a stream was for the roles it had: it is looked through once more, as if the stream came back now. */
static void stream_reconsider(struct server *s, struct conn *c)
{
	set_remove(&s->dirty, conn_number(s, c));
	set_add(&s->behind, conn_number(s, c));
	s->counted[conn_number(s, c)] = s->ring.next - 1;
	pending_undo(s, c);
	if (c->blocked)
		conn_crowd(s, c);
	else
		conn_dirty(s, c);
}

/* A stream's roles count from here on. */
static void stream_roles(struct server *s, struct conn *c)
{
	for (uint64_t rest = conn_session(s, c)->roles; rest != 0; rest &= rest - 1)
		set_add(&s->roles[__builtin_ctzll(rest)].streams, conn_number(s, c));
	if (pending_count(c) > 0)
		stream_reconsider(s, c);
}

/* Ends a stream whose token is no longer good. */
static void stream_revoke(struct server *s, struct conn *c)
{
	stream_end(s, c, CLOSE_revoked, span_of("data: {\"event\":\"auth.revoked\"}\n\n"));
}

/* Ends the streams of a session and lets nobody in by it, unless the token file does; without
 * streams it is gone then. Returns how many streams there were. */
static uint32_t session_revoke(struct server *s, uint32_t session)
{
	uint32_t ended = s->sessions[session].streams, next;

	s->sessions[session].until_ms = -1;
	session_uncache(s, session);
	for (uint32_t i = s->users[s->sessions[session].user].first; i != 0; i = next) {
		next = s->conns[i].u.stream.next;
		if (s->conns[i].u.stream.session == session)
			stream_revoke(s, &s->conns[i]);
	}
	session_rest(s, session);
	return ended;
}

/* The same for all sessions of a user. */
static uint32_t user_revoke(struct server *s, uint32_t user)
{
	uint32_t ended = s->users[user].streams, next;

	for (uint32_t i = s->users[user].first_session; i != 0; i = s->sessions[i].next) {
		s->sessions[i].until_ms = -1;
		session_uncache(s, i);
	}
	for (uint32_t i = s->users[user].first; i != 0; i = next) {
		next = s->conns[i].u.stream.next;
		stream_revoke(s, &s->conns[i]);
	}
	for (uint32_t i = s->users[user].first_session; i != 0; i = next) {
		next = s->sessions[i].next;
		session_rest(s, i);
	}
	return ended;
}

/* A session's roles are these from now on, for its open streams too; they were taken by roles_take. */
static void session_set_roles(struct server *s, uint32_t session, uint64_t roles)
{
	struct session *x = &s->sessions[session];
	uint64_t before = x->roles;

	for (uint32_t i = before == roles ? 0 : s->users[x->user].first; i != 0; i = s->conns[i].u.stream.next) {
		struct conn *c = &s->conns[i];

		if (c->u.stream.session != session)
			continue;
		stream_unrole(s, c);
		x->roles = roles;
		stream_roles(s, c);
		x->roles = before;
	}
	x->roles = roles;
	roles_release(s, before);
}

/* Roles that are not among these names end at once: there may be no room for the new ones before. */
static void session_shrink_roles(struct server *s, uint32_t session, const struct identity *who)
{
	uint64_t kept = 0;

	for (int i = 0; i < who->role_count; i++) {
		int role = role_find(s, who->roles[i]);

		if (role >= 0)
			kept |= s->sessions[session].roles & UINT64_C(1) << role;
	}
	for (uint64_t rest = kept; rest != 0; rest &= rest - 1)
		s->roles[__builtin_ctzll(rest)].sessions++;
	session_set_roles(s, session, kept);
}

static void session_log_roles(struct server *s, uint32_t session)
{
	const struct session *x = &s->sessions[session];
	struct buf *b;

	if (x->streams == 0)
		return;
	b = log_begin(s, LOG_INFO, "roles_changed");
	log_span(b, "user", user_id(&s->users[x->user]));
	log_number(b, "streams", x->streams);
	log_end(s);
}

/* The token's session for this user: the one it has, else a new one. One of another user is taken back. */
static uint32_t session_of(struct server *s, uint32_t session, const uint8_t key[32], uint32_t user)
{
	if (session != 0 && s->sessions[session].user != user) {
		session_revoke(s, session);
		session = 0;
	}
	return session != 0 ? session : session_new(s, key, user);
}

/*
 * What an authority says takes effect: *session is the session of this token from now on, with these
 * roles, also on the streams it has. If the token has become another user's, they end. What stands in
 * the token file stays as it is.
 */
static enum refusal session_apply(struct server *s, const uint8_t key[32], const struct identity *who,
	enum authority by, uint32_t *session)
{
	uint32_t user, i = session_find(s, key);
	struct hold *sid = NULL;
	enum refusal why = REFUSE_NONE;
	uint64_t roles, before, kept;

	*session = i;
	if (i != 0 && s->sessions[i].authority == BY_FILE)
		return REFUSE_NONE;
	*session = 0;
	if (who->expire_at != 0 && who->expire_at * 1000 <= s->wall_ms)
		return REFUSE_ended_token;
	if (who->sid.n > 0 && !hold_append(&sid, who->sid.p, who->sid.n))
		return REFUSE_no_memory;
	user = user_get(s, who->user);
	if (user == 0) {
		hold_free(&sid);
		return REFUSE_no_memory;
	}
	i = session_of(s, i, key, user);
	s->sessions[i].authority = (uint8_t)by;
	before = s->sessions[i].roles;
	session_shrink_roles(s, i, who);
	kept = s->sessions[i].roles;
	if (roles_take(s, who->roles, who->role_count, &roles)) {
		session_set_roles(s, i, roles);
		session_name(s, i, sid);
		s->sessions[i].expire_at = who->expire_at;
		*session = i;
	} else {
		hold_free(&sid);
		s->sessions[i].until_ms = -1;
		why = REFUSE_too_many_roles;
	}
	if (kept != before || s->sessions[i].roles != kept) /* a bit may mean another role now */
		session_log_roles(s, i);
	if (why != REFUSE_NONE)
		session_rest(s, i);
	return why;
}

/* The record of who was revoked lately; NULL: nobody remembers. */
static struct tombstone *tombstone_find(const struct server *s, enum tombstone_kind kind, struct span id)
{
	const struct tombstones *all = &s->tombstones[kind];
	uint32_t hash = hash_span(s->hash_key, id), at = 0, i;

	while ((i = table_next(&all->by_id.table, hash, &at)) != 0) {
		struct tombstone *t = &all->list[i];

		if (!t->outdated && span_same((struct span){t->id, t->bytes}, id))
			return t;
	}
	return NULL;
}

/* The newest is the last to be forgotten: one that was there before stays only to be overwritten in turn. */
static void tombstone_put(struct server *s, enum tombstone_kind kind, struct span id)
{
	struct tombstones *all = &s->tombstones[kind];
	struct tombstone *t = tombstone_find(s, kind, id);
	uint32_t i;

	if (t != NULL)
		t->outdated = true;
	i = recent_take(&all->by_id);
	t = &all->list[i];
	*t = (struct tombstone){.hash = hash_span(s->hash_key, id), .bytes = (uint8_t)id.n, .order = ++s->order,
		.wall_ms = s->wall_ms};
	memcpy(t->id, id.p, id.n);
	table_add(&all->by_id.table, i);
}

/* Was this user or sid revoked after a ticket of this age was made? Without iat it may be of any age. */
static bool identity_revoked(const struct server *s, const struct identity *who)
{
	const struct tombstone *user = tombstone_find(s, TOMB_USER, who->user);
	const struct tombstone *sid = who->sid.n > 0 ? tombstone_find(s, TOMB_SID, who->sid) : NULL;
	int64_t made_ms = who->iat * 1000 + who->iat_ms;

	return (user != NULL && user->wall_ms >= made_ms) || (sid != NULL && sid->wall_ms >= made_ms);
}

static bool tombstone_since(const struct server *s, enum tombstone_kind kind, struct span id, uint64_t order)
{
	const struct tombstone *t = tombstone_find(s, kind, id);

	return t != NULL && t->order > order;
}

/* Did something happen after Django was asked that its answer may not know of? */
static bool identity_overtaken(const struct server *s, const struct identity *who, uint64_t asked)
{
	return tombstone_since(s, TOMB_USER, who->user, asked) || tombstone_since(s, TOMB_REFRESH, who->user, asked)
		|| (who->sid.n > 0 && tombstone_since(s, TOMB_SID, who->sid, asked));
}

/* ---- reading what an authority says: members of JSON, into an identity ---- */

static void identity_begin(struct identity *who)
{
	*who = (struct identity){.exp = -1, .nbf = -1, .iat = -1};
	who->text = buf_fixed(who->bytes, sizeof who->bytes);
}

static struct span identity_keep(struct identity *who, const struct buf *name)
{
	size_t from = who->text.len;

	buf_span(&who->text, buf_view(name));
	return (struct span){who->text.data + from, who->text.len - from};
}

static bool json_null(struct json *j)
{
	return json_peek(j) == 'n' && json_value(j, NULL);
}

static bool identity_user(struct json *j, struct identity *who)
{
	char bytes[MAX_NAME];
	struct buf name = buf_fixed(bytes, sizeof bytes);

	if (!audience_user(j, &name))
		return false;
	who->user = identity_keep(who, &name);
	return true;
}

static bool identity_roles(struct json *j, struct identity *who)
{
	char bytes[MAX_NAME];
	struct buf name = buf_fixed(bytes, sizeof bytes);

	if (json_null(j))
		return true;
	if (json_peek(j) != '[')
		return json_fail(j, j->at, "roles must be an array");
	json_open(j, '[');
	while (json_more(j, ']')) {
		json_peek(j);
		if (who->role_count == MAX_ROLES)
			return json_fail(j, j->at, "more than 64 roles");
		buf_clear(&name);
		if (!audience_role(j, &name))
			return false;
		who->roles[who->role_count++] = identity_keep(who, &name);
	}
	return j->error == NULL;
}

static bool identity_sid(struct json *j, struct identity *who)
{
	char bytes[MAX_NAME];
	struct buf sid = buf_fixed(bytes, sizeof bytes);
	size_t from;

	if (json_null(j))
		return true;
	json_peek(j);
	from = j->at;
	if (json_peek(j) != '"' || !json_string(j, &sid) || sid.failed || sid.len == 0)
		return json_fail(j, from, "sid must be a string of 1 to 64 bytes");
	who->sid = identity_keep(who, &sid);
	return true;
}

static bool identity_expire_at(struct json *j, struct identity *who)
{
	return json_null(j) || json_date(j, &who->expire_at, NULL);
}

static bool identity_exp(struct json *j, struct identity *who)
{
	return json_date(j, &who->exp, NULL);
}

static bool identity_nbf(struct json *j, struct identity *who)
{
	return json_date(j, &who->nbf, NULL);
}

static bool identity_iat(struct json *j, struct identity *who)
{
	return json_date(j, &who->iat, &who->iat_ms);
}

/* A string or an array of strings: RFC 7519 section 4.1.3. */
static bool identity_aud(struct json *j, struct identity *who)
{
	char bytes[8], kind = json_peek(j);
	struct buf name = buf_fixed(bytes, sizeof bytes);

	who->has_audience = true;
	if (kind != '[' && kind != '"')
		return json_fail(j, j->at, "aud must be a string or an array of them");
	if (kind == '[')
		json_open(j, '[');
	while (kind == '"' || json_more(j, ']')) {
		if (json_peek(j) != '"')
			return json_fail(j, j->at, "aud must be a string or an array of them");
		buf_clear(&name);
		if (!json_string(j, &name))
			return false;
		who->for_us |= !name.failed && span_is(buf_view(&name), "sse");
		if (kind == '"')
			break;
	}
	return j->error == NULL;
}

/* One that says nothing here, but must be a string: RFC 7519 sections 4.1.1 and 4.1.7, RFC 7515 section 4.1. */
static bool text_member(struct json *j)
{
	return json_peek(j) == '"' ? json_value(j, NULL) : json_fail(j, j->at, "expected a string");
}

static bool identity_text(struct json *j, struct identity *who)
{
	(void)who;
	return text_member(j);
}

struct member {
	const char *name;
	bool (*read)(struct json *, struct identity *);
};

const char *answer_read(struct span text, struct identity *who, size_t *at)
{
	static const struct member members[] = {{"user", identity_user}, {"roles", identity_roles},
		{"sid", identity_sid}, {"expire_at", identity_expire_at}};
	enum { COUNT = sizeof members / sizeof members[0] };
	struct json j = json_begin(text);
	uint32_t seen = 0;

	identity_begin(who);
	if (json_open(&j, '{'))
		while (json_more(&j, '}')) {
			char bytes[16];
			struct buf name = buf_fixed(bytes, sizeof bytes);
			size_t from, i = 0;

			json_peek(&j);
			from = j.at;
			if (!json_key(&j, &name))
				break;
			while (i < COUNT && (name.failed || !span_is(buf_view(&name), members[i].name)))
				i++;
			if (i == COUNT)
				json_fail(&j, from, "unknown key: there are user, roles, sid, expire_at");
			else if (seen >> i & 1)
				json_fail(&j, from, "this key is given twice");
			else
				members[i].read(&j, who);
			if (j.error != NULL)
				break;
			seen |= 1u << i;
		}
	if (json_end(&j) && (seen & 1) == 0)
		json_fail(&j, 0, "user is missing");
	*at = j.at;
	return j.error;
}

/* ============================================================================================
 * tickets: tokens that Django signed (JWT: RFC 7519, JWS: RFC 7515, HS256: RFC 7518 section 3.2)
 * ============================================================================================ */

/* The names of an object's members, which must differ (RFC 7515 section 4, RFC 7519 section 4). */
struct names {
	struct span list[MAX_CLAIMS];
	int count;
	struct buf text;
	char bytes[MAX_TOKEN];
};

/* Reads the name of the next member. */
static enum refusal names_next(struct names *names, struct json *j, struct span *name)
{
	size_t from = names->text.len;

	if (names->count == MAX_CLAIMS)
		return REFUSE_ticket_claim;
	if (!json_key(j, &names->text)) /* half of a surrogate pair: json_value lets it pass */
		return REFUSE_ticket_json;
	*name = (struct span){names->text.data + from, names->text.len - from};
	for (int i = 0; i < names->count; i++)
		if (span_same(names->list[i], *name))
			return REFUSE_ticket_duplicate;
	names->list[names->count++] = *name;
	return REFUSE_NONE;
}

/* One part of a ticket decoded: it must be one JSON object. */
static enum refusal ticket_part(struct span part, struct buf *out)
{
	struct json j;

	if (!base64url(part, out))
		return REFUSE_ticket_encoding;
	j = json_begin(buf_view(out));
	if (json_peek(&j) != '{' || !json_value(&j, NULL))
		return REFUSE_ticket_json;
	return json_end(&j) ? REFUSE_NONE : REFUSE_ticket_trailing;
}

/* The JOSE header: it is compared with what we take, and decides nothing. */
static enum refusal ticket_header(struct span text)
{
	struct json j = json_begin(text);
	struct names names = {.count = 0};
	struct span name;
	bool hs256 = false;

	names.text = buf_fixed(names.bytes, sizeof names.bytes);
	json_open(&j, '{');
	while (json_more(&j, '}')) {
		char bytes[8];
		struct buf value = buf_fixed(bytes, sizeof bytes);
		enum refusal why = names_next(&names, &j, &name);

		if (why != REFUSE_NONE)
			return why;
		if (span_is(name, "crit") || span_is(name, "b64")) /* which must be in crit: RFC 7797 section 6 */
			return REFUSE_ticket_critical;
		if (span_is(name, "kid") || span_is(name, "typ") || span_is(name, "cty")) {
			if (!text_member(&j))
				return REFUSE_ticket_claim;
			continue;
		}
		if (!span_is(name, "alg"))
			json_value(&j, NULL);
		else if (json_peek(&j) != '"' || !json_string(&j, &value))
			return REFUSE_ticket_algorithm;
		else
			hs256 = !value.failed && span_is(buf_view(&value), "HS256");
	}
	return hs256 ? REFUSE_NONE : REFUSE_ticket_algorithm;
}

static enum refusal ticket_claims(struct span text, struct identity *who)
{
	static const struct member members[] = {{"sub", identity_user}, {"roles", identity_roles},
		{"sid", identity_sid}, {"expire_at", identity_expire_at}, {"exp", identity_exp},
		{"nbf", identity_nbf}, {"iat", identity_iat}, {"aud", identity_aud}, {"iss", identity_text},
		{"jti", identity_text}};
	enum { COUNT = sizeof members / sizeof members[0] };
	struct json j = json_begin(text);
	struct names names = {.count = 0};
	struct span name;

	names.text = buf_fixed(names.bytes, sizeof names.bytes);
	json_open(&j, '{');
	while (json_more(&j, '}')) {
		enum refusal why = names_next(&names, &j, &name);
		size_t i = 0;

		if (why != REFUSE_NONE)
			return why;
		while (i < COUNT && !span_is(name, members[i].name))
			i++;
		if (i == COUNT ? !json_value(&j, NULL) : !members[i].read(&j, who))
			return REFUSE_ticket_claim;
	}
	return REFUSE_NONE;
}

static enum refusal ticket_valid(const struct identity *who, int64_t now_s, int64_t leeway_s)
{
	if (who->user.n == 0)
		return REFUSE_ticket_no_subject;
	if (!who->has_audience)
		return REFUSE_ticket_no_audience;
	if (!who->for_us)
		return REFUSE_ticket_audience;
	if (who->exp < 0)
		return REFUSE_ticket_no_exp;
	if (who->exp <= now_s)
		return REFUSE_ticket_expired;
	return who->nbf > now_s + leeway_s || who->iat > now_s + leeway_s ? REFUSE_ticket_early : REFUSE_NONE;
}

enum refusal ticket_read(struct span ticket, const struct hmac_key *keys, int count, int64_t now_s, int64_t leeway_s,
	struct identity *who)
{
	struct span rest = ticket, header = span_cut(&rest, '.'), claims = span_cut(&rest, '.');
	struct span is_signed = {ticket.p, header.n + 1 + claims.n};
	char bytes[MAX_TOKEN];
	struct buf text = buf_fixed(bytes, sizeof bytes);
	enum refusal why;
	uint8_t right[32];
	bool good = false;

	identity_begin(who);
	if (ticket.n > MAX_TOKEN || header.n == 0 || claims.n == 0 || rest.n == 0 || memchr(rest.p, '.', rest.n) != NULL)
		return REFUSE_ticket_form;
	why = ticket_part(header, &text);
	if (why == REFUSE_NONE)
		why = ticket_header(buf_view(&text));
	if (why != REFUSE_NONE)
		return why;
	buf_clear(&text);
	if (!base64url(rest, &text))
		return REFUSE_ticket_encoding;
	for (int i = 0; text.len == sizeof right && i < count; i++) {
		hmac_sha256(&keys[i], is_signed, right);
		good |= same_secret(right, (const uint8_t *)text.data);
	}
	if (!good)
		return REFUSE_ticket_signature;
	buf_clear(&text);
	why = ticket_part(claims, &text);
	if (why == REFUSE_NONE)
		why = ticket_claims(buf_view(&text), who);
	return why == REFUSE_NONE ? ticket_valid(who, now_s, leeway_s) : why;
}

int ticket_keys_read(struct span text, struct hmac_key keys[MAX_KEYS], struct buf *error)
{
	int count = 0, number = 0;

	while (text.n > 0) {
		struct span line = span_cut(&text, '\n');
		const char *what = NULL;

		number++;
		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		if (line.n == 0)
			continue;
		if (span_trim(line).n != line.n || line.p[line.n - 1] == '\r')
			what = "a key must not begin or end with white space";
		else if (line.n < 32)
			what = "a key must be at least 32 bytes long";
		else if (count == MAX_KEYS)
			what = "more than 16 keys";
		if (what != NULL) {
			buf_text(error, "line ");
			buf_number(error, number);
			buf_text(error, ": ");
			buf_text(error, what);
			return -1;
		}
		hmac_key(&keys[count++], line);
	}
	if (count == 0)
		buf_text(error, "no key in it");
	return count > 0 ? count : -1;
}

/* A file of secrets; NULL with a line in error. The caller wipes and frees it. */
static char *secret_file(const char *flag, const char *path, size_t *bytes, struct buf *error)
{
	char *text = file_read(path, 65536, bytes);

	buf_text(error, flag);
	buf_text(error, ": ");
	error_show(error, path);
	buf_text(error, ": ");
	if (text == NULL)
		buf_text(error, strerror(errno));
	return text;
}

static void secret_free(char *text, size_t bytes)
{
	explicit_bzero(text, bytes);
	free(text);
}

bool ticket_keys_load(struct server *s, struct buf *error)
{
	struct hmac_key keys[MAX_KEYS];
	size_t bytes;
	char *text = secret_file("--ticket-key-file", s->opt.ticket_key_file, &bytes, error);
	int count;

	if (text == NULL)
		return false;
	count = ticket_keys_read((struct span){text, bytes}, keys, error);
	secret_free(text, bytes);
	if (count > 0) {
		memcpy(s->ticket_keys, keys, sizeof keys);
		s->ticket_key_count = count;
		buf_clear(error);
	}
	explicit_bzero(keys, sizeof keys);
	return count > 0;
}

bool auth_key_load(struct server *s, struct buf *error)
{
	size_t bytes, n;
	char *text = secret_file("--auth-key-file", s->opt.auth_key_file, &bytes, error);
	bool good;

	if (text == NULL)
		return false;
	n = strcspn(text, "\r\n");
	good = n > 0 && n < sizeof s->auth_key && strspn(text + n, "\r\n") == bytes - n;
	for (size_t i = 0; i < n; i++)
		good &= text[i] > ' ' && text[i] < 0x7f;
	if (good) {
		memcpy(s->auth_key, text, n);
		s->auth_key[n] = '\0';
		buf_clear(error);
	} else {
		buf_text(error, "expected one line of 1 to 256 visible ASCII characters without spaces");
	}
	secret_free(text, bytes);
	return good;
}

/* A token with two dots is a ticket. */
static bool is_ticket(struct span token)
{
	int dots = 0;

	for (size_t i = 0; i < token.n && dots < 3; i++)
		dots += token.p[i] == '.';
	return dots == 2;
}

static enum refusal ticket_check(struct server *s, struct span ticket, const uint8_t key[32], uint32_t *session)
{
	struct identity who;
	enum refusal why = ticket_read(ticket, s->ticket_keys, s->ticket_key_count, s->wall_ms / 1000,
		s->opt.ticket_leeway / 1000, &who);

	if (why != REFUSE_NONE)
		return why;
	return identity_revoked(s, &who) ? REFUSE_ticket_revoked : session_apply(s, key, &who, BY_TICKET, session);
}

/* ============================================================================================
 * the token file: an authority for trying it out, for tests, and for fixed tokens
 * ============================================================================================ */

/* A line of the token file: the spans point into its text. */
struct token_line {
	uint8_t key[32];
	struct span user, roles;
	int number;
};

static struct span span_word(struct span *rest)
{
	struct span word;

	*rest = span_trim(*rest);
	word = *rest;
	for (word.n = 0; word.n < rest->n && word.p[word.n] != ' ' && word.p[word.n] != '\t';)
		word.n++;
	*rest = span_from(*rest, word.n);
	return word;
}

/* Roles the file has named so far, and those that other sessions have: no more than a word has bits. */
struct role_names {
	struct span names[MAX_ROLES];
	int count;
};

static void role_names_begin(const struct server *s, struct role_names *all)
{
	uint64_t roles = 0;

	all->count = 0;
	for (uint32_t i = 1; i < s->sessions_top; i++)
		if (s->sessions[i].authority != BY_FILE)
			roles |= s->sessions[i].roles;
	for (; roles != 0; roles &= roles - 1) {
		const struct role *role = &s->roles[__builtin_ctzll(roles)];

		all->names[all->count++] = (struct span){role->name, role->bytes};
	}
}

static const char *token_roles_check(struct span roles, struct role_names *all)
{
	while (roles.n > 0) {
		struct span name = span_cut(&roles, ',');
		int i = 0;

		if (name_error(name) != NULL)
			return "a role must be 1 to 64 bytes of UTF-8, without control characters";
		while (i < all->count && !span_same(all->names[i], name))
			i++;
		if (i == MAX_ROLES)
			return "more than 64 different roles";
		if (i == all->count)
			all->names[all->count++] = name;
	}
	return NULL;
}

/* NULL, or what is wrong with the line; its token is never part of that. */
static const char *token_line_read(const struct server *s, struct span text, struct token_line *line,
	struct role_names *all)
{
	struct span token = span_word(&text);

	line->user = span_word(&text);
	line->roles = span_word(&text);
	if (line->user.n == 0)
		return "expected TOKEN USER [ROLE,...]";
	if (span_trim(text).n > 0)
		return "a fourth word: roles are parted by commas, without spaces";
	if (name_error(line->user) != NULL)
		return "a user id must be 1 to 64 bytes of UTF-8, without control characters";
	if (line->roles.n > 0 && line->roles.p[line->roles.n - 1] == ',')
		return "a role must be 1 to 64 bytes of UTF-8, without control characters";
	token_key(s, token, line->key);
	return token_roles_check(line->roles, all);
}

static int token_line_order(const void *a, const void *b)
{
	const struct token_line *x = a, *y = b;
	int order = memcmp(x->key, y->key, sizeof x->key);

	return order != 0 ? order : x->number - y->number;
}

static int token_line_number(const void *a, const void *b)
{
	const struct token_line *x = a, *y = b;

	return x->number - y->number;
}

static bool token_file_fail(const struct server *s, int number, const char *what, struct buf *error)
{
	buf_text(error, "--token-file: ");
	buf_text(error, s->opt.token_file);
	if (number > 0) {
		buf_byte(error, ':');
		buf_number(error, number);
	}
	buf_text(error, ": ");
	buf_text(error, what);
	return false;
}

/* All lines of the text; lines has room for MAX_TOKENS. */
static bool token_lines_read(struct server *s, struct span text, struct token_line *lines, int *count,
	struct buf *error)
{
	struct role_names all;
	int number = 0;

	*count = 0;
	role_names_begin(s, &all);
	if (text.n >= 3 && memcmp(text.p, "\xef\xbb\xbf", 3) == 0)
		return token_file_fail(s, 1, "begins with a byte order mark", error);
	while (text.n > 0) {
		struct span line = span_cut(&text, '\n');
		const char *what;

		number++;
		if (line.n > 0 && line.p[line.n - 1] == '\r')
			line.n--;
		line = span_trim(line);
		if (line.n == 0 || line.p[0] == '#')
			continue;
		if (*count == MAX_TOKENS)
			return token_file_fail(s, number, "more than 100000 tokens", error);
		what = token_line_read(s, line, &lines[*count], &all);
		if (what != NULL)
			return token_file_fail(s, number, what, error);
		lines[(*count)++].number = number;
	}
	qsort(lines, (size_t)*count, sizeof *lines, token_line_order);
	for (int i = 1; i < *count; i++)
		if (memcmp(lines[i].key, lines[i - 1].key, sizeof lines[i].key) == 0)
			return token_file_fail(s, lines[i].number, "this token stands in an earlier line too", error);
	qsort(lines, (size_t)*count, sizeof *lines, token_line_number);
	return true;
}

/* Users first: what could fail for want of memory fails before anything has changed. */
static bool token_users_make(struct server *s, const struct token_line *lines, int count)
{
	bool made = true;
	int i = 0;

	for (; made && i < count; i++) {
		uint32_t user = user_get(s, lines[i].user);

		made = user != 0;
		if (made)
			s->users[user].sessions++; /* held until the end of tokens_apply */
	}
	while (!made && --i > 0)
		user_release(s, user_find(s, lines[i - 1].user));
	return made;
}

/* One line takes effect. */
static void token_apply(struct server *s, const struct token_line *line)
{
	uint32_t user = user_find(s, line->user), session = session_find(s, line->key);
	struct span roles = line->roles;

	if (session == 0)
		session = session_new(s, line->key, user);
	assert(s->sessions[session].user == user);
	s->sessions[session].listed = true;
	while (roles.n > 0)
		role_add(s, &s->sessions[session].roles, span_cut(&roles, ',')); /* there is room: token_roles_check */
}

/*
 * The lines become the sessions the file has. A token that is gone, or has become another user's,
 * loses its session and its streams; so does one that another authority vouched for until now.
 */
static void tokens_apply(struct server *s, const struct token_line *lines, int count)
{
	for (uint32_t i = set_next(&s->streams, 0); i != SET_END; i = set_next(&s->streams, i + 1))
		if (conn_session(s, &s->conns[i])->authority == BY_FILE)
			stream_unrole(s, &s->conns[i]);
	for (uint32_t i = 1; i < s->sessions_top; i++)
		if (s->sessions[i].authority == BY_FILE) {
			roles_release(s, s->sessions[i].roles);
			s->sessions[i].roles = 0;
			s->sessions[i].listed = false;
		}
	for (int i = 0; i < count; i++) {
		uint32_t session = session_find(s, lines[i].key);

		if (session != 0 && s->sessions[session].authority != BY_FILE)
			session_revoke(s, session);
		else if (session != 0 && s->sessions[session].user == user_find(s, lines[i].user))
			s->sessions[session].listed = true;
	}
	for (uint32_t i = 1; i < s->sessions_top; i++)
		if (s->sessions[i].user != 0 && s->sessions[i].authority == BY_FILE && !s->sessions[i].listed) {
			session_revoke(s, i);
			session_drop(s, i);
		}
	for (int i = 0; i < count; i++)
		token_apply(s, &lines[i]);
	for (uint32_t i = set_next(&s->streams, 0); i != SET_END; i = set_next(&s->streams, i + 1))
		if (conn_session(s, &s->conns[i])->authority == BY_FILE)
			stream_roles(s, &s->conns[i]);
	for (int i = 0; i < count; i++)
		user_release(s, user_find(s, lines[i].user));
}

bool tokens_load(struct server *s, struct buf *error)
{
	struct token_line *lines = NULL;
	size_t bytes, room = 1;
	char *text = file_read(s->opt.token_file, MAX_TOKEN_FILE, &bytes);
	int count = 0;
	bool good;

	if (text == NULL)
		return token_file_fail(s, 0, strerror(errno), error);
	for (size_t i = 0; i < bytes; i++)
		room += text[i] == '\n';
	lines = calloc(room < MAX_TOKENS ? room : MAX_TOKENS, sizeof *lines);
	good = lines != NULL && token_lines_read(s, (struct span){text, bytes}, lines, &count, error);
	if (good && !(good = token_users_make(s, lines, count)))
		buf_text(error, "--token-file: no memory");
	if (good) {
		tokens_apply(s, lines, count);
		s->token_count = count;
	} else if (lines == NULL) {
		buf_text(error, "--token-file: no memory");
	}
	secret_free(text, bytes);
	free(lines);
	return good;
}

/* ============================================================================================
 * questions: Django is asked who a token belongs to
 *
 * A question is about one token, however many connections wait for the answer. It waits in a queue
 * until one of a few connections to Django, a link, is free, and is then the only one on it. What
 * Django answers becomes a session or a verdict; then those who wait are woken, and their requests
 * are read again from the start: they find the answer there. The token is in the head of such a
 * request, or sealed in the session of a live stream; a question itself does not hold it.
 * ============================================================================================ */

enum {
	MAX_AGE_MS = 30000,        /* an answer is kept so long if it does not say ... */
	MAX_AGE_MOST_MS = 300000,  /* ... and so long at the most */
	DENIAL_MS = 5000,          /* a token that was denied is not asked about again ... */
	FAILURE_MS = 1000,         /* ... nor one about which Django could not be asked */
	QUEUE_TIMEOUTS = 10,       /* a question waits for so many --auth-timeout in the queue */
	LATE_MS = 30000,           /* an answer that nobody waits for any more is waited for so long */
	AGAIN_MOST = 5,            /* answers to one question that revocations overtook */
	LINK_IDLE_MS = 5000        /* a link that is not used is closed */
};

static const struct {
	const char *name, *text;
} auth_failures[AUTH_FAILURE_COUNT] = {
#define X(name, text) [AUTH_##name] = {#name, text},
	AUTH_FAILURES(X)
#undef X
};

/* ---- verdicts: tokens that need not be asked about ---- */

static void verdict_put(struct server *s, const uint8_t key[32], enum refusal why, int64_t keep_ms)
{
	uint32_t i = key_find(&s->verdicts_by_key.table, key);

	if (i == 0) {
		i = recent_take(&s->verdicts_by_key);
		memcpy(s->verdicts[i].key, key, 32);
		table_add(&s->verdicts_by_key.table, i);
	}
	s->verdicts[i].why = why;
	s->verdicts[i].until_ms = s->now_ms + keep_ms;
}

/* ---- the questions that wait ---- */

static void queue_push(struct server *s, struct queue *queue, uint32_t question)
{
	s->questions[question].next = 0;
	*(queue->last != 0 ? &s->questions[queue->last].next : &queue->first) = question;
	queue->last = question;
}

/* Puts a question in front of those that wait. */
static void question_requeue(struct server *s, uint32_t question)
{
	struct queue *queue = s->questions[question].refresh ? &s->refreshes : &s->connects;

	s->questions[question].next = queue->first;
	queue->first = question;
	if (queue->last == 0)
		queue->last = question;
}

static uint32_t queue_pop(struct server *s, struct queue *queue)
{
	uint32_t question = queue->first;

	queue->first = s->questions[question].next;
	if (queue->first == 0)
		queue->last = 0;
	return question;
}

/* The caller has looked whether one more may wait. */
static uint32_t question_new(struct server *s, const uint8_t key[32], bool refresh)
{
	uint32_t i = s->questions_free;

	if (i != 0)
		s->questions_free = s->questions[i].next;
	else
		i = s->questions_top++;
	s->questions[i] = (struct question){.since_ms = s->now_ms, .refresh = refresh};
	memcpy(s->questions[i].key, key, 32);
	table_add(&s->questions_by_key, i);
	*(refresh ? &s->refreshes_open : &s->questions_open) += 1;
	queue_push(s, refresh ? &s->refreshes : &s->connects, i);
	return i;
}

/* Who waits is woken, and looks for the answer in the coming walk over `unread`. */
static void question_wake(struct server *s, struct question *q)
{
	while (q->first != 0) {
		struct conn *c = &s->conns[q->first];

		wait_leave(s, c);
		c->since_ms = (uint32_t)s->now_ms;
		set_add(&s->unread, conn_number(s, c));
	}
}

/* It is over. */
static void question_end(struct server *s, uint32_t question)
{
	struct question *q = &s->questions[question];

	question_wake(s, q);
	table_remove(&s->questions_by_key, question);
	*(q->refresh ? &s->refreshes_open : &s->questions_open) -= 1;
	*q = (struct question){.next = s->questions_free};
	s->questions_free = question;
}

/* The connection waits for what Django says of the token with this key. */
static enum refusal conn_wait(struct server *s, struct conn *c, const uint8_t key[32], bool stream)
{
	uint32_t question = key_find(&s->questions_by_key, key), next;

	if (question == 0 && s->questions_open >= s->opt.auth_queue)
		return REFUSE_auth_queue_full;
	if (question != 0 && s->questions[question].late)
		return REFUSE_auth_failed;
	if (question == 0)
		question = question_new(s, key, false);
	next = s->questions[question].first;
	memset(&c->u, 0, sizeof c->u);
	c->state = CONN_WAIT;
	c->u.wait.question = question;
	c->u.wait.stream = stream;
	c->u.wait.next = next;
	if (next != 0)
		s->conns[next].u.wait.prev = conn_number(s, c);
	s->questions[question].first = conn_number(s, c);
	return REFUSE_NONE;
}

/* Django is to be asked about the token of live streams again. If too many wait, a later tick tries. */
static void question_refresh(struct server *s, uint32_t session)
{
	const uint8_t *key = s->sessions[session].key;

	if (s->refreshes_open < MAX_REFRESHES && key_find(&s->questions_by_key, key) == 0)
		question_new(s, key, true);
}

/* When it is asked again: after so long, up to twice that. */
static void session_due(struct server *s, uint32_t session, int64_t ms)
{
	s->sessions[session].due_ms = s->now_ms + ms + random_upto(s, ms);
}

/* Django has something new to say about a user. Returns the streams it will be asked about. */
static uint32_t user_refresh(struct server *s, uint32_t user)
{
	uint32_t streams = 0, next;

	for (uint32_t i = s->users[user].first_session; i != 0; i = next) {
		struct session *x = &s->sessions[i];

		next = x->next;
		if (x->authority != BY_DJANGO)
			continue;
		streams += x->streams;
		x->pressing = true;
		x->until_ms = -1;
		x->due_ms = s->now_ms;
		if (x->streams > 0)
			question_refresh(s, i);
		else
			session_drop(s, i);
	}
	return streams;
}

/* ---- answers ---- */

/* What a person who reads the log at night may want to try, by the status Django answered with. */
static const char *status_hint(int64_t status)
{
	if (status == 400)
		return "does ALLOWED_HOSTS have the host? see --auth-host";
	if (status >= 300 && status < 400)
		return "redirects are not followed; does the path of --auth-url need a slash at its end?";
	if (status == 412) /* sse-django */
		return "is the key of --auth-key-file the one that Django has?";
	return status == 404 ? "does --auth-url have the right path?" : "";
}

/*
 * Django was asked in vain: said, counted, and those who wait are put off. Live streams stay as they
 * are, and are asked about again before long. detail is NULL or says more, and so does the number: a
 * status, or the byte of an answer.
 */
static void question_vain(struct server *s, struct question *q, enum auth_failure why, const char *detail,
	int64_t number)
{
	uint32_t session = session_find(s, q->key);
	struct buf *b = log_flood(s, LOG_ERROR, FLOOD_auth, "auth_failed");

	log_text(b, "reason", auth_failures[why].name);
	log_text(b, "error", detail != NULL && detail[0] != '\0' ? detail : auth_failures[why].text);
	if (why == AUTH_status || why == AUTH_answer)
		log_number(b, why == AUTH_status ? "status" : "at", number);
	log_end(s);
	s->auth_failing = true;
	s->count.failed[why]++;
	verdict_put(s, q->key, why == AUTH_roles ? REFUSE_too_many_roles : why == AUTH_memory ? REFUSE_no_memory
		: REFUSE_auth_failed, FAILURE_MS);
	if (session != 0 && s->sessions[session].authority == BY_DJANGO)
		session_due(s, session, s->sessions[session].pressing ? FAILURE_MS : s->opt.auth_refresh / 10);
	question_wake(s, q);
}

/* The same, and the question is over; of a late one it was said before. */
static void question_failed(struct server *s, uint32_t question, enum auth_failure why, const char *detail,
	int64_t number)
{
	if (!s->questions[question].late)
		question_vain(s, &s->questions[question], why, detail, number);
	question_end(s, question);
}

/* Django knows what it was asked. */
static void question_settled(struct server *s, uint64_t *count)
{
	++*count;
	if (s->auth_failing) {
		s->auth_failing = false;
		log_flood(s, LOG_INFO, FLOOD_auth_again, "auth_answers_again");
		log_end(s);
	}
}

/* The answer is older than a revocation: Django is asked once more. */
static void question_again(struct server *s, uint32_t question)
{
	struct question *q = &s->questions[question];

	s->count.overtaken++;
	if (q->again++ == AGAIN_MOST) {
		question_failed(s, question, AUTH_stale, NULL, 0);
		return;
	}
	q->since_ms = s->now_ms;
	q->late = false;
	question_requeue(s, question);
}

static void question_denied(struct server *s, uint32_t question)
{
	struct question *q = &s->questions[question];
	uint32_t session = session_find(s, q->key);

	if (session != 0 && tombstone_since(s, TOMB_REFRESH, user_id(&s->users[s->sessions[session].user]), q->order)) {
		question_again(s, question);
		return;
	}
	question_settled(s, &s->count.denied);
	verdict_put(s, q->key, REFUSE_denied_token, DENIAL_MS);
	if (session != 0 && s->sessions[session].authority == BY_DJANGO)
		session_revoke(s, session);
	question_end(s, question);
}

/* Django would let in, but says that the time is over: open streams end for that reason. */
static void question_expired(struct server *s, uint32_t question, const struct identity *who)
{
	struct question *q = &s->questions[question];
	uint32_t session = session_find(s, q->key);

	question_settled(s, &s->count.denied);
	verdict_put(s, q->key, REFUSE_ended_token, DENIAL_MS);
	if (session != 0)
		s->sessions[session].expire_at = who->expire_at;
	question_end(s, question);
}

static void question_allowed(struct server *s, uint32_t question, const struct identity *who, int64_t max_age_s)
{
	struct question *q = &s->questions[question];
	int64_t keep_ms = max_age_s < 0 ? MAX_AGE_MS : max_age_s * 1000;
	uint32_t session;
	enum refusal why = session_apply(s, q->key, who, BY_DJANGO, &session);
	struct session *x = &s->sessions[session];

	if (why == REFUSE_ended_token) {
		question_expired(s, question, who);
		return;
	}
	if (why != REFUSE_NONE) {
		question_failed(s, question, why == REFUSE_no_memory ? AUTH_memory : AUTH_roles, NULL, 0);
		return;
	}
	question_settled(s, &s->count.allowed);
	if (x->authority == BY_DJANGO) {
		x->pressing = false;
		x->until_ms = s->now_ms + (keep_ms < MAX_AGE_MOST_MS ? keep_ms : MAX_AGE_MOST_MS);
		session_due(s, session, s->opt.auth_refresh);
	}
	question_end(s, question);
	session_rest(s, session);
}

static void question_answered(struct server *s, uint32_t question, const struct http_response *r)
{
	struct identity who;
	const char *error;
	size_t at;

	if (r->status == 401 || r->status == 403) {
		question_denied(s, question);
	} else if (r->status != 200) {
		question_failed(s, question, AUTH_status, status_hint(r->status), r->status);
	} else if ((error = answer_read(r->body, &who, &at)) != NULL) {
		question_failed(s, question, AUTH_answer, error, (int64_t)at);
	} else if (identity_overtaken(s, &who, s->questions[question].order)) {
		question_again(s, question);
	} else {
		question_allowed(s, question, &who, r->max_age_s);
	}
}

/* ---- links ---- */

/* A token is in the one, a sid may be in the other. */
static void link_wipe(struct link *l)
{
	explicit_bzero(l->out.data, l->out.len);
	explicit_bzero(l->in.data, l->in.len);
	l->out.len = l->in.len = l->sent = 0;
	l->out.failed = false;
}

static void link_close(struct server *s, struct link *l)
{
	struct conn *c = &s->conns[l->fd];

	link_wipe(l);
	c->state = CONN_DEAD; /* conn_reap closes the descriptor: no other may have its number in this turn */
	set_add(&s->dead, (uint32_t)l->fd);
	l->fd = -1;
	l->reused = false;
}

/* The question that was on a link, which is on none now. */
static uint32_t link_release(struct server *s, struct link *l)
{
	uint32_t question = l->question;

	l->question = 0;
	l->since_ms = s->now_ms;
	s->asking--;
	return question;
}

/*
 * The connection is of no use any more. If Django had kept it alive, and closed it just when the
 * question came, the question goes out once more, on a new one. A denial counts though its body is broken.
 */
static void link_fail(struct server *s, struct link *l, enum auth_failure why, const char *detail)
{
	bool stale = why == AUTH_closed && l->reused && l->in.len == 0 && !s->questions[l->question].late;
	struct http_response r = {0};
	uint32_t question;

	if (l->in.len > 0)
		http_response(l->in.data, l->in.len, true, &r);
	link_close(s, l);
	if (l->question == 0)
		return;
	question = link_release(s, l);
	if (stale && !s->questions[question].resent) {
		s->questions[question].resent = true;
		s->count.resent++;
		for (int i = 0; i < MAX_LINKS; i++) /* the others are as old */
			if (s->links[i].fd >= 0 && s->links[i].question == 0)
				link_close(s, &s->links[i]);
		question_requeue(s, question);
	} else if (r.status == 0 || r.status == 200) {
		question_failed(s, question, why, detail, 0);
	} else {
		question_answered(s, question, &r);
	}
}

/* Opens a connection to Django. False with errno; EAGAIN: its socket takes no more of them now. */
static bool link_open(struct server *s, struct link *l)
{
	const struct sockaddr *address = (const struct sockaddr *)&s->auth_address;
	int fd = s->sys->socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error = EMFILE;

	if (fd < 0)
		return false;
	if ((uint32_t)fd < s->conns_max) {
		struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};

		if ((s->sys->connect(fd, address, s->auth_address_bytes) == 0 || errno == EINPROGRESS)
			&& s->sys->epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e) == 0) {
			assert(s->conns[fd].state == CONN_FREE);
			s->conns[fd].state = CONN_LINK;
			s->conns[fd].u.link = (uint32_t)(l - s->links);
			l->fd = fd;
			return true;
		}
		error = errno;
	}
	s->sys->close(fd);
	errno = error;
	return false;
}

static void token_wipe(struct server *s)
{
	explicit_bzero(s->token.data, s->token.len);
	buf_clear(&s->token);
}

/* The token a question is about, into s->token, and the target it came by; false: nobody asks any more. */
static bool question_token(struct server *s, const struct question *q, struct buf *target)
{
	struct http_request r;
	struct span token;
	uint32_t session = session_find(s, q->key);

	buf_clear(&s->token);
	if (q->first != 0) {
		http_parse(hold_view(s->conns[q->first].in), &r);
		http_token(&r, true, &s->token, &token);
		if (token.p != s->token.data) {
			token_wipe(s);
			buf_span(&s->token, token);
		}
		http_target_without(&r, "token", target);
		return true;
	}
	if (session == 0 || s->sessions[session].token == NULL)
		return false;
	buf_span(&s->token, hold_view(s->sessions[session].token));
	if (!s->token.failed)
		session_seal(s, &s->sessions[session], s->token.data, s->token.len);
	buf_text(target, s->opt.prefix);
	buf_text(target, "/events/");
	return true;
}

/* The request of a question, into b. False: nobody asks any more. */
static bool question_write(struct server *s, const struct question *q, struct buf *b)
{
	buf_clear(&s->body);
	if (!question_token(s, q, &s->body))
		return false;
	buf_clear(b);
	buf_text(b, "GET ");
	buf_span(b, s->auth_path);
	buf_text(b, " HTTP/1.1\r\nHost: ");
	buf_span(b, s->auth_host);
	buf_text(b, "\r\nAuthorization: ");
	buf_text(b, s->opt.auth_scheme);
	buf_byte(b, ' ');
	buf_span(b, buf_view(&s->token));
	buf_text(b, "\r\nX-Original-URI: ");
	buf_span(b, buf_view(&s->body));
	buf_text(b, q->first != 0 ? "\r\nX-SSE-Phase: connect" : "\r\nX-SSE-Phase: refresh");
	if (s->auth_key[0] != '\0') {
		buf_text(b, "\r\nX-SSE-Key: ");
		buf_text(b, s->auth_key);
	}
	buf_text(b, "\r\nAccept: application/json\r\nUser-Agent: sse/" SSE_VERSION "\r\n\r\n");
	b->failed |= s->token.failed || s->body.failed;
	token_wipe(s);
	return true;
}

static void link_write(struct server *s, struct link *l)
{
	while (l->sent < l->out.len) {
		struct iovec iov = {l->out.data + l->sent, l->out.len - l->sent};
		struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
		ssize_t n = s->sys->sendmsg(l->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM))
			return;
		if (n < 0) {
			link_fail(s, l, l->reused || l->sent > 0 ? AUTH_closed : AUTH_connect, strerror(errno));
			return;
		}
		l->sent += (size_t)n;
	}
}

/* The answer is whole; so many bytes were its. */
static void link_answered(struct server *s, struct link *l, const struct http_response *r, size_t bytes)
{
	struct http_response answer = *r;
	bool keep = r->keep_alive && bytes == l->in.len && l->sent == l->out.len;
	uint32_t question = link_release(s, l);

	question_answered(s, question, &answer);
	if (!keep) {
		link_close(s, l);
		return;
	}
	link_wipe(l);
	l->reused = true;
}

static void link_read(struct server *s, struct link *l)
{
	while (l->fd >= 0) {
		ssize_t n = s->sys->recv(l->fd, l->in.data + l->in.len, l->in.cap - l->in.len, 0);
		struct http_response r;
		int64_t got;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			link_fail(s, l, l->reused || l->sent > 0 ? AUTH_closed : AUTH_connect, strerror(errno));
			return;
		}
		if (l->question == 0) { /* closed while it was idle, or something nobody asked for */
			link_close(s, l);
			return;
		}
		if (l->sent < l->out.len) { /* whatever it says, it is no answer to what has not been asked yet */
			link_fail(s, l, AUTH_closed, NULL);
			return;
		}
		l->in.len += (size_t)n;
		got = http_response(l->in.data, l->in.len, n == 0, &r);
		if (got > 0)
			link_answered(s, l, &r, (size_t)got);
		else if (got < 0)
			link_fail(s, l, AUTH_not_http, NULL);
		else if (n == 0)
			link_fail(s, l, AUTH_closed, NULL);
		else if (l->in.len == l->in.cap)
			link_fail(s, l, AUTH_too_large, NULL);
	}
}

static void link_event(struct server *s, struct link *l)
{
	link_write(s, l);
	link_read(s, l);
}

/* Asks a question by this link. False if Django's socket takes no more connections now. */
static bool link_ask(struct server *s, struct link *l, uint32_t question)
{
	struct question *q = &s->questions[question];
	bool wanted = question_write(s, q, &l->out);

	if (!wanted || l->out.failed) {
		link_wipe(l);
		if (wanted)
			question_failed(s, question, AUTH_memory, NULL, 0);
		else
			question_end(s, question);
		return true;
	}
	if (l->fd < 0 && !link_open(s, l)) {
		int error = errno;

		link_wipe(l);
		if (error == EAGAIN) {
			question_requeue(s, question);
			return false;
		}
		question_failed(s, question, AUTH_connect, strerror(error), 0);
		return true;
	}
	q->order = ++s->order;
	q->since_ms = l->since_ms = s->now_ms;
	l->question = question;
	s->asking++;
	s->count.questions++;
	s->count.refreshes += q->first == 0;
	link_write(s, l);
	return true;
}

/* A link without a question: an open one, if there is. */
static struct link *link_pick(struct server *s)
{
	struct link *closed = NULL;

	for (int i = 0; i < s->opt.auth_connections; i++)
		if (s->links[i].question == 0) {
			if (s->links[i].fd >= 0)
				return &s->links[i];
			if (closed == NULL)
				closed = &s->links[i];
		}
	assert(closed != NULL); /* no more is asked than there are links: questions_wait */
	return closed;
}

/* Which is asked next, 0 if none waits. Every fourth is about a live stream: a role that was taken
 * away must not wait behind ten thousand who come back, nor hold them up. */
static uint32_t question_next(struct server *s)
{
	bool refresh = s->refreshes.first != 0 && (s->connects.first == 0 || s->count.questions % 4 == 0);

	if (refresh)
		return queue_pop(s, &s->refreshes);
	return s->connects.first != 0 ? queue_pop(s, &s->connects) : 0;
}

static bool questions_wait(const struct server *s)
{
	return (s->connects.first != 0 || s->refreshes.first != 0) && !s->links_rest
		&& s->asking < s->opt.auth_connections;
}

/* Asks as many questions as Django may be asked at a time. */
static void questions_turn(struct server *s)
{
	while (questions_wait(s)) {
		uint32_t question = question_next(s);

		if (!link_ask(s, link_pick(s), question))
			s->links_rest = true;
	}
}

/*
 * Django takes its time. Those who wait are put off, but the link stays with the question: Django is
 * still at it, and would get one question too many. Its answer, when it comes, is good for who comes back.
 */
static void link_late(struct server *s, struct link *l, int64_t waited_ms)
{
	struct question *q = &s->questions[l->question];
	struct http_response r = {0};

	if (l->in.len > 0)
		http_response(l->in.data, l->in.len, false, &r);
	if (r.status != 0 || waited_ms >= LATE_MS || l->sent < l->out.len) {
		link_fail(s, l, AUTH_timeout, NULL); /* it has answered, never will, or was not asked yet */
	} else if (!q->late) {
		question_vain(s, q, AUTH_timeout, NULL, 0);
		q->late = true;
	}
}

/* Questions that waited for too long without being asked. */
static void queue_expire(struct server *s, struct queue *queue)
{
	while (queue->first != 0
		&& s->now_ms - s->questions[queue->first].since_ms >= QUEUE_TIMEOUTS * s->opt.auth_timeout)
		question_failed(s, queue_pop(s, queue), AUTH_queue, NULL, 0);
}

/* What took too long. */
static void questions_tick(struct server *s)
{
	s->links_rest = false;
	for (int i = 0; i < MAX_LINKS; i++) {
		struct link *l = &s->links[i];
		int64_t waited_ms = s->now_ms - l->since_ms;

		if (l->fd >= 0 && l->question != 0 && waited_ms >= s->opt.auth_timeout)
			link_late(s, l, waited_ms);
		else if (l->fd >= 0 && l->question == 0 && waited_ms >= LINK_IDLE_MS)
			link_close(s, l);
	}
	queue_expire(s, &s->connects);
	queue_expire(s, &s->refreshes);
}

/* Nobody waits any longer for an answer: who wants a stream is put off. */
static void questions_drain(struct server *s)
{
	for (uint32_t i = 0; (i = set_next(&s->open, i)) != SET_END; i++)
		if (s->conns[i].state == CONN_WAIT) {
			wait_leave(s, &s->conns[i]);
			set_add(&s->unread, i);
		}
}

/* ============================================================================================
 * metrics: what the operator can see. One call a family; names as Prometheus has them.
 * ============================================================================================ */

/* How parts that may be missing are. */
enum health { PART_OFF, PART_OK, PART_FAILING, PART_UNTRIED };
static const char *const part_names[] = {"off", "ok", "failing", "not asked yet"};

static enum health journal_health(const struct server *s)
{
	return s->journal.directory < 0 ? PART_OFF : s->journal.failing ? PART_FAILING : PART_OK;
}

static enum health auth_health(const struct server *s)
{
	return s->opt.auth_url[0] == '\0' ? PART_OFF : s->auth_failing ? PART_FAILING
		: s->count.questions == 0 ? PART_UNTRIED : PART_OK;
}

static enum health log_health(const struct server *s)
{
	return s->log.failing || s->log.lost ? PART_FAILING : PART_OK;
}

/* Is everything that was sent taken in, and answered? */
static bool intake_done(const struct server *s)
{
	const struct intake *in = &s->intake;

	return in->next == in->have && in->answered == in->next && (!in->readable || in->last);
}

/* Streams that wait for their client to read. */
static int64_t streams_blocked(const struct server *s)
{
	int64_t count = 0;

	for (uint32_t i = 0; (i = set_next(&s->streams, i)) != SET_END; i++)
		count += s->conns[i].blocked;
	return count;
}

/* The files that are open. Linux says so since 6.2; before, those are counted that are known here. */
static int64_t process_files(const struct server *s)
{
	int64_t known = s->open.count + (uint32_t)s->listener_count;
	struct stat st;

	if (lstat("/proc/self/fd", &st) == 0 && st.st_size > 0)
		return st.st_size;
	for (int i = 0; i < MAX_LINKS; i++)
		known += s->links[i].fd >= 0;
	for (const int *fd = (int[]){s->epoll, s->signals, s->spare, s->answers, s->datagrams.fd, s->manager.fd,
			s->journal.directory, s->journal.file, s->journal.syncer, s->journal.syncer /* its thread's end */, 0, 1, 2, -2};
		*fd != -2; fd++)
		known += *fd >= 0;
	return known;
}

/* What the kernel says of this process, at most once a second; what it does not say now stays as it was. */
static void process_look(struct server *s)
{
	struct process *p = &s->process;
	size_t bytes;
	char *text;
	struct span rest;

	if (p->looked && s->now_ms - p->looked_ms < 1000)
		return;
	p->looked = true;
	p->looked_ms = s->now_ms;
	p->files = process_files(s);
	text = file_read("/proc/self/statm", 4096, &bytes);
	if (text == NULL)
		return;
	rest = (struct span){text, bytes};
	p->virtual_bytes = number_next(&rest) * sysconf(_SC_PAGESIZE);
	p->resident_bytes = number_next(&rest) * sysconf(_SC_PAGESIZE);
	free(text);
}

static void metric_begin(struct buf *b, const char *name, const char *type, const char *help)
{
	buf_text(b, "# HELP ");
	buf_text(b, name);
	buf_byte(b, ' ');
	buf_text(b, help);
	buf_text(b, "\n# TYPE ");
	buf_text(b, name);
	buf_byte(b, ' ');
	buf_text(b, type);
	buf_byte(b, '\n');
}

/* label is NULL or has a value. */
static void metric_name(struct buf *b, const char *name, const char *label, const char *value)
{
	buf_text(b, name);
	if (label != NULL) {
		buf_byte(b, '{');
		buf_text(b, label);
		buf_text(b, "=\"");
		buf_text(b, value);
		buf_text(b, "\"}");
	}
	buf_byte(b, ' ');
}

static void metric_value(struct buf *b, const char *name, const char *label, const char *value, uint64_t n)
{
	metric_name(b, name, label, value);
	buf_number(b, (int64_t)n);
	buf_byte(b, '\n');
}

static void metric_seconds(struct buf *b, const char *name, int64_t us)
{
	metric_name(b, name, NULL, NULL);
	buf_number(b, us / 1000000);
	buf_byte(b, '.');
	buf_padded(b, us % 1000000, 6);
	buf_byte(b, '\n');
}

static void counter(struct buf *b, const char *name, const char *help, uint64_t n)
{
	metric_begin(b, name, "counter", help);
	metric_value(b, name, NULL, NULL, n);
}

static void gauge(struct buf *b, const char *name, const char *help, int64_t n)
{
	metric_begin(b, name, "gauge", help);
	metric_value(b, name, NULL, NULL, (uint64_t)n);
}

static void metrics_connections(struct server *s, struct buf *b)
{
	uint32_t roles = 0;

	for (int i = 0; i < MAX_ROLES; i++)
		roles += s->roles[i].sessions > 0;
	gauge(b, "sse_connections", "Connections that are open.", s->open.count);
	gauge(b, "sse_connections_max", "Connections there may be, by --max-connections and the file limit.", s->conns_soft);
	counter(b, "sse_connections_opened_total", "Connections ever accepted.", s->count.connections);
	gauge(b, "sse_streams", "Event streams that are open.", s->streams.count);
	counter(b, "sse_streams_opened_total", "Event streams ever begun.", s->count.streams);
	gauge(b, "sse_streams_behind", "Streams that are being given what they missed.", s->behind.count);
	gauge(b, "sse_streams_blocked", "Streams whose client does not read what the kernel has for it.", streams_blocked(s));
	gauge(b, "sse_users", "Users who have a stream.", s->online.count);
	gauge(b, "sse_roles", "Different roles among those who are known; 64 at the most.", roles);
	gauge(b, "sse_sessions", "Tokens that are known, with streams or without.", s->sessions_by_key.count);
	metric_begin(b, "sse_refused_total", "counter", "Requests refused or put off, by reason.");
	for (int i = 1; i < REFUSE_COUNT; i++)
		metric_value(b, "sse_refused_total", "reason", refusals[i].name, s->count.refused[i]);
	metric_begin(b, "sse_closed_total", "counter", "Connections ended, by reason.");
	for (int i = 0; i < CLOSE_COUNT; i++)
		metric_value(b, "sse_closed_total", "reason", close_names[i], s->count.closed[i]);
	metric_begin(b, "sse_resumes_total", "counter", "Streams that came with the id they saw last, by what became of it.");
	for (int i = 0; i < RESUME_COUNT; i++)
		metric_value(b, "sse_resumes_total", "result", resume_names[i], s->count.resumed[i]);
	counter(b, "sse_accept_errors_total", "Times that no connection could be accepted.", s->count.accept_errors);
}

static void metrics_events(struct server *s, struct buf *b)
{
	static const char name[] = "sse_event_write_seconds";
	const struct latency *l = &s->latency;
	uint64_t count = 0;

	counter(b, "sse_datagrams_total", "Datagrams taken in.", s->count.datagrams);
	counter(b, "sse_lines_total", "Lines in them.", s->count.lines);
	counter(b, "sse_bad_lines_total", "Lines that were refused.", s->count.bad_lines);
	counter(b, "sse_acks_lost_total", "Answers to datagrams that could not be sent.", s->count.acks_lost);
	counter(b, "sse_intake_held_total", "Turns in which publishers were held back, for streams that had to be written first.",
		s->count.held);
	counter(b, "sse_events_total", "Events taken in.", s->count.events);
	counter(b, "sse_revocations_total", "Users or sids whose access was taken back.", s->count.revocations);
	counter(b, "sse_deliveries_total", "Events written to a stream.", s->count.deliveries);
	counter(b, "sse_writes_total", "Calls of sendmsg for that, and for all other answers.", s->count.sends);
	counter(b, "sse_sent_bytes_total", "Bytes the kernel took in them.", s->count.sent_bytes);
	metric_begin(b, name, "histogram",
		"From when a datagram was taken in until its event was written to all streams, but for those whose buffer is full.");
	for (int i = 0; i < LATENCY_BUCKETS; i++) {
		count += l->buckets[i];
		metric_value(b, "sse_event_write_seconds_bucket", "le", latency_bounds[i].text, count);
	}
	metric_seconds(b, "sse_event_write_seconds_sum", (int64_t)l->sum_us);
	metric_value(b, "sse_event_write_seconds_count", NULL, NULL, count);
}

static void metrics_auth(struct server *s, struct buf *b)
{
	metric_begin(b, "sse_auth_questions_total", "counter",
		"Questions put to Django, about tokens that come and about live streams.");
	metric_value(b, "sse_auth_questions_total", "phase", "connect", s->count.questions - s->count.refreshes);
	metric_value(b, "sse_auth_questions_total", "phase", "refresh", s->count.refreshes);
	metric_begin(b, "sse_auth_answers_total", "counter", "What Django answered.");
	metric_value(b, "sse_auth_answers_total", "result", "allowed", s->count.allowed);
	metric_value(b, "sse_auth_answers_total", "result", "denied", s->count.denied);
	metric_begin(b, "sse_auth_failures_total", "counter", "Questions without an answer, by reason.");
	for (int i = 0; i < AUTH_FAILURE_COUNT; i++)
		metric_value(b, "sse_auth_failures_total", "reason", auth_failures[i].name, s->count.failed[i]);
	gauge(b, "sse_auth_waiting", "Questions that wait for Django, asked or not.", s->questions_open + s->refreshes_open);
	gauge(b, "sse_auth_failing", "1 if the last question to Django failed.", auth_health(s) == PART_FAILING);
}

static void metrics_history(struct server *s, struct buf *b)
{
	const struct event *oldest = ring_event(&s->ring, s->ring.oldest);

	gauge(b, "sse_history_events", "Events in memory, for who comes back.", s->ring.next - s->ring.oldest);
	gauge(b, "sse_history_size_bytes", "Memory for them.", (int64_t)s->ring.size);
	metric_begin(b, "sse_history_oldest_timestamp_seconds", "gauge",
		"When the oldest of them happened; now, if there is none.");
	metric_seconds(b, "sse_history_oldest_timestamp_seconds", (oldest == NULL ? s->wall_ms : oldest->id.ms) * 1000);
	counter(b, "sse_journal_errors_total", "Attempts to write the journal that failed.", s->count.journal_errors);
	counter(b, "sse_journal_not_stored_total", "Events acknowledged as not stored.", s->count.not_stored);
	gauge(b, "sse_journal_failing", "1 if the journal could not be written when that was last tried.", s->journal.failing);
	gauge(b, "sse_journal_segments", "Files of the journal.", s->journal.count);
}

static void metrics_process(struct server *s, struct buf *b)
{
	metric_begin(b, "sse_build_info", "gauge", "Always 1; which version it is.");
	metric_value(b, "sse_build_info", "version", SSE_VERSION, 1);
	gauge(b, "sse_draining", "1 if it is going down.", s->draining);
	counter(b, "sse_log_lines_dropped_total", "Lines that the log did not take.", s->log.dropped);
	gauge(b, "sse_log_failing", "1 if the log took nothing, or its file could not be opened again, when that was last tried.",
		log_health(s) == PART_FAILING);
	metric_begin(b, "sse_loop_busy_seconds_total", "counter",
		"Time in which the loop did not wait: 1 a second is all there is.");
	metric_seconds(b, "sse_loop_busy_seconds_total", (int64_t)s->busy_us);
	metric_begin(b, "process_cpu_seconds_total", "counter", "CPU time of all threads.");
	metric_seconds(b, "process_cpu_seconds_total", clock_us(s, CLOCK_PROCESS_CPUTIME_ID, 0));
	metric_begin(b, "process_start_time_seconds", "gauge", "When it was started, unix time.");
	metric_seconds(b, "process_start_time_seconds", s->started_wall_ms * 1000);
	gauge(b, "process_resident_memory_bytes", "Memory it has.", s->process.resident_bytes);
	gauge(b, "process_virtual_memory_bytes", "Addresses it has, most of them without memory.", s->process.virtual_bytes);
	gauge(b, "process_open_fds", "Files that are open.", s->process.files);
	gauge(b, "process_max_fds", "Files that may be.", s->conns_max);
}

void metrics_write(struct server *s, struct buf *b)
{
	process_look(s);
	metrics_connections(s, b);
	metrics_events(s, b);
	metrics_auth(s, b);
	metrics_history(s, b);
	metrics_process(s, b);
}

/* ============================================================================================
 * status: what {"op":"status"} is answered with, and how sse --status shows that
 * ============================================================================================ */

static struct status status_take(struct server *s)
{
	const struct event *oldest = ring_event(&s->ring, s->ring.oldest);
	const struct counters *n = &s->count;
	struct status now = {.version = SSE_VERSION,
		.pid = getpid(), .uptime_ms = s->now_ms - s->started_ms, .draining = s->draining,
		.held = (int64_t)n->held,
		.connections = s->open.count, .connections_max = s->conns_soft,
		.streams = s->streams.count, .users = s->online.count, .behind = s->behind.count, .dirty = s->dirty.count,
		.datagrams = (int64_t)n->datagrams, .events = (int64_t)n->events, .bad_lines = (int64_t)n->bad_lines,
		.acks_lost = (int64_t)n->acks_lost,
		.deliveries = (int64_t)n->deliveries, .sent_bytes = (int64_t)n->sent_bytes,
		.slow = (int64_t)n->closed[CLOSE_slow], .stalled = (int64_t)n->closed[CLOSE_stalled],
		.revoked = (int64_t)n->closed[CLOSE_revoked], .replayed = (int64_t)n->resumed[RESUME_replay],
		.auth = auth_health(s), .auth_waiting = s->questions_open + s->refreshes_open,
		.auth_questions = (int64_t)n->questions,
		.journal = journal_health(s), .journal_segments = s->journal.count,
		.journal_errors = (int64_t)n->journal_errors, .not_stored = (int64_t)n->not_stored,
		.history_events = s->ring.next - s->ring.oldest, .history_oldest_ms = oldest == NULL ? 0 : oldest->id.ms,
		.newest_ms = s->ring.newest.ms,
		.busy_us = (int64_t)s->busy_us, .memory_bytes = s->process.resident_bytes,
		.files = s->process.files, .files_max = s->conns_max, .log_lines_dropped = (int64_t)s->log.dropped,
		.log_failing = log_health(s) == PART_FAILING, .blocked = streams_blocked(s)};

	for (int i = 1; i < REFUSE_COUNT; i++)
		now.refused += (int64_t)n->refused[i];
	for (int i = RESUME_replay + 1; i < RESUME_COUNT; i++)
		now.resynced += (int64_t)n->resumed[i];
	for (int i = 0; i < AUTH_FAILURE_COUNT; i++)
		now.auth_failures += (int64_t)n->failed[i];
	return now;
}

/* Where the numbers stand in a struct status. */
static const struct {
	const char *name;
	size_t offset;
} status_numbers[] = {
#define X(name) {#name, offsetof(struct status, name)},
	STATUS_NUMBERS(X)
#undef X
};
enum { STATUS_COUNT = sizeof status_numbers / sizeof status_numbers[0] };

static int64_t *status_number(struct status *status, int i)
{
	return (int64_t *)(void *)((char *)status + status_numbers[i].offset);
}

static void status_write(struct server *s, struct buf *b)
{
	struct status now;

	process_look(s);
	now = status_take(s);
	buf_text(b, "{\"ok\":true,\"status\":{\"version\":");
	json_write_string(b, span_of(now.version));
	for (int i = 0; i < STATUS_COUNT; i++) {
		buf_text(b, ",\"");
		buf_text(b, status_numbers[i].name);
		buf_text(b, "\":");
		buf_number(b, *status_number(&now, i));
	}
	buf_text(b, "}}");
}

static bool status_member(struct json *j, struct status *status)
{
	char bytes[64];
	struct buf name = buf_fixed(bytes, sizeof bytes), version = buf_fixed(status->version, sizeof status->version - 1);

	if (!json_key(j, &name))
		return false;
	if (span_is(buf_view(&name), "version") && json_peek(j) == '"')
		return json_string(j, &version);
	for (int i = 0; i < STATUS_COUNT; i++)
		if (span_is(buf_view(&name), status_numbers[i].name) && json_peek(j) == '0' && j->text.p[j->at] != '-')
			return json_integer(j, status_number(status, i));
	return json_value(j, NULL);
}

bool status_read(struct span text, struct status *status)
{
	struct json j = json_begin(text);
	bool any = false;

	*status = (struct status){0};
	if (!json_open(&j, '{'))
		return false;
	while (json_more(&j, '}')) {
		char bytes[16];
		struct buf name = buf_fixed(bytes, sizeof bytes);

		if (!json_key(&j, &name))
			return false;
		if (!span_is(buf_view(&name), "status")) {
			json_value(&j, NULL);
			continue;
		}
		any = json_open(&j, '{');
		while (any && json_more(&j, '}'))
			if (!status_member(&j, status))
				return false;
	}
	return any && json_end(&j);
}

/* "  name         " */
static void show_name(struct buf *b, const char *name)
{
	size_t from = b->len;

	buf_text(b, "  ");
	buf_text(b, name);
	while (b->len - from < 14 && !b->failed)
		buf_byte(b, ' ');
}

/* A text with numbers: each # of it stands for the next one of up to four. */
static void show_line(struct buf *b, const char *name, const char *text, const int64_t numbers[4])
{
	show_name(b, name);
	for (; *text != '\0'; text++)
		if (*text == '#')
			buf_number(b, *numbers++);
		else
			buf_byte(b, *text);
	buf_byte(b, '\n');
}

/* n a second, with one decimal where that says something. */
static void show_rate(struct buf *b, const char *name, int64_t n, int64_t ms, int64_t all, const char *what)
{
	int64_t most = INT64_MAX / 10000, tenths = ms > 0 && n > 0 ? (n < most ? n : most) * 10000 / ms : 0;

	show_name(b, name);
	buf_number(b, tenths / 10);
	if (tenths < 1000) {
		buf_byte(b, '.');
		buf_number(b, tenths % 10);
	}
	buf_text(b, " a second; ");
	buf_number(b, all);
	buf_text(b, what);
	buf_byte(b, '\n');
}

/* "3 d 4 h", "4 h 12 min", "12 min 3 s" or "3 s" */
static void show_age(struct buf *b, int64_t s)
{
	static const struct {
		int64_t s;
		const char *unit;
	} units[] = {{86400, " d"}, {3600, " h"}, {60, " min"}, {1, " s"}};
	int i = 0;

	while (i < 3 && s < units[i].s)
		i++;
	buf_number(b, s / units[i].s);
	buf_text(b, units[i].unit);
	if (i == 3)
		return;
	buf_byte(b, ' ');
	buf_number(b, s % units[i].s / units[i + 1].s);
	buf_text(b, units[i + 1].unit);
}

static void show_head(struct buf *b, const struct status *now)
{
	buf_text(b, "sse ");
	error_show(b, now->version);
	buf_text(b, now->draining ? ", going down, ran for " : ", running for ");
	show_age(b, now->uptime_ms / 1000);
	buf_text(b, ", pid ");
	buf_number(b, now->pid);
	buf_byte(b, '\n');
}

void status_show(const struct status *before, const struct status *now, struct buf *b)
{
	static const char *const journals[] = {"off: after a restart every page is told to reload",
		"ok: # files, # errors since the start", "FAILING (log: journal_failed): # files, # errors, # events not stored"};
	static const char *const auths[] = {"off (no --auth-url)", "answers: # questions, # failed, # wait",
		"FAILING (log: auth_failed): # questions, # failed, # wait", "not asked yet"};
	int64_t ms = now->uptime_ms - before->uptime_ms;

	show_head(b, now);
	show_line(b, "streams", "# of # users; # of # connections",
		(int64_t[4]){now->streams, now->users, now->connections, now->connections_max});
	show_rate(b, "events", now->events - before->events, ms, now->events, " since the start");
	show_rate(b, "deliveries", now->deliveries - before->deliveries, ms, now->deliveries, "");
	show_rate(b, "bytes sent", now->sent_bytes - before->sent_bytes, ms, now->sent_bytes, "");
	show_line(b, "datagrams", "# taken in, # lines refused", (int64_t[4]){now->datagrams, now->bad_lines});
	if (now->held > before->held)
		show_line(b, "", "HELD BACK: streams had to be written before more were taken in", NULL);
	if (now->answered_ms >= 1000)
		show_line(b, "", "WAITING: this question took # ms to be answered", (int64_t[4]){now->answered_ms});
	show_line(b, "to write", "# streams; # do not read; # are being given what they missed",
		(int64_t[4]){now->dirty, now->blocked, now->behind});
	show_line(b, "closed", "# slow, # stalled, # revoked; # requests refused or put off",
		(int64_t[4]){now->slow, now->stalled, now->revoked, now->refused});
	show_line(b, "came back", "# without a gap, # told to reload", (int64_t[4]){now->replayed, now->resynced});
	show_line(b, "Django", auths[now->auth % 4],
		(int64_t[4]){now->auth_questions, now->auth_failures, now->auth_waiting});
	show_line(b, "journal", journals[now->journal % 3],
		(int64_t[4]){now->journal_segments, now->journal_errors, now->not_stored});
	show_name(b, "history");
	buf_number(b, now->history_events);
	buf_text(b, " events");
	if (now->history_oldest_ms > 0) {
		buf_text(b, ", the last ");
		show_age(b, (now->newest_ms - now->history_oldest_ms) / 1000);
	}
	buf_byte(b, '\n');
	show_line(b, "load", "# % of the time at work; # kB of memory; # of # files", (int64_t[4]){
		ms > 0 ? (now->busy_us - before->busy_us) / 10 / ms : 0, now->memory_bytes / 1024, now->files, now->files_max});
	if (now->log_failing)
		show_line(b, "log", "FAILING: the disk is full, or the file is gone (stderr says which)", NULL);
	if (now->log_lines_dropped > 0 || now->acks_lost > 0)
		show_line(b, "lost", "# lines of the log, # answers to datagrams",
			(int64_t[4]){now->log_lines_dropped, now->acks_lost});
}

/* ============================================================================================
 * the service manager: what systemd is told, by the protocol of sd_notify(3)
 * ============================================================================================ */

/* False if it should be tried again. What it can't be told at all is said once. */
static bool manager_tell(struct server *s, struct span text)
{
	struct manager *m = &s->manager;

	if (s->sys->sendto(m->fd, text.p, text.n, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&m->address,
			m->address_bytes) >= 0) {
		m->failing = false;
		return true;
	}
	if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)
		return false; /* it is busy */
	if (!m->failing) {
		m->failing = true;
		log_text(log_begin(s, LOG_WARNING, "notify_failed"), "error", strerror(errno));
		log_end(s);
	}
	return true;
}

/* How it is, for `systemctl status`. */
static void manager_status(struct server *s, struct buf *b)
{
	int64_t ms = s->now_ms - s->manager.told_ms;

	buf_text(b, s->draining ? "STATUS=draining, " : "STATUS=");
	buf_number(b, s->streams.count);
	buf_text(b, " streams of ");
	buf_number(b, s->online.count);
	buf_text(b, " users, ");
	buf_number(b, ms > 0 ? (int64_t)(s->count.events - s->manager.events) * 1000 / ms : 0);
	buf_text(b, " events a second");
	if (journal_health(s) == PART_FAILING)
		buf_text(b, "; the journal cannot be written");
	if (auth_health(s) == PART_FAILING)
		buf_text(b, "; Django does not answer");
	buf_byte(b, '\n');
}

/* What it should hear now, if anything: a state, a sign of life, how it is. */
static void manager_turn(struct server *s)
{
	struct manager *m = &s->manager;
	char bytes[384];
	struct buf b = buf_fixed(bytes, sizeof bytes);

	if (m->fd < 0 || s->now_ms < m->due_ms)
		return;
	buf_text(&b, m->state != NULL ? m->state : "");
	buf_text(&b, m->watchdog ? "WATCHDOG=1\n" : "");
	manager_status(s, &b);
	if (s->draining) {
		buf_text(&b, "EXTEND_TIMEOUT_USEC=");
		buf_number(&b, (s->drain_until_ms - s->now_ms + MANAGER_MARGIN_MS) * 1000);
		buf_byte(&b, '\n');
	}
	m->due_ms = s->now_ms + (m->period_ms < MANAGER_RETRY_MS ? m->period_ms : MANAGER_RETRY_MS);
	if (!manager_tell(s, buf_view(&b)))
		return;
	m->due_ms = s->now_ms + m->period_ms;
	m->state = NULL;
	m->told_ms = s->now_ms;
	m->events = s->count.events;
}

/* It must hear of this state: now, or as soon as it can. */
static void manager_say(struct server *s, const char *state)
{
	s->manager.state = state;
	s->manager.due_ms = s->now_ms;
	manager_turn(s);
}

/* SIGHUP begins to be done. That it is done, manager_say tells. */
static void manager_reloading(struct server *s)
{
	char bytes[80];
	struct buf b = buf_fixed(bytes, sizeof bytes);

	buf_text(&b, "RELOADING=1\nMONOTONIC_USEC=");
	buf_number(&b, clock_us(s, CLOCK_MONOTONIC, s->now_us));
	if (s->manager.fd >= 0)
		manager_tell(s, buf_view(&b));
}

/* ============================================================================================
 * requests: from a head to an answer
 * ============================================================================================ */

/*
 * The session of a token, or why there is none. REFUSE_NONE without a session: Django must be asked
 * about the token with this key.
 */
static enum refusal auth_check(struct server *s, struct span token, uint8_t key[32], uint32_t *session)
{
	uint32_t verdict;

	*session = 0;
	if (token.n == 0)
		return REFUSE_no_token;
	token_key(s, token, key);
	if (s->ticket_key_count > 0 && is_ticket(token))
		return ticket_check(s, token, key, session);
	*session = session_find(s, key);
	if (*session != 0 && session_good(s, *session))
		return REFUSE_NONE;
	*session = 0;
	if (s->opt.auth_url[0] == '\0' || token.n > MAX_TOKEN)
		return REFUSE_unknown_token;
	verdict = key_find(&s->verdicts_by_key.table, key);
	if (verdict != 0 && s->verdicts[verdict].until_ms >= s->now_ms)
		return s->verdicts[verdict].why;
	for (size_t i = 0; i < token.n; i++)
		if (token.p[i] <= ' ' || token.p[i] >= 0x7f)
			return REFUSE_unknown_token; /* no header could carry it */
	return REFUSE_NONE;
}

/* An answer with an end; what is NULL or empty is left out. */
struct answer {
	int status;
	const char *type; /* of the body */
	struct span body;
	const char *more; /* header lines, each with its CR LF */
};

static const char *const type_json = "application/json", *const type_text = "text/plain; charset=utf-8";

/* What Access-Control-Allow-Origin says to this origin; NULL if it may not ask. */
static const char *cors_allowed(const struct server *s, struct span origin)
{
	for (int i = 0; origin.p != NULL && i < s->opt.cors_origin.count; i++) {
		const char *allowed = s->opt.cors_origin.items[i];

		if (strcmp(allowed, "*") == 0 || span_is(origin, allowed))
			return allowed;
	}
	return NULL;
}

/* The lines of a head that every answer has: status, Date, CORS. */
static void answer_begin(struct server *s, struct buf *b, const struct http_request *r, int status)
{
	const char *allowed = cors_allowed(s, r->origin);
	struct buf date = buf_fixed(s->date, sizeof s->date - 1);

	if (s->date_s != s->wall_ms / 1000) {
		s->date_s = s->wall_ms / 1000;
		http_date(&date, s->date_s);
		s->date[date.len] = '\0';
	}
	buf_text(b, "HTTP/1.1 ");
	buf_number(b, status);
	buf_byte(b, ' ');
	buf_text(b, status_text(status));
	buf_text(b, "\r\nDate: ");
	buf_text(b, s->date);
	buf_text(b, "\r\n");
	if (allowed != NULL) {
		buf_text(b, "Access-Control-Allow-Origin: ");
		buf_text(b, allowed);
		buf_text(b, strcmp(allowed, "*") == 0 ? "\r\n" : "\r\nAccess-Control-Allow-Credentials: true\r\n");
	}
	if (s->opt.cors_origin.count > 0)
		buf_text(b, "Vary: Origin\r\n");
}

/* Writes a whole answer; then the connection waits for the next request, or closes. */
static void conn_reply(struct server *s, struct conn *c, struct span bytes)
{
	memset(&c->u, 0, sizeof c->u);
	c->state = c->keep_alive ? CONN_HEAD : CONN_CLOSING;
	c->asked = true;
	c->paced = false;
	c->since_ms = (uint32_t)s->now_ms;
	conn_write(s, c, bytes);
	if (c->state == CONN_CLOSING && c->out == NULL)
		conn_finish(s, c);
}

static void conn_answer(struct server *s, struct conn *c, const struct http_request *r, const struct answer *a)
{
	struct buf *b = &s->scratch;

	buf_clear(b);
	answer_begin(s, b, r, a->status);
	if (a->more != NULL)
		buf_text(b, a->more);
	if (a->type != NULL) {
		buf_text(b, "Content-Type: ");
		buf_text(b, a->type);
		buf_text(b, "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Length: ");
		buf_number(b, (int64_t)a->body.n);
		buf_text(b, "\r\n");
	}
	buf_text(b, c->keep_alive ? "\r\n" : "Connection: close\r\n\r\n");
	if (r->method != HTTP_HEAD)
		buf_span(b, a->body);
	if (b->failed) {
		conn_dead(s, c, CLOSE_no_memory);
		return;
	}
	conn_reply(s, c, buf_view(b));
}

/* Where a connection comes from: "127.0.0.1:51234", "unix", or what a trusted proxy says. */
static void conn_from(struct server *s, struct conn *c, struct buf *b)
{
	struct sockaddr_storage peer = {0};
	socklen_t bytes = sizeof peer;
	struct address address;
	bool four;

	if (c->proxied && s->asker_known) {
		address_write(b, &s->asker);
	} else if (s->sys->getpeername((int)conn_number(s, c), (struct sockaddr *)&peer, &bytes) < 0
		|| !address_of(&peer, &address)) {
		buf_text(b, peer.ss_family == AF_UNIX ? "unix" : "?");
	} else {
		four = peer.ss_family == AF_INET;
		buf_text(b, four ? "" : "[");
		address_write(b, &address);
		buf_text(b, four ? ":" : "]:");
		buf_number(b, ntohs(four ? ((const struct sockaddr_in *)(const void *)&peer)->sin_port
			: ((const struct sockaddr_in6 *)(const void *)&peer)->sin6_port));
	}
}

static void refusal_log(struct server *s, struct conn *c, enum refusal why, int status)
{
	struct buf *b = log_flood(s, LOG_INFO, FLOOD_refused, "refused");

	s->count.refused[why]++;
	conn_logged(s, c, b);
	log_number(b, "status", status);
	log_text(b, "reason", refusals[why].name);
	buf_text(b, " from=");
	conn_from(s, c, b);
	log_end(s);
}

static void conn_refuse(struct server *s, struct conn *c, const struct http_request *r, enum refusal why)
{
	struct answer a = {.status = refusals[why].status, .type = type_json};

	/* After a 400 the two sides may not agree where the next request begins; the others that end
	 * here leave something of theirs unread. */
	if (a.status != 401 && a.status != 403 && a.status != 404 && a.status != 405)
		c->keep_alive = false;
	if (a.status == 401)
		a.more = "WWW-Authenticate: Bearer\r\n";
	if (a.status == 405)
		a.more = "Allow: GET, HEAD, OPTIONS\r\n";
	refusal_log(s, c, why, a.status);
	buf_clear(&s->body);
	buf_text(&s->body, "{\"error\":");
	json_write_string(&s->body, span_of(refusals[why].text));
	buf_text(&s->body, "}\n");
	a.body = buf_view(&s->body);
	conn_answer(s, c, r, &a);
}

/*
 * An overload, told to an EventSource: any status but 200 would end it for good, but a stream
 * that ends makes it come back after the time of its retry line.
 */
static void stream_put_off(struct server *s, struct conn *c, const struct http_request *r, enum refusal why)
{
	refusal_log(s, c, why, 200);
	buf_clear(&s->body);
	sse_retry(&s->body, retry_ms(s));
	c->keep_alive = false;
	conn_answer(s, c, r, &(struct answer){200, "text/event-stream", buf_view(&s->body), NULL});
}

static const char *const authorities[] = {[BY_FILE] = "file", [BY_DJANGO] = "django", [BY_TICKET] = "ticket"};

/* Where a stream begins. */
struct start {
	bool resumes;       /* the page says up to where it has seen everything */
	enum resume how;
	struct event_id id; /* and this is it; else the newest there is */
	uint32_t number;    /* the first event it is to get */
};

/* The header wins over the parameter. A page that has none has missed nothing. */
static struct start request_start(struct server *s, const struct http_request *r)
{
	struct start start = {.id = s->ring.newest, .number = s->ring.next};
	struct span given = r->last_event_id;
	struct event_id id;

	ring_forget(&s->ring, s->wall_ms - s->opt.history_age);
	buf_clear(&s->body);
	if (given.p == NULL && http_parameter(r->query, "lastEventId", &s->body) == 0)
		return start;
	if (given.p == NULL)
		given = buf_view(&s->body);
	start.resumes = true;
	start.how = sse_id_read(given, &id) ? ring_resume(&s->ring, id, &start.number) : RESUME_unknown;
	if (start.how == RESUME_replay)
		start.id = id;
	s->count.resumed[start.how]++;
	return start;
}

/* The connection becomes a stream of this session. */
static void stream_begin(struct server *s, struct conn *c, uint32_t session, const struct start *start)
{
	struct user *u = &s->users[s->sessions[session].user];
	uint32_t number = conn_number(s, c);
	struct buf *b;

	memset(&c->u, 0, sizeof c->u);
	c->state = CONN_STREAM;
	c->opened_ds = (uint32_t)(s->now_ms / 100);
	c->u.stream.session = session;
	c->u.stream.next = u->first;
	if (u->first != 0)
		s->conns[u->first].u.stream.prev = number;
	u->first = number;
	if (u->streams++ == 0)
		set_add(&s->online, s->sessions[session].user);
	s->sessions[session].streams++;
	session_uncache(s, session);
	set_add(&s->streams, number);
	stream_roles(s, c);
	c->u.stream.run_first = start->number;
	if (start->number != s->ring.next) {
		set_add(&s->behind, number);
		s->counted[number] = s->ring.next - 1;
	}
	s->count.streams++;
	b = log_begin(s, LOG_INFO, "connect");
	conn_logged(s, c, b);
	log_number(b, "streams", u->streams);
	log_text(b, "auth", authorities[s->sessions[session].authority]);
	if (start->resumes) {
		log_text(b, "resume", resume_names[start->how]);
		log_number(b, "behind", s->ring.next - start->number);
	}
	buf_text(b, " from=");
	conn_from(s, c, b);
	log_end(s);
}

/*
 * The first bytes of a stream: its head, the time to come back after, "connected". This bears the id up to
 * which the page has everything, and not yet that of the newest event if it is to be caught up.
 */
static void stream_greet(struct server *s, struct conn *c, const struct http_request *r, const struct start *start)
{
	struct buf *b = &s->scratch;
	bool resync;

	buf_clear(b);
	answer_begin(s, b, r, 200);
	buf_text(b, "Content-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\n");
	buf_text(b, c->keep_alive ? "Connection: keep-alive\r\n" : "Connection: close\r\n");
	buf_text(b, "X-Accel-Buffering: no\r\n");
	buf_text(b, r->http10 ? "\r\n" : "Transfer-Encoding: chunked\r\n\r\n");
	buf_clear(&s->body);
	sse_retry(&s->body, retry_ms(s));
	resync = start->resumes && start->how != RESUME_replay;
	sse_connected(&s->body, resync ? NULL : &start->id); /* it must not be taken for seen before the resync is there */
	if (resync)
		stream_resync(s, &s->body, start->how);
	if (r->method != HTTP_HEAD)
		stream_put(b, c, buf_view(&s->body));
	if (b->failed || s->body.failed)
		conn_dead(s, c, CLOSE_no_memory);
	else if (r->method == HTTP_HEAD)
		conn_reply(s, c, buf_view(b));
	else
		conn_write(s, c, buf_view(b));
}

/*
 * The session of a request's token: see auth_check. Without one, and with REFUSE_NONE, the connection
 * waits for Django now. Who got a session gives it to session_rest when done.
 */
static enum refusal request_session(struct server *s, struct conn *c, const struct http_request *r, bool stream,
	uint32_t *session)
{
	uint8_t key[32];
	struct span token;
	enum refusal why;

	*session = 0;
	buf_clear(&s->token);
	why = http_token(r, stream, &s->token, &token);
	if (why == REFUSE_NONE)
		why = auth_check(s, token, key, session);
	if (why == REFUSE_NONE && *session == 0)
		why = s->draining ? REFUSE_draining : conn_wait(s, c, key, stream && r->method == HTTP_GET);
	else if (why == REFUSE_NONE && stream && !session_keep_token(s, *session, token))
		why = REFUSE_no_memory;
	token_wipe(s);
	return why;
}

/* Makes a stream of a session, if its user may have one more. */
static void request_stream(struct server *s, struct conn *c, const struct http_request *r, uint32_t session)
{
	struct start start;

	c->chunked = !r->http10;
	if (r->method == HTTP_HEAD) {
		stream_greet(s, c, r, &(struct start){.id = s->ring.newest});
	} else if (s->users[s->sessions[session].user].streams >= s->opt.streams_per_user) {
		stream_put_off(s, c, r, REFUSE_too_many_streams);
	} else if (c->proxied && s->asker_known && s->opt.connections_per_address > 0 && !source_take(s, c, &s->asker)) {
		stream_put_off(s, c, r, REFUSE_too_many_from_address);
	} else {
		start = request_start(s, r);
		stream_begin(s, c, session, &start);
		stream_greet(s, c, r, &start);
		if (conn_behind(s, c) && !c->blocked)
			conn_dirty(s, c);
	}
}

/* Who asks? See struct server's asker. */
static void request_asker(struct server *s, struct conn *c, const struct http_request *r)
{
	s->asker_known = false;
	if (c->proxied)
		s->asker_known = forwarded_for(r->forwarded, s->proxies, s->proxy_count, &s->asker);
	else if (s->opt.requests_per_address > 0)
		s->asker_known = conn_peer(s, c, &s->asker);
}

/* Has its address not asked too often? A request that waited for Django was counted before. */
static bool request_paced(struct server *s, struct conn *c)
{
	if (s->opt.requests_per_address > 0 && s->asker_known && !c->paced && !pace_take(s, &s->asker))
		return false;
	c->paced = true;
	return true;
}

static void request_events(struct server *s, struct conn *c, const struct http_request *r)
{
	uint32_t session = 0;
	enum refusal why = s->draining ? REFUSE_draining : c->shed ? REFUSE_too_many_connections
		: !request_paced(s, c) ? REFUSE_too_many_requests : request_session(s, c, r, true, &session);

	if (refusals[why].status == 503 || why == REFUSE_too_many_requests)
		stream_put_off(s, c, r, why);
	else if (why != REFUSE_NONE)
		conn_refuse(s, c, r, why);
	else if (session != 0)
		request_stream(s, c, r, session);
	session_rest(s, session);
}

static void request_stats(struct server *s, struct conn *c, const struct http_request *r)
{
	struct buf *b = &s->body;
	uint32_t session = 0;
	enum refusal why = request_paced(s, c) ? request_session(s, c, r, false, &session) : REFUSE_too_many_requests;
	bool first = true;

	session_rest(s, session);
	if (why != REFUSE_NONE)
		conn_refuse(s, c, r, why);
	if (why != REFUSE_NONE || c->state == CONN_WAIT)
		return;
	buf_clear(b);
	buf_text(b, "{\"total_users\":");
	buf_number(b, s->online.count);
	buf_text(b, ",\"total_connections\":");
	buf_number(b, s->streams.count);
	buf_text(b, ",\"users\":{");
	for (uint32_t i = 0; (i = set_next(&s->online, i)) != SET_END; i++) {
		if (!first)
			buf_byte(b, ',');
		first = false;
		json_write_string(b, user_id(&s->users[i]));
		buf_byte(b, ':');
		buf_number(b, s->users[i].streams);
	}
	buf_text(b, "}}\n");
	if (b->failed)
		conn_refuse(s, c, r, REFUSE_no_memory);
	else
		conn_answer(s, c, r, &(struct answer){200, type_json, buf_view(b), NULL});
}

/* An answer without a body. A page's preflight gets what it asks for, if its origin may ask. */
static void request_options(struct server *s, struct conn *c, const struct http_request *r)
{
	if (r->preflight && cors_allowed(s, r->origin) == NULL)
		conn_refuse(s, c, r, REFUSE_origin_not_allowed);
	else if (r->preflight)
		conn_answer(s, c, r, &(struct answer){204, NULL, {NULL, 0},
			"Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n"
			"Access-Control-Allow-Headers: Authorization, Last-Event-ID, Cache-Control\r\n"
			"Access-Control-Max-Age: 86400\r\n"});
	else
		conn_answer(s, c, r, &(struct answer){204, NULL, {NULL, 0}, "Allow: GET, HEAD, OPTIONS\r\n"});
}

static void request_metrics(struct server *s, struct conn *c, const struct http_request *r)
{
	buf_clear(&s->body);
	metrics_write(s, &s->body);
	if (s->body.failed)
		conn_refuse(s, c, r, REFUSE_no_memory);
	else
		conn_answer(s, c, r, &(struct answer){200, "text/plain; version=0.0.4; charset=utf-8", buf_view(&s->body), NULL});
}

static void request_livez(struct server *s, struct conn *c, const struct http_request *r)
{
	conn_answer(s, c, r, &(struct answer){200, type_text, span_of("ok\n"), NULL});
}

/* Ready as long as streams can begin and events come in. What else is wrong is told, but a browser is better off here
 * than nowhere. */
static void request_readyz(struct server *s, struct conn *c, const struct http_request *r)
{
	int64_t waited_s = intake_done(s) ? 0 : (s->now_ms - s->intake.moved_ms) / 1000;
	bool stuck = waited_s >= INTAKE_STUCK_S;
	struct buf *b = &s->body;

	buf_clear(b);
	if (s->draining) {
		buf_text(b, "not ready: draining");
	} else if (stuck) {
		buf_text(b, "not ready: datagrams have waited for ");
		buf_number(b, waited_s);
		buf_text(b, " s");
	} else {
		buf_text(b, "ready");
	}
	buf_text(b, "\njournal ");
	buf_text(b, part_names[journal_health(s)]);
	buf_text(b, "\ndjango ");
	buf_text(b, part_names[auth_health(s)]);
	buf_byte(b, '\n');
	conn_answer(s, c, r, &(struct answer){s->draining || stuck ? 503 : 200, type_text, buf_view(b), NULL});
}

static const struct {
	const char *path; /* behind the prefix, or, on --admin, all of it; a slash may follow */
	bool admin;
	void (*answer)(struct server *, struct conn *, const struct http_request *);
} routes[] = {{"/events", false, request_events}, {"/stats", false, request_stats}, {"/metrics", true, request_metrics},
	{"/livez", true, request_livez}, {"/readyz", true, request_readyz}, {NULL, false, NULL}};

enum { ROUTE_UNKNOWN = -2 }; /* there was no memory to find out */

/* The route of a path: an index of routes, of its last row if there is none; -1 for a bad escape; or ROUTE_UNKNOWN. */
static int request_route(struct server *s, bool admin, struct span path)
{
	size_t prefix = admin ? 0 : strlen(s->opt.prefix);
	struct span rest;
	int i = 0;

	buf_clear(&s->body);
	if (!http_unescape(path, &s->body))
		return -1;
	if (s->body.failed)
		return ROUTE_UNKNOWN;
	rest = buf_view(&s->body);
	if (rest.n < prefix || memcmp(rest.p, s->opt.prefix, prefix) != 0)
		rest.n = 0;
	else
		rest = span_from(rest, prefix);
	if (rest.n > 1 && rest.p[rest.n - 1] == '/')
		rest.n--;
	while (routes[i].path != NULL && (routes[i].admin != admin || !span_is(rest, routes[i].path)))
		i++;
	return i;
}

/* Answers one request. */
static void conn_request(struct server *s, struct conn *c, struct span head)
{
	struct http_request r;
	enum refusal why = http_parse(head, &r);
	int route = why == REFUSE_NONE && !span_is(r.path, "*") ? request_route(s, c->admin, r.path) : 0;

	if (route == ROUTE_UNKNOWN) { /* a reset makes a browser come back; an answer would have to know what was asked for */
		conn_dead(s, c, CLOSE_no_memory);
		return;
	}
	request_asker(s, c, &r);
	c->keep_alive = r.keep_alive && !r.has_body && why == REFUSE_NONE && !c->shed && !s->draining && !c->ended;
	if (why == REFUSE_NONE && route < 0)
		why = REFUSE_bad_escape;
	else if (why == REFUSE_NONE && routes[route].path == NULL)
		why = REFUSE_no_such_path;
	else if (why == REFUSE_NONE && r.method == HTTP_KNOWN)
		why = REFUSE_method_not_allowed;
	else if (why == REFUSE_NONE && r.has_body)
		why = REFUSE_body_not_allowed;
	if (why != REFUSE_NONE)
		conn_refuse(s, c, &r, why);
	else if (r.method == HTTP_OPTIONS)
		request_options(s, c, &r);
	else
		routes[route].answer(s, c, &r);
	s->asker_known = false;
}

void conn_feed(struct server *s, struct conn *c, const char *bytes, size_t n)
{
	struct http_limits limits = {(size_t)s->opt.head, (size_t)s->opt.target};
	int got = 1, requests = 0;

	if (c->asked && c->in == NULL)
		c->since_ms = (uint32_t)s->now_ms;
	if (c->in != NULL) {
		if (n > 0 && !hold_append(&c->in, bytes, n)) {
			conn_dead(s, c, CLOSE_no_memory);
			return;
		}
		bytes = c->in->bytes + c->in->at;
		n = c->in->len - c->in->at;
	}
	while (n > 0 && got > 0 && c->state == CONN_HEAD && c->out == NULL) {
		if (requests++ == REQUESTS_A_TURN) {
			set_add(&s->unread, conn_number(s, c));
			break;
		}
		got = http_scan(&c->u.scan, bytes, n, &limits);
		if (got < 0) {
			c->keep_alive = false;
			conn_refuse(s, c, &(struct http_request){.method = HTTP_GET}, (enum refusal)-got);
		} else if (got > 0) {
			conn_request(s, c, (struct span){bytes, (size_t)got});
			if (c->state == CONN_WAIT)
				break; /* the head is read again when the answer is there */
			bytes += got;
			n -= (size_t)got;
		}
	}
	if ((c->state != CONN_HEAD && c->state != CONN_WAIT) || n == 0)
		hold_free(&c->in);
	else if (c->in != NULL)
		c->in->at = c->in->len - (uint32_t)n;
	else if (!hold_append(&c->in, bytes, n))
		conn_dead(s, c, CLOSE_no_memory);
}

/* Takes what came in on a connection: once, so that a client who sends a lot gets no more turns. */
static void conn_read(struct server *s, struct conn *c)
{
	uint32_t number = conn_number(s, c);
	ssize_t n;

	set_remove(&s->unread, number);
	if (c->state == CONN_HEAD && c->out == NULL && c->in != NULL)
		conn_feed(s, c, "", 0);
	if (c->state == CONN_DEAD || (c->state == CONN_HEAD && c->out != NULL) || set_has(&s->unread, number))
		return;
	n = s->sys->recv((int)number, s->input, sizeof s->input, 0);
	if (n == (ssize_t)sizeof s->input || (n > 0 && c->hung_up) || (n < 0 && errno == EINTR))
		set_add(&s->unread, number);
	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		conn_dead(s, c, CLOSE_reset);
	} else if (n == 0) {
		c->ended = true;
		c->keep_alive = false;
		if (c->state == CONN_WAIT ? c->u.wait.stream : c->state != CONN_CLOSING || c->finished)
			conn_dead(s, c, c->finished ? CLOSE_done : CLOSE_gone);
	} else if (n > 0 && c->state == CONN_HEAD) {
		conn_feed(s, c, s->input, (size_t)n);
	} else if (n > 0 && c->state == CONN_WAIT) {
		if (hold_view(c->in).n + (size_t)n > DROP_MAX)
			conn_dead(s, c, CLOSE_chatter);
		else if (!hold_append(&c->in, s->input, (size_t)n))
			conn_dead(s, c, CLOSE_no_memory);
	} else if (n > 0) {
		c->u.stream.dropped += (uint32_t)n;
		if (c->u.stream.dropped > DROP_MAX)
			conn_dead(s, c, CLOSE_chatter);
	}
	if (n > 0)
		explicit_bzero(s->input, (size_t)n); /* there was a token in it */
}

void conn_event(struct server *s, struct conn *c, uint32_t events)
{
	if (c->state == CONN_FREE || c->state == CONN_DEAD)
		return;
	if (c->state == CONN_LINK) {
		link_event(s, &s->links[c->u.link]);
		return;
	}
	if ((events & EPOLLOUT) != 0 && c->blocked) {
		c->blocked = false;
		conn_dirty(s, c);
	}
	c->hung_up |= (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
	if (c->hung_up || (events & EPOLLIN) != 0)
		conn_read(s, c);
}

/* ============================================================================================
 * datagrams: what Django says
 *
 * A line is checked whole before anything of it takes effect. datagram_keys has a row for every
 * key there is.
 * ============================================================================================ */

/* A line in the making. */
struct line {
	struct server *s;
	struct json j;
	uint32_t seen;   /* bit i: datagram_keys[i] was there */
	const char *key; /* whose value is being read */
	char name_bytes[MAX_NAME], op_bytes[MAX_NAME], user_bytes[MAX_NAME], sid_bytes[MAX_NAME];
	struct buf name, op, user, sid;
	int64_t timestamp;
};

static bool line_event(struct line *l, size_t from)
{
	if (json_peek(&l->j) == '"' && !json_string(&l->j, &l->name))
		return false;
	for (size_t i = 0; i < l->name.len; i++)
		if (!is_alnum(l->name.data[i]) && strchr("_.:-", l->name.data[i]) == NULL)
			l->name.failed = true;
	if (l->name.failed || l->name.len == 0 || memchr(l->name.data, '\0', l->name.len) != NULL)
		return json_fail(&l->j, from, "expected 1 to 64 of A-Z a-z 0-9 _ . : -");
	return true;
}

static bool line_data(struct line *l, size_t from)
{
	(void)from;
	buf_clear(&l->s->compact);
	return json_value(&l->j, &l->s->compact);
}

static bool line_to(struct line *l, size_t from)
{
	struct buf *who = &l->s->who;
	size_t before = who->len;
	char kind = json_peek(&l->j), text[4];
	struct buf all = buf_fixed(text, sizeof text);

	if (kind == '{') {
		if (!audience_read(&l->j, false, who))
			return false;
		if (who->len == before)
			return json_fail(&l->j, from, "names nobody; for everybody say \"all\"");
	} else if (kind != '"' || !json_string(&l->j, &all) || !span_is(buf_view(&all), "all") || all.failed) {
		return json_fail(&l->j, from, "expected an object or \"all\"");
	} else {
		buf_byte(who, (char)WHO_ALL);
	}
	return true;
}

static bool line_except(struct line *l, size_t from)
{
	if (json_peek(&l->j) != '{')
		return json_fail(&l->j, from, "expected an object");
	return audience_read(&l->j, true, &l->s->who);
}

static bool line_timestamp(struct line *l, size_t from)
{
	(void)from;
	return json_integer(&l->j, &l->timestamp);
}

static bool line_op(struct line *l, size_t from)
{
	return (json_peek(&l->j) == '"' && json_string(&l->j, &l->op) && !l->op.failed)
		|| json_fail(&l->j, from, "expected revoke, refresh, status or ping");
}

static bool line_user(struct line *l, size_t from)
{
	(void)from;
	return audience_user(&l->j, &l->user);
}

static bool line_sid(struct line *l, size_t from)
{
	if (json_peek(&l->j) != '"' || !json_string(&l->j, &l->sid) || l->sid.failed || l->sid.len == 0)
		return json_fail(&l->j, from, "expected a string of 1 to 64 bytes");
	return true;
}

enum { KEY_EVENT, KEY_DATA, KEY_TO, KEY_EXCEPT, KEY_TIMESTAMP, KEY_OP, KEY_USER, KEY_SID, KEY_COUNT };
static const struct {
	const char *name;
	bool (*read)(struct line *, size_t from);
} datagram_keys[KEY_COUNT] = {
	[KEY_EVENT] = {"event", line_event}, [KEY_DATA] = {"data", line_data}, [KEY_TO] = {"to", line_to},
	[KEY_EXCEPT] = {"except", line_except}, [KEY_TIMESTAMP] = {"timestamp", line_timestamp},
	[KEY_OP] = {"op", line_op}, [KEY_USER] = {"user", line_user}, [KEY_SID] = {"sid", line_sid},
};

static bool line_key(struct line *l)
{
	char bytes[16];
	struct buf name = buf_fixed(bytes, sizeof bytes);
	size_t from;
	int key = 0;

	json_peek(&l->j);
	from = l->j.at;
	if (!json_key(&l->j, &name))
		return false;
	while (key < KEY_COUNT && (name.failed || !span_is(buf_view(&name), datagram_keys[key].name)))
		key++;
	if (key == KEY_COUNT)
		return json_fail(&l->j, from, "unknown key: there are event, data, to, except, timestamp; op, user, sid");
	if (l->seen >> key & 1)
		return json_fail(&l->j, from, "this key is given twice");
	l->seen |= UINT32_C(1) << key;
	json_peek(&l->j);
	l->key = datagram_keys[key].name;
	if (!datagram_keys[key].read(l, l->j.at))
		return false;
	l->key = NULL;
	return true;
}

/* What the keys together must be: an event, or an op with what it needs. NULL, or what is wrong. */
static const char *line_check(const struct line *l)
{
	uint32_t of_event = 1u << KEY_EVENT | 1u << KEY_DATA | 1u << KEY_TO | 1u << KEY_EXCEPT | 1u << KEY_TIMESTAMP;
	bool user = l->seen >> KEY_USER & 1, sid = l->seen >> KEY_SID & 1;
	struct span op = buf_view(&l->op);

	if ((l->seen >> KEY_OP & 1) == 0) {
		if (user || sid)
			return "user and sid belong to an op; who an event is for stands in to";
		if ((l->seen >> KEY_EVENT & 1) == 0)
			return "event: missing";
		if ((l->seen >> KEY_DATA & 1) == 0)
			return "data: missing";
		return (l->seen >> KEY_TO & 1) == 0 ? "to: missing; for everybody say \"all\"" : NULL;
	}
	if ((l->seen & of_event) != 0)
		return "an op is not an event: it has only user or sid";
	if (span_is(op, "ping"))
		return user || sid ? "op: ping has no user and no sid" : NULL;
	if (span_is(op, "status"))
		return user || sid ? "op: status has no user and no sid" : NULL;
	if (span_is(op, "revoke"))
		return user == sid ? "op: revoke needs a user or a sid" : NULL;
	if (span_is(op, "refresh"))
		return !user || sid ? "op: refresh needs a user"
			: l->s->opt.auth_url[0] == '\0' ? "op: refresh asks Django again, and there is no --auth-url" : NULL;
	return "op: expected revoke, refresh, status or ping";
}

static void ack_ok(struct buf *ack, struct event_id id, uint32_t matched)
{
	buf_text(ack, "{\"ok\":true,\"id\":\"");
	sse_id(ack, id);
	buf_text(ack, "\",\"matched\":");
	buf_number(ack, matched);
	buf_byte(ack, '}');
}

/* What a sender got wrong, told to it and to the log; key is NULL, or whose value it is. */
static void ack_error(struct server *s, struct buf *ack, const char *key, const char *error, size_t at)
{
	struct buf *b = log_flood(s, LOG_WARNING, FLOOD_datagram, "bad_datagram"), text;
	char bytes[160];

	text = buf_fixed(bytes, sizeof bytes);
	buf_text(&text, key != NULL ? key : "");
	buf_text(&text, key != NULL ? ": " : "");
	buf_text(&text, error);
	s->count.bad_lines++;
	log_span(b, "error", buf_view(&text));
	log_number(b, "at", (int64_t)at);
	log_end(s);
	buf_text(ack, "{\"ok\":false,\"error\":");
	json_write_string(ack, buf_view(&text));
	buf_text(ack, ",\"at\":");
	buf_number(ack, (int64_t)at);
	buf_byte(ack, '}');
}

/* The event takes effect: into the ring, to its streams, into the log. */
static bool line_publish(struct server *s, const struct line *l, struct buf *ack)
{
	struct event_id id = ring_next_id(&s->ring, s->wall_ms);
	struct sse_event e = {id, buf_view(&l->name), buf_view(&s->compact),
		l->seen >> KEY_TIMESTAMP & 1 ? l->timestamp : s->wall_ms / 1000};
	uint32_t number, matched;
	struct buf *b;

	buf_clear(&s->scratch);
	sse_frame(&s->scratch, &e);
	assert(!s->who.failed); /* packed, it is shorter than it was in the datagram */
	if (s->scratch.failed)
		return false;
	number = ring_append(&s->ring, id, buf_view(&s->who), buf_view(&s->scratch));
	matched = route(s, buf_view(&s->who), number);
	s->count.events++;
	b = log_begin(s, LOG_INFO, "event");
	log_span(b, "name", e.name);
	buf_text(b, " id=");
	sse_id(b, id);
	log_number(b, "matched", matched);
	log_end(s);
	ack_ok(ack, id, matched);
	return true;
}

/* Takes back what was said of a user or of a sid. Returns the streams that ended. */
static uint32_t line_revoke(struct server *s, const struct line *l)
{
	struct span user = buf_view(&l->user), sid = buf_view(&l->sid);
	uint32_t ended = 0, session;

	s->count.revocations++;
	if (user.n > 0) {
		tombstone_put(s, TOMB_USER, user);
		return user_revoke(s, user_find(s, user));
	}
	tombstone_put(s, TOMB_SID, sid);
	while ((session = session_named(s, sid)) != 0)
		ended += session_revoke(s, session);
	return ended;
}

static uint32_t line_refresh(struct server *s, const struct line *l)
{
	tombstone_put(s, TOMB_REFRESH, buf_view(&l->user));
	return user_refresh(s, user_find(s, buf_view(&l->user)));
}

/* A sid may be the key of Django's session, so it is not logged. */
static void operate_log(struct server *s, const struct line *l, uint32_t matched)
{
	struct buf *b = log_begin(s, LOG_INFO, span_is(buf_view(&l->op), "revoke") ? "revoke" : "refresh");

	if (l->user.len > 0)
		log_span(b, "user", buf_view(&l->user));
	else
		log_text(b, "by", "sid");
	log_number(b, "matched", matched);
	log_end(s);
}

/* revoke, refresh, status or ping. */
static void line_operate(struct server *s, const struct line *l, struct buf *ack)
{
	struct span op = buf_view(&l->op);
	uint32_t matched;

	if (span_is(op, "status")) {
		status_write(s, ack);
	} else if (span_is(op, "ping")) {
		ack_ok(ack, s->ring.newest, s->streams.count);
	} else {
		matched = span_is(op, "revoke") ? line_revoke(s, l) : line_refresh(s, l);
		operate_log(s, l, matched);
		ack_ok(ack, s->ring.newest, matched);
	}
}

void datagram_line(struct server *s, struct span text, struct buf *ack)
{
	struct line l = {.s = s, .j = json_begin(text)};
	const char *error;

	l.name = buf_fixed(l.name_bytes, sizeof l.name_bytes);
	l.op = buf_fixed(l.op_bytes, sizeof l.op_bytes);
	l.user = buf_fixed(l.user_bytes, sizeof l.user_bytes);
	l.sid = buf_fixed(l.sid_bytes, sizeof l.sid_bytes);
	s->count.lines++;
	buf_clear(&s->who);
	if (json_open(&l.j, '{'))
		while (json_more(&l.j, '}'))
			if (!line_key(&l))
				break;
	if (!json_end(&l.j)) {
		ack_error(s, ack, l.key, l.j.error, l.j.at);
		return;
	}
	error = line_check(&l);
	if (error != NULL)
		ack_error(s, ack, NULL, error, 0);
	else if (l.seen >> KEY_OP & 1)
		line_operate(s, &l, ack);
	else if (!line_publish(s, &l, ack))
		ack_error(s, ack, NULL, "no memory", 0);
}

/* Where the answers to datagram i begin in acks, once those before it are there. */
static size_t intake_begins(const struct intake *in, int i)
{
	return i > in->answered ? in->ends[i - 1] : 0;
}

/* Has the sender of this datagram an address that an answer can go to? */
static bool intake_bound(const struct intake *in, int i)
{
	return in->messages[i].msg_hdr.msg_namelen > sizeof(sa_family_t);
}

/*
 * Sends an answer; false with errno. It goes by a socket of its own, because the kernel counts what receivers have not
 * read as the sending socket's: one who reads nothing would take the others' answers. When that socket is full there
 * is another. A sender that is connected takes answers only from where it sends to.
 */
static bool answer_send(struct server *s, const struct msghdr *to, struct span text)
{
	int fd = s->answers >= 0 ? s->answers : s->datagrams.fd;

	for (;;) {
		if (s->sys->sendto(fd, text.p, text.n, MSG_DONTWAIT | MSG_NOSIGNAL, to->msg_name, to->msg_namelen) >= 0) {
			s->answers_sent += fd == s->answers;
			return true;
		}
		if (errno == EPERM && fd != s->datagrams.fd) {
			fd = s->datagrams.fd;
		} else if (errno == EAGAIN && fd == s->answers && s->answers_sent > 0) {
			s->sys->close(s->answers);
			s->answers = s->sys->socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
			s->answers_sent = 0;
			fd = s->answers >= 0 ? s->answers : s->datagrams.fd;
		} else if (errno != EINTR) {
			return false;
		}
	}
}

static void intake_send(struct server *s, int i, struct span answers)
{
	if (answers.n > 0 && s->datagrams.fd >= 0 && !answer_send(s, &s->intake.messages[i].msg_hdr, answers)) {
		s->count.acks_lost++;
		log_text(log_flood(s, LOG_WARNING, FLOOD_ack, "ack_lost"), "error", strerror(errno));
		log_end(s);
	}
}

/* The answers to these events get one word more: the journal does not have them. */
static void intake_not_stored(struct server *s)
{
	static const char word[] = ",\"stored\":false";
	struct intake *in = &s->intake;

	for (uint32_t n = in->event_count; n-- > 0;) {
		char *brace = in->acks.data + in->events[n] - 1;

		memmove(brace + sizeof word - 1, brace, in->acks.len - in->events[n] + 1);
		memcpy(brace, word, sizeof word - 1);
		in->acks.len += sizeof word - 1;
		for (int i = in->answered; i < in->next; i++)
			if (in->ends[i] >= in->events[n])
				in->ends[i] += (uint32_t)sizeof word - 1;
	}
}

/* Sends the answers that are complete; also the first ones to a datagram of so many lines that they take much room. */
static void intake_answer(struct server *s, bool stored)
{
	struct intake *in = &s->intake;
	size_t from = 0;

	if (!stored)
		intake_not_stored(s);
	in->event_count = 0;
	for (; in->answered < in->next; in->answered++) {
		intake_send(s, in->answered, (struct span){in->acks.data + from, in->ends[in->answered] - from});
		from = in->ends[in->answered];
	}
	in->acks.len -= from;
	memmove(in->acks.data, in->acks.data + from, in->acks.len);
	if (in->acks.len > in->acks.cap / 4) {
		intake_send(s, in->next, buf_view(&in->acks));
		buf_clear(&in->acks);
	}
}

static bool span_is_blank(struct span s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t' || s.p[0] == '\r'))
		s = span_from(s, 1);
	return s.n == 0;
}

/* Takes the next line of the present datagram, or goes on to the next datagram. */
static void intake_line(struct server *s)
{
	struct intake *in = &s->intake;
	struct mmsghdr *m = &in->messages[in->next];
	struct span rest = {(char *)in->iov[in->next].iov_base + in->at, m->msg_len - in->at}, line;
	bool cut = (m->msg_hdr.msg_flags & MSG_TRUNC) != 0;
	size_t begin = intake_begins(in, in->next);

	if (cut) {
		ack_error(s, &in->acks, NULL, "the datagram is longer than --datagram", 0);
	} else if (rest.n > 0) {
		line = span_cut(&rest, '\n');
		in->at = m->msg_len - rest.n;
		if (!span_is_blank(line)) {
			uint64_t events = s->count.events;

			if (in->acks.len > begin)
				buf_byte(&in->acks, '\n');
			datagram_line(s, line, &in->acks);
			in->lines++;
			if (s->count.events > events && intake_bound(in, in->next))
				in->events[in->event_count++] = (uint32_t)in->acks.len;
		}
	}
	if (!intake_bound(in, in->next))
		in->acks.len = begin;
	if (rest.n > 0 && !cut)
		return;
	if (in->lines == 0 && !cut)
		ack_error(s, &in->acks, NULL, "the datagram is empty", 0);
	if (!intake_bound(in, in->next))
		in->acks.len = begin;
	in->lines = 0;
	in->at = 0;
	in->ends[in->next++] = (uint32_t)in->acks.len;
}

static void intake_receive(struct server *s)
{
	struct intake *in = &s->intake;
	int n;

	for (int i = 0; i < INTAKE_BATCH; i++) {
		in->iov[i] = (struct iovec){in->bytes + (size_t)i * (size_t)s->opt.datagram, (size_t)s->opt.datagram};
		in->messages[i].msg_hdr = (struct msghdr){.msg_name = &in->names[i], .msg_namelen = sizeof in->names[i],
			.msg_iov = &in->iov[i], .msg_iovlen = 1};
	}
	n = s->sys->recvmmsg(s->datagrams.fd, in->messages, INTAKE_BATCH);
	in->taken_us = clock_us(s, CLOCK_MONOTONIC, s->now_us);
	in->have = n > 0 ? n : 0;
	in->next = in->answered = 0;
	in->readable = n == INTAKE_BATCH || (n < 0 && (errno == EINTR || errno == ENOMEM || errno == ENOBUFS));
	s->count.datagrams += (uint64_t)in->have;
}

/* Takes in events, as many as a turn may and delivery keeps up with. */
static void intake_take(struct server *s)
{
	struct intake *in = &s->intake;
	uint64_t from = s->ring.end;

	if (in->next == in->have && in->readable && !in->last && deliver_keeps_up(s) && s->datagrams.fd >= 0)
		intake_receive(s);
	/* Some of the ring at most: what is taken in must be in the journal before it is overwritten. */
	for (int i = 0; i < LINES_A_TURN && in->next < in->have && in->acks.len < in->acks.cap / 2
		&& s->ring.end - from < s->ring.size / 4 && s->ring.end - from < TURN_BYTES; i++) {
		if (!s->stop && !deliver_keeps_up(s)) {
			s->count.held++;
			break;
		}
		intake_line(s);
		in->moved_ms = s->now_ms;
	}
	latency_mark(s, in->taken_us);
}

/* Takes events in, into the journal, and then answers. While the answers wait for the disk nothing else is taken in. */
static void intake_turn(struct server *s)
{
	struct intake *in = &s->intake;
	enum journal_state state;

	if (!in->waiting)
		intake_take(s);
	journal_commit(s);
	state = journal_state(s);
	in->waiting = state == JOURNAL_SYNCING;
	if (state == JOURNAL_NOT_STORED)
		s->count.not_stored += in->event_count;
	if (state == JOURNAL_NOT_STORED && !s->journal.failing) {
		log_text(log_flood(s, LOG_WARNING, FLOOD_journal_slow, "journal_slow"), "then",
			"the disk took over a second: events are acknowledged as not stored");
		log_end(s);
	}
	if (!in->waiting)
		intake_answer(s, state == JOURNAL_STORED);
}

/* The end: what was received is taken in and answered, whether streams keep up or not, and what the disk does not have
 * by now is told so. */
static void intake_finish(struct server *s)
{
	struct intake *in = &s->intake;

	in->last = true;
	do {
		in->waiting = false;
		intake_take(s);
		journal_commit(s);
		intake_answer(s, journal_state(s) == JOURNAL_STORED);
	} while (in->next < in->have);
}

/* ============================================================================================
 * time: whatever is due because nothing happened
 *
 * There are no timers. Every TICK_MS a share of the connections is walked, so that each is
 * looked at once a second, or more often where an option asks for less than four seconds.
 * ============================================================================================ */

static void tick_stream(struct server *s, struct conn *c)
{
	uint32_t silent = conn_silent_ms(s, c);
	const struct session *x = conn_session(s, c);

	if (x->due_ms != 0 && x->due_ms <= s->now_ms)
		question_refresh(s, c->u.stream.session);
	if (x->expire_at != 0 && x->expire_at * 1000 <= s->wall_ms) {
		stream_send_off(s, c, CLOSE_expired); /* a page that can get another token comes back with it */
	} else if (c->blocked && silent >= s->opt.write_stall) {
		conn_dead(s, c, CLOSE_stalled);
	} else if (!c->blocked && pending_count(c) == 0 && c->out == NULL && silent >= s->opt.keepalive) {
		struct span chunk = buf_view(&s->keepalive);

		if (!c->chunked)
			chunk = (struct span){chunk.p + s->keepalive_before, chunk.n - s->keepalive_before - 2};
		conn_write(s, c, chunk);
	}
}

static void tick_conn(struct server *s, struct conn *c)
{
	uint32_t silent = conn_silent_ms(s, c);

	if (c->state == CONN_DEAD || c->state == CONN_WAIT) {
		return;
	} else if (c->starved) {
		c->starved = c->blocked = false;
		conn_dirty(s, c);
	} else if (c->state == CONN_STREAM) {
		tick_stream(s, c);
	} else if (c->out != NULL) {
		if (silent >= s->opt.write_stall)
			conn_dead(s, c, CLOSE_stalled);
	} else if (c->state == CONN_CLOSING) {
		if (silent >= CLOSING_MS)
			conn_dead(s, c, CLOSE_done);
	} else if (c->state == CONN_HEAD && c->asked && c->in == NULL) {
		if (silent >= s->opt.idle_timeout)
			conn_dead(s, c, CLOSE_idle);
	} else if (c->state == CONN_HEAD && silent >= s->opt.head_timeout) {
		c->keep_alive = false;
		conn_refuse(s, c, &(struct http_request){.method = HTTP_GET}, REFUSE_head_timeout);
		if (c->state != CONN_HEAD)
			hold_free(&c->in);
	}
}

/* A listener that found no descriptors is asked again. */
static void listener_rest(struct server *s, struct listener *l, bool rest)
{
	struct epoll_event e = {.events = rest ? 0 : EPOLLIN, .data.fd = l->fd};

	if (l->fd >= 0 && l->resting != rest && s->sys->epoll_ctl(s->epoll, EPOLL_CTL_MOD, l->fd, &e) == 0)
		l->resting = rest;
}

void tick(struct server *s)
{
	uint32_t words = (s->conns_max + 63) / 64, share = (words + s->sweep_ticks - 1) / s->sweep_ticks;
	uint32_t end = s->sweep_word + share < words ? s->sweep_word + share : words;
	char bytes[96];
	struct buf frame = buf_fixed(bytes, sizeof bytes);

	s->next_tick_ms = s->now_ms + TICK_MS;
	sse_keepalive(&frame, s->wall_ms / 1000);
	buf_clear(&s->keepalive);
	s->keepalive_before = sse_chunk(&s->keepalive, buf_view(&frame));
	for (uint32_t i = set_next(&s->open, s->sweep_word * 64); i < end * 64; i = set_next(&s->open, i + 1))
		tick_conn(s, &s->conns[i]);
	s->sweep_word = end == words ? 0 : end;
	questions_tick(s);
	sessions_expire(s);
	journal_tick(s);
	for (int i = 0; i < s->listener_count; i++)
		listener_rest(s, &s->listeners[i], false);
	if (s->spare < 0 && s->listener_count > 0)
		s->spare = s->sys->open("/dev/null", O_RDONLY);
	log_floods_end(s);
}

/* ============================================================================================
 * the system: the calls that the running server makes
 * ============================================================================================ */

static int sys_accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags)
{
	return accept4(fd, address, bytes, flags);
}

static int sys_recvmmsg(int fd, struct mmsghdr *messages, unsigned count)
{
	return recvmmsg(fd, messages, count, MSG_DONTWAIT, NULL);
}

static ssize_t sys_sendto(int fd, const void *bytes, size_t n, int flags, const struct sockaddr *to, socklen_t to_bytes)
{
	return sendto(fd, bytes, n, flags, to, to_bytes);
}

static int sys_getpeername(int fd, struct sockaddr *address, socklen_t *bytes)
{
	return getpeername(fd, address, bytes);
}

static int sys_bind(int fd, const struct sockaddr *address, socklen_t bytes)
{
	return bind(fd, address, bytes);
}

static int sys_connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
	return connect(fd, address, bytes);
}

static int sys_open(const char *path, int flags)
{
	return open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
}

static ssize_t sys_pwritev(int fd, const struct iovec *iov, int pieces, off_t at)
{
	return pwritev(fd, iov, pieces, at);
}

const struct sys sys_linux = {
	.accept4 = sys_accept4, .recv = recv, .sendmsg = sendmsg, .recvmmsg = sys_recvmmsg,
	.sendto = sys_sendto, .shutdown = shutdown, .setsockopt = setsockopt, .getpeername = sys_getpeername,
	.close = close, .epoll_ctl = epoll_ctl, .epoll_wait = epoll_wait, .socket = socket, .bind = sys_bind,
	.listen = listen, .connect = sys_connect, .open = sys_open, .read = read, .write = write, .pwritev = sys_pwritev,
	.poll = poll, .clock_gettime = clock_gettime,
};

static void clock_read(struct server *s)
{
	struct timespec t;

	s->now_us = clock_us(s, CLOCK_MONOTONIC, s->now_us);
	s->now_ms = s->now_us / 1000;
	if (s->sys->clock_gettime(CLOCK_REALTIME, &t) == 0)
		s->wall_ms = (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ============================================================================================
 * sockets: opening them, and accepting
 * ============================================================================================ */

/*
 * What connect says of a Unix socket's path: ECONNREFUSED if nobody holds it any more, ENOENT if
 * there is none. Anything else, success too (0), means that it is somebody's.
 */
static int socket_probe(struct server *s, const struct sockaddr_un *address, int type)
{
	int fd = s->sys->socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error;

	if (fd < 0)
		return errno;
	error = s->sys->connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : errno;
	s->sys->close(fd);
	return error;
}

/*
 * Binds a Unix socket to its path. It is bound to a name of its own first, given its permissions,
 * and moved over the path: nobody finds it half made, and a stale path is replaced at once.
 */
static bool socket_bind_path(struct server *s, struct listener *l, const struct sockaddr_un *address, int type,
	const char *flag, struct buf *error)
{
	struct sockaddr_un temporary = *address;
	struct stat st;
	struct buf own;
	mode_t mask;
	int bound, probe;

	if (lstat(address->sun_path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return error_line(error, flag, address->sun_path, "the path exists and is not a socket", 0);
	probe = socket_probe(s, address, type);
	if (probe == 0 || probe == EAGAIN || probe == EPROTOTYPE)
		return error_line(error, flag, address->sun_path, "another program is listening there", 0);
	if (probe != ECONNREFUSED && probe != ENOENT)
		return error_line(error, flag, address->sun_path, "cannot tell whose socket is there", probe);
	own = buf_fixed(temporary.sun_path, sizeof temporary.sun_path - 1);
	own.len = strlen(temporary.sun_path);
	buf_byte(&own, '.');
	buf_number(&own, getpid());
	unlink(temporary.sun_path);
	mask = umask((mode_t)(0777 & ~s->opt.socket_mode));
	bound = s->sys->bind(l->fd, (const struct sockaddr *)&temporary, sizeof temporary);
	umask(mask);
	if (bound < 0)
		return error_line(error, flag, address->sun_path,
			errno == ENOENT ? "cannot bind (is the directory there?)" : "cannot bind", errno);
	if (lstat(temporary.sun_path, &st) < 0 || rename(temporary.sun_path, address->sun_path) < 0) {
		error_line(error, flag, address->sun_path, "cannot put the socket in place", errno);
		unlink(temporary.sun_path);
		return false;
	}
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	return true;
}

/* What a TCP connection inherits from its listener. */
static void listener_tune(struct server *s, int fd, bool tcp)
{
	int one = 1, idle = 60, interval = 10, probes = 6;
	int buffer = (int)s->opt.send_buffer, timeout = (int)s->opt.tcp_user_timeout;

	s->sys->setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
	if (!tcp)
		return;
	s->sys->setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	s->sys->setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	s->sys->setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	s->sys->setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
	s->sys->setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
	s->sys->setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
	s->sys->setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof timeout);
}

static bool epoll_add(struct server *s, int fd, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.fd = fd};

	return s->sys->epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e) == 0;
}

/* Opens one --listen. IPv6 addresses take IPv6 only, but for ":PORT", which takes both. */
static bool listener_open(struct server *s, struct listener *l, const char *flag, const char *text, struct buf *error)
{
	struct sockaddr_storage address;
	socklen_t bytes;
	bool tcp, both = text[0] == ':';
	int only6 = !both;

	address_read(text, &address, &bytes);
	tcp = address.ss_family != AF_UNIX;
	l->fd = s->sys->socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0 && both && errno == EAFNOSUPPORT) {
		char every[32] = "0.0.0.0";

		strncat(every, text, sizeof every - 8);
		return listener_open(s, l, flag, every, error);
	}
	if (l->fd < 0)
		return error_line(error, flag, text, "cannot open a socket", errno);
	listener_tune(s, l->fd, tcp);
	if (address.ss_family == AF_INET6)
		s->sys->setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &only6, sizeof only6);
	if (!tcp) {
		if (!socket_bind_path(s, l, (struct sockaddr_un *)(void *)&address, SOCK_STREAM, flag, error))
			return false;
		l->path = text + 5;
		l->local = true;
	} else if (s->sys->bind(l->fd, (struct sockaddr *)&address, bytes) < 0) {
		return error_line(error, flag, text, errno == EADDRINUSE
			? "another program is listening there" : "cannot bind", errno);
	}
	if (s->sys->listen(l->fd, BACKLOG) < 0 || !epoll_add(s, l->fd, EPOLLIN))
		return error_line(error, flag, text, "cannot listen", errno);
	return true;
}

static bool datagrams_open(struct server *s, struct buf *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct listener *l = &s->datagrams;

	memcpy(address.sun_path, s->opt.socket, strlen(s->opt.socket));
	l->fd = s->sys->socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return error_line(error, "--socket", s->opt.socket, "cannot open a socket", errno);
	if (!socket_bind_path(s, l, &address, SOCK_DGRAM, "--socket", error))
		return false;
	l->path = s->opt.socket;
	l->local = true;
	return epoll_add(s, l->fd, EPOLLIN | EPOLLET) || error_line(error, "--socket", s->opt.socket, "cannot poll", errno);
}

/* Closes a listener; its path goes too, unless another program has put its own there. */
static void listener_close(struct server *s, struct listener *l)
{
	struct stat st;

	if (l->path != NULL && l->ino != 0 && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(l->path);
	if (l->fd >= 0) {
		s->sys->epoll_ctl(s->epoll, EPOLL_CTL_DEL, l->fd, NULL); /* closing won't do it while somebody else has it open */
		s->sys->close(l->fd);
	}
	*l = (struct listener){.fd = -1};
}

void listener_address(const struct listener *l, struct buf *b)
{
	union {
		struct sockaddr any;
		struct sockaddr_in four;
		struct sockaddr_in6 six;
		struct sockaddr_un local;
	} address = {.local = {0}};
	socklen_t bytes = sizeof address - 1; /* a path may have no NUL behind it: one stays */
	char text[INET6_ADDRSTRLEN] = "?";

	if (l->path != NULL) { /* it may have been bound to another one, and moved there */
		buf_text(b, "unix:");
		buf_text(b, l->path);
		return;
	}
	getsockname(l->fd, &address.any, &bytes);
	if (address.any.sa_family == AF_UNIX) {
		bool abstract = address.local.sun_path[0] == '\0';

		buf_text(b, abstract ? "unix:@" : "unix:");
		buf_text(b, address.local.sun_path + abstract);
		return;
	}
	if (address.any.sa_family == AF_INET6) {
		buf_byte(b, '[');
		buf_text(b, inet_ntop(AF_INET6, &address.six.sin6_addr, text, sizeof text));
		buf_byte(b, ']');
	} else {
		buf_text(b, inet_ntop(AF_INET, &address.four.sin_addr, text, sizeof text));
	}
	buf_byte(b, ':');
	buf_number(b, ntohs(address.any.sa_family == AF_INET6 ? address.six.sin6_port : address.four.sin_port));
}

/* Is it bound to this path? */
static bool socket_is(const struct listener *l, const char *path)
{
	char bytes[160];
	struct buf address = buf_fixed(bytes, sizeof bytes);

	listener_address(l, &address);
	return address.len > 5 && span_is(span_from(buf_view(&address), 5), path);
}

static void listener_log(struct server *s, const struct listener *l, const char *key, const char *by)
{
	struct buf *b = log_begin(s, LOG_INFO, "listening");
	char bytes[160];
	struct buf address = buf_fixed(bytes, sizeof bytes);

	listener_address(l, &address);
	if (l == &s->datagrams) /* without "unix:", as --socket has it */
		log_span(b, key, span_from(buf_view(&address), 5));
	else
		log_span(b, key, buf_view(&address));
	if (by != NULL)
		log_text(b, "by", by);
	log_end(s);
}

static int listeners_of(const struct server *s, bool admin)
{
	int n = 0;

	for (int i = 0; i < s->listener_count; i++)
		n += s->listeners[i].admin == admin;
	return n;
}

/* What is this descriptor for, that was passed? NULL, or the listener that it becomes. */
static struct listener *passed_listener(struct server *s, int fd, bool admin)
{
	struct sockaddr_storage address = {0};
	socklen_t bytes = sizeof address, n = sizeof(int);
	int type = 0, listening = 0;
	bool local;
	struct listener *l = &s->listeners[s->listener_count];

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &n) < 0 || getsockname(fd, (struct sockaddr *)&address, &bytes) < 0)
		return NULL;
	n = sizeof listening;
	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n);
	local = address.ss_family == AF_UNIX;
	if (type == SOCK_DGRAM && local && bytes > sizeof(sa_family_t) && s->datagrams.fd < 0)
		l = &s->datagrams;
	else if (type == SOCK_STREAM && listening && (local || address.ss_family == AF_INET || address.ss_family == AF_INET6)
		&& listeners_of(s, admin) < MAX_LISTEN)
		s->listener_count++;
	else
		return NULL;
	*l = (struct listener){.fd = fd, .local = local, .admin = admin};
	return l;
}

bool passed_take(struct server *s, struct buf *error)
{
	struct span names = span_of(s->manager.names != NULL ? s->manager.names : "");
	char text[256];

	if (s->manager.passed < 0) {
		buf_text(error, "LISTEN_FDS: expected a number");
		return false;
	}
	for (int fd = PASSED_FIRST; fd < PASSED_FIRST + s->manager.passed; fd++) {
		struct span name = span_cut(&names, ':');
		struct listener *l = passed_listener(s, fd, span_is(name, "admin"));
		bool events = l == &s->datagrams;

		if (l == NULL) {
			buf_text(error, "LISTEN_FDS: descriptor ");
			buf_number(error, fd);
			if (name.n > 0 && name.n < sizeof text) {
				memcpy(text, name.p, name.n);
				text[name.n] = '\0';
				buf_text(error, ", named ");
				error_show(error, text);
				buf_byte(error, ',');
			}
			buf_text(error, " is neither one of up to 16 listening stream sockets (ListenStream=) nor the one Unix"
				" datagram socket (ListenDatagram=)");
			return false;
		}
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
		if (!events)
			listener_tune(s, fd, !l->local);
		if (!epoll_add(s, fd, events ? EPOLLIN | EPOLLET : EPOLLIN))
			return error_line(error, "LISTEN_FDS", "", "cannot poll a socket", errno);
		listener_log(s, l, events ? "socket" : l->admin ? "admin" : "address", "systemd");
	}
	return true;
}

/* Opens what --listen or --admin name. */
static bool listeners_open(struct server *s, const struct option_list *list, const char *flag, bool admin,
	struct buf *error)
{
	for (int i = 0; i < list->count; i++) {
		struct listener *l = &s->listeners[s->listener_count++];

		l->admin = admin;
		if (!listener_open(s, l, flag, list->items[i], error))
			return false;
		listener_log(s, l, admin ? "admin" : "address", NULL);
	}
	return true;
}

/* A socket was passed, and so the one that this names is not opened. */
static void option_unused(struct server *s, const char *flag, const char *why)
{
	struct buf *b = log_begin(s, LOG_WARNING, "option_unused");

	log_text(b, "option", flag);
	log_text(b, "why", why);
	log_end(s);
}

bool server_listen(struct server *s, struct buf *error)
{
	bool streams = listeners_of(s, false) > 0, admin = listeners_of(s, true) > 0, events = s->datagrams.fd >= 0;

	if (streams && s->opt.listen.source != SOURCE_PRESET)
		option_unused(s, "--listen", "systemd passes a socket instead");
	if (admin && s->opt.admin.count > 0)
		option_unused(s, "--admin", "systemd passes a socket instead");
	if (events && !socket_is(&s->datagrams, s->opt.socket))
		option_unused(s, "--socket", "systemd passes another: name that one, so that sse --status finds it");

	if ((!streams && !listeners_open(s, &s->opt.listen, "--listen", false, error))
		|| (!admin && !listeners_open(s, &s->opt.admin, "--admin", true, error)) || (!events && !datagrams_open(s, error)))
		return false;
	if (!events)
		listener_log(s, &s->datagrams, "socket", NULL);
	s->answers = s->sys->socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	s->spare = s->sys->open("/dev/null", O_RDONLY);
	return true;
}

static void accept_failed(struct server *s, int error)
{
	s->count.accept_errors++;
	log_text(log_flood(s, LOG_ERROR, FLOOD_accept, "accept_failed"), "error", strerror(error));
	log_end(s);
}

/* One too many: it is told to come back, and closed at once. */
static void accept_put_off(struct server *s, int fd, enum refusal why)
{
	struct buf *b = &s->scratch, *line = log_flood(s, LOG_INFO, FLOOD_refused, "refused");
	struct iovec iov;

	s->count.refused[why]++;
	log_number(line, "status", 200);
	log_text(line, "reason", refusals[why].name);
	log_end(s);
	s->sys->recv(fd, s->input, sizeof s->input, 0);
	explicit_bzero(s->input, sizeof s->input);
	buf_clear(b);
	answer_begin(s, b, &(struct http_request){0}, 200);
	buf_text(b, "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n");
	sse_retry(b, retry_ms(s));
	iov = (struct iovec){b->data, b->len};
	s->sys->sendmsg(fd, &(struct msghdr){.msg_iov = &iov, .msg_iovlen = 1}, MSG_NOSIGNAL | MSG_DONTWAIT);
	s->sys->shutdown(fd, SHUT_WR);
	s->sys->close(fd);
}

/*
 * There are no descriptors: the spare one makes room for one client at a time, who is told to
 * come back and leaves. Without it the client would hang, and the listener stay readable.
 */
static bool accept_shed(struct server *s, struct listener *l)
{
	int error = errno, fd;

	accept_failed(s, error);
	if (s->spare < 0 || l->admin || (error != EMFILE && error != ENFILE))
		return false;
	s->sys->close(s->spare);
	fd = s->sys->accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0)
		accept_put_off(s, fd, REFUSE_no_descriptors);
	s->spare = s->sys->open("/dev/null", O_RDONLY);
	return fd >= 0;
}

/*
 * Is there no room for one more? Beyond --max-connections some are let in, to be given an answer in order, and some of
 * the operator's: neither may take what is kept for the other.
 */
static bool accept_full(const struct server *s, bool admin)
{
	uint32_t room = (s->conns_max - s->conns_soft) / 4;

	return admin ? s->admins >= room : s->open.count - s->admins >= s->conns_soft + room;
}

static void accept_turn(struct server *s, struct listener *l)
{
	int buffer = (int)s->opt.send_buffer;

	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = s->sys->accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct conn *c;

		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
			if (accept_shed(s, l))
				continue;
			listener_rest(s, l, true);
			return;
		}
		if (fd < 0)
			continue; /* this client is gone already: ECONNABORTED and the like */
		if (accept_full(s, l->admin)) {
			accept_put_off(s, fd, REFUSE_too_many_connections);
			continue;
		}
		if ((uint32_t)fd >= s->conns_max || !epoll_add(s, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)) {
			accept_failed(s, errno);
			s->sys->close(fd);
			continue;
		}
		if (l->local) /* TCP connections inherit it from their listener */
			s->sys->setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
		c = conn_open(s, fd, l->admin);
		if (c->state == CONN_DEAD)
			refusal_log(s, c, REFUSE_too_many_from_address, 0);
	}
}

/* ============================================================================================
 * server, loop, main
 * ============================================================================================ */

/* Gives out parts of one reservation; with no memory yet it only adds up. */
static void *reserve(struct server *s, size_t *at, size_t bytes)
{
	char *part = s->memory == NULL ? NULL : (char *)s->memory + *at;

	*at += (bytes + 4095) / 4096 * 4096;
	return part;
}

static void reserve_set(struct server *s, size_t *at, struct set *set, uint32_t max)
{
	*set = (struct set){.words = reserve(s, at, (max + 63) / 64 * sizeof *set->words), .max = max};
}

static void reserve_table(struct server *s, size_t *at, struct table *table, uint32_t most, void *records,
	size_t stride)
{
	*table = (struct table){.records = records, .stride = stride};
	table->slots = reserve(s, at, table_slots(most) * sizeof(uint32_t));
}

static void reserve_recent(struct server *s, size_t *at, struct recent *recent, uint32_t max, void *records,
	size_t stride)
{
	recent->max = max;
	reserve_table(s, at, &recent->table, max, records, stride);
}

static void reserve_ring(struct server *s, size_t *at)
{
	size_t events = 1;

	/* No frame with its chunk takes less than 64 bytes of the ring. */
	while (events < (size_t)s->opt.history_bytes / 64)
		events *= 2;
	s->ring = (struct ring){.size = (uint64_t)s->opt.history_bytes, .mask = (uint32_t)(events - 1)};
	s->ring.bytes = reserve(s, at, (size_t)s->opt.history_bytes);
	s->ring.list = reserve(s, at, events * sizeof *s->ring.list);
}

static void reserve_connections(struct server *s, size_t *at)
{
	struct set *sets[] = {&s->open, &s->streams, &s->dirty, &s->unread, &s->dead, &s->crowded, &s->behind, &s->catching};

	s->conns = reserve(s, at, s->conns_max * sizeof *s->conns);
	for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++)
		reserve_set(s, at, sets[i], s->conns_max);
	for (int i = 0; i < MAX_ROLES; i++)
		reserve_set(s, at, &s->roles[i].streams, s->conns_max);
	s->counted = reserve(s, at, s->conns_max * sizeof *s->counted);
	s->lists = (struct pool){.width = s->opt.queue > LIST_LEAST ? (uint32_t)s->opt.queue : LIST_LEAST, .top = 1};
	s->lists.numbers = reserve(s, at, (s->conns_max + 1) * (size_t)s->lists.width * sizeof(uint32_t));
	s->sources_of = reserve(s, at, s->conns_max * sizeof *s->sources_of);
	s->sources = reserve(s, at, (s->conns_max + 1) * sizeof *s->sources);
	reserve_table(s, at, &s->sources_by_address, s->conns_max, s->sources, sizeof *s->sources);
	s->paces = reserve(s, at, (MAX_PACES + 1) * sizeof *s->paces);
	reserve_recent(s, at, &s->paces_by_address, MAX_PACES, s->paces, sizeof *s->paces);
}

static void reserve_sessions(struct server *s, size_t *at)
{
	/* While the token file is read again, old and new lines are both there. A few are on their way. */
	s->records_max = 2 * MAX_TOKENS + s->conns_max + MAX_CACHED + 64;
	reserve_set(s, at, &s->online, s->records_max);
	s->users = reserve(s, at, s->records_max * sizeof *s->users);
	s->sessions = reserve(s, at, s->records_max * sizeof *s->sessions);
	reserve_table(s, at, &s->users_by_id, s->records_max, s->users, sizeof *s->users);
	reserve_table(s, at, &s->sessions_by_key, s->records_max, s->sessions, sizeof *s->sessions);
	reserve_table(s, at, &s->sessions_by_sid, s->records_max, s->sessions, sizeof *s->sessions);
	if (s->memory != NULL)
		s->sessions_by_sid.records += offsetof(struct session, sid_hash);
	s->verdicts = reserve(s, at, (MAX_VERDICTS + 1) * sizeof *s->verdicts);
	reserve_recent(s, at, &s->verdicts_by_key, MAX_VERDICTS, s->verdicts, sizeof *s->verdicts);
	for (int i = 0; i < TOMB_KINDS; i++) {
		struct tombstones *all = &s->tombstones[i];

		all->list = reserve(s, at, (MAX_TOMBSTONES + 1) * sizeof *all->list);
		reserve_recent(s, at, &all->by_id, MAX_TOMBSTONES, all->list, sizeof *all->list);
	}
}

static void reserve_questions(struct server *s, size_t *at)
{
	size_t questions = (size_t)s->opt.auth_queue + MAX_REFRESHES + 1, request = (size_t)s->opt.head + 4096;

	s->questions = reserve(s, at, questions * sizeof *s->questions);
	reserve_table(s, at, &s->questions_by_key, (uint32_t)questions, s->questions, sizeof *s->questions);
	for (int i = 0; i < MAX_LINKS; i++) {
		s->links[i].out = buf_fixed(reserve(s, at, request), request);
		s->links[i].in = buf_fixed(reserve(s, at, MAX_ANSWER), MAX_ANSWER);
	}
}

static size_t reserve_all(struct server *s)
{
	size_t at = 0, head = (size_t)s->opt.head, datagram = (size_t)s->opt.datagram;

	reserve_ring(s, &at);
	reserve_connections(s, &at);
	reserve_sessions(s, &at);
	reserve_questions(s, &at);
	s->token = buf_fixed(reserve(s, &at, head), head);
	s->intake.bytes = reserve(s, &at, INTAKE_BATCH * datagram);
	s->compact = buf_fixed(reserve(s, &at, datagram), datagram);
	s->who = buf_fixed(reserve(s, &at, datagram), datagram);
	return at;
}

/* All arrays, at their largest, in one mapping: pages that nobody touches cost nothing. */
static bool server_reserve(struct server *s, struct buf *error)
{
	void *memory;

	s->memory_bytes = reserve_all(s);
	memory = mmap(NULL, s->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED) {
		buf_text(error, "cannot reserve memory (");
		buf_number(error, (int64_t)(s->memory_bytes >> 20));
		buf_text(error, " MB; --history-bytes and --max-connections make it smaller): ");
		buf_text(error, strerror(errno));
		return false;
	}
	s->memory = memory;
	reserve_all(s);
	return true;
}

/* Ticks for a walk over all connections: a second, or a quarter of the shortest time to keep. */
static uint32_t sweep_ticks(const struct options *o)
{
	int64_t times[] = {4000, o->keepalive, o->head_timeout, o->idle_timeout, o->write_stall, o->auth_refresh};
	int64_t least = times[0];

	for (size_t i = 1; i < sizeof times / sizeof times[0]; i++)
		if (times[i] < least)
			least = times[i];
	return (uint32_t)(least / 4 < TICK_MS ? 1 : least / 4 / TICK_MS);
}

/* All who may say who a token is: at least one. */
static bool authorities_load(struct server *s, struct buf *error)
{
	const struct options *o = &s->opt;

	if (o->token_file[0] == '\0' && o->auth_url[0] == '\0' && o->ticket_key_file[0] == '\0') {
		buf_text(error, "nobody may listen: give --auth-url, --ticket-key-file or --token-file");
		return false;
	}
	if (o->auth_url[0] != '\0') {
		url_read(o->auth_url, &s->auth_address, &s->auth_address_bytes, &s->auth_host, &s->auth_path);
		if (o->auth_host[0] != '\0')
			s->auth_host = span_of(o->auth_host);
	}
	return (o->auth_key_file[0] == '\0' || auth_key_load(s, error))
		&& (o->ticket_key_file[0] == '\0' || ticket_keys_load(s, error))
		&& (o->token_file[0] == '\0' || tokens_load(s, error));
}

bool server_init(struct server *s, const struct options *o, const struct sys *sys, uint32_t connections,
	struct buf *error)
{
	char seal[32];

	memset(s, 0, sizeof *s);
	s->opt = *o;
	s->sys = sys;
	s->epoll = s->signals = s->spare = s->answers = s->datagrams.fd = s->manager.fd = -1;
	s->journal.directory = s->journal.file = s->journal.retired = s->journal.syncer = -1;
	for (int i = 0; i < 2 * MAX_LISTEN; i++)
		s->listeners[i].fd = -1;
	s->log.fd = STDERR_FILENO;
	s->log.line = buf_fixed(s->log.bytes, sizeof s->log.bytes);
	s->log.stamp_s = s->date_s = -1;
	s->conns_max = connections;
	s->conns_soft = connections - (connections / 4 < 2 * RESERVE_DESCRIPTORS ? connections / 4 : 2 * RESERVE_DESCRIPTORS);
	if (o->max_connections > 0 && o->max_connections < s->conns_soft)
		s->conns_soft = (uint32_t)o->max_connections;
	s->sweep_ticks = sweep_ticks(o);
	s->crowd_untried = (uint32_t)o->queue;
	s->crowd_blocked = (uint32_t)(o->queue - o->queue / 2);
	s->scratch = s->body = buf_growable();
	s->keepalive = buf_fixed(s->keepalive_bytes, sizeof s->keepalive_bytes);
	s->intake.acks = buf_fixed(s->intake.ack_bytes, sizeof s->intake.ack_bytes);
	s->users_top = s->sessions_top = s->questions_top = s->sources_top = 1;
	for (; s->proxy_count < o->trusted_proxy.count; s->proxy_count++)
		network_parse(span_of(o->trusted_proxy.items[s->proxy_count]), &s->proxies[s->proxy_count]);
	for (int i = 0; i < MAX_LINKS; i++)
		s->links[i].fd = -1;
	clock_read(s);
	s->next_tick_ms = s->started_ms = s->now_ms;
	s->started_wall_ms = s->wall_ms;
	if (getrandom(s->hash_key, sizeof s->hash_key, 0) != sizeof s->hash_key
		|| getrandom(seal, sizeof seal, 0) != sizeof seal
		|| getrandom(&s->random, sizeof s->random, 0) != sizeof s->random) {
		buf_text(error, "cannot get random numbers: ");
		buf_text(error, strerror(errno));
		return false;
	}
	s->random |= 1;
	hmac_key(&s->seal, (struct span){seal, sizeof seal});
	explicit_bzero(seal, sizeof seal);
	if (!server_reserve(s, error))
		return false;
	s->ring.newest = s->ring.floor = (struct event_id){s->wall_ms, 0};
	return authorities_load(s, error);
}

void server_free(struct server *s)
{
	for (uint32_t i = 0; s->memory != NULL && (i = set_next(&s->open, i)) != SET_END; i++)
		conn_dead(s, &s->conns[i], CLOSE_shutdown);
	for (int i = 0; i < MAX_LINKS; i++)
		if (s->links[i].fd >= 0)
			link_close(s, &s->links[i]);
	if (s->memory != NULL)
		conn_reap(s);
	for (uint32_t i = 1; i < s->sessions_top; i++)
		if (s->sessions[i].user != 0)
			session_drop(s, i);
	for (int i = 0; i < s->listener_count; i++)
		listener_close(s, &s->listeners[i]);
	listener_close(s, &s->datagrams);
	for (int *fd = (int[]){s->epoll, s->signals, s->spare, s->answers, s->manager.fd, -2}; *fd != -2; fd++)
		if (*fd >= 0)
			s->sys->close(*fd);
	buf_free(&s->scratch);
	buf_free(&s->body);
	journal_free(s);
	if (s->memory != NULL)
		munmap(s->memory, s->memory_bytes);
	s->memory = NULL;
}

/* No new streams; those that are there get what waits for them, a time to come back, and end. */
static void server_drain(struct server *s)
{
	if (s->draining) {
		s->stop = true;
		return;
	}
	s->draining = true;
	s->drain_until_ms = s->now_ms + s->opt.drain;
	if (intake_done(s))
		s->intake.moved_ms = s->now_ms;
	s->intake.readable = true; /* what is in the socket was accepted: it is taken in first */
	log_number(log_begin(s, LOG_INFO, "draining"), "streams", s->streams.count);
	log_end(s);
	manager_say(s, "STOPPING=1\n");
	questions_drain(s);
	for (int i = 0; i < s->listener_count; i++)
		if (!s->listeners[i].admin)
			listener_close(s, &s->listeners[i]);
}

/* No more datagrams are taken from the socket: those that a service manager holds it for wait for the next sse. */
static void drain_streams(struct server *s)
{
	listener_close(s, &s->datagrams);
	for (uint32_t i = 0; (i = set_next(&s->open, i)) != SET_END; i++) {
		struct conn *c = &s->conns[i];

		if (c->state == CONN_STREAM && !c->blocked)
			conn_dirty(s, c);
		else if (c->state == CONN_HEAD && c->in == NULL && c->out == NULL && !c->admin)
			conn_dead(s, c, CLOSE_shutdown);
	}
}

static void drain_turn(struct server *s)
{
	/* Publishers that never pause get half of the time, so that the streams have the other. */
	s->intake.last |= s->now_ms >= s->drain_until_ms - s->opt.drain / 2;
	if (s->datagrams.fd >= 0 && intake_done(s))
		drain_streams(s);
	if ((s->datagrams.fd < 0 && s->open.count == s->admins) || s->now_ms >= s->drain_until_ms)
		s->stop = true;
}

static void log_reopen(struct server *s)
{
	int fd, error;

	if (s->opt.log_file[0] == '\0')
		return;
	fd = s->sys->open(s->opt.log_file, O_WRONLY | O_APPEND | O_CREAT);
	error = errno;
	if (fd < 0) {
		s->log.lost = true;
		log_complain("cannot be opened again", error, "its lines go on where they went");
		log_text(log_begin(s, LOG_ERROR, "log_file_not_reopened"), "error", error_text(error));
		log_end(s);
		return;
	}
	s->log.lost = false;
	log_flush(s);
	s->sys->close(s->log.fd);
	s->log.fd = fd;
	log_begin(s, LOG_INFO, "log_file_reopened");
	log_end(s);
}

/* SIGHUP: every file of secrets again. One with a mistake changes nothing. */
static void authorities_reload(struct server *s)
{
	const struct {
		const char *path, *read, *not_read, *what;
		bool (*load)(struct server *, struct buf *);
		const int *count;
	} files[] = {{s->opt.token_file, "tokens_read", "tokens_not_read", "tokens", tokens_load, &s->token_count},
		{s->opt.ticket_key_file, "ticket_keys_read", "ticket_keys_not_read", "keys", ticket_keys_load, &s->ticket_key_count},
		{s->opt.auth_key_file, "auth_key_read", "auth_key_not_read", "keys", auth_key_load, &(int){1}}};

	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		char text[8192];
		struct buf error = buf_fixed(text, sizeof text);

		if (files[i].path[0] == '\0')
			continue;
		if (files[i].load(s, &error))
			log_number(log_begin(s, LOG_INFO, files[i].read), files[i].what, *files[i].count);
		else
			log_span(log_begin(s, LOG_ERROR, files[i].not_read), "error", buf_view(&error));
		log_end(s);
	}
}

static void signals_turn(struct server *s)
{
	struct signalfd_siginfo info;

	while (s->sys->read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo == SIGHUP) {
			if (!s->draining)
				manager_reloading(s);
			authorities_reload(s);
			if (!s->draining)
				manager_say(s, "READY=1\n");
		} else if (info.ssi_signo == SIGUSR1) {
			log_reopen(s);
		} else {
			server_drain(s);
		}
	}
}

static void server_event(struct server *s, int fd, uint32_t events)
{
	if (fd == s->signals) {
		signals_turn(s);
		return;
	}
	if (fd == s->datagrams.fd) {
		if (intake_done(s))
			s->intake.moved_ms = s->now_ms;
		s->intake.readable = true;
		return;
	}
	if (fd == s->journal.syncer) {
		journal_synced(s);
		return;
	}
	for (int i = 0; i < s->listener_count; i++)
		if (fd == s->listeners[i].fd) {
			accept_turn(s, &s->listeners[i]);
			return;
		}
	conn_event(s, &s->conns[fd], events);
}

/* Is there anything that only a tick will find? */
static bool server_needs_ticks(const struct server *s)
{
	bool resting = false;

	for (int i = 0; i < s->listener_count; i++)
		resting |= s->listeners[i].resting;
	for (int i = 0; i < MAX_LINKS; i++)
		resting |= s->links[i].fd >= 0;
	return journal_waits(s) || journal_unsynced(s) || s->journal.failing || s->open.count > 0 || s->cached > 0
		|| s->log.whole > 0 || s->draining || resting || log_floods(s);
}

void server_turn(struct server *s, int wait_ms)
{
	struct epoll_event events[512];
	bool lines = !s->intake.waiting && (s->intake.next < s->intake.have || s->intake.readable);
	bool busy = s->dirty.count > 0 || s->catching.count > 0 || s->unread.count > 0 || questions_wait(s)
		|| journal_waits(s) || (lines && deliver_keeps_up(s));
	int64_t tick_ms = s->next_tick_ms - s->now_ms, began_us;
	int n;

	if (busy)
		wait_ms = 0;
	else if (lines)
		wait_ms = HELD_MS;
	else if (server_needs_ticks(s) && (wait_ms < 0 || wait_ms > tick_ms))
		wait_ms = tick_ms > 0 ? (int)tick_ms : 0;
	if (s->manager.fd >= 0 && (wait_ms < 0 || wait_ms > s->manager.due_ms - s->now_ms))
		wait_ms = s->manager.due_ms > s->now_ms ? (int)(s->manager.due_ms - s->now_ms) : 0;
	n = s->sys->epoll_wait(s->epoll, events, sizeof events / sizeof events[0], wait_ms);
	clock_read(s);
	began_us = s->now_us;
	for (int i = 0; i < n; i++)
		server_event(s, events[i].data.fd, events[i].events);
	questions_turn(s);
	for (uint32_t i = 0; (i = set_next(&s->unread, i)) != SET_END; i++)
		conn_read(s, &s->conns[i]);
	for (uint32_t i = 0; s->dirty.count == 0 && (i = set_next(&s->crowded, i)) != SET_END; i++)
		conn_crowd(s, &s->conns[i]);
	intake_turn(s);
	deliver_slice(s);
	if (s->now_ms >= s->next_tick_ms)
		tick(s);
	manager_turn(s);
	if (s->draining)
		drain_turn(s);
	if (s->stop)
		intake_finish(s);
	conn_reap(s);
	log_flush(s);
	s->busy_us += (uint64_t)(clock_us(s, CLOCK_MONOTONIC, began_us) - began_us);
}

/* ---- what only the process needs --------------------------------------------------------------- */

static int fail(const char *what, const struct buf *error, int status)
{
	struct buf line = buf_growable();

	if (stderr_is_journal())
		buf_text(&line, level_priorities[LOG_ERROR]);
	buf_text(&line, "sse: ");
	buf_text(&line, what);
	buf_span(&line, buf_view(error));
	buf_byte(&line, '\n');
	print(STDERR_FILENO, buf_view(&line));
	buf_free(&line);
	return status;
}

/* A socket must never become descriptor 0, 1 or 2. */
static void standard_files(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			_exit(1);
}

/* The file limit, made to fit --max-connections. */
static uint32_t descriptors(const struct options *o)
{
	struct rlimit limit = {1024, 1024};
	rlim_t want = MAX_CONNECTIONS, reserve = RESERVE_DESCRIPTORS;

	getrlimit(RLIMIT_NOFILE, &limit);
	if (o->max_connections > 0)
		want = (rlim_t)o->max_connections;
	want += 2 * reserve;
	limit.rlim_cur = want < limit.rlim_max ? want : limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	return (uint32_t)limit.rlim_cur;
}

/*
 * Opens the log so that no write to it waits for who reads it. stderr is opened once more, for an
 * O_NONBLOCK of its own: the one we were given may be shared with a shell. A socket can't be.
 */
static bool log_open(struct server *s, struct buf *error)
{
	bool own = s->opt.log_file[0] != '\0';
	int fd = s->sys->open(own ? s->opt.log_file : "/proc/self/fd/2", O_WRONLY | O_APPEND | (own ? O_CREAT : 0));

	if (fd < 0 && own)
		return error_line(error, "--log-file", s->opt.log_file, "cannot open", errno);
	s->log.shared = fd < 0;
	s->log.priorities = !own && stderr_is_journal();
	s->log.fd = fd < 0 ? STDERR_FILENO : fd;
	return true;
}

static bool signals_open(struct server *s)
{
	static const int taken[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
		sigaddset(&set, taken[i]);
		signal(taken[i], SIG_DFL); /* a shell ignores INT for what it starts with & */
	}
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* the journal has EFBIG instead */
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return false;
	s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s->epoll = epoll_create1(EPOLL_CLOEXEC);
	return s->signals >= 0 && s->epoll >= 0 && epoll_add(s, s->signals, EPOLLIN);
}

/* A variable that is a whole number; -1 if it is anything else, or not there. */
static int64_t environment_number(const char *name)
{
	const char *text = getenv(name);
	int64_t n;

	return text != NULL && option_number(TYPE_COUNT, text, &n) ? n : -1;
}

/* Who started this, as it says in the environment: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3). */
static void manager_open(struct server *s)
{
	struct manager *m = &s->manager;
	const char *path = getenv("NOTIFY_SOCKET");
	int64_t passed = environment_number("LISTEN_FDS"), watchdog_ms = environment_number("WATCHDOG_USEC") / 1000;

	if (environment_number("LISTEN_PID") == getpid() && getenv("LISTEN_FDS") != NULL) {
		m->passed = passed < 0 || passed > INT_MAX / 2 ? -1 : (int)passed;
		m->names = getenv("LISTEN_FDNAMES");
	}
	if (path == NULL || path[0] == '\0')
		return;
	if ((path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof m->address.sun_path) {
		log_text(log_begin(s, LOG_WARNING, "notify_failed"), "error", "NOTIFY_SOCKET is no path of a Unix socket");
		log_end(s);
		return;
	}
	m->address.sun_family = AF_UNIX;
	m->address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	memcpy(m->address.sun_path, path, strlen(path));
	if (path[0] == '@')
		m->address.sun_path[0] = '\0';
	m->fd = s->sys->socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (m->fd < 0) {
		log_text(log_begin(s, LOG_WARNING, "notify_failed"), "error", strerror(errno));
		log_end(s);
	}
	m->watchdog = watchdog_ms > 0 && (getenv("WATCHDOG_PID") == NULL || environment_number("WATCHDOG_PID") == getpid());
	m->period_ms = m->watchdog && watchdog_ms / 2 < MANAGER_MS ? watchdog_ms / 2 + (watchdog_ms < 2) : MANAGER_MS;
	m->due_ms = s->now_ms + m->period_ms;
}

/* The thread that waits for the disk. It knows nothing but the descriptors that it is sent, and answers with an
 * errno. */
static void *syncer_main(void *argument)
{
	int socket = (int)(intptr_t)argument;
	struct sync_job job;
	ssize_t n;

	while ((n = read(socket, &job, sizeof job)) != 0) {
		if (n < 0)
			continue;
		job.error = fdatasync(job.file) < 0 || (job.directory >= 0 && fsync(job.directory) < 0) ? errno : 0;
		while (write(socket, &job, sizeof job) < 0)
			; /* who asked does not close before the answer */
	}
	close(socket);
	return NULL;
}

/* What it is at is waited for, but a disk that hangs does not keep the program, nor one more signal: then false. */
static bool syncer_stop(struct server *s, pthread_t thread)
{
	struct pollfd ends[] = {{.fd = s->journal.syncer, .events = POLLIN}, {.fd = s->signals, .events = POLLIN}};

	if (s->journal.syncer < 0)
		return true;
	if (s->journal.syncing && (s->sys->poll(ends, 2, SYNC_END_MS) < 1 || ends[0].revents == 0))
		return false;
	shutdown(s->journal.syncer, SHUT_RDWR); /* it reads the end */
	close(s->journal.syncer);
	pthread_join(thread, NULL);
	s->journal.syncer = -1;
	return true;
}

/* Starts it, if --journal-sync needs it. Signals are blocked by now, and stay so in it. */
static bool syncer_start(struct server *s, pthread_t *thread)
{
	int pair[2];

	if (s->journal.directory < 0 || s->opt.journal_sync == SYNC_NONE)
		return true;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return false;
	s->journal.syncer = pair[0];
	errno = pthread_create(thread, NULL, syncer_main, (void *)(intptr_t)pair[1]);
	if (errno != 0) {
		close(pair[0]);
		close(pair[1]);
		s->journal.syncer = -1;
		return false;
	}
	if (epoll_add(s, pair[0], EPOLLIN))
		return true;
	syncer_stop(s, *thread);
	return false;
}

/* The ids of a user in /etc/passwd; false if it has none. */
static bool passwd_find(const char *name, uid_t *user, gid_t *group)
{
	size_t bytes;
	char *text = file_read("/etc/passwd", 16 << 20, &bytes);
	struct span rest = {text, text == NULL ? 0 : bytes};
	int64_t ids[2] = {-1, -1};

	while (rest.n > 0 && ids[1] < 0) {
		struct span line = span_cut(&rest, '\n'), first = span_cut(&line, ':');

		span_cut(&line, ':');
		for (int i = 0; span_is(first, name) && i < 2; i++) {
			struct span digits = span_cut(&line, ':');

			for (size_t k = 0; k < digits.n && is_digit(digits.p[k]) && ids[i] < UINT32_MAX; k++)
				ids[i] = (ids[i] < 0 ? 0 : ids[i] * 10) + (digits.p[k] - '0');
		}
	}
	free(text);
	*user = (uid_t)ids[0];
	*group = (gid_t)ids[1];
	return ids[1] >= 0 && ids[0] < UINT32_MAX && ids[1] < UINT32_MAX;
}

/* Is there a --user that this may become? *user and *group are his, if one is named. */
static bool user_possible(const struct options *o, uid_t *user, gid_t *group, struct buf *error)
{
	if (o->user[0] == '\0')
		return true;
	if (!passwd_find(o->user, user, group))
		return error_line(error, "--user", o->user, "there is no such user in /etc/passwd", 0);
	if (geteuid() != 0 && *user != geteuid())
		return error_line(error, "--user", o->user, "only root can become another user", 0);
	return true;
}

/* Becomes --user, for good: what is opened afterwards is that user's. */
static bool user_become(const struct options *o, struct buf *error)
{
	uid_t user;
	gid_t group;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (!user_possible(o, &user, &group, error))
		return false;
	if (o->user[0] == '\0' || (user == geteuid() && user != 0))
		return true;
	if (setgroups(1, &group) < 0 || setgid(group) < 0 || setuid(user) < 0)
		return error_line(error, "--user", o->user, "cannot become this user", errno);
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* else /proc/self would be root's: see log_open */
	return true;
}

/*
 * What the loop, its thread, and the libc below them call. Anything else fails with EPERM: it does not kill the
 * program, because the next version of a libc may try something new first.
 */
static const int calls_allowed[] = {
	SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pwritev, SYS_pread64, SYS_recvfrom, SYS_recvmsg, SYS_recvmmsg,
	SYS_sendto, SYS_sendmsg, SYS_accept4, SYS_shutdown, SYS_setsockopt, SYS_getsockopt, SYS_getpeername,
	SYS_getsockname, SYS_close, SYS_epoll_ctl, SYS_epoll_pwait, SYS_ppoll, SYS_socket, SYS_connect, SYS_openat,
	SYS_fcntl, SYS_fstat, SYS_statx, SYS_newfstatat, SYS_lseek, SYS_getdents64, SYS_unlinkat, SYS_ftruncate,
	SYS_fsync, SYS_fdatasync, SYS_faccessat, SYS_clock_gettime, SYS_clock_nanosleep, SYS_getrandom, SYS_mmap,
	SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_brk, SYS_futex, SYS_set_robust_list,
	SYS_sched_getaffinity, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_rt_sigreturn, SYS_sigaltstack, SYS_getpid,
	SYS_gettid, SYS_tgkill, SYS_restart_syscall, SYS_sched_yield, SYS_exit, SYS_exit_group,
#ifdef SYS_rseq /* glibc registers it when a thread begins, which may be after this, and gives up if it can't */
	SYS_rseq,
#endif
#ifdef SYS_open /* not on arm64, which never had the older ones */
	SYS_open, SYS_unlink, SYS_access, SYS_stat, SYS_lstat, SYS_poll, SYS_epoll_wait,
#endif
};

/* AUDIT_ARCH_ of linux/audit.h, of the machine that this is compiled for. */
#if defined(__x86_64__)
#define CALLS_ARCH 0xc000003eu
#elif defined(__aarch64__)
#define CALLS_ARCH 0xc00000b7u
#else
#define CALLS_ARCH 0 /* another one: no sandbox */
#endif

/* Sanitizers call what a server has no business to. */
#if defined(__SANITIZE_ADDRESS__)
#define SANDBOX 0
#elif defined(__has_feature)
#define SANDBOX (CALLS_ARCH != 0 && !__has_feature(address_sanitizer))
#else
#define SANDBOX (CALLS_ARCH != 0)
#endif

/* Of linux/filter.h and linux/seccomp.h, which musl-gcc does not find. */
struct bpf_step {
	uint16_t code;
	uint8_t yes, no; /* steps to skip */
	uint32_t k;
};
struct bpf_program {
	unsigned short count;
	const struct bpf_step *steps;
};
enum {
	BPF_LOAD = 0x20, BPF_IF_SAME = 0x15, BPF_IF_BIT = 0x45, BPF_RETURN = 0x06,
	CALL_NUMBER = 0, CALL_ARCH = 4, CALL_THIRD = 32, /* offsets in struct seccomp_data */
	CALL_ALLOW = 0x7fff0000, CALL_ERROR = 0x00050000,
	MODE_FILTER = 1, ALL_THREADS = 1
};

/* Gives up all other system calls, and memory that can be executed; in the syncer's thread too. */
static void sandbox_enter(struct server *s)
{
	enum { CALLS = sizeof calls_allowed / sizeof calls_allowed[0] };
	struct bpf_step steps[CALLS + 9] = {
		{BPF_LOAD, 0, 0, CALL_ARCH},
		{BPF_IF_SAME, 0, CALLS + 5, CALLS_ARCH}, /* else it is a call of 32 bits: an error */
		{BPF_LOAD, 0, 0, CALL_NUMBER},
		{BPF_IF_SAME, 1, 0, SYS_mmap},
		{BPF_IF_SAME, 0, 2, SYS_mprotect},
		{BPF_LOAD, 0, 0, CALL_THIRD},
		{BPF_IF_BIT, CALLS, CALLS + 1, PROT_EXEC},
	};
	struct bpf_program program = {CALLS + 9, steps};

	for (int i = 0; i < CALLS; i++)
		steps[7 + i] = (struct bpf_step){BPF_IF_SAME, (uint8_t)(CALLS - i), 0, (uint32_t)calls_allowed[i]};
	steps[7 + CALLS] = (struct bpf_step){BPF_RETURN, 0, 0, CALL_ERROR | EPERM};
	steps[8 + CALLS] = (struct bpf_step){BPF_RETURN, 0, 0, CALL_ALLOW};
	if (!SANDBOX || !s->opt.sandbox || syscall(SYS_seccomp, MODE_FILTER, ALL_THREADS, &program) == 0)
		return;
	log_text(log_begin(s, LOG_WARNING, "no_sandbox"), "error", strerror(errno));
	log_end(s);
}

static int server_run(struct server *s, struct buf *error)
{
	pthread_t syncer;
	int status;

	if (!user_become(&s->opt, error) || !log_open(s, error))
		return fail("", error, 2);
	if (!signals_open(s)) {
		buf_text(error, strerror(errno));
		return fail("cannot start: ", error, 1);
	}
	if (!journal_open(s, error))
		return fail("", error, 1);
	if (!syncer_start(s, &syncer)) {
		buf_text(error, strerror(errno));
		return fail("cannot start a thread: ", error, 1);
	}
	manager_open(s);
	status = !passed_take(s, error) ? 2 : !server_listen(s, error) ? 1 : 0;
	if (status != 0) {
		syncer_stop(s, syncer);
		return fail("", error, status);
	}
	if (s->opt.max_connections > s->conns_soft) {
		log_text(log_begin(s, LOG_WARNING, "max_connections_lowered"), "why", "the file limit (ulimit -n) allows no more");
		log_end(s);
	}
	if ((s->opt.connections_per_address > 0 || s->opt.requests_per_address > 0) && s->proxy_count == 0) {
		log_text(log_begin(s, LOG_WARNING, "no_trusted_proxy"), "then",
			"everybody who comes through a proxy counts as one address: name it with --trusted-proxy");
		log_end(s);
	}
	sandbox_enter(s);
	log_number(log_begin(s, LOG_INFO, "ready"), "max_connections", s->conns_soft);
	log_end(s);
	manager_say(s, "READY=1\n");
	while (!s->stop)
		server_turn(s, -1);
	for (uint32_t i = 0; (i = set_next(&s->streams, i)) != SET_END; i++)
		conn_dead(s, &s->conns[i], CLOSE_shutdown);
	if (syncer_stop(s, syncer)) {
		journal_close(s);
	} else {
		log_text(log_begin(s, LOG_ERROR, "journal_hung"), "then", "the disk does not answer: it ends without it");
		log_end(s);
	}
	log_number(log_begin(s, LOG_INFO, "stopped"), "events", (int64_t)s->count.events);
	log_end(s);
	log_flush(s);
	return 0;
}

/* Why no status can be had of a socket. */
static int status_failed(const char *path, int error)
{
	char text[512];
	struct buf b = buf_fixed(text, sizeof text);

	error_line(&b, "--socket", path, error == ENOENT ? "there is no such socket: is sse running, not going down, and with this --socket?"
		: error == ECONNREFUSED ? "no sse is listening there"
		: error == EACCES ? "not allowed: ask as root, or as one of the group that the socket belongs to"
		: error == EAGAIN ? "sse takes no datagrams now: its queue is full"
		: error == ECONNRESET ? "it went away without an answer"
		: error == EPROTOTYPE ? "it is a stream socket: name the one of --socket"
		: error == ETIMEDOUT ? "no answer within 5 s: sse cannot start, or hangs: systemctl status sse; journalctl -u sse -n 20"
			" (or it is in another network namespace: ask there)"
		: error == EPROTO ? "what answers there is no sse that knows {\"op\":\"status\"}" : strerror(error), 0);
	return fail("", &b, 1);
}

/* A socket to ask by, or -1. It is connected before it has a name, so nobody else can answer. */
static int status_open(const char *path)
{
	const struct sockaddr anybody = {.sa_family = AF_UNIX};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), error;

	memcpy(address.sun_path, path, strlen(path));
	/* The name is the kernel's choice (unix(7), autobind): that is where the answer goes. */
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0
		&& bind(fd, &anybody, sizeof anybody.sa_family) == 0)
		return fd;
	error = errno;
	if (fd >= 0)
		close(fd);
	errno = error;
	return -1;
}

/* Asks the sse that runs; an errno, 0: it has answered. With --watch a question is never given up, because one more
 * would wait behind it: that it takes long is said once. */
static int status_ask(const struct options *o, struct status *now)
{
	static const char question[] = "{\"op\":\"status\"}";
	struct timespec asked, answered;
	int fd = status_open(o->socket), error = 0;
	char text[8192];
	ssize_t n = -1;

	if (fd < 0)
		return errno;
	clock_gettime(CLOCK_MONOTONIC, &asked);
	if (sendto(fd, question, sizeof question - 1, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0) < 0)
		error = errno;
	if (error == 0 && poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, STATUS_PATIENCE_MS) != 1)
		error = ETIMEDOUT;
	if (error == ETIMEDOUT && o->watch) {
		status_failed(o->socket, error);
		error = 0;
	}
	if (error == 0 && (n = recv(fd, text, sizeof text, 0)) < 0)
		error = errno;
	if (error == 0 && !status_read((struct span){text, (size_t)n}, now))
		error = EPROTO;
	clock_gettime(CLOCK_MONOTONIC, &answered);
	now->answered_ms = (answered.tv_sec - asked.tv_sec) * 1000 + (answered.tv_nsec - asked.tv_nsec) / 1000000;
	close(fd);
	return error;
}

/* sse --status, and --watch: again and again, on a terminal in place of what it showed before. */
static int status_run(const struct options *o)
{
	struct status before = {0}, now = {0};
	int error, said = 0;
	struct buf b = buf_growable();
	bool printed;

	do {
		error = status_ask(o, &before);
		if (error == 0 || o->watch)
			poll(NULL, 0, 1000);
		if (error == 0)
			error = status_ask(o, &now);
		buf_clear(&b);
		if (error == 0 && o->watch && isatty(STDOUT_FILENO))
			buf_text(&b, "\x1b[H\x1b[2J");
		if (error == 0)
			status_show(&before, &now, &b);
		printed = print(STDOUT_FILENO, buf_view(&b));
		if (error != 0 && error != said)
			status_failed(o->socket, error);
		said = error;
	} while (o->watch && printed);
	buf_free(&b);
	return error == 0 && printed ? 0 : 1;
}

/* For --check-config, which makes no file. */
static bool log_usable(const struct options *o, struct buf *error)
{
	char path[4096 + 2]; /* one that is as long as it may be, a directory, and a dot */
	struct buf b = buf_fixed(path, sizeof path);
	const char *name = strrchr(o->log_file, '/');
	int fd;

	if (o->log_file[0] == '\0')
		return true;
	fd = open(o->log_file, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd >= 0) {
		close(fd);
		return true;
	}
	buf_bytes(&b, o->log_file, name == NULL ? 0 : (size_t)(name + 1 - o->log_file));
	buf_bytes(&b, ".", 2);
	return (errno == ENOENT && access(path, W_OK | X_OK) == 0) || error_line(error, "--log-file", o->log_file, "cannot open", errno);
}

/* For --check-config, while another sse may be using the directory. */
static bool journal_usable(const struct options *o, struct buf *error)
{
	char path[4096];
	struct buf b = buf_fixed(path, sizeof path);

	if (o->journal[0] == '\0')
		return true;
	buf_text(&b, o->journal);
	buf_bytes(&b, "/.", 3);
	return access(path, R_OK | W_OK | X_OK) == 0 || journal_refused(o, error, errno);
}

/* For --check-config: what only the start would find out. */
static bool options_usable(const struct options *o, struct buf *error)
{
	uid_t user;
	gid_t group;

	return user_possible(o, &user, &group, error) && log_usable(o, error) && journal_usable(o, error);
}

int main(int argc, char **argv)
{
	static struct server server;
	struct options options;
	char text[8192];
	struct buf error = buf_fixed(text, sizeof text), help = buf_growable();
	bool good;
	int status = 0;

	standard_files();
	good = options_read(&options, argc, argv, environ, &error);
	if (options.help) {
		options_help(&help);
		status = print(STDOUT_FILENO, buf_view(&help)) ? 0 : 1;
	} else if (options.version) {
		status = print(STDOUT_FILENO, span_of("sse " SSE_VERSION "\n")) ? 0 : 1;
	} else if (!good) {
		status = fail("", &error, 2);
	} else if (options.status) {
		status = status_run(&options);
	} else {
		if (!server_init(&server, &options, &sys_linux, descriptors(&options), &error)
			|| (options.check_config && !options_usable(&options, &error)))
			status = fail("", &error, 2);
		else if (options.check_config)
			status = print(STDOUT_FILENO, span_of("sse: the configuration is good\n")) ? 0 : 1;
		else
			status = server_run(&server, &error);
		server_free(&server);
	}
	buf_free(&help);
	options_free(&options);
	return status;
}
