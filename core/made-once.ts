/**
 * The same function, which makes one thing of each list that nobody can change any more and remembers it for as long as the list lives: the
 * fields of a head that came again are the same list. What it makes must not change either.
 */
export function madeOnce<T extends object>(
  make: (list: readonly string[]) => T,
): (list: readonly string[]) => T {
  const made = new WeakMap<readonly string[], T>();
  return (list) => {
    const known = made.get(list);
    if (known) return known;
    const thing = make(list);
    if (Object.isFrozen(list)) made.set(list, thing);
    return thing;
  };
}
