// SPDX-License-Identifier: MIT
//
// How it works. The file becomes a map from names (lower case, no final dot) to the records of all
// types; an answer is the row of those that have the type asked for.
#include "dns/dns_zone.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/json.h"
#include "base/map.h"
#include "dns/dns_request.h"
#include "mail/mail_text.h"

struct zone_name {
    enum dns_code code; // DNS_OK: as the records say
    struct bytes cname; // empty: none
    struct dns_record *records;
    size_t count;
};

struct dns_zone {
    struct arena arena;
    struct map names; // struct zone_name
};

// ---- reading ------------------------------------------------------------------------------------

// What is being read, for a complaint.
struct reading {
    struct dns_zone *zone;
    struct zone_name *entry;
    const char *name, *type;
    struct buf *error;
};

static int refuse(const struct reading *in, const char *what)
{
    buf_printf(in->error, "%.300s: %s: %s", in->name, in->type, what);
    return E_SYNTAX;
}

// Lower case, no final dot, in the arena.
static struct bytes fold_name(struct arena *arena, struct bytes name)
{
    if (name.len && name.at[name.len - 1] == '.')
        name.len--;
    return arena_lower(arena, name);
}

static int read_ip(struct reading *in, struct json_object *value, struct dns_record *out)
{
    struct sys_addr addr;
    if (sys_addr_parse_ip(json_text(value), 0, &addr) != OK ||
        addr.kind != (out->type == DNS_A ? SYS_ADDR_IP4 : SYS_ADDR_IP6))
        return refuse(in, "want addresses like \"192.0.2.1\" (A), \"2001:db8::1\" (AAAA)");
    memcpy(out->ip, addr.ip, sizeof out->ip);
    return OK;
}

static int read_txt(struct reading *in, struct json_object *value, struct dns_record *out)
{
    struct buf text = {.max = DNS_TEXT_MAX};
    bool is_list = json_object_is_type(value, json_type_array), ok = true;
    size_t parts = is_list ? json_object_array_length(value) : 1;
    for (size_t i = 0; i < parts && ok; i++) {
        struct json_object *part = is_list ? json_object_array_get_idx(value, i) : value;
        ok = json_object_is_type(part, json_type_string);
        buf_add(&text, json_text(part));
    }
    out->text = arena_dup(&in->zone->arena, buf_bytes(&text));
    ok = ok && text.err == OK;
    buf_done(&text);
    return ok ? OK : refuse(in, "want a string or a list of strings, in all up to 4096 bytes");
}

static int read_mx(struct reading *in, struct json_object *value, struct dns_record *out)
{
    static const char want[] = "want entries like [10, \"mx.example.com\"]";
    if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) != 2)
        return refuse(in, want);
    struct json_object *number = json_object_array_get_idx(value, 0),
                       *host = json_object_array_get_idx(value, 1);
    int64_t preference = json_object_get_int64(number);
    if (!json_object_is_type(number, json_type_int) || preference < 0 || preference > 65535 ||
        !json_object_is_type(host, json_type_string))
        return refuse(in, want);
    out->preference = (uint16_t)preference;
    out->name = fold_name(&in->zone->arena, json_text(host));
    return OK;
}

static int read_ptr(struct reading *in, struct json_object *value, struct dns_record *out)
{
    if (!json_object_is_type(value, json_type_string))
        return refuse(in, "want names");
    out->name = fold_name(&in->zone->arena, json_text(value));
    return OK;
}

static bool read_hex(struct bytes text, struct buf *out)
{
    for (size_t i = 0; i + 1 < text.len; i += 2) {
        int high = mail_hex_value(text.at[i]), low = mail_hex_value(text.at[i + 1]);
        if (high < 0 || low < 0)
            return false;
        buf_add_byte(out, (char)(high << 4 | low));
    }
    return text.len > 0 && text.len % 2 == 0;
}

static int read_tlsa(struct reading *in, struct json_object *value, struct dns_record *out)
{
    struct bytes rest = json_text(value), part;
    uint8_t *const numbers[] = {&out->usage, &out->selector, &out->matching};
    bool ok = true;
    for (size_t i = 0; i < COUNT_OF(numbers) && ok; i++) {
        uint64_t number = 0;
        ok = bytes_cut(&rest, ' ', &part) && bytes_to_u64(part, 255, &number) == OK;
        *numbers[i] = (uint8_t)number;
    }
    struct buf data = {.max = DNS_TEXT_MAX};
    ok = ok && read_hex(rest, &data) && data.err == OK;
    out->text = arena_dup(&in->zone->arena, buf_bytes(&data));
    buf_done(&data);
    return ok ? OK : refuse(in, "want strings like \"3 1 1 c0ffee\"");
}

static const struct type_row {
    const char *name;
    enum dns_type type;
    int (*read)(struct reading *in, struct json_object *value, struct dns_record *out);
} types[] = {
    {"A", DNS_A, read_ip},      {"AAAA", DNS_AAAA, read_ip}, {"MX", DNS_MX, read_mx},
    {"PTR", DNS_PTR, read_ptr}, {"TXT", DNS_TXT, read_txt},  {"TLSA", DNS_TLSA, read_tlsa},
};

// How many records there are at most.
static size_t count_all(struct json_object *entry)
{
    struct json_object *list;
    size_t count = 0;
    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (json_object_object_get_ex(entry, types[i].name, &list) &&
            json_object_is_type(list, json_type_array))
            count += json_object_array_length(list);
    return count;
}

static int read_list(struct reading *in, const struct type_row *row, struct json_object *list)
{
    in->type = row->name;
    if (!json_object_is_type(list, json_type_array))
        return refuse(in, "want a list");
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct dns_record *record = &in->entry->records[in->entry->count++];
        record->type = row->type;
        int err = row->read(in, json_object_array_get_idx(list, i), record);
        if (err)
            return err;
    }
    return OK;
}

static int read_rcode(struct reading *in, struct json_object *value)
{
    static const enum dns_code codes[] = {DNS_OK, DNS_NXDOMAIN, DNS_SERVFAIL, DNS_TIMEOUT};
    in->type = "RCODE";
    for (size_t i = 0; i < COUNT_OF(codes); i++)
        if (bytes_eq_nocase(json_text(value), bytes_cstr(dns_code_text(codes[i])))) {
            in->entry->code = codes[i];
            return OK;
        }
    return refuse(in, "want NOERROR, NXDOMAIN, SERVFAIL or TIMEOUT");
}

static int read_cname(struct reading *in, struct json_object *value)
{
    in->type = "CNAME";
    if (!json_object_is_type(value, json_type_string))
        return refuse(in, "want a name, or \"\" for none");
    in->entry->cname = fold_name(&in->zone->arena, json_text(value));
    return OK;
}

static int read_entry(struct reading *in, struct json_object *entry)
{
    struct json_object *value;
    int err = OK;
    in->type = "value";
    if (!json_object_is_type(entry, json_type_object))
        return refuse(in, "want an object of record types");
    in->entry->records = arena_new(&in->zone->arena, count_all(entry) * sizeof(struct dns_record));
    for (size_t i = 0; i < COUNT_OF(types) && !err; i++)
        if (json_object_object_get_ex(entry, types[i].name, &value) && value)
            err = read_list(in, &types[i], value);
    if (!err && json_object_object_get_ex(entry, "CNAME", &value) && value)
        err = read_cname(in, value);
    if (!err && json_object_object_get_ex(entry, "RCODE", &value) && value)
        err = read_rcode(in, value);
    return err;
}

static int read_names(struct dns_zone *zone, struct json_object *root, struct buf *error)
{
    json_object_object_foreach(root, name, entry)
    {
        struct reading in = {.zone = zone, .name = name, .error = error};
        in.entry = arena_new(&zone->arena, sizeof *in.entry);
        int err = read_entry(&in, entry);
        if (err)
            return err;
        map_set(&zone->names, fold_name(&zone->arena, bytes_cstr(name)), in.entry);
    }
    return OK;
}

static struct json_object *parse_json(struct bytes json, struct buf *error)
{
    struct json_tokener *tokener = json_tokener_new_ex(16);
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    struct json_object *root = json_tokener_parse_ex(tokener, json.at, (int)json.len);
    enum json_tokener_error failure = json_tokener_get_error(tokener);
    // Only white space may follow.
    bool whole = bytes_trim(bytes_skip(json, json_tokener_get_parse_end(tokener))).len == 0;
    if (failure == json_tokener_continue)
        buf_printf(error, "not JSON: it ends too early");
    else if (failure != json_tokener_success)
        buf_printf(error, "not JSON: %s at byte %zu", json_tokener_error_desc(failure),
                   json_tokener_get_parse_end(tokener));
    else if (!whole || !json_object_is_type(root, json_type_object))
        buf_printf(error, "not one JSON object");
    json_tokener_free(tokener);
    if (error->len == 0)
        return root;
    json_object_put(root);
    return NULL;
}

int dns_zone_parse(struct bytes json, struct dns_zone **out, struct buf *error)
{
    *out = NULL;
    buf_clear(error);
    if (json.len > DNS_ZONE_BYTES_MAX) {
        buf_printf(error, "larger than %d bytes", DNS_ZONE_BYTES_MAX);
        return E_LIMIT;
    }
    struct json_object *root = parse_json(json, error);
    if (!root)
        return E_SYNTAX;
    struct dns_zone *zone = mem_new(sizeof *zone);
    int err = read_names(zone, root, error);
    json_object_put(root);
    if (err)
        dns_zone_free(zone);
    else
        *out = zone;
    return err;
}

int dns_zone_read(const char *path, struct dns_zone **out, struct buf *error)
{
    struct buf text = {.max = DNS_ZONE_BYTES_MAX + 1};
    char piece[16384];
    *out = NULL;
    buf_clear(error);
    FILE *file = fopen(path, "re");
    for (size_t n; file && (n = fread(piece, 1, sizeof piece, file)) > 0;)
        buf_add(&text, bytes_of(piece, n));
    int err = !file || ferror(file) ? err_from_errno(errno) : text.err;
    if (file)
        fclose(file);
    if (err)
        buf_printf(error, "%s", err_text(err));
    else
        err = dns_zone_parse(buf_bytes(&text), out, error);
    buf_done(&text);
    return err;
}

void dns_zone_free(struct dns_zone *zone)
{
    if (!zone)
        return;
    map_done(&zone->names);
    arena_done(&zone->arena);
    free(zone);
}

// ---- answering ----------------------------------------------------------------------------------

static const struct zone_name *find(const struct dns_zone *zone, struct bytes name)
{
    struct arena arena = {0};
    const struct zone_name *entry = map_find(&zone->names, fold_name(&arena, name));
    arena_done(&arena);
    return entry;
}

static void take(const struct zone_name *entry, enum dns_type type, struct arena *arena,
                 struct dns_answer *out)
{
    struct dns_record *records = arena_new(arena, (entry->count + 1) * sizeof *records);
    for (size_t i = 0; i < entry->count && out->count < DNS_RECORDS_MAX; i++)
        if (entry->records[i].type == type)
            records[out->count++] = entry->records[i];
    if (type == DNS_CNAME && entry->cname.len)
        records[out->count++] = (struct dns_record){.type = DNS_CNAME, .name = entry->cname};
    out->records = records;
    out->code = out->count ? DNS_OK : DNS_NODATA;
}

void dns_zone_answer(const struct dns_zone *zone, struct bytes name, enum dns_type type,
                     struct arena *arena, struct dns_answer *out)
{
    *out = (struct dns_answer){
        .code = DNS_SERVFAIL, .is_secure = true, .ttl_s = DNS_ZONE_TTL_S, .why = "too many CNAMEs"};
    for (int steps = 0; steps <= DNS_ZONE_CNAMES_MAX; steps++) {
        const struct zone_name *entry = find(zone, name);
        if (entry && entry->code == DNS_OK && entry->cname.len && type != DNS_CNAME) {
            name = entry->cname;
            continue;
        }
        out->why[0] = '\0';
        out->code = entry ? entry->code : DNS_NXDOMAIN;
        if (out->code == DNS_OK)
            take(entry, type, arena, out);
        return;
    }
}

// ---- as a resolver ------------------------------------------------------------------------------

struct dns_of_zone {
    struct dns dns;
    struct dns_zone *zone;
};

static void start(struct dns_request *r)
{
    struct dns_of_zone *d = container_of(r->dns, struct dns_of_zone, dns);
    dns_zone_answer(d->zone, bytes_cstr(r->name), r->type, &r->arena, &r->answer);
    dns_request_answer(r);
}

static void close_zone(struct dns *dns)
{
    struct dns_of_zone *d = container_of(dns, struct dns_of_zone, dns);
    dns_zone_free(d->zone);
    free(d);
}

struct dns *dns_zone_open(struct dns_zone *zone, struct sys_loop *loop)
{
    struct dns_of_zone *d = mem_new(sizeof *d);
    d->dns.loop = loop;
    d->dns.start = start;
    d->dns.close = close_zone;
    d->zone = zone;
    return &d->dns;
}
