// SPDX-License-Identifier: MIT
//
// How it works: the rows of a section that live in one struct are shown in the table's order, each with what the file
// says beside it (a node of its tree, NULL where it says nothing). What the file leaves out is rendered whole into a
// buffer and becomes comments line by line.
#include "conf/conf_show.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "base/check.h"
#include "conf/conf_params.h"
#include "conf/conf_value.h"
#include "conf/conf_yaml.h"

struct show {
    const struct conf *conf;
    bool defaults; // they are no comments
};

// ---- values ------------------------------------------------------------------------------------------

// What a YAML reader would take for something else than text (YAML 1.1 too).
static bool is_word_of_yaml(struct bytes text)
{
    static const char *const words[] = {"yes",  "no",  "on", "off", "true", "false",
                                        "null", "nan", "y",  "n",   "inf"};
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (bytes_eq_nocase(text, bytes_cstr(words[i])))
            return true;
    return false;
}

static bool is_plain(struct bytes text)
{
    bool plain = text.len && (ascii_is_alpha(text.at[0]) || text.at[0] == '/');
    for (size_t i = 0; i < text.len && plain; i++)
        plain = ascii_is_alnum(text.at[i]) || ascii_is_one_of(text.at[i], "/._@%+-") ||
                (text.at[i] == ':' && i + 1 < text.len);
    return plain && !is_word_of_yaml(text);
}

void conf_show_text(struct bytes text, struct buf *out)
{
    if (is_plain(text)) {
        buf_add(out, text);
        return;
    }
    buf_add_byte(out, '"');
    buf_add_json(out, text); // double-quoted YAML reads JSON's escapes
    buf_add_byte(out, '"');
}

static void add_cidr(struct buf *out, const struct conf_cidr *net)
{
    char text[INET6_ADDRSTRLEN + 4];
    inet_ntop(net->ip6 ? AF_INET6 : AF_INET, net->ip, text, sizeof text);
    struct buf whole = {0};
    buf_add_cstr(&whole, text);
    if (net->bits != (net->ip6 ? 128 : 32))
        buf_printf(&whole, "/%u", net->bits);
    conf_show_text(buf_bytes(&whole), out);
    buf_done(&whole);
}

static uint64_t number_at(const struct conf_param *param, const char *field)
{
    return param->width == 4 ? *(const uint32_t *)(const void *)field
                             : *(const uint64_t *)(const void *)field;
}

// "*:587" where that is what was written for "[::]:587".
static void add_endpoint(struct buf *out, const struct conf_param *param, const char *base,
                         struct bytes text)
{
    struct buf any = {0};
    if (*(const bool *)(base + param->any_offset))
        buf_printf(&any, "*%.*s", BYTES_FMT(bytes_skip(text, (size_t)bytes_find_last(text, ':'))));
    conf_show_text(any.len ? buf_bytes(&any) : text, out);
    buf_done(&any);
}

static bool is_number(enum conf_type type)
{
    return type == CONF_DURATION || type == CONF_SIZE || type == CONF_COUNT || type == CONF_DECIMAL;
}

static void add_number(struct buf *out, const struct conf_param *param, uint64_t value)
{
    if (!value && param->none)
        buf_add_cstr(out, "none");
    else if (param->type == CONF_DURATION)
        conf_format_duration((int64_t)value, out);
    else if (param->type == CONF_SIZE)
        conf_format_size(value, out);
    else if (param->type == CONF_DECIMAL)
        conf_format_decimal(value, out);
    else
        buf_add_u64(out, value);
}

static void add_list(struct buf *out, const struct conf_param *param, const char *base)
{
    bool patterns = param->type == CONF_PATTERNS || param->type == CONF_NAMES;
    const struct conf_patterns *p = (const void *)(base + param->offset);
    const void *at = patterns ? p->at : *(void *const *)(const void *)(base + param->offset);
    uint32_t count =
        patterns ? p->count : *(const uint32_t *)(const void *)(base + param->count_offset);
    bool nets = param->type == CONF_CIDRS || param->type == CONF_IPS;
    if (!count && patterns) { // an empty list would match nothing; not set matches all
        if (param->initial)
            buf_printf(out, "[\"%s\"]", param->initial);
        return;
    }
    buf_add_byte(out, '[');
    for (uint32_t i = 0; i < count; i++) {
        buf_add_cstr(out, i ? ", " : "");
        if (nets)
            add_cidr(out, (const struct conf_cidr *)at + i);
        else
            conf_show_text(((const struct bytes *)at)[i], out);
    }
    buf_add_byte(out, ']');
}

// One value; nothing is added where it is not set and no word says so.
static void add_value(struct buf *out, const struct conf_param *param, const char *base)
{
    const char *field = base + param->offset;
    if (is_number(param->type)) {
        add_number(out, param, number_at(param, field));
    } else if (param->type == CONF_BOOL) {
        buf_add_cstr(out, *(const bool *)field ? "yes" : "no");
    } else if (param->type == CONF_ENUM) {
        const char *word = param->words[*(const int *)(const void *)field];
        buf_printf(out, is_word_of_yaml(bytes_cstr(word)) ? "\"%s\"" : "%s", word);
    } else if (param->type == CONF_CIDRS || param->type == CONF_IPS ||
               param->type == CONF_SERVERS || param->type == CONF_PATTERNS ||
               param->type == CONF_NAMES) {
        add_list(out, param, base);
    } else {
        struct bytes text = param->type == CONF_VIA
                                ? ((const struct conf_via *)(const void *)field)->text
                                : *(const struct bytes *)(const void *)field;
        if (!text.len)
            buf_add_cstr(out, param->none ? "none" : "");
        else if (param->secret)
            buf_add_cstr(out, "\"" CONF_MASK "\"");
        else if (param->type == CONF_ENDPOINT)
            add_endpoint(out, param, base, text);
        else
            conf_show_text(text, out);
    }
}

// ---- lines -------------------------------------------------------------------------------------------

static void add_commented(struct buf *out, struct bytes lines, uint32_t indent)
{
    struct bytes line;
    while (bytes_cut(&lines, '\n', &line))
        if (line.len)
            buf_printf(out, "%*s# %.*s\n", (int)indent, "", BYTES_FMT(bytes_skip(line, indent)));
}

static void show_section(const struct show *s, struct bytes section, const char *base,
                         const struct conf_node *given, uint32_t indent, struct buf *out);

static void show_scalar(const struct conf_param *param, const char *base, uint32_t indent,
                        struct buf *out)
{
    struct buf value = {0};
    struct bytes key = conf_param_key(param);
    add_value(&value, param, base);
    if (value.len)
        buf_printf(out, "%*s%.*s: %.*s\n", (int)indent, "", BYTES_FMT(key),
                   BYTES_FMT(buf_bytes(&value)));
    else
        buf_printf(out, "%*s# %.*s: (%s)\n", (int)indent, "", BYTES_FMT(key),
                   param->shown_default ? param->shown_default : "not set");
    buf_done(&value);
}

// "- " and the entry's keys: the first that is no comment stands behind the dash, comments that came before it follow.
static void show_entry(const struct show *s, struct bytes section, const char *base,
                       const struct conf_node *given, uint32_t indent, struct buf *out)
{
    struct buf keys = {0}, before = {0};
    show_section(s, section, base, given, indent + 2, &keys);
    struct bytes rest = buf_bytes(&keys), line;
    bool begun = false;
    while (bytes_cut(&rest, '\n', &line)) {
        struct bytes text = bytes_skip(line, indent + 2);
        bool first = !begun && text.len && text.at[0] != '#';
        if (first)
            buf_printf(out, "%*s- %.*s\n%.*s", (int)indent, "", BYTES_FMT(text),
                       BYTES_FMT(buf_bytes(&before)));
        else if (line.len)
            buf_printf(begun ? out : &before, "%.*s\n", BYTES_FMT(line));
        begun = begun || first;
    }
    if (!begun)
        buf_printf(out, "%*s- {}\n%.*s", (int)indent, "", BYTES_FMT(buf_bytes(&before)));
    buf_done(&keys);
    buf_done(&before);
}

static void show_entries(const struct show *s, const struct conf_param *param, const char *base,
                         const struct conf_node *given, uint32_t indent, struct buf *out)
{
    const char *entries = *(char *const *)(const void *)(base + param->offset);
    uint32_t count = *(const uint32_t *)(const void *)(base + param->count_offset);
    char section[64];
    snprintf(section, sizeof section, "%s[].", param->name);
    buf_printf(out, "%*s%.*s:%s\n", (int)indent, "", BYTES_FMT(conf_param_key(param)),
               count ? "" : " []");
    for (uint32_t i = 0; i < count; i++) {
        const struct conf_node *item = given ? conf_node_nth(given, i) : NULL;
        const struct show all = {s->conf, true};
        struct buf entry = {0};
        show_entry(item ? s : &all, bytes_cstr(section), entries + (size_t)i * param->width, item,
                   indent + 2, &entry);
        if (given && !item && !s->defaults)
            add_commented(out, buf_bytes(&entry), indent + 2);
        else
            buf_add(out, buf_bytes(&entry));
        buf_done(&entry);
    }
}

static void show_row(const struct show *s, const struct conf_param *param, const char *base,
                     const struct conf_node *given, uint32_t indent, struct buf *out)
{
    char section[64];
    struct buf below = {0};
    if (param->type == CONF_ENTRIES) {
        show_entries(s, param, base, given, indent, out);
    } else if (param->type != CONF_MAP) {
        show_scalar(param, base, indent, out);
    } else {
        snprintf(section, sizeof section, "%s.", param->name);
        show_section(s, bytes_cstr(section), base, given, indent + 2, &below);
        buf_printf(out, "%*s%.*s:\n", (int)indent, "", BYTES_FMT(conf_param_key(param)));
        buf_add(out, buf_bytes(&below));
    }
    buf_done(&below);
}

// It would be an error there (conf_check.c).
static bool can_have(const char *base, const struct conf_param *param)
{
    return !param->not_bounces ||
           ((const struct conf_listener *)(const void *)base)->role != CONF_ROLE_BOUNCES;
}

static void show_section(const struct show *s, struct bytes section, const char *base,
                         const struct conf_node *given, uint32_t indent, struct buf *out)
{
    for (uint32_t i = 0; i < conf_params_count; i++) {
        const struct conf_param *param = &conf_params[i];
        const struct show all = {s->conf, true};
        if (!conf_param_is_child(param, section) || !can_have(base, param))
            continue;
        const struct conf_node *node = conf_node_find(given, conf_param_key(param).at);
        struct buf row = {0};
        show_row(node ? s : &all, param, base, node, indent, &row);
        if (node || s->defaults || bytes_starts(bytes_trim(buf_bytes(&row)), BYTES("#")))
            buf_add(out, buf_bytes(&row));
        else
            add_commented(out, buf_bytes(&row), indent);
        buf_done(&row);
    }
}

void conf_show(const struct conf *conf, bool defaults, struct buf *out)
{
    const struct show s = {conf, defaults};
    show_section(&s, BYTES(""), (const char *)conf, conf->given, 0, out);
}
