// SPDX-License-Identifier: MIT
//
// smtp_xtext - the encoded values of parameters: those of MAIL and RCPT are checked and kept as they are
//
//   xtext = *( xchar / "+" 2HEXDIG )          RFC 3461 section 4
#pragma once

#include "base/buf.h"
#include "base/bytes.h"

// xtext whose decoded form is printable ASCII (%x20-7E) and not empty.
bool smtp_xtext_is_valid(struct bytes text, size_t max);
// Appends what xtext stands for, 1 to max octets of any value. False: it is none.
bool smtp_xtext_decode(struct bytes text, size_t max, struct buf *out);
// ORCPT=: atom ";" xtext, or "utf-8;" utf-8-addr-xtext / -unitext (RFC 3461 4.2, 6533 section 3);
// no controls.
bool smtp_orcpt_is_valid(struct bytes text, bool utf8_allowed);
// Appends an ORCPT= that has an address with other letters as it may stand where MAIL has no SMTPUTF8: as
// utf-8-addr-xtext. Nothing, where it is none or would be too long for the parameter.
void smtp_orcpt_add_ascii(struct bytes orcpt, struct buf *out);
// AUTH=: "<>" or the xtext of a mailbox (RFC 4954 section 5).
bool smtp_auth_param_is_valid(struct bytes text);
