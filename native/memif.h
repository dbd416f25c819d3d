// memif interfaces as the server serves them: what a client's control messages build (memif_control.cc), frames in and out of
// its rings (memif_rings.cc), and the hub where the threads of an engine find each other's interfaces. Knows no N-API.
//
// Trust: the client shares the memory, so nothing in it is believed. Every value is read once into a local, checked against
// what the control messages announced and fstat confirmed, and only then used; frames are copied out before they are judged.
// A client that breaks the protocol has its connection closed.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <string>
#include <vector>
#include "batch.h"
#include "memif_memory.h"
#include "memif_protocol.h"

namespace seine::memif {

constexpr uint32_t REGIONS_MAX = 256;
constexpr uint32_t RINGS_MAX = 16;  // in each direction
constexpr uint8_t LOG2_RING_SIZE_MAX = 14;
/** Interface ids are OpenFlow port numbers: 0 and the reserved ones from 65533 up have no interface. */
constexpr uint32_t PORT_MAX = 65532;
/** Connections of one hub, connected or not. */
constexpr uint32_t CONNECTIONS_MAX = 1024;
/** A frame's bounds and a batch's octets, as src/batch/packet-batch.ts has them. */
constexpr uint32_t FRAME_MIN_SIZE = 14, FRAME_MAX_SIZE = 65557, BATCH_OCTETS_MAX = 3 << 20;

/** One direction of a queue. `at` is ours alone: the next descriptor to read (C2S) or to fill (S2C). */
struct Ring {
  RingHeader* header = nullptr;
  int interrupt = -1;
  uint16_t size = 0;
  uint16_t at = 0;
  // S2C: the tail that the client was shown; buffers that it is known to have given, from `at` on. Its head is asked for only
  // when those are used up: it lies in a cache line that a polling client keeps writing to.
  uint16_t shown = 0;
  uint16_t given = 0;
  Descriptor* descriptors() const { return reinterpret_cast<Descriptor*>(header + 1); }
};

class Connection;

/** Held shared by who sends, alone by who adds or removes an interface; who waits to be alone goes first. */
class HubLock {
 public:
  HubLock() {
    pthread_rwlockattr_t kind;
    pthread_rwlockattr_init(&kind);
    pthread_rwlockattr_setkind_np(&kind, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&lock_, &kind);
    pthread_rwlockattr_destroy(&kind);
  }
  ~HubLock() { pthread_rwlock_destroy(&lock_); }
  void lock() { pthread_rwlock_wrlock(&lock_); }
  void unlock() { pthread_rwlock_unlock(&lock_); }
  void lock_shared() { pthread_rwlock_rdlock(&lock_); }
  void unlock_shared() { pthread_rwlock_unlock(&lock_); }

 private:
  pthread_rwlock_t lock_;
};

/** The interfaces of one engine, found by port from any of its threads. */
class Hub {
 public:
  Hub();
  ~Hub();
  Hub(const Hub&) = delete;
  bool claim(uint32_t port, Connection* connection);
  void publish(uint32_t port, Connection* connection);
  /** When this returns no thread sends to the connection any more. */
  void remove(uint32_t port, Connection* connection);
  /** Only under `mutex`, shared; null where no client is connected. */
  Connection* find(uint32_t port) const { return by_port_[port & 0xffff]; }
  HubLock mutex;
  std::atomic<uint32_t> connections{0};

 private:
  Connection** claimed_;
  Connection** by_port_;
};

/** Out-port of rows that leave as copies only (Port.Flood). */
constexpr uint32_t FLOOD_PORT = 65535;

/** epoll data of what is no socket: interrupts and pokes only wake. */
constexpr uint64_t NO_HANDLE = 0;

/** Counts of one burst; `bad_size`: frames below 14 or above 65,557 octets, which no batch takes. */
struct Received {
  uint32_t rows = 0, bad_size = 0;
  size_t octets = 0;
};
struct Sent {
  uint32_t sent = 0, no_interface = 0, ring_full = 0, too_long = 0;
};

class Connection {
 public:
  /**
   * Takes the descriptor of an accepted socket over. `epoll`: the owner's, where interrupts are watched; `poke`: an eventfd
   * of the owner's, written when another thread finds fault.
   */
  Connection(int socket, std::shared_ptr<Hub> hub, int epoll, int poke);
  ~Connection();
  Connection(const Connection&) = delete;

  enum class State { Handshake, Connected, Closed };
  /** Handles control messages until none waits. */
  State receive_messages();
  /** Moves frames from the client's rings to rows of a batch, from `into.rows` on. Closed when the client breaks the protocol. */
  State receive_frames(BatchColumns* batch, uint8_t* data, size_t data_size, uint32_t rows_max, Received& into);
  /** Asks for interrupts (or, polling, for none); false when frames wait already. */
  bool ask_for_interrupts(bool wanted);
  /** Tells the client why, and closes. */
  State close(const char* reason, bool violation);

  State state() const { return state_; }
  uint32_t port() const { return port_; }
  const std::string& client() const { return client_; }
  const std::string& reason() const { return reason_; }
  bool violation() const { return violation_; }

  /** Notes what another thread found; the owner closes. */
  void accuse(const char* reason);
  const char* accused() const { return accused_.load(std::memory_order_acquire); }
  /** Null, or why the client's memory is no longer to be read. */
  const char* memory_fault() const;

  // Sending, by one thread at a time under send_mutex and the hub's shared lock.
  std::mutex send_mutex;
  enum class Put { Sent, Full, TooLong, Broken };
  bool receives() const { return !s2c_.empty(); }
  /** `compose(out)` writes `size` octets; `scratch` holds them when a frame takes several buffers. */
  template <typename Compose>
  Put put(Ring& ring, size_t size, uint8_t* scratch, const Compose& compose);
  /** Fetches the buffers that frames `from` … of those to come will be written to; the client's processor had them last. */
  void prefetch(const Ring& ring, uint32_t from, uint32_t count) const;
  Ring& s2c(uint32_t hash) { return s2c_[s2c_.size() == 1 ? 0 : hash % s2c_.size()]; }
  /** Shows the client what was put, and wakes it where it asked for that. */
  void flush();

 private:
  State handle(Message& message, std::vector<int>& descriptors);
  State init(const Init& init);
  State add_region(const AddRegion& region, std::vector<int>& descriptors);
  State add_ring(const AddRing& ring, std::vector<int>& descriptors);
  State connect();
  bool send(Message& message);
  bool acknowledge();
  bool ask_for_buffers(Ring& ring, uint32_t count);
  Put put_chain(Ring& ring, size_t size, const uint8_t* frame);
  static void publish(Ring& ring, uint32_t index, uint32_t length, uint16_t flags);
  bool read_descriptor(const Ring& ring, uint16_t at, Descriptor& into) const;
  State receive_ring(Ring& ring, BatchColumns* batch, uint8_t* data, size_t data_size, uint32_t rows_max, Received& into);
  uint32_t receive_chain(Ring& ring, uint16_t at, uint16_t waiting, BatchColumns* batch, uint8_t* data, size_t limit, Received& into);
  void row(BatchColumns* batch, Received& into, uint32_t length) const;

  int socket_;
  std::shared_ptr<Hub> hub_;
  int epoll_;
  int poke_;
  State state_ = State::Handshake;
  uint32_t port_ = 0;
  bool claimed_ = false;
  bool violation_ = false;
  std::string client_, reason_;
  std::vector<Region> regions_;
  std::vector<Ring> c2s_, s2c_;
  std::atomic<const char*> accused_{nullptr};
};

/** Forwarded rows out of the interfaces of their out-ports, as compose.h writes them; flooded rows are left out. */
void send_rows(Hub& hub, const BatchColumns* batch, const uint8_t* data, const uint8_t* table, uint32_t count, Sent& total);
/** Frames that lie back to back in `frames`, each out of its port. */
void send_frames(Hub& hub, const uint8_t* frames, const uint32_t* lengths, const uint32_t* ports, uint32_t count, Sent& total);

}  // namespace seine::memif
