// SPDX-License-Identifier: MIT
#include "bounce/returned.h"

// NULL, too, for one whose address is not known any more.
static const struct recipient *recipient_number(const struct envelope *e, uint32_t number)
{
    bool there = e && number >= 1 && number <= e->recipients_count;
    return there && e->recipients[number - 1].address.len ? &e->recipients[number - 1] : NULL;
}

static enum feedback_kind kind_of_action(enum dsn_action action)
{
    switch (action) {
    case DSN_FAILED:
        return FEEDBACK_BOUNCE;
    case DSN_DELAYED:
        return FEEDBACK_DELAY;
    case DSN_DELIVERED:
    case DSN_RELAYED:
    case DSN_EXPANDED:
        break;
    }
    return FEEDBACK_SUCCESS;
}

// A report may have recipients that failed beside others; a complaint that takes another one back is none (RFC 5965
// 7.3: "not-spam").
static enum feedback_kind kind_of(const struct bounce_mail *mail,
                                  const struct bounce_record *record)
{
    switch (mail->kind) {
    case BOUNCE_KIND_BOUNCE:
    case BOUNCE_KIND_DELAY:
    case BOUNCE_KIND_SUCCESS:
        return record ? kind_of_action(record->action) : (enum feedback_kind)mail->kind;
    case BOUNCE_KIND_COMPLAINT:
        return bytes_eq_nocase(mail->feedback_type, BYTES("not-spam")) ? FEEDBACK_OTHER
                                                                       : FEEDBACK_COMPLAINT;
    case BOUNCE_KIND_AUTO_REPLY:
        return FEEDBACK_AUTO_REPLY;
    case BOUNCE_KIND_OTHER:
        break;
    }
    return FEEDBACK_OTHER;
}

static void fill(const struct returned *r, uint32_t number, const struct recipient *recipient,
                 const struct bounce_record *record, struct spool_feedback *out)
{
    *out = (struct spool_feedback){.id = r->token.id,
                                   .recipient = number,
                                   .kind = kind_of(r->mail, record),
                                   .at = r->at,
                                   .from = r->from,
                                   .detail = r->mail->feedback_type};
    if (r->envelope) {
        out->account = r->envelope->account;
        out->tag = r->envelope->tag;
    }
    if (recipient)
        out->address = recipient->address;
    if (!record)
        return;
    out->class = record->class;
    out->class.hard = record->class.hard && out->kind == FEEDBACK_BOUNCE;
    out->code = record->reply_code;
    out->status = record->status;
    out->diagnostic = record->diagnostic;
}

// Of several records the one about this address, else the first that failed, else the first.
static const struct bounce_record *record_about(const struct bounce_mail *mail,
                                                const struct recipient *recipient)
{
    const struct bounce_record *failed = NULL;
    for (uint32_t i = 0; i < mail->count; i++) {
        const struct bounce_record *record = &mail->records[i];
        if (recipient && (bytes_eq_nocase(record->final, recipient->address) ||
                          bytes_eq_nocase(record->recipient, recipient->address)))
            return record;
        if (!failed && record->action == DSN_FAILED)
            failed = record;
    }
    return failed ? failed : mail->count ? &mail->records[0] : NULL;
}

// ---- of several ------------------------------------------------------------------------------------------

// Does the token stand for him, too? Who was sent a transaction may speak of its domain's recipients, not of all that
// he sees in the header.
static bool is_meant(const struct returned *r, const struct recipient *recipient)
{
    const struct recipient *first = recipient_number(r->envelope, r->token.recipient);
    return !r->token.recipient || (first && bytes_eq(first->domain, recipient->domain));
}

// Those that the token stands for.
struct meant {
    const struct recipient *recipient;
    struct bytes original; // what its sender called it (ORCPT), decoded; or empty
};

static uint32_t find_meant(const struct returned *r, struct arena *arena, struct meant **out)
{
    const struct envelope *e = r->envelope;
    struct buf original = {0};
    struct bytes type;
    uint32_t count = 0;
    *out = arena_new(arena, (e ? e->recipients_count : 0) * sizeof **out + 1);
    for (uint32_t i = 0; e && i < e->recipients_count; i++) {
        const struct recipient *recipient = &e->recipients[i];
        if (!is_meant(r, recipient))
            continue;
        struct meant *m = &(*out)[count++];
        *m = (struct meant){.recipient = recipient};
        buf_clear(&original);
        if (recipient->orcpt.len && recipient_original(recipient, &type, &original))
            m->original = arena_dup(arena, buf_bytes(&original));
    }
    buf_done(&original);
    return count;
}

static const struct recipient *find_address(const struct meant *list, uint32_t count,
                                            struct bytes address)
{
    for (uint32_t i = 0; i < count && address.len; i++)
        if (bytes_eq_nocase(list[i].recipient->address, address))
            return list[i].recipient;
    return NULL;
}

// NULL, too, where several were called so: those behind one alias.
static const struct recipient *find_original(const struct meant *list, uint32_t count,
                                             struct bytes address)
{
    const struct recipient *found = NULL;
    for (uint32_t i = 0; i < count && address.len; i++) {
        if (!bytes_eq_nocase(list[i].original, address))
            continue;
        if (found)
            return NULL;
        found = list[i].recipient;
    }
    return found;
}

// What failed is the final address; the original one is whatever its sender said it was.
static const struct recipient *recipient_of(const struct meant *list, uint32_t count,
                                            const struct bounce_record *record)
{
    const struct recipient *found = find_address(list, count, record->final);
    if (!found)
        found = find_address(list, count, record->recipient);
    return found ? found : find_original(list, count, record->recipient);
}

static bool is_there(const struct spool_feedback *list, size_t count, uint32_t number)
{
    for (size_t i = 0; i < count; i++)
        if (list[i].recipient == number)
            return true;
    return false;
}

static size_t about_several(const struct returned *r, struct arena *arena,
                            struct spool_feedback *out)
{
    struct meant *list;
    uint32_t meant = find_meant(r, arena, &list);
    size_t count = 0;
    for (uint32_t i = 0; i < r->mail->count && count < RETURNED_RECORDS_MAX; i++) {
        const struct bounce_record *record = &r->mail->records[i];
        const struct recipient *recipient = recipient_of(list, meant, record);
        if (recipient && !is_there(out, count, recipient->number))
            fill(r, recipient->number, recipient, record, &out[count++]);
    }
    return count;
}

size_t returned_feedback(const struct returned *r, struct arena *arena, struct spool_feedback **out)
{
    uint32_t number = r->token.several ? 0 : r->token.recipient;
    *out = arena_new(arena, RETURNED_RECORDS_MAX * sizeof **out);
    if (!number && r->envelope && r->envelope->recipients_count == 1)
        number = 1;
    if (!number)
        return about_several(r, arena, *out);
    const struct recipient *recipient = recipient_number(r->envelope, number);
    fill(r, number, recipient, record_about(r->mail, recipient), *out);
    return 1;
}
