export { type RunnerConfig, runnerSpec } from './config.ts';
export { S3_ENV } from './s3-environment.ts';
export { type RunningRunner, startRunner } from './server.ts';
