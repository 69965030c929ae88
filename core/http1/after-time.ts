/**
 * Calls `late` after `ms`, unless what is returned is called before. What other processes have sent by then is read first: timers come
 * before reading, so that a process that was held up would otherwise blame its peer for its own delay. Keeps no process alive.
 */
export function afterTime(ms: number, late: () => void): () => void {
  let reading: NodeJS.Immediate | undefined;
  const timer = setTimeout(() => {
    reading = setImmediate(late);
  }, ms).unref();
  return () => {
    clearTimeout(timer);
    clearImmediate(reading);
  };
}
