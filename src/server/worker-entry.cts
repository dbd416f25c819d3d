/** The workers of `seine serve`: shards that own the descriptors of Unix-socket clients. CommonJS: see worker/entry.cts. */
import type { WorkerTask } from '../worker/worker.js' with { 'resolution-mode': 'import' };

const run = async (task: WorkerTask): Promise<void> => {
  const [{ runWorker }, { UnixConnection }] = await Promise.all([import('../worker/worker.js'), import('./unix-connection.js')]);
  return runWorker(task, (fd, context, closed) => new UnixConnection(fd, context, closed));
};
export = run;
