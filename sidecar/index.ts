/** The sandbox's only door. */
export { adminAddress, type SidecarConfig, sidecarSpec } from './config.ts';
export { createSidecar, type Sidecar } from './server.ts';
