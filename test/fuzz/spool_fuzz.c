// SPDX-License-Identifier: MIT
//
// Everything that recovery believes of a segment file: header, index, records, envelopes, outcomes. Checksums
// are made right before the bytes are read, or no input would get behind them.
#include <stdlib.h>

#include "base/check.h"
#include "spool/envelope_codec.h"
#include "spool/outcome_codec.h"
#include "spool/segment.h"
#include "spool/tlv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILE_BYTES_MAX ((size_t)256 << 10)

// ---- a disk of one file -------------------------------------------------------------------------

struct disk_file {
    char *at;
    size_t size;
};

int disk_pread(struct disk_file *f, void *out, size_t n, uint64_t offset, size_t *out_n)
{
    *out_n = offset >= f->size ? 0 : n < f->size - offset ? n : (size_t)(f->size - offset);
    if (*out_n)
        memcpy(out, f->at + offset, *out_n);
    return OK;
}

int disk_pwritev(struct disk_file *f, const struct iovec *iov, int count, uint64_t offset)
{
    return E_FULL;
}

int disk_sync(struct disk_file *f)
{
    return E_FULL;
}

// ---- the readers --------------------------------------------------------------------------------

static void read_envelope(struct bytes summary, struct bytes rest)
{
    struct message_id id = {1, 2};
    struct stored_message *m = stored_message_new();
    if (envelope_decode(id, summary, rest, m) == OK) {
        struct buf s = {0}, r = {0};
        // What was read can be written, and read again. Too much metadata or too many bytes are refused.
        int err = envelope_encode(m, &s, &r);
        struct stored_message *again = stored_message_new();
        CHECK(err == E_LIMIT || envelope_decode(id, buf_bytes(&s), buf_bytes(&r), again) == OK);
        stored_message_unref(again);
        buf_done(&s);
        buf_done(&r);
    }
    stored_message_unref(m);
}

static void read_summary(struct bytes summary)
{
    uint32_t count;
    struct spool_summary s;
    summary_has_extent(summary);
    if (summary_recipients(summary, &count))
        return;
    struct spool_summary_recipient *r = mem_new(count * sizeof(*r));
    if (summary_decode((struct message_id){1, 2}, summary, r, &s) == OK)
        CHECK(s.recipients_count == count);
    free(r);
}

static void read_index(struct bytes in)
{
    struct index_entry e;
    struct spool_outcome o;
    int err = OK;
    while (index_next(&in, &e, &err)) {
        if (e.type == RECORD_MESSAGE)
            read_summary(e.summary);
        else if (outcome_decode(e.id, e.summary, BYTES_NONE, &o) == OK)
            CHECK(o.state < RECIPIENT_STATES && o.event < SPOOL_EVENTS);
    }
}

// ---- a whole segment ----------------------------------------------------------------------------

static const struct segment_header header = {.version = SEGMENT_VERSION,
                                             .number = 1,
                                             .generation = 1,
                                             .epoch = 1,
                                             .salt = 1,
                                             .size = FILE_BYTES_MAX,
                                             .first_sequence = 1,
                                             .tail = 1};

// Gives every head that is recognisable right hashes.
static void repair(char *at, size_t size)
{
    uint64_t seed = segment_seed(&header);
    for (size_t i = SEGMENT_DATA_AT; i + RECORD_HEAD_BYTES <= size; i += RECORD_ALIGN) {
        char head[RECORD_HEAD_BYTES];
        if (le32_get(at + i) != RECORD_MAGIC)
            continue;
        uint32_t meta = le32_get(at + i + 32), content = le32_get(at + i + 36);
        size_t left = size - i - RECORD_HEAD_BYTES;
        if (meta > left || content > left - meta)
            continue;
        struct record_head h = {
            .type = (uint8_t)at[i + 4],
            .flags = (uint8_t)at[i + 5],
            .frame_index = (uint8_t)at[i + 6],
            .frame_left = (uint8_t)at[i + 7],
            .sequence = le64_get(at + i + 8),
            .id = {le64_get(at + i + 16), le64_get(at + i + 24)},
            .meta_bytes = meta,
            .content_bytes = content,
            .meta_hash = record_hash(bytes_of(at + i + RECORD_HEAD_BYTES, meta)),
            .content_hash = record_hash(bytes_of(at + i + RECORD_HEAD_BYTES + meta, content)),
        };
        record_head_format(&h, seed, head);
        memcpy(at + i, head, sizeof(head));
    }
}

static void on_damage(void *ctx, uint64_t offset, uint64_t bytes, const struct record_head *head,
                      enum segment_loss loss)
{
    CHECK(offset >= SEGMENT_DATA_AT && bytes > 0);
}

static void read_records(struct disk_file *file)
{
    struct segment_scan scan;
    struct scanned r;
    struct record_meta meta;
    uint64_t before = 0;
    segment_scan_init(&scan, file, segment_seed(&header), SEGMENT_DATA_AT, header.size, false);
    while (segment_scan_next(&scan, &r) == OK) {
        CHECK(r.offset >= before); // always forward
        before = r.offset + 1;
        if (r.kind == SCANNED_RECORD && record_meta_parse(r.meta, &meta) == OK)
            read_envelope(meta.summary, meta.rest);
    }
    segment_scan_done(&scan);
}

static void read_segment(const uint8_t *data, size_t size, uint64_t end, uint64_t sure)
{
    struct segment_damage damage = {NULL, on_damage};
    struct segment_index x;
    if (size > FILE_BYTES_MAX - SEGMENT_DATA_AT)
        size = FILE_BYTES_MAX - SEGMENT_DATA_AT;
    struct disk_file file = {.size = SEGMENT_DATA_AT + size};
    file.at = mem_new(file.size + 1);
    memcpy(file.at + SEGMENT_DATA_AT, data, size);
    repair(file.at, file.size);
    if (segment_index_read(&file, &header, end, sure, &damage, &x) == OK)
        read_index(buf_bytes(&x.entries));
    segment_index_done(&x);
    read_records(&file);
    free(file.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct segment_header h;
    struct spool_outcome o;
    char block[RECORD_BLOCK] = {0};
    struct bytes all = bytes_of(data, size);
    if (size == 0)
        return 0;
    memcpy(block, data, size < sizeof(block) ? size : sizeof(block));
    if (segment_header_parse(block, &h) == OK)
        CHECK(h.number > h.previous && h.size <= SEGMENT_SIZE_MAX);
    size_t cut = data[0] < size ? data[0] : size;
    read_index(all);
    read_envelope(bytes_first(all, cut), bytes_skip(all, cut));
    if (outcome_decode((struct message_id){1, 2}, bytes_first(all, cut), bytes_skip(all, cut),
                       &o) == OK)
        CHECK(o.recipient > 0);
    uint64_t end = data[0] & 1 ? SEGMENT_DATA_AT + (uint64_t)(data[0] >> 1) * RECORD_BLOCK : 0;
    read_segment(data, size, end, end && data[0] & 2 ? end - RECORD_BLOCK : 0);
    return 0;
}
