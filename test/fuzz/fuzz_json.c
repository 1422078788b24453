/* fuzz_json.c - the input is a text that may be JSON. */
#include "fuzz.h"

static struct span trimmed(struct span s)
{
	while (s.n > 0 && s.p[0] != '\0' && strchr(" \t\r\n", s.p[0]) != NULL)
		s = (struct span){s.p + 1, s.n - 1};
	while (s.n > 0 && s.p[s.n - 1] != '\0' && strchr(" \t\r\n", s.p[s.n - 1]) != NULL)
		s.n--;
	return s;
}

static void check_value(struct span text)
{
	struct json j = json_begin(text), silent = json_begin(text);
	struct buf compact = buf_growable(), again = buf_growable();
	bool good = json_value(&j, &compact) && json_end(&j);
	bool same = json_value(&silent, NULL) && json_end(&silent);

	check(good == is_json(text, MAX_DEPTH), "%s at %zu: not as RFC 8259 has it", j.error != NULL ? j.error : "good", j.at);
	check(good == same && j.at == silent.at && j.error == silent.error, "another verdict without a buffer");
	check(good == (j.error == NULL) && j.at <= text.n, "an error outside of the text");
	if (good) {
		struct span tight = exact(buf_view(&compact));

		check(compact.len <= text.n && is_compact(tight) && is_utf8(tight), "not compact");
		j = json_begin(tight);
		check(json_value(&j, &again) && json_end(&j) && span_same(tight, buf_view(&again)), "compact, and once more, differ");
		exact_free(tight);
	}
	buf_free(&compact);
	buf_free(&again);
}

/* Half of a value is none; but for a number, which has no end of its own. */
static void check_cut(struct span text, uint64_t random)
{
	struct span whole = trimmed(text), part;
	struct json j;

	if (whole.n < 2 || !is_json(whole, MAX_DEPTH) || whole.p[0] == '-' || (whole.p[0] >= '0' && whole.p[0] <= '9'))
		return;
	part = exact((struct span){whole.p, 1 + random_below(&random, (uint32_t)whole.n - 1)});
	j = json_begin(part);
	check(!json_value(&j, NULL), "part of a value is one");
	exact_free(part);
}

static void check_string(struct span text)
{
	struct json j = json_begin(text);
	struct buf value = buf_growable(), written = buf_growable(), again = buf_growable(), full;
	bool good = json_string(&j, &value);
	size_t end = j.at;
	char *exactly;

	if (good) {
		check(is_json((struct span){text.p, end}, 1) && is_utf8(buf_view(&value)), "not a string");
		exactly = malloc(value.len + 1);
		full = buf_fixed(exactly, value.len);
		j = json_begin(text);
		check(json_string(&j, &full) && !full.failed && span_same(buf_view(&full), buf_view(&value)),
			"no room in as much as it needs");
		if (value.len > 0) {
			full = buf_fixed(exactly, value.len - 1);
			j = json_begin(text);
			check(json_string(&j, &full) && full.failed && j.at == end, "a buffer too small is not told");
		}
		free(exactly);
		json_write_string(&written, buf_view(&value));
		check(is_json(buf_view(&written), 1), "what is written is no string");
		j = json_begin(buf_view(&written));
		check(json_string(&j, &again) && json_end(&j) && span_same(buf_view(&again), buf_view(&value)),
			"read again it differs");
	}
	buf_free(&value);
	buf_free(&written);
	buf_free(&again);
}

/* Digits, then perhaps a point and more of them. */
static void check_number(struct span text)
{
	struct json j = json_begin(text);
	int64_t n, seconds;
	int ms = -1;
	bool whole = json_integer(&j, &n) && json_end(&j), date;
	struct span digits = trimmed(text), fraction;
	uint64_t right = 0;
	bool plain = digits.n > 0, large = false;

	fraction = digits;
	digits = take_line(&fraction, '.');
	for (size_t i = 0; i < digits.n; i++) {
		plain &= digits.p[i] >= '0' && digits.p[i] <= '9';
		large |= right > UINT64_C(1) << 56;
		right = large ? right : right * 10 + (uint64_t)(digits.p[i] - '0');
	}
	plain &= digits.n == 1 || digits.p == NULL || digits.n == 0 || digits.p[0] != '0';
	large |= right > UINT64_C(1) << 53;
	check(whole == (plain && !large && digits.n == trimmed(text).n), "not a whole number, or one: %.*s", (int)text.n,
		text.p);
	check(!whole || (uint64_t)n == right, "%lld", (long long)n);
	j = json_begin(text);
	date = json_date(&j, &seconds, &ms) && json_end(&j);
	for (size_t i = 0; i < fraction.n; i++)
		plain &= fraction.p[i] >= '0' && fraction.p[i] <= '9';
	plain &= digits.n == trimmed(text).n || fraction.n > 0;
	check(date == (plain && !large && digits.n > 0), "not a date, or one: %.*s", (int)text.n, text.p);
	if (date) {
		char three[4] = "000";

		memcpy(three, fraction.n > 0 ? fraction.p : "", fraction.n < 3 ? fraction.n : 3);
		check((uint64_t)seconds == right && ms == atoi(three), "%lld and %d ms", (long long)seconds, ms);
	}
}

/* Members one by one are those of the value in one piece. */
static void check_members(struct span text)
{
	struct json j = json_begin(text);
	char bracket = json_peek(&j), shut = bracket == '{' ? '}' : ']';
	struct buf name = buf_growable();
	bool good, half = false;

	if (bracket == '{' || bracket == '[') {
		json_open(&j, bracket);
		while (json_more(&j, shut)) {
			size_t from;

			json_peek(&j);
			from = j.at;
			buf_clear(&name);
			if (bracket == '{' && !json_key(&j, &name)) {
				half = j.error != NULL && strncmp(j.error, "half", 4) == 0 && j.at >= from; /* json_value lets it pass */
				break;
			}
			if (!json_value(&j, NULL))
				break;
		}
		good = json_end(&j);
		check(good == is_json(text, MAX_DEPTH) || half, "its members are right, and it is not, or the other way around");
	}
	buf_free(&name);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span text = exact((struct span){(const char *)bytes, n});

	check_value(text);
	check_cut(text, seed_of(text));
	check_string(text);
	check_number(text);
	check_members(text);
	exact_free(text);
	return 0;
}
