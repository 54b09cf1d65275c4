// SPDX-License-Identifier: MIT
#include "spool/tlv.h"

int varint_take_long(struct bytes *in, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < in->len && i < 10; i++) {
        uint8_t byte = (uint8_t)in->at[i];
        if (i == 9 && byte > 1)
            return E_SYNTAX;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *in = bytes_skip(*in, i + 1);
            *out = value;
            return OK;
        }
    }
    return E_SYNTAX;
}

void varint_add(struct buf *out, uint64_t value)
{
    char bytes[10];
    size_t n = 0;
    while (value >= 0x80) {
        bytes[n++] = (char)(value | 0x80);
        value >>= 7;
    }
    bytes[n++] = (char)value;
    buf_add(out, bytes_of(bytes, n));
}

void bytes_add_counted(struct buf *out, struct bytes value)
{
    varint_add(out, value.len);
    buf_add(out, value);
}

void tlv_add_always(struct buf *out, uint32_t tag, struct bytes value)
{
    varint_add(out, tag);
    bytes_add_counted(out, value);
}

void tlv_add(struct buf *out, uint32_t tag, struct bytes value)
{
    if (value.len)
        tlv_add_always(out, tag, value);
}

void tlv_add_u64(struct buf *out, uint32_t tag, uint64_t value)
{
    char bytes[8];
    size_t n = 0;
    for (; value; value >>= 8)
        bytes[n++] = (char)value;
    tlv_add(out, tag, bytes_of(bytes, n));
}

uint64_t tlv_u64(struct bytes value)
{
    uint64_t number = 0;
    if (value.len > 8)
        return 0;
    for (size_t i = value.len; i > 0; i--)
        number = number << 8 | (uint8_t)value.at[i - 1];
    return number;
}
