// SPDX-License-Identifier: MIT
#include "sign/dkim_sign.h"

#include <openssl/rsa.h>
#include <stdlib.h>

#include "base/check.h"
#include "mail/mail_encode.h"
#include "mail/mail_header.h"
#include "sign/dkim_key.h"

#define FOLD_AT 76
#define OTHER_LIST_FIELDS_MAX 50
#define FIELDS_FEW 40      // of a message: more than that cost an allocation
#define FIELD_USUAL 1000   // bytes of a DKIM-Signature field; a longer one grows
#define SIGNATURE_MAX 1024 // bytes: RSA of 8192 bits

// ---- what is signed -----------------------------------------------------------------------------

// In the order of h=. Over-signed are those whose addition would change what people see, whom they
// answer or what a click does (RFC 6376 5.4.1 and 8.15, RFC 8058 section 4). Trace fields are left
// out, as every hop adds some.
#define FIELD(name) name, sizeof name - 1
static const struct {
    const char *name;
    size_t len;
    bool over;
} signed_fields[] = {
    {FIELD("From"), true},
    {FIELD("To"), true},
    {FIELD("Cc"), true},
    {FIELD("Subject"), true},
    {FIELD("Date"), true},
    {FIELD("Message-ID"), true},
    {FIELD("Reply-To"), true},
    {FIELD("Sender"), false},
    {FIELD("In-Reply-To"), false},
    {FIELD("References"), false},
    {FIELD("MIME-Version"), true},
    {FIELD("Content-Type"), true},
    {FIELD("Content-Transfer-Encoding"), true},
    {FIELD("Content-ID"), false},
    {FIELD("Content-Description"), false},
    {FIELD("Resent-From"), false},
    {FIELD("Resent-Sender"), false},
    {FIELD("Resent-To"), false},
    {FIELD("Resent-Cc"), false},
    {FIELD("Resent-Date"), false},
    {FIELD("Resent-Message-ID"), false},
    {FIELD("Auto-Submitted"), false},
    {FIELD("Feedback-ID"), false},
    {FIELD("CFBL-Address"), false}, // RFC 9477 section 3.1.1
    {FIELD("CFBL-Feedback-ID"), false},
    {FIELD("List-Id"), true},
    {FIELD("List-Unsubscribe"), true},
    {FIELD("List-Unsubscribe-Post"), true},
    {FIELD("List-Help"), true},
    {FIELD("List-Subscribe"), true},
    {FIELD("List-Post"), true},
    {FIELD("List-Owner"), true},
    {FIELD("List-Archive"), true},
};

enum { ROW_FROM, ROW_OTHER_LIST = COUNT_OF(signed_fields), ROW_NONE };
_Static_assert(ROW_NONE < 64, "rows are bits of a word");

struct field {
    struct bytes raw, name;
    unsigned row; // of signed_fields, or one of the above
};

// h= and what is hashed grow together, so that no list of names is needed.
struct signing {
    struct field few[FIELDS_FEW];
    struct arena arena;   // of the fields, if they are more
    struct field *fields; // of the message
    size_t count, names_count;
    uint64_t rows;        // a bit for each row that the message has
    struct buf *out;      // the DKIM-Signature field
    size_t line_at;       // where its current line starts
    struct buf canonical; // the header as it is hashed
};

// A field name may have any printable character but ':' (RFC 5322 3.6.8); in h= a ';' ended the tag.
static bool is_other_list_field(struct bytes name)
{
    bool good = bytes_starts_nocase(name, BYTES("List-"));
    for (size_t i = 0; i < name.len && good; i++)
        good = ascii_is_alnum(name.at[i]) || name.at[i] == '-';
    return good;
}

static unsigned row_of(struct bytes name)
{
    for (unsigned i = 0; i < COUNT_OF(signed_fields); i++)
        if (name.len == signed_fields[i].len &&
            bytes_eq_nocase(name, bytes_of(signed_fields[i].name, signed_fields[i].len)))
            return i;
    return is_other_list_field(name) ? ROW_OTHER_LIST : ROW_NONE;
}

static int read_fields(struct signing *g, struct bytes header)
{
    struct mail_field field;
    size_t room = COUNT_OF(g->few);
    g->fields = g->few;
    for (struct bytes rest = header; mail_header_next(&rest, &field);) {
        if (g->count == DKIM_SIGNED_MAX)
            return E_LIMIT;
        if (g->count == room) {
            struct field *more = arena_new(&g->arena, DKIM_SIGNED_MAX * sizeof *more);
            memcpy(more, g->fields, g->count * sizeof *more);
            g->fields = more;
            room = DKIM_SIGNED_MAX;
        }
        unsigned row = row_of(field.name);
        g->rows |= UINT64_C(1) << row;
        g->fields[g->count++] = (struct field){field.raw, field.name, row};
    }
    return OK;
}

// ---- the field ----------------------------------------------------------------------------------

// Adds a word, before it a new line if it would not fit, else `space`.
static void add_word(struct signing *g, struct bytes space, struct bytes name, struct bytes value,
                     struct bytes end)
{
    struct buf *out = g->out;
    if (out->len - g->line_at + space.len + name.len + value.len + end.len > FOLD_AT) {
        space = BYTES("\r\n\t");
        g->line_at = out->len + 2;
    }
    buf_add_all(out, space, name, value, end);
}

static void add_tag(struct signing *g, struct bytes name, struct bytes value)
{
    add_word(g, BYTES(" "), name, value, BYTES(";"));
}

static int add_name(struct signing *g, struct bytes name)
{
    if (g->names_count == DKIM_SIGNED_MAX)
        return E_LIMIT;
    bool is_first = g->names_count++ == 0;
    add_word(g, is_first ? BYTES(" ") : BYTES_NONE, is_first ? BYTES("h=") : BYTES_NONE, name,
             BYTES(":"));
    return OK;
}

// All fields of that name, from the last to the first (5.4.2), and one that is not there.
static int sign_name(struct signing *g, unsigned row, struct bytes name, bool over)
{
    int err = OK;
    size_t count = g->rows >> row & 1 ? g->count : 0;
    for (size_t i = count; i-- > 0 && !err;) {
        const struct field *f = &g->fields[i];
        if (f->row != row || (row == ROW_OTHER_LIST && !bytes_eq_nocase(f->name, name)))
            continue;
        err = add_name(g, name);
        dkim_canon_field(DKIM_RELAXED, f->raw, &g->canonical);
    }
    return !err && over ? add_name(g, name) : err;
}

// Fields named List-... that the table does not know: each name once, over-signed.
static int sign_other_list_fields(struct signing *g)
{
    struct bytes seen[OTHER_LIST_FIELDS_MAX];
    size_t count = 0;
    int err = OK;
    for (size_t i = 0; i < g->count && !err && count < COUNT_OF(seen); i++) {
        struct bytes name = g->fields[i].name;
        bool is_new = g->fields[i].row == ROW_OTHER_LIST;
        for (size_t k = 0; k < count && is_new; k++)
            is_new = !bytes_eq_nocase(seen[k], name);
        if (!is_new)
            continue;
        seen[count++] = name;
        err = sign_name(g, ROW_OTHER_LIST, name, true);
    }
    return err;
}

static int sign_all(struct signing *g)
{
    int err = OK;
    for (unsigned i = 0; i < COUNT_OF(signed_fields) && !err; i++)
        err = sign_name(g, i, bytes_of(signed_fields[i].name, signed_fields[i].len),
                        signed_fields[i].over);
    if (!err)
        err = sign_other_list_fields(g);
    if (!err)
        g->out->at[g->out->len - 1] = ';'; // From is named, so there is a last one
    return err;
}

const char *dkim_algorithm_text(enum dkim_algorithm algorithm)
{
    return algorithm == DKIM_RSA_SHA256 ? "rsa-sha256" : "ed25519-sha256";
}

static int build_field(struct signing *g, const struct dkim_sign_want *want)
{
    struct buf text = {0};
    buf_add(g->out, BYTES("DKIM-Signature: v=1;"));
    add_tag(g, BYTES("a="), bytes_cstr(dkim_algorithm_text(want->algorithm)));
    add_tag(g, BYTES("c="), BYTES("relaxed/relaxed"));
    add_tag(g, BYTES("d="), want->domain);
    add_tag(g, BYTES("s="), want->selector);
    buf_add_i64(&text, want->now.us / 1000000);
    add_tag(g, BYTES("t="), buf_bytes(&text));
    int err = sign_all(g);
    buf_clear(&text);
    mail_base64_encode(bytes_of(want->body_hash, DKIM_HASH_BYTES), &text);
    add_tag(g, BYTES("bh="), buf_bytes(&text));
    buf_add(g->out, BYTES("\r\n\tb="));
    buf_done(&text);
    return err ? err : g->out->err;
}

// 3.7: the field itself comes last, its b= empty (which it still is) and without CRLF.
static int digest(struct dkim_sign *s, struct signing *g)
{
    dkim_canon_field(DKIM_RELAXED, buf_bytes(&s->field), &g->canonical);
    if (g->canonical.err)
        return g->canonical.err;
    CHECK(EVP_Digest(g->canonical.at, g->canonical.len - 2, s->digest, NULL, dkim_sha256(), NULL) ==
          1);
    return OK;
}

int dkim_sign_start(struct dkim_sign *s, const struct dkim_sign_want *want, struct bytes header)
{
    struct signing g;
    *s = (struct dkim_sign){0};
    if (!dkim_name_is_valid(want->domain) || !dkim_name_is_valid(want->selector))
        return E_SYNTAX;
    g.arena = (struct arena){0};
    g.canonical = (struct buf){0};
    g.count = g.names_count = g.line_at = 0;
    g.rows = 0;
    g.out = &s->field;
    int err = read_fields(&g, header);
    if (!err && !(g.rows >> ROW_FROM & 1)) // 5.4: From is always signed
        err = E_SYNTAX;
    if (!err) {
        (void)!buf_reserve(&s->field, FIELD_USUAL);
        (void)!buf_reserve(&g.canonical, header.len + FIELD_USUAL);
        err = build_field(&g, want);
    }
    if (!err)
        err = digest(s, &g);
    buf_done(&g.canonical);
    arena_done(&g.arena);
    return err;
}

void dkim_sign_finish(const struct dkim_sign *s, struct bytes signature, struct buf *out)
{
    struct buf text = {0};
    mail_base64_encode(signature, &text);
    buf_add(out, buf_bytes(&s->field));
    struct bytes rest = buf_bytes(&text);
    for (size_t room = FOLD_AT - 4; rest.len; rest = bytes_skip(rest, room)) {
        if (rest.len != text.len)
            buf_add(out, BYTES("\r\n\t "));
        buf_add(out, bytes_first(rest, room));
    }
    buf_add(out, BYTES("\r\n"));
    buf_done(&text);
}

void dkim_sign_done(struct dkim_sign *s)
{
    buf_done(&s->field);
}

// ---- with the key at hand -----------------------------------------------------------------------

int dkim_sign_algorithm(EVP_PKEY *key, enum dkim_algorithm *out)
{
    *out = EVP_PKEY_get_id(key) == EVP_PKEY_RSA ? DKIM_RSA_SHA256 : DKIM_ED25519_SHA256;
    return *out == DKIM_RSA_SHA256 || EVP_PKEY_get_id(key) == EVP_PKEY_ED25519 ? OK : E_DENIED;
}

static bool sign_rsa(EVP_PKEY *key, const uint8_t *digest, uint8_t *out, size_t *len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    bool ok = ctx && EVP_PKEY_sign_init(ctx) == 1 &&
              EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
              EVP_PKEY_CTX_set_signature_md(ctx, dkim_sha256()) == 1 &&
              EVP_PKEY_sign(ctx, out, len, digest, DKIM_HASH_BYTES) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static bool sign_ed25519(EVP_PKEY *key, const uint8_t *digest, uint8_t *out, size_t *len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
              EVP_DigestSign(ctx, out, len, digest, DKIM_HASH_BYTES) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

int dkim_sign_digest(EVP_PKEY *key, const uint8_t digest[DKIM_HASH_BYTES], struct buf *out)
{
    enum dkim_algorithm algorithm;
    uint8_t signature[SIGNATURE_MAX];
    size_t len = sizeof signature;
    if (dkim_sign_algorithm(key, &algorithm) != OK)
        return E_DENIED;
    bool ok = algorithm == DKIM_RSA_SHA256 ? sign_rsa(key, digest, signature, &len)
                                           : sign_ed25519(key, digest, signature, &len);
    if (!ok)
        return E_IO;
    buf_add(out, bytes_of(signature, len));
    return out->err;
}
