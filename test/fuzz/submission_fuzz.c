// SPDX-License-Identifier: MIT
// A header that is accepted reads again; it has one From (unless nothing is to be repaired), no Bcc, none of our
// instructions, and every address of every From and Sender belongs to the account (law 3).
#include "base/check.h"
#include "intake/submission.h"
#include "mail/mail_address_list.h"
#include "mail/mail_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum submission_ownership owns(void *ctx, struct bytes domain)
{
    (void)ctx;
    return bytes_eq(domain, BYTES("own.example")) ? SUBMISSION_OWNED : SUBMISSION_NOT_OWNED;
}

static void check_owned(struct bytes value)
{
    struct arena arena = {0};
    struct mail_address_list list;
    CHECK(mail_address_list_parse(value, &arena, &list) == OK);
    for (size_t i = 0; i < list.count; i++) {
        struct buf domain = {0};
        CHECK(mail_domain_route(list.mailboxes[i].address.domain, &domain) == OK);
        CHECK(bytes_eq(buf_bytes(&domain), BYTES("own.example")));
        buf_done(&domain);
    }
    arena_done(&arena);
}

static void check_accepted(const struct submission *s)
{
    struct mail_header_reader reader;
    size_t used;
    // Lines of any length: programs of this host may send such, and so may anybody with submission: off. As many fields
    // as there is room for: the content's size is the limit.
    mail_header_reader_init(
        &reader, &(struct mail_header_limits){.fields_max = 1 << 20, .line_max = 1 << 20});
    mail_header_reader_feed(&reader, buf_bytes(&s->out), &used);
    CHECK(mail_header_reader_finish(&reader) == MAIL_HEADER_DONE && reader.has_separator);
    CHECK(used == s->out.len && reader.rest.len == 0);
    struct bytes block = buf_bytes(&reader.block), rest = block;
    struct mail_field field;
    while (mail_header_next(&rest, &field)) {
        if (bytes_eq_nocase(field.name, BYTES("From")) ||
            bytes_eq_nocase(field.name, BYTES("Sender")))
            check_owned(field.value);
        CHECK(!bytes_eq_nocase(field.name, BYTES("X-Posthaste-Class")));
    }
    CHECK(mail_header_count(block, BYTES("Received")) >= 1);
    if (s->mode != CONF_SUBMISSION_OFF) {
        CHECK(mail_header_count(block, BYTES("From")) == 1);
        CHECK(mail_header_count(block, BYTES("Bcc")) == 0);
        CHECK(mail_header_count(block, BYTES("Date")) == 1);
    }
    mail_header_reader_done(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct bytes header = bytes_of(data + 1, size - 1);
    // What the content reader hands over: lines that end in CRLF, no empty one, no NUL.
    if (bytes_find(header, '\0') != -1 || bytes_search(header, BYTES("\r\n\r\n")) != -1 ||
        bytes_starts(header, BYTES("\r\n")) || (header.len && !bytes_ends(header, BYTES("\r\n"))))
        return 0;
    for (size_t i = 0; i < header.len; i++)
        if ((header.at[i] == '\n' && (i == 0 || header.at[i - 1] != '\r')) ||
            (header.at[i] == '\r' && (i + 1 == header.len || header.at[i + 1] != '\n')))
            return 0;
    struct submission s = {.mode = (enum conf_submission)(data[0] % 3),
                           .header = header,
                           .smtputf8 = data[0] & 4,
                           .authenticated = true,
                           .received_max = 50,
                           .header_bytes_max = 262144,
                           .now = {1795327200000000},
                           .hostname = BYTES("mx.own.example"),
                           .helo = BYTES("client"),
                           .protocol = BYTES("ESMTPSA"),
                           .owns = owns};
    struct arena arena = {0};
    if (submission_check(&s, &arena))
        check_accepted(&s);
    else
        CHECK(s.refusal != SMTP_REPLY_NONE);
    buf_done(&s.out);
    arena_done(&arena);
    return 0;
}
