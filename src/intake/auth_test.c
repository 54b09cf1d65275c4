// SPDX-License-Identifier: MIT
//
// Logins as a worker asks about them: right, wrong, too many, given up. Loops and threads are the simulator's.
#include "intake/auth.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "base/test_base.h"
#include "intake/snapshot_test.h"
#include "sim.h"
#include "store/store.h"
#include "store/store_test.h"

#define PATIENCE_MS 60000
#define FAILURES 3
#define BLOCK_MS 60000
#define PASSWORD "a generated password"

static char folder[64];
static struct sim_host *host;
static struct sys_loop *main_loop, *worker;
static struct auth *auth;
static struct conf_snapshot *snapshot;
static unsigned warned;

static void count_lines(void *ctx, struct bytes line)
{
    (void)ctx;
    warned += bytes_search(line, BYTES("login failed")) >= 0;
    assert_int_equal(bytes_search(line, BYTES("passw")), -1); // law 10
}

static void apply(struct store *store, const char *op, const char *args)
{
    test_store_apply(store, (struct wall){1790000000000000}, op, args);
}

static struct store_directory *make_accounts(void)
{
    struct store *store;
    struct store_directory *accounts;
    struct buf error = {0}, verifier = {0}, args = {0};
    assert_int_equal(store_open(bytes_cstr(folder), &store, &error), OK);
    apply(store, "account.add", "{\"account\":\"acme\"}");
    apply(store, "account.add", "{\"account\":\"late\"}");
    store_password_verifier_generated(BYTES(PASSWORD), &verifier);
    for (int i = 0; i < 2; i++) {
        buf_clear(&args);
        buf_printf(&args, "{\"account\":\"%s\",\"login\":\"%s\",\"verifier\":\"%s\"}",
                   i ? "late" : "acme", i ? "ann" : "joe", buf_cstr(&verifier));
        apply(store, "credential.add", buf_cstr(&args));
    }
    apply(store, "account.suspend", "{\"account\":\"late\"}");
    assert_int_equal(store_directory_load(store, &accounts), OK);
    store_close(store);
    buf_done(&verifier);
    buf_done(&args);
    return accounts;
}

static void start_loops(void *ctx)
{
    (void)ctx;
    main_loop = sys_loop_start("main");
    worker = sys_loop_start("worker");
    auth = auth_new(main_loop, (struct auth_guard_limits){FAILURES, 600000, BLOCK_MS});
}

static void stop_loops(void *ctx)
{
    (void)ctx;
    sys_loop_stop(worker);
    sys_loop_stop(main_loop);
    auth_free(auth);
}

static int setup(void **state)
{
    (void)state;
    log_capture(count_lines, NULL);
    warned = 0;
    snprintf(folder, sizeof folder, "/tmp/auth_test.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    sim_start(3); // seeds the maps
    struct store_directory *accounts = make_accounts();
    snapshot = test_snapshot(NULL, NULL, accounts, NULL);
    host = sim_host_new("relay", NULL);
    return sim_host_call(host, start_loops, NULL) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[96];
    bool ok = sim_host_call(host, stop_loops, NULL);
    sim_stop();
    conf_snapshot_release(snapshot);
    snprintf(command, sizeof command, "rm -r %s", folder);
    return ok && system(command) == 0 ? 0 : -1; // NOLINT(cert-env33-c): a folder of our own making
}

// ---- one question --------------------------------------------------------------------------------------------

struct ask {
    struct sys_task task;
    enum auth_question question;
    const char *login, *password, *from;
    bool proven, suspended, cancel;
    struct sys_addr peer;
    bool done;
    enum auth_result result;
};

static void on_done(void *ctx, enum auth_result result)
{
    struct ask *a = ctx;
    CHECK(sys_loop_self() == worker && !a->done);
    a->done = true;
    a->result = result;
}

static void begin(struct sys_task *task)
{
    struct ask *a = container_of(task, struct ask, task);
    char login[64], password[64]; // gone before the answer comes
    snprintf(login, sizeof login, "%s", a->login);
    snprintf(password, sizeof password, "%s", a->password ? a->password : "");
    CHECK(sys_addr_parse(bytes_cstr(a->from), &a->peer) == OK);
    struct auth_request request = {.question = a->question,
                                   .peer = &a->peer,
                                   .login = bytes_cstr(login),
                                   .password = bytes_cstr(password),
                                   .proven = a->proven,
                                   .suspended = a->suspended,
                                   .done = on_done,
                                   .ctx = a};
    struct auth_pending *pending = auth_ask(auth, &request, snapshot);
    memset(login, 'x', sizeof login);
    memset(password, 'x', sizeof password);
    if (a->cancel)
        auth_cancel(pending);
}

static bool is_done(void *ctx)
{
    return ((struct ask *)ctx)->done;
}

static enum auth_result ask(struct ask a)
{
    a.task.run = begin;
    sys_post(worker, &a.task);
    assert_true(sim_run_until(is_done, &a, PATIENCE_MS));
    return a.result;
}

static enum auth_result ask_password(const char *login, const char *password, const char *from)
{
    return ask((struct ask){.login = login, .password = password, .from = from});
}

// ---- tests ---------------------------------------------------------------------------------------------------

static void answers_about_passwords(void **state)
{
    (void)state;
    assert_int_equal(ask_password("joe", PASSWORD, "192.0.2.1:1"), AUTH_RIGHT);
    assert_int_equal(ask_password("joe", "wrong passw", "192.0.2.1:2"), AUTH_WRONG);
    assert_int_equal(ask_password("nobody", PASSWORD, "192.0.2.1:3"), AUTH_WRONG);
    assert_int_equal(warned, 2);
}

// Its program goes on trying: that is no guess, and others at its address go on logging in.
static void suspended_accounts_shut_nobody_out(void **state)
{
    (void)state;
    struct ask proof = {.question = AUTH_PROVED,
                        .login = "ann",
                        .from = "192.0.2.1:1",
                        .proven = true,
                        .suspended = true};
    for (int i = 0; i < 2 * FAILURES; i++) {
        assert_int_equal(ask_password("ann", PASSWORD, "192.0.2.1:1"), AUTH_SUSPENDED);
        assert_int_equal(ask(proof), AUTH_SUSPENDED);
    }
    assert_int_equal(ask_password("joe", PASSWORD, "192.0.2.1:2"), AUTH_RIGHT);
    assert_int_equal(ask_password("ann", "wrong passw", "192.0.2.1:1"), AUTH_WRONG);
    proof.proven = false;
    assert_int_equal(ask(proof), AUTH_WRONG);
}

static void blocks_addresses_and_lets_them_go(void **state)
{
    (void)state;
    for (int i = 0; i < FAILURES; i++)
        assert_int_equal(ask_password("nobody", "x", "[2001:db8::1]:1"), AUTH_WRONG);
    // The same /64, whatever the question; the right password too.
    assert_int_equal(ask_password("joe", PASSWORD, "[2001:db8::2]:1"), AUTH_TOO_MANY);
    assert_int_equal(
        ask((struct ask){.question = AUTH_MAY_TRY, .login = "joe", .from = "[2001:db8::3]:1"}),
        AUTH_TOO_MANY);
    assert_int_equal(ask_password("joe", PASSWORD, "[2001:db8:0:1::1]:1"), AUTH_RIGHT);
    assert_int_equal(warned, FAILURES); // the blocked ones are not counted again
    sim_run_ms(BLOCK_MS + 1000);
    assert_int_equal(ask_password("joe", PASSWORD, "[2001:db8::2]:1"), AUTH_RIGHT);
}

static void proofs_count(void **state)
{
    (void)state;
    struct ask may = {.question = AUTH_MAY_TRY, .login = "joe", .from = "192.0.2.9:1"};
    struct ask proof = {
        .question = AUTH_PROVED, .login = "joe", .from = "192.0.2.9:1", .proven = true};
    assert_int_equal(ask(may), AUTH_RIGHT);
    assert_int_equal(ask(proof), AUTH_RIGHT);
    proof.proven = false;
    for (int i = 0; i < FAILURES; i++)
        assert_int_equal(ask(proof), AUTH_WRONG);
    assert_int_equal(ask(may), AUTH_TOO_MANY);
}

// Attempts that began before the block, all at once, are no more guesses than are allowed.
static void parallel_attempts_are_held_to_the_limit(void **state)
{
    (void)state;
    struct ask tries[FAILURES * 4];
    unsigned wrong = 0, too_many = 0;
    for (size_t i = 0; i < COUNT_OF(tries); i++) {
        tries[i] =
            (struct ask){.login = "joe", .password = "x", .from = "192.0.2.1:1", .task.run = begin};
        sys_post(worker, &tries[i].task);
    }
    for (size_t i = 0; i < COUNT_OF(tries); i++) {
        assert_true(sim_run_until(is_done, &tries[i], PATIENCE_MS));
        wrong += tries[i].result == AUTH_WRONG;
        too_many += tries[i].result == AUTH_TOO_MANY;
    }
    assert_int_equal(wrong, FAILURES);
    assert_int_equal(too_many, COUNT_OF(tries) - FAILURES);
    assert_int_equal(warned, FAILURES);
}

// The exchange was let begin; whether it was right is nobody's to know once the address is blocked.
static void proofs_of_before_the_block_are_not_told(void **state)
{
    (void)state;
    struct ask may = {.question = AUTH_MAY_TRY, .login = "joe", .from = "192.0.2.9:1"};
    struct ask proof = {.question = AUTH_PROVED, .login = "joe", .from = "192.0.2.9:1"};
    assert_int_equal(ask(may), AUTH_RIGHT);
    for (int i = 0; i < FAILURES; i++)
        assert_int_equal(ask(proof), AUTH_WRONG);
    assert_int_equal(ask(proof), AUTH_TOO_MANY);
    proof.proven = true;
    assert_int_equal(ask(proof), AUTH_TOO_MANY);
    assert_int_equal(warned, FAILURES);
}

static void set_limits(struct sys_task *task)
{
    (void)task;
    auth_set_limits(auth, (struct auth_guard_limits){1, 600000, BLOCK_MS});
}

static void limits_may_change(void **state)
{
    (void)state;
    struct sys_task task = {.run = set_limits};
    sys_post(main_loop, &task);
    sim_run_ms(10);
    assert_int_equal(ask_password("nobody", "x", "192.0.2.1:1"), AUTH_WRONG);
    assert_int_equal(ask_password("joe", PASSWORD, "192.0.2.1:1"), AUTH_TOO_MANY);
}

// Who has gone hears nothing; that the password was wrong is counted all the same.
static void gives_up(void **state)
{
    (void)state;
    struct ask gone[FAILURES];
    for (int i = 0; i < FAILURES; i++) {
        gone[i] = (struct ask){.login = "nobody",
                               .password = "x",
                               .from = "192.0.2.1:1",
                               .cancel = true,
                               .task.run = begin};
        sys_post(worker, &gone[i].task);
    }
    sim_run_ms(5000);
    for (int i = 0; i < FAILURES; i++)
        assert_false(gone[i].done);
    assert_int_equal(ask_password("joe", PASSWORD, "192.0.2.1:1"), AUTH_TOO_MANY);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(answers_about_passwords, setup, teardown),
    cmocka_unit_test_setup_teardown(suspended_accounts_shut_nobody_out, setup, teardown),
    cmocka_unit_test_setup_teardown(blocks_addresses_and_lets_them_go, setup, teardown),
    cmocka_unit_test_setup_teardown(proofs_count, setup, teardown),
    cmocka_unit_test_setup_teardown(parallel_attempts_are_held_to_the_limit, setup, teardown),
    cmocka_unit_test_setup_teardown(proofs_of_before_the_block_are_not_told, setup, teardown),
    cmocka_unit_test_setup_teardown(limits_may_change, setup, teardown),
    cmocka_unit_test_setup_teardown(gives_up, setup, teardown),
};

RUN_TESTS(tests)
