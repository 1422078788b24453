/*
 * floor - the least that a one-thread epoll server can do.
 *
 * It answers every connection with the head and the opening frames that sse would send, and then passes each
 * datagram on to the streams. It knows no tokens, users, roles or queues; what it costs is the price of the system
 * calls themselves, so it stands in every table of measurements as the physical limit.
 *
 *     floor --listen PORT --socket PATH [--mode each|batch|one|file] [--file PATH] [--seconds S]
 *
 *     --listen PORT    TCP port on 127.0.0.1; 0 takes a free one
 *     --socket PATH    Unix datagram socket; a datagram is the JSON that stands in the event's "data"
 *     --mode each      one send for each event and stream (the default)
 *     --mode batch     the datagrams that wait, up to 64, joined: one send for each stream
 *     --mode one       a datagram goes to one stream only, the next in turn: one recv, one send, and no look at
 *                      epoll between those that wait
 *     --mode file      a request is answered with the bytes of --file: its HTTP head, then the rest, 64 KiB a send;
 *                      the connection stays open
 *     --file PATH      a whole answer, from the HTTP head on
 *     --seconds S      stop by itself after S seconds (600)
 *
 * When it is ready it prints "listening PORT". A stream that is full is waited for, so nothing is ever missing,
 * and one client that does not read stops it altogether: do not measure slow clients with it.
 *
 * Build: cc -std=c11 -O2 -o floor bench/floor.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	BATCH_MAX = 64,           /* datagrams in one recvmmsg */
	DATAGRAM_MAX = 212960,    /* the largest that Linux takes by default */
	FRAME_ROOM = 192,         /* what the frame and the chunk add to a datagram, at most */
	FD_MAX = 1 << 20,
	PIECE = 64 << 10,         /* of a file, in a send: measured to be twice as quick as all of 2.4 MB in one */
};

enum mode { MODE_EACH, MODE_BATCH, MODE_ONE, MODE_FILE };

struct floor {
	int epoll, listener, datagrams;
	enum mode mode;
	int *streams;             /* descriptors of those that had their head */
	int *place;               /* by descriptor: place in streams, or -1 */
	unsigned char *ends;      /* by descriptor: bytes seen of the CR LF CR LF that ends the request */
	size_t stream_count, turn;
	unsigned long long last_ms, count;
	struct mmsghdr messages[BATCH_MAX];
	struct iovec parts[BATCH_MAX];
	char *frames;             /* the frames of one batch, one after the other */
	size_t frame_end[BATCH_MAX];
	const char *file;         /* of --file: file_bytes, of which the first head_bytes are an HTTP head */
	size_t file_bytes, head_bytes;
};

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- streams ---------------------------------------------------------------------------------------------- */

static void stream_close(struct floor *f, int fd)
{
	int at = f->place[fd];
	if (at >= 0) {
		f->streams[at] = f->streams[--f->stream_count];
		f->place[f->streams[at]] = at;
		f->place[fd] = -1;
	}
	close(fd);
}

/* Sends all of it, waiting where the socket is full. A dead peer is left for epoll to report. */
static void stream_send(int fd, const char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);
		if (sent > 0) {
			bytes += sent;
			n -= (size_t)sent;
		} else if (sent < 0 && errno == EAGAIN) {
			poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
		} else if (sent == 0 || errno != EINTR) {
			return;
		}
	}
}

static unsigned long long wall_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (unsigned long long)t.tv_sec * 1000 + (unsigned long long)t.tv_nsec / 1000000;
}

static void stream_welcome(struct floor *f, int fd)
{
	char body[256], all[1024];
	int n = snprintf(body, sizeof body, "retry: 3417\n\nid: %llu-0\n"
		"data: {\"event\":\"connected\",\"message\":\"SSE connection established\"}\n\n", wall_ms());
	int len = snprintf(all, sizeof all, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
		"Cache-Control: no-cache, no-transform\r\nConnection: keep-alive\r\nX-Accel-Buffering: no\r\n"
		"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", (unsigned)n, body);
	stream_send(fd, all, (size_t)len);
	f->place[fd] = (int)f->stream_count;
	f->streams[f->stream_count++] = fd;
}

static void stream_answer(const struct floor *f, int fd)
{
	stream_send(fd, f->file, f->head_bytes);
	for (size_t at = f->head_bytes; at < f->file_bytes; at += PIECE)
		stream_send(fd, f->file + at, f->file_bytes - at < PIECE ? f->file_bytes - at : PIECE);
}

/* Reads and forgets the request; at its blank line the stream begins. */
static void stream_read(struct floor *f, int fd)
{
	char bytes[4096];
	ssize_t n = recv(fd, bytes, sizeof bytes, 0);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		stream_close(f, fd);
		return;
	}
	for (ssize_t i = 0; i < n && f->ends[fd] < 4; i++) {
		char want = f->ends[fd] % 2 ? '\n' : '\r';
		f->ends[fd] = bytes[i] == want ? f->ends[fd] + 1 : bytes[i] == '\r';
		if (f->ends[fd] == 4 && f->mode == MODE_FILE)
			stream_answer(f, fd);
		else if (f->ends[fd] == 4)
			stream_welcome(f, fd);
	}
}

static void accept_all(struct floor *f)
{
	for (;;) {
		int fd = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.fd = fd};
		f->place[fd] = -1;
		f->ends[fd] = 0;
		if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &e) < 0)
			die("epoll_ctl");
	}
}

/* ---- events ----------------------------------------------------------------------------------------------- */

/* One datagram as one frame in one chunk. Returns the bytes written to out. */
static size_t frame_write(struct floor *f, char *out, const char *body, size_t body_len, unsigned long long now_ms)
{
	char head[128], tail[64];
	f->count = now_ms == f->last_ms ? f->count + 1 : 0;
	f->last_ms = now_ms;
	int head_len = snprintf(head, sizeof head, "id: %llu-%llu\ndata: {\"event\":\"bench.tick\",\"data\":", now_ms, f->count);
	int tail_len = snprintf(tail, sizeof tail, ",\"timestamp\":%llu}\n\n", now_ms / 1000);
	char *p = out + sprintf(out, "%zx\r\n", (size_t)head_len + body_len + (size_t)tail_len);
	p = mempcpy(p, head, (size_t)head_len);
	p = mempcpy(p, body, body_len);
	p = mempcpy(p, tail, (size_t)tail_len);
	p = mempcpy(p, "\r\n", 2);
	return (size_t)(p - out);
}

static void deliver(struct floor *f, size_t events)
{
	if (f->stream_count == 0 || events == 0)
		return;
	size_t sends = f->mode == MODE_BATCH ? 1 : events, begin = 0;
	for (size_t i = 0; i < sends; i++) {
		size_t end = f->frame_end[f->mode == MODE_BATCH ? events - 1 : i];
		for (size_t s = 0; s < f->stream_count; s++)
			stream_send(f->streams[s], f->frames + begin, end - begin);
		begin = end;
	}
}

/* One recv and one send for each datagram that waits. */
static void take_one_by_one(struct floor *f)
{
	char *body = f->parts[0].iov_base;
	ssize_t n;
	for (int i = 0; i < BATCH_MAX && (n = recv(f->datagrams, body, DATAGRAM_MAX, 0)) >= 0; i++) {
		size_t len = frame_write(f, f->frames, body, (size_t)n, wall_ms());
		if (f->stream_count > 0)
			stream_send(f->streams[f->turn++ % f->stream_count], f->frames, len);
	}
}

static void take_datagrams(struct floor *f)
{
	int got = recvmmsg(f->datagrams, f->messages, BATCH_MAX, MSG_DONTWAIT, NULL);
	size_t end = 0;
	unsigned long long now_ms = wall_ms();
	for (int i = 0; i < got; i++) {
		end += frame_write(f, f->frames + end, f->parts[i].iov_base, f->messages[i].msg_len, now_ms);
		f->frame_end[i] = end;
	}
	deliver(f, got > 0 ? (size_t)got : 0);
}

/* ---- the server ------------------------------------------------------------------------------------------- */

static void watch(struct floor *f, int fd)
{
	if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd}) < 0)
		die("epoll_ctl");
}

static void open_listener(struct floor *f, const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	socklen_t len = sizeof a;
	int on = 1;
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	f->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(f->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	setsockopt(f->listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (bind(f->listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(f->listener, 4096) < 0)
		die("--listen");
	getsockname(f->listener, (struct sockaddr *)&a, &len);
	printf("listening %d\n", ntohs(a.sin_port));
	fflush(stdout);
}

static void open_datagrams(struct floor *f, const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	unlink(path);
	f->datagrams = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (bind(f->datagrams, (struct sockaddr *)&a, sizeof a) < 0)
		die(path);
}

/* Maps the answer, every page of it in memory at once, and looks where its head ends. */
static void open_file(struct floor *f, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat about;
	if (fd < 0 || fstat(fd, &about) < 0)
		die(path);
	f->file_bytes = (size_t)about.st_size;
	f->file = mmap(NULL, f->file_bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (f->file == MAP_FAILED)
		die(path);
	const char *blank = memmem(f->file, f->file_bytes, "\r\n\r\n", 4);
	f->head_bytes = blank ? (size_t)(blank - f->file) + 4 : 0;
	close(fd);
}

static void open_memory(struct floor *f)
{
	f->streams = calloc(FD_MAX, sizeof *f->streams);
	f->place = calloc(FD_MAX, sizeof *f->place);
	f->ends = calloc(FD_MAX, 1);
	f->frames = malloc((size_t)BATCH_MAX * (DATAGRAM_MAX + FRAME_ROOM));
	if (!f->streams || !f->place || !f->ends || !f->frames)
		die("memory");
	for (int i = 0; i < BATCH_MAX; i++) {
		f->parts[i] = (struct iovec){.iov_base = malloc(DATAGRAM_MAX), .iov_len = DATAGRAM_MAX};
		f->messages[i].msg_hdr = (struct msghdr){.msg_iov = &f->parts[i], .msg_iovlen = 1};
		if (!f->parts[i].iov_base)
			die("memory");
	}
}

static void loop(struct floor *f)
{
	struct epoll_event events[512];
	for (;;) {
		int n = epoll_wait(f->epoll, events, 512, -1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == f->listener)
				accept_all(f);
			else if (events[i].data.fd == f->datagrams)
				(f->mode == MODE_ONE ? take_one_by_one : take_datagrams)(f);
			else
				stream_read(f, events[i].data.fd);
		}
	}
}

static int usage(void)
{
	fputs("usage: floor --listen PORT --socket PATH [--mode each|batch|one|file] [--file PATH]\n"
		"             [--seconds S]\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"each", "batch", "one", "file"};
	static struct floor f;
	const char *port = NULL, *path = NULL, *mode = "each", *file = NULL, *seconds = "600";
	for (int i = 1; i < argc; i += 2) {
		const char **into = strcmp(argv[i], "--listen") == 0 ? &port : strcmp(argv[i], "--socket") == 0 ? &path :
			strcmp(argv[i], "--mode") == 0 ? &mode : strcmp(argv[i], "--file") == 0 ? &file :
			strcmp(argv[i], "--seconds") == 0 ? &seconds : NULL;
		if (!into || i + 1 == argc)
			return usage();
		*into = argv[i + 1];
	}
	while (f.mode <= MODE_FILE && strcmp(modes[f.mode], mode) != 0)
		f.mode++;
	if (!port || !path || f.mode > MODE_FILE || (f.mode == MODE_FILE) != (file != NULL) || atoi(seconds) <= 0)
		return usage();

	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max < FD_MAX ? files.rlim_max : FD_MAX;
	setrlimit(RLIMIT_NOFILE, &files);
	alarm((unsigned)atoi(seconds));
	open_memory(&f);
	if (file)
		open_file(&f, file);
	f.epoll = epoll_create1(EPOLL_CLOEXEC);
	open_datagrams(&f, path);
	open_listener(&f, port);
	watch(&f, f.listener);
	watch(&f, f.datagrams);
	loop(&f);
}
