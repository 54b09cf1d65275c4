// SPDX-License-Identifier: MIT
//
// submission - checks the header of a submitted message and completes it (RFC 6409 section 8)
//
// Pure. The header fields that posthaste adds or removes at intake, and nothing else, are (law 4; what a rendering adds
// for its recipient stands in deliver/extras.h, signatures in deliver/signature.h):
//   added     Received; in mode fix, where missing: Date, Message-ID, and "To: undisclosed-recipients:;" when
//             neither To nor Cc is there
//   removed   Bcc (not in mode off); X-Posthaste-Class, -Tag and -Send-At of authenticated accounts
//
// Who may send as whom is checked in every mode: each address of each From and Sender field counts, in groups,
// in several fields, behind comments and encoded names; what can't be read for certain is refused (law 3).
#pragma once

#include "base/arena.h"
#include "conf/conf.h"
#include "mail/envelope.h"
#include "smtp/smtp_reply.h"

#define SUBMISSION_TAG_MAX 64 // bytes of X-Posthaste-Tag
#define SUBMISSION_SEND_AT_MAX_MS                                                                  \
    ((int64_t)366 * 86400 * 1000) // how far ahead X-Posthaste-Send-At may be

enum submission_ownership { SUBMISSION_OWNED, SUBMISSION_UNVERIFIED, SUBMISSION_NOT_OWNED };

struct submission {
    // given
    enum conf_submission mode;
    struct bytes header; // as received, without the empty line
    bool smtputf8;       // MAIL FROM had SMTPUTF8
    bool authenticated;  // X-Posthaste- fields are instructions
    uint32_t received_max;
    size_t header_bytes_max;
    struct wall now;
    struct bytes hostname;
    struct message_id id;
    // for Received (RFC 5321 4.4)
    bool is_local;                 // from a user of this host, not over the net
    uint32_t uid;                  // that user
    struct bytes helo, client_ip;  // client_ip empty: hidden
    struct bytes protocol;         // "ESMTPSA"
    struct bytes tls;              // "TLSv1.3 TLS_AES_128_GCM_SHA256", or empty
    int8_t priority;               // for "PRIORITY n" (RFC 6710 section 4); 0: none
    struct bytes single_recipient; // for "for <...>"; empty: several, or hidden
    // May the account send as this routing domain? NULL: as anybody.
    enum submission_ownership (*owns)(void *ctx, struct bytes domain);
    void *owns_ctx;

    // found
    enum smtp_reply_id refusal; // SMTP_REPLY_NONE: accepted
    struct bytes slot;          // in the arena
    struct buf out; // the completed header with its empty line; the caller's: buf_done()
    bool has_class;
    enum mail_class class;
    struct bytes tag, message_id; // in the arena
    struct wall send_at;          // 0: none
    bool list_unsubscribe;        // it has a way to unsubscribe of its own
};

// Checks and completes. True: accepted. False: refusal and slot say why.
bool submission_check(struct submission *s, struct arena *arena);
