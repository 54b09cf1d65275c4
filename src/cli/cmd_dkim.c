// SPDX-License-Identifier: MIT
#include <errno.h>
#include <json-c/json.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/passphrase.h"
#include "cli/cli_commands.h"
#include "cli/cli_mail.h"
#include "cli/cli_store.h"
#include "dns/dns_query.h"
#include "mail/mail_text.h"
#include "sign/dkim_verify.h"

#define KEY_TIMEOUT_MS 10000

// --now UNIXTIME, or the clock.
static int read_now(struct cli *cli, struct wall *out)
{
    const char *text = cli_value(cli, "now");
    uint64_t seconds = (uint64_t)time(NULL);
    if (text && bytes_to_u64(bytes_cstr(text), INT64_MAX / 1000000, &seconds) != OK)
        return cli_fail_usage(cli, "--now: '%s' is no time in seconds since 1970", text);
    out->us = (int64_t)seconds * 1000000;
    return CLI_OK;
}

// ---- verify -------------------------------------------------------------------------------------

static int open_resolver(struct cli *cli, struct dns_resolver *out)
{
    const char *zone = cli_value(cli, "zone");
    struct dns_conf dns = {0};
    struct buf error = {0};
    if (!zone) {
        const struct conf *conf = cli_conf(cli);
        if (!conf)
            return CLI_CONFIG;
        dns.servers = conf->dns.servers;
        dns.server_count = conf->dns.servers_count;
        dns.trust_anchor = conf->dns.trust_anchor.len ? conf->dns.trust_anchor.at : NULL;
    }
    int err = dns_resolver_open(&dns, zone, out, &error), exit = CLI_OK;
    if (err && zone)
        exit = cli_fail(cli_exit_of(err), "--zone %s: %s", zone, buf_cstr(&error));
    else if (err)
        exit = cli_fail(CLI_CONFIG, "%s", buf_cstr(&error));
    buf_done(&error);
    return exit;
}

static enum dkim_key_lookup lookup_of(enum dns_code code)
{
    return code == DNS_OK                               ? DKIM_KEY_FOUND
           : code == DNS_NODATA || code == DNS_NXDOMAIN ? DKIM_KEY_ABSENT
                                                        : DKIM_KEY_UNAVAILABLE;
}

static void give_key(struct dkim_verify *v, size_t i, const struct dns_answer *answer)
{
    struct bytes texts[DKIM_KEYS_MAX];
    size_t count = 0;
    for (size_t k = 0; k < answer->count && count < COUNT_OF(texts); k++)
        texts[count++] = answer->records[k].text;
    dkim_verify_key(v, i, lookup_of(answer->code), texts, count);
}

// Looks up all keys at once.
static int give_keys(struct cli *cli, struct dkim_verify *v)
{
    struct dns_question questions[DKIM_SIGNATURES_MAX] = {0};
    size_t asked[DKIM_SIGNATURES_MAX], count = 0;
    struct dns_resolver resolver;
    for (size_t i = 0; i < dkim_verify_count(v); i++) {
        struct bytes name = dkim_verify_key_name(v, i);
        if (!name.len)
            continue;
        asked[count] = i;
        questions[count++] = (struct dns_question){.name = name, .type = DNS_TXT};
    }
    int exit = count ? open_resolver(cli, &resolver) : CLI_OK;
    if (exit || !count)
        return exit;
    dns_query_wait(resolver.dns, questions, count, KEY_TIMEOUT_MS, &cli->arena);
    dns_resolver_close(&resolver);
    for (size_t i = 0; i < count; i++)
        give_key(v, asked[i], &questions[i].answer);
    return CLI_OK;
}

static void add_text(struct json_object *object, const char *key, struct bytes text)
{
    struct buf repaired = {0};
    mail_utf8_repair(text, &repaired);
    json_add_text(object, key, buf_bytes(&repaired));
    buf_done(&repaired);
}

static struct json_object *verdict_json(const struct dkim_verdict *verdict)
{
    struct json_object *object = json_object_new_object();
    add_text(object, "domain", verdict->domain);
    add_text(object, "selector", verdict->selector);
    add_text(object, "algorithm", verdict->algorithm);
    add_text(object, "result", bytes_cstr(dkim_result_text(verdict->result)));
    add_text(object, "reason", bytes_cstr(verdict->reason));
    return object;
}

static void print_verdicts_json(const struct dkim_verify *v)
{
    struct json_object *object = json_object_new_object(), *list = json_object_new_array();
    for (size_t i = 0; i < dkim_verify_count(v); i++)
        json_object_array_add(list, verdict_json(dkim_verify_verdict(v, i)));
    json_object_object_add(object, "signatures", list);
    cli_print_json(object);
    json_object_put(object);
}

static void print_verdicts(const struct dkim_verify *v)
{
    struct buf out = {0};
    for (size_t i = 0; i < dkim_verify_count(v); i++) {
        const struct dkim_verdict *verdict = dkim_verify_verdict(v, i);
        buf_printf(&out, "%-9s  domain ", dkim_result_text(verdict->result));
        buf_add_escaped(&out, verdict->domain, 253);
        buf_add_cstr(&out, ", selector ");
        buf_add_escaped(&out, verdict->selector, 253);
        buf_add_cstr(&out, ", ");
        buf_add_escaped(&out, verdict->algorithm, 64);
        if (verdict->reason[0])
            buf_printf(&out, ": %s", verdict->reason);
        if (verdict->is_testing)
            buf_add_cstr(&out, " (the domain is only testing)");
        buf_add_byte(&out, '\n');
    }
    if (!out.len)
        buf_add_cstr(&out, "no signatures\n");
    fputs(buf_cstr(&out), stdout);
    buf_done(&out);
}

static int run_verify(struct cli *cli)
{
    struct cli_mail mail;
    struct wall now;
    int exit = read_now(cli, &now);
    if (!exit)
        exit = cli_mail_read(&mail);
    if (exit)
        return exit;
    struct dkim_verify *v = dkim_verify_new(mail.header, now);
    dkim_verify_body(v, mail.body);
    dkim_verify_body_end(v);
    exit = give_keys(cli, v);
    if (!exit && cli->json)
        print_verdicts_json(v);
    else if (!exit)
        print_verdicts(v);
    dkim_verify_free(v);
    cli_mail_done(&mail);
    return exit;
}

static const struct cli_option verify_options[] = {
    {"zone", "FILE", "answer DNS questions from this JSON file"},
    {"now", "UNIXTIME", "judge as if it were this time, in seconds since 1970"},
    {NULL},
};

const struct cli_command cli_dkim_verify = {
    .name = "dkim verify",
    .help = "judge the DKIM signatures of a message on standard input",
    .more = "posthaste dkim verify < MESSAGE\n"
            "One line a signature: pass, fail, neutral, policy, temperror or permerror, and why.\n"
            "Exit code 0 whatever the verdict; 65: standard input is no message.\n"
            "A message without any CRLF is read with LF as CRLF. --zone FILE:\n"
            "  {\"sel._domainkey.example.com\": {\"TXT\": [\"v=DKIM1; p=...\"]}}\n",
    .options = verify_options,
    .run = run_verify,
};

// ---- sign ---------------------------------------------------------------------------------------

static int read_key(struct cli *cli, EVP_PKEY **out, enum dkim_algorithm *out_algorithm)
{
    const char *path = cli_value(cli, "key");
    FILE *file = fopen(path, "re");
    if (!file)
        return cli_fail(cli_exit_of(err_from_errno(errno)), "--key %s: %s", path,
                        err_text(err_from_errno(errno)));
    *out = PEM_read_PrivateKey(file, NULL, no_passphrase, NULL);
    fclose(file);
    if (!*out)
        return cli_fail(CLI_DATA, "--key %s: no private key in PEM without a passphrase", path);
    int exit = CLI_OK;
    if (dkim_sign_algorithm(*out, out_algorithm) != OK)
        exit = cli_fail(CLI_DATA, "--key %s: neither an RSA nor an Ed25519 key", path);
    else if (*out_algorithm == DKIM_RSA_SHA256 && EVP_PKEY_get_bits(*out) < DKIM_RSA_BITS_MIN)
        exit = cli_fail(CLI_DATA, "--key %s: an RSA key has at least %d bits", path,
                        DKIM_RSA_BITS_MIN);
    if (exit)
        EVP_PKEY_free(*out);
    return exit;
}

static void hash_body(struct bytes body, uint8_t out[DKIM_HASH_BYTES])
{
    struct dkim_body b;
    dkim_body_init(&b, DKIM_RELAXED);
    dkim_body_feed(&b, body);
    dkim_body_finish(&b, out);
}

static int sign(struct cli *cli, EVP_PKEY *key, struct dkim_sign_want *want,
                const struct cli_mail *mail, struct buf *out_field)
{
    uint8_t hash[DKIM_HASH_BYTES];
    struct dkim_sign s;
    struct buf signature = {0};
    int exit = CLI_OK;
    want->domain = bytes_cstr(cli_value(cli, "domain"));
    want->selector = bytes_cstr(cli_value(cli, "selector"));
    want->body_hash = hash;
    hash_body(mail->body, hash);
    int err = dkim_sign_start(&s, want, mail->header);
    if (!err)
        err = dkim_sign_digest(key, s.digest, &signature);
    if (!err)
        dkim_sign_finish(&s, buf_bytes(&signature), out_field);
    else if (err == E_SYNTAX)
        exit = cli_fail(CLI_DATA, "the message has no From field");
    else
        exit = cli_fail(CLI_DATA, "the message can't be signed: %s", err_text(err));
    dkim_sign_done(&s);
    buf_done(&signature);
    return exit;
}

static void print_signed(struct cli *cli, const struct cli_mail *mail, struct bytes field)
{
    if (cli->json) {
        struct json_object *object = json_object_new_object();
        json_add_text(object, "field", field);
        cli_print_json(object);
        json_object_put(object);
        return;
    }
    cli_mail_write(mail, field);
    if (!cli_flag(cli, "header-only"))
        cli_mail_write(mail, buf_bytes(&mail->text));
}

static int check_names(struct cli *cli)
{
    static const char *const needed[] = {"domain", "selector", "key"};
    for (size_t i = 0; i < COUNT_OF(needed); i++) {
        const char *value = cli_value(cli, needed[i]);
        if (!value)
            return cli_fail_usage(cli, "--%s is missing", needed[i]);
        if (i < 2 && !dkim_name_is_valid(bytes_cstr(value)))
            return cli_fail_usage(cli, "--%s: '%s' is no name", needed[i], value);
    }
    return CLI_OK;
}

static int run_sign(struct cli *cli)
{
    struct dkim_sign_want want = {0};
    struct cli_mail mail;
    struct buf field = {0};
    EVP_PKEY *key;
    int exit = check_names(cli);
    if (!exit)
        exit = read_now(cli, &want.now);
    if (!exit)
        exit = read_key(cli, &key, &want.algorithm);
    if (exit)
        return exit;
    exit = cli_mail_read(&mail);
    if (!exit) {
        exit = sign(cli, key, &want, &mail, &field);
        if (!exit)
            print_signed(cli, &mail, buf_bytes(&field));
        cli_mail_done(&mail);
    }
    buf_done(&field);
    EVP_PKEY_free(key);
    return exit;
}

static const struct cli_option sign_options[] = {
    {"domain", "DOMAIN", "d=: whose signature it is (an A-label)"},
    {"selector", "SELECTOR", "s=: the key's record stands at SELECTOR._domainkey.DOMAIN"},
    {"key", "PEM", "file with the private key, RSA or Ed25519, in PEM"},
    {"header-only", NULL, "print the DKIM-Signature field, not the message below it"},
    {"now", "UNIXTIME", "t=: sign as if it were this time, in seconds since 1970"},
    {NULL},
};

const struct cli_command cli_dkim_sign = {
    .name = "dkim sign",
    .help = "print the message on standard input with a DKIM signature on top",
    .more = "posthaste dkim sign --domain D --selector S --key PEM < MESSAGE\n"
            "Exit code 65: standard input is no message, or the key does not do.\n"
            "A message without any CRLF is signed with LF as CRLF and printed with LF.\n",
    .options = sign_options,
    .no_config = true,
    .run = run_sign,
};
