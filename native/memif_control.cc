// Control messages of a memif client: HELLO goes out, then INIT, ADD_REGION, ADD_RING … are acknowledged one by one, and
// CONNECT is answered by CONNECTED. Whatever comes out of order, out of bounds or with the wrong descriptors ends the connection.
#include "memif.h"
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

namespace seine::memif {
namespace {

/** Messages of one client handled before others get their turn. */
constexpr int MESSAGES_PER_TURN = 64;
/** Descriptors taken with one message; more are refused, and none is needed beyond one. */
constexpr size_t DESCRIPTORS_MAX = 4;

void write_name(char (&into)[NAME_SIZE], const char* name) { std::snprintf(into, NAME_SIZE, "%s", name); }

/** A peer's text as it may stand in a log. */
std::string printable(const char* text, size_t size) {
  std::string result(text, strnlen(text, size));
  for (char& c : result)
    if (c < ' ' || c > '~') c = '?';
  return result;
}

bool is_eventfd(int fd) {
  char link[64], target[32] = {};
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  return readlink(link, target, sizeof target - 1) > 0 && std::strcmp(target, "anon_inode:[eventfd]") == 0;
}

}  // namespace

Hub::Hub() {
  // Zeroed pages come when they are touched: a hub with few ports costs little.
  claimed_ = static_cast<Connection**>(std::calloc(65536, sizeof(Connection*)));
  by_port_ = static_cast<Connection**>(std::calloc(65536, sizeof(Connection*)));
  if (claimed_ == nullptr || by_port_ == nullptr) std::abort();
}
Hub::~Hub() {
  std::free(claimed_);
  std::free(by_port_);
}
bool Hub::claim(uint32_t port, Connection* connection) {
  const std::unique_lock lock(mutex);
  if (claimed_[port] != nullptr) return false;
  claimed_[port] = connection;
  return true;
}
void Hub::publish(uint32_t port, Connection* connection) {
  const std::unique_lock lock(mutex);
  by_port_[port] = connection;
}
void Hub::remove(uint32_t port, Connection* connection) {
  const std::unique_lock lock(mutex);
  if (claimed_[port] == connection) claimed_[port] = nullptr;
  if (by_port_[port] == connection) by_port_[port] = nullptr;
}

Connection::Connection(int socket, std::shared_ptr<Hub> hub, int epoll, int poke)
    : socket_(socket), hub_(std::move(hub)), epoll_(epoll), poke_(poke) {
  if (hub_->connections.fetch_add(1) >= CONNECTIONS_MAX) {
    close("too many connections", false);
    return;
  }
  Message hello = {};
  hello.type = HELLO;
  write_name(hello.hello.name, "seine");
  hello.hello.min_version = hello.hello.max_version = VERSION;
  hello.hello.max_region = REGIONS_MAX - 1;
  hello.hello.max_s2c_ring = hello.hello.max_c2s_ring = RINGS_MAX - 1;
  hello.hello.max_log2_ring_size = LOG2_RING_SIZE_MAX;
  if (!send(hello)) close("the socket takes no message", false);
}

Connection::~Connection() {
  if (state_ != State::Closed) close("the server closes the interface", false);
  hub_->connections.fetch_sub(1);
}

Connection::State Connection::close(const char* reason, bool violation) {
  if (state_ == State::Closed) return state_;
  if (claimed_) hub_->remove(port_, this);
  Message message = {};
  message.type = DISCONNECT;
  std::snprintf(message.disconnect.reason, REASON_SIZE, "%s", reason);
  send(message);
  ::close(socket_);
  // The client holds its eventfds open, which would keep ours in the epoll set.
  for (const Ring& ring : c2s_) epoll_ctl(epoll_, EPOLL_CTL_DEL, ring.interrupt, nullptr);
  for (auto* rings : {&c2s_, &s2c_})
    for (Ring& ring : *rings)
      if (ring.interrupt >= 0) ::close(ring.interrupt);
  socket_ = -1;
  c2s_.clear();
  s2c_.clear();
  regions_.clear();
  reason_ = reason;
  violation_ = violation;
  state_ = State::Closed;
  return state_;
}

void Connection::accuse(const char* reason) {
  const char* none = nullptr;
  if (!accused_.compare_exchange_strong(none, reason, std::memory_order_acq_rel)) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(poke_, &one, sizeof one);
}

const char* Connection::memory_fault() const {
  for (const Region& region : regions_)
    if (region.lost()) return "pages of a region were taken away";
  return nullptr;
}

bool Connection::send(Message& message) {
  return ::send(socket_, &message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof message);
}
bool Connection::acknowledge() {
  Message message = {};
  message.type = ACK;
  return send(message);
}

Connection::State Connection::receive_messages() {
  std::vector<int> descriptors;
  for (int turn = 0; turn < MESSAGES_PER_TURN && state_ != State::Closed; turn++) {
    Message message = {};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * DESCRIPTORS_MAX)];
    iovec part = {&message, sizeof message};
    msghdr header = {};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t size = recvmsg(socket_, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (size < 0) {
      if (errno == EAGAIN || errno == EINTR) return state_;
      return close("the socket failed", false);
    }
    descriptors.clear();
    for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
      if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
      const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; i++) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
        descriptors.push_back(fd);
      }
    }
    // SOCK_SEQPACKET gives 0 at the end; an empty message looks the same, and means as little.
    if (size == 0) close("the client closed the connection", false);
    else if (size != sizeof message || (header.msg_flags & MSG_TRUNC) != 0) close("a control message has another size", true);
    else if ((header.msg_flags & MSG_CTRUNC) != 0) close("a control message brings too many descriptors", true);
    else handle(message, descriptors);
    for (const int fd : descriptors)
      if (fd >= 0) ::close(fd);
  }
  return state_;
}

/** What is taken of `descriptors` is set to −1 there; the rest is closed by the caller. */
Connection::State Connection::handle(Message& message, std::vector<int>& descriptors) {
  const bool brings_one = message.type == ADD_REGION || message.type == ADD_RING;
  if (descriptors.size() != (brings_one ? 1u : 0u)) return close("a control message brings a wrong number of descriptors", true);
  if (message.type == DISCONNECT) {
    message.disconnect.reason[REASON_SIZE - 1] = 0;
    const std::string reason = "the client disconnected: " + printable(message.disconnect.reason, REASON_SIZE);
    return close(reason.c_str(), false);
  }
  if (state_ == State::Connected) return close("a control message after CONNECT", true);
  if (message.type != INIT && !claimed_) return close("a control message before INIT", true);
  switch (message.type) {
    case INIT:
      return init(message.init);
    case ADD_REGION:
      return add_region(message.add_region, descriptors);
    case ADD_RING:
      return add_ring(message.add_ring, descriptors);
    case CONNECT:
      return connect();
    default:
      return close("a control message of unknown type", true);
  }
}

Connection::State Connection::init(const Init& init) {
  if (claimed_) return close("a second INIT", true);
  client_ = printable(init.name, NAME_SIZE);
  if (init.version != VERSION) return close("incompatible memif version", false);
  if (init.mode != MODE_ETHERNET) return close("only Ethernet mode is served", false);
  if (init.id == 0 || init.id > PORT_MAX) return close("the interface id is no port number", false);
  if (!hub_->claim(init.id, this)) return close("already connected", false);
  port_ = init.id;
  claimed_ = true;
  return acknowledge() ? state_ : close("the socket takes no message", false);
}

Connection::State Connection::add_region(const AddRegion& region, std::vector<int>& descriptors) {
  if (region.index != regions_.size() || regions_.size() >= REGIONS_MAX) return close("a region's index is out of turn", true);
  Region mapped;
  if (const char* refused = mapped.map(descriptors[0], region.size)) return close(refused, true);
  regions_.push_back(std::move(mapped));
  return acknowledge() ? state_ : close("the socket takes no message", false);
}

Connection::State Connection::add_ring(const AddRing& ring, std::vector<int>& descriptors) {
  auto& rings = (ring.flags & RING_C2S) != 0 ? c2s_ : s2c_;
  if (ring.index != rings.size() || rings.size() >= RINGS_MAX) return close("a ring's index is out of turn", true);
  if (ring.log2_ring_size > LOG2_RING_SIZE_MAX) return close("a ring is too large", true);
  if (ring.private_header_size != 0) return close("private headers are not served", true);
  if (ring.region >= regions_.size()) return close("a ring lies in no region", true);
  const size_t size = sizeof(RingHeader) + (sizeof(Descriptor) << ring.log2_ring_size);
  if (ring.offset % alignof(uint64_t) != 0 || !regions_[ring.region].holds(ring.offset, size))
    return close("a ring lies outside its region", true);
  if (!is_eventfd(descriptors[0])) return close("a ring's interrupt is no eventfd", true);
  Ring added;
  added.header = reinterpret_cast<RingHeader*>(regions_[ring.region].at(ring.offset));
  added.size = static_cast<uint16_t>(1u << ring.log2_ring_size);
  added.interrupt = std::exchange(descriptors[0], -1);
  rings.push_back(added);
  return acknowledge() ? state_ : close("the socket takes no message", false);
}

Connection::State Connection::connect() {
  if (c2s_.empty() && s2c_.empty()) return close("an interface without rings", true);
  for (auto* rings : {&c2s_, &s2c_})
    for (Ring& ring : *rings) {
      if (__atomic_load_n(&ring.header->cookie, __ATOMIC_RELAXED) != COOKIE) return close("a ring has another cookie", true);
      // Both sides begin at 0, as DPDK's do.
      __atomic_store_n(&ring.header->head, 0, __ATOMIC_RELAXED);
      __atomic_store_n(&ring.header->tail, 0, __ATOMIC_RELEASE);
      ring.at = 0;
    }
  if (const char* fault = memory_fault()) return close(fault, true);
  for (const Ring& ring : c2s_) {
    // Edge-triggered: each write of the client's wakes once, and its eventfd is never read, so that no read can block on a
    // descriptor that the client has emptied meanwhile.
    epoll_event event = {};
    event.events = EPOLLIN | EPOLLET;
    event.data.u64 = NO_HANDLE;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, ring.interrupt, &event) != 0) return close("an interrupt can't be watched", false);
  }
  Message message = {};
  message.type = CONNECTED;
  char name[NAME_SIZE];
  std::snprintf(name, sizeof name, "port %u", port_);
  write_name(message.connected.name, name);
  if (!send(message)) return close("the socket takes no message", false);
  state_ = State::Connected;
  hub_->publish(port_, this);
  return state_;
}

}  // namespace seine::memif
