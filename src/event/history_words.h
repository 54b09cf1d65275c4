// SPDX-License-Identifier: MIT
//
// history_words - what each record is found by, as the journal is read forward
//
// An outcome is found by what its message is found by: its sender, Message-ID and so on, and the recipient it is about.
// It does not say these, so those of messages met lately are remembered, as hashes; of others the message is looked up.
//
// Limits: HISTORY_WORDS_MESSAGES messages, HISTORY_WORDS_BYTES.
#pragma once

#include "event/history_index.h"
#include "mail/envelope.h"
#include "spool/spool_reader.h"

#define HISTORY_WORDS_MESSAGES 16384
#define HISTORY_WORDS_BYTES ((size_t)16 << 20)

struct history_words_of;

// Zeroed, and `find` set, it is ready.
struct history_words {
    // The envelope of a message that is not remembered, borrowed until the next call; NULL: it is not known.
    const struct envelope *(*find)(void *ctx, struct message_id id);
    void *ctx;
    struct history_words_of *at[HISTORY_WORDS_MESSAGES]; // by id
    size_t bytes;
};
void history_words_done(struct history_words *w);
// Appends the words (uint64_t) of a record that is decoded. A message is remembered.
void history_words_add(struct history_words *w, const struct spool_record *record, struct buf *out);
