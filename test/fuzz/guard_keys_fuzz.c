// SPDX-License-Identifier: MIT
//
// What the guard reads of the relay: any datagram gets no answer, a refusal, or a signature for a digest; nothing
// that is signed by ECDSA is longer than one.
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "daemon/guard_keys.h"
#include "net/tls_certificate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct guard_keys keys;

static void make_keys(void)
{
    char reason[NET_TLS_REASON];
    struct buf certificate = {0}, key = {0};
    uint32_t number;
    CHECK(tls_certificate_make(BYTES("mx.example"), &certificate, &key) == OK);
    CHECK(guard_keys_add(&keys, buf_bytes(&certificate), buf_bytes(&key), &number, reason) == OK);
    buf_done(&certificate);
    buf_done(&key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!keys.last_number)
        make_keys();
    struct sign_wire_answer answer;
    struct sign_wire_request r = {0};
    size_t head = offsetof(struct sign_wire_request, input);
    size_t n = guard_keys_answer(&keys, bytes_of(data, size), &answer);
    memcpy(&r, data, size < sizeof r ? size : sizeof r);
    CHECK(n == 0 || n == offsetof(struct sign_wire_answer, signature) + answer.len);
    CHECK(n == 0 || (size == head + r.len && answer.id == r.id));
    if (n && answer.len)
        CHECK(r.key == 1 && r.kind == NET_SIGN_ECDSA && r.len >= 20 && r.len <= 64);
    return 0;
}
