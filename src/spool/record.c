// SPDX-License-Identifier: MIT
#include "spool/record.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "spool/tlv.h"

uint64_t record_hash(struct bytes data)
{
    return XXH3_64bits(data.at, data.len);
}

static uint64_t head_checksum(const char *head, uint64_t seed)
{
    return XXH3_64bits_withSeed(head, RECORD_HEAD_BYTES - 8, seed);
}

void record_head_format(const struct record_head *head, uint64_t seed, char out[RECORD_HEAD_BYTES])
{
    le32_put(out, RECORD_MAGIC);
    out[4] = (char)head->type;
    out[5] = (char)head->flags;
    out[6] = (char)head->frame_index;
    out[7] = (char)head->frame_left;
    le64_put(out + 8, head->sequence);
    le64_put(out + 16, head->id.high);
    le64_put(out + 24, head->id.low);
    le32_put(out + 32, head->meta_bytes);
    le32_put(out + 36, head->content_bytes);
    le64_put(out + 40, head->meta_hash);
    le64_put(out + 48, head->content_hash);
    le64_put(out + 56, head_checksum(out, seed));
}

int record_head_parse(const char in[RECORD_HEAD_BYTES], uint64_t seed, struct record_head *out)
{
    if (le32_get(in) != RECORD_MAGIC || le64_get(in + 56) != head_checksum(in, seed))
        return E_DAMAGED;
    *out = (struct record_head){
        .type = (uint8_t)in[4],
        .flags = (uint8_t)in[5],
        .frame_index = (uint8_t)in[6],
        .frame_left = (uint8_t)in[7],
        .sequence = le64_get(in + 8),
        .id = {le64_get(in + 16), le64_get(in + 24)},
        .meta_bytes = le32_get(in + 32),
        .content_bytes = le32_get(in + 36),
        .meta_hash = le64_get(in + 40),
        .content_hash = le64_get(in + 48),
    };
    if (out->meta_bytes > RECORD_META_MAX || out->content_bytes > RECORD_CONTENT_MAX)
        return E_DAMAGED;
    return OK;
}

uint64_t record_head_peek(const char in[RECORD_HEAD_BYTES])
{
    return le32_get(in) == RECORD_MAGIC ? le64_get(in + 8) : 0;
}

bool record_is_sound(const struct record_head *head, struct bytes meta, struct bytes content)
{
    return record_hash(meta) == head->meta_hash &&
           (content.len == 0 || record_hash(content) == head->content_hash);
}

int record_meta_parse(struct bytes meta, struct record_meta *out)
{
    if (meta.len < RECORD_META_HEAD_BYTES)
        return E_DAMAGED;
    uint32_t states = le32_get(meta.at), summary = le32_get(meta.at + 4);
    struct bytes left = bytes_skip(meta, RECORD_META_HEAD_BYTES);
    if (bytes_take(&left, states, &out->states) || bytes_take(&left, summary, &out->summary))
        return E_DAMAGED;
    out->rest = left;
    return OK;
}
