// SPDX-License-Identifier: MIT
// The first line is the key record of every signature, the rest the message: the verdicts are the
// same however the body is cut, and none passes whose body hash is not the body's.
#include "base/check.h"
#include "mail/mail_header.h"
#include "sign/dkim_verify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct dkim_verify *judge(struct bytes header, struct bytes body, size_t step,
                                 struct bytes record)
{
    struct dkim_verify *v = dkim_verify_new(header, (struct wall){INT64_C(1700000000000000)});
    for (; body.len; body = bytes_skip(body, step))
        dkim_verify_body(v, bytes_first(body, step));
    dkim_verify_body_end(v);
    for (size_t i = 0; i < dkim_verify_count(v); i++)
        if (dkim_verify_key_name(v, i).len)
            dkim_verify_key(v, i, DKIM_KEY_FOUND, &record, 1);
    return v;
}

static void compare(struct bytes header, struct bytes body, struct bytes record)
{
    struct dkim_verify *whole = judge(header, body, SIZE_MAX, record);
    struct dkim_verify *cut = judge(header, body, 3, record);
    CHECK(dkim_verify_count(whole) == dkim_verify_count(cut));
    for (size_t i = 0; i < dkim_verify_count(whole); i++) {
        const struct dkim_verdict *a = dkim_verify_verdict(whole, i),
                                  *b = dkim_verify_verdict(cut, i);
        CHECK(a->result == b->result && a->reason == b->reason);
        CHECK(a->result != DKIM_TEMPERROR);
        CHECK(a->result == DKIM_PASS || a->reason[0]);
        CHECK(a->unsigned_bytes == b->unsigned_bytes);
    }
    dkim_verify_free(whole);
    dkim_verify_free(cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes message = bytes_of(data, size), record;
    struct mail_header_reader r;
    size_t used;
    if (!bytes_cut(&message, '\n', &record))
        return 0;
    mail_header_reader_init(&r, NULL);
    mail_header_reader_feed(&r, message, &used);
    if (mail_header_reader_finish(&r) == MAIL_HEADER_DONE)
        compare(buf_bytes(&r.block), bytes_skip(message, used - r.rest.len), record);
    mail_header_reader_done(&r);
    return 0;
}
