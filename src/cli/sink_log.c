// SPDX-License-Identifier: MIT
#include "cli/sink_log.h"

#include <errno.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"

#define LINES_BYTES_HIGH 65536

static void write_lines(struct sink_log *log)
{
    struct bytes left = buf_bytes(&log->lines);
    while (left.len && !log->err) {
        ssize_t n = write(log->fd, left.at, left.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            log->err = err_from_errno(errno);
            log_error("cannot write the sink's log", LOG_ERR(log->err));
        } else {
            left = bytes_skip(left, (size_t)n);
        }
    }
    buf_clear(&log->lines);
}

static void on_turn_end(struct sys_turn_end *end)
{
    write_lines(container_of(end, struct sink_log, end));
}

void sink_log_init(struct sink_log *log, int fd)
{
    *log = (struct sink_log){.fd = fd, .end.fn = on_turn_end};
}

void sink_log_done(struct sink_log *log)
{
    write_lines(log);
    buf_done(&log->lines);
}

static void add_hex(struct buf *out, const char *key, const uint8_t digest[32])
{
    static const char digits[] = "0123456789abcdef";
    char hex[64];
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    buf_printf(out, ",\"%s\":\"", key);
    buf_add(out, bytes_of(hex, sizeof hex));
    buf_add_byte(out, '"');
}

static void add_text(struct buf *out, const char *key, struct bytes value)
{
    buf_printf(out, ",\"%s\":\"", key);
    buf_add_json(out, value);
    buf_add_byte(out, '"');
}

static void add_line(struct buf *out, const struct sink_message *m, struct bytes recipient,
                     struct wall at)
{
    buf_add_cstr(out, "{\"at\":\"");
    wall_format(at, out);
    buf_add_byte(out, '"');
    add_text(out, "id", m->id);
    add_text(out, "sender", m->sender);
    add_text(out, "recipient", recipient);
    add_hex(out, "sha256", m->sha256);
    buf_printf(out, ",\"size\":%llu,\"bare_newlines\":%llu}\n", (unsigned long long)m->size,
               (unsigned long long)m->bare_newlines);
}

void sink_log_add(struct sink_log *log, const struct sink_message *m, struct wall at)
{
    log->messages++;
    log->bytes += m->size;
    log->recipients += m->recipients_count;
    if (log->fd < 0 || log->err)
        return;
    for (size_t i = 0; i < m->recipients_count; i++)
        add_line(&log->lines, m, m->recipients[i], at);
    if (log->lines.len >= LINES_BYTES_HIGH)
        write_lines(log);
    else
        sys_at_turn_end(&log->end);
}
