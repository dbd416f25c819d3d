// A packet in registers, as far as the fast path needs it: TCP and UDP over plain IPv4 and IPv6.
#pragma once
#include "batch.h"
#include "tuple_hash.h"
#include <algorithm>
#include <cstring>

namespace seine {

constexpr uint8_t PROTOCOL_TCP = 6, PROTOCOL_UDP = 17;
constexpr uint8_t FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32;

struct Packet {
  uint64_t now;             // ns
  const uint32_t* address;  // words 0–3 source, 4–7 destination; IPv4 uses words 0 and 4
  uint32_t src, dst;        // IPv4 addresses, or the last words of IPv6 ones
  uint32_t hash, ports, key, in_port, ip_length, frame_octets;
  uint32_t seq, ack, payload_length;
  uint16_t window;
  uint8_t protocol, tcp_flags, ttl, tos, wscale, kind;
};

// RFC 1071 section 2 (B): all ones in either byte order. Inline, since most headers are five words.
inline bool header_sums_up(const uint8_t* at, int64_t header) {
  const auto word = [at](int64_t i) {
    uint32_t value;
    std::memcpy(&value, at + i, 4);
    return static_cast<uint64_t>(value);
  };
  uint64_t sum = word(0) + word(4) + word(8) + word(12) + word(16);
  for (int64_t i = 20; i < header; i += 4) sum += word(i);
  // 2^16 − 1 divides 2^32 − 1, so that a sum folds to all ones where it is a multiple of 65,535 (it is never 0: version 4).
  return sum % 0xffff == 0;
}

// The window scale option of a SYN (RFC 7323 section 2.2), at most 14; NO_WSCALE = absent. `at`: TCP header; `stop`: end of options.
inline uint8_t window_scale(const uint8_t* at, const uint8_t* stop) {
  uint8_t found = NO_WSCALE;
  for (const uint8_t* option = at + 20; option < stop;) {
    const uint8_t kind = option[0];
    if (kind == 0) break;
    if (kind == 1) {
      option++;
      continue;
    }
    if (option + 1 >= stop) break;
    const uint8_t length = option[1];
    if (length < 2 || option + length > stop) break;
    if (kind == 3 && length == 3) found = std::min<uint8_t>(option[2], 14);
    option += length;
  }
  return found;
}

// Can a TCP header with these flags be of any connection? As src/batch/parse.ts: SYN without RST and FIN, else ACK or RST; without
// ACK neither FIN, PSH nor URG.
inline bool tcp_flags_hold(uint8_t flags) {
  if ((flags & SYN) ? (flags & (RST | FIN)) != 0 : (flags & (ACK | RST)) == 0) return false;
  return (flags & ACK) != 0 || (flags & (FIN | PSH | URG)) == 0;
}

inline uint32_t load32(const uint8_t* at) {
  uint32_t value;
  std::memcpy(&value, at, 4);
  return __builtin_bswap32(value);
}
inline uint16_t load16(const uint8_t* at) {
  uint16_t value;
  std::memcpy(&value, at, 2);
  return __builtin_bswap16(value);
}

// Reads a frame of the common kind: untagged, unicast, IPv4 without options or IPv6 without extension headers, sound, whole
// transport header of TCP or UDP, no fragment. False for everything else, which parse.cc reads. Where true, parse.cc would
// set the flags SOUND | TRANSPORT and no fault, and the same fields. `address`: eight words of room.
template <typename Crc>
[[gnu::always_inline]] inline bool read_common(const uint8_t* frame, uint32_t length, uint32_t wire_length, uint32_t* address, Packet& p) {
  if (length < 14 + 20 + 8 || (frame[0] & 1) != 0) return false;
  const uint8_t* at = frame + 14;
  const uint16_t ether_type = load16(frame + 12);
  const int64_t on_wire = static_cast<int64_t>(std::max(wire_length, length)) - 14;
  const uint8_t* l4;
  int64_t size;
  if (ether_type == 0x0800) {
    if (at[0] != 0x45) return false;
    const uint32_t total = load16(at + 2);
    if (total < 20 + 8 || total > on_wire || (load16(at + 6) & 0x3fff) != 0) return false;
    uint16_t checksum;
    std::memcpy(&checksum, at + 10, 2);
    if (checksum != 0 && !header_sums_up(at, 20)) return false;
    p.kind = IP4;
    p.protocol = at[9];
    p.ttl = at[8];
    p.tos = at[1];
    p.ip_length = total;
    const uint32_t destination = load32(at + 16);
    if (destination >> 28 == 14 || destination == 0xffffffff) return false;
    p.src = load32(at + 12);
    p.dst = destination;
    address[0] = p.src;
    address[4] = p.dst;
    l4 = at + 20;
    size = total - 20;
  } else if (ether_type == 0x86dd) {
    if (length < 14 + 40 + 8 || at[0] >> 4 != 6 || at[24] == 0xff) return false;
    const uint32_t payload = load16(at + 4);
    if (payload < 8 || payload + 40 > on_wire) return false;
    p.kind = IP6;
    p.protocol = at[6];
    p.ttl = at[7];
    p.tos = static_cast<uint8_t>((at[0] << 4) | (at[1] >> 4));
    p.ip_length = payload + 40;
    for (int i = 0; i < 8; i++) address[i] = load32(at + 8 + i * 4);
    p.src = address[3];
    p.dst = address[7];
    l4 = at + 40;
    size = payload;
  } else {
    return false;
  }
  const int64_t there = std::min<int64_t>(size, frame + length - l4);
  const uint32_t src_port = load16(l4), dst_port = load16(l4 + 2);
  if (p.protocol == PROTOCOL_TCP) {
    if (there < 20) return false;
    const int64_t header = (l4[12] >> 4) * 4;
    if (header < 20 || header > size) return false;
    p.tcp_flags = l4[13];
    if (!tcp_flags_hold(p.tcp_flags)) return false;
    p.seq = load32(l4 + 4);
    p.ack = load32(l4 + 8);
    p.window = load16(l4 + 14);
    p.payload_length = static_cast<uint32_t>(size - header);
    p.wscale = (p.tcp_flags & SYN) != 0 ? window_scale(l4, l4 + std::min(header, there)) : NO_WSCALE;
  } else if (p.protocol == PROTOCOL_UDP) {
    if (there < 8) return false;
    const int64_t length_field = load16(l4 + 4);
    if (length_field < 8 || length_field > size) return false;
    p.tcp_flags = 0;
  } else {
    return false;
  }
  p.address = address;
  p.ports = src_port | (dst_port << 16);
  p.key = p.protocol | (static_cast<uint32_t>(p.kind == IP6 ? 6 : 4) << 8) | (static_cast<uint32_t>(NO_VLAN) << 16);
  p.hash = p.kind == IP6 ? tuple_hash_of<Crc, 4>(address, address + 4, p.protocol, src_port, dst_port)
                         : tuple_hash_of<Crc, 1>(&p.src, &p.dst, p.protocol, src_port, dst_port);
  return true;
}

// The same from columns that parse.cc has filled. False where the row is not of the common kind; a VLAN tag is none here.
[[gnu::always_inline]] inline bool read_columns(const BatchColumns* b, uint32_t r, Packet& p) {
  if (b->flags[r] != (SOUND | TRANSPORT) || b->fault[r] != 0) return false;
  p.protocol = b->protocol[r];
  if (p.protocol != PROTOCOL_TCP && p.protocol != PROTOCOL_UDP) return false;
  p.now = b->time_ns[r];
  p.address = b->address + r * 8;
  p.src = p.address[b->kind[r] == IP6 ? 3 : 0];
  p.dst = p.address[b->kind[r] == IP6 ? 7 : 4];
  p.hash = b->hash[r];
  p.ports = b->src_port[r] | (static_cast<uint32_t>(b->dst_port[r]) << 16);
  p.key = p.protocol | ((b->kind[r] == IP6 ? 6u : 4u) << 8) | (static_cast<uint32_t>(b->vlan[r]) << 16);
  p.in_port = b->in_port[r];
  p.ip_length = b->ip_length[r];
  p.frame_octets = b->frame_octets[r];
  p.seq = b->tcp_seq[r];
  p.ack = b->tcp_ack[r];
  p.payload_length = b->payload_length[r];
  p.window = b->tcp_window[r];
  p.tcp_flags = b->tcp_flags[r];
  p.ttl = b->ttl[r];
  p.tos = b->tos[r];
  p.wscale = b->wscale[r];
  p.kind = b->kind[r];
  return true;
}

}  // namespace seine
