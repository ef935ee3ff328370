// SPDX-License-Identifier: Apache-2.0
#include "finish.h"

#include "conmon.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define FIRST_WAIT_MS 50
#define LONGEST_WAIT_MS 10000
#define ATTEMPTS 70 /* about ten minutes */
#define EXIT_TEXT_SIZE 16

/* Conditions somebody may clear while we wait. */
static bool may_pass_by_itself(int number)
{
    return number == ENOSPC || number == EDQUOT || number == ENOMEM || number == ENFILE || number == EMFILE;
}

/* Sleeps, unless SIGTERM tells to give up. */
static bool wait_or_give_up(long milliseconds)
{
    struct timespec duration = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};
    sigset_t stop;

    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    return sigtimedwait(&stop, NULL, &duration) != SIGTERM;
}

/* One of the two exit files: its path is NULL once it was written, or will never be. */
struct exit_file {
    char *path;
    struct reserved_file *room;
};

static char *exit_path(const char *folder, const char *name)
{
    char *path = NULL;

    if (folder == NULL || asprintf(&path, "%s/%s", folder, name) < 0)
        return NULL;
    return path;
}

void finish_reserve(struct conmon *conmon)
{
    _cleanup_error_ struct error err = {0};
    _cleanup_free_ char *path = exit_path(conmon->options.persist_dir, "exit");

    if (path != NULL && reserved_file_open(&conmon->exit_room, path, EXIT_TEXT_SIZE, &err) < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "%s", error_text(&err));
}

static void try_exit_file(struct conmon *conmon, struct exit_file *file, const char *text, bool first)
{
    _cleanup_error_ struct error err = {0};

    if (file->path == NULL)
        return;
    bool filled = file->room != NULL && file->room->fd >= 0;
    if ((filled ? reserved_file_fill(file->room, file->path, text, &err)
                : write_file_atomic(file->path, text, &err)) < 0) {
        if (first)
            report(&conmon->diagnostics, SEVERITY_ERROR, "exit code %s: %s", text, error_text(&err));
        if (may_pass_by_itself(err.number))
            return;
    }
    free(file->path);
    file->path = NULL;
}

void finish_write_exit_files(struct conmon *conmon, int code)
{
    struct exit_file kept = {exit_path(conmon->options.persist_dir, "exit"), &conmon->exit_room};
    struct exit_file notice = {exit_path(conmon->options.exit_dir, conmon->options.cid), NULL};
    char text[EXIT_TEXT_SIZE];
    long wait_ms = FIRST_WAIT_MS;

    snprintf(text, sizeof(text), "%d", code);
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        try_exit_file(conmon, &kept, text, attempt == 0);
        try_exit_file(conmon, &notice, text, attempt == 0);
        if ((kept.path == NULL && notice.path == NULL) || !wait_or_give_up(wait_ms))
            break;
        wait_ms = wait_ms * 2 < LONGEST_WAIT_MS ? wait_ms * 2 : LONGEST_WAIT_MS;
    }
    free(kept.path);
    free(notice.path);
}

static _Noreturn void exec_exit_command(struct conmon *conmon)
{
    const struct options *options = &conmon->options;
    const char **argv = calloc(options->exit_args.count + 2, sizeof(*argv));

    if (argv == NULL)
        _exit(127);
    argv[0] = options->exit_command;
    for (size_t i = 0; i < options->exit_args.count; i++)
        argv[i + 1] = options->exit_args.items[i];
    for (unsigned int left = (unsigned int)options->exit_delay; left > 0;)
        left = sleep(left);
    process_restore_oom_score(&conmon->process);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &conmon->process.original_mask, NULL);
    execv(argv[0], (char **)(uintptr_t)argv);
    _exit(127);
}

int finish_run_exit_command(struct conmon *conmon)
{
    int status = 0;

    if (conmon->options.exit_command == NULL)
        return 0;
    close_all_fds_except(NULL, 0);
    /* What the command leaves behind in the background is not ours to wait for. */
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
    pid_t pid = fork();
    if (pid < 0) {
        report(&conmon->diagnostics, SEVERITY_ERROR, "fork the exit command: %m");
        return EXIT_FAILURE;
    }
    if (pid == 0)
        exec_exit_command(conmon);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
