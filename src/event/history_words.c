// SPDX-License-Identifier: MIT
#include "event/history_words.h"

#include <stdlib.h>

#include "base/check.h"

#define COMMON_MAX 5 // words that a message has but once

// All words of a message: `common`, then three for each recipient: address, what the sender called it (0: the same)
// and domain.
enum { ADDRESS, ORIGINAL, DOMAIN, WORDS_EACH };

struct history_words_of {
    struct message_id id;
    uint32_t common, recipients;
    uint64_t words[];
};

static size_t bytes_of_words(uint32_t recipients)
{
    return sizeof(struct history_words_of) +
           (COMMON_MAX + WORDS_EACH * (size_t)recipients) * sizeof(uint64_t);
}

static void drop(struct history_words *w, struct history_words_of **slot)
{
    if (*slot)
        w->bytes -= bytes_of_words((*slot)->recipients);
    free(*slot);
    *slot = NULL;
}

void history_words_done(struct history_words *w)
{
    for (size_t i = 0; i < COUNT_OF(w->at); i++)
        drop(w, &w->at[i]);
}

static void add_common(struct history_words_of *m, enum history_word kind, struct bytes word)
{
    if (word.len)
        m->words[m->common++] = history_word_hash(kind, word);
}

static uint64_t original_word(const struct recipient *r)
{
    struct bytes type;
    struct buf original = {0};
    bool known = r->orcpt.len && recipient_original(r, &type, &original) &&
                 !bytes_eq_nocase(buf_bytes(&original), r->address);
    uint64_t word = known ? history_word_hash(HISTORY_RECIPIENT, buf_bytes(&original)) : 0;
    buf_done(&original);
    return word;
}

static struct history_words_of *make(const struct envelope *e)
{
    struct history_words_of *m = mem_new(bytes_of_words(e->recipients_count));
    m->id = e->id;
    m->recipients = e->recipients_count;
    add_common(m, HISTORY_SENDER, e->reverse_path.len ? e->reverse_path : BYTES("<>"));
    add_common(m, HISTORY_MESSAGE_ID, e->message_id);
    add_common(m, HISTORY_ENVID, e->envid);
    add_common(m, HISTORY_TAG, e->tag);
    add_common(m, HISTORY_ACCOUNT, e->account_name);
    uint64_t *at = m->words + m->common;
    for (uint32_t i = 0; i < e->recipients_count; i++, at += WORDS_EACH) {
        at[ADDRESS] = history_word_hash(HISTORY_RECIPIENT, e->recipients[i].address);
        at[ORIGINAL] = original_word(&e->recipients[i]);
        at[DOMAIN] = history_word_hash(HISTORY_DOMAIN, e->recipients[i].domain);
    }
    return m;
}

// The message with all its words; NULL: it is not known. A large one that is not remembered is in *out_owned.
static const struct history_words_of *remember(struct history_words *w, const struct envelope *e,
                                               struct history_words_of **out_owned)
{
    struct history_words_of **slot = &w->at[e->id.low % HISTORY_WORDS_MESSAGES];
    struct history_words_of *m = make(e);
    size_t bytes = bytes_of_words(m->recipients);
    drop(w, slot);
    if (w->bytes + bytes > HISTORY_WORDS_BYTES) {
        *out_owned = m;
    } else {
        *slot = m;
        w->bytes += bytes;
    }
    return m;
}

static const struct history_words_of *find(struct history_words *w,
                                           const struct spool_record *record,
                                           struct history_words_of **out_owned)
{
    const struct history_words_of *m = w->at[record->id.low % HISTORY_WORDS_MESSAGES];
    if (record->type == SPOOL_RECORD_MESSAGE)
        return remember(w, record->envelope, out_owned);
    if (m && message_id_eq(m->id, record->id))
        return m;
    const struct envelope *e = w->find(w->ctx, record->id);
    return e ? remember(w, e, out_owned) : NULL;
}

static enum spool_event type_of(const struct spool_record *record)
{
    switch (record->type) {
    case SPOOL_RECORD_MESSAGE:
        return SPOOL_EVENT_ACCEPTED;
    case SPOOL_RECORD_FEEDBACK:
        return SPOOL_EVENT_FEEDBACK;
    default:
        return record->outcome.event;
    }
}

static void add(struct buf *out, const uint64_t *words, size_t count)
{
    buf_add(out, bytes_of(words, count * sizeof *words));
}

// A message's domains are mostly one.
static void add_recipients(struct buf *out, const uint64_t *words, uint32_t count)
{
    uint64_t domain = 0;
    for (const uint64_t *end = words + WORDS_EACH * (size_t)count; words != end;
         words += WORDS_EACH) {
        add(out, words + ADDRESS, 1);
        add(out, words + ORIGINAL, words[ORIGINAL] != 0);
        add(out, words + DOMAIN, words[DOMAIN] != domain);
        domain = words[DOMAIN];
    }
}

void history_words_add(struct history_words *w, const struct spool_record *record, struct buf *out)
{
    struct history_words_of *owned = NULL;
    const struct history_words_of *m = find(w, record, &owned);
    uint64_t type = history_word_hash(HISTORY_TYPE, bytes_cstr(spool_event_name(type_of(record))));
    uint32_t recipient = record->type == SPOOL_RECORD_FEEDBACK  ? record->feedback.recipient
                         : record->type == SPOOL_RECORD_OUTCOME ? record->outcome.recipient
                                                                : 0;
    add(out, &type, 1);
    if (m) {
        const uint64_t *recipients = m->words + m->common;
        add(out, m->words, m->common);
        if (record->type == SPOOL_RECORD_MESSAGE)
            add_recipients(out, recipients, m->recipients);
        else if (recipient >= 1 && recipient <= m->recipients)
            add_recipients(out, recipients + WORDS_EACH * ((size_t)recipient - 1), 1);
    }
    free(owned);
}
