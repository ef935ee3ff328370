// SPDX-License-Identifier: Apache-2.0
/*
 * crid-pause: pid 1 of a pod whose containers share a PID namespace. It outlives the daemon and
 * never wakes up.
 *
 *     crid-pause [--ready-fd N] [--cgroup-procs PATH]... [--net PATH] [--ipc PATH] [--uts PATH] [--user PATH]
 *                [--process-label LABEL] [--mount-label LABEL]
 *
 * It enters the cgroups and the pinned namespaces that it is given, and forks. The child is the pod's pid 1;
 * the parent writes the child's pid, as its own PID namespace numbers it, as one line to descriptor N
 * (default 1) and exits with 0. If anything fails it writes "error: WHAT: WHY", exits with 1, and leaves no
 * process. The labels are SELinux's, of the process and of its root.
 *
 * Containers see this process, and one with CAP_SYS_PTRACE can walk into /proc/1/root and /proc/1/ns. So it
 * gives up whatever is worth having: its root is an empty read-only tmpfs, the only mount of its mount
 * namespace; it has no capabilities, no root user, no open file, and no words in its command line that name
 * the host.
 *
 * Every step that can fail comes before the fork, so that the child has nothing left to report.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Neither root nor anybody's, so that no container's root owns this process. */
#define PAUSE_ID 65535

struct labels {
    const char *process; /* null: none */
    const char *mount;
};

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

static int check(int ready, long result, const char *call, const char *object)
{
    if (result < 0)
        fail(ready, call, object);
    return (int)result;
}

static int parse_descriptor(const char *text)
{
    char *end = NULL;
    long number = strtol(text, &end, 10);

    if (end == text || *end != '\0' || number < 0 || number > INT_MAX)
        fail(STDERR_FILENO, "--ready-fd", text);
    check(STDERR_FILENO, fcntl((int)number, F_GETFD), "--ready-fd", text);
    return (int)number;
}

static void enter_cgroup(int ready, const char *path)
{
    int fd = check(ready, open(path, O_WRONLY | O_CLOEXEC), "open", path);
    check(ready, write(fd, "0", 1), "write", path); /* 0 is the writer itself: cgroups(7) */
    close(fd);
}

/* Opens or enters what the command line names, in its order; returns the descriptor to report on. */
static int parse(int argc, char **argv, struct pinned *namespaces, size_t count, struct labels *labels)
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
            ready = parse_descriptor(argv[i + 1]);
        } else if (strcmp(argv[i], "--cgroup-procs") == 0) {
            enter_cgroup(ready, argv[i + 1]);
        } else if (strcmp(argv[i], "--process-label") == 0) {
            labels->process = argv[i + 1];
        } else if (strcmp(argv[i], "--mount-label") == 0) {
            labels->mount = argv[i + 1];
        } else if (named != NULL && named->fd < 0) {
            named->path = argv[i + 1];
            named->fd = check(ready, open(named->path, O_RDONLY | O_CLOEXEC), "open", named->path);
        } else {
            fail(ready, "option unknown or given twice:", argv[i]);
        }
    }
    return ready;
}

/* Enters a mount namespace whose only mount is an empty tmpfs. /proc serves to mount it on at first. */
static void enter_empty_root(int ready, const char *label)
{
    const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
    char options[PATH_MAX] = "mode=0555,nr_inodes=1";

    if (label != NULL) /* in quotes, since its categories have commas between them: mount(8), "context" */
        snprintf(options, sizeof(options), "mode=0555,nr_inodes=1,context=\"%s\"", label);

    check(ready, unshare(CLONE_NEWNS), "unshare", "the mount namespace");
    check(ready, mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make private", "/");
    check(ready, mount("pause", "/proc", "tmpfs", flags, options), "mount", "tmpfs");
    check(ready, chdir("/proc"), "chdir", "tmpfs");
    /* With both names alike the old root ends up on top of the new one: pivot_root(2). */
    check(ready, syscall(SYS_pivot_root, ".", "."), "pivot_root", "tmpfs");
    check(ready, umount2(".", MNT_DETACH), "unmount", "the old root");
    check(ready, chdir("/"), "chdir", "/");
}

static void drop_privileges(int ready)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

    for (unsigned long capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0; capability++)
        continue;
    if (errno != EINVAL) /* which says: beyond the kernel's last capability */
        fail(ready, "prctl", "PR_CAPBSET_DROP");
    /* A user namespace need not map PAUSE_ID; its own root is nobody outside of it. */
    if (setresgid(PAUSE_ID, PAUSE_ID, PAUSE_ID) < 0)
        check(ready, setresgid(0, 0, 0), "setresgid", "0");
    if (setresuid(PAUSE_ID, PAUSE_ID, PAUSE_ID) < 0)
        check(ready, setresuid(0, 0, 0), "setresuid", "0");
    /* An inheritable set that is empty empties the ambient one too: capabilities(7). */
    check(ready, syscall(SYS_capset, &header, none), "capset", "nothing");
    check(ready, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl", "PR_SET_NO_NEW_PRIVS");
    /* After the change of user, which may have made it dumpable: fs.suid_dumpable in proc_sys_fs(5). */
    check(ready, prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl", "PR_SET_DUMPABLE");
}

/* Before the root changes: afterwards there is no /proc. */
static int open_own_label(int ready)
{
    return check(ready, open("/proc/self/attr/current", O_WRONLY | O_CLOEXEC), "open", "/proc/self/attr/current");
}

/* The last thing to do: under a container's label nothing of all this is allowed. */
static void take_label(int ready, int fd, const char *label)
{
    check(ready, write(fd, label, strlen(label)), "become", label);
    close(fd);
}

/* Wipes the arguments. If their last byte is not 0, the kernel shows only what is before the first 0. */
static void rename_process(int argc, char **argv)
{
    char *end = argv[argc - 1] + strlen(argv[argc - 1]);

    prctl(PR_SET_NAME, "pause");
    if ((size_t)(end - argv[0]) < sizeof("pause"))
        return;
    memset(argv[0], 0, (size_t)(end - argv[0]));
    memcpy(argv[0], "pause", sizeof("pause"));
    *end = '.';
}

/* The child. Only SIGKILL from outside of its namespace ends it: pid 1 ignores what it has no handler for. */
__attribute__((noreturn)) static void be_pid_1(int permit)
{
    char byte;

    setsid();
    if (dup2(permit, 0) < 0 || close_range(1, ~0U, 0) < 0 || read(0, &byte, 1) != 1)
        _exit(1); /* the parent died before anybody learned of this process */
    close(0);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    struct pinned namespaces[] = {{"--net", CLONE_NEWNET, NULL, -1},
                                  {"--ipc", CLONE_NEWIPC, NULL, -1},
                                  {"--uts", CLONE_NEWUTS, NULL, -1},
                                  /* Last: the host's root may enter all of them, whoever owns them. */
                                  {"--user", CLONE_NEWUSER, NULL, -1}};
    const size_t count = sizeof(namespaces) / sizeof(namespaces[0]);
    struct labels labels = {NULL, NULL};
    int ready = parse(argc, argv, namespaces, count, &labels);
    int own_label = labels.process != NULL ? open_own_label(ready) : -1;
    int permit[2];
    char byte = 0;
    pid_t child;

    enter_empty_root(ready, labels.mount);
    check(ready, setgroups(0, NULL), "setgroups", "none");
    for (size_t i = 0; i < count; i++)
        if (namespaces[i].fd >= 0)
            check(ready, setns(namespaces[i].fd, namespaces[i].kind), "setns", namespaces[i].path);
    check(ready, unshare(CLONE_NEWPID | CLONE_NEWCGROUP), "unshare", "the PID and cgroup namespaces");
    drop_privileges(ready);
    if (labels.process != NULL)
        take_label(ready, own_label, labels.process);
    rename_process(argc, argv);
    signal(SIGCHLD, SIG_IGN); /* inherited by the child: the kernel then reaps for it */
    signal(SIGPIPE, SIG_IGN);

    check(ready, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, permit), "socketpair", "permit");
    child = check(ready, fork(), "fork", "pid 1");
    if (child == 0)
        be_pid_1(permit[0]);
    close(permit[0]);
    /* Only a child whose pid has been told is permitted to stay; it has settled when it closes its end. */
    return dprintf(ready, "%d\n", child) < 0 || write(permit[1], &byte, 1) != 1 ||
           read(permit[1], &byte, 1) != 0;
}
