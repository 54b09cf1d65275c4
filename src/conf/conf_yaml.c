// SPDX-License-Identifier: MIT
//
// How it works: libfyaml's events (not its document, whose check for duplicate keys is quadratic)
// build our own nodes. `struct builder` keeps the open maps and lists; a map alternates between key
// and value.
#include "conf/conf_yaml.h"

#include <libfyaml.h>

#include "base/check.h"
#include "base/map.h"

struct level {
    struct conf_node *node;
    bool has_key;  // in a map: the key has been read, its value comes next
    bool is_again; // that key is in the map already: its value is left out
    struct bytes key;
    struct conf_place key_place;
    struct map keys; // key -> node or marker, to find duplicates
};

struct builder {
    struct arena *arena;
    struct conf_errors *errors;
    struct level levels[CONF_DEPTH_MAX];
    uint32_t depth;
    uint32_t documents;
    struct conf_node *root;
    bool failed; // stop: the tree makes no sense any more
};

static struct conf_place token_place(struct fy_token *token)
{
    const struct fy_mark *start = token ? fy_token_start_mark(token) : NULL;
    const struct fy_mark *end = token ? fy_token_end_mark(token) : NULL;
    if (!start)
        return (struct conf_place){0};
    struct conf_place place = {(uint32_t)start->line + 1, (uint32_t)start->column + 1, 1};
    if (end && end->line == start->line && end->column > start->column)
        place.length = (uint32_t)(end->column - start->column);
    return place;
}

static void fail(struct builder *b, struct conf_place place, const char *text)
{
    conf_errors_add(b->errors, place, "%s", text);
    b->failed = true;
}

static void add_to_parent(struct builder *b, struct level *parent, struct conf_node *node)
{
    if (parent->node->count == CONF_ITEMS_MAX) {
        fail(b, node->place, "too many entries (at most 10000 in one list or map)");
        return;
    }
    node->key = parent->key;
    node->key_place = parent->key_place;
    if (!node->place.line) // nothing is written there
        node->place = parent->key_place.line ? parent->key_place : parent->node->place;
    parent->has_key = false;
    if (parent->is_again)
        return;
    if (parent->node->last)
        parent->node->last->next = node;
    else
        parent->node->first = node;
    parent->node->last = node;
    parent->node->count++;
}

static void take_key(struct builder *b, struct level *map, struct conf_node *node)
{
    if (node->kind != CONF_NODE_SCALAR) {
        fail(b, node->place, "a key must be plain text");
        return;
    }
    const struct conf_node *other = map_find(&map->keys, node->text);
    if (!other)
        map_set(&map->keys, node->text, node);
    else
        conf_errors_add(b->errors, node->place, "'%.*s' is set twice; it was first set in line %u",
                        BYTES_FMT(node->text), other->place.line);
    map->key = node->text;
    map->key_place = node->place;
    map->has_key = true;
    map->is_again = other != NULL;
}

static void add_node(struct builder *b, struct conf_node *node)
{
    if (!b->depth) {
        b->root = node;
        return;
    }
    struct level *level = &b->levels[b->depth - 1];
    if (level->node->kind == CONF_NODE_MAP && !level->has_key)
        take_key(b, level, node);
    else
        add_to_parent(b, level, node);
}

static struct conf_node *new_node(struct builder *b, enum conf_node_kind kind,
                                  struct fy_token *token)
{
    struct conf_node *node = arena_new(b->arena, sizeof *node);
    node->kind = kind;
    node->place = token_place(token);
    return node;
}

static void open_level(struct builder *b, enum conf_node_kind kind, struct fy_token *token)
{
    struct conf_node *node = new_node(b, kind, token);
    add_node(b, node);
    if (b->failed)
        return;
    if (b->depth == CONF_DEPTH_MAX) {
        fail(b, node->place, "nested too deeply (at most 16 levels)");
        return;
    }
    b->levels[b->depth++] = (struct level){.node = node};
}

static void close_level(struct builder *b)
{
    CHECK(b->depth > 0);
    map_done(&b->levels[--b->depth].keys);
}

static void add_scalar(struct builder *b, struct fy_token *token)
{
    struct conf_node *node = new_node(b, CONF_NODE_SCALAR, token);
    size_t len = 0;
    const char *text = token ? fy_token_get_text(token, &len) : NULL;
    node->text = arena_dup(b->arena, bytes_of(text, text ? len : 0));
    node->quoted = token && fy_token_scalar_style(token) != FYSS_PLAIN;
    if (bytes_find(node->text, 0) >= 0)
        fail(b, node->place, "a NUL character is not allowed");
    add_node(b, node);
}

static void refuse_extras(struct builder *b, struct fy_token *anchor, struct fy_token *tag)
{
    if (anchor)
        fail(b, token_place(anchor), "anchors and aliases are not supported");
    if (tag)
        fail(b, token_place(tag), "tags are not supported");
}

static void take_event(struct builder *b, struct fy_event *event)
{
    switch (event->type) {
    case FYET_DOCUMENT_START:
        if (b->documents++)
            fail(b, token_place(event->document_start.document_start),
                 "a second document in the file; remove the '---'");
        break;
    case FYET_MAPPING_START:
        refuse_extras(b, event->mapping_start.anchor, event->mapping_start.tag);
        open_level(b, CONF_NODE_MAP, event->mapping_start.mapping_start);
        break;
    case FYET_SEQUENCE_START:
        refuse_extras(b, event->sequence_start.anchor, event->sequence_start.tag);
        open_level(b, CONF_NODE_LIST, event->sequence_start.sequence_start);
        break;
    case FYET_MAPPING_END:
    case FYET_SEQUENCE_END:
        close_level(b);
        break;
    case FYET_SCALAR:
        refuse_extras(b, event->scalar.anchor, event->scalar.tag);
        add_scalar(b, event->scalar.value);
        break;
    case FYET_ALIAS:
        refuse_extras(b, event->alias.anchor, NULL);
        break;
    default:
        break;
    }
}

// libfyaml's own complaints, in our form.
static void take_diagnostics(struct builder *b, struct fy_diag *diag)
{
    void *cursor = NULL;
    struct fy_diag_error *e;
    bool any = false;
    while ((e = fy_diag_errors_iterate(diag, &cursor))) {
        if (e->type < FYET_ERROR || !e->msg)
            continue;
        struct conf_place place = {e->line > 0 ? (uint32_t)e->line : 0,
                                   e->column > 0 ? (uint32_t)e->column : 1, 1};
        conf_errors_add(b->errors, place, "%s", e->msg);
        any = true;
    }
    if (!any)
        conf_errors_add(b->errors, (struct conf_place){0}, "this is not valid YAML");
}

static void read_events(struct builder *b, struct fy_parser *parser)
{
    struct fy_event *event;
    while (!b->failed && (event = fy_parser_parse(parser))) {
        take_event(b, event);
        fy_parser_event_free(parser, event);
    }
}

// YAML 1.2 section 5.1: neither control characters nor bytes that are no UTF-8.
static bool is_text(struct bytes text, struct conf_errors *errors)
{
    struct conf_place place = {1, 1, 1};
    struct bytes line;
    for (; bytes_cut(&text, '\n', &line); place.line++) {
        if (bytes_is_utf8(line) && !bytes_has_control(line, "\t\r"))
            continue;
        conf_errors_add(errors, place, "control characters or bytes that are not UTF-8");
        return false;
    }
    return true;
}

struct conf_node *conf_yaml_parse(struct bytes text, struct arena *arena,
                                  struct conf_errors *errors)
{
    if (!is_text(text, errors))
        return NULL;
    struct fy_diag_cfg diag_cfg;
    fy_diag_cfg_default(&diag_cfg);
    diag_cfg.fp = NULL;
    struct fy_diag *diag = fy_diag_create(&diag_cfg);
    CHECK(diag);
    fy_diag_set_collect_errors(diag, true);
    struct fy_parse_cfg cfg = {
        .flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_ALLOW_DUPLICATE_KEYS, .diag = diag};
    struct fy_parser *parser = fy_parser_create(&cfg);
    CHECK(parser);
    struct builder b = {.arena = arena, .errors = errors};
    if (fy_parser_set_string(parser, text.len ? text.at : "", text.len) == 0)
        read_events(&b, parser);
    if (!b.failed && fy_parser_get_stream_error(parser)) {
        take_diagnostics(&b, diag);
        b.failed = true;
    }
    while (b.depth)
        close_level(&b);
    fy_parser_destroy(parser);
    fy_diag_destroy(diag);
    if (b.failed)
        return NULL;
    return b.root ? b.root : new_node(&b, CONF_NODE_MAP, NULL);
}

const struct conf_node *conf_node_find(const struct conf_node *map, const char *key)
{
    if (!map || map->kind != CONF_NODE_MAP)
        return NULL;
    for (const struct conf_node *node = map->first; node; node = node->next)
        if (bytes_eq(node->key, bytes_cstr(key)))
            return node;
    return NULL;
}

const struct conf_node *conf_node_nth(const struct conf_node *list, uint32_t n)
{
    const struct conf_node *node = list ? list->first : NULL;
    while (node && n--)
        node = node->next;
    return node;
}

struct conf_place conf_node_place(const struct conf_node *node)
{
    return node ? node->place : (struct conf_place){0};
}
