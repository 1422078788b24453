/*
 * test_json.c - the strict reader and the writer, against RFC 8259.
 *
 * The tables follow JSONTestSuite (y_ must be accepted, n_ must be refused); what it leaves open
 * (i_) is decided here: lone surrogates and huge numbers are only passed on, so they are taken as
 * they are written; bytes that are not UTF-8, a BOM, UTF-16 and deep nesting are refused.
 */
#include "vectors.h"

#include <regex.h>
#include <stdio.h>

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Reads text as one document, in a block of just its size. The result's text is gone. */
static struct json read_document(struct span text, struct buf *compact)
{
	struct span copy = exact(text);
	struct json j = json_begin(copy);
	bool good = json_value(&j, compact) && json_end(&j);

	cr_expect_eq(good, j.error == NULL, "what is returned and what is in error differ");
	cr_expect(good || j.at <= text.n, "the error is at %zu of %zu bytes", j.at, text.n);
	exact_free(copy);
	return j;
}

static bool is_document(struct span text)
{
	return read_document(text, NULL).error == NULL;
}

/* ---- what must be accepted, and how it is written compactly ---- */

static const struct accepted {
	const char *name;
	struct span text, compact; /* no compact: it is the text */
} accepts[] = {
	{"array, empty", BYTES("[]"), {0}},
	{"array, empty with space", BYTES(" [ ] "), BYTES("[]")},
	{"array, an empty string", BYTES("[\"\"]"), {0}},
	{"array, ends in newline", BYTES("[\"a\"]\n"), BYTES("[\"a\"]")},
	{"array, heterogeneous", BYTES("[null, 1, \"1\", {}, true, false]"), BYTES("[null,1,\"1\",{},true,false]")},
	{"array, nulls", BYTES("[1,null,null,null,2]"), {0}},
	{"array, leading space", BYTES(" [1]"), BYTES("[1]")},
	{"array, trailing space", BYTES("[2] "), BYTES("[2]")},
	{"array, spaces between", BYTES("[[]   ,\t[\r\n]  ]"), BYTES("[[],[]]")},
	{"array, CR LF between", BYTES("[1\r\n,\r\n2]"), BYTES("[1,2]")},
	{"number", BYTES("[123e65]"), {0}},
	{"number, 0e+1", BYTES("[0e+1]"), {0}},
	{"number, 0e1", BYTES("[0e1]"), {0}},
	{"number, after space", BYTES("[ 4]"), BYTES("[4]")},
	{"number, many zeros behind the point", BYTES("[-0.000000000000000000000000000000000000000000000000001]"), {0}},
	{"number, 20e1", BYTES("[20e1]"), {0}},
	{"number, minus zero", BYTES("[-0]"), {0}},
	{"number, -0.0", BYTES("[-0.0]"), {0}},
	{"number, negative", BYTES("[-123]"), {0}},
	{"number, minus one", BYTES("[-1]"), {0}},
	{"number, 1E22", BYTES("[1E22]"), {0}},
	{"number, 1E-2", BYTES("[1E-2]"), {0}},
	{"number, 1E+2", BYTES("[1E+2]"), {0}},
	{"number, 123e45", BYTES("[123e45]"), {0}},
	{"number, 123.456e78", BYTES("[123.456e78]"), {0}},
	{"number, 1e-2", BYTES("[1e-2]"), {0}},
	{"number, 1e+2", BYTES("[1e+2]"), {0}},
	{"number, leading zeros of the exponent", BYTES("[1e0001]"), {0}},
	{"number, 123.456789", BYTES("[123.456789]"), {0}},
	{"number, too large for a double", BYTES("[1e999]"), {0}},
	{"number, too small for a double", BYTES("[123e-10000000]"), {0}},
	{"number, huge negative exponent", BYTES("[-1e+9999]"), {0}},
	{"number, more than 64 bits", BYTES("[100000000000000000000]"), {0}},
	{"number, 2^53 + 1", BYTES("[9007199254740993]"), {0}},
	{"number, trailing zeros stay", BYTES("[1.10, 1.0, 100e-00]"), BYTES("[1.10,1.0,100e-00]")},
	{"object", BYTES("{\"asd\":\"sdf\", \"dfg\":\"fgh\"}"), BYTES("{\"asd\":\"sdf\",\"dfg\":\"fgh\"}")},
	{"object, one member", BYTES("{\"asd\":\"sdf\"}"), {0}},
	{"object, key given twice", BYTES("{\"a\":\"b\",\"a\":\"c\"}"), {0}},
	{"object, key and value given twice", BYTES("{\"a\":\"b\",\"a\":\"b\"}"), {0}},
	{"object, empty", BYTES("{}"), {0}},
	{"object, empty with space", BYTES("{\t}"), BYTES("{}")},
	{"object, empty key", BYTES("{\"\":0}"), {0}},
	{"object, NUL escaped in a key", BYTES("{\"foo\\u0000bar\": 42}"), BYTES("{\"foo\\u0000bar\":42}")},
	{"object, extreme numbers", BYTES("{ \"min\": -1.0e+28, \"max\": 1.0e+28 }"),
		BYTES("{\"min\":-1.0e+28,\"max\":1.0e+28}")},
	{"object, nested", BYTES("{\"x\":[{\"id\": \"xx\"}], \"id\": \"x\"}"), BYTES("{\"x\":[{\"id\":\"xx\"}],\"id\":\"x\"}")},
	{"object, newlines", BYTES("{\n\"a\"\n:\n\"b\"\n}"), BYTES("{\"a\":\"b\"}")},
	{"object, space around everything", BYTES("\r { \t\"a\" \n: [ 1 , { } ] , \"b\" : null } \t"),
		BYTES("{\"a\":[1,{}],\"b\":null}")},
	{"object, cyrillic escapes", BYTES("{\"title\":\"\\u041f\\u043e\\u043b\" }"),
		BYTES("{\"title\":\"\\u041f\\u043e\\u043b\"}")},
	{"string, two bytes of UTF-8 escaped", BYTES("[\"\\u0060\\u012a\\u12AB\"]"), {0}},
	{"string, surrogate pair escaped", BYTES("[\"\\uD801\\udc37\"]"), {0}},
	{"string, two pairs escaped", BYTES("[\"\\ud83d\\ude39\\ud83d\\udc8d\"]"), {0}},
	{"string, all escapes", BYTES("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"]"), {0}},
	{"string, backslash and quote escaped", BYTES("[\"\\\\u0000\", \"\\\"\"]"), BYTES("[\"\\\\u0000\",\"\\\"\"]")},
	{"string, comment inside", BYTES("[\"a/*b*/c/*d//e\"]"), {0}},
	{"string, backslash before a", BYTES("[\"\\\\a\", \"\\\\n\"]"), BYTES("[\"\\\\a\",\"\\\\n\"]")},
	{"string, escaped control character", BYTES("[\"\\u0012\"]"), {0}},
	{"string, escaped noncharacter", BYTES("[\"\\uFFFF\"]"), {0}},
	{"string, alone", BYTES("\"asd\""), {0}},
	{"string, alone and empty", BYTES("\"\""), {0}},
	{"string, lone high surrogate escaped", BYTES("[\"\\u00e9\\ud800\"]"), {0}},
	{"string, lone low surrogate escaped", BYTES("\"\\udc00x\""), {0}},
	{"string, surrogates in the wrong order", BYTES("\"\\uDd1e\\uD834\""), {0}},
	{"string, high surrogate before an escape", BYTES("\"\\ud800\\n\\ud800abc\""), {0}},
	{"string, capital hex digits", BYTES("\"\\uABCD\\uabcd\""), {0}},
	{"string, DEL", BYTES("[\"a\x7f" "a\"]"), {0}},
	{"string, white space inside stays", BYTES("[ \" a  b , : { } [ ] \" ]"), BYTES("[\" a  b , : { } [ ] \"]")},
	{"string, space behind an escaped quote stays", BYTES("\"\\\" , \\\\\" "), BYTES("\"\\\" , \\\\\"")},
	{"UTF-8, e acute", BYTES("\"\xc3\xa9\""), {0}},
	{"UTF-8, U+0080 and U+07FF", BYTES("\"\xc2\x80\xdf\xbf\""), {0}},
	{"UTF-8, U+0800 and U+FFFF", BYTES("\"\xe0\xa0\x80\xef\xbf\xbf\""), {0}},
	{"UTF-8, beside the surrogates", BYTES("\"\xed\x9f\xbf\xee\x80\x80\""), {0}},
	{"UTF-8, U+10000 and U+10FFFF", BYTES("\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\""), {0}},
	{"UTF-8, U+2028 and U+2029", BYTES("\"\xe2\x80\xa8\xe2\x80\xa9\""), {0}},
	{"UTF-8, U+0085", BYTES("\"\xc2\x85\""), {0}},
	{"UTF-8, U+FEFF inside", BYTES("\"\xef\xbb\xbf\""), {0}},
	{"UTF-8, noncharacters", BYTES("\"\xef\xb7\x90\xf0\x9b\xbf\xbf\xef\xbf\xbe\""), {0}},
	{"UTF-8 in a key", BYTES("{\"\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87\" : \"\xf0\x9f\x92\xa9\"}"),
		BYTES("{\"\xd0\xba\xd0\xbb\xd1\x8e\xd1\x87\":\"\xf0\x9f\x92\xa9\"}")},
	{"word, true", BYTES("true"), {0}},
	{"word, false", BYTES("false"), {0}},
	{"word, null", BYTES("null"), {0}},
	{"word, in an array", BYTES("[ true,false ,null ]"), BYTES("[true,false,null]")},
	{"number, alone", BYTES("42"), {0}},
	{"number, alone and negative", BYTES("-0.1"), {0}},
	{"number, alone with space", BYTES(" \t-10.25E+3\r\n"), BYTES("-10.25E+3")},
	{"number, alone and long", BYTES("123456789012345678901234567890.5"), {0}},
	{"nested 32 deep, arrays", BYTES("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"), {0}},
	{"32 deep twice, side by side", BYTES("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],"
		"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"), {0}},
};

static struct span compact_of(const struct accepted *row)
{
	return row->compact.p != NULL ? row->compact : row->text;
}

Test(json, a_document_is_accepted_and_made_compact)
{
	for (size_t i = 0; i < COUNT_OF(accepts); i++) {
		const struct accepted *row = &accepts[i];
		struct buf compact = buf_growable();
		struct json j = read_document(row->text, &compact);

		cr_expect_null(j.error, "%s: %s at %zu", row->name, j.error, j.at);
		cr_expect(span_same(buf_view(&compact), compact_of(row)), "%s: became %.*s", row->name,
			(int)compact.len, compact.data);
		buf_free(&compact);
	}
}

Test(json, what_is_compact_stays_as_it_is)
{
	for (size_t i = 0; i < COUNT_OF(accepts); i++) {
		struct buf compact = buf_growable();

		cr_expect_null(read_document(compact_of(&accepts[i]), &compact).error, "%s", accepts[i].name);
		cr_expect(span_same(buf_view(&compact), compact_of(&accepts[i])), "%s", accepts[i].name);
		buf_free(&compact);
	}
}

Test(json, a_document_is_judged_the_same_without_a_copy_and_without_room)
{
	for (size_t i = 0; i < COUNT_OF(accepts); i++) {
		char byte;
		struct buf small = buf_fixed(&byte, 1);

		cr_expect(is_document(accepts[i].text), "%s", accepts[i].name);
		cr_expect_null(read_document(accepts[i].text, &small).error, "%s", accepts[i].name);
		cr_expect_eq(small.failed, compact_of(&accepts[i]).n > 1, "%s", accepts[i].name);
	}
}

Test(json, a_value_is_appended_behind_what_is_there)
{
	struct buf b = buf_growable();
	struct json j = json_begin(span_of(" [ 1 ] "));

	buf_text(&b, "data: ");
	cr_assert(json_value(&j, &b));
	cr_assert(span_is(buf_view(&b), "data: [1]"), "%.*s", (int)b.len, b.data);
	buf_free(&b);
}

/* ---- numbers, with a regular expression as the judge ---- */

static const char number_grammar[] = "^[ \t\n\r]*-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?[ \t\n\r]*$";

static bool is_number(const regex_t *grammar, const char *text)
{
	return regexec(grammar, text, 0, NULL, 0) == 0;
}

Test(json, D7_a_number_is_what_the_grammar_says)
{
	static const char alphabet[] = "-+01.eE ";
	regex_t grammar;
	char text[7] = "";

	cr_assert_eq(regcomp(&grammar, number_grammar, REG_EXTENDED | REG_NOSUB), 0);
	for (uint32_t length = 0; length <= 6; length++)
		for (uint32_t which = 0; which < 1u << 3 * length; which++) {
			for (uint32_t i = 0; i < length; i++)
				text[i] = alphabet[which >> 3 * i & 7];
			struct json j = json_begin((struct span){text, length});
			bool good = json_value(&j, NULL) && json_end(&j);

			if (good != is_number(&grammar, text))
				cr_expect_fail("'%s': %s", text, good ? "was taken" : j.error);
		}
	regfree(&grammar);
}

Test(json, a_truncated_document_is_rejected)
{
	regex_t grammar;
	char text[512];

	cr_assert_eq(regcomp(&grammar, number_grammar, REG_EXTENDED | REG_NOSUB), 0);
	for (size_t i = 0; i < COUNT_OF(accepts); i++) {
		size_t whole = accepts[i].text.n;

		while (is_space(accepts[i].text.p[whole - 1]))
			whole--;
		for (size_t n = 0; n < whole; n++) {
			struct span part = {accepts[i].text.p, n};

			memcpy(text, part.p, n);
			text[n] = '\0';
			cr_expect_eq(is_document(part), is_number(&grammar, text), "%s: %s", accepts[i].name, text);
		}
	}
	regfree(&grammar);
}

/* ---- what must be refused, and where the mistake is ---- */

static const struct refused {
	const char *name;
	size_t at;
	struct span text;
} refuses[] = {
	{"nothing", 0, BYTES("")},
	{"a space", 1, BYTES(" ")},
	{"all white space", 4, BYTES(" \t\r\n")},

	{"array, no comma", 3, BYTES("[1 true]")},
	{"array, a word and bytes that are not UTF-8", 1, BYTES("[a\xe5]")},
	{"array, colon for comma", 3, BYTES("[\"\": 1]")},
	{"array, comma behind it", 4, BYTES("[\"\"],")},
	{"array, comma first", 1, BYTES("[,1]")},
	{"array, two commas", 3, BYTES("[1,,2]")},
	{"array, two commas at the end", 5, BYTES("[\"x\",,]")},
	{"array, closed twice", 5, BYTES("[\"x\"]]")},
	{"array, comma at the end", 4, BYTES("[\"\",]")},
	{"array, comma and spaces at the end", 4, BYTES("[1, ]")},
	{"array, not closed", 4, BYTES("[\"x\"")},
	{"array, a bad value, not closed", 1, BYTES("[x")},
	{"array, no comma before an array", 2, BYTES("[3[4]]")},
	{"array, bytes that are not UTF-8", 1, BYTES("[\xff]")},
	{"array, colon between numbers", 2, BYTES("[1:2]")},
	{"array, semicolon between numbers", 2, BYTES("[1;2]")},
	{"array, a comma alone", 1, BYTES("[,]")},
	{"array, a minus alone", 2, BYTES("[-]")},
	{"array, first value missing", 4, BYTES("[   , \"\"]")},
	{"array, newlines, not closed", 11, BYTES("[\"a\",\n4\n,1,")},
	{"array, vertical tab and escaped form feed", 2, BYTES("[\"\x0b" "a\"\\f]")},
	{"array, a star", 1, BYTES("[*]")},
	{"array, comma at the end, not closed", 3, BYTES("[1,")},
	{"array, an object inside, not closed", 3, BYTES("[{}")},
	{"array, closed as an object", 2, BYTES("[1}")},
	{"array, nothing but the bracket", 1, BYTES("[")},
	{"array, unopened", 1, BYTES("1]")},
	{"array, the closing bracket alone", 0, BYTES("]")},
	{"array, two of them", 2, BYTES("[][]")},
	{"array, vertical tab as space", 1, BYTES("[\x0b]")},
	{"array, form feed as space", 1, BYTES("[\x0c]")},
	{"array, word joiner as space", 1, BYTES("[\xe2\x81\xa0]")},
	{"array, no-break space as space", 1, BYTES("[\xc2\xa0]")},
	{"array, NUL", 1, BYTES("[\0]")},
	{"array, NUL behind it", 2, BYTES("[]\0")},
	{"array, newline and NUL behind it", 3, BYTES("[]\n\0")},
	{"array, apostrophe", 1, BYTES("['")},

	{"word, fals", 1, BYTES("[fals]")},
	{"word, nul", 1, BYTES("[nul]")},
	{"word, tru", 1, BYTES("[tru]")},
	{"word, truth", 6, BYTES("[\"x\", truth]")},
	{"word, truex", 5, BYTES("[truex]")},
	{"word, True", 1, BYTES("[True]")},
	{"word, TRUE", 0, BYTES("TRUE")},
	{"word, nul at the end of the block", 0, BYTES("nul")},
	{"word, f", 0, BYTES("f")},
	{"word, tfue", 0, BYTES("tfue")},
	{"word, with a NUL in it", 0, BYTES("nu\0l")},
	{"word, undefined", 0, BYTES("undefined")},
	{"word, nan", 0, BYTES("nan")},

	{"number, NUL behind it", 3, BYTES("123\0")},
	{"number, ++1234", 1, BYTES("[++1234]")},
	{"number, +1", 1, BYTES("[+1]")},
	{"number, +Inf", 1, BYTES("[+Inf]")},
	{"number, -01", 3, BYTES("[-01]")},
	{"number, -1.0.", 5, BYTES("[-1.0.]")},
	{"number, -2.", 4, BYTES("[-2.]")},
	{"number, -NaN", 2, BYTES("[-NaN]")},
	{"number, --1", 2, BYTES("[--1]")},
	{"number, .-1", 1, BYTES("[.-1]")},
	{"number, .2e-3", 1, BYTES("[.2e-3]")},
	{"number, 0.1.2", 4, BYTES("[0.1.2]")},
	{"number, 0.3e+", 6, BYTES("[0.3e+]")},
	{"number, 0.3e", 5, BYTES("[0.3e]")},
	{"number, 0.e1", 3, BYTES("[0.e1]")},
	{"number, 0E+", 4, BYTES("[0E+]")},
	{"number, 0E", 3, BYTES("[0E]")},
	{"number, 0e+", 4, BYTES("[0e+]")},
	{"number, 0e", 3, BYTES("[0e]")},
	{"number, 1.0e+", 6, BYTES("[1.0e+]")},
	{"number, 1.0e-", 6, BYTES("[1.0e-]")},
	{"number, 1.0e", 5, BYTES("[1.0e]")},
	{"number, space between its digits", 3, BYTES("[1 000.0]")},
	{"number, underscore between its digits", 2, BYTES("[1_000]")},
	{"number, 1eE2", 3, BYTES("[1eE2]")},
	{"number, 2.e+3", 3, BYTES("[2.e+3]")},
	{"number, 2.e-3", 3, BYTES("[2.e-3]")},
	{"number, 2.e3", 3, BYTES("[2.e3]")},
	{"number, 9.e+", 3, BYTES("[9.e+]")},
	{"number, Inf", 1, BYTES("[Inf]")},
	{"number, NaN", 1, BYTES("[NaN]")},
	{"number, NaN alone, as Python writes it", 0, BYTES("NaN")},
	{"number, Infinity", 1, BYTES("[Infinity]")},
	{"number, Infinity in an object", 5, BYTES("{\"a\":Infinity}")},
	{"number, -Infinity", 2, BYTES("[-Infinity]")},
	{"number, fullwidth digit one", 1, BYTES("[\xef\xbc\x91]")},
	{"number, 1+2", 2, BYTES("[1+2]")},
	{"number, 0x1", 2, BYTES("[0x1]")},
	{"number, 0x42", 2, BYTES("[0x42]")},
	{"number, 0e+-1", 4, BYTES("[0e+-1]")},
	{"number, -123.123foo", 9, BYTES("[-123.123foo]")},
	{"number, a byte behind its digits", 4, BYTES("[123\xe5]")},
	{"number, a byte behind its exponent", 4, BYTES("[1e1\xe5]")},
	{"number, a byte behind 0", 2, BYTES("[0\xe5]\n")},
	{"number, a byte for its exponent", 3, BYTES("[1e\xe5]")},
	{"number, -foo", 2, BYTES("[-foo]")},
	{"number, space behind the minus", 2, BYTES("[- 1]")},
	{"number, -012", 3, BYTES("[-012]")},
	{"number, -.123", 2, BYTES("[-.123]")},
	{"number, -1x", 3, BYTES("[-1x]")},
	{"number, 1ea", 3, BYTES("[1ea]")},
	{"number, 1.", 3, BYTES("[1.]")},
	{"number, .123", 1, BYTES("[.123]")},
	{"number, 1.2a-3", 4, BYTES("[1.2a-3]")},
	{"number, 1.8H-308", 4, BYTES("[1.8H-308]")},
	{"number, 012", 2, BYTES("[012]")},
	{"number, 00", 1, BYTES("00")},
	{"number, -00", 2, BYTES("-00")},
	{"number, 1f", 1, BYTES("1f")},
	{"number, garbage behind it", 1, BYTES("2@")},
	{"number, two of them", 2, BYTES("1 2")},
	{"number, space before the point", 2, BYTES("1 .5")},
	{"number, space behind the point", 2, BYTES("1. 5")},
	{"number, comma for the point", 1, BYTES("1,5")},
	{"number, minus alone", 1, BYTES("-")},
	{"number, exponent of a minus", 1, BYTES("-e1")},

	{"object, a key in brackets", 1, BYTES("{[: \"x\"}\n")},
	{"object, comma for colon", 4, BYTES("{\"x\", null}")},
	{"object, two colons", 5, BYTES("{\"x\"::\"b\"}")},
	{"object, a flag", 1, BYTES("{\xf0\x9f\x87\xa8\xf0\x9f\x87\xad}")},
	{"object, garbage at the end", 9, BYTES("{\"a\":\"a\" 123}")},
	{"object, word for key", 1, BYTES("{key: 'value'}")},
	{"object, continuation byte in a key", 2, BYTES("{\"\xb9\":\"0\",}")},
	{"object, word for colon", 5, BYTES("{\"a\" b}")},
	{"object, no key", 1, BYTES("{:\"b\"}")},
	{"object, no colon", 5, BYTES("{\"a\" \"b\"}")},
	{"object, cut behind the colon", 5, BYTES("{\"a\":")},
	{"object, no value", 5, BYTES("{\"a\":}")},
	{"object, no value before the comma", 5, BYTES("{\"a\":,\"b\":1}")},
	{"object, cut behind the key", 4, BYTES("{\"a\"")},
	{"object, closed behind the key", 4, BYTES("{\"a\"}")},
	{"object, number for key", 1, BYTES("{1:1}")},
	{"object, huge number for key", 1, BYTES("{9999E9999:1}")},
	{"object, null for key", 1, BYTES("{null:null,null:null}")},
	{"object, object for key", 1, BYTES("{{}:1}")},
	{"object, many commas at the end", 8, BYTES("{\"id\":0,,,,,}")},
	{"object, single quotes", 1, BYTES("{'a':0}")},
	{"object, comma at the end", 8, BYTES("{\"id\":0,}")},
	{"object, comma first", 1, BYTES("{,\"a\":0}")},
	{"object, a comma alone", 1, BYTES("{,}")},
	{"object, comment behind it", 9, BYTES("{\"a\":\"b\"}/**/")},
	{"object, line comment behind it", 9, BYTES("{\"a\":\"b\"}//")},
	{"object, slash behind it", 9, BYTES("{\"a\":\"b\"}/")},
	{"object, comment inside", 5, BYTES("{\"a\":/*comment*/\"b\"}")},
	{"object, hash behind it", 9, BYTES("{\"a\":\"b\"}#{}")},
	{"object, two commas in a row", 9, BYTES("{\"a\":\"b\",,\"c\":\"d\"}")},
	{"object, key without quotes", 1, BYTES("{a: \"b\"}")},
	{"object, value not closed", 7, BYTES("{\"a\":\"a")},
	{"object, a lone string at the end", 21, BYTES("{ \"foo\" : \"bar\", \"a\" }")},
	{"object, string behind it", 12, BYTES("{\"a\": true} \"x\"")},
	{"object, comma, not closed", 11, BYTES("{\"x\": true,")},
	{"object, not closed", 12, BYTES("{\"asd\":\"asd\"")},
	{"object, closed twice", 2, BYTES("{}}")},
	{"object, two of them on two lines", 3, BYTES("{}\n{}")},
	{"object, closed as an array", 1, BYTES("{]")},
	{"object, nothing but the brace", 1, BYTES("{")},
	{"object, in a broken array", 2, BYTES("[{")},
	{"object, the closing brace alone", 0, BYTES("}")},
	{"object, no comma between members", 7, BYTES("{\"a\":1 \"b\":2}")},
	{"object, semicolon between members", 6, BYTES("{\"a\":1;\"b\":2}")},

	{"string, high surrogate, then an escaped quote", 11, BYTES("[\"\\uD800\\\"]")},
	{"string, high surrogate, then \\u", 10, BYTES("[\"\\uD800\\u\"]")},
	{"string, high surrogate, then \\u1", 11, BYTES("[\"\\uD800\\u1\"]")},
	{"string, high surrogate, then \\u1x", 11, BYTES("[\"\\uD800\\u1x\"]")},
	{"string, no quotes", 1, BYTES("[\xc3\xa9]")},
	{"string, NUL behind a backslash", 3, BYTES("[\"\\\0\"]")},
	{"string, \\x", 3, BYTES("[\"\\x00\"]")},
	{"string, the last quote escaped", 7, BYTES("[\"\\\\\\\"]")},
	{"string, tab behind a backslash", 3, BYTES("[\"\\\t\"]")},
	{"string, newline behind a backslash", 3, BYTES("[\"\\\n\"]")},
	{"string, emoji behind a backslash", 3, BYTES("[\"\\\xf0\x9f\x8c\x80\"]")},
	{"string, quote escaped, not closed", 5, BYTES("[\"\\\"]")},
	{"string, three hex digits", 7, BYTES("[\"\\u00A\"]")},
	{"string, a space for a hex digit", 6, BYTES("[\"\\u00 A\"]")},
	{"string, a sign for a hex digit", 4, BYTES("[\"\\u+123\"]")},
	{"string, 0x for hex digits", 5, BYTES("[\"\\u0x12\"]")},
	{"string, low surrogate not whole", 12, BYTES("[\"\\uD834\\uDd\"]")},
	{"string, \\x behind surrogates", 15, BYTES("[\"\\uD800\\uD800\\x\"]")},
	{"string, a byte for a hex digit", 4, BYTES("[\"\\u\xe5\"]")},
	{"string, \\a", 3, BYTES("[\"\\a\"]")},
	{"string, \\v", 3, BYTES("[\"\\v\"]")},
	{"string, \\0", 3, BYTES("[\"\\0\"]")},
	{"string, \\'", 3, BYTES("[\"\\'\"]")},
	{"string, \\B", 3, BYTES("[\"\\B\"]")},
	{"string, \\uqqqq", 4, BYTES("[\"\\uqqqq\"]")},
	{"string, \\uDEFG", 7, BYTES("[\"\\uDEFG\"]")},
	{"string, a byte behind an escape", 4, BYTES("[\"\\\\\xe5\"]")},
	{"string, a byte behind a backslash", 3, BYTES("[\"\\\xe5\"]")},
	{"string, an escape before it", 1, BYTES("[\\u0020\"asd\"]")},
	{"string, an escape for it", 1, BYTES("[\\n]")},
	{"string, one quote", 1, BYTES("\"")},
	{"string, single quotes", 1, BYTES("['single quote']")},
	{"string, words", 0, BYTES("abc")},
	{"string, cut behind the backslash", 3, BYTES("[\"\\")},
	{"string, cut behind \\u", 4, BYTES("[\"\\u")},
	{"string, cut behind \\u12", 6, BYTES("[\"\\u12")},
	{"string, NUL", 3, BYTES("[\"a\0a\"]")},
	{"string, newline", 5, BYTES("[\"new\nline\"]")},
	{"string, carriage return", 5, BYTES("[\"new\rline\"]")},
	{"string, tab", 2, BYTES("[\"\t\"]")},
	{"string, ESC", 1, BYTES("\"\x1b[2J\"")},
	{"string, unit separator", 1, BYTES("\"\x1f\"")},
	{"string, \\U", 2, BYTES("\"\\UA66D\"")},
	{"string, garbage behind it", 2, BYTES("\"\"x")},
	{"string, no comma before a string", 2, BYTES("\"\"\"\"")},
	{"string, not closed in an array", 6, BYTES("[\"asd]")},
	{"string, one within the other", 3, BYTES("[\"\\{[\"\\{[\"\\{")},

	{"UTF-8, continuation byte", 1, BYTES("\"\x80\"")},
	{"UTF-8, last continuation byte", 2, BYTES("\"a\xbf\"")},
	{"UTF-8, overlong slash of two bytes", 1, BYTES("\"\xc0\xaf\"")},
	{"UTF-8, overlong DEL", 1, BYTES("\"\xc1\xbf\"")},
	{"UTF-8, overlong NUL of two bytes", 1, BYTES("\"\xc0\x80\"")},
	{"UTF-8, overlong slash of three bytes", 1, BYTES("\"\xe0\x80\xaf\"")},
	{"UTF-8, overlong U+07FF", 1, BYTES("\"\xe0\x9f\xbf\"")},
	{"UTF-8, overlong slash of four bytes", 1, BYTES("\"\xf0\x80\x80\xaf\"")},
	{"UTF-8, overlong U+FFFF", 1, BYTES("\"\xf0\x8f\xbf\xbf\"")},
	{"UTF-8, overlong of five bytes", 1, BYTES("\"\xf8\x80\x80\x80\xaf\"")},
	{"UTF-8, overlong of six bytes", 1, BYTES("\"\xfc\x83\xbf\xbf\xbf\xbf\"")},
	{"UTF-8, first surrogate", 1, BYTES("\"\xed\xa0\x80\"")},
	{"UTF-8, last surrogate", 1, BYTES("\"\xed\xbf\xbf\"")},
	{"UTF-8, surrogate pair (CESU-8)", 1, BYTES("\"\xed\xa0\x81\xed\xb0\xb7\"")},
	{"UTF-8, U+110000", 1, BYTES("\"\xf4\x90\x80\x80\"")},
	{"UTF-8, U+140000", 1, BYTES("\"\xf5\x80\x80\x80\"")},
	{"UTF-8, U+1FFFFF", 1, BYTES("\"\xf7\xbf\xbf\xbf\"")},
	{"UTF-8, FE", 1, BYTES("\"\xfe\"")},
	{"UTF-8, FF", 1, BYTES("\"\xff\"")},
	{"UTF-8, one of two bytes", 1, BYTES("\"\xc3\"")},
	{"UTF-8, one of three bytes", 1, BYTES("\"\xe2\"")},
	{"UTF-8, two of three bytes", 1, BYTES("\"\xe2\x80\"")},
	{"UTF-8, three of four bytes", 1, BYTES("\"\xf0\x9f\x92\"")},
	{"UTF-8, cut by the end, two bytes", 1, BYTES("\"\xc3")},
	{"UTF-8, cut by the end, three bytes", 4, BYTES("\"abc\xe2\x80")},
	{"UTF-8, cut by the end, four bytes", 3, BYTES("\"\xc3\xa9\xf0\x9f\x92")},
	{"UTF-8, a letter inside", 1, BYTES("\"\xe2(\xa1\"")},
	{"UTF-8, Latin-1", 1, BYTES("\"\xe9t\xe9\"")},
	{"UTF-8, bad behind good", 7, BYTES("\"\xe2\x82\xac\xc3\xa9" "a\xff\"")},
	{"UTF-8, bad in a key", 2, BYTES("{\"\xff\":1}")},
	{"UTF-8, outside a string", 0, BYTES("\xe5")},
	{"UTF-8, letter of another script", 0, BYTES("\xc3\xa5")},
	{"UTF-8, letter behind a", 0, BYTES("a\xc3\xa5")},

	{"BOM alone", 0, BYTES("\xef\xbb\xbf")},
	{"BOM before an object", 0, BYTES("\xef\xbb\xbf{}")},
	{"BOM behind an object", 2, BYTES("{}\xef\xbb\xbf")},
	{"BOM not whole", 0, BYTES("\xef\xbb{}")},
	{"UTF-16, little endian with BOM", 0, BYTES("\xff\xfe[\0\"\0\xe9\0\"\0]\0")},
	{"UTF-16, big endian with BOM", 0, BYTES("\xfe\xff\0[\0]")},
	{"UTF-16, little endian", 1, BYTES("[\0]\0")},
	{"UTF-16, big endian", 0, BYTES("\0[\0]")},
	{"UTF-32, little endian", 1, BYTES("[\0\0\0]\0\0\0")},
	{"NUL alone", 0, BYTES("\0")},
	{"NUL before an object", 0, BYTES("\0{}")},
	{"angle bracket", 0, BYTES("<.>")},
	{"angle brackets around null", 1, BYTES("[<null>]")},
	{"star", 0, BYTES("*")},
	{"garbage behind an array", 3, BYTES("[1]x")},
	{"comma alone", 0, BYTES(",")},
	{"colon alone", 0, BYTES(":")},
	{"comment before it", 0, BYTES("// x\n1")},

	{"nested 33 deep, arrays", 32, BYTES("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]")},
	{"nested 33 deep, behind a value", 34, BYTES("[0,[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[")},
};

Test(json, a_mistake_is_found_where_it_is)
{
	for (size_t i = 0; i < COUNT_OF(refuses); i++) {
		const struct refused *row = &refuses[i];
		struct json j = read_document(row->text, NULL);

		cr_expect_not_null(j.error, "%s: was taken", row->name);
		cr_expect_eq(j.at, row->at, "%s: found at %zu, expected %zu (%s)", row->name, j.at, row->at, j.error);
	}
}

Test(json, a_mistake_is_told_by_what_was_expected)
{
	static const char *const rows[][2] = {
		{"", "expected a value"},
		{"[1 2]", "expected , or ]"},
		{"{\"a\":1]", "expected , or }"},
		{"{1:1}", "expected a string"},
		{"{\"a\"}", "expected :"},
		{"-", "expected a digit"},
		{"\"a", "expected a closing quote"},
		{"\"a\n\"", "a control character in a string must be escaped"},
		{"\"\xff\"", "not UTF-8"},
		{"\"\\x\"", "expected one of \"\\/bfnrtu after a backslash"},
		{"\"\\u12\"", "expected four hex digits after \\u"},
		{"1 1", "expected the end of the line"},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct json j = read_document(span_of(rows[i][0]), NULL);

		cr_expect(j.error != NULL && strcmp(j.error, rows[i][1]) == 0, "%s: %s", rows[i][0], j.error);
	}
}

Test(json, a_truncated_mistake_is_still_read_within_its_block)
{
	for (size_t i = 0; i < COUNT_OF(refuses); i++)
		for (size_t n = 0; n < refuses[i].text.n; n++) {
			struct json j = read_document((struct span){refuses[i].text.p, n}, NULL);

			cr_expect(n <= refuses[i].at || j.error != NULL, "%s: %zu bytes of it were taken", refuses[i].name, n);
		}
}

Test(json, D4_bytes_behind_a_document_are_a_mistake)
{
	char text[512];

	for (size_t i = 0; i < COUNT_OF(accepts); i++)
		for (int c = 0; c < 256; c++) {
			struct span more = {text, accepts[i].text.n + 2};

			memcpy(text, accepts[i].text.p, accepts[i].text.n);
			text[more.n - 2] = ' ';
			text[more.n - 1] = (char)c;
			if (is_document(more) != is_space((char)c))
				cr_expect_fail("%s: byte %d behind it", accepts[i].name, c);
		}
}

/* ---- nesting ---- */

static void expect_depth(const char *unit, size_t at)
{
	size_t n = strlen(unit), times = 100000;
	char *text = malloc(n * times);
	struct json j;

	cr_assert_not_null(text);
	for (size_t i = 0; i < times; i++)
		memcpy(text + i * n, unit, n);
	j = read_document((struct span){text, n * times}, NULL);
	cr_expect_str_eq(j.error, "nested too deep", "%s: %s", unit, j.error);
	cr_expect_eq(j.at, at, "%s: at %zu, expected %zu", unit, j.at, at);
	free(text);
}

Test(json, D5_nesting_100000_deep_is_refused_at_the_33rd_bracket)
{
	expect_depth("[", 32);
	expect_depth("{\"a\":", 32 * 5);
	expect_depth("[{\"\":", 16 * 5);
	expect_depth("[0,", 32 * 3);
	expect_depth(" [ ", 32 * 3 + 1);
}

Test(json, D5_opening_counts_as_nesting)
{
	struct json j = json_begin(span_of("{\"to\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["));

	cr_assert(json_open(&j, '{'));
	cr_assert(json_more(&j, '}'));
	cr_assert(json_key(&j, &(struct buf){.growable = false}));
	cr_assert_not(json_value(&j, NULL));
	cr_assert_eq(j.at, 6 + 31);
}

/* ---- UTF-8: the bytes as a number, and the number as its shortest form ---- */

static bool is_shortest_utf8(const unsigned char *p, size_t n)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t length = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf8 ? 4 : 0;
	uint32_t code = p[0] & (0xffu >> (length + 1));

	if (length != n)
		return false;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return false;
		code = code << 6 | (p[i] & 0x3f);
	}
	return code >= least[n] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
}

/* One sequence as a string, at the end of its block and before a quote. */
static void expect_utf8(const unsigned char *p, size_t n)
{
	char text[8] = "\"";
	struct span quoted = {text, n + 2};
	struct json j = json_begin(quoted);
	bool good;

	memcpy(text + 1, p, n);
	text[n + 1] = '"';
	good = json_value(&j, NULL) && json_end(&j);
	if (good != is_shortest_utf8(p, n) || (!good && j.at != 1))
		cr_expect_fail("%zu bytes beginning %02x %02x: %s", n, p[0], p[1], good ? "taken" : j.error);
}

Test(json, utf8_of_two_bytes_is_taken_if_it_is_the_shortest_form)
{
	for (uint32_t code = 0x8000; code < 0x10000; code++)
		expect_utf8((unsigned char[]){(unsigned char)(code >> 8), (unsigned char)code}, 2);
}

Test(json, utf8_of_three_bytes_is_taken_if_it_is_the_shortest_form)
{
	for (uint32_t code = 0xe00000; code < 0xf80000; code++)
		expect_utf8((unsigned char[]){(unsigned char)(code >> 16), (unsigned char)(code >> 8), (unsigned char)code}, 3);
}

Test(json, utf8_of_four_bytes_is_taken_if_it_is_the_shortest_form)
{
	static const unsigned char tails[] = {0x00, 0x22, 0x41, 0x5c, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};

	for (uint32_t head = 0xf000; head < 0x10000; head++)
		for (size_t i = 0; i < sizeof tails * sizeof tails; i++)
			expect_utf8((unsigned char[]){(unsigned char)(head >> 8), (unsigned char)head,
				tails[i / sizeof tails], tails[i % sizeof tails]}, 4);
}

Test(json, only_what_rfc_8259_names_is_white_space_or_a_control_character)
{
	for (int c = 0; c < 256; c++) {
		char outside[] = {(char)c, 'n', 'u', 'l', 'l'}, inside[] = {'"', (char)c, '"'};

		cr_expect_eq(is_document((struct span){outside, 5}), is_space((char)c), "outside: %d", c);
		cr_expect_eq(is_document((struct span){inside, 3}), c >= ' ' && c < 0x80 && c != '"' && c != '\\', "inside: %d", c);
	}
}

/* ---- the walk: json_open, json_more, json_key ---- */

/* The same document by the other way through it. */
static bool walk(struct json *j)
{
	char kind = json_peek(j), shut = kind == '{' ? '}' : ']';
	struct buf name = buf_growable();
	bool good = true;

	if (kind != '{' && kind != '[')
		return json_value(j, NULL);
	if (!json_open(j, kind))
		return false;
	while (good && json_more(j, shut))
		good = (kind == '[' || json_key(j, &name)) && walk(j);
	buf_free(&name);
	return good && j->error == NULL;
}

static struct json walk_document(struct span text)
{
	struct span copy = exact(text);
	struct json j = json_begin(copy);
	bool good = walk(&j) && json_end(&j);

	cr_expect_eq(good, j.error == NULL, "what is returned and what is in error differ");
	exact_free(copy);
	return j;
}

Test(json, walking_comes_to_the_same_as_reading_at_once)
{
	for (size_t i = 0; i < COUNT_OF(accepts); i++) {
		struct json j = walk_document(accepts[i].text);

		cr_expect_null(j.error, "%s: %s at %zu", accepts[i].name, j.error, j.at);
	}
	for (size_t i = 0; i < COUNT_OF(refuses); i++) {
		struct json walked = walk_document(refuses[i].text), read = read_document(refuses[i].text, NULL);

		cr_expect_not_null(walked.error, "%s: was taken", refuses[i].name);
		cr_expect_str_eq(walked.error, read.error, "%s: %s, %s", refuses[i].name, walked.error, read.error);
		cr_expect_eq(walked.at, read.at, "%s: at %zu, %zu", refuses[i].name, walked.at, read.at);
	}
}

Test(json, the_walk_gives_names_and_values_in_order)
{
	struct json j = json_begin(span_of(" { \"users\" : [ 7 , \"8\" ] , \"a\\u0062c\" : { } } "));
	struct buf b = buf_growable();
	int64_t n;

	cr_assert_eq(json_peek(&j), '{');
	cr_assert(json_open(&j, '{') && json_more(&j, '}') && json_key(&j, &b));
	cr_assert(span_is(buf_view(&b), "users"));
	cr_assert(json_open(&j, '[') && json_more(&j, ']') && json_peek(&j) == '0' && json_integer(&j, &n));
	cr_assert_eq(n, 7);
	buf_clear(&b);
	cr_assert(json_more(&j, ']') && json_peek(&j) == '"' && json_string(&j, &b));
	cr_assert(span_is(buf_view(&b), "8"));
	cr_assert_not(json_more(&j, ']'));
	buf_clear(&b);
	cr_assert(json_more(&j, '}') && json_key(&j, &b));
	cr_assert(span_is(buf_view(&b), "abc"));
	cr_assert(json_open(&j, '{'));
	cr_assert_not(json_more(&j, '}'));
	cr_assert_not(json_more(&j, '}'));
	cr_assert(json_end(&j), "%s at %zu", j.error, j.at);
	cr_assert_eq(j.depth, 0);
	buf_free(&b);
}

Test(json, peek_tells_the_kind_of_a_value)
{
	static const struct {
		const char *text;
		char kind;
	} rows[] = {
		{"{}", '{'}, {" [", '['}, {"\t\"", '"'}, {"\n0", '0'}, {"\r9", '0'}, {"5", '0'}, {"-", '0'}, {"true", 't'},
		{"false", 'f'}, {"null", 'n'}, {"", 0}, {" ", 0}, {"}", 0}, {"]", 0}, {",", 0}, {":", 0}, {"+1", 0}, {".5", 0},
		{"N", 0}, {"I", 0}, {"'", 0}, {"/", 0}, {"\xff", 0}, {"\x01", 0},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct json j = json_begin(span_of(rows[i].text));

		cr_expect_eq(json_peek(&j), rows[i].kind, "'%s'", rows[i].text);
		cr_expect_null(j.error, "'%s'", rows[i].text);
	}
}

/* ---- the first mistake ---- */

/* Everything that can be asked after a mistake says no. */
static void ask_everything(struct json *j, const char *name)
{
	struct buf b = buf_growable();
	int64_t n;

	cr_expect_eq(json_peek(j), 0, "%s: peek", name);
	cr_expect_not(json_value(j, &b), "%s: value", name);
	cr_expect_not(json_string(j, &b), "%s: string", name);
	cr_expect_not(json_integer(j, &n), "%s: integer", name);
	cr_expect_not(json_open(j, '{'), "%s: open", name);
	cr_expect_not(json_open(j, '['), "%s: open", name);
	cr_expect_not(json_more(j, '}'), "%s: more", name);
	cr_expect_not(json_more(j, ']'), "%s: more", name);
	cr_expect_not(json_key(j, &b), "%s: key", name);
	cr_expect_not(json_fail(j, 0, "another"), "%s: fail", name);
	cr_expect_not(json_end(j), "%s: end", name);
	cr_expect_eq(b.len, 0, "%s: something was read", name);
	buf_free(&b);
}

Test(json, the_first_mistake_stays)
{
	for (size_t i = 0; i < COUNT_OF(refuses); i++) {
		struct json j = json_begin(refuses[i].text);
		const char *error;

		if (json_value(&j, NULL) && json_end(&j))
			continue;
		error = j.error;
		ask_everything(&j, refuses[i].name);
		cr_expect_str_eq(j.error, error, "%s: %s became %s", refuses[i].name, error, j.error);
		cr_expect_eq(j.at, refuses[i].at, "%s: %zu became %zu", refuses[i].name, refuses[i].at, j.at);
	}
}

Test(json, a_mistake_of_meaning_stays_where_it_was_named)
{
	struct json j = json_begin(span_of("{\"a\": \n 1}"));

	cr_assert_not(json_fail(&j, 5, "no such key"));
	cr_assert_not(json_end(&j));
	cr_assert_str_eq(j.error, "no such key");
	cr_assert_eq(j.at, 5, "at %zu", j.at);
}

/* ---- strings ---- */

static const struct decoded {
	const char *name;
	struct span text, value;
} strings[] = {
	{"empty", BYTES("\"\""), BYTES("")},
	{"space before it", BYTES(" \t\r\n\"a\""), BYTES("a")},
	{"all short escapes", BYTES("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), BYTES("\"\\/\b\f\n\r\t")},
	{"an escape between letters", BYTES("\"a\\nb\""), BYTES("a\nb")},
	{"NUL", BYTES("\"a\\u0000b\""), BYTES("a\0b")},
	{"letter escaped", BYTES("\"\\u0041\""), BYTES("A")},
	{"U+007F", BYTES("\"\\u007f\""), BYTES("\x7f")},
	{"U+0080", BYTES("\"\\u0080\""), BYTES("\xc2\x80")},
	{"U+07FF", BYTES("\"\\u07FF\""), BYTES("\xdf\xbf")},
	{"U+0800", BYTES("\"\\u0800\""), BYTES("\xe0\xa0\x80")},
	{"U+D7FF and U+E000", BYTES("\"\\ud7ff\\ue000\""), BYTES("\xed\x9f\xbf\xee\x80\x80")},
	{"U+FFFF", BYTES("\"\\uffff\""), BYTES("\xef\xbf\xbf")},
	{"U+10000", BYTES("\"\\ud800\\udc00\""), BYTES("\xf0\x90\x80\x80")},
	{"U+1F4A9", BYTES("\"\\uD83D\\uDCA9\""), BYTES("\xf0\x9f\x92\xa9")},
	{"U+103FF", BYTES("\"\\ud800\\udfff\""), BYTES("\xf0\x90\x8f\xbf")},
	{"U+10FC00", BYTES("\"\\udbff\\udc00\""), BYTES("\xf4\x8f\xb0\x80")},
	{"U+10FFFF", BYTES("\"\\udbff\\udfff\""), BYTES("\xf4\x8f\xbf\xbf")},
	{"two pairs", BYTES("\"\\ud83d\\ude00\\ud83d\\ude01\""), BYTES("\xf0\x9f\x98\x80\xf0\x9f\x98\x81")},
	{"backslash, then u0041", BYTES("\"\\\\u0041\""), BYTES("\\u0041")},
	{"capital and small digits", BYTES("\"\\u00eF\\u00Ef\""), BYTES("\xc3\xaf\xc3\xaf")},
	{"UTF-8 as it is", BYTES("\"\xd0\x96\xe2\x82\xac\xf0\x9f\x92\xa9\""), BYTES("\xd0\x96\xe2\x82\xac\xf0\x9f\x92\xa9")},
	{"UTF-8, letters and escapes mixed", BYTES("\"\xc3\xa9" "a\\u00e9\\n\xc3\xa9\""),
		BYTES("\xc3\xa9" "a\xc3\xa9\n\xc3\xa9")},
};

Test(json, a_string_is_decoded)
{
	for (size_t i = 0; i < COUNT_OF(strings); i++) {
		struct span copy = exact(strings[i].text);
		struct json j = json_begin(copy);
		struct buf value = buf_growable();

		cr_expect(json_string(&j, &value) && json_end(&j), "%s: %s at %zu", strings[i].name, j.error, j.at);
		cr_expect(span_same(buf_view(&value), strings[i].value), "%s: %.*s", strings[i].name, (int)value.len, value.data);
		buf_free(&value);
		exact_free(copy);
	}
}

Test(json, a_truncated_string_is_rejected)
{
	for (size_t i = 0; i < COUNT_OF(strings); i++)
		for (size_t n = 0; n < strings[i].text.n; n++) {
			struct span copy = exact((struct span){strings[i].text.p, n});
			struct json j = json_begin(copy);
			struct buf value = buf_growable();

			cr_expect_not(json_string(&j, &value), "%s: %zu bytes of it", strings[i].name, n);
			cr_expect(j.at <= n, "%s: at %zu of %zu", strings[i].name, j.at, n);
			buf_free(&value);
			exact_free(copy);
		}
}

Test(json, a_string_that_means_nothing_is_rejected)
{
	static const struct refused rows[] = {
		{"a high surrogate alone", 1, BYTES("\"\\ud800\"")},
		{"the last high surrogate alone", 1, BYTES("\"\\uDBFF\"")},
		{"a low surrogate alone", 1, BYTES("\"\\udc00\"")},
		{"the last low surrogate alone", 1, BYTES("\"\\uDFFF\"")},
		{"a high surrogate before a letter", 3, BYTES("\"ab\\ud800a\"")},
		{"a high surrogate before a newline", 1, BYTES("\"\\ud800\\n\"")},
		{"a high surrogate before a backslash", 1, BYTES("\"\\ud800\\\\udc00\"")},
		{"two high surrogates", 1, BYTES("\"\\ud800\\ud800\"")},
		{"two high surrogates and a low one", 1, BYTES("\"\\ud800\\ud800\\udc00\"")},
		{"a high surrogate before an escaped letter", 1, BYTES("\"\\ud800\\u0041\"")},
		{"a high surrogate before U+E000", 1, BYTES("\"\\ud800\\ue000\"")},
		{"a pair, then a low surrogate", 13, BYTES("\"\\ud800\\udc00\\udc00\"")},
		{"in the wrong order", 1, BYTES("\"\\udc00\\ud800\"")},
		{"two low surrogates", 1, BYTES("\"\\udc00\\udc00\"")},
		{"low half not hex", 9, BYTES("\"\\ud800\\uxc00\"")},
		{"the surrogate is the last thing there is", 1, BYTES("\"\\ud800")},
		{"a backslash behind it is the last thing there is", 1, BYTES("\"\\ud800\\")},
		{"not a string: a number", 0, BYTES("1")},
		{"not a string: an array", 1, BYTES(" [\"a\"]")},
		{"not a string: null", 0, BYTES("null")},
		{"not a string: nothing", 0, BYTES("")},
		{"a control character", 2, BYTES("\"a\x01\"")},
		{"not UTF-8", 2, BYTES("\"a\xff\"")},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct span copy = exact(rows[i].text);
		struct json j = json_begin(copy);
		struct buf value = buf_growable();

		cr_expect_not(json_string(&j, &value), "%s: was taken", rows[i].name);
		cr_expect_eq(j.at, rows[i].at, "%s: found at %zu, expected %zu (%s)", rows[i].name, j.at, rows[i].at, j.error);
		buf_free(&value);
		exact_free(copy);
	}
}

Test(json, a_name_that_means_nothing_or_has_no_colon_is_rejected)
{
	static const struct refused rows[] = {
		{"no colon", 3, BYTES("\"a\"1")},
		{"cut before the colon", 4, BYTES("\"a\" ")},
		{"a surrogate alone", 1, BYTES("\"\\ud800\":1")},
		{"a number", 0, BYTES("1:1")},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct json j = json_begin(rows[i].text);
		struct buf name = buf_growable();

		cr_expect_not(json_key(&j, &name), "%s: was taken", rows[i].name);
		cr_expect_eq(j.at, rows[i].at, "%s: found at %zu, expected %zu", rows[i].name, j.at, rows[i].at);
		buf_free(&name);
	}
}

/* ---- whole numbers ---- */

Test(json, a_whole_number_is_read_up_to_2_to_the_53)
{
	static const struct {
		const char *text;
		int64_t value;
	} rows[] = {
		{"0", 0}, {"7", 7}, {" \n42", 42}, {"10", 10}, {"4294967296", INT64_C(4294967296)},
		{"9007199254740991", INT64_C(9007199254740991)}, {"9007199254740992", INT64_C(9007199254740992)},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct span copy = exact(span_of(rows[i].text));
		struct json j = json_begin(copy);
		int64_t n = -1;

		cr_expect(json_integer(&j, &n) && json_end(&j), "%s: %s", rows[i].text, j.error);
		cr_expect_eq(n, rows[i].value, "%s: %lld", rows[i].text, (long long)n);
		exact_free(copy);
	}
}

Test(json, what_is_no_whole_number_up_to_2_to_the_53_is_rejected)
{
	static const struct refused rows[] = {
		{"2^53 + 1", 0, BYTES("9007199254740993")},
		{"2^63", 0, BYTES("9223372036854775808")},
		{"2^64", 0, BYTES("18446744073709551616")},
		{"2^64 + 7", 1, BYTES(" 18446744073709551623")},
		{"forty digits", 0, BYTES("1000000000000000000000000000000000000000")},
		{"-1", 0, BYTES("-1")},
		{"-0", 0, BYTES("-0")},
		{"1.0", 0, BYTES("1.0")},
		{"0.0", 0, BYTES("0.0")},
		{"1e2", 0, BYTES("1e2")},
		{"0e0", 0, BYTES("0e0")},
		{"1E2", 0, BYTES("1E2")},
		{"1.", 2, BYTES("1.")},
		{"1e", 2, BYTES("1e")},
		{"-", 1, BYTES("-")},
		{"+1", 0, BYTES("+1")},
		{"01", 1, BYTES("01")},
		{"1x", 1, BYTES("1x")},
		{"a string", 2, BYTES("  \"1\"")},
		{"true", 0, BYTES("true")},
		{"null", 0, BYTES("null")},
		{"an array", 0, BYTES("[1]")},
		{"nothing", 0, BYTES("")},
	};

	for (size_t i = 0; i < COUNT_OF(rows); i++) {
		struct span copy = exact(rows[i].text);
		struct json j = json_begin(copy);
		int64_t n;

		cr_expect_not(json_integer(&j, &n) && json_end(&j), "%s: was taken", rows[i].name);
		cr_expect_eq(j.at, rows[i].at, "%s: found at %zu, expected %zu (%s)", rows[i].name, j.at, rows[i].at, j.error);
		exact_free(copy);
	}
}

/* ---- the writer ---- */

/* How a byte stands in a string that is written. */
static void written_byte(struct buf *b, unsigned char c)
{
	char text[8];

	if (c == '"' || c == '\\')
		snprintf(text, sizeof text, "\\%c", c);
	else if (c < ' ')
		snprintf(text, sizeof text, "\\u%04x", c);
	else
		snprintf(text, sizeof text, "%c", c);
	buf_text(b, text);
}

Test(json, every_byte_is_written_as_rfc_8259_asks)
{
	for (int c = 0; c < 256; c++) {
		char byte = (char)c;
		struct span copy = exact((struct span){&byte, 1});
		struct buf written = buf_growable(), expected = buf_growable();

		buf_byte(&expected, '"');
		written_byte(&expected, (unsigned char)c);
		buf_byte(&expected, '"');
		json_write_string(&written, copy);
		cr_expect(span_same(buf_view(&written), buf_view(&expected)), "%d: %.*s", c, (int)written.len, written.data);
		buf_free(&written);
		buf_free(&expected);
		exact_free(copy);
	}
}

Test(json, what_is_written_is_read_back)
{
	char all[128 + 6];
	struct buf written = buf_growable(), read = buf_growable();
	struct json j;

	for (int c = 0; c < 128; c++)
		all[c] = (char)c;
	memcpy(all + 128, "\xd0\x96\xf0\x9f\x92\xa9", 6);
	json_write_string(&written, (struct span){all, sizeof all});
	j = json_begin(buf_view(&written));
	cr_assert(json_string(&j, &read) && json_end(&j), "%s at %zu", j.error, j.at);
	cr_assert(span_same(buf_view(&read), (struct span){all, sizeof all}));
	for (size_t i = 0; i < written.len; i++)
		cr_assert((unsigned char)written.data[i] >= ' ', "a control character at %zu", i);
	buf_free(&written);
	buf_free(&read);
}

Test(json, an_empty_string_is_two_quotes)
{
	char bytes[2];
	struct buf b = buf_fixed(bytes, sizeof bytes);

	json_write_string(&b, (struct span){NULL, 0});
	cr_assert(span_is(buf_view(&b), "\"\"") && !b.failed);
}
