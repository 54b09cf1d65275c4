// SPDX-License-Identifier: MIT
//
// doctor_conf - what the configuration and the accounts allow, and is still unwise
#include <json-c/json.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cli/cli_control.h"
#include "cli/cli_store.h"
#include "cli/doctor.h"
#include "conf/conf_value.h"
#include "daemon/key_seal.h"

#define DAY_MS 86400000ll
#define LIFETIME_MIN_MS DAY_MS
#define LIFETIME_MAX_MS (7 * DAY_MS)
#define NARROW_BITS_4 24 // a public network wider than that is many other people's
#define NARROW_BITS_6 48
#define ACCOUNTS_MAX 200 // asked for their options one by one
#define NAMES_SHOWN 5

// ---- networks ----------------------------------------------------------------------------------------

static bool is_own(const struct conf_cidr *net)
{
    const uint8_t *ip = net->ip;
    if (net->ip6)
        return net->bits >= 7 && ((ip[0] & 0xfe) == 0xfc || net->bits == 128);
    return (ip[0] == 10 && net->bits >= 8) || (ip[0] == 127 && net->bits >= 8) ||
           (ip[0] == 172 && (ip[1] & 0xf0) == 16 && net->bits >= 12) ||
           (ip[0] == 192 && ip[1] == 168 && net->bits >= 16);
}

static void check_trusted(struct doctor *d, const struct conf_listener *l)
{
    uint32_t wide = 0;
    struct bytes first = BYTES_NONE;
    for (uint32_t i = 0; i < l->trusted_count; i++) {
        const struct conf_cidr *net = &l->trusted[i];
        if (is_own(net) || net->bits >= (net->ip6 ? NARROW_BITS_6 : NARROW_BITS_4))
            continue;
        if (!wide++)
            first = arena_printf(&d->arena, "%.*s/%u",
                                 BYTES_FMT(doctor_ip_text(d, net->ip, net->ip6)), net->bits);
    }
    if (!wide) {
        doctor_ok(d, "trusted_network", l->name, "trusts networks of its own only");
        return;
    }
    doctor_warn(d, "trusted_network", l->name, "trusts %.*s, many hosts of other people",
                BYTES_FMT(first));
    doctor_fix(d, "name only the networks of your own clients, or set auth: required");
}

static void check_listeners(struct doctor *d)
{
    const struct conf *conf = d->conf;
    for (uint32_t i = 0; i < conf->listeners_count; i++)
        if (conf->listeners[i].trusted_count)
            check_trusted(d, &conf->listeners[i]);
    if (conf->http.address.len && !doctor_is_loopback(conf->http.address)) {
        doctor_warn(d, "http_public", conf->http.address,
                    "metrics are told to whoever reaches this address");
        doctor_fix(d, "use 127.0.0.1, or keep others away by a firewall");
    }
}

// ---- lifetimes ---------------------------------------------------------------------------------------

static void check_retry(struct doctor *d)
{
    struct buf text = {0};
    int64_t lifetime = d->conf->retry.lifetime_ms;
    conf_format_duration(lifetime, &text);
    if (lifetime < LIFETIME_MIN_MS) {
        doctor_warn(d, "retry_lifetime", BYTES_NONE,
                    "mail is given up after %s: one bad day of a receiver loses it",
                    buf_cstr(&text));
        doctor_fix(d, "set retry.lifetime to some days (RFC 5321 says four to five)");
    } else if (lifetime > LIFETIME_MAX_MS) {
        doctor_warn(d, "retry_lifetime", BYTES_NONE,
                    "mail is tried for %s: its sender hears late that it failed", buf_cstr(&text));
        doctor_fix(d, "set retry.lifetime to about 5d");
    } else {
        doctor_ok(d, "retry_lifetime", BYTES_NONE, "mail is tried for %s", buf_cstr(&text));
    }
    buf_done(&text);
}

// ---- accounts ----------------------------------------------------------------------------------------

// Names for a sentence: the first few, and how many more.
struct names {
    struct buf text;
    uint32_t count;
};

static void add_name(struct names *names, struct bytes name)
{
    if (names->count++ < NAMES_SHOWN)
        buf_printf(&names->text, "%s%.*s", names->count > 1 ? ", " : "", BYTES_FMT(name));
    else if (names->count == NAMES_SHOWN + 1)
        buf_add_cstr(&names->text, ", ...");
}

static struct json_object *list_of(struct doctor *d, const char *op, const char *key,
                                   struct json_object **out_result)
{
    if (cli_store_apply(d->cli, op, NULL, out_result) != CLI_OK)
        return NULL;
    return cli_json_field(*out_result, key);
}

static bool has_verified(struct json_object *domains, struct bytes account)
{
    for (size_t i = 0; i < cli_json_count(domains); i++) {
        struct json_object *one = json_object_array_get_idx(domains, i);
        if (bytes_eq(json_find_text(one, "account"), account) &&
            json_object_get_boolean(cli_json_field(one, "verified")))
            return true;
    }
    return false;
}

static bool preflight_is_off(struct doctor *d, struct bytes account)
{
    struct json_object *args = json_object_new_object(), *shown = NULL;
    json_add_text(args, "account", account);
    bool off =
        cli_store_apply(d->cli, "account.show", args, &shown) == CLI_OK &&
        bytes_eq(json_find_text(cli_json_field(shown, "options"), "preflight"), BYTES("off"));
    json_object_put(shown);
    return off;
}

static void judge_domains(struct doctor *d, struct names *without, uint32_t active)
{
    if (!active) {
        doctor_warn(d, "accounts", BYTES_NONE, "there is no active account: nobody can log in");
        doctor_fix(d, "posthaste account add NAME, credential add, domain add");
    } else if (without->count) {
        doctor_warn(d, "verified_domain", BYTES_NONE,
                    "%u of %u accounts may not send as any domain yet: %s", without->count, active,
                    buf_cstr(&without->text));
        doctor_fix(
            d,
            "posthaste domain add ACCOUNT DOMAIN prints what to publish; domain check verifies it");
    } else {
        doctor_ok(d, "verified_domain", BYTES_NONE,
                  "every account has a domain that it may send as");
    }
}

// "active", "suspended", "closed"; empty: there is no such account.
static struct bytes account_state(struct json_object *accounts, struct bytes name)
{
    for (size_t i = 0; i < cli_json_count(accounts); i++) {
        struct json_object *one = json_object_array_get_idx(accounts, i);
        if (bytes_eq_nocase(json_find_text(one, "account"), name))
            return json_find_text(one, "state");
    }
    return BYTES_NONE;
}

// An account that the configuration names, for clients that do not log in.
static void check_named(struct doctor *d, const char *id, struct bytes subject, struct bytes name,
                        struct json_object *accounts, const char *key)
{
    struct bytes state = account_state(accounts, name);
    if (bytes_eq(state, BYTES("active"))) {
        doctor_ok(d, id, subject, "its mail is the account %.*s's", BYTES_FMT(name));
        return;
    }
    doctor_fail(d, id, subject, "its mail is refused: %s account %.*s%s%.*s",
                state.len ? "the" : "there is no", BYTES_FMT(name), state.len ? " is " : "",
                BYTES_FMT(state));
    if (bytes_eq(state, BYTES("closed"))) // for ever
        doctor_fix(d, "name another account in %s", key);
    else
        doctor_fix(d, "posthaste account %s %.*s, or name another in %s",
                   state.len ? "activate" : "add", BYTES_FMT(name), key);
}

static void check_all_named(struct doctor *d, struct json_object *accounts)
{
    const struct conf *conf = d->conf;
    for (uint32_t i = 0; i < conf->listeners_count; i++)
        if (conf->listeners[i].account.len)
            check_named(d, "listener_account", conf->listeners[i].name, conf->listeners[i].account,
                        accounts, "listeners[].account");
    for (uint32_t i = 0; i < conf->sendmail.accounts_count; i++)
        check_named(d, "user_account", conf->sendmail.accounts[i].user,
                    conf->sendmail.accounts[i].account, accounts, "sendmail.accounts[].account");
}

static void check_accounts(struct doctor *d)
{
    struct json_object *accounts_result = NULL, *domains_result = NULL;
    struct json_object *accounts = list_of(d, "account.list", "accounts", &accounts_result);
    struct json_object *domains = list_of(d, "domain.list", "domains", &domains_result);
    struct names without = {0}, off = {0};
    uint32_t active = 0;
    for (size_t i = 0; i < cli_json_count(accounts); i++) {
        struct json_object *one = json_object_array_get_idx(accounts, i);
        struct bytes name = json_find_text(one, "account");
        if (!bytes_eq(json_find_text(one, "state"), BYTES("active")))
            continue;
        if (!json_object_get_boolean(cli_json_field(one, "any_sender")) &&
            !has_verified(domains, name))
            add_name(&without, name);
        if (active++ < ACCOUNTS_MAX && preflight_is_off(d, name))
            add_name(&off, name);
    }
    if (accounts) {
        judge_domains(d, &without, active);
        check_all_named(d, accounts);
    }
    if (off.count) {
        doctor_warn(d, "preflight_off", BYTES_NONE,
                    "nobody looks at the mail of %s before it goes out", buf_cstr(&off.text));
        doctor_fix(d,
                   "posthaste account set NAME preflight warn: it costs little and delays nothing");
    }
    buf_done(&without.text);
    buf_done(&off.text);
    json_object_put(accounts_result);
    json_object_put(domains_result);
}

// The store is not made by looking at it.
static bool has_store(struct doctor *d)
{
    struct stat st;
    return d->service ||
           stat(arena_printf(&d->arena, "%.*s/accounts.db", BYTES_FMT(d->conf->state)).at, &st) ==
               0;
}

static void check_master_key(struct doctor *d)
{
    struct bytes path = d->conf->dkim.master_key;
    struct stat st;
    if (stat(path.at, &st) == -1 && key_master_is_elsewhere(path.at)) {
        doctor_fail(d, "master_key", path, "%s", key_master_why(E_EXISTS));
        doctor_fix(d, "mv %.*s/.key %.*s", BYTES_FMT(bytes_first(path, path.len - 4)),
                   BYTES_FMT(path));
        return;
    }
    if (stat(path.at, &st) == -1) { // made at the first start
        struct bytes why = doctor_obstacle(d, path);
        if (!why.len)
            return;
        doctor_fail(d, "master_key", path, "is not there, and a start can't make it: %.*s",
                    BYTES_FMT(why));
        doctor_fix(
            d, "put dkim.master_key where who starts the service may write, or make the folder");
        return;
    }
    if (st.st_mode & 0077) {
        doctor_fail(d, "master_key", path, "others than its owner may read it (mode %04o)",
                    (unsigned)st.st_mode & 07777);
        doctor_fix(d, "chmod 0600 %.*s; who has read it can open the DKIM keys of a backup",
                   BYTES_FMT(path));
    } else {
        doctor_ok(d, "master_key", path,
                  "is its owner's alone; keep a copy apart from the backups");
    }
}

void doctor_check_conf(struct doctor *d)
{
    check_listeners(d);
    check_retry(d);
    check_master_key(d);
    if (has_store(d))
        check_accounts(d);
}
