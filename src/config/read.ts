/**
 * The configuration (contract §2): one YAML file with antrea-agent.conf's keys and seine's own; a whole antrea-config ConfigMap
 * is taken too. Unknown keys of Antrea's agent are warnings; any other unknown key is an error with the nearest known name.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { TIMEOUT_NAMES, TIMEOUT_NAMES_WITHOUT_EFFECT, type TimeoutName } from '../conntrack/timeouts.js';
import { SeineError } from '../errors.js';
import { parseAddress, parseCidr } from '../flow/ip-address.js';
import { SHARDS_MAX } from '../batch/packet-batch.js';
import { yaml, zod } from '../objects/packages.js';
import { ANTREA_AGENT_KEYS } from './antrea-keys.js';
import type { Config } from './config.js';
import { defaultConfig } from './default-config.js';

/** host:port or [v6]:port. */
export function parseTarget(text: string): { host: string; port: number } | null {
  const match = /^(?:\[([0-9a-fA-F:.%\w]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text);
  if (match === null) return null;
  const port = Number(match[3]);
  const host = match[1] ?? match[2]!;
  if (port < 1 || port > 65535 || (match[1] !== undefined && parseAddress(match[1].split('%')[0]!) === null))
    return null;
  return { host, port };
}
const snakeToCamel = (key: string): string => key.replace(/_([a-z0-9])/g, (_, c: string) => c.toUpperCase());
function makeSchema() {
  const { z } = zod();
  const cidr = z
    .string()
    .refine((text) => parseCidr(text) !== null, { error: 'a CIDR such as 10.96.0.0/12 belongs here' });
  const octet = z.int().min(0).max(255);
  const seconds = z.number().positive().max(1e9);

  const target = z.string().refine((text) => parseTarget(text) !== null, {
    error: ({ input }) => `${JSON.stringify(input)} is no collector; host:port or [v6]:port belongs here`,
  });

  const timeouts = z.preprocess(
    (value) =>
      typeof value === 'object' && value !== null && !Array.isArray(value)
        ? Object.fromEntries(Object.entries(value).map(([key, entry]) => [snakeToCamel(key), entry]))
        : value,
    z.partialRecord(
      z.enum([...TIMEOUT_NAMES, ...TIMEOUT_NAMES_WITHOUT_EFFECT] as string[] as [string, ...string[]]),
      seconds,
    ),
  );

  return z.strictObject({
    node: z.string().min(1).nullable().default(null),
    ovsBridge: z.string().min(1).default('br-int'),
    hostGateway: z.string().min(1).default('gw0'),
    tunnelType: z.enum(['vxlan', 'geneve', 'gre', 'stt']).default('vxlan'),
    tunnelPort: z.int().min(0).max(65535).default(0),
    tunnelCsum: z.boolean().default(false),
    trafficEncapMode: z.enum(['encap', 'noEncap', 'hybrid', 'networkPolicyOnly']).default('encap'),
    defaultMTU: z.int().min(0).max(65535).default(0),
    serviceCIDR: cidr.nullable().default('10.96.0.0/12'),
    serviceCIDRv6: cidr.nullable().default(null),
    listen: z
      .strictObject({
        unix: z.string().min(1).nullable().default('seine.sock'),
        grpc: z
          .union([z.string().min(1), z.array(z.string().min(1))])
          .nullable()
          .default(['unix:seine-grpc.sock', '127.0.0.1:50051']),
        memif: z.string().min(1).nullable().default(null),
        http: z.string().min(1).nullable().default('127.0.0.1:9464'),
      })
      .prefault({}),
    workers: z
      .union([z.literal('auto'), z.int().min(1).max(SHARDS_MAX)], {
        error: `auto or a whole number from 1 to ${SHARDS_MAX} belongs here`,
      })
      .default('auto'),
    conntrack: z
      .strictObject({
        max: z.int().min(1).max(16_777_216).default(1_048_576),
        maxPerEndpoint: z.int().min(1).nullable().default(null),
        tcpLoose: z.boolean().default(true),
        tcpLiberal: z.boolean().default(false),
        verifyChecksums: z.boolean().default(false),
        timeouts: timeouts.prefault({}),
      })
      .prefault({}),
    policy: z
      .strictObject({
        existingConnections: z.enum(['recheck', 'keep', 'reset']).default('recheck'),
        l7: z.enum(['refuse', 'ignore']).default('refuse'),
      })
      .prefault({}),
    netflow: z
      .strictObject({
        targets: z.array(target).default([]),
        engineId: octet.nullable().default(null),
        engineType: octet.nullable().default(null),
        addToInterface: z.boolean().default(false),
        activeTimeout: z
          .number()
          .max(1e9)
          .refine((value) => value === -1 || value >= 0, { error: 'seconds, 0 for 600, or -1 for never belong here' })
          .default(600),
        idleTimeout: seconds.default(10),
        versions: z
          .array(z.union([z.literal(5), z.literal(9)], { error: '5 belongs here' }))
          .min(1)
          .default([5]),
        icmpPort: z.enum(['destination', 'source']).default('destination'),
        octets: z.enum(['layer3', 'frame']).default('layer3'),
        source: z
          .string()
          .refine((text) => parseAddress(text) !== null, { error: 'an IP address of this machine belongs here' })
          .nullable()
          .default(null),
      })
      .prefault({}),
    ipfix: z.looseObject({ targets: z.array(target).default([]) }).prefault({}),
    sflow: z.looseObject({ targets: z.array(target).default([]) }).prefault({}),
    mirrors: z.array(z.unknown()).default([]),
    stateFile: z.string().min(1).nullable().default(null),
    trafficEncryptionMode: z.enum(['none', 'ipsec', 'wireGuard']).default('none'),
    policyLog: z.string().min(1).nullable().default(null),
    ovsdb: z.strictObject({ server: z.string(), bridge: z.string() }).nullable().default(null),
    agent: z.unknown().optional(),
  });
}
let madeSchema: ReturnType<typeof makeSchema> | null = null;
const schemaOf = () => {
  madeSchema ??= makeSchema();
  return madeSchema;
};

/** `add_id_to_interface` is OVSDB's name, an article writes `add_to_interface`. */
const NETFLOW_ALIASES: Readonly<Record<string, string>> = {
  add_id_to_interface: 'addToInterface',
  add_to_interface: 'addToInterface',
  engine_id: 'engineId',
  engine_type: 'engineType',
  active_timeout: 'activeTimeout',
  idle_timeout: 'idleTimeout',
};

const resolveWorkers = (workers: 'auto' | number, auto = availableParallelism()): number =>
  workers === 'auto' ? Math.min(SHARDS_MAX, auto) : workers;

export interface ReadConfig {
  config: Config;
  warnings: string[];
}

/** `autoWorkers`: what `workers: auto` stands for; as many as there are processors unless given. */
export function readConfig(path: string | null, autoWorkers?: number): ReadConfig {
  if (path === null) return { config: defaultConfig(resolveWorkers('auto', autoWorkers)), warnings: [] };
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new SeineError('SEINE_ERR_CONFIG_INVALID', `${path}: can't be read: ${(error as Error).message}`);
  }
  return parseConfig(text, path, autoWorkers);
}

/** `source`: YAML text, or a value as YAML would give it. `origin` names it in messages. */
export function parseConfig(
  source: string | Record<string, unknown>,
  origin: string,
  autoWorkers?: number,
): ReadConfig {
  const warnings: string[] = [];
  const schema = schemaOf();
  const known = Object.keys(schema.shape);
  let lineOf = (_path: readonly PropertyKey[]): string => origin;
  let value: unknown = source;
  if (typeof source === 'string') {
    const { LineCounter, parseDocument, isMap, isNode, isSeq } = yaml();
    const lines = new LineCounter();
    const document = parseDocument(source, { lineCounter: lines, merge: true });
    const fault = document.errors[0];
    if (fault !== undefined) {
      throw new SeineError(
        'SEINE_ERR_CONFIG_INVALID',
        `${origin}:${lines.linePos(fault.pos[0]).line}: not YAML: ${fault.message.split('\n')[0]}`,
      );
    }
    try {
      value = document.toJS() ?? {};
    } catch (error) {
      // An alias without its anchor, or aliases that multiply: yaml finds them only here.
      throw new SeineError('SEINE_ERR_CONFIG_INVALID', `${origin}: not YAML: ${(error as Error).message}`);
    }
    lineOf = (path) => {
      let node: unknown = document.contents;
      let offset = document.contents?.range?.[0] ?? 0;
      for (const step of path) {
        if (isMap(node)) {
          const pair = node.items.find(
            (item) =>
              isNode(item.key) && [String(step), step].includes(String((item.key as { value?: unknown }).value)),
          );
          if (pair === undefined) break;
          offset = (pair.key as { range?: [number, number, number] }).range?.[0] ?? offset;
          node = pair.value;
        } else if (isSeq(node)) {
          const item = node.items[Number(step)] as { range?: [number, number, number] } | undefined;
          offset = item?.range?.[0] ?? offset;
          node = item;
        } else break;
      }
      return `${origin}:${lines.linePos(offset).line}`;
    };
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SeineError(
      'SEINE_ERR_CONFIG_INVALID',
      `${lineOf([])}: found ${Array.isArray(value) ? 'a list' : JSON.stringify(value)}; a map of settings belongs here`,
    );
  }
  const raw = { ...(value as Record<string, unknown>) };
  if (raw.kind === 'ConfigMap' && typeof raw.data === 'object' && raw.data !== null) {
    const inner = (raw.data as Record<string, unknown>)['antrea-agent.conf'];
    if (typeof inner !== 'string') {
      throw new SeineError(
        'SEINE_ERR_CONFIG_INVALID',
        `${lineOf(['data'])}: a ConfigMap without data."antrea-agent.conf"`,
      );
    }
    return parseConfig(inner, `${origin}: data.antrea-agent.conf`, autoWorkers);
  }

  if (raw.enableIPSecTunnel === true) raw.trafficEncryptionMode ??= 'ipsec';
  if (typeof raw.trafficEncryptionMode === 'string' && /^(none|ipsec|wireguard)$/i.test(raw.trafficEncryptionMode)) {
    raw.trafficEncryptionMode = { none: 'none', ipsec: 'ipsec', wireguard: 'wireGuard' }[
      raw.trafficEncryptionMode.toLowerCase()
    ];
  }
  for (const key of Object.keys(raw)) {
    if (known.includes(key)) continue;
    if (ANTREA_AGENT_KEYS.has(key)) {
      if (key !== 'enableIPSecTunnel' && key !== 'ovsDatapathType')
        warnings.push(`${lineOf([key])}: ${key}: a setting of Antrea's agent that seine does not use`);
      delete raw[key];
      continue;
    }
    throw new SeineError(
      'SEINE_ERR_CONFIG_INVALID',
      `${lineOf([key])}: unknown setting ${JSON.stringify(key)}${nearest(key, known)}`,
    );
  }
  // Antrea writes empty strings and nulls for "not set".
  for (const key of Object.keys(raw)) if (raw[key] === null || raw[key] === '') delete raw[key];
  if (typeof raw.netflow === 'object' && raw.netflow !== null && !Array.isArray(raw.netflow)) {
    raw.netflow = Object.fromEntries(
      Object.entries(raw.netflow).map(([key, entry]) => [NETFLOW_ALIASES[key] ?? key, entry]),
    );
  }

  const parsed = schema.safeParse(raw);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const path = issue.path.map(String).join('.');
    if (issue.code === 'unrecognized_keys') {
      const key = issue.keys[0]!;
      throw new SeineError(
        'SEINE_ERR_CONFIG_INVALID',
        `${lineOf([...issue.path, key])}: unknown setting ${JSON.stringify([...issue.path, key].map(String).join('.'))}${nearest(key, knownUnder(issue.path))}`,
      );
    }
    let found: unknown = raw;
    for (const step of issue.path) found = (found as Record<PropertyKey, unknown> | undefined)?.[step];
    throw new SeineError(
      'SEINE_ERR_CONFIG_INVALID',
      `${lineOf(issue.path)}: ${path}: found ${JSON.stringify(found) ?? 'nothing'}; ${issue.message}`,
    );
  }
  const given = parsed.data;
  const refuse = (path: string[], text: string): never => {
    throw new SeineError('SEINE_ERR_CONFIG_INVALID', `${lineOf(path)}: ${path.join('.')}: ${text}`);
  };
  if (given.trafficEncryptionMode === 'wireGuard')
    refuse(['trafficEncryptionMode'], 'wireGuard is not supported; none is');
  if (given.trafficEncryptionMode === 'ipsec')
    refuse(['trafficEncryptionMode'], 'ipsec is not supported by this version; none is');
  if (given.tunnelType !== 'vxlan')
    refuse(['tunnelType'], `${given.tunnelType} is not supported by this version; vxlan is`);
  if (given.trafficEncapMode === 'hybrid' || given.trafficEncapMode === 'networkPolicyOnly') {
    refuse(['trafficEncapMode'], `${given.trafficEncapMode} is not supported by this version; encap and noEncap are`);
  }
  if (given.netflow.versions.includes(9)) refuse(['netflow', 'versions'], '9 is not supported by this version; [5] is');
  const unused = (path: string[], used: boolean) => {
    if (used) warnings.push(`${lineOf(path)}: ${path.join('.')}: has no effect in this version`);
  };
  unused(['ipfix', 'targets'], given.ipfix.targets.length > 0);
  unused(['sflow', 'targets'], given.sflow.targets.length > 0);
  unused(['mirrors'], given.mirrors.length > 0);
  unused(['policyLog'], given.policyLog !== null);
  unused(['ovsdb'], given.ovsdb !== null);
  unused(['agent'], given.agent !== undefined);
  unused(['defaultMTU'], given.defaultMTU !== 0);
  const effective: Partial<Record<TimeoutName, number>> = {};
  for (const [key, entry] of Object.entries(given.conntrack.timeouts)) {
    if ((TIMEOUT_NAMES_WITHOUT_EFFECT as readonly string[]).includes(key)) {
      warnings.push(
        `${lineOf(['conntrack', 'timeouts', key])}: conntrack.timeouts.${key}: a state of Linux's tracker only; it has no effect`,
      );
    } else effective[key as TimeoutName] = entry as number;
  }
  const grpc = given.listen.grpc;
  return {
    config: {
      ...given,
      listen: { ...given.listen, grpc: grpc === null ? [] : typeof grpc === 'string' ? [grpc] : grpc },
      workers: resolveWorkers(given.workers, autoWorkers),
      conntrack: { ...given.conntrack, timeouts: effective },
      trafficEncryptionMode: 'none',
    } as Config,
    warnings,
  };
}

function knownUnder(path: readonly PropertyKey[]): string[] {
  const section = (schemaOf().shape as Record<string, unknown>)[String(path[0])];
  let inner = section as
    | { shape?: Record<string, unknown>; def?: { innerType?: unknown }; _def?: { innerType?: unknown } }
    | undefined;
  while (inner !== undefined && inner.shape === undefined)
    inner = (inner.def?.innerType ?? inner._def?.innerType) as typeof inner;
  return Object.keys(inner?.shape ?? {});
}

/** "; did you mean X?" for the known name at the least edit distance, nothing where none is near. */
export function nearest(name: string, known: readonly string[]): string {
  let best = '';
  let least = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best === '' ? '' : `; did you mean ${best}?`;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(next[j - 1]! + 1, row[j]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}
