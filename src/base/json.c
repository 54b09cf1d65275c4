// SPDX-License-Identifier: MIT
#include "base/json.h"

#include <json-c/json.h>

#include "base/buf.h"

struct bytes json_text(struct json_object *value)
{
    if (!json_object_is_type(value, json_type_string))
        return BYTES_NONE;
    return bytes_of(json_object_get_string(value), (size_t)json_object_get_string_len(value));
}

struct bytes json_find_text(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    (void)!json_object_object_get_ex(object, key, &value);
    return json_text(value);
}

struct json_object *json_new_text(struct bytes text)
{
    return json_object_new_string_len(text.at ? text.at : "", (int)text.len);
}

struct json_object *json_new_time(struct wall at)
{
    if (at.us == 0)
        return NULL;
    struct buf text = {0};
    wall_format(at, &text);
    struct json_object *value = json_new_text(buf_bytes(&text));
    buf_done(&text);
    return value;
}

void json_add_text(struct json_object *object, const char *key, struct bytes text)
{
    json_object_object_add(object, key, json_new_text(text));
}

void json_add_time(struct json_object *object, const char *key, struct wall at)
{
    json_object_object_add(object, key, json_new_time(at));
}
