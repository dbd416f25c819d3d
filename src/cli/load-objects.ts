/** `--config` and `--objects` of every command that needs them: read, validated, warnings told on standard error. */
import type { Config } from '../config/config.js';
import { checkListenAddresses } from '../config/listen-addresses.js';
import { readConfig } from '../config/read.js';
import type { ClusterObjects } from '../objects/model.js';
import { readManifest, readObjectFiles } from '../objects/read.js';
import { applyObjects, emptyObjects } from '../objects/store.js';

export interface Given {
  config: Config;
  objects: ClusterObjects;
  warnings: string[];
}

/** `manifest`: objects as text in place of files. `autoWorkers`: what `workers: auto` stands for (config/read.ts). */
export function loadGiven(
  configPath: string | undefined,
  objectPaths: readonly string[],
  manifest?: { text: string; origin: string },
  autoWorkers?: number,
): Given {
  const { config, warnings } = readConfig(configPath ?? null, autoWorkers);
  checkListenAddresses(config, configPath ?? 'configuration');
  const read = readObjectFiles(objectPaths);
  const extra = manifest === undefined ? { inputs: [], warnings: [] } : readManifest(manifest.text, manifest.origin);
  const { objects } = applyObjects(emptyObjects(), [...read.inputs, ...extra.inputs]);
  return { config, objects, warnings: [...warnings, ...read.warnings, ...extra.warnings, ...notApplied(objects)] };
}

/** Objects that are read and listed, but that no stage acts on. */
function notApplied({ services }: ClusterObjects): string[] {
  if (services.size === 0) return [];
  return [
    `${services.size} Service${services.size === 1 ? '' : 's'}: listed, but not load-balanced by this version; a packet to a cluster IP is judged by that address`,
  ];
}

export function tellWarnings(warnings: readonly string[]): void {
  for (const warning of warnings) process.stderr.write(`seine: warning: ${warning}\n`);
}

export const collect = (value: string, previous: string[]): string[] => [...previous, value];
