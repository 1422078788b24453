/*
 * fuzz_server.c - a whole server against the model of model.h: the first byte is its setup, all that follows is
 * what happens. Connections, what they say and how much they take, datagrams, the disk, kills, and time come out of
 * one stream of bytes.
 */
#include "fuzz.h"

#include "model.h"

#define DAY (24 * INT64_C(3600000))

enum { STEPS_MOST = 400 };

static const struct setup setups[] = {
	{NULL, 4, 65536, 1024, DAY, 0}, {"none", 4, 65536, 2048, DAY, 0}, {"batch", 10, 131072, 4096, DAY, 0},
	{"always", 4, 65536, 2048, DAY, 0}, {NULL, 2, 65536, 4096, 5000, 0}, {"batch", 3, 65536, 2048, 3600000, 0},
	{"always", 30, 262144, 4096, 5000, 0}, {NULL, 100, 1 << 20, 4096, DAY, 0},
};

static struct span rest;

uint32_t upto(uint32_t most)
{
	return take_upto(&rest, most);
}

void model_chance_tell(void)
{
	fprintf(stderr, "%zu bytes of the input are left, ", rest.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	rest = (struct span){(const char *)bytes, n};
	chance_begin();
	model_begin(&setups[upto(COUNT_OF(setups) - 1)]);
	for (int i = 0; i < STEPS_MOST && rest.n > 0; i++)
		model_step();
	rest.n = 0;
	model_end();
	return 0;
}
