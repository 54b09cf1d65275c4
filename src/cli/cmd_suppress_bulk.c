// SPDX-License-Identifier: MIT
//
// posthaste suppress import, export
//
// How it works: an import reads line by line and hands over batches; each is one transaction. What has been handed
// over stays, whatever happens then, and the same line again changes nothing: so an import that was interrupted goes
// on from the line it names, or from the beginning.
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "cli/cli_commands.h"
#include "cli/cli_control.h"
#include "cli/cli_progress.h"
#include "cli/cli_store.h"
#include "cli/cli_suppress.h"
#include "cli/csv.h"

#define BATCH_ROWS 8000
#define BATCH_BYTES 700000 // of JSON; a request has at most a megabyte
#define ROW_BYTES 60       // of JSON around a row's texts
#define LINE_BYTES_MAX 65536

static const char *const COLUMNS[] = {"address", "scope", "account", "stream",
                                      "reason",  "since", "expires", "note"};
enum { ADDRESS, SCOPE, ACCOUNT, COLUMNS_COUNT = COUNT_OF(COLUMNS) };

// ---- import: lines ---------------------------------------------------------------------------------------

struct import {
    struct cli *cli;
    struct cli_suppress *list;
    const char *name; // of the file
    FILE *file;
    bool csv;
    int column[COLUMNS_COUNT];  // of a CSV file: which field; -1: none
    uint64_t line, record_line; // read last; where its record begins
    uint64_t from;              // --from-line
    uint64_t done;              // all lines up to here are dealt with
    struct json_object *rows;
    size_t rows_bytes;
    uint64_t added, unchanged, errors;
    char *text;
    size_t text_cap;
    struct buf record;
    struct cli_progress progress;
};

static void tell_error(struct import *im, uint64_t line, const char *what)
{
    im->errors++;
    fprintf(stderr, "%s:%llu: %s\n", im->name, (unsigned long long)line, what);
}

// One more line behind what the record has. False at the end.
static bool read_line(struct import *im)
{
    ssize_t n = getline(&im->text, &im->text_cap, im->file);
    if (n < 0)
        return false;
    im->line++;
    while (n > 0 && (im->text[n - 1] == '\n' || im->text[n - 1] == '\r'))
        n--;
    if (im->record.len)
        buf_add_byte(&im->record, '\n');
    buf_add(&im->record, bytes_of(im->text, (size_t)n));
    return true;
}

static struct bytes without_mark(struct bytes text)
{
    return bytes_starts(text, BYTES("\xef\xbb\xbf")) ? bytes_skip(text, 3) : text;
}

static int column_of(struct bytes name)
{
    if (bytes_eq_nocase(name, BYTES("email")) || bytes_eq_nocase(name, BYTES("recipient")))
        return ADDRESS;
    for (int i = 0; i < COLUMNS_COUNT; i++)
        if (bytes_eq_nocase(name, bytes_cstr(COLUMNS[i])))
            return i;
    return -1;
}

// Is the first line a heading? Then it is a CSV file; else a list of addresses.
static bool take_heading(struct import *im, const struct csv_record *r)
{
    for (int i = 0; i < COLUMNS_COUNT; i++)
        im->column[i] = -1;
    for (size_t i = 0; i < r->count; i++) {
        int column = column_of(r->fields[i]);
        if (column >= 0 && im->column[column] < 0)
            im->column[column] = (int)i;
    }
    im->csv = im->column[ADDRESS] >= 0;
    if (!im->csv)
        im->column[ADDRESS] = 0;
    return im->csv;
}

static size_t json_bytes(struct bytes text)
{
    size_t n = text.len;
    for (size_t i = 0; i < text.len; i++)
        n += (uint8_t)text.at[i] < 0x20 ? 5 : text.at[i] == '"' || text.at[i] == '\\' ? 1 : 0;
    return n;
}

static void add_row(struct import *im, const struct csv_record *r)
{
    struct json_object *row = json_object_new_object();
    size_t bytes = ROW_BYTES;
    for (int i = 0; i < COLUMNS_COUNT; i++) {
        int at = im->column[i];
        struct bytes text = at >= 0 && (size_t)at < r->count ? r->fields[at] : BYTES_NONE;
        if (!text.len)
            continue;
        if (!bytes_is_utf8(text)) {
            tell_error(im, im->record_line, "not UTF-8");
            json_object_put(row);
            return;
        }
        if (i == SCOPE && bytes_eq(text, BYTES("service")))
            json_object_object_add(row, "service", json_object_new_boolean(true));
        else if (i != SCOPE)
            json_add_text(row, COLUMNS[i], text);
        bytes += json_bytes(text) + 16;
    }
    json_object_object_add(row, "line", json_object_new_uint64(im->record_line));
    json_object_array_add(im->rows, row);
    im->rows_bytes += bytes;
}

// A list's line: quotes mean nothing there but in an address.
static void take_list_line(struct import *im, struct bytes line)
{
    struct csv_record r = {.fields = {bytes_trim(line)}, .count = 1};
    if (r.fields[0].len && im->record_line >= im->from)
        add_row(im, &r);
}

static void take_csv_record(struct import *im, int err, const struct csv_record *r)
{
    if (im->record_line < im->from)
        return;
    if (err)
        tell_error(im, im->record_line,
                   err == E_AGAIN ? "a quoted field does not end" : "not a CSV record");
    else if (r->count > 1 || r->fields[0].len)
        add_row(im, r);
}

// Reads one record; of a CSV file it may have several lines. False at the end.
static bool read_record(struct import *im)
{
    struct arena arena = {0};
    struct csv_record r;
    buf_clear(&im->record);
    if (!read_line(im))
        return false;
    im->record_line = im->line;
    struct bytes line = without_mark(buf_bytes(&im->record));
    bool remark = bytes_starts(line, BYTES("#"));
    int err = remark ? OK : csv_parse(line, &arena, &r);
    while (im->csv && err == E_AGAIN && im->record.len < LINE_BYTES_MAX && read_line(im))
        err = csv_parse(without_mark(buf_bytes(&im->record)), &arena, &r);
    if (im->line == 1 && (err || remark))
        r.count = 0;
    if (im->line == 1 && take_heading(im, &r))
        remark = true;
    if (!remark && im->csv)
        take_csv_record(im, err, &r);
    else if (!remark)
        take_list_line(im, line);
    arena_done(&arena);
    return true;
}

// ---- import: batches -------------------------------------------------------------------------------------

static void take_answer(struct import *im, struct json_object *answer)
{
    struct json_object *errors = cli_json_field(answer, "errors");
    im->added += cli_json_number(answer, "added");
    im->unchanged += cli_json_number(answer, "unchanged");
    for (size_t i = 0; i < cli_json_count(errors); i++) {
        struct json_object *error = json_object_array_get_idx(errors, i);
        const char *text = json_object_get_string(cli_json_field(error, "error"));
        tell_error(im, cli_json_number(error, "line"), text ? text : "");
    }
}

static int send_batch(struct import *im)
{
    struct json_object *answer = NULL, *args = json_object_new_object();
    static const char *const options[] = {"account", "stream", "reason"};
    for (size_t i = 0; i < COUNT_OF(options); i++)
        if (cli_value(im->cli, options[i]))
            json_add_text(args, options[i], bytes_cstr(cli_value(im->cli, options[i])));
    json_add_text(args, "source", bytes_cstr(im->name));
    json_object_object_add(args, "rows", im->rows); // the arguments' now
    int exit = cli_json_count(im->rows)
                   ? cli_suppress_apply(im->list, "suppress.import", args, &answer)
                   : CLI_OK;
    if (!exit && answer)
        take_answer(im, answer);
    json_object_put(answer);
    json_object_put(args);
    im->rows = json_object_new_array();
    im->rows_bytes = 0;
    if (!exit)
        im->done = im->line;
    return exit;
}

static int import_all(struct import *im)
{
    int exit = CLI_OK;
    bool more = true;
    while (!exit && more && !cli_interrupted()) {
        more = read_record(im);
        if (!more || cli_json_count(im->rows) == BATCH_ROWS || im->rows_bytes > BATCH_BYTES) {
            exit = send_batch(im);
            cli_progress_show(&im->progress, im->done, 0);
        }
    }
    if (!exit && cli_interrupted())
        exit = send_batch(im);
    cli_progress_end(&im->progress, im->done, 0);
    return exit;
}

static int report_import(struct import *im, int exit)
{
    double took = cli_progress_seconds(&im->progress);
    bool whole = !exit && !cli_interrupted();
    if (im->cli->json) {
        struct json_object *o = json_object_new_object();
        json_object_object_add(o, "lines", json_object_new_uint64(im->done));
        json_object_object_add(o, "added", json_object_new_uint64(im->added));
        json_object_object_add(o, "unchanged", json_object_new_uint64(im->unchanged));
        json_object_object_add(o, "errors", json_object_new_uint64(im->errors));
        json_object_object_add(o, "seconds", json_object_new_double(took));
        json_object_object_add(o, "complete", json_object_new_boolean(whole));
        cli_print_json(o);
        json_object_put(o);
    } else {
        printf("%llu lines: %llu added, %llu known already, %llu with errors\n",
               (unsigned long long)im->done, (unsigned long long)im->added,
               (unsigned long long)im->unchanged, (unsigned long long)im->errors);
    }
    if (!whole)
        return cli_fail(exit ? exit : CLI_INTERRUPTED,
                        "interrupted behind line %llu; go on with --from-line %llu",
                        (unsigned long long)im->done, (unsigned long long)im->done + 1);
    return im->errors ? CLI_DATA : CLI_OK;
}

static int run_import(struct cli *cli)
{
    struct import im = {.cli = cli, .name = cli->arguments[0]};
    const char *from = cli_value(cli, "from-line");
    if (from && bytes_to_u64(bytes_cstr(from), UINT64_MAX, &im.from) != OK)
        return cli_fail_usage(cli, "--from-line wants the number of a line");
    bool piped = strcmp(im.name, "-") == 0;
    im.file = piped ? stdin : fopen(im.name, "re");
    if (!im.file)
        return cli_fail(errno == EACCES ? CLI_PERMISSION : CLI_NOT_FOUND, "cannot read %s: %s",
                        im.name, strerror(errno));
    int exit = cli_suppress_open(cli, &im.list);
    if (!exit) {
        cli_interrupt_catch();
        im.rows = json_object_new_array();
        buf_init(&im.record, (size_t)4 * LINE_BYTES_MAX);
        cli_progress_begin(cli, &im.progress, "lines");
        exit = report_import(&im, import_all(&im));
        json_object_put(im.rows);
        buf_done(&im.record);
    }
    cli_suppress_close(im.list);
    free(im.text);
    if (!piped)
        fclose(im.file);
    return exit;
}

// ---- export ----------------------------------------------------------------------------------------------

static void add_export_line(struct json_object *entry, bool list, struct buf *out)
{
    for (int i = 0; i < (list ? 1 : COLUMNS_COUNT); i++) {
        if (i)
            buf_add_byte(out, ',');
        csv_add(out, json_find_text(entry, COLUMNS[i]));
    }
    buf_add_byte(out, '\n');
}

static void add_heading(struct buf *out)
{
    for (int i = 0; i < COLUMNS_COUNT; i++)
        buf_printf(out, "%s%s", i ? "," : "", COLUMNS[i]);
    buf_add_byte(out, '\n');
}

static bool write_out(FILE *file, struct buf *text)
{
    bool ok = fwrite(text->at, 1, text->len, file) == text->len;
    buf_clear(text);
    return ok;
}

static int export_pages(struct cli *cli, struct cli_suppress *list, struct json_object *args,
                        uint64_t *out_count)
{
    struct cli_progress progress;
    struct json_object *page, *next = NULL;
    struct buf text = {0};
    bool plain = cli_flag(cli, "list");
    int exit = CLI_OK;
    cli_progress_begin(cli, &progress, "entries");
    if (!plain)
        add_heading(&text);
    do {
        exit = cli_suppress_apply(list, "suppress.list", args, &page);
        if (exit)
            break;
        struct json_object *entries = cli_json_field(page, "entries");
        size_t count = cli_json_count(entries);
        for (size_t i = 0; i < count; i++)
            add_export_line(json_object_array_get_idx(entries, i), plain, &text);
        *out_count += count;
        next = json_object_get(cli_json_field(page, "next"));
        json_object_object_add(args, "cursor", next);
        json_object_put(page);
        if (!write_out(stdout, &text))
            exit = cli_fail(CLI_TEMPORARY, "cannot write: %s", strerror(errno));
        cli_progress_show(&progress, *out_count, 0);
        if (cli_interrupted() && next && !exit)
            exit = cli_fail(CLI_INTERRUPTED, "interrupted: what was printed is not the whole list");
    } while (next && !exit);
    cli_progress_end(&progress, *out_count, 0);
    buf_done(&text);
    return exit;
}

static int run_export(struct cli *cli)
{
    struct cli_suppress *list;
    uint64_t count = 0;
    int exit = cli_suppress_open(cli, &list);
    if (exit)
        return exit;
    struct json_object *args = json_object_new_object();
    static const char *const options[] = {"account", "stream", "reason"};
    for (size_t i = 0; i < COUNT_OF(options); i++)
        if (cli_value(cli, options[i]))
            json_add_text(args, options[i], bytes_cstr(cli_value(cli, options[i])));
    if (cli_flag(cli, "service"))
        json_object_object_add(args, "service", json_object_new_boolean(true));
    cli_interrupt_catch();
    exit = export_pages(cli, list, args, &count);
    if (!exit && fflush(stdout) != 0)
        exit = cli_fail(CLI_TEMPORARY, "cannot write: %s", strerror(errno));
    json_object_put(args);
    cli_suppress_close(list);
    return exit;
}

// ---- commands --------------------------------------------------------------------------------------------

static const struct cli_option import_options[] = {
    {"account", "NAME", "for this account, where a line names none; else for the service"},
    {"stream", "TAG", "for mail of the account with this tag only"},
    {"reason", "REASON", "hard-bounce, complaint, unsubscribe or manual (default)",
     .words = cli_reason_words},
    {"from-line", "N", "go on with this line"},
    {"progress", NULL, "say each second how far it is, also when that is no terminal"},
    {NULL},
};
static const struct cli_option export_options[] = {
    {"account", "NAME", "of this account only; - is mail without an account"},
    {"stream", "TAG", "of this stream of the account only"},
    {"service", NULL, "entries for the whole service only"},
    {"reason", "REASON", "only this reason's", .words = cli_reason_words},
    {"list", NULL, "addresses only, one a line"},
    {"progress", NULL, "say each second how far it is, also when that is no terminal"},
    {NULL},
};

const struct cli_command cli_suppress_import_command = {
    .name = "suppress import",
    .arguments = "FILE",
    .help = "add many addresses, from a CSV file or a list; - is standard input",
    .more = "A CSV file has a heading with address (or email) and perhaps scope, account, stream, "
            "reason,\n"
            "since, expires, note; a list has one address a line, and # begins a remark. Lines "
            "with errors are\n"
            "told and left out (exit 65). The same file again changes nothing.\n",
    .options = import_options,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = run_import,
};
const struct cli_command cli_suppress_export_command = {
    .name = "suppress export",
    .help = "print the list as CSV, as import takes it",
    .options = export_options,
    .no_json = true,
    .run = run_export,
};
