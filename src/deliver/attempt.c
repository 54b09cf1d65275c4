// SPDX-License-Identifier: MIT
#include "deliver/attempt.h"

#include "sys/sys.h"

bool attempt_is_watched(struct trace *trace, const struct queue_batch *batch,
                        const struct envelope *envelope)
{
    bool is = false;
    for (uint32_t i = 0; trace && i < batch->count && !is; i++) {
        const struct recipient *r = report_recipient(envelope, batch->recipients[i].number);
        is = r && trace_is_watched(trace, r->address, r->domain, sys_wall());
    }
    return is;
}

static enum trace_result result_of(const struct attempt *a)
{
    uint32_t taken = 0, failed = 0, count = a->batch->count;
    for (uint32_t i = 0; i < count; i++) {
        enum verdict_kind kind = a->verdicts[i].kind;
        taken += kind <= VERDICT_PASSED;
        failed += kind == VERDICT_FAILED || kind == VERDICT_EXPIRED;
    }
    return taken == count        ? TRACE_DELIVERED
           : failed == count     ? TRACE_FAILED
           : taken + failed == 0 ? TRACE_DEFERRED
                                 : TRACE_MIXED;
}

static void note_verdict(struct dialogue *d, const struct attempt *a)
{
    const struct verdict *v = &a->verdicts[0];
    struct buf text = {0};
    if (!v->remote && v->text[0])
        buf_printf(&text, "%s%s%s", v->enhanced, v->enhanced[0] ? " " : "", v->text);
    else if (v->kind == VERDICT_UNTRIED)
        buf_printf(&text, "not tried: %s", a->trouble[0] ? a->trouble : "the server has left");
    if (text.len)
        dialogue_add(d, sys_mono(), DIALOGUE_NOTE, buf_bytes(&text));
    buf_done(&text);
}

void attempt_keep(struct trace *trace, struct dialogue *d, const struct attempt *a)
{
    uint32_t numbers[TRACE_NUMBERS_MAX], count = 0;
    if (!trace)
        return;
    note_verdict(d, a);
    for (; count < a->batch->count && count < TRACE_NUMBERS_MAX; count++)
        numbers[count] = a->batch->recipients[count].number;
    struct trace_attempt kept = {.id = a->batch->id,
                                 .at = sys_wall(),
                                 .result = result_of(a),
                                 .recorded = d->all,
                                 .left_out = d->left_out,
                                 .numbers = numbers,
                                 .numbers_count = count,
                                 .lane = a->facts->lane,
                                 .mx = a->facts->mx,
                                 .ip = a->facts->ip,
                                 .tls = a->facts->tls,
                                 .opening = buf_bytes(&d->opening),
                                 .first = buf_bytes(&d->first),
                                 .last = buf_bytes(&d->last)};
    trace_keep(trace, &kept);
}
