// SPDX-License-Identifier: MIT
#include "spool/envelope_codec.h"

#include <stdlib.h>

#include "base/check.h"
#include "spool/tlv.h"

// Tags stand in the journal: never reuse a number.
enum {
    // summary
    TAG_RECIPIENTS = 1, // always first
    TAG_ACCOUNT = 2,
    TAG_CLASS = 3,
    TAG_FLAGS = 4,
    TAG_BODY = 5,
    TAG_PRIORITY = 6,    // zigzag
    TAG_ACCEPTED_AT = 7, // times in us since 1970
    TAG_NOT_BEFORE = 8,
    TAG_EXPIRES_AT = 9,
    TAG_HEADER_BYTES = 10,
    TAG_BODY_BYTES = 11,
    TAG_TAG = 12,
    TAG_RECIPIENT = 13,   // one a recipient, in order of number
    TAG_WALL_JUMPED = 14, // ms, zigzag
    TAG_DELIVER_BY = 15,
    TAG_BY_MODE = 16, // enum by_mode, and BY_TRACE
    // rest
    TAG_REVERSE_PATH = 32,
    TAG_ACCOUNT_NAME = 33,
    TAG_CREDENTIAL = 34,
    TAG_LISTENER = 35,
    TAG_CLIENT = 36,
    TAG_HELO = 37,
    TAG_ENVID = 38,
    TAG_MESSAGE_ID = 39,
    TAG_METADATA = 40, // name counted, then the value
    TAG_ORIGIN = 41,
    TAG_RET = 42,
    TAG_BODY_SHA256 = 43, // of versions before: the body as it is; nobody reads it
    TAG_EXTENT_SUM = 44,
    TAG_RECIPIENT_REST = 45, // one a recipient, in order of number
    TAG_BODY_HASH = 46,
    TAG_RELEASE = 47,
};
// within TAG_RECIPIENT
enum { RECIPIENT_DOMAIN = 1, RECIPIENT_NOTIFY = 2 };
// within TAG_RECIPIENT_REST
enum { RECIPIENT_ADDRESS = 1, RECIPIENT_ORCPT = 2, RECIPIENT_TOKEN = 3 };
#define BY_TRACE 4u // within TAG_BY_MODE
// within TAG_FLAGS
enum {
    FLAG_SMTPUTF8 = 1,
    FLAG_REQUIRETLS = 2,
    FLAG_NULL_SENDER = 4,
    FLAG_TLS = 8,
    FLAG_EXTENT = 16,
    FLAG_RETURN_PATH = 32,
    FLAG_UNSUBSCRIBE = 64,
    FLAG_SINGLY = 128
};

// ---- encode -------------------------------------------------------------------------------------

static void add_time(struct buf *out, uint32_t tag, struct wall t)
{
    tlv_add_u64(out, tag, t.us > 0 ? (uint64_t)t.us : 0);
}

static uint64_t zigzag(int64_t v)
{
    return v < 0 ? (uint64_t) - (v + 1) * 2 + 1 : (uint64_t)v * 2;
}

static uint64_t flags_of(const struct stored_message *m)
{
    const struct envelope *e = m->envelope;
    return (e->smtputf8 ? FLAG_SMTPUTF8 : 0) | (e->requiretls ? FLAG_REQUIRETLS : 0) |
           (e->reverse_path.len ? 0 : FLAG_NULL_SENDER) | (e->tls ? FLAG_TLS : 0) |
           (m->body_in_extent ? FLAG_EXTENT : 0) | (e->return_path ? FLAG_RETURN_PATH : 0) |
           (e->unsubscribe ? FLAG_UNSUBSCRIBE : 0) | (e->singly ? FLAG_SINGLY : 0);
}

static void encode_summary(const struct stored_message *m, struct buf *nested, struct buf *out)
{
    const struct envelope *e = m->envelope;
    const int priority =
        (int)e->priority; // NOLINT(bugprone-signed-char-misuse): it is a number, -9 to 9
    tlv_add_u64(out, TAG_RECIPIENTS, e->recipients_count);
    tlv_add_u64(out, TAG_ACCOUNT, e->account);
    tlv_add_u64(out, TAG_CLASS, e->class);
    tlv_add_u64(out, TAG_FLAGS, flags_of(m));
    tlv_add_u64(out, TAG_BODY, e->body);
    tlv_add_u64(out, TAG_PRIORITY, zigzag(priority));
    add_time(out, TAG_ACCEPTED_AT, e->accepted_at);
    add_time(out, TAG_NOT_BEFORE, e->not_before);
    add_time(out, TAG_EXPIRES_AT, e->expires_at);
    tlv_add_u64(out, TAG_WALL_JUMPED, zigzag(e->wall_jumped_ms));
    add_time(out, TAG_DELIVER_BY, e->deliver_by);
    tlv_add_u64(out, TAG_BY_MODE, e->by_mode | (e->by_trace ? BY_TRACE : 0));
    tlv_add_u64(out, TAG_HEADER_BYTES, e->header_bytes);
    tlv_add_u64(out, TAG_BODY_BYTES, e->body_bytes);
    tlv_add(out, TAG_TAG, e->tag);
    for (uint32_t i = 0; i < e->recipients_count; i++) {
        buf_clear(nested);
        tlv_add(nested, RECIPIENT_DOMAIN, e->recipients[i].domain);
        tlv_add_u64(nested, RECIPIENT_NOTIFY, e->recipients[i].notify);
        tlv_add_always(out, TAG_RECIPIENT, buf_bytes(nested));
    }
}

static void encode_rest(const struct stored_message *m, struct buf *nested, struct buf *out)
{
    const struct envelope *e = m->envelope;
    tlv_add(out, TAG_REVERSE_PATH, e->reverse_path);
    tlv_add(out, TAG_ACCOUNT_NAME, e->account_name);
    tlv_add(out, TAG_CREDENTIAL, e->credential);
    tlv_add(out, TAG_LISTENER, e->listener);
    tlv_add(out, TAG_CLIENT, e->client);
    tlv_add(out, TAG_HELO, e->helo);
    tlv_add(out, TAG_ENVID, e->envid);
    tlv_add(out, TAG_MESSAGE_ID, e->message_id);
    for (uint32_t i = 0; i < e->metadata_count; i++) {
        buf_clear(nested);
        bytes_add_counted(nested, e->metadata[i].name);
        buf_add(nested, e->metadata[i].value);
        tlv_add(out, TAG_METADATA, buf_bytes(nested));
    }
    tlv_add_u64(out, TAG_ORIGIN, e->origin);
    tlv_add_u64(out, TAG_RET, e->ret);
    if (e->has_body_hash)
        tlv_add(out, TAG_BODY_HASH, bytes_of(e->body_hash, sizeof(e->body_hash)));
    tlv_add_u64(out, TAG_EXTENT_SUM, m->extent_sum);
    tlv_add(out, TAG_RELEASE, e->release);
    for (uint32_t i = 0; i < e->recipients_count; i++) {
        buf_clear(nested);
        tlv_add(nested, RECIPIENT_ADDRESS, e->recipients[i].address);
        tlv_add(nested, RECIPIENT_ORCPT, e->recipients[i].orcpt);
        tlv_add(nested, RECIPIENT_TOKEN, e->recipients[i].token);
        tlv_add_always(out, TAG_RECIPIENT_REST, buf_bytes(nested));
    }
    buf_add(out, e->unknown);
}

int envelope_encode(const struct stored_message *m, struct buf *summary, struct buf *rest)
{
    const struct envelope *e = m->envelope;
    if (e->recipients_count == 0 || e->recipients_count > ENVELOPE_RECIPIENTS_MAX ||
        e->metadata_count > ENVELOPE_METADATA_MAX)
        return E_LIMIT;
    for (uint32_t i = 0; i < e->recipients_count; i++)
        if (e->recipients[i].number != i + 1)
            return E_LIMIT;
    struct buf nested = {0};
    encode_summary(m, &nested, summary);
    encode_rest(m, &nested, rest);
    int err = nested.err;
    buf_done(&nested);
    if (!err)
        err = summary->err ? summary->err : rest->err;
    if (!err && summary->len + rest->len > SPOOL_META_MAX)
        err = E_LIMIT;
    return err;
}

// ---- summary ------------------------------------------------------------------------------------

static struct wall time_of(struct bytes value)
{
    uint64_t us = tlv_u64(value);
    return (struct wall){us > INT64_MAX ? INT64_MAX : (int64_t)us};
}

int summary_recipients(struct bytes summary, uint32_t *out)
{
    uint32_t tag;
    struct bytes value;
    int err = OK;
    if (!tlv_next(&summary, &tag, &value, &err) || tag != TAG_RECIPIENTS)
        return E_DAMAGED;
    uint64_t count = tlv_u64(value);
    // Each recipient is an attribute of at least two bytes further on.
    if (count == 0 || count > ENVELOPE_RECIPIENTS_MAX || count > summary.len / 2)
        return E_DAMAGED;
    *out = (uint32_t)count;
    return OK;
}

// A restart asks this of every message. What stands before the flags is one byte of tag, one of length, value.
bool summary_has_extent(struct bytes summary)
{
    uint32_t tag;
    struct bytes value;
    int err = OK;
    while (summary.len > 2 && summary.at[0] < TAG_FLAGS && summary.at[0] > 0 &&
           (uint8_t)summary.at[1] < 0x80 && (size_t)summary.at[1] + 2 <= summary.len)
        summary = bytes_skip(summary, (size_t)summary.at[1] + 2);
    while (tlv_next(&summary, &tag, &value, &err) && tag <= TAG_FLAGS) // they stand in order
        if (tag == TAG_FLAGS)
            return tlv_u64(value) & FLAG_EXTENT;
    return false;
}

static int decode_recipient(struct bytes in, struct spool_summary_recipient *out)
{
    uint32_t tag;
    struct bytes value;
    int err = OK;
    while (tlv_next(&in, &tag, &value, &err)) {
        if (tag == RECIPIENT_DOMAIN)
            out->domain = value;
        else if (tag == RECIPIENT_NOTIFY)
            out->notify = (uint32_t)tlv_u64(value);
    }
    return err ? E_DAMAGED : OK;
}

static void decode_flags(uint64_t flags, struct spool_summary *out)
{
    out->smtputf8 = flags & FLAG_SMTPUTF8;
    out->requiretls = flags & FLAG_REQUIRETLS;
    out->null_sender = flags & FLAG_NULL_SENDER;
    out->singly = flags & FLAG_SINGLY;
}

static int64_t unzigzag(uint64_t v)
{
    return v & 1 ? -(int64_t)(v / 2) - 1 : (int64_t)(v / 2);
}

static void decode_summary_field(uint32_t tag, struct bytes value, struct spool_summary *out)
{
    switch (tag) {
    case TAG_ACCOUNT:
        out->account = (uint32_t)tlv_u64(value);
        break;
    case TAG_CLASS:
        out->class = (enum mail_class)tlv_u64(value);
        break;
    case TAG_FLAGS:
        decode_flags(tlv_u64(value), out);
        break;
    case TAG_BODY:
        out->body = (enum mail_body)tlv_u64(value);
        break;
    case TAG_PRIORITY:
        out->priority = (int8_t)unzigzag(tlv_u64(value));
        break;
    case TAG_ACCEPTED_AT:
        out->accepted_at = time_of(value);
        break;
    case TAG_NOT_BEFORE:
        out->not_before = time_of(value);
        break;
    case TAG_EXPIRES_AT:
        out->expires_at = time_of(value);
        break;
    case TAG_WALL_JUMPED:
        out->wall_jumped_ms = unzigzag(tlv_u64(value));
        break;
    case TAG_DELIVER_BY:
        out->deliver_by = time_of(value);
        break;
    case TAG_BY_MODE:
        out->by_mode = (enum by_mode)(tlv_u64(value) & ~(uint64_t)BY_TRACE);
        out->by_trace = tlv_u64(value) & BY_TRACE;
        break;
    case TAG_HEADER_BYTES:
    case TAG_BODY_BYTES:
        out->size += tlv_u64(value);
        break;
    case TAG_TAG:
        out->tag = value;
        break;
    default:
        break;
    }
}

int summary_decode(struct message_id id, struct bytes summary,
                   struct spool_summary_recipient *recipients, struct spool_summary *out)
{
    uint32_t tag, total, seen = 0;
    struct bytes value;
    int err = OK;
    if (summary_recipients(summary, &total))
        return E_DAMAGED;
    *out = (struct spool_summary){.id = id, .recipients_total = total, .recipients = recipients};
    while (!err && tlv_next(&summary, &tag, &value, &err)) {
        if (tag != TAG_RECIPIENT) {
            decode_summary_field(tag, value, out);
            continue;
        }
        if (seen == total)
            return E_DAMAGED;
        recipients[seen] = (struct spool_summary_recipient){.number = seen + 1};
        err = decode_recipient(value, &recipients[seen++]);
    }
    if (err || seen != total || out->class >= MAIL_CLASSES || out->body > BODY_BINARYMIME ||
        out->by_mode > BY_RETURN)
        return E_DAMAGED;
    out->recipients_count = total;
    return OK;
}

void spool_summary_of(const struct stored_message *m, struct arena *arena,
                      struct spool_summary *out)
{
    const struct envelope *e = m->envelope;
    struct spool_summary_recipient *r = arena_new(arena, e->recipients_count * sizeof(*r));
    for (uint32_t i = 0; i < e->recipients_count; i++)
        r[i] = (struct spool_summary_recipient){.number = e->recipients[i].number,
                                                .domain = e->recipients[i].domain,
                                                .notify = e->recipients[i].notify};
    *out = (struct spool_summary){.id = e->id,
                                  .account = e->account,
                                  .class = e->class,
                                  .body = e->body,
                                  .priority = e->priority,
                                  .smtputf8 = e->smtputf8,
                                  .requiretls = e->requiretls,
                                  .null_sender = e->reverse_path.len == 0,
                                  .singly = e->singly,
                                  .accepted_at = e->accepted_at,
                                  .not_before = e->not_before,
                                  .expires_at = e->expires_at,
                                  .wall_jumped_ms = e->wall_jumped_ms,
                                  .deliver_by = e->deliver_by,
                                  .by_mode = e->by_mode,
                                  .by_trace = e->by_trace,
                                  .size = e->header_bytes + e->body_bytes,
                                  .tag = e->tag,
                                  .recipients_total = e->recipients_count,
                                  .recipients = r,
                                  .recipients_count = e->recipients_count};
}

// ---- decode -------------------------------------------------------------------------------------

// What decode gathers while it walks over the attributes.
struct decoding {
    struct arena *arena;
    struct envelope *e;
    struct stored_message *m;
    uint32_t recipients, details;
    struct buf unknown;
};

static int decode_detail(struct bytes in, struct recipient *out)
{
    uint32_t tag;
    struct bytes value;
    int err = OK;
    while (tlv_next(&in, &tag, &value, &err)) {
        if (tag == RECIPIENT_ADDRESS)
            out->address = value;
        else if (tag == RECIPIENT_ORCPT)
            out->orcpt = value;
        else if (tag == RECIPIENT_TOKEN)
            out->token = value;
    }
    return err ? E_DAMAGED : OK;
}

static int decode_metadata(struct bytes in, struct decoding *d)
{
    struct envelope *e = d->e;
    uint32_t n = e->metadata_count;
    if (n == ENVELOPE_METADATA_MAX)
        return E_DAMAGED;
    if ((n & (n - 1)) == 0) { // full at each power of two
        struct metadata *grown = arena_new(d->arena, (n ? 2 * n : 1) * sizeof(*grown));
        if (n)
            memcpy(grown, e->metadata, n * sizeof(*grown));
        e->metadata = grown;
    }
    struct metadata *last = &e->metadata[e->metadata_count++];
    if (bytes_take_counted(&in, &last->name))
        return E_DAMAGED;
    last->value = in;
    return OK;
}

static int decode_body_hash(struct bytes value, struct envelope *e)
{
    if (value.len != sizeof(e->body_hash))
        return E_DAMAGED;
    memcpy(e->body_hash, value.at, value.len);
    e->has_body_hash = true;
    return OK;
}

// The slice of the envelope a text attribute fills, or NULL.
static struct bytes *text_field(uint32_t tag, struct envelope *e)
{
    switch (tag) {
    case TAG_TAG:
        return &e->tag;
    case TAG_REVERSE_PATH:
        return &e->reverse_path;
    case TAG_ACCOUNT_NAME:
        return &e->account_name;
    case TAG_CREDENTIAL:
        return &e->credential;
    case TAG_LISTENER:
        return &e->listener;
    case TAG_CLIENT:
        return &e->client;
    case TAG_HELO:
        return &e->helo;
    case TAG_ENVID:
        return &e->envid;
    case TAG_MESSAGE_ID:
        return &e->message_id;
    case TAG_RELEASE:
        return &e->release;
    default:
        return NULL;
    }
}

static int decode_field(uint32_t tag, struct bytes value, struct decoding *d)
{
    struct envelope *e = d->e;
    struct bytes *text = text_field(tag, e);
    if (text) {
        *text = value;
        return OK;
    }
    switch (tag) {
    case TAG_RECIPIENT:
        d->recipients++; // taken from the summary
        return OK;
    case TAG_RECIPIENT_REST:
        if (d->details == e->recipients_count)
            return E_DAMAGED;
        return decode_detail(value, &e->recipients[d->details++]);
    case TAG_METADATA:
        return decode_metadata(value, d);
    case TAG_ORIGIN:
        e->origin = (enum mail_origin)tlv_u64(value);
        return OK;
    case TAG_RET:
        e->ret = (enum dsn_ret)tlv_u64(value);
        return OK;
    case TAG_BODY_SHA256:
        return OK;
    case TAG_BODY_HASH:
        return decode_body_hash(value, e);
    case TAG_EXTENT_SUM:
        d->m->extent_sum = tlv_u64(value);
        return OK;
    case TAG_HEADER_BYTES:
        e->header_bytes = tlv_u64(value);
        return OK;
    case TAG_BODY_BYTES:
        e->body_bytes = tlv_u64(value);
        return OK;
    case TAG_FLAGS:
        e->tls = tlv_u64(value) & FLAG_TLS;
        e->return_path = tlv_u64(value) & FLAG_RETURN_PATH;
        e->unsubscribe = tlv_u64(value) & FLAG_UNSUBSCRIBE;
        e->singly = tlv_u64(value) & FLAG_SINGLY;
        d->m->body_in_extent = tlv_u64(value) & FLAG_EXTENT;
        return OK;
    default:
        if (tag > TAG_TAG && (tag < TAG_WALL_JUMPED || tag > TAG_BY_MODE))
            tlv_add_always(&d->unknown, tag, value);
        return OK;
    }
}

static int decode_fields(struct bytes in, struct decoding *d)
{
    uint32_t tag;
    struct bytes value;
    int err = OK;
    while (!err && tlv_next(&in, &tag, &value, &err))
        err = decode_field(tag, value, d);
    return err ? E_DAMAGED : OK;
}

static void fill_from_summary(const struct spool_summary *s, struct envelope *e,
                              struct arena *arena)
{
    e->id = s->id;
    e->account = s->account;
    e->class = s->class;
    e->body = s->body;
    e->priority = s->priority;
    e->smtputf8 = s->smtputf8;
    e->requiretls = s->requiretls;
    e->accepted_at = s->accepted_at;
    e->not_before = s->not_before;
    e->expires_at = s->expires_at;
    e->wall_jumped_ms = s->wall_jumped_ms;
    e->deliver_by = s->deliver_by;
    e->by_mode = s->by_mode;
    e->by_trace = s->by_trace;
    e->recipients_count = s->recipients_count;
    e->recipients = arena_new(arena, s->recipients_count * sizeof(*e->recipients));
    for (uint32_t i = 0; i < s->recipients_count; i++) {
        e->recipients[i].number = s->recipients[i].number;
        e->recipients[i].domain = s->recipients[i].domain;
        e->recipients[i].notify = s->recipients[i].notify;
    }
}

int envelope_decode(struct message_id id, struct bytes summary, struct bytes rest,
                    struct stored_message *m)
{
    struct decoding d = {.arena = &m->arena, .e = m->envelope, .m = m};
    uint32_t total;
    if (summary_recipients(summary, &total))
        return E_DAMAGED;
    summary = arena_dup(&m->arena, summary);
    rest = arena_dup(&m->arena, rest);
    struct spool_summary_recipient *r = mem_new(total * sizeof(*r));
    struct spool_summary s;
    int err = summary_decode(id, summary, r, &s);
    if (!err) {
        fill_from_summary(&s, d.e, d.arena);
        err = decode_fields(summary, &d);
    }
    free(r);
    if (!err)
        err = decode_fields(rest, &d);
    if (!err && (d.details != d.e->recipients_count || d.e->origin > ORIGIN_SENDMAIL ||
                 d.e->ret > RET_HDRS || d.unknown.err))
        err = E_DAMAGED;
    d.e->unknown = arena_dup(d.arena, buf_bytes(&d.unknown));
    buf_done(&d.unknown);
    return err;
}
