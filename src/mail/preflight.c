// SPDX-License-Identifier: MIT
//
// How it works: the walk through the parts (mail_mime_walk.h) tells of headers and contents. The message's own header
// is looked at when it comes, as is that of each part; text is decoded in small slices and run through a scanner that
// keeps the last few bytes; of other parts only the first bytes are decoded.
#include "mail/preflight.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "mail/mail_address_list.h"
#include "mail/mail_encode.h"
#include "mail/mail_mime_walk.h"
#include "mail/mail_rfc2047.h"

#define SLICE 4096 // of encoded content, decoded at once
#define LINK_HOST_MAX 64
#define START_BYTES 2 // of a file, that tell its type
#define SIGNATURES_MAX 32

// clang-format off
static const struct preflight_row rows[PREFLIGHT_IDS] = {
    [PREFLIGHT_DMARC_ALIGNMENT] = {"dmarc_alignment", PREFLIGHT_REFUSE,
        "DMARC will fail: the message is neither signed for the domain of its From field nor sent from there",
        "add and verify the From field's domain for this account (posthaste domain add), so that its mail is signed, or use MAIL FROM with the same domain"},
    [PREFLIGHT_UNSUBSCRIBE_MISSING] = {"unsubscribe_missing", PREFLIGHT_REFUSE,
        "bulk mail without one-click unsubscribe (RFC 8058), which large providers demand",
        "add List-Unsubscribe with an https address and List-Unsubscribe-Post: List-Unsubscribe=One-Click, or let us do it: posthaste account set NAME unsubscribe bulk"},
    [PREFLIGHT_UNSUBSCRIBE_UNSIGNED] = {"unsubscribe_unsigned", PREFLIGHT_REFUSE,
        "no signature of the From field's domain covers List-Unsubscribe and List-Unsubscribe-Post, so receivers ignore them",
        "add and verify the From field's domain for this account, so that its mail is signed, or sign both fields yourself"},
    [PREFLIGHT_FROM_WITHOUT_MX] = {"from_without_mx", PREFLIGHT_REFUSE,
        "the domain of the From field takes no mail: answers are lost, and receivers refuse such senders",
        "publish an MX record for the domain, or send from one that has it"},
    [PREFLIGHT_HTML_TOO_LARGE] = {"html_too_large", PREFLIGHT_WARN,
        "over 102 KB of HTML: Gmail cuts the message off there",
        "shorten the HTML; move styles and images out of it"},
    [PREFLIGHT_LINK_TO_ADDRESS] = {"link_to_address", PREFLIGHT_WARN,
        "a link leads to a bare IP address, as it does in phishing mail",
        "link to a host name, best of the From field's domain"},
    [PREFLIGHT_DANGEROUS_ATTACHMENT] = {"dangerous_attachment", PREFLIGHT_REFUSE,
        "an attachment is of a type that large providers refuse",
        "send a link to the file instead"},
    [PREFLIGHT_TEXT_PART_MISSING] = {"text_part_missing", PREFLIGHT_WARN,
        "HTML without a plain text beside it",
        "send multipart/alternative with a text/plain part in front"},
};
// clang-format on

// Extensions that Gmail and Outlook.com refuse.
static const char dangerous[] =
    " ade adp apk app application appref-ms appx appxbundle bas bat cab cer chm cmd cnt com cpl "
    "crt csh der diagcab diagcfg diagpkg dll dmg ex ex_ exe fxp gadget grp hlp hpj hta htc img inf "
    "ins iso isp its jar jnlp js jse ksh lib library-ms lnk mad maf mag mam maq mar mas mat mau "
    "mav maw mcf mda mdb mde mdt mdw mdz mjs msc msh msh1 msh1xml msh2 msh2xml mshxml msi msix "
    "msixbundle msp mst msu nsh ops osd pcd pif pl plg prf prg printerexport ps1 ps1xml ps2 "
    "ps2xml psc1 psc2 psd1 psdm1 pst py pyc pyo pyw pyz pyzw reg scf scr sct settingcontent-ms "
    "shb shs sys theme tmp url vb vbe vbp vbs vhd vhdx vsmacros vsw vxd webpnp website wim ws wsb "
    "wsc wsf wsh xbap xll xnk ";

struct scanner {
    uint8_t matched; // of link_start
    bool in_host;
    uint8_t host_len;
    char host[LINK_HOST_MAX];
};

struct preflight {
    struct mail_mime_walk *walk;
    bool unreadable;
    struct preflight_result found; // in any order
    // the message's header
    struct buf from;
    bool several_from, has_unsubscribe, has_post;
    struct { // of the message's own signatures
        struct bytes domain;
        bool covers_unsubscribe;
    } signatures[SIGNATURES_MAX];
    size_t signatures_count;
    struct arena arena;
    // parts
    bool has_text, has_html;
    // the current part
    bool is_html, is_attachment;
    uint64_t part_bytes; // decoded
    bool undecodable;
    struct mail_base64_decoder base64;
    struct mail_qp_decoder qp;
    struct buf decoded;
    struct scanner scanner;
    char start[START_BYTES];
};

const struct preflight_row *preflight_row(enum preflight_id id)
{
    CHECK(id < PREFLIGHT_IDS);
    return &rows[id];
}

int preflight_find(struct bytes name, enum preflight_id *out)
{
    for (int i = 0; i < PREFLIGHT_IDS; i++)
        if (bytes_eq(name, bytes_cstr(rows[i].name))) {
            *out = (enum preflight_id)i;
            return OK;
        }
    return E_NOT_FOUND;
}

const char *preflight_severity_name(enum preflight_severity severity)
{
    static const char *const names[] = {"ok", "warn", "refuse"};
    CHECK(severity < COUNT_OF(names));
    return names[severity];
}

static void find(struct preflight *p, enum preflight_id id, const char *prefix, struct bytes what)
{
    for (size_t i = 0; i < p->found.count; i++)
        if (p->found.findings[i].id == id)
            return;
    struct preflight_finding *f = &p->found.findings[p->found.count++];
    struct buf where = {0};
    buf_add_cstr(&where, prefix);
    buf_add_escaped(&where, what, PREFLIGHT_WHERE_MAX / 2);
    f->id = id;
    snprintf(f->where, sizeof f->where, "%s", buf_cstr(&where));
    buf_done(&where);
    if (rows[id].severity > p->found.verdict)
        p->found.verdict = rows[id].severity;
}

static void find_in_part(struct preflight *p, enum preflight_id id, const struct mail_part *part,
                         struct bytes what)
{
    char prefix[40];
    snprintf(prefix, sizeof prefix, "part %zu: ", part->index + 1);
    find(p, id, prefix, what);
}

// ---- domains ---------------------------------------------------------------------------------------------

static struct bytes last_labels(struct bytes domain, int count)
{
    size_t at = domain.len;
    for (; at && count; at--)
        count -= domain.at[at - 1] == '.';
    return count ? domain : bytes_skip(domain, at + 1);
}

static struct bytes organization(struct bytes domain)
{
    struct bytes two = last_labels(domain, 2);
    ptrdiff_t dot = bytes_find(two, '.');
    bool is_country = dot >= 0 && two.len - (size_t)dot == 3;
    return is_country && dot <= 3 ? last_labels(domain, 3) : two;
}

bool preflight_is_aligned(struct bytes a, struct bytes b)
{
    return a.len && b.len && bytes_eq_nocase(organization(a), organization(b));
}

// ---- the message's header --------------------------------------------------------------------------------

static void take_from(struct preflight *p, struct bytes value)
{
    struct mail_address_list list;
    struct arena arena = {0};
    if (mail_address_list_parse(value, &arena, &list) == OK) {
        p->several_from = p->several_from || list.count > 1 || (list.count && p->from.len);
        if (list.count && !p->from.len)
            (void)!mail_domain_route(list.mailboxes[0].address.domain, &p->from);
    }
    arena_done(&arena);
}

static bool has_https(struct bytes value)
{
    for (ptrdiff_t at; (at = bytes_find(value, '<')) >= 0;
         value = bytes_skip(value, (size_t)at + 1))
        if (bytes_starts_nocase(bytes_trim(bytes_skip(value, (size_t)at + 1)), BYTES("https://")))
            return true;
    return false;
}

// A tag of "a=b; c=d" without white space in its value's parts.
static struct bytes tag_value(struct bytes tags, const char *name)
{
    struct bytes part;
    while (bytes_cut(&tags, ';', &part)) {
        ptrdiff_t sign = bytes_find(part, '=');
        if (sign > 0 && bytes_eq(bytes_trim(bytes_first(part, (size_t)sign)), bytes_cstr(name)))
            return bytes_trim(bytes_skip(part, (size_t)sign + 1));
    }
    return BYTES_NONE;
}

static bool names_field(struct bytes list, struct bytes name)
{
    struct bytes part;
    while (bytes_cut(&list, ':', &part))
        if (bytes_eq_nocase(bytes_trim(part), name))
            return true;
    return false;
}

static void take_signature(struct preflight *p, struct bytes value)
{
    struct bytes fields = tag_value(value, "h");
    if (p->signatures_count == SIGNATURES_MAX)
        return;
    p->signatures[p->signatures_count].domain = arena_dup(&p->arena, tag_value(value, "d"));
    p->signatures[p->signatures_count++].covers_unsubscribe =
        names_field(fields, BYTES("List-Unsubscribe")) &&
        names_field(fields, BYTES("List-Unsubscribe-Post"));
}

static void look_at_message(struct preflight *p, struct bytes block)
{
    struct mail_field field;
    while (mail_header_next(&block, &field)) {
        if (bytes_eq_nocase(field.name, BYTES("From")))
            take_from(p, field.value);
        else if (bytes_eq_nocase(field.name, BYTES("List-Unsubscribe")))
            p->has_unsubscribe = p->has_unsubscribe || has_https(field.value);
        else if (bytes_eq_nocase(field.name, BYTES("List-Unsubscribe-Post")))
            p->has_post = p->has_post || bytes_eq_nocase(bytes_trim(field.value),
                                                         BYTES("List-Unsubscribe=One-Click"));
        else if (bytes_eq_nocase(field.name, BYTES("DKIM-Signature")))
            take_signature(p, field.value);
    }
}

// ---- names of files --------------------------------------------------------------------------------------

static bool is_dangerous_name(struct bytes name)
{
    char word[40];
    while (name.len && (name.at[name.len - 1] == '.' || name.at[name.len - 1] == ' '))
        name.len--; // Windows does not see them
    ptrdiff_t dot = bytes_find_last(name, '.');
    struct bytes extension = dot < 0 ? BYTES_NONE : bytes_skip(name, (size_t)dot + 1);
    if (!extension.len || extension.len > sizeof word - 2)
        return false;
    size_t n = 0;
    word[n++] = ' ';
    for (size_t i = 0; i < extension.len; i++)
        word[n++] = ascii_lower(extension.at[i]);
    word[n++] = ' ';
    return bytes_find(extension, ' ') < 0 &&
           bytes_search(bytes_cstr(dangerous), bytes_of(word, n)) >= 0;
}

static int hex_value(char c)
{
    return ascii_is_digit(c)      ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

// RFC 2231 section 4: %HH, wherever they stand.
static void decode_percent(struct bytes text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        bool escape = text.at[i] == '%' && i + 2 < text.len && hex_value(text.at[i + 1]) >= 0 &&
                      hex_value(text.at[i + 2]) >= 0;
        buf_add_byte(out, escape
                              ? (char)(hex_value(text.at[i + 1]) << 4 | hex_value(text.at[i + 2]))
                              : text.at[i]);
        i += escape ? 2 : 0;
    }
}

static void look_at_name(struct preflight *p, const struct mail_part *part,
                         const struct mail_parameter *parameter)
{
    struct buf plain = {0};
    bool extended = bytes_ends(parameter->name, BYTES("*"));
    if (extended)
        decode_percent(parameter->value, &plain);
    else
        mail_rfc2047_decode(parameter->value, &plain);
    if (is_dangerous_name(buf_bytes(&plain)))
        find_in_part(p, PREFLIGHT_DANGEROUS_ATTACHMENT, part, buf_bytes(&plain));
    buf_done(&plain);
}

// filename=, filename*=, filename*0= and so on; of the pieces the last has the extension.
static void look_at_names(struct preflight *p, const struct mail_part *part,
                          const struct mail_content_type *field, struct bytes name)
{
    for (size_t i = 0; i < field->count; i++) {
        struct bytes is = field->parameters[i].name;
        if (bytes_starts_nocase(is, name) && (is.len == name.len || is.at[name.len] == '*'))
            look_at_name(p, part, &field->parameters[i]);
    }
}

// ---- parts -----------------------------------------------------------------------------------------------

// A disposition has the form of a type but for its first word (RFC 2183).
static bool parse_disposition(struct bytes value, struct arena *arena,
                              struct mail_content_type *out)
{
    struct bytes text = arena_printf(arena, "x/%.*s", BYTES_FMT(bytes_trim(value)));
    return mail_content_type_parse(text, arena, out) == OK;
}

static void look_at_part(struct preflight *p, const struct mail_part *part, struct bytes block,
                         struct arena *arena)
{
    struct mail_field field;
    struct mail_content_type type, disposition;
    p->is_html = p->is_attachment = false;
    if (mail_header_find(block, BYTES("Content-Disposition"), &field) &&
        parse_disposition(field.value, arena, &disposition)) {
        p->is_attachment = bytes_eq_nocase(disposition.subtype, BYTES("attachment"));
        look_at_names(p, part, &disposition, BYTES("filename"));
    }
    if (mail_header_find(block, BYTES("Content-Type"), &field) &&
        mail_content_type_parse(field.value, arena, &type) == OK) {
        look_at_names(p, part, &type, BYTES("name"));
        p->is_html = bytes_eq_nocase(type.type, BYTES("text")) &&
                     bytes_eq_nocase(type.subtype, BYTES("html"));
    }
    if (part->kind == PART_TEXT && !p->is_attachment) {
        p->has_html = p->has_html || p->is_html;
        p->has_text = p->has_text || !p->is_html;
    }
}

static void on_header(void *ctx, const struct mail_part *part, struct bytes block,
                      bool has_separator)
{
    struct preflight *p = ctx;
    struct arena arena = {0};
    if (part->index == 0)
        look_at_message(p, block);
    p->part_bytes = 0;
    p->undecodable = false;
    p->base64 = (struct mail_base64_decoder){0};
    p->qp = (struct mail_qp_decoder){0};
    p->scanner = (struct scanner){0};
    look_at_part(p, part, block, &arena);
    arena_done(&arena);
}

// ---- links -----------------------------------------------------------------------------------------------

// "192.0.2.1", "[2001:db8::1]", "3221225985", "0xC0000201": none of them a name.
static bool is_address(struct bytes host)
{
    bool digits = host.len > 0, hex = bytes_starts_nocase(host, BYTES("0x"));
    if (host.len && host.at[0] == '[')
        return true;
    for (size_t i = 0; i < host.len; i++)
        digits = digits && (ascii_is_digit(host.at[i]) || host.at[i] == '.');
    for (size_t i = 2; hex && i < host.len; i++)
        hex = hex_value(host.at[i]) >= 0 || host.at[i] == '.' || ascii_lower(host.at[i]) == 'x';
    return digits || (hex && host.len > 2);
}

static void end_host(struct preflight *p, const struct mail_part *part)
{
    struct scanner *s = &p->scanner;
    struct bytes host = bytes_of(s->host, s->host_len);
    s->in_host = false;
    s->matched = 0;
    if (host.len && host.at[0] != '[' && bytes_find(host, ':') >= 0)
        host = bytes_first(host, (size_t)bytes_find(host, ':'));
    if (is_address(host))
        find_in_part(p, PREFLIGHT_LINK_TO_ADDRESS, part, host);
}

static bool ends_host(char c)
{
    return (unsigned char)c <= ' ' || bytes_find(BYTES("/?#\"'<>\\&)"), c) >= 0;
}

static const char link_start[] = "https://"; // or without the s
#define LINK_START ((uint8_t)(sizeof link_start - 1))
#define LINK_COLON 5 // its place there

static void scan_byte(struct preflight *p, const struct mail_part *part, char c)
{
    struct scanner *s = &p->scanner;
    if (s->in_host) {
        if (ends_host(c))
            end_host(p, part);
        else if (c == '@')
            s->host_len = 0; // what came was a user's name
        else if (s->host_len < LINK_HOST_MAX)
            s->host[s->host_len++] = c;
        return;
    }
    c = ascii_lower(c);
    if (c == ':' && s->matched == LINK_COLON - 1)
        s->matched++; // no s
    s->matched = c == link_start[s->matched] ? s->matched + 1 : c == 'h';
    s->in_host = s->matched == LINK_START;
    s->host_len = 0;
}

// Colons are rarer than letters: what does not lead up to one, or to the end of the text, is skipped over.
static void scan(struct preflight *p, const struct mail_part *part, struct bytes text)
{
    size_t colon = 0;
    bool looked = false;
    for (size_t i = 0; i < text.len; i++) {
        if (!p->scanner.in_host && p->scanner.matched == 0) {
            if (!looked || colon < i) {
                const char *at = memchr(text.at + i, ':', text.len - i);
                colon = at ? (size_t)(at - text.at) : text.len;
                looked = true;
            }
            if (colon - i > LINK_COLON)
                i = colon - LINK_COLON;
        }
        scan_byte(p, part, text.at[i]);
    }
}

// ---- content ---------------------------------------------------------------------------------------------

static void take_start(struct preflight *p, const struct mail_part *part, struct bytes content)
{
    for (size_t i = 0; i < content.len && p->part_bytes + i < START_BYTES; i++)
        p->start[p->part_bytes + i] = content.at[i];
    if (p->part_bytes < START_BYTES && p->part_bytes + content.len >= START_BYTES &&
        p->start[0] == 'M' && p->start[1] == 'Z')
        find_in_part(p, PREFLIGHT_DANGEROUS_ATTACHMENT, part, BYTES("a Windows program"));
}

static void take_content(struct preflight *p, const struct mail_part *part, struct bytes content)
{
    if (part->kind == PART_TEXT)
        scan(p, part, content);
    else
        take_start(p, part, content);
    p->part_bytes += content.len;
}

static void decode(struct preflight *p, const struct mail_part *part, struct bytes slice)
{
    buf_clear(&p->decoded);
    int err = part->encoding == ENCODING_BASE64
                  ? mail_base64_decoder_feed(&p->base64, slice, &p->decoded)
                  : mail_qp_decoder_feed(&p->qp, slice, &p->decoded);
    p->undecodable = err != OK;
    take_content(p, part, buf_bytes(&p->decoded));
}

static void on_body(void *ctx, const struct mail_part *part, struct bytes piece)
{
    struct preflight *p = ctx;
    bool encoded = part->encoding == ENCODING_BASE64 || part->encoding == ENCODING_QP;
    if (part->kind != PART_TEXT && p->part_bytes >= START_BYTES)
        return;
    if (!encoded)
        take_content(p, part, piece);
    for (; encoded && piece.len && !p->undecodable; piece = bytes_skip(piece, SLICE))
        decode(p, part, bytes_first(piece, SLICE));
}

static void on_end(void *ctx, const struct mail_part *part)
{
    struct preflight *p = ctx;
    char bytes[40];
    if (p->scanner.in_host)
        end_host(p, part);
    if (!p->is_html || p->is_attachment || p->part_bytes <= PREFLIGHT_HTML_MAX)
        return;
    snprintf(bytes, sizeof bytes, "%llu bytes", (unsigned long long)p->part_bytes);
    find_in_part(p, PREFLIGHT_HTML_TOO_LARGE, part, bytes_cstr(bytes));
}

static void on_raw(void *ctx, struct bytes piece)
{
}

// ---- all -------------------------------------------------------------------------------------------------

static const struct mail_mime_events events = {on_header, on_body, on_end, on_raw};

struct preflight *preflight_new(void)
{
    struct preflight *p = mem_new(sizeof *p);
    p->walk = mail_mime_walk_new(&events, p);
    return p;
}

void preflight_free(struct preflight *p)
{
    if (!p)
        return;
    mail_mime_walk_free(p->walk);
    buf_done(&p->from);
    buf_done(&p->decoded);
    arena_done(&p->arena);
    free(p);
}

void preflight_feed(struct preflight *p, struct bytes piece)
{
    if (!p->unreadable)
        p->unreadable = mail_mime_walk_feed(p->walk, piece) != OK;
}

struct bytes preflight_from_domain(const struct preflight *p)
{
    return buf_bytes(&p->from);
}

static bool has_aligned_signature(const struct preflight *p, bool that_covers_unsubscribe)
{
    for (size_t i = 0; i < p->signatures_count; i++)
        if (preflight_is_aligned(p->signatures[i].domain, buf_bytes(&p->from)) &&
            (!that_covers_unsubscribe || p->signatures[i].covers_unsubscribe))
            return true;
    return false;
}

static void judge_alignment(struct preflight *p, const struct preflight_facts *facts)
{
    struct bytes from = buf_bytes(&p->from);
    if (p->several_from) // RFC 7489 section 6.6.1
        find(p, PREFLIGHT_DMARC_ALIGNMENT, "From: ", BYTES("several authors"));
    else if (!facts->alignment_unknown && from.len && !facts->we_sign &&
             !preflight_is_aligned(facts->mail_from, from) && !has_aligned_signature(p, false))
        find(p, PREFLIGHT_DMARC_ALIGNMENT, "From: ", from);
}

static void judge_unsubscribe(struct preflight *p, const struct preflight_facts *facts)
{
    bool is_there = p->has_unsubscribe && p->has_post;
    if (facts->class != MAIL_BULK || (facts->we_add_unsubscribe && facts->we_sign))
        return;
    if (!is_there && !facts->we_add_unsubscribe)
        find(p, PREFLIGHT_UNSUBSCRIBE_MISSING, "",
             p->has_unsubscribe ? BYTES("List-Unsubscribe-Post") : BYTES("List-Unsubscribe"));
    else if (!facts->alignment_unknown && !facts->we_sign && !has_aligned_signature(p, true))
        find(p, PREFLIGHT_UNSUBSCRIBE_UNSIGNED, "", BYTES("List-Unsubscribe"));
}

static int by_id(const void *a, const void *b)
{
    const struct preflight_finding *x = a, *y = b;
    return (int)x->id - (int)y->id;
}

void preflight_finish(struct preflight *p, const struct preflight_facts *facts,
                      struct preflight_result *out)
{
    if (!p->unreadable)
        p->unreadable = mail_mime_walk_finish(p->walk) != OK;
    judge_alignment(p, facts);
    judge_unsubscribe(p, facts);
    if (facts->from_takes_no_mail)
        find(p, PREFLIGHT_FROM_WITHOUT_MX, "From: ", buf_bytes(&p->from));
    if (p->has_html && !p->has_text)
        find(p, PREFLIGHT_TEXT_PART_MISSING, "", BYTES("text/plain"));
    *out = p->found;
    if (out->count)
        qsort(out->findings, out->count, sizeof out->findings[0], by_id);
}
