// SPDX-License-Identifier: MIT
//
// A header's verdict does not change by what follows it, and none but its last octet ends it.
#include "base/check.h"
#include "net/net_proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct net_proxy_header header, again;
    size_t used, used_again;
    struct bytes in = bytes_of(data, size);
    enum net_proxy_step step = net_proxy_parse(in, &header, &used);
    if (step == NET_PROXY_MORE)
        CHECK(size < NET_PROXY_V2_MAX && used == 0);
    if (step != NET_PROXY_DONE)
        return 0;
    CHECK(used > 0 && used <= size && used <= NET_PROXY_V2_MAX);
    CHECK(net_proxy_parse(bytes_first(in, used), &again, &used_again) == NET_PROXY_DONE);
    CHECK(used == used_again && header.whose == again.whose &&
          sys_addr_eq(&header.source, &again.source));
    CHECK((header.whose == NET_PROXY_CLIENT) == (header.source.kind != SYS_ADDR_NONE));
    CHECK(net_proxy_parse(bytes_first(in, used - 1), &again, &used_again) == NET_PROXY_MORE);
    return 0;
}
