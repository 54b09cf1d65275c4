// SPDX-License-Identifier: MIT
//
// secret_file - a random secret in a file of the state folder, made at the first start and then always the same
#pragma once

#include "base/bytes.h"

// Reads FOLDER/NAME, or makes it (0600, flushed) where there is none. E_DAMAGED: it has another length, and is left as
// it is; E_DENIED, E_IO, E_FULL. Blocking.
int secret_file_load(struct bytes folder, const char *name, void *out, size_t bytes) MUST_USE;
