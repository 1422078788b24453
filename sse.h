/*
 * sse.h - the map of sse.c: its data, and the contracts of the functions that can be tested
 * without a socket. Not an API: nothing but sse.c and test/ includes it.
 *
 * Read it beside the comment on top of sse.c, which tells the life of an event. Units stand in
 * the names (_ms, _bytes); an index of 0 means "none" in every array here.
 */
#ifndef SSE_H
#define SSE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* accept4, recvmmsg, memmem */
#endif
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>

#define SSE_VERSION "0.1.0"

enum {
	MAX_NAME = 64,      /* bytes of an event's name, a user id, a role */
	MAX_ROLES = 64,     /* different roles at a time: one bit each in a word */
	MAX_DEPTH = 32,     /* nested arrays and objects in a line of JSON */
	MAX_HEADERS = 100,  /* header lines in a request */
	MAX_LISTEN = 16,    /* values of a repeatable option */
	MAX_TOKENS = 100000, /* lines of a token file */
	MAX_TOKEN = 4096,   /* bytes of a ticket, or of a token that Django is asked about */
	MAX_CLAIMS = 64,    /* members of a ticket's header, or of its claims */
	MAX_KEYS = 16,      /* keys tickets may be signed with */
	MAX_LINKS = 16,     /* connections to Django */
	MAX_ANSWER = 16384, /* bytes of an answer of Django's, head and body */
	MAX_CACHED = 16384, /* sessions kept for their max-age without a stream */
	MAX_VERDICTS = 16384, /* tokens remembered as denied */
	MAX_TOMBSTONES = 16384, /* remembered as revoked: so many users, so many sids */
	MAX_REFRESHES = 64, /* questions about live streams that are open at a time */
	MAX_PACES = 16384   /* addresses whose requests are counted */
};

/* Bytes somewhere else: nothing here owns them, and no NUL ends them. */
struct span {
	const char *p;
	size_t n;
};

struct span span_of(const char *text); /* of a C string */
bool span_is(struct span a, const char *text);
bool span_same(struct span a, struct span b);
/* As span_is, but A to Z and a to z are the same. */
bool span_is_nocase(struct span a, const char *text);

/* ---- buffers, sets, pools ---------------------------------------------------------------- */

/*
 * Bytes being written. A growable one is empty at first and belongs to the heap (buf_free); a
 * fixed one stands over memory of its owner. What does not fit, or finds no memory, sets
 * `failed`; it is left out, and so is all that follows: append freely, check once.
 */
struct buf {
	char *data;
	size_t len, cap;
	bool growable, failed;
};

struct buf buf_fixed(char *data, size_t cap);
struct buf buf_growable(void);
void buf_free(struct buf *b);
void buf_clear(struct buf *b);
void buf_bytes(struct buf *b, const void *bytes, size_t n);
void buf_span(struct buf *b, struct span s);
void buf_text(struct buf *b, const char *text);
void buf_byte(struct buf *b, char c);
void buf_number(struct buf *b, int64_t n);
struct span buf_view(const struct buf *b);

/* A set of small numbers, one bit each. Its words come from outside, zeroed: (max + 63) / 64. */
struct set {
	uint64_t *words;
	uint32_t max;   /* numbers 0 .. max-1 may be in it */
	uint32_t high;  /* none from here on ever was: where a walk ends */
	uint32_t count; /* that many are */
};
#define SET_END UINT32_MAX

bool set_has(const struct set *set, uint32_t i);
void set_add(struct set *set, uint32_t i);
void set_remove(struct set *set, uint32_t i);
/* The first member that is >= from, or SET_END. */
uint32_t set_next(const struct set *set, uint32_t from);

/*
 * Open addressing over an array of records that begin with their uint32_t hash: the slots hold
 * record numbers. Linear probing, at most 3/4 full, no tombstones.
 */
struct table {
	uint32_t *slots; /* mask + 1 of them; the table that is twice as large begins behind them */
	uint32_t mask, count;
	char *records;
	size_t stride;
};

/* Walks the records with this hash: give 0 in *at first; returns 0 after the last. */
uint32_t table_next(const struct table *t, uint32_t hash, uint32_t *at);
/* The slots needed for so many records at the most. */
size_t table_slots(uint32_t records_max);
void table_add(struct table *t, uint32_t record);
void table_remove(struct table *t, uint32_t record);

/*
 * What happened lately, of each key once: records in an array of max, the oldest overwritten first.
 * Record 0 is none.
 */
struct recent {
	struct table table;
	uint32_t max;
	uint64_t count; /* ever taken */
};

/* The record to write a new one to: one never used, else the oldest, which the table then has no
 * more. table_add it when it has its hash. */
uint32_t recent_take(struct recent *r);

/* ---- SHA-256 (FIPS 180-4), HMAC (RFC 2104), base64url (RFC 4648), SipHash-1-3 ------------------ */

void sha256(struct span in, uint8_t out[32]);
/* A key made ready: SHA-256 after the inner and after the outer pad. */
struct hmac_key {
	uint32_t inner[8], outer[8];
};
void hmac_key(struct hmac_key *key, struct span secret);
void hmac_sha256(const struct hmac_key *key, struct span in, uint8_t out[32]);
/* Are they the same? Takes as long whether they are or not. */
bool same_secret(const uint8_t a[32], const uint8_t b[32]);
/* Appends what in stands for, strictly: no padding, no white space, no unused bits that are not
 * zero (RFC 4648 section 3.5). False if it is anything else, or does not fit. */
bool base64url(struct span in, struct buf *out);
/* A hash that an outsider cannot aim at: key is 16 random bytes. */
uint32_t hash_span(const uint8_t key[16], struct span in);

/* ---- JSON (RFC 8259) ---------------------------------------------------------------------- */

/*
 * A strict reader over one text. The first mistake sets `error` (what was expected) and `at`
 * (the byte it was found at); every later call then returns false. UTF-8 is checked by Unicode
 * table 3-7; arrays and objects nest MAX_DEPTH deep.
 */
struct json {
	struct span text;
	size_t at;
	int depth;
	bool more; /* the innermost array or object had an element before */
	const char *error;
};

struct json json_begin(struct span text);
/* The kind of the next value: one of { [ " 0 t f n, or 0 for none of them. */
char json_peek(struct json *j);
/* Any one value. If compact is given, it is appended there without insignificant white space. */
bool json_value(struct json *j, struct buf *compact);
/* A string, its escapes undone, appended to out as UTF-8. A lone surrogate is an error. */
bool json_string(struct json *j, struct buf *out);
/* A number without fraction and exponent, 0 to 2^53. */
bool json_integer(struct json *j, int64_t *out);
/* NumericDate of RFC 7519: seconds from 0 to 2^53, and in *ms, if given, the fraction's milliseconds, cut off.
 * An exponent is an error. */
bool json_date(struct json *j, int64_t *unix_s, int *ms);
/* Opens '{' or '['. Then json_more(j, '}' or ']') before each element, until it says false. */
bool json_open(struct json *j, char bracket);
bool json_more(struct json *j, char bracket);
/* A member's name and its colon. */
bool json_key(struct json *j, struct buf *out);
/* True if nothing but white space is left. */
bool json_end(struct json *j);
/* Fails at the byte `at`, unless something failed before. Returns false. */
bool json_fail(struct json *j, size_t at, const char *error);
/* Appends s as a JSON string: quoted, and escaped where RFC 8259 section 7 asks for it. */
void json_write_string(struct buf *b, struct span s);

/* ---- HTTP/1.1 (RFC 9110, RFC 9112) -------------------------------------------------------- */

/* Why a request is refused: name in the log and metrics, status, text of the answer. */
#define REFUSALS(X) \
	X(bad_line_end, 400, "a line of the head must end in CR LF") \
	X(bad_byte, 400, "a control character in the head") \
	X(bad_request_line, 400, "expected: METHOD SP TARGET SP HTTP/1.1") \
	X(bad_target, 400, "the target must be a path, a URL, or * for OPTIONS") \
	X(bad_escape, 400, "a % in the target must stand before two hex digits, not of a control character") \
	X(bad_header, 400, "a header line must be NAME: VALUE, without space before the colon") \
	X(folded_header, 400, "a header line must not begin with white space") \
	X(no_host, 400, "the Host header is missing") \
	X(two_hosts, 400, "the Host header must be given once") \
	X(bad_host, 400, "the Host header is not a host") \
	X(repeated_header, 400, "Authorization and Origin must be given once") \
	X(bad_length, 400, "Content-Length must be one number") \
	X(length_and_encoding, 400, "Content-Length and Transfer-Encoding exclude each other") \
	X(encoding_in_http10, 400, "HTTP/1.0 has no Transfer-Encoding") \
	X(two_tokens, 400, "the token must be given once") \
	X(no_token, 401, "a token is needed") \
	X(unknown_token, 401, "the token is not valid") \
	X(denied_token, 401, "the token is not valid") /* Django says so */ \
	X(ended_token, 401, "the token is not valid")  /* its expire_at has passed */ \
	X(ticket_form, 401, "the token is not valid")  /* not three parts, or too long */ \
	X(ticket_encoding, 401, "the token is not valid") /* a part is not base64url */ \
	X(ticket_json, 401, "the token is not valid")     /* header or claims are no JSON object */ \
	X(ticket_trailing, 401, "the token is not valid") /* something stands behind that object */ \
	X(ticket_duplicate, 401, "the token is not valid") /* a member is there twice */ \
	X(ticket_algorithm, 401, "the token is not valid") /* alg is not HS256 */ \
	X(ticket_critical, 401, "the token is not valid")  /* crit: RFC 7515 section 4.1.11; or b64 */ \
	X(ticket_signature, 401, "the token is not valid") \
	X(ticket_claim, 401, "the token is not valid") /* a claim or header of the wrong type or size */ \
	X(ticket_no_subject, 401, "the token is not valid") \
	X(ticket_no_exp, 401, "the token is not valid") \
	X(ticket_expired, 401, "the token is not valid") \
	X(ticket_early, 401, "the token is not valid") /* nbf or iat are still to come */ \
	X(ticket_no_audience, 401, "the token is not valid") \
	X(ticket_audience, 401, "the token is not valid") /* aud is not sse */ \
	X(ticket_revoked, 401, "the token is not valid")  /* user or sid was revoked after iat */ \
	X(origin_not_allowed, 403, "this origin may not ask: see --cors-origin") \
	X(no_such_path, 404, "no such path") \
	X(method_not_allowed, 405, "this path answers GET, HEAD and OPTIONS") \
	X(head_timeout, 408, "the head of the request did not arrive in time") \
	X(body_not_allowed, 413, "requests here have no body") \
	X(target_too_long, 414, "the target of the request is too long") \
	X(unknown_expectation, 417, "the only expectation known is 100-continue") \
	X(head_too_large, 431, "the head of the request is too large") \
	X(too_many_headers, 431, "the request has too many headers") \
	X(unknown_method, 501, "the method is not known") \
	X(unknown_encoding, 501, "the Transfer-Encoding is not known") \
	X(bad_version, 505, "only HTTP/1.1 and HTTP/1.0 are served") \
	X(too_many_requests, 429, "too many requests from this address: wait a second") \
	X(too_many_connections, 503, "too many connections") \
	X(too_many_from_address, 503, "too many connections from this address") \
	X(too_many_streams, 503, "too many streams of this user") \
	X(no_descriptors, 503, "no file descriptors left") \
	X(no_memory, 503, "no memory left") \
	X(auth_failed, 503, "whether the token is valid cannot be found out now") \
	X(auth_queue_full, 503, "too many tokens wait to be checked") \
	X(too_many_roles, 503, "more than 64 different roles at a time") \
	X(draining, 503, "the server is going down")

enum refusal {
	REFUSE_NONE,
#define X(name, status, text) REFUSE_##name,
	REFUSALS(X)
#undef X
	REFUSE_COUNT
};

const char *refusal_name(enum refusal why);
int refusal_status(enum refusal why);

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_OPTIONS, HTTP_KNOWN, HTTP_UNKNOWN };

struct http_limits {
	size_t head_bytes, target_bytes;
};

/* How far a head has been looked at: all zero at its first byte. */
struct http_scan {
	uint32_t at;    /* bytes that need no second look */
	uint32_t line;  /* where the current line begins */
	uint32_t lines; /* lines that are whole */
};

struct http_request {
	enum http_method method;
	bool http10;
	bool keep_alive;         /* the client would send another request on this connection */
	bool has_body;           /* or says so: nothing behind this head can be trusted */
	struct span path, query; /* as sent, still percent-encoded */
	struct span host;
	struct span origin, authorization; /* .p is NULL if absent */
	struct span last_event_id;         /* so is this one; empty if given twice */
	struct span forwarded;             /* the last X-Forwarded-For */
	bool preflight; /* has Access-Control-Request-Method */
};

/*
 * Looks at bytes[0..n) of a head that began at bytes[0]; give the same scan again with more
 * bytes. Returns the head's length with its empty line, 0 if it is not whole yet, or -refusal: for
 * a byte or a request line that can't be right as soon as it is there; what is wrong with a header,
 * http_parse finds. O(n) over all calls.
 */
int http_scan(struct http_scan *scan, const char *bytes, size_t n, const struct http_limits *limits);
/* Takes a whole head, as http_scan measured it, apart. Returns REFUSE_NONE or what is wrong;
 * *r then holds what was understood before that. */
enum refusal http_parse(struct span head, struct http_request *r);
/* Appends in without its percent escapes, or only checks them if out is NULL. False for a bad escape
 * or one of a control character. */
bool http_unescape(struct span in, struct buf *out);
/*
 * Finds a parameter of a query (WHATWG URL 5.1, but + stays a +); its value is appended to out,
 * unescaped. Returns how often it occurs, or -1 for a bad escape anywhere in the query.
 */
int http_parameter(struct span query, const char *name, struct buf *out);
/* The token of "Bearer T" or "Token T"; .p is NULL for any other scheme or form. */
struct span http_bearer(struct span authorization);
/*
 * The token of a request: of its Authorization, else, if query_too, of the parameter `token`, which
 * is unescaped into unescaped. It is empty if there is none. A refusal if it can't be told.
 */
enum refusal http_token(const struct http_request *r, bool query_too, struct buf *unescaped, struct span *token);
/* Appends path and query of a request without the parameter of this name. */
void http_target_without(const struct http_request *r, const char *name, struct buf *out);
/* Appends "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 section 5.6.7). */
void http_date(struct buf *b, int64_t unix_s);

/* An answer to a request of ours. */
struct http_response {
	int status;      /* 0 until its head is whole */
	bool keep_alive; /* the connection may be used again */
	int64_t max_age_s; /* of Cache-Control, 0 for no-store and no-cache; -1 if it does not say */
	struct span body;
};

/*
 * Reads an answer to a GET from the bytes that came so far; ended says that no more will come.
 * Returns the bytes it takes, 0 if it is not whole yet, -1 if it is not HTTP/1.x. A body in chunks is
 * put together in place, once it is whole. Answers before the final one (1xx) are passed over.
 */
int64_t http_response(char *bytes, size_t n, bool ended, struct http_response *r);

/* ---- Server-Sent Events (WHATWG HTML section 9.2) ------------------------------------------- */

/* An event's id, "<ms>-<n>": wall clock, and a counter within the millisecond. */
struct event_id {
	int64_t ms;
	uint32_t n;
};

/* What an event's frame is made of. */
struct sse_event {
	struct event_id id;
	struct span name;
	struct span data; /* one line of JSON */
	int64_t timestamp;
};

/* Is a before b, the same, or behind it? Less than 0, 0, more than 0. */
int sse_id_order(struct event_id a, struct event_id b);
void sse_id(struct buf *b, struct event_id id);
/* Reads what sse_id wrote, and nothing else: false for any other text. */
bool sse_id_read(struct span text, struct event_id *id);
/* "id: ...\ndata: {"event":...,"data":...,"timestamp":...}\n\n" */
void sse_frame(struct buf *b, const struct sse_event *e);
void sse_keepalive(struct buf *b, int64_t unix_s);
/* "retry: MS\n\n" */
void sse_retry(struct buf *b, int64_t retry_ms);
/* id is what the page has seen everything up to; NULL if that can't be said. */
void sse_connected(struct buf *b, const struct event_id *id);
/* body as one chunk of HTTP/1.1 (RFC 9112 section 7.1). Returns the bytes before the body. */
size_t sse_chunk(struct buf *b, struct span body);

/* ---- options ------------------------------------------------------------------------------ */

/* type, field, flag, default, least, most, placeholder, help. One row is all there is to an
 * option: flag, SSE_ variable, key of the configuration file, --help. */
#define OPTIONS(X) \
	X(ADDRESSES, listen, "listen", "127.0.0.1:8090", 0, 0, "ADDR", \
		"HOST:PORT, [IPV6]:PORT, :PORT (every address) or unix:/PATH; repeatable") \
	X(TEXT, socket, "socket", "/run/sse/sse.sock", 1, 98, "PATH", \
		"the Unix datagram socket that events come in by") \
	X(MODE, socket_mode, "socket-mode", "0660", 0, 0777, "MODE", \
		"permissions of the Unix sockets") \
	X(TEXT, token_file, "token-file", "", 0, 4095, "PATH", \
		"who may listen: lines TOKEN USER [ROLE,...]; read again on SIGHUP") \
	X(URL, auth_url, "auth-url", "", 0, 0, "URL", \
		"ask Django who a token belongs to: http://HOST:PORT/PATH or unix:/SOCKET:/PATH") \
	X(WORD, auth_scheme, "auth-scheme", "Token", 1, 32, "WORD", \
		"Authorization: WORD <token>, when Django is asked") \
	X(TEXT, auth_key_file, "auth-key-file", "", 0, 4095, "PATH", \
		"its one line is sent to Django as X-SSE-Key; read again on SIGHUP") \
	X(HOST, auth_host, "auth-host", "", 0, 255, "HOST", \
		"the Host header for Django, one of its ALLOWED_HOSTS (if none: that of --auth-url)") \
	X(DURATION, auth_timeout, "auth-timeout", "1s", 50, 60000, "TIME", \
		"how long Django may take to answer") \
	X(COUNT, auth_connections, "auth-connections", "16", 1, MAX_LINKS, "N", \
		"questions Django is asked at a time, at the most") \
	X(COUNT, auth_queue, "auth-queue", "4096", 1, 16000, "N", \
		"tokens that may wait for Django's answer; the next is put off") \
	X(DURATION, auth_refresh, "auth-refresh", "5m", 100, 86400000, "TIME", \
		"Django is asked about a live stream's token again after so long, up to twice that") \
	X(TEXT, ticket_key_file, "ticket-key-file", "", 0, 4095, "PATH", \
		"tokens with two dots are JWTs (HS256) signed with a line of it; read again on SIGHUP") \
	X(DURATION, ticket_leeway, "ticket-leeway", "60s", 0, 3600000, "TIME", \
		"how far clocks may differ, for a ticket's nbf and iat") \
	X(ORIGINS, cors_origin, "cors-origin", "", 0, 0, "ORIGIN", \
		"SCHEME://HOST[:PORT] whose pages may listen (no slash behind it), or *; repeatable") \
	X(PREFIX, prefix, "prefix", "/api/v1/sse", 0, 1024, "PATH", \
		"what stands before /events/ and /stats/") \
	X(ADDRESSES, admin, "admin", "", 0, 0, "ADDR", \
		"the operator's own listener: /metrics, /livez, /readyz, for whoever reaches it; repeatable") \
	X(TEXT, log_file, "log-file", "", 0, 4095, "PATH", \
		"append the audit log here, not to stderr; opened anew on SIGUSR1") \
	X(TEXT, user, "user", "", 0, 64, "NAME", \
		"started as root: become this user, before anything is opened") \
	X(SWITCH, sandbox, "sandbox", "on", 0, 1, "on|off", \
		"give up every system call that is not needed (seccomp)") \
	X(LEVEL, log_level, "log-level", "info", 0, 2, "LEVEL", \
		"error, warning or info (one line an event)") \
	X(COUNT, queue, "queue", "100", 2, 10000, "EVENTS", \
		"events that may wait for one stream; one more, and it is closed as slow") \
	X(BYTES, history_bytes, "history-bytes", "64M", 65536, INT64_C(1) << 36, "BYTES", \
		"memory for events, for who comes back: at least 1.25 x queue x datagram") \
	X(DURATION, history_age, "history-age", "7d", 1000, INT64_C(315360000000), "TIME", \
		"events older than this are forgotten") \
	X(TEXT, journal, "journal", "", 0, 4000, "DIR", \
		"keep the events on disk too, in this directory, for after a restart") \
	X(SYNC, journal_sync, "journal-sync", "batch", 0, 2, "WHEN", \
		"the disk is told to hold on to them (fdatasync): none, batch (once a second), always") \
	X(BYTES, datagram, "datagram", "200K", 256, 4194304, "BYTES", \
		"the longest datagram taken") \
	X(DURATION, keepalive, "keepalive", "30s", 50, 86400000, "TIME", \
		"a stream silent for so long gets a keepalive") \
	X(DURATION, retry, "retry", "3s", 1, 3600000, "TIME", \
		"when a browser that lost its stream comes back") \
	X(DURATION, retry_jitter, "retry-jitter", "1s", 0, 3600000, "TIME", \
		"up to so much more, at random") \
	X(COUNT, max_connections, "max-connections", "0", 0, 1000000, "N", \
		"connections at a time; 0: the file limit less a reserve") \
	X(COUNT, streams_per_user, "streams-per-user", "32", 1, 1000000, "N", \
		"streams one user may hold") \
	X(COUNT, connections_per_address, "connections-per-address", "0", 0, 1000000, "N", \
		"connections from one address, or one IPv6 /64; 0: no limit") \
	X(COUNT, requests_per_address, "requests-per-address", "0", 0, 100000, "N", \
		"requests a second from one address, or one IPv6 /64; 0: no limit") \
	X(NETWORKS, trusted_proxy, "trusted-proxy", "", 0, 0, "NET", \
		"ADDRESS, ADDRESS/BITS or unix: a proxy whose X-Forwarded-For is believed; repeatable") \
	X(BYTES, target, "target", "8K", 64, 65536, "BYTES", \
		"the longest request target (414)") \
	X(BYTES, head, "head", "16K", 256, 65536, "BYTES", \
		"the largest request head (431)") \
	X(DURATION, head_timeout, "head-timeout", "10s", 50, 3600000, "TIME", \
		"a head not whole after so long is refused (408)") \
	X(DURATION, idle_timeout, "idle-timeout", "60s", 50, 86400000, "TIME", \
		"a kept-alive connection that asks nothing is closed") \
	X(DURATION, write_stall, "write-stall", "30s", 50, 3600000, "TIME", \
		"a stream that has events waiting and takes none is closed") \
	X(BYTES, send_buffer, "send-buffer", "128K", 4096, 1073741824, "BYTES", \
		"the kernel's buffer of a connection (SO_SNDBUF)") \
	X(DURATION, tcp_user_timeout, "tcp-user-timeout", "60s", 1000, 86400000, "TIME", \
		"a peer that acknowledges nothing for so long is gone") \
	X(DURATION, drain, "drain", "5s", 0, 3600000, "TIME", \
		"how long TERM waits for streams to take what is theirs")

struct option_list {
	const char *items[MAX_LISTEN];
	int count;
	int source; /* of these items: a source of more weight replaces them all */
};

#define FIELD_ADDRESSES(field) struct option_list field;
#define FIELD_ORIGINS(field) struct option_list field;
#define FIELD_NETWORKS(field) struct option_list field;
#define FIELD_TEXT(field) const char *field;
#define FIELD_PREFIX(field) const char *field;
#define FIELD_URL(field) const char *field;
#define FIELD_WORD(field) const char *field;
#define FIELD_HOST(field) const char *field;
#define FIELD_MODE(field) int64_t field;
#define FIELD_LEVEL(field) int64_t field;
#define FIELD_SYNC(field) int64_t field;
#define FIELD_SWITCH(field) int64_t field;
#define FIELD_COUNT(field) int64_t field;
#define FIELD_BYTES(field) int64_t field;
#define FIELD_DURATION(field) int64_t field;
struct options {
#define X(type, field, flag, preset, least, most, placeholder, help) FIELD_##type(field)
	OPTIONS(X)
#undef X
	char *file_text; /* the configuration file: values from it point in here */
	bool help, version, check_config, status, watch;
};

/*
 * Defaults, then the file (--config or SSE_CONFIG), then SSE_* of env, then argv. Texts stay
 * where they are: argv, env, file_text. Returns false with one line in error (no newline).
 */
bool options_read(struct options *o, int argc, char **argv, char **env, struct buf *error);
void options_free(struct options *o);
/* The text of --help. */
void options_help(struct buf *b);

/* ---- addresses --------------------------------------------------------------------------------- */

/* Of IPv6; one of IPv4 is mapped into it (RFC 4291 section 2.5.5.2). */
struct address {
	uint8_t bytes[16];
};

/* The addresses that begin with the same bits. bits: -1 for Unix sockets. */
struct network {
	struct address first;
	int bits;
};

/* "192.0.2.1", "192.0.2.1:8080", "2001:db8::1", "[2001:db8::1]:8080". False for anything else. */
bool address_parse(struct span text, struct address *a);
void address_write(struct buf *b, const struct address *a);
/* "ADDRESS", "ADDRESS/BITS" or "unix". */
bool network_parse(struct span text, struct network *n);
bool network_has(const struct network *n, const struct address *a);
/*
 * Who sent a request that came by way of a proxy: the last address of X-Forwarded-For that is none of the proxies'.
 * What stands before it may be anything. False if that is no address.
 */
bool forwarded_for(struct span list, const struct network *proxies, int count, struct address *a);

/* Where connections come from, and how many. An IPv6 address stands for its /64. */
struct source {
	uint32_t hash;
	struct address address;
	uint32_t connections; /* 0: the record is free, */
	uint32_t next_free;   /* and this is the next one */
};

/* Whose requests came lately. As GCRA has it: every request takes its share of a second, beginning when the one
 * before it is over, but never in the past; a second ahead is as far as it goes. */
struct pace {
	uint32_t hash;
	struct address address;
	int64_t until_us; /* what was taken is over then */
};

/* ---- who an event is for ----------------------------------------------------------------------- */

/*
 * The audience of an event, packed: a mark, then names, each behind a byte of its length (1 to
 * MAX_NAME); then the next mark. No mark can be taken for a length, nor for a byte of UTF-8.
 */
enum who_mark {
	WHO_ALL = 0xf8, /* everybody; no names follow */
	WHO_USERS,      /* these ... */
	WHO_ROLES,      /* ... and who has one of these ... */
	WHO_EXCEPT      /* ... but none of these users */
};

/* A walk over a packed audience: begin with {who, 0}. Each step has a mark and a name, empty for WHO_ALL. */
struct who_walk {
	struct span rest;
	enum who_mark mark;
	struct span name;
};
bool who_next(struct who_walk *w);

/* ---- ring: the owner of events --------------------------------------------------------------- */

struct event {
	uint64_t at;        /* where its bytes begin, counted from the start of time ... */
	uint64_t offset;    /* ... and in the ring: at modulo its size */
	uint32_t bytes;     /* all of them: chunk size line, frame, CR LF */
	uint32_t before;    /* of the chunk size line: an HTTP/1.0 stream gets what is inside */
	uint32_t who;       /* its audience begins so many bytes before it; neighbours may share one */
	uint32_t who_bytes;
	struct event_id id;
};

/*
 * Audiences and frames, these as they stand on the wire, oldest overwritten first. Events are numbered one by
 * one; those from oldest to next-1 are there. Neither an audience nor a frame wraps around the ring's end.
 */
struct ring {
	char *bytes;
	uint64_t size;      /* of bytes */
	struct event *list; /* event number n stands at n & mask */
	uint32_t mask;
	uint32_t oldest, next; /* numbers; they wrap around, so compare differences */
	uint64_t end;          /* where the next one begins, counted as event.at */
	struct event_id newest;
	int64_t least_ms;      /* no id is given that is before this */
	struct event_id floor; /* everything that came after it is here: the last id that was forgotten */
};

/* The id after the newest: never going back, also where the clock does. */
struct event_id ring_next_id(const struct ring *r, int64_t wall_ms);
/* Copies an audience and, as a chunk, a frame in, over the oldest events where need be. Returns its number.
 * Both and 16 bytes more must fit the ring. */
uint32_t ring_append(struct ring *r, struct event_id id, struct span who, struct span frame);
/* NULL if it has been overwritten. */
const struct event *ring_event(const struct ring *r, uint32_t number);
/* An event's bytes for a stream with or without chunks. */
struct span ring_bytes(const struct ring *r, const struct event *e, bool chunked);
struct span ring_who(const struct ring *r, const struct event *e);
/* Forgets the events older than this (unix ms). */
void ring_forget(struct ring *r, int64_t before_ms);

/* What became of a page that says up to where it has seen everything: name in the log, and in the
 * `reason` of system.resync. */
#define RESUMES(X) \
	X(replay)  /* no gap: what is missing is here */ \
	X(too_old) /* the history does not reach back so far */ \
	X(unknown) /* not an id that was ever given, or one of before the history was lost */ \
	X(newer)   /* newer than the newest: the history is another one */
enum resume {
#define X(name) RESUME_##name,
	RESUMES(X)
#undef X
	RESUME_COUNT
};
/* *number is where it goes on: the first event after id; with any other answer than RESUME_replay, the next one. */
enum resume ring_resume(const struct ring *r, struct event_id id, uint32_t *number);

/* ---- journal: the ring on disk ------------------------------------------------------------------ */

/*
 * A directory of segments, "000000000001.sse" and on. A segment is a head, then records, one behind the
 * other. Numbers are as this machine writes them; the head keeps its form in every version.
 */
enum {
	JOURNAL_VERSION = 1,
	JOURNAL_RECORD = 0x455353ff /* on disk FF "SSE": FF is no byte of UTF-8, and of no audience */
};

struct journal_head {
	char magic[8];    /* "SSE\r\n\x1a\n\0": what a text tool does to line ends shows */
	uint32_t version;
	uint32_t after_n; /* events with an id up to this one are in the segments before, later ones ... */
	int64_t after_ms; /* ... are here */
	uint64_t boot;    /* which boot of the machine wrote it; 0: every record was synced before its ack */
	uint64_t check;   /* of all of it, this field being 0 */
};

struct journal_record {
	uint32_t mark;    /* JOURNAL_RECORD */
	uint32_t who_bytes, frame_bytes; /* which follow: the packed audience, then the frame */
	uint32_t id_n;
	int64_t id_ms;
	uint32_t check;       /* of the fields before */
	uint32_t parts_check; /* of what follows, begun with check */
};

/* An event found in a segment. An empty frame is none: it says that the program ended in order here. */
struct journal_event {
	struct event_id id;
	struct span who, frame;
};

struct journal_head journal_head(struct event_id after, uint64_t boot);
struct journal_record journal_record(struct event_id id, struct span who, struct span frame);

enum journal_kind {
	JOURNAL_GOOD,
	JOURNAL_DAMAGED, /* it has no head, or one with a flipped bit; records may be there */
	JOURNAL_NEWER    /* a later version of this program wrote it */
};
enum journal_kind journal_head_read(struct span segment, struct journal_head *head);
/*
 * The next good record from byte *at on, and *at behind it; skipped says how many bytes before it were
 * none. False if there is no other, *at stays.
 */
bool journal_next(struct span segment, size_t *at, size_t *skipped, struct journal_event *e);
/* Can this be the beginning of a record that was never written to its end? So can nothing at all. */
bool journal_torn(struct span rest);

struct journal_segment {
	uint64_t number; /* in its name */
	uint32_t begin;  /* number of its first event; of one that was read at the start, less */
	uint32_t end;    /* number behind its last event: it is removed when the ring has none of them */
	bool stale;      /* it was given up, and what is in it is written again */
};

enum journal_sync { SYNC_NONE, SYNC_BATCH, SYNC_ALWAYS };

/* What the loop asks of who calls fdatasync, and the answer: error is set. */
struct sync_job {
	int file, directory; /* directory: -1 if it need not be synced */
	int error;           /* errno, 0: all is on disk */
};

enum { JOURNAL_BATCH = 300 }; /* records in a write */

/* All that belongs to --journal. */
struct journal {
	int directory;    /* locked, as long as it is open; -1: there is no journal */
	int file;         /* the last segment; -1: none could be made yet */
	int retired;      /* the one before, if the syncer must still see to it; else -1 */
	int syncer;       /* a socket to who calls fdatasync; -1: nobody */
	uint64_t boot;    /* for the heads of segments */
	uint64_t number;  /* of the last segment, or of an attempt at one */
	struct journal_segment *segments; /* oldest first; on the heap */
	uint32_t count, cap;
	uint64_t bytes;   /* of the last segment */
	uint32_t written; /* the events before this number are written, ... */
	uint32_t synced;  /* ... those before this one are on the disk for certain, ... */
	uint32_t asked;   /* ... and those before this one are what the syncer is at, if it is syncing */
	bool syncing;
	bool fresh;       /* the directory may not have the last segment on disk */
	bool complete;    /* its mark is there: see journal_complete */
	bool failing;     /* the last attempt failed: said once, and tried again at retry_ms */
	int64_t asked_ms; /* when the syncer was asked last */
	int64_t retry_ms;
	int64_t look_ms;  /* when it is looked whether the file is still there */
	struct journal_record records[JOURNAL_BATCH];
};

/* Does the journal have all events, with --journal-sync always on the disk? */
enum journal_state { JOURNAL_STORED, JOURNAL_NOT_STORED, JOURNAL_SYNCING };

/* ---- users, roles, sessions ------------------------------------------------------------------- */

/* Somebody with a session. An id of at most 24 bytes stands in the record, a longer one on the heap. */
struct user {
	uint32_t hash;
	uint32_t first;    /* stream: the list goes on by conn.next */
	uint32_t streams;
	uint32_t sessions; /* the record is free when no session names it */
	uint8_t id_bytes;
	bool excluded;     /* from the event that is being routed */
	uint32_t first_session; /* the list goes on by session.next */
	union {
		char here[24];
		char *heap;
		uint32_t next_free;
	} id;
};

/* Bytes that wait: of a head that is not whole, or of an answer the kernel did not take. */
struct hold {
	uint32_t at, len, cap; /* bytes[at..len) wait */
	char bytes[];
};

/* Who vouches for a session, and so decides how long it lives. */
enum authority {
	BY_FILE,   /* as long as its line stands there */
	BY_DJANGO, /* as long as it has streams, or its answer is good */
	BY_TICKET  /* as long as it has streams */
};

/*
 * What an authority said about a token: who it is, and in which roles. Keyed by the token's
 * SHA-256 (see token_key), whose first bytes are the hash in the table. The token is kept only where Django will be
 * asked about it again, and not in clear: see session_seal.
 */
struct session {
	uint8_t key[32];
	uint32_t user;       /* 0: the record is free */
	uint32_t next, prev; /* session of the same user; of a free one, next is the next free */
	uint32_t streams;
	uint64_t roles;      /* one bit each */
	int64_t expire_at;   /* unix seconds: its streams end; 0: never */
	int64_t until_ms;    /* BY_DJANGO: the answer lets in until then */
	int64_t due_ms;      /* BY_DJANGO: then Django is asked again, if there are streams */
	struct hold *token;  /* sealed; NULL if it is not kept */
	struct hold *sid;    /* NULL if it has none */
	uint32_t sid_hash;
	uint32_t older, newer; /* its neighbours among those that are cached */
	uint8_t authority;
	bool listed; /* BY_FILE: stands in the token file that was read last */
	bool pressing; /* BY_DJANGO: a datagram said that it has changed, and Django has not answered yet */
	bool cached; /* has no streams, and waits for one until until_ms */
};

struct role {
	uint32_t sessions;
	uint8_t bytes;
	char name[MAX_NAME];
	struct set streams;
};

/* What a user id or role must be: 1 to 64 bytes of UTF-8, no control characters. NULL, or what is wrong. */
const char *name_error(struct span name);

/* ---- connections --------------------------------------------------------------------------------- */

#define CLOSE_REASONS(X) \
	X(done)      /* the answer was sent */ \
	X(gone)      /* the client closed */ \
	X(reset)     /* the connection broke */ \
	X(slow)      /* more events waited than the queue holds, or one was overwritten */ \
	X(stalled)   /* took nothing for the time of --write-stall */ \
	X(revoked)   /* the authority took the token back */ \
	X(expired)   /* its expire_at has come */ \
	X(chatter)   /* kept sending where nobody listens */ \
	X(idle)      /* a kept-alive connection asked nothing */ \
	X(too_many)  /* its address has too many connections */ \
	X(no_memory) \
	X(shutdown)  /* the server is going down */

enum close_reason {
#define X(name) CLOSE_##name,
	CLOSE_REASONS(X)
#undef X
	CLOSE_COUNT
};

enum conn_state {
	CONN_FREE,
	CONN_HEAD,    /* waits for a request, or for the rest of its head */
	CONN_WAIT,    /* waits for Django to say who its token is; the request stays in `in` */
	CONN_STREAM,  /* gets events */
	CONN_CLOSING, /* the last bytes are on their way; what comes in is dropped */
	CONN_DEAD,    /* to be reaped at the end of the turn */
	CONN_LINK     /* none of ours: this descriptor is a connection to Django */
};

/*
 * A connection, in one cache line. Its number is its descriptor: the kernel gives the lowest
 * that is free, so the array stays dense.
 */
struct conn {
	uint8_t state;
	bool chunked : 1;    /* HTTP/1.1: a stream's frames are chunks */
	bool keep_alive : 1; /* another request may follow */
	bool blocked : 1;    /* the kernel took less than it was given: wait for EPOLLOUT */
	bool tried : 1;      /* the last write left something */
	bool starved : 1;    /* blocked, but by want of kernel memory: EPOLLOUT won't tell, tick looks */
	bool hung_up : 1;    /* epoll said that the peer sends no more: read until its end comes */
	bool ended : 1;      /* it came */
	bool finished : 1;   /* we send no more: shutdown was called */
	bool abort : 1;      /* close by reset, what the kernel holds is dropped */
	bool shed : 1;       /* over --max-connections: gets the overload answer */
	bool asked : 1;      /* had an answer already: may wait for --idle-timeout */
	bool proxied : 1;    /* it comes from a --trusted-proxy */
	bool paced : 1;      /* its request was counted against --requests-per-address */
	bool counted : 1;    /* in counters.closed */
	bool admin : 1;      /* the operator's: it came by --admin, and counts against no limit of the others */
	uint32_t serial;     /* its name in the log */
	uint32_t since_ms;   /* of the last progress: bytes written, a state entered, blocked */
	uint32_t opened_ds;  /* when the stream began, in tenths of a second */
	struct hold *in, *out;
	union {
		struct http_scan scan; /* CONN_HEAD */
		struct {               /* CONN_WAIT */
			uint32_t question;
			uint32_t next, prev; /* waiting for the same answer */
			bool stream;         /* asks for a stream: of no use once the client has hung up */
		} wait;
		uint32_t link;         /* CONN_LINK: index of server.links */
		struct {               /* CONN_STREAM; session is 0 in any other state */
			uint32_t session;
			uint32_t next, prev; /* streams of the same user */
			uint32_t run_first;  /* pending: the events run_first .. run_first + run - 1, ... */
			uint16_t run, listed;
			uint32_t list;       /* ... then `listed` numbers in this block of the pool */
			uint32_t sent;       /* bytes of the oldest pending event that are written */
			uint32_t dropped;    /* bytes that came in and were dropped (CONN_CLOSING too) */
		} stream;
	} u;
};

/* ---- who may listen ------------------------------------------------------------------------------ */

/* What an authority says about a token: Django's answer, or the claims of a ticket. */
struct identity {
	struct span user, sid; /* sid is empty if there is none */
	struct span roles[MAX_ROLES];
	int role_count;
	int64_t expire_at;     /* unix seconds, 0: never */
	int64_t exp, nbf, iat; /* tickets: unix seconds, -1: not given */
	int iat_ms;            /* tickets: what iat has beyond them */
	bool has_audience, for_us; /* tickets: aud is there, and is or has "sse" */
	struct buf text;       /* over bytes: where the spans point to */
	char bytes[MAX_NAME * (MAX_ROLES + 2)];
};

/* Django's {"user":...,"roles":[...],"sid":...,"expire_at":...}. NULL, or what is wrong, and where. */
const char *answer_read(struct span text, struct identity *who, size_t *at);
/*
 * A ticket: JWT in compact form (RFC 7519, RFC 7515), HS256 with one of the keys. now_s is unix time,
 * leeway_s counts for nbf and iat. Nothing of the claims is looked at before the signature was found
 * right. Whether somebody was revoked since is not its business.
 */
enum refusal ticket_read(struct span ticket, const struct hmac_key *keys, int count, int64_t now_s, int64_t leeway_s,
	struct identity *who);
/* The keys of a --ticket-key-file: its lines, each at least 32 bytes (RFC 7518 section 3.2). Returns how
 * many, or -1 with a line in error. */
int ticket_keys_read(struct span text, struct hmac_key keys[MAX_KEYS], struct buf *error);

/* A token that was refused lately. */
struct verdict {
	uint8_t key[32];
	int64_t until_ms;
	enum refusal why;
};

/* Someone who was revoked lately: what was said of them before that counts no more. */
struct tombstone {
	uint32_t hash;
	uint8_t bytes;
	bool outdated;   /* there is a newer one */
	char id[MAX_NAME];
	uint64_t order;  /* of server.order, when it happened ... */
	int64_t wall_ms; /* ... and unix time */
};
enum tombstone_kind {
	TOMB_USER, TOMB_SID,
	TOMB_REFRESH, /* a user about whom Django has something new to say: its answers count no more, tickets do */
	TOMB_KINDS
};
struct tombstones {
	struct recent by_id;
	struct tombstone *list;
};

/* A question to Django about one token, however many connections wait for the answer. */
struct question {
	uint8_t key[32];   /* of the token, which stands in the head of who waits, or in a session */
	uint32_t first;    /* connection that waits; the list goes on by u.wait.next */
	uint32_t next;     /* in its queue; of a free record the next free */
	int64_t since_ms;  /* queued, then asked, at this time */
	uint64_t order;    /* of server.order, when it was asked */
	bool refresh;      /* about a live stream */
	bool late;         /* still with Django, but nobody waits: --auth-timeout is over */
	bool resent;       /* once more, because the connection was closed under it */
	uint8_t again;     /* how often the answer was too old */
};

struct queue {
	uint32_t first, last;
};

/* A connection to Django. It carries one question at a time. */
struct link {
	int fd;            /* -1: not open */
	uint32_t question; /* 0: idle */
	bool reused;       /* had an answer before: Django may just be closing it */
	int64_t since_ms;  /* idle since */
	struct buf out;    /* fixed: the request */
	size_t sent;
	struct buf in;     /* fixed: the answer */
};

/* Why a question got no answer: name in log and metrics, what is told. */
#define AUTH_FAILURES(X) \
	X(connect, "cannot connect") \
	X(closed, "closed the connection without an answer") \
	X(timeout, "took longer than --auth-timeout") \
	X(queue, "too many questions wait") \
	X(too_large, "the answer is longer than 16384 bytes") \
	X(not_http, "the answer is not HTTP/1") \
	X(status, "expected status 200, 401 or 403") \
	X(answer, "the answer is not what it must be") \
	X(stale, "answers were overtaken by revocations") \
	X(roles, "more than 64 different roles at a time") \
	X(memory, "no memory")
enum auth_failure {
#define X(name, text) AUTH_##name,
	AUTH_FAILURES(X)
#undef X
	AUTH_FAILURE_COUNT
};

/* Blocks of numbers for pending lists: a queue each, or more. Block 0 is none. */
struct pool {
	uint32_t *numbers;
	uint32_t width; /* numbers a block */
	uint32_t free;  /* first free block: each begins with the next one's number */
	uint32_t top;   /* blocks from here on were never used */
};

/* ---- the system ------------------------------------------------------------------------------------ */

/* Every call the running server makes; a test puts its own in. Contracts are those of the calls. */
struct sys {
	int (*accept4)(int, struct sockaddr *, socklen_t *, int);
	ssize_t (*recv)(int, void *, size_t, int);
	ssize_t (*sendmsg)(int, const struct msghdr *, int);
	int (*recvmmsg)(int, struct mmsghdr *, unsigned);
	ssize_t (*sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
	int (*shutdown)(int, int);
	int (*setsockopt)(int, int, int, const void *, socklen_t);
	int (*getpeername)(int, struct sockaddr *, socklen_t *);
	int (*close)(int);
	int (*epoll_ctl)(int, int, int, struct epoll_event *);
	int (*epoll_wait)(int, struct epoll_event *, int, int);
	int (*socket)(int, int, int);
	int (*bind)(int, const struct sockaddr *, socklen_t);
	int (*listen)(int, int);
	int (*connect)(int, const struct sockaddr *, socklen_t);
	int (*open)(const char *, int);
	ssize_t (*read)(int, void *, size_t);
	ssize_t (*write)(int, const void *, size_t);
	ssize_t (*pwritev)(int, const struct iovec *, int, off_t);
	int (*poll)(struct pollfd *, nfds_t, int);
	int (*clock_gettime)(clockid_t, struct timespec *);
};
extern const struct sys sys_linux;

/*
 * What {"op":"status"} is answered with, and sse --status shows: whole numbers, counted since the start unless the name
 * says otherwise.
 */
#define STATUS_NUMBERS(X) \
	X(pid) X(uptime_ms) X(draining) X(held) /* turns in which publishers were held back */ \
	X(connections) X(connections_max) X(streams) X(users) X(behind) X(dirty) /* streams with events to be written */ \
	X(datagrams) X(events) X(bad_lines) X(acks_lost) X(deliveries) X(sent_bytes) \
	X(slow) X(stalled) X(revoked) X(refused) X(replayed) X(resynced) \
	X(auth) /* 0 off, 1 ok, 2 failing, 3 not asked yet; so is journal */ X(auth_waiting) X(auth_questions) X(auth_failures) \
	X(journal) X(journal_segments) X(journal_errors) X(not_stored) \
	X(history_events) X(history_oldest_ms) /* unix time; 0: there is none */ X(newest_ms) /* of the newest id */ \
	X(busy_us) X(memory_bytes) X(files) X(files_max) X(log_lines_dropped) X(log_failing) \
	X(blocked) /* streams whose client does not read */
struct status {
	char version[32];
	int64_t answered_ms; /* the answer took so long: not a part of it */
#define X(name) int64_t name;
	STATUS_NUMBERS(X)
#undef X
};
/* The JSON of an answer to {"op":"status"}, into *status: false for any other text. Members it does not know are passed
 * over, those that are missing are 0: another version may be running. */
bool status_read(struct span json, struct status *status);
/* The text of sse --status: what is now, and since `before`, which is of the same program and earlier. */
void status_show(const struct status *before, const struct status *now, struct buf *b);

/*
 * What started the program, if it wants to hear from it (sd_notify(3)) and passes sockets (sd_listen_fds(3)).
 */
struct manager {
	int fd;            /* a socket to tell it by; -1: it does not want to hear */
	struct sockaddr_un address;
	socklen_t address_bytes;
	bool failing;      /* the last message could not be sent: said once */
	bool watchdog;     /* it waits for a sign of life */
	const char *state; /* "READY=1\n" or another one that it has not heard yet; NULL: it has */
	int64_t period_ms; /* how often it is told how things are ... */
	int64_t due_ms;    /* ... and when again */
	uint64_t events;   /* counters.events when it was told last, at told_ms */
	int64_t told_ms;
	int passed;        /* sockets, from descriptor 3 on ... */
	const char *names; /* ... and their names, with colons between; NULL: none */
};

/* ---- the server --------------------------------------------------------------------------------------- */

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO };

/* Lines that may come in floods: at most `most` in `window_ms`, then one that says how many more. */
#define FLOODS(X) \
	X(accept, 1, 10000) \
	X(datagram, 100, 1000) \
	X(refused, 200, 1000) \
	X(auth, 1, 60000) \
	X(auth_again, 1, 60000) \
	X(ack, 1, 10000) \
	X(journal, 10, 10000) \
	X(journal_slow, 1, 60000)
enum flood {
#define X(name, most, window_ms) FLOOD_##name,
	FLOODS(X)
#undef X
	FLOOD_COUNT
};

struct log {
	int fd;
	bool shared;     /* stderr as it was given to us: a write might wait for its reader, so poll first */
	bool priorities; /* systemd's journal reads it: each line begins with one, as "<4>" */
	bool failing;    /* the last write failed: said once, and counted */
	bool torn;       /* it ended within a line */
	bool lost;       /* its file could not be opened again */
	char bytes[65536];
	struct buf line; /* over bytes: whole lines not yet written, then the one being made */
	struct buf none; /* takes a line below --log-level */
	size_t whole;    /* bytes of whole lines */
	int64_t stamp_s; /* of the text in stamp */
	char stamp[24];
	uint64_t dropped, dropped_said, dropped_told; /* lines: lost; lost and said; and that was written */
	struct {
		int64_t since_ms;
		uint32_t count, more;
	} floods[FLOOD_COUNT];
};

enum {
	INTAKE_BATCH = 32,  /* datagrams taken from the socket at once */
	LINES_A_TURN = 1000 /* of datagrams, before streams and connections get theirs */
};

/* Datagrams taken from the socket, and how far the present one has been read. */
struct intake {
	bool readable; /* the socket may hold more */
	bool last;     /* nothing more is received: going down */
	bool waiting;  /* its answers wait for the disk */
	int have, next;
	int64_t taken_us; /* when these datagrams were taken from the socket */
	int64_t moved_ms; /* when the last of them was read, or there was none */
	size_t at;      /* in datagram `next` ... */
	uint32_t lines; /* ... of which so many were not blank */
	char *bytes;
	struct mmsghdr messages[INTAKE_BATCH];
	struct iovec iov[INTAKE_BATCH];
	struct sockaddr_un names[INTAKE_BATCH];
	int answered;   /* datagrams before this one have their answers */
	char ack_bytes[32768];
	struct buf acks; /* fixed: answers that were not sent yet */
	uint32_t ends[INTAKE_BATCH]; /* where in acks those to datagram i end */
	uint32_t events[LINES_A_TURN]; /* where in acks those to events end that the journal may not have yet */
	uint32_t event_count;
};

struct listener {
	int fd;
	bool resting;     /* accept failed for want of descriptors: not polled until the next tick */
	bool local;       /* a Unix socket */
	bool admin;       /* the operator's */
	const char *path; /* of a Unix socket that this program made, else NULL; dev and ino: remove only what is ours */
	dev_t dev;
	ino_t ino;
};

/* Upper bounds of a histogram's buckets: microseconds, and as Prometheus writes them. */
#define LATENCY_BOUNDS(X) \
	X(500, "0.0005") X(1000, "0.001") X(2500, "0.0025") X(5000, "0.005") X(10000, "0.01") X(25000, "0.025") \
	X(50000, "0.05") X(100000, "0.1") X(250000, "0.25") X(500000, "0.5") X(1000000, "1") X(2500000, "2.5") \
	X(5000000, "5") X(10000000, "10") X(INT64_MAX, "+Inf")

enum latency_bucket {
#define X(bound, text) LATENCY_##bound,
	LATENCY_BOUNDS(X)
#undef X
	LATENCY_BUCKETS
};
enum { LATENCY_MARKS = 64 };

/*
 * From when an event was taken in until it was written to the last stream that could take it. Events that were taken
 * in together have one mark; where there are more marks than room, the last one counts for those behind it.
 */
struct latency {
	struct {
		uint32_t end;     /* number behind the last of its events */
		int64_t taken_us; /* monotonic */
	} marks[LATENCY_MARKS];
	uint32_t mark_count;
	uint32_t counted;     /* the events before this number were */
	uint32_t pass;        /* those before this one were there when the pass over the dirty ones began */
	uint64_t buckets[LATENCY_BUCKETS];
	uint64_t sum_us;
};

struct counters {
	uint64_t events, deliveries, sends, sent_bytes, connections, streams;
	uint64_t datagrams, lines, bad_lines, acks_lost, accept_errors, held;
	uint64_t questions, refreshes, allowed, denied, resent, overtaken, failed[AUTH_FAILURE_COUNT];
	uint64_t resumed[RESUME_COUNT]; /* streams that came with an id */
	uint64_t not_stored;  /* events the journal did not have when they were answered */
	uint64_t journal_errors;
	uint64_t revocations; /* datagrams with op revoke; closed[CLOSE_revoked] has the streams */
	uint64_t refused[REFUSE_COUNT], closed[CLOSE_COUNT];
};

/* What the kernel says of this process. */
struct process {
	bool looked;
	int64_t looked_ms;
	int64_t files, resident_bytes, virtual_bytes;
};

/* All there is: no state outside. */
struct server {
	struct options opt;
	const struct sys *sys;
	int64_t now_us;  /* monotonic, read when last needed */
	int64_t now_ms;  /* monotonic, read once a turn, as is */
	int64_t wall_ms; /* unix time */
	int64_t started_ms, started_wall_ms;
	struct counters count;
	struct latency latency;
	uint64_t busy_us; /* of all turns, without waiting */
	struct log log;

	int epoll, signals;
	int spare; /* a descriptor held back, so that a client can be told there are none */
	struct listener listeners[2 * MAX_LISTEN]; /* of --listen, and of --admin */
	int listener_count;
	struct listener datagrams; /* the socket events come in by ... */
	int answers;               /* ... and one that answers go out by; -1: the same */
	uint32_t answers_sent;     /* by that one */
	bool draining, stop;
	int64_t drain_until_ms;

	struct manager manager;
	struct process process;

	struct ring ring;
	struct journal journal;

	/* connections, by descriptor */
	struct conn *conns;
	uint32_t conns_max;  /* length of the array and of every set of connections */
	uint32_t conns_soft; /* more than so many open: overload */
	uint32_t admins;     /* of them the operator's */
	uint32_t serial;
	struct set open;     /* every state but CONN_FREE */
	struct set streams;
	struct set dirty;    /* something to write, and not blocked */
	struct set unread;   /* the kernel may hold input for it */
	struct set dead;     /* to be reaped */
	struct set crowded;  /* hold much of a queue, and may be about to take it: see conn_crowd */
	struct set behind;   /* streams that are caught up from the ring: see stream_catch_up */
	struct set catching; /* those of them that are not blocked: what dirty is to the others */
	uint32_t *counted;   /* by connection, of those behind: the last event that was counted as theirs */
	uint32_t *sources_of; /* by connection: the source that it counts for; 0: none */
	struct pool lists;
	uint32_t cursor;       /* where the next slice of dirty connections begins ... */
	uint32_t catch_cursor; /* ... and of those that are caught up */
	size_t looked;         /* bytes looked at for these in this turn */
	uint32_t crowd_untried, crowd_blocked; /* events that make a connection crowded */
	uint64_t pass_from;    /* ring.end when the pass over the dirty ones began */
	uint32_t sweep_word;   /* where the next tick's walk begins */
	uint32_t sweep_ticks;  /* ticks that a walk over all connections takes */
	int64_t next_tick_ms;
	void *memory;          /* every array here is a part of it */
	size_t memory_bytes;

	/* where they come from; record 0 of each is none */
	struct network proxies[MAX_LISTEN];
	int proxy_count;
	struct source *sources;
	uint32_t sources_top, sources_free;
	struct table sources_by_address;
	struct recent paces_by_address;
	struct pace *paces;
	struct address asker; /* who sent the request that is being answered ... */
	bool asker_known;     /* ... if that is known, and not a proxy */

	/* who they are; record 0 of each is none */
	uint8_t hash_key[16];
	uint64_t random;
	struct user *users;
	uint32_t users_top, users_free;
	struct set online; /* users who have streams */
	struct table users_by_id;
	struct session *sessions;
	uint32_t sessions_top, sessions_free;
	struct table sessions_by_key;
	struct table sessions_by_sid;
	uint32_t records_max;  /* length of users and sessions */
	uint32_t cache_first, cache_last, cached; /* sessions without streams, oldest first */
	struct role roles[MAX_ROLES];

	/* who may listen: tickets, and what Django says */
	int token_count; /* lines of the token file */
	struct hmac_key ticket_keys[MAX_KEYS];
	int ticket_key_count;
	struct hmac_key seal;
	uint64_t order; /* counts questions and revocations: which was first? */
	struct recent verdicts_by_key;
	struct verdict *verdicts;
	struct tombstones tombstones[TOMB_KINDS];
	struct question *questions;
	uint32_t questions_top, questions_free, questions_open, refreshes_open;
	struct table questions_by_key;
	struct queue connects, refreshes; /* questions not asked yet */
	struct link links[MAX_LINKS];
	int asking;                       /* questions on their way */
	bool links_rest;                  /* Django's socket takes no more connections: wait for a tick */
	bool auth_failing;                /* the last question failed */
	struct sockaddr_storage auth_address;
	socklen_t auth_address_bytes;
	struct span auth_host, auth_path; /* of --auth-url */
	char auth_key[257];

	struct intake intake;
	struct buf scratch;   /* growable: an answer or a frame in the making */
	struct buf body;      /* growable: what goes into it */
	struct buf token;     /* fixed: a token without its escapes */
	struct buf compact;   /* fixed, one datagram long: an event's data ... */
	struct buf who;       /* ... and its audience, packed */
	struct buf keepalive; /* fixed: the chunk of this tick's keepalive */
	size_t keepalive_before;
	char keepalive_bytes[128];
	char date[32];        /* of the Date header, for second date_s */
	int64_t date_s;
	char input[65536];    /* what was received last */
	struct iovec iov[1024];
};

/*
 * Reserves memory and reads the token file; opens no sockets. connections: how many descriptors
 * there may be. False with a line in error. server_free undoes it.
 */
bool server_init(struct server *s, const struct options *o, const struct sys *sys, uint32_t connections,
	struct buf *error);
void server_free(struct server *s);
/* Reads --ticket-key-file, --auth-key-file again. False, with a line in error and nothing changed. */
bool ticket_keys_load(struct server *s, struct buf *error);
bool auth_key_load(struct server *s, struct buf *error);
/* Reads --token-file again. False, with a line in error and nothing changed, if it has a mistake. */
bool tokens_load(struct server *s, struct buf *error);
/* A new connection with this descriptor, the operator's or not, and bytes that came in on it. */
struct conn *conn_open(struct server *s, int fd, bool admin);
void conn_feed(struct server *s, struct conn *c, const char *bytes, size_t n);
/* What epoll says of it: EPOLLIN, EPOLLOUT, ... */
void conn_event(struct server *s, struct conn *c, uint32_t events);
/* Takes one line of a datagram; appends its answer, one line without the newline, to ack. */
void datagram_line(struct server *s, struct span text, struct buf *ack);
/* Writes a slice of the dirty connections. */
void deliver_slice(struct server *s);
/* May the loop take in more events now? False while a stream is crowded: see conn_crowd. */
bool deliver_keeps_up(const struct server *s);
/* Whatever time asks for: deadlines, keepalives. Call it once s->next_tick_ms has come. */
void tick(struct server *s);
/* Closes what was found dead in this turn. */
void conn_reap(struct server *s);
/* Locks --journal and fills the ring from it; nothing without one. False, with a line in error. */
bool journal_open(struct server *s, struct buf *error);
/* What the syncer has to say. */
void journal_synced(struct server *s);
/* The end: what is not written yet is, and where it stops is marked. Waits for the disk. */
void journal_close(struct server *s);
/*
 * Takes the sockets that the service manager passes: a Unix datagram socket, for events; listening stream sockets, the
 * operator's if they are named admin. False with a line in error if there is any other.
 */
bool passed_take(struct server *s, struct buf *error);
/* Opens the sockets, but for a kind of which one was passed; false with a line in error. */
bool server_listen(struct server *s, struct buf *error);
/* One turn of the loop: waits at most wait_ms, less if there is work. */
void server_turn(struct server *s, int wait_ms);
/* The address a listener is bound to, "127.0.0.1:8090" or "unix:/run/sse/http.sock". */
void listener_address(const struct listener *l, struct buf *b);
/* What --admin has at /metrics: Prometheus's text format 0.0.4. */
void metrics_write(struct server *s, struct buf *b);

#endif
