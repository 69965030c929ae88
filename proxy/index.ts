export { type ProxyConfig, proxySpec } from './config.ts';
export type { LeaseStore } from './limits/lease-store.ts';
export type { Limit, Taken } from './limits/limit.ts';
export { createRedisStore } from './limits/redis-store.ts';
export { SharedLimits } from './limits/shared.ts';
export * as sigv4 from './s3/sigv4.ts';
export { createProxy, type Proxy, type ProxyAddresses, type ProxyDeps } from './server.ts';
