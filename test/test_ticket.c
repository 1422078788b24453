/*
 * test_ticket.c - HMAC, base64url, NumericDate, and what they are there for: tickets (RFC 7519), the
 * file of their keys, and Django's answer.
 *
 * JSON stands in the tables with ' for ", so that it can be read. Tickets are made here, with the
 * program's own HMAC; what holds that to the world are the vectors of RFC 4231 and RFC 7515, and
 * tickets that PyJWT and djangorestframework-simplejwt made.
 */
#include "vectors.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LEEWAY = 60 };
#define NOW INT64_C(1800000000) /* 2027-01-15 */
#define SECRET "correct horse battery staple, and then some"
#define OTHER_SECRET "correct horse battery staple, and then nome"

/* ---- making what is read ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* base64url without padding (RFC 4648 section 5). */
static void encode(struct buf *b, struct span in)
{
	for (size_t i = 0; i < in.n; i += 3) {
		size_t n = in.n - i < 3 ? in.n - i : 3;
		uint32_t bits = 0;

		for (size_t k = 0; k < 3; k++)
			bits = bits << 8 | (k < n ? (uint8_t)in.p[i + k] : 0);
		for (size_t k = 0; k <= n; k++)
			buf_byte(b, alphabet[bits >> (18 - 6 * k) & 63]);
	}
}

/* A text of the tables: ' becomes ". */
static void plain(struct buf *b, struct span text)
{
	for (size_t i = 0; i < text.n; i++)
		buf_byte(b, text.p[i] == '\'' ? '"' : text.p[i]);
}

static void encode_plain(struct buf *b, struct span text)
{
	struct buf json = buf_growable();

	plain(&json, text);
	encode(b, buf_view(&json));
	buf_free(&json);
}

/* Behind "header.claims": the dot, and the HMAC of all before it. */
static void sign(struct buf *b, const char *secret)
{
	struct hmac_key key;
	uint8_t mac[32];

	hmac_key(&key, span_of(secret));
	hmac_sha256(&key, buf_view(b), mac);
	buf_byte(b, '.');
	encode(b, (struct span){(const char *)mac, sizeof mac});
}

static struct buf ticket_signed(const char *secret, struct span header, struct span claims)
{
	struct buf b = buf_growable();

	encode_plain(&b, header);
	buf_byte(&b, '.');
	encode_plain(&b, claims);
	sign(&b, secret);
	return b;
}

static struct identity who; /* what the ticket or the answer that was read last says */

/* Reads a ticket in a block of just its size. */
static enum refusal reads_at(struct span ticket, int64_t now_s, int64_t leeway_s)
{
	struct span copy = exact(ticket);
	struct hmac_key key;
	enum refusal why;

	hmac_key(&key, span_of(SECRET));
	memset(&who, 0xa5, sizeof who);
	why = ticket_read(copy, &key, 1, now_s, leeway_s, &who);
	exact_free(copy);
	return why;
}

static enum refusal reads(struct span ticket)
{
	return reads_at(ticket, NOW, LEEWAY);
}

/* Of a ticket with this header and these claims, signed well. */
static enum refusal judges(struct span header, struct span claims)
{
	struct buf ticket = ticket_signed(SECRET, header, claims);
	enum refusal why = reads(buf_view(&ticket));

	buf_free(&ticket);
	return why;
}

static const char *name_of(enum refusal why)
{
	return why == REFUSE_NONE ? "accepted" : refusal_name(why);
}

#define HEADER "{'alg':'HS256'}"
#define CLAIMS(more) "{'sub':'7','aud':'sse','exp':1800000001" more "}"
#define HEADER_SPAN ((struct span)BYTES(HEADER))
#define CLAIMS_SPAN ((struct span)BYTES(CLAIMS("")))

/* Everything that was read: "7 roles=a|b sid=s expire_at=0 exp=5 nbf=-1 iat=-1". */
static const char *shown(void)
{
	static char text[8192];
	struct buf b = buf_fixed(text, sizeof text - 1);

	buf_span(&b, who.user);
	buf_text(&b, " roles=");
	for (int i = 0; i < who.role_count; i++) {
		buf_text(&b, i > 0 ? "|" : "");
		buf_span(&b, who.roles[i]);
	}
	buf_text(&b, " sid=");
	buf_span(&b, who.sid);
	buf_text(&b, " expire_at=");
	buf_number(&b, who.expire_at);
	buf_text(&b, " exp=");
	buf_number(&b, who.exp);
	buf_text(&b, " nbf=");
	buf_number(&b, who.nbf);
	buf_text(&b, " iat=");
	buf_number(&b, who.iat);
	text[b.len] = '\0';
	return text;
}

/* Nothing was read. */
static bool untouched(void)
{
	return strcmp(shown(), " roles= sid= expire_at=0 exp=-1 nbf=-1 iat=-1") == 0
		&& !who.has_audience && !who.for_us && who.text.len == 0;
}

static bool inside(struct span s)
{
	return s.n <= MAX_NAME && (s.n == 0 || (s.p >= who.bytes && s.p + s.n <= who.bytes + sizeof who.bytes));
}

/* What was accepted is as large as it may be, and stands where it belongs. */
static bool is_sound(void)
{
	bool sound = who.user.n > 0 && inside(who.user) && inside(who.sid) && !who.text.failed
		&& who.role_count >= 0 && who.role_count <= MAX_ROLES && who.expire_at >= 0;

	for (int i = 0; sound && i < who.role_count; i++)
		sound = who.roles[i].n > 0 && inside(who.roles[i]);
	return sound;
}

/* ---- HMAC-SHA-256 ---- */

static void hmac_of(struct span secret, struct span in, char text[65])
{
	struct span secret_copy = exact(secret), copy = exact(in);
	struct hmac_key key;
	uint8_t mac[32];

	memset(&key, 0xa5, sizeof key);
	hmac_key(&key, secret_copy);
	exact_free(secret_copy);
	hmac_sha256(&key, copy, mac);
	exact_free(copy);
	for (size_t i = 0; i < sizeof mac; i++)
		snprintf(text + 2 * i, 3, "%02x", mac[i]);
}

#define X10(text) text text text text text text text text text text
#define X20(text) X10(text) X10(text)
#define X50(text) X20(text) X20(text) X10(text)
#define AA_131 X50("\xaa") X50("\xaa") X20("\xaa") X10("\xaa") "\xaa"

Test(ticket, hmac_of_rfc_4231)
{
	static const struct {
		const char *name;
		struct span key, data;
		const char *mac;
	} rows[] = {
		{"case 1", BYTES(X20("\x0b")), BYTES("Hi There"),
			"b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{"case 2, a short key", BYTES("Jefe"), BYTES("what do ya want for nothing?"),
			"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{"case 3, 50 bytes of data", BYTES(X20("\xaa")), BYTES(X50("\xdd")),
			"773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
		{"case 4, a key of 25 bytes", BYTES("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"
			"\x11\x12\x13\x14\x15\x16\x17\x18\x19"), BYTES(X50("\xcd")),
			"82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
		{"case 5, which has the first 16 bytes only", BYTES(X20("\x0c")), BYTES("Test With Truncation"),
			"a3b6167473100ee06e0c796c2955552b"},
		{"case 6, a key of 131 bytes", BYTES(AA_131), BYTES("Test Using Larger Than Block-Size Key - Hash Key First"),
			"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
		{"case 7, a key of 131 bytes and 152 of data", BYTES(AA_131), BYTES("This is a test using a larger than "
			"block-size key and a larger than block-size data. The key needs to be hashed before being used by "
			"the HMAC algorithm."), "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
	};
	char mac[65];

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		hmac_of(rows[i].key, rows[i].data, mac);
		cr_expect(memcmp(mac, rows[i].mac, strlen(rows[i].mac)) == 0, "%s: %s", rows[i].name, mac);
	}
}

/* The bytes 0, 1, 2, ... as key: by Python's hmac. */
Test(ticket, hmac_of_keys_at_the_border_of_a_block)
{
	static const struct {
		size_t n;
		const char *mac;
	} rows[] = {
		{0, "76d9e7194e7dbc3aa00bbe8ffb9f6fcb5a932170f971f948bb2ab61607d2b9d6"},
		{31, "d51cce65cff996bf04eb7cdda4e717fa7f23d3bab1006ba9382e86a1ed6598d5"},
		{32, "099805f4ac310786968565c098db515cc50862b420ae31e20238312344bed36a"},
		{63, "029f327b3c5f4b59bcd1d5cd77bafa863c866f4e9c890b9540a8dfb3fcef5b50"},
		{64, "5431cc41830bee7889a6b5d04b33877387ea9b8170759f4dca4323cfb5725508"},
		{65, "b8510ec6c86f16d7c86061bd02266a93ffa7add59683bd03dc645ba1f238c38c"},
		{131, "69d9292d5a0eaaf5bdfb72a8b819482dac82c5047a00f4cca1198ebcc039a6ee"},
		{200, "d7143957b4f6c1a06603ab4a29e40e564ed4027c94da4b719e4bce4da4ae02c8"},
	};
	char bytes[256], mac[65];

	for (int i = 0; i < 256; i++)
		bytes[i] = (char)i;
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		hmac_of((struct span){bytes, rows[i].n}, span_of("what do ya want for nothing?"), mac);
		cr_expect_str_eq(mac, rows[i].mac, "%zu bytes: %s", rows[i].n, mac);
	}
	hmac_of((struct span){NULL, 0}, span_of("what do ya want for nothing?"), mac);
	cr_expect_str_eq(mac, rows[0].mac, "no key: %s", mac);
	hmac_of(span_of("k"), span_of("what do ya want for nothing?"), mac);
	cr_expect_str_eq(mac, "96be90616604b74898cd456b0f019825be346f395d7275881b51a82399cda671", "one letter: %s", mac);
}

/* One digest of the MACs of all lengths 0 .. 130, of key and data alike, by Python's hmac. */
Test(ticket, hmac_of_every_length_to_130)
{
	static const uint8_t right[32] = {0xc9, 0xa1, 0x8c, 0xb1, 0xf7, 0x87, 0x5e, 0x48, 0x29, 0xa0, 0x19, 0xb8, 0xf7,
		0xb3, 0x87, 0x1c, 0xbe, 0x6e, 0x04, 0x7b, 0xed, 0x60, 0x66, 0x03, 0x13, 0xa2, 0x8b, 0x61, 0xa3, 0x31, 0x5b, 0x2f};
	uint8_t all[131][32], digest[32];
	char bytes[131];

	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (char)i;
	for (size_t n = 0; n <= 130; n++) {
		struct span copy = exact((struct span){bytes, n});
		struct hmac_key key;

		hmac_key(&key, copy);
		hmac_sha256(&key, copy, all[n]);
		exact_free(copy);
	}
	sha256((struct span){(const char *)all, sizeof all}, digest);
	cr_expect_arr_eq(digest, right, sizeof digest);
}

Test(ticket, a_key_made_ready_serves_again_and_again)
{
	struct hmac_key key;
	uint8_t first[32], between[32], again[32];

	hmac_key(&key, span_of(SECRET));
	hmac_sha256(&key, span_of("one"), first);
	hmac_sha256(&key, span_of("two"), between);
	hmac_sha256(&key, span_of("one"), again);
	cr_expect_arr_eq(first, again, sizeof first);
	cr_expect_arr_neq(first, between, sizeof first);
}

/* ---- comparison ---- */

Test(ticket, A12_secrets_that_differ_in_one_bit_are_not_the_same)
{
	uint8_t a[32], b[32];

	for (size_t i = 0; i < sizeof a; i++)
		a[i] = (uint8_t)(i * 37);
	memcpy(b, a, sizeof b);
	cr_assert(same_secret(a, b));
	cr_assert(same_secret(a, a));
	for (int bit = 0; bit < 256; bit++) {
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_expect_not(same_secret(a, b), "bit %d", bit);
		cr_expect_not(same_secret(b, a), "bit %d", bit);
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	cr_assert(same_secret(a, b));
}

/* Two differences must not make one good, wherever they are. */
Test(ticket, A12_secrets_that_differ_in_two_bytes_are_not_the_same)
{
	static const uint8_t zeros[32];
	uint8_t b[32] = {0};

	for (size_t i = 0; i < 32; i++)
		for (size_t k = 0; k < i; k++) {
			b[i] = b[k] = 0x5a;
			cr_expect_not(same_secret(zeros, b), "bytes %zu and %zu", k, i);
			b[i] = b[k] = 0;
		}
}

static sigjmp_buf fault;

static void on_fault(int signal)
{
	(void)signal;
	siglongjmp(fault, 1);
}

/* Time can't be measured here, but this can: the last byte is looked at though the first differs. It
 * stands on a page that can't be read. */
Test(ticket, A12_secrets_are_compared_to_the_end)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct sigaction action = {.sa_handler = on_fault};
	static const uint8_t zeros[32];
	uint8_t *cut;

	cr_assert(pages != MAP_FAILED);
	cr_assert_eq(mprotect(pages + page, page, PROT_NONE), 0);
	memset(pages, 0xff, page);
	cut = (uint8_t *)pages + page - 31;
	sigaction(SIGSEGV, &action, NULL);
	for (volatile int second = 0; second < 2; second++)
		if (sigsetjmp(fault, 1) == 0) {
			bool same = second ? same_secret(zeros, cut) : same_secret(cut, zeros);

			cr_expect(false, "byte 31 was not looked at: %d", same);
		}
	munmap(pages, 2 * page);
}

/* ---- base64url ---- */

/* Decodes an exactly sized copy into an exactly sized block of cap bytes; *n is what stands there. */
static bool decodes(struct span in, char *out, size_t cap, size_t *n)
{
	struct span copy = exact(in);
	char *block = malloc(cap > 0 ? cap : 1);
	struct buf b = buf_fixed(block, cap);
	bool good;

	cr_assert_not_null(block);
	good = base64url(copy, &b);
	cr_assert(b.len <= cap);
	memcpy(out, block, b.len);
	*n = b.len;
	free(block);
	exact_free(copy);
	return good;
}

Test(ticket, base64url_of_rfc_4648)
{
	static const struct {
		struct span text, bytes;
	} rows[] = {
		{BYTES(""), BYTES("")},
		{BYTES("Zg"), BYTES("f")},
		{BYTES("Zm8"), BYTES("fo")},
		{BYTES("Zm9v"), BYTES("foo")},
		{BYTES("Zm9vYg"), BYTES("foob")},
		{BYTES("Zm9vYmE"), BYTES("fooba")},
		{BYTES("Zm9vYmFy"), BYTES("foobar")},
		{BYTES("AAAA"), BYTES("\0\0\0")},
		{BYTES("AA"), BYTES("\0")},
		{BYTES("____"), BYTES("\xff\xff\xff")},
		{BYTES("_w"), BYTES("\xff")},
		{BYTES("__8"), BYTES("\xff\xff")},
		{BYTES("-_-_"), BYTES("\xfb\xff\xbf")},
		{BYTES("FPucA9l-"), BYTES("\x14\xfb\x9c\x03\xd9\x7e")}, /* section 9 */
		{BYTES("FPucA9k"), BYTES("\x14\xfb\x9c\x03\xd9")},
		{BYTES("FPucAw"), BYTES("\x14\xfb\x9c\x03")},
		{BYTES("AyM1SysPpbyDfgZld3umj1qzKObwVMko"), /* RFC 7515 A.1, its first bytes */
			BYTES("\x03\x23\x35\x4b\x2b\x0f\xa5\xbc\x83\x7e\x06\x65\x77\x7b\xa6\x8f\x5a\xb3\x28\xe6\xf0\x54\xc9\x28")},
	};
	char out[64];
	size_t n;

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		cr_expect(decodes(rows[i].text, out, sizeof out, &n), "%s", rows[i].text.p);
		cr_expect(span_same((struct span){out, n}, rows[i].bytes), "%s", rows[i].text.p);
	}
	cr_expect(decodes((struct span){NULL, 0}, out, 0, &n) && n == 0);
}

Test(ticket, A5_base64url_that_is_not_strict_is_refused)
{
	static const struct {
		const char *name;
		struct span text;
	} rows[] = {
		{"one letter", BYTES("A")},
		{"five letters", BYTES("AAAAA")},
		{"five letters, not zero", BYTES("Zm9vY")},
		{"nine letters", BYTES("AAAAAAAAA")},
		{"unused bits, one byte", BYTES("Zh")},
		{"unused bits, the highest of four", BYTES("Zo")},
		{"unused bits, two bytes", BYTES("Zm9")},
		{"unused bits, the higher of two", BYTES("Zm-")},
		{"unused bits behind four letters", BYTES("Zm9vZh")},
		{"padding, two", BYTES("Zg==")},
		{"padding, one", BYTES("Zm8=")},
		{"padding, one of two", BYTES("Zg=")},
		{"padding behind whole letters", BYTES("Zm9v=")},
		{"padding, three", BYTES("Zm9vY===")},
		{"padding, four", BYTES("Zm9v====")},
		{"padding within", BYTES("Zg==Zg==")},
		{"padding alone", BYTES("=")},
		{"the + of base64", BYTES("Zm+v")},
		{"the / of base64", BYTES("Zm/v")},
		{"a space before", BYTES(" Zm9v")},
		{"a space behind", BYTES("Zm9v ")},
		{"a space within", BYTES("Zm 9v")},
		{"a newline behind", BYTES("Zm9v\n")},
		{"a newline within", BYTES("Zm9v\nZm9v")},
		{"CR LF within", BYTES("Zm9v\r\nZm9v")},
		{"a tab within", BYTES("Zm\t9v")},
		{"#", BYTES("Zm9#")},
		{"?", BYTES("Zm9?")},
		{"%", BYTES("Zm%39")},
		{"a dot", BYTES("Zm9v.Zm9v")},
		{"a NUL behind", BYTES("Zm9v\0")},
		{"a NUL within", BYTES("Zm\0v")},
		{"UTF-8", BYTES("Zm9\xc3\xa9")},
	};
	char out[64];
	size_t n;

	for (size_t i = 0; i < COUNT_OF(rows); i++)
		cr_expect_not(decodes(rows[i].text, out, sizeof out, &n), "%s", rows[i].name);
}

static int digit_of(int c)
{
	const char *found = c == 0 ? NULL : memchr(alphabet, c, 64);

	return found == NULL ? -1 : (int)(found - alphabet);
}

/* Every byte at every place, before it and behind it what stands for zeros. */
Test(ticket, base64url_knows_64_bytes)
{
	char out[8];
	size_t n;

	for (size_t length = 2; length <= 8; length++)
		for (size_t place = 0; place < length && length % 4 != 1; place++)
			for (int c = 0; c < 256; c++) {
				char text[8] = "AAAAAAAA";
				int digit = digit_of(c), unused = place < length - 1 || length % 4 == 0 ? 0 : length % 4 == 2 ? 15 : 3;
				bool right = digit >= 0 && (digit & unused) == 0;

				text[place] = (char)c;
				cr_expect_eq(decodes((struct span){text, length}, out, sizeof out, &n), right, "byte %d at %zu of %zu",
					c, place, length);
				if (!right)
					continue;
				cr_expect_eq(n, length * 3 / 4);
				for (size_t bit = 0; bit < n * 8; bit++)
					cr_expect_eq((unsigned char)out[bit / 8] >> (7 - bit % 8) & 1,
						bit / 6 == place ? digit >> (5 - bit % 6) & 1 : 0, "byte %d at %zu of %zu, bit %zu", c, place,
						length, bit);
			}
}

Test(ticket, base64url_of_every_two_bytes)
{
	char out[2];
	size_t n;

	for (int a = 0; a < 256; a++)
		for (int b = 0; b < 256; b++) {
			char text[2] = {(char)a, (char)b};
			bool right = digit_of(a) >= 0 && digit_of(b) >= 0 && digit_of(b) % 16 == 0;

			cr_expect_eq(decodes((struct span){text, 2}, out, 2, &n), right, "%d %d", a, b);
			cr_expect(!right || (unsigned char)out[0] == digit_of(a) * 4 + digit_of(b) / 16, "%d %d", a, b);
		}
}

Test(ticket, base64url_of_every_length_comes_back_if_it_fits)
{
	uint64_t state = 1;
	char bytes[100], out[100];
	size_t n;

	for (size_t length = 0; length < sizeof bytes; length++) {
		struct buf text = buf_growable();

		for (size_t i = 0; i < length; i++)
			bytes[i] = (char)random_below(&state, 256);
		encode(&text, (struct span){bytes, length});
		cr_expect(decodes(buf_view(&text), out, length, &n), "%zu bytes", length);
		cr_expect(span_same((struct span){out, n}, (struct span){bytes, length}), "%zu bytes", length);
		for (size_t cap = 0; cap < length; cap++)
			cr_expect_not(decodes(buf_view(&text), out, cap, &n), "%zu bytes into %zu", length, cap);
		buf_free(&text);
	}
}

Test(ticket, base64url_is_appended_behind_what_is_there)
{
	char bytes[6];
	struct buf b = buf_fixed(bytes, sizeof bytes);

	buf_text(&b, "abc");
	cr_expect(base64url(span_of("Zm9v"), &b) && span_is(buf_view(&b), "abcfoo"));
	cr_expect_not(base64url(span_of("Zg"), &b));
	cr_expect_not(base64url(span_of(""), &b), "the buffer failed before");
}

/* ---- NumericDate ---- */

Test(ticket, a_date_is_seconds)
{
	static const struct {
		const char *text;
		int64_t value;
	} rows[] = {
		{"0", 0}, {"7", 7}, {" \t\r\n42 ", 42}, {"1800000000", NOW}, {"1800000000.0", NOW}, {"1800000000.999999", NOW},
		{"0.0", 0}, {"0.5", 0}, {"1.5", 1}, {"10.00", 10}, {"2147483648", INT64_C(2147483648)},
		{"4294967296.25", INT64_C(4294967296)}, {"9007199254740991", INT64_C(9007199254740991)},
		{"9007199254740992", INT64_C(9007199254740992)}, {"9007199254740991.9", INT64_C(9007199254740991)},
		{"1.00000000000000000000000000000000000000001", 1}, {"1.99999999999999999999999999999999999999999", 1},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct span copy = exact(span_of(rows[i].text));
		struct json j = json_begin(copy);
		int64_t s = -7;

		cr_expect(json_date(&j, &s, NULL) && json_end(&j), "%s: %s", rows[i].text, j.error);
		cr_expect_eq(s, rows[i].value, "%s: %lld", rows[i].text, (long long)s);
		exact_free(copy);
	}
}

Test(ticket, a_date_has_milliseconds)
{
	static const struct {
		const char *text;
		int ms;
	} rows[] = {{"1800000000", 0}, {"1800000000.0", 0}, {"1800000000.5", 500}, {"0.05", 50}, {"0.007", 7}, {"0.999", 999},
		{"0.9999", 999}, {"0.0009", 0}, {"1.123456789012345678901234567890", 123}, {"9007199254740991.25", 250}};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct json j = json_begin(span_of(rows[i].text));
		int64_t s;
		int ms = -7;

		cr_expect(json_date(&j, &s, &ms) && ms == rows[i].ms, "%s: %d", rows[i].text, ms);
	}
}

Test(ticket, A8_what_is_no_date_is_rejected)
{
	static const char seconds[] = "expected seconds since 1970", digit[] = "expected a digit",
		end[] = "expected the end of the line";
	static const struct {
		const char *name, *text;
		size_t at;
		const char *error;
	} rows[] = {
		{"2^53 + 1", "9007199254740993", 0, seconds},
		{"2^53 + 1 and a fraction", "9007199254740993.0", 0, seconds},
		{"2^63 - 1", "9223372036854775807", 0, seconds},
		{"2^63", "9223372036854775808", 0, seconds},
		{"2^64", "18446744073709551616", 0, seconds},
		{"2^64 + 1800000000", "18446744075509551616", 0, seconds},
		{"forty digits", "1000000000000000000000000000000000000000", 0, seconds},
		{"forty digits and a fraction", " 1000000000000000000000000000000000000000.5", 1, seconds},
		{"1e30", "1e30", 0, seconds},
		{"1e3", "1e3", 0, seconds},
		{"1E3", "1E3", 0, seconds},
		{"1e0", "1e0", 0, seconds},
		{"0e0", "0e0", 0, seconds},
		{"1e+3", "1e+3", 0, seconds},
		{"1e-3", "1e-3", 0, seconds},
		{"1.5e3", "1.5e3", 0, seconds},
		{"1.8e9", "  1.8e9", 2, seconds},
		{"1.8E+9", "1.8E+9", 0, seconds},
		{"1.5e-3", "1.5e-3", 0, seconds},
		{"-1", "-1", 0, seconds},
		{"-0", "-0", 0, seconds},
		{"-0.5", "-0.5", 0, seconds},
		{"-1800000000", "-1800000000", 0, seconds},
		{"a string", "\"1800000000\"", 0, seconds},
		{"an empty string", "\"\"", 0, seconds},
		{"null", "null", 0, seconds},
		{"true", " true", 1, seconds},
		{"an array", "[1800000000]", 0, seconds},
		{"an object", "{}", 0, seconds},
		{"nothing", "", 0, seconds},
		{"spaces", "  ", 2, seconds},
		{"NaN", "NaN", 0, seconds},
		{"Infinity", "Infinity", 0, seconds},
		{"+1", "+1", 0, seconds},
		{".5", ".5", 0, seconds},
		{"1.", "1.", 2, digit},
		{"1.e3", "1.e3", 2, digit},
		{"1.5e", "1.5e", 4, digit},
		{"1e", "1e", 2, digit},
		{"-", "-", 1, digit},
		{"1.-5", "1.-5", 2, digit},
		{"a leading zero", "01", 1, end},
		{"leading zeros and a fraction", "00.5", 1, end},
		{"two fractions", "1.5.5", 3, end},
		{"a thousands separator", "1_000", 1, end},
		{"hexadecimal", "0x10", 1, end},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct span copy = exact(span_of(rows[i].text));
		struct json j = json_begin(copy);
		int64_t s;

		cr_expect_not(json_date(&j, &s, NULL) && json_end(&j), "%s: was taken", rows[i].name);
		cr_assert_not_null(j.error, "%s", rows[i].name);
		cr_expect_str_eq(j.error, rows[i].error, "%s: %s", rows[i].name, j.error);
		cr_expect_eq(j.at, rows[i].at, "%s: found at %zu, expected %zu", rows[i].name, j.at, rows[i].at);
		exact_free(copy);
	}
}

Test(ticket, a_date_ends_where_its_number_ends)
{
	struct json j = json_begin(span_of("[1.5,2 ,\"x\"]"));
	int64_t s;

	json_open(&j, '[');
	cr_expect(json_more(&j, ']') && json_date(&j, &s, NULL) && s == 1);
	cr_expect(json_more(&j, ']') && json_date(&j, &s, NULL) && s == 2);
	cr_expect(json_more(&j, ']') && !json_date(&j, &s, NULL) && j.at == 8);
	cr_expect_not(json_date(&j, &s, NULL), "the first mistake stays");
	cr_expect(j.at == 8);
}

/* ---- tickets that others made ---- */

/*
 * PyJWT 2.15.1: jwt.encode(claims, SECRET, algorithm="HS256"). simplejwt 5.5.1 (Django 5.2) with SIMPLE_JWT =
 * {"SIGNING_KEY": SECRET, "AUDIENCE": "sse", "USER_ID_CLAIM": "sub"}: AccessToken.for_user(user), set_iat,
 * set_exp, token["roles"] = [...], str(token).
 */
#define PYJWT "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI1NiIsInJvbGVzIjpbIm1hbmFnZXIiXSwiYXVkIjoic3NlIiwiZXhw" \
	"Ijo0MTAyNDQ0ODAwfQ.PFnjgRtWQu1Ql-USAxz5xdFEU2EQdfXVlLT0d_jSn5E"

Test(ticket, a_ticket_of_pyjwt_or_simplejwt_is_accepted)
{
	static const struct {
		const char *name, *ticket, *shown;
	} rows[] = {
		{"PyJWT", PYJWT, "56 roles=manager sid= expire_at=0 exp=4102444800 nbf=-1 iat=-1"},
		{"PyJWT, every claim, exp and iat with fractions, aud an array, a kid",
			"eyJhbGciOiJIUzI1NiIsImtpZCI6Ii4uLy4uL2V0Yy9wYXNzd2QiLCJ0eXAiOiJKV1QifQ."
			"eyJpc3MiOiJodHRwczovL2V4YW1wbGUub3JnIiwic3ViIjoiXHUwNDM4XHUwNDMyXHUwNDMwXHUwNDNkIiwiYXVkIjpbImFwaSIsInNz"
			"ZSJdLCJleHAiOjQxMDI0NDQ4MDAuMjUsIm5iZiI6MTc2NzIyNTYwMCwiaWF0IjoxNzY3MjI1NjAwLjEyNSwianRpIjoiYTEiLCJyb2xl"
			"cyI6WyJtYW5hZ2VyIiwiZm9yZW1hbiJdLCJzaWQiOiJzLTciLCJleHBpcmVfYXQiOjQwMDAwMDAwMDB9."
			"nfd9G4h_3fr7l6_J7IFAzX4zoaF52T_3Dknp9lDe_A4",
			"\xd0\xb8\xd0\xb2\xd0\xb0\xd0\xbd roles=manager|foreman sid=s-7 expire_at=4000000000 exp=4102444800 "
			"nbf=1767225600 iat=1767225600"},
		{"PyJWT, sub is a number", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
			"eyJzdWIiOjU2LCJhdWQiOiJzc2UiLCJleHAiOjQxMDI0NDQ4MDB9.DIe9wuGwZ0hh2OwFqsAMEvUXDAdu2Fa2tlHDQ2mSH_E",
			"56 roles= sid= expire_at=0 exp=4102444800 nbf=-1 iat=-1"},
		{"simplejwt", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
			"eyJ0b2tlbl90eXBlIjoiYWNjZXNzIiwiZXhwIjo0MTAyNDQ0ODAwLCJpYXQiOjE3NjcyMjU2MDAsImp0aSI6IjMwZjY0Yzk0NWEwNjQ3"
			"MzZhOTNjOTM5MmEwMTFjZWY1Iiwic3ViIjoiNTYiLCJyb2xlcyI6WyJtYW5hZ2VyIiwiZm9yZW1hbiJdLCJhdWQiOiJzc2UifQ."
			"S8nB4X6waJrMbzt5ZNoGb6pJ5N-MKo6LDnZ8-f9T4K4",
			"56 roles=manager|foreman sid= expire_at=0 exp=4102444800 nbf=-1 iat=1767225600"},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		enum refusal why = reads(span_of(rows[i].ticket));

		cr_expect_eq(why, REFUSE_NONE, "%s: %s", rows[i].name, name_of(why));
		cr_expect_str_eq(shown(), rows[i].shown, "%s: %s", rows[i].name, shown());
		cr_expect(is_sound(), "%s", rows[i].name);
	}
}

Test(ticket, A1_A2_A8_a_ticket_of_pyjwt_or_simplejwt_that_does_not_fit_is_refused)
{
	static const struct {
		const char *name, *ticket;
		enum refusal why;
	} rows[] = {
		{"PyJWT, HS384", "eyJhbGciOiJIUzM4NCIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI1NiIsImF1ZCI6InNzZSIsImV4cCI6NDEwMjQ0NDgwMH0."
			"Yf403mGdL45Wv4P1_wxdme-wiv4cBVhmIfOZBNrX55Chlpde00ufhvLab80mCmUk", REFUSE_ticket_algorithm},
		{"PyJWT, HS512", "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI1NiIsImF1ZCI6InNzZSIsImV4cCI6NDEwMjQ0NDgwMH0."
			"YYly9h4ZgOwaEz-UA2Z6vf5lvxLQMzcm5JeIMZ-ELaR4uUYsUo85KwvEWX5r6OP2waAjRP4ROOOM5SbDSYn9Qw",
			REFUSE_ticket_algorithm},
		{"PyJWT, none: its third part is empty", "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0."
			"eyJzdWIiOiI1NiIsImF1ZCI6InNzZSIsImV4cCI6NDEwMjQ0NDgwMH0.", REFUSE_ticket_form},
		{"PyJWT, exp has passed", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
			"eyJzdWIiOiI1NiIsImF1ZCI6InNzZSIsImV4cCI6MTcwMDAwMDAwMH0.3CetEHxhdJOQqrxRo5Rv5kz7z9B3TJOEJ89_5cmSNXs",
			REFUSE_ticket_expired},
		{"simplejwt as it comes: user_id, and no aud", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
			"eyJ0b2tlbl90eXBlIjoiYWNjZXNzIiwiZXhwIjo0MTAyNDQ0ODAwLCJpYXQiOjE3NjcyMjU2MDAsImp0aSI6IjI0YWQzNzkwZDVkOTQ5"
			"MzQ4N2YxYTYxY2YxMDgxMTQ0IiwidXNlcl9pZCI6IjU2In0.QHYe7aCYhPSje5vpVDAab1SDO2l2OJYeXLX2uFLgjRA",
			REFUSE_ticket_no_subject},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		enum refusal why = reads(span_of(rows[i].ticket));

		cr_expect_eq(why, rows[i].why, "%s: %s", rows[i].name, name_of(why));
	}
}

/* It has no sub: so its signature was found right, and its header, with CR LF in it, taken. */
Test(ticket, the_example_of_rfc_7515_is_signed_well)
{
	static const char ticket[] = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
		"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
		"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
	char bytes[64];
	struct buf secret = buf_fixed(bytes, sizeof bytes);
	struct hmac_key key;

	cr_assert(base64url(span_of("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"),
		&secret));
	hmac_key(&key, buf_view(&secret));
	cr_expect_eq(ticket_read(span_of(ticket), &key, 1, 1300819379, 0, &who), REFUSE_ticket_no_subject);
	cr_expect_eq(who.exp, 1300819380);
	cr_expect_eq(reads(span_of(ticket)), REFUSE_ticket_signature);
}

/* ---- header and claims, signed well ---- */

struct row {
	const char *name;
	struct span text;
	enum refusal why;
};

#define ACCEPT REFUSE_NONE
#define NEST_31 "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"

static const struct row headers[] = {
	{"alg", BYTES(HEADER), ACCEPT},
	{"alg and typ", BYTES("{'typ':'JWT','alg':'HS256'}"), ACCEPT},
	{"A6 white space", BYTES(" \t\r\n{ 'typ' : 'JWT' ,\r\n 'alg'\t:\n'HS256' } \r\n\t "), ACCEPT},
	{"alg written with escapes", BYTES("{'\\u0061l\\u0067':'\\u0048S25\\u0036'}"), ACCEPT},
	{"A16 what decides nothing", BYTES("{'kid':'../../etc/passwd','jku':'http://a/','jwk':{'k':'AA'},'x5u':null,"
		"'cty':'JWT','zip':'DEF','alg':'HS256','x':[1,2.5e3,true]}"), ACCEPT},
	{"names that only look like crit", BYTES("{'Crit':[],'crit ':[],'crit\\u0000':[],'alg':'HS256'}"), ACCEPT},
	{"names that only look like alg", BYTES("{'Alg':'none','alg\\u0000':'none','al':'none','algo':'none','alg':'HS256'}"),
		ACCEPT},
	{"crit within another member", BYTES("{'x':{'crit':[]},'alg':'HS256'}"), ACCEPT},
	{"nested 32 deep", BYTES("{'x':" NEST_31 ",'alg':'HS256'}"), ACCEPT},

	/* A1 */
	{"alg none", BYTES("{'alg':'none'}"), REFUSE_ticket_algorithm},
	{"alg None", BYTES("{'alg':'None'}"), REFUSE_ticket_algorithm},
	{"alg nOnE", BYTES("{'alg':'nOnE'}"), REFUSE_ticket_algorithm},
	{"alg is not there", BYTES("{}"), REFUSE_ticket_algorithm},
	{"alg is not there, but typ", BYTES("{'typ':'JWT'}"), REFUSE_ticket_algorithm},
	{"alg is not there, but Alg", BYTES("{'Alg':'HS256'}"), REFUSE_ticket_algorithm},
	{"alg only within another member", BYTES("{'x':{'alg':'HS256'}}"), REFUSE_ticket_algorithm},
	{"alg a number", BYTES("{'alg':256}"), REFUSE_ticket_algorithm},
	{"alg an array", BYTES("{'alg':['HS256']}"), REFUSE_ticket_algorithm},
	{"alg an object", BYTES("{'alg':{'HS256':'HS256'}}"), REFUSE_ticket_algorithm},
	{"alg null", BYTES("{'alg':null}"), REFUSE_ticket_algorithm},
	{"alg true", BYTES("{'alg':true}"), REFUSE_ticket_algorithm},
	{"alg HS256 and a NUL", BYTES("{'alg':'HS256\\u0000'}"), REFUSE_ticket_algorithm},
	{"alg HS256, a NUL and more", BYTES("{'alg':'HS256\\u0000none'}"), REFUSE_ticket_algorithm},
	{"alg HS256 behind a space", BYTES("{'alg':' HS256'}"), REFUSE_ticket_algorithm},
	{"alg HS256 before a space", BYTES("{'alg':'HS256 '}"), REFUSE_ticket_algorithm},
	{"alg hs256", BYTES("{'alg':'hs256'}"), REFUSE_ticket_algorithm},
	{"alg HS25", BYTES("{'alg':'HS25'}"), REFUSE_ticket_algorithm},
	{"alg HS2567", BYTES("{'alg':'HS2567'}"), REFUSE_ticket_algorithm},
	{"alg empty", BYTES("{'alg':''}"), REFUSE_ticket_algorithm},
	{"alg long", BYTES("{'alg':'HS256HS256HS256HS256HS256HS256'}"), REFUSE_ticket_algorithm},
	{"alg half a surrogate pair", BYTES("{'alg':'\\ud800'}"), REFUSE_ticket_algorithm},

	/* A2: the MAC is that of HS256, and right */
	{"alg HS384", BYTES("{'alg':'HS384'}"), REFUSE_ticket_algorithm},
	{"alg HS512", BYTES("{'alg':'HS512'}"), REFUSE_ticket_algorithm},
	{"alg RS256", BYTES("{'alg':'RS256'}"), REFUSE_ticket_algorithm},
	{"alg ES256", BYTES("{'alg':'ES256'}"), REFUSE_ticket_algorithm},
	{"alg PS256", BYTES("{'alg':'PS256'}"), REFUSE_ticket_algorithm},
	{"alg HS256, then typ HS384", BYTES("{'alg':'HS384','typ':'HS256'}"), REFUSE_ticket_algorithm},

	/* A3 */
	{"crit", BYTES("{'alg':'HS256','crit':['exp']}"), REFUSE_ticket_critical},
	{"crit before alg", BYTES("{'crit':['x'],'x':1,'alg':'HS256'}"), REFUSE_ticket_critical},
	{"crit of RFC 7797", BYTES("{'alg':'HS256','b64':false,'crit':['b64']}"), REFUSE_ticket_critical},
	{"crit empty", BYTES("{'alg':'HS256','crit':[]}"), REFUSE_ticket_critical},
	{"crit null", BYTES("{'alg':'HS256','crit':null}"), REFUSE_ticket_critical},
	{"crit written with escapes", BYTES("{'alg':'HS256','\\u0063ri\\u0074':['x']}"), REFUSE_ticket_critical},

	/* A7 */
	{"alg twice", BYTES("{'alg':'HS256','alg':'HS256'}"), REFUSE_ticket_duplicate},
	{"alg none, then HS256", BYTES("{'alg':'none','alg':'HS256'}"), REFUSE_ticket_duplicate},
	{"alg HS256, then none", BYTES("{'alg':'HS256','alg':'none'}"), REFUSE_ticket_duplicate},
	{"alg twice, once with escapes", BYTES("{'alg':'HS256','\\u0061lg':'HS256'}"), REFUSE_ticket_duplicate},
	{"b64 without crit: RFC 7797 section 6", BYTES("{'alg':'HS256','b64':false}"), REFUSE_ticket_critical},
	{"b64 as it would be anyway", BYTES("{'alg':'HS256','b64':true}"), REFUSE_ticket_critical},
	{"kid is a number", BYTES("{'alg':'HS256','kid':5}"), REFUSE_ticket_claim},
	{"kid is null", BYTES("{'kid':null,'alg':'HS256'}"), REFUSE_ticket_claim},
	{"typ is an array", BYTES("{'alg':'HS256','typ':['JWT']}"), REFUSE_ticket_claim},
	{"cty is an object", BYTES("{'alg':'HS256','cty':{}}"), REFUSE_ticket_claim},
	{"typ twice", BYTES("{'typ':'JWT','alg':'HS256','typ':'JWT'}"), REFUSE_ticket_duplicate},
	{"an unknown name twice", BYTES("{'x':1,'alg':'HS256','y':2,'x':3}"), REFUSE_ticket_duplicate},
	{"an unknown name twice, once with escapes", BYTES("{'a/':1,'alg':'HS256','a\\/':3}"), REFUSE_ticket_duplicate},
	{"an empty name twice", BYTES("{'':1,'alg':'HS256','':1}"), REFUSE_ticket_duplicate},

	{"an array", BYTES("['alg','HS256']"), REFUSE_ticket_json},
	{"a string", BYTES("'HS256'"), REFUSE_ticket_json},
	{"a number", BYTES("256"), REFUSE_ticket_json},
	{"null", BYTES("null"), REFUSE_ticket_json},
	{"spaces", BYTES("  "), REFUSE_ticket_json},
	{"cut", BYTES("{'alg':'HS256'"), REFUSE_ticket_json},
	{"cut within a string", BYTES("{'alg':'HS256"), REFUSE_ticket_json},
	{"a comma too many", BYTES("{'alg':'HS256',}"), REFUSE_ticket_json},
	{"a comma too few", BYTES("{'alg':'HS256' 'typ':'JWT'}"), REFUSE_ticket_json},
	{"no quotes", BYTES("{alg:HS256}"), REFUSE_ticket_json},
	{"a NUL", BYTES("{'alg':'HS256'\0}"), REFUSE_ticket_json},
	{"a NUL in alg", BYTES("{'alg':'HS256\0'}"), REFUSE_ticket_json},
	{"a newline in a string", BYTES("{'alg':'HS256','x':'\n'}"), REFUSE_ticket_json},
	{"not UTF-8", BYTES("{'alg':'HS256','x':'\xff'}"), REFUSE_ticket_json},
	{"a byte order mark", BYTES("\xef\xbb\xbf{'alg':'HS256'}"), REFUSE_ticket_json},
	{"a comment", BYTES("{/**/'alg':'HS256'}"), REFUSE_ticket_json},
	{"nested 33 deep", BYTES("{'x':[" NEST_31 "],'alg':'HS256'}"), REFUSE_ticket_json},
	{"a letter behind it", BYTES("{'alg':'HS256'}x"), REFUSE_ticket_trailing},
	{"a brace behind it", BYTES("{'alg':'HS256'}}"), REFUSE_ticket_trailing},
	{"an object behind it", BYTES("{'alg':'HS256'} {'alg':'HS256'}"), REFUSE_ticket_trailing},
	{"a comma behind it", BYTES("{'alg':'HS256'},"), REFUSE_ticket_trailing},
	{"a NUL behind it", BYTES("{'alg':'HS256'}\0"), REFUSE_ticket_trailing},
};

Test(ticket, a_header_is_judged)
{
	for (size_t i = 0; i < COUNT_OF(headers); i++) {
		enum refusal why = judges(headers[i].text, CLAIMS_SPAN);

		cr_expect_eq(why, headers[i].why, "%s: %s", headers[i].name, name_of(why));
		cr_expect(why == ACCEPT || untouched(), "%s: %s", headers[i].name, shown());
	}
}

/* Whether the signature is right makes no difference to what is said of a header. */
Test(ticket, A15_a_header_that_is_refused_is_refused_whoever_signed)
{
	for (size_t i = 0; i < COUNT_OF(headers); i++) {
		struct buf ticket = ticket_signed(OTHER_SECRET, headers[i].text, CLAIMS_SPAN);
		enum refusal why = reads(buf_view(&ticket)), right = headers[i].why == ACCEPT ? REFUSE_ticket_signature : headers[i].why;

		cr_expect_eq(why, right, "%s: %s", headers[i].name, name_of(why));
		cr_expect(untouched(), "%s: %s", headers[i].name, shown());
		buf_free(&ticket);
	}
}

/* A name is good JSON by its grammar, yet stands for no text: RFC 8259 section 8.2. */
Test(ticket, half_a_surrogate_pair_in_a_name_is_no_duplicate)
{
	enum refusal header = judges((struct span)BYTES("{'alg':'HS256','\\ud800':1}"), CLAIMS_SPAN),
		claims = judges(HEADER_SPAN, (struct span)BYTES(CLAIMS(",'\\udc00':1")));

	cr_expect_eq(header, REFUSE_ticket_json, "header: %s", name_of(header));
	cr_expect_eq(claims, REFUSE_ticket_json, "claims: %s", name_of(claims));
}

#define X64 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static const struct row claims_rows[] = {
	{"the least there must be", BYTES(CLAIMS("")), ACCEPT},
	{"A6 white space", BYTES("\n{ 'sub' : '7' ,\t'aud':\r\n[ 'sse' ] , 'exp' : 1800000001 } \n"), ACCEPT},
	{"names written with escapes", BYTES("{'s\\u0075b':'7','\\u0061ud':'ss\\u0065','ex\\u0070':1800000001}"), ACCEPT},
	{"claims nobody knows", BYTES(CLAIMS(",'iss':'a','jti':'b','token_type':'access','email':null,'x':{'exp':0,'sub':[]},"
		"'y':[[],{}],'n':1e999,'user_id':7")), ACCEPT},
	{"names that only look like known ones", BYTES(CLAIMS(",'Sub':'','SUB':'','sub\\u0000':'','su':'','sub ':'','subs':'',"
		"'aud\\u0000':1,'Exp':0,'exp ':0,'role':1,'Roles':1,'sid\\u0000':1")), ACCEPT},
	{"half a surrogate pair in a claim nobody knows", BYTES(CLAIMS(",'x':'\\ud800'")), ACCEPT},
	{"nested 32 deep", BYTES(CLAIMS(",'x':" NEST_31)), ACCEPT},
	{"an empty name", BYTES(CLAIMS(",'':1")), ACCEPT},

	{"empty object", BYTES("{}"), REFUSE_ticket_no_subject},
	{"an array", BYTES("[" CLAIMS("") "]"), REFUSE_ticket_json},
	{"a string", BYTES("'sub'"), REFUSE_ticket_json},
	{"null", BYTES("null"), REFUSE_ticket_json},
	{"spaces", BYTES("    "), REFUSE_ticket_json},
	{"cut", BYTES("{'sub':'7','aud':'sse','exp':1800000001"), REFUSE_ticket_json},
	{"a comma too many", BYTES(CLAIMS(",")), REFUSE_ticket_json},
	{"a NUL", BYTES(CLAIMS("\0")), REFUSE_ticket_json},
	{"not UTF-8", BYTES(CLAIMS(",'x':'\xc0\x80'")), REFUSE_ticket_json},
	{"a byte order mark", BYTES("\xef\xbb\xbf" CLAIMS("")), REFUSE_ticket_json},
	{"nested 33 deep", BYTES(CLAIMS(",'x':[" NEST_31 "]")), REFUSE_ticket_json},
	{"a letter behind it", BYTES(CLAIMS("") "x"), REFUSE_ticket_trailing},
	{"an object behind it", BYTES(CLAIMS("") CLAIMS("")), REFUSE_ticket_trailing},
	{"a NUL behind it", BYTES(CLAIMS("") "\0"), REFUSE_ticket_trailing},

	/* A7 */
	{"sub twice", BYTES(CLAIMS(",'sub':'7'")), REFUSE_ticket_duplicate},
	{"aud twice", BYTES(CLAIMS(",'aud':'sse'")), REFUSE_ticket_duplicate},
	{"exp twice", BYTES(CLAIMS(",'exp':1800000001")), REFUSE_ticket_duplicate},
	{"exp twice, once with escapes", BYTES(CLAIMS(",'\\u0065x\\u0070':1900000000")), REFUSE_ticket_duplicate},
	{"sub twice, the first with escapes", BYTES("{'\\u0073ub':'8','sub':'7','aud':'sse','exp':1800000001}"),
		REFUSE_ticket_duplicate},
	{"roles twice", BYTES(CLAIMS(",'roles':[],'roles':['a']")), REFUSE_ticket_duplicate},
	{"sid twice", BYTES(CLAIMS(",'sid':'a','sid':'b'")), REFUSE_ticket_duplicate},
	{"expire_at twice", BYTES(CLAIMS(",'expire_at':0,'expire_at':0")), REFUSE_ticket_duplicate},
	{"nbf twice", BYTES(CLAIMS(",'nbf':0,'nbf':0")), REFUSE_ticket_duplicate},
	{"iat twice", BYTES(CLAIMS(",'iat':0,'iat':0")), REFUSE_ticket_duplicate},
	{"jti is a number", BYTES(CLAIMS(",'jti':7")), REFUSE_ticket_claim},
	{"iss is null", BYTES(CLAIMS(",'iss':null")), REFUSE_ticket_claim},
	{"an unknown claim twice", BYTES(CLAIMS(",'jti':'a','jti':'a'")), REFUSE_ticket_duplicate},
	{"an unknown claim twice, once with escapes", BYTES(CLAIMS(",'jti':'a','y':1,'jt\\u0069':'a'")), REFUSE_ticket_duplicate},
	{"an empty name twice", BYTES(CLAIMS(",'':1,'':1")), REFUSE_ticket_duplicate},
	{"a name twice that is not ASCII", BYTES(CLAIMS(",'\xc3\xa9':1,'\\u00e9':1")), REFUSE_ticket_duplicate},

	/* sub */
	{"sub a number", BYTES("{'sub':7,'aud':'sse','exp':1800000001}"), ACCEPT},
	{"sub zero", BYTES("{'sub':0,'aud':'sse','exp':1800000001}"), ACCEPT},
	{"sub of 64 digits", BYTES("{'sub':1234567812345678123456781234567812345678123456781234567812345678,'aud':'sse',"
		"'exp':1800000001}"), ACCEPT},
	{"sub of 64 bytes", BYTES("{'sub':'" X64 "','aud':'sse','exp':1800000001}"), ACCEPT},
	{"sub of 64 bytes, escaped", BYTES("{'sub':'" X50("\\u0436") "','aud':'sse','exp':1800000001}"), REFUSE_ticket_claim},
	{"sub with a space", BYTES("{'sub':'a b','aud':'sse','exp':1800000001}"), ACCEPT},
	{"sub is not there", BYTES("{'aud':'sse','exp':1800000001}"), REFUSE_ticket_no_subject},
	{"sub of 65 bytes", BYTES("{'sub':'" X64 "x','aud':'sse','exp':1800000001}"), REFUSE_ticket_claim},
	{"sub of 65 bytes, the last one escaped", BYTES("{'sub':'" X64 "\\u0041','aud':'sse','exp':1800000001}"),
		REFUSE_ticket_claim},
	{"sub of 65 digits", BYTES("{'sub':12345678123456781234567812345678123456781234567812345678123456789,'aud':'sse',"
		"'exp':1800000001}"), REFUSE_ticket_claim},
	{"sub empty", BYTES("{'sub':'','aud':'sse','exp':1800000001}"), REFUSE_ticket_claim},
	{"sub with a newline", BYTES("{'sub':'a\\nb','aud':'sse','exp':1800000001}"), REFUSE_ticket_claim},
	{"sub with a NUL", BYTES("{'sub':'7\\u0000','aud':'sse','exp':1800000001}"), REFUSE_ticket_claim},
	{"sub with DEL", BYTES("{'sub':'\x7f','aud':'sse','exp':1800000001}"), REFUSE_ticket_claim},
	{"sub half a surrogate pair", BYTES("{'sub':'\\ud800','aud':'sse','exp':1800000001}"), REFUSE_ticket_claim},
	{"sub a fraction", BYTES("{'sub':7.0,'aud':'sse','exp':1800000001}"), REFUSE_ticket_claim},
	{"sub with an exponent", BYTES("{'sub':7e1,'aud':'sse','exp':1800000001}"), REFUSE_ticket_claim},
	{"sub null", BYTES("{'sub':null,'aud':'sse','exp':1800000001}"), REFUSE_ticket_claim},
	{"sub true", BYTES("{'sub':true,'aud':'sse','exp':1800000001}"), REFUSE_ticket_claim},
	{"sub an array", BYTES("{'sub':['7'],'aud':'sse','exp':1800000001}"), REFUSE_ticket_claim},
	{"sub an object", BYTES("{'sub':{'id':7},'aud':'sse','exp':1800000001}"), REFUSE_ticket_claim},

	/* aud: A10 */
	{"aud an array", BYTES("{'sub':'7','aud':['sse'],'exp':1800000001}"), ACCEPT},
	{"aud an array, sse first", BYTES("{'sub':'7','aud':['sse','api'],'exp':1800000001}"), ACCEPT},
	{"aud an array, sse in the middle", BYTES("{'sub':'7','aud':['api','sse','a long name, longer than sse'],"
		"'exp':1800000001}"), ACCEPT},
	{"aud an array, sse behind a long one", BYTES("{'sub':'7','aud':['" X64 "','sse'],'exp':1800000001}"), ACCEPT},
	{"aud an array, sse last", BYTES("{'sub':'7','aud':['','api','sse'],'exp':1800000001}"), ACCEPT},
	{"aud an array, sse twice", BYTES("{'sub':'7','aud':['sse','sse'],'exp':1800000001}"), ACCEPT},
	{"aud written with escapes", BYTES("{'sub':'7','aud':'\\u0073se','exp':1800000001}"), ACCEPT},
	{"aud is not there", BYTES("{'sub':'7','exp':1800000001}"), REFUSE_ticket_no_audience},
	{"aud wrong", BYTES("{'sub':'7','aud':'api','exp':1800000001}"), REFUSE_ticket_audience},
	{"aud empty", BYTES("{'sub':'7','aud':'','exp':1800000001}"), REFUSE_ticket_audience},
	{"aud SSE", BYTES("{'sub':'7','aud':'SSE','exp':1800000001}"), REFUSE_ticket_audience},
	{"aud begins with sse", BYTES("{'sub':'7','aud':'sse2','exp':1800000001}"), REFUSE_ticket_audience},
	{"aud begins with sse, and is long", BYTES("{'sub':'7','aud':'sse://" X64 "','exp':1800000001}"), REFUSE_ticket_audience},
	{"aud ends with sse", BYTES("{'sub':'7','aud':'asse','exp':1800000001}"), REFUSE_ticket_audience},
	{"aud ss", BYTES("{'sub':'7','aud':'ss','exp':1800000001}"), REFUSE_ticket_audience},
	{"aud sse and a NUL", BYTES("{'sub':'7','aud':'sse\\u0000','exp':1800000001}"), REFUSE_ticket_audience},
	{"aud with a space", BYTES("{'sub':'7','aud':'sse ','exp':1800000001}"), REFUSE_ticket_audience},
	{"aud a list in a string", BYTES("{'sub':'7','aud':'api,sse','exp':1800000001}"), REFUSE_ticket_audience},
	{"aud an empty array", BYTES("{'sub':'7','aud':[],'exp':1800000001}"), REFUSE_ticket_audience},
	{"aud an array, wrong", BYTES("{'sub':'7','aud':['api','sse2'],'exp':1800000001}"), REFUSE_ticket_audience},
	{"aud an array, sse in two pieces", BYTES("{'sub':'7','aud':['ss','e'],'exp':1800000001}"), REFUSE_ticket_audience},
	{"aud an array with a number", BYTES("{'sub':'7','aud':['sse',1],'exp':1800000001}"), REFUSE_ticket_claim},
	{"aud an array with a number first", BYTES("{'sub':'7','aud':[1,'sse'],'exp':1800000001}"), REFUSE_ticket_claim},
	{"aud an array with null", BYTES("{'sub':'7','aud':['sse',null],'exp':1800000001}"), REFUSE_ticket_claim},
	{"aud an array in an array", BYTES("{'sub':'7','aud':[['sse']],'exp':1800000001}"), REFUSE_ticket_claim},
	{"aud half a surrogate pair", BYTES("{'sub':'7','aud':['sse','\\ud800'],'exp':1800000001}"), REFUSE_ticket_claim},
	{"aud a number", BYTES("{'sub':'7','aud':1,'exp':1800000001}"), REFUSE_ticket_claim},
	{"aud null", BYTES("{'sub':'7','aud':null,'exp':1800000001}"), REFUSE_ticket_claim},
	{"aud an object", BYTES("{'sub':'7','aud':{'sse':1},'exp':1800000001}"), REFUSE_ticket_claim},

	/* exp: A8 */
	{"exp a fraction", BYTES("{'sub':'7','aud':'sse','exp':1800000001.0}"), ACCEPT},
	{"exp 2^53", BYTES("{'sub':'7','aud':'sse','exp':9007199254740992}"), ACCEPT},
	{"exp is not there", BYTES("{'sub':'7','aud':'sse'}"), REFUSE_ticket_no_exp},
	{"exp now", BYTES("{'sub':'7','aud':'sse','exp':1800000000}"), REFUSE_ticket_expired},
	{"exp now and a fraction", BYTES("{'sub':'7','aud':'sse','exp':1800000000.9}"), REFUSE_ticket_expired},
	{"exp a second ago: no leeway", BYTES("{'sub':'7','aud':'sse','exp':1799999999}"), REFUSE_ticket_expired},
	{"exp 1", BYTES("{'sub':'7','aud':'sse','exp':1}"), REFUSE_ticket_expired},
	{"exp 0", BYTES("{'sub':'7','aud':'sse','exp':0}"), REFUSE_ticket_expired},
	{"exp 0.5", BYTES("{'sub':'7','aud':'sse','exp':0.5}"), REFUSE_ticket_expired},
	{"exp a string", BYTES("{'sub':'7','aud':'sse','exp':'1800000001'}"), REFUSE_ticket_claim},
	{"exp negative", BYTES("{'sub':'7','aud':'sse','exp':-1}"), REFUSE_ticket_claim},
	{"exp -1800000001", BYTES("{'sub':'7','aud':'sse','exp':-1800000001}"), REFUSE_ticket_claim},
	{"exp 1e30", BYTES("{'sub':'7','aud':'sse','exp':1e30}"), REFUSE_ticket_claim},
	{"exp 1.9e9", BYTES("{'sub':'7','aud':'sse','exp':1.9e9}"), REFUSE_ticket_claim},
	{"exp 2^53 + 1", BYTES("{'sub':'7','aud':'sse','exp':9007199254740993}"), REFUSE_ticket_claim},
	{"exp 2^63", BYTES("{'sub':'7','aud':'sse','exp':9223372036854775808}"), REFUSE_ticket_claim},
	{"exp 2^64 + 1900000000", BYTES("{'sub':'7','aud':'sse','exp':18446744075609551616}"), REFUSE_ticket_claim},
	{"exp null", BYTES("{'sub':'7','aud':'sse','exp':null}"), REFUSE_ticket_claim},
	{"exp true", BYTES("{'sub':'7','aud':'sse','exp':true}"), REFUSE_ticket_claim},
	{"exp an array", BYTES("{'sub':'7','aud':'sse','exp':[1800000001]}"), REFUSE_ticket_claim},
	{"exp with a leading zero", BYTES("{'sub':'7','aud':'sse','exp':01800000001}"), REFUSE_ticket_json},

	/* nbf, iat: A9 */
	{"nbf past", BYTES(CLAIMS(",'nbf':1799999999")), ACCEPT},
	{"nbf 0", BYTES(CLAIMS(",'nbf':0")), ACCEPT},
	{"nbf now", BYTES(CLAIMS(",'nbf':1800000000")), ACCEPT},
	{"nbf in 30 s", BYTES(CLAIMS(",'nbf':1800000030")), ACCEPT},
	{"nbf in 60 s", BYTES(CLAIMS(",'nbf':1800000060")), ACCEPT},
	{"nbf in 61 s", BYTES(CLAIMS(",'nbf':1800000061")), REFUSE_ticket_early},
	{"nbf in 90 s", BYTES(CLAIMS(",'nbf':1800000090")), REFUSE_ticket_early},
	{"nbf 2^53", BYTES(CLAIMS(",'nbf':9007199254740992")), REFUSE_ticket_early},
	{"nbf 2^63", BYTES(CLAIMS(",'nbf':9223372036854775808")), REFUSE_ticket_claim},
	{"nbf 1e30", BYTES(CLAIMS(",'nbf':1e30")), REFUSE_ticket_claim},
	{"nbf negative", BYTES(CLAIMS(",'nbf':-1")), REFUSE_ticket_claim},
	{"nbf a string", BYTES(CLAIMS(",'nbf':'0'")), REFUSE_ticket_claim},
	{"nbf null", BYTES(CLAIMS(",'nbf':null")), REFUSE_ticket_claim},
	{"iat past", BYTES(CLAIMS(",'iat':1799999999.5")), ACCEPT},
	{"iat now", BYTES(CLAIMS(",'iat':1800000000")), ACCEPT},
	{"iat in 30 s", BYTES(CLAIMS(",'iat':1800000030")), ACCEPT},
	{"iat in 60 s", BYTES(CLAIMS(",'iat':1800000060")), ACCEPT},
	{"iat in 61 s", BYTES(CLAIMS(",'iat':1800000061")), REFUSE_ticket_early},
	{"iat in 90 s", BYTES(CLAIMS(",'iat':1800000090")), REFUSE_ticket_early},
	{"iat 2^53", BYTES(CLAIMS(",'iat':9007199254740992")), REFUSE_ticket_early},
	{"iat 2^63", BYTES(CLAIMS(",'iat':9223372036854775808")), REFUSE_ticket_claim},
	{"iat negative", BYTES(CLAIMS(",'iat':-1")), REFUSE_ticket_claim},
	{"iat a string", BYTES(CLAIMS(",'iat':'1800000000'")), REFUSE_ticket_claim},
	{"iat null", BYTES(CLAIMS(",'iat':null")), REFUSE_ticket_claim},

	/* roles */
	{"roles", BYTES(CLAIMS(",'roles':['manager','foreman']")), ACCEPT},
	{"roles empty", BYTES(CLAIMS(",'roles':[]")), ACCEPT},
	{"roles null", BYTES(CLAIMS(",'roles':null")), ACCEPT},
	{"A14 roles that look like something", BYTES(CLAIMS(",'roles':['*','a,b','__proto__','a b','../x']")), ACCEPT},
	{"a role of 64 bytes", BYTES(CLAIMS(",'roles':['" X64 "']")), ACCEPT},
	{"a role of 65 bytes", BYTES(CLAIMS(",'roles':['x" X64 "']")), REFUSE_ticket_claim},
	{"a role of 65 bytes behind another", BYTES(CLAIMS(",'roles':['a','x" X64 "']")), REFUSE_ticket_claim},
	{"a role of 65 bytes, the last one escaped", BYTES(CLAIMS(",'roles':['" X64 "\\u0041']")), REFUSE_ticket_claim},
	{"a role empty", BYTES(CLAIMS(",'roles':['']")), REFUSE_ticket_claim},
	{"a role with a control character", BYTES(CLAIMS(",'roles':['a\\u0001']")), REFUSE_ticket_claim},
	{"a role half a surrogate pair", BYTES(CLAIMS(",'roles':['\\udfff']")), REFUSE_ticket_claim},
	{"a role a number", BYTES(CLAIMS(",'roles':['a',1]")), REFUSE_ticket_claim},
	{"a role null", BYTES(CLAIMS(",'roles':[null]")), REFUSE_ticket_claim},
	{"a role an array", BYTES(CLAIMS(",'roles':[['a']]")), REFUSE_ticket_claim},
	{"roles a string", BYTES(CLAIMS(",'roles':'manager'")), REFUSE_ticket_claim},
	{"roles a number", BYTES(CLAIMS(",'roles':1")), REFUSE_ticket_claim},
	{"roles an object", BYTES(CLAIMS(",'roles':{'manager':true}")), REFUSE_ticket_claim},
	{"roles true", BYTES(CLAIMS(",'roles':true")), REFUSE_ticket_claim},

	/* sid */
	{"sid", BYTES(CLAIMS(",'sid':'s'")), ACCEPT},
	{"sid null", BYTES(CLAIMS(",'sid':null")), ACCEPT},
	{"sid of 64 bytes", BYTES(CLAIMS(",'sid':'" X64 "'")), ACCEPT},
	{"sid of 65 bytes", BYTES(CLAIMS(",'sid':'" X64 "x'")), REFUSE_ticket_claim},
	{"sid of 65 bytes, the last one escaped", BYTES(CLAIMS(",'sid':'" X64 "\\u0041'")), REFUSE_ticket_claim},
	{"sid empty", BYTES(CLAIMS(",'sid':''")), REFUSE_ticket_claim},
	{"sid a number", BYTES(CLAIMS(",'sid':7")), REFUSE_ticket_claim},
	{"sid true", BYTES(CLAIMS(",'sid':true")), REFUSE_ticket_claim},
	{"sid an array", BYTES(CLAIMS(",'sid':['s']")), REFUSE_ticket_claim},
	{"sid half a surrogate pair", BYTES(CLAIMS(",'sid':'\\ud800'")), REFUSE_ticket_claim},

	/* expire_at; that it has passed is not said here */
	{"expire_at", BYTES(CLAIMS(",'expire_at':1800000100")), ACCEPT},
	{"expire_at 0", BYTES(CLAIMS(",'expire_at':0")), ACCEPT},
	{"expire_at null", BYTES(CLAIMS(",'expire_at':null")), ACCEPT},
	{"expire_at a fraction", BYTES(CLAIMS(",'expire_at':1800000100.5")), ACCEPT},
	{"expire_at past", BYTES(CLAIMS(",'expire_at':1")), ACCEPT},
	{"expire_at 2^53", BYTES(CLAIMS(",'expire_at':9007199254740992")), ACCEPT},
	{"expire_at 2^53 + 1", BYTES(CLAIMS(",'expire_at':9007199254740993")), REFUSE_ticket_claim},
	{"expire_at negative", BYTES(CLAIMS(",'expire_at':-1")), REFUSE_ticket_claim},
	{"expire_at a string", BYTES(CLAIMS(",'expire_at':'1800000100'")), REFUSE_ticket_claim},
	{"expire_at 1e30", BYTES(CLAIMS(",'expire_at':1e30")), REFUSE_ticket_claim},
	{"expire_at false", BYTES(CLAIMS(",'expire_at':false")), REFUSE_ticket_claim},
};

Test(ticket, claims_are_judged)
{
	for (size_t i = 0; i < COUNT_OF(claims_rows); i++) {
		enum refusal why = judges(HEADER_SPAN, claims_rows[i].text);

		cr_expect_eq(why, claims_rows[i].why, "%s: %s", claims_rows[i].name, name_of(why));
		cr_expect(why != ACCEPT || is_sound(), "%s: %s", claims_rows[i].name, shown());
	}
}

/* A15: the reason is the signature, and nothing of the claims was taken. */
Test(ticket, A15_claims_that_are_not_signed_well_are_not_looked_at)
{
	for (size_t i = 0; i < COUNT_OF(claims_rows); i++) {
		struct buf ticket = ticket_signed(OTHER_SECRET, HEADER_SPAN, claims_rows[i].text);
		enum refusal why = reads(buf_view(&ticket));

		cr_expect_eq(why, REFUSE_ticket_signature, "%s: %s", claims_rows[i].name, name_of(why));
		cr_expect(untouched(), "%s: %s", claims_rows[i].name, shown());
		buf_free(&ticket);
	}
}

Test(ticket, claims_are_read)
{
	static const struct {
		struct span claims;
		const char *shown;
	} rows[] = {
		{BYTES(CLAIMS("")), "7 roles= sid= expire_at=0 exp=1800000001 nbf=-1 iat=-1"},
		{BYTES("{'iat':1800000002.5,'nbf':1800000003.5,'exp':1800000004.5,'expire_at':1800000005.5,'sid':'s\\u00e9',"
			"'roles':['a','b\\u0436','*','a,b','__proto__'],'aud':['x','sse'],'sub':'\\u0438\\ud83d\\ude00'}"),
			"\xd0\xb8\xf0\x9f\x98\x80 roles=a|b\xd0\xb6|*|a,b|__proto__ sid=s\xc3\xa9 expire_at=1800000005 "
			"exp=1800000004 nbf=1800000003 iat=1800000002"},
		{BYTES("{'sub':7,'aud':'sse','exp':9007199254740992,'iat':0,'nbf':0,'roles':null,'sid':null,'expire_at':null}"),
			"7 roles= sid= expire_at=0 exp=9007199254740992 nbf=0 iat=0"},
		{BYTES("{'sub':-12,'aud':'sse','exp':1800000001,'sid':'a\\'','roles':['b','b']}"),
			"-12 roles=b|b sid=a\" expire_at=0 exp=1800000001 nbf=-1 iat=-1"},
		{BYTES(CLAIMS(",'expire_at':1")), "7 roles= sid= expire_at=1 exp=1800000001 nbf=-1 iat=-1"},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		enum refusal why = judges(HEADER_SPAN, rows[i].claims);

		cr_expect_eq(why, REFUSE_NONE, "row %zu: %s", i, name_of(why));
		cr_expect_str_eq(shown(), rows[i].shown, "row %zu: %s", i, shown());
		cr_expect(is_sound(), "row %zu", i);
	}
}

/* Each reason by what is wrong in one place of a ticket that is good else; all of them are there. */
Test(ticket, each_reason_has_an_input_of_its_own)
{
	static const struct {
		enum refusal why;
		struct span header, claims;
		const char *secret;
		char last; /* put behind the ticket */
	} rows[] = {
		{REFUSE_NONE, BYTES(HEADER), BYTES(CLAIMS("")), SECRET, '\0'},
		{REFUSE_ticket_form, BYTES(HEADER), BYTES(CLAIMS("")), SECRET, '.'},
		{REFUSE_ticket_encoding, BYTES(HEADER), BYTES(CLAIMS("")), SECRET, '='},
		{REFUSE_ticket_json, BYTES("{'alg':'HS256',}"), BYTES(CLAIMS("")), SECRET, '\0'},
		{REFUSE_ticket_trailing, BYTES(HEADER "}"), BYTES(CLAIMS("")), SECRET, '\0'},
		{REFUSE_ticket_duplicate, BYTES("{'alg':'HS256','alg':'HS256'}"), BYTES(CLAIMS("")), SECRET, '\0'},
		{REFUSE_ticket_algorithm, BYTES("{'alg':'HS512'}"), BYTES(CLAIMS("")), SECRET, '\0'},
		{REFUSE_ticket_critical, BYTES("{'alg':'HS256','crit':[]}"), BYTES(CLAIMS("")), SECRET, '\0'},
		{REFUSE_ticket_signature, BYTES(HEADER), BYTES(CLAIMS("")), OTHER_SECRET, '\0'},
		{REFUSE_ticket_claim, BYTES(HEADER), BYTES(CLAIMS(",'sid':7")), SECRET, '\0'},
		{REFUSE_ticket_no_subject, BYTES(HEADER), BYTES("{'aud':'sse','exp':1800000001}"), SECRET, '\0'},
		{REFUSE_ticket_no_exp, BYTES(HEADER), BYTES("{'sub':'7','aud':'sse'}"), SECRET, '\0'},
		{REFUSE_ticket_expired, BYTES(HEADER), BYTES("{'sub':'7','aud':'sse','exp':1800000000}"), SECRET, '\0'},
		{REFUSE_ticket_early, BYTES(HEADER), BYTES(CLAIMS(",'nbf':1800000061")), SECRET, '\0'},
		{REFUSE_ticket_no_audience, BYTES(HEADER), BYTES("{'sub':'7','exp':1800000001}"), SECRET, '\0'},
		{REFUSE_ticket_audience, BYTES(HEADER), BYTES("{'sub':'7','aud':'api','exp':1800000001}"), SECRET, '\0'},
	};
	bool seen[REFUSE_COUNT] = {false};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct buf ticket = ticket_signed(rows[i].secret, rows[i].header, rows[i].claims);
		enum refusal why;

		if (rows[i].last != '\0')
			buf_byte(&ticket, rows[i].last);
		why = reads(buf_view(&ticket));
		cr_expect_eq(why, rows[i].why, "%s: %s", name_of(rows[i].why), name_of(why));
		seen[why] = true;
		buf_free(&ticket);
	}
	for (int why = 1; why < REFUSE_COUNT; why++) {
		const char *name = refusal_name((enum refusal)why);

		if (strncmp(name, "ticket_", 7) == 0 && why != REFUSE_ticket_revoked) /* that is not read in it */
			cr_expect(seen[why], "%s", name);
		if (strncmp(name, "ticket_", 7) == 0)
			cr_expect_eq(refusal_status((enum refusal)why), 401, "%s", name);
	}
}

Test(ticket, A8_A9_time_counts_to_the_second)
{
	static const struct {
		const char *name;
		struct span claims;
		int64_t now_s, leeway_s;
		enum refusal why;
	} rows[] = {
		{"the last second", BYTES(CLAIMS("")), NOW, 0, ACCEPT},
		{"exp", BYTES(CLAIMS("")), NOW + 1, 0, REFUSE_ticket_expired},
		{"exp has no leeway", BYTES(CLAIMS("")), NOW + 1, 3600, REFUSE_ticket_expired},
		{"long past exp", BYTES(CLAIMS("")), NOW * 2, 60, REFUSE_ticket_expired},
		{"1970", BYTES(CLAIMS("")), 0, 0, ACCEPT},
		{"nbf, no leeway", BYTES(CLAIMS(",'nbf':1800000000")), NOW, 0, ACCEPT},
		{"nbf in a second, no leeway", BYTES(CLAIMS(",'nbf':1800000000")), NOW - 1, 0, REFUSE_ticket_early},
		{"nbf in a second, a second of leeway", BYTES(CLAIMS(",'nbf':1800000000")), NOW - 1, 1, ACCEPT},
		{"nbf in 30 s, 30 s", BYTES(CLAIMS(",'nbf':1800000000")), NOW - 30, 30, ACCEPT},
		{"nbf in 31 s, 30 s", BYTES(CLAIMS(",'nbf':1800000000")), NOW - 31, 30, REFUSE_ticket_early},
		{"iat, no leeway", BYTES(CLAIMS(",'iat':1800000000")), NOW, 0, ACCEPT},
		{"iat in a second, no leeway", BYTES(CLAIMS(",'iat':1800000000")), NOW - 1, 0, REFUSE_ticket_early},
		{"iat in a second, a second of leeway", BYTES(CLAIMS(",'iat':1800000000")), NOW - 1, 1, ACCEPT},
		{"iat in 90 s, 90 s", BYTES(CLAIMS(",'iat':1800000000")), NOW - 90, 90, ACCEPT},
		{"iat in 91 s, 90 s", BYTES(CLAIMS(",'iat':1800000000")), NOW - 91, 90, REFUSE_ticket_early},
		{"nbf good, iat early", BYTES(CLAIMS(",'nbf':1800000000,'iat':1800000001")), NOW, 0, REFUSE_ticket_early},
		{"iat good, nbf early", BYTES(CLAIMS(",'nbf':1800000001,'iat':1800000000")), NOW, 0, REFUSE_ticket_early},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct buf ticket = ticket_signed(SECRET, HEADER_SPAN, rows[i].claims);
		enum refusal why = reads_at(buf_view(&ticket), rows[i].now_s, rows[i].leeway_s);

		cr_expect_eq(why, rows[i].why, "%s: %s", rows[i].name, name_of(why));
		buf_free(&ticket);
	}
}

/* ---- how much there may be ---- */

/* {'alg':'HS256','n00':0,...} or the claims: an object with so many members. */
static void members(struct buf *b, const char *first, int have, int count)
{
	char name[24];

	buf_text(b, first);
	b->len--; /* its brace */
	for (int i = have; i < count; i++) {
		snprintf(name, sizeof name, ",'n%02d':0", i);
		buf_text(b, name);
	}
	buf_byte(b, '}');
}

Test(ticket, there_are_64_members_at_the_most)
{
	for (int count = 63; count <= 66; count++) {
		struct buf header = buf_growable(), claims = buf_growable();
		enum refusal why;

		members(&header, HEADER, 1, count);
		members(&claims, CLAIMS(""), 3, count);
		why = judges(HEADER_SPAN, buf_view(&claims));
		cr_expect_eq(why, count <= MAX_CLAIMS ? ACCEPT : REFUSE_ticket_claim, "%d claims: %s", count, name_of(why));
		why = judges(buf_view(&header), CLAIMS_SPAN);
		cr_expect((why == ACCEPT) == (count <= MAX_CLAIMS), "%d in the header: %s", count, name_of(why));
		cr_expect_neq(why, REFUSE_ticket_duplicate, "%d in the header, and none twice", count);
		buf_free(&header);
		buf_free(&claims);
	}
}

Test(ticket, the_64th_member_is_judged_as_any_other)
{
	static const struct row rows[] = {
		{"twice", BYTES(",'n03':0}"), REFUSE_ticket_duplicate},
		{"twice, the one before", BYTES(",'n62':0}"), REFUSE_ticket_duplicate},
		{"sub twice", BYTES(",'sub':'7'}"), REFUSE_ticket_duplicate},
		{"sid", BYTES(",'sid':7}"), REFUSE_ticket_claim},
		{"nbf", BYTES(",'nbf':1800000061}"), REFUSE_ticket_early},
		{"iat", BYTES(",'iat':1800000060}"), ACCEPT},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct buf claims = buf_growable();
		enum refusal why;

		members(&claims, CLAIMS(""), 3, 63);
		claims.len--;
		buf_span(&claims, rows[i].text);
		why = judges(HEADER_SPAN, buf_view(&claims));
		cr_expect_eq(why, rows[i].why, "%s: %s", rows[i].name, name_of(why));
		buf_free(&claims);
	}
}

/* ,'roles':['r00','r01',...] of `bytes` bytes each */
static void roles(struct buf *b, int count, int bytes)
{
	char name[MAX_NAME + 8];

	buf_text(b, ",'roles':[");
	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof name, "%s'%0*d'", i > 0 ? "," : "", bytes, i);
		buf_text(b, name);
	}
	buf_text(b, "]}");
}

Test(ticket, A14_there_are_64_roles_at_the_most)
{
	for (int count = 0; count <= 66; count++) {
		struct buf claims = buf_growable();
		enum refusal why;

		buf_text(&claims, CLAIMS(""));
		claims.len--;
		roles(&claims, count, 3);
		why = judges(HEADER_SPAN, buf_view(&claims));
		cr_expect_eq(why, count <= MAX_ROLES ? ACCEPT : REFUSE_ticket_claim, "%d roles: %s", count, name_of(why));
		for (int i = 0; why == ACCEPT && i < count; i++) {
			char name[16];

			snprintf(name, sizeof name, "%03d", i);
			cr_expect(who.role_count == count && span_is(who.roles[i], name), "%d roles: %d", count, i);
		}
		buf_free(&claims);
	}
}

/* Claims with as many bytes more as make the ticket this long. */
static struct buf ticket_of_length(size_t length)
{
	struct buf ticket = buf_growable();

	for (size_t n = length * 3 / 4 - 200; ticket.len < length; n++) {
		struct buf claims = buf_growable();

		buf_free(&ticket);
		buf_text(&claims, "{'sub':'7','aud':'sse','exp':1800000001,'x':'");
		for (size_t i = 0; i < n; i++)
			buf_byte(&claims, 'y');
		buf_text(&claims, "'}");
		ticket = ticket_signed(SECRET, HEADER_SPAN, buf_view(&claims));
		buf_free(&claims);
	}
	cr_assert_eq(ticket.len, length);
	return ticket;
}

Test(ticket, A13_a_ticket_has_4096_bytes_at_the_most)
{
	static const struct {
		size_t bytes;
		enum refusal why;
	} rows[] = {{4095, ACCEPT}, {4096, ACCEPT}, {4097, REFUSE_ticket_form}, {4099, REFUSE_ticket_form},
		{65536, REFUSE_ticket_form}};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct buf ticket = ticket_of_length(rows[i].bytes);
		enum refusal why = reads(buf_view(&ticket));

		cr_expect_eq(why, rows[i].why, "%zu bytes: %s", rows[i].bytes, name_of(why));
		buf_free(&ticket);
	}
}

/* All of it in the header, in one name, and in many. */
Test(ticket, a_header_may_fill_the_ticket)
{
	struct buf one = buf_growable(), many = buf_growable();

	buf_text(&one, "{'alg':'HS256','");
	for (int i = 0; i < 2900; i++)
		buf_byte(&one, 'y');
	buf_text(&one, "':1}");
	cr_expect_eq(judges(buf_view(&one), CLAIMS_SPAN), ACCEPT);
	buf_text(&many, "{'alg':'HS256'");
	for (int i = 0; i < 63; i++) {
		char name[64];

		snprintf(name, sizeof name, ",'%040d':0", i);
		buf_text(&many, name);
	}
	buf_text(&many, "}");
	cr_expect_eq(judges(buf_view(&many), CLAIMS_SPAN), ACCEPT);
	buf_free(&one);
	buf_free(&many);
}

/* ---- the form ---- */

/* H, C and S stand for the parts of a good ticket; M for a MAC of all before the dot before it. */
static void assemble(struct buf *b, const char *form, const struct buf *good)
{
	struct span parts[3] = {{good->data, 0}};
	int part = 0;

	for (size_t i = 0; i < good->len; i++)
		if (good->data[i] == '.')
			parts[++part] = (struct span){good->data + i + 1, 0};
		else
			parts[part].n++;
	for (; *form != '\0'; form++) {
		const char *found = strchr("HCS", *form);

		if (found != NULL) {
			buf_span(b, parts[found - "HCS"]);
		} else if (*form == 'M') {
			b->len--;
			sign(b, SECRET);
		} else {
			buf_byte(b, *form);
		}
	}
}

Test(ticket, A4_a_ticket_has_three_parts)
{
	static const struct {
		const char *form;
		enum refusal why;
	} rows[] = {
		{"H.C.S", ACCEPT}, {"H.C.M", ACCEPT},
		{"", REFUSE_ticket_form}, {".", REFUSE_ticket_form}, {"..", REFUSE_ticket_form}, {"...", REFUSE_ticket_form},
		{"H", REFUSE_ticket_form}, {"H.", REFUSE_ticket_form}, {".H", REFUSE_ticket_form},
		{"H.C", REFUSE_ticket_form}, {"H.S", REFUSE_ticket_form}, {"C.S", REFUSE_ticket_form},
		{"H.C.", REFUSE_ticket_form}, {"H..S", REFUSE_ticket_form}, {".C.S", REFUSE_ticket_form},
		{"H..", REFUSE_ticket_form}, {".C.", REFUSE_ticket_form}, {"..S", REFUSE_ticket_form},
		{"H..M", REFUSE_ticket_form}, {".C.M", REFUSE_ticket_form}, {"..M", REFUSE_ticket_form},
		{"H.C.S.", REFUSE_ticket_form}, {".H.C.S", REFUSE_ticket_form}, {"H..C.S", REFUSE_ticket_form},
		{"H.C..S", REFUSE_ticket_form}, {"H.C.S.S", REFUSE_ticket_form}, {"H.C.C.M", REFUSE_ticket_form},
		{"H.C.S.H.C.S", REFUSE_ticket_form}, {"H.C.S.S.S", REFUSE_ticket_form}, {"H.C.C.C.M", REFUSE_ticket_form},
		{"HCS", REFUSE_ticket_form}, {"H,C,S", REFUSE_ticket_form},
		{"{\"payload\":\"C\",\"protected\":\"H\",\"signature\":\"S\"}", REFUSE_ticket_form},
		{" H.C.S", REFUSE_ticket_encoding}, {"H.C.S ", REFUSE_ticket_encoding}, {"H.C.S\n", REFUSE_ticket_encoding},
		{"H .C.S", REFUSE_ticket_encoding}, {"H.C .S", REFUSE_ticket_signature}, {"H.C. S", REFUSE_ticket_encoding},
		{"H.C .M", REFUSE_ticket_encoding}, {"H.C\r\n.M", REFUSE_ticket_encoding},
		{"Bearer H.C.S", REFUSE_ticket_encoding},
		{"H.C.H", REFUSE_ticket_signature}, {"H.C.C", REFUSE_ticket_signature}, {"H.H.S", REFUSE_ticket_signature},
		{"H.H.M", REFUSE_ticket_no_subject}, {"C.C.M", REFUSE_ticket_algorithm}, {"C.H.S", REFUSE_ticket_algorithm},
	};
	struct buf good = ticket_signed(SECRET, HEADER_SPAN, CLAIMS_SPAN);

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct buf ticket = buf_growable();
		enum refusal why;

		assemble(&ticket, rows[i].form, &good);
		why = reads(buf_view(&ticket));
		cr_expect_eq(why, rows[i].why, "%s: %s", rows[i].form, name_of(why));
		buf_free(&ticket);
	}
	cr_expect_eq(reads((struct span){NULL, 0}), REFUSE_ticket_form);
	buf_free(&good);
}

Test(ticket, A13_a_hundred_thousand_dots_are_no_ticket)
{
	static const size_t rows[] = {1, 2, 3, 4, 4095, 4096, 4097, 65536, 100000};
	char *dots = malloc(100000);

	cr_assert_not_null(dots);
	memset(dots, '.', 100000);
	for (size_t i = 0; i < COUNT_OF(rows); i++)
		cr_expect_eq(reads((struct span){dots, rows[i]}), REFUSE_ticket_form, "%zu", rows[i]);
	memset(dots, 'A', 100000);
	for (size_t i = 0; i < COUNT_OF(rows); i++)
		cr_expect_eq(reads((struct span){dots, rows[i]}), REFUSE_ticket_form, "%zu letters", rows[i]);
	free(dots);
}

/* A5: strange bytes at the beginning, in the middle and at the end of each part, signed as they are. */
Test(ticket, A5_each_part_is_strict_base64url)
{
	static const struct span rows[] = {BYTES("="), BYTES("=="), BYTES(" "), BYTES("\n"), BYTES("\r\n"), BYTES("\t"),
		BYTES("+"), BYTES("/"), BYTES("#"), BYTES("?"), BYTES("%3D"), BYTES("\0"), BYTES("\x7f"), BYTES("\xc3\xa9"),
		BYTES("~"), BYTES(",")};
	struct buf good = ticket_signed(SECRET, HEADER_SPAN, CLAIMS_SPAN);
	size_t claims_at = 21, mac_at = good.len - 43;

	cr_assert(good.data[claims_at - 1] == '.' && good.data[mac_at - 1] == '.');
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		size_t places[] = {0, 10, claims_at - 1, claims_at, claims_at + 10, mac_at - 1, mac_at, mac_at + 10, good.len};

		for (size_t k = 0; k < COUNT_OF(places); k++) {
			struct buf ticket = buf_growable();
			enum refusal why;

			buf_bytes(&ticket, good.data, places[k]);
			buf_span(&ticket, rows[i]);
			buf_bytes(&ticket, good.data + places[k], good.len - places[k]);
			why = reads(buf_view(&ticket));
			cr_expect_eq(why, places[k] < claims_at || places[k] >= mac_at ? REFUSE_ticket_encoding : REFUSE_ticket_signature,
				"row %zu at %zu: %s", i, places[k], name_of(why));
			if (places[k] < mac_at) {
				ticket.len -= 44;
				sign(&ticket, SECRET);
				why = reads(buf_view(&ticket));
				cr_expect_eq(why, REFUSE_ticket_encoding, "row %zu at %zu, signed: %s", i, places[k], name_of(why));
			}
			buf_free(&ticket);
		}
	}
	buf_free(&good);
}

/* There is one way only to write a ticket: RFC 4648 section 3.5. */
Test(ticket, A5_unused_bits_and_lengths_are_strict_in_each_part)
{
	static const struct {
		const char *name, *header, *claims;
	} rows[] = {
		{"header, unused bits", "eyJhbGciOiJIUzI1NiIgfR", NULL}, /* {"alg":"HS256" } ends in fQ */
		{"header, one letter too many", "eyJhbGciOiJIUzI1NiJ9A", NULL},
		{"header, one letter", "e", NULL},
		{"claims, one letter", NULL, "e"},
		{"claims, one letter too many", NULL, "eyJhIjogMX0gA"},
		{"claims, unused bits of two bytes", NULL, "eyJhIjoxIH1"}, /* {"a":1 } ends in H0 */
		{"claims, unused bits", NULL, "eyJhIjoxfR"}, /* {"a":1} ends in fQ */
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct buf ticket = buf_growable();
		enum refusal why;

		buf_text(&ticket, rows[i].header != NULL ? rows[i].header : "eyJhbGciOiJIUzI1NiJ9");
		buf_byte(&ticket, '.');
		buf_text(&ticket, rows[i].claims != NULL ? rows[i].claims : "eyJhIjoxfQ");
		sign(&ticket, SECRET);
		why = reads(buf_view(&ticket));
		cr_expect_eq(why, REFUSE_ticket_encoding, "%s: %s", rows[i].name, name_of(why));
		buf_free(&ticket);
	}
}

/* ---- the signature ---- */

Test(ticket, A4_no_bit_of_a_ticket_may_change)
{
	struct buf ticket = ticket_signed(SECRET, HEADER_SPAN, CLAIMS_SPAN);

	cr_assert_eq(reads(buf_view(&ticket)), ACCEPT);
	for (size_t bit = 0; bit < ticket.len * 8; bit++) {
		ticket.data[bit / 8] ^= (char)(1 << bit % 8);
		cr_expect_neq(reads(buf_view(&ticket)), ACCEPT, "bit %zu", bit);
		cr_expect(untouched(), "bit %zu: %s", bit, shown());
		ticket.data[bit / 8] ^= (char)(1 << bit % 8);
	}
	cr_assert_eq(reads(buf_view(&ticket)), ACCEPT);
	buf_free(&ticket);
}

Test(ticket, A4_no_letter_of_a_ticket_may_be_another)
{
	struct span good = BYTES(PYJWT);
	char bytes[sizeof PYJWT];

	memcpy(bytes, PYJWT, sizeof bytes);
	for (size_t i = 0; i < good.n; i++) {
		for (size_t k = 0; k < 64; k++) {
			bytes[i] = alphabet[k];
			if (bytes[i] != good.p[i])
				cr_expect_neq(reads((struct span){bytes, good.n}), ACCEPT, "%c at %zu", alphabet[k], i);
		}
		bytes[i] = good.p[i];
	}
}

Test(ticket, A4_no_byte_of_a_ticket_may_be_missing_or_too_many)
{
	struct span good = BYTES(PYJWT);
	char bytes[sizeof PYJWT + 1];

	for (size_t n = 0; n < good.n; n++) {
		cr_expect_neq(reads((struct span){good.p, n}), ACCEPT, "cut at %zu", n);
		cr_expect(untouched(), "cut at %zu", n);
		memcpy(bytes, good.p, n);
		memcpy(bytes + n, good.p + n + 1, good.n - n - 1);
		cr_expect_neq(reads((struct span){bytes, good.n - 1}), ACCEPT, "without %zu", n);
	}
	for (size_t at = 0; at <= good.n; at++)
		for (int c = 0; c < 256; c += at == good.n ? 1 : 13) {
			memcpy(bytes, good.p, at);
			bytes[at] = (char)c;
			memcpy(bytes + at + 1, good.p + at, good.n - at);
			cr_expect_neq(reads((struct span){bytes, good.n + 1}), ACCEPT, "byte %d at %zu", c, at);
		}
}

/* What stands behind "header.claims.". */
Test(ticket, A4_a_signature_is_32_bytes)
{
	static const struct {
		const char *name, *mac;
		enum refusal why;
	} rows[] = {
		{"32 bytes of zeros", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", REFUSE_ticket_signature},
		{"one byte", "AA", REFUSE_ticket_signature},
		{"31 bytes", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", REFUSE_ticket_signature},
		{"33 bytes", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", REFUSE_ticket_signature},
		{"34 bytes", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", REFUSE_ticket_signature},
		{"48 bytes", X64, REFUSE_ticket_signature},
		{"96 bytes", X64 X64, REFUSE_ticket_signature},
		{"32 bytes, unused bits", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB", REFUSE_ticket_encoding},
		{"one letter", "A", REFUSE_ticket_encoding},
		{"45 letters", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", REFUSE_ticket_encoding},
		{"hex", "00000000000000000000000000000000000000000000000000000000000000ff", REFUSE_ticket_signature},
		{"a long one that ends in =", X64 "=", REFUSE_ticket_encoding},
		{"a long one of 65 letters", X64 "x", REFUSE_ticket_encoding},
		{"a long one with a space", X64 " xxx", REFUSE_ticket_encoding},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct buf ticket = buf_growable();
		enum refusal why;

		encode_plain(&ticket, HEADER_SPAN);
		buf_byte(&ticket, '.');
		encode_plain(&ticket, CLAIMS_SPAN);
		buf_byte(&ticket, '.');
		buf_text(&ticket, rows[i].mac);
		why = reads(buf_view(&ticket));
		cr_expect_eq(why, rows[i].why, "%s: %s", rows[i].name, name_of(why));
		cr_expect(untouched(), "%s: %s", rows[i].name, shown());
		buf_free(&ticket);
	}
}

/* The right MAC, and then more or less of it. */
Test(ticket, A4_a_signature_is_neither_cut_nor_longer)
{
	for (size_t n = 0; n <= 66; n++) {
		struct buf ticket = buf_growable();
		struct hmac_key key;
		uint8_t mac[66] = {0};
		enum refusal why;

		encode_plain(&ticket, HEADER_SPAN);
		buf_byte(&ticket, '.');
		encode_plain(&ticket, CLAIMS_SPAN);
		hmac_key(&key, span_of(SECRET));
		hmac_sha256(&key, buf_view(&ticket), mac);
		memcpy(mac + 32, mac, 32);
		buf_byte(&ticket, '.');
		encode(&ticket, (struct span){(const char *)mac, n});
		why = reads(buf_view(&ticket));
		cr_expect_eq(why, n == 0 ? REFUSE_ticket_form : n == 32 ? ACCEPT : REFUSE_ticket_signature, "%zu bytes: %s", n,
			name_of(why));
		buf_free(&ticket);
	}
}

Test(ticket, a_ticket_of_any_of_the_keys_is_accepted)
{
	struct hmac_key keys[MAX_KEYS];
	char secret[64];

	for (int i = 0; i < MAX_KEYS; i++) {
		snprintf(secret, sizeof secret, "a key that is long enough, number %02d", i);
		hmac_key(&keys[i], span_of(secret));
	}
	for (int i = 0; i < MAX_KEYS; i++) {
		struct buf ticket;

		snprintf(secret, sizeof secret, "a key that is long enough, number %02d", i);
		ticket = ticket_signed(secret, HEADER_SPAN, CLAIMS_SPAN);
		for (int count = 0; count <= MAX_KEYS; count++) {
			enum refusal why = ticket_read(buf_view(&ticket), keys, count, NOW, LEEWAY, &who);

			cr_expect_eq(why, i < count ? ACCEPT : REFUSE_ticket_signature, "key %d of %d: %s", i, count, name_of(why));
		}
		cr_expect_eq(ticket_read(buf_view(&ticket), NULL, 0, NOW, LEEWAY, &who), REFUSE_ticket_signature);
		buf_free(&ticket);
	}
}

/* No claims, whatever they are, lead to anything but a reason or an identity that is sound. */
Test(ticket, mangled_claims_do_no_harm)
{
	static const char bits[] = "{}[]:,'\"\\u0d8 \n\t-+.eE019tfnsubaudexproles\x80\xff\x01";
	uint64_t state = 42;
	int accepted = 0, refused = 0;

	for (int round = 0; round < 20000; round++) {
		struct buf claims = buf_growable();
		size_t row = random_below(&state, COUNT_OF(claims_rows));

		plain(&claims, claims_rows[row].text);
		for (uint32_t n = random_below(&state, 4); n > 0; n--) {
			size_t at = random_below(&state, (uint32_t)claims.len);

			if (random_below(&state, 4) == 0)
				claims.len = at + 1;
			claims.data[at] = bits[random_below(&state, sizeof bits - 1)];
		}
		if (judges(HEADER_SPAN, buf_view(&claims)) == ACCEPT) {
			cr_expect(is_sound() && who.exp > NOW && who.for_us, "round %d: %s", round, shown());
			accepted++;
		} else {
			refused++;
		}
		buf_free(&claims);
	}
	cr_expect(accepted > 1000 && refused > 1000, "%d accepted, %d refused", accepted, refused);
}

/* ---- the file of keys ---- */

#define KEY_31 "0123456789abcdef0123456789abcde"
#define KEY_32 "0123456789abcdef0123456789abcdef"
#define KEY_32B "another key, it has 32 bytes too"
#define TOO_SHORT ": a key must be at least 32 bytes long"
#define WHITE ": a key must not begin or end with white space"
#define KEYS_5 KEY_32 "\n" KEY_32 "\n" KEY_32 "\n" KEY_32 "\n" KEY_32 "\n"
#define KEYS_15 KEYS_5 KEYS_5 KEYS_5

Test(ticket, A11_a_key_file_is_read)
{
	static const struct {
		const char *name;
		struct span text;
		int count;
		struct span keys[3]; /* the first ones */
		const char *error;
	} rows[] = {
		{"32 bytes", BYTES(KEY_32), 1, {BYTES(KEY_32)}, ""},
		{"a newline at the end", BYTES(KEY_32 "\n"), 1, {BYTES(KEY_32)}, ""},
		{"CR LF at the end", BYTES(KEY_32 "\r\n"), 1, {BYTES(KEY_32)}, ""},
		{"CR at the end", BYTES(KEY_32 "\r"), 1, {BYTES(KEY_32)}, ""},
		{"several newlines at the end", BYTES(KEY_32 "\n\n\r\n\n"), 1, {BYTES(KEY_32)}, ""},
		{"blank lines before it", BYTES("\n\r\n" KEY_32 "\n"), 1, {BYTES(KEY_32)}, ""},
		{"two", BYTES(KEY_32 "\n" KEY_32B "\n"), 2, {BYTES(KEY_32), BYTES(KEY_32B)}, ""},
		{"two, no newline at the end", BYTES(KEY_32 "\n" KEY_32B), 2, {BYTES(KEY_32), BYTES(KEY_32B)}, ""},
		{"two, CR LF", BYTES(KEY_32 "\r\n" KEY_32B "\r\n"), 2, {BYTES(KEY_32), BYTES(KEY_32B)}, ""},
		{"two, blank lines between", BYTES(KEY_32 "\n\n\r\n" KEY_32B "\n"), 2, {BYTES(KEY_32), BYTES(KEY_32B)}, ""},
		{"the same twice", BYTES(KEY_32 "\n" KEY_32 "\n"), 2, {BYTES(KEY_32), BYTES(KEY_32)}, ""},
		{"three lengths", BYTES(KEY_32 "x\n" KEY_32 KEY_32 "\n" AA_131 "\n"), 3,
			{BYTES(KEY_32 "x"), BYTES(KEY_32 KEY_32), BYTES(AA_131)}, ""},
		{"white space within", BYTES("correct horse\tbattery staple, and so on\n"), 1,
			{BYTES("correct horse\tbattery staple, and so on")}, ""},
		{"a number sign is no comment", BYTES("#" KEY_32 "\n"), 1, {BYTES("#" KEY_32)}, ""},
		{"any bytes", BYTES("\xff\x00\x01\x80" KEY_32), 1, {BYTES("\xff\x00\x01\x80" KEY_32)}, ""},
		{"16", BYTES(KEYS_15 KEY_32B), 16, {BYTES(KEY_32), BYTES(KEY_32), BYTES(KEY_32)}, ""},
		{"16, newlines at the end", BYTES(KEYS_15 KEY_32B "\n\n\n"), 16, {BYTES(KEY_32)}, ""},

		{"empty", BYTES(""), -1, {{NULL, 0}}, "no key in it"},
		{"a newline", BYTES("\n"), -1, {{NULL, 0}}, "no key in it"},
		{"newlines", BYTES("\n\r\n\n\r"), -1, {{NULL, 0}}, "no key in it"},
		{"one byte", BYTES("x"), -1, {{NULL, 0}}, "line 1" TOO_SHORT},
		{"31 bytes", BYTES(KEY_31), -1, {{NULL, 0}}, "line 1" TOO_SHORT},
		{"31 bytes and a newline", BYTES(KEY_31 "\n"), -1, {{NULL, 0}}, "line 1" TOO_SHORT},
		{"31 bytes and CR LF", BYTES(KEY_31 "\r\n"), -1, {{NULL, 0}}, "line 1" TOO_SHORT},
		{"31 bytes behind a good one", BYTES(KEY_32 "\n" KEY_31 "\n"), -1, {{NULL, 0}}, "line 2" TOO_SHORT},
		{"31 bytes before a good one", BYTES(KEY_31 "\n" KEY_32 "\n"), -1, {{NULL, 0}}, "line 1" TOO_SHORT},
		{"blank lines count", BYTES("\n\r\n" KEY_32 "\n\n" KEY_31), -1, {{NULL, 0}}, "line 5" TOO_SHORT},
		{"31 bytes and a space", BYTES(KEY_31 " \n"), -1, {{NULL, 0}}, "line 1" WHITE},
		{"a space before it", BYTES(" " KEY_32 "\n"), -1, {{NULL, 0}}, "line 1" WHITE},
		{"a tab before it", BYTES("\t" KEY_32 "\n"), -1, {{NULL, 0}}, "line 1" WHITE},
		{"a space behind it", BYTES(KEY_32 " \n"), -1, {{NULL, 0}}, "line 1" WHITE},
		{"a tab behind it", BYTES(KEY_32 "\t"), -1, {{NULL, 0}}, "line 1" WHITE},
		{"a space before CR LF", BYTES(KEY_32 " \r\n"), -1, {{NULL, 0}}, "line 1" WHITE},
		{"a space behind the second", BYTES(KEY_32 "\n" KEY_32 " \n"), -1, {{NULL, 0}}, "line 2" WHITE},
		{"only spaces", BYTES("                                        \n"), -1, {{NULL, 0}}, "line 1" WHITE},
		{"only spaces, few", BYTES(" "), -1, {{NULL, 0}}, "line 1" WHITE},
		{"spaces behind a good one", BYTES(KEY_32 "\n  \n"), -1, {{NULL, 0}}, "line 2" WHITE},
		{"17", BYTES(KEYS_15 KEY_32 "\n" KEY_32B), -1, {{NULL, 0}}, "line 17: more than 16 keys"},
		{"17, a newline at the end", BYTES(KEYS_15 KEY_32 "\n" KEY_32B "\n"), -1, {{NULL, 0}}, "line 17: more than 16 keys"},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct span copy = exact(rows[i].text);
		struct hmac_key *keys = malloc(MAX_KEYS * sizeof *keys), right;
		struct buf error = buf_growable();
		int count;

		cr_assert_not_null(keys);
		count = ticket_keys_read(copy, keys, &error);
		cr_expect_eq(count, rows[i].count, "%s: %d", rows[i].name, count);
		cr_expect(span_is(buf_view(&error), rows[i].error), "%s: %.*s", rows[i].name, (int)error.len, error.data);
		for (int k = 0; k < count && k < 3 && rows[i].keys[k].p != NULL; k++) {
			hmac_key(&right, rows[i].keys[k]);
			cr_expect(memcmp(&right, &keys[k], sizeof right) == 0, "%s: key %d", rows[i].name, k);
		}
		if (count == MAX_KEYS) {
			hmac_key(&right, span_of(KEY_32B));
			cr_expect(memcmp(&right, &keys[15], sizeof right) == 0, "%s: the last key", rows[i].name);
		}
		buf_free(&error);
		free(keys);
		exact_free(copy);
	}
}

Test(ticket, a_mistake_in_a_key_file_is_appended_to_what_is_said)
{
	struct hmac_key keys[MAX_KEYS];
	struct buf error = buf_growable();

	buf_text(&error, "--ticket-key-file: ");
	cr_expect_eq(ticket_keys_read(span_of("\nshort"), keys, &error), -1);
	cr_expect(span_is(buf_view(&error), "--ticket-key-file: line 2" TOO_SHORT), "%.*s", (int)error.len, error.data);
	buf_free(&error);
}

/* ---- Django's answer ---- */

/* Reads it in a block of just its size. */
static const char *answers(struct span text, size_t *at)
{
	struct span copy = exact(text);
	const char *error;

	memset(&who, 0xa5, sizeof who);
	*at = SIZE_MAX;
	error = answer_read(copy, &who, at);
	cr_expect(error == NULL || *at <= text.n, "the error is at %zu of %zu bytes", *at, text.n);
	exact_free(copy);
	return error;
}

static const char *answers_plain(struct span text, size_t *at)
{
	struct buf json = buf_growable();
	const char *error;

	plain(&json, text);
	error = answers(buf_view(&json), at);
	buf_free(&json);
	return error;
}

static const struct answer_row {
	struct span text;
	const char *shown;
} answers_good[] = {
	{BYTES("{'user':'56','roles':['manager'],'sid':'s-7','expire_at':1767225600}"),
		"56 roles=manager sid=s-7 expire_at=1767225600"},
	{BYTES("{'user':56}"), "56 roles= sid= expire_at=0"},
	{BYTES("{'user':'56'}"), "56 roles= sid= expire_at=0"},
	{BYTES("{'user':0}"), "0 roles= sid= expire_at=0"},
	{BYTES("{'user':-3}"), "-3 roles= sid= expire_at=0"},
	{BYTES(" \r\n{ 'user' : 7 ,\t'roles' : [ 'a' , 'b' ] , 'sid' : 's' , 'expire_at' : 5 } \n"),
		"7 roles=a|b sid=s expire_at=5"},
	{BYTES("{'expire_at':5.75,'sid':'s','roles':[],'user':7}"), "7 roles= sid=s expire_at=5"},
	{BYTES("{'user':7,'roles':null,'sid':null,'expire_at':null}"), "7 roles= sid= expire_at=0"},
	{BYTES("{'user':7,'expire_at':0}"), "7 roles= sid= expire_at=0"},
	{BYTES("{'user':7,'expire_at':9007199254740992}"), "7 roles= sid= expire_at=9007199254740992"},
	{BYTES("{'\\u0075ser':'\\u0438\\ud83d\\ude00','role\\u0073':['\\u0436','*','a,b']}"),
		"\xd0\xb8\xf0\x9f\x98\x80 roles=\xd0\xb6|*|a,b sid= expire_at=0"},
	{BYTES("{'user':'" X64 "','sid':'" X64 "'}"), X64 " roles= sid=" X64 " expire_at=0"},
	{BYTES("{'user':1234567812345678123456781234567812345678123456781234567812345678}"),
		"1234567812345678123456781234567812345678123456781234567812345678 roles= sid= expire_at=0"},
};

Test(answer, an_answer_is_read)
{
	for (size_t i = 0; i < COUNT_OF(answers_good); i++) {
		size_t at;
		const char *error = answers_plain(answers_good[i].text, &at);
		char right[512];

		snprintf(right, sizeof right, "%s exp=-1 nbf=-1 iat=-1", answers_good[i].shown);
		cr_expect_null(error, "row %zu: %s at %zu", i, error, at);
		cr_expect_str_eq(shown(), right, "row %zu: %s", i, shown());
		cr_expect(is_sound() && !who.has_audience && !who.for_us, "row %zu", i);
	}
}

/* Cut anywhere within the object, it is an error, at a byte that is there or at the end. */
Test(answer, an_answer_that_is_cut_is_an_error)
{
	for (size_t i = 0; i < COUNT_OF(answers_good); i++) {
		struct buf json = buf_growable();
		size_t at, end;

		plain(&json, answers_good[i].text);
		end = json.len;
		while (json.data[end - 1] != '}')
			end--;
		for (size_t n = 0; n < json.len; n++)
			cr_expect_eq(answers((struct span){json.data, n}, &at) != NULL, n < end, "row %zu, cut at %zu", i, n);
		buf_free(&json);
	}
}

Test(answer, an_answer_that_is_wrong_is_an_error)
{
	static const char unknown[] = "unknown key: there are user, roles, sid, expire_at", twice[] = "this key is given twice",
		object[] = "expected an object", user_type[] = "a user must be an integer or a string",
		too_long[] = "a user or role is longer than 64 bytes", empty[] = "a user or role must not be empty",
		control[] = "a user or role has a control character", no_user[] = "user is missing",
		role_type[] = "a role must be a string", roles_type[] = "roles must be an array",
		sid_type[] = "sid must be a string of 1 to 64 bytes", date_type[] = "expected seconds since 1970",
		end[] = "expected the end of the line", value[] = "expected a value", string[] = "expected a string",
		pair[] = "half of a surrogate pair";
	static const struct {
		struct span text;
		size_t at;
		const char *error;
	} rows[] = {
		{BYTES(""), 0, object},
		{BYTES("  "), 2, object},
		{BYTES("null"), 0, object},
		{BYTES("true"), 0, object},
		{BYTES("56"), 0, object},
		{BYTES("'56'"), 0, object},
		{BYTES("[]"), 0, object},
		{BYTES("[{'user':7}]"), 0, object},
		{BYTES("<!DOCTYPE html>"), 0, object},
		{BYTES("user=7"), 0, object},
		{BYTES("\xef\xbb\xbf{'user':7}"), 0, object},
		{BYTES("\0"), 0, object},
		{BYTES("{}"), 0, no_user},
		{BYTES(" {} "), 0, no_user},
		{BYTES("{'roles':['a'],'sid':'s','expire_at':1}"), 0, no_user},
		{BYTES("{'detail':'Invalid token.'}"), 1, unknown},
		{BYTES("{'user':7,'username':'ivan'}"), 10, unknown},
		{BYTES("{'user':7, 'User':7}"), 11, unknown},
		{BYTES("{'user':7,'':1}"), 10, unknown},
		{BYTES("{'user\\u0000':7}"), 1, unknown},
		{BYTES("{'use':7}"), 1, unknown},
		{BYTES("{'users':7}"), 1, unknown},
		{BYTES("{'user':7,'exp':1}"), 10, unknown},
		{BYTES("{'user':7,'aud':'sse'}"), 10, unknown},
		{BYTES("{'user':7,'expire_at_this_time_of_the_day':1}"), 10, unknown},
		{BYTES("{'user\\u0020and a long rest of it':1}"), 1, unknown},
		{BYTES("{'user':7,'user':7}"), 10, twice},
		{BYTES("{'user':7,'\\u0075ser':8}"), 10, twice},
		{BYTES("{'user':7,'roles':[],'roles':[]}"), 21, twice},
		{BYTES("{'user':7,'roles':null,'roles':['a']}"), 23, twice},
		{BYTES("{'user':7,'sid':null,'sid':'s'}"), 21, twice},
		{BYTES("{'user':7,'expire_at':0,'expire_at':0}"), 24, twice},
		{BYTES("{'user':null}"), 8, user_type},
		{BYTES("{'user': true}"), 9, user_type},
		{BYTES("{'user':[7]}"), 8, user_type},
		{BYTES("{'user':{}}"), 8, user_type},
		{BYTES("{'user':7.0}"), 8, user_type},
		{BYTES("{'user':7e1}"), 8, user_type},
		{BYTES("{'user':}"), 8, user_type},
		{BYTES("{'user':''}"), 8, empty},
		{BYTES("{'user':'" X64 "x'}"), 8, too_long},
		{BYTES("{'user':'" X64 "\\n'}"), 8, too_long},
		{BYTES("{'user':'" X64 X64 X64 "'}"), 8, too_long},
		{BYTES("{'user':12345678123456781234567812345678123456781234567812345678123456789}"), 8, too_long},
		{BYTES("{'user':'a\\nb'}"), 8, control},
		{BYTES("{'user':'\\u0000'}"), 8, control},
		{BYTES("{'user':'\\u007f'}"), 8, control},
		{BYTES("{'user':'a\nb'}"), 10, "a control character in a string must be escaped"},
		{BYTES("{'user':'\\ud800'}"), 9, pair},
		{BYTES("{'user':'\xff'}"), 9, "not UTF-8"},
		{BYTES("{'user':07}"), 9, "expected , or }"},
		{BYTES("{'user':-}"), 9, "expected a digit"},
		{BYTES("{'user':7,'roles':'manager'}"), 18, roles_type},
		{BYTES("{'user':7,'roles':{'manager':1}}"), 18, roles_type},
		{BYTES("{'user':7,'roles': 1}"), 19, roles_type},
		{BYTES("{'user':7,'roles':false}"), 18, roles_type},
		{BYTES("{'user':7,'roles':nul}"), 18, value},
		{BYTES("{'user':7,'roles':[1]}"), 19, role_type},
		{BYTES("{'user':7,'roles':['a', null]}"), 24, role_type},
		{BYTES("{'user':7,'roles':[['a']]}"), 19, role_type},
		{BYTES("{'user':7,'roles':['a',]}"), 23, role_type},
		{BYTES("{'user':7,'roles':['']}"), 19, empty},
		{BYTES("{'user':7,'roles':['a','x" X64 "']}"), 23, too_long},
		{BYTES("{'user':7,'roles':['\\t']}"), 19, control},
		{BYTES("{'user':7,'roles':['a' 'b']}"), 23, "expected , or ]"},
		{BYTES("{'user':7,'roles':['a'}"), 22, "expected , or ]"},
		{BYTES("{'user':7,'sid':''}"), 16, sid_type},
		{BYTES("{'user':7,'sid': 7}"), 17, sid_type},
		{BYTES("{'user':7,'sid':true}"), 16, sid_type},
		{BYTES("{'user':7,'sid':['s']}"), 16, sid_type},
		{BYTES("{'user':7,'sid':'" X64 "x'}"), 16, sid_type},
		{BYTES("{'user':7,'sid':'" X64 "\\n'}"), 16, sid_type},
		{BYTES("{'user':7,'sid':nil}"), 16, value},
		{BYTES("{'user':7,'sid':'\\ud800'}"), 17, pair},
		{BYTES("{'user':7,'expire_at':'1767225600'}"), 22, date_type},
		{BYTES("{'user':7,'expire_at':-1}"), 22, date_type},
		{BYTES("{'user':7,'expire_at':1e9}"), 22, date_type},
		{BYTES("{'user':7,'expire_at':9007199254740993}"), 22, date_type},
		{BYTES("{'user':7,'expire_at':false}"), 22, date_type},
		{BYTES("{'user':7,'expire_at':'2026-01-01T00:00:00Z'}"), 22, date_type},
		{BYTES("{'user':7,'expire_at':[]}"), 22, date_type},
		{BYTES("{'user':7}x"), 10, end},
		{BYTES("{'user':7} {'user':7}"), 11, end},
		{BYTES("{'user':7},"), 10, end},
		{BYTES("{'user':7}\0"), 10, end},
		{BYTES("{}x"), 2, end},
		{BYTES("{'user':7,}"), 10, string},
		{BYTES("{user:7}"), 1, string},
		{BYTES("{7:7}"), 1, string},
		{BYTES("{'user' 7}"), 8, "expected :"},
		{BYTES("{'user':7 'sid':null}"), 10, "expected , or }"},
		{BYTES("{'user':7"), 9, "expected , or }"},
		{BYTES("{'user"), 6, "expected a closing quote"},
		{BYTES("{"), 1, string},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		size_t at;
		const char *error = answers_plain(rows[i].text, &at);

		cr_expect_not_null(error, "%s: was taken", rows[i].text.p);
		if (error == NULL)
			continue;
		cr_expect_str_eq(error, rows[i].error, "%s: %s", rows[i].text.p, error);
		cr_expect_eq(at, rows[i].at, "%s: found at %zu, expected %zu (%s)", rows[i].text.p, at, rows[i].at, error);
	}
}

/* As much as there may be of everything, and one more. */
Test(answer, an_answer_may_have_64_roles_of_64_bytes)
{
	for (int count = 63; count <= 66; count++) {
		struct buf text = buf_growable();
		size_t at;
		const char *error;

		buf_text(&text, "{'user':'" X64 "','sid':'" X64 "'");
		roles(&text, count, MAX_NAME);
		error = answers_plain(buf_view(&text), &at);
		cr_expect_eq(error == NULL, count <= MAX_ROLES, "%d: %s", count, error);
		if (error == NULL) {
			cr_expect(is_sound() && who.role_count == count && span_is(who.user, X64) && span_is(who.sid, X64), "%d", count);
			for (int i = 0; i < count; i++) {
				char name[MAX_NAME + 1];

				snprintf(name, sizeof name, "%0*d", MAX_NAME, i);
				cr_expect(span_is(who.roles[i], name), "%d: role %d", count, i);
			}
		} else {
			cr_expect_str_eq(error, "more than 64 roles");
			cr_expect_eq(at, 147 + 10 + MAX_ROLES * (MAX_NAME + 3), "%zu", at);
		}
		buf_free(&text);
	}
}

Test(answer, a_mangled_answer_does_no_harm)
{
	static const char bits[] = "{}[]:,'\"\\u0d8 \n-+.e019tfnuserolid\x80\xff\x01";
	uint64_t state = 7;

	for (int round = 0; round < 20000; round++) {
		struct buf json = buf_growable();
		size_t at;

		plain(&json, answers_good[random_below(&state, COUNT_OF(answers_good))].text);
		for (uint32_t n = random_below(&state, 4); n > 0; n--)
			json.data[random_below(&state, (uint32_t)json.len)] = bits[random_below(&state, sizeof bits - 1)];
		if (answers(buf_view(&json), &at) == NULL)
			cr_expect(is_sound(), "round %d: %.*s", round, (int)json.len, json.data);
		buf_free(&json);
	}
}
