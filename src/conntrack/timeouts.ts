/**
 * Connection timeouts by Open vSwitch's names (CT_Timeout_Policy, ovs-vswitchd.conf.db(5)) and its userspace
 * datapath's defaults; SCTP as Linux (nf_conntrack_proto_sctp), any other protocol as UDP.
 */
export const TIMEOUT_DEFAULTS_SECONDS = {
  tcpSynSent: 30,
  tcpSynRecv: 30,
  tcpEstablished: 86_400,
  tcpFinWait: 900, // one side has sent FIN
  tcpTimeWait: 45, // both sides have sent FIN
  tcpClose: 30, // both FINs acknowledged, or RST
  udpFirst: 60,
  udpSingle: 60,
  udpMultiple: 30,
  icmpFirst: 60,
  icmpReply: 30,
  sctpCookieWait: 3,
  sctpCookieEchoed: 3,
  sctpEstablished: 210,
  sctpShutdownSent: 3,
  sctpShutdownRecd: 3,
  sctpShutdownAckSent: 3,
  sctpClosed: 10,
} as const;
export type TimeoutName = keyof typeof TIMEOUT_DEFAULTS_SECONDS;
export const TIMEOUT_NAMES = Object.keys(TIMEOUT_DEFAULTS_SECONDS) as TimeoutName[];
/** Keys that OVS's kernel datapath has and its userspace one, like seine, does not: accepted with a warning. */
export const TIMEOUT_NAMES_WITHOUT_EFFECT = [
  'tcpCloseWait',
  'tcpLastAck',
  'tcpSynSent2',
  'tcpRetransmit',
  'tcpUnack',
] as const;

export const Timeout = Object.fromEntries(TIMEOUT_NAMES.map((name, index) => [name, index])) as {
  readonly [K in TimeoutName]: number;
};

/** Timeouts in ns, indexed by Timeout.*; a kernel reads them from this array. */
export function timeoutsNs(overrides: Partial<Record<TimeoutName, number>>): Float64Array {
  return Float64Array.from(TIMEOUT_NAMES, (name) => (overrides[name] ?? TIMEOUT_DEFAULTS_SECONDS[name]) * 1e9);
}
