// SPDX-License-Identifier: MIT
#include "store/store.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/check.h"
#include "store/store_audit.h"

#define V1 "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define V2 "sha256:ffffffffffffffff0123456789abcdef0123456789abcdef0123456789abcdef"
#define T1 "abcdefghijklmnop"

static char folder[64];

static int setup(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/posthaste-store-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    static const char *const names[] = {"accounts.db", "accounts.db-wal", "accounts.db-shm", "lock",
                                        "copy.db"};
    char path[128];
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

static struct store *open_store(void)
{
    struct store *store;
    struct buf error = {0};
    if (store_open(bytes_cstr(folder), &store, &error))
        fail_msg("%s", buf_cstr(&error));
    buf_done(&error);
    return store;
}

static int open_fails(struct buf *error)
{
    struct store *store = NULL;
    int err = store_open(bytes_cstr(folder), &store, error);
    assert_null(store);
    return err;
}

static void sql(const char *text)
{
    char path[128];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/accounts.db", folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

// "op {args}": 0 changed, 1 unchanged, negative error. The result's text goes to `shown`, or the
// error's.
static int apply(struct store *store, const char *op, const char *args, struct buf *shown)
{
    struct json_object *parsed = *args ? json_tokener_parse(args) : NULL;
    struct store_op operation = {op, parsed, BYTES("test"), {1790000000000000}, NULL};
    struct store_answer answer;
    buf_clear(shown);
    int err = store_apply(store, &operation, &answer, shown);
    json_object_put(parsed);
    if (err) {
        assert_null(answer.result);
        assert_true(shown->len > 0);
        return err;
    }
    assert_int_equal(shown->len, 0);
    buf_add_cstr(shown, json_object_to_json_string_ext(answer.result, JSON_C_TO_STRING_PLAIN));
    json_object_put(answer.result);
    return answer.changed ? 0 : 1;
}

static int64_t count(const char *table)
{
    char path[128], text[64];
    sqlite3 *db;
    sqlite3_stmt *stmt;
    snprintf(path, sizeof path, "%s/accounts.db", folder);
    snprintf(text, sizeof text, "SELECT count(*) FROM %s", table);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return n;
}

// ---- operations --------------------------------------------------------------------------------------

struct step {
    const char *op, *args;
    int want;         // 0 changed, 1 unchanged, negative error
    const char *says; // part of the result or of the error
};

#define ACME "{'account':'acme'}"

// One story, in order, on one store. ' stands for ".
#define HEX62 "00112233445566778899aabbccddeeff00112233445566778899aabbccddee"
static const struct step story[] = {
    {"account.list", "", 1, "{\"accounts\":[]}"},
    {"account.add", "{'account':'Acme','class':'bulk'}", 0,
     "{\"account\":\"acme\",\"number\":1,\"class\":\"bulk\",\"any_sender\":false,"
     "\"state\":\"active\",\"created_at\":\"2026-09-21T14:13:20.000Z\"}"},
    {"account.add", "{'account':'acme','class':'bulk'}", 1, "\"number\":1"},
    {"account.add", "{'account':'acme'}", E_EXISTS, "already an account 'acme'"},
    {"account.add", "{'account':'acme','class':'bulk','any_sender':true}", E_EXISTS, "already"},
    {"account.add", "{'account':'a b'}", E_SYNTAX, "no account name"},
    {"account.add", "{'account':''}", E_SYNTAX, "no account name"},
    {"account.add", "{'account':7}", E_SYNTAX, "no account name"},
    {"account.add", "", E_SYNTAX, "no account name"},
    {"account.add", "{'account':'x','class':'junk'}", E_SYNTAX, "'junk' is no class"},
    {"account.add", "{'account':'o\\u0027brien'}", E_SYNTAX, "no account name"},
    {"account.add", "{'account':'beta','any_sender':true}", 0,
     "\"class\":\"transactional\",\"any_sender\":true"},

    {"credential.add", "{'account':'acme','login':'joe','verifier':'" V1 "'}", 0,
     "{\"account\":\"acme\",\"login\":\"joe\"}"},
    {"credential.add", "{'account':'acme','login':'joe','verifier':'" V1 "'}", 1, "joe"},
    {"credential.add", "{'account':'acme','login':'joe','verifier':'" V2 "'}", E_EXISTS,
     "remove it first"},
    {"credential.add", "{'account':'beta','login':'joe','verifier':'" V1 "'}", E_EXISTS,
     "another account"},
    {"credential.add", "{'account':'acme','login':'Joe','verifier':'" V1 "'}", 0, "Joe"},
    {"credential.add", "{'account':'nobody','login':'x','verifier':'" V1 "'}", E_NOT_FOUND,
     "no account 'nobody'"},
    {"credential.add", "{'account':'acme','login':'','verifier':'" V1 "'}", E_SYNTAX, "a login is"},
    {"credential.add", "{'account':'acme','login':'a\\nb','verifier':'" V1 "'}", E_SYNTAX,
     "a login is"},
    {"credential.add", "{'account':'acme','login':'x','verifier':'secret'}", E_SYNTAX,
     "the verifier"},
    {"credential.add", "{'account':'acme','login':'x','verifier':'sha256:zz'}", E_SYNTAX,
     "the verifier"},
    {"credential.add", "{'account':'acme','login':'x','verifier':'" V1 "','scram':'x'}", E_SYNTAX,
     "the SCRAM key"},
    {"credential.add",
     "{'account':'beta','login':'ann','verifier':'$y$j9T$713WDu8X5lcVJrpfXCOpg/$vlGWi19baZBN61U'}",
     0, "ann"},
    {"credential.add", "{'account':'acme','network':'192.0.2.0/24'}", 0,
     "{\"account\":\"acme\",\"login\":\"network:192.0.2.0\\/24\"}"},
    {"credential.add", "{'account':'acme','network':'::ffff:192.0.2.0/120'}", 1,
     "network:192.0.2.0\\/24"},
    {"credential.add", "{'account':'beta','login':'network:192.0.2.0/24'}", E_EXISTS,
     "another account"},
    {"credential.add", "{'account':'acme','network':'2001:DB8::/32'}", 0,
     "network:2001:db8::\\/32"},
    {"credential.add", "{'account':'acme','network':'192.0.2.1'}", 0, "network:192.0.2.1\\/32"},
    {"credential.add", "{'account':'acme','network':'0.0.0.0/0'}", E_SYNTAX, "too wide"},
    {"credential.add", "{'account':'acme','network':'2000::/3'}", E_SYNTAX, "too wide"},
    {"credential.add", "{'account':'acme','network':'192.0.2.1/24'}", E_SYNTAX, "bits set behind"},
    {"credential.add", "{'account':'acme','login':'network:all'}", E_SYNTAX, "'all' is no network"},
    {"credential.add", "{'account':'acme','login':'network:192.0.2.9','verifier':'" V1 "'}",
     E_SYNTAX, "is no login with a password"},
    {"credential.add", "{'account':'acme','certificate':'AB:" HEX62 "'}", 0,
     "\"certificate:ab" HEX62 "\""},
    {"credential.add", "{'account':'acme','certificate':'ab" HEX62 "'}", 1, "certificate:ab"},
    {"credential.add", "{'account':'acme','certificate':'ab'}", E_SYNTAX, "64 hexadecimal digits"},
    {"credential.add", "{'account':'acme','certificate-name':'Robot.example.org'}", 0,
     "certificate-name:robot.example.org"},
    {"credential.list", ACME, 1,
     "\"login\":\"network:192.0.2.0\\/24\",\"password\":null,\"scram\":false,\"created_at\":"
     "\"2026-09-21T14:13:20.000Z\",\"kind\":\"network\"}"},
    {"credential.remove", "{'network':'192.0.2.1/32'}", 0, "network:192.0.2.1\\/32"},
    {"credential.remove", "{'login':'network:2001:db8::/32','account':'acme'}", 0,
     "2001:db8::\\/32"},
    {"credential.list", ACME, 1,
     "{\"credentials\":[{\"account\":\"acme\",\"login\":\"Joe\",\"password\":\"generated\","
     "\"scram\":false,\"created_at\":\"2026-09-21T14:13:20.000Z\",\"kind\":\"password\"},{"},
    {"credential.list", "", 1, "\"login\":\"ann\",\"password\":\"chosen\""},
    {"credential.list", "{'account':'nobody'}", E_NOT_FOUND, "no account"},
    {"credential.remove", "{'login':'Joe','account':'beta'}", E_NOT_FOUND,
     "no login 'Joe' of account beta"},
    {"credential.remove", "{'login':'Joe','account':'acme'}", 0, "Joe"},
    {"credential.remove", "{'login':'Joe'}", E_NOT_FOUND, "no login 'Joe'"},
    {"credential.remove", "{'login':'x\\u0027; DROP TABLE account; --'}", E_NOT_FOUND, "no login"},

    {"domain.add", "{'account':'acme','domain':'Example.ORG','token':'" T1 "'}", 0,
     "{\"account\":\"acme\",\"domain\":\"example.org\",\"verified\":false,\"return_path\":false,"
     "\"records\":[{"
     "\"name\":\"_posthaste.example.org\",\"type\":\"TXT\","
     "\"value\":\"posthaste-verification=" T1 "\",\"purpose\":\"verification\"}]}"},
    {"domain.add", "{'account':'acme','domain':'example.org','token':'qqqqqqqqqqqqqqqqqqq'}", 1,
     "verification=" T1}, // keeps its token
    {"domain.add", "{'account':'beta','domain':'example.org','token':'bbbbbbbbbbbbbbbb'}", 0,
     "verification=bbbb"}, // each proves it for itself
    {"domain.show", "{'domain':'example.org'}", 1, "\"beta\""},
    {"domain.show", "{'domain':'example.org','account':'acme'}", 1, T1},
    {"domain.show", "{'domain':'example.net'}", E_NOT_FOUND, "no account has the domain"},
    {"domain.verified", "{'account':'acme','domain':'example.org'}", 0, "\"verified\":true"},
    {"domain.verified", "{'account':'acme','domain':'example.org'}", 1, "\"verified\":true"},
    {"domain.list", "{'account':'beta'}", 1, "\"verified\":false"},
    {"domain.verified", "{'account':'acme','domain':'example.net'}", E_NOT_FOUND,
     "account 'acme' has no domain 'example.net'"},
    {"domain.add",
     "{'account':'acme','domain':'b\xc3\xbc"
     "cher.example','token':'" T1 "','trust':true}",
     0, "\"domain\":\"xn--bcher-kva.example\",\"verified\":true"},
    {"domain.return_path", "{'account':'acme','domain':'example.org','published':true}", 0,
     "\"verified\":true,\"return_path\":true"},
    {"domain.return_path", "{'account':'acme','domain':'example.org','published':true}", 1,
     "\"return_path\":true"},
    {"domain.return_path", "{'account':'acme','domain':'example.org','published':false}", 0,
     "\"return_path\":false"},
    {"domain.return_path", "{'account':'acme','domain':'x.org','published':true}", E_NOT_FOUND,
     "has no domain"},
    {"domain.add", "{'account':'acme','domain':'-x','token':'" T1 "'}", E_SYNTAX, "is no domain"},
    {"domain.add", "{'account':'acme','domain':'192.0.2.1','token':'" T1 "'}", E_SYNTAX,
     "no domain"},
    {"domain.add", "{'account':'acme','domain':'x.org','token':'short'}", E_SYNTAX, "a token has"},
    {"domain.add", "{'account':'acme','domain':'x.org','token':'aaaaaaaaaaaaaaaa\\n'}", E_SYNTAX,
     "a token is"},
    {"domain.remove", "{'account':'beta','domain':'example.org'}", 0,
     "{\"account\":\"beta\",\"domain\":\"example.org\"}"},
    {"domain.remove", "{'account':'beta','domain':'example.org'}", E_NOT_FOUND, "has no domain"},

    {"account.suspend", ACME, 0, "\"state\":\"suspended\""},
    {"account.suspend", ACME, 1, "\"state\":\"suspended\""},
    {"account.activate", ACME, 0, "\"state\":\"active\""},
    {"account.activate", ACME, 1, "\"state\":\"active\""},
    {"account.show", ACME, 1,
     "\"options\":{\"preflight\":\"warn\",\"unsubscribe\":\"off\",\"return_path\":\"message\","
     "\"suppressed\":\"refuse\",\"priority\":\"any\"}}"},
    {"account.set", "{'account':'acme','option':'preflight','value':'hold'}", 0,
     "\"number\":1,\"class\":\"bulk\",\"any_sender\":false,\"state\":\"active\","
     "\"created_at\":\"2026-09-21T14:13:20.000Z\",\"options\":{\"preflight\":\"hold\""},
    {"account.set", "{'account':'acme','option':'Preflight','value':'HOLD'}", 1, "\"hold\""},
    {"account.set", "{'account':'acme','option':'preflight','value':'warn'}", 0, "\"warn\""},
    {"account.set", "{'account':'acme','option':'preflight','value':'warn'}", 1, "\"warn\""},
    {"account.set", "{'account':'acme','option':'unsubscribe','value':'off'}", 0,
     "\"unsubscribe\":\"off\""}, // chosen now, which is not the same as the default
    {"account.set", "{'account':'acme','option':'preflight','value':'shout'}", E_SYNTAX,
     "'shout' is no value of preflight: off, warn, hold or refuse"},
    {"account.set", "{'account':'acme','option':'unsubscribe','value':'on'}", E_SYNTAX,
     "off or bulk"},
    {"account.set", "{'account':'acme','option':'colour','value':'red'}", E_SYNTAX,
     "no option 'colour' (there are: preflight, unsubscribe, return_path, suppressed, priority)"},
    {"account.set", "{'account':'acme','option':'preflight'}", E_SYNTAX, "'' is no value"},
    {"account.set", ACME, E_SYNTAX, "no option ''"},
    {"account.set", "{'account':'nobody','option':'preflight','value':'warn'}", E_NOT_FOUND,
     "no account"},
    {"account.show", "{'account':'nobody'}", E_NOT_FOUND, "no account"},
    {"account.show", "{'account':'beta'}", 1, "\"unsubscribe\":\"off\""},

    {"account.close", "{'account':'nobody'}", E_NOT_FOUND, "no account"},
    {"account.close", ACME, 0, "\"state\":\"closed\""},
    {"account.close", ACME, 1, "\"state\":\"closed\""},
    {"account.activate", ACME, E_DENIED, "closed, for ever"},
    {"account.set", "{'account':'acme','option':'preflight','value':'hold'}", E_DENIED, "closed"},
    {"account.show", ACME, 1, "\"state\":\"closed\""},
    {"account.add", "{'account':'acme','class':'bulk'}", E_EXISTS, "closed"},
    {"credential.add", "{'account':'acme','login':'new','verifier':'" V1 "'}", E_DENIED, "closed"},
    {"domain.add", "{'account':'acme','domain':'x.org','token':'" T1 "'}", E_DENIED, "closed"},
    {"credential.list", ACME, 1, "{\"credentials\":[]}"},
    {"domain.list", ACME, 1, "{\"domains\":[]}"},
    {"credential.add", "{'account':'beta','login':'joe','verifier':'" V1 "'}", 0,
     "joe"}, // free again
    {"account.add", "{'account':'gamma'}", 0, "\"number\":3"},
    {"account.shout", "{}", E_SYNTAX, "no operation 'account.shout'"},
    {"account.add", "[1]", E_SYNTAX, "must be an object"},
};

static void with_quotes(const char *text, struct buf *out)
{
    buf_clear(out);
    for (; *text; text++)
        buf_add_byte(out, *text == '\'' ? '"' : *text);
}

static void test_story(void **state)
{
    struct store *store = open_store();
    struct buf shown = {0}, args = {0};
    int64_t changes = 0;
    for (size_t i = 0; i < COUNT_OF(story); i++) {
        with_quotes(story[i].args, &args);
        int got = apply(store, story[i].op, buf_cstr(&args), &shown);
        if (got != story[i].want || bytes_search(buf_bytes(&shown), bytes_cstr(story[i].says)) < 0)
            fail_msg("%zu: %s %s: got %d, %s", i, story[i].op, story[i].args, got,
                     buf_cstr(&shown));
        changes += story[i].want == 0;
        assert_int_equal(count("audit"), changes); // each change once, nothing else
    }
    store_close(store);
    store = open_store(); // all of it is on disk
    assert_int_equal(apply(store, "account.list", "", &shown), 1);
    assert_true(bytes_search(buf_bytes(&shown), BYTES("\"gamma\",\"number\":3")) > 0);
    store_close(store);
    buf_done(&shown);
    buf_done(&args);
}

static void test_audit_has_no_verifiers(void **state)
{
    struct store *store = open_store();
    struct buf shown = {0};
    apply(store, "account.add", "{\"account\":\"acme\"}", &shown);
    apply(store, "credential.add",
          "{\"account\":\"acme\",\"login\":\"jo\\\"e\",\"verifier\":\"" V1 "\"}", &shown);
    store_close(store);
    sql("CREATE TABLE seen AS SELECT * FROM audit WHERE args = "
        "'{\"account\":\"acme\",\"login\":\"jo\\\"e\"}' AND op = 'credential.add' AND actor = "
        "'test' AND at = 1790000000000000");
    assert_int_equal(count("seen"), 1);
    buf_done(&shown);
}

static struct store_op operation_of(const char *name, struct json_object *args)
{
    static const struct store_who who = {"control", 1000, 100, 4711};
    return (struct store_op){name, args, BYTES("cli:joe"), {1790000000000000}, &who};
}

// A row for what is about to be done is on disk before it is done: the process that dies in it leaves it so.
static void test_audit_survives_a_crash(void **state)
{
    struct buf shown = {0};
    struct json_object *args =
        json_tokener_parse("{\"all\":true,\"rows\":[1,2,3],\"password\":\"x\"}");
    store_close(open_store());
    pid_t pid = fork();
    if (pid == 0) {
        struct store *store = open_store();
        struct store_op op = operation_of("queue.delete", args);
        int64_t number;
        if (store_audit_begin(store, &op, &number) == OK)
            raise(SIGKILL);
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    struct store *store = open_store();
    apply(store, "audit.list", "{}", &shown);
    assert_string_equal(
        buf_cstr(&shown),
        "{\"entries\":[{\"number\":1,\"at\":\"2026-09-21T14:13:20.000Z\",\"ended_at\":null,"
        "\"actor\":\"cli:joe\",\"uid\":1000,\"gid\":100,\"pid\":4711,\"via\":\"control\","
        "\"action\":\"queue.delete\",\"args\":{\"all\":true,\"rows\":3},\"outcome\":null,"
        "\"detail\":null}],\"next\":null}");
    store_close(store);
    json_object_put(args);
    buf_done(&shown);
}

static void test_audit_is_not_changed(void **state)
{
    struct store *store = open_store();
    struct buf shown = {0};
    struct store_op op = operation_of("backup", NULL);
    int64_t number;
    assert_int_equal(store_audit_begin(store, &op, &number), OK);
    assert_int_equal(
        store_audit_end(store, number, (struct wall){1790000001000000}, "done", BYTES("all of it")),
        OK);
    assert_int_not_equal(
        store_audit_end(store, number, (struct wall){1790000002000000}, "failed", BYTES("no")), OK);
    apply(store, "audit.list", "{\"action\":\"backup\"}", &shown);
    assert_true(bytes_search(buf_bytes(&shown),
                             BYTES("\"outcome\":\"done\",\"detail\":\"all of it\"")) > 0);
    // it goes by age, and only so
    assert_int_equal(store_audit_trim(store, (struct wall){1790000000000000}), OK);
    assert_int_equal(count("audit"), 1);
    assert_int_equal(store_audit_trim(store, (struct wall){1790000000000001}), OK);
    assert_int_equal(count("audit"), 0);
    assert_int_equal(store_audit_add(store, &op, "refused", BYTES_NONE), OK);
    apply(store, "audit.list", "", &shown);
    assert_true(bytes_search(buf_bytes(&shown), BYTES("\"number\":2")) > 0); // never used again
    store_close(store);
    buf_done(&shown);
}

// Long arguments are cut, many are left out; the row is written.
static void test_audit_args_are_bounded(void **state)
{
    struct store *store = open_store();
    struct json_object *args = json_object_new_object();
    char text[3000], key[16];
    memset(text, '"', sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (int i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "k%d", i);
        json_object_object_add(args, key, json_object_new_string(text));
    }
    json_object_object_add(args, "last", json_object_new_int(7));
    struct store_op op = operation_of("suppress.add", args);
    assert_int_equal(store_audit_add(store, &op, "done", bytes_cstr(text)), OK);
    store_close(store);
    sql("CREATE TABLE seen AS SELECT * FROM audit WHERE length(args) BETWEEN 2000 AND 4096 AND "
        "json_valid(args) AND json_extract(args, '$.last') = 7 AND length(detail) = 1024");
    assert_int_equal(count("seen"), 1);
    json_object_put(args);
}

// ---- limits ------------------------------------------------------------------------------------------

static void test_credentials_limit(void **state)
{
    struct store *store = open_store();
    struct buf shown = {0};
    char args[256];
    apply(store, "account.add", "{\"account\":\"acme\"}", &shown);
    for (int i = 0; i <= STORE_CREDENTIALS_MAX; i++) {
        snprintf(args, sizeof args,
                 "{\"account\":\"acme\",\"login\":\"l%d\",\"verifier\":\"" V1 "\"}", i);
        int want = i == STORE_CREDENTIALS_MAX ? E_LIMIT : 0;
        assert_int_equal(apply(store, "credential.add", args, &shown), want);
    }
    store_close(store);
    buf_done(&shown);
}

// ---- opening -----------------------------------------------------------------------------------------

static void test_lock(void **state)
{
    struct store *store = open_store();
    struct buf error = {0};
    assert_int_equal(open_fails(&error), E_BUSY);
    assert_true(bytes_search(buf_bytes(&error), BYTES("in use by another process")) > 0);
    store_close(store);
    store_close(open_store());
    buf_done(&error);
}

static void test_newer_and_damaged(void **state)
{
    struct buf error = {0};
    store_close(open_store());
    char newer[64];
    snprintf(newer, sizeof newer, "PRAGMA user_version = %d", STORE_VERSION + 1);
    sql(newer);
    assert_int_equal(open_fails(&error), E_VERSION);
    assert_true(bytes_search(buf_bytes(&error), BYTES("newer release")) > 0);
    sql("PRAGMA user_version = 0"); // tables that are not ours
    assert_int_equal(open_fails(&error), E_DAMAGED);

    char path[128];
    snprintf(path, sizeof path, "%s/accounts.db", folder);
    int fd = open(path, O_WRONLY | O_TRUNC);
    assert_int_equal(write(fd, "this is no database, whatever its name says......", 49), 49);
    close(fd);
    buf_clear(&error);
    assert_int_equal(open_fails(&error), E_DAMAGED);
    assert_true(bytes_search(buf_bytes(&error), BYTES("is damaged")) > 0);
    buf_done(&error);
}

static void test_a_missing_table_is_damage(void **state)
{
    struct buf shown = {0};
    store_close(open_store());
    sql("DROP TABLE audit");
    struct store *store = open_store();
    assert_int_equal(apply(store, "account.add", "{\"account\":\"acme\"}", &shown), E_DAMAGED);
    assert_int_equal(apply(store, "account.list", "", &shown), 1);
    assert_string_equal(buf_cstr(&shown), "{\"accounts\":[]}"); // without its audit row, no change
    store_close(store);
    buf_done(&shown);
}

static void test_private_files_and_no_folder(void **state)
{
    struct stat st;
    char path[128];
    struct buf error = {0};
    struct store *store = NULL;
    store_close(open_store());
    snprintf(path, sizeof path, "%s/accounts.db", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(store_open(BYTES("/nonexistent/folder"), &store, &error), E_NOT_FOUND);
    assert_true(bytes_search(buf_bytes(&error), BYTES("/nonexistent/folder")) > 0);
    buf_done(&error);
}

static void test_symlink_is_not_followed(void **state)
{
    char path[128];
    struct buf error = {0};
    snprintf(path, sizeof path, "%s/accounts.db", folder);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_true(open_fails(&error) < 0);
    buf_done(&error);
}

static void test_copy(void **state)
{
    struct store *store = open_store();
    struct buf shown = {0};
    char path[128], db[128];
    apply(store, "account.add", "{\"account\":\"acme\"}", &shown);
    snprintf(path, sizeof path, "%s/copy.db", folder);
    assert_int_equal(store_copy(store, path), 0);
    assert_int_equal(store_copy(store, path), E_EXISTS);
    apply(store, "account.add", "{\"account\":\"late\"}", &shown);
    store_close(store);
    snprintf(db, sizeof db, "%s/accounts.db", folder);
    assert_int_equal(rename(path, db), 0);
    store = open_store();
    apply(store, "account.list", "", &shown);
    assert_true(bytes_search(buf_bytes(&shown), BYTES("acme")) > 0);
    assert_true(bytes_search(buf_bytes(&shown), BYTES("late")) < 0);
    store_close(store);
    buf_done(&shown);
}

// ---- older stores ------------------------------------------------------------------------------------

static void put_fixture(void)
{
    const char *from = getenv("STORE_FIXTURE");
    char path[128], bytes[16384];
    assert_non_null(from);
    FILE *file = fopen(from, "rb");
    assert_non_null(file);
    size_t len = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    snprintf(path, sizeof path, "%s/accounts.db", folder);
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

// A store of the first release: bulk account acme with a login and two domains, beta, and a closed one.
static void test_version_1_is_taken_further(void **state)
{
    struct buf shown = {0};
    put_fixture();
    int64_t audit = count("audit");
    struct store *store = open_store();
    static const struct step kept[] = {
        {"account.show", ACME, 1, "\"number\":1,\"class\":\"bulk\""},
        {"account.show", ACME, 1, "\"options\":{\"preflight\":\"warn\""},
        {"account.show", "{'account':'beta'}", 1, "\"any_sender\":true"},
        {"account.show", "{'account':'gone'}", 1, "\"closed\""},
        {"credential.list", ACME, 1, "\"login\":\"joe\",\"password\":\"generated\",\"scram\":true"},
        {"domain.show", "{'domain':'shop.test'}", 1, "\"verified\":false"},
        {"domain.show", "{'domain':'example.org'}", 1, "\"verified\":true"},
        {"account.set", "{'account':'acme','option':'preflight','value':'off'}", 0, "\"off\""},
    };
    struct buf args = {0};
    for (size_t i = 0; i < COUNT_OF(kept); i++) {
        with_quotes(kept[i].args, &args);
        assert_int_equal(apply(store, kept[i].op, buf_cstr(&args), &shown), kept[i].want);
        assert_true(bytes_search(buf_bytes(&shown), bytes_cstr(kept[i].says)) >= 0);
    }
    store_close(store);
    store_close(open_store()); // and once is enough
    assert_int_equal(count("audit"), audit + 1);
    buf_done(&args);
    buf_done(&shown);
}

// A step that fails leaves the store as it was, for the release that knows it.
static void test_a_failed_step_changes_nothing(void **state)
{
    struct buf error = {0};
    put_fixture();
    sql("CREATE TABLE account_options(in_the_way)");
    assert_int_equal(open_fails(&error), E_DAMAGED);
    sql("DROP TABLE account_options");
    sql("CREATE TABLE seen AS SELECT * FROM pragma_user_version WHERE user_version = 1");
    assert_int_equal(count("seen"), 1);
    store_close(open_store());
    buf_done(&error);
}

// A process that dies in the middle leaves what it had acknowledged, and the lock is free.
static void test_kill(void **state)
{
    int pipes[2];
    char line[8];
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        struct store *store = open_store();
        struct buf shown = {0};
        char args[64];
        for (int i = 0;; i++) {
            snprintf(args, sizeof args, "{\"account\":\"a%d\"}", i);
            if (apply(store, "account.add", args, &shown) != 0 || write(pipes[1], "x", 1) != 1)
                _exit(1);
        }
    }
    for (int i = 0; i < 20; i++)
        assert_int_equal(read(pipes[0], line, 1), 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    close(pipes[1]);
    int acknowledged = 20;
    while (read(pipes[0], line, 1) == 1)
        acknowledged++;
    close(pipes[0]);
    store_close(open_store());
    int64_t kept = count("account");
    assert_true(kept == acknowledged || kept == acknowledged + 1);
    assert_int_equal(count("audit"), kept);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest all[] = {
        TEST(test_story),
        TEST(test_audit_has_no_verifiers),
        TEST(test_audit_survives_a_crash),
        TEST(test_audit_is_not_changed),
        TEST(test_audit_args_are_bounded),
        TEST(test_credentials_limit),
        TEST(test_lock),
        TEST(test_newer_and_damaged),
        TEST(test_a_missing_table_is_damage),
        TEST(test_private_files_and_no_folder),
        TEST(test_symlink_is_not_followed),
        TEST(test_copy),
        TEST(test_version_1_is_taken_further),
        TEST(test_a_failed_step_changes_nothing),
        TEST(test_kill),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
