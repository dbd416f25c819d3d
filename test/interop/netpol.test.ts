/**
 * Real policies and their verdicts from independent evaluators (SEINE_DATA/netpol): every first packet judged as expected, an
 * allowed one's reply passes, a denied one's retransmission stays denied, and each drop names a policy.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { Verdict } from '../../src/batch/drop-reason.js';
import { parseConfig } from '../../src/config/read.js';
import { Engine, fillBatch } from '../../src/engine/engine.js';
import { sctp4, sctp6, tcp4, tcp6, tcpFlags, udp4, udp6 } from '../unit/frames.js';

const DATA = join(process.env.SEINE_DATA ?? '../shared/data', 'netpol');
const skip = existsSync(DATA) ? false : `no data at ${DATA}: set SEINE_DATA to the folder that holds netpol/`;

interface Pod {
  namespace: string;
  name: string;
  labels: Record<string, string>;
  ip?: string;
  ips?: string[];
  ports?: { port: number; protocol: string; name?: string }[];
}
interface Scenario {
  namespaces: Record<string, Record<string, string>>;
  pods: Pod[];
  policies?: object[] | null;
}
interface Question {
  src: string;
  dst: string;
  protocol: string;
  port: number;
  allowed: boolean;
}

const load = <T>(name: string): T => JSON.parse(gunzipSync(readFileSync(join(DATA, name))).toString()) as T;
const key = (pod: Pod): string => `${pod.namespace}/${pod.name}`;
const addresses = (pod: Pod): string[] => pod.ips ?? [pod.ip!];

function manifest({ namespaces, pods, policies }: Scenario): string {
  const items: object[] = Object.entries(namespaces).map(([name, labels]) => ({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name, labels },
  }));
  for (const pod of pods) {
    const ports = (pod.ports ?? []).map(({ port, protocol, name }) => ({ containerPort: port, protocol, name }));
    items.push({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: pod.name, namespace: pod.namespace, labels: pod.labels },
      spec: { containers: [{ name: 'c', ports }] },
      status: { podIPs: addresses(pod).map((ip) => ({ ip })) },
    });
  }
  for (const policy of policies ?? [])
    items.push({ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', ...policy });
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
}

function frame(
  q: { src: string; dst: string },
  protocol: string,
  sport: number,
  dport: number,
  reply: boolean,
): Uint8Array {
  const six = q.src.includes(':');
  const ends = { src: q.src, dst: q.dst, sport, dport };
  if (protocol === 'UDP') return six ? udp6(ends) : udp4(ends);
  if (protocol === 'SCTP') return six ? sctp6(ends) : sctp4(ends);
  const fields = { ...ends, flags: tcpFlags(reply ? 'SA' : 'S'), seq: reply ? 5000 : 1000, ack: reply ? 1001 : 0 };
  return six ? tcp6(fields) : tcp4(fields);
}

let engine: Engine;
let sport = 1024;
let nowNs = 1_700_000_000_000_000_000n;

/** Judges frames as `replay` does: in-ports by source address. */
function judge(frames: Uint8Array[]): Promise<{ verdict: number; rule: number; ct: number }[]> {
  return new Promise((resolve, reject) => {
    const batch = engine.dispatcher.acquire()!;
    fillBatch(batch, {
      data: Buffer.concat(frames),
      length: Uint32Array.from(frames, ({ length }) => length),
      inPort: 0,
      time: new BigUint64Array(frames.length).fill(nowNs),
    });
    nowNs += 1_000_000n;
    engine.dispatcher.submit(batch, 'replay', { stampTime: false, assignInPorts: true }, (error) => {
      const rows = frames.map((_, row) => ({
        verdict: batch.verdict[row]!,
        rule: batch.rule[row]!,
        ct: batch.ct[row]!,
      }));
      engine.dispatcher.release(batch);
      if (error === null) resolve(rows);
      else reject(error);
    });
  });
}

async function ask(name: string, scenario: Scenario, questions: Question[]): Promise<string[]> {
  await engine.apply(manifest(scenario), { origin: name, prune: true });
  const pods = new Map(scenario.pods.map((pod) => [key(pod), pod]));
  const wrong: string[] = [];
  for (let at = 0; at < questions.length; at += 512) {
    const part = questions.slice(at, at + 512).map((question) => {
      sport = sport >= 60_000 ? 1024 : sport + 1;
      const src = addresses(pods.get(question.src)!)[0]!;
      const dst = addresses(pods.get(question.dst)!).find((ip) => ip.includes(':') === src.includes(':'))!;
      return { question, src, dst, sport };
    });
    const first = await judge(part.map((p) => frame(p, p.question.protocol, p.sport, p.question.port, false)));
    const second = await judge(
      part.map((p) =>
        p.question.allowed
          ? frame({ src: p.dst, dst: p.src }, p.question.protocol, p.question.port, p.sport, true)
          : frame(p, p.question.protocol, p.sport, p.question.port, false),
      ),
    );
    part.forEach(({ question }, i) => {
      const text = `${name}: ${question.src} → ${question.dst} ${question.protocol}/${question.port}`;
      if ((first[i]!.verdict === Verdict.Forward) !== question.allowed) wrong.push(`${text}: first packet`);
      if ((second[i]!.verdict === Verdict.Forward) !== question.allowed)
        wrong.push(`${text}: ${question.allowed ? 'reply' : 'retransmission'}`);
      if (!question.allowed && (engine.rule(first[i]!.rule)?.action !== 'drop' || second[i]!.rule !== first[i]!.rule))
        wrong.push(`${text}: names no policy`);
    });
  }
  return wrong;
}

before(async () => {
  if (skip) return;
  const { config } = parseConfig({ workers: 2, listen: { unix: null, grpc: null, http: null } }, 'test');
  engine = await Engine.start({ config, mode: 'replay' });
});
after(() => engine?.close());

test('policy: every cyclonus and recipe row is judged as expected, 0 wrong', { skip }, async () => {
  interface Step extends Scenario {
    expected?: Record<string, Record<string, string>>;
    matrixColumns: string[];
  }
  let rows = 0;
  const wrong: string[] = [];
  for (const { id, steps } of load<{ id: string; steps: Step[] }[]>('cyclonus-and-recipes.json.gz')) {
    for (const step of steps) {
      // Some pods of the data have no address, or none that exists: they are given one.
      step.pods.forEach((pod, i) => {
        if (!pod.ip || /\.(2[6-9]\d|25[6-9]|[3-9]\d\d)\./.test(pod.ip)) pod.ip = `10.12.${i >> 7}.${1 + (i & 127)}`;
      });
      const questions: Question[] = [];
      for (const [service, matrix] of Object.entries(step.expected ?? {})) {
        const [protocol = '', port = ''] = service.split('/');
        for (const [src, line] of Object.entries(matrix)) {
          step.matrixColumns.forEach((dst, i) => {
            if (src === dst || line[i] === '?') return; // a pod to itself; unknown to the data
            questions.push({ src, dst, protocol, port: Number(port), allowed: line[i] === '.' });
          });
        }
      }
      rows += questions.length;
      wrong.push(...(await ask(id, step, questions)));
    }
  }
  assert.deepEqual(wrong, []);
  assert.ok(rows > 100_000, `${rows} rows`);
});

test('policy: every random scenario is judged as expected, 0 wrong', { skip }, async () => {
  const wrong: string[] = [];
  let rows = 0;
  for (const scenario of load<(Scenario & { id: string; expected: Record<string, Record<string, string>> })[]>(
    'random-1.json.gz',
  )) {
    const questions: Question[] = [];
    for (const [src, line] of Object.entries(scenario.expected)) {
      for (const [to, verdict] of Object.entries(line)) {
        const [, dst = '', protocol = '', port = ''] = /^(.*):(\w+)\/(\d+)$/.exec(to) ?? [];
        if (src !== dst)
          questions.push({ src, dst, protocol, port: Number(port), allowed: verdict === '.' || verdict === 'allowed' });
      }
    }
    rows += questions.length;
    wrong.push(...(await ask(scenario.id, scenario, questions)));
  }
  assert.deepEqual(wrong, []);
  assert.ok(rows > 10_000, `${rows} rows`);
});
