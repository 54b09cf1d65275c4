// SPDX-License-Identifier: MIT
//
// mail_differential - our parsers behind a pipe, for mail_differential_test.py to compare with Python's
//
// Standard input: records of a 32-bit length (the machine's order) and as many bytes. Standard output, for
// each: "ERR COUNT\n" and lines or bytes. `downgrade`: COUNT is the length of the 7-bit message that follows.
// `list`: COUNT is how many lines with an address follow.
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "mail/mail_address_list.h"
#include "mail/mail_downgrade.h"

#define RECORD_MAX (4u << 20)

static void emit(void *ctx, struct bytes piece)
{
    buf_add(ctx, piece);
}

static void downgrade(struct bytes message)
{
    struct mail_downgrade_plan plan;
    struct buf out = {0};
    mail_downgrade_plan_start(&plan, MAIL_DOWNGRADE_LONG_LINES);
    mail_downgrade_plan_feed(&plan, message);
    int err = mail_downgrade_plan_finish(&plan);
    if (err == OK) {
        struct mail_downgrade *d = mail_downgrade_new(&plan, emit, &out);
        err = mail_downgrade_feed(d, message);
        if (err == OK)
            err = mail_downgrade_finish(d);
        mail_downgrade_free(d);
    }
    printf("%d %zu\n", err, out.len);
    if (out.len)
        fwrite(out.at, 1, out.len, stdout);
    mail_downgrade_plan_done(&plan);
    buf_done(&out);
}

static void list(struct bytes value)
{
    struct arena arena = {0};
    struct mail_address_list addresses;
    int err = mail_address_list_parse(value, &arena, &addresses);
    printf("%d %zu\n", err, addresses.count);
    for (size_t i = 0; i < addresses.count; i++)
        printf("%.*s\n", BYTES_FMT(addresses.mailboxes[i].address.text));
    arena_done(&arena);
}

int main(int argc, char **argv)
{
    uint32_t len;
    char *record = mem_new(RECORD_MAX);
    if (argc != 2)
        return 64;
    while (fread(&len, sizeof(len), 1, stdin) == 1) {
        if (len > RECORD_MAX || fread(record, 1, len, stdin) != len)
            return 65;
        if (strcmp(argv[1], "list") == 0)
            list(bytes_of(record, len));
        else
            downgrade(bytes_of(record, len));
        fflush(stdout);
    }
    free(record);
    return 0;
}
