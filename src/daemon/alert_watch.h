// SPDX-License-Identifier: MIT
//
// alert_watch - looks every few seconds at what alerts are about (api/alert.h), and tells: log, metric, the guard
//
// The guard runs the configured command; this process may start none.
//
// Thread: the main loop. Owner: the relay, until the process ends.
#pragma once

struct relay;
struct alert_watch;

// Nothing is raised yet. Never NULL.
struct alert_watch *alert_watch_new(struct relay *relay);
// Looks from now on until the main loop stops; on that loop.
void alert_watch_begin(struct alert_watch *watch);
// What /metrics and GET /v1/alerts show.
const struct alerts *alert_watch_alerts(const struct alert_watch *watch);
