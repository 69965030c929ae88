import { boxContract } from '../../runner/backends/contract.ts';

// A real engine with a real image; bubblewrap's run of the same facts is beside its file. One that cannot run here has failed.
boxContract('docker');
boxContract('gvisor');
