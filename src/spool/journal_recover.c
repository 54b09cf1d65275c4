// SPDX-License-Identifier: MIT
//
// How it works. Headers first: the newest segment is the one with the highest number; each header
// names its predecessor and where that ends, so the chain is walked backwards to the tail, and
// whatever is not in it is void. Then the indexes are replayed oldest first into table and notes (a
// segment without a sound index is scanned, damage set aside, and sealed, so that the next restart
// finds the same). A second walk over the indexes tells the live messages (journal_tell.c); so no
// more than one index is in memory at a time.
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "spool/envelope_codec.h"
#include "spool/journal.h"
#include "spool/tlv.h"

// Sequence numbers left out at a start, so that none is used twice even if the last records were
// lost.
#define SEQUENCE_JUMP ((uint64_t)1 << 20)

struct recovering {
    struct journal *j;
    const struct spool_recovery *told;
    uint32_t *slots; // of files in segments/
    size_t slots_count, slots_cap;
    struct segment **found; // with a sound header, highest number first
    size_t found_count;
    struct segment **unreadable, **unused;
    size_t unreadable_count, unused_count;
    struct segment *current;     // being read
    struct segment_index newest; // of found[0], read for the tail
    uint32_t epoch_max;
    bool missing; // a segment of the chain is not there
    bool unread;  // the disk did not give all of them
};

// ---- damage -------------------------------------------------------------------------------------

static int copy_out(struct disk *disk, struct disk_file *file, uint64_t offset, uint64_t bytes,
                    const char *name)
{
    struct disk_file *out;
    int err = disk_file_open(disk, name, DISK_WRITE | DISK_CREATE | DISK_EXCLUSIVE, &out);
    if (err)
        return err;
    char *buffer = mem_new(1 << 20);
    for (uint64_t at = 0; !err && at < bytes;) {
        size_t want = bytes - at < 1 << 20 ? (size_t)(bytes - at) : 1 << 20, got = 0;
        err = disk_pread(file, buffer, want, offset + at, &got);
        struct iovec iov = {buffer, got};
        if (got == 0)
            break;
        if (!err)
            err = disk_pwritev(out, &iov, 1, at);
        at += got;
    }
    free(buffer);
    if (!err)
        err = disk_sync(out);
    disk_file_close(out);
    return err;
}

void journal_set_aside(struct disk *disk, struct disk_file *file, uint64_t number, uint64_t offset,
                       uint64_t bytes, const struct record_head *head)
{
    char name[64], id[MESSAGE_ID_CHARS + 1] = "";
    snprintf(name, sizeof(name), "damaged/%llu-%llu", (unsigned long long)number,
             (unsigned long long)offset);
    int err = copy_out(disk, file, offset, bytes, name);
    if (err == E_EXISTS)
        return; // set aside before
    if (head)
        message_id_format(head->id, id);
    log_error("spool record damaged, set aside", LOG_CSTR("file", name), LOG_INT("segment", number),
              LOG_INT("offset", offset), LOG_INT("bytes", bytes),
              LOG_INT("type", head ? head->type : 0), LOG_CSTR("id", id),
              LOG_CSTR("saved", err ? err_text(err) : "yes"));
}

static void on_damage(void *ctx, uint64_t offset, uint64_t bytes, const struct record_head *head,
                      enum segment_loss loss)
{
    struct recovering *r = ctx;
    struct segment *s = r->current;
    if (loss == SEGMENT_UNREAD)
        return; // told once for the segment, which is kept as it is
    if (loss == SEGMENT_TORN) {
        log_warn("spool ends in records that were cut short", LOG_INT("segment", s->head.number),
                 LOG_INT("offset", offset), LOG_INT("bytes", bytes));
        return;
    }
    r->j->counts.damaged++;
    journal_set_aside(r->j->disk, s->file, s->head.number, offset, bytes, head);
}

// ---- the start epoch ----------------------------------------------------------------------------

// File `epoch`: two blocks, written in turn and never both at once, so that one is always whole; a
// restart needs no new space; the first start makes room for both. Each: epoch u64, its hash u64.
static uint32_t epoch_parse(const char *block)
{
    uint64_t epoch = le64_get(block);
    bool sound = le64_get(block + 8) == record_hash(bytes_of(block, 8));
    return sound && epoch <= UINT32_MAX ? (uint32_t)epoch : 0;
}

static int epoch_next(struct disk_file *file, uint32_t at_least, uint32_t *out)
{
    char blocks[2 * RECORD_BLOCK] = {0};
    size_t n;
    if (disk_pread(file, blocks, sizeof(blocks), 0, &n))
        return E_IO;
    uint32_t epoch = at_least, a = epoch_parse(blocks), b = epoch_parse(blocks + RECORD_BLOCK);
    if (a > epoch)
        epoch = a;
    if (b > epoch)
        epoch = b;
    epoch++;
    memset(blocks, 0, RECORD_BLOCK);
    le64_put(blocks, epoch);
    le64_put(blocks + 8, record_hash(bytes_of(blocks, 8)));
    struct iovec iov = {blocks, n == 0 ? sizeof(blocks) : RECORD_BLOCK};
    // The block that does not hold the highest.
    int err = disk_pwritev(file, &iov, 1, a > b ? RECORD_BLOCK : 0);
    if (!err)
        err = disk_sync(file);
    *out = epoch;
    return err;
}

int journal_raise_epoch(struct journal *j, uint32_t at_least)
{
    struct disk_file *file;
    int err = disk_file_open(j->disk, "epoch", DISK_READ | DISK_WRITE | DISK_CREATE, &file);
    if (err)
        return err;
    err = epoch_next(file, at_least, &j->epoch);
    disk_file_close(file);
    return err ? err : disk_sync_dir(j->disk, "");
}

// ---- segments found -----------------------------------------------------------------------------

static void on_name(void *ctx, const char *name)
{
    struct recovering *r = ctx;
    char *end;
    unsigned long slot = strtoul(name, &end, 16);
    if (strlen(name) != 8 || *end || slot >= JOURNAL_SLOTS_MAX) {
        log_warn("spool: unknown file among the segments", LOG_CSTR("file", name));
        return;
    }
    if (r->slots_count == r->slots_cap) {
        r->slots_cap = r->slots_cap ? 2 * r->slots_cap : 16;
        r->slots = mem_resize(r->slots, r->slots_cap * sizeof(*r->slots));
    }
    r->slots[r->slots_count++] = (uint32_t)slot;
}

static void release(struct journal *j, struct segment *s)
{
    if (s->size != j->segment_bytes) {
        journal_segment_drop(j, s);
        return;
    }
    list_push_back(&j->free, &s->link);
    j->free_count++;
}

static void add_found(struct recovering *r, struct segment *s)
{
    s->seed = segment_seed(&s->head);
    if (s->head.epoch > r->epoch_max)
        r->epoch_max = s->head.epoch;
    if (s->head.number >= r->j->next_number)
        r->j->next_number = s->head.number + 1;
    r->found[r->found_count++] = s;
}

static int load_segment(struct recovering *r, uint32_t slot)
{
    char name[SEGMENT_NAME_BYTES];
    struct disk_file *file;
    uint64_t size = 0;
    int err = disk_file_open(r->j->disk, segment_name(slot, name), DISK_READ | DISK_WRITE, &file);
    if (!err && disk_size(file, &size))
        size = 0;
    if (err) {
        log_error("spool segment can't be opened", LOG_CSTR("file", name), LOG_ERR(err));
        return err;
    }
    struct segment *s = journal_segment_new(r->j, slot, file, size);
    err = segment_header_read(file, &s->head);
    if (err == E_VERSION)
        log_error("spool was written by a newer release", LOG_CSTR("file", name),
                  LOG_INT("format", s->head.version), LOG_INT("format_known", SEGMENT_VERSION));
    if (err == E_IO) // it may have mail in it: nothing can be decided without it
        log_error("spool segment can't be read", LOG_CSTR("file", name), LOG_ERR(err));
    if (err == E_VERSION || err == E_IO) {
        list_push_back(&r->j->gone, &s->link);
        return err;
    }
    if (err == OK && s->head.slot == slot)
        add_found(r, s);
    else if (err == E_NOT_FOUND)
        r->unused[r->unused_count++] = s; // made ahead
    else
        r->unreadable[r->unreadable_count++] = s;
    return OK;
}

static int by_number_down(const void *a, const void *b)
{
    const struct segment *x = *(struct segment *const *)a, *y = *(struct segment *const *)b;
    return x->head.number < y->head.number ? 1 : x->head.number > y->head.number ? -1 : 0;
}

static void chain_missing(struct recovering *r, uint64_t number)
{
    r->missing = true;
    r->j->counts.damaged++;
    log_error("spool segment is missing or its header is damaged", LOG_INT("segment", number));
}

// A file is as long as its header says before the header is written: a shorter one has lost records
// that the scan cannot see, when the cut falls between two of them.
static void tell_cut(struct recovering *r, const struct segment *s)
{
    if (s->size >= s->head.size)
        return;
    r->j->counts.damaged++;
    log_error("spool segment file is cut short", LOG_INT("segment", s->head.number),
              LOG_INT("bytes", s->size), LOG_INT("bytes_made", s->head.size));
}

// Takes s into the chain as the next older one; end and sure as its successor states them, or 0.
static void chain_take(struct recovering *r, struct segment *s, uint64_t end, uint64_t sure)
{
    tell_cut(r, s);
    s->end = end;
    s->sure = sure;
    list_push_front(&r->j->live, &s->link);
    r->j->live_count++;
    r->j->used_bytes += s->size;
}

// What fitted a segment must fit the next one when it is compacted.
static void keep_segment_size(struct recovering *r)
{
    for (size_t i = 0; i < r->found_count; i++) {
        const struct segment_header *h = &r->found[i]->head;
        if (h->number >= r->j->tail && h->size > r->j->segment_bytes &&
            h->size <= SPOOL_SEGMENT_BYTES_MAX)
            r->j->segment_bytes = h->size;
    }
}

static void build_chain(struct recovering *r)
{
    struct segment_header next = {.previous = 0};
    bool any = false;
    for (size_t i = 0; i < r->found_count; i++) {
        struct segment *s = r->found[i];
        uint64_t number = s->head.number;
        if (any && (number > next.previous || number < r->j->tail)) {
            release(r->j, s); // void, or free
            continue;
        }
        bool stated = any && number == next.previous;
        if (any && !stated)
            chain_missing(r, next.previous);
        chain_take(r, s, stated ? next.previous_end : 0, stated ? next.previous_sure : 0);
        next = s->head;
        any = true;
    }
    if (any && next.previous >= r->j->tail && next.previous != 0)
        chain_missing(r, next.previous);
}

static void put_unused(struct recovering *r)
{
    for (size_t i = 0; i < r->unused_count; i++)
        release(r->j, r->unused[i]);
}

// A segment's first batch is written when its header has been flushed. Records newer than all that are known, under a
// header that can't be read: it is the header that is damaged.
static bool has_newer(const struct recovering *r, const struct segment *s)
{
    char head[RECORD_HEAD_BYTES];
    size_t got = 0;
    uint64_t known = r->newest.last_sequence;
    if (r->found_count && r->found[0]->head.last_sequence > known)
        known = r->found[0]->head.last_sequence;
    int err = disk_pread(s->file, head, sizeof head, SEGMENT_DATA_AT, &got);
    if (!err && (got < sizeof head || record_head_peek(head) <= known))
        return false;
    r->j->counts.damaged++;
    log_error("spool segment's header is damaged: what it has is set aside",
              LOG_INT("file", s->slot));
    return true;
}

// A header that can't be read belongs to a segment begun when the power went, unless one is
// missing.
static void put_unreadable(struct recovering *r)
{
    for (size_t i = 0; i < r->unreadable_count; i++) {
        struct segment *s = r->unreadable[i];
        char from[SEGMENT_NAME_BYTES], to[64];
        r->j->next_number++;
        if (!r->missing && !has_newer(r, s)) {
            release(r->j, s);
            continue;
        }
        snprintf(to, sizeof(to), "damaged/segment-%08x-%u", s->slot, r->j->epoch);
        if (disk_rename(r->j->disk, segment_name(s->slot, from), to))
            log_error("spool segment can't be set aside", LOG_CSTR("file", from));
        r->j->slots[s->slot] = NULL;
        r->j->file_bytes -= s->size;
        list_push_back(&r->j->gone, &s->link);
    }
}

// The tail: the newest header has it as of its making, the newest segment's records what came
// later.
static int find_tail(struct recovering *r)
{
    struct segment_damage damage = {r, on_damage};
    if (r->found_count == 0)
        return OK;
    struct segment *newest = r->current = r->found[0];
    int err = segment_index_read(newest->file, &newest->head, 0, 0, &damage, &r->newest);
    r->j->tail = r->newest.tail;
    return err;
}

// ---- replay -------------------------------------------------------------------------------------

static void apply_states(struct journal *j, struct table_entry *e, struct bytes states)
{
    uint32_t recipients = table_recipients(e);
    if (states.len != (size_t)recipients * 8)
        return;
    for (uint32_t i = 0; i < recipients; i++)
        table_put_status(e, i + 1, (struct recipient_status){le64_get(states.at + 8 * (size_t)i)});
    if (table_live(e) == 0)
        journal_settle(j, e);
}

static void replay_message(struct recovering *r, const struct index_entry *x)
{
    struct journal *j = r->j;
    uint32_t recipients;
    if (summary_recipients(x->summary, &recipients) || x->offset + x->bytes > r->current->size ||
        x->bytes == 0 || x->bytes / RECORD_ALIGN > TABLE_BYTES16_MAX || x->id.low >> 36 ||
        (x->id.low == 0 && x->id.high == 0))
        return;
    struct table_entry *e = table_find(&j->table, x->id);
    if (e && table_recipients(e) != recipients)
        return;
    if (!e)
        e = table_add(&j->table, x->id, recipients);
    e->has_extent = summary_has_extent(x->summary);
    journal_place(j, e, r->current->slot, (uint32_t)(x->offset / RECORD_ALIGN), (uint32_t)x->bytes);
    apply_states(j, e, x->states);
}

static void replay_outcome(struct recovering *r, const struct index_entry *x)
{
    struct spool_outcome o;
    struct table_entry *e = table_find(&r->j->table, x->id);
    if (!e || outcome_decode(x->id, x->summary, BYTES_NONE, &o))
        return;
    if (table_set_status(e, o.recipient, recipient_status_of(&o)) && table_live(e) == 0)
        journal_settle(r->j, e);
}

static void replay_note(struct recovering *r, const struct index_entry *x)
{
    struct bytes key, value = x->summary;
    if (bytes_take_counted(&value, &key) == OK && key.len)
        journal_set_note(r->j, key, value, r->current);
}

static void replay_entry(struct recovering *r, const struct index_entry *e)
{
    if (e->type == RECORD_MESSAGE)
        replay_message(r, e);
    else if (e->type == RECORD_OUTCOME)
        replay_outcome(r, e);
    else if (e->type == RECORD_NOTE)
        replay_note(r, e);
}

static void replay(struct recovering *r, const struct segment_index *x)
{
    struct bytes in = buf_bytes(&x->entries);
    struct index_entry some[JOURNAL_ENTRIES_AHEAD];
    int err = OK;
    for (size_t n; (n = journal_take_entries(r->j, &in, some, &err));)
        for (size_t i = 0; i < n; i++)
            replay_entry(r, &some[i]);
    if (err)
        log_error("spool index ends early", LOG_INT("segment", r->current->head.number));
}

// What was decided while scanning must be found again by the next start.
static void seal_scanned(struct journal *j, const struct segment *s, struct segment_index *x)
{
    if (!x->unread)
        journal_fold(j, s, x);
    uint64_t need = x->end + block_up(x->entries.len) + RECORD_BLOCK;
    if (s->size < s->head.size || need > s->head.size || x->unread)
        return;
    if (segment_index_write(s->file, &s->head, x))
        log_warn("spool index not written", LOG_INT("segment", s->head.number));
}

// Of the newest one, which mostly has to be scanned, it was read before.
static int take_index(struct recovering *r, struct segment *s, struct segment_index *out)
{
    struct segment_damage damage = {r, on_damage};
    if (s != r->found[0])
        return segment_index_read(s->file, &s->head, s->end, s->sure, &damage, out);
    *out = r->newest;
    r->newest = (struct segment_index){0};
    return OK;
}

static int replay_segment(struct recovering *r, struct segment *s)
{
    struct segment_index x;
    r->current = s;
    int err = take_index(r, s, &x);
    if (err) {
        segment_index_done(&x);
        log_error("spool segment can't be read", LOG_INT("segment", s->head.number), LOG_ERR(err));
        return err;
    }
    replay(r, &x);
    s->unread = x.unread;
    r->unread |= x.unread;
    if (x.unread)
        log_error("spool segment can't be read in full; kept for the next start",
                  LOG_INT("segment", s->head.number));
    if (x.scanned)
        seal_scanned(r->j, s, &x);
    s->end = x.end < s->head.size ? x.end : s->head.size;
    s->sure = x.sure;
    s->last_sequence = x.last_sequence;
    if (x.last_sequence > r->j->last_sequence)
        r->j->last_sequence = x.last_sequence;
    uint64_t next =
        s->head.first_sequence > x.last_sequence + 1 ? s->head.first_sequence : x.last_sequence + 1;
    if (next > r->j->next_sequence)
        r->j->next_sequence = next;
    segment_index_done(&x);
    return OK;
}

// ---- notes -----------------------------------------------------------------------------------------------

static void tell_notes(struct recovering *r)
{
    struct bytes key;
    void *value;
    for (size_t cursor = 0; map_next(&r->j->notes, &cursor, &key, &value);) {
        const struct note *note = value;
        r->told->on_note(r->told->ctx, key, bytes_of(note->value, note->value_bytes));
    }
}

// ---- extents ------------------------------------------------------------------------------------

static void add_extent(struct journal *j, const char *name)
{
    struct disk_file *file;
    uint64_t size;
    if (disk_file_open(j->disk, name, DISK_READ, &file))
        return;
    if (disk_size(file, &size) == OK) {
        j->extents++;
        j->extent_bytes += size;
    }
    disk_file_close(file);
}

static void set_extent_aside(struct journal *j, const char *name, const char *file)
{
    char to[64];
    snprintf(to, sizeof(to), "damaged/extent-%s", file);
    if (disk_rename(j->disk, name, to))
        log_error("spool extent can't be set aside", LOG_CSTR("file", name));
    else
        log_error("spool extent of no known message, set aside", LOG_CSTR("file", to));
}

// One that no live message has was never accepted, or is settled; unless its message is among what this start has
// not read, or found damaged.
static void on_extent(void *ctx, const char *file)
{
    struct recovering *r = ctx;
    struct journal *j = r->j;
    char name[EXTENT_NAME_BYTES];
    struct message_id id;
    struct table_entry *e =
        message_id_parse(bytes_cstr(file), &id) == OK ? table_find(&j->table, id) : NULL;
    snprintf(name, sizeof(name), EXTENT_DIRECTORY "/%s", file);
    if ((e && e->has_extent) || r->unread)
        add_extent(j, name);
    else if (j->counts.damaged)
        set_extent_aside(j, name, file);
    else if (disk_unlink(j->disk, name))
        log_warn("spool: orphaned extent not removed", LOG_CSTR("file", name));
}

// ---- all of it ----------------------------------------------------------------------------------

static int find_segments(struct recovering *r)
{
    int err = disk_list(r->j->disk, SEGMENT_DIRECTORY, on_name, r);
    if (err)
        return err;
    r->found = mem_new((r->slots_count + 1) * sizeof(struct segment *));
    r->unreadable = mem_new((r->slots_count + 1) * sizeof(struct segment *));
    r->unused = mem_new((r->slots_count + 1) * sizeof(struct segment *));
    for (size_t i = 0; !err && i < r->slots_count; i++)
        err = load_segment(r, r->slots[i]);
    qsort(r->found, r->found_count, sizeof(struct segment *), by_number_down);
    return err ? err : find_tail(r);
}

// The start fails: what was found is closed with the rest.
static void give_up(struct recovering *r)
{
    for (size_t i = 0; i < r->found_count; i++)
        list_push_back(&r->j->gone, &r->found[i]->link);
    for (size_t i = 0; i < r->unreadable_count; i++)
        list_push_back(&r->j->gone, &r->unreadable[i]->link);
    for (size_t i = 0; i < r->unused_count; i++)
        list_push_back(&r->j->gone, &r->unused[i]->link);
}

static uint32_t expected_messages(const struct recovering *r)
{
    uint64_t total = 0;
    list_each(link, &r->j->live)
    {
        const struct segment *s = list_get(link, struct segment, link);
        total += segment_messages(s->file, &s->head);
    }
    return total < UINT32_MAX ? (uint32_t)total : 0;
}

static int replay_all(struct recovering *r)
{
    int err = OK;
    table_fill(&r->j->table, expected_messages(r));
    list_each(link, &r->j->live) if (!err) err =
        replay_segment(r, list_get(link, struct segment, link));
    table_fit(&r->j->table);
    r->j->settling_count = 0; // their extents are orphans now
    r->j->next_sequence += SEQUENCE_JUMP;
    return err;
}

// After a kill the last batch may stand in the page cache only. It counts from here on, and what it makes empty is freed.
static int sync_newest(const struct recovering *r)
{
    int err = r->found_count ? disk_sync(r->found[0]->file) : OK;
    if (err)
        log_error("spool segment can't be flushed", LOG_INT("segment", r->found[0]->head.number),
                  LOG_ERR(err));
    return err;
}

int journal_recover(struct journal *j, const struct spool_recovery *recovery)
{
    struct recovering r = {.j = j, .told = recovery};
    int err = find_segments(&r);
    if (!err)
        err = sync_newest(&r);
    if (!err)
        err = journal_raise_epoch(j, r.epoch_max);
    if (!err) {
        keep_segment_size(&r);
        build_chain(&r);
        put_unreadable(&r);
        put_unused(&r);
        err = replay_all(&r);
    } else {
        give_up(&r);
    }
    if (!err && recovery && recovery->on_note)
        tell_notes(&r);
    if (!err)
        err = disk_list(j->disk, EXTENT_DIRECTORY, on_extent, &r);
    segment_index_done(&r.newest);
    free(r.slots);
    free(r.found);
    free(r.unreadable);
    free(r.unused);
    return err;
}
