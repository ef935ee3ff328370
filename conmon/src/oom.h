// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "loop.h"

/*
 * Tells by an empty file `oom`, in the bundle and the persist directory, that the kernel killed a process of
 * the container for lack of memory. What counts is the kernel's oom_kill counter of the container's memory
 * cgroup: in memory.events on cgroup v2, in memory.oom_control on v1. The first announces a change by itself,
 * the second through an eventfd; both are read once more when the container has ended, as the news may come
 * too late.
 */
struct oom_watch {
    struct source source; /* v2: the counter file itself; v1: the eventfd */
    struct source recheck;
    int rechecks_left;
    int counter_fd;
    long long seen;
    bool counts; /* the counter exists (v1 has it since Linux 4.13) */
};

/* Never fails the container: without a memory cgroup, or rights to it, there is no watch. */
void oom_start(struct conmon *conmon, int pid);
void oom_check(struct conmon *conmon);
