export type { FuzzDoor } from './door.ts';
export { type Finding, type Findings, fuzzHttp } from './fuzz.ts';
export { nodeReader } from './node-reader.ts';
