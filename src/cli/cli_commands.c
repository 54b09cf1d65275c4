// SPDX-License-Identifier: MIT
#include "cli/cli_commands.h"

#include "base/check.h"

const char *const cli_class_words[] = {"transactional", "personal", "bulk", NULL};
const char *const cli_reason_words[] = {"hard-bounce", "complaint", "unsubscribe", "manual", NULL};

// clang-format off
const struct cli_command *const cli_commands[] = {
    &cli_serve,
    &cli_check_config,
    &cli_config_show,
    &cli_config_schema,
    &cli_config_reload,
    &cli_import_postfix,
    &cli_doctor,

    &cli_account_add,
    &cli_account_list,
    &cli_account_show,
    &cli_account_set,
    &cli_account_suspend,
    &cli_account_activate,
    &cli_account_close,
    &cli_credential_add,
    &cli_credential_list,
    &cli_credential_remove,
    &cli_domain_add,
    &cli_domain_list,
    &cli_domain_verify,
    &cli_domain_check,
    &cli_domain_remove,
    &cli_dkim_list,
    &cli_dkim_rotate,
    &cli_dkim_import,
    &cli_dkim_zone,
    &cli_dkim_sign,
    &cli_dkim_verify,

    &cli_suppress_add_command,
    &cli_suppress_remove_command,
    &cli_suppress_check_command,
    &cli_suppress_list_command,
    &cli_suppress_import_command,
    &cli_suppress_export_command,

    &cli_message_show,
    &cli_message_find,
    &cli_message_why,
    &cli_message_trace,
    &cli_message_check,
    &cli_trace_add,
    &cli_trace_list,
    &cli_trace_remove,
    &cli_queue_list,
    &cli_queue_lanes,
    &cli_queue_holds,
    &cli_queue_hold,
    &cli_queue_release,
    &cli_queue_retry,
    &cli_queue_bounce,
    &cli_queue_delete,
    &cli_top,
    &cli_events,
    &cli_history,
    &cli_audit,
    &cli_backup,
    &cli_restore,
    &cli_upgrade,
    &cli_bounce_classify,

    &cli_sendmail,
    &cli_mailq,
    &cli_newaliases,

    &cli_sink,
    &cli_load,
    &cli_help,
    &cli_version,
};
// clang-format on
const int cli_commands_count = COUNT_OF(cli_commands);
