/** Runs frames through an engine in process, batch by batch, on a clock of the test's own. */
import { CT_BITS, DROP_REASONS, STAGES, VERDICTS } from '../../src/batch/drop-reason.js';
import { parseConfig } from '../../src/config/read.js';
import { emissions, Engine, fillBatch } from '../../src/engine/engine.js';
import { type FlowRecord, RECORD_WORDS, unpackRecord } from '../../src/flow/flow-record.js';
import { readManifest } from '../../src/objects/read.js';
import { applyObjects, emptyObjects } from '../../src/objects/store.js';

export interface Judged {
  verdict: string;
  reason: string;
  stage: string;
  ct: string[];
  outPort: number;
  rule: number;
}
export interface Sent {
  frame: Uint8Array;
  inPort: number;
}

export class TestEngine {
  nowNs = 1_700_000_000_000_000_000n;
  readonly records: FlowRecord[] = [];
  /** Frames that the engine made for the last batch. */
  emitted: { outPort: number; octets: Uint8Array }[] = [];
  private constructor(readonly engine: Engine) {
    engine.onPackedRecords((words) => {
      for (let at = 0; at < words.length; at += RECORD_WORDS) this.records.push(unpackRecord(words, at));
    });
  }
  static async start(config: Record<string, unknown>, objects: readonly object[] = []): Promise<TestEngine> {
    const parsed = parseConfig({ workers: 1, ...config }, 'test').config;
    const read = applyObjects(emptyObjects(), readManifest(JSON.stringify(objects), 'test').inputs).objects;
    return new TestEngine(await Engine.start({ config: parsed, objects: read, mode: 'replay' }));
  }
  /** One batch at the test's clock. */
  send(...sent: Sent[]): Promise<Judged[]> {
    return new Promise((resolve, reject) => {
      const batch = this.engine.dispatcher.acquire()!;
      fillBatch(batch, {
        data: Buffer.concat(sent.map(({ frame }) => frame)),
        length: Uint32Array.from(sent, ({ frame }) => frame.length),
        inPort: Uint32Array.from(sent, ({ inPort }) => inPort),
        time: new BigUint64Array(sent.length).fill(this.nowNs),
      });
      this.engine.dispatcher.submit(batch, 'library', { stampTime: false }, (error) => {
        const judged = sent.map((_, row) => ({
          verdict: VERDICTS[batch.verdict[row]!]!,
          reason: DROP_REASONS[batch.dropReason[row]!]!,
          stage: STAGES[batch.stage[row]!]!,
          ct: CT_BITS.filter((_name, bit) => (batch.ct[row]! & (1 << bit)) !== 0),
          outPort: batch.outPort[row]!,
          rule: batch.rule[row]!,
        }));
        this.emitted = emissions(batch, this.engine.rewrite);
        this.engine.dispatcher.release(batch);
        if (error === null) resolve(judged);
        else reject(error);
      });
    });
  }
  async one(inPort: number, frame: Uint8Array): Promise<Judged> {
    return (await this.send({ frame, inPort }))[0]!;
  }
  advance(seconds: number): void {
    this.nowNs += BigInt(Math.round(seconds * 1e9));
  }
  close(): Promise<void> {
    return this.engine.close();
  }
}

export const pod = (name: string, ip: string, labels: Record<string, string> = {}, extra: object = {}): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default', labels, ...extra },
  spec: { containers: [{ name: 'c' }] },
  status: { podIP: ip },
});
export const denyAll = (
  name: string,
  labels: Record<string, string>,
  type: 'Ingress' | 'Egress' = 'Ingress',
): object => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name, namespace: 'default' },
  spec: { podSelector: { matchLabels: labels }, policyTypes: [type] },
});
