// SPDX-License-Identifier: MIT
//
// api_work - long work that is asked for at the control socket: how far it is, and whether who asked is still there
#include <poll.h>

#include "api/api_private.h"

void api_work_begin(struct api_work *work, struct api_request *r, const char *unit)
{
    work->request = r;
    work->unit = unit;
    work->began = api_now().wall;
    list_push_back(&r->api->works, &work->link);
}

void api_work_end(struct api_work *work)
{
    list_remove(&work->link);
}

// A suspended request is not told of by libmicrohttpd. Who has only shut down the sending side still listens.
bool api_client_is_gone(const struct api_request *r)
{
    struct pollfd p = {.fd = r->fd};
    return poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR | POLLNVAL);
}

static struct json_object *describe(const struct api_work *w)
{
    const struct api_request *r = w->request;
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "action",
                           json_object_new_string(r->row->action ? r->row->action : r->row->op));
    json_object_object_add(o, "actor", api_json_text(r->actor));
    json_object_object_add(o, "pid", json_object_new_int64(r->caller.pid));
    json_add_time(o, "began_at", w->began);
    json_object_object_add(o, "unit", json_object_new_string(w->unit));
    json_object_object_add(o, "done", json_object_new_uint64(atomic_load(&w->done)));
    uint64_t of = atomic_load(&w->of);
    json_object_object_add(o, "of", of ? json_object_new_uint64(of) : NULL);
    json_object_object_add(o, "changed", json_object_new_uint64(w->changed));
    return o;
}

static void on_work(struct sys_task *task)
{
    struct api_request *r = container_of(task, struct api_request, task);
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();
    list_each(link, &r->api->works)
        json_object_array_add(list, describe(list_get(link, struct api_work, link)));
    json_object_object_add(o, "work", list);
    api_reply(r, o);
    api_resume(r);
}

void api_work_get(struct api_request *r)
{
    api_to_main(r, on_work);
}
