// SPDX-License-Identifier: Apache-2.0
#include "process.h"

#include "conmon.h"
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#define OOM_SCORE_FILE "/proc/self/oom_score_adj"
#define COLLECT_TIMEOUT_MS 1000
#define END_ROUNDS 8

static void write_oom_score(const char *score)
{
    _cleanup_close_ int fd = open(OOM_SCORE_FILE, O_WRONLY | O_CLOEXEC);

    /* Lowering needs CAP_SYS_RESOURCE; without it conmon is as killable as its container. */
    if (fd >= 0 && write(fd, score, strlen(score)) < 0)
        return;
}

void process_protect_from_oom(struct process *process)
{
    _cleanup_error_ struct error err = {0};

    if (read_text_file(OOM_SCORE_FILE, process->original_oom_score, sizeof(process->original_oom_score),
                       &err) < 0)
        process->original_oom_score[0] = '\0';
    write_oom_score("-1000");
}

void process_restore_oom_score(const struct process *process)
{
    if (process->original_oom_score[0] != '\0')
        write_oom_score(process->original_oom_score);
}

/* Collects children that have ended: before the process is known only the runtime, afterwards all. */
static void reap(struct process *process)
{
    pid_t wanted = process->pid > 0 ? -1 : process->runtime_pid;
    int status = 0;
    pid_t pid = 0;

    if (wanted == 0)
        return;
    while ((pid = waitpid(wanted, &status, WNOHANG)) > 0 || (pid < 0 && errno == EINTR)) {
        if (pid < 0)
            continue;
        /* once it has been collected, its number may be an orphan's of the container */
        if (pid == process->runtime_pid && !process->runtime_ended) {
            process->runtime_status = status;
            process->runtime_ended = true;
            process->stop = true;
        }
        if (pid == process->pid) {
            process->status = status;
            process->ended = true;
            process->stop = true;
        }
        if (wanted > 0)
            return;
    }
}

/* A signal sent to conmon is meant for the container, or for the runtime while there is no container yet. */
static void forward(struct process *process, int number)
{
    pid_t target = process->pid > 0 ? process->pid : process->runtime_pid;
    bool alive = process->pid > 0 ? !process->ended : !process->runtime_ended;

    if (target > 0 && alive) {
        if (process->pidfd.fd >= 0)
            pidfd_send_signal(process->pidfd.fd, number, NULL, 0);
        else
            kill(target, number);
    }
}

static void on_signal(struct conmon *conmon, struct source *source, uint32_t events)
{
    struct signalfd_siginfo info;

    (void)events;
    if (read(source->fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGCHLD)
        reap(&conmon->process);
    else
        forward(&conmon->process, (int)info.ssi_signo);
}

static void on_timeout(struct conmon *conmon, struct source *source, uint32_t events)
{
    struct process *process = &conmon->process;

    (void)events;
    reap(process); /* it may have ended just now */
    if (process->stop)
        return; /* if that was the runtime, the time is up for its process, which is found out next */
    source_close(conmon, source);
    process->timed_out = true;
    process->stop = true;
}

static void on_pidfd(struct conmon *conmon, struct source *source, uint32_t events)
{
    struct process *process = &conmon->process;

    (void)events;
    source_unwatch(conmon, source);
    reap(process);
    if (process->ended)
        return;
    process->ended = true;
    process->status_unknown = true;
    process->stop = true;
}

int process_prepare(struct conmon *conmon, struct error *err)
{
    struct process *process = &conmon->process;
    sigset_t mask;

    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
        return error_set(err, errno, "become a child subreaper");
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGQUIT);
    if (sigprocmask(SIG_BLOCK, &mask, &process->original_mask) < 0)
        return error_set(err, errno, "block signals");
    process->signals.fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (process->signals.fd < 0)
        return error_set(err, errno, "create the signal descriptor");
    process->signals.on_ready = on_signal;
    return source_watch(conmon, &process->signals, EPOLLIN, err);
}

static int start_timer(struct conmon *conmon, struct error *err)
{
    struct source *timer = &conmon->process.timer;

    if (conmon->options.timeout == 0)
        return 0;
    timer->on_ready = on_timeout;
    return source_start_timer(conmon, timer, conmon->options.timeout * 1000, err);
}

/* The runtime has failed: its own words are the best explanation. */
static int runtime_failure(struct conmon *conmon, struct error *err)
{
    const struct process *process = &conmon->process;
    const char *said = streams_kept_text(conmon);
    const char *verb = conmon->options.exec ? "exec" : conmon->options.restore != NULL ? "restore" : "create";

    if (*said != '\0')
        return error_set(err, 0, "%s", said);
    if (WIFSIGNALED(process->runtime_status))
        return error_set(err, 0, "%s %s was killed by signal %d", conmon->options.runtime, verb,
                         WTERMSIG(process->runtime_status));
    return error_set(err, 0, "%s %s failed with exit status %d and no message", conmon->options.runtime, verb,
                     WEXITSTATUS(process->runtime_status));
}

static int read_container_pid(struct conmon *conmon, pid_t *pid, struct error *err)
{
    const char *path = conmon->options.container_pidfile;
    char text[32];

    if (read_text_file(path, text, sizeof(text), err) < 0) {
        const char *said = streams_kept_text(conmon);
        return *said != '\0' ? error_set(err, 0, "%s", said) : -1;
    }
    if (parse_pid(text, pid) < 0 || *pid == 1 || *pid == getpid())
        return error_set(err, 0, "the runtime wrote no usable pid to %s: \"%s\"", path, text);
    return 0;
}

/*
 * Normally the process has become our child when its parent, the runtime, ended. If it has not, its end can
 * still be seen through a pidfd, though not its status. If there is no such process at all, the runtime did
 * not tell the truth.
 */
static int adopt(struct conmon *conmon, pid_t pid, struct error *err)
{
    struct process *process = &conmon->process;
    siginfo_t info = {0};

    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
        process->pidfd.fd = pidfd_open(pid, 0);
        if (process->pidfd.fd < 0)
            return error_set(err, errno, "the runtime reported process %d, which is not there", (int)pid);
        report(&conmon->diagnostics, SEVERITY_WARNING, "process %d is not a child: no exit status", (int)pid);
        process->pidfd.on_ready = on_pidfd;
        if (source_watch(conmon, &process->pidfd, EPOLLIN, err) < 0)
            return -1;
    }
    process->pid = pid;
    return 0;
}

/*
 * Collects what was killed before the news of its end goes out: whoever hears it may look for the process at
 * once, and whoever inherits it from us may leave the zombie for a while. A process stuck in the kernel is
 * not waited for. Returns whether it was collected.
 */
static bool collect(pid_t pid)
{
    _cleanup_close_ int fd = pidfd_open(pid, 0);
    struct pollfd ended = {.fd = fd, .events = POLLIN};

    return fd >= 0 && poll(&ended, 1, COLLECT_TIMEOUT_MS) > 0 && waitpid(pid, NULL, WNOHANG) == pid;
}

/* The process group of an exec is its own; a group of init, or ours, would be far too much to kill. */
static void kill_with_group(pid_t pid)
{
    pid_t group = getpgid(pid);

    if (group > 1 && group != getpgrp())
        kill(-group, SIGKILL);
    else
        kill(pid, SIGKILL);
}

/* Ends the runtime, and what it has begun, which becomes our child: the process may be there already, though
 * its pid is not known. Whoever ends leaves us his own children in turn, so that takes some rounds. */
static void end_runtime(const struct process *process)
{
    bool collected = true;

    kill(process->runtime_pid, SIGKILL);
    collect(process->runtime_pid);
    for (int round = 0; collected && round < END_ROUNDS; round++) {
        FILE *children = fopen("/proc/thread-self/children", "re");
        int pid = 0;

        if (children == NULL)
            return;
        collected = false;
        while (fscanf(children, "%d", &pid) == 1) {
            kill_with_group(pid);
            collected = collect(pid) || collected;
        }
        fclose(children);
    }
}

int process_create(struct conmon *conmon, struct error *err)
{
    struct process *process = &conmon->process;
    pid_t pid = 0;

    /* An old pid file would be taken for the new one. Emptied, not removed: the caller may have made it. */
    if (truncate(conmon->options.container_pidfile, 0) < 0 && errno != ENOENT)
        return error_set(err, errno, "empty the pid file %s", conmon->options.container_pidfile);
    if (runtime_spawn(conmon, err) < 0)
        return -1;
    streams_close_child_ends(&conmon->streams);
    if (streams_keep_stderr(conmon, err) < 0 || start_timer(conmon, err) < 0)
        return -1;
    if (loop_run(conmon, &process->stop, err) < 0)
        return -1;
    process->stop = false;
    if (process->timed_out) {
        end_runtime(process);
        return 0;
    }
    if (!WIFEXITED(process->runtime_status) || WEXITSTATUS(process->runtime_status) != 0)
        return runtime_failure(conmon, err);
    if (conmon->options.terminal && terminal_receive(conmon, err) < 0)
        return -1;
    if (read_container_pid(conmon, &pid, err) < 0)
        return -1;
    return adopt(conmon, pid, err);
}

int process_wait(struct conmon *conmon, struct error *err)
{
    struct process *process = &conmon->process;

    reap(process); /* its SIGCHLD may have come while the pid was not known */
    if (loop_run(conmon, &process->stop, err) < 0)
        return -1;
    if (process->timed_out && !process->ended) {
        if (process->pidfd.fd >= 0)
            pidfd_send_signal(process->pidfd.fd, SIGKILL, NULL, 0);
        else
            kill_with_group(process->pid);
        collect(process->pid);
    }
    return 0;
}

int process_exit_code(const struct process *process)
{
    if (process->timed_out || process->status_unknown)
        return -1;
    if (WIFSIGNALED(process->status))
        return 128 + WTERMSIG(process->status);
    return WEXITSTATUS(process->status);
}
