/**
 * TCP connection tracking: each side's state by RFC 9293, and window tracking after G. van Rooij, "Real Stateful TCP
 * Packet Filtering in IP Filter" (2001), the scheme of Linux's and Open vSwitch's trackers. Works on the words of a
 * table entry (conntrack/entry.ts); native/replay.cc says the same for the established case.
 * Per side: `end` the highest sequence number seen + 1, `maxEnd` the highest the peer allows, `maxWindow` its largest window.
 */
import { E, SCALE_OFFERED, SCALE_SEEN_SYN, scaleOf, setScale, Status, T, TCP_WORDS } from './entry.js';
import { Timeout } from './timeouts.js';

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const ACK = 16;

/** States of one side; they only grow. */
export const Side = { None: 0, SynSent: 1, Established: 2, FinSent: 3, FinAcked: 4 } as const;

/** What tracking says of a packet. Reopen: a SYN on a closed connection, which begins another one. */
export const Track = { Invalid: 0, Valid: 1, Reopen: 2, Closes: 3 } as const;

/** How far behind an acknowledgement may be (van Rooij: 66,000 or the window, whichever is more). */
export const MAX_ACK_WINDOW = 66_000;
/** RFC 7323 section 2.3: the largest shift; assumed where the SYNs were not seen. */
export const MAX_SCALE = 14;

/** a − b as a signed 32-bit difference: sequence numbers compare modulo 2^32 (RFC 9293 section 3.4). */
const diff = (a: number, b: number): number => (a - b) | 0;

export const sideState = (status: number, side: number): number => (status >>> (side * 4)) & 0xf;
const withSide = (status: number, side: number, state: number): number =>
  (status & ~(0xf << (side * 4))) | (state << (side * 4));

/** May this packet begin a connection? SYN alone always; with `loose`, anything of a running one; never SYN+ACK or RST. */
export function mayBegin(flags: number, loose: boolean): boolean {
  if ((flags & SYN) !== 0) return (flags & ACK) === 0;
  return loose && (flags & RST) === 0;
}

/**
 * Advances the connection at word `at` by a packet of `side` (0 original, 1 reply). Changes nothing when Invalid or
 * Reopen. `wscale`: the SYN's window scale option or 0xff. `liberal`: out-of-window packets are valid unless RST.
 */
export function trackTcp(
  words: Uint32Array,
  at: number,
  side: number,
  flags: number,
  seq: number,
  ackNumber: number,
  window: number,
  payloadLength: number,
  wscale: number,
  liberal: boolean,
): number {
  const s = at + E.tcp + side * TCP_WORDS;
  const r = at + E.tcp + (1 - side) * TCP_WORDS;
  let status = words[at + E.status]!;
  let mine = sideState(status, side);
  let peer = sideState(status, 1 - side);
  const syn = (flags & SYN) !== 0;
  const rst = (flags & RST) !== 0;
  const hasAck = (flags & ACK) !== 0;
  const end = (seq + payloadLength + (syn ? 1 : 0) + ((flags & FIN) !== 0 ? 1 : 0)) >>> 0;

  if (syn && !hasAck && (status & Status.Closed) !== 0) return Track.Reopen;

  // A RST that answers a SYN has sequence number 0 and is valid if it acknowledges the SYN (RFC 9293 3.10.7.3).
  if (rst && mine === Side.None) {
    if (!hasAck || ackNumber !== words[r + T.end]!) return Track.Invalid;
    words[at + E.status] = withSide(withSide(status, side, Side.FinAcked), 1 - side, Side.FinAcked) | Status.Closed;
    return Track.Closes;
  }

  const begins = mine === Side.None || (syn && !hasAck && mine === Side.SynSent && peer <= Side.SynSent);
  const peerWindow = words[r + T.maxWindow]!;
  if (begins) {
    if (hasAck && peer !== Side.None && peerWindow !== 0) {
      // The first packet of this side must acknowledge within what the peer has sent, if that is known from a SYN.
      const skew = diff(words[r + T.end]!, ackNumber);
      if (!liberal && (skew < 0 || skew > MAX_ACK_WINDOW) && (scaleOf(words, at, 1 - side) & SCALE_SEEN_SYN) !== 0) {
        return Track.Invalid;
      }
    }
    if (syn) {
      const offered = wscale !== 0xff;
      setScale(words, at, side, SCALE_SEEN_SYN | (offered ? SCALE_OFFERED | Math.min(wscale, MAX_SCALE) : 0));
      // Scaling holds only when both SYNs offer it (RFC 7323 section 2.2).
      if (
        (scaleOf(words, at, 1 - side) & SCALE_SEEN_SYN) !== 0 &&
        (!offered || (scaleOf(words, at, 1 - side) & SCALE_OFFERED) === 0)
      ) {
        setScale(words, at, side, SCALE_SEEN_SYN);
        setScale(words, at, 1 - side, SCALE_SEEN_SYN);
      }
      mine = Math.max(mine, Side.SynSent);
    } else {
      if ((scaleOf(words, at, 1 - side) & SCALE_SEEN_SYN) === 0) setScale(words, at, side, MAX_SCALE);
      else setScale(words, at, side, 0);
      mine = Side.Established;
    }
    words[s + T.end] = end;
    const shift = syn ? 0 : scaleOf(words, at, side) & 0xff;
    words[s + T.maxWindow] = Math.max(window * 2 ** shift, 1);
    if (peerWindow === 0) {
      // The peer has sent nothing yet: what it will is told by this side's acknowledgement and window.
      words[s + T.maxEnd] = (end + (syn ? 0 : words[s + T.maxWindow]!)) >>> 0;
      if (hasAck) words[r + T.end] = ackNumber;
      words[r + T.maxEnd] = ((hasAck ? ackNumber : 0) + words[s + T.maxWindow]!) >>> 0;
    } else {
      words[s + T.maxEnd] = (end + peerWindow) >>> 0;
      if (hasAck) words[r + T.maxEnd] = (ackNumber + words[s + T.maxWindow]!) >>> 0;
    }
  } else {
    const bothScaled = !syn;
    const shift = bothScaled ? scaleOf(words, at, side) & 0xff : 0;
    const scaled = window * 2 ** shift;
    let ack = ackNumber;
    if (!hasAck || (rst && ack === 0)) ack = words[r + T.end]!;
    const inWindow =
      diff(end, words[s + T.maxEnd]!) <= 0 &&
      (peerWindow === 0 || diff(seq + payloadLength, words[s + T.end]! - peerWindow - 1) > 0) &&
      (peerWindow === 0 ||
        (diff(ack, words[r + T.end]!) <= 0 &&
          diff(ack, words[r + T.end]! - Math.max(words[s + T.maxWindow]!, MAX_ACK_WINDOW)) >= 0));
    const oneSided = peerWindow === 0 && diff(end, words[s + T.end]!) <= MAX_ACK_WINDOW * 16;
    if (!inWindow && !oneSided && !(liberal && !rst)) return Track.Invalid;
    // A SYN inside an open connection is answered by the peer with a challenge (RFC 9293 3.10.7.4): it changes nothing.
    if (syn && !hasAck && mine >= Side.Established) return Track.Valid;
    if (inWindow || oneSided) {
      if (scaled > words[s + T.maxWindow]!) words[s + T.maxWindow] = scaled;
      if (diff(end, words[s + T.end]!) > 0) words[s + T.end] = end;
      if (diff(words[s + T.end]!, words[s + T.maxEnd]!) > 0) words[s + T.maxEnd] = words[s + T.end]!;
      if (hasAck) {
        const allowed = (ack + Math.max(scaled, 1)) >>> 0;
        if (diff(allowed, words[r + T.maxEnd]!) > 0) words[r + T.maxEnd] = allowed;
        if (peerWindow === 0) words[r + T.end] = ack;
      }
    }
  }

  if (rst) {
    words[at + E.status] = withSide(withSide(status, side, Side.FinAcked), 1 - side, Side.FinAcked) | Status.Closed;
    return Track.Closes;
  }
  if ((flags & FIN) !== 0 && mine < Side.FinSent) mine = Side.FinSent;
  if (hasAck) {
    if (peer === Side.SynSent) peer = Side.Established;
    else if (peer === Side.FinSent && diff(ackNumber, words[r + T.end]!) >= 0) peer = Side.FinAcked;
  }
  status = withSide(withSide(status, side, mine), 1 - side, peer);
  const closes = mine === Side.FinAcked && peer === Side.FinAcked && (status & Status.Closed) === 0;
  if (closes) status |= Status.Closed;
  words[at + E.status] = status;
  return closes ? Track.Closes : Track.Valid;
}

/** Which timeout a connection is under, by both sides' states (names and mapping of OVS's userspace tracker). */
export function tcpTimeout(status: number): number {
  const original = sideState(status, 0);
  const reply = sideState(status, 1);
  if (original >= Side.FinAcked && reply >= Side.FinAcked) return Timeout.tcpClose;
  if (original >= Side.FinSent && reply >= Side.FinSent) return Timeout.tcpTimeWait;
  if (original >= Side.FinSent || reply >= Side.FinSent) return Timeout.tcpFinWait;
  if (reply === Side.None) return Timeout.tcpSynSent;
  if (original < Side.Established || reply < Side.Established) return Timeout.tcpSynRecv;
  return Timeout.tcpEstablished;
}

/** The connection's state in RFC 9293's names, as seen between both sides. */
export function tcpStateName(status: number): string {
  const original = sideState(status, 0);
  const reply = sideState(status, 1);
  if ((status & Status.Closed) !== 0) return 'CLOSED';
  if (original >= Side.FinSent && reply >= Side.FinSent) {
    return original === Side.FinAcked || reply === Side.FinAcked ? 'LAST_ACK' : 'CLOSING';
  }
  if (original === Side.FinAcked || reply === Side.FinAcked) return 'CLOSE_WAIT';
  if (original === Side.FinSent || reply === Side.FinSent) return 'FIN_WAIT';
  if (reply === Side.None) return 'SYN_SENT';
  if (original < Side.Established || reply < Side.Established) return 'SYN_RECEIVED';
  return 'ESTABLISHED';
}
