/* worlds.h - what the targets share that have a server of world.h. */
#ifndef WORLDS_H
#define WORLDS_H

#include "fuzz.h"

#include "world.h"

/* A world without a server, in a directory of its own; chance begins anew. */
void world_clear(void);

/* A server for many inputs, because a new one for each would take most of the time: start is called when there is
 * none. After lasting_end it must be as start left it, but for the events that it had. */
void lasting_begin(void (*start)(void));
void lasting_end(void);

#endif
