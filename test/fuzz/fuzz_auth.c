/*
 * fuzz_auth.c - the input is what happens between pages, a server and Django: who asks, with which token, what
 * Django answers, whole, in pieces, too late, or not at all, who is revoked, and how time passes. Nobody may be let
 * in without an answer that says so and was asked for after the last revocation; nobody may be told for good that
 * he is denied, unless Django said it.
 */
#include "worlds.h"

#include <errno.h>

enum { PAGES = 8, TOKENS = 6, USERS = 3, STEPS_MOST = 300 };

static const char *const users[USERS] = {"1", "22", "ann"};

/* What Django said of a token: the step in which the newest question was asked to which the answer was this; 0:
 * never. */
static struct token {
	int allowed, denied;
	bool odd; /* it was told something that this test does not understand */
} tokens[TOKENS];

static struct {
	int fd; /* -1: not connected */
	int token;
	bool answered;
} pages[PAGES];

static struct {
	int token; /* whose question it has; -1: none */
	int step;
	bool odd;  /* bytes of an answer have come */
	int closes;  /* of its descriptor, when it was opened */
	size_t from; /* of what the server wrote: where the question begins */
} links[WORLD_FDS];

static int step, revoked[USERS], events;

static int user_of(int token)
{
	return token % USERS;
}

/* ---- what Django hears ---- */

static void question_heard(int fd, struct span text)
{
	const char *token = memmem(text.p, text.n, "\r\nAuthorization: Token k", 24);

	check(text.n > 4 && memcmp(text.p, "GET /auth HTTP/1.1\r\n", 20) == 0 && token != NULL, "not a question: %.*s",
		(int)text.n, text.p);
	check(token[24] >= '0' && token[24] < '0' + TOKENS && token[25] == '\r', "about no token of ours: %.*s", (int)text.n,
		text.p);
	check(links[fd].token < 0 || tokens[links[fd].token].odd, "two questions at a time");
	links[fd].token = token[24] - '0';
	links[fd].step = step;
	links[fd].odd = false;
}

static void django_listens(void)
{
	for (int fd = 0; fd < WORLD_FDS; fd++) {
		struct fake_fd *f = &world.fds[fd];
		const char *end;

		if (!f->open || !f->link) {
			links[fd].token = -1;
			links[fd].from = 0;
			continue;
		}
		if (links[fd].closes != f->closes) { /* another link has this descriptor now */
			links[fd].closes = f->closes;
			links[fd].token = -1;
			links[fd].from = 0;
		}
		end = f->out.len > links[fd].from
			? memmem(f->out.data + links[fd].from, f->out.len - links[fd].from, "\r\n\r\n", 4) : NULL;
		if (end == NULL)
			continue;
		question_heard(fd, (struct span){f->out.data + links[fd].from, (size_t)(end + 4 - f->out.data) - links[fd].from});
		links[fd].from = (size_t)(end + 4 - f->out.data);
	}
}

/* ---- what pages hear ---- */

static void page_leaves(int i, bool reset)
{
	int fd = pages[i].fd;

	pages[i].fd = -1;
	if (!world.fds[fd].open)
		return;
	if (reset)
		client_resets(fd);
	else
		client_ends(fd);
}

static void page_hears(int i)
{
	struct token *token = &tokens[pages[i].token];
	const char *text = client_hears(pages[i].fd);

	if (!pages[i].answered && text[0] != '\0') {
		bool stream = strstr(text, "\"connected\"") != NULL;

		pages[i].answered = true;
		check(strncmp(text, "HTTP/1.1 200 ", 13) == 0 || strncmp(text, "HTTP/1.1 401 ", 13) == 0, "a page is answered %s",
			text);
		if (strncmp(text, "HTTP/1.1 401 ", 13) == 0)
			check(token->denied > 0 || token->odd, "denied for good, and Django never said so: k%d", pages[i].token);
		else
			check(strstr(text, "retry: ") != NULL, "neither let in nor put off: %s", text);
		if (stream)
			check(token->odd || (token->allowed > 0 && token->allowed >= revoked[user_of(pages[i].token)]),
				"let in: k%d, allowed in step %d, revoked in %d", pages[i].token, token->allowed, revoked[user_of(pages[i].token)]);
	}
	for (const char *event = text; (event = strstr(event, "\"data\":[\"for\",")) != NULL; event++)
		check(token->odd || atoi(event + 14) == user_of(pages[i].token), "k%d gets what is for user %s", pages[i].token,
			users[atoi(event + 14)]);
	if (!world.fds[pages[i].fd].open || world.fds[pages[i].fd].shut)
		page_leaves(i, false);
}

static void all_hear(void)
{
	django_listens();
	for (int i = 0; i < PAGES; i++)
		if (pages[i].fd >= 0)
			page_hears(i);
	django_listens();
	world.log.len = world.log_heard = 0;
}

/* ---- steps ---- */

static void page_asks(struct span *rest)
{
	char request[160];
	int i = (int)take_upto(rest, PAGES - 1);

	if (pages[i].fd >= 0) {
		page_leaves(i, take_upto(rest, 1) == 1);
		return;
	}
	pages[i].token = (int)take_upto(rest, TOKENS - 1);
	pages[i].fd = client_open();
	pages[i].answered = false;
	snprintf(request, sizeof request, "GET /api/v1/sse/events/?token=k%d HTTP/1.1\r\nHost: a\r\n\r\n", pages[i].token);
	client_says(pages[i].fd, request);
}

/* A link that is open, or -1. */
static int link_take(struct span *rest)
{
	int open[WORLD_FDS], count = 0;

	for (int fd = 0; fd < WORLD_FDS; fd++)
		if (world.fds[fd].open && world.fds[fd].link)
			open[count++] = fd;
	return count == 0 ? -1 : open[take_upto(rest, (uint32_t)count - 1)];
}

/* Whole, or its beginning. Also where nothing was asked: then it must count for nobody. */
static void django_says_so(struct span *rest)
{
	static const char *const headers[] = {"", "Cache-Control: max-age=0\r\n", "Cache-Control: max-age=2\r\n",
		"Connection: close\r\n",
		"Cache-Control: no-store\r\n", "Content-Type: application/json\r\n"};
	static const char *const statuses[] = {"200 OK", "401 Unauthorized", "403 Forbidden", "500 Oops", "302 Found",
		"204 No Content"};
	int fd = link_take(rest), token;
	uint32_t status = take_upto(rest, 9), header = take_upto(rest, COUNT_OF(headers) - 1), cut = take_upto(rest, 15);
	char body[128] = "", text[512];
	size_t n;

	if (fd < 0)
		return;
	token = links[fd].token;
	status = status < COUNT_OF(statuses) ? status : 0;
	if (status == 0)
		snprintf(body, sizeof body, "{\"user\":\"%s\",\"roles\":[\"r%d\"],\"sid\":\"s%d\"}",
			users[user_of(token < 0 ? 0 : token)], token & 1,
			token & 1);
	n = (size_t)snprintf(text, sizeof text, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n%s", statuses[status],
		headers[header], strlen(body),
		body);
	if (token >= 0 && links[fd].odd) {
		tokens[token].odd = true;
	} else if (token >= 0 && cut < 14) {
		if (status == 0)
			tokens[token].allowed = links[fd].step;
		else if (status < 3)
			tokens[token].denied = links[fd].step;
		links[fd].token = -1;
	} else if (token >= 0) {
		links[fd].odd = true;
		n = take_upto(rest, (uint32_t)n - 1);
	}
	if (n > 0)
		django_answers_bytes(fd, text, n);
}

static void django_says_anything(struct span *rest)
{
	int fd = link_take(rest);
	size_t n = take_upto(rest, 63);

	n = n < rest->n ? n : rest->n;
	if (fd < 0 || n == 0)
		return;
	if (links[fd].token >= 0)
		tokens[links[fd].token].odd = links[fd].odd = true;
	django_answers_bytes(fd, rest->p, n);
	*rest = (struct span){rest->p + n, rest->n - n};
}

static void django_closes(struct span *rest)
{
	int fd = link_take(rest);
	bool reset = take_upto(rest, 1) == 1;

	if (fd < 0)
		return;
	if (links[fd].token >= 0 && links[fd].odd)
		tokens[links[fd].token].odd = true; /* a body that ends with the connection */
	if (reset)
		client_resets(fd);
	else
		client_ends(fd);
}

static void operate(struct span *rest)
{
	uint32_t user = take_upto(rest, USERS - 1), kind = take_upto(rest, 5);
	char line[160];

	if (kind < 2)
		snprintf(line, sizeof line, "{\"op\":\"%s\",\"user\":\"%s\"}", kind == 0 ? "revoke" : "refresh", users[user]);
	else if (kind == 2)
		snprintf(line, sizeof line, "{\"op\":\"revoke\",\"sid\":\"s%u\"}", user & 1);
	else
		snprintf(line, sizeof line, "{\"event\":\"e\",\"data\":[\"for\",%u,%d],\"to\":{\"users\":[\"%s\"]}}", user,
			events++, users[user]);
	if (kind == 0)
		revoked[user] = step;
	check(strncmp(django_says(line), "{\"ok\":true", 10) == 0, "%s: %s", line, world.acks.data);
}

static void system_fails(struct span *rest)
{
	static const int errors[] = {0, ECONNREFUSED, EINPROGRESS, EAGAIN};
	static const int socket_errors[] = {0, 0, EMFILE, ENOBUFS};

	world.connect_errno = errors[take_upto(rest, COUNT_OF(errors) - 1)];
	world.socket_errno = socket_errors[take_upto(rest, COUNT_OF(socket_errors) - 1)];
	world.link_room = take_upto(rest, 3) == 0 ? take_upto(rest, 300) : SIZE_MAX;
}

/* What a link has is taken by its peer: there is room again. */
static void link_writes(struct span *rest)
{
	int fd = link_take(rest);

	if (fd >= 0)
		client_room(fd, SIZE_MAX);
}

static void time_passes(int64_t ms)
{
	world.now_ms += ms;
	world.wall_ms += ms;
	world_settle();
}

static void take_step(struct span *rest)
{
	static const int64_t times[] = {50, 200, 1000, 1100, 2500, 5500, 31000, 310000};

	step++;
	switch (take_upto(rest, 15)) {
	case 0: case 1: case 2: case 3:
		page_asks(rest);
		break;
	case 4: case 5: case 6: case 7: case 8:
		django_says_so(rest);
		break;
	case 9:
		django_says_anything(rest);
		break;
	case 10:
		django_closes(rest);
		break;
	case 11:
		system_fails(rest);
		break;
	case 12:
		link_writes(rest);
		break;
	case 13:
		operate(rest);
		break;
	default:
		time_passes(times[take_upto(rest, COUNT_OF(times) - 1)]);
	}
	all_hear();
}

/* Everybody leaves, Django says nothing more: no question may be left. */
static void leave(void)
{
	struct server *s = world.server;

	for (int i = 0; i < PAGES; i++)
		if (pages[i].fd >= 0)
			page_leaves(i, false);
	world.connect_errno = world.socket_errno = 0;
	for (int i = 0; i < 12; i++)
		time_passes(6000);
	check(s->questions_open == 0 && s->refreshes_open == 0 && s->asking == 0, "questions are left: %u, %u, %d",
		s->questions_open,
		s->refreshes_open, s->asking);
	check(s->streams.count == 0 && s->open.count == 0, "connections are left");
	for (int i = 0; i < 6; i++)
		time_passes(60000); /* answers are kept for 300 s at the most */
	check(s->users_by_id.count == 0 && s->sessions_by_key.count == 0 && s->cached == 0, "sessions are left");
	for (int i = 0; i < MAX_ROLES; i++)
		check(s->roles[i].bytes == 0 || s->roles[i].sessions == 0, "roles are left");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span rest = {(const char *)bytes, n};

	world_clear();
	memset(tokens, 0, sizeof tokens);
	memset(revoked, 0, sizeof revoked);
	memset(links, 0, sizeof links);
	step = events = 0;
	for (int i = 0; i < PAGES; i++)
		pages[i].fd = -1;
	for (int fd = 0; fd < WORLD_FDS; fd++)
		links[fd].token = -1;
	world_start(NULL, "--log-level", "error", "--history-bytes", "65536", "--datagram", "256", "--auth-url",
		"http://127.0.0.1:8000/auth",
		"--auth-connections", take_upto(&rest, 1) == 0 ? "2" : "16", "--auth-queue", "4", "--auth-refresh", "2s", NULL);
	while (rest.n > 0 && step < STEPS_MOST)
		take_step(&rest);
	leave();
	world_stop();
	return 0;
}
