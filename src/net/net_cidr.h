// SPDX-License-Identifier: MIT
//
// net_cidr - is an address in a network of the configuration?
#pragma once

#include "conf/conf.h"
#include "sys/sys.h"

// An IPv4-mapped network (::ffff:192.0.2.0/120) has the IPv4 addresses that it maps. Never a Unix
// socket.
bool net_cidr_has(const struct conf_cidr *cidr, const struct sys_addr *addr);
// One of several.
bool net_cidr_any_has(const struct conf_cidr *cidrs, size_t count, const struct sys_addr *addr);
