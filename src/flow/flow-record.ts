/**
 * A flow record: one direction of one connection since that direction's last record (deltas). IPFIX's terms.
 * Key: in-port, source, destination, protocol, ports (ICMP: 0 and type × 256 + code). Times are ns since 1970.
 */
export const END_REASONS = ['none', 'idle', 'active', 'end', 'forced', 'resources'] as const;
/** flowEndReason of IANA's registry (element 136): 1 idle, 2 active, 3 end of flow, 4 forced, 5 lack of resources. */
export const EndReason = { None: 0, Idle: 1, Active: 2, End: 3, Forced: 4, Resources: 5 } as const;

export interface FlowRecord {
  family: 4 | 6;
  /** Four words, host order; IPv4 uses the first. */
  src: readonly [number, number, number, number];
  dst: readonly [number, number, number, number];
  protocol: number;
  srcPort: number;
  dstPort: number;
  /** DSCP bits of the first packet: tos & 0xfc. */
  tos: number;
  inPort: number;
  outPort: number;
  packets: bigint;
  /** Layer-3 octets. */
  octets: bigint;
  /** Octets of the frames as received; what OVS counts (`netflow.octets: frame`). */
  frameOctets: bigint;
  tcpFlags: number;
  startNs: bigint;
  endNs: bigint;
  /** When the record was due: last + idle timeout, first + active timeout, or the packet that ended it. */
  exportNs: bigint;
  endReason: number;
  /** Verdict code (batch/drop-reason.ts) and reason of the record's packets. */
  verdict: number;
  dropReason: number;
  /** Rule ids (policy/rule-registry.ts), 0 = none. */
  ingressRule: number;
  egressRule: number;
}

/**
 * Packed form: RECORD_WORDS u32 words per record, as shards make them and encoders read them. 64-bit values are two
 * words, low first.
 */
export const RECORD_WORDS = 26;
export const R = {
  src: 0,
  dst: 4,
  ports: 8, // srcPort | dstPort << 16
  protocol: 9, // protocol | tos << 8 | tcpFlags << 16 | endReason << 24
  interfaces: 10, // inPort | outPort << 16
  verdict: 11, // family | verdict << 8 | dropReason << 16
  packets: 12,
  octets: 14,
  frameOctets: 16,
  start: 18,
  end: 20,
  export: 22,
  ingressRule: 24,
  egressRule: 25,
} as const;

const u64 = (words: Uint32Array, at: number): bigint => (BigInt(words[at + 1]!) << 32n) | BigInt(words[at]!);

/** The record at word `at` of a packed array. */
export function unpackRecord(words: Uint32Array, at: number): FlowRecord {
  const protocol = words[at + R.protocol]!;
  const verdict = words[at + R.verdict]!;
  const ports = words[at + R.ports]!;
  const interfaces = words[at + R.interfaces]!;
  return {
    family: (verdict & 0xff) === 6 ? 6 : 4,
    src: [words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!],
    dst: [words[at + 4]!, words[at + 5]!, words[at + 6]!, words[at + 7]!],
    protocol: protocol & 0xff,
    tos: (protocol >>> 8) & 0xff,
    tcpFlags: (protocol >>> 16) & 0xff,
    endReason: protocol >>> 24,
    srcPort: ports & 0xffff,
    dstPort: ports >>> 16,
    inPort: interfaces & 0xffff,
    outPort: interfaces >>> 16,
    verdict: (verdict >>> 8) & 0xff,
    dropReason: (verdict >>> 16) & 0xff,
    packets: u64(words, at + R.packets),
    octets: u64(words, at + R.octets),
    frameOctets: u64(words, at + R.frameOctets),
    startNs: u64(words, at + R.start),
    endNs: u64(words, at + R.end),
    exportNs: u64(words, at + R.export),
    ingressRule: words[at + R.ingressRule]!,
    egressRule: words[at + R.egressRule]!,
  };
}
