/**
 * The closed lists of what can happen to a packet: verdicts, drop reasons, conntrack bits, stages.
 * Their order is their code on the wire (hello of the Unix socket, octets of VerdictBatch): append, never reorder.
 * native/batch.h holds the reasons that kernels write; a test proves both lists equal.
 */
export const VERDICTS = ['unspecified', 'forward', 'drop', 'reject', 'consume'] as const;
export const Verdict = { Unspecified: 0, Forward: 1, Drop: 2, Reject: 3, Consume: 4 } as const;

export const DROP_REASONS = [
  'none',
  'frame-truncated',
  'frame-too-long',
  'unsupported-ethertype',
  'vlan-tagged',
  'ip-header-truncated',
  'ip-bad-version',
  'ip-bad-header-length',
  'ip-length-exceeds-frame',
  'ip-bad-checksum',
  'ip6-bad-extension',
  'fragment-overlap',
  'fragment-bad',
  'tcp-truncated',
  'tcp-bad-offset',
  'tcp-invalid-flags',
  'udp-truncated',
  'udp-bad-length',
  'icmp-truncated',
  'sctp-truncated',
  'unknown-port',
  'unknown-tunnel-peer',
  'tunnel-malformed',
  'tunnel-critical-option',
  'spoofed',
  'arp-malformed',
  'nd-malformed',
  'conntrack-invalid',
  'conntrack-full',
  'endpoint-limit',
  'no-endpoint',
  'egress-policy',
  'egress-default-deny',
  'ingress-policy',
  'ingress-default-deny',
  'policy-reset',
  'ttl-exceeded',
  'mtu-exceeded',
  'no-such-endpoint',
  'transport-bad-checksum',
] as const;
export type DropReasonName = (typeof DROP_REASONS)[number];

type Camel<S extends string> = S extends `${infer A}-${infer B}` ? `${Capitalize<A>}${Camel<B>}` : Capitalize<S>;
const camel = (name: string): string => name.replace(/(^|-)([a-z0-9])/g, (_, __, c: string) => c.toUpperCase());

/** `DropReason.IpBadChecksum` and so on: the index of each name in DROP_REASONS. */
export const DropReason = Object.fromEntries(DROP_REASONS.map((name, code) => [camel(name), code])) as {
  readonly [K in DropReasonName as Camel<K>]: number;
};

/** conntrack bits as OVS's ct_state has them; bit i of a verdict's `ct` octet is CT_BITS[i]. */
export const CT_BITS = ['new', 'established', 'reply', 'related', 'invalid', 'tracked', 'snat', 'dnat'] as const;
export const Ct = {
  New: 1,
  Established: 2,
  Reply: 4,
  Related: 8,
  Invalid: 16,
  Tracked: 32,
  Snat: 64,
  Dnat: 128,
} as const;

/** The twelve stages, in order; a row's `stage` is the index of the one that decided it. */
export const STAGES = [
  'Parse',
  'Classifier',
  'SpoofGuard',
  'ConntrackState',
  'PreRouting',
  'EgressSecurity',
  'Routing',
  'PostRouting',
  'Switching',
  'IngressSecurity',
  'ConntrackCommit',
  'Output',
] as const;
export const Stage = Object.fromEntries(STAGES.map((name, index) => [name, index])) as {
  readonly [K in (typeof STAGES)[number]]: number;
};

/** OpenFlow port numbers with a meaning of their own (contract: Ports). */
export const Port = { Tunnel: 1, Gateway: 2, FirstPod: 3, Dropped: 65533, Local: 65534, Flood: 65535 } as const;
