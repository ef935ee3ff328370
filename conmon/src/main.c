// SPDX-License-Identifier: Apache-2.0
/*
 * conmon: starts a container through an OCI runtime, then stays with it as the owner of what must outlive the
 * daemon, its stdio, log, attach socket and exit status. The border to the caller is described in
 * ../PROTOCOL.md.
 *
 * The order below is the protocol: the caller moves us into a cgroup before the start byte; the pid file of
 * conmon is there before the first process exits; the attach socket listens before the runtime runs; the exit
 * files are written before the exit code is sent.
 */
#include "conmon.h"
#include "finish.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <syslog.h>

/* The version of the containers/conmon whose options and protocol this one serves; clients compare it. */
#define PROTOCOL_VERSION "2.2.1"
#define TIMED_OUT "command timed out"

static void initialise(struct conmon *conmon)
{
    const struct source none = {.fd = -1};

    *conmon = (struct conmon){.epoll_fd = -1};
    conmon->pipes = (struct sync_pipes){.sync_fd = -1, .start_fd = -1, .attach_fd = -1};
    conmon->process.signals = conmon->process.timer = conmon->process.pidfd = none;
    conmon->streams.out = conmon->streams.err = none;
    conmon->streams.child_in = conmon->streams.child_out = conmon->streams.child_err = -1;
    conmon->terminal.listener = conmon->terminal.connection = none;
    conmon->attach.listener = conmon->attach.container_stdin = conmon->attach.patience = none;
    conmon->control.ctl.source = conmon->control.winsz.source = none;
    conmon->notify.source = none;
    conmon->notify.host_fd = -1;
    conmon->oom.source = conmon->oom.recheck = none;
    conmon->oom.counter_fd = -1;
    conmon->log.file.fd = conmon->log.journald.fd = -1;
    conmon->exit_room.fd = -1;
    conmon->diagnostics.level = SEVERITY_WARNING;
}

static void release(struct conmon *conmon)
{
    attach_release(conmon);
    reserved_file_release(&conmon->exit_room);
    free(conmon->streams.kept);
    free(conmon->log.journald.fields);
    for (size_t i = 0; i < 2; i++)
        free(conmon->log.journald.held[i].text);
    options_release(&conmon->options);
}

static int configure(struct conmon *conmon, struct error *err)
{
    if (options_check(&conmon->options, err) < 0 ||
        diagnostics_open(&conmon->diagnostics, &conmon->options, err) < 0)
        return -1;
    return log_open(conmon, err);
}

/*
 * The first of two forks: the caller waits for this process and sees the pid file when it has ended. The
 * child waits until that file is written, and goes no further if it could not be. Returns in the child only.
 */
static int daemonise(struct conmon *conmon, struct error *err)
{
    int written[2];
    char text[16];

    if (pipe2(written, O_CLOEXEC) < 0)
        return error_set(err, errno, "create a pipe");
    pid_t pid = fork();
    if (pid < 0)
        return error_set(err, errno, "fork");
    if (pid == 0) {
        char byte = 0;
        ssize_t got = -1;
        close(written[1]);
        do
            got = read(written[0], &byte, 1);
        while (got < 0 && errno == EINTR);
        close(written[0]);
        if (got != 1)
            _exit(EXIT_FAILURE);
        return 0;
    }
    close(written[0]);
    snprintf(text, sizeof(text), "%d", (int)pid);
    if (conmon->options.conmon_pidfile != NULL &&
        write_file_atomic(conmon->options.conmon_pidfile, text, err) < 0)
        return -1;
    if (write_all(written[1], "x", 1) < 0)
        return error_set(err, errno, "release the child");
    _exit(EXIT_SUCCESS);
}

static bool is_null_device(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

/* Lets go of the caller's stdio, which it may be waiting for the end of. A null device that the caller gives as stdin
 * stays: it may be one of the container's own. crun before 1.9 gives a container's stdin to the root of its user
 * namespace, and that must not be the host's /dev/null. */
static int leave_stdio(struct error *err)
{
    _cleanup_close_ int null_fd = is_null_device(STDIN_FILENO) ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                                                               : open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null_fd < 0)
        return error_set(err, errno, "open /dev/null");
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (dup2(null_fd, fd) < 0)
            return error_set(err, errno, "let go of stdio");
    return 0;
}

static int detach(struct conmon *conmon, struct error *err)
{
    char text[16];

    process_protect_from_oom(&conmon->process);
    if (sync_wait_for_start(conmon, err) < 0)
        return -1;
    if (!conmon->options.exec_attach)
        close_fd(&conmon->pipes.start_fd);
    if (!conmon->options.sync) {
        if (daemonise(conmon, err) < 0)
            return -1;
    } else if (conmon->options.conmon_pidfile != NULL) {
        snprintf(text, sizeof(text), "%d", (int)getpid());
        if (write_file_atomic(conmon->options.conmon_pidfile, text, err) < 0)
            return -1;
    }
    if (!conmon->log.passthrough && leave_stdio(err) < 0)
        return -1;
    setsid(); /* fails for a process group leader, which is then as good as we need it */
    return 0;
}

/* Everything the runtime and the clients will look for. */
static int open_endpoints(struct conmon *conmon, struct error *err)
{
    const struct options *options = &conmon->options;

    if (loop_open(conmon, err) < 0 || process_prepare(conmon, err) < 0)
        return -1;
    if (!conmon->log.passthrough && streams_open(conmon, err) < 0)
        return -1;
    if (options->terminal && terminal_listen(conmon, err) < 0)
        return -1;
    if (options->bundle == NULL || conmon->log.passthrough)
        return 0;
    if (options->sdnotify_socket != NULL && notify_open(conmon, err) < 0)
        return -1;
    if (attach_open(conmon, err) < 0 || control_open(conmon, err) < 0)
        return -1;
    sync_send_attach_ready(conmon);
    return 0;
}

static int monitor(struct conmon *conmon, struct error *err)
{
    const struct options *options = &conmon->options;
    struct process *process = &conmon->process;

    finish_reserve(conmon);
    if (open_endpoints(conmon, err) < 0 || process_create(conmon, err) < 0)
        return -1;
    terminal_close_socket(conmon);
    if (process->timed_out)
        return 0;
    if (options->api_version || !options->exec)
        sync_send(conmon, process->pid, NULL);
    if (conmon->log.passthrough && leave_stdio(err) < 0)
        return -1;
    oom_start(conmon, process->pid);
    if (!conmon->log.passthrough && streams_start(conmon, err) < 0)
        return -1;
    return process_wait(conmon, err);
}

/* The process has ended: passes on the rest of its output, then says so. */
static int conclude(struct conmon *conmon)
{
    const struct process *process = &conmon->process;
    int code = process_exit_code(process);

    oom_check(conmon);
    if (!process->timed_out && !conmon->log.passthrough) {
        clients_make_room(conmon);
        streams_drain(conmon);
    }
    attach_release(conmon);
    /* Podman hands us descriptors that keep ports busy; they must be free when the exit becomes known. */
    const int kept[] = {conmon->pipes.sync_fd, conmon->log.file.fd, conmon->exit_room.fd};
    closelog();
    close_all_fds_except(kept, sizeof(kept) / sizeof(kept[0]));

    finish_write_exit_files(conmon, code);
    if (conmon->options.exec)
        sync_send(conmon, code, process->timed_out ? TIMED_OUT : NULL);
    attach_remove_names(conmon);
    log_sync(conmon); /* last, since a slow disk must not delay the news */
    int failure = finish_run_exit_command(conmon);
    return failure != 0 ? failure : code & 0xff;
}

static int give_up(struct conmon *conmon, const struct error *err)
{
    report(&conmon->diagnostics, SEVERITY_ERROR, "%s", error_text(err));
    sync_send(conmon, -1, error_text(err));
    terminal_close_socket(conmon);
    attach_remove_names(conmon);
    if (conmon->process.runtime_pid > 0)
        finish_run_exit_command(conmon);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    _cleanup_error_ struct error err = {0};
    struct conmon conmon;
    int result = EXIT_FAILURE;

    umask(022);
    initialise(&conmon);
    if (reserve_standard_fds(&err) < 0 || options_parse(&conmon.options, argc, argv, &err) < 0) {
        result = give_up(&conmon, &err);
    } else if (conmon.options.help) {
        options_print_help();
        result = EXIT_SUCCESS;
    } else if (conmon.options.version) {
        printf("conmon version " PROTOCOL_VERSION "\ncommit: crid\n");
        result = EXIT_SUCCESS;
    } else if (sync_pipes_open(&conmon, &err) < 0 || configure(&conmon, &err) < 0 ||
               detach(&conmon, &err) < 0 || monitor(&conmon, &err) < 0) {
        result = give_up(&conmon, &err);
    } else {
        result = conclude(&conmon);
    }
    release(&conmon);
    return result;
}
