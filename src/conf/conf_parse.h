// SPDX-License-Identifier: MIT
//
// conf_parse - from the YAML tree to struct conf by the parameter table; then the checks across
// parameters
#pragma once

#include "conf/conf_yaml.h"

// Fills in defaults and what the tree says. `folder` is where relative paths start; `host` as for
// conf_load_on(). Errors go to `errors`.
void conf_parse(const struct conf_node *root, const char *folder, struct conf_host *host,
                struct conf *conf, struct conf_errors *errors);
// What no single row can say: names unique, certificates where TLS needs them, no open relay, ...
// Fills in what depends on other parameters. A section in which conf_parse() found an error is
// passed over, so that one mistake is told once.
void conf_check(const struct conf_node *root, struct conf *conf, struct conf_errors *errors);
