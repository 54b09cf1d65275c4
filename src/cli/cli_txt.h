// SPDX-License-Identifier: MIT
//
// cli_txt - is a TXT record there? Asked through the configured servers, waiting for the answer
#pragma once

#include "cli/cli.h"

#define CLI_TXT_TIMEOUT_MS 10000

enum cli_txt_answer {
    CLI_TXT_FOUND,   // one of the records is exactly `want`
    CLI_TXT_OTHER,   // there are records, but others; *out_seen shows one
    CLI_TXT_NONE,    // no such name or no TXT record
    CLI_TXT_UNKNOWN, // the servers did not say: try later; *out_seen says why
};
// 0 with an answer, or an error of dns_open().
int cli_txt_ask(const struct conf *conf, struct bytes name, struct bytes want,
                enum cli_txt_answer *out_answer, struct buf *out_seen) MUST_USE;
