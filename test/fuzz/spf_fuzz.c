// SPDX-License-Identifier: MIT
// Records are taken from the input, a line each, by whatever is asked; a verdict is reached within the limits, and it is
// the same when every answer comes late.
#include "base/check.h"
#include "sign/spf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
    struct bytes lines[16];
    size_t count, told, known;
    bool slow;
    struct spf_record records[3];
};

static size_t line_of(const struct world *w, struct bytes name, enum spf_type type)
{
    size_t hash = type;
    for (size_t i = 0; i < name.len; i++)
        hash = hash * 31 + (uint8_t)name.at[i];
    return hash % (w->count + 1);
}

static enum spf_dns ask(void *ctx, struct bytes name, enum spf_type type,
                        const struct spf_record **out, size_t *out_count)
{
    struct world *w = ctx;
    size_t n = type == SPF_TXT && bytes_eq(name, BYTES("a.test")) ? 0 : line_of(w, name, type);
    if (w->slow && w->told++ >= w->known)
        return SPF_DNS_LATER;
    if (n >= w->count)
        return n % 2 ? SPF_DNS_NONE : SPF_DNS_FAILED;
    w->records[type % 3] = (struct spf_record){.text = w->lines[n], .ip = {192, 0, 2, 1}};
    *out = &w->records[type % 3];
    *out_count = 1;
    return SPF_DNS_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world w = {0};
    struct bytes rest = bytes_of((const char *)data, size);
    while (w.count < COUNT_OF(w.lines) && bytes_cut(&rest, '\n', &w.lines[w.count]))
        w.count++;
    struct spf_port port = {&w, ask};
    struct spf_question q = {
        .ip = {192, 0, 2, 1}, .domain = BYTES("a.test"), .helo = BYTES("h.test")};
    struct spf_verdict at_once, late;
    spf_check(&port, &q, &at_once);
    CHECK(at_once.result != SPF_LATER && at_once.lookups <= SPF_LOOKUPS_MAX + 1);
    CHECK(at_once.why[0]);
    w.slow = true;
    do {
        w.told = 0;
        spf_check(&port, &q, &late);
        w.known++;
        CHECK(w.known < 1000);
    } while (late.result == SPF_LATER);
    CHECK(late.result == at_once.result);
    return 0;
}
