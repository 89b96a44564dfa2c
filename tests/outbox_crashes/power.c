/* What a power cut leaves of a folder, for a program that is started with this library before all others (LD_PRELOAD).
 *
 * The folder POWER_FILES is what the program sees, as through the page cache. The folder POWER_DISK is what the disk has:
 * what was written gets there when the file is synced, and some of it before, at random, in whole or cut off at a sector,
 * as a kernel may write back whatever it likes. At the POWER_CUT-th write or sync the process is killed, in the middle of
 * it. POWER_SEED decides what happens at random: the same operations leave the same disk.
 *
 * The first byte of the file POWER_FAULT, which may change at any time, says what fails: 'f' writes, as the disk is full;
 * 's' syncs, after which what was not synced is lost for good, as kernels do it; 'r' to open a file for writing.
 *
 * The index of the write-ahead log (-shm) is not on the disk: it is made anew from the log. Other simplifications: a file
 * is in its folder once it was synced, and out of it once it was unlinked; a sync of the folder does nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 16
#define NAME 96
#define SECTOR 512

struct range {
    struct range *next;
    off_t from, to;
};

struct file {
    char name[NAME];
    struct range *first, *last;
    int resized;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file files[FILES];
static char seen[512], disk[512];
static volatile char *fault;
static long cut, steps;
static uint64_t state;
static int ready;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_unlink)(const char *);
static int (*real_open)(const char *, int, ...);

static void prepare(void) {
    if (ready) return;
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_open = dlsym(RTLD_NEXT, "open64");
    const char *variable = getenv("POWER_FILES");
    if (variable) snprintf(seen, sizeof seen, "%s/", variable);
    variable = getenv("POWER_DISK");
    if (variable) snprintf(disk, sizeof disk, "%s/", variable);
    variable = getenv("POWER_CUT");
    cut = variable ? atol(variable) : 0;
    variable = getenv("POWER_SEED");
    state = variable ? strtoull(variable, NULL, 10) : 1;
    variable = getenv("POWER_FAULT");
    if (variable) {
        int fd = real_open(variable, O_RDONLY);
        void *page = fd < 0 ? MAP_FAILED : mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0);
        if (page != MAP_FAILED) fault = page;
        if (fd >= 0) close(fd);
    }
    ready = 1;
}

static uint64_t below(uint64_t end) {
    state += 0x9e3779b97f4a7c15u;
    uint64_t mixed = state;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return (mixed ^ mixed >> 31) % end;
}

static int fails(char what) { return fault && *fault == what; }

/* The part of a path behind the folder, if it counts. */
static const char *inside(const char *path) {
    size_t length = strlen(seen);
    if (!length || strncmp(path, seen, length)) return NULL;
    const char *name = path + length;
    size_t end = strlen(name);
    if (end == 0 || end >= NAME || strchr(name, '/')) return NULL;
    if (end > 4 && !strcmp(name + end - 4, "-shm")) return NULL;
    return strstr(name, " (deleted)") ? NULL : name;
}

static struct file *file_of(int fd) {
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return NULL;
    path[length] = 0;
    const char *name = inside(path);
    if (!name) return NULL;
    struct file *vacant = NULL;
    for (int at = 0; at < FILES; at++) {
        if (!strcmp(files[at].name, name)) return &files[at];
        if (!files[at].name[0] && !vacant) vacant = &files[at];
    }
    if (!vacant) abort();
    strcpy(vacant->name, name);
    return vacant;
}

/* Opened and closed each time. The program's own file never is: closing it would drop the program's locks on it. */
static int on_disk(const char *name, int flags) {
    char path[640];
    snprintf(path, sizeof path, "%s%s", disk, name);
    return real_open(path, flags, 0644);
}

static void copy(int fd, const char *name, off_t from, off_t to) {
    static char buffer[65536];
    int target = on_disk(name, O_WRONLY | O_CREAT);
    if (target < 0) abort();
    while (from < to) {
        size_t most = (size_t)(to - from) < sizeof buffer ? (size_t)(to - from) : sizeof buffer;
        ssize_t got = pread(fd, buffer, most, from);
        if (got <= 0) break;
        if (real_pwrite(target, buffer, (size_t)got, from) != got) abort();
        from += got;
    }
    close(target);
}

static void forget(struct file *file) {
    while (file->first) {
        struct range *next = file->first->next;
        free(file->first);
        file->first = next;
    }
    file->last = NULL;
    file->resized = 0;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Whether the power goes now. */
static int last(void) { return ++steps == cut; }

static void written(int fd, struct file *file, off_t from, size_t length) {
    struct range *range = malloc(sizeof *range);
    if (!range) abort();
    *range = (struct range){NULL, from, from + (off_t)length};
    if (file->last) file->last->next = range; else file->first = range;
    file->last = range;
    if (below(4) == 0) {
        off_t to = range->to;
        if (below(2)) to = from + (off_t)(below(length / SECTOR + 1) * SECTOR);
        copy(fd, file->name, from, to);
    }
    if (last()) die();
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t from) {
    prepare();
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    ssize_t done;
    if (file && fails('f')) {
        errno = ENOSPC;
        done = -1;
    } else {
        done = real_pwrite(fd, bytes, length, from);
        if (file && done > 0) written(fd, file, from, (size_t)done);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t from) { return pwrite64(fd, bytes, length, from); }

ssize_t write(int fd, const void *bytes, size_t length) {
    prepare();
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    ssize_t done;
    if (file && fails('f')) {
        errno = ENOSPC;
        done = -1;
    } else {
        off_t from = file ? lseek(fd, 0, SEEK_CUR) : 0;
        done = real_write(fd, bytes, length);
        if (file && done > 0) written(fd, file, from, (size_t)done);
    }
    int why = errno;
    pthread_mutex_unlock(&lock);
    errno = why;
    return done;
}

int ftruncate64(int fd, off_t length) {
    prepare();
    pthread_mutex_lock(&lock);
    int done = real_ftruncate(fd, length);
    struct file *file = file_of(fd);
    if (file && !done) {
        file->resized = 1;
        if (last()) die();
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int sync_file(int fd) {
    prepare();
    pthread_mutex_lock(&lock);
    struct file *file = file_of(fd);
    int done = 0;
    if (file && fails('s')) {
        forget(file);
        errno = EIO;
        done = -1;
    } else if (file) {
        int dying = last();
        struct stat now;
        if (fstat(fd, &now)) abort();
        if (file->resized) {
            copy(fd, file->name, 0, now.st_size);
        } else {
            for (struct range *range = file->first; range; range = range->next) {
                if (dying && below(4) == 0) die();
                copy(fd, file->name, range->from, range->to);
            }
        }
        if (dying) die();
        int target = on_disk(file->name, O_WRONLY | O_CREAT);
        if (target < 0 || real_ftruncate(target, now.st_size)) abort();
        close(target);
        forget(file);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int fsync(int fd) { return sync_file(fd); }

int fdatasync(int fd) { return sync_file(fd); }

int unlink(const char *path) {
    prepare();
    pthread_mutex_lock(&lock);
    int done = real_unlink(path);
    const char *name = inside(path);
    if (name && !done) {
        char other[640];
        snprintf(other, sizeof other, "%s%s", disk, name);
        real_unlink(other);
        for (int at = 0; at < FILES; at++) {
            if (!strcmp(files[at].name, name)) {
                forget(&files[at]);
                files[at].name[0] = 0;
            }
        }
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int open64(const char *path, int flags, ...) {
    prepare();
    int mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, int);
        va_end(rest);
    }
    size_t length = strlen(seen);
    if (length && !strncmp(path, seen, length) && (flags & (O_WRONLY | O_RDWR | O_CREAT)) && fails('r')) {
        errno = EROFS;
        return -1;
    }
    return real_open(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    int mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, int);
        va_end(rest);
    }
    return open64(path, flags, mode);
}
