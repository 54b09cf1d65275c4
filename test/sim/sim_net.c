// SPDX-License-Identifier: MIT
//
// sim_net - streams and listeners between simulated hosts
//
// How it works: a connection is two streams that know each other. What one writes is cut into
// segments at random places; each arrives at the other's loop as an event, in order, after the
// path's latency. At most WINDOW_BYTES are on the way or unread; the rest waits as
// sys_stream_pending(). A closed end answers late data with a reset, as TCP does. Streams are freed
// when the world stops, so a use after close is a CHECK.
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "sim_internal.h"

#define WINDOW_BYTES ((size_t)64 << 10)
#define SEGMENT_BYTES 1460
#define CONNECT_TIMEOUT_US (INT64_C(130) * 1000000) // what Linux takes with six SYNs
#define LINGER_US (INT64_C(5) * 1000000)
#define PATHS_MAX 1024

enum stream_state { STREAM_CONNECTING, STREAM_OPEN, STREAM_ENDED, STREAM_CLOSED };

struct sys_stream {
    struct list link;
    struct sys_loop *loop; // NULL: it died with its host
    struct sim_host *host;
    struct sys_stream *peer; // the other end; NULL before there is one
    struct sys_addr local, remote;
    const struct sys_stream_events *events;
    void *ctx;
    enum stream_state state;
    bool connected, reading, fin_wanted, fin_sent, owes_drained, hung;
    bool broken;        // not ended in order: nothing can be sent any more
    struct buf tx;      // written, not sent
    struct buf rx;      // arrived, not read
    int rx_end;         // how the connection ended behind what is in rx; 0: it has not
    size_t in_flight;   // sent, not read by the other end
    int64_t arrives_us; // the last segment sent
    int64_t linger_us;  // closed in order: what still comes is dropped until then, then reset
    struct sim_path path;
};

struct sys_listener {
    struct list link; // in its port
    struct sys_loop *loop;
    void (*on_accept)(void *ctx, struct sys_stream *s);
    void *ctx;
};

struct port {
    struct list link;
    ino_t inode; // of the memfd that stands for the socket: a dup has it, too
    struct sim_host *host;
    struct sys_addr address;
    struct list listeners;
};

static struct {
    struct list streams, ports;
    struct sim_path default_path;
    struct {
        struct sys_addr address;
        struct sim_path path;
    } paths[PATHS_MAX];
    uint32_t path_count;
    struct {
        struct sys_addr address;
        uint64_t count;
    } attempts[PATHS_MAX];
    uint32_t attempts_count;
    uint64_t connected; // ever
} net;

static void stream_pump(struct sys_stream *s);
static void stream_read_on(struct sys_stream *s);

// ---- paths -------------------------------------------------------------------------------------

static bool addr_matches(const struct sys_addr *rule, const struct sys_addr *addr)
{
    struct sys_addr any_port = *addr;
    if (rule->port == 0)
        any_port.port = 0;
    return sys_addr_eq(rule, &any_port);
}

static const struct sim_path *path_find(const struct sys_addr *to)
{
    for (uint32_t i = net.path_count; i-- > 0;)
        if (addr_matches(&net.paths[i].address, to))
            return &net.paths[i].path;
    return &net.default_path;
}

void sim_path_default(const struct sim_path *path)
{
    net.default_path = *path;
}

void sim_path_set(const struct sys_addr *address, const struct sim_path *path)
{
    for (uint32_t i = 0; i < net.path_count; i++)
        if (sys_addr_eq(&net.paths[i].address, address)) {
            net.paths[i].path = *path;
            return;
        }
    CHECK(net.path_count < PATHS_MAX);
    net.paths[net.path_count].address = *address;
    net.paths[net.path_count++].path = *path;
}

static int64_t latency_us(const struct sys_stream *s)
{
    int64_t low = s->path.latency_us_min ? s->path.latency_us_min : 20;
    int64_t high = s->path.latency_us_max ? s->path.latency_us_max : 400;
    return sim_between(DICE_NET, low, high);
}

// ---- streams: made, ended, closed --------------------------------------------------------------

static struct sys_stream *stream_new(struct sys_loop *loop)
{
    struct sys_stream *s = mem_new(sizeof *s);
    s->loop = loop;
    s->host = loop->host;
    list_push_back(&net.streams, &s->link);
    return s;
}

static void stream_forget_data(struct sys_stream *s)
{
    buf_done(&s->tx);
    buf_done(&s->rx);
}

// Tells the owner that the connection ended; at most once.
static void stream_end(struct sys_stream *s, int err)
{
    if (s->state == STREAM_CLOSED || s->state == STREAM_ENDED)
        return;
    sim_note("end", (uint64_t)-err, s->local.port);
    s->state = STREAM_ENDED;
    s->broken = err != E_CLOSED;
    if (s->broken)
        stream_forget_data(s);
    if (s->events)
        s->events->on_end(s->ctx, err);
}

static void fire_reset(struct sim_event *event)
{
    struct sys_stream *s = event->about;
    buf_clear(&s->rx);
    buf_clear(&s->tx);
    s->rx_end = E_IO;
    s->broken = true;
    if (s->state == STREAM_OPEN || s->state == STREAM_CONNECTING)
        stream_read_on(s);
}

// A reset travels to the stream; it may overtake data.
static void stream_reset_at(struct sys_stream *s, int64_t at_us)
{
    if (s && s->loop && s->state != STREAM_CLOSED && s->state != STREAM_ENDED)
        sim_event_add(s->loop, at_us, fire_reset, s, BYTES_NONE);
}

static void peer_reset(struct sys_stream *s)
{
    if (s->hung || !s->peer)
        return;
    int64_t at = sim_turn_us() + latency_us(s);
    if (at < s->arrives_us && sim_chance(DICE_NET, 1, 2))
        at = s->arrives_us;
    stream_reset_at(s->peer, at);
}

void sys_stream_close(struct sys_stream *s, bool abort)
{
    CHECK(s->state != STREAM_CLOSED && s->loop == sys_loop_self());
    bool was_open = !s->broken;
    s->state = STREAM_CLOSED;
    s->events = NULL;
    if (was_open && abort) {
        peer_reset(s);
        stream_forget_data(s);
    } else if (was_open) {
        s->linger_us = sim_turn_us() + LINGER_US;
        s->fin_wanted = true;
        stream_pump(s);
    }
}

// ---- streams: data -----------------------------------------------------------------------------

static void fire_ack(struct sim_event *event)
{
    struct sys_stream *s = event->about;
    CHECK(s->in_flight >= (size_t)event->code);
    s->in_flight -= (size_t)event->code;
    stream_pump(s);
    if (s->owes_drained && s->tx.len == 0 && s->state == STREAM_OPEN) {
        s->owes_drained = false;
        if (s->events && s->events->on_drained)
            s->events->on_drained(s->ctx);
    }
}

static void ack(struct sys_stream *sender, size_t bytes, int64_t delay_us)
{
    if (!sender || !sender->loop)
        return;
    struct sim_event *event =
        sim_event_add(sender->loop, sim_turn_us() + delay_us, fire_ack, sender, BYTES_NONE);
    event->code = (int)bytes;
}

// Hands what has arrived to the owner while it wants to read, then the end.
static void stream_read_on(struct sys_stream *s)
{
    while (s->rx.len && s->reading && s->events && s->state == STREAM_OPEN) {
        struct buf data = s->rx;
        memset(&s->rx, 0, sizeof s->rx);
        if (s->peer)
            ack(s->peer, data.len, latency_us(s));
        s->events->on_data(s->ctx, buf_bytes(&data));
        buf_done(&data);
    }
    bool reads = s->reading || s->state == STREAM_CONNECTING;
    if (s->rx_end && !s->rx.len && reads && s->events)
        stream_end(s, s->rx_end);
}

static void fire_data(struct sim_event *event)
{
    struct sys_stream *s = event->about;
    if (s->state == STREAM_CLOSED && sim_turn_us() < s->linger_us) {
        ack(s->peer, event->len, latency_us(s));
        return;
    }
    if (s->state == STREAM_CLOSED || s->state == STREAM_ENDED) {
        peer_reset(s);
        return;
    }
    if (s->rx_end)
        return;
    buf_add(&s->rx, bytes_of(event->data, event->len));
    sim_note("data", s->local.port, event->len);
    stream_read_on(s);
}

static void fire_fin(struct sim_event *event)
{
    struct sys_stream *s = event->about;
    if (s->state != STREAM_OPEN || s->rx_end)
        return;
    s->rx_end = E_CLOSED;
    stream_read_on(s);
}

// Mostly full segments, sometimes cut where it hurts.
static size_t segment_len(size_t pending)
{
    size_t max = SEGMENT_BYTES;
    if (sim_chance(DICE_NET, 1, 4))
        max = 1 + sim_roll(DICE_NET, 64);
    if (sim_chance(DICE_NET, 1, 32))
        max = 1;
    return pending < max ? pending : max;
}

// The network breaks now for both ends, or swallows everything from now on.
static bool network_strikes(struct sys_stream *s)
{
    if (s->path.reset_per_million && sim_chance(DICE_NET, s->path.reset_per_million, 1000000)) {
        sim_note("net reset", s->local.port, s->remote.port);
        stream_reset_at(s, sim_turn_us() + latency_us(s));
        stream_reset_at(s->peer, sim_turn_us() + latency_us(s));
        s->hung = s->peer->hung = true;
    } else if (s->path.hang_per_million &&
               sim_chance(DICE_NET, s->path.hang_per_million, 1000000)) {
        sim_note("net hang", s->local.port, s->remote.port);
        s->hung = s->peer->hung = true;
    }
    return s->hung;
}

static void send_segment(struct sys_stream *s, size_t len)
{
    int64_t at = sim_turn_us() + latency_us(s);
    if (at <= s->arrives_us)
        at = s->arrives_us + 1;
    if (s->path.bytes_per_second)
        at += (int64_t)(len * 1000000 / s->path.bytes_per_second);
    s->arrives_us = at;
    s->in_flight += len;
    if (!network_strikes(s) && s->peer->loop)
        sim_event_add(s->peer->loop, at, fire_data, s->peer, bytes_first(buf_bytes(&s->tx), len));
    buf_consume(&s->tx, len);
}

static void send_fin(struct sys_stream *s)
{
    s->fin_sent = true;
    int64_t at = sim_turn_us() + latency_us(s);
    if (at <= s->arrives_us)
        at = s->arrives_us + 1;
    s->arrives_us = at;
    if (!s->hung && s->peer->loop)
        sim_event_add(s->peer->loop, at, fire_fin, s->peer, BYTES_NONE);
}

static void stream_pump(struct sys_stream *s)
{
    if (!s->connected || s->broken)
        return;
    while (s->tx.len && s->in_flight < WINDOW_BYTES)
        send_segment(s, segment_len(s->tx.len));
    if (!s->tx.len && s->fin_wanted && !s->fin_sent)
        send_fin(s);
}

static void check_usable(const struct sys_stream *s)
{
    CHECK(s->state != STREAM_CLOSED && s->loop == sys_loop_self());
}

void sys_stream_write(struct sys_stream *s, struct bytes data)
{
    check_usable(s);
    if (sim_op_crashes()) {
        // What the kernel had taken of it before the machine died may still reach the peer.
        buf_add(&s->tx, bytes_first(data, sim_roll(DICE_NET, data.len + 1)));
        stream_pump(s);
        sim_crash_now();
    }
    CHECK(!s->fin_wanted);
    if (!data.len || s->state == STREAM_ENDED)
        return;
    buf_add(&s->tx, data);
    // The kernel takes nothing at once now and then.
    if (s->connected && sim_chance(DICE_NET, 1, 8))
        ack(s, 0, sim_between(DICE_NET, 1, 500));
    else
        stream_pump(s);
    s->owes_drained = s->tx.len > 0;
}

void sys_stream_write_chain(struct sys_stream *s, struct chain *from)
{
    struct buf data = {0};
    for (const struct chunk *chunk = from->first; chunk; chunk = chunk->next)
        buf_add(&data, bytes_of(chunk->data, chunk->len));
    chain_done(from);
    sys_stream_write(s, buf_bytes(&data));
    buf_done(&data);
}

size_t sys_stream_pending(const struct sys_stream *s)
{
    return s->tx.len;
}

static void fire_read_on(struct sim_event *event)
{
    struct sys_stream *s = event->about;
    if (s->state == STREAM_OPEN)
        stream_read_on(s);
}

static void read_later(struct sys_stream *s)
{
    if (s->rx.len || s->rx_end)
        sim_event_add(s->loop, sim_turn_us() + 1, fire_read_on, s, BYTES_NONE);
}

void sys_stream_read(struct sys_stream *s, bool on)
{
    check_usable(s);
    s->reading = on;
    if (on)
        read_later(s);
}

void sys_stream_set_events(struct sys_stream *s, const struct sys_stream_events *events, void *ctx)
{
    check_usable(s);
    bool first = !s->events;
    s->events = events;
    s->ctx = ctx;
    if (first && s->state == STREAM_OPEN) {
        s->reading = true;
        read_later(s);
    }
}

void sys_stream_shutdown(struct sys_stream *s)
{
    check_usable(s);
    s->fin_wanted = true;
    stream_pump(s);
}

const struct sys_addr *sys_stream_peer(const struct sys_stream *s)
{
    return &s->remote;
}

const struct sys_addr *sys_stream_local(const struct sys_stream *s)
{
    return &s->local;
}

// There are no users in the simulated world.
bool sys_stream_peer_user(const struct sys_stream *s, uint32_t *out_uid, bool *out_is_self)
{
    (void)s;
    (void)out_uid;
    (void)out_is_self;
    return false;
}

// ---- connecting and accepting ------------------------------------------------------------------

static struct port *port_find(const struct sys_addr *address)
{
    list_each(link, &net.ports)
    {
        struct port *port = list_get(link, struct port, link);
        if (sys_addr_eq(&port->address, address))
            return port;
    }
    return NULL;
}

static struct sys_listener *port_pick(struct port *port)
{
    uint32_t count = 0;
    struct sys_listener *pick = NULL;
    list_each(link, &port->listeners) if (sim_roll(DICE_NET, ++count) == 0) pick =
        list_get(link, struct sys_listener, link);
    return pick;
}

static void fire_connect_failed(struct sim_event *event)
{
    struct sys_stream *s = event->about;
    if (s->state == STREAM_CONNECTING)
        stream_end(s, event->code);
}

static void connect_fails(struct sys_stream *s, int err, int64_t after_us)
{
    struct sim_event *event =
        sim_event_add(s->loop, sim_turn_us() + after_us, fire_connect_failed, s, BYTES_NONE);
    event->code = err;
}

static void fire_connected(struct sim_event *event)
{
    struct sys_stream *s = event->about;
    if (s->state == STREAM_CLOSED) { // closed while it was connecting
        peer_reset(s);
        return;
    }
    if (s->state != STREAM_CONNECTING)
        return;
    s->state = STREAM_OPEN;
    s->connected = true;
    net.connected++;
    s->reading = true;
    sim_note("connected", s->local.port, s->remote.port);
    if (s->events)
        s->events->on_connected(s->ctx);
    if (s->state == STREAM_OPEN) {
        stream_pump(s);
        stream_read_on(s);
    }
}

static struct sys_listener *listener_alive(const struct sys_loop *loop, const void *wanted)
{
    list_each(link, &net.ports)
    {
        struct port *port = list_get(link, struct port, link);
        list_each(member, &port->listeners)
        {
            struct sys_listener *l = list_get(member, struct sys_listener, link);
            if (l == wanted && l->loop == loop)
                return l;
        }
    }
    return NULL;
}

struct accept_note {
    struct sys_listener *listener; // may be gone by then
};

static void fire_accept(struct sim_event *event)
{
    struct sys_stream *s = event->about;
    struct accept_note note;
    memcpy(&note, event->data, sizeof note);
    struct sys_listener *l = listener_alive(s->loop, note.listener);
    if (!l) {
        s->state = STREAM_CLOSED;
        peer_reset(s);
        return;
    }
    sim_note("accept", s->local.port, s->remote.port);
    if (sim_op_crashes())
        sim_crash_now();
    l->on_accept(l->ctx, s);
}

static void connect_to(struct sys_stream *s, struct sys_listener *l)
{
    struct sys_stream *far = stream_new(l->loop);
    far->state = STREAM_OPEN;
    far->connected = true;
    far->peer = s;
    s->peer = far;
    far->local = s->remote;
    far->remote = s->local;
    far->path = s->path;
    int64_t there = sim_turn_us() + latency_us(s);
    struct accept_note note = {l};
    sim_event_add(l->loop, there, fire_accept, far, bytes_of(&note, sizeof note));
    far->arrives_us = there + latency_us(s);
    sim_event_add(s->loop, far->arrives_us, fire_connected, s, BYTES_NONE);
}

static void connect_start(struct sys_stream *s)
{
    struct port *port = port_find(&s->remote);
    struct sys_listener *l = port ? port_pick(port) : NULL;
    if (s->path.unreachable)
        connect_fails(s, E_UNREACHABLE, latency_us(s));
    else if (s->path.blackhole || (port && port->host->down))
        connect_fails(s, E_TIMEOUT, CONNECT_TIMEOUT_US);
    else if (s->path.refused || !l)
        connect_fails(s, E_REFUSED, 2 * latency_us(s));
    else
        connect_to(s, l);
}

static uint64_t *attempts_to(const struct sys_addr *to)
{
    for (uint32_t i = 0; i < net.attempts_count; i++)
        if (sys_addr_eq(&net.attempts[i].address, to))
            return &net.attempts[i].count;
    CHECK(net.attempts_count < PATHS_MAX);
    net.attempts[net.attempts_count].address = *to;
    return &net.attempts[net.attempts_count++].count;
}

uint64_t sim_attempts_to(const struct sys_addr *to)
{
    return *attempts_to(to);
}

struct sys_stream *sys_stream_connect(const struct sys_addr *to, const struct sys_addr *from,
                                      const struct sys_stream_events *events, void *ctx)
{
    if (sim_op_crashes())
        sim_crash_now();
    struct sys_stream *s = stream_new(sys_loop_self());
    s->events = events;
    s->ctx = ctx;
    s->remote = *to;
    s->local = from ? *from : s->host->address;
    s->local.port = ++s->host->next_port;
    s->path = *path_find(to);
    sim_note("connect", s->local.port, to->port);
    ++*attempts_to(to);
    connect_start(s);
    return s;
}

// ---- listeners ---------------------------------------------------------------------------------

static ino_t inode_of(int fd)
{
    struct stat st;
    CHECK(fstat(fd, &st) == 0);
    return st.st_ino;
}

int sim_listen(const struct sys_addr *address)
{
    CHECK(sim_here() && !port_find(address));
    struct port *port = mem_new(sizeof *port);
    int fd = memfd_create("sim_listen", MFD_CLOEXEC);
    CHECK(fd >= 0);
    port->inode = inode_of(fd);
    port->host = sim_here();
    port->address = *address;
    list_init(&port->listeners);
    list_push_back(&net.ports, &port->link);
    return fd;
}

struct sys_listener *sys_listener_open(int fd, void (*on_accept)(void *ctx, struct sys_stream *s),
                                       void *ctx)
{
    ino_t inode = inode_of(fd);
    close(fd);
    list_each(link, &net.ports)
    {
        struct port *port = list_get(link, struct port, link);
        if (port->inode != inode)
            continue;
        struct sys_listener *l = mem_new(sizeof *l);
        l->loop = sys_loop_self();
        l->on_accept = on_accept;
        l->ctx = ctx;
        list_push_back(&port->listeners, &l->link);
        return l;
    }
    CHECK(!"a descriptor made by sim_listen()");
    return NULL;
}

// Which loop accepts is the seed's choice.
void sys_listener_yield(struct sys_listener *l)
{
    (void)l;
}

static void listener_free(struct sys_listener *l)
{
    list_remove(&l->link);
    free(l);
}

void sys_listener_close(struct sys_listener *l)
{
    CHECK(l->loop == sys_loop_self());
    listener_free(l);
}

static void port_free(struct port *port)
{
    list_each(link, &port->listeners) listener_free(list_get(link, struct sys_listener, link));
    list_remove(&port->link);
    free(port);
}

// ---- crashes, life -----------------------------------------------------------------------------

// A killed process: the kernel ends its connections. A dead machine says nothing; once it is up
// again it answers what still arrives with a reset, here some seconds later, or the peer waits for
// ever.
static void stream_orphan(struct sys_stream *s, enum sim_crash_kind kind)
{
    if (s->state != STREAM_CLOSED && s->state != STREAM_ENDED && s->peer && !s->hung) {
        int64_t delay = kind == SIM_KILL ? latency_us(s) : sim_between(DICE_NET, 1000, 8000000);
        if (kind == SIM_KILL || sim_chance(DICE_NET, 2, 3))
            stream_reset_at(s->peer, sim_turn_us() + delay);
    }
    s->state = STREAM_CLOSED;
    s->events = NULL;
    s->loop = NULL;
    stream_forget_data(s);
}

void sim_net_host_down(struct sim_host *host, enum sim_crash_kind kind)
{
    list_each(link, &net.streams)
    {
        struct sys_stream *s = list_get(link, struct sys_stream, link);
        if (s->host == host && s->loop)
            stream_orphan(s, kind);
    }
    list_each(link, &net.ports)
    {
        struct port *port = list_get(link, struct port, link);
        if (port->host == host)
            port_free(port);
    }
}

void sim_net_loop_gone(struct sys_loop *loop)
{
    list_each(link, &net.streams)
    {
        struct sys_stream *s = list_get(link, struct sys_stream, link);
        if (s->loop == loop)
            stream_orphan(s, SIM_KILL);
    }
    list_each(link, &net.ports)
    {
        struct port *port = list_get(link, struct port, link);
        list_each(member,
                  &port->listeners) if (list_get(member, struct sys_listener, link)->loop == loop)
            listener_free(list_get(member, struct sys_listener, link));
    }
}

void sim_net_start(void)
{
    memset(&net, 0, sizeof net);
    list_init(&net.streams);
    list_init(&net.ports);
}

void sim_net_stop(void)
{
    list_each(link, &net.ports) port_free(list_get(link, struct port, link));
    list_each(link, &net.streams)
    {
        struct sys_stream *s = list_get(link, struct sys_stream, link);
        stream_forget_data(s);
        list_remove(&s->link);
        free(s);
    }
}

static bool stream_is_open(const struct sys_stream *s)
{
    return s->state == STREAM_OPEN && s->loop;
}

uint32_t sim_streams_open(void)
{
    uint32_t count = 0;
    list_each(link, &net.streams) count += stream_is_open(list_get(link, struct sys_stream, link));
    return count;
}

uint64_t sim_streams_connected(void)
{
    return net.connected;
}

uint32_t sim_streams_to(const struct sim_host *from, const struct sys_addr *to)
{
    uint32_t count = 0;
    list_each(link, &net.streams)
    {
        const struct sys_stream *s = list_get(link, struct sys_stream, link);
        count += stream_is_open(s) && s->host == from && addr_matches(to, &s->remote);
    }
    return count;
}
