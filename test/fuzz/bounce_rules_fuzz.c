// SPDX-License-Identifier: MIT
// A rules file, and behind a NUL a reply to try its rules on: errors have a place, rules that load never crash.
#include "base/check.h"
#include "bounce/bounce_class.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_of(data, size), text = in;
    ptrdiff_t end = bytes_find(in, '\0');
    struct bytes reply_text = BYTES_NONE;
    if (end >= 0) {
        text = bytes_first(in, (size_t)end);
        reply_text = bytes_skip(in, (size_t)end + 1);
    }
    struct bounce_rules *rules;
    struct bounce_reply reply;
    struct buf errors = {0};
    int err = bounce_rules_load(text, "f", &rules, &errors);
    CHECK((err == OK) == (rules != NULL) && (err == OK) == (errors.len == 0));
    if (rules) {
        struct bounce_verdict v = bounce_classify_text(rules, reply_text, &reply);
        CHECK(v.class.reason > BOUNCE_NONE && v.class.reason < BOUNCE_REASONS);
        CHECK(!v.rule.len || v.alternative < bounce_rules_alternatives(rules));
        for (uint32_t i = 0; i < bounce_rules_alternatives(rules) && i < 50; i++) {
            struct buf said = {0};
            bounce_rules_describe(rules, i, &said);
            CHECK(said.len > 0);
            buf_done(&said);
        }
    }
    bounce_rules_free(rules);
    buf_done(&errors);
    return 0;
}
