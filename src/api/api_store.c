// SPDX-License-Identifier: MIT
#include "api/api_private.h"
#include "store/store_audit.h"

static void on_told(void *ctx)
{
    api_resume(ctx);
}

// So that who reads the answer may log in at once.
void api_tell_change(struct api_request *r)
{
    struct api *api = r->api;
    struct store_directory *directory;
    int err = store_directory_load(api->options.store, &directory);
    if (err) {
        log_error("accounts not read again: the old ones hold", LOG_ERR(err));
        return;
    }
    api_suspend(r);
    api->options.accounts_changed(api->options.ctx, directory, on_told, r);
}

// ---- DKIM keys ---------------------------------------------------------------------------------------------

static void on_looked_after(void *ctx)
{
    struct api_request *r = ctx;
    api_reply(r, json_object_new_object());
    api_resume(r);
}

static void look_after(struct sys_task *task)
{
    struct api_request *r = container_of(task, struct api_request, task);
    r->api->options.look_after_keys(r->api->options.ctx, on_looked_after, r);
}

// Answered once the keys that were missing are there.
void api_dkim_post(struct api_request *r)
{
    api_to_main(r, look_after);
}

// ---- operations ------------------------------------------------------------------------------------------

void api_store_post(struct api_request *r)
{
    struct json_object *name = NULL, *args = NULL;
    json_object_object_get_ex(r->args, "op", &name);
    json_object_object_get_ex(r->args, "args", &args);
    struct store_who who;
    struct store_op op = api_audit_op(r, &who);
    op.name = json_object_get_string(name);
    op.args = args;
    struct store_answer answer;
    struct buf error = {0};
    int err = store_apply(r->api->options.store, &op, &answer, &error);
    if (r->row->action && (err || !answer.changed))
        api_audit_add(r, err ? STORE_AUDIT_FAILED : STORE_AUDIT_UNCHANGED, buf_bytes(&error));
    if (err) {
        // E_DENIED speaks of the account (it is closed), not of who asks.
        api_reply_error(r, err == E_DENIED ? E_EXISTS : err, "%.*s", BYTES_FMT(buf_bytes(&error)));
    } else {
        api_reply(r, answer.result);
        if (answer.changed)
            api_tell_change(r);
    }
    buf_done(&error);
}
