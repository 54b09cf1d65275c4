// SPDX-License-Identifier: MIT
//
// cli_mail - a whole message from standard input
//
// A message without any CRLF has line ends of LF (a file on this system) and is read as if they were
// CRLF.
//
// Limits: CLI_MAIL_BYTES_MAX; a header block of CLI_MAIL_HEADER_MAX.
#pragma once

#include "cli/cli.h"

#define CLI_MAIL_BYTES_MAX ((size_t)1 << 30)
#define CLI_MAIL_HEADER_MAX ((size_t)16 << 20)

struct cli_mail {
    struct buf text;     // owned; with CRLF
    struct bytes header; // the header block without the empty line (mail/mail_header.h)
    struct bytes body;
    bool had_lf; // line ends were LF
};

// CLI_OK, or CLI_DATA with a sentence on standard error: nothing there, no header, too large, bytes
// that no header can have.
int cli_mail_read(struct cli_mail *out) MUST_USE;
void cli_mail_done(struct cli_mail *mail);
// Bytes on standard output, CRLF as LF if that is how the message came.
void cli_mail_write(const struct cli_mail *mail, struct bytes text);
