// SPDX-License-Identifier: Apache-2.0
#include "notify.h"

#include "conmon.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define MESSAGE_MAX 4096

/* MAINPID or FDSTORE from a container must not reach the service manager of the host. */
static bool may_pass(const char *line)
{
    static const char *const whole[] = {"READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1",
                                        "WATCHDOG=trigger"};
    static const char *const prefixes[] = {"STATUS=", "ERRNO=", "BUSERROR=", "MONOTONIC_USEC="};

    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
        if (strcmp(line, whole[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
        if (strncmp(line, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

static void on_message(struct conmon *conmon, struct source *source, uint32_t events)
{
    struct notify *notify = &conmon->notify;
    char message[MESSAGE_MAX + 1];
    char passed[MESSAGE_MAX + 2];
    size_t length = 0;
    char *rest = message;
    ssize_t got = recv(source->fd, message, MESSAGE_MAX, MSG_DONTWAIT);

    (void)events;
    if (got <= 0)
        return;
    message[got] = '\0';
    for (char *line = strsep(&rest, "\r\n"); line != NULL; line = strsep(&rest, "\r\n")) {
        if (may_pass(line))
            length += (size_t)snprintf(passed + length, sizeof(passed) - length, "%s\n", line);
    }
    if (length > 0 && sendto(notify->host_fd, passed, length, MSG_DONTWAIT | MSG_NOSIGNAL,
                             (struct sockaddr *)&notify->host, sizeof(notify->host)) < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "relay to %s: %s", notify->host.sun_path,
               strerror(errno));
}

int notify_open(struct conmon *conmon, struct error *err)
{
    struct notify *notify = &conmon->notify;
    const char *host = conmon->options.sdnotify_socket;
    _cleanup_free_ char *folder = NULL;

    if (strlen(host) >= sizeof(notify->host.sun_path))
        return error_set(err, ENAMETOOLONG, "--sdnotify-socket %s", host);
    notify->host.sun_family = AF_UNIX;
    strcpy(notify->host.sun_path, host);
    notify->host_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    notify->source.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (notify->host_fd < 0 || notify->source.fd < 0)
        return error_set(err, errno, "create a notify socket");
    if (asprintf(&folder, "%s/notify", conmon->options.bundle) < 0) {
        folder = NULL;
        return error_set(err, ENOMEM, "name the notify socket");
    }
    if (bind_in_directory(notify->source.fd, folder, "notify.sock", 0777, err) < 0)
        return -1;
    notify->source.on_ready = on_message;
    return source_watch(conmon, &notify->source, EPOLLIN, err);
}
