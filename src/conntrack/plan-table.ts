/**
 * Plans: what the stages decided for one direction of connections. Connections that were decided alike share one plan, by
 * number, so that a plan costs an entry one word. Lies in the memory of the connection table (conntrack/table.ts); a plan
 * lives while entries refer to it. Plan 0 is no plan: all its words are 0.
 */
import { DROP_REASONS, Port, STAGES, Verdict, VERDICTS } from '../batch/drop-reason.js';
import { Rewrite } from '../batch/packet-batch.js';
import { NODES_MAX } from '../batch/rewrite-table.js';

export const PLAN_WORDS = 8;
export const P = {
  port: 0, // outPort | tunnel << 16
  decision: 1, // verdict | dropReason << 8 | stage << 16 | rewrite << 24
  ingressRule: 2,
  egressRule: 3,
  interfaces: 4, // in-port of its packets | out-port of their flow record << 16
  basis: 5, // the connection's two ports whose epochs it rests on: in-port | out-port << 16 of the original direction
  references: 6, // of a freed one: next free plan
  rule: 7, // the rule of verdict lines, made of the decision
} as const;
const KEY_WORDS = 6;

/** Header words of the plans' part. */
export const PH = { fresh: 0, free: 1, used: 2 } as const;
export const PLAN_HEADER_WORDS = 16;

/** Each direction of each entry may have a plan of its own. */
export const planCapacity = (entries: number): number => 2 * entries + 1;
const slotsFor = (plans: number): number => 2 ** Math.ceil(Math.log2(Math.max(plans * 1.5, 64)));
export const planWords = (entries: number): number =>
  PLAN_HEADER_WORDS + slotsFor(planCapacity(entries)) + planCapacity(entries) * PLAN_WORDS;

const EGRESS_STAGE = 5;

/** Fibonacci hashing over the words; native/plan.h says the same. */
function planHash(key: Uint32Array): number {
  let hash = 0;
  for (let i = 0; i < KEY_WORDS; i++) hash = Math.imul((hash ^ key[i]!) >>> 0, 0x9e3779b1) ^ (hash >>> 15);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** The rule that verdict lines name, of the plan at word `at`. */
function ruleOf(words: Uint32Array, at: number): number {
  const decision = words[at + P.decision]!;
  const denied = (decision & 0xff) !== Verdict.Forward && ((decision >>> 16) & 0xff) === EGRESS_STAGE;
  return denied ? words[at + P.egressRule]! : words[at + P.ingressRule]! || words[at + P.egressRule]!;
}

const REWRITE_ALL = Object.values(Rewrite).reduce((all: number, bit) => all | bit, 0);

export class PlanTable {
  /** Key of the plan that is looked for: the words before P.references. */
  readonly key = new Uint32Array(KEY_WORDS);
  private readonly slotsAt: number;
  private readonly slotMask: number;
  readonly plansAt: number;
  private readonly capacity: number;

  constructor(
    readonly words: Uint32Array,
    /** First word of the part. */
    private readonly headerAt: number,
    entries: number,
  ) {
    this.slotsAt = headerAt + PLAN_HEADER_WORDS;
    this.capacity = planCapacity(entries);
    this.slotMask = slotsFor(this.capacity) - 1;
    this.plansAt = this.slotsAt + this.slotMask + 1;
    if (words[headerAt + PH.fresh] === 0) words[headerAt + PH.fresh] = 1;
  }

  /** Word offset of a plan. */
  at(plan: number): number {
    return this.plansAt + plan * PLAN_WORDS;
  }
  get used(): number {
    return this.words[this.headerAt + PH.used]!;
  }

  /** The number of the plan with the words of `key`, which it makes if there is none; one more reference. */
  intern(): number {
    const { words, key, slotMask, slotsAt } = this;
    let slot = planHash(key) & slotMask;
    for (; words[slotsAt + slot] !== 0; slot = (slot + 1) & slotMask) {
      const at = this.at(words[slotsAt + slot]!);
      let i = 0;
      while (i < KEY_WORDS && words[at + i] === key[i]) i++;
      if (i < KEY_WORDS) continue;
      words[at + P.references] = words[at + P.references]! + 1;
      return words[slotsAt + slot]!;
    }
    let plan = words[this.headerAt + PH.free]!;
    if (plan !== 0) words[this.headerAt + PH.free] = words[this.at(plan) + P.references]!;
    else {
      plan = words[this.headerAt + PH.fresh]!;
      words[this.headerAt + PH.fresh] = plan + 1;
    }
    const at = this.at(plan);
    words.set(key, at);
    words[at + P.references] = 1;
    words[at + P.rule] = ruleOf(key, 0);
    words[slotsAt + slot] = plan;
    words[this.headerAt + PH.used] = words[this.headerAt + PH.used]! + 1;
    return plan;
  }

  /** One reference less; the last one frees the plan. */
  release(plan: number): void {
    if (plan === 0) return;
    const { words, slotMask, slotsAt } = this;
    const at = this.at(plan);
    words[at + P.references] = words[at + P.references]! - 1;
    if (words[at + P.references] !== 0) return;
    let slot = this.home(plan);
    while (words[slotsAt + slot] !== plan) slot = (slot + 1) & slotMask;
    // Backward shift, as in the connection table.
    for (let next = (slot + 1) & slotMask; words[slotsAt + next] !== 0; next = (next + 1) & slotMask) {
      const home = this.home(words[slotsAt + next]!);
      if (((next - home) & slotMask) >= ((next - slot) & slotMask)) {
        words[slotsAt + slot] = words[slotsAt + next]!;
        slot = next;
      }
    }
    words[slotsAt + slot] = 0;
    words.fill(0, at, at + PLAN_WORDS);
    words[at + P.references] = words[this.headerAt + PH.free]!;
    words[this.headerAt + PH.free] = plan;
    words[this.headerAt + PH.used] = words[this.headerAt + PH.used]! - 1;
  }
  /** Plans below this number were made once. Never more than there is room for, whatever the memory holds. */
  get fresh(): number {
    return Math.min(Math.max(this.words[this.headerAt + PH.fresh]!, 1), this.capacity);
  }

  /** Can `intern` have written the plan? `loose`: for a loose record, whose plan says no reason. */
  isSound(plan: number, loose: boolean): boolean {
    const { words } = this;
    if (plan <= 0 || plan >= this.fresh) return false;
    const at = this.at(plan);
    const port = words[at + P.port]!;
    const decision = words[at + P.decision]!;
    const verdict = decision & 0xff;
    if (verdict === 0 || verdict >= VERDICTS.length) return false;
    const reason = (decision >>> 8) & 0xff;
    if (!loose && (reason !== 0) !== (verdict === Verdict.Drop || verdict === Verdict.Reject)) return false;
    if (reason >= DROP_REASONS.length || ((decision >>> 16) & 0xff) >= STAGES.length) return false;
    if (decision >>> 24 > REWRITE_ALL || port >>> 16 >= NODES_MAX) return false;
    return words[at + P.interfaces]! >>> 16 === (verdict === Verdict.Forward ? port & 0xffff : Port.Dropped);
  }

  /** Makes index, free list and references anew: `references` says how often each plan below `fresh` is referred to. */
  rebuild(references: Uint32Array): void {
    const { words, slotsAt, slotMask, headerAt } = this;
    words.fill(0, slotsAt, slotsAt + slotMask + 1);
    const fresh = references.length;
    words[headerAt + PH.fresh] = fresh;
    words[headerAt + PH.free] = 0;
    words[headerAt + PH.used] = 0;
    for (let plan = fresh - 1; plan > 0; plan--) {
      const at = this.at(plan);
      if (references[plan] === 0) {
        words.fill(0, at, at + PLAN_WORDS);
        words[at + P.references] = words[headerAt + PH.free]!;
        words[headerAt + PH.free] = plan;
        continue;
      }
      words[at + P.references] = references[plan]!;
      words[at + P.rule] = ruleOf(words, at);
      let slot = this.home(plan);
      while (words[slotsAt + slot] !== 0) slot = (slot + 1) & slotMask;
      words[slotsAt + slot] = plan;
      words[headerAt + PH.used] = words[headerAt + PH.used]! + 1;
    }
    words.fill(0, this.at(0), this.at(1));
  }

  private readonly homeKey = new Uint32Array(KEY_WORDS);
  private home(plan: number): number {
    const at = this.at(plan);
    for (let i = 0; i < KEY_WORDS; i++) this.homeKey[i] = this.words[at + i]!;
    return planHash(this.homeKey) & this.slotMask;
  }
}
