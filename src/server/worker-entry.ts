/** The workers of `seine serve`: shards that own the descriptors of Unix-socket clients. */
import { runWorker, type WorkerTask } from '../worker/worker.js';
import { UnixConnection } from './unix-connection.js';

export default (task: WorkerTask): Promise<void> => runWorker(task, (fd, context, closed) => new UnixConnection(fd, context, closed));
