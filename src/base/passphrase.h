// SPDX-License-Identifier: MIT
//
// passphrase - none: what OpenSSL's PEM readers are given as their callback
//
// Without it OpenSSL asks the terminal for the passphrase of an encrypted key. With it such a key is one that can't be
// read.
#pragma once

static inline int no_passphrase(char *out, int max, int writing, void *arg)
{
    (void)out, (void)max, (void)writing, (void)arg;
    return 0;
}
