// SPDX-License-Identifier: MIT
#include "cli/cli_mail.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "mail/mail_header.h"

static int read_input(struct buf *out)
{
    char piece[65536];
    buf_init(out, CLI_MAIL_BYTES_MAX);
    for (;;) {
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return cli_fail(CLI_DATA, "standard input can't be read: %s",
                            err_text(err_from_errno(errno)));
        if (n == 0)
            break;
        buf_add(out, bytes_of(piece, (size_t)n));
        if (out->err)
            return cli_fail(CLI_DATA, "the message is larger than %zu bytes", CLI_MAIL_BYTES_MAX);
    }
    return out->len ? CLI_OK : cli_fail(CLI_DATA, "there is no message on standard input");
}

static int give_crlf(struct cli_mail *mail)
{
    struct buf text;
    mail->had_lf = bytes_search(buf_bytes(&mail->text), BYTES("\r\n")) < 0 &&
                   bytes_find(buf_bytes(&mail->text), '\n') >= 0;
    if (!mail->had_lf)
        return CLI_OK;
    buf_init(&text, CLI_MAIL_BYTES_MAX);
    struct bytes rest = buf_bytes(&mail->text), line;
    while (bytes_cut(&rest, '\n', &line))
        buf_add_all(&text, line, rest.at ? BYTES("\r\n") : BYTES_NONE);
    buf_done(&mail->text);
    mail->text = text;
    return text.err ? cli_fail(CLI_DATA, "the message is larger than %zu bytes", CLI_MAIL_BYTES_MAX)
                    : CLI_OK;
}

static int find_header(struct cli_mail *mail)
{
    static const struct mail_header_limits limits = {CLI_MAIL_HEADER_MAX, SIZE_MAX / 2,
                                                     SIZE_MAX / 2};
    struct mail_header_reader r;
    size_t used;
    mail_header_reader_init(&r, &limits);
    mail_header_reader_feed(&r, buf_bytes(&mail->text), &used);
    enum mail_header_state state = mail_header_reader_finish(&r);
    size_t len = r.block.len;
    mail->header = bytes_first(buf_bytes(&mail->text), len);
    mail->body = bytes_skip(buf_bytes(&mail->text), len + (r.has_separator ? 2 : 0));
    mail_header_reader_done(&r);
    if (state == MAIL_HEADER_BARE_NEWLINE)
        return cli_fail(CLI_DATA, "the message's header has a CR or LF alone, or a NUL");
    if (state != MAIL_HEADER_DONE)
        return cli_fail(CLI_DATA, "the message's header is larger than %zu bytes",
                        CLI_MAIL_HEADER_MAX);
    return len ? CLI_OK : cli_fail(CLI_DATA, "the message has no header");
}

int cli_mail_read(struct cli_mail *out)
{
    *out = (struct cli_mail){0};
    int exit = read_input(&out->text);
    if (!exit)
        exit = give_crlf(out);
    if (!exit)
        exit = find_header(out);
    if (exit)
        cli_mail_done(out);
    return exit;
}

void cli_mail_done(struct cli_mail *mail)
{
    buf_done(&mail->text);
}

void cli_mail_write(const struct cli_mail *mail, struct bytes text)
{
    if (!mail->had_lf) {
        fwrite(text.at, 1, text.len, stdout);
        return;
    }
    for (struct bytes line; bytes_cut(&text, '\n', &line);) {
        if (text.at && bytes_ends(line, BYTES("\r")))
            line.len--;
        fwrite(line.at, 1, line.len, stdout);
        if (text.at)
            putchar('\n');
    }
}
