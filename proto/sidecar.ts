/** The contract of the sidecar alone: its process, of which a machine has one for each sandbox, does without the code of the others. */

export * from './gen/outrider/sidecar/v1/sidecar.ts';
