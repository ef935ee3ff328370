// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.h"
#include "journald.h"
#include "log_file.h"

#include <stdbool.h>
#include <stddef.h>

struct conmon;

enum stream { STREAM_STDOUT = 2, STREAM_STDERR = 3 }; /* also the first byte of an attach packet */

/* The log drivers in use, chosen by -l; a container may have a file and the journal at once. */
struct log {
    bool passthrough; /* the container has conmon's own stdio: nothing to log or attach to */
    bool to_journald;
    struct log_file file;
    struct journald journald;
};

/* Reads the -l options and opens what they name. */
int log_open(struct conmon *conmon, struct error *err);

/* Logs what the container wrote. Failures are reported once and otherwise borne: a full disk must not stop
 * it. */
void log_write(struct conmon *conmon, enum stream stream, const char *data, size_t size);

/* Opens the file anew under its name, after somebody has moved it away. */
void log_reopen(struct conmon *conmon);

/* At the end: flushes what is held back. */
void log_finish(struct conmon *conmon);
/* Makes it durable, unless --no-sync-log. */
void log_sync(struct conmon *conmon);
