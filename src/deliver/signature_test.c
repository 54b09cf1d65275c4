// SPDX-License-Identifier: MIT
//
// Who signs, what is signed, who shares it, and that without the signer nobody gets a message unsigned. The test is
// the signer; what came out is verified as a receiver would.
#include "deliver/signature.h"

#include <json-c/json.h>
#include <openssl/rsa.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/test_base.h"
#include "intake/snapshot_test.h"
#include "net/sign_port.h"
#include "sign/dkim_key.h"
#include "sign/dkim_verify.h"
#include "sim_spool.h"
#include "store/store.h"
#include "store/store_directory.h"
#include "store/store_test.h"

#define PATIENCE_MS 60000
#define ASKED_MAX 32
#define ASKS_MAX 4
#define SEALED_BYTES 64

static struct sim_spool world;
static char folder[64];
static struct store *store;
static struct conf_snapshot *snapshot;
static EVP_PKEY *rsa_key, *ed25519_key;
static struct buf rsa_record, ed25519_record;

// ---- the signer ----------------------------------------------------------------------------------------

static const struct sign_request *asked[ASKED_MAX];
static size_t asked_count;

static bool send_request(void *ctx, const struct sign_request *r, bool with_key)
{
    (void)ctx;
    (void)with_key;
    CHECK(asked_count < ASKED_MAX);
    asked[asked_count++] = r;
    return true;
}
static const struct sign_port port = {send_request, NULL};

static size_t sign_with_key(const struct sign_request *r, uint8_t *out)
{
    size_t len = SIGN_ANSWER_MAX;
    if (r->kind == SIGN_ED25519) {
        struct buf signature = {0};
        CHECK(r->input.len == DKIM_HASH_BYTES);
        CHECK(dkim_sign_digest(ed25519_key, (const uint8_t *)r->input.at, &signature) == OK);
        memcpy(out, signature.at, len = signature.len);
        buf_done(&signature);
        return len;
    }
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(rsa_key, NULL);
    CHECK(r->kind == SIGN_RSA_PKCS1 && EVP_PKEY_sign_init(ctx) == 1 &&
          EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
          EVP_PKEY_sign(ctx, out, &len, (const uint8_t *)r->input.at, r->input.len) == 1);
    EVP_PKEY_CTX_free(ctx);
    return len;
}

// Answers all that is asked; RSA with a refusal, if so wanted.
static bool refuses_rsa, refuses_all;

static void answer_all(struct sys_task *task)
{
    (void)task;
    uint8_t signature[SIGN_ANSWER_MAX];
    for (size_t i = 0; i < asked_count; i++) {
        bool refused = refuses_all || (refuses_rsa && asked[i]->kind == SIGN_RSA_PKCS1);
        size_t len = refused ? 0 : sign_with_key(asked[i], signature);
        sign_port_answer(asked[i]->id, refused ? SIGN_REFUSED : SIGN_DONE,
                         bytes_of(signature, len));
    }
    asked_count = 0;
}

// ---- the world -----------------------------------------------------------------------------------------

static void apply(const char *op, const char *args, ...) __attribute__((format(printf, 2, 3)));
static void apply(const char *op, const char *args, ...)
{
    char text[2048];
    va_list values;
    va_start(values, args);
    vsnprintf(text, sizeof text, args, values);
    va_end(values);
    test_store_apply(store, (struct wall){1}, op, text);
}

static int keys_made;

// An active key; `owner`: "'account':'acme'," or nothing for the service's.
static void add_key(const char *owner, const char *domain, const char *algorithm)
{
    char sealed[2 * SEALED_BYTES + 1];
    keys_made++;
    for (size_t i = 0; i < SEALED_BYTES; i++)
        snprintf(sealed + 2 * i, 3, "%02x", keys_made);
    apply("dkim.add", "{%s'domain':'%s','algorithm':'%s','record':'%s','sealed':'%s'}", owner,
          domain, algorithm, buf_cstr(*algorithm == 'r' ? &rsa_record : &ed25519_record), sealed);
    apply("dkim.seen", "{'number':%d}", keys_made);
}

static void make_snapshot(void)
{
    struct store_directory *accounts;
    struct conf *conf;
    struct buf errors = {0};
    CHECK(store_directory_load(store, &accounts) == OK);
    CHECK(conf_load_text(BYTES("hostname: relay.test\nspool: /s\nstate: /t\n"
                               "dkim: {service_domain: service.test}\n"),
                         "test", "/", &conf, &errors) == OK);
    snapshot = test_snapshot(conf, NULL, accounts, NULL);
}

static int setup(void **state)
{
    (void)state;
    struct buf error = {0};
    CHECK(sim_spool_start(&world, 7, 65536)); // seeds the maps
    rsa_key = EVP_RSA_gen(2048);
    ed25519_key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    CHECK(dkim_key_format(rsa_key, &rsa_record) == OK);
    CHECK(dkim_key_format(ed25519_key, &ed25519_record) == OK);
    snprintf(folder, sizeof folder, "/tmp/posthaste-signature-XXXXXX");
    CHECK(mkdtemp(folder) && store_open(bytes_cstr(folder), &store, &error) == OK);
    apply("account.add", "{'account':'acme'}");
    apply("account.add", "{'account':'bare'}");
    for (int i = 0; i < 2; i++)
        apply("domain.add",
              "{'account':'%s','domain':'%s','token':'abcdefghijklmnop','trust':true}", "acme",
              i ? "one.test" : "both.test");
    add_key("'account':'acme',", "both.test", "rsa");
    add_key("'account':'acme',", "both.test", "ed25519");
    add_key("'account':'acme',", "one.test", "ed25519");
    add_key("", "service.test", "ed25519");
    make_snapshot();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    static const char *const names[] = {"accounts.db", "accounts.db-wal", "accounts.db-shm",
                                        "lock"};
    char path[128];
    bool ok = sim_spool_stop(&world);
    conf_snapshot_release(snapshot);
    store_close(store);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    EVP_PKEY_free(rsa_key);
    EVP_PKEY_free(ed25519_key);
    buf_done(&rsa_record);
    buf_done(&ed25519_record);
    return ok ? rmdir(folder) : -1;
}

// ---- messages ------------------------------------------------------------------------------------------

static struct stored_message *make_message(uint32_t account, const char *header, const char *body,
                                           bool hashed)
{
    struct stored_message *m = stored_message_new();
    struct envelope *e = m->envelope;
    e->id = message_id_make((struct wall){1700000000000000}, 1, 1, 1);
    e->account = account;
    m->header = arena_dup(&m->arena, bytes_cstr(header));
    e->header_bytes = m->header.len;
    e->body_bytes = strlen(body);
    e->body = BODY_8BITMIME;
    if (hashed) {
        struct dkim_body hash;
        dkim_body_init(&hash, DKIM_RELAXED);
        dkim_body_feed(&hash, bytes_cstr(body));
        dkim_body_finish(&hash, e->body_hash);
        e->has_body_hash = true;
    }
    chain_add(&m->body, bytes_cstr(body));
    return m;
}

struct asking {
    struct signature_ask ask;
    int answers; // at once or later
    bool at_once;
};

// Asks of one turn.
static struct turn {
    struct sys_task task;
    struct asking *asks;
    size_t count;
} turn;
static struct signature_counters counters;

static void on_done(struct signature_ask *ask)
{
    container_of(ask, struct asking, ask)->answers++;
}

static void ask_all(struct sys_task *task)
{
    (void)task;
    for (size_t i = 0; i < turn.count; i++) {
        struct asking *a = &turn.asks[i];
        a->ask.spool = world.spool;
        a->ask.snapshot = snapshot;
        a->ask.counters = &counters;
        a->ask.done = on_done;
        a->at_once = signature_start(&a->ask);
        a->answers = a->at_once;
    }
}

static void in_a_turn(void (*run)(struct sys_task *task))
{
    turn.task.run = run;
    sys_post(world.client, &turn.task);
    sim_run_ms(1000);
}

static void ask(struct asking *asks, size_t count)
{
    turn.asks = asks;
    turn.count = count;
    in_a_turn(ask_all);
}

// The world's threads are one, so they have one port.
static void use_port(struct sys_task *task)
{
    (void)task;
    sign_port_use(&port);
}

static void use_none(struct sys_task *task)
{
    (void)task;
    sign_port_use(NULL);
}

static int each(void **state)
{
    (void)state;
    asked_count = 0;
    refuses_all = refuses_rsa = false;
    memset(&counters, 0, sizeof counters);
    in_a_turn(use_port);
    return 0;
}

// ---- judging -------------------------------------------------------------------------------------------

static struct buf sent; // the first ask's message as it goes out

static void nothing(void *ctx)
{
    (void)ctx;
}

static void render(struct sys_task *task)
{
    (void)task;
    const struct signature_ask *a = &turn.asks->ask;
    struct render r;
    struct buf above = {0};
    bool end = false;
    buf_add_all(&above, a->fields, a->added);
    buf_clear(&sent);
    render_init(&r, world.spool, a->message, a->kind, buf_bytes(&above), nothing, NULL);
    while (!end) {
        struct bytes piece;
        CHECK(render_next(&r, RENDER_PIECE_BYTES, &piece, &end) == OK);
        buf_add(&sent, piece);
    }
    render_done(&r);
    buf_done(&above);
}

// The keys' names of all signatures, each of which is to pass.
static void verify(const char *name, struct asking *a, const char *want)
{
    struct buf names = {0};
    turn.asks = a;
    in_a_turn(render);
    struct bytes text = buf_bytes(&sent);
    size_t end = (size_t)bytes_search(text, BYTES("\r\n\r\n")) + 2;
    struct dkim_verify *v = dkim_verify_new(bytes_first(text, end), (struct wall){0});
    dkim_verify_body(v, bytes_skip(text, end + 2));
    dkim_verify_body_end(v);
    for (size_t i = 0; i < dkim_verify_count(v); i++) {
        struct bytes key = dkim_verify_key_name(v, i);
        bool rsa = key.at[bytes_find(key, '.') - 1] == 'r';
        struct bytes record = buf_bytes(rsa ? &rsa_record : &ed25519_record);
        dkim_verify_key(v, i, DKIM_KEY_FOUND, &record, 1);
        assert_number(name, dkim_verify_verdict(v, i)->result, DKIM_PASS);
        buf_add_all(&names, key, BYTES(" "));
    }
    assert_bytes(name, buf_bytes(&names), bytes_cstr(want));
    dkim_verify_free(v);
    buf_done(&names);
}

static void done(struct asking *asks, size_t count)
{
    for (size_t i = 0; i < count; i++)
        signature_done(&asks[i].ask);
    stored_message_unref(asks->ask.message);
}

#define REST "To: <b@c.test>\r\nSubject: a\r\n  b\r\n\r\n"
#define BODY "one  two \r\n.three\r\n\r\n\r\n"
#define OF_BOTH "ph1e._domainkey.both.test ph1r._domainkey.both.test "
#define OF_SERVICE "ph1e._domainkey.service.test "

// ---- tests ---------------------------------------------------------------------------------------------

static void test_who_signs(void **state)
{
    (void)state;
    static const struct {
        const char *name, *header;
        uint32_t account;
        const char *want;
    } ROWS[] = {
        {"both keys and the service's", "From: <a@both.test>\r\n" REST, 1, OF_BOTH OF_SERVICE},
        {"any spelling", "FROM : X <a@BOTH.test>\r\n" REST, 1, OF_BOTH OF_SERVICE},
        {"below it", "From: <a@x.y.both.test>\r\n" REST, 1, OF_BOTH OF_SERVICE},
        {"one key", "From: <a@one.test>\r\n" REST, 1, "ph1e._domainkey.one.test " OF_SERVICE},
        {"not its domain", "From: <a@other.test>\r\n" REST, 1, OF_SERVICE},
        {"another account's domain", "From: <a@both.test>\r\n" REST, 2, OF_SERVICE},
        {"no account", "From: <a@both.test>\r\n" REST, 0, OF_SERVICE},
        {"no From field", REST, 1, ""},
        {"an unreadable one", "From: @@\r\n" REST, 1, OF_SERVICE},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct asking a = {.ask.message =
                               make_message(ROWS[i].account, ROWS[i].header, BODY, true)};
        ask(&a, 1);
        in_a_turn(answer_all);
        assert_number(ROWS[i].name, a.answers, 1);
        assert_number(ROWS[i].name, a.ask.err, OK);
        verify(ROWS[i].name, &a, ROWS[i].want);
        done(&a, 1);
    }
    assert_int_equal(counters.bodies_read, 0);
    assert_true(counters.rsa == 3 && counters.ed25519 == 12 && counters.failed == 0);
}

// What is signed is what goes out, whichever form that has; a body is read only where nobody has hashed it.
static void test_forms(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum render_kind kind;
        bool hashed;
        const char *added;
        int read;
    } ROWS[] = {
        {"identity", RENDER_IDENTITY, true, "", 0},
        {"identity, checked", RENDER_CHECKED, true, "", 0},
        {"identity of before there was a key", RENDER_IDENTITY, false, "", 1},
        {"a recipient's own fields", RENDER_IDENTITY, true, "List-Unsubscribe: <https://u/1>\r\n",
         0},
        {"its own, of before", RENDER_IDENTITY, false, "List-Unsubscribe: <https://u/1>\r\n", 1},
        {"7 bits", RENDER_SEVEN_BIT, true, "", 1},
        {"7 bits and its own fields", RENDER_SEVEN_BIT, true, "List-Unsubscribe: <https://u/1>\r\n",
         1},
    };
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        struct asking a = {.ask = {.kind = ROWS[i].kind, .added = bytes_cstr(ROWS[i].added)}};
        a.ask.message = make_message(1,
                                     "From: <a@both.test>\r\nMIME-Version: 1.0\r\n"
                                     "Content-Type: text/plain; charset=utf-8\r\n"
                                     "Content-Transfer-Encoding: 8bit\r\n" REST,
                                     "caf\xc3\xa9  \r\n.\r\n" BODY, ROWS[i].hashed);
        uint64_t before = counters.bodies_read;
        ask(&a, 1);
        in_a_turn(answer_all);
        assert_number(ROWS[i].name, a.answers == 1 && a.ask.err == OK, true);
        verify(ROWS[i].name, &a, OF_BOTH OF_SERVICE);
        assert_number(ROWS[i].name, counters.bodies_read - before, ROWS[i].read);
        done(&a, 1);
    }
}

// One making for all that ask for the same form; who asks later has it at once; own fields, own signatures.
static void test_shared(void **state)
{
    (void)state;
    struct asking asks[ASKS_MAX + 1] = {0};
    struct stored_message *m = make_message(1, "From: <a@both.test>\r\n" REST, BODY, true);
    for (size_t i = 0; i <= ASKS_MAX; i++)
        asks[i].ask.message = m;
    asks[2].ask.added = asks[3].ask.added = BYTES("List-Unsubscribe: <https://u/1>\r\n");
    ask(asks, ASKS_MAX);
    assert_int_equal(asked_count, 3 * 3); // asks[0] and [1] together
    for (size_t i = 0; i < ASKS_MAX; i++)
        assert_int_equal(asks[i].answers, 0);
    in_a_turn(answer_all);
    for (size_t i = 0; i < ASKS_MAX; i++)
        assert_true(asks[i].answers == 1 && asks[i].ask.err == OK);
    assert_ptr_equal(asks[0].ask.fields.at, asks[1].ask.fields.at);
    assert_true(asks[2].ask.fields.at != asks[0].ask.fields.at);
    ask(&asks[ASKS_MAX], 1);
    assert_true(asks[ASKS_MAX].at_once && asked_count == 0);
    assert_ptr_equal(asks[ASKS_MAX].ask.fields.at, asks[0].ask.fields.at);
    assert_int_equal(counters.rsa, 3);
    done(asks, ASKS_MAX + 1);
}

// No signature, or not all of them: nobody gets the message unsigned, and who asks again may get it.
static void test_without_the_signer(void **state)
{
    (void)state;
    struct asking asks[3] = {0};
    struct stored_message *m = make_message(1, "From: <a@both.test>\r\n" REST, BODY, true);
    for (size_t i = 0; i < COUNT_OF(asks); i++)
        asks[i].ask.message = m;
    asks[2].ask.added = BYTES("List-Unsubscribe: <https://u/1>\r\n");
    for (int round = 0; round < 3; round++) {
        refuses_rsa = round == 0; // one of three
        refuses_all = round == 1;
        if (round == 2)
            in_a_turn(use_none);
        ask(asks, COUNT_OF(asks));
        in_a_turn(answer_all);
        for (size_t i = 0; i < COUNT_OF(asks); i++) {
            assert_true(!asks[i].at_once && asks[i].answers == 1);
            assert_true(asks[i].ask.err == E_CLOSED && asks[i].ask.fields.len == 0);
            signature_done(&asks[i].ask);
        }
    }
    assert_true(counters.failed > 0 && counters.rsa == 0);
    refuses_rsa = refuses_all = false;
    in_a_turn(use_port);
    ask(asks, COUNT_OF(asks));
    in_a_turn(answer_all);
    for (size_t i = 0; i < COUNT_OF(asks); i++)
        assert_true(asks[i].answers == 1 && asks[i].ask.err == OK);
    verify("again", asks, OF_BOTH OF_SERVICE);
    done(asks, COUNT_OF(asks));
}

// The signer goes while it is asked: what was asked is asked again, and refused once that was so twice.
static void lose(struct sys_task *task)
{
    (void)task;
    sign_port_lost();
    sign_port_found();
}

static void test_signer_dies(void **state)
{
    (void)state;
    struct asking a = {.ask.message = make_message(1, "From: <a@one.test>\r\n" REST, BODY, true)};
    ask(&a, 1);
    asked_count = 0; // they died with it
    in_a_turn(lose);
    assert_true(a.answers == 0 && asked_count == 2);
    in_a_turn(answer_all);
    assert_true(a.answers == 1 && a.ask.err == OK);
    done(&a, 1);
    a = (struct asking){.ask.message = make_message(1, "From: <a@one.test>\r\n" REST, BODY, true)};
    ask(&a, 1);
    in_a_turn(lose);
    in_a_turn(lose);
    assert_true(a.answers == 1 && a.ask.err == E_CLOSED && a.ask.fields.len == 0);
    done(&a, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_who_signs, each),
        cmocka_unit_test_setup(test_forms, each),
        cmocka_unit_test_setup(test_shared, each),
        cmocka_unit_test_setup(test_without_the_signer, each),
        cmocka_unit_test_setup(test_signer_dies, each),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
