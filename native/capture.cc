#include "capture.h"
#include <algorithm>
#include <cstring>

namespace seine {
namespace {

constexpr uint32_t MADE_HEADER_SIZE = 14;
constexpr uint32_t ENHANCED_PACKET = 6, ENHANCED_HEADER_SIZE = 28, ENHANCED_LEAST_SIZE = 32, RECORD_HEADER_SIZE = 16;
constexpr uint32_t HEADER_SIZE[LINK_KINDS] = {0, 0, 0, 0, 4, 16, 20};
constexpr uint16_t ETHER_IP4 = 0x0800, ETHER_IP6 = 0x86dd;
constexpr uint16_t ARPHRD_NETLINK = 824;

uint16_t u16(const uint8_t* at) { return static_cast<uint16_t>((at[0] << 8) | at[1]); }
uint32_t big(const uint8_t* at) {
  return (static_cast<uint32_t>(at[0]) << 24) | (static_cast<uint32_t>(at[1]) << 16) | (static_cast<uint32_t>(at[2]) << 8) | at[3];
}
template <bool little>
uint32_t word(const uint8_t* at) {
  uint32_t value;
  std::memcpy(&value, at, 4);
  // The processor's own order is little-endian (x86-64, AArch64).
  return little ? value : __builtin_bswap32(value);
}

uint16_t ether_type_of_family(uint32_t family) {
  switch (family) {
    case 2: return ETHER_IP4;
    case 10: case 23: case 24: case 28: case 30: return ETHER_IP6;
    default: return 0;
  }
}

// Puts an Ethernet header right before the packet behind the link header at `at`; `length` ≥ its size.
void write_ethernet(LinkKind kind, uint8_t* at, uint32_t length) {
  uint8_t mac[6] = {};
  uint16_t ether_type = ETHER_IP4;
  switch (kind) {
    case LINK_RAW: ether_type = length > 0 && at[0] >> 4 == 6 ? ETHER_IP6 : ETHER_IP4; break;
    case LINK_RAW6: ether_type = ETHER_IP6; break;
    case LINK_LOOPBACK: ether_type = ether_type_of_family(std::min(big(at), __builtin_bswap32(big(at)))); break;
    case LINK_COOKED1:
      ether_type = u16(at + 2) == ARPHRD_NETLINK ? 0 : u16(at + 14);
      if (u16(at + 4) == 6) std::memcpy(mac, at + 6, 6);
      break;
    case LINK_COOKED2:
      ether_type = u16(at + 8) == ARPHRD_NETLINK ? 0 : u16(at);
      if (at[11] == 6) std::memcpy(mac, at + 12, 6);
      break;
    default: break;
  }
  uint8_t* header = at + HEADER_SIZE[kind] - MADE_HEADER_SIZE;
  std::memset(header, 0, 6);
  std::memcpy(header + 6, mac, 6);
  header[12] = static_cast<uint8_t>(ether_type >> 8);
  header[13] = static_cast<uint8_t>(ether_type);
}

template <bool pcapng, bool little>
Scan scan(BatchColumns* b, uint8_t* data, ScanState* state, const CaptureInterface* interfaces, uint32_t interface_count,
          uint32_t* own_time, uint32_t* interface_id) {
  const uint32_t end = state->end;
  uint32_t at = state->position, row = state->count, octets = state->octets;
  uint64_t clock = (static_cast<uint64_t>(state->clock_high) << 32) | state->clock_low;
  Scan stopped;
  for (;;) {
    uint32_t id = 0, captured, original, packet, next;
    if constexpr (pcapng) {
      stopped = SCAN_NEED_MORE;
      if (end - at < 12) break;
      stopped = SCAN_OTHER;
      if (word<little>(data + at) != ENHANCED_PACKET) break;
      const uint32_t size = word<little>(data + at + 4);
      if (size < ENHANCED_LEAST_SIZE || size % 4 != 0 || size > CAPTURED_MAX_SIZE + PACKET_OPTIONS_MAX_SIZE) break;
      stopped = SCAN_NEED_MORE;
      if (size > end - at) break;
      stopped = SCAN_OTHER;
      id = word<little>(data + at + 8);
      captured = word<little>(data + at + 20);
      original = word<little>(data + at + 24);
      if (word<little>(data + at + size - 4) != size || captured > CAPTURED_MAX_SIZE || captured > size - ENHANCED_LEAST_SIZE) break;
      if (id >= interface_count || interfaces[id].ns_per_unit == 0) break;
      packet = at + ENHANCED_HEADER_SIZE;
      next = at + size;
    } else {
      stopped = SCAN_NEED_MORE;
      if (end - at < RECORD_HEADER_SIZE) break;
      captured = word<little>(data + at + 8);
      original = word<little>(data + at + 12);
      stopped = SCAN_OTHER;
      if (captured > CAPTURED_MAX_SIZE) break;
      stopped = SCAN_NEED_MORE;
      if (end - at - RECORD_HEADER_SIZE < captured) break;
      packet = at + RECORD_HEADER_SIZE;
      next = packet + captured;
    }
    stopped = SCAN_FULL;
    if (row >= state->rows_limit) break;
    const LinkKind link = static_cast<LinkKind>(interfaces[id].link);
    const uint32_t header = HEADER_SIZE[link];
    const uint32_t on_wire = std::max(original, captured);
    uint64_t wire_length = on_wire;
    if (link != LINK_ETHERNET) {
      const uint64_t with_made = static_cast<uint64_t>(on_wire) + MADE_HEADER_SIZE;
      wire_length = with_made < header ? 0 : with_made - header;
    }
    stopped = SCAN_OTHER;
    if (wire_length > FRAME_MAX_SIZE || captured > FRAME_MAX_SIZE + header) break;
    stopped = SCAN_FULL;
    if (octets + captured + MADE_HEADER_SIZE > BATCH_OCTETS_LIMIT) break;

    uint64_t ns;
    if constexpr (pcapng) {
      const uint64_t units = (static_cast<uint64_t>(word<little>(data + at + 12)) << 32) | word<little>(data + at + 16);
      const unsigned __int128 product = static_cast<unsigned __int128>(units) * interfaces[id].ns_per_unit;
      ns = product > INT64_MAX ? INT64_MAX : static_cast<uint64_t>(product);
    } else {
      // Both products together stay below 2^63.
      ns = word<little>(data + at) * 1000000000ull + static_cast<uint64_t>(word<little>(data + at + 4)) * interfaces[id].ns_per_unit;
    }
    if (ns > clock) clock = ns;
    uint32_t offset = packet, length = captured;
    if (link != LINK_ETHERNET) {
      if (captured < header) {
        length = 0;
      } else {
        write_ethernet(link, data + packet, captured);
        offset = packet + header - MADE_HEADER_SIZE;
        length = captured - header + MADE_HEADER_SIZE;
      }
    }
    b->offset[row] = offset;
    b->length[row] = length;
    b->wire_length[row] = static_cast<uint32_t>(wire_length);
    b->frame_octets[row] = on_wire;
    b->time_ns[row] = clock;
    b->in_port[row] = state->in_port + state->in_port_step * id;
    std::memcpy(own_time + row * 2, &ns, 8);
    interface_id[row] = id;
    octets += captured;
    row++;
    at = next;
  }
  state->position = at;
  state->count = row;
  state->octets = octets;
  state->clock_low = static_cast<uint32_t>(clock);
  state->clock_high = static_cast<uint32_t>(clock >> 32);
  return stopped;
}

}  // namespace

Scan scan_records(BatchColumns* b, uint8_t* data, ScanState* state, const CaptureInterface* interfaces, uint32_t interface_count,
                  uint32_t* own_time, uint32_t* interface_id) {
  const auto walk = state->format == FORMAT_PCAPNG ? (state->little ? scan<true, true> : scan<true, false>)
                                                   : (state->little ? scan<false, true> : scan<false, false>);
  return walk(b, data, state, interfaces, interface_count, own_time, interface_id);
}

}  // namespace seine
