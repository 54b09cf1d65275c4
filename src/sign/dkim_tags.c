// SPDX-License-Identifier: MIT
#include "sign/dkim_tags.h"

#include "base/check.h"
#include "mail/mail_encode.h"

// tag-name = ALPHA *( ALPHA / DIGIT / "_" )
static bool is_tag_name(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!ascii_is_alnum(name.at[i]) && name.at[i] != '_')
            return false;
    return name.len > 0 && ascii_is_alpha(name.at[0]);
}

// tval = 1*VALCHAR with FWS between: %x21-3A / %x3C-7E; UTF-8 beyond ASCII since RFC 8616.
static bool is_tag_value(struct bytes value)
{
    for (size_t i = 0; i < value.len; i++)
        if (((unsigned char)value.at[i] < 0x20 && !ascii_is_one_of(value.at[i], "\t\r\n")) ||
            value.at[i] == 0x7f || value.at[i] == 0)
            return false;
    return true;
}

static int add_tag(struct dkim_tags *tags, struct bytes spec)
{
    struct dkim_tag tag;
    if (bytes_find(spec, '=') < 0)
        return E_SYNTAX;
    bytes_cut(&spec, '=', &tag.name);
    tag.name = bytes_trim(tag.name);
    tag.raw = spec;
    tag.value = bytes_trim(spec);
    if (!is_tag_name(tag.name) || !is_tag_value(tag.value))
        return E_SYNTAX;
    for (size_t i = 0; i < tags->count; i++)
        if (bytes_eq(tags->tags[i].name, tag.name))
            return E_EXISTS; // 3.2: tags with duplicate names MUST NOT occur
    if (tags->count == DKIM_TAGS_MAX)
        return E_LIMIT;
    tags->tags[tags->count++] = tag;
    return OK;
}

int dkim_tags_parse(struct bytes list, struct dkim_tags *out)
{
    struct bytes spec;
    int err = OK;
    out->count = 0;
    while (!err && bytes_cut(&list, ';', &spec))
        if (list.at || bytes_trim(spec).len) // but one ";" may stand at the end
            err = add_tag(out, spec);
    return err ? err : out->count ? OK : E_SYNTAX;
}

bool dkim_tags_find(const struct dkim_tags *tags, const char *name, struct bytes *out)
{
    *out = BYTES_NONE;
    for (size_t i = 0; i < tags->count; i++)
        if (bytes_eq(tags->tags[i].name, bytes_cstr(name))) {
            *out = tags->tags[i].value;
            return true;
        }
    return false;
}

bool dkim_tags_next_item(struct bytes *list, struct bytes *out)
{
    if (!bytes_cut(list, ':', out))
        return false;
    *out = bytes_trim(*out);
    return true;
}

bool dkim_tags_has_item(struct bytes list, const char *item)
{
    for (struct bytes part; dkim_tags_next_item(&list, &part);)
        if (bytes_eq_nocase(part, bytes_cstr(item)))
            return true;
    return false;
}

bool dkim_tags_base64(struct bytes value, size_t max, uint8_t *out, size_t *out_len)
{
    uint32_t bits = 0;
    size_t digits = 0, padding = 0, len = 0;
    for (size_t i = 0; i < value.len; i++) {
        char c = value.at[i];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
            continue;
        if (c == '=') {
            padding++;
            continue;
        }
        int digit = mail_base64_value(c);
        if (digit < 0 || padding)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        if (++digits % 4 != 1) {
            if (len == max)
                return false;
            out[len++] = (uint8_t)(bits >> (6 - 2 * ((digits - 1) % 4)));
        }
    }
    *out_len = len;
    return (digits + padding) % 4 == 0 && padding <= 2 && digits > 0;
}
