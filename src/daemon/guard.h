// SPDX-License-Identifier: MIT
//
// guard - the parent process: opens what needs privileges, hands it over, restarts the relay
//
// It reads nothing from the network, and keeps the private keys from the relay: the signer process that it
// starts has them (guard_signer.h). It binds listening sockets, reads the configuration and the certificate
// and key files, starts the relay process, passes all of it over the channel, and starts another relay when
// one dies. SIGHUP (and a changed certificate file) makes it read and pass everything again; SIGTERM and
// SIGINT ask the relay to drain and then end the service.
#pragma once

// Runs the service in the foreground. `config` may be NULL (embedded default), `ready_file` NULL (none).
// Returns the exit code: 0 after an ordered stop, 75 busy port or spool, 77 no permission, 78 configuration.
int guard_main(const char *config, const char *ready_file);
