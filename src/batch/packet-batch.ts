/**
 * A batch of packets as columns in shared memory. One row is one packet; every column has BATCH_ROWS entries.
 * native/batch.h mirrors COLUMNS in the same order (the addon reports its offsets; kernels.ts compares them at load).
 * All numbers are in host order. `live` is the thread's own list of the rows that its stages still work on; a row
 * belongs to one thread at a time (`owner`), which the runner asserts.
 */
export const BATCH_ROWS = 4096;
/** Octets that the data of one batch may hold: 3 MiB of frames as the contract limits them, and room for framing. */
export const BATCH_DATA_SIZE = 4 * 1024 * 1024;
/** Octets of frames that one batch may hold, and the bounds of one frame, as front ends enforce them. */
export const BATCH_OCTETS_LIMIT = 3 * 1024 * 1024;
export const FRAME_MIN_SIZE = 14;
export const FRAME_MAX_SIZE = 65_557;

/** name, octets of one element, elements per row. Wider columns first, so that each is aligned. */
export const COLUMNS = [
  ['timeNs', 8, 1], // when the packet was seen, ns since 1970; read as two u32 words, low first
  ['address', 4, 8], // words 0–3 source, 4–7 destination; IPv4 uses words 0 and 4, the others are 0
  ['offset', 4, 1], // first octet of the frame in `data`
  ['length', 4, 1], // octets of the frame that are there (captured)
  ['wireLength', 4, 1], // octets of the frame on the wire (≥ length where a snap length cut it)
  ['frameOctets', 4, 1], // octets of the frame as received, before a link header was put in front: for counters
  ['inPort', 4, 1],
  ['l4Offset', 4, 1], // from the start of the frame; 0 where there is no transport header
  ['ipLength', 4, 1], // layer-3 octets: IPv4 total length, IPv6 payload length + 40; 0 unless sound
  ['tcpSeq', 4, 1],
  ['tcpAck', 4, 1],
  ['payloadLength', 4, 1], // octets behind the TCP header by the IP length
  ['hash', 4, 1], // symmetric tuple hash (flow/tuple-hash.ts); of an ICMP error: of the packet it carries
  ['outPort', 4, 1],
  ['rule', 4, 1], // the rule that decided, 0 = none (verdicts column `rule`)
  ['egressRule', 4, 1],
  ['ingressRule', 4, 1],
  ['connection', 4, 1], // entry of the connection table + 1, 0 = none
  ['fragmentId', 4, 1],
  ['l3Offset', 2, 1],
  ['etherType', 2, 1],
  ['vlan', 2, 1], // outermost VLAN id, NO_VLAN = untagged
  ['srcPort', 2, 1], // ICMP: 0
  ['dstPort', 2, 1], // ICMP: type × 256 + code
  ['icmpId', 2, 1], // identifier of echo, timestamp … messages
  ['tcpWindow', 2, 1],
  ['fragmentOffset', 2, 1], // in octets ÷ 8
  ['tunnel', 2, 1], // index of the node that the packet is encapsulated to, 0 = none
  ['rewrite', 2, 1], // Rewrite bits
  ['kind', 1, 1], // Kind
  ['flags', 1, 1], // RowFlag bits
  ['protocol', 1, 1], // last next header; see contract §1 for a broken IPv6 chain
  ['tos', 1, 1], // IPv4 ToS or IPv6 traffic class, whole octet
  ['ttl', 1, 1], // TTL or hop limit
  ['tcpFlags', 1, 1],
  ['wscale', 1, 1], // TCP window scale option of a SYN, NO_WSCALE = absent
  ['fault', 1, 1], // DropReason that Parse found, 0 = none
  ['verdict', 1, 1],
  ['dropReason', 1, 1],
  ['stage', 1, 1],
  ['ct', 1, 1],
  ['direction', 1, 1], // of `connection`: 0 original, 1 reply
  ['owner', 1, 1], // participant that owns the row now
] as const;
export type ColumnName = (typeof COLUMNS)[number][0];

export const NO_VLAN = 0xffff;
export const NO_WSCALE = 0xff;
export const Kind = { NonIp: 0, Ip4: 4, Ip6: 6 } as const;
export const RowFlag = {
  Sound: 1, // the IP header is sound as contract §1 defines it: the row counts in a flow record
  FragmentFirst: 2, // first fragment of several (offset 0, more to come)
  FragmentLater: 4, // offset > 0
  Transport: 8, // the transport header was read and is well-formed (of a later fragment: its ports are known from the first)
  IcmpError: 16, // an ICMP/ICMPv6 error; `hash` is of the carried packet where that was readable
  Arp: 32,
  NeighbourDiscovery: 64, // ICMPv6 types 133–137 and MLD 130–132, 143
  GroupDestination: 128, // broadcast or multicast, by the IP destination or, for non-IP, by the MAC
} as const;
/** What Output changes in a forwarded frame. */
export const Rewrite = { DestinationMac: 1, DecrementTtl: 2, DecrementTtlTwice: 4, Encapsulate: 8 } as const;

/**
 * Octets between columns, so that they begin at different cache sets: at multiples of 4 KiB apart, the fields of one row
 * would evict each other from the first-level cache (bench row `parse`).
 */
export const COLUMN_PADDING = 64;

/** Octet offset of each column in the block, and the block's size. */
export const COLUMN_OFFSET: Readonly<Record<ColumnName, number>> = (() => {
  let at = 0;
  const offsets: Record<string, number> = {};
  for (const [name, size, per] of COLUMNS) {
    offsets[name] = at;
    at += size * per * BATCH_ROWS + COLUMN_PADDING;
  }
  return offsets as Record<ColumnName, number>;
})();
export const COLUMNS_SIZE = COLUMNS.reduce((sum, [, size, per]) => sum + size * per * BATCH_ROWS + COLUMN_PADDING, 0);

/**
 * Frames that the engine makes itself. Header: count, octets used of the data, octets that all may have together (set at
 * submit), octets that they have (all but the third Atomics); then EMIT_ROWS descriptors, data.
 */
export const EMIT_ROWS = 8192;
export const EMIT_HEADER_WORDS = 16;
export const EMIT_WORDS = 4; // row, out-port, octets, offset in the emission's data; offset EMIT_COPY = the row's frame
export const EMIT_COPY = 0xffffffff;
export const EMIT_DATA_SIZE = 2 * 1024 * 1024;
export const EMIT_SIZE = (EMIT_HEADER_WORDS + EMIT_ROWS * EMIT_WORDS) * 4 + EMIT_DATA_SIZE;

/** The shared memory of one batch: what is handed from thread to thread. */
export interface BatchMemory {
  readonly columns: SharedArrayBuffer;
  readonly data: SharedArrayBuffer;
  readonly emit: SharedArrayBuffer;
  /** How the rows are split over shards: start and count of each, then the rows in shards' order (engine/dispatcher.ts). */
  readonly slices: SharedArrayBuffer;
}

/** Shards that a batch can be split over. */
export const SHARDS_MAX = 64;

export function allocateBatch(): BatchMemory {
  return {
    columns: new SharedArrayBuffer(COLUMNS_SIZE),
    data: new SharedArrayBuffer(BATCH_DATA_SIZE),
    emit: new SharedArrayBuffer(EMIT_SIZE),
    slices: new SharedArrayBuffer((SHARDS_MAX * 4 + BATCH_ROWS * 2) * 4),
  };
}

/** One thread's view of a batch. Rows 0 … count − 1 are set by the front end that filled it. */
export class PacketBatch {
  count = 0;
  /** Rows that the stages still work on, in order, and how many. */
  readonly live = new Int32Array(BATCH_ROWS);
  liveCount = 0;
  /** Rows that the native path left to the stages, in order. */
  readonly rest = new Int32Array(BATCH_ROWS);

  readonly block: Uint8Array;
  readonly data: Uint8Array;
  readonly timeNs: Uint32Array;
  readonly address: Uint32Array;
  readonly offset: Uint32Array;
  readonly length: Uint32Array;
  readonly wireLength: Uint32Array;
  readonly frameOctets: Uint32Array;
  readonly inPort: Uint32Array;
  readonly l4Offset: Uint32Array;
  readonly ipLength: Uint32Array;
  readonly tcpSeq: Uint32Array;
  readonly tcpAck: Uint32Array;
  readonly payloadLength: Uint32Array;
  readonly hash: Uint32Array;
  readonly outPort: Uint32Array;
  readonly rule: Uint32Array;
  readonly egressRule: Uint32Array;
  readonly ingressRule: Uint32Array;
  readonly connection: Uint32Array;
  readonly fragmentId: Uint32Array;
  readonly l3Offset: Uint16Array;
  readonly etherType: Uint16Array;
  readonly vlan: Uint16Array;
  readonly srcPort: Uint16Array;
  readonly dstPort: Uint16Array;
  readonly icmpId: Uint16Array;
  readonly tcpWindow: Uint16Array;
  readonly fragmentOffset: Uint16Array;
  readonly tunnel: Uint16Array;
  readonly rewrite: Uint16Array;
  readonly kind: Uint8Array;
  readonly flags: Uint8Array;
  readonly protocol: Uint8Array;
  readonly tos: Uint8Array;
  readonly ttl: Uint8Array;
  readonly tcpFlags: Uint8Array;
  readonly wscale: Uint8Array;
  readonly fault: Uint8Array;
  readonly verdict: Uint8Array;
  readonly dropReason: Uint8Array;
  readonly stage: Uint8Array;
  readonly ct: Uint8Array;
  readonly direction: Uint8Array;
  readonly owner: Uint8Array;
  /** Emission header and descriptors as words, and its octets. */
  readonly emitWords: Int32Array;
  readonly emitData: Uint8Array;
  /** [2 × phase × SHARDS_MAX + 2 × shard]: start, count. Phase 0 judges, phase 1 accounts ICMP errors. */
  readonly sliceBounds: Int32Array;
  readonly sliceRows: Int32Array;

  constructor(readonly memory: BatchMemory = allocateBatch()) {
    const { columns, data, emit } = memory;
    this.block = new Uint8Array(columns);
    this.data = new Uint8Array(data);
    const u32 = (name: ColumnName, per = 1) => new Uint32Array(columns, COLUMN_OFFSET[name], BATCH_ROWS * per);
    const u16 = (name: ColumnName) => new Uint16Array(columns, COLUMN_OFFSET[name], BATCH_ROWS);
    const u8 = (name: ColumnName) => new Uint8Array(columns, COLUMN_OFFSET[name], BATCH_ROWS);
    this.timeNs = u32('timeNs', 2);
    this.address = u32('address', 8);
    this.offset = u32('offset');
    this.length = u32('length');
    this.wireLength = u32('wireLength');
    this.frameOctets = u32('frameOctets');
    this.inPort = u32('inPort');
    this.l4Offset = u32('l4Offset');
    this.ipLength = u32('ipLength');
    this.tcpSeq = u32('tcpSeq');
    this.tcpAck = u32('tcpAck');
    this.payloadLength = u32('payloadLength');
    this.hash = u32('hash');
    this.outPort = u32('outPort');
    this.rule = u32('rule');
    this.egressRule = u32('egressRule');
    this.ingressRule = u32('ingressRule');
    this.connection = u32('connection');
    this.fragmentId = u32('fragmentId');
    this.l3Offset = u16('l3Offset');
    this.etherType = u16('etherType');
    this.vlan = u16('vlan');
    this.srcPort = u16('srcPort');
    this.dstPort = u16('dstPort');
    this.icmpId = u16('icmpId');
    this.tcpWindow = u16('tcpWindow');
    this.fragmentOffset = u16('fragmentOffset');
    this.tunnel = u16('tunnel');
    this.rewrite = u16('rewrite');
    this.kind = u8('kind');
    this.flags = u8('flags');
    this.protocol = u8('protocol');
    this.tos = u8('tos');
    this.ttl = u8('ttl');
    this.tcpFlags = u8('tcpFlags');
    this.wscale = u8('wscale');
    this.fault = u8('fault');
    this.verdict = u8('verdict');
    this.dropReason = u8('dropReason');
    this.stage = u8('stage');
    this.ct = u8('ct');
    this.direction = u8('direction');
    this.owner = u8('owner');
    this.sliceBounds = new Int32Array(memory.slices, 0, SHARDS_MAX * 4);
    this.sliceRows = new Int32Array(memory.slices, SHARDS_MAX * 16, BATCH_ROWS * 2);
    this.emitWords = new Int32Array(emit, 0, EMIT_HEADER_WORDS + EMIT_ROWS * EMIT_WORDS);
    this.emitData = new Uint8Array(emit, (EMIT_HEADER_WORDS + EMIT_ROWS * EMIT_WORDS) * 4, EMIT_DATA_SIZE);
  }
}
