// SPDX-License-Identifier: MIT
// A body has one canonical form however it is cut, and that form is its own; so has a header field.
#include "base/check.h"
#include "sign/dkim_canon.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void gather(void *ctx, struct bytes piece)
{
    buf_add(ctx, piece);
}

static void canon_body(enum dkim_canon canon, struct bytes body, size_t step, struct buf *out)
{
    struct dkim_canon_body b;
    dkim_canon_body_init(&b, canon, gather, out);
    for (; body.len; body = bytes_skip(body, step))
        dkim_canon_body_feed(&b, bytes_first(body, step));
    dkim_canon_body_finish(&b);
}

static void check_body(enum dkim_canon canon, struct bytes body)
{
    struct buf whole = {0}, cut = {0}, again = {0};
    canon_body(canon, body, SIZE_MAX, &whole);
    for (size_t step = 1; step < 8; step += 3) {
        buf_clear(&cut);
        canon_body(canon, body, step, &cut);
        CHECK(bytes_eq(buf_bytes(&cut), buf_bytes(&whole)));
    }
    canon_body(canon, buf_bytes(&whole), SIZE_MAX, &again);
    CHECK(bytes_eq(buf_bytes(&again), buf_bytes(&whole)));
    CHECK(whole.len <= body.len + 2);
    CHECK(whole.len == 0 || bytes_ends(buf_bytes(&whole), BYTES("\r\n")));
    buf_done(&whole);
    buf_done(&cut);
    buf_done(&again);
}

// A header has none (mail_header.h); where unfolding joined two, another line end would appear.
static bool has_bare_newline(struct bytes raw)
{
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.at[i] == '\n' || (raw.at[i] == '\r' && (i + 1 == raw.len || raw.at[i + 1] != '\n')))
            return true;
        i += raw.at[i] == '\r';
    }
    return false;
}

static void check_field(enum dkim_canon canon, struct bytes raw)
{
    if (has_bare_newline(raw))
        return;
    struct buf once = {0}, twice = {0}, signature = {0};
    dkim_canon_field(canon, raw, &once);
    dkim_canon_field(canon, buf_bytes(&once), &twice);
    CHECK(bytes_eq(buf_bytes(&once), buf_bytes(&twice)));
    dkim_canon_signature(canon, raw, &signature);
    CHECK(signature.len <= once.len);
    buf_done(&once);
    buf_done(&twice);
    buf_done(&signature);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_body(DKIM_SIMPLE, bytes_of(data, size));
    check_body(DKIM_RELAXED, bytes_of(data, size));
    check_field(DKIM_SIMPLE, bytes_of(data, size));
    check_field(DKIM_RELAXED, bytes_of(data, size));
    return 0;
}
