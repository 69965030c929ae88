export { type RunnerConfig, runnerSpec } from './config.ts';
export { type RunningRunner, startRunner } from './server.ts';
