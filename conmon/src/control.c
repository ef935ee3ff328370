// SPDX-License-Identifier: Apache-2.0
#include "control.h"

#include "conmon.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>

enum { MESSAGE_RESIZE = 1, MESSAGE_REOPEN_LOGS = 2 };

/* Reads `count` decimal numbers, each of 0 to 65535, separated by spaces; more words after them are ignored.
 */
static bool read_numbers(const char *line, long *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *end = NULL;
        while (*line == ' ' || *line == '\t')
            line++;
        if (!isdigit((unsigned char)*line))
            return false;
        errno = 0;
        numbers[i] = strtol(line, &end, 10);
        if (errno != 0 || numbers[i] > UINT16_MAX || (*end != '\0' && !isspace((unsigned char)*end)))
            return false;
        line = end;
    }
    return true;
}

static void obey_ctl(struct conmon *conmon, const char *line)
{
    long numbers[3];

    if (read_numbers(line, numbers, 3) && numbers[0] == MESSAGE_RESIZE)
        terminal_resize(conmon, (unsigned short)numbers[1], (unsigned short)numbers[2]);
    else if (read_numbers(line, numbers, 3) && numbers[0] == MESSAGE_REOPEN_LOGS)
        log_reopen(conmon);
    else
        report(&conmon->diagnostics, SEVERITY_WARNING, "ctl: not understood: %s", line);
}

static void obey_winsz(struct conmon *conmon, const char *line)
{
    long numbers[2];

    if (read_numbers(line, numbers, 2))
        terminal_resize(conmon, (unsigned short)numbers[0], (unsigned short)numbers[1]);
    else
        report(&conmon->diagnostics, SEVERITY_WARNING, "winsz: not understood: %s", line);
}

static void take_byte(struct conmon *conmon, struct control_fifo *fifo, char byte)
{
    if (byte != '\n') {
        if (fifo->length < CONTROL_LINE_MAX - 1)
            fifo->line[fifo->length++] = byte;
        else
            fifo->skipping = true;
        return;
    }
    fifo->line[fifo->length] = '\0';
    if (fifo->skipping)
        report(&conmon->diagnostics, SEVERITY_WARNING, "a control line is too long");
    else if (fifo == &conmon->control.ctl)
        obey_ctl(conmon, fifo->line);
    else
        obey_winsz(conmon, fifo->line);
    fifo->length = 0;
    fifo->skipping = false;
}

static void on_fifo(struct conmon *conmon, struct source *source, uint32_t events)
{
    struct control_fifo *fifo = (struct control_fifo *)source; /* its first member */
    char bytes[CONTROL_LINE_MAX];
    ssize_t got = read(source->fd, bytes, sizeof(bytes));

    (void)events;
    for (ssize_t i = 0; i < got; i++)
        take_byte(conmon, fifo, bytes[i]);
}

static int open_fifo(struct conmon *conmon, struct control_fifo *fifo, const char *name, struct error *err)
{
    _cleanup_free_ char *path = NULL;

    if (asprintf(&path, "%s/%s", conmon->options.bundle, name) < 0)
        return error_set(err, ENOMEM, "name the fifo %s", name);
    if (unlink(path) < 0 && errno != ENOENT)
        return error_set(err, errno, "remove the old %s", path);
    if (mkfifo(path, 0660) < 0)
        return error_set(err, errno, "create the fifo %s", path);
    /* Open for writing too: with no writer left a fifo reports a hang-up without end. */
    fifo->source.fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fifo->source.fd < 0)
        return error_set(err, errno, "open the fifo %s", path);
    fifo->source.on_ready = on_fifo;
    return source_watch(conmon, &fifo->source, EPOLLIN, err);
}

int control_open(struct conmon *conmon, struct error *err)
{
    if (open_fifo(conmon, &conmon->control.ctl, "ctl", err) < 0)
        return -1;
    return open_fifo(conmon, &conmon->control.winsz, "winsz", err);
}
