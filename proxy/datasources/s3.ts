import { notInThisVersion } from './unimplemented.ts';

export const s3 = notInThisVersion('s3');
