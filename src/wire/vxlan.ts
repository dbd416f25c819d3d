/** VXLAN header: RFC 7348 section 5. 8 octets. Octet 0 flags (only I, 0x08, defined); 4–6 VNI; rest reserved. */
import { Fault } from './fault.js';
import { read24, write24, write32 } from './octets.js';

export const VXLAN_HEADER_SIZE = 8;
export const VXLAN_PORT = 4789;
const FLAGS = 0;
const VNI = 4;
const FLAG_I = 0x08;

/** Once this returns `Fault.None`, the readers below are in bounds for the same frame and offset. */
export function checkVxlan(frame: Uint8Array, offset: number, end = frame.length): Fault {
  if (end - offset < VXLAN_HEADER_SIZE) return Fault.Truncated;
  // Reserved bits are ignored on receipt, so only I is tested.
  return (frame[offset + FLAGS]! & FLAG_I) === 0 ? Fault.BadFlags : Fault.None;
}

export const vni = (frame: Uint8Array, offset: number): number => read24(frame, offset + VNI);

export function writeVxlan(out: Uint8Array, offset: number, vxlanNetworkIdentifier: number): number {
  write32(out, offset, FLAG_I << 24);
  write24(out, offset + VNI, vxlanNetworkIdentifier);
  out[offset + 7] = 0;
  return VXLAN_HEADER_SIZE;
}
