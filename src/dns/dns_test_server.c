// SPDX-License-Identifier: MIT
#include "dns/dns_test_server.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "dns/dns_rdata.h"

struct dns_test_server {
    int udp, tcp, stop[2];
    uint16_t port;
    pthread_t thread;
};

struct question {
    struct bytes packet;
    char first[64]; // its first label, lower case
    size_t end;     // of the question section
    unsigned type;
};

// ---- replies ----------------------------------------------------------------------------------

static bool read_question(struct bytes packet, struct question *out)
{
    *out = (struct question){.packet = packet, .end = 12};
    if (packet.len < 17)
        return false;
    size_t label = (unsigned char)packet.at[12];
    if (label > 63 || 13 + label > packet.len)
        return false;
    for (size_t i = 0; i < label; i++)
        out->first[i] = ascii_lower(packet.at[13 + i]);
    while (out->end < packet.len && packet.at[out->end] != '\0')
        out->end += 1 + (unsigned char)packet.at[out->end];
    out->end += 5;
    if (out->end > packet.len)
        return false;
    out->type = (unsigned)(unsigned char)packet.at[out->end - 4] << 8 |
                (unsigned char)packet.at[out->end - 3];
    return true;
}

static void add_u16(struct buf *out, unsigned value)
{
    buf_add_byte(out, (char)(value >> 8));
    buf_add_byte(out, (char)value);
}

// A record of the question's name, TTL 120.
static void add_record(struct buf *out, unsigned type, struct bytes rdata)
{
    add_u16(out, 0xc00c);
    add_u16(out, type);
    add_u16(out, 1);
    add_u16(out, 0);
    add_u16(out, 120);
    add_u16(out, (unsigned)rdata.len);
    buf_add(out, rdata);
    out->at[7]++;
    if (out->at[7] == 0)
        out->at[6]++;
}

static void add_ok(struct buf *out, unsigned type, bool with_mx)
{
    if (type == DNS_MX && with_mx)
        add_record(out, type, BYTES("\0\x0a\2mx\2ok\4test\0"));
    if (type == DNS_A)
        add_record(out, type, BYTES("\xc0\0\2\1"));
    if (type == DNS_AAAA)
        add_record(out, type, BYTES("\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"));
    if (type == DNS_TXT && with_mx)
        add_record(out, type, BYTES("\5hello\5world"));
}

static void add_big(struct buf *out, bool is_tcp)
{
    if (!is_tcp)
        out->at[2] |= 2; // TC
    for (int i = 0; is_tcp && i < 1000; i++) {
        char rdata[10] = "\0\0\4m000\0";
        rdata[1] = (char)(i / 10);
        rdata[4] = (char)('0' + i / 100);
        rdata[5] = (char)('0' + i / 10 % 10);
        rdata[6] = (char)('0' + i % 10);
        add_record(out, DNS_MX, bytes_of(rdata, 8));
    }
}

// From chain000 to chain030, one CNAME a reply.
static void add_chain(struct buf *out, unsigned type, const char *name)
{
    unsigned long next = strtoul(name + 5, NULL, 10) + 1;
    char rdata[32];
    if (next > 30)
        add_ok(out, type, true);
    else
        add_record(out, DNS_CNAME,
                   bytes_of(rdata, 1 + (size_t)snprintf(rdata, sizeof rdata,
                                                        "\x08"
                                                        "chain%03lu"
                                                        "\4test",
                                                        next)));
}

// RFC 1035 section 4.1.1; false: say nothing.
static bool build_reply(const struct question *q, bool is_tcp, struct buf *out)
{
    const char *name = q->first;
    unsigned rcode = !strcmp(name, "nx")         ? 3
                     : !strcmp(name, "servfail") ? 2
                     : !strcmp(name, "refused")  ? 5
                                                 : 0;
    if (!strcmp(name, "silent"))
        return false;
    if (!strcmp(name, "junk")) {
        buf_add(out, bytes_first(q->packet, 2));
        buf_add(out, BYTES("\x81\x80\0\1\xff\xff\xff\xff\xff\xff\xc0\x0c\xc0\x0c junk"));
        return true;
    }
    buf_add(out, bytes_first(q->packet, 2));
    buf_add_byte(out, (char)(0x80 | (q->packet.at[2] & 1)));
    buf_add_byte(out, (char)(0x80 | rcode));
    buf_add(out, BYTES("\0\1\0\0\0\0\0\0"));
    buf_add(out, bytes_mid(q->packet, 12, q->end - 12));
    if (!strcmp(name, "wrongid"))
        out->at[0] ^= 0x55;
    if (rcode || !strcmp(name, "nodata"))
        return true;
    if (!strcmp(name, "cname"))
        add_record(out, DNS_CNAME, BYTES("\2ok\4test\0"));
    else if (!strcmp(name, "loop"))
        add_record(out, DNS_CNAME, BYTES("\4loop\4test\0"));
    else if (!strncmp(name, "chain", 5))
        add_chain(out, q->type, name);
    else if (!strcmp(name, "big") && q->type == DNS_MX)
        add_big(out, is_tcp);
    else if (!strcmp(name, "null") && q->type == DNS_MX)
        add_record(out, DNS_MX, BYTES("\0\0\0"));
    else if ((!strcmp(name, "short") || !strcmp(name, "mixed")) && q->type == DNS_MX) {
        add_record(out, DNS_MX, BYTES(""));
        add_record(out, DNS_MX, BYTES("\0"));
        add_record(out, DNS_MX, BYTES("\0\x0a"));
        add_ok(out, DNS_MX, !strcmp(name, "mixed"));
    } else
        add_ok(out, q->type, !strcmp(name, "ok") || !strcmp(name, "wrongid"));
    return true;
}

// ---- sockets ----------------------------------------------------------------------------------

static void serve_udp(struct dns_test_server *s)
{
    char packet[4096];
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    ssize_t n = recvfrom(s->udp, packet, sizeof packet, 0, (struct sockaddr *)&from, &len);
    struct question q;
    struct buf reply = {0};
    if (n > 0 && read_question(bytes_of(packet, (size_t)n), &q) && build_reply(&q, false, &reply))
        (void)!sendto(s->udp, reply.at, reply.len, 0, (struct sockaddr *)&from, len);
    buf_done(&reply);
}

static bool read_exactly(int fd, char *out, size_t n)
{
    return recv(fd, out, n, MSG_WAITALL) == (ssize_t)n;
}

static void serve_tcp(struct dns_test_server *s)
{
    int fd = accept(s->tcp, NULL, NULL);
    char packet[4096];
    struct question q;
    struct buf reply = {0};
    if (fd >= 0 && read_exactly(fd, packet, 2)) {
        size_t n = (size_t)(unsigned char)packet[0] << 8 | (unsigned char)packet[1];
        if (n <= sizeof packet && read_exactly(fd, packet, n) &&
            read_question(bytes_of(packet, n), &q) && build_reply(&q, true, &reply)) {
            char length[2] = {(char)(reply.len >> 8), (char)reply.len};
            (void)!send(fd, length, 2, MSG_NOSIGNAL | MSG_MORE);
            (void)!send(fd, reply.at, reply.len, MSG_NOSIGNAL);
        }
    }
    buf_done(&reply);
    if (fd >= 0)
        close(fd);
}

static void *serve(void *arg)
{
    struct dns_test_server *s = arg;
    struct pollfd fds[] = {{s->udp, POLLIN, 0}, {s->tcp, POLLIN, 0}, {s->stop[0], POLLIN, 0}};
    while (poll(fds, 3, -1) > 0 && !fds[2].revents) {
        if (fds[0].revents)
            serve_udp(s);
        if (fds[1].revents)
            serve_tcp(s);
    }
    return NULL;
}

// The same port for both: the kernel's choice for UDP may be taken for TCP, so try again.
static bool bind_both(struct dns_test_server *s)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    s->udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    s->tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(s->udp, (struct sockaddr *)&in, len) == 0 &&
        getsockname(s->udp, (struct sockaddr *)&in, &len) == 0 &&
        bind(s->tcp, (struct sockaddr *)&in, len) == 0 && listen(s->tcp, 100) == 0) {
        s->port = ntohs(in.sin_port);
        return true;
    }
    close(s->udp);
    close(s->tcp);
    return false;
}

struct dns_test_server *dns_test_server_start(void)
{
    struct dns_test_server *s = mem_new(sizeof *s);
    while (!bind_both(s))
        ;
    CHECK(pipe(s->stop) == 0);
    CHECK(pthread_create(&s->thread, NULL, serve, s) == 0);
    return s;
}

void dns_test_server_stop(struct dns_test_server *s)
{
    close(s->stop[1]);
    pthread_join(s->thread, NULL);
    close(s->stop[0]);
    close(s->udp);
    close(s->tcp);
    free(s);
}

uint16_t dns_test_server_port(const struct dns_test_server *s)
{
    return s->port;
}
