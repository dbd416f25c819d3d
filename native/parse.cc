// Frames to columns: says what src/batch/parse.ts says, in the same order, for every octet string.
#include "parse.h"
#include "packet.h"
#include "tuple_hash.h"
#include <algorithm>
#include <cstring>

namespace seine {
namespace {

constexpr uint8_t HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, DESTINATION = 60, AUTHENTICATION = 51, NO_NEXT = 59;
constexpr uint8_t ICMP = 1, TCP = 6, UDP = 17, ICMP6 = 58, SCTP = 132;
// Rows cleared and parsed together: their columns stay in the first-level cache between the two.
constexpr uint32_t GROUP = 128;
// From so many rows on, filling column by column beats row by row.
constexpr uint32_t FILL_ROWS = 16;

struct Row {
  BatchColumns* b;
  uint32_t r;
  const uint8_t* frame;
  const uint8_t* end;
};

inline void set_ports(const Row& row, const uint8_t* at) {
  row.b->src_port[row.r] = read16(at);
  row.b->dst_port[row.r] = read16(at + 2);
}

uint8_t parse_tcp(const Row& row, const uint8_t* at, int64_t there, int64_t size) {
  BatchColumns* b = row.b;
  const uint32_t r = row.r;
  if (there >= 4) set_ports(row, at);
  if (there < 20) return TCP_TRUNCATED;
  const int64_t header = (at[12] >> 4) * 4;
  const uint8_t flags = at[13];
  b->tcp_flags[r] = flags;
  b->tcp_seq[r] = read32(at + 4);
  b->tcp_ack[r] = read32(at + 8);
  b->tcp_window[r] = read16(at + 14);
  if (header < 20 || header > size) return TCP_BAD_OFFSET;
  b->payload_length[r] = static_cast<uint32_t>(size - header);
  if (!tcp_flags_hold(flags)) return TCP_INVALID_FLAGS;
  if (flags & SYN) b->wscale[r] = window_scale(at, at + std::min(header, there));
  return 0;
}

uint8_t parse_udp(const Row& row, const uint8_t* at, int64_t there, int64_t size) {
  if (there >= 4) set_ports(row, at);
  if (there < 8) return UDP_TRUNCATED;
  const int64_t length = read16(at + 4);
  const bool first = (row.b->flags[row.r] & FRAGMENT_FIRST) != 0;
  return length < 8 || (!first && length > size) ? UDP_BAD_LENGTH : 0;
}

uint8_t parse_icmp(const Row& row, const uint8_t* at, int64_t there, int family) {
  BatchColumns* b = row.b;
  const uint32_t r = row.r;
  if (there >= 2) b->dst_port[r] = read16(at);
  if (there < 8) return ICMP_TRUNCATED;
  const uint8_t type = at[0];
  if (family == 4) {
    if (type == 3 || type == 4 || type == 5 || type == 11 || type == 12) b->flags[r] |= ICMP_ERROR;
    else if (type == 0 || type == 8 || (type >= 13 && type <= 18)) b->icmp_id[r] = read16(at + 4);
  } else if (type >= 1 && type <= 4) {
    b->flags[r] |= ICMP_ERROR;
  } else if (type == 128 || type == 129) {
    b->icmp_id[r] = read16(at + 4);
  } else if ((type >= 130 && type <= 137) || type == 143) {
    b->flags[r] |= NEIGHBOUR_DISCOVERY;
  }
  return 0;
}

template <typename Crc>
bool hash_carried(const Row& row, const uint8_t* at, const uint8_t* end, int family) {
  uint32_t carried[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  uint8_t protocol;
  if (family == 4) {
    if (end - at < 20 || at[0] >> 4 != 4) return false;
    const int header = (at[0] & 0xf) * 4;
    if (header < 20 || (read16(at + 6) & 0x1fff) != 0) return false;
    protocol = at[9];
    carried[0] = read32(at + 12);
    carried[4] = read32(at + 16);
    at += header;
  } else {
    if (end - at < 40 || at[0] >> 4 != 6) return false;
    protocol = at[6];
    for (int i = 0; i < 8; i++) carried[i] = read32(at + 8 + i * 4);
    at += 40;
    while (protocol == HOP_BY_HOP || protocol == ROUTING || protocol == FRAGMENT || protocol == DESTINATION) {
      if (end - at < 8) return false;
      if (protocol == FRAGMENT && (read16(at + 2) & 0xfff8) != 0) return false;
      const int size = protocol == FRAGMENT ? 8 : (at[1] + 1) * 8;
      protocol = at[0];
      at += size;
    }
  }
  uint32_t src_port = 0, dst_port = 0;
  if (protocol == TCP || protocol == UDP || protocol == SCTP) {
    if (end - at < 4) return false;
    src_port = read16(at);
    dst_port = read16(at + 2);
  }
  row.b->hash[row.r] = tuple_hash_by<Crc>(carried, family, protocol, src_port, dst_port);
  return true;
}

template <typename Crc>
void parse_transport(const Row& row, const uint8_t* at, int64_t size) {
  BatchColumns* b = row.b;
  const uint32_t r = row.r;
  const int family = b->kind[r] == IP6 ? 6 : 4;
  const uint8_t protocol = b->protocol[r];
  if ((b->flags[r] & FRAGMENT_LATER) == 0) {
    const int64_t there = std::max<int64_t>(0, std::min<int64_t>(size, row.end - at));
    b->l4_offset[r] = static_cast<uint32_t>(at - row.frame);
    uint8_t fault = 0;
    if (protocol == TCP) fault = parse_tcp(row, at, there, size);
    else if (protocol == UDP) fault = parse_udp(row, at, there, size);
    else if (protocol == SCTP) {
      if (there >= 4) set_ports(row, at);
      if (there < 12) fault = SCTP_TRUNCATED;
    } else if ((protocol == ICMP && family == 4) || (protocol == ICMP6 && family == 6)) {
      fault = parse_icmp(row, at, there, family);
    }
    if (b->fault[r] == 0) b->fault[r] = fault;
    if (fault == 0) b->flags[r] |= TRANSPORT;
  }
  if ((b->flags[r] & ICMP_ERROR) != 0 && hash_carried<Crc>(row, at + 8, std::min(row.end, at + size), family)) return;
  const bool portless = protocol == ICMP || protocol == ICMP6;
  b->hash[r] = tuple_hash_by<Crc>(b->address + r * 8, family, protocol, portless ? 0 : b->src_port[r], portless ? 0 : b->dst_port[r]);
}

template <typename Crc>
void parse_ip4(const Row& row, const uint8_t* at, int64_t on_wire) {
  BatchColumns* b = row.b;
  const uint32_t r = row.r;
  const int64_t there = row.end - at;
  b->kind[r] = IP4;
  if (there < 20) {
    b->fault[r] = there > 0 && at[0] >> 4 != 4 ? IP_BAD_VERSION : IP_HEADER_TRUNCATED;
    return;
  }
  if (at[0] >> 4 != 4) {
    b->fault[r] = IP_BAD_VERSION;
    return;
  }
  const int64_t header = (at[0] & 0xf) * 4;
  const int64_t total = read16(at + 2);
  if (header < 20 || header > total) {
    b->fault[r] = IP_BAD_HEADER_LENGTH;
    return;
  }
  if (there < header) {
    b->fault[r] = IP_HEADER_TRUNCATED;
    return;
  }
  if (total > on_wire) {
    b->fault[r] = IP_LENGTH_EXCEEDS_FRAME;
    return;
  }
  if (read16(at + 10) != 0 && !header_sums_up(at, header)) {
    b->fault[r] = IP_BAD_CHECKSUM;
    return;
  }
  b->ip_length[r] = static_cast<uint32_t>(total);
  b->tos[r] = at[1];
  b->ttl[r] = at[8];
  b->protocol[r] = at[9];
  b->address[r * 8] = read32(at + 12);
  const uint32_t destination = read32(at + 16);
  b->address[r * 8 + 4] = destination;
  uint8_t flags = b->flags[r] | SOUND;
  if (destination >> 28 == 14 || destination == 0xffffffff) flags |= GROUP_DESTINATION;
  const uint32_t fragment = read16(at + 6);
  const bool more = (fragment & 0x2000) != 0;
  const uint32_t offset = fragment & 0x1fff;
  if (more || offset != 0) {
    b->fragment_id[r] = read16(at + 4);
    b->fragment_offset[r] = static_cast<uint16_t>(offset);
    flags |= offset == 0 ? FRAGMENT_FIRST : FRAGMENT_LATER;
    const int64_t payload = total - header;
    if ((more && (payload == 0 || payload % 8 != 0)) || offset * 8 + payload > 65535) b->fault[r] = FRAGMENT_BAD;
  }
  b->flags[r] = flags;
  parse_transport<Crc>(row, at + header, total - header);
}

template <typename Crc>
void parse_ip6(const Row& row, const uint8_t* at, int64_t on_wire) {
  BatchColumns* b = row.b;
  const uint32_t r = row.r;
  const uint8_t* end = row.end;
  b->kind[r] = IP6;
  if (end - at < 40) {
    b->fault[r] = end > at && at[0] >> 4 != 6 ? IP_BAD_VERSION : IP_HEADER_TRUNCATED;
    return;
  }
  if (at[0] >> 4 != 6) {
    b->fault[r] = IP_BAD_VERSION;
    return;
  }
  const int64_t payload = read16(at + 4);
  if (payload == 0 || payload + 40 > on_wire) {
    b->fault[r] = IP_LENGTH_EXCEEDS_FRAME;
    return;
  }
  b->ip_length[r] = static_cast<uint32_t>(payload + 40);
  b->tos[r] = static_cast<uint8_t>((at[0] << 4) | (at[1] >> 4));
  b->ttl[r] = at[7];
  for (int i = 0; i < 8; i++) b->address[r * 8 + i] = read32(at + 8 + i * 4);
  b->flags[r] |= SOUND | (at[24] == 0xff ? GROUP_DESTINATION : 0);

  // Lengths, not pointers: a header may claim more than there is.
  const int64_t limit = 40 + payload;
  const int64_t there = end - at;
  uint8_t next = at[6];
  int64_t here = 40;
  while (next == HOP_BY_HOP || next == ROUTING || next == FRAGMENT || next == DESTINATION) {
    b->protocol[r] = next;
    if (limit - here < 8 || there - here < 8) {
      b->fault[r] = IP6_BAD_EXTENSION;
      break;
    }
    const uint8_t* header = at + here;
    if (next == FRAGMENT) {
      const uint32_t fragment = read16(header + 2);
      const bool more = (fragment & 1) != 0;
      const uint32_t offset = fragment >> 3;
      next = header[0];
      if (more || offset != 0) {
        const int64_t size = limit - here - 8;
        b->fragment_id[r] = read32(header + 4);
        b->fragment_offset[r] = static_cast<uint16_t>(offset);
        b->flags[r] |= offset == 0 ? FRAGMENT_FIRST : FRAGMENT_LATER;
        if ((more && (size == 0 || size % 8 != 0)) || offset * 8 + size > 65535) b->fault[r] = FRAGMENT_BAD;
        if (offset != 0) {
          b->protocol[r] = next;
          parse_transport<Crc>(row, header + 8, size);
          return;
        }
      }
      here += 8;
      continue;
    }
    const int64_t size = (header[1] + 1) * 8;
    next = header[0];
    here += size;
    if (here > limit) {
      b->protocol[r] = next;
      b->fault[r] = IP6_BAD_EXTENSION;
      break;
    }
  }
  if (b->fault[r] == IP6_BAD_EXTENSION) {
    b->hash[r] = tuple_hash_by<Crc>(b->address + r * 8, 6, b->protocol[r], 0, 0);
    return;
  }
  b->protocol[r] = next;
  if (next == AUTHENTICATION || next == NO_NEXT) {
    b->hash[r] = tuple_hash_by<Crc>(b->address + r * 8, 6, next, 0, 0);
    return;
  }
  parse_transport<Crc>(row, at + here, limit - here);
}

// What Parse writes nothing else into. vlan and wscale: all ones are NO_VLAN and NO_WSCALE.
inline void clear_rows(BatchColumns* b, uint32_t first, uint32_t count) {
  static_assert(NO_VLAN == 0xffff && NO_WSCALE == 0xff);
  const auto clear = [=](auto* column, int octet) { std::memset(column + first, octet, count * sizeof(*column)); };
  std::memset(b->address + first * 8, 0, count * 8 * sizeof(b->address[0]));
  clear(b->l3_offset, 0);
  clear(b->l4_offset, 0);
  clear(b->ip_length, 0);
  clear(b->tcp_seq, 0);
  clear(b->tcp_ack, 0);
  clear(b->payload_length, 0);
  clear(b->hash, 0);
  clear(b->out_port, 0);
  clear(b->rule, 0);
  clear(b->egress_rule, 0);
  clear(b->ingress_rule, 0);
  clear(b->connection, 0);
  clear(b->fragment_id, 0);
  clear(b->ether_type, 0);
  clear(b->vlan, 0xff);
  clear(b->src_port, 0);
  clear(b->dst_port, 0);
  clear(b->icmp_id, 0);
  clear(b->tcp_window, 0);
  clear(b->fragment_offset, 0);
  clear(b->tunnel, 0);
  clear(b->rewrite, 0);
  clear(b->kind, 0);
  clear(b->flags, 0);
  clear(b->protocol, 0);
  clear(b->tos, 0);
  clear(b->ttl, 0);
  clear(b->tcp_flags, 0);
  clear(b->wscale, 0xff);
  clear(b->fault, 0);
  clear(b->verdict, 0);
  clear(b->drop_reason, 0);
  clear(b->stage, 0);
  clear(b->ct, 0);
  clear(b->direction, 0);
}

// One function: the compiler keeps in registers what it would reload behind every store of an octet, which may alias it.
template <typename Crc>
[[gnu::flatten]] void parse_group(BatchColumns* b, const uint8_t* data, uint32_t first, uint32_t count) {
  const uint32_t end_row = first + count;
  if (count >= FILL_ROWS) clear_rows(b, first, count);
  else for (uint32_t r = first; r < end_row; r++) clear_rows(b, r, 1);
  for (uint32_t r = first; r < end_row; r++) {
    const uint8_t* frame = data + b->offset[r];
    const uint8_t* end = frame + b->length[r];
    if (r + 4 < end_row) __builtin_prefetch(data + b->offset[r + 4]);
    if (end - frame < 14) {
      b->fault[r] = FRAME_TRUNCATED;
      continue;
    }
    if (frame[0] & 1) b->flags[r] = GROUP_DESTINATION;
    const uint8_t* at = frame + 12;
    uint16_t ether_type = read16(at);
    bool cut = false;
    for (int tags = 0; tags < 2 && (ether_type == 0x8100 || ether_type == 0x88a8 || ether_type == 0x9100); tags++) {
      if (end - at < 6) {
        cut = true;
        break;
      }
      if (tags == 0) b->vlan[r] = read16(at + 2) & 0xfff;
      at += 4;
      ether_type = read16(at);
    }
    b->ether_type[r] = ether_type;
    if (cut) {
      b->fault[r] = FRAME_TRUNCATED;
      continue;
    }
    at += 2;
    b->l3_offset[r] = static_cast<uint16_t>(at - frame);
    const Row row{b, r, frame, end};
    const int64_t on_wire = std::max<int64_t>(b->wire_length[r], b->length[r]) - (at - frame);
    if (ether_type == 0x0800) parse_ip4<Crc>(row, at, on_wire);
    else if (ether_type == 0x86dd) parse_ip6<Crc>(row, at, on_wire);
    else if (ether_type == 0x0806) b->flags[r] |= ARP;
    else b->fault[r] = UNSUPPORTED_ETHERTYPE;
  }
}

}  // namespace

void parse_rows(BatchColumns* b, const uint8_t* data, uint32_t first, uint32_t count, bool by_table) {
  const auto parse = !by_table && tuple_hash_uses_hardware() ? parse_group<HardwareStep> : parse_group<TableStep>;
  for (uint32_t done = 0; done < count; done += GROUP) parse(b, data, first + done, std::min(GROUP, count - done));
}

}  // namespace seine
