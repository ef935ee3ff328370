// SPDX-License-Identifier: Apache-2.0
#include "attach.h"

#include "conmon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* How far a client may fall behind. The kernel takes the memory only while it is used. */
#define CLIENT_BUFFER (1024 * 1024)
#define BACKLOG 64
#define MAX_CLIENTS 256

static void watch(struct conmon *conmon, struct source *source, uint32_t events)
{
    _cleanup_error_ struct error err = {0};

    if (source_watch(conmon, source, events, &err) < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "attach: %s", error_text(&err));
}

static void drop_client(struct conmon *conmon, struct client *client)
{
    for (struct client **link = &conmon->attach.clients; *link != NULL; link = &(*link)->next) {
        if (*link == client) {
            *link = client->next;
            break;
        }
    }
    source_close(conmon, &client->source);
    free(client->pending);
    free(client);
}

static void close_stdin(struct conmon *conmon)
{
    source_close(conmon, &conmon->attach.container_stdin);
    conmon->attach.stdin_state = STDIN_NONE;
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

static void on_stdin_writable(struct conmon *conmon, struct source *source, uint32_t events)
{
    bool waiting = false;

    (void)events;
    for (struct client *client = conmon->attach.clients; client != NULL; client = client->next) {
        if (client->pending == NULL)
            continue;
        if (write_pending(conmon, client))
            watch(conmon, &client->source, EPOLLIN);
        else
            waiting = true;
    }
    if (!waiting)
        source_unwatch(conmon, source);
}

/* The client will send no more. It may still want output; only one that has gone, or is deaf as well, is let
 * go. */
static void end_input(struct conmon *conmon, struct client *client, bool gone)
{
    client->input_ended = true;
    if (conmon->attach.stdin_state == STDIN_OPEN && conmon->options.use_stdin &&
        !conmon->options.leave_stdin_open && !conmon->options.terminal)
        close_stdin(conmon);
    if (gone || client->output_ended)
        drop_client(conmon, client);
    else
        watch(conmon, &client->source, 0); /* a hang-up is still reported */
}

static void on_client(struct conmon *conmon, struct source *source, uint32_t events)
{
    struct client *client = (struct client *)source; /* its first member */
    int fd = source->fd;

    if (client->input_ended) {
        drop_client(conmon, client);
        return;
    }
    if (client->pending != NULL) { /* it hung up; what it sent is still to be delivered */
        source_unwatch(conmon, source);
        return;
    }
    /* A packet is as long as the sender liked: ask for its length first, for a short buffer would cut it. */
    ssize_t length = recv(fd, NULL, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (length <= 0) {
        end_input(conmon, client, (events & (EPOLLHUP | EPOLLERR)) != 0);
        return;
    }
    char *data = malloc((size_t)length);
    if (data == NULL || recv(fd, data, (size_t)length, MSG_DONTWAIT) != length) {
        free(data);
        drop_client(conmon, client);
        return;
    }
    client->pending = data;
    client->pending_length = (size_t)length;
    client->pending_offset = 0;
    if (write_pending(conmon, client))
        return;
    watch(conmon, source, 0);
    if (conmon->attach.stdin_state == STDIN_OPEN) {
        conmon->attach.container_stdin.on_ready = on_stdin_writable;
        watch(conmon, &conmon->attach.container_stdin, EPOLLOUT);
    }
}

static void on_connection(struct conmon *conmon, struct source *source, uint32_t events)
{
    const int size = CLIENT_BUFFER;
    _cleanup_close_ int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct client *client = NULL;

    (void)events;
    size_t count = 0;
    for (client = conmon->attach.clients; client != NULL; client = client->next)
        count++;
    if (count >= MAX_CLIENTS) {
        report(&conmon->diagnostics, SEVERITY_WARNING, "refuse an attach client: there are %zu", count);
        return;
    }
    if (fd < 0 || (client = calloc(1, sizeof(*client))) == NULL) {
        if (errno != EAGAIN && errno != ECONNABORTED)
            report(&conmon->diagnostics, SEVERITY_WARNING, "accept an attach client: %s", strerror(errno));
        return;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    client->source = (struct source){.fd = take_fd(&fd), .on_ready = on_client};
    client->next = conmon->attach.clients;
    conmon->attach.clients = client;
    watch(conmon, &client->source, EPOLLIN);
}

void attach_broadcast(struct conmon *conmon, const char *packet, size_t size)
{
    struct client *next = NULL;

    for (struct client *client = conmon->attach.clients; client != NULL; client = next) {
        next = client->next;
        if (client->output_ended)
            continue;
        ssize_t sent = -1;
        do
            sent = send(client->source.fd, packet, size, MSG_NOSIGNAL | MSG_DONTWAIT | MSG_EOR);
        while (sent < 0 && errno == EINTR);
        if (sent >= 0)
            continue;
        report(&conmon->diagnostics, SEVERITY_WARNING, "an attached client gets no more output: %s",
               errno == EAGAIN ? "it does not read" : strerror(errno));
        client->output_ended = true;
        shutdown(client->source.fd, SHUT_WR);
        if (client->input_ended)
            drop_client(conmon, client);
    }
}

void attach_set_terminal(struct conmon *conmon, int fd)
{
    struct attach *attach = &conmon->attach;

    attach->container_stdin = (struct source){.fd = fd, .on_ready = on_stdin_writable};
    attach->stdin_state = STDIN_OPEN;
    for (struct client *client = attach->clients; client != NULL; client = client->next)
        if (client->pending != NULL)
            watch(conmon, &attach->container_stdin, EPOLLOUT);
}

int bind_in_directory(int fd, const char *folder, const char *name, unsigned int mode, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_close_ int folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (folder_fd < 0)
        return error_set(err, errno, "open %s", folder);
    if (unlinkat(folder_fd, name, 0) < 0 && errno != ENOENT)
        return error_set(err, errno, "remove the old %s/%s", folder, name);
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", folder_fd, name);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return error_set(err, errno, "bind %s/%s", folder, name);
    if (fchmodat(folder_fd, name, mode, 0) < 0)
        return error_set(err, errno, "chmod %s/%s", folder, name);
    return 0;
}

/* DIR/UUID -> bundle, for clients: DIR/UUID/attach fits into a socket address where the bundle may not. */
static int make_link(struct conmon *conmon, struct error *err)
{
    const struct options *options = &conmon->options;
    char *link = NULL;

    if (options->full_attach)
        return 0;
    if (asprintf(&link, "%s/%s", options->socket_dir, options->cuuid) < 0)
        return error_set(err, ENOMEM, "name the attach link");
    conmon->attach.link = link;
    if (unlink(link) < 0 && errno != ENOENT) {
        error_set(err, errno, "remove the old link %s", link);
        free(link);
        conmon->attach.link = NULL;
        return -1;
    }
    if (symlink(options->bundle, link) < 0)
        return error_set(err, errno, "link %s to %s", link, options->bundle);
    return 0;
}

int attach_open(struct conmon *conmon, struct error *err)
{
    struct attach *attach = &conmon->attach;

    if (make_link(conmon, err) < 0)
        return -1;
    attach->listener.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (attach->listener.fd < 0)
        return error_set(err, errno, "create the attach socket");
    if (bind_in_directory(attach->listener.fd, conmon->options.bundle, "attach", 0700, err) < 0)
        return -1;
    attach->bound = true;
    if (listen(attach->listener.fd, BACKLOG) < 0)
        return error_set(err, errno, "listen on the attach socket");
    attach->listener.on_ready = on_connection;
    return source_watch(conmon, &attach->listener, EPOLLIN, err);
}

static void remove_name(struct conmon *conmon, const char *path)
{
    if (unlink(path) < 0 && errno != ENOENT)
        report(&conmon->diagnostics, SEVERITY_WARNING, "remove %s: %s", path, strerror(errno));
}

void attach_remove_names(struct conmon *conmon)
{
    struct attach *attach = &conmon->attach;
    _cleanup_free_ char *socket_path = NULL;

    if (attach->bound && asprintf(&socket_path, "%s/attach", conmon->options.bundle) >= 0)
        remove_name(conmon, socket_path);
    if (attach->link != NULL)
        remove_name(conmon, attach->link);
    free(attach->link);
    attach->link = NULL;
    attach->bound = false;
}

void attach_release(struct conmon *conmon)
{
    while (conmon->attach.clients != NULL)
        drop_client(conmon, conmon->attach.clients);
    source_close(conmon, &conmon->attach.container_stdin);
    source_close(conmon, &conmon->attach.listener);
}
