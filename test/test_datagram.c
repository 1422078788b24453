/* test_datagram.c - what Django says, and what it gets back. */
#include "vectors.h"
#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const tokens = "boss 1 manager\nfore 789 foreman\nboth 5 manager,foreman\nneg -1 x\nname ivan y\n";

#define NAME64 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_."

static void expect_ok(const char *text, uint32_t matched)
{
	const char *ack = django_says(text);
	char end[40];

	snprintf(end, sizeof end, "\",\"matched\":%u}", matched);
	cr_assert(strncmp(ack, "{\"ok\":true,\"id\":\"", 17) == 0 && strstr(ack, end) != NULL, "%s: %s", text, ack);
}

static void expect_error(const char *text, const char *error, int at)
{
	const char *ack = django_says(text);
	char wanted[512];
	struct buf b = buf_fixed(wanted, sizeof wanted - 1);

	buf_text(&b, "{\"ok\":false,\"error\":");
	json_write_string(&b, span_of(error));
	buf_text(&b, ",\"at\":");
	buf_number(&b, at);
	buf_byte(&b, '}');
	wanted[b.len] = '\0';
	cr_assert_str_eq(ack, wanted, "%s: %s, not %s", text, ack, wanted);
}

/* ---- events ---- */

Test(datagram, an_event_goes_to_its_role_once)
{
	int boss, fore;

	world_start(tokens, NULL);
	boss = stream_open("boss");
	fore = stream_open("fore");
	cr_assert_str_eq(django_says("{\"event\":\"estimate.created\",\"data\":{\"estimate_id\":123},"
		"\"to\":{\"users\":[1,\"1\"],\"roles\":[\"manager\"]}}"),
		"{\"ok\":true,\"id\":\"1704110400000-1\",\"matched\":1}");
	cr_assert_str_eq(client_hears_frames(boss), "id: 1704110400000-1\n"
		"data: {\"event\":\"estimate.created\",\"data\":{\"estimate_id\":123},\"timestamp\":1704110400}\n\n");
	cr_assert_str_eq(client_hears_frames(fore), "");
	world_stop();
}

Test(datagram, A14_an_audience_is_users_and_roles_or_all)
{
	static const struct {
		const char *to;
		uint32_t matched;
	} rows[] = {
		{"\"all\"", 6}, {"{\"roles\":[\"manager\"]}", 3}, {"{\"roles\":[\"manager\",\"foreman\"]}", 4},
		{"{\"roles\":[\"manager\",\"foreman\"],\"users\":[5,1]}", 4}, {"{\"users\":[1]}", 2}, {"{\"users\":[\"1\"]}", 2},
		{"{\"users\":[1,1,\"1\",\"\\u0031\"]}", 2}, {"{\"users\":[-1]}", 1}, {"{\"users\":[\"-1\"]}", 1}, {"{\"users\":[\"ivan\"]}", 1},
		{"{\"users\":[\"Ivan\"]}", 0}, {"{\"users\":[11]}", 0}, {"{\"users\":[\"01\"]}", 0}, {"{\"roles\":[\"nobody\"]}", 0},
		{"{\"roles\":[\"man\",\"managers\",\"\\u006danager\"]}", 3}, {"{\"users\":[ 1 , 789 ] , \"roles\" : []}", 3},
		{"{\"users\":[],\"roles\":[\"x\"]}", 1}, {"\"\\u0061ll\"", 6},
		{"{\"users\":[9007199254740993,123456789012345678901234567890]}", 0},
		{"{\"users\":[\"" NAME64 "\"]}", 0},
	};
	char text[512];

	world_start(tokens, NULL);
	stream_open("boss"), stream_open("boss"), stream_open("fore");
	stream_open("both"), stream_open("neg"), stream_open("name");
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		snprintf(text, sizeof text, "{\"event\":\"a\",\"data\":1,\"to\":%s}", rows[i].to);
		expect_ok(text, rows[i].matched);
	}
	world_stop();
}

Test(datagram, except_leaves_users_out)
{
	int boss, fore;

	world_start(tokens, NULL);
	boss = stream_open("boss");
	stream_open("boss");
	fore = stream_open("fore");
	expect_ok("{\"event\":\"a\",\"data\":1,\"to\":\"all\",\"except\":{\"users\":[1]}}", 1);
	expect_ok("{\"event\":\"a\",\"data\":1,\"to\":{\"users\":[1,789]},\"except\":{\"users\":[\"1\"]}}", 1);
	expect_ok("{\"except\":{\"users\":[\"1\",789,\"nobody\"]},\"event\":\"a\",\"data\":1,\"to\":{\"roles\":[\"manager\",\"foreman\"]}}", 0);
	expect_ok("{\"event\":\"a\",\"data\":1,\"to\":\"all\",\"except\":{\"users\":[]}}", 3);
	expect_ok("{\"event\":\"a\",\"data\":1,\"to\":\"all\",\"except\":{}}", 3);
	expect_ok("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}", 3);
	cr_assert_str_eq(strstr(client_hears(boss), "-4\n") + 3, "data: {\"event\":\"a\",\"data\":1,\"timestamp\":1704110400}\n\n\r\n"
		"49\r\nid: 1704110400000-5\ndata: {\"event\":\"a\",\"data\":1,\"timestamp\":1704110400}\n\n\r\n"
		"49\r\nid: 1704110400000-6\ndata: {\"event\":\"a\",\"data\":1,\"timestamp\":1704110400}\n\n\r\n");
	cr_assert_neq(client_hears(fore)[0], '\0');
	world_stop();
}

Test(datagram, D7_S1_S8_data_is_sent_on_compactly_and_otherwise_untouched)
{
	static const struct {
		const char *data, *sent;
	} rows[] = {
		{" { \"a\" : [ 1 , 2.50 , -0 , 1E400 ] , \"a\" : null } ", "{\"a\":[1,2.50,-0,1E400],\"a\":null}"},
		{"\"\\u0041\\ud800 \\/ \xd0\xb8\xe2\x80\xa8\"", "\"\\u0041\\ud800 \\/ \xd0\xb8\xe2\x80\xa8\""},
		{"true", "true"}, {"null", "null"}, {"\"\"", "\"\""}, {"12345678901234567890123", "12345678901234567890123"},
		{"{}", "{}"}, {"[]", "[]"}, {"\"data: \\n\\nid: 7\"", "\"data: \\n\\nid: 7\""},
	};
	char text[512], wanted[512];
	int fd;

	world_start(tokens, NULL);
	fd = stream_open("boss");
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		snprintf(text, sizeof text, "{\"event\":\"a\",\"data\":%s,\"to\":\"all\",\"timestamp\":0}", rows[i].data);
		expect_ok(text, 1);
		snprintf(wanted, sizeof wanted, "id: 1704110400000-%zu\ndata: {\"event\":\"a\",\"data\":%s,\"timestamp\":0}\n\n", i + 1, rows[i].sent);
		cr_assert_str_eq(client_hears_frames(fd), wanted);
	}
	world_stop();
}

Test(datagram, a_name_has_up_to_64_letters)
{
	int fd;

	world_start(tokens, NULL);
	fd = stream_open("boss");
	expect_ok("{\"event\":\"" NAME64 "\",\"data\":1,\"to\":\"all\",\"timestamp\":9007199254740992}", 1);
	cr_assert_str_eq(client_hears_frames(fd), "id: 1704110400000-1\ndata: {\"event\":\"" NAME64 "\",\"data\":1,\"timestamp\":9007199254740992}\n\n");
	expect_ok("{\"event\":\"a:b-c\",\"data\":1,\"to\":\"all\"}", 1);
	expect_ok("{\"\\u0065vent\":\"\\u0061\",\"data\":1,\"to\":\"all\"}", 1);
	world_stop();
}

Test(datagram, R21_ids_rise_also_when_the_clock_goes_back)
{
	world_start(tokens, NULL);
	world_pass(50);
	cr_assert_str_eq(django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}"), "{\"ok\":true,\"id\":\"1704110400050-0\",\"matched\":0}");
	world.wall_ms -= 3600000;
	cr_assert_str_eq(django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}"), "{\"ok\":true,\"id\":\"1704110400050-1\",\"matched\":0}");
	world_pass(1000);
	cr_assert_str_eq(django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}"), "{\"ok\":true,\"id\":\"1704110400050-2\",\"matched\":0}");
	world.wall_ms += 3600000;
	cr_assert_str_eq(django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}"), "{\"ok\":true,\"id\":\"1704110401050-0\",\"matched\":0}");
	world_stop();
}

/* ---- operations ---- */

Test(datagram, ping_tells_the_newest_id_and_the_streams)
{
	world_start(tokens, NULL);
	cr_assert_str_eq(django_says("{\"op\":\"ping\"}"), "{\"ok\":true,\"id\":\"1704110400000-0\",\"matched\":0}");
	stream_open("boss");
	stream_open("fore");
	django_says("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}");
	log_hears();
	cr_assert_str_eq(django_says(" {\"op\" : \"ping\"}\r"), "{\"ok\":true,\"id\":\"1704110400000-1\",\"matched\":2}");
	cr_assert_str_eq(log_hears(), "", "a ping is nothing to write down");
	world_stop();
}

Test(datagram, revoke_ends_a_users_streams)
{
	int a, b, fore;

	world_start(tokens, NULL);
	a = stream_open("boss");
	b = stream_open("boss");
	fore = stream_open("fore");
	log_hears();
	expect_ok("{\"op\":\"revoke\",\"user\":1}", 2);
	cr_assert_str_eq(client_hears_frames(a), "data: {\"event\":\"auth.revoked\"}\n\n[end]");
	cr_assert_str_eq(client_hears_frames(b), "data: {\"event\":\"auth.revoked\"}\n\n[end]");
	cr_assert_str_eq(client_hears_frames(fore), "");
	cr_assert_not_null(strstr(log_hears(), " app=SSE level=info msg=revoke user=1 matched=2\n"));
	expect_ok("{\"op\":\"revoke\",\"user\":\"1\"}", 0);
	expect_ok("{\"op\":\"revoke\",\"user\":\"nobody\"}", 0);
	expect_ok("{\"op\":\"revoke\",\"sid\":\"abc\"}", 0);
	cr_assert_not_null(strstr(log_hears(), " msg=revoke by=sid matched=0\n"));
	expect_ok("{\"event\":\"a\",\"data\":1,\"to\":\"all\"}", 1);
	cr_assert_eq(world.server->online.count, 1);
	world_stop();
}

/* ---- mistakes ---- */

#define KEYS "unknown key: there are event, data, to, except, timestamp; op, user, sid"
#define WHOLE "\"event\":\"a\",\"data\":1,\"to\":\"all\""

static const struct mistake {
	const char *text, *error;
	int at;
} mistakes[] = {
	{"x", "expected an object", 0},
	{"[]", "expected an object", 0},
	{"\xef\xbb\xbf{}", "expected an object", 0},
	{"\"all\"", "expected an object", 0},
	{"{", "expected a string", 1},
	{"{}", "event: missing", 0},
	{"{" WHOLE "} x", "expected the end of the line", 34},
	{"{" WHOLE "}{" WHOLE "}", "expected the end of the line", 33},
	{"{" WHOLE, "expected , or }", 32},
	{"{" WHOLE ",}", "expected a string", 33},
	{"{\"event\" \"a\"}", "expected :", 9},
	{"{\"data\":1,\"to\":\"all\"}", "event: missing", 0},
	{"{\"event\":\"a\",\"to\":\"all\"}", "data: missing", 0},
	{"{\"event\":\"a\",\"data\":1}", "to: missing; for everybody say \"all\"", 0},
	{"{" WHOLE ",\"evil\":1}", KEYS, 33},
	{"{" WHOLE ",\"Event\":1}", KEYS, 33},
	{"{" WHOLE ",\"a_key_that_is_longer_than_any\":1}", KEYS, 33},
	{"{" WHOLE ",\"\":1}", KEYS, 33},
	{"{" WHOLE ", \"event\":\"b\"}", "this key is given twice", 34},
	/* event */
	{"{\"event\":1}", "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -", 9},
	{"{\"event\":\"\"}", "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -", 9},
	{"{\"event\":\"a b\"}", "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -", 9},
	{"{\"event\":\"a\\n\"}", "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -", 9},
	{"{\"event\":\"a\\u0000\"}", "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -", 9},
	{"{\"event\":\"\xd0\xb8\"}", "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -", 9},
	{"{\"event\":\"" NAME64 "x\"}", "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -", 9},
	{"{\"event\":null}", "event: expected 1 to 64 of A-Z a-z 0-9 _ . : -", 9},
	{"{\"event\":\"a", "event: expected a closing quote", 11},
	{"{\"event\":\"\\ud800\"}", "event: half of a surrogate pair", 10},
	{"{\"event\":\"\\ud800\\u0041\"}", "event: half of a surrogate pair", 10},
	/* data */
	{"{\"data\":}", "data: expected a value", 8},
	{"{\"data\":NaN}", "data: expected a value", 8},
	{"{\"data\":-Infinity}", "data: expected a digit", 9},
	{"{\"data\":01}", "expected , or }", 9},
	{"{\"data\":1.}", "data: expected a digit", 10},
	{"{\"data\":[1,]}", "data: expected a value", 11},
	{"{\"data\":{\"a\":1,}}", "data: expected a string", 15},
	{"{\"data\":{1:1}}", "data: expected a string", 9},
	{"{\"data\":\"\xff\"}", "data: not UTF-8", 9},
	{"{\"data\":\"\xed\xa0\x80\"}", "data: not UTF-8", 9},
	{"{\"data\":\"\xc0\x80\"}", "data: not UTF-8", 9},
	{"{\"data\":\"\t\"}", "data: a control character in a string must be escaped", 9},
	{"{\"data\":\"\\x\"}", "data: expected one of \"\\/bfnrtu after a backslash", 10},
	{"{\"data\":\"\\u12g4\"}", "data: expected four hex digits after \\u", 13},
	{"{\"data\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "data: nested too deep", 39},
	{"{\"data\":tru}", "data: expected a value", 8},
	/* to */
	{"{\"to\":\"everyone\"}", "to: expected an object or \"all\"", 6},
	{"{\"to\":\"alll\"}", "to: expected an object or \"all\"", 6},
	{"{\"to\":\"\"}", "to: expected an object or \"all\"", 6},
	{"{\"to\": null}", "to: expected an object or \"all\"", 7},
	{"{\"to\":[1]}", "to: expected an object or \"all\"", 6},
	{"{\"to\":{}}", "to: names nobody; for everybody say \"all\"", 6},
	{"{\"to\":{\"users\":[],\"roles\":[]}}", "to: names nobody; for everybody say \"all\"", 6},
	{"{\"to\":{\"user\":[1]}}", "to: unknown key: there are users and roles", 7},
	{"{\"to\":{\"users\":[1],\"users\":[2]}}", "to: this key is given twice", 19},
	{"{\"to\":{\"roles\":[],\"roles\":[]}}", "to: this key is given twice", 18},
	{"{\"to\":{\"users\":1}}", "to: expected an array", 15},
	{"{\"to\":{\"users\":[1.0]}}", "to: a user must be an integer or a string", 16},
	{"{\"to\":{\"users\":[1e3]}}", "to: a user must be an integer or a string", 16},
	{"{\"to\":{\"users\":[true]}}", "to: a user must be an integer or a string", 16},
	{"{\"to\":{\"users\":[1,null]}}", "to: a user must be an integer or a string", 18},
	{"{\"to\":{\"users\":[-]}}", "to: expected a digit", 17},
	{"{\"to\":{\"users\":[\"\"]}}", "to: a user or role must not be empty", 16},
	{"{\"to\":{\"users\":[\"a\\u0000b\"]}}", "to: a user or role has a control character", 16},
	{"{\"to\":{\"users\":[\"a\\u007fb\"]}}", "to: a user or role has a control character", 16},
	{"{\"to\":{\"users\":[\"" NAME64 "x\"]}}", "to: a user or role is longer than 64 bytes", 16},
	{"{\"to\":{\"users\":[12345678901234567890123456789012345678901234567890123456789012345]}}",
		"to: a user or role is longer than 64 bytes", 16},
	{"{\"to\":{\"roles\":[1]}}", "to: a role must be a string", 16},
	{"{\"to\":{\"roles\":[\"\"]}}", "to: a user or role must not be empty", 16},
	{"{\"to\":{\"roles\":[\"" NAME64 "x\"]}}", "to: a user or role is longer than 64 bytes", 16},
	{"{\"to\":{\"" NAME64 "x\\u0075sers\":[1]}}", "to: unknown key: there are users and roles", 7},
	/* except, timestamp */
	{"{\"except\":\"all\"}", "except: expected an object", 10},
	{"{\"except\":{\"roles\":[\"a\"]}}", "except: unknown key: there is users", 11},
	{"{\"except\":{\"users\":{}}}", "except: expected an array", 19},
	{"{\"timestamp\":-1}", "timestamp: expected a whole number, 0 to 2^53", 13},
	{"{\"timestamp\":1.5}", "timestamp: expected a whole number, 0 to 2^53", 13},
	{"{\"timestamp\":9007199254740993}", "timestamp: expected a whole number, 0 to 2^53", 13},
	{"{\"timestamp\":99999999999999999999999999}", "timestamp: expected a whole number, 0 to 2^53", 13},
	{"{\"timestamp\":\"1\"}", "timestamp: expected a whole number", 13},
	{"{\"timestamp\":null}", "timestamp: expected a whole number", 13},
	/* op */
	{"{\"op\":1}", "op: expected revoke, refresh, status or ping", 6},
	{"{\"op\":\"\"}", "op: expected revoke, refresh, status or ping", 0},
	{"{\"op\":\"pong\"}", "op: expected revoke, refresh, status or ping", 0},
	{"{\"op\":\"" NAME64 "x\\u0070ing\"}", "op: expected revoke, refresh, status or ping", 6},
	{"{\"op\":\"ping\",\"user\":1}", "op: ping has no user and no sid", 0},
	{"{\"op\":\"ping\",\"sid\":\"a\"}", "op: ping has no user and no sid", 0},
	{"{\"op\":\"revoke\"}", "op: revoke needs a user or a sid", 0},
	{"{\"op\":\"revoke\",\"user\":1,\"sid\":\"a\"}", "op: revoke needs a user or a sid", 0},
	{"{\"op\":\"refresh\"}", "op: refresh needs a user", 0},
	{"{\"op\":\"refresh\",\"user\":1,\"sid\":\"a\"}", "op: refresh needs a user", 0},
	{"{\"op\":\"refresh\",\"user\":1}", "op: refresh asks Django again, and there is no --auth-url", 0},
	{"{\"op\":\"revoke\",\"user\":1," WHOLE "}", "an op is not an event: it has only user or sid", 0},
	{"{\"op\":\"ping\",\"data\":1}", "an op is not an event: it has only user or sid", 0},
	{"{\"user\":1," WHOLE "}", "user and sid belong to an op; who an event is for stands in to", 0},
	{"{\"op\":\"revoke\",\"user\":[1]}", "user: a user must be an integer or a string", 22},
	{"{\"op\":\"revoke\",\"user\":\"\"}", "user: a user or role must not be empty", 22},
	{"{\"op\":\"revoke\",\"user\":\"" NAME64 "x\"}", "user: a user or role is longer than 64 bytes", 22},
	{"{\"op\":\"revoke\",\"sid\":1}", "sid: expected a string of 1 to 64 bytes", 21},
	{"{\"op\":\"revoke\",\"sid\":\"\"}", "sid: expected a string of 1 to 64 bytes", 21},
	{"{\"op\":\"revoke\",\"sid\":\"" NAME64 "x\"}", "sid: expected a string of 1 to 64 bytes", 21},
};

Test(datagram, D4_D6_D7_D8_D9_S2_S7_each_mistake_has_its_text_and_place)
{
	int fd;

	world_start(tokens, "--log-level", "error", NULL);
	fd = stream_open("boss");
	for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++)
		expect_error(mistakes[i].text, mistakes[i].error, mistakes[i].at);
	cr_assert_eq(world.server->count.bad_lines, sizeof mistakes / sizeof mistakes[0]);
	cr_assert_eq(world.server->count.events, 0);
	cr_assert_eq(world.server->ring.end, 0);
	cr_assert_eq(world.server->dirty.count, 0);
	cr_assert_str_eq(client_hears(fd), "");
	expect_ok("{" WHOLE "}", 1);
	world_stop();
}

Test(datagram, R25_a_thousand_mistakes_of_every_kind_leave_nothing)
{
	size_t after_two = 0;

	world_start(tokens, "--log-level", "error", NULL);
	for (int round = 0; round < 1000; round++) {
		for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++)
			django_says(mistakes[i].text);
		if (round == 1)
			after_two = heap_bytes();
	}
	cr_assert_eq(heap_bytes(), after_two, "%zu bytes, then %zu", after_two, heap_bytes());
	cr_assert_eq(world.server->count.bad_lines, 1000 * sizeof mistakes / sizeof mistakes[0]);
	world_stop();
}

Test(datagram, D4_a_line_cut_anywhere_is_a_mistake)
{
	static const char text[] = "{\"event\":\"a.b\",\"data\":{\"x\":[1.5e3,\"\\u0041\xd0\xb8\",true,null]},\"to\":{\"users\":[1,\"2\"],"
		"\"roles\":[\"manager\"]},\"except\":{\"users\":[3]},\"timestamp\":17}";

	world_start(tokens, "--log-level", "error", NULL);
	stream_open("boss");
	for (size_t n = 1; n < sizeof text - 1; n++) {
		char *exact = malloc(n), acks[256];
		struct buf ack = buf_fixed(acks, sizeof acks);

		memcpy(exact, text, n);
		datagram_line(world.server, (struct span){exact, n}, &ack);
		cr_assert(ack.len > 12 && strncmp(acks, "{\"ok\":false,", 12) == 0, "%zu bytes", n);
		free(exact);
	}
	cr_assert_eq(world.server->ring.end, 0);
	expect_ok(text, 1);
	world_stop();
}

Test(datagram, S6_D4_a_nul_is_a_mistake_and_does_not_hide_the_rest)
{
	static const char text[] = "{" WHOLE "\0}\n{" WHOLE "}";

	world_start(tokens, NULL);
	django_queues_bytes(text, sizeof text - 1, true);
	world_settle();
	buf_byte(&world.acks, '\0');
	cr_assert_str_eq(world.acks.data, "{\"ok\":false,\"error\":\"expected , or }\",\"at\":32}\n"
		"{\"ok\":true,\"id\":\"1704110400000-1\",\"matched\":0}\n");
	world_stop();
}

/* ---- datagrams ---- */

Test(datagram, every_line_has_its_answer_and_blank_lines_have_none)
{
	int fd;

	world_start(tokens, NULL);
	fd = stream_open("boss");
	cr_assert_str_eq(django_says("\n \t\r\n{\"event\":\"a\",\"data\":1,\"to\":\"all\"}\r\n\nx\n{\"event\":\"b\",\"data\":1,\"to\":{\"users\":[2]}}\n\n"),
		"{\"ok\":true,\"id\":\"1704110400000-1\",\"matched\":1}\n{\"ok\":false,\"error\":\"expected an object\",\"at\":0}\n"
		"{\"ok\":true,\"id\":\"1704110400000-2\",\"matched\":0}");
	cr_assert_eq(world.acks_sent, 1, "all in one datagram");
	cr_assert_str_eq(client_hears_frames(fd), "id: 1704110400000-1\ndata: {\"event\":\"a\",\"data\":1,\"timestamp\":1704110400}\n\n");
	cr_assert_str_eq(django_says("\n \r\n"), "{\"ok\":false,\"error\":\"the datagram is empty\",\"at\":0}");
	cr_assert_eq(world.server->count.lines, 3);
	cr_assert_str_eq(django_says("{\"op\":\"ping\"}"), "{\"ok\":true,\"id\":\"1704110400000-2\",\"matched\":1}");
	world_stop();
}

Test(datagram, many_answers_come_in_several_datagrams)
{
	static char text[60000];
	const char *ack;
	int lines = 0;

	world_start(tokens, "--log-level", "error", NULL);
	for (int i = 0; i < 1500; i++)
		memcpy(text + i * 14, "{\"op\":\"ping\"}\n", 14);
	ack = django_says(text);
	for (; *ack != '\0'; lines++) {
		const char *end = strchr(ack, '\n');

		cr_assert(strncmp(ack, "{\"ok\":true,\"id\":\"1704110400000-0\",\"matched\":0}", 46) == 0, "%.60s", ack);
		if (end == NULL)
			end = ack + strlen(ack) - 1;
		cr_assert_leq(end - ack, 46);
		ack = end + 1;
	}
	cr_assert_eq(lines, 1500);
	cr_assert_eq(world.acks_sent, 5, "16 KB each");
	world_stop();
}

Test(datagram, who_is_not_bound_gets_no_answer)
{
	int fd;

	world_start(tokens, NULL);
	fd = stream_open("boss");
	django_queues_bytes("{" WHOLE "}\nx", 35, false);
	world_settle();
	cr_assert_eq(world.acks_sent, 0);
	cr_assert_neq(client_hears(fd)[0], '\0');
	cr_assert_not_null(strstr(log_hears(), "level=warning msg=bad_datagram error=\"expected an object\" at=0\n"));
	django_queues_bytes("x", 1, true);
	world_settle();
	cr_assert_eq(world.acks_sent, 1);
	cr_assert_eq(world.acks.len, strlen("{\"ok\":false,\"error\":\"expected an object\",\"at\":0}\n"), "and none that was meant for another");
	world_stop();
}

Test(datagram, D2_one_that_is_cut_is_dropped_whole)
{
	static char big[2000];

	world_start(tokens, "--datagram", "1K", NULL);
	memset(big, ' ', sizeof big);
	memcpy(big, "{" WHOLE "}\n", 34);
	django_queues_bytes(big, 1025, true);
	world_settle();
	cr_assert_eq(world.server->count.events, 0);
	buf_byte(&world.acks, '\0');
	cr_assert_str_eq(world.acks.data, "{\"ok\":false,\"error\":\"the datagram is longer than --datagram\",\"at\":0}\n");
	buf_clear(&world.acks);
	django_queues_bytes(big, 1024, true);
	world_settle();
	cr_assert_eq(world.server->count.events, 1);
	world_stop();
}

Test(datagram, D3_an_empty_one_is_a_mistake_and_no_end)
{
	world_start(tokens, NULL);
	django_queues_bytes("", 0, true);
	django_queues_bytes("", 0, false);
	world_settle();
	expect_error("", "the datagram is empty", 0);
	cr_assert_eq(world.server->count.bad_lines, 3);
	expect_ok("{" WHOLE "}", 0);
	world_stop();
}

Test(datagram, D1_S12_the_longest_there_is_goes_through)
{
	size_t n = 200 << 10;
	char *big = malloc(n + 1);
	int fd;

	world_start(tokens, NULL);
	fd = stream_open("boss");
	memset(big, 'x', n);
	memcpy(big, "{\"event\":\"a\",\"to\":\"all\",\"data\":\"", 32);
	memcpy(big + n - 2, "\"}", 3);
	expect_ok(big, 1);
	cr_assert_gt(strlen(client_hears_frames(fd)), n - 32);
	free(big);
	world_stop();
}

/* Data is one line, escaped as it came: its size on the wire is known before a byte is written. */
Test(datagram, S12_data_of_any_size_is_sent_whole_or_refused)
{
	static const size_t sizes[] = {3, 4096, 65536, (200 << 10) - 33};
	int fd;

	world_start(tokens, "--log-level", "error", NULL);
	fd = stream_open("boss");
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		char *text = malloc(sizes[i] + 64), *wanted = malloc(sizes[i] + 128);
		size_t n = (size_t)sprintf(text, "{\"event\":\"a\",\"to\":\"all\",\"data\":\"");

		for (size_t k = 2; k + 1 < sizes[i]; k += 2)
			n += (size_t)sprintf(text + n, "\\n"); /* 10,000 line ends and more */
		strcpy(text + n, "\"}");
		expect_ok(text, 1);
		sprintf(wanted, "id: 1704110400000-%zu\ndata: {\"event\":\"a\",\"data\":%.*s,\"timestamp\":1704110400}\n\n", i + 1,
			(int)(n - 31 + 1), text + 31);
		cr_assert_str_eq(client_hears_frames(fd), wanted, "%zu bytes", sizes[i]);
		free(text);
		free(wanted);
	}
	{
		size_t n = (200 << 10) + 1;
		char *text = malloc(n + 1);

		memset(text, ' ', n);
		text[n] = '\0';
		memcpy(text, "{" WHOLE "}", 33);
		expect_error(text, "the datagram is longer than --datagram", 0);
		free(text);
	}
	cr_assert_str_eq(client_hears(fd), "");
	world_stop();
}

/* Names that nobody listens to are looked up, and leave nothing. */
Test(datagram, D19_D20_a_flood_of_names_nobody_has_leaves_nothing)
{
	uint32_t users;
	char text[256];

	world_start(tokens, "--history-bytes", "1M", "--datagram", "1K", "--log-level", "error", NULL);
	stream_open("boss");
	users = world.server->users_by_id.count;
	for (int i = 0; i < 20000; i++) {
		snprintf(text, sizeof text, "{\"event\":\"a\",\"data\":%d,\"to\":{\"users\":[%d,\"u%d\"],\"roles\":[\"r%d\"]},"
			"\"except\":{\"users\":[\"x%d\"]}}", i, i + 1000, i, i, i);
		django_queues(text);
		if (i % 100 == 99)
			world_settle();
	}
	world_settle();
	cr_assert_eq(world.server->count.events, 20000);
	cr_assert_eq(world.server->count.deliveries, 0);
	cr_assert_eq(world.server->users_by_id.count, users);
	cr_assert_leq(world.server->ring.size, 1 << 20, "what they leave is in the ring, which overwrites its oldest");
	expect_ok("{" WHOLE "}", 1);
	for (int i = 0; i < 1000; i++) { /* a revocation is remembered for who is away: so many at most */
		snprintf(text, sizeof text, "{\"op\":\"revoke\",\"user\":\"away%d\"}", i);
		django_says(text);
	}
	cr_assert_eq(world.server->users_by_id.count, users);
	world_stop();
}

Test(datagram, R3_R4_a_receive_that_fails_is_tried_again)
{
	static const int errors[] = {EINTR, ENOMEM, ENOBUFS};

	world_start(tokens, NULL);
	for (int i = 0; i < 3; i++) {
		django_queues("{" WHOLE "}");
		world.receive_errno = errors[i];
		world.server->intake.readable = true; /* told once: the edge does not come again */
		for (int turn = 0; turn < 3; turn++)
			server_turn(world.server, 0);
		cr_assert_eq(world.server->count.events, (uint64_t)i + 1, "errno %d", errors[i]);
	}
	world_stop();
}

Test(datagram, D10_more_lines_than_a_turn_takes_are_all_taken)
{
	char *text = calloc(1, 2500 * 40);
	int fd, events = 0;

	world_start(tokens, "--log-level", "error", NULL);
	fd = stream_open("boss");
	for (int i = 0; i < 2500; i++)
		memcpy(text + i * 40, "{\"event\":\"a\",\"data\":1,\"to\":\"all\"      }\n", 40);
	django_queues_bytes(text, 2500 * 40, true);
	django_queues("{\"event\":\"last\",\"data\":1,\"to\":\"all\"}");
	world_settle();
	for (const char *p = client_hears(fd); (p = strstr(p, "\"event\"")) != NULL; p++)
		events++;
	cr_assert_eq(events, 2501);
	cr_assert(strstr(world.fds[fd].out.data + world.fds[fd].out.len - 80, "\"last\"") != NULL);
	free(text);
	world_stop();
}

Test(datagram, R3_an_answer_that_cannot_be_sent_is_counted_and_logged_once)
{
	world_start(tokens, NULL);
	world.ack_errno = ECONNREFUSED;
	for (int i = 0; i < 5; i++)
		cr_assert_str_eq(django_says("{\"op\":\"ping\"}"), "");
	cr_assert_eq(world.server->count.acks_lost, 5);
	cr_assert_str_eq(log_hears(), "time=2024-01-01T12:00:00.000Z app=SSE level=warning msg=ack_lost error=\"Connection refused\"\n");
	world.ack_errno = 0;
	expect_ok("{\"op\":\"ping\"}", 0);
	world_pass(11000);
	cr_assert_not_null(strstr(log_hears(), " msg=repeated what=ack more=4\n"));
	world_stop();
}

Test(datagram, D4_a_flood_of_mistakes_is_a_hundred_lines_and_a_count)
{
	int lines = 0;
	const char *text;

	world_start(tokens, NULL);
	for (int i = 0; i < 250; i++)
		expect_error("x", "expected an object", 0);
	for (text = log_hears(); (text = strstr(text, "msg=bad_datagram")) != NULL; text++)
		lines++;
	cr_assert_eq(lines, 100);
	cr_assert_eq(world.server->count.bad_lines, 250);
	world_pass(900);
	cr_assert_str_eq(log_hears(), "");
	world_pass(200);
	cr_assert_not_null(strstr(log_hears(), "level=warning msg=repeated what=datagram more=150\n"));
	expect_error("x", "expected an object", 0);
	cr_assert_not_null(strstr(log_hears(), "msg=bad_datagram"));
	world_pass(3000);
	cr_assert_str_eq(log_hears(), "");
	world_stop();
}

Test(datagram, a_count_of_what_was_left_out_is_told_with_nobody_connected)
{
	world_start(tokens, NULL);
	for (int i = 0; i < 101; i++)
		django_says("x");
	server_turn(world.server, -1);
	cr_assert(world.wait_ms >= 0 && world.wait_ms <= 50);
	world_pass(1100);
	server_turn(world.server, -1);
	cr_assert_eq(world.wait_ms, -1);
	world_stop();
}
