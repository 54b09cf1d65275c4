// SPDX-License-Identifier: MIT
#include "conf/conf_value.h"

#include <arpa/inet.h>
#include <idn2.h>
#include <stdio.h>

#include "base/check.h"

#define DOMAIN_MAX 253 // RFC 1035 section 2.3.4, as text
#define LABEL_MAX 63
#define LOCAL_PART_MAX 64 // RFC 5321 section 4.5.3.1.1
#define IP_TEXT_MAX 45
#define INTEGER_MAX ((uint64_t)INT64_MAX)

// ---- numbers -----------------------------------------------------------------------------------------

// Takes the digits at the front of *s.
static int take_digits(struct bytes *s, uint64_t *out)
{
    size_t n = 0;
    while (n < s->len && ascii_is_digit(s->at[n]))
        n++;
    if (!n)
        return E_SYNTAX;
    int err = bytes_to_u64(bytes_first(*s, n), INTEGER_MAX, out);
    *s = bytes_skip(*s, n);
    return err == E_SYNTAX ? E_LIMIT : err; // digits, but too many of them
}

static int multiply_add(uint64_t *sum, uint64_t value, uint64_t unit)
{
    uint64_t product;
    if (__builtin_mul_overflow(value, unit, &product) ||
        __builtin_add_overflow(*sum, product, sum) || *sum > INTEGER_MAX)
        return E_LIMIT;
    return 0;
}

static const struct {
    char letter;
    uint64_t ms;
} duration_units[] = {
    {'w', 7 * 86400000ull}, {'d', 86400000}, {'h', 3600000}, {'m', 60000}, {'s', 1000}};

int conf_value_duration(struct bytes text, int64_t *out_ms)
{
    uint64_t sum = 0;
    size_t unit = 0;
    if (!text.len)
        return E_SYNTAX;
    int result = 0;
    while (text.len) {
        uint64_t number = 0;
        int err = take_digits(&text, &number);
        if (err == E_SYNTAX || !text.len)
            return E_SYNTAX;
        while (unit < COUNT_OF(duration_units) && duration_units[unit].letter != text.at[0])
            unit++;
        if (unit == COUNT_OF(duration_units))
            return E_SYNTAX;
        if (err || multiply_add(&sum, number, duration_units[unit].ms))
            result = E_LIMIT;
        unit++;
        text = bytes_skip(text, 1);
    }
    *out_ms = (int64_t)sum;
    return result;
}

static const struct {
    const char *name;
    uint64_t bytes;
} size_units[] = {
    {"", 1},
    {"B", 1},
    {"KB", 1000},
    {"MB", 1000000},
    {"GB", 1000000000},
    {"TB", 1000000000000},
    {"KiB", 1ull << 10},
    {"MiB", 1ull << 20},
    {"GiB", 1ull << 30},
    {"TiB", 1ull << 40},
};

// Digits and up to three decimals, as thousandths.
static int take_decimal(struct bytes *s, uint64_t *out_milli)
{
    uint64_t whole = 0, milli = 0;
    int err = take_digits(s, &whole);
    if (err == E_SYNTAX)
        return err;
    if (s->len && s->at[0] == '.') {
        *s = bytes_skip(*s, 1);
        size_t n = 0;
        for (uint64_t place = 100; n < s->len && ascii_is_digit(s->at[n]); n++, place /= 10)
            milli += (uint64_t)(s->at[n] - '0') * place;
        if (n < 1 || n > 3)
            return E_SYNTAX;
        *s = bytes_skip(*s, n);
    }
    *out_milli = milli;
    if (err || multiply_add(out_milli, whole, 1000))
        return E_LIMIT;
    return 0;
}

int conf_value_size(struct bytes text, uint64_t *out_bytes)
{
    uint64_t milli = 0;
    int err = take_decimal(&text, &milli);
    if (err == E_SYNTAX)
        return err;
    for (size_t i = 0; i < COUNT_OF(size_units); i++) {
        if (!bytes_eq_nocase(text, bytes_cstr(size_units[i].name)))
            continue;
        uint64_t unit = size_units[i].bytes, sum = 0;
        if (err || multiply_add(&sum, milli / 1000, unit) ||
            multiply_add(&sum, 1, milli % 1000 * unit / 1000))
            return E_LIMIT;
        *out_bytes = sum;
        return 0;
    }
    return E_SYNTAX;
}

int conf_value_count(struct bytes text, uint64_t *out)
{
    char digits[32];
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.at[i] == '_' && i && i + 1 < text.len && text.at[i - 1] != '_')
            continue;
        if (!ascii_is_digit(text.at[i]))
            return E_SYNTAX;
        if (n == sizeof digits)
            return E_LIMIT;
        digits[n++] = text.at[i];
    }
    struct bytes rest = bytes_of(digits, n);
    return take_digits(&rest, out);
}

int conf_value_decimal(struct bytes text, uint64_t *out_milli)
{
    int err = take_decimal(&text, out_milli);
    return text.len ? E_SYNTAX : err;
}

int conf_value_bool(struct bytes text, bool *out)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (bytes_eq_nocase(text, bytes_cstr(words[i]))) {
            *out = i % 2;
            return 0;
        }
    return E_SYNTAX;
}

// ---- addresses ---------------------------------------------------------------------------------------

int conf_value_ip(struct bytes text, uint8_t out_ip[16], bool *out_ip6)
{
    char copy[IP_TEXT_MAX + 1];
    if (!text.len || text.len > IP_TEXT_MAX || memchr(text.at, 0, text.len))
        return E_SYNTAX;
    memcpy(copy, text.at, text.len);
    copy[text.len] = 0;
    memset(out_ip, 0, 16);
    *out_ip6 = bytes_find(text, ':') >= 0;
    return inet_pton(*out_ip6 ? AF_INET6 : AF_INET, copy, out_ip) == 1 ? 0 : E_SYNTAX;
}

static bool host_bits_zero(const struct conf_cidr *cidr)
{
    uint32_t size = cidr->ip6 ? 128 : 32;
    for (uint32_t bit = cidr->bits; bit < size; bit++)
        if (cidr->ip[bit / 8] & (0x80 >> bit % 8))
            return false;
    return true;
}

int conf_value_cidr(struct bytes text, struct conf_cidr *out)
{
    ptrdiff_t slash = bytes_find(text, '/');
    struct bytes address = slash < 0 ? text : bytes_first(text, (size_t)slash);
    if (conf_value_ip(address, out->ip, &out->ip6))
        return E_SYNTAX;
    uint64_t bits = out->ip6 ? 128 : 32;
    if (slash >= 0 && bytes_to_u64(bytes_skip(text, (size_t)slash + 1), bits, &bits))
        return E_SYNTAX;
    out->bits = (uint8_t)bits;
    return host_bits_zero(out) ? 0 : E_LIMIT;
}

static int parse_port(struct bytes text, uint16_t *out)
{
    uint64_t port = 0;
    if (!text.len || text.len > 5 || bytes_to_u64(text, 65535, &port))
        return E_SYNTAX;
    *out = (uint16_t)port;
    return 0;
}

static const char *ip_text(const uint8_t ip[16], bool ip6, char out[INET6_ADDRSTRLEN])
{
    CHECK(inet_ntop(ip6 ? AF_INET6 : AF_INET, ip, out, INET6_ADDRSTRLEN));
    return out;
}

int conf_value_endpoint(struct bytes text, struct arena *arena, struct conf_endpoint *out)
{
    ptrdiff_t colon = bytes_find_last(text, ':');
    if (colon < 0 || parse_port(bytes_skip(text, (size_t)colon + 1), &out->port))
        return E_SYNTAX;
    struct bytes host = bytes_first(text, (size_t)colon);
    out->any_family = bytes_eq(host, BYTES("*"));
    if (out->any_family)
        host = BYTES("[::]");
    bool bracketed = host.len > 2 && host.at[0] == '[' && host.at[host.len - 1] == ']';
    uint8_t ip[16];
    bool ip6;
    if (conf_value_ip(bracketed ? bytes_mid(host, 1, host.len - 2) : host, ip, &ip6) ||
        ip6 != bracketed)
        return E_SYNTAX;
    char shown[INET6_ADDRSTRLEN];
    out->text = arena_printf(arena, ip6 ? "[%s]:%u" : "%s:%u", ip_text(ip, ip6, shown), out->port);
    return 0;
}

int conf_value_server(struct bytes text, struct arena *arena, struct bytes *out)
{
    ptrdiff_t sign = bytes_find(text, '@');
    uint16_t port = 53;
    if (sign >= 0 && (parse_port(bytes_skip(text, (size_t)sign + 1), &port) || !port))
        return E_SYNTAX;
    uint8_t ip[16];
    bool ip6;
    if (conf_value_ip(sign < 0 ? text : bytes_first(text, (size_t)sign), ip, &ip6))
        return E_SYNTAX;
    char shown[INET6_ADDRSTRLEN];
    *out = arena_printf(arena, "%s@%u", ip_text(ip, ip6, shown), port);
    return 0;
}

// ---- names -------------------------------------------------------------------------------------------

// RFC 1123 section 2.1, and '_' that some mail domains carry.
static bool is_label(struct bytes label)
{
    if (!label.len || label.len > LABEL_MAX || label.at[0] == '-' || label.at[label.len - 1] == '-')
        return false;
    for (size_t i = 0; i < label.len; i++)
        if (!ascii_is_alnum(label.at[i]) && label.at[i] != '-' && label.at[i] != '_')
            return false;
    return true;
}

int conf_value_hostname(struct bytes text, struct arena *arena, struct bytes *out)
{
    if (bytes_ends(text, BYTES(".")))
        text = bytes_first(text, text.len - 1);
    if (!text.len || text.len > DOMAIN_MAX)
        return E_SYNTAX;
    struct bytes rest = text, label = BYTES_NONE;
    while (bytes_cut(&rest, '.', &label))
        if (!is_label(label))
            return E_SYNTAX;
    bool digits = true; // a last label of digits alone would be an address
    for (size_t i = 0; i < label.len; i++)
        digits = digits && ascii_is_digit(label.at[i]);
    if (digits)
        return E_SYNTAX;
    *out = arena_lower(arena, text);
    return 0;
}

int conf_value_mailbox(struct bytes text, struct arena *arena, struct bytes *out)
{
    ptrdiff_t sign = bytes_find_last(text, '@');
    struct bytes domain;
    if (sign < 1 || sign > LABEL_MAX + 1 ||
        conf_value_hostname(bytes_skip(text, (size_t)sign + 1), arena, &domain))
        return E_SYNTAX;
    struct bytes local = bytes_first(text, (size_t)sign);
    for (size_t i = 0; i < local.len; i++)
        if (!ascii_is_alnum(local.at[i]) && bytes_find(BYTES("._-+="), local.at[i]) < 0)
            return E_SYNTAX;
    *out = arena_printf(arena, "%.*s@%.*s", BYTES_FMT(local), BYTES_FMT(domain));
    return 0;
}

int conf_value_domain(struct bytes text, struct arena *arena, struct bytes *out)
{
    if (bytes_is_ascii(text))
        return conf_value_hostname(text, arena, out);
    if (text.len > 4 * DOMAIN_MAX || !bytes_is_utf8(text) || memchr(text.at, 0, text.len))
        return E_SYNTAX;
    char *ascii = NULL;
    int rc =
        idn2_to_ascii_8z(arena_cstr(arena, text), &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    if (rc != IDN2_OK)
        return E_SYNTAX;
    int err = conf_value_hostname(bytes_cstr(ascii), arena, out);
    idn2_free(ascii);
    return err;
}

int conf_value_name(struct bytes text, struct arena *arena, struct bytes *out)
{
    if (!text.len || text.len > CONF_NAME_MAX || !ascii_is_alnum(text.at[0]))
        return E_SYNTAX;
    for (size_t i = 0; i < text.len; i++)
        if (!ascii_is_alnum(text.at[i]) && !memchr("._-", text.at[i], 3))
            return E_SYNTAX;
    *out = arena_lower(arena, text);
    return 0;
}

static int pattern_domain(struct bytes text, struct arena *arena, struct bytes *out)
{
    struct bytes domain;
    bool sub = bytes_starts(text, BYTES("*."));
    int err = conf_value_domain(bytes_skip(text, sub ? 2 : 0), arena, &domain);
    if (!err)
        *out = arena_printf(arena, "%s%.*s", sub ? "*." : "", BYTES_FMT(domain));
    return err;
}

static int literal_domain(struct bytes text, struct arena *arena, struct bytes *out)
{
    uint8_t ip[16];
    bool ip6;
    struct bytes inner = bytes_mid(text, 1, text.len - 2);
    if (bytes_starts_nocase(inner, BYTES("IPv6:")))
        inner = bytes_skip(inner, 5);
    if (conf_value_ip(inner, ip, &ip6))
        return E_SYNTAX;
    *out = arena_lower(arena, text);
    return 0;
}

int conf_value_pattern(struct bytes text, struct arena *arena, struct bytes *out)
{
    if (bytes_eq(text, BYTES("*"))) {
        *out = BYTES("*");
        return 0;
    }
    if (text.len > 2 && text.at[0] == '[' && text.at[text.len - 1] == ']')
        return literal_domain(text, arena, out);
    ptrdiff_t sign = bytes_find_last(text, '@');
    if (sign < 0)
        return pattern_domain(text, arena, out);
    struct bytes local = bytes_first(text, (size_t)sign), domain;
    if (!local.len || local.len > LOCAL_PART_MAX || bytes_has_control(local, NULL) ||
        bytes_find(local, ' ') >= 0 || bytes_eq(local, BYTES("*")))
        return E_SYNTAX;
    int err = conf_value_domain(bytes_skip(text, (size_t)sign + 1), arena, &domain);
    if (!err)
        *out = arena_lower(arena,
                           arena_printf(arena, "%.*s@%.*s", BYTES_FMT(local), BYTES_FMT(domain)));
    return err;
}

// ---- via ---------------------------------------------------------------------------------------------

// HOST:PORT, HOST a name, an address or [an IPv6 address].
static int parse_host_port(struct bytes text, struct arena *arena, struct conf_via *out)
{
    ptrdiff_t colon = bytes_find_last(text, ':');
    if (colon < 0 || parse_port(bytes_skip(text, (size_t)colon + 1), &out->port) || !out->port)
        return E_SYNTAX;
    struct bytes host = bytes_first(text, (size_t)colon);
    bool bracketed = host.len > 2 && host.at[0] == '[' && host.at[host.len - 1] == ']';
    if (bracketed)
        host = bytes_mid(host, 1, host.len - 2);
    uint8_t ip[16];
    bool ip6;
    if (conf_value_ip(host, ip, &ip6) == 0) {
        if (ip6 != bracketed)
            return E_SYNTAX;
        out->host = arena_lower(arena, host);
        return 0;
    }
    return bracketed ? E_SYNTAX : conf_value_domain(host, arena, &out->host);
}

// An absolute path in which '%' stands before d, u or % only.
static int parse_maildir(struct bytes path, struct arena *arena, struct conf_via *out)
{
    if (!bytes_starts(path, BYTES("/")) || bytes_has_control(path, NULL))
        return E_SYNTAX;
    for (size_t i = 0; i < path.len; i++)
        if (path.at[i] == '%' && (++i == path.len || !memchr("du%", path.at[i], 3)))
            return E_SYNTAX;
    out->kind = CONF_VIA_MAILDIR;
    out->path = arena_dup(arena, path);
    return 0;
}

static int parse_lmtp(struct bytes rest, struct arena *arena, struct conf_via *out)
{
    if (!bytes_starts(rest, BYTES("/"))) {
        out->kind = CONF_VIA_LMTP;
        return parse_host_port(rest, arena, out);
    }
    if (bytes_has_control(rest, NULL) || rest.len > 107) // sun_path
        return E_SYNTAX;
    out->kind = CONF_VIA_LMTP_UNIX;
    out->path = arena_dup(arena, rest);
    return 0;
}

int conf_value_via(struct bytes text, struct arena *arena, struct conf_via *out)
{
    *out = (struct conf_via){.kind = CONF_VIA_MX, .text = arena_dup(arena, text), .port = 25};
    if (bytes_eq(text, BYTES("mx")))
        return 0;
    if (bytes_eq(text, BYTES("discard"))) {
        out->kind = CONF_VIA_DISCARD;
        return 0;
    }
    if (bytes_starts(text, BYTES("mx:")))
        return parse_port(bytes_skip(text, 3), &out->port) || !out->port ? E_SYNTAX : 0;
    if (bytes_starts(text, BYTES("smtp://"))) {
        out->kind = CONF_VIA_SMTP;
        return parse_host_port(bytes_skip(text, 7), arena, out);
    }
    if (bytes_starts(text, BYTES("smtps://"))) {
        out->kind = CONF_VIA_SMTPS;
        return parse_host_port(bytes_skip(text, 8), arena, out);
    }
    if (bytes_starts(text, BYTES("lmtp:")))
        return parse_lmtp(bytes_skip(text, 5), arena, out);
    if (bytes_starts(text, BYTES("maildir:")))
        return parse_maildir(bytes_skip(text, 8), arena, out);
    return E_SYNTAX;
}

// ---- numbers to text ---------------------------------------------------------------------------------

void conf_format_duration(int64_t ms, struct buf *out)
{
    uint64_t rest = (uint64_t)ms;
    bool any = false;
    for (size_t i = 1; i < COUNT_OF(duration_units); i++) { // days are clearer than weeks
        uint64_t n = rest / duration_units[i].ms;
        if (n)
            buf_printf(out, "%llu%c", (unsigned long long)n, duration_units[i].letter);
        any = any || n;
        rest %= duration_units[i].ms;
    }
    if (!any)
        buf_add_cstr(out, "0s");
}

void conf_format_size(uint64_t bytes, struct buf *out)
{
    static const char *const names[] = {"", "KiB", "MiB", "GiB", "TiB"};
    size_t i = 0;
    while (bytes && bytes % 1024 == 0 && i + 1 < COUNT_OF(names)) {
        bytes /= 1024;
        i++;
    }
    buf_printf(out, "%llu%s", (unsigned long long)bytes, names[i]);
}

void conf_format_decimal(uint64_t milli, struct buf *out)
{
    buf_add_u64(out, milli / 1000);
    if (milli % 1000) {
        char text[8];
        int n = snprintf(text, sizeof text, ".%03u", (unsigned)(milli % 1000));
        while (n > 1 && text[n - 1] == '0')
            n--;
        buf_add(out, bytes_of(text, (size_t)n));
    }
}
