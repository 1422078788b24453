/*
 * replay - how long a server takes to replay events to one stream, beside a plain socket that sends the same bytes.
 *
 *     replay --connect 127.0.0.1:8080 --path '/api/v1/sse/events/?token=T' --last-event-id ID --events 10000 \
 *            --save FILE
 *     replay --connect 127.0.0.1:8080 --path ... --last-event-id ID --events 10000 --save FILE \
 *            --beside 127.0.0.1:8081 --pairs 101 --warm-up 10 --pid PID --beside-pid PID
 *
 * The first form reads an answer up to the last of so many events, and keeps it in FILE, for `floor --mode file` to
 * send. The second reads that answer again and again, from both servers in turn, and prints a line of JSON: for each
 * pair microseconds of the clock ("us", "beside_us"), and of the servers' CPU ("cpu_us", "beside_cpu_us").
 *
 *     --connect HOST:PORT, --beside HOST:PORT    loopback only
 *     --path TARGET         request target
 *     --last-event-id ID    goes into the request of both
 *     --events N            events of the answer, those of the greeting not counted
 *     --save FILE           the answer, from the HTTP head on
 *     --pairs N             so many are measured, after ...
 *     --warm-up N           ... so many that are not
 *     --pid, --beside-pid   whose CPU: the run time of the process' first thread, from schedstat
 *
 * The clock runs from just before the request is sent, on a connection that is there already, until the last byte of
 * the last event is in this program's memory. The number of bytes says when that is, so that nothing is looked at
 * while the clock runs: one recv after the other, each as large as it can be. Then every byte behind the greeting's
 * "retry" (whose time is random) is compared with the first answer. The server's CPU is that from the request to
 * REST_MS after the last byte, so that what it does about the end of the connection is in it.
 *
 * After so many seconds (60) it ends wherever it is. Exit status: 0, 1 if anything was not as it should be, 2 for
 * wrong usage.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	ANSWER_MAX = 256 << 20,
	GREETING_FRAMES = 2,      /* retry, connected */
	REST_MS = 2,              /* between two exchanges: the servers have seen the end of the one before */
	LIMIT_S = 60,
};

struct replay {
	const char *connect, *beside, *path, *id, *events, *save, *pairs, *warm_up, *pid, *beside_pid;
	char request[8192];
	size_t request_bytes;
	char *reference;          /* the answer */
	size_t answer_bytes;
	char *got;                /* ANSWER_MAX bytes of room, and a NUL */
};

/* One of both that are measured. */
struct side {
	struct sockaddr_in address;
	const char *pid;
	double *us, *cpu_us;
};

static _Noreturn __attribute__((format(printf, 2, 3))) void die(int status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("replay: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(status);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static struct sockaddr_in address_read(const char *text)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	char host[64];
	unsigned port;
	if (sscanf(text, "%63[^:]:%u", host, &port) != 2 || port == 0 || port > 65535
			|| inet_pton(AF_INET, host, &a.sin_addr) != 1 || ntohl(a.sin_addr.s_addr) >> 24 != 127)
		die(2, "expected 127.x.x.x:PORT: %s", text);
	a.sin_port = htons((uint16_t)port);
	return a;
}

/* What a process has run so far; 0 for none. */
static uint64_t cpu_ns(const char *pid)
{
	char path[64];
	unsigned long long ns = 0;
	if (!pid)
		return 0;
	snprintf(path, sizeof path, "/proc/%s/schedstat", pid);
	FILE *file = fopen(path, "r");
	if (!file || fscanf(file, "%llu", &ns) != 1)
		die(1, "%s: %s", path, strerror(errno));
	fclose(file);
	return ns;
}

/* ---- an exchange ------------------------------------------------------------------------------------------ */

static int connection_open(const struct side *side)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&side->address, sizeof side->address) < 0)
		die(1, "connect: %s", strerror(errno));
	return fd;
}

static void request_send(const struct replay *r, int fd)
{
	if (send(fd, r->request, r->request_bytes, MSG_NOSIGNAL) != (ssize_t)r->request_bytes)
		die(1, "send: %s", strerror(errno));
}

static size_t answer_recv(int fd, char *bytes, size_t room)
{
	ssize_t n = recv(fd, bytes, room, 0);
	if (n <= 0)
		die(1, "recv: %s", n < 0 ? strerror(errno) : "the server has closed the connection");
	return (size_t)n;
}

/* Where the comparison begins: behind the greeting's first frame. */
static size_t fixed_from(const char *bytes, size_t n)
{
	const char *blank = memmem(bytes, n, "\n\n", 2);
	return blank ? (size_t)(blank - bytes) : n;
}

static void rest(void)
{
	nanosleep(&(struct timespec){.tv_nsec = REST_MS * 1000000}, NULL);
}

static void exchange(struct replay *r, const struct side *side, double *us, double *cpu_us)
{
	int fd = connection_open(side);
	rest();
	uint64_t cpu_from_ns = cpu_ns(side->pid), from_ns = now_ns();
	request_send(r, fd);
	for (size_t have = 0; have < r->answer_bytes;)
		have += answer_recv(fd, r->got + have, r->answer_bytes - have);
	*us = (double)(now_ns() - from_ns) / 1e3;
	size_t from = fixed_from(r->reference, r->answer_bytes);
	if (memcmp(r->got + from, r->reference + from, r->answer_bytes - from) != 0)
		die(1, "an answer was not the first one");
	close(fd);
	rest();
	*cpu_us = (double)(cpu_ns(side->pid) - cpu_from_ns) / 1e3;
}

/* ---- both forms ------------------------------------------------------------------------------------------- */

/* Reads an answer up to its last event, whose chunk may end with CR LF. */
static void reference_read(struct replay *r, const struct side *side)
{
	unsigned long wanted = strtoul(r->events, NULL, 10) + GREETING_FRAMES, frames = 0;
	size_t have = 0, at = 0;
	int fd = connection_open(side);
	request_send(r, fd);
	while (frames < wanted) {
		const char *blank = memmem(r->got + at, have - at, "\n\n", 2);
		if (blank) {
			at = (size_t)(blank - r->got) + 2;
			frames++;
		} else if (have < ANSWER_MAX) {
			have += answer_recv(fd, r->got + have, ANSWER_MAX - have);
		} else {
			die(1, "the answer is too long");
		}
	}
	bool chunked = strcasestr(r->got, "\r\ntransfer-encoding: chunked") != NULL;
	while (chunked && have < at + 2)
		have += answer_recv(fd, r->got + have, ANSWER_MAX - have);
	close(fd);
	r->answer_bytes = chunked ? at + 2 : at;
	r->reference = malloc(r->answer_bytes);
	if (!r->reference)
		die(1, "out of memory");
	memcpy(r->reference, r->got, r->answer_bytes);
}

static void reference_save(const struct replay *r)
{
	FILE *file = fopen(r->save, "w");
	if (!file || fwrite(r->reference, 1, r->answer_bytes, file) != r->answer_bytes || fclose(file) != 0)
		die(1, "--save: %s: %s", r->save, strerror(errno));
}

static void reference_load(struct replay *r)
{
	FILE *file = fopen(r->save, "r");
	if (!file)
		die(1, "--save: %s: %s", r->save, strerror(errno));
	r->answer_bytes = fread(r->got, 1, ANSWER_MAX, file);
	fclose(file);
	r->reference = malloc(r->answer_bytes + 1);
	if (!r->reference)
		die(1, "out of memory");
	memcpy(r->reference, r->got, r->answer_bytes);
}

static void list_print(const char *name, const double *values, unsigned count)
{
	printf(",\"%s\":[", name);
	for (unsigned i = 0; i < count; i++)
		printf("%s%.1f", i ? "," : "", values[i]);
	putchar(']');
}

static void pairs_run(struct replay *r, struct side sides[2])
{
	unsigned pairs = (unsigned)atoi(r->pairs), warm_up = (unsigned)atoi(r->warm_up);
	double ignored[2];
	for (int s = 0; s < 2; s++) {
		sides[s].us = calloc(pairs, sizeof(double));
		sides[s].cpu_us = calloc(pairs, sizeof(double));
		if (!sides[s].us || !sides[s].cpu_us)
			die(1, "out of memory");
	}
	for (unsigned i = 0; i < warm_up + pairs; i++) {
		for (int s = 0; s < 2; s++) {
			bool counts = i >= warm_up;
			exchange(r, &sides[s], counts ? &sides[s].us[i - warm_up] : &ignored[0],
				counts ? &sides[s].cpu_us[i - warm_up] : &ignored[1]);
		}
	}
	printf("{\"events\":%s,\"bytes\":%zu", r->events, r->answer_bytes);
	list_print("us", sides[0].us, pairs);
	list_print("beside_us", sides[1].us, pairs);
	list_print("cpu_us", sides[0].cpu_us, pairs);
	list_print("beside_cpu_us", sides[1].cpu_us, pairs);
	puts("}");
}

/* ---- main ------------------------------------------------------------------------------------------------- */

static int usage(void)
{
	fputs("usage: replay --connect HOST:PORT --path TARGET --last-event-id ID --events N --save FILE\n"
		"              [--beside HOST:PORT --pairs N --warm-up N --pid PID --beside-pid PID]\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static struct replay r = {.pairs = "21", .warm_up = "5"};
	const struct { const char *name, **into; } options[] = {
		{"--connect", &r.connect}, {"--beside", &r.beside}, {"--path", &r.path}, {"--last-event-id", &r.id},
		{"--events", &r.events}, {"--save", &r.save}, {"--pairs", &r.pairs}, {"--warm-up", &r.warm_up},
		{"--pid", &r.pid}, {"--beside-pid", &r.beside_pid},
	};
	for (int i = 1; i < argc; i += 2) {
		size_t o = 0;
		while (o < sizeof options / sizeof *options && strcmp(options[o].name, argv[i]) != 0)
			o++;
		if (o == sizeof options / sizeof *options || i + 1 == argc)
			return usage();
		*options[o].into = argv[i + 1];
	}
	if (!r.connect || !r.path || !r.id || !r.events || !r.save || atoi(r.events) <= 0 || atoi(r.pairs) <= 0
			|| atoi(r.warm_up) < 0)
		return usage();

	alarm(LIMIT_S);
	int n = snprintf(r.request, sizeof r.request, "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n"
		"Last-Event-ID: %s\r\n\r\n", r.path, r.id);
	if (n < 0 || (size_t)n >= sizeof r.request)
		return usage();
	r.request_bytes = (size_t)n;
	r.got = calloc(1, ANSWER_MAX + 1);
	if (!r.got)
		die(1, "out of memory");
	struct side sides[2] = {{.address = address_read(r.connect), .pid = r.pid}};
	if (!r.beside) {
		reference_read(&r, &sides[0]);
		reference_save(&r);
		printf("{\"events\":%s,\"bytes\":%zu}\n", r.events, r.answer_bytes);
		return 0;
	}
	sides[1] = (struct side){.address = address_read(r.beside), .pid = r.beside_pid};
	reference_load(&r);
	pairs_run(&r, sides);
}
