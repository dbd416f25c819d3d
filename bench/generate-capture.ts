/**
 * Makes a capture of TCP and UDP flows in random order, seeded: `node dist/bench/generate-capture.js --packets N --flows N
 * [--seed N] [--seconds N] [--snap-length N] FILE`. TCP flows have their handshake, data both ways with acknowledgements, and
 * both FINs; checksums are right; sizes are mixed from 64 to 1,514 octets. Streams to the file, a few seconds per million
 * packets; memory is some octets per flow.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { checksumAdd, checksumFold } from '../src/wire/checksum.js';

export interface CaptureOptions {
  packets: number;
  flows: number;
  seed?: number;
  /** Time from the first packet to the last. */
  seconds?: number;
  /** Octets captured of each frame at most. */
  snapLength?: number;
}

const FIN = 1,
  SYN = 2,
  PSH = 8,
  ACK = 16;
const TCP = 6,
  UDP = 17;
const START_SECONDS = 1_700_000_000;
/** TCP flows need a handshake, one segment and its acknowledgement, and three packets to close. */
const TCP_PACKETS_MIN = 8;
/** Share of flows, in sixteenths, that are TCP; and how many flows are open at a time. */
const TCP_SIXTEENTHS = 11;
const OPEN_FLOWS = 20_000;
const FRAME_HEADERS_SIZE = 54;
const PIECE_SIZE = 1024 * 1024;
/** Payloads of segments and datagrams, and a cumulative share of each: many small, some large. */
const PAYLOADS = [10, 64, 128, 256, 512, 576, 1024, 1200, 1460] as const;
const SHARES = [0.22, 0.34, 0.42, 0.48, 0.54, 0.6, 0.66, 0.74, 1] as const;

/** Numbers from 0 to 1: mulberry32. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x100000000;
  };
}

/** Calls `emit` with pieces of a pcap file (nanoseconds, little-endian), each valid until the next. */
export function generateCapture(
  options: CaptureOptions,
  emit: (piece: Uint8Array) => void,
): { packets: number; flows: number } {
  const { packets, flows, seed = 1, seconds = 300, snapLength = 65_535 } = options;
  const random = randomFrom(seed);
  const below = (bound: number): number => Math.floor(random() * bound);

  // A flow's packets to come, its kind and its place; the flows' packets sum up to `packets`.
  const remaining = new Uint32Array(flows);
  const total = new Uint32Array(flows);
  const isTcp = new Uint8Array(flows);
  let left = packets - flows;
  for (let flow = 0; flow < flows; flow++) {
    isTcp[flow] = below(16) < TCP_SIXTEENTHS && left >= TCP_PACKETS_MIN - 1 ? 1 : 0;
    total[flow] = isTcp[flow] === 1 ? TCP_PACKETS_MIN : 1;
    left -= total[flow]! - 1;
  }
  // A few flows are long, most are short: of two flows drawn, the one with more packets gets the next few.
  while (left > 0 && flows > 0) {
    const a = below(flows);
    const b = below(flows);
    const more = Math.min(left, 1 + below(Math.max(2, Math.ceil(packets / flows))));
    const chosen = total[a]! >= total[b]! ? a : b;
    total[chosen] = total[chosen]! + more;
    left -= more;
  }
  remaining.set(total);

  const initial = new Uint32Array(flows * 2); // sequence numbers: what each side sends next
  for (let i = 0; i < initial.length; i++) initial[i] = below(0x100000000);
  const identification = new Uint16Array(flows);

  const piece = new Uint8Array(PIECE_SIZE);
  const view = new DataView(piece.buffer);
  let at = 0;
  const word = (value: number): void => {
    view.setUint32(at, value, true);
    at += 4;
  };
  word(0xa1b23c4d);
  view.setUint16(4, 2, true);
  view.setUint16(6, 4, true);
  at = 16;
  word(snapLength);
  word(1);

  const filler = new Uint8Array(1500);
  for (let i = 0; i < filler.length; i++) filler[i] = below(256);
  const fillerSums = PAYLOADS.map((size) => checksumFold(checksumAdd(filler, 0, size)));

  const frame = (
    flow: number,
    fromClient: boolean,
    flags: number,
    payload: number,
    acknowledged: number,
    sequence: number,
    timeNs: number,
  ): void => {
    const size = payload < 0 ? 0 : PAYLOADS[payload]!;
    const tcp = isTcp[flow] === 1;
    const ipLength = 20 + (tcp ? 20 : 8) + size;
    const frameLength = Math.max(60, 14 + ipLength);
    const captured = Math.min(frameLength, snapLength);
    if (at + 16 + Math.max(frameLength, FRAME_HEADERS_SIZE) > PIECE_SIZE) {
      emit(piece.subarray(0, at));
      at = 0;
    }
    word(START_SECONDS + Math.floor(timeNs / 1e9));
    word(timeNs % 1e9);
    word(captured);
    word(frameLength);
    const start = at;
    piece.fill(0, start, start + Math.max(frameLength, FRAME_HEADERS_SIZE));
    // 02:00:00:00:00:01 ↔ …:02; clients 10.0.0.0/9, servers 10.128.0.0/16.
    piece[start] = 2;
    piece[start + 5] = fromClient ? 2 : 1;
    piece[start + 6] = 2;
    piece[start + 11] = fromClient ? 1 : 2;
    piece[start + 12] = 8;
    const ip = start + 14;
    piece[ip] = 0x45;
    view.setUint16(ip + 2, ipLength);
    identification[flow] = identification[flow]! + 1;
    view.setUint16(ip + 4, identification[flow]!);
    view.setUint16(ip + 6, 0x4000);
    piece[ip + 8] = 64;
    piece[ip + 9] = tcp ? TCP : UDP;
    const client = (10 << 24) | (flow % 0x7fffff);
    const server = (10 << 24) | (128 << 16) | (Math.imul(flow, 2654435761) >>> 20);
    view.setUint32(ip + 12, fromClient ? client : server);
    view.setUint32(ip + 16, fromClient ? server : client);
    view.setUint16(ip + 10, ~checksumFold(checksumAdd(piece, ip, 20)) & 0xffff);
    const l4 = ip + 20;
    const clientPort = 32_768 + (Math.imul(flow, 40503) & 0x3fff);
    const serverPort = tcp ? 443 : 53;
    view.setUint16(l4, fromClient ? clientPort : serverPort);
    view.setUint16(l4 + 2, fromClient ? serverPort : clientPort);
    const header = tcp ? 20 : 8;
    if (tcp) {
      view.setUint32(l4 + 4, sequence);
      view.setUint32(l4 + 8, acknowledged);
      piece[l4 + 12] = 0x50;
      piece[l4 + 13] = flags;
      view.setUint16(l4 + 14, 65_535);
    } else view.setUint16(l4 + 4, 8 + size);
    const pseudo = checksumAdd(piece, ip + 12, 8, piece[ip + 9]! + header + size);
    const sum = checksumFold(checksumAdd(piece, l4, header, pseudo + (payload < 0 ? 0 : fillerSums[payload]!)));
    const checksum = ~sum & 0xffff;
    view.setUint16(l4 + (tcp ? 16 : 6), tcp || checksum !== 0 ? checksum : 0xffff);
    if (size > 0) piece.set(size === filler.length ? filler : filler.subarray(0, size), l4 + header);
    at = start + captured;
  };

  const drawPayload = (): number => {
    const drawn = random();
    return SHARES.findIndex((share) => drawn < share);
  };

  // Open flows lie in a pool; each step takes one at random, and a finished one makes room for the next.
  const open = new Uint32Array(Math.min(OPEN_FLOWS, Math.max(1, flows)));
  let openCount = 0;
  let nextFlow = 0;
  while (openCount < open.length && nextFlow < flows) open[openCount++] = nextFlow++;
  const spacing = packets > 1 ? (seconds * 1e9) / packets : 0;
  for (let packet = 0; packet < packets; packet++) {
    const slot = below(openCount);
    const flow = open[slot]!;
    const index = total[flow]! - remaining[flow]!;
    const timeNs = Math.floor((packet + random()) * spacing);
    const client = flow * 2;
    const server = client + 1;
    if (isTcp[flow] === 1) {
      const fromEnd = remaining[flow]!;
      let fromClient: boolean;
      let flags = ACK;
      let payload = -1;
      if (index === 0) {
        fromClient = true;
        flags = SYN;
      } else if (index === 1) {
        fromClient = false;
        flags = SYN | ACK;
      } else if (index === 2) fromClient = true;
      else if (fromEnd <= 3) {
        fromClient = fromEnd !== 2;
        if (fromEnd > 1) flags = FIN | ACK;
      } else {
        // The client asks, the server mostly sends, and every third packet acknowledges.
        fromClient = index % 3 === 0;
        if (index === 3 || !fromClient) {
          payload = drawPayload();
          flags = PSH | ACK;
        }
      }
      const own = fromClient ? client : server;
      const other = fromClient ? server : client;
      const size = payload < 0 ? 0 : PAYLOADS[payload]!;
      frame(flow, fromClient, flags, payload, flags === SYN ? 0 : initial[other]!, initial[own]!, timeNs);
      initial[own] = initial[own]! + size + ((flags & (SYN | FIN)) !== 0 ? 1 : 0);
    } else frame(flow, index % 2 === 0, 0, drawPayload(), 0, 0, timeNs);
    remaining[flow] = remaining[flow]! - 1;
    if (remaining[flow] === 0) {
      if (nextFlow < flows) open[slot] = nextFlow++;
      else open[slot] = open[--openCount]!;
    }
  }
  emit(piece.subarray(0, at));
  return { packets, flows };
}

function main(): void {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      packets: { type: 'string', default: '5000000' },
      flows: { type: 'string', default: '265000' },
      seed: { type: 'string', default: '1' },
      seconds: { type: 'string', default: '300' },
      'snap-length': { type: 'string', default: '65535' },
    },
  });
  const number = (name: 'packets' | 'flows' | 'seed' | 'seconds' | 'snap-length', least: number): number => {
    const value = Number(values[name]);
    if (Number.isSafeInteger(value) && value >= least) return value;
    throw new Error(`--${name} ${values[name]}: a whole number from ${least} up belongs there`);
  };
  const path = positionals[0];
  if (path === undefined || positionals.length > 1) throw new Error('name one file to write');
  const options = {
    packets: number('packets', 1),
    flows: number('flows', 1),
    seed: number('seed', 0),
    seconds: number('seconds', 1),
    snapLength: number('snap-length', FRAME_HEADERS_SIZE),
  };
  if (options.flows > options.packets)
    throw new Error(`--flows ${options.flows}: there are only ${options.packets} packets`);
  const file = openSync(path, 'w');
  const made = generateCapture(options, (piece) => {
    for (let at = 0; at < piece.length; ) at += writeSync(file, piece, at, piece.length - at);
  });
  closeSync(file);
  process.stdout.write(`${path}: ${made.packets} packets of ${made.flows} flows, seed ${options.seed}\n`);
}

if (process.argv[1]?.endsWith('generate-capture.js')) {
  try {
    main();
  } catch (error) {
    process.stderr.write(`generate-capture: ${(error as Error).message}\n`);
    process.exitCode = 2;
  }
}
