/**
 * The addresses of `listen` (contract §2), so that `check` and a start refuse a wrong one before anything runs. What is served
 * where is server/'s; that plain TCP is for loopback only is contract §6.
 */
import { SeineError } from '../errors.js';
import type { Config } from './config.js';

/** sun_path of sockaddr_un holds 108 octets with its closing zero (unix(7)). */
const UNIX_PATH_MAX = 107;

/** `origin` names the configuration in messages. Throws SEINE_ERR_CONFIG_INVALID. */
export function checkListenAddresses({ listen }: Config, origin: string): void {
  const fail = (field: string, address: string, mend: string): never => {
    throw new SeineError('SEINE_ERR_CONFIG_INVALID', `${origin}: ${field}: found ${JSON.stringify(address)}; ${mend}`);
  };
  const path = (field: string, address: string, text: string): void => {
    if (text === '') fail(field, address, 'a path belongs behind unix:');
    if (Buffer.byteLength(text) > UNIX_PATH_MAX) {
      fail(field, address, `the path of a Unix socket has at most ${UNIX_PATH_MAX} octets; choose a shorter one`);
    }
  };
  const tcp = (field: string, address: string, forms: string): { host: string } => {
    const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(address);
    if (match === null || Number(match[3]) > 65_535) return fail(field, address, `${forms} belongs here`);
    return { host: match[1] ?? match[2]! };
  };
  if (listen.unix !== null) path('listen.unix', listen.unix, listen.unix);
  if (listen.memif !== null) path('listen.memif', listen.memif, listen.memif);
  for (const [index, address] of listen.grpc.entries()) {
    const field = `listen.grpc[${index}]`;
    if (address.startsWith('unix:')) {
      path(field, address, address.slice('unix:'.length));
      continue;
    }
    const { host } = tcp(field, address, 'unix:PATH or HOST:PORT');
    if (!/^(127(\.\d+){3}|localhost|::1)$/.test(host)) {
      fail(field, address, 'plain TCP is served on loopback only, such as 127.0.0.1:50051');
    }
  }
  if (listen.http !== null) tcp('listen.http', listen.http, 'HOST:PORT');
}
