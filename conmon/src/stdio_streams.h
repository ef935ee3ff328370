// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "log.h"
#include "loop.h"

#include <stddef.h>

#define READ_SIZE 8192

/*
 * What the container writes. While the runtime runs, its stderr is where the runtime complains, so it is kept
 * aside: when the runtime fails it is the error text, when it succeeds it goes the way of all output.
 */
struct streams {
    struct source out;
    struct source err;
    /* the container's ends, for the runtime to inherit; closed once it has them */
    int child_in;
    int child_out;
    int child_err;
    char *kept; /* stderr of the runtime, at most READ_SIZE bytes */
    size_t kept_length;
    bool terminal_idle; /* nobody has the terminal open at present */
    char packet[1 + READ_SIZE];
};

/* Creates the pipes that the options ask for. With a terminal only stderr is a pipe, for the runtime's
 * errors. */
int streams_open(struct conmon *conmon, struct error *err);
void streams_close_child_ends(struct streams *streams);

/* While the runtime runs. */
int streams_keep_stderr(struct conmon *conmon, struct error *err);
/* What it said on stderr up to now, terminated. The runtime has ended. */
const char *streams_kept_text(struct conmon *conmon);

/* From now on output goes to the logs and to whoever is attached. */
int streams_start(struct conmon *conmon, struct error *err);

/* Stops reading, so that the container waits when its pipes are full, and goes on. */
void streams_pause(struct conmon *conmon);
void streams_resume(struct conmon *conmon);

/* The container has ended: passes on what it left behind in the pipes. Never waits for more. */
void streams_drain(struct conmon *conmon);
