/**
 * SCTP association tracking (RFC 9260; states as Linux's nf_conntrack_proto_sctp names them), by the first chunk of a
 * packet. It chooses the timeout; verification tags are not checked (OVS's userspace tracker doesn't either).
 */
import { Timeout } from './timeouts.js';

export const Sctp = {
  Closed: 0,
  CookieWait: 1,
  CookieEchoed: 2,
  Established: 3,
  ShutdownSent: 4,
  ShutdownReceived: 5,
  ShutdownAckSent: 6,
} as const;
export const SCTP_STATE_NAMES = [
  'CLOSED',
  'COOKIE_WAIT',
  'COOKIE_ECHOED',
  'ESTABLISHED',
  'SHUTDOWN_SENT',
  'SHUTDOWN_RECEIVED',
  'SHUTDOWN_ACK_SENT',
] as const;

const INIT = 1,
  INIT_ACK = 2,
  ABORT = 6,
  SHUTDOWN = 7,
  SHUTDOWN_ACK = 8,
  COOKIE_ECHO = 10,
  COOKIE_ACK = 11,
  SHUTDOWN_COMPLETE = 14;

/** The state after a packet whose first chunk is `chunk` (−1: none), sent by the original (0) or reply (1) side. */
export function sctpNext(state: number, chunk: number, side: number): number {
  switch (chunk) {
    case INIT:
      return state === Sctp.Closed || state === Sctp.CookieWait ? Sctp.CookieWait : state;
    case INIT_ACK:
      return state;
    case COOKIE_ECHO:
      return state <= Sctp.CookieEchoed ? Sctp.CookieEchoed : state;
    case COOKIE_ACK:
      return state <= Sctp.Established ? Sctp.Established : state;
    case ABORT:
    case SHUTDOWN_COMPLETE:
      return Sctp.Closed;
    case SHUTDOWN:
      return side === 0 ? Sctp.ShutdownSent : Sctp.ShutdownReceived;
    case SHUTDOWN_ACK:
      return Sctp.ShutdownAckSent;
    default: // DATA, SACK, HEARTBEAT …: traffic of an association, picked up where its beginning was not seen
      return state === Sctp.Closed || state === Sctp.CookieEchoed ? Sctp.Established : state;
  }
}

const TIMEOUTS = [
  Timeout.sctpClosed,
  Timeout.sctpCookieWait,
  Timeout.sctpCookieEchoed,
  Timeout.sctpEstablished,
  Timeout.sctpShutdownSent,
  Timeout.sctpShutdownRecd,
  Timeout.sctpShutdownAckSent,
];
export const sctpTimeout = (state: number): number => TIMEOUTS[state] ?? Timeout.sctpClosed;
