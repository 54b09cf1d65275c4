// SPDX-License-Identifier: MIT
//
// last_answers - what the history says of the last attempt for each recipient of a batch
//
// Owner:  one job; the batch is borrowed while events are noted.
// Thread: one at a time.
#pragma once

#include "event/history.h"
#include "queue/queue.h"

struct last_answers;

struct last_answers *last_answers_new(const struct queue_batch *batch);
void last_answers_free(struct last_answers *l); // NULL is fine
// From the events of the batch's message, in order: later answers replace earlier ones. What is no deferral of a
// recipient of the batch is passed over.
void last_answers_note(struct last_answers *l, const struct history_event *event);
// Is there one of the last attempt for each recipient that was tried?
bool last_answers_has_all(const struct last_answers *l);
// For batch->recipients[i]: "HOST: ANSWER", or why its site can't be reached; empty: not known. Valid until the next
// event. l NULL: none are known.
const char *last_answers_text(const struct last_answers *l, uint32_t i);
