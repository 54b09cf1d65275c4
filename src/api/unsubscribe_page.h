// SPDX-License-Identifier: MIT
//
// unsubscribe_page - what people see who follow a link to unsubscribe
//
// One HTML page without script, pictures or anything from elsewhere; read well by screen readers, on small screens and
// in the dark. The address is shown in part only: whoever was forwarded the mail has the link, too.
#pragma once

#include "bounce/unsubscribe_token.h"

enum unsubscribe_page {
    UNSUBSCRIBE_PAGE_ASK,         // the button, two if there is a stream
    UNSUBSCRIBE_PAGE_DONE,        // no more mail of this sender
    UNSUBSCRIBE_PAGE_DONE_STREAM, // no more of this stream
    UNSUBSCRIBE_PAGE_UNKNOWN,     // the link is not one of ours
    UNSUBSCRIBE_PAGE_LATER,       // not now
};

// `token` is for the first three. Appends the page.
void unsubscribe_page_format(enum unsubscribe_page page, const struct unsubscribe_token *token,
                             struct buf *out);
