// SPDX-License-Identifier: Apache-2.0
#include "journald.h"

#include "conmon.h"

#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define HELD_MAX 8192
#define SHORT_ID 12

static int check_label(const char *label, struct error *err)
{
    const char *equals = strchr(label, '=');

    if (equals == NULL || equals == label || strchr(equals + 1, '=') != NULL)
        return error_set(err, 0, "--log-label \"%s\" is not LABEL=VALUE", label);
    for (const char *letter = label; letter < equals; letter++)
        if (!isupper((unsigned char)*letter) && !isdigit((unsigned char)*letter) && *letter != '_')
            return error_set(err, 0, "--log-label \"%s\": a label has capitals, digits and _ only", label);
    return 0;
}

/* A value with a newline would end its field early and begin another one. */
static int add_field(FILE *fields, const char *name, const char *value, struct error *err)
{
    if (strchr(value, '\n') != NULL)
        return error_set(err, 0, "%s has a newline in it", name);
    fprintf(fields, "%s=%s\n", name, value);
    return 0;
}

static int write_fields(const struct options *options, FILE *fields, struct error *err)
{
    const char *identifier = options->log_tag != NULL ? options->log_tag : options->name;
    char short_id[SHORT_ID + 1];

    snprintf(short_id, sizeof(short_id), "%s", options->cuuid);
    if (add_field(fields, "CONTAINER_ID_FULL", options->cuuid, err) < 0 ||
        add_field(fields, "CONTAINER_ID", short_id, err) < 0 ||
        (options->name != NULL && add_field(fields, "CONTAINER_NAME", options->name, err) < 0) ||
        (options->log_tag != NULL && add_field(fields, "CONTAINER_TAG", options->log_tag, err) < 0) ||
        add_field(fields, "SYSLOG_IDENTIFIER", identifier != NULL ? identifier : short_id, err) < 0)
        return -1;
    for (size_t i = 0; i < options->log_labels.count; i++) {
        const char *label = options->log_labels.items[i];
        if (check_label(label, err) < 0)
            return -1;
        if (strchr(label, '\n') != NULL)
            return error_set(err, 0, "--log-label has a newline in it");
        fprintf(fields, "%s\n", label);
    }
    return 0;
}

int journald_open(struct conmon *conmon, struct error *err)
{
    const struct options *options = &conmon->options;
    struct journald *journald = &conmon->log.journald;
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET};
    size_t size = 0;

    if (options->cuuid == NULL || strlen(options->cuuid) <= SHORT_ID)
        return error_set(err, 0, "log driver journald needs a --cuuid longer than %d letters", SHORT_ID);
    FILE *fields = open_memstream(&journald->fields, &size);
    if (fields == NULL)
        return error_set(err, errno, "prepare journal fields");
    int result = write_fields(options, fields, err);
    fclose(fields);
    if (result < 0)
        return -1;

    journald->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (journald->fd < 0)
        return error_set(err, errno, "create a socket for the journal");
    if (connect(journald->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return error_set(err, errno, "log driver journald: connect to %s", JOURNAL_SOCKET);
    return 0;
}

/* Lines may begin with <0> to <7>, the kernel's and systemd's mark of a priority. */
static int take_priority(bool is_stderr, const char **text, size_t *length)
{
    if (*length >= 3 && (*text)[0] == '<' && (*text)[1] >= '0' && (*text)[1] <= '7' && (*text)[2] == '>') {
        int priority = (*text)[1] - '0';
        *text += 3;
        *length -= 3;
        return priority;
    }
    return is_stderr ? 3 : 6;
}

/* MESSAGE goes in the length-prefixed form, since a line may hold any byte. */
static void send_entry(struct conmon *conmon, bool is_stderr, const char *text, size_t length, bool partial)
{
    struct journald *journald = &conmon->log.journald;
    int priority = take_priority(is_stderr, &text, &length);
    const char *mark =
        partial && !conmon->options.no_partial_message ? "CONTAINER_PARTIAL_MESSAGE=true\n" : "";
    char head[96];
    uint64_t size = htole64(length);
    int head_length = snprintf(head, sizeof(head), "PRIORITY=%d\n%sMESSAGE\n", priority, mark);
    struct iovec vectors[] = {
        {.iov_base = journald->fields, .iov_len = strlen(journald->fields)},
        {.iov_base = head, .iov_len = (size_t)head_length},
        {.iov_base = &size, .iov_len = sizeof(size)},
        {.iov_base = (void *)(uintptr_t)text, .iov_len = length},
        {.iov_base = (void *)(uintptr_t) "\n", .iov_len = 1},
    };
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = sizeof(vectors) / sizeof(vectors[0])};

    if (sendmsg(journald->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "a line is lost: send to the journal: %s",
               strerror(errno));
}

static void flush_held(struct conmon *conmon, bool is_stderr, bool partial)
{
    struct held_line *held = &conmon->log.journald.held[is_stderr];

    send_entry(conmon, is_stderr, held->text, held->length, partial);
    held->length = 0;
}

void journald_write(struct conmon *conmon, bool is_stderr, const char *data, size_t size)
{
    struct held_line *held = &conmon->log.journald.held[is_stderr];

    while (size > 0) {
        const char *newline = memchr(data, '\n', size);
        size_t length = newline != NULL ? (size_t)(newline - data) : size;

        if (newline != NULL && held->length == 0) {
            send_entry(conmon, is_stderr, data, length, false);
        } else {
            if (held->text == NULL && (held->text = malloc(HELD_MAX)) == NULL)
                return;
            size_t room = HELD_MAX - held->length;
            if (length > room || (length == room && newline == NULL)) {
                memcpy(held->text + held->length, data, room);
                held->length += room;
                data += room;
                size -= room;
                flush_held(conmon, is_stderr, true);
                continue;
            }
            memcpy(held->text + held->length, data, length);
            held->length += length;
            if (newline != NULL)
                flush_held(conmon, is_stderr, false);
        }
        length += newline != NULL ? 1 : 0;
        data += length;
        size -= length;
    }
}

void journald_flush(struct conmon *conmon)
{
    for (int i = 0; i < 2; i++)
        if (conmon->log.journald.held[i].length > 0)
            flush_held(conmon, i == 1, true);
}
