// SPDX-License-Identifier: MIT
//
// sys_watch - told when a descriptor of a library's own becomes readable
//
// Only in sys_uv: for libraries that do their own I/O behind a port (the resolver). The simulator
// has twins of the ports instead.
#pragma once

#include "sys/sys.h"

struct sys_watch;
// Watches fd (borrowed) on the current loop; on_readable again and again while it is readable.
struct sys_watch *sys_watch_open(int fd, void (*on_readable)(void *ctx), void *ctx);
// To be closed before the fd is. A loop that stops closes its watches.
void sys_watch_close(struct sys_watch *w);
