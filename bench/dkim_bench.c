// SPDX-License-Identifier: MIT
//
// dkim_bench - what a DKIM signature costs to verify, and what its parts cost
//
//     dkim_bench [ROUNDS [BODY_BYTES]]
//
// Prints one JSON object of microseconds of processor time, the least of ROUNDS: verifying a message with an RSA-2048
// and with an Ed25519 signature, from the parsed header on, the key record being found in a zone in memory (warm DNS);
// the relaxed body hash; what is signed of a header, without the signature.
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "base/check.h"
#include "dns/dns_zone.h"
#include "sign/dkim_verify.h"

#define DOMAIN "example.com"
#define KEY_NAME "bench._domainkey." DOMAIN

struct subject {
    struct buf header, body;
    struct dns_zone *zone;
    uint8_t hash[DKIM_HASH_BYTES];
};

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void hash_body(struct subject *s)
{
    struct dkim_body b;
    dkim_body_init(&b, DKIM_RELAXED);
    dkim_body_feed(&b, buf_bytes(&s->body));
    dkim_body_finish(&b, s->hash);
}

static void start(struct subject *s, struct dkim_sign *out, enum dkim_algorithm algorithm)
{
    struct dkim_sign_want want = {BYTES(DOMAIN), BYTES("bench"), algorithm, s->hash, {0}};
    struct bytes header = buf_bytes(&s->header);
    CHECK(dkim_sign_start(out, &want, header) == OK);
}

static void start_signing(struct subject *s)
{
    struct dkim_sign signing;
    start(s, &signing, DKIM_RSA_SHA256);
    dkim_sign_done(&signing);
}

static void verify(struct subject *s)
{
    struct dkim_verify *v = dkim_verify_new(buf_bytes(&s->header), (struct wall){0});
    struct arena arena = {0};
    struct dns_answer answer;
    dkim_verify_body(v, buf_bytes(&s->body));
    dkim_verify_body_end(v);
    dns_zone_answer(s->zone, dkim_verify_key_name(v, 0), DNS_TXT, &arena, &answer);
    dkim_verify_key(v, 0, DKIM_KEY_FOUND, &answer.records[0].text, answer.count);
    CHECK(dkim_verify_verdict(v, 0)->result == DKIM_PASS);
    dkim_verify_free(v);
    arena_done(&arena);
}

// Signs the subject and publishes the key.
static void sign(struct subject *s, EVP_PKEY *key)
{
    enum dkim_algorithm algorithm;
    struct dkim_sign signing;
    struct buf signature = {0}, field = {0}, json = {0}, error = {0};
    hash_body(s);
    CHECK(dkim_sign_algorithm(key, &algorithm) == OK);
    start(s, &signing, algorithm);
    CHECK(dkim_sign_digest(key, signing.digest, &signature) == OK);
    dkim_sign_finish(&signing, buf_bytes(&signature), &field);
    buf_add(&field, buf_bytes(&s->header));
    buf_done(&s->header);
    s->header = field;
    buf_add_cstr(&json, "{\"" KEY_NAME "\": {\"TXT\": [\"");
    CHECK(dkim_key_format(key, &json) == OK);
    buf_add_cstr(&json, "\"]}}");
    CHECK(dns_zone_parse(buf_bytes(&json), &s->zone, &error) == OK);
    dkim_sign_done(&signing);
    buf_done(&signature);
    buf_done(&json);
    buf_done(&error);
}

static void make(struct subject *s, size_t body_bytes)
{
    *s = (struct subject){0};
    buf_add_cstr(
        &s->header,
        "Received: from a.example (192.0.2.1)\r\n\tby b.example; Sun, 22 Nov 2026 07:00:00 "
        "+0000\r\nFrom: Alice <alice@example.com>\r\nTo: bob@example.org\r\nSubject: what it "
        "costs\r\nDate: Sun, 22 Nov 2026 07:00:00 +0000\r\nMessage-ID: "
        "<1.2.3@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; "
        "charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n");
    while (s->body.len < body_bytes)
        buf_add_cstr(&s->body, "The quick brown fox jumps over the lazy dog, again and again.\r\n");
}

static double least(struct subject *s, int rounds, void (*what)(struct subject *s))
{
    double best = 1e12;
    for (int i = 0; i < rounds; i++) {
        double began = now_us();
        what(s);
        double took = now_us() - began;
        best = took < best ? took : best;
    }
    return best;
}

static double verifying(EVP_PKEY *key, int rounds, size_t body_bytes)
{
    struct subject s;
    make(&s, body_bytes);
    sign(&s, key);
    double best = least(&s, rounds, verify);
    dns_zone_free(s.zone);
    buf_done(&s.header);
    buf_done(&s.body);
    EVP_PKEY_free(key);
    return best;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 2000;
    size_t body_bytes = argc > 2 ? strtoul(argv[2], NULL, 10) : 4096;
    struct subject s;
    make(&s, body_bytes);
    double body = least(&s, rounds, hash_body), header = least(&s, rounds, start_signing);
    buf_done(&s.header);
    buf_done(&s.body);
    double rsa = verifying(EVP_RSA_gen(2048), rounds, body_bytes);
    double ed25519 = verifying(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), rounds, body_bytes);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"verify_rsa_us\":%.1f,\"verify_ed25519_us\":%.1f,\"body_hash_us\":%.1f,\"header_us\":"
           "%.1f,"
           "\"rss_peak_bytes\":%ld}\n",
           rsa, ed25519, body, header, used.ru_maxrss * 1024);
    return 0;
}
