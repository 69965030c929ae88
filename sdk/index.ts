export type { Execution, ProgramEnd, ProgramOptions, ProgramResult } from './client.ts';
export { type ConnectOptions, connect, defaultAddress, type Outrider } from './client.ts';
