/**
 * Local endpoints, and which policies select them. Policies with the same podSelector share a *subject*; label sets that the same
 * subjects select share a *selection*, and with it their policy sets.
 */
import type { LabelSelector } from '../objects/model.js';
import { Digest } from './digest.js';
import { SelectorIndex } from './label-index.js';
import type { PolicyState } from './compiler.js';
import type { LabelSet } from './pods.js';
import type { Section } from './sections.js';
import { changedSections, type OwnPorts, type PolicySet, type PolicySets } from './sets.js';
import { Direction } from './tables.js';

export interface Subject {
  readonly number: number;
  readonly key: string;
  readonly scope: string;
  readonly selector: LabelSelector;
  readonly policies: Set<PolicyState>;
  readonly selections: Set<Selection>;
}
export interface Selection {
  readonly key: string;
  readonly subjects: readonly Subject[];
  readonly ports: OwnPorts;
  readonly labelSets: Set<LabelSet>;
  /** By direction. */
  readonly sets: [PolicySet | null, PolicySet | null];
  digest: number;
  /** Sections that go and come, until `settle`. */
  going: Set<Section>;
  coming: Section[];
}

const NO_SET = new Digest();
const OPEN = new Digest().join(NO_SET).join(NO_SET).value();

export class Selections {
  private readonly subjects = new Map<string, Subject>();
  private readonly index = new SelectorIndex<Subject>();
  private readonly byKey = new Map<string, Selection>();
  private nextNumber = 0;
  private changed = new Set<Selection>();
  private emptied = new Set<Selection>();

  constructor(private readonly sets: PolicySets) {}

  /** A policy comes. True: nobody had its podSelector before, so that who is selected is to be found out anew. */
  add(policy: PolicyState, scope: string, selector: LabelSelector): { subject: Subject; isNew: boolean } {
    const key = JSON.stringify([scope, selector]);
    let subject = this.subjects.get(key);
    const isNew = subject === undefined;
    if (subject === undefined) {
      subject = { number: this.nextNumber++, key, scope, selector, policies: new Set(), selections: new Set() };
      this.subjects.set(key, subject);
      this.index.add(subject);
    }
    subject.policies.add(policy);
    for (const selection of subject.selections) {
      for (const section of policy.sections) if (section !== null) selection.coming.push(section);
      this.changed.add(selection);
    }
    return { subject, isNew };
  }
  /** A policy goes. True: it was the last with its podSelector. */
  remove(policy: PolicyState, subject: Subject): boolean {
    subject.policies.delete(policy);
    for (const selection of subject.selections) {
      for (const section of policy.sections) if (section !== null) selection.going.add(section);
      this.changed.add(selection);
    }
    if (subject.policies.size > 0) return false;
    this.subjects.delete(subject.key);
    this.index.delete(subject);
    return true;
  }

  /** Puts a label set with local pods where it belongs; `ports` are held for it. True: it has moved. */
  place(labelSet: LabelSet, namespace: string, ports: OwnPorts): boolean {
    const subjects = [...this.index.matching({ namespace, labels: labelSet.labels })].sort(
      (a, b) => a.number - b.number,
    );
    const key = `${subjects.map(({ number }) => number).join()} ${ports.record.key}`;
    if (labelSet.selection?.key === key) return false;
    this.leave(labelSet);
    let selection = this.byKey.get(key);
    if (selection === undefined) {
      selection = {
        key,
        subjects,
        ports,
        labelSets: new Set(),
        sets: [null, null],
        digest: OPEN,
        going: new Set(),
        coming: subjects.flatMap(({ policies }) =>
          [...policies].flatMap(({ sections }) => sections.filter((section) => section !== null)),
        ),
      };
      ports.record.holders++;
      this.byKey.set(key, selection);
      for (const subject of subjects) subject.selections.add(selection);
      this.changed.add(selection);
    }
    selection.labelSets.add(labelSet);
    labelSet.selection = selection;
    return true;
  }
  leave(labelSet: LabelSet): void {
    const { selection } = labelSet;
    if (selection === null) return;
    labelSet.selection = null;
    selection.labelSets.delete(labelSet);
    if (selection.labelSets.size === 0) this.emptied.add(selection);
  }

  /** Gives changed selections their sets, in steps. Returns those whose sets are others; `drop` is told of those that are gone. */
  *settle(drop: (selection: Selection) => void): Generator<void, Set<Selection>> {
    const result = new Set<Selection>();
    const old: { selection: Selection; set: PolicySet | null }[] = [];
    for (const selection of this.changed) {
      if (selection.labelSets.size === 0) continue;
      for (const direction of [Direction.Ingress, Direction.Egress]) {
        const before = selection.sets[direction];
        const coming = selection.coming.filter((section) => section.direction === direction);
        const list = changedSections(before?.sections ?? [], selection.going, coming);
        const set = this.sets.hold(selection, direction, list, selection.ports);
        selection.sets[direction] = set;
        if (set === before) continue;
        old.push({ selection, set: before });
        result.add(selection);
      }
      selection.going = new Set();
      selection.coming = [];
      yield;
    }
    for (const selection of this.emptied) {
      if (selection.labelSets.size > 0) continue; // somebody came again
      this.byKey.delete(selection.key);
      for (const subject of selection.subjects) subject.selections.delete(selection);
      for (const set of selection.sets) old.push({ selection, set });
      result.delete(selection);
      drop(selection);
    }
    // What the new ones share with the old ones is held by now, and is not made twice.
    for (const { selection, set } of old) this.sets.release(selection, set);
    this.changed = new Set();
    this.emptied = new Set();
    return result;
  }
  /** Its endpoints' digest anew. */
  redigest(selection: Selection): void {
    const digest = new Digest();
    for (const set of selection.sets) digest.join(set?.digest ?? NO_SET);
    selection.digest = digest.value();
  }
}
