/**
 * Ids of rules: 1-based, fixed while a rule exists, never reused in one process (contract §4 `rule`). A rule is known by
 * kind, namespace, policy, direction and its name or index; the default deny of a policy's direction is a rule of its own.
 */
import type { RuleInfo } from '../engine/engine-view.js';
import { SeineError } from '../errors.js';
import { RULES_MAX } from '../metrics/shared-counters.js';

export type Rule = Omit<RuleInfo, 'id'>;

const policyOf = ({ kind, namespace, policy }: Rule): string => `${kind} ${namespace ?? ''} ${policy}`;
/** Within its policy. A rule whose action is another is another rule. */
const ruleOf = ({ direction, rule, action }: Rule): string =>
  `${direction} ${action} ${typeof rule === 'string' ? `"${rule}` : rule}`;

/** As an earlier process knew it. */
const memoryKeyOf = (rule: Rule): string => `${policyOf(rule)}\0${ruleOf(rule)}`;

/** What an earlier process gave: so that a rule keeps its id over a restart. */
export interface RuleMemory {
  /** The lowest id that was never given. */
  readonly next: number;
  find(key: string): number | undefined;
  note(id: number, key: string): void;
}

export class RuleRegistry {
  private next: number;
  /** Those that exist, by policy. */
  private readonly existing = new Map<string, readonly RuleInfo[]>();
  /** All that ever were. */
  private readonly byId: RuleInfo[] = [];
  private sorted: RuleInfo[] | null = null;

  constructor(
    private readonly limit = RULES_MAX,
    private readonly memory: RuleMemory | null = null,
  ) {
    this.next = memory?.next ?? 1;
  }

  /**
   * Rules that come in place of others, of whole policies each: `gone` are policies' rules of before ('all': of whatever policies
   * there are), `wanted` are policies' rules from now on. Gives the ids of those wanted, in order: one that was there, with the same
   * action, keeps its id. Throws SEINE_ERR_POLICY_INVALID, and changes nothing, past the limit.
   */
  exchange(gone: Iterable<Rule> | 'all', wanted: readonly Rule[]): number[] {
    let next = this.next;
    const ids: number[] = [];
    const coming = new Map<string, { known: Map<string, RuleInfo>; infos: Set<RuleInfo> }>();
    for (const rule of wanted) {
      const key = policyOf(rule);
      let policy = coming.get(key);
      if (policy === undefined) {
        const known = new Map(this.existing.get(key)?.map((info) => [ruleOf(info), info]));
        coming.set(key, (policy = { known, infos: new Set() }));
      }
      let info = policy.known.get(ruleOf(rule));
      if (info === undefined) {
        const remembered = this.memory?.find(memoryKeyOf(rule));
        const kept = remembered !== undefined && this.byId[remembered] === undefined;
        if (!kept && next >= this.limit) {
          throw new SeineError(
            'SEINE_ERR_POLICY_INVALID',
            `policies: more than ${this.limit - 1} rules since the service started, at ${rule.kind} ${rule.namespace}/${rule.policy}; ` +
              'apply fewer rules, or restart the service, since ids are not given twice',
          );
        }
        const { kind, namespace, policy: name, direction, rule: index, action } = rule;
        info = { id: kept ? remembered : next++, kind, namespace, policy: name, rule: index, direction, action };
        policy.known.set(ruleOf(rule), info);
      }
      policy.infos.add(info);
      ids.push(info.id);
    }
    this.next = next;
    if (gone === 'all') this.existing.clear();
    else for (const rule of gone) this.existing.delete(policyOf(rule));
    for (const [key, { infos }] of coming) {
      this.existing.set(key, [...infos]);
      for (const info of infos) {
        if (this.byId[info.id] !== info) this.memory?.note(info.id, memoryKeyOf(info));
        this.byId[info.id] = info;
      }
    }
    this.sorted = null;
    return ids;
  }
  /** A rule by id, also one that no longer exists: records and verdicts may still name it. */
  get(id: number): RuleInfo | null {
    return this.byId[id] ?? null;
  }
  /** Those that exist, by id. */
  list(): RuleInfo[] {
    this.sorted ??= [...this.existing.values()].flat().sort((a, b) => a.id - b.id);
    return this.sorted;
  }
}
