// SPDX-License-Identifier: MIT
//
// Operations on DKIM keys. A key is `new` until its record is seen in the DNS, then `active`: it signs, and the one
// before it is `old`: it stays published for what it has signed.
#include "store/store_dkim.h"

#include "base/check.h"
#include "store/store_ops.h"

#define SELECTOR_MAX 63
#define RECORD_MAX 1024
#define SEALED_MAX 8192     // in hex
#define LISTED_PAIRS_MAX 16 // keys of a domain whose other names are listed, too

// An owner is an account and one of its domains, or the service (account 0) and its own.
struct owner {
    int64_t account;
    struct bytes name; // the account's; empty: the service
    struct bytes domain;
};

struct key_row {
    int64_t number;
    struct bytes account, domain, selector, algorithm, state, record;
    int64_t created_at, active_at, old_at;
};

// ---- rows --------------------------------------------------------------------------------------------

#define KEY_SELECT                                                                                 \
    "SELECT k.number, coalesce(a.name, ''), k.domain, k.selector, k.algorithm, k.state, "          \
    "k.record, "                                                                                   \
    "k.created_at, k.active_at, k.old_at FROM dkim_key k "                                         \
    "LEFT JOIN account a ON a.number = k.account "

static void read_key(struct store_call *call, sqlite3_stmt *stmt, struct key_row *out)
{
    struct bytes *const texts[] = {&out->account,   &out->domain, &out->selector,
                                   &out->algorithm, &out->state,  &out->record};
    out->number = sqlite3_column_int64(stmt, 0);
    for (int i = 0; i < (int)COUNT_OF(texts); i++)
        *texts[i] = arena_dup(&call->arena, store_db_text(stmt, i + 1));
    out->created_at = sqlite3_column_int64(stmt, 7);
    out->active_at = sqlite3_column_int64(stmt, 8);
    out->old_at = sqlite3_column_int64(stmt, 9);
}

static struct json_object *key_json(const struct key_row *row)
{
    struct json_object *object = json_object_new_object();
    json_object_object_add(object, "number", json_object_new_int64(row->number));
    if (row->account.len)
        json_add_text(object, "account", row->account);
    else
        json_object_object_add(object, "account", NULL);
    json_add_text(object, "domain", row->domain);
    json_add_text(object, "selector", row->selector);
    json_add_text(object, "algorithm", row->algorithm);
    json_add_text(object, "state", row->state);
    json_add_text(object, "record", row->record);
    json_add_time(object, "created_at", (struct wall){row->created_at});
    json_add_time(object, "active_at", (struct wall){row->active_at});
    json_add_time(object, "old_at", (struct wall){row->old_at});
    return object;
}

// 0 and a row, or E_NOT_FOUND without a word.
static int take_row(struct store_call *call, sqlite3_stmt *stmt, struct key_row *out)
{
    int err = store_db_step(stmt);
    if (err == 1)
        read_key(call, stmt, out);
    sqlite3_finalize(stmt);
    return err == 1 ? 0 : err ? err : E_NOT_FOUND;
}

static int look_selector(struct store_call *call, struct bytes domain, struct bytes selector,
                         struct key_row *out)
{
    sqlite3_stmt *stmt;
    int err = store_db_start(call->store, &stmt, KEY_SELECT "WHERE k.domain = ? AND k.selector = ?",
                             "tt", domain, selector);
    return err ? err : take_row(call, stmt, out);
}

static int find_number(struct store_call *call, struct key_row *out)
{
    struct json_object *value = NULL;
    sqlite3_stmt *stmt;
    int64_t number = call->op->args && json_object_object_get_ex(call->op->args, "number", &value)
                         ? json_object_get_int64(value)
                         : 0;
    int err = store_db_start(call->store, &stmt, KEY_SELECT "WHERE k.number = ?", "i", number);
    if (!err)
        err = take_row(call, stmt, out);
    return err == E_NOT_FOUND
               ? store_call_refuse(call, err, "there is no DKIM key number %lld", (long long)number)
               : err;
}

static int find_owner(struct store_call *call, struct owner *out)
{
    struct store_account_row account;
    sqlite3_stmt *stmt;
    *out = (struct owner){0};
    int err = store_call_domain(call, &out->domain);
    if (err || !store_call_text(call, "account").len)
        return err;
    err = store_call_open_account(call, &account);
    if (err)
        return err;
    out->account = account.number;
    out->name = account.name;
    err = store_db_start(call->store, &stmt, "SELECT 1 FROM domain WHERE account = ? AND name = ?",
                         "it", account.number, out->domain);
    if (err)
        return err;
    err = store_db_step(stmt);
    sqlite3_finalize(stmt);
    return err == 1 ? 0
           : err    ? err
                    : store_call_refuse(call, E_NOT_FOUND, "account '%.*s' has no domain '%.*s'",
                                        BYTES_FMT(account.name), BYTES_FMT(out->domain));
}

// ---- selectors ---------------------------------------------------------------------------------------

// Our own are "ph", a number, and a letter for the algorithm. A new key gets the next number, or, where names are
// fixed because the domain's owner has CNAMEs for them, the other one of a pair.
struct numbers {
    uint64_t own, all; // the largest of the owner's keys, of all keys of the domain
};

static uint64_t number_of(struct bytes selector)
{
    uint64_t number = 0;
    if (!bytes_starts(selector, BYTES("ph")) || selector.len < 4)
        return 0;
    (void)!bytes_to_u64(bytes_mid(selector, 2, selector.len - 3), UINT32_MAX, &number);
    return number;
}

static int look_numbers(struct store_call *call, const struct owner *owner, struct bytes algorithm,
                        struct numbers *out)
{
    sqlite3_stmt *stmt;
    *out = (struct numbers){0};
    int err = store_db_start(call->store, &stmt,
                             "SELECT selector, coalesce(account, 0) = ? AND algorithm = ? FROM "
                             "dkim_key WHERE domain = ? ORDER BY number",
                             "itt", owner->account, algorithm, owner->domain);
    if (err)
        return err;
    while ((err = store_db_step(stmt)) == 1) {
        uint64_t n = number_of(store_db_text(stmt, 0));
        out->all = n > out->all ? n : out->all;
        if (sqlite3_column_int(stmt, 1))
            out->own = n; // the one made last
    }
    sqlite3_finalize(stmt);
    return err;
}

static int choose_selector(struct store_call *call, const struct owner *owner,
                           struct bytes algorithm, bool fixed, struct bytes *out)
{
    struct numbers numbers;
    struct key_row taken;
    int err = look_numbers(call, owner, algorithm, &numbers);
    if (err)
        return err;
    uint64_t n = fixed && numbers.own ? ((numbers.own - 1) ^ 1) + 1 : numbers.own + 1;
    char letter = algorithm.at[0];
    for (;; n += fixed ? 2 : 1) {
        *out = arena_printf(&call->arena, "ph%llu%c", (unsigned long long)n, letter);
        err = look_selector(call, owner->domain, *out, &taken);
        if (err)
            return err == E_NOT_FOUND ? 0 : err;
        if (fixed && bytes_eq(taken.account, owner->name))
            return store_call_refuse(call, E_DENIED,
                                     "the key before is still published as %.*s: the next one "
                                     "takes its place when its grace time is over",
                                     BYTES_FMT(*out));
    }
}

// ---- operations --------------------------------------------------------------------------------------

static bool is_one_of(struct bytes text, const char *a, const char *b)
{
    return bytes_eq(text, bytes_cstr(a)) || bytes_eq(text, bytes_cstr(b));
}

static bool is_hex(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!ascii_is_digit(text.at[i]) && (text.at[i] < 'a' || text.at[i] > 'f'))
            return false;
    return text.len > 0 && text.len % 2 == 0 && text.len <= SEALED_MAX;
}

static bool is_selector(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!ascii_is_alnum(text.at[i]) && text.at[i] != '-' && text.at[i] != '_')
            return false;
    return text.len > 0 && text.len <= SELECTOR_MAX && text.at[0] != '-';
}

static int check_key(struct store_call *call, struct bytes algorithm, struct bytes record,
                     struct bytes sealed)
{
    if (!is_one_of(algorithm, "rsa", "ed25519"))
        return store_call_refuse(call, E_SYNTAX, "a key is of rsa or ed25519");
    if (!bytes_starts(record, BYTES("v=DKIM1; ")) || record.len > RECORD_MAX || !is_hex(sealed))
        return store_call_refuse(call, E_SYNTAX, "this is no DKIM key");
    return 0;
}

// One key at a time waits to be published.
static int refuse_second(struct store_call *call, const struct owner *owner, struct bytes algorithm)
{
    sqlite3_stmt *stmt;
    struct key_row row;
    int err = store_db_start(call->store, &stmt,
                             KEY_SELECT "WHERE coalesce(k.account, 0) = ? AND k.domain = ? AND "
                                        "k.algorithm = ? AND k.state = 'new'",
                             "itt", owner->account, owner->domain, algorithm);
    if (!err)
        err = take_row(call, stmt, &row);
    if (!err)
        return store_call_refuse(call, E_EXISTS, "a new key waits to be published already, as %.*s",
                                 BYTES_FMT(row.selector));
    return err == E_NOT_FOUND ? 0 : err;
}

// A key that comes with its name is its owner's choice, and takes the place of the one that waits: that has signed
// nothing yet.
static int make_way(struct store_call *call, const struct owner *owner, struct bytes algorithm)
{
    if (!store_call_text(call, "selector").len)
        return refuse_second(call, owner, algorithm);
    return store_db_run(call->store,
                        "DELETE FROM dkim_key WHERE coalesce(account, 0) = ? AND domain = ? AND "
                        "algorithm = ? AND state = 'new'",
                        "itt", owner->account, owner->domain, algorithm);
}

static int take_selector(struct store_call *call, const struct owner *owner, struct bytes algorithm,
                         struct bytes *out)
{
    struct json_object *fixed = NULL;
    *out = store_call_text(call, "selector");
    if (!out->len) {
        json_object_object_get_ex(call->op->args, "fixed", &fixed);
        return choose_selector(call, owner, algorithm, json_object_get_boolean(fixed), out);
    }
    return is_selector(*out) ? 0
                             : store_call_refuse(call, E_SYNTAX, "'%.*s' is no selector",
                                                 BYTES_FMT(bytes_first(*out, 80)));
}

static int answer_key(struct store_call *call, struct bytes domain, struct bytes selector)
{
    struct key_row row;
    int err = look_selector(call, domain, selector, &row);
    if (!err)
        call->out->result = key_json(&row);
    return err;
}

int store_op_dkim_add(struct store_call *call)
{
    struct owner owner;
    struct key_row same;
    struct bytes algorithm = store_call_text(call, "algorithm"), selector;
    struct bytes record = store_call_text(call, "record"), sealed = store_call_text(call, "sealed");
    int err = find_owner(call, &owner);
    if (!err)
        err = check_key(call, algorithm, record, sealed);
    if (!err)
        err = take_selector(call, &owner, algorithm, &selector);
    if (err)
        return err;
    err = look_selector(call, owner.domain, selector, &same);
    if (!err && bytes_eq(same.record, record) && bytes_eq(same.account, owner.name)) {
        call->out->result = key_json(&same); // the same again
        return 0;
    }
    if (!err || err == E_NOT_FOUND)
        err = make_way(call, &owner, algorithm);
    if (!err)
        err = look_selector(call, owner.domain, selector, &same);
    if (!err)
        return store_call_refuse(call, E_EXISTS, "%.*s has a key %.*s already",
                                 BYTES_FMT(owner.domain), BYTES_FMT(selector));
    if (err != E_NOT_FOUND)
        return err;
    call->out->changed = true;
    err = store_db_run(call->store,
                       "INSERT INTO dkim_key (account, domain, selector, algorithm, state, record, "
                       "sealed, created_at) VALUES (?, ?, ?, ?, 'new', ?, ?, ?)",
                       "Ittttti", owner.account, owner.domain, selector, algorithm, record, sealed,
                       call->op->time.us);
    return err ? err : answer_key(call, owner.domain, selector);
}

int store_op_dkim_seen(struct store_call *call)
{
    struct key_row row;
    int err = find_number(call, &row);
    if (!err && bytes_eq(row.state, BYTES("old")))
        return store_call_refuse(call, E_DENIED, "this key is an old one");
    if (!err && bytes_eq(row.state, BYTES("new"))) {
        call->out->changed = true;
        err = store_db_run(call->store,
                           "UPDATE dkim_key SET state = 'old', old_at = ?1 FROM (SELECT account, "
                           "domain, algorithm FROM dkim_key WHERE number = ?2) AS n WHERE "
                           "dkim_key.account IS n.account AND dkim_key.domain = n.domain AND "
                           "dkim_key.algorithm = n.algorithm AND dkim_key.state = 'active'",
                           "ii", call->op->time.us, row.number);
        if (!err)
            err = store_db_run(
                call->store, "UPDATE dkim_key SET state = 'active', active_at = ? WHERE number = ?",
                "ii", call->op->time.us, row.number);
    }
    return err ? err : answer_key(call, row.domain, row.selector);
}

static bool has_selector(struct json_object *list, const struct key_row *row, struct bytes selector)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *key = json_object_array_get_idx(list, i), *domain, *own;
        if (json_object_object_get_ex(key, "domain", &domain) &&
            json_object_object_get_ex(key, "selector", &own) &&
            bytes_eq(bytes_cstr(json_object_get_string(domain)), row->domain) &&
            bytes_eq(bytes_cstr(json_object_get_string(own)), selector))
            return true;
    }
    return false;
}

// The other name of each pair, where it has no key: it is to be published as a CNAME all the same.
static void add_twin(struct store_call *call, struct json_object *list, const struct key_row *row)
{
    uint64_t n = number_of(row->selector);
    struct key_row twin = {.account = row->account,
                           .domain = row->domain,
                           .algorithm = row->algorithm,
                           .state = BYTES("none")};
    twin.selector = arena_printf(&call->arena, "ph%llu%c", (unsigned long long)((n - 1) ^ 1) + 1,
                                 row->algorithm.at[0]);
    if (n && !has_selector(list, row, twin.selector))
        json_object_array_add(list, key_json(&twin));
}

static int list_keys(struct store_call *call, int64_t account, struct bytes domain)
{
    struct json_object *pairs = NULL;
    struct key_row rows[LISTED_PAIRS_MAX];
    size_t count = 0;
    struct json_object *list = json_object_new_array();
    sqlite3_stmt *stmt;
    call->out->result = json_object_new_object();
    json_object_object_add(call->out->result, "keys", list);
    int err =
        store_db_start(call->store, &stmt,
                       KEY_SELECT "WHERE (?1 < 0 OR coalesce(k.account, 0) = ?1) AND (?2 = '' "
                                  "OR k.domain = ?2) ORDER BY k.domain, a.name, k.number",
                       "it", account, domain);
    if (err)
        return err;
    while ((err = store_db_step(stmt)) == 1) {
        struct key_row row;
        read_key(call, stmt, &row);
        json_object_array_add(list, key_json(&row));
        if (count < LISTED_PAIRS_MAX)
            rows[count++] = row;
    }
    sqlite3_finalize(stmt);
    if (call->op->args && json_object_object_get_ex(call->op->args, "pairs", &pairs) &&
        json_object_get_boolean(pairs))
        for (size_t i = 0; i < count; i++)
            add_twin(call, list, &rows[i]);
    return err;
}

// Who looks after the keys makes new ones for those that were asked about.
int store_op_dkim_rotate(struct store_call *call)
{
    struct owner owner;
    int err = find_owner(call, &owner);
    if (!err)
        err = store_db_run(call->store,
                           "UPDATE dkim_key SET rotate_at = ? WHERE coalesce(account, 0) = ? AND "
                           "domain = ? AND state = 'active' AND rotate_at IS NULL",
                           "iit", call->op->time.us, owner.account, owner.domain);
    if (err)
        return err;
    call->out->changed = sqlite3_changes(call->store->db) > 0;
    return list_keys(call, owner.account, owner.domain);
}

int store_op_dkim_remove(struct store_call *call)
{
    struct key_row row;
    int err = find_number(call, &row);
    if (!err)
        err = store_db_run(call->store, "DELETE FROM dkim_key WHERE number = ?", "i", row.number);
    if (err)
        return err;
    call->out->changed = true;
    call->out->result = key_json(&row);
    return 0;
}

int store_op_dkim_list(struct store_call *call)
{
    struct store_account_row account = {.number = -1};
    struct bytes domain = BYTES_NONE;
    int err = 0;
    if (store_call_text(call, "account").len)
        err = store_call_account(call, &account);
    if (!err && store_call_text(call, "domain").len)
        err = store_call_domain(call, &domain);
    return err ? err : list_keys(call, account.number, domain);
}

// ---- what is due -------------------------------------------------------------------------------------

struct looking {
    struct store *store;
    const struct store_dkim_query *query;
    void (*each)(void *ctx, const struct store_dkim_due *due);
    void *ctx;
};

#define WHERE_NEW "WHERE k.state = 'new' ORDER BY k.number <= ?1, k.number LIMIT ?2"
#define WHERE_OVER "WHERE k.state = 'old' AND k.old_at < ?1 ORDER BY k.number LIMIT ?2"

static int look_keys(const struct looking *l, enum store_dkim_what what, const char *sql,
                     int64_t than)
{
    sqlite3_stmt *stmt;
    int err = store_db_start(l->store, &stmt, sql, "ii", than, (int64_t)l->query->each_max);
    if (err)
        return err;
    while ((err = store_db_step(stmt)) == 1) {
        struct store_dkim_due due = {.what = what,
                                     .number = sqlite3_column_int64(stmt, 0),
                                     .account = store_db_text(stmt, 1),
                                     .domain = store_db_text(stmt, 2),
                                     .selector = store_db_text(stmt, 3),
                                     .record = store_db_text(stmt, 6)};
        l->each(l->ctx, &due);
    }
    sqlite3_finalize(stmt);
    return err;
}

#define IS_SERVED                                                                                  \
    "NOT EXISTS (SELECT 1 FROM dkim_key k WHERE k.account IS o.account AND k.domain = o.domain "   \
    "AND k.algorithm = ?1 AND (k.state = 'new' OR (k.state = 'active' AND k.active_at >= ?2 AND "  \
    "k.rotate_at IS NULL) OR (k.state = 'old' AND ?4)))"

static int look_missing(const struct looking *l, bool ed25519)
{
    const struct store_dkim_query *q = l->query;
    sqlite3_stmt *stmt;
    int err = store_db_start(
        l->store, &stmt,
        "SELECT o.name, o.domain FROM (SELECT d.account AS account, a.name AS name, d.name AS "
        "domain FROM domain d JOIN account a ON a.number = d.account "
        "UNION ALL SELECT NULL, '', ?3 WHERE ?3 != '') AS o WHERE " IS_SERVED " LIMIT ?5",
        "titii", ed25519 ? BYTES("ed25519") : BYTES("rsa"), q->made_before.us, q->service_domain,
        (int64_t)q->pairs, (int64_t)q->makes_max);
    if (err)
        return err;
    while ((err = store_db_step(stmt)) == 1) {
        struct store_dkim_due due = {.what = STORE_DKIM_MAKE,
                                     .account = store_db_text(stmt, 0),
                                     .domain = store_db_text(stmt, 1),
                                     .ed25519 = ed25519};
        l->each(l->ctx, &due);
    }
    sqlite3_finalize(stmt);
    return err;
}

int store_dkim_look(struct store *store, const struct store_dkim_query *query,
                    void (*each)(void *ctx, const struct store_dkim_due *due), void *ctx)
{
    const struct looking l = {store, query, each, ctx};
    store_db_lock(store);
    int err = look_keys(&l, STORE_DKIM_CHECK, KEY_SELECT WHERE_NEW, query->checked);
    if (!err)
        err = look_keys(&l, STORE_DKIM_REMOVE, KEY_SELECT WHERE_OVER, query->old_before.us);
    if (!err && query->rsa)
        err = look_missing(&l, false);
    if (!err && query->ed25519)
        err = look_missing(&l, true);
    store_db_unlock(store);
    return err;
}
