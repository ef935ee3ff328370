// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.h"
#include "options.h"

/* conmon's own messages: to stderr, which is /dev/null once it has detached, and to syslog with --syslog. */
enum severity { SEVERITY_ERROR, SEVERITY_WARNING, SEVERITY_INFO, SEVERITY_DEBUG, SEVERITY_TRACE };

struct diagnostics {
    enum severity level;
    bool syslog;
    const char *cid;
};

int diagnostics_open(struct diagnostics *diagnostics, const struct options *options, struct error *err);
void report(const struct diagnostics *diagnostics, enum severity severity, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
