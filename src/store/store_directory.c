// SPDX-License-Identifier: MIT
#include "store/store_directory.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/map.h"
#include "conf/conf_value.h"
#include "net/sign_port.h"
#include "store/store_db.h"
#include "store/store_proof.h"

#define DOMAIN_KEY_MAX 260 // account number, domain

struct store_directory {
    struct arena arena;
    uint64_t version;
    struct store_account *accounts; // by number
    uint32_t accounts_count;
    struct map by_name;     // name -> struct store_account
    struct map credentials; // login -> struct store_credential, those with a password
    struct map proofs;      // login -> the same, those without
    struct map networks;    // struct network_key -> the same
    uint8_t
        prefixes[2]
                [129];  // of IPv4 and IPv6: 1 where there is a network with a prefix of that length
    struct map domains; // "NUMBER DOMAIN" -> a domain_marks entry
    struct map dkim;    // "NUMBER DOMAIN" -> struct store_dkim; "NUMBER ": the account has some
};

struct domain_mark {
    enum store_domain_state state;
    bool return_path;
};
// By state and return path: the map's values, so that a domain costs its key only.
static struct domain_mark domain_marks[][2] = {
    {{STORE_DOMAIN_FOREIGN, false}, {STORE_DOMAIN_FOREIGN, true}},
    {{STORE_DOMAIN_UNVERIFIED, false}, {STORE_DOMAIN_UNVERIFIED, true}},
    {{STORE_DOMAIN_VERIFIED, false}, {STORE_DOMAIN_VERIFIED, true}},
};

static const char *const state_names[] = {"active", "suspended", "closed"};

const char *store_account_state_name(enum store_account_state state)
{
    CHECK(state <= STORE_CLOSED);
    return state_names[state];
}

static int parse_state(struct bytes text, enum store_account_state *out)
{
    for (uint32_t i = 0; i < COUNT_OF(state_names); i++)
        if (bytes_eq(text, bytes_cstr(state_names[i]))) {
            *out = (enum store_account_state)i;
            return 0;
        }
    return E_DAMAGED;
}

// Runs `each` on all rows.
static int each_row(struct store *store, struct store_directory *dir, const char *sql,
                    int (*each)(struct store_directory *dir, sqlite3_stmt *stmt))
{
    sqlite3_stmt *stmt;
    int err = store_db_start(store, &stmt, sql, "");
    if (err)
        return err;
    while ((err = store_db_step(stmt)) == 1)
        if ((err = each(dir, stmt)) != 0)
            break;
    sqlite3_finalize(stmt);
    return err;
}

// ---- loading -----------------------------------------------------------------------------------------

static int take_count(struct store_directory *dir, sqlite3_stmt *stmt)
{
    int64_t count = sqlite3_column_int64(stmt, 0);
    if (count < 0 || count > STORE_ACCOUNTS_MAX)
        return E_DAMAGED;
    dir->accounts = arena_new(&dir->arena, ((size_t)count + 1) * sizeof *dir->accounts);
    dir->accounts_count = (uint32_t)count;
    return 0;
}

// Rows come in the order of their numbers; `filled` is kept in the array's spare last entry.
static int take_account(struct store_directory *dir, sqlite3_stmt *stmt)
{
    uint32_t *filled = &dir->accounts[dir->accounts_count].number;
    CHECK(*filled < dir->accounts_count);
    struct store_account *a = &dir->accounts[*filled];
    int64_t number = sqlite3_column_int64(stmt, 0);
    if (number < 1 || number > UINT32_MAX || mail_class_parse(store_db_text(stmt, 2), &a->class) ||
        parse_state(store_db_text(stmt, 4), &a->state))
        return E_DAMAGED;
    a->number = (uint32_t)number;
    a->name = arena_dup(&dir->arena, store_db_text(stmt, 1));
    a->any_sender = sqlite3_column_int(stmt, 3) != 0;
    for (uint32_t i = 0; i < STORE_OPTIONS_COUNT; i++)
        a->options[i] = store_option_row((enum store_option)i)->default_value;
    map_set(&dir->by_name, a->name, a);
    ++*filled;
    return 0;
}

static struct store_account *find_number(const struct store_directory *dir, uint32_t number)
{
    uint32_t low = 0, high = dir->accounts_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (dir->accounts[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < dir->accounts_count && dir->accounts[low].number == number;
    return found ? &dir->accounts[low] : NULL;
}

static int take_option(struct store_directory *dir, sqlite3_stmt *stmt)
{
    struct store_account *a = find_number(dir, (uint32_t)sqlite3_column_int64(stmt, 0));
    enum store_option option;
    if (!a || store_option_find(store_db_text(stmt, 1), &option) != 0 ||
        store_option_parse(option, store_db_text(stmt, 2), &a->options[option]) != 0)
        return E_DAMAGED;
    return 0;
}

static int parse_hex(struct bytes text, uint8_t *out, size_t count)
{
    if (text.len != 2 * count)
        return E_DAMAGED;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (!ascii_is_digit(c) && (c < 'a' || c > 'f'))
            return E_DAMAGED;
        uint8_t nibble = (uint8_t)(ascii_is_digit(c) ? c - '0' : c - 'a' + 10);
        out[i / 2] = (uint8_t)(out[i / 2] << 4 | nibble);
    }
    return 0;
}

struct network_key {
    uint8_t ip6, bits, ip[16];
};

static struct network_key network_key(const uint8_t *ip, bool ip6, uint8_t bits)
{
    struct network_key key = {.ip6 = ip6, .bits = bits};
    memcpy(key.ip, ip, bits / 8);
    if (bits % 8)
        key.ip[bits / 8] = (uint8_t)(ip[bits / 8] & (0xff00 >> bits % 8));
    return key;
}

static int take_proof(struct store_directory *dir, enum store_proof proof,
                      struct store_credential *c)
{
    map_set(&dir->proofs, c->login, c);
    if (proof != STORE_PROOF_NETWORK)
        return 0;
    struct conf_cidr cidr;
    ptrdiff_t colon = bytes_find(c->login, ':');
    if (conf_value_cidr(bytes_skip(c->login, (size_t)colon + 1), &cidr))
        return E_DAMAGED;
    struct network_key *key = arena_new(&dir->arena, sizeof *key);
    *key = network_key(cidr.ip, cidr.ip6, cidr.bits);
    dir->prefixes[cidr.ip6][cidr.bits] = 1;
    map_set(&dir->networks, bytes_of(key, sizeof *key), c);
    return 0;
}

static int take_credential(struct store_directory *dir, sqlite3_stmt *stmt)
{
    struct store_credential *c = arena_new(&dir->arena, sizeof *c);
    struct bytes verifier = store_db_text(stmt, 2), scram = store_db_text(stmt, 3);
    c->login = arena_dup(&dir->arena, store_db_text(stmt, 0));
    c->account = store_directory_account_number(dir, (uint32_t)sqlite3_column_int64(stmt, 1));
    if (!c->account)
        return E_DAMAGED;
    c->mark = map_hash(verifier);
    enum store_proof proof = store_proof_of(c->login);
    if (proof != STORE_PROOF_NONE && bytes_eq(verifier, c->login))
        return take_proof(dir, proof, c);
    if (bytes_starts(verifier, BYTES("$y$")))
        c->crypt = arena_dup(&dir->arena, verifier);
    else if (!bytes_starts(verifier, BYTES("sha256:")) ||
             parse_hex(bytes_skip(verifier, 7), c->sha256, sizeof c->sha256))
        return E_DAMAGED;
    if (scram.len) {
        struct sasl_scram_key *key = arena_new(&dir->arena, sizeof *key);
        if (sasl_scram_key_parse(scram, key))
            return E_DAMAGED;
        c->scram = key;
    }
    map_set(&dir->credentials, c->login, c);
    return 0;
}

static struct bytes domain_key(uint32_t number, struct bytes domain, char out[DOMAIN_KEY_MAX])
{
    if (domain.len > DOMAIN_KEY_MAX - sizeof number)
        return BYTES_NONE;
    memcpy(out, &number, sizeof number);
    if (domain.len)
        memcpy(out + sizeof number, domain.at, domain.len);
    return bytes_of(out, sizeof number + domain.len);
}

static int take_domain(struct store_directory *dir, sqlite3_stmt *stmt)
{
    char text[DOMAIN_KEY_MAX];
    struct bytes key =
        domain_key((uint32_t)sqlite3_column_int64(stmt, 0), store_db_text(stmt, 1), text);
    bool verified = sqlite3_column_int(stmt, 2) != 0;
    bool return_path = sqlite3_column_int(stmt, 3) != 0;
    if (!key.len)
        return E_DAMAGED;
    map_set(&dir->domains, key,
            &domain_marks[verified ? STORE_DOMAIN_VERIFIED : STORE_DOMAIN_UNVERIFIED][return_path]);
    return 0;
}

// By account and domain, and by the account alone that it has any.
static struct store_dkim *dkim_of(struct store_directory *dir, uint32_t account,
                                  struct bytes domain)
{
    char text[DOMAIN_KEY_MAX];
    struct bytes key = domain_key(account, domain, text);
    struct store_dkim *dkim = map_find(&dir->dkim, key);
    if (!dkim) {
        dkim = arena_new(&dir->arena, sizeof *dkim);
        map_set(&dir->dkim, key, dkim);
    }
    return dkim;
}

static int take_dkim(struct store_directory *dir, sqlite3_stmt *stmt)
{
    uint32_t account = (uint32_t)sqlite3_column_int64(stmt, 0);
    struct bytes hex = store_db_text(stmt, 4);
    struct store_dkim_key *key = arena_new(&dir->arena, sizeof *key);
    uint8_t *sealed = arena_new(&dir->arena, hex.len / 2 + 1);
    if (parse_hex(hex, sealed, hex.len / 2))
        return E_DAMAGED;
    key->domain = arena_dup(&dir->arena, store_db_text(stmt, 1));
    key->selector = arena_dup(&dir->arena, store_db_text(stmt, 2));
    key->is_ed25519 = bytes_eq(store_db_text(stmt, 3), BYTES("ed25519"));
    key->sealed = bytes_of(sealed, hex.len / 2);
    key->number = sign_sealed_number(key->sealed);
    struct store_dkim *dkim = dkim_of(dir, account, key->domain);
    *(key->is_ed25519 ? &dkim->ed25519 : &dkim->rsa) = key;
    (void)dkim_of(dir, account, BYTES_NONE);
    return 0;
}

int store_directory_load(struct store *store, struct store_directory **out)
{
    struct store_directory *dir = store_directory_empty();
    store_db_lock(store);
    dir->version = store->changes;
    int err = store_db_run(store, "BEGIN", "");
    if (!err)
        err = each_row(store, dir, "SELECT count(*) FROM account", take_count);
    if (!err)
        err = each_row(store, dir,
                       "SELECT number, name, class, any_sender, state FROM account ORDER BY number",
                       take_account);
    if (!err)
        err = each_row(store, dir, "SELECT account, name, value FROM account_options", take_option);
    if (!err)
        err = each_row(store, dir, "SELECT login, account, verifier, scram FROM credential",
                       take_credential);
    if (!err)
        err = each_row(
            store, dir,
            "SELECT account, name, verified_at IS NOT NULL, return_path_at IS NOT NULL FROM domain",
            take_domain);
    if (!err)
        err = each_row(store, dir,
                       "SELECT coalesce(account, 0), domain, selector, algorithm, sealed FROM "
                       "dkim_key WHERE state = 'active'",
                       take_dkim);
    if (!sqlite3_get_autocommit(store->db)) {
        int ended = store_db_run(store, "ROLLBACK", "");
        err = err ? err : ended;
    }
    store_db_unlock(store);
    *out = err ? NULL : dir;
    if (err)
        store_directory_free(dir);
    return err;
}

struct store_directory *store_directory_empty(void)
{
    return mem_new(sizeof(struct store_directory));
}

void store_directory_free(struct store_directory *dir)
{
    if (!dir)
        return;
    map_done(&dir->by_name);
    map_done(&dir->credentials);
    map_done(&dir->proofs);
    map_done(&dir->networks);
    map_done(&dir->domains);
    map_done(&dir->dkim);
    arena_done(&dir->arena);
    free(dir);
}

// ---- asking ------------------------------------------------------------------------------------------

const struct store_credential *store_directory_credential(const struct store_directory *dir,
                                                          struct bytes login)
{
    return map_find(&dir->credentials, login);
}

const struct store_credential *store_directory_login(const struct store_directory *dir,
                                                     struct bytes login, uint64_t mark)
{
    const struct store_credential *c = map_find(&dir->credentials, login);
    if (!c || c->mark != mark)
        c = map_find(&dir->proofs, login);
    return c && c->mark == mark ? c : NULL;
}

const struct store_credential *store_directory_network(const struct store_directory *dir,
                                                       const uint8_t *ip, bool ip6)
{
    for (int bits = dir->networks.count ? (ip6 ? 128 : 32) : 0; bits > 0; bits--) {
        if (!dir->prefixes[ip6][bits])
            continue;
        struct network_key key = network_key(ip, ip6, (uint8_t)bits);
        const struct store_credential *c = map_find(&dir->networks, bytes_of(&key, sizeof key));
        if (c)
            return c;
    }
    return NULL;
}

const struct store_credential *store_directory_certificate(const struct store_directory *dir,
                                                           const uint8_t sha256[32])
{
    struct buf text = {0};
    if (!dir->proofs.count)
        return NULL;
    store_proof_format_hash(sha256, &text);
    const struct store_credential *c = map_find(&dir->proofs, buf_bytes(&text));
    buf_done(&text);
    return c;
}

const struct store_credential *store_directory_certificate_name(const struct store_directory *dir,
                                                                struct bytes name)
{
    struct buf text = {0};
    bool is_name = dir->proofs.count && store_proof_format(STORE_PROOF_NAME, name, &text) == OK;
    const struct store_credential *c = is_name ? map_find(&dir->proofs, buf_bytes(&text)) : NULL;
    buf_done(&text);
    return c;
}

const struct store_account *store_directory_account(const struct store_directory *dir,
                                                    struct bytes name)
{
    char lower[CONF_NAME_MAX];
    if (name.len > sizeof lower)
        return NULL;
    for (size_t i = 0; i < name.len; i++)
        lower[i] = ascii_lower(name.at[i]);
    return map_find(&dir->by_name, bytes_of(lower, name.len));
}

const struct store_account *store_directory_account_at(const struct store_directory *dir,
                                                       uint32_t i)
{
    return i < dir->accounts_count ? &dir->accounts[i] : NULL;
}

const struct store_account *store_directory_account_number(const struct store_directory *dir,
                                                           uint32_t number)
{
    return find_number(dir, number);
}

static const struct domain_mark *find_domain(const struct store_directory *dir,
                                             const struct store_account *account,
                                             struct bytes domain)
{
    char text[DOMAIN_KEY_MAX];
    return map_find(&dir->domains, domain_key(account->number, domain, text));
}

enum store_domain_state store_directory_domain(const struct store_directory *dir,
                                               const struct store_account *account,
                                               struct bytes domain)
{
    const struct domain_mark *mark = find_domain(dir, account, domain);
    return mark ? mark->state : STORE_DOMAIN_FOREIGN;
}

bool store_directory_has_return_path(const struct store_directory *dir,
                                     const struct store_account *account, struct bytes domain)
{
    const struct domain_mark *mark = find_domain(dir, account, domain);
    return mark && mark->return_path;
}

const struct store_dkim *store_directory_dkim(const struct store_directory *dir, uint32_t account,
                                              struct bytes domain)
{
    char text[DOMAIN_KEY_MAX];
    return domain.len && dir->dkim.count ? map_find(&dir->dkim, domain_key(account, domain, text))
                                         : NULL;
}

const struct store_dkim *store_directory_aligned_dkim(const struct store_directory *dir,
                                                      const struct store_account *account,
                                                      struct bytes domain)
{
    while (bytes_find(domain, '.') > 0) {
        const struct store_dkim *dkim = store_directory_dkim(dir, account->number, domain);
        if (dkim && store_directory_domain(dir, account, domain) == STORE_DOMAIN_VERIFIED)
            return dkim;
        domain = bytes_skip(domain, (size_t)bytes_find(domain, '.') + 1);
    }
    return NULL;
}

bool store_directory_signs(const struct store_directory *dir, uint32_t account)
{
    char text[DOMAIN_KEY_MAX];
    return dir->dkim.count && (map_find(&dir->dkim, domain_key(account, BYTES_NONE, text)) ||
                               map_find(&dir->dkim, domain_key(0, BYTES_NONE, text)));
}

uint64_t store_directory_version(const struct store_directory *dir)
{
    return dir->version;
}

uint32_t store_directory_accounts_count(const struct store_directory *dir)
{
    return dir->accounts_count;
}
