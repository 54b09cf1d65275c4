// SPDX-License-Identifier: MIT
//
// Every row of the parameter table is tried: its default, the ends of its range and one beyond,
// each word, and values of other types. The cases come from the table, so a new row is tested
// without a new line here.
#include "conf/conf_params.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/check.h"
#include "conf/conf_value.h"

// A file that is right but for the parameter `name`, which has `value` (a YAML text). Sections
// become flow maps: "limits.recipients" -> limits: {recipients: VALUE}.
static void build_file(const char *name, const char *value, struct buf *out)
{
    struct bytes rest = bytes_cstr(name), part;
    int open = 0;
    const char *closing[8];
    bool list = false;
    if (!bytes_eq(rest, BYTES("hostname")))
        buf_add_cstr(out, "hostname: mail.example.org\n");
    while (bytes_cut(&rest, '.', &part)) {
        bool entry = bytes_ends(part, BYTES("[]"));
        list = list || entry;
        struct bytes key = entry ? bytes_first(part, part.len - 2) : part;
        bool last = rest.at == NULL;
        buf_printf(out, "%.*s: %s", BYTES_FMT(key), last ? "" : entry ? "[{" : "{");
        if (!last)
            closing[open++] = entry ? "}]" : "}";
    }
    buf_add_cstr(out, value);
    if (list) { // what the entry needs besides
        static const struct {
            const char *section, *key, *value;
        } needs[] = {
            {"listeners", "name", "test"},         {"listeners", "address", "127.0.0.1:0"},
            {"listeners", "tls", "none"},          {"listeners", "auth", "optional"},
            {"listeners", "trusted", "127.0.0.1"}, {"routes", "via", "\"smtp://127.0.0.1:25\""},
            {"sendmail", "user", "root"},          {"sendmail", "account", "ops"}};
        if (bytes_starts(bytes_cstr(name), BYTES("routes[].match.")))
            buf_add_byte(out, '}'), open--;
        struct bytes key =
            bytes_skip(bytes_cstr(name), (size_t)bytes_find_last(bytes_cstr(name), '.') + 1);
        for (size_t i = 0; i < COUNT_OF(needs); i++)
            if (bytes_starts(bytes_cstr(name), bytes_cstr(needs[i].section)) &&
                !bytes_eq(key, bytes_cstr(needs[i].key)))
                buf_printf(out, ", %s: %s", needs[i].key, needs[i].value);
    }
    while (open)
        buf_add_cstr(out, closing[--open]);
    buf_add_byte(out, '\n');
}

// Loads it; returns whether an error is about this value: it lies at its place or names its key.
static bool is_refused(const struct conf_param *param, const char *value, struct buf *errors)
{
    struct buf file = {0};
    struct conf *conf = NULL;
    buf_clear(errors);
    build_file(param->name, value, &file);
    int err = conf_load_text(buf_bytes(&file), "test.yaml", "/etc/posthaste", &conf, errors);
    conf_free(conf);
    bool refused = false;
    if (err) {
        struct buf described = {0};
        conf_param_describe(param, &described);
        // A complaint about the value tells what would be accepted.
        refused = bytes_search(buf_bytes(errors), buf_bytes(&described)) >= 0;
        buf_done(&described);
    }
    buf_done(&file);
    return refused;
}

static void expect(const struct conf_param *param, const char *value, bool want_refused)
{
    struct buf errors = {0};
    if (is_refused(param, value, &errors) != want_refused)
        fail_msg("%s: %s was %s\n%s", param->name, value, want_refused ? "accepted" : "refused",
                 buf_cstr(&errors));
    buf_done(&errors);
}

static void test_every_row_is_complete(void **state)
{
    for (uint32_t i = 0; i < conf_params_count; i++) {
        const struct conf_param *p = &conf_params[i];
        struct buf text = {0};
        conf_param_describe(p, &text);
        assert_true(text.len > 0);
        assert_true(p->help && *p->help);
        assert_ptr_equal(conf_param_find(bytes_cstr(p->name)), p);
        bool numeric = p->type == CONF_DURATION || p->type == CONF_SIZE || p->type == CONF_COUNT ||
                       p->type == CONF_DECIMAL;
        if (numeric && (p->min >= p->max || !p->initial))
            fail_msg("%s: no range or no default", p->name);
        if (p->type == CONF_ENUM)
            assert_non_null(p->words);
        ptrdiff_t dot = bytes_find_last(bytes_cstr(p->name), '.');
        if (dot > 0) { // its section has a row
            struct bytes section = bytes_first(bytes_cstr(p->name), (size_t)dot);
            if (bytes_ends(section, BYTES("[]")))
                section = bytes_first(section, section.len - 2);
            assert_non_null(conf_param_find(section));
        }
        buf_done(&text);
    }
}

static void format_number(const struct conf_param *p, uint64_t value, struct buf *out)
{
    buf_clear(out);
    if (p->type == CONF_DURATION)
        buf_printf(out, "%llus", (unsigned long long)(value / 1000));
    else if (p->type == CONF_DECIMAL)
        conf_format_decimal(value, out);
    else
        buf_add_u64(out, value);
}

static void try_range(const struct conf_param *p)
{
    uint64_t step = p->type == CONF_DURATION ? 1000 : 1;
    struct buf text = {0};
    format_number(p, p->min, &text);
    expect(p, buf_cstr(&text), false);
    format_number(p, p->max, &text);
    expect(p, buf_cstr(&text), false);
    format_number(p, p->max + step, &text);
    expect(p, buf_cstr(&text), true);
    if (p->min >= step) {
        format_number(p, p->min - step, &text);
        expect(p, buf_cstr(&text), true);
    }
    static const char *const wrong[] = {
        "-1", "many", "\"\"", "[1]", "{a: 1}", "1 1", "99999999999999999999999999999"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        expect(p, wrong[i], true);
    buf_done(&text);
}

static const struct {
    enum conf_type type;
    const char *good[4], *bad[6];
} samples[] = {
    {CONF_BOOL, {"yes", "false", "On"}, {"1", "maybe", "\"\"", "[yes]"}},
    {CONF_NAME, {"a", "A-b.c_9"}, {"\"\"", "a b", "-x", "{}"}},
    {CONF_HOSTNAME, {"a.b", "localhost"}, {"\"\"", "a..b", "192.0.2.1", "[a]"}},
    {CONF_TEXT, {"joe", "\"joe@example.org\""}, {"\"\"", "\"a\\nb\"", "[a]"}},
    {CONF_PATH, {"/a/b", "a/b"}, {"\"\"", "\"a\\nb\"", "{}"}},
    {CONF_ENDPOINT, {"127.0.0.1:0", "\"[::1]:1\"", "\"*:2\""}, {"25", "localhost:25", "[]"}},
    {CONF_VIA, {"mx", "discard", "smtp://127.0.0.1:9"}, {"\"\"", "smtp", "[mx]"}},
    {CONF_MAILBOX,
     {"a@b.c", "dmarc+x@Example.org"},
     {"\"\"", "a", "\"a b@c.d\"", "\"a,b@c.d\"", "[a@b]"}},
    {CONF_IPS, {"192.0.2.1", "[192.0.2.1, \"::1\"]"}, {"x", "10.0.0.0/8", "{}"}},
    {CONF_CIDRS, {"10.0.0.0/8", "[10.0.0.0/8, \"::1\"]"}, {"x", "[1.2.3.4, x]", "{}"}},
    {CONF_SERVERS, {"127.0.0.1@53", "[\"::1\", 127.0.0.1]", "[]"}, {"x", "[{}]", "{}"}},
    {CONF_PATTERNS, {"\"*\"", "[a.b, \"*.c\", x@y]"}, {"a b", "[a, \"*b\"]", "{}", "[[a]]"}},
    {CONF_NAMES, {"\"*\"", "test"}, {"a b", "[test, \"a b\"]", "{}"}},
    {CONF_ENTRIES, {NULL}, {"x", "{}"}},
    {CONF_MAP, {""}, {"x", "[]"}},
};

static void try_samples(const struct conf_param *p)
{
    bool found = false;
    for (size_t s = 0; s < COUNT_OF(samples); s++) {
        if (samples[s].type != p->type)
            continue;
        found = true;
        for (size_t i = 0; i < COUNT_OF(samples[s].good) && samples[s].good[i]; i++)
            expect(p, samples[s].good[i], false);
        for (size_t i = 0; i < COUNT_OF(samples[s].bad) && samples[s].bad[i]; i++)
            expect(p, samples[s].bad[i], true);
    }
    assert_true(found);
}

static void test_every_row(void **state)
{
    for (uint32_t i = 0; i < conf_params_count; i++) {
        const struct conf_param *p = &conf_params[i];
        if (p->initial && p->type != CONF_PATTERNS)
            expect(p, p->initial, false);
        if (p->none)
            expect(p, "none", false);
        if (p->type == CONF_ENUM) {
            for (int w = 0; p->words[w]; w++)
                expect(p, p->words[w], false);
            expect(p, "other", true);
            expect(p, "[]", true);
        } else if (p->max && p->type != CONF_TEXT) {
            try_range(p);
        } else {
            try_samples(p);
        }
    }
}

static void test_nearest(void **state)
{
    static const struct {
        const char *section, *key, *want;
    } cases[] = {
        {"", "hostnme", "hostname"},
        {"", "host-name", "hostname"},
        {"", "listener", "listeners"},
        {"listeners[].", "adress", "address"},
        {"listeners[].", "hide-client", "hide_client"},
        {"limits.", "mesage_size", "message_size"},
        {"retry.", "frist", "first"},
        {"", "message_size", "limits.message_size"},
        {"", "trusted", "listeners[].trusted"},
        {"", "zzzzzzz", ""},
        {"log.", "x", ""},
        {"", "a_very_long_key_that_is_near_to_no_other_key_at_all", ""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct bytes got =
            conf_param_nearest(bytes_cstr(cases[i].section), bytes_cstr(cases[i].key));
        if (!bytes_eq(got, bytes_cstr(cases[i].want)))
            fail_msg("%s%s: got '%.*s'", cases[i].section, cases[i].key, BYTES_FMT(got));
    }
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_every_row_is_complete),
        cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_nearest),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
