import { notInThisVersion } from './unimplemented.ts';

export const loki = notInThisVersion('loki');
