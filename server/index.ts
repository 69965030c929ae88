/** The MCP server that we ship: tools that run programs in sandboxes. */
export { type ServerConfig, serverSpec } from './config.ts';
export { createMcpServer, type RunningServer, type ServerDeps } from './server.ts';
