# SPDX-License-Identifier: MIT
"""faults - the tests of tools/fault: each a function run_NAME(trial)"""
