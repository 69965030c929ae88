export { upSpec } from './up.ts';
