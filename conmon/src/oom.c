// SPDX-License-Identifier: Apache-2.0
#include "oom.h"

#include "conmon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define RECHECK_MS 100
#define RECHECKS 20

/* Whether a comma-separated list has this word. */
static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);

    for (const char *at = list; (at = strstr(at, word)) != NULL; at += length) {
        bool starts = at == list || at[-1] == ',';
        if (starts && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

/*
 * The path of the process in its memory hierarchy, from /proc/PID/cgroup: the line naming the memory
 * controller (v1, or v1 beside v2), else the line "0::" (v2). Sets `v1`.
 */
static char *find_cgroup(int pid, bool *v1)
{
    char name[64];
    char *found = NULL;
    _cleanup_free_ char *line = NULL;
    size_t size = 0;

    snprintf(name, sizeof(name), "/proc/%d/cgroup", pid);
    FILE *file = fopen(name, "re");
    if (file == NULL)
        return NULL;
    *v1 = false;
    while (getline(&line, &size, file) > 0) {
        char *controllers = strchr(line, ':');
        char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        path[strcspn(path, "\n")] = '\0';
        bool memory = has_word(controllers + 1, "memory");
        if (!memory && (found != NULL || strncmp(line, "0:", 3) != 0))
            continue;
        free(found);
        found = strdup(path);
        *v1 = memory;
        if (memory)
            break;
    }
    fclose(file);
    return found;
}

/* Where the hierarchy is mounted, from mountinfo: "ID PARENT MAJ:MIN ROOT POINT OPTIONS ... - TYPE SOURCE
 * SUPER". */
static char *find_mount(bool v1, char **root)
{
    _cleanup_free_ char *line = NULL;
    size_t size = 0;
    char *found = NULL;
    FILE *file = fopen("/proc/self/mountinfo", "re");

    if (file == NULL)
        return NULL;
    while (found == NULL && getline(&line, &size, file) > 0) {
        char *tail = strstr(line, " - ");
        char type[32], super[512];
        if (tail == NULL || sscanf(tail, " - %31s %*s %511s", type, super) != 2)
            continue;
        bool wanted =
            v1 ? strcmp(type, "cgroup") == 0 && has_word(super, "memory") : strcmp(type, "cgroup2") == 0;
        if (!wanted)
            continue;
        char *point = NULL;
        if (sscanf(line, "%*s %*s %*s %ms %ms", root, &point) == 2)
            found = point;
    }
    fclose(file);
    return found;
}

/* The directory of the process's memory cgroup. The mount may show only a part of the hierarchy, below ROOT.
 */
static char *find_directory(int pid, bool *v1)
{
    _cleanup_free_ char *cgroup = find_cgroup(pid, v1);
    _cleanup_free_ char *root = NULL;
    _cleanup_free_ char *point = cgroup != NULL ? find_mount(*v1, &root) : NULL;
    char *directory = NULL;

    if (point == NULL)
        return NULL;
    const char *below = cgroup;
    size_t length = strlen(root);
    if (length > 1 && strncmp(cgroup, root, length) == 0)
        below = cgroup + length;
    if (asprintf(&directory, "%s%s", point, below) < 0)
        return NULL;
    return directory;
}

static int open_in(const char *directory, const char *name, int flags)
{
    _cleanup_free_ char *path = NULL;

    if (asprintf(&path, "%s/%s", directory, name) < 0)
        return -1;
    return open(path, flags | O_CLOEXEC);
}

/* The kills up to now, or -1 where there is no such count (any more). */
static long long count_kills(const struct oom_watch *oom)
{
    char text[1024];
    ssize_t length = oom->counter_fd >= 0 ? pread(oom->counter_fd, text, sizeof(text) - 1, 0) : -1;
    long long kills = -1;

    if (length <= 0)
        return -1;
    text[length] = '\0';
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n"))
        if (sscanf(line, "oom_kill %lld", &kills) == 1)
            return kills;
    return -1;
}

static void leave_mark(struct conmon *conmon, const char *folder)
{
    _cleanup_free_ char *path = NULL;

    if (folder == NULL || asprintf(&path, "%s/oom", folder) < 0)
        return;
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "create %s: %s", path, strerror(errno));
}

static void note_kill(struct conmon *conmon)
{
    report(&conmon->diagnostics, SEVERITY_INFO, "the kernel killed a process for lack of memory");
    leave_mark(conmon, conmon->options.persist_dir);
    leave_mark(conmon, conmon->options.bundle);
}

void oom_check(struct conmon *conmon)
{
    struct oom_watch *oom = &conmon->oom;
    long long kills = count_kills(oom);

    if (kills > oom->seen) {
        oom->seen = kills;
        note_kill(conmon);
    }
}

static void on_v2_change(struct conmon *conmon, struct source *source, uint32_t events)
{
    (void)events;
    if (count_kills(&conmon->oom) < 0) /* the cgroup has been removed */
        source_close(conmon, source);
    else
        oom_check(conmon);
}

static void on_recheck(struct conmon *conmon, struct source *source, uint32_t events);

static void recheck_later(struct conmon *conmon)
{
    struct oom_watch *oom = &conmon->oom;
    _cleanup_error_ struct error err = {0};

    oom->recheck.on_ready = on_recheck;
    if (oom->recheck.fd < 0 && source_start_timer(conmon, &oom->recheck, RECHECK_MS, &err) < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "%s", error_text(&err));
}

static void on_recheck(struct conmon *conmon, struct source *source, uint32_t events)
{
    long long before = conmon->oom.seen;

    (void)events;
    source_close(conmon, source);
    oom_check(conmon);
    if (conmon->oom.seen == before && --conmon->oom.rechecks_left > 0)
        recheck_later(conmon);
}

/*
 * An event is a lack of memory, or the removal of the cgroup; only the counter can tell a kill. The event
 * comes before the kill is counted, so the counter is looked at again for a while.
 */
static void on_v1_event(struct conmon *conmon, struct source *source, uint32_t events)
{
    struct oom_watch *oom = &conmon->oom;
    uint64_t count = 0;

    (void)events;
    if (read(source->fd, &count, sizeof(count)) != sizeof(count))
        return;
    if (oom->counts) {
        oom->rechecks_left = RECHECKS;
        recheck_later(conmon);
    } else if (pread(oom->counter_fd, &(char){0}, 1, 0) == 1) {
        note_kill(conmon);
    }
}

static int listen_v1(struct oom_watch *oom, const char *directory)
{
    char text[64];
    _cleanup_close_ int control_fd = open_in(directory, "cgroup.event_control", O_WRONLY);
    _cleanup_close_ int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (control_fd < 0 || event_fd < 0)
        return -1;
    int length = snprintf(text, sizeof(text), "%d %d", event_fd, oom->counter_fd);
    if (write_all(control_fd, text, (size_t)length) < 0)
        return -1;
    oom->source = (struct source){.fd = take_fd(&event_fd), .on_ready = on_v1_event};
    return 0;
}

void oom_start(struct conmon *conmon, int pid)
{
    struct oom_watch *oom = &conmon->oom;
    _cleanup_error_ struct error err = {0};
    bool v1 = false;

    if (conmon->options.bundle == NULL && conmon->options.persist_dir == NULL)
        return; /* nobody to tell */
    _cleanup_free_ char *directory = find_directory(pid, &v1);
    if (directory == NULL) {
        report(&conmon->diagnostics, SEVERITY_DEBUG, "process %d has no memory cgroup", pid);
        return;
    }
    oom->counter_fd = open_in(directory, v1 ? "memory.oom_control" : "memory.events", O_RDONLY);
    long long kills = count_kills(oom);
    oom->counts = kills >= 0;
    /* A new container has a new cgroup, so every kill is its own; an exec joins one that may have had some.
     */
    oom->seen = conmon->options.exec && oom->counts ? kills : 0;
    if (oom->counter_fd < 0 || (v1 && listen_v1(oom, directory) < 0)) {
        report(&conmon->diagnostics, SEVERITY_DEBUG, "cannot watch %s: %s", directory, strerror(errno));
        return;
    }
    if (!v1) {
        int copy = fcntl(oom->counter_fd, F_DUPFD_CLOEXEC, 3);
        oom->source = (struct source){.fd = copy, .on_ready = on_v2_change};
    }
    if (oom->source.fd >= 0 && source_watch(conmon, &oom->source, v1 ? EPOLLIN : EPOLLPRI, &err) < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "%s", error_text(&err));
}
