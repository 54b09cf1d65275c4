// SPDX-License-Identifier: MIT
#include "mail/bounce_reason.h"

#include "base/check.h"

static const char *const NAMES[BOUNCE_REASONS] = {
    [BOUNCE_NONE] = "",
    [BOUNCE_USER_UNKNOWN] = "user-unknown",
    [BOUNCE_MAILBOX_FULL] = "mailbox-full",
    [BOUNCE_MAILBOX_DISABLED] = "mailbox-disabled",
    [BOUNCE_HOST_UNKNOWN] = "host-unknown",
    [BOUNCE_MESSAGE_TOO_LARGE] = "message-too-large",
    [BOUNCE_SPAM] = "spam",
    [BOUNCE_POLICY] = "policy",
    [BOUNCE_AUTHENTICATION] = "authentication",
    [BOUNCE_REPUTATION] = "reputation",
    [BOUNCE_RATE_LIMITED] = "rate-limited",
    [BOUNCE_RELAYING_DENIED] = "relaying-denied",
    [BOUNCE_CONTENT] = "content",
    [BOUNCE_NETWORK] = "network",
    [BOUNCE_TLS] = "tls",
    [BOUNCE_PROTOCOL] = "protocol",
    [BOUNCE_EXPIRED] = "expired",
    [BOUNCE_SYSTEM] = "system",
    [BOUNCE_SUSPENDED] = "suspended",
    [BOUNCE_MOVED] = "moved",
    [BOUNCE_COMPLAINT] = "complaint",
    [BOUNCE_VACATION] = "vacation",
    [BOUNCE_DELIVERED] = "delivered",
    [BOUNCE_OTHER] = "other",
};

const char *bounce_reason_name(enum bounce_reason reason)
{
    return (unsigned)reason < BOUNCE_REASONS ? NAMES[reason] : "";
}

int bounce_reason_parse(struct bytes text, enum bounce_reason *out)
{
    for (unsigned i = BOUNCE_NONE + 1; i < BOUNCE_REASONS; i++) {
        if (bytes_eq(text, bytes_cstr(NAMES[i]))) {
            *out = (enum bounce_reason)i;
            return OK;
        }
    }
    return E_SYNTAX;
}

bool bounce_reason_is_about_address(enum bounce_reason reason)
{
    return reason == BOUNCE_USER_UNKNOWN || reason == BOUNCE_MAILBOX_DISABLED ||
           reason == BOUNCE_HOST_UNKNOWN || reason == BOUNCE_MOVED;
}
