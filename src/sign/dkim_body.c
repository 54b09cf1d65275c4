// SPDX-License-Identifier: MIT
#include "sign/dkim_body.h"

#include <stdatomic.h>

#include "base/check.h"

const EVP_MD *dkim_sha256(void)
{
    static _Atomic(EVP_MD *) found;
    EVP_MD *md = atomic_load_explicit(&found, memory_order_acquire);
    if (md)
        return md;
    EVP_MD *mine = EVP_MD_fetch(NULL, "SHA256", NULL);
    CHECK(mine != NULL);
    if (atomic_compare_exchange_strong(&found, &md, mine))
        return mine;
    EVP_MD_free(mine); // another thread was first
    return md;
}

static void hash(void *ctx, struct bytes piece)
{
    struct dkim_body *b = ctx;
    if (b->total < b->limit)
        CHECK(EVP_DigestUpdate(b->sha256, piece.at, bytes_first(piece, b->limit - b->total).len) ==
              1);
    b->total += piece.len;
}

void dkim_body_init(struct dkim_body *b, enum dkim_canon canon)
{
    dkim_canon_body_init(&b->canon, canon, hash, b);
    b->sha256 = EVP_MD_CTX_new();
    b->limit = UINT64_MAX;
    b->total = 0;
    CHECK(b->sha256 && EVP_DigestInit_ex(b->sha256, dkim_sha256(), NULL) == 1);
}

void dkim_body_feed(struct dkim_body *b, struct bytes piece)
{
    dkim_canon_body_feed(&b->canon, piece);
}

void dkim_body_finish(struct dkim_body *b, uint8_t out[DKIM_HASH_BYTES])
{
    dkim_canon_body_finish(&b->canon);
    CHECK(EVP_DigestFinal_ex(b->sha256, out, NULL) == 1);
    dkim_body_done(b);
}

void dkim_body_done(struct dkim_body *b)
{
    EVP_MD_CTX_free(b->sha256);
    b->sha256 = NULL;
}
