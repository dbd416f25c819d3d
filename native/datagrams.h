// Many UDP datagrams in one call, on a connected socket.
#pragma once
#include <cstddef>
#include <cstdint>

namespace seine {

struct Datagram {
  const uint8_t* octets;
  size_t size;
};
constexpr size_t DATAGRAMS_MAX = 64;

// Sends up to DATAGRAMS_MAX datagrams without waiting; returns how many the kernel took. *error: errno of the one after them, 0
// when all went. send(2) for each: sendmmsg(2) would swallow the refusal of an earlier datagram that stops it half-way.
size_t send_datagrams(int fd, const Datagram* datagrams, size_t count, int* error);

}  // namespace seine
