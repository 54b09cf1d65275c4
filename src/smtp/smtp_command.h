// SPDX-License-Identifier: MIT
//
// smtp_command - the grammar of commands: from a line to a verb and its checked arguments
//
//   command = verb [ SP arguments ]                                     RFC 5321 4.1.1
//   esmtp-param = esmtp-keyword [ "=" esmtp-value ]                     RFC 5321 4.1.2
//
// A parser returns SMTP_REPLY_NONE, or the reply that says what is wrong; *out_slot fills that
// reply's slot. All slices point into the line.
#pragma once

#include "smtp/sasl.h"
#include "smtp/smtp_reply.h"
#include "smtp/smtp_server.h"

// The verb is upper-cased into out_verb (at most 15 characters; longer ones give ""); the rest,
// trimmed.
struct smtp_verb {
    char name[16];
    struct bytes args;
};
void smtp_command_split(struct bytes line, struct smtp_verb *out);

// HTTP and other protocols that browsers can be made to speak to us.
bool smtp_command_is_foreign(const struct smtp_verb *verb);

// Which parameters are offered.
struct smtp_offer {
    bool dsn, smtputf8, binarymime;
    bool scheduling; // HOLDFOR, HOLDUNTIL, BY, MT-PRIORITY
};

enum smtp_reply_id smtp_command_hello(struct bytes args, struct bytes *out_name) MUST_USE;
enum smtp_reply_id smtp_command_mail(struct bytes args, struct smtp_offer offer,
                                     struct smtp_mail *out, struct bytes *out_slot) MUST_USE;
// utf8: the transaction has SMTPUTF8.
enum smtp_reply_id smtp_command_rcpt(struct bytes args, struct smtp_offer offer, bool utf8,
                                     struct smtp_rcpt *out, struct bytes *out_slot) MUST_USE;
// RFC 3030 section 2: "BDAT" SP chunk-size [ SP "LAST" ].
enum smtp_reply_id smtp_command_bdat(struct bytes args, uint64_t *out_size,
                                     bool *out_last) MUST_USE;
// RFC 4954 section 4: "AUTH" SP mechanism [ SP initial-response ]; *out_initial has at == NULL if
// absent.
enum smtp_reply_id smtp_command_auth(struct bytes args, enum sasl_mechanism *out_mechanism,
                                     struct bytes *out_initial) MUST_USE;
