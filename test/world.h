/*
 * world.h - a server without sockets, for tests: every system call is a fake that a test can
 * script, and time is what the test says.
 *
 * A client is a descriptor: client_open gives one, client_says sends bytes to the server,
 * client_hears returns what the server wrote since the last time. The kernel's buffer of a
 * client is as large as the test makes it (client_room), and fails as the test says.
 */
#ifndef WORLD_H
#define WORLD_H

#include "sse.h"

#include <criterion/criterion.h>

enum { WORLD_FDS = 256, WORLD_LISTENER = 7, WORLD_MANAGER = 9 };

struct fake_fd {
	bool open;      /* between client_open and the server's close */
	bool link;      /* the server opened it, to ask Django */
	bool shut;      /* the server called shutdown(SHUT_WR) */
	bool reset;     /* the server closed it with SO_LINGER 0 */
	int closes;     /* how often the server closed it */
	size_t room;    /* bytes the kernel takes; SIZE_MAX: any number */
	bool full;      /* the last sendmsg found less room than it had bytes */
	int fails;      /* errno of the next sendmsg, 0: none */
	bool eof;       /* the client sends no more */
	struct buf in;  /* what the server has not read yet */
	struct buf out; /* what it wrote */
	size_t heard;   /* of out: returned by client_hears */
	int sends;      /* sendmsg calls */
	size_t pieces;  /* iovecs of the last one */
};

struct world {
	struct server *server;
	struct fake_fd fds[WORLD_FDS];
	int64_t now_ms, wall_ms; /* what the clocks say */
	char dir[64];            /* has `tokens` and `log` */
	struct buf acks;         /* datagrams sent back: each with a newline behind it */
	int acks_sent;           /* sendto calls that worked */
	int ack_errno;           /* sendto fails with it */
	struct {
		char *bytes;
		size_t n;
		bool bound;
	} datagrams[512]; /* waiting in the socket */
	int datagram_first, datagram_count;
	int receive_errno; /* recvmmsg fails with it, once */
	struct buf log;   /* what was written to the log */
	size_t log_heard; /* of log: returned by log_hears */
	int log_errno;    /* write to the log fails with it */
	size_t log_room;  /* bytes a write to the log takes before it fails so; SIZE_MAX: any number */
	int signals[8], signal_count; /* raised, not yet read */
	int socket_errno, connect_errno; /* socket, connect fail with it */
	size_t link_room;                /* bytes the kernel takes on a new connection to Django */
	int connects;                    /* connect calls */
	struct sockaddr_storage connected_to;
	int argc; /* the server's arguments */
	char *argv[64];
	int disk_errno;   /* the journal's disk is at fault: writes fail with it, behind disk_room bytes more */
	size_t disk_room;
	bool disk_whole;   /* a write that has no room takes nothing */
	bool disk_creates; /* files can be made all the same: only their bytes find no room */
	bool sync_held;   /* fdatasync takes its time */
	int sync_errno;   /* it fails with it */
	void (*between)(void); /* called once, while no server runs: see world_restart */
	int syncs;        /* calls that came to an end */
	bool sync_asked;  /* one is under way ... */
	struct sync_job sync; /* ... and this is it */
	int accept_errno;             /* accept4 on WORLD_LISTENER fails with it */
	int wait_ms;                  /* what the last epoll_wait was allowed to wait */
	bool admin;                   /* clients come by --admin from now on */
	char told[512];               /* what the service manager, by WORLD_MANAGER, was told last */
	int tells, manager_errno;     /* how often; telling it fails with it */
};

extern struct world world; /* one a test: Criterion runs each in a process of its own */

/* Writes a file that world_stop removes: tokens, ticket-keys or auth-key. Its path lives until the next call. */
const char *world_file(const char *name, const char *text);
/*
 * Starts the server with these options beside --token-file, which has the given text; NULL: without
 * one. The list of options ends with NULL. 250 connections are possible.
 */
void world_start(const char *tokens, ...);
void world_stop(void); /* checks that nothing is left open */
/* The directory for --journal, made if it is not there. Its path lives until the next call. */
const char *world_journal(void);
/* The same server once more, on the same files: after its end in order, or after kill -9. Every client is gone. */
void world_restart(bool orderly);
/* Writes the token file anew. */
void world_tokens(const char *text);

/* The server is told of this signal; settles. */
void world_raises(int signal);

/* Turns of the loop until there is nothing to do. Time stands still, unless publishers are held back
 * for a stream that is blocked. */
void world_settle(void);
/* Lets time pass in steps of TICK, with turns in between. */
void world_pass(int64_t ms);

int client_open(void);
void client_says(int fd, const char *text);
void client_says_bytes(int fd, const char *bytes, size_t n);
/* What was written to it since the last call; a C string that lives until the next call. */
const char *client_hears(int fd);
/* The same, with the chunks of a chunked stream taken apart. Drops the head, if there is one. */
const char *client_hears_frames(int fd);
void client_room(int fd, size_t bytes); /* and tells the server by EPOLLOUT */
void client_ends(int fd);               /* half-close */
void client_resets(int fd);
struct conn *client_conn(int fd);
/* Opens a stream with this token, settles, and swallows the greeting. */
int stream_open(const char *token);

/* What was written to the log since the last call, and stays there until the next. */
const char *log_hears(void);

/* ---- what Django is asked; a link is a descriptor, as a client is ---- */

int django_links(void); /* that are open */
/* The next question that was not heard yet, and its link; NULL: there is none. */
const char *django_hears(int *link);
int django_asked(const char *token); /* the same: it must be about this token; returns the link */
void django_not_asked(void);
void django_answers_bytes(int link, const char *bytes, size_t n);
void django_answers_text(int link, const char *text);
/* A whole answer; headers is "" or lines with CR LF. */
void django_answers(int link, const char *status, const char *headers, const char *body);
void django_allows(int link, const char *json);

/* A datagram from a bound sender is put in the socket; nothing happens before world_settle. */
void django_queues(const char *text);
void django_queues_bytes(const char *bytes, size_t n, bool bound);
/* The same, settled; returns the ack. */
const char *django_says(const char *text);

#endif
