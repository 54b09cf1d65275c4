// SPDX-License-Identifier: MIT
//
// guard_sockets - bound, listening sockets kept by name and address across reloads
//
// Owner:    the guard owns the descriptors; the relay gets duplicates.
// Fails:    guard_sockets_open() logs each listener that cannot be opened, with what to do, adds a line for each to
//           `errors`, and returns
//           E_BUSY (address in use), E_DENIED (port below 1024 without permission) or E_IO.
#pragma once

#include "conf/conf.h"
#include "sys/sys.h"

#define GUARD_SOCKETS_MAX 256
#define GUARD_SOCKET_UNSUBSCRIBE "/unsubscribe" // no name of a listener

struct guard_socket {
    char name[64]; // the listener's; "" for HTTP; GUARD_SOCKET_UNSUBSCRIBE
    char asked
        [SYS_ADDR_TEXT]; // as configured: a socket is kept while this and any_family stay the same
    bool any_family;     // as "*:PORT"
    bool family_untold;  // any_family is not known: it is that of the first who asks for the rest
    struct sys_addr address; // as bound: the port that the kernel chose for 0
    int fd;
    bool wanted; // still in the configuration
};

static inline bool guard_socket_is_http(const struct guard_socket *s)
{
    return !s->name[0] || s->name[0] == '/';
}

struct guard_sockets {
    struct guard_socket at[GUARD_SOCKETS_MAX];
    int count;
};

// Opens what `conf` names and is not open yet; `wanted` says which are its. The others stay open, until it is known
// that they are not needed again: guard_sockets_settle(). On failure all is as it was before. With `running` those for
// HTTP stay what they are: the relay takes them at its start only.
// An address that only a socket of ours is in the way of, which is not wanted any more, is opened beside it.
int guard_sockets_open(struct guard_sockets *sockets, const struct conf *conf, bool running,
                       struct buf *errors) MUST_USE;
// Leaves the sockets to the program that this process becomes by exec: a text for guard_sockets_take(). E_IO.
struct buf;
int guard_sockets_leave(const struct guard_sockets *sockets, struct buf *out) MUST_USE;
// Takes that back: it stays this program.
void guard_sockets_keep(const struct guard_sockets *sockets);
// Takes over what the text names; what is no listening socket of ours is left alone, with a warning.
void guard_sockets_take(struct guard_sockets *sockets, struct bytes text);
// Takes over `count` sockets from descriptor `first` on that a service manager has opened (sd_listen_fds(3)), for whom
// `conf` gives their addresses to; the others are closed by guard_sockets_settle(), with a warning.
void guard_sockets_take_activated(struct guard_sockets *sockets, int first, int count);
// Back to `conf`, whose sockets are all still open: closes the others.
void guard_sockets_revert(struct guard_sockets *sockets, const struct conf *conf);
// Closes what is not wanted.
void guard_sockets_settle(struct guard_sockets *sockets);
void guard_sockets_close(struct guard_sockets *sockets);
