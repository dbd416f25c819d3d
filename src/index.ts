/** seine as a library: the engine in this process (contract §7). Clients of a running service are in `seine/client`. */
import type { Config } from './config/config.js';
import { parseConfig } from './config/read.js';
import { Engine as CoreEngine } from './engine/engine.js';
import type { ClusterObjects } from './objects/model.js';
import { readManifest } from './objects/read.js';
import { applyObjects, emptyObjects } from './objects/store.js';

export type { Config } from './config/config.js';
export type { BatchInput, BatchOutput, RuleInfo, PortInfo } from './engine/engine-view.js';
export { CT_BITS, DROP_REASONS, STAGES, VERDICTS } from './batch/drop-reason.js';
export { SeineError } from './errors.js';
export { type FiveTupleRule, RuleTree } from './policy/rule-tree/rule-tree.js';
export { RuleTreeReader } from './policy/rule-tree/rule-tree-reader.js';

export interface StartOptions {
  /** The configuration of contract §2: YAML text, or an object with some of its keys. */
  config?: string | Record<string, unknown>;
  /** Objects: a manifest (YAML or JSON text), or Kubernetes objects as they are. */
  objects?: string | readonly object[];
}

export const Engine = {
  /** Starts the engine's workers. Throws SeineError for a wrong setting or object. */
  async start({ config = {}, objects = [] }: StartOptions = {}): Promise<CoreEngine> {
    const parsed: Config = parseConfig(config, 'config').config;
    const text = typeof objects === 'string' ? objects : JSON.stringify(objects);
    const read = applyObjects(emptyObjects(), readManifest(text, 'objects').inputs).objects as ClusterObjects;
    return CoreEngine.start({ config: parsed, objects: read });
  },
};
export type Engine = CoreEngine;
