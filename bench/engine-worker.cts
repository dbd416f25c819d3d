/** Workers of the engine rows: shards whose one client makes its packets itself. CommonJS: see src/worker/entry.cts. */
import type { WorkerTask } from '../src/worker/worker.js' with { 'resolution-mode': 'import' };

const run = async (task: WorkerTask): Promise<void> => {
  const [{ runWorker }, { PoolClient }] = await Promise.all([import('../src/worker/worker.js'), import('./pool-client.js')]);
  return runWorker(task, (_, context, closed) => new PoolClient(context, task.settings.shard, closed));
};
export = run;
