// SPDX-License-Identifier: MIT
#include "store/store_directory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <json-c/json.h>
#include <sqlite3.h>

#include "base/check.h"
#include "store/store.h"
#include "store/store_password.h"
#include "store/store_test.h"
#include "sys/sys.h"

static char folder[64];

static int setup(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/posthaste-directory-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    static const char *const names[] = {"accounts.db", "accounts.db-wal", "accounts.db-shm",
                                        "lock"};
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
    return store;
}

static void apply(struct store *store, const char *op, const char *args)
{
    test_store_apply(store, (struct wall){1790000000000000}, op, args);
}

static void add_generated(struct store *store, const char *account, const char *login,
                          const char *password)
{
    static const uint8_t salt[SASL_SCRAM_SALT_BYTES] = {1, 2, 3};
    struct buf verifier = {0}, scram = {0}, args = {0};
    store_password_verifier_generated(bytes_cstr(password), &verifier);
    assert_int_equal(store_password_scram(bytes_cstr(password), salt, false, &scram), 0);
    buf_printf(&args, "{\"account\":\"%s\",\"login\":\"%s\",\"verifier\":\"%s\",\"scram\":\"%s\"}",
               account, login, buf_cstr(&verifier), buf_cstr(&scram));
    apply(store, "credential.add", buf_cstr(&args));
    buf_done(&verifier);
    buf_done(&scram);
    buf_done(&args);
}

// The smallest network holds; nothing of this is a login.
static void test_proofs(void **state)
{
    static const struct {
        const char *address, *login;
    } rows[] = {
        {"10.1.2.3", "network:10.0.0.0/8"},
        {"10.1.2.4", "network:10.1.2.4/32"},
        {"10.1.3.3", "network:10.1.3.0/25"},
        {"10.1.3.128", "network:10.0.0.0/8"},
        {"11.0.0.1", NULL},
        {"0.0.0.0", NULL},
        {"2001:db8:1::9", "network:2001:db8:1::/48"},
        {"2001:db8:2::9", NULL},
        {"::a01:203", NULL},
    };
    struct store *store = open_store();
    struct store_directory *dir;
    apply(store, "account.add", "{\"account\":\"acme\"}");
    apply(store, "account.add", "{\"account\":\"beta\"}");
    apply(store, "credential.add", "{\"account\":\"acme\",\"network\":\"10.0.0.0/8\"}");
    apply(store, "credential.add", "{\"account\":\"beta\",\"network\":\"10.1.2.4\"}");
    apply(store, "credential.add", "{\"account\":\"beta\",\"network\":\"10.1.3.0/25\"}");
    apply(store, "credential.add", "{\"account\":\"beta\",\"network\":\"2001:db8:1::/48\"}");
    apply(
        store, "credential.add",
        "{\"account\":\"beta\",\"certificate\":\"0707070707070707070707070707070707070707070707070"
        "707070707070707\"}");
    apply(store, "credential.add", "{\"account\":\"acme\",\"certificate-name\":\"A.example\"}");
    assert_int_equal(store_directory_load(store, &dir), 0);
    store_close(store);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct sys_addr addr;
        assert_int_equal(sys_addr_parse_ip(bytes_cstr(rows[i].address), 0, &addr), OK);
        const struct store_credential *c =
            store_directory_network(dir, addr.ip, addr.kind == SYS_ADDR_IP6);
        if (!bytes_eq(c ? c->login : BYTES_NONE, bytes_cstr(rows[i].login)))
            fail_msg("%s: %.*s", rows[i].address, BYTES_FMT(c ? c->login : BYTES("none")));
        assert_null(store_directory_credential(dir, bytes_cstr(rows[i].login)));
    }
    uint8_t hash[32];
    memset(hash, 7, sizeof hash);
    assert_true(bytes_eq(store_directory_certificate(dir, hash)->account->name, BYTES("beta")));
    hash[31] = 8;
    assert_null(store_directory_certificate(dir, hash));
    assert_non_null(store_directory_certificate_name(dir, BYTES("a.EXAMPLE")));
    assert_null(store_directory_certificate_name(dir, BYTES("b.example")));
    assert_null(store_directory_certificate_name(dir, BYTES("")));
    store_directory_free(dir);
}

static void test_lookups(void **state)
{
    struct store *store = open_store();
    struct store_directory *dir;
    apply(store, "account.add", "{\"account\":\"acme\",\"class\":\"bulk\"}");
    apply(store, "account.add", "{\"account\":\"beta\",\"any_sender\":true}");
    apply(store, "account.add", "{\"account\":\"gone\"}");
    apply(store, "domain.add",
          "{\"account\":\"acme\",\"domain\":\"a.org\",\"token\":\"abcdefghijklmnop\"}");
    apply(store, "domain.add",
          "{\"account\":\"acme\",\"domain\":\"b.org\",\"token\":\"abcdefghijklmnop\","
          "\"trust\":true}");
    apply(store, "domain.return_path",
          "{\"account\":\"acme\",\"domain\":\"b.org\",\"published\":true}");
    apply(store, "account.suspend", "{\"account\":\"beta\"}");
    apply(store, "account.close", "{\"account\":\"gone\"}");
    apply(store, "account.set",
          "{\"account\":\"beta\",\"option\":\"preflight\",\"value\":\"refuse\"}");
    add_generated(store, "acme", "joe", "secret-of-joe");
    assert_int_equal(store_directory_load(store, &dir), 0);
    store_close(store);

    assert_int_equal(store_directory_accounts_count(dir), 3);
    const struct store_account *with = store_directory_account(dir, BYTES("beta"));
    assert_int_equal(with->options[STORE_OPTION_PREFLIGHT], STORE_PREFLIGHT_REFUSE);
    assert_int_equal(with->options[STORE_OPTION_UNSUBSCRIBE], STORE_UNSUBSCRIBE_OFF);
    assert_true(store_directory_has_return_path(dir, store_directory_account(dir, BYTES("acme")),
                                                BYTES("b.org")));
    assert_false(store_directory_has_return_path(dir, store_directory_account(dir, BYTES("acme")),
                                                 BYTES("a.org")));
    assert_false(store_directory_has_return_path(dir, with, BYTES("b.org")));
    const struct store_account *without = store_directory_account(dir, BYTES("acme"));
    assert_int_equal(without->options[STORE_OPTION_PREFLIGHT], STORE_PREFLIGHT_WARN);
    assert_int_equal(without->options[STORE_OPTION_RETURN_PATH], STORE_RETURN_PATH_MESSAGE);
    const struct store_account *acme = store_directory_account(dir, BYTES("ACME"));
    assert_non_null(acme);
    assert_int_equal(acme->number, 1);
    assert_int_equal(acme->class, MAIL_BULK);
    assert_true(store_account_is_active(acme) && !acme->any_sender);
    assert_ptr_equal(store_directory_account_number(dir, 1), acme);
    const struct store_account *beta = store_directory_account_number(dir, 2);
    assert_true(beta->any_sender && beta->state == STORE_SUSPENDED);
    assert_int_equal(store_directory_account(dir, BYTES("gone"))->state, STORE_CLOSED);
    assert_null(store_directory_account(dir, BYTES("nobody")));
    assert_null(store_directory_account_number(dir, 0));
    assert_null(store_directory_account_number(dir, 4));

    const struct store_credential *joe = store_directory_credential(dir, BYTES("joe"));
    assert_non_null(joe);
    assert_ptr_equal(joe->account, acme);
    assert_int_equal(joe->crypt.len, 0);
    assert_int_equal(joe->scram->iterations, SASL_SCRAM_ITERATIONS);
    assert_null(store_directory_credential(dir, BYTES("Joe")));
    assert_true(store_password_is_right(joe, BYTES("secret-of-joe")));
    assert_false(store_password_is_right(joe, BYTES("secret-of-jo")));

    static const struct {
        const char *domain;
        int acme, beta;
    } domains[] = {
        {"a.org", STORE_DOMAIN_UNVERIFIED, STORE_DOMAIN_FOREIGN},
        {"b.org", STORE_DOMAIN_VERIFIED, STORE_DOMAIN_FOREIGN},
        {"x.b.org", STORE_DOMAIN_FOREIGN, STORE_DOMAIN_FOREIGN},
        {"org", STORE_DOMAIN_FOREIGN, STORE_DOMAIN_FOREIGN},
        {"", STORE_DOMAIN_FOREIGN, STORE_DOMAIN_FOREIGN},
    };
    for (size_t i = 0; i < COUNT_OF(domains); i++) {
        struct bytes domain = bytes_cstr(domains[i].domain);
        assert_int_equal(store_directory_domain(dir, acme, domain), domains[i].acme);
        assert_int_equal(store_directory_domain(dir, beta, domain), domains[i].beta);
    }
    store_directory_free(dir);
}

static void test_empty(void **state)
{
    struct store_directory *dir = store_directory_empty();
    assert_null(store_directory_credential(dir, BYTES("joe")));
    assert_null(store_directory_account(dir, BYTES("acme")));
    assert_null(store_directory_account_number(dir, 1));
    store_directory_free(dir);
}

static void fill(const char *text)
{
    char path[128];
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/accounts.db", folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s", sqlite3_errmsg(db));
    sqlite3_close(db);
}

static void test_100000_accounts(void **state)
{
    store_close(open_store());
    fill("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
         "INSERT INTO account (name, class, any_sender, state, created_at) "
         "SELECT 'account' || i, 'bulk', 0, 'active', 0 FROM n;"
         "INSERT INTO credential (login, account, verifier, created_at) "
         "SELECT 'login' || number, number, 'sha256:' || printf('%064x', number), 0 FROM account;"
         "INSERT INTO domain (account, name, token, verified_at, trusted, created_at) "
         "SELECT number, 'd' || number || '.example', 'abcdefghijklmnop', 1, 0, 0 FROM account;");
    struct store *store = open_store();
    struct store_directory *dir;
    assert_int_equal(store_directory_load(store, &dir), 0);
    assert_int_equal(store_directory_accounts_count(dir), 100000);
    const struct store_credential *c = store_directory_credential(dir, BYTES("login77777"));
    assert_int_equal(c->account->number, 77777);
    assert_int_equal(store_directory_domain(dir, c->account, BYTES("d77777.example")),
                     STORE_DOMAIN_VERIFIED);
    store_directory_free(dir);
    store_close(store);
}

static void test_damaged_rows(void **state)
{
    static const char *const damages[] = {
        "UPDATE credential SET verifier = 'plain:secret'",
        "UPDATE credential SET verifier = 'sha256:0'",
        "UPDATE credential SET scram = 'SCRAM-SHA-256$1'",
        "PRAGMA foreign_keys = OFF; UPDATE credential SET account = 99",
    };
    for (size_t i = 0; i < COUNT_OF(damages); i++) {
        struct store *store = open_store();
        struct store_directory *dir;
        if (i == 0)
            apply(store, "account.add", "{\"account\":\"acme\"}");
        else
            apply(store, "credential.remove", "{\"login\":\"joe\"}");
        add_generated(store, "acme", "joe", "secret");
        store_close(store);
        fill(damages[i]);
        store = open_store();
        assert_int_equal(store_directory_load(store, &dir), E_DAMAGED);
        assert_null(dir);
        store_close(store);
        if (i == 3)
            break;
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest all[] = {
        TEST(test_lookups),         TEST(test_proofs),       TEST(test_empty),
        TEST(test_100000_accounts), TEST(test_damaged_rows),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(all, NULL, NULL);
}
