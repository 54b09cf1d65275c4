// SPDX-License-Identifier: MIT
//
// guard_users - the users of this host that the configuration names
//
// Only the guard can ask: it has the host's name services, the relay has not.
#pragma once

#include "conf/conf.h"

// E_NOT_FOUND: there is no such `user`; `errors` gets it, with its place in the file.
int guard_users_check(const struct conf *conf, struct buf *errors) MUST_USE;
// Sends what each name in sendmail.accounts stands for, CHANNEL_USER; a name that nobody has is logged, and is nobody's.
int guard_users_send(int channel, const struct conf *conf) MUST_USE;
// Takes a text that guard_users_send() sent into the configuration; before anybody reads that.
void guard_users_take(struct conf *conf, struct bytes text);
