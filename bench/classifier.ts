/** Row of the classifier: decisions for distinct packets with ten and with ten thousand policies over many pods. */
import { createHash } from 'node:crypto';
import { parseAddress } from '../src/flow/ip-address.js';
import { kernels } from '../src/native/kernels.js';
import type { ClusterObjects, NetworkPolicy, Pod } from '../src/objects/model.js';
import { emptyObjects } from '../src/objects/store.js';
import { Classifier } from '../src/policy/classifier.js';
import { compilePolicies } from '../src/policy/compile.js';
import { QUESTION } from '../src/policy/questions.js';
import { RuleRegistry } from '../src/policy/rule-registry.js';
import { interleaved, type Row, type RowGroup, rounded } from './harness.js';

export const NAMESPACES = 100;

/** A cluster of `pods` pods in 100 namespaces with 20 apps each, and policies that let apps talk within and across them. */
export function cluster(policies: number, pods: number): ClusterObjects {
  const objects = emptyObjects();
  const namespaces = new Map(objects.namespaces);
  const podMap = new Map<string, Pod>();
  const policyMap = new Map<string, NetworkPolicy>();
  for (let n = 0; n < NAMESPACES; n++)
    namespaces.set(`n${n}`, { name: `n${n}`, labels: { 'kubernetes.io/metadata.name': `n${n}`, team: `t${n % 10}` } });
  for (let p = 0; p < pods; p++) {
    const namespace = `n${p % NAMESPACES}`;
    podMap.set(`${namespace}/p${p}`, {
      namespace,
      name: `p${p}`,
      labels: { app: `a${Math.floor(p / NAMESPACES) % 20}` },
      annotations: {},
      nodeName: p < 100 ? 'here' : 'there',
      hostNetwork: false,
      phase: 'Running',
      ips: [`10.${64 + (p >> 16)}.${(p >> 8) & 0xff}.${p & 0xff}`],
      namedPorts: [{ name: 'http', protocol: 'TCP', port: 8080 }],
      serviceAccount: null,
    });
  }
  for (let i = 0; i < policies; i++) {
    const namespace = `n${i % NAMESPACES}`;
    const rule = {
      peers: [
        { podSelector: { matchLabels: { app: `a${(i + 3) % 20}` } } },
        {
          namespaceSelector: { matchLabels: { team: `t${i % 10}` } },
          podSelector: { matchLabels: { app: `a${(i + 7) % 20}` } },
        },
        { ipBlock: { cidr: `172.${16 + (i % 16)}.${i & 0xff}.0/24`, except: [] } },
      ],
      ports: [
        { protocol: 'TCP' as const, port: 1000 + (i % 5000) },
        { protocol: 'TCP' as const, port: 'http' },
      ],
    };
    policyMap.set(`${namespace}/np${i}`, {
      namespace,
      name: `np${i}`,
      annotations: {},
      podSelector: policies <= NAMESPACES ? {} : { matchLabels: { app: `a${Math.floor(i / NAMESPACES) % 20}` } },
      ingress: [rule],
      egress: i % 2 === 0 ? [rule] : null,
    });
  }
  return { ...objects, namespaces, pods: podMap, networkPolicies: policyMap };
}

export const classifier: RowGroup = {
  rows: ['decision, 10,000 policies and 100,000 pods, distinct peers'],
  async run(quick): Promise<Row[]> {
    const pods = quick ? 2000 : 100_000;
    const make = (policies: number) => {
      const objects = cluster(policies, pods);
      const endpoints = [...objects.pods.values()]
        .filter(({ nodeName }) => nodeName === 'here')
        .map((pod, i) => ({ port: 3 + i, pod }));
      const started = process.hrtime.bigint();
      const compiled = compilePolicies({ objects, endpoints, registry: new RuleRegistry() });
      return {
        tables: compiled.tables,
        classifier: new Classifier(compiled.tables),
        compileMs: Number(process.hrtime.bigint() - started) / 1e6,
        endpoints,
        objects,
      };
    };
    const few = make(NAMESPACES); // one for each namespace, so that every endpoint is isolated there too
    const many = make(quick ? 500 : 10_000);
    const addresses = [...many.objects.pods.values()].slice(0, 65_536).map(({ ips }) => parseAddress(ips[0]!)!.words);
    const count = addresses.length;
    const questionsFor = ({ endpoints }: typeof few) => {
      const questions = new Uint32Array(count * QUESTION.words);
      for (let i = 0; i < count; i++) {
        const at = i * QUESTION.words;
        const port = endpoints[i % endpoints.length]!.port;
        questions.set([i & 1, port, 4, 6, 1000 + (i % 5000)], at);
        questions.set(addresses[(i * 7919) % count]!, at + QUESTION.peer);
      }
      return questions;
    };
    const askedFew = questionsFor(few);
    const askedMany = questionsFor(many);
    const rules = new Int32Array(count);
    /** ns a question of peers that nobody has asked about; and what is said, by the whole classifier. */
    const first = ({ classifier }: typeof few, questions: Uint32Array) => {
      const said = new Int32Array(count);
      const started = process.hrtime.bigint();
      for (let i = 0; i < count; i++) {
        const at = i * QUESTION.words;
        said[i] = classifier.decide(
          questions[at] as 0 | 1,
          questions[at + QUESTION.port]!,
          questions,
          at + QUESTION.peer,
          questions,
          0,
          4,
          6,
          questions[at + QUESTION.dstPort]!,
        );
      }
      return { ns: Number(process.hrtime.bigint() - started) / count, said };
    };
    first({ ...few, classifier: new Classifier(few.tables) }, askedFew); // compiled code, not yet programs
    const fewFirst = first(few, askedFew);
    const manyFirst = first(many, askedMany);
    const time = ({ classifier }: typeof few, questions: Uint32Array, { said }: typeof fewFirst) => {
      const started = process.hrtime.bigint();
      kernels.policyDecide(classifier, questions, count, rules);
      const ns = Number(process.hrtime.bigint() - started) / count;
      if (Buffer.compare(Buffer.from(rules.buffer), Buffer.from(said.buffer)) !== 0)
        throw new Error('the kernel decides otherwise than the classifier');
      return ns;
    };
    const { a, b, ratio } = await interleaved(
      quick ? 1 : 31,
      () => time(many, askedMany, manyFirst),
      () => time(few, askedFew, fewFirst),
    );
    return [
      {
        row: this.rows[0]!,
        value: rounded(a),
        unit: 'ns',
        baseline: 'the same with 100 policies',
        baselineValue: rounded(b),
        ratio: rounded(ratio),
        target: 'ratio ≤ 1.3',
        met: quick || ratio <= 1.3,
        digest: `${createHash('sha256').update(manyFirst.said).digest('hex').slice(0, 12)}; first decision ${rounded(manyFirst.ns)} ns; compiled in ${rounded(many.compileMs)} ms`,
      },
    ];
  },
};
