// SPDX-License-Identifier: MIT
#include "conf/conf_host.h"

#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "conf/conf_value.h"

bool conf_host_is_full(struct bytes name)
{
    struct arena scratch = {0};
    struct bytes lower;
    bool full = bytes_find(name, '.') > 0 && conf_value_hostname(name, &scratch, &lower) == OK &&
                !bytes_ends(lower, BYTES(".localdomain")) &&
                !bytes_ends(lower, BYTES(".localhost"));
    arena_done(&scratch);
    return full;
}

static bool take(struct conf_host *host, const char *name)
{
    if (!conf_host_is_full(bytes_cstr(name)) || strlen(name) >= sizeof host->name)
        return false;
    snprintf(host->name, sizeof host->name, "%s", name);
    return true;
}

// An entry of /etc/hosts that has `own` among its names, and a full one.
static bool take_from_entry(struct conf_host *host, const struct hostent *entry, const char *own)
{
    bool ours = strcmp(entry->h_name, own) == 0, found;
    for (char **alias = entry->h_aliases; *alias && !ours; alias++)
        ours = strcmp(*alias, own) == 0;
    found = ours && take(host, entry->h_name);
    for (char **alias = entry->h_aliases; *alias && ours && !found; alias++)
        found = take(host, *alias);
    return found;
}

bool conf_host_find(struct conf_host *host)
{
    char own[sizeof host->name] = "";
    const struct hostent *entry;
    if (host->name[0])
        return true;
    if (gethostname(own, sizeof own - 1) == -1 || !own[0])
        return false;
    bool found = take(host, own);
    sethostent(0);
    while (!found && (entry = gethostent()))
        found = take_from_entry(host, entry, own);
    endhostent();
    return found;
}
