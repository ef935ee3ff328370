// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "loop.h"

#include <stddef.h>

#define CONTROL_LINE_MAX 200

/* A fifo in the bundle, read line by line. */
struct control_fifo {
    struct source source;
    size_t length;
    bool skipping; /* in the midst of a line that is too long */
    char line[CONTROL_LINE_MAX];
};

/*
 * `ctl` takes "1 HEIGHT WIDTH" (resize the terminal) and "2 0 0" (reopen the logs), `winsz` takes "HEIGHT
 * WIDTH". Whatever else is written there is reported and ignored.
 */
struct control {
    struct control_fifo ctl;
    struct control_fifo winsz;
};

int control_open(struct conmon *conmon, struct error *err);
