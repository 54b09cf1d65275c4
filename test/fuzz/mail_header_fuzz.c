// SPDX-License-Identifier: MIT
// The reader gives the same for the whole and for single bytes; fields, separator and rest are the
// message.
#include "base/check.h"
#include "mail/mail_date.h"
#include "mail/mail_header.h"
#include "mail/mail_mime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct mail_header_limits limits = {4000, 20, 300};

static void check_whole(struct mail_header_reader *r, struct bytes message, size_t used)
{
    struct bytes rest = buf_bytes(&r->block);
    struct mail_field field;
    struct arena arena = {0};
    struct mail_content_type type;
    struct wall t;
    size_t fields = 0;
    for (; mail_header_next(&rest, &field); fields++) {
        (void)!mail_content_type_parse(field.value, &arena, &type);
        (void)!mail_date_parse(field.value, &t);
    }
    CHECK(rest.len == 0 && fields == r->fields);
    CHECK(used == r->block.len + r->rest.len + (r->has_separator ? 2 : 0));
    CHECK(bytes_starts(message, buf_bytes(&r->block)));
    (void)mail_encoding_of(buf_bytes(&r->block));
    arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mail_header_reader whole, single;
    struct bytes message = bytes_of(data, size);
    size_t used, total = 0;
    mail_header_reader_init(&whole, &limits);
    mail_header_reader_init(&single, &limits);
    mail_header_reader_feed(&whole, message, &used);
    for (size_t i = 0; i < size && single.state == MAIL_HEADER_MORE; i++) {
        size_t one;
        mail_header_reader_feed(&single, bytes_mid(message, i, 1), &one);
        total += one;
    }
    CHECK(mail_header_reader_finish(&whole) == mail_header_reader_finish(&single));
    if (whole.state == MAIL_HEADER_DONE) {
        CHECK(total == used);
        CHECK(bytes_eq(buf_bytes(&whole.block), buf_bytes(&single.block)));
        CHECK(bytes_eq(buf_bytes(&whole.rest), buf_bytes(&single.rest)));
        check_whole(&whole, message, used);
    }
    mail_header_reader_done(&whole);
    mail_header_reader_done(&single);
    return 0;
}
