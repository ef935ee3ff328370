// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.h"

#include <stdbool.h>
#include <stdint.h>

struct conmon;

/*
 * A descriptor the loop watches, and what to do when it is ready. It is embedded in whoever owns the
 * descriptor. The loop takes one event at a time, so a handler may close and free any source, its own too.
 */
struct source {
    int fd;
    bool watched;
    void (*on_ready)(struct conmon *conmon, struct source *source, uint32_t events);
};

/* Watches for these epoll events; called again it changes them. */
int source_watch(struct conmon *conmon, struct source *source, uint32_t events, struct error *err);
void source_unwatch(struct conmon *conmon, struct source *source);
/* Unwatches and closes; harmless when there is nothing. */
void source_close(struct conmon *conmon, struct source *source);

/* A one-shot timer as a source, ready after that many milliseconds. */
int source_start_timer(struct conmon *conmon, struct source *source, int64_t milliseconds, struct error *err);

int loop_open(struct conmon *conmon, struct error *err);
/* Serves events until `*stop` is set. */
int loop_run(struct conmon *conmon, const bool *stop, struct error *err);
