/*
 * test_sweep.c - every allocation and every system call of the program fails once, at every place where it is made
 * (FAULTS.md R2, R3, R4).
 *
 * The whole program runs here, from main to its end, over real sockets and files: only what it calls is swept. All its
 * calls into libc are renamed (SWEPT in the Makefile), malloc to swept_malloc and so on, and come by this file. The
 * script is made by swept_epoll_wait: whenever the server has nothing to do, pages, Django and publishers do
 * what is next. Time is what the script says, so that each run is the same as the one before, up to the fault.
 *
 * A first run counts the calls. Then there is a run for each of them and each way in which it may fail. A run is: start;
 * pages that come by token file, ticket and Django; good and bad requests; events to all, to users, to roles; signals;
 * a refresh, a revocation; a new segment; a page that does not read; drain and restart; kill -9 and restart; drain. A page comes back
 * whenever it is closed, as a browser does, and so does the program when it could not start.
 *
 *   SWEEP_ALL=1 build/gcc/test_sweep     each call of the run, not only the first, fourth, sixteenth, ... and last from each place
 *   SWEEP_ONLY=1234 build/gcc/test_sweep --filter 'sweep/?*batch?*'     one of them
 */
#include "sse.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define COUNT_OF(array) (sizeof (array) / sizeof (array)[0])

int sse_main(int argc, char **argv);

/* What a sanitizer finds is told with the fault that led to it: see on_abort. */
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
	return "abort_on_error=1:print_stacktrace=1";
}

/* ---- what may fail, and how ---- */

enum {
	SHORT = 10000, /* no error: the call does half of its work */
	FRAMES = 24
};

/* A call, and the errors that are usual for it. */
#define CALLS(X) \
	X(malloc, ENOMEM) \
	X(calloc, ENOMEM) \
	X(realloc, ENOMEM) \
	X(mmap, ENOMEM) \
	X(accept4, EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EINTR) \
	X(recv, EINTR, EAGAIN, ECONNRESET, ENOMEM) \
	X(sendmsg, EAGAIN, EINTR, ECONNRESET, EPIPE, ENOBUFS, ENOMEM, SHORT) \
	X(recvmmsg, EINTR, EAGAIN, ENOMEM, ENOBUFS) \
	X(sendto, EAGAIN, EINTR, ECONNREFUSED, ENOBUFS) \
	X(shutdown, ENOTCONN) \
	X(setsockopt, ENOBUFS) \
	X(getpeername, ENOTCONN) \
	X(getsockname, ENOBUFS) \
	X(close, EINTR, EIO) \
	X(epoll_create1, EMFILE) \
	X(epoll_ctl, ENOMEM, ENOSPC) \
	X(epoll_wait, EINTR) \
	X(socket, EMFILE, ENFILE, ENOBUFS, EAFNOSUPPORT) \
	X(bind, EADDRINUSE, EACCES, ENOSPC) \
	X(listen, EADDRINUSE) \
	X(connect, ECONNREFUSED, EAGAIN, EINTR, ENOENT) \
	X(open, EMFILE, ENFILE, EACCES, EIO, ENOSPC, EDQUOT, EINTR) \
	X(read, EIO, EINTR) \
	X(write, EIO, ENOSPC, EPIPE, EINTR, EAGAIN, SHORT) \
	X(pwritev, EIO, ENOSPC, EDQUOT, EINTR, SHORT) \
	X(poll, EINTR, ENOMEM) \
	X(clock_gettime, EINVAL) \
	X(fstat, EIO) \
	X(lstat, EIO) \
	X(unlink, EIO, EROFS) \
	X(rename, EIO) \
	X(fdatasync, EIO, ENOSPC, EDQUOT, EINTR) \
	X(fsync, EIO, EINTR) \
	X(ftruncate, EIO, EINTR) \
	X(flock, EWOULDBLOCK, ENOLCK, EINTR) \
	X(access, EACCES, EIO) \
	X(faccessat, ENOENT, EIO) \
	X(opendir, EMFILE, ENOMEM, EACCES) \
	X(readdir, EIO) \
	X(getrandom, EINTR, ENOSYS, SHORT) \
	X(getrlimit, EFAULT) \
	X(setrlimit, EPERM) \
	X(prctl, EINVAL) \
	X(syscall, ENOSYS, EINVAL) \
	X(sigprocmask, EINVAL) \
	X(signalfd, EMFILE, ENOMEM) \
	X(socketpair, EMFILE, ENFILE) \
	X(pthread_create, EAGAIN)
enum call {
#define X(name, ...) CALL_##name,
	CALLS(X)
#undef X
	CALL_COUNT
};
static const struct {
	const char *name;
	int errors[8];
} calls[CALL_COUNT] = {
#define X(name, ...) [CALL_##name] = {#name, {__VA_ARGS__}},
	CALLS(X)
#undef X
};

/* Each is called as what it stands for. */
#define X(name, ...) __typeof__(name) swept_##name;
CALLS(X)
X(free)
X(munmap)
X(closedir)
X(pthread_join)
#undef X

/* ---- the run ---- */

enum { EVENTS = 128, LIVE = 4096, DESCRIPTORS = 512, INPUT = 1 << 20 };

/* A place where a call is made: who called whom. */
struct made {
	enum call call;
	uint64_t place;
};

enum stage { AT_HEAD, AT_BODY };

/* A browser tab. */
struct page {
	const char *name, *request; /* without Last-Event-ID and the empty line */
	bool wants;                 /* it is open in the browser */
	bool pauses;                /* it does not read */
	bool revoked;               /* it must not come back ... */
	bool refused;               /* ... and this is what it is told */
	int fd;                     /* -1: not connected */
	int64_t retry_ms;           /* when it tries again */
	enum stage stage;
	bool chunked, connected;
	char id[64];                /* of the last event, as a browser keeps it */
	uint32_t owed;              /* events from this one on are its; UINT32_MAX: it was never told an id */
	uint32_t last;              /* the number of the last event it got, and 1 */
	bool got[EVENTS];
	int connects, keepalives;
	size_t in_bytes, frame_bytes;
	char *in, *frames;
};

enum { ALICE, BOB, CAROL, DORA, EVE, AWAY, LATE, PAGES };
#define BIT(page) (1u << (page))
enum { EVERYBODY = BIT(PAGES) - 1 };

/* An event that was put in the socket: its number is the first element of its data. */
struct told {
	unsigned who, maybe; /* pages that must get it, and others that may */
	bool bound;          /* the sender gets an ack */
	bool acked, refused, unanswered;
};

/* A request that is no stream, and what may be answered. */
struct visitor {
	int fd, expected;
	size_t in_bytes;
	bool heard;
	char in[4096];
};

struct setup {
	const char *name, *sync; /* --journal-sync; NULL: no journal */
	bool log_file;
};

static struct run {
	const struct setup *setup;
	/* the fault */
	int64_t strike; /* the call that fails, -1: none does */
	int error;
	int64_t calls;  /* made so far */
	bool struck;
	enum call struck_call;
	bool struck_aside; /* while it started, or was told to end */
	void *stack[FRAMES];
	int frames;
	int edge;       /* the descriptor that epoll must speak of again, -1: none */
	/* what the program holds */
	bool inside;    /* it runs */
	void *live[LIVE];
	int live_count;
	bool open[DESCRIPTORS];
	void *mapped;
	size_t mapped_bytes;
	void *(*syncer)(void *);
	void *syncer_argument;
	int syncer_fd;  /* -1: there is none */
	int log_fd;     /* the one descriptor that may be open at the end */
	bool syncer_parks, syncer_parked;
	/* the world */
	int64_t now_ms, wall_ms;
	jmp_buf killed;
	const char *wrong; /* what the failure is */
	jmp_buf gives_up;
	int step;
	bool begun, ends;  /* the step; the program was told to end */
	int64_t step_ms;
	int64_t turns, idle_turns;
	int epoll;
	struct page pages[PAGES];
	struct told told[EVENTS];
	uint32_t told_count;
	int acks_due;
	int64_t asked_ms;
	char acks[4096];   /* to the last datagram */
	int publisher, django;
	struct {
		int fd, answers;
		size_t in_bytes;
		char in[8192];
	} links[16];
	bool carol_changed;
	bool disk_fails;   /* every write to the journal does */
	int manager;       /* systemd's socket */
	int asker;         /* -1: there is none */
	bool asker_waits;  /* it does not read */
	size_t asker_bytes;
	char asker_in[65536];
	struct visitor visitors[24];
	int visitor_count;
	int resyncs, put_offs, starts, not_stored;
	char errors[4096]; /* what was written to stderr */
	size_t error_bytes;
	int64_t slowest_ms; /* a step took */
	int slowest;
} run;

static char dir[64];
static struct made *made;
static int64_t made_count, made_cap;
static bool recording;
static int failures;

/* ---- what is told of a failure ---- */

static void tell_fault(void)
{
	if (run.setup == NULL || run.strike < 0)
		return;
	fprintf(stderr, "SWEEP_ONLY=%lld: journal %s, %s fails with %s, in step %d%s:\n", (long long)run.strike, run.setup->name,
		calls[made[run.strike].call].name, run.error == SHORT ? "half of it" : strerror(run.error), run.step, run.struck ? "" : " (not yet)");
	for (int i = 0; i < run.frames; i++) {
		char text[256];

		__sanitizer_symbolize_pc(run.stack[i], "%f %s:%l", text, sizeof text);
		fprintf(stderr, "    %s\n", text);
		if (strncmp(text, "sse_main", 8) == 0)
			break;
	}
}

static void on_abort(int number)
{
	tell_fault();
	signal(number, SIG_DFL);
	raise(number);
}

/* Something is wrong: said, and this run is over. */
__attribute__((format(printf, 1, 2))) static _Noreturn void wrong(const char *format, ...)
{
	va_list list;

	tell_fault();
	fprintf(stderr, "  step %d, %lld ms: ", run.step, (long long)run.now_ms);
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fprintf(stderr, "\n");
	failures++;
	longjmp(run.gives_up, 1);
}
#define must(good, ...) do { if (!(good)) wrong(__VA_ARGS__); } while (0)

/* ---- the fault ---- */

static int stack_take(void **stack)
{
	void **frame = __builtin_frame_address(0);
	int n = 0;

	while (n < FRAMES && frame[1] != NULL) {
		void **next = frame[0];

		stack[n++] = frame[1];
		if (next <= frame || next > frame + (1 << 17))
			break;
		frame = next;
	}
	return n;
}

/* Does this call fail, and how? An errno, SHORT, or 0. */
static int fault(enum call call)
{
	if (!run.inside)
		return 0;
	if (recording) {
		void *stack[FRAMES];
		int n = stack_take(stack);

		if (made_count == made_cap)
			made = realloc(made, (size_t)(made_cap = made_cap * 2 + 1024) * sizeof *made);
		made[made_count] = (struct made){call, 14695981039346656037u};
		for (int i = 0; i < n; i++)
			made[made_count].place = (made[made_count].place ^ (uint64_t)(uintptr_t)stack[i]) * 1099511628211u;
		made_count++;
	}
	if (run.calls++ != run.strike)
		return 0;
	run.struck = true;
	run.struck_call = call;
	run.struck_aside = run.turns == 0 || run.ends;
	run.frames = stack_take(run.stack);
	must(call == made[run.strike].call, "not the same run: this is %s", calls[call].name);
	return run.error;
}

/* Has the fault hit the disk? Then it is right that pages are told to reload, and events not stored. */
static bool fault_of_disk(void)
{
	static const enum call disk[] = {CALL_open, CALL_read, CALL_pwritev, CALL_fstat, CALL_unlink, CALL_fdatasync, CALL_fsync,
		CALL_ftruncate, CALL_faccessat, CALL_access, CALL_opendir, CALL_readdir, CALL_write, CALL_malloc, CALL_realloc};

	for (size_t i = 0; i < COUNT_OF(disk); i++)
		if (run.struck && run.struck_call == disk[i])
			return true;
	return false;
}

/* May pages be told to reload? Not for a write that failed, if every publisher was told that its event is stored. */
static bool reload_is_right(void)
{
	if (run.setup->sync == NULL)
		return true;
	return fault_of_disk() && (run.struck_call != CALL_pwritev || run.not_stored > 0 || run.struck_aside);
}

#define FAILS(call, returned) \
	int error = fault(CALL_##call); \
	if (error != 0 && error != SHORT) { \
		errno = error; \
		return returned; \
	}

/* ---- memory ---- */

static void *holds(void *memory)
{
	if (memory != NULL && run.inside) {
		must(run.live_count < LIVE, "more than %d blocks of memory", LIVE);
		run.live[run.live_count++] = memory;
	}
	return memory;
}

static void drops(void *memory)
{
	for (int i = run.live_count; memory != NULL && run.inside && i-- > 0;)
		if (run.live[i] == memory) {
			run.live[i] = run.live[--run.live_count];
			return;
		}
	must(memory == NULL || !run.inside, "frees what it does not have");
}

void *swept_malloc(size_t n)
{
	FAILS(malloc, NULL)
	return holds(malloc(n));
}

void *swept_calloc(size_t n, size_t bytes)
{
	FAILS(calloc, NULL)
	return holds(calloc(n, bytes));
}

void *swept_realloc(void *old, size_t n)
{
	FAILS(realloc, NULL)
	drops(old);
	return holds(realloc(old, n));
}

void swept_free(void *memory)
{
	drops(memory);
	free(memory);
}

void *swept_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
	FAILS(mmap, MAP_FAILED)
	run.mapped_bytes = n;
	return run.mapped = mmap(at, n, protection, flags, fd, offset);
}

int swept_munmap(void *at, size_t n)
{
	run.mapped = NULL;
	return munmap(at, n);
}

/* ---- descriptors ---- */

static int opened(int fd)
{
	if (fd >= 0) {
		must(fd < DESCRIPTORS && !run.open[fd], "descriptor %d", fd);
		run.open[fd] = true;
	}
	return fd;
}

int swept_open(const char *path, int flags, ...)
{
	FAILS(open, -1)
	if ((flags & O_APPEND) == 0)
		return opened(open(path, flags, 0640));
	if (strcmp(path, "/proc/self/fd/2") == 0)
		path = "/dev/null";
	return run.log_fd = opened(open(path, flags, 0640));
}

int swept_close(int fd)
{
	int error, fails;

	if (fd == run.syncer_fd && run.syncer_parked) { /* it only waits for its next job */
		run.syncer_parked = false;
		return 0;
	}
	error = fault(CALL_close);
	must(fd >= 0 && fd < DESCRIPTORS && run.open[fd], "closes descriptor %d, which is not its own", fd);
	run.open[fd] = false;
	if (fd == run.syncer_fd)
		run.syncer_fd = -1;
	if (fd == run.edge)
		run.edge = -1;
	fails = close(fd); /* the kernel closes it in any case */
	if (error == 0)
		return fails;
	errno = error;
	return -1;
}

int swept_socket(int domain, int type, int protocol)
{
	FAILS(socket, -1)
	return opened(socket(domain, type, protocol));
}

int swept_accept4(int fd, __SOCKADDR_ARG address, socklen_t *bytes, int flags)
{
	FAILS(accept4, -1)
	return opened(accept4(fd, address, bytes, flags));
}

int swept_epoll_create1(int flags)
{
	FAILS(epoll_create1, -1)
	return run.epoll = opened(epoll_create1(flags));
}

int swept_signalfd(int fd, const sigset_t *set, int flags)
{
	FAILS(signalfd, -1)
	return opened(signalfd(fd, set, flags));
}

int swept_socketpair(int domain, int type, int protocol, int pair[2])
{
	int made_it;

	FAILS(socketpair, -1)
	made_it = socketpair(domain, type, protocol, pair);
	if (made_it == 0) {
		opened(pair[0]);
		opened(pair[1]);
	}
	return made_it;
}

DIR *swept_opendir(const char *path)
{
	DIR *directory;

	FAILS(opendir, NULL)
	directory = opendir(path);
	if (directory != NULL)
		opened(dirfd(directory));
	return directory;
}

struct dirent *swept_readdir(DIR *directory)
{
	FAILS(readdir, NULL)
	return readdir(directory);
}

int swept_closedir(DIR *directory)
{
	run.open[dirfd(directory)] = false;
	return closedir(directory);
}

/* ---- sockets ---- */

/* The kernel tells by epoll when what it refused is possible. */
static void tells_later(int fd, int error)
{
	if (error == EAGAIN)
		run.edge = fd;
}

ssize_t swept_recv(int fd, void *bytes, size_t n, int flags)
{
	int error = fault(CALL_recv);

	if (error == 0)
		return recv(fd, bytes, n, flags);
	tells_later(fd, error);
	errno = error;
	return -1;
}

ssize_t swept_sendmsg(int fd, const struct msghdr *message, int flags)
{
	int error = fault(CALL_sendmsg);
	struct iovec half = message->msg_iov[0];

	must((flags & MSG_NOSIGNAL) != 0, "without MSG_NOSIGNAL");
	if (error == SHORT) {
		struct msghdr less = {.msg_iov = &half, .msg_iovlen = 1};

		half.iov_len = (half.iov_len + 1) / 2;
		tells_later(fd, EAGAIN);
		return sendmsg(fd, &less, flags);
	}
	if (error == 0)
		return sendmsg(fd, message, flags);
	tells_later(fd, error);
	errno = error;
	return -1;
}

int swept_recvmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags, struct timespec *patience)
{
	int error = fault(CALL_recvmmsg);

	if (error == 0)
		return recvmmsg(fd, messages, n, flags, patience);
	tells_later(fd, error);
	errno = error;
	return -1;
}

ssize_t swept_sendto(int fd, const void *bytes, size_t n, int flags, __CONST_SOCKADDR_ARG to, socklen_t to_bytes)
{
	FAILS(sendto, -1)
	return sendto(fd, bytes, n, flags, to, to_bytes);
}

int swept_shutdown(int fd, int how)
{
	FAILS(shutdown, -1)
	return shutdown(fd, how);
}

int swept_setsockopt(int fd, int level, int name, const void *value, socklen_t bytes)
{
	FAILS(setsockopt, -1)
	return setsockopt(fd, level, name, value, bytes);
}

int swept_getpeername(int fd, __SOCKADDR_ARG address, socklen_t *bytes)
{
	FAILS(getpeername, -1)
	return getpeername(fd, address, bytes);
}

int swept_getsockname(int fd, __SOCKADDR_ARG address, socklen_t *bytes)
{
	FAILS(getsockname, -1)
	return getsockname(fd, address, bytes);
}

int swept_bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t bytes)
{
	FAILS(bind, -1)
	return bind(fd, address, bytes);
}

int swept_listen(int fd, int backlog)
{
	FAILS(listen, -1)
	return listen(fd, backlog);
}

int swept_connect(int fd, __CONST_SOCKADDR_ARG address, socklen_t bytes)
{
	FAILS(connect, -1)
	return connect(fd, address, bytes);
}

int swept_epoll_ctl(int epoll, int op, int fd, struct epoll_event *e)
{
	FAILS(epoll_ctl, -1)
	return epoll_ctl(epoll, op, fd, e);
}

int swept_poll(struct pollfd *list, nfds_t n, int wait_ms)
{
	FAILS(poll, -1)
	return poll(list, n, wait_ms);
}

/* ---- files ---- */

ssize_t swept_read(int fd, void *bytes, size_t n)
{
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	int error;

	if (fd == run.syncer_fd && run.syncer_parks && poll(&ready, 1, 0) == 0) {
		run.syncer_parked = true; /* see syncer_turn */
		return 0;
	}
	must(fd != run.syncer_fd || poll(&ready, 1, 0) == 1, "the end of the syncer is waited for, and it is not told to end");
	error = fault(CALL_read);
	if (error == 0)
		return read(fd, bytes, n);
	errno = error;
	return -1;
}

ssize_t swept_write(int fd, const void *bytes, size_t n)
{
	int error = fault(CALL_write), whole = 0;
	socklen_t length = sizeof whole;

	if (error == SHORT && getsockopt(fd, SOL_SOCKET, SO_TYPE, &whole, &length) == 0)
		error = ENOBUFS; /* a datagram is not cut */
	if (error != 0 && error != SHORT) {
		errno = error;
		return -1;
	}
	if (error == SHORT)
		n = (n + 1) / 2;
	if (fd != STDERR_FILENO)
		return write(fd, bytes, n);
	if (n > sizeof run.errors - 1 - run.error_bytes)
		run.error_bytes = 0;
	memcpy(run.errors + run.error_bytes, bytes, n);
	run.error_bytes += n;
	run.errors[run.error_bytes] = '\0';
	return (ssize_t)n;
}

ssize_t swept_pwritev(int fd, const struct iovec *iov, int pieces, off_t at)
{
	struct iovec half = iov[0];

	FAILS(pwritev, -1)
	if (run.disk_fails) {
		errno = EIO;
		return -1;
	}
	if (error == 0)
		return pwritev(fd, iov, pieces, at);
	half.iov_len = (half.iov_len + 1) / 2;
	return pwritev(fd, &half, 1, at);
}

int swept_fstat(int fd, struct stat *st)
{
	FAILS(fstat, -1)
	return fstat(fd, st);
}

int swept_lstat(const char *path, struct stat *st)
{
	FAILS(lstat, -1)
	return lstat(path, st);
}

int swept_unlink(const char *path)
{
	FAILS(unlink, -1)
	return unlink(path);
}

int swept_rename(const char *from, const char *to)
{
	FAILS(rename, -1)
	return rename(from, to);
}

/* Nothing here is kept over a failure of power. */
int swept_fdatasync(int fd)
{
	FAILS(fdatasync, -1)
	return fcntl(fd, F_GETFD) < 0 ? -1 : 0;
}

int swept_fsync(int fd)
{
	FAILS(fsync, -1)
	return fcntl(fd, F_GETFD) < 0 ? -1 : 0;
}

int swept_ftruncate(int fd, off_t bytes)
{
	FAILS(ftruncate, -1)
	return ftruncate(fd, bytes);
}

int swept_flock(int fd, int operation)
{
	FAILS(flock, -1)
	return flock(fd, operation);
}

int swept_access(const char *path, int mode)
{
	FAILS(access, -1)
	return access(path, mode);
}

int swept_faccessat(int directory, const char *path, int mode, int flags)
{
	FAILS(faccessat, -1)
	return faccessat(directory, path, mode, flags);
}

/* ---- the process ---- */

int swept_clock_gettime(clockid_t clock, struct timespec *t)
{
	int64_t ms = clock == CLOCK_REALTIME ? run.wall_ms : run.now_ms;

	FAILS(clock_gettime, -1)
	*t = (struct timespec){ms / 1000, ms % 1000 * 1000000};
	return 0;
}

/* The same each time, so that each run is the same. */
ssize_t swept_getrandom(void *bytes, size_t n, unsigned flags)
{
	(void)flags;
	FAILS(getrandom, -1)
	n = error == SHORT ? n / 2 : n;
	for (size_t i = 0; i < n; i++)
		((unsigned char *)bytes)[i] = (unsigned char)(i * 37 + 11 + n);
	return (ssize_t)n;
}

int swept_getrlimit(__rlimit_resource_t what, struct rlimit *limit)
{
	FAILS(getrlimit, -1)
	return getrlimit(what, limit);
}

int swept_setrlimit(__rlimit_resource_t what, const struct rlimit *limit)
{
	FAILS(setrlimit, -1)
	return setrlimit(what, limit);
}

int swept_prctl(int what, ...)
{
	(void)what;
	FAILS(prctl, -1)
	return 0;
}

/* Only the sandbox is entered this way, and the tests would be in it too. */
long swept_syscall(long number, ...)
{
	(void)number;
	FAILS(syscall, -1)
	return 0;
}

int swept_sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	FAILS(sigprocmask, -1)
	return pthread_sigmask(how, set, old);
}

/* The syncer has no thread here: it has its turn when the server waits, and parks when there is no job for it. */
int swept_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
	int error = fault(CALL_pthread_create);

	(void)attributes;
	if (error != 0)
		return error;
	*thread = pthread_self();
	run.syncer = start;
	run.syncer_argument = argument;
	run.syncer_fd = (int)(intptr_t)argument;
	return 0;
}

int swept_pthread_join(pthread_t thread, void **returned)
{
	(void)thread, (void)returned;
	if (run.syncer_fd >= 0)
		run.syncer(run.syncer_argument);
	return 0;
}

/* Returns whether it had something to do. */
static bool syncer_turn(void)
{
	struct pollfd ready = {.fd = run.syncer_fd, .events = POLLIN};

	if (run.syncer_fd < 0 || poll(&ready, 1, 0) != 1)
		return false;
	run.syncer_parks = true;
	run.syncer(run.syncer_argument);
	run.syncer_parks = false;
	return true;
}

/* ---- pages ---- */

static int unix_connect(const char *name, int type, const char *own)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	cr_assert_geq(fd, 0);
	if (own != NULL) {
		snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", dir, own);
		unlink(address.sun_path);
		cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
	}
	snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", dir, name);
	if (type == SOCK_DGRAM || connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
		return fd;
	close(fd);
	return -1;
}

static void page_close(struct page *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	p->connected = false;
	p->in_bytes = p->frame_bytes = 0;
	p->retry_ms = run.now_ms + 500;
}

static void page_event(struct page *p, const char *data)
{
	const char *number = strstr(data, "\"data\":[");
	uint32_t n = number == NULL ? EVENTS : (uint32_t)strtoul(number + 8, NULL, 10);
	unsigned bit = BIT(p - run.pages);

	must(n < run.told_count, "%s gets an event that was never told: %.80s", p->name, data);
	must(((run.told[n].who | run.told[n].maybe) & bit) != 0, "%s gets event %u, which is not for it", p->name, n);
	must(!run.told[n].refused, "%s gets event %u, which was refused", p->name, n);
	must(!p->got[n], "%s gets event %u twice", p->name, n);
	must(n + 1 > p->last, "%s gets event %u behind event %u", p->name, n, p->last - 1);
	p->got[n] = true;
	p->last = n + 1;
}

static void page_frame(struct page *p, char *frame)
{
	char *data = strstr(frame, "data: "), *id = strncmp(frame, "id: ", 4) == 0 ? frame + 4 : NULL;

	if (strncmp(frame, "retry: ", 7) == 0 && data == NULL)
		return;
	must(data != NULL && strncmp(data + 6, "{\"event\":\"", 10) == 0, "%s gets an odd frame: %s", p->name, frame);
	if (id != NULL)
		snprintf(p->id, sizeof p->id, "%.*s", (int)strcspn(id, "\n"), id);
	data += 16;
	if (strncmp(data, "e\"", 2) == 0) {
		page_event(p, data);
	} else if (strncmp(data, "connected\"", 10) == 0) {
		p->connected = true;
		if (p->owed == UINT32_MAX)
			p->owed = run.told_count;
	} else if (strncmp(data, "system.resync\"", 14) == 0) {
		run.resyncs++;
		must(reload_is_right(), "%s is told to reload: %s", p->name, data);
		p->owed = run.told_count;
	} else if (strncmp(data, "auth.revoked\"", 13) == 0) {
		must(p->revoked, "%s is told that it is revoked", p->name);
	} else if (strncmp(data, "keepalive\"", 10) == 0) {
		p->keepalives++;
	} else {
		wrong("%s gets an odd event: %s", p->name, data);
	}
}

/* Takes what is whole of the body's chunks into frames. Returns false at its end. */
static bool page_chunks(struct page *p)
{
	size_t at = 0;
	bool goes_on = true;

	while (goes_on && p->chunked) {
		char *end = memmem(p->in + at, p->in_bytes - at, "\r\n", 2), *digits;
		size_t n;

		if (end == NULL)
			break;
		n = strtoul(p->in + at, &digits, 16);
		must(digits == end, "%s gets an odd chunk", p->name);
		if ((size_t)(end + 2 - p->in) + n + 2 > p->in_bytes)
			break;
		memcpy(p->frames + p->frame_bytes, end + 2, n);
		p->frame_bytes += n;
		at = (size_t)(end + 2 - p->in) + n + 2;
		must(memcmp(p->in + at - 2, "\r\n", 2) == 0, "%s gets an odd end of a chunk", p->name);
		goes_on = n > 0;
	}
	if (!p->chunked) {
		memcpy(p->frames + p->frame_bytes, p->in, p->in_bytes);
		p->frame_bytes += p->in_bytes;
		at = p->in_bytes;
	}
	memmove(p->in, p->in + at, p->in_bytes -= at);
	return goes_on;
}

static void page_head(struct page *p)
{
	char *end = memmem(p->in, p->in_bytes, "\r\n\r\n", 4);

	if (end == NULL)
		return;
	*end = '\0';
	must(strncmp(p->in, "HTTP/1.1 ", 9) == 0, "%s gets no HTTP: %.60s", p->name, p->in);
	if (strncmp(p->in + 9, "401", 3) == 0 && p->revoked) {
		p->refused = true;
		p->wants = false;
	} else {
		must(strncmp(p->in + 9, "200", 3) == 0 && strstr(p->in, "\r\nContent-Type: text/event-stream") != NULL,
			"%s, a browser, would never come back: %s", p->name, p->in);
	}
	p->chunked = strstr(p->in, "\r\nTransfer-Encoding: chunked") != NULL;
	p->stage = AT_BODY;
	p->in_bytes -= (size_t)(end + 4 - p->in);
	memmove(p->in, end + 4, p->in_bytes);
}

static void page_take(struct page *p)
{
	bool goes_on = true;
	char *end;

	if (p->stage == AT_HEAD)
		page_head(p);
	if (p->stage == AT_HEAD || p->refused)
		return;
	goes_on = page_chunks(p);
	while ((end = memmem(p->frames, p->frame_bytes, "\n\n", 2)) != NULL) {
		end[1] = '\0';
		page_frame(p, p->frames);
		p->frame_bytes -= (size_t)(end + 2 - p->frames);
		memmove(p->frames, end + 2, p->frame_bytes);
	}
	if (!goes_on)
		page_close(p);
}

static bool page_connect(struct page *p)
{
	char head[1024];
	int n;

	p->fd = unix_connect("http", SOCK_STREAM, NULL);
	if (p->fd < 0) {
		p->retry_ms = run.now_ms + 500;
		return false;
	}
	p->connects++;
	p->stage = AT_HEAD;
	n = snprintf(head, sizeof head, "%s%s%s%s\r\n", p->request, p->id[0] != '\0' ? "Last-Event-ID: " : "", p->id,
		p->id[0] != '\0' ? "\r\n" : "");
	cr_assert_eq(send(p->fd, head, (size_t)n, MSG_NOSIGNAL), n);
	return true;
}

/* Does what a page does now; returns whether that was anything. */
static bool page_turn(struct page *p)
{
	ssize_t n;

	if (p->fd < 0)
		return p->wants && run.now_ms >= p->retry_ms && !run.ends && page_connect(p);
	if (p->pauses)
		return false;
	n = recv(p->fd, p->in + p->in_bytes, INPUT - p->in_bytes, 0);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n > 0) {
		p->in_bytes += (size_t)n;
		page_take(p);
	} else {
		run.put_offs += p->stage == AT_BODY && !p->connected && !p->refused;
		page_close(p);
	}
	return true;
}

/* Has it all that it must have by now? */
static bool page_content(const struct page *p)
{
	if (!p->wants || p->pauses)
		return true;
	if (!p->connected)
		return false;
	for (uint32_t i = p->owed; i < run.told_count; i++)
		if ((run.told[i].who & BIT(p - run.pages)) != 0 && !run.told[i].refused && !p->got[i])
			return false;
	return true;
}

/* ---- other requests ---- */

static bool visitor_turn(struct visitor *v)
{
	ssize_t n;

	if (v->fd < 0)
		return false;
	n = recv(v->fd, v->in + v->in_bytes, sizeof v->in - 1 - v->in_bytes, 0);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n > 0) {
		v->in_bytes += (size_t)n;
		v->in[v->in_bytes] = '\0';
		v->heard = true;
		return true;
	}
	close(v->fd);
	v->fd = -1;
	return true;
}

/* ---- Django ---- */

static void django_answer(int fd, char *question, bool ends)
{
	char answer[512];
	const char *json = NULL;
	int n;

	must(strstr(question, "\r\nX-SSE-Key: the-key-of-django\r\n") != NULL, "Django is asked without its key: %s", question);
	if (strstr(question, "\r\nAuthorization: Token carol-token\r\n") != NULL)
		json = run.carol_changed ? "{\"user\":\"carol\",\"roles\":[\"foreman\"],\"sid\":\"carols-session\"}"
			: "{\"user\":\"carol\",\"roles\":[\"manager\",\"driver\"],\"sid\":\"carols-session\"}";
	if (json != NULL)
		n = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nCache-Control: max-age=2\r\n%sContent-Length: %zu\r\n\r\n%s",
			ends ? "Connection: close\r\n" : "", strlen(json), json);
	else
		n = snprintf(answer, sizeof answer, "HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n");
	send(fd, answer, (size_t)n, MSG_NOSIGNAL);
}

static bool django_turn(void)
{
	bool any = false;
	int fd;

	while ((fd = accept4(run.django, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		size_t i = 0;

		while (run.links[i].fd >= 0)
			i++;
		cr_assert_lt(i, COUNT_OF(run.links));
		run.links[i].fd = fd;
		run.links[i].in_bytes = 0;
		run.links[i].answers = 0;
		any = true;
	}
	for (size_t i = 0; i < COUNT_OF(run.links); i++) {
		ssize_t n = run.links[i].fd < 0 ? -1 : recv(run.links[i].fd, run.links[i].in + run.links[i].in_bytes,
			sizeof run.links[i].in - 1 - run.links[i].in_bytes, 0);

		if (run.links[i].fd < 0 || (n < 0 && errno == EAGAIN))
			continue;
		any = true;
		if (n <= 0) {
			close(run.links[i].fd);
			run.links[i].fd = -1;
			continue;
		}
		run.links[i].in_bytes += (size_t)n;
		run.links[i].in[run.links[i].in_bytes] = '\0';
		if (strstr(run.links[i].in, "\r\n\r\n") != NULL) {
			run.links[i].answers++;
			run.links[i].in_bytes = 0;
			django_answer(run.links[i].fd, run.links[i].in, run.links[i].answers == 3);
		}
	}
	return any;
}

/* ---- publishers ---- */

static bool acks_turn(void)
{
	char text[4096];
	ssize_t n = recv(run.publisher, text, sizeof text - 1, 0);

	if (n < 0)
		return false;
	text[n] = '\0';
	must(run.acks_due > 0, "an answer to nothing: %s", text);
	run.acks_due = 0;
	snprintf(run.acks, sizeof run.acks, "%s", text);
	return true;
}

static void datagram(const char *text, size_t n, bool bound)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = bound ? run.publisher : socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(to.sun_path, sizeof to.sun_path, "%s/events", dir);
	must(sendto(fd, text, n, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to) == (ssize_t)n, "Django's datagram is refused: %s",
		strerror(errno));
	if (!bound)
		close(fd);
	run.acks_due = bound;
	run.asked_ms = run.now_ms;
	run.acks[0] = '\0';
}

/* ---- the script: what is done in each step, and what must be so before the next ---- */

static void does_nothing(int i)
{
	(void)i;
}

static void page_comes(int i)
{
	run.pages[i].wants = true;
	run.pages[i].retry_ms = run.now_ms;
}

static void page_leaves(int i)
{
	run.pages[i].wants = false;
	page_close(&run.pages[i]);
}

static void page_pauses(int i)
{
	run.pages[i].pauses = true;
}

static void disk_fails(int i)
{
	run.disk_fails = i;
}

static void page_reads(int i)
{
	run.pages[i].pauses = false;
}

static const struct {
	const char *to;
	unsigned who;
	int bytes;
	bool bound;
} events[] = {
	{"\"all\"", EVERYBODY, 10, true},
	{"{\"roles\":[\"manager\"]}", BIT(ALICE) | BIT(AWAY) | BIT(CAROL), 100, true},
	{"{\"users\":[\"bob\",7],\"roles\":[\"manager\"]}", BIT(ALICE) | BIT(AWAY) | BIT(BOB) | BIT(CAROL), 10, true},
	{"\"all\",\"except\":{\"users\":[\"bob\"]}", EVERYBODY & ~BIT(BOB), 10, true},
	{"{\"roles\":[\"foreman\"]}", BIT(CAROL), 10, true},
	{"\"all\"", EVERYBODY, 8000, true},
	{"\"all\"", EVERYBODY, 10, false},
};

/* A line with the next event. Returns its bytes. */
static size_t event_line(char *text, int i, bool bound)
{
	unsigned who = events[i].who;
	struct told *t = &run.told[run.told_count];
	int n = sprintf(text, "{\"event\":\"e\",\"data\":[%u,\"", run.told_count);

	if (run.pages[EVE].revoked || run.pages[EVE].pauses) /* a revocation will find it waiting */
		who &= ~BIT(EVE);
	if (run.carol_changed && strstr(events[i].to, "manager") != NULL)
		who &= ~BIT(CAROL);
	memset(text + n, 'x', (size_t)events[i].bytes);
	n += events[i].bytes;
	n += sprintf(text + n, "\"],\"to\":%s}", events[i].to);
	cr_assert_lt(run.told_count, EVENTS);
	*t = (struct told){.who = bound ? who : 0, .maybe = run.pages[EVE].pauses ? who | BIT(EVE) : who, .bound = bound};
	run.told_count++;
	return (size_t)n;
}

static void publishes(int i)
{
	char text[9000];
	size_t n = event_line(text, i, events[i].bound);

	datagram(text, n, events[i].bound);
}

static void publishes_lines(int i)
{
	char text[2048];
	size_t n = event_line(text, 0, true);

	(void)i;
	n += (size_t)sprintf(text + n, "\n{\"event\":7}\n\n{\"op\":\"ping\"}\n");
	n += event_line(text + n, 1, true);
	datagram(text, n, true);
}

/* The answers to the last datagram: each that is for an event says what became of it. */
static void acks_read(uint32_t first)
{
	char *line = run.acks, *rest;

	for (uint32_t i = first; i < run.told_count; i++) {
		if (!run.told[i].bound)
			continue;
		if (run.acks[0] == '\0') { /* it was accepted, and its answer was lost */
			must(run.struck && run.struck_call == CALL_sendto, "no answer to event %u", i);
			run.told[i].unanswered = true;
			continue;
		}
		do {
			line = strtok_r(line, "\n", &rest);
			must(line != NULL, "no answer to event %u", i);
			if (strstr(line, "\"at\":0") != NULL && strstr(line, "no memory") != NULL)
				break;
		} while (strstr(line, "\"ok\":false") != NULL && (line = NULL, true));
		run.told[i].acked = strstr(line, "\"ok\":true") != NULL;
		run.told[i].refused = !run.told[i].acked;
		must(run.told[i].acked || (run.struck && (run.struck_call == CALL_realloc || run.struck_call == CALL_malloc)),
			"event %u is refused: %s", i, line);
		must(strstr(line, "\"stored\":false") == NULL || fault_of_disk() || run.disk_fails, "event %u is not stored: %s", i, line);
		run.not_stored += !run.disk_fails && strstr(line, "\"stored\":false") != NULL;
		line = strtok_r(NULL, "\n", &rest); /* the ping's */
		if (line != NULL && strstr(line, "\"matched\":") == NULL)
			line = strtok_r(NULL, "\n", &rest);
		if (line != NULL && i + 1 < run.told_count)
			line = strtok_r(NULL, "\n", &rest);
	}
}

static void operates(int i)
{
	static const char *const lines[] = {"{\"op\":\"refresh\",\"user\":\"carol\"}", "{\"op\":\"revoke\",\"sid\":\"eves-session\"}",
		"{\"op\":\"ping\"}", "{\"op\":\"revoke\",\"user\":\"nobody-whose-name-is-longer-than-24-bytes\"}",
		"{\"op\":\"status\"}"};

	if (i == 0)
		run.carol_changed = true;
	if (i == 1)
		run.pages[EVE].revoked = true;
	datagram(lines[i], strlen(lines[i]), true);
}

static const struct {
	const char *request;
	int status;
	bool operators; /* it comes by --admin */
} visits[] = {
	{"GET /api/v1/sse/events/ HTTP/1.1\r\nHost: a\r\n\r\n", 401, false},
	{"GET /api/v1/sse/events/?token=of-nobody HTTP/1.1\r\nHost: a\r\n\r\n", 401, false},
	{"GET /api/v1/sse/events/?token=a.b.c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 401, false},
	{"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404, false},
	{"POST /api/v1/sse/stats/ HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405, false},
	{"GET / HTTP/1.1\n\n", 400, false},
	{"OPTIONS /api/v1/sse/events/ HTTP/1.1\r\nHost: a\r\nOrigin: http://page\r\nAccess-Control-Request-Method: GET\r\n\r\n", 204, false},
	{"HEAD /api/v1/sse/events/?token=alice-token HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n", 200, false},
	{"GET /api/v1/sse/stats/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer alice-token\r\n\r\n"
		"GET /api/v1/sse/stats/ HTTP/1.1\r\nHost: a\r\nAuthorization: Token carol-token\r\nConnection: close\r\n\r\n", 200, false},
	{"GET /metrics HTTP/1.0\r\n\r\n", 200, true},
	{"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n", 200, true},
	{"GET /half-a-head HTTP/1.1\r\nHo", 408, false},
};

static void visits_come(int most)
{
	for (size_t k = 0; k < COUNT_OF(visits) && k < (size_t)most; k++) {
		struct visitor *v = &run.visitors[run.visitor_count++];

		cr_assert_leq(run.visitor_count, (int)COUNT_OF(run.visitors));
		v->fd = unix_connect(visits[k].operators ? "admin" : "http", SOCK_STREAM, NULL);
		v->expected = visits[k].status;
		must(v->fd >= 0, "nobody listens");
		send(v->fd, visits[k].request, strlen(visits[k].request), MSG_NOSIGNAL);
	}
}

/* A visitor is heard out, or its connection broke. The refusals of a server in need are no mistakes. */
static bool visits_heard(int i)
{
	(void)i;
	for (int k = 0; k < run.visitor_count; k++) {
		struct visitor *v = &run.visitors[k];
		int status;

		if (!v->heard && v->fd >= 0)
			return false;
		if (!v->heard)
			continue;
		if (strstr(v->in, "\r\n\r\n") == NULL && v->fd >= 0)
			return false;
		status = atoi(v->in + 9);
		must(status == v->expected || (run.struck && (status == 503 || strstr(v->in, "\nretry: ") != NULL)),
			"visitor %d hears %.40s", k, v->in);
	}
	return true;
}

static void visits_end(int i)
{
	(void)i;
	for (int k = 0; k < run.visitor_count; k++)
		if (run.visitors[k].fd >= 0)
			close(run.visitors[k].fd);
	memset(run.visitors, 0, sizeof run.visitors);
	for (size_t k = 0; k < COUNT_OF(run.visitors); k++)
		run.visitors[k].fd = -1;
	run.visitor_count = 0;
}

enum { ASKS = 100 };

/* One who asks many things, and does not listen. The last answer closes. */
static void asker_comes(int i)
{
	(void)i;
	run.asker = unix_connect("http", SOCK_STREAM, NULL);
	must(run.asker >= 0, "nobody listens");
	send(run.asker, "GET /api", 8, MSG_NOSIGNAL);
	run.asker_waits = true;
	run.asker_bytes = 0;
}

static void asker_asks(int i)
{
	static const char request[] = "GET /api/v1/sse/stats/ HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer alice-token\r\n",
		more[] = "\r\n", last[] = "Connection: close\r\n\r\n";

	(void)i;
	for (int k = 0; k < ASKS; k++) {
		size_t sent = k == 0 ? 8 : 0;

		send(run.asker, request + sent, sizeof request - 1 - sent, MSG_NOSIGNAL);
		send(run.asker, k < ASKS - 1 ? more : last, (k < ASKS - 1 ? sizeof more : sizeof last) - 1, MSG_NOSIGNAL);
	}
}

static void asker_reads(int i)
{
	(void)i;
	run.asker_waits = false;
}

static bool asker_turn(void)
{
	ssize_t n;

	if (run.asker < 0 || run.asker_waits)
		return false;
	n = recv(run.asker, run.asker_in + run.asker_bytes, sizeof run.asker_in - 1 - run.asker_bytes, 0);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n > 0) {
		run.asker_bytes += (size_t)n;
		return true;
	}
	close(run.asker);
	run.asker = -1;
	return true;
}

/* Every answer came, or its connection broke. */
static bool asker_heard(int i)
{
	const char *last = "";
	int answers = 0;

	(void)i;
	if (run.asker >= 0)
		return false;
	run.asker_in[run.asker_bytes] = '\0';
	for (const char *at = run.asker_in; (at = strstr(at, "HTTP/1.1 200 OK\r\n")) != NULL; at++, answers++)
		last = at;
	must(answers == ASKS || (run.struck && strstr(last, "\r\nConnection: close\r\n") == NULL), "%d answers to %d requests, and the last one",
		answers, ASKS);
	return true;
}

static void raises(int number)
{
	run.ends = number == SIGTERM;
	pthread_kill(pthread_self(), number);
}

static void kills(int i)
{
	(void)i;
	longjmp(run.killed, 1);
}

/* Every page has what it must have, and the publisher its answer (one that is lost is not waited for for ever). */
static bool settled(int i)
{
	bool all = run.acks_due == 0 || run.now_ms - run.asked_ms > 3000;

	(void)i;
	for (int k = 0; k < PAGES; k++)
		all &= page_content(&run.pages[k]);
	return all;
}

static bool published(int i)
{
	if (run.acks_due > 0 && run.now_ms - run.asked_ms <= 3000)
		return false;
	if (run.step_ms >= 0 && run.begun) { /* once */
		uint32_t first = run.told_count;

		while (first > 0 && run.told[first - 1].bound && !run.told[first - 1].acked && !run.told[first - 1].refused
			&& !run.told[first - 1].unanswered)
			first--;
		acks_read(first);
		run.step_ms = -1 - run.step_ms;
		run.acks_due = 0;
	}
	return settled(i);
}

static bool passed(int ms)
{
	return run.now_ms - run.step_ms >= ms && settled(0);
}

static bool refused(int i)
{
	return run.pages[i].refused && settled(0);
}

static bool ended(int i)
{
	(void)i;
	return false;
}

static const struct {
	const char *name;
	void (*act)(int);
	int of;
	bool (*until)(int);
	int until_of;
} script[] = {
	{"a stranger comes first", visits_come, 1, visits_heard, 0},
	{"is over", visits_end, 0, settled, 0},
	{"alice comes, by the token file", page_comes, ALICE, settled, 0},
	{"bob comes, by a ticket", page_comes, BOB, settled, 0},
	{"carol comes, by Django", page_comes, CAROL, settled, 0},
	{"dora comes, by HTTP/1.0", page_comes, DORA, settled, 0},
	{"eve comes, by a ticket with a sid", page_comes, EVE, settled, 0},
	{"alice's second page", page_comes, AWAY, settled, 0},
	{"good and bad requests", visits_come, COUNT_OF(visits), visits_heard, 0},
	{"are over", visits_end, 0, settled, 0},
	{"the first part of a head", asker_comes, 0, settled, 0},
	{"the rest, and many requests; their answers are not read", asker_asks, 0, settled, 0},
	{"are read", asker_reads, 0, asker_heard, 0},
	{"to all", publishes, 0, published, 0},
	{"to a role", publishes, 1, published, 0},
	{"to users and a role", publishes, 2, published, 0},
	{"to all but one", publishes, 3, published, 0},
	{"a datagram of many lines", publishes_lines, 0, published, 0},
	{"an unbound publisher", publishes, 6, settled, 0},
	{"SIGHUP", raises, SIGHUP, settled, 0},
	{"SIGUSR1", raises, SIGUSR1, settled, 0},
	{"a refresh", operates, 0, settled, 0},
	{"time passes", does_nothing, 0, passed, 3000},
	{"to the new role", publishes, 4, published, 0},
	{"eve does not read", page_pauses, EVE, settled, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"a revocation", operates, 1, settled, 0},
	{"eve reads to the end, and is refused", page_reads, EVE, refused, EVE},
	{"to the others", publishes, 0, published, 0},
	{"a ping", operates, 2, settled, 0},
	{"a revocation of nobody", operates, 3, settled, 0},
	{"how is it", operates, 4, settled, 0},
	{"a page leaves", page_leaves, AWAY, settled, 0},
	{"the disk is at fault", disk_fails, true, settled, 0},
	{"to all", publishes, 0, published, 0},
	{"time passes", does_nothing, 0, passed, 1500},
	{"to a role", publishes, 1, published, 0},
	{"the disk is mended", disk_fails, false, settled, 0},
	{"time passes", does_nothing, 0, passed, 3000},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large: a segment is full", publishes, 5, published, 0},
	{"time passes: keepalives, syncs", does_nothing, 0, passed, 3000},
	{"dora does not read", page_pauses, DORA, settled, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"large", publishes, 5, published, 0},
	{"reads, finds that it was closed, and comes back", page_reads, DORA, settled, 0},
	{"drain", raises, SIGTERM, ended, 0},
	{"after a restart", publishes, 0, published, 0},
	{"alice's second page comes back", page_comes, AWAY, settled, 0},
	{"to a role", publishes, 1, published, 0},
	{"requests again", visits_come, COUNT_OF(visits), visits_heard, 0},
	{"are over", visits_end, 0, settled, 0},
	{"kill -9", kills, 0, ended, 0},
	{"after a kill", publishes, 0, published, 0},
	{"somebody new", page_comes, LATE, settled, 0},
	{"large", publishes, 5, published, 0},
	{"drain", raises, SIGTERM, ended, 0},
};
enum {
	STEPS = COUNT_OF(script),
	STEP_MS = 15000 /* of the script's time, in which all must be well again */
};

/* ---- the loop ---- */

static bool clients_turn(void)
{
	bool any = syncer_turn();
	char heard[512];

	while (recv(run.manager, heard, sizeof heard, 0) > 0) /* it says how it is; nothing is to be done */
		;

	for (int i = 0; i < PAGES; i++)
		any |= page_turn(&run.pages[i]);
	for (int i = 0; i < run.visitor_count; i++)
		any |= visitor_turn(&run.visitors[i]);
	any |= asker_turn();
	any |= django_turn();
	any |= acks_turn();
	return any;
}

/* The next step, if the present one has come to its end. False: time must pass. */
static bool script_turn(void)
{
	int64_t took;

	if (!run.begun) {
		run.begun = true;
		run.step_ms = run.now_ms;
		script[run.step].act(script[run.step].of);
		return true;
	}
	if (script[run.step].until == ended || !script[run.step].until(script[run.step].until_of)) {
		took = run.now_ms - (run.step_ms < 0 ? -1 - run.step_ms : run.step_ms);
		must(took < STEP_MS, "\"%s\" is not over after %lld s", script[run.step].name, (long long)took / 1000);
		return false;
	}
	took = run.now_ms - (run.step_ms < 0 ? -1 - run.step_ms : run.step_ms);
	if (script[run.step].until != passed && took > run.slowest_ms) {
		run.slowest_ms = took;
		run.slowest = run.step;
	}
	run.step++;
	run.begun = false;
	return true;
}

int swept_epoll_wait(int epoll, struct epoll_event *events_out, int most, int wait_ms)
{
	int64_t from = run.now_ms;
	FAILS(epoll_wait, -1)
	must(++run.turns < 20000, "the loop spins");
	for (;;) {
		int n = epoll_wait(epoll, events_out, most, 0);
		int64_t waited = run.now_ms - from;

		if (n != 0 || wait_ms == 0)
			return n;
		if (run.edge >= 0) {
			struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = run.edge};
			int fd = run.edge;

			run.edge = -1;
			if (epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &e) == 0)
				continue;
		}
		if (clients_turn())
			continue;
		if (wait_ms > 0 && waited >= wait_ms)
			return 0;
		if (script_turn())
			continue;
		run.now_ms += wait_ms > 0 && wait_ms - waited < 50 ? wait_ms - waited : 50;
		run.wall_ms += run.now_ms - from - waited;
	}
}

/* ---- one run ---- */

static char ticket_bob[512], ticket_eve[512];

static void write_file(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	cr_assert_not_null(f);
	fputs(text, f);
	fclose(f);
}

static void base64(struct buf *b, const void *bytes, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	const uint8_t *in = bytes;
	uint32_t word = 0;
	int bits = 0;

	for (size_t i = 0; i < n; i++) {
		word = word << 8 | in[i];
		for (bits += 8; bits >= 6; bits -= 6)
			buf_byte(b, digits[word >> (bits - 6) & 63]);
	}
	if (bits > 0)
		buf_byte(b, digits[word << (6 - bits) & 63]);
}

static const char ticket_secret[] = "a-key-of-thirty-two-bytes-or-more";

static void ticket_sign(char *out, size_t room, const char *claims)
{
	static const char header[] = "{\"alg\":\"HS256\"}";
	struct buf b = buf_fixed(out, room - 1);
	struct hmac_key key;
	uint8_t signature[32];

	hmac_key(&key, span_of(ticket_secret));
	base64(&b, header, sizeof header - 1);
	buf_byte(&b, '.');
	base64(&b, claims, strlen(claims));
	hmac_sha256(&key, buf_view(&b), signature);
	buf_byte(&b, '.');
	base64(&b, signature, sizeof signature);
	out[b.len] = '\0';
}

/* Removes everything that a run left, but for the files it begins with. */
static void clean(const char *path, bool all)
{
	DIR *directory = opendir(path);
	struct dirent *entry;

	while ((entry = readdir(directory)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0
			&& (all || strncmp(entry->d_name, "in-", 3) != 0))
			unlinkat(dirfd(directory), entry->d_name, 0);
	closedir(directory);
}

/* Everything that the program holds goes, as with its process. */
static void process_dies(void)
{
	run.inside = false;
	for (int i = 0; i < run.live_count; i++)
		free(run.live[i]);
	run.live_count = 0;
	for (int fd = 0; fd < DESCRIPTORS; fd++)
		if (run.open[fd])
			close(fd);
	memset(run.open, 0, sizeof run.open);
	if (run.mapped != NULL)
		munmap(run.mapped, run.mapped_bytes);
	run.mapped = NULL;
	run.syncer_fd = run.log_fd = run.edge = -1;
	run.syncer_parked = run.syncer_parks = false;
}

/* Runs the program once. Returns its status; -1: it was killed. */
static int process_run(void)
{
	char paths[6][128], *argv[64];
	const char *const files[] = {"in-tokens", "in-keys", "in-auth-key", "log", "journal", "events"};
	int argc = 0, status;

	for (size_t i = 0; i < COUNT_OF(files); i++)
		snprintf(paths[i], sizeof paths[i], "%s/%s", dir, files[i]);
	{
		static char http[128], auth[128], admin[128];
		const char *const given[] = {"sse", "--token-file", paths[0], "--ticket-key-file", paths[1], "--auth-key-file", paths[2],
			"--auth-url", auth, "--socket", paths[5], "--listen", http, "--listen", ":0", "--max-connections", "60",
			"--send-buffer", "8K", "--queue", "4", "--history-bytes", "1M", "--datagram", "9K", "--keepalive", "1s", "--head-timeout", "500ms",
			"--idle-timeout", "1s", "--cors-origin", "http://page", "--trusted-proxy", "unix", "--connections-per-address", "20",
			"--requests-per-address", "1000", "--drain", "2s", "--admin", admin};

		snprintf(http, sizeof http, "unix:%s/http", dir);
		snprintf(auth, sizeof auth, "unix:%s/django:/sse/auth/", dir);
		snprintf(admin, sizeof admin, "unix:%s/admin", dir);
		for (; argc < (int)COUNT_OF(given); argc++)
			argv[argc] = (char *)(uintptr_t)given[argc];
	}
	if (run.setup->sync != NULL) {
		argv[argc++] = (char *)(uintptr_t)"--journal";
		argv[argc++] = paths[4];
		argv[argc++] = (char *)(uintptr_t)"--journal-sync";
		argv[argc++] = (char *)(uintptr_t)run.setup->sync;
	}
	if (run.setup->log_file) {
		argv[argc++] = (char *)(uintptr_t)"--log-file";
		argv[argc++] = paths[3];
	}
	argv[argc] = NULL;
	run.starts++;
	run.error_bytes = 0;
	run.errors[0] = '\0';
	if (setjmp(run.killed) != 0) {
		process_dies();
		return -1;
	}
	run.inside = true;
	status = sse_main(argc, argv);
	run.inside = false;
	return status;
}

static void nothing_left(void)
{
	must(run.live_count == 0, "%d blocks of memory are left", run.live_count);
	must(run.mapped == NULL, "its memory is left mapped");
	for (int fd = 0; fd < DESCRIPTORS; fd++)
		must(!run.open[fd] || fd == run.log_fd, "descriptor %d is left open", fd);
	process_dies();
}

static void run_begin(const struct setup *setup, int64_t strike, int error)
{
	static char *in[PAGES], *frames[PAGES], alice[128], bob[768], eve[768];
	static char carol[1024];
	static const char dora[] = "GET /api/v1/sse/events HTTP/1.0\r\nAuthorization: Bearer dora-token\r\nX-Forwarded-For: 192.0.2.9\r\n";
	const struct page all[PAGES] = {
		[ALICE] = {.name = "alice", .request = alice}, [BOB] = {.name = "bob", .request = bob}, [CAROL] = {.name = "carol", .request = carol},
		[DORA] = {.name = "dora", .request = dora}, [EVE] = {.name = "eve", .request = eve}, [AWAY] = {.name = "away", .request = alice},
		[LATE] = {.name = "late", .request = carol},
	};
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	run = (struct run){.setup = setup, .strike = strike, .error = error, .edge = -1, .asker = -1, .syncer_fd = -1, .log_fd = -1,
		.now_ms = 1000000, .wall_ms = 1704110400000};
	snprintf(alice, sizeof alice, "GET /api/v1/sse/events/?token=alice-token HTTP/1.1\r\nHost: a\r\n");
	snprintf(carol, sizeof carol, "GET /api/v1/sse/events/?token=carol-token&long=%0600d HTTP/1.1\r\nHost: a\r\n", 0);
	snprintf(bob, sizeof bob, "GET /api/v1/sse/events/?token=%s HTTP/1.1\r\nHost: a\r\n", ticket_bob);
	snprintf(eve, sizeof eve, "GET /api/v1/sse/events/?token=%s HTTP/1.1\r\nHost: a\r\n", ticket_eve);
	for (int i = 0; i < PAGES; i++) {
		if (in[i] == NULL) {
			in[i] = malloc(INPUT);
			frames[i] = malloc(INPUT);
		}
		run.pages[i] = all[i];
		run.pages[i].fd = -1;
		run.pages[i].owed = UINT32_MAX;
		run.pages[i].in = in[i];
		run.pages[i].frames = frames[i];
	}
	for (size_t i = 0; i < COUNT_OF(run.links); i++)
		run.links[i].fd = -1;
	for (size_t i = 0; i < COUNT_OF(run.visitors); i++)
		run.visitors[i].fd = -1;
	run.publisher = unix_connect("events", SOCK_DGRAM, "publisher");
	run.django = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof address.sun_path, "%s/django", dir);
	unlink(address.sun_path);
	cr_assert_eq(bind(run.django, (struct sockaddr *)&address, sizeof address), 0);
	cr_assert_eq(listen(run.django, 16), 0);
	run.manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof address.sun_path, "%s/manager", dir);
	unlink(address.sun_path);
	cr_assert_eq(bind(run.manager, (struct sockaddr *)&address, sizeof address), 0);
	setenv("NOTIFY_SOCKET", address.sun_path, 1);
}

static void run_end(void)
{
	char path[128];

	process_dies();
	for (int i = 0; i < PAGES; i++)
		page_close(&run.pages[i]);
	for (size_t i = 0; i < COUNT_OF(run.links); i++)
		if (run.links[i].fd >= 0)
			close(run.links[i].fd);
	visits_end(0);
	if (run.asker >= 0)
		close(run.asker);
	close(run.publisher);
	close(run.django);
	close(run.manager);
	snprintf(path, sizeof path, "%s/journal", dir);
	clean(path, true);
	clean(dir, false);
}

/* From the first step to the last, with as many starts of the program as that takes. */
static void run_all(void)
{
	while (run.step < STEPS) {
		int status = process_run();
		bool was_begun = run.begun;

		if (status >= 0)
			nothing_left();
		if (status > 0 || !run.begun || script[run.step].until != ended) {
			must(status > 0 && run.struck && run.turns == 0, "it ends with %d: %s", status, run.errors);
			must(strncmp(run.errors, "sse: ", 5) == 0 || run.struck_call == CALL_write, "it does not start, and does not say why: %s",
				run.errors);
			continue;
		}
		(void)was_begun;
		run.ends = false;
		for (int i = 0; i < PAGES; i++)
			while (run.pages[i].fd >= 0 && page_turn(&run.pages[i]))
				;
		run.turns = 0;
		run.step++;
		run.begun = false;
	}
	for (int i = 0; i < PAGES; i++)
		for (uint32_t n = run.pages[i].owed; n < run.told_count; n++)
			must((run.told[n].who & BIT(i)) == 0 || run.told[n].refused || run.pages[i].got[n], "%s never got event %u",
				run.pages[i].name, n);
	must(run.strike < 0 || run.struck, "the call was not made");
}

static int order_of_places(const void *a, const void *b)
{
	const struct made *const *left = a, *const *right = b;

	if ((*left)->call != (*right)->call)
		return (*left)->call < (*right)->call ? -1 : 1;
	if ((*left)->place != (*right)->place)
		return (*left)->place < (*right)->place ? -1 : 1;
	return *left < *right ? -1 : 1;
}

static bool same_place(const struct made *a, const struct made *b)
{
	return a->call == b->call && a->place == b->place;
}

/* That the journal has. */
static int segments(void)
{
	char path[128];
	DIR *directory;
	int n = 0;

	snprintf(path, sizeof path, "%s/journal", dir);
	directory = opendir(path);
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
		n += strstr(entry->d_name, ".sse") != NULL;
	closedir(directory);
	return n;
}

static void run_once(const struct setup *setup, int64_t strike, int error)
{
	run_begin(setup, strike, error);
	alarm(60); /* one that hangs is told */
	if (setjmp(run.gives_up) == 0) {
		run_all();
		must(strike >= 0 || setup->sync == NULL || run.resyncs == 0, "%d pages are told to reload", run.resyncs);
		must(strike >= 0 || run.put_offs == 0, "%d pages are put off", run.put_offs);
		must(strike >= 0 || run.pages[DORA].connects == 1 + run.pages[ALICE].connects, "dora was not too slow");
		must(strike >= 0 || run.pages[ALICE].keepalives > 0, "no keepalive");
		must(strike >= 0 || setup->sync == NULL || segments() > 1, "no second segment");
	}
	alarm(0);
	if (getenv("SWEEP_SHOW") != NULL)
		fprintf(stderr, "show %s %s %d: %lld ms in step %d; %lld turns, %d starts, %d resyncs, %d put off\n", setup->name,
			strike < 0 ? "-" : calls[made[strike].call].name, error, (long long)run.slowest_ms, run.slowest, (long long)run.turns,
			run.starts, run.resyncs, run.put_offs);
	run_end();
}

static void sweep_one(const struct setup *setup, int64_t strike)
{
	for (const int *error = calls[made[strike].call].errors; *error != 0; error++)
		run_once(setup, strike, *error);
}

static void sweep(const struct setup *setup)
{
	const char *only = getenv("SWEEP_ONLY");
	bool all = getenv("SWEEP_ALL") != NULL;
	int64_t places = 0, runs = 0;
	struct made **order;
	char path[128];

	strcpy(dir, "/tmp/sse-sweep-XXXXXX");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/journal", dir);
	mkdir(path, 0700);
	write_file("in-tokens", "alice-token 7 manager\ndora-token dora-whose-name-takes-more-than-24-bytes driver,porter\n");
	write_file("in-keys", ticket_secret);
	write_file("in-auth-key", "the-key-of-django\n");
	ticket_sign(ticket_bob, sizeof ticket_bob, "{\"sub\":\"bob\",\"roles\":[\"driver\"],\"aud\":\"sse\",\"exp\":1804110400}");
	ticket_sign(ticket_eve, sizeof ticket_eve,
		"{\"sub\":\"eve-whose-name-takes-more-than-24-bytes\",\"roles\":[],\"aud\":\"sse\",\"exp\":1804110400,\"iat\":1704110000,\"sid\":\"eves-session\"}");
	signal(SIGABRT, on_abort);
	signal(SIGALRM, on_abort);
	__sanitizer_set_death_callback(tell_fault);
	made_count = failures = 0;
	recording = true;
	run_once(setup, -1, 0);
	recording = false;
	cr_assert_eq(failures, 0, "without a fault");

	order = malloc((size_t)made_count * sizeof *order);
	for (int64_t i = 0; i < made_count; i++)
		order[i] = &made[i];
	qsort(order, (size_t)made_count, sizeof *order, order_of_places);
	for (int64_t i = 0, nth = 1; i < made_count; i++, nth++) {
		bool last = i + 1 == made_count || !same_place(order[i], order[i + 1]);

		if (i == 0 || !same_place(order[i - 1], order[i]))
			nth = 1;
		places += nth == 1;
		if (only != NULL ? order[i] - made != atoll(only) : !all && !last && ((nth & (nth - 1)) != 0 || (nth & 0x5555555555555555) == 0))
			continue;
		for (const int *error = calls[order[i]->call].errors; *error != 0; error++)
			runs++;
		sweep_one(setup, order[i] - made);
	}
	fprintf(stderr, "journal %s: %lld calls from %lld places, %lld runs with a fault\n", setup->name, (long long)made_count,
		(long long)places, (long long)runs);
	free(order);
	free(made);
	made = NULL;
	made_cap = 0;
	clean(dir, true);
	rmdir(path);
	cr_expect_eq(rmdir(dir), 0);
	cr_assert_eq(failures, 0, "%d runs are wrong", failures);
}

Test(sweep, R2_R3_R4_every_call_fails_once_without_a_journal)
{
	sweep(&(struct setup){"none at all", NULL, false});
}

Test(sweep, R2_R3_R4_every_call_fails_once_with_a_journal_never_synced)
{
	sweep(&(struct setup){"none", "none", true});
}

Test(sweep, R2_R3_R4_every_call_fails_once_with_a_journal_synced_in_batches)
{
	sweep(&(struct setup){"batch", "batch", true});
}

Test(sweep, R2_R3_R4_every_call_fails_once_with_a_journal_always_synced)
{
	sweep(&(struct setup){"always", "always", false});
}
