import type * as NodeHttp from 'node:http';
import { createRequire } from 'node:module';

/**
 * `node:http` as CommonJS gets it. `import` asks for the value of everything that it exports, of its `WebSocket` too, for which Node
 * loads a client of its own that nothing here uses: 15 MiB in each process.
 */
const http: typeof NodeHttp = createRequire(import.meta.url)('node:http');

export const { createServer, request, ServerResponse, STATUS_CODES } = http;
export type ServerResponse = NodeHttp.ServerResponse;
