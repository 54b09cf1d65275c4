// SPDX-License-Identifier: MIT
//
// The schema speaks of values as YAML readers see them: 587 is a number, yes is true for some and text for others, so
// both are taken.
#include "base/check.h"
#include "conf/conf_params.h"
#include "conf/conf_show.h"
#include "conf/conf_value.h"

#define STEP 2 // spaces a level

// Regular expressions of text values (ECMA 262, as JSON Schema has them).
static const struct {
    enum conf_type type;
    const char *pattern;
} patterns[] = {
    {CONF_DURATION, "^(?=[0-9])([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$"},
    {CONF_SIZE, "^[0-9]+(\\.[0-9]{1,3})?([KkMmGgTt]?[Bb]|[KkMmGgTt][Ii][Bb])?$"},
    {CONF_COUNT, "^[0-9]+(_[0-9]+)*$"},
    {CONF_DECIMAL, "^[0-9]+(\\.[0-9]{1,3})?$"},
    {CONF_NAME, "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
    {CONF_HOSTNAME, "^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?\\.?$"},
    {CONF_TEXT, "^[^\\x00-\\x1f\\x7f]+$"},
    {CONF_PATH, "^[^\\x00-\\x1f\\x7f]{1,4095}$"},
    {CONF_ENDPOINT, "^(\\*|[0-9.]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]{1,5}$"},
    {CONF_VIA, "^(mx|mx:[0-9]{1,5}|smtps?://.+:[0-9]{1,5}|lmtp:.+|maildir:/.+|discard)$"},
    {CONF_MAILBOX, "^[^@\\s]+@[^@\\s]+$"},
    {CONF_CIDRS, "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"},
    {CONF_IPS, "^[0-9A-Fa-f:.]+$"},
    {CONF_SERVERS, "^[0-9A-Fa-f:.]+(@[0-9]{1,5})?$"},
    {CONF_PATTERNS, "^\\S+$"},
    {CONF_NAMES, "^(\\*|[A-Za-z0-9][A-Za-z0-9._-]{0,63})$"},
};

static void add_string(struct buf *out, const char *text)
{
    buf_add_byte(out, '"');
    buf_add_json(out, bytes_cstr(text));
    buf_add_byte(out, '"');
}

static void add_line(struct buf *out, uint32_t level)
{
    buf_printf(out, "\n%*s", (int)(level * STEP), "");
}

static void add_pattern(struct buf *out, const struct conf_param *param)
{
    buf_add_cstr(out, "{\"type\": \"string\"");
    for (size_t i = 0; i < COUNT_OF(patterns); i++)
        if (patterns[i].type == param->type) {
            buf_add_cstr(out, ", \"pattern\": ");
            add_string(out, patterns[i].pattern);
        }
    if (param->type == CONF_TEXT)
        buf_printf(out, ", \"minLength\": %llu, \"maxLength\": %llu",
                   (unsigned long long)param->min, (unsigned long long)param->max);
    buf_add_byte(out, '}');
}

// A bare number in the unit that the file uses for it.
static void add_range(struct buf *out, const struct conf_param *param)
{
    struct buf min = {0}, max = {0};
    if (param->type == CONF_DECIMAL) {
        conf_format_decimal(param->min, &min);
        conf_format_decimal(param->max, &max);
    } else {
        buf_add_u64(&min, param->min);
        buf_add_u64(&max, param->max);
    }
    buf_printf(out, "{\"type\": \"%s\", \"minimum\": %s, \"maximum\": %s}",
               param->type == CONF_DECIMAL ? "number" : "integer", buf_cstr(&min), buf_cstr(&max));
    buf_done(&min);
    buf_done(&max);
}

// Words that YAML 1.1 reads as a boolean are taken as such, too.
static void add_words(struct buf *out, const struct conf_param *param)
{
    buf_add_cstr(out, "{\"enum\": [");
    for (int i = 0; param->words[i]; i++) {
        buf_add_cstr(out, i ? ", " : "");
        add_string(out, param->words[i]);
        if (bytes_eq(bytes_cstr(param->words[i]), BYTES("off")))
            buf_add_cstr(out, ", false");
    }
    buf_add_cstr(out, "]}");
}

static void add_forms(struct buf *out, const struct conf_param *param)
{
    bool number =
        param->type == CONF_SIZE || param->type == CONF_COUNT || param->type == CONF_DECIMAL;
    if (param->type == CONF_BOOL) {
        buf_add_cstr(out, "{\"type\": \"boolean\"}, "
                          "{\"enum\": [\"yes\", \"no\", \"on\", \"off\", \"true\", \"false\"]}");
    } else if (param->type == CONF_ENUM) {
        add_words(out, param);
    } else {
        if (number) {
            add_range(out, param);
            buf_add_cstr(out, ", ");
        }
        add_pattern(out, param);
    }
    if (param->type == CONF_CIDRS || param->type == CONF_IPS || param->type == CONF_SERVERS ||
        param->type == CONF_PATTERNS || param->type == CONF_NAMES) {
        buf_add_cstr(out, ", {\"type\": \"array\", \"items\": ");
        add_pattern(out, param);
        buf_add_cstr(out, param->type == CONF_PATTERNS || param->type == CONF_NAMES
                              ? ", \"minItems\": 1}"
                              : "}");
    }
    if (param->none)
        buf_add_cstr(out, ", {\"const\": \"none\"}");
}

static void add_description(struct buf *out, const struct conf_param *param)
{
    struct buf text = {0};
    buf_add_cstr(&text, param->help);
    if (param->type != CONF_MAP) {
        buf_add_cstr(&text, ". Accepted: ");
        conf_param_describe(param, &text);
        buf_printf(&text, ". Default: %s",
                   param->required        ? "none, it is required"
                   : param->shown_default ? param->shown_default
                   : param->initial       ? param->initial
                                          : "not set");
    }
    buf_add_cstr(out, "\"description\": ");
    add_string(out, buf_cstr(&text));
    buf_done(&text);
}

// "properties" and the rest of an object for the rows of a section.
static void add_object(struct buf *out, const char *section, const char *type, uint32_t level);

static void add_row(struct buf *out, const struct conf_param *param, uint32_t level)
{
    struct buf section = {0};
    buf_printf(&section, "%s%s.", param->name, param->type == CONF_ENTRIES ? "[]" : "");
    buf_add_byte(out, '{');
    add_line(out, level + 1);
    add_description(out, param);
    buf_add_byte(out, ',');
    add_line(out, level + 1);
    if (param->type == CONF_MAP) {
        add_object(out, buf_cstr(&section), "[\"object\", \"null\"]", level + 1);
    } else if (param->type == CONF_ENTRIES) {
        buf_printf(out, "\"type\": \"array\", \"maxItems\": %d, \"items\": {", CONF_ITEMS_MAX);
        add_line(out, level + 2);
        add_object(out, buf_cstr(&section), "\"object\"", level + 2);
        add_line(out, level + 1);
        buf_add_byte(out, '}');
    } else {
        buf_add_cstr(out, "\"anyOf\": [");
        add_forms(out, param);
        buf_add_byte(out, ']');
    }
    add_line(out, level);
    buf_add_byte(out, '}');
    buf_done(&section);
}

static void add_required(struct buf *out, struct bytes section, uint32_t level)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < conf_params_count; i++) {
        const struct conf_param *param = &conf_params[i];
        if (!param->required || !conf_param_is_child(param, section))
            continue;
        if (!count)
            add_line(out, level);
        buf_add_cstr(out, count++ ? ", " : "\"required\": [");
        add_string(out, conf_param_key(param).at);
    }
    buf_add_cstr(out, count ? "]," : "");
}

static void add_object(struct buf *out, const char *section, const char *type, uint32_t level)
{
    bool any = false;
    buf_printf(out, "\"type\": %s, \"additionalProperties\": false,", type);
    add_required(out, bytes_cstr(section), level);
    add_line(out, level);
    buf_add_cstr(out, "\"properties\": {");
    for (uint32_t i = 0; i < conf_params_count; i++) {
        const struct conf_param *param = &conf_params[i];
        if (!conf_param_is_child(param, bytes_cstr(section)))
            continue;
        buf_add_cstr(out, any ? "," : "");
        add_line(out, level + 1);
        add_string(out, conf_param_key(param).at);
        buf_add_cstr(out, ": ");
        add_row(out, param, level + 1);
        any = true;
    }
    add_line(out, level);
    buf_add_byte(out, '}');
}

void conf_schema(struct buf *out)
{
    buf_add_cstr(out, "{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
                      "  \"title\": \"configuration of posthaste " POSTHASTE_VERSION "\",\n  ");
    add_object(out, "", "\"object\"", 1);
    buf_add_cstr(out, "\n}\n");
}
