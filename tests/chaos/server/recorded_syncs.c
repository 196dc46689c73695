/* Records each completed sync of an append-only file, as recorded_server.py does for its own. For LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Sync a file; if it is an append-only file, note how long it was before, and when the sync began. */
static int recorded(int file, const char *function) {
    int (*real)(int) = dlsym(RTLD_NEXT, function);
    char link[64], path[4096], line[512];
    struct timespec began;
    struct stat about;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    clock_gettime(CLOCK_MONOTONIC, &began);
    int known = fstat(file, &about) == 0;
    int status = real(file);
    char *name = strrchr(path, '/');
    if (status || !known || !name || !strstr(name, ".incr.aof")) return status;
    int size = snprintf(line, sizeof line, "%s %lld %lld.%09ld\n", name + 1, (long long)about.st_size,
                        (long long)began.tv_sec, began.tv_nsec);
    int record = open(getenv("SYNCED"), O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (record >= 0) {
        if (write(record, line, size) != size) abort();
        close(record);
    }
    return status;
}

int fdatasync(int file) { return recorded(file, "fdatasync"); }

int fsync(int file) { return recorded(file, "fsync"); }
