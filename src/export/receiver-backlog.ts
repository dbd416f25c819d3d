/**
 * How much a collector on this machine has not read yet, from Linux's /proc/net/udp and udp6 (proc(5)): UDP has no
 * flow control, so that a burst larger than the receiver's buffer is lost without a word; what can be seen is waited for.
 */
import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';

/** True where `address` is one of this machine's, so that its receiver may be in these tables. */
export function isLocalAddress(address: string): boolean {
  if (address.startsWith('127.') || address === '::1') return true;
  return Object.values(networkInterfaces()).some((addresses) => addresses?.some((a) => a.address === address));
}

/** Octets (with the kernel's overhead) in the receive queues of the sockets bound to `port`; null = none to be seen. */
export function receiverBacklog(port: number): number | null {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  let backlog: number | null = null;
  for (const table of ['/proc/net/udp', '/proc/net/udp6']) {
    let text: string;
    try {
      text = readFileSync(table, 'latin1');
    } catch {
      continue; // not Linux, or IPv6 is off: the sender then keeps to its steady pace
    }
    for (let at = text.indexOf(suffix); at >= 0; at = text.indexOf(suffix, at + 1)) {
      // "sl: LOCAL:PORT REMOTE:PORT st tx_queue:rx_queue …"; a socket of which REMOTE has this port is not the receiver.
      const match = /^:[0-9A-F]{4} [0-9A-F]+:[0-9A-F]{4} [0-9A-F]{2} [0-9A-F]{8}:([0-9A-F]{8}) /.exec(
        text.slice(at, at + 80),
      );
      if (match !== null) backlog = Math.max(backlog ?? 0, Number.parseInt(match[1]!, 16));
    }
  }
  return backlog;
}
