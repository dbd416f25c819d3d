/** The exporter against sockets of its own on loopback. */
import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import { Exporter, type ExporterConfig, QUEUE_DATAGRAMS } from '../../../src/export/exporter.js';
import { decode } from './decode.js';
import { NOW_NS, packed } from './record.js';

type Netflow = ExporterConfig['netflow'];
const config = (netflow: Partial<Netflow>): ExporterConfig => ({
  ovsBridge: 'br0',
  ovsdb: null,
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
    ...netflow,
  },
});
const records = (count: number, from = 0) =>
  packed(...Array.from({ length: count }, (_, index) => ({ src: from + index })));

interface Receiver {
  socket: Socket;
  target: string;
  datagrams: Buffer[];
}
async function receiver(t: TestContext, address = '127.0.0.1'): Promise<Receiver> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  const datagrams: Buffer[] = [];
  socket.on('message', (message) => datagrams.push(message));
  socket.bind(0, address);
  await once(socket, 'listening');
  t.after(() => socket.close());
  const host = address.includes(':') ? `[${address}]` : address;
  return { socket, target: `${host}:${socket.address().port}`, datagrams };
}
/** A port of loopback that nobody listens on. */
async function deadTarget(): Promise<string> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  return `127.0.0.1:${port}`;
}
const until = async (what: string, condition: () => boolean) => {
  for (let i = 0; i < 400 && !condition(); i++) await new Promise((done) => setTimeout(done, 10));
  assert.ok(condition(), what);
};
const received = ({ datagrams }: Receiver) =>
  datagrams.flatMap((datagram) => decode(datagram).records.map(({ src }) => src));
const sequences = ({ datagrams }: Receiver) => datagrams.map((datagram) => decode(datagram).header.sequence);
const lossOf = (exporter: Exporter) =>
  Object.fromEntries(
    exporter
      .totals()
      .lost.filter((loss) => loss.records > 0)
      .map((loss) => [loss.reason, loss.records]),
  );

test('exporter: every collector gets every datagram, under a sequence that counts records', async (t) => {
  const one = await receiver(t);
  const two = await receiver(t, '::1');
  const exporter = new Exporter(config({ targets: [one.target, two.target] }), 'replay');
  exporter.push(records(75), NOW_NS);
  await exporter.close();
  await until('both receivers have all', () => received(one).length + received(two).length === 150);
  for (const collector of [one, two]) {
    assert.deepEqual(
      received(collector),
      Array.from({ length: 75 }, (_, index) => index),
    );
    assert.deepEqual(sequences(collector), [0, 30, 60]);
  }
  assert.deepEqual(
    exporter
      .stats()
      .map(({ format, target, records, datagrams, lost }) => ({ format, target, records, datagrams, lost })),
    [one, two].map(({ target }) => ({ format: 'netflow5', target, records: 75n, datagrams: 3n, lost: 0n })),
  );
  assert.deepEqual(exporter.totals().records, [{ format: 'netflow5', records: 75 }]);
});

test('exporter: a full datagram leaves at once, a partial one within a second', async (t) => {
  const collector = await receiver(t);
  const exporter = new Exporter(config({ targets: [collector.target] }));
  t.after(() => exporter.close());
  exporter.push(records(31), NOW_NS);
  await until('the full one', () => collector.datagrams.length === 1);
  assert.equal(received(collector).length, 30);
  await until('the partial one', () => collector.datagrams.length === 2);
});

test('exporter: a collector that refuses, one without a name and one that is well: the well one misses nothing', async (t) => {
  const well = await receiver(t);
  const dead = await deadTarget();
  const exporter = new Exporter(config({ targets: [dead, 'no-such-collector.invalid:2055', well.target] }), 'replay');
  for (let i = 0; i < 10; i++) {
    exporter.push(records(300, i * 300), NOW_NS);
    await exporter.drained();
    await new Promise((done) => setTimeout(done, 5));
  }
  await exporter.close();
  await until('the well one has all', () => received(well).length === 3000);
  assert.deepEqual(
    sequences(well),
    Array.from({ length: 100 }, (_, index) => index * 30),
  );
  const [refused, unresolved, good] = exporter.stats();
  assert.deepEqual([good!.records, good!.lost], [3000n, 0n]);
  assert.equal(refused!.records + refused!.lost, 3000n);
  assert.equal(refused!.lost, 3000n);
  assert.deepEqual([unresolved!.records, unresolved!.lost], [0n, 3000n]);
  assert.deepEqual(lossOf(exporter), {}, 'no record missed every collector');
});

test('exporter: with only a refusing collector, records made = records exported + records lost', async () => {
  const exporter = new Exporter(config({ targets: [await deadTarget()] }), 'replay');
  exporter.push(records(95), NOW_NS);
  await exporter.close();
  assert.deepEqual(lossOf(exporter), { refused: 95 });
  assert.deepEqual(exporter.totals().records, [{ format: 'netflow5', records: 0 }]);
  assert.match(exporter.stats()[0]!.state, /closed/);
});

test('exporter: a collector that comes up later gets what is sent from then on, and sees the gap by its sequence', async (t) => {
  const target = await deadTarget();
  const exporter = new Exporter(config({ targets: [target] }));
  t.after(() => exporter.close());
  exporter.push(records(30), NOW_NS);
  await until('the refusal is known', () => exporter.stats()[0]!.lost === 30n);
  assert.match(exporter.stats()[0]!.state, /refuses: ECONNREFUSED/);
  const socket = createSocket('udp4');
  const datagrams: Buffer[] = [];
  socket.on('message', (message) => datagrams.push(message));
  socket.bind(Number(target.split(':')[1]), '127.0.0.1');
  await once(socket, 'listening');
  t.after(() => socket.close());
  exporter.push(records(30, 30), NOW_NS);
  await until('the second datagram arrives', () => datagrams.length === 1);
  assert.equal(decode(datagrams[0]!).header.sequence, 30);
  await until('it is well again', () => exporter.stats()[0]!.state === 'sending');
});

test('exporter: an unresolvable name is told in its state and counted by reason', async () => {
  const exporter = new Exporter(config({ targets: ['no-such-collector.invalid:2055'] }), 'replay');
  exporter.push(records(10), NOW_NS);
  await exporter.close();
  assert.deepEqual(lossOf(exporter), { unresolved: 10 });
});

test('exporter: IPv6 records count as lost with the reason ipv6', async (t) => {
  const collector = await receiver(t);
  const exporter = new Exporter(config({ targets: [collector.target] }), 'replay');
  exporter.push(packed({ family: 6 }, {}, { family: 6 }), NOW_NS);
  await exporter.close();
  assert.deepEqual(lossOf(exporter), { ipv6: 2 });
  assert.deepEqual(exporter.totals().records, [{ format: 'netflow5', records: 1 }]);
});

test('exporter: settings change while records are in hand: none is lost, sequences go on where they may', async (t) => {
  const stays = await receiver(t);
  const leaves = await receiver(t);
  const comes = await receiver(t);
  const exporter = new Exporter(config({ targets: [stays.target, leaves.target] }));
  exporter.push(records(10), NOW_NS);
  exporter.update(config({ targets: [stays.target, comes.target], addToInterface: true }));
  exporter.push(records(10, 10), NOW_NS);
  exporter.update(config({ targets: [stays.target, comes.target], engineId: 10 }));
  exporter.push(records(10, 20), NOW_NS);
  await exporter.close();
  await until('all have arrived', () => received(stays).length === 30 && received(comes).length === 20);
  await until('the old collector has what was in hand', () => received(leaves).length === 10);
  assert.deepEqual(
    stays.datagrams.map((datagram) => decode(datagram).header).map(({ sequence, engineId }) => [sequence, engineId]),
    [
      [0, 98],
      [10, 98],
      [0, 10],
    ],
  );
  assert.deepEqual(sequences(comes), [0, 0]);
  assert.deepEqual(lossOf(exporter), {});
  assert.deepEqual(exporter.totals().records, [{ format: 'netflow5', records: 30 }]);
});

test('exporter: another source address keeps counts and sequence', async (t) => {
  const collector = await receiver(t);
  const from: string[] = [];
  collector.socket.on('message', (_, { address }) => from.push(address));
  const exporter = new Exporter(config({ targets: [collector.target] }));
  exporter.push(records(5), NOW_NS);
  exporter.update(config({ targets: [collector.target], source: '127.0.0.9' }));
  exporter.push(records(5, 5), NOW_NS);
  await exporter.close();
  await until('both have arrived', () => from.length === 2);
  assert.deepEqual(from.sort(), ['127.0.0.1', '127.0.0.9']);
  assert.deepEqual(sequences(collector).sort(), [0, 5]);
  assert.equal(exporter.stats()[0]!.records, 10n);
});

test('exporter: a source address that is not here is told, and counted', async (t) => {
  const collector = await receiver(t);
  const exporter = new Exporter(config({ targets: [collector.target], source: '192.0.2.77' }));
  exporter.push(records(30), NOW_NS);
  await until('it is told', () => /EADDRNOTAVAIL/.test(exporter.stats()[0]!.state));
  await exporter.close();
  assert.deepEqual(lossOf(exporter), { unreachable: 30 });
});

test('exporter: in serve a queue past its bound is a counted loss, in replay there is none', async (t) => {
  const collector = await receiver(t);
  const many = QUEUE_DATAGRAMS + 100;
  const exporter = new Exporter(config({ targets: [collector.target] }));
  // The socket is not open before the next turn of the event loop: all of it waits.
  for (let i = 0; i < many; i++) exporter.push(records(30), NOW_NS);
  assert.deepEqual(lossOf(exporter), { 'queue-full': 100 * 30 });
  await exporter.close();
  const patient = new Exporter(config({ targets: [collector.target] }), 'replay');
  let full = 0;
  for (let i = 0; i < many; i++) if (!patient.push(records(30), NOW_NS)) full++;
  assert.ok(full > 0, 'push tells that much is waiting');
  const drained = patient.drained();
  await Promise.all([drained, patient.close()]);
  assert.deepEqual(lossOf(patient), {});
  assert.deepEqual(patient.totals().records, [{ format: 'netflow5', records: many * 30 }]);
});

test('exporter: without collectors records are neither exported nor lost', async () => {
  const exporter = new Exporter(config({}));
  assert.equal(exporter.push(packed({ family: 6 }, {}), NOW_NS), true);
  await exporter.close();
  assert.deepEqual(lossOf(exporter), {});
});
test('exporter: a push after close is refused', async () => {
  const exporter = new Exporter(config({}));
  await exporter.close();
  assert.throws(() => exporter.push(records(1), NOW_NS), { code: 'SEINE_ERR_CLOSED' });
});

for (const [netflow, message] of [
  [{ targets: ['10.0.0.1'] }, /netflow\.targets\[0\]: "10\.0\.0\.1" has no port; write 10\.0\.0\.1:2055/],
  [
    { targets: ['127.0.0.1:1', 'x:99999'] },
    /netflow\.targets\[1\]: "x:99999" has the port 99999; a port is a number from 1/,
  ],
  [{ targets: ['fe80::1'] }, /without brackets; write \[fe80::1\]:2055/],
  [{ targets: ['[10.0.0.1]:2055'] }, /no IPv6 address in its brackets/],
  [{ targets: ['10.0.0.256:2055'] }, /no valid IPv4 address/],
  [{ targets: ['a b:2055'] }, /no valid host name/],
  [{ targets: [''] }, /has no port|no collector/],
  [{ engineId: 256 }, /netflow\.engineId: 256 does not fit/],
  [{ versions: [9] }, /netflow\.versions: 9/],
  [{ source: 'eth0' }, /netflow\.source: "eth0" is no IP address/],
  [{ source: '::1', targets: ['10.0.0.1:2055'] }, /IPv4 and netflow\.source ::1 is not/],
] as [Partial<Netflow>, RegExp][]) {
  test(`exporter: ${JSON.stringify(netflow)} is refused with what would be right`, () => {
    assert.throws(() => new Exporter(config(netflow)), { code: 'SEINE_ERR_CONFIG_INVALID', message });
  });
}
test('exporter: a wrong update changes nothing', async (t) => {
  const collector = await receiver(t);
  const exporter = new Exporter(config({ targets: [collector.target] }));
  assert.throws(() => exporter.update(config({ targets: ['nonsense'] })), { code: 'SEINE_ERR_CONFIG_INVALID' });
  exporter.push(records(1), NOW_NS);
  await exporter.close();
  await until('it arrives', () => received(collector).length === 1);
});

test('exporter: tells record for record what is being sent and what is gone, IPv6 and lost ones included', async (t) => {
  const collector = await receiver(t);
  const exporter = new Exporter(config({ targets: [collector.target] }));
  t.after(() => exporter.close());
  const told: string[] = [];
  exporter.progress(
    (records) => told.push(`sending ${records}`),
    (records) => told.push(`done ${records}`),
  );
  exporter.push(records(30), NOW_NS);
  await until('the socket is open', () => told.length === 2);
  assert.deepEqual(told, ['sending 30', 'done 30']);
  exporter.push(packed({ family: 6 }, { family: 6 }), NOW_NS);
  assert.deepEqual(told.splice(0), ['sending 30', 'done 30', 'done 32']);
  exporter.push(packed({}, { family: 6 }, {}), NOW_NS);
  assert.deepEqual(told, [], 'a datagram in hand is not gone');
  exporter.flush();
  assert.deepEqual(told.splice(0), ['sending 35', 'done 35']);
  exporter.update(config({ targets: [] }));
  exporter.push(records(5), NOW_NS);
  assert.deepEqual(told, ['done 40'], 'nobody wants it');
});
