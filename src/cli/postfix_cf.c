// SPDX-License-Identifier: MIT
#include "cli/postfix_cf.h"

#include <string.h>

static const struct {
    const char *name, *value;
} DEFAULTS[] = {
    {"myorigin", "$myhostname"},
    {"mydestination", "$myhostname, localhost.$mydomain, localhost"},
    {"inet_interfaces", "all"},
    {"inet_protocols", "all"},
    {"relay_domains", "$mydestination"},
    {"virtual_alias_domains", "$virtual_alias_maps"},
    {"virtual_mailbox_domains", "$virtual_mailbox_maps"},
    {"config_directory", "/etc/postfix"},
    {"queue_directory", "/var/spool/postfix"},
    {"data_directory", "/var/lib/postfix"},
    {"smtp_helo_name", "$myhostname"},
    {"default_database_type", "hash"},
    {"smtp_tls_chain_files", ""},
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static int complain(struct buf *errors, const char *file, uint32_t line, const char *text)
{
    buf_printf(errors, "%s:%u: error: %s\n", file, line, text);
    return E_SYNTAX;
}

// ---- lines -------------------------------------------------------------------------------------------

struct lines {
    struct bytes rest;
    uint32_t number; // of the last line taken
};

static bool is_blank(struct bytes line)
{
    struct bytes text = bytes_trim(line);
    return !text.len || text.at[0] == '#';
}

// The next logical line; false at the end.
static bool next_line(struct lines *l, struct buf *out, uint32_t *out_number)
{
    struct bytes line;
    buf_clear(out);
    for (struct bytes before = l->rest; bytes_cut(&l->rest, '\n', &line); before = l->rest) {
        bool goes_on = line.len && is_space(line.at[0]);
        if (!is_blank(line) && out->len && !goes_on) {
            l->rest = before; // the next one's
            return true;
        }
        l->number++;
        if (is_blank(line))
            continue;
        if (!out->len)
            *out_number = l->number;
        buf_add(out, line);
    }
    return out->len > 0;
}

static struct postfix_param *add_param(struct postfix_cf *cf, struct postfix_param **list,
                                       struct bytes name, struct bytes value, uint32_t line)
{
    struct postfix_param *p = arena_new(&cf->arena, sizeof *p);
    *p = (struct postfix_param){.name = arena_dup(&cf->arena, bytes_trim(name)),
                                .value = arena_dup(&cf->arena, bytes_trim(value)),
                                .line = line};
    while (*list && !bytes_eq((*list)->name, p->name))
        list = &(*list)->next;
    p->next = *list ? (*list)->next : NULL; // a later one replaces it
    *list = p;
    return p;
}

static bool is_name(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!ascii_is_alnum(name.at[i]) && !ascii_is_one_of(name.at[i], "_-./"))
            return false;
    return name.len > 0;
}

int postfix_cf_main(struct postfix_cf *cf, struct bytes text, const char *file, struct buf *errors)
{
    struct lines lines = {.rest = text};
    struct buf line = {0};
    uint32_t number = 0, count = 0;
    int err = text.len > POSTFIX_FILE_MAX ? E_LIMIT : OK;
    while (!err && next_line(&lines, &line, &number)) {
        struct bytes value = buf_bytes(&line), name;
        ptrdiff_t sign = bytes_find(value, '=');
        name = bytes_trim(bytes_first(value, sign < 0 ? 0 : (size_t)sign));
        if (sign < 0 || !is_name(name))
            err = complain(errors, file, number, "expected NAME = VALUE");
        else if (++count > POSTFIX_ITEMS_MAX)
            err = complain(errors, file, number, "too many parameters");
        else
            add_param(cf, &cf->params, name, bytes_skip(value, (size_t)sign + 1), number);
    }
    buf_done(&line);
    return err;
}

// ---- master.cf ---------------------------------------------------------------------------------------

// A word, or what stands within { } as one.
static bool take_word(struct bytes *rest, struct bytes *out)
{
    while (rest->len && is_space(rest->at[0]))
        *rest = bytes_skip(*rest, 1);
    size_t n = 0;
    int depth = 0;
    for (; n < rest->len && (depth || !is_space(rest->at[n])); n++)
        depth += (rest->at[n] == '{') - (rest->at[n] == '}' && depth);
    *out = bytes_first(*rest, n);
    *rest = bytes_skip(*rest, n);
    return n > 0;
}

static void add_override(struct postfix_cf *cf, struct postfix_service *s, struct bytes text)
{
    if (text.len > 1 && text.at[0] == '{' && text.at[text.len - 1] == '}')
        text = bytes_mid(text, 1, text.len - 2);
    ptrdiff_t sign = bytes_find(text, '=');
    if (sign > 0)
        add_param(cf, &s->overrides, bytes_first(text, (size_t)sign),
                  bytes_skip(text, (size_t)sign + 1), s->line);
}

static void take_arguments(struct postfix_cf *cf, struct postfix_service *s, struct bytes rest)
{
    struct bytes word;
    while (take_word(&rest, &word)) {
        if (!bytes_starts(word, BYTES("-o")))
            continue;
        if (word.len == 2 && !take_word(&rest, &word))
            return;
        add_override(cf, s, bytes_starts(word, BYTES("-o")) ? bytes_skip(word, 2) : word);
    }
}

static bool take_service(struct postfix_cf *cf, struct bytes line, uint32_t number,
                         struct postfix_service *s)
{
    struct bytes words[8];
    for (int i = 0; i < 8; i++) // name type private unprivileged chroot wakeup maxproc command
        if (!take_word(&line, &words[i]))
            return false;
    *s = (struct postfix_service){.name = arena_dup(&cf->arena, words[0]),
                                  .type = arena_dup(&cf->arena, words[1]),
                                  .command = arena_dup(&cf->arena, words[7]),
                                  .line = number};
    take_arguments(cf, s, line);
    return true;
}

int postfix_cf_master(struct postfix_cf *cf, struct bytes text, const char *file,
                      struct buf *errors)
{
    struct lines lines = {.rest = text};
    struct postfix_service **last = &cf->services;
    struct buf line = {0};
    uint32_t number = 0, count = 0;
    int err = text.len > POSTFIX_FILE_MAX ? E_LIMIT : OK;
    while (*last)
        last = &(*last)->next;
    while (!err && next_line(&lines, &line, &number)) {
        struct postfix_service *s = arena_new(&cf->arena, sizeof *s);
        if (++count > POSTFIX_ITEMS_MAX)
            err = complain(errors, file, number, "too many services");
        else if (!take_service(cf, buf_bytes(&line), number, s))
            err = complain(errors, file, number,
                           "expected a service: name, type, five columns, command");
        else
            *last = s;
        last = err ? last : &s->next;
    }
    buf_done(&line);
    return err;
}

void postfix_cf_done(struct postfix_cf *cf)
{
    arena_done(&cf->arena);
    *cf = (struct postfix_cf){0};
}

// ---- values ------------------------------------------------------------------------------------------

static const struct postfix_param *find_in(const struct postfix_param *list, struct bytes name)
{
    for (; list; list = list->next)
        if (bytes_eq(list->name, name))
            return list;
    return NULL;
}

static const struct postfix_param *find(const struct postfix_cf *cf,
                                        const struct postfix_service *service, struct bytes name)
{
    const struct postfix_param *p = service ? find_in(service->overrides, name) : NULL;
    return p ? p : find_in(cf->params, name);
}

bool postfix_is_set(const struct postfix_cf *cf, const struct postfix_service *service,
                    const char *name)
{
    return find(cf, service, bytes_cstr(name)) != NULL;
}

struct expansion {
    struct postfix_cf *cf;
    const struct postfix_service *service;
    struct buf *out;
    int depth;
};

static void expand(struct expansion *e, struct bytes text);

static void expand_name(struct expansion *e, struct bytes name)
{
    const struct postfix_param *p = find(e->cf, e->service, name);
    struct bytes host = e->cf->host;
    e->cf->steps++;
    if (p) {
        expand(e, p->value);
    } else if (bytes_eq(name, BYTES("myhostname"))) {
        buf_add(e->out, host);
    } else if (bytes_eq(name, BYTES("mydomain"))) {
        struct buf full = {0};
        struct expansion of_host = {e->cf, e->service, &full, e->depth};
        expand(&of_host, BYTES("$myhostname"));
        ptrdiff_t dot = bytes_find(buf_bytes(&full), '.');
        buf_add(e->out, bytes_skip(buf_bytes(&full), dot < 0 ? 0 : (size_t)dot + 1));
        buf_done(&full);
    }
    for (size_t i = 0; !p && i < sizeof DEFAULTS / sizeof *DEFAULTS; i++)
        if (bytes_eq(name, bytes_cstr(DEFAULTS[i].name)))
            expand(e, bytes_cstr(DEFAULTS[i].value));
}

static bool is_empty(struct expansion *e, struct bytes name)
{
    struct buf value = {0};
    struct expansion inner = {e->cf, e->service, &value, e->depth};
    expand_name(&inner, name);
    bool empty = !bytes_trim(buf_bytes(&value)).len;
    buf_done(&value);
    return empty;
}

// How many bytes "{...}" or "(...)" at the start of `text` has; 0: it never ends.
static size_t enclosed(struct bytes text)
{
    char open = text.at[0], close = open == '{' ? '}' : ')';
    int depth = 0;
    for (size_t i = 0; i < text.len; i++) {
        depth += (text.at[i] == open) - (text.at[i] == close);
        if (!depth)
            return i + 1;
    }
    return 0;
}

static struct bytes unbraced(struct bytes text)
{
    text = bytes_trim(text);
    return text.len > 1 && text.at[0] == '{' && enclosed(text) == text.len
               ? bytes_mid(text, 1, text.len - 2)
               : text;
}

// "name?text", "name:text", "name?{text}:{text}".
static void expand_choice(struct expansion *e, struct bytes name, bool if_set, struct bytes rest)
{
    struct bytes yes = rest, no = BYTES_NONE, trimmed = bytes_trim(rest);
    size_t n = trimmed.len && trimmed.at[0] == '{' ? enclosed(trimmed) : 0;
    if (if_set && n && bytes_starts(bytes_trim(bytes_skip(trimmed, n)), BYTES(":"))) {
        yes = bytes_first(trimmed, n);
        no = bytes_skip(bytes_trim(bytes_skip(trimmed, n)), 1);
    }
    bool set = !is_empty(e, name);
    expand(e, unbraced(set == if_set ? yes : no));
}

static void expand_inside(struct expansion *e, struct bytes inside)
{
    size_t n = 0;
    while (n < inside.len && (ascii_is_alnum(inside.at[n]) || inside.at[n] == '_'))
        n++;
    struct bytes name = bytes_first(inside, n), rest = bytes_skip(inside, n);
    if (!n)
        buf_printf(e->out, "${%.*s}", BYTES_FMT(inside)); // a comparison
    else if (!rest.len)
        expand_name(e, name);
    else if (rest.at[0] == '?' || rest.at[0] == ':')
        expand_choice(e, name, rest.at[0] == '?', bytes_skip(rest, 1));
}

static void expand(struct expansion *e, struct bytes text)
{
    if (e->depth >= POSTFIX_DEPTH_MAX)
        return; // a name that leads to itself
    e->depth++;
    while (text.len && !e->out->err && e->cf->steps < POSTFIX_STEPS_MAX) {
        ptrdiff_t dollar = bytes_find(text, '$');
        struct bytes plain = dollar < 0 ? text : bytes_first(text, (size_t)dollar);
        size_t n = 0;
        buf_add(e->out, plain);
        text = bytes_skip(text, plain.len + (dollar >= 0));
        if (dollar < 0)
            break;
        if (text.len && (text.at[0] == '{' || text.at[0] == '(') && (n = enclosed(text)) > 0) {
            expand_inside(e, bytes_mid(text, 1, n - 2));
        } else if (text.len && text.at[0] == '$') {
            buf_add_byte(e->out, '$');
            n = 1;
        } else {
            while (n < text.len && (ascii_is_alnum(text.at[n]) || text.at[n] == '_'))
                n++;
            expand_name(e, bytes_first(text, n));
        }
        text = bytes_skip(text, n);
    }
    e->depth--;
}

struct bytes postfix_get(struct postfix_cf *cf, const struct postfix_service *service,
                         const char *name)
{
    struct buf out;
    buf_init(&out, POSTFIX_VALUE_MAX);
    struct expansion e = {cf, service, &out, 0};
    cf->steps = 0;
    expand_name(&e, bytes_cstr(name));
    struct bytes value = arena_dup(&cf->arena, bytes_trim(buf_bytes(&out)));
    buf_done(&out);
    return value;
}

bool postfix_flag(struct postfix_cf *cf, const struct postfix_service *service, const char *name,
                  bool otherwise)
{
    struct bytes value = postfix_get(cf, service, name);
    if (bytes_eq_nocase(value, BYTES("yes")))
        return true;
    return bytes_eq_nocase(value, BYTES("no")) ? false : otherwise;
}

bool postfix_word(struct bytes *list, struct bytes *out)
{
    size_t n = 0;
    while (list->len && (is_space(list->at[0]) || list->at[0] == ','))
        *list = bytes_skip(*list, 1);
    while (n < list->len && !is_space(list->at[n]) && list->at[n] != ',')
        n++;
    *out = bytes_first(*list, n);
    *list = bytes_skip(*list, n);
    return n > 0;
}
