# SPDX-License-Identifier: MIT
"""report - which case has which targets; medians over rounds, build/bench.json, the table"""
import collections
import statistics

# A target: what in words, (the round's number), operator, limit, what in the round says that load or receiver bound it.
Check = collections.namedtuple("Check", "what of op limit bound", defaults=["bound_by_load"])
# about: in words. aim: the target may be missed by 30 % where a profile says why.
Case = collections.namedtuple("Case", "unit about aim checks")


def key(name):
    return lambda r: r.get(name)


def share(name, of):
    return lambda r: r[name] / r[of] if r.get(name) is not None and r.get(of) else None


# The first check of a case is the one that build/bench.json calls its target.
CASES = {
    "relay_4k": Case("messages/s", "4 KB, 50 sessions, through to smtp-sink", False, [
        Check("x Postfix", share("posthaste", "postfix"), ">=", 10),
        Check("us of CPU a message", key("cpu_us_per_msg"), "<=", 150),
        Check("of direct", share("posthaste", "direct"), ">=", 0.45),
        Check("flushes a message", key("flushes_per_msg"), "<=", 0.05)]),
    "relay_4k_rsa": Case("messages/s", "relay_4k signed with RSA-2048, relay and signer", False, [
        Check("x CPU of relay_4k + one openssl signature", share("cpu_us_per_msg", "unsigned_and_signature_us"), "<=", 1.1),
        Check("bodies read once more", key("bodies_read"), "<=", 0)]),
    "relay_4k_ed25519": Case("messages/s", "relay_4k signed with Ed25519, relay and signer", False, [
        Check("us of CPU beyond relay_4k + one openssl signature", key("beyond_us"), "<=", 25),
        Check("bodies read once more", key("bodies_read"), "<=", 0)]),
    "accept_4k": Case("messages/s", "4 KB, 50 sessions, all on hold", False, [
        Check("of smtp-sink's", share("posthaste", "direct"), ">=", 0.70)]),
    "queue_1m_memory": Case("bytes/message", "RSS for 1,000,000 deferred, a domain each", False, [
        Check("bytes a message, its recipient and domain", key("posthaste"), "<=", 550),
        Check("bytes a message", key("message"), "<=", 100),
        Check("bytes a recipient", key("recipient"), "<=", 150),
        Check("bytes a domain", key("domain"), "<=", 300),
        Check("counted of RSS grown, at most", key("counted_of_grown"), "<=", 1.1),
        Check("counted of RSS grown, at least", key("counted_of_grown_min"), ">=", 0.8)]),
    "queue_1m_restart": Case("ms", "start after kill -9 until it listens", False, [
        Check("ms to listening", key("posthaste"), "<=", 1000),
        Check("ms to the first delivery", key("first"), "<=", 3000)]),
    "queue_1m_accept": Case("messages/s", "relay_4k beside 1,000,000 deferred", False, [
        Check("of relay_4k with an empty queue, right before and after", share("posthaste", "relay_4k"), ">=", 0.90)]),
    "slow_disk": Case("messages/s", "each flush 10 ms longer, 50 sessions (200, 1,000: below)", False, [
        Check("of what is possible, at worst", key("share"), ">=", 0.90),
        Check("with 50 sessions", key("share_50"), ">=", 0.90, "bound_by_load_50"),
        Check("with 200", key("share_200"), ">=", 0.90, "bound_by_load_200"),
        Check("with 1,000", key("share_1000"), ">=", 0.90, "bound_by_load_1000")]),
    "relay_100k": Case("messages/s", "100 KB, load and sink", True, [
        Check("of direct", share("posthaste", "direct"), ">=", 0.70)]),
    "tls_reuse": Case("messages/s", "4 KB, TLS in and out, connections kept", True, [
        Check("x relay_4k's CPU a message", share("cpu_us_per_msg", "relay_4k_cpu_us_per_msg"), "<=", 1.5)]),
    "tls_new": Case("messages/s", "4 KB, a new TLS connection each, P-256, on hold", True, [
        Check("of load to sink, tickets off", share("posthaste", "direct"), ">=", 0.70),
        Check("of load to sink, tickets on", share("tickets_posthaste", "tickets_direct"), ">=", 0.70),
        Check("of the CPU is the signer's, signatures included", key("signer_share"), "<=", 0.10)]),
    "fanout_1000": Case("recipients/s", "64 KB to 1,000 recipients of one site, delivered", True, [
        Check("recipients/s delivered", key("posthaste"), ">=", 10000),
        Check("recipients/s accepted", key("accept"), ">=", 20000),
        Check("bytes written a message: its body once", key("written_bytes_per_msg"), "<=", 1000000)]),
    "latency_idle": Case("ms", "1 KB, end of data to the receiver having it, one at a time", True, [
        Check("ms, limit 2 flushes + 2 ms", key("posthaste"), "<=", lambda r: 2 * r["fdatasync_us"] / 1000 + 2)]),
    "start": Case("ms", "start to listening, nothing in the spool", False, [
        Check("ms to listening", key("posthaste"), "<=", 200)]),
    "dkim_verify": Case("us", "the signature of 4 KB verified, its key record at hand", False, [
        Check("us of CPU, RSA-2048", key("posthaste"), "<=", 300),
        Check("us of CPU, Ed25519", key("ed25519"), "<=", 300)]),
    "suppress_10m": Case("ns/lookup", "the suppression list with 10 million addresses, half of the lookups listed", False, [
        Check("ns of CPU a lookup", key("posthaste"), "<=", 1000),
        Check("bytes an address in memory", key("bytes_per_address"), "<=", 16)]),
    "history_10m": Case("ms", "a page of 100 from a history of 10 million events in 30 days: the slowest kind of question", False, [
        Check("ms, whatever is asked", key("posthaste"), "<=", 100),
        Check("us of CPU an event is written in, its index included", key("fill_us_per_event"), "<=", 10),
        Check("bytes of index an event", key("index_bytes_per_event"), "<=", 40)]),
    "idle_10k": Case("bytes/session", "10,000 idle sessions (Postfix: 80)", True, [
        Check("bytes, plain", key("posthaste"), "<=", 8 * 1024),
        Check("bytes, TLS", key("tls"), "<=", 28 * 1024)]),
}
COSTS = ("cpu_us_per_msg", "flushes_per_msg", "rss_peak_bytes")


def tidy(value):
    """Four digits or whole numbers: what a measurement is good for."""
    if not isinstance(value, float):
        return value
    return round(value) if abs(value) >= 1000 else float(f"{value:.4g}")


def span(values):
    values = [v for v in values if v is not None]
    return {"median": tidy(statistics.median(values)), "min": tidy(min(values)), "max": tidy(max(values))} if values else None


def median(rounds, of):
    values = [v for v in (of(r) for r in rounds) if v is not None]
    return statistics.median(values) if values else None


def judge(check, rounds):
    """(the measured median, the limit, met or None)."""
    value = median(rounds, check.of)
    limit = median(rounds, check.limit) if callable(check.limit) else check.limit
    if value is None:
        return None, limit, None
    return value, limit, value >= limit if check.op == ">=" else value <= limit


def is_bound(check, rounds):
    return 2 * sum(bool(r.get(check.bound)) for r in rounds) > len(rounds)


def met_of(check, rounds):
    """None: not measured, or missed where load or receiver bound it: nobody knows."""
    ok = judge(check, rounds)[2]
    return None if ok is False and is_bound(check, rounds) else ok


def result_of(name, rounds):
    """The case's entry of build/bench.json."""
    case = CASES[name]
    verdicts = [met_of(check, rounds) for check in case.checks]
    met = False if False in verdicts else None if None in verdicts else True
    ratio = median(rounds, share("posthaste", "postfix"))
    costs = {cost: median(rounds, key(cost)) for cost in COSTS}
    return {"id": name, "unit": case.unit,
            "rounds": [{k: tidy(v) for k, v in r.items()} for r in rounds],
            "posthaste": span(r.get("posthaste") for r in rounds), "postfix": span(r.get("postfix") for r in rounds),
            "ratio": tidy(ratio), "target": {"op": case.checks[0].op, "value": tidy(judge(case.checks[0], rounds)[1])}, "met": met,
            **{cost: tidy(value) for cost, value in costs.items()}}


# ---- for people ------------------------------------------------------------------------------------

def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(s):
    return f"{number(s['median'])} ({number(s['min'])}..{number(s['max'])})" if s else "-"


def check_rows(result):
    """(what, measured, "op limit", yes|NO|bound by load) of each target."""
    rounds = result["rounds"]
    for check in CASES[result["id"]].checks:
        value, limit, ok = judge(check, rounds)
        said = "-" if ok is None else "yes" if ok else "bound by load" if is_bound(check, rounds) else "NO"
        yield check.what, number(value), f"{check.op} {number(limit)}", said


def print_table(report):
    row = "{:<17} {:<14} {:>28} {:>24} {:>6} {:>8} {:>9} {:>8}"
    print(row.format("case", "unit", "posthaste (min..max)", "Postfix (min..max)", "ratio", "us CPU", "flushes", "peak MB"))
    for r in report["cases"]:
        print(row.format(r["id"], r["unit"], spread(r["posthaste"]), spread(r["postfix"]), number(r["ratio"]),
                         number(r["cpu_us_per_msg"]), number(r["flushes_per_msg"]),
                         number(r["rss_peak_bytes"] and r["rss_peak_bytes"] / 1e6)))
        for what, value, limit, said in check_rows(r):
            print(f"{'':<18}{value:>9} {limit:<12} {said:<14} {what}")
    print("host: " + ", ".join(f"{name} {value}" for name, value in report["host"].items()))
