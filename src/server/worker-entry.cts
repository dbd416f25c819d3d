/** The workers of `seine serve`: shards that own the descriptors of Unix-socket and memif clients. CommonJS: see worker/entry.cts. */
import type { WorkerTask } from '../worker/worker.js' with { 'resolution-mode': 'import' };
import type { MemifServer as Memif } from './memif-server.js' with { 'resolution-mode': 'import' };

const run = async (task: WorkerTask): Promise<void> => {
  const [{ runWorker }, { UnixConnection }, { MemifServer, adoptMemif }] = await Promise.all([
    import('../worker/worker.js'),
    import('./unix-connection.js'),
    import('./memif-server.js'),
  ]);
  let memif: Memif | null = null;
  return runWorker(task, (fd, context, closed, memifHub) => {
    if (memifHub === undefined) return new UnixConnection(fd, context, closed);
    const server = () => {
      memif ??= new MemifServer(memifHub, context);
      return memif;
    };
    return adoptMemif(server, fd, closed);
  });
};
export = run;
