// Plan replay: says what src/conntrack/replay.ts says. Rows go in groups whose index slots and entries are prefetched
// before they are looked at, so that cache misses overlap.
#include "replay.h"
#include "entry.h"
#include <algorithm>
#include <cstring>

namespace seine {

ReplayTimeouts replay_timeouts{};
CounterIndices counter_indices{};

namespace {

constexpr uint8_t TCP = 6, UDP = 17;
constexpr uint8_t FIN = 1, SYN = 2, RST = 4, ACK = 16;
constexpr uint32_t NONE = 0, SYN_SENT = 1, ESTABLISHED = 2, FIN_SENT = 3, FIN_ACKED = 4;
constexpr uint32_t ESTABLISHED_BOTH = 0x22;
constexpr uint32_t MAX_ACK_WINDOW = 66000;
constexpr uint8_t EGRESS_STAGE = 5;
constexpr uint32_t GROUP = 16;

inline int32_t diff(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b); }

inline uint32_t turned(uint32_t ports) { return (ports >> 16) | (ports << 16); }

bool same_addresses(const uint32_t* entry, const uint32_t* row, uint32_t turn) {
  for (uint32_t i = 0; i < 8; i++)
    if (entry[i] != row[i ^ turn]) return false;
  return true;
}

// Entry × 2 + direction, −1 = none. Keys of TCP and UDP, which have no discriminator.
int64_t find(const Table& t, uint32_t hash, const uint32_t* address, uint32_t ports, uint32_t key) {
  const bool six = (key & 0xf00) == 0x600;
  const uint32_t src = address[six ? 3 : 0], dst = address[six ? 7 : 4];
  const uint32_t reverse = turned(ports);
  for (uint32_t slot = hash & t.slot_mask;; slot = (slot + 1) & t.slot_mask) {
    const uint32_t held = t.slots[slot];
    if (held == 0) return -1;
    if (((held ^ hash) >> 24) != 0) continue;
    const uint32_t index = (held & SLOT_ENTRY) - 1;
    const uint32_t* e = t.entry(index);
    if (e[E::KEY] != key) continue;
    const uint32_t* whole = t.addresses + static_cast<size_t>(index) * 8;
    if (e[E::SRC] == src && e[E::DST] == dst && e[E::PORTS] == ports && (!six || same_addresses(whole, address, 0)))
      return static_cast<int64_t>(index) * 2;
    if (e[E::SRC] == dst && e[E::DST] == src && e[E::PORTS] == reverse && (!six || same_addresses(whole, address, 4)))
      return static_cast<int64_t>(index) * 2 + 1;
  }
}

bool move_window(uint32_t* e, uint32_t side, const BatchColumns* b, uint32_t r) {
  uint32_t* s = e + E::TCP + side * TCP_WORDS;
  uint32_t* p = e + E::TCP + (1 - side) * TCP_WORDS;
  const uint32_t ack = b->tcp_ack[r];
  const uint32_t data = b->tcp_seq[r] + b->payload_length[r];
  const uint32_t end = data + ((b->tcp_flags[r] & FIN) ? 1 : 0);
  const uint32_t peer_window = p[T::MAX_WINDOW], my_window = s[T::MAX_WINDOW];
  const uint32_t my_end = s[T::END], peer_end = p[T::END];
  if (peer_window == 0) return false;
  if (diff(end, s[T::MAX_END]) > 0) return false;
  if (diff(data, my_end - peer_window - 1) <= 0) return false;
  if (diff(ack, peer_end) > 0) return false;
  if (diff(ack, peer_end - std::max(my_window, MAX_ACK_WINDOW)) < 0) return false;
  const uint32_t scaled = static_cast<uint32_t>(b->tcp_window[r]) << ((e[E::SCALES] >> (side * 16)) & 0x1f);
  if (scaled > my_window) s[T::MAX_WINDOW] = scaled;
  if (diff(end, my_end) > 0) s[T::END] = end;
  if (diff(s[T::END], s[T::MAX_END]) > 0) s[T::MAX_END] = s[T::END];
  const uint32_t allowed = ack + std::max<uint32_t>(scaled, 1);
  if (diff(allowed, p[T::MAX_END]) > 0) p[T::MAX_END] = allowed;
  return true;
}

// Puts an entry that is in no list at the end of the closing one (a replied connection is not in the unreplied one).
void list_closing(const Table& t, uint32_t index, uint32_t* e) {
  const uint32_t last = t.words[H::CLOSING_TAIL];
  uint32_t* cold = t.cold_of(index);
  cold[C::LIST_PREV] = last;
  cold[C::LIST_NEXT] = 0;
  if (last == 0) t.words[H::CLOSING_HEAD] = index + 1;
  else t.cold_of(last - 1)[C::LIST_NEXT] = index + 1;
  t.words[H::CLOSING_TAIL] = index + 1;
  e[E::STATUS] |= Status::LIST_CLOSING;
}

void advance(const Table& t, uint32_t index, uint32_t* e, uint32_t side, uint32_t mine, uint32_t peer, const BatchColumns* b, uint32_t r) {
  const uint32_t peer_end = e[E::TCP + (1 - side) * TCP_WORDS + T::END];
  if ((b->tcp_flags[r] & FIN) != 0 && mine < FIN_SENT) mine = FIN_SENT;
  if (peer == SYN_SENT) peer = ESTABLISHED;
  else if (peer == FIN_SENT && diff(b->tcp_ack[r], peer_end) >= 0) peer = FIN_ACKED;
  e[E::STATUS] = (e[E::STATUS] & ~0xffu) | (side == 0 ? mine | (peer << 4) : peer | (mine << 4));
  if ((mine >= FIN_SENT || peer >= FIN_SENT) && (e[E::STATUS] & Status::LIST_CLOSING) == 0) list_closing(t, index, e);
}

uint32_t tcp_timeout(uint32_t status) {
  const uint32_t original = status & 0xf, reply = (status >> 4) & 0xf;
  const ReplayTimeouts& t = replay_timeouts;
  if (original >= FIN_ACKED && reply >= FIN_ACKED) return t.tcp_close;
  if (original >= FIN_SENT && reply >= FIN_SENT) return t.tcp_time_wait;
  if (original >= FIN_SENT || reply >= FIN_SENT) return t.tcp_fin_wait;
  if (reply == NONE) return t.tcp_syn_sent;
  if (original < ESTABLISHED || reply < ESTABLISHED) return t.tcp_syn_recv;
  return t.tcp_established;
}

// As doubles, like the reference: what lies beyond 2^53 ns rounds alike.
inline double elapsed(uint64_t since, uint64_t now) { return static_cast<double>(static_cast<int64_t>(now - since)); }

bool replay_row(const Shard& c, BatchColumns* b, uint32_t r) {
  if (b->flags[r] != (SOUND | TRANSPORT) || b->fault[r] != 0) return false;
  const uint8_t protocol = b->protocol[r];
  if (protocol != TCP && protocol != UDP) return false;
  const Table& t = c.table;
  const uint32_t ports = b->src_port[r] | (static_cast<uint32_t>(b->dst_port[r]) << 16);
  const uint32_t key = protocol | ((b->kind[r] == IP6 ? 6u : 4u) << 8) | (static_cast<uint32_t>(b->vlan[r]) << 16);
  const int64_t found = find(t, b->hash[r], b->address + r * 8, ports, key);
  if (found < 0) return false;
  const uint32_t direction = found & 1, index = static_cast<uint32_t>(found >> 1);
  uint32_t* e = t.entry(index);
  uint32_t* d = e + E::DIRECTION + direction * DIRECTION_WORDS;
  const uint64_t now = b->time_ns[r];
  const uint32_t status = e[E::STATUS];
  if ((status & (direction == 0 ? Status::REPLAY0 : Status::REPLAY1)) == 0) return false;
  if ((status & (Status::CUT | Status::FLOOD | Status::CLOSED)) != 0) return false;
  const uint32_t* plan = t.plan(d[D::PLAN]);
  const uint32_t basis = plan[P::BASIS];
  if (e[E::EPOCHS] != c.epochs[basis & 0xffff] + c.epochs[basis >> 16]) return false;
  if ((plan[P::INTERFACES] & 0xffff) != b->in_port[r]) return false;
  if (now >= get64(e + E::EXPIRES)) return false;

  if (elapsed(get64(d + D::LAST), now) >= c.record_timeouts[0]) return false;
  if (static_cast<int32_t>(static_cast<uint32_t>(now >> TICK_SHIFT) - e[E::ACTIVE_DUE]) >= 0 &&
      elapsed(get64(t.cold_of(index) + C::FIRST + direction * 2), now) >= c.record_timeouts[1])
    return false;
  const uint64_t excess = static_cast<uint64_t>(d[D::EXCESS]) + (b->frame_octets[r] - b->ip_length[r]);
  if (d[D::PACKETS] == UINT32_MAX || excess > UINT32_MAX) return false;
  const uint32_t decision = plan[P::DECISION];
  const uint8_t verdict = decision & 0xff;
  const uint32_t rewrite = decision >> 24;
  if ((rewrite & DECREMENT_TTL) != 0 && b->ttl[r] <= 1) return false;

  uint32_t timeout;
  uint8_t ct;
  if (status & Status::DENIED) {
    timeout = protocol == TCP ? replay_timeouts.tcp_syn_sent : replay_timeouts.udp_first;
    ct = CT_TRACKED | CT_NEW;
  } else {
    const bool replied = (status & Status::SEEN_REPLY) != 0;
    if (protocol == TCP) {
      if ((b->tcp_flags[r] & (SYN | RST | ACK)) != ACK || !replied) return false;
      const uint32_t mine = (status >> (direction * 4)) & 0xf, peer = (status >> ((1 - direction) * 4)) & 0xf;
      if (mine == NONE || peer == NONE || (mine >= FIN_SENT && peer >= FIN_SENT)) return false;
      if (!move_window(e, direction, b, r)) return false;
      if ((status & 0xff) != ESTABLISHED_BOTH || (b->tcp_flags[r] & FIN) != 0)
        advance(t, index, e, direction, mine, peer, b, r);
      timeout = tcp_timeout(e[E::STATUS]);
    } else {
      if (!replied && direction == 1) return false;
      if (direction == 0) e[E::STATUS] = status | Status::MULTIPLE;
      timeout = replied ? replay_timeouts.udp_multiple : replay_timeouts.udp_single;
    }
    ct = static_cast<uint8_t>(CT_TRACKED | (replied ? CT_ESTABLISHED : CT_NEW) | (direction == 1 ? CT_REPLY : 0));
  }
  put64(e + E::EXPIRES, now + static_cast<uint64_t>(c.timeouts[timeout]));

  d[D::PACKETS]++;
  d[D::EXCESS] = static_cast<uint32_t>(excess);
  put64(d + D::OCTETS, get64(d + D::OCTETS) + b->ip_length[r]);
  put64(d + D::LAST, now);
  if (protocol == TCP) d[D::MARKS] |= static_cast<uint32_t>(b->tcp_flags[r]) << 8;

  const uint8_t reason = (decision >> 8) & 0xff, stage = (decision >> 16) & 0xff;
  const uint32_t ingress = plan[P::INGRESS_RULE], egress = plan[P::EGRESS_RULE];
  b->verdict[r] = verdict;
  b->drop_reason[r] = reason;
  b->stage[r] = stage;
  b->rewrite[r] = static_cast<uint16_t>(rewrite);
  b->tunnel[r] = static_cast<uint16_t>(plan[P::PORT] >> 16);
  b->out_port[r] = plan[P::INTERFACES] >> 16;
  b->ct[r] = ct;
  b->direction[r] = static_cast<uint8_t>(direction);
  b->connection[r] = index + 1;
  b->ingress_rule[r] = ingress;
  b->egress_rule[r] = egress;
  b->rule[r] = plan[P::RULE];

  const uint32_t octets = b->frame_octets[r];
  c.counters[counter_indices.packets + verdict]++;
  c.counters[counter_indices.octets + verdict] += octets;
  if (reason != 0) c.counters[counter_indices.drops + stage * 64u + reason]++;
  if (ingress != 0 && ingress < c.rules_max) {
    c.rules[ingress * size_t{3}]++;
    c.rules[ingress * size_t{3} + 1] += octets;
  }
  if (egress != 0 && egress < c.rules_max) {
    c.rules[egress * size_t{3}]++;
    c.rules[egress * size_t{3} + 1] += octets;
  }
  return true;
}

}  // namespace

uint32_t replay_rows(const Shard& c, BatchColumns* b, const int32_t* rows, uint32_t count, int32_t* slow) {
  const Table& t = c.table;
  std::memset(c.classes, 0, c.class_mask + 1);
  uint32_t left = 0;
  const auto slot_of = [&](uint32_t i) { return t.slots + (b->hash[rows[i]] & t.slot_mask); };
  const auto prefetch_entry = [&](uint32_t i) {
    // The slot's first candidate: right for nearly all rows at a load of one half.
    const uint32_t held = *slot_of(i);
    if (held == 0) return;
    const uint32_t* e = t.entry((held & SLOT_ENTRY) - 1);
    __builtin_prefetch(e, 1);
    __builtin_prefetch(e + 16, 1);
  };
  // Two stages ahead: slots of the group after next, entries of the next one, while this one is worked on.
  for (uint32_t i = 0; i < std::min(count, 2 * GROUP); i++) __builtin_prefetch(slot_of(i));
  for (uint32_t i = 0; i < std::min(count, GROUP); i++) prefetch_entry(i);
  for (uint32_t group = 0; group < count; group += GROUP) {
    const uint32_t end = std::min(count, group + GROUP);
    for (uint32_t i = group + 2 * GROUP; i < std::min(count, group + 3 * GROUP); i++) __builtin_prefetch(slot_of(i));
    for (uint32_t i = group + GROUP; i < std::min(count, group + 2 * GROUP); i++) prefetch_entry(i);
    for (uint32_t i = group; i < end; i++) {
      const int32_t row = rows[i];
      uint8_t& taken = c.classes[b->hash[row] & c.class_mask];
      if (taken != 0 || !replay_row(c, b, static_cast<uint32_t>(row))) {
        if (b->flags[row] & SOUND) taken = 1;
        slow[left++] = row;
      }
    }
  }
  return left;
}

}  // namespace seine
