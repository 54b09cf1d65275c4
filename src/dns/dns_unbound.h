// SPDX-License-Identifier: MIT
//
// dns_unbound - beyond the port: what only tests of the libunbound side call
#pragma once

#include "dns/dns.h"

// What the watchdog does when the resolver's thread hangs: questions under way are answered
// DNS_SERVFAIL and a new context takes over. On the resolver's loop. The old context is never
// freed.
void dns_unbound_rebuild(struct dns *dns);
