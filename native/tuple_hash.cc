// Symmetric tuple hash: CRC-32C by SSE4.2's instruction where the processor has it, else by table.
#include "tuple_hash.h"

namespace seine {
namespace {

#if defined(__x86_64__)
const bool HARDWARE = __builtin_cpu_supports("sse4.2");
#else
const bool HARDWARE = false;
#endif

}  // namespace

uint32_t tuple_hash_table(const uint32_t* address, int family, uint32_t protocol, uint32_t src_port, uint32_t dst_port) {
  return tuple_hash_by<TableStep>(address, family, protocol, src_port, dst_port);
}

uint32_t tuple_hash(const uint32_t* address, int family, uint32_t protocol, uint32_t src_port, uint32_t dst_port) {
  return HARDWARE ? tuple_hash_by<HardwareStep>(address, family, protocol, src_port, dst_port)
                  : tuple_hash_by<TableStep>(address, family, protocol, src_port, dst_port);
}

bool tuple_hash_uses_hardware() { return HARDWARE; }

}  // namespace seine
