// SPDX-License-Identifier: MIT
#include "deliver/dialogue.h"

#include <stdio.h>

#include "spool/tlv.h"

// line = ms:4 from:1 length:2 text
#define HEAD_BYTES 7
#define ALL_TIMES 16

void dialogue_begin(struct dialogue *d, struct mono now)
{
    buf_clear(&d->opening);
    d->began = now;
    d->opened = false;
    dialogue_next(d, false);
    d->opened = false;
}

void dialogue_next(struct dialogue *d, bool all)
{
    buf_clear(&d->first);
    buf_clear(&d->last);
    d->left_out = 0;
    d->opened = true;
    d->all = all;
}

void dialogue_done(struct dialogue *d)
{
    buf_done(&d->opening);
    buf_done(&d->first);
    buf_done(&d->last);
}

static size_t line_bytes(struct bytes part)
{
    return HEAD_BYTES + ((size_t)(uint8_t)part.at[5] | (size_t)(uint8_t)part.at[6] << 8);
}

static void add(struct buf *to, uint32_t ms, enum dialogue_from from, struct bytes text)
{
    char head[HEAD_BYTES];
    le32_put(head, ms);
    head[4] = (char)from;
    head[5] = (char)(text.len & 0xff);
    head[6] = (char)(text.len >> 8);
    buf_add(to, bytes_of(head, sizeof head));
    buf_add(to, text);
}

static void add_last(struct dialogue *d, size_t max, uint32_t ms, enum dialogue_from from,
                     struct bytes text)
{
    size_t drop = 0;
    for (; d->last.len - drop + HEAD_BYTES + text.len > max && drop < d->last.len; d->left_out++)
        drop += line_bytes(bytes_skip(buf_bytes(&d->last), drop));
    buf_consume(&d->last, drop);
    add(&d->last, ms, from, text);
}

void dialogue_add(struct dialogue *d, struct mono now, enum dialogue_from from, struct bytes text)
{
    size_t max = DIALOGUE_PART_BYTES * (d->all ? ALL_TIMES : 1);
    uint32_t ms = (uint32_t)mono_ms_between(d->began, now);
    text = bytes_first(text, DIALOGUE_LINE_MAX);
    struct buf *part = d->opened ? &d->first : &d->opening;
    if (!d->last.len && part->len + HEAD_BYTES + text.len <= max)
        add(part, ms, from, text);
    else
        add_last(d, max, ms, from, text);
}

void dialogue_add_line(struct dialogue *d, struct mono now, enum smtp_client_line kind,
                       uint64_t number, struct bytes text)
{
    char said[DIALOGUE_LINE_MAX];
    int n;
    if (kind == SMTP_LINE_SENT) {
        dialogue_add(d, now, DIALOGUE_US, text);
        return;
    }
    if (kind == SMTP_LINE_REPLY)
        n = snprintf(said, sizeof said, "%u %.*s", (unsigned)number, BYTES_FMT(text));
    else
        n = snprintf(said, sizeof said, "%llu bytes of content", (unsigned long long)number);
    dialogue_add(d, now, kind == SMTP_LINE_REPLY ? DIALOGUE_SERVER : DIALOGUE_NOTE,
                 bytes_of(said, n < (int)sizeof said ? (size_t)n : sizeof said - 1));
}

bool dialogue_take(struct bytes *in, struct dialogue_line *out)
{
    if (in->len < HEAD_BYTES || in->len < line_bytes(*in))
        return false;
    *out = (struct dialogue_line){le32_get(in->at), (enum dialogue_from)in->at[4],
                                  bytes_mid(*in, HEAD_BYTES, line_bytes(*in) - HEAD_BYTES)};
    *in = bytes_skip(*in, line_bytes(*in));
    return true;
}
