// SPDX-License-Identifier: Apache-2.0
#include "stdio_streams.h"

#include "conmon.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

/* More than a terminal can hold back; pipes tell their size. */
#define TERMINAL_CAPACITY (128 * 1024)

/* A pipe of which conmon keeps one end, non-blocking, and the runtime gets the other. */
static int open_pipe(int *ours, int *theirs, bool we_read, struct error *err)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set(err, errno, "create a pipe");
    *ours = ends[we_read ? 0 : 1];
    *theirs = ends[we_read ? 1 : 0];
    return set_nonblocking(*ours, err);
}

int streams_open(struct conmon *conmon, struct error *err)
{
    const struct options *options = &conmon->options;
    struct streams *streams = &conmon->streams;

    if (!options->terminal) {
        if (options->use_stdin) {
            int ours = -1;
            if (open_pipe(&ours, &streams->child_in, false, err) < 0)
                return -1;
            attach_set_stdin(conmon, ours);
        }
        if (open_pipe(&streams->out.fd, &streams->child_out, true, err) < 0)
            return -1;
    } else {
        conmon->attach.stdin_state = STDIN_AWAITED;
    }
    return open_pipe(&streams->err.fd, &streams->child_err, true, err);
}

void streams_close_child_ends(struct streams *streams)
{
    close_fd(&streams->child_in);
    close_fd(&streams->child_out);
    close_fd(&streams->child_err);
}

static void pass_on(struct conmon *conmon, enum stream stream, size_t size)
{
    struct streams *streams = &conmon->streams;

    log_write(conmon, stream, streams->packet + 1, size);
    streams->packet[0] = (char)stream;
    clients_broadcast(conmon, streams->packet, 1 + size);
}

/*
 * Reads once into the space left; returns what read does. Of a long complaint of the runtime the end tells most,
 * so the older half makes room. During `create` it is dropped. Else the process may already write, and nothing of
 * that may be lost: it goes the way of all output.
 */
static ssize_t keep_some(struct conmon *conmon)
{
    struct streams *streams = &conmon->streams;
    bool only_runtime = !conmon->options.exec && conmon->options.restore == NULL;

    if (streams->kept == NULL && (streams->kept = malloc(READ_SIZE + 1)) == NULL)
        return -1;
    if (streams->kept_length == READ_SIZE) {
        if (!only_runtime) {
            memcpy(streams->packet + 1, streams->kept, READ_SIZE / 2);
            pass_on(conmon, STREAM_STDERR, READ_SIZE / 2);
        }
        memmove(streams->kept, streams->kept + READ_SIZE / 2, READ_SIZE / 2);
        streams->kept_length = READ_SIZE / 2;
    }
    ssize_t got =
        read(streams->err.fd, streams->kept + streams->kept_length, READ_SIZE - streams->kept_length);
    if (got > 0)
        streams->kept_length += (size_t)got;
    return got;
}

static void on_runtime_stderr(struct conmon *conmon, struct source *source, uint32_t events)
{
    (void)events;
    ssize_t got = keep_some(conmon);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        source_unwatch(conmon, source);
}

int streams_keep_stderr(struct conmon *conmon, struct error *err)
{
    if (conmon->streams.err.fd < 0)
        return 0; /* passthrough: the caller sees it himself */
    conmon->streams.err.on_ready = on_runtime_stderr;
    return source_watch(conmon, &conmon->streams.err, EPOLLIN, err);
}

const char *streams_kept_text(struct conmon *conmon)
{
    struct streams *streams = &conmon->streams;

    /* What it said is in the pipe; somebody else may write there for ever. */
    ssize_t left = streams->err.fd >= 0 ? fcntl(streams->err.fd, F_GETPIPE_SZ) : 0;
    for (ssize_t got = 1; left > 0 && got > 0; left -= got)
        got = keep_some(conmon);
    if (streams->kept == NULL)
        return "";
    while (streams->kept_length > 0 && streams->kept[streams->kept_length - 1] == '\n')
        streams->kept_length--;
    streams->kept[streams->kept_length] = '\0';
    for (size_t i = 0; i < streams->kept_length; i++)
        if (streams->kept[i] == '\0')
            streams->kept[i] = ' ';
    return streams->kept;
}

/* One read. Positive: that many bytes went on; 0: the end (of the pipe, or of the terminal for now); -1:
 * nothing. */
static ssize_t pass_some(struct conmon *conmon, struct source *source, enum stream stream)
{
    ssize_t got = read(source->fd, conmon->streams.packet + 1, READ_SIZE);

    if (got > 0)
        pass_on(conmon, stream, (size_t)got);
    else if (got < 0 && errno == EIO)
        return 0; /* a terminal nobody has open */
    return got;
}

static void on_pipe(struct conmon *conmon, struct source *source, uint32_t events)
{
    enum stream stream = source == &conmon->streams.out ? STREAM_STDOUT : STREAM_STDERR;

    (void)events;
    if (pass_some(conmon, source, stream) == 0)
        source_close(conmon, source);
}

/*
 * A terminal reports a hang-up while no process has it open, which may change again. Left level-triggered
 * that would wake the loop for ever; so it is watched for edges until there is data again.
 */
static void on_terminal(struct conmon *conmon, struct source *source, uint32_t events)
{
    struct streams *streams = &conmon->streams;
    _cleanup_error_ struct error err = {0};
    ssize_t passed = pass_some(conmon, source, STREAM_STDOUT);
    bool idle = passed == 0 || (passed < 0 && (events & EPOLLHUP) != 0);

    if (idle == streams->terminal_idle)
        return;
    streams->terminal_idle = idle;
    if (clients_stalled(conmon))
        return; /* paused */
    if (source_watch(conmon, source, idle ? EPOLLIN | EPOLLET : EPOLLIN, &err) < 0)
        report(&conmon->diagnostics, SEVERITY_ERROR, "%s", error_text(&err));
}

void streams_pause(struct conmon *conmon)
{
    source_unwatch(conmon, &conmon->streams.out);
    source_unwatch(conmon, &conmon->streams.err);
}

void streams_resume(struct conmon *conmon)
{
    struct source *sources[] = {&conmon->streams.out, &conmon->streams.err};
    _cleanup_error_ struct error err = {0};

    conmon->streams.terminal_idle = false;
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
        if (sources[i]->fd >= 0 && sources[i]->on_ready != NULL && /* stdout has none while the runtime runs */
            source_watch(conmon, sources[i], EPOLLIN, &err) < 0)
            report(&conmon->diagnostics, SEVERITY_ERROR, "%s", error_text(&err));
}

static void release_kept(struct conmon *conmon)
{
    struct streams *streams = &conmon->streams;

    if (streams->kept_length > 0) {
        memcpy(streams->packet + 1, streams->kept, streams->kept_length);
        pass_on(conmon, STREAM_STDERR, streams->kept_length);
    }
    free(streams->kept);
    streams->kept = NULL;
    streams->kept_length = 0;
}

int streams_start(struct conmon *conmon, struct error *err)
{
    struct streams *streams = &conmon->streams;

    release_kept(conmon);
    if (streams->err.fd >= 0) {
        streams->err.on_ready = on_pipe;
        if (source_watch(conmon, &streams->err, EPOLLIN, err) < 0)
            return -1;
    }
    if (streams->out.fd < 0)
        return 0;
    streams->out.on_ready = conmon->options.terminal ? on_terminal : on_pipe;
    return source_watch(conmon, &streams->out, EPOLLIN, err);
}

/*
 * Whatever the container wrote before it ended is in the kernel's buffer, so as many bytes as that holds are
 * enough. Without this bound a process that outlives the container, and writes, would keep conmon here for
 * good.
 */
static void drain_one(struct conmon *conmon, struct source *source, enum stream stream)
{
    if (source->fd < 0)
        return;
    int capacity = fcntl(source->fd, F_GETPIPE_SZ);
    ssize_t left = capacity > 0 ? capacity : TERMINAL_CAPACITY;

    while (left > 0) {
        ssize_t passed = pass_some(conmon, source, stream);
        if (passed < 0 && errno == EINTR)
            continue;
        if (passed <= 0)
            break;
        left -= passed;
    }
}

void streams_drain(struct conmon *conmon)
{
    drain_one(conmon, &conmon->streams.out, STREAM_STDOUT);
    drain_one(conmon, &conmon->streams.err, STREAM_STDERR);
    log_finish(conmon);
}
