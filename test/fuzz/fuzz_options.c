/*
 * fuzz_options.c - the first byte says what the rest is: a configuration file, or lines, each a word of the command
 * line or a variable of the environment.
 */
#include "fuzz.h"

#include <unistd.h>

static char path[64];

static void remove_file(void)
{
	unlink(path);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	snprintf(path, sizeof path, "%s/sse-fuzz-options-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp",
		(int)getpid());
	atexit(remove_file);
	return 0;
}

static void file_write(struct span text)
{
	FILE *f = fopen(path, "w");

	check(f != NULL && fwrite(text.p, 1, text.n, f) == text.n && fclose(f) == 0, "cannot write %s", path);
}

/* What each type of option may be. */
static void number_check(const char *flag, int64_t n, int64_t least, int64_t most)
{
	check(n >= least && n <= most, "--%s is %lld", flag, (long long)n);
}

static void text_check(const char *flag, const char *text, int64_t least, int64_t most)
{
	check(text != NULL && (int64_t)strlen(text) >= least && (int64_t)strlen(text) <= most, "--%s is %s", flag, text);
}

static void list_check(const char *flag, const struct option_list *list)
{
	check(list->count >= 0 && list->count <= MAX_LISTEN, "--%s has %d", flag, list->count);
	for (int i = 0; i < list->count; i++)
		check(list->items[i] != NULL && list->items[i][0] != '\0', "--%s has nothing in it", flag);
}

#define CHECK_ADDRESSES(field, flag, least, most) list_check(flag, &o->field)
#define CHECK_ORIGINS(field, flag, least, most) list_check(flag, &o->field)
#define CHECK_NETWORKS(field, flag, least, most) list_check(flag, &o->field)
#define CHECK_TEXT(field, flag, least, most) text_check(flag, o->field, least, most)
#define CHECK_PREFIX(field, flag, least, most) text_check(flag, o->field, 0, most)
#define CHECK_URL(field, flag, least, most) text_check(flag, o->field, 0, 2048)
#define CHECK_WORD(field, flag, least, most) text_check(flag, o->field, least, most)
#define CHECK_HOST(field, flag, least, most) text_check(flag, o->field, 0, most)
#define CHECK_MODE(field, flag, least, most) number_check(flag, o->field, least, most)
#define CHECK_LEVEL(field, flag, least, most) number_check(flag, o->field, least, most)
#define CHECK_SYNC(field, flag, least, most) number_check(flag, o->field, least, most)
#define CHECK_SWITCH(field, flag, least, most) number_check(flag, o->field, least, most)
#define CHECK_COUNT(field, flag, least, most) number_check(flag, o->field, least, most)
#define CHECK_BYTES(field, flag, least, most) number_check(flag, o->field, least, most)
#define CHECK_DURATION(field, flag, least, most) number_check(flag, o->field, least, most)

static void options_check(const struct options *o)
{
#define X(type, field, flag, preset, least, most, placeholder, help) CHECK_##type(field, flag, least, most);
	OPTIONS(X)
#undef X
	check(o->history_bytes >= o->queue * o->datagram && o->target <= o->head, "options that do not fit each other");
	for (int i = 0; i < o->trusted_proxy.count; i++) {
		struct network n;

		check(network_parse(span_of(o->trusted_proxy.items[i]), &n), "a proxy that is no network");
	}
}

static void read_options(int argc, char **argv, char **env)
{
	struct options o;
	struct buf error = buf_growable();
	bool good = options_read(&o, argc, argv, env, &error);

	if (good) {
		check(error.len == 0, "good, and an error");
		if (!o.help && !o.version)
			options_check(&o);
	} else {
		check(is_one_line(&error), "refused without a word, or in many lines: %.*s", (int)error.len, error.data);
	}
	options_free(&o);
	buf_free(&error);
}

/* Each line in a block of its own, that ends where it ends. */
static int words_take(struct span rest, char **words, int most)
{
	int n = 0;

	while (n < most && rest.n > 0) {
		struct span line = take_line(&rest, '\n');

		words[n] = malloc(line.n + 1);
		memcpy(words[n], line.n > 0 ? line.p : "", line.n);
		words[n][line.n] = '\0';
		/* What names files is for another target, and no file but ours is to be read. */
		if (strncmp(words[n], "--config", 8) == 0 || strncmp(words[n], "SSE_CONFIG", 10) == 0)
			words[n][0] = '\0';
		n++;
	}
	words[n] = NULL;
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static char program[] = "sse", flag[] = "--config";
	struct span input = {(const char *)bytes, n};
	char *words[66], *argv[] = {program, flag, path, NULL}, *empty[] = {NULL};
	uint32_t kind = take_upto(&input, 255);
	int count;

	if (kind % 3 == 0) {
		file_write(input);
		read_options(3, argv, empty);
		return 0;
	}
	count = words_take(input, words + 1, 64) + 1;
	words[0] = program;
	if (kind % 3 == 1)
		read_options(count, words, empty);
	else
		read_options(1, argv, words + 1);
	for (int i = 1; i < count; i++)
		free(words[i]);
	return 0;
}
