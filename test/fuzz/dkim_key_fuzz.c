// SPDX-License-Identifier: MIT
// A key record that is good is good again as we write it, with the same key in it.
#include "base/check.h"
#include "sign/dkim_key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dkim_key key, again;
    struct buf text = {0};
    if (dkim_key_parse(bytes_of(data, size), &key) != DKIM_KEY_GOOD) {
        CHECK(key.key == NULL);
        return 0;
    }
    CHECK(dkim_key_format(key.key, &text) == OK);
    CHECK(dkim_key_parse(buf_bytes(&text), &again) == DKIM_KEY_GOOD);
    CHECK(again.algorithm == key.algorithm && again.bits == key.bits);
    CHECK(EVP_PKEY_eq(key.key, again.key) == 1);
    dkim_key_done(&again);
    dkim_key_done(&key);
    buf_done(&text);
    return 0;
}
