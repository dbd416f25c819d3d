// Mapping a client's memory, and the guard against pages that it takes away.
#include "memif_memory.h"
#include <cerrno>
#include <csignal>
#include <atomic>
#include <mutex>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

namespace seine::memif {
namespace {

struct Guard {
  std::atomic<uintptr_t> base{0};
  std::atomic<size_t> size{0};
  std::atomic<bool> lost{false};
};
Guard guards[MAPPED_REGIONS_MAX];
std::mutex guards_mutex;
struct sigaction previous;

// Async-signal-safe: atomics and mmap(2), a plain system call.
void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Guard& guard : guards) {
    const uintptr_t base = guard.base.load(std::memory_order_acquire);
    const size_t size = guard.size.load(std::memory_order_relaxed);
    if (base == 0 || info->si_code <= 0 || address - base >= size) continue;
    if (mmap(reinterpret_cast<void*>(base), size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
             0) == MAP_FAILED)
      break;
    guard.lost.store(true, std::memory_order_release);
    errno = saved;
    return;
  }
  errno = saved;
  if ((previous.sa_flags & SA_SIGINFO) != 0) return previous.sa_sigaction(signal, info, context);
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(signal);
  ::signal(signal, SIG_DFL);
  raise(signal);
}

void install_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &previous);
  });
}

}  // namespace

const char* Region::map(int fd, uint64_t size) {
  struct stat file;
  struct statfs system;
  if (fstat(fd, &file) != 0 || fstatfs(fd, &system) != 0 || !S_ISREG(file.st_mode)) return "a region is not a memory file";
  // A page of any other file system may come late or never (FUSE, NFS), and hold the thread up.
  const bool huge = static_cast<uint64_t>(system.f_type) == HUGETLBFS_MAGIC;
  if (!huge && static_cast<uint64_t>(system.f_type) != TMPFS_MAGIC) return "a region is not a memory file";
  if (size == 0 || size > REGION_SIZE_MAX) return "a region's size is out of bounds";
  if (file.st_size < 0 || static_cast<uint64_t>(file.st_size) < size) return "a region is larger than its file";
  if (huge && size % static_cast<uint64_t>(system.f_bsize) != 0) return "a region is not made of whole huge pages";
  install_handler();
  const std::lock_guard lock(guards_mutex);
  uint32_t slot = 0;
  while (slot < MAPPED_REGIONS_MAX && guards[slot].base.load(std::memory_order_relaxed) != 0) slot++;
  if (slot == MAPPED_REGIONS_MAX) return "too many regions are mapped";
  void* base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (base == MAP_FAILED) return "a region can't be mapped";
  base_ = static_cast<uint8_t*>(base);
  size_ = size;
  guard_ = slot;
  guards[slot].lost.store(false, std::memory_order_relaxed);
  guards[slot].size.store(size, std::memory_order_relaxed);
  guards[slot].base.store(reinterpret_cast<uintptr_t>(base), std::memory_order_release);
  return nullptr;
}

bool Region::lost() const { return base_ != nullptr && guards[guard_].lost.load(std::memory_order_acquire); }

Region::~Region() {
  if (base_ == nullptr) return;
  const std::lock_guard lock(guards_mutex);
  guards[guard_].base.store(0, std::memory_order_release);
  munmap(base_, size_);
}

}  // namespace seine::memif
