// SPDX-License-Identifier: MIT
// The downgrade gives the same for every cut, its result is 7-bit, and needs no further change. The
// first byte chooses the flags and the cuts.
#include "base/check.h"
#include "mail/mail_downgrade.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void emit(void *ctx, struct bytes piece)
{
    buf_add(ctx, piece);
}

static int downgrade(struct bytes message, unsigned flags, size_t step, bool *out_is_needed,
                     struct buf *out)
{
    struct mail_downgrade_plan plan;
    mail_downgrade_plan_start(&plan, flags);
    for (struct bytes rest = message; rest.len; rest = bytes_skip(rest, step))
        mail_downgrade_plan_feed(&plan, bytes_first(rest, step));
    int err = mail_downgrade_plan_finish(&plan);
    *out_is_needed = plan.is_needed;
    if (err == OK) {
        struct mail_downgrade *d = mail_downgrade_new(&plan, emit, out);
        for (struct bytes rest = message; rest.len; rest = bytes_skip(rest, step))
            CHECK(mail_downgrade_feed(d, bytes_first(rest, step)) == OK);
        CHECK(mail_downgrade_finish(d) == OK);
        mail_downgrade_free(d);
    }
    mail_downgrade_plan_done(&plan);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct bytes message = bytes_of(data + 1, size - 1);
    struct buf whole = {0}, cut = {0}, again = {0};
    bool needed, needed_again;
    unsigned flags = data[0] & 7;
    int err = downgrade(message, flags, SIZE_MAX, &needed, &whole);
    CHECK(downgrade(message, flags, 1 + (data[0] >> 3), &needed_again, &cut) == err);
    if (err == OK) {
        CHECK(needed == needed_again);
        CHECK(bytes_eq(buf_bytes(&whole), buf_bytes(&cut)));
        CHECK(needed || bytes_eq(buf_bytes(&whole), message));
        CHECK((flags & MAIL_DOWNGRADE_KEEP_8BIT) || bytes_is_ascii(buf_bytes(&whole)));
        CHECK(downgrade(buf_bytes(&whole), flags, SIZE_MAX, &needed_again, &again) == OK);
        CHECK(!needed_again);
    }
    buf_done(&whole);
    buf_done(&cut);
    buf_done(&again);
    return 0;
}
