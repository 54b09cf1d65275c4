// SPDX-License-Identifier: MIT
//
// suppress_key - the one spelling of an address on the suppression list, and its hash for a scope
//
// Canonical form: the local part's value, quoted only where it must be, A-Z as a-z; "@"; the domain as
// mail_domain_route() gives it. Case does not tell mailboxes apart anywhere that matters, and whoever complained as
// Joe@ does not want mail as joe@ either. Dots and +tags do tell mailboxes apart with most providers: they stay.
#pragma once

#include "mail/mail_address.h"
#include "store/suppress_table.h"

#define SUPPRESS_NOBODY (-1) // the account of entries for the whole service

struct suppress_address {
    size_t len;
    char text[2 * MAIL_LOCAL_MAX + MAIL_DOMAIN_MAX + 8];
};
static inline struct bytes suppress_address_text(const struct suppress_address *a)
{
    return bytes_of(a->text, a->len);
}
// E_SYNTAX, E_LIMIT: not an address.
int suppress_address_parse(struct bytes address, struct suppress_address *out) MUST_USE;
// account: SUPPRESS_NOBODY or a number; stream: empty for the whole account.
uint64_t suppress_key_hash(const struct suppress_table *t, int64_t account, struct bytes stream,
                           struct bytes canonical);
