// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "loop.h"

/*
 * The console socket: the runtime makes the pty inside the container and sends the master here by SCM_RIGHTS.
 * The master then is stdout (stderr goes the same way) and stdin.
 */
struct terminal {
    struct source listener;
    struct source connection;
    char *folder; /* a private directory for the socket, removed once it has served */
    char *path;
    bool sized; /* a size was asked for; it is kept for when the terminal comes */
    unsigned short rows;
    unsigned short columns;
};

int terminal_listen(struct conmon *conmon, struct error *err);
/* The runtime has ended, so the master must have been sent. Takes it if that has not happened yet. */
int terminal_receive(struct conmon *conmon, struct error *err);
void terminal_resize(struct conmon *conmon, unsigned short rows, unsigned short columns);
/* Removes what is left of the console socket. */
void terminal_close_socket(struct conmon *conmon);
