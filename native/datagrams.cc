#include "datagrams.h"
#include <sys/socket.h>
#include <sys/uio.h>
#include <cerrno>
#include <cstring>

namespace seine {

size_t send_datagrams(int fd, const Datagram* datagrams, size_t count, int* error) {
  *error = 0;
  size_t sent = 0;
#if defined(__linux__)
  mmsghdr messages[DATAGRAMS_MAX];
  iovec pieces[DATAGRAMS_MAX];
  std::memset(messages, 0, sizeof(mmsghdr) * count);
  for (size_t i = 0; i < count; i++) {
    pieces[i] = {const_cast<uint8_t*>(datagrams[i].octets), datagrams[i].size};
    messages[i].msg_hdr.msg_iov = &pieces[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  // A call that took some does not tell of the error that stopped it: the next one does.
  while (sent < count) {
    const int taken = sendmmsg(fd, messages + sent, static_cast<unsigned>(count - sent), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (taken > 0) {
      sent += static_cast<size_t>(taken);
    } else if (errno != EINTR) {
      *error = errno;
      break;
    }
  }
#else
  while (sent < count) {
    if (send(fd, datagrams[sent].octets, datagrams[sent].size, MSG_DONTWAIT) >= 0) {
      sent++;
    } else if (errno != EINTR) {
      *error = errno;
      break;
    }
  }
#endif
  return sent;
}

}  // namespace seine
