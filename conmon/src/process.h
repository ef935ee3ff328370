// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "loop.h"

#include <signal.h>
#include <sys/types.h>

/* The runtime, which ends soon, and the process it leaves behind, for which conmon is here. */
struct process {
    struct source signals;
    struct source timer;
    struct source pidfd; /* watched when the process is no child of ours */
    sigset_t original_mask;
    char original_oom_score[16];

    pid_t runtime_pid;
    int runtime_status;
    bool runtime_ended;

    pid_t pid;
    int status;
    bool ended;
    bool status_unknown; /* it ended, but somebody else has reaped it */
    bool timed_out;
    bool stop; /* what the loop waits for has happened */
};

/* Makes conmon the parent of orphans, and signals readable: SIGCHLD, and SIGTERM, SIGINT, SIGQUIT to be
 * passed on. */
int process_prepare(struct conmon *conmon, struct error *err);

/* Runs the runtime to its end and finds the pid of the process it made. An error holds what the runtime said.
 */
int process_create(struct conmon *conmon, struct error *err);

/* Waits until that process has ended, or its time is up; then it is killed. */
int process_wait(struct conmon *conmon, struct error *err);

/* 128 + signal, the exit status, or -1: killed by timeout, or not known. */
int process_exit_code(const struct process *process);

/* Saves oom_score_adj and makes conmon the last to be killed, where that is allowed. */
void process_protect_from_oom(struct process *process);
void process_restore_oom_score(const struct process *process);
