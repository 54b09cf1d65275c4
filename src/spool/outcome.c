// SPDX-License-Identifier: MIT
#include "spool/outcome.h"

#include "base/check.h"
#include "spool/outcome_codec.h"
#include "spool/tlv.h"

static const char *const state_names[RECIPIENT_STATES] = {
    [RECIPIENT_QUEUED] = "queued",       [RECIPIENT_HELD] = "held",
    [RECIPIENT_DELIVERED] = "delivered", [RECIPIENT_RELAYED] = "relayed",
    [RECIPIENT_FAILED] = "failed",       [RECIPIENT_EXPIRED] = "expired",
    [RECIPIENT_REMOVED] = "removed",
};

static const char *const event_names[SPOOL_EVENTS] = {
    [SPOOL_EVENT_ACCEPTED] = "accepted", [SPOOL_EVENT_ATTEMPTED] = "attempted",
    [SPOOL_EVENT_DEFERRED] = "deferred", [SPOOL_EVENT_DELIVERED] = "delivered",
    [SPOOL_EVENT_BOUNCED] = "bounced",   [SPOOL_EVENT_EXPIRED] = "expired",
    [SPOOL_EVENT_HELD] = "held",         [SPOOL_EVENT_RELEASED] = "released",
    [SPOOL_EVENT_REMOVED] = "removed",   [SPOOL_EVENT_DSN] = "dsn",
    [SPOOL_EVENT_FEEDBACK] = "feedback",
};

const char *recipient_state_name(enum recipient_state state)
{
    CHECK(state < RECIPIENT_STATES);
    return state_names[state];
}

const char *spool_event_name(enum spool_event event)
{
    CHECK(event < SPOOL_EVENTS);
    return event_names[event];
}

// ---- codec --------------------------------------------------------------------------------------

// Tags of the rest stand in the journal: never reuse a number.
enum {
    TAG_MX = 1,
    TAG_IP = 2,
    TAG_TLS = 3,
    TAG_LANE = 4,
    TAG_CODE = 5,
    TAG_ENHANCED = 6,
    TAG_TEXT = 7,
    TAG_ACTOR = 8,
    TAG_REASON = 9,
    TAG_RELATED = 10, // 16 bytes
    TAG_CLASS = 11,   // its reason, and CLASS_HARD
    TAG_ACCOUNT = 12,
    TAG_ADDRESS = 13,
};

#define CLASS_HARD 0x80u
// Of the summary; others are ignored.
#define FLAG_WARNED 1u
#define FLAG_EXEMPT 2u

static uint64_t us_of(struct wall t)
{
    return t.us > 0 ? (uint64_t)t.us : 0;
}

void outcome_encode(const struct spool_outcome *o, struct buf *summary, struct buf *rest)
{
    char related[16];
    varint_add(summary, o->recipient);
    varint_add(summary, o->state);
    varint_add(summary, o->event);
    varint_add(summary, (o->warned ? FLAG_WARNED : 0u) | (o->exempt ? FLAG_EXEMPT : 0u));
    varint_add(summary, o->attempts);
    varint_add(summary, us_of(o->at));
    varint_add(summary, us_of(o->next_attempt_at));
    tlv_add(rest, TAG_MX, bytes_first(o->mx, OUTCOME_WORD_MAX));
    tlv_add(rest, TAG_IP, bytes_first(o->ip, OUTCOME_WORD_MAX));
    tlv_add(rest, TAG_TLS, bytes_first(o->tls, OUTCOME_WORD_MAX));
    tlv_add(rest, TAG_LANE, bytes_first(o->lane, OUTCOME_WORD_MAX));
    tlv_add_u64(rest, TAG_CODE, o->code);
    tlv_add(rest, TAG_ENHANCED, bytes_first(o->enhanced, OUTCOME_WORD_MAX));
    tlv_add(rest, TAG_TEXT, bytes_first(o->text, OUTCOME_TEXT_MAX));
    tlv_add_u64(rest, TAG_CLASS, o->class.reason | (o->class.hard ? CLASS_HARD : 0u));
    tlv_add_u64(rest, TAG_ACCOUNT, o->account);
    tlv_add(rest, TAG_ADDRESS, bytes_first(o->address, OUTCOME_ADDRESS_MAX));
    tlv_add(rest, TAG_ACTOR, bytes_first(o->actor, OUTCOME_WORD_MAX));
    tlv_add(rest, TAG_REASON, bytes_first(o->reason, OUTCOME_TEXT_MAX));
    if (o->related.high || o->related.low) {
        le64_put(related, o->related.high);
        le64_put(related + 8, o->related.low);
        tlv_add(rest, TAG_RELATED, bytes_of(related, sizeof(related)));
    }
}

static int decode_summary(struct bytes in, struct spool_outcome *out)
{
    uint64_t v[7];
    for (size_t i = 0; i < COUNT_OF(v); i++)
        if (varint_take(&in, &v[i]))
            return E_DAMAGED;
    if (v[0] == 0 || v[0] > UINT32_MAX || v[1] >= RECIPIENT_STATES || v[2] >= SPOOL_EVENTS ||
        v[4] > UINT32_MAX || v[5] > INT64_MAX || v[6] > INT64_MAX)
        return E_DAMAGED;
    out->recipient = (uint32_t)v[0];
    out->state = (enum recipient_state)v[1];
    out->event = (enum spool_event)v[2];
    out->warned = v[3] & FLAG_WARNED;
    out->exempt = v[3] & FLAG_EXEMPT;
    out->attempts = (uint32_t)v[4];
    out->at.us = (int64_t)v[5];
    out->next_attempt_at.us = (int64_t)v[6];
    return OK;
}

// A reason of a newer version is kept as none.
static struct bounce_class class_of(uint64_t value)
{
    uint64_t reason = value & ~(uint64_t)CLASS_HARD;
    if (reason >= BOUNCE_REASONS)
        return (struct bounce_class){BOUNCE_NONE, false};
    return (struct bounce_class){(enum bounce_reason)reason, value & CLASS_HARD};
}

static void decode_word(uint32_t tag, struct bytes value, struct spool_outcome *out)
{
    struct bytes *const words[] = {
        [TAG_MX] = &out->mx,
        [TAG_IP] = &out->ip,
        [TAG_TLS] = &out->tls,
        [TAG_LANE] = &out->lane,
        [TAG_ENHANCED] = &out->enhanced,
        [TAG_TEXT] = &out->text,
        [TAG_ADDRESS] = &out->address,
        [TAG_ACTOR] = &out->actor,
        [TAG_REASON] = &out->reason,
    };
    if (tag == TAG_CODE)
        out->code = (uint16_t)tlv_u64(value);
    else if (tag == TAG_ACCOUNT)
        out->account = (uint32_t)tlv_u64(value);
    else if (tag == TAG_CLASS)
        out->class = class_of(tlv_u64(value));
    else if (tag == TAG_RELATED && value.len == 16)
        out->related = (struct message_id){le64_get(value.at), le64_get(value.at + 8)};
    else if (tag < COUNT_OF(words) && words[tag])
        *words[tag] = value;
}

int outcome_decode(struct message_id id, struct bytes summary, struct bytes rest,
                   struct spool_outcome *out)
{
    uint32_t tag;
    struct bytes value;
    int err = OK;
    *out = (struct spool_outcome){.id = id};
    if (decode_summary(summary, out))
        return E_DAMAGED;
    while (tlv_next(&rest, &tag, &value, &err))
        decode_word(tag, value, out);
    return err ? E_DAMAGED : OK;
}

// ---- status -------------------------------------------------------------------------------------

#define ATTEMPTS_MAX 0xffffu
#define NEXT_MS_MAX (((uint64_t)1 << 43) - 1) // the year 2248
#define STATUS_WARNED (UINT64_C(1) << 3)
#define STATUS_EXEMPT (UINT64_C(1) << 63)

struct recipient_status recipient_status_of(const struct spool_outcome *o)
{
    uint64_t attempts = o->attempts > ATTEMPTS_MAX ? ATTEMPTS_MAX : o->attempts;
    uint64_t next_ms = us_of(o->next_attempt_at) / 1000;
    if (next_ms > NEXT_MS_MAX)
        next_ms = NEXT_MS_MAX;
    return (struct recipient_status){(uint64_t)o->state | (o->warned ? STATUS_WARNED : 0) |
                                     attempts << 4 | next_ms << 20 |
                                     (o->exempt ? STATUS_EXEMPT : 0)};
}

enum recipient_state recipient_status_state(struct recipient_status s)
{
    return (enum recipient_state)(s.bits & 7);
}

uint32_t recipient_status_attempts(struct recipient_status s)
{
    return (uint32_t)(s.bits >> 4 & ATTEMPTS_MAX);
}

struct wall recipient_status_next(struct recipient_status s)
{
    return (struct wall){(int64_t)(s.bits >> 20 & NEXT_MS_MAX) * 1000};
}

bool recipient_status_warned(struct recipient_status s)
{
    return s.bits & STATUS_WARNED;
}

bool recipient_status_exempt(struct recipient_status s)
{
    return s.bits & STATUS_EXEMPT;
}

struct recipient_status recipient_status_after(struct recipient_status before,
                                               struct recipient_status s)
{
    uint64_t stays =
        STATUS_WARNED | (recipient_status_state(s) == RECIPIENT_HELD ? 0 : STATUS_EXEMPT);
    s.bits |= before.bits & stays;
    return s;
}
