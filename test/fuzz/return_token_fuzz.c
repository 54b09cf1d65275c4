// SPDX-License-Identifier: MIT
//
// Any bytes as a return path or an unsubscribe link: only what was made with the key is good, and it comes back as
// it was made.
#include "base/check.h"
#include "bounce/return_token.h"
#include "bounce/unsubscribe_token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct return_key KEY = {{1, 2, 3}};

static void make_and_read(struct bytes text)
{
    struct return_token t = {RETURN_BOUNCE, {0, 0}, 0, false}, back;
    char local[RETURN_LOCAL_CHARS + 1];
    memcpy(&t.id.high, text.at, 8);
    memcpy(&t.id.low, text.at + 8, 4);
    memcpy(&t.recipient, text.at + 12, 2);
    t.several = t.recipient && text.at[0] & 1;
    return_token_format(&KEY, &t, local);
    CHECK(return_token_parse(&KEY, bytes_cstr(local), &back) == RETURN_GOOD);
    CHECK(message_id_eq(back.id, t.id) && back.recipient == t.recipient && back.kind == t.kind);
    CHECK(back.several == t.several);

    struct arena arena = {0};
    struct buf link = {0};
    struct bytes rest = bytes_first(bytes_skip(text, 14), 400);
    size_t tag = rest.len / 4;
    struct unsubscribe_token u = {.id = t.id,
                                  .recipient = t.recipient,
                                  .account = 1,
                                  .tag = bytes_first(rest, tag),
                                  .sender = bytes_first(rest, tag / 2),
                                  .address = bytes_skip(rest, tag)},
                             again;
    if (u.address.len) {
        unsubscribe_token_format(&KEY, &u, &link);
        CHECK(unsubscribe_token_parse(&KEY, buf_bytes(&link), &arena, &again) == OK);
        CHECK(bytes_eq(again.tag, u.tag) && bytes_eq(again.address, u.address));
    }
    buf_done(&link);
    arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_of(data, size);
    struct return_token token;
    struct unsubscribe_token link;
    struct arena arena = {0};
    // Eighty bits are not found by chance.
    CHECK(return_token_parse(&KEY, text, &token) != RETURN_GOOD);
    CHECK(!return_token_search(&KEY, text, &token));
    CHECK(unsubscribe_token_parse(&KEY, text, &arena, &link) == E_SYNTAX);
    if (size >= 14)
        make_and_read(text);
    arena_done(&arena);
    return 0;
}
