/* test_datagram.c - what Django says, and what it gets back. */
#include "world.h"

#include <string.h>

static const char *const tokens = "boss 1 manager\nfore 789 foreman\n";

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
