/*
 * Options: where values come from, what each may be, and what is said of one that may not.
 * Each test runs in an empty directory of its own, where the configuration file is "conf".
 * The tests of the binary want its path in SSE_BIN and are skipped without.
 */
#include "vectors.h"

#include <limits.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_TEXTS = 64 };

static char directory[] = "/tmp/sse-options-XXXXXX";
static char binary[PATH_MAX];

static void enter(void)
{
	const char *path = getenv("SSE_BIN");

	if (path != NULL && realpath(path, binary) == NULL)
		cr_assert_fail("SSE_BIN: no such file: %s", path);
	cr_assert_not_null(mkdtemp(directory));
	cr_assert_eq(chdir(directory), 0);
}

static void leave(void)
{
	static const char *const files[] = {"conf", "tokens", "log", "out", "err"};

	for (size_t i = 0; i < COUNT_OF(files); i++)
		unlink(files[i]);
	cr_expect_eq(rmdir(directory), 0);
}

TestSuite(options, .init = enter, .fini = leave);

/* ---- reading -------------------------------------------------------------------------------------- */

/* What the user gives. Lists end with NULL; the file is NULL if there is none. */
struct given {
	const char *flags[MOST_TEXTS], *env[MOST_TEXTS];
	const char *file;
};

/* What comes of it. */
struct result {
	struct options o;
	bool good;
	char error[8192];
};

static void write_file(const char *path, const char *text, size_t bytes)
{
	FILE *f = fopen(path, "w");

	cr_assert_not_null(f);
	cr_assert_eq(fwrite(text, 1, bytes, f), bytes);
	cr_assert_eq(fclose(f), 0);
}

/* Reads what is given; the file by SSE_CONFIG. The caller frees result.o (options_free). */
static void read_options(struct result *r, const struct given *given)
{
	static char program[] = "sse", config[] = "SSE_CONFIG=conf";
	char *argv[MOST_TEXTS + 2] = {program}, *env[MOST_TEXTS + 2] = {NULL};
	struct buf error = buf_fixed(r->error, sizeof r->error - 1);
	int argc = 1, variables = 0;

	for (; given->flags[argc - 1] != NULL; argc++)
		argv[argc] = (char *)(uintptr_t)given->flags[argc - 1];
	for (; given->env[variables] != NULL; variables++)
		env[variables] = (char *)(uintptr_t)given->env[variables];
	if (given->file != NULL) {
		write_file("conf", given->file, strlen(given->file));
		env[variables] = config;
	}
	r->good = options_read(&r->o, argc, argv, env, &error);
	cr_expect(!error.failed);
	r->error[error.len] = '\0';
	cr_expect_eq(r->good, error.len == 0, "\"%s\"", r->error);
}

#define GIVEN(...) &(struct given){__VA_ARGS__}

/* It is refused, with exactly this said. */
static void expect_error(const struct given *given, const char *expected)
{
	struct result r;

	read_options(&r, given);
	cr_expect_str_eq(r.error, expected, "said \"%s\", expected \"%s\"", r.error, expected);
	options_free(&r.o);
}

/* It is refused, and all of these are said. */
static void expect_said(const struct given *given, const char *const *words)
{
	struct result r;

	read_options(&r, given);
	cr_expect(!r.good, "taken; expected an error with: %s", words[0]);
	for (; *words != NULL; words++)
		cr_expect_not_null(strstr(r.error, *words), "\"%s\" does not say \"%s\"", r.error, *words);
	cr_expect_null(strchr(r.error, '\n'), "more than one line: %s", r.error);
	options_free(&r.o);
}

#define SAYS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void expect_taken(const struct given *given)
{
	struct result r;

	read_options(&r, given);
	cr_expect(r.good, "%s", r.error);
	options_free(&r.o);
}

/* A list of the options, joined by commas. */
static void expect_list(const struct option_list *list, const char *expected)
{
	char text[1024];
	struct buf b = buf_fixed(text, sizeof text - 1);

	for (int i = 0; i < list->count; i++) {
		buf_text(&b, i > 0 ? "," : "");
		buf_text(&b, list->items[i]);
	}
	text[b.len] = '\0';
	cr_expect_str_eq(text, expected);
}

/* ---- where values come from ----------------------------------------------------------------------- */

Test(options, the_defaults_are_those_of_the_design)
{
	struct result r;

	read_options(&r, GIVEN(.file = NULL));
	cr_assert(r.good, "%s", r.error);
	expect_list(&r.o.listen, "127.0.0.1:8090");
	expect_list(&r.o.cors_origin, "");
	cr_expect_str_eq(r.o.socket, "/run/sse/sse.sock");
	cr_expect_str_eq(r.o.prefix, "/api/v1/sse");
	cr_expect_str_eq(r.o.token_file, "");
	cr_expect_str_eq(r.o.log_file, "");
	cr_expect_eq(r.o.socket_mode, 0660);
	cr_expect_eq(r.o.log_level, LOG_INFO);
	cr_expect_eq(r.o.queue, 100);
	cr_expect_eq(r.o.history_bytes, 64 << 20);
	cr_expect_eq(r.o.history_age, INT64_C(7) * 86400000);
	cr_expect_str_eq(r.o.journal, "");
	cr_expect_eq(r.o.journal_sync, SYNC_BATCH);
	cr_expect_eq(r.o.datagram, 200 << 10);
	cr_expect_eq(r.o.keepalive, 30000);
	cr_expect_eq(r.o.retry, 3000);
	cr_expect_eq(r.o.retry_jitter, 1000);
	cr_expect_eq(r.o.max_connections, 0);
	cr_expect_eq(r.o.streams_per_user, 32);
	cr_expect_eq(r.o.target, 8 << 10);
	cr_expect_eq(r.o.head, 16 << 10);
	cr_expect_eq(r.o.head_timeout, 10000);
	cr_expect_eq(r.o.write_stall, 30000);
	cr_expect_eq(r.o.send_buffer, 128 << 10);
	cr_expect_eq(r.o.tcp_user_timeout, 60000);
	cr_expect_eq(r.o.drain, 5000);
	cr_expect(!r.o.help && !r.o.version && !r.o.check_config);
	options_free(&r.o);
}

static void expect_queue(const struct given *given, int64_t expected)
{
	struct result r;

	read_options(&r, given);
	cr_expect(r.good, "%s", r.error);
	cr_expect_eq(r.o.queue, expected, "%lld", (long long)r.o.queue);
	options_free(&r.o);
}

Test(options, a_flag_wins_over_a_variable_and_that_over_the_file)
{
	expect_queue(GIVEN(.file = NULL), 100);
	expect_queue(GIVEN(.file = "queue = 11"), 11);
	expect_queue(GIVEN(.file = "queue = 11", .env = {"SSE_QUEUE=12"}), 12);
	expect_queue(GIVEN(.file = "queue = 11", .env = {"SSE_QUEUE=12"}, .flags = {"--queue", "13"}), 13);
	expect_queue(GIVEN(.file = "queue = 11", .flags = {"--queue=13"}), 13);
	expect_queue(GIVEN(.env = {"SSE_QUEUE=12"}, .flags = {"--queue=13"}), 13);
}

Test(options, of_two_values_from_one_source_the_last_wins)
{
	expect_queue(GIVEN(.flags = {"--queue=13", "--queue", "14"}), 14);
	expect_queue(GIVEN(.file = "queue = 11\nqueue = 15"), 15);
}

static void expect_origins(const struct given *given, const char *expected)
{
	struct result r;

	read_options(&r, given);
	cr_expect(r.good, "%s", r.error);
	expect_list(&r.o.cors_origin, expected);
	options_free(&r.o);
}

Test(options, a_list_is_replaced_whole_by_a_source_of_more_weight)
{
	static const char file[] = "cors-origin = http://f1\ncors-origin = http://f2\n";

	expect_origins(GIVEN(.file = file), "http://f1,http://f2");
	expect_origins(GIVEN(.file = file, .env = {"SSE_CORS_ORIGIN=http://e"}), "http://e");
	expect_origins(GIVEN(.file = file, .flags = {"--cors-origin", "http://a", "--cors-origin=http://b"}),
		"http://a,http://b");
	expect_origins(GIVEN(.file = file, .env = {"SSE_CORS_ORIGIN=http://e"}, .flags = {"--cors-origin=http://a"}),
		"http://a");
}

Test(options, an_empty_value_empties_a_list)
{
	expect_origins(GIVEN(.file = "cors-origin = http://f", .env = {"SSE_CORS_ORIGIN="}), "");
	expect_origins(GIVEN(.env = {"SSE_CORS_ORIGIN=http://e"}, .flags = {"--cors-origin="}), "");
	expect_origins(GIVEN(.flags = {"--cors-origin=", "--cors-origin=http://a"}), "http://a");
}

Test(options, a_given_address_replaces_the_default_one)
{
	struct result r;

	read_options(&r, GIVEN(.flags = {"--listen", ":80", "--listen=unix:/run/sse/http.sock"}));
	cr_expect(r.good, "%s", r.error);
	expect_list(&r.o.listen, ":80,unix:/run/sse/http.sock");
	options_free(&r.o);
}

/* --listen must be somewhere; --admin need not. */
Test(options, the_operators_listener_is_off_until_it_is_given)
{
	struct result r;

	read_options(&r, GIVEN(.flags = {"--listen", ":80"}));
	cr_expect(r.good && r.o.admin.count == 0);
	options_free(&r.o);
	read_options(&r, GIVEN(.file = "admin = [::1]:8092\nadmin = unix:/run/sse/admin.sock"));
	cr_expect(r.good, "%s", r.error);
	expect_list(&r.o.admin, "[::1]:8092,unix:/run/sse/admin.sock");
	options_free(&r.o);
	read_options(&r, GIVEN(.file = "admin = :1", .env = {"SSE_ADMIN="}));
	cr_expect(r.good && r.o.admin.count == 0, "%s", r.error);
	options_free(&r.o);
	expect_said(GIVEN(.flags = {"--admin", "8092"}), SAYS("--admin: got \"8092\", takes HOST:PORT"));
	expect_said(GIVEN(.flags = {"--listen="}), SAYS("--listen: got \"\", takes HOST:PORT"));
}

Test(options, flags_without_a_value_are_seen)
{
	struct result r;

	read_options(&r, GIVEN(.flags = {"--status"}));
	cr_expect(r.good && r.o.status && !r.o.watch);
	options_free(&r.o);
	read_options(&r, GIVEN(.flags = {"--watch"}));
	cr_expect(r.good && r.o.status && r.o.watch, "there is nothing else to watch");
	options_free(&r.o);

	read_options(&r, GIVEN(.flags = {"--check-config", "--version", "--help"}));
	cr_expect(r.good && r.o.help && r.o.version && r.o.check_config);
	options_free(&r.o);
	read_options(&r, GIVEN(.flags = {"-h"}));
	cr_expect(r.good && r.o.help && !r.o.version && !r.o.check_config);
	options_free(&r.o);
}

Test(options, a_value_may_follow_or_stand_behind_an_equals_sign)
{
	struct result r;

	read_options(&r, GIVEN(.flags = {"--log-file", "/a=b", "--token-file=/c=d", "--prefix="}));
	cr_expect(r.good, "%s", r.error);
	cr_expect_str_eq(r.o.log_file, "/a=b");
	cr_expect_str_eq(r.o.token_file, "/c=d");
	cr_expect_str_eq(r.o.prefix, "");
	options_free(&r.o);
}

Test(options, every_option_can_be_given_in_three_ways)
{
#define X(type, field, flag, preset, least, most, placeholder, help) {flag, #field, preset},
	static const struct {
		const char *flag, *field, *preset;
	} rows[] = {OPTIONS(X)};
#undef X

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		char text[128], variable[128], line[128];

		snprintf(text, sizeof text, "--%s=%s", rows[i].flag, rows[i].preset);
		snprintf(variable, sizeof variable, "SSE_%s=%s", rows[i].field, rows[i].preset);
		for (char *p = variable; *p != '='; p++)
			if (*p >= 'a' && *p <= 'z')
				*p = (char)(*p - 'a' + 'A');
		snprintf(line, sizeof line, "%s = %s\n", rows[i].flag, rows[i].preset);
		expect_taken(GIVEN(.flags = {text}, .env = {variable}, .file = line));
	}
}

/* ---- the configuration file ------------------------------------------------------------------------ */

Test(options, the_file_has_lines_of_key_and_value_blank_lines_and_remarks)
{
	struct result r;

	read_options(&r, GIVEN(.file =
		"# a remark with = in it\n"
		"\n"
		"   \t\n"
		"queue=50\n"
		"\t keepalive\t = \t 20s \t\n"
		"  # another remark\n"
		"log-file = /a b=c # part of the value\r\n"
		"token-file =\n"
		"prefix = /p"));
	cr_expect(r.good, "%s", r.error);
	cr_expect_eq(r.o.queue, 50);
	cr_expect_eq(r.o.keepalive, 20000);
	cr_expect_str_eq(r.o.log_file, "/a b=c # part of the value");
	cr_expect_str_eq(r.o.token_file, "");
	cr_expect_str_eq(r.o.prefix, "/p");
	options_free(&r.o);
}

Test(options, the_file_is_named_by_flag_or_variable_and_the_flag_wins)
{
	write_file("conf", "queue = 11", 10);
	expect_queue(GIVEN(.flags = {"--config", "conf"}), 11);
	expect_queue(GIVEN(.flags = {"--config=conf"}), 11);
	expect_queue(GIVEN(.env = {"SSE_CONFIG=conf"}), 11);
	expect_queue(GIVEN(.env = {"SSE_CONFIG=missing"}, .flags = {"--config=conf"}), 11);
	expect_queue(GIVEN(.env = {"SSE_CONFIG=missing"}, .flags = {"--config="}), 100);
	expect_queue(GIVEN(.env = {"SSE_CONFIG="}), 100);
	expect_queue(GIVEN(.flags = {"--queue=13", "--config=conf"}), 13);
}

Test(options, a_mistake_in_the_file_is_named_by_file_line_and_key)
{
	expect_error(GIVEN(.file = "queue = 1"), "conf:1: queue: got \"1\", takes a whole number from 2 to 10000");
	expect_error(GIVEN(.file = "# x\n\nqueue = 20\n  keepalive = soon  \n"),
		"conf:4: keepalive: got \"soon\", takes a time (ms, s, m, h or d may follow; seconds if none does)"
		" from 50ms to 86400s");
	expect_said(GIVEN(.file = "queue = 20\nquue = 21\n"), SAYS("conf:2: quue", "no such option"));
	expect_said(GIVEN(.file = "--queue = 20\n"), SAYS("conf:1: --queue", "no such option"));
	expect_said(GIVEN(.file = "Queue = 20\n"), SAYS("conf:1: Queue", "no such option"));
	expect_said(GIVEN(.file = "config = other\n"), SAYS("conf:1: config", "no such option"));
	expect_said(GIVEN(.file = "= 20\n"), SAYS("conf:1: ", "no such option"));
	expect_said(GIVEN(.file = "queue\n"), SAYS("conf:1: queue", "KEY = VALUE"));
	expect_said(GIVEN(.file = "queue 20\n"), SAYS("conf:1: queue 20", "KEY = VALUE"));
	expect_said(GIVEN(.file = "queue = 20 # wide\n"), SAYS("conf:1: queue", "got \"20 # wide\""));
	expect_said(GIVEN(.file = "queue =\n"), SAYS("conf:1: queue", "got \"\""));
}

Test(options, a_mistake_in_the_file_counts_even_if_a_flag_would_win)
{
	expect_said(GIVEN(.file = "queue = 1", .flags = {"--queue=13"}), SAYS("conf:1: queue"));
}

Test(options, a_file_that_cannot_be_read_is_an_error)
{
	expect_error(GIVEN(.flags = {"--config", "missing"}),
		"--config: cannot read missing: No such file or directory");
	expect_error(GIVEN(.flags = {"--config=/tmp"}), "--config: cannot read /tmp: Is a directory");
	expect_said(GIVEN(.env = {"SSE_CONFIG=missing"}), SAYS("SSE_CONFIG", "missing", "No such file"));
}

Test(options, a_file_of_more_than_a_megabyte_is_an_error)
{
	size_t bytes = (1 << 20) + 4097;
	char *text = malloc(bytes);

	cr_assert_not_null(text);
	memset(text, '\n', bytes);
	write_file("conf", text, bytes);
	free(text);
	expect_error(GIVEN(.flags = {"--config=conf"}), "--config: cannot read conf: File too large");
}

Test(options, an_empty_file_changes_nothing)
{
	write_file("conf", "", 0);
	expect_queue(GIVEN(.flags = {"--config=conf"}), 100);
}

/* What stands behind a NUL must not be left out in silence. */
Test(options, a_nul_in_the_file_is_an_error)
{
	static const char text[] = "queue = 20\n\0\nqueue = 21\nquue = 1\n";

	write_file("conf", text, sizeof text - 1);
	expect_said(GIVEN(.flags = {"--config=conf"}), SAYS("conf"));
}

/* ---- right values ------------------------------------------------------------------------------------ */

Test(options, numbers_take_their_units)
{
	static const struct {
		const char *text;
		size_t offset;
		int64_t value;
	} rows[] = {
		{"--queue=2", offsetof(struct options, queue), 2},
		{"--queue=0099", offsetof(struct options, queue), 99},
		{"--head=9000", offsetof(struct options, head), 9000},
		{"--head=10K", offsetof(struct options, head), 10240},
		{"--history-bytes=128M", offsetof(struct options, history_bytes), 128 << 20},
		{"--history-bytes=2G", offsetof(struct options, history_bytes), INT64_C(2) << 30},
		{"--history-bytes=64G", offsetof(struct options, history_bytes), INT64_C(64) << 30},
		{"--keepalive=50ms", offsetof(struct options, keepalive), 50},
		{"--keepalive=20s", offsetof(struct options, keepalive), 20000},
		{"--keepalive=20", offsetof(struct options, keepalive), 20000},
		{"--keepalive=2m", offsetof(struct options, keepalive), 120000},
		{"--keepalive=24h", offsetof(struct options, keepalive), 86400000},
		{"--drain=0", offsetof(struct options, drain), 0},
		{"--retry-jitter=0ms", offsetof(struct options, retry_jitter), 0},
		{"--max-connections=1000000", offsetof(struct options, max_connections), 1000000},
		{"--socket-mode=0600", offsetof(struct options, socket_mode), 0600},
		{"--socket-mode=777", offsetof(struct options, socket_mode), 0777},
		{"--socket-mode=0", offsetof(struct options, socket_mode), 0},
		{"--log-level=error", offsetof(struct options, log_level), LOG_ERROR},
		{"--log-level=warning", offsetof(struct options, log_level), LOG_WARNING},
		{"--history-age=1d", offsetof(struct options, history_age), 86400000},
		{"--history-age=3650d", offsetof(struct options, history_age), INT64_C(315360000000)},
		{"--journal-sync=none", offsetof(struct options, journal_sync), SYNC_NONE},
		{"--journal-sync=batch", offsetof(struct options, journal_sync), SYNC_BATCH},
		{"--journal-sync=always", offsetof(struct options, journal_sync), SYNC_ALWAYS},
		{"--log-level=info", offsetof(struct options, log_level), LOG_INFO},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct result r;
		int64_t value;

		read_options(&r, GIVEN(.flags = {rows[i].text}));
		memcpy(&value, (const char *)&r.o + rows[i].offset, sizeof value);
		cr_expect(r.good && value == rows[i].value, "%s: %lld %s", rows[i].text, (long long)value, r.error);
		options_free(&r.o);
	}
}

/* The numbers of the table: every least and most is taken, and one beyond is not. */
#define NUMBERS_ADDRESSES(flag, least, most)
#define NUMBERS_ORIGINS(flag, least, most)
#define NUMBERS_NETWORKS(flag, least, most)
#define NUMBERS_PREFIX(flag, least, most)
#define NUMBERS_URL(flag, least, most)
#define NUMBERS_WORD(flag, least, most)
#define NUMBERS_HOST(flag, least, most)
#define NUMBERS_TEXT(flag, least, most)
#define NUMBERS_MODE(flag, least, most)
#define NUMBERS_LEVEL(flag, least, most)
#define NUMBERS_SYNC(flag, least, most)
#define NUMBERS_SWITCH(flag, least, most)
#define NUMBERS_COUNT(flag, least, most) {flag, "", least, most},
#define NUMBERS_BYTES(flag, least, most) {flag, "", least, most},
#define NUMBERS_DURATION(flag, least, most) {flag, "ms", least, most},

/* Beside options that leave room for each other's limits. */
static void expect_number(const char *flag, int64_t n, const char *unit, bool good)
{
	char text[64];
	struct result r;

	snprintf(text, sizeof text, "--%s=%lld%s", flag, (long long)n, unit);
	read_options(&r, GIVEN(.flags = {"--queue=2", "--datagram=256", "--target=64", "--head=64K", text}));
	cr_expect_eq(r.good, good, "%s: %s", text, r.error);
	if (!good)
		cr_expect_not_null(strstr(r.error, "takes"), "%s: %s", text, r.error);
	options_free(&r.o);
}

Test(options, a_number_may_be_its_least_and_its_most_and_nothing_beyond)
{
	static const struct {
		const char *flag, *unit;
		int64_t least, most;
	} rows[] = {
#define X(type, field, flag, preset, least, most, placeholder, help) NUMBERS_##type(flag, least, most)
		OPTIONS(X)
#undef X
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		expect_number(rows[i].flag, rows[i].least, rows[i].unit, true);
		expect_number(rows[i].flag, rows[i].most, rows[i].unit, true);
		expect_number(rows[i].flag, rows[i].least - 1, rows[i].unit, false);
		expect_number(rows[i].flag, rows[i].most + 1, rows[i].unit, false);
	}
}

Test(options, good_addresses_are_taken)
{
	static const char *const rows[] = {
		"127.0.0.1:8090", "0.0.0.0:80", "localhost:8090", ":8090", ":0", ":65535", "[::1]:8090", "[::]:80",
		"[2001:db8::7]:443", "[::ffff:192.0.2.1]:80", "[2001:0db8:1111:2222:3333:4444:255.255.255.255]:80",
		"unix:/run/sse/http.sock", "unix:/with:colon",
		"unix:/2345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678",
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct result r;

		read_options(&r, GIVEN(.flags = {"--listen", rows[i]}));
		cr_expect(r.good, "%s: %s", rows[i], r.error);
		expect_list(&r.o.listen, rows[i]);
		options_free(&r.o);
	}
}

Test(options, good_origins_are_taken)
{
	expect_origins(GIVEN(.flags = {"--cors-origin=*"}), "*");
	expect_origins(GIVEN(.flags = {"--cors-origin=null"}), "null");
	expect_origins(GIVEN(.flags = {"--cors-origin=https://site.example"}), "https://site.example");
	expect_origins(GIVEN(.flags = {"--cors-origin=http://localhost:5173"}), "http://localhost:5173");
	expect_origins(GIVEN(.flags = {"--cors-origin=http://[::1]:8000"}), "http://[::1]:8000");
	expect_origins(GIVEN(.flags = {"--cors-origin=chrome-extension://abcdef"}), "chrome-extension://abcdef");
}

Test(options, good_prefixes_are_taken)
{
	expect_taken(GIVEN(.flags = {"--prefix", ""}));
	expect_taken(GIVEN(.flags = {"--prefix", "/a"}));
	expect_taken(GIVEN(.flags = {"--prefix", "/a/b"}));
}

/* ---- wrong values ------------------------------------------------------------------------------------- */

struct wrong {
	const char *flag, *variable, *value, *takes;
};

static const char takes_count[] = "takes a whole number from 2 to 10000";
static const char takes_bytes[] = "takes a number of bytes (K, M and G may follow) from 256 to 64K";
static const char takes_time[] =
	"takes a time (ms, s, m, h or d may follow; seconds if none does) from 50ms to 86400s";
static const char takes_address[] = "takes HOST:PORT (HOST a number or localhost), [IPV6]:PORT, :PORT (every address) "
	"or unix:/PATH";
static const char takes_origin[] = "takes SCHEME://HOST[:PORT] whose pages may listen (no slash behind it), or *; repeatable";
static const char takes_mode[] = "takes permissions in octal, as 0660";
static const char takes_level[] = "takes error, warning or info";
static const char takes_prefix[] = "takes nothing, or a path that begins with / and does not end with it";
static const char takes_path[] = "takes a text of 1 to 98 bytes";

#define QUEUE(value) {"queue", "SSE_QUEUE", value, takes_count}
#define BYTES_OF_HEAD(value) {"head", "SSE_HEAD", value, takes_bytes}
#define KEEPALIVE(value) {"keepalive", "SSE_KEEPALIVE", value, takes_time}
#define LISTEN(value) {"listen", "SSE_LISTEN", value, takes_address}
#define ORIGIN(value) {"cors-origin", "SSE_CORS_ORIGIN", value, takes_origin}
#define PREFIX(value) {"prefix", "SSE_PREFIX", value, takes_prefix}
static const char takes_url[] = "takes http://HOST:PORT/PATH (HOST a number or localhost) or unix:/SOCKET:/PATH";
#define AUTH_URL(value) {"auth-url", "SSE_AUTH_URL", value, takes_url}
#define AUTH_HOST(value) {"auth-host", "SSE_AUTH_HOST", value, "takes HOST or HOST:PORT"}
#define AUTH_SCHEME(value) {"auth-scheme", "SSE_AUTH_SCHEME", value, \
	"takes a word of letters, digits and -._~+ of 1 to 32 bytes"}
#define MODE(value) {"socket-mode", "SSE_SOCKET_MODE", value, takes_mode}
#define SYNC(value) {"journal-sync", "SSE_JOURNAL_SYNC", value, "takes none, batch or always"}
#define SANDBOX(value) {"sandbox", "SSE_SANDBOX", value, "takes on or off"}
#define LEVEL(value) {"log-level", "SSE_LOG_LEVEL", value, takes_level}

/* Gives the value by flag (both forms), variable and file, and expects the same complaint of each. */
static void expect_wrong(const struct wrong *row)
{
	char flag[64], joined[512], variable[512], line[512], error[1024];

	snprintf(flag, sizeof flag, "--%s", row->flag);
	snprintf(joined, sizeof joined, "--%s=%s", row->flag, row->value);
	snprintf(variable, sizeof variable, "%s=%s", row->variable, row->value);
	snprintf(line, sizeof line, "\n%s = %s\n", row->flag, row->value);
	snprintf(error, sizeof error, "--%s: got \"%s\", %s", row->flag, row->value, row->takes);
	expect_error(GIVEN(.flags = {flag, row->value}), error);
	expect_error(GIVEN(.flags = {joined}), error);
	snprintf(error, sizeof error, "%s: got \"%s\", %s", row->variable, row->value, row->takes);
	expect_error(GIVEN(.env = {variable}), error);
	snprintf(error, sizeof error, "conf:2: %s: got \"%s\", %s", row->flag, row->value, row->takes);
	expect_error(GIVEN(.file = line), error);
}

static void expect_all_wrong(const struct wrong *rows, size_t count)
{
	for (size_t i = 0; i < count; i++)
		expect_wrong(&rows[i]);
}

#define EXPECT_ALL_WRONG(rows) expect_all_wrong(rows, COUNT_OF(rows))

Test(options, a_wrong_number_is_an_error_that_says_what_is_taken)
{
	static const struct wrong rows[] = {
		QUEUE(""), QUEUE("1"), QUEUE("10001"), QUEUE("-5"), QUEUE("+5"), QUEUE("0x10"), QUEUE("1e3"), QUEUE("5.0"),
		QUEUE("5 0"), QUEUE("10K"), QUEUE("10s"), QUEUE("many"), QUEUE("99999999999999999999"),
		QUEUE("18446744073709551716"), QUEUE("\xd9\xa5"),
		BYTES_OF_HEAD(""), BYTES_OF_HEAD("K"), BYTES_OF_HEAD("255"), BYTES_OF_HEAD("65K"), BYTES_OF_HEAD("1M"),
		BYTES_OF_HEAD("10k"), BYTES_OF_HEAD("10KB"), BYTES_OF_HEAD("10 K"), BYTES_OF_HEAD("10KK"),
		BYTES_OF_HEAD("1.5K"), BYTES_OF_HEAD("10s"), BYTES_OF_HEAD("1T"), BYTES_OF_HEAD("1099511627776G"),
		BYTES_OF_HEAD("17179869184G"), BYTES_OF_HEAD("18014398509481985K"),
		KEEPALIVE(""), KEEPALIVE("s"), KEEPALIVE("0"), KEEPALIVE("49ms"), KEEPALIVE("25h"), KEEPALIVE("1.5s"),
		KEEPALIVE("5 s"), KEEPALIVE("5S"), KEEPALIVE("5sec"), KEEPALIVE("5d"), KEEPALIVE("5K"), KEEPALIVE("-5s"),
		KEEPALIVE("1m30s"), KEEPALIVE("9223372036854775808ms"), KEEPALIVE("1099511627776h"),
		{"drain", "SSE_DRAIN", "", "takes a time (ms, s, m, h or d may follow; seconds if none does) from 0s to 3600s"},
		{"max-connections", "SSE_MAX_CONNECTIONS", "", "takes a whole number from 0 to 1000000"},
	};

	EXPECT_ALL_WRONG(rows);
}

Test(options, a_wrong_mode_or_word_is_an_error_that_says_what_is_taken)
{
	static const struct wrong rows[] = {
		MODE(""), MODE("8"), MODE("0668"), MODE("1000"), MODE("07777"), MODE("-1"), MODE("+7"), MODE("0x1ff"),
		MODE("rw-rw----"), MODE("0660 0"), MODE("7777777777777777777777777"),
		LEVEL(""), LEVEL("debug"), LEVEL("INFO"), LEVEL("inf"), LEVEL("infos"), LEVEL("2"), LEVEL("warn"),
		SANDBOX(""), SANDBOX("ON"), SANDBOX("1"), SANDBOX("yes"), SANDBOX("of"),
		SYNC(""), SYNC("None"), SYNC("ba tch"), SYNC("everysec"), SYNC("1"), SYNC("alway"),
	};

	EXPECT_ALL_WRONG(rows);
}

Test(options, a_wrong_address_is_an_error_that_says_what_is_taken)
{
	static const struct wrong rows[] = {
		LISTEN(""), LISTEN("127.0.0.1"), LISTEN("8090"), LISTEN("127.0.0.1:"), LISTEN(":"), LISTEN(":65536"),
		LISTEN("127.0.0.1:65536"), LISTEN("127.0.0.1:99999999999999999999"), LISTEN(":-1"), LISTEN(":+80"),
		LISTEN(":http"), LISTEN(":80x"), LISTEN(":8 0"), LISTEN("*:80"), LISTEN("127.0.0.256:80"),
		LISTEN("127.0.0:80"), LISTEN("127.0.0.1.1:80"), LISTEN("0x7f.0.0.1:80"), LISTEN("http://127.0.0.1:80"),
		LISTEN("example.com:80"), LISTEN("LOCALHOST.:80"), LISTEN("::1:80"), LISTEN("::1"), LISTEN("[::1]"),
		LISTEN("[::1]80"), LISTEN("[::1:80"), LISTEN("[:80"), LISTEN("[]:80"), LISTEN("[::g]:80"),
		LISTEN("[1:2:3]:80"), LISTEN("[1::2::3]:80"), LISTEN("[127.0.0.1]:80"), LISTEN("[::1]x:80"),
		LISTEN("[2001:0db8:1111:2222:3333:4444:5555:6666:7777:8888:9999]:80"),
		LISTEN("unix:"), LISTEN("unix:relative.sock"), LISTEN("unix:./http.sock"), LISTEN("unix"), LISTEN("/run/http.sock"),
		LISTEN("unix:/23456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"),
	};

	EXPECT_ALL_WRONG(rows);
}

Test(options, a_wrong_origin_is_an_error_that_says_what_is_taken)
{
	static const struct wrong rows[] = {
		ORIGIN("site.example"), ORIGIN("https://"), ORIGIN("://site.example"), ORIGIN("https:/site.example"),
		ORIGIN("https://site.example/"), ORIGIN("https://site.example/path"), ORIGIN("https://site.example?x"),
		ORIGIN("https://site.example#x"), ORIGIN("https://u@site.example"), ORIGIN("https://site.example:http"),
		ORIGIN("https://a,https://b"), ORIGIN("https://a https://b"), ORIGIN("https://[::1"), ORIGIN("Null"),
		ORIGIN("**"), ORIGIN("//site.example"),
	};

	EXPECT_ALL_WRONG(rows);
}

/* WHATWG URL 4.7: the origin a browser sends has a scheme, and a host that is not empty. */
Test(options, an_origin_that_no_browser_can_send_is_an_error)
{
	static const struct wrong rows[] = {
		ORIGIN("ht tp://site.example"), ORIGIN("1http://site.example"), ORIGIN("/x://site.example"),
		ORIGIN("https://:80"), ORIGIN("https://:"), ORIGIN("HTTPS://site.example"), ORIGIN("https://Site.example"),
		ORIGIN("+http://site.example"), ORIGIN("https://\xc3\xa9.example"), ORIGIN("https://%zz"),
	};

	EXPECT_ALL_WRONG(rows);
}

Test(options, a_text_too_short_or_too_long_is_an_error_that_says_what_is_taken)
{
	static const char long_path[] =
		"/23456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";
	const struct wrong rows[] = {
		{"socket", "SSE_SOCKET", "", takes_path},
		{"socket", "SSE_SOCKET", long_path, takes_path},
	};

	EXPECT_ALL_WRONG(rows);
	expect_taken(GIVEN(.flags = {"--socket", long_path + 1}));
}

Test(options, a_wrong_prefix_is_an_error_that_says_what_is_taken)
{
	static const struct wrong rows[] = {
		PREFIX("/"), PREFIX("//"), PREFIX("/a/"), PREFIX("a"), PREFIX("api/v1"), PREFIX("a/"), PREFIX("http://site"),
	};

	EXPECT_ALL_WRONG(rows);
}

Test(options, a_wrong_auth_url_is_an_error_that_says_what_is_taken)
{
	static const struct wrong rows[] = {
		AUTH_URL("https://127.0.0.1/a"), AUTH_URL("127.0.0.1:8000/a"), AUTH_URL("http://127.0.0.1:8000"),
		AUTH_URL("http:///a"), AUTH_URL("http://:8000/a"), AUTH_URL("http://django:8000/a"), AUTH_URL("http://127.0.0.1:x/a"),
		AUTH_URL("http://127.0.0.1:65536/a"), AUTH_URL("http://127.0.0.1:8000/a b"), AUTH_URL("http://127.0.0.1:8000/a#b"),
		AUTH_URL("http://127.0.0.1:8000/\xc3\xa9"), AUTH_URL("http://user@127.0.0.1/a"), AUTH_URL("http://[::1/a"),
		AUTH_URL("unix:/run/a.sock"), AUTH_URL("unix:/run/a.sock:"), AUTH_URL("unix:run/a.sock:/a"), AUTH_URL("unix::/a"),
		AUTH_URL("unix:/run/a.sock:a"), AUTH_URL("http://"), AUTH_URL("unix:"), AUTH_URL("off"),
	};

	EXPECT_ALL_WRONG(rows);
}

Test(options, auth_urls)
{
	static const char *const urls[] = {
		"http://127.0.0.1:8000/api/v1/sse/auth/", "http://localhost/a", "http://[::1]:8000/a", "http://[::1]/a?b=c",
		"unix:/run/django.sock:/a", "unix:/run/django.sock:/", "",
	};

	for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++)
		expect_taken(GIVEN(.flags = {"--auth-url", urls[i]}));
}

Test(options, a_wrong_scheme_or_host_for_django_is_an_error)
{
	static const struct wrong rows[] = {
		AUTH_SCHEME(""), AUTH_SCHEME("To ken"), AUTH_SCHEME("Token:"), AUTH_SCHEME("123456789012345678901234567890123"),
		AUTH_HOST("a b"), AUTH_HOST("http://a"), AUTH_HOST("a/b"), AUTH_HOST("a:b"),
	};

	EXPECT_ALL_WRONG(rows);
	expect_taken(GIVEN(.flags = {"--auth-scheme", "Bearer", "--auth-host", "site.example:8000"}));
}

Test(options, a_prefix_has_at_most_1024_bytes)
{
	static char text[1026] = "/";

	memset(text + 1, 'a', 1023);
	expect_taken(GIVEN(.flags = {"--prefix", text}));
	text[1024] = 'a';
	expect_said(GIVEN(.flags = {"--prefix", text}), SAYS("--prefix: got \"/aaa"));
}

Test(options, a_list_has_at_most_16_values)
{
	struct given given = {.flags = {NULL}};

	for (int i = 0; i < MAX_LISTEN; i++)
		given.flags[i] = "--listen=:8090";
	expect_taken(&given);
	given.flags[MAX_LISTEN] = "--listen=:8091";
	expect_said(&given, SAYS("--listen: ", ":8091"));
	for (int i = 0; i < MAX_LISTEN; i++)
		given.flags[i] = "--cors-origin=http://a";
	given.flags[MAX_LISTEN] = "--cors-origin=http://b";
	expect_said(&given, SAYS("--cors-origin: ", "http://b"));
}

Test(options, one_value_too_many_is_said_to_be_that)
{
	struct given given = {.flags = {NULL}};

	for (int i = 0; i <= MAX_LISTEN; i++)
		given.flags[i] = "--listen=:8090";
	expect_said(&given, SAYS("--listen: ", "16"));
}

Test(options, an_unknown_option_is_an_error)
{
	static const char *const rows[] = {"--quue", "--quue=5", "--Queue=5", "-q", "queue", "--", "-", "", "---queue=5",
		"-queue=5", "--queues=5", "--queue-=5", "--=5", "=5", "--cors_origin=*", "-help", "--log-level-=info"};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		char error[128];

		snprintf(error, sizeof error, "%s: no such option; see sse --help", rows[i]);
		expect_error(GIVEN(.flags = {rows[i]}), error);
		expect_error(GIVEN(.flags = {"--queue", "5", rows[i], "6"}), error);
	}
}

Test(options, a_flag_without_its_value_is_an_error)
{
	expect_error(GIVEN(.flags = {"--queue"}), "--queue: a value must follow");
	expect_error(GIVEN(.flags = {"--queue", "5", "--listen"}), "--listen: a value must follow");
	expect_error(GIVEN(.flags = {"--config"}), "--config: a value must follow");
	expect_said(GIVEN(.flags = {"--queue", "--listen"}), SAYS("--queue: got \"--listen\""));
}

Test(options, an_option_without_a_value_is_given_none)
{
	static const char *const names[] = {"--help", "-h", "--version", "--check-config", "--status", "--watch"};

	for (size_t i = 0; i < COUNT_OF(names); i++) {
		char given[64], error[128];

		for (int empty = 0; empty < 2; empty++) {
			snprintf(given, sizeof given, "%s=%s", names[i], empty ? "" : "off");
			snprintf(error, sizeof error, "%s: this option has no value", given);
			expect_error(GIVEN(.flags = {given}), error);
		}
	}
}

Test(options, an_error_is_one_line_whatever_was_given)
{
	expect_said(GIVEN(.flags = {"--queue", "5\n6"}), SAYS("--queue"));
	expect_said(GIVEN(.env = {"SSE_LISTEN=:80\nfoo"}), SAYS("SSE_LISTEN"));
	expect_said(GIVEN(.flags = {"--a\nb"}), SAYS("no such option"));
	expect_said(GIVEN(.flags = {"--config=a\nb"}), SAYS("--config"));
}

Test(options, other_variables_are_not_looked_at)
{
	expect_queue(GIVEN(.env = {"QUEUE=11", "SSE_QUEUES=12", "SSE_QUEU=13", "XSSE_QUEUE=14", "sse_queue=15", "SSE_CONFIGS=missing",
		"SSE_QUEUE", "SSE_=1", "="}), 100);
}

/* ---- values that must fit each other -------------------------------------------------------------------- */

Test(options, the_history_holds_a_queue_of_the_largest_events)
{
	expect_taken(GIVEN(.flags = {"--queue=100", "--datagram=1024", "--history-bytes=160000"}));
	expect_error(GIVEN(.flags = {"--queue=100", "--datagram=1024", "--history-bytes=159999"}),
		"--history-bytes: got \"159999\"; --queue 100 and --datagram 1K need at least 157K");
	expect_said(GIVEN(.flags = {"--queue=10000"}), SAYS("--history-bytes: got \"64M\"", "--queue 10000", "--datagram 200K"));
	expect_said(GIVEN(.flags = {"--datagram=4M"}), SAYS("--history-bytes: got \"64M\"", "--queue 100", "--datagram 4M"));
	expect_said(GIVEN(.env = {"SSE_HISTORY_BYTES=64K"}), SAYS("got \"64K\""));
}

/* The number in the complaint is one that is taken. */
Test(options, the_history_said_to_be_needed_is_enough)
{
	struct result r;
	char history[64];
	const char *at;

	read_options(&r, GIVEN(.flags = {"--queue=10000", "--datagram=4M"}));
	cr_assert(!r.good);
	at = strstr(r.error, "at least ");
	cr_assert_not_null(at, "%s", r.error);
	snprintf(history, sizeof history, "--history-bytes=%s", at + strlen("at least "));
	expect_taken(GIVEN(.flags = {"--queue=10000", "--datagram=4M", history}));
	options_free(&r.o);
}

Test(options, a_target_is_not_longer_than_a_head)
{
	expect_taken(GIVEN(.flags = {"--target=8K", "--head=8K"}));
	expect_said(GIVEN(.flags = {"--target=8193", "--head=8K"}), SAYS("--target", "--head"));
}

/* ---- help, and the end ------------------------------------------------------------------------------------ */

/* A line of --help begins with this flag and ends with this default. */
static void expect_help(const char *help, const char *flag, const char *placeholder, const char *preset)
{
	char begin[64], end[64];
	const char *line, *newline;

	snprintf(begin, sizeof begin, "\n  --%s %s ", flag, placeholder);
	snprintf(end, sizeof end, " (%s)\n", preset);
	line = strstr(help, begin);
	cr_assert_not_null(line, "--%s is not in --help", flag);
	newline = strchr(line + 1, '\n');
	cr_assert_not_null(newline);
	cr_expect(preset[0] == '\0' || strncmp(newline + 1 - strlen(end), end, strlen(end)) == 0,
		"--%s: the default is not in --help", flag);
}

Test(options, help_names_every_flag_with_its_default)
{
	struct buf help = buf_growable();

	options_help(&help);
	buf_byte(&help, '\0');
	cr_assert(!help.failed);
#define X(type, field, flag, preset, least, most, placeholder, help_text) \
	expect_help(help.data, flag, placeholder, preset); \
	cr_expect_not_null(strstr(help.data, help_text), flag);
	OPTIONS(X)
#undef X
	cr_expect_not_null(strstr(help.data, "--config FILE"));
	cr_expect_not_null(strstr(help.data, "--check-config"));
	cr_expect_not_null(strstr(help.data, "--help"));
	cr_expect_not_null(strstr(help.data, "--version"));
	buf_free(&help);
}

Test(options, freeing_twice_does_no_harm)
{
	struct result r;

	read_options(&r, GIVEN(.file = "queue = 20"));
	cr_expect_not_null(r.o.file_text);
	options_free(&r.o);
	cr_expect_null(r.o.file_text);
	options_free(&r.o);
}

/* ---- the binary ------------------------------------------------------------------------------------------- */

/* What it printed, and how it ended. */
struct ran {
	int status;
	char out[8192], err[8192];
};

static void read_text(const char *path, char text[8192])
{
	FILE *f = fopen(path, "r");

	cr_assert_not_null(f);
	text[fread(text, 1, 8191, f)] = '\0';
	fclose(f);
}

/* Runs it with this behind its name in a shell's line. Skips the test if there is no binary. */
static void run(struct ran *ran, const char *arguments)
{
	char line[PATH_MAX + 512];
	int status;

	if (binary[0] == '\0') {
		leave(); /* a skipped test does not come to .fini */
		cr_skip_test("SSE_BIN is not set");
	}
	snprintf(line, sizeof line, "'%s' %s >out 2>err </dev/null", binary, arguments);
	status = system(line);
	cr_assert(WIFEXITED(status));
	ran->status = WEXITSTATUS(status);
	read_text("out", ran->out);
	read_text("err", ran->err);
}

/* It ends with 2, says nothing on stdout, and on stderr one line that begins like this. */
static void expect_run_refused(const char *arguments, const char *begin)
{
	struct ran ran;
	char *newline;

	run(&ran, arguments);
	cr_expect_eq(ran.status, 2, "%s: ended with %d", arguments, ran.status);
	cr_expect_str_eq(ran.out, "");
	newline = strchr(ran.err, '\n');
	cr_expect(newline != NULL && newline[1] == '\0', "%s: not one line: %s", arguments, ran.err);
	cr_expect(strncmp(ran.err, begin, strlen(begin)) == 0, "%s: %s", arguments, ran.err);
}

Test(options, the_binary_prints_its_help)
{
	struct ran ran;
	struct buf help = buf_growable();

	run(&ran, "--help");
	options_help(&help);
	cr_expect_eq(ran.status, 0);
	cr_expect(span_is(buf_view(&help), ran.out));
	cr_expect_str_eq(ran.err, "");
	buf_free(&help);
}

Test(options, the_binary_prints_its_version)
{
	struct ran ran;

	run(&ran, "--version");
	cr_expect_eq(ran.status, 0);
	cr_expect_str_eq(ran.out, "sse " SSE_VERSION "\n");
	cr_expect_str_eq(ran.err, "");
}

Test(options, the_binary_refuses_bad_values_with_one_line)
{
	expect_run_refused("--queue 1", "sse: --queue: got \"1\", takes a whole number");
	expect_run_refused("--listen nowhere", "sse: --listen: got \"nowhere\", takes HOST:PORT");
	expect_run_refused("--quue 5", "sse: --quue: no such option");
	expect_run_refused("--queue", "sse: --queue: a value must follow");
	expect_run_refused("--config missing", "sse: --config: cannot read missing: No such file");
	expect_run_refused("--check-config --history-bytes 64K --token-file tokens", "sse: --history-bytes: got \"64K\"");
	expect_run_refused("", "sse: nobody may listen: give --auth-url, --ticket-key-file or --token-file");
	expect_run_refused("--check-config --token-file missing", "sse: --token-file: missing: No such file");
	expect_run_refused("--check-config --token-file .", "sse: --token-file: .: Is a directory");
}

Test(options, the_binary_takes_a_good_configuration)
{
	static const char tokens[] = "# people\n\ntok-1 56 manager,foreman\ntok-2 57\n";
	struct ran ran;

	write_file("tokens", tokens, sizeof tokens - 1);
	write_file("conf", "token-file = tokens\n", 20);
	expect_run_refused("--check-config --config conf --log-file missing/log", "sse: --log-file missing/log: cannot open: No such file");
	expect_run_refused("--check-config --config conf --log-file .", "sse: --log-file .: cannot open: Is a directory");
	expect_run_refused("--check-config --config conf --user nobody-at-all", "sse: --user nobody-at-all: there is no such user");
	run(&ran, "--check-config --config conf --log-file log");
	cr_expect_eq(ran.status, 0);
	cr_expect_eq(access("log", F_OK), -1, "a check makes no file");
	write_file("log", "a line\n", 7);
	run(&ran, "--check-config --config conf --log-file log");
	cr_expect_eq(ran.status, 0, "%s", ran.err);
	run(&ran, "--check-config --config conf");
	cr_expect_eq(ran.status, 0, "%s", ran.err);
	cr_expect_str_eq(ran.out, "sse: the configuration is good\n");
	cr_expect_str_eq(ran.err, "");
	expect_run_refused("--check-config --config conf --journal missing", "sse: --journal missing: make the directory first: No such");
	expect_run_refused("--check-config --config conf --journal tokens", "sse: --journal tokens: cannot use it: Not a directory");
	run(&ran, "--check-config --config conf --journal .");
	cr_expect_eq(ran.status, 0, "%s", ran.err);
}

Test(options, the_binary_names_the_bad_line_of_a_token_file_but_not_the_token)
{
	static const struct {
		const char *line, *what;
	} rows[] = {
		{"canary-4711", "expected TOKEN USER [ROLE,...]"},
		{"canary-4711 56 manager extra", "a fourth word"},
		{"canary-4711 56 manager, foreman", "a fourth word"},
		{"canary-4711 56 manager,", "a role must be"},
		{"canary-4711 56 a,,b", "a role must be"},
		{"canary-4711 12345678901234567890123456789012345678901234567890123456789012345 r", "a user id must be"},
		{"canary-4711 56 1234567890123456789012345678901234567890123456789012345678901234x", "a role must be"},
		{"canary-0815 58 manager", "this token stands in an earlier line"},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		char text[512], begin[128];
		struct ran ran;

		snprintf(text, sizeof text, "# people\ncanary-0815 55 manager\n\n%s\nlast 59 manager\n", rows[i].line);
		write_file("tokens", text, strlen(text));
		snprintf(begin, sizeof begin, "sse: --token-file: tokens:4: %s", rows[i].what);
		expect_run_refused("--check-config --token-file tokens", begin);
		run(&ran, "--check-config --token-file tokens");
		cr_expect_null(strstr(ran.err, "canary"), "%s", ran.err);
	}
}

Test(options, what_cannot_be_printed_ends_with_1)
{
	static const char *const asked[] = {"--help", "--version"};

	for (size_t i = 0; i < COUNT_OF(asked); i++) {
		char line[PATH_MAX + 64];
		int status;

		if (binary[0] == '\0') {
			leave();
			cr_skip_test("SSE_BIN is not set");
		}
		snprintf(line, sizeof line, "'%s' %s >/dev/full </dev/null", binary, asked[i]);
		status = system(line);
		cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 1, "%s: %d", asked[i], status);
	}
}
