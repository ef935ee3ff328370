// SPDX-License-Identifier: Apache-2.0
#include "diagnostics.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <unistd.h>

int diagnostics_open(struct diagnostics *diagnostics, const struct options *options, struct error *err)
{
    static const struct {
        const char *name;
        enum severity level;
    } levels[] = {{"panic", SEVERITY_ERROR},     {"fatal", SEVERITY_ERROR},  {"error", SEVERITY_ERROR},
                  {"warning", SEVERITY_WARNING}, {"warn", SEVERITY_WARNING}, {"info", SEVERITY_INFO},
                  {"debug", SEVERITY_DEBUG},     {"trace", SEVERITY_TRACE}};

    *diagnostics =
        (struct diagnostics){.level = SEVERITY_WARNING, .syslog = options->syslog, .cid = options->cid};
    if (options->log_level == NULL)
        return 0;
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcasecmp(levels[i].name, options->log_level) == 0) {
            diagnostics->level = levels[i].level;
            return 0;
        }
    }
    return error_set(err, 0, "no such log level: %s", options->log_level);
}

void report(const struct diagnostics *diagnostics, enum severity severity, const char *format, ...)
{
    static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG, LOG_DEBUG};
    static const char letters[] = "ewidt";
    char text[1024];
    va_list arguments;

    if (severity > diagnostics->level)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    dprintf(STDERR_FILENO, "[conmon:%c]: %s\n", letters[severity], text);
    if (diagnostics->syslog)
        syslog(priorities[severity], "conmon %.20s: %s", diagnostics->cid, text);
}
