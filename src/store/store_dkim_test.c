// SPDX-License-Identifier: MIT
#include "store/store_dkim.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/test_base.h"
#include "store/store_directory.h"

#define DAY_US ((int64_t)86400 * 1000000)
#define T0 (INT64_C(20000) * DAY_US)

static char folder[64];
static struct store *store;
static int64_t now;

static int setup(void **state)
{
    (void)state;
    struct buf error = {0};
    now = T0;
    snprintf(folder, sizeof folder, "/tmp/posthaste-dkim-XXXXXX");
    return mkdtemp(folder) ? store_open(bytes_cstr(folder), &store, &error) : -1;
}

static int teardown(void **state)
{
    (void)state;
    static const char *const names[] = {"accounts.db", "accounts.db-wal", "accounts.db-shm",
                                        "lock"};
    char path[128];
    store_close(store);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

// 0 changed, 1 unchanged, or the error; the result or the error's text in `shown`.
static int apply(const char *op, const char *args, struct buf *shown)
{
    struct buf quoted = {0};
    for (const char *p = args; *p; p++)
        buf_add_byte(&quoted, *p == '\'' ? '"' : *p);
    struct json_object *parsed = json_tokener_parse(buf_cstr(&quoted));
    struct store_op operation = {op, parsed, BYTES("test"), {now}, NULL};
    struct store_answer answer;
    buf_clear(shown);
    int err = store_apply(store, &operation, &answer, shown);
    if (!err)
        buf_add_cstr(shown, json_object_to_json_string_ext(answer.result, JSON_C_TO_STRING_PLAIN));
    json_object_put(answer.result);
    json_object_put(parsed);
    buf_done(&quoted);
    return err ? err : !answer.changed;
}

#define ADD(account, algorithm, record, more)                                                      \
    "{" account "'domain':'a.org','algorithm':'" algorithm "','record':'v=DKIM1; " record          \
    "','sealed':'00112233445566778899aabbccddeeff00'" more "}"
#define ACME "'account':'acme',"

struct row {
    const char *op, *args;
    int want;
    const char *says;
};

static void play(const struct row *rows, size_t count)
{
    struct buf shown = {0};
    for (size_t i = 0; i < count; i++) {
        int got = apply(rows[i].op, rows[i].args, &shown);
        if (got != rows[i].want || bytes_search(buf_bytes(&shown), bytes_cstr(rows[i].says)) < 0)
            fail_msg("%zu: %s %s: got %d, %s", i, rows[i].op, rows[i].args, got, buf_cstr(&shown));
    }
    buf_done(&shown);
}

static const struct row begin[] = {
    {"account.add", "{'account':'acme'}", 0, "acme"},
    {"account.add", "{'account':'beta'}", 0, "beta"},
    {"domain.add", "{'account':'acme','domain':'a.org','token':'abcdefghijklmnop','trust':true}", 0,
     "a.org"},
    {"domain.add", "{'account':'beta','domain':'a.org','token':'abcdefghijklmnop','trust':true}", 0,
     "a.org"},
};

// A key's way: new, seen, followed by another, removed; names are chosen, and never taken twice.
static void test_story(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"dkim.add", ADD("'account':'nobody',", "rsa", "p=1", ""), E_NOT_FOUND, "no account"},
        {"dkim.add", "{'account':'acme','domain':'b.org','algorithm':'rsa'}", E_NOT_FOUND,
         "no domain"},
        {"dkim.add", ADD(ACME, "dsa", "p=1", ""), E_SYNTAX, "rsa or ed25519"},
        {"dkim.add",
         "{'account':'acme','domain':'a.org','algorithm':'rsa','record':'v=DKIM1; "
         "p=','sealed':'x'}",
         E_SYNTAX, "no DKIM key"},
        {"dkim.add", ADD(ACME, "rsa", "p=1", ",'selector':'a.b'"), E_SYNTAX, "no selector"},
        {"dkim.add", ADD(ACME, "rsa", "p=1", ""), 0,
         "\"selector\":\"ph1r\",\"algorithm\":\"rsa\",\"state\":\"new\""},
        {"dkim.add", ADD(ACME, "rsa", "p=2", ""), E_EXISTS, "ph1r"},            // one waits already
        {"dkim.add", ADD(ACME, "rsa", "p=1", ",'selector':'ph1r'"), 1, "ph1r"}, // the same again
        {"dkim.add", ADD(ACME, "ed25519", "p=3", ""), 0, "\"selector\":\"ph1e\""},
        {"dkim.add", ADD("'account':'beta',", "rsa", "p=4", ""), 0, "\"selector\":\"ph2r\""},
        {"dkim.add", ADD("'account':'beta',", "rsa", "p=4", ",'selector':'ph1r'"), E_EXISTS,
         "already"},
        {"dkim.add", ADD("", "rsa", "p=5", ""), 0,
         "\"account\":null,\"domain\":\"a.org\",\"selector\":\"ph3r\""},
        {"dkim.seen", "{'number':99}", E_NOT_FOUND, "number 99"},
        {"dkim.seen", "{'number':1}", 0, "\"state\":\"active\""},
        {"dkim.seen", "{'number':1}", 1, "\"state\":\"active\""},
        {"dkim.rotate", "{'account':'acme','domain':'a.org'}", 0, "ph1r"},
        {"dkim.rotate", "{'account':'acme','domain':'a.org'}", 1, "ph1r"},
        {"dkim.add", ADD(ACME, "rsa", "p=6", ""), 0, "\"selector\":\"ph4r\""},
        {"dkim.seen", "{'number':5}", 0, "\"state\":\"active\""},
        {"dkim.seen", "{'number':1}", E_DENIED, "old"},
        {"dkim.list", "{'account':'acme','domain':'a.org'}", 1,
         "\"selector\":\"ph1r\",\"algorithm\":\"rsa\",\"state\":\"old\""},
        {"dkim.list", "{'account':'beta'}", 1,
         "\"state\":\"new\""}, // another's rotation is not its own
        {"dkim.remove", "{'number':1}", 0, "ph1r"},
        {"dkim.remove", "{'number':1}", E_NOT_FOUND, "number 1"},
        {"domain.remove", "{'account':'beta','domain':'a.org'}", 0, "beta"},
        {"dkim.list", "{'account':'beta'}", 1, "{\"keys\":[]}"},
        {"account.close", "{'account':'acme'}", 0, "closed"},
        {"dkim.list", "{'account':'acme'}", 1, "{\"keys\":[]}"},
        {"dkim.list", "{}", 1, "ph3r"}, // the service's own stays
    };
    play(begin, COUNT_OF(begin));
    play(rows, COUNT_OF(rows));
}

// A key with a name of its owner's takes the place of the one that waits, and of no other.
static void test_own_key(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"dkim.add", ADD(ACME, "rsa", "p=1", ""), 0, "\"ph1r\""},
        {"dkim.add", ADD(ACME, "ed25519", "p=2", ""), 0, "\"ph1e\""},
        {"dkim.add", ADD("'account':'beta',", "rsa", "p=3", ""), 0, "\"ph2r\""},
        {"dkim.add", ADD(ACME, "rsa", "p=4", ",'selector':'ph2r'"), E_EXISTS, "ph2r already"},
        {"dkim.list", "{'account':'acme'}", 1, "\"ph1r\""}, // after a refusal it is still there
        {"dkim.add", ADD(ACME, "rsa", "p=4", ",'selector':'mail'"), 0, "\"mail\""},
        {"dkim.seen", "{'number':1}", E_NOT_FOUND, "number 1"},
        {"dkim.list", "{'account':'acme'}", 1, "\"ph1e\""},
        {"dkim.list", "{'account':'beta'}", 1, "\"ph2r\""},
        {"dkim.add", ADD(ACME, "rsa", "p=5", ",'selector':'mail'"), 0,
         "p=5"}, // the other was wrong
        {"dkim.add", ADD(ACME, "rsa", "p=6", ""), E_EXISTS, "as mail"},
        {"dkim.seen", "{'number':5}", 0, "active"},
        {"dkim.add", ADD(ACME, "rsa", "p=7", ",'selector':'mail'"), E_EXISTS, "mail already"},
        {"dkim.add", ADD(ACME, "rsa", "p=7", ",'selector':'next'"), 0, "\"next\""},
        {"dkim.list", "{'account':'acme'}", 1,
         "\"selector\":\"mail\",\"algorithm\":\"rsa\",\"state\":\"active\""},
    };
    play(begin, COUNT_OF(begin));
    play(rows, COUNT_OF(rows));
}

// Names for which the domain's owner has CNAMEs: two, in turn.
static void test_pairs(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"dkim.add", ADD(ACME, "rsa", "p=1", ",'fixed':true"), 0, "\"ph1r\""},
        {"dkim.list", "{'account':'acme','pairs':true}", 1,
         "\"selector\":\"ph2r\",\"algorithm\":\"rsa\",\"state\":\"none\",\"record\":\"\""},
        {"dkim.add", ADD("'account':'beta',", "rsa", "p=2", ",'fixed':true"), 0, "\"ph3r\""},
        {"dkim.seen", "{'number':1}", 0, "active"},
        {"dkim.add", ADD(ACME, "rsa", "p=3", ",'fixed':true"), 0, "\"ph2r\""},
        {"dkim.seen", "{'number':3}", 0, "active"},
        {"dkim.add", ADD(ACME, "rsa", "p=4", ",'fixed':true"), E_DENIED, "still published as ph1r"},
        {"dkim.remove", "{'number':1}", 0, "ph1r"},
        {"dkim.add", ADD(ACME, "rsa", "p=4", ",'fixed':true"), 0, "\"ph1r\""},
    };
    play(begin, COUNT_OF(begin));
    play(rows, COUNT_OF(rows));
}

static void note(void *ctx, const struct store_dkim_due *due)
{
    static const char *const words[] = {"make", "check", "remove"};
    buf_printf(ctx, "%s %.*s %.*s%s %.*s;", words[due->what], BYTES_FMT(due->account),
               BYTES_FMT(due->domain),
               due->what == STORE_DKIM_MAKE ? due->ed25519 ? " e" : " r" : "",
               BYTES_FMT(due->selector));
}

static struct store_dkim_query usual(void)
{
    return (struct store_dkim_query){.rsa = true,
                                     .made_before = {now - 100 * DAY_US},
                                     .old_before = {now - 7 * DAY_US},
                                     .each_max = 100,
                                     .makes_max = 100};
}

static void assert_answer(const struct store_dkim_query *query, const char *want)
{
    struct buf got = {0};
    assert_int_equal(store_dkim_look(store, query, note, &got), OK);
    assert_string_equal(buf_cstr(&got), want);
    buf_done(&got);
}

static void assert_due(bool ed25519, const char *service, const char *want)
{
    struct store_dkim_query query = usual();
    query.ed25519 = ed25519;
    query.service_domain = bytes_cstr(service);
    assert_answer(&query, want);
}

static void test_due(void **state)
{
    (void)state;
    struct buf shown = {0};
    play(begin, 3); // acme with a.org
    assert_due(true, "s.org",
               "make acme a.org r ;make  s.org r ;make acme a.org e ;make  s.org e ;");
    apply("dkim.add", ADD(ACME, "rsa", "p=1", ""), &shown);
    assert_due(false, "", "check acme a.org ph1r;");
    apply("dkim.seen", "{'number':1}", &shown);
    assert_due(false, "", "");
    now = T0 + 101 * DAY_US; // too old
    assert_due(false, "", "make acme a.org r ;");
    apply("dkim.add", ADD(ACME, "rsa", "p=2", ""), &shown);
    apply("dkim.seen", "{'number':2}", &shown);
    assert_due(false, "", "");
    now += 8 * DAY_US; // its grace time is over
    assert_due(false, "", "remove acme a.org ph1r;");
    apply("dkim.remove", "{'number':1}", &shown);
    apply("dkim.rotate", "{'account':'acme','domain':'a.org'}", &shown);
    assert_due(false, "", "make acme a.org r ;");
    apply("account.close", "{'account':'acme'}", &shown);
    assert_due(true, "", "");
    buf_done(&shown);
}

// Each kind has its own share of a round, and the keys that wait for their records are gone through in turn.
static void test_shares(void **state)
{
    (void)state;
    struct buf shown = {0};
    struct store_dkim_query query = usual();
    play(begin, COUNT_OF(begin)); // acme and beta with a.org
    apply("dkim.add", ADD(ACME, "rsa", "p=1", ""), &shown);
    apply("dkim.add", ADD("'account':'beta',", "rsa", "p=2", ""), &shown);
    apply("dkim.add", ADD("", "rsa", "p=3", ""), &shown);
    query.ed25519 = true;
    query.each_max = query.makes_max = 1;
    assert_answer(&query, "check acme a.org ph1r;make acme a.org e ;");
    query.checked = 1;
    assert_answer(&query, "check beta a.org ph2r;make acme a.org e ;");
    query.each_max = query.makes_max = 3;
    assert_answer(&query, "check beta a.org ph2r;check  a.org ph3r;check acme a.org ph1r;"
                          "make acme a.org e ;make beta a.org e ;");
    buf_done(&shown);
}

// Of a pair of names, the next is made when the old one is removed: until then it would be made for nothing.
static void test_pair_waits(void **state)
{
    (void)state;
    struct buf shown = {0};
    struct store_dkim_query query = usual();
    play(begin, 3);
    apply("dkim.add", ADD(ACME, "rsa", "p=1", ",'fixed':true"), &shown);
    apply("dkim.seen", "{'number':1}", &shown);
    apply("dkim.add", ADD(ACME, "rsa", "p=2", ",'fixed':true"), &shown);
    apply("dkim.seen", "{'number':2}", &shown);
    apply("dkim.rotate", "{'account':'acme','domain':'a.org'}", &shown);
    assert_answer(&query, "make acme a.org r ;");
    query.pairs = true;
    assert_answer(&query, "");
    apply("dkim.remove", "{'number':1}", &shown);
    assert_answer(&query, "make acme a.org r ;");
    buf_done(&shown);
}

// What delivery goes by: active keys only.
static void test_directory(void **state)
{
    (void)state;
    struct store_directory *dir;
    static const struct row rows[] = {
        {"dkim.add", ADD(ACME, "rsa", "p=1", ""), 0, ""},
        {"dkim.add", ADD(ACME, "ed25519", "p=2", ""), 0, ""},
        {"dkim.seen", "{'number':1}", 0, ""},
    };
    play(begin, COUNT_OF(begin));
    assert_int_equal(store_directory_load(store, &dir), OK);
    uint64_t version = store_directory_version(dir);
    assert_false(store_directory_signs(dir, 1));
    store_directory_free(dir);
    play(rows, COUNT_OF(rows));
    assert_int_equal(store_directory_load(store, &dir), OK);
    assert_true(store_directory_version(dir) > version);
    assert_true(store_directory_signs(dir, 1));
    assert_false(store_directory_signs(dir, 2) || store_directory_signs(dir, 0));
    const struct store_dkim *dkim = store_directory_dkim(dir, 1, BYTES("a.org"));
    assert_non_null(dkim);
    assert_null(dkim->ed25519);
    assert_true(bytes_eq(dkim->rsa->selector, BYTES("ph1r")));
    assert_int_equal(dkim->rsa->sealed.len, 17);
    assert_true(dkim->rsa->number != 0);
    assert_null(store_directory_dkim(dir, 2, BYTES("a.org")));
    assert_null(store_directory_dkim(dir, 1, BYTES("b.org")));
    assert_null(store_directory_dkim(dir, 1, BYTES_NONE));
    store_directory_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_story, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_key, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pairs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_due, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shares, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pair_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directory, setup, teardown),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
