// SPDX-License-Identifier: MIT
//
// How it works: standard input is read to its end first, header to memory, a large body to a temporary file; only then
// is the service asked, so that one that is slow to write holds no session, and what could not be handed over can be
// dropped whole.
#include "cli/sendmail.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/check.h"
#include "cli/cli_commands.h"
#include "intake/local_input.h"
#include "mail/mail_encode.h"
#include "mail/mail_local.h"
#include "smtp/smtp_xtext.h"

#define MESSAGE_MAX ((uint64_t)4 << 30) // the service's own limit is smaller
#define ENVID_MAX 100                   // RFC 3461 4.4
#define PIECE ((size_t)64 << 10)
#define LAST_WORD_MS 60000 // for the answers to what was said before standard input ended

static int complain(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int complain(int code, const char *format, ...)
{
    char text[2048];
    struct buf shown = {0};
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_add_visible(&shown, bytes_cstr(text), sizeof text);
    fprintf(stderr, "sendmail: %s\n", buf_cstr(&shown));
    buf_done(&shown);
    return code;
}

// ---- options -----------------------------------------------------------------------------------------------

// RFC 3461 4.1: "never" alone, or a list of the others.
static bool is_notify(struct bytes text)
{
    static const char *const words[] = {"success", "failure", "delay"};
    struct bytes word;
    if (bytes_eq_nocase(text, BYTES("never")))
        return true;
    bool ok = text.len > 0;
    while (ok && bytes_cut(&text, ',', &word)) {
        ok = false;
        for (size_t i = 0; i < COUNT_OF(words); i++)
            ok = ok || bytes_eq_nocase(word, bytes_cstr(words[i]));
    }
    return ok;
}

static int set_mode(struct sendmail *s, const char *arg)
{
    static const struct {
        char letter;
        enum sendmail_mode mode;
    } modes[] = {{'m', SENDMAIL_SEND},   {'s', SENDMAIL_SMTP},    {'v', SENDMAIL_VERIFY},
                 {'p', SENDMAIL_LIST},   {'i', SENDMAIL_ALIASES}, {'d', SENDMAIL_DAEMON},
                 {'l', SENDMAIL_DAEMON}, {'h', SENDMAIL_NOTHING}, {'H', SENDMAIL_NOTHING}};
    for (size_t i = 0; i < COUNT_OF(modes); i++)
        if (arg[0] == modes[i].letter) {
            s->mode = modes[i].mode;
            return 0;
        }
    return complain(EX_USAGE, "there is no mode -b%s", arg);
}

static int set_retry(struct sendmail *s, const char *arg)
{
    if (arg[0] == 'R' || arg[0] == 'I') {
        s->retry_what = arg[0] == 'R' ? "--domain" : "--id";
        s->retry_value = arg + 1;
    } else if (arg[0] && !isdigit((unsigned char)arg[0])) {
        return complain(EX_USAGE, "-q%s: only -qR DOMAIN, -qI ID and -q select mail", arg);
    } else if (arg[0]) { // -q30m: how often a daemon would look; ours looks by itself
        return 0;
    }
    s->mode = SENDMAIL_RETRY;
    return 0;
}

// What is no value is told and left out: the mail counts more.
static int set_dsn(struct sendmail *s, int option, const char *arg)
{
    if (option == 'N' && !is_notify(bytes_cstr(arg)))
        complain(0, "-N %s ignored: expected never, or success, failure and delay with commas",
                 arg);
    else if (option == 'R' && strcasecmp(arg, "full") != 0 && strcasecmp(arg, "hdrs") != 0)
        complain(0, "-R %s ignored: expected full or hdrs", arg);
    else if (option == 'V' && (!arg[0] || strlen(arg) > ENVID_MAX))
        complain(0, "-V ignored: an envelope id has 1 to %d characters", ENVID_MAX);
    else
        *(option == 'N' ? &s->notify : option == 'R' ? &s->ret : &s->envid) = arg;
    return 0;
}

static int set_option(struct sendmail *s, int option, const char *arg)
{
    switch (option) {
    case 'b':
        return set_mode(s, arg);
    case 'q':
        return set_retry(s, arg);
    case 'N':
    case 'R':
    case 'V':
        return set_dsn(s, option, arg);
    case 'f':
    case 'r':
        s->sender = arg;
        return 0;
    case 'F':
        s->full_name = arg;
        return 0;
    case 'C':
        s->config = arg;
        return 0;
    case 'I':
        s->mode = SENDMAIL_ALIASES;
        return 0;
    case 'i':
        s->dot_is_text = true;
        return 0;
    case 'o': // -oi; the others say what is always so, or nothing here
        s->dot_is_text = s->dot_is_text || arg[0] == 'i';
        return 0;
    case 't':
        s->take_recipients = true;
        return 0;
    case 'v':
        s->verbose = true;
        return 0;
    case '?':
        return complain(EX_USAGE, "unknown option -%c, or one without its value", optopt);
    default:
        return 0; // of another program's inside: taken and ignored
    }
}

int sendmail_parse(int argc, char **argv, struct sendmail *out)
{
    *out = (struct sendmail){0};
    optind = 0; // glibc: from the start
    opterr = 0;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "-q") == 0) // alone among them it need not have a value
            argv[i] = (char *)(uintptr_t) "-q0";
    int option, code = 0;
    while (!code &&
           (option = getopt(argc, argv, "+A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:r:q:tvx")) != -1)
        code = option == 'q' && strcmp(optarg, "0") == 0 ? set_retry(out, "")
                                                         : set_option(out, option, optarg);
    bool ended = optind > 1 && strcmp(argv[optind - 1], "--") == 0;
    out->recipients = argv + optind;
    out->recipients_count = argc - optind;
    for (int i = 0; i < out->recipients_count && !code && !ended; i++)
        if (out->recipients[i][0] == '-')
            code = complain(EX_USAGE, "%s: options come before the recipients", out->recipients[i]);
    return code;
}

// ---- where -----------------------------------------------------------------------------------------------

int sendmail_find_places(const char *config, struct arena *arena, struct sendmail_places *out)
{
    const char *environment = getenv("POSTHASTE_CONFIG");
    const char *path = config                        ? config
                       : environment && *environment ? environment
                                                     : CLI_USUAL_CONFIG;
    struct conf *conf = NULL;
    struct buf errors = {0};
    char name[256] = "localhost";
    int err = conf_load(path, &conf, &errors);
    if (err && config)
        fputs(buf_cstr(&errors), stderr);
    if (!err)
        *out = (struct sendmail_places){.socket = arena_dup(arena, conf->sendmail.socket),
                                        .pickup = arena_dup(arena, conf->sendmail.pickup),
                                        .hostname = arena_dup(arena, conf->hostname),
                                        .control = arena_dup(arena, conf->control)};
    else // not ours to read, or being edited: what the packages use
        *out = (struct sendmail_places){
            .socket = BYTES(SENDMAIL_SOCKET),
            .pickup = access(SENDMAIL_PICKUP, F_OK) == 0 ? BYTES(SENDMAIL_PICKUP) : BYTES_NONE,
            .control = BYTES(SENDMAIL_CONTROL)};
    if (!out->hostname.len && gethostname(name, sizeof name - 1) == 0)
        out->hostname = arena_dup(arena, bytes_cstr(name));
    conf_free(conf);
    buf_done(&errors);
    return err && config ? EX_CONFIG : 0;
}

// ---- the message -----------------------------------------------------------------------------------------

// Standard input, read to its end.
struct taken {
    struct local_input input;
    struct bytes header;
    struct buf body; // of it what fits into SENDMAIL_BODY_KEPT
    FILE *rest;      // else all of it; NULL: it fits
    bool given;      // the body was handed out
    char *piece;
};

static int keep(struct taken *t, struct bytes piece)
{
    if (!t->rest && t->body.len + piece.len <= SENDMAIL_BODY_KEPT) {
        buf_add(&t->body, piece);
        return t->body.err;
    }
    if (!t->rest) {
        t->rest = tmpfile();
        if (!t->rest || fwrite(t->body.at, 1, t->body.len, t->rest) != t->body.len)
            return E_IO;
        buf_done(&t->body);
    }
    return fwrite(piece.at, 1, piece.len, t->rest) == piece.len ? OK : E_IO;
}

static int take_input(struct taken *t, bool dot_ends)
{
    struct bytes piece = BYTES_NONE;
    local_input_init(&t->input, STDIN_FILENO, dot_ends, MESSAGE_MAX);
    int err = local_input_header(&t->input, &t->header);
    do {
        if (!err)
            err = local_input_next(&t->input, &piece);
        if (!err)
            err = keep(t, piece);
    } while (!err && piece.len);
    if (!err && t->rest && fflush(t->rest) != 0)
        err = E_IO;
    if (err)
        return complain(err == E_IO ? EX_IOERR : EX_DATAERR, "the message cannot be taken: %s",
                        err_text(err));
    return 0;
}

static void taken_done(struct taken *t)
{
    local_input_done(&t->input);
    buf_done(&t->body);
    free(t->piece);
    if (t->rest)
        fclose(t->rest);
}

static void begin_body(struct taken *t)
{
    t->given = false;
    if (t->rest)
        rewind(t->rest);
}

static int next_piece(void *ctx, struct bytes *out)
{
    struct taken *t = ctx;
    *out = BYTES_NONE;
    if (!t->rest) {
        if (!t->given)
            *out = buf_bytes(&t->body);
        t->given = true;
        return OK;
    }
    if (!t->piece)
        t->piece = mem_new(PIECE);
    size_t n = fread(t->piece, 1, PIECE, t->rest);
    *out = bytes_of(t->piece, n);
    return ferror(t->rest) ? E_IO : OK;
}

// ---- who sends ---------------------------------------------------------------------------------------------

static struct bytes login_name(struct arena *arena)
{
    const struct passwd *user = getpwuid(getuid());
    return user ? arena_dup(arena, bytes_cstr(user->pw_name))
                : arena_printf(arena, "uid%u", (unsigned)getuid());
}

// The user database's: up to a comma, & for the login with a capital.
static struct bytes full_name(const struct sendmail *options, struct arena *arena)
{
    const char *name = getenv("NAME");
    if (options->full_name)
        return bytes_cstr(options->full_name);
    if (name && *name)
        return bytes_cstr(name);
    const struct passwd *user = getpwuid(getuid());
    struct buf out = {0};
    for (const char *c = user ? user->pw_gecos : ""; *c && *c != ','; c++) {
        if (*c != '&') {
            buf_add_byte(&out, *c);
            continue;
        }
        size_t at = out.len;
        buf_add_cstr(&out, user->pw_name);
        if (out.len > at)
            out.at[at] = (char)toupper((unsigned char)out.at[at]);
    }
    struct bytes found = arena_dup(arena, buf_bytes(&out));
    buf_done(&out);
    return found;
}

// The argument of MAIL and of each RCPT, with what -N, -R and -V ask for.
static void add_parameters(const struct sendmail *options, struct mail_local *m,
                           struct bytes sender, struct arena *arena)
{
    struct buf envid = {0};
    if (options->envid && smtp_xtext_is_valid(bytes_cstr(options->envid), ENVID_MAX))
        buf_add_cstr(&envid, options->envid);
    else if (options->envid)
        mail_xtext_encode(bytes_cstr(options->envid), &envid);
    m->sender = arena_printf(arena, "<%.*s>%s%s%s%s%s", BYTES_FMT(sender),
                             m->is_utf8 || !bytes_is_ascii(sender) ? " SMTPUTF8" : "",
                             options->ret ? " RET=" : "", options->ret ? options->ret : "",
                             envid.len ? " ENVID=" : "", buf_cstr(&envid));
    for (size_t i = 0; options->notify && i < m->count; i++)
        m->recipients[i] =
            arena_printf(arena, "%.*s NOTIFY=%s", BYTES_FMT(m->recipients[i]), options->notify);
    buf_done(&envid);
}

static int no_recipients(const struct sendmail *options)
{
    return options->take_recipients
               ? complain(EX_DATAERR, "there are no recipients in the header")
               : complain(EX_USAGE, "name the recipients, or say -t to take those of the header");
}

// Envelope and header for a service of that host name; 0 or an exit code.
static int make_message(const struct sendmail *options, struct bytes header, struct bytes domain,
                        struct mail_local *m, struct arena *arena)
{
    struct bytes sender;
    *m = (struct mail_local){
        .header = header, .domain = domain, .take_recipients = options->take_recipients};
    int err = OK;
    for (int i = 0; i < options->recipients_count && !err; i++)
        err = mail_local_add_recipients(m, bytes_cstr(options->recipients[i]), arena);
    struct bytes given = options->sender ? bytes_cstr(options->sender) : login_name(arena);
    if (!err)
        err = mail_local_one_address(m, given, arena, &sender);
    if (err)
        return complain(EX_USAGE, "%.*s", BYTES_FMT(m->why));
    m->from_name = sender.len ? full_name(options, arena) : BYTES("Mail Delivery System");
    m->from = sender.len ? sender : arena_printf(arena, "MAILER-DAEMON@%.*s", BYTES_FMT(domain));
    if (mail_local_read(m, arena) != OK)
        return complain(EX_DATAERR, "%.*s", BYTES_FMT(m->why));
    if (!m->count)
        return no_recipients(options);
    add_parameters(options, m, sender, arena);
    return 0;
}

// ---- handing over ------------------------------------------------------------------------------------------

static int exit_of(const struct local_answer *a)
{
    switch (a->result) {
    case LOCAL_SENT:
        return EX_OK;
    case LOCAL_LATER:
    case LOCAL_DOWN:
        return EX_TEMPFAIL;
    case LOCAL_DENIED:
        return EX_NOPERM;
    case LOCAL_REFUSED:
        break;
    }
    if (strncmp(a->enhanced, "5.1.", 4) == 0)
        return a->about[0] ? EX_NOUSER : EX_DATAERR;
    if (strncmp(a->enhanced, "5.7.", 4) == 0)
        return EX_NOPERM;
    if (strncmp(a->enhanced, "5.5.", 4) == 0 || strncmp(a->enhanced, "5.6.", 4) == 0 ||
        strcmp(a->enhanced, "5.3.4") == 0)
        return EX_DATAERR;
    return EX_UNAVAILABLE;
}

static int tell(const struct local_answer *a)
{
    return a->about[0] ? complain(exit_of(a), "not sent to anybody: %s: %s", a->about, a->text)
                       : complain(exit_of(a), "not sent: %s", a->text);
}

struct sending {
    const struct sendmail *options;
    struct sendmail_places places;
    struct taken taken;
    struct mail_local mail;
    struct arena arena;
};

static struct local_message message_of(struct sending *s)
{
    begin_body(&s->taken);
    return (struct local_message){.sender = s->mail.sender,
                                  .recipients = s->mail.recipients,
                                  .count = s->mail.count,
                                  .header = buf_bytes(&s->mail.out),
                                  .next = next_piece,
                                  .ctx = &s->taken};
}

static int prepare(struct sending *s, struct bytes domain)
{
    buf_done(&s->mail.out);
    return make_message(s->options, s->taken.header, domain, &s->mail, &s->arena);
}

// The service does not take it now: it is left where it will be found.
static int leave(struct sending *s, const struct local_answer *answer)
{
    struct buf why = {0};
    if (!s->places.pickup.len)
        return tell(answer);
    int code = prepare(s, s->places.hostname);
    if (code)
        return code;
    struct local_message m = message_of(s);
    if (sendmail_drop(s->places.pickup, &m, &why) != OK)
        code = complain(EX_TEMPFAIL, "%s; %s", answer->text, buf_cstr(&why));
    else if (s->options->verbose)
        printf("left in the pickup folder: %s\n", answer->text);
    buf_done(&why);
    return code;
}

static int hand_over(struct sending *s)
{
    struct local_answer answer;
    struct local_session *session = local_submit_open(s->places.socket, &answer);
    if (!session)
        return answer.result == LOCAL_DENIED ? tell(&answer) : leave(s, &answer);
    int code = prepare(s, local_submit_hostname(session));
    if (!code) {
        struct local_message m = message_of(s);
        if (!local_submit_send(session, &m, &answer))
            code = -1;
        else if (s->options->verbose)
            printf("%s\n", answer.text);
    }
    local_submit_close(session);
    if (code != -1)
        return code;
    return answer.result == LOCAL_LATER ? leave(s, &answer) : tell(&answer);
}

static int send_message(const struct sendmail *options, const struct sendmail_places *places)
{
    struct sending s = {.options = options, .places = *places};
    if (!options->recipients_count && !options->take_recipients)
        return no_recipients(options);
    int code = take_input(&s.taken, !options->dot_is_text);
    if (!code)
        code = hand_over(&s);
    taken_done(&s.taken);
    buf_done(&s.mail.out);
    arena_done(&s.arena);
    return code;
}

// ---- -bv: would they be taken? ---------------------------------------------------------------------------------

static void tell_recipient(struct bytes recipient, const struct local_answer *answer)
{
    printf("%.*s... %s\n", BYTES_FMT(recipient),
           answer->result == LOCAL_SENT ? "deliverable" : answer->text);
}

static int verify(const struct sendmail *options, const struct sendmail_places *places)
{
    struct sending s = {.options = options, .places = *places};
    struct local_answer answer;
    if (!options->recipients_count)
        return complain(EX_USAGE, "-bv: name the addresses");
    struct local_session *session = local_submit_open(places->socket, &answer);
    if (!session)
        return tell(&answer);
    int code = prepare(&s, local_submit_hostname(session));
    if (!code) {
        struct local_message m = message_of(&s);
        if (!local_submit_verify(session, &m, tell_recipient, &answer))
            code = answer.about[0] ? exit_of(&answer) : tell(&answer);
    }
    local_submit_close(session);
    buf_done(&s.mail.out);
    arena_done(&s.arena);
    return code;
}

// ---- -bs: SMTP over standard input and output ------------------------------------------------------------------

// One piece from one side to the other. False: there is no more.
static bool carry(int from, int to)
{
    char room[16384];
    ssize_t n = read(from, room, sizeof room), done = 0;
    while (n > 0 && done < n) {
        ssize_t sent = write(to, room + done, (size_t)(n - done));
        if (sent <= 0 && errno != EINTR)
            return false;
        done += sent > 0 ? sent : 0;
    }
    return n > 0 || (n == -1 && errno == EINTR);
}

static int speak_smtp(const struct sendmail_places *places)
{
    struct local_answer answer;
    int fd = local_submit_connect(places->socket, &answer);
    if (fd == -1) {
        printf("421 4.3.0 %s\r\n", answer.text);
        return exit_of(&answer);
    }
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    bool open = true;
    while (open) {
        int n = poll(fds, 2, fds[0].fd == -1 ? LAST_WORD_MS : -1);
        if (n == 0 || (n == -1 && errno != EINTR))
            break;
        if (n > 0 && fds[0].revents && !carry(STDIN_FILENO, fd)) {
            // Who goes without a word still gets the answers; within a message this is no end of it.
            open = send(fd, "QUIT\r\n", 6, MSG_NOSIGNAL) == 6;
            fds[0].fd = -1;
        }
        if (n > 0 && fds[1].revents)
            open = carry(fd, STDOUT_FILENO) && open;
    }
    close(fd);
    return EX_OK;
}

// ---- running -----------------------------------------------------------------------------------------------

// As the queue's own command: who may not, is told so.
static int retry(const struct sendmail *options)
{
    char *argv[] = {(char *)"posthaste",
                    (char *)"queue",
                    (char *)"retry",
                    (char *)(uintptr_t)(options->retry_what ? options->retry_what : "--all"),
                    (char *)(uintptr_t)options->retry_value,
                    NULL};
    return cli_main(options->retry_what ? 5 : 4, argv);
}

int sendmail_run(const struct sendmail *options)
{
    struct arena arena = {0};
    struct sendmail_places places;
    int code = EX_OK;
    switch (options->mode) {
    case SENDMAIL_LIST:
        return cli_mailq.run_itself(1, (char *[]){(char *)"mailq", NULL});
    case SENDMAIL_ALIASES:
        return cli_newaliases.run_itself(1, (char *[]){(char *)"newaliases", NULL});
    case SENDMAIL_DAEMON:
        return complain(EX_UNAVAILABLE,
                        "the service is started by its unit, or by posthaste serve");
    case SENDMAIL_RETRY:
        return retry(options);
    case SENDMAIL_NOTHING:
        return EX_OK;
    default:
        break;
    }
    code = sendmail_find_places(options->config, &arena, &places);
    if (!code)
        code = options->mode == SENDMAIL_SMTP     ? speak_smtp(&places)
               : options->mode == SENDMAIL_VERIFY ? verify(options, &places)
                                                  : send_message(options, &places);
    arena_done(&arena);
    return code;
}
