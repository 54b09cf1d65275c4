// SPDX-License-Identifier: MIT
//
// scenario - a readable script for the simulated world: one behaviour each, in test/scenario/
//
//     law NAME                            the law that is broken where the script fails (book.h)
//     conf LINE                           a line of the configuration (before all else)
//     peers N                             receivers: good.test, sender.test, p1.test ... (before all else)
//     rules DOMAIN [RULE]                 as sink_rules.h has them; none: well-behaved
//     path DOMAIN ok|refused|unreachable|blackhole|slow
//     dns NAME fine|gone|servfail|bogus|silent|flapping
//     send N to DOMAIN[,DOMAIN...] [size BYTES] [by plain|pipelined|chunked|breaks|smuggles]
//     run TIME                            90s, 10m, 2h, 500ms
//     settle TIME                         until everything accepted is delivered or reported, at most so long
//     crash kill|power [at N]             now, or in the N-th disk or network operation from now
//     stop                                in order
//     start                               after a crash or stop
//     disk OPERATION N [TIMES] full|io    the N-th write, sync, open, ... from now fails
//     clock TIME|-TIME                    the wall clock jumps
//     expect WHAT OP N                    WHAT: sent accepted refused broken taken failed delayed missing queued,
//                                         or "attempts DOMAIN": connections tried; OP: = <= >= < >
//
// "#" starts a comment. A broken law fails the scenario as well.
#pragma once

#include "book.h"

// Runs the script; prints what went wrong. True if nothing did.
bool scenario_run(const char *file, uint64_t seed);
// The law that the script names, or "SCENARIO".
const char *scenario_law(void);
