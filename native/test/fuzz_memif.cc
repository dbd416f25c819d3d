// memif under AddressSanitizer and UBSan: a client in this process writes to its rings at random, while the server's own code
// reads and writes them from another thread. A batch has exactly the octets that it says, so that one too many is seen, and what
// lies in the client's buffers is told from everything else.
// Usage: fuzz_memif SEED MILLISECONDS. Prints what happened; 2: a frame was not made of the client's octets.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include "../compose.h"
#include "../memif_poller.h"

using namespace seine;
using namespace seine::memif;

namespace {

constexpr uint8_t LOG2 = 5;
constexpr uint32_t RING = sizeof(RingHeader) + (sizeof(Descriptor) << LOG2);
constexpr uint32_t BUFFERS_AT = 8192, REGION = BUFFERS_AT + 65536;
constexpr uint8_t PATTERN = 0xA5;

void send_message(int socket, const Message& message, int fd = -1) {
  iovec part = {const_cast<Message*>(&message), sizeof message};
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
  sendmsg(socket, &header, MSG_NOSIGNAL);
}

/** One client: its own mapping of its memory, and its handshake sent in one go. */
struct Client {
  Client(Poller& poller, uint32_t port) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) != 0) std::abort();
    socket = pair[0];
    fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (ftruncate(fd, REGION) != 0) std::abort();
    memory = static_cast<uint8_t*>(mmap(nullptr, REGION, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    std::memset(memory + BUFFERS_AT, PATTERN, REGION - BUFFERS_AT);
    for (int i = 0; i < 2; i++) {
      rings[i] = reinterpret_cast<RingHeader*>(memory + i * RING);
      rings[i]->cookie = COOKIE;
      for (uint32_t d = 0; d < 1u << LOG2; d++) reinterpret_cast<Descriptor*>(rings[i] + 1)[d] = {0, 0, 64, BUFFERS_AT + d * 64, 0};
      interrupts[i] = eventfd(0, EFD_NONBLOCK);
    }
    Message m = {};
    m.type = INIT;
    m.init.version = VERSION;
    m.init.id = port;
    send_message(socket, m);
    m = {};
    m.type = ADD_REGION;
    m.add_region.size = REGION;
    send_message(socket, m, fd);
    for (uint16_t i = 0; i < 2; i++) {
      m = {};
      m.type = ADD_RING;
      m.add_ring.flags = i == 0 ? RING_C2S : 0;
      m.add_ring.offset = i * RING;
      m.add_ring.log2_ring_size = LOG2;
      send_message(socket, m, interrupts[i]);
    }
    m = {};
    m.type = CONNECT;
    send_message(socket, m);
    poller.adopt(pair[1]);
    poller.service();
  }
  ~Client() {
    close(socket);
    munmap(memory, REGION);
    close(fd);
    for (const int interrupt : interrupts) close(interrupt);
  }
  int socket, fd, interrupts[2];
  uint8_t* memory;
  RingHeader* rings[2];
};

/** Descriptors mostly right, heads mostly near: so that all of the way is walked, not only the first check. */
void scribble(Client& client, std::mt19937& rng) {
  RingHeader* ring = client.rings[rng() & 1];
  auto* descriptors = reinterpret_cast<volatile Descriptor*>(ring + 1);
  switch (rng() % 8) {
    case 0:
    case 1:
    case 2:
    case 3: {
      volatile Descriptor& d = descriptors[rng() % (1u << LOG2)];
      d.flags = rng() % 4 == 0;
      d.region = rng() % 1024 == 0 ? static_cast<uint16_t>(rng()) : 0;
      d.length = rng() % 1024 == 0 ? static_cast<uint32_t>(rng()) : rng() % 2048;
      d.offset = rng() % 1024 == 0 ? BUFFERS_AT + static_cast<uint32_t>(rng() / 2) : BUFFERS_AT + rng() % (REGION - BUFFERS_AT - 2048);
      break;
    }
    case 4:
    case 5:
      if (static_cast<uint16_t>(ring->head - ring->tail) <= (1u << LOG2) - 8)
        __atomic_store_n(&ring->head, static_cast<uint16_t>(ring->head + rng() % 8), __ATOMIC_RELEASE);
      break;
    case 6:
      if (rng() % 2048 == 0) __atomic_store_n(&ring->head, static_cast<uint16_t>(rng()), __ATOMIC_RELEASE);
      ring->flags = rng() & 1;
      break;
    default:
      if (rng() % 4096 == 0 && ftruncate(client.fd, rng() % REGION) != 0) std::abort();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 1;
  std::mt19937 rng(static_cast<uint32_t>(std::atol(argv[1])));
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(std::atol(argv[2]));
  auto hub = std::make_shared<Hub>();
  Poller poller(hub);
  auto batch = std::make_unique<BatchColumns>();
  std::memset(static_cast<void*>(batch.get()), 0, sizeof(BatchColumns));
  const auto table = std::make_unique<uint8_t[]>(REWRITE_TABLE_SIZE);
  std::memset(table.get(), 0, REWRITE_TABLE_SIZE);
  uint64_t frames = 0, sent = 0, closed = 0, clients = 0, bad = 0;
  while (std::chrono::steady_clock::now() < until) {
    Client client(poller, 3);
    clients++;
    for (const Event& event : poller.take_events())
      if (event.closed) return 3;
    std::atomic<bool> stop{false};
    const uint32_t seed = static_cast<uint32_t>(rng());
    // The client's own touch of pages that it took away is its own loss: the guard replaces the server's mapping only, so
    // truncation stops it.
    std::thread writer([&] {
      std::mt19937 own(seed);
      struct stat file;
      while (!stop.load(std::memory_order_relaxed)) {
        if (fstat(client.fd, &file) == 0 && file.st_size < REGION) return;
        scribble(client, own);
      }
    });
    // A client that has scribbled its rings to a standstill makes room for the next.
    const auto end = std::min(until, std::chrono::steady_clock::now() + std::chrono::milliseconds(200));
    for (bool open = true; open && std::chrono::steady_clock::now() < end;) {
      const size_t size = FRAME_MAX_SIZE + rng() % 4096;
      const auto data = std::make_unique<uint8_t[]>(size);
      const auto received = poller.receive(batch.get(), data.get(), size, 1 + rng() % BATCH_ROWS);
      bad += received.bad_size;
      frames += received.rows;
      if (received.octets > size) return 4;
      for (uint32_t row = 0; row < received.rows; row++) {
        if (batch->in_port[row] != 3 || batch->offset[row] + batch->length[row] > received.octets) return 4;
        for (uint32_t i = 0; i < batch->length[row]; i++)
          // Octets of the buffers, or zeros of pages that were taken away from the file just then; never anything else.
          if (data[batch->offset[row] + i] != PATTERN && data[batch->offset[row] + i] != 0x5A &&
              data[batch->offset[row] + i] != 0)
            return 2;
        batch->verdict[row] = FORWARD;
        batch->out_port[row] = 3;
      }
      // Back out of the same client's rings, with other octets.
      for (size_t i = 0; i < received.octets; i++) data[i] = 0x5A;
      Sent total;
      send_rows(*hub, batch.get(), data.get(), table.get(), received.rows, total);
      sent += total.sent;
      if (total.sent + total.no_interface + total.ring_full + total.too_long != received.rows) return 5;
      poller.ask_for_interrupts(rng() & 1);
      poller.service();
      for (const Event& event : poller.take_events()) {
        if (!event.closed) continue;
        closed++;
        open = false;
      }
    }
    stop = true;
    writer.join();
    poller.close_all("over");
    poller.take_events();
  }
  std::printf("%llu clients, %llu closed, %llu frames, %llu of bad size, %llu sent back\n", static_cast<unsigned long long>(clients),
              static_cast<unsigned long long>(closed), static_cast<unsigned long long>(frames), static_cast<unsigned long long>(bad),
              static_cast<unsigned long long>(sent));
  return 0;
}
