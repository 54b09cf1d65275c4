// SPDX-License-Identifier: MIT
#include "route/route.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/test_base.h"
#include "route/local_recipients.h"

static struct conf *load(const char *routes)
{
    struct buf text = {0}, errors = {0};
    struct conf *conf = NULL;
    buf_add_cstr(&text, "hostname: test.example\n"
                        "listeners: [{name: inside, address: \"127.0.0.1:0\", tls: none,"
                        " trusted: [127.0.0.0/8]}]\n");
    buf_add_cstr(&text, routes);
    int err = conf_load_text(buf_bytes(&text), "test", "/", &conf, &errors);
    if (err)
        fail_msg("%s", buf_cstr(&errors));
    buf_done(&text);
    buf_done(&errors);
    return conf;
}

static struct route_table *table(const struct conf *conf, uint32_t generation)
{
    struct buf errors = {0};
    struct route_table *t = NULL;
    if (route_table_new(conf, NULL, generation, &t, &errors) != OK)
        fail_msg("%s", buf_cstr(&errors));
    buf_done(&errors);
    return t;
}

static const char ROUTES[] =
    "routes:\n"
    "- {match: {recipient: vip@example.org}, via: discard}\n"
    "- {match: {recipient: example.org}, via: \"mx:2525\"}\n"
    "- {match: {recipient: \"*.example.org\"}, via: \"smtp://sub.example:26\"}\n"
    "- {match: {account: shop}, via: \"smtp://shop.example:587\"}\n"
    "- {match: {sender: news.example}, via: \"smtp://news.example:587\"}\n"
    "- {match: {listener: inside}, via: \"lmtp:/run/inside\"}\n";

static void picks_the_first_that_matches(void **state)
{
    (void)state;
    static const struct {
        const char *recipient, *domain, *sender, *account, *listener;
        uint32_t want;
    } rows[] = {
        {"vip@example.org", "example.org", "a@b", "", "", 0},
        {"VIP@Example.ORG", "example.org", "a@b", "", "", 0},
        {"x@example.org", "example.org", "a@b", "", "", 1},
        {"x@Example.org.", "example.org", "a@b", "", "", 1}, // by its routing form
        {"x@sub.example.org", "sub.example.org", "a@b", "", "", 2},
        {"x@a.b.example.org", "a.b.example.org", "a@b", "", "", 2},
        {"x@notexample.org", "notexample.org", "a@b", "", "", 6},
        {"x@else.example", "else.example", "a@b", "shop", "", 3},
        {"x@else.example", "else.example", "a@news.example", "", "", 4},
        {"x@else.example", "else.example", "", "", "inside", 5},
        {"x@else.example", "else.example", "", "", "", 6},
        {"x@example.org", "example.org", "a@news.example", "shop", "inside", 1},
    };
    struct conf *conf = load(ROUTES);
    struct route_table *t = table(conf, 1);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct route_question q = {bytes_cstr(rows[i].recipient), bytes_cstr(rows[i].domain),
                                   bytes_cstr(rows[i].sender), bytes_cstr(rows[i].account),
                                   bytes_cstr(rows[i].listener)};
        const struct route *r = route_pick(t, &q);
        assert_number(rows[i].recipient, r->number, rows[i].want);
    }
    route_table_free(t);
    conf_free(conf);
}

static void picks_by_domain_only_when_it_decides(void **state)
{
    (void)state;
    struct conf *conf = load(ROUTES),
                *simple = load("routes:\n"
                               "- {match: {recipient: a.example}, via: discard}\n");
    struct route_table *t = table(conf, 1), *s = table(simple, 1);
    assert_null(route_pick_domain(t, BYTES("example.org")));  // vip@ would go elsewhere
    assert_null(route_pick_domain(t, BYTES("else.example"))); // the account may decide
    assert_number("listed", route_pick_domain(s, BYTES("a.example"))->number, 0);
    assert_number("not listed", route_pick_domain(s, BYTES("b.example"))->number, 1);
    route_table_free(t);
    route_table_free(s);
    conf_free(conf);
    conf_free(simple);
}

static void marks_keys_with_the_generation(void **state)
{
    (void)state;
    struct conf *conf = load(ROUTES), *other = load("routes: [{via: discard}]\n");
    struct route_table *old = table(conf, 0xffff), *same = table(conf, 0x10000),
                       *new = table(other, 1);
    const struct route *r = route_pick(old, &(struct route_question){.domain = BYTES("x")});
    uint32_t key = route_key(old, r);
    assert_ptr_equal(route_get(old, key), r);
    assert_null(route_get(same, key));
    assert_null(route_get(old, ROUTE_KEY_UNKNOWN));
    assert_null(route_get(new, ROUTE_KEY_UNKNOWN));
    assert_true(route_table_same(old, same));
    assert_false(route_table_same(old, new));
    route_table_free(old);
    route_table_free(same);
    route_table_free(new);
    conf_free(conf);
    conf_free(other);
}

static void expands_paths_safely(void **state)
{
    (void)state;
    char long_name[ROUTE_PATH_PART_MAX + 2];
    memset(long_name, 'a', sizeof(long_name));
    long_name[sizeof(long_name) - 1] = '\0';
    const struct {
        const char *pattern;
        struct bytes user, domain;
        const char *want; // NULL: refused
    } rows[] = {
        {"/m/%d/%u", BYTES("anna"), BYTES("example.org"), "/m/example.org/anna"},
        {"/m/%d/%u", BYTES("ANNA"), BYTES("Example.org"), "/m/example.org/anna"},
        {"/m/%u@%d/100%%", BYTES("a"), BYTES("b"), "/m/a@b/100%"},
        {"/m/%x%", BYTES("a"), BYTES("b"), "/m/%x%"},
        {"/m/%d/%u", BYTES(".."), BYTES("b"), NULL},
        {"/m/%d/%u", BYTES("."), BYTES("b"), NULL},
        {"/m/%d/%u", BYTES(".ssh"), BYTES("b"), NULL},
        {"/m/%d/%u", BYTES("a/../../etc"), BYTES("b"), NULL},
        {"/m/%d/%u", BYTES("/etc"), BYTES("b"), NULL},
        {"/m/%d/%u", BYTES("a\0b"), BYTES("b"), NULL},
        {"/m/%d/%u", BYTES("a\nb"), BYTES("b"), NULL},
        {"/m/%d/%u", BYTES(""), BYTES("b"), NULL},
        {"/m/%d/%u", BYTES("a"), BYTES(".."), NULL},
        {"/m/%d/%u", BYTES("a"), BYTES("x/y"), NULL},
        {"/m/%d/%u", BYTES("a"), BYTES(""), NULL},
        {"/m/../%u", BYTES("a"), BYTES("b"), NULL},
        {"/m/%u", bytes_cstr(long_name), BYTES("b"), NULL},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buf out = {0};
        int err =
            route_expand_path(bytes_cstr(rows[i].pattern), rows[i].user, rows[i].domain, &out);
        if (!rows[i].want)
            assert_number(rows[i].pattern, err, E_DENIED);
        else
            assert_bytes(rows[i].pattern, buf_bytes(&out), bytes_cstr(rows[i].want));
        buf_done(&out);
    }
}

static char folder[] = "/tmp/route_test.XXXXXX";

static void put(const char *name, const char *text)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void reads_passwords_and_tables(void **state)
{
    (void)state;
    CHECK(mkdtemp(folder));
    put("secret", "s3 cret\nsecond line\n");
    put("empty", "\n");
    put("users", "anna@example.org\n");
    put("broken", "anna@example.org\nnobody\n");
    static const struct {
        const char *password, *users;
        int want;
        const char *error;
    } rows[] = {
        {"secret", "users", OK, ""},
        {"empty", "users", E_SYNTAX, "empty:1: error: the password of routes[0] is empty"},
        {"missing", "users", E_NOT_FOUND,
         "missing: error: the password of routes[0] can't be read"},
        {"secret", "broken", E_SYNTAX, "broken:2: error: 'nobody' is not an address"},
        {"secret", "none", E_NOT_FOUND, "none: error: can't be read"},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[500];
        snprintf(text, sizeof(text),
                 "routes:\n- {match: {recipient: a.example}, via: \"smtp://h.example:587\", login: "
                 "me, tls: verify,"
                 " password_file: %s/%s}\n"
                 "- {match: {recipient: example.org}, via: \"lmtp:/run/x\", recipients: %s/%s}\n"
                 "- {match: {recipient: example.net}, via: \"lmtp:/run/x\", recipients: %s/%s}\n",
                 folder, rows[i].password, folder, rows[i].users, folder, rows[i].users);
        struct conf *conf = load(text);
        struct route_table *t;
        struct buf errors = {0};
        assert_number(rows[i].password, route_table_new(conf, NULL, 1, &t, &errors), rows[i].want);
        if (!strstr(buf_cstr(&errors), rows[i].error))
            fail_msg("\"%s\" is not in \"%s\"", rows[i].error, buf_cstr(&errors));
        if (t) {
            struct route_question q = {.recipient = BYTES("x@a.example"),
                                       .domain = BYTES("a.example")};
            assert_bytes("password", route_pick(t, &q)->password, BYTES("s3 cret"));
            assert_false(route_is_local(route_pick(t, &q)));
            q.recipient = BYTES("x@example.org"), q.domain = BYTES("example.org");
            const struct route *r = route_pick(t, &q);
            assert_true(route_is_local(r));
            assert_number("users", local_recipients_count(r->locals), 1);
            assert_ptr_equal(r->locals, (r + 1)->locals); // read once
        }
        route_table_free(t);
        buf_done(&errors);
        conf_free(conf);
    }
    char command[300];
    snprintf(command, sizeof(command), "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static int password_of_path(void *ctx, const char *path, struct buf *out)
{
    (void)ctx;
    buf_printf(out, "%s\n", path);
    return OK;
}

// By what a lane's name shows of them, at one host.
static void numbers_logins_that_look_alike(void **state)
{
    (void)state;
    static const struct {
        const char *via, *login, *password;
        uint32_t want;
    } rows[] = {
        {"smtps://a.example:465", "apikey", "one", 1},
        {"smtps://a.example:465", "apikey", "two", 2},
        {"smtps://a.example:465", "me", "one", 1},
        {"smtps://a.example:465", "apikey", "one", 1}, // the same one
        {"smtps://b.example:465", "apikey", "two", 1},
        {"smtps://a.example:466", "apikey", "two", 1},
        {"smtp://a.example:465", "apikey", "two", 1},
        {"smtps://a.example:465", "apikey", "three", 3},
        {"smtps://a.example:465", "apikey", "two", 2},
        {"smtps://a.example:465", "someone-with-a-very-long-name@one.example", "one", 1},
        {"smtps://a.example:465", "someone-with-a-very-long-name@one.test", "one", 2},
        {"discard", "", "", 0},
    };
    struct buf text = {0}, errors = {0};
    struct route_files files = {.read = password_of_path};
    struct route_table *t;
    buf_add_cstr(&text, "routes:\n");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        buf_printf(&text, "- {match: {recipient: d%zu.example}, via: \"%s\"", i, rows[i].via);
        if (rows[i].login[0])
            buf_printf(&text, ", tls: verify, login: %s, password_file: /%s", rows[i].login,
                       rows[i].password);
        buf_add_cstr(&text, "}\n");
    }
    struct conf *conf = load(buf_cstr(&text));
    assert_int_equal(route_table_new(conf, &files, 1, &t, &errors), OK);
    for (uint32_t i = 0; i < COUNT_OF(rows); i++)
        assert_number(rows[i].login, route_get(t, 1 << 16 | i)->login_number, rows[i].want);
    route_table_free(t);
    conf_free(conf);
    buf_done(&text);
    buf_done(&errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picks_the_first_that_matches),
        cmocka_unit_test(picks_by_domain_only_when_it_decides),
        cmocka_unit_test(marks_keys_with_the_generation),
        cmocka_unit_test(expands_paths_safely),
        cmocka_unit_test(reads_passwords_and_tables),
        cmocka_unit_test(numbers_logins_that_look_alike),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
