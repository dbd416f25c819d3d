#include "judge.h"
#include "each_row.h"
#include "parse.h"
#include "records.h"
#include "tcp_track.h"

namespace seine {
namespace {

constexpr uint32_t RING = 4 * GROUP;
constexpr uint32_t OUTPUT_STAGE = 11;
// src/batch/drop-reason.ts, pipeline/forwarding.ts, pipeline/shard.ts.
constexpr uint32_t PORT_TUNNEL = 1, PORT_GATEWAY = 2, PORT_LOCAL = 65534;
constexpr uint32_t ROUTE_LOCAL_POD = 1, ROUTE_TUNNEL = 2, ROUTE_NO_SUCH_ENDPOINT = 3, ROUTE_GATEWAY_ADDRESS = 4, ROUTE_OWN_NODE = 5;
constexpr uint8_t KIND_UNKNOWN = 0, KIND_POD = 3;
constexpr uint32_t TOTAL_ENTRIES = 0, TOTAL_CONNECTIONS = 2, TOTALS_WORDS = 16;

// Where a packet goes, and what it becomes.
struct Way {
  uint32_t out_port, tunnel, rewrite;
};

struct Judge {
  const Shard& c;
  const Generation& g;
  Records records;

  int family(const Packet& p) const { return p.kind == IP6 ? 6 : 4; }
  const uint8_t* port(uint32_t number) const { return g.ports + static_cast<size_t>(number & 0xffff) * 8; }

  // Classifier and SpoofGuard: does the packet come as its in-port's packets may?
  bool may_enter(const Packet& p, const uint8_t* frame) const {
    if (p.in_port > 0xffff) return false;
    if (g.metering) return true;
    const uint8_t* from = port(p.in_port);
    if (from[7] == KIND_UNKNOWN) return false;
    if (from[7] != KIND_POD) return true;
    if (p.key >> 16 != NO_VLAN) return false;
    if (from[6] != 0 && std::memcmp(from, frame + 6, 6) != 0) {
      static constexpr uint8_t ZERO[6] = {};
      if (!c.replay || std::memcmp(ZERO, frame + 6, 6) != 0) return false;
    }
    return address_lookup(g.owners, p.address, family(p)) == p.in_port;
  }

  // Routing and Switching. False: it is no plain forwarding.
  bool route(const Packet& p, Way& way) const {
    way = {PORT_LOCAL, 0, 0};
    if (g.metering) return true;
    const uint32_t found = address_lookup(g.routes, p.address + 4, family(p));
    const uint32_t number = found & 0xffffff;
    bool decrement = p.in_port == PORT_TUNNEL;
    switch (found >> 24) {
      case ROUTE_LOCAL_POD:
        way.out_port = number;
        break;
      case ROUTE_TUNNEL:
        way.out_port = PORT_TUNNEL;
        way.tunnel = number == 0xffffff ? 0 : number & 0xffff;
        if (way.tunnel != 0) way.rewrite |= ENCAPSULATE;
        decrement = decrement || p.in_port != PORT_GATEWAY;
        break;
      case ROUTE_NO_SUCH_ENDPOINT:
        return false;
      case ROUTE_GATEWAY_ADDRESS:
        way.out_port = PORT_GATEWAY;
        decrement = decrement || p.in_port != PORT_GATEWAY;
        break;
      default:
        way.out_port = PORT_GATEWAY;
    }
    if (decrement) {
      if (p.ttl <= 1) return false;
      way.rewrite |= DECREMENT_TTL;
    }
    if (port(way.out_port)[6] != 0) way.rewrite |= DESTINATION_MAC;
    return true;
  }

  uint64_t timeout_of(const Packet& p, uint32_t status) const {
    if (p.protocol == PROTOCOL_TCP) return tcp_timeout(c.timeouts, status);
    if ((status & Status::SEEN_REPLY) != 0) return c.timeouts.udp_multiple;
    return (status & Status::MULTIPLE) != 0 ? c.timeouts.udp_single : c.timeouts.udp_first;
  }

  uint32_t epochs_now(uint32_t index) const {
    const uint32_t origin = c.table.cold_of(index)[C::ORIGIN] & 0xffff;
    return c.epochs[origin] + c.epochs[c.table.plan(c.table.entry(index)[E::DIRECTION + D::PLAN])[P::PORT] & 0xffff];
  }

  void store_plan(uint32_t index, uint32_t direction, const Way& way, uint32_t ingress, uint32_t egress, uint32_t in_port) const {
    const uint32_t decision = FORWARD | (OUTPUT_STAGE << 16) | (way.rewrite << 24);
    c.table.set_plan(index, direction, way.out_port | (way.tunnel << 16), decision, ingress, egress, in_port);
    uint32_t* e = c.table.entry(index);
    e[E::STATUS] |= direction == 0 ? Status::PLAN0 : Status::PLAN1;
    e[E::EPOCHS] = epochs_now(index);
  }

  // A packet of a connection that is there, which replay could not finish: handshake, closing, a record that is due, the first
  // reply. Nothing is changed where it says false.
  [[gnu::noinline]] bool existing(const Packet& p, const uint8_t* frame, int64_t found, Outcome& o) const {
    const Table& t = c.table;
    const uint32_t direction = found & 1, index = static_cast<uint32_t>(found >> 1);
    uint32_t* e = t.entry(index);
    const uint32_t status = e[E::STATUS];
    if ((status & (Status::DENIED | Status::CUT | Status::FLOOD | Status::LOOSE)) != 0) return false;
    if (p.now >= get64(e + E::EXPIRES) || e[E::EPOCHS] != epochs_now(index)) return false;
    if (c.records.room() < RECORDS_PER_PACKET || !may_enter(p, frame)) return false;
    if (p.protocol == PROTOCOL_TCP && side_state(status, 0) == SIDE_NONE) return false;
    const uint32_t* cold = t.cold_of(index);
    if ((status & record_bit(direction)) != 0) {
      if ((cold[C::INTERFACES + direction] & 0xffff) != p.in_port) return false;
    } else if (direction == 0 && (cold[C::ORIGIN] & 0xffff) != p.in_port) {
      return false;
    }
    const bool planned = (status & (direction == 0 ? Status::PLAN0 : Status::PLAN1)) != 0;
    Way way{};
    if (planned) {
      const uint32_t decision = t.plan(e[E::DIRECTION + direction * DIRECTION_WORDS + D::PLAN])[P::DECISION];
      if ((decision & 0xff) != FORWARD || (((decision >> 24) & DECREMENT_TTL) != 0 && p.ttl <= 1)) return false;
    } else if (direction == 0 || !route(p, way)) {
      return false;
    }

    bool closes = false;
    begin_change(e, status);
    if (p.protocol == PROTOCOL_TCP) {
      const Track result = track_tcp(e, direction, p, c.tcp_liberal);
      if (result == Track::Invalid || result == Track::Reopen) {
        end_change(e);
        return false;
      }
      closes = result == Track::Closes;
      const uint32_t now = e[E::STATUS];
      if (((now & Status::SEEN_REPLY) != 0 || direction == 1) &&
          (side_state(now, 0) >= SIDE_FIN_SENT || side_state(now, 1) >= SIDE_FIN_SENT) && (now & Status::LIST_CLOSING) == 0)
        t.list(index, 1);
    }
    if (direction == 1 && (e[E::STATUS] & Status::SEEN_REPLY) == 0) {
      if ((e[E::STATUS] & Status::LIST_UNREPLIED) != 0) t.unlist(index);
      e[E::STATUS] |= Status::SEEN_REPLY;
    } else if (direction == 0) {
      e[E::STATUS] |= Status::MULTIPLE;
    }
    touch(e, p.now, timeout_of(p, e[E::STATUS]));
    o.ct = static_cast<uint8_t>(CT_TRACKED | ((e[E::STATUS] & Status::SEEN_REPLY) != 0 ? CT_ESTABLISHED : CT_NEW) |
                                (direction == 1 ? CT_REPLY : 0));
    if (!planned) store_plan(index, direction, way, 0, 0, p.in_port);
    const uint32_t out_port = t.plan(e[E::DIRECTION + direction * DIRECTION_WORDS + D::PLAN])[P::PORT] & 0xffff;
    records.count(index, direction, p, out_port, FORWARD, 0);
    // A plan of another in-port's is made anew with the record: taken after that.
    o.plan = t.plan(e[E::DIRECTION + direction * DIRECTION_WORDS + D::PLAN]);
    if (closes) records.close(index, direction, p.now);
    end_change(e);
    o.index = index;
    o.direction = direction;
    return true;
  }

  int64_t total(uint32_t which) const {
    int64_t sum = 0;
    for (uint32_t shard = 0; shard < c.shards; shard++) sum += __atomic_load_n(c.totals + (1 + shard) * TOTALS_WORDS + which, __ATOMIC_SEQ_CST);
    return sum;
  }
  int64_t entries_of(uint32_t in_port) const {
    int64_t sum = 0;
    for (uint32_t shard = 0; shard < c.shards; shard++) sum += __atomic_load_n(c.endpoints + shard * size_t{65536} + in_port, __ATOMIC_SEQ_CST);
    return sum;
  }
  void count_in(uint32_t total) const {
    __atomic_add_fetch(c.totals + (1 + c.shard) * TOTALS_WORDS + total, 1, __ATOMIC_SEQ_CST);
    const int32_t now = static_cast<int32_t>(this->total(total));
    int32_t peak = __atomic_load_n(c.totals + total + 1, __ATOMIC_SEQ_CST);
    while (now > peak && !__atomic_compare_exchange_n(c.totals + total + 1, &peak, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
  }

  // The first packet of a connection that policy admits.
  [[gnu::noinline]] bool admit(const Packet& p, const uint8_t* frame, Outcome& o) const {
    const Table& t = c.table;
    if (p.protocol == PROTOCOL_TCP && !may_begin(p.tcp_flags, c.tcp_loose)) return false;
    if (!may_enter(p, frame)) return false;
    Way way;
    uint32_t ingress = 0, egress = 0;
    if (g.metering) {
      way = {PORT_LOCAL, 0, 0};
    } else {
      const bool from_pod = port(p.in_port)[7] == KIND_POD;
      if (from_pod) {
        const int32_t said = policy_decide(g.policy, 1, p.in_port, p.address + 4, p.address, family(p), p.protocol, p.ports >> 16);
        if (said < 0) return false;
        egress = static_cast<uint32_t>(said);
      }
      if (!route(p, way)) return false;
      const bool probe = p.in_port == PORT_GATEWAY && address_lookup(g.own_node, p.address, family(p)) != 0;
      if (port(way.out_port)[7] == KIND_POD && p.in_port != way.out_port && !probe) {
        const int32_t said = policy_decide(g.policy, 0, way.out_port, p.address, p.address + 4, family(p), p.protocol, p.ports >> 16);
        if (said < 0) return false;
        ingress = static_cast<uint32_t>(said);
      }
      if (from_pod && entries_of(p.in_port) >= static_cast<int64_t>(c.max_per_endpoint)) return false;
    }
    if (total(TOTAL_ENTRIES) >= static_cast<int64_t>(c.max)) return false;
    const int64_t made = t.insert(p.hash, p.address, p.ports, p.key, Status::BUSY);
    if (made < 0) return false;
    const uint32_t index = static_cast<uint32_t>(made);
    uint32_t* e = t.entry(index);
    t.cold_of(index)[C::ORIGIN] |= p.in_port;
    __atomic_add_fetch(c.endpoints + c.shard * size_t{65536} + p.in_port, 1, __ATOMIC_SEQ_CST);
    count_in(TOTAL_ENTRIES);
    t.list(index, 0);
    if (p.protocol == PROTOCOL_TCP) track_tcp(e, 0, p, c.tcp_liberal);
    touch(e, p.now, timeout_of(p, e[E::STATUS]));
    c.counters[counter_indices.connections_created]++;
    count_in(TOTAL_CONNECTIONS);
    if (ingress != 0 && ingress < c.rules_max) c.rules[ingress * size_t{3} + 2]++;
    if (egress != 0 && egress < c.rules_max) c.rules[egress * size_t{3} + 2]++;
    store_plan(index, 0, way, ingress, egress, p.in_port);
    records.count(index, 0, p, way.out_port, FORWARD, 0);
    o.plan = t.plan(e[E::DIRECTION + D::PLAN]);
    o.index = index;
    o.direction = 0;
    o.ct = CT_TRACKED | CT_NEW;
    end_change(e);
    return true;
  }

  // `fast`: the shard again, in a copy that no other code sees, so that what is read of it stays in registers.
  [[gnu::always_inline]] bool decide(const Shard& fast, const RecordLimits& limits, const Packet& p, const uint8_t* frame, Outcome& o) const {
    const int64_t found = find(fast.table, p);
    if (found >= 0) [[likely]] return replay_packet(fast, limits, p, found, o) || existing(p, frame, found, o);
    return admit(p, frame, o);
  }
};

// Rows in flight between their first look and their decision.
struct Flight {
  Packet packet;
  uint32_t address[8];
  uint32_t candidate;
  // Octets of a carrier in front of the frame, and of the frame; 0 where there is no carrier.
  uint32_t carrier, inner;
  bool common;
};

constexpr uint32_t VXLAN_SIZE = 8, UDP_SIZE = 8;

// The frame inside a VXLAN packet (RFC 7348) that is addressed to this node and comes from one that is known: octets in front of
// it, and its own in `inner`. 0: it is no such packet, or something about it is for src/pipeline/decapsulate.ts to say.
template <typename Crc>
uint32_t carrier_of(const Generation& g, const uint8_t* frame, uint32_t length, uint32_t wire_length, uint32_t& inner) {
  uint32_t address[8];
  Packet outer;
  if (!read_common<Crc>(frame, length, wire_length, address, outer) || outer.protocol != PROTOCOL_UDP || outer.ports >> 16 != g.tunnel_port) return 0;
  const int family = outer.kind == IP6 ? 6 : 4;
  if (address_lookup(g.routes, address + 4, family) >> 24 != ROUTE_OWN_NODE || address_lookup(g.peers, address, family) == 0) return 0;
  const uint32_t udp = 14 + (family == 6 ? 40 : 20);
  const uint32_t udp_length = load16(frame + udp + 4), carrier = udp + UDP_SIZE + VXLAN_SIZE;
  if (udp_length < UDP_SIZE + VXLAN_SIZE + 14 || carrier > length || (frame[udp + UDP_SIZE] & 0x08) == 0) return 0;
  inner = udp_length - UDP_SIZE - VXLAN_SIZE;
  return inner <= length - carrier ? carrier : 0;
}

// One call's state. Each stage is a function of its own, never inlined into another: together they would want more registers
// than there are.
struct Call {
  const Shard& c;
  const Judge& judge;
  BatchColumns* b;
  const uint8_t* data;
  uint32_t count;
  JudgeOptions options;
  bool stamp;
  int32_t* rest;
  uint32_t left;
  bool all_taken;  // every later row may be of a connection that an earlier one left
  uint64_t now;
  Counts counts;
  Flight* ring;
};

// First stage: reads frames, asks for index slots.
template <typename Crc>
[[gnu::noinline]] void look(Call& call, uint32_t from, uint32_t end) {
  BatchColumns* const b = call.b;
  const uint8_t* const data = call.data;
  const uint32_t* const slots = call.c.table.slots;
  const uint32_t mask = call.c.table.slot_mask, count = call.count;
  const bool stamp = call.stamp, encapsulated = call.options.tunnel_encapsulated;
  const uint32_t shards = call.options.shards, shard = call.options.shard;
  uint64_t now = call.now;
  for (uint32_t r = from; r < end; r++) {
    if (r + GROUP < count) __builtin_prefetch(data + b->offset[r + GROUP]);
    if (!stamp) now = std::max(now, b->time_ns[r]);
    b->time_ns[r] = now;
    Flight& f = call.ring[r % RING];
    Packet& p = f.packet;
    p.now = now;
    p.in_port = b->in_port[r];
    p.frame_octets = b->frame_octets[r];
    const uint8_t* frame = data + b->offset[r];
    uint32_t length = b->length[r], wire_length = b->wire_length[r];
    f.carrier = 0;
    f.common = true;
    if (encapsulated && p.in_port == PORT_TUNNEL) [[unlikely]] {
      f.carrier = carrier_of<Crc>(call.judge.g, frame, length, wire_length, f.inner);
      f.common = f.carrier != 0;
      frame += f.carrier;
      length = wire_length = f.inner;
    }
    f.common = f.common && read_common<Crc>(frame, length, wire_length, f.address, p) &&
               (shards == 1 || (p.hash >> 16) * shards >> 16 == shard);
    if (f.common) __builtin_prefetch(slots + (p.hash & mask));
  }
  call.now = now;
}

// Second stage: finds the candidate in the index, asks for its entry.
[[gnu::noinline]] void ask_entries(Call& call, uint32_t from, uint32_t end) {
  const Table t = call.c.table;
  for (uint32_t r = from; r < end; r++) {
    Flight& f = call.ring[r % RING];
    if (!f.common) continue;
    f.candidate = t.candidate(f.packet.hash);
    if (f.candidate == 0) continue;
    const uint32_t* e = t.entry(f.candidate - 1);
    __builtin_prefetch(e, 1);
    __builtin_prefetch(e + 16, 1);
  }
}

// Third stage: asks for the plan of the direction that the packet most likely travels.
[[gnu::noinline]] void ask_plans(Call& call, uint32_t from, uint32_t end) {
  const Table t = call.c.table;
  for (uint32_t r = from; r < end; r++) {
    const Flight& f = call.ring[r % RING];
    if (!f.common || f.candidate == 0) continue;
    const uint32_t* e = t.entry(f.candidate - 1);
    const uint32_t turn = e[E::SRC] == f.packet.src ? 0 : DIRECTION_WORDS;
    __builtin_prefetch(t.plan(e[E::DIRECTION + turn + D::PLAN]));
    // A compiler may take a function that only prefetches for one without effect (GCC 12 does).
    asm volatile("");
  }
}

// The row is left to the stages, and so is every later row that may be of the same connection.
[[gnu::noinline]] void leave(Call& call, uint32_t r, const Flight& f) {
  const Shard& c = call.c;
  BatchColumns* const b = call.b;
  const bool by_table = call.options.by_table;
  if (f.carrier != 0) {
    // It is of the connection of the packet inside.
    const uint32_t offset = b->offset[r], length = b->length[r], wire_length = b->wire_length[r];
    b->offset[r] += f.carrier;
    b->length[r] = b->wire_length[r] = f.inner;
    parse_rows(b, call.data, r, 1, by_table);
    c.classes[b->hash[r] & c.class_mask] = 1;
    b->offset[r] = offset;
    b->length[r] = length;
    b->wire_length[r] = wire_length;
  }
  parse_rows(b, call.data, r, 1, by_table);
  if ((b->flags[r] & SOUND) != 0) {
    c.classes[b->hash[r] & c.class_mask] = 1;
    // A carrier that only the stages can open: of which connection it is, they will tell.
    if (f.carrier == 0 && call.options.tunnel_encapsulated && b->in_port[r] == PORT_TUNNEL) call.all_taken = true;
  }
  call.rest[call.left++] = static_cast<int32_t>(r);
}

// Last stage.
[[gnu::noinline]] void decide_rows(Call& call, uint32_t from, uint32_t end) {
  const Shard c = call.c;
  BatchColumns* const b = call.b;
  const RecordLimits limits(c.record_timeouts);
  for (uint32_t r = from; r < end; r++) {
    const Flight& f = call.ring[r % RING];
    const Packet& p = f.packet;
    if (f.common) [[likely]] {
      Outcome o;
      if (c.classes[p.hash & c.class_mask] == 0 && !call.all_taken && call.judge.decide(c, limits, p, call.data + b->offset[r] + f.carrier, o)) [[likely]] {
        if (f.carrier != 0) {
          b->offset[r] += f.carrier;
          b->length[r] = b->wire_length[r] = f.inner;
        }
        if (call.options.all_columns) {
          parse_rows(b, call.data, r, 1, call.options.by_table);
          write_decision(b, r, o);
        } else {
          // What composing frames reads.
          b->kind[r] = p.kind;
          b->flags[r] = SOUND | TRANSPORT;
          b->l3_offset[r] = 14;
          b->hash[r] = p.hash;
        }
        write_verdict(b, r, o);
        count_packet(c, call.counts, o.plan, p.frame_octets);
        continue;
      }
    }
    leave(call, r, f);
  }
}

template <typename Crc>
uint32_t judge_common(const Shard& c, const Generation& g, BatchColumns* b, const uint8_t* data, uint32_t count, const JudgeOptions& options,
                      uint64_t& clock, bool stamp, int32_t* rest) {
  const Judge judge{c, g, Records{c}};
  Flight ring[RING];  // not cleared: each is written before it is read
  Call call{c, judge, b, data, count, options, stamp, rest, 0, false, clock, Counts{}, ring};
  std::memset(c.classes, 0, c.class_mask + 1);
  // The stages are a group of rows apart, so that each finds in the cache what the one before asked for.
  const uint32_t groups = (count + GROUP - 1) / GROUP;
  const auto range = [&](uint32_t group, void (*stage)(Call&, uint32_t, uint32_t)) {
    if (group < groups) stage(call, group * GROUP, std::min(count, (group + 1) * GROUP));
  };
  for (uint32_t step = 0; step < groups + 3; step++) {
    range(step - 3, decide_rows);
    range(step - 2, ask_plans);
    range(step - 1, ask_entries);
    range(step, look<Crc>);
  }
  call.counts.add_to(c);
  clock = call.now;
  return call.left;
}

}  // namespace

uint32_t judge_batch(const Shard& c, const Generation& g, BatchColumns* b, const uint8_t* data, uint32_t count, const JudgeOptions& options,
                     uint64_t& clock, bool stamp, int32_t* rest) {
  const auto judge = !options.by_table && tuple_hash_uses_hardware() ? judge_common<HardwareStep> : judge_common<TableStep>;
  return judge(c, g, b, data, count, options, clock, stamp, rest);
}

uint32_t judge_rows(const Shard& c, const Generation& g, BatchColumns* b, const uint8_t* data, const int32_t* rows, uint32_t count, int32_t* rest) {
  const Judge judge{c, g, Records{c}};
  const RecordLimits limits(c.record_timeouts);
  return each_row(c, b, rows, count, rest,
                  [&](const Packet& p, uint32_t r, Outcome& o) { return judge.decide(c, limits, p, data + b->offset[r], o); });
}

}  // namespace seine
