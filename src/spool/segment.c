// SPDX-License-Identifier: MIT
#include "spool/segment.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "spool/tlv.h"

#define HEADER_MAGIC 0x3153504850534850u // "PHSPHPS1"
#define HEADER_BYTES 128
#define FOOTER_MAGIC 0x3158494850534850u // "PHSPHIX1"
// A guess of how much memory to make ready: outside the hash, as earlier versions left it 0.
#define FOOTER_MESSAGES 88
#define INDEX_ENTRY_BYTES_MIN 16

const char *segment_name(uint32_t slot, char out[SEGMENT_NAME_BYTES])
{
    snprintf(out, SEGMENT_NAME_BYTES, SEGMENT_DIRECTORY "/%08x", slot);
    return out;
}

uint64_t segment_seed(const struct segment_header *h)
{
    char in[24] = {0};
    le64_put(in, h->salt);
    le64_put(in + 8, h->number);
    le32_put(in + 16, h->generation);
    return record_hash(bytes_of(in, sizeof(in)));
}

// ---- header -------------------------------------------------------------------------------------

void segment_header_format(const struct segment_header *h, char out[RECORD_BLOCK])
{
    memset(out, 0, RECORD_BLOCK);
    le64_put(out, HEADER_MAGIC);
    le32_put(out + 8, h->version);
    le32_put(out + 12, h->slot);
    le64_put(out + 16, h->number);
    le32_put(out + 24, h->generation);
    le32_put(out + 28, h->epoch);
    le64_put(out + 32, h->salt);
    le64_put(out + 40, h->size);
    le64_put(out + 48, h->first_sequence);
    le64_put(out + 56, h->previous);
    le64_put(out + 64, h->previous_end);
    le64_put(out + 72, h->previous_sure);
    le64_put(out + 80, h->tail);
    le64_put(out + 88, h->last_sequence);
    le64_put(out + HEADER_BYTES - 8, record_hash(bytes_of(out, HEADER_BYTES - 8)));
}

static bool header_is_sane(const struct segment_header *h)
{
    return h->number > 0 && h->previous < h->number && h->tail <= h->number &&
           h->size >= SEGMENT_DATA_AT + RECORD_BLOCK && h->size % RECORD_BLOCK == 0 &&
           h->size <= SEGMENT_SIZE_MAX;
}

int segment_header_parse(const char in[RECORD_BLOCK], struct segment_header *out)
{
    *out = (struct segment_header){.version = le32_get(in + 8)};
    if (le64_get(in) != HEADER_MAGIC)
        return E_DAMAGED;
    // A newer release may have laid out the rest in another way.
    if (out->version > SEGMENT_VERSION)
        return E_VERSION;
    if (le64_get(in + HEADER_BYTES - 8) != record_hash(bytes_of(in, HEADER_BYTES - 8)))
        return E_DAMAGED;
    *out = (struct segment_header){
        .version = le32_get(in + 8),
        .slot = le32_get(in + 12),
        .number = le64_get(in + 16),
        .generation = le32_get(in + 24),
        .epoch = le32_get(in + 28),
        .salt = le64_get(in + 32),
        .size = le64_get(in + 40),
        .first_sequence = le64_get(in + 48),
        .previous = le64_get(in + 56),
        .previous_end = le64_get(in + 64),
        .previous_sure = le64_get(in + 72),
        .tail = le64_get(in + 80),
        .last_sequence = le64_get(in + 88),
    };
    return header_is_sane(out) ? OK : E_DAMAGED;
}

static bool is_zero(const char *at, size_t n)
{
    return n == 0 || (at[0] == 0 && memcmp(at, at + 1, n - 1) == 0);
}

#define READ_TRIES 3 // a block that the disk does not give

// A transient error must not decide anything: it is asked again before it counts.
static int read_block(struct disk_file *file, char *out, size_t n, uint64_t offset, size_t *got)
{
    int err = E_IO;
    for (int i = 0; err && i < READ_TRIES; i++)
        err = disk_pread(file, out, n, offset, got);
    return err;
}

int segment_header_read(struct disk_file *file, struct segment_header *out)
{
    char blocks[2 * RECORD_BLOCK] = {0};
    size_t n;
    int unread = read_block(file, blocks, RECORD_BLOCK, 0, &n);
    int first = segment_header_parse(blocks, out);
    if (!unread && first == OK)
        return OK;
    struct segment_header second;
    if (read_block(file, blocks + RECORD_BLOCK, RECORD_BLOCK, RECORD_BLOCK, &n))
        return E_IO;
    int err = segment_header_parse(blocks + RECORD_BLOCK, &second);
    if (err == OK) {
        *out = second;
        return OK;
    }
    if (unread)
        return E_IO;
    if (is_zero(blocks, sizeof(blocks)))
        return E_NOT_FOUND;
    // One flipped bit in a version must not stop the start: both copies have to say it.
    return first == E_VERSION && err == E_VERSION && second.version == out->version ? E_VERSION
                                                                                    : E_DAMAGED;
}

int segment_header_write(struct disk_file *file, const struct segment_header *h)
{
    char block[RECORD_BLOCK];
    segment_header_format(h, block);
    struct iovec iov[2] = {{block, sizeof(block)}, {block, sizeof(block)}};
    int err = disk_pwritev(file, iov, 2, 0);
    return err ? err : disk_sync(file);
}

// ---- index --------------------------------------------------------------------------------------

void index_add(struct buf *index, const struct index_entry *e)
{
    char id[16];
    le64_put(id, e->id.high);
    le64_put(id + 8, e->id.low);
    varint_add(index, e->type);
    varint_add(index, e->offset / RECORD_ALIGN);
    varint_add(index, e->bytes / RECORD_ALIGN);
    bytes_add_counted(index, bytes_of(id, e->id.high || e->id.low ? sizeof(id) : 0));
    bytes_add_counted(index, e->states);
    bytes_add_counted(index, e->summary);
}

bool index_next(struct bytes *in, struct index_entry *out, int *err)
{
    uint64_t type, offset, size;
    struct bytes id;
    if (in->len == 0)
        return false;
    if (varint_take(in, &type) || varint_take(in, &offset) || varint_take(in, &size) ||
        bytes_take_counted(in, &id) || bytes_take_counted(in, &out->states) ||
        bytes_take_counted(in, &out->summary) || type > UINT8_MAX ||
        (id.len != 0 && id.len != 16) || offset > UINT32_MAX || size > UINT32_MAX / RECORD_ALIGN) {
        *err = E_DAMAGED;
        return false;
    }
    out->type = (uint8_t)type;
    out->offset = offset * RECORD_ALIGN;
    out->bytes = size * RECORD_ALIGN;
    out->id = (struct message_id){0};
    if (id.len)
        out->id = (struct message_id){le64_get(id.at), le64_get(id.at + 8)};
    return true;
}

void segment_index_done(struct segment_index *x)
{
    buf_done(&x->entries);
}

static void footer_format(const struct segment_header *h, const struct segment_index *x,
                          char out[RECORD_BLOCK])
{
    memset(out, 0, RECORD_BLOCK);
    le64_put(out, FOOTER_MAGIC);
    le64_put(out + 8, h->number);
    le64_put(out + 16, x->end); // the index stands there
    le64_put(out + 24, x->entries.len);
    le64_put(out + 32, x->records);
    le64_put(out + 40, x->sure);
    le64_put(out + 48, x->last_sequence);
    le64_put(out + 56, x->tail);
    le64_put(out + 64, record_hash(buf_bytes(&x->entries)));
    le64_put(out + 72, segment_seed(h));
    // The seed stays a secret of the header: only its use in the hash is written.
    uint64_t sum = record_hash(bytes_of(out, 80));
    le64_put(out + 72, 0);
    le64_put(out + 80, sum);
    le64_put(out + FOOTER_MESSAGES, x->messages);
}

// Fills out from the footer and gives the index's length and hash. E_DAMAGED.
static int footer_parse(char in[RECORD_BLOCK], const struct segment_header *h,
                        struct segment_index *out, uint64_t *out_bytes, uint64_t *out_hash)
{
    uint64_t sum = le64_get(in + 80);
    le64_put(in + 72, segment_seed(h));
    if (le64_get(in) != FOOTER_MAGIC || sum != record_hash(bytes_of(in, 80)))
        return E_DAMAGED;
    out->end = le64_get(in + 16);
    out->records = le64_get(in + 32);
    out->sure = le64_get(in + 40);
    out->last_sequence = le64_get(in + 48);
    out->tail = le64_get(in + 56);
    *out_bytes = le64_get(in + 24);
    *out_hash = le64_get(in + 64);
    bool sane = le64_get(in + 8) == h->number && out->end >= SEGMENT_DATA_AT &&
                out->end % RECORD_BLOCK == 0 && out->end <= h->size - RECORD_BLOCK &&
                *out_bytes <= h->size - RECORD_BLOCK - out->end;
    return sane ? OK : E_DAMAGED;
}

int segment_index_write(struct disk_file *file, const struct segment_header *h,
                        const struct segment_index *x)
{
    char footer[RECORD_BLOCK];
    CHECK(x->end % RECORD_BLOCK == 0 && x->end + x->entries.len + RECORD_BLOCK <= h->size);
    if (x->entries.err)
        return E_LIMIT;
    footer_format(h, x, footer);
    struct iovec index = {x->entries.at, x->entries.len}, last = {footer, sizeof(footer)};
    int err = x->entries.len ? disk_pwritev(file, &index, 1, x->end) : OK;
    if (!err)
        err = disk_pwritev(file, &last, 1, h->size - RECORD_BLOCK);
    return err ? err : disk_sync(file);
}

uint64_t segment_messages(struct disk_file *file, const struct segment_header *h)
{
    char footer[RECORD_BLOCK];
    struct segment_index x;
    size_t n;
    uint64_t bytes, hash;
    if (read_block(file, footer, sizeof(footer), h->size - RECORD_BLOCK, &n) ||
        n < sizeof(footer) || footer_parse(footer, h, &x, &bytes, &hash))
        return 0;
    uint64_t messages = le64_get(footer + FOOTER_MESSAGES);
    return messages <= bytes / INDEX_ENTRY_BYTES_MIN ? messages : 0;
}

static int index_from_footer(struct disk_file *file, const struct segment_header *h,
                             struct segment_index *out)
{
    char footer[RECORD_BLOCK];
    size_t n;
    uint64_t bytes, hash;
    if (read_block(file, footer, sizeof(footer), h->size - RECORD_BLOCK, &n))
        return E_IO;
    if (n < sizeof(footer) || footer_parse(footer, h, out, &bytes, &hash))
        return E_DAMAGED;
    buf_init(&out->entries, h->size);
    char *at = bytes ? buf_reserve(&out->entries, bytes) : NULL;
    if (at) {
        if (read_block(file, at, bytes, out->end, &n))
            return E_IO;
        buf_commit(&out->entries, n);
    }
    return out->entries.len == bytes && record_hash(buf_bytes(&out->entries)) == hash ? OK
                                                                                      : E_DAMAGED;
}

// ---- index by scanning --------------------------------------------------------------------------

// Frames that turned out incomplete in the batch being read: entries [at, at + bytes) of the index.
// They are dropped if no later batch follows, for then the batch may never have been flushed.
struct torn {
    size_t at, bytes;
};

struct suspect {
    uint64_t offset, bytes;
    bool has_head;
    struct record_head head;
};

struct indexing {
    struct segment_index *x;
    uint64_t sure_stated; // 0: none
    uint64_t batch_at;
    struct torn *torn;
    size_t torn_count, torn_cap;
    struct suspect *suspects; // damage in the batch being read, not yet told
    size_t suspects_count, suspects_cap;
    const struct segment_damage *damage;
    // the frame being gathered
    uint64_t frame; // sequence of its first record
    size_t frame_at;
    uint8_t frame_next, frame_left;
    bool frame_open, frame_whole;
};

static void frame_close(struct indexing *g)
{
    if (!g->frame_open)
        return;
    g->frame_open = false;
    if (g->frame_whole && g->frame_left == 0)
        return;
    if (g->torn_count == g->torn_cap) {
        g->torn_cap = g->torn_cap ? 2 * g->torn_cap : 8;
        g->torn = mem_resize(g->torn, g->torn_cap * sizeof(*g->torn));
    }
    g->torn[g->torn_count++] = (struct torn){g->frame_at, g->x->entries.len - g->frame_at};
}

static void add_suspect(struct indexing *g, const struct scanned *r)
{
    if (g->suspects_count == g->suspects_cap) {
        g->suspects_cap = g->suspects_cap ? 2 * g->suspects_cap : 8;
        g->suspects = mem_resize(g->suspects, g->suspects_cap * sizeof(*g->suspects));
    }
    g->suspects[g->suspects_count++] =
        (struct suspect){r->offset, r->bytes, r->kind != SCANNED_GAP, r->head};
}

static void tell_suspects(struct indexing *g, bool torn)
{
    enum segment_loss loss = g->x->unread ? SEGMENT_UNREAD : torn ? SEGMENT_TORN : SEGMENT_DAMAGED;
    for (size_t i = 0; g->damage && i < g->suspects_count; i++) {
        const struct suspect *s = &g->suspects[i];
        g->damage->found(g->damage->ctx, s->offset, s->bytes, s->has_head ? &s->head : NULL, loss);
    }
    g->suspects_count = 0;
}

// A batch is written only after the one before it was flushed: what is torn there is damage, and the rest of
// the frame counts. Behind a stated `sure` offset an earlier recovery has decided otherwise.
static void batch_open(struct indexing *g, uint64_t offset)
{
    g->batch_at = offset;
    if (g->sure_stated == 0 || offset <= g->sure_stated) {
        g->torn_count = 0;
        tell_suspects(g, false);
    }
}

static void frame_add(struct indexing *g, const struct record_head *h, bool whole)
{
    uint64_t frame = h->sequence - h->frame_index;
    if (!g->frame_open || g->frame != frame || h->frame_index < g->frame_next) {
        frame_close(g);
        g->frame_open = g->frame_whole = true;
        g->frame = frame;
        g->frame_at = g->x->entries.len;
        g->frame_next = 0;
    }
    if (h->frame_index != g->frame_next || !whole)
        g->frame_whole = false;
    g->frame_next = (uint8_t)(h->frame_index + 1);
    g->frame_left = h->frame_left;
}

static void index_record(struct indexing *g, const struct scanned *r)
{
    struct record_meta meta;
    struct segment_index *x = g->x;
    if (record_meta_parse(r->meta, &meta))
        return; // of our own making and checksummed; a newer type may look otherwise
    if (!(r->head.flags & RECORD_COPY) && r->head.sequence > x->last_sequence)
        x->last_sequence = r->head.sequence;
    if (r->head.type == RECORD_TAIL && meta.summary.len == 8 && le64_get(meta.summary.at) > x->tail)
        x->tail = le64_get(meta.summary.at);
    x->records++;
    index_add(&x->entries, &(struct index_entry){.type = r->head.type,
                                                 .offset = r->offset,
                                                 .bytes = r->bytes,
                                                 .id = r->head.id,
                                                 .states = meta.states,
                                                 .summary = meta.summary});
}

static void drop_torn(struct indexing *g)
{
    struct buf *b = &g->x->entries;
    for (size_t i = g->torn_count; i > 0; i--) {
        struct torn t = g->torn[i - 1];
        if (b->err || b->len == 0)
            break;
        memmove(b->at + t.at, b->at + t.at + t.bytes, b->len - t.at - t.bytes);
        buf_truncate(b, b->len - t.bytes);
    }
}

static int index_by_scan(struct segment_scan *s, struct indexing *g)
{
    struct scanned r;
    int err;
    while ((err = segment_scan_next(s, &r)) == OK) {
        g->x->unread |= s->unread;
        if (r.kind != SCANNED_GAP) {
            if (r.head.flags & RECORD_BATCH_START) {
                frame_close(g);
                batch_open(g, r.offset);
            }
            frame_add(g, &r.head, r.kind == SCANNED_RECORD);
            g->x->end = block_up(r.offset + r.bytes);
        }
        if (r.kind == SCANNED_RECORD)
            index_record(g, &r);
        else
            add_suspect(g, &r);
    }
    g->x->unread |= s->unread;
    frame_close(g);
    bool sure = g->sure_stated > g->batch_at;
    if (sure)
        g->torn_count = 0;
    tell_suspects(g, !sure);
    return err == E_NOT_FOUND ? OK : err;
}

// Behind `end` (0: not stated) nothing counts.
static int index_of_records(struct disk_file *file, const struct segment_header *h, uint64_t from,
                            uint64_t end, uint64_t sure, const struct segment_damage *damage,
                            struct segment_index *out)
{
    *out = (struct segment_index){.end = from, .tail = h->tail, .scanned = true};
    buf_init(&out->entries, h->size);
    struct indexing g = {.x = out, .sure_stated = sure, .batch_at = from, .damage = damage};
    struct segment_scan scan;
    segment_scan_init(&scan, file, segment_seed(h), from, end ? end : h->size, end != 0);
    int err = index_by_scan(&scan, &g);
    segment_scan_done(&scan);
    drop_torn(&g);
    free(g.torn);
    free(g.suspects);
    out->sure = g.batch_at;
    if (end)
        out->end = end;
    return err ? err : out->entries.err ? E_LIMIT : OK;
}

int segment_index_batch(struct disk_file *file, const struct segment_header *h, uint64_t from,
                        uint64_t end, struct segment_index *out)
{
    int err = index_of_records(file, h, from, end, from, NULL, out);
    return !err && out->unread ? E_IO : err;
}

int segment_index_read(struct disk_file *file, const struct segment_header *h, uint64_t end,
                       uint64_t sure, const struct segment_damage *damage,
                       struct segment_index *out)
{
    *out = (struct segment_index){0};
    int err = index_from_footer(file, h, out);
    if (err == OK && (end == 0 || out->end == end)) {
        if (out->tail < h->tail)
            out->tail = h->tail;
        return OK;
    }
    segment_index_done(out);
    return index_of_records(file, h, SEGMENT_DATA_AT, end, sure, damage, out);
}

// ---- scanning -----------------------------------------------------------------------------------

#define WINDOW_BYTES ((size_t)1 << 20)
// Where content is passed over: a read after a leap this long is short again, and grows from there.
#define LEAP_BYTES ((uint64_t)16 << 10)
#define WINDOW_BYTES_MIN ((size_t)4 << 10)

void segment_scan_init(struct segment_scan *s, struct disk_file *file, uint64_t seed, uint64_t from,
                       uint64_t limit, bool exact)
{
    *s = (struct segment_scan){
        .file = file, .seed = seed, .offset = from, .limit = limit, .exact = exact};
}

void segment_scan_done(struct segment_scan *s)
{
    free(s->window);
    s->window = NULL;
    s->window_bytes = 0;
}

void segment_scan_back(struct segment_scan *s, uint64_t offset)
{
    s->offset = offset;
    s->window_bytes = 0;
    s->ahead = 0;
    s->unread = false;
}

// Reads want bytes; a block that the disk can't give counts as zeros, so that it costs only what it
// held.
static size_t scan_load(struct segment_scan *s, size_t want, uint64_t offset)
{
    size_t got = 0;
    if (disk_pread(s->file, s->window, want, offset, &got) == OK)
        return got;
    for (size_t at = 0; at < want; at += RECORD_BLOCK) {
        size_t n = want - at < RECORD_BLOCK ? want - at : RECORD_BLOCK;
        if (read_block(s->file, s->window + at, n, offset + at, &got)) {
            memset(s->window + at, 0, n);
            got = n;
            s->unread = true;
        }
        if (got < n)
            return at + got;
    }
    return want;
}

// How much to read at offset, which the window lacks. Copying a body out of the page cache costs far more than the
// call that would leave it there.
static size_t window_at_least(struct segment_scan *s, uint64_t offset)
{
    if (!s->meta_only)
        return WINDOW_BYTES;
    if (s->ahead == 0 || offset > s->window_at + s->window_bytes + LEAP_BYTES)
        s->ahead = WINDOW_BYTES_MIN;
    else if (s->ahead < WINDOW_BYTES)
        s->ahead *= 2;
    return s->ahead;
}

// Brings up to n bytes at offset into the window; *out_n may be less at the limit or the file's
// end.
static void scan_want(struct segment_scan *s, uint64_t offset, size_t n, const char **out,
                      size_t *out_n)
{
    if (offset + n > s->limit)
        n = offset < s->limit ? (size_t)(s->limit - offset) : 0;
    if (offset < s->window_at || offset + n > s->window_at + s->window_bytes) {
        size_t want = window_at_least(s, offset);
        if (want < n)
            want = n;
        if (offset + want > s->limit)
            want = offset < s->limit ? (size_t)(s->limit - offset) : 0;
        if (want > s->window_cap) {
            s->window = mem_resize(s->window, want);
            s->window_cap = want;
        }
        s->window_bytes = want ? scan_load(s, want, offset) : 0;
        s->window_at = offset;
    }
    size_t have = (size_t)(s->window_at + s->window_bytes - offset);
    *out = s->window + (offset - s->window_at);
    *out_n = have < n ? have : n;
}

static int scan_head(struct segment_scan *s, uint64_t offset, struct record_head *out)
{
    const char *at;
    size_t n;
    scan_want(s, offset, RECORD_HEAD_BYTES, &at, &n);
    return n < RECORD_HEAD_BYTES ? E_DAMAGED : record_head_parse(at, s->seed, out);
}

static int scan_record(struct segment_scan *s, struct scanned *out)
{
    const char *at;
    size_t n;
    out->kind = SCANNED_DAMAGED;
    out->offset = s->offset;
    out->bytes = record_bytes(out->head.meta_bytes, out->head.content_bytes);
    uint32_t content = s->meta_only ? 0 : out->head.content_bytes;
    size_t need = RECORD_HEAD_BYTES + (size_t)out->head.meta_bytes + content;
    scan_want(s, s->offset, need, &at, &n);
    s->offset += out->bytes;
    if (n < need)
        return OK;
    out->meta = bytes_of(at + RECORD_HEAD_BYTES, out->head.meta_bytes);
    out->content = bytes_of(out->meta.at + out->meta.len, content);
    if (record_is_sound(&out->head, out->meta, out->content) ||
        (s->meta_only && record_is_sound(&out->head, out->meta, BYTES_NONE)))
        out->kind = SCANNED_RECORD;
    return OK;
}

// The next offset at or behind `from` where a head of this segment stands. E_NOT_FOUND. Behind the last record
// that is all the rest of the segment: it goes over whole windows.
static int scan_resync(struct segment_scan *s, uint64_t from, uint64_t *out,
                       struct record_head *head)
{
    for (uint64_t at = from; at + RECORD_HEAD_BYTES <= s->limit;) {
        const char *p;
        size_t n, i;
        scan_want(s, at, RECORD_HEAD_BYTES, &p, &n);
        if (n < RECORD_HEAD_BYTES)
            break;
        n = (size_t)(s->window_at + s->window_bytes - at);
        for (i = 0; i + RECORD_HEAD_BYTES <= n; i += RECORD_ALIGN)
            if (le32_get(p + i) == RECORD_MAGIC && record_head_parse(p + i, s->seed, head) == OK) {
                *out = at + i;
                return OK;
            }
        at += i;
    }
    return E_NOT_FOUND;
}

// True if [from, to) can be the padding behind a batch: less than a block of zeros up to a block's
// start.
static bool is_padding(struct segment_scan *s, uint64_t from, uint64_t to)
{
    const char *at;
    size_t n;
    if (to % RECORD_BLOCK != 0 || to - from >= RECORD_BLOCK)
        return false;
    scan_want(s, from, (size_t)(to - from), &at, &n);
    return n == to - from && is_zero(at, n);
}

int segment_scan_next(struct segment_scan *s, struct scanned *out)
{
    if (s->offset >= s->limit)
        return E_NOT_FOUND;
    int err = scan_head(s, s->offset, &out->head);
    if (err == OK)
        return scan_record(s, out);
    uint64_t from = s->offset, to = s->limit;
    err = scan_resync(s, from, &to, &out->head);
    s->offset = to;
    bool clean = is_padding(s, from, to) || (err == E_NOT_FOUND && !s->exact);
    if (!clean) {
        *out = (struct scanned){.kind = SCANNED_GAP, .offset = from, .bytes = to - from};
        return OK;
    }
    return err == E_NOT_FOUND ? E_NOT_FOUND : scan_record(s, out);
}
