// SPDX-License-Identifier: MIT
//
// route_file - reads a small file that the configuration names
#pragma once

#include "base/buf.h"

// Where the files come from: a process that is shut in has been handed them, and knows them by their paths. Appends
// the whole file to out (its cap is the limit); fails as route_file_read().
struct route_files {
    int (*read)(void *ctx, const char *path, struct buf *out);
    void *ctx;
};

// Appends the whole file to out (its cap is the limit). E_NOT_FOUND, E_DENIED, E_LIMIT, E_IO. A
// folder or device is E_IO.
int route_file_read(const char *path, struct buf *out) MUST_USE;
// The same of an open file, from its beginning; its position does not matter.
int route_file_read_fd(int fd, struct buf *out) MUST_USE;
