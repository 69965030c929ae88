/** The front door of the mesh for MCP clients. */
export { type GatewayConfig, gatewaySpec } from './config.ts';
export { createGateway, type Gateway, type GatewayDeps } from './server.ts';
export { ALWAYS_OFFERED } from './tools/tool-rights.ts';
