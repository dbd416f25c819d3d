/** A collector's name: "HOST:PORT" or "[IPv6]:PORT"; host is an address or a name to be resolved. */
import { isIP } from 'node:net';
import { SeineError } from '../errors.js';

export interface TargetAddress {
  /** As given; the label of its counters. */
  name: string;
  host: string;
  port: number;
  /** 4 or 6 of an address; 0 = a name. */
  family: 0 | 4 | 6;
}

const HOST_NAME = /^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$/;

/** `where` names the setting in the error, e.g. `netflow.targets[1]`. Throws SEINE_ERR_CONFIG_INVALID. */
export function parseTarget(name: string, where: string): TargetAddress {
  const fail = (what: string, mend: string): never => {
    throw new SeineError('SEINE_ERR_CONFIG_INVALID', `${where}: "${name}" ${what}; ${mend}`);
  };
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?$/.exec(name);
  if (match === null) {
    return isIP(name) === 6
      ? fail('is an IPv6 address without brackets', `write [${name}]:2055`)
      : fail('is no collector', 'write HOST:PORT or [IPv6]:PORT, e.g. 10.127.1.67:2055');
  }
  const [, bracketed, plain, portText] = match;
  const host = bracketed ?? plain ?? '';
  if (portText === undefined || portText === '') fail('has no port', `write ${name.replace(/:$/, '')}:2055`);
  const port = Number(portText);
  if (!/^\d{1,5}$/.test(portText ?? '') || port < 1 || port > 65535) {
    fail(`has the port ${portText}`, 'a port is a number from 1 to 65535');
  }
  const family = isIP(host) as 0 | 4 | 6;
  if (bracketed !== undefined && family !== 6)
    fail('has no IPv6 address in its brackets', 'write [IPv6]:PORT, e.g. [2001:db8::1]:2055');
  if (bracketed === undefined && family === 0) {
    if (/^[\d.]+$/.test(host))
      fail('has no valid IPv4 address', 'write four numbers from 0 to 255, e.g. 10.127.1.67:2055');
    if (host.length > 253 || !HOST_NAME.test(host))
      fail('has no valid host name', 'write HOST:PORT, e.g. collector.example:2055');
  }
  return { name, host, port, family };
}
