// A memif client's memory, mapped here. The client can take pages away while we use them: a file that it may still shrink, or
// a file system that is full. The page fault (SIGBUS) is caught: the region is replaced by private memory and marked lost,
// so that the burst in hand ends on zeros and its connection is closed. Sealed files (F_SEAL_SHRINK) never get that far, but
// DPDK's zero-copy mode shares memory that it does not seal, so sealing can't be demanded.
#pragma once
#include <cstdint>

namespace seine::memif {

/** Regions mapped at once, over all connections of the process; octets that one region may have. */
constexpr uint32_t MAPPED_REGIONS_MAX = 4096;
constexpr uint64_t REGION_SIZE_MAX = 64ull << 30;

class Region {
 public:
  Region() = default;
  Region(Region&& other) noexcept : base_(other.base_), size_(other.size_), guard_(other.guard_) { other.base_ = nullptr; }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;
  ~Region();

  /** Maps `size` octets of `fd`, which stays the caller's. Returns null, or why it is refused. */
  const char* map(int fd, uint64_t size);
  bool holds(uint64_t offset, uint64_t length) const { return offset <= size_ && length <= size_ - offset; }
  uint8_t* at(uint64_t offset) const { return base_ + offset; }
  uint64_t size() const { return size_; }
  /** The client took pages away: what was read since is not its data. */
  bool lost() const;

 private:
  uint8_t* base_ = nullptr;
  uint64_t size_ = 0;
  uint32_t guard_ = 0;
};

}  // namespace seine::memif
