export { type Finding, type Findings, fuzzAnswers } from './fuzz.ts';
export type { Case } from './grammar.ts';
export { nodeReader } from './node-reader.ts';
export { type Told, tellOurs } from './our-reader.ts';
export type { Reading } from './reading.ts';
