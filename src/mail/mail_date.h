// SPDX-License-Identifier: MIT
//
// mail_date - the Date field's date-time (RFC 5322 section 3.3)
#pragma once

#include "base/clock.h"

// "Sun, 22 Nov 2026 05:57:00 +0000"
void mail_date_format(struct wall t, struct buf *out);
// date-time with comments and folding, day of week optional (it must be right if given), obsolete
// years of two or three digits and zones by name (section 4.3). E_SYNTAX; E_LIMIT: before 1970,
// after 9999.
int mail_date_parse(struct bytes text, struct wall *out) MUST_USE;
