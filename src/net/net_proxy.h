// SPDX-License-Identifier: MIT
//
// net_proxy - the header by which a proxy says for whom it connects: PROXY protocol, version 1 and 2
//
//   v1 = "PROXY" SP ( "UNKNOWN" *any / ("TCP4" / "TCP6") SP ip SP ip SP port SP port ) CRLF
//   v2 = 12 octets of signature, version and command, family and transport, length (2), then the addresses and TLVs
//
// The text is HAProxy's proxy-protocol.txt (2020/03/05), sections 2.1 and 2.2. A header that is not whole is asked
// for again, whole, with what has come meanwhile. TLVs are skipped, whatever is in them.
//
// Limits:   NET_PROXY_V1_MAX octets, CRLF included; NET_PROXY_V2_MAX.
#pragma once

#include "sys/sys.h"

#define NET_PROXY_V1_MAX 107
#define NET_PROXY_V2_HEAD 16                        // octets before the addresses
#define NET_PROXY_V2_MAX (NET_PROXY_V2_HEAD + 4096) // with addresses and TLVs

enum net_proxy_step { NET_PROXY_DONE, NET_PROXY_MORE, NET_PROXY_BAD };

enum net_proxy_whose {
    NET_PROXY_CLIENT,  // of the client at `source`
    NET_PROXY_OWN,     // the proxy's own (LOCAL): a health check
    NET_PROXY_NOBODYS, // of somebody whose address the proxy does not say (UNKNOWN)
};

struct net_proxy_header {
    enum net_proxy_whose whose;
    struct sys_addr source, destination; // of CLIENT; IPv4-mapped ones are IPv4
    const char *why;                     // BAD: what is wrong; static
};

// Reads the header that `in` begins with. DONE: *out_used octets of it are the header. MORE: so far it is one.
enum net_proxy_step net_proxy_parse(struct bytes in, struct net_proxy_header *out,
                                    size_t *out_used) MUST_USE;
