/** The timeout that an entry is under after a packet, by protocol and state (conntrack/timeouts.ts). */
import { Status } from './entry.js';
import { sctpTimeout } from './sctp-state.js';
import { Side, sideState, tcpTimeout } from './tcp-state.js';
import { Timeout } from './timeouts.js';

export function timeoutOf(protocol: number, status: number): number {
  const replied = (status & Status.SeenReply) !== 0;
  if ((status & Status.Denied) !== 0) {
    return protocol === 6
      ? Timeout.tcpSynSent
      : protocol === 1 || protocol === 58
        ? Timeout.icmpFirst
        : Timeout.udpFirst;
  }
  if (protocol === 6 && sideState(status, 0) !== Side.None) return tcpTimeout(status);
  if (protocol === 1 || protocol === 58) return replied ? Timeout.icmpReply : Timeout.icmpFirst;
  if (protocol === 132 && (status & 0xff) !== 0) return sctpTimeout(status & 0xff);
  if (replied) return Timeout.udpMultiple;
  return (status & Status.Multiple) !== 0 ? Timeout.udpSingle : Timeout.udpFirst;
}
