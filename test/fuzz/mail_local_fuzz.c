// SPDX-License-Identifier: MIT
// Whatever a program of this host writes: each recipient is one path without a line end in it, the header that comes
// out has no Bcc and is read the same again, and completing is done once.
#include "base/check.h"
#include "mail/mail_header.h"
#include "mail/mail_lines.h"
#include "mail/mail_local.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool has_field(struct bytes block, struct bytes name)
{
    struct mail_field field;
    return mail_header_find(block, name, &field);
}

static void check_completion(struct bytes value)
{
    struct buf once = {0}, twice = {0};
    mail_local_complete(value, BYTES("h.example"), &once);
    CHECK(once.len >= value.len);
    mail_local_complete(buf_bytes(&once), BYTES(""), &twice);
    CHECK(bytes_eq(buf_bytes(&once), buf_bytes(&twice)));
    buf_done(&once);
    buf_done(&twice);
}

static void check_message(struct bytes header, bool has_envelope)
{
    struct arena arena = {0};
    struct mail_local m = {.header = header,
                           .domain = BYTES("h.example"),
                           .from = BYTES("me@h.example"),
                           .has_envelope = has_envelope,
                           .take_recipients = !has_envelope};
    if (mail_local_read(&m, &arena) == OK) {
        for (size_t i = 0; i < m.count; i++) {
            CHECK(bytes_starts(m.recipients[i], BYTES("<")));
            CHECK(!bytes_has_control(m.recipients[i], NULL));
        }
        CHECK(!bytes_has_control(m.sender, NULL));
        CHECK(bytes_ends(buf_bytes(&m.out), BYTES("\r\n")));
        struct bytes block = bytes_first(buf_bytes(&m.out), m.out.len - 2);
        CHECK(!has_field(block, BYTES("Bcc")) && !has_field(block, BYTES("Resent-Bcc")));
        CHECK(has_field(block, BYTES("From")));
        struct mail_field field;
        while (mail_header_next(&block, &field))
            ;
        CHECK(block.len == 0);
    } else {
        CHECK(m.why.len > 0);
    }
    buf_done(&m.out);
    arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mail_lines lines = {.dot_ends = size && data[0] & 1};
    struct mail_header_reader reader;
    struct buf text = {0};
    size_t used;
    mail_lines_feed(&lines, bytes_of(data, size), &text);
    mail_lines_finish(&lines, &text);
    check_completion(buf_bytes(&text));
    mail_header_reader_init(&reader, NULL);
    enum mail_header_state state = mail_header_reader_feed(&reader, buf_bytes(&text), &used);
    if (state == MAIL_HEADER_MORE)
        state = mail_header_reader_finish(&reader);
    if (state == MAIL_HEADER_DONE) {
        check_message(buf_bytes(&reader.block), false);
        check_message(buf_bytes(&reader.block), true);
    }
    mail_header_reader_done(&reader);
    buf_done(&text);
    return 0;
}
