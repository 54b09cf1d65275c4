// SPDX-License-Identifier: MIT
#include "spool/feedback.h"

#include "base/check.h"
#include "spool/tlv.h"

#define WORD_MAX 320

static const char *const NAMES[FEEDBACK_KINDS] = {
    [FEEDBACK_OTHER] = "other",
    [FEEDBACK_BOUNCE] = "bounce",
    [FEEDBACK_DELAY] = "delay",
    [FEEDBACK_COMPLAINT] = "complaint",
    [FEEDBACK_AUTO_REPLY] = "auto-reply",
    [FEEDBACK_SUCCESS] = "success",
    [FEEDBACK_UNSUBSCRIBE] = "unsubscribe",
};

// Tags stand in the journal: never reuse a number.
enum {
    TAG_RECIPIENT = 1,
    TAG_KIND = 2,
    TAG_REASON = 3,
    TAG_FLAGS = 4,
    TAG_AT = 5, // us since 1970
    TAG_ACCOUNT = 6,
    TAG_ADDRESS = 7,
    TAG_TAG = 8,
    TAG_CODE = 9,
    TAG_STATUS = 10,
    TAG_DIAGNOSTIC = 11,
    TAG_FROM = 12,
    TAG_DETAIL = 13,
};
// within TAG_FLAGS
enum { FLAG_HARD = 1, FLAG_STREAM_ONLY = 2 };

const char *feedback_kind_name(enum feedback_kind kind)
{
    return NAMES[kind < FEEDBACK_KINDS ? kind : FEEDBACK_OTHER];
}

void feedback_encode(const struct spool_feedback *f, struct buf *out)
{
    tlv_add_u64(out, TAG_RECIPIENT, f->recipient);
    tlv_add_u64(out, TAG_KIND, f->kind);
    tlv_add_u64(out, TAG_REASON, f->class.reason);
    tlv_add_u64(out, TAG_FLAGS,
                (f->class.hard ? FLAG_HARD : 0) | (f->stream_only ? FLAG_STREAM_ONLY : 0));
    tlv_add_u64(out, TAG_AT, f->at.us > 0 ? (uint64_t)f->at.us : 0);
    tlv_add_u64(out, TAG_ACCOUNT, f->account);
    tlv_add(out, TAG_ADDRESS, bytes_first(f->address, WORD_MAX));
    tlv_add(out, TAG_TAG, bytes_first(f->tag, WORD_MAX));
    tlv_add_u64(out, TAG_CODE, f->code);
    tlv_add(out, TAG_STATUS, bytes_first(f->status, WORD_MAX));
    tlv_add(out, TAG_DIAGNOSTIC, bytes_first(f->diagnostic, FEEDBACK_TEXT_MAX));
    tlv_add(out, TAG_FROM, bytes_first(f->from, WORD_MAX));
    tlv_add(out, TAG_DETAIL, bytes_first(f->detail, WORD_MAX));
}

static void decode_number(uint32_t tag, uint64_t value, struct spool_feedback *out)
{
    switch (tag) {
    case TAG_RECIPIENT:
        out->recipient = (uint32_t)value;
        break;
    case TAG_KIND:
        out->kind = value < FEEDBACK_KINDS ? (enum feedback_kind)value : FEEDBACK_OTHER;
        break;
    case TAG_REASON:
        out->class.reason = value < BOUNCE_REASONS ? (enum bounce_reason)value : BOUNCE_OTHER;
        break;
    case TAG_FLAGS:
        out->class.hard = value & FLAG_HARD;
        out->stream_only = value & FLAG_STREAM_ONLY;
        break;
    case TAG_AT:
        out->at.us = value > INT64_MAX ? INT64_MAX : (int64_t)value;
        break;
    case TAG_ACCOUNT:
        out->account = (uint32_t)value;
        break;
    case TAG_CODE:
        out->code = (uint16_t)value;
        break;
    default:
        break;
    }
}

int feedback_decode(struct message_id id, struct bytes in, struct spool_feedback *out)
{
    struct bytes *const words[] = {
        [TAG_ADDRESS] = &out->address,       [TAG_TAG] = &out->tag,   [TAG_STATUS] = &out->status,
        [TAG_DIAGNOSTIC] = &out->diagnostic, [TAG_FROM] = &out->from, [TAG_DETAIL] = &out->detail,
    };
    uint32_t tag;
    struct bytes value;
    int err = OK;
    *out = (struct spool_feedback){.id = id};
    while (tlv_next(&in, &tag, &value, &err)) {
        if (tag < COUNT_OF(words) && words[tag])
            *words[tag] = value;
        else
            decode_number(tag, tlv_u64(value), out);
    }
    return err || out->recipient == 0 ? E_DAMAGED : OK;
}
