// SPDX-License-Identifier: MIT
// Whatever is fed, whole or cut at every byte, the same is found, in order, at most one of each kind, and the verdict
// is the worst of them.
#include "base/check.h"
#include "mail/preflight.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct bytes message, size_t step, struct preflight_result *out)
{
    struct preflight *p = preflight_new();
    struct preflight_facts facts = {.class = MAIL_BULK, .mail_from = BYTES("shop.test")};
    for (; message.len; message = bytes_skip(message, step))
        preflight_feed(p, bytes_first(message, step));
    preflight_finish(p, &facts, out);
    preflight_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes message = bytes_of((const char *)data, size);
    struct preflight_result whole, cut;
    enum preflight_severity worst = PREFLIGHT_OK;
    check(message, size ? size : 1, &whole);
    check(message, 1, &cut);
    CHECK(whole.count == cut.count && whole.verdict == cut.verdict && whole.count <= PREFLIGHT_IDS);
    for (size_t i = 0; i < whole.count; i++) {
        const struct preflight_finding *f = &whole.findings[i];
        CHECK(f->id == cut.findings[i].id);
        CHECK(bytes_eq(bytes_cstr(f->where), bytes_cstr(cut.findings[i].where)));
        CHECK(i == 0 || f->id > whole.findings[i - 1].id);
        CHECK(!bytes_has_control(bytes_cstr(f->where), NULL));
        if (preflight_row(f->id)->severity > worst)
            worst = preflight_row(f->id)->severity;
    }
    CHECK(whole.verdict == worst);
    return 0;
}
