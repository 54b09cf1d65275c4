# SPDX-License-Identifier: MIT
"""What the end to end tests stand on: processes, networks, receivers, DNS, certificates, foreign servers."""
