// SPDX-License-Identifier: Apache-2.0
#pragma once

struct conmon;

/* Takes the room that PERSIST/exit will need while there is some; a disk that fills up later then does not matter. */
void finish_reserve(struct conmon *conmon);

/* Writes the exit code to PERSIST/exit and EXITDIR/CID, neither waiting for the other. A full disk is waited for: the
 * code must not be lost. */
void finish_write_exit_files(struct conmon *conmon, int code);

/* Runs --exit-command, if any, after --exit-delay. Returns its failure status, or 0. */
int finish_run_exit_command(struct conmon *conmon);
