// SPDX-License-Identifier: MIT
//
// tlv - tag-length-value attributes, how envelopes and outcomes stand in the journal
//
// attribute = tag length value; tag and length are varints (7 bits a byte, low first, at most 10
// bytes). A number is a value of 0 to 8 bytes, low first, without leading zeros; an attribute that
// is empty or 0 is not written at all.
#pragma once

#include "base/buf.h"

// A restart takes hundreds of millions of these: what takes is inline.
int varint_take_long(struct bytes *in, uint64_t *out) MUST_USE; // of any length
// Takes a varint from the front of *in. E_SYNTAX.
static inline int varint_take(struct bytes *in, uint64_t *out)
{
    if (in->len == 0 || (uint8_t)in->at[0] >= 0x80)
        return varint_take_long(in, out);
    *out = (uint8_t)in->at[0];
    in->at++;
    in->len--;
    return OK;
}
void varint_add(struct buf *out, uint64_t value);
// Takes n raw bytes. E_SYNTAX.
static inline int bytes_take(struct bytes *in, uint64_t n, struct bytes *out)
{
    if (n > in->len)
        return E_SYNTAX;
    *out = bytes_of(in->at, n);
    *in = bytes_skip(*in, n);
    return OK;
}
// A length as varint, then that many bytes. E_SYNTAX.
static inline int bytes_take_counted(struct bytes *in, struct bytes *out)
{
    uint64_t n;
    return varint_take(in, &n) ? E_SYNTAX : bytes_take(in, n, out);
}
void bytes_add_counted(struct buf *out, struct bytes value);

// Takes the next attribute; false at the end or with *err = E_SYNTAX.
static inline bool tlv_next(struct bytes *in, uint32_t *out_tag, struct bytes *out_value, int *err)
{
    uint64_t tag;
    if (in->len == 0)
        return false;
    if (varint_take(in, &tag) || tag > UINT32_MAX || bytes_take_counted(in, out_value)) {
        *err = E_SYNTAX;
        return false;
    }
    *out_tag = (uint32_t)tag;
    return true;
}
// Nothing is written for an empty value or 0.
void tlv_add(struct buf *out, uint32_t tag, struct bytes value);
void tlv_add_u64(struct buf *out, uint32_t tag, uint64_t value);
// An attribute whose value may be empty.
void tlv_add_always(struct buf *out, uint32_t tag, struct bytes value);
// The number in a value; longer than 8 bytes gives 0.
uint64_t tlv_u64(struct bytes value);

// Fixed-size numbers, low byte first.
static inline void le32_put(char *at, uint32_t v)
{
    memcpy(at, &v, 4);
}
static inline void le64_put(char *at, uint64_t v)
{
    memcpy(at, &v, 8);
}
static inline uint32_t le32_get(const char *at)
{
    uint32_t v;
    memcpy(&v, at, 4);
    return v;
}
static inline uint64_t le64_get(const char *at)
{
    uint64_t v;
    memcpy(&v, at, 8);
    return v;
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the journal's numbers are little-endian");
