// SPDX-License-Identifier: MIT
#include "conf/conf_doc.h"

#include "conf/conf_params.h"

static bool is_section(const struct conf_param *param)
{
    return param->type == CONF_MAP || param->type == CONF_ENTRIES;
}

const char *conf_doc_default(const struct conf_param *param)
{
    if (param->required)
        return "required";
    if (param->shown_default)
        return param->shown_default;
    return param->initial ? param->initial : "not set";
}

static void add_text_row(const struct conf_param *param, struct buf *out)
{
    buf_printf(out, "%s\n    %s\n", param->name, param->help);
    if (is_section(param)) {
        buf_add_byte(out, '\n');
        return;
    }
    buf_add_cstr(out, "    ");
    conf_param_describe(param, out);
    buf_printf(out, "\n    default: %s%s\n\n", conf_doc_default(param),
               param->reloadable ? "; read again by SIGHUP" : "");
}

static void add_without_brackets(struct buf *out, struct bytes name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!ascii_is_one_of(name.at[i], "[]"))
            buf_add_byte(out, name.at[i]);
}

// Is it the key `name` (both without brackets), or does it stand in that section?
static bool is_within(const struct conf_param *param, struct bytes name)
{
    struct buf own = {0};
    add_without_brackets(&own, bytes_cstr(param->name));
    bool yes =
        bytes_starts(buf_bytes(&own), name) && (own.len == name.len || own.at[name.len] == '.');
    buf_done(&own);
    return yes;
}

bool conf_doc_text(struct bytes name, struct buf *out)
{
    struct buf asked = {0};
    size_t before = out->len;
    add_without_brackets(&asked, name);
    for (uint32_t i = 0; i < conf_params_count; i++)
        if (!name.len || is_within(&conf_params[i], buf_bytes(&asked)))
            add_text_row(&conf_params[i], out);
    buf_done(&asked);
    return out->len > before;
}

// What would be markup in a cell of a table.
static void add_cell(struct buf *out, struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (memchr("|*<_", text.at[i], 4))
            buf_add_byte(out, '\\');
        buf_add_byte(out, text.at[i]);
    }
}

static void add_markdown_row(const struct conf_param *param, struct buf *out)
{
    struct buf accepted = {0};
    conf_param_describe(param, &accepted);
    buf_printf(out, "| `%s` | ", param->name);
    add_cell(out, bytes_cstr(param->help));
    buf_add_cstr(out, " | ");
    add_cell(out, buf_bytes(&accepted));
    buf_add_cstr(out, " | ");
    add_cell(out, bytes_cstr(conf_doc_default(param)));
    buf_printf(out, " | %s |\n", param->reloadable ? "yes" : "no");
    buf_done(&accepted);
}

static void start_table(struct buf *out)
{
    buf_add_cstr(out, "\n| key | what | accepted | default | SIGHUP |\n|---|---|---|---|---|\n");
}

void conf_doc_markdown(struct buf *out)
{
    start_table(out);
    for (uint32_t i = 0; i < conf_params_count; i++) {
        const struct conf_param *param = &conf_params[i];
        bool outermost = bytes_find(bytes_cstr(param->name), '.') < 0;
        if (!is_section(param)) {
            add_markdown_row(param, out);
        } else if (outermost) {
            buf_printf(out, "\n`%s`: %s", param->name, param->help);
            if (param->shown_default)
                buf_printf(out, " (default: %s)", param->shown_default);
            buf_add_cstr(out, ".\n");
            start_table(out);
        }
    }
}
