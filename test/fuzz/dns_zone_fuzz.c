// SPDX-License-Identifier: MIT
// A zone file is read or refused with a sentence; what is read answers every type.
#include "base/check.h"
#include "dns/dns_zone.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dns_type types[] = {DNS_A,   DNS_CNAME, DNS_PTR, DNS_MX,
                                          DNS_TXT, DNS_AAAA,  DNS_TLSA};
    struct dns_zone *zone;
    struct buf error = {0};
    struct arena arena = {0};
    struct dns_answer answer;
    if (dns_zone_parse(bytes_of(data, size), &zone, &error) == OK)
        for (size_t i = 0; i < COUNT_OF(types); i++) {
            dns_zone_answer(zone, BYTES("a"), types[i], &arena, &answer);
            CHECK((answer.count > 0) == (answer.code == DNS_OK));
        }
    else
        CHECK(zone == NULL && error.len > 0);
    dns_zone_free(zone);
    arena_done(&arena);
    buf_done(&error);
    return 0;
}
