/*
 * load - holds many event streams open, publishes events, and measures how they arrive.
 *
 * One process with one epoll loop reads all streams; child processes publish. It prints one line of JSON on stdout
 * and the same figures as a table on stderr. It must cost less than what it measures: look at client_cpu_s beside
 * server_cpu_s before you believe a throughput.
 *
 *     load --connect 127.0.0.1:8080 --path '/api/v1/sse/events/?token=%s' --tokens tokens.txt --streams 10000 \
 *          --publish unix:/run/sse/events.sock --rate 4 --seconds 10 --pid $(pidof -s sse)
 *
 * `load --help` lists every option. What is not obvious from there:
 *
 * A run has phases: connect; settle; hold; publish, until all has arrived or --quiet passes with nothing new; drain
 * the slow streams, to see which of them the server has closed; close (shutdown first, so that nobody gets a reset).
 * After --limit seconds it ends wherever it is. Load goes to loopback only; any other address is refused.
 *
 * Tokens: the first word of each line of --tokens, used in turn; the second word is the user and the third the roles
 * (A,B): the form of sse's own token file. Without a second word, the user is the stream's number. A %s or %d in
 * --path or --header is where the token stands; without any token it is the stream's number.
 *
 * Events: {"event":"bench.tick","data":{"seq":17,"t":123456789,"pad":"xxx"},"to":"all"} in one datagram or POST;
 * --raw-body sends only the data object. t is CLOCK_MONOTONIC in nanoseconds, read just before the send, so time for
 * which the send was blocked counts as latency. Of K publishers the Pth sends the seqs P, P+K, P+2K ...; on every
 * stream and for each publisher seqs must rise by one. With --to users event SEQ goes to user SEQ mod USERS.
 *
 * Checks: an event counts when its whole "data:" line is here.
 *     missing      was to reach a stream, and has not. With --to role:NAME it needs the tokens' roles. Events that a
 *                  stream had not received when it was closed are missing too.
 *     repeated     came twice (or came more than 64 events late)
 *     disordered   came after one with a higher seq
 *     stray        came to a stream of another user or role
 * --check full looks at each event. sample does so on each 16th stream, and on the others counts events, so that a
 * loss still shows, but no order. count looks at each 256th, and has the kernel throw away the bytes of the others:
 * their deliveries are taken from their number of bytes, and only the streams looked at can miss anything.
 *
 * Replays (--expect): nothing is published. The streams come with --last-event-id, and each is to get the events with
 * the seqs 0 to N-1 that another run has published before, to them and with one publisher; more than that is
 * "repeated". They connect all at once, with a --connect-window as large as --streams. replay_first_ns is when the
 * first began to connect, replay_last_ns when the last had its last event (CLOCK_MONOTONIC), done_p50_ms and the like
 * from the former until so many of them had theirs.
 *
 * Answers (--in-flight): each publisher binds its socket, so that its datagrams are answered, and keeps at most so many
 * of them unanswered. acked_per_s goes from the first send to the last answer. With --streams 0 nobody listens. The
 * answers wait in a datagram queue too: with more in flight than net.unix.max_dgram_qlen some are lost.
 *
 * --trace FILE: when each event that was looked at was sent, and its latency, two numbers of 64 bits in nanoseconds.
 *
 * Slow streams (--slow, the last ones) have a small receive buffer and stop reading once they are connected. Their
 * events are not counted anywhere.
 *
 * CPU is the run time of all threads of the processes in --pid, in nanoseconds, from /proc/PID/task/X/schedstat.
 * It includes soft interrupts that ran on their account; on loopback those are most of TCP, for both directions.
 * server_cpu_us_per_delivery covers the publishing phase, and goes by what readers received. Resident memory is that
 * of smaps_rollup. Latencies are microseconds, with an error of at most 1 %; they include the client's own queue:
 * after one event to 10,000 streams the last of them is read some 20 ms after the first, however fast the server is.
 *
 * Traps, all seen on loopback with 2 cores. A queue of 10 datagrams (net.unix.max_dgram_qlen) is refilled or not by
 * chance of scheduling, so that the throughput of a server that takes all that waits varies fourfold between runs:
 * measure with 512, as systemd sets it ("unshare -n" gives a namespace of one's own to set it in), or repeat. Each
 * recv here sends an ACK, and the server's half of that work is on this process' account, not on the server's. Above
 * some 8 million deliveries a second this process is the limit: then use --check count.
 *
 * Exit status: 0 if all streams were connected and stayed open, nothing was missing, repeated, disordered or stray,
 * and all was answered; 1 otherwise; 2 for wrong usage.
 *
 * How it reads: recv goes into one big buffer, behind what the stream had left over. The chunk headers are taken out
 * in place, and then whole lines are looked at. What stays is the beginning of a line, at most LINE_KEEP bytes of it,
 * since the seq stands at the front; a stream between events owns 24 bytes and 16 for each publisher.
 *
 * Build: cc -std=c11 -O2 -o load bench/load.c
 *
 * Sections: options, tokens, histogram, processes, publishers, run, scanner, streams, phases, report.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	HEADERS_MAX = 8,
	PUBLISHERS_MAX = 16,
	IN_FLIGHT_MAX = 400,
	HEAD_MAX = 8192,          /* a response head */
	LINE_KEEP = 512,          /* of a line that is not whole yet; seq and t must stand within it */
	RECV_MAX = 256 * 1024,
	REQUEST_MAX = 8192,
	SLOW_RCVBUF = 4096,
	SAMPLE_EACH = 16,         /* --check sample: one stream in so many is read in full */
	COUNT_EACH = 256,         /* --check count */
	EVENTS_MAX = 512,         /* of one epoll_wait */
	TICK_MS = 20,             /* how often a phase looks whether it is over */
	DRAIN_QUIET_MS = 500,
	DRAIN_MAX_MS = 5000,
	ANSWER_S = 20,            /* a publisher waits so long for an answer */
};

/* A figure that there is none of: null in the JSON. It is a NaN, and the only value that differs from itself. */
#define NOT_MEASURED __builtin_nan("")

static _Noreturn __attribute__((format(printf, 2, 3))) void die(int status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("load: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(status);
}

static void *allocate(size_t count, size_t size)
{
	void *p = calloc(count ? count : 1, size);
	if (!p)
		die(1, "out of memory");
	return p;
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t ns_of(double seconds)
{
	return (uint64_t)(seconds * 1e9);
}

/* ---- options ---------------------------------------------------------------------------------------------- */

enum check { CHECK_FULL, CHECK_SAMPLE, CHECK_COUNT };
enum audience { TO_ALL, TO_ROLE, TO_USERS };

struct config {
	const char *connect, *path, *tokens, *token, *ready, *publish, *to, *check_name, *pids, *label;
	const char *last_event_id, *trace;
	const char *headers[HEADERS_MAX], *publish_headers[HEADERS_MAX];
	uint32_t streams, window, sources, publishers, events, burst, size, slow, in_flight, replayed;
	double rate, seconds, settle, hold, quiet, limit;
	bool raw_body;
	/* worked out from the above */
	enum check check;
	enum audience audience;
	const char *role;         /* with TO_ROLE */
	bool ready_at_head;
};

enum kind { TEXT, NUMBER, REAL, FLAG, LIST };

#define OPTIONS(X) \
	X("connect",        TEXT,   connect,         NULL,   "HOST:PORT or unix:/path of the server (required)") \
	X("path",           TEXT,   path,            "/api/v1/sse/events/?token=%s", "request target; %s is the token") \
	X("header",         LIST,   headers,         NULL,   "'Name: value' for the request; may be repeated; %s is the token") \
	X("tokens",         TEXT,   tokens,          NULL,   "file of lines TOKEN [USER [ROLE,ROLE]], used in turn") \
	X("token",          TEXT,   token,           NULL,   "one token for all") \
	X("streams",        NUMBER, streams,         "1000", "how many streams") \
	X("connect-window", NUMBER, window,          "256",  "connections being opened at once") \
	X("sources",        NUMBER, sources,         "0",    "source addresses 127.0.0.1 and up; 0: one for each 5000") \
	X("ready",          TEXT,   ready,           "event", "a stream is connected at its first 'event', or at the 'head'") \
	X("last-event-id",  TEXT,   last_event_id,   NULL,   "the streams say that this is the last event they have") \
	X("expect",         NUMBER, replayed,        "0",    "each stream gets so many events of an earlier run") \
	X("slow",           NUMBER, slow,            "0",    "the last so many streams never read") \
	X("publish",        TEXT,   publish,         NULL,   "unix:/path (datagrams) or http://HOST:PORT/path; none: no events") \
	X("publish-header", LIST,   publish_headers, NULL,   "'Name: value' for each POST; may be repeated") \
	X("publishers",     NUMBER, publishers,      "1",    "publishing processes") \
	X("rate",           REAL,   rate,            "0",    "events a second, of all publishers; 0: as fast as they can") \
	X("in-flight",      NUMBER, in_flight,       "0",    "have datagrams answered, so many at most not yet; 0: not") \
	X("burst",          NUMBER, burst,           "1",    "so many events at once, then wait for as many turns") \
	X("events",         NUMBER, events,          "0",    "publish so many events; 0: see --seconds") \
	X("seconds",        REAL,   seconds,         "0",    "publish for so long; 0 and no --events: 10") \
	X("size",           NUMBER, size,            "100",  "bytes of an event's data object") \
	X("to",             TEXT,   to,              "all",  "all, role:NAME, or users (the next user for each event)") \
	X("raw-body",       FLAG,   raw_body,        NULL,   "send the data object only") \
	X("check",          TEXT,   check_name,      "sample", "full, sample or count") \
	X("pid",            TEXT,   pids,            NULL,   "PID[,PID] of the server, to measure it") \
	X("settle",         REAL,   settle,          "1",    "seconds between connecting and measuring memory") \
	X("hold",           REAL,   hold,            "0",    "seconds to hold the idle streams and measure CPU") \
	X("quiet",          REAL,   quiet,           "3",    "all is published: give up after so many seconds of silence") \
	X("limit",          REAL,   limit,           "120",  "the whole run ends after so many seconds") \
	X("trace",          TEXT,   trace,           NULL,   "file for when each event was sent, and its latency") \
	X("label",          TEXT,   label,           "",     "a name for the run, copied to the JSON")

static const struct option {
	const char *name;
	enum kind kind;
	size_t offset;
	const char *value, *help;
} options[] = {
#define ROW(name, kind, field, value, help) {name, kind, offsetof(struct config, field), value, help},
	OPTIONS(ROW)
#undef ROW
};
enum { OPTION_COUNT = sizeof options / sizeof *options };

static void usage_print(void)
{
	puts("usage: load --connect HOST:PORT --streams N [--name value ...]");
	for (size_t i = 0; i < OPTION_COUNT; i++) {
		printf("  --%-15s %s", options[i].name, options[i].help);
		printf(options[i].value && *options[i].value ? " (%s)\n" : "\n", options[i].value);
	}
}

static void option_list_add(const char **list, const struct option *o, const char *text)
{
	for (size_t i = 0; i < HEADERS_MAX; i++) {
		if (!list[i]) {
			list[i] = text;
			return;
		}
	}
	die(2, "--%s: at most %d", o->name, HEADERS_MAX);
}

static void option_set(struct config *c, const struct option *o, const char *text)
{
	void *field = (char *)c + o->offset;
	char *end = NULL;
	double number = o->kind == NUMBER || o->kind == REAL ? strtod(text, &end) : 0;
	if (end && (end == text || *end || !(number >= 0 && number <= 4e9)))
		die(2, "--%s: not a number that will do: %s", o->name, text);
	switch (o->kind) {
	case TEXT: *(const char **)field = text; break;
	case NUMBER: *(uint32_t *)field = (uint32_t)number; break;
	case REAL: *(double *)field = number; break;
	case FLAG: *(bool *)field = true; break;
	case LIST: option_list_add(field, o, text); break;
	}
}

static const struct option *option_find(const char *arg)
{
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (strncmp(arg, "--", 2) == 0 && strcmp(arg + 2, options[i].name) == 0)
			return &options[i];
	die(2, "unknown option: %s (see --help)", arg);
}

static size_t word_index(const char *option, const char *word, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(word, words[i]) == 0)
			return i;
	die(2, "--%s: unknown: %s", option, word);
}

static void config_work_out(struct config *c)
{
	static const char *const checks[] = {"full", "sample", "count"}, *const readies[] = {"event", "head"};
	static const char *const audiences[] = {"all", "role", "users"};
	bool role = strncmp(c->to, "role:", 5) == 0;
	if (!c->connect)
		die(2, "--connect is required (see --help)");
	c->check = (enum check)word_index("check", c->check_name, checks, 3);
	c->ready_at_head = word_index("ready", c->ready, readies, 2) == 1;
	c->audience = (enum audience)word_index("to", role ? "role" : c->to, audiences, 3);
	c->role = role ? c->to + 5 : NULL;
	if (c->publishers < 1 || c->publishers > PUBLISHERS_MAX)
		die(2, "--publishers: 1 to %d", PUBLISHERS_MAX);
	if (c->in_flight > IN_FLIGHT_MAX)
		die(2, "--in-flight: at most %d", IN_FLIGHT_MAX);
	if (c->in_flight && (!c->publish || strncmp(c->publish, "unix:", 5) != 0))
		die(2, "--in-flight: only datagrams are answered (--publish unix:/path)");
	if (c->replayed && (c->publish || c->slow || c->check != CHECK_FULL))
		die(2, "--expect: with --check full, and without --publish and --slow");
	if (c->slow > c->streams)
		die(2, "--slow: more than --streams");
	if (c->burst < 1 || c->window < 1)
		die(2, "--burst, --connect-window: at least 1");
	if (c->events == 0 && c->seconds <= 0)
		c->seconds = 10;
	if (c->sources == 0)
		c->sources = 1 + c->streams / 5000;
}

static void config_read(struct config *c, int argc, char **argv)
{
	for (size_t i = 0; i < OPTION_COUNT; i++)
		if (options[i].value)
			option_set(c, &options[i], options[i].value);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0) {
			usage_print();
			exit(0);
		}
		const struct option *o = option_find(argv[i]);
		if (o->kind != FLAG && i + 1 == argc)
			die(2, "--%s: needs a value", o->name);
		option_set(c, o, o->kind == FLAG ? NULL : argv[++i]);
	}
	config_work_out(c);
}

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_un un;
	} at;
	socklen_t len;
};

/* "unix:/path" or "HOST:PORT", where a path may follow the port. Anything but loopback is refused. */
static struct address address_read(const char *option, const char *text)
{
	struct address a = {0};
	char host[64] = "";
	unsigned port = 0;
	if (strncmp(text, "unix:", 5) == 0) {
		if (strlen(text + 5) >= sizeof a.at.un.sun_path)
			die(2, "--%s: path too long: %s", option, text);
		a.at.un.sun_family = AF_UNIX;
		memcpy(a.at.un.sun_path, text + 5, strlen(text + 5));
		a.len = sizeof a.at.un;
		return a;
	}
	if (sscanf(text, "%63[^:]:%u", host, &port) != 2 || port == 0 || port > 65535)
		die(2, "--%s: expected HOST:PORT or unix:/path: %s", option, text);
	a.at.in.sin_family = AF_INET;
	a.at.in.sin_port = htons((uint16_t)port);
	a.len = sizeof a.at.in;
	if (inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &a.at.in.sin_addr) != 1
			|| ntohl(a.at.in.sin_addr.s_addr) >> 24 != 127)
		die(2, "--%s: only loopback addresses (127.x.x.x): %s", option, host);
	return a;
}

/* ---- tokens ----------------------------------------------------------------------------------------------- */

struct token {
	const char *text, *user;
	uint32_t user_index;      /* users are numbered in the order in which the file first has them */
	bool has_role;            /* the role that --to names */
};

struct tokens {
	struct token *list;
	uint32_t count;
	const char **users;
	uint32_t user_count;
	bool roles_known;         /* the file had a third column */
};

/* Is word one of the comma-separated words of list? */
static bool list_has(const char *list, const char *word)
{
	size_t n = strlen(word);
	for (const char *p = list; p; p = strchr(p, ',')) {
		p += *p == ',';
		if (strncmp(p, word, n) == 0 && (p[n] == '\0' || p[n] == ','))
			return true;
	}
	return false;
}

/* Takes a token's line apart. Comments and empty lines give nothing. */
static void token_add(struct tokens *t, char *line, const char *role)
{
	if (line[strspn(line, " \t\r\n")] == '\0' || *line == '#')
		return;
	line = strdup(line);
	if (!line)
		die(1, "out of memory");
	char *rest = NULL, *text = strtok_r(line, " \t\r\n", &rest);
	char *user = strtok_r(NULL, " \t\r\n", &rest), *roles = user ? strtok_r(NULL, " \t\r\n", &rest) : NULL;
	t->list[t->count++] = (struct token){.text = text, .user = user, .has_role = roles && role && list_has(roles, role)};
	t->roles_known |= roles != NULL;
}

static int token_user_compare(const void *a, const void *b)
{
	const struct token *x = *(const struct token *const *)a, *y = *(const struct token *const *)b;
	int order = strcmp(x->user, y->user);
	return order ? order : (x > y) - (x < y);
}

/* Numbers the users. Sorting shows each token the first one of the same user; those are then counted in order. */
static void tokens_number_users(struct tokens *t)
{
	struct token **sorted = allocate(t->count, sizeof *sorted), *first = NULL;
	t->users = allocate(t->count, sizeof *t->users);
	for (uint32_t i = 0; i < t->count; i++)
		sorted[i] = &t->list[i];
	qsort(sorted, t->count, sizeof *sorted, token_user_compare);
	for (uint32_t i = 0; i < t->count; i++) {
		if (!first || strcmp(first->user, sorted[i]->user) != 0)
			first = sorted[i];
		sorted[i]->user_index = (uint32_t)(first - t->list);
	}
	for (uint32_t i = 0; i < t->count; i++) {
		bool is_first = t->list[i].user_index == i;
		if (is_first)
			t->users[t->user_count] = t->list[i].user;
		t->list[i].user_index = is_first ? t->user_count++ : t->list[t->list[i].user_index].user_index;
	}
	free(sorted);
}

static void tokens_read_file(struct tokens *t, const char *path, const char *role)
{
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t room = 0, have = 0;
	if (!file)
		die(2, "--tokens: %s: %s", path, strerror(errno));
	while (getline(&line, &room, file) > 0) {
		if (t->count == have) {
			have = have ? have * 2 : 1024;
			t->list = realloc(t->list, have * sizeof *t->list);
		}
		if (!t->list)
			die(1, "out of memory");
		token_add(t, line, role);
	}
	free(line);
	fclose(file);
	if (t->count == 0)
		die(2, "--tokens: %s: no tokens", path);
}

static char *text_of_number(uint32_t n)
{
	char text[16];
	snprintf(text, sizeof text, "%u", n);
	return strdup(text);
}

static void tokens_read(struct tokens *t, const struct config *c)
{
	if (c->tokens) {
		tokens_read_file(t, c->tokens, c->role);
	} else {
		t->list = allocate(c->streams, sizeof *t->list);
		for (t->count = 0; t->count < c->streams; t->count++)
			t->list[t->count].text = c->token ? c->token : text_of_number(t->count);
	}
	for (uint32_t i = 0; i < t->count; i++)
		if (!t->list[i].user)
			t->list[i].user = text_of_number(i);
	tokens_number_users(t);
}

/* ---- histogram -------------------------------------------------------------------------------------------- */

/* Log-linear: 128 steps for each power of two, so a value is known to better than 1 %. */
enum { HIST_BITS = 7, HIST_STEPS = 1 << HIST_BITS, HIST_SIZE = (64 - HIST_BITS + 1) * HIST_STEPS };

struct histogram {
	uint64_t total, max;
	uint64_t counts[HIST_SIZE];
};

static void histogram_add(struct histogram *h, uint64_t value)
{
	unsigned bits = value ? 64 - (unsigned)__builtin_clzll(value) : 0;
	unsigned row = bits > HIST_BITS ? bits - HIST_BITS : 0;
	uint64_t step = row ? value >> (row - 1) : value;    /* its top bit is the row's, and is left out */
	h->counts[row * HIST_STEPS + (step & (HIST_STEPS - 1))]++;
	h->total++;
	h->max = value > h->max ? value : h->max;
}

static void histogram_join(struct histogram *all, const struct histogram *h)
{
	for (size_t i = 0; i < HIST_SIZE; i++)
		all->counts[i] += h->counts[i];
	all->total += h->total;
	all->max = h->max > all->max ? h->max : all->max;
}

static double histogram_value(size_t index)
{
	size_t row = index >> HIST_BITS, step = index & (HIST_STEPS - 1);
	return (double)(row == 0 ? (uint64_t)step : (uint64_t)(HIST_STEPS + step) << (row - 1));
}

/* The value below which the given share of all values lies; NOT_MEASURED without values. */
static double histogram_at(const struct histogram *h, double share)
{
	double want = share * (double)h->total;
	uint64_t seen = 0;
	for (size_t i = 0; i < HIST_SIZE && h->total; i++) {
		seen += h->counts[i];
		if (seen && (double)seen >= want)
			return histogram_value(i);
	}
	return NOT_MEASURED;
}

/* ---- processes: what the server costs --------------------------------------------------------------------- */

struct cost {
	double cpu_s, user_s, sys_s;     /* cpu_s is exact; the other two count clock ticks */
	double rss, pss;                 /* bytes */
};

static size_t file_read(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "r");
	size_t n = file ? fread(text, 1, size - 1, file) : 0;
	if (file)
		fclose(file);
	text[n] = '\0';
	return n;
}

static double kilobytes_in(const char *text, const char *key)
{
	const char *at = strstr(text, key);
	return at ? strtod(at + strlen(key), NULL) * 1024 : 0;
}

static double threads_cpu_s(long pid)
{
	char path[300], text[128];
	double sum_ns = 0;
	snprintf(path, sizeof path, "/proc/%ld/task", pid);
	DIR *dir = opendir(path);
	if (!dir)
		die(1, "--pid: %s: %s", path, strerror(errno));
	for (struct dirent *e; (e = readdir(dir));) {
		snprintf(path, sizeof path, "/proc/%ld/task/%s/schedstat", pid, e->d_name);
		if (e->d_name[0] != '.' && file_read(path, text, sizeof text))
			sum_ns += strtod(text, NULL);
	}
	closedir(dir);
	return sum_ns / 1e9;
}

static void cost_add_process(struct cost *cost, long pid)
{
	char path[64], text[4096];
	unsigned long user = 0, sys = 0, pages = 0;
	double tick = (double)sysconf(_SC_CLK_TCK);
	cost->cpu_s += threads_cpu_s(pid);
	snprintf(path, sizeof path, "/proc/%ld/stat", pid);
	file_read(path, text, sizeof text);
	const char *after_name = strrchr(text, ')');
	if (after_name)
		sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys);
	cost->user_s += (double)user / tick;
	cost->sys_s += (double)sys / tick;
	snprintf(path, sizeof path, "/proc/%ld/smaps_rollup", pid);
	if (file_read(path, text, sizeof text)) {
		cost->rss += kilobytes_in(text, "\nRss:");
		cost->pss += kilobytes_in(text, "\nPss:");
		return;
	}
	snprintf(path, sizeof path, "/proc/%ld/statm", pid);
	file_read(path, text, sizeof text);
	sscanf(text, "%*u %lu", &pages);
	cost->rss += (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static struct cost cost_now(const char *pids)
{
	struct cost cost = {0};
	for (const char *p = pids; p && *p;) {
		char *end;
		long pid = strtol(p, &end, 10);
		if (end == p || pid <= 0 || (*end && *end != ','))
			die(2, "--pid: expected PID[,PID]: %s", pids);
		cost_add_process(&cost, pid);
		p = *end ? end + 1 : end;
	}
	return cost;
}

static double own_cpu_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- publishers: child processes -------------------------------------------------------------------------- */

/* What a publisher tells its parent, in shared memory. It alone writes; the parent reads when it has ended. */
struct publisher_report {
	uint64_t published;
	uint64_t first_ns, last_ns;
	uint64_t acked, not_stored;
	struct histogram ack_latency;
	bool failed;
};

struct publisher {
	const struct config *config;
	const struct tokens *tokens;
	const char *path;         /* of an http:// address, or NULL: datagrams */
	struct address address;
	int fd;
	uint32_t number;
	char *pad;                /* config->size times 'x' */
	uint64_t sent, sent_ns[IN_FLIGHT_MAX];   /* with --in-flight: when datagram n was, at n modulo that */
	struct publisher_report *report;
};

/* Gives the socket a name that is free, in the abstract namespace, so that it can be answered. */
static void publisher_bind(struct publisher *p)
{
	struct sockaddr_un any = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = ANSWER_S};
	if (bind(p->fd, (struct sockaddr *)&any, sizeof any.sun_family) < 0)
		die(1, "--in-flight: bind: %s", strerror(errno));
	setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

static void publisher_open(struct publisher *p)
{
	int size = 4 << 20, on = 1;
	p->fd = socket(p->address.at.any.sa_family, (p->path ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		die(1, "--publish: socket: %s", strerror(errno));
	if (setsockopt(p->fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
		setsockopt(p->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	if (p->config->in_flight)
		publisher_bind(p);
	if (!p->path)
		return;
	setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (connect(p->fd, &p->address.at.any, p->address.len) < 0)
		die(1, "--publish: connect: %s", strerror(errno));
}

/* Sends all parts, however often the kernel takes only some. parts is used up. */
static bool send_parts(struct publisher *p, struct iovec *parts, size_t count)
{
	struct msghdr m = {.msg_iov = parts, .msg_iovlen = count};
	if (!p->path) {
		m.msg_name = &p->address.at;
		m.msg_namelen = p->address.len;
	}
	while (m.msg_iovlen > 0) {
		ssize_t n = sendmsg(p->fd, &m, MSG_NOSIGNAL);
		if (n < 0 && (errno == EINTR || errno == ENOBUFS))
			continue;
		if (n < 0)
			return false;
		for (; m.msg_iovlen > 0 && (size_t)n >= m.msg_iov->iov_len; m.msg_iov++, m.msg_iovlen--)
			n -= (ssize_t)m.msg_iov->iov_len;
		if (m.msg_iovlen > 0) {
			m.msg_iov->iov_base = (char *)m.msg_iov->iov_base + n;
			m.msg_iov->iov_len -= (size_t)n;
		}
	}
	return true;
}

/* Reads one response, with a Content-Length, a chunked body or none. Returns the status, or 0 at an end. */
static int http_response(int fd)
{
	char text[HEAD_MAX + 1];
	size_t have = 0;
	for (;;) {
		ssize_t n = recv(fd, text + have, HEAD_MAX - have, 0);
		if (n <= 0)
			return 0;
		have += (size_t)n;
		text[have] = '\0';
		const char *body = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "\r\nContent-Length:");
		if (!body)
			continue;
		size_t body_have = have - (size_t)(body + 4 - text);
		bool chunked = !length && strcasestr(text, "\r\nTransfer-Encoding: chunked");
		if (chunked ? strstr(body, "\r\n0\r\n\r\n") != NULL : body_have >= (length ? strtoul(length + 17, NULL, 10) : 0))
			return atoi(text + strcspn(text, " "));
	}
}

static bool publisher_post(struct publisher *p, struct iovec *parts, size_t count, size_t body_len)
{
	char head[REQUEST_MAX];
	int len = snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
		"Content-Length: %zu\r\n", p->path, body_len);
	for (size_t i = 0; i < HEADERS_MAX && p->config->publish_headers[i]; i++)
		len += snprintf(head + len, sizeof head - (size_t)len, "%s\r\n", p->config->publish_headers[i]);
	len += snprintf(head + len, sizeof head - (size_t)len, "\r\n");
	parts[0] = (struct iovec){.iov_base = head, .iov_len = (size_t)len};
	if (!send_parts(p, parts, count))
		return false;
	int status = http_response(p->fd);
	if (status < 200 || status > 299)
		die(1, "--publish: the answer was %d", status);
	return true;
}

/* Writes what follows the data object. Returns its length. */
static int event_tail(const struct publisher *p, char *out, size_t size, uint32_t seq)
{
	if (p->config->raw_body)
		return 0;
	if (p->config->audience == TO_ALL)
		return snprintf(out, size, ",\"to\":\"all\"}");
	if (p->config->audience == TO_ROLE)
		return snprintf(out, size, ",\"to\":{\"roles\":[\"%s\"]}}", p->config->role);
	return snprintf(out, size, ",\"to\":{\"users\":[\"%s\"]}}", p->tokens->users[seq % p->tokens->user_count]);
}

/* Takes an answer, if there is one; flags: 0 to wait for it. They come in the order of the datagrams. */
static bool publisher_answer(struct publisher *p, int flags)
{
	char text[512];
	ssize_t n = recv(p->fd, text, sizeof text - 1, flags);
	if (n < 0 && flags && errno == EAGAIN)
		return false;
	if (n < 0)
		die(1, "--in-flight: no answer (net.unix.max_dgram_qlen may be too small): %s", strerror(errno));
	text[n] = '\0';
	if (strncmp(text, "{\"ok\":true", 10) != 0)
		die(1, "--in-flight: the answer was %s", text);
	p->report->not_stored += strstr(text, "\"stored\":false") != NULL;
	histogram_add(&p->report->ack_latency, now_ns() - p->sent_ns[p->report->acked++ % p->config->in_flight]);
	return true;
}

/* Takes the answers that are here, and waits for more while there are more than most to come. */
static void publisher_answers(struct publisher *p, uint32_t most)
{
	while (p->sent - p->report->acked > most)
		publisher_answer(p, 0);
	while (p->sent > p->report->acked && publisher_answer(p, MSG_DONTWAIT))
		;
}

static bool publish_one(struct publisher *p, uint32_t seq)
{
	static const char pad_begin[] = ",\"pad\":\"";
	char head[128], tail[256];
	uint64_t t = now_ns();
	int open_len = p->config->raw_body ? 0 : snprintf(head, sizeof head, "{\"event\":\"bench.tick\",\"data\":");
	int len = open_len + snprintf(head + open_len, sizeof head - (size_t)open_len, "{\"seq\":%u,\"t\":%llu", seq,
		(unsigned long long)t);
	size_t bare = (size_t)(len - open_len) + sizeof pad_begin - 1 + 2;
	size_t pad = p->config->size > bare ? p->config->size - bare : 0;
	if (pad)
		len += snprintf(head + len, sizeof head - (size_t)len, "%s", pad_begin);
	int tail_len = snprintf(tail, sizeof tail, pad ? "\"}" : "}");
	tail_len += event_tail(p, tail + tail_len, sizeof tail - (size_t)tail_len, seq);
	struct iovec parts[4] = {
		{.iov_len = 0},
		{.iov_base = head, .iov_len = (size_t)len},
		{.iov_base = p->pad, .iov_len = pad},
		{.iov_base = tail, .iov_len = (size_t)tail_len},
	};
	if (p->report->published == 0)
		p->report->first_ns = t;
	size_t body_len = (size_t)len + pad + (size_t)tail_len;
	return p->path ? publisher_post(p, parts, 4, body_len) : send_parts(p, parts + 1, 3);
}

/* Sleeps until it is event n's turn. Bursts start together; rate is shared by the publishers. */
static void publisher_pace(const struct publisher *p, uint64_t start_ns, uint32_t n)
{
	if (p->config->rate <= 0 || n % p->config->burst != 0)
		return;
	double turn = ((double)n * p->config->publishers + p->number * (double)p->config->burst) / p->config->rate;
	uint64_t at_ns = start_ns + ns_of(turn);
	struct timespec at = {.tv_sec = (time_t)(at_ns / 1000000000), .tv_nsec = (long)(at_ns % 1000000000)};
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

static void publisher_run(struct publisher *p)
{
	const struct config *c = p->config;
	uint32_t share = c->events / c->publishers + (p->number < c->events % c->publishers);
	uint64_t start_ns = now_ns(), end_ns = c->seconds > 0 ? start_ns + ns_of(c->seconds) : UINT64_MAX;
	for (uint32_t n = 0; c->events == 0 || n < share; n++) {
		publisher_pace(p, start_ns, n);
		if (now_ns() >= end_ns)
			break;
		if (c->in_flight)
			p->sent_ns[p->sent++ % c->in_flight] = now_ns();
		if (!publish_one(p, n * c->publishers + p->number)) {
			fprintf(stderr, "load: --publish: %s\n", strerror(errno));
			p->report->failed = true;
			break;
		}
		p->report->published = (uint64_t)n + 1;
		if (c->in_flight)
			publisher_answers(p, c->in_flight - 1);
	}
	if (c->in_flight && !p->report->failed)
		publisher_answers(p, 0);
	p->report->last_ns = now_ns();
}

struct publishers {
	struct publisher_report *reports;
	pid_t pids[PUBLISHERS_MAX];      /* 0: has ended */
	uint32_t count, running;
	int gate;                        /* closed to let them start */
};

/* In the child: waits for the gate, publishes, ends. */
static _Noreturn void publisher_main(struct publisher *p, int gate)
{
	char byte;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (read(gate, &byte, 1) < 0)
		_exit(1);
	p->pad = memset(allocate(1, p->config->size), 'x', p->config->size);
	publisher_open(p);
	publisher_run(p);
	_exit(p->report->failed);
}

/* Forks the publishers, before there is any stream that they could inherit. */
static void publishers_fork(struct publishers *all, const struct config *c, const struct tokens *tokens)
{
	int gate[2];
	bool http = strncmp(c->publish, "http://", 7) == 0;
	struct publisher p = {.config = c, .tokens = tokens, .address = address_read("publish", c->publish + (http ? 7 : 0))};
	if (!http && p.address.at.any.sa_family != AF_UNIX)
		die(2, "--publish: expected unix:/path or http://HOST:PORT/path: %s", c->publish);
	p.path = http ? strchr(c->publish + 7, '/') : NULL;
	if (http && !p.path)
		p.path = "/";
	all->reports = mmap(NULL, PUBLISHERS_MAX * sizeof *all->reports, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (all->reports == MAP_FAILED || pipe(gate) < 0)
		die(1, "publishers: %s", strerror(errno));
	for (all->count = 0; all->count < c->publishers; all->count++) {
		p.number = all->count;
		p.report = &all->reports[all->count];
		pid_t pid = fork();
		if (pid < 0)
			die(1, "fork: %s", strerror(errno));
		if (pid == 0) {
			close(gate[1]);
			publisher_main(&p, gate[0]);
		}
		all->pids[all->count] = pid;
	}
	all->running = all->count;
	all->gate = gate[1];
	close(gate[0]);
}

/* Takes note of those that have ended. Returns whether all have. */
static bool publishers_ended(struct publishers *all)
{
	for (uint32_t i = 0; i < all->count; i++) {
		if (all->pids[i] && waitpid(all->pids[i], NULL, WNOHANG) == all->pids[i]) {
			all->pids[i] = 0;
			all->running--;
		}
	}
	return all->running == 0;
}

static void publishers_kill(struct publishers *all)
{
	for (uint32_t i = 0; i < all->count; i++)
		if (all->pids[i])
			kill(all->pids[i], SIGKILL), waitpid(all->pids[i], NULL, 0);
	all->running = 0;
}

/* ---- the run ---------------------------------------------------------------------------------------------- */

enum phase {
	UNUSED,
	CONNECTING,
	HEAD,                     /* the request is sent; the response head is not whole */
	BODY,
	CLOSED,
};

enum chunk_state {
	NOT_CHUNKED,
	CHUNK_SIZE,               /* in the hex digits */
	CHUNK_LINE,               /* in the rest of the size line */
	CHUNK_DATA,
	CHUNK_END,                /* in the CR LF after the data */
	CHUNK_LAST,               /* the empty chunk came */
};

enum scan { SCAN_FULL, SCAN_FRAMES, SCAN_BYTES };

struct carry {
	size_t len;
	char bytes[];
};

struct stream {
	int fd;
	uint32_t chunk_left;      /* bytes of data to come, or the size as far as it is read */
	uint32_t fresh;           /* events received, without repetitions */
	uint8_t phase, chunk, scan;
	bool ready : 1, slow : 1, paused : 1;
	struct carry *carry;      /* an unfinished head or line, or NULL */
};

/* For each stream and publisher. */
struct track {
	uint32_t next;            /* the number after the highest that came */
	uint64_t seen;            /* bit B: number next - 1 - B came */
};

struct run {
	struct config config;
	struct tokens tokens;
	struct publishers publishers;
	struct address server;
	int epoll;
	struct stream *streams;
	struct track *tracks;
	char *buffer;             /* HEAD_MAX bytes for a carry, then RECV_MAX for recv */
	uint64_t start_ns, limit_ns;
	uint64_t read_ns;         /* when the bytes that are being scanned came */
	size_t seq_at;            /* where "seq" stood in the last line that had it */
	bool discard;             /* read on, but count no events any more */
	bool closing;             /* ends are no longer news */

	uint32_t next, in_flight, connected, failed;
	uint32_t closed_readers, closed_slow;
	uint64_t deliveries, repeated, disordered, stray, missing;
	uint64_t bytes, bytes_scanned;   /* of bodies, readers only; bytes_scanned without those of SCAN_BYTES */
	uint64_t last_ns;                /* the last delivery */
	struct histogram latency;
	FILE *trace;                     /* or NULL */

	uint64_t replay_first_ns;        /* with --expect: when the first stream began to connect ... */
	struct histogram replay_done;    /* ... and how long after that each had everything */
	struct cost replay_to;

	uint64_t *expected;              /* by user; NULL until all is published */
	uint64_t published, acked, publish_first_ns, publish_last_ns;
	double connect_s, client_cpu_s, hold_percent;
	struct cost before, opened, published_from, published_to;
};

static const struct token *token_of(const struct run *r, uint32_t index)
{
	return &r->tokens.list[index % r->tokens.count];
}

/* ---- scanner ---------------------------------------------------------------------------------------------- */

/* Tells whether a new event came, and not one that was here before. */
static bool track_event(struct run *r, struct track *t, uint32_t number)
{
	if (number >= t->next) {
		uint32_t step = number + 1 - t->next;
		t->seen = (step < 64 ? t->seen << step : 0) | 1;
		t->next = number + 1;
		return true;
	}
	uint32_t back = t->next - 1 - number;
	if (back >= 64 || t->seen >> back & 1) {
		r->repeated++;
		return false;
	}
	t->seen |= (uint64_t)1 << back;
	r->disordered++;
	return true;
}

/* Reads the number at *p, and moves *p behind it. The line feed ends it at the latest. */
static uint64_t number_take(const char **p)
{
	uint64_t n = 0;
	for (; **p >= '0' && **p <= '9'; ++*p)
		n = n * 10 + (uint64_t)(**p - '0');
	return n;
}

/* Both keys have this length, so that the comparison is one load. */
enum { KEY_LEN = 5 };
static const char seq_key[] = "seq\":", t_key[] = ",\"t\":";

/* The text after key, which is first looked for at hint, then from there to the line's end; or NULL. */
static const char *after_key(const char *hint, const char *line_end, const char *key)
{
	if (line_end - hint > KEY_LEN && memcmp(hint, key, KEY_LEN) == 0)
		return hint + KEY_LEN;
	size_t len = line_end > hint ? (size_t)(line_end - hint) : 0;
	const char *at = memmem(hint, len < LINE_KEEP ? len : LINE_KEEP, key, KEY_LEN);
	return at ? at + KEY_LEN : NULL;
}

static bool event_is_stray(const struct run *r, uint32_t index, uint32_t seq)
{
	if (r->config.audience == TO_USERS)
		return seq % r->tokens.user_count != token_of(r, index)->user_index;
	return r->config.audience == TO_ROLE && r->tokens.roles_known && !token_of(r, index)->has_role;
}

static void latency_add(struct run *r, uint64_t sent_ns)
{
	uint64_t both[2] = {sent_ns, r->read_ns - sent_ns};
	histogram_add(&r->latency, both[1]);
	if (r->trace && fwrite(both, sizeof both, 1, r->trace) != 1)
		die(1, "--trace: %s", strerror(errno));
}

static void stream_fresh(struct run *r, struct stream *s)
{
	if (++s->fresh == r->config.replayed)
		histogram_add(&r->replay_done, r->read_ns - r->replay_first_ns);
}

static void event_check(struct run *r, struct stream *s, uint32_t index, const char *digits, const char *line_end)
{
	uint32_t seq = (uint32_t)number_take(&digits), publishers = r->config.publishers;
	const char *t = after_key(digits, line_end, t_key);
	uint64_t sent_ns = t ? number_take(&t) : 0;
	if (sent_ns && sent_ns <= r->read_ns)
		latency_add(r, sent_ns);
	if (event_is_stray(r, index, seq))
		r->stray++;
	else if (track_event(r, &r->tracks[(size_t)index * publishers + seq % publishers], seq / publishers))
		stream_fresh(r, s);
}

static void stream_ready(struct run *r, struct stream *s, uint32_t index)
{
	s->ready = true;
	r->in_flight--;
	r->connected++;
	if (s->slow) {
		s->paused = true;
		epoll_ctl(r->epoll, EPOLL_CTL_MOD, s->fd, &(struct epoll_event){.events = EPOLLRDHUP | EPOLLET, .data.u32 = index});
	}
}

/* A whole line that starts with "data:". */
static void line_data(struct run *r, struct stream *s, uint32_t index, const char *line, const char *end)
{
	if (!s->ready)
		stream_ready(r, s, index);
	if (s->slow)
		return;
	const char *digits = r->seq_at < (size_t)(end - line) ? after_key(line + r->seq_at, end, seq_key) : NULL;
	if (!digits && !(digits = after_key(line, end, seq_key)))
		return;
	r->seq_at = (size_t)(digits - line) - KEY_LEN;
	r->deliveries++;
	r->last_ns = r->read_ns;
	if (s->scan == SCAN_FULL)
		event_check(r, s, index, digits, end);
	else
		s->fresh++;
}

/* Looks at all whole lines. Returns how many bytes they were. */
static size_t scan_lines(struct run *r, struct stream *s, uint32_t index, const char *bytes, size_t n)
{
	const char *p = bytes, *end = bytes + n, *line_end;
	while (p < end && (line_end = memchr(p, '\n', (size_t)(end - p)))) {
		if (line_end - p > 5 && memcmp(p, "data:", 5) == 0)
			line_data(r, s, index, p, line_end);
		p = line_end + 1;
		while (p < end && *p == '\n')
			p++;
	}
	return (size_t)(p - bytes);
}

static int hex_digit(char c)
{
	int letter = c | 32;
	return c >= '0' && c <= '9' ? c - '0' : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

/* Reads the chunk header that p is in, up to the data or the end. Returns where it stopped. */
static const char *chunk_header(struct stream *s, const char *p, const char *end)
{
	uint32_t size = s->chunk_left;
	int digit;
	if (s->chunk == CHUNK_END) {
		while (p < end && *p++ != '\n')
			;
		s->chunk = p[-1] == '\n' ? CHUNK_SIZE : CHUNK_END;
	}
	if (s->chunk == CHUNK_SIZE) {
		for (; p < end && (digit = hex_digit(*p)) >= 0; p++)
			size = size << 4 | (uint32_t)digit;
		s->chunk_left = size;
		s->chunk = p < end ? CHUNK_LINE : CHUNK_SIZE;
	}
	if (s->chunk == CHUNK_LINE) {
		while (p < end && *p++ != '\n')
			;
		if (p[-1] == '\n')
			s->chunk = size ? CHUNK_DATA : CHUNK_LAST;
	}
	return s->chunk == CHUNK_LAST ? end : p;
}

/* Takes the chunk headers out, in place. Returns the bytes that stay. */
static size_t dechunk(struct stream *s, char *bytes, size_t n)
{
	const char *p = bytes, *end = bytes + n;
	char *out = bytes;
	while (p < end) {
		p = chunk_header(s, p, end);
		size_t have = (size_t)(end - p), take = s->chunk == CHUNK_DATA ? s->chunk_left : 0;
		take = take < have ? take : have;
		memmove(out, p, take);
		out += take;
		p += take;
		s->chunk_left -= (uint32_t)(s->chunk == CHUNK_DATA ? take : 0);
		if (s->chunk == CHUNK_DATA && s->chunk_left == 0)
			s->chunk = CHUNK_END;
	}
	return (size_t)(out - bytes);
}

/* ---- streams ---------------------------------------------------------------------------------------------- */

static void stream_free(struct stream *s)
{
	free(s->carry);
	s->carry = NULL;
	s->phase = CLOSED;
	close(s->fd);
}

/* The server, or the kernel, has ended it. */
static void stream_ended(struct run *r, struct stream *s, const char *why)
{
	if (!s->ready) {
		if (r->failed++ == 0)
			fprintf(stderr, "load: a stream failed: %s\n", why);
		r->in_flight--;
	} else if (!r->closing && s->slow) {
		r->closed_slow++;
	} else if (!r->closing) {
		r->closed_readers++;
	}
	stream_free(s);
}

static void stream_keep(struct stream *s, const char *bytes, size_t n)
{
	if (n == 0) {
		free(s->carry);
		s->carry = NULL;
		return;
	}
	s->carry = realloc(s->carry, sizeof *s->carry + n);
	if (!s->carry)
		die(1, "out of memory");
	s->carry->len = n;
	memcpy(s->carry->bytes, bytes, n);
}

/* Returns the length of the head if it is whole and good, 0 for more, -1 after the stream was ended. */
static ssize_t stream_head(struct run *r, struct stream *s, uint32_t index, char *bytes, size_t n)
{
	char *end = memmem(bytes, n, "\r\n\r\n", 4);
	if (!end && n < HEAD_MAX)
		return 0;
	if (!end || n < 12 || memcmp(bytes + 8, " 200", 4) != 0) {
		bytes[n < 100 ? n : 100] = '\0';
		bytes[strcspn(bytes, "\r\n")] = '\0';
		stream_ended(r, s, bytes);
		return -1;
	}
	*end = '\0';
	s->chunk = strcasestr(bytes, "\r\ntransfer-encoding: chunked") ? CHUNK_SIZE : NOT_CHUNKED;
	s->phase = BODY;
	if (r->config.ready_at_head)
		stream_ready(r, s, index);
	return end + 4 - bytes;
}

/* Takes n bytes that have just come, behind the stream's carry: bytes[-carry] .. bytes[n]. */
static void stream_input(struct run *r, struct stream *s, uint32_t index, char *bytes, size_t n)
{
	size_t carry = s->carry ? s->carry->len : 0;
	if (carry)
		memcpy(bytes - carry, s->carry->bytes, carry);
	if (s->phase == HEAD) {
		ssize_t head = stream_head(r, s, index, bytes - carry, carry + n);
		if (head == 0)
			stream_keep(s, bytes - carry, carry + n);
		if (head <= 0)
			return;
		n -= (size_t)head - carry;
		bytes += (size_t)head - carry;
		carry = 0;
	}
	if (!s->slow)
		r->bytes += n;
	if (!s->slow && s->scan != SCAN_BYTES)
		r->bytes_scanned += n;
	n = s->chunk == NOT_CHUNKED ? n : dechunk(s, bytes, n);
	size_t used = scan_lines(r, s, index, bytes - carry, carry + n), rest = carry + n - used;
	stream_keep(s, bytes - carry + used, rest < LINE_KEEP ? rest : LINE_KEEP);
}

/* Reads once. Returns false when there is nothing more for now. */
static bool stream_recv(struct run *r, struct stream *s, uint32_t index)
{
	bool trash = r->discard || (s->scan == SCAN_BYTES && s->ready);
	char *bytes = r->buffer + HEAD_MAX;
	ssize_t n = recv(s->fd, bytes, RECV_MAX, trash ? MSG_TRUNC : 0);
	if (n < 0 && errno == EINTR)
		return true;
	if (n < 0 && errno == EAGAIN)
		return false;
	r->read_ns = now_ns();
	if (trash)
		r->last_ns = r->read_ns;
	if (n <= 0) {
		stream_ended(r, s, n < 0 ? strerror(errno) : "closed before it was ready");
		return false;
	}
	if (!trash)
		stream_input(r, s, index, bytes, (size_t)n);
	else if (!r->discard)
		r->bytes += (uint64_t)n;
	if (s->phase != CLOSED && s->chunk == CHUNK_LAST)
		stream_ended(r, s, "ended before it was ready");
	return s->phase != CLOSED && !s->paused && n == RECV_MAX;
}

/* Copies text to out, each %s and %d replaced by the token. Returns the new length of out. */
static size_t expand(char *out, size_t len, const char *text, const char *token)
{
	for (; *text && len + 1 < REQUEST_MAX; text++) {
		if (text[0] == '%' && (text[1] == 's' || text[1] == 'd')) {
			size_t n = strlen(token);
			if (len + n + 1 >= REQUEST_MAX)
				die(2, "the request is too long");
			memcpy(out + len, token, n);
			len += n;
			text++;
		} else {
			out[len++] = *text;
		}
	}
	return len;
}

static bool stream_request(struct run *r, struct stream *s, uint32_t index)
{
	char out[REQUEST_MAX];
	const char *token = token_of(r, index)->text;
	size_t len = expand(out, 0, "GET ", token);
	len = expand(out, len, r->config.path, token);
	len = expand(out, len, " HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n", token);
	if (r->config.last_event_id) {
		len = expand(out, len, "Last-Event-ID: ", token);
		len = expand(out, len, r->config.last_event_id, token);
		len = expand(out, len, "\r\n", token);
	}
	for (size_t i = 0; i < HEADERS_MAX && r->config.headers[i]; i++) {
		len = expand(out, len, r->config.headers[i], token);
		len = expand(out, len, "\r\n", token);
	}
	len = expand(out, len, "\r\n", token);
	s->phase = HEAD;
	return send(s->fd, out, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static void stream_event(struct run *r, uint32_t index, uint32_t events)
{
	struct stream *s = &r->streams[index];
	bool end = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);
	if (s->phase == CONNECTING) {
		int error = 0;
		socklen_t len = sizeof error;
		getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		if (error || !stream_request(r, s, index)) {
			stream_ended(r, s, strerror(error ? error : errno));
			return;
		}
	}
	if (s->phase == CLOSED || !(end || (events & EPOLLIN)))
		return;
	if (s->paused) {
		if (end)
			stream_ended(r, s, "");
		return;
	}
	/* A short read means that the socket is empty, and more bytes will be a new edge. An end that came with
	   these bytes will not. */
	while (stream_recv(r, s, index) || (end && s->phase != CLOSED && !s->paused))
		;
}

static enum scan scan_of(const struct config *c, uint32_t index)
{
	switch (c->check) {
	case CHECK_SAMPLE: return index % SAMPLE_EACH ? SCAN_FRAMES : SCAN_FULL;
	case CHECK_COUNT: return index % COUNT_EACH ? SCAN_BYTES : SCAN_FULL;
	case CHECK_FULL: break;
	}
	return SCAN_FULL;
}

static void socket_prepare(const struct run *r, const struct stream *s, uint32_t index)
{
	int on = 1, size = SLOW_RCVBUF;
	struct sockaddr_in from = {.sin_family = AF_INET};
	if (s->slow)
		setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	if (r->server.at.any.sa_family != AF_INET)
		return;
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + index % r->config.sources);
	setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
	if (bind(s->fd, (struct sockaddr *)&from, sizeof from) < 0)
		die(1, "bind to 127.0.0.%u: %s", 1 + index % r->config.sources, strerror(errno));
}

/* Begins to connect the next stream. Returns false if the server's backlog is full: try again later. */
static bool stream_open(struct run *r, uint32_t index)
{
	struct stream *s = &r->streams[index];
	s->slow = index >= r->config.streams - r->config.slow;
	s->scan = (uint8_t)scan_of(&r->config, index);
	s->fd = socket(r->server.at.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		die(1, "socket %u: %s", index, strerror(errno));
	socket_prepare(r, s, index);
	if (connect(s->fd, &r->server.at.any, r->server.len) < 0 && errno != EINPROGRESS) {
		if (errno != EAGAIN)
			die(1, "connect %u: %s", index, strerror(errno));
		close(s->fd);
		return false;
	}
	s->phase = CONNECTING;
	r->in_flight++;
	struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.u32 = index};
	if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, s->fd, &e) < 0)
		die(1, "epoll_ctl: %s", strerror(errno));
	return true;
}

/* ---- phases ----------------------------------------------------------------------------------------------- */

static void pump(struct run *r, int timeout_ms)
{
	struct epoll_event events[EVENTS_MAX];
	int n = epoll_wait(r->epoll, events, EVENTS_MAX, timeout_ms);
	for (int i = 0; i < n; i++)
		stream_event(r, events[i].data.u32, events[i].events);
}

static bool over_limit(const struct run *r)
{
	return now_ns() >= r->limit_ns;
}

static void pump_for(struct run *r, double seconds)
{
	uint64_t end_ns = now_ns() + ns_of(seconds);
	while (now_ns() < end_ns && !over_limit(r))
		pump(r, TICK_MS);
}

static void phase_connect(struct run *r)
{
	uint64_t begin_ns = now_ns();
	r->before = cost_now(r->config.pids);
	r->replay_first_ns = begin_ns;
	while (r->connected + r->failed < r->config.streams && !over_limit(r)) {
		while (r->in_flight < r->config.window && r->next < r->config.streams && stream_open(r, r->next))
			r->next++;
		pump(r, TICK_MS);
	}
	r->connect_s = (double)(now_ns() - begin_ns) / 1e9;
	pump_for(r, r->config.settle);
	r->opened = cost_now(r->config.pids);
}

static void phase_hold(struct run *r)
{
	pump_for(r, r->config.hold);
	r->hold_percent = 100 * (cost_now(r->config.pids).cpu_s - r->opened.cpu_s) / r->config.hold;
}

/* All is published, by this run or, with --expect, before it: now it is known what each user's streams must receive. */
static void expect(struct run *r)
{
	uint32_t users = r->tokens.user_count, publishers = r->publishers.count;
	r->expected = allocate(users, sizeof *r->expected);
	r->published = r->config.replayed;
	r->publish_first_ns = UINT64_MAX;
	for (uint32_t p = 0; p < publishers; p++) {
		const struct publisher_report *report = &r->publishers.reports[p];
		r->published += report->published;
		r->acked += report->acked;
		if (report->published && report->first_ns < r->publish_first_ns)
			r->publish_first_ns = report->first_ns;
		if (report->last_ns > r->publish_last_ns)
			r->publish_last_ns = report->last_ns;
		for (uint64_t n = 0; r->config.audience == TO_USERS && n < report->published; n++)
			r->expected[(n * publishers + p) % users]++;
	}
}

/* How many events more a stream must receive; below 0: it had that many too many. 0 if nobody knows. */
static int64_t stream_lacks(const struct run *r, uint32_t index)
{
	const struct stream *s = &r->streams[index];
	const struct token *token = token_of(r, index);
	uint64_t want = r->published;
	if (!s->ready || s->slow || s->scan == SCAN_BYTES || (r->config.audience == TO_ROLE && !r->tokens.roles_known))
		return 0;
	if (r->config.audience == TO_USERS)
		want = r->expected[token->user_index];
	else if (r->config.audience == TO_ROLE)
		want = token->has_role ? want : 0;
	return (int64_t)want - s->fresh;
}

/* Have all readers that are still open received everything? Nobody knows where only bytes are counted. */
static bool all_arrived(const struct run *r)
{
	if (r->config.check == CHECK_COUNT || (r->config.audience == TO_ROLE && !r->tokens.roles_known))
		return false;
	for (uint32_t i = 0; i < r->config.streams; i++)
		if (r->streams[i].phase == BODY && stream_lacks(r, i) > 0)
			return false;
	return true;
}

static bool is_quiet(const struct run *r)
{
	uint64_t last = r->last_ns > r->publish_last_ns ? r->last_ns : r->publish_last_ns;
	return now_ns() > last + ns_of(r->config.quiet);
}

static void count_missing(struct run *r)
{
	for (uint32_t i = 0; i < r->config.streams; i++) {
		int64_t lacks = stream_lacks(r, i);
		r->missing += lacks > 0 ? (uint64_t)lacks : 0;
		r->repeated += lacks < 0 ? (uint64_t)-lacks : 0;
	}
}

static void phase_publish(struct run *r)
{
	double cpu_s = own_cpu_s();
	uint64_t check_ns = 0;
	r->published_from = cost_now(r->config.pids);
	close(r->publishers.gate);
	while (!over_limit(r)) {
		pump(r, TICK_MS);
		if (now_ns() < check_ns)
			continue;
		check_ns = now_ns() + TICK_MS * 1000000;
		if (!r->expected && publishers_ended(&r->publishers))
			expect(r);
		if (r->expected && (all_arrived(r) || is_quiet(r)))
			break;
	}
	publishers_kill(&r->publishers);
	r->published_to = cost_now(r->config.pids);
	r->client_cpu_s = own_cpu_s() - cpu_s;
	if (!r->expected)
		expect(r);
	count_missing(r);
}

/* They began with the first connection; this waits for what is still on its way. */
static void phase_replay(struct run *r)
{
	expect(r);
	while (!over_limit(r) && !all_arrived(r) && !is_quiet(r))
		pump_for(r, TICK_MS / 1e3);
	r->replay_to = cost_now(r->config.pids);
	r->client_cpu_s = own_cpu_s();
	count_missing(r);
}

static void pump_until_still(struct run *r)
{
	uint64_t end_ns = now_ns() + (uint64_t)DRAIN_MAX_MS * 1000000;
	uint64_t last_ns = r->last_ns;
	r->last_ns = now_ns();
	while (now_ns() < end_ns && now_ns() < r->last_ns + (uint64_t)DRAIN_QUIET_MS * 1000000
			&& r->closed_slow + r->closed_readers + r->failed < r->config.streams)
		pump(r, TICK_MS);
	r->last_ns = last_ns;
}

/* What the server has already closed shows only after the bytes before it are read. */
static void phase_drain_slow(struct run *r)
{
	r->discard = true;
	for (uint32_t i = r->config.streams - r->config.slow; i < r->config.streams; i++) {
		struct stream *s = &r->streams[i];
		if (!s->paused || s->phase != BODY)
			continue;
		s->paused = false;
		epoll_ctl(r->epoll, EPOLL_CTL_MOD, s->fd, &(struct epoll_event){.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = i});
	}
	pump_until_still(r);
}

static bool any_open(const struct run *r)
{
	for (uint32_t i = 0; i < r->config.streams; i++)
		if (r->streams[i].phase == BODY)
			return true;
	return false;
}

static void phase_close(struct run *r)
{
	uint64_t end_ns = now_ns() + (uint64_t)DRAIN_MAX_MS * 1000000;
	r->discard = r->closing = true;
	for (uint32_t i = 0; i < r->config.streams; i++)
		if (r->streams[i].phase == BODY)
			shutdown(r->streams[i].fd, SHUT_WR);
	r->last_ns = now_ns();
	while (any_open(r) && now_ns() < end_ns && now_ns() < r->last_ns + (uint64_t)DRAIN_QUIET_MS * 1000000)
		pump(r, TICK_MS);
	for (uint32_t i = 0; i < r->config.streams; i++)
		if (r->streams[i].phase != CLOSED && r->streams[i].phase != UNUSED)
			stream_free(&r->streams[i]);
}

/* ---- report ----------------------------------------------------------------------------------------------- */

static double ratio(double a, double b)
{
	return b > 0 ? a / b : NOT_MEASURED;
}

struct figures {
	struct { const char *name; double value; int decimals; } list[64];
	size_t count;
};

static void figure(struct figures *f, const char *name, double value, int decimals)
{
	if (f->count < sizeof f->list / sizeof *f->list) {
		f->list[f->count].name = name;
		f->list[f->count].value = value;
		f->list[f->count++].decimals = decimals;
	}
}

static void figures_of_streams(struct figures *f, const struct run *r)
{
	double pid = r->config.pids ? 1 : NOT_MEASURED, n = (double)r->connected;
	figure(f, "streams", r->config.streams, 0);
	figure(f, "connected", n, 0);
	figure(f, "failed", r->config.streams - r->connected, 0);
	figure(f, "connect_rate", ratio(n, r->connect_s), 0);
	figure(f, "server_cpu_us_per_stream", pid * ratio((r->opened.cpu_s - r->before.cpu_s) * 1e6, n), 2);
	figure(f, "rss_bytes_per_stream", pid * ratio(r->opened.rss - r->before.rss, n), 1);
	figure(f, "pss_bytes_per_stream", pid * ratio(r->opened.pss - r->before.pss, n), 1);
	figure(f, "rss_bytes_before", pid * r->before.rss, 0);
	figure(f, "rss_bytes_connected", pid * r->opened.rss, 0);
	if (r->config.hold > 0)
		figure(f, "hold_cpu_percent", pid * r->hold_percent, 3);
}

static void figures_of_latency(struct figures *f, const struct histogram *h)
{
	figure(f, "latency_samples", (double)h->total, 0);
	figure(f, "p50_us", histogram_at(h, 0.5) / 1e3, 1);
	figure(f, "p90_us", histogram_at(h, 0.9) / 1e3, 1);
	figure(f, "p99_us", histogram_at(h, 0.99) / 1e3, 1);
	figure(f, "p999_us", histogram_at(h, 0.999) / 1e3, 1);
	figure(f, "max_us", h->total ? (double)h->max / 1e3 : NOT_MEASURED, 1);
}

static void figures_of_events(struct figures *f, const struct run *r)
{
	double pid = r->config.pids ? 1 : NOT_MEASURED;
	double deliveries = (double)r->deliveries;
	if (r->config.check == CHECK_COUNT && r->bytes_scanned)
		deliveries *= (double)r->bytes / (double)r->bytes_scanned;
	double publish_s = r->published ? (double)(r->publish_last_ns - r->publish_first_ns) / 1e9 : 0;
	double seconds = r->last_ns > r->publish_first_ns ? (double)(r->last_ns - r->publish_first_ns) / 1e9 : 0;
	double cpu_s = r->published_to.cpu_s - r->published_from.cpu_s;
	figure(f, "rate", r->config.rate, 2);
	figure(f, "burst", r->config.burst, 0);
	figure(f, "size", r->config.size, 0);
	figure(f, "published", (double)r->published, 0);
	figure(f, "publish_seconds", publish_s, 4);
	figure(f, "publish_last_ns", (double)r->publish_last_ns, 0);
	figure(f, "deliveries", deliveries, 0);
	figure(f, "seconds", seconds, 4);
	figure(f, "deliveries_per_s", ratio(deliveries, seconds), 0);
	figure(f, "bytes", (double)r->bytes, 0);
	figure(f, "missing", (double)r->missing, 0);
	figure(f, "repeated", (double)r->repeated, 0);
	figure(f, "disordered", (double)r->disordered, 0);
	figure(f, "stray", (double)r->stray, 0);
	figures_of_latency(f, &r->latency);
	figure(f, "server_cpu_us_per_delivery", pid * ratio(cpu_s * 1e6, deliveries), 3);
	figure(f, "server_cpu_s", pid * cpu_s, 3);
	figure(f, "server_user_s", pid * (r->published_to.user_s - r->published_from.user_s), 2);
	figure(f, "server_sys_s", pid * (r->published_to.sys_s - r->published_from.sys_s), 2);
	figure(f, "rss_bytes_after", pid * r->published_to.rss, 0);
	figure(f, "client_cpu_s", r->client_cpu_s, 3);
	struct rusage children;
	getrusage(RUSAGE_CHILDREN, &children);
	figure(f, "publisher_cpu_s", (double)(children.ru_utime.tv_sec + children.ru_stime.tv_sec)
		+ (double)(children.ru_utime.tv_usec + children.ru_stime.tv_usec) / 1e6, 3);
}

static void figures_of_answers(struct figures *f, const struct run *r)
{
	static struct histogram latency;
	double pid = r->config.pids ? 1 : NOT_MEASURED, cpu_s = r->published_to.cpu_s - r->published_from.cpu_s;
	uint64_t not_stored = 0;
	for (uint32_t p = 0; p < r->publishers.count; p++) {
		not_stored += r->publishers.reports[p].not_stored;
		histogram_join(&latency, &r->publishers.reports[p].ack_latency);
	}
	figure(f, "acked", (double)r->acked, 0);
	figure(f, "acked_per_s", ratio((double)r->acked, (double)(r->publish_last_ns - r->publish_first_ns) / 1e9), 0);
	figure(f, "not_stored", (double)not_stored, 0);
	figure(f, "server_cpu_us_per_event", pid * ratio(cpu_s * 1e6, (double)r->published), 3);
	figure(f, "ack_p50_us", histogram_at(&latency, 0.5) / 1e3, 1);
	figure(f, "ack_p99_us", histogram_at(&latency, 0.99) / 1e3, 1);
	figure(f, "ack_max_us", latency.total ? (double)latency.max / 1e3 : NOT_MEASURED, 1);
}

static void figures_of_replays(struct figures *f, const struct run *r)
{
	double pid = r->config.pids ? 1 : NOT_MEASURED, deliveries = (double)r->deliveries;
	double seconds = r->last_ns > r->replay_first_ns ? (double)(r->last_ns - r->replay_first_ns) / 1e9 : 0;
	double cpu_s = r->replay_to.cpu_s - r->before.cpu_s;
	figure(f, "replay_first_ns", (double)r->replay_first_ns, 0);
	figure(f, "replay_last_ns", (double)r->last_ns, 0);
	figure(f, "seconds", seconds, 4);
	figure(f, "deliveries", deliveries, 0);
	figure(f, "deliveries_per_s", ratio(deliveries, seconds), 0);
	figure(f, "bytes", (double)r->bytes, 0);
	figure(f, "complete", (double)r->replay_done.total, 0);
	figure(f, "done_p50_ms", histogram_at(&r->replay_done, 0.5) / 1e6, 1);
	figure(f, "done_max_ms", r->replay_done.total ? (double)r->replay_done.max / 1e6 : NOT_MEASURED, 1);
	figure(f, "missing", (double)r->missing, 0);
	figure(f, "repeated", (double)r->repeated, 0);
	figure(f, "disordered", (double)r->disordered, 0);
	figure(f, "server_cpu_us_per_delivery", pid * ratio(cpu_s * 1e6, deliveries), 3);
	figure(f, "server_cpu_s", pid * cpu_s, 3);
	figure(f, "rss_bytes_after", pid * r->replay_to.rss, 0);
	figure(f, "client_cpu_s", r->client_cpu_s, 3);
}

static void report_print(const struct run *r)
{
	struct figures f = {.count = 0};
	figures_of_streams(&f, r);
	if (r->config.publish)
		figures_of_events(&f, r);
	if (r->config.in_flight)
		figures_of_answers(&f, r);
	if (r->config.replayed)
		figures_of_replays(&f, r);
	figure(&f, "closed_readers", r->closed_readers, 0);
	if (r->config.slow)
		figure(&f, "slow", r->config.slow, 0), figure(&f, "closed_slow", r->closed_slow, 0);
	printf("{\"label\":\"%s\"", r->config.label);
	for (size_t i = 0; i < f.count; i++) {
		if (f.list[i].value != f.list[i].value) {
			printf(",\"%s\":null", f.list[i].name);
			continue;
		}
		printf(",\"%s\":%.*f", f.list[i].name, f.list[i].decimals, f.list[i].value);
		fprintf(stderr, "%28s %16.*f\n", f.list[i].name, f.list[i].decimals, f.list[i].value);
	}
	puts("}");
}

/* ---- main ------------------------------------------------------------------------------------------------- */

static void files_raise(uint32_t streams)
{
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < (rlim_t)streams + 16)
		die(2, "--streams: at most %lu (ulimit -n)", (unsigned long)files.rlim_cur - 16);
}

static void run_open(struct run *r)
{
	const struct config *c = &r->config;
	files_raise(c->streams);
	tokens_read(&r->tokens, c);
	r->server = address_read("connect", c->connect);
	r->start_ns = now_ns();
	r->limit_ns = r->start_ns + ns_of(c->limit);
	if (c->publish)
		publishers_fork(&r->publishers, c, &r->tokens);
	r->epoll = epoll_create1(EPOLL_CLOEXEC);
	r->streams = allocate(c->streams, sizeof *r->streams);
	r->tracks = allocate((size_t)c->streams * c->publishers, sizeof *r->tracks);
	r->buffer = allocate(1, HEAD_MAX + RECV_MAX);
	if (c->trace && !(r->trace = fopen(c->trace, "w")))
		die(1, "--trace: %s: %s", c->trace, strerror(errno));
}

int main(int argc, char **argv)
{
	static struct run run;
	config_read(&run.config, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	run_open(&run);
	phase_connect(&run);
	if (run.config.hold > 0)
		phase_hold(&run);
	if (run.config.publish)
		phase_publish(&run);
	if (run.config.replayed)
		phase_replay(&run);
	if (run.config.slow)
		phase_drain_slow(&run);
	if (run.trace && fclose(run.trace) != 0)
		die(1, "--trace: %s", strerror(errno));
	run.trace = NULL;
	report_print(&run);
	phase_close(&run);
	bool good = run.connected == run.config.streams && run.closed_readers == 0
		&& run.missing + run.repeated + run.disordered + run.stray == 0
		&& !(run.config.publish && run.published == 0) && !(run.config.in_flight && run.acked != run.published);
	return good ? 0 : 1;
}
