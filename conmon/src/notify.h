// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "loop.h"

#include <sys/un.h>

/* Relays sd_notify(3) messages from BUNDLE/notify/notify.sock to the host's socket, but only the harmless
 * lines. */
struct notify {
    struct source source;
    int host_fd;
    struct sockaddr_un host;
};

int notify_open(struct conmon *conmon, struct error *err);
