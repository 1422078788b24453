/* fuzz_status.c - what answers sse --status: two answers, with a newline between. It may be any program. */
#include "fuzz.h"

static bool read_exact(struct span text, struct status *status)
{
	struct span copy = exact(text);
	bool good = status_read(copy, status);

	exact_free(copy);
	return good;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span rest = {(const char *)bytes, n}, first = take_line(&rest, '\n');
	struct status before, now;
	struct buf text = buf_growable();
	bool good = read_exact(first, &before);

	check(!good || is_json(first, MAX_DEPTH), "read, and is no JSON");
	if (good && read_exact(rest, &now)) {
		status_show(&before, &now, &text);
		check(!text.failed && text.len > 0 && text.data[text.len - 1] == '\n', "not shown");
		for (size_t i = 0; i < text.len; i++)
			check(text.data[i] == '\n' || ((uint8_t)text.data[i] >= ' ' && text.data[i] != 0x7f), "byte %d is shown", text.data[i]);
	}
	buf_free(&text);
	return 0;
}
