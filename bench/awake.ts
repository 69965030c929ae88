import { closeSync, constants, openSync, writeSync } from 'node:fs';

/** Longest time in microseconds that a core may take to wake (Linux, Documentation/power/pm_qos_interface.rst), for as long as it is open. */
const LATENCY = '/dev/cpu_dma_latency';

/**
 * Keeps the cores of this machine from sleeping until this process ends; false where it cannot. To wake a core of a virtual machine takes up to
 * some ten microseconds, and much more on a busy host: at one request at a time that is most of what there would be to measure, and of it
 * what the host does just then. Who measures latency on Linux does this (cyclictest, tuned's `latency-performance`).
 */
export function keepCoresAwake(): boolean {
  let open: number | undefined;
  try {
    open = openSync(LATENCY, constants.O_WRONLY);
    writeSync(open, new Int32Array([0]));
    return true;
  } catch {
    if (open !== undefined) closeSync(open);
    return false;
  }
}
