// SPDX-License-Identifier: MIT
#include "daemon/guard_users.h"

#include <pwd.h>
#include <stdio.h>

#include "base/log.h"
#include "conf/conf_yaml.h"
#include "daemon/channel.h"

int guard_users_check(const struct conf *conf, struct buf *errors)
{
    if (!conf->user.len || getpwnam(conf->user.at))
        return OK;
    conf_error_format(conf, conf_node_place(conf_node_find(conf->given, "user")), errors,
                      "user: there is no user %.*s", BYTES_FMT(conf->user));
    return E_NOT_FOUND;
}

int guard_users_send(int channel, const struct conf *conf)
{
    for (uint32_t i = 0; i < conf->sendmail.accounts_count; i++) {
        const struct conf_user *u = &conf->sendmail.accounts[i];
        if (u->is_any || u->has_uid)
            continue;
        const struct passwd *found = getpwnam(u->user.at);
        if (!found) {
            log_warn("sendmail.accounts names a user that this host does not have",
                     LOG_STR("user", u->user), LOG_STR("account", u->account));
            continue;
        }
        char text[128];
        int len = snprintf(text, sizeof text, "%u %u", i, (unsigned)found->pw_uid);
        int err = channel_send(channel, CHANNEL_USER, bytes_of(text, (size_t)len), -1);
        if (err)
            return err;
    }
    return OK;
}

void guard_users_take(struct conf *conf, struct bytes text)
{
    struct bytes row;
    uint64_t i, uid;
    bool ok = bytes_cut(&text, ' ', &row) && bytes_to_u64(row, UINT32_MAX, &i) == OK &&
              bytes_to_u64(text, UINT32_MAX, &uid) == OK && i < conf->sendmail.accounts_count;
    if (!ok)
        return;
    conf->sendmail.accounts[i].has_uid = true;
    conf->sendmail.accounts[i].uid = (uint32_t)uid;
}
