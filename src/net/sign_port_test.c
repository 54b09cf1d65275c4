// SPDX-License-Identifier: MIT
#include "net/sign_port.h"

#include <stdlib.h>

#include "base/test_base.h"

#define ASKED_MAX 400

static struct sent {
    const struct sign_request *request;
    uint64_t id;
    bool with_key;
} sent[ASKED_MAX];
static size_t sent_count, sent_max;

static bool send_one(void *ctx, const struct sign_request *r, bool with_key)
{
    assert_ptr_equal(ctx, sent);
    if (sent_count == sent_max)
        return false;
    sent[sent_count++] = (struct sent){r, r->id, with_key};
    return true;
}
static const struct sign_port port = {send_one, sent};

struct asker {
    struct sign_request request;
    int done;
    char got[8];
};

static void on_done(struct sign_request *r, struct bytes answer)
{
    struct asker *a = (struct asker *)r;
    a->done++;
    memcpy(a->got, answer.at ? answer.at : "", answer.len);
    a->got[answer.len] = '\0';
}

static bool ask(struct asker *a, struct bytes sealed)
{
    *a = (struct asker){.request = {.kind = SIGN_ED25519, .sealed = sealed, .done = on_done}};
    return sign_ask(&a->request);
}

static int setup(void **state)
{
    (void)state;
    sent_count = 0;
    sent_max = ASKED_MAX;
    sign_port_use(&port);
    return 0;
}

static void test_answer(void **state)
{
    (void)state;
    struct asker a;
    assert_true(ask(&a, BYTES_NONE));
    assert_int_equal(sent_count, 1);
    sign_port_answer(sent[0].id + 1, SIGN_DONE, BYTES("no"));
    assert_int_equal(a.done, 0);
    sign_port_answer(sent[0].id, SIGN_DONE, BYTES("yes"));
    sign_port_answer(sent[0].id, SIGN_DONE, BYTES("more"));
    assert_int_equal(a.done, 1);
    assert_string_equal(a.got, "yes");
    sign_forget(&a.request);
}

static void test_refused(void **state)
{
    (void)state;
    struct asker a;
    ask(&a, BYTES_NONE);
    sign_port_answer(sent[0].id, SIGN_REFUSED, BYTES("x"));
    assert_string_equal(a.got, "");
    assert_int_equal(a.done, 1);
    ask(&a, BYTES_NONE); // without a sealed key there is nothing to send again
    sign_port_answer(sent[1].id, SIGN_NO_KEY, BYTES_NONE);
    assert_int_equal(a.done, 1);
    sign_port_use(NULL);
    assert_false(ask(&a, BYTES_NONE));
}

// A signer that does not have the key gets it along.
static void test_key_goes_along(void **state)
{
    (void)state;
    struct asker a;
    ask(&a, BYTES("sealed"));
    assert_false(sent[0].with_key);
    sign_port_answer(sent[0].id, SIGN_NO_KEY, BYTES_NONE);
    assert_int_equal(sent_count, 2);
    assert_true(sent[1].with_key && sent[1].id == sent[0].id);
    sign_port_answer(sent[1].id, SIGN_DONE, BYTES("s"));
    assert_string_equal(a.got, "s");
}

// A line that is full when the signer asks for a key: the request goes with it, before others, when there is room.
static void test_key_waits_for_room(void **state)
{
    (void)state;
    struct asker a, b, c, d;
    ask(&a, BYTES("sealed"));
    ask(&b, BYTES_NONE);
    sent_max = 2;
    ask(&c, BYTES_NONE);
    sign_port_answer(sent[0].id, SIGN_NO_KEY, BYTES_NONE);
    assert_int_equal(a.done, 0);
    sent_max = 3;
    sign_port_answer(sent[1].id, SIGN_DONE, BYTES("b"));
    assert_int_equal(sent_count, 3);
    assert_true(sent[2].request == &a.request && sent[2].id == sent[0].id && sent[2].with_key);
    sent_max = 4;
    sign_port_answer(sent[2].id, SIGN_DONE, BYTES("a"));
    assert_string_equal(a.got, "a");
    assert_true(sent_count == 4 && sent[3].request == &c.request && !sent[3].with_key);
    sign_port_answer(sent[3].id, SIGN_DONE, BYTES("c"));
    sent_max = 5;
    ask(&d, BYTES("sealed")); // nothing else is under way: nothing will make room
    sign_port_answer(sent[4].id, SIGN_NO_KEY, BYTES_NONE);
    assert_int_equal(d.done, 1);
    assert_string_equal(d.got, "");
}

static void test_many_wait(void **state)
{
    (void)state;
    static struct asker askers[SIGN_UNDER_WAY_MAX + 20];
    for (size_t i = 0; i < COUNT_OF(askers); i++)
        assert_true(ask(&askers[i], BYTES_NONE));
    assert_int_equal(sent_count, SIGN_UNDER_WAY_MAX);
    sign_forget(&askers[0].request);                      // under way
    sign_forget(&askers[SIGN_UNDER_WAY_MAX + 1].request); // waits
    assert_int_equal(sent_count, SIGN_UNDER_WAY_MAX + 1);
    for (size_t i = 0; i < sent_count; i++)
        sign_port_answer(sent[i].id, SIGN_DONE, BYTES("s"));
    for (size_t i = 0; i < COUNT_OF(askers); i++)
        assert_int_equal(askers[i].done, i != 0 && i != SIGN_UNDER_WAY_MAX + 1);
}

// A signer that ends: what is under way is sent again in its order, but not for ever; what comes meanwhile waits.
static void test_lost(void **state)
{
    (void)state;
    struct asker a, b, c;
    ask(&a, BYTES_NONE);
    ask(&b, BYTES_NONE);
    sign_port_lost();
    assert_true(ask(&c, BYTES_NONE));
    assert_int_equal(sent_count, 2);
    sign_port_found();
    assert_int_equal(sent_count, 5);
    assert_ptr_equal(sent[2].request, &a.request);
    assert_ptr_equal(sent[3].request, &b.request);
    assert_ptr_equal(sent[4].request, &c.request);
    sign_port_answer(sent[3].id, SIGN_DONE, BYTES("b"));
    sign_port_lost();
    assert_int_equal(a.done, 1);
    assert_string_equal(a.got, "");
    sign_port_found();
    assert_int_equal(sent_count, 6);
    sign_port_use(NULL);
    assert_int_equal(c.done, 1);
}

// A line that is full: asked again when there is room; without anything under way there never will be.
static void test_full(void **state)
{
    (void)state;
    struct asker a, b;
    sent_max = 0;
    assert_false(ask(&a, BYTES_NONE));
    sent_max = 1;
    assert_true(ask(&a, BYTES_NONE));
    assert_true(ask(&b, BYTES_NONE));
    sent_max = 2;
    sign_port_answer(sent[0].id, SIGN_DONE, BYTES("a"));
    assert_int_equal(sent_count, 2);
    sign_port_answer(sent[1].id, SIGN_DONE, BYTES("b"));
    assert_string_equal(b.got, "b");
}

// An answer makes room, also one that nobody waits for any more.
static void test_full_of_forgotten(void **state)
{
    (void)state;
    struct asker a, b;
    sent_max = 1;
    ask(&a, BYTES_NONE);
    assert_true(ask(&b, BYTES_NONE));
    sign_forget(&a.request);
    assert_int_equal(sent_count, 1);
    sent_max = 2;
    sign_port_answer(sent[0].id, SIGN_DONE, BYTES("a"));
    assert_int_equal(sent_count, 2);
    sign_port_answer(sent[1].id, SIGN_DONE, BYTES("b"));
    assert_true(a.done == 0 && b.done == 1);
    assert_string_equal(b.got, "b");
}

static void test_made(void **state)
{
    (void)state;
    struct bytes pub, sealed;
    assert_int_equal(sign_made_parse(bytes_of("\2\0pqs", 5), &pub, &sealed), OK);
    assert_true(bytes_eq(pub, BYTES("pq")) && bytes_eq(sealed, BYTES("s")));
    for (size_t len = 0; len < 5; len++)
        assert_int_equal(sign_made_parse(bytes_of("\2\0pqs", len), &pub, &sealed), E_SYNTAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_answer, setup),
        cmocka_unit_test_setup(test_refused, setup),
        cmocka_unit_test_setup(test_key_goes_along, setup),
        cmocka_unit_test_setup(test_key_waits_for_room, setup),
        cmocka_unit_test_setup(test_many_wait, setup),
        cmocka_unit_test_setup(test_lost, setup),
        cmocka_unit_test_setup(test_full, setup),
        cmocka_unit_test_setup(test_full_of_forgotten, setup),
        cmocka_unit_test(test_made),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
