// SPDX-License-Identifier: MIT
//
// sys_sockaddr - our addresses as the kernel's, and back
#pragma once

#include <sys/socket.h>

#include "sys/sys.h"

// Fills *out; returns its length, 0 for SYS_ADDR_NONE.
socklen_t sys_addr_to_sockaddr(const struct sys_addr *addr, struct sockaddr_storage *out);
// IPv4-mapped IPv6 becomes IPv4; an unknown family SYS_ADDR_NONE; an unnamed Unix socket has an
// empty path.
void sys_addr_from_sockaddr(const struct sockaddr_storage *from, socklen_t len,
                            struct sys_addr *out);
