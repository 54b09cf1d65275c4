// SPDX-License-Identifier: MIT
//
// attempt - what is kept of a transaction's dialogue once it is known what became of it (deliver/trace.h)
#pragma once

#include "deliver/dialogue.h"
#include "deliver/report.h"
#include "deliver/trace.h"

// Is all to be recorded of it? trace may be NULL: no.
bool attempt_is_watched(struct trace *trace, const struct queue_batch *batch,
                        const struct envelope *envelope);

struct attempt {
    const struct queue_batch *batch;
    const struct verdict *verdicts; // one for each of its recipients
    const struct report_facts *facts;
    const char *trouble; // why it was not tried, where that is so; may be ""
};
// Keeps a copy of the dialogue; what was decided here, not by the server, is noted in it. trace may be NULL: nothing.
void attempt_keep(struct trace *trace, struct dialogue *d, const struct attempt *attempt);
