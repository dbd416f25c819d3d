#include "datagrams.h"
#include <sys/socket.h>
#include <cerrno>

namespace seine {

size_t send_datagrams(int fd, const Datagram* datagrams, size_t count, int* error) {
  *error = 0;
  size_t sent = 0;
  while (sent < count) {
    if (send(fd, datagrams[sent].octets, datagrams[sent].size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
      sent++;
    } else if (errno != EINTR) {
      *error = errno;
      break;
    }
  }
  return sent;
}

}  // namespace seine
