/** The memif listener: a SOCK_SEQPACKET socket, which Node has no server for, mode 0660. Its clients go to the workers. */
import { chmodSync, rmSync } from 'node:fs';
import { SeineError } from '../errors.js';
import { memifAddon } from '../native/kernels.js';
import type { DescriptorWatch, MemifListener } from '../native/memif.js';
import { clearStaleSocket, type Listener, SOCKET_MODE, tellTrouble } from './unix-listener.js';

/** Pause of accepting while the process has no descriptor left. */
const RETRY_MS = 200;

/** `adopt` gets a descriptor of its own for every client, and the hub that all clients of this listener meet in. */
export async function listenMemif(path: string, adopt: (fd: number, hub: number) => void): Promise<Listener> {
  await clearStaleSocket(path);
  const addon = memifAddon();
  const before = process.umask(0o117);
  let listener: MemifListener;
  try {
    listener = new addon.MemifListener(path);
  } catch (error) {
    throw new SeineError('SEINE_ERR_IO', `${path}: can't listen: ${(error as Error).message}`);
  } finally {
    process.umask(before);
  }
  chmodSync(path, SOCKET_MODE);
  const { hub } = listener;
  const trouble = tellTrouble(`memif:${path}`);
  let watch: DescriptorWatch;
  let retry: NodeJS.Timeout | null = null;
  const accept = (): void => {
    try {
      for (let fd = listener.accept(); fd !== null; fd = listener.accept()) adopt(fd, hub);
    } catch (error) {
      trouble(error as Error);
      watch.close();
      retry = setTimeout(start, RETRY_MS);
    }
  };
  const start = (): void => {
    retry = null;
    watch = new addon.DescriptorWatch(listener.descriptor, accept);
  };
  start();
  return {
    address: `memif:${path}`,
    close: async () => {
      if (retry === null) watch.close();
      else clearTimeout(retry);
      listener.close();
      rmSync(path, { force: true });
    },
  };
}
