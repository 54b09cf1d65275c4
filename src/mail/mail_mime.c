// SPDX-License-Identifier: MIT
#include "mail/mail_mime.h"

#include "base/check.h"
#include "mail/mail_text.h"

// token of RFC 2045 section 5.1: printable ASCII less tspecials
static bool is_token_char(char c)
{
    return c > 32 && c < 127 && !ascii_is_one_of(c, "()<>@,;:\\\"/[]?=");
}

static struct bytes take_token(struct bytes *s)
{
    size_t n = 0;
    while (n < s->len && is_token_char(s->at[n]))
        n++;
    struct bytes token = bytes_first(*s, n);
    *s = bytes_skip(*s, n);
    mail_skip_cfws(s);
    return token;
}

static bool take_char(struct bytes *s, char c)
{
    if (s->len == 0 || s->at[0] != c)
        return false;
    *s = bytes_skip(*s, 1);
    mail_skip_cfws(s);
    return true;
}

// The value of a quoted-string, pairs and folding resolved. False: it does not end.
static bool take_quoted(struct bytes *s, struct arena *arena, struct bytes *out)
{
    size_t end = 1, n = 0;
    while (end < s->len && s->at[end] != '"')
        end += s->at[end] == '\\' ? 2 : 1;
    if (end >= s->len) {
        *s = BYTES_NONE; // nothing behind it can be told apart
        return false;
    }
    char *value = arena_new(arena, end);
    for (size_t at = 1; at < end; at++) {
        if (s->at[at] == '\r' || s->at[at] == '\n')
            continue;
        at += s->at[at] == '\\';
        value[n++] = s->at[at];
    }
    *out = bytes_of(value, n);
    *s = bytes_skip(*s, end + 1);
    mail_skip_cfws(s);
    return true;
}

// parameter = attribute "=" value. False: it is broken; *s is then somewhere in it.
static bool take_parameter(struct bytes *s, struct arena *arena, struct mail_parameter *out)
{
    out->name = take_token(s);
    if (out->name.len == 0 || !take_char(s, '='))
        return false;
    if (s->len && s->at[0] == '"')
        return take_quoted(s, arena, &out->value) && (s->len == 0 || s->at[0] == ';');
    out->value = take_token(s);
    return out->value.len && (s->len == 0 || s->at[0] == ';');
}

int mail_content_type_parse(struct bytes value, struct arena *arena, struct mail_content_type *out)
{
    struct mail_parameter *rows = arena_new(arena, MAIL_PARAMETERS_MAX * sizeof(*rows));
    *out = (struct mail_content_type){.parameters = rows};
    mail_skip_cfws(&value);
    out->type = take_token(&value);
    if (out->type.len == 0 || !take_char(&value, '/'))
        return E_SYNTAX;
    out->subtype = take_token(&value);
    if (out->subtype.len == 0 || (value.len && value.at[0] != ';'))
        return E_SYNTAX;
    while (value.len) {
        ptrdiff_t next = bytes_find(value, ';');
        if (next < 0)
            break;
        value = bytes_skip(value, (size_t)next + 1);
        mail_skip_cfws(&value);
        if (out->count == MAIL_PARAMETERS_MAX)
            return E_LIMIT;
        if (value.len && take_parameter(&value, arena, &rows[out->count]))
            out->count++;
    }
    return OK;
}

struct bytes mail_content_type_find(const struct mail_content_type *t, struct bytes name)
{
    for (size_t i = 0; i < t->count; i++)
        if (bytes_eq_nocase(t->parameters[i].name, name))
            return t->parameters[i].value;
    return BYTES_NONE;
}

enum mail_encoding mail_encoding_of(struct bytes block)
{
    static const struct {
        const char *name;
        enum mail_encoding encoding;
    } rows[] = {{"7bit", ENCODING_7BIT},
                {"8bit", ENCODING_8BIT},
                {"binary", ENCODING_BINARY},
                {"quoted-printable", ENCODING_QP},
                {"base64", ENCODING_BASE64}};
    struct mail_field field;
    if (!mail_header_find(block, BYTES("Content-Transfer-Encoding"), &field))
        return ENCODING_7BIT;
    mail_skip_cfws(&field.value);
    struct bytes token = take_token(&field.value);
    for (size_t i = 0; i < COUNT_OF(rows) && field.value.len == 0; i++)
        if (bytes_eq_nocase(token, bytes_cstr(rows[i].name)))
            return rows[i].encoding;
    return ENCODING_OTHER;
}
