// SPDX-License-Identifier: MIT
//
// How it works: the record of a domain is read term by term. It is read once without asking anything, because a
// record that breaks off in a syntax error decides nothing (section 4.6), and then once more, each mechanism being
// asked whether it matches. include and redirect do the same with another domain; the limit of lookups bounds how deep.
#include "sign/spf.h"

#include <stdio.h>

#include "base/arena.h"
#include "base/check.h"
#include "conf/conf_value.h"

#define NAME_MAX_OCTETS 253
#define EXPANDED_MAX 1024
#define NOT_DECIDED                                                                                \
    SPF_NONE // a mechanism that does not match, a record whose terms have not all been tried

struct check {
    const struct spf_port *port;
    const struct spf_question *question;
    struct spf_verdict *out;
    struct arena arena;
    unsigned voids;
};

struct term {
    char qualifier; // '+' if none was written
    struct bytes name, value, whole;
    bool is_modifier, has_value;
    unsigned bits4, bits6; // prefix lengths, 32 and 128 if none was written
};

static enum spf_result check_domain(struct check *c, struct bytes domain);

const char *spf_result_name(enum spf_result result)
{
    static const char *const names[] = {"none",     "neutral",   "pass",      "fail",
                                        "softfail", "temperror", "permerror", "later"};
    CHECK(result < COUNT_OF(names));
    return names[result];
}

static enum spf_result say(struct check *c, enum spf_result result, struct bytes domain,
                           const char *what, struct bytes term)
{
    struct buf text = {0};
    buf_printf(&text, "%s", what);
    if (term.len) {
        buf_add_cstr(&text, " '");
        buf_add_escaped(&text, term, 80);
        buf_add_byte(&text, '\'');
    }
    buf_add_cstr(&text, " in the record of ");
    buf_add_escaped(&text, domain, 80);
    snprintf(c->out->why, sizeof c->out->why, "%s", buf_cstr(&text));
    buf_done(&text);
    return result;
}

// ---- asking ----------------------------------------------------------------------------------------------

// NOT_DECIDED with what the DNS has (possibly nothing); else why there is no answer.
static enum spf_result ask(struct check *c, struct bytes domain, struct bytes name,
                           enum spf_type type, const struct spf_record **out, size_t *out_count)
{
    *out_count = 0;
    switch (c->port->ask(c->port->ctx, name, type, out, out_count)) {
    case SPF_DNS_OK:
        return NOT_DECIDED;
    case SPF_DNS_NONE:
        *out_count = 0;
        return NOT_DECIDED;
    case SPF_DNS_FAILED:
        return say(c, SPF_TEMPERROR, domain, "no answer about", name);
    case SPF_DNS_LATER:
        break;
    }
    return SPF_LATER;
}

// Section 4.6.4: names that lead nowhere are counted.
static enum spf_result count_void(struct check *c, struct bytes domain, struct bytes name)
{
    return ++c->voids > SPF_VOID_MAX
               ? say(c, SPF_PERMERROR, domain, "too many names without records, the last", name)
               : NOT_DECIDED;
}

static enum spf_result count_lookup(struct check *c, struct bytes domain, const struct term *term)
{
    return ++c->out->lookups > SPF_LOOKUPS_MAX
               ? say(c, SPF_PERMERROR, domain, "more than 10 DNS lookups, at", term->whole)
               : NOT_DECIDED;
}

// ---- macros (section 7) ----------------------------------------------------------------------------------

static void add_ip(struct check *c, struct buf *out)
{
    const struct spf_question *q = c->question;
    for (int i = 0; i < (q->ip6 ? 16 : 4); i++) {
        if (q->ip6)
            buf_printf(out, "%s%x.%x", i ? "." : "", q->ip[i] >> 4, q->ip[i] & 15);
        else
            buf_printf(out, "%s%u", i ? "." : "", q->ip[i]);
    }
}

static struct bytes local_of(struct check *c)
{
    return c->question->local.len ? c->question->local : BYTES("postmaster");
}

static bool add_letter(struct check *c, char letter, struct bytes domain, struct buf *out)
{
    const struct spf_question *q = c->question;
    switch (ascii_lower(letter)) {
    case 's':
        buf_add_all(out, local_of(c), BYTES("@"), q->domain);
        return true;
    case 'l':
        buf_add(out, local_of(c));
        return true;
    case 'o':
        buf_add(out, q->domain);
        return true;
    case 'd':
        buf_add(out, domain);
        return true;
    case 'i':
        add_ip(c, out);
        return true;
    case 'p':
        buf_add_cstr(out, "unknown");
        return true;
    case 'v':
        buf_add_cstr(out, q->ip6 ? "ip6" : "in-addr");
        return true;
    case 'h':
        buf_add(out, q->helo);
        return true;
    default:
        return false;
    }
}

// The last `keep` (0: all) of the parts between delimiters, reversed or not, joined by dots.
static void transform(struct bytes text, struct bytes delimiters, uint64_t keep, bool reverse,
                      struct buf *out)
{
    struct bytes parts[EXPANDED_MAX / 2];
    size_t count = 0, start = 0;
    for (size_t i = 0; i <= text.len && count < COUNT_OF(parts); i++) {
        if (i < text.len && bytes_find(delimiters, text.at[i]) < 0)
            continue;
        parts[count++] = bytes_mid(text, start, i - start);
        start = i + 1;
    }
    size_t first = keep && keep < count ? count - (size_t)keep : 0;
    for (size_t i = first; i < count; i++) {
        if (i > first)
            buf_add_byte(out, '.');
        // Reversed, "the last n" are those at the end of the reversed row: the first ones.
        buf_add(out, parts[reverse ? count - 1 - i : i]);
    }
}

// One macro behind its "%{"; *text is moved behind "}". False: a syntax error.
static bool add_macro(struct check *c, struct bytes domain, struct bytes *text, struct buf *out)
{
    struct bytes inner, digits;
    ptrdiff_t end = bytes_find(*text, '}');
    if (end < 1)
        return false;
    inner = bytes_first(*text, (size_t)end);
    *text = bytes_skip(*text, (size_t)end + 1);
    char letter = inner.at[0];
    inner = bytes_skip(inner, 1);
    size_t n = 0;
    while (n < inner.len && ascii_is_digit(inner.at[n]))
        n++;
    digits = bytes_first(inner, n);
    inner = bytes_skip(inner, n);
    uint64_t keep = 0;
    if (digits.len && (bytes_to_u64(digits, 128, &keep) != 0 || keep == 0))
        return false;
    bool reverse = inner.len && ascii_lower(inner.at[0]) == 'r';
    inner = bytes_skip(inner, reverse ? 1 : 0);
    for (size_t i = 0; i < inner.len; i++)
        if (bytes_find(BYTES(".-+,/_="), inner.at[i]) < 0)
            return false;
    struct buf value;
    buf_init(&value, EXPANDED_MAX);
    bool known = add_letter(c, letter, domain, &value);
    if (known && (reverse || keep || inner.len))
        transform(buf_bytes(&value), inner.len ? inner : BYTES("."), keep, reverse, out);
    else if (known)
        buf_add(out, buf_bytes(&value));
    buf_done(&value);
    return known;
}

static bool expand(struct check *c, struct bytes domain, struct bytes text, struct buf *out)
{
    while (text.len) {
        char ch = text.at[0], next = text.len > 1 ? text.at[1] : 0;
        if (ch < 0x21 || ch > 0x7e)
            return false;
        text = bytes_skip(text, ch == '%' ? 2 : 1);
        if (ch != '%')
            buf_add_byte(out, ch);
        else if (next == '{' && !add_macro(c, domain, &text, out))
            return false;
        else if (next == '%' || next == '_')
            buf_add_byte(out, next == '%' ? '%' : ' ');
        else if (next == '-')
            buf_add_cstr(out, "%20");
        else if (next != '{')
            return false;
    }
    return out->err == OK;
}

// Section 7.3: a name that is too long loses labels at its front.
static struct bytes shortened(struct bytes name)
{
    if (bytes_ends(name, BYTES(".")))
        name = bytes_first(name, name.len - 1);
    while (name.len > NAME_MAX_OCTETS && bytes_find(name, '.') >= 0)
        name = bytes_skip(name, (size_t)bytes_find(name, '.') + 1);
    return name;
}

// The name that a term speaks of: its value expanded, or the record's own domain. False: a syntax error.
static bool target_of(struct check *c, struct bytes domain, const struct term *term,
                      struct bytes *out)
{
    if (!term->has_value) {
        *out = domain;
        return true;
    }
    struct buf name;
    buf_init(&name, EXPANDED_MAX);
    bool ok = term->value.len && expand(c, domain, term->value, &name);
    if (ok)
        *out = arena_dup(&c->arena, shortened(buf_bytes(&name)));
    buf_done(&name);
    return ok;
}

// ---- terms -----------------------------------------------------------------------------------------------

static bool is_name(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!ascii_is_alnum(text.at[i]) && bytes_find(BYTES("-_."), text.at[i]) < 0)
            return false;
    return text.len && ascii_is_alpha(text.at[0]);
}

// Takes "/N" off the end of *text if it stands there. False: what stands there is no prefix length.
static bool take_bits(struct bytes *text, struct bytes slash, unsigned max, unsigned *out)
{
    size_t n = text->len;
    uint64_t bits;
    while (n && ascii_is_digit(text->at[n - 1]))
        n--;
    struct bytes digits = bytes_skip(*text, n);
    if (n < slash.len || !bytes_eq(bytes_mid(*text, n - slash.len, slash.len), slash))
        return true;
    bool padded = digits.len > 1 && digits.at[0] == '0';
    if (!digits.len || padded || bytes_to_u64(digits, max, &bits) != 0)
        return false;
    *out = (unsigned)bits;
    *text = bytes_first(*text, n - slash.len);
    return true;
}

// dual-cidr-length = [ ip4-cidr-length ] [ "/" ip6-cidr-length ]
static bool take_dual_bits(struct bytes *text, unsigned *out4, unsigned *out6)
{
    *out4 = 32;
    *out6 = 128;
    return take_bits(text, BYTES("//"), 128, out6) && take_bits(text, BYTES("/"), 32, out4);
}

// directive = [ qualifier ] mechanism, modifier = name "=" macro-string
static bool parse_term(struct bytes text, struct term *out)
{
    *out = (struct term){.qualifier = '+', .whole = text};
    size_t n = 0;
    while (n < text.len && bytes_find(BYTES("=:/"), text.at[n]) < 0)
        n++;
    out->is_modifier = n < text.len && text.at[n] == '=';
    if (!out->is_modifier && text.len && bytes_find(BYTES("+-?~"), text.at[0]) >= 0) {
        out->qualifier = text.at[0];
        text = bytes_skip(text, 1);
        n--;
    }
    out->name = bytes_first(text, n);
    out->value = bytes_skip(text, n);
    bool address =
        bytes_eq_nocase(out->name, BYTES("a")) || bytes_eq_nocase(out->name, BYTES("mx"));
    if (address && !take_dual_bits(&out->value, &out->bits4, &out->bits6))
        return false;
    out->has_value = out->value.len && out->value.at[0] != '/';
    out->value = bytes_skip(out->value, out->has_value ? 1 : 0);
    return is_name(out->name) && (out->has_value || !out->value.len);
}

static bool is_within(const struct spf_question *q, const uint8_t *ip, bool ip6, unsigned bits)
{
    if (q->ip6 != ip6)
        return false;
    for (unsigned i = 0; i < (bits + 7) / 8; i++) {
        unsigned left = bits - 8 * i;
        uint8_t mask = left >= 8 ? 0xff : (uint8_t)(0xff << (8 - left));
        if ((q->ip[i] ^ ip[i]) & mask)
            return false;
    }
    return true;
}

// ip4:NET, ip6:NET. False: a syntax error.
static bool parse_network(const struct term *term, bool ip6, uint8_t ip[16], unsigned *out_bits)
{
    struct bytes text = term->value;
    bool is6;
    *out_bits = ip6 ? 128 : 32;
    return term->has_value && take_bits(&text, BYTES("/"), *out_bits, out_bits) &&
           conf_value_ip(text, ip, &is6) == 0 && is6 == ip6;
}

// ---- mechanisms: PASS where it matches, NOT_DECIDED where not ---------------------------------------------

static enum spf_result match_host(struct check *c, struct bytes domain, struct bytes host,
                                  const struct term *term)
{
    const struct spf_record *records;
    size_t count;
    bool ip6 = c->question->ip6;
    enum spf_result result = ask(c, domain, host, ip6 ? SPF_AAAA : SPF_A, &records, &count);
    if (result != NOT_DECIDED)
        return result;
    for (size_t i = 0; i < count; i++)
        if (is_within(c->question, records[i].ip, ip6, ip6 ? term->bits6 : term->bits4))
            return SPF_PASS;
    return count ? NOT_DECIDED : count_void(c, domain, host);
}

static enum spf_result match_mx(struct check *c, struct bytes domain, struct bytes target,
                                const struct term *term)
{
    const struct spf_record *records;
    size_t count;
    enum spf_result result = ask(c, domain, target, SPF_MX, &records, &count), later = NOT_DECIDED;
    if (result != NOT_DECIDED)
        return result;
    if (!count)
        return count_void(c, domain, target);
    if (count > SPF_HOSTS_MAX)
        return say(c, SPF_PERMERROR, domain, "more than 10 hosts for", term->whole);
    for (size_t i = 0; i < count; i++) {
        result = match_host(c, domain, records[i].text, term);
        if (result == SPF_LATER)
            later = SPF_LATER; // the others are asked for at once
        else if (result != NOT_DECIDED && later == NOT_DECIDED)
            return result;
    }
    return later;
}

static enum spf_result match_exists(struct check *c, struct bytes domain, struct bytes target)
{
    const struct spf_record *records;
    size_t count;
    enum spf_result result = ask(c, domain, target, SPF_A, &records, &count);
    if (result != NOT_DECIDED)
        return result;
    return count ? SPF_PASS : count_void(c, domain, target);
}

// Section 5.2, the table.
static enum spf_result match_include(struct check *c, struct bytes domain, struct bytes target,
                                     const struct term *term)
{
    enum spf_result result = check_domain(c, target);
    switch (result) {
    case SPF_PASS:
    case SPF_TEMPERROR:
    case SPF_PERMERROR:
    case SPF_LATER:
        return result;
    case SPF_NONE:
        return say(c, SPF_PERMERROR, domain, "there is no SPF record for", term->whole);
    default:
        return NOT_DECIDED;
    }
}

enum mechanism { ALL, INCLUDE, A, MX, PTR, IP4, IP6, EXISTS, MECHANISMS };
static const struct {
    const char *name;
    bool needs_value, asks;
} mechanisms[MECHANISMS] = {
    [ALL] = {"all", false, false}, [INCLUDE] = {"include", true, true},
    [A] = {"a", false, true},      [MX] = {"mx", false, true},
    [PTR] = {"ptr", false, true},  [IP4] = {"ip4", true, false},
    [IP6] = {"ip6", true, false},  [EXISTS] = {"exists", true, true},
};

static enum mechanism find_mechanism(struct bytes name)
{
    int m = 0;
    while (m < MECHANISMS && !bytes_eq_nocase(name, bytes_cstr(mechanisms[m].name)))
        m++;
    return (enum mechanism)m;
}

static bool is_well_formed(struct check *c, struct bytes domain, const struct term *term)
{
    enum mechanism m = find_mechanism(term->name);
    uint8_t ip[16];
    unsigned bits;
    struct bytes target;
    if (m == MECHANISMS || (mechanisms[m].needs_value && !term->has_value))
        return false;
    if (m == ALL)
        return !term->has_value;
    if (m == IP4 || m == IP6)
        return parse_network(term, m == IP6, ip, &bits);
    return target_of(c, domain, term, &target);
}

static enum spf_result match(struct check *c, struct bytes domain, const struct term *term)
{
    enum mechanism m = find_mechanism(term->name);
    uint8_t ip[16];
    unsigned bits;
    struct bytes target;
    if (mechanisms[m].asks && count_lookup(c, domain, term) != NOT_DECIDED)
        return SPF_PERMERROR;
    CHECK(m == ALL || m == IP4 || m == IP6 || target_of(c, domain, term, &target));
    switch (m) {
    case ALL:
        return SPF_PASS;
    case IP4:
    case IP6:
        CHECK(parse_network(term, m == IP6, ip, &bits));
        return is_within(c->question, ip, m == IP6, bits) ? SPF_PASS : NOT_DECIDED;
    case INCLUDE:
        return match_include(c, domain, target, term);
    case A:
        return match_host(c, domain, target, term);
    case MX:
        return match_mx(c, domain, target, term);
    case EXISTS:
        return match_exists(c, domain, target);
    default: // ptr
        return NOT_DECIDED;
    }
}

// ---- records ---------------------------------------------------------------------------------------------

static bool next_term(struct bytes *record, struct bytes *out)
{
    while (bytes_cut(record, ' ', out))
        if (out->len)
            return true;
    return false;
}

// Section 6: redirect and exp may each stand there once; others are ignored.
static enum spf_result check_modifier(struct check *c, struct bytes domain, const struct term *term,
                                      unsigned *redirects, unsigned *exps)
{
    struct bytes target;
    bool redirect = bytes_eq_nocase(term->name, BYTES("redirect"));
    *redirects += redirect;
    *exps += bytes_eq_nocase(term->name, BYTES("exp"));
    if (*redirects > 1 || *exps > 1)
        return say(c, SPF_PERMERROR, domain, "a second", term->whole);
    if (redirect && !target_of(c, domain, term, &target))
        return say(c, SPF_PERMERROR, domain, "wrong syntax:", term->whole);
    return NOT_DECIDED;
}

static enum spf_result check_syntax(struct check *c, struct bytes domain, struct bytes record,
                                    struct term *out_redirect)
{
    unsigned redirects = 0, exps = 0;
    struct bytes text;
    struct term term;
    enum spf_result result = NOT_DECIDED;
    while (result == NOT_DECIDED && next_term(&record, &text)) {
        bool ok = parse_term(text, &term);
        if (ok && term.is_modifier)
            result = check_modifier(c, domain, &term, &redirects, &exps);
        else if (!ok || !is_well_formed(c, domain, &term))
            result = say(c, SPF_PERMERROR, domain, "wrong syntax:", text);
        if (ok && term.is_modifier && bytes_eq_nocase(term.name, BYTES("redirect")))
            *out_redirect = term;
    }
    return result;
}

static enum spf_result qualified(char qualifier)
{
    switch (qualifier) {
    case '-':
        return SPF_FAIL;
    case '~':
        return SPF_SOFTFAIL;
    case '?':
        return SPF_NEUTRAL;
    default:
        return SPF_PASS;
    }
}

static enum spf_result follow_redirect(struct check *c, struct bytes domain,
                                       const struct term *redirect)
{
    struct bytes target;
    if (count_lookup(c, domain, redirect) != NOT_DECIDED)
        return SPF_PERMERROR;
    CHECK(target_of(c, domain, redirect, &target));
    enum spf_result result = check_domain(c, target);
    return result == SPF_NONE
               ? say(c, SPF_PERMERROR, domain, "there is no SPF record for", redirect->whole)
               : result;
}

static enum spf_result check_record(struct check *c, struct bytes domain, struct bytes record)
{
    struct term term, redirect = {0};
    struct bytes text;
    record = bytes_skip(record, 6); // "v=spf1"
    enum spf_result result = check_syntax(c, domain, record, &redirect);
    if (result != NOT_DECIDED)
        return result;
    while (next_term(&record, &text)) {
        CHECK(parse_term(text, &term));
        result = term.is_modifier ? NOT_DECIDED : match(c, domain, &term);
        if (result == SPF_PASS)
            return say(c, qualified(term.qualifier), domain, "it is", text);
        if (result != NOT_DECIDED)
            return result;
    }
    if (redirect.name.len)
        return follow_redirect(c, domain, &redirect);
    return say(c, SPF_NEUTRAL, domain, "nothing matches", BYTES_NONE);
}

bool spf_is_record(struct bytes text)
{
    return bytes_starts_nocase(text, BYTES("v=spf1")) && (text.len == 6 || text.at[6] == ' ');
}

// SPF_NONE: there is no record.
static enum spf_result check_domain(struct check *c, struct bytes domain)
{
    const struct spf_record *records;
    size_t count;
    enum spf_result result = ask(c, domain, domain, SPF_TXT, &records, &count);
    if (result != NOT_DECIDED)
        return result;
    const struct spf_record *found = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!spf_is_record(records[i].text))
            continue;
        if (found) // section 4.5
            return say(c, SPF_PERMERROR, domain, "a second SPF record", BYTES_NONE);
        found = &records[i];
    }
    return found ? check_record(c, domain, found->text) : SPF_NONE;
}

void spf_check(const struct spf_port *port, const struct spf_question *question,
               struct spf_verdict *out)
{
    struct check c = {.port = port, .question = question, .out = out};
    *out = (struct spf_verdict){0};
    out->result = check_domain(&c, question->domain);
    if (out->result == SPF_NONE)
        snprintf(out->why, sizeof out->why, "there is no SPF record");
    arena_done(&c.arena);
}
