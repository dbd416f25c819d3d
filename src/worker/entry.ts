/** Worker of an engine without front ends (library, replay): adopts no connections. */
import { runWorker, type WorkerTask } from './worker.js';

export default (task: WorkerTask): Promise<void> => runWorker(task, null);
