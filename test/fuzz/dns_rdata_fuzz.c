// SPDX-License-Identifier: MIT
//
// The first byte chooses the type; the rest is one record's rdata. Whatever is accepted holds what
// the header promises.
#include <stdlib.h>

#include "base/check.h"
#include "dns/dns_rdata.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_name(struct bytes name)
{
    CHECK(name.len <= DNS_NAME_MAX);
    CHECK(name.len == 0 || dns_name_is_valid(name));
    for (size_t i = 0; i < name.len; i++)
        CHECK(ascii_lower(name.at[i]) == name.at[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dns_type types[] = {DNS_A,   DNS_CNAME, DNS_PTR, DNS_MX,
                                          DNS_TXT, DNS_AAAA,  DNS_TLSA};
    if (size == 0)
        return 0;
    enum dns_type type = types[data[0] % COUNT_OF(types)];
    struct arena arena = {0};
    struct dns_record record;
    if (dns_rdata_parse(type, bytes_of(data + 1, size - 1), &arena, &record) == OK) {
        CHECK(record.type == type && size > 1);
        check_name(record.name);
        CHECK(record.text.len <= DNS_TEXT_MAX);
    }
    arena_done(&arena);
    (void)dns_name_is_valid(bytes_of(data, size));
    return 0;
}
