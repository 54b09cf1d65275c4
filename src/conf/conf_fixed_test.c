// SPDX-License-Identifier: MIT
#include "conf/conf_fixed.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/check.h"
#include "conf/conf_params.h"

// Each key that needs a restart, and one that does not.
static const char all_set[] =
    "hostname: other.example\nspool: /other/spool\nstate: /other/state\n"
    "control: /other/sock\nuser: other\nworkers: 3\n"
    "dkim: {master_key: /other/key}\n"
    "dns: {servers: [192.0.2.1, 192.0.2.2@53], trust_anchor: /other/anchor}\n"
    "sendmail: {socket: /other/mail, pickup: /other/pickup, accounts: [{user: root, account: a}]}\n"
    "limits: {spool_segment: 8MiB, trace_memory: 2MiB, recipients: 123}\n"
    "unsubscribe: {url: 'https://other.example/u/', address: '192.0.2.1:80'}\n"
    "events: {keep: 2d, size: 64MiB}\nhttp: {address: '192.0.2.1:81'}\n";
static const char none_set[] = "hostname: mx.example\n";

static struct conf *load(const char *text)
{
    struct conf *conf = NULL;
    struct buf errors = {0};
    if (conf_load_text(bytes_cstr(text), "t.yaml", "/etc/posthaste", &conf, &errors) != OK)
        fail_msg("refused: %s\n%s", text, buf_cstr(&errors));
    buf_done(&errors);
    return conf;
}

static void list_fixed(struct buf *out)
{
    for (uint32_t i = 0; i < conf_params_count; i++)
        if (!conf_params[i].reloadable && conf_params[i].type != CONF_MAP)
            buf_printf(out, "%s%s", out->len ? ", " : "", conf_params[i].name);
}

// Whatever the new file says of them, and whatever it leaves out.
static void check_kept(const char *before, const char *after)
{
    struct conf *running = load(before), *conf = load(after);
    struct buf fixed = {0}, changed = {0};
    list_fixed(&fixed);
    conf_keep_fixed(conf, running, &changed);
    assert_string_equal(buf_cstr(&changed), buf_cstr(&fixed));
    buf_clear(&changed);
    conf_keep_fixed(conf, running, &changed);
    assert_int_equal(changed.len, 0);
    conf_keep_fixed(conf, running, NULL);
    assert_true(bytes_eq(conf->dkim.master_key, running->dkim.master_key));
    conf_free(running); // what was kept is the other's own
    struct conf *again = load(before);
    conf_keep_fixed(conf, again, &changed);
    assert_int_equal(changed.len, 0);
    assert_int_equal(conf->limits.recipients, after == all_set ? 123 : 1000);
    conf_free(again);
    conf_free(conf);
    buf_done(&fixed);
    buf_done(&changed);
}

static void test_all_are_kept(void **state)
{
    check_kept(none_set, all_set);
    check_kept(all_set, none_set);
}

static void test_one_resolver_differs(void **state)
{
    struct conf *running = load("hostname: mx.example\ndns: {servers: [192.0.2.1, 192.0.2.2]}\n");
    struct conf *conf = load("hostname: mx.example\ndns: {servers: [192.0.2.1, 192.0.2.3]}\n");
    struct buf changed = {0};
    conf_keep_fixed(conf, running, &changed);
    assert_string_equal(buf_cstr(&changed), "dns.servers");
    assert_true(bytes_eq(conf->dns.servers[1], running->dns.servers[1]));
    conf_free(running);
    conf_free(conf);
    buf_done(&changed);
}

static void test_families_differ(void **state)
{
    struct conf *running = load("hostname: mx.example\nhttp: {address: '*:81'}\n");
    struct conf *conf = load("hostname: mx.example\nhttp: {address: '[::]:81'}\n");
    struct buf changed = {0};
    conf_keep_fixed(conf, running, &changed);
    assert_string_equal(buf_cstr(&changed), "http.address");
    assert_true(conf->http.any_family);
    conf_free(running);
    conf_free(conf);
    buf_done(&changed);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_all_are_kept),
        cmocka_unit_test(test_one_resolver_differs),
        cmocka_unit_test(test_families_differ),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
