// A memif client (protocol 2.0) for `seine load`: copies frames into its own rings' buffers, takes what comes back, polls only.
#pragma once
#include <cstdint>
#include <string>
#include "memif_protocol.h"

namespace seine::memif {

class Client {
 public:
  Client() = default;
  ~Client();
  Client(const Client&) = delete;
  /** Connects as interface `port`, with 2^log2 buffers of `buffer` octets in each direction. Returns "" or why not. */
  std::string connect(const std::string& path, uint32_t port, uint8_t log2, uint32_t buffer);
  /** Puts frames on the ring until it is full; returns how many. `offsets`, `lengths`: in `frames`. */
  uint32_t send(const uint8_t* frames, const uint32_t* offsets, const uint32_t* lengths, uint32_t count);
  /** Frames that the server has taken since the last call. */
  uint32_t taken();
  /** Frames that have come since the last call; their octets are not looked at. */
  uint32_t receive();
  /** The server has closed the connection. */
  bool closed() const;

 private:
  std::string exchange(Message& message, int fd, uint16_t answer);
  RingHeader* ring(int index) const;
  Descriptor* descriptor(int index, uint16_t at) const;
  uint32_t buffer_at(int index, uint16_t at) const;

  int socket_ = -1, fd_ = -1, interrupts_[2] = {-1, -1};
  uint8_t* memory_ = nullptr;
  size_t size_ = 0;
  uint32_t buffer_ = 0;
  uint8_t log2_ = 0;
  uint16_t head_ = 0, counted_ = 0, at_ = 0, filled_ = 0;
};

}  // namespace seine::memif
