/* world.c - see world.h. */
#include "world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	LOG_FD = 2, DATAGRAM_FD = 3, EPOLL_FD = 4, SIGNALS_FD = 5, SPARE_FD = 6, SYNCER_FD = 8,
	FIRST_CLIENT = 10, ROOM_AT_ALL = 250,
	FIRST_FILE = 300 /* from here on descriptors are real: files of the journal */
};

struct world world;

static struct fake_fd *fake(int fd)
{
	cr_assert(fd >= 0 && fd < WORLD_FDS, "descriptor %d", fd);
	return &world.fds[fd];
}

static ssize_t fails_with(int error)
{
	errno = error;
	return -1;
}

/* A free descriptor becomes a client, or a connection of the server's to Django. */
static int fake_open_fd(bool link)
{
	for (int fd = FIRST_CLIENT; fd < ROOM_AT_ALL; fd++) {
		struct fake_fd *f = fake(fd);

		if (f->open)
			continue;
		buf_clear(&f->in);
		buf_clear(&f->out);
		*f = (struct fake_fd){.open = true, .link = link, .room = link ? world.link_room : SIZE_MAX, .in = f->in, .out = f->out, .closes = f->closes};
		return fd;
	}
	cr_assert(false, "no descriptors left");
	return -1;
}

/* ---- the fakes ---- */

static int fake_accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags)
{
	(void)address, (void)bytes, (void)flags;
	cr_assert_eq(fd, WORLD_LISTENER);
	return (int)fails_with(world.accept_errno != 0 ? world.accept_errno : EAGAIN);
}

static ssize_t fake_recv(int fd, void *bytes, size_t n, int flags)
{
	struct fake_fd *f = fake(fd);

	(void)flags;
	cr_assert(f->open, "recv on descriptor %d, which is closed", fd);
	if (f->fails != 0 && f->in.len == 0 && !f->eof)
		return fails_with(f->fails);
	if (f->in.len == 0)
		return f->eof ? 0 : fails_with(EAGAIN);
	n = n < f->in.len ? n : f->in.len;
	memcpy(bytes, f->in.data, n);
	memmove(f->in.data, f->in.data + n, f->in.len - n);
	f->in.len -= n;
	return (ssize_t)n;
}

static ssize_t fake_sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct fake_fd *f = fake(fd);
	size_t all = 0, want = 0;

	cr_assert(f->open && !f->shut, "sendmsg on descriptor %d, which is closed or shut", fd);
	cr_assert(flags & MSG_NOSIGNAL, "without MSG_NOSIGNAL");
	f->sends++;
	f->pieces = message->msg_iovlen;
	f->full = true;
	for (size_t i = 0; i < message->msg_iovlen; i++)
		want += message->msg_iov[i].iov_len;
	if (f->fails != 0) {
		int error = f->fails;

		f->fails = 0;
		return fails_with(error);
	}
	if (f->room == 0)
		return fails_with(EAGAIN);
	for (size_t i = 0; i < message->msg_iovlen && f->room > 0; i++) {
		size_t n = message->msg_iov[i].iov_len < f->room ? message->msg_iov[i].iov_len : f->room;

		cr_assert_gt(message->msg_iov[i].iov_len, 0);
		buf_bytes(&f->out, message->msg_iov[i].iov_base, n);
		if (f->room != SIZE_MAX)
			f->room -= n;
		all += n;
	}
	f->full = all < want;
	return (ssize_t)all;
}

static int fake_recvmmsg(int fd, struct mmsghdr *messages, unsigned count)
{
	unsigned n = 0;

	cr_assert_eq(fd, DATAGRAM_FD);
	if (world.receive_errno != 0) {
		int error = world.receive_errno;

		world.receive_errno = 0;
		return (int)fails_with(error);
	}
	for (; n < count && world.datagram_first < world.datagram_count; n++) {
		struct msghdr *m = &messages[n].msg_hdr;
		struct sockaddr_un from = {.sun_family = AF_UNIX, .sun_path = "\0test"};
		size_t have = world.datagrams[world.datagram_first].n, room = m->msg_iov->iov_len;

		memcpy(m->msg_iov->iov_base, world.datagrams[world.datagram_first].bytes, have < room ? have : room);
		messages[n].msg_len = (unsigned)(have < room ? have : room);
		m->msg_flags = have > room ? MSG_TRUNC : 0;
		m->msg_namelen = 0;
		if (world.datagrams[world.datagram_first].bound) {
			memcpy(m->msg_name, &from, sizeof(sa_family_t) + 5);
			m->msg_namelen = sizeof(sa_family_t) + 5;
		}
		world.datagram_first++;
	}
	return n > 0 ? (int)n : (int)fails_with(EAGAIN);
}

static ssize_t fake_sendto(int fd, const void *bytes, size_t n, int flags, const struct sockaddr *to, socklen_t to_bytes)
{
	(void)to, (void)to_bytes;
	cr_assert(flags & MSG_DONTWAIT, "an ack must not wait for its sender");
	if (fd == WORLD_MANAGER && world.manager_errno != 0)
		return fails_with(world.manager_errno);
	if (fd == WORLD_MANAGER) {
		cr_assert_lt(n, sizeof world.told);
		memcpy(world.told, bytes, n);
		world.told[n] = '\0';
		world.tells++;
		return (ssize_t)n;
	}
	cr_assert_eq(fd, DATAGRAM_FD);
	if (world.ack_errno != 0)
		return fails_with(world.ack_errno);
	buf_bytes(&world.acks, bytes, n);
	buf_byte(&world.acks, '\n');
	world.acks_sent++;
	return (ssize_t)n;
}

static int fake_shutdown(int fd, int how)
{
	(void)how;
	cr_assert(fake(fd)->open);
	fake(fd)->shut = true;
	return 0;
}

static int fake_setsockopt(int fd, int level, int name, const void *value, socklen_t bytes)
{
	(void)value, (void)bytes;
	if (level == SOL_SOCKET && name == SO_LINGER)
		fake(fd)->reset = true;
	return 0;
}

static int fake_getpeername(int fd, struct sockaddr *address, socklen_t *bytes)
{
	(void)fd, (void)bytes;
	address->sa_family = AF_UNIX;
	return 0;
}

static int fake_close(int fd)
{
	struct fake_fd *f;

	if (fd >= FIRST_FILE)
		return close(fd);
	f = fake(fd);
	if (fd >= FIRST_CLIENT)
		cr_assert(f->open, "descriptor %d is closed twice", fd);
	f->open = false;
	f->closes++;
	return 0;
}

static int fake_socket(int domain, int type, int protocol)
{
	(void)domain, (void)protocol;
	cr_assert((type & SOCK_NONBLOCK) != 0 && (type & SOCK_CLOEXEC) != 0);
	if (world.socket_errno != 0)
		return (int)fails_with(world.socket_errno);
	return fake_open_fd(true);
}

static int fake_connect(int fd, const struct sockaddr *address, socklen_t bytes)
{
	cr_assert(fake(fd)->link);
	memcpy(&world.connected_to, address, bytes);
	world.connects++;
	return world.connect_errno != 0 ? (int)fails_with(world.connect_errno) : 0;
}

static int fake_epoll_ctl(int epoll, int op, int fd, struct epoll_event *e)
{
	(void)epoll, (void)op, (void)fd, (void)e;
	return 0;
}

static int fake_epoll_wait(int epoll, struct epoll_event *events, int most, int wait_ms)
{
	(void)epoll, (void)most;
	world.wait_ms = wait_ms;
	if (world.sync_asked && !world.sync_held) {
		events[0] = (struct epoll_event){.events = EPOLLIN, .data.fd = SYNCER_FD};
		return 1;
	}
	if (world.signal_count == 0)
		return 0;
	events[0] = (struct epoll_event){.events = EPOLLIN, .data.fd = SIGNALS_FD};
	return 1;
}

static ssize_t fake_read(int fd, void *bytes, size_t n)
{
	struct signalfd_siginfo info = {0};

	if (fd == SYNCER_FD) {
		cr_assert(world.sync_asked && n == sizeof world.sync);
		world.sync_asked = false;
		world.sync.error = world.sync_errno;
		world.syncs++;
		memcpy(bytes, &world.sync, n);
		return (ssize_t)n;
	}
	cr_assert(fd == SIGNALS_FD && n == sizeof info);
	if (world.signal_count == 0)
		return fails_with(EAGAIN);
	info.ssi_signo = (uint32_t)world.signals[0];
	memmove(world.signals, world.signals + 1, (size_t)--world.signal_count * sizeof *world.signals);
	memcpy(bytes, &info, sizeof info);
	return (ssize_t)sizeof info;
}

static int fake_open(const char *path, int flags)
{
	int file, high;

	if (strncmp(path, world.dir, strlen(world.dir)) != 0)
		return SPARE_FD;
	if ((flags & O_CREAT) != 0 && world.disk_errno != 0 && !world.disk_creates)
		return (int)fails_with(world.disk_errno);
	file = open(path, flags | O_CLOEXEC, 0600);
	if (file < 0)
		return -1;
	high = fcntl(file, F_DUPFD_CLOEXEC, FIRST_FILE);
	close(file);
	return high;
}

/* A disk that is full takes what there is room for, and then nothing. */
static ssize_t fake_pwritev(int fd, const struct iovec *iov, int pieces, off_t at)
{
	ssize_t all = 0;
	size_t want = 0;

	cr_assert(fd >= FIRST_FILE && pieces > 0 && pieces <= IOV_MAX);
	if (world.disk_errno != 0 && world.disk_room == 0)
		return fails_with(world.disk_errno);
	for (int i = 0; i < pieces; i++)
		want += iov[i].iov_len;
	if (world.disk_errno != 0 && world.disk_whole && want > world.disk_room)
		return fails_with(world.disk_errno);
	for (int i = 0; i < pieces; i++) {
		size_t n = iov[i].iov_len;

		if (world.disk_errno != 0 && n > world.disk_room)
			n = world.disk_room;
		cr_assert_eq(pwrite(fd, iov[i].iov_base, n, at + all), (ssize_t)n);
		all += (ssize_t)n;
		if (world.disk_errno != 0)
			world.disk_room -= n;
		if (n < iov[i].iov_len)
			break;
	}
	return all;
}

static ssize_t fake_write(int fd, const void *bytes, size_t n)
{
	if (fd == SYNCER_FD) {
		cr_assert(!world.sync_asked && n == sizeof world.sync);
		memcpy(&world.sync, bytes, n);
		cr_assert(fcntl(world.sync.file, F_GETFD) >= 0, "the syncer was given a closed file");
		world.sync_asked = true;
		return (ssize_t)n;
	}
	cr_assert_eq(fd, LOG_FD);
	n = n < world.log_room ? n : world.log_room;
	if (world.log_errno != 0 && (world.log_room == SIZE_MAX || n == 0))
		return fails_with(world.log_errno);
	if (world.log_room != SIZE_MAX)
		world.log_room -= n;
	buf_bytes(&world.log, bytes, n);
	return (ssize_t)n;
}

static int fake_clock_gettime(clockid_t clock, struct timespec *t)
{
	int64_t ms = clock == CLOCK_REALTIME ? world.wall_ms : world.now_ms;

	*t = (struct timespec){ms / 1000, ms % 1000 * 1000000};
	return 0;
}

static const struct sys fake_sys = {
	.accept4 = fake_accept4, .recv = fake_recv, .sendmsg = fake_sendmsg, .recvmmsg = fake_recvmmsg,
	.sendto = fake_sendto, .shutdown = fake_shutdown, .setsockopt = fake_setsockopt,
	.socket = fake_socket, .connect = fake_connect, .getpeername = fake_getpeername, .close = fake_close, .epoll_ctl = fake_epoll_ctl,
	.epoll_wait = fake_epoll_wait,
	.read = fake_read, .open = fake_open, .write = fake_write, .pwritev = fake_pwritev, .clock_gettime = fake_clock_gettime,
};

/* ---- the world ---- */

const char *world_file(const char *name, const char *text)
{
	static char path[96];
	FILE *f;

	if (world.dir[0] == '\0') {
		strcpy(world.dir, "/tmp/sse-world-XXXXXX");
		cr_assert_not_null(mkdtemp(world.dir));
	}
	snprintf(path, sizeof path, "%s/%s", world.dir, name);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	fputs(text, f);
	fclose(f);
	return path;
}

void world_tokens(const char *text)
{
	world_file("tokens", text);
}

/* The server of these arguments begins, with empty hands. */
static void server_begin(void)
{
	static struct options options;
	char *env[] = {NULL}, text[512];
	struct buf error = buf_fixed(text, sizeof text);

	cr_assert(options_read(&options, world.argc, world.argv, env, &error), "%.*s", (int)error.len, error.data);
	world.server = calloc(1, sizeof *world.server);
	cr_assert(server_init(world.server, &options, &fake_sys, ROOM_AT_ALL, &error), "%.*s", (int)error.len, error.data);
	world.server->log.fd = LOG_FD;
	world.server->datagrams.fd = DATAGRAM_FD;
	world.server->epoll = EPOLL_FD;
	world.server->signals = SIGNALS_FD;
	cr_assert(journal_open(world.server, &error), "%.*s", (int)error.len, error.data);
	if (world.server->journal.directory >= 0 && options.journal_sync != SYNC_NONE)
		world.server->journal.syncer = SYNCER_FD;
}

/* Everything that belongs to the process goes with it, what clients heard stays. */
static void server_end(bool orderly)
{
	if (orderly) {
		world_settle();
		journal_close(world.server);
	}
	server_free(world.server);
	free(world.server);
	world.sync_asked = false;
	world.acks.len = 0;
	for (int i = FIRST_CLIENT; i < WORLD_FDS; i++)
		cr_expect(!world.fds[i].open, "descriptor %d is left open", i);
}

const char *world_journal(void)
{
	static char path[96];

	world_file("tokens", "");
	snprintf(path, sizeof path, "%s/journal", world.dir);
	if (mkdir(path, 0700) < 0)
		cr_assert_eq(errno, EEXIST);
	return path;
}

void world_start(const char *tokens, ...)
{
	static char path[96], program[] = "sse", flag[] = "--token-file";
	va_list list;

	world.argc = tokens != NULL ? 3 : 1;
	world.argv[0] = program;
	world.argv[1] = flag;
	world.argv[2] = path;
	va_start(list, tokens);
	for (char *arg; (arg = va_arg(list, char *)) != NULL; world.argc++)
		world.argv[world.argc] = arg;
	va_end(list);
	world.argv[world.argc] = NULL;
	strcpy(path, world_file("tokens", tokens != NULL ? tokens : ""));
	world.now_ms = 1000000;
	world.wall_ms = 1704110400000;
	world.acks = world.log = buf_growable();
	world.log_room = world.link_room = SIZE_MAX;
	for (int i = 0; i < WORLD_FDS; i++)
		world.fds[i].in = world.fds[i].out = buf_growable();
	server_begin();
}

void world_restart(bool orderly)
{
	server_end(orderly);
	if (world.between != NULL)
		world.between();
	world.between = NULL;
	server_begin();
}

/* Removes the journal's directory, if there is one. */
static void journal_remove(void)
{
	const char *dir = world_journal();
	DIR *all = opendir(dir);
	struct dirent *entry;

	while ((entry = readdir(all)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			cr_expect_eq(unlinkat(dirfd(all), entry->d_name, 0), 0);
	closedir(all);
	cr_expect_eq(rmdir(dir), 0);
}

void world_stop(void)
{
	static const char *const files[] = {"tokens", "ticket-keys", "auth-key"};

	world_settle();
	server_end(false);
	for (int i = 0; i < WORLD_FDS; i++) {
		buf_free(&world.fds[i].in);
		buf_free(&world.fds[i].out);
	}
	for (size_t i = 0; i < sizeof world.datagrams / sizeof world.datagrams[0]; i++)
		free(world.datagrams[i].bytes);
	buf_free(&world.acks);
	buf_free(&world.log);
	journal_remove();
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
		char path[96];

		snprintf(path, sizeof path, "%s/%s", world.dir, files[i]);
		unlink(path);
	}
	cr_expect_eq(rmdir(world.dir), 0);
	memset(&world, 0, sizeof world); /* a test may start another one */
}

void world_raises(int signal)
{
	cr_assert_lt(world.signal_count, (int)(sizeof world.signals / sizeof world.signals[0]));
	world.signals[world.signal_count++] = signal;
	world_settle();
}

void world_settle(void)
{
	struct server *s = world.server;

	for (int i = 0; i < 10000; i++) {
		if (world.datagram_first < world.datagram_count)
			s->intake.readable = true;
		server_turn(s, 0);
		if (s->dirty.count == 0 && s->catching.count == 0 && s->unread.count == 0 && s->intake.next == s->intake.have
			&& ((s->connects.first == 0 && s->refreshes.first == 0) || s->links_rest
				|| s->asking == s->opt.auth_connections)
			&& (!world.sync_asked || world.sync_held)
			&& (s->datagrams.fd < 0 || world.datagram_first == world.datagram_count))
			return;
		if (s->intake.waiting && world.sync_held && s->dirty.count == 0 && s->catching.count == 0 && s->unread.count == 0)
			return; /* for the disk */
		if (s->dirty.count == 0 && s->unread.count == 0 && s->crowded.count > 0) {
			world.now_ms += 10; /* as epoll_wait would, while a blocked stream has its chance */
			world.wall_ms += 10;
		}
	}
	cr_assert(false, "the server never comes to rest");
}

void world_pass(int64_t ms)
{
	world_settle();
	for (int64_t passed = 0; passed < ms; passed += 50) {
		world.now_ms += 50;
		world.wall_ms += 50;
		world_settle();
	}
}

/* ---- clients ---- */

int client_open(void)
{
	int fd = fake_open_fd(false);

	conn_open(world.server, fd, world.admin);
	return fd;
}

void client_says_bytes(int fd, const char *bytes, size_t n)
{
	buf_bytes(&fake(fd)->in, bytes, n);
	if (fake(fd)->open)
		conn_event(world.server, client_conn(fd), EPOLLIN);
	world_settle();
}

void client_says(int fd, const char *text)
{
	client_says_bytes(fd, text, strlen(text));
}

const char *client_hears(int fd)
{
	struct fake_fd *f = fake(fd);
	const char *text;

	buf_byte(&f->out, '\0');
	f->out.len--;
	text = f->out.data + f->heard;
	f->heard = f->out.len;
	return text;
}

const char *client_hears_frames(int fd)
{
	static struct buf frames = {.growable = true};
	const char *text = client_hears(fd), *body = strstr(text, "\r\n\r\n");

	buf_clear(&frames);
	if (strncmp(text, "HTTP/", 5) == 0 && body != NULL)
		text = body + 4;
	while (*text != '\0') {
		char *end;
		size_t n = strtoul(text, &end, 16);

		cr_assert(end > text && strncmp(end, "\r\n", 2) == 0, "not a chunk: %.40s", text);
		text = end + 2;
		cr_assert_geq(strlen(text), n + 2, "a chunk is cut");
		buf_bytes(&frames, text, n);
		cr_assert(strncmp(text + n, "\r\n", 2) == 0, "a chunk does not end in CR LF");
		text += n + 2;
		if (n == 0)
			buf_text(&frames, "[end]");
	}
	buf_byte(&frames, '\0');
	return frames.data;
}

void client_room(int fd, size_t bytes)
{
	fake(fd)->room = bytes;
	if (bytes > 0)
		conn_event(world.server, client_conn(fd), EPOLLOUT);
	world_settle();
}

void client_ends(int fd)
{
	fake(fd)->eof = true;
	conn_event(world.server, client_conn(fd), EPOLLIN | EPOLLRDHUP);
	world_settle();
}

void client_resets(int fd)
{
	fake(fd)->fails = ECONNRESET;
	conn_event(world.server, client_conn(fd), EPOLLIN | EPOLLERR | EPOLLHUP);
	world_settle();
}

struct conn *client_conn(int fd)
{
	return &world.server->conns[fd];
}

int stream_open(const char *token)
{
	int fd = client_open();
	char request[512];

	snprintf(request, sizeof request, "GET /api/v1/sse/events/?token=%s HTTP/1.1\r\nHost: a\r\n\r\n", token);
	client_says(fd, request);
	cr_assert_eq(client_conn(fd)->state, CONN_STREAM, "%s", client_hears(fd));
	client_hears(fd);
	return fd;
}

/* ---- Django, the log ---- */

int django_links(void)
{
	int links = 0;

	for (int fd = FIRST_CLIENT; fd < ROOM_AT_ALL; fd++)
		links += world.fds[fd].open && world.fds[fd].link;
	return links;
}

const char *django_hears(int *link)
{
	world_settle();
	for (int fd = FIRST_CLIENT; fd < ROOM_AT_ALL; fd++)
		if (world.fds[fd].open && world.fds[fd].link && world.fds[fd].heard < world.fds[fd].out.len) {
			const char *text = client_hears(fd);

			*link = fd;
			cr_assert(strlen(text) > 4 && strcmp(text + strlen(text) - 4, "\r\n\r\n") == 0, "half a question: %s", text);
			return text;
		}
	return NULL;
}

int django_asked(const char *token)
{
	int link = -1;
	char line[512];
	const char *question = django_hears(&link);

	cr_assert_not_null(question, "Django was not asked about %s", token);
	snprintf(line, sizeof line, "\r\nAuthorization: Token %s\r\n", token);
	cr_assert_not_null(strstr(question, line), "not about %s: %s", token, question);
	return link;
}

void django_not_asked(void)
{
	int link;
	const char *question = django_hears(&link);

	cr_assert_null(question, "Django was asked: %s", question);
}

void django_answers_bytes(int link, const char *bytes, size_t n)
{
	cr_assert(fake(link)->open && fake(link)->link, "no link %d", link);
	buf_bytes(&fake(link)->in, bytes, n);
	conn_event(world.server, client_conn(link), EPOLLIN);
	world_settle();
}

void django_answers_text(int link, const char *text)
{
	django_answers_bytes(link, text, strlen(text));
}

void django_answers(int link, const char *status, const char *headers, const char *body)
{
	char text[32768];

	cr_assert_lt(snprintf(text, sizeof text, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n%s", status, headers,
		strlen(body), body), (int)sizeof text);
	django_answers_text(link, text);
}

void django_allows(int link, const char *json)
{
	django_answers(link, "200 OK", "", json);
}

const char *log_hears(void)
{
	const char *text;

	buf_byte(&world.log, '\0');
	world.log.len--;
	text = world.log.data + world.log_heard;
	world.log_heard = world.log.len;
	return text;
}

void django_queues_bytes(const char *bytes, size_t n, bool bound)
{
	int i;

	if (world.datagram_first == world.datagram_count)
		world.datagram_first = world.datagram_count = 0;
	i = world.datagram_count++;
	cr_assert_lt(i, (int)(sizeof world.datagrams / sizeof world.datagrams[0]));
	world.datagrams[i].bytes = realloc(world.datagrams[i].bytes, n + 1);
	memcpy(world.datagrams[i].bytes, bytes, n);
	world.datagrams[i].n = n;
	world.datagrams[i].bound = bound;
}

void django_queues(const char *text)
{
	django_queues_bytes(text, strlen(text), true);
}

const char *django_says(const char *text)
{
	buf_clear(&world.acks);
	django_queues(text);
	world_settle();
	if (world.acks.len > 0)
		world.acks.len--;
	buf_byte(&world.acks, '\0');
	return world.acks.data;
}
