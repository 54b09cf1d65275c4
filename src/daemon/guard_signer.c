// SPDX-License-Identifier: MIT
#include "daemon/guard_signer.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/passphrase.h"
#include "daemon/channel.h"
#include "daemon/signer_process.h"

void guard_signer_init(struct guard_signer *s)
{
    *s = (struct guard_signer){.channel = -1};
}

// ---- keys of certificates ------------------------------------------------------------------------------

static int fail(const char *what, char out_reason[NET_TLS_REASON])
{
    const char *why = ERR_reason_error_string(ERR_peek_error());
    snprintf(out_reason, NET_TLS_REASON, "%s: %.200s", what, why ? why : "unknown error");
    ERR_clear_error();
    return E_TLS;
}

static EVP_PKEY *read_key(struct bytes pem)
{
    BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return key;
}

static X509 *read_certificate(struct bytes pem)
{
    BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len);
    X509 *certificate = bio ? PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return certificate;
}

static struct guard_key *find_equal(struct guard_signer *s, EVP_PKEY *key)
{
    for (size_t i = 0; i < GUARD_SIGNER_KEYS; i++)
        if (s->keys[i].key && EVP_PKEY_eq(s->keys[i].key, key) == 1)
            return &s->keys[i];
    return NULL;
}

static struct guard_key *find_place(struct guard_signer *s)
{
    struct guard_key *oldest = &s->keys[0];
    for (size_t i = 0; i < GUARD_SIGNER_KEYS; i++)
        if (s->keys[i].used < oldest->used)
            oldest = &s->keys[i];
    EVP_PKEY_free(oldest->key);
    oldest->key = NULL;
    return oldest;
}

static void send_key(struct guard_signer *s, const struct guard_key *k)
{
    unsigned char *der = NULL;
    char number[16];
    int len = i2d_PrivateKey(k->key, &der);
    snprintf(number, sizeof number, "%u", k->number);
    if (len <= 0 || channel_send_contents(s->channel, CHANNEL_KEY, bytes_cstr(number),
                                          bytes_of(der, (size_t)len)) != OK)
        log_error("the signer does not take a key");
    if (len > 0)
        OPENSSL_clear_free(der, (size_t)len);
}

static uint32_t keep(struct guard_signer *s, EVP_PKEY *key)
{
    struct guard_key *k = find_equal(s, key);
    if (k) {
        EVP_PKEY_free(key);
    } else {
        k = find_place(s);
        k->key = key;
        k->number = ++s->last_number;
        if (s->channel != -1)
            send_key(s, k);
    }
    k->used = ++s->uses;
    return k->number;
}

void guard_signer_hold(struct guard_signer *s, uint32_t number)
{
    for (size_t i = 0; number && i < GUARD_SIGNER_KEYS; i++) {
        struct guard_key *k = &s->keys[i];
        if (k->number != number || !k->key)
            continue;
        k->used = ++s->uses;
        if (s->channel != -1)
            send_key(s, k);
    }
}

int guard_signer_add(struct guard_signer *s, struct bytes certificate_pem, struct bytes key_pem,
                     uint32_t *out_number, char out_reason[NET_TLS_REASON])
{
    ERR_clear_error();
    if (certificate_pem.len > INT32_MAX || key_pem.len > INT32_MAX)
        return fail("file", out_reason);
    X509 *certificate = read_certificate(certificate_pem);
    if (!certificate)
        return fail("certificate", out_reason);
    EVP_PKEY *key = read_key(key_pem);
    int type = key ? EVP_PKEY_get_base_id(key) : 0;
    bool good = key && X509_check_private_key(certificate, key) == 1;
    X509_free(certificate);
    if (good && ((type != EVP_PKEY_RSA && type != EVP_PKEY_EC) ||
                 EVP_PKEY_get_size(key) > SIGN_INPUT_MAX)) {
        snprintf(out_reason, NET_TLS_REASON,
                 "key: only RSA of at most 8192 bits and ECDSA are supported");
        EVP_PKEY_free(key);
        return E_TLS;
    }
    if (!good) {
        EVP_PKEY_free(key);
        return fail("key", out_reason);
    }
    *out_number = keep(s, key);
    return OK;
}

void guard_signer_done(struct guard_signer *s)
{
    for (size_t i = 0; i < GUARD_SIGNER_KEYS; i++)
        EVP_PKEY_free(s->keys[i].key); // OpenSSL wipes private numbers
    guard_signer_gone(s);
}

// ---- the process ---------------------------------------------------------------------------------------

static void load_master(const char *path, struct key_master *out)
{
    int err = key_master_load(path, true, out);
    if (err)
        log_error("no master key: DKIM can't be signed", LOG_CSTR("file", path),
                  LOG_CSTR("because", key_master_why(err)));
}

static _Noreturn void become_signer(struct guard_signer *s, int channel, struct key_master *master,
                                    pid_t guard_pid)
{
    if (s->channel != -1)
        close(s->channel);
    s->channel = -1;
    for (size_t i = 0; i < GUARD_SIGNER_KEYS; i++)
        EVP_PKEY_free(s->keys[i].key); // it gets them as it gets later ones
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // after setuid, which clears it
    if (getppid() != guard_pid)
        _exit(EX_TEMPFAIL);
    signer_process_main(channel, master);
}

int guard_signer_start(struct guard_signer *s, const char *master_file, void (*prepare)(void *ctx),
                       void *ctx)
{
    struct key_master master;
    int fds[2];
    int err = channel_pair(fds);
    if (err)
        return err;
    load_master(master_file, &master);
    pid_t guard_pid = getpid(), pid = fork();
    if (pid == 0) {
        close(fds[0]);
        prepare(ctx);
        become_signer(s, fds[1], &master, guard_pid);
    }
    key_master_wipe(&master);
    close(fds[1]);
    if (pid == -1) {
        close(fds[0]);
        return E_IO;
    }
    s->pid = pid;
    s->channel = fds[0];
    for (size_t i = 0; i < GUARD_SIGNER_KEYS; i++)
        if (s->keys[i].key)
            send_key(s, &s->keys[i]);
    return OK;
}

void guard_signer_gone(struct guard_signer *s)
{
    if (s->channel != -1)
        close(s->channel);
    s->channel = -1;
    s->pid = 0;
}

void guard_signer_stop(struct guard_signer *s)
{
    if (s->pid) {
        kill(s->pid, SIGKILL);
        while (waitpid(s->pid, NULL, 0) == -1 && errno == EINTR)
            ;
    }
    guard_signer_gone(s);
}

void guard_signer_add_line(struct guard_signer *s, int fd)
{
    if (s->channel != -1)
        (void)!channel_send(s->channel, CHANNEL_SIGN, BYTES_NONE, fd);
    close(fd);
}
