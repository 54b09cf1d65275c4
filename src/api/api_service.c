// SPDX-License-Identifier: MIT
//
// api_service - the service itself: what runs, and its upgrade
#include <stdio.h>
#include <unistd.h>

#include "api/api_private.h"

static struct json_object *describe(const struct api *api)
{
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "pid", json_object_new_int64(getppid()));
    json_object_object_add(o, "relay_pid", json_object_new_int64(getpid()));
    json_object_object_add(o, "version", json_object_new_string(POSTHASTE_VERSION));
    struct queue_now now = api_now();
    json_add_time(o, "started_at", api->started.wall);
    json_add_time(o, "now", now.wall);
    json_object_object_add(o, "uptime_ms",
                           json_object_new_int64(mono_ms_between(api->started.mono, now.mono)));
    struct json_object *sandbox = json_object_new_object();
    json_object_object_add(sandbox, "landlock", json_object_new_int(api->options.landlock));
    json_object_object_add(o, "sandbox", sandbox);
    return o;
}

void api_service_get(struct api_request *r)
{
    api_reply(r, describe(r->api));
}

static struct json_object *describe_alert(const struct alerts *alerts, enum alert_id id)
{
    struct json_object *o = json_object_new_object();
    bool raised = alert_is_raised(alerts, id);
    json_object_object_add(o, "alert", json_object_new_string(alert_name(id)));
    json_object_object_add(o, "raised", json_object_new_boolean(raised));
    json_object_object_add(o, "since", raised ? json_new_time(alerts->at[id].since) : NULL);
    json_object_object_add(o, "text",
                           raised ? api_json_text(bytes_cstr(alerts->at[id].text)) : NULL);
    return o;
}

static void on_alerts(struct sys_task *task)
{
    struct api_request *r = container_of(task, struct api_request, task);
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();
    for (int id = 0; id < ALERTS; id++)
        json_object_array_add(list, describe_alert(r->api->options.alerts, (enum alert_id)id));
    json_object_object_add(o, "alerts", list);
    api_reply(r, o);
    api_resume(r);
}

void api_alerts_get(struct api_request *r)
{
    api_to_main(r, on_alerts);
}

static void on_upgrade_decided(void *ctx, int err, struct bytes why)
{
    struct api_request *r = ctx;
    if (err)
        api_reply_error(r, err, "%.*s", BYTES_FMT(why));
    else
        api_reply(r, describe(r->api));
    api_resume(r);
}

static void on_upgrade(struct sys_task *task)
{
    struct api_request *r = container_of(task, struct api_request, task);
    log_info("operator", LOG_STR("actor", r->actor), LOG_CSTR("action", "upgrade"));
    r->api->options.upgrade(r->api->options.ctx, on_upgrade_decided, r);
}

void api_upgrade_post(struct api_request *r)
{
    api_to_main(r, on_upgrade);
}

// ---- reload ----------------------------------------------------------------------------------------------

static void on_reload_decided(void *ctx, int err, struct bytes why)
{
    struct api_request *r = ctx;
    struct json_object *o = json_object_new_object();
    struct json_object *restart = json_object_new_array();
    struct bytes rest = why, name;
    json_object_object_add(o, "reloaded", json_object_new_boolean(true));
    json_object_object_add(o, "restart", restart);
    while (!err && rest.len && bytes_cut(&rest, ',', &name))
        json_object_array_add(restart, api_json_text(bytes_trim(name)));
    if (err) {
        json_object_put(o);
        api_reply_error(r, err, "%.*s", BYTES_FMT(why));
    } else {
        api_reply(r, o);
    }
    api_resume(r);
}

static void on_reload(struct sys_task *task)
{
    struct api_request *r = container_of(task, struct api_request, task);
    r->api->options.reload(r->api->options.ctx, on_reload_decided, r);
}

void api_reload_post(struct api_request *r)
{
    api_to_main(r, on_reload);
}
