// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "attach.h"
#include "cleanup.h"
#include "control.h"
#include "diagnostics.h"
#include "error.h"
#include "file.h"
#include "log.h"
#include "loop.h"
#include "notify.h"
#include "oom.h"
#include "options.h"
#include "process.h"
#include "stdio_streams.h"
#include "sync_pipe.h"
#include "terminal.h"

/*
 * All state of one conmon. There is nothing outside of it: signals arrive through a signalfd, and every
 * module gets this struct and works on the member it owns.
 */
struct conmon {
    struct options options;
    struct diagnostics diagnostics;
    int epoll_fd;
    struct sync_pipes pipes;
    struct process process;
    struct streams streams;
    struct terminal terminal;
    struct attach attach;
    struct control control;
    struct notify notify;
    struct oom_watch oom;
    struct log log;
    struct reserved_file exit_room;
};
