// SPDX-License-Identifier: MIT
//
// dns_test_server - for tests: a small DNS server on 127.0.0.1, UDP and TCP, whose first label
// says what to do
//
//     ok        MX "10 mx.ok.test", A 192.0.2.1, AAAA 2001:db8::1, TXT "hello" "world"
//     nodata    no record of any type                nx        NXDOMAIN
//     servfail  SERVFAIL                              refused   REFUSED
//     silent    no reply                              junk      bytes that are no reply
//     wrongid   a reply to another question           cname     CNAME ok.test
//     loop      CNAME to itself                       big       1,000 MX; over UDP only the TC bit
//     chainNNN  CNAME to the next number              chain030  as "ok" does: the end
//     short     MX records with RDLENGTH 0, 1 and 2   mixed     one short MX, one good
//     null      MX "0 ."
// Anything else answers as "ok" does to A and AAAA and has no data for other types.
#pragma once

#include <stdint.h>

struct dns_test_server;
// On a thread of its own, on a port that the kernel chooses.
struct dns_test_server *dns_test_server_start(void);
// Ends the thread and frees it.
void dns_test_server_stop(struct dns_test_server *s);
// The port, of UDP and TCP.
uint16_t dns_test_server_port(const struct dns_test_server *s);
