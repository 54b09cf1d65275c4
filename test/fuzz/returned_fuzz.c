// SPDX-License-Identifier: MIT
//
// Any mail at a listener for bounces: what it says is about recipients of the message that the token names, within the
// limits, and can be kept and read again.
#include "base/check.h"
#include "bounce/returned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct return_key KEY = {{1, 2, 3}};
static struct recipient recipients[] = {
    {.number = 1, .address = {"one@example.org", 15}},
    {.number = 2, .address = {"two@example.org", 15}},
    {.number = 3, .address = {"three@example.org", 17}},
};

static void keep(const struct spool_feedback *f, const struct envelope *e)
{
    struct buf meta = {0};
    struct spool_feedback again;
    CHECK(f->recipient >= 1 && f->recipient <= e->recipients_count && f->kind < FEEDBACK_KINDS);
    CHECK(bytes_eq(f->address, e->recipients[f->recipient - 1].address));
    CHECK(!f->class.hard || f->kind == FEEDBACK_BOUNCE);
    CHECK(f->kind != FEEDBACK_UNSUBSCRIBE);
    feedback_encode(f, &meta);
    CHECK(feedback_decode(f->id, buf_bytes(&meta), &again) == OK);
    CHECK(again.kind == f->kind && again.class.reason == f->class.reason);
    CHECK(again.class.hard == f->class.hard && bytes_eq(again.address, f->address));
    buf_done(&meta);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bounce_rules *rules;
    struct bytes text = bytes_of(data, size);
    struct return_token found;
    struct arena arena = {0};
    struct bounce_mail mail;
    if (!rules)
        rules = bounce_rules_default();
    struct envelope e = {.recipients = recipients, .recipients_count = 3};
    bounce_classify_mail(rules, text, &arena, &mail);
    CHECK(!return_token_search(&KEY, text, &found));
    for (uint32_t number = 0; number <= 3; number++) {
        struct returned r = {
            .token = {RETURN_BOUNCE, {1, 2}, number}, .mail = &mail, .envelope = &e};
        struct spool_feedback *f;
        size_t count = returned_feedback(&r, &arena, &f);
        CHECK(number ? count == 1 : count <= 3);
        for (size_t i = 0; i < count; i++)
            keep(&f[i], &e);
    }
    arena_done(&arena);
    return 0;
}
