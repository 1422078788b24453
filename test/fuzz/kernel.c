/* kernel.c - see kernel.h. */
#define KERNEL_C
#include "kernel.h"

#include <errno.h>
#include <sanitizer/asan_interface.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

enum { NODES = 512, OPEN = 1024, PATH = 160, LARGE = 128 << 10, PAGE = 4096 };

/* A file or a directory. */
struct node {
	char path[PATH]; /* "": none; unlinked, but open, it has none either */
	size_t path_bytes;
	int opens;
	bool directory;
	ino_t number;
	char *bytes; /* stays for the next file */
	size_t n, cap;
	struct opened *lock;
};

/* What open gives; descriptors share it. */
struct opened {
	struct node *node;
	int descriptors, flags;
	size_t at;
};

static struct node nodes[NODES];
static int node_top; /* none is used from this one on */
static struct opened opened[OPEN];
static struct opened *descriptors[OPEN]; /* by descriptor, from KERNEL_FD on */
static int descriptor_top;
static ino_t last_number;

static int fails_with(int error)
{
	errno = error;
	return -1;
}

static bool is_ours(const char *path)
{
	return strncmp(path, KERNEL_FILES, sizeof KERNEL_FILES - 1) == 0;
}

/* memcmp is the sanitizer's, and libFuzzer's. From the end, because paths begin alike. */
static bool same(const char *a, const char *b, size_t n)
{
	while (n > 0 && a[n - 1] == b[n - 1])
		n--;
	return n == 0;
}

static struct node *node_find(const char *path)
{
	size_t n = strlen(path);

	for (int i = 0; i < node_top; i++)
		if (nodes[i].path_bytes == n && n > 0 && same(nodes[i].path, path, n))
			return &nodes[i];
	errno = ENOENT;
	return NULL;
}

static struct node *node_make(const char *path, bool directory)
{
	char parent[PATH];
	const struct node *in;
	struct node *f = nodes;

	if (strlen(path) >= PATH)
		abort();
	strcpy(parent, path);
	*strrchr(parent, '/') = '\0';
	if (is_ours(parent) && ((in = node_find(parent)) == NULL || !in->directory))
		return NULL;
	while (f < nodes + NODES && (f->path_bytes > 0 || f->opens > 0))
		f++;
	if (f == nodes + NODES)
		abort();
	if (f - nodes >= node_top)
		node_top = (int)(f - nodes) + 1;
	*f = (struct node){.bytes = f->bytes, .cap = f->cap, .directory = directory, .number = ++last_number};
	strcpy(f->path, path);
	f->path_bytes = strlen(path);
	return f;
}

static int descriptor_make(struct opened *o)
{
	int i = 0;

	while (i < OPEN && descriptors[i] != NULL)
		i++;
	if (i == OPEN)
		abort();
	if (i >= descriptor_top)
		descriptor_top = i + 1;
	descriptors[i] = o;
	o->descriptors++;
	return KERNEL_FD + i;
}

/* Nobody's mistake may go on. */
static _Noreturn void ends(const char *why, int fd)
{
	fprintf(stderr, "kernel.c: %s, descriptor %d\n", why, fd);
	abort();
}

/* NULL: not one of ours. */
static struct opened *opened_find(int fd)
{
	if (fd < KERNEL_FD || fd >= KERNEL_FD + OPEN)
		return NULL;
	if (descriptors[fd - KERNEL_FD] == NULL)
		ends("a file is used that is closed", fd);
	return descriptors[fd - KERNEL_FD];
}

static int node_open(const char *path, int flags)
{
	struct node *f = node_find(path);
	struct opened *o = opened;

	if (f != NULL && (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0)
		return fails_with(EEXIST);
	if (f == NULL && ((flags & O_CREAT) == 0 || (f = node_make(path, false)) == NULL))
		return fails_with(ENOENT);
	if (f->directory != ((flags & O_DIRECTORY) != 0) && (!f->directory || (flags & O_ACCMODE) != O_RDONLY))
		return fails_with(f->directory ? EISDIR : ENOTDIR);
	if ((flags & O_TRUNC) != 0)
		f->n = 0;
	while (o->descriptors > 0)
		if (++o == opened + OPEN)
			abort();
	*o = (struct opened){.node = f, .flags = flags};
	f->opens++;
	return descriptor_make(o);
}

int kernel_open(const char *path, int flags, ...)
{
	mode_t mode = 0;

	if ((flags & O_CREAT) != 0) {
		va_list list;

		va_start(list, flags);
		mode = va_arg(list, mode_t);
		va_end(list);
	}
	return is_ours(path) ? node_open(path, flags) : open(path, flags, mode);
}

/* The path of a file in an open directory. */
static const char *path_at(int dir, const char *name)
{
	static char path[2 * PATH];
	const struct opened *o = opened_find(dir);

	if (o == NULL || !o->node->directory || strlen(name) >= PATH)
		abort();
	snprintf(path, sizeof path, "%s/%s", o->node->path, name);
	return path;
}

int kernel_openat(int dir, const char *name, int flags, ...)
{
	return node_open(path_at(dir, name), flags);
}

int kernel_close(int fd)
{
	struct opened *o = opened_find(fd);

	if (o == NULL)
		return close(fd);
	descriptors[fd - KERNEL_FD] = NULL;
	while (descriptor_top > 0 && descriptors[descriptor_top - 1] == NULL)
		descriptor_top--;
	if (--o->descriptors == 0) {
		o->node->opens--;
		if (o->node->lock == o)
			o->node->lock = NULL;
	}
	return 0;
}

ssize_t kernel_pread(int fd, void *bytes, size_t n, off_t at)
{
	const struct opened *o = opened_find(fd);
	size_t from = (size_t)at;

	if (o == NULL)
		return pread(fd, bytes, n, at);
	if (o->node->directory || (o->flags & O_ACCMODE) == O_WRONLY)
		return fails_with(o->node->directory ? EISDIR : EBADF);
	if (from >= o->node->n)
		return 0;
	n = n < o->node->n - from ? n : o->node->n - from;
	memcpy(bytes, o->node->bytes + from, n);
	return (ssize_t)n;
}

ssize_t kernel_read(int fd, void *bytes, size_t n)
{
	struct opened *o = opened_find(fd);
	ssize_t got = o == NULL ? read(fd, bytes, n) : kernel_pread(fd, bytes, n, (off_t)o->at);

	if (o != NULL && got > 0)
		o->at += (size_t)got;
	return got;
}

static void node_size(struct node *f, size_t n)
{
	if (n > f->cap) {
		f->cap = 2 * n;
		f->bytes = realloc(f->bytes, f->cap);
		if (f->bytes == NULL)
			abort();
	}
	if (n > f->n)
		memset(f->bytes + f->n, 0, n - f->n);
	f->n = n;
}

ssize_t kernel_pwrite(int fd, const void *bytes, size_t n, off_t at)
{
	const struct opened *o = opened_find(fd);
	size_t to = (size_t)at;

	if (o == NULL)
		return pwrite(fd, bytes, n, at);
	if ((o->flags & O_ACCMODE) == O_RDONLY)
		return fails_with(EBADF);
	if (n > 0 && to + n > o->node->n)
		node_size(o->node, to + n);
	if (n > 0)
		memcpy(o->node->bytes + to, bytes, n);
	return (ssize_t)n;
}

ssize_t kernel_write(int fd, const void *bytes, size_t n)
{
	struct opened *o = opened_find(fd);
	ssize_t put = o == NULL ? write(fd, bytes, n) : kernel_pwrite(fd, bytes, n, (off_t)o->at);

	if (o != NULL && put > 0)
		o->at += (size_t)put;
	return put;
}

int kernel_ftruncate(int fd, off_t bytes)
{
	const struct opened *o = opened_find(fd);

	if (o == NULL)
		return ftruncate(fd, bytes);
	if ((o->flags & O_ACCMODE) == O_RDONLY)
		return fails_with(EINVAL);
	node_size(o->node, (size_t)bytes);
	return 0;
}

static int node_stat(const struct node *f, struct stat *st)
{
	*st = (struct stat){.st_ino = f->number, .st_size = (off_t)f->n, .st_nlink = f->path_bytes > 0,
		.st_mode = f->directory ? S_IFDIR | 0700 : S_IFREG | 0600};
	return 0;
}

int kernel_fstat(int fd, struct stat *st)
{
	const struct opened *o = opened_find(fd);

	return o == NULL ? fstat(fd, st) : node_stat(o->node, st);
}

int kernel_fstatat(int dir, const char *name, struct stat *st, int flags)
{
	const struct node *f = node_find(path_at(dir, name));

	(void)flags;
	return f == NULL ? -1 : node_stat(f, st);
}

int kernel_fcntl(int fd, int command, ...)
{
	struct opened *o;
	va_list list;
	int value;

	if (command == F_GETFD && fd >= KERNEL_FD && fd < KERNEL_FD + OPEN) /* is it open? */
		return descriptors[fd - KERNEL_FD] != NULL ? FD_CLOEXEC : fails_with(EBADF);
	va_start(list, command);
	value = va_arg(list, int);
	va_end(list);
	if ((o = opened_find(fd)) == NULL)
		return fcntl(fd, command, value);
	if (command != F_DUPFD_CLOEXEC || value > KERNEL_FD)
		abort();
	return descriptor_make(o);
}

int kernel_fsync(int fd)
{
	return opened_find(fd) == NULL ? fsync(fd) : 0;
}

int kernel_fdatasync(int fd)
{
	return opened_find(fd) == NULL ? fdatasync(fd) : 0;
}

int kernel_flock(int fd, int how)
{
	struct opened *o = opened_find(fd);

	if (o == NULL)
		return flock(fd, how);
	if (how != (LOCK_EX | LOCK_NB))
		abort();
	if (o->node->lock != NULL && o->node->lock != o)
		return fails_with(EWOULDBLOCK);
	o->node->lock = o;
	return 0;
}

int kernel_access(const char *path, int how)
{
	return !is_ours(path) ? access(path, how) : node_find(path) != NULL ? 0 : -1;
}

int kernel_faccessat(int dir, const char *name, int how, int flags)
{
	(void)how, (void)flags;
	return node_find(path_at(dir, name)) != NULL ? 0 : -1;
}

static void node_unlink(struct node *f)
{
	f->path[0] = '\0';
	f->path_bytes = 0;
	while (node_top > 0 && nodes[node_top - 1].path_bytes == 0 && nodes[node_top - 1].opens == 0)
		node_top--;
}

int kernel_unlink(const char *path)
{
	struct node *f;

	if (!is_ours(path))
		return unlink(path);
	if ((f = node_find(path)) == NULL)
		return -1;
	if (f->directory)
		return fails_with(EISDIR);
	node_unlink(f);
	return 0;
}

int kernel_unlinkat(int dir, const char *name, int flags)
{
	(void)flags;
	return kernel_unlink(path_at(dir, name));
}

int kernel_mkdir(const char *path, mode_t mode)
{
	if (!is_ours(path))
		return mkdir(path, mode);
	if (node_find(path) != NULL)
		return fails_with(EEXIST);
	return node_make(path, true) != NULL ? 0 : -1;
}

/* The name in the directory; NULL: it is not there, or farther down. */
static const char *name_in(const struct node *dir, const struct node *f)
{
	const char *name = f->path + dir->path_bytes + 1;

	return f->path_bytes > dir->path_bytes + 1 && f->path[dir->path_bytes] == '/'
		&& same(f->path, dir->path, dir->path_bytes) && strchr(name, '/') == NULL ? name : NULL;
}

int kernel_rmdir(const char *path)
{
	struct node *dir;

	if (!is_ours(path))
		return rmdir(path);
	if ((dir = node_find(path)) == NULL)
		return -1;
	for (int i = 0; i < node_top; i++)
		if (name_in(dir, &nodes[i]) != NULL)
			return fails_with(ENOTEMPTY);
	node_unlink(dir);
	if (descriptor_top > 0) /* a world has ended */
		ends("a file is left open", KERNEL_FD + descriptor_top - 1);
	return 0;
}

char *kernel_mkdtemp(char *path)
{
	static unsigned number;

	if (!is_ours(path))
		return mkdtemp(path);
	snprintf(path + strlen(path) - 6, 7, "%06u", ++number % 1000000);
	return kernel_mkdir(path, 0700) == 0 ? path : NULL;
}

/* One directory at a time is read. */
static struct {
	int fd, next;
	struct dirent entry;
} reading = {.fd = -1};

DIR *kernel_opendir(const char *path)
{
	if (!is_ours(path) || reading.fd >= 0)
		abort();
	reading.fd = node_open(path, O_RDONLY | O_DIRECTORY);
	reading.next = 0;
	return reading.fd >= 0 ? (DIR *)(void *)&reading : NULL;
}

struct dirent *kernel_readdir(DIR *dir)
{
	const struct node *in = opened_find(reading.fd)->node;

	(void)dir;
	while (reading.next < node_top) {
		const char *name = name_in(in, &nodes[reading.next++]);

		if (name != NULL) {
			snprintf(reading.entry.d_name, sizeof reading.entry.d_name, "%s", name);
			return &reading.entry;
		}
	}
	return NULL;
}

int kernel_dirfd(DIR *dir)
{
	(void)dir;
	return reading.fd;
}

int kernel_closedir(DIR *dir)
{
	(void)dir;
	kernel_close(reading.fd);
	reading.fd = -1;
	return 0;
}

static ssize_t cookie_write(void *cookie, const char *bytes, size_t n)
{
	return kernel_write((int)(intptr_t)cookie, bytes, n);
}

static int cookie_close(void *cookie)
{
	return kernel_close((int)(intptr_t)cookie);
}

FILE *kernel_fopen(const char *path, const char *mode)
{
	int fd;

	if (!is_ours(path))
		return fopen(path, mode);
	if (strcmp(mode, "w") != 0)
		abort();
	fd = node_open(path, O_WRONLY | O_CREAT | O_TRUNC);
	return fd < 0 ? NULL : fopencookie((void *)(intptr_t)fd, mode,
		(cookie_io_functions_t){.write = cookie_write, .close = cookie_close});
}

/* ---- memory ---- */

/*
 * The server's reservation stays from server to server, one of each size, with the pages that were touched: to get and
 * to clear them anew would take longer than most inputs do. A page is opened when it is touched first, and those that
 * are open are zero again, as if they were new, when the reservation is asked for.
 */
enum {
	SIZES = 16, OPEN_PAGES = 512, TIMES = 2000,
	RESERVED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
};

static struct kept {
	char *memory;
	size_t bytes;
	bool used;
	int times;
	char *pages[OPEN_PAGES]; /* those that are open */
	int page_count;
} kept[SIZES];
static struct sigaction segv_before;

static struct kept *kept_find(const char *at)
{
	for (int i = 0; i < SIZES && kept[i].memory != NULL; i++)
		if (at >= kept[i].memory && at < kept[i].memory + kept[i].bytes)
			return &kept[i];
	return NULL;
}

static void on_touch(int number, siginfo_t *info, void *context)
{
	char *at = info->si_addr;
	struct kept *k = kept_find(at);

	if (k != NULL && k->used && k->page_count < OPEN_PAGES) {
		at -= (uintptr_t)at % PAGE;
		if (mprotect(at, PAGE, PROT_READ | PROT_WRITE) < 0)
			abort();
		k->pages[k->page_count++] = at;
		return;
	}
	if (k != NULL && k->used) { /* so many pages: the rest of it, until next time */
		if (mprotect(k->memory, k->bytes, PROT_READ | PROT_WRITE) < 0)
			abort();
		k->times = TIMES;
		return;
	}
	if ((segv_before.sa_flags & SA_SIGINFO) != 0)
		segv_before.sa_sigaction(number, info, context);
	signal(SIGSEGV, SIG_DFL);
}

static bool page_is_zero(const char *page)
{
	const uint64_t *words = (const uint64_t *)(const void *)page;
	uint64_t any = 0;

	for (int i = 0; i < PAGE / 8 && any == 0; i += 8)
		for (int k = 0; k < 8; k++)
			any |= words[i + k];
	return any == 0;
}

/* As new. Inputs differ, and each opens a few more pages: after so many times all are closed. */
static void kept_clear(struct kept *k)
{
	if (++k->times >= TIMES) {
		if (mmap(k->memory, k->bytes, PROT_NONE, RESERVED | MAP_FIXED, -1, 0) == MAP_FAILED)
			abort();
		k->page_count = k->times = 0;
	}
	for (int i = 0; i < k->page_count; i++)
		if (!page_is_zero(k->pages[i]))
			memset(k->pages[i], 0, PAGE);
}

void *kernel_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t from)
{
	struct kept *k = kept;

	if (fd >= 0)
		return mmap(at, bytes, protection, flags, fd, from);
	while (k < kept + SIZES && k->memory != NULL && (k->used || k->bytes != bytes))
		k++;
	if (k == kept + SIZES)
		abort();
	if (k->memory == NULL) {
		struct sigaction action = {.sa_sigaction = on_touch, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

		k->bytes = bytes;
		k->memory = mmap(NULL, bytes, PROT_NONE, RESERVED, -1, 0);
		if (k->memory == MAP_FAILED || (k == kept && sigaction(SIGSEGV, &action, &segv_before) < 0))
			abort();
	}
	kept_clear(k);
	k->used = true;
	return k->memory;
}

int kernel_munmap(void *memory, size_t bytes)
{
	struct kept *k = kept_find(memory);

	if (k == NULL)
		return munmap(memory, bytes);
	if (!k->used || memory != k->memory || bytes != k->bytes)
		abort();
	k->used = false;
	return 0;
}

/* A large block, which a struct server is, stays too; without an owner it is poisoned. It is zero only when it is new:
 * server_init clears it, whatever is in it. */
static struct {
	void *block;
	size_t bytes;
	bool used;
} large;

void *kernel_calloc(size_t n, size_t bytes)
{
	if (n != 1 || bytes < LARGE || large.used || (large.block != NULL && large.bytes != bytes))
		return calloc(n, bytes);
	if (large.block == NULL)
		large.block = calloc(1, bytes);
	if (large.block == NULL)
		return NULL;
	large.bytes = bytes;
	large.used = true;
	__asan_unpoison_memory_region(large.block, bytes);
	return large.block;
}

void kernel_free(void *block)
{
	if (block == NULL || block != large.block) {
		free(block);
		return;
	}
	if (!large.used)
		abort();
	large.used = false;
	__asan_poison_memory_region(block, large.bytes);
}

int kernel_memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *left = a, *right = b;

	if (__asan_region_is_poisoned((void *)(uintptr_t)a, n) != NULL
		|| __asan_region_is_poisoned((void *)(uintptr_t)b, n) != NULL)
		return memcmp(a, b, n); /* says so */
	for (size_t i = 0; i < n; i++)
		if (left[i] != right[i])
			return left[i] - right[i];
	return 0;
}
