// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdlib.h>
#include <unistd.h>

/* Owners: the variable is released at the end of its scope. Giving it away means setting it to -1 or NULL. */
static inline void cleanup_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void cleanup_free(void *pointer)
{
    free(*(void **)pointer);
}

#define _cleanup_close_ __attribute__((cleanup(cleanup_close)))
#define _cleanup_free_ __attribute__((cleanup(cleanup_free)))

/* Hands a descriptor over to the caller and forgets it. */
static inline int take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

/* Closes now rather than at the end of the scope. */
static inline void close_fd(int *fd)
{
    cleanup_close(fd);
    *fd = -1;
}
