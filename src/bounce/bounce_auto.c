// SPDX-License-Identifier: MIT
//
// How it works: a mail says that it answers by itself in a field (RFC 3834 section 5, and what was
// used before), or its subject does. A subject alone could be a person's; so it also needs a colon in
// it or another sign of a machine.
#include "base/check.h"
#include "bounce/bounce_mail.h"

// Fields that only automatic answers have.
static const char *const FIELDS[] = {"X-Autoreply",        "X-Auto-Reply",     "X-Autorespond",
                                     "X-Autoresponder",    "X-AutoReply-From", "X-Mail-Autoreply",
                                     "X-Autoreply-From",   "X-Autoreply-For",  "X-Vacation",
                                     "X-Amazon-Auto-Reply"};

// How subjects of automatic answers begin, and hardly any others.
static const char *const SUBJECTS[] = {
    "automatic reply",
    "automatische antwort",
    "automatisch antwoord",
    "auto reply",
    "auto-reply",
    "autoreply",
    "auto response",
    "auto-response",
    "autoresponse",
    "autoresponder",
    "auto:",
    "automated reply",
    "automated response",
    "out of office",
    "out of the office",
    "out-of-office",
    "abwesenheitsnotiz",
    "abwesenheit:",
    "r\xc3\xa9ponse automatique",
    "absence du bureau",
    "respuesta autom\xc3\xa1tica",
    "fuera de la oficina",
    "risposta automatica",
    "fuori ufficio",
    "resposta autom\xc3\xa1tica",
    "autosvar",
    "automatiskt svar",
    "automaattinen vastaus",
    "odpowied\xc5\xba automatyczna",
    "\xd0\xb0\xd0\xb2\xd1\x82\xd0\xbe\xd0\xbe\xd1\x82\xd0\xb2\xd0\xb5\xd1\x82",
    "\xd0\x90\xd0\xb2\xd1\x82\xd0\xbe\xd0\xbe\xd1\x82\xd0\xb2\xd0\xb5\xd1\x82",
    "\xe8\x87\xaa\xe5\x8b\x95\xe5\xbf\x9c\xe7\xad\x94",
    "\xe8\x87\xaa\xe5\x8a\xa8\xe5\x9b\x9e\xe5\xa4\x8d",
    NULL};

// Words of somebody who is away.
static const char *const AWAY[] = {"vacation",
                                   "holiday",
                                   "out of office",
                                   "out of the office",
                                   "out-of-office",
                                   "away from",
                                   "i am away",
                                   "i'm away",
                                   "on leave",
                                   "annual leave",
                                   "maternity",
                                   "parental leave",
                                   "not in the office",
                                   "absent",
                                   "absence",
                                   "until my return",
                                   "when i return",
                                   "will return",
                                   "be back",
                                   "limited access to email",
                                   "abwesen",
                                   "nicht im b\xc3\xbcro",
                                   "urlaub",
                                   "en cong\xc3\xa9",
                                   "de vacaciones",
                                   "fuera de la oficina",
                                   "in ferie",
                                   "fuori sede",
                                   "fuori ufficio",
                                   "f\xc3\xa9rias",
                                   "afwezig",
                                   "vakantie",
                                   "semester",
                                   "fr\xc3\xa5nvaro",
                                   "poissa",
                                   "urlopie",
                                   "\xd0\xbe\xd1\x82\xd0\xbf\xd1\x83\xd1\x81\xd0\xba",
                                   "\xe4\xbc\x91\xe5\x81\x87",
                                   NULL};

static bool has_field(const struct bounce_reading *r, const char *name)
{
    return mail_header_count(r->parts.header, bytes_cstr(name)) > 0;
}

static bool field_starts(const struct bounce_reading *r, const char *name, const char *word)
{
    struct bytes value = bounce_parts_field(r->parts.header, name, r->arena);
    return bytes_starts_nocase(value, bytes_cstr(word));
}

// "Re: ", "AW: ", "Antwort: " and the like before the subject proper.
static struct bytes without_re(struct bytes subject)
{
    static const char *const MARKS[] = {"re:", "aw:", "sv:", "antw:", "antwort:", NULL};
    while (bounce_mail_starts(subject, MARKS)) {
        ptrdiff_t colon = bytes_find(subject, ':');
        subject = bytes_trim(bytes_skip(subject, (size_t)colon + 1));
    }
    return subject;
}

// Signs of a machine; each alone could be a newsletter's.
static bool says_machine(const struct bounce_reading *r)
{
    return has_field(r, "X-Auto-Response-Suppress") ||
           has_field(r, "X-MS-Exchange-Inbox-Rules-Loop") ||
           field_starts(r, "Auto-Submitted", "auto-") || field_starts(r, "Precedence", "bulk") ||
           field_starts(r, "Precedence", "junk");
}

static bool has_null_path(const struct bounce_reading *r)
{
    struct bytes path = bounce_parts_field(r->parts.header, "Return-Path", r->arena);
    return bytes_eq(path, BYTES("<>"));
}

static bool is_auto(const struct bounce_reading *r)
{
    if (field_starts(r, "Auto-Submitted", "auto-replied") ||
        field_starts(r, "Precedence", "auto_reply") ||
        field_starts(r, "X-Precedence", "auto_reply") ||
        field_starts(r, "Preference", "auto_reply") ||
        field_starts(r, "Delivered-To", "Autoresponder") ||
        field_starts(r, "X-Autogenerated", "Reply"))
        return true;
    for (size_t i = 0; i < COUNT_OF(FIELDS); i++)
        if (has_field(r, FIELDS[i]))
            return true;
    bool is_answer = has_field(r, "In-Reply-To") || has_field(r, "References");
    if (is_answer && field_starts(r, "Auto-Submitted", "auto-"))
        return true;
    struct bytes subject = without_re(r->subject);
    if (bounce_mail_starts(subject, SUBJECTS) &&
        (is_answer || says_machine(r) || has_null_path(r) || bytes_find(subject, ':') > 0))
        return true;
    return (has_null_path(r) || (is_answer && says_machine(r))) && bounce_mail_has(subject, AWAY);
}

static enum bounce_reason reason_of(const struct bounce_reading *r)
{
    struct bounce_reply said = {.text = r->parts.text};
    struct bounce_verdict v = bounce_rules_match(r->rules, &said);
    if (v.class.reason == BOUNCE_MOVED)
        return BOUNCE_MOVED;
    struct bytes text = bytes_first(r->parts.text, 4096);
    return bounce_mail_has(r->subject, AWAY) || bounce_mail_has(text, AWAY) ? BOUNCE_VACATION
                                                                            : BOUNCE_OTHER;
}

bool bounce_read_auto(struct bounce_reading *r)
{
    if (!is_auto(r))
        return false;
    struct bounce_record *record = bounce_mail_add(r);
    CHECK(record);
    record->recipient = bounce_mail_address(r, r->from);
    record->action = DSN_DELIVERED;
    record->class = (struct bounce_class){reason_of(r), false};
    record->diagnostic = bounce_mail_line(r, r->subject);
    return true;
}
