// SPDX-License-Identifier: MIT
//
// guard_users - which user ids the names in sendmail.accounts stand for
//
// Only the guard can ask: it has the host's name services, the relay has not.
#pragma once

#include "conf/conf.h"

// Sends what each name stands for, CHANNEL_USER; a name that nobody has is logged, and is nobody's.
int guard_users_send(int channel, const struct conf *conf) MUST_USE;
// Takes a text that guard_users_send() sent into the configuration; before anybody reads that.
void guard_users_take(struct conf *conf, struct bytes text);
