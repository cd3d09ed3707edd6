/*
 * Preloaded into a writer: kills the process in the n-th sync of a "-wal" file, after the commit frame is in the
 * file and before SQLite publishes it in the wal-index. KILL_IN_WAL_SYNC holds n.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void count_sync(int fd) {
  static long left = -1;
  char link[64], path[4096];
  ssize_t length;
  if (left < 0) {
    const char *value = getenv("KILL_IN_WAL_SYNC");
    left = value ? atol(value) : 0;
  }
  if (left == 0) return;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  length = readlink(link, path, sizeof path - 1);
  if (length < 4 || memcmp(path + length - 4, "-wal", 4) != 0) return;
  if (--left == 0) kill(getpid(), SIGKILL);
}

int fdatasync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  count_sync(fd);
  return real(fd);
}

int fsync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  count_sync(fd);
  return real(fd);
}
