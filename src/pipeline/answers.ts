/**
 * Frames with which the engine answers: TCP RST (RFC 9293 3.5.2), ICMP time exceeded (RFC 792, RFC 4443 section 3.3). None
 * answers a RST, an ICMP error, a later fragment or a group destination; ICMP errors go at most ten a second to a source.
 */
import { Verdict } from '../batch/drop-reason.js';
import { Kind, type PacketBatch, RowFlag } from '../batch/packet-batch.js';
import { formatAddress } from '../flow/ip-address.js';
import { internetChecksum, transportChecksum } from '../wire/checksum.js';
import type { Shard } from './shard.js';

const RST = 4,
  ACK = 16,
  SYN = 2,
  FIN = 1;
const ICMP = 1,
  TCP = 6,
  ICMP6 = 58;
/** Of the packet that an ICMPv6 error carries, as much as fits the minimum MTU (RFC 4443 section 2.4). */
const ICMP6_ERROR_LIMIT = 1280;

const put16 = (octets: Uint8Array, at: number, value: number): void => {
  octets[at] = value >>> 8;
  octets[at + 1] = value & 0xff;
};
const put32 = (octets: Uint8Array, at: number, value: number): void => {
  put16(octets, at, value >>> 16);
  put16(octets, at + 2, value & 0xffff);
};

function mayBeAnswered(batch: PacketBatch, row: number): boolean {
  return (batch.flags[row]! & (RowFlag.FragmentLater | RowFlag.GroupDestination | RowFlag.IcmpError)) === 0;
}

/** Ethernet and IP header back to the row's source; returns the frame with room for `size` octets behind them. */
function answerFrame(
  batch: PacketBatch,
  row: number,
  protocol: number,
  size: number,
  from: Uint8Array | null,
): { frame: Uint8Array; l4: number } {
  const l3 = batch.l3Offset[row]!;
  const six = batch.kind[row] === Kind.Ip6;
  const header = six ? 40 : 20;
  const start = batch.offset[row]!;
  const frame = new Uint8Array(l3 + header + size);
  frame.set(batch.data.subarray(start, start + l3)); // VLAN tags and EtherType as they came
  frame.set(batch.data.subarray(start + 6, start + 12), 0);
  frame.set(batch.data.subarray(start, start + 6), 6);
  const ip = start + l3;
  if (six) {
    put32(frame, l3, 0x60000000);
    put16(frame, l3 + 4, size);
    frame[l3 + 6] = protocol;
    frame[l3 + 7] = 64;
    frame.set(from ?? batch.data.subarray(ip + 24, ip + 40), l3 + 8);
    frame.set(batch.data.subarray(ip + 8, ip + 24), l3 + 24);
  } else {
    put16(frame, l3, 0x4500);
    put16(frame, l3 + 2, header + size);
    frame[l3 + 8] = 64;
    frame[l3 + 9] = protocol;
    frame.set(from ?? batch.data.subarray(ip + 16, ip + 20), l3 + 12);
    frame.set(batch.data.subarray(ip + 12, ip + 16), l3 + 16);
    put16(frame, l3 + 10, internetChecksum(frame, l3, 20));
  }
  return { frame, l4: l3 + header };
}

/** Makes the row's drop a reject: a RST to its sender, with the numbers that RFC 9293 3.5.2 gives. */
export function resetAnswer(batch: PacketBatch, shard: Shard, row: number): void {
  if (batch.protocol[row] !== TCP || !mayBeAnswered(batch, row) || (batch.flags[row]! & RowFlag.Transport) === 0)
    return;
  const flags = batch.tcpFlags[row]!;
  if ((flags & RST) !== 0) return;
  const { frame, l4 } = answerFrame(batch, row, TCP, 20, null);
  const at = batch.offset[row]! + batch.l4Offset[row]!;
  frame.set(batch.data.subarray(at + 2, at + 4), l4);
  frame.set(batch.data.subarray(at, at + 2), l4 + 2);
  if ((flags & ACK) !== 0) put32(frame, l4 + 4, batch.tcpAck[row]!);
  else
    put32(
      frame,
      l4 + 8,
      (batch.tcpSeq[row]! +
        batch.payloadLength[row]! +
        ((flags & SYN) !== 0 ? 1 : 0) +
        ((flags & FIN) !== 0 ? 1 : 0)) >>>
        0,
    );
  frame[l4 + 12] = 0x50;
  frame[l4 + 13] = (flags & ACK) !== 0 ? RST : RST | ACK;
  const six = batch.kind[row] === Kind.Ip6;
  put16(frame, l4 + 16, transportChecksum(frame, l4 - (six ? 32 : 8), six ? 6 : 4, TCP, l4, 20));
  batch.verdict[row] = Verdict.Reject;
  shard.emitter.frame(batch, row, batch.inPort[row]!, frame, 'tcp-reset');
}

/** Makes the row's drop a reject: ICMP time exceeded to its sender, from this node's address towards it. */
export function icmpTimeExceeded(batch: PacketBatch, shard: Shard, row: number): void {
  if (!mayBeAnswered(batch, row)) return;
  const six = batch.kind[row] === Kind.Ip6;
  const start = batch.offset[row]! + batch.l3Offset[row]!;
  const from = shard.forwarding.answerAddress(six ? 6 : 4);
  const header = six ? 40 : 20;
  const available = Math.min(batch.length[row]! - batch.l3Offset[row]!, batch.ipLength[row]!);
  // RFC 792: the header and 8 octets; RFC 1812 4.3.2.3 allows more, up to 576 in all.
  const carried = Math.min(available, six ? ICMP6_ERROR_LIMIT - 48 : 576 - 28);
  const { frame, l4 } = answerFrame(batch, row, six ? ICMP6 : ICMP, 8 + carried, from);
  frame[l4] = six ? 3 : 11;
  frame.set(batch.data.subarray(start, start + carried), l4 + 8);
  if (six) put16(frame, l4 + 2, transportChecksum(frame, l4 - 32, 6, ICMP6, l4, 8 + carried));
  else put16(frame, l4 + 2, internetChecksum(frame, l4, 8 + carried));
  batch.verdict[row] = Verdict.Reject;
  const source = formatAddress(batch.address, row * 8, six ? 6 : 4);
  if (header > 0 && shard.emitter.mayAnswer(source, batch.timeNs[row * 2]!, batch.timeNs[row * 2 + 1]!)) {
    shard.emitter.frame(batch, row, batch.inPort[row]!, frame, 'icmp-error');
  }
}
