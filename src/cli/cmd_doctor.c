// SPDX-License-Identifier: MIT
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli_commands.h"
#include "cli/cli_store.h"
#include "cli/control_client.h"
#include "cli/doctor.h"

// ---- what it is asked with ---------------------------------------------------------------------------

static void ask_service(struct doctor *d)
{
    struct control_reply reply = {0};
    struct buf error = {0};
    d->service_err = control_request(d->conf->control, "/v1/service", NULL, &reply, &error);
    if (!d->service_err && reply.status == 200)
        d->service = json_object_get(reply.body);
    else if (!d->service_err)
        d->service_err = reply.status == 403 ? E_DENIED : E_IO;
    json_object_put(reply.body);
    reply = (struct control_reply){0};
    if (d->service && control_request(d->conf->control, "/v1/alerts", NULL, &reply, &error) == OK &&
        reply.status == 200)
        d->alerts = json_object_get(reply.body);
    json_object_put(reply.body);
    buf_done(&error);
}

static void open_resolver(struct doctor *d)
{
    const struct conf *conf = d->conf;
    struct dns_conf dns = {.servers = conf->dns.servers,
                           .server_count = conf->dns.servers_count,
                           .trust_anchor =
                               conf->dns.trust_anchor.len ? conf->dns.trust_anchor.at : NULL};
    struct buf error = {0};
    if (dns_resolver_open(&dns, NULL, &d->resolver, &error) != OK) {
        doctor_fail(d, "dns", BYTES_NONE, "the resolver does not start: %s", buf_cstr(&error));
        doctor_fix(d, "see to dns.servers and dns.trust_anchor");
    }
    buf_done(&error);
}

static void close_all(struct doctor *d)
{
    if (d->resolver.dns)
        dns_resolver_close(&d->resolver);
    json_object_put(d->service);
    json_object_put(d->alerts);
    arena_done(&d->arena);
}

// ---- answers -----------------------------------------------------------------------------------------

static void add_text(struct json_object *o, const char *key, struct bytes text)
{
    if (text.len)
        json_add_text(o, key, text);
    else
        json_object_object_add(o, key, NULL);
}

static void print_json(const struct doctor *d)
{
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();
    uint32_t counts[3] = {0};
    for (uint32_t i = 0; i < d->count; i++) {
        const struct doctor_finding *f = &d->findings[i];
        struct json_object *one = json_object_new_object();
        json_object_object_add(one, "id", json_object_new_string(f->id));
        add_text(one, "subject", f->subject);
        json_object_object_add(one, "state", json_object_new_string(doctor_state_name(f->state)));
        add_text(one, "found", f->found);
        add_text(one, "fix", f->fix);
        json_object_array_add(list, one);
        counts[f->state]++;
    }
    for (int i = 0; i < 3; i++)
        json_object_object_add(o, doctor_state_name((enum doctor_state)i),
                               json_object_new_int64(counts[i]));
    json_object_object_add(o, "running", json_object_new_boolean(d->service != NULL));
    json_object_object_add(o, "findings", list);
    cli_print_json(o);
    json_object_put(o);
}

static void print_text(const struct doctor *d)
{
    struct winsize size = {0};
    struct buf out = {0};
    bool terminal = isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
    const char *plain = getenv("NO_COLOR");
    doctor_format(d, terminal ? size.ws_col : 0, terminal && !(plain && *plain), &out);
    fwrite(out.at ? out.at : "", 1, out.len, stdout);
    buf_done(&out);
}

static int run(struct cli *cli)
{
    struct doctor *d = arena_new(&cli->arena, sizeof *d);
    int exit = CLI_OK;
    *d = (struct doctor){.cli = cli, .conf = cli_conf(cli)};
    if (!d->conf)
        return CLI_CONFIG;
    ask_service(d);
    open_resolver(d);
    doctor_check_service(d);
    doctor_check_disk(d);
    doctor_check_access(d);
    doctor_check_dns(d);
    doctor_check_tls(d);
    doctor_check_ports(d);
    doctor_check_conf(d);
    if (cli->json)
        print_json(d);
    else
        print_text(d);
    for (uint32_t i = 0; i < d->count; i++)
        if (d->findings[i].state == DOCTOR_FAIL)
            exit = CLI_DATA;
    close_all(d);
    return exit;
}

static const struct cli_option options[] = {
    {"outgoing", "HOST[:PORT]",
     "see whether that mail server can be reached; port 25 if none is named"},
    {NULL},
};

const struct cli_command cli_doctor = {
    .name = "doctor",
    .help = "look for what is wrong with host, configuration and service",
    .more =
        "Works while the service runs and while it does not. Each finding is ok, warn or fail, "
        "with\n"
        "what was found and what to do. Exit code 0 if nothing fails, 65 if something does, 78 if\n"
        "the configuration itself is wrong. Run it as root, or as the user of the service: others\n"
        "see less. It changes nothing; to time the disk it writes a file without a name into the\n"
        "spool's folder. --outgoing makes the only connection to the world beside DNS.\n",
    .options = options,
    .run = run,
};
