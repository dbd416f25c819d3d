// A memif client for `seine load`. Region 0 holds both rings, then their buffers; ring 0 is C2S, ring 1 S2C.
#include "memif_client.h"
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace seine::memif {
namespace {
constexpr int ANSWER_WAIT_MS = 5000;
}

RingHeader* Client::ring(int index) const {
  return reinterpret_cast<RingHeader*>(memory_ + static_cast<size_t>(index) * (sizeof(RingHeader) + (sizeof(Descriptor) << log2_)));
}
Descriptor* Client::descriptor(int index, uint16_t at) const {
  return reinterpret_cast<Descriptor*>(ring(index) + 1) + (at & ((1u << log2_) - 1));
}
uint32_t Client::buffer_at(int index, uint16_t at) const {
  const uint32_t rings = 2 * static_cast<uint32_t>(sizeof(RingHeader) + (sizeof(Descriptor) << log2_));
  return rings + ((static_cast<uint32_t>(index) << log2_) + (at & ((1u << log2_) - 1))) * buffer_;
}

Client::~Client() {
  for (const int fd : {socket_, fd_, interrupts_[0], interrupts_[1]})
    if (fd >= 0) close(fd);
  if (memory_ != nullptr) munmap(memory_, size_);
}

std::string Client::exchange(Message& message, int fd, uint16_t answer) {
  if (message.type != NONE) {
    iovec part = {&message, sizeof message};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr header = {};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    if (fd >= 0) {
      header.msg_control = control;
      header.msg_controllen = sizeof control;
      cmsghdr* c = CMSG_FIRSTHDR(&header);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    if (sendmsg(socket_, &header, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET) return std::strerror(errno);
  }
  pollfd wait = {socket_, POLLIN, 0};
  if (poll(&wait, 1, ANSWER_WAIT_MS) != 1) return "the server does not answer";
  message = {};
  if (recv(socket_, &message, sizeof message, 0) != static_cast<ssize_t>(sizeof message)) return "the server closed the connection";
  if (message.type == DISCONNECT) {
    message.disconnect.reason[REASON_SIZE - 1] = 0;
    return message.disconnect.reason;
  }
  if (message.type != answer) return "the server answers out of order";
  return "";
}

std::string Client::connect(const std::string& path, uint32_t port, uint8_t log2, uint32_t buffer) {
  log2_ = log2;
  buffer_ = buffer;
  size_ = 2 * (sizeof(RingHeader) + (sizeof(Descriptor) << log2)) + (static_cast<size_t>(2) << log2) * buffer;
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return "the path is too long";
  std::memcpy(address.sun_path, path.data(), path.size());
  socket_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (socket_ < 0 || ::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return std::strerror(errno);
  fd_ = memfd_create("seine-load", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd_ < 0 || ftruncate(fd_, static_cast<off_t>(size_)) != 0 || fcntl(fd_, F_ADD_SEALS, F_SEAL_SHRINK) != 0) return std::strerror(errno);
  void* memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (memory == MAP_FAILED) return std::strerror(errno);
  memory_ = static_cast<uint8_t*>(memory);
  for (int i = 0; i < 2; i++) {
    ring(i)->cookie = COOKIE;
    interrupts_[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (interrupts_[i] < 0) return std::strerror(errno);
  }
  // Polled: the server need not wake us.
  ring(1)->flags = RING_MASK_INTERRUPT;

  Message message = {};
  std::string failure = exchange(message, -1, HELLO);
  if (!failure.empty()) return failure;
  if (message.hello.min_version > VERSION || message.hello.max_version < VERSION) return "the server speaks another version";
  if (message.hello.max_log2_ring_size < log2) return "the server takes smaller rings only";
  message = {};
  message.type = INIT;
  message.init.version = VERSION;
  message.init.id = port;
  std::snprintf(message.init.name, NAME_SIZE, "seine load");
  if (!(failure = exchange(message, -1, ACK)).empty()) return failure;
  message = {};
  message.type = ADD_REGION;
  message.add_region.size = size_;
  if (!(failure = exchange(message, fd_, ACK)).empty()) return failure;
  for (int i = 0; i < 2; i++) {
    message = {};
    message.type = ADD_RING;
    message.add_ring.flags = i == 0 ? RING_C2S : 0;
    message.add_ring.offset = static_cast<uint32_t>(reinterpret_cast<uint8_t*>(ring(i)) - memory_);
    message.add_ring.log2_ring_size = log2;
    if (!(failure = exchange(message, interrupts_[i], ACK)).empty()) return failure;
  }
  message = {};
  message.type = CONNECT;
  std::snprintf(message.connect.name, NAME_SIZE, "load%u", port);
  if (!(failure = exchange(message, -1, CONNECTED)).empty()) return failure;
  receive();  // gives the server its empty buffers
  return "";
}

uint32_t Client::send(const uint8_t* frames, const uint32_t* offsets, const uint32_t* lengths, uint32_t count) {
  const uint16_t tail = __atomic_load_n(&ring(0)->tail, __ATOMIC_ACQUIRE);
  const uint32_t free = (1u << log2_) - static_cast<uint16_t>(head_ - tail);
  const uint32_t sent = std::min(count, free);
  for (uint32_t i = 0; i < sent; i++, head_++) {
    const uint32_t at = buffer_at(0, head_), length = std::min(lengths[i], buffer_);
    std::memcpy(memory_ + at, frames + offsets[i], length);
    *descriptor(0, head_) = {0, 0, length, at, 0};
  }
  __atomic_store_n(&ring(0)->head, head_, __ATOMIC_RELEASE);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  if (sent > 0 && (__atomic_load_n(&ring(0)->flags, __ATOMIC_RELAXED) & RING_MASK_INTERRUPT) == 0) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(interrupts_[0], &one, sizeof one);
  }
  return sent;
}

uint32_t Client::taken() {
  const uint16_t tail = __atomic_load_n(&ring(0)->tail, __ATOMIC_ACQUIRE);
  const uint16_t taken = static_cast<uint16_t>(tail - counted_);
  counted_ = tail;
  return taken;
}

uint32_t Client::receive() {
  const uint16_t tail = __atomic_load_n(&ring(1)->tail, __ATOMIC_ACQUIRE);
  uint32_t frames = 0;
  for (; at_ != tail; at_++)
    if ((descriptor(1, at_)->flags & DESCRIPTOR_NEXT) == 0) frames++;
  for (const uint16_t end = static_cast<uint16_t>(at_ + (1u << log2_)); filled_ != end; filled_++)
    *descriptor(1, filled_) = {0, 0, buffer_, buffer_at(1, filled_), 0};
  __atomic_store_n(&ring(1)->head, filled_, __ATOMIC_RELEASE);
  return frames;
}

bool Client::closed() const {
  pollfd state = {socket_, POLLIN | POLLRDHUP, 0};
  return poll(&state, 1, 0) != 0;
}

}  // namespace seine::memif
