// The fast path for one packet: says what src/conntrack/replay.ts says. Inline in the loops that use it.
#pragma once
#include "replay.h"
#include <algorithm>

namespace seine {

constexpr uint32_t SIDE_NONE = 0, SIDE_SYN_SENT = 1, SIDE_ESTABLISHED = 2, SIDE_FIN_SENT = 3, SIDE_FIN_ACKED = 4;
constexpr uint32_t ESTABLISHED_BOTH = 0x22;
constexpr uint32_t MAX_ACK_WINDOW = 66000;

inline int32_t diff(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b); }
inline uint32_t turned(uint32_t ports) { return (ports >> 16) | (ports << 16); }
// As doubles, like the reference: what lies beyond 2^53 ns rounds alike.
inline double elapsed(uint64_t since, uint64_t now) { return static_cast<double>(static_cast<int64_t>(now - since)); }

inline bool same_addresses(const uint32_t* entry, const uint32_t* row, uint32_t turn) {
  for (uint32_t i = 0; i < 8; i++)
    if (entry[i] != row[i ^ turn]) return false;
  return true;
}

// Entry × 2 + direction, −1 = none. Keys of TCP and UDP, which have no discriminator.
inline int64_t find(const Table& t, const Packet& p) {
  const bool six = p.kind == IP6;
  const uint32_t src = p.src, dst = p.dst;
  for (uint32_t slot = p.hash & t.slot_mask;; slot = (slot + 1) & t.slot_mask) {
    const uint32_t held = t.slots[slot];
    if (held == 0) return -1;
    if (((held ^ p.hash) >> 24) != 0) continue;
    const uint32_t index = (held & SLOT_ENTRY) - 1;
    const uint32_t* e = t.entry(index);
    if (e[E::KEY] != p.key) continue;
    const uint32_t* whole = t.addresses + static_cast<size_t>(index) * 8;
    if (e[E::SRC] == src && e[E::DST] == dst && e[E::PORTS] == p.ports && (!six || same_addresses(whole, p.address, 0)))
      return static_cast<int64_t>(index) * 2;
    if (e[E::SRC] == dst && e[E::DST] == src && e[E::PORTS] == turned(p.ports) && (!six || same_addresses(whole, p.address, 4)))
      return static_cast<int64_t>(index) * 2 + 1;
  }
}

inline uint32_t scale_of(const uint32_t* e, uint32_t side) { return (e[E::SCALES] >> (side * 16)) & 0xffff; }

// A segment inside both windows moves them on; anything else is false and changes nothing.
inline bool move_window(uint32_t* e, uint32_t side, const Packet& p) {
  uint32_t* s = e + E::TCP + side * TCP_WORDS;
  uint32_t* r = e + E::TCP + (1 - side) * TCP_WORDS;
  const uint32_t data = p.seq + p.payload_length;
  const uint32_t end = data + ((p.tcp_flags & FIN) ? 1 : 0);
  const uint32_t peer_window = r[T::MAX_WINDOW], my_window = s[T::MAX_WINDOW];
  const uint32_t my_end = s[T::END], peer_end = r[T::END];
  if (peer_window == 0) return false;
  if (diff(end, s[T::MAX_END]) > 0) return false;
  if (diff(data, my_end - peer_window - 1) <= 0) return false;
  if (diff(p.ack, peer_end) > 0) return false;
  if (diff(p.ack, peer_end - std::max(my_window, MAX_ACK_WINDOW)) < 0) return false;
  const uint32_t scaled = static_cast<uint32_t>(p.window) << (scale_of(e, side) & 0x1f);
  if (scaled > my_window) s[T::MAX_WINDOW] = scaled;
  if (diff(end, my_end) > 0) s[T::END] = end;
  if (diff(s[T::END], s[T::MAX_END]) > 0) s[T::MAX_END] = s[T::END];
  const uint32_t allowed = p.ack + std::max<uint32_t>(scaled, 1);
  if (diff(allowed, r[T::MAX_END]) > 0) r[T::MAX_END] = allowed;
  return true;
}

inline void advance(const Table& t, uint32_t index, uint32_t* e, uint32_t side, uint32_t mine, uint32_t peer, const Packet& p) {
  const uint32_t peer_end = e[E::TCP + (1 - side) * TCP_WORDS + T::END];
  if ((p.tcp_flags & FIN) != 0 && mine < SIDE_FIN_SENT) mine = SIDE_FIN_SENT;
  if (peer == SIDE_SYN_SENT) peer = SIDE_ESTABLISHED;
  else if (peer == SIDE_FIN_SENT && diff(p.ack, peer_end) >= 0) peer = SIDE_FIN_ACKED;
  e[E::STATUS] = (e[E::STATUS] & ~0xffu) | (side == 0 ? mine | (peer << 4) : peer | (mine << 4));
  if ((mine >= SIDE_FIN_SENT || peer >= SIDE_FIN_SENT) && (e[E::STATUS] & Status::LIST_CLOSING) == 0) t.list(index, 1);
}

inline uint64_t tcp_timeout(const TimeoutsNs& t, uint32_t status) {
  const uint32_t original = status & 0xf, reply = (status >> 4) & 0xf;
  if (original >= SIDE_FIN_ACKED && reply >= SIDE_FIN_ACKED) return t.tcp_close;
  if (original >= SIDE_FIN_SENT && reply >= SIDE_FIN_SENT) return t.tcp_time_wait;
  if (original >= SIDE_FIN_SENT || reply >= SIDE_FIN_SENT) return t.tcp_fin_wait;
  if (reply == SIDE_NONE) return t.tcp_syn_sent;
  if (original < SIDE_ESTABLISHED || reply < SIDE_ESTABLISHED) return t.tcp_syn_recv;
  return t.tcp_established;
}

inline void touch(uint32_t* e, uint64_t now, uint64_t timeout) { put64(e + E::EXPIRES, now + timeout); }

// Timeouts of records in whole ns, as they are when a call begins. The reference compares doubles: the same below 2^53 ns.
struct RecordLimits {
  int64_t idle, active;
  explicit RecordLimits(const double* ns) : idle(static_cast<int64_t>(ns[0])), active(static_cast<int64_t>(ns[1])) {}
};

// `found`: what find() said, not −1.
[[gnu::always_inline]] inline bool replay_packet(const Shard& c, const RecordLimits& limits, const Packet& p, int64_t found, Outcome& out) {
  const Table& t = c.table;
  const uint32_t direction = found & 1, index = static_cast<uint32_t>(found >> 1);
  uint32_t* e = t.entry(index);
  uint32_t* d = e + E::DIRECTION + direction * DIRECTION_WORDS;
  const uint32_t status = e[E::STATUS];
  if ((status & (direction == 0 ? Status::REPLAY0 : Status::REPLAY1)) == 0) return false;
  if ((status & (Status::CUT | Status::FLOOD | Status::CLOSED)) != 0) return false;
  const uint32_t* plan = t.plan(d[D::PLAN]);
  const uint32_t basis = plan[P::BASIS];
  if (e[E::EPOCHS] != c.epochs[basis & 0xffff] + c.epochs[basis >> 16]) return false;
  if ((plan[P::INTERFACES] & 0xffff) != p.in_port) return false;
  if (p.now >= get64(e + E::EXPIRES)) return false;

  // The record must go on as it is.
  if (static_cast<int64_t>(p.now - get64(d + D::LAST)) >= limits.idle) return false;
  if (static_cast<int32_t>(static_cast<uint32_t>(p.now >> TICK_SHIFT) - e[E::ACTIVE_DUE]) >= 0 &&
      static_cast<int64_t>(p.now - get64(t.cold_of(index) + C::FIRST + direction * 2)) >= limits.active)
    return false;
  const uint64_t excess = static_cast<uint64_t>(d[D::EXCESS]) + (p.frame_octets - p.ip_length);
  if (d[D::PACKETS] == UINT32_MAX || excess > UINT32_MAX) return false;
  if (((plan[P::DECISION] >> 24) & DECREMENT_TTL) != 0 && p.ttl <= 1) return false;

  uint64_t timeout;
  if (status & Status::DENIED) {
    timeout = p.protocol == PROTOCOL_TCP ? c.timeouts.tcp_syn_sent : c.timeouts.udp_first;
    out.ct = CT_TRACKED | CT_NEW;
  } else {
    const bool replied = (status & Status::SEEN_REPLY) != 0;
    if (p.protocol == PROTOCOL_TCP) {
      if ((p.tcp_flags & (SYN | RST | ACK)) != ACK || !replied) return false;
      const uint32_t mine = (status >> (direction * 4)) & 0xf, peer = (status >> ((1 - direction) * 4)) & 0xf;
      // What may close the connection is not for here: its records end then.
      if (mine == SIDE_NONE || peer == SIDE_NONE || (mine >= SIDE_FIN_SENT && peer >= SIDE_FIN_SENT)) return false;
      if (!move_window(e, direction, p)) return false;
      if ((status & 0xff) == ESTABLISHED_BOTH && (p.tcp_flags & FIN) == 0) {
        timeout = c.timeouts.tcp_established;
      } else {
        advance(t, index, e, direction, mine, peer, p);
        timeout = tcp_timeout(c.timeouts, e[E::STATUS]);
      }
    } else {
      if (!replied && direction == 1) return false;
      if (direction == 0) e[E::STATUS] = status | Status::MULTIPLE;
      timeout = replied ? c.timeouts.udp_multiple : c.timeouts.udp_single;
    }
    out.ct = static_cast<uint8_t>(CT_TRACKED | (replied ? CT_ESTABLISHED : CT_NEW) | (direction == 1 ? CT_REPLY : 0));
  }
  touch(e, p.now, timeout);

  d[D::PACKETS]++;
  d[D::EXCESS] = static_cast<uint32_t>(excess);
  put64(d + D::OCTETS, get64(d + D::OCTETS) + p.ip_length);
  put64(d + D::LAST, p.now);
  if (p.protocol == PROTOCOL_TCP) d[D::MARKS] |= static_cast<uint32_t>(p.tcp_flags) << 8;
  out.plan = plan;
  out.index = index;
  out.direction = direction;
  return true;
}

// Verdict counters of a call: kept in registers or the first cache line, added to the shared ones at its end.
struct Counts {
  uint64_t packets[8] = {}, octets[8] = {};
  void add_to(const Shard& c) const {
    for (uint32_t verdict = 1; verdict <= CONSUME; verdict++) {
      c.counters[counter_indices.packets + verdict] += packets[verdict];
      c.counters[counter_indices.octets + verdict] += octets[verdict];
    }
  }
};

inline void count_rule(const Shard& c, uint32_t rule, uint32_t octets) {
  if (rule == 0 || rule >= c.rules_max) return;
  c.rules[rule * size_t{3}]++;
  c.rules[rule * size_t{3} + 1] += octets;
}

// Counts a packet that was decided by a plan.
inline void count_packet(const Shard& c, Counts& counts, const uint32_t* plan, uint32_t octets) {
  const uint32_t decision = plan[P::DECISION];
  const uint32_t verdict = decision & 7, reason = (decision >> 8) & 0xff;
  counts.packets[verdict]++;
  counts.octets[verdict] += octets;
  if (reason != 0) c.counters[counter_indices.drops + ((decision >> 16) & 0xff) * 64u + reason]++;
  count_rule(c, plan[P::INGRESS_RULE], octets);
  count_rule(c, plan[P::EGRESS_RULE], octets);
}

// The columns that a front end reads.
inline void write_verdict(BatchColumns* b, uint32_t r, const Outcome& o) {
  const uint32_t* plan = o.plan;
  const uint32_t decision = plan[P::DECISION];
  b->verdict[r] = decision & 0xff;
  b->drop_reason[r] = (decision >> 8) & 0xff;
  b->stage[r] = (decision >> 16) & 0xff;
  b->rewrite[r] = static_cast<uint16_t>(decision >> 24);
  b->tunnel[r] = static_cast<uint16_t>(plan[P::PORT] >> 16);
  b->out_port[r] = plan[P::INTERFACES] >> 16;
  b->ct[r] = o.ct;
  b->rule[r] = plan[P::RULE];
}
// Those that stages, captures and tests read besides.
inline void write_decision(BatchColumns* b, uint32_t r, const Outcome& o) {
  b->direction[r] = static_cast<uint8_t>(o.direction);
  b->connection[r] = o.index + 1;
  b->ingress_rule[r] = o.plan[P::INGRESS_RULE];
  b->egress_rule[r] = o.plan[P::EGRESS_RULE];
}

}  // namespace seine
