// SPDX-License-Identifier: MIT
//
// route_file - reads a small file that the configuration names
#pragma once

#include "base/buf.h"

// Appends the whole file to out (its cap is the limit). E_NOT_FOUND, E_DENIED, E_LIMIT, E_IO. A
// folder or device is E_IO.
int route_file_read(const char *path, struct buf *out) MUST_USE;
