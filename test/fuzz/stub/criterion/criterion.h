/* criterion.h - stands in for Criterion's where world.c and model.c are fuzzed: what fails, aborts. */
#ifndef FUZZ_CRITERION_H
#define FUZZ_CRITERION_H

#include <stdio.h>
#include <stdlib.h>

#define cr_assert(good, ...) do { if (!(good)) { \
	fprintf(stderr, "%s:%d: not so: %s. ", __FILE__, __LINE__, #good); \
	fprintf(stderr, " " __VA_ARGS__); \
	fputc('\n', stderr); \
	abort(); \
} } while (0)
#define cr_assert_eq(a, b, ...) cr_assert((a) == (b), __VA_ARGS__)
#define cr_assert_lt(a, b, ...) cr_assert((a) < (b), __VA_ARGS__)
#define cr_assert_gt(a, b, ...) cr_assert((a) > (b), __VA_ARGS__)
#define cr_assert_geq(a, b, ...) cr_assert((a) >= (b), __VA_ARGS__)
#define cr_assert_null(a, ...) cr_assert((a) == NULL, __VA_ARGS__)
#define cr_assert_not_null(a, ...) cr_assert((a) != NULL, __VA_ARGS__)
#define cr_expect cr_assert
#define cr_expect_eq cr_assert_eq

#endif
