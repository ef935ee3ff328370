// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "loop.h"

#include <stddef.h>

/* How far a client may fall behind. The kernel takes the memory only while it is used. */
#define CLIENT_BUFFER (1024 * 1024)

/* One attached client: what it sends is stdin, what it gets is output. */
struct client {
    struct source source;
    struct client *next;
    char *pending; /* input that stdin did not take yet; no more is read from the client meanwhile */
    size_t pending_length;
    size_t pending_offset;
    char *unsent; /* the packet its socket had no room for, while it is waited for */
    size_t unsent_size;
    bool has_spoken; /* it has sent something */
    bool input_ended;
    bool output_ended; /* it reads too slowly, or not at all any more */
};

/* Takes over the descriptor. */
int client_add(struct conmon *conmon, int *fd, struct error *err);
void client_drop(struct conmon *conmon, struct client *client);

/*
 * Sends a packet to every client. Normally the container comes first: a client whose buffer is full gets no
 * more output, and sees the end of it. But a container with a terminal, or whose stdin ends with its client,
 * is there for that client: it is waited for, by not reading the container's output meanwhile, unless it
 * takes nothing for long.
 */
void clients_broadcast(struct conmon *conmon, const char *packet, size_t size);
bool clients_stalled(const struct conmon *conmon);

/* The output is about to end: makes room for all that is left of it, however slow a client is. */
void clients_make_room(struct conmon *conmon);

/* Stdin takes input: offers what is held. */
void clients_feed_stdin(struct conmon *conmon, struct source *source, uint32_t events);
void clients_set_buffer(int fd, int size);
