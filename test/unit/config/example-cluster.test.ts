/** The built-in example cluster is a sound manifest, and its policies say what they are there to show. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EXAMPLE_CLUSTER, EXAMPLE_NODE } from '../../../src/config/example-cluster.js';
import { assignPorts } from '../../../src/objects/ports.js';
import { readManifest } from '../../../src/objects/read.js';
import { applyObjects, emptyObjects } from '../../../src/objects/store.js';

const { inputs, warnings } = readManifest(EXAMPLE_CLUSTER, 'example cluster');
const { objects, changes } = applyObjects(emptyObjects(), inputs);

test('example: the manifest is read without a warning, no object twice', () => {
  assert.deepEqual(warnings, []);
  assert.ok(changes.every(({ change }) => change === 'created'));
});

test('example: a dozen local pods in three namespaces, two remote ones, no address or MAC twice', () => {
  const { ports } = assignPorts(objects, EXAMPLE_NODE, 'gw0', null);
  assert.equal(ports.filter(({ kind }) => kind === 'pod').length, 12);
  const pods = [...objects.pods.values()];
  assert.equal(pods.length, 14);
  assert.equal(objects.namespaces.size, 3);
  const addresses = pods.flatMap(({ ips }) => ips);
  assert.equal(new Set(addresses).size, 28);
  assert.equal(new Set(pods.map(({ annotations }) => annotations['seine.dev/mac'])).size, 14);
});

test('example: every service has the endpoints that its selector names', () => {
  for (const { namespace, name, selector } of objects.services.values()) {
    const slice = objects.endpointSlices.get(`${namespace}/${name}-1`);
    const [key, value] = Object.entries(selector!)[0]!;
    const selected = [...objects.pods.values()].filter(
      (pod) => pod.namespace === namespace && pod.labels[key] === value,
    );
    assert.ok(selected.length > 0, name);
    assert.deepEqual(
      slice?.endpoints.map((endpoint) => (endpoint.addresses as string[])[0]).sort(),
      selected.map(({ ips }) => ips[0]!).sort(),
    );
  }
});

test('example: the policies show a default deny, named ports, a port range, ipBlock with except, and DNS', () => {
  const policies = [...objects.networkPolicies.values()];
  const rules = policies.flatMap(({ ingress, egress }) => [...(ingress ?? []), ...(egress ?? [])]);
  const ports = rules.flatMap((rule) => rule.ports);
  assert.ok(policies.some(({ ingress, egress }) => ingress?.length === 0 && egress?.length === 0));
  assert.ok(ports.some(({ port }) => port === 'http'));
  assert.ok(ports.some(({ endPort }) => endPort !== undefined));
  assert.ok(ports.some(({ protocol, port }) => protocol === 'UDP' && port === 'dns'));
  assert.ok(rules.some(({ peers }) => peers.some(({ ipBlock }) => (ipBlock?.except.length ?? 0) > 0)));
});
