/* fuzz.c - see fuzz.h. */
#include "fuzz.h"

#include <sys/random.h>

static uint64_t chance = 1;

void chance_begin(void)
{
	chance = 1;
}

/*
 * The server's own chance, instead of libc's. It differs from call to call: who starts again must not get the
 * same ids. But its tables are laid out in the same way by every server: then all of them use the same few pages.
 */
ssize_t getrandom(void *bytes, size_t n, unsigned flags)
{
	(void)flags;
	if (n == sizeof ((struct server *)NULL)->hash_key) {
		memset(bytes, 0x5a, n);
		return (ssize_t)n;
	}
	for (size_t i = 0; i < n; i++)
		((uint8_t *)bytes)[i] = (uint8_t)random_below(&chance, 256);
	return (ssize_t)n;
}

__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	return 0;
}

uint64_t seed_of(struct span input)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

	for (size_t i = 0; i < input.n; i++)
		hash = (hash ^ (uint8_t)input.p[i]) * UINT64_C(0x100000001b3);
	return hash | 1;
}

uint32_t take_upto(struct span *rest, uint32_t most)
{
	uint64_t n = 0, seen = 0;

	while (seen < most && rest->n > 0) {
		n = n << 8 | (uint8_t)rest->p[0];
		seen = seen << 8 | 0xff;
		rest->p++;
		rest->n--;
	}
	return (uint32_t)(n % ((uint64_t)most + 1));
}

struct span take_line(struct span *rest, char c)
{
	const char *end = rest->n > 0 ? memchr(rest->p, c, rest->n) : NULL;
	struct span line = {rest->p, end != NULL ? (size_t)(end - rest->p) : rest->n};
	size_t gone = end != NULL ? line.n + 1 : line.n;

	if (gone > 0)
		*rest = (struct span){rest->p + gone, rest->n - gone};
	return line;
}

/* Bytes of one character at text[at], 0 if it is none: decoded, then compared with the shortest form. */
static size_t utf8_character(struct span text, size_t at)
{
	unsigned char c = (unsigned char)text.p[at];
	size_t n = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
	uint32_t code = n == 1 ? c : n == 0 ? 0 : c & (0xffu >> (n + 1));
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};

	if (n == 0 || n > text.n - at)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if (((unsigned char)text.p[at + i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | ((unsigned char)text.p[at + i] & 0x3f);
	}
	return code >= least[n] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? n : 0;
}

bool is_utf8(struct span text)
{
	size_t n;

	for (size_t at = 0; at < text.n; at += n)
		if ((n = utf8_character(text, at)) == 0)
			return false;
	return true;
}

/* ---- JSON: a grammar with a place, which is SIZE_MAX once it does not fit ---- */

#define NOWHERE SIZE_MAX

static char at_byte(struct span t, size_t at)
{
	return at < t.n ? t.p[at] : '\0';
}

static size_t white(struct span t, size_t at)
{
	while (at < t.n && (t.p[at] == ' ' || t.p[at] == '\t' || t.p[at] == '\n' || t.p[at] == '\r'))
		at++;
	return at;
}

static size_t digits(struct span t, size_t at)
{
	size_t from = at;

	while (at < t.n && t.p[at] >= '0' && t.p[at] <= '9')
		at++;
	return at > from ? at : NOWHERE;
}

static size_t number(struct span t, size_t at)
{
	at += at_byte(t, at) == '-';
	if (at_byte(t, at) == '0')
		at++;
	else
		at = digits(t, at);
	if (at != NOWHERE && at_byte(t, at) == '.')
		at = digits(t, at + 1);
	if (at != NOWHERE && (at_byte(t, at) == 'e' || at_byte(t, at) == 'E')) {
		at++;
		at = digits(t, at + (at_byte(t, at) == '+' || at_byte(t, at) == '-'));
	}
	return at;
}

static size_t string(struct span t, size_t at)
{
	if (at_byte(t, at++) != '"')
		return NOWHERE;
	while (at < t.n && t.p[at] != '"') {
		if ((unsigned char)t.p[at] < ' ')
			return NOWHERE;
		if (t.p[at] == '\\' && at_byte(t, at + 1) == 'u') {
			for (int i = 2; i < 6; i++)
				if (at_byte(t, at + (size_t)i) == '\0' || strchr("0123456789abcdefABCDEF", at_byte(t, at + (size_t)i)) == NULL)
					return NOWHERE;
			at += 6;
		} else if (t.p[at] == '\\') {
			if (at_byte(t, at + 1) == '\0' || strchr("\"\\/bfnrt", at_byte(t, at + 1)) == NULL)
				return NOWHERE;
			at += 2;
		} else {
			size_t n = utf8_character(t, at);

			if (n == 0)
				return NOWHERE;
			at += n;
		}
	}
	return at < t.n ? at + 1 : NOWHERE;
}

static size_t value(struct span t, size_t at, int depth)
{
	static const char *const words[] = {"true", "false", "null"};
	char open = at_byte(t, at = white(t, at)), shut = open == '{' ? '}' : ']';

	if (open == '"')
		return string(t, at);
	for (int i = 0; i < 3; i++)
		if (t.n - at >= strlen(words[i]) && memcmp(t.p + at, words[i], strlen(words[i])) == 0)
			return at + strlen(words[i]);
	if (open != '{' && open != '[')
		return number(t, at);
	if (depth == 0)
		return NOWHERE;
	at = white(t, at + 1);
	if (at_byte(t, at) == shut)
		return at + 1;
	for (;; at++) {
		if (open == '{') {
			at = string(t, white(t, at));
			if (at == NOWHERE || at_byte(t, at = white(t, at)) != ':')
				return NOWHERE;
			at++;
		}
		at = value(t, at, depth - 1);
		if (at == NOWHERE)
			return NOWHERE;
		at = white(t, at);
		if (at_byte(t, at) != ',')
			return at_byte(t, at) == shut ? at + 1 : NOWHERE;
	}
}

bool is_json(struct span text, int depth)
{
	size_t at = text.n == 0 ? NOWHERE : value(text, 0, depth);

	return at != NOWHERE && white(text, at) == text.n;
}

bool is_compact(struct span text)
{
	bool quoted = false;

	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] == '"')
			quoted = !quoted;
		else if (quoted && text.p[i] == '\\')
			i++;
		else if (!quoted && white(text, i) > i)
			return false;
	}
	return is_json(text, MAX_DEPTH);
}

bool is_one_line(const struct buf *error)
{
	for (size_t i = 0; i < error->len; i++)
		if ((unsigned char)error->data[i] < ' ' || error->data[i] == 0x7f)
			return false;
	return error->len > 0 && !error->failed;
}

/* Takes the text at the front of *rest, if it stands there. */
static bool skips(struct span *rest, const char *text)
{
	size_t n = strlen(text);

	if (rest->n < n || memcmp(rest->p, text, n) != 0)
		return false;
	*rest = (struct span){rest->p + n, rest->n - n};
	return true;
}

static bool skips_number(struct span *rest, int64_t *n)
{
	size_t i = 0;

	for (*n = 0; i < rest->n && i < 18 && rest->p[i] >= '0' && rest->p[i] <= '9'; i++)
		*n = *n * 10 + (rest->p[i] - '0');
	*rest = (struct span){rest->p + i, rest->n - i};
	return i > 0;
}

bool is_event_frame(struct span frame, struct event_id *id, struct span *data)
{
	int64_t n;

	if (!skips(&frame, "id: ") || !skips_number(&frame, &id->ms) || !skips(&frame, "-") || !skips_number(&frame, &n))
		return false;
	id->n = (uint32_t)n;
	if (!skips(&frame, "\ndata: ") || frame.n < 2 || frame.p[frame.n - 1] != '\n' || frame.p[frame.n - 2] != '\n')
		return false;
	*data = (struct span){frame.p, frame.n - 2};
	return memchr(data->p, '\n', data->n) == NULL && memchr(data->p, '\r', data->n) == NULL && is_json(*data,
		MAX_DEPTH + 1);
}
