/**
 * These items, and `still()` whenever `everyMs` pass without one. Asks for the next item only when the last was taken; what
 * leaves early makes the source end.
 */
export async function* keptAlive<T>(
  items: AsyncIterable<T>,
  everyMs: number,
  still: () => T,
): AsyncGenerator<T, void, undefined> {
  const source = items[Symbol.asyncIterator]();
  let over = false;
  try {
    for (;;) {
      const next = source.next();
      let result = await within(next, everyMs);
      for (; result === undefined; result = await within(next, everyMs)) yield still();
      if (result.done === true) {
        over = true;
        return;
      }
      yield result.value;
    }
  } catch (error) {
    over = true;
    throw error;
  } finally {
    if (!over) await source.return?.();
  }
}

/** The value, or undefined where it takes longer. */
async function within<T>(value: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), ms);
  });
  try {
    return await Promise.race([value, late]);
  } finally {
    clearTimeout(timer);
  }
}
