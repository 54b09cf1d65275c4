// SPDX-License-Identifier: MIT
//
// bounce_mail - what the readers of a mail share: the mail taken apart, and the records found so far
//
// Each reader looks at the mail and returns whether it is of its kind; bounce_mail.c asks them in
// order.
#pragma once

#include "bounce/bounce_class.h"
#include "bounce/bounce_parts.h"

struct bounce_reading {
    const struct bounce_rules *rules;
    struct arena *arena;
    struct bounce_parts parts;
    struct bytes from;    // address of From, lower case, or empty
    struct bytes subject; // on one line, decoded
    struct bounce_mail *out;
    uint32_t cap; // of out->records
};

// A new record, zeroed; NULL when there are BOUNCE_RECORDS_MAX.
struct bounce_record *bounce_mail_add(struct bounce_reading *r);
// Classifies a record by its action, status and diagnostic, which are set; fills in reply code,
// class and rule, and the status where the diagnostic knows better. `more`: words to look at where
// the diagnostic says nothing, or empty.
void bounce_mail_classify(struct bounce_reading *r, struct bounce_record *record,
                          struct bytes more);
// On one line, at most BOUNCE_DIAGNOSTIC_MAX bytes of valid UTF-8, in the arena.
struct bytes bounce_mail_line(struct bounce_reading *r, struct bytes text);
// "rfc822; <a@b>", "a@b", "<a@b> (x)": the address in the arena, or empty.
struct bytes bounce_mail_address(struct bounce_reading *r, struct bytes text);
// The first address in the text, at a border of words; what follows it in *out_rest. Borrowed, or empty.
struct bytes bounce_mail_find_address(struct bytes text, struct bytes *out_rest);
// The address of such a text where it has no other; else empty. Borrowed.
struct bytes bounce_mail_only_address(struct bytes text);
// Whom the returned mail went to by its header: the address in To, if it is the only one and there is no Cc. With
// several it does not tell which one is meant, and is empty.
struct bytes bounce_mail_sent_to(struct bounce_reading *r);
// Does the text have one of the phrases, whatever the case? The list ends with NULL.
bool bounce_mail_has(struct bytes text, const char *const *phrases);
bool bounce_mail_starts(struct bytes text, const char *const *phrases);

// The readers. bounce_report.c: reports for programs (RFC 3464, 5965, 8098).
bool bounce_read_feedback(struct bounce_reading *r);
bool bounce_read_status(struct bounce_reading *r);
bool bounce_read_receipt(struct bounce_reading *r);
// bounce_text.c: reports for people only.
bool bounce_read_text(struct bounce_reading *r);
// bounce_auto.c: answers by themselves (RFC 3834).
bool bounce_read_auto(struct bounce_reading *r);
