// SPDX-License-Identifier: Apache-2.0
/*
 * The command line as one table. The syntax is that of GLib's option parser, which the conmon of Podman and
 * CRI-O uses: `--name VALUE`, `--name=VALUE`, `-x VALUE`, single-letter flags may be joined, a value may
 * begin with a dash, `--` ends the options and other words are ignored (Podman says `--api-version 1`, and
 * the 1 is such a word).
 */
#include "options.h"

#include "cleanup.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_SOCKET_DIR "/var/run/crio"

enum kind { FLAG, STRING, NUMBER, LIST };

struct option_spec {
    const char *name;
    char letter;
    enum kind kind;
    size_t offset;
    const char *help;
};

#define FIELD(member) offsetof(struct options, member)

static const struct option_spec specs[] = {
    {"help", 'h', FLAG, FIELD(help), "print this text"},
    {"version", 0, FLAG, FIELD(version), "print the version"},
    {"api-version", 0, FLAG, FIELD(api_version),
     "speak version 1 of the sync pipe: \"data\" keys, pid of an exec"},
    {"bundle", 'b', STRING, FIELD(bundle),
     "bundle directory; holds attach, ctl, winsz and oom (default: cwd)"},
    {"cid", 'c', STRING, FIELD(cid), "container id, as the runtime knows it"},
    {"cuuid", 'u', STRING, FIELD(cuuid), "unique id of the container or exec session"},
    {"name", 'n', STRING, FIELD(name), "container name"},
    {"container-pidfile", 'p', STRING, FIELD(container_pidfile), "pid file of the container's process"},
    {"pidfile", 0, STRING, FIELD(container_pidfile), NULL},
    {"conmon-pidfile", 'P', STRING, FIELD(conmon_pidfile), "pid file of conmon"},
    {"persist-dir", '0', STRING, FIELD(persist_dir), "directory that gets the files exit and oom"},
    {"exit-dir", 0, STRING, FIELD(exit_dir), "directory that gets an exit file named after the container"},
    {"socket-dir-path", 0, STRING, FIELD(socket_dir), "directory of short links to bundles"},
    {"full-attach", 0, FLAG, FIELD(full_attach), "no short link: the attach socket is reached in the bundle"},
    {"runtime", 'r', STRING, FIELD(runtime), "path of the OCI runtime"},
    {"runtime-arg", 0, LIST, FIELD(runtime_args), "argument for the runtime, before its command"},
    {"runtime-opt", 0, LIST, FIELD(runtime_opts), "argument for the runtime, after its command"},
    {"restore-arg", 0, LIST, FIELD(runtime_opts), NULL},
    {"restore", 0, STRING, FIELD(restore), "restore from this checkpoint instead of creating"},
    {"systemd-cgroup", 's', FLAG, FIELD(systemd_cgroup), "the runtime shall use systemd for cgroups"},
    {"no-pivot", 0, FLAG, FIELD(no_pivot), "the runtime shall not use pivot_root"},
    {"no-new-keyring", 0, FLAG, FIELD(no_new_keyring), "the runtime shall not create a session keyring"},
    {"replace-listen-pid", 0, FLAG, FIELD(replace_listen_pid), "set LISTEN_PID to the pid of the runtime"},
    {"exec", 'e', FLAG, FIELD(exec), "run a process in an existing container"},
    {"exec-process-spec", 0, STRING, FIELD(exec_process_spec), "JSON of the process to exec"},
    {"exec-attach", 0, FLAG, FIELD(exec_attach), "hold the exec back until a client is attached"},
    {"terminal", 't', FLAG, FIELD(terminal), "give the process a terminal"},
    {"stdin", 'i', FLAG, FIELD(use_stdin), "give the process a pipe as stdin"},
    {"leave-stdin-open", 0, FLAG, FIELD(leave_stdin_open),
     "keep stdin open when a client has ended its input"},
    {"log-path", 'l', LIST, FIELD(log_paths),
     "[DRIVER:]PATH; k8s-file, journald, passthrough, none, off, null"},
    {"log-size-max", 0, NUMBER, FIELD(log_size_max),
     "start the log file anew before it exceeds this many bytes"},
    {"log-global-size-max", 0, NUMBER, FIELD(log_global_size_max), "stop logging after this many bytes"},
    {"log-rotate", 0, FLAG, FIELD(log_rotate), "keep the full log file as PATH.1 rather than dropping it"},
    {"log-max-files", 0, NUMBER, FIELD(log_max_files), "how many files --log-rotate keeps (default 1)"},
    {"log-allowlist-dir", 0, LIST, FIELD(log_allowlist_dirs), "directory in which logs may be rotated"},
    {"log-tag", 0, STRING, FIELD(log_tag), "tag for journald"},
    {"log-label", 0, LIST, FIELD(log_labels), "LABEL=VALUE for journald"},
    {"no-container-partial-message", 0, FLAG, FIELD(no_partial_message),
     "do not mark partial lines (journald)"},
    {"no-sync-log", 0, FLAG, FIELD(no_sync_log), "do not fsync the log at the end"},
    {"sync", 0, FLAG, FIELD(sync), "do not daemonise: stay a child of the caller"},
    {"timeout", 'T', NUMBER, FIELD(timeout), "kill the process after this many seconds"},
    {"exit-command", 0, STRING, FIELD(exit_command), "program to run when all is over"},
    {"exit-command-arg", 0, LIST, FIELD(exit_args), "argument for the exit command"},
    {"exit-delay", 0, NUMBER, FIELD(exit_delay), "seconds to wait before the exit command"},
    {"log-level", 0, STRING, FIELD(log_level), "error, warn, info, debug or trace (default warn)"},
    {"syslog", 0, FLAG, FIELD(syslog), "send conmon's own messages to syslog as well"},
    {"sdnotify-socket", 0, STRING, FIELD(sdnotify_socket),
     "relay the container's sd_notify messages to this"},
};

#define SPEC_COUNT (sizeof(specs) / sizeof(specs[0]))

static const struct option_spec *find_long(const char *name, size_t length)
{
    for (size_t i = 0; i < SPEC_COUNT; i++)
        if (strlen(specs[i].name) == length && memcmp(specs[i].name, name, length) == 0)
            return &specs[i];
    return NULL;
}

static const struct option_spec *find_letter(char letter)
{
    for (size_t i = 0; i < SPEC_COUNT; i++)
        if (specs[i].letter == letter)
            return &specs[i];
    return NULL;
}

static int list_append(struct string_list *list, const char *value, struct error *err)
{
    const char **items = realloc(list->items, (list->count + 2) * sizeof(*items));
    if (items == NULL)
        return error_set(err, ENOMEM, "read the command line");
    list->items = items;
    items[list->count++] = value;
    items[list->count] = NULL;
    return 0;
}

static int assign(struct options *options, const struct option_spec *spec, const char *value,
                  struct error *err)
{
    void *field = (char *)options + spec->offset;

    switch (spec->kind) {
    case FLAG:
        *(bool *)field = true;
        return 0;
    case STRING:
        *(const char **)field = value;
        return 0;
    case LIST:
        return list_append(field, value, err);
    case NUMBER: {
        char *end = NULL;
        errno = 0;
        long long number = strtoll(value, &end, 10);
        if (errno != 0 || end == value || *end != '\0')
            return error_set(err, 0, "--%s: \"%s\" is not a number", spec->name, value);
        *(int64_t *)field = number;
        return 0;
    }
    }
    return error_set(err, 0, "--%s: not handled", spec->name);
}

/* argv[i] is "--name" or "--name=value". Returns how many words were used. */
static int parse_long(struct options *options, int left, char **words, struct error *err)
{
    const char *name = words[0] + 2;
    const char *equals = strchr(name, '=');
    size_t length = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const struct option_spec *spec = find_long(name, length);

    if (spec == NULL)
        return error_set(err, 0, "unknown option %s", words[0]);
    if (spec->kind == FLAG && equals != NULL)
        return error_set(err, 0, "--%s takes no value", spec->name);
    if (spec->kind == FLAG)
        return assign(options, spec, NULL, err) < 0 ? -1 : 1;
    if (equals != NULL)
        return assign(options, spec, equals + 1, err) < 0 ? -1 : 1;
    if (left < 2)
        return error_set(err, 0, "--%s needs a value", spec->name);
    return assign(options, spec, words[1], err) < 0 ? -1 : 2;
}

/* words[0] is "-x" or joined letters, of which only the last may want a value. */
static int parse_letters(struct options *options, int left, char **words, struct error *err)
{
    for (const char *letter = words[0] + 1; *letter != '\0'; letter++) {
        const struct option_spec *spec = find_letter(*letter);
        if (spec == NULL)
            return error_set(err, 0, "unknown option -%c", *letter);
        if (spec->kind == FLAG) {
            if (assign(options, spec, NULL, err) < 0)
                return -1;
            continue;
        }
        if (letter[1] != '\0' || left < 2)
            return error_set(err, 0, "-%c needs a value as the next word", *letter);
        return assign(options, spec, words[1], err) < 0 ? -1 : 2;
    }
    return 1;
}

int options_parse(struct options *options, int argc, char **argv, struct error *err)
{
    *options = (struct options){
        .socket_dir = DEFAULT_SOCKET_DIR, .log_size_max = -1, .log_global_size_max = -1, .log_max_files = 1};

    for (int i = 1; i < argc;) {
        const char *word = argv[i];
        int used = 1;

        if (strcmp(word, "--") == 0)
            break;
        if (strncmp(word, "--", 2) == 0)
            used = parse_long(options, argc - i, argv + i, err);
        else if (word[0] == '-' && word[1] != '\0')
            used = parse_letters(options, argc - i, argv + i, err);
        if (used < 0)
            return -1;
        i += used;
    }
    return 0;
}

static int check_combinations(const struct options *options, struct error *err)
{
    if (options->cid == NULL)
        return error_set(err, 0, "no container id: --cid is needed");
    if (options->restore != NULL && options->exec)
        return error_set(err, 0, "--restore and --exec exclude each other");
    if (options->exec_attach && !options->exec)
        return error_set(err, 0, "--exec-attach needs --exec");
    if (options->exec_attach && !options->api_version)
        return error_set(err, 0, "--exec-attach needs --api-version");
    if (options->cuuid == NULL && (!options->exec || options->api_version))
        return error_set(err, 0, "no container UUID: --cuuid is needed");
    if (options->cuuid != NULL && (options->cuuid[0] == '\0' || strchr(options->cuuid, '/') != NULL))
        return error_set(err, 0, "--cuuid \"%s\" cannot be a file name", options->cuuid);
    if (options->exit_dir != NULL && strchr(options->cid, '/') != NULL)
        return error_set(err, 0, "--cid \"%s\" cannot be a file name in --exit-dir", options->cid);
    if (options->runtime == NULL)
        return error_set(err, 0, "no runtime: --runtime is needed");
    if (access(options->runtime, X_OK) < 0)
        return error_set(err, errno, "runtime %s", options->runtime);
    if (options->exec && options->exec_process_spec == NULL)
        return error_set(err, 0, "no process: --exec needs --exec-process-spec");
    if (options->exit_delay < 0 || options->exit_delay > INT_MAX)
        return error_set(err, 0, "--exit-delay %lld is out of range", (long long)options->exit_delay);
    if (options->timeout < 0 || options->timeout > INT_MAX)
        return error_set(err, 0, "--timeout %lld is out of range", (long long)options->timeout);
    if (options->log_max_files < (options->log_rotate ? 1 : 0) || options->log_max_files > INT_MAX)
        return error_set(err, 0, "--log-max-files %lld is out of range", (long long)options->log_max_files);
    if (options->log_paths.count == 0)
        return error_set(err, 0, "no log: --log-path is needed");
    return 0;
}

int options_check(struct options *options, struct error *err)
{
    if (check_combinations(options, err) < 0)
        return -1;

    _cleanup_free_ char *cwd = getcwd(NULL, 0);
    if (cwd == NULL)
        return error_set(err, errno, "find the working directory");
    if (options->container_pidfile == NULL) {
        if (asprintf(&options->owned_pidfile, "%s/pidfile-%s", cwd, options->cid) < 0) {
            options->owned_pidfile = NULL;
            return error_set(err, ENOMEM, "name the pid file");
        }
        options->container_pidfile = options->owned_pidfile;
    }
    /* An exec has a bundle only when it is to have an attach socket of its own. */
    if (options->bundle == NULL && !options->exec) {
        options->owned_bundle = cwd;
        cwd = NULL;
        options->bundle = options->owned_bundle;
    }
    return 0;
}

void options_print_help(void)
{
    printf("Usage: conmon [OPTION]...\nMonitors one OCI container, or one process executed in it.\n\n");
    for (size_t i = 0; i < SPEC_COUNT; i++) {
        const struct option_spec *spec = &specs[i];
        char letter[] = {spec->letter != 0 ? '-' : ' ', spec->letter != 0 ? spec->letter : ' ',
                         spec->letter != 0 ? ',' : ' ', '\0'};
        char name[64];

        if (spec->help == NULL)
            continue;
        snprintf(name, sizeof(name), "--%s%s", spec->name, spec->kind == FLAG ? "" : "=VALUE");
        printf("  %s %-32s %s\n", letter, name, spec->help);
    }
}

void options_release(struct options *options)
{
    free(options->owned_bundle);
    free(options->owned_pidfile);
    struct string_list *lists[] = {&options->runtime_args,       &options->runtime_opts,
                                   &options->exit_args,          &options->log_paths,
                                   &options->log_allowlist_dirs, &options->log_labels};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        free(lists[i]->items);
}
