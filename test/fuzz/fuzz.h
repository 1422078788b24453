/*
 * fuzz.h - what the fuzz targets share. Each fuzz_NAME.c defines LLVMFuzzerTestOneInput; it is linked with libFuzzer
 * (make fuzz), or with replay.c, which only gives it files (make fuzz-replay).
 *
 * A parser gets its input in a block that ends where it ends (exact of vectors.h), or with everything behind it
 * poisoned (begin_only), so that the sanitizer sees one byte too many.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "sse.h"
#include "test/vectors.h"

#include <sanitizer/asan_interface.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
/* Called once, before anything else; a target need not have it. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define check(good, ...) cr_assert(good, __VA_ARGS__)

/* Of an exact copy, all but the first n bytes must not be looked at from now on. */
static inline void begin_only(struct span whole, size_t n)
{
	ASAN_UNPOISON_MEMORY_REGION(whole.p, whole.n);
	if (n < whole.n)
		ASAN_POISON_MEMORY_REGION(whole.p + n, whole.n - n);
}

/* Is part within whole? So is an absent one. */
static inline bool is_within(struct span part, struct span whole)
{
	return part.p == NULL || (part.p >= whole.p && part.n <= whole.n && (size_t)(part.p - whole.p) <= whole.n - part.n);
}

/* Numbers that depend on the input, and on nothing else: what need not be found by mutation. */
uint64_t seed_of(struct span input);

/* The server's random numbers begin anew: the same input must lead to the same run. */
void chance_begin(void);

/* The input read from its front, a number or some bytes at a time. At its end every number is 0. */
uint32_t take_upto(struct span *rest, uint32_t most);
/* Up to the next c, which goes too, or all there is. */
struct span take_line(struct span *rest, char c);

/* ---- what RFC 8259 and RFC 3629 say, written once more ---- */

bool is_utf8(struct span text);
/* Is this one JSON value, white space around it, nested at most so deep? */
bool is_json(struct span text, int depth);
/* The same, without any white space that is not in a string. */
bool is_compact(struct span text);

/* An error that is shown to people: something, in one line, without control characters. */
bool is_one_line(const struct buf *error);

/* Is this one event's frame, as WHATWG HTML section 9.2 has it: its id, one line of data that is JSON, an empty
 * line? */
bool is_event_frame(struct span frame, struct event_id *id, struct span *data);

#endif
