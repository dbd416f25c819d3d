// Policy decisions from the memory that src/policy/classifier.ts describes and writes: which rule decides a connection at an
// endpoint. What has never been asked there is answered NOT_MEMOISED: TypeScript finds it, and the next question finds it here.
#pragma once
#include <cstddef>
#include <cstdint>
#include "address_map.h"

namespace seine {

constexpr int32_t POLICY_NOT_MEMOISED = INT32_MIN;
// dst_port of a packet without ports.
constexpr uint32_t POLICY_NO_PORTS = 0xffffffffu;

// Layouts of src/policy/tables.ts and memory.ts.
namespace PolicyLayout {
constexpr uint32_t SET = 0, SET_ID = 1, DEFAULT_DENY = 2, FLAGS = 3, ENDPOINT_WORDS = 4;
constexpr uint32_t USES_BLOCKS = 1;
constexpr uint32_t BUCKET_BITS = 17, WAYS = 4, SLOT_WORDS = 4, BUCKET_WORDS = 16;
constexpr uint32_t PARTS = 4;
}  // namespace PolicyLayout

// PolicyContext of classifier.ts. Address maps and endpoints change with every swap of tables: pointers hold for one call.
struct PolicyContext {
  const uint32_t* hosts;
  const uint32_t* regions;
  const uint32_t* endpoints;
  uint32_t endpoint_ports;  // ports from here on are not isolated
  const uint32_t* memo;
  const int32_t* programs;
};

inline size_t policy_bucket(uint32_t set, uint32_t identity, uint32_t region) {
  uint32_t h = (set * 0x9e3779b1u) ^ (identity * 0x85ebca6bu) ^ (region * 0xc2b2ae35u);
  h = (h ^ (h >> 15)) * 0x2c1b3c6du;
  h = (h ^ (h >> 13)) & ((1u << PolicyLayout::BUCKET_BITS) - 1);
  return static_cast<size_t>(h) * PolicyLayout::BUCKET_WORDS;
}

// First and second step of prefetching ahead of policy_decide: the second reads what the first one fetched.
inline void policy_prefetch(const PolicyContext& c, uint32_t direction, uint32_t port, const uint32_t* peer, int family) {
  if (port < c.endpoint_ports) __builtin_prefetch(c.endpoints + (static_cast<size_t>(port) * 2 + direction) * PolicyLayout::ENDPOINT_WORDS);
  address_prefetch(c.hosts, peer, family);
}
inline void policy_prefetch_memo(const PolicyContext& c, uint32_t direction, uint32_t port, const uint32_t* peer, int family) {
  using namespace PolicyLayout;
  if (port >= c.endpoint_ports) return;
  const uint32_t* endpoint = c.endpoints + (static_cast<size_t>(port) * 2 + direction) * ENDPOINT_WORDS;
  if (endpoint[SET] == 0) return;
  const uint32_t region = (endpoint[FLAGS] & USES_BLOCKS) != 0 ? address_lookup(c.regions, peer, family) : 0;
  __builtin_prefetch(c.memo + policy_bucket(endpoint[SET_ID], address_lookup(c.hosts, peer, family), region));
}

// A program's answer: the rule, 0 = none matches. dst_port: POLICY_NO_PORTS where the packet has none.
inline int32_t policy_run(const int32_t* program, uint8_t protocol, uint32_t dst_port) {
  const uint32_t part = protocol == 6 ? 0 : protocol == 17 ? 1 : protocol == 132 ? 2 : 3;
  if (part == 3 || dst_port == POLICY_NO_PORTS) return program[part];
  const int32_t* starts = program + program[PolicyLayout::PARTS + part];
  const uint32_t count = static_cast<uint32_t>(program[PolicyLayout::PARTS + part + 1] - program[PolicyLayout::PARTS + part]) / 2;
  // The last start at or below the port: steps without branches, since ports are as good as random.
  uint32_t low = 0;
  for (uint32_t left = count; left > 1;) {
    const uint32_t half = left / 2;
    low += starts[low + half] <= static_cast<int32_t>(dst_port) ? half : 0;
    left -= half;
  }
  return starts[count + low];
}

// What Classifier.decide says: 0 nothing isolates the endpoint in that direction (0 ingress, 1 egress), +rule allowed by it, −rule
// denied; POLICY_NOT_MEMOISED: ask TypeScript. `peer`: the other end's address, 4 words in host order, IPv4 in the first; the
// endpoint's own address decides nothing yet. family: 4 or 6.
inline int32_t policy_decide(const PolicyContext& c, uint32_t direction, uint32_t port, const uint32_t* peer, const uint32_t* /*other*/,
                             int family, uint8_t protocol, uint32_t dst_port) {
  using namespace PolicyLayout;
  if (port >= c.endpoint_ports) return 0;
  const uint32_t* endpoint = c.endpoints + (static_cast<size_t>(port) * 2 + direction) * ENDPOINT_WORDS;
  if (endpoint[SET] == 0) return 0;
  const uint32_t set = endpoint[SET_ID];
  const uint32_t identity = address_lookup(c.hosts, peer, family);
  const uint32_t region = (endpoint[FLAGS] & USES_BLOCKS) != 0 ? address_lookup(c.regions, peer, family) : 0;
  const uint32_t* slot = c.memo + policy_bucket(set, identity, region);
  for (uint32_t way = 0; way < WAYS; way++, slot += SLOT_WORDS) {
    if (slot[0] != set || slot[1] != identity || slot[2] != region) continue;
    const int32_t rule = policy_run(c.programs + slot[3], protocol, dst_port);
    return rule != 0 ? rule : -static_cast<int32_t>(endpoint[DEFAULT_DENY]);
  }
  return POLICY_NOT_MEMOISED;
}

// Words of a question: direction, port, family, protocol, dst_port, and from PEER the peer's address.
namespace PolicyQuestion {
constexpr uint32_t DIRECTION = 0, PORT = 1, FAMILY = 2, PROTOCOL = 3, DST_PORT = 4, PEER = 8, WORDS = 12;
}
// Many questions in a row, with prefetching: `rules` takes policy_decide's answers. Returns how many were not memoised.
uint32_t policy_decide_all(const PolicyContext& c, const uint32_t* questions, uint32_t count, int32_t* rules);

}  // namespace seine
