// SPDX-License-Identifier: MIT
#include "bounce/return_token.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/check.h"
#include "spool/tlv.h"

#define NUMBER_CHARS 4
#define DIGEST_CHARS 16
#define DIGEST_BYTES 10
#define SEVERAL (RETURN_RECIPIENT_MAX + 1)
#define SEARCHED_MAX 64 // candidates looked at in one text

static const char DIGITS[] = "0123456789abcdefghjkmnpqrstvwxyz"; // as in message ids

static void format_bits(uint64_t value, unsigned chars, char *out)
{
    for (unsigned i = 0; i < chars; i++)
        out[i] = DIGITS[value >> (5 * (chars - 1 - i)) & 31];
}

static bool parse_bits(struct bytes text, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < text.len; i++) {
        const char c = ascii_lower(text.at[i]);
        const char *hit = c ? strchr(DIGITS, c) : NULL;
        if (!hit)
            return false;
        *out = *out << 5 | (uint64_t)(hit - DIGITS);
    }
    return true;
}

static uint32_t number_of(const struct return_token *t)
{
    return t->recipient | (t->several ? SEVERAL : 0);
}

static void digest_of(const struct return_key *key, const struct return_token *t,
                      char out[DIGEST_CHARS])
{
    static const char LABEL[] = "posthaste return path";
    char text[sizeof LABEL + 1 + 20];
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    memcpy(text, LABEL, sizeof LABEL);
    text[sizeof LABEL] = (char)t->kind;
    le64_put(text + sizeof LABEL + 1, t->id.high);
    le64_put(text + sizeof LABEL + 9, t->id.low);
    le32_put(text + sizeof LABEL + 17, number_of(t));
    CHECK(HMAC(EVP_sha256(), key->bytes, sizeof key->bytes, (const uint8_t *)text, sizeof text,
               digest, &len) &&
          len >= DIGEST_BYTES);
    for (unsigned half = 0; half < 2; half++) {
        uint64_t bits = 0;
        for (unsigned i = 0; i < DIGEST_BYTES / 2; i++)
            bits = bits << 8 | digest[half * (DIGEST_BYTES / 2) + i];
        format_bits(bits, DIGEST_CHARS / 2, out + half * (DIGEST_CHARS / 2));
    }
}

void return_token_format(const struct return_key *key, const struct return_token *token,
                         char out[RETURN_LOCAL_CHARS + 1])
{
    char id[MESSAGE_ID_CHARS + 1];
    CHECK(token->recipient <= RETURN_RECIPIENT_MAX && (token->recipient || !token->several));
    message_id_format(token->id, id);
    out[0] = (char)token->kind;
    out[1] = '-';
    for (unsigned i = 0; i < MESSAGE_ID_CHARS; i++)
        out[2 + i] = ascii_lower(id[i]);
    format_bits(number_of(token), NUMBER_CHARS, out + 2 + MESSAGE_ID_CHARS);
    digest_of(key, token, out + 2 + MESSAGE_ID_CHARS + NUMBER_CHARS);
    out[RETURN_LOCAL_CHARS] = '\0';
}

enum return_verdict return_token_parse(const struct return_key *key, struct bytes local_part,
                                       struct return_token *out)
{
    if (local_part.len != RETURN_LOCAL_CHARS || local_part.at[1] != '-')
        return RETURN_FOREIGN;
    char kind = ascii_lower(local_part.at[0]), want[DIGEST_CHARS], have[DIGEST_CHARS];
    uint64_t number, digest[2];
    struct return_token t = {.kind = (enum return_kind)kind};
    struct bytes token = bytes_skip(local_part, 2);
    struct bytes tail = bytes_skip(token, MESSAGE_ID_CHARS + NUMBER_CHARS);
    if ((kind != RETURN_BOUNCE && kind != RETURN_COMPLAINT) ||
        message_id_parse(bytes_first(token, MESSAGE_ID_CHARS), &t.id) != OK ||
        !parse_bits(bytes_mid(token, MESSAGE_ID_CHARS, NUMBER_CHARS), &number) ||
        !parse_bits(bytes_first(tail, DIGEST_CHARS / 2), &digest[0]) ||
        !parse_bits(bytes_skip(tail, DIGEST_CHARS / 2), &digest[1]))
        return RETURN_FOREIGN;
    t.recipient = (uint32_t)number & RETURN_RECIPIENT_MAX;
    t.several = number & SEVERAL;
    digest_of(key, &t, want);
    for (unsigned i = 0; i < DIGEST_CHARS; i++)
        have[i] = ascii_lower(tail.at[i]);
    if (!bytes_eq_secret(bytes_of(have, sizeof have), bytes_of(want, sizeof want)))
        return RETURN_FORGED;
    *out = t;
    return RETURN_GOOD;
}

bool return_token_search(const struct return_key *key, struct bytes text, struct return_token *out)
{
    unsigned looked = 0;
    while (text.len >= RETURN_LOCAL_CHARS && looked < SEARCHED_MAX) {
        ptrdiff_t dash = bytes_find(bytes_skip(text, 1), '-');
        if (dash == -1)
            return false;
        text = bytes_skip(text, (size_t)dash);
        enum return_verdict v = return_token_parse(key, bytes_first(text, RETURN_LOCAL_CHARS), out);
        if (v == RETURN_GOOD)
            return true;
        looked += v == RETURN_FORGED;
        text = bytes_skip(text, 1);
    }
    return false;
}
