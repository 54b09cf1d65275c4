// SPDX-License-Identifier: MIT
#include <errno.h>
#include <json-c/json.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/cli_commands.h"
#include "cli/cli_store.h"
#include "cli/cli_table.h"
#include "net/net_tls.h"
#include "route/route_file.h"
#include "store/store_password.h"
#include "store/store_proof.h"
#include "sys/sys.h"

#define CERTIFICATE_MAX ((size_t)1 << 20)

// A password and what the store keeps of it. Only the verifiers leave this process.
struct secret {
    struct buf password, verifier, scram;
    bool generated;
};

static void secret_done(struct secret *s)
{
    if (s->password.at)
        OPENSSL_cleanse(s->password.at, s->password.cap);
    buf_done(&s->password);
    buf_done(&s->verifier);
    buf_done(&s->scram);
}

static int generate(struct secret *s)
{
    uint8_t random[STORE_PASSWORD_RANDOM], salt[SASL_SCRAM_SALT_BYTES];
    char text[STORE_PASSWORD_CHARS + 1];
    sys_random(random, sizeof random);
    sys_random(salt, sizeof salt);
    store_password_generate(random, text);
    buf_add_cstr(&s->password, text);
    store_password_verifier_generated(bytes_cstr(text), &s->verifier);
    s->generated = true;
    return store_password_scram(bytes_cstr(text), salt, false, &s->scram) ? CLI_TEMPORARY : CLI_OK;
}

// The first line of standard input, without its end.
static int read_line(struct buf *out)
{
    char c;
    ssize_t n;
    while (out->len <= SASL_PASSWORD_MAX) {
        n = read(STDIN_FILENO, &c, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cli_fail(CLI_DATA, "cannot read the password from standard input");
        if (n == 0 || c == '\n')
            break;
        buf_add_byte(out, c);
    }
    if (out->len && out->at[out->len - 1] == '\r')
        buf_truncate(out, out->len - 1);
    return CLI_OK;
}

static int read_password(struct secret *s)
{
    uint8_t salt[SASL_SCRAM_SALT_BYTES];
    sys_random(salt, sizeof salt);
    int exit = read_line(&s->password);
    if (exit)
        return exit;
    switch (store_password_verifier_chosen(buf_bytes(&s->password), salt, &s->verifier)) {
    case 0:
        sys_random(salt, sizeof salt);
        return store_password_scram(buf_bytes(&s->password), salt, true, &s->scram) ? CLI_TEMPORARY
                                                                                    : CLI_OK;
    case E_LIMIT:
        return cli_fail(CLI_DATA, "a password has %d to 511 bytes; this one has %zu",
                        STORE_PASSWORD_MIN, s->password.len);
    case E_SYNTAX:
        return cli_fail(CLI_DATA, "a password is UTF-8 without control characters");
    default:
        return cli_fail(CLI_TEMPORARY, "the password could not be hashed");
    }
}

static int show_added(struct cli *cli, struct json_object *result, const struct secret *s)
{
    if (!s->generated)
        json_object_object_add(result, "password", NULL);
    else
        json_add_text(result, "password", buf_bytes(&s->password));
    if (cli->json)
        cli_print_json(result);
    else if (s->generated)
        printf("login     %.*s\npassword  %.*s\n"
               "The password is not kept and can't be shown again.\n",
               BYTES_FMT(json_find_text(result, "login")), BYTES_FMT(buf_bytes(&s->password)));
    else
        printf("login %.*s of account %.*s added\n", BYTES_FMT(json_find_text(result, "login")),
               BYTES_FMT(json_find_text(result, "account")));
    return CLI_OK;
}

static int add_credential(struct cli *cli, const struct secret *s)
{
    struct json_object *args = json_object_new_object(), *result;
    json_add_text(args, "account", cli_argument(cli, 0));
    json_add_text(args, "login", bytes_cstr(cli_value(cli, "login")));
    json_add_text(args, "verifier", buf_bytes(&s->verifier));
    if (s->scram.len)
        json_add_text(args, "scram", buf_bytes(&s->scram));
    int exit = cli_store_apply(cli, "credential.add", args, &result);
    if (!exit)
        exit = show_added(cli, result, s);
    json_object_put(result);
    return exit;
}

// ---- credentials without a password ------------------------------------------------------------------

static const struct {
    const char *option;
    enum store_proof proof;
} proofs[] = {{"network", STORE_PROOF_NETWORK},
              {"certificate", STORE_PROOF_CERTIFICATE},
              {"fingerprint", STORE_PROOF_CERTIFICATE},
              {"certificate-name", STORE_PROOF_NAME}};

// How many of the options that stand for one are given; *out_n is the last of them.
static int count_proofs(struct cli *cli, size_t *out_n)
{
    int count = 0;
    for (size_t n = 0; n < COUNT_OF(proofs); n++)
        if (cli_value(cli, proofs[n].option)) {
            count++;
            *out_n = n;
        }
    return count;
}

static int read_certificate(const char *path, struct buf *out_text)
{
    struct buf pem;
    uint8_t hash[32] = {0};
    buf_init(&pem, CERTIFICATE_MAX);
    int err = route_file_read(path, &pem), exit = CLI_OK;
    if (err)
        exit = cli_fail(cli_exit_of(err), "%s: %s", path, err_text(err));
    else if (net_tls_fingerprint(buf_bytes(&pem), hash))
        exit = cli_fail(CLI_DATA, "%s: this is no certificate in PEM", path);
    store_proof_format_hash(hash, out_text);
    buf_done(&pem);
    return exit;
}

// Arguments of the operation for the one option that is given.
static int take_proof(struct cli *cli, size_t n, struct json_object *args)
{
    struct buf login = {0};
    const char *value = cli_value(cli, proofs[n].option);
    bool is_file = strcmp(proofs[n].option, "certificate") == 0;
    int exit = is_file ? read_certificate(value, &login) : CLI_OK;
    if (is_file)
        json_add_text(args, "login", buf_bytes(&login));
    else
        json_add_text(args, store_proof_name(proofs[n].proof), bytes_cstr(value));
    buf_done(&login);
    return exit;
}

static int run_add_proof(struct cli *cli, size_t n)
{
    struct json_object *args = json_object_new_object(), *result;
    json_add_text(args, "account", cli_argument(cli, 0));
    int exit = take_proof(cli, n, args);
    if (exit) {
        json_object_put(args);
        return exit;
    }
    exit = cli_store_apply(cli, "credential.add", args, &result);
    if (exit)
        return exit;
    json_object_object_add(result, "password", NULL);
    if (cli->json)
        cli_print_json(result);
    else
        printf("%.*s is a credential of account %.*s\n", BYTES_FMT(json_find_text(result, "login")),
               BYTES_FMT(json_find_text(result, "account")));
    json_object_put(result);
    return CLI_OK;
}

static int run_add(struct cli *cli)
{
    struct secret secret = {0};
    size_t n = 0;
    int given = count_proofs(cli, &n);
    if (given && (given > 1 || cli_value(cli, "login") || cli_flag(cli, "generate") ||
                  cli_flag(cli, "password-stdin")))
        return cli_fail_usage(cli, "credential add: --%s stands alone", proofs[n].option);
    if (given)
        return run_add_proof(cli, n);
    if (!cli_value(cli, "login"))
        return cli_fail_usage(cli, "credential add: --login is missing");
    if (cli_flag(cli, "generate") == cli_flag(cli, "password-stdin"))
        return cli_fail_usage(cli, "credential add: give either --generate or --password-stdin");
    if (!cli_conf(cli)) // before anyone types a password
        return CLI_CONFIG;
    int exit = cli_flag(cli, "generate") ? generate(&secret) : read_password(&secret);
    if (!exit)
        exit = add_credential(cli, &secret);
    secret_done(&secret);
    return exit;
}

static int run_remove(struct cli *cli)
{
    struct json_object *args, *result;
    size_t n = 0;
    int given = count_proofs(cli, &n);
    if (given + (cli_value(cli, "login") != NULL) != 1)
        return cli_fail_usage(cli, "credential remove: give --login, or what stands for one");
    args = json_object_new_object();
    json_add_text(args, "account", cli_argument(cli, 0));
    int exit = given ? take_proof(cli, n, args) : CLI_OK;
    if (!given)
        json_add_text(args, "login", bytes_cstr(cli_value(cli, "login")));
    if (exit) {
        json_object_put(args);
        return exit;
    }
    exit = cli_store_apply(cli, "credential.remove", args, &result);
    if (exit)
        return exit;
    if (cli->json)
        cli_print_json(result);
    else
        printf("login %.*s removed\n", BYTES_FMT(json_find_text(result, "login")));
    json_object_put(result);
    return CLI_OK;
}

static void print_credentials(struct json_object *list)
{
    static const char *const headings[] = {"ACCOUNT", "LOGIN", "PASSWORD", "CREATED", NULL};
    struct cli_table table;
    cli_table_init(&table, headings);
    for (size_t i = 0; i < cli_json_count(list); i++) {
        struct json_object *credential = json_object_array_get_idx(list, i);
        cli_table_add(&table, json_find_text(credential, "account"));
        cli_table_add(&table, json_find_text(credential, "login"));
        struct bytes password = json_find_text(credential, "password");
        cli_table_add(&table, password.len ? password : BYTES("-"));
        cli_table_add(&table, json_find_text(credential, "created_at"));
    }
    cli_table_print(&table);
    cli_table_done(&table);
}

static int run_list(struct cli *cli)
{
    struct json_object *args = json_object_new_object(), *result, *list;
    if (cli->arguments_count)
        json_add_text(args, "account", cli_argument(cli, 0));
    int exit = cli_store_apply(cli, "credential.list", args, &result);
    if (exit)
        return exit;
    if (!json_object_object_get_ex(result, "credentials", &list))
        exit = cli_fail(CLI_TEMPORARY, "the answer has no credentials");
    else if (cli->json)
        for (size_t i = 0; i < cli_json_count(list); i++)
            cli_print_json(json_object_array_get_idx(list, i));
    else
        print_credentials(list);
    json_object_put(result);
    return exit;
}

static const struct cli_option add_options[] = {
    {"login", "LOGIN", "what clients log in as; unique among all accounts"},
    {"generate", NULL, "make a password and print it, this once"},
    {"password-stdin", NULL, "take the first line of standard input as the password"},
    {"network", "NETWORK", "instead: clients from there need no login, such as 192.0.2.0/24"},
    {"certificate", "FILE", "instead: clients with this TLS certificate, in PEM"},
    {"fingerprint", "SHA256", "the same by the fingerprint of the certificate or its public key"},
    {"certificate-name", "NAME", "instead: by a name in certificates of tls.client_authorities"},
    {NULL},
};
static const struct cli_option remove_options[] = {
    {"login", "LOGIN", "the login, as it is listed"}, {"network", "NETWORK", "the network"},
    {"certificate", "FILE", "the certificate"},       {"fingerprint", "SHA256", "the fingerprint"},
    {"certificate-name", "NAME", "the name"},         {NULL},
};

const struct cli_command cli_credential_add = {
    .name = "credential add",
    .arguments = "ACCOUNT",
    .help = "add a login to an account",
    .more =
        "A generated password has 160 random bits; one of your own is kept as yescrypt and as "
        "SCRAM\n"
        "key. A network or certificate has none: the listener's client_certificates says whether\n"
        "certificates are asked for, and whether they need AUTH EXTERNAL. Sender domains are\n"
        "checked as ever.\n",
    .options = add_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_add,
};
const struct cli_command cli_credential_list = {
    .name = "credential list",
    .arguments = "[ACCOUNT]",
    .help = "list the logins",
    .arguments_max = 1,
    .run = run_list,
};
const struct cli_command cli_credential_remove = {
    .name = "credential remove",
    .arguments = "ACCOUNT",
    .help = "remove a login",
    .options = remove_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_remove,
};
