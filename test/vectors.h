/* vectors.h - what the tests over tables of vectors share. */
#ifndef VECTORS_H
#define VECTORS_H

#include "sse.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])
/* A literal as a span in a table: it may have NULs inside. */
#define BYTES(text) {text, sizeof(text) - 1}

/* A copy in a heap block that ends where it ends, so that the sanitizer sees one byte too many. */
static inline struct span exact(struct span s)
{
	char *block = malloc(s.n > 0 ? s.n : 1);

	cr_assert_not_null(block);
	if (s.n == 0)
		return (struct span){block + 1, 0};
	memcpy(block, s.p, s.n);
	return (struct span){block, s.n};
}

static inline void exact_free(struct span s)
{
	free((void *)(uintptr_t)(s.n > 0 ? s.p : s.p - 1));
}

/* xorshift64*: the same numbers in every run. The state is not 0; returns 0 .. below-1. */
static inline uint32_t random_below(uint64_t *state, uint32_t below)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)((*state * UINT64_C(2685821657736338717)) >> 32) % below;
}

/* Bytes that the heap has given out, as the sanitizer counts them; without one always 0. */
__attribute__((weak)) size_t __sanitizer_get_current_allocated_bytes(void);

static inline size_t heap_bytes(void)
{
	return __sanitizer_get_current_allocated_bytes != NULL ? __sanitizer_get_current_allocated_bytes() : 0;
}

#endif
