/* A disk that is full for one moment: the call number AT that changes a file below FULL_DISK_BELOW fails with ENOSPC.

Preloaded (LD_PRELOAD). FULL_DISK names a file of these shared words: the number of calls so far, AT (0: none fails), and
the path of the call that has failed; FULL_DISK.log gets a line "call path" for each. Without it, nothing changes. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct state {
  long calls, at;
  char path[PATH_MAX];
};

static struct state *state(void) {
  static struct state *page;
  const char *file = getenv("FULL_DISK");
  if (!page && file) {
    int descriptor = (int)syscall(SYS_openat, AT_FDCWD, file, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return NULL;
    void *mapped = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    syscall(SYS_close, descriptor);
    if (mapped != MAP_FAILED) page = mapped;
  }
  return page;
}

/* Whether this call on the absolute path fails. */
static int full_at(const char *call, const char *path) {
  int before = errno;
  struct state *now = state();
  const char *below = getenv("FULL_DISK_BELOW");
  if (!now || !below || strncmp(path, below, strlen(below))) return 0;
  long number = __atomic_add_fetch(&now->calls, 1, __ATOMIC_SEQ_CST);
  char name[PATH_MAX], line[PATH_MAX + 32];
  snprintf(name, sizeof name, "%s.log", getenv("FULL_DISK"));
  int log = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  int length = snprintf(line, sizeof line, "%s %s\n", call, path);
  if (log >= 0) {
    syscall(SYS_write, log, line, length);
    syscall(SYS_close, log);
  }
  errno = before;
  if (number != now->at) return 0;
  snprintf(now->path, sizeof now->path, "%s", path);
  errno = ENOSPC;
  return 1;
}

static int full_file(const char *call, int file) {
  char link[64], path[PATH_MAX];
  int before = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
  errno = before;
  if (length <= 0 || path[0] != '/') return 0;
  path[length] = 0;
  return full_at(call, path);
}

static int full_name(const char *call, const char *name) {
  char path[2 * PATH_MAX] = "";
  if (name[0] != '/') {
    if (!getcwd(path, PATH_MAX)) return 0;
    strcat(path, "/");
  }
  strncat(path, name, PATH_MAX);
  return full_at(call, path);
}

#define REAL(type, name) static type (*real)(); if (!real) real = (type (*)())dlsym(RTLD_NEXT, name)
#define ON_FILE(type, call, parameters, ...) \
  type call parameters { REAL(type, #call); return full_file(#call, file) ? -1 : real(__VA_ARGS__); }
#define ON_NAME(type, call, name, parameters, ...) \
  type call parameters { REAL(type, #call); return full_name(#call, name) ? -1 : real(__VA_ARGS__); }

ON_FILE(ssize_t, write, (int file, const void *data, size_t size), file, data, size)
ON_FILE(ssize_t, pwrite, (int file, const void *data, size_t size, off_t at), file, data, size, at)
ON_FILE(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), file, data, size, at)
ON_FILE(ssize_t, writev, (int file, const struct iovec *parts, int count), file, parts, count)
ON_FILE(ssize_t, pwritev, (int file, const struct iovec *parts, int count, off_t at), file, parts, count, at)
ON_FILE(ssize_t, sendfile, (int file, int from, off_t *at, size_t size), file, from, at, size)
ON_FILE(ssize_t, sendfile64, (int file, int from, off64_t *at, size_t size), file, from, at, size)
ON_FILE(int, ftruncate, (int file, off_t size), file, size)
ON_FILE(int, ftruncate64, (int file, off64_t size), file, size)
ON_FILE(int, fsync, (int file), file)
ON_FILE(int, fdatasync, (int file), file)
ON_NAME(int, truncate, name, (const char *name, off_t size), name, size)
ON_NAME(int, truncate64, name, (const char *name, off64_t size), name, size)
ON_NAME(int, rename, to, (const char *from, const char *to), from, to)

/* Of an existing folder the kernel says that it exists, before it looks for space. */
int mkdir(const char *name, mode_t mode) {
  REAL(int, "mkdir");
  return access(name, F_OK) && full_name("mkdir", name) ? -1 : real(name, mode);
}

#define OPENS(call) \
  int call(const char *name, int flags, ...) { \
    REAL(int, #call); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    return flags & O_CREAT && full_name(#call, name) ? -1 : real(name, flags, mode); \
  }
OPENS(open)
OPENS(open64)
