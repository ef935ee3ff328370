// SPDX-License-Identifier: Apache-2.0
#include "sync_pipe.h"

#include "conmon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int take_from_environment(const char *name, int *fd, struct error *err)
{
    const char *value = getenv(name);
    char *end = NULL;

    *fd = -1;
    if (value == NULL || *value == '\0')
        return 0;
    errno = 0;
    long number = strtol(value, &end, 10);
    if (errno != 0 || *end != '\0' || number < 0 || number > 1 << 20)
        return error_set(err, 0, "%s=%s is not a descriptor", name, value);
    if (fcntl((int)number, F_SETFD, FD_CLOEXEC) < 0)
        return error_set(err, errno, "%s=%s", name, value);
    *fd = (int)number;
    unsetenv(name);
    return 0;
}

int sync_pipes_open(struct conmon *conmon, struct error *err)
{
    struct sync_pipes *pipes = &conmon->pipes;

    if (take_from_environment("_OCI_SYNCPIPE", &pipes->sync_fd, err) < 0 ||
        take_from_environment("_OCI_STARTPIPE", &pipes->start_fd, err) < 0)
        return -1;
    if (!conmon->options.exec_attach)
        return 0;
    if (take_from_environment("_OCI_ATTACHPIPE", &pipes->attach_fd, err) < 0)
        return -1;
    if (pipes->attach_fd < 0)
        return error_set(err, 0, "--exec-attach needs _OCI_ATTACHPIPE in the environment");
    return 0;
}

int sync_wait_for_start(const struct conmon *conmon, struct error *err)
{
    char bytes[64];
    ssize_t got = -1;

    if (conmon->pipes.start_fd < 0)
        return 0;
    do
        got = read(conmon->pipes.start_fd, bytes, sizeof(bytes));
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return error_set(err, errno, "read the start pipe");
    return 0;
}

/* Each byte of a message needs at most six: \u00XX. Bytes above ASCII pass as they are. */
static char *json_escape(const char *text)
{
    char *escaped = malloc(strlen(text) * 6 + 1);
    char *next = escaped;

    if (escaped == NULL)
        return NULL;
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\') {
            *next++ = '\\';
            *next++ = (char)byte;
        } else if (byte == '\n' || byte == '\t' || byte == '\r') {
            *next++ = '\\';
            *next++ = byte == '\n' ? 'n' : byte == '\t' ? 't' : 'r';
        } else if (byte < 0x20 || byte == 0x7f) {
            next += sprintf(next, "\\u00%02x", byte);
        } else {
            *next++ = (char)byte;
        }
    }
    *next = '\0';
    return escaped;
}

static void send_line(struct conmon *conmon, int *fd, int number, const char *message)
{
    const struct options *options = &conmon->options;
    const char *key = options->api_version ? "data" : options->exec ? "exit_code" : "pid";
    _cleanup_free_ char *escaped = message != NULL && *message != '\0' ? json_escape(message) : NULL;
    _cleanup_free_ char *line = NULL;
    int length = -1;

    if (*fd < 0)
        return;
    if (escaped != NULL)
        length = asprintf(&line, "{\"%s\": %d, \"message\": \"%s\"}\n", key, number, escaped);
    else
        length = asprintf(&line, "{\"%s\": %d}\n", key, number);
    if (length < 0) {
        line = NULL;
        return;
    }
    if (write_all(*fd, line, (size_t)length) < 0) {
        report(&conmon->diagnostics, SEVERITY_WARNING, "cannot tell the caller %.*s: %s", length - 1, line,
               strerror(errno));
        close_fd(fd);
    }
}

void sync_send(struct conmon *conmon, int number, const char *message)
{
    send_line(conmon, &conmon->pipes.sync_fd, number, message);
}

void sync_send_attach_ready(struct conmon *conmon)
{
    send_line(conmon, &conmon->pipes.attach_fd, 0, NULL);
}
