// SPDX-License-Identifier: MIT
//
// returned - what a mail that came back says about the recipients of the message its token names
//
// The token is the proof and decides which recipient is meant; the mail only says what happened. A token of a
// transaction with several recipients needs the mail to name one of them: a recipient in the transaction's domain.
//
// Pure.
#pragma once

#include "base/arena.h"
#include "bounce/bounce_class.h"
#include "bounce/return_token.h"
#include "mail/envelope.h"
#include "spool/feedback.h"

#define RETURNED_RECORDS_MAX 100 // recipients that one mail can speak of; the others are left out

struct returned {
    struct return_token token;
    const struct bounce_mail *mail;
    const struct envelope
        *envelope; // of the message, as history_envelope() has it; NULL: it is not known any more
    struct bytes from; // who handed it over
    struct wall at;
};

// The records to keep, in the arena; slices borrow from what was given. 0: it speaks of nobody that the token stands
// for.
size_t returned_feedback(const struct returned *r, struct arena *arena,
                         struct spool_feedback **out);
