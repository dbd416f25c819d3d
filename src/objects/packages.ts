/**
 * Packages that are loaded when something is first read with them: half the start-up time of a command without a
 * configuration file or manifests. Loaded by require, since reading is synchronous.
 */
import { createRequire } from 'node:module';
import type * as Yaml from 'yaml';
import type * as Zod from 'zod';

const require = createRequire(import.meta.url);

export const yaml = (): typeof Yaml => require('yaml') as typeof Yaml;
export const zod = (): typeof Zod => require('zod') as typeof Zod;
