// SPDX-License-Identifier: MIT
//
// completion - the table of commands as completion scripts: what TAB offers in bash, zsh and fish
//
// Commands, their options, the values of options that take one of few, and files where a file is meant. None of the
// scripts asks the service anything or needs more than its shell.
#pragma once

#include "base/buf.h"

// Each appends a whole script.
void completion_bash(struct buf *out);
void completion_zsh(struct buf *out);
void completion_fish(struct buf *out);
