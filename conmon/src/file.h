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

int set_nonblocking(int fd, struct error *err);

/* Makes sure that descriptors 0 to 2 are taken, so that no pipe of ours can land there. */
int reserve_standard_fds(struct error *err);

/* Closes everything from 3 up except the given descriptors (-1 entries are skipped). */
void close_all_fds_except(const int *kept, size_t count);
