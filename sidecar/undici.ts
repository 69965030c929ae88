import { createRequire } from 'node:module';
import type * as Undici from 'undici';

/**
 * The parts of undici that a sidecar uses. Its front door also brings fetch, WebSocket, caches and mocks: 9 MiB in a process of which a
 * machine has one for each sandbox. The version is pinned, and the types are those of the front door.
 */
const load = createRequire(import.meta.url);

export const Pool: typeof Undici.Pool = load('undici/lib/dispatcher/pool.js');
export type Pool = Undici.Pool;
export const errors: typeof Undici.errors = load('undici/lib/core/errors.js');
/** As a method of a pool, which it is only where the front door was loaded. */
export const request: Undici.Dispatcher['request'] = load('undici/lib/api/api-request.js');
