// SPDX-License-Identifier: MIT
#include "store/store_options.h"

#include "base/check.h"
#include "store/store_ops.h"

static const struct store_option_row rows[STORE_OPTIONS_COUNT] = {
    [STORE_OPTION_PREFLIGHT] = {"preflight",
                                "what becomes of mail with faults that make receivers distrust it",
                                {"off", "warn", "hold", "refuse"},
                                STORE_PREFLIGHT_WARN},
    [STORE_OPTION_UNSUBSCRIBE] = {"unsubscribe",
                                  "bulk mail gets a one-click List-Unsubscribe that we answer",
                                  {"off", "bulk"},
                                  STORE_UNSUBSCRIBE_OFF},
    [STORE_OPTION_RETURN_PATH] = {"return_path",
                                  "bounces come back to us, where the domain's return path is set "
                                  "up",
                                  {"off", "message", "recipient"},
                                  STORE_RETURN_PATH_MESSAGE},
    [STORE_OPTION_SUPPRESSED] = {"suppressed",
                                 "mail to suppressed addresses is refused at RCPT, or taken and "
                                 "recorded as removed",
                                 {"refuse", "remove"},
                                 STORE_SUPPRESSED_REFUSE},
    [STORE_OPTION_PRIORITY] = {"priority",
                               "how urgent its mail may call itself by MT-PRIORITY: as it likes, "
                               "0 at most, or always 0",
                               {"any", "normal", "off"},
                               STORE_PRIORITY_ANY},
};

const struct store_option_row *store_option_row(enum store_option option)
{
    CHECK(option < STORE_OPTIONS_COUNT);
    return &rows[option];
}

int store_option_find(struct bytes name, enum store_option *out)
{
    for (uint32_t i = 0; i < STORE_OPTIONS_COUNT; i++)
        if (bytes_eq_nocase(name, bytes_cstr(rows[i].name))) {
            *out = (enum store_option)i;
            return 0;
        }
    return E_NOT_FOUND;
}

int store_option_parse(enum store_option option, struct bytes text, uint8_t *out)
{
    const struct store_option_row *row = store_option_row(option);
    for (uint8_t i = 0; i < STORE_OPTION_VALUES_MAX && row->values[i]; i++)
        if (bytes_eq_nocase(text, bytes_cstr(row->values[i]))) {
            *out = i;
            return 0;
        }
    return E_SYNTAX;
}

void store_option_list_values(enum store_option option, struct buf *out)
{
    const struct store_option_row *row = store_option_row(option);
    for (int i = 0; i < STORE_OPTION_VALUES_MAX && row->values[i]; i++) {
        bool last = i + 1 == STORE_OPTION_VALUES_MAX || !row->values[i + 1];
        buf_printf(out, "%s%s", !i ? "" : last ? " or " : ", ", row->values[i]);
    }
}

// ---- operations --------------------------------------------------------------------------------------

static int add_options(struct store_call *call, int64_t account, struct json_object *out)
{
    struct json_object *options = json_object_new_object();
    sqlite3_stmt *stmt;
    json_object_object_add(out, "options", options);
    for (uint32_t i = 0; i < STORE_OPTIONS_COUNT; i++)
        json_add_text(options, rows[i].name, bytes_cstr(rows[i].values[rows[i].default_value]));
    int err =
        store_db_start(call->store, &stmt,
                       "SELECT name, value FROM account_options WHERE account = ?", "i", account);
    if (err)
        return err;
    enum store_option option;
    while ((err = store_db_step(stmt)) == 1)
        if (store_option_find(store_db_text(stmt, 0), &option) == 0)
            json_add_text(options, rows[option].name, store_db_text(stmt, 1));
    sqlite3_finalize(stmt);
    return err;
}

static int answer(struct store_call *call, const struct store_account_row *account)
{
    call->out->result = store_account_json(account);
    return add_options(call, account->number, call->out->result);
}

int store_op_account_show(struct store_call *call)
{
    struct store_account_row account;
    int err = store_call_account(call, &account);
    return err ? err : answer(call, &account);
}

static int take_option(struct store_call *call, enum store_option *out_option, uint8_t *out_value)
{
    struct bytes name = store_call_text(call, "option"), value = store_call_text(call, "value");
    struct buf known = {0};
    int err = 0;
    if (store_option_find(name, out_option) != 0) {
        for (uint32_t i = 0; i < STORE_OPTIONS_COUNT; i++)
            buf_printf(&known, "%s%s", i ? ", " : "", rows[i].name);
        err = store_call_refuse(call, E_SYNTAX, "there is no option '%.*s' (there are: %s)",
                                BYTES_FMT(bytes_first(name, 80)), buf_cstr(&known));
    } else if (store_option_parse(*out_option, value, out_value) != 0) {
        store_option_list_values(*out_option, &known);
        err = store_call_refuse(call, E_SYNTAX, "'%.*s' is no value of %s: %s",
                                BYTES_FMT(bytes_first(value, 80)), rows[*out_option].name,
                                buf_cstr(&known));
    }
    buf_done(&known);
    return err;
}

// Whether the value stands there already; chosen, not as the default, which may change.
static int is_set(struct store_call *call, int64_t account, struct bytes name, struct bytes value,
                  bool *out)
{
    sqlite3_stmt *stmt;
    int err = store_db_start(call->store, &stmt,
                             "SELECT 1 FROM account_options WHERE account = ? AND name = ? AND "
                             "value = ?",
                             "itt", account, name, value);
    if (err)
        return err;
    err = store_db_step(stmt);
    *out = err == 1;
    sqlite3_finalize(stmt);
    return err < 0 ? err : 0;
}

int store_op_account_set(struct store_call *call)
{
    struct store_account_row account;
    enum store_option option = 0;
    uint8_t value = 0;
    bool same = false;
    int err = store_call_open_account(call, &account);
    if (!err)
        err = take_option(call, &option, &value);
    if (err)
        return err;
    struct bytes name = bytes_cstr(rows[option].name);
    struct bytes text = bytes_cstr(rows[option].values[value]);
    err = is_set(call, account.number, name, text, &same);
    if (!err && !same) {
        call->out->changed = true;
        err = store_db_run(call->store,
                           "INSERT INTO account_options (account, name, value) VALUES (?, ?, ?) "
                           "ON CONFLICT (account, name) DO UPDATE SET value = excluded.value",
                           "itt", account.number, name, text);
    }
    return err ? err : answer(call, &account);
}
