// SPDX-License-Identifier: MIT
//
// sendmail - the command as other programs know it: a message from standard input goes to the running service
//
// Options are those of Postfix's sendmail(1); what means nothing here is taken and ignored. The exit code is one of
// sysexits. While the service is down the message goes to the pickup folder, where there is one.
#pragma once

#include "base/arena.h"
#include "base/buf.h"
#include "conf/conf.h"
#include "intake/local_submit.h"

#define SENDMAIL_SOCKET "/run/posthaste/submit.sock" // where the configuration can't be read
#define SENDMAIL_PICKUP "/var/spool/posthaste-pickup"
#define SENDMAIL_CONTROL "/run/posthaste/control.sock"
#define SENDMAIL_BODY_KEPT ((size_t)1 << 20) // of a body in memory; more goes to a temporary file

enum sendmail_mode {
    SENDMAIL_SEND,
    SENDMAIL_SMTP,    // -bs
    SENDMAIL_VERIFY,  // -bv
    SENDMAIL_LIST,    // -bp
    SENDMAIL_ALIASES, // -bi, -I
    SENDMAIL_DAEMON,  // -bd
    SENDMAIL_RETRY,   // -q
    SENDMAIL_NOTHING,
};

struct sendmail {
    enum sendmail_mode mode;
    bool dot_is_text;     // -i: a line of one dot does not end the message
    bool take_recipients; // -t
    bool verbose;
    const char *sender;     // -f, -r; NULL: who runs it
    const char *full_name;  // -F; NULL: $NAME or that of the user database
    const char *notify;     // -N, as NOTIFY= has it; NULL: not given
    const char *ret;        // -R
    const char *envid;      // -V, as given
    const char *config;     // -C
    const char *retry_what; // -qR, -qI: "--domain", "--id"; NULL: all
    const char *retry_value;
    int recipients_count;
    char **recipients;
};

// Reads the options. Returns 0, or EX_USAGE after a word on standard error.
int sendmail_parse(int argc, char **argv, struct sendmail *out);

// Where mail is handed over, of the configuration if this user may read it.
struct sendmail_places {
    struct bytes socket, pickup, hostname; // empty: none
    struct bytes control;
};
// EX_CONFIG only where `config` was asked for and is none.
int sendmail_find_places(const char *config, struct arena *arena, struct sendmail_places *out);

// Writes a message into the pickup folder, durably: tried when the service runs again. `header` and body as
// local_submit has them. Fails with a sentence in `why`.
int sendmail_drop(struct bytes pickup, const struct local_message *m, struct buf *why) MUST_USE;

// Runs what was asked for; returns the exit code.
int sendmail_run(const struct sendmail *options);
