// SPDX-License-Identifier: MIT
//
// history_index - what records are found by: words, as 64-bit hashes, on notes and on sheets; pure: bytes in, bytes out
//
// Notes name the words of each record of a block, as they come. A sheet is made of the notes of some hundred thousand
// records at once: their words in order, each with the sequence numbers of its records, cut into leaves by the words'
// first bits, so that a look-up reads one leaf of a kilobyte or two. A hash may stand for two words: the record decides.
//
//     leaf = *( word:8 length:varint numbers ); numbers = 1*( difference to the one before, the first to the sheet's )
#pragma once

#include "base/buf.h"
#include "base/clock.h"

#define HISTORY_LEAF_BITS_MAX 12 // of the leaves of one sheet

// What a record is found by: its own type, and of its message and recipient the rest.
enum history_word {
    HISTORY_RECIPIENT = 'r',
    HISTORY_DOMAIN = 'd', // a recipient's, as A-labels
    HISTORY_SENDER = 's', // "<>": the null sender
    HISTORY_MESSAGE_ID = 'm',
    HISTORY_ENVID = 'e',
    HISTORY_TAG = 't',
    HISTORY_ACCOUNT = 'a',
    HISTORY_TYPE = 'y',
};
// What people type in one case or the other is found in both.
uint64_t history_word_hash(enum history_word kind, struct bytes word);

// ---- notes -------------------------------------------------------------------------------------------------

void history_notes_add(struct buf *notes, uint64_t sequence, const uint64_t *words, size_t count);
// Takes the next record's; its words are `count` unaligned numbers. False: there is none, or (in->len) damage.
struct history_note {
    uint64_t sequence;
    const char *words;
    size_t count;
};
bool history_notes_next(struct bytes *in, struct history_note *out);
// True if the record has all these words.
bool history_note_has(const struct history_note *note, const uint64_t *words, size_t count);

// ---- sheets ------------------------------------------------------------------------------------------------

struct history_sheet {
    int64_t id;
    uint64_t first, last;       // sequence numbers of what is on it
    struct wall oldest, newest; // times
    unsigned bits;              // there are 2 to this power leaves
};
int64_t history_sheet_sum(const struct history_sheet *sheet);

struct history_entry {
    uint64_t word, sequence;
};
// Adds an entry for each word of all notes. E_DAMAGED.
int history_entries_add(struct buf *entries, struct bytes notes) MUST_USE;
// By word; those of one word stay in the order they were added in.
void history_entries_sort(struct history_entry *entries, size_t count);
// For so many entries: a sheet has 2 to this power leaves.
unsigned history_leaf_bits(size_t entries);
// The number of the leaf that a word is in.
uint32_t history_leaf_of(uint64_t word, unsigned bits);
// Writes one leaf of the sorted entries and returns how many of them are in it. The sequence numbers of a word must
// not fall, and none be below `first`.
size_t history_leaf_write(const struct history_entry *entries, size_t count, unsigned bits,
                          uint64_t first, struct buf *out);
// Appends the sequence numbers of a word, as uint64_t. E_DAMAGED.
int history_leaf_find(struct bytes leaf, uint64_t word, uint64_t first,
                      struct buf *out_sequences) MUST_USE;
