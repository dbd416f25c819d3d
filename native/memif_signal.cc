// An eventfd that a client gave us is a descriptor whose blocking mode is the client's to change, and a write to a full one
// that blocks would hold a worker up for ever. The kernel's own signalling (eventfd_signal, which saturates) never blocks: an
// asynchronous read of one octet that is always there, with the client's eventfd as the one to be told (io_submit(2),
// IOCB_FLAG_RESFD). Where the kernel has no such calls, a write to a non-blocking descriptor does.
#include "memif_signal.h"
#include <cstdint>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace seine::memif {
namespace {

constexpr unsigned EVENTS = 64;

class Signaller {
 public:
  Signaller() {
    file_ = memfd_create("seine-memif-signal", MFD_CLOEXEC);
    if (file_ < 0 || write(file_, "", 1) != 1 || syscall(__NR_io_setup, EVENTS, &context_) != 0) context_ = 0;
  }
  ~Signaller() {
    if (context_ != 0) syscall(__NR_io_destroy, context_);
    if (file_ >= 0) close(file_);
  }
  void signal(int eventfd) {
    if (context_ != 0) {
      if (waiting_ == EVENTS / 2) reap();
      char octet;
      iocb request = {};
      request.aio_lio_opcode = IOCB_CMD_PREAD;
      request.aio_fildes = static_cast<uint32_t>(file_);
      request.aio_buf = reinterpret_cast<uintptr_t>(&octet);
      request.aio_nbytes = 1;
      request.aio_flags = IOCB_FLAG_RESFD;
      request.aio_resfd = static_cast<uint32_t>(eventfd);
      iocb* requests[] = {&request};
      // The octet is in memory: the read is done when this returns.
      if (syscall(__NR_io_submit, context_, 1, requests) == 1) {
        waiting_++;
        return;
      }
    }
    const int flags = fcntl(eventfd, F_GETFL);
    const uint64_t one = 1;
    if (flags < 0 || ((flags & O_NONBLOCK) == 0 && fcntl(eventfd, F_SETFL, flags | O_NONBLOCK) != 0)) return;
    [[maybe_unused]] const ssize_t written = write(eventfd, &one, sizeof one);
  }

 private:
  void reap() {
    io_event events[EVENTS];
    timespec now = {};
    syscall(__NR_io_getevents, context_, 0, EVENTS, events, &now);
    waiting_ = 0;
  }
  int file_ = -1;
  aio_context_t context_ = 0;
  unsigned waiting_ = 0;
};

}  // namespace

void signal_client(int eventfd) {
  thread_local Signaller signaller;
  signaller.signal(eventfd);
}

}  // namespace seine::memif
