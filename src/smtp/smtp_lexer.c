// SPDX-License-Identifier: MIT
//
// smtp_lexer - cuts one command line off the input

#include "smtp/smtp_lexer.h"

static enum smtp_lex more(struct smtp_lexer *l, struct bytes in, size_t line_max, size_t *out_used)
{
    if (!l->skipping && in.len < line_max) {
        l->scanned = in.len;
        return SMTP_LEX_MORE;
    }
    l->skipping = true;
    l->scanned = 0;
    *out_used = in.len;
    return SMTP_LEX_MORE;
}

enum smtp_lex smtp_lexer_feed(struct smtp_lexer *l, struct bytes in, size_t line_max,
                              struct bytes *out_line, size_t *out_used)
{
    *out_used = 0;
    *out_line = BYTES_NONE;
    if (in.len == 0)
        return SMTP_LEX_MORE;
    size_t from = l->scanned < in.len ? l->scanned : 0;
    const char *lf = memchr(in.at + from, '\n', in.len - from);
    if (!lf)
        return more(l, in, line_max, out_used);
    size_t len = (size_t)(lf - in.at);
    bool skipped = l->skipping || len + 1 > line_max;
    *l = (struct smtp_lexer){0};
    *out_used = len + 1;
    if (skipped)
        return SMTP_LEX_TOO_LONG;
    if (len == 0 || in.at[len - 1] != '\r')
        return SMTP_LEX_BAD;
    *out_line = bytes_of(in.at, len - 1);
    return bytes_has_control(*out_line, NULL) ? SMTP_LEX_BAD : SMTP_LEX_DONE;
}
