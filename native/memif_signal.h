// Wakes a memif client by its eventfd, without ever blocking on it.
#pragma once
namespace seine::memif {
void signal_client(int eventfd);
}
