/*
 * fuzz_tokens.c - the input is a token file, read by a running server with three streams. A good one takes effect,
 * a bad one changes nothing.
 */
#include "worlds.h"

enum { STREAMS = 3 };

static const char *const tokens = "t1 1 manager\nt2 2\nt3 ann manager,foreman\n";
static const char *const names[STREAMS] = {"t1", "t2", "t3"}, *const users[STREAMS] = {"1", "2", "ann"};
static int streams[STREAMS];

static void start(void)
{
	world_start(tokens, "--log-level", "error", "--history-bytes", "65536", "--datagram", "256", NULL);
	for (int i = 0; i < STREAMS; i++)
		streams[i] = stream_open(names[i]);
}

static void file_write(struct span text)
{
	char path[96];
	FILE *f;

	snprintf(path, sizeof path, "%s/tokens", world.dir);
	f = fopen(path, "w");
	check(f != NULL && fwrite(text.p, 1, text.n, f) == text.n && fclose(f) == 0, "cannot write %s", path);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

static struct span word_take(struct span *rest)
{
	size_t n = 0;
	struct span word;

	while (rest->n > 0 && is_space(rest->p[0]))
		*rest = (struct span){rest->p + 1, rest->n - 1};
	while (n < rest->n && !is_space(rest->p[n]))
		n++;
	word = (struct span){rest->p, n};
	*rest = (struct span){rest->p + n, rest->n - n};
	return word;
}

/* Does a good file list this token for this user? Counts its lines. */
static bool is_listed(struct span text, const char *token, const char *user, int *lines)
{
	bool listed = false;

	*lines = 0;
	while (text.n > 0) {
		struct span line = take_line(&text, '\n'), first;

		line.n -= line.n > 0 && line.p[line.n - 1] == '\r';
		first = word_take(&line);
		if (first.n == 0 || first.p[0] == '#')
			continue;
		++*lines;
		listed |= span_same(first, span_of(token)) && span_same(word_take(&line), span_of(user));
	}
	return listed;
}

static bool is_stream(int i)
{
	return world.fds[streams[i]].open && client_conn(streams[i])->state == CONN_STREAM;
}

static void check_file(struct span text)
{
	struct server *s = world.server;
	struct buf error = buf_growable();
	uint32_t online = s->streams.count, sessions = s->sessions_by_key.count, users_before = s->users_by_id.count;
	int lines, count = s->token_count;
	bool good;

	file_write(text);
	good = tokens_load(s, &error);
	if (good) {
		check(error.len == 0, "good, and an error");
		for (int i = 0; i < STREAMS; i++) {
			bool listed = is_listed(text, names[i], users[i], &lines);

			check(s->token_count == lines && s->sessions_by_key.count == (uint32_t)lines, "%d tokens, not %d", s->token_count,
				lines);
			check(is_stream(i) == listed, "stream %d is %s", i,
				listed ? "gone, and its token is listed" : "there, and its token is not listed");
		}
	} else {
		check(is_one_line(&error), "refused without a word, or in many lines: %.*s", (int)error.len, error.data);
		check(s->streams.count == online && s->sessions_by_key.count == sessions && s->users_by_id.count == users_before
			&& s->token_count == count, "refused, and it changed something");
	}
	world_settle();
	buf_free(&error);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct buf error = buf_growable();

	lasting_begin(start);
	check_file((struct span){(const char *)bytes, n});
	/* All as it was. */
	file_write(span_of(tokens));
	check(tokens_load(world.server, &error), "%.*s", (int)error.len, error.data);
	buf_free(&error);
	check(world.server->users_by_id.count == STREAMS, "users are left");
	for (int i = 0; i < STREAMS; i++) {
		if (!is_stream(i)) {
			if (world.fds[streams[i]].open)
				client_resets(streams[i]);
			world_settle();
			streams[i] = stream_open(names[i]);
		}
		world.fds[streams[i]].out.len = world.fds[streams[i]].heard = 0;
	}
	lasting_end();
	return 0;
}
