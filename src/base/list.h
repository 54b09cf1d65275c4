// SPDX-License-Identifier: MIT
//
// list - intrusive doubly linked list with a sentinel
//
// A list head is a struct list initialised with list_init(); members embed a struct list. A zeroed link is
// "in no list" and list_remove() on it does nothing.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *head)
{
    head->next = head->prev = head;
}
static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}
static inline bool list_is_linked(const struct list *link)
{
    return link->next != NULL;
}
static inline void list_insert_before(struct list *at, struct list *link)
{
    CHECK(link->next == NULL);
    link->next = at;
    link->prev = at->prev;
    at->prev->next = link;
    at->prev = link;
}
static inline void list_push_back(struct list *head, struct list *link)
{
    list_insert_before(head, link);
}
static inline void list_push_front(struct list *head, struct list *link)
{
    list_insert_before(head->next, link);
}
static inline void list_remove(struct list *link)
{
    if (!link->next)
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = link->prev = NULL;
}
// The first link, or NULL.
static inline struct list *list_first(const struct list *head)
{
    return head->next == head ? NULL : head->next;
}
static inline struct list *list_pop_front(struct list *head)
{
    struct list *link = list_first(head);
    if (link)
        list_remove(link);
    return link;
}
// Appends all of from, which is empty then.
static inline void list_move_all(struct list *to, struct list *from)
{
    struct list *link;
    while ((link = list_pop_front(from)))
        list_push_back(to, link);
}
// Iterates links; `next` is saved, so the body may remove `link`.
#define list_each(link, head)                                                                      \
    for (struct list *link = (head)->next, *link##_next = link->next; link != (head);              \
         link = link##_next, link##_next = link->next)
#define list_get(link, type, member) container_of(link, type, member)
