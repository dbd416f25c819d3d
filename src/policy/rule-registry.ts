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
  private readonly byKey = new Map<string, RuleInfo>();
  private readonly byId = new Map<number, RuleInfo>();
  private touched = new Set<string>();

  /** Begins a compilation: rules not named until `end` no longer exist afterwards. */
  begin(): void {
    this.touched = new Set();
  }
  id(rule: Omit<RuleInfo, 'id'>): number {
    const key = keyOf(rule);
    this.touched.add(key);
    const known = this.byKey.get(key);
    if (known !== undefined && known.action === rule.action) return known.id;
    if (this.next >= RULES_MAX) {
      throw new SeineError(
        'SEINE_ERR_POLICY_INVALID',
        `more than ${RULES_MAX - 1} rules since the start: restart the service`,
      );
    }
    const info = { id: this.next++, ...rule };
    this.byKey.set(key, info);
    this.byId.set(info.id, info);
    return info.id;
  }
  end(): void {
    for (const key of this.byKey.keys()) if (!this.touched.has(key)) this.byKey.delete(key);
  }
  /** A rule by id, also one that no longer exists: records and verdicts may still name it. */
  get(id: number): RuleInfo | null {
    return this.byId.get(id) ?? null;
  }
  list(): RuleInfo[] {
    return [...this.byKey.values()].sort((a, b) => a.id - b.id);
  }
}
