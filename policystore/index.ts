export { digestOf } from './digest.ts';
export { type Evaluation, evaluate } from './evaluate.ts';
export { directoryFiles, type PolicyFile, type PolicyFiles } from './files.ts';
export { type LoadedPolicy, loadDirectory, loadFiles } from './load.ts';
export { PolicyStore, type PolicyStoreOptions } from './store.ts';
