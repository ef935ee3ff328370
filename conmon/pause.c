// SPDX-License-Identifier: Apache-2.0
/*
 * crid-pause: pid 1 of a pod whose containers share a PID namespace. It outlives the daemon and never wakes
 * up.
 *
 *     crid-pause [--ready-fd N] [--cgroup-procs PATH]... [--net PATH] [--ipc PATH] [--uts PATH] [--user PATH]
 *
 * It enters the cgroups and the pinned namespaces that it is given, and forks. The child is the pod's pid 1;
 * the parent writes the child's pid, as its own PID namespace numbers it, as one line to descriptor N
 * (default 1) and exits with 0. If anything fails it writes "error: WHAT: WHY", exits with 1, and leaves no
 * process.
 *
 * Containers see this process, and one with CAP_SYS_PTRACE can walk into /proc/1/root and /proc/1/ns. So it
 * gives up whatever is worth having: its root is an empty read-only tmpfs, the only mount of its mount
 * namespace; it has no capabilities, no root user, no open file, and no words in its command line that name
 * the host.
 *
 * Every step that can fail comes before the fork, so that the child has nothing left to report.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Neither root nor anybody's: a container's root without CAP_KILL and the like has no say over it. */
#define PAUSE_ID 65535

struct pinned {
    const char *option;
    int kind;
    const char *path;
    int fd;
};

__attribute__((noreturn)) static void fail(int ready, const char *call, const char *object)
{
    dprintf(ready, "error: %s %s: %s\n", call, object, strerror(errno));
    _exit(1);
}

static int open_or_fail(int ready, const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        fail(ready, "open", path);
    return fd;
}

static void enter_cgroup(int ready, const char *path)
{
    int fd = open_or_fail(ready, path, O_WRONLY);
    if (write(fd, "0", 1) < 0) /* 0 is the writer itself: cgroups(7) */
        fail(ready, "write", path);
    close(fd);
}

static int parse_ready_fd(const char *text)
{
    char *end = NULL;
    long number = strtol(text, &end, 10);

    if (end == text || *end != '\0' || number < 0 || fcntl((int)number, F_GETFD) < 0) {
        errno = EBADF;
        fail(STDERR_FILENO, "--ready-fd", text);
    }
    return (int)number;
}

/* Opens and enters what the command line names, in its order; returns the descriptor to report on. */
static int parse(int argc, char **argv, struct pinned *namespaces, size_t count)
{
    int ready = STDOUT_FILENO;

    for (int i = 1; i < argc; i += 2) {
        struct pinned *named = NULL;
        for (size_t k = 0; k < count; k++)
            if (strcmp(argv[i], namespaces[k].option) == 0)
                named = &namespaces[k];

        errno = EINVAL;
        if (i + 1 == argc) {
            fail(ready, "option without a value:", argv[i]);
        } else if (strcmp(argv[i], "--ready-fd") == 0) {
            ready = parse_ready_fd(argv[i + 1]);
        } else if (strcmp(argv[i], "--cgroup-procs") == 0) {
            enter_cgroup(ready, argv[i + 1]);
        } else if (named != NULL && named->fd < 0) {
            named->path = argv[i + 1];
            named->fd = open_or_fail(ready, named->path, O_RDONLY);
        } else {
            fail(ready, "option unknown or given twice:", argv[i]);
        }
    }
    return ready;
}

/* Makes a mount namespace whose one mount is an empty tmpfs. Needs some directory to mount it on, and every
 * host has /proc. */
static void enter_empty_root(int ready)
{
    if (unshare(CLONE_NEWNS) < 0)
        fail(ready, "unshare", "the mount namespace");
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        fail(ready, "make private", "/");
    if (mount("pause", "/proc", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
              "mode=0555,nr_inodes=1") < 0)
        fail(ready, "mount", "tmpfs");
    if (chdir("/proc") < 0)
        fail(ready, "chdir", "tmpfs");
    /* With both names alike the old root ends up on top of the new one: pivot_root(2). */
    if (syscall(SYS_pivot_root, ".", ".") < 0)
        fail(ready, "pivot_root", "tmpfs");
    if (umount2(".", MNT_DETACH) < 0)
        fail(ready, "unmount", "the old root");
    if (chdir("/") < 0)
        fail(ready, "chdir", "/");
}

static void drop_privileges(int ready)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

    for (unsigned long capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0; capability++)
        continue;
    if (errno != EINVAL) /* which says: beyond the kernel's last capability */
        fail(ready, "prctl", "PR_CAPBSET_DROP");
    /* A user namespace need not map PAUSE_ID; there, root is nobody outside. */
    if (setresgid(PAUSE_ID, PAUSE_ID, PAUSE_ID) < 0 && setresgid(0, 0, 0) < 0)
        fail(ready, "setresgid", "0");
    if (setresuid(PAUSE_ID, PAUSE_ID, PAUSE_ID) < 0 && setresuid(0, 0, 0) < 0)
        fail(ready, "setresuid", "0");
    if (syscall(SYS_capset, &header, none) < 0) /* an empty inheritable set empties the ambient one too */
        fail(ready, "capset", "nothing");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        fail(ready, "prctl", "PR_SET_NO_NEW_PRIVS");
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        fail(ready, "prctl", "PR_SET_DUMPABLE");
}

/* Wipes the arguments. Once their last byte is not 0, the kernel shows them only up to the first 0
 * (fs/proc/base.c). */
static void rename_process(int argc, char **argv)
{
    char *end = argv[argc - 1] + strlen(argv[argc - 1]);

    prctl(PR_SET_NAME, "pause");
    if ((size_t)(end - argv[0]) >= sizeof("pause")) {
        memset(argv[0], 0, (size_t)(end - argv[0]));
        memcpy(argv[0], "pause", sizeof("pause"));
        *end = '.';
    }
}

/* The child. Nothing but SIGKILL from outside of the namespace ends it: pid 1 ignores what it has no handler
 * for. */
__attribute__((noreturn)) static void be_pid_1(int permit)
{
    char byte;

    if (dup2(permit, 0) < 0 || close_range(1, ~0U, 0) < 0 || read(0, &byte, 1) != 1)
        _exit(1); /* the parent died before anybody learned of this process */
    close(0);
    setsid();
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    struct pinned namespaces[] = {{"--net", CLONE_NEWNET, NULL, -1},
                                  {"--ipc", CLONE_NEWIPC, NULL, -1},
                                  {"--uts", CLONE_NEWUTS, NULL, -1},
                                  /* Last: root of the host may enter all of them, whoever owns them. */
                                  {"--user", CLONE_NEWUSER, NULL, -1}};
    const size_t count = sizeof(namespaces) / sizeof(namespaces[0]);
    int ready = parse(argc, argv, namespaces, count);
    int permit[2];
    pid_t child;

    enter_empty_root(ready);
    if (setgroups(0, NULL) < 0)
        fail(ready, "setgroups", "none");
    for (size_t i = 0; i < count; i++)
        if (namespaces[i].fd >= 0 && setns(namespaces[i].fd, namespaces[i].kind) < 0)
            fail(ready, "setns", namespaces[i].path);
    if (unshare(CLONE_NEWPID | CLONE_NEWCGROUP) < 0)
        fail(ready, "unshare", "the PID and cgroup namespaces");
    drop_privileges(ready);
    rename_process(argc, argv);
    signal(SIGCHLD, SIG_IGN); /* inherited by the child: the kernel then reaps for it */
    signal(SIGPIPE, SIG_IGN);

    if (pipe2(permit, O_CLOEXEC) < 0)
        fail(ready, "pipe", "");
    child = fork();
    if (child < 0)
        fail(ready, "fork", "");
    if (child == 0) {
        close(permit[1]);
        be_pid_1(permit[0]);
    }
    /* Only a child whose pid has been told is permitted to stay. */
    if (dprintf(ready, "%d\n", child) < 0 || write(permit[1], "", 1) != 1)
        return 1;
    return 0;
}
