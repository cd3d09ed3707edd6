/*
 * Preloaded into a program: kills the process just before its n-th call that makes something durable or gives or takes
 * a name, or writes at a place: fsync, fdatasync, ftruncate, pwrite, link, rename and unlink. KILL_IN_FILE_CALL holds n.
 * Or stops it, to be continued by SIGCONT, before a file gets the path in STOP_BEFORE_NAME with an ending as its name.
 * Or lets every link and rename to the path in FAIL_RENAME_TO, or to that path with an ending, fail as a broken disk does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static void count_call(void) {
  const char *value = getenv("KILL_IN_FILE_CALL");
  if (value && atomic_fetch_add(&calls, 1) + 1 == atol(value)) kill(getpid(), SIGKILL);
}

/* Whether `path` is `start`, or begins with it and a point. */
static int begins(const char *path, const char *start) {
  size_t length = strlen(start);
  return strncmp(path, start, length) == 0 && (path[length] == 0 || path[length] == '.');
}

static void stop_before(const char *name) {
  const char *value = getenv("STOP_BEFORE_NAME");
  if (value && strcmp(name, value) != 0 && begins(name, value)) kill(getpid(), SIGSTOP);
}

static int fails(const char *name) {
  const char *broken = getenv("FAIL_RENAME_TO");
  stop_before(name);
  if (!broken || !begins(name, broken)) return 0;
  errno = EIO;
  return 1;
}

#define REAL(type, name, parameters) \
  static type(*real) parameters;     \
  if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, name); \
  count_call();

int fsync(int fd) {
  REAL(int, "fsync", (int))
  return real(fd);
}

int fdatasync(int fd) {
  REAL(int, "fdatasync", (int))
  return real(fd);
}

int ftruncate64(int fd, off64_t length) {
  REAL(int, "ftruncate64", (int, off64_t))
  return real(fd, length);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
  REAL(ssize_t, "pwrite64", (int, const void *, size_t, off64_t))
  return real(fd, data, size, offset);
}

int link(const char *from, const char *to) {
  REAL(int, "link", (const char *, const char *))
  if (fails(to)) return -1;
  return real(from, to);
}

int rename(const char *from, const char *to) {
  REAL(int, "rename", (const char *, const char *))
  if (fails(to)) return -1;
  return real(from, to);
}

int unlink(const char *path) {
  REAL(int, "unlink", (const char *))
  return real(path);
}
