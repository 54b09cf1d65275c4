// SPDX-License-Identifier: MIT
//
// How it works: each function reads its arguments, finds the account, compares what is with what
// should be, and writes only the difference; `changed` says whether there was one.
#include "store/store_ops.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"
#include "conf/conf_value.h"
#include "mail/envelope.h"
#include "smtp/sasl.h"
#include "store/store_proof.h"

#define TOKEN_MIN 16
#define TOKEN_MAX 64
#define VERIFIER_MAX 256

// ---- arguments ---------------------------------------------------------------------------------------

struct bytes store_call_text(struct store_call *call, const char *key)
{
    return json_find_text(call->op->args, key);
}

static bool arg_flag(struct store_call *call, const char *key)
{
    struct json_object *value = NULL;
    return call->op->args && json_object_object_get_ex(call->op->args, key, &value) &&
           json_object_is_type(value, json_type_boolean) && json_object_get_boolean(value);
}

int store_call_refuse(struct store_call *call, int err, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_add_visible(call->error, bytes_cstr(text), sizeof text);
    return err;
}

static int take_name(struct store_call *call, struct bytes *out)
{
    struct bytes text = store_call_text(call, "account");
    if (conf_value_name(text, &call->arena, out) == 0)
        return 0;
    return store_call_refuse(
        call, E_SYNTAX,
        "'%.*s' is no account name: letters, digits, '.', '_' and '-', starting with a "
        "letter or digit, at most %d",
        BYTES_FMT(bytes_first(text, 80)), CONF_NAME_MAX);
}

int store_call_domain(struct store_call *call, struct bytes *out)
{
    struct bytes text = store_call_text(call, "domain");
    if (conf_value_domain(text, &call->arena, out) == 0)
        return 0;
    return store_call_refuse(call, E_SYNTAX, "'%.*s' is no domain",
                             BYTES_FMT(bytes_first(text, 80)));
}

// What is wrong with a value; E_LIMIT can only be a network.
static int refuse_proof(struct store_call *call, enum store_proof proof, int err,
                        struct bytes value)
{
    static const char *const wanted[STORE_PROOFS] = {
        [STORE_PROOF_NETWORK] = "network, such as 192.0.2.0/24 or 2001:db8::/32",
        [STORE_PROOF_CERTIFICATE] =
            "SHA-256 fingerprint of a certificate or its key: 64 hexadecimal digits",
        [STORE_PROOF_NAME] = "name in certificates: a host name, a mail address or a common name"};
    if (err == E_LIMIT)
        return store_call_refuse(
            call, E_SYNTAX,
            "'%.*s' is too wide a network, at least /%d (IPv6: /%d) is needed, or has bits "
            "set behind its prefix",
            BYTES_FMT(bytes_first(value, 80)), STORE_NETWORK_BITS_MIN, STORE_NETWORK6_BITS_MIN);
    return store_call_refuse(call, E_SYNTAX, "'%.*s' is no %s", BYTES_FMT(bytes_first(value, 80)),
                             wanted[proof]);
}

static int take_proof(struct store_call *call, enum store_proof proof, struct bytes value,
                      struct bytes *out)
{
    struct buf text = {0};
    int err = store_proof_format(proof, value, &text);
    *out = arena_dup(&call->arena, buf_bytes(&text));
    buf_done(&text);
    return err ? refuse_proof(call, proof, err, value) : 0;
}

// The login, or what stands for one where there is no password: as an argument of its own, or as it is listed.
static int take_login(struct store_call *call, struct bytes *out)
{
    for (int i = STORE_PROOF_NETWORK; i < STORE_PROOFS; i++) {
        struct bytes value = store_call_text(call, store_proof_name((enum store_proof)i));
        if (value.len)
            return take_proof(call, (enum store_proof)i, value, out);
    }
    *out = store_call_text(call, "login");
    enum store_proof proof = store_proof_of(*out);
    if (proof != STORE_PROOF_NONE)
        return take_proof(call, proof, bytes_skip(*out, strlen(store_proof_name(proof)) + 1), out);
    if (sasl_name_is_valid(*out))
        return 0;
    return store_call_refuse(call, E_SYNTAX,
                             "a login is 1 to %d bytes of UTF-8 without control characters",
                             SASL_NAME_MAX);
}

// ---- accounts ----------------------------------------------------------------------------------------

#define ACCOUNT_COLUMNS "number, name, class, any_sender, state, created_at"

static void read_account(struct store_call *call, sqlite3_stmt *stmt, struct store_account_row *row)
{
    row->number = sqlite3_column_int64(stmt, 0);
    row->name = arena_dup(&call->arena, store_db_text(stmt, 1));
    row->class = arena_dup(&call->arena, store_db_text(stmt, 2));
    row->any_sender = sqlite3_column_int(stmt, 3) != 0;
    row->state = arena_dup(&call->arena, store_db_text(stmt, 4));
    row->created_at = sqlite3_column_int64(stmt, 5);
}

struct json_object *store_account_json(const struct store_account_row *row)
{
    struct json_object *object = json_object_new_object();
    struct buf at = {0};
    wall_format((struct wall){row->created_at}, &at);
    json_add_text(object, "account", row->name);
    json_object_object_add(object, "number", json_object_new_int64(row->number));
    json_add_text(object, "class", row->class);
    json_object_object_add(object, "any_sender", json_object_new_boolean(row->any_sender));
    json_add_text(object, "state", row->state);
    json_add_text(object, "created_at", buf_bytes(&at));
    buf_done(&at);
    return object;
}

// 0 and a row, or E_NOT_FOUND without a word.
static int look_account(struct store_call *call, struct bytes name, struct store_account_row *out)
{
    sqlite3_stmt *stmt;
    int err = store_db_start(call->store, &stmt,
                             "SELECT " ACCOUNT_COLUMNS " FROM account WHERE name = ?", "t", name);
    if (err)
        return err;
    err = store_db_step(stmt);
    if (err == 1)
        read_account(call, stmt, out);
    sqlite3_finalize(stmt);
    return err == 1 ? 0 : err ? err : E_NOT_FOUND;
}

int store_call_account(struct store_call *call, struct store_account_row *out)
{
    struct bytes name;
    int err = take_name(call, &name);
    if (!err)
        err = look_account(call, name, out);
    if (err == E_NOT_FOUND)
        store_call_refuse(call, err, "there is no account '%.*s'", BYTES_FMT(name));
    return err;
}

static bool is_closed(const struct store_account_row *row)
{
    return bytes_eq(row->state, BYTES("closed"));
}

// An account that may still change.
int store_call_open_account(struct store_call *call, struct store_account_row *out)
{
    int err = store_call_account(call, out);
    if (!err && is_closed(out))
        return store_call_refuse(call, E_DENIED, "account '%.*s' is closed, for ever",
                                 BYTES_FMT(out->name));
    return err;
}

static int count_rows(struct store_call *call, const char *sql, int64_t number, int64_t *out)
{
    sqlite3_stmt *stmt;
    int err = number ? store_db_start(call->store, &stmt, sql, "i", number)
                     : store_db_start(call->store, &stmt, sql, "");
    if (err)
        return err;
    err = store_db_step(stmt);
    *out = err == 1 ? sqlite3_column_int64(stmt, 0) : 0;
    sqlite3_finalize(stmt);
    return err < 0 ? err : 0;
}

static int account_is_same(struct store_call *call, const struct store_account_row *row,
                           struct bytes class, bool any_sender)
{
    if (!bytes_eq(row->class, class) || row->any_sender != any_sender || is_closed(row))
        return store_call_refuse(call, E_EXISTS, "there is already an account '%.*s' (%.*s, %.*s)",
                                 BYTES_FMT(row->name), BYTES_FMT(row->class),
                                 BYTES_FMT(row->state));
    call->out->result = store_account_json(row);
    return 0;
}

static int account_insert(struct store_call *call, struct bytes name, struct bytes class,
                          bool any_sender)
{
    int64_t count;
    int err = count_rows(call, "SELECT count(*) FROM account", 0, &count);
    if (!err && count >= STORE_ACCOUNTS_MAX)
        return store_call_refuse(call, E_LIMIT, "there are %d accounts already",
                                 STORE_ACCOUNTS_MAX);
    if (!err)
        err = store_db_run(call->store,
                           "INSERT INTO account (name, class, any_sender, state, created_at) "
                           "VALUES (?, ?, ?, 'active', ?)",
                           "ttii", name, class, (int64_t)any_sender, call->op->time.us);
    struct store_account_row row;
    if (!err)
        err = look_account(call, name, &row);
    if (err)
        return err;
    call->out->result = store_account_json(&row);
    call->out->changed = true;
    return 0;
}

static int account_add(struct store_call *call)
{
    struct bytes name, class = store_call_text(call, "class");
    enum mail_class parsed = MAIL_TRANSACTIONAL;
    int err = take_name(call, &name);
    if (err)
        return err;
    if (class.len && mail_class_parse(class, &parsed))
        return store_call_refuse(call, E_SYNTAX,
                                 "'%.*s' is no class: transactional, personal or bulk",
                                 BYTES_FMT(bytes_first(class, 40)));
    class = bytes_cstr(mail_class_name(parsed));
    bool any_sender = arg_flag(call, "any_sender");
    struct store_account_row row;
    err = look_account(call, name, &row);
    if (err == 0)
        return account_is_same(call, &row, class, any_sender);
    return err == E_NOT_FOUND ? account_insert(call, name, class, any_sender) : err;
}

static int set_state(struct store_call *call, struct store_account_row *row, const char *state)
{
    if (!bytes_eq(row->state, bytes_cstr(state))) {
        int err = store_db_run(call->store, "UPDATE account SET state = ? WHERE number = ?", "ti",
                               bytes_cstr(state), row->number);
        if (err)
            return err;
        row->state = bytes_cstr(state);
        call->out->changed = true;
    }
    call->out->result = store_account_json(row);
    return 0;
}

static int account_suspend(struct store_call *call)
{
    struct store_account_row row;
    int err = store_call_open_account(call, &row);
    return err ? err : set_state(call, &row, "suspended");
}

static int account_activate(struct store_call *call)
{
    struct store_account_row row;
    int err = store_call_open_account(call, &row);
    return err ? err : set_state(call, &row, "active");
}

static int account_close(struct store_call *call)
{
    struct store_account_row row;
    int err = store_call_account(call, &row);
    if (!err)
        err =
            store_db_run(call->store, "DELETE FROM credential WHERE account = ?", "i", row.number);
    if (!err)
        err = store_db_run(call->store, "DELETE FROM domain WHERE account = ?", "i", row.number);
    if (!err)
        err = store_db_run(call->store, "DELETE FROM account_options WHERE account = ?", "i",
                           row.number);
    if (!err)
        err = store_db_run(call->store, "DELETE FROM dkim_key WHERE account = ?", "i", row.number);
    return err ? err : set_state(call, &row, "closed");
}

static struct json_object *listing(struct store_call *call, const char *key)
{
    struct json_object *list = json_object_new_array();
    call->out->result = json_object_new_object();
    json_object_object_add(call->out->result, key, list);
    return list;
}

static int account_list(struct store_call *call)
{
    sqlite3_stmt *stmt;
    int err = store_db_start(call->store, &stmt,
                             "SELECT " ACCOUNT_COLUMNS " FROM account ORDER BY name", "");
    if (err)
        return err;
    struct json_object *list = listing(call, "accounts");
    while ((err = store_db_step(stmt)) == 1) {
        struct store_account_row row;
        read_account(call, stmt, &row);
        json_object_array_add(list, store_account_json(&row));
    }
    sqlite3_finalize(stmt);
    return err;
}

// ---- credentials -------------------------------------------------------------------------------------

struct credential_row {
    int64_t number;
    struct bytes account, verifier;
};

static int look_credential(struct store_call *call, struct bytes login, struct credential_row *out)
{
    sqlite3_stmt *stmt;
    int err = store_db_start(call->store, &stmt,
                             "SELECT a.number, a.name, c.verifier FROM credential c "
                             "JOIN account a ON a.number = c.account WHERE c.login = ?",
                             "t", login);
    if (err)
        return err;
    err = store_db_step(stmt);
    if (err == 1) {
        out->number = sqlite3_column_int64(stmt, 0);
        out->account = arena_dup(&call->arena, store_db_text(stmt, 1));
        out->verifier = arena_dup(&call->arena, store_db_text(stmt, 2));
    }
    sqlite3_finalize(stmt);
    return err == 1 ? 0 : err ? err : E_NOT_FOUND;
}

static bool is_hex(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!ascii_is_digit(text.at[i]) && (text.at[i] < 'a' || text.at[i] > 'f'))
            return false;
    return true;
}

// "sha256:" and 64 digits, or a yescrypt string; with or without a SCRAM key.
static int take_verifier(struct store_call *call, struct bytes login, struct bytes *out,
                         struct bytes *out_scram)
{
    struct sasl_scram_key key;
    *out = store_call_text(call, "verifier");
    *out_scram = store_call_text(call, "scram");
    if (store_proof_of(login) != STORE_PROOF_NONE && !out->len && !out_scram->len) {
        *out = login; // it proves itself
        return 0;
    }
    if (store_proof_of(login) != STORE_PROOF_NONE)
        return store_call_refuse(call, E_SYNTAX, "'%.*s' is no login with a password",
                                 BYTES_FMT(bytes_first(login, 80)));
    bool generated =
        bytes_starts(*out, BYTES("sha256:")) && out->len == 7 + 64 && is_hex(bytes_skip(*out, 7));
    bool chosen = bytes_starts(*out, BYTES("$y$")) && out->len <= VERIFIER_MAX &&
                  !bytes_has_control(*out, NULL);
    if (!generated && !chosen)
        return store_call_refuse(call, E_SYNTAX, "the verifier is neither sha256: nor yescrypt");
    if (out_scram->len && sasl_scram_key_parse(*out_scram, &key) != 0)
        return store_call_refuse(call, E_SYNTAX, "the SCRAM key is not in the form of RFC 5803");
    return 0;
}

static int credential_result(struct store_call *call, struct bytes account, struct bytes login)
{
    call->out->result = json_object_new_object();
    json_add_text(call->out->result, "account", account);
    json_add_text(call->out->result, "login", login);
    return 0;
}

static int credential_insert(struct store_call *call, const struct store_account_row *account,
                             struct bytes login, struct bytes verifier, struct bytes scram)
{
    int64_t count;
    int err = count_rows(call, "SELECT count(*) FROM credential WHERE account = ?", account->number,
                         &count);
    if (!err && count >= STORE_CREDENTIALS_MAX)
        return store_call_refuse(call, E_LIMIT, "account '%.*s' has %d credentials already",
                                 BYTES_FMT(account->name), STORE_CREDENTIALS_MAX);
    if (!err)
        err = store_db_run(call->store,
                           "INSERT INTO credential (login, account, verifier, scram, created_at) "
                           "VALUES (?, ?, ?, ?, ?)",
                           "titTi", login, account->number, verifier, scram, call->op->time.us);
    if (err)
        return err;
    call->out->changed = true;
    return credential_result(call, account->name, login);
}

static int credential_add(struct store_call *call)
{
    struct store_account_row account;
    struct credential_row row;
    struct bytes login, verifier, scram;
    int err = store_call_open_account(call, &account);
    if (!err)
        err = take_login(call, &login);
    if (!err)
        err = take_verifier(call, login, &verifier, &scram);
    if (err)
        return err;
    err = look_credential(call, login, &row);
    if (err == E_NOT_FOUND)
        return credential_insert(call, &account, login, verifier, scram);
    if (err)
        return err;
    if (row.number != account.number || !bytes_eq(row.verifier, verifier))
        return store_call_refuse(
            call, E_EXISTS,
            row.number == account.number
                ? "login '%.*s' exists already; remove it first to change its password"
                : "login '%.*s' belongs to another account",
            BYTES_FMT(login));
    return credential_result(call, account.name, login);
}

static int credential_remove(struct store_call *call)
{
    struct bytes login, owner = store_call_text(call, "account");
    struct credential_row row;
    int err = take_login(call, &login);
    if (err)
        return err;
    if (owner.len && (err = take_name(call, &owner)))
        return err;
    err = look_credential(call, login, &row);
    if (err == E_NOT_FOUND || (!err && owner.len && !bytes_eq(owner, row.account)))
        return store_call_refuse(call, E_NOT_FOUND, "there is no login '%.*s'%s%.*s",
                                 BYTES_FMT(login), owner.len ? " of account " : "",
                                 BYTES_FMT(owner));
    if (!err)
        err = store_db_run(call->store, "DELETE FROM credential WHERE login = ?", "t", login);
    if (err)
        return err;
    call->out->changed = true;
    return credential_result(call, row.account, login);
}

// The number of the account that a list is narrowed to, 0 for all.
static int take_filter(struct store_call *call, int64_t *out_number)
{
    struct store_account_row row = {0};
    int err = store_call_text(call, "account").len ? store_call_account(call, &row) : 0;
    *out_number = row.number;
    return err;
}

// null where there is none.
static void add_password(struct json_object *object, enum store_proof proof, struct bytes verifier)
{
    if (proof == STORE_PROOF_NONE)
        json_add_text(object, "password",
                      bytes_starts(verifier, BYTES("s")) ? BYTES("generated") : BYTES("chosen"));
    else
        json_object_object_add(object, "password", NULL);
}

static int credential_list(struct store_call *call)
{
    sqlite3_stmt *stmt;
    int64_t number;
    int err = take_filter(call, &number);
    if (!err)
        err = store_db_start(call->store, &stmt,
                             "SELECT a.name, c.login, c.verifier, "
                             "c.scram IS NOT NULL, c.created_at FROM credential c "
                             "JOIN account a ON a.number = c.account "
                             "WHERE ?1 = 0 OR c.account = ?1 ORDER BY a.name, c.login",
                             "i", number);
    if (err)
        return err;
    struct json_object *list = listing(call, "credentials");
    while ((err = store_db_step(stmt)) == 1) {
        struct json_object *object = json_object_new_object();
        struct buf at = {0};
        json_add_text(object, "account", store_db_text(stmt, 0));
        json_add_text(object, "login", store_db_text(stmt, 1));
        enum store_proof proof = store_proof_of(store_db_text(stmt, 1));
        add_password(object, proof, store_db_text(stmt, 2));
        json_object_object_add(object, "scram",
                               json_object_new_boolean(sqlite3_column_int(stmt, 3)));
        wall_format((struct wall){sqlite3_column_int64(stmt, 4)}, &at);
        json_add_text(object, "created_at", buf_bytes(&at));
        json_add_text(object, "kind", bytes_cstr(store_proof_name(proof)));
        buf_done(&at);
        json_object_array_add(list, object);
    }
    sqlite3_finalize(stmt);
    return err;
}

// ---- domains -----------------------------------------------------------------------------------------

struct domain_row {
    struct bytes account, name, token;
    bool verified, return_path;
};

#define DOMAIN_SELECT                                                                              \
    "SELECT a.name, d.name, d.token, d.verified_at IS NOT NULL, d.return_path_at IS NOT NULL "     \
    "FROM domain d "                                                                               \
    "JOIN account a ON a.number = d.account "

static void read_domain(struct store_call *call, sqlite3_stmt *stmt, struct domain_row *row)
{
    row->account = arena_dup(&call->arena, store_db_text(stmt, 0));
    row->name = arena_dup(&call->arena, store_db_text(stmt, 1));
    row->token = arena_dup(&call->arena, store_db_text(stmt, 2));
    row->verified = sqlite3_column_int(stmt, 3) != 0;
    row->return_path = sqlite3_column_int(stmt, 4) != 0;
}

static struct json_object *domain_json(struct store_call *call, const struct domain_row *row)
{
    struct json_object *object = json_object_new_object(), *record = json_object_new_object();
    struct json_object *records = json_object_new_array();
    json_add_text(object, "account", row->account);
    json_add_text(object, "domain", row->name);
    json_object_object_add(object, "verified", json_object_new_boolean(row->verified));
    json_object_object_add(object, "return_path", json_object_new_boolean(row->return_path));
    json_add_text(record, "name", arena_printf(&call->arena, "_posthaste.%s", row->name.at));
    json_add_text(record, "type", BYTES("TXT"));
    json_add_text(record, "value",
                  arena_printf(&call->arena, "posthaste-verification=%s", row->token.at));
    json_add_text(record, "purpose", BYTES("verification"));
    json_object_array_add(records, record);
    json_object_object_add(object, "records", records);
    return object;
}

static int look_domain(struct store_call *call, int64_t number, struct bytes name,
                       struct domain_row *out)
{
    sqlite3_stmt *stmt;
    int err = store_db_start(call->store, &stmt, DOMAIN_SELECT "WHERE d.account = ? AND d.name = ?",
                             "it", number, name);
    if (err)
        return err;
    err = store_db_step(stmt);
    if (err == 1)
        read_domain(call, stmt, out);
    sqlite3_finalize(stmt);
    return err == 1 ? 0 : err ? err : E_NOT_FOUND;
}

static int find_domain(struct store_call *call, struct store_account_row *account,
                       struct domain_row *out)
{
    struct bytes name;
    int err = store_call_open_account(call, account);
    if (!err)
        err = store_call_domain(call, &name);
    if (!err)
        err = look_domain(call, account->number, name, out);
    if (err == E_NOT_FOUND && !call->error->len)
        store_call_refuse(call, err, "account '%.*s' has no domain '%.*s'",
                          BYTES_FMT(account->name), BYTES_FMT(name));
    return err;
}

static int mark_verified(struct store_call *call, const struct store_account_row *account,
                         struct domain_row *row, bool trusted)
{
    if (row->verified)
        return 0;
    row->verified = true;
    call->out->changed = true;
    return store_db_run(call->store,
                        "UPDATE domain SET verified_at = ?, trusted = ? "
                        "WHERE account = ? AND name = ?",
                        "iiit", call->op->time.us, (int64_t)trusted, account->number, row->name);
}

static int take_token(struct store_call *call, struct bytes *out)
{
    *out = store_call_text(call, "token");
    for (size_t i = 0; i < out->len; i++)
        if (!ascii_is_alnum(out->at[i]))
            return store_call_refuse(call, E_SYNTAX, "a token is letters and digits");
    if (out->len < TOKEN_MIN || out->len > TOKEN_MAX)
        return store_call_refuse(call, E_SYNTAX, "a token has %d to %d characters", TOKEN_MIN,
                                 TOKEN_MAX);
    return 0;
}

static int domain_insert(struct store_call *call, const struct store_account_row *account,
                         struct bytes name, struct bytes token)
{
    int64_t count;
    int err =
        count_rows(call, "SELECT count(*) FROM domain WHERE account = ?", account->number, &count);
    if (!err && count >= STORE_DOMAINS_MAX)
        return store_call_refuse(call, E_LIMIT, "account '%.*s' has %d domains already",
                                 BYTES_FMT(account->name), STORE_DOMAINS_MAX);
    call->out->changed = true;
    return err ? err
               : store_db_run(call->store,
                              "INSERT INTO domain (account, name, token, trusted, created_at) "
                              "VALUES (?, ?, ?, 0, ?)",
                              "itti", account->number, name, token, call->op->time.us);
}

// A domain that the account has already keeps its token: the record may stand in the DNS by now.
static int domain_add(struct store_call *call)
{
    struct store_account_row account;
    struct bytes name, token;
    struct domain_row row;
    int err = store_call_open_account(call, &account);
    if (!err)
        err = store_call_domain(call, &name);
    if (!err)
        err = take_token(call, &token);
    if (err)
        return err;
    err = look_domain(call, account.number, name, &row);
    if (err == E_NOT_FOUND) {
        row = (struct domain_row){account.name, name, arena_dup(&call->arena, token), false, false};
        err = domain_insert(call, &account, name, token);
    }
    if (!err && arg_flag(call, "trust"))
        err = mark_verified(call, &account, &row, true);
    if (!err)
        call->out->result = domain_json(call, &row);
    return err;
}

static int domain_verified(struct store_call *call)
{
    struct store_account_row account;
    struct domain_row row;
    int err = find_domain(call, &account, &row);
    if (!err)
        err = mark_verified(call, &account, &row, false);
    if (!err)
        call->out->result = domain_json(call, &row);
    return err;
}

// Whether the domain's return path stands in the DNS, as the last look at it has found.
static int domain_return_path(struct store_call *call)
{
    struct store_account_row account;
    struct domain_row row;
    bool published = arg_flag(call, "published");
    int err = find_domain(call, &account, &row);
    if (!err && row.return_path != published) {
        row.return_path = published;
        call->out->changed = true;
        err = store_db_run(call->store,
                           "UPDATE domain SET return_path_at = ? WHERE account = ? AND name = ?",
                           "Iit", published ? call->op->time.us : 0, account.number, row.name);
    }
    if (!err)
        call->out->result = domain_json(call, &row);
    return err;
}

static int domain_remove(struct store_call *call)
{
    struct store_account_row account;
    struct domain_row row;
    int err = find_domain(call, &account, &row);
    if (!err)
        err = store_db_run(call->store, "DELETE FROM domain WHERE account = ? AND name = ?", "it",
                           account.number, row.name);
    if (!err)
        err = store_db_run(call->store, "DELETE FROM dkim_key WHERE account = ? AND domain = ?",
                           "it", account.number, row.name);
    if (err)
        return err;
    call->out->changed = true;
    call->out->result = json_object_new_object();
    json_add_text(call->out->result, "account", row.account);
    json_add_text(call->out->result, "domain", row.name);
    return 0;
}

static int list_domains(struct store_call *call, struct bytes only)
{
    sqlite3_stmt *stmt;
    int64_t number;
    int err = take_filter(call, &number);
    if (!err)
        err = store_db_start(call->store, &stmt,
                             DOMAIN_SELECT "WHERE (?1 = 0 OR d.account = ?1) "
                                           "AND (?2 = '' OR d.name = ?2) ORDER BY a.name, d.name",
                             "it", number, only);
    if (err)
        return err;
    struct json_object *list = listing(call, "domains");
    while ((err = store_db_step(stmt)) == 1) {
        struct domain_row row;
        read_domain(call, stmt, &row);
        json_object_array_add(list, domain_json(call, &row));
    }
    sqlite3_finalize(stmt);
    return err;
}

static int domain_list(struct store_call *call)
{
    return list_domains(call, BYTES_NONE);
}

static int domain_show(struct store_call *call)
{
    struct bytes name;
    struct json_object *list;
    int err = store_call_domain(call, &name);
    if (!err)
        err = list_domains(call, name);
    if (err)
        return err;
    json_object_object_get_ex(call->out->result, "domains", &list);
    if (!json_object_array_length(list))
        return store_call_refuse(call, E_NOT_FOUND, "no account has the domain '%.*s'",
                                 BYTES_FMT(name));
    return 0;
}

// ---- the table ---------------------------------------------------------------------------------------

static const struct store_op_row rows[] = {
    {"account.add", true, account_add},
    {"account.suspend", true, account_suspend},
    {"account.activate", true, account_activate},
    {"account.close", true, account_close},
    {"account.list", false, account_list},
    {"account.show", false, store_op_account_show},
    {"account.set", true, store_op_account_set},
    {"credential.add", true, credential_add},
    {"credential.remove", true, credential_remove},
    {"credential.list", false, credential_list},
    {"domain.add", true, domain_add},
    {"domain.verified", true, domain_verified},
    {"domain.return_path", true, domain_return_path},
    {"domain.remove", true, domain_remove},
    {"domain.list", false, domain_list},
    {"domain.show", false, domain_show},
    {"dkim.add", true, store_op_dkim_add},
    {"dkim.seen", true, store_op_dkim_seen},
    {"dkim.rotate", true, store_op_dkim_rotate},
    {"dkim.remove", true, store_op_dkim_remove},
    {"dkim.list", false, store_op_dkim_list},
    {"audit.list", false, store_op_audit_list},
};

const char *store_op_name(size_t n, bool *out_writes)
{
    if (n >= COUNT_OF(rows))
        return NULL;
    *out_writes = rows[n].writes;
    return rows[n].name;
}

const struct store_op_row *store_op_find(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (bytes_eq(bytes_cstr(rows[i].name), bytes_cstr(name)))
            return &rows[i];
    return NULL;
}
