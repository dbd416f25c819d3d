/** Manifests to objects: what is accepted, what is refused and how the message names the place, what only warns. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { SeineError } from '../../../src/errors.js';
import type { NetworkPolicy, Pod } from '../../../src/objects/model.js';
import { type ObjectInput, readManifest, readObjectFiles } from '../../../src/objects/read.js';

const policy = (spec: string, name = 'web'): string =>
  `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: ${name}}\nspec:\n${spec}`;
const readPolicy = (spec: string): NetworkPolicy =>
  readManifest(policy(spec), 'web.yaml').inputs[0]!.value as NetworkPolicy;
const readPod = (text: string): Pod => readManifest(text, 'pod.yaml').inputs[0]!.value as Pod;
const pod = (rest: string): string => `apiVersion: v1\nkind: Pod\nmetadata: {namespace: a, name: p}\n${rest}`;

function fault(text: string, file = 'web.yaml'): string {
  try {
    readManifest(text, file);
  } catch (error) {
    assert.ok(error instanceof SeineError, `not a SeineError: ${error}`);
    assert.equal(error.exitCode, 2);
    assert.doesNotMatch(error.message, /\n/);
    return error.message;
  }
  return assert.fail('accepted');
}
const keys = (inputs: readonly ObjectInput[]): string[] => inputs.map(({ kind, key }) => `${kind} ${key}`);

test('read: an empty port range names file, line, policy and rule', () => {
  const text = policy(`  podSelector: {}
  ingress:
    - ports: [{port: 80}]
    - ports: [{port: 81}]
    - ports:
        - protocol: TCP
          port: 900
          endPort: 800
`);
  assert.equal(
    fault(text),
    'web.yaml:12: NetworkPolicy default/web: ingress rule 2: ports[0]: port range 900-800 is empty; put the smaller port first',
  );
});

test('read: kubectl get -o yaml is taken as it is, with List, status and managedFields', () => {
  const text = `apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: shop, uid: 2b, managedFields: [{manager: kubectl}]}
  spec: {finalizers: [kubernetes]}
  status: {phase: Active}
- apiVersion: v1
  kind: Pod
  metadata: {name: web, namespace: shop, labels: {app: web}}
  spec: {nodeName: node-1, containers: [{name: c, ports: [{containerPort: 80, name: http}, {containerPort: 53, protocol: UDP}]}]}
  status: {phase: Running, podIP: 10.0.0.5, podIPs: [{ip: 10.0.0.5}, {ip: "fd00:0:0:0::5"}]}
`;
  const { inputs, warnings } = readManifest(text, 'all.yaml');
  assert.deepEqual(warnings, []);
  assert.deepEqual(keys(inputs), ['Namespace shop', 'Pod shop/web']);
  assert.deepEqual(inputs[0]!.value, { name: 'shop', labels: { 'kubernetes.io/metadata.name': 'shop' } });
  const { ips, namedPorts, nodeName, phase } = inputs[1]!.value as Pod;
  assert.deepEqual(ips, ['10.0.0.5', 'fd00::5']);
  assert.deepEqual(namedPorts, [{ name: 'http', protocol: 'TCP', port: 80 }]);
  assert.deepEqual([nodeName, phase], ['node-1', 'Running']);
});

test('read: a typed list gives its items their kind', () => {
  const text = JSON.stringify({
    apiVersion: 'v1',
    kind: 'NamespaceList',
    items: [{ metadata: { name: 'a' } }, { metadata: { name: 'b' } }],
  });
  assert.deepEqual(keys(readManifest(text, 'x.json').inputs), ['Namespace a', 'Namespace b']);
});

test('read: several documents, empty ones among them, and a byte order mark', () => {
  const text =
    '\uFEFF---\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n# nothing\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n';
  assert.deepEqual(keys(readManifest(text, 'x.yaml').inputs), ['Namespace a', 'Namespace b']);
  assert.deepEqual(readManifest('', 'x.yaml').inputs, []);
});

test('read: policyTypes absent means Ingress, and Egress where egress holds at least one rule', () => {
  const types = (spec: string) => {
    const { ingress, egress } = readPolicy(spec);
    return [ingress?.length ?? null, egress?.length ?? null];
  };
  assert.deepEqual(types('  podSelector: {}\n'), [0, null]);
  assert.deepEqual(types('  podSelector: {}\n  egress: []\n'), [0, null]);
  assert.deepEqual(types('  podSelector: {}\n  egress: [{}]\n'), [0, 1]);
  assert.deepEqual(types('  podSelector: {}\n  ingress: [{}]\n  policyTypes: [Egress]\n'), [null, 0]);
  assert.deepEqual(types('  podSelector: {}\n  policyTypes: [Ingress, Egress]\n'), [0, 0]);
});

test('read: a port without protocol is TCP; without port it is every port', () => {
  const { ingress } = readPolicy(
    '  podSelector: {}\n  ingress: [{ports: [{port: dns}, {protocol: UDP}, {protocol: SCTP, port: 7, endPort: 7}]}]\n',
  );
  assert.deepEqual(ingress![0]!.ports, [
    { protocol: 'TCP', port: 'dns' },
    { protocol: 'UDP' },
    { protocol: 'SCTP', port: 7, endPort: 7 },
  ]);
});

test('read: status.podIP alone counts as one address; a pod without any has none', () => {
  assert.deepEqual(readPod(pod('status: {podIP: 10.0.0.9}\n')).ips, ['10.0.0.9']);
  assert.deepEqual(readPod(pod('status: {phase: Pending}\n')).ips, []);
});

test('read: named ports of a sidecar count, those of an init container that ends do not', () => {
  const text = pod(`spec:
  initContainers:
    - {name: once, ports: [{name: once, containerPort: 1}]}
    - {name: side, restartPolicy: Always, ports: [{name: side, containerPort: 2}]}
  containers: [{name: main, ports: [{name: main, containerPort: 3}]}]
`);
  assert.deepEqual(
    readPod(text)
      .namedPorts.map(({ name }) => name)
      .sort(),
    ['main', 'side'],
  );
});

const RULE = (peer: string): string => policy(`  podSelector: {}\n  ingress: [{from: [${peer}]}]\n`);
const PORT = (port: string): string => policy(`  podSelector: {}\n  ingress: [{ports: [${port}]}]\n`);
const SELECTOR = (expression: string): string => policy(`  podSelector: {matchExpressions: [${expression}]}\n`);

/** What is wrong, the manifest, and what the message must say. */
const REFUSED: readonly [string, string, RegExp][] = [
  ['port 0', PORT('{port: 0}'), /ports\[0\]\.port: found 0; a port is a whole number from 1 to 65535/],
  ['port 65536', PORT('{port: 65536}'), /found 65536/],
  ['port 80.5', PORT('{port: 80.5}'), /found 80\.5/],
  ['a port name of 16 letters', PORT('{port: abcdefghijklmnop}'), /no port name/],
  ['a port name without a letter', PORT('{port: "80"}'), /no port name/],
  ['a port name with two dashes in a row', PORT('{port: a--b}'), /no port name/],
  ['protocol ICMP', PORT('{protocol: ICMP}'), /found "ICMP"; TCP, UDP or SCTP belongs here/],
  ['endPort beside a named port', PORT('{port: http, endPort: 90}'), /endPort: needs a numeric port/],
  ['endPort without port', PORT('{endPort: 90}'), /endPort: needs a numeric port/],
  ['a CIDR without length', RULE('{ipBlock: {cidr: 10.0.0.0}}'), /ipBlock\.cidr: "10\.0\.0\.0" is no CIDR/],
  ['a CIDR of 33 bits', RULE('{ipBlock: {cidr: 10.0.0.0/33}}'), /is no CIDR/],
  [
    'except outside its block',
    RULE('{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.1.0/25]}}'),
    /does not lie strictly within 10\.0\.0\.0\/24/,
  ],
  [
    'except as large as its block',
    RULE('{ipBlock: {cidr: 10.0.0.0/24, except: [10.0.0.0/24]}}'),
    /does not lie strictly within/,
  ],
  [
    'except of the other family',
    RULE('{ipBlock: {cidr: 10.0.0.0/8, except: ["fd00::/16"]}}'),
    /does not lie strictly within/,
  ],
  [
    'ipBlock beside a selector',
    RULE('{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}'),
    /ipBlock stands beside a selector/,
  ],
  ['an empty peer', RULE('{}'), /from\[0\]: is empty; give podSelector/],
  ['a peer that is text', RULE('web'), /found "web"; podSelector, namespaceSelector or ipBlock belongs here/],
  [
    'operator Equals',
    SELECTOR('{key: a, operator: Equals, values: [b]}'),
    /found "Equals"; In, NotIn, Exists or DoesNotExist/,
  ],
  ['In without values', SELECTOR('{key: a, operator: In}'), /values: is empty; In needs values/],
  ['Exists with values', SELECTOR('{key: a, operator: Exists, values: [b]}'), /Exists takes no values/],
  [
    'an unquoted number as label',
    policy('  podSelector: {matchLabels: {version: 2}}\n'),
    /2 is no label value \(quote numbers/,
  ],
  ['a label key with two slashes', policy('  podSelector: {matchLabels: {a/b/c: d}}\n'), /"a\/b\/c" is no label key/],
  [
    'policyTypes Both',
    policy('  podSelector: {}\n  policyTypes: [Both]\n'),
    /policyTypes\[0\]: found "Both"; Ingress or Egress/,
  ],
  ['ingress that is a map', policy('  podSelector: {}\n  ingress: {}\n'), /ingress: found a map; a list belongs here/],
  [
    'no spec',
    'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web}\n',
    /a NetworkPolicy needs a spec/,
  ],
  ['no name', 'apiVersion: v1\nkind: Pod\nmetadata: {namespace: a}\n', /every object needs a name/],
  ['a name in capitals', 'apiVersion: v1\nkind: Pod\nmetadata: {name: Web}\n', /"Web" is no DNS subdomain/],
  [
    'a namespace with a dot',
    'apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: a.b}\n',
    /"a\.b" is no DNS label/,
  ],
  [
    'a pod address of 10.0.0.256',
    pod('status: {podIP: 10.0.0.256}\n'),
    /status\.podIP: "10\.0\.0\.256" is no IP address/,
  ],
  [
    'containerPort 70000',
    pod('spec: {containers: [{ports: [{containerPort: 70000}]}]}\n'),
    /containerPort: found 70000/,
  ],
  [
    'a MAC of five octets',
    'apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {seine.dev/mac: "02:00:00:00:01"}}\n',
    /no MAC address/,
  ],
  [
    'port number 2 for a pod',
    'apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {seine.dev/port: "2"}}\n',
    /a port number from 3 to 65532/,
  ],
  [
    'a podCIDR that is none',
    'apiVersion: v1\nkind: Node\nmetadata: {name: n}\nspec: {podCIDRs: [10.0.0.1]}\n',
    /"10\.0\.0\.1" is no CIDR/,
  ],
  ['no kind', 'apiVersion: v1\nmetadata: {name: n}\n', /an object without kind/],
  ['a document that is text', 'hello\n', /found "hello" where an object/],
  [
    'an old apiVersion of a known kind',
    'apiVersion: networking.k8s.io/v1beta1\nkind: NetworkPolicy\nmetadata: {name: n}\n',
    /networking\.k8s\.io\/v1 is read/,
  ],
  [
    'a key twice',
    'apiVersion: v1\nkind: Pod\nkind: Node\nmetadata: {name: n}\n',
    /web\.yaml:3: not YAML: Map keys must be unique/,
  ],
  ['text that is not YAML', 'kind: [Pod\n', /not YAML/],
];
for (const [what, text, message] of REFUSED) {
  test(`read: refused: ${what}`, () => {
    const line = fault(text);
    assert.match(line, message);
    assert.match(line, /^web\.yaml:\d+: /);
  });
}

test('read: a fault in the second document has its line in the file', () => {
  const text = `apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n${policy('  podSelector: {}\n  policyTypes:\n    - Ingress\n    - Eggress\n')}`;
  assert.match(fault(text), /^web\.yaml:12: NetworkPolicy default\/web: policyTypes\[1\]/);
});

test('read: a fault in JSON has the line of its own object, not of the first with that key', () => {
  const item = (name: string, type: string) => ({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, annotations: { note: '"policyTypes": ["],{' } },
    spec: { podSelector: {}, policyTypes: [type] },
  });
  const text = JSON.stringify(
    { apiVersion: 'v1', kind: 'List', items: [item('a', 'Ingress'), item('b', 'Both')] },
    null,
    2,
  );
  const line = text.split('\n').findIndex((each) => each.includes('"Both"')) + 1;
  assert.match(fault(text, 'x.json'), new RegExp(`^x\\.json:${line}: NetworkPolicy default/b: policyTypes\\[0\\]`));
});

test('read: an alias without its anchor is refused with the line of its document', () => {
  assert.match(fault('---\n---\nmetadata: {name: *nowhere}\n'), /^web\.yaml:3: not YAML: Unresolved alias/);
});

test('read: an unknown field of a policy warns with its line', () => {
  const { inputs, warnings } = readManifest(policy('  podSelector: {}\n  ingres: [{}]\n'), 'web.yaml');
  assert.equal(inputs.length, 1);
  assert.deepEqual(warnings, ['web.yaml:6: NetworkPolicy default/web: spec: unknown field "ingres" ignored']);
});

test('read: another kind is ignored with one warning, which says when a policy is not enforced', () => {
  const deployment = 'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n';
  const antrea = 'apiVersion: crd.antrea.io/v1beta1\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\n';
  const upstream = 'apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: c}\n';
  const { inputs, warnings } = readManifest([deployment, antrea, deployment, upstream].join('---\n'), 'x.yaml');
  assert.deepEqual(inputs, []);
  assert.equal(warnings.length, 3);
  assert.match(warnings[0]!, /Deployment\.apps: kind ignored, not used \(2 objects\)/);
  assert.match(warnings[1]!, /ClusterNetworkPolicy\.crd\.antrea\.io: .*not enforced/);
  assert.match(warnings[2]!, /ClusterNetworkPolicy\.policy\.networking\.k8s\.io: .*not enforced/);
});

test("read: Antrea's own NetworkPolicy is not taken for Kubernetes's", () => {
  const { inputs, warnings } = readManifest(
    'apiVersion: crd.antrea.io/v1beta1\nkind: NetworkPolicy\nmetadata: {name: c}\n',
    'x.yaml',
  );
  assert.equal(inputs.length, 0);
  assert.equal(warnings.length, 1);
});

test('read: folders are read recursively, in order of names, and only YAML and JSON', () => {
  const folder = mkdtempSync(join(tmpdir(), 'seine-objects-'));
  try {
    const namespace = (name: string) => `apiVersion: v1\nkind: Namespace\nmetadata: {name: ${name}}\n`;
    mkdirSync(join(folder, 'b'));
    writeFileSync(join(folder, 'c.yaml'), namespace('c'));
    writeFileSync(join(folder, 'b', 'x.yml'), namespace('b'));
    writeFileSync(
      join(folder, 'a.json'),
      JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'a' } }),
    );
    writeFileSync(join(folder, 'README.md'), 'not: [an object');
    assert.deepEqual(keys(readObjectFiles([folder]).inputs), ['Namespace a', 'Namespace b', 'Namespace c']);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('read: a file that is not there is named', () => {
  assert.throws(() => readObjectFiles(['/nowhere/x.yaml']), {
    code: 'SEINE_ERR_OBJECT_INVALID',
    message: /^\/nowhere\/x\.yaml: can't be read/,
  });
});

test('read: whatever the text, either objects or a SeineError of one line', () => {
  const lines = fc.constantFrom(
    'apiVersion: v1',
    'kind: Pod',
    'kind: NetworkPolicy',
    'apiVersion: networking.k8s.io/v1',
    'metadata: {name: a}',
    'metadata:',
    'spec:',
    '  podSelector: {}',
    '  ingress:',
    '  - from: [{podSelector: null}]',
    '  - ports: [{port: 1}]',
    'items: [null, 3]',
    'kind: List',
    '---',
    '- a',
    '{',
    '}',
    '&a',
    '*a',
    '<<: *a',
    '? x',
    '"',
    '\t',
    '!!binary x',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.array(lines, { maxLength: 12 }).map((all) => all.join('\n')),
        fc.string(),
        fc.json(),
      ),
      (text) => {
        try {
          readManifest(text, 'x.yaml');
        } catch (error) {
          assert.ok(error instanceof SeineError, `${JSON.stringify(text)}: ${(error as Error).stack}`);
          assert.doesNotMatch(error.message, /\n/);
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('read: published manifests are read without a crash, their NetworkPolicies accepted', (t) => {
  const folder = join(
    process.env.SEINE_DATA ?? fileURLToPath(new URL('../../../../../shared/data', import.meta.url)),
    'manifests',
  );
  let files: string[];
  try {
    files = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
  } catch {
    assert.notEqual(process.env.CI, 'true', `SEINE_DATA: no manifests in ${folder}`);
    t.skip(`NO MANIFESTS in ${folder}: set SEINE_DATA`);
    return;
  }
  let policies = 0;
  for (const file of files) {
    try {
      policies += readObjectFiles([join(folder, file)]).inputs.filter(({ kind }) => kind === 'NetworkPolicy').length;
    } catch (error) {
      // One published file is no YAML.
      assert.ok(error instanceof SeineError && /: not YAML: /.test(error.message), `${file}: ${error}`);
    }
  }
  assert.ok(policies >= 15, `${policies} policies`);
});
