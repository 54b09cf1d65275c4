// SPDX-License-Identifier: MIT
//
// cli_commands - the table of all commands, in the order of the help
#pragma once

#include "cli/cli.h"

extern const struct cli_command cli_serve, cli_check_config, cli_config_show, cli_config_schema,
    cli_config_reload, cli_import_postfix, cli_doctor;
extern const struct cli_command cli_account_add, cli_account_list, cli_account_show,
    cli_account_set, cli_account_suspend, cli_account_activate, cli_account_close;
extern const struct cli_command cli_credential_add, cli_credential_list, cli_credential_remove;
extern const struct cli_command cli_domain_add, cli_domain_list, cli_domain_verify,
    cli_domain_check, cli_domain_remove;
extern const struct cli_command cli_dkim_sign, cli_dkim_verify, cli_dkim_list, cli_dkim_rotate,
    cli_dkim_import, cli_dkim_zone;
extern const struct cli_command cli_message_show, cli_message_find, cli_message_why,
    cli_message_check;
extern const struct cli_command cli_message_trace, cli_trace_add, cli_trace_list, cli_trace_remove;
extern const struct cli_command cli_queue_list, cli_queue_lanes, cli_queue_holds, cli_queue_hold,
    cli_queue_release, cli_queue_retry, cli_queue_bounce, cli_queue_delete;
extern const struct cli_command cli_events, cli_history, cli_audit, cli_top, cli_backup,
    cli_restore, cli_upgrade;
extern const struct cli_command cli_suppress_add_command, cli_suppress_remove_command,
    cli_suppress_check_command, cli_suppress_list_command, cli_suppress_import_command,
    cli_suppress_export_command;
extern const struct cli_command cli_bounce_classify;
extern const struct cli_command cli_sendmail, cli_mailq, cli_newaliases;
extern const struct cli_command cli_sink, cli_load;
extern const struct cli_command cli_help, cli_version;

// Values that several options take, ended by NULL.
extern const char *const cli_class_words[], *const cli_reason_words[];

extern const struct cli_command *const cli_commands[];
extern const int cli_commands_count;
