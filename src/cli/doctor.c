// SPDX-License-Identifier: MIT
#include "cli/doctor.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/check.h"

#define INDENT 6 // of the texts behind the state
#define WIDTH_MIN 40

static struct bytes format_text(struct doctor *d, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
static struct bytes format_text(struct doctor *d, const char *format, va_list args)
{
    char text[2048];
    vsnprintf(text, sizeof text, format, args);
    return arena_dup(&d->arena, bytes_cstr(text));
}

void doctor_add(struct doctor *d, const char *id, struct bytes subject, enum doctor_state state,
                const char *found, ...)
{
    va_list args;
    if (d->count == DOCTOR_FINDINGS_MAX)
        return;
    va_start(args, found);
    d->findings[d->count++] = (struct doctor_finding){.id = id,
                                                      .subject = arena_dup(&d->arena, subject),
                                                      .state = state,
                                                      .found = format_text(d, found, args)};
    va_end(args);
}

void doctor_fix(struct doctor *d, const char *fix, ...)
{
    va_list args;
    CHECK(d->count > 0);
    va_start(args, fix);
    d->findings[d->count - 1].fix = format_text(d, fix, args);
    va_end(args);
}

const char *doctor_state_name(enum doctor_state state)
{
    static const char *const names[] = {"ok", "warn", "fail"};
    return names[state];
}

// ---- for people --------------------------------------------------------------------------------------

// Words in lines of at most `width` characters; those after the first are indented. The first begins at `column`.
static void add_wrapped(struct buf *out, struct bytes text, uint32_t column, uint32_t indent,
                        uint32_t width)
{
    struct bytes word;
    uint32_t at = column;
    while (bytes_cut(&text, ' ', &word)) {
        if (width && at > indent && at + 1 + word.len > width) {
            buf_printf(out, "\n%*s", (int)indent, "");
            at = indent;
        } else if (at > column) {
            buf_add_byte(out, ' ');
            at++;
        }
        buf_add(out, word);
        at += (uint32_t)word.len;
    }
    buf_add_byte(out, '\n');
}

static void add_finding(const struct doctor_finding *f, uint32_t width, bool colours,
                        struct buf *out)
{
    static const char *const COLOURS[] = {"\x1b[32m", "\x1b[33m", "\x1b[31;1m"};
    struct buf head = {0};
    buf_printf(out, "%s%-4s%s  ", colours ? COLOURS[f->state] : "", doctor_state_name(f->state),
               colours ? "\x1b[0m" : "");
    buf_add_cstr(&head, f->id);
    if (f->subject.len) {
        buf_add_byte(&head, ' ');
        buf_add_visible(&head, f->subject, 200);
    }
    buf_add_cstr(&head, ": ");
    buf_add_visible(&head, f->found, 2000);
    add_wrapped(out, buf_bytes(&head), INDENT, INDENT + 2, width);
    if (f->fix.len) {
        buf_clear(&head);
        buf_add_visible(&head, f->fix, 2000);
        buf_printf(out, "%*s-> ", INDENT, "");
        add_wrapped(out, buf_bytes(&head), INDENT + 3, INDENT + 3, width);
    }
    buf_done(&head);
}

void doctor_format(const struct doctor *d, uint32_t width, bool colours, struct buf *out)
{
    uint32_t counts[3] = {0};
    for (uint32_t i = 0; i < d->count; i++) {
        counts[d->findings[i].state]++;
        add_finding(&d->findings[i], width && width < WIDTH_MIN ? WIDTH_MIN : width, colours, out);
    }
    buf_printf(out, "%u ok, %u warn, %u fail\n", counts[DOCTOR_OK], counts[DOCTOR_WARN],
               counts[DOCTOR_FAIL]);
}

// ---- helpers -----------------------------------------------------------------------------------------

const struct dns_answer *doctor_ask(struct doctor *d, struct bytes name, enum dns_type type)
{
    struct dns_question *q = arena_new(&d->arena, sizeof *q);
    q->name = name;
    q->type = type;
    dns_query_wait(d->resolver.dns, q, 1, DOCTOR_DNS_MS, &d->arena);
    return &q->answer;
}

struct bytes doctor_ip_text(struct doctor *d, const uint8_t *ip, bool ip6)
{
    char text[INET6_ADDRSTRLEN];
    inet_ntop(ip6 ? AF_INET6 : AF_INET, ip, text, sizeof text);
    return arena_dup(&d->arena, bytes_cstr(text));
}

bool doctor_is_loopback(struct bytes endpoint)
{
    return bytes_starts(endpoint, BYTES("127.")) || bytes_starts(endpoint, BYTES("[::1]"));
}
