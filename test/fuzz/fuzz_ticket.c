/*
 * fuzz_ticket.c - the first byte says what the rest is: a ticket as it came in; claims, or a header, a line end and
 * claims, which are then signed as Django would; bytes to be encoded; a file of keys.
 */
#include "fuzz.h"

enum { NOW = 1704110400, LEEWAY = 60 };

static struct hmac_key keys[2];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	hmac_key(&keys[0], span_of("a-key-of-thirty-two-bytes-or-more"));
	hmac_key(&keys[1], span_of("another-key-of-at-least-32-bytes-"));
	return 0;
}

/* RFC 4648 section 5, without padding. */
static void encode(struct buf *out, struct span in)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

	for (size_t i = 0; i < in.n; i += 3) {
		size_t left = in.n - i < 3 ? in.n - i : 3;
		uint32_t bits = 0;

		for (size_t k = 0; k < 3; k++)
			bits = bits << 8 | (k < left ? (uint8_t)in.p[i + k] : 0);
		for (size_t k = 0; k <= left; k++)
			buf_byte(out, letters[bits >> (18 - 6 * k) & 63]);
	}
}

/* What is decoded, and encoded again, is the same: there is one text for some bytes, and no other. */
static void check_base64url(struct span text)
{
	struct buf bytes = buf_growable(), again = buf_growable(), back = buf_growable();

	if (base64url(text, &bytes)) {
		encode(&again, buf_view(&bytes));
		check(span_same(buf_view(&again), text), "another text stands for the same");
	}
	buf_clear(&again);
	encode(&again, text);
	check(base64url(buf_view(&again), &back) && span_same(buf_view(&back), text), "not what was encoded");
	buf_free(&bytes);
	buf_free(&again);
	buf_free(&back);
}

static bool name_good(struct span name, const struct identity *who)
{
	return name.n > 0 && name.n <= MAX_NAME && is_utf8(name) && is_within(name, (struct span){who->bytes,
		sizeof who->bytes});
}

static enum refusal check_ticket(struct span text, struct identity *who)
{
	struct span ticket = exact(text);
	struct hmac_key other[2] = {keys[1], keys[0]};
	struct identity second;
	enum refusal why = ticket_read(ticket, keys, 2, NOW, LEEWAY, who), none = ticket_read(ticket, keys, 0, NOW, LEEWAY,
		&second);

	check(none != REFUSE_NONE, "let in without a key");
	check(ticket_read(ticket, other, 2, NOW, LEEWAY, &second) == why, "the order of keys matters");
	check(why == REFUSE_NONE || refusal_status(why) == 401, "%s", refusal_name(why));
	if (why == REFUSE_NONE) {
		check(name_good(who->user, who), "a user id that is none");
		check(who->sid.n == 0 || name_good(who->sid, who), "a sid that is none");
		for (int i = 0; i < who->role_count; i++)
			check(name_good(who->roles[i], who), "a role that is none");
		check(who->role_count <= MAX_ROLES && !who->text.failed, "%d roles", who->role_count);
		check(who->exp > NOW && who->nbf <= NOW + LEEWAY && who->iat <= NOW + LEEWAY && who->for_us,
			"not valid now, or not for us");
		check(who->expire_at >= 0 && who->iat_ms >= 0 && who->iat_ms < 1000, "a time that is none");
		check(ticket_read(ticket, keys, 2, who->exp, LEEWAY, &second) == REFUSE_ticket_expired, "does not expire");
	}
	exact_free(ticket);
	return why;
}

static void check_signed(struct span header, struct span claims, int key, uint64_t random)
{
	struct buf ticket = buf_growable();
	struct identity who;
	uint8_t right[32];
	enum refusal why;
	size_t at;

	encode(&ticket, header);
	buf_byte(&ticket, '.');
	encode(&ticket, claims);
	hmac_sha256(&keys[key], buf_view(&ticket), right);
	buf_byte(&ticket, '.');
	encode(&ticket, (struct span){(const char *)right, 32});
	why = check_ticket(buf_view(&ticket), &who);
	check(why != REFUSE_ticket_signature && why != REFUSE_ticket_encoding, "a good signature is not: %s",
		refusal_name(why));
	check((why == REFUSE_ticket_form) == (ticket.len > MAX_TOKEN || header.n == 0 || claims.n == 0),
		"not the form of a ticket");
	if (why == REFUSE_NONE)
		check(is_json(header, MAX_DEPTH) && is_json(claims, MAX_DEPTH), "let in, and it is not JSON");
	if (why == REFUSE_ticket_trailing)
		check(!is_json(header, MAX_DEPTH) || !is_json(claims, MAX_DEPTH), "nothing stands behind it");
	/* One other byte anywhere, and it is none. */
	at = random_below(&random, (uint32_t)ticket.len);
	ticket.data[at] = (char)(ticket.data[at] == 'A' ? 'B' : 'A');
	why = check_ticket(buf_view(&ticket), &who);
	check(why != REFUSE_NONE, "let in with another byte at %zu", at);
	check(who.user.n == 0 && who.sid.n == 0 && who.role_count == 0 && who.exp < 0, "claims of a bad signature were read");
	buf_free(&ticket);
}

static void check_keys(struct span text)
{
	static struct hmac_key read[MAX_KEYS];
	struct buf error = buf_growable();
	int count = ticket_keys_read(text, read, &error), right = 0;
	struct span rest = text;

	check(count == -1 || (count > 0 && count <= MAX_KEYS), "%d keys", count);
	check((count < 0) == (error.len > 0) && (count > 0 || is_one_line(&error)), "%.*s", (int)error.len, error.data);
	while (rest.n > 0) {
		struct span line = take_line(&rest, '\n');
		struct hmac_key key;

		line.n -= line.n > 0 && line.p[line.n - 1] == '\r';
		if (line.n == 0)
			continue;
		hmac_key(&key, line);
		if (count > 0)
			check(right < count && line.n >= 32 && memcmp(&key, &read[right], sizeof key) == 0, "not the key of line %d", right);
		right++;
	}
	check(count < 0 || count == right, "%d keys, not %d", count, right);
	buf_free(&error);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span input = {(const char *)bytes, n}, text, rest, header;
	struct identity who;
	uint32_t kind = take_upto(&input, 255);

	text = rest = exact(input);
	switch (kind % 5) {
	case 0:
		check_ticket(text, &who);
		check_base64url(text);
		break;
	case 1:
	case 2:
		check_signed(span_of("{\"alg\":\"HS256\",\"typ\":\"JWT\"}"), text, kind / 5 & 1, seed_of(text));
		break;
	case 3:
		header = take_line(&rest, '\n');
		check_signed(header, rest, kind / 5 & 1, seed_of(text));
		break;
	default:
		check_keys(text);
	}
	exact_free(text);
	return 0;
}
