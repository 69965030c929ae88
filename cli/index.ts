export { type LibraryEntry, readLibrary } from './policy/library.ts';
export { policy } from './policy.ts';
export { upSpec } from './up.ts';
