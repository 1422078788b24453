/*
 * replay.c - a main without libFuzzer: gives a target the files that it is told, one after the other.
 *   build/gcc/replay_http test/fuzz/corpus/http     a file, or all files of a directory, and nothing at all
 */
#include "fuzz.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>

static char current[4096];

/* Says which file it was that ended the program. */
static void tell(void)
{
	fprintf(stderr, "replay: this was %s\n", current);
}

static void on_abort(int number)
{
	tell();
	signal(number, SIG_DFL);
	raise(number);
}

static void replay_file(const char *path)
{
	FILE *f = fopen(path, "r");
	struct buf all = buf_growable();
	char part[4096];
	size_t n;

	check(f != NULL, "cannot read %s", path);
	while ((n = fread(part, 1, sizeof part, f)) > 0)
		buf_bytes(&all, part, n);
	fclose(f);
	snprintf(current, sizeof current, "%s", path);
	LLVMFuzzerTestOneInput((const uint8_t *)(all.len > 0 ? all.data : ""), all.len);
	buf_free(&all);
}

int main(int argc, char **argv)
{
	int files = 0;

	__sanitizer_set_death_callback(tell);
	signal(SIGABRT, on_abort);
	LLVMFuzzerInitialize(&argc, &argv);
	strcpy(current, "(nothing)");
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		struct dirent *entry;

		if (dir == NULL) {
			replay_file(argv[i]);
			files++;
			continue;
		}
		while ((entry = readdir(dir)) != NULL) {
			char path[4096];

			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
			replay_file(path);
			files++;
		}
		closedir(dir);
	}
	printf("%s: %d inputs\n", argv[0], files);
	return files > 0 ? 0 : 1;
}
