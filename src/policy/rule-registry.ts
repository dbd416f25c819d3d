/**
 * Ids of rules: 1-based, fixed while a rule exists, never reused in one process (contract §4 `rule`). A rule is known by
 * kind, namespace, policy, direction and its name or index; the default deny of a policy's direction is a rule of its own.
 */
import type { RuleInfo } from '../engine/engine-view.js';
import { SeineError } from '../errors.js';
import { RULES_MAX } from '../metrics/shared-counters.js';

export type Rule = Omit<RuleInfo, 'id'>;

const keyOf = ({ kind, namespace, policy, direction, rule }: Rule): string =>
  `${kind}\0${namespace ?? ''}\0${policy}\0${direction}\0${typeof rule === 'string' ? `"${rule}` : rule}`;

/** What an earlier process gave: so that a rule keeps its id over a restart. */
export interface RuleMemory {
  /** The lowest id that was never given. */
  readonly next: number;
  find(key: string): number | undefined;
  note(id: number, key: string): void;
}

export class RuleRegistry {
  private next: number;
  private readonly byKey = new Map<string, RuleInfo>();
  private readonly byId = new Map<number, RuleInfo>();
  private sorted: RuleInfo[] | null = null;

  constructor(
    private readonly limit = RULES_MAX,
    private readonly memory: RuleMemory | null = null,
  ) {
    this.next = memory?.next ?? 1;
  }

  /**
   * Rules that come in place of others ('all': of whatever there is): their ids, in order. One that is on both sides keeps its
   * id; those on the old side alone exist no longer. Throws SEINE_ERR_POLICY_INVALID, and changes nothing, past the limit.
   */
  exchange(gone: Iterable<Rule> | 'all', wanted: readonly Rule[]): number[] {
    let next = this.next;
    const ids: number[] = [];
    const keys = wanted.map(keyOf);
    const coming = new Map<string, RuleInfo>();
    wanted.forEach((rule, index) => {
      const key = keys[index]!;
      let info = coming.get(key) ?? this.byKey.get(key);
      if (info === undefined || info.action !== rule.action) {
        const remembered = this.memory?.find(`${key}\0${rule.action}`);
        const kept = remembered !== undefined && !this.byId.has(remembered);
        if (!kept && next >= this.limit) {
          throw new SeineError(
            'SEINE_ERR_POLICY_INVALID',
            `policies: more than ${this.limit - 1} rules since the service started, at ${rule.kind} ${rule.namespace}/${rule.policy}; ` +
              'apply fewer rules, or restart the service, since ids are not given twice',
          );
        }
        info = { id: kept ? remembered : next++, ...rule };
      }
      coming.set(key, info);
      ids.push(info.id);
    });
    this.next = next;
    if (gone === 'all') this.byKey.clear();
    else for (const rule of gone) this.byKey.delete(keyOf(rule));
    for (const [key, info] of coming) {
      this.byKey.set(key, info);
      if (this.byId.get(info.id) !== info) this.memory?.note(info.id, `${key}\0${info.action}`);
      this.byId.set(info.id, info);
    }
    this.sorted = null;
    return ids;
  }
  /** A rule by id, also one that no longer exists: records and verdicts may still name it. */
  get(id: number): RuleInfo | null {
    return this.byId.get(id) ?? null;
  }
  /** Those that exist, by id. */
  list(): RuleInfo[] {
    this.sorted ??= [...this.byKey.values()].sort((a, b) => a.id - b.id);
    return this.sorted;
  }
}
