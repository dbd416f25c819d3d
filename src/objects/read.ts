/**
 * Manifests to objects: YAML or JSON, several documents, lists, as `kubectl get … -o yaml` prints them. Known kinds are
 * validated as the Kubernetes API does, so far as the engine uses them; a wrong one is an error that names file, line,
 * object and field. Other kinds are ignored with one warning each.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type * as Yaml from 'yaml';
import { SeineError } from '../errors.js';
import { formatAddress, parseAddress, parseCidr, parseMac } from '../flow/ip-address.js';
import type {
  EndpointSlice,
  Labels,
  LabelSelector,
  NamedPort,
  Namespace,
  NetworkPolicy,
  NetworkPolicyPeer,
  NetworkPolicyPort,
  NetworkPolicyRule,
  Node,
  Pod,
  Protocol,
  Service,
  ServicePort,
} from './model.js';
import { yaml } from './packages.js';

export type KnownKind = 'Namespace' | 'Pod' | 'Node' | 'Service' | 'EndpointSlice' | 'NetworkPolicy';
export type ObjectInput =
  | { kind: 'Namespace'; key: string; value: Namespace }
  | { kind: 'Pod'; key: string; value: Pod }
  | { kind: 'Node'; key: string; value: Node }
  | { kind: 'Service'; key: string; value: Service }
  | { kind: 'EndpointSlice'; key: string; value: EndpointSlice }
  | { kind: 'NetworkPolicy'; key: string; value: NetworkPolicy };
export interface ReadResult {
  inputs: ObjectInput[];
  warnings: string[];
}

const KNOWN: Readonly<Record<string, readonly [group: string, kind: KnownKind]>> = {
  'v1/Namespace': ['', 'Namespace'],
  'v1/Pod': ['', 'Pod'],
  'v1/Node': ['', 'Node'],
  'v1/Service': ['', 'Service'],
  'discovery.k8s.io/v1/EndpointSlice': ['discovery.k8s.io', 'EndpointSlice'],
  'discovery.k8s.io/v1beta1/EndpointSlice': ['discovery.k8s.io', 'EndpointSlice'],
  'networking.k8s.io/v1/NetworkPolicy': ['networking.k8s.io', 'NetworkPolicy'],
};
/** Policies that are not enforced: their warning says so. */
const UNENFORCED = new Set(['crd.antrea.io', 'policy.networking.k8s.io']);

type Raw = Record<string, unknown>;
type Path = (string | number)[];

/** Where a value stands, for messages: how to find the line of a path in the document. */
class Place {
  constructor(
    readonly file: string,
    readonly lineOf: (path: Path) => number,
    readonly base: Path,
  ) {}
  at(path: Path): string {
    return `${this.file}:${this.lineOf([...this.base, ...path])}`;
  }
  under(path: Path): Place {
    return new Place(this.file, this.lineOf, [...this.base, ...path]);
  }
}

class Reader {
  readonly inputs: ObjectInput[] = [];
  readonly warnings: string[] = [];
  private readonly ignored = new Map<string, { count: number; first: string }>();

  text(text: string, file: string): void {
    if (/^\s*[{[]/.test(text)) {
      try {
        const value: unknown = JSON.parse(text);
        const lines = new JsonLines(text);
        this.document(value, new Place(file, (path) => lines.lineOf(path), []));
        return;
      } catch (error) {
        if (error instanceof SeineError) throw error;
        // Flow-style YAML also begins so: the YAML reader tells what is wrong.
      }
    }
    const { isMap, isNode, isSeq, LineCounter, parseAllDocuments } = yaml();
    const lines = new LineCounter();
    let documents: Yaml.Document.Parsed[];
    try {
      const parsed = parseAllDocuments(text, { lineCounter: lines, merge: true, logLevel: 'silent', uniqueKeys: true });
      documents = 'empty' in parsed ? [] : (parsed as Yaml.Document.Parsed[]);
    } catch (error) {
      throw new SeineError('SEINE_ERR_OBJECT_INVALID', `${file}:1: not YAML: ${(error as Error).message}`);
    }
    for (const document of documents) {
      const fault = document.errors[0];
      if (fault !== undefined) {
        const line = lines.linePos(fault.pos[0]).line;
        throw new SeineError('SEINE_ERR_OBJECT_INVALID', `${file}:${line}: not YAML: ${fault.message.split('\n')[0]}`);
      }
      let value: unknown;
      try {
        value = document.toJS({ maxAliasCount: 1000 });
      } catch (error) {
        const start = lines.linePos(document.contents?.range?.[0] ?? 0).line;
        throw new SeineError('SEINE_ERR_OBJECT_INVALID', `${file}:${start}: not YAML: ${(error as Error).message}`);
      }
      const lineOf = (path: Path): number => {
        // The key of the deepest part of the path that is there.
        let node: unknown = document.contents;
        let offset = document.contents?.range?.[0] ?? 0;
        for (const step of path) {
          if (isMap(node)) {
            const pair = node.items.find(
              (item) => isNode(item.key) && String((item.key as { value?: unknown }).value) === String(step),
            );
            if (pair === undefined) break;
            offset = (pair.key as { range?: [number, number, number] }).range?.[0] ?? offset;
            node = pair.value;
          } else if (isSeq(node)) {
            const item = node.items[Number(step)];
            if (item === undefined) break;
            node = item;
            offset = (item as { range?: [number, number, number] }).range?.[0] ?? offset;
          } else break;
        }
        return lines.linePos(offset).line;
      };
      this.document(value, new Place(file, lineOf, []));
    }
  }

  private document(value: unknown, place: Place): void {
    if (value === null || value === undefined) return;
    if (Array.isArray(value)) {
      for (const [index, item] of value.entries()) this.document(item, place.under([index]));
      return;
    }
    if (typeof value !== 'object') {
      throw new SeineError(
        'SEINE_ERR_OBJECT_INVALID',
        `${place.at([])}: found ${describe(value)} where an object with apiVersion and kind belongs`,
      );
    }
    const raw = value as Raw;
    const kind = raw.kind;
    const apiVersion = raw.apiVersion;
    if (typeof kind !== 'string' || kind === '') {
      throw new SeineError(
        'SEINE_ERR_OBJECT_INVALID',
        `${place.at([])}: an object without kind; every object needs apiVersion and kind`,
      );
    }
    if (kind.endsWith('List') && (Array.isArray(raw.items) || raw.items === null || raw.items === undefined)) {
      const itemKind = kind.slice(0, -4);
      ((raw.items ?? []) as unknown[]).forEach((item, index) => {
        const typed = itemKind !== '' && isObject(item) ? { kind: itemKind, apiVersion, ...item } : item;
        this.document(typed, place.under(['items', index]));
      });
      return;
    }
    const known = KNOWN[`${String(apiVersion)}/${kind}`];
    if (known === undefined) {
      const sameKind = Object.entries(KNOWN).find(([, [, name]]) => name === kind);
      const group = String(apiVersion ?? '').includes('/') ? String(apiVersion).split('/')[0]! : '';
      if (sameKind !== undefined && (apiVersion === undefined || group === sameKind[1][0])) {
        const expected = sameKind[0].slice(0, sameKind[0].lastIndexOf('/'));
        throw new SeineError(
          'SEINE_ERR_OBJECT_INVALID',
          `${place.at(['apiVersion'])}: ${kind}: apiVersion: found ${describe(apiVersion)}; ${expected} is read`,
        );
      }
      const name = group === '' ? kind : `${kind}.${group}`;
      const before = this.ignored.get(name);
      if (before !== undefined) before.count++;
      else this.ignored.set(name, { count: 1, first: place.at([]) });
      return;
    }
    const object = new ObjectReader(raw, known[1], place, this.warnings);
    this.inputs.push(object.read());
  }

  finish(): ReadResult {
    for (const [name, { count, first }] of this.ignored) {
      const group = name.slice(name.indexOf('.') + 1);
      const what = UNENFORCED.has(group) ? 'not enforced by this version' : 'not used';
      this.warnings.push(`${first}: ${name}: kind ignored, ${what} (${count} object${count === 1 ? '' : 's'})`);
    }
    return { inputs: this.inputs, warnings: this.warnings };
  }
}

const isObject = (value: unknown): value is Raw => typeof value === 'object' && value !== null && !Array.isArray(value);
const describe = (value: unknown): string =>
  value === undefined
    ? 'nothing'
    : typeof value === 'string'
      ? JSON.stringify(value)
      : Array.isArray(value)
        ? 'a list'
        : isObject(value)
          ? 'a map'
          : String(value);

/**
 * Lines of paths in JSON text that JSON.parse has taken. Where items and members stand is kept, so that many warnings
 * about one large list cost one pass over it.
 */
class JsonLines {
  private readonly lineStarts: number[] = [];
  private readonly elements = new Map<number, number[]>();
  private readonly members = new Map<number, ReadonlyMap<string, number>>();
  constructor(private readonly text: string) {}

  lineOf(path: Path): number {
    let at = this.space(0);
    let named = at; // where the deepest key of the path stands
    for (const step of path) {
      if (typeof step === 'number') {
        const start = this.text[at] === '[' ? this.elementsOf(at)[step] : undefined;
        if (start === undefined) break;
        at = named = start;
      } else {
        const key = this.text[at] === '{' ? this.membersOf(at).get(step) : undefined;
        if (key === undefined) break;
        named = key;
        at = this.space(this.space(this.afterString(key)) + 1);
      }
    }
    return this.line(named);
  }

  private line(offset: number): number {
    if (this.lineStarts.length === 0) {
      for (let at = 0; at >= 0 && at <= this.text.length; ) {
        this.lineStarts.push(at);
        const end = this.text.indexOf('\n', at);
        at = end < 0 ? -1 : end + 1;
      }
    }
    const starts = this.lineStarts;
    let low = 0;
    let high = starts.length;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (starts[middle]! <= offset) low = middle;
      else high = middle;
    }
    return low + 1;
  }
  private space(at: number): number {
    let i = at;
    while (i < this.text.length && this.text.charCodeAt(i) <= 0x20) i++;
    return i;
  }
  private afterString(at: number): number {
    let i = at + 1;
    while (this.text[i] !== '"') i += this.text[i] === '\\' ? 2 : 1;
    return i + 1;
  }
  /** The offset behind the value that begins at `at`. */
  private afterValue(at: number): number {
    let depth = 0;
    let i = at;
    while (i < this.text.length) {
      const c = this.text[i]!;
      if (c === '"') {
        i = this.afterString(i);
        if (depth === 0) return i;
        continue;
      }
      if (c === '{' || c === '[') depth++;
      else if (c === '}' || c === ']') {
        if (depth === 0) return i;
        if (--depth === 0) return i + 1;
      } else if (c === ',' && depth === 0) return i;
      i++;
    }
    return i;
  }
  private elementsOf(list: number): number[] {
    const known = this.elements.get(list);
    if (known !== undefined) return known;
    const starts: number[] = [];
    for (let at = this.space(list + 1); this.text[at] !== ']'; ) {
      starts.push(at);
      at = this.space(this.afterValue(at));
      if (this.text[at] === ',') at = this.space(at + 1);
    }
    this.elements.set(list, starts);
    return starts;
  }
  /** Where the keys of a map stand; of a key given twice the last, whose value JSON.parse keeps. */
  private membersOf(map: number): ReadonlyMap<string, number> {
    const known = this.members.get(map);
    if (known !== undefined) return known;
    const keys = new Map<string, number>();
    for (let at = this.space(map + 1); this.text[at] !== '}'; ) {
      const end = this.afterString(at);
      keys.set(JSON.parse(this.text.slice(at, end)), at);
      at = this.space(this.afterValue(this.space(this.space(end) + 1)));
      if (this.text[at] === ',') at = this.space(at + 1);
    }
    this.members.set(map, keys);
    return keys;
  }
}

const DNS_SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const DNS_LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const LABEL_NAME = /^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
const PORT_NAME = /^(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$/;
const OPERATORS = ['In', 'NotIn', 'Exists', 'DoesNotExist'];

class ObjectReader {
  private readonly title: string;
  private readonly namespace: string;
  private readonly name: string;
  constructor(
    private readonly raw: Raw,
    private readonly kind: KnownKind,
    private readonly place: Place,
    private readonly warnings: string[],
  ) {
    const metadata = isObject(raw.metadata) ? raw.metadata : {};
    const namespaced = kind !== 'Namespace' && kind !== 'Node';
    this.name = typeof metadata.name === 'string' ? metadata.name : '';
    this.namespace = namespaced
      ? typeof metadata.namespace === 'string' && metadata.namespace !== ''
        ? metadata.namespace
        : 'default'
      : '';
    this.title = namespaced ? `${kind} ${this.namespace}/${this.name}` : `${kind} ${this.name}`;
    if (this.name === '')
      this.fail(['metadata', 'name'], 'metadata.name', `found ${describe(metadata.name)}; every object needs a name`);
    if (!DNS_SUBDOMAIN.test(this.name) || this.name.length > 253) {
      this.fail(
        ['metadata', 'name'],
        'metadata.name',
        `${describe(this.name)} is no DNS subdomain (lower case letters, digits, '-' and '.')`,
      );
    }
    if (namespaced && (!DNS_LABEL.test(this.namespace) || this.namespace.length > 63)) {
      this.fail(['metadata', 'namespace'], 'metadata.namespace', `${describe(this.namespace)} is no DNS label`);
    }
  }

  private fail(path: Path, field: string, problem: string): never {
    const code = this.kind === 'NetworkPolicy' ? 'SEINE_ERR_POLICY_INVALID' : 'SEINE_ERR_OBJECT_INVALID';
    throw new SeineError(code, `${this.place.at(path)}: ${this.title}: ${field}: ${problem}`);
  }

  read(): ObjectInput {
    const key = this.namespace === '' ? this.name : `${this.namespace}/${this.name}`;
    switch (this.kind) {
      case 'Namespace':
        return {
          kind: 'Namespace',
          key,
          value: { name: this.name, labels: { ...this.labels('labels'), 'kubernetes.io/metadata.name': this.name } },
        };
      case 'Pod':
        return { kind: 'Pod', key, value: this.pod() };
      case 'Node':
        return { kind: 'Node', key, value: this.node() };
      case 'Service':
        return { kind: 'Service', key, value: this.service() };
      case 'EndpointSlice':
        return { kind: 'EndpointSlice', key, value: this.endpointSlice() };
      case 'NetworkPolicy':
        return { kind: 'NetworkPolicy', key, value: this.networkPolicy() };
    }
  }

  private map(parent: Raw, key: string, path: Path, field: string): Raw {
    const value = parent[key];
    if (value === undefined || value === null) return {};
    if (!isObject(value)) this.fail(path, field, `found ${describe(value)}; a map belongs here`);
    return value;
  }
  private list(parent: Raw, key: string, path: Path, field: string): unknown[] {
    const value = parent[key];
    if (value === undefined || value === null) return [];
    if (!Array.isArray(value)) this.fail(path, field, `found ${describe(value)}; a list belongs here`);
    return value;
  }
  private labels(which: 'labels' | 'annotations'): Labels {
    const metadata = this.map(this.raw, 'metadata', ['metadata'], 'metadata');
    const labels = this.map(metadata, which, ['metadata', which], `metadata.${which}`);
    for (const [key, value] of Object.entries(labels)) {
      if (typeof value !== 'string')
        this.fail(
          ['metadata', which, key],
          `metadata.${which}.${key}`,
          `found ${describe(value)}; a string belongs here (quote it)`,
        );
    }
    return labels as Record<string, string>;
  }
  private protocol(value: unknown, path: Path, field: string): Protocol {
    if (value === undefined || value === null) return 'TCP';
    if (value !== 'TCP' && value !== 'UDP' && value !== 'SCTP')
      this.fail(path, field, `found ${describe(value)}; TCP, UDP or SCTP belongs here`);
    return value;
  }
  private portNumber(value: unknown, path: Path, field: string): number {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < 1 || value > 65535) {
      this.fail(path, field, `found ${describe(value)}; a port is a whole number from 1 to 65535`);
    }
    return value;
  }
  private address(value: unknown, path: Path, field: string): string {
    const parsed = typeof value === 'string' ? parseAddress(value) : null;
    if (parsed === null) this.fail(path, field, `${describe(value)} is no IP address`);
    return formatAddress(parsed.words, 0, parsed.family);
  }

  private pod(): Pod {
    const spec = this.map(this.raw, 'spec', ['spec'], 'spec');
    const status = this.map(this.raw, 'status', ['status'], 'status');
    const annotations = this.labels('annotations');
    const mac = annotations['seine.dev/mac'];
    const macPath: Path = ['metadata', 'annotations', 'seine.dev/mac'];
    if (mac !== undefined && parseMac(mac) === null)
      this.fail(macPath, 'metadata.annotations.seine.dev/mac', `${describe(mac)} is no MAC address`);
    const port = annotations['seine.dev/port'];
    if (port !== undefined && (!/^\d+$/.test(port) || Number(port) < 3 || Number(port) > 65532)) {
      this.fail(
        ['metadata', 'annotations', 'seine.dev/port'],
        'metadata.annotations.seine.dev/port',
        `found ${describe(port)}; a port number from 3 to 65532 belongs here`,
      );
    }
    const ips: string[] = [];
    this.list(status, 'podIPs', ['status', 'podIPs'], 'status.podIPs').forEach((entry, index) => {
      const ip = isObject(entry) ? entry.ip : entry;
      ips.push(this.address(ip, ['status', 'podIPs', index], `status.podIPs[${index}].ip`));
    });
    if (ips.length === 0 && status.podIP !== undefined && status.podIP !== null && status.podIP !== '') {
      ips.push(this.address(status.podIP, ['status', 'podIP'], 'status.podIP'));
    }
    const namedPorts: NamedPort[] = [];
    for (const group of ['containers', 'initContainers'] as const) {
      this.list(spec, group, ['spec', group], `spec.${group}`).forEach((container, c) => {
        if (!isObject(container))
          this.fail(['spec', group, c], `spec.${group}[${c}]`, `found ${describe(container)}; a map belongs here`);
        // Ports of an init container serve only when it is a sidecar (restartPolicy: Always).
        if (group === 'initContainers' && container.restartPolicy !== 'Always') return;
        const base: Path = ['spec', group, c, 'ports'];
        this.list(container, 'ports', base, `spec.${group}[${c}].ports`).forEach((entry, p) => {
          const field = `spec.${group}[${c}].ports[${p}]`;
          if (!isObject(entry)) this.fail([...base, p], field, `found ${describe(entry)}; a map belongs here`);
          const number = this.portNumber(entry.containerPort, [...base, p, 'containerPort'], `${field}.containerPort`);
          const protocol = this.protocol(entry.protocol, [...base, p, 'protocol'], `${field}.protocol`);
          if (typeof entry.name === 'string' && entry.name !== '')
            namedPorts.push({ name: entry.name, protocol, port: number });
        });
      });
    }
    return {
      namespace: this.namespace,
      name: this.name,
      labels: this.labels('labels'),
      annotations,
      nodeName: typeof spec.nodeName === 'string' && spec.nodeName !== '' ? spec.nodeName : null,
      hostNetwork: spec.hostNetwork === true,
      phase: typeof status.phase === 'string' ? status.phase : null,
      ips: [...new Set(ips)],
      namedPorts,
      serviceAccount: typeof spec.serviceAccountName === 'string' ? spec.serviceAccountName : null,
    };
  }

  private node(): Node {
    const spec = this.map(this.raw, 'spec', ['spec'], 'spec');
    const status = this.map(this.raw, 'status', ['status'], 'status');
    const cidrs = this.list(spec, 'podCIDRs', ['spec', 'podCIDRs'], 'spec.podCIDRs');
    if (cidrs.length === 0 && typeof spec.podCIDR === 'string' && spec.podCIDR !== '') cidrs.push(spec.podCIDR);
    cidrs.forEach((cidr, index) => {
      if (typeof cidr !== 'string' || parseCidr(cidr) === null)
        this.fail(['spec', 'podCIDRs', index], `spec.podCIDRs[${index}]`, `${describe(cidr)} is no CIDR`);
    });
    const internalIPs: string[] = [];
    this.list(status, 'addresses', ['status', 'addresses'], 'status.addresses').forEach((entry, index) => {
      if (isObject(entry) && entry.type === 'InternalIP')
        internalIPs.push(
          this.address(entry.address, ['status', 'addresses', index], `status.addresses[${index}].address`),
        );
    });
    const annotations = this.labels('annotations');
    const mac = annotations['seine.dev/mac'];
    if (mac !== undefined && parseMac(mac) === null) {
      this.fail(
        ['metadata', 'annotations', 'seine.dev/mac'],
        'metadata.annotations.seine.dev/mac',
        `${describe(mac)} is no MAC address`,
      );
    }
    return { name: this.name, labels: this.labels('labels'), annotations, podCIDRs: cidrs as string[], internalIPs };
  }

  private service(): Service {
    const spec = this.map(this.raw, 'spec', ['spec'], 'spec');
    const status = this.map(this.raw, 'status', ['status'], 'status');
    const addresses = (list: unknown[], path: Path, field: string): string[] =>
      list
        .filter((ip) => ip !== 'None' && ip !== '')
        .map((ip, index) => this.address(ip, [...path, index], `${field}[${index}]`));
    const clusterIPs = this.list(spec, 'clusterIPs', ['spec', 'clusterIPs'], 'spec.clusterIPs');
    if (clusterIPs.length === 0 && typeof spec.clusterIP === 'string') clusterIPs.push(spec.clusterIP);
    const ports = this.list(spec, 'ports', ['spec', 'ports'], 'spec.ports').map((entry, index): ServicePort => {
      const field = `spec.ports[${index}]`;
      if (!isObject(entry)) this.fail(['spec', 'ports', index], field, `found ${describe(entry)}; a map belongs here`);
      return {
        name: typeof entry.name === 'string' ? entry.name : null,
        protocol: this.protocol(entry.protocol, ['spec', 'ports', index, 'protocol'], `${field}.protocol`),
        port: this.portNumber(entry.port, ['spec', 'ports', index, 'port'], `${field}.port`),
        targetPort:
          typeof entry.targetPort === 'number' || typeof entry.targetPort === 'string' ? entry.targetPort : null,
        nodePort: typeof entry.nodePort === 'number' ? entry.nodePort : null,
      };
    });
    const ingress = this.list(
      this.map(status, 'loadBalancer', ['status', 'loadBalancer'], 'status.loadBalancer'),
      'ingress',
      ['status'],
      'status.loadBalancer.ingress',
    );
    return {
      namespace: this.namespace,
      name: this.name,
      type: typeof spec.type === 'string' ? spec.type : 'ClusterIP',
      clusterIPs: addresses(clusterIPs, ['spec', 'clusterIPs'], 'spec.clusterIPs'),
      externalIPs: addresses(
        this.list(spec, 'externalIPs', ['spec', 'externalIPs'], 'spec.externalIPs'),
        ['spec', 'externalIPs'],
        'spec.externalIPs',
      ),
      loadBalancerIPs: ingress.flatMap((entry) => (isObject(entry) && typeof entry.ip === 'string' ? [entry.ip] : [])),
      ports,
      selector: isObject(spec.selector) ? (spec.selector as Labels) : null,
      spec,
    };
  }

  private endpointSlice(): EndpointSlice {
    const labels = this.labels('labels');
    return {
      namespace: this.namespace,
      name: this.name,
      service: labels['kubernetes.io/service-name'] ?? null,
      addressType: typeof this.raw.addressType === 'string' ? this.raw.addressType : 'IPv4',
      endpoints: this.list(this.raw, 'endpoints', ['endpoints'], 'endpoints') as Raw[],
      ports: this.list(this.raw, 'ports', ['ports'], 'ports') as Raw[],
    };
  }

  private networkPolicy(): NetworkPolicy {
    if (!isObject(this.raw.spec))
      this.fail(['spec'], 'spec', `found ${describe(this.raw.spec)}; a NetworkPolicy needs a spec`);
    const spec = this.raw.spec;
    this.unknown(spec, ['podSelector', 'ingress', 'egress', 'policyTypes'], ['spec'], 'spec');
    const podSelector = this.selector(spec.podSelector ?? {}, ['spec', 'podSelector'], 'podSelector');
    const types = this.list(spec, 'policyTypes', ['spec', 'policyTypes'], 'policyTypes');
    types.forEach((type, index) => {
      if (type !== 'Ingress' && type !== 'Egress')
        this.fail(
          ['spec', 'policyTypes', index],
          `policyTypes[${index}]`,
          `found ${describe(type)}; Ingress or Egress belongs here`,
        );
    });
    const rules = (direction: 'ingress' | 'egress'): NetworkPolicyRule[] =>
      this.list(spec, direction, ['spec', direction], direction).map((rule, index) =>
        this.rule(rule, direction, index),
      );
    const ingress = rules('ingress');
    const egress = rules('egress');
    const hasIngress = types.length === 0 || types.includes('Ingress');
    const hasEgress = types.length === 0 ? egress.length > 0 : types.includes('Egress');
    return {
      namespace: this.namespace,
      name: this.name,
      annotations: this.labels('annotations'),
      podSelector,
      ingress: hasIngress ? ingress : null,
      egress: hasEgress ? egress : null,
    };
  }

  private unknown(value: Raw, known: readonly string[], path: Path, field: string): void {
    for (const key of Object.keys(value)) {
      if (known.includes(key)) continue;
      this.warnings.push(
        `${this.place.at([...path, key])}: ${this.title}: ${field}: unknown field ${JSON.stringify(key)} ignored`,
      );
    }
  }

  private rule(value: unknown, direction: 'ingress' | 'egress', index: number): NetworkPolicyRule {
    const path: Path = ['spec', direction, index];
    const field = `${direction} rule ${index}`;
    if (value === null) return { peers: [], ports: [] };
    if (!isObject(value))
      this.fail(
        path,
        field,
        `found ${describe(value)}; a map with ${direction === 'ingress' ? 'from' : 'to'} and ports belongs here`,
      );
    const peersKey = direction === 'ingress' ? 'from' : 'to';
    this.unknown(value, [peersKey, 'ports'], path, field);
    const peers = this.list(value, peersKey, [...path, peersKey], `${field}: ${peersKey}`).map((peer, p) =>
      this.peer(peer, [...path, peersKey, p], `${field}: ${peersKey}[${p}]`),
    );
    const ports = this.list(value, 'ports', [...path, 'ports'], `${field}: ports`).map((port, p) =>
      this.policyPort(port, [...path, 'ports', p], `${field}: ports[${p}]`),
    );
    return { peers, ports };
  }

  private peer(value: unknown, path: Path, field: string): NetworkPolicyPeer {
    if (!isObject(value))
      this.fail(path, field, `found ${describe(value)}; podSelector, namespaceSelector or ipBlock belongs here`);
    this.unknown(value, ['podSelector', 'namespaceSelector', 'ipBlock'], path, field);
    const has = (key: string) => value[key] !== undefined && value[key] !== null;
    const peer: NetworkPolicyPeer = {};
    if (has('podSelector'))
      peer.podSelector = this.selector(value.podSelector, [...path, 'podSelector'], `${field}.podSelector`);
    if (has('namespaceSelector'))
      peer.namespaceSelector = this.selector(
        value.namespaceSelector,
        [...path, 'namespaceSelector'],
        `${field}.namespaceSelector`,
      );
    if (has('ipBlock')) {
      if (peer.podSelector || peer.namespaceSelector)
        this.fail(path, field, 'ipBlock stands beside a selector; put them in items of their own');
      const block = this.map(value, 'ipBlock', [...path, 'ipBlock'], `${field}.ipBlock`);
      const cidr = typeof block.cidr === 'string' ? parseCidr(block.cidr) : null;
      if (cidr === null)
        this.fail(
          [...path, 'ipBlock', 'cidr'],
          `${field}.ipBlock.cidr`,
          `${describe(block.cidr)} is no CIDR such as 10.0.0.0/8 or fd00::/8`,
        );
      const except = this.list(block, 'except', [...path, 'ipBlock', 'except'], `${field}.ipBlock.except`).map(
        (entry, e) => {
          const parsed = typeof entry === 'string' ? parseCidr(entry) : null;
          const where = `${field}.ipBlock.except[${e}]`;
          if (parsed === null) this.fail([...path, 'ipBlock', 'except', e], where, `${describe(entry)} is no CIDR`);
          const network = parseCidr(`${formatAddress(parsed.words, 0, parsed.family)}/${cidr.prefixLength}`);
          const within =
            parsed.family === cidr.family &&
            parsed.prefixLength > cidr.prefixLength &&
            network!.words.every((word, i) => word === cidr.words[i]);
          if (!within)
            this.fail(
              [...path, 'ipBlock', 'except', e],
              where,
              `${describe(entry)} does not lie strictly within ${String(block.cidr)}`,
            );
          return entry as string;
        },
      );
      peer.ipBlock = { cidr: block.cidr as string, except };
    }
    if (!peer.podSelector && !peer.namespaceSelector && !peer.ipBlock) {
      this.fail(path, field, 'is empty; give podSelector, namespaceSelector or ipBlock');
    }
    return peer;
  }

  private policyPort(value: unknown, path: Path, field: string): NetworkPolicyPort {
    if (!isObject(value))
      this.fail(path, field, `found ${describe(value)}; a map with protocol, port and endPort belongs here`);
    this.unknown(value, ['protocol', 'port', 'endPort'], path, field);
    const result: NetworkPolicyPort = {
      protocol: this.protocol(value.protocol, [...path, 'protocol'], `${field}.protocol`),
    };
    const { port, endPort } = value;
    if (port !== undefined && port !== null) {
      if (typeof port === 'string') {
        if (!PORT_NAME.test(port) || port.includes('--'))
          this.fail(
            [...path, 'port'],
            `${field}.port`,
            `${describe(port)} is no port name (at most 15 of a-z, 0-9 and '-', with a letter)`,
          );
        result.port = port;
      } else result.port = this.portNumber(port, [...path, 'port'], `${field}.port`);
    }
    if (endPort !== undefined && endPort !== null) {
      const end = this.portNumber(endPort, [...path, 'endPort'], `${field}.endPort`);
      if (typeof result.port !== 'number')
        this.fail([...path, 'endPort'], `${field}.endPort`, 'needs a numeric port beside it');
      if (end < result.port)
        this.fail([...path, 'endPort'], field, `port range ${result.port}-${end} is empty; put the smaller port first`);
      result.endPort = end;
    }
    return result;
  }

  private selector(value: unknown, path: Path, field: string): LabelSelector {
    if (value === null) return {};
    if (!isObject(value)) this.fail(path, field, `found ${describe(value)}; a label selector belongs here`);
    this.unknown(value, ['matchLabels', 'matchExpressions'], path, field);
    const selector: LabelSelector = {};
    const labels = this.map(value, 'matchLabels', [...path, 'matchLabels'], `${field}.matchLabels`);
    for (const [key, text] of Object.entries(labels)) {
      this.labelKey(key, [...path, 'matchLabels', key], `${field}.matchLabels`);
      this.labelValue(text, [...path, 'matchLabels', key], `${field}.matchLabels.${key}`);
    }
    if (Object.keys(labels).length > 0) selector.matchLabels = labels as Record<string, string>;
    const expressions = this.list(
      value,
      'matchExpressions',
      [...path, 'matchExpressions'],
      `${field}.matchExpressions`,
    );
    if (expressions.length > 0) {
      selector.matchExpressions = expressions.map((entry, e) => {
        const where: Path = [...path, 'matchExpressions', e];
        const name = `${field}.matchExpressions[${e}]`;
        if (!isObject(entry)) this.fail(where, name, `found ${describe(entry)}; key, operator and values belong here`);
        if (typeof entry.key !== 'string')
          this.fail([...where, 'key'], `${name}.key`, `found ${describe(entry.key)}; a label key belongs here`);
        this.labelKey(entry.key, [...where, 'key'], `${name}.key`);
        if (typeof entry.operator !== 'string' || !OPERATORS.includes(entry.operator)) {
          this.fail(
            [...where, 'operator'],
            `${name}.operator`,
            `found ${describe(entry.operator)}; In, NotIn, Exists or DoesNotExist belongs here`,
          );
        }
        const values = this.list(entry, 'values', [...where, 'values'], `${name}.values`);
        const needs = entry.operator === 'In' || entry.operator === 'NotIn';
        if (needs && values.length === 0)
          this.fail([...where, 'values'], `${name}.values`, `is empty; ${entry.operator} needs values`);
        if (!needs && values.length > 0)
          this.fail([...where, 'values'], `${name}.values`, `${entry.operator} takes no values`);
        for (const [v, text] of values.entries())
          this.labelValue(text, [...where, 'values', v], `${name}.values[${v}]`);
        return { key: entry.key, operator: entry.operator as 'In', ...(needs ? { values: values as string[] } : {}) };
      });
    }
    return selector;
  }
  private labelKey(key: string, path: Path, field: string): void {
    const parts = key.split('/');
    const name = parts.at(-1)!;
    const ok =
      parts.length <= 2 &&
      LABEL_NAME.test(name) &&
      (parts.length === 1 || (DNS_SUBDOMAIN.test(parts[0]!) && parts[0]!.length <= 253));
    if (!ok) this.fail(path, field, `${describe(key)} is no label key`);
  }
  private labelValue(value: unknown, path: Path, field: string): void {
    if (typeof value !== 'string' || !LABEL_VALUE.test(value))
      this.fail(
        path,
        field,
        `${describe(value)} is no label value (quote numbers and booleans; at most 63 characters)`,
      );
  }
}

/** Objects of a text. `origin`: its name in messages. */
export function readManifest(text: string, origin: string): ReadResult {
  const reader = new Reader();
  reader.text(text, origin);
  return reader.finish();
}

/** Objects of files and folders (*.yaml, *.yml, *.json below them, in byte order of their paths). */
export function readObjectFiles(paths: readonly string[]): ReadResult {
  const reader = new Reader();
  for (const path of paths) {
    for (const file of filesOf(path)) {
      let text: string;
      try {
        text = readFileSync(file, 'utf8');
      } catch (error) {
        throw new SeineError('SEINE_ERR_OBJECT_INVALID', `${file}: can't be read: ${(error as Error).message}`);
      }
      reader.text(text, file);
    }
  }
  return reader.finish();
}

function filesOf(path: string): string[] {
  let isFolder: boolean;
  try {
    isFolder = statSync(path).isDirectory();
  } catch (error) {
    throw new SeineError('SEINE_ERR_OBJECT_INVALID', `${path}: can't be read: ${(error as Error).message}`);
  }
  if (!isFolder) return [path];
  return readdirSync(path, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const child = join(path, entry.name);
      if (entry.isDirectory()) return filesOf(child);
      return /\.(ya?ml|json)$/i.test(entry.name) ? [child] : [];
    });
}
