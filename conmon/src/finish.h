// SPDX-License-Identifier: Apache-2.0
#pragma once

struct conmon;

/* Writes the exit code to PERSIST/exit and EXITDIR/CID. A full disk is waited for: the code must not be lost.
 */
void finish_write_exit_files(struct conmon *conmon, int code);

/* Runs --exit-command, if any, after --exit-delay. Returns its failure status, or 0. */
int finish_run_exit_command(struct conmon *conmon);
