// SPDX-License-Identifier: MIT
//
// queue_note - what of lanes lasts beyond a restart; of holds: queue_hold.c
//
// How it works: a lane's note has its backoff and why it backs off, what its hour and day windows hold by age, and
// `reserved`: messages that may have been sent since it was written. A lane sends a message only
// against a token, and tokens come from durable notes: when one has been written, the lane may send
// as many as it reserved, less those sent meanwhile. At a restart the reserved ones count as sent
// just now (law 7: never too few).
#include "queue/queue_inside.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "mail/mail_encode.h"

#define BLOCK_PARTS 20 // a note counts ahead at most two of these parts of the limit

uint32_t queue_note_block(const struct queue_lane *l)
{
    uint64_t hour = l->limits->messages_per_hour, day = l->limits->messages_per_day;
    uint64_t milli = l->limits->messages_per_second_milli;
    bool slow = milli > 0 && milli < 1000; // a second's rest at a start does not cover it
    if (hour == 0 && day == 0)
        return slow ? 1 : 0;
    uint64_t limit = hour == 0 || (day && day < hour) ? day : hour;
    uint64_t block = limit / BLOCK_PARTS;
    block = block < QUEUE_NOTE_BLOCK_MAX ? block : QUEUE_NOTE_BLOCK_MAX;
    return block ? (uint32_t)block : 1;
}

void queue_note_want(struct queue *q, struct queue_lane *l)
{
    if (l->note_pending) {
        l->note_again = true;
        return;
    }
    if (list_is_linked(&l->note_work))
        return;
    list_push_back(&q->workers[l->worker].notes, &l->note_work);
    queue_kick(q, l->worker);
}

static void add_window(struct queue_window *w, const char *key, struct queue_now now,
                       struct buf *out)
{
    if (!w || queue_window_used(w, now.mono) == 0)
        return;
    buf_printf(out, " %s=", key);
    queue_window_format(w, now.mono, out);
}

// How long ago the last message went, and for how long that still counts, whatever rule the lane has after a restart.
static void add_last(const struct queue_lane *l, uint32_t reserve, struct queue_now now,
                     struct buf *out)
{
    int64_t left_us = reserve ? queue_lane_spacing(l) : queue_lane_paced(l) - now.mono.us;
    if (reserve)
        buf_printf(out, " reserved=%u", reserve); // may go at any time from now on
    else if (left_us > 0)
        buf_printf(out, " last=%lld", (long long)((now.mono.us - l->last_us[SHARE_ALL]) / 1000));
    if (left_us > 0)
        buf_printf(out, " rested=%" PRId64, left_us / 1000 + 1);
}

static int64_t debt_ms(const struct queue_lane *l, struct queue_now now)
{
    int64_t low = l->bytes_us[SHARE_LOW], all = l->bytes_us[SHARE_ALL];
    return ((low > all ? low : all) - now.mono.us) / 1000 + 1;
}

void queue_note_make(struct queue *q, struct queue_lane *l, struct queue_now now, uint32_t reserve,
                     struct queue_note *out)
{
    (void)q;
    snprintf(out->name, sizeof(out->name), "lane/%s", l->name);
    l->reserved = reserve;
    l->tokens = l->tokens < reserve ? l->tokens : reserve; // this note must cover them too
    l->taken_since_note = 0;
    int64_t backoff_ms = (l->backoff_us - now.mono.us) / 1000;
    struct buf text;
    buf_init(&text, QUEUE_NOTE_MAX);
    if (l->failures)
        buf_printf(&text, " failures=%u backoff=%lld", l->failures,
                   (long long)(backoff_ms > 0 ? backoff_ms : 0));
    if (l->failures && l->text) {
        buf_add_cstr(&text, " text=");
        mail_xtext_encode(bytes_cstr(l->text), &text);
    }
    add_last(l, reserve, now, &text);
    if (l->bytes_us[SHARE_LOW] > now.mono.us || l->bytes_us[SHARE_ALL] > now.mono.us)
        buf_printf(&text, " debt=%lld", (long long)debt_ms(l, now));
    add_window(l->hour, "hour", now, &text);
    add_window(l->day, "day", now, &text);
    bool keeps = text.len > 0;
    if (keeps)
        buf_printf(&text, " at=%lld", (long long)now.wall.us);
    CHECK(text.err == OK);
    out->value_len = (uint32_t)text.len;
    if (keeps)
        memcpy(out->value, text.at, text.len);
    l->note_kept = keeps;
    buf_done(&text);
}

void queue_saved(struct queue *q, const struct queue_note *note, struct queue_now now,
                 uint64_t *kicks)
{
    (void)now;
    struct bytes name = bytes_cstr(note->name);
    queue_lock(q);
    struct queue_lane *l = NULL;
    if (bytes_starts(name, BYTES("lane/")))
        l = queue_lane_find(q, bytes_skip(name, 5));
    if (l && l->note_pending) {
        l->note_pending = false;
        l->tokens = l->reserved > l->taken_since_note ? l->reserved - l->taken_since_note : 0;
        if (l->note_again)
            queue_note_want(q, l);
        queue_lane_touch(q, l);
    }
    queue_unlock(q, kicks, NULL);
}

// ---- restore ----

// "KEY=" in the value, up to the next space; BYTES_NONE: not there.
static struct bytes field(struct bytes value, struct bytes key)
{
    struct bytes word;
    while (value.len && bytes_cut(&value, ' ', &word))
        if (bytes_starts(word, key))
            return bytes_skip(word, key.len);
    return BYTES_NONE;
}

static int number_field(struct bytes value, struct bytes key, uint64_t max, uint64_t *out)
{
    struct bytes text = field(value, key);
    *out = 0;
    return text.at ? bytes_to_u64(text, max, out) : OK;
}

static int restore_window(struct queue_window **w, struct bytes text, uint64_t reserved,
                          int64_t seconds, uint32_t slots, int64_t elapsed_us, struct queue_now now)
{
    if (!text.len &&
        !reserved) // which limits hold is not known yet: what is reserved counts for all
        return OK;
    if (!*w) {
        *w = mem_new(sizeof(**w));
        queue_window_init(*w, seconds * 1000000, slots);
    }
    int err = queue_window_restore(*w, text, elapsed_us, now.mono);
    queue_window_add(*w, now.mono, (uint32_t)reserved);
    return err;
}

// Why it backs off; one that is damaged is none.
static void restore_text(struct queue_lane *l, struct bytes value)
{
    struct buf text;
    buf_init(&text, QUEUE_TEXT_MAX);
    if (value.len && mail_xtext_decode(value, &text) == OK) {
        free(l->text);
        l->text = queue_dup_text(buf_bytes(&text));
    }
    buf_done(&text);
}

static int restore_lane(struct queue *q, struct bytes name, struct bytes value,
                        struct queue_now now)
{
    uint64_t at, failures, backoff_ms, reserved, last_ms, rested_ms, debt;
    if (name.len == 0 || name.len > QUEUE_LANE_MAX || value.len == 0 ||
        number_field(value, BYTES("at="), INT64_MAX, &at) ||
        number_field(value, BYTES("failures="), 1000000, &failures) ||
        number_field(value, BYTES("backoff="), INT64_MAX / 1000000, &backoff_ms) ||
        number_field(value, BYTES("reserved="), UINT32_MAX, &reserved) ||
        number_field(value, BYTES("last="), INT64_MAX / 1000000, &last_ms) ||
        number_field(value, BYTES("rested="), INT64_MAX / 1000000, &rested_ms) ||
        number_field(value, BYTES("debt="), INT64_MAX / 1000000, &debt))
        return E_SYNTAX;
    int64_t elapsed_us = now.wall.us - (int64_t)at;
    elapsed_us =
        elapsed_us > 0 ? elapsed_us : 0; // a clock that went back: as if no time had passed
    struct queue_lane *l = queue_lane_get(q, name);
    l->failures = (uint32_t)failures;
    int64_t left_ms = (int64_t)backoff_ms - elapsed_us / 1000;
    if (failures && left_ms > 0)
        l->backoff_us = mono_add_ms(now.mono, left_ms).us;
    if (failures)
        restore_text(l, field(value, BYTES("text=")));
    if (reserved)
        l->last_us[SHARE_ALL] = l->last_us[SHARE_LOW] = now.mono.us;
    else if (field(value, BYTES("last=")).at)
        l->last_us[SHARE_ALL] = l->last_us[SHARE_LOW] =
            now.mono.us - elapsed_us - (int64_t)last_ms * 1000;
    if (rested_ms)
        l->rested_us = now.mono.us + (int64_t)rested_ms * 1000 - (reserved ? 0 : elapsed_us);
    if ((int64_t)debt * 1000 > elapsed_us)
        l->bytes_us[SHARE_ALL] = l->bytes_us[SHARE_LOW] =
            now.mono.us + (int64_t)debt * 1000 - elapsed_us;
    l->note_kept = true;
    int err = restore_window(&l->hour, field(value, BYTES("hour=")), reserved, 3600,
                             QUEUE_HOUR_SLOTS, elapsed_us, now);
    int err_day = restore_window(&l->day, field(value, BYTES("day=")), reserved, 86400,
                                 QUEUE_DAY_SLOTS, elapsed_us, now);
    queue_lane_touch(q, l);
    return err ? err : err_day;
}

int queue_restore(struct queue *q, struct bytes name, struct bytes value, struct queue_now now)
{
    queue_lock(q);
    int err = E_SYNTAX;
    if (bytes_starts(name, BYTES("lane/")))
        err = restore_lane(q, bytes_skip(name, 5), value, now);
    else if (bytes_starts(name, BYTES("hold/")))
        err = queue_hold_restore(q, bytes_skip(name, 5), value);
    queue_unlock(q, NULL, NULL);
    return err;
}

bool queue_save_next(struct queue *q, uint64_t *cursor, struct queue_now now,
                     struct queue_note *out)
{
    bool found = false;
    queue_lock(q);
    while (!found && *cursor < q->lanes.made) {
        struct queue_lane *l = queue_pool_at(&q->lanes, (uint32_t)(*cursor)++);
        if (!l->name || !l->note_kept)
            continue;
        queue_note_make(q, l, now, 0, out);
        l->tokens = 0; // nothing may be sent any more
        found = true;
    }
    queue_unlock(q, NULL, NULL);
    return found;
}
