/* A wall clock that a tester sets: an LD_PRELOAD library.
 *
 * The file JEPSEN_CLOCK_CONTROL is mapped; it holds the setting that jepsen/nodes/clock.py writes.
 * Readings of CLOCK_REALTIME follow it, all other clocks stay true. Absolute deadlines on
 * CLOCK_REALTIME are turned back into true time before the kernel sees them, so that a wait lasts as
 * long as its caller computed. Unlike with a kernel's clock, a wait that has begun does not notice a
 * jump. A process that makes system calls without libc, such as a Go program, passes this by.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define SECOND_NS 1000000000LL
/* Deadlines before this moment, in 2001, count from the boot: they are of a monotonic clock. */
#define LEAST_WALL_S 1000000000LL

/* Shared with clock.py: the clock showed shown_ns at true_ns and runs at `speed` since. */
struct setting {
    _Atomic uint64_t version; /* odd while the rest is being written */
    int64_t true_ns;
    int64_t shown_ns;
    double speed;
};

static const struct setting *volatile shared;

typedef int (*gettime_call)(clockid_t, struct timespec *);
typedef int (*sleep_call)(clockid_t, int, const struct timespec *, struct timespec *);
typedef int (*cond_call)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
typedef int (*mutex_call)(pthread_mutex_t *, const struct timespec *);
typedef int (*semaphore_call)(sem_t *, const struct timespec *);
typedef long (*system_call)(long, ...);

static gettime_call true_gettime;

static void *find(const char *name) { return dlsym(RTLD_NEXT, name); }

static gettime_call gettime(void) {
    if (!true_gettime) true_gettime = (gettime_call)find("clock_gettime");
    return true_gettime;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("JEPSEN_CLOCK_CONTROL");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *map = mmap(NULL, sizeof(struct setting), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED) shared = map;
}

static int64_t nanoseconds(const struct timespec *time) {
    return time->tv_sec * SECOND_NS + time->tv_nsec;
}

static struct timespec timespec_of(int64_t ns) {
    if (ns < 0) ns = 0;
    return (struct timespec){.tv_sec = ns / SECOND_NS, .tv_nsec = ns % SECOND_NS};
}

/* Read the setting as one; false if there is none, and the clock is true. */
static int current(struct setting *copy) {
    const struct setting *from = shared;
    if (!from) return 0;
    for (;;) {
        uint64_t before = atomic_load_explicit(&from->version, memory_order_acquire);
        copy->true_ns = *(volatile const int64_t *)&from->true_ns;
        copy->shown_ns = *(volatile const int64_t *)&from->shown_ns;
        copy->speed = *(volatile const double *)&from->speed;
        atomic_thread_fence(memory_order_acquire);
        uint64_t after = atomic_load_explicit(&from->version, memory_order_relaxed);
        if (before == after && before % 2 == 0) return before != 0;
    }
}

static int64_t shown_of(int64_t true_ns) {
    struct setting now;
    if (!current(&now)) return true_ns;
    return now.shown_ns + (int64_t)((double)(true_ns - now.true_ns) * now.speed);
}

static int64_t shown_now(void) {
    struct timespec time;
    gettime()(CLOCK_REALTIME, &time);
    return shown_of(nanoseconds(&time));
}

/* Return the true moment of a deadline on the shown clock. */
static struct timespec true_deadline(const struct timespec *deadline) {
    struct setting now;
    if (deadline->tv_sec < LEAST_WALL_S || !current(&now)) return *deadline;
    double ahead_ns = (double)(nanoseconds(deadline) - now.shown_ns);
    return timespec_of(now.true_ns + (int64_t)(ahead_ns / now.speed));
}

static int is_wall(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = gettime()(clock, time);
    if (result == 0 && is_wall(clock)) *time = timespec_of(shown_of(nanoseconds(time)));
    return result;
}

EXPORT int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    int64_t now_ns = shown_now();
    *time = (struct timeval){now_ns / SECOND_NS, now_ns % SECOND_NS / 1000};
    return 0;
}

EXPORT time_t time(time_t *where) {
    time_t now_s = shown_now() / SECOND_NS;
    if (where) *where = now_s;
    return now_s;
}

EXPORT int timespec_get(struct timespec *time, int base) {
    if (base != TIME_UTC) return 0;
    *time = timespec_of(shown_now());
    return base;
}

EXPORT int clock_nanosleep(
    clockid_t clock, int flags, const struct timespec *until, struct timespec *left) {
    static sleep_call real;
    if (!real) real = (sleep_call)find("clock_nanosleep");
    if (!is_wall(clock) || !(flags & TIMER_ABSTIME)) return real(clock, flags, until, left);
    struct timespec deadline = true_deadline(until);
    return real(clock, flags, &deadline, left);
}

EXPORT int pthread_cond_timedwait(
    pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
    const struct timespec *restrict until) {
    static cond_call real;
    /* An older version of this symbol lives beside the one that is meant. */
    if (!real) real = (cond_call)dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real) real = (cond_call)find("pthread_cond_timedwait");
    struct timespec deadline = true_deadline(until);
    return real(condition, mutex, &deadline);
}

EXPORT int pthread_mutex_timedlock(
    pthread_mutex_t *restrict mutex, const struct timespec *restrict until) {
    static mutex_call real;
    if (!real) real = (mutex_call)find("pthread_mutex_timedlock");
    struct timespec deadline = true_deadline(until);
    return real(mutex, &deadline);
}

EXPORT int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    static semaphore_call real;
    if (!real) real = (semaphore_call)find("sem_timedwait");
    struct timespec deadline = true_deadline(until);
    return real(semaphore, &deadline);
}

EXPORT long syscall(long number, ...) {
    static system_call real;
    if (!real) real = (system_call)find("syscall");
    long given[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) given[i] = va_arg(list, long);
    va_end(list);
    struct timespec deadline;
    if (number == SYS_futex && given[1] & FUTEX_CLOCK_REALTIME && given[3]) {
        deadline = true_deadline((const struct timespec *)given[3]);
        given[3] = (long)&deadline;
    } else if (number == SYS_clock_gettime && given[1]) {
        return clock_gettime((clockid_t)given[0], (struct timespec *)given[1]);
    }
    return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
