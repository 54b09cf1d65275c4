// SPDX-License-Identifier: MIT
//
// return_token - the address that reports about one recipient of one message come back to (VERP), unforgeable
//
//     local-part = kind "-" token        kind  = "b" (return path) / "c" (complaints)
//     token      = 40 base32 characters  20 message id, 4 recipient number, 16 HMAC-SHA256 (its first 80 bits)
//
// The number's highest bit says that it stands for a transaction of several recipients, of which it is the lowest; they
// share a routing domain. Number 0: of several, it is not known which (tokens made before there was the bit).
//
// The digest covers the kind, too. Whoever has no key can't make one, and a report is believed only behind one.
// Case does not matter: servers change it. What a token allows does not end; a message's reports may be late.
//
// Thread: any.
#pragma once

#include "mail/message_id.h"

#define RETURN_KEY_BYTES 32
#define RETURN_TOKEN_CHARS 40
#define RETURN_LOCAL_CHARS (RETURN_TOKEN_CHARS + 2)
#define RETURN_RECIPIENT_MAX ((1u << 19) - 1)

// The service's secret for what it must know again when it comes back.
struct return_key {
    uint8_t bytes[RETURN_KEY_BYTES];
};

enum return_kind { RETURN_BOUNCE = 'b', RETURN_COMPLAINT = 'c' };

struct return_token {
    enum return_kind kind;
    struct message_id id;
    uint32_t recipient; // its number, of several the lowest; 0: of several, of whatever domain
    bool several;
};

enum return_verdict {
    RETURN_GOOD,
    RETURN_FOREIGN, // no such form: another address
    RETURN_FORGED,  // the form, but not made with this key
};

// The local part, lower case, with a NUL. recipient <= RETURN_RECIPIENT_MAX, and not 0 with several.
void return_token_format(const struct return_key *key, const struct return_token *token,
                         char out[RETURN_LOCAL_CHARS + 1]);
// A whole local part. *out is set if GOOD. Time does not tell how much of a forged one was right.
enum return_verdict return_token_parse(const struct return_key *key, struct bytes local_part,
                                       struct return_token *out);
// The first good token in a text, of whatever kind: in a returned header. False: none.
bool return_token_search(const struct return_key *key, struct bytes text, struct return_token *out);
