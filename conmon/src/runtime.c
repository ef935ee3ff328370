// SPDX-License-Identifier: Apache-2.0
#include "runtime.h"

#include "conmon.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define FIXED_WORDS 20

/* The runtime's words, in the order CRI-O and Podman count on. NULL-terminated; the words are borrowed. */
static const char **build_argv(const struct conmon *conmon)
{
    const struct options *options = &conmon->options;
    size_t room = FIXED_WORDS + options->runtime_args.count + options->runtime_opts.count;
    const char **argv = calloc(room, sizeof(*argv));
    size_t n = 0;

    if (argv == NULL)
        return NULL;
    argv[n++] = options->runtime;
    if (options->systemd_cgroup && !options->exec)
        argv[n++] = "--systemd-cgroup";
    for (size_t i = 0; i < options->runtime_args.count; i++)
        argv[n++] = options->runtime_args.items[i];
    if (options->exec) {
        argv[n++] = "exec";
        argv[n++] = "--pid-file";
        argv[n++] = options->container_pidfile;
        argv[n++] = "--process";
        argv[n++] = options->exec_process_spec;
        argv[n++] = "--detach";
    } else {
        argv[n++] = options->restore != NULL ? "restore" : "create";
        argv[n++] = "--bundle";
        argv[n++] = options->bundle;
        argv[n++] = "--pid-file";
        argv[n++] = options->container_pidfile;
        if (options->no_pivot)
            argv[n++] = "--no-pivot";
        if (options->no_new_keyring)
            argv[n++] = "--no-new-keyring";
        if (options->restore != NULL) {
            argv[n++] = "--detach";
            argv[n++] = "--image-path";
            argv[n++] = options->restore;
            argv[n++] = "--work-path";
            argv[n++] = options->bundle;
        }
    }
    for (size_t i = 0; i < options->runtime_opts.count; i++)
        argv[n++] = options->runtime_opts.items[i];
    if (conmon->terminal.path != NULL) {
        argv[n++] = "--console-socket";
        argv[n++] = conmon->terminal.path;
    }
    argv[n++] = options->cid;
    return argv;
}

static _Noreturn void fail_in_child(const char *what)
{
    dprintf(STDERR_FILENO, "%s: %s\n", what, strerror(errno));
    _exit(127);
}

/* Puts a pipe end in place. A process of another user in the container must be able to open /dev/stdout and
 * so on. */
static void place(int fd, int target)
{
    if (fd < 0)
        return; /* /dev/null is there */
    if (dup2(fd, target) < 0)
        fail_in_child("dup2");
    if (fchmod(target, 0777) < 0 && errno != EINVAL)
        dprintf(STDERR_FILENO, "chmod of standard stream %d: %s\n", target, strerror(errno));
}

/* Socket activation: LISTEN_PID must name the process that gets the descriptors. */
static void fix_listen_pid(const struct conmon *conmon, pid_t conmon_pid)
{
    const char *value = getenv("LISTEN_PID");
    pid_t pid = 0;
    char text[16];

    if (value == NULL)
        return;
    if (parse_pid(value, &pid) < 0) {
        errno = EINVAL;
        fail_in_child("LISTEN_PID");
    }
    if (!conmon->options.replace_listen_pid && pid != conmon_pid)
        return;
    snprintf(text, sizeof(text), "%d", (int)getpid());
    setenv("LISTEN_PID", text, 1);
}

static _Noreturn void run_in_child(struct conmon *conmon, const char **argv, pid_t conmon_pid)
{
    const struct streams *streams = &conmon->streams;
    _cleanup_error_ struct error err = {0};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != conmon_pid)
        _exit(127);
    if (!conmon->log.passthrough) {
        place(streams->child_err, STDERR_FILENO);
        place(streams->child_in, STDIN_FILENO);
        place(streams->child_out, STDOUT_FILENO);
    }
    fix_listen_pid(conmon, conmon_pid);
    /* With --exec-attach nothing must run, and write, before the client is there to see it. */
    if (conmon->options.exec_attach && sync_wait_for_start(conmon, &err) < 0)
        fail_in_child(error_text(&err));
    process_restore_oom_score(&conmon->process);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &conmon->process.original_mask, NULL);
    execv(argv[0], (char **)(uintptr_t)argv);
    fail_in_child(argv[0]);
}

int runtime_spawn(struct conmon *conmon, struct error *err)
{
    pid_t conmon_pid = getpid();
    _cleanup_free_ const char **argv = build_argv(conmon);

    if (argv == NULL)
        return error_set(err, ENOMEM, "start the runtime");
    pid_t pid = fork();
    if (pid < 0)
        return error_set(err, errno, "fork the runtime");
    if (pid == 0)
        run_in_child(conmon, argv, conmon_pid);
    conmon->process.runtime_pid = pid;
    close_fd(&conmon->pipes.start_fd);
    return 0;
}
