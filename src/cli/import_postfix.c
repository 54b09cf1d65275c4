// SPDX-License-Identifier: MIT
#include "cli/import_postfix.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "conf/conf_show.h"
#include "conf/conf_value.h"
#include "route/route_file.h"

#define IMPORT_GROUP "posthaste"
#define SHOWN_MAX 100 // bytes of a value in a comment
#define SECOND 1000ull
#define DAY (86400 * SECOND)
#define KIB 1024ull

// ---- lines and comments ------------------------------------------------------------------------------

static void add_format(struct buf *out, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
static void add_format(struct buf *out, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    CHECK(n >= 0);
    char *at = buf_reserve(out, (size_t)n + 1);
    if (at) {
        vsnprintf(at, (size_t)n + 1, format, again);
        at[n] = '\n';
        buf_commit(out, (size_t)n + 1);
    }
    va_end(again);
}

void import_line(struct import *im, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_format(&im->out, format, args);
    va_end(args);
}

static struct postfix_param *find(struct import *im, const char *name)
{
    struct postfix_param *p = im->cf.params;
    while (p && !bytes_eq(p->name, bytes_cstr(name)))
        p = p->next;
    return p;
}

void import_told(struct import *im, const char *name)
{
    struct postfix_param *p = find(im, name);
    if (p)
        p->told = true;
}

static void add_setting(struct buf *out, const char *name, struct bytes value)
{
    buf_printf(out, "# %s = ", name);
    buf_add_escaped(out, value, SHOWN_MAX);
    buf_add_byte(out, '\n');
}

void import_from(struct import *im, const char *name, int indent)
{
    struct postfix_param *p = find(im, name);
    if (!p || p->told)
        return;
    p->told = true;
    buf_printf(&im->out, "%*s", indent, "");
    add_setting(&im->out, name, p->value);
}

void import_add_override(const struct postfix_service *s, const struct postfix_param *p,
                         struct buf *out)
{
    buf_printf(out, "# master.cf: %.*s -o %.*s=", BYTES_FMT(s->name), BYTES_FMT(p->name));
    buf_add_escaped(out, p->value, SHOWN_MAX);
    buf_add_byte(out, '\n');
}

static void tell(struct import *im, struct buf *out, const char *name, const char *format,
                 va_list args) __attribute__((format(printf, 4, 0)));
static void tell(struct import *im, struct buf *out, const char *name, const char *format,
                 va_list args)
{
    struct postfix_param *p = find(im, name);
    if (!p || p->told)
        return;
    p->told = true;
    add_setting(out, name, p->value);
    buf_add_cstr(out, "#     ");
    add_format(out, format, args);
}

void import_replaced(struct import *im, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    tell(im, &im->replaced, name, format, args);
    va_end(args);
}

void import_left(struct import *im, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    tell(im, &im->left, name, format, args);
    va_end(args);
}

struct bytes import_yaml(struct import *im, struct bytes text)
{
    struct buf out = {0};
    conf_show_text(text, &out);
    struct bytes kept = arena_dup(&im->cf.arena, buf_bytes(&out));
    buf_done(&out);
    return kept;
}

// ---- tables ------------------------------------------------------------------------------------------

static bool has_text(struct bytes type)
{
    static const char *const types[] = {"hash", "btree", "lmdb", "cdb", "dbm", "texthash", "sdbm"};
    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (bytes_eq(type, bytes_cstr(types[i])))
            return true;
    return false;
}

int import_read_file(struct import *im, struct bytes path, struct buf *out)
{
    struct bytes main = bytes_cstr(im->main_file), name = path;
    ptrdiff_t slash = bytes_find_last(main, '/'), own = bytes_find_last(path, '/');
    if (route_file_read(arena_cstr(&im->cf.arena, path), out) == OK)
        return OK;
    buf_clear(out);
    name = bytes_skip(path, own < 0 ? 0 : (size_t)own + 1);
    struct bytes beside = arena_printf(
        &im->cf.arena, "%.*s%.*s", BYTES_FMT(bytes_first(main, slash < 0 ? 0 : (size_t)slash + 1)),
        BYTES_FMT(name));
    return route_file_read(beside.at, out);
}

static struct import_entry *parse_table(struct import *im, struct bytes text)
{
    struct import_entry *first = NULL, **last = &first;
    struct buf whole = {0};
    struct bytes line = BYTES_NONE; // as it stays of an empty file
    uint32_t number = 0, start = 0;
    // A line that begins with white space goes on with the one before.
    for (bool more = true; more;) {
        more = bytes_cut(&text, '\n', &line);
        struct bytes trimmed = bytes_trim(line);
        number++;
        if (more && (!trimmed.len || trimmed.at[0] == '#'))
            continue;
        if (more && line.at[0] != ' ' && line.at[0] != '\t' ? whole.len > 0 : !more && whole.len) {
            struct bytes entry = bytes_trim(buf_bytes(&whole));
            size_t n = 0;
            while (n < entry.len && entry.at[n] != ' ' && entry.at[n] != '\t')
                n++;
            *last = arena_new(&im->cf.arena, sizeof **last);
            **last = (struct import_entry){
                .key = arena_dup(&im->cf.arena, bytes_first(entry, n)),
                .value = arena_dup(&im->cf.arena, bytes_trim(bytes_skip(entry, n))),
                .line = start};
            last = &(*last)->next;
            buf_clear(&whole);
        }
        if (more && !whole.len)
            start = number;
        if (more)
            buf_add(&whole, line);
    }
    buf_done(&whole);
    return first;
}

struct import_read {
    struct bytes map;
    struct import_entry *entries;
    const char *why;
    struct import_read *next;
};

static void read_table(struct import *im, struct import_read *t)
{
    struct buf text;
    ptrdiff_t colon = bytes_find(t->map, ':');
    struct bytes type = colon < 0 ? BYTES("hash") : bytes_first(t->map, (size_t)colon);
    struct bytes path = bytes_trim(bytes_skip(t->map, colon < 0 ? 0 : (size_t)colon + 1));
    if (!has_text(type)) {
        t->why = "tables of this type have no text that could be read";
        return;
    }
    buf_init(&text, POSTFIX_FILE_MAX);
    if (import_read_file(im, path, &text) != OK)
        t->why = "its text can't be read here";
    else
        t->entries = parse_table(im, buf_bytes(&text));
    buf_done(&text);
}

struct import_entry *import_table(struct import *im, struct bytes map, const char **out_why)
{
    struct import_read *t = im->tables;
    while (t && !bytes_eq(t->map, map))
        t = t->next;
    if (!t) {
        t = arena_new(&im->cf.arena, sizeof *t);
        *t = (struct import_read){.map = arena_dup(&im->cf.arena, map), .next = im->tables};
        im->tables = t;
        read_table(im, t);
    }
    *out_why = t->why;
    return t->entries;
}

// Where the service has a user of its own (the packages make it), that user reads what root writes here.
static bool give_to_service(int fd)
{
    const struct group *group = geteuid() == 0 ? getgrnam(IMPORT_GROUP) : NULL;
    return !group || (fchown(fd, (uid_t)-1, group->gr_gid) == 0 && fchmod(fd, 0640) == 0);
}

static bool has_content(const char *path, struct bytes text)
{
    struct buf found;
    buf_init(&found, POSTFIX_FILE_MAX);
    bool same = route_file_read(path, &found) == OK && bytes_eq(buf_bytes(&found), text);
    buf_done(&found);
    return same;
}

// A file that is there already may be one that was read (/etc/aliases), or changed by hand since.
int import_write(struct import *im, struct bytes name, struct bytes text, struct bytes *out_path)
{
    *out_path = arena_printf(&im->cf.arena, "%s/%.*s", im->files ? im->files : "/etc/posthaste",
                             BYTES_FMT(name));
    if (!im->files)
        return OK;
    int fd = open(out_path->at, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd == -1 && errno == EEXIST) {
        if (has_content(out_path->at, text))
            return OK;
        buf_printf(&im->errors,
                   "%s: error: exists, with other content, and is not overwritten; move it away, "
                   "or name another folder\n",
                   out_path->at);
        return E_IO;
    }
    bool good = fd != -1 && write(fd, text.at ? text.at : "", text.len) == (ssize_t)text.len;
    good = good && give_to_service(fd);
    int why = errno;
    if (fd != -1 && close(fd) == -1 && good) {
        good = false;
        why = errno;
    }
    if (good)
        return OK;
    if (fd != -1)
        unlink(out_path->at);
    buf_printf(&im->errors, "%s: error: can't be written: %s\n", out_path->at, strerror(why));
    return E_IO;
}

// ---- numbers -----------------------------------------------------------------------------------------

// Postfix's times: a number and a unit; `unit` where there is none.
static bool parse_time(struct bytes text, uint64_t unit_ms, uint64_t *out_ms)
{
    static const struct {
        char letter;
        uint64_t ms;
    } units[] = {
        {'s', SECOND}, {'m', 60 * SECOND}, {'h', 3600 * SECOND}, {'d', DAY}, {'w', 7 * DAY}};
    for (size_t i = 0; i < COUNT_OF(units) && text.len; i++)
        if (ascii_lower(text.at[text.len - 1]) == units[i].letter) {
            unit_ms = units[i].ms;
            text = bytes_trim(bytes_first(text, text.len - 1));
            break;
        }
    if (bytes_to_u64(text, UINT32_MAX, out_ms) != OK)
        return false;
    *out_ms *= unit_ms;
    return true;
}

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
    return value < min ? min : value > max ? max : value;
}

// "KEY: TIME" from a parameter; false where it is not set or no time.
static bool take_time(struct import *im, const char *name, const char *key, uint64_t unit_ms,
                      uint64_t min, uint64_t max, uint64_t *out_ms)
{
    struct buf text = {0};
    uint64_t ms;
    if (!postfix_is_set(&im->cf, NULL, name) ||
        !parse_time(postfix_get(&im->cf, NULL, name), unit_ms, &ms))
        return false;
    *out_ms = clamp(ms, min, max);
    import_from(im, name, 2);
    if (*out_ms != ms)
        import_line(im, "  # beyond what we allow: the nearest that is possible");
    conf_format_duration((int64_t)*out_ms, &text);
    import_line(im, "  %s: %s", key, buf_cstr(&text));
    buf_done(&text);
    return true;
}

static void take_count(struct import *im, const char *name, const char *key, uint64_t min,
                       uint64_t max)
{
    uint64_t value;
    if (!postfix_is_set(&im->cf, NULL, name) ||
        bytes_to_u64(postfix_get(&im->cf, NULL, name), UINT64_MAX, &value) != OK)
        return;
    import_from(im, name, 2);
    if (!value || clamp(value, min, max) != value)
        import_line(im, "  # beyond what we allow: the nearest that is possible");
    import_line(im, "  %s: %llu", key,
                (unsigned long long)(value ? clamp(value, min, max) : max)); // 0: no limit
}

// ---- sections ----------------------------------------------------------------------------------------

static void import_hostname(struct import *im)
{
    struct bytes name = postfix_get(&im->cf, NULL, "smtp_helo_name"), host;
    struct bytes own = postfix_get(&im->cf, NULL, "myhostname");
    bool other = postfix_is_set(&im->cf, NULL, "smtp_helo_name") && !bytes_eq(name, own);
    import_from(im, "myhostname", 0);
    if (other)
        import_from(im, "smtp_helo_name", 0);
    import_told(im, "smtp_helo_name");
    if (!postfix_is_set(&im->cf, NULL, "myhostname"))
        import_line(im, "# main.cf has no myhostname: this host's own name");
    if (conf_value_hostname(other ? name : own, &im->cf.arena, &host) != OK) {
        import_line(im, "# that is no host name that the world can look up: put yours here");
        host = BYTES("mail.example.org");
    }
    import_line(im, "hostname: %.*s", BYTES_FMT(import_yaml(im, host)));
    import_line(
        im,
        "# Folders of the Debian package; its unit starts the service as the user posthaste. Where "
        "root starts it: user: posthaste");
    import_line(im, "spool: /var/spool/posthaste\nstate: /var/lib/posthaste/state\n"
                    "control: /run/posthaste/control.sock");
}

static void import_retry(struct import *im)
{
    uint64_t lifetime = 5 * DAY, first = 300 * SECOND, max = 4000 * SECOND, warn = 0;
    import_line(im, "\nretry:");
    bool has_lifetime =
        take_time(im, "maximal_queue_lifetime", "lifetime", DAY, SECOND, 30 * DAY, &lifetime);
    take_time(im, "minimal_backoff_time", "first", SECOND, SECOND, clamp(lifetime, SECOND, DAY),
              &first);
    if (!take_time(im, "maximal_backoff_time", "max", SECOND, first, 7 * DAY, &max))
        import_line(im, "  max: %llus # Postfix's default",
                    (unsigned long long)(first > max ? first : max) / SECOND);
    if (has_lifetime && first > lifetime)
        import_line(im, "  first: %llus", (unsigned long long)lifetime / SECOND);
    uint64_t asked = 0;
    bool asks = parse_time(postfix_get(&im->cf, NULL, "delay_warning_time"), 3600 * SECOND, &asked);
    if (!asks || !asked || asked >= lifetime) {
        import_from(im, "delay_warning_time", 2);
        import_line(im, "  warn_after: none%s", asks ? "" : " # Postfix's default");
    } else {
        take_time(im, "delay_warning_time", "warn_after", 3600 * SECOND, SECOND, 30 * DAY, &warn);
    }
    import_replaced(im, "bounce_queue_lifetime",
                    "notifications live as long as other mail: retry.lifetime");
    import_replaced(im, "queue_run_delay",
                    "each message is tried when it is due: retry.first, factor, max");
}

static void import_limits(struct import *im)
{
    import_line(im, "\nlimits:");
    if (!postfix_is_set(&im->cf, NULL, "message_size_limit"))
        import_line(im, "  message_size: 10240000 # Postfix's default");
    take_count(im, "message_size_limit", "message_size", 64 * KIB, 2048 * KIB * KIB);
    take_count(im, "header_size_limit", "header_size", 16 * KIB, KIB * KIB);
    take_count(im, "smtpd_recipient_limit", "recipients", 100, 50000);
    take_count(im, "hopcount_limit", "received", 10, 1000);
    take_count(im, "smtpd_client_connection_count_limit", "sessions_per_address", 1, 1000000);
    uint64_t ms;
    struct bytes timeout = postfix_get(&im->cf, NULL, "smtpd_timeout");
    if (bytes_find(timeout, '{') < 0) // by default it depends on the load
        take_time(im, "smtpd_timeout", "command_timeout", SECOND, SECOND, 3600 * SECOND, &ms);
}

static void import_addresses(struct import *im)
{
    static const char *const names[] = {"smtp_bind_address", "smtp_bind_address6"};
    struct buf list = {0};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct bytes text = postfix_get(&im->cf, NULL, names[i]);
        uint8_t ip[16];
        bool ip6;
        if (conf_value_ip(text, ip, &ip6) != OK)
            continue;
        if (!list.len)
            import_line(im, "\ndomains:");
        import_from(im, names[i], 2);
        buf_printf(&list, "%s%.*s", list.len ? ", " : "", BYTES_FMT(import_yaml(im, text)));
    }
    if (list.len) {
        import_line(im, "  # what receivers see, for checks and SPF; to leave by this address it "
                        "has to be the host's");
        import_line(im, "  # source address: ip route change default via GATEWAY src ADDRESS");
        import_line(im, "  addresses: [%s]", buf_cstr(&list));
    }
    buf_done(&list);
}

// What came from the files may hold anything; here are lines, and nothing that a terminal or YAML would take amiss.
static void make_printable(struct buf *out)
{
    for (size_t i = 0, n; i < out->len; i += n) {
        n = bytes_utf8_len(bytes_skip(buf_bytes(out), i));
        if (!n || (n == 1 && (((unsigned char)out->at[i] < 0x20 && out->at[i] != '\n') ||
                              out->at[i] == 0x7f))) {
            out->at[i] = '?';
            n = 1;
        }
    }
}

int import_postfix(struct import *im)
{
    import_line(im,
                "# posthaste configuration, made from %s\n# posthaste check-config --config THIS "
                "says whether it will do; posthaste doctor, whether the host will.\n",
                im->main_file);
    import_hostname(im);
    import_listeners(im);
    import_sendmail(im);
    int err = import_routes(im);
    import_retry(im);
    import_limits(im);
    import_addresses(im);
    import_the_rest(im);
    if (im->replaced.len)
        buf_printf(&im->out, "\n# ---- replaced by something of ours ----\n%s",
                   buf_cstr(&im->replaced));
    if (im->left.len)
        buf_printf(&im->out, "\n# ---- not taken over: please look at these ----\n%s",
                   buf_cstr(&im->left));
    make_printable(&im->out);
    return err;
}
