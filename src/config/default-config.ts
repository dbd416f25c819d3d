/**
 * The configuration without a file: what the schema of read.ts makes of an empty one (test/unit/config/read.test.ts compares
 * them), written out so that a command without a file need not load schema and YAML.
 */
import type { Config } from './config.js';

export const defaultConfig = (workers: number): Config => ({
  node: null,
  ovsBridge: 'br-int',
  hostGateway: 'gw0',
  tunnelType: 'vxlan',
  tunnelPort: 0,
  tunnelCsum: false,
  trafficEncapMode: 'encap',
  defaultMTU: 0,
  serviceCIDR: '10.96.0.0/12',
  serviceCIDRv6: null,
  listen: {
    unix: 'seine.sock',
    grpc: ['unix:seine-grpc.sock', '127.0.0.1:50051'],
    memif: null,
    http: '127.0.0.1:9464',
  },
  workers,
  conntrack: {
    max: 1_048_576,
    maxPerEndpoint: null,
    tcpLoose: true,
    tcpLiberal: false,
    verifyChecksums: false,
    timeouts: {},
  },
  policy: { existingConnections: 'recheck', l7: 'refuse' },
  netflow: {
    targets: [],
    engineId: null,
    engineType: null,
    addToInterface: false,
    activeTimeout: 600,
    idleTimeout: 10,
    versions: [5],
    icmpPort: 'destination',
    octets: 'layer3',
    source: null,
  },
  ipfix: { targets: [] },
  sflow: { targets: [] },
  mirrors: [],
  stateFile: null,
  trafficEncryptionMode: 'none',
  policyLog: null,
  ovsdb: null,
});
