// SPDX-License-Identifier: MIT
//
// What `suppress import` reads: a record's fields lie within it or are copies no longer than it; a record that was
// read and written again says the same;
// a field that is open is closed by a quote.
#include "cli/csv.h"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_again(const struct csv_record *r, struct buf *out)
{
    for (size_t i = 0; i < r->count; i++) {
        if (i)
            buf_add_byte(out, ',');
        csv_add(out, r->fields[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    struct csv_record r, again;
    struct buf text = {0};
    struct bytes line = bytes_of(data, size);
    int err = csv_parse(line, &arena, &r);
    CHECK(err == OK || err == E_AGAIN || err == E_SYNTAX || err == E_LIMIT);
    CHECK(r.count >= 1 && r.count <= CSV_FIELDS_MAX);
    for (size_t i = 0, total = 0; i < r.count && err == OK; i++) {
        total += r.fields[i].len + (i > 0);
        CHECK(total <= size);
    }
    if (err == OK) {
        write_again(&r, &text);
        CHECK(csv_parse(buf_bytes(&text), &arena, &again) == OK && again.count == r.count);
        for (size_t i = 0; i < r.count; i++)
            CHECK(bytes_eq(again.fields[i], r.fields[i]));
    }
    if (err == E_AGAIN) { // its field is open: one quote closes it, two stand for one
        buf_add_all(&text, line, BYTES("\""));
        int closed = csv_parse(buf_bytes(&text), &arena, &again);
        CHECK(closed == OK && again.count == r.count);
        buf_add_byte(&text, '"');
        CHECK(csv_parse(buf_bytes(&text), &arena, &again) == E_AGAIN);
    }
    buf_done(&text);
    arena_done(&arena);
    return 0;
}
