// SPDX-License-Identifier: MIT
//
// sink_address - HOST:PORT on a command line: as an address, and as a listening socket
#pragma once

#include "sys/sys.h"

// An address as sys_addr_parse() takes it, or a name that the system resolves. E_SYNTAX,
// E_NOT_FOUND.
int sink_address_parse(const char *text, struct sys_addr *out) MUST_USE;
// Binds and listens; *address is what the kernel chose for port 0. E_BUSY, E_DENIED, E_IO.
int sink_address_listen(struct sys_addr *address, int *out_fd) MUST_USE;
