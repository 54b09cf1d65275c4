// SPDX-License-Identifier: MIT
#include "conf/conf_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "conf/conf.h"

static void test_full_names(void **state)
{
    static const struct {
        const char *name;
        bool want;
    } cases[] = {
        {"mail.example.org", true},
        {"Mail.Example.ORG", true},
        {"vm.internal", true},
        {"", false},
        {"mail", false},
        {".example.org", false},
        {"localhost", false},
        {"localhost.localdomain", false},
        {"mail.LOCALDOMAIN", false},
        {"a.localhost", false},
        {"192.0.2.1", false},
        {"a b.example", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (conf_host_is_full(bytes_cstr(cases[i].name)) != cases[i].want)
            fail_msg("%s", cases[i].name);
}

static void test_taken_where_the_file_has_none(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", "own.example.org"},
        {"# nothing\n", "own.example.org"},
        {"spool: /s\n", "own.example.org"},
        {"hostname: said.example.org\n", "said.example.org"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct conf_host host = {.name = "Own.Example.org"};
        struct buf errors = {0};
        struct conf *conf;
        assert_int_equal(
            conf_load_on(&host, bytes_cstr(cases[i].text), "t.yaml", "/", &conf, &errors), OK);
        assert_true(bytes_eq(conf->hostname, bytes_cstr(cases[i].want)));
        conf_free(conf);
        buf_done(&errors);
    }
}

// What is said wrongly is an error, whatever the host is called.
static void test_not_instead_of_what_is_wrong(void **state)
{
    static const char *const texts[] = {"hostname: [\n", "hostname: -x\n", "hostnme: a.example\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct conf_host host = {.name = "own.example.org"};
        struct buf errors = {0};
        struct conf *conf;
        assert_int_equal(conf_load_on(&host, bytes_cstr(texts[i]), "t.yaml", "/", &conf, &errors),
                         E_SYNTAX);
        buf_done(&errors);
    }
}

// Whatever this host is called: found or not, a name that is found is a full one.
static void test_this_host(void **state)
{
    struct conf_host host = {0};
    bool found = conf_host_find(&host);
    assert_int_equal(found, conf_host_is_full(bytes_cstr(host.name)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_names),
        cmocka_unit_test(test_taken_where_the_file_has_none),
        cmocka_unit_test(test_not_instead_of_what_is_wrong),
        cmocka_unit_test(test_this_host),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
