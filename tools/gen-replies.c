// SPDX-License-Identifier: MIT
//
// gen-replies - prints docs/REPLIES.md from the table of replies; with --json one row a line, for
// tests
#include <stdio.h>
#include <string.h>

#include "smtp/smtp_reply.h"

static void print_json(struct buf *out)
{
    for (int id = SMTP_REPLY_NONE + 1; id < SMTP_REPLY_COUNT; id++) {
        const struct smtp_reply_row *row = smtp_reply_row((enum smtp_reply_id)id);
        buf_printf(out,
                   "{\"name\":\"%s\",\"code\":%u,\"enhanced\":\"%s\",\"by\":\"%s\",\"text\":\"",
                   row->name, row->code, row->enhanced ? row->enhanced : "",
                   row->by == SMTP_BY_SESSION ? "session" : "decision");
        buf_add_json(out, bytes_cstr(row->text));
        buf_add_cstr(out, "\"}\n");
    }
}

int main(int argc, char **argv)
{
    struct buf out = {0};
    if (argc > 1 && strcmp(argv[1], "--json") == 0)
        print_json(&out);
    else
        smtp_reply_document(&out);
    fwrite(out.at, 1, out.len, stdout);
    buf_done(&out);
    return fflush(stdout) == 0 ? 0 : 74;
}
