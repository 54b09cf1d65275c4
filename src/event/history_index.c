// SPDX-License-Identifier: MIT
#include "event/history_index.h"

#include <stdlib.h>

#include "base/check.h"
#include "spool/record.h"
#include "spool/tlv.h"

#define WORD_BYTES                                                                                 \
    512 // of one that is hashed; what is longer differs in these, or the record decides
#define LEAF_ENTRIES 512 // of one leaf, about

uint64_t history_word_hash(enum history_word kind, struct bytes word)
{
    char text[WORD_BYTES + 1];
    word = bytes_first(word, WORD_BYTES);
    text[0] = (char)kind;
    for (size_t i = 0; i < word.len; i++)
        text[i + 1] = ascii_lower(word.at[i]);
    return record_hash(bytes_of(text, word.len + 1));
}

// ---- notes -------------------------------------------------------------------------------------------------

// note = sequence:8 count:4 count*( word:8 )
#define NOTE_HEAD_BYTES 12

void history_notes_add(struct buf *notes, uint64_t sequence, const uint64_t *words, size_t count)
{
    char *at = buf_reserve(notes, NOTE_HEAD_BYTES + count * 8);
    if (!at)
        return;
    le64_put(at, sequence);
    le32_put(at + 8, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        le64_put(at + NOTE_HEAD_BYTES + i * 8, words[i]);
    buf_commit(notes, NOTE_HEAD_BYTES + count * 8);
}

bool history_notes_next(struct bytes *in, struct history_note *out)
{
    if (in->len < NOTE_HEAD_BYTES)
        return false;
    *out = (struct history_note){le64_get(in->at), in->at + NOTE_HEAD_BYTES, le32_get(in->at + 8)};
    if (out->count > (in->len - NOTE_HEAD_BYTES) / 8)
        return false;
    *in = bytes_skip(*in, NOTE_HEAD_BYTES + out->count * 8);
    return true;
}

static bool has_word(const struct history_note *note, uint64_t word)
{
    for (size_t i = 0; i < note->count; i++)
        if (le64_get(note->words + i * 8) == word)
            return true;
    return false;
}

bool history_note_has(const struct history_note *note, const uint64_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!has_word(note, words[i]))
            return false;
    return true;
}

// ---- sheets ------------------------------------------------------------------------------------------------

int64_t history_sheet_sum(const struct history_sheet *sheet)
{
    uint64_t numbers[] = {
        (uint64_t)sheet->id,        sheet->first, sheet->last, (uint64_t)sheet->oldest.us,
        (uint64_t)sheet->newest.us, sheet->bits};
    return (int64_t)record_hash(bytes_of(numbers, sizeof numbers));
}

int history_entries_add(struct buf *entries, struct bytes notes)
{
    struct history_note note;
    while (history_notes_next(&notes, &note))
        for (size_t i = 0; i < note.count; i++) {
            struct history_entry entry = {le64_get(note.words + i * 8), note.sequence};
            buf_add(entries, bytes_of(&entry, sizeof entry));
        }
    return notes.len ? E_DAMAGED : entries->err;
}

// By one byte of the words, from one array into the other.
static void sort_by_byte(const struct history_entry *from, struct history_entry *to, size_t count,
                         unsigned shift)
{
    size_t starts[257] = {0};
    for (size_t i = 0; i < count; i++)
        starts[(from[i].word >> shift & 0xff) + 1]++;
    for (size_t i = 1; i < 256; i++)
        starts[i] += starts[i - 1];
    for (size_t i = 0; i < count; i++)
        to[starts[from[i].word >> shift & 0xff]++] = from[i];
}

void history_entries_sort(struct history_entry *entries, size_t count)
{
    if (!count)
        return;
    struct history_entry *space = mem_new(count * sizeof *space);
    for (unsigned shift = 0; shift < 64; shift += 16) {
        sort_by_byte(entries, space, count, shift);
        sort_by_byte(space, entries, count, shift + 8);
    }
    free(space);
}

unsigned history_leaf_bits(size_t entries)
{
    unsigned bits = 0;
    while (bits < HISTORY_LEAF_BITS_MAX && entries >> bits > LEAF_ENTRIES)
        bits++;
    return bits;
}

uint32_t history_leaf_of(uint64_t word, unsigned bits)
{
    return bits ? (uint32_t)(word >> (64 - bits)) : 0;
}

size_t history_leaf_write(const struct history_entry *entries, size_t count, unsigned bits,
                          uint64_t first, struct buf *out)
{
    struct buf numbers = {0};
    size_t i = 0;
    uint32_t leaf = count ? history_leaf_of(entries[0].word, bits) : 0;
    while (i < count && history_leaf_of(entries[i].word, bits) == leaf) {
        uint64_t word = entries[i].word, last = first;
        char head[8];
        buf_clear(&numbers);
        for (bool begins = true; i < count && entries[i].word == word; i++, begins = false) {
            if (!begins && entries[i].sequence == last)
                continue; // a word that the record has twice
            varint_add(&numbers, entries[i].sequence - last);
            last = entries[i].sequence;
        }
        le64_put(head, word);
        buf_add(out, bytes_of(head, sizeof head));
        bytes_add_counted(out, buf_bytes(&numbers));
    }
    buf_done(&numbers);
    return i;
}

static int take_numbers(struct bytes in, uint64_t first, struct buf *out)
{
    uint64_t step;
    while (in.len) {
        if (varint_take(&in, &step))
            return E_DAMAGED;
        first += step;
        buf_add(out, bytes_of(&first, sizeof first));
    }
    return out->err;
}

int history_leaf_find(struct bytes leaf, uint64_t word, uint64_t first, struct buf *out_sequences)
{
    while (leaf.len) {
        struct bytes head, numbers;
        if (bytes_take(&leaf, 8, &head) || bytes_take_counted(&leaf, &numbers))
            return E_DAMAGED;
        if (le64_get(head.at) == word)
            return take_numbers(numbers, first, out_sequences);
    }
    return OK;
}
