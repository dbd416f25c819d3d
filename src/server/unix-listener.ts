/** Unix listeners: a stale socket is replaced, a live one is not; mode 0660. Accepted descriptors go to the workers. */
import { chmodSync, existsSync, lstatSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { SeineError } from '../errors.js';
import { duplicateDescriptor } from '../native/kernels.js';

export const SOCKET_MODE = 0o660;

/** Removes a socket that nobody listens on. Throws when somebody does, or when the path is something else. */
export async function clearStaleSocket(path: string): Promise<void> {
  if (!existsSync(path)) {
    try {
      lstatSync(path); // a dangling link
    } catch {
      return;
    }
  }
  if (!lstatSync(path).isSocket())
    throw new SeineError('SEINE_ERR_ADDRESS_IN_USE', `${path}: is there and no socket; remove it, or listen elsewhere`);
  const live = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT'),
    );
  });
  if (live)
    throw new SeineError(
      'SEINE_ERR_ADDRESS_IN_USE',
      `${path}: another process listens there; stop it, or listen elsewhere`,
    );
  unlinkSync(path);
}

export interface Listener {
  address: string;
  close(): Promise<void>;
}

/** Says on standard error what a listener met after it began to listen, such as a lack of descriptors; it goes on. */
export const tellTrouble =
  (address: string) =>
  (error: Error): void => {
    process.stderr.write(`seine: warning: ${address}: ${error.message}\n`);
  };

/** `adopt` gets a descriptor of its own for every client. */
export async function listenUnix(path: string, adopt: (fd: number) => void): Promise<Listener> {
  await clearStaleSocket(path);
  const server: Server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
    const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
    let own: number;
    try {
      own = duplicateDescriptor(fd);
    } catch (error) {
      tellTrouble(`unix:${path}`)(error as Error); // out of descriptors: this client is closed, others are served
      return;
    } finally {
      socket.destroy();
    }
    adopt(own);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(new SeineError('SEINE_ERR_IO', `${path}: can't listen: ${error.message}`)));
    const before = process.umask(0o117);
    server.listen(path, () => resolve());
    process.umask(before);
  });
  server.removeAllListeners('error').on('error', tellTrouble(`unix:${path}`));
  chmodSync(path, SOCKET_MODE);
  return { address: `unix:${path}`, close: () => new Promise((resolve) => server.close(() => resolve())) };
}
