/**
 * What selectors and rules ask of pods: values of labels, whether a label is there, names of ports. Pods that differ in nothing
 * that was ever asked are one identity. What was asked once stays asked: parting more finely than need be changes no decision.
 */
import type { Labels, NamedPort, NetworkPolicy } from '../objects/model.js';

/** A label's value that nobody asked for, where its being there was asked. No label has it. */
const OTHER = '\0';

/** Traits of pods under which the asked ones are known: of a label with its value, of a label, of a port's name. */
const valueTrait = (key: string, value: string): string => `${key}\0${value}`;
const portTrait = (name: string): string => `\0${name}`;
export function traitsOf(labels: Labels, namedPorts: readonly NamedPort[]): string[] {
  const traits: string[] = [];
  for (const key in labels) if (Object.hasOwn(labels, key)) traits.push(key, valueTrait(key, labels[key]!));
  for (const { name } of namedPorts) traits.push(portTrait(name));
  return traits;
}

export class Asked {
  private readonly traits = new Set<string>();

  /** Notes what a policy's peers and ports ask; new traits are added to `found`. */
  ask({ ingress, egress }: NetworkPolicy, found: Set<string>): void {
    const note = (trait: string) => {
      if (this.traits.has(trait)) return;
      this.traits.add(trait);
      found.add(trait);
    };
    for (const rules of [ingress, egress]) {
      for (const { peers, ports } of rules ?? []) {
        for (const { podSelector } of peers) {
          for (const key in podSelector?.matchLabels) note(valueTrait(key, podSelector.matchLabels[key]!));
          for (const { key, operator, values = [] } of podSelector?.matchExpressions ?? []) {
            if (operator === 'Exists' || operator === 'DoesNotExist') note(key);
            else for (const value of values) note(valueTrait(key, value));
          }
        }
        for (const { port } of ports) if (typeof port === 'string') note(portTrait(port));
      }
    }
  }
  /** Labels as far as they were asked for, in order of their keys. */
  labels(labels: Labels): Labels {
    const reduced = Object.create(null) as Record<string, string>;
    for (const key of Object.keys(labels).sort()) {
      if (this.traits.has(valueTrait(key, labels[key]!))) reduced[key] = labels[key]!;
      else if (this.traits.has(key)) reduced[key] = OTHER;
    }
    return reduced;
  }
  ports(ports: readonly NamedPort[]): readonly NamedPort[] {
    return ports.length === 0 ? ports : ports.filter(({ name }) => this.traits.has(portTrait(name)));
  }
}
