// SPDX-License-Identifier: MIT
//
// report - records what became of a batch: outcomes to the journal, notifications to the sender, the queue settled
//
// One frame holds the outcomes of up to REPORT_FRAME_RECIPIENTS recipients and the notification about those of
// them that the sender is to hear of, so that a failure is never recorded without its report (law 2), unless the spool
// cannot take that. The queue is settled with the same verdicts once the frame is flushed (law 8); what could not be
// recorded (the spool is stopping) stays leased. Where the disk is full a frame with a notification, and with no
// recipient that was delivered, is forgotten: these stay queued, deferred, or as they were where an operator returned them.
//
// Thread: the worker's.
#pragma once

#include "base/histogram.h"
#include "conf/conf_snapshot.h"
#include "deliver/verdict.h"
#include "intake/acceptance.h"

#define REPORT_FRAME_RECIPIENTS 60
#define REPORT_NAMED_AFTER_MS                                                                      \
    3600000 // since its acceptance: from then on outcomes name whom they are about

// Where the attempt went, or who returned the mail and why; slices are borrowed for the call.
struct report_facts {
    struct bytes mx, ip, tls, lane;
    struct bytes actor, reason;
};

// Failures and deferrals by reason, and how long deliveries took, for the metrics; read with relaxed atomics from any thread.
struct report_counters {
    _Atomic uint64_t failed[BOUNCE_REASONS], deferred[BOUNCE_REASONS];
    struct histogram delivery; // from when it could go out to when it was delivered
};

struct reporter {
    struct intake_port *port;
    struct report_counters *counters;     // or NULL
    const struct conf_snapshot *snapshot; // current; its owner replaces it on a reload
    uint32_t open;                        // reports whose frames are not flushed yet
    uint32_t put_off; // recipients that nothing was recorded of, for want of room
};

// Takes over the batch. `message` must be the batch's (a reference is taken; its envelope gives addresses and
// NOTIFY); verdicts[i] is about batch->recipients[i], copied.
void report_batch(struct reporter *r, struct queue_batch *batch, struct stored_message *message,
                  const struct verdict *verdicts, const struct report_facts *facts);
// The envelope's row of a recipient number, or NULL.
const struct recipient *report_recipient(const struct envelope *envelope, uint32_t number);
