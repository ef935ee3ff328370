// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conmon;

/*
 * The k8s-file driver: one record per line of output,
 *
 *     2026-01-31T12:00:00.123456789+01:00 stdout F text of the line
 *
 * with the time in RFC 3339 with nanoseconds and a numeric offset, and F for a line that ended, P for a piece
 * of a line that had not ended when it was read (a read takes 8 KiB at most). A reader joins pieces up to the
 * next F of the same stream and gets every byte back: an F record stands for text and newline, a P record for
 * text alone. Output that ends without a newline therefore ends with a P record.
 */
struct log_file {
    const char *path; /* NULL when this driver is not in use */
    int fd;
    int64_t written; /* bytes in the present file, for --log-size-max */
    int64_t total;   /* bytes over all files, for --log-global-size-max */
    bool torn;       /* a failed write has left a record without its end */
    bool failing;    /* the last write failed, which has been reported */
};

int log_file_open(struct conmon *conmon, struct error *err);
void log_file_write(struct conmon *conmon, const char *stream, const char *data, size_t size);

/*
 * Continues in the file that has the path now, or a new one. Never drops what is there; a watcher of the
 * directory sees the name appear in any case.
 */
int log_file_reopen(struct conmon *conmon, struct error *err);
