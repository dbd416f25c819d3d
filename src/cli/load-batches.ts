/** What `seine load` sends: batches of UDP packets of distinct connections between the server's pods, or any addresses. */
import type { PortInfo } from '../engine/engine-view.js';
import { parseMacOrZero, udpFrame } from '../flow/build-frame.js';

/** Sizes and shares of the simple IMIX: 64, 594 and 1518 octets as 7 : 4 : 1. */
const IMIX = [64, 64, 64, 64, 64, 64, 64, 594, 594, 594, 594, 1518];
export const IMIX_LARGEST = 1518;
/** Octets of Ethernet, IP and UDP header: what a frame has beside its payload. */
const HEADERS_4 = 42,
  HEADERS_6 = 62;

export interface Load {
  transport: 'unix' | 'grpc' | 'memif';
  flows: number;
  size: number | 'imix';
  batch: number;
  rate: number;
  seconds: number;
  /** Batches under way at most. */
  window: number;
}
export interface Batch {
  frames: Uint8Array;
  length: Uint32Array;
  inPort: Uint32Array;
}

/** Flow n: distinct for every n below 2^24 and any list of pods: by source port, then by destination port or addresses. */
function flowFrame(pods: readonly PortInfo[], n: number, size: number): { frame: Uint8Array; inPort: number } {
  const mac = new Uint8Array(6);
  // Source ports from 1024 up, then the next pair of ends.
  const sport = 1024 + (n % 60_000);
  const pair = Math.floor(n / 60_000);
  if (pods.length >= 2) {
    const four = pods.filter(({ ips }) => ips.some((ip) => !ip.includes(':')));
    const list = four.length >= 2 ? four : pods;
    const wanted = four.length >= 2 ? (ip: string) => !ip.includes(':') : (ip: string) => ip.includes(':');
    const from = list[(n + pair) % list.length]!;
    const to = list[(n + pair + 1 + (pair % (list.length - 1))) % list.length]!;
    const frame = udpFrame({
      srcMac: parseMacOrZero(from.mac || null),
      dstMac: parseMacOrZero(to.mac || null),
      src: from.ips.find(wanted)!,
      dst: to.ips.find(wanted)!,
      srcPort: sport,
      dstPort: 8080 + pair,
      payload: size - (four.length >= 2 ? HEADERS_4 : HEADERS_6),
    });
    return { frame, inPort: from.port };
  }
  const octet = pair & 0xff;
  const frame = udpFrame({
    srcMac: mac,
    dstMac: mac,
    src: `10.0.${octet}.1`,
    dst: `10.1.${octet}.2`,
    srcPort: sport,
    dstPort: 8080 + pair,
    payload: size - HEADERS_4,
  });
  return { frame, inPort: 3 };
}

export function makeBatches(load: Load, pods: readonly PortInfo[]): Batch[] {
  const count = Math.ceil(load.flows / load.batch);
  const batches: Batch[] = [];
  for (let b = 0; b < count; b++) {
    const frames: Uint8Array[] = [];
    const inPort = new Uint32Array(load.batch);
    for (let i = 0; i < load.batch; i++) {
      const n = (b * load.batch + i) % load.flows;
      const flow = flowFrame(pods, n, load.size === 'imix' ? IMIX[n % IMIX.length]! : load.size);
      frames.push(flow.frame);
      inPort[i] = flow.inPort;
    }
    batches.push({ frames: Buffer.concat(frames), length: Uint32Array.from(frames, ({ length }) => length), inPort });
  }
  return batches;
}
