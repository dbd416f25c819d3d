/** Whole IPv4 and IPv6 frames for traffic of our own (demo, load): right lengths and checksums, payload of zeros. */
import { parseAddress, parseMac } from './ip-address.js';
import { internetChecksum, transportChecksum } from '../wire/checksum.js';

export interface FrameAddresses {
  srcMac: Uint8Array;
  dstMac: Uint8Array;
  /** Both of one family, as text. */
  src: string;
  dst: string;
}
export const parseMacOrZero = (text: string | null): Uint8Array =>
  (text === null ? null : parseMac(text)) ?? new Uint8Array(6);

function addressOctets(text: string): Uint8Array {
  const parsed = parseAddress(text);
  if (parsed === null) throw new RangeError(`${text} is no IP address`);
  const octets = new Uint8Array(parsed.family === 6 ? 16 : 4);
  for (let i = 0; i < octets.length; i++) octets[i] = (parsed.words[i >>> 2]! >>> (24 - (i & 3) * 8)) & 0xff;
  return octets;
}

/** Ethernet and IP header with `size` octets of room behind them. */
function ipFrame(
  a: FrameAddresses,
  protocol: number,
  size: number,
): { frame: Uint8Array; view: DataView; l4: number; family: 4 | 6 } {
  const src = addressOctets(a.src);
  const family = src.length === 16 ? 6 : 4;
  const l4 = 14 + (family === 6 ? 40 : 20);
  const frame = new Uint8Array(l4 + size);
  const view = new DataView(frame.buffer);
  frame.set(a.dstMac, 0);
  frame.set(a.srcMac, 6);
  if (family === 6) {
    view.setUint16(12, 0x86dd);
    frame[14] = 0x60;
    view.setUint16(18, size);
    frame[20] = protocol;
    frame[21] = 64;
    frame.set(src, 22);
    frame.set(addressOctets(a.dst), 38);
  } else {
    view.setUint16(12, 0x0800);
    frame[14] = 0x45;
    view.setUint16(16, 20 + size);
    view.setUint16(20, 0x4000);
    frame[22] = 64;
    frame[23] = protocol;
    frame.set(src, 26);
    frame.set(addressOctets(a.dst), 30);
    view.setUint16(24, internetChecksum(frame, 14, 20));
  }
  return { frame, view, l4, family };
}
const addressAt = (family: 4 | 6): number => (family === 6 ? 22 : 26);

export interface PortsAndPayload extends FrameAddresses {
  srcPort: number;
  dstPort: number;
  /** Octets of payload. */
  payload: number;
}
export function udpFrame(f: PortsAndPayload): Uint8Array {
  const { frame, view, l4, family } = ipFrame(f, 17, 8 + f.payload);
  view.setUint16(l4, f.srcPort);
  view.setUint16(l4 + 2, f.dstPort);
  view.setUint16(l4 + 4, 8 + f.payload);
  view.setUint16(l4 + 6, transportChecksum(frame, addressAt(family), family, 17, l4, 8 + f.payload) || 0xffff);
  return frame;
}
export function tcpFrame(f: PortsAndPayload & { seq: number; ack: number; flags: number }): Uint8Array {
  const { frame, view, l4, family } = ipFrame(f, 6, 20 + f.payload);
  view.setUint16(l4, f.srcPort);
  view.setUint16(l4 + 2, f.dstPort);
  view.setUint32(l4 + 4, f.seq >>> 0);
  view.setUint32(l4 + 8, f.ack >>> 0);
  frame[l4 + 12] = 0x50;
  frame[l4 + 13] = f.flags;
  view.setUint16(l4 + 14, 0xfaf0);
  view.setUint16(l4 + 16, transportChecksum(frame, addressAt(family), family, 6, l4, 20 + f.payload));
  return frame;
}
export function icmpEcho(f: FrameAddresses & { type: 8 | 0; id: number; sequence: number }): Uint8Array {
  const { frame, view, l4, family } = ipFrame(f, 1, 64);
  if (family === 6) throw new RangeError('ICMP is for IPv4');
  frame[l4] = f.type;
  view.setUint16(l4 + 4, f.id);
  view.setUint16(l4 + 6, f.sequence);
  view.setUint16(l4 + 2, internetChecksum(frame, l4, 64));
  return frame;
}
export function arpRequest(f: { mac: Uint8Array; sender: string; target: string }): Uint8Array {
  const frame = new Uint8Array(42);
  frame.fill(0xff, 0, 6);
  frame.set(f.mac, 6);
  frame.set([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1], 12);
  frame.set(f.mac, 22);
  frame.set(addressOctets(f.sender), 28);
  frame.set(addressOctets(f.target), 38);
  return frame;
}
