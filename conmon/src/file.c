// SPDX-License-Identifier: Apache-2.0
#include "file.h"

#include "cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

int write_all(int fd, const void *data, size_t size)
{
    const char *next = data;

    while (size > 0) {
        ssize_t written = write(fd, next, size);
        if (written < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        next += written;
        size -= (size_t)written;
    }
    return 0;
}

ssize_t read_text_file(const char *path, char *text, size_t size, struct error *err)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t length = 0;

    if (fd < 0)
        return error_set(err, errno, "open %s", path);
    while (length < size - 1) {
        ssize_t got = read(fd, text + length, size - 1 - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(err, errno, "read %s", path);
        if (got == 0)
            break;
        length += (size_t)got;
    }
    text[length] = '\0';
    return (ssize_t)length;
}

int parse_pid(const char *text, pid_t *pid)
{
    char *end = NULL;

    while (isspace((unsigned char)*text))
        text++;
    if (!isdigit((unsigned char)*text))
        return -1;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || value <= 0 || value > INT_MAX)
        return -1;
    while (isspace((unsigned char)*end))
        end++;
    if (*end != '\0')
        return -1;
    *pid = (pid_t)value;
    return 0;
}

static char *temporary_beside(const char *path)
{
    const char *slash = strrchr(path, '/');
    int folder = slash == NULL ? 0 : (int)(slash + 1 - path);
    char *temporary = NULL;

    if (asprintf(&temporary, "%.*s.%s.%d.tmp", folder, path, path + folder, (int)getpid()) < 0)
        return NULL;
    return temporary;
}

int write_file_atomic(const char *path, const char *text, struct error *err)
{
    _cleanup_free_ char *temporary = temporary_beside(path);
    if (temporary == NULL)
        return error_set(err, ENOMEM, "write %s", path);

    _cleanup_close_ int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return error_set(err, errno, "create %s", temporary);
    if (write_all(fd, text, strlen(text)) < 0) {
        error_set(err, errno, "write %s", temporary);
        unlink(temporary);
        return -1;
    }
    if (rename(temporary, path) < 0) {
        error_set(err, errno, "rename %s to %s", temporary, path);
        unlink(temporary);
        return -1;
    }
    return 0;
}

int reserved_file_open(struct reserved_file *file, const char *path, size_t size, struct error *err)
{
    static const char room[64];
    char *temporary = temporary_beside(path);

    if (temporary == NULL)
        return error_set(err, ENOMEM, "reserve %s", path);
    file->temporary = temporary;
    file->fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file->fd < 0 || write_all(file->fd, room, size < sizeof(room) ? size : sizeof(room)) < 0) {
        error_set(err, errno, "reserve %s", temporary);
        reserved_file_release(file);
        return -1;
    }
    return 0;
}

int reserved_file_fill(struct reserved_file *file, const char *path, const char *text, struct error *err)
{
    size_t length = strlen(text);

    if (file->fd < 0)
        return error_set(err, EBADF, "no room was reserved for %s", path);
    /* Over the bytes that are there, then cut: the other way round the room would be given back in between. */
    if (lseek(file->fd, 0, SEEK_SET) < 0 || write_all(file->fd, text, length) < 0 ||
        ftruncate(file->fd, (off_t)length) < 0 || rename(file->temporary, path) < 0)
        return error_set(err, errno, "write %s", path);
    close_fd(&file->fd);
    return 0;
}

void reserved_file_release(struct reserved_file *file)
{
    if (file->fd >= 0)
        unlink(file->temporary);
    close_fd(&file->fd);
    free(file->temporary);
    file->temporary = NULL;
}

int set_nonblocking(int fd, struct error *err)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return error_set(err, errno, "make descriptor %d non-blocking", fd);
    return 0;
}

int reserve_standard_fds(struct error *err)
{
    for (;;) {
        int fd = open("/dev/null", O_RDWR);
        if (fd < 0)
            return error_set(err, errno, "open /dev/null");
        if (fd > STDERR_FILENO) {
            close(fd);
            return 0;
        }
    }
}

void close_all_fds_except(const int *kept, size_t count)
{
    unsigned int first = 3;

    for (;;) {
        /* the lowest kept descriptor that is not below `first` bounds the range to close */
        bool bounded = false;
        unsigned int bound = UINT_MAX;
        for (size_t i = 0; i < count; i++) {
            if (kept[i] >= 0 && (unsigned int)kept[i] >= first && (unsigned int)kept[i] <= bound) {
                bound = (unsigned int)kept[i];
                bounded = true;
            }
        }
        if (!bounded) {
            close_range(first, UINT_MAX, 0);
            return;
        }
        if (bound > first)
            close_range(first, bound - 1, 0);
        first = bound + 1;
    }
}
