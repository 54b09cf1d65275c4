// SPDX-License-Identifier: MIT
//
// How it works: a section's rows first write their defaults into its struct, by the same function
// that reads a value of the file; then each key of the file is looked up in the table and read by
// its row's type.
#include "conf/conf_parse.h"

#include <stdio.h>

#include "base/check.h"
#include "conf/conf_params.h"
#include "conf/conf_value.h"

#define PATH_BYTES_MAX 4095
#define NAME_BYTES_MAX 128 // of a row's full name
#define SHOWN_VALUE_MAX 60

struct parse {
    struct arena *arena;
    struct conf_errors *errors;
    const char *folder;
};

// ---- one value ---------------------------------------------------------------------------------------

static int set_number(const struct conf_param *param, char *field, uint64_t value)
{
    if (value < param->min || value > param->max)
        return E_LIMIT;
    if (param->width == 4)
        *(uint32_t *)(void *)field = (uint32_t)value;
    else
        *(uint64_t *)(void *)field = value;
    return 0;
}

static int set_word(const struct conf_param *param, char *field, struct bytes text)
{
    for (int i = 0; param->words[i]; i++)
        if (bytes_eq_nocase(text, bytes_cstr(param->words[i]))) {
            *(int *)(void *)field = i;
            return 0;
        }
    return E_SYNTAX;
}

// "/a//b/./c/" is "/a/b/c": what is put behind it ("STATE.key") stands beside the folder, and equal places have equal
// texts. ".." stays: with links it leads where only the kernel knows.
static void add_plain_path(struct buf *out, struct bytes text)
{
    struct bytes part;
    while (bytes_cut(&text, '/', &part))
        if (part.len && !bytes_eq(part, BYTES(".")))
            buf_add_all(out, BYTES("/"), part);
}

static int set_path(struct parse *p, char *field, struct bytes text)
{
    struct bytes *path = (void *)field;
    struct buf plain = {0};
    if (!text.len || bytes_has_control(text, NULL))
        return E_SYNTAX;
    if (!bytes_starts(text, BYTES("/")))
        add_plain_path(&plain, bytes_cstr(p->folder));
    add_plain_path(&plain, text);
    *path = arena_dup(p->arena, plain.len ? buf_bytes(&plain) : BYTES("/"));
    buf_done(&plain);
    return path->len > PATH_BYTES_MAX ? E_SYNTAX : 0;
}

static int set_text(struct parse *p, const struct conf_param *param, char *field, struct bytes text)
{
    if (text.len < param->min || text.len > param->max || bytes_has_control(text, NULL))
        return E_SYNTAX;
    *(struct bytes *)(void *)field = arena_dup(p->arena, text);
    return 0;
}

static int set_endpoint(struct parse *p, const struct conf_param *param, char *field,
                        struct bytes text)
{
    struct conf_endpoint endpoint;
    int err = conf_value_endpoint(text, p->arena, &endpoint);
    if (!err) {
        *(struct bytes *)(void *)field = endpoint.text;
        *(bool *)(field - param->offset + param->any_offset) = endpoint.any_family;
    }
    return err;
}

static int set_scalar(struct parse *p, const struct conf_param *param, char *field,
                      struct bytes text)
{
    uint64_t number = 0;
    int64_t ms = 0;
    int err;
    if (param->none && bytes_eq_nocase(text, BYTES("none")))
        return 0; // the field is zero: not set, no limit
    switch (param->type) {
    case CONF_DURATION:
        err = conf_value_duration(text, &ms);
        return err ? err : set_number(param, field, (uint64_t)ms);
    case CONF_SIZE:
        err = conf_value_size(text, &number);
        return err ? err : set_number(param, field, number);
    case CONF_COUNT:
        err = conf_value_count(text, &number);
        return err ? err : set_number(param, field, number);
    case CONF_DECIMAL:
        err = conf_value_decimal(text, &number);
        return err ? err : set_number(param, field, number);
    case CONF_BOOL:
        return conf_value_bool(text, (bool *)field);
    case CONF_ENUM:
        return set_word(param, field, text);
    case CONF_NAME:
        return conf_value_name(text, p->arena, (struct bytes *)(void *)field);
    case CONF_HOSTNAME:
        return conf_value_hostname(text, p->arena, (struct bytes *)(void *)field);
    case CONF_MAILBOX:
        return conf_value_mailbox(text, p->arena, (struct bytes *)(void *)field);
    case CONF_TEXT:
        return set_text(p, param, field, text);
    case CONF_PATH:
        return set_path(p, field, text);
    case CONF_ENDPOINT:
        return set_endpoint(p, param, field, text);
    case CONF_VIA:
        return conf_value_via(text, p->arena, (struct conf_via *)(void *)field);
    default:
        CHECK(!"not a scalar type");
        return E_SYNTAX;
    }
}

// ---- lists of values ---------------------------------------------------------------------------------

static bool is_value_list(enum conf_type type)
{
    return type == CONF_CIDRS || type == CONF_IPS || type == CONF_SERVERS ||
           type == CONF_PATTERNS || type == CONF_NAMES;
}

static int parse_ip(struct bytes text, struct conf_cidr *out)
{
    *out = (struct conf_cidr){0};
    int err = conf_value_ip(text, out->ip, &out->ip6);
    out->bits = out->ip6 ? 128 : 32;
    return err;
}

static int parse_element(struct parse *p, enum conf_type type, struct bytes text, char *element)
{
    switch (type) {
    case CONF_CIDRS:
        return conf_value_cidr(text, (struct conf_cidr *)(void *)element);
    case CONF_IPS:
        return parse_ip(text, (struct conf_cidr *)(void *)element);
    case CONF_SERVERS:
        return conf_value_server(text, p->arena, (struct bytes *)(void *)element);
    case CONF_PATTERNS:
        return conf_value_pattern(text, p->arena, (struct bytes *)(void *)element);
    default: // CONF_NAMES
        if (bytes_eq(text, BYTES("*"))) {
            *(struct bytes *)(void *)element = BYTES("*");
            return 0;
        }
        return conf_value_name(text, p->arena, (struct bytes *)(void *)element);
    }
}

static size_t element_bytes(enum conf_type type)
{
    return type == CONF_CIDRS || type == CONF_IPS ? sizeof(struct conf_cidr) : sizeof(struct bytes);
}

// Where a value list's array and count stand.
static void list_fields(const struct conf_param *param, char *base, void ***out_at,
                        uint32_t **out_count)
{
    if (param->type == CONF_PATTERNS || param->type == CONF_NAMES) {
        struct conf_patterns *patterns = (void *)(base + param->offset);
        *out_at = (void **)(void *)&patterns->at;
        *out_count = &patterns->count;
    } else {
        *out_at = (void **)(void *)(base + param->offset);
        *out_count = (uint32_t *)(void *)(base + param->count_offset);
    }
}

// ---- errors ------------------------------------------------------------------------------------------

// YAML's words for no value; a name that is one of them is written in quotes.
static bool is_null(const struct conf_node *node)
{
    return node->kind == CONF_NODE_SCALAR && !node->quoted &&
           (!node->text.len || bytes_eq(node->text, BYTES("~")) ||
            bytes_eq_nocase(node->text, BYTES("null")));
}

static void bad_value(struct parse *p, const struct conf_param *param, const struct conf_node *node,
                      int err)
{
    struct buf accepted = {0};
    conf_param_describe(param, &accepted);
    struct bytes key = conf_param_key(param);
    if (node->kind != CONF_NODE_SCALAR)
        conf_errors_add(p->errors, node->place, "%.*s is a %s here; expected %s", BYTES_FMT(key),
                        node->kind == CONF_NODE_LIST ? "list" : "section", buf_cstr(&accepted));
    else if (param->type == CONF_CIDRS && err == E_LIMIT)
        conf_errors_add(p->errors, node->place,
                        "network '%.*s' has bits set behind its prefix length",
                        BYTES_FMT(bytes_first(node->text, SHOWN_VALUE_MAX)));
    else if (!node->text.len || is_null(node))
        conf_errors_add(p->errors, node->place, "%.*s has no value; expected %s", BYTES_FMT(key),
                        buf_cstr(&accepted));
    else
        conf_errors_add(p->errors, node->place, "%s '%.*s' for %.*s; expected %s",
                        err == E_LIMIT ? "out of range:" : "invalid value",
                        BYTES_FMT(bytes_first(node->text, SHOWN_VALUE_MAX)), BYTES_FMT(key),
                        buf_cstr(&accepted));
    buf_done(&accepted);
}

static void unknown_key(struct parse *p, struct bytes section, const struct conf_node *node)
{
    struct bytes nearest = conf_param_nearest(section, node->key);
    struct bytes shown = bytes_first(node->key, SHOWN_VALUE_MAX);
    if (nearest.len) {
        conf_errors_add(p->errors, node->key_place, "unknown key '%.*s'; did you mean '%.*s'?",
                        BYTES_FMT(shown), BYTES_FMT(nearest));
        return;
    }
    struct buf known = {0};
    for (uint32_t i = 0; i < conf_params_count; i++)
        if (conf_param_is_child(&conf_params[i], section))
            buf_printf(&known, "%s%.*s", known.len ? ", " : "",
                       BYTES_FMT(conf_param_key(&conf_params[i])));
    conf_errors_add(p->errors, node->key_place, "unknown key '%.*s'; known here: %s",
                    BYTES_FMT(shown), buf_cstr(&known));
    buf_done(&known);
}

// ---- sections ----------------------------------------------------------------------------------------

static void read_section(struct parse *p, const struct conf_node *map, struct bytes section,
                         char *base);

static void set_list_default(struct parse *p, const struct conf_param *param, char *base)
{
    void **at;
    uint32_t *count;
    list_fields(param, base, &at, &count);
    *at = arena_new(p->arena, element_bytes(param->type));
    CHECK(parse_element(p, param->type, bytes_cstr(param->initial), *at) == 0);
    *count = 1;
}

// Writes the defaults of the rows below `section` that live in the same struct.
static void set_defaults(struct parse *p, struct bytes section, char *base)
{
    for (uint32_t i = 0; i < conf_params_count; i++) {
        const struct conf_param *param = &conf_params[i];
        struct bytes name = bytes_cstr(param->name);
        if (!param->initial || !bytes_starts(name, section) ||
            bytes_search(bytes_skip(name, section.len), BYTES("[].")) >= 0)
            continue;
        if (is_value_list(param->type))
            set_list_default(p, param, base);
        else
            CHECK(set_scalar(p, param, base + param->offset, bytes_cstr(param->initial)) == 0);
    }
}

// An unknown key has already been answered with "did you mean" this one.
static bool is_misspelt(const struct conf_node *map, struct bytes section, struct bytes key)
{
    for (const struct conf_node *node = map->first; node; node = node->next)
        if (bytes_eq(conf_param_nearest(section, node->key), key))
            return true;
    return false;
}

static void check_required(struct parse *p, const struct conf_node *map, struct bytes section)
{
    for (uint32_t i = 0; i < conf_params_count; i++) {
        const struct conf_param *param = &conf_params[i];
        struct bytes key = conf_param_key(param);
        if (!param->required || !conf_param_is_child(param, section) ||
            conf_node_find(map, key.at) || is_misspelt(map, section, key))
            continue;
        struct buf accepted = {0};
        conf_param_describe(param, &accepted);
        conf_errors_add(p->errors, map->place, "%.*s is missing: %s (%s)", BYTES_FMT(key),
                        param->help, buf_cstr(&accepted));
        buf_done(&accepted);
    }
}

static void read_value_list(struct parse *p, const struct conf_param *param,
                            const struct conf_node *node, char *base)
{
    void **at;
    uint32_t *count;
    list_fields(param, base, &at, &count);
    if (node->kind == CONF_NODE_MAP) {
        bad_value(p, param, node, E_SYNTAX);
        return;
    }
    bool list = node->kind == CONF_NODE_LIST;
    uint32_t n = list ? node->count : 1;
    size_t bytes = element_bytes(param->type);
    char *elements = arena_new(p->arena, (n + 1) * bytes);
    const struct conf_node *item = list ? node->first : node;
    for (uint32_t i = 0; i < n; i++, item = item->next) {
        int err = item->kind != CONF_NODE_SCALAR
                      ? E_SYNTAX
                      : parse_element(p, param->type, item->text, elements + i * bytes);
        if (err)
            bad_value(p, param, item, err);
    }
    if (!n && (param->type == CONF_PATTERNS || param->type == CONF_NAMES))
        conf_errors_add(p->errors, node->place, "an empty list would match nothing; leave it out");
    *at = elements;
    *count = n;
}

static void read_entries(struct parse *p, const struct conf_param *param,
                         const struct conf_node *node, char *base)
{
    if (node->kind != CONF_NODE_LIST) {
        bad_value(p, param, node, E_SYNTAX);
        return;
    }
    char *entries = arena_new(p->arena, (node->count + 1) * (size_t)param->width);
    struct bytes section = arena_printf(p->arena, "%s[].", param->name);
    uint32_t i = 0;
    for (const struct conf_node *item = node->first; item; item = item->next, i++) {
        char *entry = entries + (size_t)i * param->width;
        set_defaults(p, section, entry);
        if (item->kind == CONF_NODE_MAP)
            read_section(p, item, section, entry);
        else
            conf_errors_add(p->errors, item->place, "expected a section of keys in %s",
                            param->name);
    }
    *(void **)(void *)(base + param->offset) = entries;
    *(uint32_t *)(void *)(base + param->count_offset) = node->count;
}

static void read_value(struct parse *p, const struct conf_param *param,
                       const struct conf_node *node, char *base)
{
    if (is_value_list(param->type)) {
        read_value_list(p, param, node, base);
        return;
    }
    if (node->kind != CONF_NODE_SCALAR || is_null(node)) {
        bad_value(p, param, node, E_SYNTAX);
        return;
    }
    char *field = base + param->offset;
    memset(field, 0, param->width); // `none` over a default
    int err = set_scalar(p, param, field, node->text);
    if (err)
        bad_value(p, param, node, err);
}

static void read_key(struct parse *p, const struct conf_node *node, struct bytes section,
                     char *base)
{
    char name[NAME_BYTES_MAX];
    int len = snprintf(name, sizeof name, "%.*s%.*s", BYTES_FMT(section), BYTES_FMT(node->key));
    const struct conf_param *param =
        len > 0 && (size_t)len < sizeof name && bytes_find(node->key, '.') < 0
            ? conf_param_find(bytes_of(name, (size_t)len))
            : NULL;
    if (!param)
        unknown_key(p, section, node);
    else if (param->type == CONF_ENTRIES)
        read_entries(p, param, node, base);
    else if (param->type != CONF_MAP)
        read_value(p, param, node, base);
    else if (node->kind == CONF_NODE_MAP)
        read_section(p, node, arena_printf(p->arena, "%s.", param->name), base);
    else if (!is_null(node)) // `limits:` with nothing below is an empty section
        bad_value(p, param, node, E_SYNTAX);
}

static void read_section(struct parse *p, const struct conf_node *map, struct bytes section,
                         char *base)
{
    for (const struct conf_node *node = map->first; node; node = node->next)
        read_key(p, node, section, base);
    check_required(p, map, section);
}

// Where the file does not say it. A misspelt key has its error already.
static void settle_hostname(struct parse *p, const struct conf_node *root, struct conf_host *host,
                            struct conf *conf)
{
    const struct conf_param *param = conf_param_find(BYTES("hostname"));
    struct buf accepted = {0};
    if (conf_node_find(root, "hostname") || is_misspelt(root, BYTES(""), BYTES("hostname")))
        return;
    if (host && conf_host_find(host) &&
        conf_value_hostname(bytes_cstr(host->name), p->arena, &conf->hostname) == OK)
        return;
    conf_param_describe(param, &accepted);
    conf_errors_add(p->errors, root->place,
                    "hostname is missing, and this host has no full name of its own: %s (%s)",
                    param->help, buf_cstr(&accepted));
    buf_done(&accepted);
}

void conf_parse(const struct conf_node *root, const char *folder, struct conf_host *host,
                struct conf *conf, struct conf_errors *errors)
{
    struct parse p = {.arena = &conf->arena, .errors = errors, .folder = folder};
    set_defaults(&p, BYTES(""), (char *)conf);
    if (root->kind == CONF_NODE_MAP) {
        read_section(&p, root, BYTES(""), (char *)conf);
    } else if (!is_null(root)) {
        conf_errors_add(errors, root->place, "expected keys, such as 'hostname: mail.example.org'");
        return;
    }
    settle_hostname(&p, root, host, conf);
}
