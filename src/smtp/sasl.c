// SPDX-License-Identifier: MIT
//
// sasl - login exchanges: PLAIN, LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS; both sides
//
//   PLAIN   message = [authzid] NUL authcid NUL passwd                           RFC 4616 section 2
//   LOGIN   "Username:" login, "Password:" password draft-murchison-sasl-login SCRAM   client-first
//   = gs2-header "n=" saslname ",r=" c-nonce                RFC 5802 section 7
//           server-first = "r=" nonce ",s=" base64 ",i=" iterations
//           client-final = "c=" base64 ",r=" nonce ",p=" base64
//           server-final = "v=" base64

#include "smtp/sasl.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdlib.h>

#include "base/check.h"
#include "mail/mail_encode.h"
#include "mail/mail_text.h"

#define NONCE_MAX 256

struct scram_exchange {
    struct buf nonce; // the client's, from server-first on both
    struct buf gs2;   // gs2-header, and with PLUS the channel binding behind it
    struct sasl_bindings bindings;
    struct buf auth_message; // client-first-bare "," server-first "," client-final-without-proof
    struct sasl_scram_key key;
    uint8_t server_signature[32];
    bool real;
};

static const char *const names[SASL_MECHANISMS] = {[SASL_PLAIN] = "PLAIN",
                                                   [SASL_LOGIN] = "LOGIN",
                                                   [SASL_SCRAM_SHA_256] = "SCRAM-SHA-256",
                                                   [SASL_SCRAM_SHA_256_PLUS] = "SCRAM-SHA-256-PLUS",
                                                   [SASL_EXTERNAL] = "EXTERNAL"};
static const char *const binding_names[SASL_BINDING_TYPES] = {
    [SASL_TLS_EXPORTER] = "tls-exporter", [SASL_TLS_SERVER_END_POINT] = "tls-server-end-point"};

bool sasl_bindings_any(const struct sasl_bindings *bindings)
{
    for (int i = 0; bindings && i < SASL_BINDING_TYPES; i++)
        if (bindings->of[i].len)
            return true;
    return false;
}

const char *sasl_mechanism_name(enum sasl_mechanism mechanism)
{
    CHECK(mechanism < SASL_MECHANISMS);
    return names[mechanism];
}

int sasl_mechanism_find(struct bytes name, enum sasl_mechanism *out)
{
    for (int i = 0; i < SASL_MECHANISMS; i++) {
        if (bytes_eq_nocase(name, bytes_cstr(names[i]))) {
            *out = (enum sasl_mechanism)i;
            return OK;
        }
    }
    return E_NOT_FOUND;
}

// UTF-8 without what SASLprep prohibits and terminals or logs could take for something else (RFC 4013
// section 2.3): controls, also those beyond ASCII, and the Unicode line separators.
static bool is_plain_text(struct bytes s, size_t max)
{
    if (s.len == 0 || s.len > max || bytes_has_control(s, NULL))
        return false;
    for (size_t i = 0; i < s.len;) {
        size_t n = (unsigned char)s.at[i] < 0x80 ? 1 : mail_utf8_non_ascii(bytes_skip(s, i));
        if (n == 0)
            return false;
        i += n;
    }
    return true;
}

bool sasl_name_is_valid(struct bytes name)
{
    return is_plain_text(name, SASL_NAME_MAX);
}

bool sasl_password_is_valid(struct bytes password)
{
    return is_plain_text(password, SASL_PASSWORD_MAX);
}

// ---- SCRAM arithmetic (RFC 5802 section 3)

static void hmac(struct bytes key, struct bytes text, uint8_t out[32])
{
    unsigned len = 32;
    static const char nothing[1];
    CHECK(HMAC(EVP_sha256(), key.at ? key.at : nothing, (int)key.len, (const uint8_t *)text.at,
               text.len, out, &len));
}

static void sha256(const uint8_t in[32], uint8_t out[32])
{
    unsigned len = 32;
    CHECK(EVP_Digest(in, 32, out, &len, EVP_sha256(), NULL));
}

static struct bytes bytes32(const uint8_t block[32])
{
    return bytes_of(block, 32);
}

// The keys that follow from the password; client_key may be NULL.
static void derive(struct bytes password, const struct sasl_scram_key *of, uint8_t client_key[32],
                   uint8_t stored_key[32], uint8_t server_key[32])
{
    uint8_t salted[32], client[32];
    CHECK(PKCS5_PBKDF2_HMAC(password.at, (int)password.len, of->salt, of->salt_bytes,
                            (int)of->iterations, EVP_sha256(), sizeof salted, salted));
    hmac(bytes32(salted), BYTES("Client Key"), client);
    hmac(bytes32(salted), BYTES("Server Key"), server_key);
    sha256(client, stored_key);
    if (client_key)
        memcpy(client_key, client, 32);
    OPENSSL_cleanse(salted, sizeof salted);
    OPENSSL_cleanse(client, sizeof client);
}

static bool iterations_are_ok(uint64_t n)
{
    return n >= SASL_SCRAM_ITERATIONS_MIN && n <= SASL_SCRAM_ITERATIONS_MAX;
}

int sasl_scram_key_make(struct bytes password, struct bytes salt, uint32_t iterations,
                        struct sasl_scram_key *out)
{
    if (!sasl_password_is_valid(password) || salt.len == 0 || salt.len > SASL_SCRAM_SALT_MAX ||
        !iterations_are_ok(iterations))
        return E_LIMIT;
    *out = (struct sasl_scram_key){.iterations = iterations, .salt_bytes = (uint8_t)salt.len};
    memcpy(out->salt, salt.at, salt.len);
    derive(password, out, NULL, out->stored_key, out->server_key);
    return OK;
}

void sasl_scram_key_fake(const uint8_t secret[32], struct bytes login, struct sasl_scram_key *out)
{
    uint8_t block[32];
    hmac(bytes32(secret), login, block);
    *out = (struct sasl_scram_key){.iterations = block[31] & 1 ? SASL_SCRAM_ITERATIONS_CHOSEN
                                                               : SASL_SCRAM_ITERATIONS,
                                   .salt_bytes = SASL_SCRAM_SALT_BYTES};
    memcpy(out->salt, block, SASL_SCRAM_SALT_BYTES);
    hmac(bytes32(block), BYTES("stored"), out->stored_key);
    hmac(bytes32(block), BYTES("server"), out->server_key);
}

void sasl_scram_key_format(const struct sasl_scram_key *key, struct buf *out)
{
    buf_printf(out, "SCRAM-SHA-256$%u:", key->iterations);
    mail_base64_encode(bytes_of(key->salt, key->salt_bytes), out);
    buf_add_byte(out, '$');
    mail_base64_encode(bytes32(key->stored_key), out);
    buf_add_byte(out, ':');
    mail_base64_encode(bytes32(key->server_key), out);
}

// Decodes exactly `want` bytes (or 1 to max, if want is 0) into `to`.
static int decode_into(struct bytes text, size_t want, size_t max, uint8_t *to, size_t *out_len)
{
    struct buf raw;
    buf_init(&raw, max);
    int err = mail_base64_decode(text, &raw);
    if (!err && (want ? raw.len != want : raw.len == 0))
        err = E_SYNTAX;
    if (!err) {
        memcpy(to, raw.at, raw.len);
        *out_len = raw.len;
    }
    buf_done(&raw);
    return err;
}

int sasl_scram_key_parse(struct bytes text, struct sasl_scram_key *out)
{
    struct bytes name, iterations, salt, stored, rest = text;
    uint64_t number;
    size_t len;
    *out = (struct sasl_scram_key){0};
    if (!bytes_cut(&rest, '$', &name) || !bytes_eq(name, BYTES("SCRAM-SHA-256")) ||
        !bytes_cut(&rest, ':', &iterations) || !bytes_cut(&rest, '$', &salt) ||
        !bytes_cut(&rest, ':', &stored))
        return E_SYNTAX;
    int err = bytes_to_u64(iterations, SASL_SCRAM_ITERATIONS_MAX, &number);
    if (!err && !iterations_are_ok(number))
        err = E_LIMIT;
    if (!err)
        err = decode_into(salt, 0, SASL_SCRAM_SALT_MAX, out->salt, &len);
    if (!err) {
        out->iterations = (uint32_t)number;
        out->salt_bytes = (uint8_t)len;
        err = decode_into(stored, 32, 32, out->stored_key, &len);
    }
    return err ? err : decode_into(rest, 32, 32, out->server_key, &len);
}

// ---- SCRAM messages

static struct scram_exchange *scram_new(struct bytes nonce, const struct sasl_bindings *bindings)
{
    struct scram_exchange *x = mem_new(sizeof *x);
    buf_add(&x->nonce, nonce);
    if (bindings)
        x->bindings = *bindings;
    return x;
}

static struct bytes binding_of(const struct scram_exchange *x, enum sasl_binding_type type)
{
    return bytes_of(x->bindings.of[type].bytes, x->bindings.of[type].len);
}

static void wipe(struct buf *b)
{
    if (b->at)
        OPENSSL_cleanse(b->at, b->cap);
    buf_done(b);
}

static void scram_free(struct scram_exchange *x)
{
    if (!x)
        return;
    buf_done(&x->nonce);
    buf_done(&x->gs2);
    buf_done(&x->auth_message);
    OPENSSL_cleanse(x, sizeof *x);
    free(x);
}

// Takes "X=value" off the front of a comma list.
static bool take_attribute(struct bytes *list, char name, struct bytes *out_value)
{
    struct bytes part;
    if (!bytes_cut(list, ',', &part) || part.len < 2 || part.at[0] != name || part.at[1] != '=')
        return false;
    *out_value = bytes_skip(part, 2);
    return true;
}

// RFC 5802 5.1: printable ASCII without comma.
static bool nonce_is_ok(struct bytes nonce)
{
    if (nonce.len == 0 || nonce.len > NONCE_MAX)
        return false;
    for (size_t i = 0; i < nonce.len; i++)
        if (nonce.at[i] < 0x21 || nonce.at[i] > 0x7e || nonce.at[i] == ',')
            return false;
    return true;
}

// saslname: "=2C" is a comma, "=3D" an equals sign, no other "=" (RFC 5802 5.1).
static bool decode_saslname(struct bytes text, struct buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        struct bytes here = bytes_mid(text, i, 3);
        if (text.at[i] != '=') {
            buf_add_byte(out, text.at[i]);
            continue;
        }
        if (!bytes_eq(here, BYTES("=2C")) && !bytes_eq(here, BYTES("=3D")))
            return false;
        buf_add_byte(out, here.at[1] == '2' ? ',' : '=');
        i += 2;
    }
    return sasl_name_is_valid(buf_bytes(out));
}

static void encode_saslname(struct bytes name, struct buf *out)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.at[i] == ',' || name.at[i] == '=')
            buf_add_cstr(out, name.at[i] == ',' ? "=2C" : "=3D");
        else
            buf_add_byte(out, name.at[i]);
    }
}

// ClientProof = ClientKey XOR HMAC(StoredKey, AuthMessage); also the reverse.
static void xor_signature(const struct scram_exchange *x, const uint8_t stored_key[32],
                          const uint8_t in[32], uint8_t out[32])
{
    uint8_t signature[32];
    hmac(bytes32(stored_key), buf_bytes(&x->auth_message), signature);
    for (int i = 0; i < 32; i++)
        out[i] = in[i] ^ signature[i];
}

// ---- server

enum server_stage {
    SERVER_FIRST,
    SERVER_PASSWORD,
    SERVER_KEY,
    SERVER_PROOF,
    SERVER_PROVEN,
    SERVER_LAST,
    SERVER_OVER
};

void sasl_server_init(struct sasl_server *s, enum sasl_mechanism mechanism, struct bytes nonce,
                      const struct sasl_bindings *bindings)
{
    *s = (struct sasl_server){.mechanism = mechanism, .stage = SERVER_FIRST};
    if (sasl_is_scram(mechanism)) {
        CHECK(nonce.len >= 18 && nonce_is_ok(nonce));
        s->scram = scram_new(nonce, bindings);
    }
}

void sasl_server_done(struct sasl_server *s)
{
    wipe(&s->login);
    wipe(&s->password);
    scram_free(s->scram);
    s->scram = NULL;
}

void sasl_server_begin(struct sasl_server *s, struct buf *out_challenge)
{
    if (s->mechanism == SASL_LOGIN)
        buf_add_cstr(out_challenge, "Username:");
}

static enum sasl_server_step feed_plain(struct sasl_server *s, struct bytes message)
{
    struct bytes authzid, login, password = message;
    s->stage = SERVER_OVER;
    if (!bytes_cut(&password, '\0', &authzid) || !bytes_cut(&password, '\0', &login) ||
        !password.at || bytes_find(password, '\0') >= 0)
        return SASL_MALFORMED;
    if (!sasl_name_is_valid(login) || !sasl_password_is_valid(password))
        return SASL_MALFORMED;
    buf_add(&s->login, login);
    buf_add(&s->password, password);
    // RFC 4616 section 2: acting as another identity is not granted to anybody.
    return authzid.len == 0 || bytes_eq(authzid, login) ? SASL_CHECK_PASSWORD : SASL_WRONG;
}

static enum sasl_server_step feed_login(struct sasl_server *s, struct bytes message,
                                        struct buf *out_challenge)
{
    if (s->stage == SERVER_FIRST) {
        if (!sasl_name_is_valid(message))
            return SASL_MALFORMED;
        buf_add(&s->login, message);
        buf_add_cstr(out_challenge, "Password:");
        s->stage = SERVER_PASSWORD;
        return SASL_CHALLENGE;
    }
    s->stage = SERVER_OVER;
    if (!sasl_password_is_valid(message))
        return SASL_MALFORMED;
    buf_add(&s->password, message);
    return SASL_CHECK_PASSWORD;
}

// RFC 4422 appendix A.1: the message is who the client wants to be, empty for whoever it is known as.
static enum sasl_server_step feed_external(struct sasl_server *s, struct bytes message)
{
    s->stage = SERVER_OVER;
    if (message.len && !sasl_name_is_valid(message))
        return SASL_MALFORMED;
    buf_add(&s->login, message);
    return SASL_ASK_EXTERNAL;
}

// RFC 5802 section 6. FIND_KEY: the flag is right, *out_binding is what the connection must be bound to.
static enum sasl_server_step take_flag(const struct sasl_server *s, struct bytes flag,
                                       struct bytes *out_binding)
{
    *out_binding = BYTES_NONE;
    if (s->mechanism == SASL_SCRAM_SHA_256) {
        if (bytes_eq(flag, BYTES("n"))) // it can't do PLUS
            return SASL_FIND_KEY;
        if (!bytes_eq(flag, BYTES("y"))) // it can, and says that we did not offer it
            return SASL_MALFORMED;
        return sasl_bindings_any(&s->scram->bindings) ? SASL_UNBOUND : SASL_FIND_KEY;
    }
    if (!bytes_starts(flag, BYTES("p=")))
        return SASL_MALFORMED;
    for (int i = 0; i < SASL_BINDING_TYPES; i++)
        if (bytes_eq(bytes_skip(flag, 2), bytes_cstr(binding_names[i])))
            *out_binding = binding_of(s->scram, (enum sasl_binding_type)i);
    return out_binding->len ? SASL_FIND_KEY : SASL_UNBOUND;
}

// gs2-header = ( "n" / "y" / "p=" type ) "," [ "a=" saslname ] "," (RFC 5802 section 7, RFC 5801 section 4).
static enum sasl_server_step take_gs2(struct sasl_server *s, struct bytes message,
                                      struct bytes *out_bare, struct bytes *out_authzid)
{
    struct bytes flag, authzid, binding, rest = message;
    if (!bytes_cut(&rest, ',', &flag) || !bytes_cut(&rest, ',', &authzid) || !rest.at)
        return SASL_MALFORMED;
    if (authzid.len > 0 && !bytes_starts(authzid, BYTES("a=")))
        return SASL_MALFORMED;
    *out_bare = rest;
    *out_authzid = bytes_skip(authzid, 2);
    enum sasl_server_step step = take_flag(s, flag, &binding);
    buf_add(&s->scram->gs2, bytes_of(message.at, (size_t)(rest.at - message.at)));
    buf_add(&s->scram->gs2, binding);
    return step;
}

static enum sasl_server_step feed_scram_first(struct sasl_server *s, struct bytes message)
{
    struct scram_exchange *x = s->scram;
    struct bytes bare, authzid, name, nonce;
    enum sasl_server_step step = take_gs2(s, message, &bare, &authzid);
    if (step != SASL_FIND_KEY) {
        s->stage = SERVER_OVER;
        return step;
    }
    buf_add(&x->auth_message, bare);
    struct bytes rest = bare; // "m=", a mandatory extension, is one that we don't know
    if (!take_attribute(&rest, 'n', &name) || !take_attribute(&rest, 'r', &nonce) ||
        !nonce_is_ok(nonce) || !decode_saslname(name, &s->login))
        return SASL_MALFORMED;
    struct buf theirs = {0}, both = {0};
    bool same = authzid.len == 0 || (decode_saslname(authzid, &theirs) &&
                                     bytes_eq(buf_bytes(&theirs), buf_bytes(&s->login)));
    buf_done(&theirs);
    buf_add(&both, nonce);
    buf_add(&both, buf_bytes(&x->nonce));
    buf_done(&x->nonce);
    x->nonce = both;
    s->stage = SERVER_KEY;
    return same ? SASL_FIND_KEY : SASL_MALFORMED;
}

enum sasl_server_step sasl_server_key(struct sasl_server *s, const struct sasl_scram_key *key,
                                      bool real, struct buf *out_challenge)
{
    struct scram_exchange *x = s->scram;
    CHECK(x && s->stage == SERVER_KEY);
    x->key = *key;
    x->real = real;
    size_t from = out_challenge->len;
    buf_add_cstr(out_challenge, "r=");
    buf_add(out_challenge, buf_bytes(&x->nonce));
    buf_add_cstr(out_challenge, ",s=");
    mail_base64_encode(bytes_of(key->salt, key->salt_bytes), out_challenge);
    buf_printf(out_challenge, ",i=%u", key->iterations);
    buf_add_byte(&x->auth_message, ',');
    buf_add(&x->auth_message, bytes_skip(buf_bytes(out_challenge), from));
    s->stage = SERVER_PROOF;
    return SASL_CHALLENGE;
}

// Whether the proof's ClientKey hashes to the StoredKey. The same work for a made-up key.
static bool proof_is_right(struct scram_exchange *x, const uint8_t proof[32])
{
    uint8_t client_key[32], stored_key[32];
    xor_signature(x, x->key.stored_key, proof, client_key);
    sha256(client_key, stored_key);
    hmac(bytes32(x->key.server_key), buf_bytes(&x->auth_message), x->server_signature);
    bool right = bytes_eq_secret(bytes32(stored_key), bytes32(x->key.stored_key));
    OPENSSL_cleanse(client_key, sizeof client_key);
    return right && x->real;
}

// Splits client-final into what is signed and the proof; checks channel binding and nonce. CHALLENGE: both are right.
static enum sasl_server_step take_client_final(struct scram_exchange *x, struct bytes message,
                                               uint8_t proof[32])
{
    ptrdiff_t comma = bytes_find_last(message, ',');
    if (comma < 0 || !bytes_starts(bytes_skip(message, (size_t)comma), BYTES(",p=")))
        return SASL_MALFORMED;
    struct bytes signed_part = bytes_first(message, (size_t)comma);
    struct bytes proof_text = bytes_skip(message, (size_t)comma + 3);
    struct bytes rest = signed_part, binding, nonce;
    struct buf gs2;
    size_t len;
    buf_init(&gs2, SASL_MESSAGE_MAX);
    if (!take_attribute(&rest, 'c', &binding) || !take_attribute(&rest, 'r', &nonce))
        return SASL_MALFORMED;
    bool ok = mail_base64_decode(binding, &gs2) == OK && bytes_eq(nonce, buf_bytes(&x->nonce)) &&
              decode_into(proof_text, 32, 32, proof, &len) == OK;
    bool is_bound = bytes_eq_secret(buf_bytes(&gs2), buf_bytes(&x->gs2));
    buf_done(&gs2);
    buf_add_byte(&x->auth_message, ',');
    buf_add(&x->auth_message, signed_part);
    return !ok ? SASL_MALFORMED : is_bound ? SASL_CHALLENGE : SASL_UNBOUND;
}

static enum sasl_server_step feed_scram_final(struct sasl_server *s, struct bytes message)
{
    uint8_t proof[32];
    s->stage = SERVER_OVER;
    enum sasl_server_step step = take_client_final(s->scram, message, proof);
    if (step != SASL_CHALLENGE)
        return step;
    if (!proof_is_right(s->scram, proof))
        return SASL_WRONG;
    s->stage = SERVER_PROVEN;
    return SASL_PROVEN;
}

enum sasl_server_step sasl_server_prove(struct sasl_server *s, struct buf *out_challenge)
{
    CHECK(s->stage == SERVER_PROVEN);
    buf_add_cstr(out_challenge, "v=");
    mail_base64_encode(bytes32(s->scram->server_signature), out_challenge);
    s->stage = SERVER_LAST;
    return SASL_CHALLENGE;
}

static enum sasl_server_step feed_scram(struct sasl_server *s, struct bytes message)
{
    if (s->stage == SERVER_FIRST)
        return feed_scram_first(s, message);
    if (s->stage == SERVER_PROOF)
        return feed_scram_final(s, message);
    bool last =
        s->stage == SERVER_LAST && message.len == 0; // RFC 4954 section 4: 334, then an empty line
    s->stage = SERVER_OVER;
    return last ? SASL_DONE : SASL_MALFORMED;
}

enum sasl_server_step sasl_server_feed(struct sasl_server *s, struct bytes message,
                                       struct buf *out_challenge)
{
    if (s->stage == SERVER_OVER || message.len > SASL_MESSAGE_MAX)
        return SASL_MALFORMED;
    switch (s->mechanism) {
    case SASL_PLAIN:
        return feed_plain(s, message);
    case SASL_LOGIN:
        return feed_login(s, message, out_challenge);
    case SASL_SCRAM_SHA_256:
    case SASL_SCRAM_SHA_256_PLUS:
        return feed_scram(s, message);
    case SASL_EXTERNAL:
        return feed_external(s, message);
    case SASL_MECHANISMS:
        break;
    }
    return SASL_MALFORMED;
}

// ---- client

enum client_stage { CLIENT_FIRST, CLIENT_SECOND, CLIENT_LAST, CLIENT_OVER };

void sasl_client_init(struct sasl_client *c, enum sasl_mechanism mechanism, struct bytes login,
                      struct bytes password, struct bytes nonce,
                      const struct sasl_bindings *bindings)
{
    *c = (struct sasl_client){.mechanism = mechanism, .stage = CLIENT_FIRST};
    buf_add(&c->login, login);
    buf_add(&c->password, password);
    if (sasl_is_scram(mechanism)) {
        CHECK(nonce.len >= 18 && nonce_is_ok(nonce));
        c->scram = scram_new(nonce, bindings);
    }
}

void sasl_client_done(struct sasl_client *c)
{
    wipe(&c->login);
    wipe(&c->password);
    scram_free(c->scram);
    c->scram = NULL;
}

bool sasl_client_has_initial(const struct sasl_client *c)
{
    return c->mechanism != SASL_LOGIN;
}

static int client_plain(struct sasl_client *c, struct buf *out)
{
    if (c->stage != CLIENT_FIRST)
        return E_SYNTAX;
    buf_add_byte(out, '\0');
    buf_add(out, buf_bytes(&c->login));
    buf_add_byte(out, '\0');
    buf_add(out, buf_bytes(&c->password));
    c->stage = CLIENT_OVER;
    return OK;
}

// The texts of the challenges differ between servers; the order never does.
static int client_login(struct sasl_client *c, struct buf *out)
{
    if (c->stage > CLIENT_SECOND)
        return E_SYNTAX;
    buf_add(out, buf_bytes(c->stage == CLIENT_FIRST ? &c->login : &c->password));
    c->stage = c->stage == CLIENT_FIRST ? CLIENT_SECOND : CLIENT_OVER;
    return OK;
}

// RFC 9266 section 4: tls-exporter where the connection has it.
static void add_gs2(struct sasl_client *c, struct buf *out)
{
    struct scram_exchange *x = c->scram;
    enum sasl_binding_type type =
        x->bindings.of[SASL_TLS_EXPORTER].len ? SASL_TLS_EXPORTER : SASL_TLS_SERVER_END_POINT;
    if (c->mechanism == SASL_SCRAM_SHA_256_PLUS)
        buf_printf(&x->gs2, "p=%s,,", binding_names[type]);
    else
        buf_add_cstr(&x->gs2, sasl_bindings_any(&x->bindings) ? "y,," : "n,,");
    buf_add(out, buf_bytes(&x->gs2));
    if (c->mechanism == SASL_SCRAM_SHA_256_PLUS)
        buf_add(&x->gs2, binding_of(x, type));
}

static int client_scram_first(struct sasl_client *c, struct buf *out)
{
    struct scram_exchange *x = c->scram;
    buf_add_cstr(&x->auth_message, "n=");
    encode_saslname(buf_bytes(&c->login), &x->auth_message);
    buf_add_cstr(&x->auth_message, ",r=");
    buf_add(&x->auth_message, buf_bytes(&x->nonce));
    add_gs2(c, out);
    buf_add(out, buf_bytes(&x->auth_message));
    c->stage = CLIENT_SECOND;
    return OK;
}

static int take_server_first(struct scram_exchange *x, struct bytes message)
{
    struct bytes rest = message, nonce, salt, iterations;
    uint64_t number;
    size_t len;
    if (!take_attribute(&rest, 'r', &nonce) || !take_attribute(&rest, 's', &salt) ||
        !take_attribute(&rest, 'i', &iterations))
        return E_SYNTAX;
    // RFC 5802 section 5.1: the server's nonce must begin with ours, and add to it.
    if (!nonce_is_ok(nonce) || nonce.len <= x->nonce.len ||
        !bytes_starts(nonce, buf_bytes(&x->nonce)))
        return E_SYNTAX;
    int err = bytes_to_u64(iterations, SASL_SCRAM_ITERATIONS_MAX, &number);
    if (!err && !iterations_are_ok(number))
        err = E_LIMIT;
    if (!err)
        err = decode_into(salt, 0, SASL_SCRAM_SALT_MAX, x->key.salt, &len);
    if (err)
        return err;
    x->key.salt_bytes = (uint8_t)len;
    x->key.iterations = (uint32_t)number;
    buf_clear(&x->nonce);
    buf_add(&x->nonce, nonce);
    return OK;
}

static int client_scram_final(struct sasl_client *c, struct bytes challenge, struct buf *out)
{
    struct scram_exchange *x = c->scram;
    uint8_t client_key[32], proof[32];
    int err = take_server_first(x, challenge);
    if (err)
        return err;
    derive(buf_bytes(&c->password), &x->key, client_key, x->key.stored_key, x->key.server_key);
    size_t from = out->len;
    buf_add_cstr(out, "c=");
    mail_base64_encode(buf_bytes(&x->gs2), out);
    buf_add_cstr(out, ",r=");
    buf_add(out, buf_bytes(&x->nonce));
    buf_add_byte(&x->auth_message, ',');
    buf_add(&x->auth_message, challenge);
    buf_add_byte(&x->auth_message, ',');
    buf_add(&x->auth_message, bytes_skip(buf_bytes(out), from));
    xor_signature(x, x->key.stored_key, client_key, proof);
    hmac(bytes32(x->key.server_key), buf_bytes(&x->auth_message), x->server_signature);
    buf_add_cstr(out, ",p=");
    mail_base64_encode(bytes32(proof), out);
    OPENSSL_cleanse(client_key, sizeof client_key);
    c->stage = CLIENT_LAST;
    return OK;
}

static int client_scram_verify(struct sasl_client *c, struct bytes challenge)
{
    struct bytes rest = challenge, verifier;
    uint8_t theirs[32];
    size_t len;
    if (!take_attribute(&rest, 'v', &verifier))
        return E_DENIED;
    if (decode_into(verifier, 32, 32, theirs, &len) != OK ||
        !bytes_eq_secret(bytes32(theirs), bytes32(c->scram->server_signature)))
        return E_DENIED;
    c->stage = CLIENT_OVER;
    return OK;
}

int sasl_client_feed(struct sasl_client *c, struct bytes challenge, struct buf *out_response)
{
    if (challenge.len > SASL_MESSAGE_MAX)
        return E_LIMIT;
    if (c->mechanism == SASL_PLAIN)
        return client_plain(c, out_response);
    if (c->mechanism == SASL_LOGIN)
        return client_login(c, out_response);
    if (c->mechanism == SASL_EXTERNAL)
        return E_SYNTAX;
    switch (c->stage) {
    case CLIENT_FIRST:
        return client_scram_first(c, out_response);
    case CLIENT_SECOND:
        return client_scram_final(c, challenge, out_response);
    case CLIENT_LAST:
        return client_scram_verify(c, challenge);
    default:
        return E_SYNTAX;
    }
}

int sasl_client_finish(struct sasl_client *c)
{
    return c->stage == CLIENT_OVER ? OK : E_DENIED;
}
