// The memif connections of one thread: their sockets and interrupts behind one epoll descriptor, which the thread's event loop
// watches; their rings, polled together for one batch.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>
#include "memif.h"

namespace seine::memif {

/** What a connection came to. */
struct Event {
  uint32_t handle;
  bool closed;  // else connected
  bool violation;
  uint32_t port;
  std::string client, reason;
};

class Poller {
 public:
  /** Throws std::system_error where the system has no descriptor left. */
  explicit Poller(std::shared_ptr<Hub> hub);
  ~Poller();
  Poller(const Poller&) = delete;

  /** Readable when a socket or an interrupt wants attention. */
  int descriptor() const { return epoll_; }
  Hub& hub() { return *hub_; }
  /** Takes over the descriptor of an accepted socket. */
  uint32_t adopt(int socket);
  /** Handles control messages; what connections came to is in `events` (take_events). */
  void service();
  std::vector<Event> take_events() { return std::exchange(events_, {}); }
  /** Frames of all connections, in turn, to the rows of a batch. */
  Received receive(BatchColumns* batch, uint8_t* data, size_t data_size, uint32_t rows_max);
  /** Asks all clients for interrupts, or for none; false when frames wait already. */
  bool ask_for_interrupts(bool wanted);
  void close(uint32_t handle, const char* reason);
  void close_all(const char* reason);

 private:
  struct Client {
    uint32_t handle;
    std::unique_ptr<Connection> connection;
    bool told;
  };
  void end(size_t index);

  std::shared_ptr<Hub> hub_;
  int epoll_ = -1;
  int poke_ = -1;
  uint32_t next_handle_ = 1;
  size_t first_ = 0;  // whose rings are read first next time
  std::vector<Client> clients_;
  std::vector<Event> events_;
};

}  // namespace seine::memif
