// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.h"

#include <stdbool.h>

struct conmon;

/* The descriptors the caller passed by number in the environment; -1 where it passed none. */
struct sync_pipes {
    int sync_fd;   /* _OCI_SYNCPIPE: conmon writes JSON lines */
    int start_fd;  /* _OCI_STARTPIPE: conmon waits for a byte, or the end, before it starts anything */
    int attach_fd; /* _OCI_ATTACHPIPE: conmon writes one line when the attach socket listens (--exec-attach)
                    */
};

/* Takes over the descriptors and marks them close-on-exec. */
int sync_pipes_open(struct conmon *conmon, struct error *err);

/* Blocks until the caller wrote to the start pipe or closed it. */
int sync_wait_for_start(const struct conmon *conmon, struct error *err);

/*
 * Writes {"<key>": number} with "message" beside it when there is one. The key is "data" under --api-version,
 * else "exit_code" for an exec and "pid" for a container. A caller who has gone is no error: nobody wants to
 * know.
 */
void sync_send(struct conmon *conmon, int number, const char *message);
void sync_send_attach_ready(struct conmon *conmon);
