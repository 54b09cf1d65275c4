// SPDX-License-Identifier: MIT
//
// smtp_reply_fuzz - the parser of replies; the cut of the bytes changes nothing, the text is bounded and clean
#include "base/check.h"
#include "smtp/smtp_reply_parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// All replies of the input, appended to out in one form.
static void read_all(struct bytes in, size_t step, struct buf *out)
{
    struct smtp_reply_parser p;
    smtp_reply_parser_init(&p);
    while (in.len > 0) {
        size_t used;
        struct bytes piece = bytes_first(in, step);
        enum smtp_parse result = smtp_reply_parser_feed(&p, piece, &used);
        CHECK(used <= piece.len && p.text.len <= SMTP_REPLY_TEXT_MAX);
        if (result == SMTP_PARSE_BAD)
            break;
        CHECK(result == SMTP_PARSE_DONE || used == piece.len);
        if (result == SMTP_PARSE_DONE) {
            const struct smtp_reply *r = &p.reply;
            CHECK(!bytes_has_control(r->text, "\n"));
            CHECK(r->enhanced.class == 0 || r->enhanced.class == r->code / 100);
            buf_printf(out, "%u %u.%u.%u %.*s\n", r->code, r->enhanced.class, r->enhanced.subject,
                       r->enhanced.detail, BYTES_FMT(r->text));
        }
        in = bytes_skip(in, used);
    }
    smtp_reply_parser_done(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf whole = {0}, bytewise = {0};
    read_all(bytes_of(data, size), size ? size : 1, &whole);
    read_all(bytes_of(data, size), 1, &bytewise);
    CHECK(bytes_eq(buf_bytes(&whole), buf_bytes(&bytewise)));
    buf_done(&whole);
    buf_done(&bytewise);
    return 0;
}
