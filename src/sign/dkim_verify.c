// SPDX-License-Identifier: MIT
//
// How it works. At the start each DKIM-Signature is parsed, and what can be said against it without
// body and key is said. The others share one body hash for each canonical form and l=. A key then
// decides: RFC 6376 section 6.1.2 before 6.1.3.
//
// Fields are looked up through an index: a chain of equal names from the bottom up, so that h= of
// any length costs no more than the header has fields.
#include "sign/dkim_verify.h"

#include <openssl/rsa.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/map.h"
#include "mail/mail_address.h"
#include "mail/mail_header.h"
#include "sign/dkim_tags.h"

#define SIGNATURE_MAX (DKIM_RSA_BITS_MAX / 8)
#define NO_FIELD UINT32_MAX

struct body_hash {
    enum dkim_canon canon;
    uint64_t limit;
    struct dkim_body body;
    uint8_t hash[DKIM_HASH_BYTES];
    uint64_t total;
};

struct signature {
    struct dkim_verdict verdict;
    bool is_decided;
    struct bytes raw;       // the field
    struct dkim_tags *tags; // this and what follows: only if it is judged
    enum dkim_algorithm algorithm;
    enum dkim_canon header_canon, body_canon;
    struct bytes domain, identity; // routing forms; identity: the domain of i=
    struct bytes key_name;
    uint64_t limit; // l=
    uint8_t body_hash[DKIM_HASH_BYTES];
    uint8_t *signature;
    size_t signature_len;
    struct body_hash *body;
};

struct field {
    struct mail_field field;
    uint32_t name;  // number of its name
    uint32_t above; // the next one of that name, upwards; or NO_FIELD
};

struct dkim_verify {
    struct arena arena;
    struct wall now;
    struct signature **signatures;
    size_t count;
    struct body_hash bodies[DKIM_SIGNATURES_MAX];
    size_t bodies_count;
    bool body_ended;
    struct field *fields;
    size_t fields_count;
    struct map names; // lower case -> number of the name + 1
    uint32_t *lowest; // of each name: its lowest field
    uint32_t *cursor; // the same, while h= is read
    size_t names_count;
};

const char *dkim_result_text(enum dkim_result result)
{
    static const char *const texts[] = {"pass",   "fail",      "neutral",
                                        "policy", "temperror", "permerror"};
    return texts[result];
}

static bool decide(struct signature *s, enum dkim_result result, const char *reason)
{
    s->verdict.result = result;
    s->verdict.reason = reason;
    s->is_decided = true;
    return false;
}

// ---- the header's fields ------------------------------------------------------------------------

static uint32_t number_of(struct dkim_verify *v, struct bytes name)
{
    struct bytes key = arena_lower(&v->arena, name);
    uintptr_t known = (uintptr_t)map_find(&v->names, key);
    if (known)
        return (uint32_t)(known - 1);
    v->lowest[v->names_count] = NO_FIELD;
    map_set(&v->names, key, (void *)(v->names_count + 1));
    return (uint32_t)v->names_count++;
}

static void index_fields(struct dkim_verify *v, struct bytes header)
{
    struct mail_field field;
    size_t count = 0;
    for (struct bytes rest = header; mail_header_next(&rest, &field);)
        count++;
    v->fields = arena_new(&v->arena, count * sizeof *v->fields);
    v->lowest = arena_new(&v->arena, (count + 1) * sizeof *v->lowest);
    v->cursor = arena_new(&v->arena, (count + 1) * sizeof *v->cursor);
    for (struct bytes rest = header; v->fields_count < count;) {
        struct field *f = &v->fields[v->fields_count];
        CHECK(mail_header_next(&rest, &f->field));
        f->name = number_of(v, f->field.name);
        f->above = v->lowest[f->name];
        v->lowest[f->name] = (uint32_t)v->fields_count++;
    }
}

// ---- reading a signature ------------------------------------------------------------------------

static bool read_algorithm(struct signature *s)
{
    struct bytes a = s->verdict.algorithm;
    if (bytes_eq_nocase(a, BYTES("rsa-sha256")))
        s->algorithm = DKIM_RSA_SHA256;
    else if (bytes_eq_nocase(a, BYTES("ed25519-sha256")))
        s->algorithm = DKIM_ED25519_SHA256;
    else if (bytes_eq_nocase(a, BYTES("rsa-sha1"))) // RFC 8301 section 3.1
        return decide(s, DKIM_FAIL, "rsa-sha1 is too weak");
    else
        return decide(s, DKIM_NEUTRAL, "unknown algorithm");
    return true;
}

static bool read_canon_word(struct bytes word, enum dkim_canon *out)
{
    *out = bytes_eq_nocase(word, BYTES("relaxed")) ? DKIM_RELAXED : DKIM_SIMPLE;
    return *out == DKIM_RELAXED || bytes_eq_nocase(word, BYTES("simple"));
}

// c= HEADER [ "/" BODY ], each simple where it does not say
static bool read_canon(struct signature *s)
{
    struct bytes c, word;
    if (!dkim_tags_find(s->tags, "c", &c))
        return true;
    bool ok = bytes_cut(&c, '/', &word) && read_canon_word(word, &s->header_canon);
    if (ok && c.at)
        ok = read_canon_word(c, &s->body_canon);
    return ok ? true : decide(s, DKIM_NEUTRAL, "unknown canonicalization");
}

static bool read_hashes(struct signature *s)
{
    struct bytes bh, b;
    size_t len;
    dkim_tags_find(s->tags, "bh", &bh);
    dkim_tags_find(s->tags, "b", &b);
    if (!dkim_tags_base64(bh, sizeof s->body_hash, s->body_hash, &len) ||
        len != sizeof s->body_hash)
        return decide(s, DKIM_NEUTRAL, "bh= is no SHA-256 in base64");
    if (!dkim_tags_base64(b, SIGNATURE_MAX, s->signature, &s->signature_len))
        return decide(s, DKIM_NEUTRAL, "b= is no signature in base64");
    return true;
}

static bool read_domain(struct dkim_verify *v, struct bytes text, struct bytes *out)
{
    struct buf route = {.max = MAIL_NAME_MAX};
    bool ok = true;
    if (dkim_name_is_valid(text))
        *out = arena_lower(&v->arena, text);
    else if ((ok = mail_domain_route(text, &route) == OK && route.at[0] != '[')) // RFC 8616
        *out = arena_dup(&v->arena, buf_bytes(&route));
    buf_done(&route);
    return ok;
}

// d=, s= and i=; i= defaults to "@" d=.
static bool read_names(struct dkim_verify *v, struct signature *s)
{
    struct bytes selector, i;
    if (!read_domain(v, s->verdict.domain, &s->domain))
        return decide(s, DKIM_NEUTRAL, "d= is no domain name");
    if (!read_domain(v, s->verdict.selector, &selector))
        return decide(s, DKIM_NEUTRAL, "s= is no selector");
    s->identity = s->domain;
    if (dkim_tags_find(s->tags, "i", &i)) {
        ptrdiff_t at = bytes_find_last(i, '@');
        if (at < 0 || !read_domain(v, bytes_skip(i, (size_t)at + 1), &s->identity))
            return decide(s, DKIM_NEUTRAL, "i= is no address");
    }
    if (!mail_domain_is_within(s->identity, s->domain)) // 3.5
        return decide(s, DKIM_PERMERROR, "i= is not within d=");
    struct buf name = {0};
    dkim_key_name(selector, s->domain, &name);
    s->key_name = arena_dup(&v->arena, buf_bytes(&name));
    buf_done(&name);
    return true;
}

static bool is_field_name(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.at[i] < 33 || name.at[i] > 126)
            return false;
    return name.len > 0;
}

static bool read_signed_fields(struct signature *s)
{
    struct bytes h, name;
    bool has_from = false;
    dkim_tags_find(s->tags, "h", &h);
    while (dkim_tags_next_item(&h, &name)) {
        if (!is_field_name(name))
            return decide(s, DKIM_NEUTRAL, "h= is no list of field names");
        has_from |= bytes_eq_nocase(name, BYTES("From"));
    }
    return has_from ? true : decide(s, DKIM_PERMERROR, "From is not signed"); // 6.1.1
}

// A decimal number; beyond 64 bits it is the largest there is but UINT64_MAX.
static bool read_number(const struct signature *s, const char *tag, uint64_t *out)
{
    struct bytes text;
    uint64_t value = 0;
    if (!dkim_tags_find(s->tags, tag, &text))
        return true;
    for (size_t i = 0; i < text.len; i++) {
        if (!ascii_is_digit(text.at[i]))
            return false;
        value = value > (UINT64_MAX - 10) / 10 ? UINT64_MAX - 1
                                               : value * 10 + (uint64_t)(text.at[i] - '0');
    }
    *out = value;
    return text.len > 0;
}

static bool read_numbers(struct dkim_verify *v, struct signature *s)
{
    uint64_t made = 0, expires = UINT64_MAX;
    s->limit = UINT64_MAX;
    if (!read_number(s, "l", &s->limit))
        return decide(s, DKIM_NEUTRAL, "l= is no number");
    if (!read_number(s, "t", &made) || !read_number(s, "x", &expires))
        return decide(s, DKIM_NEUTRAL, "t= or x= is no time");
    if (expires < made)
        return decide(s, DKIM_NEUTRAL, "x= lies before t=");
    if (expires < (uint64_t)(v->now.us / 1000000))
        return decide(s, DKIM_FAIL, "the signature has expired");
    return true;
}

static bool read_query(struct signature *s)
{
    struct bytes q;
    if (!dkim_tags_find(s->tags, "q", &q) || dkim_tags_has_item(q, "dns/txt"))
        return true;
    return decide(s, DKIM_NEUTRAL, "q= has no method that we know");
}

static bool read_required(struct signature *s)
{
    static const struct {
        const char *name, *reason;
    } required[] = {
        {"v", "v= is missing"}, {"a", "a= is missing"}, {"d", "d= is missing"},
        {"s", "s= is missing"}, {"h", "h= is missing"}, {"bh", "bh= is missing"},
        {"b", "b= is missing"},
    };
    struct bytes value;
    for (size_t i = 0; i < COUNT_OF(required); i++)
        if (!dkim_tags_find(s->tags, required[i].name, &value))
            return decide(s, DKIM_NEUTRAL, required[i].reason);
    dkim_tags_find(s->tags, "v", &value);
    return bytes_eq(value, BYTES("1")) ? true : decide(s, DKIM_NEUTRAL, "unknown version");
}

static bool read_tags(struct signature *s, struct bytes value)
{
    int err = dkim_tags_parse(value, s->tags);
    dkim_tags_find(s->tags, "d", &s->verdict.domain);
    dkim_tags_find(s->tags, "s", &s->verdict.selector);
    dkim_tags_find(s->tags, "a", &s->verdict.algorithm);
    return err == OK         ? true
           : err == E_EXISTS ? decide(s, DKIM_NEUTRAL, "a tag stands twice in the signature")
                             : decide(s, DKIM_NEUTRAL, "the signature is malformed");
}

// Two signatures with the same form and l= share a hash.
static struct body_hash *body_of(struct dkim_verify *v, const struct signature *s)
{
    struct body_hash *b = v->bodies;
    for (; b < v->bodies + v->bodies_count; b++)
        if (b->canon == s->body_canon && b->limit == s->limit)
            return b;
    v->bodies_count++;
    b->canon = s->body_canon;
    b->limit = s->limit;
    dkim_body_init(&b->body, b->canon);
    b->body.limit = b->limit;
    return b;
}

// Everything that 6.1.1 asks; what is still undecided then needs body and key.
static void read_signature(struct dkim_verify *v, struct signature *s, struct bytes value)
{
    s->tags = arena_new(&v->arena, sizeof *s->tags);
    s->signature = arena_new(&v->arena, SIGNATURE_MAX);
    if (read_tags(s, value) && read_required(s) && read_algorithm(s) && read_canon(s) &&
        read_hashes(s) && read_names(v, s) && read_signed_fields(s) && read_query(s) &&
        read_numbers(v, s))
        s->body = body_of(v, s);
}

static void read_signatures(struct dkim_verify *v)
{
    uint32_t name = number_of(v, BYTES("DKIM-Signature"));
    v->signatures = arena_new(&v->arena, (v->fields_count + 1) * sizeof(struct signature *));
    for (size_t i = 0; i < v->fields_count; i++) {
        if (v->fields[i].name != name)
            continue;
        struct signature *s = arena_new(&v->arena, sizeof *s);
        s->raw = v->fields[i].field.raw;
        s->verdict.reason = "";
        v->signatures[v->count++] = s;
        if (v->count <= DKIM_SIGNATURES_MAX)
            read_signature(v, s, v->fields[i].field.value);
        else
            decide(s, DKIM_POLICY, "not judged: the message has too many signatures");
        if (!s->is_decided)
            s->verdict.result = DKIM_TEMPERROR;
    }
}

struct dkim_verify *dkim_verify_new(struct bytes header, struct wall now)
{
    struct dkim_verify *v = mem_new(sizeof *v);
    v->now = now;
    index_fields(v, header);
    read_signatures(v);
    return v;
}

void dkim_verify_free(struct dkim_verify *v)
{
    if (!v)
        return;
    for (size_t i = 0; i < v->bodies_count; i++)
        dkim_body_done(&v->bodies[i].body);
    map_done(&v->names);
    arena_done(&v->arena);
    free(v);
}

// ---- the body -----------------------------------------------------------------------------------

void dkim_verify_body(struct dkim_verify *v, struct bytes piece)
{
    for (size_t i = 0; i < v->bodies_count; i++)
        dkim_body_feed(&v->bodies[i].body, piece);
}

void dkim_verify_body_end(struct dkim_verify *v)
{
    for (size_t i = 0; i < v->bodies_count; i++) {
        dkim_body_finish(&v->bodies[i].body, v->bodies[i].hash);
        v->bodies[i].total = v->bodies[i].body.total;
    }
    v->body_ended = true;
}

// ---- the key ------------------------------------------------------------------------------------

// The fields of h= as they are hashed: each time a name is listed, its next field upwards (5.4.2).
static void add_fields(struct dkim_verify *v, const struct signature *s, struct buf *out)
{
    struct bytes h, name;
    memcpy(v->cursor, v->lowest, v->names_count * sizeof *v->cursor);
    dkim_tags_find(s->tags, "h", &h);
    while (dkim_tags_next_item(&h, &name)) {
        struct arena arena = {0};
        uintptr_t known = (uintptr_t)map_find(&v->names, arena_lower(&arena, name));
        arena_done(&arena);
        uint32_t at = known ? v->cursor[known - 1] : NO_FIELD;
        if (at == NO_FIELD)
            continue; // 5.4: what is not there counts as nothing
        v->cursor[known - 1] = v->fields[at].above;
        dkim_canon_field(s->header_canon, v->fields[at].field.raw, out);
    }
}

static void hash_header(struct dkim_verify *v, const struct signature *s,
                        uint8_t out[DKIM_HASH_BYTES])
{
    struct buf canonical = {.max = SIZE_MAX / 2};
    add_fields(v, s, &canonical);
    dkim_canon_signature(s->header_canon, s->raw, &canonical);
    CHECK(EVP_Digest(canonical.at, canonical.len, out, NULL, dkim_sha256(), NULL) == 1);
    buf_done(&canonical);
}

static bool check_rsa(EVP_PKEY *key, const struct signature *s, const uint8_t *digest)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
    bool ok = ctx && EVP_PKEY_verify_init(ctx) == 1 &&
              EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) == 1 &&
              EVP_PKEY_CTX_set_signature_md(ctx, dkim_sha256()) == 1 &&
              EVP_PKEY_verify(ctx, s->signature, s->signature_len, digest, DKIM_HASH_BYTES) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

// RFC 8463 section 3: the SHA-256 is what Ed25519 signs.
static bool check_ed25519(EVP_PKEY *key, const struct signature *s, const uint8_t *digest)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
              EVP_DigestVerify(ctx, s->signature, s->signature_len, digest, DKIM_HASH_BYTES) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

static void judge_with(struct dkim_verify *v, struct signature *s, const struct dkim_key *key)
{
    uint8_t digest[DKIM_HASH_BYTES];
    s->verdict.is_testing = key->is_testing;
    if (key->algorithm != s->algorithm) {
        decide(s, DKIM_PERMERROR, "the key is of another type than a= says");
    } else if (key->is_strict && !bytes_eq(s->identity, s->domain)) { // 3.6.1, t=s
        decide(s, DKIM_PERMERROR, "the key allows no subdomain in i=");
    } else if (s->limit != UINT64_MAX && s->limit > s->body->total) { // 3.5, l=
        decide(s, DKIM_FAIL, "the body is shorter than l=");
    } else if (memcmp(s->body_hash, s->body->hash, DKIM_HASH_BYTES) != 0) {
        decide(s, DKIM_FAIL, "the body hash does not match");
    } else {
        hash_header(v, s, digest);
        bool ok = s->algorithm == DKIM_RSA_SHA256 ? check_rsa(key->key, s, digest)
                                                  : check_ed25519(key->key, s, digest);
        decide(s, ok ? DKIM_PASS : DKIM_FAIL, ok ? "" : "the signature does not match");
    }
    if (s->verdict.result == DKIM_PASS && s->limit != UINT64_MAX) {
        s->verdict.unsigned_bytes = s->body->total - s->limit;
        if (s->verdict.unsigned_bytes)
            s->verdict.reason = "the end of the body is not signed (l=)";
    }
}

// Rises with how near a record came to being the key: the nearest tells the reason.
static int nearness(enum dkim_key_fault fault)
{
    return fault == DKIM_KEY_SYNTAX ? 1 : 2;
}

// Several records: the first that makes it pass, else the first that is a key, else what is wrong
// with the best (6.1.2).
static void try_keys(struct dkim_verify *v, struct signature *s, const struct bytes *records,
                     size_t count)
{
    int best = 0;
    for (size_t i = 0; i < count && i < DKIM_KEYS_MAX; i++) {
        struct dkim_key key;
        struct dkim_verdict before = s->verdict;
        enum dkim_key_fault fault = dkim_key_parse(records[i], &key);
        if (fault == DKIM_KEY_GOOD) {
            judge_with(v, s, &key);
            if (best == 3 && s->verdict.result != DKIM_PASS)
                s->verdict = before;
            best = 3;
        } else if (nearness(fault) > best) {
            best = nearness(fault);
            decide(s, fault == DKIM_KEY_TOO_SHORT ? DKIM_FAIL : DKIM_PERMERROR,
                   dkim_key_fault_text(fault)); // RFC 8301 section 3.2
        }
        dkim_key_done(&key);
        if (s->verdict.result == DKIM_PASS)
            return;
    }
}

void dkim_verify_key(struct dkim_verify *v, size_t i, enum dkim_key_lookup lookup,
                     const struct bytes *records, size_t count)
{
    CHECK(v->body_ended && i < v->count);
    struct signature *s = v->signatures[i];
    if (s->is_decided)
        return;
    if (lookup == DKIM_KEY_UNAVAILABLE)
        decide(s, DKIM_TEMPERROR, "the key could not be looked up");
    else if (lookup == DKIM_KEY_ABSENT || count == 0)
        decide(s, DKIM_PERMERROR, "there is no key");
    else
        try_keys(v, s, records, count);
}

// ---- what came out ------------------------------------------------------------------------------

size_t dkim_verify_count(const struct dkim_verify *v)
{
    return v->count;
}

struct bytes dkim_verify_key_name(const struct dkim_verify *v, size_t i)
{
    CHECK(i < v->count);
    return v->signatures[i]->is_decided ? BYTES_NONE : v->signatures[i]->key_name;
}

const struct dkim_verdict *dkim_verify_verdict(const struct dkim_verify *v, size_t i)
{
    CHECK(i < v->count);
    return &v->signatures[i]->verdict;
}
