// SPDX-License-Identifier: MIT
//
// Rules of `posthaste sink` of any bytes: errors, or verdicts at every step.
#include "base/check.h"
#include "cli/sink_rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sink_rules *rules;
    struct buf errors = {0};
    if (size > 65536)
        return 0;
    int err = sink_rules_parse(bytes_of(data, size), "rules", &rules, &errors);
    CHECK((err == OK) == (errors.len == 0) && (err == OK) == (rules != NULL));
    for (int step = SINK_CONNECT; step < SINK_STEPS && !err; step++) {
        const struct bytes who[] = {BYTES("a@b.example"), BYTES("user7@load.example")};
        struct sink_verdict v =
            sink_rules_ask(rules, (enum sink_step)step, who, 2, (struct mono){1});
        CHECK(v.kind != SINK_REPLY || (v.code >= 200 && v.code <= 599));
        CHECK(v.delay_ms >= 0 && (uint64_t)v.delay_ms <= SINK_DELAY_MS_MAX);
    }
    sink_rules_free(rules);
    buf_done(&errors);
    return 0;
}
