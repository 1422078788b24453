/* fuzz_address.c - the input is an X-Forwarded-For, and each of its members an address or a network. */
#include "fuzz.h"

#include <arpa/inet.h>

static const char *const proxy_texts[] = {"127.0.0.1", "10.0.0.0/8", "2001:db8::/32", "::1", "unix"};

static bool is_port(const char *text)
{
	size_t n = strspn(text, "0123456789");

	return n > 0 && n <= 5 && text[n] == '\0';
}

/* As inet_pton has it; a port may stand behind it. */
static bool is_address(struct span text, uint8_t bytes[16])
{
	char copy[128], *end;
	bool six = text.n > 0 && text.p[0] == '[';
	size_t colons = 0;

	if (text.n == 0 || text.n >= sizeof copy || memchr(text.p, 0, text.n) != NULL)
		return false;
	memcpy(copy, text.p, text.n);
	copy[text.n] = '\0';
	for (size_t i = 0; i < text.n; i++)
		colons += text.p[i] == ':';
	if (six) {
		end = strchr(copy, ']');
		if (end == NULL || (end[1] != '\0' && (end[1] != ':' || !is_port(end + 2))))
			return false;
		*end = '\0';
		return inet_pton(AF_INET6, copy + 1, bytes) == 1;
	}
	if (colons > 1)
		return inet_pton(AF_INET6, copy, bytes) == 1;
	end = copy + strcspn(copy, ":");
	if (*end == ':' && !is_port(end + 1))
		return false;
	*end = '\0';
	memcpy(bytes, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
	return inet_pton(AF_INET, copy, bytes + 12) == 1;
}

static void check_member(struct span text)
{
	char written[64];
	struct buf b = buf_fixed(written, sizeof written);
	struct address a, again;
	struct network n;
	uint8_t right[16];
	bool good = address_parse(text, &a);

	check(good == is_address(text, right), "not as inet_pton has it");
	if (good) {
		check(memcmp(a.bytes, right, 16) == 0, "another address");
		address_write(&b, &a);
		check(!b.failed && address_parse(buf_view(&b), &again) && memcmp(a.bytes, again.bytes, 16) == 0,
			"what was written is read as another one");
		check(network_parse(text, &n) && n.bits == 128 && network_has(&n, &a), "not the network of one");
	}
	if (!network_parse(text, &n))
		return;
	check(n.bits >= -1 && n.bits <= 128, "%d bits", n.bits);
	if (n.bits < 0)
		return;
	check(network_has(&n, &n.first), "a network without its first address");
	for (int bit = 0; bit < 128; bit++) {
		a = n.first;
		a.bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
		check(network_has(&n, &a) == (bit >= n.bits), "bit %d of a network of %d", bit, n.bits);
	}
}

static struct span trimmed(struct span s)
{
	while (s.n > 0 && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = (struct span){s.p + 1, s.n - 1};
	while (s.n > 0 && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	static struct network proxies[COUNT_OF(proxy_texts)];
	struct span list = exact((struct span){(const char *)bytes, n}), rest = list, members[64];
	struct address found, right;
	int count = 0, last;
	bool good, known = false, bad = false;

	for (size_t i = 0; i < COUNT_OF(proxy_texts); i++)
		check(network_parse(span_of(proxy_texts[i]), &proxies[i]), "not a network");
	while (count < (int)COUNT_OF(members) && (rest.n > 0 || (count > 0 && list.p[list.n - 1] == ','
		&& rest.p == list.p + list.n))) {
		bool end = rest.n == 0;

		members[count++] = trimmed(take_line(&rest, ','));
		if (end)
			break;
	}
	if (count < (int)COUNT_OF(members)) {
		for (last = count; last-- > 0;) {
			bool proxy = false;
			struct address a;

			bad = !is_address(members[last], a.bytes);
			if (bad)
				break;
			right = a;
			known = true;
			for (size_t i = 0; i < COUNT_OF(proxies); i++)
				proxy |= network_has(&proxies[i], &a);
			if (!proxy)
				break;
		}
		good = forwarded_for(list, proxies, COUNT_OF(proxies), &found);
		if (list.n > 0 && list.p[list.n - 1] != ',' && list.p[0] != ',')
			check(good == (known && !bad), "%d, not %d", good, known && !bad);
		if (good && known)
			check(memcmp(found.bytes, right.bytes, 16) == 0, "another address");
	} else {
		forwarded_for(list, proxies, COUNT_OF(proxies), &found);
	}
	for (int i = 0; i < count; i++) {
		struct span member = exact(members[i]);

		check_member(member);
		exact_free(member);
	}
	exact_free(list);
	return 0;
}
