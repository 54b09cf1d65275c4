// SPDX-License-Identifier: MIT
//
// signer - a loop's line to the signer process, who has the private keys: what stands behind the loop's port `sign`
//
// If the signer ends, another line is opened as soon as the guard has another one; what is asked waits for it, for
// at most SIGNER_PATIENCE_MS, then it is refused until there is one.
//
// Owner:    one for each loop that asks, for the life of the process.
// Thread:   the loop's.
#pragma once

#include "base/err.h"

#define SIGNER_PATIENCE_MS 10000

// Opens a line, hands its other end to the guard, and makes it the loop's port for signatures. E_IO.
int signer_open(int channel) MUST_USE;
