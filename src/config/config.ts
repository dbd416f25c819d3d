/** The configuration (contract §2), resolved: every key present. Read and validated by config/read.ts. */
import type { TimeoutName } from '../conntrack/timeouts.js';

export interface ConntrackConfig {
  max: number;
  /** Connections that one endpoint may have; null = a quarter of max. */
  maxPerEndpoint: number | null;
  tcpLoose: boolean;
  tcpLiberal: boolean;
  verifyChecksums: boolean;
  /** Seconds, by OVS's CT_Timeout_Policy names in camelCase. */
  timeouts: Partial<Record<TimeoutName, number>>;
}
export interface NetflowConfig {
  targets: string[];
  engineId: number | null;
  engineType: number | null;
  addToInterface: boolean;
  /** Seconds; 0 = 600, −1 = never. */
  activeTimeout: number;
  idleTimeout: number;
  versions: number[];
  icmpPort: 'destination' | 'source';
  octets: 'layer3' | 'frame';
  source: string | null;
}
export type ExistingConnections = 'recheck' | 'keep' | 'reset';

export interface Config {
  node: string | null;
  ovsBridge: string;
  hostGateway: string;
  tunnelType: 'vxlan' | 'geneve' | 'gre' | 'stt';
  tunnelPort: number;
  tunnelCsum: boolean;
  trafficEncapMode: 'encap' | 'noEncap' | 'hybrid' | 'networkPolicyOnly';
  defaultMTU: number;
  serviceCIDR: string | null;
  serviceCIDRv6: string | null;
  listen: { unix: string | null; grpc: string[]; memif: string | null; http: string | null };
  /** Number of shards; `auto` resolved to the number of processors. */
  workers: number;
  conntrack: ConntrackConfig;
  policy: { existingConnections: ExistingConnections; l7: 'refuse' | 'ignore' };
  netflow: NetflowConfig;
  ipfix: Record<string, unknown> & { targets: string[] };
  sflow: Record<string, unknown> & { targets: string[] };
  mirrors: unknown[];
  stateFile: string | null;
  trafficEncryptionMode: 'none' | 'ipsec';
  policyLog: string | null;
  ovsdb: { server: string; bridge: string } | null;
}
