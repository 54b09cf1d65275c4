// SPDX-License-Identifier: MIT
//
// extras - what a transaction has beside the stored message: its return path, and header fields for its recipient
//
// The return path is b-TOKEN@DOMAIN (bounce/return_token.h); DOMAIN is bounces.SENDERDOMAIN once that is known to lead
// here, else conf->bounce.domain, else MAIL FROM stays. It stays, too, where a report was asked for (NOTIFY=SUCCESS),
// which is to go to the sender. A transaction with one recipient has that one's token, whatever the message has;
// with several, one that stands for the message's recipients in their routing domain.
//
// Header fields (law 4): List-Unsubscribe and List-Unsubscribe-Post (RFC 2369, 8058) for messages accepted with a
// link to unsubscribe; CFBL-Address and CFBL-Feedback-ID (RFC 9477) for bulk mail where conf->bounce.cfbl.
//
// Pure.
#pragma once

#include "base/buf.h"
#include "bounce/return_token.h"
#include "conf/conf_snapshot.h"
#include "mail/envelope.h"

struct extras {
    const struct conf_snapshot *snapshot;
    const struct return_key *key;
    const struct envelope *envelope;
    const struct recipient *const *recipients; // of the transaction
    uint32_t count;
};

// Appends the reverse-path of MAIL FROM; nothing for the null sender.
void extras_reverse_path(const struct extras *x, struct buf *out);
// Appends whole header fields; perhaps none.
void extras_header(const struct extras *x, struct buf *out);
