// SPDX-License-Identifier: MIT
//
// smtp_command_fuzz - every command's arguments; what is accepted can't break out of where it is shown
#include "base/check.h"
#include "smtp/smtp_command.h"
#include "smtp/smtp_xclient.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_slice(struct bytes whole, struct bytes part)
{
    CHECK(part.len == 0 || (part.at >= whole.at && part.at + part.len <= whole.at + whole.len));
    CHECK(!bytes_has_control(part, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes line = bytes_of(data, size), slot, name, initial;
    if (size > 12288 || bytes_has_control(line, NULL)) // the lexer lets nothing else through
        return 0;
    struct smtp_verb verb;
    struct smtp_mail mail;
    struct smtp_rcpt rcpt;
    uint64_t chunk;
    bool last;
    enum sasl_mechanism mechanism;
    smtp_command_split(line, &verb);
    check_slice(line, verb.args);
    struct smtp_offer offer = {
        .dsn = size % 2, .smtputf8 = size % 3, .scheduling = size % 7, .binarymime = size % 11};
    if (!smtp_command_hello(verb.args, &name))
        check_slice(line, name);
    if (!smtp_command_mail(verb.args, offer, &mail, &slot)) {
        check_slice(line, mail.reverse_path);
        check_slice(line, mail.envid);
        check_slice(line, mail.auth);
        check_slice(line, mail.hold);
        CHECK(mail.priority >= -9 && mail.priority <= 9);
        CHECK(mail.by_mode != BY_RETURN || mail.by_s > 0);
        CHECK(mail.by_s <= 999999999 && mail.by_s >= -999999999);
        CHECK(mail.reverse_path.len <= 254 && (mail.smtputf8 || bytes_is_ascii(mail.reverse_path)));
    }
    if (!smtp_command_rcpt(verb.args, offer, size % 5, &rcpt, &slot)) {
        check_slice(line, rcpt.path);
        check_slice(line, rcpt.orcpt);
        CHECK(rcpt.path.len > 0 && rcpt.path.len <= 254);
    }
    if (!smtp_command_bdat(verb.args, &chunk, &last))
        CHECK(chunk <= INT64_MAX);
    struct smtp_xclient x;
    if (!smtp_xclient_parse(verb.args, &x, &slot))
        for (int i = 0; i < SMTP_XCLIENT_NAMES; i++) {
            CHECK(!bytes_has_control(x.value[i], NULL));
            CHECK(x.value[i].len <= SMTP_XCLIENT_VALUE_MAX && x.given[i] >= (x.value[i].len > 0));
        }
    smtp_xclient_done(&x);
    if (!smtp_command_auth(verb.args, &mechanism, &initial))
        check_slice(line, initial);
    return 0;
}
