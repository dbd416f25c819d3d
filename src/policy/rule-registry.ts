/**
 * Ids of rules: 1-based, fixed while a rule exists, never reused in one process (contract §4 `rule`). A rule is known by
 * kind, namespace, policy, direction and its name or index; the default deny of a policy's direction is a rule of its own.
 */
import type { RuleInfo } from '../engine/engine-view.js';
import { SeineError } from '../errors.js';
import { RULES_MAX } from '../metrics/shared-counters.js';

const keyOf = (rule: Omit<RuleInfo, 'id'>): string =>
  JSON.stringify([rule.kind, rule.namespace, rule.policy, rule.direction, rule.rule]);

export class RuleRegistry {
  private next = 1;
  private byKey = new Map<string, RuleInfo>();
  private readonly byId = new Map<number, RuleInfo>();
  /** Of the compilation under way; one that fails leaves no trace. */
  private coming = new Map<string, RuleInfo>();
  private comingNext = 1;

  constructor(private readonly limit = RULES_MAX) {}

  /** Begins a compilation: rules not named until `end` no longer exist afterwards. */
  begin(): void {
    this.coming = new Map();
    this.comingNext = this.next;
  }
  id(rule: Omit<RuleInfo, 'id'>): number {
    const key = keyOf(rule);
    const known = this.coming.get(key) ?? this.byKey.get(key);
    if (known !== undefined && known.action === rule.action) {
      this.coming.set(key, known);
      return known.id;
    }
    if (this.comingNext >= this.limit) {
      throw new SeineError(
        'SEINE_ERR_POLICY_INVALID',
        `policies: more than ${this.limit - 1} rules since the service started, at ${rule.kind} ${rule.namespace}/${rule.policy}; ` +
          'apply fewer rules, or restart the service, since ids are not given twice',
      );
    }
    const info = { id: this.comingNext++, ...rule };
    this.coming.set(key, info);
    return info.id;
  }
  end(): void {
    this.next = this.comingNext;
    this.byKey = this.coming;
    this.coming = new Map();
    for (const info of this.byKey.values()) this.byId.set(info.id, info);
  }
  /** A rule by id, also one that no longer exists: records and verdicts may still name it. */
  get(id: number): RuleInfo | null {
    return this.byId.get(id) ?? null;
  }
  /** Those that exist, by id. */
  list(): RuleInfo[] {
    return [...this.byKey.values()].sort((a, b) => a.id - b.id);
  }
}
