// SPDX-License-Identifier: MIT
#include "deliver/last_answers.h"

#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/test_base.h"
#include "deliver/verdict.h"

static void note(struct last_answers *l, enum spool_event type, uint32_t recipient,
                 uint32_t attempts, uint16_t code, const char *text)
{
    last_answers_note(l, &(struct history_event){.type = type,
                                                 .recipient = recipient,
                                                 .attempts = attempts,
                                                 .code = code,
                                                 .enhanced = BYTES("4.2.0"),
                                                 .mx = code ? BYTES("mx.example") : BYTES_NONE,
                                                 .text = bytes_cstr(text)});
}

// Of some recipients of a message, in any order.
static void test_answers(void **state)
{
    (void)state;
    struct queue_batch_recipient recipients[] = {
        {.number = 7, .attempts = 2}, {.number = 2, .attempts = 1}, {.number = 9}};
    struct queue_batch batch = {.count = COUNT_OF(recipients), .recipients = recipients};
    struct last_answers *l = last_answers_new(&batch);
    assert_string_equal(last_answers_text(l, 0), "");
    note(l, SPOOL_EVENT_DEFERRED, 7, 1, 451, "first");
    note(l, SPOOL_EVENT_DEFERRED, 2, 1, 0, "no route to the host");
    assert_false(last_answers_has_all(l));
    note(l, SPOOL_EVENT_DEFERRED, 7, 2, 452, "second");
    assert_true(last_answers_has_all(l));
    note(l, SPOOL_EVENT_DSN, 7, 3, 250, "no answer");
    note(l, SPOOL_EVENT_DEFERRED, 0, 1, 451, "nobody's");
    note(l, SPOOL_EVENT_DEFERRED, 8, 1, 451, "another's");
    note(l, SPOOL_EVENT_DEFERRED, 10, 1, 451, "one beyond");
    note(l, SPOOL_EVENT_DEFERRED, UINT32_MAX, 1, 451, "far beyond");
    assert_string_equal(last_answers_text(l, 0), "mx.example: 452 4.2.0 second");
    assert_string_equal(last_answers_text(l, 1), "no route to the host");
    assert_string_equal(last_answers_text(l, 2), "");
    assert_string_equal(last_answers_text(NULL, 2), "");
    char *text = mem_new(2 * VERDICT_TEXT_MAX);
    memset(text, 'x', 2 * VERDICT_TEXT_MAX - 1);
    note(l, SPOOL_EVENT_DEFERRED, 9, 1, 451, text);
    assert_number("cut", strlen(last_answers_text(l, 2)), VERDICT_TEXT_MAX);
    free(text);
    last_answers_free(l);
    last_answers_free(NULL);
}

static clock_t time_of(uint32_t count)
{
    struct queue_batch batch = {.count = count};
    batch.recipients = mem_new(count * sizeof *batch.recipients);
    for (uint32_t i = 0; i < count; i++)
        batch.recipients[i].number = count - i;
    struct last_answers *l = last_answers_new(&batch);
    clock_t began = clock();
    for (uint32_t i = 1; i <= count; i++)
        note(l, SPOOL_EVENT_DEFERRED, i, 1, 451, "later");
    clock_t took = clock() - began;
    last_answers_free(l);
    free(batch.recipients);
    return took;
}

static void test_linear(void **state)
{
    (void)state;
    test_is_linear(time_of, 10000);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_answers),
    cmocka_unit_test(test_linear),
};

RUN_TESTS(tests)
