// SPDX-License-Identifier: Apache-2.0
#include "client.h"

#include "conmon.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

/* How long a client that is waited for may read nothing. */
#define PATIENCE_MS 10000
/* The output left when a container ends: two pipes, or a terminal; with the kernel's overhead for small
 * packets. */
#define FINAL_BUFFER (8 * 1024 * 1024)

static void watch(struct conmon *conmon, struct client *client)
{
    _cleanup_error_ struct error err = {0};
    uint32_t events = client->input_ended || client->pending != NULL ? 0 : EPOLLIN;

    if (client->unsent != NULL)
        events |= EPOLLOUT;
    if (source_watch(conmon, &client->source, events, &err) < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "attach: %s", error_text(&err));
}

static void close_stdin(struct conmon *conmon)
{
    source_close(conmon, &conmon->attach.container_stdin);
    conmon->attach.stdin_state = STDIN_NONE;
    /* What is held has nowhere to go any more. Whoever sent it is heard again: he may have gone meanwhile. */
    for (struct client *client = conmon->attach.clients; client != NULL; client = client->next) {
        if (client->pending == NULL)
            continue;
        free(client->pending);
        client->pending = NULL;
        watch(conmon, client);
    }
}

/* Whether the container is there for its client, so that its output may wait. */
static bool is_interactive(const struct options *options)
{
    return options->terminal || (options->use_stdin && !options->leave_stdin_open);
}

bool clients_stalled(const struct conmon *conmon)
{
    return conmon->attach.stalled > 0;
}

/* This client is not waited for any more. */
static void end_stall(struct conmon *conmon, struct client *client)
{
    struct attach *attach = &conmon->attach;

    if (client->unsent == NULL)
        return;
    free(client->unsent);
    client->unsent = NULL;
    if (--attach->stalled > 0)
        return;
    source_close(conmon, &attach->patience);
    streams_resume(conmon);
}

static void end_output(struct conmon *conmon, struct client *client, const char *why)
{
    report(&conmon->diagnostics, SEVERITY_WARNING, "an attached client gets no more output: %s", why);
    client->output_ended = true;
    shutdown(client->source.fd, SHUT_WR);
    end_stall(conmon, client);
    if (client->input_ended)
        client_drop(conmon, client);
    else
        watch(conmon, client);
}

static void on_patience_over(struct conmon *conmon, struct source *source, uint32_t events)
{
    struct client *next = NULL;

    (void)events;
    source_close(conmon, source);
    for (struct client *client = conmon->attach.clients; client != NULL; client = next) {
        next = client->next;
        if (client->unsent != NULL)
            end_output(conmon, client, "it has not read for long");
    }
}

static void begin_stall(struct conmon *conmon, struct client *client, const char *packet, size_t size)
{
    struct attach *attach = &conmon->attach;
    _cleanup_error_ struct error err = {0};

    client->unsent = malloc(size);
    if (client->unsent == NULL)
        return end_output(conmon, client, "out of memory");
    memcpy(client->unsent, packet, size);
    client->unsent_size = size;
    watch(conmon, client);
    if (attach->stalled++ > 0)
        return;
    streams_pause(conmon);
    attach->patience.on_ready = on_patience_over;
    if (source_start_timer(conmon, &attach->patience, PATIENCE_MS, &err) < 0)
        end_output(conmon, client, error_text(&err));
}

static bool try_send(const struct client *client, const char *packet, size_t size)
{
    ssize_t sent = -1;

    do
        sent = send(client->source.fd, packet, size, MSG_NOSIGNAL | MSG_DONTWAIT | MSG_EOR);
    while (sent < 0 && errno == EINTR);
    return sent >= 0;
}

void clients_broadcast(struct conmon *conmon, const char *packet, size_t size)
{
    struct client *next = NULL;

    for (struct client *client = conmon->attach.clients; client != NULL; client = next) {
        next = client->next;
        if (client->output_ended)
            continue;
        if (client->unsent != NULL)
            end_output(conmon, client, "it does not read");
        else if (try_send(client, packet, size))
            continue;
        else if (errno == EAGAIN && is_interactive(&conmon->options) && !conmon->process.ended)
            begin_stall(conmon, client, packet, size);
        else
            end_output(conmon, client, errno == EAGAIN ? "it does not read" : strerror(errno));
    }
}

/* There is room in the client's socket again. */
static void send_unsent(struct conmon *conmon, struct client *client)
{
    if (try_send(client, client->unsent, client->unsent_size)) {
        end_stall(conmon, client);
        watch(conmon, client);
    } else if (errno != EAGAIN) {
        end_output(conmon, client, strerror(errno));
    }
}

void clients_set_buffer(int fd, int size)
{
    /* Beyond net.core.wmem_max where allowed, else up to it. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

void clients_make_room(struct conmon *conmon)
{
    struct client *next = NULL;

    for (struct client *client = conmon->attach.clients; client != NULL; client = next) {
        next = client->next;
        if (is_interactive(&conmon->options))
            clients_set_buffer(client->source.fd, FINAL_BUFFER);
        if (client->unsent != NULL)
            send_unsent(conmon, client);
    }
}

/* Offers the client's held input to stdin. True when nothing is held any more. */
static bool write_pending(struct conmon *conmon, struct client *client)
{
    struct attach *attach = &conmon->attach;

    while (client->pending != NULL && attach->stdin_state == STDIN_OPEN) {
        ssize_t written = write(attach->container_stdin.fd, client->pending + client->pending_offset,
                                client->pending_length - client->pending_offset);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 && errno == EAGAIN)
            return false;
        if (written < 0) { /* the container has closed its stdin */
            close_stdin(conmon);
            break;
        }
        client->pending_offset += (size_t)written;
        if (client->pending_offset < client->pending_length)
            continue;
        free(client->pending);
        client->pending = NULL;
    }
    if (attach->stdin_state == STDIN_NONE) {
        free(client->pending);
        client->pending = NULL;
    }
    return client->pending == NULL;
}

void clients_feed_stdin(struct conmon *conmon, struct source *source, uint32_t events)
{
    bool waiting = false;

    (void)events;
    for (struct client *client = conmon->attach.clients; client != NULL; client = client->next) {
        if (client->pending == NULL)
            continue;
        if (write_pending(conmon, client))
            watch(conmon, client);
        else
            waiting = true;
    }
    if (!waiting)
        source_unwatch(conmon, source);
}

/* Whether it goes as somebody who only looked on: without a word, while another one stays, who may have more to say. */
static bool is_onlooker(const struct conmon *conmon, const struct client *client)
{
    bool alone = conmon->attach.clients == client && client->next == NULL;

    return !client->has_spoken && !alone;
}

/* The client will send no more. It may still want output; only one that has gone, or is deaf as well, is let
 * go. */
static void end_input(struct conmon *conmon, struct client *client, bool gone)
{
    client->input_ended = true;
    if (conmon->attach.stdin_state == STDIN_OPEN && conmon->options.use_stdin &&
        !(gone && is_onlooker(conmon, client)) &&
        !conmon->options.leave_stdin_open && !conmon->options.terminal)
        close_stdin(conmon);
    if (gone || client->output_ended)
        client_drop(conmon, client);
    else
        watch(conmon, client); /* a hang-up is still reported */
}

static void read_input(struct conmon *conmon, struct client *client, bool gone)
{
    _cleanup_error_ struct error err = {0};
    int fd = client->source.fd;

    /* A packet is as long as the sender liked: ask for its length first, for a short buffer would cut it. */
    ssize_t length = recv(fd, NULL, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0)
        return end_input(conmon, client, gone);
    char *data = malloc((size_t)length);
    if (data == NULL || recv(fd, data, (size_t)length, MSG_DONTWAIT) != length) {
        free(data);
        return client_drop(conmon, client);
    }
    client->has_spoken = true;
    client->pending = data;
    client->pending_length = (size_t)length;
    client->pending_offset = 0;
    if (write_pending(conmon, client))
        return;
    watch(conmon, client);
    if (conmon->attach.stdin_state == STDIN_OPEN &&
        source_watch(conmon, &conmon->attach.container_stdin, EPOLLOUT, &err) < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "stdin: %s", error_text(&err));
}

static void on_client(struct conmon *conmon, struct source *source, uint32_t events)
{
    struct client *client = (struct client *)source; /* its first member */
    bool gone = (events & (EPOLLHUP | EPOLLERR)) != 0;

    if (gone)
        end_stall(conmon, client);
    if (client->unsent != NULL && (events & EPOLLOUT) != 0)
        return send_unsent(conmon, client);
    if (client->input_ended) {
        if (gone)
            client_drop(conmon, client);
    } else if (client->pending == NULL) {
        read_input(conmon, client, gone);
    } else if (gone) { /* what it sent is still to be delivered */
        source_unwatch(conmon, source);
    }
}

int client_add(struct conmon *conmon, int *fd, struct error *err)
{
    struct client *client = calloc(1, sizeof(*client));

    if (client == NULL)
        return error_set(err, ENOMEM, "accept an attach client");
    clients_set_buffer(*fd, CLIENT_BUFFER);
    client->source = (struct source){.fd = take_fd(fd), .on_ready = on_client};
    client->next = conmon->attach.clients;
    conmon->attach.clients = client;
    watch(conmon, client);
    return 0;
}

/* A socket that is closed over input resets its peer, who hears of that before he gets the output that waits for him. So
 * no more is let in, and what is there is taken out. */
static void discard_input(int fd)
{
    char byte = 0;

    shutdown(fd, SHUT_RD);
    while (recv(fd, &byte, sizeof(byte), MSG_DONTWAIT) > 0)
        ;
}

void client_drop(struct conmon *conmon, struct client *client)
{
    for (struct client **link = &conmon->attach.clients; *link != NULL; link = &(*link)->next) {
        if (*link == client) {
            *link = client->next;
            break;
        }
    }
    end_stall(conmon, client);
    discard_input(client->source.fd);
    source_close(conmon, &client->source);
    free(client->pending);
    free(client);
}
