let due: (() => void)[] = [];
let isEnding = false;

/**
 * Runs `work` when this turn of the event loop has read what there was to read, with all else that waits for that; called there, at the end
 * of the next turn. What is written together wakes whoever reads it once: to wake a process for each piece costs more than to make it.
 * What `work` throws is thrown as nobody's, after all others have run.
 */
export function atTurnEnd(work: () => void): void {
  if (due.push(work) === 1) setImmediate(end);
}

/** Runs `work` at the end of this turn, which may be now. */
export function byTurnEnd(work: () => void): void {
  if (isEnding) work();
  else atTurnEnd(work);
}

function end(): void {
  const all = due;
  due = [];
  isEnding = true;
  for (const work of all)
    try {
      work();
    } catch (thrown) {
      queueMicrotask(() => {
        throw thrown;
      });
    }
  isEnding = false;
}
