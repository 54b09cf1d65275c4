// SPDX-License-Identifier: MIT
// What is encoded comes back; what decodes does so for every cut.
#include "base/check.h"
#include "mail/mail_encode.h"
#include "mail/mail_rfc2047.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_qp(struct bytes s)
{
    struct mail_qp_encoder e = {0};
    struct mail_qp_decoder d = {0};
    struct buf text = {0}, back = {0};
    for (size_t i = 0; i < s.len; i++)
        mail_qp_encoder_feed(&e, bytes_mid(s, i, 1), &text);
    mail_qp_encoder_finish(&e, &text);
    CHECK(mail_qp_decoder_feed(&d, buf_bytes(&text), &back) == OK);
    CHECK(mail_qp_decoder_finish(&d) == OK);
    CHECK(bytes_eq(buf_bytes(&back), s));
    (void)!mail_qp_decoder_feed(&d, s, &back);
    buf_done(&text);
    buf_done(&back);
}

static void check_base64(struct bytes s)
{
    struct mail_base64_encoder e = {0};
    struct mail_base64_decoder d = {0};
    struct buf text = {0}, back = {0};
    mail_base64_encoder_feed(&e, s, &text);
    mail_base64_encoder_finish(&e, &text);
    for (size_t i = 0; i < text.len; i++)
        CHECK(mail_base64_decoder_feed(&d, bytes_mid(buf_bytes(&text), i, 1), &back) == OK);
    CHECK(mail_base64_decoder_finish(&d) == OK);
    CHECK(bytes_eq(buf_bytes(&back), s));
    buf_clear(&back);
    if (mail_base64_decode(s, &back) == OK) { // one spelling only
        buf_clear(&text);
        mail_base64_encode(buf_bytes(&back), &text);
        CHECK(bytes_eq(buf_bytes(&text), s));
    }
    buf_done(&text);
    buf_done(&back);
}

static void check_xtext(struct bytes s)
{
    struct buf text = {0}, back = {0};
    mail_xtext_encode(s, &text);
    CHECK(mail_xtext_decode(buf_bytes(&text), &back) == OK);
    CHECK(bytes_eq(buf_bytes(&back), s));
    buf_clear(&back);
    (void)!mail_xtext_decode(s, &back);
    buf_clear(&back);
    if (mail_utf8_addr_decode(s, &back) == OK) {
        buf_clear(&text);
        mail_utf8_addr_xtext_encode(buf_bytes(&back), &text);
        struct buf again = {0};
        CHECK(mail_utf8_addr_decode(buf_bytes(&text), &again) == OK);
        CHECK(bytes_eq(buf_bytes(&again), buf_bytes(&back)));
        buf_done(&again);
    }
    buf_done(&text);
    buf_done(&back);
}

static void check_words(struct bytes s)
{
    struct buf text = {0}, back = {0};
    mail_rfc2047_encode(s, 9, &text);
    CHECK(bytes_is_ascii(buf_bytes(&text)));
    mail_rfc2047_decode(buf_bytes(&text), &back);
    if (bytes_is_utf8(s))
        CHECK(bytes_eq(buf_bytes(&back), s));
    buf_clear(&back);
    mail_rfc2047_decode(s, &back);
    CHECK(bytes_is_utf8(buf_bytes(&back)));
    buf_done(&text);
    buf_done(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes s = bytes_of(data, size);
    check_qp(s);
    check_base64(s);
    check_xtext(s);
    check_words(s);
    return 0;
}
