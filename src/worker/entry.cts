/**
 * Worker of an engine without front ends (library, replay): adopts no connections. CommonJS, since piscina requires its
 * file first, and Node 20 can't import an ES module again whose require failed half-way.
 */
import type { WorkerTask } from './worker.js' with { 'resolution-mode': 'import' };

const run = async (task: WorkerTask): Promise<void> => (await import('./worker.js')).runWorker(task, null);
export = run;
