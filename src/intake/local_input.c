// SPDX-License-Identifier: MIT
#include "intake/local_input.h"

#include <errno.h>
#include <unistd.h>

#define READ_BYTES ((size_t)16 << 10)

void local_input_init(struct local_input *in, int fd, bool dot_ends, uint64_t bytes_max)
{
    const struct mail_header_limits limits = {.line_max = MAIL_HEADER_BYTES_MAX};
    *in = (struct local_input){.fd = fd, .bytes_max = bytes_max, .lines.dot_ends = dot_ends};
    mail_header_reader_init(&in->reader, &limits);
}

void local_input_done(struct local_input *in)
{
    mail_header_reader_done(&in->reader);
    buf_done(&in->piece);
}

// The next lines into `piece`; none, and at_end, when there are no more.
static int read_lines(struct local_input *in)
{
    char room[READ_BYTES];
    ssize_t n;
    buf_clear(&in->piece);
    do
        n = in->lines.ended ? 0 : read(in->fd, room, sizeof room);
    while (n == -1 && errno == EINTR);
    if (n == -1)
        return err_from_errno(errno);
    in->bytes += (uint64_t)n;
    if (in->bytes > in->bytes_max)
        return E_LIMIT;
    in->at_end = n == 0;
    if (in->at_end)
        mail_lines_finish(&in->lines, &in->piece);
    else
        mail_lines_feed(&in->lines, bytes_of(room, (size_t)n), &in->piece);
    return OK;
}

static int err_of(enum mail_header_state state)
{
    return state == MAIL_HEADER_DONE || state == MAIL_HEADER_MORE ? OK
           : state == MAIL_HEADER_BARE_NEWLINE                    ? E_SYNTAX
                                                                  : E_LIMIT;
}

int local_input_header(struct local_input *in, struct bytes *out_block)
{
    enum mail_header_state state = MAIL_HEADER_MORE;
    while (state == MAIL_HEADER_MORE) {
        size_t used = 0;
        int err = read_lines(in);
        if (err)
            return err;
        if (in->piece.len)
            state = mail_header_reader_feed(&in->reader, buf_bytes(&in->piece), &used);
        buf_consume(&in->piece, used);
        if (state == MAIL_HEADER_MORE && in->at_end)
            state = mail_header_reader_finish(&in->reader);
    }
    in->has_header = true;
    *out_block = buf_bytes(&in->reader.block);
    return err_of(state);
}

int local_input_next(struct local_input *in, struct bytes *out)
{
    if (in->has_header) { // what was read beyond the header
        in->has_header = false;
        buf_add(&in->reader.rest, buf_bytes(&in->piece));
        *out = buf_bytes(&in->reader.rest);
        if (in->reader.rest.err || out->len)
            return in->reader.rest.err;
    }
    *out = BYTES_NONE;
    while (!in->at_end && !out->len) {
        int err = read_lines(in);
        if (err)
            return err;
        *out = buf_bytes(&in->piece);
    }
    return OK;
}
