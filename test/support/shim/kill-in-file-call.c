/*
 * Preloaded into a program: kills the process just before its n-th call that makes something durable or gives or takes
 * a name: fsync, fdatasync, ftruncate, link, rename and unlink. KILL_IN_FILE_CALL holds n. Or lets every rename to the
 * path in FAIL_RENAME_TO fail as a broken disk does.
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

int link(const char *from, const char *to) {
  REAL(int, "link", (const char *, const char *))
  return real(from, to);
}

int rename(const char *from, const char *to) {
  REAL(int, "rename", (const char *, const char *))
  const char *broken = getenv("FAIL_RENAME_TO");
  if (broken && strcmp(broken, to) == 0) {
    errno = EIO;
    return -1;
  }
  return real(from, to);
}

int unlink(const char *path) {
  REAL(int, "unlink", (const char *))
  return real(path);
}
