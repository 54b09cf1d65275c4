// SPDX-License-Identifier: MIT
#include "api/domain_check.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"
#include "sign/dkim_key.h"
#include "sign/spf.h"

#define MX_HOSTS_LOOKED_AT 5
#define PTR_NAMES_LOOKED_AT 5
#define CERTIFICATE_SOON_MS ((int64_t)7 * 86400 * 1000)

const char *domain_check_name(enum domain_check_id id)
{
    static const char *const names[DOMAIN_CHECKS] = {"ownership",   "spf", "dkim", "dmarc",
                                                     "return_path", "mx",  "ptr",  "tls"};
    CHECK(id < DOMAIN_CHECKS);
    return names[id];
}

const char *domain_state_name(enum domain_state state)
{
    static const char *const names[] = {"ok", "missing", "wrong", "unknown"};
    CHECK(state < COUNT_OF(names));
    return names[state];
}

// ---- asking ----------------------------------------------------------------------------------------------

enum look { LOOK_FOUND, LOOK_NONE, LOOK_FAILED, LOOK_LATER };

static enum look look(struct domain_check *c, struct bytes name, enum dns_type type,
                      const struct dns_answer **out)
{
    const struct dns_answer *answer = c->ask(c->ask_ctx, name, type);
    *out = answer;
    if (!answer) {
        c->waits = true;
        return LOOK_LATER;
    }
    switch (answer->code) {
    case DNS_OK:
        return answer->count ? LOOK_FOUND : LOOK_NONE;
    case DNS_NODATA:
    case DNS_NXDOMAIN:
        return LOOK_NONE;
    default:
        return LOOK_FAILED;
    }
}

// ---- findings --------------------------------------------------------------------------------------------

static void found(struct domain_check *c, enum domain_check_id id, struct bytes text)
{
    c->findings[id].found = arena_dup(c->arena, text);
}

static void judge(struct domain_check *c, enum domain_check_id id, enum domain_state state,
                  const char *fix, ...) __attribute__((format(printf, 4, 5)));
static void judge(struct domain_check *c, enum domain_check_id id, enum domain_state state,
                  const char *fix, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fix);
    vsnprintf(text, sizeof text, fix, args);
    va_end(args);
    c->findings[id].state = state;
    c->findings[id].fix = arena_dup(c->arena, bytes_cstr(text));
}

static void judge_ok(struct domain_check *c, enum domain_check_id id)
{
    c->findings[id].state = DOMAIN_OK;
    c->findings[id].fix = BYTES_NONE;
}

static void judge_unknown(struct domain_check *c, enum domain_check_id id, struct bytes name,
                          const struct dns_answer *answer)
{
    found(c, id, arena_printf(c->arena, "%.*s: %s", BYTES_FMT(name), dns_code_text(answer->code)));
    judge(c, id, DOMAIN_UNKNOWN,
          "the name servers gave no answer about %.*s (%s%s%s): try again later", BYTES_FMT(name),
          dns_code_text(answer->code), answer->why[0] ? ", " : "", answer->why);
}

// "NAME TXT "VALUE"", as a zone file has it.
static struct bytes txt_record(struct domain_check *c, struct bytes name, struct bytes value)
{
    struct buf text = {0};
    domain_format_txt(value, &text);
    struct bytes record = arena_printf(c->arena, "%.*s. TXT %s", BYTES_FMT(name), buf_cstr(&text));
    buf_done(&text);
    return record;
}

static struct bytes cname_record(struct domain_check *c, struct bytes name, struct bytes target)
{
    return arena_printf(c->arena, "%.*s. CNAME %.*s.", BYTES_FMT(name), BYTES_FMT(target));
}

// ---- ownership -------------------------------------------------------------------------------------------

static void check_ownership(struct domain_check *c)
{
    const enum domain_check_id id = DOMAIN_CHECK_OWNERSHIP;
    struct bytes name = domain_ownership_name(c->setup.domain, c->arena);
    struct bytes value = domain_ownership_value(c->setup.token, c->arena);
    const struct dns_answer *answer;
    enum look seen = look(c, name, DNS_TXT, &answer);
    c->findings[id].want = txt_record(c, name, value);
    if (seen == LOOK_FAILED)
        judge_unknown(c, id, name, answer);
    else if (seen == LOOK_NONE)
        judge(c, id, DOMAIN_MISSING, "publish this TXT record at %.*s", BYTES_FMT(name));
    if (seen != LOOK_FOUND)
        return;
    for (size_t i = 0; i < answer->count; i++) {
        found(c, id, txt_record(c, name, answer->records[i].text));
        if (bytes_eq(answer->records[i].text, value)) {
            judge_ok(c, id);
            return;
        }
    }
    judge(c, id, DOMAIN_WRONG, "the TXT record at %.*s has another value: replace it",
          BYTES_FMT(name));
}

// ---- our addresses ---------------------------------------------------------------------------------------

static void add_address(struct domain_check *c, const uint8_t *ip, bool ip6)
{
    if (c->addresses_count == DOMAIN_ADDRESSES_MAX)
        return;
    memcpy(c->addresses[c->addresses_count].ip, ip, ip6 ? 16 : 4);
    c->addresses[c->addresses_count++].ip6 = ip6;
}

static void add_addresses_of(struct domain_check *c, struct bytes host, enum dns_type type)
{
    const struct dns_answer *answer;
    if (look(c, host, type, &answer) != LOOK_FOUND)
        return;
    for (size_t i = 0; i < answer->count; i++)
        if (answer->records[i].type == type)
            add_address(c, answer->records[i].ip, type == DNS_AAAA);
}

// Those that are configured, else those of our host name.
static void find_addresses(struct domain_check *c)
{
    const struct conf *conf = c->setup.conf;
    for (uint32_t i = 0; i < conf->domains.addresses_count; i++)
        add_address(c, conf->domains.addresses[i].ip, conf->domains.addresses[i].ip6);
    if (conf->domains.addresses_count)
        return;
    add_addresses_of(c, conf->hostname, DNS_A);
    add_addresses_of(c, conf->hostname, DNS_AAAA);
}

static const char *address_text(const struct domain_check *c, size_t i, char out[INET6_ADDRSTRLEN])
{
    CHECK(inet_ntop(c->addresses[i].ip6 ? AF_INET6 : AF_INET, c->addresses[i].ip, out,
                    INET6_ADDRSTRLEN));
    return out;
}

static void judge_no_addresses(struct domain_check *c, enum domain_check_id id)
{
    judge(c, id, DOMAIN_UNKNOWN,
          "for the operator: %.*s has no address in the DNS; publish one, or set domains.addresses",
          BYTES_FMT(c->setup.conf->hostname));
}

// ---- SPF -------------------------------------------------------------------------------------------------

static enum spf_dns ask_spf(void *ctx, struct bytes name, enum spf_type type,
                            const struct spf_record **out, size_t *out_count)
{
    static const enum dns_type types[] = {
        [SPF_TXT] = DNS_TXT, [SPF_A] = DNS_A, [SPF_AAAA] = DNS_AAAA, [SPF_MX] = DNS_MX};
    struct domain_check *c = ctx;
    const struct dns_answer *answer;
    enum look seen = look(c, name, types[type], &answer);
    if (seen != LOOK_FOUND)
        return seen == LOOK_NONE     ? SPF_DNS_NONE
               : seen == LOOK_FAILED ? SPF_DNS_FAILED
                                     : SPF_DNS_LATER;
    struct spf_record *records = arena_new(c->arena, answer->count * sizeof *records);
    for (size_t i = 0; i < answer->count; i++) {
        const struct dns_record *from = &answer->records[i];
        if (from->type != types[type])
            continue;
        records[*out_count].text = type == SPF_MX ? from->name : from->text;
        memcpy(records[(*out_count)++].ip, from->ip, sizeof from->ip);
    }
    *out = records;
    return *out_count ? SPF_DNS_OK : SPF_DNS_NONE;
}

// The verdict for each of our addresses in turn, up to the first that does not pass.
static enum spf_result spf_of(struct domain_check *c, struct bytes domain,
                              struct spf_verdict *verdict, size_t *out_address)
{
    struct spf_port port = {c, ask_spf};
    enum spf_result worst = SPF_PASS;
    for (size_t i = 0; i < c->addresses_count; i++) {
        struct spf_question q = {
            .ip6 = c->addresses[i].ip6, .domain = domain, .helo = c->setup.conf->hostname};
        struct spf_verdict now;
        memcpy(q.ip, c->addresses[i].ip, sizeof q.ip);
        spf_check(&port, &q, &now);
        if (now.result == SPF_PASS || (worst != SPF_PASS && now.result != SPF_LATER))
            continue;
        worst = now.result;
        *verdict = now;
        *out_address = i;
    }
    return worst;
}

static bool show_spf_record(struct domain_check *c, struct bytes domain)
{
    const struct dns_answer *answer;
    if (look(c, domain, DNS_TXT, &answer) != LOOK_FOUND)
        return false;
    for (size_t i = 0; i < answer->count; i++)
        if (spf_is_record(answer->records[i].text)) {
            found(c, DOMAIN_CHECK_SPF, txt_record(c, domain, answer->records[i].text));
            return true;
        }
    return false;
}

static void check_spf(struct domain_check *c)
{
    const enum domain_check_id id = DOMAIN_CHECK_SPF;
    struct bytes domain = c->setup.domain, term = domain_spf_term(c->setup.conf, c->arena);
    struct spf_verdict verdict = {0};
    char ip[INET6_ADDRSTRLEN];
    size_t address = 0;
    c->findings[id].want =
        txt_record(c, domain, arena_printf(c->arena, "v=spf1 %.*s ~all", BYTES_FMT(term)));
    show_spf_record(c, domain);
    if (!c->addresses_count) {
        judge_no_addresses(c, id);
        return;
    }
    switch (spf_of(c, domain, &verdict, &address)) {
    case SPF_PASS:
        judge_ok(c, id);
        break;
    case SPF_LATER:
        break;
    case SPF_NONE:
        judge(c, id, DOMAIN_MISSING, "publish this TXT record at %.*s", BYTES_FMT(domain));
        break;
    case SPF_TEMPERROR:
        judge(c, id, DOMAIN_UNKNOWN, "the name servers gave no answer (%s): try again later",
              verdict.why);
        break;
    default:
        judge(c, id, DOMAIN_WRONG,
              "SPF for our address %s is %s (%s): put \"%.*s\" into the record, in front of what "
              "refuses it; there may be one SPF record only",
              address_text(c, address, ip), spf_result_name(verdict.result), verdict.why,
              BYTES_FMT(term));
    }
}

// ---- DKIM ------------------------------------------------------------------------------------------------

// Is what stands there the key that we sign with?
static bool is_same_key(struct bytes ours, struct bytes theirs)
{
    struct dkim_key a = {0}, b = {0};
    bool same = dkim_key_parse(ours, &a) == DKIM_KEY_GOOD &&
                dkim_key_parse(theirs, &b) == DKIM_KEY_GOOD && EVP_PKEY_eq(a.key, b.key) == 1;
    dkim_key_done(&a);
    dkim_key_done(&b);
    return same;
}

static void judge_key_record(struct domain_check *c, const struct domain_key *key,
                             struct bytes name, const struct dns_answer *answer)
{
    const enum domain_check_id id = DOMAIN_CHECK_DKIM;
    struct bytes text = answer->records[0].text;
    found(c, id, txt_record(c, name, text));
    if (answer->count > 1)
        judge(c, id, DOMAIN_WRONG, "there are several records at %.*s: leave only this one",
              BYTES_FMT(name));
    else if (!is_same_key(key->record, text))
        judge(c, id, DOMAIN_WRONG, "the record at %.*s has another key: replace it",
              BYTES_FMT(name));
}

static void check_key_txt(struct domain_check *c, const struct domain_key *key, struct bytes name)
{
    const enum domain_check_id id = DOMAIN_CHECK_DKIM;
    const struct dns_answer *answer;
    switch (look(c, name, DNS_TXT, &answer)) {
    case LOOK_FOUND:
        judge_key_record(c, key, name, answer);
        break;
    case LOOK_NONE:
        judge(c, id, DOMAIN_MISSING,
              c->setup.conf->domains.dkim == CONF_DKIM_CNAME
                  ? "for the operator: the zone domains.dkim_zone has no key there; publish what "
                    "`posthaste dkim zone` prints (%.*s)"
                  : "publish this TXT record at %.*s",
              BYTES_FMT(name));
        break;
    case LOOK_FAILED:
        judge_unknown(c, id, name, answer);
        break;
    case LOOK_LATER:
        break;
    }
}

// Judges whether there is a CNAME at the name that leads to the target. True: there is.
static bool leads_to(struct domain_check *c, enum domain_check_id id, struct bytes name,
                     struct bytes target)
{
    const struct dns_answer *answer;
    c->findings[id].want = cname_record(c, name, target);
    switch (look(c, name, DNS_CNAME, &answer)) {
    case LOOK_FOUND:
        found(c, id, cname_record(c, name, answer->records[0].name));
        if (bytes_eq_nocase(answer->records[0].name, target))
            return true;
        judge(c, id, DOMAIN_WRONG, "the CNAME record at %.*s leads elsewhere: replace it",
              BYTES_FMT(name));
        break;
    case LOOK_NONE:
        judge(c, id, DOMAIN_MISSING, "publish this CNAME record at %.*s", BYTES_FMT(name));
        break;
    case LOOK_FAILED:
        judge_unknown(c, id, name, answer);
        break;
    case LOOK_LATER:
        break;
    }
    return false;
}

// The CNAME itself, so that keys can be changed without the domain's owner; then where it leads.
static void check_key_cname(struct domain_check *c, const struct domain_key *key, struct bytes name)
{
    const enum domain_check_id id = DOMAIN_CHECK_DKIM;
    struct bytes target =
        domain_key_target(c->setup.conf, c->setup.domain, key->selector, c->arena);
    if (leads_to(c, id, name, target) && key->record.len)
        check_key_txt(c, key, name);
}

static void check_key(struct domain_check *c, const struct domain_key *key)
{
    const enum domain_check_id id = DOMAIN_CHECK_DKIM;
    struct bytes name = arena_printf(c->arena, "%.*s._domainkey.%.*s", BYTES_FMT(key->selector),
                                     BYTES_FMT(c->setup.domain));
    c->findings[id] =
        (struct domain_finding){.state = DOMAIN_OK, .want = txt_record(c, name, key->record)};
    if (c->setup.conf->domains.dkim == CONF_DKIM_CNAME)
        check_key_cname(c, key, name);
    else
        check_key_txt(c, key, name);
}

static void add_line(struct domain_check *c, struct bytes *text, struct bytes line)
{
    if (text->len && line.len)
        *text = arena_printf(c->arena, "%.*s\n%.*s", BYTES_FMT(*text), BYTES_FMT(line));
    else if (line.len)
        *text = line;
}

// Two findings as one, of the worse state; what they say a line each.
static void add_finding(struct domain_check *c, struct domain_finding *sum,
                        const struct domain_finding *one)
{
    static const int badness[] = {
        [DOMAIN_OK] = 0, [DOMAIN_UNKNOWN] = 1, [DOMAIN_MISSING] = 2, [DOMAIN_WRONG] = 3};
    if (badness[one->state] > badness[sum->state])
        sum->state = one->state;
    add_line(c, &sum->want, one->want);
    add_line(c, &sum->found, one->found);
    add_line(c, &sum->fix, one->fix);
}

// All keys with something wrong are told of; where there is none, all keys.
static void check_dkim(struct domain_check *c)
{
    const enum domain_check_id id = DOMAIN_CHECK_DKIM;
    struct domain_finding good = {.state = DOMAIN_OK}, bad = {.state = DOMAIN_OK};
    if (!c->setup.keys_count) {
        judge(c, id, DOMAIN_MISSING,
              "for the operator: there is no DKIM key for this domain yet; see `posthaste dkim`");
        return;
    }
    for (size_t i = 0; i < c->setup.keys_count; i++) {
        check_key(c, &c->setup.keys[i]);
        add_finding(c, c->findings[id].state == DOMAIN_OK ? &good : &bad, &c->findings[id]);
    }
    c->findings[id] = bad.state == DOMAIN_OK ? good : bad;
}

// ---- DMARC -----------------------------------------------------------------------------------------------

// A tag's value in "v=DMARC1; p=none; ..." (RFC 7489 section 6.4); BYTES_NONE where it is missing.
static struct bytes dmarc_tag(struct bytes record, const char *name)
{
    struct bytes part;
    while (bytes_cut(&record, ';', &part)) {
        ptrdiff_t sign = bytes_find(part, '=');
        if (sign > 0 &&
            bytes_eq_nocase(bytes_trim(bytes_first(part, (size_t)sign)), bytes_cstr(name)))
            return bytes_trim(bytes_skip(part, (size_t)sign + 1));
    }
    return BYTES_NONE;
}

static bool is_dmarc(struct bytes text)
{
    struct bytes first;
    return bytes_cut(&text, ';', &first) && bytes_eq(dmarc_tag(first, "v"), BYTES("DMARC1"));
}

static bool is_policy(struct bytes value)
{
    return bytes_eq_nocase(value, BYTES("none")) || bytes_eq_nocase(value, BYTES("quarantine")) ||
           bytes_eq_nocase(value, BYTES("reject"));
}

static void judge_dmarc(struct domain_check *c, struct bytes name, struct bytes record,
                        size_t records)
{
    const enum domain_check_id id = DOMAIN_CHECK_DMARC;
    found(c, id, txt_record(c, name, record));
    if (records > 1)
        judge(c, id, DOMAIN_WRONG, "there are %zu DMARC records at %.*s: leave one", records,
              BYTES_FMT(name));
    else if (!is_policy(dmarc_tag(record, "p")))
        judge(c, id, DOMAIN_WRONG, "the record at %.*s needs p=none, p=quarantine or p=reject",
              BYTES_FMT(name));
    else
        judge_ok(c, id);
}

// At the domain, then at the names above it: the tree walk of DMARC's successor finds what the older one finds by a
// list of public suffixes, since such suffixes rarely have records.
static void check_dmarc(struct domain_check *c)
{
    const enum domain_check_id id = DOMAIN_CHECK_DMARC;
    struct bytes domain = c->setup.domain;
    struct bytes first = arena_printf(c->arena, "_dmarc.%.*s", BYTES_FMT(domain));
    c->findings[id].want = txt_record(c, first, domain_dmarc_value(c->setup.conf, c->arena));
    for (; bytes_find(domain, '.') >= 0;
         domain = bytes_skip(domain, (size_t)bytes_find(domain, '.') + 1)) {
        struct bytes name = arena_printf(c->arena, "_dmarc.%.*s", BYTES_FMT(domain));
        const struct dns_answer *answer;
        struct bytes record = BYTES_NONE;
        size_t records = 0;
        enum look seen = look(c, name, DNS_TXT, &answer);
        if (seen == LOOK_FAILED)
            judge_unknown(c, id, name, answer);
        if (seen == LOOK_FAILED || seen == LOOK_LATER)
            return;
        for (size_t i = 0; seen == LOOK_FOUND && i < answer->count; i++)
            if (is_dmarc(answer->records[i].text)) {
                record = answer->records[i].text;
                records++;
            }
        if (records) {
            judge_dmarc(c, name, record, records);
            return;
        }
    }
    judge(c, id, DOMAIN_MISSING, "publish this TXT record at %.*s", BYTES_FMT(first));
}

// ---- addresses of a host ---------------------------------------------------------------------------------

// Has the host an address, of either family? *answer says why not, where that is unknown.
static enum look look_host(struct domain_check *c, struct bytes host,
                           const struct dns_answer **answer)
{
    const struct dns_answer *a4, *a6;
    enum look seen4 = look(c, host, DNS_A, &a4), seen6 = look(c, host, DNS_AAAA, &a6);
    *answer = seen4 == LOOK_FAILED ? a4 : a6;
    if (seen4 == LOOK_FOUND || seen6 == LOOK_FOUND)
        return LOOK_FOUND;
    if (seen4 == LOOK_LATER || seen6 == LOOK_LATER)
        return LOOK_LATER;
    return seen4 == LOOK_FAILED || seen6 == LOOK_FAILED ? LOOK_FAILED : LOOK_NONE;
}

// Does the domain take mail? LOOK_NONE: no; *is_null: it says so itself (RFC 7505).
static enum look look_mail(struct domain_check *c, struct bytes domain,
                           const struct dns_answer **answer, struct bytes *out_host, bool *is_null)
{
    enum look seen = look(c, domain, DNS_MX, answer), best = LOOK_NONE;
    *out_host = domain;
    *is_null = false;
    if (seen == LOOK_NONE) // RFC 5321 section 5.1
        return look_host(c, domain, answer);
    if (seen != LOOK_FOUND)
        return seen;
    const struct dns_answer *mx = *answer;
    for (size_t i = 0; i < mx->count && i < MX_HOSTS_LOOKED_AT; i++) {
        *out_host = mx->records[i].name;
        *is_null = mx->count == 1 && out_host->len == 0;
        seen = *is_null ? LOOK_NONE : look_host(c, *out_host, answer);
        if (seen == LOOK_FOUND)
            return LOOK_FOUND;
        best = seen == LOOK_NONE ? best : seen;
    }
    return best;
}

static void check_mx(struct domain_check *c)
{
    const enum domain_check_id id = DOMAIN_CHECK_MX;
    struct bytes domain = c->setup.domain, host;
    const struct dns_answer *answer;
    bool is_null;
    enum look seen = look_mail(c, domain, &answer, &host, &is_null);
    c->findings[id].want =
        arena_printf(c->arena, "%.*s. MX to a host with an address", BYTES_FMT(domain));
    if (seen == LOOK_FOUND && bytes_eq(host, domain))
        found(c, id, arena_printf(c->arena, "no MX; %.*s has an address", BYTES_FMT(domain)));
    else if (seen == LOOK_FOUND || !bytes_eq(host, domain))
        found(c, id, arena_printf(c->arena, "%.*s. MX %.*s.", BYTES_FMT(domain), BYTES_FMT(host)));
    if (seen == LOOK_FOUND)
        judge_ok(c, id);
    else if (seen == LOOK_FAILED)
        judge_unknown(c, id, host, answer);
    else if (seen == LOOK_NONE && is_null)
        judge(c, id, DOMAIN_WRONG,
              "%.*s says that it takes no mail (null MX); receivers refuse mail from such a "
              "domain: publish an MX record that leads to your mail host",
              BYTES_FMT(domain));
    else if (seen == LOOK_NONE && !bytes_eq(host, domain))
        judge(c, id, DOMAIN_WRONG, "the mail host %.*s has no address: correct the MX record",
              BYTES_FMT(host));
    else if (seen == LOOK_NONE)
        judge(c, id, DOMAIN_MISSING,
              "publish an MX record, so that answers to mail from %.*s arrive", BYTES_FMT(domain));
}

// ---- return path -----------------------------------------------------------------------------------------

static void check_bounce_host(struct domain_check *c, struct bytes name)
{
    const enum domain_check_id id = DOMAIN_CHECK_RETURN_PATH;
    const struct dns_answer *answer;
    struct bytes host;
    bool is_null;
    enum look seen = look_mail(c, name, &answer, &host, &is_null);
    if (seen == LOOK_FAILED)
        judge_unknown(c, id, host, answer);
    else if (seen == LOOK_NONE)
        judge(c, id, DOMAIN_WRONG,
              "for the operator: the bounce host %.*s takes no mail: it needs an address",
              BYTES_FMT(c->setup.conf->domains.bounce_host));
}

static void check_return_path(struct domain_check *c)
{
    const enum domain_check_id id = DOMAIN_CHECK_RETURN_PATH;
    struct bytes name = domain_return_path_name(c->setup.domain, c->arena);
    struct bytes target = c->setup.conf->domains.bounce_host;
    if (!target.len) {
        judge(c, id, DOMAIN_MISSING,
              "for the operator: set domains.bounce_host; until then bounces go to the senders");
        return;
    }
    if (leads_to(c, id, name, target)) {
        judge_ok(c, id);
        check_bounce_host(c, name);
    }
}

// ---- PTR -------------------------------------------------------------------------------------------------

// Does the name lead to the address?
static enum look leads_back(struct domain_check *c, struct bytes name, size_t address)
{
    bool ip6 = c->addresses[address].ip6;
    const struct dns_answer *answer;
    enum look seen = look(c, name, ip6 ? DNS_AAAA : DNS_A, &answer);
    for (size_t i = 0; seen == LOOK_FOUND && i < answer->count; i++)
        if (memcmp(answer->records[i].ip, c->addresses[address].ip, ip6 ? 16 : 4) == 0)
            return LOOK_FOUND;
    return seen == LOOK_FOUND ? LOOK_NONE : seen;
}

static void judge_names(struct domain_check *c, size_t address, const struct dns_answer *names)
{
    const enum domain_check_id id = DOMAIN_CHECK_PTR;
    char ip[INET6_ADDRSTRLEN];
    bool any_later = false, any_failed = false;
    for (size_t i = 0; i < names->count && i < PTR_NAMES_LOOKED_AT; i++) {
        struct bytes name = names->records[i].name;
        enum look back = leads_back(c, name, address);
        found(
            c, id,
            arena_printf(c->arena, "%s PTR %.*s.", address_text(c, address, ip), BYTES_FMT(name)));
        if (back == LOOK_FOUND)
            return;
        any_later = any_later || back == LOOK_LATER;
        any_failed = any_failed || back == LOOK_FAILED;
    }
    if (any_failed)
        judge(c, id, DOMAIN_UNKNOWN, "the name servers gave no answer: try again later");
    else if (!any_later)
        judge(c, id, DOMAIN_WRONG,
              "for the operator: the name of %s does not lead back to it; publish an address "
              "record for that name, or have the PTR record changed",
              address_text(c, address, ip));
}

static void check_ptr(struct domain_check *c)
{
    const enum domain_check_id id = DOMAIN_CHECK_PTR;
    char ip[INET6_ADDRSTRLEN];
    if (!c->addresses_count) {
        judge_no_addresses(c, id);
        return;
    }
    judge_ok(c, id);
    for (size_t i = 0; i < c->addresses_count && c->findings[id].state == DOMAIN_OK; i++) {
        const struct dns_answer *answer;
        struct bytes name = dns_reverse_name(c->addresses[i].ip, c->addresses[i].ip6, c->arena);
        c->findings[id].want = arena_printf(c->arena, "%s PTR %.*s.", address_text(c, i, ip),
                                            BYTES_FMT(c->setup.conf->hostname));
        switch (look(c, name, DNS_PTR, &answer)) {
        case LOOK_FOUND:
            judge_names(c, i, answer);
            break;
        case LOOK_NONE:
            judge(c, id, DOMAIN_MISSING,
                  "for the operator: %s has no name; have whoever gave you the address publish a "
                  "PTR record",
                  address_text(c, i, ip));
            break;
        case LOOK_FAILED:
            judge_unknown(c, id, name, answer);
            break;
        case LOOK_LATER:
            break;
        }
    }
}

// ---- TLS -------------------------------------------------------------------------------------------------

static const struct conf_route *route_without_tls(const struct conf *conf)
{
    for (uint32_t i = 0; i < conf->routes_count; i++)
        if (conf->routes[i].via.kind == CONF_VIA_MX && conf->routes[i].tls == CONF_ROUTE_TLS_NONE)
            return &conf->routes[i];
    return NULL;
}

static void judge_certificate(struct domain_check *c)
{
    const enum domain_check_id id = DOMAIN_CHECK_TLS;
    const struct domain_certificate *certificate = &c->certificate;
    struct bytes host = c->setup.conf->hostname;
    if (certificate->is_self_signed)
        judge(c, id, DOMAIN_WRONG,
              "for the operator: the certificate is self-signed; set tls.certificate and tls.key "
              "to one for %.*s from a public authority",
              BYTES_FMT(host));
    else if (!certificate->is_for_us)
        judge(c, id, DOMAIN_WRONG, "for the operator: the certificate is not for %.*s",
              BYTES_FMT(host));
    else if (wall_reached(certificate->not_after, c->now))
        judge(c, id, DOMAIN_WRONG, "for the operator: the certificate has expired: renew it");
    else if (wall_ms_between(c->now, certificate->not_after) < CERTIFICATE_SOON_MS)
        judge(c, id, DOMAIN_WRONG,
              "for the operator: the certificate expires within a week: "
              "renew it");
    else
        judge_ok(c, id);
}

static void check_tls(struct domain_check *c)
{
    const enum domain_check_id id = DOMAIN_CHECK_TLS;
    struct bytes host = c->setup.conf->hostname;
    struct buf until = {0};
    c->findings[id].want =
        arena_printf(c->arena, "a valid certificate for %.*s; TLS on the way out", BYTES_FMT(host));
    if (c->certificate.is_there) {
        wall_format(c->certificate.not_after, &until);
        found(c, id,
              arena_printf(c->arena, "a certificate%s%s, valid until %s",
                           c->certificate.is_for_us ? " for our name" : " for another name",
                           c->certificate.is_self_signed ? ", self-signed" : "", buf_cstr(&until)));
    }
    if (route_without_tls(c->setup.conf))
        judge(c, id, DOMAIN_WRONG,
              "for the operator: a route to the MX has tls: none, and large receivers refuse mail "
              "without TLS; set tls: may");
    else if (c->certificate.is_there)
        judge_certificate(c);
    else
        judge(c, id, DOMAIN_MISSING,
              "for the operator: no listener offers TLS; set tls.certificate and tls.key");
    buf_done(&until);
}

// ---- all -------------------------------------------------------------------------------------------------

bool domain_check_run(struct domain_check *c, struct arena *arena)
{
    c->arena = arena;
    c->waits = false;
    c->addresses_count = 0;
    memset(c->findings, 0, sizeof c->findings);
    find_addresses(c);
    check_ownership(c);
    check_spf(c);
    check_dkim(c);
    check_dmarc(c);
    check_return_path(c);
    check_mx(c);
    check_ptr(c);
    check_tls(c);
    return !c->waits;
}
