// SPDX-License-Identifier: MIT
#include "api/unsubscribe_page.h"

static const char HEAD[] =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"robots\" content=\"noindex\">\n<title>%s</title>\n<style>\n"
    ":root { color-scheme: light dark; --ink: #1c1d21; --paper: #ffffff; --soft: #55585f; --act: "
    "#0b57d0; --on: #ffffff; }\n"
    "@media (prefers-color-scheme: dark) { :root { --ink: #ececf0; --paper: #17181b; --soft: "
    "#a9adb6; --act: #8ab4f8; --on: #10131a; } }\n"
    "body { margin: 0; background: var(--paper); color: var(--ink); font: 1.125rem/1.55 system-ui, "
    "sans-serif; }\n"
    "main { max-width: 34rem; margin: 12vh auto; padding: 0 1.5rem; }\n"
    "h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 1rem; }\n"
    "p { margin: 0 0 1.25rem; overflow-wrap: anywhere; }\n.soft { color: var(--soft); }\n"
    "button { display: block; width: 100%%; min-height: 3rem; margin: 0 0 .75rem; padding: .7rem "
    "1rem; border-radius: .5rem; "
    "border: 2px solid var(--act); background: var(--act); color: var(--on); font: inherit; "
    "font-weight: 600; cursor: pointer; }\n"
    "button.second { background: transparent; color: var(--act); }\n"
    "button:focus-visible { outline: 3px solid var(--ink); outline-offset: 3px; }\n"
    "</style>\n</head>\n<body>\n<main>\n<h1>%s</h1>\n";

static const struct {
    const char *title, *text; // NULL: made below
} PAGES[] = {
    [UNSUBSCRIBE_PAGE_ASK] = {"Unsubscribe?", NULL},
    [UNSUBSCRIBE_PAGE_DONE] = {"You are unsubscribed", NULL},
    [UNSUBSCRIBE_PAGE_DONE_STREAM] = {"You are unsubscribed", NULL},
    [UNSUBSCRIBE_PAGE_UNKNOWN] = {"This link does not work",
                                  "It may be incomplete. Open it again from the message, or use "
                                  "the unsubscribe button of your mail program."},
    [UNSUBSCRIBE_PAGE_LATER] = {"Not just now",
                                "This could not be done. Please open the link in the "
                                "message again in a few minutes."},
};

static void add_html(struct buf *out, struct bytes text)
{
    static const struct {
        char c;
        const char *as;
    } ESCAPES[] = {{'<', "&lt;"}, {'>', "&gt;"}, {'&', "&amp;"}, {'"', "&quot;"}, {'\'', "&#39;"}};
    for (size_t i = 0; i < text.len; i++) {
        const char *as = NULL;
        for (size_t k = 0; k < sizeof ESCAPES / sizeof *ESCAPES; k++)
            as = text.at[i] == ESCAPES[k].c ? ESCAPES[k].as : as;
        if (as)
            buf_add_cstr(out, as);
        else if ((unsigned char)text.at[i] >= ' ' && text.at[i] != 0x7f)
            buf_add_byte(out, text.at[i]);
    }
}

// "r…@example.org"
static void add_address(struct buf *out, struct bytes address)
{
    ptrdiff_t at = bytes_find_last(address, '@');
    size_t first = bytes_utf8_len(address);
    if (at < 0 || !bytes_is_utf8(address)) {
        buf_add_cstr(out, "your address");
        return;
    }
    buf_add_cstr(out, "<strong>");
    add_html(out, bytes_first(address, first < (size_t)at ? first : (size_t)at));
    buf_add_cstr(out, "\xe2\x80\xa6\xe2\x81\xa0"); // an ellipsis, and no line break behind it
    add_html(out, bytes_skip(address, (size_t)at));
    buf_add_cstr(out, "</strong>");
}

static void add_sender(struct buf *out, const struct unsubscribe_token *t)
{
    if (t->sender.len == 0) {
        buf_add_cstr(out, "this sender");
        return;
    }
    buf_add_cstr(out, "<strong>");
    add_html(out, t->sender);
    buf_add_cstr(out, "</strong>");
}

static void add_question(struct buf *out, const struct unsubscribe_token *t)
{
    buf_add_cstr(out, "<p>Stop mail from ");
    add_sender(out, t);
    buf_add_cstr(out, " to ");
    add_address(out, t->address);
    buf_add_cstr(out, "?</p>\n<form method=\"post\">\n");
    if (t->tag.len) {
        buf_add_cstr(out,
                     "<button name=\"scope\" value=\"stream\">Unsubscribe from this list</button>\n"
                     "<button class=\"second\" name=\"scope\" value=\"account\">Unsubscribe from "
                     "everything this sender sends</button>\n");
    } else {
        buf_add_cstr(out, "<button name=\"scope\" value=\"account\">Unsubscribe</button>\n");
    }
    buf_add_cstr(out, "</form>\n<p class=\"soft\">Nothing changes until you press a button.</p>\n");
}

static void add_result(struct buf *out, const struct unsubscribe_token *t, bool stream_only)
{
    buf_add_cstr(out, "<p role=\"status\">");
    add_address(out, t->address);
    buf_add_cstr(out, stream_only ? " will get no more mail of this list from "
                                  : " will get no more mail from ");
    add_sender(out, t);
    buf_add_cstr(out,
                 ".</p>\n<p class=\"soft\">What is on its way already may still arrive.</p>\n");
    if (stream_only)
        buf_add_cstr(out, "<form method=\"post\">\n<button class=\"second\" name=\"scope\" "
                          "value=\"account\">Unsubscribe from everything this sender sends"
                          "</button>\n</form>\n");
}

void unsubscribe_page_format(enum unsubscribe_page page, const struct unsubscribe_token *token,
                             struct buf *out)
{
    buf_printf(out, HEAD, PAGES[page].title, PAGES[page].title);
    if (PAGES[page].text)
        buf_add_all(out, BYTES("<p>"), bytes_cstr(PAGES[page].text), BYTES("</p>\n"));
    else if (page == UNSUBSCRIBE_PAGE_ASK)
        add_question(out, token);
    else
        add_result(out, token, page == UNSUBSCRIBE_PAGE_DONE_STREAM);
    buf_add_cstr(out, "</main>\n</body>\n</html>\n");
}
