// SPDX-License-Identifier: MIT
//
// How it works: the 100 bits, 64 of them in `high` and 36 in `low`, are 20 groups of five. The
// upper 12 groups are high's upper 60 bits; the 13th holds high's last four bits and low's first.
#include "mail/message_id.h"

#define EPOCH_2020_MS 1577836800000LL
#define TIME_BITS 42
#define NODE_BITS 10
#define EPOCH_BITS 20
#define COUNTER_BITS 28

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

static uint64_t low_bits(uint64_t value, unsigned bits)
{
    return value & ((1ULL << bits) - 1);
}

struct message_id message_id_make(struct wall now, uint32_t node, uint32_t epoch, uint32_t counter)
{
    int64_t ms = now.us / 1000 - EPOCH_2020_MS;
    if (ms < 0)
        ms = 0; // a clock before 2020: the epoch still keeps ids apart
    uint64_t high = low_bits((uint64_t)ms, TIME_BITS);
    high = high << NODE_BITS | low_bits(node, NODE_BITS);
    high = high << 12 | low_bits(epoch, EPOCH_BITS) >> 8;
    uint64_t low = low_bits(epoch, 8) << COUNTER_BITS | low_bits(counter, COUNTER_BITS);
    return (struct message_id){high, low};
}

// The i-th group of five bits, from the most significant.
static unsigned group(struct message_id id, unsigned i)
{
    if (i < 12)
        return (unsigned)(id.high >> (59 - 5 * i)) & 31;
    if (i == 12)
        return (unsigned)(id.high & 15) << 1 | (unsigned)(id.low >> 35 & 1);
    return (unsigned)(id.low >> (35 - 5 * (i - 12))) & 31;
}

void message_id_format(struct message_id id, char out[MESSAGE_ID_CHARS + 1])
{
    for (unsigned i = 0; i < MESSAGE_ID_CHARS; i++)
        out[i] = alphabet[group(id, i)];
    out[MESSAGE_ID_CHARS] = 0;
}

// The value of one character of the alphabet, either case; -1 for any other.
static int digit_of(char c)
{
    if (c >= 'a' && c <= 'z')
        c = (char)(c - 32);
    const char *hit = c ? strchr(alphabet, c) : NULL;
    return hit ? (int)(hit - alphabet) : -1;
}

int message_id_parse(struct bytes text, struct message_id *out)
{
    struct message_id id = {0, 0};
    if (text.len != MESSAGE_ID_CHARS)
        return E_SYNTAX;
    for (unsigned i = 0; i < MESSAGE_ID_CHARS; i++) {
        int digit = digit_of(text.at[i]);
        if (digit < 0)
            return E_SYNTAX;
        uint64_t value = (uint64_t)digit;
        if (i < 12)
            id.high = id.high << 5 | value;
        else if (i == 12) {
            id.high = id.high << 4 | value >> 1;
            id.low = value & 1;
        } else
            id.low = id.low << 5 | value;
    }
    *out = id;
    return OK;
}

struct wall message_id_time(struct message_id id)
{
    int64_t ms = (int64_t)(id.high >> (NODE_BITS + 12)) + EPOCH_2020_MS;
    return (struct wall){ms * 1000};
}

static uint64_t epoch_of(struct message_id id)
{
    return low_bits(id.high, 12) << 8 | id.low >> COUNTER_BITS;
}

bool message_id_is_before(struct message_id id, struct message_id mark)
{
    if (epoch_of(id) != epoch_of(mark))
        return epoch_of(id) < epoch_of(mark);
    return low_bits(id.low - mark.low, COUNTER_BITS) > MESSAGE_ID_AHEAD_MAX ||
           wall_ms_between(message_id_time(id), message_id_time(mark)) > MESSAGE_ID_ROUND_MS;
}

int message_id_cmp(struct message_id a, struct message_id b)
{
    if (a.high != b.high)
        return a.high < b.high ? -1 : 1;
    return (a.low > b.low) - (a.low < b.low);
}
