// SPDX-License-Identifier: MIT
#include "bounce/bounce_class.h"

#include "base/check.h"

static const char *const KINDS[BOUNCE_KINDS] = {
    [BOUNCE_KIND_OTHER] = "other",           [BOUNCE_KIND_BOUNCE] = "bounce",
    [BOUNCE_KIND_DELAY] = "delay",           [BOUNCE_KIND_COMPLAINT] = "complaint",
    [BOUNCE_KIND_AUTO_REPLY] = "auto-reply", [BOUNCE_KIND_SUCCESS] = "success",
};

const char *bounce_kind_name(enum bounce_kind kind)
{
    CHECK((unsigned)kind < BOUNCE_KINDS);
    return KINDS[kind];
}

struct bounce_verdict bounce_classify_reply(const struct bounce_rules *rules,
                                            const struct bounce_reply *reply)
{
    return bounce_rules_match(rules, reply);
}

void bounce_classify_mail(const struct bounce_rules *rules, struct bytes mail, struct arena *arena,
                          struct bounce_mail *out)
{
    (void)rules;
    (void)mail;
    (void)arena;
    *out = (struct bounce_mail){.kind = BOUNCE_KIND_OTHER};
}
