// SPDX-License-Identifier: MIT
//
// signer - a worker's line to the guard, who has the private keys
//
// Owner:    one for each worker, for the life of the process.
// Thread:   the worker's loop.
#pragma once

#include "base/err.h"

// Opens a line, hands its other end to the guard, and makes it the loop's port for signatures. E_IO.
int signer_open(int channel) MUST_USE;
