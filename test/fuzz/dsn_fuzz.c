// SPDX-License-Identifier: MIT
// Whatever others wrote: CRLF lines of at most 998 bytes, no NUL, one action for one recipient. The input's lines
// (by LF) are the values, its first byte the choices.
#include "base/check.h"
#include "bounce/dsn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_lines(struct bytes s)
{
    size_t length = 0;
    for (size_t i = 0; i < s.len; i++) {
        CHECK(s.at[i] != '\0' && s.at[i] != '\n');
        length++;
        if (s.at[i] != '\r')
            continue;
        CHECK(i + 1 < s.len && s.at[i + 1] == '\n' && length - 1 <= 998);
        length = 0;
        i++;
    }
    CHECK(length == 0);
}

static size_t count_of(struct bytes s, struct bytes what)
{
    size_t n = 0;
    ptrdiff_t at;
    while ((at = bytes_search(s, what)) != -1) {
        n++;
        s = bytes_skip(s, (size_t)at + what.len);
    }
    return n;
}

static struct bytes line_of(struct bytes *rest)
{
    struct bytes line;
    if (bytes_cut(rest, '\n', &line))
        return line;
    line = *rest;
    *rest = BYTES_NONE;
    return line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct bytes rest = bytes_of(data + 1, size - 1);
    struct recipient recipient = {.number = 1, .address = line_of(&rest)};
    struct envelope envelope = {.accepted_at = {1}, .expires_at = {data[0] & 8 ? 2 : 0}};
    struct dsn_recipient told = {.recipient = &recipient,
                                 .action = (enum dsn_action)(data[0] % 5),
                                 .diagnostic_is_remote = data[0] & 16,
                                 .last_attempt = {data[0] & 32}};
    recipient.orcpt = line_of(&rest);
    envelope.reverse_path = line_of(&rest);
    envelope.envid = line_of(&rest);
    envelope.message_id = line_of(&rest);
    told.status = line_of(&rest);
    told.remote_mta = line_of(&rest);
    told.diagnostic = rest;
    struct dsn_request request = {.envelope = &envelope,
                                  .header = BYTES("Subject: x\r\n\r\n"),
                                  .hostname = BYTES("relay.example"),
                                  .postmaster = BYTES("MAILER-DAEMON@relay.example"),
                                  .recipients = &told,
                                  .count = 1};
    struct dsn dsn;
    CHECK(dsn_build(&request, &dsn) == OK);
    check_lines(buf_bytes(&dsn.header));
    check_lines(buf_bytes(&dsn.body));
    CHECK(count_of(buf_bytes(&dsn.body), BYTES("\r\nAction: ")) == 1);
    CHECK(count_of(buf_bytes(&dsn.body), BYTES("\r\n--=_")) == 4);
    CHECK(dsn.smtputf8 || bytes_is_ascii(buf_bytes(&dsn.header)));
    CHECK(dsn.eight_bit || bytes_is_ascii(buf_bytes(&dsn.body)));
    dsn_done(&dsn);
    return 0;
}
