// SPDX-License-Identifier: MIT
#include "daemon/key_seal.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/test_base.h"

static char folder[] = "/tmp/key-seal-test.XXXXXX", path[64];

static void write_file(const char *text, mode_t mode)
{
    FILE *f = fopen(path, "we");
    fputs(text, f);
    fclose(f);
    chmod(path, mode);
}

// Made once, for its owner only; then it is the same.
static void test_master(void **state)
{
    (void)state;
    struct key_master first, again;
    struct stat st;
    assert_int_equal(key_master_load(path, false, &first), E_NOT_FOUND);
    assert_false(first.is_set);
    assert_int_equal(key_master_load(path, true, &first), OK);
    assert_int_equal(key_master_load(path, true, &again), OK);
    assert_memory_equal(&first, &again, sizeof first);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    unlink(path);
    assert_int_equal(key_master_load(path, true, &again), OK);
    assert_memory_not_equal(&first, &again, sizeof first);
    chmod(path, 0640);
    assert_int_equal(key_master_load(path, true, &again), E_DENIED);
    write_file("too short\n", 0600);
    assert_int_equal(key_master_load(path, true, &again), E_SYNTAX);
    write_file("x123456789012345678901234567890123456789012345678901234567890123\n", 0600);
    assert_int_equal(key_master_load(path, true, &again), E_SYNTAX);
    assert_false(again.is_set);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(key_master_load(path, true, &again), E_SYNTAX);
    unlink(path);
    assert_int_equal(symlink("/etc/hostname", path), 0);
    assert_int_not_equal(key_master_load(path, true, &again), OK);
    unlink(path);
}

// No new one beside the one that has sealed the keys; a file in its place is the one, whatever else is there.
static void test_master_elsewhere(void **state)
{
    (void)state;
    char beside[80], below[80], other[80];
    struct key_master master;
    snprintf(beside, sizeof beside, "%s/state.key", folder);
    snprintf(below, sizeof below, "%s/state", folder);
    snprintf(other, sizeof other, "%s/state/.key", folder);
    assert_int_equal(mkdir(below, 0700), 0);
    assert_false(key_master_is_elsewhere(beside));
    assert_int_equal(key_master_load(other, true, &master), OK);
    uint64_t number = key_master_number(&master);
    assert_true(key_master_is_elsewhere(beside));
    assert_false(key_master_is_elsewhere(below));
    assert_int_equal(key_master_load(beside, true, &master), E_EXISTS);
    assert_int_equal(access(beside, F_OK), -1);
    assert_non_null(strstr(key_master_why(E_EXISTS), "move"));
    assert_int_equal(link(other, beside), 0);
    assert_int_equal(key_master_load(beside, true, &master), OK);
    assert_int_equal(key_master_number(&master), number);
    assert_int_equal(unlink(beside) | unlink(other), 0);
    assert_int_equal(key_master_load(beside, true, &master), OK);
    assert_int_not_equal(key_master_number(&master), number);
    assert_int_equal(unlink(beside) | rmdir(below), 0);
}

// Opened by the same master key only, and only if no byte was changed.
static void test_sealed(void **state)
{
    (void)state;
    struct key_master master = {.key = {1}, .is_set = true}, other = {.key = {2}, .is_set = true},
                      none = {0};
    static const enum sign_kind kinds[] = {SIGN_MAKE_RSA, SIGN_MAKE_ED25519};
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct buf record = {0}, sealed = {0}, record2 = {0}, sealed2 = {0};
        EVP_PKEY *key;
        assert_int_equal(key_make(&master, kinds[i], &record, &sealed), OK);
        assert_int_equal(key_make(&master, kinds[i], &record2, &sealed2), OK);
        assert_false(bytes_eq(buf_bytes(&record), buf_bytes(&record2)));
        assert_true(sign_sealed_number(buf_bytes(&sealed)) !=
                    sign_sealed_number(buf_bytes(&sealed2)));
        assert_true(sealed.len <= SIGN_SEALED_MAX);
        assert_true(bytes_starts(buf_bytes(&record), kinds[i] == SIGN_MAKE_RSA
                                                         ? BYTES("v=DKIM1; k=rsa; p=")
                                                         : BYTES("v=DKIM1; k=ed25519; p=")));
        assert_int_equal(key_open(&master, buf_bytes(&sealed), &key), OK);
        unsigned char *at = NULL;
        int len = i2d_PrivateKey(key, &at);
        assert_int_equal(bytes_search(buf_bytes(&sealed), bytes_of(at + len - 16, 16)), -1);
        OPENSSL_free(at);
        EVP_PKEY_free(key);
        assert_int_equal(key_open(&other, buf_bytes(&sealed), &key), E_DENIED);
        assert_int_equal(key_open(&none, buf_bytes(&sealed), &key), E_DENIED);
        for (size_t n = 0; n < sealed.len; n += n < 40 ? 1 : 61) {
            sealed.at[n] ^= 1;
            assert_int_not_equal(key_open(&master, buf_bytes(&sealed), &key), OK);
            assert_null(key);
            sealed.at[n] ^= 1;
            assert_int_not_equal(key_open(&master, bytes_first(buf_bytes(&sealed), n), &key), OK);
        }
        buf_done(&record);
        buf_done(&sealed);
        buf_done(&record2);
        buf_done(&sealed2);
    }
}

static void pem_of(EVP_PKEY *key, struct buf *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *at;
    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    long len = BIO_get_mem_data(bio, &at);
    buf_clear(out);
    buf_add(out, bytes_of(at, (size_t)len));
    BIO_free(bio);
    EVP_PKEY_free(key);
}

static void test_import(void **state)
{
    (void)state;
    struct key_master master = {.key = {1}, .is_set = true};
    struct buf pem = {0}, record = {0}, sealed = {0};
    enum sign_kind kind;
    EVP_PKEY *key;
    pem_of(EVP_RSA_gen(1024), &pem);
    assert_int_equal(key_import(&master, buf_bytes(&pem), &kind, &record, &sealed), OK);
    assert_int_equal(kind, SIGN_RSA_PKCS1);
    assert_int_equal(key_open(&master, buf_bytes(&sealed), &key), OK);
    EVP_PKEY_free(key);
    buf_clear(&record);
    buf_clear(&sealed);
    pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), &pem);
    assert_int_equal(key_import(&master, buf_bytes(&pem), &kind, &record, &sealed), OK);
    assert_int_equal(kind, SIGN_ED25519);
    assert_true(bytes_starts(buf_bytes(&record), BYTES("v=DKIM1; k=ed25519; p=")));
    pem_of(EVP_RSA_gen(768), &pem);
    assert_int_equal(key_import(&master, buf_bytes(&pem), &kind, &record, &sealed), E_SYNTAX);
    pem_of(EVP_EC_gen("P-256"), &pem);
    assert_int_equal(key_import(&master, buf_bytes(&pem), &kind, &record, &sealed), E_SYNTAX);
    assert_int_equal(key_import(&master, BYTES("junk"), &kind, &record, &sealed), E_SYNTAX);
    buf_done(&pem);
    buf_done(&record);
    buf_done(&sealed);
}

static int setup(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/state.key", folder);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); // nothing is left beside it
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_master),
        cmocka_unit_test(test_master_elsewhere),
        cmocka_unit_test(test_sealed),
        cmocka_unit_test(test_import),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
