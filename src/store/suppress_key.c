// SPDX-License-Identifier: MIT
//
// How it works: nearly all addresses are plain (letters, digits, a few marks) and only need lower case; what is not
// plain takes the long way through mail_address. A test holds both ways against each other.
#include "store/suppress_key.h"

#include "store/suppress.h"

static bool is_plain_local(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '+' ||
           c == '=';
}

static bool is_plain_domain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

// Words of plain characters with single dots (in the domain also hyphens) between them. False: the long way.
static bool parse_plain(struct bytes address, struct suppress_address *out)
{
    size_t at = 0, word = 0;
    bool domain = false;
    if (address.len > MAIL_PATH_MAX - 2)
        return false;
    for (size_t i = 0; i < address.len; i++) {
        char c = ascii_lower(address.at[i]);
        out->text[i] = c;
        bool joint = c == '.' || (c == '@' && !domain) || (c == '-' && domain);
        if (joint && i == word)
            return false;
        if (!joint && !(domain ? is_plain_domain(c) : is_plain_local(c)))
            return false;
        if (c == '@') {
            at = i;
            domain = true;
        }
        if (joint)
            word = i + 1;
    }
    out->len = address.len;
    return domain && word < address.len && at <= MAIL_LOCAL_MAX &&
           address.len - at - 1 <= MAIL_LABEL_MAX; // so no label is too long
}

static int parse_any(struct bytes address, struct suppress_address *out)
{
    struct mail_address parsed;
    int err = mail_address_parse(address, &parsed);
    if (!err && parsed.domain.len == 0)
        err = E_SYNTAX;
    if (err)
        return err;
    struct buf canonical;
    buf_init(&canonical, sizeof out->text);
    err = mail_address_canonical(&parsed, &canonical);
    if (!err) {
        out->len = canonical.len;
        for (size_t i = 0; i < canonical.len; i++)
            out->text[i] = ascii_lower(canonical.at[i]);
    }
    buf_done(&canonical);
    return err;
}

int suppress_address_parse(struct bytes address, struct suppress_address *out)
{
    return parse_plain(address, out) ? OK : parse_any(address, out);
}

uint64_t suppress_key_hash(const struct suppress_table *t, int64_t account, struct bytes stream,
                           struct bytes canonical)
{
    char key[sizeof account + SUPPRESS_STREAM_MAX + 1 + sizeof(struct suppress_address)];
    struct bytes tag = bytes_first(stream, SUPPRESS_STREAM_MAX);
    size_t len = sizeof account;
    memcpy(key, &account, sizeof account);
    if (tag.len)
        memcpy(key + len, tag.at, tag.len);
    len += tag.len;
    key[len++] = '\0'; // a tag has none
    memcpy(key + len, canonical.at, canonical.len);
    return suppress_table_hash(t, bytes_of(key, len + canonical.len));
}
