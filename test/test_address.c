/* test_address.c - addresses, networks, and whom X-Forwarded-For is believed about. */
#include "vectors.h"

#include <stdio.h>

/* The address as address_write has it, "-" for what is none. */
static const char *shown(struct span text)
{
	static char out[64];
	struct buf b = buf_fixed(out, sizeof out - 1);
	struct span copy = exact(text);
	struct address a;

	if (address_parse(copy, &a))
		address_write(&b, &a);
	else
		buf_byte(&b, '-');
	out[b.len] = '\0';
	exact_free(copy);
	return out;
}

Test(address, what_is_an_address)
{
	static const struct {
		const char *text, *shown;
	} rows[] = {
		{"192.0.2.1", "192.0.2.1"}, {"192.0.2.1:8080", "192.0.2.1"}, {"0.0.0.0", "0.0.0.0"},
		{"255.255.255.255", "255.255.255.255"}, {"::1", "::1"}, {"2001:DB8::1", "2001:db8::1"},
		{"[2001:db8::1]", "2001:db8::1"}, {"[2001:db8::1]:8080", "2001:db8::1"},
		{"::ffff:192.0.2.1", "192.0.2.1"}, {"[::ffff:192.0.2.1]:1", "192.0.2.1"}, {"::", "::"},
		{"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"},
		/* none */
		{"", "-"}, {" ", "-"}, {"unknown", "-"}, {"_hidden", "-"}, {"localhost", "-"}, {"192.0.2", "-"}, {"192.0.2.256", "-"},
		{"192.0.2.1.5", "-"}, {"192.0.2.01", "-"}, {"192.0.2.1 ", "-"}, {" 192.0.2.1", "-"}, {"-1.0.0.0", "-"}, {":::", "-"},
		{"1:2:3:4:5:6:7:8:9", "-"}, {"[192.0.2.1]", "-"}, {"[::1", "-"}, {"[::1]8080", "-"}, {"[::1]:", "-"}, {"[::1]:x", "-"}, {"192.0.2.1:", "-"},
		{"192.0.2.1:8o8", "-"}, {"192.0.2.1:123456", "-"}, {"192.0.2.1:-1", "-"}, {"[]", "-"}, {"[", "-"}, {":", "-"},
		{"::g", "-"}, {"fe80::1%eth0", "-"}, {"\"192.0.2.1\"", "-"}, {"0x7f.0.0.1", "-"}, {"2130706433", "-"},
		{"1111:2222:3333:4444:5555:6666:255.255.255.2555", "-"},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++)
		cr_expect_str_eq(shown(span_of(rows[i].text)), rows[i].shown, "'%s': %s", rows[i].text, shown(span_of(rows[i].text)));
	cr_expect_str_eq(shown((struct span){"192.0.2.1\0", 10}), "-");
	cr_expect_str_eq(shown((struct span){"1\0.2.3.4", 8}), "-");
}

static bool has(const char *network, const char *address)
{
	struct network n;
	struct address a;

	cr_assert(network_parse(span_of(network), &n), "%s", network);
	cr_assert(address_parse(span_of(address), &a), "%s", address);
	return network_has(&n, &a);
}

Test(address, what_is_in_a_network)
{
	static const struct {
		const char *network, *address;
		bool in;
	} rows[] = {
		{"10.0.0.1", "10.0.0.1", true}, {"10.0.0.1", "10.0.0.2", false}, {"10.0.0.0/8", "10.255.0.7", true},
		{"10.0.0.0/8", "11.0.0.0", false}, {"10.0.0.128/25", "10.0.0.128", true}, {"10.0.0.128/25", "10.0.0.127", false},
		{"10.0.0.9/31", "10.0.0.8", true}, {"10.0.0.9/31", "10.0.0.10", false}, {"10.0.0.9/32", "10.0.0.9", true},
		{"0.0.0.0/0", "203.0.113.9", true}, {"0.0.0.0/0", "2001:db8::1", false}, {"::/0", "2001:db8::1", true},
		{"::/0", "203.0.113.9", true}, {"2001:db8::/32", "2001:db8:ffff::1", true}, {"2001:db8::/32", "2001:db9::", false},
		{"2001:db8::/33", "2001:db8:8000::", false}, {"::1/128", "::1", true}, {"::1", "::2", false},
		{"::ffff:10.0.0.0/8", "10.1.1.1", true}, {"unix", "10.0.0.1", false}, {"unix", "::", false},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++)
		cr_expect_eq(has(rows[i].network, rows[i].address), rows[i].in, "%s in %s", rows[i].address, rows[i].network);
}

Test(address, what_is_no_network)
{
	static const char *const texts[] = {"", "/", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8 ", "10.0.0.0/8/8",
		"10.0.0.0/0x8", "10.0.0.0/0008", "10.0.0/8", "::/129", "::/1000", "localhost", "unix:", "unix/8", "UNIX", "all"};
	struct network n;

	for (size_t i = 0; i < COUNT_OF(texts); i++)
		cr_expect_not(network_parse(span_of(texts[i]), &n), "%s", texts[i]);
}

/* H44 */
Test(address, H44_who_is_believed_about_whom)
{
	static const struct {
		const char *list, *from;
	} rows[] = {
		{"203.0.113.7", "203.0.113.7"},
		{"6.6.6.6, 203.0.113.7", "203.0.113.7"}, /* what a client sends itself stands before what the proxy adds */
		{"6.6.6.6,203.0.113.7", "203.0.113.7"},
		{"6.6.6.6,\t203.0.113.7 ", "203.0.113.7"},
		{"6.6.6.6, 203.0.113.7:55, 10.1.2.3", "203.0.113.7"}, /* a proxy behind a proxy */
		{"6.6.6.6, 203.0.113.7, 10.1.2.3, 127.0.0.1", "203.0.113.7"},
		{"10.1.2.3", "10.1.2.3"}, /* it asks for itself */
		{"10.0.0.1, 10.1.2.3", "10.0.0.1"},
		{"<script>, 203.0.113.7", "203.0.113.7"},
		{", 203.0.113.7", "203.0.113.7"},
		{"2001:db8::7", "2001:db8::7"},
		{"6.6.6.6, [2001:db8::7]:99", "2001:db8::7"},
		/* nobody knows */
		{"", "-"}, {",", "-"}, {" ", "-"}, {"unknown", "-"}, {"203.0.113.7,", "-"}, {"203.0.113.7, unknown", "-"},
		{"unknown, 10.1.2.3", "-"}, {"203.0.113.7;10.1.2.3", "-"}, {"203.0.113.7 10.1.2.3", "-"},
	};
	struct network proxies[2];

	cr_assert(network_parse(span_of("10.0.0.0/8"), &proxies[0]) && network_parse(span_of("127.0.0.1"), &proxies[1]));
	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		char text[64] = "-";
		struct buf b = buf_fixed(text, sizeof text - 1);
		struct span copy = exact(span_of(rows[i].list));
		struct address a;

		if (forwarded_for(copy, proxies, 2, &a)) {
			address_write(&b, &a);
			text[b.len] = '\0';
		}
		cr_expect_str_eq(text, rows[i].from, "'%s': %s", rows[i].list, text);
		exact_free(copy);
	}
}

Test(address, H44_a_list_of_a_thousand)
{
	static char list[20000];
	struct network proxy;
	struct address a;
	size_t n = 0;

	cr_assert(network_parse(span_of("10.0.0.0/8"), &proxy));
	n += (size_t)sprintf(list + n, "203.0.113.7");
	for (int i = 0; i < 1000; i++)
		n += (size_t)sprintf(list + n, ", 10.0.%d.%d", i / 256, i % 256);
	cr_expect(forwarded_for((struct span){list, n}, &proxy, 1, &a) && a.bytes[12] == 203 && a.bytes[15] == 7);
}
