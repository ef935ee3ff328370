// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.h"

#include <stdbool.h>
#include <stddef.h>

struct conmon;

/* A line of one stream that has not ended yet; allocated when first needed. */
struct held_line {
    char *text;
    size_t length;
};

/*
 * The journald driver, speaking the journal's native datagram protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)
 * itself: that is one sendmsg, and spares the library. Unlike the file, the journal gets whole lines, up to 8
 * KiB.
 */
struct journald {
    int fd;
    char *fields; /* the fields that are the same in each entry, ready to send */
    struct held_line held[2];
};

int journald_open(struct conmon *conmon, struct error *err);
void journald_write(struct conmon *conmon, bool is_stderr, const char *data, size_t size);
void journald_flush(struct conmon *conmon);
