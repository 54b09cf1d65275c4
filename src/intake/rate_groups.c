// SPDX-License-Identifier: MIT
#include "intake/rate_groups.h"

#include "base/map.h"

#define MINUTE_US 60000000

bool rate_groups_take(struct rate_groups *g, struct bytes key, uint32_t rate, struct mono now)
{
    uint64_t minute = (uint64_t)(now.us / MINUTE_US);
    _Atomic uint64_t *group = &g->groups[map_hash(key) % RATE_GROUPS];
    if (atomic_load(group) >> 32 != (minute & UINT32_MAX))
        atomic_store(group, minute << 32);
    return (uint32_t)atomic_fetch_add(group, 1) < rate;
}
