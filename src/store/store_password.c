// SPDX-License-Identifier: MIT
#include "store/store_password.h"

#include <crypt.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "sys/sys.h"

#define YESCRYPT_PREFIX "$y$" // libcrypt's default cost for it
#define YESCRYPT_COST 0

// What passwords of unknown logins are measured against: yescrypt at libcrypt's default cost (j9T).
// Whether it fits is never looked at.
static const char nobody[] =
    "$y$j9T$713WDu8X5lcVJrpfXCOpg/$vlGWi19baZBN61UGuLXru9.JNHGyo1YQ0oENKXeBfU9";

// ---- making ------------------------------------------------------------------------------------------

void store_password_generate(const uint8_t random[STORE_PASSWORD_RANDOM],
                             char out[STORE_PASSWORD_CHARS + 1])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    for (uint32_t i = 0; i < STORE_PASSWORD_CHARS; i++) {
        uint32_t bit = i * 5, pair = (uint32_t)random[bit / 8] << 8;
        if (bit / 8 + 1 < STORE_PASSWORD_RANDOM)
            pair |= random[bit / 8 + 1];
        out[i] = letters[pair >> (11 - bit % 8) & 31];
    }
    out[STORE_PASSWORD_CHARS] = 0;
}

void store_password_verifier_generated(struct bytes password, struct buf *out_verifier)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256((const uint8_t *)password.at, password.len, digest);
    buf_add_cstr(out_verifier, "sha256:");
    for (size_t i = 0; i < sizeof digest; i++)
        buf_printf(out_verifier, "%02x", digest[i]);
}

int store_password_scram(struct bytes password, const uint8_t salt[SASL_SCRAM_SALT_BYTES],
                         bool chosen, struct buf *out_scram)
{
    struct sasl_scram_key key;
    int err =
        sasl_scram_key_make(password, bytes_of(salt, SASL_SCRAM_SALT_BYTES),
                            chosen ? SASL_SCRAM_ITERATIONS_CHOSEN : SASL_SCRAM_ITERATIONS, &key);
    if (!err)
        sasl_scram_key_format(&key, out_scram);
    return err;
}

// libcrypt on a password that is no C string yet; the work area is large, so on the heap. Empty on
// failure.
static void run_crypt(struct bytes password, const char *setting, char out[CRYPT_OUTPUT_SIZE])
{
    char text[SASL_PASSWORD_MAX + 1];
    struct crypt_data *data = mem_new(sizeof *data);
    CHECK(password.len < sizeof text);
    memcpy(text, password.at ? password.at : "", password.len);
    text[password.len] = 0;
    const char *hash = crypt_rn(text, setting, data, sizeof *data);
    out[0] = 0;
    if (hash && hash[0] == '$')
        snprintf(out, CRYPT_OUTPUT_SIZE, "%s", hash);
    OPENSSL_cleanse(text, sizeof text);
    OPENSSL_cleanse(data, sizeof *data);
    free(data);
}

int store_password_verifier_chosen(struct bytes password, const uint8_t salt[SASL_SCRAM_SALT_BYTES],
                                   struct buf *out_verifier)
{
    char setting[CRYPT_GENSALT_OUTPUT_SIZE], hash[CRYPT_OUTPUT_SIZE];
    if (password.len < STORE_PASSWORD_MIN || password.len > SASL_PASSWORD_MAX ||
        password.len > CRYPT_MAX_PASSPHRASE_SIZE)
        return E_LIMIT;
    if (!sasl_password_is_valid(password))
        return E_SYNTAX;
    CHECK(crypt_gensalt_rn(YESCRYPT_PREFIX, YESCRYPT_COST, (const char *)salt,
                           SASL_SCRAM_SALT_BYTES, setting, sizeof setting));
    run_crypt(password, setting, hash);
    if (!hash[0])
        return E_IO;
    buf_add_cstr(out_verifier, hash);
    return 0;
}

// ---- checking ----------------------------------------------------------------------------------------

// What a check needs of a credential, copied, so that it outlives the directory.
struct verifier {
    enum { VERIFIER_NOBODY, VERIFIER_SHA256, VERIFIER_CRYPT } kind;
    uint8_t sha256[32];
    char crypt[CRYPT_OUTPUT_SIZE];
};

static void verifier_init(struct verifier *v, const struct store_credential *credential)
{
    *v = (struct verifier){.kind = VERIFIER_NOBODY};
    if (!credential)
        return;
    v->kind = credential->crypt.len ? VERIFIER_CRYPT : VERIFIER_SHA256;
    memcpy(v->sha256, credential->sha256, sizeof v->sha256);
    if (credential->crypt.len >= sizeof v->crypt)
        v->kind = VERIFIER_NOBODY;
    else if (credential->crypt.len)
        memcpy(v->crypt, credential->crypt.at, credential->crypt.len);
}

static bool crypt_is_right(struct bytes password, const char *want)
{
    char got[CRYPT_OUTPUT_SIZE];
    run_crypt(password, want, got);
    return got[0] && bytes_eq_secret(bytes_cstr(got), bytes_cstr(want));
}

// Whatever fails has cost one yescrypt.
static bool verifier_is_right(const struct verifier *v, struct bytes password)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    if (password.len > SASL_PASSWORD_MAX || password.len > CRYPT_MAX_PASSPHRASE_SIZE)
        password = BYTES_NONE;
    if (v->kind == VERIFIER_CRYPT)
        return crypt_is_right(password, v->crypt);
    SHA256((const uint8_t *)(password.at ? password.at : ""), password.len, digest);
    bool same =
        bytes_eq_secret(bytes_of(digest, sizeof digest), bytes_of(v->sha256, sizeof v->sha256));
    if (v->kind == VERIFIER_SHA256 && same)
        return true;
    (void)crypt_is_right(password, nobody);
    return false;
}

bool store_password_is_right(const struct store_credential *credential, struct bytes password)
{
    struct verifier v;
    verifier_init(&v, credential);
    return verifier_is_right(&v, password);
}

// ---- on the offload threads --------------------------------------------------------------------------

struct store_check {
    struct sys_job job;
    struct store_checker *checker;
    struct verifier verifier;
    struct buf password;
    bool right, active;
    void (*done)(void *ctx, const struct store_check_result *result);
    void *ctx;
};

static void check_run(struct sys_job *job)
{
    struct store_check *c = container_of(job, struct store_check, job);
    c->right = verifier_is_right(&c->verifier, buf_bytes(&c->password));
}

static void check_done(struct sys_job *job)
{
    struct store_check *c = container_of(job, struct store_check, job);
    struct store_check_result result = {.right = c->right, .active = c->active};
    c->checker->running--;
    if (c->done)
        c->done(c->ctx, &result);
    if (c->password.at)
        OPENSSL_cleanse(c->password.at, c->password.cap);
    buf_done(&c->password);
    OPENSSL_cleanse(&c->verifier, sizeof c->verifier);
    free(c);
}

int store_check_start(struct store_checker *checker, const struct store_directory *dir,
                      struct bytes login, struct bytes password,
                      void (*done)(void *ctx, const struct store_check_result *result), void *ctx,
                      struct store_check **out)
{
    *out = NULL;
    if (checker->running >= STORE_CHECKS_MAX)
        return E_FULL;
    struct store_check *c = mem_new(sizeof *c);
    const struct store_credential *credential = store_directory_credential(dir, login);
    *c = (struct store_check){.job = {.run = check_run, .done = check_done},
                              .checker = checker,
                              .done = done,
                              .ctx = ctx};
    verifier_init(&c->verifier, credential);
    c->active = credential && store_account_is_active(credential->account);
    buf_add(&c->password, bytes_first(password, SASL_PASSWORD_MAX + 1));
    checker->running++;
    sys_offload(&c->job);
    *out = c;
    return 0;
}

void store_check_cancel(struct store_check *check)
{
    check->done = NULL;
}
