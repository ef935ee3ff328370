// SPDX-License-Identifier: Apache-2.0
/*
 * crid-userns: makes a user namespace, and namespaces that it owns, and keeps them until somebody has pinned them.
 *
 *     crid-userns CHANNEL [net] [ipc] [uts] [--hostname NAME] [--sysctl FILE VALUE]...
 *
 * A process with threads cannot make a user namespace (unshare(2)), and who is in one cannot map it to ids that its
 * own namespace lacks (user_namespaces(7)); so the daemon has this program make it and writes the maps from
 * outside. CHANNEL is the number of a stream socket's descriptor; on it
 *
 *     it says "made\n"           its namespaces are /proc/PID/ns/...
 *     it is told one byte        the maps are written
 *     it says "ready\n"          it has become their root and set hostname and sysctls
 *     it is told the end         it exits
 *
 * Sysctls of an IPC namespace obey the host's root or, in newer kernels, only the root of the user namespace that
 * owns it; this program is the one and then the other. If anything fails it says "error: WHAT: WHY\n" and exits with
 * 1. If the daemon dies it exits, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct request {
    int channel;
    int kinds;
    const char *hostname;
    char **sysctls; /* what stands after the first --sysctl */
    int count;
};

__attribute__((noreturn)) static void fail(int channel, const char *call, const char *object)
{
    dprintf(channel, "error: %s %s: %s\n", call, object, strerror(errno));
    _exit(1);
}

static void check(int channel, long result, const char *call, const char *object)
{
    if (result < 0)
        fail(channel, call, object);
}

static void say(int channel, const char *word)
{
    check(channel, dprintf(channel, "%s\n", word), "write", word);
}

static struct request parse(int argc, char **argv)
{
    struct request request = {.channel = STDERR_FILENO, .kinds = CLONE_NEWUSER};
    char *end = NULL;
    int i = 2;

    errno = EINVAL;
    if (argc < 2)
        fail(STDERR_FILENO, "arguments", "missing");
    long number = strtol(argv[1], &end, 10);
    if (*end != '\0' || number <= STDERR_FILENO || number > INT_MAX)
        fail(STDERR_FILENO, "channel", argv[1]);
    request.channel = (int)number;
    check(STDERR_FILENO, fcntl(request.channel, F_SETFD, FD_CLOEXEC), "channel", argv[1]);

    for (; i < argc; i++) {
        if (strcmp(argv[i], "net") == 0)
            request.kinds |= CLONE_NEWNET;
        else if (strcmp(argv[i], "ipc") == 0)
            request.kinds |= CLONE_NEWIPC;
        else if (strcmp(argv[i], "uts") == 0)
            request.kinds |= CLONE_NEWUTS;
        else
            break;
    }
    errno = EINVAL;
    if (i + 1 < argc && strcmp(argv[i], "--hostname") == 0) {
        request.hostname = argv[i + 1];
        i += 2;
    }
    request.sysctls = argv + i;
    request.count = argc - i;
    if (request.count % 3 != 0)
        fail(request.channel, "argument", argv[i]);
    for (int k = i; k < argc; k += 3)
        if (strcmp(argv[k], "--sysctl") != 0)
            fail(request.channel, "argument", argv[k]);
    return request;
}

/* Writes those sysctls that are not written yet. */
static void write_sysctls(struct request *request, bool last)
{
    for (int i = 0; i < request->count; i += 3) {
        const char *file = request->sysctls[i + 1], *value = request->sysctls[i + 2];
        if (file == NULL)
            continue;
        int fd = open(file, O_WRONLY | O_CLOEXEC);
        if (fd >= 0 && write(fd, value, strlen(value)) >= 0)
            request->sysctls[i + 1] = NULL;
        else if (last)
            fail(request->channel, "write", file);
        if (fd >= 0)
            close(fd);
    }
}

int main(int argc, char **argv)
{
    struct request request = parse(argc, argv);
    int channel = request.channel;
    char byte;

    signal(SIGPIPE, SIG_IGN);
    check(channel, setgroups(0, NULL), "setgroups", "none");
    check(channel, unshare(request.kinds), "unshare", "the user namespace and those it owns");
    say(channel, "made");
    if (read(channel, &byte, 1) != 1)
        return 1;

    write_sysctls(&request, false);
    check(channel, setresgid(0, 0, 0), "setresgid", "0");
    check(channel, setresuid(0, 0, 0), "setresuid", "0");
    if (request.hostname != NULL)
        check(channel, sethostname(request.hostname, strlen(request.hostname)), "sethostname", request.hostname);
    write_sysctls(&request, true);
    say(channel, "ready");
    return read(channel, &byte, 1) == 0 ? 0 : 1;
}
