// SPDX-License-Identifier: Apache-2.0
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void error_clear(struct error *err)
{
    free(err->text);
    err->text = NULL;
    err->number = 0;
}

int error_set(struct error *err, int number, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);

    error_clear(err);
    err->number = number;
    if (number != 0 && text != NULL) {
        if (asprintf(&err->text, "%s: %s", text, strerror(number)) < 0)
            err->text = NULL;
        free(text);
    } else {
        err->text = text;
    }
    return -1;
}

const char *error_text(const struct error *err)
{
    return err->text != NULL ? err->text : "out of memory";
}
