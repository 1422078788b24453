/*
 * model.h - the server against a model of who must see what: publishers, pages, slow readers, strangers, changes
 * of roles, kills and restarts, disks that fail. Nothing may be missing, repeated, out of order, or shown to
 * who must not see it; who cannot be given what it missed must be told, and nobody else.
 *
 * What happens is up to whoever links it: test_model.c draws lots, test/fuzz/fuzz_server.c reads an input.
 */
#ifndef MODEL_H
#define MODEL_H

#include "world.h"

/* ---- to be supplied ---- */

/* 0 to most: every choice of the model is one of these. */
uint32_t upto(uint32_t most);
/* Says on stderr how to get this run again. */
void model_chance_tell(void);

/* ---- supplied ---- */

struct setup {
	const char *sync; /* --journal-sync; NULL: no journal */
	int queue, history_bytes, datagram;
	int64_t age_ms;
	int share; /* of the steps, in 1000 */
};

void model_begin(const struct setup *s);
void model_step(void);
/* All is mended, everybody reads and leaves: nothing may be missing, or left open. */
void model_end(void);
/* The last steps, on stderr. */
void model_tell(void);
/* Steps that were taken since the program began. */
uint64_t model_steps(void);

#endif
