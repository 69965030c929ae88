/** Sets of requests, exactly: what a rule names, what two have in common, and a real request that is in one and in no other. */
export { unionOfCidrs, withoutAddresses } from './address-set.ts';
export {
  allowBoxes,
  type Box,
  cidr,
  commonBox,
  type DenyConditions,
  denyBoxes,
  denyTunnelBoxes,
  everythingAt,
  pathPatterns,
} from './box.ts';
export { type Ceiling, ceilingsOf } from './ceiling.ts';
export { type Avoided, find, type Witness } from './find.ts';
export { type Filed, Layer } from './layer.ts';
export { commonPattern } from './path-trie.ts';
export { goesBefore, type Precedence } from './precedence.ts';
export { boxKey, type Grant, type Grants, type Refusal, type Region, regionOf } from './region.ts';
