/**
 * NetFlow v5's engine id and type. Where they are not configured, they come from the bridge's name: low octet (id) and
 * next octet (type) of its CRC-32C, as iSCSI computes it, so that they are the same on every processor.
 */
import { crc32c } from '../wire/crc32c.js';

export interface EngineIdentity {
  engineId: number;
  engineType: number;
}

/** `br0` → engine id 98, engine type 39. */
export function defaultIdentity(bridge: string): EngineIdentity {
  const name = new TextEncoder().encode(bridge);
  const crc = crc32c(name, 0, name.length);
  return { engineId: crc & 0xff, engineType: (crc >>> 8) & 0xff };
}

/** What datagrams carry: configured values, each by itself, else the default of `ovsdb.bridge`, else of `ovsBridge`. */
export function engineIdentity(config: {
  ovsBridge: string;
  ovsdb: { bridge: string } | null;
  netflow: { engineId: number | null; engineType: number | null };
}): EngineIdentity {
  const fallback = defaultIdentity(config.ovsdb?.bridge ?? config.ovsBridge);
  return {
    engineId: config.netflow.engineId ?? fallback.engineId,
    engineType: config.netflow.engineType ?? fallback.engineType,
  };
}
