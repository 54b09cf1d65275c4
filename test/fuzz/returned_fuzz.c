// SPDX-License-Identifier: MIT
//
// Any mail at a listener for bounces: what it says is about recipients of the message that the token names, within the
// limits, and can be kept and read again.
#include "base/check.h"
#include "bounce/returned.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct return_key KEY = {{1, 2, 3}};
static struct recipient recipients[] = {
    {.number = 1, .address = {"one@example.org", 15}, .domain = {"example.org", 11}},
    {.number = 2, .address = {"two@example.org", 15}, .domain = {"example.org", 11}},
    {.number = 3, .address = {"three@other.example", 19}, .domain = {"other.example", 13}},
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
    for (uint32_t i = 0; i <= 6; i++) {
        struct return_token token = {RETURN_BOUNCE, {1, 2}, i > 3 ? i - 3 : i, i > 3};
        struct returned r = {.token = token, .mail = &mail, .envelope = &e};
        struct spool_feedback *f;
        size_t count = returned_feedback(&r, &arena, &f);
        CHECK(!token.recipient ? count <= 3 : !token.several ? count == 1 : count <= 2);
        for (size_t k = 0; k < count; k++) {
            keep(&f[k], &e);
            CHECK(!token.several || (f[k].recipient == 3) == (token.recipient == 3));
        }
    }
    arena_done(&arena);
    return 0;
}
