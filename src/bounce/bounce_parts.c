// SPDX-License-Identifier: MIT
#include "bounce/bounce_parts.h"

#include "base/check.h"
#include "bounce/bounce_class.h"
#include "mail/mail_encode.h"
#include "mail/mail_mime_walk.h"
#include "mail/mail_rfc2047.h"

#define FIELD_MAX 4096 // bytes of a field's value that are looked at

// ---- reading ---------------------------------------------------------------------------------------------

struct reading {
    struct arena *arena;
    struct bounce_parts *out;
    struct buf body;             // of the part being read, as it came
    struct buf text, html;       // of the parts for people
    struct bytes type;           // of the part being read
    enum mail_encoding encoding; // of it
    bool is_inside;              // the first mail inside has begun: only its header counts
    bool wants_header;           // the next header is that one
};

static struct bytes type_of(struct reading *r, struct bytes block, struct bytes *out_report)
{
    struct mail_field field;
    struct mail_content_type type;
    if (!mail_header_find(block, BYTES("Content-Type"), &field) ||
        mail_content_type_parse(bytes_first(field.value, FIELD_MAX), r->arena, &type))
        return BYTES_NONE;
    *out_report = arena_lower(r->arena, mail_content_type_find(&type, BYTES("report-type")));
    return arena_lower(r->arena, arena_printf(r->arena, "%.*s/%.*s", BYTES_FMT(type.type),
                                              BYTES_FMT(type.subtype)));
}

static void on_header(void *ctx, const struct mail_part *part, struct bytes block,
                      bool has_separator)
{
    struct reading *r = ctx;
    (void)has_separator;
    struct bytes report = BYTES_NONE;
    if (r->wants_header) {
        r->out->original = arena_dup(r->arena, block);
        r->wants_header = false;
        return;
    }
    if (r->is_inside)
        return;
    r->type = type_of(r, block, &report);
    r->encoding = part->encoding;
    if (part->index == 0) {
        r->out->header = arena_dup(r->arena, block);
        r->out->type = r->type;
        r->out->report = report;
    }
    r->is_inside = r->wants_header = part->kind == PART_RFC822;
}

static void on_body(void *ctx, const struct mail_part *part, struct bytes piece)
{
    struct reading *r = ctx;
    (void)part;
    if (!r->is_inside)
        buf_add(&r->body, piece);
}

static void on_raw(void *ctx, struct bytes piece)
{
    (void)ctx;
    (void)piece;
}

// The body without its encoding; a broken one as far as it goes.
static struct bytes decode(struct reading *r, struct buf *out)
{
    struct bytes body = buf_bytes(&r->body);
    struct mail_base64_decoder base64 = {0};
    struct mail_qp_decoder qp = {0};
    if (r->encoding == ENCODING_BASE64) {
        if (mail_base64_decoder_feed(&base64, body, out) == OK)
            (void)!mail_base64_decoder_finish(&base64);
    } else if (r->encoding == ENCODING_QP) {
        if (mail_qp_decoder_feed(&qp, body, out) == OK)
            (void)!mail_qp_decoder_finish(&qp);
    } else {
        return body;
    }
    return out->len ? buf_bytes(out) : body;
}

static bool is_header_type(struct bytes type)
{
    return bytes_eq(type, BYTES("text/rfc822-headers")) ||
           bytes_eq(type, BYTES("message/rfc822-headers")) ||
           bytes_eq(type, BYTES("message/global")) ||
           bytes_eq(type, BYTES("message/global-headers")) ||
           bytes_eq(type, BYTES("message/rfc822")) || bytes_eq(type, BYTES("message/partial"));
}

static void add_crlf(struct bytes text, size_t max, struct buf *out);

static struct bytes header_part(struct bytes text)
{
    ptrdiff_t end = bytes_search(text, BYTES("\r\n\r\n"));
    return end < 0 ? text : bytes_first(text, (size_t)end + 2);
}

static void take_part(struct reading *r, struct bytes body)
{
    struct bounce_parts *out = r->out;
    struct buf lines = {0};
    add_crlf(body, BOUNCE_MAIL_MAX, &lines); // an encoded part has the line ends of its maker
    body = buf_bytes(&lines);
    if (is_header_type(r->type)) {
        if (!out->original.len)
            out->original = arena_dup(r->arena, header_part(body));
    } else if (!r->type.len || bytes_eq(r->type, BYTES("text/plain"))) {
        buf_add(&r->text, bytes_first(body, BOUNCE_TEXT_BYTES_MAX - r->text.len));
    } else if (bytes_starts(r->type, BYTES("text/"))) {
        buf_add(&r->html, bytes_first(body, BOUNCE_TEXT_BYTES_MAX - r->html.len));
    } else if (bytes_starts(r->type, BYTES("message/")) && out->count < BOUNCE_PARTS_MAX) {
        out->parts[out->count++] = (struct bounce_part){r->type, arena_dup(r->arena, body)};
    }
    buf_done(&lines);
}

static void on_end(void *ctx, const struct mail_part *part)
{
    struct reading *r = ctx;
    struct buf decoded = {0};
    (void)part;
    if (r->is_inside)
        return;
    take_part(r, decode(r, &decoded));
    buf_done(&decoded);
    buf_clear(&r->body);
}

// ---- text ------------------------------------------------------------------------------------------------

// CRLF, CR and LF end lines alike; NUL becomes a blank.
static void add_crlf(struct bytes text, size_t max, struct buf *out)
{
    text = bytes_first(text, max);
    size_t start = 0;
    for (size_t i = 0; i <= text.len; i++) {
        char c = i < text.len ? text.at[i] : 'x';
        if (i < text.len && c != '\r' && c != '\n' && c != '\0')
            continue;
        buf_add(out, bytes_mid(text, start, i - start));
        start = i + 1;
        if (c == '\0')
            buf_add_byte(out, ' ');
        else if (i < text.len)
            buf_add(out, BYTES("\r\n"));
        if (c == '\r' && start < text.len && text.at[start] == '\n')
            i = start++;
    }
}

static void add_entity(struct bytes *html, struct buf *out)
{
    static const struct {
        struct bytes name;
        char c;
    } ROWS[] = {{BYTES("&lt;"), '<'},   {BYTES("&gt;"), '>'},   {BYTES("&amp;"), '&'},
                {BYTES("&quot;"), '"'}, {BYTES("&#39;"), '\''}, {BYTES("&nbsp;"), ' '}};
    for (size_t i = 0; i < COUNT_OF(ROWS); i++) {
        if (!bytes_starts_nocase(*html, ROWS[i].name))
            continue;
        buf_add_byte(out, ROWS[i].c);
        *html = bytes_skip(*html, ROWS[i].name.len);
        return;
    }
    buf_add_byte(out, '&');
    *html = bytes_skip(*html, 1);
}

// Tags become line ends where they break lines, else nothing; styles and scripts are left out.
static void add_html(struct bytes html, struct buf *out)
{
    static const char *const BREAKS[] = {"br", "p", "/p", "div", "/div", "tr", "/tr", "li", "/li"};
    bool is_shown = true;
    while (html.len) {
        if (html.at[0] == '&') {
            add_entity(&html, out);
            continue;
        }
        if (html.at[0] != '<') {
            if (is_shown)
                buf_add_byte(out, html.at[0]);
            html = bytes_skip(html, 1);
            continue;
        }
        ptrdiff_t end = bytes_find(html, '>');
        struct bytes tag = bytes_mid(html, 1, end < 0 ? html.len : (size_t)end - 1), name = tag;
        for (name.len = 0; name.len < tag.len && (ascii_is_alnum(tag.at[name.len]) ||
                                                  (name.len == 0 && tag.at[0] == '/'));)
            name.len++;
        for (size_t i = 0; i < COUNT_OF(BREAKS); i++)
            if (bytes_eq_nocase(name, bytes_cstr(BREAKS[i])))
                buf_add(out, BYTES("\r\n"));
        if (bytes_eq_nocase(name, BYTES("style")) || bytes_eq_nocase(name, BYTES("script")))
            is_shown = false;
        if (bytes_eq_nocase(name, BYTES("/style")) || bytes_eq_nocase(name, BYTES("/script")))
            is_shown = true;
        html = bytes_skip(html, end < 0 ? html.len : (size_t)end + 1);
    }
}

void bounce_parts_read(struct bytes mail, struct arena *arena, struct bounce_parts *out)
{
    static const struct mail_mime_events EVENTS = {on_header, on_body, on_end, on_raw};
    struct reading r = {.arena = arena, .out = out};
    struct buf lines = {0};
    *out = (struct bounce_parts){0};
    add_crlf(mail, BOUNCE_MAIL_MAX, &lines);
    struct bytes rest = buf_bytes(&lines), first;
    if (bytes_starts(rest, BYTES("From "))) { // an mbox
        bytes_cut(&rest, '\n', &first);
    }
    struct mail_mime_walk *walk = mail_mime_walk_new(&EVENTS, &r);
    int err = mail_mime_walk_feed(walk, rest);
    if (!err)
        err = mail_mime_walk_finish(walk);
    if (err && r.body.len && !r.is_inside)
        on_end(&r, NULL); // as far as it could be read
    mail_mime_walk_free(walk);
    if (!r.text.len)
        add_html(buf_bytes(&r.html), &r.text);
    out->text = arena_dup(arena, buf_bytes(&r.text));
    buf_done(&r.text);
    buf_done(&r.html);
    buf_done(&r.body);
    buf_done(&lines);
}

const struct bounce_part *bounce_parts_find(const struct bounce_parts *parts, const char *type)
{
    for (uint32_t i = 0; i < parts->count; i++)
        if (bytes_eq(parts->parts[i].type, bytes_cstr(type)))
            return &parts->parts[i];
    return NULL;
}

struct bytes bounce_parts_field(struct bytes header, const char *name, struct arena *arena)
{
    struct mail_field field;
    struct buf text = {0};
    if (!mail_header_find(header, bytes_cstr(name), &field))
        return BYTES_NONE;
    mail_rfc2047_decode(bytes_first(field.value, FIELD_MAX), &text);
    struct bytes value = arena_dup(arena, bytes_trim(buf_bytes(&text)));
    buf_done(&text);
    return value;
}
