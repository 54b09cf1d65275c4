// SPDX-License-Identifier: MIT
//
// smtp_xclient - the arguments of XCLIENT: who the client is that a proxy speaks for
//
//   xclient = "XCLIENT" 1*( SP name "=" ( xtext / "[UNAVAILABLE]" / "[TEMPUNAVAIL]" ) )
//
// The text is Postfix's XCLIENT_README.
//
// Owner:    a struct smtp_xclient owns its values until smtp_xclient_done().
// Limits:   a command line, of which each value is a part; values are 1 to SMTP_XCLIENT_VALUE_MAX octets, decoded.
#pragma once

#include "base/buf.h"
#include "smtp/smtp_reply.h"

#define SMTP_XCLIENT_VALUE_MAX 255

enum smtp_xclient_name {
    SMTP_XCLIENT_NAME, // host name of the client
    SMTP_XCLIENT_ADDR, // its address, IPv6 with "IPV6:" before it; not looked at here
    SMTP_XCLIENT_PORT,
    SMTP_XCLIENT_PROTO, // SMTP or ESMTP
    SMTP_XCLIENT_HELO,  // how it named itself
    SMTP_XCLIENT_LOGIN, // as what it has logged in
    SMTP_XCLIENT_DESTADDR,
    SMTP_XCLIENT_DESTPORT,
    SMTP_XCLIENT_NAMES
};

struct smtp_xclient {
    bool given[SMTP_XCLIENT_NAMES];
    struct bytes value[SMTP_XCLIENT_NAMES]; // decoded; of one that is given, empty: not known
    uint16_t port[SMTP_XCLIENT_NAMES];      // of PORT and DESTPORT
    struct buf text;
};

// NONE, or the reply that says what is wrong; *out_slot fills its slot. To be done() in either case.
enum smtp_reply_id smtp_xclient_parse(struct bytes args, struct smtp_xclient *out,
                                      struct bytes *out_slot) MUST_USE;
void smtp_xclient_done(struct smtp_xclient *x);
