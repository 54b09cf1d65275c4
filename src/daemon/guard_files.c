// SPDX-License-Identifier: MIT
#include "daemon/guard_files.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/map.h"
#include "daemon/channel.h"
#include "net/net_tls.h"

static const char *system_bundle(void)
{
    const char *path = net_tls_system_bundle();
    return path ? path : "";
}

const char *guard_files_authorities(const struct conf *conf)
{
    for (uint32_t i = 0; i < conf->routes_count; i++)
        if (conf->routes[i].tls == CONF_ROUTE_TLS_VERIFY)
            return conf->tls.authorities.len ? conf->tls.authorities.at : system_bundle();
    return NULL;
}

// A file that is not there is not sent; one that may not be read is sent without a descriptor.
static int send_file(int channel, struct map *sent, struct bytes path)
{
    if (!path.len || map_set(sent, path, sent))
        return OK;
    int fd = open(path.at, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO must not hang us
    if (fd == -1 && errno != EACCES && errno != EPERM)
        return OK;
    int err = channel_send(channel, CHANNEL_FILE, path, fd);
    if (fd != -1)
        close(fd);
    return err;
}

int guard_files_send(int channel, const struct conf *conf)
{
    struct map sent = {0};
    int err = send_file(channel, &sent, bytes_cstr(guard_files_authorities(conf)));
    if (!err)
        err = send_file(channel, &sent, conf->tls.client_authorities);
    if (!err)
        err = send_file(channel, &sent, conf->bounce.rules);
    for (uint32_t i = 0; i < conf->routes_count && !err; i++) {
        err = send_file(channel, &sent, conf->routes[i].recipients);
        if (!err)
            err = send_file(channel, &sent, conf->routes[i].password_file);
    }
    map_done(&sent);
    return err;
}
