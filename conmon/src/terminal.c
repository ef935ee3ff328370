// SPDX-License-Identifier: Apache-2.0
#include "terminal.h"

#include "conmon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>

#define SOCKET_NAME "console"

void terminal_close_socket(struct conmon *conmon)
{
    struct terminal *terminal = &conmon->terminal;

    source_close(conmon, &terminal->listener);
    source_close(conmon, &terminal->connection);
    if (terminal->path != NULL)
        unlink(terminal->path);
    if (terminal->folder != NULL)
        rmdir(terminal->folder);
    free(terminal->path);
    free(terminal->folder);
    terminal->path = NULL;
    terminal->folder = NULL;
}

void terminal_resize(struct conmon *conmon, unsigned short rows, unsigned short columns)
{
    struct winsize size = {.ws_row = rows, .ws_col = columns};

    conmon->terminal.sized = true;
    conmon->terminal.rows = rows;
    conmon->terminal.columns = columns;
    if (!conmon->options.terminal || conmon->streams.out.fd < 0)
        return;
    if (ioctl(conmon->streams.out.fd, TIOCSWINSZ, &size) < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "resize the terminal: %s", strerror(errno));
}

/* Takes over a pty master. */
static int adopt_master(struct conmon *conmon, int master, struct error *err)
{
    _cleanup_close_ int fd = master;
    struct termios settings;
    struct terminal *terminal = &conmon->terminal;

    /* Kubernetes' clients expect \r\n at the ends of lines, which a runtime may have switched off. */
    if (tcgetattr(fd, &settings) < 0)
        return error_set(err, errno, "the runtime sent something that is no terminal");
    settings.c_oflag |= ONLCR;
    if (tcsetattr(fd, TCSANOW, &settings) < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "set up the terminal: %s", strerror(errno));
    if (set_nonblocking(fd, err) < 0)
        return -1;
    int input = fcntl(fd, F_DUPFD_CLOEXEC, 3); /* watched on its own, for writing */
    if (input < 0)
        return error_set(err, errno, "duplicate the terminal");
    conmon->streams.out.fd = take_fd(&fd);
    attach_set_stdin(conmon, input);
    if (terminal->sized)
        terminal_resize(conmon, terminal->rows, terminal->columns);
    return 0;
}

/* Receives the message with the master. 1 when it came, 0 when there is none yet. */
static int receive_master(struct conmon *conmon, struct error *err)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    char name[256];
    struct iovec vector = {.iov_base = name, .iov_len = sizeof(name)};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    int fd = -1;

    ssize_t got = recvmsg(conmon->terminal.connection.fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : error_set(err, errno, "receive the terminal");
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header == NULL || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
        header->cmsg_len != CMSG_LEN(sizeof(int)))
        return error_set(err, 0, "the runtime sent no terminal");
    memcpy(&fd, CMSG_DATA(header), sizeof(fd));
    if (adopt_master(conmon, fd, err) < 0)
        return -1;
    terminal_close_socket(conmon);
    return 1;
}

static void on_message(struct conmon *conmon, struct source *source, uint32_t events)
{
    _cleanup_error_ struct error err = {0};

    (void)events;
    if (receive_master(conmon, &err) >= 0)
        return;
    report(&conmon->diagnostics, SEVERITY_WARNING, "%s", error_text(&err));
    source_close(conmon, source);
}

static void on_connection(struct conmon *conmon, struct source *source, uint32_t events)
{
    _cleanup_error_ struct error err = {0};
    struct source *connection = &conmon->terminal.connection;

    (void)events;
    source_close(conmon, connection);
    *connection = (struct source){.fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK),
                                  .on_ready = on_message};
    if (connection->fd >= 0 && source_watch(conmon, connection, EPOLLIN, &err) < 0)
        report(&conmon->diagnostics, SEVERITY_WARNING, "%s", error_text(&err));
}

int terminal_listen(struct conmon *conmon, struct error *err)
{
    struct terminal *terminal = &conmon->terminal;
    const char *base = getenv("TMPDIR");
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    /* The runtime connects by this path, so it must fit into a socket address; a long TMPDIR would not. */
    if (base == NULL || base[0] != '/' || strlen(base) > sizeof(address.sun_path) / 2)
        base = "/tmp";
    if (asprintf(&terminal->folder, "%s/conmon-term.XXXXXX", base) < 0) {
        terminal->folder = NULL;
        return error_set(err, ENOMEM, "name the console socket");
    }
    if (mkdtemp(terminal->folder) == NULL) {
        error_set(err, errno, "create %s", terminal->folder);
        free(terminal->folder);
        terminal->folder = NULL;
        return -1;
    }
    if (asprintf(&terminal->path, "%s/%s", terminal->folder, SOCKET_NAME) < 0) {
        terminal->path = NULL;
        return error_set(err, ENOMEM, "name the console socket");
    }
    terminal->listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (terminal->listener.fd < 0)
        return error_set(err, errno, "create the console socket");
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", terminal->path);
    if (bind(terminal->listener.fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return error_set(err, errno, "bind %s", terminal->path);
    if (listen(terminal->listener.fd, 1) < 0)
        return error_set(err, errno, "listen on %s", terminal->path);
    terminal->listener.on_ready = on_connection;
    return source_watch(conmon, &terminal->listener, EPOLLIN, err);
}

int terminal_receive(struct conmon *conmon, struct error *err)
{
    struct terminal *terminal = &conmon->terminal;

    if (conmon->streams.out.fd >= 0)
        return 0;
    if (terminal->connection.fd < 0)
        on_connection(conmon, &terminal->listener, 0);
    if (terminal->connection.fd < 0)
        return error_set(err, 0, "the runtime did not set up a terminal");
    int received = receive_master(conmon, err);
    if (received < 0)
        return -1;
    return received > 0 ? 0 : error_set(err, 0, "the runtime did not set up a terminal");
}
