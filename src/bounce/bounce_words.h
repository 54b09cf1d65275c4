// SPDX-License-Identifier: MIT
//
// bounce_words - many phrases looked for in one text at once
//
// A phrase is words as a reply has them, in any case, with " * " where other words may stand
// between. It is found at the borders of words only ("spam" is not in "spamhaus"), white space of
// any kind and length counts as one blank. Found by an automaton (Aho and Corasick, 1975): one step
// for each byte of the text, however many phrases there are.
//
// Owner:  the words own copies of all phrases.
// Thread: any, once compiled: nobody writes to it.
// Limits: BOUNCE_WORDS_STATES_MAX states (about one for each byte of all phrases); the first
//         BOUNCE_WORDS_TEXT_MAX bytes of a text are looked at.
#pragma once

#include "base/buf.h"

#define BOUNCE_WORDS_STATES_MAX 65535
#define BOUNCE_WORDS_TEXT_MAX 4096
#define BOUNCE_WORDS_PARTS_MAX 8 // of one phrase, parted by " * "

struct bounce_words;

struct bounce_words *bounce_words_new(void);
void bounce_words_free(struct bounce_words *words); // NULL is fine
// Phrases are numbered from 0 in the order they are added. E_SYNTAX: nothing but blanks and stars,
// or a star at an end; E_LIMIT: too many parts.
int bounce_words_add(struct bounce_words *words, struct bytes phrase) MUST_USE;
// No phrases can be added any more. E_LIMIT.
int bounce_words_compile(struct bounce_words *words) MUST_USE;
// Tells the number of each phrase that the text has, in the order of their ends, once each.
void bounce_words_find(const struct bounce_words *words, struct bytes text,
                       void (*on_phrase)(void *ctx, uint32_t phrase), void *ctx);
// Lower case, white space as single blanks, none at the ends: as texts and phrases are compared.
void bounce_words_normalize(struct bytes text, size_t max, struct buf *out);
