// SPDX-License-Identifier: MIT
#include "intake/local_submit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "smtp/smtp_reply_parser.h"
#include "smtp/smtp_stuffer.h"

#define PIECE ((size_t)64 << 10)
#define GROUP 100 // commands in one piece: their replies fit into a socket's buffer

struct local_session {
    int fd;
    struct smtp_reply_parser parser;
    struct buf in, out, hostname;
};

// ---- answers -----------------------------------------------------------------------------------------------

static bool fail(struct local_answer *out, enum local_result result, const char *text)
{
    *out = (struct local_answer){.result = result};
    snprintf(out->text, sizeof out->text, "%s", text);
    return false;
}

static void take_reply(const struct smtp_reply *reply, struct local_answer *out)
{
    const struct smtp_enhanced *e = &reply->enhanced;
    *out = (struct local_answer){.code = reply->code};
    out->result = reply->code < 400 ? LOCAL_SENT : reply->code < 500 ? LOCAL_LATER : LOCAL_REFUSED;
    if (e->subject == 5 && e->detail == 3) // too many recipients will be too many tomorrow
        out->result = LOCAL_REFUSED;
    if (e->class)
        snprintf(out->enhanced, sizeof out->enhanced, "%u.%u.%u", e->class, e->subject, e->detail);
    snprintf(out->text, sizeof out->text, "%.*s", BYTES_FMT(reply->text));
}

// ---- the connection ----------------------------------------------------------------------------------------

static bool fail_connect(struct local_answer *out, int errno_value)
{
    switch (errno_value) {
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
    case ECONNRESET:
        return fail(out, LOCAL_DOWN, "the mail service is not running");
    case EACCES:
    case EPERM:
        return fail(out, LOCAL_DENIED, "no permission to use the mail service's socket");
    default:
        return fail(out, LOCAL_LATER, strerror(errno_value));
    }
}

int local_submit_connect(struct bytes socket_path, struct local_answer *out)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (!socket_path.len || socket_path.len >= sizeof addr.sun_path) {
        fail(out, LOCAL_DOWN, "sendmail.socket is not set: the mail service takes no mail here");
        return -1;
    }
    memcpy(addr.sun_path, socket_path.at, socket_path.len);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval timeout = {.tv_sec = LOCAL_SUBMIT_TIMEOUT_S};
    if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == -1 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == -1 ||
        connect(fd, (struct sockaddr *)&addr, sizeof addr) == -1) {
        fail_connect(out, errno);
        if (fd != -1)
            close(fd);
        return -1;
    }
    return fd;
}

static bool flush(struct local_session *s, struct local_answer *out)
{
    size_t sent = 0;
    while (sent < s->out.len) {
        ssize_t n = send(s->fd, s->out.at + sent, s->out.len - sent, MSG_NOSIGNAL);
        if (n == -1 && errno == EINTR)
            continue;
        if (n == -1)
            return fail(out, LOCAL_LATER, "the mail service ended the connection");
        sent += (size_t)n;
    }
    buf_clear(&s->out);
    return true;
}

static bool read_more(struct local_session *s, struct local_answer *out)
{
    char *room = buf_reserve(&s->in, 4096);
    ssize_t n;
    do
        n = recv(s->fd, room, 4096, 0);
    while (n == -1 && errno == EINTR);
    if (n == 0)
        return fail(out, LOCAL_LATER, "the mail service ended the connection");
    if (n == -1)
        return fail(out, LOCAL_LATER,
                    errno == EAGAIN ? "the mail service does not answer" : strerror(errno));
    buf_commit(&s->in, (size_t)n);
    return true;
}

// One reply, whatever it is. False: there is none.
static bool read_reply(struct local_session *s, struct local_answer *out)
{
    for (;;) {
        size_t used = 0;
        enum smtp_parse state = smtp_reply_parser_feed(&s->parser, buf_bytes(&s->in), &used);
        buf_consume(&s->in, used);
        if (state == SMTP_PARSE_BAD)
            return fail(out, LOCAL_LATER, "what serves the socket is no mail service");
        if (state == SMTP_PARSE_DONE) {
            take_reply(&s->parser.reply, out);
            return true;
        }
        if (!read_more(s, out))
            return false;
    }
}

// Sends what was written and reads one reply; true: it is the one that was hoped for.
static bool ask(struct local_session *s, int hoped_for, struct local_answer *out)
{
    return flush(s, out) && read_reply(s, out) && out->code / 100 == hoped_for;
}

struct bytes local_submit_hostname(const struct local_session *s)
{
    return buf_bytes(&s->hostname);
}

static bool greet(struct local_session *s, struct local_answer *out)
{
    if (!ask(s, 2, out))
        return false;
    buf_add_cstr(&s->out, "EHLO localhost\r\n");
    if (!ask(s, 2, out))
        return false;
    struct bytes text = s->parser.reply.text, name = BYTES_NONE,
                 word = BYTES_NONE; // its first line
    bytes_cut(&text, '\n', &name);
    bytes_cut(&name, ' ', &word);
    buf_clear(&s->hostname);
    buf_add(&s->hostname, word);
    return true;
}

struct local_session *local_submit_open(struct bytes socket_path, struct local_answer *out)
{
    int fd = local_submit_connect(socket_path, out);
    return fd == -1 ? NULL : local_submit_begin(fd, out);
}

struct local_session *local_submit_begin(int fd, struct local_answer *out)
{
    struct local_session *s = mem_new(sizeof *s);
    s->fd = fd;
    smtp_reply_parser_init(&s->parser);
    if (greet(s, out))
        return s;
    local_submit_close(s);
    return NULL;
}

bool local_submit_speak_for(struct local_session *s, uint32_t uid, struct local_answer *out)
{
    buf_printf(&s->out, "XCLIENT LOGIN=uid:%u\r\n", uid);
    return greet(s, out);
}

void local_submit_close(struct local_session *s)
{
    struct local_answer ignored;
    buf_clear(&s->out);
    buf_add_cstr(&s->out, "QUIT\r\n");
    (void)flush(s, &ignored);
    close(s->fd);
    smtp_reply_parser_done(&s->parser);
    buf_done(&s->in);
    buf_done(&s->out);
    buf_done(&s->hostname);
    free(s);
}

// ---- a message -----------------------------------------------------------------------------------------------

// Forgets what is begun; `out` stays as it is.
static bool reset(struct local_session *s)
{
    struct local_answer ignored;
    buf_add_cstr(&s->out, "RSET\r\n");
    (void)ask(s, 2, &ignored);
    return false;
}

// Asks for one group of recipients. False: the session broke, or one is refused; `told` has heard of all of them.
static bool offer_group(struct local_session *s, const struct local_message *m, size_t from,
                        size_t to,
                        void (*told)(struct bytes recipient, const struct local_answer *answer),
                        struct local_answer *out)
{
    bool all = true;
    for (size_t i = from; i < to; i++)
        buf_printf(&s->out, "RCPT TO:%.*s\r\n", BYTES_FMT(m->recipients[i]));
    if (!flush(s, out))
        return false;
    for (size_t i = from; i < to; i++) {
        struct local_answer one;
        if (!read_reply(s, &one)) { // cut off by what was refused before, that is the answer
            if (all)
                *out = one;
            return false;
        }
        if (told)
            told(m->recipients[i], &one);
        if (one.result != LOCAL_SENT && all) {
            all = false;
            *out = one;
            snprintf(out->about, sizeof out->about, "%.*s", BYTES_FMT(m->recipients[i]));
        }
    }
    return all;
}

static bool offer(struct local_session *s, const struct local_message *m,
                  void (*told)(struct bytes recipient, const struct local_answer *answer),
                  struct local_answer *out)
{
    bool all = true;
    buf_printf(&s->out, "MAIL FROM:%.*s\r\n", BYTES_FMT(m->sender));
    if (!ask(s, 2, out))
        return false;
    for (size_t i = 0; i < m->count && (all || told); i += GROUP)
        all = offer_group(s, m, i, i + GROUP < m->count ? i + GROUP : m->count, told, out) && all;
    return all;
}

// The service ends the connection of one that sends far too much; what it said before that is its answer.
static bool cut_short(struct local_session *s, struct local_answer *out)
{
    struct local_answer early;
    if (read_reply(s, &early) && early.result == LOCAL_REFUSED)
        *out = early;
    return false;
}

static bool send_content(struct local_session *s, const struct local_message *m,
                         struct local_answer *out)
{
    struct smtp_stuffer stuffer = {0};
    struct bytes piece = m->header;
    int err = OK;
    do {
        while (piece.len && !s->out.err) {
            smtp_stuffer_feed(&stuffer, bytes_first(piece, PIECE), &s->out);
            piece = bytes_skip(piece, PIECE);
            if (!flush(s, out))
                return cut_short(s, out);
        }
        err = m->next(m->ctx, &piece);
    } while (!err && piece.len);
    if (err == E_LIMIT)
        return fail(out, LOCAL_REFUSED, "the message is too large");
    if (err) // the content has no end: it is no message
        return fail(out, LOCAL_LATER, err_text(err));
    smtp_stuffer_end(&stuffer, &s->out);
    return ask(s, 2, out);
}

bool local_submit_send(struct local_session *s, const struct local_message *m,
                       struct local_answer *out)
{
    CHECK(m->count > 0);
    if (!offer(s, m, NULL, out))
        return reset(s);
    buf_add_cstr(&s->out, "DATA\r\n");
    return ask(s, 3, out) && send_content(s, m, out);
}

bool local_submit_verify(struct local_session *s, const struct local_message *m,
                         void (*told)(struct bytes recipient, const struct local_answer *answer),
                         struct local_answer *out)
{
    bool all = offer(s, m, told, out);
    reset(s);
    return all;
}
