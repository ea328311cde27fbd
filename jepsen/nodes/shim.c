/* A disk that loses what was not synced, and syncs slowly: an LD_PRELOAD library for tests.
 *
 * Every change to a file below JEPSEN_DISK_ROOT is preceded by a record in JEPSEN_DISK_JOURNAL
 * that says how to undo it, and every completed fsync or fdatasync is followed by a record that
 * says which changes it made durable. After a SIGKILL the tester walks the journal backwards and
 * undoes what no sync covered; see shim.py, which knows the same format. Names in a directory
 * (create, rename, unlink) are changes of the directory, durable when the directory is synced.
 *
 * A process that issues system calls without libc, such as a Go program, passes this by.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_FDS 65536
#define EXPORT __attribute__((visibility("default")))

enum { UNKNOWN, OURS, NOT_OURS };

struct record {
    uint32_t kind; /* 'W' bytes, 'C' create, 'R' rename, 'U' unlink, 'S' sync */
    uint32_t length; /* of what follows */
    uint64_t sequence;
    uint64_t inode; /* of the file, or of the directory for names */
    uint64_t offset;
    uint64_t size; /* before the change; for 'S' the last sequence that it covers */
};

static char root[PATH_MAX];
static char control[PATH_MAX];
static char backup_prefix[PATH_MAX];
static size_t root_length;
static int journal = -1;
static uint64_t sequence;
static unsigned char state[MOST_FDS];
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static ssize_t real_write(int fd, const void *bytes, size_t count) {
    REAL(write);
    return real(fd, bytes, count);
}

static void die(const char *what) {
    char text[200];
    int length = snprintf(text, sizeof text, "disk shim: %s: %s\n", what, strerror(errno));
    if (real_write(2, text, (size_t)length) < 0) _exit(71);
    _exit(70);
}

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("JEPSEN_DISK_ROOT");
    const char *log = getenv("JEPSEN_DISK_JOURNAL");
    const char *pace = getenv("JEPSEN_DISK_CONTROL");
    if (!where || !log) return;
    snprintf(root, sizeof root, "%s/", where);
    root_length = strlen(root);
    snprintf(backup_prefix, sizeof backup_prefix, "%s.kept.", log);
    if (pace) snprintf(control, sizeof control, "%s", pace);
    journal = open(log, O_CREAT | O_RDWR | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0) die("journal");
}

static int below(const char *path) {
    if (journal < 0 || strncmp(path, root, root_length - 1) != 0) return 0;
    char next = path[root_length - 1];
    return next == '/' || next == 0; /* the directory itself can be synced */
}

static int ours(int fd) {
    if (journal < 0 || fd < 0 || fd >= MOST_FDS || fd == journal) return 0;
    if (state[fd] == UNKNOWN) {
        char link[64], path[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length < 0) return 0;
        path[length] = 0;
        state[fd] = below(path) ? OURS : NOT_OURS;
    }
    return state[fd] == OURS;
}

static void forget(int fd) {
    if (fd >= 0 && fd < MOST_FDS) state[fd] = UNKNOWN;
}

static void note(struct record *record, const void *bytes, size_t length) {
    struct iovec parts[2] = {{record, sizeof *record}, {(void *)bytes, length}};
    REAL(writev);
    record->length = (uint32_t)length;
    record->sequence = ++sequence;
    if (real(journal, parts, length ? 2 : 1) != (ssize_t)(sizeof *record + length))
        die("journal record");
}

/* Keep what [offset, offset + count) of the file holds now, and its size. */
static void keep_bytes(int fd, uint64_t offset, size_t count) {
    struct stat now;
    REAL(pread64);
    if (fstat(fd, &now) < 0) die("fstat");
    struct record record = {.kind = 'W', .inode = now.st_ino, .offset = offset,
                            .size = (uint64_t)now.st_size};
    if (offset >= (uint64_t)now.st_size) {
        note(&record, NULL, 0);
        return;
    }
    size_t have = (uint64_t)now.st_size - offset < count ? (size_t)(now.st_size - offset) : count;
    char *old = malloc(have ? have : 1);
    if (!old) die("memory");
    size_t done = 0;
    int source = fd, own = -1;
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY) {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        own = source = open(link, O_RDONLY | O_CLOEXEC);
        if (own < 0) die("reading what is overwritten");
    }
    while (done < have) {
        ssize_t got = real(source, old + done, have - done, (off64_t)(offset + done));
        if (got <= 0) die("reading what is overwritten");
        done += (size_t)got;
    }
    if (own >= 0) close(own);
    note(&record, old, have);
    free(old);
}

static uint64_t directory_of(const char *path) {
    char copy[PATH_MAX];
    struct stat now;
    snprintf(copy, sizeof copy, "%s", path);
    char *slash = strrchr(copy, '/');
    if (slash) *slash = 0;
    return stat(copy, &now) == 0 ? now.st_ino : 0;
}

/* Two names and where a replaced or removed file was kept, each ended by a zero byte. */
static void keep_names(uint32_t kind, const char *first, const char *second, const char *kept) {
    char names[3 * PATH_MAX];
    size_t length = 0;
    const char *all[3] = {first, second, kept};
    for (int at = 0; at < 3; at++) {
        size_t size = strlen(all[at]) + 1;
        memcpy(names + length, all[at], size);
        length += size;
    }
    struct record record = {.kind = kind, .inode = directory_of(second[0] ? second : first)};
    note(&record, names, length);
}

static void absolute(int dirfd, const char *path, char *out) {
    char base[PATH_MAX], link[64];
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
        return;
    }
    ssize_t length;
    if (dirfd == AT_FDCWD) {
        length = readlink("/proc/self/cwd", base, sizeof base - 1);
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
        length = readlink(link, base, sizeof base - 1);
    }
    base[length < 0 ? 0 : length] = 0;
    if ((size_t)snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) die("long path");
}

static void keep_file(const char *path, char *kept) {
    kept[0] = 0;
    if (access(path, F_OK) != 0) return;
    unsigned long long number = sequence + 1;
    if ((size_t)snprintf(kept, PATH_MAX, "%s%llu", backup_prefix, number) >= PATH_MAX)
        die("long path");
    if (link(path, kept) != 0) die("keeping a file");
}

#define CHANGE(fd, offset, count, call) \
    do { \
        if (!ours(fd)) return call; \
        pthread_mutex_lock(&guard); \
        keep_bytes(fd, offset, count); \
        ssize_t done = call; \
        int problem = errno; \
        pthread_mutex_unlock(&guard); \
        errno = problem; \
        return done; \
    } while (0)

static uint64_t position(int fd) {
    if (fcntl(fd, F_GETFL) & O_APPEND) {
        struct stat now;
        return fstat(fd, &now) == 0 ? (uint64_t)now.st_size : 0;
    }
    off64_t at = lseek64(fd, 0, SEEK_CUR);
    return at < 0 ? 0 : (uint64_t)at;
}

static size_t total(const struct iovec *parts, int count) {
    size_t sum = 0;
    for (int at = 0; at < count; at++) sum += parts[at].iov_len;
    return sum;
}

EXPORT ssize_t write(int fd, const void *bytes, size_t count) {
    CHANGE(fd, position(fd), count, real_write(fd, bytes, count));
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    CHANGE(fd, position(fd), total(parts, count), real(fd, parts, count));
}

EXPORT ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    REAL(pwrite);
    CHANGE(fd, (uint64_t)offset, count, real(fd, bytes, count, offset));
}

EXPORT ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    REAL(pwrite64);
    CHANGE(fd, (uint64_t)offset, count, real(fd, bytes, count, offset));
}

EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    REAL(pwritev);
    CHANGE(fd, (uint64_t)offset, total(parts, count), real(fd, parts, count, offset));
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    REAL(pwritev64);
    CHANGE(fd, (uint64_t)offset, total(parts, count), real(fd, parts, count, offset));
}

EXPORT ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int how) {
    REAL(pwritev64v2);
    CHANGE(fd, (uint64_t)offset, total(parts, count), real(fd, parts, count, offset, how));
}

EXPORT int ftruncate(int fd, off_t length) {
    REAL(ftruncate);
    CHANGE(fd, (uint64_t)length, SIZE_MAX / 2, real(fd, length));
}

EXPORT int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    CHANGE(fd, (uint64_t)length, SIZE_MAX / 2, real(fd, length));
}

EXPORT int posix_fallocate(int fd, off_t offset, off_t length) {
    REAL(posix_fallocate);
    CHANGE(fd, (uint64_t)offset + (uint64_t)length, 0, real(fd, offset, length));
}

EXPORT int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    REAL(posix_fallocate64);
    CHANGE(fd, (uint64_t)offset + (uint64_t)length, 0, real(fd, offset, length));
}

EXPORT int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    REAL(fallocate64);
    CHANGE(fd, (uint64_t)offset, (size_t)length, real(fd, mode, offset, length));
}

static void pace(void) {
    char text[32] = "";
    int fd = control[0] ? open(control, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    if (read(fd, text, sizeof text - 1) > 0) {
        long wait_ms = strtol(text, NULL, 10);
        if (wait_ms > 0) usleep((useconds_t)wait_ms * 1000);
    }
    close(fd);
}

static int sync_with(int fd, int (*real)(int)) {
    struct stat now;
    if (!ours(fd)) return real(fd);
    pthread_mutex_lock(&guard);
    uint64_t covered = sequence;
    pthread_mutex_unlock(&guard);
    pace();
    int failed = real(fd);
    if (failed || fstat(fd, &now) < 0) return failed;
    struct record record = {.kind = 'S', .inode = now.st_ino, .size = covered};
    pthread_mutex_lock(&guard);
    note(&record, NULL, 0);
    pthread_mutex_unlock(&guard);
    return 0;
}

EXPORT int fsync(int fd) {
    REAL(fsync);
    return sync_with(fd, real);
}

EXPORT int fdatasync(int fd) {
    REAL(fdatasync);
    return sync_with(fd, real);
}

static int open_with(int dirfd, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    REAL(openat64);
    if (journal < 0) return real(dirfd, path, flags, mode);
    absolute(dirfd, path, whole);
    if (!below(whole) || !(flags & (O_CREAT | O_TRUNC))) {
        int fd = real(dirfd, path, flags, mode);
        forget(fd);
        return fd;
    }
    pthread_mutex_lock(&guard);
    if (access(whole, F_OK) != 0) {
        keep_names('C', whole, "", "");
    } else if (flags & O_TRUNC) {
        int old = real(AT_FDCWD, whole, O_RDONLY | O_CLOEXEC, 0);
        if (old >= 0) {
            keep_bytes(old, 0, SIZE_MAX / 2);
            close(old);
        }
    }
    int fd = real(dirfd, path, flags, mode);
    forget(fd);
    pthread_mutex_unlock(&guard);
    return fd;
}

#define MODE_ARGUMENT \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

EXPORT int open(const char *path, int flags, ...) {
    MODE_ARGUMENT
    return open_with(AT_FDCWD, path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...) {
    MODE_ARGUMENT
    return open_with(AT_FDCWD, path, flags, mode);
}

EXPORT int openat(int dirfd, const char *path, int flags, ...) {
    MODE_ARGUMENT
    return open_with(dirfd, path, flags, mode);
}

EXPORT int openat64(int dirfd, const char *path, int flags, ...) {
    MODE_ARGUMENT
    return open_with(dirfd, path, flags, mode);
}

EXPORT int close(int fd) {
    REAL(close);
    forget(fd);
    return real(fd);
}

static int rename_with(int olddir, const char *old, int newdir, const char *new) {
    char from[PATH_MAX], to[PATH_MAX], kept[PATH_MAX];
    REAL(renameat);
    absolute(olddir, old, from);
    absolute(newdir, new, to);
    if (!below(from) && !below(to)) return real(olddir, old, newdir, new);
    pthread_mutex_lock(&guard);
    struct stat now;
    kept[0] = 0;
    if (stat(to, &now) == 0 && S_ISREG(now.st_mode)) keep_file(to, kept);
    keep_names('R', from, to, kept);
    int failed = real(olddir, old, newdir, new);
    pthread_mutex_unlock(&guard);
    return failed;
}

EXPORT int rename(const char *old, const char *new) {
    return rename_with(AT_FDCWD, old, AT_FDCWD, new);
}

EXPORT int renameat(int olddir, const char *old, int newdir, const char *new) {
    return rename_with(olddir, old, newdir, new);
}

static int unlink_with(int dirfd, const char *path, int flags) {
    char whole[PATH_MAX], kept[PATH_MAX];
    REAL(unlinkat);
    absolute(dirfd, path, whole);
    if (!below(whole) || (flags & AT_REMOVEDIR)) return real(dirfd, path, flags);
    pthread_mutex_lock(&guard);
    keep_file(whole, kept);
    if (kept[0]) keep_names('U', whole, "", kept);
    int failed = real(dirfd, path, flags);
    pthread_mutex_unlock(&guard);
    return failed;
}

EXPORT int unlink(const char *path) { return unlink_with(AT_FDCWD, path, 0); }

EXPORT int unlinkat(int dirfd, const char *path, int flags) {
    return unlink_with(dirfd, path, flags);
}
