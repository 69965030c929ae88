/** For tests alone: what something costs, whatever else the machine does meanwhile. */

/** Milliseconds of processor time that `run` takes of this process; a machine that is busy elsewhere makes them hardly more. */
export async function cpuMsOf(run: () => unknown): Promise<number> {
  const before = process.cpuUsage();
  await run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}
