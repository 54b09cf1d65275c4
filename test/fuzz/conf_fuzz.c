// SPDX-License-Identifier: MIT
//
// Any bytes as a configuration file: an error that names the file, or a value whose promises hold.
#include "base/check.h"
#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_promises(const struct conf *conf)
{
    CHECK(conf->hostname.len && conf->listeners_count);
    CHECK(conf->control.len && conf->control.len < 108);
    CHECK(conf->retry.first_ms <= conf->retry.max_ms);
    CHECK(conf_patterns_match(&conf->lanes[conf->lanes_count - 1].match, BYTES("a@b.example")));
    const struct conf_route *last = &conf->routes[conf->routes_count - 1];
    CHECK(conf_patterns_match(&last->match.recipient, BYTES("a@b.example")));
    for (uint32_t i = 0; i < conf->listeners_count; i++) {
        const struct conf_listener *l = &conf->listeners[i];
        CHECK(l->name.len && l->address.len);
        CHECK(l->trusted_count || (l->auth != CONF_AUTH_NONE && l->tls != CONF_TLS_NONE));
        for (uint32_t j = 0; j < l->trusted_count; j++)
            CHECK(l->trusted[j].bits > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf *conf;
    struct buf errors = {0};
    if (size > 65536)
        return 0;
    int err = conf_load_text(bytes_of(data, size), "f.yaml", "/etc/posthaste", &conf, &errors);
    CHECK((err == 0) == (conf != NULL) && (err == 0) == (errors.len == 0));
    if (conf)
        check_promises(conf);
    else
        CHECK(bytes_starts(buf_bytes(&errors), BYTES("f.yaml:")));
    conf_free(conf);
    buf_done(&errors);
    return 0;
}
