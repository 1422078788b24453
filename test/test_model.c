/*
 * test_model.c - random runs of the server against the model of model.c.
 *   MODEL_SEED=7 MODEL_STEPS=5000000 build/gcc/test_model      other steps, and more of them
 * A failure says seed and step, and what the last steps were.
 */
#include "model.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#define COUNT_OF(array) (sizeof (array) / sizeof (array)[0])

enum { STEPS = 250000 }; /* of each test */

static struct {
	uint64_t seed, steps, random;
} run_of;

uint32_t upto(uint32_t most)
{
	uint64_t z = run_of.random += 0x9e3779b97f4a7c15; /* splitmix64 (Vigna) */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (uint32_t)((z ^ z >> 31) % ((uint64_t)most + 1));
}

/* The server's own chance, instead of libc's: the same seed must lead to the same run. */
ssize_t getrandom(void *bytes, size_t n, unsigned flags)
{
	(void)flags;
	for (size_t i = 0; i < n; i++)
		((unsigned char *)bytes)[i] = (unsigned char)upto(255);
	return (ssize_t)n;
}

void model_chance_tell(void)
{
	fprintf(stderr, "MODEL_SEED=%llu MODEL_STEPS=%llu, ", (unsigned long long)run_of.seed,
		(unsigned long long)run_of.steps);
}

/* A crash tells what led to it, too. */
static void on_crash(int number)
{
	model_tell();
	signal(number, SIG_DFL);
	raise(number);
}

static void run(uint64_t seed, const struct setup *setups, uint32_t count)
{
	const char *other = getenv("MODEL_SEED"), *more = getenv("MODEL_STEPS");

	run_of.seed = other != NULL ? strtoull(other, NULL, 10) : seed;
	run_of.steps = more != NULL ? strtoull(more, NULL, 10) : STEPS;
	run_of.random = run_of.seed;
	signal(SIGABRT, on_crash);
	signal(SIGSEGV, on_crash);
	for (uint32_t i = 0; i < count; i++) {
		model_begin(&setups[i]);
		for (uint64_t end = model_steps() + run_of.steps * (uint64_t)setups[i].share / 1000; model_steps() < end;)
			model_step();
		model_end();
	}
}

#define HOUR 3600000
#define WEEK (168 * INT64_C(3600000))

Test(model, in_memory)
{
	static const struct setup setups[] = {{NULL, 100, 1 << 20, 4096, WEEK, 200}, {NULL, 4, 65536, 2048, WEEK, 300},
		{NULL, 2, 65536, 4096, 5000, 200}, {NULL, 500, 4 << 20, 4096, HOUR, 100}, {NULL, 16, 65536, 1024, WEEK, 200}};

	run(1, setups, COUNT_OF(setups));
}

Test(model, journal_that_is_never_synced)
{
	static const struct setup setups[] = {{"none", 4, 65536, 2048, WEEK, 500}, {"none", 100, 1 << 20, 4096, WEEK, 200},
		{"none", 8, 65536, 2048, 5000, 290}, {"none", 20, 32 << 20, 1 << 18, WEEK, 10}};

	run(2, setups, COUNT_OF(setups));
}

Test(model, journal_synced_in_batches)
{
	static const struct setup setups[] = {{"batch", 10, 131072, 4096, WEEK, 400}, {"batch", 3, 65536, 2048, HOUR, 400},
		{"batch", 50, 1 << 20, 4096, WEEK, 200}};

	run(3, setups, COUNT_OF(setups));
}

Test(model, journal_synced_before_each_ack)
{
	static const struct setup setups[] = {{"always", 4, 65536, 2048, WEEK, 600}, {"always", 30, 262144, 4096, HOUR, 400}};

	run(4, setups, COUNT_OF(setups));
}
