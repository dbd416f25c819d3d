/**
 * A SYN flood: one pod, then five, send SYNs of distinct tuples. Other pods' connections stay and new ones get in, memory is
 * bounded, and every packet that is refused has its reason, is counted, and is in a flow record.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PacketBatch } from '../../src/batch/packet-batch.js';
import { DROP_REASONS, Verdict } from '../../src/batch/drop-reason.js';
import { parseConfig } from '../../src/config/read.js';
import { Engine } from '../../src/engine/engine.js';
import { EndReason, R, RECORD_WORDS } from '../../src/flow/flow-record.js';
import { counterIndex, sumCounter } from '../../src/metrics/shared-counters.js';
import { readManifest } from '../../src/objects/read.js';
import { applyObjects, emptyObjects } from '../../src/objects/store.js';
import { pod } from '../unit/engine-run.js';
import { tcp4 } from '../unit/frames.js';
import { anonymousOctets } from './service-process.js';

const SLOW = process.env.SEINE_SLOW === '1';
const BATCH = 4096;
const ESTABLISHED_BIT = 1 << 1;
const CONNECTIONS = 1000;
const FIRST_PORT = 3;
/** Pods a and b talk; the others flood. */
const names = ['a', 'b', 'f1', 'f2', 'f3', 'f4', 'f5'];
const address = (name: string): string => `10.0.0.${names.indexOf(name) + 1}`;
const portOf = (name: string): number => FIRST_PORT + names.indexOf(name);

type Fill = (batch: PacketBatch) => void;

class Flood {
  /** Packets' clock: a microsecond each, so that no SYN of the flood times out while it lasts. */
  private nowNs = 1_900_000_000_000_000_000n;
  private sentPorts = 0;
  readonly verdicts = new Map<string, number>();
  /** Packets in flow records, by in-port, and records that were made for want of room. */
  readonly recorded = new Map<number, number>();
  resources = 0;

  private constructor(readonly engine: Engine) {
    engine.onPackedRecords((words) => {
      for (let at = 0; at < words.length; at += RECORD_WORDS) {
        const inPort = words[at + R.interfaces]! & 0xffff;
        this.recorded.set(inPort, (this.recorded.get(inPort) ?? 0) + words[at + R.packets]!);
        if (words[at + R.protocol]! >>> 24 === EndReason.Resources) this.resources++;
      }
    });
  }
  static async start(workers: number, conntrack: Record<string, number>): Promise<Flood> {
    const objects = applyObjects(
      emptyObjects(),
      readManifest(JSON.stringify(names.map((name) => pod(name, address(name)))), 'test').inputs,
    ).objects;
    const { config } = parseConfig({ workers, conntrack }, 'test');
    return new Flood(await Engine.start({ config, objects }));
  }

  /** Has a batch judged when one is free; `judged` sees it before it is released. */
  send(fill: Fill, judged: Fill): Promise<void> {
    const { dispatcher } = this.engine;
    return new Promise((resolve, reject) => {
      const attempt = () => {
        const batch = dispatcher.acquire();
        if (batch === null) {
          dispatcher.whenFree(attempt);
          return;
        }
        fill(batch);
        const times = new BigUint64Array(batch.timeNs.buffer, batch.timeNs.byteOffset, batch.count);
        for (let row = 0; row < batch.count; row++) times[row] = this.nowNs += 1000n;
        dispatcher.submit(batch, 'library', { stampTime: false }, (error) => {
          if (error === null) judged(batch);
          dispatcher.release(batch);
          if (error === null) resolve();
          else reject(error);
        });
      };
      attempt();
    });
  }

  /** Frames one after another into a batch. */
  frames(list: readonly { frame: Uint8Array; inPort: number }[]): Fill {
    return (batch) => {
      let at = 0;
      list.forEach(({ frame, inPort }, row) => {
        batch.data.set(frame, at);
        place(batch, row, at, frame.length, inPort);
        at += frame.length;
      });
      batch.count = list.length;
    };
  }

  /** SYNs [from, from + BATCH) of a pod's flood, to pod b: every tuple once. */
  syns(name: string, from: number): Fill {
    const template = tcp4({ src: address(name), dst: address('b'), sport: 1, dport: 1, flags: 'S', seq: 1 });
    return (batch) => {
      const { data } = batch;
      for (let row = 0; row < BATCH; row++) {
        const at = row * template.length;
        data.set(template, at);
        const sport = (from + row) & 0xffff;
        const dport = 1 + ((from + row) >>> 16);
        data[at + 34] = sport >>> 8;
        data[at + 35] = sport & 0xff;
        data[at + 36] = dport >>> 8;
        data[at + 37] = dport & 0xff;
        place(batch, row, at, template.length, portOf(name));
      }
      batch.count = BATCH;
    };
  }
  /** Counts the verdicts of a flood's batch. */
  readonly count: Fill = (batch) => {
    for (let row = 0; row < batch.count; row++) {
      const what = batch.verdict[row] === Verdict.Forward ? 'forward' : DROP_REASONS[batch.dropReason[row]!]!;
      this.verdicts.set(what, (this.verdicts.get(what) ?? 0) + 1);
    }
  };

  private talk(step: 'SYN' | 'SYN+ACK' | 'ACK' | 'BACK'): { frame: Uint8Array; inPort: number }[] {
    return Array.from({ length: CONNECTIONS }, (_, i) => {
      const [a, b] = [address('a'), address('b')];
      const there = { src: a, dst: b, sport: 1000 + i, dport: 80 };
      const back = { src: b, dst: a, sport: 80, dport: 1000 + i };
      if (step === 'SYN') return { frame: tcp4({ ...there, flags: 'S', seq: 1000 }), inPort: portOf('a') };
      if (step === 'ACK') return { frame: tcp4({ ...there, flags: 'A', seq: 1001, ack: 5001 }), inPort: portOf('a') };
      const flags = step === 'BACK' ? 'A' : 'SA';
      const seq = step === 'BACK' ? 5001 : 5000;
      return { frame: tcp4({ ...back, flags, seq, ack: 1001 }), inPort: portOf('b') };
    });
  }
  async establish(): Promise<void> {
    for (const step of ['SYN', 'SYN+ACK', 'ACK'] as const) await this.send(this.frames(this.talk(step)), forwarded);
  }
  /** Both directions of every established connection go on, and some new ones begin. */
  async others(): Promise<void> {
    for (const step of ['ACK', 'BACK'] as const) {
      await this.send(this.frames(this.talk(step)), (batch) => {
        forwarded(batch);
        for (let row = 0; row < batch.count; row++)
          assert.ok((batch.ct[row]! & ESTABLISHED_BIT) !== 0, 'it is established still');
      });
    }
    const fresh = Array.from({ length: 4 }, () => {
      const sport = 10_000 + (this.sentPorts++ % 50_000);
      return {
        frame: tcp4({ src: address('a'), dst: address('b'), sport, dport: 443, flags: 'S', seq: 1 }),
        inPort: portOf('a'),
      };
    });
    await this.send(this.frames(fresh), forwarded);
    for (let i = 0; i < fresh.length; i++) {
      const sport = 10_000 + ((this.sentPorts - fresh.length + i) % 50_000);
      const frame = tcp4({
        src: address('b'),
        dst: address('a'),
        sport: 443,
        dport: sport,
        flags: 'SA',
        seq: 9,
        ack: 2,
      });
      await this.send(this.frames([{ frame, inPort: portOf('b') }]), forwarded);
    }
  }
  get refused(): number {
    return [...this.verdicts].reduce((sum, [what, count]) => (what === 'forward' ? sum : sum + count), 0);
  }
}

const forwarded: Fill = (batch) => {
  for (let row = 0; row < batch.count; row++)
    assert.equal(batch.verdict[row], Verdict.Forward, `row ${row}: ${DROP_REASONS[batch.dropReason[row]!]}`);
};

function place(batch: PacketBatch, row: number, at: number, size: number, inPort: number): void {
  batch.offset[row] = at;
  batch.length[row] = size;
  batch.wireLength[row] = size;
  batch.frameOctets[row] = size;
  batch.inPort[row] = inPort;
}

/** The flood of some pods in turn, `batches` each, others' packets in between. Anonymous memory's growth after its first fifth. */
async function run(flood: Flood, flooders: readonly string[], batches: number): Promise<number> {
  const inFlight: Promise<void>[] = [];
  let settled = 0;
  let most = 0;
  for (let i = 0; i < batches; i++) {
    for (const name of flooders) inFlight.push(flood.send(flood.syns(name, i * BATCH), flood.count));
    while (inFlight.length > 6) await inFlight.shift();
    if (i % 16 === 0) await flood.others();
    // By then the table has all that the limit lets in.
    if (i === Math.ceil(batches / 5)) settled = anonymousOctets();
    else if (settled > 0 && i % 8 === 0) most = Math.max(most, anonymousOctets());
  }
  await Promise.all(inFlight);
  await flood.others();
  return most - settled;
}

async function everyPacketIsRecorded(flood: Flood, flooders: readonly string[], each: number): Promise<void> {
  const dropped = flood.engine.drops().reduce((sum, { packets }) => sum + Number(packets), 0);
  assert.equal(dropped, flood.refused, 'as many drops are counted as were answered');
  await flood.engine.close();
  for (const name of flooders)
    assert.equal(flood.recorded.get(portOf(name)), each, `${name}: every packet is in a flow record`);
}

const tuples = SLOW ? 10_000_000 : 200_000;
test(`one pod sends ${tuples} SYNs of distinct tuples: others are left alone, memory is bounded, all is counted`, {
  timeout: 600_000,
}, async (t) => {
  const max = SLOW ? 1_048_576 : 65_536;
  const flood = await Flood.start(2, { max });
  t.after(() => flood.engine.close());
  await flood.establish();
  const batches = Math.ceil(tuples / BATCH);
  const started = performance.now();
  const growth = await run(flood, ['f1'], batches);
  t.diagnostic(
    `${Math.round(((performance.now() - started) * 1e6) / batches / BATCH)} ns a packet, growth ${growth >> 10} KiB`,
  );
  const sent = batches * BATCH;
  // Each of two shards asks before it counts itself in: the limit may be passed by one.
  const admitted = flood.verdicts.get('forward')!;
  assert.ok(admitted >= max / 4 && admitted < max / 4 + 2, `${admitted} connections of a limit of ${max / 4}`);
  assert.deepEqual([...flood.verdicts.keys()].sort(), ['endpoint-limit', 'forward']);
  assert.equal(flood.refused, sent - admitted);
  assert.ok(growth < 64 << 20, `anonymous memory grew by ${growth >> 20} MiB`);
  await everyPacketIsRecorded(flood, ['f1'], sent);
  assert.equal(flood.resources, flood.refused, 'each that found no room has a record of its own');
});

test('five pods fill the table: their oldest unreplied connections give way, established ones stay', {
  timeout: 600_000,
}, async (t) => {
  const max = 16_384;
  const flood = await Flood.start(1, { max });
  t.after(() => flood.engine.close());
  await flood.establish();
  const flooders = names.slice(2);
  const batches = SLOW ? 60 : 6;
  const started = performance.now();
  await run(flood, flooders, batches);
  t.diagnostic(`${Math.round(((performance.now() - started) * 1e6) / batches / flooders.length / BATCH)} ns a packet`);
  const evicted = sumCounter(flood.engine.counters(), counterIndex.evicted(0));
  assert.ok(evicted > 0n, 'unreplied connections were evicted');
  assert.equal(sumCounter(flood.engine.counters(), counterIndex.evicted(1)), 0n, 'nothing else had to give way');
  assert.ok([...flood.verdicts.keys()].every((what) => ['endpoint-limit', 'forward'].includes(what)));
  await everyPacketIsRecorded(flood, flooders, batches * BATCH);
});
