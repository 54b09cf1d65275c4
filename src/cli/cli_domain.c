// SPDX-License-Identifier: MIT
#include "cli/cli_domain.h"

#include <json-c/json.h>
#include <stdio.h>

#include "base/check.h"
#include "cli/cli_control.h"
#include "cli/cli_dkim.h"
#include "cli/cli_store.h"
#include "sign/domain_records.h"

struct json_object *cli_domain_proof(struct json_object *domain)
{
    struct json_object *records = NULL;
    if (!json_object_object_get_ex(domain, "records", &records) ||
        !json_object_is_type(records, json_type_array) || !cli_json_count(records))
        return NULL;
    return json_object_array_get_idx(records, 0);
}

// "posthaste-verification=TOKEN"
static struct bytes token_of(struct json_object *domain)
{
    struct bytes value = json_find_text(cli_domain_proof(domain), "value");
    return bytes_skip(value, (size_t)(bytes_find(value, '=') + 1));
}

static struct json_object *record_json(const struct domain_record *record)
{
    struct json_object *object = json_object_new_object();
    json_add_text(object, "name", record->name);
    json_add_text(object, "type", bytes_cstr(record->type));
    json_add_text(object, "value", record->value);
    json_add_text(object, "purpose", bytes_cstr(record->purpose));
    return object;
}

static size_t take_keys(struct json_object *list, struct domain_key keys[DOMAIN_KEYS_MAX])
{
    size_t count = cli_json_count(list);
    for (size_t i = 0; i < count && i < DOMAIN_KEYS_MAX; i++) {
        struct json_object *key = json_object_array_get_idx(list, i);
        keys[i] =
            (struct domain_key){json_find_text(key, "selector"), json_find_text(key, "record")};
    }
    return count < DOMAIN_KEYS_MAX ? count : DOMAIN_KEYS_MAX;
}

void cli_domain_complete(struct cli *cli, struct json_object *domain)
{
    struct json_object *listed = NULL;
    struct domain_key keys[DOMAIN_KEYS_MAX];
    struct domain_setup setup = {.domain = json_find_text(domain, "domain"),
                                 .token = token_of(domain),
                                 .conf = cli_conf(cli)};
    if (cli_dkim_published(cli, json_find_text(domain, "account"), setup.domain, &listed) == CLI_OK)
        setup.keys_count = take_keys(listed, keys);
    setup.keys = keys;
    struct domain_records made;
    domain_records_make(&setup, &cli->arena, &made);
    struct json_object *records = json_object_new_array(), *notes = json_object_new_array();
    for (size_t i = 0; i < made.count; i++)
        json_object_array_add(records, record_json(&made.records[i]));
    for (size_t i = 0; i < made.notes_count; i++)
        json_object_array_add(notes, json_object_new_string(made.notes[i]));
    json_object_object_add(domain, "records", records); // what was there is freed
    json_object_object_add(domain, "notes", notes);
    json_object_put(listed);
}

// ---- for people ------------------------------------------------------------------------------------------

static const struct {
    const char *purpose, *words;
} headings[] = {
    {"verification", "that the domain is yours"},
    {"spf", "that our servers may send for it (a domain has one SPF record: if there is one "
            "already, add what stands between v=spf1 and the last term)"},
    {"dkim", "the key that our signatures are verified with"},
    {"dmarc", "what receivers do with forgeries, and where they report them (keep your own record "
              "if there is one)"},
    {"return_path", "where bounces go"},
};

static const char *words_for(struct bytes purpose)
{
    for (size_t i = 0; i < COUNT_OF(headings); i++)
        if (bytes_eq(purpose, bytes_cstr(headings[i].purpose)))
            return headings[i].words;
    return "";
}

static void print_record(struct json_object *record)
{
    struct bytes value = json_find_text(record, "value"), type = json_find_text(record, "type");
    struct buf shown = {0};
    if (bytes_eq(type, BYTES("TXT")))
        domain_format_txt(value, &shown);
    else
        buf_printf(&shown, "%.*s.", BYTES_FMT(value));
    printf("%.*s. %.*s %s\n", BYTES_FMT(json_find_text(record, "name")), BYTES_FMT(type),
           buf_cstr(&shown));
    buf_done(&shown);
}

void cli_domain_print_records(struct json_object *domain)
{
    struct json_object *records = cli_json_field(domain, "records");
    struct json_object *notes = cli_json_field(domain, "notes");
    struct bytes before = BYTES_NONE;
    for (size_t i = 0; i < cli_json_count(records); i++) {
        struct json_object *record = json_object_array_get_idx(records, i);
        struct bytes purpose = json_find_text(record, "purpose");
        if (!bytes_eq(purpose, before))
            printf("\n; %.*s: %s\n", BYTES_FMT(purpose), words_for(purpose));
        print_record(record);
        before = purpose;
    }
    for (size_t i = 0; i < cli_json_count(notes); i++)
        printf("\nNote: %s.\n", json_object_get_string(json_object_array_get_idx(notes, i)));
}
