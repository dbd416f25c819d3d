/** A replay says the same for any number of workers and any size of batch, octet for octet. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';
import { generateCapture } from '../../bench/generate-capture.js';
import { concat, ethernet, file, ipv4, type Packet, pcap, tcp4, udp, udp4 } from '../unit/capture/captures.js';
import { runReplay } from './run-replay.js';

const pod = (name: string, ip: string): string =>
  `{kind: Pod, apiVersion: v1, metadata: {name: ${name}, namespace: default, labels: {app: ${name}}}, spec: {containers: [{name: c, image: i}]}, status: {phase: Running, podIPs: [{ip: ${ip}}]}}\n---\n`;
const MANIFEST = `${pod('a', '10.0.0.1')}${pod('b', '10.0.0.2')}${pod('c', '10.0.0.3')}
{kind: NetworkPolicy, apiVersion: networking.k8s.io/v1, metadata: {name: only-a, namespace: default}, spec: {podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]}}
`;

/** Packets of three pods and the outside: allowed, denied, too long, too short, carried. */
function mixed(): Packet[] {
  const packets: Packet[] = [];
  let state = 7;
  const below = (bound: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 16) % bound;
  };
  for (let i = 0; i < 3000; i++) {
    const ends = {
      src: `10.0.0.${1 + below(4)}`,
      dst: `10.0.0.${1 + below(4)}`,
      srcPort: 1000 + below(40),
      dstPort: 80 + below(3),
    };
    const kind = below(20);
    const frame = ethernet(kind < 8 ? tcp4({ ...ends, flags: [2, 16, 17, 4][below(4)]! }) : udp4(ends));
    const timeNs = 1_700_000_000_000_000_000n + BigInt(i) * 20_000_000n - BigInt(below(3)) * 30_000_000n;
    if (kind === 19) packets.push({ timeNs, octets: frame, original: 70_000 });
    else if (kind === 18)
      packets.push({ timeNs, octets: frame.subarray(0, below(frame.length)), original: frame.length });
    else if (kind === 17)
      packets.push({
        timeNs,
        octets: ethernet(
          ipv4({ payload: udp(1, 4789, concat(Uint8Array.of(below(2) * 8, 0, 0, 0, 0, 0, 0, 0), frame)) }),
        ),
      });
    else packets.push({ timeNs, octets: frame });
  }
  return packets;
}

function generated(): string {
  const pieces: Buffer[] = [];
  generateCapture({ packets: 20_000, flows: 1500, seed: 5, seconds: 120, snapLength: 96 }, (piece) =>
    pieces.push(Buffer.from(piece)),
  );
  return file(Buffer.concat(pieces));
}

const RUNS: [string, { workers: number; rowsPerBatch?: number }][] = [
  ['two workers', { workers: 2 }],
  ['four workers', { workers: 4 }],
  ['batches of 7', { workers: 1, rowsPerBatch: 7 }],
  ['three workers with batches of 100', { workers: 3, rowsPerBatch: 100 }],
];
const SUBJECTS: [string, Parameters<typeof runReplay>[0]][] = [
  ['with policies', { captures: [file(pcap(mixed(), { nanoseconds: true }))], manifest: MANIFEST }],
  [
    'with policies, decapsulated',
    { captures: [file(pcap(mixed(), { nanoseconds: true }))], manifest: MANIFEST, decapsulate: true },
  ],
  ['metering many flows', { captures: [generated()] }],
];
for (const [title, options] of SUBJECTS) {
  test(`golden: ${title}: the same lines, records and frames for any workers and batches`, async (t) => {
    const one = await runReplay(options);
    assert.equal(one.error, null);
    assert.ok(one.flows.length > 50);
    for (const [name, { workers, rowsPerBatch }] of RUNS) {
      await t.test(name, async () => {
        const other = await runReplay({
          ...options,
          config: { workers },
          ...(rowsPerBatch === undefined ? {} : { rowsPerBatch }),
        });
        assert.equal(other.error, null);
        assert.equal(firstDifference(other.verdictText, one.verdictText), null);
        assert.equal(firstDifference(other.flowText, one.flowText), null);
        assert.equal(Buffer.compare(readFileSync(other.written), readFileSync(one.written)), 0, 'frames as they left');
        for (const key of ['packets', 'octets', 'verdicts', 'drops', 'flowRecords', 'emitted'] as const)
          assert.deepEqual(other.summary[key], one.summary[key]);
        assert.equal(other.summary.connections.created, one.summary.connections.created);
      });
    }
  });
}

function firstDifference(actual: string, expected: string): null | [string | undefined, string | undefined] {
  if (actual === expected) return null;
  const [a, b] = [actual.split('\n'), expected.split('\n')];
  const at = a.findIndex((line, i) => line !== b[i]);
  return [a[at], b[at < 0 ? a.length : at]];
}

/** Native code and the fast path are chosen when a process starts. */
test('golden: native code and the fast path, on or off, say the same', () => {
  const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
  const capture = file(pcap(mixed(), { nanoseconds: true }));
  const objects = file(new TextEncoder().encode(MANIFEST), 'yaml');
  const said = [
    {},
    { SEINE_NATIVE: 'off' },
    { SEINE_FASTPATH: 'off' },
    { SEINE_NATIVE: 'off', SEINE_FASTPATH: 'off' },
  ].map((env) => {
    const [verdicts, flows, write] = ['v', 'f', 'w'].map((ending) => file(new Uint8Array(0), ending)) as [
      string,
      string,
      string,
    ];
    const outputs = ['--verdicts', verdicts, '--flows', flows, '--write', write];
    const { status, stderr } = spawnSync(
      process.execPath,
      [main, 'replay', ...outputs, '--objects', objects, capture],
      {
        env: { ...process.env, ...env },
        encoding: 'utf8',
      },
    );
    assert.equal(status, 0, stderr);
    return [verdicts, flows, write].map((path) => readFileSync(path, 'latin1'));
  });
  for (const other of said.slice(1)) {
    other.forEach((text, i) => {
      assert.equal(firstDifference(text, said[0]![i]!), null);
    });
  }
});
