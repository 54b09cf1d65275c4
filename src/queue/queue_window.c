// SPDX-License-Identifier: MIT
#include "queue/queue_window.h"

#include "base/check.h"

void queue_window_init(struct queue_window *w, int64_t length_us, uint32_t slots)
{
    CHECK(slots > 0 && slots <= QUEUE_WINDOW_SLOTS_MAX && length_us % slots == 0);
    *w = (struct queue_window){.slot_us = length_us / slots, .slots = slots};
}

static uint32_t *slot_at(struct queue_window *w, int64_t number)
{
    int64_t ring = (int64_t)w->slots + 1;
    return &w->counts[((number % ring) + ring) % ring];
}

static int64_t slot_of(const struct queue_window *w, int64_t us)
{
    return us >= 0 ? us / w->slot_us : -((-us + w->slot_us - 1) / w->slot_us);
}

// Forgets the slots that have left the window.
static void advance(struct queue_window *w, struct mono now)
{
    int64_t head = slot_of(w, now.us);
    if (w->sum == 0 || head - w->head > (int64_t)w->slots) {
        if (w->sum)
            memset(w->counts, 0, sizeof(w->counts));
        w->sum = 0;
        w->head = head;
        return;
    }
    while (w->head < head) {
        uint32_t *slot = slot_at(w, ++w->head);
        w->sum -= *slot;
        *slot = 0;
    }
}

static void add_to_slot(struct queue_window *w, int64_t number, uint32_t n)
{
    uint32_t *slot = slot_at(w, number);
    uint32_t room = UINT32_MAX - *slot;
    n = n < room ? n : room;
    *slot += n;
    w->sum += n;
}

void queue_window_add(struct queue_window *w, struct mono now, uint32_t n)
{
    advance(w, now);
    add_to_slot(w, w->head, n);
}

uint64_t queue_window_used(struct queue_window *w, struct mono now)
{
    advance(w, now);
    return w->sum;
}

struct mono queue_window_when(struct queue_window *w, struct mono now, uint64_t limit)
{
    CHECK(limit > 0);
    advance(w, now);
    uint64_t left = w->sum;
    if (left < limit)
        return now;
    int64_t oldest = w->head - (int64_t)w->slots;
    for (int64_t number = oldest; number <= w->head; number++) {
        left -= *slot_at(w, number);
        if (left < limit) // the slot leaves when its successor by slots + 1 begins
            return (struct mono){(number + (int64_t)w->slots + 1) * w->slot_us};
    }
    return (struct mono){(w->head + (int64_t)w->slots + 1) * w->slot_us};
}

void queue_window_format(struct queue_window *w, struct mono now, struct buf *out)
{
    advance(w, now);
    bool first = true;
    for (int64_t number = w->head - (int64_t)w->slots; w->sum && number <= w->head; number++) {
        uint32_t count = *slot_at(w, number);
        if (count == 0)
            continue;
        int64_t newest = (number + 1) * w->slot_us;
        int64_t age = now.us > newest ? now.us - newest : 0;
        buf_printf(out, "%s%lld:%u", first ? "" : ",", (long long)age, count);
        first = false;
    }
}

int queue_window_restore(struct queue_window *w, struct bytes text, int64_t elapsed_us,
                         struct mono now)
{
    CHECK(elapsed_us >= 0);
    advance(w, now);
    struct bytes part;
    while (text.len && bytes_cut(&text, ',', &part)) {
        struct bytes age_text;
        uint64_t age, count;
        if (!bytes_cut(&part, ':', &age_text) || bytes_to_u64(age_text, INT64_MAX / 4, &age) ||
            bytes_to_u64(part, UINT32_MAX, &count))
            return E_SYNTAX;
        int64_t number = slot_of(w, now.us - (int64_t)age - elapsed_us);
        if (number >= w->head - (int64_t)w->slots)
            add_to_slot(w, number, (uint32_t)count);
    }
    return OK;
}
