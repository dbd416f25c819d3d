/** Connections through the whole engine: states, limits, changes of policy, records. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EndReason } from '../../../src/flow/flow-record.js';
import { counterIndex } from '../../../src/metrics/shared-counters.js';
import { denyAll, pod, TestEngine } from '../engine-run.js';
import { carriedPacket, fragments4, icmp4, tcp4, udp4 } from '../frames.js';

const A = '10.0.0.1',
  B = '10.0.0.2';
const PODS = [pod('a', A, { app: 'a' }), pod('b', B, { app: 'b' })];
const [PORT_A, PORT_B] = [3, 4];
const out = { src: A, dst: B, sport: 1234, dport: 80 };
const back = { src: B, dst: A, sport: 80, dport: 1234 };

async function open(t: TestEngine): Promise<void> {
  await t.one(PORT_A, tcp4({ ...out, flags: 'S', seq: 1000 }));
  await t.one(PORT_B, tcp4({ ...back, flags: 'SA', seq: 5000, ack: 1001 }));
  await t.one(PORT_A, tcp4({ ...out, flags: 'A', seq: 1001, ack: 5001 }));
}

test('conntrack: ct is new until a reply was seen, then established; replies say so and name no policy', async (t) => {
  const e = await TestEngine.start({}, PODS);
  t.after(() => e.close());
  assert.deepEqual((await e.one(PORT_A, tcp4({ ...out, flags: 'S', seq: 1000 }))).ct, ['new', 'tracked']);
  assert.deepEqual((await e.one(PORT_A, tcp4({ ...out, flags: 'S', seq: 1000 }))).ct, ['new', 'tracked']);
  const reply = await e.one(PORT_B, tcp4({ ...back, flags: 'SA', seq: 5000, ack: 1001 }));
  assert.deepEqual([reply.ct, reply.rule, reply.outPort], [['established', 'reply', 'tracked'], 0, PORT_A]);
  assert.deepEqual((await e.one(PORT_A, tcp4({ ...out, flags: 'A', seq: 1001, ack: 5001 }))).ct, [
    'established',
    'tracked',
  ]);
});

test('conntrack: all packets of a connection may come in one batch, in order', async (t) => {
  const e = await TestEngine.start({}, PODS);
  t.after(() => e.close());
  const rows = await e.send(
    { inPort: PORT_A, frame: tcp4({ ...out, flags: 'S', seq: 1000 }) },
    { inPort: PORT_B, frame: tcp4({ ...back, flags: 'SA', seq: 5000, ack: 1001 }) },
    { inPort: PORT_A, frame: tcp4({ ...out, flags: 'A', seq: 1001, ack: 5001 }) },
    { inPort: PORT_A, frame: tcp4({ ...out, flags: 'FA', seq: 1001, ack: 5001 }) },
    { inPort: PORT_B, frame: tcp4({ ...back, flags: 'FA', seq: 5001, ack: 1002 }) },
    { inPort: PORT_A, frame: tcp4({ ...out, flags: 'A', seq: 1002, ack: 5002 }) },
  );
  assert.deepEqual(
    rows.map(({ verdict }) => verdict),
    new Array(6).fill('forward'),
  );
  await e.engine.finish();
  assert.deepEqual(e.records.map(({ packets, endReason }) => [Number(packets), endReason]).sort(), [
    [2, EndReason.End],
    [4, EndReason.End],
  ]);
});

test('conntrack: a SYN+ACK without a SYN is conntrack-invalid; with tcpLoose false so is an ACK', async (t) => {
  for (const tcpLoose of [true, false]) {
    const e = await TestEngine.start({ conntrack: { tcpLoose } }, PODS);
    t.after(() => e.close());
    assert.equal((await e.one(PORT_A, tcp4({ ...out, flags: 'SA', seq: 1 }))).reason, 'conntrack-invalid');
    assert.equal(
      (await e.one(PORT_A, tcp4({ ...out, sport: 2, flags: 'A', seq: 1 }))).reason,
      tcpLoose ? 'none' : 'conntrack-invalid',
    );
  }
});

test('conntrack: ICMP errors are related to a connection that lives, in either direction, and invalid to none', async (t) => {
  const e = await TestEngine.start({}, PODS);
  t.after(() => e.close());
  const sent = udp4({ src: A, dst: B, sport: 5000, dport: 53 });
  const error = icmp4({ src: B, dst: A, type: 3, code: 3, payload: carriedPacket(sent) } as never);
  assert.equal((await e.one(PORT_B, error)).reason, 'conntrack-invalid');
  await e.one(PORT_A, sent);
  const related = await e.one(PORT_B, error);
  assert.deepEqual([related.verdict, related.ct, related.outPort], ['forward', ['related', 'tracked'], PORT_A]);
});

test('conntrack: an echo reply without its request is invalid; another identifier is another connection', async (t) => {
  const e = await TestEngine.start({}, PODS);
  t.after(() => e.close());
  assert.equal((await e.one(PORT_A, icmp4({ src: A, dst: B, type: 8, id: 7 } as never))).verdict, 'forward');
  assert.equal((await e.one(PORT_B, icmp4({ src: B, dst: A, type: 0, id: 7 } as never))).verdict, 'forward');
  assert.equal((await e.one(PORT_B, icmp4({ src: B, dst: A, type: 0, id: 8 } as never))).reason, 'conntrack-invalid');
});

test("conntrack: timeouts are those that are set, on the packets' clock", async (t) => {
  const e = await TestEngine.start({ conntrack: { timeouts: { udp_first: 5, udpMultiple: 20 } } }, PODS);
  t.after(() => e.close());
  const ask = () => e.one(PORT_A, udp4(out));
  await ask();
  e.advance(5);
  assert.deepEqual((await ask()).ct, ['new', 'tracked']);
  await e.one(PORT_B, udp4(back));
  e.advance(19.999);
  assert.deepEqual((await ask()).ct, ['established', 'tracked']);
  e.advance(20);
  assert.deepEqual((await ask()).ct, ['new', 'tracked'], 'expired: begins anew');
});

test('conntrack: a table full of established connections refuses new ones: conntrack-full', async (t) => {
  const e = await TestEngine.start({ conntrack: { max: 4, maxPerEndpoint: 4 } }, [...PODS, pod('c', '10.0.0.3')]);
  t.after(() => e.close());
  for (let i = 0; i < 4; i++) {
    const ports = { sport: 2000 + i, dport: 53 };
    const from = i < 2 ? A : B;
    assert.equal(
      (await e.one(i < 2 ? PORT_A : PORT_B, udp4({ src: from, dst: '10.0.0.3', ...ports }))).verdict,
      'forward',
    );
    assert.equal(
      (await e.one(5, udp4({ src: '10.0.0.3', dst: from, sport: 53, dport: ports.sport }))).ct[0],
      'established',
    );
  }
  const refused = await e.one(PORT_A, udp4({ src: A, dst: '10.0.0.3', sport: 9, dport: 53 }));
  assert.deepEqual([refused.verdict, refused.reason], ['drop', 'conntrack-full']);
  await e.engine.finish();
  assert.ok(
    e.records.some(({ srcPort, endReason }) => srcPort === 9 && endReason === EndReason.Resources),
    'it has a record of its own',
  );
});

test('conntrack: eviction order: unreplied connections give way to new ones from another pod', async (t) => {
  const e = await TestEngine.start({ conntrack: { max: 8, maxPerEndpoint: 6 } }, PODS);
  t.after(() => e.close());
  await open(e);
  for (let i = 0; i < 5; i++) assert.equal((await e.one(PORT_A, udp4({ ...out, sport: 2000 + i }))).verdict, 'forward');
  assert.equal((await e.one(PORT_A, udp4({ ...out, sport: 3000 }))).reason, 'endpoint-limit');
  for (let i = 0; i < 4; i++)
    assert.equal((await e.one(PORT_B, udp4({ ...back, dport: 4000 + i }))).verdict, 'forward', `other pod's flow ${i}`);
  const evicted = e.engine.counters().reduce((sum, block) => sum + block.read(counterIndex.evicted(0)), 0n);
  assert.ok(evicted > 0n);
  assert.equal((await e.one(PORT_A, tcp4({ ...out, flags: 'A', seq: 1001, ack: 5001 }))).ct[0], 'established');
});

for (const mode of ['recheck', 'keep', 'reset'] as const) {
  test(`policy: existingConnections ${mode}: an open connection that a new policy denies is ${mode === 'keep' ? 'kept' : 'cut'}`, async (t) => {
    const e = await TestEngine.start({ policy: { existingConnections: mode } }, PODS);
    t.after(() => e.close());
    await open(e);
    await e.engine.apply(JSON.stringify(denyAll('deny', { app: 'b' })), { origin: 'test' });
    const forth = await e.one(PORT_A, tcp4({ ...out, flags: 'A', seq: 1001, ack: 5001 }));
    if (mode === 'keep') {
      assert.equal(forth.verdict, 'forward');
      assert.equal(
        (await e.one(PORT_A, tcp4({ ...out, sport: 9, flags: 'S', seq: 1 }))).reason,
        'ingress-default-deny',
        'new ones are judged',
      );
      return;
    }
    assert.deepEqual(
      [forth.verdict, forth.reason, forth.stage],
      [mode === 'reset' ? 'reject' : 'drop', 'ingress-default-deny', 'IngressSecurity'],
    );
    assert.equal(e.engine.rule(forth.rule)?.policy, 'deny');
    assert.equal(e.emitted.length, mode === 'reset' ? 1 : 0);
    const reply = await e.one(PORT_B, tcp4({ ...back, flags: 'A', seq: 5001, ack: 1001 }));
    assert.equal(reply.reason, 'ingress-default-deny', 'the other direction is cut too');
    await e.engine.delete('NetworkPolicy', 'default', 'deny');
    assert.equal(
      (await e.one(PORT_A, tcp4({ ...out, flags: 'A', seq: 1001, ack: 5001 }))).verdict,
      'forward',
      'admitted again',
    );
  });
}

test('policy: a cut is found out by a reply as well', async (t) => {
  const e = await TestEngine.start({}, PODS);
  t.after(() => e.close());
  await open(e);
  await e.engine.apply(JSON.stringify(denyAll('deny', { app: 'b' })), { origin: 'test' });
  const reply = await e.one(PORT_B, tcp4({ ...back, flags: 'A', seq: 5001, ack: 1001 }));
  assert.equal(reply.reason, 'ingress-default-deny');
});

test('policy: the reverse of a denied connection is judged for itself', async (t) => {
  const e = await TestEngine.start({}, [...PODS, denyAll('deny', { app: 'b' })]);
  t.after(() => e.close());
  assert.equal((await e.one(PORT_A, udp4(out))).reason, 'ingress-default-deny');
  assert.equal((await e.one(PORT_B, udp4(back))).verdict, 'forward', 'b may speak first');
  assert.equal((await e.one(PORT_A, udp4(out))).verdict, 'forward', 'then a may reply');
});

test('policy: a denied connection stays denied at the same rule, in a record of its own', async (t) => {
  const e = await TestEngine.start({}, [...PODS, denyAll('deny', { app: 'a' }, 'Egress')]);
  t.after(() => e.close());
  const first = await e.one(PORT_A, udp4(out));
  const second = await e.one(PORT_A, udp4(out));
  assert.deepEqual(second, first);
  assert.deepEqual([first.reason, first.stage, first.outPort], ['egress-default-deny', 'EgressSecurity', 65533]);
  await e.engine.finish();
  assert.deepEqual(
    e.records.map(({ packets, outPort, egressRule }) => [Number(packets), outPort, egressRule]),
    [[2, 65533, first.rule]],
  );
});

test('policy: an apply is atomic: a wrong object changes nothing', async (t) => {
  const e = await TestEngine.start({}, PODS);
  t.after(() => e.close());
  const wrong = {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'x' },
    spec: { podSelector: {}, ingress: [{ ports: [{ port: 900, endPort: 800 }] }] },
  };
  await assert.rejects(
    e.engine.apply(JSON.stringify([denyAll('deny', { app: 'b' }), wrong]), { origin: 'm.json' }),
    /m\.json:\d+: NetworkPolicy default\/x: .*900-800 is empty/,
  );
  assert.equal((await e.one(PORT_A, udp4(out))).verdict, 'forward');
  assert.equal(e.engine.policies().length, 0);
});

test('records: idle and active timeouts end at the exact nanosecond, the packet there opens the next', async (t) => {
  const e = await TestEngine.start({ netflow: { idleTimeout: 10, activeTimeout: 25 } }, PODS);
  t.after(() => e.close());
  const start = e.nowNs;
  for (const step of [0, 9.999999999, 10, 9, 9]) {
    e.advance(step);
    await e.one(PORT_A, udp4(out));
  }
  await e.engine.finish();
  const seconds = (ns: bigint) => Number(ns - start) / 1e9;
  assert.deepEqual(
    e.records.map(({ packets, startNs, exportNs, endReason }) => [
      Number(packets),
      seconds(startNs),
      seconds(exportNs),
      endReason,
    ]),
    [
      [2, 0, 19.999999999, EndReason.Idle],
      [3, 19.999999999, 37.999999999, EndReason.Forced],
    ],
  );
});

test('spoof guard: a pod speaks with its own addresses only; a spoofed packet has a record of its own', async (t) => {
  const e = await TestEngine.start({}, PODS);
  t.after(() => e.close());
  await e.one(PORT_A, udp4(out));
  const spoofed = await e.one(PORT_B, udp4(out));
  assert.deepEqual([spoofed.reason, spoofed.stage, spoofed.ct], ['spoofed', 'SpoofGuard', []]);
  assert.equal((await e.one(77, udp4(out))).reason, 'unknown-port');
  await e.engine.finish();
  assert.deepEqual(e.records.map(({ inPort, packets }) => [inPort, Number(packets)]).sort(), [
    [3, 1],
    [4, 1],
    [77, 1],
  ]);
});

test('fragments: later ones go with their first, TCP, UDP and ICMP alike; one that comes first is judged without ports', async (t) => {
  const port53 = {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'p', namespace: 'default' },
    spec: { podSelector: { matchLabels: { app: 'b' } }, ingress: [{ ports: [{ protocol: 'UDP', port: 53 }] }] },
  };
  const e = await TestEngine.start({}, [...PODS, port53]);
  t.after(() => e.close());
  const payload = new Uint8Array(3000);
  const [first, ...later] = fragments4(udp4({ ...out, dport: 53, payload, id: 77 } as never), 1480);
  assert.equal((await e.one(PORT_A, first!)).verdict, 'forward');
  for (const fragment of later) assert.equal((await e.one(PORT_A, fragment)).verdict, 'forward');
  const orphan = fragments4(udp4({ ...out, dport: 53, payload, id: 78 } as never), 1480)[1]!;
  assert.equal((await e.one(PORT_A, orphan)).reason, 'ingress-default-deny', 'rules with ports do not match it');
  for (const fragment of fragments4(icmp4({ src: B, dst: A, type: 8, payload } as never), 1480)) {
    assert.equal((await e.one(PORT_B, fragment)).verdict, 'forward', 'a large ping');
  }
  await e.engine.finish();
  const udp = e.records.filter(({ protocol, dstPort }) => protocol === 17 && dstPort === 53);
  assert.equal(udp.length, 1);
  assert.equal(Number(udp[0]!.packets), later.length + 1, 'all in one record');
});
