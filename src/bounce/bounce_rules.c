// SPDX-License-Identifier: MIT
#include "bounce/bounce_rules.h"

#include <stdlib.h>

#include "base/check.h"

struct bounce_rules {
    uint32_t count;
};

struct bounce_rules *bounce_rules_default(void)
{
    return mem_new(sizeof(struct bounce_rules));
}

int bounce_rules_load(struct bytes text, const char *name, struct bounce_rules **out,
                      struct buf *errors)
{
    (void)text;
    (void)name;
    (void)errors;
    *out = bounce_rules_default();
    return OK;
}

void bounce_rules_free(struct bounce_rules *rules)
{
    free(rules);
}

struct bounce_verdict bounce_rules_match(const struct bounce_rules *rules,
                                         const struct bounce_reply *reply)
{
    (void)rules;
    struct bounce_verdict v = {.class = {BOUNCE_OTHER, false}, .again = reply->code / 100 == 4};
    if (bytes_starts(reply->enhanced, BYTES("5.1.1")))
        v.class = (struct bounce_class){BOUNCE_USER_UNKNOWN, reply->code / 100 == 5};
    else if (reply->code / 100 == 2)
        v.class.reason = BOUNCE_DELIVERED;
    return v;
}
