// SPDX-License-Identifier: Apache-2.0
#include "log_file.h"

#include "conmon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

#define LOG_MODE 0640
#define BATCH_VECTORS 96
#define VECTORS_PER_RECORD 4

/* A timestamp, stream and tag; the two tags' texts differ only in their last letters. */
struct record_prefix {
    char full[64];
    char partial[64];
    size_t length;
};

static struct record_prefix format_prefix(const char *stream)
{
    struct record_prefix prefix;
    struct timespec now = {0};
    struct tm local = {0};

    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    long offset = local.tm_gmtoff < 0 ? -local.tm_gmtoff : local.tm_gmtoff;
    int length = snprintf(
        prefix.full, sizeof(prefix.full), "%04d-%02d-%02dT%02d:%02d:%02d.%09ld%c%02ld:%02ld %s F ",
        local.tm_year + 1900, local.tm_mon + 1, local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec,
        now.tv_nsec, local.tm_gmtoff < 0 ? '-' : '+', offset / 3600, offset % 3600 / 60, stream);
    prefix.length = (size_t)length < sizeof(prefix.full) ? (size_t)length : sizeof(prefix.full) - 1;
    memcpy(prefix.partial, prefix.full, sizeof(prefix.partial));
    prefix.partial[prefix.length - 2] = 'P';
    return prefix;
}

static int open_log(const char *path, int flags, struct error *err)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | flags, LOG_MODE);
    if (fd < 0)
        return error_set(err, errno, "open the log %s", path);
    return fd;
}

/* The present size; 0 for what has none, such as a pipe or a terminal. */
static int64_t size_of(int fd)
{
    struct stat info;

    return fstat(fd, &info) == 0 && S_ISREG(info.st_mode) ? info.st_size : 0;
}

int log_file_open(struct conmon *conmon, struct error *err)
{
    struct log_file *log = &conmon->log.file;

    log->fd = open_log(log->path, 0, err);
    if (log->fd < 0)
        return -1;
    log->written = size_of(log->fd);
    log->total = log->written;
    return 0;
}

/* The batch of records under way. Its bytes are counted when they are added, and written in one call. */
struct batch {
    struct iovec vectors[BATCH_VECTORS];
    int count;
};

static void add(struct batch *batch, const char *data, size_t size)
{
    batch->vectors[batch->count++] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = size};
}

/*
 * Writes the batch. What cannot be written is dropped, for waiting would stop the container; a record torn by
 * that is closed with a newline before the next one, so that one record is lost and not two.
 */
static void flush(struct conmon *conmon, struct batch *batch)
{
    struct log_file *log = &conmon->log.file;
    struct iovec *next = batch->vectors;
    int left = batch->count;

    batch->count = 0;
    while (left > 0) {
        ssize_t written = writev(log->fd, next, left);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            log->torn = log->torn || next != batch->vectors;
            if (!log->failing)
                report(&conmon->diagnostics, SEVERITY_WARNING, "output is lost: write to the log %s: %s",
                       log->path, strerror(errno));
            log->failing = true;
            return;
        }
        log->failing = false;
        size_t rest = (size_t)written;
        while (left > 0 && rest >= next->iov_len) {
            rest -= next->iov_len;
            next++;
            left--;
        }
        if (left > 0 && rest > 0) {
            next->iov_base = (char *)next->iov_base + rest;
            next->iov_len -= rest;
            log->torn = true; /* until the remainder has been written, too */
        }
        if (left == 0)
            log->torn = false;
    }
}

/* Swaps in a new descriptor; whatever was torn is in the old file. */
static void replace_fd(struct log_file *log, int fd)
{
    close_fd(&log->fd);
    log->fd = fd;
    log->written = size_of(fd);
    log->torn = false;
}

static int rename_numbered(const char *path, int64_t from, int64_t to)
{
    _cleanup_free_ char *old = NULL;
    _cleanup_free_ char *new = NULL;

    if (asprintf(&old, from > 0 ? "%s.%lld" : "%s", path, (long long)from) < 0 ||
        asprintf(&new, "%s.%lld", path, (long long)to) < 0)
        return -1;
    return rename(old, new);
}

/* Whether --log-allowlist-dir, where given, allows renaming in the directory of the log. */
static bool may_rotate(const struct options *options, const char *path)
{
    const char *slash = strrchr(path, '/');
    _cleanup_free_ char *folder = slash == NULL   ? strdup(".")
                                  : slash == path ? strdup("/")
                                                  : strndup(path, (size_t)(slash - path));
    _cleanup_free_ char *real = folder != NULL ? realpath(folder, NULL) : NULL;

    if (options->log_allowlist_dirs.count == 0)
        return true;
    for (size_t i = 0; real != NULL && i < options->log_allowlist_dirs.count; i++) {
        _cleanup_free_ char *allowed = realpath(options->log_allowlist_dirs.items[i], NULL);
        size_t length = allowed != NULL ? strlen(allowed) : 0;
        if (length > 0 && strncmp(real, allowed, length) == 0 &&
            (real[length] == '\0' || real[length] == '/'))
            return true;
    }
    return false;
}

/*
 * The file has reached --log-size-max: starts it anew. The new file takes the name by rename, so that there
 * is no moment without a file of that name. When nothing can be created the old one is emptied: the limit
 * holds.
 */
static void start_anew(struct conmon *conmon)
{
    const struct options *options = &conmon->options;
    struct log_file *log = &conmon->log.file;
    _cleanup_error_ struct error err = {0};
    _cleanup_free_ char *temporary = NULL;
    _cleanup_close_ int fd = -1;

    if (options->log_rotate && may_rotate(options, log->path)) {
        for (int64_t number = options->log_max_files; number >= 1; number--)
            rename_numbered(log->path, number - 1, number);
    }
    if (asprintf(&temporary, "%s.tmp", log->path) < 0)
        temporary = NULL;
    else
        fd = open_log(temporary, O_TRUNC, &err);
    if (fd >= 0 && rename(temporary, log->path) == 0) {
        replace_fd(log, take_fd(&fd));
        return;
    }
    report(&conmon->diagnostics, SEVERITY_WARNING, "cannot replace the log %s, emptying it: %s", log->path,
           err.text != NULL ? err.text : strerror(errno));
    if (ftruncate(log->fd, 0) < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "empty the log: %s", strerror(errno));
    log->written = 0;
    log->torn = false;
}

void log_file_write(struct conmon *conmon, const char *stream, const char *data, size_t size)
{
    const struct options *options = &conmon->options;
    struct log_file *log = &conmon->log.file;
    struct record_prefix prefix = format_prefix(stream);
    struct batch batch = {.count = 0};

    while (size > 0) {
        const char *newline = memchr(data, '\n', size);
        size_t length = newline != NULL ? (size_t)(newline + 1 - data) : size;
        int64_t bytes = (int64_t)(prefix.length + length + (newline == NULL ? 1 : 0));

        if (options->log_global_size_max > 0 && log->total >= options->log_global_size_max)
            break;
        if (options->log_size_max > 0 && log->written + bytes > options->log_size_max) {
            flush(conmon, &batch);
            start_anew(conmon);
        }
        if (batch.count > BATCH_VECTORS - VECTORS_PER_RECORD)
            flush(conmon, &batch);
        if (log->torn && batch.count == 0)
            add(&batch, "\n", 1);
        add(&batch, newline != NULL ? prefix.full : prefix.partial, prefix.length);
        add(&batch, data, length);
        if (newline == NULL)
            add(&batch, "\n", 1);
        log->written += bytes;
        log->total += bytes;
        data += length;
        size -= length;
    }
    flush(conmon, &batch);
}

int log_file_reopen(struct conmon *conmon, struct error *err)
{
    struct log_file *log = &conmon->log.file;
    struct stat info;
    bool there = stat(log->path, &info) == 0;

    if (there && S_ISREG(info.st_mode)) {
        /* CRI-O waits for the name to appear in the directory; opening what is there would show it nothing.
         */
        _cleanup_free_ char *aside = NULL;
        if (asprintf(&aside, "%s.tmp", log->path) >= 0 && rename(log->path, aside) == 0 &&
            rename(aside, log->path) < 0)
            report(&conmon->diagnostics, SEVERITY_WARNING, "the log has become %s: %s", aside,
                   strerror(errno));
    }
    int fd = open_log(log->path, 0, err);
    if (fd < 0)
        return -1;
    replace_fd(log, fd);
    return 0;
}
