// The memif protocol, version 2.0, as VPP's memif plugin, libmemif and DPDK's net_memif speak it. Control messages have 128
// octets, packed, in the host's byte order, over a SOCK_SEQPACKET Unix socket; descriptors of regions and interrupts travel
// beside them (SCM_RIGHTS, unix(7)). We are the server; the client owns the memory. C2S: client to server, S2C: back.
#pragma once
#include <cstddef>
#include <cstdint>

namespace seine::memif {

constexpr uint32_t COOKIE = 0x3E31F20;
constexpr uint16_t VERSION = 2 << 8;
constexpr size_t NAME_SIZE = 32, SECRET_SIZE = 24, REASON_SIZE = 96;

enum MessageType : uint16_t { NONE, ACK, HELLO, INIT, ADD_REGION, ADD_RING, CONNECT, CONNECTED, DISCONNECT };
constexpr uint8_t MODE_ETHERNET = 0;
constexpr uint16_t RING_C2S = 1;  // flag of AddRing

#pragma pack(push, 1)
struct Hello {
  char name[NAME_SIZE];
  uint16_t min_version, max_version;
  uint16_t max_region, max_s2c_ring, max_c2s_ring;  // largest indices
  uint8_t max_log2_ring_size;
};
struct Init {
  uint16_t version;
  uint32_t id;
  uint8_t mode;
  char secret[SECRET_SIZE];
  char name[NAME_SIZE];
};
struct AddRegion {
  uint16_t index;
  uint64_t size;
};
struct AddRing {
  uint16_t flags, index, region;
  uint32_t offset;
  uint8_t log2_ring_size;
  uint16_t private_header_size;
};
struct InterfaceName {  // of Connect and Connected
  char name[NAME_SIZE];
};
struct Disconnect {
  uint32_t code;
  char reason[REASON_SIZE];
};
struct Message {
  uint16_t type;
  union {
    Hello hello;
    Init init;
    AddRegion add_region;
    AddRing add_ring;
    InterfaceName connect, connected;
    Disconnect disconnect;
    uint8_t octets[126];
  };
};
#pragma pack(pop)
static_assert(sizeof(Message) == 128);

// A ring in shared memory: three cache lines' worth of header, then 2^n descriptors. `head` is written by the client, `tail`
// by the server, in both directions; `flags` by the side that reads the frames.
struct RingHeader {
  uint32_t cookie;
  volatile uint16_t flags;
  volatile uint16_t head;
  uint8_t pad0[56];
  volatile uint16_t tail;
  uint8_t pad1[62];
};
static_assert(sizeof(RingHeader) == 128 && offsetof(RingHeader, head) == 6 && offsetof(RingHeader, tail) == 64);
constexpr uint16_t RING_MASK_INTERRUPT = 1;

struct Descriptor {
  uint16_t flags;
  uint16_t region;
  uint32_t length;
  uint32_t offset;
  uint32_t metadata;
};
static_assert(sizeof(Descriptor) == 16);
constexpr uint16_t DESCRIPTOR_NEXT = 1;

}  // namespace seine::memif
