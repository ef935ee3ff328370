// SPDX-License-Identifier: Apache-2.0
#include "loop.h"

#include "conmon.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

int source_watch(struct conmon *conmon, struct source *source, uint32_t events, struct error *err)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    int operation = source->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

    if (epoll_ctl(conmon->epoll_fd, operation, source->fd, &event) < 0)
        return error_set(err, errno, "watch descriptor %d", source->fd);
    source->watched = true;
    return 0;
}

void source_unwatch(struct conmon *conmon, struct source *source)
{
    if (source->watched)
        epoll_ctl(conmon->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    source->watched = false;
}

void source_close(struct conmon *conmon, struct source *source)
{
    /* Not left to close(): a copy of the descriptor in a child would keep it registered. */
    source_unwatch(conmon, source);
    close_fd(&source->fd);
}

int source_start_timer(struct conmon *conmon, struct source *source, int64_t milliseconds, struct error *err)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000}};

    source->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (source->fd < 0 || timerfd_settime(source->fd, 0, &when, NULL) < 0)
        return error_set(err, errno, "start a timer");
    return source_watch(conmon, source, EPOLLIN, err);
}

int loop_open(struct conmon *conmon, struct error *err)
{
    conmon->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (conmon->epoll_fd < 0)
        return error_set(err, errno, "create the epoll descriptor");
    return 0;
}

int loop_run(struct conmon *conmon, const bool *stop, struct error *err)
{
    while (!*stop) {
        struct epoll_event event;
        int count = epoll_wait(conmon->epoll_fd, &event, 1, -1);
        if (count < 0 && errno != EINTR)
            return error_set(err, errno, "wait for events");
        if (count == 1) {
            struct source *source = event.data.ptr;
            source->on_ready(conmon, source, event.events);
        }
    }
    return 0;
}
