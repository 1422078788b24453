/*
 * kernel.h - what the kernel does for a server of world.h beside what world.c fakes: files, and large blocks of memory.
 * The fuzz targets are compiled with this in front of every file (make fuzz), which makes one execution as cheap as
 * its own instructions: no system calls, no page faults. make fuzz-replay has the real ones, which alone notice a use
 * of the server's reservation after its end.
 *
 * Files are kept in memory if their path begins with KERNEL_FILES; descriptors of them are KERNEL_FD and more. All
 * others are left to the system.
 */
#ifndef KERNEL_H
#define KERNEL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* as sse.h does */
#endif

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define KERNEL_FILES "/dev/shm/sse-"
enum { KERNEL_FD = 1000 };

int kernel_open(const char *path, int flags, ...);
int kernel_openat(int dir, const char *name, int flags, ...);
int kernel_close(int fd);
ssize_t kernel_read(int fd, void *bytes, size_t n);
ssize_t kernel_write(int fd, const void *bytes, size_t n);
ssize_t kernel_pread(int fd, void *bytes, size_t n, off_t at);
ssize_t kernel_pwrite(int fd, const void *bytes, size_t n, off_t at);
int kernel_ftruncate(int fd, off_t bytes);
int kernel_fstat(int fd, struct stat *st);
int kernel_fstatat(int dir, const char *name, struct stat *st, int flags);
int kernel_fcntl(int fd, int command, ...);
int kernel_fsync(int fd);
int kernel_fdatasync(int fd);
int kernel_flock(int fd, int how);
int kernel_access(const char *path, int how);
int kernel_faccessat(int dir, const char *name, int how, int flags);
int kernel_unlink(const char *path);
int kernel_unlinkat(int dir, const char *name, int flags);
int kernel_mkdir(const char *path, mode_t mode);
int kernel_rmdir(const char *path);
char *kernel_mkdtemp(char *path);
DIR *kernel_opendir(const char *path);
struct dirent *kernel_readdir(DIR *dir);
int kernel_dirfd(DIR *dir);
int kernel_closedir(DIR *dir);
FILE *kernel_fopen(const char *path, const char *mode);

void *kernel_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t from);
int kernel_munmap(void *memory, size_t bytes);
void *kernel_calloc(size_t n, size_t bytes);
void kernel_free(void *block);

/* libFuzzer would note everything that is compared. */
int kernel_memcmp(const void *a, const void *b, size_t n);

#ifndef KERNEL_C
#define open kernel_open
#define openat kernel_openat
#define close kernel_close
#define read kernel_read
#define write kernel_write
#define pread kernel_pread
#define pwrite kernel_pwrite
#define ftruncate kernel_ftruncate
#define fstat kernel_fstat
#define fstatat kernel_fstatat
#define fcntl kernel_fcntl
#define fsync kernel_fsync
#define fdatasync kernel_fdatasync
#define flock kernel_flock
#define access kernel_access
#define faccessat kernel_faccessat
#define unlink kernel_unlink
#define unlinkat kernel_unlinkat
#define mkdir kernel_mkdir
#define rmdir kernel_rmdir
#define mkdtemp kernel_mkdtemp
#define opendir kernel_opendir
#define readdir kernel_readdir
#define dirfd kernel_dirfd
#define closedir kernel_closedir
#define fopen kernel_fopen
#define mmap kernel_mmap
#define munmap kernel_munmap
#define calloc kernel_calloc
#define free kernel_free
#ifdef KERNEL_MEMCMP
#define memcmp kernel_memcmp
#endif
#endif

#endif
