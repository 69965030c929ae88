import { notInThisVersion } from './unimplemented.ts';

export const clickhouse = notInThisVersion('clickhouse');
