// SPDX-License-Identifier: MIT
//
// signer_process - the process that has the private keys, and does nothing but sign
//
// A child of the guard, with a thread for each core and one more. It gets certificates' keys and the lines of the
// relay's workers over its channel to the guard, DKIM's keys sealed with the requests. It opens no file and no socket,
// and is shut in so that it can't (daemon/sandbox.h). It ends with the guard.
#pragma once

#include "daemon/key_seal.h"

#define SIGNER_THREADS_MAX 64

// Runs it with the guard at the other end of `channel`. `master` is wiped. Does not return.
_Noreturn void signer_process_main(int channel, struct key_master *master);
