/** pcapng files (draft-ietf-opsawg-pcapng): one section, an interface for each out-port in order of first use, ns times. */
import { closeSync, openSync, writeSync } from 'node:fs';

const FLUSH_SIZE = 1 << 20;

export class PcapngWriter {
  private readonly fd: number;
  private readonly buffer = Buffer.alloc(FLUSH_SIZE + (1 << 18));
  private used = 0;
  private readonly interfaces = new Map<string, number>();

  constructor(path: string) {
    this.fd = path === '-' ? 1 : openSync(path, 'w');
    const section = Buffer.alloc(28);
    section.writeUInt32LE(0x0a0d0d0a, 0);
    section.writeUInt32LE(28, 4);
    section.writeUInt32LE(0x1a2b3c4d, 8);
    section.writeUInt16LE(1, 12);
    section.writeBigInt64LE(-1n, 16);
    section.writeUInt32LE(28, 24);
    this.append(section);
  }

  private append(block: Uint8Array): void {
    if (this.used + block.length > this.buffer.length) this.flush();
    this.buffer.set(block, this.used);
    this.used += block.length;
    if (this.used >= FLUSH_SIZE) this.flush();
  }
  private flush(): void {
    for (let at = 0; at < this.used; ) at += writeSync(this.fd, this.buffer, at, this.used - at);
    this.used = 0;
  }

  private interfaceOf(name: string): number {
    const known = this.interfaces.get(name);
    if (known !== undefined) return known;
    const text = Buffer.from(name);
    const padded = Math.ceil(text.length / 4) * 4;
    const total = 20 + 4 + padded + 8 + 4;
    const block = Buffer.alloc(total);
    block.writeUInt32LE(1, 0);
    block.writeUInt32LE(total, 4);
    block.writeUInt16LE(1, 8);
    block.writeUInt16LE(2, 16); // if_name
    block.writeUInt16LE(text.length, 18);
    text.copy(block, 20);
    const resolution = 20 + padded;
    block.writeUInt16LE(9, resolution); // if_tsresol: 10^-9
    block.writeUInt16LE(1, resolution + 2);
    block[resolution + 4] = 9;
    block.writeUInt32LE(total, total - 4);
    this.append(block);
    this.interfaces.set(name, this.interfaces.size);
    return this.interfaces.size - 1;
  }

  packet(interfaceName: string, timeLow: number, timeHigh: number, frame: Uint8Array, originalLength = frame.length): void {
    const id = this.interfaceOf(interfaceName);
    const padded = Math.ceil(frame.length / 4) * 4;
    const total = 32 + padded;
    const block = Buffer.alloc(total);
    block.writeUInt32LE(6, 0);
    block.writeUInt32LE(total, 4);
    block.writeUInt32LE(id, 8);
    block.writeUInt32LE(timeHigh, 12);
    block.writeUInt32LE(timeLow, 16);
    block.writeUInt32LE(frame.length, 20);
    block.writeUInt32LE(originalLength, 24);
    block.set(frame, 28);
    block.writeUInt32LE(total, total - 4);
    this.append(block);
  }

  close(): void {
    this.flush();
    if (this.fd !== 1) closeSync(this.fd);
  }
}
