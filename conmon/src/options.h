// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The values of an option that may be given several times: pointers into argv, NULL-terminated. */
struct string_list {
    const char **items;
    size_t count;
};

/* What was asked on the command line. Strings point into argv, apart from the defaults of options_check(). */
struct options {
    bool help;
    bool version;

    /* which object, and where it lives */
    const char *cid;
    const char *cuuid;
    const char *name;
    const char *bundle;
    const char *persist_dir;
    const char *exit_dir;
    const char *socket_dir;
    const char *container_pidfile;
    const char *conmon_pidfile;
    bool full_attach;

    /* the runtime call */
    const char *runtime;
    struct string_list runtime_args;
    struct string_list runtime_opts;
    const char *restore;
    bool systemd_cgroup;
    bool no_pivot;
    bool no_new_keyring;
    bool replace_listen_pid;
    bool exec;
    bool exec_attach;
    const char *exec_process_spec;

    /* stdio */
    bool terminal;
    bool use_stdin;
    bool leave_stdin_open;

    /* logs of the container */
    struct string_list log_paths;
    int64_t log_size_max;
    int64_t log_global_size_max;
    bool log_rotate;
    int64_t log_max_files;
    struct string_list log_allowlist_dirs;
    const char *log_tag;
    struct string_list log_labels;
    bool no_partial_message;
    bool no_sync_log;

    /* conmon itself */
    bool api_version;
    bool sync;
    bool syslog;
    const char *log_level;
    const char *sdnotify_socket;
    int64_t timeout;
    const char *exit_command;
    struct string_list exit_args;
    int64_t exit_delay;

    char *owned_bundle;
    char *owned_pidfile;
};

/* Reads argv. An unknown option, a missing or malformed value is an error; words that are no options are
 * ignored. */
int options_parse(struct options *options, int argc, char **argv, struct error *err);

/* Checks what belongs together and fills the defaults that depend on the working directory. */
int options_check(struct options *options, struct error *err);

void options_print_help(void);
void options_release(struct options *options);
