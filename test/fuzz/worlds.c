/* worlds.c - see worlds.h. */
#include "worlds.h"

#include <unistd.h>

enum { LASTING_INPUTS = 200 };

static int inputs = -1; /* that this server had; -1: nobody has asked for one yet */

void world_clear(void)
{
	chance_begin();
	memset(&world, 0, sizeof world);
	strcpy(world.dir, "/dev/shm/sse-fuzz-XXXXXX"); /* where there is one: it is a matter of speed only */
	if (mkdtemp(world.dir) == NULL)
		world.dir[0] = '\0';
}

static void stop(void)
{
	if (inputs > 0)
		world_stop();
	inputs = 0;
}

void lasting_begin(void (*start)(void))
{
	if (inputs < 0) {
		atexit(stop);
		inputs = 0;
	}
	if (inputs++ > 0)
		return;
	world_clear();
	start();
}

void lasting_end(void)
{
	if (inputs == LASTING_INPUTS)
		stop();
}
