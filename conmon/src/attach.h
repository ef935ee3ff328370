// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "client.h"
#include "loop.h"

#include <stddef.h>

/* Where the container's stdin stands. */
enum stdin_state {
    STDIN_NONE,    /* it was never asked for, or it has been closed */
    STDIN_AWAITED, /* the terminal is to come; input waits for it */
    STDIN_OPEN,
};

/*
 * The attach socket, a SEQPACKET listener named `attach` in the bundle. To clients conmon sends packets of a
 * stream byte (2 stdout, 3 stderr) and up to 8 KiB; what they send is stdin, and their half-close is the end
 * of it.
 */
struct attach {
    struct source listener;
    struct source container_stdin;
    enum stdin_state stdin_state;
    struct client *clients;
    size_t stalled; /* clients that are waited for */
    struct source patience;
    bool bound; /* the socket file is there, to be removed at the end */
    char *link; /* short link to the bundle, likewise */
};

int attach_open(struct conmon *conmon, struct error *err);
/* Stdin is there, a pipe or a terminal: input that has been waiting goes to it. Takes the descriptor over. */
void attach_set_stdin(struct conmon *conmon, int fd);
/* Removes the socket and the link: there is nobody to connect to any more. */
void attach_remove_names(struct conmon *conmon);
void attach_release(struct conmon *conmon);

/* Binds a socket at folder/name however long that path is (sun_path has 108 bytes). */
int bind_in_directory(int fd, const char *folder, const char *name, unsigned int mode, struct error *err);
