// SPDX-License-Identifier: Apache-2.0
#pragma once

/*
 * The error slot. A function that can fail takes one as its last argument, returns a negative number when it
 * failed and fills the slot; on success the slot is left alone. The caller that owns the slot declares it
 * `_cleanup_error_`, so there is nothing to free by hand.
 */
struct error {
    int number; /* errno at the time, or 0 */
    char *text; /* names the object and the cause; NULL while there is no error */
};

void error_clear(struct error *err);
#define _cleanup_error_ __attribute__((cleanup(error_clear)))

/* Fills the slot; a non-zero errno is appended as text. Returns -1, so that callers can `return
 * error_set(...)`. */
int error_set(struct error *err, int number, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The text, or a stand-in when memory was too short to keep one. */
const char *error_text(const struct error *err);
