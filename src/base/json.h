// SPDX-License-Identifier: MIT
//
// json - texts and times of JSON objects (json-c), as our values; who includes this links json-c
#pragma once

#include "base/bytes.h"
#include "base/clock.h"

struct json_object;

// The text of a string; empty of any other value, and of NULL. Borrowed from the value.
struct bytes json_text(struct json_object *value);
// The same of an object's field; empty where there is none. The object may be NULL.
struct bytes json_find_text(struct json_object *object, const char *key);

// RFC 8259 section 8.1: the text must be UTF-8.
struct json_object *json_new_text(struct bytes text);
// "2026-11-22T05:57:00.000Z"; NULL (JSON's null) of 0.
struct json_object *json_new_time(struct wall at);
void json_add_text(struct json_object *object, const char *key, struct bytes text);
void json_add_time(struct json_object *object, const char *key, struct wall at);
