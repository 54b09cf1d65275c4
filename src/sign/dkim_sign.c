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
#define SIGNATURE_MAX 1024 // bytes: RSA of 8192 bits

// ---- what is signed -----------------------------------------------------------------------------

// In the order of h=. Over-signed are those whose addition would change what people see, whom they
// answer or what a click does (RFC 6376 5.4.1 and 8.15, RFC 8058 section 4). Trace fields are left
// out, as every hop adds some.
static const struct {
    const char *name;
    bool over;
} signed_fields[] = {
    {"From", true},
    {"To", true},
    {"Cc", true},
    {"Subject", true},
    {"Date", true},
    {"Message-ID", true},
    {"Reply-To", true},
    {"Sender", false},
    {"In-Reply-To", false},
    {"References", false},
    {"MIME-Version", true},
    {"Content-Type", true},
    {"Content-Transfer-Encoding", true},
    {"Content-ID", false},
    {"Content-Description", false},
    {"Resent-From", false},
    {"Resent-Sender", false},
    {"Resent-To", false},
    {"Resent-Cc", false},
    {"Resent-Date", false},
    {"Resent-Message-ID", false},
    {"Auto-Submitted", false},
    {"Feedback-ID", false},
    {"CFBL-Address", false}, // RFC 9477 section 3.1.1
    {"CFBL-Feedback-ID", false},
    {"List-Id", true},
    {"List-Unsubscribe", true},
    {"List-Unsubscribe-Post", true},
    {"List-Help", true},
    {"List-Subscribe", true},
    {"List-Post", true},
    {"List-Owner", true},
    {"List-Archive", true},
};

struct signing {
    struct arena arena;
    struct mail_field *fields; // of the message
    size_t count;
    struct bytes *names; // of h=
    size_t names_count;
    struct buf canonical;
};

static bool is_in_table(struct bytes name)
{
    for (size_t i = 0; i < COUNT_OF(signed_fields); i++)
        if (bytes_eq_nocase(name, bytes_cstr(signed_fields[i].name)))
            return true;
    return false;
}

static int add_name(struct signing *g, struct bytes name)
{
    if (g->names_count == DKIM_SIGNED_MAX)
        return E_LIMIT;
    g->names[g->names_count++] = name;
    return OK;
}

// All fields of that name, from the last to the first (5.4.2), and one that is not there.
static int sign_name(struct signing *g, struct bytes name, bool over)
{
    int err = OK;
    for (size_t i = g->count; i-- > 0 && !err;) {
        if (!bytes_eq_nocase(g->fields[i].name, name))
            continue;
        err = add_name(g, name);
        dkim_canon_field(DKIM_RELAXED, g->fields[i].raw, &g->canonical);
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
        bool is_new = bytes_starts_nocase(name, BYTES("List-")) && !is_in_table(name);
        for (size_t k = 0; k < count && is_new; k++)
            is_new = !bytes_eq_nocase(seen[k], name);
        if (!is_new)
            continue;
        seen[count++] = name;
        err = sign_name(g, name, true);
    }
    return err;
}

static int sign_all(struct signing *g)
{
    int err = OK;
    for (size_t i = 0; i < COUNT_OF(signed_fields) && !err; i++)
        err = sign_name(g, bytes_cstr(signed_fields[i].name), signed_fields[i].over);
    return err ? err : sign_other_list_fields(g);
}

static int read_fields(struct signing *g, struct bytes header)
{
    struct mail_field field;
    size_t count = 0, i = 0;
    for (struct bytes rest = header; mail_header_next(&rest, &field);)
        count++;
    if (count > DKIM_SIGNED_MAX)
        return E_LIMIT;
    g->fields = arena_new(&g->arena, (count + 1) * sizeof *g->fields);
    g->names = arena_new(&g->arena, DKIM_SIGNED_MAX * sizeof *g->names);
    for (struct bytes rest = header; i < count && mail_header_next(&rest, &field);)
        g->fields[i++] = field;
    g->count = count;
    return OK;
}

// ---- the field ----------------------------------------------------------------------------------

// Adds words, a new line before each that would not fit.
struct folding {
    struct buf *out;
    size_t line_at; // where the current line starts
};

static void add_word(struct folding *f, struct bytes space, struct bytes word)
{
    if (f->out->len - f->line_at + space.len + word.len > FOLD_AT) {
        buf_add(f->out, BYTES("\r\n\t"));
        f->line_at = f->out->len - 1;
    } else {
        buf_add(f->out, space);
    }
    buf_add(f->out, word);
}

static void add_tag(struct folding *f, const char *name, struct bytes value)
{
    struct buf word = {0};
    buf_printf(&word, "%s=%.*s;", name, BYTES_FMT(value));
    add_word(f, BYTES(" "), buf_bytes(&word));
    buf_done(&word);
}

static void add_names(struct folding *f, const struct signing *g)
{
    struct buf word = {0};
    for (size_t i = 0; i < g->names_count; i++) {
        buf_clear(&word);
        if (i == 0)
            buf_add(&word, BYTES("h="));
        buf_add(&word, g->names[i]);
        buf_add_byte(&word, i + 1 < g->names_count ? ':' : ';');
        add_word(f, i == 0 ? BYTES(" ") : BYTES_NONE, buf_bytes(&word));
    }
    buf_done(&word);
}

const char *dkim_algorithm_text(enum dkim_algorithm algorithm)
{
    return algorithm == DKIM_RSA_SHA256 ? "rsa-sha256" : "ed25519-sha256";
}

static void build_field(struct buf *out, const struct dkim_sign_want *want, const struct signing *g)
{
    struct folding f = {.out = out, .line_at = out->len};
    struct buf text = {0};
    buf_add(out, BYTES("DKIM-Signature: v=1;"));
    add_tag(&f, "a", bytes_cstr(dkim_algorithm_text(want->algorithm)));
    add_tag(&f, "c", BYTES("relaxed/relaxed"));
    add_tag(&f, "d", want->domain);
    add_tag(&f, "s", want->selector);
    buf_add_i64(&text, want->now.us / 1000000);
    add_tag(&f, "t", buf_bytes(&text));
    add_names(&f, g);
    buf_clear(&text);
    mail_base64_encode(bytes_of(want->body_hash, DKIM_HASH_BYTES), &text);
    add_tag(&f, "bh", buf_bytes(&text));
    buf_add(out, BYTES("\r\n\tb="));
    buf_done(&text);
}

static void digest(struct dkim_sign *s, struct signing *g)
{
    dkim_canon_signature(DKIM_RELAXED, buf_bytes(&s->field), &g->canonical);
    CHECK(EVP_Digest(g->canonical.at, g->canonical.len, s->digest, NULL, EVP_sha256(), NULL) == 1);
}

int dkim_sign_start(struct dkim_sign *s, const struct dkim_sign_want *want, struct bytes header)
{
    struct signing g = {0};
    *s = (struct dkim_sign){0};
    if (!dkim_name_is_valid(want->domain) || !dkim_name_is_valid(want->selector) ||
        mail_header_count(header, BYTES("From")) == 0) // 5.4: From is always signed
        return E_SYNTAX;
    int err = read_fields(&g, header);
    if (!err)
        err = sign_all(&g);
    if (!err) {
        build_field(&s->field, want, &g);
        digest(s, &g);
        err = g.canonical.err;
    }
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
              EVP_PKEY_CTX_set_signature_md(ctx, EVP_sha256()) == 1 &&
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
