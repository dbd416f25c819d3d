// Symmetric tuple hash; documented in src/flow/tuple-hash.ts.
#pragma once
#include <cstdint>
namespace seine {
uint32_t tuple_hash(const uint32_t* address, int family, uint32_t protocol, uint32_t src_port, uint32_t dst_port);
bool tuple_hash_uses_hardware();
// The table form, for tests on processors that have the instruction.
uint32_t tuple_hash_table(const uint32_t* address, int family, uint32_t protocol, uint32_t src_port, uint32_t dst_port);
}
