// SPDX-License-Identifier: MIT
//
// How it works: libyaml's events build our own nodes. `struct builder` keeps the open maps and
// lists; a map alternates between key and value.
#include "conf/conf_yaml.h"

#include <string.h>

#include <yaml.h>

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

static struct conf_place mark_place(const yaml_mark_t *mark)
{
    return (struct conf_place){(uint32_t)mark->line + 1, (uint32_t)mark->column + 1, 1};
}

static struct conf_place event_place(const yaml_event_t *event)
{
    const yaml_mark_t *start = &event->start_mark, *end = &event->end_mark;
    struct conf_place place = mark_place(start);
    if (end->line == start->line && end->column > start->column)
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
                                  const yaml_event_t *event)
{
    struct conf_node *node = arena_new(b->arena, sizeof *node);
    node->kind = kind;
    if (event)
        node->place = event_place(event);
    return node;
}

static void open_level(struct builder *b, enum conf_node_kind kind, const yaml_event_t *event)
{
    struct conf_node *node = new_node(b, kind, event);
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

static void add_scalar(struct builder *b, const yaml_event_t *event)
{
    bool is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    bool is_absent = is_plain && event->start_mark.index == event->end_mark.index;
    struct conf_node *node = new_node(b, CONF_NODE_SCALAR, is_absent ? NULL : event);
    node->text = arena_dup(b->arena, bytes_of(event->data.scalar.value, event->data.scalar.length));
    node->quoted = !is_plain;
    if (bytes_find(node->text, 0) >= 0)
        fail(b, node->place, "a NUL character is not allowed");
    add_node(b, node);
}

static void refuse_extras(struct builder *b, const yaml_event_t *event, const void *anchor,
                          const void *tag)
{
    if (anchor)
        fail(b, event_place(event), "anchors and aliases are not supported");
    if (tag)
        fail(b, event_place(event), "tags are not supported");
}

static void take_event(struct builder *b, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (b->documents++)
            fail(b, event_place(event), "a second document in the file; remove the '---'");
        break;
    case YAML_MAPPING_START_EVENT:
        refuse_extras(b, event, event->data.mapping_start.anchor, event->data.mapping_start.tag);
        open_level(b, CONF_NODE_MAP, event);
        break;
    case YAML_SEQUENCE_START_EVENT:
        refuse_extras(b, event, event->data.sequence_start.anchor, event->data.sequence_start.tag);
        open_level(b, CONF_NODE_LIST, event);
        break;
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        close_level(b);
        break;
    case YAML_SCALAR_EVENT:
        refuse_extras(b, event, event->data.scalar.anchor, event->data.scalar.tag);
        add_scalar(b, event);
        break;
    case YAML_ALIAS_EVENT:
        refuse_extras(b, event, event->data.alias.anchor, NULL);
        break;
    default:
        break;
    }
}

// The line of a byte.
static struct conf_place offset_place(struct bytes text, size_t offset)
{
    struct conf_place place = {1, 1, 1};
    struct bytes before = bytes_first(text, offset);
    for (ptrdiff_t i; (i = bytes_find(before, '\n')) >= 0; place.line++)
        before = bytes_skip(before, (size_t)i + 1);
    return place;
}

// The byte at a mark, whose column counts characters; 0 where there is none.
static char char_at(struct bytes text, const yaml_mark_t *mark)
{
    struct bytes line = {0};
    for (size_t i = 0; i <= mark->line; i++)
        if (!bytes_cut(&text, '\n', &line))
            return 0;
    size_t at = 0;
    for (size_t left = mark->column; at < line.len; at++)
        if (((unsigned char)line.at[at] & 0xc0) != 0x80 &&
            left-- == 0) // the first byte of a character
            return line.at[at];
    return 0;
}

// What would be right, for the complaints of libyaml that people meet most.
static const struct {
    const char *problem;
    char at; // it is about this character; 0: any
    const char *text;
} hints[] = {
    {"found character that cannot start any token", '\t', "a tab cannot indent; use spaces"},
    {"found a tab character that violates indentation", 0, "a tab cannot indent; use spaces"},
    {"found character that cannot start any token", 0,
     "a text cannot begin with this character; put it in quotes"},
    {"did not find expected node content", ':',
     "within [ ] and { } a text that begins with ':' needs quotes"},
    {"mapping values are not allowed in this context", 0,
     "no ':' can stand here: is the line indented as its neighbours are? a text with ': ' needs "
     "quotes"},
};

static const char *hint_for(const char *problem, char at)
{
    for (size_t i = 0; i < COUNT_OF(hints); i++)
        if (strcmp(hints[i].problem, problem) == 0 && (!hints[i].at || hints[i].at == at))
            return hints[i].text;
    return NULL;
}

static void take_problem(struct builder *b, struct bytes text, const yaml_parser_t *parser)
{
    const yaml_mark_t *mark = &parser->problem_mark, *from = &parser->context_mark;
    CHECK(parser->problem); // else there was no memory
    const char *hint = hint_for(parser->problem, char_at(text, mark));
    if (parser->error == YAML_READER_ERROR)
        fail(b, offset_place(text, parser->problem_offset), parser->problem);
    else if (hint || !parser->context || from->line == mark->line)
        fail(b, mark_place(mark), hint ? hint : parser->problem);
    else
        conf_errors_add(b->errors, mark_place(mark), "%s %s, which begins in line %zu",
                        parser->problem, parser->context, from->line + 1);
    b->failed = true;
}

static void read_events(struct builder *b, struct bytes text, yaml_parser_t *parser)
{
    bool at_end = false;
    while (!b->failed && !at_end) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            take_problem(b, text, parser);
            return;
        }
        at_end = event.type == YAML_STREAM_END_EVENT;
        take_event(b, &event);
        yaml_event_delete(&event);
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
    yaml_parser_t parser;
    CHECK(yaml_parser_initialize(&parser));
    yaml_parser_set_input_string(&parser, (const unsigned char *)(text.len ? text.at : ""),
                                 text.len);
    struct builder b = {.arena = arena, .errors = errors};
    read_events(&b, text, &parser);
    while (b.depth)
        close_level(&b);
    yaml_parser_delete(&parser);
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
