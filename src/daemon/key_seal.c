// SPDX-License-Identifier: MIT
//
// How it works: sealed is 1 octet for the form, 8 for the master key's number, 12 for the nonce, what is encrypted,
// 16 for the tag; the first 9 are authenticated, too. The nonce is random; its first half is the sealed key's number.
#include "daemon/key_seal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/passphrase.h"
#include "sign/dkim_key.h"

#define FORM 1
#define HEAD 9
#define NONCE 12
#define TAG 16
#define PRIVATE_MAX (SIGN_SEALED_MAX - HEAD - NONCE - TAG)

// ---- the master key ------------------------------------------------------------------------------------

#define HEX_CHARS (2 * sizeof((struct key_master *)0)->key)

static int hex_value(char c)
{
    return ascii_is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int parse_master(const char text[HEX_CHARS], struct key_master *out)
{
    for (size_t i = 0; i < sizeof out->key; i++) {
        int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return E_SYNTAX;
        out->key[i] = (uint8_t)(high << 4 | low);
    }
    out->is_set = true;
    return OK;
}

static int read_master(const char *path, struct key_master *out)
{
    char text[HEX_CHARS + 2] = {0};
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); // a FIFO must not hang us
    if (fd == -1)
        return err_from_errno(errno);
    int err = fstat(fd, &st) == -1   ? E_IO
              : st.st_mode & 077     ? E_DENIED
              : S_ISFIFO(st.st_mode) ? E_SYNTAX
                                     : OK;
    ssize_t n = err ? 0 : read(fd, text, sizeof text);
    close(fd);
    if (!err && n == -1)
        err = E_IO;
    if (!err)
        err = n < (ssize_t)HEX_CHARS ? E_SYNTAX : parse_master(text, out);
    explicit_bzero(text, sizeof text);
    return err;
}

static int write_whole(int fd, const char *text, size_t len)
{
    return write(fd, text, len) == (ssize_t)len && fsync(fd) == 0 ? OK : E_IO;
}

// Whole or not at all, and never over one that is there.
static int make_master(const char *path)
{
    uint8_t key[sizeof((struct key_master *)0)->key];
    char text[HEX_CHARS + 2], temporary[4096];
    if (snprintf(temporary, sizeof temporary, "%s.%d", path, getpid()) >= (int)sizeof temporary)
        return E_LIMIT;
    if (RAND_bytes(key, sizeof key) != 1)
        return E_IO;
    for (size_t i = 0; i < sizeof key; i++)
        snprintf(text + 2 * i, 3, "%02x", key[i]);
    text[HEX_CHARS] = '\n';
    unlink(temporary);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    int err = fd == -1 ? err_from_errno(errno) : write_whole(fd, text, HEX_CHARS + 1);
    explicit_bzero(key, sizeof key);
    explicit_bzero(text, sizeof text);
    if (fd != -1)
        close(fd);
    if (!err && link(temporary, path) == -1 && errno != EEXIST)
        err = err_from_errno(errno);
    if (fd != -1)
        unlink(temporary);
    return err;
}

bool key_master_is_elsewhere(const char *path)
{
    char other[PATH_MAX];
    struct stat st;
    size_t len = strlen(path);
    return len > 4 && len < sizeof other && strcmp(path + len - 4, ".key") == 0 &&
           snprintf(other, sizeof other, "%.*s/.key", (int)len - 4, path) < (int)sizeof other &&
           lstat(other, &st) == 0;
}

const char *key_master_why(int err)
{
    switch (err) {
    case E_SYNTAX:
        return "it is not one";
    case E_DENIED:
        return "not readable, or others can read it, too";
    case E_EXISTS:
        return "it is not there, but .key in the state folder is: move that here";
    default:
        return err_text(err);
    }
}

int key_master_load(const char *path, bool make, struct key_master *out)
{
    *out = (struct key_master){0};
    int err = read_master(path, out);
    if (err == E_NOT_FOUND && make) {
        err = key_master_is_elsewhere(path) ? E_EXISTS : make_master(path);
        if (!err)
            err = read_master(path, out);
    }
    if (err)
        key_master_wipe(out);
    return err;
}

void key_master_wipe(struct key_master *master)
{
    explicit_bzero(master, sizeof *master);
}

uint64_t key_master_number(const struct key_master *master)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    uint64_t number;
    CHECK(EVP_Digest(master->key, sizeof master->key, digest, NULL, EVP_sha256(), NULL) == 1);
    memcpy(&number, digest, sizeof number);
    return number;
}

// ---- sealing -------------------------------------------------------------------------------------------

static void make_head(const struct key_master *master, unsigned char head[HEAD])
{
    uint64_t number = key_master_number(master);
    head[0] = FORM;
    memcpy(head + 1, &number, sizeof number);
}

static int seal(const struct key_master *master, struct bytes secret, struct buf *out)
{
    unsigned char head[HEAD], nonce[NONCE], tag[TAG], text[PRIVATE_MAX];
    int n = 0, rest = 0;
    make_head(master, head);
    if (secret.len > sizeof text || RAND_bytes(nonce, sizeof nonce) != 1)
        return E_IO;
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool good =
        ctx && EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, master->key, nonce) == 1 &&
        EVP_EncryptUpdate(ctx, NULL, &n, head, sizeof head) == 1 &&
        EVP_EncryptUpdate(ctx, text, &n, (const unsigned char *)secret.at, (int)secret.len) == 1 &&
        EVP_EncryptFinal_ex(ctx, text + n, &rest) == 1 &&
        EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG, tag) == 1;
    EVP_CIPHER_CTX_free(ctx);
    if (!good)
        return E_IO;
    buf_add(out, bytes_of(head, sizeof head));
    buf_add(out, bytes_of(nonce, sizeof nonce));
    buf_add(out, bytes_of(text, (size_t)n));
    buf_add(out, bytes_of(tag, sizeof tag));
    return out->err;
}

static int unseal(const struct key_master *master, struct bytes sealed,
                  unsigned char out[PRIVATE_MAX], size_t *out_len)
{
    unsigned char head[HEAD], tag[TAG];
    make_head(master, head);
    if (sealed.len <= HEAD + NONCE + TAG || sealed.len > SIGN_SEALED_MAX || sealed.at[0] != FORM)
        return E_DAMAGED;
    if (memcmp(sealed.at, head, HEAD) != 0)
        return E_DENIED;
    const unsigned char *at = (const unsigned char *)sealed.at;
    int n = 0, rest = 0, len = (int)(sealed.len - HEAD - NONCE - TAG);
    memcpy(tag, at + sealed.len - TAG, TAG);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    bool good = ctx &&
                EVP_DecryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, master->key, at + HEAD) == 1 &&
                EVP_DecryptUpdate(ctx, NULL, &n, head, sizeof head) == 1 &&
                EVP_DecryptUpdate(ctx, out, &n, at + HEAD + NONCE, len) == 1 &&
                EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG, tag) == 1 &&
                EVP_DecryptFinal_ex(ctx, out + n, &rest) == 1;
    EVP_CIPHER_CTX_free(ctx);
    *out_len = (size_t)n;
    return good ? OK : E_DAMAGED;
}

// ---- keys ----------------------------------------------------------------------------------------------

static int add_sealed(const struct key_master *master, EVP_PKEY *key, struct buf *out)
{
    unsigned char *der = NULL;
    int len = i2d_PrivateKey(key, &der);
    if (len <= 0)
        return E_IO;
    int err = seal(master, bytes_of(der, (size_t)len), out);
    OPENSSL_clear_free(der, (size_t)len);
    return err;
}

static int add_both(const struct key_master *master, EVP_PKEY *key, struct buf *out_record,
                    struct buf *out_sealed)
{
    int err = dkim_key_format(key, out_record);
    if (!err)
        err = add_sealed(master, key, out_sealed);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return err;
}

int key_make(const struct key_master *master, enum sign_kind kind, struct buf *out_record,
             struct buf *out_sealed)
{
    EVP_PKEY *key = kind == SIGN_MAKE_RSA ? EVP_RSA_gen(KEY_RSA_BITS)
                                          : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return key ? add_both(master, key, out_record, out_sealed) : E_IO;
}

static bool kind_of(EVP_PKEY *key, enum sign_kind *out)
{
    int type = EVP_PKEY_get_base_id(key), bits = EVP_PKEY_get_bits(key);
    *out = type == EVP_PKEY_RSA ? SIGN_RSA_PKCS1 : SIGN_ED25519;
    return type == EVP_PKEY_ED25519 ||
           (type == EVP_PKEY_RSA && bits >= KEY_RSA_BITS_MIN && bits <= KEY_RSA_BITS_MAX);
}

int key_import(const struct key_master *master, struct bytes pem, enum sign_kind *out_kind,
               struct buf *out_record, struct buf *out_sealed)
{
    BIO *bio = pem.len <= INT32_MAX ? BIO_new_mem_buf(pem.at, (int)pem.len) : NULL;
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    if (!key)
        return E_SYNTAX;
    if (!kind_of(key, out_kind)) {
        EVP_PKEY_free(key);
        return E_SYNTAX;
    }
    return add_both(master, key, out_record, out_sealed);
}

int key_open(const struct key_master *master, struct bytes sealed, EVP_PKEY **out)
{
    unsigned char der[PRIVATE_MAX];
    const unsigned char *at = der;
    size_t len = 0;
    *out = NULL;
    int err = master->is_set ? unseal(master, sealed, der, &len) : E_DENIED;
    if (!err && !(*out = d2i_AutoPrivateKey(NULL, &at, (long)len)))
        err = E_DAMAGED;
    explicit_bzero(der, sizeof der);
    ERR_clear_error();
    return err;
}
