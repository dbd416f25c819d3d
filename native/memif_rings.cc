// Frames in and out of a memif client's rings. See memif.h for what is trusted: nothing.
#include "memif.h"
#include "compose.h"
#include "memif_signal.h"
#include <algorithm>
#include <cstring>
#include <shared_mutex>

namespace seine::memif {
namespace {

/** Descriptors read and checked, and their frames prefetched, before the first is copied. */
constexpr uint32_t GROUP = 32;
/** Buffers that one frame may be spread over on its way out. */
constexpr uint32_t BUFFERS_MAX = 256;

/** One read of each half: the client may write at any time, what was checked must be what is used. */
inline Descriptor read_once(const Descriptor* shared) {
  const auto* words = reinterpret_cast<const volatile uint64_t*>(shared);
  const uint64_t halves[2] = {words[0], words[1]};
  Descriptor descriptor;
  std::memcpy(&descriptor, halves, sizeof descriptor);
  return descriptor;
}

/** Fetches a line to be written: alone, which the compiler's own prefetch does not ask for on x86-64's baseline. */
inline void prefetch_to_write(const void* at) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(at)));
#else
  __builtin_prefetch(at, 1);
#endif
}

/** Frames are mostly short: fixed sizes need no call. Reads up to 64 octets whatever `length` is, where `room` says so. */
inline void copy_in(uint8_t* into, const uint8_t* from, uint32_t length, bool room) {
  if (length <= 64 && room) std::memcpy(into, from, 64);
  else std::memcpy(into, from, length);
}

}  // namespace

bool Connection::read_descriptor(const Ring& ring, uint16_t at, Descriptor& into) const {
  into = read_once(ring.descriptors() + (at & (ring.size - 1)));
  return into.region < regions_.size() && regions_[into.region].holds(into.offset, into.length);
}

void Connection::row(BatchColumns* batch, Received& into, uint32_t length) const {
  const uint32_t row = into.rows++;
  batch->offset[row] = static_cast<uint32_t>(into.octets);
  batch->length[row] = length;
  batch->wire_length[row] = length;
  batch->frame_octets[row] = length;
  batch->in_port[row] = port_;
  into.octets += length;
}

Connection::State Connection::receive_frames(BatchColumns* batch, uint8_t* data, size_t data_size, uint32_t rows_max, Received& into) {
  const Received before = into;
  for (Ring& ring : c2s_) {
    if (receive_ring(ring, batch, data, data_size, rows_max, into) != State::Closed) continue;
    into = before;
    return state_;
  }
  // What was read behind a page fault is zeros: none of this burst is judged.
  if (const char* fault = memory_fault()) {
    into = before;
    return close(fault, true);
  }
  return state_;
}

Connection::State Connection::receive_ring(Ring& ring, BatchColumns* batch, uint8_t* data, size_t data_size, uint32_t rows_max,
                                           Received& into) {
  const uint16_t head = __atomic_load_n(&ring.header->head, __ATOMIC_ACQUIRE);
  uint16_t waiting = static_cast<uint16_t>(head - ring.at);
  if (waiting == 0) return state_;
  if (waiting > ring.size) return close("a ring's head is ahead of its tail by more than its size", true);
  const size_t limit = std::min<size_t>(data_size, BATCH_OCTETS_MAX);
  uint16_t at = ring.at;
  bool full = false;
  while (waiting > 0 && !full) {
    Descriptor group[GROUP];
    const uint32_t count = std::min<uint32_t>({GROUP, waiting, rows_max - into.rows});
    if (count == 0) break;
    for (uint32_t i = 0; i < count; i++) {
      if (!read_descriptor(ring, static_cast<uint16_t>(at + i), group[i])) return close("a frame lies outside its region", true);
      __builtin_prefetch(regions_[group[i].region].at(group[i].offset));
    }
    uint32_t used = 0;
    for (; used < count; used++) {
      const Descriptor& d = group[used];
      if ((d.flags & DESCRIPTOR_NEXT) != 0) break;
      if (d.length < FRAME_MIN_SIZE || d.length > FRAME_MAX_SIZE) {
        into.bad_size++;
        continue;
      }
      if (into.octets + d.length > limit) {
        full = true;
        break;
      }
      const Region& region = regions_[d.region];
      copy_in(data + into.octets, region.at(d.offset), d.length, region.holds(d.offset, 64) && into.octets + 64 <= data_size);
      row(batch, into, d.length);
    }
    at = static_cast<uint16_t>(at + used);
    waiting = static_cast<uint16_t>(waiting - used);
    if (full || used == count) continue;
    const uint32_t taken = receive_chain(ring, at, waiting, batch, data, limit, into);
    if (state_ == State::Closed) return state_;
    if (taken == 0) break;
    at = static_cast<uint16_t>(at + taken);
    waiting = static_cast<uint16_t>(waiting - taken);
  }
  ring.at = at;
  __atomic_store_n(&ring.header->tail, at, __ATOMIC_RELEASE);
  return state_;
}

/** A frame in several buffers; returns how many, 0 where its end has not come yet or the batch has no room. */
uint32_t Connection::receive_chain(Ring& ring, uint16_t at, uint16_t waiting, BatchColumns* batch, uint8_t* data, size_t limit,
                                   Received& into) {
  size_t length = 0;
  for (uint32_t i = 0; i < waiting; i++) {
    Descriptor d;
    if (!read_descriptor(ring, static_cast<uint16_t>(at + i), d)) {
      close("a frame lies outside its region", true);
      return 0;
    }
    // An oversized frame is not kept, but its descriptors are walked to its end.
    if (length + d.length <= FRAME_MAX_SIZE) {
      if (into.octets + length + d.length > limit) return 0;
      std::memcpy(data + into.octets + length, regions_[d.region].at(d.offset), d.length);
    }
    length += d.length;
    if ((d.flags & DESCRIPTOR_NEXT) != 0) continue;
    if (length < FRAME_MIN_SIZE || length > FRAME_MAX_SIZE) into.bad_size++;
    else row(batch, into, static_cast<uint32_t>(length));
    return i + 1;
  }
  if (waiting == ring.size) close("a frame is longer than its ring", true);
  return 0;
}

bool Connection::ask_for_interrupts(bool wanted) {
  for (Ring& ring : c2s_) __atomic_store_n(&ring.header->flags, wanted ? 0 : RING_MASK_INTERRUPT, __ATOMIC_RELAXED);
  if (!wanted) return true;
  // The client writes head, then reads flags; we write flags, then read head.
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
  for (Ring& ring : c2s_)
    if (__atomic_load_n(&ring.header->head, __ATOMIC_ACQUIRE) != ring.at) return false;
  return true;
}

void Connection::prefetch(const Ring& ring, uint32_t from, uint32_t count) const {
  const uint16_t mask = static_cast<uint16_t>(ring.size - 1);
  // Only hints: put() reads the descriptor again, and that is what it goes by.
  for (uint32_t i = 0; i < count; i++) {
    const uint16_t at = static_cast<uint16_t>(ring.at + from + i);
    prefetch_to_write(ring.descriptors() + ((at + count) & mask));
    Descriptor buffer;
    if (read_descriptor(ring, at, buffer)) prefetch_to_write(regions_[buffer.region].at(buffer.offset));
  }
}

/** Looks how many buffers the client has given; false when there are no more than `count`, or it gives more than the ring holds. */
bool Connection::ask_for_buffers(Ring& ring, uint32_t count) {
  const uint16_t given = static_cast<uint16_t>(__atomic_load_n(&ring.header->head, __ATOMIC_ACQUIRE) - ring.at);
  if (given > ring.size) {
    accuse("a ring's head is ahead of its tail by more than its size");
    return false;
  }
  ring.given = given;
  return given > count;
}

template <typename Compose>
Connection::Put Connection::put(Ring& ring, size_t size, uint8_t* scratch, const Compose& compose) {
  if (ring.given == 0 && !ask_for_buffers(ring, 0)) return accused() != nullptr ? Put::Broken : Put::Full;
  Descriptor buffer;
  if (!read_descriptor(ring, ring.at, buffer)) {
    accuse("a buffer lies outside its region");
    return Put::Broken;
  }
  if (buffer.length < size) {
    compose(scratch);
    return put_chain(ring, size, scratch);
  }
  compose(regions_[buffer.region].at(buffer.offset));
  publish(ring, 0, static_cast<uint32_t>(size), 0);
  ring.at++;
  ring.given--;
  return Put::Sent;
}

void Connection::publish(Ring& ring, uint32_t index, uint32_t length, uint16_t flags) {
  volatile Descriptor* d = ring.descriptors() + (static_cast<uint16_t>(ring.at + index) & (ring.size - 1));
  d->length = length;
  d->flags = flags;
}

/** A frame over several buffers: all or nothing. */
Connection::Put Connection::put_chain(Ring& ring, size_t size, const uint8_t* frame) {
  Descriptor buffers[BUFFERS_MAX];
  uint32_t count = 0;
  for (size_t room = 0; room < size; count++) {
    if (count == BUFFERS_MAX || count == ring.size) return Put::TooLong;
    if (count == ring.given && !ask_for_buffers(ring, count)) return accused() != nullptr ? Put::Broken : Put::Full;
    if (!read_descriptor(ring, static_cast<uint16_t>(ring.at + count), buffers[count])) {
      accuse("a buffer lies outside its region");
      return Put::Broken;
    }
    room += buffers[count].length;
  }
  size_t done = 0;
  for (uint32_t i = 0; i < count; i++) {
    const size_t part = std::min<size_t>(buffers[i].length, size - done);
    std::memcpy(regions_[buffers[i].region].at(buffers[i].offset), frame + done, part);
    done += part;
    publish(ring, i, static_cast<uint32_t>(part), i + 1 < count ? DESCRIPTOR_NEXT : 0);
  }
  ring.at = static_cast<uint16_t>(ring.at + count);
  ring.given = static_cast<uint16_t>(ring.given - count);
  return Put::Sent;
}

void Connection::flush() {
  for (Ring& ring : s2c_) {
    if (ring.shown == ring.at) continue;
    ring.shown = ring.at;
    __atomic_store_n(&ring.header->tail, ring.at, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if ((__atomic_load_n(&ring.header->flags, __ATOMIC_RELAXED) & RING_MASK_INTERRUPT) == 0) signal_client(ring.interrupt);
  }
  if (const char* fault = memory_fault()) accuse(fault);
}

namespace {

void count_put(Connection::Put put, Sent& total) {
  if (put == Connection::Put::Sent) total.sent++;
  else if (put == Connection::Put::Full) total.ring_full++;
  else if (put == Connection::Put::TooLong) total.too_long++;
  else total.no_interface++;  // its client broke the protocol: it is about to be closed
}

constexpr uint32_t NO_ROW = UINT32_MAX;
/** Interfaces that one pass gathers frames for. */
constexpr uint32_t INTERFACES = 64;

/** Frames of one batch by the interface that they leave by, in order; then each interface's burst under its lock, once. */
class Bursts {
 public:
  Bursts(Hub& hub, Sent& total) : hub_(hub), lock_(hub.mutex), total_(total) {}

  template <typename Write>
  void add(uint32_t port, uint32_t row, const Write& write) {
    if (last_ >= count_ || ports_[last_] != port) {
      for (last_ = 0; last_ < count_ && ports_[last_] != port; last_++) {
      }
      if (last_ == count_) {
        if (count_ == INTERFACES) {
          run(write);
          last_ = 0;
        }
        ports_[last_] = port;
        connections_[last_] = hub_.find(port);
        first_[last_] = NO_ROW;
        count_++;
      }
    }
    if (connections_[last_] == nullptr) {
      total_.no_interface++;
      return;
    }
    next_[row] = NO_ROW;
    if (first_[last_] == NO_ROW) first_[last_] = row;
    else next_[end_[last_]] = row;
    end_[last_] = row;
  }

  /** write(connection, row) puts one frame. */
  template <typename Write>
  void run(const Write& write) {
    for (uint32_t i = 0; i < count_; i++) {
      if (connections_[i] == nullptr || first_[i] == NO_ROW) continue;
      Connection& connection = *connections_[i];
      const std::lock_guard lock(connection.send_mutex);
      // Lines of the next group are on their way while this one is written.
      if (connection.receives()) connection.prefetch(connection.s2c(0), 0, GROUP);
      uint32_t written = 0;
      for (uint32_t row = first_[i]; row != NO_ROW; row = next_[row], written++) {
        if (written % GROUP == 0 && connection.receives()) connection.prefetch(connection.s2c(0), GROUP, GROUP);
        write(connection, row);
      }
      connection.flush();
    }
    count_ = last_ = 0;
  }

 private:
  Hub& hub_;
  std::shared_lock<HubLock> lock_;
  Sent& total_;
  uint32_t count_ = 0, last_ = 0;
  uint32_t ports_[INTERFACES], first_[INTERFACES], end_[INTERFACES];
  Connection* connections_[INTERFACES];
  uint32_t next_[BATCH_ROWS];
};

}  // namespace

void send_rows(Hub& hub, const BatchColumns* batch, const uint8_t* data, const uint8_t* table, uint32_t count, Sent& total) {
  thread_local uint8_t scratch[FRAME_MAX_SIZE + COMPOSE_OVERHEAD_MAX];
  const auto write = [&](Connection& connection, uint32_t row) {
    const size_t size = composed_size(batch, table, row);
    if (size == 0) {
      total.too_long++;
      return;
    }
    const auto compose = [&](uint8_t* out) { compose_row(batch, data, table, row, out); };
    if (!connection.receives()) total.no_interface++;
    else count_put(connection.put(connection.s2c(batch->hash[row]), size, scratch, compose), total);
  };
  Bursts bursts(hub, total);
  for (uint32_t row = 0; row < count; row++)
    if (batch->verdict[row] == FORWARD && batch->out_port[row] != FLOOD_PORT) bursts.add(batch->out_port[row], row, write);
  bursts.run(write);
}

void send_frames(Hub& hub, const uint8_t* frames, const uint32_t* lengths, const uint32_t* ports, uint32_t count, Sent& total) {
  thread_local uint8_t scratch[FRAME_MAX_SIZE + COMPOSE_OVERHEAD_MAX];
  thread_local size_t at[BATCH_ROWS];
  const auto write = [&](Connection& connection, uint32_t row) {
    const auto copy = [&](uint8_t* out) { std::memcpy(out, frames + at[row], lengths[row]); };
    if (!connection.receives()) total.no_interface++;
    else if (lengths[row] > sizeof scratch) total.too_long++;
    else count_put(connection.put(connection.s2c(0), lengths[row], scratch, copy), total);
  };
  Bursts bursts(hub, total);
  size_t next = 0;
  for (uint32_t i = 0; i < count; i++) {
    at[i] = next;
    next += lengths[i];
    bursts.add(ports[i], i, write);
  }
  bursts.run(write);
}

}  // namespace seine::memif
