/** ARP for IPv4 over Ethernet (RFC 826): 28 octets. Other hardware or protocol types are `BadType`. */
import { Fault } from './fault.js';
import { read16, read32, write16, write32 } from './octets.js';

export const ARP_SIZE = 28;
export const ArpOperation = { Request: 1, Reply: 2 } as const;
const HARDWARE = 0;
const PROTOCOL = 2;
const SIZES = 4;
const OPERATION = 6;
const SENDER_MAC = 8;
const SENDER_IP = 14;
const TARGET_MAC = 18;
const TARGET_IP = 24;

export interface ArpPacket {
  operation: number;
  senderMac: Uint8Array;
  senderIp: number;
  targetMac: Uint8Array;
  targetIp: number;
}

export function checkArp(packet: Uint8Array, offset: number, end = packet.length): Fault {
  if (end - offset < ARP_SIZE) return Fault.Truncated;
  if (read16(packet, offset + HARDWARE) !== 1 || read16(packet, offset + PROTOCOL) !== 0x0800) return Fault.BadType;
  return read16(packet, offset + SIZES) === 0x0604 ? Fault.None : Fault.BadLength;
}

export const readArp = (packet: Uint8Array, offset: number): ArpPacket => ({
  operation: read16(packet, offset + OPERATION),
  senderMac: packet.slice(offset + SENDER_MAC, offset + SENDER_MAC + 6),
  senderIp: read32(packet, offset + SENDER_IP),
  targetMac: packet.slice(offset + TARGET_MAC, offset + TARGET_MAC + 6),
  targetIp: read32(packet, offset + TARGET_IP),
});

export function writeArp(out: Uint8Array, offset: number, packet: ArpPacket): number {
  write16(out, offset + HARDWARE, 1);
  write16(out, offset + PROTOCOL, 0x0800);
  write16(out, offset + SIZES, 0x0604);
  write16(out, offset + OPERATION, packet.operation);
  out.set(packet.senderMac, offset + SENDER_MAC);
  write32(out, offset + SENDER_IP, packet.senderIp);
  out.set(packet.targetMac, offset + TARGET_MAC);
  write32(out, offset + TARGET_IP, packet.targetIp);
  return ARP_SIZE;
}
