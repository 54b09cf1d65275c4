// SPDX-License-Identifier: MIT
#include "cli/sink_content.h"

#include "base/check.h"

void sink_content_begin(struct sink_content *c, bool hash, size_t header_max, size_t body_max)
{
    EVP_MD_CTX *digest = c->digest;
    struct buf header = c->header, body = c->body;
    memset(c, 0, sizeof *c);
    c->hash = hash;
    c->header = header;
    c->header.max = header_max;
    buf_clear(&c->header);
    c->body = body;
    buf_clear(&c->body);
    c->body_max = body_max;
    c->header_state = 2; // content that begins with an empty line has no header
    c->digest = digest;
    if (hash && !digest)
        c->digest = EVP_MD_CTX_new();
    if (hash)
        CHECK(c->digest && EVP_DigestInit_ex(c->digest, EVP_sha256(), NULL));
}

void sink_content_done(struct sink_content *c)
{
    EVP_MD_CTX_free(c->digest);
    buf_done(&c->header);
    buf_done(&c->body);
    memset(c, 0, sizeof *c);
}

// Bytes of the trace fields that lead the header, their folded lines included.
static size_t trace_len(struct bytes header)
{
    struct bytes rest = header, line;
    size_t len = 0;
    bool in_trace = false;
    while (bytes_cut(&rest, '\n', &line) && rest.at) {
        bool folded = line.len && (line.at[0] == ' ' || line.at[0] == '\t');
        if (!folded)
            in_trace = bytes_starts_nocase(line, BYTES("Received:")) ||
                       bytes_starts_nocase(line, BYTES("Return-Path:"));
        if (!in_trace)
            break;
        len += line.len + 1;
    }
    return len;
}

// The header is complete: from here on content is hashed as it comes.
static void end_header(struct sink_content *c)
{
    c->in_body = true;
    struct bytes header = buf_bytes(&c->header);
    header = bytes_skip(header, trace_len(header));
    if (c->hash && header.len)
        EVP_DigestUpdate(c->digest, header.at, header.len);
}

// The header's bytes in the piece, its empty line included; header_state counts CRLFCRLF.
static size_t header_part(struct sink_content *c, struct bytes piece, bool *out_end)
{
    static const char end[] = "\r\n\r\n";
    for (size_t i = 0; i < piece.len; i++) {
        if (piece.at[i] == end[c->header_state])
            c->header_state++;
        else
            c->header_state = piece.at[i] == '\r' ? 1 : 0;
        if (c->header_state == 4) {
            *out_end = true;
            return i + 1;
        }
    }
    return piece.len;
}

static struct bytes take_header(struct sink_content *c, struct bytes piece)
{
    bool end = c->header.len + piece.len > c->header.max; // too long: no more is kept
    size_t n = end ? 0 : header_part(c, piece, &end);
    buf_add(&c->header, bytes_first(piece, n));
    if (end)
        end_header(c);
    return bytes_skip(piece, n);
}

void sink_content_add(struct sink_content *c, struct bytes piece)
{
    c->size += piece.len;
    if (!c->in_body && piece.len)
        piece = take_header(c, piece);
    if (c->in_body && c->body.len < c->body_max)
        buf_add(&c->body, bytes_first(piece, c->body_max - c->body.len));
    if (c->in_body && c->hash && piece.len)
        EVP_DigestUpdate(c->digest, piece.at, piece.len);
}

static void count_bare_lf(struct sink_content *c, struct bytes run)
{
    const char *at = run.at, *end = run.at + run.len;
    while ((at = memchr(at, '\n', (size_t)(end - at)))) {
        c->bare_newlines++;
        if (++at == end)
            return;
    }
}

// In the middle of a line: everything up to the next CR.
static size_t take_run(struct sink_content *c, struct bytes in)
{
    const char *cr = memchr(in.at, '\r', in.len);
    struct bytes run = bytes_first(in, cr ? (size_t)(cr - in.at) : in.len);
    if (run.len)
        count_bare_lf(c, run);
    return run.len;
}

// One byte that the state decides about; true: it is part of the content.
static bool take_byte(struct sink_content *c, char byte, bool *out_end)
{
    *out_end = false;
    switch (c->state) {
    case CONTENT_LINE_START:
        c->state = byte == '.' ? CONTENT_DOT : byte == '\r' ? CONTENT_CR : CONTENT_MID;
        c->bare_newlines += byte == '\n';
        return byte != '.';
    case CONTENT_MID:
        c->state = byte == '\r' ? CONTENT_CR : CONTENT_MID;
        return true;
    case CONTENT_CR:
        c->bare_newlines += byte != '\n';
        c->state = byte == '\n' ? CONTENT_LINE_START : byte == '\r' ? CONTENT_CR : CONTENT_MID;
        return true;
    case CONTENT_DOT: // the dot is dropped; alone on its line it is the end
        c->state = byte == '\r' ? CONTENT_DOT_CR : CONTENT_MID;
        c->bare_newlines += byte == '\n';
        return byte != '\r';
    case CONTENT_DOT_CR:
        *out_end = byte == '\n';
        if (!*out_end) { // the CR was content after all
            sink_content_add(c, BYTES("\r"));
            c->bare_newlines++;
            c->state = byte == '\r' ? CONTENT_CR : CONTENT_MID;
        }
        return !*out_end;
    }
    return true;
}

bool sink_content_feed(struct sink_content *c, struct bytes in, size_t *out_used)
{
    size_t from = 0, i = 0;
    bool end = false;
    while (i < in.len && !end) {
        if (c->state == CONTENT_MID)
            i += take_run(c, bytes_skip(in, i));
        if (i == in.len)
            break;
        if (take_byte(c, in.at[i], &end)) {
            i++;
            continue;
        }
        sink_content_add(c, bytes_mid(in, from, i - from));
        from = ++i;
    }
    if (!end)
        sink_content_add(c, bytes_mid(in, from, i - from));
    *out_used = i;
    return end;
}

void sink_content_finish(struct sink_content *c, uint8_t out[32])
{
    memset(out, 0, 32);
    if (!c->in_body)
        end_header(c);
    if (c->hash)
        CHECK(EVP_DigestFinal_ex(c->digest, out, NULL));
}

struct bytes sink_content_field(const struct sink_content *c, const char *name)
{
    struct bytes rest = buf_bytes(&c->header), line, wanted = bytes_cstr(name);
    while (bytes_cut(&rest, '\n', &line))
        if (bytes_starts_nocase(line, wanted) && line.len > wanted.len &&
            line.at[wanted.len] == ':')
            return bytes_trim(bytes_skip(line, wanted.len + 1));
    return BYTES_NONE;
}
