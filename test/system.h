/*
 * system.h - the stage of system.c: a server in a directory of its own, browsers that talk to it
 * over real sockets, and a Django that sends it datagrams.
 *
 * Nothing here sleeps to let things happen: every wait is for the thing itself, and LIMIT_MS is
 * a safety net that no test that passes ever reaches. What a helper finds wrong ends the test.
 */
#ifndef SYSTEM_H
#define SYSTEM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT_MS = 20000 };

/* The token file that every server starts with: two tokens of one user, one without a role. */
#define ANNA "anna-4f1c"
#define ANNA2 "anna-9b2e"
#define BORIS "boris-77aa"
#define CLARA "clara-31d0"
#define DAVE "dave-5e5e"
#define TOKENS ANNA " 7 manager\n" ANNA2 " 7 manager\n" BORIS " 8 foreman\n" CLARA " clara manager,foreman\n" DAVE " 9\n"

#define EVENTS "/api/v1/sse/events/"
#define STATS "/api/v1/sse/stats/"
#define GET_EVENTS(token) "GET " EVENTS "?token=" token " HTTP/1.1\r\nHost: h\r\n\r\n"
#define GET_STATS "GET " STATS " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " ANNA "\r\n\r\n"
#define EVENT(name, data, to) "{\"event\":\"" name "\",\"data\":" data ",\"to\":" to "}"
#define ALL "\"all\""

/* ---- time, text, files ------------------------------------------------------------------------ */

static inline int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Between two looks at something that cannot be waited for: a file, another process. */
static inline void glance(void)
{
	poll(NULL, 0, 5);
}

/* Bytes that grow; a NUL stands behind them. */
struct text {
	char *p;
	size_t n, cap;
};

static inline void text_add(struct text *t, const void *bytes, size_t n)
{
	if (t->cap - t->n < n + 1) {
		t->cap = 2 * (t->n + n + 1);
		t->p = realloc(t->p, t->cap);
		cr_assert(t->p != NULL);
	}
	if (n > 0)
		memcpy(t->p + t->n, bytes, n);
	t->n += n;
	t->p[t->n] = '\0';
}

static inline void text_say(struct text *t, const char *words)
{
	text_add(t, words, strlen(words));
}

static inline void text_fill(struct text *t, char c, size_t n)
{
	while (n-- > 0)
		text_add(t, &c, 1);
}

static inline void text_clear(struct text *t)
{
	t->n = 0;
	text_add(t, "", 0);
}

static inline void text_free(struct text *t)
{
	free(t->p);
	*t = (struct text){NULL, 0, 0};
}

static inline bool text_has(const struct text *t, const char *needle)
{
	return t->n > 0 && memmem(t->p, t->n, needle, strlen(needle)) != NULL;
}

static inline void file_write(const char *path, const char *words)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
	cr_assert(write(fd, words, strlen(words)) == (ssize_t)strlen(words));
	close(fd);
}

/* All of a file; empty if it is not there. The text lives until the next call. */
static inline struct text *file_text(const char *path)
{
	static struct text all;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char part[65536];
	ssize_t n;

	text_clear(&all);
	while (fd >= 0 && (n = read(fd, part, sizeof part)) > 0)
		text_add(&all, part, (size_t)n);
	if (fd >= 0)
		close(fd);
	return &all;
}

static inline int count_of(const struct text *t, const char *needle)
{
	const char *p = t->n > 0 ? t->p : "";
	int count = 0;

	for (; (p = strstr(p, needle)) != NULL; p++)
		count++;
	return count;
}

/* ---- the server --------------------------------------------------------------------------------- */

struct server {
	pid_t pid;
	int port;
	char dir[40], socket[64], http[64], tokens[64], log[64], errors[64];
	/* set between server_new and server_launch: */
	rlim_t nofile;           /* the limit on descriptors, if not 0 */
	bool no_standard_files;  /* 0, 1 and 2 are closed */
	bool complains;          /* may write to stderr */
	int django;              /* a sender that has an address */
};

/* What the server that was started last has written to stderr: a sanitizer's report, if there is one. */
static char last_errors[64];

static inline const char *server_words(void)
{
	return file_text(last_errors)->p;
}

/* A directory, and the names in it. */
static inline struct server server_new(void)
{
	struct server s = {.django = -1};
	const struct sockaddr_un nobody = {.sun_family = AF_UNIX};

	strcpy(s.dir, "/tmp/sse-system.XXXXXX");
	cr_assert(mkdtemp(s.dir) != NULL);
	snprintf(s.socket, sizeof s.socket, "%s/sse.sock", s.dir);
	snprintf(s.http, sizeof s.http, "%s/http.sock", s.dir);
	snprintf(s.tokens, sizeof s.tokens, "%s/tokens", s.dir);
	snprintf(s.log, sizeof s.log, "%s/log", s.dir);
	snprintf(s.errors, sizeof s.errors, "%s/stderr", s.dir);
	file_write(s.tokens, TOKENS);
	s.django = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	cr_assert(bind(s.django, (const struct sockaddr *)&nobody, sizeof(sa_family_t)) == 0, "autobind");
	return s;
}

static inline void server_child(const struct server *s, char **argv)
{
	struct rlimit limit = {s->nofile, s->nofile};
	int errors = open(s->errors, O_WRONLY | O_CREAT | O_APPEND, 0600);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(errors, STDOUT_FILENO);
	dup2(errors, STDERR_FILENO);
	close_range(s->no_standard_files ? 0 : 3, ~0u, 0);
	if (s->nofile > 0)
		setrlimit(RLIMIT_NOFILE, &limit);
	execv(argv[0], argv);
	_exit(127);
}

static inline void server_spawn(struct server *s, va_list more)
{
	const char *binary = getenv("SSE_BIN"), *arg;
	const char *argv[64] = {binary != NULL ? binary : "build/gcc/sse", "--listen", "127.0.0.1:0",
		"--socket", s->socket, "--token-file", s->tokens, "--log-file", s->log};
	int argc = 9;

	while ((arg = va_arg(more, const char *)) != NULL)
		argv[argc++] = arg;
	argv[argc] = NULL;
	strcpy(last_errors, s->errors);
	s->pid = fork();
	cr_assert(s->pid >= 0);
	if (s->pid == 0)
		server_child(s, (char **)(uintptr_t)argv);
}

/* Starts it, with more arguments up to NULL, and waits for nothing. */
static inline void server_launch(struct server *s, ...)
{
	va_list more;

	va_start(more, s);
	server_spawn(s, more);
	va_end(more);
}

static inline int log_count(const struct server *s, const char *needle)
{
	return count_of(file_text(s->log), needle);
}

/* Waits until the log has a text so many times. */
static inline void log_wait_times(const struct server *s, const char *needle, int times)
{
	int64_t until = now_ms() + LIMIT_MS;

	while (log_count(s, needle) < times) {
		cr_assert(now_ms() < until, "the log never says %s (%d times):\n%s", needle, times, file_text(s->log)->p);
		cr_assert(waitpid(s->pid, NULL, WNOHANG) == 0, "the server is gone: %s", file_text(s->errors)->p);
		glance();
	}
}

static inline void log_wait(const struct server *s, const char *needle)
{
	log_wait_times(s, needle, 1);
}

/* Waits for msg=ready, which it must have said so many times by now, and learns the port. */
static inline void server_ready(struct server *s, int times)
{
	static const char address[] = "address=127.0.0.1:";
	const char *p, *last = NULL;

	log_wait_times(s, "msg=ready", times);
	for (p = file_text(s->log)->p; (p = strstr(p, address)) != NULL; p++)
		last = p;
	cr_assert(last != NULL);
	s->port = atoi(last + strlen(address));
}

/* Starts a server with more arguments up to NULL; it is ready when this returns. */
static inline struct server server_start(const char *arg, ...)
{
	struct server s = server_new();
	const char *args[24] = {arg};
	va_list more;
	int i = 0;

	va_start(more, arg);
	while (args[i] != NULL)
		args[++i] = va_arg(more, const char *);
	va_end(more);
	server_launch(&s, args[0], args[1], args[2], args[3], args[4], args[5], args[6], args[7], args[8], args[9],
		args[10], args[11], NULL);
	server_ready(&s, 1);
	return s;
}

/* Waits for its end. Returns its exit status, or -signal. */
static inline int server_wait(struct server *s)
{
	int64_t until = now_ms() + LIMIT_MS;
	int status;

	while (waitpid(s->pid, &status, WNOHANG) == 0) {
		if (now_ms() > until) {
			kill(s->pid, SIGKILL);
			waitpid(s->pid, &status, 0);
			cr_assert_fail("the server does not end");
		}
		glance();
	}
	s->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline void server_remove(struct server *s)
{
	DIR *dir = opendir(s->dir);
	struct dirent *file;

	while (dir != NULL && (file = readdir(dir)) != NULL)
		unlinkat(dirfd(dir), file->d_name, 0);
	if (dir != NULL)
		closedir(dir);
	rmdir(s->dir);
	close(s->django);
}

/* It ends with 0, found no mistake of its own (sanitizers), and every line it logged has SSE. */
static inline void server_ended(struct server *s)
{
	int status = server_wait(s), lines, marked;

	cr_assert(status == 0, "exit status %d: %s", status, file_text(s->errors)->p);
	cr_assert(s->complains || file_text(s->errors)->n == 0, "stderr: %s", file_text(s->errors)->p);
	lines = log_count(s, "\n");
	marked = log_count(s, " app=SSE level=");
	cr_assert(lines == marked, "%d lines, %d of them with SSE:\n%s", lines, marked, file_text(s->log)->p);
	server_remove(s);
}

static inline void server_stop(struct server *s)
{
	kill(s->pid, SIGTERM);
	server_ended(s);
}

/* A server that must not start: exit status and what it says on stderr. */
static inline void server_fails(struct server *s, int status, const char *why)
{
	int got = server_wait(s);
	struct text *errors = file_text(s->errors);

	cr_assert(got == status, "exit status %d, not %d: %s", got, status, errors->p);
	cr_assert(text_has(errors, why), "expected \"%s\" in: %s", why, errors->p);
	cr_assert(count_of(errors, "\n") == 1, "one line: %s", errors->p);
}

/* How many descriptors a server has. */
static inline int server_descriptors(const struct server *s)
{
	char path[64];
	DIR *dir;
	int count = 0;

	snprintf(path, sizeof path, "/proc/%d/fd", (int)s->pid);
	dir = opendir(path);
	cr_assert(dir != NULL);
	while (readdir(dir) != NULL)
		count++;
	if (dir != NULL)
		closedir(dir);
	return count - 2;
}

static inline void server_wait_descriptors(const struct server *s, int count)
{
	int64_t until = now_ms() + LIMIT_MS;

	while (server_descriptors(s) != count) {
		cr_assert(now_ms() < until, "%d descriptors, expected %d", server_descriptors(s), count);
		glance();
	}
}

/* Processor time it has used, in ms. */
static inline int64_t server_cpu_ms(const struct server *s)
{
	char path[64];
	long long user = 0, kernel = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)s->pid);
	sscanf(strrchr(file_text(path)->p, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld", &user, &kernel);
	return (user + kernel) * 1000 / sysconf(_SC_CLK_TCK);
}

/* ---- clients ---------------------------------------------------------------------------------------- */

struct client {
	int fd;
	bool eof, reset;
	struct text in; /* all that came */
	size_t at;      /* up to here it has been taken as answers */
	int status;     /* of the last answer ... */
	struct text head, body;
};

/* Connects to a port of 127.0.0.1 (or ::1); rcvbuf is set before, if not 0. */
static inline struct client client_tcp(int port, bool six, int rcvbuf)
{
	struct client c = {.fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int one = 1;

	cr_assert(c.fd >= 0);
	setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (rcvbuf > 0)
		setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf);
	if (six)
		cr_assert(connect(c.fd, (struct sockaddr *)&a6, sizeof a6) == 0, "%s", strerror(errno));
	else
		cr_assert(connect(c.fd, (struct sockaddr *)&a4, sizeof a4) == 0, "%s", strerror(errno));
	return c;
}

static inline struct client client_open(const struct server *s)
{
	return client_tcp(s->port, false, 0);
}

static inline struct sockaddr_un unix_address(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	strncpy(a.sun_path, path, sizeof a.sun_path - 1);
	return a;
}

static inline struct client client_unix(const char *path)
{
	struct client c = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
	struct sockaddr_un a = unix_address(path);

	cr_assert(connect(c.fd, (struct sockaddr *)&a, sizeof a) == 0, "%s: %s", path, strerror(errno));
	return c;
}

static inline void client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	text_free(&c->in);
	text_free(&c->head);
	text_free(&c->body);
	*c = (struct client){.fd = -1};
}

/* Closes by a reset. */
static inline void client_reset(struct client *c)
{
	struct linger linger = {1, 0};

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
	client_close(c);
}

/* Sends what it can: false if the server has closed meanwhile. */
static inline bool client_try(struct client *c, const void *bytes, size_t n)
{
	size_t sent = 0;

	while (sent < n) {
		ssize_t part = send(c->fd, (const char *)bytes + sent, n - sent, MSG_NOSIGNAL);

		if (part < 0)
			return false;
		sent += (size_t)part;
	}
	return true;
}

static inline void client_send(struct client *c, const char *words)
{
	cr_assert(client_try(c, words, strlen(words)), "%s", strerror(errno));
}

/* Takes in what has come, or waits for something. False at the end. */
static inline bool client_read(struct client *c)
{
	struct pollfd ready = {.fd = c->fd, .events = POLLIN};
	char part[65536];
	ssize_t n;

	if (c->eof)
		return false;
	cr_assert(poll(&ready, 1, LIMIT_MS) > 0, "nothing comes; so far: %s", c->in.n > 0 ? c->in.p : "nothing");
	n = recv(c->fd, part, sizeof part, 0);
	c->eof = n <= 0;
	c->reset = n < 0;
	if (n > 0)
		text_add(&c->in, part, (size_t)n);
	return n > 0;
}

static inline void client_read_all(struct client *c)
{
	while (client_read(c))
		;
}

/* The value of a header of the last answer, up to CR; NULL if it is not there. */
static inline const char *client_header(struct client *c, const char *name)
{
	static char value[1024];
	char line[128];
	const char *p;

	snprintf(line, sizeof line, "\r\n%s: ", name);
	p = strstr(c->head.p, line);
	if (p == NULL)
		return NULL;
	p += strlen(line);
	snprintf(value, sizeof value, "%.*s", (int)strcspn(p, "\r"), p);
	return value;
}

/* Takes the head of the next answer. */
static inline void client_head(struct client *c)
{
	const char *end;

	while (c->in.n == c->at || (end = strstr(c->in.p + c->at, "\r\n\r\n")) == NULL)
		cr_assert(client_read(c), "expected an answer, got: %s\n%s", c->in.n > 0 ? c->in.p + c->at : "", server_words());
	text_clear(&c->head);
	text_clear(&c->body);
	text_add(&c->head, c->in.p + c->at, (size_t)(end + 4 - (c->in.p + c->at)));
	c->at += c->head.n;
	cr_assert(strncmp(c->head.p, "HTTP/1.1 ", 9) == 0, "no answer: %s", c->head.p);
	c->status = atoi(c->head.p + 9);
	cr_assert(client_header(c, "Date") != NULL && strlen(client_header(c, "Date")) == 29, "Date: %s", c->head.p);
}

/* Takes the next answer, head and body, and shows that one can tell where it ends. */
static inline void client_answer(struct client *c)
{
	const char *length;
	size_t bytes;

	client_head(c);
	length = client_header(c, "Content-Length");
	cr_assert(length != NULL || c->status == 204, "no Content-Length: %s", c->head.p);
	bytes = length == NULL ? 0 : (size_t)atol(length);
	while (c->in.n - c->at < bytes)
		cr_assert(client_read(c), "cut off: %s", c->in.p + c->at);
	text_add(&c->body, c->in.p + c->at, bytes);
	c->at += bytes;
}

/* The server closes, and has said nothing more. */
static inline void client_expect_end(struct client *c)
{
	client_read_all(c);
	cr_assert(c->in.n == c->at, "expected the end, got: %s", c->in.p + c->at);
}

/* A connection of its own for one request. */
static inline struct client ask(const struct server *s, const char *request)
{
	struct client c = client_open(s);

	client_send(&c, request);
	client_answer(&c);
	return c;
}

/* Asks something on another connection: when it is answered, what was sent before has been read. */
static inline void server_turns(const struct server *s)
{
	struct client c = ask(s, GET_STATS);

	cr_assert(c.status == 200);
	client_close(&c);
}

static inline const char *stats(const struct server *s)
{
	static char body[1024];
	struct client c = ask(s, GET_STATS);

	snprintf(body, sizeof body, "%s", c.body.p);
	client_close(&c);
	return body;
}

/* Waits until /stats/ is this. */
static inline void stats_wait(const struct server *s, const char *expected)
{
	int64_t until = now_ms() + LIMIT_MS;

	while (strcmp(stats(s), expected) != 0)
		cr_assert(now_ms() < until, "%sis not %s", stats(s), expected);
}

#define STATS_EMPTY "{\"total_users\":0,\"total_connections\":0,\"users\":{}}\n"

/* ---- streams -------------------------------------------------------------------------------------------- */

struct stream {
	struct client c;
	bool chunked, ended; /* ended: the last chunk has come, or, without chunks, the end */
	struct text body;
	size_t at;           /* of the next frame in the body */
	long long ms, n;     /* the last id */
};

/* Takes one chunk of what has come in. Chunks are as RFC 9112 section 7.1 has them, to the byte. */
static inline bool stream_chunk(struct stream *st)
{
	struct client *c = &st->c;
	const char *p = c->in.p + c->at;
	size_t have = c->in.n - c->at, line;
	unsigned long size;
	char *end;

	if (have == 0 || memmem(p, have, "\r\n", 2) == NULL)
		return false;
	size = strtoul(p, &end, 16);
	cr_assert(end > p && end[0] == '\r' && end[1] == '\n', "not a chunk: %.40s", p);
	line = (size_t)(end - p) + 2;
	if (have < line + size + 2)
		return false;
	cr_assert(memcmp(p + line + size, "\r\n", 2) == 0, "a chunk of another length: %.40s", p);
	cr_assert(!st->ended, "a chunk behind the last one");
	text_add(&st->body, p + line, size);
	c->at += line + size + 2;
	st->ended = size == 0;
	return true;
}

/* Takes in more of the body; false at the end. */
static inline bool stream_read(struct stream *st)
{
	struct client *c = &st->c;

	if (st->chunked ? stream_chunk(st) : c->at < c->in.n) {
		if (!st->chunked)
			text_add(&st->body, c->in.p + c->at, c->in.n - c->at);
		if (!st->chunked)
			c->at = c->in.n;
		return true;
	}
	if (client_read(c))
		return true;
	st->ended = st->chunked ? st->ended : !c->reset;
	return false;
}

/* The next frame, without the empty line at its end; NULL at the end of the stream. Good until the next call. */
static inline const char *stream_frame(struct stream *st)
{
	char *end, *frame;

	while (st->body.n == 0 || (end = strstr(st->body.p + st->at, "\n\n")) == NULL)
		if (!stream_read(st)) {
			cr_assert(st->body.n == st->at, "cut off within a frame: %.80s", st->body.p + st->at);
			return NULL;
		}
	frame = st->body.p + st->at;
	*end = '\0';
	st->at += (size_t)(end + 2 - frame);
	return frame;
}

/* The next frame has an id, greater than the one before; returns what follows "data: ". */
static inline const char *stream_event(struct stream *st)
{
	const char *frame = stream_frame(st);
	long long ms, n;
	int bytes = 0;

	cr_assert(frame != NULL, "the stream has ended\n%s", server_words());
	cr_assert(sscanf(frame, "id: %lld-%lld\n%n", &ms, &n, &bytes) == 2 && bytes > 0, "no id: %.80s", frame);
	cr_assert(strspn(frame + 4, "0123456789-") == (size_t)bytes - 5, "an id of digits: %.80s", frame);
	cr_assert(ms > st->ms || (ms == st->ms && n > st->n), "ids must rise: %.80s", frame);
	st->ms = ms;
	st->n = n;
	cr_assert(strncmp(frame + bytes, "data: ", 6) == 0 && strchr(frame + bytes, '\n') == NULL, "one data line: %.200s", frame);
	return frame + bytes + 6;
}

/* The next frame is this event: its data to the byte; now is its time, or `timestamp` if not 0. */
static inline void stream_expect_at(struct stream *st, const char *name, const char *data, long long timestamp)
{
	const char *got = stream_event(st);
	struct text want = {NULL, 0, 0};
	long long at = 0;

	text_say(&want, "{\"event\":\"");
	text_say(&want, name);
	text_say(&want, "\",\"data\":");
	text_say(&want, data);
	text_say(&want, ",\"timestamp\":");
	cr_assert(strncmp(got, want.p, want.n) == 0, "expected %.200s, got %.200s", want.p, got);
	cr_assert(sscanf(got + want.n, "%lld", &at) == 1 && strspn(got + want.n, "0123456789") + 1 == strlen(got + want.n));
	if (timestamp != 0)
		cr_assert(at == timestamp, "%.200s", got);
	else
		cr_assert(llabs(at - (long long)time(NULL)) < 60, "%.200s", got);
	text_free(&want);
}

static inline void stream_expect(struct stream *st, const char *name, const char *data)
{
	stream_expect_at(st, name, data, 0);
}

/* The stream ends as it should: this frame, the last chunk, the end. */
static inline void stream_expect_end(struct stream *st, const char *last)
{
	const char *frame = stream_frame(st);

	cr_assert(frame != NULL && strncmp(frame, last, strlen(last)) == 0, "expected %s, got %.80s", last,
		frame != NULL ? frame : "the end");
	frame = stream_frame(st);
	cr_assert(frame == NULL, "expected the end, got %.80s", frame);
	cr_assert(st->ended && !st->c.reset, "not a clean end");
}

static inline void stream_close(struct stream *st)
{
	client_close(&st->c);
	text_free(&st->body);
}

/* What the next frame begins with. */
static inline const char *stream_peek(struct stream *st)
{
	while (st->body.n < st->at + 6)
		cr_assert(stream_read(st), "the stream has ended\n%s", server_words());
	return st->body.p + st->at;
}

/* The client has sent its request: takes the head, the retry line and "connected", which has no id before a resync. */
static inline struct stream stream_begin(struct client c, const char *request)
{
	struct stream st = {.c = c};
	const char *frame;
	long ms;

	client_send(&st.c, request);
	client_head(&st.c);
	cr_assert(st.c.status == 200, "%s", st.c.head.p);
	st.chunked = client_header(&st.c, "Transfer-Encoding") != NULL;
	frame = stream_frame(&st);
	cr_assert(frame != NULL && sscanf(frame, "retry: %ld", &ms) == 1 && ms >= 3000 && ms <= 4000, "%s", frame);
	frame = strstr(stream_peek(&st), "data: ") == stream_peek(&st) ? stream_frame(&st) + 6 : stream_event(&st);
	cr_assert_str_eq(frame, "{\"event\":\"connected\",\"message\":\"SSE connection established\"}");
	return st;
}

static inline struct stream stream_open(const struct server *s, const char *token)
{
	char request[256];

	snprintf(request, sizeof request, "GET " EVENTS "?token=%s HTTP/1.1\r\nHost: h\r\n\r\n", token);
	return stream_begin(client_open(s), request);
}

/* A stream of a client with small buffers, which reads no more than the greeting. */
static inline struct stream stream_open_lazy(const struct server *s, const char *token)
{
	char request[256];

	snprintf(request, sizeof request, "GET " EVENTS "?token=%s HTTP/1.1\r\nHost: h\r\n\r\n", token);
	return stream_begin(client_tcp(s->port, false, 2048), request);
}

/* ---- Django ------------------------------------------------------------------------------------------------ */

static inline bool datagram_send(const struct server *s, int from, const void *bytes, size_t n)
{
	struct sockaddr_un to = unix_address(s->socket);

	return sendto(from, bytes, n, 0, (struct sockaddr *)&to, sizeof to) == (ssize_t)n;
}

/* The next datagram that came back. Good until the next call. */
static inline const char *datagram_receive(int fd)
{
	static char ack[65536];
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	ssize_t n;

	cr_assert(poll(&ready, 1, LIMIT_MS) > 0, "no ack\n%s", server_words());
	n = recv(fd, ack, sizeof ack - 1, 0);
	cr_assert(n >= 0);
	ack[n] = '\0';
	return ack;
}

/* Sends a datagram, returns its acks. */
static inline const char *publish_bytes(const struct server *s, const void *bytes, size_t n)
{
	cr_assert(datagram_send(s, s->django, bytes, n), "%s", strerror(errno));
	return datagram_receive(s->django);
}

static inline const char *publish(const struct server *s, const char *words)
{
	return publish_bytes(s, words, strlen(words));
}

/* Sends an event (or op) and sees it matched so many streams. */
static inline void published(const struct server *s, const char *words, int matched)
{
	const char *ack = publish(s, words);
	long long ms, n;
	int got = -1, bytes = 0;

	cr_assert(sscanf(ack, "{\"ok\":true,\"id\":\"%lld-%lld\",\"matched\":%d}%n", &ms, &n, &got, &bytes) == 3
		&& bytes == (int)strlen(ack), "%.100s: %s", words, ack);
	cr_assert(got == matched, "%.100s: matched %d, not %d", words, got, matched);
}

/* Sends from a socket that has no address. */
static inline void publish_unbound(const struct server *s, const char *words)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	cr_assert(datagram_send(s, fd, words, strlen(words)), "%s", strerror(errno));
	close(fd);
}

/* Waits until it takes datagrams: for a server whose log does not say that it is ready. */
static inline void server_answers(const struct server *s)
{
	int64_t until = now_ms() + LIMIT_MS;

	while (!datagram_send(s, s->django, "{\"op\":\"ping\"}", 13)) {
		cr_assert(now_ms() < until, "%s", strerror(errno));
		glance();
	}
	datagram_receive(s->django);
}

#endif
