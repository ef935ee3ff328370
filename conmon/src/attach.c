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

#define BACKLOG 64
#define MAX_CLIENTS 256

static void on_connection(struct conmon *conmon, struct source *source, uint32_t events)
{
    _cleanup_error_ struct error err = {0};
    _cleanup_close_ int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    size_t count = 0;

    (void)events;
    for (struct client *client = conmon->attach.clients; client != NULL; client = client->next)
        count++;
    if (fd < 0) {
        if (errno != EAGAIN && errno != ECONNABORTED)
            report(&conmon->diagnostics, SEVERITY_WARNING, "accept an attach client: %s", strerror(errno));
    } else if (count >= MAX_CLIENTS) {
        report(&conmon->diagnostics, SEVERITY_WARNING, "refuse an attach client: there are %zu", count);
    } else if (client_add(conmon, &fd, &err) < 0) {
        report(&conmon->diagnostics, SEVERITY_WARNING, "%s", error_text(&err));
    }
}

void attach_set_stdin(struct conmon *conmon, int fd)
{
    struct attach *attach = &conmon->attach;
    _cleanup_error_ struct error err = {0};

    attach->container_stdin = (struct source){.fd = fd, .on_ready = clients_feed_stdin};
    attach->stdin_state = STDIN_OPEN;
    for (struct client *client = attach->clients; client != NULL; client = client->next)
        if (client->pending != NULL && source_watch(conmon, &attach->container_stdin, EPOLLOUT, &err) < 0)
            report(&conmon->diagnostics, SEVERITY_WARNING, "stdin: %s", error_text(&err));
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
        client_drop(conmon, conmon->attach.clients);
    source_close(conmon, &conmon->attach.container_stdin);
    source_close(conmon, &conmon->attach.patience);
    source_close(conmon, &conmon->attach.listener);
}
