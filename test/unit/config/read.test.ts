/** The configuration: defaults, keys of antrea-agent.conf, refusals with line and nearest name, what only warns. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { nearest, parseConfig, parseTarget, readConfig } from '../../../src/config/read.js';
import { SeineError } from '../../../src/errors.js';

const config = (text: string) => parseConfig(text, 'seine.yaml').config;
const warnings = (text: string) => parseConfig(text, 'seine.yaml').warnings;

test('config: the defaults are those of the contract', () => {
  const { workers, ...rest } = config('');
  assert.ok(workers >= 1);
  assert.deepEqual(rest, {
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
  assert.deepEqual(readConfig(null), parseConfig('', 'empty file'));
});

test('config: workers auto is the number of processors, a number is taken as it is', () => {
  assert.ok(Number.isInteger(config('workers: auto').workers));
  assert.equal(config('workers: 3').workers, 3);
});

test('config: timeouts are taken in camelCase and as OVS writes them', () => {
  assert.deepEqual(config('conntrack: {timeouts: {tcp_syn_sent: 5, udpFirst: 7, icmp_reply: 3}}').conntrack.timeouts, {
    tcpSynSent: 5,
    udpFirst: 7,
    icmpReply: 3,
  });
});

test("config: a timeout of Linux's tracker only warns", () => {
  assert.match(warnings('conntrack: {timeouts: {tcp_close_wait: 4}}')[0]!, /tcpCloseWait.*no effect/);
});

test("config: OVSDB's NetFlow names are taken, and the article's add_to_interface", () => {
  const { netflow } = config('netflow: {add_id_to_interface: true, engine_id: 10, engine_type: 0, active_timeout: -1}');
  assert.deepEqual(
    [netflow.addToInterface, netflow.engineId, netflow.engineType, netflow.activeTimeout],
    [true, 10, 0, -1],
  );
  assert.equal(config('netflow: {add_to_interface: true}').netflow.addToInterface, true);
});

test('config: one gRPC address may stand without a list; null listens nowhere', () => {
  assert.deepEqual(config('listen: {grpc: "unix:x.sock"}').listen.grpc, ['unix:x.sock']);
  assert.deepEqual(config('listen: {grpc: null}').listen.grpc, []);
});

test("config: keys of Antrea's agent that seine does not use warn with their line; empty ones mean not set", () => {
  const text =
    'featureGates:\n  AntreaPolicy: true\novsBridge: br-x\nkubeAPIServerOverride: ""\nserviceCIDR: ""\nserviceCIDRv6:\n';
  const { config: read, warnings: told } = parseConfig(text, 'antrea-agent.conf');
  assert.equal(read.ovsBridge, 'br-x');
  assert.equal(read.serviceCIDR, '10.96.0.0/12');
  assert.match(told[0]!, /^antrea-agent\.conf:1: featureGates: /);
  assert.match(told[1]!, /^antrea-agent\.conf:4: kubeAPIServerOverride: /);
});

test('config: ovsDatapathType and enableIPSecTunnel: false are taken in silence', () => {
  assert.deepEqual(warnings('ovsDatapathType: system\nenableIPSecTunnel: false\n'), []);
});

test('config: a whole antrea-config ConfigMap is taken', () => {
  const text =
    'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: antrea-config}\ndata:\n  antrea-agent.conf: |\n    ovsBridge: br-y\n    hostGateway: antrea-gw0\n';
  const read = config(text);
  assert.deepEqual([read.ovsBridge, read.hostGateway], ['br-y', 'antrea-gw0']);
});

test('config: what this version does not do is refused or warned of, never silently dropped', () => {
  for (const text of [
    'tunnelType: geneve',
    'enableIPSecTunnel: true',
    'trafficEncryptionMode: wireGuard',
    'trafficEncapMode: hybrid',
    'netflow: {versions: [9]}',
  ]) {
    assert.throws(
      () => config(text),
      { code: 'SEINE_ERR_CONFIG_INVALID', message: /^seine\.yaml:1: .*not supported/ },
      text,
    );
  }
  for (const text of [
    'ipfix: {targets: ["a:4739"]}',
    'sflow: {targets: ["a:6343"]}',
    'mirrors: [{name: m}]',
    'ovsdb: {server: "unix:db.sock", bridge: br0}',
  ]) {
    assert.match(warnings(text)[0] ?? '', /has no effect in this version/, text);
  }
});

/** Text, and what the message must say. */
const REFUSED: readonly [string, RegExp][] = [
  ['node: a\ntunnelTyp: vxlan', /^seine\.yaml:2: unknown setting "tunnelTyp"; did you mean tunnelType\?$/],
  ['netflow:\n  targetz: []', /^seine\.yaml:2: unknown setting "netflow\.targetz"; did you mean targets\?$/],
  [
    'netflow:\n  targets:\n    - 10.0.0.1:2055\n    - "::1:2055"',
    /^seine\.yaml:4: netflow\.targets\.1: .*"::1:2055" is no collector; host:port or \[v6\]:port/,
  ],
  ['netflow: {targets: ["10.0.0.1"]}', /"10\.0\.0\.1" is no collector/],
  ['netflow: {targets: ["10.0.0.1:0"]}', /is no collector/],
  ['netflow: {engineId: 256}', /netflow\.engineId: found 256/],
  ['netflow: {engineType: -1}', /netflow\.engineType: found -1/],
  ['netflow: {activeTimeout: -2}', /netflow\.activeTimeout: found -2/],
  ['netflow: {idleTimeout: 0}', /netflow\.idleTimeout: found 0/],
  ['netflow: {icmpPort: both}', /"destination"\|"source"/],
  ['netflow: {source: eth0}', /an IP address of this machine/],
  ['workers: 0', /workers: found 0/],
  ['workers: "2"', /workers: found "2"; auto or a whole number/],
  ['netflow: {versions: [7]}', /netflow\.versions\.0: found 7; 5 belongs here/],
  ['netflow: {activeTimeout: -0.5}', /netflow\.activeTimeout: found -0\.5; seconds, 0 for 600, or -1 for never/],
  ['conntrack: {max: 0}', /conntrack\.max: found 0/],
  ['conntrack: {timeouts: {tcp_foo: 5}}', /unknown setting "conntrack\.timeouts\.tcpFoo"/],
  ['policy: {existingConnections: forget}', /"recheck"\|"keep"\|"reset"/],
  ['serviceCIDR: 10.96.0.0', /a CIDR such as 10\.96\.0\.0\/12/],
  ['tunnelPort: 65536', /tunnelPort: found 65536/],
  ['- a', /found a list; a map of settings belongs here/],
  ['node: [', /^seine\.yaml:\d: not YAML/],
  ['node: a\nnode: b', /^seine\.yaml:2: not YAML: Map keys must be unique/],
  ['kind: ConfigMap\ndata: {}', /a ConfigMap without data/],
  ['constructor: 1', /unknown setting "constructor"/],
  ['__proto__: 1', /unknown setting "__proto__"/],
];
for (const [text, message] of REFUSED) {
  test(`config: refused: ${JSON.stringify(text)}`, () => {
    assert.throws(() => config(text), { code: 'SEINE_ERR_CONFIG_INVALID', message });
  });
}

test('config: a file that is not there is named', () => {
  assert.throws(() => readConfig('/nowhere/seine.yaml'), {
    code: 'SEINE_ERR_CONFIG_INVALID',
    message: /^\/nowhere\/seine\.yaml: can't be read/,
  });
});

test('config: collectors are host:port or [v6]:port', () => {
  assert.deepEqual(parseTarget('collector.example:2055'), { host: 'collector.example', port: 2055 });
  assert.deepEqual(parseTarget('[2001:db8::1]:9995'), { host: '2001:db8::1', port: 9995 });
  for (const text of ['', 'a', ':1', 'a:', 'a:65536', '[::1]', '[10.0.0.256]:1', 'a b:1', '2001:db8::1:2055'])
    assert.equal(parseTarget(text), null, text);
});

test('config: the nearest known name is proposed, a far one is not', () => {
  assert.equal(nearest('ovsbridge', ['ovsBridge', 'node']), '; did you mean ovsBridge?');
  assert.equal(nearest('colour', ['ovsBridge', 'node']), '');
});

test('config: an alias without its anchor is refused', () => {
  assert.throws(() => config('node: *nowhere'), {
    code: 'SEINE_ERR_CONFIG_INVALID',
    message: /^seine\.yaml: not YAML: Unresolved alias/,
  });
});

test('config: whatever the text, a configuration or a SeineError of one line', () => {
  const key = fc.constantFrom(
    'node',
    'listen',
    'netflow',
    'conntrack',
    'policy',
    'workers',
    'ipfix',
    'mirrors',
    'ovsdb',
    'kind',
    'data',
    'agent',
    'tunnelType',
  );
  const text = fc.oneof(
    fc.string(),
    fc.json(),
    fc.dictionary(key, fc.jsonValue(), { maxKeys: 4 }).map((value) => JSON.stringify(value)),
  );
  fc.assert(
    fc.property(text, (source) => {
      try {
        parseConfig(source, 'x.yaml');
      } catch (error) {
        assert.ok(error instanceof SeineError, `${JSON.stringify(source)}: ${(error as Error).stack}`);
        assert.doesNotMatch(error.message, /\n/);
      }
    }),
    { numRuns: 1000 },
  );
});
