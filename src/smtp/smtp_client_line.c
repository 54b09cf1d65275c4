// SPDX-License-Identifier: MIT
//
// smtp_client_line - tells the dialogue, without its secrets
#include "smtp/smtp_client_private.h"

#define HIDDEN BYTES("***")
#define SECRET_MIN 8 // letters of a word that may be one in base64

static void tell(const struct smtp_client *c, enum smtp_client_line kind, uint64_t number,
                 struct bytes text)
{
    c->handlers->on_line(c->ctx, kind, number, text);
}

// "AUTH PLAIN xyz" keeps its mechanism; an answer to a challenge nothing.
static void tell_auth(const struct smtp_client *c, struct bytes line)
{
    struct bytes verb, mechanism;
    char shown[64];
    if (!bytes_cut(&line, ' ', &verb) || !bytes_eq(verb, BYTES("AUTH"))) {
        tell(c, SMTP_LINE_SENT, 0, HIDDEN);
        return;
    }
    bool has_answer = bytes_find(line, ' ') >= 0;
    struct buf text = {0};
    (void)bytes_cut(&line, ' ', &mechanism);
    buf_add_all(&text, BYTES("AUTH "), mechanism, has_answer ? BYTES(" ***") : BYTES_NONE);
    struct bytes kept = bytes_first(buf_bytes(&text), sizeof shown);
    memcpy(shown, kept.at, kept.len);
    buf_done(&text);
    tell(c, SMTP_LINE_SENT, 0, bytes_of(shown, kept.len));
}

void client_tell_sent(const struct smtp_client *c, size_t from)
{
    if (!c->handlers->on_line || c->out.len < from + 2)
        return;
    struct bytes line = bytes_mid(buf_bytes(&c->out), from, c->out.len - from - 2);
    if (c->sasl)
        tell_auth(c, line);
    else
        tell(c, SMTP_LINE_SENT, 0, line);
}

// Servers repeat what they were sent: in base64 it has digits or letters of both kinds in disorder, as words have not.
static bool may_be_secret(struct bytes word)
{
    bool odd = false;
    for (size_t i = 0; i < word.len; i++) {
        char c = word.at[i];
        bool upper = c >= 'A' && c <= 'Z', after_lower = i > 0 && word.at[i - 1] >= 'a';
        odd = odd || (c >= '0' && c <= '9') || c == '=' || c == '+' || (upper && after_lower);
    }
    return odd && word.len >= SECRET_MIN && !bytes_starts(word, BYTES("http"));
}

static void hide_words(struct bytes text, struct buf *out)
{
    while (text.len) {
        size_t n = 0;
        while (n < text.len && text.at[n] != ' ' && text.at[n] != '\n')
            n++;
        struct bytes word = bytes_first(text, n);
        buf_add(out, may_be_secret(word) ? HIDDEN : word);
        if (n < text.len)
            buf_add_byte(out, text.at[n++]);
        text = bytes_skip(text, n);
    }
}

static void add_enhanced(const struct smtp_enhanced *e, struct buf *out)
{
    const unsigned parts[] = {e->class, e->subject, e->detail};
    for (size_t i = 0; i < 3 && e->class; i++) {
        buf_add_u64(out, parts[i]);
        buf_add_byte(out, i < 2 ? '.' : ' ');
    }
}

void client_tell_reply(const struct smtp_client *c, enum smtp_step step,
                       const struct smtp_reply *reply)
{
    struct bytes password = c->config->password;
    struct buf text = {0};
    if (!c->handlers->on_line)
        return;
    add_enhanced(&reply->enhanced, &text);
    if (password.len && bytes_search(reply->text, password) >= 0)
        buf_add(&text, HIDDEN);
    else if (step == SMTP_STEP_AUTH && reply->code < 400)
        buf_add(&text, HIDDEN); // a challenge, or the server's own proof
    else if (step == SMTP_STEP_AUTH)
        hide_words(reply->text, &text);
    else
        buf_add(&text, reply->text);
    tell(c, SMTP_LINE_REPLY, reply->code, buf_bytes(&text));
    buf_done(&text);
}
