// SPDX-License-Identifier: MIT
// Whatever comes back: bounded, one line of UTF-8 each, a kind that fits the records, the same for LF and CRLF.
#include "base/check.h"
#include "bounce/bounce_class.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bounce_rules *rules;

static void check_record(const struct bounce_mail *mail, const struct bounce_record *r)
{
    CHECK(r->action <= DSN_EXPANDED);
    CHECK(r->class.reason > BOUNCE_NONE && r->class.reason < BOUNCE_REASONS);
    CHECK(r->diagnostic.len <= BOUNCE_DIAGNOSTIC_MAX * 3); // each bad byte may become three
    CHECK(bytes_is_utf8(r->diagnostic) && !bytes_has_control(r->diagnostic, NULL));
    CHECK(!bytes_has_control(r->recipient, NULL) && !bytes_has_control(r->status, NULL));
    CHECK(!r->class.hard ||
          (r->action == DSN_FAILED && bounce_reason_is_about_address(r->class.reason)));
    CHECK(r->reply_code == 0 || (r->reply_code >= 200 && r->reply_code < 600));
    CHECK(mail->kind != BOUNCE_KIND_SUCCESS || r->class.reason == BOUNCE_DELIVERED);
    CHECK(mail->kind != BOUNCE_KIND_COMPLAINT || r->class.reason == BOUNCE_COMPLAINT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!rules)
        rules = bounce_rules_default();
    struct bytes in = bytes_of(data, size);
    struct arena arena = {0};
    struct bounce_mail mail, again;
    struct bounce_reply reply;
    bounce_classify_mail(rules, in, &arena, &mail);
    CHECK((unsigned)mail.kind < BOUNCE_KINDS && mail.count <= BOUNCE_RECORDS_MAX);
    CHECK((mail.count == 0) == (mail.kind == BOUNCE_KIND_OTHER));
    for (uint32_t i = 0; i < mail.count; i++)
        check_record(&mail, &mail.records[i]);
    struct buf crlf = {0};
    for (size_t i = 0; i < size && i < BOUNCE_MAIL_MAX / 2; i++) {
        if (in.at[i] == '\n' && (i == 0 || in.at[i - 1] != '\r'))
            buf_add_byte(&crlf, '\r');
        buf_add_byte(&crlf, in.at[i]);
    }
    bounce_classify_mail(rules, buf_bytes(&crlf), &arena, &again);
    CHECK(again.kind == mail.kind && again.count == mail.count);
    struct bounce_verdict v = bounce_classify_text(rules, in, &reply);
    CHECK(v.class.reason > BOUNCE_NONE && v.class.reason < BOUNCE_REASONS);
    CHECK(!v.class.hard || bounce_reason_is_about_address(v.class.reason));
    CHECK(!(v.class.hard && v.again));
    buf_done(&crlf);
    arena_done(&arena);
    return 0;
}
