// SPDX-License-Identifier: MIT
//
// How it works: the recipients of a batch stand in any order, and each may have had many attempts. So their places are
// looked up by number, and time grows with the events only.
#include "deliver/last_answers.h"

#include <stdio.h>
#include <stdlib.h>

#include "deliver/verdict.h"

struct last_answer {
    uint32_t attempts; // it was that one; 0: none is known
    char text[VERDICT_TEXT_MAX + 1];
};

struct last_answers {
    const struct queue_batch *batch;
    uint32_t *places; // by number: the place in the batch, from 1; 0: not of it
    uint32_t number_max;
    struct last_answer at[]; // as batch->recipients
};

struct last_answers *last_answers_new(const struct queue_batch *batch)
{
    struct last_answers *l = mem_new(sizeof *l + batch->count * sizeof l->at[0]);
    l->batch = batch;
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->recipients[i].number > l->number_max)
            l->number_max = batch->recipients[i].number;
    l->places = mem_new(((size_t)l->number_max + 1) * sizeof *l->places);
    for (uint32_t i = 0; i < batch->count; i++)
        l->places[batch->recipients[i].number] = i + 1;
    return l;
}

void last_answers_free(struct last_answers *l)
{
    if (l)
        free(l->places);
    free(l);
}

void last_answers_note(struct last_answers *l, const struct history_event *event)
{
    uint32_t place = event->recipient <= l->number_max ? l->places[event->recipient] : 0;
    if (event->type != SPOOL_EVENT_DEFERRED || !place)
        return;
    struct last_answer *last = &l->at[place - 1];
    last->attempts = event->attempts;
    snprintf(last->text, sizeof last->text, "%.*s%s", BYTES_FMT(event->mx),
             event->mx.len ? ": " : "");
    size_t used = strlen(last->text);
    if (event->code)
        snprintf(last->text + used, sizeof last->text - used, "%u %.*s %.*s", event->code,
                 BYTES_FMT(event->enhanced), BYTES_FMT(event->text));
    else
        snprintf(last->text + used, sizeof last->text - used, "%.*s", BYTES_FMT(event->text));
}

bool last_answers_has_all(const struct last_answers *l)
{
    for (uint32_t i = 0; i < l->batch->count; i++)
        if (l->at[i].attempts < l->batch->recipients[i].attempts)
            return false;
    return true;
}

const char *last_answers_text(const struct last_answers *l, uint32_t i)
{
    return l ? l->at[i].text : "";
}
