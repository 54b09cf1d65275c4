// SPDX-License-Identifier: MIT
//
// mail_address_list - the addresses of From, Sender, To, Cc, Reply-To (RFC 5322 section 3.4, RFC
// 6532, 6854)
//
// Finds *every* address: comments, groups, quoted and encoded names, folding, the obsolete forms.
// What two readers could take differently is refused, because who may send as whom hangs on it: a
// source route, an encoded-word inside an address, an encoded-word that hides an address other than
// the mailbox's own, controls, bytes that are not UTF-8, an unclosed quote, comment or group.
//
// Limits: MAIL_LIST_MAX mailboxes, MAIL_COMMENT_DEPTH_MAX nested comments; linear time, no
// recursion. Fails:  E_SYNTAX; E_LIMIT (those limits, or an address longer than mail_address.h
// allows).
#pragma once

#include "base/arena.h"
#include "mail/mail_address.h"

#define MAIL_LIST_MAX 10000
#define MAIL_COMMENT_DEPTH_MAX 32

struct mail_mailbox {
    struct bytes name;           // display name as UTF-8, decoded; empty if there is none
    struct mail_address address; // without comments and white space; never empty
    bool in_group;
};

struct mail_address_list {
    struct mail_mailbox *mailboxes;
    size_t count;
    size_t groups; // "undisclosed-recipients:;" has one and no mailbox
};

// `value` is a field's raw value. An empty one gives an empty list.
int mail_address_list_parse(struct bytes value, struct arena *arena,
                            struct mail_address_list *out) MUST_USE;
