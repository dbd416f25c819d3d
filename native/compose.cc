// Frames as they leave: says what src/batch/compose.ts says.
#include "compose.h"
#include "checksum.h"
#include <cstring>

namespace seine {
namespace {

namespace N {
constexpr size_t FAMILY = 0, FLAGS = 1, PORT = 2, VNI = 4, TTL = 8, LOCAL = 16, REMOTE = 32, SOURCE_MAC = 48,
                 DESTINATION_MAC = 54;
}
constexpr uint8_t UDP_CHECKSUM = 1, DONT_FRAGMENT = 2;
constexpr size_t NODES_AT = 65536 * 8;
constexpr uint32_t ENTROPY_PORT_FIRST = 32768, ENTROPY_PORTS = 60999 - 32768 + 1;

void decrement_ttl(uint8_t* ip, uint8_t kind, int steps) {
  uint8_t& ttl = ip[kind == IP6 ? 7 : 8];
  const uint8_t after = ttl > steps ? static_cast<uint8_t>(ttl - steps) : 0;
  if (kind == IP6) {
    ttl = after;
    return;
  }
  const uint16_t before = read16(ip + 8);
  ttl = after;
  const uint16_t checksum = read16(ip + 10);
  if (checksum == 0) return;
  write16(ip + 10, update_checksum16(checksum, before, read16(ip + 8)));
}

void write_outer(uint8_t* at, size_t length, const uint8_t* node, int family, uint32_t hash) {
  const uint8_t flags = node[N::FLAGS];
  std::memcpy(at, node + N::DESTINATION_MAC, 6);
  std::memcpy(at + 6, node + N::SOURCE_MAC, 6);
  uint8_t* ip = at + 14;
  const uint32_t udp_length = static_cast<uint32_t>(16 + length);
  uint8_t* udp = ip + (family == 6 ? 40 : 20);
  if (family == 6) {
    write16(at + 12, 0x86dd);
    write16(ip, 0x6000);
    write16(ip + 2, 0);
    write16(ip + 4, udp_length);
    ip[6] = 17;
    ip[7] = node[N::TTL];
    std::memcpy(ip + 8, node + N::LOCAL, 16);
    std::memcpy(ip + 24, node + N::REMOTE, 16);
  } else {
    write16(at + 12, 0x0800);
    write16(ip, 0x4500);
    write16(ip + 2, 20 + udp_length);
    write16(ip + 4, 0);
    write16(ip + 6, flags & DONT_FRAGMENT ? 0x4000 : 0);
    ip[8] = node[N::TTL];
    ip[9] = 17;
    write16(ip + 10, 0);
    std::memcpy(ip + 12, node + N::LOCAL, 4);
    std::memcpy(ip + 16, node + N::REMOTE, 4);
    write16(ip + 10, internet_checksum(ip, 20, 0));
  }
  write16(udp, ENTROPY_PORT_FIRST + hash % ENTROPY_PORTS);
  std::memcpy(udp + 2, node + N::PORT, 2);
  write16(udp + 4, udp_length);
  write16(udp + 6, 0);
  std::memset(udp + 8, 0, 8);
  udp[8] = 0x08;
  std::memcpy(udp + 12, node + N::VNI + 1, 3);
  if (flags & UDP_CHECKSUM) {
    const uint32_t pseudo = checksum_sum(ip + (family == 6 ? 8 : 12), family == 6 ? 32 : 8, 17 + udp_length);
    const uint16_t checksum = internet_checksum(udp, udp_length, pseudo);
    write16(udp + 6, checksum == 0 ? 0xffff : checksum);
  }
}

/** Octets that a row's encapsulation adds, and the node's entry; 0: not encapsulated. */
size_t overhead_of(const BatchColumns* b, const uint8_t* table, uint32_t row, const uint8_t*& node) {
  node = table + NODES_AT + static_cast<size_t>(b->tunnel[row] & 0xfff) * 64;
  const int family = node[N::FAMILY];
  return (b->rewrite[row] & ENCAPSULATE) == 0 || family == 0 ? 0 : 14 + (family == 6 ? 40 : 20) + 16;
}

}  // namespace

size_t composed_size(const BatchColumns* b, const uint8_t* table, uint32_t row) {
  const uint8_t* node;
  const size_t overhead = overhead_of(b, table, row, node), size = overhead + b->length[row];
  return overhead != 0 && size - 14 > 65535 ? 0 : size;
}

void compose_row(const BatchColumns* b, const uint8_t* data, const uint8_t* table, uint32_t row, uint8_t* out) {
  const uint8_t* node;
  const size_t length = b->length[row], overhead = overhead_of(b, table, row, node);
  const uint16_t rewrite = b->rewrite[row];
  uint8_t* inner = out + overhead;
  std::memcpy(inner, data + b->offset[row], length);
  if (rewrite & DESTINATION_MAC) {
    const uint8_t* port = table + static_cast<size_t>(b->out_port[row] & 0xffff) * 8;
    if (port[6] != 0) std::memcpy(inner, port, 6);
  }
  const int steps = rewrite & DECREMENT_TTL ? 1 : rewrite & DECREMENT_TTL_TWICE ? 2 : 0;
  if (steps != 0) decrement_ttl(inner + b->l3_offset[row], b->kind[row], steps);
  if (overhead != 0) write_outer(out, length, node, node[N::FAMILY], b->hash[row]);
}

int64_t compose_rows(const BatchColumns* b, const uint8_t* data, const uint8_t* table, const int32_t* rows,
                     uint32_t count, uint8_t* out, size_t out_at, size_t out_size, uint32_t* sizes) {
  size_t at = out_at;
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t row = static_cast<uint32_t>(rows[i]);
    const size_t size = composed_size(b, table, row);
    sizes[i] = static_cast<uint32_t>(size);
    if (size == 0) continue;
    if (size > out_size - at) return -1;
    compose_row(b, data, table, row, out + at);
    at += size;
  }
  return static_cast<int64_t>(at - out_at);
}

}  // namespace seine
