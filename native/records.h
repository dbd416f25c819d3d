// Flow records of connections (TCP, UDP): says what src/conntrack/flow-accounting.ts says. Before a packet is touched, the ring
// must have room for what it may end (RECORDS_PER_PACKET).
#pragma once
#include "flow_record.h"
#include "replay_packet.h"
#include <cmath>

namespace seine {

constexpr uint32_t RECORDS_PER_PACKET = 4;
namespace EndReason {
constexpr uint32_t IDLE = 1, ACTIVE = 2, END = 3, RESOURCES = 5;
}
constexpr uint32_t ACTIVE_HORIZON_TICKS = 1u << 30;
constexpr double TICK_NS = 134217728.0;

inline uint32_t record_bit(uint32_t direction) { return direction == 0 ? Status::RECORD0 : Status::RECORD1; }

struct Records {
  const Shard& c;

  void end(uint32_t index, uint32_t direction, uint32_t reason, uint64_t exported) const {
    const Table& t = c.table;
    uint32_t* e = t.entry(index);
    const uint32_t* d = e + E::DIRECTION + direction * DIRECTION_WORDS;
    const uint32_t* cold = t.cold_of(index);
    const uint32_t head = c.records.header[0];
    uint32_t* out = c.records.words + static_cast<size_t>(head & c.records.mask) * RECORD_WORDS;
    const bool six = (e[E::KEY] & 0xf00) == 0x600;
    if (six) {
      const uint32_t* whole = t.addresses + static_cast<size_t>(index) * 8;
      for (uint32_t i = 0; i < 8; i++) out[i] = whole[i ^ (direction * 4)];
    } else {
      std::memset(out, 0, 32);
      out[0] = e[direction == 0 ? E::SRC : E::DST];
      out[4] = e[direction == 0 ? E::DST : E::SRC];
    }
    out[R::PORTS] = direction == 0 ? e[E::PORTS] : turned(e[E::PORTS]);
    const uint32_t marks = d[D::MARKS], verdict = (marks >> 16) & 0xff;
    out[R::PROTOCOL] = (e[E::KEY] & 0xff) | ((marks & 0xff) << 8) | (((marks >> 8) & 0xff) << 16) | (reason << 24);
    out[R::INTERFACES] = cold[C::INTERFACES + direction];
    out[R::VERDICT] = (six ? 6u : 4u) | (verdict << 8) | ((marks >> 24) << 16);
    const uint64_t octets = get64(d + D::OCTETS);
    put64(out + R::PACKETS, d[D::PACKETS]);
    put64(out + R::OCTETS, octets);
    put64(out + R::FRAME_OCTETS, octets + d[D::EXCESS]);
    put64(out + R::START, get64(cold + C::FIRST + direction * 2));
    put64(out + R::END, get64(d + D::LAST));
    put64(out + R::EXPORT, exported);
    // The plan's rules decided the record's packets, unless they met another end (invalid, TTL …).
    const uint32_t* plan = t.plan(d[D::PLAN]);
    const bool planned = (plan[P::DECISION] & 0xff) == verdict;
    out[R::INGRESS_RULE] = planned ? plan[P::INGRESS_RULE] : 0;
    out[R::EGRESS_RULE] = planned ? plan[P::EGRESS_RULE] : 0;
    // In this order: a crash between the two leaves the record twice, which recovery sees, and never not at all.
    __atomic_store_n(c.records.header, head + 1, __ATOMIC_RELEASE);
    e[E::STATUS] &= ~(direction == 0 ? Status::RECORD0 | Status::REPLAY0 : Status::RECORD1 | Status::REPLAY1);
  }

  // Ends the direction's open record if it is due at `now`; true if it was.
  bool end_if_due(uint32_t index, uint32_t direction, uint64_t now) const {
    const uint64_t first = get64(c.table.cold_of(index) + C::FIRST + direction * 2);
    const uint64_t last = get64(c.table.entry(index) + E::DIRECTION + direction * DIRECTION_WORDS + D::LAST);
    const double since_last = elapsed(last, now), since_first = elapsed(first, now);
    const double idle = c.record_timeouts[0], active = c.record_timeouts[1];
    const bool idle_due = since_last >= idle, active_due = since_first >= active;
    if (!idle_due && !active_due) return false;
    if (active_due && (!idle_due || since_first - active > since_last - idle))
      end(index, direction, EndReason::ACTIVE, first + static_cast<uint64_t>(active));
    else end(index, direction, EndReason::IDLE, last + static_cast<uint64_t>(idle));
    return true;
  }

  static double tick_after(uint64_t from, double ns) {
    return std::floor(static_cast<double>(from >> 32) * 32 + (static_cast<double>(from & 0xffffffffu) + ns) / TICK_NS);
  }
  // The tick at which the entry is next due: its open records, else its own expiry.
  double due_tick(uint32_t index) const {
    const uint32_t* e = c.table.entry(index);
    const uint32_t* cold = c.table.cold_of(index);
    double due = INFINITY;
    for (uint32_t direction = 0; direction < 2; direction++) {
      if ((e[E::STATUS] & record_bit(direction)) == 0) continue;
      due = std::min(due, tick_after(get64(e + E::DIRECTION + direction * DIRECTION_WORDS + D::LAST), c.record_timeouts[0]));
      due = std::min(due, tick_after(get64(cold + C::FIRST + direction * 2), c.record_timeouts[1]));
    }
    return due == INFINITY ? static_cast<double>(get64(e + E::EXPIRES) >> TICK_SHIFT) : due;
  }

  void link_plan(uint32_t index, uint32_t direction) const {
    const Table& t = c.table;
    uint32_t* e = t.entry(index);
    const uint32_t replay = direction == 0 ? Status::REPLAY0 : Status::REPLAY1;
    const uint32_t needed = direction == 0 ? Status::PLAN0 | Status::RECORD0 : Status::PLAN1 | Status::RECORD1;
    if ((e[E::STATUS] & replay) != 0 || (e[E::STATUS] & needed) != needed) return;
    const uint32_t* d = e + E::DIRECTION + direction * DIRECTION_WORDS;
    const uint32_t* plan = t.plan(d[D::PLAN]);
    const uint32_t interfaces = t.cold_of(index)[C::INTERFACES + direction];
    if (plan[P::INTERFACES] >> 16 != interfaces >> 16 || (plan[P::DECISION] & 0xff) != ((d[D::MARKS] >> 16) & 0xff)) return;
    if (plan[P::INTERFACES] != interfaces) {
      const uint32_t was[4] = {plan[P::PORT], plan[P::DECISION], plan[P::INGRESS_RULE], plan[P::EGRESS_RULE]};
      t.set_plan(index, direction, was[0], was[1], was[2], was[3], interfaces & 0xffff);
    }
    e[E::STATUS] |= replay;
  }

  // Counts a packet in its direction's record, and arms the entry where one was opened.
  void count(uint32_t index, uint32_t direction, const Packet& p, uint32_t out_port, uint32_t verdict, uint32_t reason) const {
    const Table& t = c.table;
    uint32_t* e = t.entry(index);
    uint32_t* d = e + E::DIRECTION + direction * DIRECTION_WORDS;
    uint32_t* cold = t.cold_of(index);
    const uint32_t bit = record_bit(direction), excess = p.frame_octets - p.ip_length;
    if ((e[E::STATUS] & bit) != 0 && !end_if_due(index, direction, p.now)) {
      if (cold[C::INTERFACES + direction] >> 16 != out_port || ((d[D::MARKS] >> 16) & 0xff) != verdict)
        end(index, direction, EndReason::END, p.now);
      else if (d[D::PACKETS] == UINT32_MAX || static_cast<uint64_t>(d[D::EXCESS]) + excess > UINT32_MAX)
        end(index, direction, EndReason::RESOURCES, p.now);
    }
    const bool opens = (e[E::STATUS] & bit) == 0;
    if (opens) {
      cold[C::INTERFACES + direction] = (p.in_port & 0xffff) | (out_port << 16);
      d[D::MARKS] = (p.tos & 0xfcu) | (verdict << 16) | (reason << 24);
      d[D::PACKETS] = 0;
      d[D::EXCESS] = 0;
      put64(d + D::OCTETS, 0);
      put64(cold + C::FIRST + direction * 2, p.now);
      const bool other = (e[E::STATUS] & (Status::RECORD0 | Status::RECORD1)) != 0;
      e[E::STATUS] |= bit;
      const double ticks = std::floor((static_cast<double>(p.now & ((1u << TICK_SHIFT) - 1)) + c.record_timeouts[1]) / TICK_NS);
      const uint32_t ahead = ticks < ACTIVE_HORIZON_TICKS ? static_cast<uint32_t>(ticks) : ACTIVE_HORIZON_TICKS;
      const uint32_t due = static_cast<uint32_t>(p.now >> TICK_SHIFT) + ahead;
      if (!other || static_cast<int32_t>(e[E::ACTIVE_DUE] - due) > 0) e[E::ACTIVE_DUE] = due;
    }
    d[D::PACKETS]++;
    d[D::EXCESS] += excess;
    put64(d + D::OCTETS, get64(d + D::OCTETS) + p.ip_length);
    put64(d + D::LAST, p.now);
    if (p.protocol == PROTOCOL_TCP) d[D::MARKS] |= static_cast<uint32_t>(p.tcp_flags) << 8;
    link_plan(index, direction);
    if (opens) t.arm(index, due_tick(index));
  }

  // TCP closed by this packet of `direction`: both records end.
  void close(uint32_t index, uint32_t direction, uint64_t now) const {
    for (uint32_t each = 0; each < 2; each++) {
      if ((c.table.entry(index)[E::STATUS] & record_bit(each)) == 0) continue;
      if (each == direction || !end_if_due(index, each, now)) end(index, each, EndReason::END, now);
    }
  }
};

}  // namespace seine
