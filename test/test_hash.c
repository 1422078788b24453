/* test_hash.c - SHA-256 by the vectors of FIPS 180 and of another implementation; the table hash. */
#include "vectors.h"

#include <stdio.h>

/* ---- SHA-256 ---- */

static void hex_of(const uint8_t *bytes, size_t n, char *text)
{
	for (size_t i = 0; i < n; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

/* The digest of an exactly sized copy, as 64 hex digits. */
static void digest_of(struct span in, char text[65])
{
	struct span copy = exact(in);
	uint8_t digest[32];

	sha256(copy, digest);
	hex_of(digest, sizeof digest, text);
	exact_free(copy);
}

Test(hash, sha256_of_the_published_vectors)
{
	static const struct {
		const char *in, *digest;
	} rows[] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", /* 448 bits */
			"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
		{"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn" /* 896 bits */
			"hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
			"cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
	};
	char digest[65];

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		digest_of(span_of(rows[i].in), digest);
		cr_expect_str_eq(digest, rows[i].digest, "'%s': %s", rows[i].in, digest);
	}
}

Test(hash, sha256_of_a_million_letters)
{
	char *letters = malloc(1000000), digest[65];

	cr_assert_not_null(letters);
	memset(letters, 'a', 1000000);
	digest_of((struct span){letters, 1000000}, digest);
	cr_expect_str_eq(digest, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", "%s", digest);
	free(letters);
}

/* The bytes 0, 1, 2, ...: digests by Python's hashlib. */
static void count_up(char bytes[256])
{
	for (int i = 0; i < 256; i++)
		bytes[i] = (char)i;
}

Test(hash, sha256_pads_right_at_the_borders_of_a_block)
{
	static const struct {
		size_t n;
		const char *digest;
	} rows[] = {
		{1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
		{55, "463eb28e72f82e0a96c0a4cc53690c571281131f672aa229e0d45ae59b598b59"},
		{56, "da2ae4d6b36748f2a318f23e7ab1dfdf45acdc9d049bd80e59de82a60895f562"},
		{57, "2fe741af801cc238602ac0ec6a7b0c3a8a87c7fc7d7f02a3fe03d1c12eac4d8f"},
		{63, "29af2686fd53374a36b0846694cc342177e428d1647515f078784d69cdb9e488"},
		{64, "fdeab9acf3710362bd2658cdc9a29e8f9c757fcf9811603a8c447cd1d9151108"},
		{65, "4bfd2c8b6f1eec7a2afeb48b934ee4b2694182027e6d0fc075074f2fabb31781"},
		{119, "da18797ed7c3a777f0847f429724a2d8cd5138e6ed2895c3fa1a6d39d18f7ec6"},
		{120, "f52b23db1fbb6ded89ef42a23ce0c8922c45f25c50b568a93bf1c075420bbb7c"},
		{121, "335a461692b30bba1d647cc71604e88e676c90e4c22455d0b8c83f4bd7c8ac9b"},
		{127, "92ca0fa6651ee2f97b884b7246a562fa71250fedefe5ebf270d31c546bfea976"},
		{128, "471fb943aa23c511f6f72f8d1652d9c880cfa392ad80503120547703e56a2be5"},
		{129, "5099c6a56203f9687f7d33f4bfdf576d31dc91f6b695ecea38b2770c87631135"},
	};
	char bytes[256], digest[65];

	count_up(bytes);
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		digest_of((struct span){bytes, rows[i].n}, digest);
		cr_expect_str_eq(digest, rows[i].digest, "%zu bytes: %s", rows[i].n, digest);
	}
}

/* One digest of the digests of all lengths 0 .. 130, by Python's hashlib. */
Test(hash, sha256_of_every_length_to_130)
{
	char bytes[256], digest[65];
	uint8_t all[131][32];

	count_up(bytes);
	for (size_t n = 0; n <= 130; n++) {
		struct span copy = exact((struct span){bytes, n});

		sha256(copy, all[n]);
		exact_free(copy);
	}
	digest_of((struct span){(const char *)all, sizeof all}, digest);
	cr_expect_str_eq(digest, "e5bbbecd60c3632a3455f465bfd8b079c30ef608d2bcc34227f4e5573029020e", "%s", digest);
}

Test(hash, sha256_does_not_care_where_its_bytes_stand)
{
	char block[16 + 100];
	uint8_t first[32], digest[32];

	for (size_t i = 0; i < 16; i++) {
		memset(block, 0, sizeof block);
		memset(block + i, 'x', 100);
		sha256((struct span){block + i, 100}, i == 0 ? first : digest);
		cr_expect(i == 0 || memcmp(first, digest, sizeof first) == 0, "at %zu", i);
	}
}

Test(hash, sha256_takes_no_bytes_that_are_nowhere)
{
	uint8_t digest[32];

	sha256((struct span){NULL, 0}, digest);
	cr_expect_eq(digest[0], 0xe3);
}

/* ---- SipHash-1-3, the upper half folded onto the lower ---- */

static const uint8_t key_1[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static uint32_t hash_of(const uint8_t key[16], const char *bytes, size_t n)
{
	struct span copy = exact((struct span){bytes, n});
	uint32_t hash = hash_span(key, copy);

	exact_free(copy);
	return hash;
}

static uint32_t folded(uint64_t hash)
{
	return (uint32_t)(hash >> 32) ^ (uint32_t)hash;
}

/* Made with the authors' reference program, github.com/veorq/SipHash; CPython's hash() gives them, too. */
Test(hash, hash_span_is_siphash_1_3_under_a_key_of_zeros)
{
	static const uint8_t zeros[16];

	cr_expect_eq(hash_of(zeros, "", 0), folded(UINT64_C(0xd1fba762150c532c)));
	cr_expect_eq(hash_of(zeros, "\0", 1), folded(UINT64_C(0x68a914128e01e473)));
}

/* The bytes 0 .. n-1, by a sketch in Python that agrees with CPython's hash() under a key of zeros. */
Test(hash, D20_hash_span_is_siphash_1_3)
{
	static const uint32_t rows[] = {
		0xaea3c584, 0xb4a35160, 0xcf0c4f4f, 0x6c25fd43, 0x47a6d448, 0x97aaee48, 0x009209f7, 0x48236cd8,
		0xbbb90f9f, 0x49a2b357, 0xeb218c91, 0x898cdb93, 0x2f175d13, 0x224689ab, 0xa0a3fc25, 0xf971413b,
		0xb1df567c, 0xff29b09c, 0x3b8fdea2, 0x7f36e0f9, 0x6610cf06, 0x92d753ba, 0xdcdefcb5, 0x88bccf5c,
	};
	char bytes[256];

	count_up(bytes);
	for (size_t n = 0; n < COUNT_OF(rows); n++)
		cr_expect_eq(hash_of(key_1, bytes, n), rows[n], "%zu bytes: %08x", n, (unsigned)hash_of(key_1, bytes, n));
	cr_expect_eq(hash_span(key_1, (struct span){NULL, 0}), rows[0]);
}

Test(hash, hash_span_equals_itself)
{
	char bytes[256];

	count_up(bytes);
	for (size_t n = 0; n < 200; n++)
		cr_expect_eq(hash_of(key_1, bytes, n), hash_span(key_1, (struct span){bytes, n}), "%zu bytes", n);
}

Test(hash, D20_hash_span_differs_by_every_bit_of_the_key)
{
	uint8_t key[16];

	for (int bit = 0; bit < 128; bit++) {
		memcpy(key, key_1, sizeof key);
		key[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_expect_neq(hash_of(key, "manager", 7), hash_of(key_1, "manager", 7), "bit %d", bit);
	}
}

Test(hash, hash_span_differs_by_length_where_the_bytes_are_zeros)
{
	static const char zeros[100];
	uint32_t seen[100];

	for (size_t n = 0; n < COUNT_OF(seen); n++) {
		seen[n] = hash_of(key_1, zeros, n);
		for (size_t i = 0; i < n; i++)
			cr_expect_neq(seen[n], seen[i], "%zu and %zu zeros", i, n);
	}
}

Test(hash, hash_span_differs_by_every_bit_of_the_bytes)
{
	char bytes[21] = "01234567890123456789";

	for (int bit = 0; bit < 20 * 8; bit++) {
		uint32_t before = hash_of(key_1, bytes, 20);

		bytes[bit / 8] ^= (char)(1 << bit % 8);
		cr_expect_neq(hash_of(key_1, bytes, 20), before, "bit %d", bit);
	}
}

/* 4096 user ids into 64 slots: 64 a slot on average, a deviation of 8. */
Test(hash, hash_span_spreads_numbers_evenly)
{
	uint32_t slots[64] = {0};
	char id[16];

	for (int i = 0; i < 4096; i++) {
		snprintf(id, sizeof id, "%d", i);
		slots[hash_span(key_1, span_of(id)) & 63]++;
	}
	for (int i = 0; i < 64; i++)
		cr_expect(slots[i] > 24 && slots[i] < 104, "slot %d: %u", i, (unsigned)slots[i]);
}
