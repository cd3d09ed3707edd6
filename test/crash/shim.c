/*
 * Preloaded into a program: counts its file calls below CRASH_FOLDER and, at the call that the control page names, kills
 * the process, fails, does half of what was asked, or stops. With CRASH_LOG it writes down every call that changes something,
 * with its data, so that the state of the disk after a power loss can be made from it. It also tells the time: with an
 * offset, and a boot of its own (CRASH_UPTIME and CRASH_BOOT_ID name files that stand in for the kernel's).
 *
 * The control page is a file (CRASH_CONTROL) that is mapped here and read and written by the test. test/crash/shim.ts and
 * test/crash/recording.ts know the layouts.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { WRITES = 1, SYNCS = 2, NAMES = 4, READS = 8, OPENS = 16 };
enum { KILL_BEFORE = 1, KILL_MIDDLE, KILL_AFTER, FAIL, SHORT, STOP };

struct control {
  atomic_llong count;   /* calls of the classes below so far */
  atomic_llong hits;    /* how many of them met the action */
  int64_t at;           /* the first one that does, from 1; 0: none */
  int64_t times;        /* how many in a row do */
  int64_t action, error, classes;
  atomic_llong clock_ms; /* added to the time of day */
  atomic_llong counts[5]; /* all calls, by class */
  int64_t pid;
  int64_t reserved[10];
  char path[64];        /* only calls whose path ends so are counted; empty: all */
  char what[512];       /* the call that met it first */
};

static struct control *control;
static const char *folder, *uptime_file, *boot_id_file;
static size_t folder_length;
static int log_fd = -1;

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int real_open(const char *path, int flags, mode_t mode) {
  REAL(open64);
  return real(path, flags, mode);
}

__attribute__((constructor)) static void start(void) {
  const char *page = getenv("CRASH_CONTROL"), *log = getenv("CRASH_LOG");
  folder = getenv("CRASH_FOLDER");
  uptime_file = getenv("CRASH_UPTIME");
  boot_id_file = getenv("CRASH_BOOT_ID");
  if (folder) folder_length = strlen(folder);
  if (page) {
    int fd = real_open(page, O_RDWR | O_CLOEXEC, 0);
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) abort();
    control = mapped;
    /* Not that of a process that it starts. */
    if (control->pid == 0) control->pid = getpid();
  }
  if (log) log_fd = real_open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

/* Whether a path is the folder or below it. */
static int below(const char *path) {
  return folder && strncmp(path, folder, folder_length) == 0 &&
         (path[folder_length] == '/' || path[folder_length] == 0);
}

static int path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length < 0 ? 0 : length] = 0;
  return below(path);
}

static int ends(const char *path, const char *end) {
  size_t length = strlen(path), end_length = strlen(end);
  return length >= end_length && strcmp(path + length - end_length, end) == 0;
}

/* Counts a call. What is to become of it; 0: it is let through. */
static int meet(int class, const char *name, const char *path) {
  if (!control) return 0;
  atomic_fetch_add(&control->counts[__builtin_ctz((unsigned)class)], 1);
  if (!(control->classes & class) || !ends(path, control->path)) return 0;
  long long number = atomic_fetch_add(&control->count, 1) + 1;
  if (!control->at || number < control->at || number >= control->at + control->times) return 0;
  if (atomic_fetch_add(&control->hits, 1) == 0) {
    snprintf(control->what, sizeof control->what, "%s %s", name, path);
  }
  int action = (int)control->action;
  if (action == KILL_BEFORE || (action == KILL_MIDDLE && class != WRITES)) kill(getpid(), SIGKILL);
  if (action == STOP) kill(getpid(), SIGSTOP);
  if (action == FAIL) errno = (int)control->error;
  return action;
}

#define AFTER(action) \
  if ((action) == KILL_AFTER || (action) == KILL_MIDDLE) kill(getpid(), SIGKILL)

struct record {
  uint32_t op, path_length, to_length, reserved;
  uint64_t inode;
  int64_t offset;
  uint64_t data_length;
};

static void note(char op, uint64_t inode, int64_t offset, const char *path, const char *to,
                 const struct iovec *data, int count, size_t limit) {
  if (log_fd < 0) return;
  static __typeof__(&writev) real;
  if (!real) real = (__typeof__(&writev))dlsym(RTLD_NEXT, "writev");
  struct record record = {(uint32_t)op, (uint32_t)strlen(path), (uint32_t)strlen(to), 0, inode, offset, limit};
  struct iovec parts[64] = {{&record, sizeof record}, {(void *)path, record.path_length}, {(void *)to, record.to_length}};
  int used = 3, saved = errno;
  for (int i = 0; i < count && limit > 0; i++) {
    size_t length = data[i].iov_len < limit ? data[i].iov_len : limit;
    if (used == 64) abort();
    parts[used++] = (struct iovec){data[i].iov_base, length};
    limit -= length;
  }
  real(log_fd, parts, used);
  errno = saved;
}

static uint64_t inode_of(int fd) {
  struct stat stats;
  return fstat(fd, &stats) == 0 ? stats.st_ino : 0;
}

static uint64_t inode_at(const char *path) {
  struct stat stats;
  return lstat(path, &stats) == 0 ? stats.st_ino : 0;
}

/* Every way to write ends here. offset < 0: where the file stands. */
static ssize_t put(int fd, const struct iovec *data, int count, int64_t offset, const char *name) {
  static __typeof__(&pwritev64) at_offset;
  static __typeof__(&writev) in_order;
  if (!at_offset) at_offset = (__typeof__(&pwritev64))dlsym(RTLD_NEXT, "pwritev64");
  if (!in_order) in_order = (__typeof__(&writev))dlsym(RTLD_NEXT, "writev");
  char path[PATH_MAX];
  if (!folder || !path_of(fd, path)) {
    return offset < 0 ? in_order(fd, data, count) : at_offset(fd, data, count, offset);
  }
  /* libuv tries the rest of a short write by itself: only a disk that is full then is seen by the program. */
  static __thread int full_fd = -1;
  if (full_fd == fd) {
    full_fd = -1;
    errno = ENOSPC;
    return -1;
  }
  int action = meet(WRITES, name, path);
  if (action == FAIL) return -1;
  struct iovec half;
  size_t total = 0;
  for (int i = 0; i < count; i++) total += data[i].iov_len;
  if ((action == SHORT || action == KILL_MIDDLE) && total > 1) {
    half = (struct iovec){data[0].iov_base, data[0].iov_len > 1 ? data[0].iov_len / 2 : data[0].iov_len};
    data = &half;
    count = 1;
    if (action == SHORT) full_fd = fd;
  }
  ssize_t written = offset < 0 ? in_order(fd, data, count) : at_offset(fd, data, count, offset);
  if (written > 0 && log_fd >= 0) {
    int64_t begin = offset < 0 ? lseek64(fd, 0, SEEK_CUR) - written : offset;
    note('W', inode_of(fd), begin, path, "", data, count, (size_t)written);
  }
  AFTER(action);
  return written;
}

ssize_t write(int fd, const void *data, size_t length) {
  struct iovec one = {(void *)data, length};
  return put(fd, &one, 1, -1, "write");
}

ssize_t writev(int fd, const struct iovec *data, int count) { return put(fd, data, count, -1, "writev"); }

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
  struct iovec one = {(void *)data, length};
  return put(fd, &one, 1, offset, "pwrite");
}

ssize_t pwritev64(int fd, const struct iovec *data, int count, off64_t offset) {
  return put(fd, data, count, offset, "pwritev");
}

static ssize_t take(int fd, void *data, size_t length, int64_t offset) {
  static __typeof__(&pread64) at_offset;
  static __typeof__(&read) in_order;
  if (!at_offset) at_offset = (__typeof__(&pread64))dlsym(RTLD_NEXT, "pread64");
  if (!in_order) in_order = (__typeof__(&read))dlsym(RTLD_NEXT, "read");
  char path[PATH_MAX];
  int action = 0;
  if (control && path_of(fd, path)) action = meet(READS, "read", path);
  if (action == FAIL) return -1;
  if (action == SHORT && length > 1) length /= 2;
  ssize_t done = offset < 0 ? in_order(fd, data, length) : at_offset(fd, data, length, offset);
  AFTER(action);
  return done;
}

ssize_t read(int fd, void *data, size_t length) { return take(fd, data, length, -1); }

ssize_t pread64(int fd, void *data, size_t length, off64_t offset) { return take(fd, data, length, offset); }

#define ON_DESCRIPTOR(class, name, op, offset, call) \
  REAL(name); \
  char path[PATH_MAX]; \
  if (!folder || !path_of(fd, path)) return real call; \
  int action = meet(class, #name, path); \
  if (action == FAIL) return -1; \
  int result = real call; \
  if (result == 0) note(op, inode_of(fd), offset, path, "", NULL, 0, 0); \
  AFTER(action); \
  return result;

int fsync(int fd) { ON_DESCRIPTOR(SYNCS, fsync, 'S', 0, (fd)) }
int fdatasync(int fd) { ON_DESCRIPTOR(SYNCS, fdatasync, 'S', 0, (fd)) }
int ftruncate64(int fd, off64_t length) { ON_DESCRIPTOR(NAMES, ftruncate64, 'T', length, (fd, length)) }

/* node and SQLite name files by absolute paths. */
#define ON_NAME(name, path, op, to, call) \
  REAL(name); \
  if (!below(path)) return real call; \
  int action = meet(NAMES, #name, path); \
  if (action == FAIL) return -1; \
  int result = real call; \
  if (result == 0) note(op, inode_at(*to ? to : path), 0, path, to, NULL, 0, 0); \
  AFTER(action); \
  return result;

int rename(const char *from, const char *to) { ON_NAME(rename, from, 'R', to, (from, to)) }
int link(const char *from, const char *to) { ON_NAME(link, from, 'L', to, (from, to)) }
int unlink(const char *path) { ON_NAME(unlink, path, 'U', "", (path)) }
int rmdir(const char *path) { ON_NAME(rmdir, path, 'U', "", (path)) }

/* The name of what a path leads to by a folder's descriptor: folders are made in others that are held. */
static const char *named(const char *path, char *name) {
  int fd = -1, at = 0;
  if (sscanf(path, "/proc/self/fd/%d/%n", &fd, &at) != 1 || at == 0 || !path_of(fd, name)) return path;
  size_t length = strlen(name);
  snprintf(name + length, PATH_MAX - length, "/%s", path + at);
  return name;
}

int mkdir(const char *given, mode_t mode) {
  char name[PATH_MAX];
  const char *path = named(given, name);
  ON_NAME(mkdir, path, 'D', "", (path, mode))
}

static int open_file(const char *path, int flags, mode_t mode) {
  if (uptime_file && strcmp(path, "/proc/uptime") == 0) path = uptime_file;
  if (boot_id_file && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0) path = boot_id_file;
  if (!below(path)) return real_open(path, flags, mode);
  int saved = errno;
  int creates = (flags & O_CREAT) && access(path, F_OK) != 0;
  errno = saved;
  int action = meet(creates ? NAMES : OPENS, creates ? "create" : "open", path);
  if (action == FAIL) return -1;
  int fd = real_open(path, flags, mode);
  if (fd >= 0 && creates) note('C', inode_of(fd), 0, path, "", NULL, 0, 0);
  else if (fd >= 0 && (flags & O_TRUNC)) note('T', inode_of(fd), 0, path, "", NULL, 0, 0);
  AFTER(action);
  return fd;
}

int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open_file(path, flags, mode);
}

/* libuv copies by these where it can; without them by read and write. */
ssize_t sendfile64(int out, int in, off64_t *offset, size_t length) {
  REAL(sendfile64);
  char path[PATH_MAX];
  if (!folder || !path_of(out, path)) return real(out, in, offset, length);
  errno = EXDEV;
  return -1;
}

/* node makes some calls without the C library's function for them. */
long syscall(long number, ...) {
  REAL(syscall);
  long a[6];
  va_list rest;
  va_start(rest, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(rest, long);
  va_end(rest);
  char path[PATH_MAX];
  if (number == SYS_copy_file_range && folder && path_of((int)a[2], path)) {
    errno = ENOSYS;
    return -1;
  }
  return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int clock_gettime(clockid_t clock, struct timespec *result) {
  REAL(clock_gettime);
  int code = real(clock, result);
  if (code == 0 && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    long long ms = atomic_load(&control->clock_ms);
    result->tv_sec += ms / 1000;
  }
  return code;
}

int gettimeofday(struct timeval *restrict result, void *restrict zone) {
  REAL(gettimeofday);
  int code = real(result, zone);
  if (code == 0 && control) result->tv_sec += atomic_load(&control->clock_ms) / 1000;
  return code;
}

time_t time(time_t *result) {
  REAL(time);
  time_t now = real(NULL) + (control ? atomic_load(&control->clock_ms) / 1000 : 0);
  if (result) *result = now;
  return now;
}
