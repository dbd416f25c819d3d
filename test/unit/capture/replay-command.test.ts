import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ethernet, file, pcap, readAll, udp4 } from './captures.js';

const main = fileURLToPath(new URL('../../../src/cli/main.js', import.meta.url));
const frame = ethernet(udp4());
const whole = pcap([
  { timeNs: 1000n, octets: frame },
  { timeNs: 2000n, octets: frame },
]);

function seine(args: string[], input?: Uint8Array): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, 'replay', ...args], {
    input: input ?? '',
    encoding: 'utf8',
  });
  return { status, stdout, stderr };
}
const oneLine = (text: string): boolean => /^seine: [^\n]*\n$/.test(text);

test('replay: without an output the summary is a table on standard output, exit 0', () => {
  const { status, stdout, stderr } = seine([file(whole)]);
  assert.equal(stderr, '');
  assert.equal(status, 0);
  assert.match(stdout, /^packets +2\n/);
  assert.match(stdout, /forward +2\n/);
});

test('replay: - reads standard input; an output - has standard output to itself', () => {
  const { status, stdout } = seine(['--verdicts', '-', '-'], whole);
  assert.equal(status, 0);
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { packet: number; time: string });
  assert.deepEqual(
    lines.map(({ packet, time }) => [packet, time]),
    [
      [1, '0.000001000'],
      [2, '0.000002000'],
    ],
  );
});

test('replay: all outputs at once, the packets of several captures numbered through', async () => {
  const [verdicts, flows, write, summary] = ['v', 'f', 'w', 's'].map((ending) => file(new Uint8Array(0), ending)) as [
    string,
    string,
    string,
    string,
  ];
  const { status, stdout } = seine([
    '--verdicts',
    verdicts,
    '--flows',
    flows,
    '--write',
    write,
    '--summary',
    summary,
    '--in-port',
    '9',
    file(whole),
    file(whole),
  ]);
  assert.equal(status, 0);
  assert.equal(stdout, '');
  const lines = readFileSync(verdicts, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { packet: number; inPort: number });
  assert.deepEqual(
    lines.map(({ packet, inPort }) => [packet, inPort]),
    [
      [1, 9],
      [2, 9],
      [3, 9],
      [4, 9],
    ],
  );
  const flow = JSON.parse(readFileSync(flows, 'utf8')) as Record<string, unknown>;
  assert.deepEqual(Object.keys(flow), [
    'src',
    'dst',
    'protocol',
    'srcPort',
    'dstPort',
    'tos',
    'inPort',
    'outPort',
    'packets',
    'octets',
    'tcpFlags',
    'start',
    'end',
    'endReason',
    'icmpType',
    'icmpCode',
    'ingressPolicy',
    'egressPolicy',
    'action',
  ]);
  assert.equal(flow.packets, 4);
  assert.equal(flow.endReason, 'forced');
  const totals = JSON.parse(readFileSync(summary, 'utf8')) as Record<string, unknown>;
  assert.deepEqual(Object.keys(totals), [
    'packets',
    'octets',
    'verdicts',
    'drops',
    'connections',
    'flowRecords',
    'emitted',
    'seconds',
    'packetsPerSecond',
  ]);
  assert.equal(totals.packets, 4);
  assert.equal(totals.octets, frame.length * 4);
  assert.equal((await readAll([write])).packets.length, 4);
});

test('replay: a capture that is cut off gives what was read, a warning, and exit 2', () => {
  const { status, stdout, stderr } = seine(['--summary', '-', file(whole.subarray(0, whole.length - 3))]);
  assert.equal(status, 2);
  assert.equal((JSON.parse(stdout) as { packets: number }).packets, 1);
  assert.match(stderr, /^seine: warning: .*cut off at octet/);
});

const WRONG: [string, string[], RegExp][] = [
  ['two outputs on standard output', ['--verdicts', '-', '--flows', '-', file(whole)], /more than one output is -/],
  ['standard input twice', ['-', '-'], /given twice/],
  ['no capture', [], /capture/],
  ['a file that is no capture', [main], /no capture's magic/],
  ['a capture that is not there', ['/nonexistent.pcap'], /can't be read/],
  ['an in-port that is none', ['--in-port', 'web', file(whole)], /OpenFlow port number/],
  ['an unknown option', ['--verdict', '-', file(whole)], /--verdict/],
  ['a collector without a port', ['--netflow', '127.0.0.1', file(whole)], /127\.0\.0\.1/],
];
for (const [name, args, message] of WRONG) {
  test(`replay: ${name} is one line on standard error and exit 2`, () => {
    assert.ok(existsSync(main));
    const { status, stdout, stderr } = seine(args);
    assert.equal(status, 2);
    assert.equal(stdout, '');
    assert.ok(oneLine(stderr), stderr);
    assert.match(stderr, message);
  });
}

test('replay: an output that can not be written is one line and exit 1', () => {
  const { status, stderr } = seine(['--verdicts', '/nonexistent/v', file(whole)]);
  assert.equal(status, 1);
  assert.ok(oneLine(stderr), stderr);
});
