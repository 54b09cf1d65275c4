// SPDX-License-Identifier: MIT
//
// How it works: days are searched from the last to the first. In each, sheets (and the notes that are on none yet) tell
// the sequence numbers of the records that have all the words of the filter; the records are read, newest first, and
// say themselves whether they match. Where nothing is asked but a time, and where a sheet does not hold, the blocks are
// read one by one. Sheets overlap only where copies were met (history.c); those that do are put together.
#include <stdio.h>
#include <stdlib.h>

#include "event/history_private.h"
#include "spool/tlv.h"

#define WORDS_MAX 8

struct place {
    uint64_t sequence;
    size_t offset;
};

struct search {
    struct question *q;
    const struct history_filter *filter;
    uint64_t words[WORDS_MAX];
    size_t words_count;
    // of the day at hand
    size_t day;
    struct history_view *view;
    uint64_t before; // records below this
    // the block at hand
    struct history_block block;
    bool has_block;
    struct buf data, places;
    struct buf sequences;
    // True: there is room for more.
    bool (*hit)(struct search *s, struct spool_record *record);
    bool full;
    size_t max;
    void (*found)(void *ctx, struct message_id id);
    void (*on_event)(void *ctx, const struct history_event *event);
    void *ctx;
};

// ---- does a record match? ------------------------------------------------------------------------------------

static bool is_or_any(struct bytes wanted, struct bytes value)
{
    return !wanted.len || bytes_eq(wanted, value);
}

static bool matches_sender(struct bytes wanted, struct bytes sender)
{
    return !wanted.len || bytes_eq_nocase(wanted, sender.len ? sender : BYTES("<>"));
}

static bool matches_message(const struct history_filter *f, const struct envelope *e)
{
    return matches_sender(f->sender, e->reverse_path) && is_or_any(f->message_id, e->message_id) &&
           is_or_any(f->envid, e->envid) && is_or_any(f->tag, e->tag) &&
           is_or_any(f->account, e->account_name);
}

static bool is_original(const struct recipient *r, struct bytes address)
{
    struct bytes type;
    struct buf original = {0};
    bool found = r->orcpt.len && recipient_original(r, &type, &original) &&
                 bytes_eq_nocase(address, buf_bytes(&original));
    buf_done(&original);
    return found;
}

static bool matches_recipient(const struct history_filter *f, const struct recipient *r)
{
    if (!f->recipient.len)
        return true;
    if (f->recipient.at[0] == '@')
        return bytes_eq_nocase(bytes_skip(f->recipient, 1), r->domain);
    return bytes_eq_nocase(f->recipient, r->address) || is_original(r, f->recipient);
}

// Number 0: any of them.
static bool matches_one(const struct history_filter *f, const struct envelope *e, uint32_t number)
{
    bool found = !f->recipient.len;
    for (uint32_t i = 0; i < e->recipients_count && !found; i++)
        found = (!number || e->recipients[i].number == number) &&
                matches_recipient(f, &e->recipients[i]);
    return found;
}

static bool asks_for_message(const struct history_filter *f)
{
    return f->recipient.len || f->sender.len || f->message_id.len || f->envid.len || f->tag.len ||
           f->account.len;
}

static bool matches_time(const struct history_filter *f, struct wall at)
{
    return at.us >= f->since.us && (!f->until.us || at.us < f->until.us);
}

// What a record says of itself.
struct said {
    struct wall at;
    enum spool_event type;
    uint32_t recipient;
};

static bool read_said(const struct spool_record *r, struct said *out)
{
    switch (r->type) {
    case SPOOL_RECORD_OUTCOME:
        *out = (struct said){r->outcome.at, r->outcome.event, r->outcome.recipient};
        return true;
    case SPOOL_RECORD_FEEDBACK:
        *out = (struct said){r->feedback.at, SPOOL_EVENT_FEEDBACK, r->feedback.recipient};
        return true;
    default:
        return false;
    }
}

static bool matches(struct search *s, struct spool_record *record)
{
    const struct history_filter *f = s->filter;
    const struct history_known *k;
    struct said said;
    if (record->type == SPOOL_RECORD_MESSAGE) {
        k = f->typed && f->type != SPOOL_EVENT_ACCEPTED ? NULL : question_know(s->q, record);
        return k && matches_time(f, k->record.envelope->accepted_at) &&
               matches_message(f, k->record.envelope) && matches_one(f, k->record.envelope, 0);
    }
    if (spool_record_decode(record, NULL) || !read_said(record, &said) ||
        !matches_time(f, said.at) || (f->typed && f->type != said.type))
        return false;
    k = asks_for_message(f) ? question_message(s->q, record->id) : NULL;
    return !asks_for_message(f) || (k && matches_message(f, k->record.envelope) &&
                                    matches_one(f, k->record.envelope, said.recipient));
}

// ---- blocks and records ----------------------------------------------------------------------------------------

static struct place *places_of(const struct search *s, size_t *out_count)
{
    *out_count = s->places.len / sizeof(struct place);
    return (struct place *)(void *)s->places.at;
}

// Reads the block's records, unless none is of the time.
static int load(struct search *s)
{
    struct spool_record record;
    s->has_block = true;
    buf_clear(&s->data);
    buf_clear(&s->places);
    if (s->block.newest.us < s->filter->since.us ||
        (s->filter->until.us && s->block.oldest.us >= s->filter->until.us))
        return OK;
    int err = history_view_load(s->view, &s->block, &s->data);
    struct bytes in = buf_bytes(&s->data);
    for (size_t at = 0; history_block_next(&in, &record); at = s->data.len - in.len) {
        struct place place = {record.sequence, at};
        buf_add(&s->places, bytes_of(&place, sizeof place));
    }
    return err ? err : s->places.err;
}

static void show(struct search *s, const struct place *place)
{
    struct spool_record record;
    struct bytes in = bytes_skip(buf_bytes(&s->data), place->offset);
    if (history_block_next(&in, &record) && matches(s, &record))
        s->full = !s->hit(s, &record);
}

static int by_sequence(const void *key, const void *place)
{
    uint64_t wanted = *(const uint64_t *)key, is = ((const struct place *)place)->sequence;
    return (wanted > is) - (wanted < is);
}

static int show_sequence(struct search *s, uint64_t sequence)
{
    int err = OK;
    if (!s->has_block || sequence < s->block.first || sequence > s->block.last) {
        err = history_view_block(s->view, sequence, &s->block);
        if (!err)
            err = load(s);
    }
    size_t count;
    struct place *places = places_of(s, &count);
    const struct place *place =
        err || !count ? NULL : bsearch(&sequence, places, count, sizeof *places, by_sequence);
    if (place)
        show(s, place);
    return err == E_NOT_FOUND ? OK : err;
}

// All records from here to there.
static int show_blocks(struct search *s, uint64_t first, uint64_t last)
{
    int err = OK;
    last = last >= s->before ? s->before - 1 : last;
    while (!err && !s->full && last >= first && last) {
        err = history_view_block(s->view, last, &s->block);
        if (!err)
            err = load(s);
        size_t count = 0;
        const struct place *places = err ? NULL : places_of(s, &count);
        for (size_t i = count; i > 0 && !s->full; i--)
            if (places[i - 1].sequence >= first && places[i - 1].sequence <= last)
                show(s, &places[i - 1]);
        last = err ? 0 : s->block.first - 1;
    }
    return err == E_NOT_FOUND ? OK : err;
}

// ---- sheets ----------------------------------------------------------------------------------------------------

static bool is_of_interest(const struct search *s, const struct history_sheet *sheet)
{
    const struct history_filter *f = s->filter;
    return sheet->first < s->before && sheet->newest.us >= f->since.us &&
           (!f->until.us || sheet->oldest.us < f->until.us);
}

static int latest_first(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x < *y) - (*x > *y);
}

static bool is_falling(const uint64_t *at, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (at[i] >= at[i - 1])
            return false;
    return true;
}

static int show_sequences(struct search *s)
{
    uint64_t *at = (uint64_t *)(void *)s->sequences.at;
    size_t count = s->sequences.len / sizeof *at;
    int err = OK;
    for (size_t i = 0; i < count / 2; i++) { // of one sheet they rise
        uint64_t first = at[i];
        at[i] = at[count - 1 - i];
        at[count - 1 - i] = first;
    }
    if (count && !is_falling(at, count))
        qsort(at, count, sizeof *at, latest_first);
    for (size_t i = 0; i < count && !err && !s->full; i++)
        if (at[i] < s->before && (i == 0 || at[i] != at[i - 1]))
            err = show_sequence(s, at[i]);
    return err;
}

static void tell_damaged_index(struct search *s)
{
    history_tell_damage(s->q->history, s->q->days.at[s->day], true);
}

// Sheets whose sequence numbers overlap.
static int search_group(struct search *s, const struct history_sheet *sheets, size_t count,
                        uint64_t first)
{
    bool blocks = false;
    int err = OK;
    buf_clear(&s->sequences);
    for (size_t i = 0; i < count && !err; i++) {
        if (!is_of_interest(s, &sheets[i]))
            continue;
        blocks = blocks || !s->words_count;
        if (!blocks)
            err = history_view_find(s->view, &sheets[i], s->words, s->words_count, &s->sequences);
        if (err == E_DAMAGED) {
            tell_damaged_index(s);
            blocks = true;
            err = OK;
        }
    }
    if (err)
        return err;
    return blocks ? show_blocks(s, first, sheets->last) : show_sequences(s);
}

static int search_groups(struct search *s, const struct history_sheet *sheets, size_t count)
{
    size_t next;
    int err = OK;
    for (size_t i = 0; i < count && !err && !s->full; i = next) {
        uint64_t first = sheets[i].first;
        for (next = i + 1; next < count && sheets[next].last >= first; next++)
            first = sheets[next].first < first ? sheets[next].first : first;
        err = search_group(s, &sheets[i], next - i, first);
    }
    return err;
}

static int search_sheets(struct search *s)
{
    struct buf all = {0};
    int err = history_view_sheets(s->view, &all);
    if (err == E_DAMAGED) {
        tell_damaged_index(s);
        err = show_blocks(s, 1, INT64_MAX);
    } else if (!err) {
        err = search_groups(s, (const struct history_sheet *)(const void *)all.at,
                            all.len / sizeof(struct history_sheet));
    }
    buf_done(&all);
    return err;
}

static int search_day(struct search *s, size_t day)
{
    s->day = day;
    s->view = question_view(s->q, day);
    s->has_block = false;
    if (!s->view)
        return OK;
    int err = history_view_begin(s->view);
    if (!err) {
        err = search_sheets(s);
        history_view_end(s->view);
    }
    return question_read(s->q, day, err);
}

// ---- the whole ---------------------------------------------------------------------------------------------------

static void add_word(struct search *s, enum history_word kind, struct bytes word)
{
    if (word.len)
        s->words[s->words_count++] = history_word_hash(kind, word);
}

// Those that are likely to be the rarest first.
static void add_words(struct search *s)
{
    const struct history_filter *f = s->filter;
    bool domain = f->recipient.len && f->recipient.at[0] == '@';
    add_word(s, HISTORY_MESSAGE_ID, f->message_id);
    add_word(s, HISTORY_ENVID, f->envid);
    if (!domain)
        add_word(s, HISTORY_RECIPIENT, f->recipient);
    add_word(s, HISTORY_TAG, f->tag);
    add_word(s, HISTORY_SENDER, f->sender);
    if (domain)
        add_word(s, HISTORY_DOMAIN, bytes_skip(f->recipient, 1));
    add_word(s, HISTORY_ACCOUNT, f->account);
    if (f->typed)
        add_word(s, HISTORY_TYPE, bytes_cstr(spool_event_name(f->type)));
}

// `until` excludes the days behind it, the cursor those behind its own.
static bool is_day_of_interest(const struct search *s, const char *day, const char *last)
{
    char until[HISTORY_DAY_BYTES];
    history_day_of(s->filter->until, until);
    return strcmp(day, last) <= 0 && (!s->filter->until.us || strcmp(day, until) <= 0);
}

static int search_all(struct search *s, const char *last_day, uint64_t before)
{
    int err = OK;
    add_words(s);
    size_t oldest = question_first_day(s->q, s->filter->since);
    for (size_t i = s->q->days.count; i > oldest && !s->full && !err; i--) {
        const char *day = s->q->days.at[i - 1];
        if (!is_day_of_interest(s, day, last_day))
            continue;
        s->before = strcmp(day, last_day) == 0 ? before : INT64_MAX;
        err = search_day(s, i - 1);
    }
    buf_done(&s->data);
    buf_done(&s->places);
    buf_done(&s->sequences);
    return err;
}

static bool on_hit_message(struct search *s, struct spool_record *record)
{
    s->found(s->ctx, record->id);
    return --s->max > 0;
}

int history_find(struct history *h, const struct history_filter *filter, size_t max,
                 void (*found)(void *ctx, struct message_id id), void *ctx)
{
    struct question q;
    struct history_filter accepted = *filter;
    accepted.typed = true;
    accepted.type = SPOOL_EVENT_ACCEPTED;
    question_init(&q, h);
    struct search s = {.q = &q,
                       .filter = &accepted,
                       .hit = on_hit_message,
                       .max = max,
                       .full = max == 0,
                       .found = found,
                       .ctx = ctx};
    int err = search_all(&s, "99999999", INT64_MAX);
    question_done(&q);
    return err;
}

// Of an acceptance only the recipients that were asked for.
static void on_told(void *ctx, const struct history_event *e)
{
    struct search *s = ctx;
    if (!e->envelope || matches_one(s->filter, e->envelope, e->recipient))
        s->on_event(s->ctx, e);
    else
        s->q->told--;
}

static bool on_hit_event(struct search *s, struct spool_record *record)
{
    question_tell(s->q, record);
    return s->q->told < s->max;
}

void history_cursor_format(const struct history_event *event, char out[HISTORY_CURSOR_BYTES])
{
    char day[HISTORY_DAY_BYTES];
    history_day_of(event->at, day);
    snprintf(out, HISTORY_CURSOR_BYTES, "%s-%llu", day, (unsigned long long)event->cursor);
}

static int parse_cursor(struct bytes text, char out_day[HISTORY_DAY_BYTES], uint64_t *out_before)
{
    struct bytes day;
    uint64_t number;
    if (!bytes_cut(&text, '-', &day) || day.len != HISTORY_DAY_BYTES - 1 ||
        bytes_to_u64(day, 99999999, &number))
        return E_SYNTAX;
    snprintf(out_day, HISTORY_DAY_BYTES, "%.*s", BYTES_FMT(day));
    return bytes_to_u64(text, INT64_MAX, out_before);
}

int history_search(struct history *h, const struct history_filter *filter, struct bytes before,
                   size_t max, void (*on_event)(void *ctx, const struct history_event *event),
                   void *ctx)
{
    struct question q;
    char day[HISTORY_DAY_BYTES] = "99999999";
    uint64_t number = INT64_MAX;
    if (before.len && parse_cursor(before, day, &number))
        return E_SYNTAX;
    question_init(&q, h);
    struct search s = {.q = &q,
                       .filter = filter,
                       .hit = on_hit_event,
                       .max = max < HISTORY_PAGE_MAX ? max : HISTORY_PAGE_MAX,
                       .full = max == 0,
                       .on_event = on_event,
                       .ctx = ctx};
    struct history_reader reader = {&s, NULL, on_told};
    q.reader = &reader;
    int err = search_all(&s, day, number);
    question_done(&q);
    return err;
}
