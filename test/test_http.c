/*
 * Heads of requests; the rows of section 1 of FAULTS.md. Each input is read whole, cut in two at every byte (H1),
 * and byte by byte (H2), always from a heap block of exactly its size.
 */
#include "vectors.h"

#include <stdio.h>

/* A head of HTTP/1.1 with these header lines. */
#define LINES(lines) BYTES("GET /e HTTP/1.1\r\nHost: a\r\n" lines "\r\n")
/* A head with this request line. */
#define FIRST(line) BYTES(line "\r\nHost: a\r\n\r\n")

static const struct http_limits defaults = {16384, 8192}, small = {300, 64};

/* ---- reading, in every way ------------------------------------------------------------------- */

/* Scans the first n bytes. Lines that are whole need no second look, so they are wiped out. */
static int scan_part(struct http_scan *scan, struct span in, size_t n, const struct http_limits *limits)
{
	struct span block = exact((struct span){in.p, n});
	int got;

	memset((void *)(uintptr_t)block.p, '\n', scan->line);
	got = http_scan(scan, block.p, n, limits);
	exact_free(block);
	return got;
}

static int scan_whole(struct span in, const struct http_limits *limits)
{
	struct http_scan scan = {0};

	return scan_part(&scan, in, in.n, limits);
}

/* First k bytes, then all of them. */
static int scan_cut(struct span in, size_t k, const struct http_limits *limits)
{
	struct http_scan scan = {0};
	int got = scan_part(&scan, in, k, limits);

	return got != 0 ? got : scan_part(&scan, in, in.n, limits);
}

/* One byte more each time. *used: how many bytes there were when the answer came. */
static int scan_bytewise(const char *name, struct span in, const struct http_limits *limits, size_t *used)
{
	struct http_scan scan = {0};
	int got = 0;

	for (*used = 0; got == 0 && *used < in.n;) {
		uint32_t before = scan.at;

		got = scan_part(&scan, in, ++*used, limits);
		cr_assert(scan.at >= before, "%s: went back from byte %u to %u", name, before, scan.at);
		if (got == 0 && *used <= limits->head_bytes)
			cr_assert(scan.at == *used || (scan.at + 1 == *used && in.p[scan.at] == '\r'),
				"%s: only %u of %zu bytes looked at", name, scan.at, *used);
	}
	return got;
}

static const char *named(int got)
{
	return got < 0 ? refusal_name((enum refusal)-got) : got == 0 ? "waits" : "a head";
}

static const char *refused(enum refusal why)
{
	return why == REFUSE_NONE ? "no refusal" : refusal_name(why);
}

/* What the scan says of the whole input, after it said the same for every way to cut it. */
static int scan_every_way(const char *name, struct span in, const struct http_limits *limits)
{
	int whole = scan_whole(in, limits), got;
	size_t used;

	for (size_t k = 0; k <= in.n; k += in.n > 3000 && k > 64 && k + 64 < in.n ? 61 : 1) {
		got = scan_cut(in, k, limits);
		cr_expect(got == whole, "%s: cut behind byte %zu: %s, but whole: %s", name, k, named(got), named(whole));
		if (got != whole)
			break;
	}
	got = scan_bytewise(name, in, limits, &used);
	cr_expect(got == whole, "%s: bytewise, %zu bytes: %s, but whole: %s", name, used, named(got), named(whole));
	return whole;
}

/* Scans in every way, then parses a copy, which r points into; the caller frees it. */
static enum refusal read_head(const char *name, struct span in, const struct http_limits *limits,
	struct http_request *r, struct span *copy)
{
	int got = scan_every_way(name, in, limits);

	*copy = exact((struct span){in.p, got > 0 ? (size_t)got : 0});
	if (got < 0)
		return (enum refusal)-got;
	cr_assert(got > 0, "%s: waits for more", name);
	return http_parse(*copy, r);
}

static enum refusal refusal_of(const char *name, struct span in, const struct http_limits *limits)
{
	struct http_request r;
	struct span copy;
	enum refusal why = read_head(name, in, limits, &r, &copy);

	exact_free(copy);
	return why;
}

/* ---- refusals ----------------------------------------------------------------------------------- */

struct bad {
	const char *name;
	struct span in;
	enum refusal why;
};

static void expect_refused(const struct bad *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		enum refusal why = refusal_of(rows[i].name, rows[i].in, &defaults);

		cr_expect(why == rows[i].why, "%s: %s, expected %s", rows[i].name, refused(why),
			refused(rows[i].why));
	}
}

#define EXPECT_REFUSED(rows) expect_refused(rows, COUNT_OF(rows))

static const struct bad bad_hosts[] = {
	{"H5 no Host", BYTES("GET / HTTP/1.1\r\n\r\n"), REFUSE_no_host},
	{"H5 no Host, other headers", BYTES("GET / HTTP/1.1\r\nHosts: a\r\nX-Host: a\r\n\r\n"), REFUSE_no_host},
	{"H6 two Hosts, different", LINES("Host: b\r\n"), REFUSE_two_hosts},
	{"H6 two Hosts, the same", LINES("Host: a\r\n"), REFUSE_two_hosts},
	{"H6 two Hosts, other case", LINES("hOST: a\r\n"), REFUSE_two_hosts},
	{"H6 two Hosts, the second empty", LINES("Host:\r\n"), REFUSE_two_hosts},
	{"H6 two Hosts, absolute target", BYTES("GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), REFUSE_two_hosts},
	{"H6 two Hosts, HTTP/1.0", BYTES("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), REFUSE_two_hosts},
	{"H7 Host with space", BYTES("GET / HTTP/1.1\r\nHost: bad host\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host with tab", BYTES("GET / HTTP/1.1\r\nHost: bad\thost\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host with comma", BYTES("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host with @", BYTES("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host with NUL", BYTES("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n"), REFUSE_bad_byte},
	{"H7 Host 8-bit", BYTES("GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host with slash", BYTES("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host with port of letters", BYTES("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host with two ports", BYTES("GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host with signed port", BYTES("GET / HTTP/1.1\r\nHost: a:-1\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host [ not closed", BYTES("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host [ alone", BYTES("GET / HTTP/1.1\r\nHost: [\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host []", BYTES("GET / HTTP/1.1\r\nHost: []\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host [:]", BYTES("GET / HTTP/1.1\r\nHost: [:]\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host [::1]x", BYTES("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host [::1]:x", BYTES("GET / HTTP/1.1\r\nHost: [::1]:x\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host [::g]", BYTES("GET / HTTP/1.1\r\nHost: [::g]\r\n\r\n"), REFUSE_bad_host},
	{"H7 bad Host, absolute target", BYTES("GET http://a/ HTTP/1.1\r\nHost: b b\r\n\r\n"), REFUSE_bad_host},
};

/* RFC 9112 3.2: a Host whose value is not that of RFC 3986 3.2.2 MUST be answered with 400. */
static const struct bad bad_hosts_by_grammar[] = {
	{"H7 Host with bad escape", BYTES("GET / HTTP/1.1\r\nHost: %zz\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host, first digit of an escape bad", BYTES("GET / HTTP/1.1\r\nHost: %z4\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host, second digit of an escape bad", BYTES("GET / HTTP/1.1\r\nHost: %4z\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host with cut escape", BYTES("GET / HTTP/1.1\r\nHost: a%4\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host [abc]", BYTES("GET / HTTP/1.1\r\nHost: [abc]\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host [1::2::3]", BYTES("GET / HTTP/1.1\r\nHost: [1::2::3]\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host [] with 64 digits", BYTES("GET / HTTP/1.1\r\nHost: [0123456789abcdef0123456789abcdef0123456789abcdef"
		"0123456789abcdef]\r\n\r\n"), REFUSE_bad_host},
	{"H7 Host [1.2.3.4]", BYTES("GET / HTTP/1.1\r\nHost: [1.2.3.4]\r\n\r\n"), REFUSE_bad_host},
};

static const struct bad bad_headers[] = {
	{"H8 space before colon", BYTES("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), REFUSE_bad_header},
	{"H8 tab before colon", LINES("X\t: a\r\n"), REFUSE_bad_header},
	{"H9 folded line", LINES("X: a\r\n b\r\n"), REFUSE_folded_header},
	{"H9 folded by tab", LINES("X: a\r\n\tb\r\n"), REFUSE_folded_header},
	{"H9 folded, with a colon", LINES("X: a\r\n Y: b\r\n"), REFUSE_folded_header},
	{"H9 first header folded", BYTES("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), REFUSE_folded_header},
	{"H9 line of blanks", LINES("X: a\r\n \t \r\n"), REFUSE_folded_header},
	{"H14 [ in name", LINES("X-Invalid[]: t\r\n"), REFUSE_bad_header},
	{"H14 \" in name", LINES("\"X\": t\r\n"), REFUSE_bad_header},
	{"H14 space in name", LINES("X Y: t\r\n"), REFUSE_bad_header},
	{"H14 8-bit name", LINES("X\x80: t\r\n"), REFUSE_bad_header},
	{"H14 ( in name", LINES("X(: t\r\n"), REFUSE_bad_header},
	{"H14 @ in name", LINES("X@: t\r\n"), REFUSE_bad_header},
	{"H14 empty name", LINES(": v\r\n"), REFUSE_bad_header},
	{"H14 no colon", LINES("abc\r\n"), REFUSE_bad_header},
	{"H14 no colon, first", BYTES("GET / HTTP/1.1\r\nHost\r\n\r\n"), REFUSE_bad_header},
	{"two Authorizations", LINES("Authorization: Bearer a\r\nAuthorization: Bearer a\r\n"), REFUSE_repeated_header},
	{"two Authorizations, empty", LINES("Authorization:\r\nauthorization:\r\n"), REFUSE_repeated_header},
	{"two Origins", LINES("Origin: http://a\r\nOrigin: http://b\r\n"), REFUSE_repeated_header},
	{"H41 unknown expectation", LINES("Expect: foo\r\n"), REFUSE_unknown_expectation},
	{"H41 two expectations", LINES("Expect: 100-continue, foo\r\n"), REFUSE_unknown_expectation},
	{"H41 unknown, then known", LINES("Expect: foo\r\nExpect: 100-continue\r\n"), REFUSE_unknown_expectation},
};

static const struct bad bad_line_ends[] = {
	{"H10 bare LF everywhere", BYTES("GET / HTTP/1.1\nHost: a\n\n"), REFUSE_bad_line_end},
	{"H10 bare LF behind the request line", BYTES("GET / HTTP/1.1\nHost: a\r\n\r\n"), REFUSE_bad_line_end},
	{"H10 bare LF behind a header", BYTES("GET / HTTP/1.1\r\nHost: a\n\r\n"), REFUSE_bad_line_end},
	{"H10 bare LF at the end", BYTES("GET / HTTP/1.1\r\nHost: a\r\n\n"), REFUSE_bad_line_end},
	{"H10 bare LF at the beginning", BYTES("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), REFUSE_bad_line_end},
	{"H11 bare CR in a value", LINES("X: a\rb\r\n"), REFUSE_bad_line_end},
	{"H11 bare CR in a name", LINES("X\rY: a\r\n"), REFUSE_bad_line_end},
	{"H11 bare CR in the request line", BYTES("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n"), REFUSE_bad_line_end},
	{"H11 bare CR at the beginning", BYTES("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n"), REFUSE_bad_line_end},
	{"H11 CR LF CR X", BYTES("GET / HTTP/1.1\r\nHost: a\r\n\rX"), REFUSE_bad_line_end},
	{"H11 CR CR LF", LINES("X: a\r\r\n"), REFUSE_bad_line_end},
	{"H11 CR CR LF at the end", BYTES("GET / HTTP/1.1\r\nHost: a\r\n\r\r\n"), REFUSE_bad_line_end},
};

static const struct bad bad_framing[] = {
	{"H15 length, then encoding", LINES("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
		REFUSE_length_and_encoding},
	{"H15 encoding, then length", LINES("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
		REFUSE_length_and_encoding},
	{"H15 length 0 and encoding", LINES("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
		REFUSE_length_and_encoding},
	{"H15 any case", LINES("transfer-ENCODING: Chunked\r\ncontent-LENGTH: 5\r\n"), REFUSE_length_and_encoding},
	{"H15 length and unknown encoding", LINES("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n"),
		REFUSE_length_and_encoding},
	{"H16 two equal Content-Length", LINES("Content-Length: 5\r\nContent-Length: 5\r\n"), REFUSE_bad_length},
	{"H16 two different Content-Length", LINES("Content-Length: 5\r\nContent-Length: 6\r\n"), REFUSE_bad_length},
	{"H16 two Content-Length of 0", LINES("Content-Length: 0\r\nContent-Length: 0\r\n"), REFUSE_bad_length},
	{"H16 list of equal lengths", LINES("Content-Length: 5, 5\r\n"), REFUSE_bad_length},
	{"H17 length empty", LINES("Content-Length:\r\n"), REFUSE_bad_length},
	{"H17 length of blanks", LINES("Content-Length:  \t\r\n"), REFUSE_bad_length},
	{"H17 length +5", LINES("Content-Length: +5\r\n"), REFUSE_bad_length},
	{"H17 length -1", LINES("Content-Length: -1\r\n"), REFUSE_bad_length},
	{"H17 length -N, N the request's", LINES("Content-Length: -49\r\n"), REFUSE_bad_length},
	{"H17 length 0x5", LINES("Content-Length: 0x5\r\n"), REFUSE_bad_length},
	{"H17 length 5 5", LINES("Content-Length: 5 5\r\n"), REFUSE_bad_length},
	{"H17 length 1_0", LINES("Content-Length: 1_0\r\n"), REFUSE_bad_length},
	{"H17 length 5;", LINES("Content-Length: 5;\r\n"), REFUSE_bad_length},
	{"H17 length 5.0", LINES("Content-Length: 5.0\r\n"), REFUSE_bad_length},
	{"H17 length 1e3", LINES("Content-Length: 1e3\r\n"), REFUSE_bad_length},
	{"H17 length 8-bit", LINES("Content-Length: 5\xa0\r\n"), REFUSE_bad_length},
	{"H17 length 2^63", LINES("Content-Length: 9223372036854775808\r\n"), REFUSE_bad_length},
	{"H17 length 2^64+5", LINES("Content-Length: 18446744073709551621\r\n"), REFUSE_bad_length},
	{"H17 length of 100 digits", LINES("Content-Length: "
		"1000000000000000000000000000000000000000000000000"
		"000000000000000000000000000000000000000000000000005\r\n"), REFUSE_bad_length},
	{"H17 length of 60 zeros", LINES("Content-Length: "
		"000000000000000000000000000000000000000000000000000000000000\r\n"), REFUSE_bad_length},
	{"H18 gzip", LINES("Transfer-Encoding: gzip\r\n"), REFUSE_unknown_encoding},
	{"H18 identity", LINES("Transfer-Encoding: identity\r\n"), REFUSE_unknown_encoding},
	{"H18 chunked, gzip", LINES("Transfer-Encoding: chunked, gzip\r\n"), REFUSE_unknown_encoding},
	{"H18 gzip, chunked", LINES("Transfer-Encoding: gzip, chunked\r\n"), REFUSE_unknown_encoding},
	{"H18 ,chunked", LINES("Transfer-Encoding: ,chunked\r\n"), REFUSE_unknown_encoding},
	{"H18 xchunked", LINES("Transfer-Encoding: xchunked\r\n"), REFUSE_unknown_encoding},
	{"H18 chunkedx", LINES("Transfer-Encoding: chunkedx\r\n"), REFUSE_unknown_encoding},
	{"H18 chunke", LINES("Transfer-Encoding: chunke\r\n"), REFUSE_unknown_encoding},
	{"H18 \"chunked\"", LINES("Transfer-Encoding: \"chunked\"\r\n"), REFUSE_unknown_encoding},
	{"H18 chunked;a=b", LINES("Transfer-Encoding: chunked;a=b\r\n"), REFUSE_unknown_encoding},
	{"H18 chunked and an 8-bit blank", LINES("Transfer-Encoding: chunked\xa0\r\n"), REFUSE_unknown_encoding},
	{"H18 chunked\\x0b", LINES("Transfer-Encoding: chunked\x0b\r\n"), REFUSE_bad_byte},
	{"H18 empty", LINES("Transfer-Encoding:\r\n"), REFUSE_unknown_encoding},
	{"H18 two lines of chunked", LINES("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
		REFUSE_unknown_encoding},
	{"H18 identity, then chunked", LINES("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
		REFUSE_unknown_encoding},
	{"H19 encoding in HTTP/1.0", BYTES("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
		REFUSE_encoding_in_http10},
	{"H19 the same, keep-alive", BYTES("GET / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: gzip\r\n\r\n"),
		REFUSE_encoding_in_http10},
};

static const struct bad bad_targets[] = {
	{"H28 no host", FIRST("GET http:///e HTTP/1.1"), REFUSE_bad_target},
	{"H28 no host, only a query", FIRST("GET http://?x HTTP/1.1"), REFUSE_bad_target},
	{"H28 nothing behind //", FIRST("GET http:// HTTP/1.1"), REFUSE_bad_target},
	{"H28 user in the host", FIRST("GET http://u@a/e HTTP/1.1"), REFUSE_bad_target},
	{"H28 bad port", FIRST("GET http://a:x/e HTTP/1.1"), REFUSE_bad_target},
	{"H28 scheme ftp", FIRST("GET ftp://a/e HTTP/1.1"), REFUSE_bad_target},
	{"H28 scheme httpx", FIRST("GET httpx://a/e HTTP/1.1"), REFUSE_bad_target},
	{"H28 one slash", FIRST("GET http:/a/e HTTP/1.1"), REFUSE_bad_target},
	{"H28 one slash, longer host", FIRST("GET http:/abc/e HTTP/1.1"), REFUSE_bad_target},
	{"H28 no slash", FIRST("GET http:a HTTP/1.1"), REFUSE_bad_target},
	{"H28 nothing behind the scheme", FIRST("GET http: HTTP/1.1"), REFUSE_bad_target},
	{"H29 GET *", FIRST("GET * HTTP/1.1"), REFUSE_bad_target},
	{"H29 HEAD *", FIRST("HEAD * HTTP/1.1"), REFUSE_bad_target},
	{"H29 OPTIONS **", FIRST("OPTIONS ** HTTP/1.1"), REFUSE_bad_target},
	{"H29 GET foo", FIRST("GET foo HTTP/1.1"), REFUSE_bad_target},
	{"H29 GET a:443", FIRST("GET a:443 HTTP/1.1"), REFUSE_bad_target},
	{"H29 GET ?x", FIRST("GET ?x HTTP/1.1"), REFUSE_bad_target},
	{"fragment", FIRST("GET /e#f HTTP/1.1"), REFUSE_bad_target},
	{"fragment in the query", FIRST("GET /e?x#f HTTP/1.1"), REFUSE_bad_target},
	{"fragment of a URL", FIRST("GET http://a#f HTTP/1.1"), REFUSE_bad_target},
};

/* RFC 9110 4.2.1: an http URI with an empty host MUST be rejected. */
static const struct bad bad_target_port_only[] = {
	{"H28 port without host", FIRST("GET http://:80/e HTTP/1.1"), REFUSE_bad_target},
};

static const struct bad bad_request_lines[] = {
	{"H29 CONNECT", FIRST("CONNECT a:443 HTTP/1.1"), REFUSE_unknown_method},
	{"H30 unknown method", FIRST("BREW /e HTTP/1.1"), REFUSE_unknown_method},
	{"H30 get", FIRST("get /e HTTP/1.1"), REFUSE_unknown_method},
	{"H30 GETT", FIRST("GETT /e HTTP/1.1"), REFUSE_unknown_method},
	{"H30 GE", FIRST("GE /e HTTP/1.1"), REFUSE_unknown_method},
	{"H30 method of 31 bytes", FIRST("ABCDEFGHIJKLMNOPQRSTUVWXYZabcde /e HTTP/1.1"), REFUSE_unknown_method},
	{"H30 method of 32 bytes", FIRST("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef /e HTTP/1.1"), REFUSE_unknown_method},
	{"H30 method not a token", FIRST("GE(T /e HTTP/1.1"), REFUSE_bad_request_line},
	{"H30 method 8-bit", FIRST("G\xc9T /e HTTP/1.1"), REFUSE_bad_request_line},
	{"H30 HTTP/2 preface", BYTES("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), REFUSE_bad_version},
	{"H30 TLS ClientHello", BYTES("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 GET / HTTP/1.1\r\n\r\n"), REFUSE_bad_byte},
	{"H30 SSLv2 hello", BYTES("\x80\x2e\x01\x03\x01\r\n\r\n"), REFUSE_bad_request_line},
	{"H30 SSH banner", BYTES("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"), REFUSE_bad_request_line},
	{"H30 SSH banner, one word", BYTES("SSH-2.0-Go\r\n"), REFUSE_bad_request_line},
	{"H30 SSH banner, long word", BYTES("SSH-2.0-OpenSSH_for_Windows_9.5-and-more\r\n"), REFUSE_unknown_method},
	{"H30 SMTP", BYTES("EHLO mail.example.com\r\n"), REFUSE_bad_request_line},
	{"H30 64 random bytes", BYTES("\x9a\x01\xb3\xfe\x00\x7c\x55\x21\x8b\xe0\xd9\x42\x6f\x13\x77\xaa"
		"\x0c\x3e\x91\x28\xf0\x65\xcd\x84\x1b\x9f\x50\xe7\x36\x02\xbe\x49"
		"\xd4\x18\xa3\x6c\x5f\xf1\x07\x8e\x23\xbb\x70\x99\x44\x0d\xc6\x3a"
		"\xe5\x2f\x81\x5a\x16\xdc\x68\xb7\x0e\x93\x4b\xfa\x31\x75\xc0\x8d"), REFUSE_bad_request_line},
	{"H32 HTTP/2.0", FIRST("GET /e HTTP/2.0"), REFUSE_bad_version},
	{"H32 HTTP/9.9", FIRST("GET /e HTTP/9.9"), REFUSE_bad_version},
	{"H32 HTTP/0.9", FIRST("GET /e HTTP/0.9"), REFUSE_bad_version},
	{"H32 HTTP/1.2", FIRST("GET /e HTTP/1.2"), REFUSE_bad_version},
	{"H32 HTTP/1.32", FIRST("GET /e HTTP/1.32"), REFUSE_bad_request_line},
	{"H32 HTTP/1.1x", FIRST("GET /e HTTP/1.1x"), REFUSE_bad_request_line},
	{"H32 HTTP/1.", FIRST("GET /e HTTP/1."), REFUSE_bad_request_line},
	{"H32 HTTP/1.x", FIRST("GET /e HTTP/1.x"), REFUSE_bad_request_line},
	{"H32 HTTP/1./", FIRST("GET /e HTTP/1./"), REFUSE_bad_request_line},
	{"H32 HTTP/1,1", FIRST("GET /e HTTP/1,1"), REFUSE_bad_request_line},
	{"H32 HTTP/x.1", FIRST("GET /e HTTP/x.1"), REFUSE_bad_request_line},
	{"H32 http/1.1", FIRST("GET /e http/1.1"), REFUSE_bad_request_line},
	{"H32 HTTQ/1.1", FIRST("GET /e HTTQ/1.1"), REFUSE_bad_request_line},
	{"H32 no version (0.9)", FIRST("GET /e"), REFUSE_bad_request_line},
	{"H32 no version, a space", FIRST("GET /e "), REFUSE_bad_request_line},
	{"H32 method alone", FIRST("GET"), REFUSE_bad_request_line},
	{"two spaces, no target", FIRST("GET  HTTP/1.1"), REFUSE_bad_request_line},
	{"two spaces before the target", FIRST("GET  /e HTTP/1.1"), REFUSE_bad_request_line},
	{"two spaces behind the target", FIRST("GET /e  HTTP/1.1"), REFUSE_bad_request_line},
	{"space behind the version", FIRST("GET /e HTTP/1.1 "), REFUSE_bad_request_line},
	{"space before the method", FIRST(" GET /e HTTP/1.1"), REFUSE_bad_request_line},
	{"space in the target", FIRST("GET /e f HTTP/1.1"), REFUSE_bad_request_line},
	{"tab before the target", FIRST("GET\t/e HTTP/1.1"), REFUSE_bad_request_line},
	{"tab in the target", FIRST("GET /e\tf HTTP/1.1"), REFUSE_bad_request_line},
	{"tab before the method", FIRST("\tGET /e HTTP/1.1"), REFUSE_bad_request_line},
	{"line of one space", BYTES(" \r\n\r\n"), REFUSE_bad_request_line},
	{"H44 PROXY v1", BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET /e HTTP/1.1\r\nHost: a\r\n\r\n"),
		REFUSE_bad_request_line},
	{"H44 PROXY v1 unknown", BYTES("PROXY UNKNOWN\r\nGET /e HTTP/1.1\r\nHost: a\r\n\r\n"), REFUSE_bad_request_line},
	{"H44 PROXY v2", BYTES("\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\xdc\x04\x01\xbb"
		"GET /e HTTP/1.1\r\nHost: a\r\n\r\n"), REFUSE_bad_byte},
};

Test(http, a_host_is_needed_once_and_must_be_one)
{
	EXPECT_REFUSED(bad_hosts);
}

Test(http, a_host_must_be_one_by_the_grammar_of_uris)
{
	EXPECT_REFUSED(bad_hosts_by_grammar);
}

Test(http, malformed_and_repeated_headers_are_refused)
{
	EXPECT_REFUSED(bad_headers);
}

Test(http, a_line_ends_in_cr_lf_and_nothing_else)
{
	EXPECT_REFUSED(bad_line_ends);
}

Test(http, framing_that_two_programs_could_read_differently_is_refused)
{
	EXPECT_REFUSED(bad_framing);
}

Test(http, a_target_is_a_path_a_url_or_a_star)
{
	EXPECT_REFUSED(bad_targets);
}

Test(http, a_url_without_a_host_is_no_target)
{
	EXPECT_REFUSED(bad_target_port_only);
}

Test(http, other_protocols_and_versions_are_refused)
{
	EXPECT_REFUSED(bad_request_lines);
}

/* The byte c in the place of the @. */
static void expect_control_refused(const char *place, struct span in, char c)
{
	struct span copy = exact(in);
	enum refusal expected = c == '\r' || c == '\n' ? REFUSE_bad_line_end : REFUSE_bad_byte, why;
	char name[64];

	snprintf(name, sizeof name, "H12 %s, byte 0x%02x", place, (unsigned)c);
	*(char *)memchr(copy.p, '@', copy.n) = c;
	why = refusal_of(name, copy, &defaults);
	cr_expect(why == expected, "%s: %s, expected %s", name, refused(why), refused(expected));
	exact_free(copy);
}

Test(http, a_control_character_is_refused_wherever_it_stands)
{
	static const struct {
		const char *name;
		struct span in;
	} places[] = {
		{"method", FIRST("GE@T /e HTTP/1.1")},
		{"target", FIRST("GET /e@ HTTP/1.1")},
		{"version", FIRST("GET /e HTTP/1.1@")},
		{"name", LINES("X@Y: te\r\n")},
		{"value", LINES("X: te@st\r\n")},
		{"value's end", LINES("X: te@\r\n")},
	};

	for (size_t i = 0; i < COUNT_OF(places); i++)
		for (int c = 0; c <= 0x7f; c = c == 0x1f ? 0x7f : c + 1)
			if (c != '\t')
				expect_control_refused(places[i].name, places[i].in, (char)c);
}

static bool is_in(const struct bad *rows, size_t count, enum refusal why)
{
	for (size_t i = 0; i < count; i++)
		if (rows[i].why == why)
			return true;
	return false;
}

Test(http, every_refusal_that_a_head_can_get_has_a_row)
{
	static const enum refusal of_parser[] = {
		REFUSE_bad_line_end, REFUSE_bad_byte, REFUSE_bad_request_line, REFUSE_bad_target, REFUSE_bad_header,
		REFUSE_folded_header, REFUSE_no_host, REFUSE_two_hosts, REFUSE_bad_host, REFUSE_repeated_header,
		REFUSE_bad_length, REFUSE_length_and_encoding, REFUSE_encoding_in_http10, REFUSE_unknown_expectation,
		REFUSE_unknown_method, REFUSE_unknown_encoding, REFUSE_bad_version,
		/* target_too_long, head_too_large, too_many_headers: see the limits below */
	};

	for (size_t i = 0; i < COUNT_OF(of_parser); i++)
		cr_expect(is_in(bad_hosts, COUNT_OF(bad_hosts), of_parser[i])
			|| is_in(bad_headers, COUNT_OF(bad_headers), of_parser[i])
			|| is_in(bad_line_ends, COUNT_OF(bad_line_ends), of_parser[i])
			|| is_in(bad_framing, COUNT_OF(bad_framing), of_parser[i])
			|| is_in(bad_targets, COUNT_OF(bad_targets), of_parser[i])
			|| is_in(bad_request_lines, COUNT_OF(bad_request_lines), of_parser[i]),
			"%s", refusal_name(of_parser[i]));
}

Test(http, a_refusal_has_a_name_and_the_status_of_its_rfc)
{
	static const struct {
		enum refusal why;
		const char *name;
		int status;
	} rows[] = {
		{REFUSE_bad_line_end, "bad_line_end", 400}, {REFUSE_bad_byte, "bad_byte", 400},
		{REFUSE_bad_host, "bad_host", 400}, {REFUSE_two_hosts, "two_hosts", 400},
		{REFUSE_length_and_encoding, "length_and_encoding", 400}, {REFUSE_two_tokens, "two_tokens", 400},
		{REFUSE_no_token, "no_token", 401}, {REFUSE_origin_not_allowed, "origin_not_allowed", 403},
		{REFUSE_no_such_path, "no_such_path", 404}, {REFUSE_method_not_allowed, "method_not_allowed", 405},
		{REFUSE_head_timeout, "head_timeout", 408}, {REFUSE_body_not_allowed, "body_not_allowed", 413},
		{REFUSE_target_too_long, "target_too_long", 414},
		{REFUSE_unknown_expectation, "unknown_expectation", 417},
		{REFUSE_head_too_large, "head_too_large", 431}, {REFUSE_too_many_headers, "too_many_headers", 431},
		{REFUSE_unknown_method, "unknown_method", 501}, {REFUSE_unknown_encoding, "unknown_encoding", 501},
		{REFUSE_bad_version, "bad_version", 505}, {REFUSE_draining, "draining", 503},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		cr_expect_str_eq(refusal_name(rows[i].why), rows[i].name);
		cr_expect_eq(refusal_status(rows[i].why), rows[i].status, "%s", rows[i].name);
	}
}

/* ---- heads that are understood ---------------------------------------------------------------- */

/* What is expected of a head; a text that is NULL must be absent. */
struct good {
	const char *name;
	struct span in;
	enum http_method method;
	bool http10, closes, has_body, preflight;
	const char *path, *query, *host;
	const char *origin, *authorization, *last_event_id;
	size_t behind; /* bytes of the input that are not of this head */
};

static const struct good heads[] = {
	{"plain", FIRST("GET /e HTTP/1.1"), .path = "/e", .query = "", .host = "a"},
	{"HEAD", FIRST("HEAD /e HTTP/1.1"), .method = HTTP_HEAD, .path = "/e", .query = "", .host = "a"},
	{"OPTIONS", FIRST("OPTIONS /e HTTP/1.1"), .method = HTTP_OPTIONS, .path = "/e", .query = "", .host = "a"},
	{"POST", FIRST("POST /e HTTP/1.1"), .method = HTTP_KNOWN, .path = "/e", .query = "", .host = "a"},
	{"PUT", FIRST("PUT /e HTTP/1.1"), .method = HTTP_KNOWN, .path = "/e", .query = "", .host = "a"},
	{"DELETE", FIRST("DELETE /e HTTP/1.1"), .method = HTTP_KNOWN, .path = "/e", .query = "", .host = "a"},
	{"PATCH", FIRST("PATCH /e HTTP/1.1"), .method = HTTP_KNOWN, .path = "/e", .query = "", .host = "a"},
	{"TRACE", FIRST("TRACE /e HTTP/1.1"), .method = HTTP_KNOWN, .path = "/e", .query = "", .host = "a"},
	{"query", FIRST("GET /e/?a=1&b=%20 HTTP/1.1"), .path = "/e/", .query = "a=1&b=%20", .host = "a"},
	{"empty query", FIRST("GET /e? HTTP/1.1"), .path = "/e", .query = "", .host = "a"},
	{"query with ? and /", FIRST("GET /e?a?b/c HTTP/1.1"), .path = "/e", .query = "a?b/c", .host = "a"},
	{"H36 path as sent", FIRST("GET /%65?%zz HTTP/1.1"), .path = "/%65", .query = "%zz", .host = "a"},
	{"H37 path tricks as sent", FIRST("GET //e/../\xc3\xa9;x HTTP/1.1"), .path = "//e/../\xc3\xa9;x",
		.query = "", .host = "a"},
	{"empty Host", BYTES("GET /e HTTP/1.1\r\nHost:\r\n\r\n"), .path = "/e", .query = "", .host = ""},
	{"Host and port", BYTES("GET /e HTTP/1.1\r\nHost: a.example:8090\r\n\r\n"), .path = "/e", .query = "",
		.host = "a.example:8090"},
	{"Host, port empty", BYTES("GET /e HTTP/1.1\r\nHost: a:\r\n\r\n"), .path = "/e", .query = "", .host = "a:"},
	{"Host IPv6", BYTES("GET /e HTTP/1.1\r\nHost: [2001:DB8::7f]\r\n\r\n"), .path = "/e", .query = "",
		.host = "[2001:DB8::7f]"},
	{"Host IPv6 and port", BYTES("GET /e HTTP/1.1\r\nHost: [::]:80\r\n\r\n"), .path = "/e", .query = "",
		.host = "[::]:80"},
	{"Host IPv4 in IPv6", BYTES("GET /e HTTP/1.1\r\nHost: [::ffff:192.0.2.1]\r\n\r\n"), .path = "/e", .query = "",
		.host = "[::ffff:192.0.2.1]"},
	{"Host with every mark", BYTES("GET /e HTTP/1.1\r\nHost: a-b._~!$&'()*+;=%2c9\r\n\r\n"), .path = "/e", .query = "",
		.host = "a-b._~!$&'()*+;=%2c9"},
	{"blanks around values", BYTES("GET /e HTTP/1.1\r\nHOST:\t a \t \r\nOrigin:http://o\r\n\r\n"), .path = "/e",
		.query = "", .host = "a", .origin = "http://o"},
	{"empty lines first", BYTES("\r\n\r\nGET /e HTTP/1.1\r\nHost: a\r\n\r\n"), .path = "/e", .query = "", .host = "a"},
	{"every token character in a name", LINES("!#$%&'*+-.^_`|~09azAZ: v\r\n"), .path = "/e", .query = "", .host = "a"},
	{"colons in a value", LINES("X: a:b::c\r\n"), .path = "/e", .query = "", .host = "a"},
	{"the fields that are kept", LINES("Origin: https://o.example\r\nauthorization: Token t\r\n"
		"last-event-id: 1704110400123-0\r\n"), .path = "/e", .query = "", .host = "a",
		.origin = "https://o.example", .authorization = "Token t", .last_event_id = "1704110400123-0"},
	{"fields that are there, but empty", LINES("Origin:\r\nAuthorization: \r\nLast-Event-ID:\t\r\n"), .path = "/e",
		.query = "", .host = "a", .origin = "", .authorization = "", .last_event_id = ""},
	{"H13 latin-1 and UTF-8", LINES("User-Agent: \xe9 \xc3\xa9 \xff\x80\r\n"), .path = "/e", .query = "", .host = "a"},
	{"H13 8-bit blanks are kept", LINES("Authorization: \x85t\xa0 \r\n"), .path = "/e", .query = "", .host = "a",
		.authorization = "\x85t\xa0"},
	{"a tab in a value", LINES("Origin: a\tb\r\n"), .path = "/e", .query = "", .host = "a", .origin = "a\tb"},
	{"H23 body", BYTES("GET /e HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /"), .has_body = true, .path = "/e",
		.query = "", .host = "a", .behind = 5},
	{"H23 body of 10^17 bytes", LINES("Content-Length: 100000000000000000\r\n"), .has_body = true, .path = "/e",
		.query = "", .host = "a"},
	{"Content-Length: 0", LINES("Content-Length: 0\r\n"), .path = "/e", .query = "", .host = "a"},
	{"Content-Length: 000", LINES("Content-Length: 000\r\n"), .path = "/e", .query = "", .host = "a"},
	{"Content-Length: 0 in HTTP/1.0", BYTES("GET /e HTTP/1.0\r\nContent-Length: 01\r\n\r\n"), .http10 = true,
		.closes = true, .has_body = true, .path = "/e", .query = ""},
	{"H20 chunked", BYTES("POST /e HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n"),
		.method = HTTP_KNOWN, .has_body = true, .path = "/e", .query = "", .host = "a", .behind = 5},
	{"H18 chunked, other case, blanks", LINES("transfer-encoding: \tCHUNKED \r\n"), .has_body = true, .path = "/e",
		.query = "", .host = "a"},
	{"H28 URL", FIRST("GET http://b.example:80/e?x=1 HTTP/1.1"), .path = "/e", .query = "x=1",
		.host = "b.example:80"},
	{"H28 URL, https, upper case", FIRST("GET HTTPS://[::1]:1/e HTTP/1.1"), .path = "/e", .query = "",
		.host = "[::1]:1"},
	{"H28 URL, no path", FIRST("GET http://b HTTP/1.1"), .path = "/", .query = "", .host = "b"},
	{"H28 URL, no path, a query", FIRST("GET http://b?x=1/2 HTTP/1.1"), .path = "/", .query = "x=1/2", .host = "b"},
	{"H28 URL in HTTP/1.0, no Host", BYTES("GET http://b/e HTTP/1.0\r\n\r\n"), .http10 = true, .closes = true,
		.path = "/e", .query = "", .host = "b"},
	{"H28 URL in the query", FIRST("GET /e?http://b/ HTTP/1.1"), .path = "/e", .query = "http://b/", .host = "a"},
	{"H29 OPTIONS *", FIRST("OPTIONS * HTTP/1.1"), .method = HTTP_OPTIONS, .path = "*", .query = NULL, .host = "a"},
	{"H31 HTTP/1.0", BYTES("GET /e HTTP/1.0\r\n\r\n"), .http10 = true, .closes = true, .path = "/e", .query = ""},
	{"H31 HTTP/1.0 keep-alive", BYTES("GET /e HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"), .http10 = true,
		.closes = true, .path = "/e", .query = "", .host = "a"},
	{"H34 preflight", BYTES("OPTIONS /e HTTP/1.1\r\nHost: a\r\nOrigin: https://o\r\n"
		"access-control-request-method: GET\r\nAccess-Control-Request-Headers: authorization,last-event-id\r\n\r\n"),
		.method = HTTP_OPTIONS, .preflight = true, .path = "/e", .query = "", .host = "a", .origin = "https://o"},
	{"Connection: close", LINES("Connection: close\r\n"), .closes = true, .path = "/e", .query = "", .host = "a"},
	{"Connection: a list with Close", LINES("connection: keep-alive ,\tClose, x\r\n"), .closes = true, .path = "/e",
		.query = "", .host = "a"},
	{"Connection: closed", LINES("Connection: closed, xclose\r\n"), .path = "/e", .query = "", .host = "a"},
	{"Connection: close, then keep-alive", LINES("Connection: close\r\nConnection: keep-alive\r\n"), .closes = true,
		.path = "/e", .query = "", .host = "a"},
	{"Connection: empty", LINES("Connection:\r\nConnection: ,,\r\n"), .path = "/e", .query = "", .host = "a"},
	{"H39 Last-Event-ID twice", LINES("Last-Event-ID: 1-0\r\nLast-Event-ID: 2-0\r\n"), .path = "/e", .query = "",
		.host = "a", .last_event_id = ""},
	{"H39 Last-Event-ID twice, the same", LINES("Last-Event-ID: 1-0\r\nLast-Event-ID: 1-0\r\n"), .path = "/e",
		.query = "", .host = "a", .last_event_id = ""},
	{"H39 Last-Event-ID twice, first empty", LINES("Last-Event-ID:\r\nLast-Event-ID: 1-0\r\n"), .path = "/e",
		.query = "", .host = "a", .last_event_id = ""},
	{"H39 Last-Event-ID three times", LINES("Last-Event-ID: 0-0\r\nLast-Event-ID: 1-0\r\nlast-event-id: 2-0\r\n"),
		.path = "/e", .query = "", .host = "a", .last_event_id = ""},
	{"H39 Last-Event-ID -1", LINES("Last-Event-ID: -1\r\n"), .path = "/e", .query = "", .host = "a",
		.last_event_id = "-1"},
	{"H41 100-continue", LINES("Expect: 100-Continue\r\n"), .path = "/e", .query = "", .host = "a"},
	{"H41 HTTP/1.0 ignores Expect", BYTES("GET /e HTTP/1.0\r\nExpect: foo\r\n\r\n"), .http10 = true, .closes = true,
		.path = "/e", .query = ""},
	{"H42 Upgrade is ignored", LINES("Upgrade: websocket, h2c\r\nConnection: Upgrade\r\n"), .path = "/e",
		.query = "", .host = "a"},
	{"H24 two at once", BYTES("GET /e HTTP/1.1\r\nHost: a\r\n\r\nGET /f HTTP/1.1\r\nHost: b\r\n\r\n"), .path = "/e",
		.query = "", .host = "a", .behind = 28},
	{"H24 a bad one behind it", BYTES("GET /e HTTP/1.1\r\nHost: a\r\n\r\n\n\0\x16\r"), .path = "/e", .query = "",
		.host = "a", .behind = 4},
	{"H24 the beginning of one behind it", BYTES("GET /e HTTP/1.1\r\nHost: a\r\n\r\n\r\nG"), .path = "/e", .query = "",
		.host = "a", .behind = 3},
};

static void expect_span(const char *name, const char *field, struct span got, const char *expected)
{
	bool same = expected == NULL ? got.p == NULL : got.p != NULL && span_is(got, expected);

	cr_expect(same, "%s: %s is \"%.*s\", expected \"%s\"", name, field, got.p == NULL ? 4 : (int)got.n,
		got.p == NULL ? "none" : got.p, expected == NULL ? "none" : expected);
}

static void expect_fields(const struct good *row, const struct http_request *r)
{
	cr_expect_eq(r->method, row->method, "%s: method %d", row->name, (int)r->method);
	cr_expect_eq(r->http10, row->http10, "%s: http10", row->name);
	cr_expect_eq(r->keep_alive, !row->closes, "%s: keep_alive", row->name);
	cr_expect_eq(r->has_body, row->has_body, "%s: has_body", row->name);
	cr_expect_eq(r->preflight, row->preflight, "%s: preflight", row->name);
	expect_span(row->name, "path", r->path, row->path);
	expect_span(row->name, "query", r->query, row->query);
	expect_span(row->name, "host", r->host, row->host);
	expect_span(row->name, "origin", r->origin, row->origin);
	expect_span(row->name, "authorization", r->authorization, row->authorization);
	expect_span(row->name, "last_event_id", r->last_event_id, row->last_event_id);
}

Test(http, a_good_head_is_understood)
{
	for (size_t i = 0; i < COUNT_OF(heads); i++) {
		struct http_request r;
		struct span copy;
		enum refusal why = read_head(heads[i].name, heads[i].in, &defaults, &r, &copy);

		cr_expect(why == REFUSE_NONE, "%s: %s", heads[i].name, refused(why));
		if (why == REFUSE_NONE)
			expect_fields(&heads[i], &r);
		exact_free(copy);
	}
}

Test(http, the_length_of_a_head_ends_behind_its_empty_line)
{
	for (size_t i = 0; i < COUNT_OF(heads); i++) {
		size_t length = heads[i].in.n - heads[i].behind, used;

		cr_expect_eq(scan_whole(heads[i].in, &defaults), (int)length, "%s", heads[i].name);
		cr_expect_eq(scan_bytewise(heads[i].name, heads[i].in, &defaults, &used), (int)length);
		cr_expect_eq(used, length, "%s: answered after %zu of %zu bytes", heads[i].name, used, length);
	}
}

Test(http, a_head_that_is_not_whole_waits)
{
	for (size_t i = 0; i < COUNT_OF(heads); i++)
		for (size_t k = 0; k + heads[i].behind < heads[i].in.n; k++)
			cr_expect_eq(scan_whole((struct span){heads[i].in.p, k}, &defaults), 0, "%s: %zu bytes",
				heads[i].name, k);
}

Test(http, pipelined_heads_are_read_one_by_one)
{
	static const char text[] = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: b\r\n\r\nGET foo HTTP/1.1\r\n";
	struct span rest = BYTES(text);
	struct http_request r;
	int got = scan_every_way("first", rest, &defaults);

	cr_assert_eq(got, 28);
	cr_assert_eq(http_parse((struct span){rest.p, (size_t)got}, &r), REFUSE_NONE);
	cr_expect(span_is(r.path, "/1") && span_is(r.host, "a"));
	rest = (struct span){rest.p + got, rest.n - (size_t)got};
	got = scan_every_way("second", rest, &defaults);
	cr_assert_eq(got, 31);
	cr_assert_eq(http_parse((struct span){rest.p, (size_t)got}, &r), REFUSE_NONE);
	cr_expect(span_is(r.path, "/2") && span_is(r.host, "b") && r.method == HTTP_HEAD);
	rest = (struct span){rest.p + got, rest.n - (size_t)got};
	cr_expect_eq(scan_every_way("third", rest, &defaults), -REFUSE_bad_target);
}

/* ---- limits (H26) -------------------------------------------------------------------------------- */

/* "GET /xxx HTTP/1.1", the target `target` bytes long, then header lines until the head has `head`
 * bytes. The caller frees it. */
static struct span sized(size_t target, size_t head)
{
	struct buf b = buf_growable();

	buf_text(&b, "GET /");
	while (b.len < 4 + target)
		buf_byte(&b, 'x');
	buf_text(&b, " HTTP/1.1\r\nHost: a\r\nX: ");
	while (b.len + 4 < head)
		buf_byte(&b, 'y');
	buf_text(&b, "\r\n\r\n");
	cr_assert(!b.failed && (head == 0 || b.len == head));
	return buf_view(&b);
}

static void expect_sized(const struct http_limits *limits, size_t target, size_t head, enum refusal expected)
{
	struct span in = sized(target, head);
	char name[64];
	enum refusal why;

	snprintf(name, sizeof name, "H26 target of %zu, head of %zu", target, in.n);
	why = refusal_of(name, in, limits);
	cr_expect(why == expected, "%s: %s, expected %s", name, refused(why), refused(expected));
	free((void *)(uintptr_t)in.p);
}

static void expect_limits(const struct http_limits *limits)
{
	expect_sized(limits, limits->target_bytes, 0, REFUSE_NONE);
	expect_sized(limits, limits->target_bytes + 1, 0, REFUSE_target_too_long);
	expect_sized(limits, limits->target_bytes + 2, 0, REFUSE_target_too_long);
	expect_sized(limits, 2 * limits->head_bytes, 0, REFUSE_target_too_long);
	expect_sized(limits, 5, limits->head_bytes - 1, REFUSE_NONE);
	expect_sized(limits, 5, limits->head_bytes, REFUSE_NONE);
	expect_sized(limits, 5, limits->head_bytes + 1, REFUSE_head_too_large);
	expect_sized(limits, 5, limits->head_bytes + 2, REFUSE_head_too_large);
	expect_sized(limits, 5, limits->head_bytes + 3, REFUSE_head_too_large);
	expect_sized(limits, 5, limits->head_bytes * 2, REFUSE_head_too_large);
	expect_sized(limits, limits->target_bytes, limits->head_bytes, REFUSE_NONE);
}

Test(http, a_target_and_a_head_may_be_as_long_as_their_limits)
{
	expect_limits(&defaults);
	expect_limits(&small);
	expect_limits(&(struct http_limits){301, 65});
}

/* A head of exactly its limit is a head, however it is cut; and bytes behind it do not count. */
Test(http, what_is_pipelined_does_not_count_for_the_limit)
{
	struct span in = sized(5, small.head_bytes);
	char *two = malloc(2 * in.n);

	cr_assert(two != NULL);
	memcpy(two, in.p, in.n);
	memcpy(two + in.n, in.p, in.n);
	cr_expect_eq(scan_every_way("two heads of 300", (struct span){two, 2 * in.n}, &small), 300);
	free(two);
	free((void *)(uintptr_t)in.p);
}

static struct span many_headers(int lines)
{
	struct buf b = buf_growable();

	buf_text(&b, "GET / HTTP/1.1\r\nHost: a\r\n");
	for (int i = 1; i < lines; i++)
		buf_text(&b, "X: y\r\n");
	buf_text(&b, "\r\n");
	return buf_view(&b);
}

Test(http, a_head_has_at_most_100_headers)
{
	static const struct {
		int lines;
		enum refusal why;
	} rows[] = {{100, REFUSE_NONE}, {101, REFUSE_too_many_headers}, {2000, REFUSE_too_many_headers}};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct span in = many_headers(rows[i].lines);
		enum refusal why = refusal_of("H26 headers", in, &defaults);

		cr_expect(why == rows[i].why, "%d headers: %s", rows[i].lines, refused(why));
		free((void *)(uintptr_t)in.p);
	}
}

static struct span repeated(const char *before, const char *piece, size_t bytes, const char *behind)
{
	struct buf b = buf_growable();

	buf_text(&b, before);
	for (size_t from = b.len; b.len - from < bytes;)
		buf_text(&b, piece);
	buf_text(&b, behind);
	return buf_view(&b);
}

/* before, then piece again and again, then behind. */
static void expect_repeated(const char *name, const char *before, const char *piece, size_t bytes,
	const char *behind, const struct http_limits *limits, enum refusal expected)
{
	struct span in = repeated(before, piece, bytes, behind);
	enum refusal why = refusal_of(name, in, limits);

	cr_expect(why == expected, "%s: %s, expected %s", name, refused(why), refused(expected));
	free((void *)(uintptr_t)in.p);
}

Test(http, long_things_are_refused_for_their_length)
{
	static const char head[] = "GET / HTTP/1.1\r\nHost: a\r\n";

	expect_repeated("H26 9 KB target", "GET /", "x", 9000, " HTTP/1.1\r\n\r\n", &defaults, REFUSE_target_too_long);
	expect_repeated("H26 9 KB target, no end", "GET /", "x", 9000, "", &defaults, REFUSE_target_too_long);
	expect_repeated("H26 URL of 9 KB", "GET http://a/", "x", 9000, " HTTP/1.1\r\n\r\n", &defaults,
		REFUSE_target_too_long);
	expect_repeated("H26 9 KB header", head, "X", 9000, ": y\r\n\r\n", &defaults, REFUSE_NONE);
	expect_repeated("H26 20 KB header", head, "X", 20000, ": y\r\n\r\n", &defaults, REFUSE_head_too_large);
	expect_repeated("H26 20 KB header, no end", head, "X", 20000, "", &defaults, REFUSE_head_too_large);
	expect_repeated("H30 10 KB method", "", "M", 10240, " / HTTP/1.1\r\n\r\n", &defaults, REFUSE_unknown_method);
	expect_repeated("H30 10 KB method, no end", "", "M", 10240, "", &defaults, REFUSE_unknown_method);
	expect_repeated("H30 10 KB of no method", "", "M(", 10240, "", &defaults, REFUSE_bad_request_line);
	expect_repeated("H39 Last-Event-ID of 10 KB", head, "Last-Event-ID: 1-0", 10, "\r\n\r\n", &defaults, REFUSE_NONE);
	expect_repeated("H44 X-Forwarded-For with 1,000 entries", "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: ",
		"192.0.2.1,", 10000, "junk\r\n\r\n", &defaults, REFUSE_NONE);
	expect_repeated("empty lines, no end", "", "\r\n", 20000, "", &defaults, REFUSE_head_too_large);
	expect_repeated("empty lines, small limit", "", "\r\n", 310, "", &small, REFUSE_head_too_large);
}

/* An odd limit falls between the CR and the LF of an empty line. */
Test(http, empty_lines_around_an_odd_limit_are_too_large)
{
	static const struct http_limits odd = {257, 64};

	expect_repeated("empty lines, odd limit", "", "\r\n", 258, "", &odd, REFUSE_head_too_large);
	expect_repeated("empty lines, odd limit, more", "", "\r\n", 400, "", &odd, REFUSE_head_too_large);
	expect_repeated("empty lines, odd limit, a request", "", "\r\n", 258, "GET / HTTP/1.1\r\n\r\n", &odd,
		REFUSE_head_too_large);
}

/* H1: what is wrong first decides, not how the bytes were cut. */
Test(http, a_line_that_is_too_long_is_that_whatever_stands_behind_it)
{
	expect_repeated("long target, then NUL", "GET /", "x", 9000, "\x01", &defaults, REFUSE_target_too_long);
	expect_repeated("long target, then bare LF", "GET /", "x", 9000, "\nHost: a\n\n", &defaults,
		REFUSE_target_too_long);
	expect_repeated("long target, then bare CR", "GET /", "x", 9000, "\rX", &defaults, REFUSE_target_too_long);
	expect_repeated("long method, then bare LF", "", "M", 33, " / HTTP/1.1\n\n", &defaults, REFUSE_unknown_method);
	expect_repeated("long method, then a control", "", "M", 33, "\x7f / HTTP/1.1\r\n", &defaults,
		REFUSE_unknown_method);
	expect_repeated("long SSH banner, bare LF", "SSH-2.0-", "x", 30, "\n", &defaults, REFUSE_unknown_method);
}

/* ---- errors come early ------------------------------------------------------------------------------ */

Test(http, a_refusal_comes_with_the_byte_that_shows_it)
{
	static const struct {
		const char *name;
		struct span in;
		size_t used; /* bytes that must be enough */
		enum refusal why;
	} rows[] = {
		{"H11 bare CR in the request line", BYTES("GET / \rX"), 8, REFUSE_bad_line_end},
		{"H11 bare CR in a header", BYTES("GET / HTTP/1.1\r\nA: \rX"), 21, REFUSE_bad_line_end},
		{"H11 CR LF CR X", BYTES("GET / HTTP/1.1\r\n\rX"), 18, REFUSE_bad_line_end},
		{"H10 bare LF", BYTES("GET / HTTP/1.1\n"), 15, REFUSE_bad_line_end},
		{"H12 NUL", BYTES("GET / HTTP/1.1\r\nA: \0b"), 20, REFUSE_bad_byte},
		{"H30 TLS ClientHello", BYTES("\x16\x03\x01\x02"), 1, REFUSE_bad_byte},
		{"H30 SSLv2 hello", BYTES("\x80\x2e\x01\x03"), 1, REFUSE_bad_request_line},
		{"H30 blank first", BYTES(" GET"), 1, REFUSE_bad_request_line},
		{"H30 JSON", BYTES("{\"event\":"), 1, REFUSE_bad_request_line},
		{"H30 SSH banner", BYTES("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), 32, REFUSE_bad_request_line},
		{"H30 SSH banner, one word", BYTES("SSH-2.0-Go\r\n"), 12, REFUSE_bad_request_line},
		{"H30 HTTP/2 preface", BYTES("PRI * HTTP/2.0\r\n\r\nSM"), 16, REFUSE_bad_version},
		{"H30 unknown method", BYTES("get / HTTP/1.1\r\nHost: a\r\n"), 16, REFUSE_unknown_method},
		{"H29 GET foo", BYTES("GET foo HTTP/1.1\r\nHost: a\r\n"), 18, REFUSE_bad_target},
		{"H44 PROXY v1", BYTES("PROXY UNKNOWN\r\nGET /"), 15, REFUSE_bad_request_line},
		{"H44 PROXY v2", BYTES("\r\n\r\n\0\r\nQUIT\n\x21"), 5, REFUSE_bad_byte},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		size_t used;
		int got = scan_bytewise(rows[i].name, rows[i].in, &defaults, &used);

		cr_expect(got == -(int)rows[i].why, "%s: %s", rows[i].name, named(got));
		cr_expect_eq(used, rows[i].used, "%s: after %zu bytes, expected %zu", rows[i].name, used, rows[i].used);
	}
}

static void expect_at(const char *name, struct span in, enum refusal why, size_t least, size_t most)
{
	size_t used;
	int got = scan_bytewise(name, in, &defaults, &used);

	cr_expect(got == -(int)why, "%s: %s", name, named(got));
	cr_expect(used >= least && used <= most, "%s: after %zu bytes", name, used);
	free((void *)(uintptr_t)in.p);
}

Test(http, what_is_too_long_is_refused_before_its_end)
{
	expect_at("10 KB method", repeated("", "M", 10240, " / HTTP/1.1\r\n"), REFUSE_unknown_method, 8, 64);
	expect_at("10 KB target", repeated("GET /", "x", 10240, " HTTP/1.1\r\n"), REFUSE_target_too_long, 8197, 8224);
	expect_at("20 KB header", repeated("GET / HTTP/1.1\r\nX: ", "x", 20000, "\r\n\r\n"), REFUSE_head_too_large,
		16385, 16385);
	expect_at("101st header", many_headers(200), REFUSE_too_many_headers, 16 + 9 + 99 * 6 + 1, 16 + 9 + 100 * 6);
}

/* ---- mutations --------------------------------------------------------------------------------------- */

/* Changes, cuts out or doubles a byte or two of a head. */
static struct span mutated(struct span in, char *out, size_t cap, uint64_t *state)
{
	static const char bytes[] = "\r\n \t:/?%#*,[]@\0\x7f\x80Hh1";
	struct span made = {out, in.n < cap / 2 ? in.n : cap / 2};

	memcpy(out, in.p, made.n);
	for (uint32_t n = random_below(state, 3) + 1; n > 0 && made.n > 1; n--) {
		size_t at = random_below(state, (uint32_t)made.n);

		switch (random_below(state, 3)) {
		case 0:
			out[at] = bytes[random_below(state, sizeof bytes)];
			break;
		case 1:
			memmove(out + at, out + at + 1, --made.n - at);
			break;
		default:
			memmove(out + at + 1, out + at, made.n++ - at);
		}
	}
	return made;
}

/* The same answer however cut, and http_parse takes what http_scan measured without a bad read. */
static void expect_read_alike(int number, struct span in, const struct http_limits *limits)
{
	struct http_request r;
	size_t used;
	int whole = scan_whole(in, limits), got = scan_bytewise("mutation", in, limits, &used);
	struct span copy = exact((struct span){in.p, whole > 0 ? (size_t)whole : 0});

	if (whole > 0)
		http_parse(copy, &r);
	exact_free(copy);
	cr_assert(got == whole, "mutation %d: %s bytewise, %s whole: %.*s", number, named(got), named(whole),
		(int)in.n, in.p);
}

Test(http, mutated_heads_are_read_the_same_whole_and_bytewise)
{
	static const struct http_limits tiny = {96, 40};
	uint64_t state = 20240101;

	for (int i = 0; i < 20000; i++) {
		char bytes[1024];
		struct span in = mutated(heads[(size_t)i % COUNT_OF(heads)].in, bytes, sizeof bytes, &state);

		expect_read_alike(i, in, i % 3 == 0 ? &tiny : &small);
	}
}

/* ---- escapes and parameters ---------------------------------------------------------------------------- */

static const struct {
	const char *name;
	struct span in;
	const char *out; /* NULL: refused */
} escapes[] = {
	{"empty", BYTES(""), ""},
	{"nothing to do", BYTES("abc/?=&;"), "abc/?=&;"},
	{"H36 + stays", BYTES("a+b%2b"), "a+b+"},
	{"upper and lower case", BYTES("%2f%2F%c3%A9"), "//\xc3\xa9"},
	{"first and last that are allowed", BYTES("%20%7e%80%ff"), " ~\x80\xff"},
	{"H36 once only", BYTES("%2541"), "%41"},
	{"8-bit as sent", BYTES("\xc3\xa9\xff"), "\xc3\xa9\xff"},
	{"H36 %zz", BYTES("%zz"), NULL},
	{"H36 first digit only", BYTES("a%4z"), NULL},
	{"H36 second digit only", BYTES("a%z4"), NULL},
	{"H36 % at the end", BYTES("a%"), NULL},
	{"H36 %4 at the end", BYTES("a%4"), NULL},
	{"% behind a good one", BYTES("%41%"), NULL},
	{"%%41", BYTES("%%41"), NULL},
	{"signs are no digits", BYTES("%+1"), NULL},
	{"blanks are no digits", BYTES("% 1"), NULL},
	{"0x is no digit", BYTES("%0x41"), NULL},
	{"first letter that is none", BYTES("%4g"), NULL},
	{"H36 %00", BYTES("%00"), NULL},
	{"H36 %0d%0a", BYTES("a%0d%0ab"), NULL},
	{"%09", BYTES("%09"), NULL},
	{"%1f", BYTES("%1f"), NULL},
	{"%7f", BYTES("%7f"), NULL},
};

Test(http, escapes_are_undone_once_and_control_characters_refused)
{
	for (size_t i = 0; i < COUNT_OF(escapes); i++) {
		struct buf out = buf_growable();
		struct span in = exact(escapes[i].in);
		bool good = http_unescape(in, &out);

		cr_expect_eq(good, escapes[i].out != NULL, "%s", escapes[i].name);
		if (good && escapes[i].out != NULL)
			cr_expect(span_is(buf_view(&out), escapes[i].out), "%s: \"%.*s\"", escapes[i].name, (int)out.len,
				out.len > 0 ? out.data : "");
		exact_free(in);
		buf_free(&out);
	}
}

Test(http, escapes_can_be_checked_without_a_place_for_the_bytes)
{
	for (size_t i = 0; i < COUNT_OF(escapes); i++) {
		struct span in = exact(escapes[i].in);

		cr_expect_eq(http_unescape(in, NULL), escapes[i].out != NULL, "%s", escapes[i].name);
		exact_free(in);
	}
}

/* A cut never reads behind the block, and undoes what is whole. */
Test(http, every_beginning_of_an_escape_is_undone_or_refused)
{
	static const struct span whole = BYTES("a%41%c3%a9b");

	for (size_t k = 0; k <= whole.n; k++) {
		struct buf out = buf_growable();
		struct span in = exact((struct span){whole.p, k});
		bool good = k == 0 || k == whole.n || (k - 1) % 3 == 0;

		cr_expect_eq(http_unescape(in, &out), good, "%zu bytes", k);
		exact_free(in);
		buf_free(&out);
	}
}

Test(http, unescaped_bytes_are_appended)
{
	char bytes[8];
	struct buf out = buf_fixed(bytes, sizeof bytes);

	buf_text(&out, "ab");
	cr_expect(http_unescape(span_of("%63d"), &out));
	cr_expect(span_is(buf_view(&out), "abcd"));
	cr_expect(http_unescape(span_of("efghi"), &out));
	cr_expect(out.failed);
}

static const struct {
	const char *name;
	struct span query;
	int found;
	const char *value;
} parameters[] = {
	{"empty query", BYTES(""), 0, ""},
	{"alone", BYTES("token=T"), 1, "T"},
	{"first", BYTES("token=T&a=b"), 1, "T"},
	{"in the middle", BYTES("a=b&token=T&c"), 1, "T"},
	{"last", BYTES("a=b&token=T"), 1, "T"},
	{"not there", BYTES("a=b&c=d"), 0, ""},
	{"empty value", BYTES("token="), 1, ""},
	{"no =", BYTES("token"), 1, ""},
	{"no =, others around", BYTES("a&token&b"), 1, ""},
	{"value with =", BYTES("token=a=b=="), 1, "a=b=="},
	{"empty pairs", BYTES("&&token=T&&"), 1, "T"},
	{"empty name", BYTES("=T&token=U"), 1, "U"},
	{"H36 + stays", BYTES("token=a+b"), 1, "a+b"},
	{"escaped value", BYTES("token=a%26b%3d%25"), 1, "a&b=%"},
	{"escaped name", BYTES("%74oke%6E=T"), 1, "T"},
	{"escaped = in the name", BYTES("token%3dT=U"), 0, ""},
	{"escaped & in the name", BYTES("a%26token=T"), 0, ""},
	{"other case", BYTES("Token=T&TOKEN=T"), 0, ""},
	{"longer name", BYTES("tokens=T&xtoken=T"), 0, ""},
	{"name of 40 bytes that begins with it", BYTES("tokentokentokentokentokentokentokentoken=T"), 0, ""},
	{"name of 40 bytes before it", BYTES("abcdefghijabcdefghijabcdefghijabcdefghij=T&token=U"), 1, "U"},
	{"shorter name", BYTES("toke=T&t=token"), 0, ""},
	{"array form", BYTES("token[]=T"), 0, ""},
	{"semicolon parts nothing", BYTES("a=b;token=T"), 0, ""},
	{"? parts nothing", BYTES("?token=T"), 0, ""},
	{"8-bit value", BYTES("token=\xc3\xa9%c3%a9"), 1, "\xc3\xa9\xc3\xa9"},
	{"H38 twice", BYTES("token=T&token=U"), 2, NULL},
	{"H38 twice, the same", BYTES("token=T&token=T"), 2, NULL},
	{"H38 twice, one escaped", BYTES("token=T&%74oken=U"), 2, NULL},
	{"H38 twice, one empty", BYTES("token&token=U"), 2, NULL},
	{"H38 three times", BYTES("token=&a&token=&token="), 3, NULL},
	{"H36 bad escape in it", BYTES("token=%zz"), -1, NULL},
	{"H36 bad escape in its name", BYTES("token%=a"), -1, NULL},
	{"H36 %00 in it", BYTES("token=%00"), -1, NULL},
	{"H36 line end in it", BYTES("token=a%0d%0aX"), -1, NULL},
	{"H36 bad escape in another value before", BYTES("a=%&token=T"), -1, NULL},
	{"H36 bad escape in another value behind", BYTES("token=T&a=%4"), -1, NULL},
	{"H36 bad escape in a long name", BYTES("token=T&abcdefghijabcdefghijabcdefghijabcdefghij%zz=a"), -1, NULL},
	{"H36 bad escape in another name", BYTES("token=T&%zz=a"), -1, NULL},
	{"H36 double encoding", BYTES("token=%2500"), 1, "%00"},
};

Test(http, a_parameter_is_counted_and_unescaped)
{
	for (size_t i = 0; i < COUNT_OF(parameters); i++) {
		struct buf out = buf_growable();
		struct span query = exact(parameters[i].query);
		int found = http_parameter(query, "token", &out);

		cr_expect_eq(found, parameters[i].found, "%s: %d", parameters[i].name, found);
		if (parameters[i].value != NULL)
			cr_expect(span_is(buf_view(&out), parameters[i].value), "%s: \"%.*s\"", parameters[i].name,
				(int)out.len, out.len > 0 ? out.data : "");
		exact_free(query);
		buf_free(&out);
	}
}

Test(http, a_parameter_is_appended)
{
	struct buf out = buf_growable();

	buf_text(&out, "id=");
	cr_expect_eq(http_parameter(span_of("a=xyz&lastEventId=1-0&b=xyz"), "lastEventId", &out), 1);
	cr_expect(span_is(buf_view(&out), "id=1-0"));
	buf_free(&out);
}

Test(http, there_is_no_parameter_in_no_query)
{
	struct buf out = buf_growable();

	cr_expect_eq(http_parameter((struct span){NULL, 0}, "token", &out), 0);
	cr_expect_eq(out.len, 0);
	buf_free(&out);
}

Test(http, a_bearer_is_one_word_behind_bearer_or_token)
{
	static const struct {
		const char *name;
		struct span in;
		const char *token;
	} rows[] = {
		{"Bearer", BYTES("Bearer abc.def.ghi"), "abc.def.ghi"},
		{"Token", BYTES("Token abc"), "abc"},
		{"any case", BYTES("bEARER abc"), "abc"},
		{"TOKEN", BYTES("TOKEN abc"), "abc"},
		{"more spaces (RFC 9110 11.4)", BYTES("Bearer   abc"), "abc"},
		{"every token68", BYTES("Bearer aZ09-._~+/=="), "aZ09-._~+/=="},
		{"not unescaped", BYTES("Bearer a%20b"), "a%20b"},
		{"empty", BYTES(""), NULL},
		{"scheme alone", BYTES("Bearer"), NULL},
		{"scheme and a space", BYTES("Bearer "), NULL},
		{"two words", BYTES("Bearer a b"), NULL},
		{"two words by tab", BYTES("Bearer a\tb"), NULL},
		{"tab behind the scheme", BYTES("Bearer\tabc"), NULL},
		{"Basic", BYTES("Basic dXNlcjpwYXNz"), NULL},
		{"Bearerx", BYTES("Bearerx abc"), NULL},
		{"Beare", BYTES("Beare abc"), NULL},
		{"token alone", BYTES("abc"), NULL},
		{"space first", BYTES(" Bearer abc"), NULL},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct span in = exact(rows[i].in);

		expect_span(rows[i].name, "token", http_bearer(in), rows[i].token);
		exact_free(in);
	}
}

Test(http, there_is_no_bearer_without_authorization)
{
	cr_expect_null(http_bearer((struct span){NULL, 0}).p);
}

/* ---- dates ----------------------------------------------------------------------------------------------- */

static void expect_date(int64_t unix_s, const char *expected)
{
	char text[32];
	struct buf b = buf_fixed(text, sizeof text);

	http_date(&b, unix_s);
	cr_expect(!b.failed && span_is(buf_view(&b), expected), "%lld: \"%.*s\", expected \"%s\"",
		(long long)unix_s, (int)b.len, text, expected);
}

Test(http, a_date_is_in_gmt_and_in_english)
{
	setenv("TZ", "America/New_York", 1);
	setenv("LC_ALL", "ru_RU.UTF-8", 1);
	expect_date(784111777, "Sun, 06 Nov 1994 08:49:37 GMT");
	expect_date(0, "Thu, 01 Jan 1970 00:00:00 GMT");
	expect_date(951782399, "Mon, 28 Feb 2000 23:59:59 GMT");
	expect_date(951782400, "Tue, 29 Feb 2000 00:00:00 GMT");
	expect_date(1704110400, "Mon, 01 Jan 2024 12:00:00 GMT");
	expect_date(2147483648, "Tue, 19 Jan 2038 03:14:08 GMT");
	expect_date(4107542400, "Mon, 01 Mar 2100 00:00:00 GMT");
	expect_date(253402300799, "Fri, 31 Dec 9999 23:59:59 GMT");
}

Test(http, every_day_of_four_years_has_its_date)
{
	for (int64_t day = 0; day < 4 * 366; day++) {
		time_t when = (time_t)(1704067199 + day * 86399);
		char expected[64];
		struct tm t;

		gmtime_r(&when, &t);
		strftime(expected, sizeof expected, "%a, %d %b %Y %H:%M:%S GMT", &t);
		expect_date(when, expected);
	}
}
