// SPDX-License-Identifier: MIT
//
// preflight - what receivers will hold against a message, found before it is sent
//
// Pure and streaming: the message is fed in pieces cut anywhere, header first, and no more of it is kept than one
// header and some 100 bytes. preflight_finish() adds what only the sending side knows and tells the findings, at
// most one of each kind: the first.
//
//   dmarc_alignment       neither our signature, nor one that is there, nor MAIL FROM is for the From field's domain
//   unsubscribe_missing   bulk mail without List-Unsubscribe by https and List-Unsubscribe-Post (RFC 8058)
//   unsubscribe_unsigned  these two fields are covered by no aligned signature (RFC 8058 section 4)
//   from_without_mx       the From field's domain takes no mail
//   html_too_large        over PREFLIGHT_HTML_MAX bytes of HTML: Gmail cuts it off, and what counts opens with it
//   link_to_address       a link to a bare IP address
//   dangerous_attachment  a type of file that large providers refuse, by its name, or a Windows program by its content
//   text_part_missing     HTML without a plain text beside it
//
// What can't be read as MIME is not looked into (mail_mime.h has the limits); archives neither. Domains are compared
// as DMARC does it relaxed, the organizational domain being guessed: the last two labels, or three under
// names like co.uk.
//
// Limits: linear time; PREFLIGHT_WHERE_MAX bytes of a place.
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "mail/envelope.h"
#include "mail/mail_address.h"

#define PREFLIGHT_HTML_MAX (102 * 1024)
#define PREFLIGHT_WHERE_MAX 100

enum preflight_id {
    PREFLIGHT_DMARC_ALIGNMENT,
    PREFLIGHT_UNSUBSCRIBE_MISSING,
    PREFLIGHT_UNSUBSCRIBE_UNSIGNED,
    PREFLIGHT_FROM_WITHOUT_MX,
    PREFLIGHT_HTML_TOO_LARGE,
    PREFLIGHT_LINK_TO_ADDRESS,
    PREFLIGHT_DANGEROUS_ATTACHMENT,
    PREFLIGHT_TEXT_PART_MISSING,
};
#define PREFLIGHT_IDS 8

// How bad: receivers may look at it askance, or will refuse it.
enum preflight_severity { PREFLIGHT_OK, PREFLIGHT_WARN, PREFLIGHT_REFUSE };

struct preflight_row {
    const char *name; // "from_without_mx"
    enum preflight_severity severity;
    const char *text, *fix;
};
const struct preflight_row *preflight_row(enum preflight_id id);
int preflight_find(struct bytes name, enum preflight_id *out) MUST_USE; // E_NOT_FOUND
const char *preflight_severity_name(enum preflight_severity severity);  // "ok", "warn", "refuse"

struct preflight;

struct preflight *preflight_new(void);
void preflight_free(struct preflight *p); // NULL is fine
void preflight_feed(struct preflight *p, struct bytes piece);

// The domain of the first From address (A-labels, lower case), once the header has been fed whole; empty before, and
// where there is none.
struct bytes preflight_from_domain(const struct preflight *p);

struct preflight_facts {
    enum mail_class class;
    struct bytes mail_from;  // domain of MAIL FROM; empty: the null sender
    bool alignment_unknown;  // nobody knows yet who sends it how
    bool we_sign;            // for a domain aligned with From; over-signing List-*
    bool we_add_unsubscribe; // both fields
    bool from_takes_no_mail; // certainly
};

struct preflight_finding {
    enum preflight_id id;
    char where[PREFLIGHT_WHERE_MAX]; // "From: shop.test", "part 3: invoice.exe"
};

struct preflight_result {
    struct preflight_finding findings[PREFLIGHT_IDS]; // in order of their ids
    size_t count;
    enum preflight_severity verdict; // the worst
};

// The message ended. Once.
void preflight_finish(struct preflight *p, const struct preflight_facts *facts,
                      struct preflight_result *out);

// Do the two domains belong together, as DMARC sees it (relaxed)?
bool preflight_is_aligned(struct bytes a, struct bytes b);
