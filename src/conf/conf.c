// SPDX-License-Identifier: MIT
#include "conf/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "conf/conf_parse.h"

// For a first look: submission on the loopback interface, ports chosen by the system, all files
// below the working folder, mail delivered by MX.
static const char default_text[] =
    "# posthaste's embedded default: for trying it out.\n"
    "hostname: posthaste.localhost\n"
    "spool: posthaste-data/spool\n"
    "state: posthaste-data/state\n"
    "listeners:\n"
    "  - {name: submission, address: \"127.0.0.1:0\", tls: starttls}\n"
    "tls: {self_signed: yes}\n"
    "http: {address: \"127.0.0.1:0\"}\n";

struct bytes conf_default_text(void)
{
    return bytes_cstr(default_text);
}

static int finish(struct conf *conf, struct conf_errors *found, struct conf **out,
                  struct buf *errors)
{
    if (!found->count) {
        *out = conf;
        return 0;
    }
    conf_errors_format(found, errors);
    conf_free(conf);
    return E_SYNTAX;
}

int conf_load_on(struct conf_host *host, struct bytes text, const char *name, const char *folder,
                 struct conf **out, struct buf *errors)
{
    struct conf *conf = mem_new(sizeof *conf);
    struct arena scratch = {0};
    struct conf_errors found;
    *out = NULL;
    conf->file = arena_dup(&conf->arena, bytes_cstr(name));
    conf->source = arena_dup(&conf->arena, text);
    conf_errors_init(&found, &scratch, text, conf->file.at);
    const struct conf_node *root = conf_yaml_parse(text, &conf->arena, &found);
    conf->given = root;
    if (root) {
        conf_parse(root, folder, host, conf, &found);
        conf_check(root, conf, &found);
    }
    int err = finish(conf, &found, out, errors);
    arena_done(&scratch);
    return err;
}

void conf_free(struct conf *conf)
{
    if (!conf)
        return;
    struct arena arena = conf->arena;
    free(conf);
    arena_done(&arena);
}

// ---- the file ----------------------------------------------------------------------------------------

static int read_all(int fd, struct buf *out)
{
    for (;;) {
        char *at = buf_reserve(out, 65536);
        if (!at)
            return E_LIMIT;
        ssize_t n = read(fd, at, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_from_errno(errno);
        if (n == 0)
            return out->len > CONF_FILE_MAX ? E_LIMIT : 0;
        buf_commit(out, (size_t)n);
    }
}

// A FIFO is opened so that it would be empty, which may be right; who opens it otherwise waits for ever.
static int check_kind(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_from_errno(errno);
    return S_ISDIR(st.st_mode) ? E_SYNTAX : S_ISFIFO(st.st_mode) ? E_AGAIN : 0;
}

static int read_file(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO must not hang us
    if (fd < 0)
        return err_from_errno(errno);
    int err = check_kind(fd);
    if (!err)
        err = read_all(fd, out);
    close(fd);
    return err;
}

// The absolute path of the folder that the file is in.
static bool folder_of(const char *path, char out[PATH_MAX])
{
    char copy[PATH_MAX];
    size_t len = strlen(path);
    while (len && path[len - 1] != '/')
        len--;
    if (len >= sizeof copy)
        return false;
    memcpy(copy, path, len);
    copy[len] = 0;
    return realpath(len ? copy : ".", out) != NULL;
}

static const char *file_problem(int err)
{
    switch (err) {
    case E_SYNTAX:
        return "is a folder";
    case E_AGAIN:
        return "is a FIFO";
    case E_LIMIT:
        return "is too large (at most 4 MiB)";
    case E_NOT_FOUND:
        return "no such file";
    case E_DENIED:
        return "permission denied";
    default:
        return "cannot be read";
    }
}

int conf_load(const char *path, struct conf **out, struct buf *errors)
{
    char folder[PATH_MAX];
    struct conf_host host = {0};
    struct buf text;
    *out = NULL;
    buf_init(&text, CONF_FILE_MAX + 65536 + 1);
    int err = path ? read_file(path, &text) : 0;
    if (!err && !folder_of(path ? path : "", folder))
        err = E_IO;
    if (err) {
        buf_printf(errors, "%s: error: %s\n", path ? path : "default", file_problem(err));
        buf_done(&text);
        return err;
    }
    err = conf_load_on(&host, path ? buf_bytes(&text) : conf_default_text(),
                       path ? path : "default", folder, out, errors);
    buf_done(&text);
    return err;
}

int conf_load_text(struct bytes text, const char *name, const char *folder, struct conf **out,
                   struct buf *errors)
{
    return conf_load_on(NULL, text, name, folder, out, errors);
}

// One that `section`, a map of the file's tree, names.
static void check_file(const struct conf *conf, const struct conf_node *section, const char *key,
                       const char *name, struct bytes path, struct buf *errors)
{
    if (!path.len)
        return;
    int fd = open(path.at, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    int err = fd < 0 ? err_from_errno(errno) : check_kind(fd);
    if (fd >= 0)
        close(fd);
    if (err)
        conf_error_format(conf, conf_node_place(conf_node_find(section, key)), errors, "%s: %s: %s",
                          name, path.at, file_problem(err));
}

int conf_check_files(const struct conf *conf, struct buf *errors)
{
    size_t before = errors->len;
    const struct conf_node *tls = conf_node_find(conf->given, "tls");
    const struct conf_node *dns = conf_node_find(conf->given, "dns");
    const struct conf_node *bounce = conf_node_find(conf->given, "bounce");
    const struct conf_node *routes = conf_node_find(conf->given, "routes");
    check_file(conf, tls, "certificate", "tls.certificate", conf->tls.certificate, errors);
    check_file(conf, tls, "key", "tls.key", conf->tls.key, errors);
    check_file(conf, tls, "authorities", "tls.authorities", conf->tls.authorities, errors);
    check_file(conf, tls, "client_authorities", "tls.client_authorities",
               conf->tls.client_authorities, errors);
    check_file(conf, dns, "trust_anchor", "dns.trust_anchor", conf->dns.trust_anchor, errors);
    check_file(conf, bounce, "rules", "bounce.rules", conf->bounce.rules, errors);
    for (uint32_t i = 0; i < conf->routes_count; i++) {
        const struct conf_route *route = &conf->routes[i];
        const struct conf_node *node = routes ? conf_node_nth(routes, i) : NULL;
        check_file(conf, node, "recipients", "routes[].recipients", route->recipients, errors);
        check_file(conf, node, "password_file", "routes[].password_file", route->password_file,
                   errors);
    }
    return errors->len > before ? E_DENIED : 0;
}

// ---- matching ----------------------------------------------------------------------------------------

static bool cidr_has(const struct conf_cidr *cidr, const uint8_t *ip, bool ip6)
{
    uint32_t whole = cidr->bits / 8, rest = cidr->bits % 8;
    if (cidr->ip6 != ip6 || memcmp(cidr->ip, ip, whole) != 0)
        return false;
    return !rest || ((cidr->ip[whole] ^ ip[whole]) >> (8 - rest)) == 0;
}

bool conf_cidr_has(const struct conf_cidr *list, uint32_t count, const uint8_t *ip, bool ip6)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (ip6 && memcmp(ip, mapped, sizeof mapped) == 0) {
        ip += sizeof mapped;
        ip6 = false;
    }
    for (uint32_t i = 0; i < count; i++)
        if (cidr_has(&list[i], ip, ip6))
            return true;
    return false;
}

static bool pattern_matches(struct bytes pattern, struct bytes subject, struct bytes domain)
{
    if (bytes_eq(pattern, BYTES("*")) || bytes_eq_nocase(pattern, subject))
        return true;
    if (bytes_starts(pattern, BYTES("*.")))
        return domain.len > pattern.len - 1 && bytes_ends_nocase(domain, bytes_skip(pattern, 1));
    return bytes_find(pattern, '@') < 0 && bytes_eq_nocase(pattern, domain);
}

bool conf_patterns_match(const struct conf_patterns *patterns, struct bytes subject)
{
    ptrdiff_t sign = bytes_find_last(subject, '@');
    struct bytes domain = sign < 0 ? subject : bytes_skip(subject, (size_t)sign + 1);
    for (uint32_t i = 0; i < patterns->count; i++)
        if (pattern_matches(patterns->at[i], subject, domain))
            return true;
    return !patterns->count;
}
