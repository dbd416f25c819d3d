// Many UDP datagrams in one call: sendmmsg(2) on a connected, non-blocking socket.
#pragma once
#include <cstddef>
#include <cstdint>

namespace seine {

struct Datagram {
  const uint8_t* octets;
  size_t size;
};
constexpr size_t DATAGRAMS_MAX = 64;

// Sends up to DATAGRAMS_MAX datagrams; returns how many the kernel took. *error: errno of the one after them, 0 when all went.
size_t send_datagrams(int fd, const Datagram* datagrams, size_t count, int* error);

}  // namespace seine
