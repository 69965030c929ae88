export { AUDIT_FILE, HEAD_FILE } from './audit.ts';
export { SIDECAR_FILE } from './audit-sink.ts';
export { type ProxyConfig, proxySpec } from './config.ts';
export { createProxy, type Proxy, type ProxyAddresses, type ProxyDeps } from './server.ts';
