// SPDX-License-Identifier: Apache-2.0
#include "log.h"

#include "conmon.h"

#include <errno.h>
#include <string.h>

static bool has_driver(const char *word, size_t length, const char *driver)
{
    return strlen(driver) == length && memcmp(word, driver, length) == 0;
}

/* One -l value: DRIVER[:PATH], or a path alone, or :PATH, the last two meaning k8s-file. */
static int choose_driver(struct conmon *conmon, const char *value, struct error *err)
{
    struct log *log = &conmon->log;
    const char *colon = strchr(value, ':');
    size_t length = colon != NULL ? (size_t)(colon - value) : strlen(value);
    const char *path = colon != NULL ? colon + 1 : "";

    if (length == 0 && *path == '\0')
        return error_set(err, 0, "--log-path is empty");
    if (length == 0) {
        log->file.path = path;
        return 0;
    }
    if (has_driver(value, length, "off") || has_driver(value, length, "null") ||
        has_driver(value, length, "none"))
        return 0;
    if (has_driver(value, length, "passthrough")) {
        log->passthrough = true;
        return 0;
    }
    if (has_driver(value, length, "journald")) {
        log->to_journald = true;
        return 0;
    }
    if (has_driver(value, length, "k8s-file")) {
        if (*path == '\0')
            return error_set(err, 0, "log driver k8s-file needs a path");
        log->file.path = path;
        return 0;
    }
    /* A colon may be part of an absolute path; anything else before a colon would have to be a driver. */
    if (colon != NULL && value[0] != '/')
        return error_set(err, 0, "no such log driver: %.*s", (int)length, value);
    log->file.path = value;
    return 0;
}

int log_open(struct conmon *conmon, struct error *err)
{
    const struct options *options = &conmon->options;
    struct log *log = &conmon->log;

    for (size_t i = 0; i < options->log_paths.count; i++)
        if (choose_driver(conmon, options->log_paths.items[i], err) < 0)
            return -1;
    if (log->passthrough && options->terminal)
        return error_set(err, 0, "log driver passthrough and --terminal exclude each other");
    if (log->file.path != NULL && !log->to_journald) {
        if (options->log_tag != NULL)
            return error_set(err, 0, "log driver k8s-file has no place for --log-tag");
        if (options->log_labels.count > 0)
            return error_set(err, 0, "log driver k8s-file has no place for --log-label");
    }
    if (log->to_journald && journald_open(conmon, err) < 0)
        return -1;
    if (log->file.path != NULL && log_file_open(conmon, err) < 0)
        return -1;
    return 0;
}

void log_write(struct conmon *conmon, enum stream stream, const char *data, size_t size)
{
    if (conmon->log.file.path != NULL)
        log_file_write(conmon, stream == STREAM_STDOUT ? "stdout" : "stderr", data, size);
    if (conmon->log.to_journald)
        journald_write(conmon, stream == STREAM_STDERR, data, size);
}

void log_reopen(struct conmon *conmon)
{
    _cleanup_error_ struct error err = {0};

    if (conmon->log.file.path != NULL && log_file_reopen(conmon, &err) < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "reopen the log: %s", error_text(&err));
}

void log_finish(struct conmon *conmon)
{
    if (conmon->log.to_journald)
        journald_flush(conmon);
}

void log_sync(struct conmon *conmon)
{
    if (conmon->options.no_sync_log || conmon->log.file.fd < 0)
        return;
    if (fsync(conmon->log.file.fd) < 0 && errno != EINVAL && errno != EROFS)
        report(&conmon->diagnostics, SEVERITY_WARNING, "fsync of the log: %s", strerror(errno));
}
