/** OpenFlow port numbers of local pods (contract "Ports"): fixed by annotation, else the lowest free one, kept while the pod lives. */
import { Port } from '../batch/drop-reason.js';
import type { PortInfo } from '../engine/engine-view.js';
import { SeineError } from '../errors.js';
import type { ClusterObjects, Pod } from './model.js';

export interface PortTable {
  ports: PortInfo[];
  podByPort: Map<number, Pod>;
}

const LAST_POD_PORT = 65_532;

/** Has the pod a port on this node (null: all pods are here)? */
export const isLocal = (pod: Pod, node: string | null): boolean =>
  pod.ips.length > 0 &&
  !pod.hostNetwork &&
  pod.phase !== 'Succeeded' &&
  pod.phase !== 'Failed' &&
  (node === null || pod.nodeName === node);

export const assignPorts = (
  objects: ClusterObjects,
  node: string | null,
  hostGateway: string,
  previous: Pick<PortTable, 'ports'> | null,
): PortTable =>
  assignLocalPorts(
    [...objects.pods.values()].filter((pod) => isLocal(pod, node)),
    hostGateway,
    previous,
  );

/** Of local pods, in any order. */
export function assignLocalPorts(
  local: readonly Pod[],
  hostGateway: string,
  previous: Pick<PortTable, 'ports'> | null,
): PortTable {
  const pods = local
    .map((pod) => ({ pod, key: `${pod.namespace}/${pod.name}`, order: Buffer.from(`${pod.namespace}\0${pod.name}`) }))
    .sort((a, b) => Buffer.compare(a.order, b.order));
  const taken = new Map<number, string>();
  const numbers = new Map<string, number>();
  for (const { pod, key } of pods) {
    const given = pod.annotations['seine.dev/port'];
    if (given === undefined) continue;
    const other = taken.get(Number(given));
    if (other !== undefined) {
      throw new SeineError(
        'SEINE_ERR_OBJECT_INVALID',
        `Pod ${key}: metadata.annotations.seine.dev/port: ${given} is also Pod ${other}'s; give each its own`,
      );
    }
    taken.set(Number(given), key);
    numbers.set(key, Number(given));
  }
  const before = new Map(previous?.ports.filter(({ kind }) => kind === 'pod').map(({ name, port }) => [name, port]));
  for (const { key } of pods) {
    const port = before.get(key);
    if (port === undefined || numbers.has(key) || taken.has(port)) continue;
    taken.set(port, key);
    numbers.set(key, port);
  }
  let next: number = Port.FirstPod;
  for (const { key } of pods) {
    if (numbers.has(key)) continue;
    while (taken.has(next)) next++;
    if (next > LAST_POD_PORT)
      throw new SeineError(
        'SEINE_ERR_OBJECT_INVALID',
        `Pod ${key}: more than ${LAST_POD_PORT - 2} local pods; a node has no more ports`,
      );
    taken.set(next, key);
    numbers.set(key, next);
  }
  const ports: PortInfo[] = [
    { port: Port.Tunnel, name: 'tun0', kind: 'tunnel', ips: [], mac: null },
    { port: Port.Gateway, name: hostGateway, kind: 'gateway', ips: [], mac: null },
  ];
  const podByPort = new Map<number, Pod>();
  for (const { pod, key } of pods) {
    const port = numbers.get(key)!;
    podByPort.set(port, pod);
    ports.push({
      port,
      name: key,
      kind: 'pod',
      ips: pod.ips,
      mac: pod.annotations['seine.dev/mac']?.toLowerCase() ?? null,
    });
  }
  return { ports: ports.sort((a, b) => a.port - b.port), podByPort };
}
