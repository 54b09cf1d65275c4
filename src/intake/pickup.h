// SPDX-License-Identifier: MIT
//
// pickup - a directory whose files are messages to be sent
//
// Programs move files in (rename, so that a file is whole when it is seen); each is handed to the submission socket as
// its owner's (intake/local_submit.h), and removed once the answer says that it is durable. So a file is never lost,
// and a crash between the two costs at most one second copy. mail/mail_local.h has what a file may begin with.
// sendmail(1) writes here while the service is down.
//
// What is refused is moved to bad/ in it, beside NAME.reason. What can't be taken now stays and is tried again. Names
// that begin with a dot, and folders, are left alone; links, and what is no plain file, are set aside unread.
//
// Owner:  the daemon. Thread: a loop of its own, which blocks.
// Limits: one file at a time; limits.message_size.
#pragma once

#include <stdatomic.h>

#include "base/bytes.h"

#define PICKUP_LOOK_MS 60000  // whether there is something that nobody told of
#define PICKUP_RETRY_MS 10000 // after what can't be taken now

// What is counted for the metrics; any thread.
struct pickup_counters {
    _Atomic uint64_t taken, refused;
    _Atomic uint64_t waiting; // files that could not be taken when they were last tried
};

struct pickup_options {
    struct bytes directory, socket; // copied
    uint64_t message_size_max;
    struct pickup_counters *counters;
};

struct pickup;
// NULL: there is no such directory that could be read; logged.
struct pickup *pickup_start(const struct pickup_options *options);
// Ends with the file at hand, whose connection is cut: for when the service takes no more. NULL is fine.
void pickup_stop(struct pickup *p);
