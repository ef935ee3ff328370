// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.h"

#include <stddef.h>
#include <sys/types.h>

/* Writes all of it, going on after EINTR. 0, or -1 with errno set. */
int write_all(int fd, const void *data, size_t size);

/* Reads up to size - 1 bytes of a small file (a pid file, something under /proc) and terminates them. */
ssize_t read_text_file(const char *path, char *text, size_t size, struct error *err);

/* A positive decimal number, alone but for white space around it. */
int parse_pid(const char *text, pid_t *pid);

/*
 * Writes a temporary file beside `path` and renames it over, so that a reader sees the old content or the
 * whole of the new one, never a part. The temporary name begins with a dot, for those who watch the
 * directory.
 */
int write_file_atomic(const char *path, const char *text, struct error *err);

/*
 * The same in two steps, for what must be written on a disk that is full by then: the first takes the room, under the
 * temporary name, the second fills it and gives it its name. Without a first step, or when it failed, the second has
 * nothing to fill and fails. `release` removes what was not filled.
 */
struct reserved_file {
    int fd;
    char *temporary;
};

int reserved_file_open(struct reserved_file *file, const char *path, size_t size, struct error *err);
int reserved_file_fill(struct reserved_file *file, const char *path, const char *text, struct error *err);
void reserved_file_release(struct reserved_file *file);

int set_nonblocking(int fd, struct error *err);

/* Makes sure that descriptors 0 to 2 are taken, so that no pipe of ours can land there. */
int reserve_standard_fds(struct error *err);

/* Closes everything from 3 up except the given descriptors (-1 entries are skipped). */
void close_all_fds_except(const int *kept, size_t count);
