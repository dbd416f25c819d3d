// The memif connections of one thread.
#include "memif_poller.h"
#include <algorithm>
#include <cerrno>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <system_error>
#include <unistd.h>

namespace seine::memif {
namespace {

bool watch(int epoll, int fd, uint32_t events, uint64_t data) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = data;
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

}  // namespace

Poller::Poller(std::shared_ptr<Hub> hub) : hub_(std::move(hub)) {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  poke_ = epoll_ < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (poke_ < 0 || !watch(epoll_, poke_, EPOLLIN | EPOLLET, NO_HANDLE)) {
    const int error = errno;
    if (poke_ >= 0) ::close(poke_);
    if (epoll_ >= 0) ::close(epoll_);
    throw std::system_error(error, std::generic_category(), "epoll_create1");
  }
}

Poller::~Poller() {
  clients_.clear();
  ::close(poke_);
  ::close(epoll_);
}

uint32_t Poller::adopt(int socket) {
  const uint32_t handle = next_handle_++;
  auto connection = std::make_unique<Connection>(socket, hub_, epoll_, poke_);
  if (connection->state() != Connection::State::Closed && !watch(epoll_, socket, EPOLLIN | EPOLLRDHUP, handle))
    connection->close("the socket can't be watched", false);
  clients_.push_back({handle, std::move(connection), false});
  return handle;
}

void Poller::service() {
  epoll_event events[64];
  const int count = epoll_wait(epoll_, events, 64, 0);
  for (int i = 0; i < count; i++) {
    if (events[i].data.u64 == NO_HANDLE) continue;
    for (const Client& client : clients_)
      if (client.handle == events[i].data.u64 && client.connection->state() != Connection::State::Closed) {
        client.connection->receive_messages();
        break;
      }
  }
  for (size_t i = 0; i < clients_.size();) {
    Client& client = clients_[i];
    Connection& connection = *client.connection;
    if (connection.state() != Connection::State::Closed && connection.accused() != nullptr) connection.close(connection.accused(), true);
    if (connection.state() == Connection::State::Connected && !client.told) {
      client.told = true;
      events_.push_back({client.handle, false, false, connection.port(), connection.client(), {}});
    }
    if (connection.state() == Connection::State::Closed) end(i);
    else i++;
  }
}

void Poller::end(size_t index) {
  Client& client = clients_[index];
  const Connection& connection = *client.connection;
  events_.push_back({client.handle, true, connection.violation(), connection.port(), connection.client(), connection.reason()});
  clients_.erase(clients_.begin() + static_cast<std::ptrdiff_t>(index));
}

Received Poller::receive(BatchColumns* batch, uint8_t* data, size_t data_size, uint32_t rows_max) {
  Received total;
  const size_t count = clients_.size();
  bool closed = false;
  if (first_ >= count) first_ = 0;
  for (size_t i = 0; i < count; i++) {
    Connection& connection = *clients_[(first_ + i) % count].connection;
    if (connection.state() != Connection::State::Connected) continue;
    closed |= connection.receive_frames(batch, data, data_size, rows_max, total) == Connection::State::Closed;
  }
  if (count > 0) first_ = (first_ + 1) % count;
  if (closed) {
    // The event loop is woken to ask for the events.
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(poke_, &one, sizeof one);
  }
  return total;
}

bool Poller::ask_for_interrupts(bool wanted) {
  bool quiet = true;
  for (const Client& client : clients_)
    if (client.connection->state() == Connection::State::Connected) quiet &= client.connection->ask_for_interrupts(wanted);
  return quiet;
}

void Poller::close(uint32_t handle, const char* reason) {
  for (size_t i = 0; i < clients_.size(); i++) {
    if (clients_[i].handle != handle) continue;
    clients_[i].connection->close(reason, false);
    return end(i);
  }
}

void Poller::close_all(const char* reason) {
  while (!clients_.empty()) close(clients_.front().handle, reason);
}

}  // namespace seine::memif
